package watch

import (
	"os"
	"path/filepath"
	"testing"
)

// A listing of several pieces may give a name twice, as what had it was removed and made again in between: the tree has it once, and looks again.
func TestANameListedTwiceIsPlantedOnce(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	w, err := New(Config{Roots: []Root{{Dir: dir}}, Source: quietSource{}, Sink: &memSink{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.scan(t.Context(), w.t.roots[0]); err != nil {
		t.Fatal(err)
	}
	s, root := &w.t.s, w.t.roots[0].node
	f := s.child(root, "f")
	again := look{name: "f", id: s.node(f).id + 1, attr: s.attr(f), mount: w.t.ms.at(s.dir(root).mount)}
	late := newDirt()
	w.t.plant(root, []look{again}, nil, late, false, nil)
	if n := s.dir(root).count; n != 1 {
		t.Errorf("%d entries for one name", n)
	}
	if _, ok := late.find(place{root, "f"}); !ok {
		t.Error("nobody looks which of the two it is")
	}
}
