package watch

import (
	"context"
	"sync"
)

// pollSource never says anything: every directory is swept on a timer.
type pollSource struct {
	once   sync.Once
	closed chan struct{}
}

// NewPoll returns the source for file systems that cannot notify: Watch returns ErrPolled for every directory, the
// private one included, and Next waits for Close.
func NewPoll() Source { return &pollSource{closed: make(chan struct{})} }

func (s *pollSource) Name() string { return pollName }

func (s *pollSource) Caps() Caps { return Caps{} }

func (s *pollSource) Watch(DirRef, Place) error {
	select {
	case <-s.closed:
		return ErrClosed
	default:
		return ErrPolled
	}
}

func (s *pollSource) Unwatch(DirRef) {}

func (s *pollSource) Next(ctx context.Context, _ []Record) (int, bool, error) {
	select {
	case <-s.closed:
		return 0, false, ErrClosed
	case <-ctx.Done():
		return 0, false, ctx.Err()
	}
}

func (s *pollSource) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}
