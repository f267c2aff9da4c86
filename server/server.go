// Package server answers HTTP: it routes requests to the protocols below it (server/qumulo and its
// siblings), decides who may ask, limits how many may at once, turns errors into answers, recovers from panics, and
// stops without leaving a stream hanging.
//
// Echo is used as a router and for nothing else: handlers take net/http types and return an error.
//
// A [Server] may be used from any goroutine. New starts none; [Server.Serve] returns when all that it started have ended.
package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"

	"fs_notify/notify"
	"fs_notify/notify/feed"
	"fs_notify/server/access"
	"fs_notify/server/box"
	"fs_notify/server/huddle"
	"fs_notify/server/onedata"
	"fs_notify/server/qumulo"
)

// Options of a Server. Files and Journal must be set; zero values of the others are replaced by what is said here.
type Options struct {
	Files   Files         // the watched trees
	Journal feed.Log      // what streams read
	Health  func() Health // of the journal, for /readyz; nil: it has nothing to say
	Page    http.Handler
	Auth    Auth    // who may ask; access.Local
	Metrics Metrics // who is told what happens; nobody
	// More routes, by path, of what can be read; "/metrics" answers everybody. Those in Open answer everybody whom Auth does not forbid to ask at all: who shows nothing, or nothing
	// that is known, has notify.Nobody in the context. The others are asked for under Auth.
	More    map[string]http.Handler
	Guarded map[string]access.Handler
	Open    map[string]access.Handler
	Log     *slog.Logger // nowhere
	TLS     *tls.Config  // with certificates: HTTPS, HTTP/1.1 and HTTP/2; nil: plain HTTP

	CORSOrigins    []string       // origins whose pages may read answers: "https://app.example", or "*"; none
	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed; none

	KeepAlive         time.Duration // a quiet stream says something after so long; 15 s
	WriteTimeout      time.Duration // a client that takes nothing for so long is disconnected; 30 s
	ReadHeaderTimeout time.Duration // a request's head must be there within; 10 s
	IdleTimeout       time.Duration // a connection without request is closed after; 2 min
	ShutdownTimeout   time.Duration // requests get so long to end when the server stops; 5 s
	MaxHeaderBytes    int           // of a request's head: a path of 64 KiB, escaped, fits into it; 256 KiB
	MaxBodyBytes      int           // of a request's body; 2 MiB: what a protocol takes is less, and said in its own words
	BodyTimeout       time.Duration // it must be there within; 30 s
	MaxStreams        int           // streams at once; 20,000
	MaxConns          int           // connections at once, those of streams among them; MaxStreams and OtherConns more
	MaxTokenStreams   int           // and with one token, or of one user; no limit
	MaxAddressStreams int           // and from one address; no limit
	ConnectRate       int           // connections that one address may open each second, and ten times as many at once; no limit
	Pagers            int           // streams that may read the journal's disk at once; feed.DefaultPagers
	Writers           int           // goroutines that write event streams over plain HTTP/1.1 on Linux; GOMAXPROCS. < 0: each stream has its own
	Version           string        // of the program
	Box               box.Options   // PollTimeout, Hold and Delay; the rest is filled in
}

// OtherConns is how many connections there may be besides those of streams, if Options.MaxConns does not say.
const OtherConns = 1024

// Health is how a journal on disk is. Streams go on without it; what a restart would bring is another matter.
type Health struct {
	Down       time.Time // since when the disk does not take what it is given; zero: it does
	Unsaved    int       // batches that memory alone has
	Err        error     // why it is down
	Checkpoint error     // why the next start has to begin anew, with older cursors gone; nil: it has not
}

// Auth decides who may ask.
type Auth interface {
	// Authorize lets r pass, perhaps with more in its context, or says why not: Unauthorized or Forbidden. It is called for every request, from many
	// goroutines. /healthz, /readyz and /metrics answer whom it refuses too, as Nobody.
	Authorize(r *http.Request) (*http.Request, error)
}

// Metrics is told what happens. Its methods are called from many goroutines and must not wait.
type Metrics interface {
	// Request is called when an answer is complete; a stream's when it has begun. A client that left before had none.
	Request(route string, status int, took time.Duration)
	qumulo.Observer
}

type noMetrics struct{}

