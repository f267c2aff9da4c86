package feed

import (
	"context"
	"errors"
	"time"

	"fs_notify/notify"
)

// What Step and Next say instead of a part.
var (
	// ErrIdle: nothing that the view sees has come.
	ErrIdle = errors.New("feed: nothing new")
	// ErrBehind, from Step only: memory does not reach back to the cursor, Next has to read pages.
	ErrBehind = errors.New("feed: behind what is in memory")
	// ErrEnded: the self_removed of the watched directory was given, nothing follows.
	ErrEnded = errors.New("feed: the watched directory is gone")
)

const (
	firstPage   = 16        // batches in the first page of a reader
	lastPage    = 1024      // and at most
	pageBytes   = 512 << 10 // as much as a page should weigh: what a reader that is behind holds
	stepNotes   = 1 << 16   // notifications that one Step looks at
	keptHits    = 64        // that a reader may keep room for while it waits
	recheckBusy = 100 * time.Millisecond
)

// Part is what one batch holds for a subscription.
type Part struct {
	Hits []Hit // in order; they and their slice are valid until the next Step or Next
	End  bool  // the last hit is self_removed: nothing follows
}

// Sub is a subscription: a view and a cursor. One goroutine uses it at a time.
type Sub struct {
	feed   *Feed
	view   View
	pos    notify.Seq      // all up to here was examined, and given if it matched
	ahead  []*notify.Batch // the rest of a page
	hits   []Hit
	limit  int // as Feed.Page has it
	behind bool
	ended  bool
	left   bool // the directory has left the prefixes, which last tells
	last   Hit
	closed bool
}

// View is what the subscription sees.
func (s *Sub) View() View { return s.view }

// InRoot tells the subscription its root, once that is known.
func (s *Sub) InRoot(root notify.FileID) { s.view.Root = root }

// Cursor is where the subscription stands: a reader that goes on from here misses nothing and gets nothing
// twice. It moves with all that was examined, whether or not the view saw it: the bookmark of a quiet view.
func (s *Sub) Cursor() notify.Cursor { return notify.Cursor{Seq: s.pos, Dir: s.view.Dir} }

// Behind says whether the subscription reads pages, because memory does not reach back to its cursor.
func (s *Sub) Behind() bool { return s.behind }

// Close ends the subscription. It may be called more than once.
func (s *Sub) Close() {
	if !s.closed {
		s.setBehind(false)
		s.closed, s.ended, s.ahead, s.hits = true, true, nil, nil
		s.feed.subs.Add(-1)
	}
}

// Step gives what the next batch that concerns the view holds for it, as far as memory has it. It
// neither waits nor does I/O. A part without hits means that a good deal was examined and
// there may be more: call again. Errors: ErrIdle at the head, ErrBehind, ErrEnded, Gone.
func (s *Sub) Step() (Part, error) {
	if s.ended {
		return Part{}, ErrEnded
	}
	if s.left {
		return s.leave()
	}
	batches := s.ahead
	if len(batches) == 0 {
		var err error
		if batches, err = s.feed.Memory(s.pos); err != nil {
			s.setBehind(true)
			return Part{}, err
		}
		s.setBehind(false)
		if len(batches) == 0 {
			return Part{}, ErrIdle
		}
	}
	for looked := 0; len(batches) > 0 && looked < stepNotes; {
		b := batches[0]
		if err := s.feed.Follows(s.pos, b); err != nil {
			return Part{}, err
		}
		batches = batches[1:]
		if len(s.ahead) > 1 {
			s.ahead = batches
		} else {
			s.ahead = nil // and with it the page, which an empty rest of it would hold
		}
		s.hits, s.ended = s.view.Match(s.hits[:0], b, s.pos)
		if !s.ended && s.view.Crossed(b, nil) {
			s.last, s.left = s.view.Left(b, nil)
		}
		s.pos = b.Number.End()
		if s.left && len(s.hits) == 0 {
			return s.leave()
		}
		if len(s.hits) > 0 {
			if s.ended {
				s.pos = s.hits[len(s.hits)-1].Note.Seq
			}
			if s.view.Root == 0 && s.hits[0].Note.Type != notify.SelfRescanned { // which may be about anything
				s.view.Root = b.Root // so that the end of the root is heard as well
			}
			return Part{Hits: s.hits, End: s.ended}, nil
		}
		looked += 1 + len(b.Notes)
	}
	return Part{}, nil
}

