//go:build linux

package watch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
)

// scanPast remembers what was scanned.
type scanPast struct {
	note []byte
	told []pastItem
}

func (p *scanPast) LoadTree(_ context.Context, _ notify.FileID, each PastEntry) ([]byte, notify.BatchNumber, error) {
	if p.note == nil {
		return nil, 0, &notify.Error{Op: "scanPast.LoadTree", Kind: notify.NotFound}
	}
	for i := range p.told {
		if e := &p.told[i]; each(e.dir, e.name, e.id, &e.attr) != nil {
			return nil, 0, &notify.Error{Op: "scanPast.LoadTree", Kind: notify.Corrupt}
		}
	}
	return p.note, 1, nil
}

func (p *scanPast) ResetTree(_ context.Context, _ notify.FileID, note []byte, walk func(add PastEntry) error, _ ...notify.FileID) (notify.BatchNumber, error) {
	p.note = note
	return 1, walk(func(dir notify.FileID, name string, id notify.FileID, attr *notify.Attr) error {
		p.told = append(p.told, pastItem{dir, name, id, *attr})
		return nil
	})
}

func (p *scanPast) AmendTree(context.Context, notify.FileID, []byte, func(notify.FileID, *notify.Attr) bool) error {
	return nil
}

// watchSource is told what to watch.
type watchSource struct {
	quietSource
	watched map[ref]int
}

func (s *watchSource) Watch(r DirRef, _ Place) error {
	s.watched[r]++
	return nil
}

// restarted gives a watcher that remembers the tree of a directory, in which nothing was looked at yet: all is to be swept.
func restarted(t *testing.T, dir string) (*Watcher, *watchSource) {
	t.Helper()
	past, src := &scanPast{}, &watchSource{watched: make(map[ref]int)}
	var w *Watcher
	for range 2 {
		var err error
		if w, err = New(Config{Roots: []Root{{Dir: dir}}, Source: src, Sink: &memSink{}, Past: past}); err != nil {
			t.Fatal(err)
		}
		clear(src.watched)
		if err := w.scan(t.Context(), w.t.roots[0]); err != nil {
			t.Fatal(err)
		}
	}
	if !w.t.roots[0].restored {
		t.Fatal("it does not remember")
	}
	w.ask(true)
	return w, src
}

