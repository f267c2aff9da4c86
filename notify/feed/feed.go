// Package feed lets any number of readers follow a [Log], each from its own
// cursor and with its own view.
//
// A [View] says what a reader sees: the directory that it watches, named by its file ID,
// whether all below it counts, which types, and, with a [Scope], which of the places below it. Matching is by ID in the spine of a
// notification, never by path, so a view holds through renames, in the past as well as now. What a view
// sees of a batch is a pure function of the two ([View.Match]): readers with equal views can share it.
//
// A [Sub] is a view and a cursor, nothing else: no queue, no goroutine, no registration with the log. Its
// reader pulls: [Sub.Step] looks only at memory and never waits; [Sub.Next] waits, and reads pages of the
// log where memory no longer reaches back. A slow reader therefore costs nothing, and a writer never waits for one.
//
// Promised: every notification that a view sees is given once, in the order of the log; a hole in the log, a
// damaged batch or a cursor that the log no longer holds is told as Gone and never
// passed over. Each batch is checked to name the last one examined as its predecessor. Not promised: that the log keeps what a
// slow reader has not read yet.
//
// Who serves many readers from one goroutine needs no Sub for each: a cursor is enough. [Feed.Memory] and [Feed.Page] give what
// lies behind it, [Feed.Follows] says whether it does so without a hole, Match what a view sees of it, and an [Index] which of
// many views a batch concerns at all.
//
// A [Feed] may be used from any goroutine, a Sub and an Index by one at a time. The package starts no goroutine.
package feed

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"fs_notify/notify"
)

// DefaultPagers is how many readers may read pages at once if Options does not say.
const DefaultPagers = 4

// Options of a Feed; the zero value serves.
type Options struct {
	Pagers int    // readers that may read pages of the log at once; 0: DefaultPagers
	Places Places // what the prefixes of a Scope are looked up in; nil: they let nothing through
}

// Feed gives out subscriptions to one log.
type Feed struct {
	log    Log
	places Places
	scopes scopes
	slots  chan struct{} // one element per reader that reads a page; waiting senders are served in order
	subs   atomic.Int64
	behind atomic.Int64
}

// New makes a Feed of a log.
func New(log Log, o Options) *Feed {
	if o.Pagers <= 0 {
		o.Pagers = DefaultPagers
	}
	return &Feed{log: log, places: o.Places, slots: make(chan struct{}, o.Pagers)}
}

// Log is the log that is read.
func (f *Feed) Log() Log { return f.log }

// Pagers is how many readers may read pages at once.
func (f *Feed) Pagers() int { return cap(f.slots) }

// Stats counts the open subscriptions: those that read from memory or wait, and those that are
// behind memory and read pages.
func (f *Feed) Stats() (live, behind int) {
	b := f.behind.Load()
	return int(f.subs.Load() - b), int(b)
}

// Count adds to what Stats counts: for readers that have a cursor and no Sub.
func (f *Feed) Count(subs, behind int) {
	f.subs.Add(int64(subs))
	f.behind.Add(int64(behind))
}

// Subscribe makes a subscription that has seen everything up to after. It is Gone, with the bounds
// of the log, if the log cannot be read from there without a hole. Close the Sub in the end.
func (f *Feed) Subscribe(ctx context.Context, v View, after notify.Seq) (*Sub, error) {
	at, err := f.check(ctx, after)
	if err != nil {
		return nil, err
	}
	f.subs.Add(1)
	return &Sub{feed: f, view: v, pos: at}, nil
}

// SubscribeOldest makes a subscription that begins with the oldest of what is kept, however fast that is dropped meanwhile.
func (f *Feed) SubscribeOldest(ctx context.Context, v View) (*Sub, error) {
	for {
		oldest := f.log.Bounds().Oldest()
		s, err := f.Subscribe(ctx, v, oldest)
		if !errors.Is(err, notify.Gone) || f.log.Bounds().Oldest() == oldest {
			return s, err
		}
	}
}

// check says whether the log can be read on from a cursor, and where.
func (f *Feed) check(ctx context.Context, after notify.Seq) (notify.Seq, error) {
	after, ok, err := f.log.Contains(ctx, after)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, f.gone("feed.Subscribe", "this position is not, or no longer, in the journal")
	}
	from := next(after)
	batches, ok := f.log.Ring(from)
	if !ok {
		if batches, err = f.page(ctx, nil, from, 1); err != nil {
			return 0, err
		}
	}
	if len(batches) > 0 {
		return after, f.Follows(after, batches[0])
	}
	return after, f.nothing(after)
}

// Follows says whether b is what a reader at pos has to examine next. If it is damaged, or something is missing
// before it, that is Gone.
func (f *Feed) Follows(pos notify.Seq, b *notify.Batch) error {
	switch {
	case b.Root == 0:
		return f.gone("feed.Follows", "the journal is damaged behind this position")
	case b.Number != pos.Batch() && (b.Prev != pos.Batch() || next(pos) == pos.Batch()):
		return f.gone("feed.Follows", "what follows this position is no longer in the journal")
	}
	return nil
}

// nothing is for a reader at pos for whom the log has nothing: was there something that it no longer keeps? That is Gone.
func (f *Feed) nothing(pos notify.Seq) error {
	if next(pos) <= f.log.Bounds().Base { // which never passes anything but what is dropped
		return f.gone("feed.nothing", "what follows this position is no longer in the journal")
	}
	return nil
}

