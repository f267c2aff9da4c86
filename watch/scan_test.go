//go:build linux

package watch_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fs_notify/notify"
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

// between is for an ambush: it does f when one of the directories a and b in dir was listed, from, and the other is about to be
// watched, to.
func between(done *bool, dir string, f func(from, to string)) func(path string) {
	first := ""
	return func(path string) {
		switch name, _ := filepath.Rel(dir, path); {
		case name != "a" && name != "b" || *done:
		case first == "":
			first = name
		default:
			time.Sleep(20 * time.Millisecond) // the other one is listed by now
			f(first, name)
			time.Sleep(20 * time.Millisecond) // the reader is ahead of the looks
			*done = true
		}
	}
}

func names(from, to, script string) string {
	return strings.NewReplacer("FROM", from, "TO", to).Replace(script)
}

// sameSizes compares what the tree says of files with the disk.
func sameSizes(t *testing.T, r *watchtest.Rig) {
	t.Helper()
	for _, e := range r.Snap(t).Entries {
		if st, err := os.Lstat(filepath.Join(r.Dir, e.Path)); err == nil && st.Mode().IsRegular() && st.Size() != e.Attr.Size {
			t.Errorf("%s was told with %d bytes and has %d", e.Path, e.Attr.Size, st.Size())
		}
	}
}

// What moves while directories are watched one by one, from one that was listed to one that is not watched yet: of its new name
// there is no record. On the first start, and on another one that compares the disk with what is remembered.
func TestMovesDuringTheStart(t *testing.T) {
	// In both a and b, since nobody knows which of them is listed first.
	const tree = "for d in a b; do mkdir -p $d/x/y/z; touch $d/f $d/g $d/x/f $d/x/y/g; ln $d/g $d/h; done; echo one > a/k; ln a/k b/k"
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
		"echo two >> TO/k", // there is no record of it, and it is FROM/k too
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
						entries := r.Snap(t).Entries
						r.Stop()
						past.entries = entries
					}
					done := false
					r := watchtest.Start(t, kind, dir, alone(kind), func(c *watch.Config) {
						c.Past = past
						c.Source = &ambush{c.Source, between(&done, dir, func(from, to string) { sh(t, dir, names(from, to, script)) })}
					})
					r.Check(t)
					sameSizes(t, r)
					r.Stop()
					if !done {
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

// A file with two names in a directory that comes changes between the looks at them, by the name that is not watched yet.
func TestNamesThatAreFoundAtOnceAgree(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		dir, out := t.TempDir(), t.TempDir()
		sh(t, out, "mkdir -p d/a d/b; echo one > d/a/k; ln d/a/k d/b/k")
		done := false
		r := watchtest.Start(t, kind, dir, alone(kind), func(c *watch.Config) {
			c.Source = &ambush{c.Source, between(&done, dir+"/d", func(_, to string) { sh(t, dir, "echo two >> d/"+to+"/k") })}
		})
		sh(t, out, "mv d "+dir)
		r.Check(t)
		sameSizes(t, r)
		if r.Stop(); !done {
			t.Error("nothing changed between the looks")
		}
	})
}

// A file is found under its first name, gets another one, is written to, and loses the first one before it is found under the second: no look
// has seen two names. What is told of its size by the first one is what it has in the end.
func TestNameThatIsFoundWhenTheFirstHasGone(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		dir, out := t.TempDir(), t.TempDir()
		sh(t, out, "mkdir -p d/a d/b; echo one > d/a/k; echo one > d/b/k")
		done := false
		r := watchtest.Start(t, kind, dir, alone(kind), func(c *watch.Config) {
			c.Source = &ambush{c.Source, between(&done, dir+"/d", func(from, to string) {
				sh(t, dir, names(from, to, "cd d; ln -f FROM/k TO/k; echo two >> TO/k; rm FROM/k"))
			})}
		})
		r.Keep()
		sh(t, out, "mv d "+dir)
		r.Sync(t) // it is all done by now
		r.Check(t)
		sizes := make(map[notify.FileID]int64)
		for _, n := range r.Take() {
			if n.Type == notify.ChildSizeChanged {
				sizes[n.ID()] = n.Attr.Size
			}
		}
		for _, e := range r.Snap(t).Entries {
			if size, ok := sizes[e.ID()]; ok && size != e.Attr.Size {
				t.Errorf("%s was told with %d bytes and has %d", e.Path, size, e.Attr.Size)
			}
		}
		if len(sizes) == 0 {
			t.Error("no size was told")
		}
		if r.Stop(); !done {
			t.Error("nothing changed between the looks")
		}
	})
}
