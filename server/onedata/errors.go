package onedata

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"fs_notify/notify"
)

// fault is what is wrong with a request, by the ID that Onedata gives it.
type fault struct {
	id      string
	details map[string]any // nil: none
	text    string
}

func (f *fault) Error() string { return f.id + ": " + f.text }

func invalid(f *fault) error {
	return &notify.Error{Op: "onedata", Kind: notify.Invalid, Msg: f.text, Err: f}
}

// bad makes a fault of a value: text ends the sentence that begins with its key.
func bad(id, key, text string) error {
	return invalid(&fault{id, map[string]any{"key": key}, fmt.Sprintf("Bad value: provided %q %s", key, text)})
}

const specification = "changesSpecification" // the key of the whole body

func badJSON() error { return bad("badValueJSON", specification, "must be a valid JSON.") }

func badEmpty() error { return bad("badValueEmpty", specification, "must not be empty.") }

func badList(key string) error {
	return bad("badValueListOfStrings", key, "must be a list of strings.")
}

func badBoolean(key string) error { return bad("badValueBoolean", key, "must be a boolean.") }

func badInteger(key string) error { return bad("badValueInteger", key, "must be an integer.") }

func badData(key string) error {
	return bad("badData", key, "has an invalid format or is incomprehensible in the context of this operation.")
}

func badTooLow(key string, limit int) error {
	return invalid(&fault{"badValueTooLow", map[string]any{"key": key, "limit": limit}, fmt.Sprintf("Bad value: provided %q must be at least %d.", key, limit)})
}

func badNotAllowed(key string, allowed []string) error {
	return invalid(&fault{"badValueNotAllowed", map[string]any{"key": key, "allowed": allowed},
		fmt.Sprintf("Bad value: provided %q must be one of: %s.", key, strings.Join(allowed, ", "))})
}

// general are the faults that are not about a value.
var general = map[notify.Kind]fault{
	notify.Internal:     {id: "internalServerError", text: "The server has encountered an error while processing this request."},
	notify.Invalid:      {id: "badMessage", text: "This message could not be understood by the server."},
	notify.Unauthorized: {id: "unauthorized", text: "You must authenticate yourself to perform this operation."},
	notify.Forbidden:    {id: "forbidden", text: "You are not authorized to perform this operation."},
	notify.NotFound:     {id: "notFound", text: "The resource could not be found."},
	notify.Unavailable:  {id: "temporaryFailure", text: "Temporary failure - please try again later."},
}

// faultOf words an error as Onedata does.
func faultOf(r *http.Request, err error) fault {
	var f *fault
	if errors.As(err, &f) {
		return *f
	}
	kind := notify.KindOf(err)
	switch kind {
	case notify.Corrupt, notify.Gone:
		kind = notify.Internal
	case notify.TooMany, notify.Closed:
		kind = notify.Unavailable
	case notify.NotDirectory:
		kind = notify.NotFound
	}
	g := general[kind]
	switch {
	case kind == notify.Unauthorized && hasToken(r):
		g.text = "Provided authentication is not valid (see details)."
		g.details = map[string]any{"authError": map[string]any{"id": "badToken", "description": "Provided token could not be understood by the server."}}
	case kind == notify.Unavailable:
		g.details = map[string]any{"hint": notify.Message(err)}
	}
	return g
}

func hasToken(r *http.Request) bool {
	for _, h := range []string{"X-Auth-Token", "Authorization", "Macaroon"} {
		if r.Header.Get(h) != "" {
			return true
		}
	}
	return false
}

// WriteError answers with an error as Onedata words it: {"error": {id, details, description, ctx}}. Of err, only
// what is meant for clients goes out.
func (a *API) WriteError(w http.ResponseWriter, r *http.Request, status int, err error) {
	type errorContext struct {
		Timestamp int64  `json:"timestamp"` // milliseconds
		Service   string `json:"service"`
		ServiceID string `json:"serviceId"`
		Domain    string `json:"serviceDomain"`
		Release   string `json:"serviceReleaseVersion"`
		Build     string `json:"serviceBuildVersion"`
		Revision  string `json:"onedataErrorsRevision"`
		Module    string `json:"module"`
		Line      int    `json:"line"`
	}
	type errorBody struct {
		ID          string         `json:"id"`
		Details     map[string]any `json:"details,omitempty"`
		Description string         `json:"description"`
		Context     errorContext   `json:"ctx"`
	}
	f := faultOf(r, err)
	b, jerr := json.Marshal(map[string]errorBody{"error": {ID: f.id, Details: f.details, Description: f.text, Context: errorContext{
		Timestamp: time.Now().UnixMilli(), Service: "opw", ServiceID: provider, Domain: r.Host, Release: a.Version, Build: a.Version, Module: "fs_notify"}}})
	if jerr != nil {
		b = []byte("{}") // cannot be: all of it is strings and numbers
	}
	h := w.Header()
	h.Del("WWW-Authenticate") // its clients are not asked that way
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(b) // an error breaks the connection, which the client sees
	}
}