// A root that is remembered is away for a moment while it is swept: what could not be looked at then is, and is watched.
func TestRootAwayDuringTheSweepAfterARestart(t *testing.T) {
	base := t.TempDir()
	top := filepath.Join(base, "top")
	bash(t, base, "mkdir -p top/d/e; touch top/f top/d/g")
	w, _ := restarted(t, top)
	if err := os.Rename(top, filepath.Join(base, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	w.pass(w.next())
	if err := os.Rename(filepath.Join(base, "elsewhere"), top); err != nil {
		t.Fatal(err)
	}
	s := &w.t.s
	root := w.t.roots[0]
	goOn(t, w, "it is not swept", func() bool { return root.phase == notify.Live && w.sweep == nil && !w.sweepNext })
	for _, path := range []string{"", "d", "d/e"} {
		if s.dir(s.find(root.node, path)).flags&dirWatched == 0 {
			t.Errorf("%q is not watched", path)
		}
	}
}

// The same for a mount below it: it is gone and mounted again while the rest is still to be swept, and looks as before. Its watches went with the old one.
func TestMountedAgainDuringTheSweepAfterARestart(t *testing.T) {
	base := t.TempDir()
	bash(t, base, "mkdir -p top/m fs/e; touch fs/f")
	mount := func() {
		t.Helper()
		if err := unix.Mount(filepath.Join(base, "fs"), filepath.Join(base, "top/m"), "", unix.MS_BIND, ""); err != nil {
			t.Skip("mounting takes root: ", err)
		}
	}
	mount()
	t.Cleanup(func() { unix.Unmount(filepath.Join(base, "top/m"), unix.MNT_DETACH) })
	w, src := restarted(t, filepath.Join(base, "top"))
	s, root := &w.t.s, w.t.roots[0]
	w.checkRoots(t.Context()) // what is mounted is news at the start
	w.pass(w.next())
	m := s.find(root.node, "m")
	e := s.find(m, "e")
	if root.phase != notify.Indexing || src.watched[m] == 0 || src.watched[e] == 0 {
		t.Fatalf("the root is %v, watched are %v", root.phase, src.watched)
	}
	if err := unix.Unmount(filepath.Join(base, "top/m"), 0); err != nil {
		t.Fatal(err)
	}
	mount()
	clear(src.watched)
	w.restAfter = time.Now().Add(time.Hour) // something is left of the sweep
	w.checkRoots(t.Context())
	w.pass(w.next()) // it is looked at
	w.checkRoots(t.Context())
	w.restAfter = time.Time{}
	goOn(t, w, "it is not watched anew", func() bool { return src.watched[m] > 0 && src.watched[e] > 0 })
}

// In a storm there come more directories than a sweep has begun with, faster than it lists them. They were listed as they came, so it does not list them again.
func TestSweepLeavesOutWhatCameSinceItBegan(t *testing.T) {
	dir := t.TempDir()
	bash(t, dir, "mkdir -p d/e")
	w, src := restarted(t, dir)
	bash(t, dir, "for i in {1..200}; do mkdir -p d/n/$i; done")
	w.pass(w.next()) // all that is remembered is listed, and what is new
	if r := w.t.s.find(w.t.roots[0].node, "d/n/200"); r == 0 || src.watched[r] != 1 || w.sweep.ending {
		t.Fatal("what is new was not watched, or the sweep was not under way")
	}
	step := newDirt()
	if w.sweepStep(step, 0); len(step.lists) > 0 || !w.sweep.ending {
		t.Errorf("%d directories are listed again, up to %d of %d", len(step.lists), w.sweep.next, w.t.s.dirs.n)
	}
}

// pasts remembers several roots.
type pasts map[notify.FileID]*scanPast

func (p pasts) of(root notify.FileID) *scanPast {
	if p[root] == nil {
		p[root] = &scanPast{}
	}
	return p[root]
}

func (p pasts) LoadTree(ctx context.Context, root notify.FileID, each PastEntry) ([]byte, notify.BatchNumber, error) {
	return p.of(root).LoadTree(ctx, root, each)
}

func (p pasts) ResetTree(ctx context.Context, root notify.FileID, note []byte, walk func(add PastEntry) error, instead ...notify.FileID) (notify.BatchNumber, error) {
	return p.of(root).ResetTree(ctx, root, note, walk, instead...)
}

func (p pasts) AmendTree(context.Context, notify.FileID, []byte, func(notify.FileID, *notify.Attr) bool) error {
	return nil
}

// A root that is remembered is not there at the start, and comes while the others are swept: it is not live before it was swept as well.
func TestRootComesDuringTheSweepAfterARestart(t *testing.T) {
	base := t.TempDir()
	bash(t, base, "mkdir -p a/{1..200} b/d")
	past, src := pasts{}, &watchSource{watched: make(map[ref]int)}
	var w *Watcher
	for start := range 2 {
		var err error
		if w, err = New(Config{Roots: []Root{{Dir: base + "/a"}, {Dir: base + "/b"}}, Source: src, Sink: &memSink{}, Past: past}); err != nil {
			t.Fatal(err)
		}
		if start > 0 {
			bash(t, base, "mv b elsewhere")
		}
		for _, ri := range w.t.roots {
			w.scan(t.Context(), ri)
		}
	}
	w.ask(true)
	w.pass(w.next())
	bash(t, base, "mv elsewhere b; touch b/d/f")
	a, b := w.t.roots[0], w.t.roots[1]
	goOn(t, w, "they are not live", func() bool {
		if b.phase == notify.Live && w.t.s.find(b.node, "d/f") == 0 {
			t.Fatal("it is live, and was not swept")
		}
		return a.phase == notify.Live && b.phase == notify.Live
	})
}

// How far a start is that sweeps what it remembers is told, as that of a first scan is.
func TestProgressOfASweepAfterARestart(t *testing.T) {
	dir := t.TempDir()
	bash(t, dir, "mkdir {1..200}")
	w, _ := restarted(t, dir)
	var got []float64
	for step := 0; w.t.roots[0].phase == notify.Indexing && step < 10; step++ {
		w.pass(w.next())
		got = append(got, w.States()[0].Progress)
	}
	if len(got) < 4 || !slices.IsSorted(got) || got[0] <= 0.2 || got[0] >= 0.5 || got[len(got)-1] != 1 {
		t.Errorf("progress was %v, want it to rise from a third to 1", got)
	}
}

// A start under load: a pass has thousands of names to look at, and takes long. The sweep gets a part of it, not some directories.
func TestSweepAfterARestartKeepsPaceWithTheLoad(t *testing.T) {
	dir := t.TempDir()
	bash(t, dir, "mkdir {1..900}")
	for _, tt := range []struct{ names, want int }{{10, sweepDirs}, {4000, 4000 / sweepShare}} {
		w, _ := restarted(t, dir)
		recs := make([]Record, tt.names)
		for i := range recs {
			recs[i] = Record{Dir: w.t.roots[0].node, Name: fmt.Append(nil, "gone", i), Op: OpCreate}
		}
		w.in.put(recs)
		if d := w.next(); len(d.lists) > tt.want || len(d.lists) < tt.want-900/64 { // a directory with many names counts for more
			t.Errorf("beside %d names %d directories are listed, want %d", tt.names, len(d.lists), tt.want)
		}
	}
}
