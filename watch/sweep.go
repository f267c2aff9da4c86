package watch

import (
	"math"
	"time"

	"fs_notify/notify"
)

// sweep is a look at every name of a set of directories.
type sweep struct {
	next    uint32    // index of the next dirInfo
	till    uint32    // the first that there was not when it began: what has come since was listed as it came
	only    dirFlags  // directories with one of these flags; 0: all
	loss    bool      // records were lost: who asks is told by self_rescanned
	first   bool      // after a start: nobody else wants the time
	done    time.Time // since when every directory is listed, but for what is left
	ending  bool      // nor is anything left: what is missing now is gone
	ended   time.Time // since when it is so, and nothing that was held back was looked at
	stepped bool      // part of it is in the pass under way
	took    bool      // and that is something that was held back
	began   time.Time
}

// ask has everything swept, once more if a sweep is under way already.
func (w *Watcher) ask(loss bool) {
	w.sweepNext, w.loss = true, w.loss || loss
}

func (w *Watcher) begin(s *sweep) {
	w.sweep = s
	s.next, s.till, s.began = 1, w.t.s.dirs.n, time.Now()
	select {
	case <-w.ready:
	default:
		s.first = true
	}
	if s.only != 0 {
		return
	}
	w.fullDue = time.Now().Add(w.cfg.SweepInterval)
	if s.loss {
		w.t.rescanned()
		for at, waits := range w.t.patience { // the echo may be lost, too
			w.t.patience[at] = wait{since: waits.since}
		}
	}
}

// sweepDirs is how many directories one step of a sweep lists. Of a pass over more than sweepShare times as many names that step would be a small part: under a
// load there are few passes, and a start, which others wait for, would last as long as the load. It lists one for so many names.
const (
	sweepDirs  = 64
	sweepShare = 8
)

// sweepStep adds the next directories of the sweep to what is to be looked at in a pass over so many names, or, at its end, what was held back: first the
// names, a pass full at a time, however many have gone while nobody looked.
func (w *Watcher) sweepStep(d *dirt, names int) {
	t, s := w.t, w.sweep
	n, most := 0, sweepDirs
	if s.first {
		most = max(most, names/sweepShare)
	}
	for ; s.next < s.till && n < most; s.next++ {
		di := t.s.dirs.at(s.next)
		if di.node == 0 || di.flags&dirAttached == 0 || di.flags&dirOpaque != 0 || s.only != 0 && di.flags&s.only == 0 {
			continue
		}
		if !t.rootInfo(t.s.rootOf(di.node)).swept() {
			continue
		}
		d.list(di.node)
		n += 1 + int(di.count)/64
	}
	if s.only == 0 {
		t.sweptTo(s)
	}
	if n > 0 {
		return
	}
	if now := w.t.now(); !s.ending {
		if s.done.IsZero() {
			s.done = now
		}
		if !t.left.empty() && now.Sub(s.done) < stuckAfter { // in a storm of new directories something always is
			return
		}
		s.ending, s.ended = true, now
	}
	s.took = len(t.missing)+len(t.parked) > 0
	room := passNames
	if t.carry != nil {
		room -= len(t.carry.names) // they are here once already, and wait for what their records may say
	}
	for at := range t.missing {
		if len(d.names) >= room {
			return
		}
		delete(t.missing, at)
		if t.s.alive(at.dir) {
			d.touch(at, 0)
		}
	}
	if len(t.missing) > 0 || !d.empty() {
		return // what lay in those is not looked for any more
	}
	for r := range t.parked {
		if t.s.alive(r) {
			d.list(r)
		}
	}
	clear(t.parked)
}

// sweptTo notes how far a sweep of everything is: the roots that are remembered are indexed by it.
func (t *tree) sweptTo(s *sweep) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ri := range t.roots {
		if ri.restored {
			ri.guess = min(float64(s.next)/float64(s.till), 0.99)
		}
	}
}

// sweepStepped ends a sweep when nothing is left of it, and gives the others at least half of the time.
func (w *Watcher) sweepStepped(start time.Time) {
	s := w.sweep
	took := s.took
	s.stepped, s.took = false, false
	now := time.Now()
	if !s.first {
		w.restAfter = now.Add(now.Sub(start))
	}
	if !s.ending {
		return
	}
	if took {
		s.ended = now
	}
	if len(w.t.missing) > 0 || len(w.t.parked) > 0 || w.unsettled(now) {
		return
	}
	w.sweep = nil
	if s.only != 0 {
		return
	}
	w.sweeps.Add(1)
	w.sweepTime.Add(int64(now.Sub(s.began)))
	if g := &w.t.digests; g.next == 0 && w.t.s.unread.Load() > 0 { // of a tree that was remembered, or that could not be reached before
		g.begin(now)
	}
	w.t.mu.Lock()
	defer w.t.mu.Unlock()
	all := true
	for _, ri := range w.t.roots {
		if ri.restored {
			ri.restored, ri.phase = false, notify.Live
			w.log.Info("root live", "root", ri.Name, "entries", w.t.s.entries[ri.node]-1) // without the root itself
		}
		all = all && (ri.phase != notify.Indexing || ri.node == 0) // one that was not there at the start is not waited for
	}
	if all {
		w.becomeReady()
		if !w.sweepNext {
			w.t.doubt = math.MaxInt64
		}
	}
}

// unsettled says whether something that the sweep met may be undecided, or is left. In a storm there is always something that is, but nothing for as long
// as stuckAfter.
func (w *Watcher) unsettled(now time.Time) bool {
	return (w.t.carry != nil || !w.t.left.empty()) && now.Sub(w.sweep.ended) < stuckAfter
}

// rescanned tells those who ask that below every root only the net effect is known.
func (t *tree) rescanned() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ri := range t.roots {
		if ri.swept() {
			t.out.addOne(ri.id, notify.Notification{Type: notify.SelfRescanned, Spine: notify.Spine{ri.id}, Attr: t.s.attr(ri.node)})
		}
	}
}

// unwatched says whether there are directories that have to be polled.
func (t *tree) unwatched() bool {
	if !t.lapsed {
		return false
	}
	for i := uint32(1); i < t.s.dirs.n; i++ {
		if d := t.s.dirs.at(i); d.node != 0 && d.flags&dirSwept != 0 {
			return true
		}
	}
	t.lapsed = false
	t.hasUnwatched.Store(false)
	return false
}
