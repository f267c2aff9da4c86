package onedata

import (
	"context"
	"errors"
	"math"
	"net/http"
	"os"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/feed"
)

const maxLines = 256 << 10 // bytes that are collected before they are sent

// stream is one client on its way through the journal.
type stream struct {
	*API
	query
	space  space
	w      http.ResponseWriter
	rc     *http.ResponseController
	client string // its address, for the log

	sub     *feed.Sub
	first   *notify.Batch // comes before all that sub gives
	from    notify.Seq    // lines below were not asked for
	writing writing
	out     encoder
	wrote   time.Time  // when something last went out
	told    time.Time  // when a document last triggered, or the stream began
	until   notify.Seq // the head when the client's time was up; 0: it is not
	sent    int        // lines, for the log
}

// Why a stream ended, for observers and the log.
const (
	reasonClient  = "client"  // the client left
	reasonDrain   = "drain"   // the server stops
	reasonRemoved = "removed" // the directory of the space is away
	reasonTimeout = "timeout" // nothing came for as long as the client asked
	reasonStalled = "stalled" // the client took nothing for too long
	reasonRevoked = "revoked" // the token or the session that let it in has ended
	reasonError   = "error"
)

var errTimeout = errors.New("no change for as long as the client asked to wait")

// serve runs the stream. Its error becomes the answer, if none has begun.
func (s *stream) serve(ctx context.Context) error {
	if err := s.position(ctx); errors.Is(err, notify.Gone) {
		return unavailable("the journal is just being cut")
	} else if err != nil {
		return err
	}
	defer func() { s.sub.Close() }()
	h := s.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
	s.w.WriteHeader(http.StatusOK)
	s.Observer.StreamOpened(Protocol)
	err := s.send(nil) // the head goes out at once
	s.told = time.Now()
	if s.timeout == 0 {
		s.until = s.Feed.Head()
	}
	for err == nil {
		if s.first != nil {
			err = s.begin(ctx)
			continue
		}
		var part feed.Part
		part, err = s.sub.Next(ctx, s.patience())
		switch {
		case err == nil:
			err = s.deliver(ctx, part)
		case errors.Is(err, feed.ErrIdle):
			err = s.idle()
		case errors.Is(err, notify.Gone):
			err = s.skip(ctx)
		}
	}
	reason := ending(err)
	if cause := context.Cause(ctx); cause != nil && reason == reasonError {
		reason = ending(cause) // what breaks while the stream is being ended is not why it ends
	}
	s.Observer.StreamClosed(Protocol, reason)
	s.Log.Info("stream ended", "protocol", Protocol, "reason", reason, "space", s.space.full(""), "client", s.client,
		"lines", s.sent, "cursor", s.sub.Cursor().Seq.String(), "err", err)
	return nil // the head went out long ago
}

func ending(err error) string {
	var we *writeError
	switch {
	case errors.Is(err, notify.Unauthorized):
		return reasonRevoked
	case errors.As(err, &we) && errors.Is(err, os.ErrDeadlineExceeded):
		return reasonStalled
	case errors.As(err, &we), errors.Is(err, context.Canceled):
		return reasonClient
	case errors.Is(err, feed.ErrEnded):
		return reasonRemoved
	case errors.Is(err, errTimeout):
		return reasonTimeout
	case errors.Is(err, notify.Closed):
		return reasonDrain
	}
	return reasonError
}

// position makes the subscription that begins where the client asked. It begins with a whole batch, so that what is made of
// the batch does not depend on where in it the client was.
func (s *stream) position(ctx context.Context) error {
	if s.now {
		return s.subscribe(ctx, s.Feed.Head())
	}
	log := s.Feed.Log()
	if s.last == 0 {
		return s.oldest(ctx)
	}
	batch := s.last.Batch()
	at, known, err := log.Contains(ctx, s.last)
	if err != nil {
		return err
	}
	if known && at == s.last {
		s.from = s.last
		return s.before(ctx, batch)
	}
	seen := s.last - 1 // it may be the last line that there is
	if at, known, err = log.Contains(ctx, seen); err != nil {
		return err
	} else if known {
		return s.retry(ctx, s.subscribe(ctx, at))
	}
	s.lost(s.last)
	if seen >= s.Feed.Head() {
		return s.subscribe(ctx, s.Feed.Head())
	}
	return s.oldest(ctx)
}

