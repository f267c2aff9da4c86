package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"fs_notify/notify"
	"fs_notify/server"
	"fs_notify/server/onedata"
	"fs_notify/server/servertest"
)

// http2 starts a server and gives a client that speaks HTTP/2 with it.
func http2(t *testing.T, tree *servertest.Tree, change func(*server.Options)) (url string, c *http.Client) {
	t.Helper()
	cert, pool := selfSigned(t)
	url = serve(t, tree, func(o *server.Options) {
		o.TLS = cert
		change(o)
	})
	c = &http.Client{Transport: &http.Transport{TLSClientConfig: pool.Clone(), ForceAttemptHTTP2: true}, Timeout: 2 * patience}
	t.Cleanup(c.CloseIdleConnections)
	return url, c
}

// ask sends a request that has to be answered with 200, over HTTP/2.
func ask(t *testing.T, c *http.Client, method, url, body string, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		req.Header.Add(k, v)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 || resp.ProtoMajor != 2 {
		t.Fatalf("%s %s: %s %s", method, url, resp.Proto, resp.Status)
	}
	return resp
}

// tellMuch tells of more than buffers on the way to a client hold, the 4 MiB of net/http's own for HTTP/2 included.
func tellMuch(tree *servertest.Tree) {
	for i := range 20 {
		notes := make([]notify.Notification, 1000)
		for k := range notes {
			notes[k] = notify.Notification{Type: notify.ChildFileAdded, Path: fmt.Sprint(strings.Repeat("x", 500), i, k),
				Spine: notify.Spine{servertest.RootID, notify.FileID(10000 + 1000*i + k)}, Attr: notify.Attr{Mode: notify.ModeFile}}
		}
		tree.Log.Append(servertest.RootID, notes...)
	}
}

// Over HTTP/2, too, a stream may be quiet for longer than a client may take nothing.
func TestQuietOverHTTP2(t *testing.T) {
	url, c := http2(t, servertest.New("/srv/data"), func(o *server.Options) {
		o.WriteTimeout, o.KeepAlive, o.Box.PollTimeout = 100*time.Millisecond, time.Second, time.Second
	})
	for _, accept := range []string{eventStream, "Accept: application/json"} {
		wrap(t, ask(t, c, "GET", url+root+"/notify", "", accept)).skip(": keepalive")
	}
	lines := ask(t, c, "POST", url+onedata.Prefix+"changes/metadata/"+servertest.RootID.String()+"?keepalive=1000", `{"fileMeta":{"fields":["name"]}}`, "Content-Type: application/json")
	if line, err := bufio.NewReader(lines.Body).ReadString('\n'); line != "\r\n" || err != nil {
		t.Errorf("Onedata's stream says %q, %v", line, err)
	}
	poll, err := io.ReadAll(ask(t, c, "GET", url+"/2.0/events/poll?stream_position=now", "").Body)
	if err != nil || !strings.Contains(string(poll), "reconnect") {
		t.Errorf("a long poll is answered with %q, %v", poll, err)
	}
}

// What a handler thinks about for longer than a client may take nothing is told all the same.
func TestLateAnswer(t *testing.T) {
	late := func(o *server.Options) {
		o.WriteTimeout = 100 * time.Millisecond
		o.More = map[string]http.Handler{"/late": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(5 * o.WriteTimeout)
			io.WriteString(w, strings.Repeat("late", 10000))
		})}
	}
	if status, body := get(t, serve(t, servertest.New("/srv/data"), late)+"/late"); status != 200 || len(body) != 40000 {
		t.Errorf("over HTTP/1.1: %d, %d bytes", status, len(body))
	}
	url, c := http2(t, servertest.New("/srv/data"), late)
	if body, err := io.ReadAll(ask(t, c, "GET", url+"/late", "").Body); err != nil || len(body) != 40000 {
		t.Errorf("over HTTP/2: %d bytes, %v", len(body), err)
	}
}

// Who takes nothing over HTTP/2 is let go as over HTTP/1.1, for the reason that is the case.
func TestStalledOverHTTP2(t *testing.T) {
	tree := servertest.New("/srv/data")
	m := &metrics{closed: make(chan string, 10)}
	url, c := http2(t, tree, func(o *server.Options) { o.Metrics, o.WriteTimeout = m, 300*time.Millisecond })
	tellMuch(tree)
	ask(t, c, "GET", url+root+"/notify?since=oldest", "", eventStream)
	select {
	case reason := <-m.closed:
		if reason != "stalled" {
			t.Errorf("the stream of a client that does not read ended for %q", reason)
		}
	case <-time.After(patience):
		t.Error("a client that does not read is still served")
	}
}

// Who asks and asks and reads no answer is let go, though each answer is so small that a handler does not notice.
func TestAnswersThatNobodyReads(t *testing.T) {
	url := serve(t, servertest.New("/srv/data"), func(o *server.Options) {
		o.WriteTimeout = 300 * time.Millisecond
		o.More = map[string]http.Handler{"/small": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat("x", 3000)) })}
	})
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.(*net.TCPConn).SetReadBuffer(4096)
	c.SetDeadline(time.Now().Add(patience))
	for err == nil {
		_, err = io.WriteString(c, strings.Repeat("GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n", 100))
	}
	if e, ok := err.(net.Error); ok && e.Timeout() {
		t.Error("the connection stays open")
	}
}

