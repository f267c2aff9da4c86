// Package feedtest has a feed.Log for tests: small, in memory, and obedient. Tests say what memory
// holds, what is forgotten, what is damaged and how long a page takes to read.
package feedtest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"fs_notify/notify"
)

// Log is a feed.Log. Make it with New. All methods may be called from any goroutine.
type Log struct {
	mu      sync.Mutex
	batches []*notify.Batch
	base    notify.BatchNumber
	seen    notify.Seq // whoever has seen so much of the base has seen all of it
	whole   bool
	ring    int // batches that Ring holds; < 0: all
	closed  bool
	grew    chan struct{}
	onPage  func()
	pages   int
	skip    notify.BatchNumber                   // the next batch has this number, if that is above the last one
	last    map[notify.FileID]notify.BatchNumber // of each root
}

// New makes an empty log whose base is a given batch; memory holds all of it.
func New(base notify.BatchNumber) *Log {
	return &Log{base: base, seen: base.End(), whole: true, ring: -1, grew: make(chan struct{}), last: map[notify.FileID]notify.BatchNumber{}}
}

// gap is how far apart the numbers of batches are. They are times: in a journal, hardly any is one after the last one.
const gap = 3

// number is that of the next batch. l.mu is held.
func (l *Log) number() notify.BatchNumber {
	head := l.bounds().Head
	if l.skip > head {
		return l.skip
	}
	return head + gap
}

// SkipTo makes the next batch have this number, if that is above the last one.
func (l *Log) SkipTo(n notify.BatchNumber) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.skip = n
}

// Append adds a batch and gives it back. It panics if there are too many notifications for one.
func (l *Log) Append(root notify.FileID, notes ...notify.Notification) *notify.Batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := &notify.Batch{Root: root, Notes: notes}
	indexes := 0
	for i := range notes {
		indexes += notes[i].Width()
	}
	if indexes > notify.BatchIndexes {
		panic(fmt.Sprintf("a batch of %d indexes", indexes))
	}
	b.Assign(l.number(), l.bounds().Head, l.last[root])
	l.last[root] = b.Number
	l.batches = append(l.batches, b)
	l.wake()
	return b
}

// AppendDamaged adds a batch that cannot be read.
func (l *Log) AppendDamaged() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.batches = append(l.batches, &notify.Batch{Number: l.number(), Prev: l.bounds().Head})
	l.wake()
}

// AppendForgotten adds a batch and forgets it and all before it, before anyone can read it.
func (l *Log) AppendForgotten() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.base = l.number()
	l.batches = nil
	l.wake()
}

// KeepInMemory makes Ring hold the newest n batches only.
func (l *Log) KeepInMemory(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ring = n
}

// Forget drops the oldest n batches, as retention does.
func (l *Log) Forget(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.base, l.seen, l.whole = l.batches[n-1].Number, l.batches[n-1].Last(), false
	l.batches = slices.Clone(l.batches[n:])
}

// Renew makes all cursors gone, as a new life of the journal does: base and head become a number that no batch has.
func (l *Log) Renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.base, l.whole = l.number(), false
	l.seen, l.batches = l.base.End(), nil
	l.wake()
}

// Damage makes batch n unreadable. It panics if there is none.
func (l *Log) Damage(n notify.BatchNumber) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.batches, func(b *notify.Batch) bool { return b.Number == n })
	l.batches[i] = &notify.Batch{Number: n, Prev: l.batches[i].Prev}
}

// OnPage has f called, without a lock, inside each Page.
func (l *Log) OnPage(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onPage = f
}

// Pages is how often Page was called.
func (l *Log) Pages() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pages
}

// Close wakes all readers for good; from then on reading gives Closed.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	close(l.grew)
}

func (l *Log) wake() {
	close(l.grew)
	l.grew = make(chan struct{})
}

func (l *Log) bounds() notify.Bounds {
	b := notify.Bounds{Base: l.base, Head: l.base, Whole: l.whole}
	if n := len(l.batches); n > 0 {
		b.Head = l.batches[n-1].Number
	}
	return b
}

// Bounds is part of feed.Log.
func (l *Log) Bounds() notify.Bounds {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bounds()
}

// Ring is part of feed.Log.
func (l *Log) Ring(from notify.BatchNumber) ([]*notify.Batch, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := l.batches
	if l.ring >= 0 && len(held) > l.ring {
		held = held[len(held)-l.ring:]
	}
	if len(held) < len(l.batches) && (len(held) == 0 || from < held[0].Number) {
		return nil, false
	}
	i, _ := slices.BinarySearchFunc(held, from, func(b *notify.Batch, n notify.BatchNumber) int { return int(b.Number) - int(n) })
	return slices.Clip(held[i:]), true
}

// Page is part of feed.Log.
func (l *Log) Page(ctx context.Context, from notify.BatchNumber, limit int) ([]*notify.Batch, error) {
	l.mu.Lock()
	l.pages++
	hook := l.onPage
	l.mu.Unlock()
	if hook != nil {
		hook()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, &notify.Error{Op: "feedtest.Page", Kind: notify.Closed}
	}
	var out []*notify.Batch
	for _, b := range l.batches {
		if b.Number >= from && len(out) < limit {
			out = append(out, b)
		}
	}
	return out, ctx.Err()
}

// PageBack is part of feed.Log.
func (l *Log) PageBack(ctx context.Context, root notify.FileID, before notify.BatchNumber, limit int) ([]*notify.Batch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*notify.Batch
	for _, b := range slices.Backward(l.batches) {
		if b.Number <= before && len(out) < limit && (root == 0 || b.Root == root) {
			out = append(out, b)
		}
	}
	return out, ctx.Err()
}

// Contains is part of feed.Log.
func (l *Log) Contains(ctx context.Context, pos notify.Seq) (at notify.Seq, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if pos.Batch() == l.base {
		return l.base.End(), pos >= l.seen, ctx.Err()
	}
	return pos, slices.ContainsFunc(l.batches, func(b *notify.Batch) bool { return b.Number == pos.Batch() }), ctx.Err()
}

// SeekTime is part of feed.Log.
func (l *Log) SeekTime(ctx context.Context, t time.Time) (notify.BatchNumber, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.base
	for _, b := range l.batches {
		if b.Number.Time().Before(t) {
			n = b.Number
		}
	}
	return n, ctx.Err()
}

// Grew is part of feed.Log.
func (l *Log) Grew() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.grew
}
