package watch

import (
	"slices"
	"testing"
	"time"
)

// What is due is given once, at most so many at a time; what is put off, added twice or dropped, is due as was said last.
func TestDueDirs(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	var d dueDirs
	take := func(now, most int, want ...ref) {
		t.Helper()
		got := d.take(at(now), most)
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("at %d: %v are due, want %v", now, got, want)
		}
	}
	if d.due(at(100)) || !d.empty() {
		t.Error("something is due of nothing")
	}
	d.put(1, at(5))
	d.put(2, at(3))
	d.put(2, at(7))
	d.add(1, at(1))
	d.add(3, at(2))
	d.put(4, at(1))
	d.drop(4)
	take(1, 10)
	take(2, 10, 3)
	take(4, 10)
	take(6, 10, 1)
	d.put(5, at(6))
	d.put(6, at(8))
	if got := d.take(at(8), 2); len(got) != 2 || !d.due(at(8)) {
		t.Errorf("%v are due, and then nothing: want two, and one more", got)
	}
	if got := d.take(at(8), 2); len(got) != 1 || d.due(at(9)) || !d.empty() {
		t.Errorf("%v is due at last, and then something: want one", got)
	}
}
