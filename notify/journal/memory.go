package journal

import (
	"context"
	"slices"
	"sort"
	"sync"
	"time"

	"fs_notify/notify"
)

// MemoryOptions of a Memory; the zero value serves.
type MemoryOptions struct {
	Bytes int              // what the batches may take together; 0: DefaultRingBytes
	Now   func() time.Time // the clock; nil: time.Now
}

// Memory is a journal that ends with its process. It keeps the newest batches within a bound of bytes
// and forgets the oldest ones. A cursor of an earlier process is gone, as the base is the moment of
// creation: for one from the future to be misread, the clock must have been set back between the two.
//
// Every batch is kept packed, as on disk, where it takes a tenth of its weight; the newest, which most readers
// read, as they are besides. One goroutine appends; everything else may be called from any goroutine.
type Memory struct {
	now  func() time.Time
	bell *bell

	appending sync.Mutex // held while a batch is numbered, packed and published; taken before mu
	rows      rowEncoder

	mu     sync.RWMutex // guards what follows
	packed shelf        // all batches above base
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
	base := firstNumber(o.Now())
	return &Memory{now: o.Now, bell: newBell(), ring: newRing(o.Bytes), base: base, seen: base.End(), whole: true, head: base,
		last: make(map[notify.FileID]notify.BatchNumber)}
}

