package qumulo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/feed"
)

// writers write the streams of all clients that can be served without a goroutine for each: event streams over plain
// HTTP/1.1, on Linux. Who owns what:
//
//   - The goroutine of a request owns its stream until the watch is in force and the starting id is written. It then takes
//     the socket from net/http, makes a member of what is left, gives that to a shard and ends.
//   - A shard's goroutine owns its members, their sockets, groups, index, wheel and buffer. Nobody else touches them, so
//     there is no lock.
//   - A member that is behind what memory holds waits until one of the pagers has time (state waiting): the shard keeps it alive and sees
//     it leave. Then it is lent (state away): the pager reads one page of the journal, writes what the socket takes of it and gives the member
//     back. Meanwhile the shard keeps its hands off, except for what the poller says of it.
//   - A poller's goroutine waits for sockets and passes on what it hears. It owns nothing.
//
// What is in memory: a few hundred bytes for a member; one buffer for each shard and each pager, which holds at most maxWrite and the
// frames of one batch; one page for each pager. What a client did not take is not kept but made again.
type writers struct {
	api     *API
	began   time.Time
	shards  []*shard
	handing sync.RWMutex  // for reading while a stream is handed over, which nobody else waits for; for writing when all have ended
	pages   chan *member  // to the pagers; without room, so that a shard knows whom they have
	turn    atomic.Uint32 // which shard gets the next one
}

var (
	errHandedOver = errors.New("qumulo: the stream goes on with a writer")
	errHungUp     = errors.New("the client closed the connection")
	errStalled    = fmt.Errorf("the client takes nothing: %w", os.ErrDeadlineExceeded)
)

type connKey struct{}

// ConnContext is for http.Server: it lets writers take streams over from the connections of that server.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if tcp, ok := c.(*net.TCPConn); ok { // and not TLS, nor anything else that puts something in between
		return context.WithValue(ctx, connKey{}, tcp)
	}
	return ctx
}

// Run runs the writers until ctx ends, which should be Options.Drain: then it ends their streams and returns. Streams are
// served without it too, each by the goroutine of its request. It returns an error at once if there can be no writers.
func (a *API) Run(ctx context.Context) error {
	if a.Writers < 0 {
		<-ctx.Done()
		return nil
	}
	w := &writers{api: a, began: time.Now(), pages: make(chan *member)}
	n := a.Writers
	if n == 0 {
		n = runtime.GOMAXPROCS(0)
	}
	for range n {
		p, err := newPoller()
		if err != nil {
			for _, h := range w.shards {
				h.poll.close()
			}
			return &notify.Error{Op: "qumulo.Run", Kind: notify.Internal, Err: err}
		}
		w.shards = append(w.shards, newShard(w, p))
	}
	var shards, others sync.WaitGroup
	for _, h := range w.shards {
		shards.Go(func() { h.run(ctx) })
		others.Go(func() { h.poll.run(h.events, h.ended) })
	}
	for range a.Feed.Pagers() {
		others.Go(func() { w.page(ctx) })
	}
	a.writers.Store(w)
	shards.Wait()
	w.handing.Lock()
	a.writers.Store(nil)
	close(w.pages)
	for _, h := range w.shards {
		h.poll.close()
	}
	others.Wait()
	return nil
}

// handOver gives the stream to a writer, if that is possible now; then it is no longer this goroutine's. One with dear globs stays: a writer has others to
// see to.
func (s *stream) handOver(ctx context.Context) bool {
	w := s.writers.Load()
	if s.conn == nil || w == nil || !s.inForce || s.gone || s.sub.View().Scope.Dear() || ctx.Err() != nil || !w.handing.TryRLock() {
		return false
	}
	if _, _, err := s.rc.Hijack(); err != nil {
		w.handing.RUnlock()
		s.conn = nil // something on the way from net/http to here does not let go
		return false
	}
	s.handed = w.handing.RUnlock
	now := w.now()
	m := &member{
		group: &group{key: key{view: s.sub.View(), form: s.out.form}},
		pos:   s.sub.Cursor().Seq,
		wrote: now - time.Since(s.wrote), told: now - time.Since(s.told), timeout: s.timeout,
		opened: now - time.Since(s.opened), sent: s.sent, ref: s.ref, client: s.client, release: s.release, lease: notify.GrantOf(ctx).Lease,
	}
	m.group.form.chunks = s.chunks // net/http made them until now
	s.release = func() {}          // it is the member's now
	h := w.shards[w.turn.Add(1)%uint32(len(w.shards))]
	var err error
	if m.fd, err = takeSocket(s.conn); err != nil {
		s.bye(m, &writeError{err})
		return true
	}
	select {
	case h.arrivals <- m:
	case <-h.ended:
		s.bye(m, errDrain)
	}
	return true
}

