package watch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fs_notify/notify"
)

// memSink keeps what is appended.
type memSink struct {
	mu      sync.Mutex
	number  notify.BatchNumber
	batches []*notify.Batch
}

func (m *memSink) Append(_ context.Context, root notify.FileID, notes []notify.Notification) (notify.BatchNumber, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := &notify.Batch{Root: root, Notes: notes}
	b.Assign(max(notify.NumberAt(time.Now()), m.number+1), m.number, 0)
	m.number = b.Number
	m.batches = append(m.batches, b)
	return b.Number, nil
}

func (m *memSink) take() (out []notify.Notification) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range m.batches {
		out = append(out, b.Notes...)
	}
	m.batches = nil
	return out
}

// start watches dir until the test ends; what is given changes the watcher before.
func start(t testing.TB, dir string, changes ...func(w *Watcher)) (*Watcher, *memSink) {
	t.Helper()
	src, err := NewFsnotify()
	if err != nil {
		t.Fatal(err)
	}
	sink := &memSink{}
	w, err := New(Config{Roots: []Root{{Dir: dir}}, Source: src, Sink: sink})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range changes {
		f(w)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-w.Ready()
	return w, sink
}

// What renames and removals of whole directories leave in the tree is what is on the disk, and its storage is in order.
func TestStorageStaysInOrder(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "root")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var w *Watcher
	t.Cleanup(func() { // after the watcher has ended
		if err := w.t.s.audit(); err != nil {
			t.Error(err)
		}
	})
	w, _ = start(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, script := range []string{
		"echo hi > a", "mv a b", "mkdir -p d/e/f; echo x > d/e/f/x", "mv d g", "touch g/e/new", "ln b c", "rm b", "mkdir p q; echo 1 > p/1; echo 2 > q/2", "mv p t; mv q p; mv t q",
		"mkdir -p X/c; touch X/c/f X/g", "mv X/c tmp; rm X/g; rmdir X; mv tmp X", // what is in a directory takes its name
		"mkdir -p Y/c; touch Y/c/f Y/g", "mv Y/c tmp; mv Y tmp/b; mv tmp Y", // and the directory goes into it
		"mkdir -p U/V/W; touch U/V/W/f", "mv U/V/W w; mv U/V v; mv U w/U; mv w U; mv v U/U/W",
		"rm -rf g", "mv c ../c; rm ../c", "mkdir -p ../in/x; echo 1 > ../in/x/f; mv ../in came", "mv came ../out; rm -r ../out",
	} {
		cmd := exec.Command("sh", "-c", script)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatal(err, string(out))
		}
		if err := w.Settle(ctx); err != nil {
			t.Fatal(err)
		}
		var disk, tree []string
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			disk = append(disk, strings.TrimPrefix(strings.TrimPrefix(path, dir), "/"))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		snap, err := w.Snapshot(ctx, w.Roots()[0].ID, true)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range snap.Entries {
			tree = append(tree, e.Path)
		}
		if slices.Sort(disk); !slices.Equal(disk, slices.Sorted(slices.Values(tree))) {
			t.Errorf("after %s:\n the tree has %q\n the disk has %q", script, tree, disk)
		}
	}
}

// quietSource watches nothing: what is measured is the tree.
type quietSource struct{}

func (quietSource) Name() string              { return "quiet" }
func (quietSource) Caps() Caps                { return Caps{} }
func (quietSource) Watch(DirRef, Place) error { return nil }
func (quietSource) Unwatch(DirRef)            {}
func (q quietSource) Close() error            { return nil }
func (q quietSource) Next(ctx context.Context, _ []Record) (int, bool, error) {
	<-ctx.Done()
	return 0, true, ctx.Err()
}

// unwatchable can tell closes where it watches, but no directory can be watched.
type unwatchable struct{ quietSource }

func (unwatchable) Caps() Caps                { return Caps{Closes: true} }
func (unwatchable) NameOf(DirRef) string      { return "" }
func (unwatchable) Watch(DirRef, Place) error { return ErrPolled }

