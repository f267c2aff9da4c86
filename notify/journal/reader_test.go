package journal

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"fs_notify/notify"
)

// A Reader sees what the writer has acknowledged, while the writer goes on.
func TestReaderBesideTheWriter(t *testing.T) {
	dir := memDir(t)
	w := newWorld(2)
	j := reopen(t, dir, Options{})
	for range 50 {
		w.step()
	}
	w.told = nil
	if _, err := j.ResetTree(t.Context(), 1, nil, w.walk); err != nil {
		t.Fatal(err)
	}
	fillJournal(t, j, nil, 250) // of roots 1 and 2, several pages
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	want, _ := j.Page(t.Context(), 0, 1000)
	var got []*notify.Batch
	for b, err := range r.Batches(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, b); len(got) == 100 {
			appendNote(t, j, 2, "while it is read")
		}
	}
	if len(got) != 251 || !reflect.DeepEqual(got[:250], want) || got[250].Notes[0].Path != "while it is read" {
		t.Fatalf("%d batches were read", len(got))
	}
	for b := range r.Batches(t.Context(), want[100].Number) {
		if b.Number != want[100].Number {
			t.Fatalf("it begins with %d, not %d", b.Number, want[100].Number)
		}
		break
	}
	j.trees.fold(t.Context(), true)
	s, err := r.Stat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Bounds != j.Bounds() || s.Batches != 251 || s.Holder != os.Getpid() || s.Folded != j.Bounds().Head || s.BodyBytes == 0 || s.FileBytes < s.BodyBytes || s.TreeBytes == 0 {
		t.Errorf("Stat: %+v", s)
	}
	if len(s.Roots) != 2 || s.Roots[0].Root != 1 || !s.Roots[0].Tree || s.Roots[0].Batches != 125 || s.Roots[0].Chunks == 0 || s.Roots[1].Tree || s.Roots[1].Newest != j.Bounds().Head {
		t.Errorf("Stat of the roots: %+v", s.Roots)
	}
	if c := mustCheck(t, dir); c.Batches != 251 || c.Notes != 251 || c.Trees != 1 || c.Entries == 0 || c.Dirs == 0 {
		t.Errorf("Check saw %+v", c)
	}

	// One batch is damaged: that one is told, and what comes behind it is read.
	if _, err := j.db.write.Exec("UPDATE batches SET body = substr(body, 1, length(body)-1) WHERE number = ?", int64(want[10].Number)); err != nil {
		t.Fatal(err)
	}
	n, bad := 0, 0
	for b, err := range r.Batches(t.Context(), 0) {
		n++
		if err != nil {
			bad++
			if b == nil || b.Number != want[10].Number || b.Root != 0 || !errors.Is(err, notify.Corrupt) {
				t.Fatalf("the damaged batch comes as %+v, %v", b, err)
			}
		}
	}
	if n != 251 || bad != 1 {
		t.Fatalf("%d batches were read, %d damaged", n, bad)
	}
	var problems []Problem
	if _, err := r.Check(t.Context(), func(p Problem) { problems = append(problems, p) }); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(problems, func(p Problem) bool { return p.Batch == want[10].Number && strings.Contains(p.Text, "damaged") }) {
		t.Fatalf("Check found %+v", problems)
	}
}

