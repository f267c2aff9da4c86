package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fs_notify/notify"
)

// watchFake runs a Watch against a fake server in a bubble of fake time.
func watchFake(t *testing.T, k *taker, answer fakeServer, set func(*Options), check func(t *testing.T, f *fakeTransport, err error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeTransport{answer: answer}
		o := Options{URL: "http://server:8000", Ref: "/srv/data", Transport: f}
		if set != nil {
			set(&o)
		}
		err := Watch(t.Context(), o, k.take)
		check(t, f, err)
	})
}

func TestRequest(t *testing.T) {
	k := &taker{stop: 1}
	watchFake(t, k, func(n int, req *http.Request) (*http.Response, error) {
		return streamOf(req, step{text: watching + block(0)})
	},
		func(o *Options) {
			o.Ref, o.Recursive, o.Filter, o.Fields = "/srv/a b/é\xff", true, notify.SetOf(notify.ChildFileAdded, notify.SelfRemoved), notify.FieldsAll
			o.Since, o.GapReset, o.Token = "5m", true, "secret"
		},
		func(t *testing.T, f *fakeTransport, err error) {
			if err != errEnough {
				t.Fatalf("Watch: %v", err)
			}
			got := f.asked[0]
			const want = "http://server:8000/v1/files/%2Fsrv%2Fa%20b%2F%C3%A9%FF/notify?fields=all&filter=child_file_added%2Cself_removed&gap=reset&recursive=true&since=5m"
			if got.URL.String() != want {
				t.Errorf("asked for %s, want %s", got.URL, want)
			}
			for h, want := range map[string]string{"Accept": "text/event-stream", "Authorization": "Bearer secret", "Accept-Encoding": "identity", "Last-Event-Id": ""} {
				if got.Header.Get(h) != want {
					t.Errorf("%s: %q, want %q", h, got.Header.Get(h), want)
				}
			}
		})
}

func TestBadOptions(t *testing.T) {
	for _, o := range []Options{{URL: "server:8000", Ref: "/a"}, {URL: "ftp://server", Ref: "/a"}, {URL: "http://", Ref: "/a"},
		{URL: "http://server", Ref: "a"}, {URL: "http://server", Ref: ""}, {URL: "http://server", Ref: "0"}} {
		if err := Watch(t.Context(), o, nil); !errors.Is(err, notify.Invalid) {
			t.Errorf("%q %q: got %v, want Invalid", o.URL, o.Ref, err)
		}
	}
}

// Whatever byte the connection breaks at, everything comes once and in order, and no half id is ever asked for.
func TestCutAtEveryByte(t *testing.T) {
	const notes = 4
	first := ": watching /srv/data\nretry: 200\nid: " + idOf(-1) + "\n\n"
	var blocks []string
	for i := range notes {
		blocks = append(blocks, ": keepalive\n\n", block(i), ": keepalive\nid: "+idOf(i)+"\n\n")
	}
	whole := first + strings.Join(blocks, "")
	ids := map[string]bool{"": true}
	for i := -1; i < notes; i++ {
		ids[idOf(i)] = true
	}
	for _, clean := range []bool{true, false} {
		for at := 0; at <= len(whole); at++ {
			k := &taker{stop: notes}
			watchFake(t, k, func(n int, req *http.Request) (*http.Response, error) {
				last := req.Header.Get("Last-Event-ID")
				if !ids[last] {
					return nil, fmt.Errorf("asked for id %q, which nobody sent", last)
				}
				text := whole
				if i := strings.Index(whole, "id: "+last+"\n"); last != "" && i > 0 { // go on after the last block with this id
					i = strings.LastIndex(whole, "id: "+last+"\n")
					text = first[:strings.Index(first, "id:")] + "id: " + last + "\n\n" + whole[i+strings.Index(whole[i:], "\n\n")+2:]
				}
				var end error
				if n == 1 {
					text = text[:at]
					if !clean {
						end = io.ErrUnexpectedEOF
					}
				}
				return streamOf(req, step{text: text, err: end})
			}, nil, func(t *testing.T, f *fakeTransport, err error) {
				if err != errEnough {
					t.Fatalf("cut at %d: %v", at, err)
				}
				k.want(t, notes)
			})
		}
	}
}

