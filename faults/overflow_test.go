//go:build linux

package faults_test

import (
	"os"
	"testing"
	"time"

	"fs_notify/watch/watchtest"
)

// smallQueue starts s with a queue of so many records.
func (s *service) smallQueue(records int) {
	s.t.Helper()
	if err := watchtest.WithQueue(records, func() error { s.start(); return nil }); err != nil {
		s.t.Skipf("the kernel's queue cannot be made small: %v", err)
	}
}

// flood makes more records than such a queue takes, in the one directory that is watched for sure: what the load has made
// meanwhile is not, and it removes what was there.
func flood(t testing.TB, dir string) {
	for i := range 1000 {
		f, err := os.CreateTemp(dir, "flood")
		if err != nil {
			t.Error(err)
			return
		}
		f.Close()
		if i%10 > 0 {
			os.Remove(f.Name())
		}
	}
}

// The service is stopped for seconds while files change, and the kernel's queue overflows: with one of a thousand records, all the time.
func TestSuspendedUnderLoad(t *testing.T) {
	t.Parallel()
	needRoot(t)
	eachDisk(t, func(t *testing.T, dir string) {
		for _, watcher := range []string{"inotify", "fsnotify", "fanotify"} {
			t.Run(watcher, func(t *testing.T) {
				r := dice(t)
				s := newService(t, dir+"/"+watcher)
				s.watcher = watcher
				l := newLoad(t, s)
				l.fill(r, 1000)
				l.pause = 0
				if watcher == "fanotify" {
					s.start() // its queue has no limit
				} else {
					s.smallQueue(1000)
				}
				s.live()
				c := follow(t, s)
				c.begun(t)
				l.while(r, func() {
					for range pick(1, 3) {
						s.freeze()
						enough := l.steps.Load() + 3000
						time.Sleep(pick[time.Duration](2, 10) * time.Second)
						within(func() bool { return l.steps.Load() > enough })
						flood(t, s.root)
						s.thaw()
						time.Sleep(300 * time.Millisecond)
					}
				})
				c.holds(t, s)
				c.neverGone(t)
				if n := s.logs.count("the kernel's queue overflowed"); watcher != "fanotify" && n == 0 {
					t.Error("the queue never overflowed: this shows nothing")
				} else {
					t.Logf("%d overflows", n)
				}
				s.stop()
			})
		}
	})
}
