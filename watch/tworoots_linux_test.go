//go:build linux

package watch_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

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

// What goes from one root to another has left the one and come to the other, each in its own batches: it has another ID there.
func TestFromOneRootToAnother(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		top := t.TempDir()
		sh(t, top, "mkdir a b")
		src, err := watch.NewSource(kind, watch.SourceOptions{})
		if err != nil {
			t.Fatal(err)
		}
		l := &lines{names: make(map[notify.FileID]string)}
		w, err := watch.New(watch.Config{Roots: []watch.Root{{Name: "/a", Dir: filepath.Join(top, "a")}, {Name: "/b", Dir: filepath.Join(top, "b")}}, Source: src, Sink: l})
		if err != nil {
			t.Fatal(err)
		}
		runs(t, w)
		l.mu.Lock()
		for _, r := range w.Roots() {
			l.names[r.ID] = strings.TrimPrefix(r.Name, "/")
		}
		l.mu.Unlock()
		step := func(script string, want ...string) {
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
