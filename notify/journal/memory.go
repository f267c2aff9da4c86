package journal

import (
	"context"
	"sync"
	"time"

	"fs_notify/notify"
)

// MemoryOptions of a Memory; the zero value serves.
type MemoryOptions struct {
	RingBytes int              // what the batches may weigh together, by Notification.Weight; 0: DefaultRingBytes
	Now       func() time.Time // the clock; nil: time.Now
}

// Memory is a journal that ends with its process. It keeps the newest batches within a bound of bytes
// and forgets the oldest ones. A cursor of an earlier process is gone, as the base is the moment of
// creation: for one from the future to be misread, the clock must have been set back between the two.
type Memory struct {
	now  func() time.Time
	bell *bell

	mu     sync.RWMutex
	ring   ring
	base   notify.BatchNumber
	seen   notify.Seq // whoever has seen so much of the base has seen all of it
	whole  bool       // as Bounds has it
	head   notify.BatchNumber
	last   map[notify.FileID]notify.BatchNumber // newest batch of each root
	closed bool
}

// NewMemory makes an empty journal.
func NewMemory(o MemoryOptions) *Memory {
	if o.Now == nil {
		o.Now = time.Now
	}
	base := notify.NumberAt(o.Now())
	return &Memory{now: o.Now, bell: newBell(), ring: newRing(o.RingBytes), base: base, seen: base.End(), whole: true, head: base,
		last: make(map[notify.FileID]notify.BatchNumber)}
}

// Append numbers the notifications of one root, keeps them and wakes the readers. The slice is the journal's from
// then on. Notes that make no batch (none, too many, without spine) are Invalid; after Close it is Closed.
func (m *Memory) Append(_ context.Context, root notify.FileID, notes []notify.Notification) (notify.BatchNumber, error) {
	if err := checkNotes("journal.Append", root, notes); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return 0, closed("journal.Append")
	}
	rootPrev := m.last[root]
	if rootPrev <= m.base {
		rootPrev = 0
	}
	b := &notify.Batch{Root: root, Notes: notes}
	b.Assign(nextNumber(m.now(), m.head), m.head, rootPrev)
	m.ring.push(b)
	m.head, m.last[root] = b.Number, b.Number
	for m.ring.excess() {
		b := m.ring.drop()
		m.base, m.seen, m.whole = b.Number, b.Last(), false
	}
	m.bell.ring()
	return b.Number, nil
}

// Close wakes all readers for good; reading a page and appending are Closed from then on.
func (m *Memory) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.bell.close()
	return nil
}

// Bounds are the ends of what can be read now.
func (m *Memory) Bounds() notify.Bounds {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return notify.Bounds{Base: m.base, Head: m.head, Whole: m.whole}
}

// Ring gives the batches numbered from or higher, oldest first. It is always true: what is not in memory is nowhere.
func (m *Memory) Ring(from notify.BatchNumber) ([]*notify.Batch, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.ring.from(from), true
}

// Page gives at most limit batches numbered from or higher, oldest first.
func (m *Memory) Page(ctx context.Context, from notify.BatchNumber, limit int) ([]*notify.Batch, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.refuse(ctx, "journal.Page"); err != nil {
		return nil, err
	}
	b := m.ring.from(from)
	return b[:min(len(b), max(limit, 0))], nil
}

// PageBack gives at most limit batches of a root (0: of any) numbered before or lower, newest first.
func (m *Memory) PageBack(ctx context.Context, root notify.FileID, before notify.BatchNumber, limit int) ([]*notify.Batch, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.refuse(ctx, "journal.PageBack"); err != nil {
		return nil, err
	}
	return m.ring.back(root, before, limit), nil
}

// Contains says whether a cursor can be read on from, and where: its batch is kept, or it has seen all of the base.
func (m *Memory) Contains(ctx context.Context, pos notify.Seq) (at notify.Seq, ok bool, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.refuse(ctx, "journal.Contains"); err != nil {
		return 0, false, err
	}
	if pos.Batch() == m.base {
		return m.base.End(), pos >= m.seen, nil
	}
	return pos, m.ring.has(pos.Batch()), nil
}

// SeekTime gives the number of the last batch written in a millisecond before that of t; the base if there is none.
func (m *Memory) SeekTime(ctx context.Context, t time.Time) (notify.BatchNumber, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.refuse(ctx, "journal.SeekTime"); err != nil {
		return 0, err
	}
	if n, ok := m.ring.before(notify.NumberAt(t)); ok {
		return n, nil
	}
	return m.base, nil
}

// Grew gives a channel that is closed at the next append, and at Close. Fetch it before looking, then wait on it.
func (m *Memory) Grew() <-chan struct{} { return m.bell.wait() }

// refuse says why nothing can be read: the caller gave up or the journal is closed.
func (m *Memory) refuse(ctx context.Context, op string) error {
	if m.closed {
		return closed(op)
	}
	return context.Cause(ctx)
}

func closed(op string) error { return &notify.Error{Op: op, Kind: notify.Closed} }
