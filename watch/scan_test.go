//go:build linux

package watch_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fs_notify/watch"
	"fs_notify/watch/watchtest"
)

// ambush does things before a directory's watch is in force.
type ambush struct {
	watch.Source
	at func(path string)
}

func (a *ambush) Watch(ref watch.DirRef, at watch.Place) error {
	if !at.Private {
		a.at(at.Path)
	}
	return a.Source.Watch(ref, at)
}

// What moves while directories are watched one by one, from one that was listed to one that is not watched yet: of its new name
// there is no record. On the first start, and on another one that compares the disk with what is remembered.
func TestMovesDuringTheStart(t *testing.T) {
	// In both a and b, since nobody knows which of them is listed first.
	const tree = "for d in a b; do mkdir -p $d/x/y/z; touch $d/f $d/g $d/x/f $d/x/y/g; ln $d/g $d/h; done"
	for _, script := range []string{
		"mv FROM/f TO/n",
		"mv FROM/f TO/f",
		"mv FROM/g TO/n",
		"mv FROM/x TO/n",
		"mv FROM/x TO/n; touch TO/n/new; mkdir TO/n/y/new",
		"mkdir TO/n; mv FROM/x TO/n/x",
		"mkdir TO/n; mv FROM/x TO/n/x; mv FROM/f TO/n/x/y/n",
		"mv FROM/x TO/n; mkdir -p FROM/x/y; touch FROM/x/f",
		"mv FROM/x t; mv TO/x FROM/x; mv t TO/x",
		"mv FROM/x/y TO/n; mv FROM/x TO/n/x",
		"mv FROM TO/n",
		"mv FROM TO/n; mkdir FROM; mv TO/x FROM/x",
	} {
		t.Run(script, func(t *testing.T) {
			eachSource(t, func(t *testing.T, kind string) {
				t.Parallel()
				for _, start := range []string{"the first", "another"} {
					dir, past := t.TempDir(), &memory{}
					sh(t, dir, tree)
					if start == "another" {
						r := watchtest.Start(t, kind, dir, alone(kind), func(c *watch.Config) { c.Past = past })
						past.entries = r.Snap(t).Entries
						r.Stop()
					}
					seen := ""
					r := watchtest.Start(t, kind, dir, alone(kind), func(c *watch.Config) {
						c.Past = past
						c.Source = &ambush{c.Source, func(path string) {
							switch name, _ := filepath.Rel(dir, path); {
							case name != "a" && name != "b" || seen == "done":
							case seen == "":
								seen = name
							default:
								sh(t, dir, strings.NewReplacer("FROM", seen, "TO", name).Replace(script))
								time.Sleep(20 * time.Millisecond) // the reader is ahead of the scan
								seen = "done"
							}
						}}
					})
					r.Check(t)
					r.Stop()
					if seen != "done" {
						t.Errorf("%s start: nothing moved during it", start)
					}
					if t.Failed() {
						t.Fatalf("in %s start", start)
					}
				}
			})
		})
	}
}
