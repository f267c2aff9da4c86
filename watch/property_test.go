//go:build linux

package watch_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"fs_notify/notify"
	"fs_notify/watch"
	"fs_notify/watch/watchtest"
	"fs_notify/watch/watchtest/fsmount"
)

// The core promise: whatever is done to a tree, whoever folds the stream holds a valid tree at every step, and the
// one on disk when it is quiet. FS_NOTIFY_PROPERTY_CHECKS=10000 looks for longer (per source and file system).
// A watcher that does not end is a panic with all stacks.
func TestAnythingGoes(t *testing.T) {
	eachTree(t, func(t *testing.T, kind, dir string) {
		rapid.Check(t, func(rt *rapid.T) { anythingGoes(t, rt, kind, dir, rigOptions{}) })
	})
}

// Anything that is done between two looks: what fails here fails again, and shrinks to a few operations.
func TestAnythingInOneLook(t *testing.T) {
	eachTree(t, func(t *testing.T, kind, dir string) {
		rapid.Check(t, func(rt *rapid.T) {
			before := drawDoings.Draw(rt, "before")
			b := burst{mode: rapid.SampledFrom([]string{"once", "lost"}).Draw(rt, "mode"), acts: drawDoings.Draw(rt, "acts"), sync: true}
			tb := &rapidTB{TB: t, rt: rt}
			defer tb.clean()
			play(tb, kind, dir, before, []burst{b}, rigOptions{believe: drawBelief(rt)})
		})
	})
}

// The same while the kernel's queue overflows all the time.
func TestAnythingGoesWithOverflow(t *testing.T) {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("only root may lower fs.inotify.max_queued_events")
	}
	dir := t.TempDir()
	var overflows int64
	rapid.Check(t, func(rt *rapid.T) {
		anythingGoes(t, rt, "inotify", dir, rigOptions{
			open:  func(kind string) (watch.Source, error) { return smallQueue(kind, 5) },
			stall: true,
			end:   func(r *watchtest.Rig) { overflows += r.Stats().Overflows },
		})
	})
	if overflows == 0 {
		t.Error("the queue never overflowed")
	}
}

// A storm of renames through a queue that is far too small for it.
func TestRenamesWithOverflow(t *testing.T) {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("only root may lower fs.inotify.max_queued_events")
	}
	dir := t.TempDir()
	sh(t, dir, "mkdir -p d{0..9}/s{0..9}; for d in d*/s*; do touch $d/f{0..4}; done")
	var g *watchtest.Gate
	r := watchtest.Start(t, "inotify", dir, func(c *watch.Config) {
		c.Source.Close()
		src, err := smallQueue("inotify", 100)
		if err != nil {
			t.Fatal(err)
		}
		g = watchtest.NewGate(src)
		c.Source = g
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		load(dir)
	}()
	for loading := true; loading; {
		resume := g.Stall()
		time.Sleep(20 * time.Millisecond)
		resume()
		select {
		case <-done:
			loading = false
		case <-time.After(5 * time.Millisecond):
		}
	}
	r.Check(t)
	if r.Stats().Overflows == 0 {
		t.Error("the queue never overflowed")
	}
}

// The same with watches for a few directories only. The others are swept, and what is in them is told within
// the interval of the sweeps.
func TestAnythingGoesWithFewWatches(t *testing.T) {
	const env = "FS_NOTIFY_TEST_FEW_WATCHES"
	if os.Getenv(env) == "" { // a user namespace has limits of its own
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), env+"="+t.TempDir())
		inUserNamespace(cmd)
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
	if err := os.WriteFile("/proc/sys/user/max_inotify_watches", []byte("6"), 0); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"inotify"} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			degraded := 0
			rapid.Check(t, func(rt *rapid.T) {
				anythingGoes(t, rt, kind, dir, rigOptions{
					poll: 10 * time.Millisecond,
					end:  func(r *watchtest.Rig) { degraded += len(r.Roots()[0].Degraded) },
				})
			})
			if degraded == 0 {
				t.Error("there were watches for all")
			}
		})
	}
}

