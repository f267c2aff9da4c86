package journal

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"fs_notify/notify"
)

// memDir is a directory that needs no disk, where there is one: for tests that sync a thousand times and do not care.
func memDir(t testing.TB) string {
	t.Helper()
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		if dir, err := os.MkdirTemp("/dev/shm", "journal-test-"); err == nil {
			t.Cleanup(func() { os.RemoveAll(dir) })
			return dir
		}
	}
	return t.TempDir()
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func reopen(t testing.TB, dir string, o Options) *Journal {
	t.Helper()
	if o.Log == nil {
		o.Log = quiet()
	}
	j, err := Open(dir, o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

// leave ends a journal as a crash of the process does: nothing is saved or folded on the way out.
func leave(j *Journal) {
	j.appending.Lock()
	j.mu.Lock()
	j.closed = true
	j.mu.Unlock()
	j.appending.Unlock()
	j.release()
}

// world is a tree of files that changes, and tells what a perfect watcher would tell of it.
type world struct {
	rnd   *rand.Rand
	root  notify.FileID
	names map[key]entry // the mirror
	next  notify.FileID
	told  []notify.Notification
}

type key struct {
	dir  notify.FileID
	name string
}

func newWorld(seed uint64) *world {
	w := &world{rnd: rand.New(rand.NewPCG(seed, 7)), root: 1, names: map[key]entry{}, next: 1}
	w.names[key{0, ""}] = entry{"", 1, notify.Attr{Mode: notify.ModeDir | 0o755}}
	return w
}

func (w *world) attr(mode uint32) notify.Attr {
	a := notify.Attr{Mode: mode | uint32(w.rnd.IntN(0o1000)), UID: uint32(w.rnd.IntN(3)), Ino: w.rnd.Uint64(), Size: w.rnd.Int64N(1000), Mtime: w.rnd.Int64(), Ctime: w.rnd.Int64(), Btime: w.rnd.Int64()}
	if w.rnd.IntN(5) == 0 {
		a.X = &notify.Xattrs{ACL: w.rnd.Uint64(), Streams: []notify.Stream{{Name: "s", Size: 3, Digest: w.rnd.Uint64()}}}
	}
	return a
}

// place gives path and spine of a directory.
func (w *world) place(dir notify.FileID) (string, notify.Spine) {
	if dir == w.root {
		return "", notify.Spine{dir}
	}
	for k, e := range w.names {
		if e.id == dir && e.attr.IsDir() {
			path, spine := w.place(k.dir)
			return strings.TrimPrefix(path+"/"+k.name, "/"), append(spine, dir)
		}
	}
	panic("no such directory")
}

// tellSteps makes n steps and appends what they tell, as one batch.
func (w *world) tellSteps(t *testing.T, j *Journal, n int) {
	t.Helper()
	for range n {
		w.step()
	}
	if _, err := j.Append(t.Context(), w.root, w.told); err != nil {
		t.Fatal(err)
	}
	w.told = nil
}

func (w *world) tell(t notify.Type, dir notify.FileID, e entry) *notify.Notification {
	path, spine := w.place(dir)
	w.told = append(w.told, notify.Notification{Type: t, Path: strings.TrimPrefix(path+"/"+e.name, "/"), Spine: append(spine, e.id), Attr: e.attr})
	return &w.told[len(w.told)-1]
}

func fd(e entry, file, dir notify.Type) notify.Type {
	if e.attr.IsDir() {
		return dir
	}
	return file
}

func (w *world) add(dir notify.FileID, e entry) {
	w.tell(fd(e, notify.ChildFileAdded, notify.ChildDirAdded), dir, e)
	w.names[key{dir, e.name}] = e
}

func (w *world) remove(dir notify.FileID, e entry) {
	for _, sub := range w.in(e.id) {
		w.remove(e.id, sub)
	}
	w.tell(fd(e, notify.ChildFileRemoved, notify.ChildDirRemoved), dir, e)
	delete(w.names, key{dir, e.name})
}

func (w *world) in(dir notify.FileID) (out []entry) {
	for k, e := range w.names {
		if k.dir == dir {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return out
}

// below says whether dir is e or below it.
func (w *world) below(dir notify.FileID, e entry) bool {
	_, spine := w.place(dir)
	return slices.Contains(spine, e.id)
}

func (w *world) forget(dir notify.FileID, e entry) map[key]entry {
	gone := map[key]entry{{dir, e.name}: e}
	delete(w.names, key{dir, e.name})
	for _, sub := range w.in(e.id) {
		maps.Copy(gone, w.forget(e.id, sub))
	}
	return gone
}

func (w *world) pick() (notify.FileID, entry, bool) {
	all := slices.SortedFunc(maps.Keys(w.names), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.dir, b.dir), strings.Compare(a.name, b.name))
	})
	if len(all) < 2 {
		return 0, entry{}, false
	}
	for {
		if k := all[w.rnd.IntN(len(all))]; k.dir != 0 {
			return k.dir, w.names[k], true
		}
	}
}

func (w *world) dir() notify.FileID {
	var dirs []notify.FileID
	for _, e := range w.names {
		if e.attr.IsDir() {
			dirs = append(dirs, e.id)
		}
	}
	slices.Sort(dirs)
	return dirs[w.rnd.IntN(len(dirs))]
}

// step changes something.
func (w *world) step() {
	switch op := w.rnd.IntN(20); {
	case op < 9: // a new name, mostly in a crowd
		dir := w.dir()
		name := fmt.Sprintf("n%03d", w.rnd.IntN(400))
		if _, ok := w.names[key{dir, name}]; ok {
			return
		}
		w.next++
		mode := uint32(notify.ModeFile)
		if op < 2 {
			mode = notify.ModeDir
		}
		w.add(dir, entry{name, w.next, w.attr(mode)})
	case op < 12:
		if dir, e, ok := w.pick(); ok {
			x := w.attr(e.attr.Mode & notify.ModeMask)
			e.attr = x
			w.tell(notify.ChildMtimeChanged, dir, e)
			w.names[key{dir, e.name}] = e
		}
	case op == 12: // the root itself
		e := w.names[key{0, ""}]
		e.attr = w.attr(notify.ModeDir)
		w.told = append(w.told, notify.Notification{Type: notify.ChildACLChanged, Spine: notify.Spine{w.root}, Attr: e.attr},
			notify.Notification{Type: notify.SelfRescanned, Spine: notify.Spine{w.root}})
		w.names[key{0, ""}] = e
	case op < 14:
		if dir, e, ok := w.pick(); ok && (!e.attr.IsDir() || w.rnd.IntN(4) == 0) {
			w.remove(dir, e)
		}
	case op < 17: // a rename inside the root
		dir, e, ok := w.pick()
		to := w.dir()
		if !ok || w.below(to, e) {
			return
		}
		name := fmt.Sprintf("r%03d", w.rnd.IntN(400))
		if _, ok := w.names[key{to, name}]; ok {
			return
		}
		at := notify.Seq(len(w.told))
		w.tell(fd(e, notify.ChildFileMovedFrom, notify.ChildDirMovedFrom), dir, e).Link = at + 2
		delete(w.names, key{dir, e.name})
		e.name = name
		w.names[key{to, name}] = e
		w.tell(fd(e, notify.ChildFileMovedTo, notify.ChildDirMovedTo), to, e).Link = at + 1
	case op == 17: // out of the root
		if dir, e, ok := w.pick(); ok {
			w.tell(fd(e, notify.ChildFileMovedFrom, notify.ChildDirMovedFrom), dir, e)
			gone := w.forget(dir, e)
			if w.rnd.IntN(2) == 0 { // and in again, with less in it
				to := w.dir()
				e.name = fmt.Sprintf("back%d", w.next)
				w.tell(fd(e, notify.ChildFileMovedTo, notify.ChildDirMovedTo), to, e)
				w.names[key{to, e.name}] = e
				for k, sub := range gone {
					if k.dir == e.id && !sub.attr.IsDir() && w.rnd.IntN(2) == 0 {
						w.add(e.id, sub)
					}
				}
			}
		}
	case op == 18: // something strange comes in
		w.next++
		e := entry{fmt.Sprintf("in%d", w.next), w.next, w.attr(notify.ModeDir)}
		dir := w.dir()
		w.tell(notify.ChildDirMovedTo, dir, e)
		w.names[key{dir, e.name}] = e
	case op == 19: // two names are exchanged
		d1, e1, ok1 := w.pick()
		d2, e2, ok2 := w.pick()
		if !ok1 || !ok2 || e1.id == e2.id || e1.attr.IsDir() || e2.attr.IsDir() {
			return
		}
		at := notify.Seq(len(w.told))
		w.tell(notify.ChildFileMovedFrom, d1, e1).Link = at + 4
		w.tell(notify.ChildFileMovedFrom, d2, e2).Link = at + 3
		n1, n2 := e1.name, e2.name
		e1.name, e2.name = n2, n1
		w.names[key{d1, n1}], w.names[key{d2, n2}] = e2, e1
		w.tell(notify.ChildFileMovedTo, d1, e2).Link = at + 2
		w.tell(notify.ChildFileMovedTo, d2, e1).Link = at + 1
	}
}

// amend gives every third object other extended attributes, which nobody is told of.
func (w *world) amend(j *Journal, meta string) error {
	which, x := notify.FileID(w.rnd.IntN(3)), &notify.Xattrs{Other: w.rnd.Uint64()}
	one := func(id notify.FileID, a *notify.Attr) bool {
		if id%3 != which {
			return false
		}
		a.X = x
		return true
	}
	for k, e := range w.names {
		one(e.id, &e.attr)
		w.names[k] = e
	}
	return j.AmendTree(context.Background(), w.root, []byte(meta), one)
}

// walk hands the mirror over to ResetTree, directory by directory, in no order.
func (w *world) walk(add func(notify.FileID, string, notify.FileID, *notify.Attr) error) error {
	dirs := map[notify.FileID][]entry{}
	for k, e := range w.names {
		dirs[k.dir] = append(dirs[k.dir], e)
	}
	for dir, entries := range dirs {
		for i := range entries {
			if err := add(dir, entries[i].name, entries[i].id, &entries[i].attr); err != nil {
				return err
			}
		}
	}
	return nil
}

// check compares what the journal loads with the mirror.
func (w *world) check(t *testing.T, j *Journal, meta string) {
	t.Helper()
	got := map[key]entry{}
	led := map[notify.FileID]bool{0: true, w.root: true}
	m, at, err := j.LoadTree(t.Context(), w.root, func(dir notify.FileID, name string, id notify.FileID, attr *notify.Attr) error {
		if !led[dir] {
			t.Fatalf("%q comes before its directory %d", name, dir)
		}
		led[id] = led[id] || attr.IsDir()
		if _, twice := got[key{dir, name}]; twice {
			t.Fatalf("%d/%q comes twice", dir, name)
		}
		got[key{dir, name}] = entry{name, id, *attr}
		return nil
	})
	if err != nil {
		t.Fatalf("LoadTree: %v", err)
	}
	if string(m) != meta || at != j.Bounds().Head {
		t.Fatalf("LoadTree: got meta %q at %d, want %q at %d", m, at, meta, j.Bounds().Head)
	}
	for k, e := range w.names {
		if g, ok := got[k]; !ok || !reflect.DeepEqual(g, e) {
			t.Fatalf("%d/%q:\n got %+v, %v\nwant %+v", k.dir, k.name, g, ok, e)
		}
		delete(got, k)
	}
	for k, e := range got {
		t.Fatalf("%d/%q should not be there: %+v", k.dir, k.name, e)
	}
}

// A tree is handed over and changes at random; restarts, crashes, folds and full checkpoints come in between. What the journal loads is
// always what was told.
func TestTreeFollowsWhatWasTold(t *testing.T) {
	seeds := uint64(8)
	if testing.Short() || underRace {
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(seed)
			dir := memDir(t)
			o := Options{RingBytes: 20 << 10, foldLag: 50}
			j := reopen(t, dir, o)
			for range 200 {
				w.step()
			}
			w.told = nil
			if _, err := j.ResetTree(t.Context(), w.root, []byte("derived"), w.walk); err != nil {
				t.Fatal(err)
			}
			meta := "derived"
			for round := range 80 {
				for range 1 + w.rnd.IntN(40) {
					w.step()
				}
				if len(w.told) > 0 {
					if _, err := j.Append(t.Context(), w.root, w.told); err != nil {
						t.Fatal(err)
					}
				}
				w.told = nil
				switch w.rnd.IntN(8) {
				case 0:
					j.trees.fold(t.Context(), true)
				case 1:
					w.check(t, j, meta)
				case 2:
					if err := j.Close(); err != nil {
						t.Fatal(err)
					}
					j = reopen(t, dir, o)
				case 3:
					leave(j)
					j = reopen(t, dir, o)
				case 4:
					meta = fmt.Sprint("meta ", round)
					if err := w.amend(j, meta); err != nil {
						t.Fatal(err)
					}
				case 5, 6:
					j.trees.fold(t.Context(), false)
				}
			}
			w.check(t, j, meta)
			mustCheck(t, dir)
		})
	}
}

