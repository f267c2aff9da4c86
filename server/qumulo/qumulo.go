// Package qumulo serves Qumulo's change notification and the requests around it:
//
//	GET  /v1/files/{ref}/notify            a stream of notifications (Server-Sent Events)
//	GET  /v1/files/{ref}/entries           what is there now, with the Seq of the moment
//	GET  /v1/files/{ref}/info/attributes   one entry, looked at on disk
//	POST /v1/files/resolve                 IDs to paths
//	GET  /v1/file-system/settings/notify   whether recursive notification is on: it is
//	GET  /v1/version
//
// The protocol, with what this server adds to it, is written down in docs/protocols/qumulo.md.
//
// Handlers take net/http types and return an error if nothing was written yet; the package above maps its
// Kind to a status and calls [WriteError]. An [API] may be used from any goroutine. A stream begins in the goroutine
// of its request. It stays there, or is taken over by one of the few writers that [API.Run] starts, where that is possible: the
// bytes are the same. It ends with the client, with Options.Drain, or with the directory.
package qumulo

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/feed"
)

// Files is what this protocol asks of the watched trees; server.Files has it, and says what each method promises.
type Files interface {
	Roots() []notify.RootState
	LookupPath(ctx context.Context, path string) (notify.Entry, error)
	LookupID(ctx context.Context, id notify.FileID) (notify.Entry, error)
	Snapshot(ctx context.Context, dir notify.FileID, recursive bool) (*notify.Snapshot, error)
	Children(ctx context.Context, dir notify.FileID) (int, error)
	Stat(ctx context.Context, id notify.FileID) (notify.Entry, error)
}

// Observer is told of streams. Its methods are called from many goroutines and must not wait.
type Observer interface {
	StreamOpened(protocol string)
	StreamSent(protocol string, notifications, bytes int)
	StreamClosed(protocol, reason string)
}

// Options of an API. Files and Feed must be set; zero values of the others are replaced by what is said here.
type Options struct {
	Files        Files
	Feed         *feed.Feed
	KeepAlive    time.Duration   // a comment goes out after so much silence; 15 s
	WriteTimeout time.Duration   // a writer's client that takes nothing for so long is disconnected, others by the package above; 30 s
	Retry        time.Duration   // what a client is told to wait before it comes back; 2 s
	Drain        context.Context // its end ends all streams; never
	// Admit says whether one more stream may begin; release is called when it has ended. All may.
	Admit    func(r *http.Request) (release func(), err error)
	Observer Observer // nobody
	Log      *slog.Logger
	Version  string // of the program, for GET /v1/version
	// Writers is how many goroutines write the streams that need none of their own, while Run runs; 0: GOMAXPROCS,
	// < 0: none, each stream has a goroutine.
	Writers int
}

// Protocol is the name under which an Observer hears of this package's streams.
const Protocol = "qumulo"

// API answers the requests. Make it with New.
type API struct {
	Options
	writers  atomic.Pointer[writers] // nil: Run does not run
	inCharge streams                 // those that no writer has
	snaps    *snapshots
}