// The cursor is told after the handler has accepted the data, and is not moved by data that it refused.
func TestCursorMovesWithWhatWasHandled(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		k := &taker{}
		var story []string
		broken := errors.New("disk full")
		synctest.Test(t, func(t *testing.T) {
			o := Options{URL: "http://s", Ref: "/d", Transport: &fakeTransport{answer: func(n int, req *http.Request) (*http.Response, error) {
				return streamOf(req, step{text: watching + "id: " + idOf(-1) + "\n\n" + block(0) + ": keepalive\nid: " + idOf(1) + "\n\n" + block(2) + block(3), pause: forever})
			}}, OnCursor: func(c notify.Cursor) error { story = append(story, c.String()); return nil }}
			err := Watch(t.Context(), o, func(f Frame) error {
				k.take(f)
				story = append(story, f.Notes[0].Path+"@"+f.Cursor.String())
				if f.Notes[0].Path == "f2" {
					if refuse {
						return broken
					}
					return errEnough
				}
				return nil
			})
			if refuse && err != broken || !refuse && err != errEnough {
				t.Errorf("Watch: %v", err)
			}
		})
		want := []string{idOf(-1), "f0@" + idOf(0), idOf(0), idOf(1), "f2@" + idOf(2)}
		if fmt.Sprint(story) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", story, want)
		}
	}
}

// Who wants to know which directory has the path is told before anything of the stream, and as long as the server does not know, there is none.
func TestDirectoryIsKnownFirst(t *testing.T) {
	other := errors.New("another directory")
	for _, tt := range []struct {
		name    string
		status  int
		text    string
		refuse  error
		want    error
		told    notify.FileID
		streams int
	}{
		{"it is the one", 200, `{"id":"77"}`, nil, errEnough, 77, 1},
		{"it is not", 200, `{"id":"78"}`, other, other, 78, 0},
		{"nothing has the path", 404, `{}`, other, errEnough, 0, 1},
		{"it may not be asked", 403, `{}`, other, notify.Forbidden, 0, 0},
		{"no server of ours", 200, `<html>`, other, notify.Invalid, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			var told notify.FileID
			streams, looks := 0, 0
			o := Options{URL: "http://s", Ref: "/d", Token: "secret", Cursor: notify.Cursor{Seq: seqAt(0), Dir: dir},
				OnDirectory: func(id notify.FileID) error { told = id; return tt.refuse },
				Transport: &fakeTransport{answer: func(n int, req *http.Request) (*http.Response, error) {
					if req.URL.Path != "/v1/files//d/info/attributes" {
						streams++
						return streamOf(req, step{text: block(1) + watching, pause: forever}) // the past, as from a server that still indexes
					}
					switch looks++; {
					case req.Header.Get("Authorization") != "Bearer secret":
						t.Errorf("%s: asked without the token", tt.name)
					case looks == 1:
						return nil, errors.New("connection refused")
					case looks == 2:
						return statusOf(req, 503, `{"description":"/d is being indexed: 7 entries so far, try again soon"}`)
					case looks == 3:
						return statusOf(req, 429, `{}`)
					}
					return statusOf(req, tt.status, tt.text)
				}}}
			err := Watch(t.Context(), o, func(Frame) error { return errEnough })
			if !errors.Is(err, tt.want) || told != tt.told || streams != tt.streams || looks != 4 {
				t.Errorf("%s: %v after %d looks and %d streams, told of %d; want %v, %d streams, %d", tt.name, err, looks, streams, told, tt.want, tt.streams, tt.told)
			}
		})
	}
}

