//go:build linux

package watch

import (
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
