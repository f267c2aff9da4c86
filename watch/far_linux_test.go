package watch_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
	"fs_notify/watch"
)

// farAndNear makes a watcher of the roots a, on this machine, and b.
func farAndNear(t *testing.T, a, b string) (*watch.Watcher, *lines) {
	t.Helper()
	src, err := watch.NewSource("auto", watch.SourceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	l := &lines{names: make(map[notify.FileID]string)}
	w, err := watch.New(watch.Config{Roots: []watch.Root{{Name: "/a", Dir: a}, {Name: "/b", Dir: b}}, Source: src, Sink: l, PollInterval: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return w, l
}

// wantFile waits until a file is told of, or is not any more.
func wantFile(t *testing.T, w *watch.Watcher, path string, there bool) {
	t.Helper()
	eventually(t, func() string {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		root := w.Roots()[slices.IndexFunc(w.Roots(), func(r notify.RootState) bool { return strings.HasPrefix(path, r.Name+"/") })]
		s, err := w.Snapshot(ctx, root.ID, true)
		if err != nil {
			return err.Error()
		}
		if slices.ContainsFunc(s.Entries, func(e notify.Entry) bool { return root.Name+"/"+e.Path == path }) != there {
			return fmt.Sprintf("%s is there: %v", path, !there)
		}
		return ""
	})
}

// wantRoot waits until a root is in a phase, and has degraded directories because its file system is silent, or has none.
func wantRoot(t *testing.T, w *watch.Watcher, i int, phase notify.RootPhase, silent bool) {
	t.Helper()
	eventually(t, func() string {
		r := w.Roots()[i]
		so := slices.ContainsFunc(r.Degraded, func(d notify.Degraded) bool { return strings.Contains(d.Reason, "does not answer") })
		if r.Phase != phase || so != silent || r.DegradedCount > 0 != silent {
			return fmt.Sprintf("want %v, silent %v: %+v", phase, silent, r)
		}
		return ""
	})
}

// A file system that does not answer any more is degraded and not away, wherever in a look it stops; the other root goes on. When it answers again, what changed in
// it is told.
func TestSilentFileSystem(t *testing.T) {
	for name, op := range map[string]uint32{"between two looks": 0, "opened": fuseGetattr, "listed": fuseOpendir, "read": fuseReaddir, "looked at": fuseLookup} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			top := t.TempDir()
			sh(t, top, "mkdir a b; touch a/old")
			f := newFuse(t, filepath.Join(top, "b"), "old", "older")
			w, l := farAndNear(t, filepath.Join(top, "a"), filepath.Join(top, "b"))
			runs(t, w)
			f.add("new")
			wantFile(t, w, "/b/new", true)
			wantRoot(t, w, 1, notify.Live, false)
			l.take()
			for i := range 2 {
				f.stop(op)
				f.stopped()
				wantRoot(t, w, 1, notify.Live, true)
				sh(t, top, fmt.Sprintf("touch a/meanwhile%d", i))
				wantFile(t, w, fmt.Sprintf("/a/meanwhile%d", i), true)
				wantRoot(t, w, 0, notify.Live, false)
				f.answer()
				f.add(fmt.Sprint("later", i))
				wantFile(t, w, fmt.Sprintf("/b/later%d", i), true)
				wantRoot(t, w, 1, notify.Live, false)
			}
			f.remove("old")
			wantFile(t, w, "/b/old", false)
			if told := l.take(); strings.Contains(told, "self_") || strings.Count(told, "removed") != 1 {
				t.Errorf("told was\n%s", told)
			}
		})
	}
}

