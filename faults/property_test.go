//go:build linux

package faults_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"fs_notify/notify"
	"fs_notify/notify/feed"
	"fs_notify/notify/journal"
	"fs_notify/watch"
	"fs_notify/watch/watchtest"
)

// Anything is done to the files, to the service and to its state directory, and readers stop, go on and go back as they like. Each
// cursor that the journal still has leads on without a hole, each other one is told to be gone, no number means two things, and whoever
// has read everything holds what is on disk. What fails shrinks to a few lines in testdata/restarts, which are tried first from
// then on. FS_NOTIFY_PROPERTY_CHECKS=1000 looks for longer.
func TestRestartsAndCursors(t *testing.T) {
	t.Parallel()
	const scripts = "testdata/restarts"
	known, err := filepath.Glob(scripts + "/*.txt")
	if err != nil || len(known) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	eachDisk(t, func(t *testing.T, dir string) {
		for _, path := range known {
			t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
				text, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				perform(t, dir, strings.Split(strings.TrimSpace(string(text)), "\n"))
			})
		}
		t.Run("anything", func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				steps := drawScript.Draw(rt, "script")
				tb := &checked{TB: t, rt: rt}
				defer tb.clean()
				defer func() {
					if rt.Failed() { // the last one that fails is the shortest
						os.WriteFile(scripts+"/failed.txt", []byte(strings.Join(steps, "\n")+"\n"), 0o644)
					}
				}()
				perform(tb, dir, steps)
			})
		})
	})
}

// checked makes what goes wrong a failure of one check, and ends what it began with it.
type checked struct {
	testing.TB
	rt       *rapid.T
	cleanups []func()
}

func (c *checked) Errorf(format string, args ...any) { c.rt.Helper(); c.rt.Errorf(format, args...) }
func (c *checked) Error(args ...any)                 { c.rt.Helper(); c.rt.Error(args...) }
func (c *checked) Fatalf(format string, args ...any) { c.rt.Helper(); c.rt.Fatalf(format, args...) }
func (c *checked) Fatal(args ...any)                 { c.rt.Helper(); c.rt.Fatal(args...) }
func (c *checked) Failed() bool                      { return c.rt.Failed() }
func (c *checked) Cleanup(f func())                  { c.cleanups = append(c.cleanups, f) }

func (c *checked) clean() {
	for _, f := range slices.Backward(c.cleanups) {
		f()
	}
}

// The steps of a script. Paths are below the root; x and y lie beside it.
//
//	mkdir, chain, create, write, chmod, chown, symlink, unlink, removeall PATH
//	rename, exchange, link PATH PATH; leave PATH x; enter x PATH
//	start WATCHER; stop; kill    the service, which starts by itself where it is needed
//	wipe; backup; restore; back  the state directory, the clock; while the service is down
//	follow                       one more reader, from a snapshot
//	read N COUNT; rewind N COUNT reader N takes so many parts; goes back to where it had seen so many notifications
//	sync                         all that happened is told, and every reader reads it
var drawScript = rapid.SliceOfN(drawStep, 2, 40)

var drawStep = rapid.Custom(func(t *rapid.T) string {
	path := func() string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 3).Draw(t, "path"), "/")
	}
	verb := rapid.SampledFrom([]string{
		"sync", "sync", "sync", "follow", "read", "read", "rewind", // the first is what others shrink to
		"chain", "chain", "chain", "create", "create", "mkdir", "write", "write", "chmod", "chown", "symlink", "unlink", "removeall",
		"rename", "rename", "rename", "rename", "exchange", "link", "leave", "enter",
		"stop", "kill", "kill", "start", "wipe", "backup", "restore", "back",
	}).Draw(t, "verb")
	switch verb {
	case "rename", "exchange", "link":
		verb += " " + path() + " " + path()
	case "leave":
		verb += " " + path() + " " + rapid.SampledFrom([]string{"x", "y"}).Draw(t, "outside")
	case "enter":
		verb += " " + rapid.SampledFrom([]string{"x", "y"}).Draw(t, "outside") + " " + path()
	case "start":
		verb += " " + rapid.SampledFrom([]string{"inotify", "fanotify"}).Draw(t, "watcher")
	case "read", "rewind":
		verb += fmt.Sprintf(" %d %d", rapid.IntRange(0, 3).Draw(t, "reader"), rapid.IntRange(0, 20).Draw(t, "count"))
	case "sync", "follow", "stop", "kill", "wipe", "backup", "restore", "back":
	default:
		verb += " " + path()
	}
	return verb
})