func TestReaderRefuses(t *testing.T) {
	dir := memDir(t)
	leave(reopen(t, dir, Options{}))
	with := func(name string, change func(path string)) string {
		to := t.TempDir()
		if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		change(filepath.Join(to, name))
		return to
	}
	sets := func(pragma string) func(string) {
		return func(path string) {
			db, err := sql.Open("sqlite", path)
			if err == nil {
				_, err = db.Exec(pragma)
				db.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	holds := func(text string) func(string) {
		return func(path string) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		name, dir string
		kind      notify.Kind
		says      string
	}{
		{"an empty directory", t.TempDir(), notify.NotFound, "it has no journal.db"},
		{"another program's database", with("journal.db", sets("PRAGMA application_id = 5")), notify.Invalid, "/journal.db is a database of another program"},
		{"a later version", with("journal.db", sets("PRAGMA user_version = 2")), notify.Invalid, "/journal.db has version 2 and is newer than this program"},
		{"a later version of the trees", with("tree.db", sets("PRAGMA user_version = 2")), notify.Invalid, "/tree.db has version 2 and is newer than this program"},
		{"no database", with("tree.db", holds(strings.Repeat("junk", 1000))), notify.Corrupt, "/tree.db is damaged"},
		{"an empty file", with("tree.db", holds("")), notify.Invalid, "/tree.db is empty"},
	} {
		if _, err := OpenReader(tt.dir); notify.KindOf(err) != tt.kind || !strings.Contains(notify.Message(err), tt.says) {
			t.Errorf("%s: %v, want %v and %q", tt.name, err, tt.kind, tt.says)
		}
	}
}

// What nobody has open is read where nothing may be written, and nothing is made beside it.
func TestReaderOfACopy(t *testing.T) {
	dir, to := memDir(t), t.TempDir()
	j := reopen(t, dir, Options{})
	fillJournal(t, j, nil, 150)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	names := func() (out []string) {
		entries, _ := os.ReadDir(to)
		for _, e := range entries {
			out = append(out, e.Name())
		}
		return out
	}
	want := names()
	os.Chmod(to, 0o500)
	defer os.Chmod(to, 0o700)
	for _, name := range want {
		os.Chmod(filepath.Join(to, name), 0o400)
	}
	if c := mustCheck(t, to); c.Batches != 150 {
		t.Errorf("Check saw %+v", c)
	}
	if all := readPage(t, to); len(all) != 150 {
		t.Errorf("%d batches were read", len(all))
	}
	if got := names(); !slices.Equal(got, want) {
		t.Errorf("the directory held %q, now %q", want, got)
	}
}

// A process that starts to write what is read as a file at rest is noticed.
func TestReaderIsDisturbed(t *testing.T) {
	dir := memDir(t)
	if err := reopen(t, dir, Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	j := reopen(t, dir, Options{})
	if _, err := r.Stat(t.Context()); err != nil {
		t.Errorf("before it writes to the file: %v", err)
	}
	fillJournal(t, j, nil, 100)
	if _, _, err := j.db.checkpoint(false); err != nil {
		t.Fatal(err)
	}
	_, bad := r.Stat(t.Context())
	_, worse := r.Check(t.Context(), func(Problem) {})
	for _, err := range []error{bad, worse} {
		if !errors.Is(err, notify.Unavailable) || !strings.Contains(notify.Message(err), "was written to while it was read") {
			t.Errorf("got %v", err)
		}
	}
	for b, err := range r.Batches(t.Context(), 0) {
		if b != nil || !errors.Is(err, notify.Unavailable) {
			t.Errorf("got %+v, %v", b, err)
		}
	}
}

// A first scan may take minutes. Appends to other roots, their folds and upkeep do not wait for it.
func TestScanHoldsNobodyUp(t *testing.T) {
	j := reopen(t, memDir(t), Options{})
	if _, err := j.ResetTree(t.Context(), 2, nil, func(func(notify.FileID, string, notify.FileID, *notify.Attr) error) error { return nil }); err != nil {
		t.Fatal(err)
	}
	base := j.Bounds().Base
	scanning, goOn, done := make(chan bool), make(chan bool), make(chan error)
	go func() {
		_, err := j.ResetTree(t.Context(), 1, nil, func(add func(notify.FileID, string, notify.FileID, *notify.Attr) error) error {
			close(scanning)
			<-goOn
			return add(1, "a", 3, &notify.Attr{Mode: notify.ModeFile})
		})
		done <- err
	}()
	<-scanning
	for i := range 20 {
		appendNote(t, j, 2, fmt.Sprint("meanwhile", i))
	}
	j.trees.fold(t.Context(), true)
	j.trees.moveWAL()
	j.retain(t.Context())
	j.State()
	close(goOn)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if b := j.Bounds(); b.Base != base {
		t.Fatalf("a new root moved the base of the others: %+v, before %d", b, base)
	}
	for root, want := range map[notify.FileID]int{1: 1, 2: 20} {
		n := 0
		if _, _, err := j.LoadTree(t.Context(), root, func(notify.FileID, string, notify.FileID, *notify.Attr) error { n++; return nil }); err != nil || n != want {
			t.Fatalf("root %d has %d entries, want %d; %v", root, n, want, err)
		}
	}
}