func (noMetrics) Request(string, int, time.Duration) {}
func (noMetrics) StreamOpened(string)                {}
func (noMetrics) StreamSent(string, int, int)        {}
func (noMetrics) StreamClosed(_, _ string)           {}

// Server is the HTTP side. Make it with New.
type Server struct {
	Options
	all     Files // as they are, for /readyz
	feed    *feed.Feed
	qumulo  *qumulo.API
	box     *box.API
	echo    *echo.Echo
	drain   context.Context // ends all streams
	stop    context.CancelFunc
	streams atomic.Int64
	lost    atomic.Int64
	holders holders // of streams
	connect *access.Limiter
	conns   conns
	origins *http.CrossOriginProtection

	running sync.Once
	ended   chan struct{} // closed when the writers of streams have ended; nil before they were started
}

// New makes a Server.
func New(o Options) *Server {
	def(&o.KeepAlive, 15*time.Second)
	def(&o.WriteTimeout, 30*time.Second)
	def(&o.ReadHeaderTimeout, 10*time.Second)
	def(&o.IdleTimeout, 2*time.Minute)
	def(&o.ShutdownTimeout, 5*time.Second)
	def(&o.MaxHeaderBytes, 256<<10)
	def(&o.MaxBodyBytes, 2<<20)
	def(&o.BodyTimeout, 30*time.Second)
	def(&o.MaxStreams, 20000)
	def(&o.MaxConns, o.MaxStreams+OtherConns)
	if o.Auth == nil {
		o.Auth = access.Local{}
	}
	if o.Metrics == nil {
		o.Metrics = noMetrics{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	all := o.Files
	o.Files = &guarded{Files: o.Files, log: o.Log, told: access.Limiter{Every: 100 * time.Millisecond, Burst: 1000}}
	s := &Server{Options: o, all: all, feed: feed.New(o.Journal, feed.Options{Pagers: o.Pagers, Places: o.Files}), echo: echo.New()}
	s.conns.max, s.conns.full = o.MaxConns, access.Limiter{Every: time.Minute, Burst: 1}
	s.drain, s.stop = context.WithCancel(context.Background())
	if o.ConnectRate > 0 {
		s.connect = &access.Limiter{Every: time.Second / time.Duration(o.ConnectRate), Burst: 10 * o.ConnectRate}
	}
	s.origins = http.NewCrossOriginProtection()
	for _, origin := range o.CORSOrigins {
		if origin != "*" {
			if err := s.origins.AddTrustedOrigin(origin); err != nil {
				o.Log.Error("an origin cannot be trusted", "origin", origin, "err", err)
			}
		}
	}
	s.echo.IPExtractor = echo.ExtractIPDirect()
	s.echo.HTTPErrorHandler = s.routeError
	s.routes()
	return s
}

func def[T time.Duration | int](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// routes is the whole of what is served.
func (s *Server) routes() {
	q := qumulo.New(qumulo.Options{Files: s.Files, Feed: s.feed, KeepAlive: s.KeepAlive, WriteTimeout: s.WriteTimeout, Drain: s.drain,
		Admit: s.admit, Observer: s.Metrics, Log: s.Log, Version: s.Version, Writers: s.Writers})
	s.qumulo = q
	s.any("/v1/files/*", q.ServeFiles, qumulo.WriteError)
	s.any("/api/v1/files/*", q.ServeFiles, qumulo.WriteError)
	s.any("/v1/file-system/settings/notify", q.ServeSettings, qumulo.WriteError)
	s.any("/v1/version", q.ServeVersion, qumulo.WriteError)
	b := s.Box
	b.Files, b.Feed, b.Drain, b.Admit, b.Observer, b.Lost, b.Log = s.Files, s.feed, s.drain, s.admit, s.Metrics, s.lostPosition, s.Log
	s.box = box.New(b)
	s.any("/2.0/*", s.box.Serve, s.box.WriteError)
	s.any("/v1/*", notFound, qumulo.WriteError)
	o := onedata.New(onedata.Options{Files: s.Files, Feed: s.feed, Drain: s.drain, Admit: s.admit, Observer: s.Metrics, Lost: s.lostPosition,
		Log: s.Log, Version: s.Version})
	s.any(onedata.Prefix+"*", o.Serve, o.WriteError)
	s.any("/api/*", notFound, qumulo.WriteError)
	h := huddle.New(huddle.Options{Files: s.Files, Feed: s.feed, Log: s.Log})
	for _, path := range huddle.Routes() {
		s.any(path, h.Serve, huddle.WriteError)
	}
	s.any("/healthz", reading(s.healthz), qumulo.WriteError)
	s.any("/readyz", reading(s.readyz), qumulo.WriteError)
	for path, h := range s.More {
		s.any(path, reading(plain(h)), qumulo.WriteError)
	}
	for path, h := range s.Guarded {
		s.any(path, h, qumulo.WriteError)
	}
	for path, h := range s.Open {
		s.any(path, h, qumulo.WriteError)
	}
	if s.Page != nil {
		s.any("/", plain(s.Page), qumulo.WriteError)
		s.any("/page/*", plain(s.Page), qumulo.WriteError)
	}
}

// handler answers a request, or returns an error if it has not begun to.
type handler func(w http.ResponseWriter, r *http.Request) error

// errorWriter answers with an error in a protocol's own words.
type errorWriter func(w http.ResponseWriter, r *http.Request, status int, err error)

func plain(h http.Handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		h.ServeHTTP(w, r)
		return nil
	}
}

// reading is h for GET and HEAD alone.
func reading(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		return qumulo.Only(w, r, "GET, HEAD, OPTIONS", func() error { return h(w, r) })
	}
}

func notFound(http.ResponseWriter, *http.Request) error {
	return &notify.Error{Op: "server", Kind: notify.NotFound, Msg: "there is no such resource"}
}

// public says whether a route answers everybody whom Auth does not forbid to ask at all, as it tells nothing of the trees. /healthz,
// /readyz and /metrics answer even those: they tell as little as the grant in the context lets them.
func (s *Server) public(route string, r *http.Request) bool {
	switch route {
	case "/v1/version", "/", "/page/*", unrouted:
		return true
	case onedata.Prefix + "*":
		return onedata.Refuses(r)
	}
	_, ok := s.Open[route]
	return ok
}

// any routes every method of a path to h; those that the router has not heard of come by routeError.
func (s *Server) any(route string, h handler, words errorWriter) {
	s.echo.Any(route, s.answer(route, h, words))
}

// unrouted is the route of what no other is for.
const unrouted = "/*"

// answer is what all requests come by.
func (s *Server) answer(route string, h handler, words errorWriter) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := time.Now()
		told := false
		w := newResponse(c.Response().Writer, s.WriteTimeout)
		defer w.end()
		tell := func() {
			if !told {
				told = true
				s.Metrics.Request(route, max(w.status, http.StatusOK), time.Since(start))
			}
		}
		w.begins = func() {
			if w.Header().Get("X-Accel-Buffering") == "no" { // a stream
				tell() // how long it lasts says nothing of the request
			}
		}
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				s.Log.Error("panic in a handler", "route", route, "panic", p, "stack", string(debug.Stack()))
				if w.status != 0 {
					panic(http.ErrAbortHandler) // what is half told must not look whole
				}
				s.fail(w, c.Request(), words, &notify.Error{Op: "server", Kind: notify.Internal})
			}
			tell()
		}()
		r, done, err := s.receive(w, c.Request(), route)
		defer done()
		if err != nil {
			s.fail(w, c.Request(), words, err)
			return nil
		}
		if r == nil { // answered
			return nil
		}
		if err := h(w, r); err != nil {
			s.fail(w, c.Request(), words, err)
		}
		return nil
	}
}

