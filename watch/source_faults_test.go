//go:build linux

package watch

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fs_notify/watch/watchtest/fsmount"

	"golang.org/x/sys/unix"
)

// A reader that is stalled while more happens than the queue holds.
func TestOverflow(t *testing.T) {
	b, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Fatal(err)
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || limit > 1<<17 {
		t.Skipf("the queue holds %q: too much to fill it here", b)
	}
	renames := (limit + fsnBuffer + 10_000) / 2 // fsnotify holds some more
	for _, kind := range srcKinds(t) {
		t.Run(kind, func(t *testing.T) {
			r := newKindRig(t, kind, t.TempDir())
			r.mkdir("d")
			r.write("d/0", "")
			r.watch("d")
			for i := range renames {
				r.rename("d/"+strconv.Itoa(i), "d/"+strconv.Itoa(i+1))
			}
			enough := func(recs []Record) bool { return len(recs) >= 2*renames }
			recs, err := r.read(enough)
			if r.s.Caps().Exact {
				if err != nil || len(recs) != 2*renames {
					t.Fatalf("%d records, %v; want all %d", len(recs), err, 2*renames)
				}
				for i, rec := range recs {
					want := Record{Op: OpMovedFrom << (i % 2), Name: strconv.AppendInt(nil, int64(i/2+i%2), 10), Cookie: recs[0].Cookie + uint32(i/2)}
					if rec.Op != want.Op || rec.Cookie != want.Cookie || !bytes.Equal(rec.Name, want.Name) {
						t.Fatalf("record %d is %+v, want %+v", i, rec, want)
					}
				}
				return
			}
			if !errors.Is(err, ErrOverflow) {
				t.Fatalf("%d records, %v; want an overflow", len(recs), err)
			}
			r.until("d/after") // it goes on
		})
	}
}

func TestNextEndsWithItsContext(t *testing.T) {
	for _, kind := range append(srcKinds(t), "poll") {
		t.Run(kind, func(t *testing.T) {
			s, err := NewSource(kind, SourceOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for range 3 {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Millisecond, cancel)
				if n, _, err := s.Next(ctx, make([]Record, 8)); n != 0 || !errors.Is(err, context.Canceled) {
					t.Fatalf("Next: %d, %v", n, err)
				}
			}
			if kind == "poll" {
				return
			}
			r := &srcRig{t: t, s: s, root: t.TempDir(), refs: map[DirRef]string{}}
			r.watch(".")
			r.until("still")
		})
	}
}

func TestCloseWhileNextBlocks(t *testing.T) {
	for _, kind := range append(srcKinds(t), "poll") {
		t.Run(kind, func(t *testing.T) {
			before := runtime.NumGoroutine()
			s, err := NewSource(kind, SourceOptions{})
			if err != nil {
				t.Fatal(err)
			}
			got := make(chan error)
			go func() {
				_, _, err := s.Next(context.Background(), make([]Record, 8))
				got <- err
			}()
			time.Sleep(2 * time.Millisecond)
			if err := errors.Join(s.Close(), s.Close()); err != nil {
				t.Errorf("Close: %v", err)
			}
			if err := <-got; !errors.Is(err, ErrClosed) {
				t.Errorf("Next that was blocked: %v", err)
			}
			if _, _, err := s.Next(context.Background(), make([]Record, 8)); !errors.Is(err, ErrClosed) {
				t.Errorf("Next after Close: %v", err)
			}
			r := &srcRig{t: t, s: s, root: t.TempDir(), refs: map[DirRef]string{}}
			if _, err := r.tryWatch("."); !errors.Is(err, ErrClosed) {
				t.Errorf("Watch after Close: %v", err)
			}
			s.Unwatch(1)
			srcGoroutinesSettle(t, before)
		})
	}
}

