package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	sqlite3 "modernc.org/sqlite/lib"

	"fs_notify/notify"
	"fs_notify/notify/journal/logtest"
)

// saga is what a process does with its journal, and what the world looks like after each batch.
type saga struct {
	t       *testing.T
	w       *world
	batches []*notify.Batch // as appended, with numbers
	mirrors []map[key]entry // after batch i; the first one is what was handed over
	acked   []int           // operations of the disk when batch i was acknowledged
	reset   int             // operations of the disk when the tree was durable; 0: not yet
}

func newSaga(t *testing.T, seed uint64) *saga {
	s := &saga{t: t, w: newWorld(seed)}
	for range 60 {
		s.w.step()
	}
	s.w.told = nil
	s.mirrors = append(s.mirrors, maps.Clone(s.w.names))
	return s
}

func (s *saga) start(j *Journal, d *disk) error {
	if _, err := j.ResetTree(s.t.Context(), s.w.root, []byte("m"), s.w.walk); err != nil {
		return err
	}
	s.reset = d.traced()
	return nil
}

// append appends the next change of the world.
func (s *saga) append(j *Journal, d *disk) {
	s.t.Helper()
	for len(s.w.told) == 0 {
		for range 1 + s.w.rnd.IntN(20) {
			s.w.step()
		}
	}
	notes := slices.Clone(s.w.told)
	s.w.told = nil
	head := j.Bounds().Head
	n, err := j.Append(s.t.Context(), s.w.root, slices.Clone(notes))
	if err != nil {
		s.t.Fatalf("Append: %v", err)
	}
	b := &notify.Batch{Root: s.w.root, Notes: notes}
	b.Assign(n, head, 0)
	s.batches = append(s.batches, b)
	s.mirrors = append(s.mirrors, maps.Clone(s.w.names))
	s.acked = append(s.acked, d.traced())
}

// check compares a journal with the saga: it has to hold the first batches of it, at least as many as said, and a tree that is as of the last one.
// It gives how many there are.
func (s *saga) check(what string, j *Journal, least int) int {
	s.t.Helper()
	got, err := j.Page(s.t.Context(), 0, 1<<20)
	if err != nil {
		s.t.Fatalf("%s: Page: %v", what, err)
	}
	base := j.Bounds().Base
	skip := 0 // dropped by retention
	for skip < len(s.batches) && s.batches[skip].Number <= base {
		skip++
	}
	if skip+len(got) < least || skip+len(got) > len(s.batches) {
		s.t.Fatalf("%s: %d batches are there, %d dropped; %d were acknowledged, %d appended", what, len(got), skip, least, len(s.batches))
	}
	prev := base
	for i, b := range got {
		want := s.batches[skip+i]
		if b.Prev != prev || b.Number != want.Number || b.Root != want.Root || !reflect.DeepEqual(b.Notes, want.Notes) {
			s.t.Fatalf("%s: batch %d is not what was appended:\n got %+v\nwant %+v", what, i, b, want)
		}
		prev = b.Number
	}
	n := skip + len(got)
	s.w.names = s.mirrors[n]
	if !s.t.Run(what, func(t *testing.T) { s.w.check(t, j, "m") }) {
		s.t.FailNow()
	}
	return n
}

