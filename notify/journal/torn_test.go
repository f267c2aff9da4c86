package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/journal/logtest"
)

// A crash leaves the files that the last append was writing cut off at any byte, or with nothing but zeros or rubbish from there on. What was
// acknowledged before is there, the last batch is there whole or not at all, and its number does not come again.
// FS_NOTIFY_LONG=1 tries every byte.
func TestTornAppend(t *testing.T) {
	master := memDir(t)
	clock := logtest.NewClock()
	o := Options{Now: clock.Now}
	j := reopen(t, master, o)
	if err := j.db.reserve(1<<20, &j.appending); err != nil { // as Run does
		t.Fatal(err)
	}
	clock.Add(time.Second)
	for i := range 20 {
		clock.Add(time.Millisecond)
		if _, err := j.Append(t.Context(), loadRoot, newLoad().notes(i%6, i*40, 40)); err != nil {
			t.Fatal(err)
		}
	}
	wal := filepath.Join(master, "journal.db-wal")
	before, err := os.ReadFile(wal)
	if err != nil {
		t.Fatal(err)
	}
	clock.Add(time.Second)
	last := appendNote(t, j, loadRoot, "the last one")
	j.noteHead()
	after, err := os.ReadFile(wal)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := written(before, after)
	if begin == end {
		t.Fatal("the last append wrote nothing")
	}
	want, err := j.Page(t.Context(), 0, 100)
	if err != nil || len(want) != 21 {
		t.Fatal(len(want), err)
	}
	sound := copyDir(t, master)
	leave(j)

	dir := memDir(t)
	try := func(what string, at int, walBytes, lock []byte) {
		t.Helper()
		os.RemoveAll(dir)
		if err := os.CopyFS(dir, os.DirFS(sound)); err != nil {
			t.Fatal(err)
		}
		os.Remove(filepath.Join(dir, "journal.db-shm")) // it describes the WAL as it was
		for name, data := range map[string][]byte{"journal.db-wal": walBytes, "lock": lock} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		j, err := Open(dir, Options{Now: clock.Now, Log: quiet()})
		if err != nil {
			t.Fatalf("%s at %d: Open: %v", what, at, err)
		}
		defer leave(j)
		got, err := j.Page(t.Context(), 0, 100)
		if n := len(got); err != nil || n < 20 || n > 21 || !reflect.DeepEqual(got, want[:n]) {
			t.Fatalf("%s at %d: %d batches are there, %v", what, at, n, err)
		}
		if ok := has(t, j, last); ok != (len(got) == 21) {
			t.Fatalf("%s at %d: the cursor of the last batch is good: %v, with %d batches", what, at, ok, len(got))
		}
		if n := appendNote(t, j, loadRoot, "another"); n <= last {
			t.Fatalf("%s at %d: number %d after %d", what, at, n, last)
		}
	}
	lock, err := os.ReadFile(filepath.Join(sound, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	try("nothing is torn", len(after), after, lock)
	if got := len(readPage(t, dir)); got != 21 {
		t.Fatalf("of files that are whole %d batches are read", got)
	}

	step := 97
	if os.Getenv("FS_NOTIFY_LONG") == "1" {
		step = 1
	} else if testing.Short() || underRace {
		step = 401
	}
	for at := begin; at < end; at += step {
		try("cut off", at, after[:at], lock)
		switch at / step % 2 {
		case 0:
			try("zeros", at, slices.Concat(after[:at], make([]byte, len(after)-at)), lock)
		case 1:
			try("rubbish", at, slices.Concat(after[:at], bytes.Repeat([]byte{0xa5}, len(after)-at)), lock)
		}
	}
	for at := range lock {
		if at%max(step/40, 1) == 0 {
			try("lock", at, after, lock[:at])
		}
	}
}

// written is where a file differs from what it was, which was no longer.
func written(before, after []byte) (begin, end int) {
	for begin < len(before) && before[begin] == after[begin] {
		begin++
	}
	end = len(after)
	for end > begin && end <= len(before) && before[end-1] == after[end-1] {
		end--
	}
	return begin, end
}

// readPage gives the rows of a journal that nobody writes.
func readPage(t testing.TB, dir string) (all []*notify.Batch) {
	t.Helper()
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for b, err := range r.Batches(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Notes) > 0 && b.Notes[0].Path != "another" {
			all = append(all, b)
		}
	}
	return all
}
