package qumulo

import (
	"fmt"
	"net/url"
	"strings"

	"fs_notify/notify"
)

// Ref names an entry as a request does: by file ID or by absolute path, never both.
type Ref struct {
	ID   notify.FileID // 0: by path
	Path string        // raw bytes, "/srv/data"; "" : by ID
}

// String is for messages.
func (r Ref) String() string {
	if r.ID != 0 {
		return "entry with the ID " + r.ID.String()
	}
	return fmt.Sprintf("%q", r.Path)
}

// log is for the log.
func (r Ref) log() string {
	if r.ID != 0 {
		return r.ID.String()
	}
	return notify.EscapeName(r.Path)
}

// maxPath is how long a path may be, in bytes; what lies deeper can be named by ID.
const maxPath = 64 << 10

type action uint8

const (
	actionNotify action = iota
	actionEntries
	actionAttributes
	actionResolve
)

// call is a request's path and query, taken apart.
type call struct {
	ref    Ref
	action action
	query  url.Values
}

// parseCall takes an escaped path below /v1/files/ apart. The ref is everything between the prefix and the last
// word, so a path may be given escaped as one component (%2Fsrv%2Fdata) or as it is (srv/data). Guides print the query of notify
// behind an "&", as part of the path: that is taken too.
func parseCall(escaped, rawQuery string) (call, error) {
	rest, ok := strings.CutPrefix(strings.TrimPrefix(escaped, "/api"), "/v1/files/")
	if !ok {
		return call{}, noSuchResource()
	}
	raw, action, ok := cutAction("/" + rest)
	if i := strings.LastIndex(rest, "/notify&"); !ok && i >= 0 {
		raw, action, ok = rest[:i], actionNotify, true
		rawQuery = strings.TrimSuffix(rest[i+len("/notify&"):]+"&"+rawQuery, "&")
	}
	if !ok {
		return call{}, noSuchResource()
	}
	c := call{action: action}
	var err error
	if c.query, err = url.ParseQuery(rawQuery); err != nil {
		return call{}, invalid("the query cannot be read: %v", err)
	}
	if action != actionResolve {
		c.ref, err = parseRef(strings.TrimPrefix(raw, "/"))
	}
	return c, err
}

// cutAction takes the last words off a path. One slash behind them does not count.
func cutAction(path string) (ref string, a action, ok bool) {
	path = strings.TrimSuffix(path, "/")
	if path == "/resolve" {
		return "", actionResolve, true
	}
	for _, word := range [...]struct {
		text   string
		action action
	}{{"/notify", actionNotify}, {"/entries", actionEntries}, {"/info/attributes", actionAttributes}} {
		if ref, ok = strings.CutSuffix(path, word.text); ok {
			return ref, word.action, true
		}
	}
	return "", 0, false
}

// parseRef reads a ref in its escaped form, without the slash before it.
func parseRef(escaped string) (Ref, error) {
	p, err := url.PathUnescape(escaped)
	if err != nil {
		return Ref{}, invalid("the reference cannot be read: %v", err)
	}
	if isDigits(p) {
		id, err := notify.ParseFileID(p)
		return Ref{ID: id}, err
	}
	p = strings.TrimPrefix(p, "/")
	if len(p) > maxPath {
		return Ref{}, invalid("the path is %d bytes long, %d are possible: name the entry by its file ID", len(p), maxPath)
	}
	if strings.IndexByte(p, 0) >= 0 {
		return Ref{}, invalid("a path cannot contain a NUL byte")
	}
	p = strings.TrimSuffix(p, "/")
	if p == "" {
		return Ref{Path: "/"}, nil
	}
	for name := range strings.SplitSeq(p, "/") {
		switch name {
		case "":
			return Ref{}, invalid("the path has an empty component: two slashes in a row")
		case ".", "..":
			return Ref{}, invalid("the path contains %q: give it without", name)
		}
	}
	return Ref{Path: "/" + p}, nil
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func noSuchResource() error {
	return &notify.Error{Op: "qumulo", Kind: notify.NotFound, Msg: "there is no such resource: below /v1/files/ there are " +
		"{ref}/notify, {ref}/entries, {ref}/info/attributes and resolve"}
}

func invalid(format string, args ...any) error {
	return &notify.Error{Op: "qumulo", Kind: notify.Invalid, Msg: fmt.Sprintf(format, args...)}
}