// bye ends a member that no shard has: it tells the client why, where that makes sense, and closes its socket.
func (a *API) bye(m *member, err error) {
	reason, text := ending(err)
	var left *leftError
	if errors.As(err, &left) && m.off == 0 && m.fd >= 0 {
		out := frames{form: m.group.form}
		out.add([]feed.Hit{left.hit})
		if n, err := writeSocket(m.fd, out.buf); err == nil {
			m.pos = left.hit.Note.Seq
			m.sent++
			a.Observer.StreamSent(Protocol, 1, n)
		} else {
			m.off = max(n, 1) // nothing comes behind half of it, nor a good end behind none
		}
		out.reset()
	}
	var gone *writeError
	if m.off == 0 && m.fd >= 0 && !errors.As(err, &gone) {
		f := &m.group.form
		var b []byte
		if text != "" {
			b = f.end(a.appendFarewell(f.begin(nil), f, reason, text, m.cursor()), 0)
		}
		if f.chunks {
			b = append(b, lastChunk...)
		}
		writeSocket(m.fd, b) // if it does not arrive, the last id that did is as good
	}
	if m.fd >= 0 {
		closeSocket(m.fd, reason == reasonStalled)
	}
	m.release()
	a.ended(reason, m.ref, m.client, m.sent, m.cursor(), err)
}

func (w *writers) now() time.Duration { return time.Since(w.began) }

// page is the life of a pager. No slot of the feed is held while it writes.
func (w *writers) page(ctx context.Context) {
	pen := pen{api: w.api}
	for m := range w.pages {
		m.err = pen.page(ctx, m, w.now)
		m.shard.returns <- m
	}
}

// page brings m further by a page at most.
func (p *pen) page(ctx context.Context, m *member, now func() time.Duration) error {
	batches, err := p.api.Feed.Page(ctx, m.pos, &m.limit)
	if err != nil {
		return err
	}
	for read := len(batches); len(batches) > 0 && m.pos < m.goal; {
		if err := p.write(m, batches, m.goal, now()); err != nil {
			return err
		}
		for len(batches) > 0 && batches[0].Number.End() <= m.pos {
			batches = batches[1:]
		}
		if m.full {
			// The rest of the page is read again when the client has room: the next page should be what it takes.
			m.limit = min(m.limit, max(read-len(batches), 1))
			break
		}
	}
	return nil
}

// pen writes what single members have not seen. One goroutine uses it.
type pen struct {
	api  *API
	out  frames
	hits []feed.Hit
	most int // how many they have been since letGo
}

// letGo holds no batch for longer than need be.
func (p *pen) letGo() {
	clear(p.hits[:p.most])
	p.most = 0
}

// The bounds of how many notifications one write looks at, and of how long it looks: globs may be dear.
const (
	notesAtOnce = 1 << 16
	lookTime    = 5 * time.Millisecond
)

// write brings m on towards goal, which is the end of a batch: it writes what the socket takes at once, and looks for more until there are
// maxWrite bytes. m.full says whether the socket took less. batches are what follows m.pos. Errors: a writeError,
// feed.ErrEnded, or Gone.
func (p *pen) write(m *member, batches []*notify.Batch, goal notify.Seq, now time.Duration) error {
	out := &p.out
	out.clear()
	out.form = m.group.form
	if m.beat {
		out.buf = out.appendKeepalive(out.buf, m.pos)
		out.cuts = append(out.cuts, cut{end: len(out.buf), seq: m.pos})
	}
	pos, end, err := p.fill(m, batches, goal)
	if len(out.buf) == 0 {
		m.pos = pos
		return err
	}
	n, werr := writeSocket(m.fd, out.buf[m.off:])
	sent := m.sent
	all := m.took(out, n, now)
	if all {
		m.pos = pos
	}
	if n > 0 {
		p.api.Observer.StreamSent(Protocol, m.sent-sent, n)
	}
	switch {
	case all && end:
		return feed.ErrEnded
	case all && isLeft(err):
		return err
	case all:
		return nil // what err is, the next one will find again
	case werr == errAgain:
		return nil
	}
	return &writeError{werr}
}

// fill makes the frames that follow m.pos: the same ones each time, so m.off bytes of them may be gone already. A leftError
// comes behind the last frame and changes none, as it depends on where the directory is at the moment.
func (p *pen) fill(m *member, batches []*notify.Batch, goal notify.Seq) (pos notify.Seq, end bool, err error) {
	view := m.group.view
	pos = m.pos
	looked, begun := 0, time.Now()
	for _, b := range batches {
		if looked >= notesAtOnce || len(p.out.buf) >= maxWrite {
			break
		}
		if looked > 0 && (m.off == 0 || len(p.out.buf) > m.off) && time.Since(begun) > lookTime { // the frames end with their batch: those that go on are the same
			break
		}
		if err := p.api.Feed.Follows(pos, b); err != nil { // asked first: what comes behind goal may be all that is left
			return pos, false, err
		}
		if b.Number > goal.Batch() {
			break
		}
		p.hits, end = view.Match(p.hits[:0], b, pos)
		if p.most = max(p.most, len(p.hits)); len(p.hits) > 0 {
			if !p.out.addSome(p.hits, maxWrite) {
				end = false
				pos = p.out.cuts[len(p.out.cuts)-1].seq
				break
			}
			if end {
				pos = p.hits[len(p.hits)-1].Note.Seq
				break
			}
		}
		pos = b.Number.End()
		looked += 1 + len(b.Notes)
		if len(p.out.buf) >= m.off && view.Crossed(b, nil) { // before that it was not so: the frames went on
			if hit, left := view.Left(b, nil); left {
				err = &leftError{hit}
				break
			}
		}
	}
	p.letGo()
	return pos, end, err
}

// leftError ends a stream whose directory has left what its client may see.
type leftError struct{ hit feed.Hit }

func (*leftError) Error() string { return "the directory has left what the client may see" }

func isLeft(err error) bool {
	var left *leftError
	return errors.As(err, &left)
}