// statuses is the one table that maps what went wrong to what HTTP calls it.
var statuses = map[notify.Kind]int{
	notify.Internal:     http.StatusInternalServerError,
	notify.Invalid:      http.StatusBadRequest,
	notify.NotDirectory: http.StatusBadRequest,
	notify.Unauthorized: http.StatusUnauthorized,
	notify.Forbidden:    http.StatusForbidden,
	notify.NotFound:     http.StatusNotFound,
	notify.Gone:         http.StatusGone,
	notify.TooMany:      http.StatusTooManyRequests,
	notify.Unavailable:  http.StatusServiceUnavailable,
	notify.Corrupt:      http.StatusInternalServerError,
	notify.Closed:       http.StatusServiceUnavailable,
}

// maxLogged is how many bytes of a path go into the log.
const maxLogged = 1024

// Status gives the HTTP status of an error.
func Status(err error) int { return statuses[notify.KindOf(err)] }

// fail answers with an error, if nothing was answered yet.
func (s *Server) fail(w *response, r *http.Request, words errorWriter, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil && w.status == 0 {
		panic(http.ErrAbortHandler) // the client left, or says no more: no answer must not look like one
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		err = &notify.Error{Op: "server", Kind: notify.Unavailable, Err: err}
	}
	status := Status(err)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		status = http.StatusRequestEntityTooLarge
	}
	level := slog.LevelDebug
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestEntityTooLarge, http.StatusTooManyRequests:
		level = slog.LevelInfo // somebody is wrong, or tries something
	}
	if status >= 500 && status != http.StatusServiceUnavailable {
		level = slog.LevelError
	}
	path := r.URL.EscapedPath()
	s.Log.Log(r.Context(), level, "request failed", "method", r.Method, "path", path[:min(len(path), maxLogged)], "status", status, "client", r.RemoteAddr, "err", err)
	if w.status != 0 {
		return
	}
	h := w.Header()
	switch status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		wait := 5 * time.Second
		var e *notify.Error
		if errors.As(err, &e) && e.Retry > 0 {
			wait = e.Retry
		}
		h.Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
	}
	words(w, r, status, err)
}

