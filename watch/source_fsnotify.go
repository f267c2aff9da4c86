package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	fsnSilence = time.Millisecond // fsnotify cannot say that the kernel's queue is drained: this long without an event counts as that
	fsnBuffer  = 4096             // events that wait in user space while the caller of Next works
	fsnHalves  = 64               // renames whose second half may still come; fsnotify itself remembers 10
)

// fsnSource is the portable source, over github.com/fsnotify/fsnotify.
//
// It cannot see closes, reads and who did it, nor tell "moved here from outside" from "created": both
// are OpCreate. It says nothing of an unmount.
//
// fsnotify keeps the path that a watch was made with and never corrects it, so on Linux every
// watch gets a path of its own, made for it and gone at once (a token, see [fsnPlaces]): the names of its events
// begin with the token, whatever its directory is called by then. The watch of a directory that
// is renamed is dropped by fsnotify; this comes out as OpLost.
//
// fsnotify runs one goroutine from [NewFsnotify] to Close, and so do we: it drains fsnotify's errors, which must never
// wait for the goroutine in Next, since fsnotify sends some of them while it holds the lock that Watch needs.
type fsnSource struct {
	w      *fsnotify.Watcher
	from   []int // where fsnotify.Event keeps the old name of a rename; nil if it does not
	places fsnPlaces
	errs   chan error    // overflow, or what ends the source; room for one
	ended  chan struct{} // closed when nobody sends to errs any more

	mu     sync.Mutex
	closed bool
	refs   map[DirRef]fsnWatch
	dirs   owners[string]   // by the path that fsnotify knows it by
	paths  map[fsnID]string // these, by identity; of those that have one
	lost   []DirRef         // of which Next is to say so
	shared map[DirRef]bool  // those of them that are watched on, by a watch that was made for another ref

	wake chan struct{} // some are lost

	// of the goroutine in Next
	timer  *time.Timer
	busy   bool // something came since the last drained
	held   held
	names  []byte
	halves [fsnHalves]fsnHalf // ring
	half   uint32             // renames so far: the last cookie
}

type fsnWatch struct {
	path string
	id   fsnID
}

// fsnID is the identity of a directory where the platform has one; zero elsewhere.
type fsnID struct{ dev, ino uint64 }

// fsnHalf is a rename of which only the old name has been seen.
type fsnHalf struct {
	path   string
	cookie uint32
}

// NewFsnotify returns the source over fsnotify. It starts the goroutines that fsnotify needs, and makes
// a directory for its own use; Close ends and removes them. It may be used on every platform.
func NewFsnotify() (Source, error) {
	w, err := fsnotify.NewBufferedWatcher(fsnBuffer)
	if err != nil {
		return nil, fmt.Errorf("fsnotify: %w", srcLimit(err))
	}
	s := &fsnSource{
		w:      w,
		refs:   make(map[DirRef]fsnWatch),
		dirs:   newOwners[string](),
		paths:  make(map[fsnID]string),
		shared: make(map[DirRef]bool),
		wake:   make(chan struct{}, 1),
		timer:  time.NewTimer(time.Hour),
		errs:   make(chan error, 1),
		ended:  make(chan struct{}),
	}
	s.timer.Stop()
	if s.from, err = fsnProbe(w); err == nil {
		err = s.places.open()
	}
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("fsnotify: %w", err)
	}
	go s.drainErrors()
	return s, nil
}

// drainErrors passes on what Next must say, until fsnotify is closed.
func (s *fsnSource) drainErrors() {
	defer close(s.ended)
	for err := range s.w.Errors {
		switch {
		case fsnBenign(err):
			continue
		case errors.Is(err, fsnotify.ErrEventOverflow):
			err = ErrOverflow
		default:
			err = fmt.Errorf("fsnotify: %w", err)
		}
		select {
		case s.errs <- err:
		default: // one that has not been told yet is enough: all ask for a sweep or worse
		}
	}
}