// letGo forgets what was given: a reader that waits holds little, and no batch.
func (s *Sub) letGo() {
	if cap(s.hits) > keptHits {
		s.hits = nil
	}
	clear(s.hits[:cap(s.hits)])
}

// leave gives the part that ends a subscription whose directory has left the prefixes. What it saw until then came before.
func (s *Sub) leave() (Part, error) {
	s.hits, s.ended = append(s.hits[:0], s.last), true
	return Part{Hits: s.hits, End: true}, nil
}

// Next gives the next part, waiting for it if need be. If nothing that the view sees has come within idle, it
// gives ErrIdle, behind or not; with an idle of 0 it examines all there is and gives ErrIdle at the head. Other errors: ErrEnded,
// Gone, the cause of ctx's end, and what the log says.
func (s *Sub) Next(ctx context.Context, idle time.Duration) (Part, error) {
	if err := context.Cause(ctx); err != nil {
		return Part{}, err
	}
	if p, err := s.Step(); err == nil && len(p.Hits) > 0 {
		return p, nil // no timer for a reader that is catching up
	}
	var timer *time.Timer
	var timeout <-chan time.Time
	if idle > 0 {
		timer = time.NewTimer(idle)
		defer timer.Stop()
		timeout = timer.C
	}
	woken := false
	for {
		if err := context.Cause(ctx); err != nil {
			return Part{}, err
		}
		grew := s.feed.log.Grew() // before looking, so that no growth goes unseen
		p, err := s.Step()
		if err == ErrBehind {
			err = s.readPage(ctx, timeout)
		}
		switch {
		case err == nil && len(p.Hits) > 0:
			return p, nil
		case err == nil:
			woken = false
			select {
			case <-timeout:
				return Part{}, ErrIdle
			default:
			}
			continue
		case err == errLate:
			return Part{}, ErrIdle
		case err != ErrIdle:
			return Part{}, err
		}
		s.letGo()
		if idle <= 0 {
			return Part{}, ErrIdle
		}
		if woken { // for nothing: is the log closed?
			if err := s.closedLog(ctx, grew); err != nil {
				return Part{}, err
			}
		}
		select {
		case <-grew:
			woken = true
		case <-timeout:
			return Part{}, ErrIdle
		case <-ctx.Done():
		}
	}
}

// closedLog is called when the log said that it grew and holds nothing new. A log that
// is closed says so when it is read; any other case must at least not spin.
func (s *Sub) closedLog(ctx context.Context, grew <-chan struct{}) error {
	select {
	case <-grew:
	default:
		return nil // it does not claim to have grown again
	}
	if err := s.feed.Closed(ctx, s.pos); err != nil {
		return err
	}
	select {
	case <-time.After(recheckBusy):
	case <-ctx.Done():
	}
	return nil
}

// readPage reads ahead from the log, if it may before it is late. ErrIdle: there is nothing.
func (s *Sub) readPage(ctx context.Context, late <-chan time.Time) error {
	batches, err := s.feed.pageBefore(ctx, late, s.pos, &s.limit)
	if err != nil {
		return err
	}
	if len(batches) == 0 {
		return ErrIdle
	}
	s.ahead = batches
	return nil
}

func (s *Sub) setBehind(b bool) {
	if s.behind != b {
		s.behind = b
		if b {
			s.feed.behind.Add(1)
		} else {
			s.feed.behind.Add(-1)
		}
	}
}
