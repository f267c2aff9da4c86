//go:build linux

package faults_test

import (
	"testing"
	"time"
)

// The service is killed at random moments of a load: while it starts, sweeps, appends, folds, sends. It is started again each time, and the
// consumer goes on by its cursor. Now and then it is ended in good order, and each time it may watch in another way.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	kinds := disks()
	story := func(t *testing.T, dir string) {
		r := dice(t)
		s := newService(t, dir)
		l := newLoad(t, s)
		l.fill(r, 1000)
		s.start()
		c := follow(t, s)
		c.begun(t)
		l.while(r, func() {
			for range pick(12/max(len(kinds), 1), 200) {
				if r.IntN(4) > 0 { // else: while it starts
					s.live()
				}
				time.Sleep(time.Duration(r.IntN(600)) * time.Millisecond)
				if r.IntN(6) == 0 {
					s.stop()
				} else {
					s.kill()
				}
				if mayWatchAll() {
					s.watcher = []string{"fanotify", "inotify", "fsnotify"}[r.IntN(3)]
				}
				if r.IntN(3) == 0 {
					time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
				}
				s.start()
			}
			s.live()
		})
		c.holds(t, s)
		c.neverGone(t)
		s.stop()
		cursor, notes, _, cuts := c.where()
		t.Logf("%d notifications over %d connections, to %s", notes, cuts, cursor)
	}
	if len(kinds) == 0 {
		story(t, t.TempDir())
	} else {
		onDisks(t, kinds, story)
	}
}