// So it is with one whose answer is an error that says nothing of what is there.
func TestFileSystemThatFails(t *testing.T) {
	for _, failure := range []unix.Errno{unix.EHOSTDOWN, unix.ETIMEDOUT, unix.EIO, unix.EPERM, unix.EREMOTEIO} {
		t.Run(unix.ErrnoName(failure), func(t *testing.T) {
			t.Parallel()
			top := t.TempDir()
			sh(t, top, "mkdir a b")
			f := newFuse(t, filepath.Join(top, "b"), "old")
			w, l := farAndNear(t, filepath.Join(top, "a"), filepath.Join(top, "b"))
			runs(t, w)
			wantFile(t, w, "/b/old", true)
			for i := range 2 {
				f.fail(failure)
				eventually(t, func() string {
					if r := w.Roots()[1]; r.Phase != notify.Live || r.DegradedCount == 0 {
						return fmt.Sprintf("want it live and degraded: %+v", r)
					}
					return ""
				})
				sh(t, top, fmt.Sprintf("touch a/meanwhile%d", i))
				wantFile(t, w, fmt.Sprintf("/a/meanwhile%d", i), true)
				f.fail(0)
				f.add(fmt.Sprint("later", i))
				wantFile(t, w, fmt.Sprintf("/b/later%d", i), true)
				wantRoot(t, w, 1, notify.Live, false)
			}
			if told := l.take(); strings.Contains(told, "self_") || strings.Contains(told, "removed") {
				t.Errorf("told was\n%s", told)
			}
		})
	}
}

// The same for one that is mounted below a root: only what lies there waits.
func TestSilentMountBelowARoot(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	sh(t, top, "mkdir -p a/d/m b")
	f := newFuse(t, filepath.Join(top, "a/d/m"), "old")
	w, l := farAndNear(t, filepath.Join(top, "a"), filepath.Join(top, "b"))
	runs(t, w)
	wantFile(t, w, "/a/d/m/old", true)
	f.stop(0)
	wantRoot(t, w, 0, notify.Live, true)
	sh(t, top, "touch a/d/n b/n; touch a/d")
	wantFile(t, w, "/a/d/n", true)
	wantFile(t, w, "/b/n", true)
	wantRoot(t, w, 1, notify.Live, false)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := w.LookupPath(ctx, "/a/d/m/unknown"); notify.KindOf(err) != notify.Unavailable {
		t.Errorf("what nobody can look for: %v, want Unavailable", err)
	}
	f.answer()
	f.add("new")
	wantFile(t, w, "/a/d/m/new", true)
	wantRoot(t, w, 0, notify.Live, false)
	if told := l.take(); strings.Contains(told, "self_") || strings.Contains(told, "removed") {
		t.Errorf("told was\n%s", told)
	}
}

// A root that is silent at its first look is away until it answers.
func TestSilentFromTheStart(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	sh(t, top, "mkdir a b; touch b/f")
	f := newFuse(t, filepath.Join(top, "a"), "old")
	w, _ := farAndNear(t, filepath.Join(top, "a"), filepath.Join(top, "b"))
	f.stop(0)
	runs(t, w)
	wantRoot(t, w, 0, notify.Away, false)
	if why := w.Roots()[0].Reason; !strings.Contains(why, "does not answer") {
		t.Errorf("it is away because %q", why)
	}
	wantFile(t, w, "/b/f", true)
	sh(t, top, "touch b/g")
	wantFile(t, w, "/b/g", true)
	f.answer()
	wantFile(t, w, "/a/old", true)
	wantRoot(t, w, 0, notify.Live, false)
}

// One that takes long for a directory, but answers something else meanwhile, is waited for.
func TestSlowFileSystem(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	sh(t, top, "mkdir a b")
	f := newFuse(t, filepath.Join(top, "b"), "old")
	w, _ := farAndNear(t, filepath.Join(top, "a"), filepath.Join(top, "b"))
	runs(t, w)
	f.slowly(fuseReaddir)
	f.await(fuseStatfs, 2) // it was asked whether it is there
	f.add("new")
	wantRoot(t, w, 1, notify.Live, false)
	f.answer()
	wantFile(t, w, "/b/new", true)
	wantRoot(t, w, 1, notify.Live, false)
}

// A watcher ends while calls of it hang.
func TestEndWhileAFileSystemIsSilent(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	sh(t, top, "mkdir a b")
	f := newFuse(t, filepath.Join(top, "b"), "old")
	w, _ := farAndNear(t, filepath.Join(top, "a"), filepath.Join(top, "b"))
	t.Run("run", func(t *testing.T) {
		runs(t, w)
		f.stop(fuseReaddir)
		f.stopped()
	})
}
