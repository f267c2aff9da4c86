// Package box serves Box's events API, so that clients of Box follow this journal unmodified:
//
//	GET     /2.0/events                a page of events behind a position
//	OPTIONS /2.0/events                where to long-poll
//	GET     /2.0/events/poll           the long poll: answers when there is news
//	GET     /2.0/files/{id}            one file
//	GET     /2.0/folders/{id}          one folder; "0" is All Files, in which each root is a folder
//	GET     /2.0/folders/{id}/items    what is in a folder, page by page
//
// The protocol, the mapping from what a file system does to Box's events and what is put where a file system knows nothing are written
// down in docs/protocols/box.md.
//
// A position is a [notify.Seq]: the same place as in every other protocol. A page is made of what lies between a position and the head.
// Of several changes of one file's content in a row only the last is told. Where closes can be seen, a page ends before a write whose file is still
// open, for Options.Hold at most: so that a file that is written at one go is one event. Nothing is ever left out that is not followed by an
// event with a later state.
//
// Not promised: that a client hears of a gap. Box's protocol has no words for it: a position that is not kept reads from the
// oldest, one that is newer than the journal from the head; both are logged and told to Options.Lost.
//
// An [API] may be used from any goroutine. New starts none. [API.Run] answers the long polls that wait: none of them
// has a goroutine, but for those over HTTP/2.
package box

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/feed"
)

// Files is what this protocol asks of the watched trees; server.Files has it, and says what each method promises.
type Files interface {
	Roots() []notify.RootState
	LookupNames(ctx context.Context, id notify.FileID) ([]notify.Entry, error)
	Snapshot(ctx context.Context, dir notify.FileID, recursive bool) (*notify.Snapshot, error)
	Stat(ctx context.Context, id notify.FileID) (notify.Entry, error)
}

// Observer is told of long polls that wait. Its methods are called from many goroutines and must not wait.
type Observer interface {
	StreamOpened(protocol string)
	StreamClosed(protocol, reason string)
}

// Protocol is the name under which an Observer hears of this package's long polls.
const Protocol = "box"

// Options of an API. Files and Feed must be set; zero values of the others are replaced by what is said here.
type Options struct {
	Files       Files
	Feed        *feed.Feed
	PollTimeout time.Duration // a long poll without news is answered after so long; 10 min, as Box does
	Hold        time.Duration // a page waits so long for the close of a file that is being written; 2 s. < 0: not at all
	Delay       time.Duration // an answer of 4xx waits so long, as Box's clients repeat a request at once; 1 s. < 0: not at all
	Drain       context.Context
	// Admit says whether one more long poll may wait; release is called when it has ended. All may.
	Admit    func(r *http.Request) (release func(), err error)
	Observer Observer // nobody
	// Lost is called for each reader whose position could not be continued without a hole.
	Lost func()
	Log  *slog.Logger
}

// API answers the requests. Make it with New.
type API struct {
	Options
	tail   tail
	polls  polls
	barren barren
	// patience is how long a page goes on that has nothing yet.
	patience time.Duration
	delayed  chan struct{} // one element for each answer that is being delayed
	listing  chan struct{} // and for each folder that is being listed
}

// maxDelayed is how many answers are delayed at once: beyond that, holding them would be the greater load.
const maxDelayed = 1000

// maxListing is how many folders are listed at once, each of which is copied and sorted as a whole.
const maxListing = 4

// New makes an API.
func New(o Options) *API {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.PollTimeout, 10*time.Minute)
	def(&o.Hold, 2*time.Second)
	def(&o.Delay, time.Second)
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
	a := &API{Options: o, delayed: make(chan struct{}, maxDelayed), listing: make(chan struct{}, maxListing), patience: emptyAPage}
	a.tail.init(a)
	a.polls.kick = make(chan struct{}, 1)
	return a
}

type nobody struct{}

func (nobody) StreamOpened(string)      {}
func (nobody) StreamClosed(_, _ string) {}

// Serve answers everything below /2.0/. The URL of r has the client's scheme.
func (a *API) Serve(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Box-Request-Id", randomID(16)) // whatever the answer will be, and whoever writes it
	rest, ok := strings.CutPrefix(r.URL.Path, "/2.0/")
	if !ok {
		return noSuchResource()
	}
	kind, rest, _ := strings.Cut(strings.TrimSuffix(rest, "/"), "/")
	switch kind {
	case "events":
		switch rest {
		case "":
			if r.Method == http.MethodOptions {
				return a.only(w, r, "OPTIONS", a.serveServers)
			}
			return a.only(w, r, "GET, HEAD, OPTIONS", a.serveEvents)
		case "poll":
			return a.only(w, r, "GET", a.servePoll)
		}
	case "files", "folders":
		id, action, _ := strings.Cut(rest, "/")
		switch {
		case id == "":
		case action == "":
			return a.only(w, r, "GET, HEAD", func(w http.ResponseWriter, r *http.Request) error {
				return a.serveItem(w, r, kind == "folders", id)
			})
		case action == "items" && kind == "folders":
			return a.only(w, r, "GET, HEAD", func(w http.ResponseWriter, r *http.Request) error {
				return a.serveItems(w, r, id)
			})
		}
	}
	return noSuchResource()
}

