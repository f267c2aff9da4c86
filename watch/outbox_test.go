package watch

import (
	"context"
	"sync"
	"testing"
	"time"

	"fs_notify/notify"
)

// clockSink numbers batches as the journal does and notes how far the numbers ran ahead of the clock.
type clockSink struct {
	mu    sync.Mutex
	last  notify.BatchNumber
	ahead notify.BatchNumber
	count int
}

func (s *clockSink) Append(context.Context, notify.FileID, []notify.Notification) (notify.BatchNumber, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = max(notify.NumberAt(time.Now()), s.last+1)
	if now := notify.NumberAt(time.Now()); s.last > now {
		s.ahead = max(s.ahead, s.last-now)
	}
	s.count++
	return s.last, nil
}

// A batch's number is its millisecond: however fast batches come, the numbers do not run ahead of the clock.
func TestNumbersKeepToTheClock(t *testing.T) {
	o, s := newOutbox(0), &clockSink{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.run(ctx, s) }()
	for range 300 {
		o.add(1, []notify.Notification{{Type: notify.SelfRescanned, Spine: notify.Spine{1}}}, []int{1})
		o.seal()
	}
	if _, err := o.seal().await(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if s.count != 300 || s.ahead != 0 {
		t.Errorf("%d batches, the numbers up to %d ms ahead of the clock: want 300, 0", s.count, s.ahead)
	}
}
