package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/r3labs/sse/v2"
	"gopkg.in/cenkalti/backoff.v1"

	"fs_notify/notify"
)

// Defaults and limits of Options.
const (
	DefaultLiveness = 45 * time.Second // three keepalives
	// DefaultMaxEvent is in bytes. Servers send frames of 60 KiB, larger ones only for what must not be cut: that weighs less than two batches,
	// and its JSON is at most eight times as long.
	DefaultMaxEvent = 8 * 2 * notify.MaxBatchBytes

	firstWait = 500 * time.Millisecond // before the first reconnect, where the server names no retry:
	leastWait = 100 * time.Millisecond // whatever the server names
	mostWait  = 30 * time.Second       // where the wait stops growing
	mostTold  = 10 * time.Minute       // the longest wait that a server may ask for
)

// ErrIdle ends a Watch whose Options.Timeout has passed without a notification.
var ErrIdle = errors.New("no notification within the timeout")

// Options say what to watch and how. URL and Ref are needed, the zero value of the rest is usable.
type Options struct {
	URL       string         // of the server: "http://127.0.0.1:8000", "https://files.example/api"
	Ref       string         // absolute path of a directory as the server names it, or its file ID
	Recursive bool           // the whole subtree; otherwise the direct children only
	Filter    notify.TypeSet // 0 means all of Qumulo's types
	Include   []string       // globs below the directory: only what one of them lets through; none: all
	Exclude   []string       // and not what one of these matches
	Fields    notify.Fields  // how much is said of each notification in Frame.Data
	// Since is where to begin as long as there is no cursor: "" for now, a Seq, an RFC 3339 time, a
	// duration such as "5m", "oldest", or "snapshot" (needs OnReset).
	Since string
	// Cursor is where an earlier Watch ended; it wins over Since. Zero: none.
	Cursor notify.Cursor
	// GapReset asks to be told with OnReset, instead of ended with a Gone error, when the server
	// no longer has what follows the cursor. The stream then goes on from the newest notification, or, where Since is
	// "snapshot", with a new snapshot.
	GapReset bool
	// Timeout ends the Watch with ErrIdle after so long without a notification (and without
	// indexing progress), however often the connection was cut meanwhile. Zero: never.
	Timeout time.Duration

	Token     string            // sent as "Authorization: Bearer"; "" for none
	UserAgent string            // "" means fs_notify
	TLS       *tls.Config       // for https; nil means the system's roots
	Transport http.RoundTripper // what carries requests; nil means one connection of our own, with TLS above
	Liveness  time.Duration     // a connection without a byte for so long is dead; 0 means DefaultLiveness
	MaxEvent  int               // bytes of the largest event taken; 0 means DefaultMaxEvent

	// OnDirectory is called once, before the first connection, with the file ID that the path Ref has now: the stream is of the
	// directory that Cursor names, which may be another one. Where nothing has the path it is not called. An error ends the Watch.
	OnDirectory func(notify.FileID) error
	// OnWatching is called each time that the watch has come into force, with the server's words.
	OnWatching func(text string)
	// OnProgress is called while the server is still indexing, with percent from 0 to 100 (-1 if it
	// does not say) and the server's words.
	OnProgress func(percent float64, text string)
	// OnCursor is called after the cursor has moved: what it says was handled. An error ends the Watch.
	OnCursor func(notify.Cursor) error
	// OnReset is called when all that was told so far is void: before a snapshot begins (anew), and
	// where GapReset was asked for. Without it a reset ends the Watch with a Gone error. An error ends the Watch.
	OnReset func(Reset) error
	// OnRetry is called before the Watch waits to connect again. err is why the connection ended;
	// nil if the server ended it in good order. One that had no room for the stream has not.
	OnRetry func(err error, wait time.Duration)
}

// Frame is one block of notifications. They, and Data, belong to the handler.
type Frame struct {
	// Cursor is where a reader stands who has handled this frame; zero inside a snapshot, which
	// can only be read whole.
	Cursor notify.Cursor
	// Notes are seen from the watched directory: spines begin with it, paths are relative to it.
	// At least one. Of the attributes only the size is set, and with FieldsAll only, as are Seq and Link.
	Notes []notify.Notification
	// Data is the JSON array as the server sent it.
	Data []byte
}

// Reset says why what was told so far is void.
type Reset struct {
	Reason string     `json:"reason"` // "snapshot", or what happened to the cursor
	Oldest notify.Seq `json:"oldest"` // what could be read
	Head   notify.Seq `json:"head"`
}

