package watch

import (
	"context"
	"slices"
	"sync"
	"time"

	"fs_notify/notify"
)

// Sink is where batches go. *journal.Journal and *journal.Memory have it.
type Sink interface {
	// Append numbers the notifications of one root, makes them durable as far as the journal can, and wakes the
	// readers. The slice is the sink's from then on. One goroutine calls it.
	Append(ctx context.Context, root notify.FileID, notes []notify.Notification) (notify.BatchNumber, error)
}

// maxBacklog bounds what waits to be appended, by Notification.Weight: beyond it names only become dirty.
const maxBacklog = 64 << 20

// outbox joins the tree to the writer. While an append is in flight the last batch grows;
// a lone change leaves at once. A batch's number is its millisecond, so at most one leaves in each: what comes sooner waits
// for the next and grows, lest the numbers run ahead of the clock.
type outbox struct {
	mu      sync.Mutex
	queue   []*outBatch
	flying  *outBatch          // being appended
	weight  int                // of all that is not appended
	last    *outBatch          // the newest one appended
	began   notify.BatchNumber // where the journal stood when it was asked last: perhaps ahead of that
	changed chan struct{}      // closed and replaced when something moves
}

type outBatch struct {
	root   notify.FileID
	notes  []notify.Notification
	load   notify.Load
	sealed bool
	done   chan struct{} // closed when it was appended
	number notify.BatchNumber
}

func newOutbox(head notify.BatchNumber) *outbox {
	none := &outBatch{done: make(chan struct{}), number: head}
	close(none.done)
	return &outbox{last: none, changed: make(chan struct{})}
}

func (o *outbox) signal() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// noteGroup is notifications that stay together.
type noteGroup struct {
	end  int // behind the last one
	load notify.Load
}

// add puts notifications of one root into the queue. groups are those in notes: a
// group stays in one batch, and a Link in it is the place in the group plus one. notes are the outbox's from then on.
func (o *outbox) add(root notify.FileID, notes []notify.Notification, groups []noteGroup) {
	if len(groups) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var b *outBatch
	if n := len(o.queue); n > 0 && !o.queue[n-1].sealed && o.queue[n-1].root == root {
		b = o.queue[n-1]
		all := b.load
		for _, g := range groups {
			all = all.And(g.load)
		}
		if b.load.Indexes > notify.BatchIndexes/2 && !all.Within(notify.MaxBatch) { // then notes need not be copied
			b = nil
		}
	}
	from, begin := 0, 0 // of what goes into b, and of the group
	put := func(end int) {
		switch {
		case end == from:
		case len(b.notes) > 0:
			b.notes = append(b.notes, notes[from:end]...)
		case from == 0 && end == len(notes): // as a rule
			b.notes = trim(notes)
		default:
			b.notes = slices.Clone(notes[from:end])
		}
		from = end
	}
	for _, g := range groups {
		if b == nil || !b.load.And(g.load).Within(notify.MaxBatch) {
			if b != nil {
				put(begin)
			}
			b = &outBatch{root: root, done: make(chan struct{})}
			o.queue = append(o.queue, b)
		}
		base := notify.Seq(len(b.notes) + begin - from)
		for i := begin; i < g.end; i++ {
			if notes[i].Link != 0 {
				notes[i].Link += base
			}
		}
		b.load = b.load.And(g.load)
		o.weight += g.load.Weight
		begin = g.end
	}
	put(begin)
	o.signal()
}

// addOne is add for one that is alone.
func (o *outbox) addOne(root notify.FileID, n notify.Notification) {
	notes := []notify.Notification{n}
	o.add(root, notes, []noteGroup{{1, notify.LoadOf(notes)}})
}

// leave gives the notifications of a batch that is queued no more.
func (b *outBatch) leave() []notify.Notification {
	notes := trim(b.notes)
	b.notes = nil
	return notes
}

// trim gives notifications that may stay in memory for long, and so have hardly any room to spare.
func trim(notes []notify.Notification) []notify.Notification {
	if len(notes) < cap(notes)*3/4 {
		return slices.Clone(notes)
	}
	return notes
}

// begin notes that the journal stands at this number, if nothing newer was appended.
func (o *outbox) begin(number notify.BatchNumber) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.began = number; o.flying == nil {
		o.landed(o.last)
	}
}

// landed notes the newest batch that was appended. The caller holds mu.
func (o *outbox) landed(b *outBatch) {
	if o.last, o.flying = b, nil; o.began > b.number {
		o.last = &outBatch{done: b.done, number: o.began}
	}
}

// full says whether the tree has to wait, and the channel that tells of a change.
func (o *outbox) full() (bool, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.weight > maxBacklog, o.changed
}

// backlog is the weight of what is not appended.
func (o *outbox) backlog() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.weight
}

// seal ends the growth of the newest batch and returns it: what is added from now on comes behind it.
func (o *outbox) seal() *outBatch {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n := len(o.queue); n > 0 {
		o.queue[n-1].sealed = true
		return o.queue[n-1]
	}
	if o.flying != nil {
		return o.flying
	}
	return o.last
}

// await blocks until the batch is appended and gives its number.
func (b *outBatch) await(ctx context.Context) (notify.BatchNumber, error) {
	select {
	case <-b.done:
		return b.number, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// pace waits for the millisecond behind the one of the newest batch; for one at most, as the clock may have gone back. Who is to
// stop does not wait.
func pace(ctx context.Context, newest notify.BatchNumber, now time.Time) {
	if newest < notify.NumberAt(now) || ctx.Err() != nil {
		return
	}
	time.Sleep(min((newest + 1).Time().Sub(now), time.Millisecond))
}

// run appends until ctx has ended and nothing is queued any more.
func (o *outbox) run(ctx context.Context, sink Sink) error {
	for {
		o.mu.Lock()
		if len(o.queue) == 0 {
			changed := o.changed
			o.mu.Unlock()
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		ahead := o.last.number
		o.mu.Unlock()
		pace(ctx, ahead, time.Now())
		o.mu.Lock()
		b := o.queue[0]
		o.queue[0] = nil
		o.queue, o.flying = o.queue[1:], b
		o.mu.Unlock()
		number, err := sink.Append(context.WithoutCancel(ctx), b.root, b.leave())
		if err != nil {
			return err
		}
		b.number = number
		close(b.done)
		o.mu.Lock()
		o.weight -= b.load.Weight
		o.landed(b)
		o.signal()
		o.mu.Unlock()
	}
}