// The tree gives a directory that it meets again a new ref, and may end the old one later.
func TestOneDirectoryUnderTwoRefs(t *testing.T) {
	for _, kind := range srcKinds(t) {
		t.Run(kind, func(t *testing.T) {
			r := newKindRig(t, kind, t.TempDir())
			r.mkdir("d", "e")
			r.watch("e")
			old := r.watch("d")
			now := r.watch("d")
			r.s.Unwatch(old)
			r.write("d/f", "")
			for _, rec := range r.until("d/m") {
				if rec.Dir != now {
					t.Errorf("a record of ref %d, want %d", rec.Dir, now)
				}
			}
			at, done := r.place("e")
			defer done()
			if err := r.s.Watch(now, at); err != nil { // replaces d by e
				t.Fatal(err)
			}
			r.write("d/unseen", "")
			for _, rec := range r.until("e/m") {
				if string(rec.Name) == "unseen" {
					t.Errorf("d is still watched: %+v", rec)
				}
			}
			r.s.Unwatch(now)
			r.s.Unwatch(now)
			r.write("e/unseen", "")
			r.watch("d")
			for _, rec := range r.until("d/m2") {
				if string(rec.Name) == "unseen" && rec.Dir == now {
					t.Errorf("e is still watched: %+v", rec)
				}
			}
		})
	}
}

// A directory is in two roots at once, or was, and then in one again: whoever still watches it is told of everything.
func TestOneDirectoryUnderTwoRefsAtOnce(t *testing.T) {
	for _, kind := range srcKinds(t) {
		t.Run(kind, func(t *testing.T) {
			r := newKindRig(t, kind, t.TempDir())
			r.mkdir("m", "d", "e")
			r.watch("m")
			d1, e1 := r.watch("d"), r.watch("e")
			d2, e2 := r.watch("d"), r.watch("e")
			told := func(name string) (dirs []DirRef) {
				r.write("d/"+name, "")
				r.rename("d/"+name, "e/"+name)
				cookies := make(map[uint32]int)
				for _, rec := range r.until("m/" + name + "done") {
					if string(rec.Name) == name && rec.Op&(OpMovedFrom|OpMovedTo) != 0 {
						cookies[rec.Cookie]++
						dirs = append(dirs, rec.Dir)
					}
				}
				for _, n := range cookies {
					if n != 2 {
						t.Errorf("the halves of %s are joined as %v", name, cookies)
					}
				}
				slices.Sort(dirs)
				return dirs
			}
			if got, want := told("1"), []DirRef{d1, e1, d2, e2}; !slices.Equal(got, want) {
				t.Errorf("both: records of %d, want %d", got, want)
			}
			r.s.Unwatch(d2)
			r.s.Unwatch(e2)
			if got, want := told("2"), []DirRef{d1, e1}; !slices.Equal(got, want) {
				t.Errorf("the second has let go: records of %d, want %d", got, want)
			}
			d3, e3 := r.watch("d"), r.watch("e")
			r.s.Unwatch(d1)
			r.s.Unwatch(e1)
			if got, want := told("3"), []DirRef{d3, e3}; !slices.Equal(got, want) {
				t.Errorf("the first has let go: records of %d, want %d", got, want)
			}
			r.s.Unwatch(d3)
			r.s.Unwatch(e3)
			if got := told("4"); len(got) != 0 {
				t.Errorf("nobody watches: records of %d", got)
			}
		})
	}
}