// talk sends text over a connection of its own; what is answered comes out of the reader.
func talk(t *testing.T, url, text string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, text)
	return c, bufio.NewReader(c)
}

// answer reads the head of one answer.
func answer(t *testing.T, r *bufio.Reader) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// A body that nobody reads, as some clients send with a GET, has no say in how long the stream lasts.
func TestStreamThatWasAskedForWithABody(t *testing.T) {
	url := serve(t, servertest.New("/srv/data"), func(o *server.Options) { o.BodyTimeout, o.KeepAlive = 50*time.Millisecond, 500*time.Millisecond })
	for _, accept := range []string{"text/event-stream", "application/json"} {
		for _, body := range []string{"Content-Length: 2\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"} {
			_, r := talk(t, url, "GET "+root+"/notify HTTP/1.1\r\nHost: localhost\r\nAccept: "+accept+"\r\n"+body)
			wrap(t, answer(t, r)).skip(": keepalive")
		}
	}
}

// Who waits for "100 Continue" before it sends a body gets that, or the answer that needs no body; it never waits in vain.
func TestExpectContinue(t *testing.T) {
	_, _, change := guardedBy(t, [2]string{"good", allRights})
	url := serve(t, servertest.New("/srv/data"), change)
	const expect = " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n"
	for _, tt := range []struct {
		ask, head string
		status    int
	}{
		{"POST /v1/files/resolve", bearer("bad"), 401},
		{"POST /v1/nothing", bearer("good"), 404},
		{"DELETE " + root + "/notify", bearer("good"), 405},
		{"GET " + root + "/notify", bearer("good"), 200},
		{"GET " + root + "/notify", bearer("good") + "\r\n" + eventStream, 200},
		{"GET " + root + "/entries", bearer("good"), 200},
	} {
		_, r := talk(t, url, tt.ask+expect+tt.head+"\r\n\r\n")
		resp := answer(t, r)
		if resp.StatusCode != tt.status || !resp.Close {
			t.Errorf("%s: %s, to be closed %v, want %d and true", tt.ask, resp.Status, resp.Close, tt.status)
		}
		if strings.HasSuffix(tt.ask, "/notify") && tt.status == 200 {
			wrap(t, resp).skip(": watching")
		}
	}
	c, r := talk(t, url, "POST /v1/files/resolve"+expect+bearer("good")+"\r\n\r\n")
	if resp := answer(t, r); resp.StatusCode != 100 {
		t.Fatalf("a body that is welcome: %s", resp.Status)
	}
	io.WriteString(c, `["2"]`)
	if resp := answer(t, r); resp.StatusCode != 200 || resp.Close {
		t.Errorf("with its body: %s, to be closed %v", resp.Status, resp.Close)
	}
}

// smallBuffers gives connections that take little in advance.
type smallBuffers struct{ net.Listener }

func (l smallBuffers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		c.(*net.TCPConn).SetWriteBuffer(4096)
	}
	return c, err
}

// Who takes nothing is counted as that, though each write is so small that only its flush finds out.
func TestStalledAtAFlush(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tree := servertest.New("/srv/data")
	m := &metrics{closed: make(chan string, 10)}
	url, _ := serveAt(t, smallBuffers{l}, tree, func(o *server.Options) { o.Metrics, o.WriteTimeout = m, 300*time.Millisecond })
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				tree.Create(fmt.Sprint("f", i))
			}
		}
	}()
	const spec = `{"fileMeta":{"fields":["name"]}}`
	for _, ask := range []string{
		"GET " + root + "/notify HTTP/1.1\r\nHost: localhost\r\n" + eventStream + "\r\n\r\n",
		"GET " + root + "/notify HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"POST " + onedata.Prefix + "changes/metadata/" + servertest.RootID.String() + " HTTP/1.1\r\nHost: localhost\r\n" +
			fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(spec), spec),
	} {
		c, _ := talk(t, url, ask)
		c.(*net.TCPConn).SetReadBuffer(4096)
		select {
		case reason := <-m.closed:
			if reason != "stalled" {
				t.Errorf("%.60q: the stream of a client that does not read ended for %q", ask, reason)
			}
		case <-time.After(patience):
			t.Errorf("%.60q: a client that does not read is still served", ask)
		}
	}
}

// broken is a client that has left.
type broken struct{ http.ResponseWriter }

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
func (broken) FlushError() error         { return io.ErrClosedPipe }

// A stream that is opened is closed, though it is one too many and its client does not even wait to hear that.
func TestOverloadThatNobodyHears(t *testing.T) {
	m := &metrics{closed: make(chan string, 10)}
	url, srv := serveToo(t, servertest.New("/srv/data"), func(o *server.Options) { o.MaxStreams, o.Metrics = 1, m })
	open(t, url+root+"/notify", eventStream).skip("retry")
	r := httptest.NewRequest("GET", root+"/notify", nil)
	r.RemoteAddr, r.Host = "127.0.0.1:4711", "localhost"
	r.Header.Set("Accept", "text/event-stream")
	srv.ServeHTTP(broken{httptest.NewRecorder()}, r)
	if opened, closed := m.opened.Load(), len(m.closed); opened != 2 || closed != 1 {
		t.Errorf("%d streams were opened and %d closed, want 2 and 1", opened, closed)
	}
}