// Power fails before every single operation of the disk. What was acknowledged is there, what was not is there whole or not at all, the
// tree is as of the newest batch, and the journal goes on.
func TestEveryCrashPoint(t *testing.T) {
	dir := memDir(t)
	d := newDisk(t, dir)
	d.keep = true
	s := newSaga(t, 1)
	j := reopen(t, dir, Options{vfs: "faulty", RetainBytes: 2000})
	opened := d.traced()
	if err := s.start(j, d); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		s.append(j, d)
		switch i {
		case 3:
			j.trees.fold(t.Context(), true)
		case 5:
			j.db.checkpoint(false)
			j.trees.db.checkpoint(false)
		case 7:
			j.retain(t.Context())
		}
	}
	j.db.checkpoint(false)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(3, 3))
	step := 1
	if testing.Short() || underRace {
		step = 7
	}
	tried := 0
	for k := opened; k <= len(d.trace); k += step {
		least := 0
		for least < len(s.acked) && s.acked[least] <= k {
			least++
		}
		for luck, lucky := range []func(diskOp) int{
			func(diskOp) int { return -1 },
			func(op diskOp) int { return len(op.data) },
			func(op diskOp) int { return []int{-1, len(op.data) / 2, len(op.data)}[rnd.IntN(3)] },
		} {
			if luck > 0 && luck != 1+k%2 {
				continue // the hardest one at every operation, the others in turn
			}
			what := fmt.Sprintf("power failed before operation %d of %d, luck %d", k, len(d.trace), luck)
			dir := d.after(t, k, lucky)
			j, err := Open(dir, Options{Log: quiet()})
			if err != nil {
				t.Fatalf("%s: Open: %v", what, err)
			}
			tried++
			if s.reset <= k {
				n := s.check(what, j, least)
				if number := appendNote(t, j, s.w.root, "after"); number <= s.batches[len(s.batches)-1].Number && n < len(s.batches) {
					t.Fatalf("%s: number %d was given out before", what, number)
				}
			}
			leave(j)
			os.RemoveAll(dir)
		}
	}
	t.Logf("%d crashes at %d operations", tried, len(d.trace))
}

// Every operation of the disk fails once, or the disk fails for a while from there on, in the ways that disks fail. Nothing is lost: what was appended is
// there in the end, in order, and the tree follows.
func TestEveryFailure(t *testing.T) {
	for i, tt := range []struct {
		name  string
		rc    int32
		times int
	}{
		{"full once", sqlite3.SQLITE_FULL, 1},
		{"full from there on", sqlite3.SQLITE_FULL, 1 << 30},
		{"an I/O error", sqlite3.SQLITE_IOERR | sqlite3.SQLITE_IOERR_WRITE, 1},
		{"I/O errors from there on", sqlite3.SQLITE_IOERR | sqlite3.SQLITE_IOERR_WRITE, 1 << 30},
	} {
		t.Run(tt.name, func(t *testing.T) { failures(t, i, tt.rc, tt.times) })
	}
}

// failures tries every fourth operation, beginning with one: the four ways try all together.
func failures(t *testing.T, first int, rc int32, times int) {
	step := 4
	if testing.Short() || underRace {
		step = 16
	}
	for k := first; ; k += step {
		dir := memDir(t)
		d := newDisk(t, dir)
		s := newSaga(t, uint64(k))
		what := fmt.Sprintf("from operation %d on", k)
		failed := 0
		d.set(func(n int) int32 {
			if n >= k && n < k+times {
				failed++
				return rc
			}
			return 0
		})
		o := Options{vfs: "faulty", Log: quiet(), foldLag: 1}
		j, err := Open(dir, o)
		if err != nil { // refused: the cause gone, it works
			if kind := notify.KindOf(err); kind != notify.Unavailable || notify.Message(err) == kind.Error() {
				t.Fatalf("%s: Open was refused without saying what to do: %v", what, err)
			}
			d.set(nil)
			j = reopen(t, dir, o)
		}
		if err := s.start(j, d); err != nil {
			if notify.KindOf(err) != notify.Unavailable {
				t.Fatalf("%s: ResetTree: %v", what, err)
			}
			d.set(nil)
			if err := s.start(j, d); err != nil {
				t.Fatalf("%s: ResetTree, the second time: %v", what, err)
			}
		}
		for i := range 6 {
			s.append(j, d)
			if got, ok := j.Ring(s.batches[i].Number); !ok || len(got) != 1 {
				t.Fatalf("%s: batch %d is not live", what, i)
			}
			switch i {
			case 2:
				j.trees.fold(t.Context(), true)
			case 3:
				j.db.checkpoint(false)
				j.trees.db.checkpoint(false)
			case 4:
				j.saveUnsaved()
				j.retain(t.Context())
			}
		}
		state := j.State()
		if down := !state.Down.IsZero(); down != (state.Unsaved > 0) || down != (state.Err != nil) || down != (state.Saved < state.Bounds.Head) {
			t.Fatalf("%s: the state contradicts itself: %+v", what, state)
		}
		d.set(nil) // the disk works again
		j.saveUnsaved()
		s.append(j, d)
		if state := j.State(); !state.Down.IsZero() || state.Unsaved > 0 || state.Saved != state.Bounds.Head || state.Lost > 0 {
			t.Fatalf("%s: the disk works again, and the journal does not: %+v", what, state)
		}
		s.check(what, j, len(s.batches))
		leave(j)
		j = reopen(t, dir, Options{})
		s.check(what+", after a restart", j, len(s.batches))
		mustCheck(t, dir)
		j.Close()
		if failed == 0 {
			t.Logf("%d operations, one in %d was tried", k, step)
			return
		}
	}
}