// before subscribes from the beginning of a batch that the log contains.
func (s *stream) before(ctx context.Context, n notify.BatchNumber) error {
	if n == s.Feed.Log().Bounds().Base {
		return s.retry(ctx, s.subscribe(ctx, s.last-1))
	}
	b, err := s.batch(ctx, n)
	switch {
	case err != nil:
		return err
	case b == nil || b.Number != n:
		return s.oldest(ctx) // it was dropped meanwhile
	case b.Root == 0:
		return s.behind(ctx, n.End()) // it is damaged
	}
	return s.at(ctx, b)
}

// batch reads the first batch numbered n or higher. nil: there is none.
func (s *stream) batch(ctx context.Context, n notify.BatchNumber) (*notify.Batch, error) {
	batches, ok := s.Feed.Log().Ring(n)
	if !ok {
		var err error
		limit := 1
		batches, err = s.Feed.Page(ctx, (n - 1).End(), &limit)
		if err != nil && !errors.Is(err, notify.Gone) {
			return nil, err
		}
	}
	if len(batches) == 0 {
		return nil, nil
	}
	return batches[0], nil
}

// at subscribes so that b comes first.
func (s *stream) at(ctx context.Context, b *notify.Batch) error {
	err := s.subscribe(ctx, b.Prev.End())
	if errors.Is(err, notify.Gone) { // the one before it is missing: no cursor has all of b behind it
		if err = s.subscribe(ctx, b.Number.Seq(0)); err == nil {
			s.first = b
		}
	}
	return err
}

// begin writes the first batch, and goes on behind it.
func (s *stream) begin(ctx context.Context) error {
	b := s.first
	s.first = nil
	if err := s.after(ctx, b); err != nil {
		return err
	}
	hits, end := s.sub.View().Match(nil, b, 0)
	return s.deliver(ctx, feed.Part{Hits: hits, End: end})
}

// away gives all of the batch in which the directory of the space went away, and goes on behind that batch. It ends the stream only if the directory is still away:
// nothing of it is gone, and who comes again when it is back goes on from there.
func (s *stream) away(ctx context.Context, part feed.Part) (feed.Part, error) {
	n := part.Hits[len(part.Hits)-1].Note.Seq.Batch()
	b, err := s.batch(ctx, n)
	if err != nil {
		return part, err
	}
	if b == nil || b.Number != n || b.Root == 0 {
		return part, &notify.Error{Op: "onedata", Kind: notify.Gone, Msg: "the batch was dropped meanwhile"}
	}
	view, hits := s.sub.View(), []feed.Hit(nil)
	for at, end := notify.Seq(0), true; end; {
		if hits, end = view.Match(hits, b, at); end {
			at = hits[len(hits)-1].Note.Seq
		}
	}
	if root, ok, err := s.find(ctx, s.space.root.String()); err != nil || !ok || root.Phase == notify.Away {
		return feed.Part{Hits: hits, End: true}, nil
	}
	return feed.Part{Hits: hits}, s.after(ctx, b)
}

// after goes on behind a batch.
func (s *stream) after(ctx context.Context, b *notify.Batch) error {
	old := s.sub
	defer old.Close()
	err := s.subscribe(ctx, b.Number.End())
	if errors.Is(err, notify.Gone) {
		s.lost(b.Number.End() + 1)
		err = s.behind(ctx, b.Number.End())
	}
	return err
}

func (s *stream) oldest(ctx context.Context) error {
	return s.retry(ctx, s.subscribe(ctx, s.Feed.Log().Bounds().Oldest()))
}

// retry is for a subscription that ought to be possible. Onedata has no word for a position that is gone.
func (s *stream) retry(ctx context.Context, err error) error {
	if !errors.Is(err, notify.Gone) {
		return err
	}
	return s.behind(ctx, s.Feed.Log().Bounds().Oldest())
}

// behind subscribes behind what cannot be read at a cursor: with the first batch that can.
func (s *stream) behind(ctx context.Context, at notify.Seq) error {
	limit := 0
	for {
		batches, err := s.Feed.Page(ctx, at, &limit)
		if errors.Is(err, notify.Gone) { // retention has passed
			at = s.Feed.Log().Bounds().Oldest()
			continue
		}
		if err != nil {
			return err
		}
		for _, b := range batches {
			if b.Root != 0 {
				return s.at(ctx, b)
			}
			at = b.Number.End()
		}
		if len(batches) == 0 {
			return s.subscribe(ctx, at)
		}
	}
}

// skip goes on after the log could not be read on: behind what is damaged, or from the oldest if retention has passed the stream.
func (s *stream) skip(ctx context.Context) error {
	pos := s.sub.Cursor().Seq
	s.lost(pos + 1)
	_, known, err := s.Feed.Log().Contains(ctx, pos)
	if err != nil {
		return err
	}
	old := s.sub
	if known {
		err = s.behind(ctx, pos)
	} else {
		err = s.oldest(ctx)
	}
	if s.sub != old {
		old.Close()
	}
	return err
}