func (f *Feed) gone(op, msg string) error {
	return &notify.Error{Op: op, Kind: notify.Gone, Msg: msg, Bounds: f.log.Bounds()}
}

// Memory gives what memory holds for a reader at pos, oldest first; nothing at the head. It neither waits nor does
// I/O. ErrBehind: memory does not reach back to pos. Gone: nothing is left of what followed pos.
func (f *Feed) Memory(pos notify.Seq) ([]*notify.Batch, error) {
	batches, ok := f.log.Ring(next(pos))
	switch {
	case !ok:
		return nil, ErrBehind
	case len(batches) == 0:
		return nil, f.nothing(pos)
	}
	return batches, nil
}

// Page reads what follows pos from the log, waiting for one of the slots and perhaps for the disk. limit is how many
// batches it asks for, 0 at first; it is then set to what the next page should have so as to weigh about 512 KiB. Gone: nothing is
// left of what followed pos.
func (f *Feed) Page(ctx context.Context, pos notify.Seq, limit *int) ([]*notify.Batch, error) {
	return f.pageBefore(ctx, nil, pos, limit)
}

// pageBefore is Page for who does not wait for a slot for longer than until late: that is errLate.
func (f *Feed) pageBefore(ctx context.Context, late <-chan time.Time, pos notify.Seq, limit *int) ([]*notify.Batch, error) {
	if *limit <= 0 {
		*limit = firstPage
	}
	batches, err := f.page(ctx, late, next(pos), *limit)
	switch {
	case err != nil:
		return nil, err
	case len(batches) == 0:
		return nil, f.nothing(pos)
	}
	weight := 0
	for _, b := range batches {
		for i := range b.Notes {
			weight += b.Notes[i].Weight()
		}
	}
	// Batches differ in weight by 1 : 10,000. A run of light ones must not make the next page grow without measure.
	*limit = min(max(len(batches)*pageBytes/(weight+1), 1), 4**limit, lastPage)
	return batches, nil
}

// page reads from the log while holding one of the slots.
func (f *Feed) page(ctx context.Context, late <-chan time.Time, from notify.BatchNumber, limit int) ([]*notify.Batch, error) {
	if err := f.takeSlot(ctx, late); err != nil {
		return nil, err
	}
	defer f.giveSlot()
	return f.log.Page(ctx, from, limit)
}

var errLate = errors.New("feed: no slot became free in time")

// takeSlot waits for a slot, but not for longer than until late.
func (f *Feed) takeSlot(ctx context.Context, late <-chan time.Time) error {
	select {
	case f.slots <- struct{}{}:
		return nil
	case <-late:
		return errLate
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (f *Feed) giveSlot() { <-f.slots }

// PageBack reads, newest first, at most limit batches of one root (0: of any) numbered before or lower, waiting for one of the
// slots and perhaps for the disk.
func (f *Feed) PageBack(ctx context.Context, root notify.FileID, before notify.BatchNumber, limit int) ([]*notify.Batch, error) {
	if err := f.takeSlot(ctx, nil); err != nil {
		return nil, err
	}
	defer f.giveSlot()
	return f.log.PageBack(ctx, root, before, limit)
}

// Closed is for a reader at pos whom the log woke, and woke again, although there is nothing new. A log that was closed
// does so, and says so when it is read: that is the error. It may wait for the disk, if the log is not closed.
func (f *Feed) Closed(ctx context.Context, pos notify.Seq) error {
	_, err := f.log.Page(ctx, next(pos), 1)
	return err
}

// Waiting gives the time of the oldest batch that a reader at pos has still to examine; zero: there is none. Where memory does not
// reach back to pos it is the time of pos, which is earlier. It neither waits nor does I/O.
func (f *Feed) Waiting(pos notify.Seq) time.Time {
	if pos >= f.Head() {
		return time.Time{}
	}
	if batches, ok := f.log.Ring(next(pos)); ok && len(batches) > 0 {
		return batches[0].Number.Time()
	}
	return pos.Batch().Time()
}

// Head is the cursor of a reader that wants only what is to come.
func (f *Feed) Head() notify.Seq { return f.log.Bounds().Newest() }

// Start turns the beginning that a client asked for into a cursor; [SinceSnapshot] is the caller's
// to make, here it is the head. Times whose batches are no longer all kept are Gone.
func (f *Feed) Start(ctx context.Context, s Since) (notify.Seq, error) {
	switch s.Kind {
	case SinceCursor:
		return s.Cursor.Seq, nil
	case SinceOldest:
		return f.log.Bounds().Oldest(), nil
	case SinceTime:
		n, err := f.log.SeekTime(ctx, s.Time)
		if err != nil {
			return 0, err
		}
		// Unless the journal has all there ever was, the base is a batch that is not kept. If that was written after the time, so may others have been.
		if b := f.log.Bounds(); !b.Whole && n <= b.Base && !n.Time().Before(s.Time) {
			return 0, f.gone("feed.Start", "the journal begins at "+b.Base.Time().Format(time.RFC3339)+
				", later than the time that was asked for: since=oldest reads all there is")
		}
		return n.End(), nil
	}
	return f.Head(), nil
}

// next is the first batch that a reader at pos has not seen all of.
func next(pos notify.Seq) notify.BatchNumber {
	n := pos.Batch()
	if pos == n.End() {
		n++
	}
	return n
}
