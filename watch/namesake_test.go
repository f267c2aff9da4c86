//go:build linux

package watch

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

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

func bash(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.Command("bash", "-ec", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
}

// scanned gives a directory in which a script was run, and a watcher that has scanned it and hears of nothing.
func scanned(t *testing.T, script string) (dir string, w *Watcher) {
	t.Helper()
	dir = t.TempDir()
	bash(t, dir, script)
	w, err := New(Config{Roots: []Root{{Dir: dir}}, Source: quietSource{}, Sink: &memSink{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.scan(context.Background(), w.t.roots[0]); err != nil {
		t.Fatal(err)
	}
	return dir, w
}

// In a directory that folds case a look finds an entry by every spelling of its name. That is played here: what a look finds under the name that the entry has is
// found under another spelling too. Told is the name that a listing has.
func TestNamesThatFold(t *testing.T) {
	for _, tt := range []struct {
		script        string
		said          []string // names that records are about, and what they say
		ops           []Op
		written, also string // what is there, and a spelling by which it is found too
		want          []string
	}{
		{"mv a A", []string{"a", "A"}, []Op{OpMovedFrom, OpMovedTo}, "A", "a", []string{"child_file_moved_from a", "child_file_moved_to A"}},
		{"rm a; touch A", []string{"a", "A"}, []Op{OpDelete, OpCreate}, "A", "a", []string{"child_file_removed a", "child_file_added A"}},
		{"rm a; touch A", []string{"A", "a"}, []Op{OpCreate, OpDelete}, "A", "a", []string{"child_file_removed a", "child_file_added A"}},
		{"mv d D", []string{"d", "D"}, []Op{OpMovedFrom, OpMovedTo}, "D", "d", []string{"child_dir_moved_from d", "child_dir_moved_to D"}},
		{"rm -r d; mkdir D; touch D/g", []string{"d", "D"}, []Op{OpDelete, OpCreate}, "D", "d", []string{"child_file_removed d/f", "child_dir_removed d", "child_dir_added D", "child_file_added D/g"}},
		{"rm -r d; mkdir D; touch D/g", []string{"D", "d"}, []Op{OpCreate, OpDelete}, "D", "d", []string{"child_file_removed d/f", "child_dir_removed d", "child_dir_added D", "child_file_added D/g"}},
		{"echo 2 > a", []string{"A"}, []Op{OpModify}, "a", "A", []string{"child_data_written a"}},
		// Here both are there, and what the look at n found was renamed since.
		{"mkdir N n", []string{"n", "N"}, []Op{OpCreate, OpCreate}, "N", "n", []string{"child_dir_added N", "child_dir_added n"}},
		{"mkdir N n", []string{"N", "n"}, []Op{OpCreate, OpCreate}, "N", "n", []string{"child_dir_added N", "child_dir_added n"}},
		{"mv l x; mv x L", []string{"l", "L"}, []Op{OpMovedFrom, OpMovedTo}, "L", "l", []string{"child_file_moved_from l", "child_file_moved_to L"}}, // it has another link
		{"mv l x; mv x L", []string{"L", "l"}, []Op{OpMovedTo, OpMovedFrom}, "L", "l", []string{"child_file_moved_from l", "child_file_moved_to L"}},
		{"echo 2 > l", []string{"L"}, []Op{OpModify}, "l", "L", []string{"child_data_written k", "child_data_written l"}},
		{"mv ä Ä", []string{"ä", "Ä"}, []Op{OpMovedFrom, OpMovedTo}, "Ä", "ä", []string{"child_file_moved_from ä", "child_file_moved_to Ä"}},
	} {
		dir, w := scanned(t, "echo 1 > a; mkdir d; touch d/f ä; echo 1 > k; ln k l")
		tr, root := w.t, w.t.roots[0].node
		bash(t, dir, tt.script)
		d := newDirt()
		for i, name := range tt.said {
			d.touch(place{root, name}, tt.ops[i])
		}
		p := tr.newPass(d, false)
		clear(p.todo)
		top, err := openRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		at := lookAt{l: tr.lookers[0], root: root, fd: top, m: tr.ms.at(tr.s.dir(root).mount)}
		found := func(i *item) {
			tr.look(at, &i.look, tt.written, i.ops, i.old, i.came)
			i.look.name = i.at.name
			p.seen(i)
		}
		for _, i := range p.named {
			found(i)
		}
		for r, j := range p.todo { // those that these looks led to
			if r != root {
				continue
			}
			for _, i := range j.items {
				if i.at.name == tt.also {
					found(i)
				}
			}
			j.items = slices.DeleteFunc(j.items, func(i *item) bool { return i.at.name == tt.also })
		}
		p.see()
		p.match()
		for _, name := range []string{tt.written, tt.also} {
			if i := p.item(place{root, name}); tt.script != "mkdir N n" && (i == nil || (i.state == present) != (name == tt.written)) {
				t.Errorf("%s, %q: %s is taken to be there, or not: %+v", tt.script, tt.said, name, i)
			}
		}
		p.tell()
		p.settle()
		tr.room.give(p.order)
		closeFD(top)
		var told []string
		for begin := time.Now(); ; time.Sleep(time.Millisecond) { // what is gone may turn up elsewhere for a while
			if d := w.next(); d != nil {
				w.pass(d)
			}
			told = nil
			added := make(map[notify.FileID]bool)
			for _, o := range w.out.queue {
				for _, n := range o.notes {
					if n.Type == notify.ChildDirAdded {
						if added[n.ID()] {
							t.Fatalf("%s, %q: one directory was added twice", tt.script, tt.said)
						}
						added[n.ID()] = true
					}
					if notify.Names.Has(n.Type) || n.Type == notify.ChildDataWritten && tt.ops[0] == OpModify {
						told = append(told, n.Type.String()+" "+n.Path)
					}
				}
			}
			slices.Sort(told)
			slices.Sort(tt.want)
			if slices.Equal(told, tt.want) {
				break
			}
			if time.Since(begin) > 10*time.Second {
				t.Errorf("%s, %q: told %q, want %q", tt.script, tt.said, told, tt.want)
				break
			}
		}
	}
}

// giveID makes the ID of a node that of what is at a path of the disk now, as the kernel may after a power cut.
func giveID(t *testing.T, w *Watcher, dir, path string, r ref) {
	t.Helper()
	tr, root := w.t, w.t.roots[0].node
	top, err := openRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(top)
	var found look
	tr.look(lookAt{l: tr.lookers[0], root: root, fd: top, m: tr.ms.at(tr.s.dir(root).mount)}, &found, path, OpCreate, 0, 0)
	tr.s.idIdx.remove(&tr.s, r, idHash(tr.s.node(r).id), byIDChain)
	tr.s.node(r).id = found.id
	tr.s.idIdx.insert(&tr.s, r, idHash(found.id), byIDChain)
}

// toldNames are the notifications of names that were told and nobody has taken yet.
func toldNames(w *Watcher) (told []string) {
	for _, o := range w.out.queue {
		for _, n := range o.notes {
			if notify.Names.Has(n.Type) {
				told = append(told, n.Type.String()+" "+n.Path)
			}
		}
	}
	return told
}

// After a power cut something may have the ID of what the disk has forgotten and the tree was told. If it is of another kind, that one is told to be gone before
// it comes; else it is told as having moved.
func TestIDThatIsGivenOutAgain(t *testing.T) {
	for _, tt := range []struct {
		before, after string // scripts
		told, found   string // names of the two
		want          []string
	}{
		{"mkdir -p d/e", "rm -r d; touch a", "d", "a", []string{"child_dir_removed d/e", "child_dir_removed d", "child_file_added a"}},
		{"mkdir -p d/e/g", "rm -r d; touch a", "d/e/g", "a", []string{"child_dir_removed d/e/g", "child_dir_removed d/e", "child_dir_removed d", "child_file_added a"}},
		{"touch a", "rm a; mkdir d; touch d/f", "a", "d", []string{"child_file_removed a", "child_dir_added d", "child_file_added d/f"}},
		{"touch f", "rm f; mkdir f; touch f/g", "f", "f", []string{"child_file_removed f", "child_dir_added f", "child_file_added f/g"}},
		{"mkdir f; touch f/g", "rm -r f; touch f", "f", "f", []string{"child_file_removed f/g", "child_dir_removed f", "child_file_added f"}},
		{"touch f", "rm f; touch g", "f", "g", []string{"child_file_moved_from f", "child_file_moved_to g"}},
	} {
		dir, w := scanned(t, tt.before)
		tr, root := w.t, w.t.roots[0].node
		bash(t, dir, tt.after)
		giveID(t, w, dir, tt.found, tr.s.find(root, tt.told))

		d := newDirt()
		d.touch(place{root, tt.found}, 0) // the old name is looked at as the ID leads there
		w.in.ask(func(in *dirt) { in.before(d) })
		for begin := time.Now(); ; time.Sleep(time.Millisecond) {
			if d := w.next(); d != nil {
				w.pass(d)
			}
			told := toldNames(w)
			if slices.Equal(told, tt.want) {
				break
			}
			if !slices.Equal(told, tt.want[:min(len(told), len(tt.want))]) || time.Since(begin) > 10*time.Second {
				t.Errorf("%s; %s: told %q, want %q", tt.before, tt.after, told, tt.want)
				break
			}
		}
	}
}

// The same in a directory that takes the place of what has to go first, and was in it.
func TestIDThatIsGivenOutAgainInWhatMoves(t *testing.T) {
	dir, w := scanned(t, "mkdir -p d/e")
	tr, root := w.t, w.t.roots[0].node
	s := &tr.s
	d := s.find(root, "d")
	e := s.find(d, "e")
	bash(t, dir, "mv d/e t; rmdir d; mv t d; touch d/f")
	giveID(t, w, dir, "d/f", d)
	for _, r := range []ref{root, d, e} {
		s.dir(r).flags &^= dirWatched // no record is waited for
	}
	in := newDirt()
	in.touch(place{e, "f"}, 0)
	in.touch(place{root, "d"}, 0)
	in.touch(place{d, "e"}, 0)
	w.pass(in)
	told := toldNames(w)
	if want := []string{"child_dir_moved_from d/e", "child_dir_removed d", "child_dir_moved_to d", "child_file_added d/f"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}
