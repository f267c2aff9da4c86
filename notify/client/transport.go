package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"fs_notify/notify"
)

// stream is one connection to the server: the RoundTripper below the library. It lets through nothing
// but a running event stream, as whole blocks, and ends it when no byte has come for too long.
// It remembers why it ended, since the library forgets some of the reasons.
type stream struct {
	base  http.RoundTripper
	alive time.Duration // without any byte for so long, the connection is dead
	max   int           // bytes in a block
	// err is why the connection ended, nil for a clean end. Written by the goroutine that reads, and
	// read after the library has returned.
	err    error
	blocks *blocks // of the running event stream, nil without one; for the same goroutines
}

// refused gives what the server said instead of a stream that ended in good order; nil if that one had begun.
func (s *stream) refused() error {
	if s.blocks == nil || s.blocks.granted || s.blocks.instead == "" {
		return nil
	}
	return &notify.Error{Op: "client.Watch", Kind: notify.Unavailable, Msg: s.blocks.instead}
}

// errSilent is the cause with which the liveness timer cancels a request.
var errSilent = errors.New("the server has gone silent")

// RoundTrip gives a response only if it is an event stream; any other answer is an error.
func (s *stream) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	silent := time.AfterFunc(s.alive, func() { cancel(errSilent) })
	s.err = nil
	resp, err := s.base.RoundTrip(req.WithContext(ctx))
	silent.Stop()
	if err != nil {
		cancel(nil)
		s.err = s.explain(ctx, err)
		return nil, s.err
	}
	live := &liveBody{ctx: ctx, cancel: cancel, body: resp.Body, timer: silent, s: s}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.Header.Get("Location") != "" {
		resp.Body = live // the http.Client follows it
		return resp, nil
	}
	if err := refusal(resp, live); err != nil {
		live.Close()
		s.err = err
		return nil, err
	}
	s.blocks = newBlocks(live, s.max)
	resp.Body = struct {
		io.Reader
		io.Closer
	}{s.blocks, live}
	return resp, nil
}

// explain turns a transport's error into one that says what happened.
func (s *stream) explain(ctx context.Context, err error) error {
	if context.Cause(ctx) == errSilent {
		return &notify.Error{Op: "client.Watch", Kind: notify.Unavailable, Err: errSilent,
			Msg: fmt.Sprintf("no byte from the server for %v", s.alive)}
	}
	return err
}

// liveBody reads a response's body under the liveness timer, which runs only while a Read
// waits: a slow handler is not a dead server.
type liveBody struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	timer  *time.Timer
	s      *stream
}

func (l *liveBody) Read(p []byte) (int, error) {
	l.timer.Reset(l.s.alive)
	n, err := l.body.Read(p)
	l.timer.Stop()
	if err != nil && err != io.EOF {
		err = l.s.explain(l.ctx, err)
		l.s.err = err
	}
	return n, err
}

func (l *liveBody) Close() error {
	l.timer.Stop()
	l.cancel(nil)
	return l.body.Close()
}

// refusal gives nil for an event stream, else what the server said instead. body is the response's.
func refusal(resp *http.Response, body io.Reader) error {
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode == http.StatusOK && media == "text/event-stream" {
		return nil
	}
	if resp.StatusCode < 400 {
		return &notify.Error{Op: "client.Watch", Kind: notify.Invalid,
			Msg: fmt.Sprintf("the server answered %q with content type %q where an event stream should come: is it an fs_notify server?", resp.Status, media)}
	}
	text, _ := io.ReadAll(io.LimitReader(body, 64<<10))
	e := &notify.Error{Op: "client.Watch", Kind: kindOf(resp.StatusCode), Retry: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	var said struct {
		Description string    `json:"description"`
		Class       string    `json:"error_class"`
		Oldest      looseUint `json:"oldest"`
		Head        looseUint `json:"head"`
	}
	if json.Unmarshal(text, &said) == nil && said.Description != "" {
		e.Msg = said.Description
		e.Bounds = notify.Bounds{Base: notify.Seq(said.Oldest).Batch(), Head: notify.Seq(said.Head).Batch()}
		if said.Class == "fs_not_a_directory_error" {
			e.Kind = notify.NotDirectory
		}
	} else {
		e.Msg = "the server answered " + strconv.Quote(resp.Status)
		if line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n"); line != "" && !strings.HasPrefix(line, "<") {
			e.Msg += ": " + strconv.Quote(line[:min(len(line), 200)])
		}
	}
	return e
}

// kindOf maps a status of 400 and above to what a caller can act on.
func kindOf(status int) notify.Kind {
	switch status {
	case http.StatusUnauthorized:
		return notify.Unauthorized
	case http.StatusForbidden:
		return notify.Forbidden
	case http.StatusNotFound:
		return notify.NotFound
	case http.StatusGone:
		return notify.Gone
	case http.StatusTooManyRequests:
		return notify.TooMany
	case http.StatusRequestTimeout, http.StatusTooEarly:
		return notify.Unavailable
	}
	if status >= 500 {
		return notify.Unavailable
	}
	return notify.Invalid
}

// retryAfter reads the header's two forms, seconds and a date; 0 for anything else.
func retryAfter(v string, now time.Time) time.Duration {
	if secs, err := strconv.ParseUint(v, 10, 32); err == nil {
		return time.Duration(secs) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}

// looseUint is a number that may stand in quotes; what is neither counts as 0.
type looseUint uint64

func (n *looseUint) UnmarshalJSON(b []byte) error {
	v, _ := strconv.ParseUint(strings.Trim(string(b), `"`), 10, 53)
	*n = looseUint(v)
	return nil
}
