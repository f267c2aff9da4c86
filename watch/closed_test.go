//go:build linux

package watch_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fs_notify/notify"
	"fs_notify/watch"
	"fs_notify/watch/watchtest"
)

// A file that is written, closed and renamed is told closed once, and by its own ID, wherever the looks come between the records: a rename that waits for its other
// half is heard again in the next look, and not what was said before it.
func TestClosedOnce(t *testing.T) {
	for _, kind := range sources(t) {
		if kind == "fsnotify" || kind == "poll" {
			continue // closes are not seen
		}
		for piece := range 9 {
			t.Run(fmt.Sprintf("%s/%d", kind, piece), func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), "top")
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				sh(t, dir, "echo x > log")
				var g *watchtest.Gate
				r := watchtest.Start(t, kind, dir, func(c *watch.Config) { g = watchtest.NewGate(c.Source); c.Source = g })
				r.Keep()
				g.Hold(piece, 20*time.Millisecond)
				sh(t, dir, "mv log log.1; echo new > log; mv log log.2; mv log.1 log.3")
				r.Sync(t)
				closes := make(map[string]int)
				told := r.Take()
				for i := range told {
					if told[i].Type == notify.ChildFileClosed {
						closes[told[i].Path]++
					}
				}
				if len(closes) != 1 || closes["log.2"] != 1 {
					t.Errorf("told closed: %v, want log.2 once; told:\n%s", closes, brief(told))
				}
				r.Check(t)
			})
		}
	}
}
