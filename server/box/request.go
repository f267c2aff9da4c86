package box

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"fs_notify/notify"
)

// stream is a stream_type.
type stream uint8

const (
	streamAll stream = iota
	streamChanges
	streamSync
	adminLogs
	adminStreaming
)

var streamNames = [...]string{"all", "changes", "sync", "admin_logs", "admin_logs_streaming"}

func (s stream) String() string { return streamNames[s] }

// enterprise says whether the stream is one for administrators.
func (s stream) enterprise() bool { return s >= adminLogs }

// positionKind is how a client says where to begin.
type positionKind uint8

const (
	fromOldest positionKind = iota // absent, 0, null
	fromNow
	fromSeq
	fromFuture // a number that no position of ours can be
)

// position is a stream_position.
type position struct {
	kind positionKind
	seq  notify.Seq
}

// query is what a request for events asks for, as values.
type query struct {
	stream        stream
	pos           position
	limit         int
	types         map[string]bool // event_type; nil: all
	after, before time.Time       // zero: no bound
	peek          bool            // only to see whether there is anything
}

// inPlace says whether an event lies where its first notification does. Then all that the page has of it belongs to it.
func (q *query) inPlace() bool { return q.stream.enterprise() || q.peek }

// wanted leaves those types of event that were asked for.
func (q *query) wanted(names []string) []string {
	if q.types == nil {
		return names
	}
	var out []string
	for _, name := range names {
		if q.types[name] {
			out = append(out, name)
		}
	}
	return out
}

const (
	defaultLimit = 100
	maxLimit     = 500
)

// parseQuery reads the parameters of GET /2.0/events. Those that it does not know are passed over.
func parseQuery(v url.Values) (query, error) {
	q := query{limit: defaultLimit}
	var err error
	if q.stream, err = parseStream(v.Get("stream_type")); err != nil {
		return q, err
	}
	if q.pos, err = parsePosition(v.Get("stream_position")); err != nil {
		return q, err
	}
	if q.limit, err = parseLimit(v.Get("limit"), defaultLimit, maxLimit); err != nil {
		return q, err
	}
	if !q.stream.enterprise() {
		return q, nil
	}
	for _, list := range v["event_type"] {
		for t := range strings.SplitSeq(list, ",") {
			if t = strings.ToUpper(strings.TrimSpace(t)); t != "" {
				if q.types == nil {
					q.types = map[string]bool{}
				}
				q.types[t] = true
			}
		}
	}
	if q.stream != adminLogs {
		return q, nil
	}
	if q.after, err = parseTime("created_after", v.Get("created_after")); err != nil {
		return q, err
	}
	q.before, err = parseTime("created_before", v.Get("created_before"))
	return q, err
}

func parseStream(s string) (stream, error) {
	if s == "" {
		return streamAll, nil
	}
	for i, n := range streamNames {
		if s == n {
			return stream(i), nil
		}
	}
	return 0, badParameter("stream_type", s, strings.Join(streamNames[:], ", "))
}

func parsePosition(s string) (position, error) {
	switch s {
	case "", "0", "null":
		return position{kind: fromOldest}, nil
	case "now":
		return position{kind: fromNow}, nil
	}
	for _, c := range s {
		if c < '0' || c > '9' {
			return position{}, badParameter("stream_position", s, "now, 0, or a position that was handed out before")
		}
	}
	n, err := strconv.ParseUint(s, 10, 53)
	switch {
	case err != nil:
		return position{kind: fromFuture}, nil
	case n == 0:
		return position{kind: fromOldest}, nil
	}
	return position{fromSeq, notify.Seq(n)}, nil
}

// parseLimit reads a number and brings it into its bounds.
func parseLimit(s string, absent, most int) (int, error) {
	if s == "" || s == "null" {
		return absent, nil
	}
	digits := strings.TrimPrefix(s, "-")
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, badParameter("limit", s, "a number")
		}
	}
	n, err := strconv.Atoi(digits)
	switch {
	case digits == "":
		return 0, badParameter("limit", s, "a number")
	case digits != s:
		return 0, nil
	case err != nil || n > most:
		return most, nil
	}
	return n, nil
}

// parseTime reads a time as Box's clients write it.
func parseTime(name, s string) (time.Time, error) {
	if s == "" || s == "null" {
		return time.Time{}, nil
	}
	// In a query an unescaped "+" of a time zone reads as a blank.
	fixed := strings.Replace(s, " ", "+", 1)
	for _, form := range [...]string{time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05", time.DateOnly} {
		if t, err := time.Parse(form, fixed); err == nil {
			return t, nil
		}
	}
	return time.Time{}, badParameter(name, s, "a time like 2026-01-31T08:00:00-08:00")
}