// Watch follows the notifications of one directory and calls handle for each frame. It returns
//   - nil after the watched directory was removed, which the last frame says,
//   - what handle, OnDirectory, OnCursor or OnReset returned, unchanged,
//   - ctx.Err() or [ErrIdle],
//   - or a [notify.Error] that trying again would not mend: Gone (with Bounds), Invalid, NotDirectory,
//     Unauthorized, Forbidden, NotFound, or a certificate that does not verify.
//
// All else (no connection, a cut one, a silent one, 429, 5xx) is tried again without end, with waits that
// double from the server's retry: (or half a second) to 30 s, and are stretched by up to a half at random.
func Watch(ctx context.Context, o Options, handle func(Frame) error) error {
	w, err := newWatch(o, handle)
	if err != nil {
		return err
	}
	return w.run(ctx)
}

// watch is a running Watch. All of it belongs to one goroutine.
type watch struct {
	o      Options
	handle func(Frame) error
	base   string // URL without query
	query  url.Values

	looked  bool          // OnDirectory knows what there is to know
	paused  bool          // nobody is idle: the server said that it cannot tell yet
	cursor  notify.Cursor // all up to it was handled
	wireID  []byte        // the last id that came on this connection
	told    bool          // OnWatching was called for this connection
	fresh   bool          // this connection is the first in force, or began without a cursor: idleness begins with it
	text    string        // of ": watching" on this connection; "" if none came
	retry   time.Duration // what the server named; firstWait if nothing
	fails   int           // connections in a row that never came into force
	lastErr error         // why the last connection ended

	ctx    context.Context // of the Watch
	cancel context.CancelCauseFunc
	idle   *time.Timer // nil without Timeout
	over   bool        // result is final
	result error
}

func newWatch(o Options, handle func(Frame) error) (*watch, error) {
	bad := func(format string, args ...any) (*watch, error) {
		return nil, &notify.Error{Op: "client.Watch", Kind: notify.Invalid, Msg: fmt.Sprintf(format, args...)}
	}
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return bad("%q is not the URL of a server: it should look like http://host:8000", o.URL)
	}
	if _, err := notify.ParseFileID(o.Ref); err != nil && !strings.HasPrefix(o.Ref, "/") {
		return bad("%q is neither an absolute path nor a file ID", o.Ref)
	}
	if o.Liveness <= 0 {
		o.Liveness = DefaultLiveness
	}
	if o.MaxEvent <= 0 {
		o.MaxEvent = DefaultMaxEvent
	}
	if o.UserAgent == "" {
		o.UserAgent = "fs_notify"
	}
	q := url.Values{"recursive": {strconv.FormatBool(o.Recursive)}}
	if o.Filter != 0 {
		q.Set("filter", o.Filter.String())
	}
	if len(o.Include) > 0 {
		q["include"] = o.Include
	}
	if len(o.Exclude) > 0 {
		q["exclude"] = o.Exclude
	}
	if o.Fields == notify.FieldsAll {
		q.Set("fields", "all")
	}
	if o.GapReset {
		q.Set("gap", "reset")
	}
	return &watch{o: o, handle: handle, looked: o.OnDirectory == nil, cursor: o.Cursor, fresh: true, retry: firstWait,
		base: strings.TrimRight(o.URL, "/") + "/v1/files/" + url.PathEscape(o.Ref) + "/notify", query: q}, nil
}

func (w *watch) run(ctx context.Context) error {
	anew := func() {} // drops connections, which with HTTP/2 outlive a stream on which nothing came any more
	if w.o.Transport == nil {
		t := newTransport(w.o.TLS)
		anew = t.CloseIdleConnections
		defer anew()
		w.o.Transport = t
	}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	defer w.cancel(nil)
	if w.o.Timeout > 0 {
		w.idle = time.AfterFunc(w.o.Timeout, func() { w.cancel(ErrIdle) })
		defer w.idle.Stop()
	}
	for {
		err := w.connect()
		switch {
		case w.over:
			return w.result
		case w.ctx.Err() != nil:
			return w.ended(ctx, err)
		case permanent(err):
			return err
		}
		w.lastErr = err
		wait := w.wait(err)
		if w.o.OnRetry != nil {
			w.o.OnRetry(err, wait)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
			anew()
		case <-w.ctx.Done():
			timer.Stop()
			w.told = false // not connected: idleness proves nothing
			return w.ended(ctx, w.lastErr)
		}
	}
}

