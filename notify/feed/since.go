package feed

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"fs_notify/notify"
)

// SinceKind is the way in which a client says where to begin.
type SinceKind uint8

// The ways to say where to begin.
const (
	SinceNow      SinceKind = iota // only what is to come
	SinceCursor                    // behind a Seq, and perhaps with its directory
	SinceTime                      // with the first batch written at or after a time
	SinceOldest                    // with the oldest batch that is kept
	SinceSnapshot                  // with what is there now
)

// Since is where a client wants to begin.
type Since struct {
	Kind   SinceKind
	Cursor notify.Cursor // SinceCursor
	Time   time.Time     // SinceTime
}

// ParseSince reads "now" (or ""), a cursor (SEQ or SEQ.DIRID), a time as in RFC 3339, a time span before
// now ("90s", "5m", "2h30m", "7d"), "oldest" or "snapshot". Anything else is Invalid.
func ParseSince(s string, now time.Time) (Since, error) {
	switch s {
	case "", "now":
		return Since{Kind: SinceNow}, nil
	case "oldest":
		return Since{Kind: SinceOldest}, nil
	case "snapshot":
		return Since{Kind: SinceSnapshot}, nil
	}
	if c, err := notify.ParseCursor(s); err == nil {
		return Since{Kind: SinceCursor, Cursor: c}, nil
	}
	// In a query an unescaped "+" of a time zone reads as a blank.
	if t, err := time.Parse(time.RFC3339, strings.Replace(s, " ", "+", 1)); err == nil {
		return Since{Kind: SinceTime, Time: t}, nil
	}
	if d, ok := parseSpan(s); ok {
		return Since{Kind: SinceTime, Time: now.Add(-d)}, nil
	}
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return Since{}, &notify.Error{Op: "feed.ParseSince", Kind: notify.Invalid, Msg: fmt.Sprintf("%q is no place to begin: it should be "+
		"a sequence number, a time like 2026-01-31T08:00:00Z, a time span like 5m or 7d, now, oldest or snapshot", s)}
}

// parseSpan reads a duration as Go does, or whole days, "7d".
func parseSpan(s string) (time.Duration, bool) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16) // of more it gives the most, which is before every journal, too
		more := errors.Is(err, strconv.ErrRange) && strings.Trim(days, "0123456789") == ""
		return time.Duration(n) * 24 * time.Hour, err == nil || more
	}
	d, err := time.ParseDuration(s)
	return d, err == nil && d >= 0
}