// What is gathered for the next fold belongs to the trees as they were then: a root that begins anew or is forgotten gets none of it.
func TestWhatIsGatheredEndsWithTheTree(t *testing.T) {
	w, other := newWorld(5), newWorld(6)
	other.root, other.next = 1000, 1000
	other.names = map[key]entry{{0, ""}: {"", other.root, notify.Attr{Mode: notify.ModeDir | 0o755}}}
	dir := memDir(t)
	j := reopen(t, dir, Options{})
	step := func(w *world) { w.tellSteps(t, j, 100) }
	reset := func(w *world) {
		w.told = nil
		if _, err := j.ResetTree(t.Context(), w.root, []byte("meta"), w.walk); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		w.step()
		other.step()
	}
	reset(w)
	reset(other)
	for range 3 {
		step(w)
		step(other)
		if j.trees.fold(t.Context(), false) || j.trees.window == nil {
			t.Fatal("what is little was not gathered, or was folded")
		}
		step(other)
		for range 10 { // nobody tells
			w.step()
		}
		reset(w)
		j.trees.fold(t.Context(), false)
		step(w)
		w.check(t, j, "meta")
		other.check(t, j, "meta")
	}
	// Where that fails, nothing has changed.
	step(w)
	step(other)
	j.trees.fold(t.Context(), false)
	step(w)
	failed := errors.New("the walk has failed")
	if _, err := j.ResetTree(t.Context(), w.root, nil, func(func(notify.FileID, string, notify.FileID, *notify.Attr) error) error { return failed }); !errors.Is(err, failed) {
		t.Fatalf("ResetTree: %v", err)
	}
	w.check(t, j, "meta")
	step(w)
	j.trees.fold(t.Context(), false)
	if _, err := j.trees.db.write.Exec("PRAGMA query_only = 1"); err != nil {
		t.Fatal(err)
	}
	if err := j.ForgetTree(w.root); err == nil {
		t.Fatal("a tree was forgotten on a disk that cannot be written to")
	}
	if _, err := j.trees.db.write.Exec("PRAGMA query_only = 0"); err != nil {
		t.Fatal(err)
	}
	w.check(t, j, "meta")

	step(w)
	step(other)
	j.trees.fold(t.Context(), false)
	if err := j.ForgetTree(w.root); err != nil {
		t.Fatal(err)
	}
	other.check(t, j, "meta")
	if _, _, err := j.LoadTree(t.Context(), w.root, nil); notify.KindOf(err) != notify.NotFound {
		t.Errorf("a forgotten tree: %v", err)
	}
	var chunks int
	if err := j.trees.db.read.QueryRow("SELECT count(*) FROM dirs WHERE root = ?", int64(w.root)).Scan(&chunks); err != nil || chunks != 0 {
		t.Errorf("a forgotten tree has %d chunks, %v", chunks, err)
	}
	mustCheck(t, dir)
}