// only calls f if r's method is among those allowed and its query can be read.
func (a *API) only(w http.ResponseWriter, r *http.Request, allowed string, f func(http.ResponseWriter, *http.Request) error) error {
	for m := range strings.SplitSeq(allowed, ", ") {
		if m != r.Method {
			continue
		}
		if _, err := url.ParseQuery(r.URL.RawQuery); err != nil {
			return &notify.Error{Op: "box", Kind: notify.Invalid, Err: err, Msg: "The query cannot be read: " + err.Error()}
		}
		return f(w, r)
	}
	w.Header().Set("Allow", allowed)
	a.WriteError(w, r, http.StatusMethodNotAllowed, &notify.Error{Op: "box", Kind: notify.Invalid,
		Msg: r.Method + " is not possible here, " + allowed + " are"})
	return nil
}

func noSuchResource() error {
	return &notify.Error{Op: "box", Kind: notify.NotFound, Msg: "there is no such resource: below /2.0/ there are " +
		"events, files/{id}, folders/{id} and folders/{id}/items"}
}

// root is a root as this protocol shows it.
type root struct {
	served string // the absolute path under which it is served
	name   string // of its folder in All Files
	closes bool   // child_file_closed is told of its files
}

// sight is what one request may see.
type sight struct {
	grant    *notify.Grant
	roots    map[notify.FileID]root
	order    []notify.FileID // by name
	unknown  bool            // there is a root whose file ID is not known yet
	indexing bool            // a root that may be seen is
	progress float64         // of the one that is least far
}

// look makes the sight of a request, which needs the privilege of the change APIs.
func (a *API) look(ctx context.Context) (*sight, error) {
	g := notify.GrantOf(ctx)
	if !g.Privileges.Has(notify.MayChanges) {
		return nil, &notify.Error{Op: "box", Kind: notify.Forbidden, Msg: "this token does not have the privilege \"changes\""}
	}
	s := &sight{grant: g, roots: map[notify.FileID]root{}, progress: 1}
	states := a.Files.Roots()
	last, names := map[string]int{}, map[string]int{}
	for _, st := range states {
		last[lastName(st.Name)]++
	}
	nameOf := func(st *notify.RootState) string { // two names alike in one folder cannot be
		if name := lastName(st.Name); last[name] < 2 {
			return name
		}
		return strings.ReplaceAll(strings.Trim(st.Name, "/"), "/", "_")
	}
	for i := range states {
		names[nameOf(&states[i])]++
	}
	for _, st := range states {
		if st.Phase == notify.Indexing && g.Touches(st.Name) {
			s.indexing, s.progress = true, min(s.progress, st.Progress)
		}
		if st.ID == 0 {
			s.unknown = s.unknown || g.Touches(st.Name)
			continue
		}
		r := root{served: st.Name, name: nameOf(&st), closes: st.Closes}
		if names[r.name] > 1 {
			r.name += "_" + st.ID.String()
		}
		s.roots[st.ID] = r
		s.order = append(s.order, st.ID)
	}
	return s, nil
}

// whole says whether all roots that may be seen are watched: while one is being indexed, what is created in it need not be told behind any position.
func (s *sight) whole() error {
	if !s.indexing {
		return nil
	}
	return &notify.Error{Op: "box", Kind: notify.Unavailable, Retry: 2 * time.Second,
		Msg: fmt.Sprintf("a root is being indexed, %d %% are done: try again soon", int(100*s.progress))}
}

// lastName is the last part of an absolute path; "root" of the topmost.
func lastName(path string) string {
	path = strings.Trim(path, "/")
	if path == "" {
		return "root"
	}
	return path[strings.LastIndexByte(path, '/')+1:]
}

// full is the absolute path under which something in a root is served.
func (r *root) full(path string) string {
	if path == "" {
		return r.served
	}
	return strings.TrimSuffix(r.served, "/") + "/" + path
}

// sees says whether an entry of a root may be shown with all that is known of it.
func (s *sight) sees(r *root, path string) bool {
	return s.grant.Prefixes == nil || s.grant.Sees(r.full(path))
}

// touches says whether an entry may be shown, be it as the way down to one that may be seen.
func (s *sight) touches(r *root, path string) bool {
	return s.grant.Prefixes == nil || s.grant.Touches(r.full(path))
}

// everything lets look-ups through that a grant's prefixes would refuse: the way down to them is shown here, and who asks for it filters what
// is found with sees and touches.
func everything(ctx context.Context) context.Context {
	return notify.WithGrant(ctx, notify.Everything)
}
