// Package onedata serves Onedata's stream of metadata changes, and the two requests that its clients make before:
//
//	POST /api/v3/oneprovider/changes/metadata/{sid}   a stream of lines, one for each document that changed
//	GET  /api/v3/oneprovider/spaces                   the spaces: one for each root
//	GET  /api/v3/oneprovider/spaces/{sid}             one of them
//
// Onedata keeps up to four documents of each file: fileMeta, fileLocation, times and customMetadata. A notification writes some of them
// ([rules] is the table), each with a seq of its own. The protocol, and what stands where a file system does not know what Onedata does, is written
// down in docs/protocols/onedata.md.
//
// Promised: lines come in the order of their seqs, which rise strictly. The lines of a space are the same for every reader and whenever it
// reads, as far as they do not tell the present (extended attributes, and, to who may not see the name that the journal has, which one a file has left). So a client that goes on with last_seq = the
// last seq it has seen + 1 misses nothing and gets nothing twice, over restarts too; last_seq = the last seq it has seen gets that line again. Each line tells the
// entry as the change left it: folded in their order, lines give the tree. Not promised: that a position is still there; Onedata has no word for one that is
// gone, and reads from the oldest line then.
//
// Handlers take net/http types and return an error if nothing was written yet; the package above maps its Kind to a status and calls
// [API.WriteError], and bounds how long bodies and clients may take. An [API] may be used from any goroutine. A stream takes the goroutine of its request, and holds at most a page of the journal and the
// lines that are under way; it ends with the client, with Options.Drain, or when the directory of the space goes away.
package onedata

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/feed"
)

// Files is what this protocol asks of the watched trees; server.Files has it, and says what each method promises.
type Files interface {
	Roots() []notify.RootState
	LookupID(ctx context.Context, id notify.FileID) (notify.Entry, error)
	UserXattrs(ctx context.Context, id notify.FileID) (map[string][]byte, error)
}

// Observer is told of streams. Its methods are called from many goroutines and must not wait.
type Observer interface {
	StreamOpened(protocol string)
	StreamSent(protocol string, lines, bytes int)
	StreamClosed(protocol, reason string)
}

// Options of an API. Files and Feed must be set; zero values of the others are replaced by what is said here.
type Options struct {
	Files Files
	Feed  *feed.Feed
	Drain context.Context // its end ends all streams; never
	// Admit says whether one more stream may begin; release is called when it has ended. All may.
	Admit    func(r *http.Request) (release func(), err error)
	Observer Observer // nobody
	// Lost is called for each reader whose position could not be continued without a hole.
	Lost    func()
	Log     *slog.Logger
	Version string // of the program, for errors
}

// Protocol is the name under which an Observer hears of this package's streams.
const Protocol = "onedata"

// Prefix is where all resources lie.
const Prefix = "/api/v3/oneprovider/"

// API answers the requests. Make it with New.
type API struct {
	Options
	owners owners
}