// lost tells those who run the server what the client cannot be told.
func (s *stream) lost(from notify.Seq) {
	b := s.Feed.Log().Bounds()
	s.Lost()
	s.Log.Warn("position not in the journal", "protocol", Protocol, "space", s.space.full(""), "client", s.client, "last_seq", from.String(),
		"oldest", b.Oldest().String(), "head", b.Newest().String())
}

func (s *stream) subscribe(ctx context.Context, after notify.Seq) error {
	v := feed.View{Root: s.space.root, Dir: s.space.root, Recursive: true, Types: notify.AllTypes}
	sub, err := s.Feed.Subscribe(ctx, v, after)
	if err == nil {
		s.sub = sub
	}
	return err
}

// patience is how long there may be silence before idle has something to do; 0: all that there is has to be examined first.
func (s *stream) patience() time.Duration {
	now := time.Now()
	wait := time.Duration(math.MaxInt64)
	if s.timeout >= 0 {
		wait = max(s.timeout-now.Sub(s.told), 0)
	}
	if s.keepAlive > 0 {
		wait = min(wait, max(s.keepAlive-now.Sub(s.wrote), time.Millisecond))
	}
	if wait == math.MaxInt64 {
		wait = time.Hour
	}
	return wait
}

// late says whether the client's time is up. A stream that is behind gets as far as the head was at that time.
func (s *stream) late() bool {
	if s.timeout < 0 || time.Since(s.told) < s.timeout {
		return false
	}
	if s.until == 0 {
		s.until = s.Feed.Head()
	}
	return s.sub.Cursor().Seq >= s.until
}

// idle is called when nothing came.
func (s *stream) idle() error {
	if s.late() {
		return errTimeout
	}
	if s.keepAlive > 0 && time.Since(s.wrote) >= s.keepAlive {
		return s.send([]byte("\r\n"))
	}
	return nil
}

// deliver writes a part and whatever else can be had without waiting.
func (s *stream) deliver(ctx context.Context, part feed.Part) error {
	triggered := false
	var err error
	for {
		if cause := context.Cause(ctx); cause != nil {
			return cause // however much there is
		}
		if part.End {
			if part, err = s.away(ctx, part); err != nil {
				if werr := s.flush(); werr != nil {
					return werr
				}
				return err // the client comes again, and has all that came before
			}
		}
		t, werr := s.encode(part.Hits)
		triggered = triggered || t
		if werr != nil {
			return werr
		}
		if part.End || s.first != nil {
			break
		}
		if part, err = s.sub.Step(); err != nil { // an error comes again with the next Step
			break
		}
	}
	if err := s.flush(); err != nil {
		return err
	}
	if triggered {
		s.told = time.Now()
		if s.timeout > 0 {
			s.until = 0
		}
	}
	switch {
	case part.End:
		return feed.ErrEnded
	case s.late():
		return errTimeout
	}
	return nil
}

// encode makes lines of the notifications of a batch.
func (s *stream) encode(hits []feed.Hit) (triggered bool, err error) {
	if len(hits) == 0 {
		return false, nil
	}
	s.out.fresh()
	docs := s.writing.make(hits)
	if s.writing.err != nil {
		if err := s.flush(); err != nil {
			return false, err
		}
		return false, s.writing.err // the client comes again, and has all that came before
	}
	for i := range docs {
		d := &docs[i]
		if d.seq < s.from || !s.out.triggers(d) {
			continue
		}
		triggered = true
		if s.out.line(d); len(s.out.buf) >= maxLines {
			if err := s.flush(); err != nil {
				return true, err
			}
		}
	}
	return triggered, nil
}

func (s *stream) flush() error {
	if s.out.lines == 0 {
		return nil
	}
	if err := s.send(s.out.buf); err != nil {
		return err
	}
	s.sent += s.out.lines
	s.Observer.StreamSent(Protocol, s.out.lines, len(s.out.buf))
	s.out.lines = 0
	if cap(s.out.buf) > 2*maxLines {
		s.out.buf = nil // a reader that waits holds little
	}
	s.out.buf = s.out.buf[:0]
	return nil
}

// send writes and flushes.
func (s *stream) send(b []byte) error {
	if _, err := s.w.Write(b); err != nil {
		return &writeError{err}
	}
	if err := s.rc.Flush(); err != nil {
		return &writeError{err}
	}
	s.wrote = time.Now()
	return nil
}

// writeError: the client cannot be reached any more.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }
