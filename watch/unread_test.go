//go:build linux

package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
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

// Extended attributes that nobody can read are left to the next sweep. Rounds that find nothing to read end.
func TestExtendedAttributesThatCannotBeRead(t *testing.T) {
	dir, w := scanned(t, "touch f g; setfattr -n user.a -v 1 f g 2>/dev/null || true")
	tr := w.t
	for _, name := range []string{"f", "g"} {
		r := tr.s.find(tr.roots[0].node, name)
		tr.s.setX(r, nil)
		tr.s.leaveX(r)
	}
	bash(t, dir, "rm f") // there is no record of that, and so it stays in the tree
	tr.digests.begin(tr.now())
	for steps := 0; tr.digests.next != 0; steps++ {
		if steps == 10 {
			t.Fatal("it is tried again and again")
		}
		w.digestStep(t.Context())
	}
	if n := tr.s.unread.Load(); n != 1 {
		t.Errorf("%d entries are unread, want 1", n)
	}
}

// However many entries have been read, a step does not pass over all of them.
func TestLittleIsUnreadInALargeTree(t *testing.T) {
	_, w := scanned(t, "true")
	s, root := &w.t.s, w.t.roots[0].node
	for i := range digestNodes + 1000 {
		name := fmt.Sprint(i)
		r := s.alloc(root, name, notify.FileID(i+1), false)
		s.attach(r, root, name)
	}
	w.t.digests.begin(w.t.now())
	if w.digestStep(t.Context()); w.t.digests.next == 0 || w.t.digests.next > digestNodes+1 {
		t.Errorf("one step went on to node %d", w.t.digests.next)
	}
	if w.digestStep(t.Context()); w.t.digests.next != 0 {
		t.Errorf("two steps went on to node %d", w.t.digests.next)
	}
}

// However many names have gone while nobody looked, a pass is of so many as it has room for, and the sweep ends when all are told.
func TestManyNamesHaveGone(t *testing.T) {
	dir, w := scanned(t, "mkdir d e; touch keep; cd d; seq 40000 | xargs touch")
	bash(t, dir, "find d -type f -delete; mv keep e/kept")
	ri := w.t.roots[0]
	ri.restored, ri.phase = true, notify.Indexing // as after a restart
	kept := w.t.s.find(ri.node, "keep")
	w.begin(&sweep{})
	for w.sweep != nil {
		d := w.next()
		if d == nil {
			time.Sleep(time.Millisecond)
			continue
		}
		if len(d.names) > passNames {
			t.Errorf("%d names in a pass", len(d.names))
		}
		w.pass(d)
	}
	if n := w.t.s.entries[ri.node]; ri.phase != notify.Live || n != 4 || w.t.s.find(ri.node, "e/kept") != kept {
		t.Errorf("the root is %s with %d entries, and what was renamed is %d, not %d", ri.phase, n, w.t.s.find(ri.node, "e/kept"), kept)
	}
}

// What was read of a directory completes what is remembered of it, though its times were told alone since then. Of a file that was told with another
// change time it is not known whether that is what it had.
func TestWhatWasReadCompletesWhatIsRemembered(t *testing.T) {
	x := &notify.Xattrs{Other: 1}
	read := notify.Attr{Mode: notify.ModeDir, Ino: 7, Btime: 3, Ctime: 5}
	g := &digests{notes: map[notify.FileID]readX{9: {stampOf(&read), x}}}
	for _, tt := range []struct {
		what string
		a    notify.Attr
		want bool
	}{
		{"as it was read", read, true},
		{"a directory's times", notify.Attr{Mode: notify.ModeDir, Ctime: 6, Atime: 6}, true},
		{"a directory of which an older version told one time", notify.Attr{Mode: notify.ModeDir}, true},
		{"a directory that was looked at later", notify.Attr{Mode: notify.ModeDir, Ino: 7, Btime: 3, Ctime: 6}, false},
		{"a file of which a record said that it was renamed", notify.Attr{Mode: notify.ModeFile, Ctime: 6}, false},
	} {
		if got := g.of(9, &tt.a); got != tt.want || got != (tt.a.X == x) {
			t.Errorf("%s: completed %v with %v, want %v", tt.what, got, tt.a.X, tt.want)
		}
	}
}
