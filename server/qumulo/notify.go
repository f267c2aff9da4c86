package qumulo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/feed"
)

// askAgain is how often a stream that waits for its root looks how far that is.
const askAgain = time.Second

// serveNotify serves one stream until the client, the server or the directory ends it.
func (a *API) serveNotify(w http.ResponseWriter, r *http.Request, c call) error {
	q, err := parseRequest(r, c, time.Now())
	if err == nil {
		err = allow(notify.GrantOf(r.Context()), q.recursive)
	}
	if err != nil {
		return err
	}
	if q.fields == notify.FieldsAll && !notify.GrantOf(r.Context()).Privileges.Has(notify.MayAdmin) {
		q.fields = notify.FieldsNoActor
	}
	s := &stream{API: a, request: q, w: w, rc: http.NewResponseController(w), client: r.RemoteAddr,
		head: r.Method == http.MethodHead, http1: r.ProtoMajor == 1, chunks: q.stream && r.ProtoMajor == 1 && r.ProtoAtLeast(1, 1)}
	defer s.inCharge.remove(s)
	release, err := a.Admit(r)
	if err != nil {
		return s.overloaded(err)
	}
	s.release = release
	defer func() { s.release() }()
	ctx, cancel := a.streamContext(r.Context())
	defer cancel()
	if s.stream && s.http1 {
		s.conn, _ = ctx.Value(connKey{}).(*net.TCPConn)
	}
	return s.serve(ctx)
}

// stream is one client on its way through the journal.
type stream struct {
	*API
	*request
	w       http.ResponseWriter
	rc      *http.ResponseController
	client  string // its address, for the log
	head    bool   // only the head of the answer is wanted
	http1   bool
	chunks  bool         // the body is in chunks, of HTTP/1.1
	conn    *net.TCPConn // what a writer could take over; nil: the stream stays with this goroutine
	release func()       // what Admit wants to be called in the end
	handed  func()       // to be called when a writer has the stream

	view    feed.View
	name    string     // of the directory, for the comment
	gone    bool       // the directory is in no tree: only the past can be told
	present bool       // the stream begins with the present, and so has to wait until the watch is in force
	inForce bool       // the root is live
	asked   time.Time  // when it was last asked for that
	looked  notify.Seq // the head before the directory was last looked up: if that has ended, it is told behind this
	sub     *feed.Sub
	snap    *notify.Snapshot // what is to be told first
	room    *holding         // of it
	out     frames

	opened time.Time
	shown  shown // to whoever asks who is connected

	begun bool      // the answer's head is out
	wrote time.Time // when something last went out
	told  time.Time // when a notification last went out, or the stream began
	sent  int       // notifications, for the log
}

// Why a stream ended, for observers and the log.
const (
	reasonClient  = "client"  // the client left
	reasonDrain   = "drain"   // the server stops
	reasonRemoved = "removed" // self_removed was told, or all that is kept of what is gone
	reasonTimeout = "timeout" // nothing came for as long as the client asked
	reasonStalled = "stalled" // the client took nothing for too long
	reasonRevoked = "revoked" // the token or the session that let it in has ended
	reasonGone    = "gone"    // the journal cannot be read on
	reasonError   = "error"
)

func (s *stream) serve(ctx context.Context) error {
	err := s.run(ctx)
	if s.sub != nil {
		s.sub.Close()
	}
	if err == errHandedOver {
		s.handed()
		return nil
	}
	if s.stream && !s.head {
		switch {
		case errors.Is(err, errFull):
			return s.overloaded(err)
		case errors.Is(err, notify.Closed):
			s.begin() // or nobody would be told to come back
		}
	}
	if !s.begun || s.head {
		return err
	}
	s.ended(s.end(ctx, err), s.ref, s.client, s.sent, s.cursor(), err)
	return nil // the head went out long ago
}

// ended tells observers and the log of the end of a stream.
func (a *API) ended(reason string, ref Ref, client string, sent int, c notify.Cursor, err error) {
	a.Observer.StreamClosed(Protocol, reason)
	a.Log.Info("stream ended", "protocol", Protocol, "reason", reason, "ref", ref.log(), "client", client,
		"notifications", sent, "cursor", c.String(), "err", err)
}