// Of a root that is polled nobody learns when a file is closed, whatever the source can tell of others.
func TestPolledRootsHaveNoCloses(t *testing.T) {
	w, err := New(Config{Roots: []Root{{Dir: t.TempDir()}}, Source: unwatchable{}, Sink: &memSink{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.barrier.open(w.cfg.Source); err != nil {
		t.Fatal(err)
	}
	defer w.barrier.close()
	if !w.States()[0].Closes {
		t.Error("that the root cannot be watched is known before it is tried")
	}
	if err := w.scan(t.Context(), w.t.roots[0]); err != nil {
		t.Fatal(err)
	}
	w.becomeReady()
	if st := w.States()[0]; st.Phase != notify.Live || st.Source != pollName || st.Closes {
		t.Errorf("got %+v", st)
	}
}

// sweepAll does a whole sweep of a watcher that was not started.
func sweepAll(w *Watcher) {
	w.begin(&sweep{})
	for w.sweep != nil {
		d := newDirt()
		w.sweepStep(d, 0)
		w.sweep.stepped = true
		w.pass(d)
	}
}

// newIdle is a watcher that was not started.
func newIdle(t *testing.T, dir string) *Watcher {
	t.Helper()
	w, err := New(Config{Roots: []Root{{Dir: dir}}, Source: quietSource{}, Sink: &memSink{}})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// While a sweep rests there is nothing to do, whatever else would be due.
func TestNothingIsDueWhileASweepRests(t *testing.T) {
	w := newIdle(t, t.TempDir())
	now := time.Now()
	w.pollDue, w.fullDue = now.Add(-time.Second), now.Add(-time.Second)
	if got := w.pause(); got != 0 {
		t.Errorf("%v of rest while a sweep is due", got)
	}
	w.sweep, w.restAfter = &sweep{next: 1}, now.Add(time.Hour)
	if got := w.pause(); got < time.Minute {
		t.Errorf("%v of rest before the sweep goes on in an hour", got)
	}
}

// The clock is set back by an hour: modification times of directories are told all the same.
func TestDirectoryTimesWhenTheClockIsSetBack(t *testing.T) {
	dir := t.TempDir()
	var back atomic.Int64
	w, sink := start(t, dir, func(w *Watcher) {
		w.t.now = func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }
	})
	for i, name := range []string{"d", "d/a", "d/b"} {
		if i == 2 {
			back.Store(int64(time.Hour))
		}
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Minute)
		if err := w.Settle(short); err != nil {
			t.Fatalf("after the making of %s: %v", name, err)
		}
		cancel()
		told := slices.ContainsFunc(sink.take(), func(n notify.Notification) bool { return n.Type == notify.ChildMtimeChanged && n.Path == "d" })
		if i > 0 && !told {
			t.Errorf("%s was made, and the time of its directory is not told", name)
		}
	}
}

// stopped is an option for start: a clock that moves only as later does, in nanoseconds.
func stopped(later *atomic.Int64) func(*Watcher) {
	begin := time.Now()
	return func(w *Watcher) {
		w.t.now = func() time.Time { return begin.Add(time.Duration(later.Load())) }
	}
}

// While the modification time of a directory still has to be told, other notifications of it bear the one that was told: who keeps
// their attributes, as the journal does, would else find nothing to tell after a restart.
func TestDirectoryTimeThatWaits(t *testing.T) {
	dir := t.TempDir()
	var later atomic.Int64
	w, sink := start(t, dir, stopped(&later))
	step := func(f func() error) (notes []notify.Notification) {
		t.Helper()
		if err := errors.Join(f(), w.Sync(t.Context())); err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(sink.take(), func(n notify.Notification) bool { return n.Path != "d" })
	}
	d := filepath.Join(dir, "d")
	step(func() error { return os.Mkdir(d, 0o755) })
	notes := step(func() error { return os.Mkdir(filepath.Join(d, "x"), 0o755) })
	if len(notes) != 1 || notes[0].Type != notify.ChildMtimeChanged {
		t.Fatalf("told of the first name: %v", notes)
	}
	told := notes[0].Attr.Mtime
	if notes = step(func() error { return os.Mkdir(filepath.Join(d, "y"), 0o755) }); len(notes) > 0 {
		t.Fatalf("told of the second name at the same time: %v", notes)
	}
	notes = step(func() error { return os.Chmod(d, 0o700) })
	if len(notes) != 1 || notes[0].Type != notify.ChildACLChanged || notes[0].Attr.Mtime != told || notes[0].Attr.Perm() != 0o700 {
		t.Errorf("told of the mode, with the time %d before: %v", told, notes)
	}
	later.Store(int64(2 * mtimePause))
	st, err := os.Stat(d)
	if err != nil {
		t.Fatal(err)
	}
	notes = step(func() error { return w.Settle(t.Context()) })
	if len(notes) != 1 || notes[0].Type != notify.ChildMtimeChanged || notes[0].Attr.Mtime != st.ModTime().UnixNano() {
		t.Errorf("told when it was time: %v, the time is %d", notes, st.ModTime().UnixNano())
	}
}

// Who waits is let go when the watcher ends, and told so; who cannot wait is not remembered.
func TestSyncAtTheEnd(t *testing.T) {
	w := newIdle(t, t.TempDir())
	close(w.ready)
	b := &w.barrier
	b.waiting, b.dir = make(map[uint64]*barrierWait), filepath.Join(t.TempDir(), "gone")
	if err := w.Sync(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a private directory: %v", err)
	}
	if len(b.waiting) > 0 {
		t.Errorf("%d waits are left of one that failed", len(b.waiting))
	}
	b.polled = true
	done := make(chan error)
	go func() { done <- w.Sync(t.Context()) }()
	for waits := 0; waits == 0; {
		b.mu.Lock()
		waits = len(b.waiting)
		b.mu.Unlock()
		runtime.Gosched()
	}
	b.close()
	if err := <-done; !errors.Is(err, notify.Closed) {
		t.Errorf("ended meanwhile: %v", err)
	}
	if err := w.Sync(t.Context()); !errors.Is(err, notify.Closed) {
		t.Errorf("ended before: %v", err)
	}
}

// goOn has a watcher do what there is to do until ok.
func goOn(t *testing.T, w *Watcher, what string, ok func() bool) {
	t.Helper()
	for begin := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		w.checkRoots(t.Context())
		if d := w.next(); d != nil {
			w.pass(d)
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatal(what)
		}
	}
}

// A glob is like what is in a directory, or like the directory.
func TestExcluder(t *testing.T) {
	for _, tt := range []struct {
		glob              string
		likes, likesDirs  string // paths
		others, otherDirs string
	}{
		{"a/*", "a/b", "a/b", "a a/b/c", "a"},
		{"a/", "", "a", "a a/b", "a/b"},
		{"a/**", "a a/b", "a a/b a/b/c", "b", "b"},
		{"a/**/", "", "a a/b", "a a/b", "b"},
		{"{a/,b}", "b", "a b", "a a/b", "a/b"},
		{"**/a/*", "a/b x/a/b", "x/a/b", "a x/a", "a x/a"},
		{"*", "a", "a", "a/b", "a/b"},
	} {
		out := excluder([]string{"none", tt.glob})
		for _, c := range []struct {
			paths     string
			dir, want bool
		}{{tt.likes, false, true}, {tt.likesDirs, true, true}, {tt.others, false, false}, {tt.otherDirs, true, false}} {
			for _, path := range strings.Fields(c.paths) {
				if got := out(path, c.dir); got != c.want {
					t.Errorf("%q leaves out %q (a directory: %t): %t", tt.glob, path, c.dir, got)
				}
			}
		}
	}
}
