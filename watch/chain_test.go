package watch_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fs_notify/notify"
	"fs_notify/watch"
	"fs_notify/watch/watchtest"
)

// A file, and a directory with something in it, are renamed faster than anyone can look: wherever the records say that they went, they are
// no longer. They are told as moved all the same, and never as gone or come.
func TestRenamedFasterThanLooks(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		for _, tt := range []struct {
			piece int
			pause time.Duration
		}{{1, time.Millisecond}, {2, 10 * time.Millisecond}, {3, 5 * time.Millisecond}, {1, 25 * time.Millisecond}, {7, 200 * time.Millisecond}} {
			dir := t.TempDir()
			sh(t, dir, "mkdir d e d/0; echo 1 > 0; echo 2 > d/0/f")
			r, g := gated(t, kind, dir)
			r.Keep()
			g.Hold(tt.piece, tt.pause)
			const n = 30
			for i := range n {
				moves := [][2]string{{fmt.Sprint(i), fmt.Sprint(i + 1)}, {fmt.Sprint([]string{"d/", "e/"}[i%2], i), fmt.Sprint([]string{"e/", "d/"}[i%2], i+1)}}
				if kind == "fsnotify" {
					moves = moves[:1] // its watch of a directory ends with each rename: that one is told after a new look
				}
				for _, move := range moves {
					if err := os.Rename(filepath.Join(dir, move[0]), filepath.Join(dir, move[1])); err != nil {
						t.Fatal(err)
					}
				}
			}
			r.Settle(t)
			r.Check(t)
			onlyMoves(t, r)
			r.Stop()
		}
	})
}

// onlyMoves fails the test if anything but whole renames and times of directories was told.
func onlyMoves(t *testing.T, r *watchtest.Rig) {
	t.Helper()
	for _, n := range r.Take() {
		switch n.Type {
		case notify.ChildMtimeChanged:
			continue
		case notify.ChildFileMovedFrom, notify.ChildFileMovedTo, notify.ChildDirMovedFrom, notify.ChildDirMovedTo:
			if n.Link != 0 {
				continue
			}
		}
		t.Errorf("%s %s, linked to %d", n.Type, strings.TrimSpace(n.Path), n.Link)
	}
}

// The same, through a name that is used again and again: back and forth, and on to a new name each time. A look may see a file under both names or under
// neither, and be ahead of any number of records.
func TestRenamedThroughOneName(t *testing.T) {
	start := func(t *testing.T, kind string) (r *watchtest.Rig, g *watchtest.Gate, round func(n int)) {
		dir := t.TempDir()
		sh(t, dir, "echo 1 > f; echo 22 > g0")
		r, g = gated(t, kind, dir)
		r.Keep()
		return r, g, func(n int) {
			for _, move := range [][2]string{{"f", "tmp"}, {fmt.Sprint("g", n), "on"}, {"tmp", "f"}, {"on", fmt.Sprint("g", n+1)}} {
				if err := os.Rename(filepath.Join(dir, move[0]), filepath.Join(dir, move[1])); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	check := func(t *testing.T, r *watchtest.Rig) {
		r.Settle(t)
		r.Check(t)
		onlyMoves(t, r)
		r.Stop()
	}
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		for _, tt := range []struct {
			piece int
			pause time.Duration
		}{{1, time.Millisecond}, {2, 10 * time.Millisecond}, {3, 5 * time.Millisecond}, {1, 25 * time.Millisecond}, {7, 200 * time.Millisecond}, {5, time.Millisecond}} {
			r, g, round := start(t, kind)
			g.Hold(tt.piece, tt.pause)
			for i := range 40 {
				round(i)
			}
			check(t, r)
		}
	})
	t.Run("for a while", func(t *testing.T) { // only fanotify says which file each record is about
		r, _, round := start(t, "fanotify")
		n := 0
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); n++ {
			round(n)
		}
		check(t, r)
		t.Log(n, "rounds")
	})
}