// ended is what to return when the context of the Watch has ended.
func (w *watch) ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !w.told { // the timeout passed without a stream in force: nobody knows whether anything happened
		e := &notify.Error{Op: "client.Watch", Kind: notify.Unavailable, Err: w.lastErr,
			Msg: fmt.Sprintf("no stream from %s within %v", w.o.URL, w.o.Timeout)}
		if e.Err == nil && !errors.Is(err, context.Canceled) {
			e.Err = err
		}
		return e
	}
	return ErrIdle
}

// look tells OnDirectory what has the path.
func (w *watch) look() error {
	if w.paused {
		w.paused = false
		w.touch()
	}
	ctx, cancel := context.WithTimeout(w.ctx, w.o.Liveness)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(w.base, "/notify")+"/info/attributes", nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", w.o.UserAgent)
	if w.o.Token != "" {
		req.Header.Set("Authorization", "Bearer "+w.o.Token)
	}
	resp, err := (&http.Client{Transport: w.o.Transport}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		w.looked = true
		return nil
	}
	var now struct{ ID string }
	if resp.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&now) != nil {
		err := refusal(resp, resp.Body)
		if resp.StatusCode == http.StatusServiceUnavailable && strings.Contains(notify.Message(err), "is being indexed") { // for as long as that takes
			w.paused, w.fails = true, 0
			if w.idle != nil {
				w.idle.Stop()
			}
		}
		return err
	}
	id, err := notify.ParseFileID(now.ID)
	if err != nil {
		return err
	}
	w.looked = true
	if err := w.o.OnDirectory(id); err != nil {
		w.stop(err)
	}
	return nil
}

// connect makes one connection and delivers what comes on it. nil: the server ended it in good order.
func (w *watch) connect() error {
	if !w.looked {
		if err := w.look(); err != nil || w.over {
			return err
		}
	}
	w.wireID, w.told, w.text = nil, false, ""
	w.fresh = w.fresh || w.cursor.Seq == 0
	s := &stream{base: w.o.Transport, alive: w.o.Liveness, max: w.o.MaxEvent}
	// An id wins over since. Where the server does not have what follows it, and goes on, a snapshot is where to begin anew.
	if again := w.o.GapReset && w.o.Since == "snapshot"; w.o.Since != "" && (w.cursor.Seq == 0 || again) {
		w.query.Set("since", w.o.Since)
	} else {
		w.query.Del("since")
	}
	c := sse.NewClient(w.base+"?"+w.query.Encode(), sse.ClientMaxBufferSize(w.o.MaxEvent+64<<10))
	c.Connection = &http.Client{Transport: s}
	c.ReconnectStrategy = &backoff.StopBackOff{} // one connection: going on is our business
	c.Headers["Accept-Encoding"] = "identity"
	c.Headers["User-Agent"] = w.o.UserAgent
	if w.o.Token != "" {
		c.Headers["Authorization"] = "Bearer " + w.o.Token
	}
	if w.cursor.Seq != 0 {
		w.wireID = []byte(w.cursor.String())
		c.LastEventID.Store(w.wireID)
	}
	err := c.SubscribeRawWithContext(w.ctx, w.event)
	if s.err != nil {
		return s.err
	}
	if err == nil {
		err = s.refused()
	}
	return err
}

// event takes one event from the library.
func (w *watch) event(e *sse.Event) {
	if w.over || w.ctx.Err() != nil {
		return // what the library had read ahead
	}
	if err := w.take(e); err != nil {
		w.stop(err)
	}
}

// stop ends the Watch with a result.
func (w *watch) stop(err error) {
	w.over, w.result = true, err
	w.cancel(nil)
}

func (w *watch) take(e *sse.Event) error {
	if len(e.Retry) > 0 {
		if ms, err := strconv.ParseUint(string(e.Retry), 10, 63); err == nil {
			w.retry = max(leastWait, min(mostTold, time.Duration(min(ms, 1<<40))*time.Millisecond))
		} else {
			w.retry = mostTold
		}
	}
	switch string(e.Event) {
	case eventWatching:
		w.text = string(e.Data)
		w.inForce(w.cursor.Seq != 0)
		return nil
	case eventIndexing:
		w.touch()
		if w.o.OnProgress != nil {
			w.o.OnProgress(percentOf(string(e.Data)), string(e.Data))
		}
		return nil
	}
	// The library repeats the last id where a block has none.
	var moved notify.Cursor
	if !bytes.Equal(e.ID, w.wireID) {
		var err error
		if moved, err = notify.ParseCursor(string(e.ID)); err != nil {
			return err
		}
		w.wireID = e.ID
	}
	w.inForce(moved.Seq != 0 || len(e.Data) > 0)
	switch {
	case string(e.Event) == "reset":
		if err := w.reset(e.Data); err != nil {
			return err
		}
	case len(e.Data) > 0 && (len(e.Event) == 0 || string(e.Event) == "message"):
		if err := w.frame(e.Data, moved); err != nil || w.over {
			return err
		}
	}
	return w.move(moved)
}