// A server that cannot tell yet what has the path, since it indexes, is waited for: to index is not to idle. One that is not there is not.
func TestLookWhileIndexing(t *testing.T) {
	for _, there := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			looks := 0
			o := Options{URL: "http://s", Ref: "/d", Cursor: notify.Cursor{Seq: seqAt(0), Dir: dir}, Timeout: time.Second,
				OnDirectory: func(notify.FileID) error { return nil },
				Transport: &fakeTransport{answer: func(n int, req *http.Request) (*http.Response, error) {
					if req.URL.Path != "/v1/files//d/info/attributes" {
						return streamOf(req, step{text: watching + block(1), pause: forever})
					}
					switch looks++; {
					case looks == 100:
						return statusOf(req, 200, `{"id":"`+dir.String()+`"}`)
					case looks > 3 && !there:
						return nil, errors.New("connection refused")
					}
					return statusOf(req, 503, `{"description":"/d is being indexed: 7 entries so far, try again soon"}`)
				}}}
			err := Watch(t.Context(), o, func(Frame) error { return errEnough })
			if errors.Is(err, errEnough) != there || (looks == 100) != there {
				t.Errorf("a server that is there: %v; %d looks, then %v", there, looks, err)
			}
		})
	}
}

// Any other reason why the server cannot say what has the path is not waited for longer than asked for, nor asked for again and again.
func TestLookAtAServerThatIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		o := Options{URL: "http://s", Ref: "/d", Cursor: notify.Cursor{Seq: seqAt(0), Dir: dir}, Timeout: 10 * time.Minute,
			OnDirectory: func(notify.FileID) error { return nil },
			Transport: &fakeTransport{answer: func(n int, req *http.Request) (*http.Response, error) {
				looks++
				return statusOf(req, 503, `no server is available to handle this request`)
			}}}
		start := time.Now()
		err := Watch(t.Context(), o, func(Frame) error { return errEnough })
		if took := time.Since(start); notify.KindOf(err) != notify.Unavailable || took != o.Timeout || looks < 5 || looks > 40 {
			t.Errorf("after %v and %d looks: %v", took, looks, err)
		}
	})
}

// The library would end here, 15 minutes after the first connect; and would take the clean end for good.
func TestStreamsThatLiveLongGoOn(t *testing.T) {
	k := &taker{stop: 3}
	watchFake(t, k, func(n int, req *http.Request) (*http.Response, error) {
		steps := []step{{text: watching + block(n-1)}}
		for range 100 {
			steps = append(steps, step{text: ": keepalive\n\n", pause: 15 * time.Second})
		}
		var end error
		if n == 2 {
			end = errors.New("connection reset by peer")
		}
		return streamOf(req, append(steps, step{err: end})...)
	}, nil, func(t *testing.T, f *fakeTransport, err error) {
		if err != errEnough {
			t.Fatalf("Watch: %v", err)
		}
		k.want(t, 3)
		if len(k.frames) != 3 {
			t.Errorf("%d frames: a comment became one", len(k.frames))
		}
		for i, gap := range []time.Duration{f.when[1].Sub(f.when[0]), f.when[2].Sub(f.when[1])} {
			if min, max := 25*time.Minute+firstWait, 25*time.Minute+firstWait*3/2; gap < min || gap > max {
				t.Errorf("connection %d came %v after the one before it, want %v to %v", i+2, gap, min, max)
			}
		}
	})
}

