//go:build linux

package faults_test

import (
	"fmt"
	"os"
	"testing"

	"fs_notify/notify"
)

// Ten thousand changes happen while nobody watches. The consumer is told their net effect when the service is back: renames as
// renames, those of directories without a word about what is in them.
func TestChangesWhileDown(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, dir string) {
		for _, how := range []string{"stopped", "killed"} {
			t.Run(how, func(t *testing.T) {
				r := dice(t)
				s := newService(t, dir+"/"+how)
				l := newLoad(t, s)
				l.fill(r, 1000)
				for i := range 20 {
					p := fmt.Sprintf("%s/keep%d/sub", s.root, i)
					if err := os.MkdirAll(p, 0o755); err != nil {
						t.Fatal(err)
					}
					for k := range 10 {
						if err := os.WriteFile(fmt.Sprintf("%s/f%d", p, k), []byte("x"), 0o644); err != nil {
							t.Fatal(err)
						}
					}
				}
				s.start()
				c := follow(t, s, func(c *consumer) { c.record = true })
				c.begun(t)
				l.fill(r, 500)
				c.holds(t, s)
				if how == "stopped" {
					s.stop()
				} else {
					s.kill()
				}
				before := len(c.told())
				l.fill(r, pick(3000, 10000)) // about four changes each
				ids := make(map[notify.FileID]bool)
				for i := range 20 {
					ids[c.id(t, fmt.Sprintf("keep%d/", i))] = true
					if err := os.Rename(fmt.Sprintf("%s/keep%d", s.root, i), fmt.Sprintf("%s/kept%d", s.root, i)); err != nil {
						t.Fatal(err)
					}
				}
				s.start()
				c.holds(t, s)
				c.neverGone(t)

				pairs := 0
				for _, n := range c.told()[before:] {
					switch last := len(n.Spine) - 1; {
					case ids[n.ID()] && n.Type == notify.ChildDirMovedTo && n.Link != 0:
						pairs++
					case ids[n.ID()] && n.Type == notify.ChildDirMovedFrom && n.Link != 0, ids[n.ID()] && n.Type == notify.ChildMtimeChanged:
					case ids[n.ID()] || last >= 1 && ids[n.Spine[1]]:
						t.Errorf("of a directory that was renamed and nothing else: %s %q", n.Type, n.Path)
					}
				}
				if pairs != len(ids) {
					t.Errorf("%d of %d directories were told as renamed", pairs, len(ids))
				}
				s.stop()
			})
		}
	})
}