// Directories come and go while records arrive: no record may name a ref that was never given, and in the end what is
// watched is watched.
func TestWatchAndUnwatchWhileReading(t *testing.T) {
	for _, kind := range srcKinds(t) {
		t.Run(kind, func(t *testing.T) {
			r := newKindRig(t, kind, t.TempDir())
			const refs, rounds = 50, 10
			for i := range refs {
				r.mkdir("d" + strconv.Itoa(i))
			}
			r.mkdir("last")
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			var reader sync.WaitGroup
			reader.Go(func() {
				recs := make([]Record, 3) // small: a rename may not fit
				for {
					n, _, err := r.s.Next(ctx, recs)
					if err != nil && !errors.Is(err, ErrOverflow) {
						t.Errorf("Next: %v", err)
						return
					}
					for _, rec := range recs[:n] {
						if rec.Dir > refs+1 {
							t.Errorf("record of ref %d", rec.Dir)
						}
						if string(rec.Name) == "end" {
							return
						}
					}
				}
			})
			for round := range rounds {
				for i := range refs {
					dir := "d" + strconv.Itoa((i+round)%refs)
					at, done := r.place(dir)
					if err := r.s.Watch(DirRef(1+i), at); err != nil {
						t.Errorf("Watch: %v", err)
					}
					done()
					r.write(dir+"/f", "x")
					r.rename(dir+"/f", dir+"/g")
					if i%3 == 0 {
						r.s.Unwatch(DirRef(1 + i))
					}
					r.must(os.Remove(r.path(dir + "/g")))
					if i%10 == 0 {
						r.must(os.RemoveAll(r.path(dir)))
						r.mkdir(dir)
					}
				}
			}
			at, done := r.place("last")
			defer done()
			r.must(r.s.Watch(refs+1, at))
			r.write("last/end", "")
			reader.Wait()
		})
	}
}

