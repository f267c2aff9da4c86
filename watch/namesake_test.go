//go:build linux

package watch

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"fs_notify/notify"
)

// A file is renamed between the looks at its two names, which workers make side by side. Whichever look is heard of first, the old name
// is looked at again: the file is told to have moved, and not to have got one more name.
func TestLooksAtTwoNamesThatPassEachOther(t *testing.T) {
	for _, newFirst := range []bool{true, false} {
		dir := t.TempDir()
		for _, d := range []string{"a", "b"} {
			if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "b/old"), []byte("one"), 0o644); err != nil {
			t.Fatal(err)
		}
		w, err := New(Config{Roots: []Root{{Dir: dir}}, Source: quietSource{}, Sink: &memSink{}})
		if err != nil {
			t.Fatal(err)
		}
		tr := w.t
		if err := w.scan(context.Background(), tr.roots[0]); err != nil {
			t.Fatal(err)
		}
		root := tr.roots[0].node
		at := func(path string) (ref, lookAt) {
			r := tr.s.find(root, path)
			top, err := openRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer closeFD(top)
			fd, err := openBelow(top, path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { closeFD(fd) })
			return r, lookAt{l: tr.lookers[0], root: root, fd: fd, m: tr.ms.at(tr.s.dir(r).mount), path: path}
		}
		a, inA := at("a")
		b, inB := at("b")
		d := newDirt()
		d.touch(place{a, "new"}, OpMovedTo)
		d.touch(place{b, "old"}, OpModify)
		p := tr.newPass(d, false)
		clear(p.todo)
		fresh, old := p.named[0], p.named[1]
		tr.look(inB, &old.look, "old", OpModify, tr.s.child(b, "old"), 0)
		f, err := os.OpenFile(filepath.Join(dir, "b/old"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString("two")
		f.Close()
		if err := os.Rename(filepath.Join(dir, "b/old"), filepath.Join(dir, "a/new")); err != nil {
			t.Fatal(err)
		}
		tr.look(inA, &fresh.look, "new", OpMovedTo, 0, 0)
		if newFirst {
			p.seen(fresh)
			p.seen(old)
		} else {
			p.seen(old)
			p.seen(fresh)
		}
		p.see()
		p.match()
		p.tell()
		var told []notify.Type
		for _, o := range w.out.queue {
			for _, n := range o.notes {
				told = append(told, n.Type)
			}
		}
		if len(told) < 2 || told[0] != notify.ChildFileMovedFrom || told[1] != notify.ChildFileMovedTo {
			t.Errorf("new name first: %t; told %v", newFirst, told)
		}
	}
}