// New makes an API.
func New(o Options) *API {
	if o.KeepAlive <= 0 {
		o.KeepAlive = 15 * time.Second
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = 30 * time.Second
	}
	if o.Retry <= 0 {
		o.Retry = 2 * time.Second
	}
	if o.Drain == nil {
		o.Drain = context.Background()
	}
	if o.Admit == nil {
		o.Admit = func(*http.Request) (func(), error) { return func() {}, nil }
	}
	if o.Observer == nil {
		o.Observer = nobody{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &API{Options: o, snaps: newSnapshots()}
}

// copyTree copies what is below a directory.
func (a *API) copyTree(ctx context.Context, dir notify.FileID, recursive bool) (*notify.Snapshot, *holding, error) {
	return a.snaps.take(ctx, func() (*notify.Snapshot, error) { return a.Files.Snapshot(ctx, dir, recursive) })
}

type nobody struct{}

func (nobody) StreamOpened(string)         {}
func (nobody) StreamSent(string, int, int) {}
func (nobody) StreamClosed(_, _ string)    {}

// ServeFiles answers everything below /v1/files/ (or /api/v1/files/, as Qumulo's web interface has it). It
// reads the path in its escaped form, so a router must not clean or unescape it.
func (a *API) ServeFiles(w http.ResponseWriter, r *http.Request) error {
	c, err := parseCall(r.URL.EscapedPath(), r.URL.RawQuery)
	if err != nil {
		return err
	}
	switch c.action {
	case actionNotify:
		return Only(w, r, "GET, HEAD, OPTIONS", func() error { return a.serveNotify(w, r, c) })
	case actionEntries:
		return Only(w, r, "GET, HEAD, OPTIONS", func() error { return a.serveEntries(w, r, c) })
	case actionAttributes:
		return Only(w, r, "GET, HEAD, OPTIONS", func() error { return a.serveAttributes(w, r, c) })
	default:
		return Only(w, r, "POST, OPTIONS", func() error { return a.serveResolve(w, r) })
	}
}

// ServeVersion answers GET /v1/version.
func (a *API) ServeVersion(w http.ResponseWriter, r *http.Request) error {
	return Only(w, r, "GET, HEAD, OPTIONS", func() error {
		return writeJSON(w, r, map[string]string{
			"revision_id": "fs_notify " + a.Version, "build_id": a.Version, "flavor": "fs_notify", "build_date": ""})
	})
}

// ServeSettings answers GET /v1/file-system/settings/notify. Nothing can be set: who may watch recursively, the privileges say.
func (a *API) ServeSettings(w http.ResponseWriter, r *http.Request) error {
	return Only(w, r, "GET, HEAD, OPTIONS", func() error {
		if err := allow(notify.GrantOf(r.Context()), false); err != nil {
			return err
		}
		return writeJSON(w, r, map[string]string{"recursive_mode": "ENABLED"})
	})
}

// Only calls f if r's method is among those allowed, such as "GET, HEAD, OPTIONS", and answers OPTIONS.
func Only(w http.ResponseWriter, r *http.Request, allowed string, f func() error) error {
	for m := range strings.SplitSeq(allowed, ", ") {
		if m != r.Method {
			continue
		}
		if m == http.MethodOptions {
			w.Header().Set("Allow", allowed)
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		return f()
	}
	w.Header().Set("Allow", allowed)
	WriteError(w, r, http.StatusMethodNotAllowed, &notify.Error{Op: "qumulo", Kind: notify.Invalid,
		Msg: r.Method + " is not possible here, " + allowed + " are"})
	return nil
}

// allow says whether a client may look at a directory, or at all below it.
func allow(g *notify.Grant, recursive bool) error {
	switch {
	case recursive && !g.Privileges.Has(notify.MayRecurse):
		return forbidden("notify.recursive")
	case !g.Privileges.Has(notify.MayNotify):
		return forbidden("notify")
	}
	return nil
}

func forbidden(privilege string) error {
	return &notify.Error{Op: "qumulo.allow", Kind: notify.Forbidden, Msg: "this takes the privilege " + privilege}
}

// lookup finds what a ref names. All requests come by here.
func (a *API) lookup(ctx context.Context, ref Ref) (notify.Entry, error) {
	var e notify.Entry
	var err error
	if ref.ID != 0 {
		progress, indexing := a.indexing(ref) // before the look: what is not found may be found when an index has ended
		if e, err = a.Files.LookupID(ctx, ref.ID); indexing && errors.Is(err, notify.NotFound) {
			err = unavailable("there is no entry with the ID %s so far: %d %% of the directory tree are indexed", ref.ID, percent(progress))
		}
	} else {
		e, err = a.Files.LookupPath(ctx, ref.Path)
	}
	var ne *notify.Error
	if errors.Is(err, notify.NotFound) && errors.As(err, &ne) && ne.Msg == "" {
		err = &notify.Error{Op: "qumulo.lookup", Path: ref.Path, Kind: notify.NotFound, Err: err, Msg: "there is no " + ref.String()}
	}
	return e, err
}

// directory finds a directory.
func (a *API) directory(ctx context.Context, ref Ref) (notify.Entry, error) {
	e, err := a.lookup(ctx, ref)
	if err == nil && !e.Attr.IsDir() {
		return e, notDirectory(ref)
	}
	return e, err
}

func notDirectory(ref Ref) error {
	return &notify.Error{Op: "qumulo.lookup", Path: ref.Path, Kind: notify.NotDirectory, Msg: ref.String() + " is not a directory"}
}

// state gives the root with an ID.
func (a *API) state(root notify.FileID) (notify.RootState, bool) {
	for _, s := range a.Files.Roots() {
		if s.ID == root && root != 0 {
			return s, true
		}
	}
	return notify.RootState{}, false
}

// indexing says whether what ref names may be in a root that is still being indexed, and how far that is, 0 to 1.
func (a *API) indexing(ref Ref) (progress float64, _ bool) {
	progress, any := 1, false
	for _, s := range a.Files.Roots() {
		if s.Phase == notify.Indexing && (ref.ID != 0 || notify.Within(ref.Path, s.Name)) {
			progress, any = min(progress, s.Progress), true
		}
	}
	return progress, any
}

// fullPath is the absolute path under which an entry is served.
func (a *API) fullPath(e *notify.Entry) string {
	s, _ := a.state(e.Root)
	if e.Path == "" {
		return s.Name
	}
	return strings.TrimSuffix(s.Name, "/") + "/" + e.Path
}

// streamContext ends with the client or with the server's streams.
func (a *API) streamContext(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(a.Drain, func() { cancel(errDrain) })
	return ctx, func() { stop(); cancel(nil) }
}

var errDrain error = &notify.Error{Op: "qumulo", Kind: notify.Closed, Msg: "the server stops"}