func TestSilentServerIsDead(t *testing.T) {
	k := &taker{stop: 3}
	var why []error
	watchFake(t, k, func(n int, req *http.Request) (*http.Response, error) {
		switch n {
		case 1: // falls silent after a block, and inside the next one
			return streamOf(req, step{text: watching + block(0) + block(1)[:20], pause: forever})
		case 2: // drips: slow, but alive
			var steps []step
			for _, c := range []byte(watching + block(1)) {
				steps = append(steps, step{text: string(c), pause: 44 * time.Second})
			}
			return streamOf(req, append(steps, step{pause: forever})...)
		case 3: // accepts, and does not even answer
			<-req.Context().Done()
			return nil, req.Context().Err()
		}
		return streamOf(req, step{text: watching + block(2)})
	}, func(o *Options) { o.OnRetry = func(err error, _ time.Duration) { why = append(why, err) } },
		func(t *testing.T, f *fakeTransport, err error) {
			if err != errEnough {
				t.Fatalf("Watch: %v", err)
			}
			k.want(t, 3)
			if len(why) != 3 {
				t.Fatalf("reconnected because of %v, want three times", why)
			}
			for _, err := range why {
				if !errors.Is(err, errSilent) || !errors.Is(err, notify.Unavailable) {
					t.Errorf("reconnected because of %v", err)
				}
			}
			if got := f.when[3].Sub(f.when[2]); got < DefaultLiveness || got > DefaultLiveness+2*firstWait {
				t.Errorf("gave up the mute server after %v", got)
			}
		})
}

// A handler may take its time: the timer measures the server.
func TestSlowHandlerIsNoDeadServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeTransport{answer: func(n int, req *http.Request) (*http.Response, error) {
			if n > 1 {
				return nil, errors.New("reconnected")
			}
			return streamOf(req, step{text: watching + block(0) + block(1) + block(2), pause: forever})
		}}
		n := 0
		err := Watch(t.Context(), Options{URL: "http://s", Ref: "/d", Transport: f}, func(Frame) error {
			time.Sleep(time.Hour)
			if n++; n == 3 {
				return errEnough
			}
			return nil
		})
		if err != errEnough || f.n != 1 {
			t.Errorf("Watch: %v after %d connections", err, f.n)
		}
	})
}

func TestLargeEvents(t *testing.T) {
	var many []string
	for i := range 40000 {
		many = append(many, note(i))
	}
	large := "id: " + idOf(0) + "\ndata: [" + strings.Join(many, ",") + "]\n\n"
	if len(large) < 3<<20 {
		t.Fatalf("only %d bytes", len(large))
	}
	k := &taker{stop: 40001}
	watchFake(t, k, func(n int, req *http.Request) (*http.Response, error) {
		if n > 1 {
			return nil, errors.New("reconnected")
		}
		return streamOf(req, step{text: watching + large + block(40000)})
	}, nil, func(t *testing.T, f *fakeTransport, err error) {
		if err != errEnough || len(k.frames) != 2 {
			t.Fatalf("Watch: %v, %d frames", err, len(k.frames))
		}
		k.want(t, 40001)
	})

	k = &taker{stop: 2}
	watchFake(t, k, func(n int, req *http.Request) (*http.Response, error) {
		return streamOf(req, step{text: watching + block(0) + large})
	}, func(o *Options) { o.MaxEvent = 1 << 20 }, func(t *testing.T, f *fakeTransport, err error) {
		if !errors.Is(err, notify.Invalid) || !strings.Contains(err.Error(), "1048576 bytes") || f.n != 1 {
			t.Fatalf("Watch: %v after %d connections, want one clear refusal", err, f.n)
		}
		k.want(t, 1)
	})
}

