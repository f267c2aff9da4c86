package qumulo

import (
	"context"
	"sync"
	"time"

	"fs_notify/notify"
)

// The bounds of what is held for clients that take a snapshot: so many entries of all, which weigh 200 to 300 bytes each, and one snapshot
// more, which may be of any size. Beyond, one waits its turn, for as long as snapshotWait. Who takes longer than snapshotTime must not keep others
// from theirs.
const (
	maxHeld      = 2 << 20
	snapshotWait = 10 * time.Second
	snapshotTime = 10 * time.Minute
)

var errFull error = &notify.Error{Op: "qumulo.Snapshot", Kind: notify.Unavailable, Retry: snapshotWait,
	Msg: "other clients are taking snapshots of large trees: try again later, or go on from a cursor"}

var errSlow error = &notify.Error{Op: "qumulo.Snapshot", Kind: notify.Unavailable, Retry: snapshotWait,
	Msg: "the snapshot was not taken within " + snapshotTime.String() + ", and other clients wait for theirs"}

// snapshots are the copies of trees that are held for clients, until each has taken its own. Its methods may be called from any goroutine.
type snapshots struct {
	turn chan struct{} // one element: who has put it in may copy
	mu   sync.Mutex
	held int           // entries
	less chan struct{} // closed and replaced when there are fewer
	want time.Time     // when somebody last found no room
}

// holding is the room of one snapshot; nil is none. One goroutine uses it.
type holding struct {
	of    *snapshots
	n     int // entries; 0: it was released
	since time.Time
}

func newSnapshots() *snapshots {
	return &snapshots{turn: make(chan struct{}, 1), less: make(chan struct{})}
}

// take takes a snapshot when there is room for it, to be released when it is not needed any more.
func (s *snapshots) take(ctx context.Context, take func() (*notify.Snapshot, error)) (*notify.Snapshot, *holding, error) {
	late := time.NewTimer(snapshotWait)
	defer late.Stop()
	select {
	case s.turn <- struct{}{}:
	case <-late.C:
		return nil, nil, errFull
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	defer func() { <-s.turn }()
	for {
		s.mu.Lock()
		held, less := s.held, s.less
		if held >= maxHeld {
			s.want = time.Now()
		}
		s.mu.Unlock()
		if held < maxHeld {
			break
		}
		select {
		case <-less:
		case <-late.C:
			return nil, nil, errFull
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
	snap, err := take()
	if err != nil {
		return nil, nil, err
	}
	n := len(snap.Entries)
	s.mu.Lock()
	s.held += n
	s.mu.Unlock()
	return snap, &holding{s, n, time.Now()}, nil
}

// release may be called more than once.
func (h *holding) release() {
	if h == nil || h.n == 0 {
		return
	}
	s := h.of
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held -= h.n
	h.n = 0
	close(s.less)
	s.less = make(chan struct{})
}

// overdue says whether the snapshot has to be given up: an error.
func (h *holding) overdue() error {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	if h.of.want.Sub(h.since) > snapshotTime {
		return errSlow
	}
	return nil
}