// Close folds all that was told, also what memory has dropped since and only the disk has.
func TestCloseFoldsWhatMemoryDropped(t *testing.T) {
	w := newWorld(11)
	dir := memDir(t)
	j := reopen(t, dir, Options{RingBytes: 20 << 10})
	if _, err := j.ResetTree(t.Context(), w.root, []byte("meta"), w.walk); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		w.tellSteps(t, j, 20)
	}
	head := j.Bounds().Head
	if _, ok := j.Ring(j.Bounds().Base + 1); ok {
		t.Fatal("memory has all of it: it should not")
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = reopen(t, dir, Options{})
	if folded, _, err := j.trees.state(); folded != head || err != nil {
		t.Errorf("folded up to %d, %v: want %d", folded, err, head)
	}
	w.check(t, j, "meta")
}

// What was gathered stays so while the database of the trees does not take it.
func TestWhatIsGatheredOutlivesAFullDisk(t *testing.T) {
	w := newWorld(12)
	dir := memDir(t)
	j := reopen(t, dir, Options{RingBytes: 20 << 10})
	if _, err := j.ResetTree(t.Context(), w.root, []byte("meta"), w.walk); err != nil {
		t.Fatal(err)
	}
	tell := func() { w.tellSteps(t, j, 20) }
	only := func(on int) {
		if _, err := j.trees.db.write.Exec(fmt.Sprint("PRAGMA query_only = ", on)); err != nil {
			t.Fatal(err)
		}
	}
	tell()
	only(1)
	j.trees.fold(t.Context(), true)
	tell()
	if j.trees.fold(t.Context(), true); j.trees.window == nil || j.trees.gathered != j.Bounds().Head {
		t.Errorf("gathered up to %d, want %d", j.trees.gathered, j.Bounds().Head)
	}
	if _, some := j.trees.due(); !some {
		t.Error("nothing waits to be folded")
	}
	only(0)
	tell()
	j.trees.fold(t.Context(), true)
	if folded, _, err := j.trees.state(); folded != j.Bounds().Head || err != nil {
		t.Errorf("folded up to %d, %v: want %d", folded, err, j.Bounds().Head)
	}
	w.check(t, j, "meta")
	mustCheck(t, dir)
}