func TestRefusals(t *testing.T) {
	says := func(class string) string {
		return `{"description":"no, because","module":"files","error_class":"` + class + `","stack":[],"user_visible":true,"oldest":4095,"head":"40960"}`
	}
	for _, c := range []struct {
		status int
		body   string
		kind   notify.Kind
		msg    string
	}{
		{400, says("invalid_request_error"), notify.Invalid, "no, because"},
		{400, says("fs_not_a_directory_error"), notify.NotDirectory, "no, because"},
		{401, says("http_unauthorized_error"), notify.Unauthorized, "no, because"},
		{401, "", notify.Unauthorized, `the server answered "401 Unauthorized"`},
		{403, says("fs_access_denied_error"), notify.Forbidden, "no, because"},
		{404, says("fs_no_such_entry_error"), notify.NotFound, "no, because"},
		{404, "<html>not here", notify.NotFound, `the server answered "404 Not Found"`},
		{410, says("gone"), notify.Gone, "no, because"},
		{400, "Client sent an HTTP request to an HTTPS server.\n", notify.Invalid, "sent an HTTP request to an HTTPS server"},
		{418, "\x1b[31mteapot", notify.Invalid, `"\x1b[31mteapot"`},
		{200, "<html>please log in", notify.Invalid, "is it an fs_notify server?"},
		{204, "", notify.Invalid, "is it an fs_notify server?"},
	} {
		k := &taker{}
		watchFake(t, k, func(n int, req *http.Request) (*http.Response, error) { return statusOf(req, c.status, c.body) }, nil,
			func(t *testing.T, f *fakeTransport, err error) {
				var e *notify.Error
				if !errors.As(err, &e) || e.Kind != c.kind || !strings.Contains(e.Msg, c.msg) || f.n != 1 {
					t.Errorf("%d %q: got %v after %d connections, want %v with %q after one", c.status, c.body, err, f.n, c.kind, c.msg)
				}
				if c.kind == notify.Gone && (e.Bounds != notify.Bounds{Base: 0, Head: 10}) {
					t.Errorf("410: bounds %+v", e.Bounds)
				}
			})
	}
}

func TestRefusalsThatPass(t *testing.T) {
	k := &taker{stop: 1}
	watchFake(t, k, func(n int, req *http.Request) (*http.Response, error) {
		switch n {
		case 1:
			return statusOf(req, 503, `{"description":"indexing"}`, "Retry-After: 7")
		case 2:
			return statusOf(req, 429, "", "Retry-After: "+time.Now().Add(20*time.Second).UTC().Format(http.TimeFormat))
		case 3:
			return statusOf(req, 500, "")
		case 4:
			return statusOf(req, 502, "<html>", "Retry-After: soon")
		case 5:
			return nil, errors.New("connection refused")
		}
		return streamOf(req, step{text: watching + block(0)})
	}, nil, func(t *testing.T, f *fakeTransport, err error) {
		if err != errEnough || f.n != 6 {
			t.Fatalf("Watch: %v after %d connections", err, f.n)
		}
		// Waits double from firstWait; Retry-After lifts them, all are stretched by up to a half.
		for i, want := range []time.Duration{7 * time.Second, 19 * time.Second, 4 * firstWait, 8 * firstWait, 16 * firstWait} {
			got := f.when[i+1].Sub(f.when[i])
			if got < want || got > want*3/2+time.Second {
				t.Errorf("wait %d was %v, want %v to half as much again", i+1, got, want)
			}
		}
	})
}

// An overloaded server that must not send an error to an EventSource sends 200, retry: and the end.
func TestRetryIsHonoured(t *testing.T) {
	k := &taker{stop: 1}
	watchFake(t, k, func(n int, req *http.Request) (*http.Response, error) {
		if n <= 3 {
			return streamOf(req, step{text: "retry: 4000\n\n"})
		}
		return streamOf(req, step{text: watching + block(0)})
	}, nil, func(t *testing.T, f *fakeTransport, err error) {
		if err != errEnough {
			t.Fatalf("Watch: %v", err)
		}
		for i, want := range []time.Duration{4 * time.Second, 8 * time.Second, 16 * time.Second} {
			if got := f.when[i+1].Sub(f.when[i]); got < want || got > want*3/2 {
				t.Errorf("wait %d was %v, want %v to half as much again", i+1, got, want)
			}
		}
	})
}

func TestWaitsAreBoundedAndSpread(t *testing.T) {
	w := &watch{retry: firstWait}
	seen := map[time.Duration]bool{}
	for range 100 {
		d := w.wait(errors.New("refused"))
		if d < firstWait || d > mostWait*3/2 {
			t.Fatalf("wait of %v", d)
		}
		seen[d] = true
	}
	if len(seen) < 50 {
		t.Errorf("only %d different waits of 100", len(seen))
	}
	if d := w.wait(&notify.Error{Kind: notify.Unavailable, Retry: 1000 * time.Hour}); d > mostTold*3/2 {
		t.Errorf("a server can ask for %v", d)
	}
}

