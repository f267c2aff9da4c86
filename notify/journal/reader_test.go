package journal

import (
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
	j.trees.fold(t.Context())
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
	if _, err := OpenReader(t.TempDir()); !errors.Is(err, notify.NotFound) {
		t.Errorf("an empty directory: %v, want NotFound", err)
	}
	dir := memDir(t)
	j := reopen(t, dir, Options{})
	if _, err := j.db.write.Exec("PRAGMA application_id = 5"); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenReader(dir); !errors.Is(err, notify.Invalid) {
		t.Errorf("another program's database: %v, want Invalid", err)
	}
	junk := t.TempDir()
	for _, name := range []string{"journal.db", "tree.db"} {
		if err := os.WriteFile(filepath.Join(junk, name), []byte(strings.Repeat("junk", 1000)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := OpenReader(junk); !errors.Is(err, notify.Unavailable) {
		t.Errorf("no database: %v, want Unavailable", err)
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
	j.trees.fold(t.Context())
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