// stage is where a script is performed: the service in this process, wired as the command wires it.
type stage struct {
	testing.TB
	dir     string // holds everything of this script
	state   string // the state directory
	states  int    // made so far
	backup  string // "": none
	ahead   time.Duration
	backed  bool // the clock was set back: losing state could give a number twice from then on
	lost    bool // state was lost: setting the clock back could do the same, until a service has begun a new journal
	watcher string
	serial  int

	j     *journal.Journal // nil: the service is down
	w     *watch.Watcher
	f     *feed.Feed
	root  notify.FileID
	end   func() // ends the watcher and the journal's upkeep
	given *given // what the journal has

	saved   *given // what the backup has
	book    *ledger
	readers []*reader
}

// given are the numbers that are in a journal.
type given struct {
	mu   sync.Mutex
	base notify.BatchNumber
	all  map[notify.BatchNumber]bool
}

func (g *given) has(n notify.BatchNumber) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return n == g.base || g.all[n]
}

func (g *given) clone() *given {
	g.mu.Lock()
	defer g.mu.Unlock()
	return &given{base: g.base, all: maps.Clone(g.all)}
}

// noting is a journal that notes what it was given.
type noting struct {
	*journal.Journal
	given *given
}

func (n noting) Append(ctx context.Context, root notify.FileID, notes []notify.Notification) (notify.BatchNumber, error) {
	number, err := n.Journal.Append(ctx, root, notes)
	n.given.mu.Lock()
	defer n.given.mu.Unlock()
	n.given.all[number] = true
	return number, err
}