func TestContextEndsEveryWait(t *testing.T) {
	for name, answer := range map[string]fakeServer{
		"in the back-off": func(n int, req *http.Request) (*http.Response, error) { return nil, errors.New("connection refused") },
		"in the stream": func(n int, req *http.Request) (*http.Response, error) {
			return streamOf(req, step{text: watching + block(0), pause: forever})
		},
		"in the connect": func(n int, req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			start := time.Now()
			err := Watch(ctx, Options{URL: "http://s", Ref: "/d", Transport: &fakeTransport{answer: answer}}, (&taker{}).take)
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 10*time.Second {
				t.Errorf("%s: %v after %v", name, err, time.Since(start))
			}
		})
	}
}

func TestTimeout(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer fakeServer
		after  time.Duration
		idle   bool
	}{
		{"a quiet stream", func(n int, req *http.Request) (*http.Response, error) {
			steps := []step{{text: watching + "id: " + idOf(-1) + "\n\n", pause: 10 * time.Second}, {text: block(0)}}
			for range 100 {
				steps = append(steps, step{text: ": keepalive\nid: " + idOf(1) + "\n\n", pause: 15 * time.Second})
			}
			return streamOf(req, steps...)
		}, 70 * time.Second, true},
		{"indexing is not idling", func(n int, req *http.Request) (*http.Response, error) {
			var steps []step
			for i := range 100 {
				steps = append(steps, step{text: fmt.Sprintf(": indexing %d %%\n\n", i), pause: 10 * time.Second})
			}
			return streamOf(req, append(steps, step{text: watching + block(0), pause: 30 * time.Second}, step{text: ": keepalive\n\n", pause: forever})...)
		}, 1060 * time.Second, true},
		{"a quiet stream that is cut now and then", func(n int, req *http.Request) (*http.Response, error) {
			if n > 100 {
				return statusOf(req, 404, "")
			}
			return streamOf(req, step{text: watching + "id: " + idOf(n) + "\n\n", pause: 20 * time.Second})
		}, 60 * time.Second, true},
		{"no server", func(n int, req *http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }, 60 * time.Second, false},
		{"no answer", func(n int, req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}, 60 * time.Second, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			err := Watch(t.Context(), Options{URL: "http://s", Ref: "/d", Timeout: time.Minute, Transport: &fakeTransport{answer: c.answer}}, (&taker{}).take)
			if errors.Is(err, ErrIdle) != c.idle || !c.idle && !errors.Is(err, notify.Unavailable) || time.Since(start) != c.after {
				t.Errorf("%s: %v after %v", c.name, err, time.Since(start))
			}
		})
	}
}

// A server that has no room for a stream says so in a comment, and ends it: those words are the reason, not a good end.
func TestWordsInsteadOfAStream(t *testing.T) {
	var why []error
	k := &taker{stop: 1}
	watchFake(t, k, func(n int, req *http.Request) (*http.Response, error) {
		switch n {
		case 1:
			return streamOf(req, step{text: "retry: 10000\n: the server has as many streams as it takes\n\n"})
		case 2:
			return streamOf(req, step{text: watching + "id: " + idOf(-1) + "\n\n: closed: the server stops\n\n"})
		}
		return streamOf(req, step{text: watching + block(0)})
	}, func(o *Options) { o.OnRetry = func(err error, _ time.Duration) { why = append(why, err) } },
		func(t *testing.T, f *fakeTransport, err error) {
			if err != errEnough || len(why) != 2 {
				t.Fatalf("Watch: %v, reconnected because of %v", err, why)
			}
			if !errors.Is(why[0], notify.Unavailable) || notify.Message(why[0]) != "the server has as many streams as it takes" || why[1] != nil {
				t.Errorf("reconnected because of %v", why)
			}
			if got := f.when[1].Sub(f.when[0]); got < 10*time.Second {
				t.Errorf("waited for %v, the server asked for 10 s", got)
			}
		})
}

