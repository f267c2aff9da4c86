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

// The bound counts from the first listing on.
func TestBound(t *testing.T) {
	b := bound{names: 3, time: time.Nanosecond}
	if b.passed() {
		t.Error("it has passed before it began")
	}
	if !b.begin() || b.begin() {
		t.Error("it begins never, or twice")
	}
	if b.passed() {
		t.Error("it has passed after two directories")
	}
	b.look()
	for !b.passed() { // the clock may be coarse
	}
	if long := (&bound{time: time.Hour}); !long.begin() || long.passed() {
		t.Error("it has passed at once")
	}
}