// eachTree runs a test with every source on every file system.
func eachTree(t *testing.T, f func(t *testing.T, kind, dir string)) {
	if runtime.GOOS != "linux" {
		t.Skip("the operations are Linux's")
	}
	fsmount.Each(t, func(t *testing.T, dir, system string) {
		for _, kind := range sources(t) {
			if kind == "fanotify" && system == "overlay" {
				kind = "auto"
			}
			t.Run(kind, func(t *testing.T) {
				t.Parallel()
				f(t, kind, dir)
			})
		}
	})
}

func inUserNamespace(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}

// smallQueue opens a source whose queue in the kernel holds few records. The setting counts when the queue is made.
func smallQueue(kind string, records int) (source watch.Source, err error) {
	err = watchtest.WithQueue(records, func() error {
		source, err = watch.NewSource(kind, watch.SourceOptions{})
		return err
	})
	return source, err
}

// act is one operation on paths below the directory that holds top (watched) and out (not watched).
type act struct {
	verb string
	a, b string
}

// acts are the verbs, as often as they are to be drawn. What cannot be done is not done. The first is what others
// shrink to.
var acts = []string{
	"nothing",
	"chain", "chain", "chain", "chain", "create", "create", "create", "create", "mkdir", "mkdir", "symlink", "socket",
	"append", "append", "append", "truncate", "rewrite", "rewrite", "chmod", "chown", "touch", "xattr",
	"rename", "rename", "rename", "rename", "rename", "rename", "rename", "rename", "exchange", "exchange", "exchange", "link", "link", "link",
	"unlink", "rmdir", "removeall", "replace", "leave", "enter", "enter",
}

// doings are what is done one after the other.
type doings []act

// drawDoings draws few or many.
var drawDoings = rapid.Custom(func(t *rapid.T) (out doings) {
	for range rapid.SampledFrom([]int{2, 6, 25, 70}).Draw(t, "at most") {
		if x := drawAct.Draw(t, "act"); x.verb != "nothing" {
			out = append(out, x)
		}
	}
	return out
})

// GoString is how rapid prints them.
func (d doings) GoString() string {
	var out []string
	for _, x := range d {
		out = append(out, strings.ReplaceAll(strings.TrimSpace(x.verb+" "+x.a+" "+x.b), "top/", ""))
	}
	return strings.Join(out, "; ")
}

var drawPath = rapid.Custom(func(t *rapid.T) string {
	return "top/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 4).Draw(t, "names"), "/")
})

var drawAct = rapid.Custom(func(t *rapid.T) act {
	x := act{verb: rapid.SampledFrom(acts).Draw(t, "verb"), a: drawPath.Draw(t, "a")}
	switch x.verb {
	case "rename", "exchange", "link":
		x.b = drawPath.Draw(t, "b")
	case "leave", "enter":
		x.b = "out/" + rapid.SampledFrom([]string{"x", "y"}).Draw(t, "b")
	}
	return x
})

// linked are the inode numbers of what had several names at some time. What is done to such an object by a name that nobody has
// seen yet is told at the next sweep only, but by fanotify, which says the object.
var linked sync.Map

// deed is what was done to an object, beyond its names.
type deed uint8

const (
	wasWritten       deed = 1 << iota
	wasNearlyWritten      // truncated to the size that it has: to some file systems that is a write
	wasChmodded
	wasChowned
	wasTouched
	wasLabelled
	hasChangedPlaces // with another one: what is said by their names may be of either, where records do not say which object they are about
	hasTakenName     // of another one that was closed by it: that may be told of this one, where records do not say of which
)

// object is what a deed was done to: an inode number may be used again.
type object struct {
	ino   uint64
	btime int64
}

// done is what was done to objects that somebody watches, and what of it is still to be told.
type done struct {
	ever, fresh map[object]deed
	came        map[notify.FileID]bool // objects that have come since: all that they hold is told
	closed      map[entryName]bool     // by which something was
}

// entryName is a name in a directory, wherever that is.
type entryName struct {
	dir  object
	name string
}

