package notify

import (
	"errors"
	"fmt"
	"time"
)

// Kind is what a caller can act on: errors.Is(err, notify.Gone).
type Kind uint8

// The kinds of errors. One table in package server maps them to a status.
const (
	Internal     Kind = iota // a fault of ours
	Invalid                  // the request is wrong and will stay so
	NotDirectory             // the entry exists but is not a directory
	Unauthorized             // who are you?
	Forbidden                // you may not
	NotFound                 // no such entry below any root
	Gone                     // the cursor is older, or other, than what is kept
	TooMany                  // a limit of this client's
	Unavailable              // not now: indexing, root away, overload
	Corrupt                  // stored bytes do not say what they should
	Closed                   // the thing was shut down
)

var kindNames = [...]string{"internal error", "invalid", "not a directory", "unauthorized", "forbidden", "not found", "gone", "too many", "unavailable", "corrupt", "closed"}

// Error makes a Kind usable as a target of errors.Is.
func (k Kind) Error() string { return kindNames[k] }

// Error is what crosses package borders.
type Error struct {
	Op    string        // "journal.Append"
	Path  string        // "" where no entry is involved
	Kind  Kind          // for the caller to act on
	Msg   string        // for the client: what was wrong and what would be right; "" if Kind says it all
	Err   error         // for the log, never for the client
	Retry time.Duration // when it may be worth to try again; 0 says nothing
	// Bounds of the journal, for Gone: what would be readable.
	Bounds Bounds
}

// Error gives operation, path, message and cause, those that are set.
func (e *Error) Error() string {
	s := e.Op
	if e.Path != "" {
		s += fmt.Sprintf(" %q", e.Path)
	}
	if e.Msg != "" {
		s += ": " + e.Msg
	} else {
		s += ": " + e.Kind.Error()
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap lets errors.Is find both the Kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// KindOf gives the Kind of the outermost Error in err's chain; Internal if there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// Message is what may be told to a client about err.
func Message(err error) string {
	var e *Error
	if !errors.As(err, &e) {
		return Internal.Error()
	}
	if e.Msg != "" {
		return e.Msg
	}
	return e.Kind.Error()
}
