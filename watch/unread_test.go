//go:build linux

package watch

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// hidingSource takes the root away when a directory in it is about to be watched.
type hidingSource struct {
	quietSource
	root string
}

func (s hidingSource) Watch(_ DirRef, at Place) error {
	if filepath.Base(at.Path) == "d" {
		return os.Rename(s.root, s.root+".away")
	}
	return nil
}

// What could not be read behind the first scan, as the root was away, is read behind the next sweep.
func TestUnreadEntriesAreTriedAgainBehindASweep(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	if err := os.MkdirAll(filepath.Join(root, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	f := filepath.Join(root, "d/f")
	if err := os.WriteFile(f, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(f, "user.a", []byte("1"), 0); err != nil {
		t.Skip("no extended attributes here: ", err)
	}
	w, err := New(Config{Roots: []Root{{Dir: root}}, Source: hidingSource{root: root}, Sink: &memSink{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.scan(t.Context(), w.t.roots[0]); err != nil {
		t.Fatal(err)
	}
	if n := w.Stats().Unread; n != 2 || w.t.digests.next != 0 {
		t.Fatalf("%d entries are unread, and the next to be read is %d: want 2, which nobody reads", n, w.t.digests.next)
	}
	if err := os.Rename(root+".away", root); err != nil {
		t.Fatal(err)
	}
	sweepAll(w)
	for w.t.digests.next != 0 {
		w.digestStep(t.Context())
	}
	if n := w.Stats().Unread; n != 0 {
		t.Errorf("%d entries are unread", n)
	}
	r := w.t.s.find(w.t.roots[0].node, "d/f")
	if a := w.t.s.attr(r); a.X == nil {
		t.Error("the attribute of d/f was not read")
	}
}