// deeds are what was done below a directory, by the directory. Where nothing is kept nobody wants to know.
var deeds sync.Map

// doneTo notes a deed by a path, or by a file that is open if that is not nil.
func doneTo(dir, path string, f *os.File, what deed) {
	kept, ok := deeds.Load(dir)
	if !ok {
		return
	}
	at := unix.AT_FDCWD
	if f != nil {
		at, path = int(f.Fd()), ""
	}
	if o, err := objectAt(at, path); err == nil {
		d := kept.(*done)
		d.ever[o] |= what
		d.fresh[o] |= what
	}
}

// closedAt notes that something was closed by a path, and takenAt that something was renamed to it.
func closedAt(dir, path string) {
	if kept, ok := deeds.Load(dir); ok {
		if o, err := objectAt(unix.AT_FDCWD, filepath.Dir(path)); err == nil {
			kept.(*done).closed[entryName{o, filepath.Base(path)}] = true
		}
	}
}

func takenAt(dir, path string) {
	if kept, ok := deeds.Load(dir); ok {
		if o, err := objectAt(unix.AT_FDCWD, filepath.Dir(path)); err == nil && kept.(*done).closed[entryName{o, filepath.Base(path)}] {
			doneTo(dir, path, nil, hasTakenName)
		}
	}
}

// objectAt is what a path leads to, or the descriptor at if that is empty.
func objectAt(at int, path string) (object, error) {
	var st unix.Statx_t
	err := unix.Statx(at, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &st)
	return object{st.Ino, st.Btime.Sec*1e9 + int64(st.Btime.Nsec)}, err
}

// explains says which deeds explain what is told of an object that was there before; 0: it needs no explanation. If records were lost, a time that
// was set looks like a write.
func explains(n *notify.Notification, lossy bool) deed {
	switch t := n.Type; t {
	case notify.ChildDataWritten, notify.ChildSizeChanged, notify.ChildFileClosed:
		if lossy && t == notify.ChildDataWritten {
			return wasWritten | wasNearlyWritten | wasTouched
		}
		return wasWritten | wasNearlyWritten
	case notify.ChildMtimeChanged:
		return wasWritten | wasNearlyWritten | wasTouched
	case notify.ChildAtimeChanged:
		if n.Attr.IsDir() { // times that are equal by chance look like ones that were set
			return wasTouched | wasLabelled | wasChmodded | wasChowned
		}
		return wasTouched
	case notify.ChildACLChanged:
		if lossy { // see below
			return 0
		}
		return wasChmodded
	case notify.ChildExtraAttrsChanged: // before they are read for the first time that may be all that is known of a change
		if lossy { // and a rename there and back that nobody saw looks like one
			return 0
		}
		return wasLabelled | wasChmodded | wasChowned | wasTouched
	case notify.ChildOwnerChanged, notify.ChildGroupChanged:
		return wasChowned
	}
	return 0
}

// faults finds what was told of objects that nobody did to them, and writes that were not told of a file that is there. left: passes leave names to others, which
// look at them without a record, and a time that was set is told as a write, rather than none.
func (d *done) faults(told []notify.Notification, dir string, listing map[string]notify.FileID, kind string, lossy, left bool) (faults []string) {
	written := make(map[notify.FileID]bool)
	unsure := func(o object) bool { return kind != "fanotify" && d.ever[o]&hasChangedPlaces != 0 }
	for i := range told {
		n := &told[i]
		switch n.Type {
		case notify.ChildFileAdded, notify.ChildDirAdded, notify.ChildFileMovedTo, notify.ChildDirMovedTo:
			d.came[n.ID()] = d.came[n.ID()] || n.Link == 0
		case notify.ChildDataWritten:
			written[n.ID()] = true
		}
		why := explains(n, lossy)
		if why == 0 || d.came[n.ID()] || n.Attr.IsDir() && n.Type == notify.ChildMtimeChanged || n.Attr.Ino == 0 || n.Attr.Btime == 0 {
			continue
		}
		switch {
		case kind != "fanotify" && n.Type == notify.ChildFileClosed:
			why |= hasTakenName
		case left && n.Type == notify.ChildDataWritten:
			why |= wasTouched
		}
		if o := (object{n.Attr.Ino, n.Attr.Btime}); d.ever[o]&why == 0 && !unsure(o) {
			faults = append(faults, fmt.Sprintf("%s %q was told of %d, and nobody did that", n.Type, n.Path, n.ID()%10000))
		}
	}
	for path, id := range listing {
		if o, err := objectAt(unix.AT_FDCWD, filepath.Join(dir, path)); err == nil && !d.came[id] && !written[id] && d.fresh[o]&wasWritten != 0 && !unsure(o) {
			faults = append(faults, fmt.Sprintf("%q (%d) was written to, and that was not told", path, id%10000))
		}
	}
	return faults
}