// Only ": watching" means success, and only once there is a place to resume from.
func TestWatchingAndProgress(t *testing.T) {
	var story []string
	k := &taker{stop: 1}
	watchFake(t, k, func(n int, req *http.Request) (*http.Response, error) {
		if n == 1 { // cut between the comment and the starting id: a reconnect begins at another now
			return streamOf(req, step{text: ": indexing 5 %\n\n: indexing 42.5 % of much\n\n: indexing\n\n: watching /srv/data\n\n"})
		}
		return streamOf(req, step{text: ": watching again\n\nid: " + idOf(-1) + "\n\n" + block(0)})
	}, func(o *Options) {
		o.OnWatching = func(text string) { story = append(story, text) }
		o.OnProgress = func(p float64, text string) { story = append(story, fmt.Sprint(p)) }
		o.OnRetry = func(error, time.Duration) { story = append(story, "cut") }
	}, func(t *testing.T, f *fakeTransport, err error) {
		want := []string{"5", "42.5", "-1", "cut", "watching again"}
		if fmt.Sprint(story) != fmt.Sprint(want) {
			t.Errorf("got %q, want %q", story, want)
		}
	})
}

func TestSnapshotIsReadWhole(t *testing.T) {
	const reset = "event: reset\ndata: {\"reason\":\"snapshot\"}\n\n"
	bare := func(i int) string { return "data: [" + note(i) + "]\n\n" }
	k := &taker{stop: 4}
	resets := 0
	watchFake(t, k, func(n int, req *http.Request) (*http.Response, error) {
		switch n {
		case 1: // cut inside the snapshot
			return streamOf(req, step{text: watching + reset + bare(0) + bare(1)})
		case 2: // whole
			return streamOf(req, step{text: watching + reset + bare(0) + bare(1) + bare(2) + "id: " + idOf(2) + "\n\n"})
		}
		return streamOf(req, step{text: watching + block(3)})
	}, func(o *Options) {
		o.Since = "snapshot"
		o.OnReset = func(Reset) error { resets++; k.paths = nil; return nil }
	}, func(t *testing.T, f *fakeTransport, err error) {
		if err != errEnough || resets != 2 {
			t.Fatalf("Watch: %v after %d resets", err, resets)
		}
		k.want(t, 4)
		for i, want := range []string{"snapshot", "snapshot", ""} {
			if got := f.asked[i].URL.Query().Get("since"); got != want {
				t.Errorf("connection %d asked for since=%q, want %q", i+1, got, want)
			}
		}
		if got := f.asked[2].Header.Get("Last-Event-ID"); got != idOf(2) {
			t.Errorf("resumed from %q", got)
		}
	})
}

// A gap behind a snapshot, in the Watch that took it and in a later one: the new snapshot follows, and nothing of before is left.
func TestSnapshotAfterGap(t *testing.T) {
	for _, name := range []string{"in a Watch", "with the cursor of an earlier one"} {
		t.Run(name, func(t *testing.T) {
			k := &taker{stop: 3}
			var resets []string
			watchFake(t, k, func(n int, req *http.Request) (*http.Response, error) {
				if n > 2 {
					return statusOf(req, 400, "")
				}
				reset, list := "", ""
				if req.Header.Get("Last-Event-ID") != "" {
					reset = "event: reset\ndata: {\"reason\":\"gone\"}\n\n"
				}
				at := "id: " + idOf(n) + "\n\n"
				if req.URL.Query().Get("since") == "snapshot" { // as the server does: with an id only after a gap
					reset = cmp.Or(reset, "event: reset\ndata: {\"reason\":\"snapshot\"}\n\n")
					list = "data: [" + note(0) + "]\n\ndata: [" + note(1) + "]\n\n"
				}
				text := watching + reset + list + at
				if n == 2 {
					text += block(3)
				}
				return streamOf(req, step{text: text})
			}, func(o *Options) {
				o.Since, o.GapReset = "snapshot", true
				if name != "in a Watch" {
					o.Cursor = notify.Cursor{Seq: seqAt(-5), Dir: dir}
				}
				o.OnReset = func(r Reset) error { resets, k.paths = append(resets, r.Reason), nil; return nil }
			}, func(t *testing.T, f *fakeTransport, err error) {
				if err != errEnough || len(k.paths) != 3 {
					t.Errorf("Watch: %v with %q after the resets %q, want two of a snapshot and one more", err, k.paths, resets)
				}
				for i, req := range f.asked {
					if got := req.URL.Query().Get("since"); got != "snapshot" {
						t.Errorf("connection %d asked for since=%q", i+1, got)
					}
				}
			})
		})
	}
}