// A disk that failed for a while and works again has all that a start needs: it need not read all batches to know which are the newest.
func TestUpAgain(t *testing.T) {
	dir := memDir(t)
	d := newDisk(t, dir)
	j := reopen(t, dir, Options{vfs: "faulty"})
	appendNote(t, j, 1, "a")
	d.set(func(int) int32 { return sqlite3.SQLITE_FULL })
	last := []notify.BatchNumber{appendNote(t, j, 1, "b"), appendNote(t, j, 2, "c")}
	d.set(nil)
	j.saveUnsaved()
	if s := j.State(); !s.Down.IsZero() || s.Unsaved > 0 {
		t.Fatalf("State: %+v", s)
	}
	leave(j)
	j = reopen(t, dir, Options{})
	if !maps.Equal(j.last, map[notify.FileID]notify.BatchNumber{1: last[0], 2: last[1]}) {
		t.Errorf("the newest batches are %v, want %v", j.last, last)
	}
	leave(j)
	db, err := sql.Open("sqlite", filepath.Join(dir, "journal.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var size int
	if err := db.QueryRow("SELECT length(roots) FROM newest").Scan(&size); err != nil || size != 2*16+crcSize {
		t.Errorf("%d bytes of them are stored: %v", size, err)
	}
}

// A tree cannot be stored while batches wait for the disk. Nobody may read them any more, so they do not wait for ever, nor does the journal to be up.
func TestTreeFailsWhileTheJournalIsDown(t *testing.T) {
	dir := memDir(t)
	d := newDisk(t, dir)
	j := reopen(t, dir, Options{vfs: "faulty", RingBytes: 8 << 10})
	appendNote(t, j, 1, "a")
	d.set(func(int) int32 { return sqlite3.SQLITE_FULL })
	for range 10 {
		appendNote(t, j, 1, "b")
	}
	number, err := j.trees.failed("journal.ResetTree", errReplaced)
	if err == nil {
		t.Error("it is no error")
	}
	if s := j.State(); s.Unsaved != 0 || s.Unwritten != 0 || s.Bounds.Base != number || s.Saved != number {
		t.Errorf("State: %+v", s)
	}
	next := appendNote(t, j, 1, "c")
	d.set(nil)
	j.saveUnsaved()
	if s := j.State(); !s.Down.IsZero() || s.Unsaved != 0 || s.Saved != next {
		t.Errorf("State when the disk works: %+v", s)
	}
	leave(j)
	j = reopen(t, dir, Options{})
	if page, err := j.Page(t.Context(), 0, 100); err != nil || len(page) != 1 || page[0].Number != next || page[0].Prev != number {
		t.Errorf("after a restart: %v, %v", page, err)
	}
}

// A disk that fails for long: memory is bounded, so the oldest unsaved batches are lost, and nobody is told anything else.
func TestUnsavedOutgrowsMemory(t *testing.T) {
	dir := memDir(t)
	d := newDisk(t, dir)
	j := reopen(t, dir, Options{vfs: "faulty", RingBytes: 8 << 10})
	w := newWorld(1)
	if _, err := j.ResetTree(t.Context(), 1, nil, w.walk); err != nil {
		t.Fatal(err)
	}
	var numbers []notify.BatchNumber
	for i := range 5 {
		numbers = append(numbers, appendNote(t, j, 1, fmt.Sprint("before", i)))
	}
	d.set(func(int) int32 { return sqlite3.SQLITE_FULL })
	for i := range 200 {
		numbers = append(numbers, appendNote(t, j, 1, fmt.Sprint("during", i)))
		if i%50 == 0 {
			j.saveUnsaved()
		}
	}
	honest := func(when string) {
		t.Helper()
		b := j.Bounds()
		kept := 0
		for i, n := range numbers {
			_, has, err := j.Contains(t.Context(), n.End())
			if err != nil || has != (n >= b.Base) {
				t.Fatalf("%s: Contains(batch %d): %v, %v with bounds %+v", when, i, has, err, b)
			}
			if has {
				kept++
			}
		}
		page, err := j.Page(t.Context(), 0, 1000)
		if err != nil || len(page) != kept-1 || page[0].Prev != b.Base {
			t.Fatalf("%s: %d batches can be read of %d behind base %d, %v", when, len(page), kept-1, b.Base, err)
		}
		if back, err := j.PageBack(t.Context(), 1, b.Head, 1000); err != nil || len(back) != kept-1 {
			t.Fatalf("%s: %d batches can be read backward of %d, %v", when, len(back), kept-1, err)
		}
	}
	s := j.State()
	if s.Down.IsZero() || s.Lost == 0 || s.Unsaved == 0 || s.RingBytes > 8<<10 || s.Unwritten <= 0 {
		t.Fatalf("State: %+v", s)
	}
	if _, has, _ := j.Contains(t.Context(), numbers[0].End()); has {
		t.Fatal("a cursor from before the hole can be read on from")
	}
	honest("down")
	d.set(nil)
	j.saveUnsaved()
	if s := j.State(); !s.Down.IsZero() || s.Unsaved != 0 || s.Unwritten != 0 || s.Saved != s.Bounds.Head {
		t.Fatalf("the disk works again: %+v", s)
	}
	honest("up again")
	bounds := j.Bounds()
	leave(j)
	j = reopen(t, dir, Options{})
	if got := j.Bounds(); got.Base < bounds.Base || got.Head < bounds.Head {
		t.Fatalf("after a restart: bounds %+v, before %+v", got, bounds)
	}
	honestAfter := j.Bounds()
	for i, n := range numbers {
		if has(t, j, n) && n < honestAfter.Base {
			t.Fatalf("after a restart the cursor of batch %d leads into the hole", i)
		}
	}
	// The checkpoint cannot bridge the hole, and so the next start scans silently.
	if _, _, err := j.LoadTree(t.Context(), 1, func(notify.FileID, string, notify.FileID, *notify.Attr) error { return nil }); !errors.Is(err, notify.NotFound) && !errors.Is(err, notify.Corrupt) {
		t.Fatalf("LoadTree over a hole: %v", err)
	}
	if _, err := j.ResetTree(t.Context(), 1, nil, w.walk); err != nil {
		t.Fatal(err)
	}
	for i, n := range numbers {
		if _, has, _ := j.Contains(t.Context(), n.End()); has {
			t.Fatalf("after a silent scan the cursor of batch %d is still good", i)
		}
	}
}

// A disk that is really full, and is emptied again.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test has to mount a small disk: run it as root")
		}
		t.Skip("mounting a small disk needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=3m"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mount: %v", err)
		}
		t.Skipf("a small disk cannot be mounted here: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	state := filepath.Join(dir, "state")
	j := reopen(t, state, Options{})
	w := newWorld(1)
	if _, err := j.ResetTree(t.Context(), 1, nil, w.walk); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	f.Close()
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk does not get full: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	var last notify.BatchNumber
	count := 0
	for ; j.State().Down.IsZero(); count++ {
		if count > 100000 {
			t.Fatal("the journal does not notice")
		}
		last = appendNote(t, j, 1, fmt.Sprint("file-", count))
	}
	for range 50 { // live, with numbers, while nothing can be saved
		last = appendNote(t, j, 1, fmt.Sprint("file-", count))
		count++
	}
	s := j.State()
	if got, ok := j.Ring(last); !ok || len(got) != 1 || s.Unsaved < 50 || s.Err == nil || s.Bounds.Head != last {
		t.Fatalf("live on a full disk: %d, %v, %+v", len(got), ok, s)
	}
	// A directory on the full disk is refused, with what to do.
	if _, err := Open(filepath.Join(dir, "other"), Options{Log: quiet()}); notify.KindOf(err) != notify.Unavailable || !strings.Contains(notify.Message(err), "full") {
		t.Errorf("Open on a full disk: %v", err)
	}
	os.RemoveAll(filepath.Join(dir, "other"))
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for !j.State().Down.IsZero() {
		if time.Now().After(deadline) {
			t.Fatalf("there is room again, and the journal is still down: %+v", j.State())
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	leave(j)
	j = reopen(t, state, Options{})
	page, err := j.Page(t.Context(), 0, 1<<20)
	if err != nil || len(page) != count || page[count-1].Number != last {
		t.Fatalf("%d of %d batches are there, %v", len(page), count, err)
	}
	n := 0
	if _, _, err := j.LoadTree(t.Context(), 1, func(notify.FileID, string, notify.FileID, *notify.Attr) error { n++; return nil }); err != nil || n != count+1 {
		t.Fatalf("the tree has %d entries, want %d and the root; %v", n, count, err)
	}
	j.Close()
	mustCheck(t, state)
}

// Somebody deletes the database under the running service: that is said, and what comes then stays in memory.
func TestDatabaseDisappears(t *testing.T) {
	dir := t.TempDir()
	j := reopen(t, dir, Options{})
	appendNote(t, j, 1, "a")
	if err := os.Remove(filepath.Join(dir, "journal.db")); err != nil {
		t.Fatal(err)
	}
	j.watchFile()
	n := appendNote(t, j, 1, "b")
	if s := j.State(); !errors.Is(s.Err, errReplaced) || s.Down.IsZero() || s.Unsaved != 1 || s.Bounds.Head != n {
		t.Fatalf("State: %+v", s)
	}
	j.saveUnsaved()
	if err := j.Close(); !errors.Is(err, notify.Unavailable) || notify.Message(err) != "2 batches could not be saved" {
		t.Fatalf("Close: %v, want to be told what could not be saved", err)
	}
}

// Somebody deletes the database, or the whole directory, and the service ends before it has looked for it: that is said all the same, with how many
// batches were saved to nowhere.
func TestDatabaseDisappearsBeforeTheEnd(t *testing.T) {
	for name, remove := range map[string]func(dir string) error{
		"the database":  func(dir string) error { return os.Remove(filepath.Join(dir, "journal.db")) },
		"the directory": os.RemoveAll,
	} {
		dir := filepath.Join(t.TempDir(), "state")
		j := reopen(t, dir, Options{})
		appendNote(t, j, 1, "seen")
		j.watchFile()
		if err := remove(dir); err != nil {
			t.Fatal(err)
		}
		appendNote(t, j, 1, "a")
		appendNote(t, j, 1, "b")
		err := j.Close()
		if !errors.Is(err, notify.Unavailable) || !errors.Is(err, errReplaced) || notify.Message(err) != "2 batches could not be saved" {
			t.Errorf("%s: Close: %v, want to be told of 2 batches", name, err)
		}
	}
}

// The disk fails, numbers are given out, the process crashes, and the clock goes back: they are not given out again.
func TestUnsavedNumbersAreNotReused(t *testing.T) {
	clock := logtest.NewClock()
	dir := memDir(t)
	d := newDisk(t, dir)
	j := reopen(t, dir, Options{vfs: "faulty", Now: clock.Now})
	clock.Add(time.Hour)
	saved := fillJournal(t, j, clock, 5)
	d.set(func(int) int32 { return sqlite3.SQLITE_FULL })
	told := fillJournal(t, j, clock, 50)
	j.noteHead() // as Run does every second
	leave(j)
	clock.Add(-24 * time.Hour)
	j = reopen(t, dir, Options{Now: clock.Now})
	if !has(t, j, saved[4]) {
		t.Fatal("what was saved is gone")
	}
	for _, n := range fillJournal(t, j, clock, 100) {
		if slices.Contains(told, n) {
			t.Fatalf("number %d was given out twice", n)
		}
	}
	for i, n := range told {
		if has(t, j, n) {
			t.Fatalf("the cursor of batch %d is good, and the batch was never saved", i)
		}
	}
}

// A process that is being forked has a copy of every descriptor until it runs its own program. The state directory of a journal that is closed is free
// all the same.
func TestLockEndsWithTheJournal(t *testing.T) {
	dir := t.TempDir()
	j := reopen(t, dir, Options{})
	fork, err := unix.Dup(int(j.lock.f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fork)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	reopen(t, dir, Options{})
}
