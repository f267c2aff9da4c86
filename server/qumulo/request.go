package qumulo

import (
	"errors"
	"math"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/feed"
)

// request is what a notify request asks for, as values.
type request struct {
	ref       Ref
	recursive bool
	types     notify.TypeSet
	include   []string // globs below the directory
	exclude   []string
	fields    notify.Fields
	stream    bool          // the client takes text/event-stream
	filled    bool          // it may be an EventSource, and those of some browsers take no id of a block without data
	since     feed.Since    // where to begin: from Last-Event-ID, last_event_id or since, in this order
	snapshot  bool          // since=snapshot, even if an id stood before it
	reset     bool          // gap=reset: go on after a gap, and say so
	timeout   time.Duration // end after so much silence; < 0: never
}

// dir is the directory that a resumed stream names in its id; 0 if none.
func (q *request) dir() notify.FileID {
	if q.since.Kind == feed.SinceCursor {
		return q.since.Cursor.Dir
	}
	return 0
}

// fresh says whether the request asks for the present.
func (q *request) fresh() bool {
	return q.since.Kind == feed.SinceNow || q.since.Kind == feed.SinceSnapshot
}

func parseRequest(r *http.Request, c call, now time.Time) (*request, error) {
	q := &request{ref: c.ref, stream: acceptsStream(r.Header.Values("Accept")), timeout: -1}
	// So the standard has an EventSource ask; of browsers, Firefox and Safari drop what Chromium and the standard take.
	q.filled = q.stream && strings.Contains(strings.ToLower(strings.Join(r.Header.Values("Cache-Control"), ",")), "no-cache")
	err := once(c.query, "fields", "gap", "timeout", "since", "last_event_id")
	if err != nil {
		return nil, err
	}
	if q.types, err = notify.ParseFilter(c.query["filter"]...); err != nil {
		return nil, err
	}
	if q.recursive, err = parseBool(c.query, "recursive"); err != nil {
		return nil, err
	}
	q.include, q.exclude = globs(c.query, "include"), globs(c.query, "exclude")
	switch v := c.query.Get("fields"); v {
	case "", "qumulo":
	case "all":
		q.fields = notify.FieldsAll
	default:
		return nil, invalid("fields=%q should be all, or not be there", v)
	}
	switch v := c.query.Get("gap"); v {
	case "", "error":
	case "reset":
		q.reset = true
	default:
		return nil, invalid("gap=%q should be reset, or not be there", v)
	}
	if v := c.query.Get("timeout"); v != "" {
		ms, err := strconv.ParseUint(v, 10, 32)
		if errors.Is(err, strconv.ErrRange) {
			return nil, invalid("timeout=%q is too long: it should be %d milliseconds (49 days) or less, or not be there for no limit", v, uint32(math.MaxUint32))
		}
		if err != nil {
			return nil, invalid("timeout=%q should be a number of milliseconds", v)
		}
		q.timeout = time.Duration(ms) * time.Millisecond
	}
	if q.since, err = feed.ParseSince(c.query.Get("since"), now); err != nil {
		return nil, err
	}
	q.snapshot = q.since.Kind == feed.SinceSnapshot
	id := r.Header.Get("Last-Event-ID")
	if id == "" {
		id = c.query.Get("last_event_id")
	}
	if id != "" {
		cursor, err := notify.ParseCursor(id)
		if err != nil {
			return nil, err
		}
		q.since = feed.Since{Kind: feed.SinceCursor, Cursor: cursor}
	}
	return q, nil
}

// globs reads a parameter that may be repeated; an empty value is none.
func globs(query url.Values, name string) []string {
	return slices.DeleteFunc(query[name], func(g string) bool { return g == "" })
}

// once refuses parameters that stand for one value and have several.
func once(query url.Values, names ...string) error {
	for _, name := range names {
		for _, v := range query[name] {
			if first := query.Get(name); v != first {
				return invalid("%s=%q and %s=%q contradict each other: it should be given once", name, first, name, v)
			}
		}
	}
	return nil
}

// parseBool reads a parameter that says yes or no; absent is no.
func parseBool(query url.Values, name string) (bool, error) {
	if err := once(query, name); err != nil || !query.Has(name) {
		return false, err
	}
	switch v := query.Get(name); strings.ToLower(v) {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	default:
		return false, invalid("%s=%q should be true or false", name, v)
	}
}

// acceptsStream says whether a client takes text/event-stream: browsers ask for it and curl takes anything. A
// client that sends no Accept, or names other types only, is taken for one of Qumulo's own.
func acceptsStream(accept []string) bool {
	ok, exact := false, 0 // how exactly the best range so far names the type
	for _, header := range accept {
		for part := range strings.SplitSeq(header, ",") {
			t, params, err := mime.ParseMediaType(part)
			if err != nil {
				continue
			}
			n := 0
			switch t {
			case "text/event-source":
				n = 3
			case "text/event-stream":
				n = 4
			case "text/*":
				n = 2
			case "*/*":
				n = 1
			}
			if n > exact {
				quality, err := strconv.ParseFloat(params["q"], 64)
				ok, exact = (err != nil || quality > 0) && n != 3, n
			}
		}
	}
	return ok
}