// fsnProbe renames a file below a watch of w and looks whether the event of the new name carries the old one, in a field
// that fsnotify does not export. It returns the place of that field, nil if there is none (then
// renames have no second half and the tree pairs them by identity).
func fsnProbe(w *fsnotify.Watcher) ([]int, error) {
	f, ok := reflect.TypeFor[fsnotify.Event]().FieldByName("renamedFrom")
	if !ok || f.Type.Kind() != reflect.String {
		return nil, nil
	}
	dir, err := os.MkdirTemp("", "fs_notify-probe-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := w.Add(dir); err != nil {
		return nil, srcLimit(err)
	}
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := os.WriteFile(a, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Rename(a, b); err != nil {
		return nil, err
	}
	var found []int
	deadline := time.After(time.Second)
	for done := false; !done; {
		select {
		case ev := <-w.Events:
			if ev.Name == b && ev.Has(fsnotify.Create) {
				if reflect.ValueOf(ev).FieldByIndex(f.Index).String() == a {
					found = f.Index
				}
				done = true
			}
		case err := <-w.Errors:
			return nil, err
		case <-deadline: // a backend that is slow or says nothing of renames
			done = true
		}
	}
	if err := w.Remove(dir); err != nil && !errors.Is(err, fsnotify.ErrNonExistentWatch) {
		return nil, err
	}
	return found, nil
}

func (s *fsnSource) Name() string { return "fsnotify" }

// Private lists the directories of the source's own, which are not to be told of.
func (s *fsnSource) Private() []string { return s.places.own() }

func (s *fsnSource) Caps() Caps { return Caps{} }

func (s *fsnSource) Watch(ref DirRef, at Place) error {
	if err := srcNotifies(at); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	id, err := s.places.identify(at)
	if err != nil {
		return err
	}
	if s.shared[ref] && s.refs[ref].id == id { // to be listed only
		delete(s.shared, ref)
		return nil
	}
	s.unwatch(ref)
	// Whoever else watches this directory gets the new watch as well: Add would do nothing and say nothing beside the old one, which may
	// have ended unsaid. What the old one has not said yet is lost to them.
	others := s.dirs.all(s.paths[id])
	path, release, err := s.places.name(at)
	if err != nil {
		return err
	}
	defer release()
	for _, old := range append(s.dirs.all(path), others...) {
		s.unwatch(old)
	}
	if len(others) > 0 {
		s.lost = append(s.lost, others...)
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	if err := s.w.Add(path); err != nil {
		if errors.Is(err, fsnotify.ErrClosed) {
			return ErrClosed
		}
		return fmt.Errorf("fsnotify: watch %s: %w", at.Path, srcLimit(err))
	}
	if id != (fsnID{}) {
		s.paths[id] = path
	}
	for _, r := range append([]DirRef{ref}, others...) {
		s.refs[r] = fsnWatch{path, id}
		s.dirs.add(path, r)
		if r != ref {
			s.shared[r] = true
		}
	}
	return nil
}

func (s *fsnSource) Unwatch(ref DirRef) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.unwatch(ref)
		s.lost = slices.DeleteFunc(s.lost, func(r DirRef) bool { return r == ref })
	}
}

// unwatch ends the watch of ref, if it has one. s.mu is held.
func (s *fsnSource) unwatch(ref DirRef) {
	w, ok := s.refs[ref]
	if !ok {
		return
	}
	delete(s.refs, ref)
	delete(s.shared, ref)
	if !s.dirs.drop(w.path, ref) {
		return
	}
	if s.paths[w.id] == w.path {
		delete(s.paths, w.id)
	}
	_ = s.w.Remove(w.path) // fails where the directory or its watch is gone: that is what is wanted
}

