//go:build linux

package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
)

// What is mounted once and never again, as by one container after the other, is not remembered for ever.
func TestMountsThatAreGoneAreForgotten(t *testing.T) {
	dir := t.TempDir()
	w, _ := start(t, dir)
	for i := range 4 {
		m := filepath.Join(dir, fmt.Sprint("m", i))
		if err := os.Mkdir(m, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("none", m, "tmpfs", 0, ""); err != nil {
			t.Skip("mounting takes root: ", err)
		}
		t.Cleanup(func() { unix.Unmount(m, unix.MNT_DETACH) })
		until := func(what string, ok func() bool) {
			t.Helper()
			for begin := time.Now(); !ok(); time.Sleep(10 * time.Millisecond) {
				if time.Since(begin) > time.Minute {
					t.Fatalf("mount %d: %s; known are %v", i, what, w.t.ms.list())
				}
			}
		}
		f := filepath.Join(m, "f")
		if err := os.WriteFile(f, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		until("what is in it is not told", func() bool {
			_, err := w.LookupPath(t.Context(), w.cfg.Roots[0].Name+fmt.Sprintf("/m%d/f", i))
			return err == nil
		})
		// The one before this was under its directory until now.
		until("the ones before are not forgotten", func() bool { return len(w.t.ms.list()) <= 3 })
		until("it stays busy", func() bool { return unix.Unmount(m, 0) == nil })
		until("it is not told that it went", func() bool {
			_, err := w.LookupPath(t.Context(), w.cfg.Roots[0].Name+fmt.Sprintf("/m%d/f", i))
			return err != nil
		})
	}
}

// A root that could not be identified leaves nothing behind that the IDs of another one could be made of.
func TestRootThatCannotBeIdentified(t *testing.T) {
	dir := t.TempDir()
	first := func(roots ...Root) *Watcher {
		w, err := New(Config{Roots: roots, Source: quietSource{}, Sink: &memSink{}})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	alone, w := first(Root{Name: "/b", Dir: dir}), first(Root{Name: "/a", Dir: "/proc/sys"}, Root{Name: "/b", Dir: dir})
	if err := alone.scan(t.Context(), alone.t.roots[0]); err != nil {
		t.Fatal(err)
	}
	fd, err := openRoot("/proc/sys")
	if err != nil {
		t.Skip(err)
	}
	defer closeFD(fd)
	var a notify.Attr
	num, _, err := new(looker).stat(fd, "", &a)
	if err != nil {
		t.Fatal(err)
	}
	w.t.ms.find(1, "/a", "", num, func(m *mount) error {
		m.kind = idByHandle // which it has none of
		return nil
	})
	if err := w.scan(t.Context(), w.t.roots[0]); err == nil {
		t.Skip("it has handles here")
	}
	if err := w.scan(t.Context(), w.t.roots[1]); err != nil {
		t.Fatal(err)
	}
	if got, want := w.t.roots[1].id, alone.t.roots[0].id; got != want {
		t.Errorf("the other root has ID %d, want %d", got, want)
	}
}

// For a moment nobody can find out what is mounted somewhere. That is tried again.
func TestMountThatCannotBeLookedAt(t *testing.T) {
	dir, w := scanned(t, "mkdir m")
	m := filepath.Join(dir, "m")
	if err := unix.Mount("none", m, "tmpfs", 0, ""); err != nil {
		t.Skip("mounting takes root: ", err)
	}
	t.Cleanup(func() { unix.Unmount(m, unix.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(m, "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	root := w.t.roots[0].node
	w.t.s.dir(root).flags &^= dirWatched // no record of what became of m is waited for
	d := newDirt()
	d.touch(place{root, "m"}, 0)
	func() {
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		low := limit
		low.Cur = 256
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
			t.Fatal(err)
		}
		defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
		var fds []int
		for fd, err := unix.Dup(0); err == nil; fd, err = unix.Dup(0) {
			fds = append(fds, fd)
		}
		for k, fd := range fds {
			if k < 2 { // there is room for the root and its directory
				unix.Close(fd)
			} else {
				defer unix.Close(fd)
			}
		}
		w.pass(d)
	}()
	goOn(t, w, "what is mounted is not told", func() bool { return w.t.s.find(root, "m/f") != 0 })
}

// A name is missing, and no record says that it went: it is looked for in its directory before it is told to be removed.
func TestMissingWithoutARecord(t *testing.T) {
	dir, w := scanned(t, "mkdir d; touch d/f d/g d/h")
	root := w.t.roots[0].node
	d := w.t.s.find(root, "d")
	w.t.s.dir(root).flags |= dirWatched
	w.t.s.dir(d).flags |= dirWatched
	bash(t, dir, "mv d/f d/F; rm d/g")
	w.fullDue, w.pollDue = time.Now().Add(time.Hour), time.Now().Add(time.Hour)
	w.in.put([]Record{{Dir: d, Name: []byte("f"), Op: OpAttrib}, {Dir: d, Name: []byte("g"), Op: OpAttrib}})
	goOn(t, w, "what is missing is told still", func() bool { return w.t.s.dir(d).count == 2 })
	var told []string
	for _, o := range w.out.queue {
		for _, n := range o.notes {
			told = append(told, n.Type.String()+" "+n.Path)
		}
	}
	for _, want := range []string{"child_file_moved_from d/f", "child_file_moved_to d/F", "child_file_removed d/g"} {
		if !slices.Contains(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	}
}

// On a file system that folds case, and whose records do not say which object they are about, what leaves a name may be told by another spelling of it.
func TestLeavesByAnotherSpellingUnnamed(t *testing.T) {
	dir, w := scanned(t, "mkdir d; touch Ärger out stays")
	s, root := &w.t.s, w.t.roots[0].node
	w.t.s.dir(root).flags |= dirWatched
	w.t.ms.at(s.dir(root).mount).fsType = unix.MSDOS_SUPER_MAGIC
	bash(t, dir, "rmdir d; rm Ärger out")
	w.in.put([]Record{{Dir: root, Name: []byte("D"), Op: OpDelete}, {Dir: root, Name: []byte("ÄRGER"), Op: OpMovedFrom}, {Dir: root, Name: []byte("temp"), Op: OpCreate | OpDelete},
		{Dir: root, Name: []byte("OUT"), Op: OpMovedFrom, Cookie: 7}}) // of what has left, too: nobody has the other half
	w.fullDue, w.pollDue = time.Now().Add(time.Hour), time.Now().Add(time.Hour)
	before := w.t.looks.Load()
	w.pass(w.next())
	if n := s.dir(root).count; n != 2 {
		t.Errorf("%d entries, want two", n)
	}
	if n := w.t.looks.Load() - before; n != 7 {
		t.Errorf("%d looks at seven names", n)
	}
	goOn(t, w, "what was renamed away is told still", func() bool { return s.dir(root).count == 1 })
	for _, o := range w.out.queue {
		for _, n := range o.notes {
			if n.Path == "out" && n.Type != notify.ChildFileMovedFrom {
				t.Errorf("told %v of what was renamed away", n.Type)
			}
		}
	}
}
