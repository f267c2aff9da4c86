package qumulo

import (
	"context"
	"errors"
	"testing"

	"fs_notify/notify"
)

// Beyond the bound the next one waits until somebody has taken what is theirs; who goes away does not.
func TestSnapshotsWaitForRoom(t *testing.T) {
	s := newSnapshots()
	of := func(n int) func() (*notify.Snapshot, error) {
		return func() (*notify.Snapshot, error) { return &notify.Snapshot{Entries: make([]notify.Entry, n)}, nil }
	}
	_, first, err := s.take(t.Context(), of(maxHeld+1)) // one alone may be of any size
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := make(chan error)
	go func() {
		_, _, err := s.take(ctx, of(1))
		gone <- err
	}()
	cancel(notify.Closed)
	if err := <-gone; !errors.Is(err, notify.Closed) {
		t.Errorf("a client that went away: %v", err)
	}
	begun, done := make(chan struct{}), make(chan error)
	go func() {
		_, release, err := s.take(t.Context(), func() (*notify.Snapshot, error) {
			close(begun)
			return nil, notify.NotFound
		})
		release()
		done <- err
	}()
	select {
	case <-begun:
		t.Error("a snapshot is taken although there is no room")
	default:
	}
	first()
	first() // has no effect
	if err := <-done; !errors.Is(err, notify.NotFound) {
		t.Error(err)
	}
	if s.held != 0 || len(s.turn) != 0 {
		t.Errorf("%d entries and %d turns are left", s.held, len(s.turn))
	}
}
