package watchtest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"fs_notify/notify"
	"fs_notify/watch"
)

// Rig is a watcher on a directory with a mirror behind it.
type Rig struct {
	*watch.Watcher
	Dir    string
	Mirror *Mirror
	sink   *sink
	stop   func()
}

// sink numbers batches, folds them into the mirror and keeps the notifications.
type sink struct {
	mu     sync.Mutex
	number notify.BatchNumber
	mirror *Mirror
	start  notify.BatchNumber // the mirror's snapshot
	early  []*notify.Batch
	kept   []notify.Notification
	keep   bool
}

// mostLoad is what no batch exceeds, not even one of which nothing must be cut off: see notify.MaxBatchBytes.
var mostLoad = notify.Load{Indexes: notify.BatchIndexes, Weight: 2 * notify.MaxBatchBytes}

func (s *sink) Append(_ context.Context, root notify.FileID, notes []notify.Notification) (notify.BatchNumber, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if load := notify.LoadOf(notes); !load.Within(mostLoad) {
		return 0, fmt.Errorf("a batch of %d indexes and %d bytes", load.Indexes, load.Weight)
	}
	b := &notify.Batch{Root: root, Notes: notes}
	b.Assign(max(notify.NumberAt(time.Now()), s.number+1), s.number, 0)
	s.number = b.Number
	if s.keep {
		s.kept = append(s.kept, b.Notes...)
	}
	if s.mirror == nil {
		s.early = append(s.early, b)
	} else if b.Number > s.start {
		s.mirror.Fold(b.Notes)
	}
	return b.Number, nil
}

// endWait is how long a watcher may take to end.
const endWait = time.Minute

// Start watches dir with a source of the given kind ("auto", "fsnotify", ...) until the test ends. The options change the configuration.
func Start(t testing.TB, kind, dir string, options ...func(*watch.Config)) *Rig {
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	src, err := watch.NewSource(kind, watch.SourceOptions{Logger: log})
	if err != nil {
		t.Fatalf("source %s: %v", kind, err)
	}
	s := &sink{}
	cfg := watch.Config{Roots: []watch.Root{{Name: "/root", Dir: dir}}, Source: src, Sink: s, Logger: log}
	for _, o := range options {
		o(&cfg)
	}
	w, err := watch.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	r := &Rig{Watcher: w, Dir: dir, sink: s}
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(endWait): // it hangs: where, is worth more than the other tests
			debug.SetTraceback("all")
			panic("watchtest: the watcher of " + t.Name() + " does not end")
		}
	})
	t.Cleanup(r.stop)
	<-w.Ready()
	snap := r.Snap(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mirror, s.start = NewMirror(snap), snap.Seq.Batch()
	for _, b := range s.early {
		if b.Number > s.start {
			s.mirror.Fold(b.Notes)
		}
	}
	s.early = nil
	r.Mirror = s.mirror
	return r
}

// Stop ends the watcher before the test does.
func (r *Rig) Stop() { r.stop() }

// Snap takes a snapshot of the root.
func (r *Rig) Snap(t testing.TB) *notify.Snapshot {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	e, err := r.LookupPath(ctx, "/root")
	if err != nil {
		t.Fatalf("the root: %v", err)
	}
	s, err := r.Snapshot(ctx, e.ID(), true)
	if err != nil {
		t.Fatalf("Snapshot: %v", err)
	}
	return s
}

// Sync waits until all that has happened is told.
func (r *Rig) Sync(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := r.Watcher.Sync(ctx); err != nil {
		t.Fatalf("Sync: %v", err)
	}
}

// Settle is Sync, and the times of directories too.
func (r *Rig) Settle(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := r.Watcher.Settle(ctx); err != nil {
		t.Fatalf("Settle: %v", err)
	}
}

// KeepAll is an option for Start: notifications are kept from the first one on.
func KeepAll(c *watch.Config) { c.Sink.(*sink).keep = true }

// Keep begins to keep notifications, Take returns those kept so far.
func (r *Rig) Keep() {
	r.sink.mu.Lock()
	defer r.sink.mu.Unlock()
	r.sink.keep = true
}

// Take returns what was told since the last call.
func (r *Rig) Take() []notify.Notification {
	r.sink.mu.Lock()
	defer r.sink.mu.Unlock()
	out := r.sink.kept
	r.sink.kept = nil
	return out
}

// Check compares the mirror with the disk, and its IDs with those that a new watcher finds: no difference in path, kind or
// ID, and no invalid step on the way.
func (r *Rig) Check(t testing.TB) {
	t.Helper()
	r.Sync(t)
	for _, f := range r.Mirror.Faults() {
		t.Errorf("invalid step: %s", f)
	}
	disk, err := DiskListing(r.Dir)
	if err != nil {
		t.Fatal(err)
	}
	mirror := r.Mirror.Listing()
	for _, d := range Diff("the mirror", mirror, "the disk", disk) {
		t.Error(d)
	}
	for _, d := range Diff("the mirror", mirror, "a new scan", FreshListing(t, r.Dir)) {
		t.Error(d)
	}
}

// FreshListing is what a watcher that knows nothing finds in dir.
func FreshListing(t testing.TB, dir string) map[string]notify.FileID {
	t.Helper()
	src, err := watch.NewSource("poll", watch.SourceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := watch.New(watch.Config{Roots: []watch.Root{{Name: "/root", Dir: dir}}, Source: src, Sink: &sink{}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	<-w.Ready()
	e, err := w.LookupPath(ctx, "/root")
	if err != nil {
		t.Fatal(err)
	}
	s, err := w.Snapshot(ctx, e.ID(), true)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	<-done
	return SnapshotListing(s)
}
