package journal

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/journal/logtest"
)

// fillJournal appends n batches, one a millisecond, and gives their numbers.
func fillJournal(t testing.TB, j *Journal, clock *logtest.Clock, n int) []notify.BatchNumber {
	t.Helper()
	var numbers []notify.BatchNumber
	for i := range n {
		if clock != nil {
			clock.Add(time.Millisecond)
		}
		numbers = append(numbers, appendNote(t, j, notify.FileID(1+i%2), fmt.Sprintf("file-%d", i)))
	}
	return numbers
}

func has(t testing.TB, j *Journal, n notify.BatchNumber) bool {
	t.Helper()
	_, ok, err := j.Contains(t.Context(), n.End())
	if err != nil {
		t.Fatalf("Contains(%d): %v", n, err)
	}
	return ok
}

// Whether the process ends well or not, the next one has everything, and goes on where this one ended.
func TestRestart(t *testing.T) {
	for name, end := range map[string]func(*Journal){"closed": func(j *Journal) { j.Close() }, "crashed": leave} {
		clock := logtest.NewClock()
		dir := t.TempDir()
		o := Options{Now: clock.Now}
		j := reopen(t, dir, o)
		clock.Add(time.Second)
		numbers := fillJournal(t, j, clock, 50)
		want, _ := j.Page(t.Context(), 0, 100)
		bounds := j.Bounds()
		end(j)
		j = reopen(t, dir, o)
		if got := j.Bounds(); got != bounds {
			t.Fatalf("%s: bounds %+v, before %+v", name, got, bounds)
		}
		got, err := j.Page(t.Context(), 0, 100)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: other batches than before: %v", name, err)
		}
		if batches, ok := j.Ring(0); ok {
			t.Fatalf("%s: memory claims to have all: %d", name, len(batches))
		}
		back, err := j.PageBack(t.Context(), 2, bounds.Head, 2)
		if err != nil || len(back) != 2 || back[0].Number != numbers[49] || back[1].Number != back[0].RootPrev {
			t.Fatalf("%s: backward from the head: %v, %v", name, back, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- j.Run(ctx) }()
		deadline := time.Now().Add(20 * time.Second)
		for { // Run fills memory
			if batches, ok := j.Ring(numbers[0]); ok {
				if !reflect.DeepEqual(batches, want) {
					t.Fatalf("%s: memory holds something else", name)
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: memory was not filled", name)
			}
			time.Sleep(time.Millisecond)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatalf("%s: Run: %v", name, err)
		}
		next := appendNote(t, j, 1, "next")
		page, _ := j.Page(t.Context(), next, 1)
		if next <= bounds.Head || page[0].Prev != bounds.Head || page[0].RootPrev != numbers[48] {
			t.Fatalf("%s: the next batch is %+v", name, page[0])
		}
		j.Close()
		if _, err := Open(dir, o); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// A page is light, whether its batches come from disk, from memory or from both: a reader may hold it for long.
func TestPagesAreLight(t *testing.T) {
	dir := t.TempDir()
	o := Options{RingBytes: 4 << 20}
	j := reopen(t, dir, o)
	const count = 100
	heaviest := 0
	for i := range notify.FileID(count) {
		notes := make([]notify.Notification, 100)
		for k := range notify.FileID(len(notes)) {
			notes[k] = notify.Notification{Type: notify.ChildFileAdded, Path: fmt.Sprint(strings.Repeat("x", 1000), i, "-", k), Spine: notify.Spine{1, 1000 + 1000*i + k},
				Attr: notify.Attr{Mode: notify.ModeFile}}
		}
		heaviest = max(heaviest, batchWeight(&notify.Batch{Notes: notes}))
		if _, err := j.Append(t.Context(), 1, notes); err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	for pos := j.Bounds().Base; pos < j.Bounds().Head; {
		page, err := j.Page(t.Context(), pos+1, 1000)
		if err != nil || len(page) == 0 {
			t.Fatalf("behind batch %d: %d batches, %v", pos, len(page), err)
		}
		weight := 0
		for _, b := range page {
			weight += batchWeight(b)
			if b.Prev != pos {
				t.Fatalf("batch %d comes after %d", b.Number, pos)
			}
			pos = b.Number
		}
		if seen += len(page); weight > pageWeight+heaviest {
			t.Errorf("a page of %d batches weighs %d", len(page), weight)
		}
	}
	if seen != count {
		t.Errorf("%d batches, want %d", seen, count)
	}
}

func TestSecondWriterIsRefused(t *testing.T) {
	dir := t.TempDir()
	j := reopen(t, dir, Options{})
	_, err := Open(dir, Options{Log: quiet()})
	if !errors.Is(err, notify.Unavailable) || !strings.Contains(notify.Message(err), fmt.Sprintf("process %d", os.Getpid())) {
		t.Fatalf("got %v, want a refusal that names process %d", err, os.Getpid())
	}
	appendNote(t, j, 1, "the first one goes on")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	reopen(t, dir, Options{})
}

// Somebody deletes the lock, or puts a file of another time there: it is put back, and a second writer is refused as before.
func TestLockIsPutBack(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	j := reopen(t, dir, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	path := filepath.Join(dir, "lock")
	for i, put := range []func() error{
		func() error { return nil },
		func() error { return os.WriteFile(path, []byte(lockText(1, 5)), 0o600) },
	} {
		n := appendNote(t, j, 1, "a")
		j.noteHead()
		if err := errors.Join(os.Remove(path), put()); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := j.keepLock(); err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.Count(log.String(), "it is put back"); got != i+1 {
			t.Errorf("said %d times, want %d:\n%s", got, i+1, &log)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != lockText(os.Getpid(), n) {
			t.Errorf("the lock says %q, %v", text, err)
		}
		if _, err := Open(dir, Options{Log: quiet()}); !errors.Is(err, notify.Unavailable) {
			t.Fatalf("a second writer: %v", err)
		}
	}
	// The whole directory is gone: there is no place for it. That is said once.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := j.keepLock(); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(log.String(), "could not be put back"); n != 1 {
		t.Errorf("said %d times, want once:\n%s", n, &log)
	}
}

// The disk turns read-only: that the lock file does not take the head is said once, and once more when it takes it.
func TestHeadThatCannotBeNoted(t *testing.T) {
	var log bytes.Buffer
	j := reopen(t, t.TempDir(), Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	works := j.lock.f
	broken, err := os.Open(works.Name()) // for reading
	if err != nil {
		t.Fatal(err)
	}
	defer broken.Close()
	for i := range 2 {
		j.lock.f = broken
		for range 5 {
			appendNote(t, j, 1, "a")
			j.noteHead()
		}
		j.lock.f = works
		for range 2 {
			j.noteHead()
		}
		if bad, good := strings.Count(log.String(), "could not be noted"), strings.Count(log.String(), "is noted in the lock file again"); bad != i+1 || good != i+1 {
			t.Fatalf("time %d: said %d times that it fails and %d times that it works:\n%s", i+1, bad, good, &log)
		}
	}
}

// Somebody deletes the lock and starts a second service before the first one has looked. The first one ends, says why, and writes nothing more.
func TestLockIsTaken(t *testing.T) {
	dir := t.TempDir()
	first := reopen(t, dir, Options{})
	appendNote(t, first, 1, "a")
	if err := os.Remove(filepath.Join(dir, "lock")); err != nil {
		t.Fatal(err)
	}
	second := reopen(t, dir, Options{})
	err := first.Run(t.Context())
	if says := fmt.Sprintf("process %d has it now", os.Getpid()); !errors.Is(err, notify.Unavailable) || !strings.Contains(notify.Message(err), says) {
		t.Fatalf("Run: %v, want %q", err, says)
	}
	appendNote(t, first, 1, "not saved")
	appendNote(t, second, 1, "b")
	if s := first.State(); s.Down.IsZero() || s.Unsaved != 1 {
		t.Errorf("State of the first: %+v", s)
	}
	if err := first.Close(); !errors.Is(err, notify.Unavailable) || notify.Message(err) != "1 batch could not be saved" {
		t.Errorf("Close of the first: %v", err)
	}
	page, err := second.Page(t.Context(), 0, 10)
	if err != nil || len(page) != 2 || page[1].Notes[0].Path != "b" || page[1].Prev != page[0].Number {
		t.Errorf("the second one has %v, %v, want its own batch behind the first one's", page, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	foreign := t.TempDir()
	db, err := sql.Open("sqlite", filepath.Join(foreign, "journal.db"))
	if err == nil {
		_, err = db.Exec("CREATE TABLE mine (x); PRAGMA application_id = 77")
		db.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	later := t.TempDir()
	leave(reopen(t, later, Options{}))
	db, err = sql.Open("sqlite", filepath.Join(later, "journal.db"))
	if err == nil {
		_, err = db.Exec("PRAGMA user_version = 9")
		db.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, dir string
		kind      notify.Kind
		says      string
	}{
		{"another program's database", foreign, notify.Invalid, "another program"},
		{"a later version", later, notify.Invalid, "newer"},
		{"a file", filepath.Join(file, "x"), notify.Unavailable, "state directory"},
	} {
		if _, err := Open(tt.dir, Options{Log: quiet()}); notify.KindOf(err) != tt.kind || !strings.Contains(notify.Message(err), tt.says) {
			t.Errorf("%s: %v, want %v and %q", tt.name, err, tt.kind, tt.says)
		}
	}
	if _, err := os.Stat(filepath.Join(foreign, "journal.db.damaged")); err == nil {
		t.Error("another program's database was set aside")
	}
}

// A day is kept, the rest goes; whoever stood in it is gone.
func TestRetentionByAge(t *testing.T) {
	clock := logtest.NewClock()
	dir := memDir(t)
	j := reopen(t, dir, Options{Now: clock.Now, RetainAge: 24 * time.Hour})
	clock.Add(time.Second)
	old := fillJournal(t, j, clock, 700) // more than are dropped at once
	clock.Add(24 * time.Hour)
	young := fillJournal(t, j, clock, 10)
	before := j.State().DiskBytes
	j.retain(t.Context())
	b := j.Bounds()
	if b.Base != old[699] || b.Head != young[9] {
		t.Fatalf("bounds %+v, want base %d and head %d", b, old[699], young[9])
	}
	for i, n := range append(old, young...) {
		if got, want := has(t, j, n), n >= old[699]; got != want {
			t.Fatalf("Contains(batch %d): got %v", i, got)
		}
	}
	if page, err := j.Page(t.Context(), 0, 1000); err != nil || len(page) != 10 || page[0].Prev != b.Base {
		t.Fatalf("%d batches are left, %v", len(page), err)
	}
	if after := j.State().DiskBytes; after >= before/50 || after <= 0 {
		t.Fatalf("%d bytes are said to be on disk, before %d", after, before)
	}
	var rows int
	if err := j.db.read.QueryRow("SELECT count(*) FROM batches").Scan(&rows); err != nil || rows != 10 {
		t.Fatalf("%d rows are left, %v", rows, err)
	}
	if n, _ := j.SeekTime(t.Context(), clock.Now().Add(-48*time.Hour)); n != b.Base {
		t.Fatalf("SeekTime before everything: %d, want the base %d", n, b.Base)
	}
	clock.Add(48 * time.Hour)
	j.retain(t.Context())
	if b := j.Bounds(); b.Base != young[8] || b.Head != young[9] {
		t.Fatalf("all is too old, of which the newest stays: bounds %+v", b)
	}
	if _, has, err := j.Contains(t.Context(), young[9].Seq(0)); !has {
		t.Fatalf("who has read the newest notification is told that its place is gone: %v", err)
	}
	leave(j)
	j = reopen(t, dir, Options{Now: clock.Now})
	if b := j.Bounds(); b.Base != young[8] || b.Head != young[9] {
		t.Fatalf("after a restart: bounds %+v, want %d", b, young[9])
	}
	if n := appendNote(t, j, 1, "x"); n <= young[9] {
		t.Fatalf("number %d after %d", n, young[9])
	}
}

// A journal is whole for as long as it has all that was ever appended: over restarts, until something is dropped. One that stands
// where another one was lost is not.
func TestWhole(t *testing.T) {
	clock := logtest.NewClock()
	dir := memDir(t)
	o := Options{Now: clock.Now, RetainAge: time.Hour}
	j := reopen(t, dir, o)
	check := func(want bool, when string) {
		t.Helper()
		if got := j.Bounds().Whole; got != want {
			t.Errorf("%s: whole is %v", when, got)
		}
		r, err := OpenReader(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if s, err := r.Stat(t.Context()); err != nil || s.Bounds != j.Bounds() {
			t.Errorf("%s: a reader beside it has %+v, %v, want %+v", when, s, err, j.Bounds())
		}
	}
	again := func() {
		leave(j)
		j = reopen(t, dir, o)
	}
	check(true, "made now")
	if _, err := j.ResetTree(t.Context(), 1, nil, newWorld(1).walk); err != nil {
		t.Fatal(err)
	}
	clock.Add(time.Second)
	fillJournal(t, j, clock, 10)
	check(true, "with all its batches")
	again()
	check(true, "after a restart")
	clock.Add(time.Minute)
	fillJournal(t, j, clock, 1)
	clock.Add(time.Hour - 30*time.Second)
	j.retain(t.Context())
	check(false, "when some have expired")
	again()
	check(false, "after another restart")
	j.noteHead()
	leave(j)
	for _, f := range []string{"journal.db", "journal.db-wal", "journal.db-shm"} {
		if err := os.Remove(filepath.Join(dir, f)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	j = reopen(t, dir, o)
	check(false, "made where the database was lost")
	dir = memDir(t)
	again()
	if _, err := j.ResetTree(t.Context(), 1, nil, newWorld(1).walk); err != nil {
		t.Fatal(err)
	}
	fillJournal(t, j, clock, 1)
	if _, err := j.ResetTree(t.Context(), 1, nil, newWorld(1).walk); err != nil {
		t.Fatal(err)
	}
	check(false, "scanned anew: older cursors are gone")
}

func TestRetentionByBytes(t *testing.T) {
	clock := logtest.NewClock()
	j := reopen(t, memDir(t), Options{Now: clock.Now, RetainBytes: 20 << 10, RetainAge: -1})
	clock.Add(time.Second)
	fillJournal(t, j, clock, 1000)
	clock.Add(1000 * time.Hour)
	j.retain(t.Context())
	var bytes int64
	if err := j.db.read.QueryRow("SELECT sum(length(body)+?) FROM batches", rowOverhead).Scan(&bytes); err != nil {
		t.Fatal(err)
	}
	if s := j.State(); bytes != s.DiskBytes || bytes > 20<<10 || bytes < 19<<10 {
		t.Fatalf("%d bytes are on disk, %d are said to be, 20 KiB are allowed", bytes, s.DiskBytes)
	}
	page, err := j.Page(t.Context(), 0, 1000)
	if err != nil || page[0].Prev != j.Bounds().Base || page[len(page)-1].Number != j.Bounds().Head {
		t.Fatalf("what is left does not hang together: %v", err)
	}
}

// Retention does not pass the checkpoint: it makes it follow.
func TestRetentionFoldsFirst(t *testing.T) {
	clock := logtest.NewClock()
	dir := t.TempDir()
	w := newWorld(4)
	j := reopen(t, dir, Options{Now: clock.Now, RetainAge: time.Hour})
	if _, err := j.ResetTree(t.Context(), 1, nil, w.walk); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		for range 5 {
			w.step()
		}
		clock.Add(time.Second)
		if len(w.told) > 0 {
			if _, err := j.Append(t.Context(), 1, w.told); err != nil {
				t.Fatal(err)
			}
		}
		w.told = nil
	}
	clock.Add(2 * time.Hour)
	j.retain(t.Context())
	if left, err := j.Page(t.Context(), 0, 10); len(left) != 1 || left[0].Number != j.Bounds().Head {
		t.Fatalf("%d old batches stayed: %+v, %v", len(left), j.Bounds(), err)
	}
	leave(j)
	j = reopen(t, dir, Options{Now: clock.Now})
	w.check(t, j, "")
}

// No number means two things, whatever happens to the state directory and to the clock.
func TestStaleCursorsAreGone(t *testing.T) {
	at := logtest.NewClock().Now()
	for _, tt := range []struct {
		name  string
		clock time.Duration // by which the clock is moved at the restart
		dir   func(t *testing.T, dir, backup string) string
	}{
		{"the directory was wiped", time.Millisecond, func(t *testing.T, _, _ string) string { return memDir(t) }},
		{"a backup was put back", time.Millisecond, func(_ *testing.T, _, backup string) string { return backup }},
		{"the clock went back a day", -24 * time.Hour, func(_ *testing.T, dir, _ string) string { return dir }},
		{"the database was deleted and the clock went back", -24 * time.Hour, func(t *testing.T, dir, _ string) string {
			for _, f := range []string{"journal.db", "journal.db-wal", "journal.db-shm"} {
				if err := os.Remove(filepath.Join(dir, f)); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
			}
			return dir
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clock := logtest.NewClock()
			dir := memDir(t)
			j := reopen(t, dir, Options{Now: clock.Now})
			clock.Add(time.Minute)
			old := fillJournal(t, j, clock, 20)
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			backup := copyDir(t, dir)
			j = reopen(t, dir, Options{Now: clock.Now})
			clock.Add(time.Minute)
			given := fillJournal(t, j, clock, 20)
			for range 40 { // a burst: the numbers run ahead of the clock
				given = append(given, appendNote(t, j, 1, "burst"))
			}
			j.noteHead()
			want := map[notify.BatchNumber][]*notify.Batch{}
			for _, n := range append(slices.Clone(old), given...) {
				want[n], _ = j.Page(t.Context(), n, 1)
			}
			leave(j)

			clock.Add(tt.clock)
			j = reopen(t, tt.dir(t, dir, backup), Options{Now: clock.Now})
			var fresh []notify.BatchNumber
			for i := range 200 {
				fresh = append(fresh, appendNote(t, j, 1, fmt.Sprint("fresh", i)))
			}
			for n, was := range want {
				if slices.Contains(fresh, n) {
					t.Fatalf("number %d was given out twice", n)
				}
				if has(t, j, n) { // then it is what it was
					if now, _ := j.Page(t.Context(), n, 1); !reflect.DeepEqual(now, was) {
						t.Fatalf("the cursor of batch %d is good, and another batch is there", n)
					}
				}
			}
			if _, err := j.SeekTime(t.Context(), at); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A page with many batches is damaged: each is told to be gone, and the log has the first ones and how many they became, once.
func TestManyDamagedBatches(t *testing.T) {
	dir := memDir(t)
	j := reopen(t, dir, Options{})
	fillJournal(t, j, nil, 88)
	if _, err := j.db.write.Exec("UPDATE batches SET body = x'00'"); err != nil {
		t.Fatal(err)
	}
	leave(j)
	var log bytes.Buffer
	j = reopen(t, dir, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	for range 2 {
		page, err := j.Page(t.Context(), 0, 100)
		if err != nil || len(page) != 88 || page[87].Root != 0 {
			t.Fatalf("%d batches, %v, want 88 that are gone", len(page), err)
		}
	}
	if n := strings.Count(log.String(), "a stored batch is damaged"); n != 13 || !strings.Contains(log.String(), "so_far=80") {
		t.Errorf("%d lines, want the first ten, and those of 20, 40 and 80:\n%s", n, &log)
	}
}

// Whatever bit of the database is wrong: every batch is the one that was appended, or is told to be damaged, or the hole shows in its successor.
func TestJournalDamage(t *testing.T) {
	master := memDir(t)
	clock := logtest.NewClock()
	j := reopen(t, master, Options{Now: clock.Now})
	clock.Add(time.Second)
	for i := range 60 {
		clock.Add(time.Millisecond)
		notes := newLoad().notes(i%6, i*40, 40)
		if i%3 > 0 {
			notes = notes[:1]
			unlink(notes)
		}
		if _, err := j.Append(t.Context(), loadRoot, notes); err != nil {
			t.Fatal(err)
		}
	}
	all, _ := j.Page(t.Context(), 0, 100)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	want := map[notify.BatchNumber]*notify.Batch{}
	for _, b := range all {
		want[b.Number] = b
	}
	content, err := os.ReadFile(filepath.Join(master, "journal.db"))
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(8, 8))
	outcomes := map[string]int{}
	tries := 300
	if testing.Short() || underRace {
		tries = 60
	}
	dir := copyDir(t, master)
	for i := range tries {
		bit := rnd.IntN(len(content) * 8)
		switch {
		case i%10 == 0:
			bit = rnd.IntN(100 * 8) // SQLite's header
		case i%10 < 4:
			bit = rnd.IntN(len(content)/4096)*4096*8 + rnd.IntN(200*8) // the heads of pages
		}
		bad := bytes.Clone(content)
		bad[bit/8] ^= 1 << (bit % 8)
		for _, f := range []string{"journal.db-wal", "journal.db-shm", "tree.db", "tree.db-wal", "tree.db-shm"} {
			os.Remove(filepath.Join(dir, f))
		}
		tree, _ := os.ReadFile(filepath.Join(master, "tree.db"))
		if err := errors.Join(os.WriteFile(filepath.Join(dir, "journal.db"), bad, 0o600), os.WriteFile(filepath.Join(dir, "tree.db"), tree, 0o600)); err != nil {
			t.Fatal(err)
		}
		outcomes[damaged(t, dir, bit, want, clock)]++
	}
	t.Logf("%v", outcomes)
	if outcomes["told"] == 0 || outcomes["unharmed"] == 0 {
		t.Errorf("the flips hit nothing, or everything: %v", outcomes)
	}
}

// damaged reads a journal with a wrong bit as a reader does, from the oldest cursor on.
func damaged(t *testing.T, dir string, bit int, want map[notify.BatchNumber]*notify.Batch, clock *logtest.Clock) string {
	j, err := Open(dir, Options{Now: clock.Now, Log: quiet()})
	if err != nil {
		if kind := notify.KindOf(err); kind == notify.Internal {
			t.Errorf("bit %d: Open: %v", bit, err)
		}
		return "refused"
	}
	defer leave(j)
	b := j.Bounds()
	pos, seen := b.Base, 0
	outcome := "unharmed"
	for pos < b.Head {
		page, err := j.Page(t.Context(), pos+1, 7)
		if err != nil {
			t.Fatalf("bit %d: Page: %v", bit, err)
		}
		if len(page) == 0 {
			t.Errorf("bit %d: nothing comes after batch %d, although the head is %d", bit, pos, b.Head)
			return "silent"
		}
		for _, got := range page {
			if got.Root == 0 || got.Prev != pos { // the reader is told that it is gone
				outcome = "told"
			} else if !reflect.DeepEqual(got, want[got.Number]) {
				t.Fatalf("bit %d: batch %d is not what was appended:\n got %+v\nwant %+v", bit, got.Number, got, want[got.Number])
			}
			if got.Number <= pos {
				return "told" // it would not go on from here
			}
			pos = got.Number
			seen++
		}
	}
	if outcome == "unharmed" && seen != len(want) {
		if b.Base == b.Head || len(want) > 0 && want[b.Base] == nil {
			return "gone"
		}
		// The newest rows are lost: their numbers must not come again.
		outcome = "shortened"
	}
	if n := appendNote(t, j, 1, "x"); want[n] != nil {
		t.Errorf("bit %d: number %d was given out twice", bit, n)
	}
	for i := range 5 {
		if _, err := j.PageBack(t.Context(), loadRoot, b.Head, 1+i*20); err != nil {
			t.Errorf("bit %d: PageBack: %v", bit, err)
		}
	}
	if _, err := j.SeekTime(t.Context(), clock.Now()); err != nil {
		t.Errorf("bit %d: SeekTime: %v", bit, err)
	}
	return outcome
}

// TestWriterProcess is no test: it is the process that TestKilled kills. It appends for ever, and says what was acknowledged.
func TestWriterProcess(t *testing.T) {
	dir := os.Getenv("JOURNAL_TEST_DIR")
	if dir == "" {
		t.Skip("only as a child of TestKilled")
	}
	j, err := Open(dir, Options{Log: quiet(), foldLag: 20, RetainBytes: 40 << 10})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	go j.Run(context.Background())
	if len(j.Trees()) == 0 {
		if _, err := j.ResetTree(t.Context(), 1, nil, func(func(notify.FileID, string, notify.FileID, *notify.Attr) error) error { return nil }); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	for i := 0; ; i++ {
		n := appendNote(t, j, 1, fmt.Sprintf("%d", j.Bounds().Head))
		fmt.Println(uint64(n))
		if i%64 == 63 {
			j.nudge()
		}
	}
}

// A process is killed at any moment, again and again: whatever it acknowledged is there, the chain is whole, and the tree is what was told.
func TestKilled(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no SIGKILL")
	}
	dir := t.TempDir()
	rounds := 12
	if testing.Short() || underRace {
		rounds = 4
	}
	rnd := rand.New(rand.NewPCG(5, 5))
	total := 0
	for round := range rounds {
		cmd := exec.Command(os.Args[0], "-test.run=^TestWriterProcess$")
		cmd.Env = append(os.Environ(), "JOURNAL_TEST_DIR="+dir)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		var acked []notify.BatchNumber
		kill := 1 + rnd.IntN(400)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			n, err := strconv.ParseUint(lines.Text(), 10, 64)
			if err != nil {
				if strings.HasPrefix(lines.Text(), "error") {
					t.Fatalf("round %d: %s", round, lines.Text())
				}
				break // a line that was cut
			}
			if acked = append(acked, notify.BatchNumber(n)); len(acked) == kill {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		cmd.Wait()
		if len(acked) < kill {
			t.Fatalf("round %d: the writer ended by itself after %d of %d appends", round, len(acked), kill)
		}
		total += len(acked)

		j := reopen(t, dir, Options{RetainAge: -1, RetainBytes: -1})
		b := j.Bounds()
		there := map[notify.BatchNumber]bool{}
		names := map[string]bool{}
		page, err := j.Page(t.Context(), 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		prev := b.Base
		for _, x := range page {
			if x.Root == 0 || x.Prev != prev || x.Notes[0].Path != fmt.Sprintf("%d", prev) {
				t.Fatalf("round %d: batch %d follows %d: %+v", round, x.Number, prev, x)
			}
			prev = x.Number
			there[x.Number] = true
			names[x.Notes[0].Path] = true
		}
		for i, n := range acked {
			if n > b.Base && !there[n] {
				t.Fatalf("round %d: acknowledged batch %d of %d is lost", round, i, len(acked))
			}
		}
		if head := acked[len(acked)-1]; b.Head < head {
			t.Fatalf("round %d: the head is %d, %d was acknowledged", round, b.Head, head)
		}
		tree := 0
		if _, _, err := j.LoadTree(t.Context(), 1, func(_ notify.FileID, name string, _ notify.FileID, _ *notify.Attr) error {
			tree++
			delete(names, name)
			return nil
		}); err != nil {
			t.Fatalf("round %d: LoadTree: %v", round, err)
		}
		if len(names) > 0 || tree < total {
			t.Fatalf("round %d: the tree has %d of %d entries, %d of those in the journal are missing", round, tree, total, len(names))
		}
		leave(j)
	}
}

// The last run found the database damaged while it wrote: it is set aside, and nobody goes on from it.
func TestBrokenDatabaseIsSetAside(t *testing.T) {
	dir := memDir(t)
	j := reopen(t, dir, Options{})
	old := append(fillJournal(t, j, nil, 5), j.Bounds().Base)
	w := newWorld(1)
	if _, err := j.ResetTree(t.Context(), 7, nil, w.walk); err != nil {
		t.Fatal(err)
	}
	j.fail(&notify.Error{Op: "test", Kind: notify.Corrupt})
	leave(j)
	for round := range 2 { // the second time over what was set aside the first time
		j = reopen(t, dir, Options{})
		for i, n := range old {
			if has(t, j, n) {
				t.Fatalf("the cursor of batch %d is still good", i)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "journal.db.damaged")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := j.LoadTree(t.Context(), 7, nil); !errors.Is(err, notify.NotFound) {
			t.Fatalf("the checkpoint of the damaged journal is still there: %v", err)
		}
		old = append(old, fillJournal(t, j, nil, 5)...)
		j.Close()
		if round == 0 {
			if err := os.WriteFile(filepath.Join(dir, "journal.db"), bytes.Repeat([]byte("not a database"), 1000), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// However long appends come without a pause, whether others read or not, the WAL begins anew again and again.
func TestWALStaysSmall(t *testing.T) {
	for _, readers := range []int{0, 1} {
		t.Run(fmt.Sprint(readers, " readers"), func(t *testing.T) {
			dir := t.TempDir()
			j := reopen(t, dir, Options{RingBytes: 1 << 20})
			ctx, stop := context.WithCancel(t.Context())
			var all sync.WaitGroup
			all.Go(func() { // as Run does, between other things
				for ctx.Err() == nil {
					j.moveWAL()
					select {
					case <-j.kick:
					case <-ctx.Done():
					}
				}
			})
			first := appendNote(t, j, 1, "first")
			for range readers {
				all.Go(func() {
					for ctx.Err() == nil {
						if _, err := j.Page(ctx, first, 50); err != nil && ctx.Err() == nil {
							t.Error(err)
							return
						}
					}
				})
			}
			rnd, name := rand.New(rand.NewPCG(1, 2)), make([]byte, 3000)
			for range 6000 { // some 90 MiB of WAL
				for i := range name {
					name[i] = byte(rnd.Uint32())
				}
				appendNote(t, j, 1, hex.EncodeToString(name))
			}
			size := fileBytes(filepath.Join(dir, "journal.db-wal"))
			stop()
			all.Wait()
			if size > 64<<20 { // as the documents say
				t.Errorf("the WAL has %d bytes", size)
			}
		})
	}
}

// An idle journal writes nothing.
func TestIdleJournalRests(t *testing.T) {
	dir := memDir(t)
	j := reopen(t, dir, Options{})
	fillJournal(t, j, nil, 5)
	round := func() (size int64) {
		j.watchFile()
		j.saveUnsaved()
		j.moveWAL()
		j.trees.moveWAL()
		j.trees.fold(t.Context(), true)
		j.retain(t.Context())
		j.noteHead()
		return fileBytes(filepath.Join(dir, "journal.db")) + fileBytes(filepath.Join(dir, "tree.db"))
	}
	round()
	first := round()
	for range 10 {
		if now := round(); now != first {
			t.Fatalf("the files grow from %d to %d bytes while nothing happens", first, now)
		}
	}
}

// spread makes a journal whose batches lie minutes apart, on many pages, and gives its directory, closed, with the numbers of the batches.
func spread(t *testing.T, clock *logtest.Clock, n int) (dir string, numbers []notify.BatchNumber) {
	dir = memDir(t)
	j := reopen(t, dir, Options{Now: clock.Now})
	for i := range n {
		clock.Add(time.Minute)
		numbers = append(numbers, appendNote(t, j, notify.FileID(1+i%2), fmt.Sprintf("file-%d-%s", i, strings.Repeat("x", 150))))
	}
	j.Close()
	return dir, numbers
}

// tearPage makes a page of a database unreadable: the one that has this text.
func tearPage(t *testing.T, path, text string) {
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(content, []byte(text))
	if at < 0 {
		t.Fatalf("no page has %q", text)
	}
	at -= at % 4096
	clear(content[at : at+4096])
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A page that cannot be read any more covers hours. Whoever reads across it, forward, backward or back along one root, passes it in one step, and memory is
// filled as far as it goes.
func TestUnreadablePage(t *testing.T) {
	clock := logtest.NewClock()
	dir, numbers := spread(t, clock, 400)
	tearPage(t, filepath.Join(dir, "journal.db"), "file-200-")
	j := reopen(t, dir, Options{Now: clock.Now, Log: quiet()})
	b := j.Bounds()
	read := map[notify.BatchNumber]bool{}
	holes := 0
	see := func(batches []*notify.Batch) {
		for _, b := range batches {
			if read[b.Number] = b.Root != 0; b.Root == 0 {
				holes++
			}
		}
	}
	for from := b.Base + 1; from <= b.Head; {
		page, err := j.Page(t.Context(), from, 100)
		if err != nil || len(page) == 0 {
			t.Fatalf("Page from %d: %d batches, %v", from, len(page), err)
		}
		see(page)
		from = page[len(page)-1].Number + 1
	}
	var missing []notify.BatchNumber
	for _, n := range numbers {
		if !read[n] {
			missing = append(missing, n)
		}
	}
	if holes != 1 || len(missing) == 0 || len(missing) > 40 {
		t.Fatalf("%d holes, %d of %d batches missing: want one hole, as large as a page", holes, len(missing), len(numbers))
	}
	for _, root := range []notify.FileID{0, 1} {
		holes, whole := 0, 0
		for before := b.Head; before > b.Base; {
			page, err := j.PageBack(t.Context(), root, before, 100)
			if err != nil {
				t.Fatalf("root %d, before %d: %v", root, before, err)
			}
			if len(page) == 0 {
				break
			}
			for _, b := range page {
				switch {
				case b.Root == 0:
					holes++
				case !read[b.Number]:
					t.Errorf("root %d: batch %d comes from backward alone", root, b.Number)
				default:
					whole++
				}
			}
			before = page[len(page)-1].Number - 1
		}
		want := len(numbers) - len(missing)
		if root != 0 {
			want = 0
			for i, n := range numbers {
				if read[n] && i%2 == 0 {
					want++
				}
			}
		}
		if holes != 1 || whole != want {
			t.Errorf("root %d, backward: %d holes and %d batches, want 1 and %d", root, holes, whole, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	last := missing[len(missing)-1]
	for {
		if batches, ok := j.Ring(last + 1); ok && len(batches) > 0 {
			if batches[0].Number <= last || batches[0].Root == 0 {
				t.Errorf("memory begins with %+v", batches[0])
			}
			break
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Old batches that cannot even be dropped: that is said once, and the next start sets the file aside.
func TestUnreadablePageIsOld(t *testing.T) {
	clock := logtest.NewClock()
	dir, numbers := spread(t, clock, 400)
	tearPage(t, filepath.Join(dir, "journal.db"), "file-20-")
	var log bytes.Buffer
	o := Options{Now: clock.Now, Log: slog.New(slog.NewTextHandler(&log, nil))}
	j := reopen(t, dir, o)
	clock.Add(DefaultRetainAge)
	for range 3 {
		j.retain(t.Context())
	}
	if n := strings.Count(log.String(), "cannot drop them"); n != 1 {
		t.Errorf("it was said %d times: %s", n, log.String())
	}
	leave(j)
	j = reopen(t, dir, o)
	if _, err := os.Stat(filepath.Join(dir, "journal.db.damaged")); err != nil {
		t.Error(err)
	}
	if has(t, j, numbers[len(numbers)-1]) {
		t.Error("a cursor of the journal that was set aside is still good")
	}
}

// What a clock says that was set forward counts only when it has kept that time: a mistake drops nothing for good.
func TestClockThatIsSet(t *testing.T) {
	wall := time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)
	var c clock
	look := func(later, jump time.Duration) bool {
		wall = wall.Add(later + jump)
		return c.believes(wall, later)
	}
	const day = 24 * time.Hour
	for i, tt := range []struct {
		later, jump time.Duration
		want        bool
	}{
		{0, 0, true},
		{10 * time.Second, time.Second, true}, // it is corrected all the time
		{10 * time.Second, 30 * day, false},
		{10 * time.Minute, 0, false},
		{10 * time.Second, -30 * day, true}, // it was a mistake
		{10 * time.Second, -day, true},
		{10 * time.Second, day, false},
		{50 * time.Minute, 0, false},
		{10 * time.Minute, 0, true}, // it was not
		{10 * time.Second, 0, true},
	} {
		if got := look(tt.later, tt.jump); got != tt.want {
			t.Errorf("look %d, %v later, set by %v: believed: %v", i, tt.later, tt.jump, got)
		}
	}
}

// A clock that is beyond all numbers does not end them: each is one more than the one before, until the clock is right.
func TestClockBeyondAllNumbers(t *testing.T) {
	clock := logtest.NewClock()
	const wrong = 80 * 365 * 24 * time.Hour
	good := func(n notify.BatchNumber) {
		t.Helper()
		if _, err := notify.ParseSeq(n.End().String()); err != nil {
			t.Error(err)
		}
	}
	dir := memDir(t)
	j := reopen(t, dir, Options{Now: clock.Now})
	clock.Add(time.Minute)
	one := appendNote(t, j, 1, "a")
	clock.Add(wrong)
	two := appendNote(t, j, 1, "b")
	good(two)
	j.retain(t.Context())
	j.noteHead()
	leave(j)
	j = reopen(t, dir, Options{Now: clock.Now})
	j.retain(t.Context())
	three := appendNote(t, j, 1, "c")
	clock.Add(time.Minute - wrong)
	four := appendNote(t, j, 1, "d")
	if two != one+1 || three != two+1 || four != notify.NumberAt(clock.Now()) {
		t.Errorf("numbers %d, %d, %d, %d: two and three should follow the one before", one, two, three, four)
	}
	if !has(t, j, one) || !has(t, j, three) {
		t.Error("a cursor is gone")
	}

	// Where there is none before it, and the clock is on either side of all numbers.
	for _, at := range []time.Duration{wrong, -20 * 365 * 24 * time.Hour} {
		clock := logtest.NewClock()
		clock.Add(at)
		var begun []notify.BatchNumber
		for range 2 {
			j := reopen(t, memDir(t), Options{Now: clock.Now})
			m := NewMemory(MemoryOptions{Now: clock.Now})
			for range 2 {
				n, err := m.Append(t.Context(), 1, []notify.Notification{logtest.Note(notify.ChildFileAdded, 1, "a")})
				if err != nil {
					t.Fatal(err)
				}
				begun = append(begun, n, appendNote(t, j, 1, "a"))
			}
		}
		slices.Sort(begun)
		if len(slices.Compact(begun)) != 8 {
			t.Errorf("numbers are given twice: %d", begun)
		}
		clock.Add(-at)
		for _, n := range begun {
			if good(n); n >= notify.NumberAt(clock.Now()) {
				t.Errorf("%d is ahead of the right clock", n)
			}
		}
	}
}

// What a program wrote that took such a clock at its word: nothing there can be gone on from, so it begins anew, at the clock.
func TestNumbersAreSpent(t *testing.T) {
	const beyond = maxNumber + 17
	for _, what := range []string{"journal and lock", "journal", "lock"} {
		t.Run(what, func(t *testing.T) {
			clock := logtest.NewClock()
			dir := memDir(t)
			j := reopen(t, dir, Options{Now: clock.Now})
			if _, err := j.ResetTree(t.Context(), 1, nil, newWorld(1).walk); err != nil {
				t.Fatal(err)
			}
			old := appendNote(t, j, 1, "a")
			if what != "lock" {
				j.first = beyond
				old = appendNote(t, j, 1, "b")
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			record := beyond
			if what == "journal" {
				record = 0
			}
			if err := os.WriteFile(filepath.Join(dir, "lock"), []byte(lockText(1, record)), 0o600); err != nil {
				t.Fatal(err)
			}
			clock.Add(time.Minute)
			for range 2 {
				j = reopen(t, dir, Options{Now: clock.Now})
				clock.Add(time.Second)
				n := appendNote(t, j, 1, "c")
				if n != notify.NumberAt(clock.Now()) {
					t.Errorf("number %d, want that of the clock", n)
				}
				b := j.Bounds()
				if lost := what != "lock"; has(t, j, old) == lost || !has(t, j, n) || b.Whole == lost {
					t.Errorf("bounds %+v, the older cursor is good: %v", b, has(t, j, old))
				}
				if err := j.Close(); err != nil {
					t.Fatal(err)
				}
				if text, err := os.ReadFile(filepath.Join(dir, "lock")); err != nil || string(text) != lockText(os.Getpid(), n) {
					t.Errorf("the lock file has %q, %v", text, err)
				}
			}
		})
	}
}
