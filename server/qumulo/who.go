package qumulo

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/feed"
)

// Stream is what an administrator may want to know of one client.
type Stream struct {
	Client string // its address
	Ref    string // as it asked
	View   feed.View
	Fields notify.Fields
	Since  time.Time
	Sent   int           // notifications
	Cursor notify.Cursor // where it stands; zero: it is being told what is there, or waits for its root
	Parked bool          // its socket takes no more
	Paging bool          // it is behind what memory holds
}

// EachStream calls f for every stream that is open now, in no order. f must not wait: clients wait for it. Its error is that of
// ctx: a writer did not answer before it ended.
func (a *API) EachStream(ctx context.Context, f func(*Stream)) error {
	a.inCharge.each(f)
	w := a.writers.Load()
	if w == nil {
		return nil
	}
	for _, h := range w.shards {
		done := make(chan struct{})
		ask := func() {
			defer close(done)
			for _, m := range h.slots {
				if m != nil {
					s := m.show()
					f(&s)
				}
			}
		}
		select {
		case h.asks <- ask:
			<-done
		case <-h.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// show is called by the shard. A member that is away belongs to a pager, which moves its position: the one where it left is
// shown.
func (m *member) show() Stream {
	s := Stream{Client: m.client, Ref: m.ref.log(), View: m.group.view, Fields: m.group.form.fields, Since: m.shard.writers.began.Add(m.opened), Paging: m.behind, Parked: m.state == parked}
	if m.state == away {
		s.Cursor, s.Sent = m.lent, m.lentSent
	} else {
		s.Cursor, s.Sent = m.cursor(), m.sent
	}
	return s
}

// streams are those that have a goroutine of their own.
type streams struct {
	mu  sync.Mutex
	all map[*stream]struct{}
}

func (o *streams) add(s *stream) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all == nil {
		o.all = make(map[*stream]struct{})
	}
	s.shown.Store(&Stream{Client: s.client, Ref: s.ref.log(), View: s.view, Fields: s.fields, Since: s.opened})
	o.all[s] = struct{}{}
}

func (o *streams) remove(s *stream) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.all, s)
}

func (o *streams) each(f func(*Stream)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for s := range o.all {
		now := *s.shown.Load()
		now.Cursor.Seq, now.Sent = notify.Seq(s.shown.seq.Load()), int(s.shown.sent.Load())
		f(&now)
	}
}

// shown is what others may read of a stream while its goroutine works.
type shown struct {
	atomic.Pointer[Stream] // what seldom changes
	seq                    atomic.Uint64
	sent                   atomic.Int64
}

// set is called by the stream's goroutine.
func (o *shown) set(s *stream) {
	if now := o.Load(); now.View != s.view || now.Paging != s.sub.Behind() {
		next := *now
		next.View, next.Cursor.Dir, next.Paging = s.view, s.view.Dir, s.sub.Behind()
		o.Store(&next)
	}
	o.seq.Store(uint64(s.sub.Cursor().Seq))
	o.sent.Store(int64(s.sent))
}
