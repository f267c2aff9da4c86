//go:build linux

package watch_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fs_notify/watch/watchtest"
)

// believer is a watcher by fanotify that believes all it can, behind a gate.
func believer(t *testing.T, dir string) (*watchtest.Rig, *watchtest.Gate) {
	t.Helper()
	needObjects(t)
	r, g := gated(t, "fanotify", dir, believing)
	r.Keep()
	return r, g
}

// Files that are renamed and removed in a storm cost no look, and are told as they would be by looks.
func TestBelievingLeavesLooksOut(t *testing.T) {
	dir := t.TempDir()
	sh(t, dir, "mkdir a b; for i in $(seq 300); do echo $i > a/$i; done")
	r, g := believer(t, dir)
	before := r.Stats().Looks
	g.Hold(0, 0)
	sh(t, dir, "for i in $(seq 100); do mv a/$i a/x$i; done; for i in $(seq 101 200); do mv a/$i b/$i; done; rm a/2??; rm a/300")
	r.Sync(t)
	if n := r.Stats().Looks - before; n > 10 {
		t.Errorf("%d looks for what the records say", n)
	}
	told := make(map[string]int)
	for _, s := range types(r) {
		told[strings.Fields(s)[0]]++
	}
	if told["child_file_moved_from"] != 200 || told["child_file_moved_to"] != 200 || told["child_file_removed"] != 100 {
		t.Errorf("told %v", told)
	}
	r.Settle(t) // and then all that came is looked at
	if n := r.Stats().Looks - before; n < 200 || n > 210 {
		t.Errorf("%d looks at 200 files of which all was believed", n)
	}
	if s := types(r); slices.ContainsFunc(s, func(s string) bool { return !strings.HasPrefix(s, "child_mtime_changed") }) {
		t.Errorf("told when it was looked at: %q", s)
	}
	r.Check(t)
}

// The kernel merges the third of these renames with the first, which nobody has read: the records end with the second. Who believes them is put
// right when the directories are at rest, whatever the watcher has seen together.
func TestBelievingAMergedRecord(t *testing.T) {
	for _, piece := range []int{1, 2, 3, 0} {
		t.Run(fmt.Sprint(piece), func(t *testing.T) {
			dir := t.TempDir()
			sh(t, dir, "mkdir a b; echo 1 > a/x; echo 22 > b/p; echo 333 > b/q")
			r, g := believer(t, dir)
			listen := g.Stall()
			g.Hold(piece, 0)
			rename := func(from, to string) {
				if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
					t.Fatal(err)
				}
			}
			rename("a/x", "b/y")
			rename("b/y", "a/x")
			rename("a/x", "b/y")
			for range 3 { // two files change places: each has its names as before, in the end
				rename("b/p", "b/t")
				rename("b/q", "b/p")
				rename("b/t", "b/q")
			}
			listen()
			r.Settle(t)
			r.Check(t)
			if r.Mirror.Listing()["b/y"] == 0 {
				t.Errorf("b/y is not there: %v", r.Mirror.Listing())
			}
		})
	}
}

// The kernel merges what one process does across what another one does: the record that says that a file came back to its name is before the one that
// says it was removed, and who looked in between saw it there.
func TestBelievingAStaleRemoval(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "in")
	sh(t, top, "mkdir -p in/d out; echo hello > in/d/x")
	r, g := believer(t, dir)
	listen := g.Stall()
	sh(t, dir, "touch wake") // the source reads up to here
	time.Sleep(20 * time.Millisecond)
	g.Hold(1, 20*time.Millisecond)
	x, z := filepath.Join(dir, "d/x"), filepath.Join(top, "out/z")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Chmod(x, 0o600))
	must(os.Link(x, z)) // where nobody watches
	sh(t, dir, "rm d/x")
	must(os.Link(z, x))
	must(os.Remove(z))
	listen()
	r.Settle(t)
	r.Check(t)
}

// In the middle of a storm, a rename leaves something behind of which no record speaks.
func TestBelievingAWhiteout(t *testing.T) {
	dir := t.TempDir()
	sh(t, dir, "mkdir a b; touch a/{1..50}")
	r, g := believer(t, dir)
	g.Hold(0, 0)
	for i := range 50 {
		from, to := fmt.Sprintf("%s/a/%d", dir, i+1), fmt.Sprintf("%s/b/%d", dir, i+1)
		if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_WHITEOUT); errors.Is(err, unix.EINVAL) {
			t.Skip("this file system knows no whiteouts")
		} else if err != nil {
			t.Fatal(err)
		}
	}
	r.Settle(t)
	r.Check(t)
	if entries, _ := os.ReadDir(filepath.Join(dir, "a")); len(entries) != 50 {
		t.Errorf("%d whiteouts on the disk", len(entries))
	}
}

// Nobody looked at a file where it was moved to before the service ended, and what it remembers of extended attributes is not complete: that its
// change time is not known does not mean that they have changed.
func TestBelievingOverARestart(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	sh(t, dir, "mkdir a b")
	needObjects(t)
	start := func() (*watchtest.Rig, *keeper, func()) {
		return remembering(t, "fanotify", dir, state, believing, forgetting)
	}
	r, kept, stop := start()
	sh(t, dir, "touch a/1 a/2; setfattr -n user.a -v 1 a/2; echo 3 > a/3")
	r.Sync(t)
	sh(t, dir, "mv a/1 b/1; mv a/2 a/two; mv a/3 b/3")
	r.Sync(t)
	if got := toldOf(kept.take(), "b/1", "a/two", "b/3"); len(got) != 3 {
		t.Errorf("before: %q", got)
	}
	stop()
	r, kept, stop = start()
	r.Settle(t)
	if got := toldOf(kept.take(), "b/1", "a/two", "b/3"); len(got) != 0 {
		t.Errorf("nothing has changed, and this was told: %q", got)
	}
	stop()
	sh(t, dir, "echo 33 > b/3; setfattr -n user.a -v 2 a/two")
	r, kept, stop = start()
	r.Settle(t)
	if got := toldOf(kept.take(), "b/1", "a/two", "b/3"); len(got) != 4 {
		t.Errorf("meanwhile: %q", got)
	}
	r.Check(t)
	stop()
}