// serial makes each operation a little different from the others.
var serial atomic.Int64

func (x act) do(dir string) {
	a, b := filepath.Join(dir, x.a), filepath.Join(dir, x.b)
	n := int(serial.Add(1))
	write := func(path string, flags, size int) {
		if f, err := os.OpenFile(path, flags|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0o644); err == nil {
			if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
				f.Write(make([]byte, size))
			}
			doneTo(dir, path, f, wasWritten)
			f.Close()
			closedAt(dir, path)
		}
	}
	switch x.verb {
	case "create":
		write(a, os.O_WRONLY|os.O_CREATE|os.O_EXCL, n%3)
	case "append":
		write(a, os.O_WRONLY|os.O_APPEND, 1+n%3)
	case "rewrite":
		write(a, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 1+n%3)
	case "truncate":
		if st, err := os.Lstat(a); err == nil && st.Mode().IsRegular() {
			what := wasWritten
			if os.Truncate(a, int64(n%50)); st.Size() == int64(n%50) {
				what = wasNearlyWritten
			}
			doneTo(dir, a, nil, what)
		}
	case "chmod":
		if st, err := os.Lstat(a); err == nil && st.Mode()&fs.ModeSymlink == 0 {
			os.Chmod(a, os.FileMode(0o700|n%64))
			doneTo(dir, a, nil, wasChmodded)
		}
	case "chown":
		os.Lchown(a, n%5, n%7)
		doneTo(dir, a, nil, wasChowned)
	case "touch":
		now := time.Now()
		unix.UtimesNanoAt(unix.AT_FDCWD, a, []unix.Timespec{unix.NsecToTimespec(now.UnixNano()), unix.NsecToTimespec(now.UnixNano() - int64(n%2)*1e15)}, unix.AT_SYMLINK_NOFOLLOW)
		doneTo(dir, a, nil, wasTouched)
	case "xattr":
		if st, err := os.Lstat(a); err == nil && (st.IsDir() || st.Mode().IsRegular()) {
			unix.Lsetxattr(a, "user.n", []byte(strconv.Itoa(n)), 0)
			doneTo(dir, a, nil, wasLabelled)
		}
	case "mkdir":
		os.Mkdir(a, 0o755)
	case "chain":
		os.MkdirAll(a, 0o755)
		os.MkdirAll(filepath.Join(a, "b"), 0o755)
		write(filepath.Join(a, "b", "c"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 1)
	case "symlink":
		os.Symlink("a", a)
	case "socket":
		unix.Mknod(a, unix.S_IFSOCK|0o644, 0)
	case "rename":
		if os.Rename(a, b) == nil {
			takenAt(dir, b)
		}
	case "exchange":
		unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
		doneTo(dir, a, nil, hasChangedPlaces)
		doneTo(dir, b, nil, hasChangedPlaces)
	case "link":
		if os.Link(a, b) == nil {
			if st, err := os.Lstat(b); err == nil {
				linked.Store(st.Sys().(*syscall.Stat_t).Ino, true)
			}
		}
	case "unlink":
		unix.Unlink(a)
	case "rmdir":
		unix.Rmdir(a)
	case "removeall":
		os.RemoveAll(a)
	case "replace": // by another object of the other kind
		if st, err := os.Lstat(a); err == nil {
			os.RemoveAll(a)
			if st.IsDir() {
				write(a, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 1)
			} else {
				os.Mkdir(a, 0o755)
			}
		}
	case "leave":
		os.RemoveAll(b)
		os.Rename(a, b)
	case "enter":
		if _, err := os.Lstat(b); err != nil {
			os.MkdirAll(filepath.Join(b, "a", "b"), 0o755)
		}
		os.Rename(b, a)
	}
}