// routeError answers what the router itself refuses: a path that is not routed, or a method that it has not heard of. Which methods are possible, the
// handler of the path says.
func (s *Server) routeError(err error, c echo.Context) {
	h := s.answer(unrouted, notFound, qumulo.WriteError)
	if errors.Is(err, echo.ErrMethodNotAllowed) {
		c.Response().Header().Del("Allow") // the router's own
		s.echo.Router().Find(http.MethodGet, echo.GetPath(c.Request()), c)
		h = c.Handler()
	}
	h(c)
}

// lostPosition counts a reader of a protocol without words for a gap that went on behind one.
func (s *Server) lostPosition() { s.lost.Add(1) }

// LostPositions counts the readers that went on behind a gap without being told, as their protocol has no words for it.
func (s *Server) LostPositions() int64 { return s.lost.Load() }

// Streams counts what is open: streams, and among them those that read the past from disk.
func (s *Server) Streams() (open, behind int) {
	_, behind = s.feed.Stats()
	return int(s.streams.Load()), behind
}

// EachStream calls f for every stream that is open now, in no order. f must not wait: clients wait for it. Its error is that of
// ctx: somebody did not answer before it ended.
func (s *Server) EachStream(ctx context.Context, f func(*qumulo.Stream)) error {
	return s.qumulo.EachStream(ctx, f)
}

// Behind says how old the oldest batch is that a stream has still to examine.
func (s *Server) Behind(st *qumulo.Stream, now time.Time) time.Duration {
	if st.Cursor.Seq == 0 {
		return 0
	}
	if t := s.feed.Waiting(st.Cursor.Seq); !t.IsZero() {
		return max(now.Sub(t), 0)
	}
	return 0
}

// Lag is the largest Behind of all streams.
func (s *Server) Lag(ctx context.Context, now time.Time) (lag time.Duration) {
	s.EachStream(ctx, func(st *qumulo.Stream) { lag = max(lag, s.Behind(st, now)) })
	return lag
}

// Routes lists the patterns of all that is answered.
func (s *Server) Routes() []string {
	var all []string
	for _, r := range s.echo.Routes() {
		all = append(all, r.Path)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.echo.ServeHTTP(w, r) }

// Drain ends all streams, for good.
func (s *Server) Drain() { s.stop() }

// Serve answers the requests that come in at l until ctx ends, and closes l. Then all streams end, other
// requests get ShutdownTimeout to end, and it returns nil. It may be called once for each of several listeners: the first one
// to end, or to fail, ends the streams of all.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s,
		TLSConfig:         s.TLS.Clone(),
		ReadHeaderTimeout: s.ReadHeaderTimeout,
		IdleTimeout:       s.IdleTimeout,
		MaxHeaderBytes:    s.MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
		ConnContext:       s.connContext,
		ConnState:         s.connState,
	}
	srv.RegisterOnShutdown(s.conns.hangUp) // net/http waits 5 s for those on which nothing has come yet
	s.running.Do(s.write)
	defer func() {
		s.Drain()
		<-s.ended
	}()
	ended := make(chan error, 1)
	go func() {
		if s.TLS != nil {
			ended <- srv.ServeTLS(l, "", "")
		} else {
			ended <- srv.Serve(l)
		}
	}()
	select {
	case err := <-ended:
		srv.Close()
		return &notify.Error{Op: "server.Serve", Kind: notify.Internal, Err: err}
	case <-ctx.Done():
	}
	s.Drain()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.ShutdownTimeout)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		s.Log.Warn("some requests did not end in time", "err", err)
		srv.Close()
	}
	<-ended
	return nil
}