// inForce tells once that the watch is in force: ": watching" has come and, since without one a cut
// connection would begin anew at a later now, somewhere to resume from.
func (w *watch) inForce(resumable bool) {
	if w.text == "" || w.told || !resumable {
		return
	}
	w.told, w.fails = true, 0
	if w.fresh {
		w.fresh = false
		w.touch()
	}
	if w.o.OnWatching != nil {
		w.o.OnWatching(w.text)
	}
}

// frame hands one array of notifications on.
func (w *watch) frame(data []byte, moved notify.Cursor) error {
	notes, err := notify.DecodeJSON(data)
	if err != nil {
		return err
	}
	if len(notes) == 0 {
		return nil
	}
	if w.idle != nil {
		w.idle.Stop()
	}
	if err := w.handle(Frame{Cursor: moved, Notes: notes, Data: data}); err != nil {
		return err
	}
	w.touch()
	for i := range notes {
		if notes[i].Type == notify.SelfRemoved {
			err := w.move(moved)
			w.stop(err)
			return err
		}
	}
	return nil
}

// move makes c the cursor; zero leaves it where it is.
func (w *watch) move(c notify.Cursor) error {
	if c.Seq == 0 {
		return nil
	}
	w.cursor = c
	if w.o.OnCursor != nil {
		return w.o.OnCursor(c)
	}
	return nil
}

func (w *watch) reset(data []byte) error {
	var r Reset
	if err := json.Unmarshal(data, &r); err != nil && len(data) > 0 {
		return &notify.Error{Op: "client.Watch", Kind: notify.Invalid, Err: err, Msg: "the server sent a reset that is not JSON"}
	}
	if w.o.OnReset == nil {
		return &notify.Error{Op: "client.Watch", Kind: notify.Gone, Msg: "the server has begun anew: " + r.Reason,
			Bounds: notify.Bounds{Base: r.Oldest.Batch(), Head: r.Head.Batch()}}
	}
	if w.o.Since == "snapshot" {
		w.cursor = notify.Cursor{} // until the snapshot is complete there is nothing to resume from but its beginning
	}
	return w.o.OnReset(r)
}

// touch says that the stream is not idle.
func (w *watch) touch() {
	if w.idle != nil && w.ctx.Err() == nil {
		w.idle.Reset(w.o.Timeout)
	}
}

// wait gives the time to let pass before the next connection.
func (w *watch) wait(err error) time.Duration {
	d := w.retry << min(w.fails, 20)
	if d > mostWait || d <= 0 {
		d = max(mostWait, w.retry)
	}
	if !w.told {
		w.fails++
	}
	var e *notify.Error
	if errors.As(err, &e) && e.Retry > d {
		d = min(e.Retry, mostTold)
	}
	return d + rand.N(d/2)
}

// permanent says whether trying again would give the same.
func permanent(err error) bool {
	var e *notify.Error
	if errors.As(err, &e) {
		switch e.Kind {
		case notify.Unavailable, notify.TooMany:
			return false
		}
		return true
	}
	var cert *tls.CertificateVerificationError
	var plain tls.RecordHeaderError
	return errors.As(err, &cert) || errors.As(err, &plain) ||
		err != nil && strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") // net/http has no type for it
}

// percentOf reads "indexing 42.5 % ..."; -1 if there is no number.
func percentOf(text string) float64 {
	f := strings.Fields(text)
	if len(f) < 2 {
		return -1
	}
	p, err := strconv.ParseFloat(strings.TrimSuffix(f[1], "%"), 64)
	if err != nil || !(p >= 0 && p <= 100) {
		return -1
	}
	return p
}

func newTransport(c *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:     c.Clone(), // net/http sets what it speaks in it
		TLSHandshakeTimeout: 10 * time.Second,
		ForceAttemptHTTP2:   true,
		DisableCompression:  true,
		MaxIdleConns:        2,
	}
}
