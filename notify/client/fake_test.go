package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"fs_notify/notify"
)

// fakeServer is a RoundTripper that needs no network, so that it can live in a bubble of fake time.
// It counts from 1.
type fakeServer func(n int, req *http.Request) (*http.Response, error)

type fakeTransport struct {
	answer fakeServer
	n      int
	asked  []*http.Request
	when   []time.Time
}

func (f *fakeTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	f.n++
	f.asked = append(f.asked, req)
	f.when = append(f.when, time.Now())
	return f.answer(f.n, req)
}

// step is one thing that a body does: bytes, then a pause, then err if it is set.
type step struct {
	text  string
	pause time.Duration
	err   error
}

const forever = 1000 * time.Hour

type body struct {
	ctx   context.Context
	steps []step
}

func (b *body) Read(p []byte) (int, error) {
	for len(b.steps) > 0 {
		s := &b.steps[0]
		if s.text != "" {
			n := copy(p, s.text)
			s.text = s.text[n:]
			return n, nil
		}
		if s.pause > 0 {
			t := time.NewTimer(s.pause)
			defer t.Stop()
			select {
			case <-t.C:
				s.pause = 0
			case <-b.ctx.Done():
				return 0, b.ctx.Err()
			}
		}
		err := s.err
		b.steps = b.steps[1:]
		if err != nil {
			return 0, err
		}
	}
	return 0, io.EOF
}

func (b *body) Close() error { return nil }

// stream answers with an event stream.
func streamOf(req *http.Request, steps ...step) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Status: "200 OK", Request: req,
		Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: &body{req.Context(), steps}}, nil
}

// status answers with an error in the server's form; header is "Name: value" pairs.
func statusOf(req *http.Request, code int, text string, header ...string) (*http.Response, error) {
	h := http.Header{"Content-Type": {"application/json"}}
	for _, kv := range header {
		k, v, _ := strings.Cut(kv, ": ")
		h.Set(k, v)
	}
	return &http.Response{StatusCode: code, Status: fmt.Sprint(code, " ", http.StatusText(code)), Request: req, Header: h,
		Body: io.NopCloser(strings.NewReader(text))}, nil
}

const (
	dir      = notify.FileID(77)
	watching = ": watching /srv/data\n\n"
)

// seqAt is the Seq of note i of these tests.
func seqAt(i int) notify.Seq { return notify.BatchNumber(1000 + i).Seq(0) }

// note is the wire form of note i, without its id.
func note(i int) string {
	return fmt.Sprintf(`{"type":"child_file_added","spine":["%d","%d"],"path":"f%d","stream_name":null}`, dir, 1000+i, i)
}

// block is note i as a server sends it.
func block(i int) string { return fmt.Sprintf("id: %s\ndata: [%s]\n\n", idOf(i), note(i)) }

func idOf(i int) string { return notify.Cursor{Seq: seqAt(i), Dir: dir}.String() }

// taker is a handler that remembers what it got.
type taker struct {
	paths  []string
	frames []Frame
	stop   int // after so many notes
}

var errEnough = fmt.Errorf("enough")

func (k *taker) take(f Frame) error {
	k.frames = append(k.frames, f)
	for _, n := range f.Notes {
		k.paths = append(k.paths, n.Path)
	}
	if k.stop > 0 && len(k.paths) >= k.stop {
		return errEnough
	}
	return nil
}

func (k *taker) want(t *testing.T, n int) {
	t.Helper()
	var want []string
	for i := range n {
		want = append(want, fmt.Sprintf("f%d", i))
	}
	if fmt.Sprint(k.paths) != fmt.Sprint(want) {
		t.Fatalf("got %v, want %v", k.paths, want)
	}
}