// write starts the writers of streams. They end with drain.
func (s *Server) write() {
	s.ended = make(chan struct{})
	go func() {
		defer close(s.ended)
		var polls sync.WaitGroup
		defer polls.Wait()
		polls.Go(func() { s.box.Run(s.drain) })
		if err := s.qumulo.Run(s.drain); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			s.Log.Warn("each stream takes a goroutine, as there can be no writers", "err", err)
		}
	}()
}

// healthz: the process answers.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err := w.Write([]byte("ok\n"))
	return ignore(err)
}

// readyz tells how the roots are: 200 if all of them are live, else 503. A journal that is down is told and changes nothing
// about the status: streams go on. Names of roots, paths and reasons are told only to those who have the privilege admin.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) error {
	type degraded struct {
		Path   string    `json:"path,omitempty"`
		Reason string    `json:"reason,omitempty"`
		Since  time.Time `json:"since"`
	}
	type root struct {
		Name     string     `json:"name,omitempty"`
		ID       string     `json:"id,omitempty"`
		Phase    string     `json:"phase"`
		Since    *time.Time `json:"since,omitempty"`
		Reason   string     `json:"reason,omitempty"`
		Progress float64    `json:"progress"`
		Indexed  int64      `json:"indexed"`
		Entries  int64      `json:"entries"`
		Source   string     `json:"source"`
		Count    int        `json:"degraded_count"`
		Degraded []degraded `json:"degraded"`
	}
	type journal struct {
		OK         bool       `json:"ok"`
		Since      *time.Time `json:"since,omitempty"`
		Unsaved    int        `json:"unsaved"`
		Reason     string     `json:"reason,omitempty"`
		Checkpoint string     `json:"checkpoint,omitempty"`
	}
	g := notify.GrantOf(r.Context())
	known := g.Privileges.Has(notify.MayAdmin)
	answer := struct {
		Ready   bool     `json:"ready"`
		Journal *journal `json:"journal,omitempty"`
		Roots   []root   `json:"roots"`
	}{Ready: true, Roots: []root{}}
	if s.Health != nil {
		h := s.Health()
		answer.Journal = &journal{OK: h.Down.IsZero() && h.Checkpoint == nil, Unsaved: h.Unsaved}
		if !h.Down.IsZero() {
			answer.Journal.Since = &h.Down
		}
		if known && h.Err != nil {
			answer.Journal.Reason = h.Err.Error()
		}
		if known && h.Checkpoint != nil {
			answer.Journal.Checkpoint = h.Checkpoint.Error()
		}
	}
	for _, st := range s.all.Roots() {
		out := root{Phase: st.Phase.String(), Progress: st.Progress, Indexed: st.Indexed, Entries: st.Entries, Source: st.Source,
			Count: st.DegradedCount, Degraded: []degraded{}}
		known := known && g.Touches(st.Name)
		if st.Phase == notify.Away {
			out.Since = &st.Since
		}
		for _, d := range st.Degraded {
			if !known || !g.Sees(strings.TrimSuffix(st.Name, "/")+"/"+d.Path) {
				d.Path, d.Reason = "", ""
			}
			out.Degraded = append(out.Degraded, degraded{strings.ToValidUTF8(d.Path, "\ufffd"), d.Reason, d.Since})
		}
		if known {
			out.Name, out.Reason = strings.ToValidUTF8(st.Name, "\ufffd"), st.Reason
			if st.ID != 0 {
				out.ID = st.ID.String()
			}
		}
		answer.Ready = answer.Ready && st.Phase == notify.Live
		answer.Roots = append(answer.Roots, out)
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return &notify.Error{Op: "server.readyz", Kind: notify.Internal, Err: err}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !answer.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, err = w.Write(append(b, '\n'))
	return ignore(err)
}

// ignore drops an error of writing: the connection is broken and the client sees it.
func ignore(error) error { return nil }