// burst is some operations and how the watcher gets to see them.
type burst struct {
	acts   doings
	second doings // by another thread, at the same time
	mode   string
	piece  int
	pause  time.Duration
	sync   bool // wait until all is told
}

func (b burst) GoString() string {
	s := b.mode
	if b.piece > 0 {
		s += fmt.Sprintf(" %d/%v", b.piece, b.pause)
	}
	if s += ": " + b.acts.GoString(); b.second != nil {
		s += " || " + b.second.GoString()
	}
	if b.sync {
		s += "; sync"
	}
	return "\n      {" + s + "}"
}

var drawBurst = rapid.Custom(func(t *rapid.T) burst {
	b := burst{
		acts: drawDoings.Draw(t, "acts"),
		mode: rapid.SampledFrom([]string{"live", "live", "once", "behind", "lost"}).Draw(t, "mode"),
		sync: rapid.IntRange(0, 3).Draw(t, "sync") > 0,
	}
	switch b.mode {
	case "live":
		if rapid.Bool().Draw(t, "two") {
			b.second = drawDoings.Draw(t, "second")
		}
	case "behind":
		b.piece = rapid.IntRange(1, 4).Draw(t, "piece")
		b.pause = time.Duration(rapid.SampledFrom([]int{0, 1, 1, 1, 12}).Draw(t, "pause")) * time.Millisecond
		fallthrough
	case "once", "lost":
		b.sync = true
	}
	return b
})

// rapidTB makes what goes wrong in a rig a failure of one check.
type rapidTB struct {
	testing.TB
	rt       *rapid.T
	cleanups []func()
}

func (r *rapidTB) Errorf(format string, args ...any) { r.rt.Helper(); r.rt.Errorf(format, args...) }
func (r *rapidTB) Error(args ...any)                 { r.rt.Helper(); r.rt.Error(args...) }
func (r *rapidTB) Fatalf(format string, args ...any) { r.rt.Helper(); r.rt.Fatalf(format, args...) }
func (r *rapidTB) Fatal(args ...any)                 { r.rt.Helper(); r.rt.Fatal(args...) }
func (r *rapidTB) Cleanup(f func())                  { r.cleanups = append(r.cleanups, f) }

func (r *rapidTB) clean() {
	for _, f := range slices.Backward(r.cleanups) {
		f()
	}
}

// rigOptions change how anythingGoes watches.
type rigOptions struct {
	open  func(kind string) (watch.Source, error)
	stall bool                   // nobody reads the queue during a burst
	poll  time.Duration          // not 0: some directories are swept so often, and Sync does not wait for that
	end   func(r *watchtest.Rig) // before the watcher ends

	believe int // watch.Config.BelieveFrom
	list    int // watch.Config.ListNames
}

// drawBelief: everything that can be is believed, or little.
func drawBelief(rt *rapid.T) int { return rapid.SampledFrom([]int{0, 1}).Draw(rt, "believe from") }

// drawListing: a pass lists all, or looks at a name or two.
func drawListing(rt *rapid.T) int { return rapid.SampledFrom([]int{0, 1, 2}).Draw(rt, "list names") }

func anythingGoes(t *testing.T, rt *rapid.T, kind, dir string, opt rigOptions) {
	tb := &rapidTB{TB: t, rt: rt}
	defer tb.clean()
	before := drawDoings.Draw(rt, "before")
	bursts := rapid.SliceOfN(drawBurst, 1, 5).Draw(rt, "bursts")
	opt.believe, opt.list = drawBelief(rt), drawListing(rt)
	play(tb, kind, dir, before, bursts, opt)
}

