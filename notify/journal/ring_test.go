package journal

import (
	"testing"

	"fs_notify/notify"
)

// Many light batches, then heavy ones: the array has room for thousands, and must not hold as many heavy ones.
func TestRingLetsGo(t *testing.T) {
	r := newRing(1 << 20)
	n := notify.BatchNumber(0)
	push := func(path int) {
		n++
		r.push(&notify.Batch{Number: n, Notes: []notify.Notification{{Path: string(make([]byte, path)), Spine: notify.Spine{1}}}})
		for r.excess(0) {
			r.drop()
		}
	}
	for range 20000 {
		push(1)
	}
	for range 200 {
		push(100 << 10)
		held := r.batches[:cap(r.batches)]
		weight := r.weight + r.dropped
		if weight > 2<<20 {
			t.Fatalf("%d bytes are held by %d live batches in an array of %d", weight, len(r.batches), len(held))
		}
	}
	if got := len(r.from(0)); got != 10 {
		t.Fatalf("%d heavy batches are kept, want 10", got)
	}
}
