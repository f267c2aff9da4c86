package watch_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"fs_notify/notify"
	"fs_notify/notify/journal"
	"fs_notify/watch"
	"fs_notify/watch/watchtest"
)

// notebook is a past that remembers trees by their notes only.
type notebook struct {
	mu    sync.Mutex
	notes map[notify.FileID][]byte
	gone  []notify.FileID
}

func (m *notebook) LoadTree(context.Context, notify.FileID, watch.PastEntry) ([]byte, notify.BatchNumber, error) {
	return nil, 0, &notify.Error{Kind: notify.NotFound}
}

func (m *notebook) ResetTree(_ context.Context, _ notify.FileID, _ []byte, walk func(watch.PastEntry) error, _ ...notify.FileID) (notify.BatchNumber, error) {
	return 0, walk(func(notify.FileID, string, notify.FileID, *notify.Attr) error { return nil })
}

func (m *notebook) AmendTree(context.Context, notify.FileID, []byte, func(notify.FileID, *notify.Attr) bool) error {
	return nil
}

func (m *notebook) TreeNotes() map[notify.FileID][]byte { return m.notes }

func (m *notebook) RootNotes() map[notify.FileID][]byte { return m.notes }

func (m *notebook) ForgetTree(root notify.FileID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone = append(m.gone, root)
	return nil
}

// broken is a past that cannot store a tree.
type broken struct{ notebook }

func (b *broken) ResetTree(ctx context.Context, root notify.FileID, note []byte, walk func(watch.PastEntry) error, _ ...notify.FileID) (notify.BatchNumber, error) {
	_, err := b.notebook.ResetTree(ctx, root, note, walk)
	return 12345, errors.Join(err, errors.New("the disk is full"))
}

// Where the tree cannot be stored, all cursors up to a number are gone. Nobody is given one of these, though nothing happens after that.
func TestTreeThatCannotBeStored(t *testing.T) {
	r := watchtest.Start(t, "poll", t.TempDir(), func(c *watch.Config) { c.Past = &broken{} })
	if got := r.Snap(t).Seq.Batch(); got != 12345 {
		t.Errorf("a snapshot is of batch %d, want 12345", got)
	}
}

// A root that left the configuration is forgotten. One that is served is not, though it may be away.
func TestRootsThatLeftTheConfigurationAreForgotten(t *testing.T) {
	for _, tt := range []struct {
		forget bool
		want   []notify.FileID
	}{{true, []notify.FileID{7}}, {false, nil}} {
		past := &notebook{notes: map[notify.FileID][]byte{
			7: []byte(`{"version":1,"name":"/elsewhere"}`),
			8: []byte(`{"version":1,"name":"/root"}`),
			9: []byte(`what another version wrote`),
		}}
		r := watchtest.Start(t, "poll", t.TempDir(), func(c *watch.Config) { c.Past, c.ForgetOthers = past, tt.forget })
		r.Stop()
		if !slices.Equal(past.gone, tt.want) {
			t.Errorf("forgotten, asked to %v: %v, want %v", tt.forget, past.gone, tt.want)
		}
	}
}

