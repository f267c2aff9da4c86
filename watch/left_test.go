package watch

import (
	"slices"
	"testing"
	"time"
)

// What was left comes back once, in pieces, the names before the directories, and nothing of a directory that has gone.
func TestLeft(t *testing.T) {
	var l left
	var many []byte
	for range 3 * takeNames / 2 {
		many = append(many, 'x', 0)
	}
	l.look(leftNames{1, []byte("a\x00b\x00")})
	l.look(leftNames{2, []byte("c\x00")})
	l.look(leftNames{3, many})
	l.list(4)
	l.list(5)
	l.list(5)
	l.drop(2)
	l.drop(4)
	if l.size.Load() != int64(2+3*takeNames/2+1) {
		t.Errorf("it holds %d", l.size.Load())
	}
	d := newDirt()
	l.take(d)
	if _, a := d.find(place{1, "a"}); !a {
		t.Error("a does not come first")
	}
	if _, c := d.find(place{2, "c"}); c || len(d.lists) > 0 {
		t.Error("it gives what has gone, or a directory before the names")
	}
	if left := l.size.Load(); left != int64(2+takeNames/2+1) {
		t.Errorf("it holds %d", left)
	}
	l.take(d)
	l.take(d)
	if _, ok := d.lists[5]; !ok || len(d.lists) != 1 || !l.empty() || l.size.Load() != 0 {
		t.Errorf("it gave %v and holds %d", d.lists, l.size.Load())
	}
	for _, n := range d.names {
		if n.ops != 0 || !slices.Contains([]string{"a", "b", "x"}, n.at.name) {
			t.Errorf("it gave %+v", n)
		}
	}
}

// What is of directories that were told goes on, once; what is of others is forgotten, and said to be.
func TestLeftIsGivenOn(t *testing.T) {
	told := func(r ref) bool { return r < 10 }
	var from, to left
	to.list(1)
	from.list(1)
	from.list(2)
	from.look(leftNames{3, []byte("a\x00b\x00")})
	if from.give(&to, told) {
		t.Error("something of a directory that was not told")
	}
	if len(to.dirs) != 2 || !to.has(3) || to.has(2) || to.size.Load() != 4 {
		t.Errorf("it got %v and %v, %d in all", to.dirs, to.names, to.size.Load())
	}
	for _, r := range []ref{10, 11} {
		var from, to left
		if from.look(leftNames{10, []byte("a\x00")}); r == 11 {
			from = left{dirs: map[ref]struct{}{r: {}}}
		}
		if !from.give(&to, told) || !to.empty() {
			t.Errorf("what is of %d, which was not told, went on", r)
		}
	}
}

// The bound passes with so many names, but not before so much time.
func TestBound(t *testing.T) {
	b := bound{names: 3, time: time.Nanosecond}
	for seen := range 3 {
		if b.passed() {
			t.Errorf("it has passed after %d names", seen)
		}
		b.count()
	}
	for !b.passed() { // the clock may be coarse
	}
	long := bound{names: 1, time: time.Hour}
	if long.count(); long.passed() {
		t.Error("it has passed at once")
	}
}
