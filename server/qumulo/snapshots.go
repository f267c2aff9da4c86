package qumulo

import (
	"context"
	"sync"
	"time"

	"fs_notify/notify"
)

// The bounds of what is held for clients that take a snapshot: so many entries of all, which weigh 200 to 300 bytes each, and one snapshot
// more, which may be of any size. Beyond, one waits its turn, for as long as snapshotWait.
const (
	maxHeld      = 2 << 20
	snapshotWait = 10 * time.Second
)

var errFull error = &notify.Error{Op: "qumulo.Snapshot", Kind: notify.Unavailable, Retry: snapshotWait,
	Msg: "other clients are taking snapshots of large trees: try again later, or go on from a cursor"}

// snapshots are the copies of trees that are held for clients, until each has taken its own. Its methods may be called from any goroutine.
type snapshots struct {
	turn chan struct{} // one element: who has put it in may copy
	mu   sync.Mutex
	held int           // entries
	less chan struct{} // closed and replaced when there are fewer
}

func newSnapshots() *snapshots {
	return &snapshots{turn: make(chan struct{}, 1), less: make(chan struct{})}
}

// take takes a snapshot when there is room for it. release has to be called, once or more often, when it is not needed any more; it is never nil.
func (s *snapshots) take(ctx context.Context, take func() (*notify.Snapshot, error)) (snap *notify.Snapshot, release func(), err error) {
	release = func() {}
	late := time.NewTimer(snapshotWait)
	defer late.Stop()
	select {
	case s.turn <- struct{}{}:
	case <-late.C:
		return nil, release, errFull
	case <-ctx.Done():
		return nil, release, context.Cause(ctx)
	}
	defer func() { <-s.turn }()
	for {
		s.mu.Lock()
		held, less := s.held, s.less
		s.mu.Unlock()
		if held < maxHeld {
			break
		}
		select {
		case <-less:
		case <-late.C:
			return nil, release, errFull
		case <-ctx.Done():
			return nil, release, context.Cause(ctx)
		}
	}
	if snap, err = take(); err != nil {
		return nil, release, err
	}
	n := len(snap.Entries)
	s.mu.Lock()
	s.held += n
	s.mu.Unlock()
	return snap, sync.OnceFunc(func() { s.give(n) }), nil
}

func (s *snapshots) give(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held -= n
	close(s.less)
	s.less = make(chan struct{})
}
