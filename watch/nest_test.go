package watch_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fs_notify/watch"
	"fs_notify/watch/watchtest"
)

// What changes places with what is above it or in it: each stands in the way of the other. However much of it the watcher
// sees in one look.
func TestWhatChangesPlaces(t *testing.T) {
	const tree = "mkdir -p b/b/c/d b/e x; touch a b/f b/b/f b/b/c/f"
	for _, script := range []string{
		"mv b/b tmp; mv b tmp/b; mv tmp b",
		"mv b/b tmp; mv tmp/c tmp2; mv b tmp2/b; mv tmp tmp2/b/c; mv tmp2 b",
		"mv b/b tmp; rm -r b; mv tmp b",
		"mv b/b tmp; rm -r b; mkdir b; mv tmp b/c", // it goes into the one that took the place of where it was
		"mv b/b/c tmp; mv b tmp/b; mv tmp b",
		"mv b/b tmp; mv b tmp/b; mv tmp b; mv b/b t; mv b t/c; mv t b",
		"mv b t; mkdir b; mv t/b b/b; mv t b/b/c",                                      // what is in it goes next to it
		"mv b t; mkdir -p b/c; mv t b/c/b",                                             // into the new one under its own name
		"mv x t; mv a u; mkdir -p a/c; mv u a/c/b; mv t a/b",                           // and another one comes there before it
		"mv a t; mkdir a; mv t a/a; mv x t; mkdir x; mv t x/x; mv a t; mv x a; mv t x", // both, and the new ones swap
		"mv b/b/c t; mv b/b t/b; mv b t/b/b; mv t b",                                   // inside out
		"mv b/e t; mv b/b u; mv b t/b; mv t u/t; mv u b",
		"chmod 700 b/b; mv b/b/c t; rm -r b/b; mv b t/o; mv t b", // what is removed lay in what makes room for what was in it
	} {
		t.Run(script, func(t *testing.T) {
			eachSource(t, func(t *testing.T, kind string) {
				t.Parallel()
				for _, mode := range []string{"live", "once", "lost"} {
					dir := t.TempDir()
					sh(t, dir, tree)
					r, g := gated(t, kind, dir)
					shut(g, mode)
					sh(t, dir, script)
					r.Check(t)
					r.Stop()
				}
			})
		})
	}
}

// gated starts a watcher with a gate before its source.
func gated(t *testing.T, kind, dir string, options ...func(*watch.Config)) (r *watchtest.Rig, g *watchtest.Gate) {
	t.Helper()
	r = watchtest.Start(t, kind, dir, append(options, func(c *watch.Config) {
		g = watchtest.NewGate(c.Source)
		c.Source = g
	})...)
	return r, g
}

// shut shuts a gate so that the watcher looks while things happen, once when everything has, or once at everything.
func shut(g *watchtest.Gate, mode string) {
	switch mode {
	case "once":
		g.Hold(0, 0)
	case "lost":
		g.Lose()
	}
}

// A directory is replaced by one that was in it, and thousands of others go with the old one. Then thousands of names
// change in a circle. Either is more than goes into one batch, while the halves of a rename have to be in one.
func TestMoreThanABatchBetweenTheHalvesOfARename(t *testing.T) {
	for _, mode := range []string{"once", "lost"} {
		t.Run(mode, func(t *testing.T) {
			dir := t.TempDir()
			at := func(format string, args ...any) string { return filepath.Join(dir, fmt.Sprintf(format, args...)) }
			must := func(err error) {
				if err != nil {
					t.Fatal(err)
				}
			}
			const n = 2100
			for _, d := range []string{"a/a/b", "a/c", "c"} {
				must(os.MkdirAll(at("%s", d), 0o755))
			}
			for i := range n {
				must(os.WriteFile(at("a/c/%d", i), nil, 0o644))
				must(os.Mkdir(at("c/%d", i), 0o755))
				must(os.WriteFile(at("c/%d/f", i), []byte("x"), 0o644))
			}
			r, g := gated(t, "inotify", dir)
			shut(g, mode)
			must(os.Rename(at("a/a"), at("t")))
			must(os.RemoveAll(at("a")))
			must(os.Rename(at("t"), at("a")))
			r.Check(t)
			shut(g, mode)
			must(os.Rename(at("c/0"), at("t")))
			for i := 1; i < n; i++ {
				must(os.Rename(at("c/%d", i), at("c/%d", i-1)))
			}
			must(os.Rename(at("t"), at("c/%d", n-1)))
			r.Check(t)
		})
	}
}

// Looks that are ahead of the records: thousands of names wait for the one that says how they went, while the records before
// it come in little by little. They are not looked at again each time.
func TestNamesThatWaitAreLeftAlone(t *testing.T) {
	const n = 2000
	dir := t.TempDir()
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, g := gated(t, "inotify", dir)
	g.Hold(20, time.Millisecond)
	sh(t, dir, "for i in *; do echo >> $i; done; rm *")
	before := r.Stats().Looks
	r.Check(t)
	if looks := r.Stats().Looks - before; looks > 5*n {
		t.Errorf("%d names were looked at %d times", n, looks)
	}
}