// New makes an API.
func New(o Options) *API {
	if o.Drain == nil {
		o.Drain = context.Background()
	}
	if o.Admit == nil {
		o.Admit = func(*http.Request) (func(), error) { return func() {}, nil }
	}
	if o.Observer == nil {
		o.Observer = nobody{}
	}
	if o.Lost == nil {
		o.Lost = func() {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &API{Options: o}
}

type nobody struct{}

func (nobody) StreamOpened(string)         {}
func (nobody) StreamSent(string, int, int) {}
func (nobody) StreamClosed(_, _ string)    {}

// methods are those that each kind of resource has.
var methods = map[string]string{"changes/metadata/": "POST", "spaces": "GET, HEAD", "spaces/": "GET, HEAD"}

// resource says what kind of resource is asked for, and of which space.
func resource(r *http.Request) (kind, sid string, err error) {
	kind = strings.TrimSuffix(strings.TrimPrefix(r.URL.EscapedPath(), Prefix), "/")
	if i := strings.LastIndexByte(kind, '/'); i >= 0 {
		sid, err = url.PathUnescape(kind[i+1:])
		kind = kind[:i+1]
	}
	return kind, sid, err
}

// Refuses says whether what is asked for has no such method, which Serve answers whoever asks: Onedata looks at the method before the token.
func Refuses(r *http.Request) bool {
	kind, _, err := resource(r)
	allowed, ok := methods[kind]
	return err == nil && ok && !slices.Contains(strings.Split(allowed, ", "), r.Method)
}

// Serve answers everything below Prefix.
func (a *API) Serve(w http.ResponseWriter, r *http.Request) error {
	kind, sid, err := resource(r)
	switch {
	case err != nil || methods[kind] == "":
		return notFound()
	case Refuses(r):
		w.Header().Set("Allow", methods[kind])
		w.WriteHeader(http.StatusMethodNotAllowed)
		return nil
	case !notify.GrantOf(r.Context()).Privileges.Has(notify.MayChanges):
		return forbidden()
	}
	switch kind {
	case "spaces":
		return a.serveSpaces(w, r)
	case "spaces/":
		return a.serveSpace(w, r, sid)
	}
	return a.serveChanges(w, r, sid)
}

func notFound() error { return &notify.Error{Op: "onedata", Kind: notify.NotFound} }

func forbidden() error { return &notify.Error{Op: "onedata", Kind: notify.Forbidden} }

// serveSpaces lists the spaces that the client may see.
func (a *API) serveSpaces(w http.ResponseWriter, r *http.Request) error {
	type item struct {
		ID   string `json:"spaceId"`
		Name string `json:"name"`
	}
	list := []item{}
	g := notify.GrantOf(r.Context())
	for _, s := range a.Files.Roots() {
		switch {
		case !g.Touches(s.Name):
		case s.ID != 0:
			list = append(list, item{s.ID.String(), newSpace(s, g).name})
		case s.Phase == notify.Indexing:
			return unavailable("the spaces are being indexed")
		}
	}
	return writeJSON(w, r, list)
}

// serveSpace describes one space.
func (a *API) serveSpace(w http.ResponseWriter, r *http.Request, sid string) error {
	s, ok, err := a.find(r.Context(), sid)
	if err != nil {
		return err
	}
	if !ok {
		return notFound()
	}
	type server struct {
		ID   string `json:"providerId"`
		Name string `json:"providerName"`
	}
	dir := string(appendFileID(nil, s.ID, s.ID))
	return writeJSON(w, r, struct {
		ID        string   `json:"spaceId"`
		Name      string   `json:"name"`
		Providers []server `json:"providers"`
		FileID    string   `json:"fileId"`
		DirID     string   `json:"dirId"`
	}{s.ID.String(), newSpace(s, nil).name, []server{{provider, provider}}, dir, dir})
}

// find gives the root that is a space, if the client may see anything of it. While a root is not known by its ID yet, an unknown ID may be that of one.
func (a *API) find(ctx context.Context, sid string) (root notify.RootState, ok bool, err error) {
	id, bad := notify.ParseFileID(sid)
	g := notify.GrantOf(ctx)
	for _, s := range a.Files.Roots() {
		switch {
		case !g.Touches(s.Name):
		case s.ID == id && bad == nil:
			return s, true, nil
		case s.ID == 0 && s.Phase == notify.Indexing:
			err = unavailable("the spaces are being indexed")
		}
	}
	return root, false, err
}

func unavailable(why string) error {
	return &notify.Error{Op: "onedata", Kind: notify.Unavailable, Msg: why, Retry: 5 * time.Second}
}

func writeJSON(w http.ResponseWriter, r *http.Request, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return &notify.Error{Op: "onedata", Kind: notify.Internal, Err: err}
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	if r.Method != http.MethodHead {
		w.Write(b) // an error breaks the connection, which the client sees
	}
	return nil
}

// serveChanges serves one stream until the client, the server or the space ends it. What is wrong with a request is found in the order in which
// Onedata finds it: the space, the content type, the query, the body.
func (a *API) serveChanges(w http.ResponseWriter, r *http.Request, sid string) error {
	root, ok, err := a.find(r.Context(), sid)
	if err != nil {
		return err
	}
	if !ok {
		return forbidden() // as Onedata has it
	}
	if !strings.EqualFold(strings.TrimSpace(r.Header.Get("Content-Type")), "application/json") {
		w.WriteHeader(http.StatusUnsupportedMediaType)
		return nil
	}
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	body, err := readBody(r.Body)
	if err != nil {
		return err
	}
	want, err := parseSpec(body)
	if err != nil {
		return err
	}
	switch root.Phase {
	case notify.Indexing:
		return unavailable("the space is being indexed")
	case notify.Away:
		return unavailable("the directory of the space is not there at the moment")
	}
	release, err := a.Admit(r)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	stop := context.AfterFunc(a.Drain, func() { cancel(errDrain) })
	defer stop()

	s := &stream{API: a, query: q, space: newSpace(root, notify.GrantOf(ctx)), w: w, rc: http.NewResponseController(w), client: r.RemoteAddr}
	s.writing = writing{space: &s.space, other: func(id notify.FileID) (notify.Entry, error) { return a.Files.LookupID(ctx, id) }}
	s.out = encoder{spec: want, space: s.space, sid: root.ID.String(), owners: &a.owners, xattrs: func(id notify.FileID) map[string][]byte {
		x, err := a.Files.UserXattrs(ctx, id)
		if err != nil {
			a.Log.Debug("extended attributes cannot be read", "id", id.String(), "err", err)
		}
		return x
	}}
	return s.serve(ctx)
}

var errDrain error = &notify.Error{Op: "onedata", Kind: notify.Closed, Msg: "the server stops"}
