// Package huddle serves the change list of Huddle's workspaces from the journal, read-only:
//
//	GET /entry                                 the workspaces that may be seen
//	GET /workspaces/{id}                       one workspace: a root, by its file ID
//	GET /workspaces/{id}/changes               its changes, newest first, in pages
//	GET /files/change-sets/{kind}/{id}/{seq}   one change
//	GET /files/documents/{id}                  a file
//	GET /files/folders/{id}                    a directory
//	GET /users/{uid}                           a user of this machine; also /profile
//	GET /files/users/{uid}/avatar              and a picture of sorts
//
// All of it comes as XML or as its JSON twin. The protocol, with what this server adds to it, is written down in docs/protocols/huddle.md; which
// notification becomes which type of change, in [Table].
//
// What a batch of the journal amounts to is a pure function of the batch and of what the client may see. A page is an
// interval of Seqs, and its links name the intervals beside it: whoever walks them sees each change once, whatever comes
// meanwhile. A page costs what it shows, whatever the length of the journal; where little of what was scanned may be shown, it is
// short or empty, and its links lead on.
//
// Handlers take net/http types, with the client's scheme in the URL, and return an error if nothing was written yet; [WriteError] words it.
// An [API] may be used from any goroutine and starts none.
package huddle

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
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
}

// Options of an API. Files and Feed must be set; zero values of the others are replaced by what is said here.
type Options struct {
	Files Files
	Feed  *feed.Feed
	Users func(uid uint32) User // who a user is; the machine's own accounts
	Log   *slog.Logger          // nowhere
	Now   func() time.Time      // time.Now
}

// API answers the requests. Make it with New.
type API struct {
	Options
	ages ages
}

// New makes an API.
func New(o Options) *API {
	if o.Users == nil {
		o.Users = newAccounts().find
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &API{Options: o}
}

// Routes are the patterns of the paths that [API.Serve] answers.
func Routes() []string {
	return []string{"/entry", "/workspaces/*", "/files/change-sets/*", "/files/documents/*", "/files/folders/*", "/files/users/*", "/users/*"}
}

const methods = "GET, HEAD, OPTIONS"

// Serve answers everything below [Routes].
func (a *API) Serve(w http.ResponseWriter, r *http.Request) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		w.Header().Set("Allow", methods)
		w.WriteHeader(http.StatusNoContent)
		return nil
	default:
		w.Header().Set("Allow", methods)
		WriteError(w, r, http.StatusMethodNotAllowed, &notify.Error{Op: "huddle", Kind: notify.Invalid,
			Msg: r.Method + " is not possible here, " + methods + " are"})
		return nil
	}
	if !notify.GrantOf(r.Context()).Privileges.Has(notify.MayChanges) {
		return &notify.Error{Op: "huddle", Kind: notify.Forbidden, Msg: "this token lacks the privilege \"changes\""}
	}
	if _, err := url.ParseQuery(r.URL.RawQuery); err != nil {
		return &coded{"BadRequest", &notify.Error{Op: "huddle", Kind: notify.Invalid, Err: err, Msg: "the query cannot be read: " + err.Error()}}
	}
	word := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	is := func(pattern ...string) bool {
		if len(word) != len(pattern) {
			return false
		}
		for i, p := range pattern {
			if p != "" && p != word[i] {
				return false
			}
		}
		return true
	}
	switch {
	case is("entry"):
		return a.serveEntry(w, r)
	case is("workspaces", ""):
		return a.serveWorkspace(w, r, word[1])
	case is("workspaces", "", "changes"):
		return a.serveChanges(w, r, word[1])
	case is("files", "change-sets", "document", "", ""), is("files", "change-sets", "folder", "", ""):
		return a.serveChange(w, r, word[3], word[4])
	case is("files", "documents", ""):
		return a.serveObject(w, r, word[2], false)
	case is("files", "folders", ""):
		return a.serveObject(w, r, word[2], true)
	case is("users", ""), is("users", "", "profile"):
		return a.serveUser(w, r, word[1], len(word) == 3)
	case is("files", "users", "", "avatar"):
		return a.serveAvatar(w, r, word[2])
	}
	return notFound("there is no such resource")
}

// parseID reads a number of a path. Huddle answers 404, not 400, to one that is none.
func parseID(s string) (notify.FileID, error) {
	id, err := notify.ParseFileID(s)
	if err != nil {
		return 0, &coded{"ResourceMatchingFailed", &notify.Error{Op: "huddle", Kind: notify.NotFound, Err: err, Msg: clip(s) + " is not a number that names anything here"}}
	}
	return id, nil
}

func clip(s string) string {
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return s
}

func notFound(msg string) error {
	return &coded{"ObjectNotFound", &notify.Error{Op: "huddle", Kind: notify.NotFound, Msg: msg}}
}

func indexing() error {
	return &notify.Error{Op: "huddle", Kind: notify.Unavailable, Retry: 2 * time.Second, Msg: "the workspace is being indexed, try again soon"}
}

// workspace is a root as one client sees it.
type workspace struct {
	id    notify.FileID
	root  notify.RootState
	grant *notify.Grant
	links linker
}

// sees says whether the client may see the entry with a path in the root.
func (ws *workspace) sees(path string) bool { return ws.grant.Sees(ws.full(path)) }

func (ws *workspace) full(path string) string {
	if path == "" {
		return ws.root.Name
	}
	return strings.TrimSuffix(ws.root.Name, "/") + "/" + path
}

// workspaceOf finds the workspace that is the root with an ID.
func (a *API) workspaceOf(r *http.Request, id notify.FileID) (*workspace, error) {
	grant := notify.GrantOf(r.Context())
	unknown := false
	for _, s := range a.Files.Roots() {
		if s.ID == id && grant.Touches(s.Name) {
			return &workspace{id: id, root: s, grant: grant, links: linkerOf(r)}, nil
		}
		unknown = unknown || s.ID == 0 && grant.Touches(s.Name)
	}
	if unknown {
		return nil, indexing() // it may be that one
	}
	// The journal may tell of a root that is served no longer. Its name is not known, so only who may see all is told.
	if grant.Prefixes == nil {
		if back, err := a.Feed.PageBack(r.Context(), id, a.Feed.Log().Bounds().Head, 1); err != nil {
			return nil, err
		} else if len(back) > 0 && back[0].Root == id {
			return nil, &coded{"WorkspaceDeleted", &notify.Error{Op: "huddle", Kind: notify.Gone, Msg: "workspace " + id.String() + " is served no longer"}}
		}
	}
	return nil, notFound("there is no workspace " + id.String())
}

// linker makes the links of one answer.
type linker string

// linkerOf takes the address that the client itself used, so that it can follow the links from where it is.
func linkerOf(r *http.Request) linker { return linker(r.URL.Scheme + "://" + r.Host) }

func (l linker) to(path ...string) string { return string(l) + "/" + strings.Join(path, "/") }

func (l linker) workspace(id notify.FileID) string { return l.to("workspaces", id.String()) }

func (l linker) object(id notify.FileID, dir bool) string {
	if dir {
		return l.to("files/folders", id.String())
	}
	return l.to("files/documents", id.String())
}

func (l linker) user(uid uint32) string { return l.to("users", strconv.FormatUint(uint64(uid), 10)) }