// What is gathered is bounded in bytes, too: names may be long.
func TestWhatIsGatheredIsBounded(t *testing.T) {
	w := newWorld(13)
	j := reopen(t, memDir(t), Options{})
	if _, err := j.ResetTree(t.Context(), w.root, nil, w.walk); err != nil {
		t.Fatal(err)
	}
	const each = 1000
	batches := windowBytes / (each * (changeSize + 250))
	for i := range batches + 2 {
		notes := make([]notify.Notification, each)
		for k := range notes {
			notes[k] = notify.Notification{Type: notify.ChildFileAdded, Path: fmt.Sprintf("%0250d", i*each+k), Spine: notify.Spine{w.root, notify.FileID(10 + i*each + k)},
				Attr: notify.Attr{Mode: notify.ModeFile}}
		}
		if _, err := j.Append(t.Context(), w.root, notes); err != nil {
			t.Fatal(err)
		}
		if i == batches/2 && j.trees.fold(t.Context(), false) {
			t.Fatal("half of it was stored")
		}
	}
	if !j.trees.fold(t.Context(), false) {
		t.Fatalf("%d bytes are gathered and were not stored", j.trees.window.size())
	}
}

// mustCheck runs Check beside whoever has the directory open, and wants no problem.
func mustCheck(t *testing.T, dir string) Checked {
	t.Helper()
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c, err := r.Check(t.Context(), func(p Problem) { t.Errorf("Check: batch %d, root %d: %s", p.Batch, p.Root, p.Text) })
	if err != nil {
		t.Fatalf("Check: %v", err)
	}
	return c
}

// While the checkpoint cannot be written, what was told since is laid over it.
func TestTreeLoadsWithoutFolding(t *testing.T) {
	w := newWorld(99)
	dir := t.TempDir()
	j := reopen(t, dir, Options{})
	for range 300 {
		w.step()
	}
	w.told = nil
	if _, err := j.ResetTree(t.Context(), w.root, nil, w.walk); err != nil {
		t.Fatal(err)
	}
	if _, err := j.trees.db.write.Exec("PRAGMA query_only = 1"); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		w.tellSteps(t, j, 30)
		w.check(t, j, "")
	}
	if s := j.State(); s.Folded == s.Bounds.Head || s.TreeErr != nil {
		t.Fatalf("it was folded, or given up: %+v", s)
	}
}

