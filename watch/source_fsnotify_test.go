//go:build linux

package watch

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func newFsnotifyRig(t testing.TB) *srcRig {
	t.Helper()
	s, err := NewFsnotify()
	if err != nil {
		t.Fatal(err)
	}
	return newSrcRig(t, s, t.TempDir())
}

func TestFsnotifyPairsRenames(t *testing.T) {
	s, err := NewFsnotify()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.(*fsnSource).from == nil {
		t.Error("this version of fsnotify does not show the old name of a rename any more: every rename now costs a look by identity")
	}
}

// The trap of fsnotify: a directory that is renamed loses its watch, and what is below keeps reporting
// its old path. By tokens neither path matters.
func TestFsnotifyRenamedDirectoryIsLostAndFoundAgain(t *testing.T) {
	r := newFsnotifyRig(t)
	r.mkdir("a/sub", "m")
	r.watch("m", ".", "a", "a/sub")
	r.rename("a", "b")
	got := r.lines(r.until("m/1"))
	if want := []string{"from a A", "to b A", "lost a"}; !slices.Equal(got, want) {
		t.Fatalf("renamed: got %q, want %q", got, want)
	}
	r.write("b/sub/x", "")
	if got, want := srcSquash(r.lines(r.until("m/2"))), []string{"create a/sub/x"}; !slices.Equal(got, want) {
		t.Errorf("below the renamed directory: got %q, want %q", got, want)
	}
	r.watch("b")
	r.write("b/y", "")
	if got, want := r.lines(r.until("m/3")), []string{"create b/y"}; !slices.Equal(got, want) {
		t.Errorf("watched again: got %q, want %q", got, want)
	}
}

// The tree may watch a moved directory under a new ref before it has read that the old watch is lost.
func TestFsnotifySameDirectoryUnderANewRef(t *testing.T) {
	r := newFsnotifyRig(t)
	r.mkdir("a", "m")
	old := r.watch("m", ".", "a")
	r.rename("a", "b")
	r.watch("b")
	r.s.Unwatch(old)
	r.until("m/1")
	r.write("b/y", "")
	if got, want := r.lines(r.until("m/2")), []string{"create b/y"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFsnotifyLeavesNothingBehind(t *testing.T) {
	s, err := NewFsnotify()
	if err != nil {
		t.Fatal(err)
	}
	dir := s.(*fsnSource).places.dir
	r := &srcRig{t: t, s: s, root: t.TempDir(), refs: map[DirRef]string{}}
	r.mkdir("a", "b")
	r.watch("a", "b")
	left, err := filepath.Glob(filepath.Join(dir, "[0-9]*"))
	if err != nil || len(left) != 0 {
		t.Errorf("tokens left: %q, %v", left, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory of tokens is still there: %v", err)
	}
	if _, err := r.tryWatch("a"); err != ErrClosed {
		t.Errorf("Watch of a closed source: %v", err)
	}
	s.Unwatch(1)
}

// A cleaner of temporary files may take the directory of tokens.
func TestFsnotifyTokensDirectoryRemoved(t *testing.T) {
	r := newFsnotifyRig(t)
	r.mkdir("a")
	r.must(os.RemoveAll(r.s.(*fsnSource).places.dir))
	r.watch("a")
	r.write("a/f", "")
	if got, want := r.lines(r.until("a/m")), []string{"create a/f"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
