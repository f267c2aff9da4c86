//go:build linux

package watch_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
	"fs_notify/watch"
)

// lines are the notifications of all roots, with the last part of the root's name before the path.
type lines struct {
	mu sync.Mutex
	counter
	names map[notify.FileID]string
	told  []string
}

func (l *lines) Append(ctx context.Context, root notify.FileID, notes []notify.Notification) (notify.BatchNumber, error) {
	l.mu.Lock()
	for i := range notes {
		l.told = append(l.told, notes[i].Type.String()+" "+l.names[root]+"/"+notes[i].Path)
	}
	l.mu.Unlock()
	return l.counter.Append(ctx, root, notes)
}

// take gives what was told since the last time.
func (l *lines) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.told)
	s := strings.Join(l.told, "\n")
	l.told = nil
	return s
}

// twoRoots watches a and b in a directory, and gives what has a script run there and checks that some lines are told of it.
func twoRoots(t *testing.T, kind, top string) (w *watch.Watcher, step func(script string, want ...string)) {
	t.Helper()
	src, err := watch.NewSource(kind, watch.SourceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	l := &lines{names: make(map[notify.FileID]string)}
	w, err = watch.New(watch.Config{Roots: []watch.Root{{Name: "/a", Dir: filepath.Join(top, "a")}, {Name: "/b", Dir: filepath.Join(top, "b")}}, Source: src, Sink: l})
	if err != nil {
		t.Fatal(err)
	}
	runs(t, w)
	l.mu.Lock()
	for _, r := range w.Roots() {
		l.names[r.ID] = strings.TrimPrefix(r.Name, "/")
	}
	l.mu.Unlock()
	return w, func(script string, want ...string) {
		t.Helper()
		sh(t, top, script)
		if err := w.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := l.take()
		for _, line := range want {
			if !slices.Contains(strings.Split(got, "\n"), line) {
				t.Errorf("%s: %q was not told, but\n%s", script, line, got)
			}
		}
	}
}

// What goes from one root to another has left the one and come to the other, each in its own batches: it has another ID there.
func TestFromOneRootToAnother(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		top := t.TempDir()
		sh(t, top, "mkdir a b")
		w, step := twoRoots(t, kind, top)
		left, came := "moved_from", "moved_to"
		if kind == "poll" {
			left, came = "removed", "added"
		}
		step("echo hello > a/f; mkdir a/d; echo hello > a/d/g", "child_file_added a/f")
		step("mv a/f b/f", "child_file_"+left+" a/f", "child_file_"+came+" b/f")
		step("mv a/d b/d", "child_dir_"+left+" a/d", "child_dir_"+came+" b/d")
		step("echo more >> b/f; rm b/d/g", "child_size_changed b/f", "child_file_removed b/d/g")
		step("mv b/f a/f", "child_file_"+left+" b/f", "child_file_"+came+" a/f")
		step("ln a/f b/g", "child_file_added b/g")
		want := []string{"child_size_changed b/g", "child_size_changed a/f"}
		if kind == "inotify" || kind == "fsnotify" {
			want = want[1:] // it does not say which object a record is about
		}
		step("echo more >> a/f", want...)
		a, errA := w.LookupPath(t.Context(), "/a/f")
		b, errB := w.LookupPath(t.Context(), "/b/g")
		if errA != nil || errB != nil || a.ID() == b.ID() {
			t.Errorf("one ID for both roots: %v %v, %v %v", a.ID(), b.ID(), errA, errB)
		}
	})
}

// A directory is in two roots at the same time, and each of them tells all that happens in it; also when it has left one of them.
func TestOneDirectoryInTwoRoots(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		top := t.TempDir()
		sh(t, top, "mkdir -p a/x/d b")
		if err := unix.Mount(filepath.Join(top, "a/x"), filepath.Join(top, "b"), "", unix.MS_BIND, ""); err != nil {
			t.Skip(err)
		}
		t.Cleanup(func() { unix.Unmount(filepath.Join(top, "b"), unix.MNT_DETACH) })
		_, step := twoRoots(t, kind, top)
		step("touch a/x/1 b/d/2", "child_file_added a/x/1", "child_file_added a/x/d/2", "child_file_added b/1", "child_file_added b/d/2")
		step("mv b/1 b/d/1", "child_file_moved_from a/x/1", "child_file_moved_to a/x/d/1", "child_file_moved_from b/1", "child_file_moved_to b/d/1")
		step("mkdir b/e; touch a/x/e/3", "child_dir_added a/x/e", "child_file_added a/x/e/3", "child_dir_added b/e", "child_file_added b/e/3")
		step("umount b; touch a/x/d/4 a/x/e/5", "child_file_added a/x/d/4", "child_file_added a/x/e/5")
	})
}

// A directory goes to another root and comes back again and again, however far either is with looking.
func TestToAnotherRootAndBack(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		top := t.TempDir()
		sh(t, top, "mkdir -p a/d/e b; touch a/d/f")
		_, step := twoRoots(t, kind, top)
		for i := range 10 {
			step("for i in $(seq 7); do mv a/d b/d; mv b/d a/d; done")
			file := fmt.Sprint(i)
			step("touch a/d/"+file+" a/d/e/"+file, "child_file_added a/d/"+file, "child_file_added a/d/e/"+file)
		}
	})
}