// play does what is to be done to a fresh tree with a watcher on it, and compares whenever all is told.
func play(tb testing.TB, kind, dir string, before doings, bursts []burst, opt rigOptions) {
	own, err := os.MkdirTemp(dir, kind)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(own) })
	for _, d := range []string{"top", "out"} {
		if err := os.Mkdir(filepath.Join(own, d), 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	for _, x := range before {
		x.do(own)
	}
	var g *watchtest.Gate
	r := watchtest.Start(tb, kind, filepath.Join(own, "top"), func(c *watch.Config) {
		c.PollInterval, c.BelieveFrom, c.ListNames = opt.poll, opt.believe, opt.list
		if opt.open != nil {
			c.Source.Close()
			if c.Source, err = opt.open(kind); err != nil {
				tb.Fatal(err)
			}
		}
		g = watchtest.NewGate(c.Source)
		c.Source = g
	})
	r.Keep()
	known := newAttrs(r.Snap(tb))
	lossy := opt.stall || opt.poll != 0 || kind == "poll" || kind == "fsnotify" // that forgets directories which are moved
	if !slices.ContainsFunc(bursts, func(b burst) bool { return b.second != nil }) && !isOverlay(own) {
		deeds.Store(own, &done{make(map[object]deed), make(map[object]deed), make(map[notify.FileID]bool), make(map[entryName]bool)})
		defer deeds.Delete(own)
	}
	var notes []notify.Notification
	for i, b := range bursts {
		resume := func() {}
		switch {
		case opt.stall:
			listen := g.Stall()
			resume = func() {
				listen()
				time.Sleep(5 * time.Millisecond) // a barrier that is lost as well costs Sync a second
			}
		case b.mode == "lost":
			lossy = true
			g.Lose()
		case b.mode != "live":
			g.Hold(b.piece, b.pause)
		}
		both := make(chan struct{})
		go func() {
			defer close(both)
			for _, x := range b.second {
				x.do(own)
			}
		}()
		for _, x := range b.acts {
			x.do(own)
		}
		<-both
		resume()
		if !b.sync && i < len(bursts)-1 {
			continue
		}
		var faults, pairs []string
		swept, from := false, len(notes)
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(opt.poll) {
			syncSoon(tb, r)
			told := r.Take()
			notes = append(notes, told...)
			pairs = append(pairs, watchtest.PairFaults(told)...)
			known.fold(told)
			disk, err := watchtest.DiskListing(r.Dir)
			if err != nil {
				tb.Fatal(err)
			}
			mirror := r.Mirror.Listing()
			faults = watchtest.Diff("the mirror", mirror, "the disk", disk)
			stale, hidden := known.compare(r.Dir, mirror)
			if len(faults) == 0 && len(stale) > 0 && hidden && !swept && kind != "fanotify" {
				swept, lossy = true, true
				sweepOnce(tb, g, r)
				continue
			}
			if d, kept := deeds.Load(own); kept {
				stale = append(stale, d.(*done).faults(notes[from:], r.Dir, mirror, kind, lossy, opt.list != 0)...)
			}
			faults = append(faults, stale...)
			if len(faults) == 0 || opt.poll == 0 || time.Now().After(deadline) {
				break
			}
		}
		if faults = slices.Concat(faults, r.Mirror.Faults(), pairs); len(faults) > 0 {
			tb.Errorf("after burst %d:\n%s\ntold:\n%s", i+1, strings.Join(faults, "\n"), brief(notes))
			return
		}
		if d, kept := deeds.Load(own); kept {
			clear(d.(*done).fresh)
		}
	}
	if opt.end != nil {
		opt.end(r)
	}
	r.Check(tb)
}

// isOverlay says whether a directory lies on an overlay, where a write may make an object another one.
func isOverlay(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.OVERLAYFS_SUPER_MAGIC
}

// sweepOnce has everything swept.
func sweepOnce(tb testing.TB, g *watchtest.Gate, r *watchtest.Rig) {
	g.Lose()
	name := filepath.Join(r.Dir, "swept")
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		tb.Fatal(err)
	}
	if err := os.Remove(name); err != nil {
		tb.Fatal(err)
	}
}

