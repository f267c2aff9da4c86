package journal

import (
	"slices"
	"sort"
	"sync"

	"fs_notify/notify"
)

// DefaultRingBytes is how much the batches in memory weigh together if Options does not say.
const DefaultRingBytes = 64 << 20

// batchWeight is what a batch takes in memory, about: 96 bytes for itself and the weight of its notifications.
func batchWeight(b *notify.Batch) int {
	w := 96
	for i := range b.Notes {
		w += b.Notes[i].Weight()
	}
	return w
}

// savedShare of what may be in memory, one part in so many, may be batches that are kept elsewhere too: on disk, or packed.
const savedShare = 4

// ring holds the newest batches. The newest one always stays, however heavy it is. Slices
// that were given out stay valid: the array behind them is only written where nobody reads yet.
type ring struct {
	batches []*notify.Batch // oldest first
	weights []int32         // of each, so that what came in goes out
	weight  int
	limit   int
	dropped int // weight of what was dropped and is still in the array
}

func newRing(limit int) ring {
	if limit <= 0 {
		limit = DefaultRingBytes
	}
	return ring{limit: limit}
}

// push adds the newest batch.
func (r *ring) push(b *notify.Batch) {
	w := batchWeight(b)
	if len(r.batches) == cap(r.batches) {
		r.move()
	}
	r.batches = append(r.batches, b)
	r.weights = append(r.weights, int32(w))
	r.weight += w
}

// move goes to a new array with some room, and so lets go of what was dropped.
func (r *ring) move() {
	r.batches = append(make([]*notify.Batch, 0, len(r.batches)+len(r.batches)/4+16), r.batches...)
	r.dropped = 0
}

// share is what batches that are kept elsewhere too may weigh together.
func (r *ring) share() int { return r.limit / savedShare }

// prepend adds older batches, newest first, which are kept elsewhere too, as far as there is room.
func (r *ring) prepend(older []*notify.Batch) {
	n := 0
	weights := make([]int32, len(older), len(older)+len(r.weights))
	for n < len(older) {
		w := batchWeight(older[n])
		if r.weight+w > r.share() && len(r.batches)+n > 0 {
			break
		}
		r.weight += w
		n++
		weights[len(older)-n] = int32(w)
	}
	batches := make([]*notify.Batch, 0, n+len(r.batches)+len(r.batches)/4+16)
	for _, b := range slices.Backward(older[:n]) {
		batches = append(batches, b)
	}
	r.batches = append(batches, r.batches...)
	r.weights = append(weights[len(older)-n:], r.weights...)
}

// excess says whether the oldest batch has to go. Those numbered saved or lower are kept elsewhere too.
func (r *ring) excess(saved notify.BatchNumber) bool {
	return len(r.batches) > 1 && (r.weight > r.limit || r.weight > r.share() && r.batches[0].Number <= saved)
}

// drop removes the oldest batch and gives it.
func (r *ring) drop() *notify.Batch {
	b, w := r.batches[0], int(r.weights[0])
	r.weight -= w
	r.batches, r.weights = r.batches[1:], r.weights[1:]
	if r.dropped += w; r.dropped > r.limit/16 {
		r.move()
	}
	return b
}

// begins gives the number before the oldest batch in memory: what is above it is here or nowhere. base and head are those of the journal.
func (r *ring) begins(base, head notify.BatchNumber) notify.BatchNumber {
	if len(r.batches) == 0 {
		return head
	}
	return max(r.batches[0].Prev, base)
}

// reaches gives what is numbered n or higher; false: memory begins behind n, and some of it is kept elsewhere only.
func (r *ring) reaches(n, base, head notify.BatchNumber) ([]*notify.Batch, bool) {
	if begins := r.begins(base, head); n <= begins && begins > base {
		return nil, false
	}
	return r.from(n), true
}

// fillPage appends batches in memory to a page of at most limit batches in which there is room for so much weight.
func fillPage(page, held []*notify.Batch, limit, room int) []*notify.Batch {
	for _, b := range held {
		if len(page) >= limit || room < 0 {
			break
		}
		page = append(page, b)
		room -= batchWeight(b)
	}
	return page
}

// from gives what is numbered n or higher.
func (r *ring) from(n notify.BatchNumber) []*notify.Batch {
	i := sort.Search(len(r.batches), func(i int) bool { return r.batches[i].Number >= n })
	return slices.Clip(r.batches[i:])
}

// has says whether batch n is in memory.
func (r *ring) has(n notify.BatchNumber) bool {
	b := r.from(n)
	return len(b) > 0 && b[0].Number == n
}

// back gives, newest first, at most limit batches of root (0: of any) numbered n or lower.
func (r *ring) back(root notify.FileID, n notify.BatchNumber, limit int) []*notify.Batch {
	i := sort.Search(len(r.batches), func(i int) bool { return r.batches[i].Number > n })
	var out []*notify.Batch
	for i--; i >= 0 && len(out) < limit; i-- {
		if b := r.batches[i]; root == 0 || b.Root == root {
			out = append(out, b)
		}
	}
	return out
}

// first gives the oldest batch of a root; nil: there is none.
func (r *ring) first(root notify.FileID) *notify.Batch {
	for _, b := range r.batches {
		if b.Root == root {
			return b
		}
	}
	return nil
}

// before gives the number of the last batch numbered below n, if it is in memory.
func (r *ring) before(n notify.BatchNumber) (notify.BatchNumber, bool) {
	i := sort.Search(len(r.batches), func(i int) bool { return r.batches[i].Number >= n })
	if i == 0 {
		return 0, false
	}
	return r.batches[i-1].Number, true
}

// bell wakes whoever waits for the next append.
type bell struct {
	mu     sync.Mutex
	ch     chan struct{}
	waited bool // somebody has the channel
	closed bool
}

func newBell() *bell { return &bell{ch: make(chan struct{})} }

// wait gives the channel that is closed at the next ring.
func (b *bell) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waited = true
	return b.ch
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waited && !b.closed {
		close(b.ch)
		b.ch, b.waited = make(chan struct{}), false
	}
}

// close rings for good.
func (b *bell) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		close(b.ch)
	}
}