// A directory takes the place of a root, and its name, between two starts, and in the end the first one is back: nothing that was read before can be gone on from, by
// whatever protocol, and one tree is remembered. A root that is new beside it ends no cursor.
func TestRootIsReplacedBetweenStarts(t *testing.T) {
	base, state := t.TempDir(), t.TempDir()
	root := filepath.Join(base, "root")
	for _, dir := range []string{root, filepath.Join(base, "beside")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run := func(beside bool) (newest notify.Seq, trees int, log string, kept func(notify.Seq) bool) {
		text := &said{}
		j, err := journal.Open(state, journal.Options{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { j.Close() })
		r := watchtest.Start(t, "poll", root, func(c *watch.Config) {
			if beside {
				c.Roots = append(c.Roots, watch.Root{Name: "/beside", Dir: filepath.Join(base, "beside")})
			}
			c.Logger, c.Past, c.Sink, c.Head, c.ForgetOthers = slog.New(slog.NewTextHandler(text, nil)), j, j, j.Bounds().Head, true
		})
		r.Snap(t)
		r.Stop()
		newest, trees = j.Bounds().Newest(), len(j.Trees())
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		return newest, trees, text.String(), func(pos notify.Seq) bool {
			j, err := journal.Open(state, journal.Options{Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			defer j.Close()
			_, ok, err := j.Contains(t.Context(), pos)
			return ok && err == nil
		}
	}
	before, _, _, _ := run(false)
	after, trees, _, kept := run(true)
	if trees != 2 || !kept(before) || !kept(after) {
		t.Fatalf("a new root beside it: %d trees, older cursors are good: %v, %v", trees, kept(before), kept(after))
	}
	const warning = "another directory has the name of the root: it is scanned anew, and older cursors are gone"
	for i, next := range []string{"second", "third", "fourth", "first"} {
		err := os.Rename(root, filepath.Join(base, []string{"first", "second", "third", "fourth"}[i]))
		if err == nil && next != "first" {
			err = os.Mkdir(filepath.Join(base, next), 0o755)
		}
		if err = cmp.Or(err, os.Rename(filepath.Join(base, next), root)); err != nil {
			t.Fatal(err)
		}
		before := after
		var log string
		if after, trees, log, kept = run(true); trees != 2 || kept(before) || !kept(after) || strings.Count(log, warning) != 1 {
			t.Errorf("directory %d: %d trees, a cursor of before is good: %v, one of now: %v, and the log says\n%s", i+2, trees, kept(before), kept(after), log)
		}
	}
	if after, trees, log, kept := run(true); trees != 2 || !kept(after) || strings.Contains(log, warning) {
		t.Errorf("started once more: %d trees, the cursor is good: %v, and the log says\n%s", trees, kept(after), log)
	}
}

// said keeps a log that others write to.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// The log says of each root how many entries it has, the same when it is scanned, remembered and live: what lies in it.
func TestTheLogCountsTheEntriesOfEachRoot(t *testing.T) {
	base, state := t.TempDir(), t.TempDir()
	for _, name := range []string{"one/a", "two/a", "two/b", "two/d/e"} {
		if err := os.MkdirAll(filepath.Join(base, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range [][]string{
		{`msg="root indexed" root=/root entries=1 `, `msg="root indexed" root=/two entries=4 `},
		{`msg="root remembered: what changed meanwhile is swept" root=/root entries=1 `, `msg="root remembered: what changed meanwhile is swept" root=/two entries=4 `,
			"msg=\"root live\" root=/root entries=1\n", "msg=\"root live\" root=/two entries=4\n"},
	} {
		j, err := journal.Open(state, journal.Options{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		log := &said{}
		r := watchtest.Start(t, "poll", filepath.Join(base, "one"), func(c *watch.Config) {
			c.Roots = append(c.Roots, watch.Root{Name: "/two", Dir: filepath.Join(base, "two")})
			c.Logger, c.Past, c.Head = slog.New(slog.NewTextHandler(log, nil)), j, j.Bounds().Head
		})
		r.Stop()
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		for _, line := range want {
			if !strings.Contains(log.String(), line) {
				t.Errorf("the log lacks %q:\n%s", line, log)
			}
		}
	}
}

// slowPast is read for as long as it may, and remembers who wants to replace it.
type slowPast struct {
	notebook
	reading chan struct{}
	reset   bool
}

func (p *slowPast) LoadTree(ctx context.Context, _ notify.FileID, _ watch.PastEntry) ([]byte, notify.BatchNumber, error) {
	close(p.reading)
	<-ctx.Done()
	return nil, 0, context.Cause(ctx)
}

func (p *slowPast) ResetTree(context.Context, notify.FileID, []byte, func(watch.PastEntry) error, ...notify.FileID) (notify.BatchNumber, error) {
	p.reset = true
	return 0, nil
}

// The watcher is ended while it reads what is remembered: nothing is lost, nothing is replaced, and the log does not say so.
func TestEndWhileThePastIsRead(t *testing.T) {
	src, err := watch.NewSource("poll", watch.SourceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	log, past := &said{}, &slowPast{reading: make(chan struct{})}
	w, err := watch.New(watch.Config{Roots: []watch.Root{{Dir: t.TempDir()}}, Source: src, Sink: journal.NewMemory(journal.MemoryOptions{}), Past: past,
		Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-past.reading
		cancel()
	}()
	if err := w.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if past.reset || strings.Contains(log.String(), "level=WARN") || strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("replaced: %v, and the log says\n%s", past.reset, log)
	}
}