// A directory comes from outside, gets a file and is renamed, all before anyone looks at its first name: it is told as what it is, one that has come from outside.
func TestMovedInAndRenamedAtOnce(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		if kind == "fsnotify" || kind == "poll" {
			t.Skip("it does not say that something came by a rename from outside")
		}
		t.Parallel()
		for _, tt := range []struct {
			piece int
			pause time.Duration
		}{{1, time.Millisecond}, {1, 5 * time.Millisecond}, {1, 30 * time.Millisecond}, {2, 10 * time.Millisecond}} {
			top := t.TempDir()
			dir := filepath.Join(top, "root")
			sh(t, top, "mkdir root; mkdir -p d/sub; echo 1 > f")
			r, g := gated(t, kind, dir)
			r.Keep()
			g.Hold(tt.piece, tt.pause)
			for from, to := range map[string]string{"../d": "d1", "../f": "f1"} {
				err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to))
				if err == nil && to == "d1" {
					err = os.WriteFile(filepath.Join(dir, "d1/new"), []byte("x"), 0o644)
				}
				if err == nil {
					err = os.Rename(filepath.Join(dir, to), filepath.Join(dir, to[:1]+"2"))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			r.Settle(t)
			r.Check(t)
			got := map[string]bool{}
			for _, n := range r.Take() {
				got[n.Type.String()+" "+n.Path] = true
			}
			for _, want := range []string{"child_dir_moved_to d2", "child_file_moved_to f2", "child_file_added d2/new", "child_dir_added d2/sub"} {
				if !got[want] {
					t.Errorf("%d records every %s: %q is not told, but %v", tt.piece, tt.pause, want, slices.Sorted(maps.Keys(got)))
				}
			}
			r.Stop()
		}
	})
}

// What is renamed from a name that is excluded to one that is not comes from outside, for those who are told.
func TestRenamedIntoSight(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		if kind == "fsnotify" || kind == "poll" {
			t.Skip("it does not say that something came by a rename from outside")
		}
		dir := t.TempDir()
		sh(t, dir, "mkdir -p .git/x d; echo 1 > d/a.o; echo 2 > .git/f; echo 3 > c")
		r := watchtest.Start(t, kind, dir, func(c *watch.Config) { c.Exclude = []string{"**/*.o", ".git", ".git/**"} })
		for _, step := range [][2]string{
			{"mv d/a.o c", "child_file_removed c, child_file_moved_to c"},
			{"mv .git git", "child_dir_moved_to git, child_dir_added git/x, child_file_added git/f, child_data_written git/f, child_size_changed git/f"},
			{"mv git/f d/b.o", "child_file_moved_from git/f"},
			{"mv d/b.o d/b", "child_file_moved_to d/b"},
		} {
			r.Keep()
			sh(t, dir, step[0])
			r.Settle(t)
			var got []string
			for _, n := range r.Take() {
				if n.Type != notify.ChildMtimeChanged {
					got = append(got, n.Type.String()+" "+n.Path)
				}
			}
			want := strings.Split(step[1], ", ")
			if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
				t.Errorf("%s: told %v, want %v", step[0], got, want)
			}
		}
	})
}

// A file goes out and comes back by the same name, again and again. What is kept of the records, as another one may belong to them, does not add up.
func TestOutAndInByOneName(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		const n = 1000
		top := t.TempDir()
		dir := filepath.Join(top, "root")
		sh(t, top, "mkdir root; echo 1 > f")
		r := watchtest.Start(t, kind, dir)
		for range n {
			for _, move := range [][2]string{{"../f", "f"}, {"f", "../f"}} {
				if err := os.Rename(filepath.Join(dir, move[0]), filepath.Join(dir, move[1])); err != nil {
					t.Fatal(err)
				}
			}
		}
		before := r.Stats().Looks
		r.Settle(t)
		r.Check(t)
		if looks := r.Stats().Looks - before; looks > n/10 {
			t.Errorf("%d looks after the last change", looks)
		}
	})
}

// A file is closed by one of its names and has lost the other one when somebody looks, but the record of that is still to come: it was closed once.
func TestClosedOnceWhoeverWaits(t *testing.T) {
	for _, kind := range []string{"fanotify", "inotify"} { // the others do not see closes
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			const n = 10
			dir := t.TempDir()
			sh(t, dir, fmt.Sprintf("for i in $(seq %d); do echo > f$i; ln f$i g$i; done", n))
			r, g := gated(t, kind, dir)
			r.Keep()
			g.Hold(1, 5*time.Millisecond)
			sh(t, dir, fmt.Sprintf("for i in $(seq %d); do echo >> g$i; rm f$i; done", n))
			r.Check(t)
			closed := make(map[string]int)
			for _, note := range r.Take() {
				if note.Type == notify.ChildFileClosed {
					closed[note.Path]++
				}
			}
			for i := range n {
				if name := fmt.Sprint("g", i+1); closed[name] != 1 {
					t.Errorf("%s was closed %d times", name, closed[name])
				}
			}
		})
	}
}