func srcMountTmpfs(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may mount")
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// A file system goes away under the watches and another one takes its place. inotify says so, fanotify does not; both
// see what happens on the new one as soon as it is watched, whatever its mount is called.
func TestUnmountAndMountAgain(t *testing.T) {
	for _, kind := range srcKinds(t) {
		t.Run(kind, func(t *testing.T) {
			r := newKindRig(t, kind, t.TempDir())
			r.mkdir("mnt", "m")
			srcMountTmpfs(t, r.path("mnt"))
			r.mkdir("mnt/a")
			r.watch("m", "mnt/a")
			r.write("mnt/a/f", "")
			r.until("mnt/a/m")
			r.must(unix.Unmount(r.path("mnt"), 0)) // not busy: the source holds nothing open
			got, want := r.lines(r.until("m/1")), []string(nil)
			if kind == "inotify" {
				want = []string{"lost mnt/a"}
			}
			if !slices.Equal(got, want) {
				t.Errorf("unmounted: got %q, want %q", got, want)
			}
			srcMountTmpfs(t, r.path("mnt"))
			r.mkdir("mnt/a")
			r.watch("mnt/a")
			r.write("mnt/a/f", "")
			got = srcSquash(r.lines(r.until("mnt/a/m")))
			if kind == "fsnotify" { // the number of the new directory may be that of the old one: then it is said only now that the old watch has ended
				got = slices.DeleteFunc(got, func(s string) bool { return s == "lost mnt/a" })
			}
			if len(got) == 0 || !strings.HasSuffix(got[0], " mnt/a/f") {
				t.Errorf("on the new mount: got %q", got)
			}
		})
	}
}

func TestPlacesThatCannotNotify(t *testing.T) {
	for _, kind := range append(srcKinds(t), "poll") {
		s, err := NewSource(kind, SourceOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r := newSrcRig(t, s, "/")
		places := []string{"proc", "sys"}
		if kind == "poll" {
			places = append(places, t.TempDir())
		}
		for _, p := range places {
			if _, err := r.tryWatch(p); !errors.Is(err, ErrPolled) {
				t.Errorf("%s: Watch(/%s): %v, want ErrPolled", kind, p, err)
			}
		}
	}
}

func TestUnknownWatcher(t *testing.T) {
	if _, err := NewSource("kqueue", SourceOptions{}); err == nil || !strings.Contains(err.Error(), "inotify") {
		t.Errorf("NewSource(kqueue): %v, want the list of what there is", err)
	}
}

// The objects that fanotify speaks of are those that the names lead to.
func TestFanotifySaysTheObject(t *testing.T) {
	fsmount.Each(t, func(t *testing.T, dir, fs string) {
		if !slices.Contains(srcKinds(t), "fanotify") || fs == "overlay" {
			t.Skip("no fanotify here")
		}
		r := newKindRig(t, "fanotify", dir)
		r.watch(".")
		r.write("f", "")
		r.mkdir("d")
		r.rename("f", "g")
		recs := r.until("m")
		if len(recs) != 4 {
			t.Fatalf("got %q", r.lines(recs))
		}
		for _, rec := range recs {
			name := "g"
			if string(rec.Name) == "d" {
				name = "d"
			}
			h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, r.path(name), 0)
			r.must(err)
			want := append(binary.NativeEndian.AppendUint32(nil, uint32(h.Type())), h.Bytes()...)
			if !bytes.Equal(rec.Object, want) {
				t.Errorf("%q: object %x, want %x", r.lines([]Record{rec}), rec.Object, want)
			}
		}
	})
}

func srcBtrfsVolume(t *testing.T) (top string) {
	t.Helper()
	if !slices.Contains(srcKinds(t), "fanotify") {
		t.Skip("no fanotify here")
	}
	top = fsmount.One(t, "btrfs")
	for _, v := range []string{"vol", "vol/nested"} {
		if out, err := exec.Command("btrfs", "subvolume", "create", filepath.Join(top, v)).CombinedOutput(); err != nil {
			t.Fatalf("btrfs: %v: %s", err, out)
		}
	}
	return top
}

// A sub-volume cannot be marked, but its file system can, through its top level: even where only
// the sub-volume is mounted.
func TestFanotifyOnBtrfsSubvolumes(t *testing.T) {
	t.Run("below the top level", func(t *testing.T) {
		top := srcBtrfsVolume(t)
		r := newKindRig(t, "fanotify", top)
		r.watch(".", "vol", "vol/nested")
		r.write("vol/nested/a", "")
		r.rename("vol/nested/a", "vol/nested/b")
		r.write("top", "")
		want := []string{"create+close vol/nested/a", "from vol/nested/a A", "to vol/nested/b A", "create+close top"}
		if got := r.lines(r.until("vol/m")); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("mounted alone", func(t *testing.T) {
		top := srcBtrfsVolume(t)
		var source string
		mounts, err := os.ReadFile("/proc/self/mounts")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(mounts)) {
			if f := strings.Fields(line); f[1] == top {
				source = f[0]
			}
		}
		alone := t.TempDir()
		if err := unix.Mount(source, alone, "btrfs", 0, "subvol=vol"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(alone, 0); err != nil {
				t.Errorf("unmount: %v", err)
			}
		})
		if err := unix.Unmount(top, 0); err != nil {
			t.Fatal(err)
		}
		for _, private := range []bool{false, true} {
			s, err := NewSource("auto", SourceOptions{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
			if err != nil {
				t.Fatal(err)
			}
			r := newSrcRig(t, s, alone)
			if private { // a barrier in the volume, before it is marked
				r.mkdir("private")
				at, done := r.place("private")
				at.Private = true
				r.must(r.s.Watch(100, at))
				r.refs[100] = "private"
				done()
				r.write("private/1", "")
				if got, want := r.lines(r.until("private/m1")), []string{"create+close private/1"}; !slices.Equal(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
			}
			r.watch(".", "nested")
			r.write("nested/a", "")
			want := []string{"create+close nested/a"}
			if got := r.lines(r.until("m")); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			if !r.s.Caps().Exact {
				t.Error("it fell back to inotify")
			}
			if private { // and after
				r.write("private/2", "")
				if got, want := r.lines(r.until("private/m2")), []string{"create+close private/2"}; !slices.Equal(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
			}
			r.must(os.RemoveAll(r.path("nested/a")), os.RemoveAll(r.path("m")), os.RemoveAll(r.path("private")))
		}
	})
}

// A private directory is watched without its file system.
func TestFanotifyPrivateDirectory(t *testing.T) {
	if !slices.Contains(srcKinds(t), "fanotify") {
		t.Skip("no fanotify here")
	}
	r := newKindRig(t, "fanotify", t.TempDir())
	r.mkdir("private", "other")
	at, done := r.place("private")
	defer done()
	at.Private = true
	r.must(r.s.Watch(1, at))
	r.refs[1] = "private"
	// Known by its handle, as a directory of a marked file system is, but not marked.
	q := r.s.(*srcKernel).q.(*fanQueue)
	other, done2 := r.place("other")
	defer done2()
	handle, err := fanHandleOf(other.FD)
	r.must(err)
	st, err := srcStatfs(other)
	r.must(err)
	q.mu.Lock()
	q.dirs.add(fanKey(fanFsidOf(&st), handle), 2)
	q.mu.Unlock()
	r.write("other/f", "")
	if got := r.lines(r.until("private/m")); len(got) != 0 {
		t.Errorf("a mark on the private directory brought %q", got)
	}
}

func srcHasOverlay(t *testing.T) string {
	t.Helper()
	if !slices.Contains(srcKinds(t), "fanotify") {
		t.Skip("no fanotify here")
	}
	return fsmount.One(t, "overlay")
}

// What is watched with inotify because fanotify refuses still comes out before a file that was made in
// the private directory after it, though that is on the other queue.
func TestAutoBarrierCoversBothQueues(t *testing.T) {
	dir := srcHasOverlay(t)
	var log bytes.Buffer
	s, err := NewSource("auto", SourceOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	r := newSrcRig(t, s, "/")
	mine := t.TempDir()
	private := filepath.Join(mine, "private")
	r.mkdir(private, filepath.Join(dir, "d"), filepath.Join(dir, "e"), filepath.Join(mine, "x"))
	at, done := r.place(private)
	at.Private = true
	r.must(s.Watch(50, at))
	done()
	r.refs[50] = "private"
	r.watch(filepath.Join(mine, "x"), filepath.Join(dir, "d"), filepath.Join(dir, "e"))
	if s.Caps().Exact {
		t.Error("overlay is said to be watched exactly")
	}
	if n := strings.Count(log.String(), "watching with inotify"); n != 1 {
		t.Errorf("the log says %d times that overlay is on inotify, want once:\n%s", n, &log)
	}
	recs := make([]Record, 7)
	for round := range 20 {
		const files = 500
		for i := range files {
			r.must(unix.Mknod(filepath.Join(dir, "d", fmt.Sprint(round, "-", i)), unix.S_IFREG|0o600, 0))
			if i%100 == 0 { // both queues
				r.must(unix.Mknod(filepath.Join(mine, "x", fmt.Sprint(round, "-", i)), unix.S_IFREG|0o600, 0))
			}
		}
		r.must(unix.Mknod(filepath.Join(private, strconv.Itoa(round)), unix.S_IFREG|0o600, 0))
		seen := 0
		for barrier := false; !barrier; {
			n, _, err := s.Next(t.Context(), recs)
			if err != nil {
				t.Fatal(err)
			}
			for _, rec := range recs[:n] {
				switch rec.Dir {
				case 50:
					barrier = true
				case 0: // of what is not watched
				default:
					seen++
				}
			}
		}
		if seen != files+5 {
			t.Fatalf("round %d: %d records before the barrier, want %d", round, seen, files+5)
		}
	}
}

// Where inotify cannot be had beside fanotify, what needs it is degraded and the rest is watched.
func TestAutoWithoutInotify(t *testing.T) {
	dir := srcHasOverlay(t)
	fan, err := newFan(false)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newAutoOf(fan, nil, nil, unix.EMFILE, SourceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r := newSrcRig(t, s, "/")
	if _, err := r.tryWatch(dir); !errors.Is(err, unix.EOPNOTSUPP) || !errors.Is(err, unix.EMFILE) {
		t.Errorf("Watch on overlay: %v, want both reasons", err)
	}
	mine := t.TempDir()
	ref := r.watch(mine)
	r.write(filepath.Join(mine, "f"), "")
	if got := r.until(filepath.Join(mine, "m")); len(got) != 1 || got[0].Dir != ref {
		t.Errorf("got %q", r.lines(got))
	}
	// A barrier on overlay needs no mark of its file system.
	at, done := r.place(dir)
	defer done()
	at.Private = true
	r.must(s.Watch(60, at))
	r.refs[60] = "private"
	r.write(filepath.Join(dir, "f"), "")
	if got, want := r.lines(r.until(filepath.Join(dir, "m"))), []string{"create+close private/f"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The kernel takes fanotify away: its directories are lost, and come back with inotify.
func TestAutoSurvivesTheDeathOfFanotify(t *testing.T) {
	if !slices.Contains(srcKinds(t), "fanotify") {
		t.Skip("no fanotify here")
	}
	r := newKindRig(t, "auto", t.TempDir())
	r.mkdir("a", "b")
	r.watch("a", "b")
	if name := r.s.Name(); name != "fanotify" {
		t.Fatalf("it is %s", name)
	}
	// In place of the group a directory, which cannot be read.
	dir, done := r.place("a")
	defer done()
	fd, err := unix.Open(dir.Path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	r.must(err)
	defer unix.Close(fd)
	r.must(unix.Dup3(fd, r.s.(*autoSource).fan.file, unix.O_CLOEXEC))

	if recs, err := r.read(nil); !errors.Is(err, ErrOverflow) || len(recs) > 0 {
		t.Fatalf("got %q, %v; want an overflow", r.lines(recs), err)
	}
	recs, err := r.read(nil)
	got := r.lines(recs)
	slices.Sort(got)
	if want := []string{"lost a", "lost b"}; err != nil || !slices.Equal(got, want) {
		t.Fatalf("got %q, %v; want %q", got, err, want)
	}
	if name, caps := r.s.Name(), r.s.Caps(); name != "inotify" || caps.Exact || caps.Actors {
		t.Errorf("it is %s with %+v", name, caps)
	}
	r.watch("a", "b")
	r.write("b/f", "")
	if got, want := r.lines(r.until("a/m")), []string{"create b/f", "close b/f"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// In a user namespace with room for three watches: auto is inotify, and the error of the
// fourth names the setting.
func TestAutoWithoutPrivilegeAndWatchLimit(t *testing.T) {
	const env = "FS_NOTIFY_TEST_NAMESPACE"
	if os.Getenv(env) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), env+"="+t.TempDir())
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Skipf("no user namespace to be had: %v", err)
		}
		if err != nil || !strings.Contains(string(out), "PASS: "+t.Name()) {
			t.Fatalf("in the namespace: %v\n%s", err, out)
		}
		return
	}
	if err := os.WriteFile("/proc/sys/user/max_inotify_watches", []byte("3"), 0); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s, err := NewSource("auto", SourceOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if s.Name() != "inotify" || !strings.Contains(log.String(), "watcher=inotify") || !strings.Contains(log.String(), "not permitted") {
		t.Errorf("it is %s, and says %s", s.Name(), &log)
	}
	r := newSrcRig(t, s, os.Getenv(env))
	r.mkdir("1", "2", "3", "4")
	r.watch("1", "2", "3")
	ref, err := r.tryWatch("4")
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "sysctl -w fs.inotify.max_user_watches=") {
		t.Errorf("Watch beyond the limit: %v", err)
	}
	r.s.Unwatch(ref)
	r.write("3/f", "")
	if got, want := r.lines(r.until("1/m")), []string{"create 3/f", "close 3/f"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := NewSource("fanotify", SourceOptions{}); !errors.Is(err, unix.EPERM) {
		t.Errorf("fanotify in a user namespace: %v", err)
	}
}

// Reads are reported to those who want them; our own, with fanotify, never.
func TestReads(t *testing.T) {
	for _, kind := range srcKinds(t) {
		if kind == "fsnotify" {
			continue
		}
		t.Run(kind, func(t *testing.T) {
			s, err := NewSource(kind, SourceOptions{Atime: true})
			if err != nil {
				t.Fatal(err)
			}
			if !s.Caps().Reads {
				t.Error("it says that it cannot")
			}
			r := newSrcRig(t, s, t.TempDir())
			r.mkdir("d")
			r.write("d/f", "x")
			r.watch("d")
			if out, err := exec.Command("cat", r.path("d/f")).Output(); err != nil || string(out) != "x" {
				t.Fatalf("cat: %q, %v", out, err)
			}
			if got, want := srcSquash(r.lines(r.until("d/m1"))), []string{"access d/f"}; !slices.Equal(got, want) {
				t.Errorf("cat: got %q, want %q", got, want)
			}
			if _, err := os.ReadFile(r.path("d/f")); err != nil {
				t.Fatal(err)
			}
			got := srcSquash(r.lines(r.until("d/m2")))
			var want []string
			if kind == "inotify" {
				want = []string{"access d/f"}
			}
			if !slices.Equal(got, want) {
				t.Errorf("our own read: got %q, want %q", got, want)
			}
		})
	}
}

// Four writers rename files and directories at once, within and across directories, and exchange them: every half
// has its other half.
func TestRenamePairs(t *testing.T) {
	for _, kind := range srcKinds(t) {
		t.Run(kind, func(t *testing.T) {
			r := newKindRig(t, kind, t.TempDir())
			const writers, rounds = 4, 250 // 14,000 records: the kernel's queue has room for 16,384
			r.mkdir("end")
			for w := range writers {
				for _, side := range []string{"l", "r"} {
					r.mkdir(fmt.Sprint(side, w))
					r.watch(fmt.Sprint(side, w))
				}
				r.mkdir(fmt.Sprint("l", w, "/dir/inside"))
				r.write(fmt.Sprint("l", w, "/file"), "")
			}
			r.watch("end")
			var all sync.WaitGroup
			for w := range writers {
				l, right := r.path(fmt.Sprint("l", w)), r.path(fmt.Sprint("r", w))
				all.Go(func() {
					for i := range rounds {
						err := errors.Join(
							os.Rename(l+"/file", fmt.Sprint(l, "/f", i)),
							os.Rename(fmt.Sprint(l, "/f", i), fmt.Sprint(right, "/f", i)),
							os.Rename(l+"/dir", fmt.Sprint(right, "/d", i)),
							unix.Renameat2(unix.AT_FDCWD, fmt.Sprint(right, "/f", i), unix.AT_FDCWD, fmt.Sprint(right, "/d", i), unix.RENAME_EXCHANGE),
							os.Rename(fmt.Sprint(right, "/f", i), l+"/dir"),
							os.Rename(fmt.Sprint(right, "/d", i), l+"/file"),
						)
						if err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			go func() {
				all.Wait()
				if err := os.WriteFile(r.path("end/marker"), nil, 0o600); err != nil {
					t.Error(err)
				}
			}()
			recs, err := r.read(func(recs []Record) bool {
				return slices.ContainsFunc(recs, func(rec Record) bool { return string(rec.Name) == "marker" })
			})
			if err != nil {
				t.Fatal(err)
			}
			from, pairs, alone := map[uint32]bool{}, 0, 0
			for _, rec := range recs {
				switch {
				case rec.Op&OpMovedFrom != 0:
					if rec.Cookie == 0 || from[rec.Cookie] {
						t.Fatalf("cookie %d is no good", rec.Cookie)
					}
					from[rec.Cookie] = true
				case rec.Op&OpMovedTo != 0 && from[rec.Cookie]:
					delete(from, rec.Cookie)
					pairs++
				case rec.Op&(OpMovedTo|OpCreate) != 0:
					alone++
				}
			}
			// Made before, and the marker. fsnotify remembers ten old names: of a writer that is interrupted between the two
			// records of its rename the pair may be lost, and is found by identity.
			slack, want, single := 0, writers*rounds*7, 2*writers+1
			if kind == "fsnotify" {
				slack = want / 100
			}
			lost := want - pairs
			if lost < 0 || lost > slack || len(from) != lost || alone != single+lost {
				t.Errorf("%d pairs, want %d; %d and %d halves alone", pairs, want, len(from), alone)
			}
		})
	}
}

// A directory so deep that no path leads there.
func TestBeyondPathMax(t *testing.T) {
	for _, kind := range srcKinds(t) {
		t.Run(kind, func(t *testing.T) {
			r := newKindRig(t, kind, t.TempDir())
			long := strings.Repeat("n", 255)
			fd, err := unix.Open(r.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			r.must(err)
			for range 20 {
				r.must(unix.Mkdirat(fd, long, 0o700))
				below, err := unix.Openat(fd, long, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
				unix.Close(fd)
				r.must(err)
				fd = below
			}
			defer unix.Close(fd)
			r.must(r.s.Watch(1, Place{FD: fd, Path: "deep", Mount: 1}))
			name := "\xff\n" + long[2:]
			file, err := unix.Openat(fd, name, unix.O_CREAT|unix.O_CLOEXEC, 0o600)
			r.must(err, unix.Close(file))
			recs, err := r.read(func(recs []Record) bool { return len(recs) > 0 })
			if err != nil || recs[0].Dir != 1 || string(recs[0].Name) != name {
				t.Errorf("got %+v, %v", recs, err)
			}
		})
	}
}

// What the kernel says of a lost record has no name, no directory, no handle; and a buffer that ends within a record
// is a loss as well. Both come after what is good.
func TestLossInsideABuffer(t *testing.T) {
	ino := func(wd int32, mask uint32, name string) []byte {
		b := make([]byte, inoHeader+len(name))
		binary.NativeEndian.PutUint32(b, uint32(wd))
		binary.NativeEndian.PutUint32(b[4:], mask)
		binary.NativeEndian.PutUint32(b[12:], uint32(len(name)))
		copy(b[inoHeader:], name)
		return b
	}
	fan := func(mask uint64, infos ...[]byte) []byte {
		b := make([]byte, fanHeader)
		for _, info := range infos {
			b = append(b, info...)
		}
		binary.NativeEndian.PutUint32(b, uint32(len(b)))
		b[4] = unix.FANOTIFY_METADATA_VERSION
		binary.NativeEndian.PutUint16(b[6:], fanHeader)
		binary.NativeEndian.PutUint64(b[8:], mask)
		return b
	}
	handle := []byte{8, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}
	fid := func(kind byte, name string) []byte {
		b := append([]byte{kind, 0, 0, 0}, fanKey(fanFsid{9}, handle)...)
		b = append(append(b, name...), 0)
		binary.NativeEndian.PutUint16(b[2:], uint16(len(b)))
		return b
	}
	good := map[string][]byte{
		"inotify":  ino(1, unix.IN_CREATE, "f\x00\x00\x00"),
		"fanotify": fan(unix.FAN_CREATE, fid(unix.FAN_EVENT_INFO_TYPE_DFID_NAME, "f")),
	}
	overflow := map[string][]byte{
		"inotify":  ino(-1, unix.IN_Q_OVERFLOW, ""),
		"fanotify": fan(unix.FAN_Q_OVERFLOW),
	}
	for kind := range good {
		cut := good[kind][:len(good[kind])-1]
		for name, parts := range map[string][][]byte{
			"overflow":  {good[kind], overflow[kind], good[kind]},
			"truncated": {good[kind], good[kind], cut},
		} {
			b := bytes.Join(parts, nil)
			var q srcQueue = &inoQueue{srcBuf: srcBuf{buf: b, end: len(b)}, wds: owners[int32]{first: map[int32]DirRef{1: 5}}}
			if kind == "fanotify" {
				q = &fanQueue{srcBuf: srcBuf{buf: b, end: len(b)}, dirs: owners[string]{first: map[string]DirRef{fanKey(fanFsid{9}, handle): 5}}}
			}
			records, losses := 0, 0
			recs := make([]Record, 10)
			for !q.empty() {
				n, err := q.parse(recs)
				for _, rec := range recs[:n] {
					if rec.Dir != 5 || rec.Op != OpCreate || string(rec.Name) != "f" {
						t.Errorf("%s, %s: got %+v", kind, name, rec)
					}
				}
				records += n
				if err != nil {
					losses++
				}
			}
			if records != 2 || losses != 1 {
				t.Errorf("%s, %s: %d records and %d losses, want 2 and 1", kind, name, records, losses)
			}
		}
	}
}
