//go:build linux

package watch

import (
	"cmp"
	"testing"
	"time"
)

// A name that stays undecided is given up, and everything is swept, only when all records before are read: an echo of the queue tells. Where none
// can be had, and after a minute, it is given up all the same.
func TestNamesAreGivenUpWhenTheirRecordsAreRead(t *testing.T) {
	for _, tt := range []struct {
		name           string
		waited         time.Duration
		asked, came    uint64 // echoes: of the name, and the newest that came
		mute           bool
		want           string
		wantIsEchoing  bool
		wantStaysAwake bool // it is looked at again in the next pass
	}{
		{"it has not waited long", 4 * time.Second, 0, 0, false, "waits", false, true},
		{"nobody has asked for an echo", 6 * time.Second, 0, 0, false, "asks", false, true},
		{"there is none to be had", 6 * time.Second, 0, 0, true, "given up", false, false},
		{"the echo is under way", 6 * time.Second, 7, 6, false, "waits", true, false},
		{"the echo is under way, and it is early", 3 * time.Second, 7, 6, false, "waits", true, true},
		{"the echo came", 6 * time.Second, 7, 7, false, "given up", false, false},
		{"the echo does not come", time.Minute, 7, 6, false, "given up", false, false},
	} {
		_, w := scanned(t, "mkdir d; touch d/f")
		tr := w.t
		now := time.Now()
		at := place{tr.s.find(tr.roots[0].node, "d"), "f"}
		tr.drained, tr.awake, tr.echoed, tr.mute = true, now.Add(-time.Hour), tt.came, tt.mute
		tr.patience[at] = wait{since: now.Add(-tt.waited), echo: tt.asked}
		p := &pass{t: tr, now: now, dirt: newDirt(), order: []*item{{at: at, hint: &noHint, state: unreachable, carried: true}}}
		next, hopeless, unasked, echoing := p.unfinished()
		got := "waits"
		switch {
		case len(hopeless.names) > 0 && len(next.names) == 0:
			got = "given up"
		case len(unasked) > 0 && len(next.names) > 0:
			got = "asks"
		case len(next.names) == 0:
			got = "is forgotten"
		}
		if got != tt.want || echoing != tt.wantIsEchoing {
			t.Errorf("%s: it %s, an echo is under way: %t; want %s, %t", tt.name, got, echoing, tt.want, tt.wantIsEchoing)
		}
		if got == "given up" {
			continue
		}
		tr.carry = next
		if older := tr.wake(newDirt(), now); (older != nil) != tt.wantStaysAwake {
			t.Errorf("%s: it is looked at in the next pass: %t, want %t", tt.name, older != nil, tt.wantStaysAwake)
		}
	}
}

// While a sweep of everything holds back what is missing, what depends on that cannot be decided, however long it takes: patience begins when it ends. A sweep of what
// is polled is short, and another one begins as patience would end: it changes nothing.
func TestPatienceBeginsWhenNothingIsHeldBack(t *testing.T) {
	for _, tt := range []struct {
		name  string
		only  dirFlags
		after time.Duration // the last pass of the sweep
		want  bool          // it is given up
	}{
		{"a sweep of everything has just ended", 0, time.Second, false},
		{"it has ended long ago", 0, 6 * time.Second, true},
		{"a sweep of what is polled has just ended", dirSwept, time.Second, true},
	} {
		dir := t.TempDir()
		bash(t, dir, "mkdir d; touch d/f")
		w, _ := restarted(t, dir)
		tr, clock := w.t, time.Now()
		tr.now = func() time.Time { return clock }
		d := w.next()
		if w.sweep.only = tt.only; d == nil || w.sweep.ending {
			t.Fatal("the sweep holds nothing back")
		}
		w.pass(d)
		at := place{tr.s.find(tr.roots[0].node, "d"), "f"}
		tr.patience[at] = wait{since: clock.Add(-time.Minute / 2), echo: 7} // it began during the sweep, and its echo came
		tr.drained, tr.awake, tr.echoed = true, clock.Add(-time.Hour), 7
		clock = clock.Add(tt.after)
		p := &pass{t: tr, now: clock, dirt: newDirt(), order: []*item{{at: at, hint: &noHint, state: unreachable, carried: true}}}
		if next, hopeless, _, _ := p.unfinished(); !hopeless.empty() != tt.want || next.empty() != tt.want {
			t.Errorf("%s: it is given up: %t, want %t", tt.name, !hopeless.empty(), tt.want)
		}
	}
}

// Names that are renamed into each other faster than anyone can look wait all the time. Their records are kept within a bound: then they are forgotten, and
// the directories of the names are listed.
func TestRecordsOfWaitingNamesAreBounded(t *testing.T) {
	_, w := scanned(t, "mkdir d; touch d/a d/b")
	tr := w.t
	now := time.Now()
	dir := tr.s.find(tr.roots[0].node, "d")
	waiting := func(moves int) *dirt {
		next := newDirt()
		for _, name := range []string{"a", "b"} {
			next.touch(place{dir, name}, OpMovedFrom|OpMovedTo)
			tr.patience[place{dir, name}] = wait{since: now}
		}
		next.moves = make([]hint, moves)
		return next
	}
	p := &pass{t: tr, now: now, dirt: newDirt()}
	for _, tt := range []struct {
		moves int
		kept  bool
	}{{maxWaiting * namesMoves / 2, true}, {maxWaiting*namesMoves/2 + namesMoves, false}} { // the second ones come to the first
		if !p.carryOn(waiting(tt.moves)) {
			t.Error("nothing waits")
		}
		_, listed := tr.carry.lists[dir]
		if kept := len(tr.carry.names) == 2 && len(tr.carry.moves) > 0 && len(tr.patience) == 2; kept != tt.kept || listed == tt.kept {
			t.Errorf("%d more: %d names with %d records wait, %d have patience, the directory is listed: %t; kept: want %t",
				tt.moves, len(tr.carry.names), len(tr.carry.moves), len(tr.patience), listed, tt.kept)
		}
	}
	w.pass(cmp.Or(w.next(), newDirt()))
	if tr.carry != nil {
		t.Errorf("%d names wait still", len(tr.carry.names))
	}
}