// syncSoon is Rig.Sync for few operations.
func syncSoon(t testing.TB, r *watchtest.Rig) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if err := r.Watcher.Sync(ctx); err != nil {
		t.Fatalf("Sync: %v", err)
	}
}

// brief writes notifications for a reader.
func brief(notes []notify.Notification) string {
	var b strings.Builder
	for i := range notes {
		n := &notes[i]
		fmt.Fprintf(&b, "  %d.%d %s %q %d", n.Seq.Batch()%100000, n.Seq.Index(), n.Type, n.Path, n.ID()%10000)
		fmt.Fprintf(&b, " %o %d", n.Attr.Mode, n.Attr.Size)
		if n.Link != 0 {
			fmt.Fprintf(&b, " link %d.%d", n.Link.Batch()%100000, n.Link.Index())
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// attrs is what a consumer knows of the attributes of objects who believes only what the types say.
type attrs struct {
	of     map[notify.FileID]notify.Attr
	unsure map[notify.FileID]bool // it has several names: whether one more is news of it cannot be told
}

func newAttrs(s *notify.Snapshot) *attrs {
	a := &attrs{of: make(map[notify.FileID]notify.Attr), unsure: make(map[notify.FileID]bool)}
	for i := range s.Entries {
		a.of[s.Entries[i].ID()] = s.Entries[i].Attr
	}
	return a
}

func (a *attrs) fold(notes []notify.Notification) {
	for i := range notes {
		n := &notes[i]
		is, known := a.of[n.ID()]
		switch n.Type {
		case notify.ChildFileAdded, notify.ChildDirAdded, notify.ChildFileMovedTo, notify.ChildDirMovedTo:
			if n.Link == 0 && known && !n.Attr.IsDir() && n.Attr.Nlink > 1 {
				a.unsure[n.ID()] = true
			} else if n.Link == 0 {
				is = n.Attr
			}
		case notify.ChildSizeChanged:
			is.Size = n.Attr.Size
		case notify.ChildMtimeChanged:
			is.Mtime = n.Attr.Mtime
		case notify.ChildACLChanged:
			is.Mode = n.Attr.Mode
		case notify.ChildOwnerChanged:
			is.UID = n.Attr.UID
		case notify.ChildGroupChanged:
			is.GID = n.Attr.GID
		case notify.ChildExtraAttrsChanged:
			is.X = n.Attr.X
		}
		a.of[n.ID()] = is
	}
}

// compare finds attributes on disk that were not told. hidden says that they are all of objects that had several names.
func (a *attrs) compare(dir string, listing map[string]notify.FileID) (faults []string, hidden bool) {
	hidden = true
	for path, id := range listing {
		is, known := a.of[id]
		if !known {
			faults = append(faults, fmt.Sprintf("%q: nothing is known of %d", path, id))
			continue
		}
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, path), &st); err != nil {
			continue // told by the comparison of names
		}
		if a.unsure[id] {
			continue
		}
		differ := func(what string, known, disk any) {
			if known != disk {
				_, several := linked.Load(st.Ino)
				hidden = hidden && several
				faults = append(faults, fmt.Sprintf("%q: %s was told as %v and is %v (ID %d, links %d)", path, what, known, disk, id%10000, st.Nlink))
			}
		}
		differ("mode", fmt.Sprintf("%o", is.Mode), fmt.Sprintf("%o", st.Mode))
		differ("owner", is.UID, st.Uid)
		differ("group", is.GID, st.Gid)
		if !is.IsDir() { // directories' times are told later
			differ("mtime", is.Mtime, st.Mtim.Nano())
		}
		if is.IsRegular() {
			differ("size", is.Size, st.Size)
		}
	}
	slices.Sort(faults)
	return faults, hidden
}