func TestReset(t *testing.T) {
	answer := func(n int, req *http.Request) (*http.Response, error) {
		return streamOf(req, step{text: "event: reset\ndata: {\"reason\":\"retention\",\"oldest\":8191,\"head\":40960}\nid: " + idOf(-1) + "\n\n" + watching + block(0)})
	}
	k := &taker{stop: 1}
	var got Reset
	watchFake(t, k, answer, func(o *Options) { o.OnReset = func(r Reset) error { got = r; return nil } }, func(t *testing.T, f *fakeTransport, err error) {
		if err != errEnough || got != (Reset{"retention", 8191, 40960}) {
			t.Errorf("Watch: %v, reset %+v", err, got)
		}
	})
	watchFake(t, &taker{}, answer, nil, func(t *testing.T, f *fakeTransport, err error) {
		var e *notify.Error
		if !errors.As(err, &e) || e.Kind != notify.Gone || e.Bounds != (notify.Bounds{Base: 1, Head: 10}) {
			t.Errorf("Watch without OnReset: %v", err)
		}
	})
}

func TestSelfRemovedEnds(t *testing.T) {
	k := &taker{}
	last := notify.Cursor{}
	watchFake(t, k, func(n int, req *http.Request) (*http.Response, error) {
		if n > 1 {
			return nil, errors.New("reconnected")
		}
		return streamOf(req, step{text: watching + block(0) + "id: " + idOf(1) + "\ndata: [{\"type\":\"self_removed\",\"spine\":[\"77\"],\"path\":\"\",\"stream_name\":null}]\n\n"})
	}, func(o *Options) { o.OnCursor = func(c notify.Cursor) error { last = c; return nil } }, func(t *testing.T, f *fakeTransport, err error) {
		if err != nil || f.n != 1 || len(k.frames) != 2 || last.String() != idOf(1) {
			t.Errorf("Watch: %v after %d connections, %d frames, cursor %v", err, f.n, len(k.frames), last)
		}
	})
}

func TestNonsenseFromTheServer(t *testing.T) {
	for _, text := range []string{"data: {}\n\n", "data: [{\"type\":\"child_file_eaten\",\"spine\":[\"1\"],\"path\":\"\"}]\n\n", "data: [1\n\n", "id: five\n\n", "event: reset\ndata: [\n\n"} {
		watchFake(t, &taker{}, func(n int, req *http.Request) (*http.Response, error) {
			return streamOf(req, step{text: watching + text})
		},
			func(o *Options) { o.OnReset = func(Reset) error { return nil } },
			func(t *testing.T, f *fakeTransport, err error) {
				if !errors.Is(err, notify.Invalid) || f.n != 1 {
					t.Errorf("%q: got %v after %d connections, want one refusal", text, err, f.n)
				}
			})
	}
	// Nothing to say is not nonsense, nor are events that nobody knows.
	k := &taker{stop: 1}
	watchFake(t, k, func(n int, req *http.Request) (*http.Response, error) {
		return streamOf(req, step{text: watching + "data: []\n\ndata:\n\nevent: weather\ndata: fair\n\nevent: message\n" + block(0)})
	}, nil, func(t *testing.T, f *fakeTransport, err error) {
		if err != errEnough || len(k.frames) != 1 {
			t.Errorf("Watch: %v, %d frames", err, len(k.frames))
		}
	})
}