// run is the life of a stream. Until begun is set, its error becomes the answer.
func (s *stream) run(ctx context.Context) error {
	if err := s.locate(ctx); err != nil {
		return err
	}
	defer func() { s.room.release() }()
	first, err := s.position(ctx)
	if err != nil {
		return err
	}
	if err := s.begin(); err != nil || s.head {
		return err
	}
	if s.snap != nil {
		err = s.sendSnapshot(ctx, first.reset)
	} else {
		err = s.welcome(first)
	}
	if err != nil {
		return err
	}
	s.told = time.Now()
	if len(first.part.Hits) > 0 {
		if err := s.deliver(first.part); err != nil {
			return err
		}
	}
	return s.follow(ctx)
}

// locate finds the directory, and waits until its root is watched if the stream begins with the present.
func (s *stream) locate(ctx context.Context) error {
	scope, err := s.Feed.Scope(notify.GrantOf(ctx).Prefixes, s.include, s.exclude)
	if err != nil {
		return err
	}
	s.view = feed.View{Recursive: s.recursive, Types: s.types, Scope: scope}
	s.out.form = form{fields: s.fields, stream: s.stream, filled: s.filled}
	s.present = s.fresh()
	return s.find(ctx)
}

// find is locate, once it is known what the stream sees and whether it has to wait.
func (s *stream) find(ctx context.Context) error {
	ref := s.ref
	if id := s.dir(); id != 0 {
		ref = Ref{ID: id} // a resume follows the ID, whatever the path leads to now
	}
	for {
		progress, indexing := s.indexing(ref) // before the look: an index that ends in between may have what was not found
		s.looked = s.Feed.Head()
		e, err := s.lookup(ctx, ref)
		if err == nil && !e.Attr.IsDir() {
			return notDirectory(ref)
		}
		var root notify.RootState
		switch {
		case err == nil:
			root, _ = s.state(e.Root)
			progress, indexing = root.Progress, root.Phase == notify.Indexing
		case errors.Is(err, notify.NotFound) && ref.ID == 0, !errors.Is(err, notify.NotFound) && !errors.Is(err, notify.Unavailable):
			return err // an index will not change it
		}
		if indexing && (!s.stream || s.head) {
			return unavailable("the directory tree is being indexed, %d %% are done", percent(progress))
		}
		switch {
		case err == nil && root.Phase == notify.Away:
			return unavailable("%q is not there at the moment", root.Name)
		case err == nil && (!indexing || !s.present):
			if s.types.Has(notify.ChildFileClosed) && !root.Closes && !indexing {
				return invalid("child_file_closed is not possible here: the source %s cannot see it", root.Source)
			}
			s.found(&e, root)
			return nil
		case err != nil && s.dir() != 0 && (!indexing && errors.Is(err, notify.NotFound) || indexing && !s.present):
			s.view.Dir, s.out.dir, s.name = ref.ID, ref.ID, ref.ID.String()
			s.gone = !indexing
			return nil
		case !indexing:
			return err
		}
		if err := s.begin(); err != nil {
			return err
		}
		if err := s.indexed(progress); err != nil {
			return err
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// found takes what the tree says of the directory.
func (s *stream) found(e *notify.Entry, root notify.RootState) {
	s.view.Root, s.view.Dir, s.out.dir = e.Root, e.ID(), e.ID()
	s.name = s.fullPath(e)
	s.inForce = root.Phase == notify.Live
	if s.sub != nil {
		s.sub.InRoot(e.Root)
	}
}

// indexed tells how far the indexing is.
func (s *stream) indexed(progress float64) error {
	return s.comment(fmt.Sprintf("indexing %d %%", percent(progress)))
}

func percent(progress float64) int { return int(100 * min(max(progress, 0), 1)) }

// beginning is what was found out before the answer begins.
type beginning struct {
	reset string        // why the client has to forget what it knows; "": it need not
	start notify.Cursor // before part
	note  string        // for people, about where it begins
	part  feed.Part     // already taken from the feed
}

// position makes the subscription, and takes the snapshot if the stream begins with one.
func (s *stream) position(ctx context.Context) (first beginning, err error) {
	if s.since.Kind == feed.SinceSnapshot {
		return beginning{reset: "snapshot"}, s.takeSnapshot(ctx)
	}
	after, err := s.Feed.Start(ctx, s.since)
	if s.since.Kind == feed.SinceNow || s.since.Kind == feed.SinceTime { // which may be ahead of all there is
		after = min(after, s.looked)
	}
	switch {
	case err != nil:
	case s.since.Kind == feed.SinceOldest:
		s.sub, err = s.Feed.SubscribeOldest(ctx, s.view)
	default:
		s.sub, err = s.Feed.Subscribe(ctx, s.view, after)
	}
	if errors.Is(err, notify.Gone) && s.reset && !s.gone { // it begins with the present after all
		s.present = true
		if e := s.find(ctx); e != nil {
			return first, e
		}
	}
	if errors.Is(err, notify.Gone) && s.reset && !s.gone {
		if s.snapshot {
			return beginning{reset: "gone"}, s.takeSnapshot(ctx)
		}
		first.reset = "gone"
		s.sub, err = s.Feed.Subscribe(ctx, s.view, s.looked)
	}
	if err != nil {
		return first, err
	}
	if first.start = s.sub.Cursor(); s.since.Kind == feed.SinceTime && first.reset == "" {
		if b := s.Feed.Log().Bounds(); first.start.Seq == b.Oldest() && !b.Base.Time().Before(s.since.Time) {
			first.note = "the journal begins at " + b.Base.Time().Format(time.RFC3339)
		}
	}
	if !s.gone {
		return first, nil
	}
	// The directory is in no tree. If the journal does not tell its end either, a
	// client that comes back for more must hear that there is nothing.
	first.part, err = s.sub.Next(ctx, 0)
	if errors.Is(err, feed.ErrIdle) {
		return first, &notify.Error{Op: "qumulo.notify", Kind: notify.NotFound, Msg: "the directory with the ID " + s.view.Dir.String() + " is gone"}
	}
	return first, err
}

// begin sends the head of the answer.
func (s *stream) begin() error {
	if s.begun {
		return nil
	}
	s.begun = true
	h := s.w.Header()
	if s.stream {
		h.Set("Content-Type", "text/event-stream")
	} else {
		h.Set("Content-Type", "text/event-source") // Qumulo's clients compare it byte for byte
	}
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
	switch {
	case s.chunks:
		// Python's requests gives out a chunk as it comes, and holds anything else back until there are some hundred bytes of it.
		h.Set("Connection", "close")
	case s.http1:
		// The body ends with the connection. Qumulo's Python client can otherwise stop between a line
		// and the chunk that ends behind it, and sit on the line until the next one.
		h.Set("Transfer-Encoding", "identity")
	}
	s.w.WriteHeader(http.StatusOK)
	if s.head {
		return nil
	}
	s.Observer.StreamOpened(Protocol)
	s.opened = time.Now()
	s.inCharge.add(s)
	// On its own, for a client that reads the head with a buffer and then waits for its socket.
	return s.send(nil)
}

// welcome tells that the watch is in force, if it is, and where the stream begins.
func (s *stream) welcome(first beginning) error {
	if s.gone {
		if err := s.comment("replaying " + s.name + ", which is gone"); err != nil {
			return err
		}
	} else if s.inForce {
		if err := s.watching(); err != nil {
			return err
		}
	}
	if first.note != "" {
		if err := s.comment(first.note); err != nil {
			return err
		}
	}
	switch {
	case s.stream:
		b := appendRetry(nil, s.Retry)
		if first.reset != "" {
			b = appendReset(b, first.reset, s.Feed.Log().Bounds())
			b = b[:len(b)-1] // the id belongs to the same block
			return s.send(append(appendID(b, first.start), '\n'))
		}
		return s.send(s.out.appendAt(b, first.start.Seq))
	case first.reset != "":
		return s.comment("reset: changes are missing before this point")
	}
	return nil
}

func appendRetry(b []byte, wait time.Duration) []byte {
	b = append(b, "retry: "...)
	b = strconv.AppendInt(b, wait.Milliseconds(), 10)
	return append(b, '\n')
}

func (s *stream) watching() error {
	text := "watching " + s.name
	if s.recursive {
		text += " recursively"
	}
	return s.comment(text)
}

// takeSnapshot copies what is there now and subscribes from that moment.
func (s *stream) takeSnapshot(ctx context.Context) (err error) {
	if s.head {
		return nil // nobody would see it
	}
	if s.snap, s.room, err = s.copyTree(ctx, s.view.Dir, s.recursive); err != nil {
		return err
	}
	s.out.noIDs = true // until all of it was told
	s.sub, err = s.Feed.Subscribe(ctx, s.view, s.snap.Seq)
	return err
}

// sendSnapshot tells what is there as if it had just been added.
func (s *stream) sendSnapshot(ctx context.Context, reason string) error {
	snap := s.snap
	s.snap = nil // not to be held for as long as the stream lasts
	defer s.room.release()
	if err := s.watching(); err != nil {
		return err
	}
	if s.stream {
		if err := s.send(appendReset(appendRetry(nil, s.Retry), reason, s.Feed.Log().Bounds())); err != nil {
			return err
		}
	} else if err := s.comment("snapshot"); err != nil {
		return err
	}
	notes := make([]notify.Notification, 0, 256)
	hits := make([]feed.Hit, 0, cap(notes))
	at := len(snap.Entries[0].Spine) - 1
	for rest := snap.Entries[1:]; len(rest) > 0; {
		notes, hits = notes[:0], hits[:0]
		for ; len(rest) > 0 && len(notes) < cap(notes); rest = rest[1:] {
			n := notify.Notification{Seq: snap.Seq, Type: notify.ChildFileAdded, Path: rest[0].Path, Spine: rest[0].Spine, Attr: rest[0].Attr}
			if n.Attr.IsDir() {
				n.Type = notify.ChildDirAdded
			}
			if s.types.Has(n.Type) && s.view.Scope.Lets(n.PathFrom(at), n.Attr.IsDir()) {
				notes = append(notes, n)
				hits = append(hits, feed.Hit{Note: &notes[len(notes)-1], At: at})
			}
		}
		s.out.add(hits)
		if len(s.out.buf) >= maxWrite || len(rest) == 0 {
			if err := s.flushFrames(); err != nil {
				return err
			}
			if err := s.room.overdue(); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	s.out.noIDs = false
	if s.stream {
		return s.send(s.out.appendAt(nil, s.sub.Cursor().Seq))
	}
	return nil
}

// follow delivers until a writer takes over or something ends the stream; its error says what.
func (s *stream) follow(ctx context.Context) error {
	for {
		s.shown.set(s)
		if s.handOver(ctx) {
			return errHandedOver
		}
		part, err := s.sub.Next(ctx, s.patience())
		switch {
		case err == nil:
			err = s.deliver(part)
		case errors.Is(err, feed.ErrIdle):
			err = s.idle()
		}
		if err == nil && !s.inForce && !s.gone && time.Since(s.asked) >= askAgain {
			err = s.ask(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// patience is how long there may be silence before idle has something to do; 0: all that there is has to be examined first.
func (s *stream) patience() time.Duration {
	if s.gone {
		return 0
	}
	now := time.Now()
	wait := max(s.KeepAlive-now.Sub(s.wrote), time.Millisecond)
	if !s.inForce {
		wait = min(wait, max(askAgain-now.Sub(s.asked), 0))
	}
	if s.timeout >= 0 {
		wait = min(wait, max(s.timeout-now.Sub(s.told), 0))
	}
	return wait
}

var (
	errTimeout  = errors.New("no notification for as long as the client asked to wait")
	errReplayed = errors.New("all that is kept of what is gone was told")
)

// idle is called when nothing came.
func (s *stream) idle() error {
	now := time.Now()
	switch {
	case s.gone:
		return errReplayed
	case s.timeout >= 0 && now.Sub(s.told) >= s.timeout:
		return errTimeout
	case now.Sub(s.wrote) >= s.KeepAlive:
		return s.keepalive()
	}
	return nil
}

// ask looks whether the watch of a resumed stream is in force meanwhile.
func (s *stream) ask(ctx context.Context) error {
	s.asked = time.Now()
	ref := Ref{ID: s.view.Dir}
	progress, indexing := s.indexing(ref) // before the look, as in find
	e, err := s.lookup(ctx, ref)
	switch {
	case err == nil:
		root, _ := s.state(e.Root)
		s.found(&e, root)
		if s.inForce {
			if err := s.watching(); err != nil || !s.stream {
				return err
			}
			return s.send(s.out.appendAt(nil, s.sub.Cursor().Seq))
		}
		progress = root.Progress
	case errors.Is(err, notify.NotFound) && !indexing:
		s.gone = true // what the journal tells of its end is still to be told
		return nil
	case !errors.Is(err, notify.Unavailable) && !errors.Is(err, notify.NotFound):
		return err
	}
	return s.indexed(progress)
}

// keepalive shows that the stream lives and, to those who can use it, how far it has come.
func (s *stream) keepalive() error {
	if !s.stream {
		return s.comment("keepalive")
	}
	return s.send(s.out.appendKeepalive(nil, s.sub.Cursor().Seq))
}

// deliver writes a part and whatever else can be had without waiting.
func (s *stream) deliver(part feed.Part) error {
	s.out.add(part.Hits)
	var err error
	for !part.End && err == nil && len(s.out.buf) < maxWrite {
		if part, err = s.sub.Step(); err == nil {
			s.out.add(part.Hits) // an error comes again with the next Step
		}
	}
	if err := s.flushFrames(); err != nil {
		return err
	}
	s.told = time.Now()
	if part.End {
		return feed.ErrEnded
	}
	return nil
}

// flushFrames sends what was collected: an event stream in one write, else one write for each frame.
func (s *stream) flushFrames() error {
	s.out.close()
	b, start, notes := s.out.buf, 0, s.out.notes
	var err error
	for i, cut := range s.out.cuts {
		if s.stream && i < len(s.out.cuts)-1 {
			continue
		}
		if err = s.send(b[start:cut.end]); err != nil {
			break
		}
		start = cut.end
	}
	if err == nil && notes > 0 {
		s.sent += notes
		s.Observer.StreamSent(Protocol, notes, len(b))
	}
	s.out.reset()
	return err
}

// comment sends one line that no client takes for data.
func (s *stream) comment(text string) error {
	return s.send([]byte(": " + notify.EscapeName(text) + "\n\n"))
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

// cursor is where the stream stands; zero if it never began, and while its client has not got the snapshot as a whole.
func (s *stream) cursor() notify.Cursor {
	if s.sub == nil || s.out.noIDs {
		return notify.Cursor{}
	}
	return s.sub.Cursor()
}

// end says good-bye, where there is still someone to hear it, and gives the reason.
func (s *stream) end(ctx context.Context, err error) string {
	reason, text := ending(err)
	if cause := context.Cause(ctx); cause != nil && (reason == reasonGone || reason == reasonError) {
		reason, text = ending(cause) // what breaks while the stream is being ended is not why it ends
	}
	switch {
	case text == "":
	case s.stream:
		s.send(s.appendFarewell(nil, &s.out.form, reason, text, s.cursor())) // if it does not arrive, the last id that did is as good
	default:
		s.comment(text)
	}
	return reason
}

// ending says why a stream ends that met err, and what its client is to be told; "": nothing.
func ending(err error) (reason, text string) {
	var we *writeError
	switch {
	case errors.As(err, &we):
		switch {
		case errors.Is(err, notify.Unauthorized):
			return reasonRevoked, ""
		case errors.Is(err, os.ErrDeadlineExceeded):
			return reasonStalled, ""
		}
		return reasonClient, ""
	case errors.Is(err, feed.ErrEnded), isLeft(err):
		return reasonRemoved, ""
	case errors.Is(err, errReplayed):
		return reasonRemoved, "closed: " + errReplayed.Error()
	case errors.Is(err, errTimeout):
		return reasonTimeout, "closed: no notification for as long as was asked"
	case errors.Is(err, notify.Closed):
		return reasonDrain, "closed: the server stops"
	case errors.Is(err, context.Canceled):
		return reasonClient, ""
	case errors.Is(err, notify.Unauthorized):
		return reasonRevoked, "closed: " + notify.Message(err)
	case errors.Is(err, notify.Gone):
		return reasonGone, "closed: " + notify.Message(err)
	}
	return reasonError, "closed: " + notify.Message(err)
}

// appendFarewell appends the last block of an event stream. Its id lets the client go on exactly behind what was examined;
// for one that met a gap, it is what the resume is refused by. Where all streams end at once, each client is told
// another time to come back at.
func (a *API) appendFarewell(b []byte, f *form, reason, text string, c notify.Cursor) []byte {
	b = append(b, ": "+notify.EscapeName(text)+"\n"...)
	if reason == reasonDrain {
		b = appendRetry(b, a.Retry+rand.N(2*a.Retry))
	}
	if c.Dir != 0 {
		return f.appendAt(b, c.Seq)
	}
	return append(b, '\n')
}

// overloaded answers a stream that cannot be admitted, or whose snapshot finds no room. An EventSource dies for good of any
// status but 200, so one is told to come back instead.
func (s *stream) overloaded(err error) error {
	if !s.stream || s.head || notify.KindOf(err) == notify.TooMany {
		return err
	}
	wait := 5 * s.Retry
	var e *notify.Error
	if errors.As(err, &e) && e.Retry > 0 {
		wait = e.Retry
	}
	if s.begin() == nil {
		s.send(append(appendRetry(nil, wait), ": "+notify.EscapeName(notify.Message(err))+"\n\n"...))
	}
	s.Observer.StreamClosed(Protocol, "overload")
	return nil
}

func unavailable(format string, args ...any) error {
	return &notify.Error{Op: "qumulo.notify", Kind: notify.Unavailable, Msg: fmt.Sprintf(format, args...), Retry: 5 * time.Second}
}
