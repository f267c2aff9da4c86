package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

func newNative(kind string, opts SourceOptions) (Source, error) {
	if kind == "fanotify" {
		return NewFanotify(opts)
	}
	return NewInotify(opts)
}

// autoSource watches each directory with the best that its file system allows: fanotify, else inotify, else not
// at all (ErrPolled). Records of the two have no order between them, except that those of a private directory come
// behind all that happened before.
type autoSource struct {
	log  *slog.Logger
	opts SourceOptions
	pump srcPump

	mu      sync.Mutex
	fan     *autoFan  // nil: not allowed here, or it failed
	ino     *inoQueue // nil: not to be had
	inoErr  error     // why
	watched map[DirRef]autoWatch
	second  map[uint64]int // by Place.Mount: directories on inotify though there is fanotify
}

type autoWatch struct {
	ino   bool
	mount uint64
}

// The queues in the pump.
const (
	autoIno      = 0
	autoFanotify = 1
)

func newAuto(opts SourceOptions) (Source, error) {
	fan, fanErr := newFan(opts.Atime)
	ino, inoErr := newIno(opts.Atime)
	return newAutoOf(fan, fanErr, ino, inoErr, opts)
}

func newAutoOf(fan *fanQueue, fanErr error, ino *inoQueue, inoErr error, opts SourceOptions) (Source, error) {
	s := &autoSource{
		log:     opts.logger(),
		opts:    opts,
		watched: make(map[DirRef]autoWatch),
		second:  make(map[uint64]int),
		inoErr:  inoErr,
	}
	queues := []srcQueue{autoNone{}}
	if inoErr == nil {
		s.ino, queues[autoIno] = ino, ino
	}
	switch {
	case fanErr == nil:
		s.fan = &autoFan{fanQueue: fan, auto: s}
		queues = append(queues, s.fan)
		s.log.Info("watcher chosen", "watcher", "fanotify", "why", "the kernel allows file system marks and an unlimited queue")
		if inoErr != nil {
			s.log.Warn("no inotify: file systems that fanotify cannot mark are swept on a timer", "err", inoErr.Error())
		}
	case inoErr == nil:
		s.log.Info("watcher chosen", "watcher", "inotify", "why", fanErr.Error())
	default:
		return nil, errors.Join(fanErr, inoErr)
	}
	err := s.pump.init(queues...)
	if err != nil {
		return nil, errors.Join(err, s.closeQueues())
	}
	s.pump.last.Store(int32(len(queues) - 1))
	return s, nil
}

// Name is "fanotify" or "inotify": what it prefers.
func (s *autoSource) Name() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fan != nil {
		return "fanotify"
	}
	return "inotify"
}

// NameOf says which of them watches a directory; "": none.
func (s *autoSource) NameOf(ref DirRef) string {
	s.mu.Lock()
	w, ok := s.watched[ref]
	s.mu.Unlock()
	switch {
	case !ok:
		return ""
	case w.ino:
		return "inotify"
	}
	return "fanotify"
}

// Caps may lose Exact when a directory is watched that fanotify cannot mark, and Actors if fanotify fails.
func (s *autoSource) Caps() Caps {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Caps{
		Closes: true,
		Reads:  s.opts.Atime,
		Exact:  s.fan != nil && len(s.second) == 0,
		Actors: s.fan != nil,
	}
}

func (s *autoSource) Watch(ref DirRef, at Place) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var fanErr error
	// A file system that has refused a mark is not asked for every directory.
	if s.fan != nil && (s.second[at.Mount] == 0 || at.Private) {
		fanErr = s.fan.watch(ref, at)
		switch {
		case fanErr == nil:
			if w, ok := s.watched[ref]; ok && w.ino {
				s.ino.unwatch(ref)
			}
			s.note(ref, autoWatch{mount: at.Mount})
			if at.Private {
				s.pump.last.Store(autoFanotify)
			}
			return nil
		case errors.Is(fanErr, ErrPolled), errors.Is(fanErr, ErrClosed):
			s.unwatch(ref)
			return fanErr
		}
	}
	if s.fan != nil {
		s.fan.unwatch(ref)
	}
	if s.ino == nil {
		s.note(ref, autoWatch{})
		delete(s.watched, ref)
		return errors.Join(fanErr, s.inoErr)
	}
	if err := s.ino.watch(ref, at); err != nil {
		s.unwatch(ref)
		return err
	}
	if fanErr != nil {
		s.log.Info("watching with inotify", "dir", at.Path, "why", fanErr.Error())
	}
	s.note(ref, autoWatch{ino: true, mount: at.Mount})
	if at.Private {
		s.pump.last.Store(autoIno)
	}
	return nil
}

func (s *autoSource) Unwatch(ref DirRef) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unwatch(ref)
}

func (s *autoSource) unwatch(ref DirRef) {
	w, ok := s.watched[ref]
	if !ok {
		return
	}
	s.note(ref, autoWatch{})
	delete(s.watched, ref)
	if w.ino {
		s.ino.unwatch(ref)
	} else if s.fan != nil {
		s.fan.unwatch(ref)
	}
}

// note remembers how ref is watched. s.mu is held.
func (s *autoSource) note(ref DirRef, w autoWatch) {
	if old, ok := s.watched[ref]; ok && old.ino {
		if s.second[old.mount]--; s.second[old.mount] <= 0 {
			delete(s.second, old.mount)
		}
	}
	s.watched[ref] = w
	if w.ino && s.fan != nil {
		s.second[w.mount]++
	}
}

func (s *autoSource) Next(ctx context.Context, recs []Record) (int, bool, error) {
	return s.pump.next(ctx, recs)
}

func (s *autoSource) Close() error {
	if !s.pump.close() {
		return nil
	}
	return s.closeQueues()
}

func (s *autoSource) closeQueues() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	if s.fan != nil {
		errs = append(errs, s.fan.close())
	}
	if s.ino != nil {
		errs = append(errs, s.ino.close())
	}
	return errors.Join(errs...)
}

// fanFailed takes fanotify out of use and returns the directories that it watched.
func (s *autoSource) fanFailed(err error) (lost []DirRef) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log.Error("fanotify failed, its directories are watched anew with inotify", "err", err, "dirs", len(s.watched)-len(s.second))
	for ref, w := range s.watched {
		if !w.ino {
			lost = append(lost, ref)
			delete(s.watched, ref)
		}
	}
	clear(s.second)
	if err := s.fan.close(); err != nil {
		s.log.Error("fanotify failed to close", "err", err)
	}
	s.fan = nil
	s.pump.last.Store(autoIno)
	return lost
}

// autoFan is the fanotify queue of an autoSource: an error of the kernel ends it, but not the source.
type autoFan struct {
	*fanQueue
	auto *autoSource

	dead       bool
	overflowed bool // said so
	lost       []DirRef
}

func (f *autoFan) fd() int {
	if f.dead {
		return -1
	}
	return f.fanQueue.fd()
}

func (f *autoFan) read() (int, error) {
	if f.dead {
		return 0, nil
	}
	n, err := f.fanQueue.read()
	if err != nil {
		f.dead, f.lost = true, f.auto.fanFailed(fmt.Errorf("read: %w", err))
		return 0, nil
	}
	return n, nil
}

func (f *autoFan) short() bool { return f.dead || f.fanQueue.short() }

func (f *autoFan) empty() bool {
	if f.dead {
		return f.overflowed && len(f.lost) == 0
	}
	return f.fanQueue.empty()
}

func (f *autoFan) parse(recs []Record) (n int, err error) {
	if !f.dead {
		return f.fanQueue.parse(recs)
	}
	if !f.overflowed {
		f.overflowed = true
		return 0, ErrOverflow
	}
	n = min(len(recs), len(f.lost))
	for i, ref := range f.lost[:n] {
		recs[i] = Record{Dir: ref, Op: OpLost}
	}
	f.lost = f.lost[n:]
	return n, nil
}

// autoNone stands for a queue that could not be made.
type autoNone struct{}

func (autoNone) fd() int                     { return -1 }
func (autoNone) read() (int, error)          { return 0, nil }
func (autoNone) short() bool                 { return true }
func (autoNone) empty() bool                 { return true }
func (autoNone) parse([]Record) (int, error) { return 0, nil }