// The directories that were removed, or moved out, since the checkpoint could be written are still in it. No damage is told of them, but of one to which
// nothing has led before.
func TestTreeWithoutFoldingIsNotDamaged(t *testing.T) {
	w := newWorld(98)
	var log bytes.Buffer
	j := reopen(t, t.TempDir(), Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	dir := func(in notify.FileID, name string) entry {
		w.next++
		e := entry{name, w.next, w.attr(notify.ModeDir)}
		w.add(in, e)
		w.next++
		w.add(e.id, entry{"f", w.next, w.attr(notify.ModeFile)})
		return e
	}
	gone, away := dir(w.root, "gone"), dir(w.root, "away")
	dir(gone.id, "e")
	dir(away.id, "e")
	stays := dir(w.root, "stays")
	w.told = nil
	stray := notify.Attr{Mode: notify.ModeFile}
	walk := func(add func(notify.FileID, string, notify.FileID, *notify.Attr) error) error {
		return errors.Join(w.walk(add), add(1000, "f", 1001, &stray))
	}
	for _, tt := range []struct {
		walk func(add func(notify.FileID, string, notify.FileID, *notify.Attr) error) error
		want string // in the log
	}{
		{walk, "directories=1\n"},
		{w.walk, ""},
	} {
		names := maps.Clone(w.names)
		if _, err := j.ResetTree(t.Context(), w.root, nil, tt.walk); err != nil {
			t.Fatal(err)
		}
		if _, err := j.trees.db.write.Exec("PRAGMA query_only = 1"); err != nil {
			t.Fatal(err)
		}
		w.remove(w.root, gone)
		w.tell(notify.ChildDirMovedFrom, w.root, away)
		w.forget(w.root, away)
		dir(stays.id, "new")
		if _, err := j.Append(t.Context(), w.root, w.told); err != nil {
			t.Fatal(err)
		}
		log.Reset()
		w.check(t, j, "")
		if got := log.String(); !strings.HasSuffix(got, tt.want) || strings.Contains(got, "nothing leads to") != (tt.want != "") {
			t.Errorf("the log says %q, want %q", got, tt.want)
		}
		if _, err := j.trees.db.write.Exec("PRAGMA query_only = 0"); err != nil {
			t.Fatal(err)
		}
		w.names, w.told = names, nil
	}
}

// A large directory is stored in many chunks; changes touch few of them.
func TestTreeLargeDirectory(t *testing.T) {
	w := newWorld(5)
	dir := t.TempDir()
	j := reopen(t, dir, Options{})
	const n = 3000
	for i := range n {
		w.next++
		name := fmt.Sprintf("%05d", i*10)
		w.names[key{1, name}] = entry{name, w.next, w.attr(notify.ModeFile)}
	}
	if _, err := j.ResetTree(t.Context(), w.root, nil, w.walk); err != nil {
		t.Fatal(err)
	}
	w.check(t, j, "")
	append_ := func() {
		for len(w.told) > 0 {
			some := w.told[:min(len(w.told), 1000)]
			w.told = w.told[len(some):]
			if _, err := j.Append(t.Context(), w.root, slices.Clone(some)); err != nil {
				t.Fatal(err)
			}
		}
		w.check(t, j, "")
	}
	for _, names := range [][]string{{"00000"}, {"00005", "29995", "!", "99999"}} {
		for _, name := range names {
			if e, ok := w.names[key{1, name}]; ok {
				w.remove(1, e)
			} else {
				w.next++
				w.add(1, entry{name, w.next, w.attr(notify.ModeFile)})
			}
		}
		append_()
	}
	for i := range 2000 { // the first chunks go altogether
		if e, ok := w.names[key{1, fmt.Sprintf("%05d", i*10)}]; ok {
			w.remove(1, e)
		}
	}
	append_()
	w.next++
	w.add(1, entry{"00001", w.next, w.attr(notify.ModeFile)}) // where there is no chunk any more
	append_()
	for i := range 500 { // in the middle
		w.next++
		w.add(1, entry{fmt.Sprintf("25000-%d", i), w.next, w.attr(notify.ModeFile)})
	}
	append_()
	if c := mustCheck(t, dir); c.Entries != int64(len(w.names)) || c.Trees != 1 {
		t.Fatalf("Check saw %+v, want %d entries", c, len(w.names))
	}
}

func TestTreeLifecycle(t *testing.T) {
	dir := t.TempDir()
	load := func(j *Journal, root notify.FileID) error {
		_, _, err := j.LoadTree(t.Context(), root, func(notify.FileID, string, notify.FileID, *notify.Attr) error { return nil })
		return err
	}
	one := func(add func(notify.FileID, string, notify.FileID, *notify.Attr) error) error {
		return add(7, "a", 8, &notify.Attr{Mode: notify.ModeFile})
	}
	j := reopen(t, dir, Options{})
	if err := load(j, 7); !errors.Is(err, notify.NotFound) {
		t.Fatalf("a root that nobody knows: %v", err)
	}
	base := j.Bounds().Base
	if _, err := j.ResetTree(t.Context(), 7, []byte("m"), one); err != nil {
		t.Fatal(err)
	}
	first := appendNote(t, j, 7, "b")
	if b := j.Bounds(); b.Base != base {
		t.Fatalf("the first tree of a root moved the base from %d to %d", base, b.Base)
	}
	// A second root comes: the cursors of the first one hold.
	at, err := j.ResetTree(t.Context(), 9, nil, func(func(notify.FileID, string, notify.FileID, *notify.Attr) error) error { return nil })
	if err != nil || at != first {
		t.Fatalf("ResetTree: got %d, %v; want %d", at, err, first)
	}
	appendNote(t, j, 9, "x")
	if _, has, _ := j.Contains(t.Context(), first.End()); !has {
		t.Fatal("the cursors of another root are gone")
	}
	if got := j.Trees(); !slices.Equal(got, []notify.FileID{7, 9}) {
		t.Fatalf("Trees: %v", got)
	}
	// The first root begins anew: nobody can go on from before.
	if _, err := j.ResetTree(t.Context(), 7, nil, one); err != nil {
		t.Fatal(err)
	}
	b := j.Bounds()
	if _, has, _ := j.Contains(t.Context(), first.End()); has || b.Base != b.Head {
		t.Fatalf("an older cursor is still good, with bounds %+v", b)
	}
	// The other root's tree has not lost what came before.
	n := 0
	if _, _, err := j.LoadTree(t.Context(), 9, func(notify.FileID, string, notify.FileID, *notify.Attr) error { n++; return nil }); err != nil || n != 1 {
		t.Fatalf("the other root has %d entries, %v", n, err)
	}
	// What is not handed over properly leaves the old tree alone.
	for name, walk := range map[string]func(add func(notify.FileID, string, notify.FileID, *notify.Attr) error) error{
		"a directory in two parts": func(add func(notify.FileID, string, notify.FileID, *notify.Attr) error) error {
			return errors.Join(add(7, "a", 8, &notify.Attr{}), add(10, "a", 8, &notify.Attr{}), add(7, "b", 8, &notify.Attr{}))
		},
		"a name twice": func(add func(notify.FileID, string, notify.FileID, *notify.Attr) error) error {
			return errors.Join(add(7, "a", 8, &notify.Attr{}), add(7, "a", 9, &notify.Attr{}))
		},
	} {
		if _, err := j.ResetTree(t.Context(), 7, nil, walk); !errors.Is(err, notify.Invalid) {
			t.Errorf("%s: %v, want Invalid", name, err)
		}
	}
	broke := errors.New("the scan broke off")
	if _, err := j.ResetTree(t.Context(), 7, nil, func(add func(notify.FileID, string, notify.FileID, *notify.Attr) error) error { one(add); return broke }); !errors.Is(err, broke) {
		t.Errorf("got %v, want the error of the walk", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := j.ResetTree(ctx, 7, nil, one); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the end of the context", err)
	}
	if err := load(j, 7); err != nil {
		t.Fatalf("the tree did not survive: %v", err)
	}
	if err := j.ForgetTree(7); err != nil {
		t.Fatal(err)
	}
	if err := load(j, 7); !errors.Is(err, notify.NotFound) {
		t.Fatalf("a root that was forgotten: %v", err)
	}
	if err := j.AmendTree(t.Context(), 7, nil, nil); !errors.Is(err, notify.NotFound) {
		t.Fatalf("AmendTree of a root that was forgotten: %v", err)
	}
}

func appendNote(t testing.TB, j *Journal, root notify.FileID, name string) notify.BatchNumber {
	t.Helper()
	id := notify.FileID(len(name)) + 1000
	for _, c := range []byte(name) {
		id = id*31 + notify.FileID(c)
	}
	n, err := j.Append(t.Context(), root, []notify.Notification{{Type: notify.ChildFileAdded, Path: name, Spine: notify.Spine{root, id}, Attr: notify.Attr{Mode: notify.ModeFile}}})
	if err != nil {
		t.Fatalf("Append: %v", err)
	}
	return n
}

// Somebody takes the checkpoint away under the running service, or puts another file in its place: that is said once, and the journal is not
// concerned. What is put back is good again.
func TestCheckpointDisappears(t *testing.T) {
	for _, tt := range []struct {
		name string
		put  func(path string) error // where it was
	}{
		{"removed", func(string) error { return nil }},
		{"replaced", func(path string) error { return os.WriteFile(path, nil, 0o600) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			w := newWorld(5)
			var log bytes.Buffer
			j := reopen(t, dir, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
			if _, err := j.ResetTree(t.Context(), 1, nil, w.walk); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "tree.db")
			if err := errors.Join(os.Rename(path, path+".elsewhere"), tt.put(path)); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				j.trees.watchFile()
			}
			n := appendNote(t, j, 1, "a")
			if s := j.State(); !errors.Is(s.TreeErr, errReplaced) || !s.Down.IsZero() || s.Saved != n {
				t.Errorf("State: %+v", s)
			}
			if strings.Count(log.String(), "the checkpoint is lost") != 1 || !strings.Contains(log.String(), "removed or replaced") {
				t.Errorf("the log, which should say it once:\n%s", &log)
			}
			if err := os.Rename(path+".elsewhere", path); err != nil {
				t.Fatal(err)
			}
			j.trees.watchFile()
			if s := j.State(); s.TreeErr != nil || !strings.Contains(log.String(), "the checkpoint is back") {
				t.Errorf("it is back: %v, and the log says\n%s", s.TreeErr, &log)
			}
		})
	}
}

// A checkpoint that is damaged, missing or of another journal is found out, whatever byte of it was hit.
func TestTreeDamage(t *testing.T) {
	w := newWorld(3)
	master := memDir(t)
	j := reopen(t, master, Options{})
	for range 300 {
		w.step()
	}
	w.told = nil
	if _, err := j.ResetTree(t.Context(), w.root, []byte("meta"), w.walk); err != nil {
		t.Fatal(err)
	}
	last := appendNote(t, j, w.root, "zzz")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	want := map[key]entry{}
	visit := func(into map[key]entry) func(notify.FileID, string, notify.FileID, *notify.Attr) error {
		return func(dir notify.FileID, name string, id notify.FileID, attr *notify.Attr) error {
			into[key{dir, name}] = entry{name, id, *attr}
			return nil
		}
	}
	j = reopen(t, copyDir(t, master), Options{})
	if _, _, err := j.LoadTree(t.Context(), w.root, visit(want)); err != nil {
		t.Fatal(err)
	}
	tree, err := os.ReadFile(filepath.Join(master, "tree.db"))
	if err != nil {
		t.Fatal(err)
	}
	tries := 150
	if testing.Short() || underRace {
		tries = 30
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	for i := range tries {
		dir := copyDir(t, master)
		at := rnd.IntN(len(tree) * 8)
		if i%5 == 0 {
			at = rnd.IntN(100 * 8) // SQLite's header
		}
		bad := slices.Clone(tree)
		bad[at/8] ^= 1 << (at % 8)
		if err := os.WriteFile(filepath.Join(dir, "tree.db"), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := Open(dir, Options{Log: quiet()})
		if err != nil { // refused, with what to do
			if notify.KindOf(err) == notify.Internal {
				t.Errorf("bit %d: %v", at, err)
			}
			continue
		}
		got := map[key]entry{}
		meta, _, err := j.LoadTree(t.Context(), w.root, visit(got))
		_, has, _ := j.Contains(t.Context(), last.End())
		switch {
		case err == nil && (!reflect.DeepEqual(got, want) || string(meta) != "meta"):
			t.Errorf("bit %d: another tree was loaded: %d entries for %d", at, len(got), len(want))
		case err == nil && !has:
			t.Errorf("bit %d: the tree is good but the cursors are gone", at)
		case err != nil && !errors.Is(err, notify.Corrupt) && !errors.Is(err, notify.NotFound):
			t.Errorf("bit %d: %v", at, err)
		case err != nil:
			if _, err := j.ResetTree(t.Context(), w.root, nil, w.walk); err != nil {
				t.Errorf("bit %d: ResetTree: %v", at, err)
			}
			if _, has, _ := j.Contains(t.Context(), last.End()); has {
				t.Errorf("bit %d: after a silent scan an older cursor is still good", at)
			}
		}
		j.Close()
	}
	// The checkpoint of another journal, and none at all.
	other := t.TempDir()
	leave(reopen(t, other, Options{}))
	for _, from := range []string{other, ""} {
		dir := copyDir(t, master)
		for _, suffix := range []string{"", "-wal", "-shm"} {
			os.Remove(filepath.Join(dir, "tree.db"+suffix))
			if b, err := os.ReadFile(filepath.Join(from, "tree.db"+suffix)); err == nil && from != "" {
				os.WriteFile(filepath.Join(dir, "tree.db"+suffix), b, 0o600)
			}
		}
		j := reopen(t, dir, Options{})
		if _, _, err := j.LoadTree(t.Context(), w.root, visit(map[key]entry{})); !errors.Is(err, notify.NotFound) {
			t.Errorf("a strange checkpoint from %q: %v, want NotFound", from, err)
		}
		if _, has, _ := j.Contains(t.Context(), last.End()); has {
			t.Errorf("a strange checkpoint from %q: an older cursor is still good", from)
		}
	}
}

// A damaged key makes a chunk one of another directory: what it held is not lost without a word.
func TestChunkUnderAnotherDirectory(t *testing.T) {
	dir := t.TempDir()
	j := reopen(t, dir, Options{})
	walk := func(add func(notify.FileID, string, notify.FileID, *notify.Attr) error) error {
		return errors.Join(add(7, "d", 8, &notify.Attr{Mode: notify.ModeDir}), add(8, "f", 9, &notify.Attr{Mode: notify.ModeFile}))
	}
	if _, err := j.ResetTree(t.Context(), 7, nil, walk); err != nil {
		t.Fatal(err)
	}
	leave(j)
	db, err := openDatabase(filepath.Join(dir, "tree.db"), "", treeAppID, treeSchema)
	if err == nil {
		_, err = db.write.Exec("UPDATE dirs SET dir = 10 WHERE dir = 8")
		err = errors.Join(err, db.close())
	}
	if err != nil {
		t.Fatal(err)
	}
	j = reopen(t, dir, Options{})
	if _, _, err := j.LoadTree(t.Context(), 7, func(notify.FileID, string, notify.FileID, *notify.Attr) error { return nil }); !errors.Is(err, notify.Corrupt) {
		t.Errorf("LoadTree: %v, want Corrupt", err)
	}
}

// The disk fails while the first tree of a start is stored: nobody may go on from before, now or after the next start.
func TestTreeThatCannotBeStored(t *testing.T) {
	dir := t.TempDir()
	j := reopen(t, dir, Options{})
	none := func(func(notify.FileID, string, notify.FileID, *notify.Attr) error) error { return nil }
	if _, err := j.ResetTree(t.Context(), 7, nil, none); err != nil {
		t.Fatal(err)
	}
	old := appendNote(t, j, 7, "a")
	j.trees.db.close() // as good as a disk that fails
	at, err := j.ResetTree(t.Context(), 7, nil, none)
	if err == nil {
		t.Fatal("ResetTree stored a tree without a database")
	}
	if _, has, _ := j.Contains(t.Context(), at.End()); !has || at <= old {
		t.Errorf("ResetTree says that the tree is of %d, which is no cursor; the older one is %d", at, old)
	}
	j.trees.forgetAll(nil)
	fresh := appendNote(t, j, 7, "b")
	for range 2 {
		if _, has, _ := j.Contains(t.Context(), old.End()); has {
			t.Error("an older cursor is still good")
		}
		if _, has, _ := j.Contains(t.Context(), fresh.End()); !has {
			t.Error("a newer cursor is gone")
		}
		leave(j)
		j = reopen(t, dir, Options{})
		fresh = j.Bounds().Head
	}
}

// A tree that was given up in memory alone, as the disk did not work, stays so when the disk works again: another root's tree, and the place in the journal that
// counts for all, are stored then.
func TestTreeIsGivenUpForGood(t *testing.T) {
	dir := t.TempDir()
	j := reopen(t, dir, Options{})
	none := func(func(notify.FileID, string, notify.FileID, *notify.Attr) error) error { return nil }
	load := func(root notify.FileID) error {
		_, _, err := j.LoadTree(t.Context(), root, func(notify.FileID, string, notify.FileID, *notify.Attr) error { return nil })
		return err
	}
	if _, err := j.ResetTree(t.Context(), 7, nil, none); err != nil {
		t.Fatal(err)
	}
	appendNote(t, j, 7, "a")
	if _, err := j.trees.failed("test", errors.New("no space left")); err == nil {
		t.Fatal("a tree that could not be stored is no error")
	}
	if _, err := j.ResetTree(t.Context(), 9, nil, none); err != nil {
		t.Fatal(err)
	}
	appendNote(t, j, 7, "b")
	appendNote(t, j, 9, "c")
	for range 2 {
		if err := load(7); !errors.Is(err, notify.NotFound) {
			t.Errorf("the tree that was given up: %v, want NotFound", err)
		}
		if err := load(9); err != nil {
			t.Error(err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j = reopen(t, dir, Options{})
	}
}

// Another root has the name of one that is known: older cursors are gone, that of the head too, and one tree is left. It does not matter whether the
// tree of the other was still there, or whether that one comes back.
func TestRootIsReplaced(t *testing.T) {
	for _, what := range []string{"with its tree", "forgotten", "damaged"} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			j := reopen(t, dir, Options{})
			one := func(root notify.FileID) func(func(notify.FileID, string, notify.FileID, *notify.Attr) error) error {
				return func(add func(notify.FileID, string, notify.FileID, *notify.Attr) error) error {
					return add(root, "a", 8, &notify.Attr{Mode: notify.ModeFile})
				}
			}
			for _, root := range []notify.FileID{6, 7} { // the first stays
				if _, err := j.ResetTree(t.Context(), root, fmt.Append(nil, "root ", root), one(root)); err != nil {
					t.Fatal(err)
				}
			}
			var err error
			switch was := appendNote(t, j, 7, "b"); what {
			case "forgotten":
				err = j.ForgetTree(7)
			case "damaged":
				j.trees.work.Lock()
				j.trees.invalidate(errors.New("a test"))
				j.trees.work.Unlock()
			default: // a scan that breaks off changes nothing
				broke := errors.New("the scan broke off")
				if _, err := j.ResetTree(t.Context(), 9, nil, func(func(notify.FileID, string, notify.FileID, *notify.Attr) error) error { return broke }, 7); !errors.Is(err, broke) {
					t.Fatalf("got %v, want the error of the walk", err)
				}
				if _, has, _ := j.Contains(t.Context(), was.End()); !has || !slices.Equal(j.Trees(), []notify.FileID{6, 7}) {
					t.Fatalf("trees %v, and a cursor is good: %v", j.Trees(), has)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			next, now := notify.FileID(9), notify.FileID(7)
			for range 4 {
				if err := j.Close(); err != nil {
					t.Fatal(err)
				}
				j = reopen(t, dir, Options{})
				if string(j.RootNotes()[now]) != "root 7" {
					t.Fatalf("what is known of root %d is %q", now, j.RootNotes()[now])
				}
				was := j.Bounds().Head
				at, err := j.ResetTree(t.Context(), next, []byte("root 7"), one(next), now)
				if err != nil {
					t.Fatal(err)
				}
				appendNote(t, j, next, "c")
				for cursor, want := range map[notify.BatchNumber]bool{was: false, at: true} {
					if _, has, _ := j.Contains(t.Context(), cursor.End()); has != want {
						t.Errorf("cursor %d is good: %v", cursor, has)
					}
				}
				want := []notify.FileID{6, next}
				if what == "damaged" {
					want = want[1:]
				}
				if _, has := j.RootNotes()[now]; has || !slices.Equal(j.Trees(), want) {
					t.Errorf("trees %v, want %v; the name of root %d: %v", j.Trees(), want, now, has)
				}
				if c := mustCheck(t, dir); c.Trees != len(want) || c.Entries > int64(2*len(want)) {
					t.Errorf("%d entries of %d trees are stored, want %d trees", c.Entries, c.Trees, len(want))
				}
				next, now = now, next
			}
		})
	}
}

// The disk lost what was last written, of the tree and of the journal, and neither database shows it: the number on record does. The root is not taken
// for one that nobody knows, and no cursor is good.
func TestRootThatWasLost(t *testing.T) {
	dir := t.TempDir()
	j := reopen(t, dir, Options{})
	none := func(func(notify.FileID, string, notify.FileID, *notify.Attr) error) error { return nil }
	early := copyDir(t, dir) // nothing but the schemas, and where the journal begins
	since, err := j.ResetTree(t.Context(), 7, nil, none)
	if err != nil {
		t.Fatal(err)
	}
	last := appendNote(t, j, 7, "a")
	j.noteHead()
	lock, err := os.ReadFile(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(early, "lock"), lock, 0o600); err != nil {
		t.Fatal(err)
	}
	j = reopen(t, early, Options{})
	at, err := j.ResetTree(t.Context(), 7, nil, none)
	if err != nil {
		t.Fatal(err)
	}
	if at <= last {
		t.Errorf("the tree is as of %d, and %d was told before", at, last)
	}
	for cursor, want := range map[notify.BatchNumber]bool{since: false, last: false, at: true} {
		if _, has, _ := j.Contains(t.Context(), cursor.End()); has != want {
			t.Errorf("cursor %d is good: %v", cursor, has)
		}
	}
	if other, err := j.ResetTree(t.Context(), 8, nil, none); err != nil || other != at {
		t.Errorf("another root is as of %d (%v), want %d: all cursors were gone already", other, err, at)
	}
	mustCheck(t, early)
}

// Who waits is woken by a new life, and can go on from nowhere before.
func TestNewLifeWakes(t *testing.T) {
	j := reopen(t, t.TempDir(), Options{})
	none := func(func(notify.FileID, string, notify.FileID, *notify.Attr) error) error { return nil }
	if _, err := j.ResetTree(t.Context(), 7, nil, none); err != nil {
		t.Fatal(err)
	}
	appendNote(t, j, 7, "a")
	head := j.Bounds().Head
	grew := j.Grew()
	if _, err := j.ResetTree(t.Context(), 7, nil, none); err != nil {
		t.Fatal(err)
	}
	select {
	case <-grew:
	default:
		t.Error("nobody was woken")
	}
	if _, has, _ := j.Contains(t.Context(), head.End()); has {
		t.Error("the head that was is still good")
	}
}

func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := memDir(t)
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// A directory changes, and then leaves with what is below it, before anything was folded.
func TestTreeDirectoryChangesAndLeaves(t *testing.T) {
	dirAttr := notify.Attr{Mode: notify.ModeDir | 0o755}
	file := notify.Attr{Mode: notify.ModeFile}
	j := reopen(t, memDir(t), Options{})
	if _, err := j.ResetTree(t.Context(), 1, nil, func(add func(notify.FileID, string, notify.FileID, *notify.Attr) error) error {
		return errors.Join(add(1, "top", 2, &dirAttr), add(2, "sub", 3, &dirAttr), add(3, "file", 4, &file), add(3, "sub", 5, &dirAttr), add(5, "deep", 6, &file))
	}); err != nil {
		t.Fatal(err)
	}
	changed := dirAttr
	changed.Mtime = 5
	batch := func(notes ...notify.Notification) {
		t.Helper()
		if _, err := j.Append(t.Context(), 1, notes); err != nil {
			t.Fatal(err)
		}
	}
	batch(notify.Notification{Type: notify.ChildMtimeChanged, Path: "top/sub", Spine: notify.Spine{1, 2, 3}, Attr: changed})
	batch(notify.Notification{Type: notify.ChildDirMovedFrom, Path: "top", Spine: notify.Spine{1, 2}, Attr: dirAttr})
	// It comes in again with nothing in it, but for the directory in the middle.
	batch(notify.Notification{Type: notify.ChildDirMovedTo, Path: "top", Spine: notify.Spine{1, 2}, Attr: dirAttr},
		notify.Notification{Type: notify.ChildDirAdded, Path: "top/sub", Spine: notify.Spine{1, 2, 3}, Attr: changed},
		notify.Notification{Type: notify.ChildDirAdded, Path: "top/sub/sub", Spine: notify.Spine{1, 2, 3, 5}, Attr: dirAttr})
	var got []string
	if _, _, err := j.LoadTree(t.Context(), 1, func(dir notify.FileID, name string, id notify.FileID, attr *notify.Attr) error {
		got = append(got, fmt.Sprint(dir, name, id, attr.Mtime))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"1top2 0", "2sub3 5", "3sub5 0"}; !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

// A batch vanishes from the journal before it was folded: the checkpoint is given up, and says so.
func TestTreeMissesABatch(t *testing.T) {
	for name, harm := range map[string]string{
		"it is missing": "DELETE FROM batches WHERE number = ?",
		"it is damaged": "UPDATE batches SET body = x'0102030405' WHERE number = ?",
	} {
		dir := memDir(t)
		w := newWorld(1)
		j := reopen(t, dir, Options{})
		if _, err := j.ResetTree(t.Context(), 1, nil, w.walk); err != nil {
			t.Fatal(err)
		}
		var numbers []notify.BatchNumber
		for i := range 3 {
			numbers = append(numbers, appendNote(t, j, 1, fmt.Sprint("file-", i)))
		}
		if _, err := j.db.write.Exec(harm, int64(numbers[1])); err != nil {
			t.Fatal(err)
		}
		leave(j)
		j = reopen(t, dir, Options{})
		_, _, err := j.LoadTree(t.Context(), 1, func(notify.FileID, string, notify.FileID, *notify.Attr) error { return nil })
		if s := j.State(); !errors.Is(err, notify.Corrupt) || s.TreeErr == nil || s.Trees != 0 {
			t.Errorf("%s: LoadTree: %v; state %+v", name, err, s)
		}
		j.Close()
		var problems []string
		r, err := OpenReader(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Check(t.Context(), func(p Problem) { problems = append(problems, p.Text) }); err != nil || len(problems) == 0 {
			t.Errorf("%s: Check found %q, %v", name, problems, err)
		}
		r.Close()
	}
}