func perform(t testing.TB, dir string, steps []string) {
	own, err := os.MkdirTemp(dir, "script")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(own) })
	s := &stage{TB: t, dir: own, state: filepath.Join(own, "state0"), watcher: "inotify", book: newLedger()}
	t.Cleanup(func() { s.down(true) })
	if err := os.Mkdir(s.path("root"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i, step := range steps {
		s.step(strings.Fields(step))
		if t.Failed() {
			t.Fatalf("in line %d of\n%s", i+1, strings.Join(steps, "\n"))
		}
	}
	s.step([]string{"sync"})
	if !t.Failed() {
		s.compare("a new scan", watchtest.FreshListing(t, s.path("root")))
	}
	if t.Failed() {
		t.Fatalf("at the end of\n%s", strings.Join(steps, "\n"))
	}
}

func (s *stage) path(p string) string { return filepath.Join(s.dir, p) }

func (s *stage) step(words []string) {
	s.serial++
	var args [2]string // paths, or numbers
	copy(args[:], words[1:])
	a, b := s.path("root/"+args[0]), s.path("root/"+args[1])
	first, _ := strconv.Atoi(args[0])
	second, _ := strconv.Atoi(args[1])
	switch words[0] {
	case "mkdir":
		os.Mkdir(a, 0o755)
	case "chain":
		os.MkdirAll(a+"/b", 0o755)
		os.WriteFile(a+"/b/c", []byte("x"), 0o644)
	case "create":
		os.WriteFile(a, nil, 0o644)
	case "write":
		os.WriteFile(a, make([]byte, s.serial), 0o644)
	case "chmod":
		if st, err := os.Lstat(a); err == nil && st.Mode()&os.ModeSymlink == 0 {
			os.Chmod(a, os.FileMode(0o700|s.serial%64))
		}
	case "chown":
		os.Lchown(a, s.serial%5, s.serial%7)
	case "symlink":
		os.Symlink("nowhere", a)
	case "unlink":
		unix.Unlink(a)
	case "removeall":
		os.RemoveAll(a)
	case "rename":
		os.Rename(a, b)
	case "exchange":
		unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	case "link":
		os.Link(a, b)
	case "leave":
		os.RemoveAll(s.path(args[1]))
		os.Rename(a, s.path(args[1]))
	case "enter":
		if _, err := os.Lstat(s.path(args[0])); err != nil {
			os.MkdirAll(s.path(args[0])+"/a/b", 0o755)
		}
		os.Rename(s.path(args[0]), b)
	case "start":
		if s.watcher = args[0]; !mayWatchAll() {
			s.watcher = "inotify"
		}
		s.up()
	case "stop":
		s.down(true)
	case "kill":
		s.down(false)
	case "wipe":
		if s.down(true); !s.backed {
			s.newState()
			s.given, s.lost = nil, true
		}
	case "backup":
		if s.down(true); s.given != nil {
			s.backup = filepath.Join(s.dir, fmt.Sprint("backup", s.serial))
			s.copyState(s.backup)
			s.saved = s.given.clone()
		}
	case "restore":
		if s.down(true); s.backup != "" && !s.backed {
			s.newState()
			if err := os.CopyFS(s.state, os.DirFS(s.backup)); err != nil {
				s.Fatal(err)
			}
			s.given, s.lost = s.saved.clone(), true
		}
	case "back":
		if s.down(true); !s.lost {
			s.ahead -= 24 * time.Hour
			s.backed = true
		}
	case "follow":
		s.up()
		s.readers = append(s.readers, &reader{stage: s})
		s.readers[len(s.readers)-1].begin()
	case "read":
		if s.up(); first < len(s.readers) {
			s.readers[first].read(second)
		}
	case "rewind":
		if first < len(s.readers) {
			s.readers[first].rewind(second)
		}
	case "sync":
		if s.up(); len(s.readers) == 0 {
			s.step([]string{"follow"})
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.w.Sync(ctx); err != nil {
			s.Fatalf("Sync: %v", err)
		}
		for _, r := range s.readers {
			r.read(-1)
		}
		disk, err := watchtest.DiskListing(s.path("root"))
		if err != nil {
			s.Fatal(err)
		}
		s.compare("the disk", disk)
	default:
		s.Fatalf("there is no step %q", words)
	}
}

// compare holds all readers, who have read everything, against what is there.
func (s *stage) compare(what string, want map[string]notify.FileID) {
	s.Helper()
	facts, err := readDisk(s.path("root"))
	if err != nil {
		s.Fatal(err)
	}
	for i, r := range s.readers {
		listing := r.mirror.Listing()
		for _, d := range watchtest.Diff(fmt.Sprint("the mirror of reader ", i), listing, what, want) {
			s.Error(d)
		}
		for p, id := range listing {
			got, want := r.facts[id], facts[p]
			if want.Kind == "directory" { // whose size means nothing, and whose time is told later
				got.Size, got.Mtime = want.Size, want.Mtime
			}
			if _, there := facts[p]; there && got != want {
				s.Errorf("reader %d was told that %q is %+v, it is %+v", i, p, got, want)
			}
		}
	}
}

// newState takes another, empty state directory.
func (s *stage) newState() {
	s.states++
	s.state = filepath.Join(s.dir, fmt.Sprint("state", s.states))
}

func (s *stage) copyState(to string) {
	s.Helper()
	if err := os.CopyFS(to, os.DirFS(s.state)); err != nil {
		s.Fatal(err)
	}
}

// up starts the service if it is down, and returns when it has told what happened meanwhile.
func (s *stage) up() {
	if s.j != nil {
		return
	}
	s.Helper()
	quiet := slog.New(slog.DiscardHandler)
	source, err := watch.NewSource(s.watcher, watch.SourceOptions{Logger: quiet})
	if err != nil {
		s.Fatal(err)
	}
	now := func() time.Time { return time.Now().Add(s.ahead) }
	// A ring this small has readers go between pages and memory all the time.
	j, err := journal.Open(s.state, journal.Options{RingBytes: 4 << 10, Now: now, Log: quiet})
	if err != nil {
		source.Close()
		s.Fatal(err)
	}
	if s.given == nil {
		s.lost = false // a restored one ends with the numbers that it had
		s.given = &given{base: j.Bounds().Base, all: make(map[notify.BatchNumber]bool)}
	}
	w, err := watch.New(watch.Config{Roots: []watch.Root{{Name: rootName, Dir: s.path("root")}}, Source: source,
		Sink: noting{j, s.given}, Past: j, Head: j.Bounds().Head, Logger: quiet})
	if err != nil {
		source.Close()
		s.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	watching, keeping := make(chan error, 1), make(chan error, 1)
	upkeep, stopUpkeep := context.WithCancel(context.Background())
	go func() { watching <- w.Run(ctx) }()
	go func() { keeping <- j.Run(upkeep) }()
	s.j, s.w, s.f = j, w, feed.New(j, feed.Options{})
	s.end = func() {
		cancel()
		err := <-watching
		stopUpkeep()
		if err := errors.Join(err, <-keeping); err != nil {
			s.Errorf("the service ended with %v", err)
		}
	}
	select {
	case <-w.Ready():
	case <-time.After(patience):
		s.Fatal("the root does not become live")
	}
	e, err := w.LookupPath(ctx, rootName)
	if err != nil {
		s.Fatal(err)
	}
	s.root = e.ID()
}

// down ends the service, in good order or as kill -9 does: then the next one finds the files as they are at this moment.
func (s *stage) down(orderly bool) {
	if s.j == nil {
		return
	}
	s.Helper()
	for _, r := range s.readers {
		r.leave()
	}
	s.end()
	was := s.state
	if !orderly {
		s.newState()
		if err := os.CopyFS(s.state, os.DirFS(was)); err != nil {
			s.Error(err)
		}
	}
	if err := s.j.Close(); err != nil {
		s.Errorf("Close: %v", err)
	}
	if s.j = nil; !orderly {
		os.RemoveAll(was)
	}
}

// reader follows the root with a cursor.
type reader struct {
	*stage
	sub    *feed.Sub
	at     notify.Seq
	last   notify.Seq // the highest ever seen
	snap   *notify.Snapshot
	seen   []seen // since the snapshot
	mirror *watchtest.Mirror
	facts  map[notify.FileID]fact
}

// seen is what was read in one go: a notification, or those of one operation, and the cursor behind it.
type seen struct {
	notes []notify.Notification
	then  notify.Seq
}

func factOf(a *notify.Attr) fact {
	return fact{Kind: a.Kind(), Size: a.Size, Mode: fmt.Sprintf("0%o", a.Perm()), Owner: a.UID, Group: a.GID, Mtime: string(notify.AppendTime(nil, a.Mtime))}
}

// begin takes a snapshot.
func (r *reader) begin() {
	r.Helper()
	snap, err := r.w.Snapshot(context.Background(), r.root, true)
	if err != nil {
		r.Fatalf("Snapshot: %v", err)
	}
	if snap.Seq < r.last {
		r.Errorf("a snapshot as of %d, but %d was seen before", snap.Seq, r.last)
	}
	r.leave()
	r.snap, r.at, r.last, r.seen = snap, snap.Seq, snap.Seq, nil
	r.build()
}

// build makes the mirror of what was seen.
func (r *reader) build() {
	r.mirror, r.facts = watchtest.NewMirror(r.snap), make(map[notify.FileID]fact)
	for i := range r.snap.Entries {
		r.facts[r.snap.Entries[i].ID()] = factOf(&r.snap.Entries[i].Attr)
	}
	for _, s := range r.seen {
		r.fold(s.notes)
	}
}

func (r *reader) fold(notes []notify.Notification) {
	r.mirror.Fold(notes)
	for i := range notes {
		r.facts[notes[i].ID()] = factOf(&notes[i].Attr)
	}
}

func (r *reader) leave() {
	if r.sub != nil {
		r.sub.Close()
		r.sub = nil
	}
}

// rewind goes back to where so many things had been seen.
func (r *reader) rewind(n int) {
	r.leave()
	r.seen = r.seen[:min(n, len(r.seen))]
	if r.at = r.snap.Seq; len(r.seen) > 0 {
		r.at = r.seen[len(r.seen)-1].then
	}
	r.last = r.at
	r.build()
}

// read takes so many parts, or all there are.
func (r *reader) read(parts int) {
	r.Helper()
	ctx := context.Background()
	if r.sub == nil {
		view := feed.View{Root: r.root, Dir: r.root, Recursive: true, Types: notify.Qumulo}
		var err error
		r.sub, err = r.f.Subscribe(ctx, view, r.at)
		switch valid := r.given.has(r.at.Batch()); {
		case errors.Is(err, notify.Gone) && valid:
			r.Errorf("cursor %d is gone: the journal has it", r.at)
			return
		case errors.Is(err, notify.Gone):
			r.begin()
			r.read(parts)
			return
		case err != nil:
			r.Fatalf("Subscribe: %v", err)
		case !valid:
			r.Errorf("cursor %d is taken: this journal never gave it, or has lost it", r.at)
			return
		}
	}
	for ; parts != 0; parts-- {
		part, err := r.sub.Next(ctx, 0)
		if errors.Is(err, feed.ErrIdle) {
			break
		}
		if err != nil || part.End {
			r.Fatalf("behind cursor %d: %v, end %v", r.at, err, part.End)
		}
		var s seen
		for i, h := range part.Hits {
			if h.Note.Seq <= r.last {
				r.Errorf("Seq %d does not rise above %d", h.Note.Seq, r.last)
			}
			if !r.book.enter(h.Note) {
				r.Errorf("Seq %d was given for something else before", h.Note.Seq)
			}
			r.last = h.Note.Seq
			s.notes = append(s.notes, *h.Note)
			if h.Glued {
				continue
			}
			if s.then = h.Note.Seq; i == len(part.Hits)-1 {
				s.then = r.sub.Cursor().Seq
			}
			r.seen = append(r.seen, s)
			s = seen{}
		}
		var all []notify.Notification
		for _, h := range part.Hits {
			all = append(all, *h.Note)
		}
		r.fold(all)
	}
	r.at = r.sub.Cursor().Seq
	r.last = max(r.last, r.at)
	for _, f := range r.mirror.Faults() {
		r.Errorf("invalid step: %s", f)
	}
}

// propertyChecks is how often a property is tried.
func propertyChecks() string {
	return cmp.Or(os.Getenv("FS_NOTIFY_PROPERTY_CHECKS"), pick("12", "1000"))
}