// Next returns what is there at once, with drained false; a millisecond of silence after that makes it
// return no records and drained true.
func (s *fsnSource) Next(ctx context.Context, recs []Record) (n int, drained bool, err error) {
	s.names = s.names[:0]
	n = s.held.give(recs)
	for n == 0 {
		var silence <-chan time.Time
		if s.busy {
			s.timer.Reset(fsnSilence)
			silence = s.timer.C
		}
		select {
		case ev, ok := <-s.w.Events:
			if !ok {
				return 0, false, ErrClosed
			}
			s.busy = true
			n = s.take(ev, recs)
		case <-s.wake:
			s.busy = true
			s.mu.Lock()
			for _, ref := range s.lost {
				s.held = append(s.held, Record{Dir: ref, Op: OpLost})
			}
			s.lost = s.lost[:0]
			s.mu.Unlock()
			n = s.held.give(recs)
		case err := <-s.errs:
			s.busy = true
			return 0, false, err
		case <-silence:
			s.busy = false
			return 0, true, nil
		case <-ctx.Done():
			return 0, false, ctx.Err()
		}
	}
	for n < len(recs) && len(s.held) == 0 {
		select {
		case ev, ok := <-s.w.Events:
			if !ok {
				return n, false, nil // the next call says ErrClosed
			}
			n += s.take(ev, recs[n:])
		default:
			return n, false, nil
		}
	}
	return n, false, nil
}

// take turns one event into records, for all who watch its directory: none if nobody does, several kinds of them if
// it is about a watched directory whose parent is watched under its real name (not on Linux). Those that find no room are held.
func (s *fsnSource) take(ev fsnotify.Event, recs []Record) (n int) {
	cut := strings.LastIndexByte(ev.Name, os.PathSeparator)
	if cut < 0 {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	give := func(path string, rec Record) {
		first := s.dirs.first[path]
		if rec.Dir = first; n < len(recs) {
			recs[n] = rec
			n++
		} else {
			rec.Name = bytes.Clone(rec.Name) // it outlives this call
			s.held = append(s.held, rec)
		}
		if others := len(s.held); len(s.dirs.rest) > 0 {
			s.held = s.dirs.copies(s.held, path, rec)
			for i := range s.held[others:] {
				s.held[others+i].Name = bytes.Clone(rec.Name)
			}
		}
	}
	if _, ok := s.dirs.first[ev.Name]; ok {
		switch {
		case ev.Has(fsnotify.Remove) || ev.Has(fsnotify.Rename):
			give(ev.Name, Record{Op: OpLost})
			for _, ref := range s.dirs.all(ev.Name) {
				s.unwatch(ref)
			}
		case ev.Has(fsnotify.Chmod):
			give(ev.Name, Record{Op: OpSelf})
		}
	}
	dir := ev.Name[:cut]
	if _, ok := s.dirs.first[dir]; !ok {
		return n
	}
	var rec Record
	if ev.Has(fsnotify.Create) {
		rec.Op |= OpCreate
		if s.from != nil {
			if old := reflect.ValueOf(ev).FieldByIndex(s.from).String(); old != "" {
				rec.Op = OpMovedTo
				rec.Cookie = s.otherHalf(old)
			}
		}
	}
	if ev.Has(fsnotify.Write) {
		rec.Op |= OpModify
	}
	if ev.Has(fsnotify.Chmod) {
		rec.Op |= OpAttrib
	}
	if ev.Has(fsnotify.Rename) {
		rec.Op |= OpMovedFrom
		s.half++
		if s.half == 0 { // 0 means that there is no other half
			s.half++
		}
		rec.Cookie = s.half
		s.halves[s.half%fsnHalves] = fsnHalf{ev.Name, s.half}
	}
	if ev.Has(fsnotify.Remove) {
		rec.Op |= OpDelete
	}
	at := len(s.names)
	s.names = append(s.names, ev.Name[cut+1:]...)
	rec.Name = s.names[at:len(s.names):len(s.names)]
	give(dir, rec)
	return n
}

// otherHalf finds the cookie of the latest rename away from path, and forgets it. 0 if it is
// too long ago.
func (s *fsnSource) otherHalf(path string) uint32 {
	for i := range uint32(fsnHalves) {
		h := &s.halves[(s.half-i)%fsnHalves]
		if h.cookie != 0 && h.path == path {
			c := h.cookie
			*h = fsnHalf{}
			return c
		}
	}
	return 0
}

func (s *fsnSource) Close() error {
	s.mu.Lock()
	was := s.closed
	s.closed = true
	s.mu.Unlock()
	if was {
		return nil
	}
	err := s.w.Close()
	<-s.ended
	return errors.Join(err, s.places.close())
}