// Append numbers the notifications of one root, keeps them and wakes the readers. The slice is the journal's from
// then on. Notes that make no batch (none, too many, without spine) are Invalid; after Close it is Closed.
func (m *Memory) Append(_ context.Context, root notify.FileID, notes []notify.Notification) (notify.BatchNumber, error) {
	if err := checkNotes("journal.Append", root, notes); err != nil {
		return 0, err
	}
	m.appending.Lock()
	defer m.appending.Unlock()
	m.mu.RLock()
	isClosed, head, rootPrev := m.closed, m.head, m.last[root]
	if rootPrev <= m.base {
		rootPrev = 0
	}
	m.mu.RUnlock()
	if isClosed {
		return 0, closed("journal.Append")
	}
	number := nextNumber(m.now(), head)
	r := m.rows.encode(number, head, rootPrev, root, notes)
	r.body = slices.Clone(r.body)
	b := &notify.Batch{Root: root, Notes: notes}
	b.Assign(number, head, rootPrev)

	m.mu.Lock()
	m.packed.push(packedBatch{r, b.Last()})
	m.ring.push(b)
	m.head, m.last[root] = number, number
	for m.ring.excess(number) {
		m.ring.drop()
	}
	for m.packed.weight+m.ring.weight > m.ring.limit && len(m.packed.batches) > 1 {
		p := m.packed.drop()
		m.base, m.seen, m.whole = p.number, p.last, false
		if m.ring.batches[0].Number == p.number {
			m.ring.drop()
		}
	}
	m.mu.Unlock()
	m.bell.ring()
	return number, nil
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

// Ring gives the batches numbered from or higher, oldest first. It is false if some of them have to be unpacked.
func (m *Memory) Ring(from notify.BatchNumber) ([]*notify.Batch, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.ring.reaches(from, m.base, m.head)
}

// Page gives at most limit batches numbered from or higher, oldest first; fewer if they weigh more than 512 KiB together, but
// at least one if there is one.
func (m *Memory) Page(ctx context.Context, from notify.BatchNumber, limit int) ([]*notify.Batch, error) {
	m.mu.RLock()
	if err := m.refuse(ctx, "journal.Page"); err != nil {
		m.mu.RUnlock()
		return nil, err
	}
	held := m.ring.from(from)
	rows, all := m.packed.between(from, m.ring.begins(m.base, m.head), limit)
	m.mu.RUnlock()
	room := pageWeight
	out, full := unpackRows(nil, rows, &room)
	if full || !all {
		return out, nil
	}
	return fillPage(out, held, limit, room), nil
}

// PageBack gives at most limit batches of a root (0: of any) numbered before or lower, newest first; fewer if they weigh more
// than 8 MiB together, but at least one if there is one.
func (m *Memory) PageBack(ctx context.Context, root notify.FileID, before notify.BatchNumber, limit int) ([]*notify.Batch, error) {
	m.mu.RLock()
	if err := m.refuse(ctx, "journal.PageBack"); err != nil {
		m.mu.RUnlock()
		return nil, err
	}
	out := m.ring.back(root, before, limit)
	rows := m.packed.back(root, min(before, m.ring.begins(m.base, m.head)), limit-len(out))
	m.mu.RUnlock()
	room := backWeight
	out, _ = unpackRows(out, rows, &room)
	return out, nil
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
	return pos, m.packed.has(pos.Batch()), nil
}

// SeekTime gives the number of the last batch written in a millisecond before that of t; the base if there is none.
func (m *Memory) SeekTime(ctx context.Context, t time.Time) (notify.BatchNumber, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.refuse(ctx, "journal.SeekTime"); err != nil {
		return 0, err
	}
	if n, ok := m.packed.before(notify.NumberAt(t)); ok {
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

// shelf holds packed batches, oldest first.
type shelf struct {
	batches []packedBatch
	weight  int
}

// packedBatch is a batch as it is stored. Its body is never altered.
type packedBatch struct {
	row
	last notify.Seq
}

// packedSize is what a packed batch takes besides its body, in bytes.
const packedSize = 72

func (s *shelf) push(p packedBatch) {
	s.batches = append(s.batches, p)
	s.weight += packedSize + len(p.body)
}

// drop removes the oldest batch and gives it. Nobody has a part of the array: who reads has a copy.
func (s *shelf) drop() packedBatch {
	p := s.batches[0]
	s.batches[0] = packedBatch{}
	s.batches = s.batches[1:]
	s.weight -= packedSize + len(p.body)
	return p
}

// at gives the place of the first batch numbered n or higher.
func (s *shelf) at(n notify.BatchNumber) int {
	return sort.Search(len(s.batches), func(i int) bool { return s.batches[i].number >= n })
}

func (s *shelf) has(n notify.BatchNumber) bool {
	i := s.at(n)
	return i < len(s.batches) && s.batches[i].number == n
}

// before gives the number of the last batch numbered below n.
func (s *shelf) before(n notify.BatchNumber) (notify.BatchNumber, bool) {
	i := s.at(n)
	if i == 0 {
		return 0, false
	}
	return s.batches[i-1].number, true
}

// between gives at most limit batches numbered from to upto, oldest first, and fewer if that is more than a page will have in any case. all
// says that it gives all.
func (s *shelf) between(from, upto notify.BatchNumber, limit int) (rows []row, all bool) {
	size := 0
	for i := s.at(from); i < len(s.batches) && s.batches[i].number <= upto; i++ {
		if len(rows) >= limit || size > pageWeight {
			return rows, false
		}
		rows = append(rows, s.batches[i].row)
		size += packedSize + len(s.batches[i].body)
	}
	return rows, true
}

// back gives at most limit batches of root (0: of any) numbered n or lower, newest first, and fewer if that is more than a page will have.
func (s *shelf) back(root notify.FileID, n notify.BatchNumber, limit int) (rows []row) {
	size := 0
	for i := s.at(n+1) - 1; i >= 0 && len(rows) < limit && size <= backWeight; i-- {
		if p := &s.batches[i]; root == 0 || p.root == root {
			rows = append(rows, p.row)
			size += packedSize + len(p.body)
		}
	}
	return rows
}

// unpackRows appends the batches of rows, until they weigh more than room.
func unpackRows(out []*notify.Batch, rows []row, room *int) (_ []*notify.Batch, full bool) {
	for i := range rows {
		b, _ := rows[i].batch() // damaged only if memory is
		out = append(out, b)
		if *room -= batchWeight(b); *room < 0 {
			return out, true
		}
	}
	return out, false
}
