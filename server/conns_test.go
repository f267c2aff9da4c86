package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"fs_notify/server"
	"fs_notify/server/servertest"
)

// knock is a connection that has said something, which is no whole request.
func knock(t *testing.T, address, something string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	io.WriteString(c, something) // it may be closed already
	return c
}

// isClosed says whether the server has closed a connection on which it has nothing to say.
func isClosed(c net.Conn) bool {
	c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	_, err := c.Read(make([]byte, 1))
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// until waits for what has to come.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so after %v: %s", patience, what)
		}
	}
}

// Somebody opens connections and asks nothing: who asks is answered, and who has a stream keeps it.
func TestConnsThatAskNothing(t *testing.T) {
	serverTLS, clientTLS := selfSigned(t)
	for name, secure := range map[string]*tls.Config{"plain": nil, "TLS": serverTLS} {
		t.Run(name, func(t *testing.T) {
			const most = 8
			tree := servertest.New("/srv/data")
			url, srv := serveToo(t, tree, func(o *server.Options) { o.MaxConns, o.TLS, o.ReadHeaderTimeout = most, secure, time.Hour })
			_, address, _ := strings.Cut(url, "://")
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: clientTLS.Clone(), DisableKeepAlives: true}}
			ask := func(path string) *http.Response {
				t.Helper()
				req, err := http.NewRequestWithContext(t.Context(), "GET", url+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Accept", "text/event-stream")
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { resp.Body.Close() })
				if resp.StatusCode != 200 {
					t.Fatalf("%s: %s", path, resp.Status)
				}
				return resp
			}
			for range 2 * most { // what a stream has had is free again
				s := wrap(t, ask(root+"/notify"))
				s.skip(": watching")
				s.close()
				until(t, "the stream has ended", func() bool { open, _ := srv.Streams(); return open == 0 })
			}
			s := wrap(t, ask(root+"/notify"))
			s.skip(": watching")

			var quiet []net.Conn
			for i := range 4 * most {
				something := ""
				if secure == nil {
					something = "GET / HTTP/1.1\r\nHost: localhost\r\n"[:i%3*10]
				}
				quiet = append(quiet, knock(t, address, something))
			}
			ask("/healthz")
			for _, c := range quiet[:3*most] {
				until(t, "the first ones are closed", func() bool { return isClosed(c) })
			}
			left := 0
			for _, c := range quiet[3*most:] {
				if !isClosed(c) {
					left++
				}
			}
			if left < most-3 || left > most-1 { // the stream has one, and /healthz had
				t.Errorf("of %d connections at most, %d are left to those that ask nothing", most, left)
			}
			tree.Create("f")
			if b := s.skip("data:"); !strings.Contains(b, "child_file_added") {
				t.Errorf("the stream says %s", b)
			}
		})
	}
}

// All connections have requests: a new one is closed, and none of them.
func TestConnsThatAllAsk(t *testing.T) {
	tree := servertest.New("/srv/data")
	url, srv := serveToo(t, tree, func(o *server.Options) { o.MaxConns = 3 })
	var streams []*stream
	for range 3 {
		s := open(t, url+root+"/notify", eventStream)
		s.skip(": watching")
		streams = append(streams, s)
	}
	address := strings.TrimPrefix(url, "http://")
	late := knock(t, address, "")
	late.SetReadDeadline(time.Now().Add(patience))
	if b, err := bufio.NewReader(late).ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the fourth connection got %q, %v", b, err)
	}
	tree.Create("f")
	for _, s := range streams {
		s.skip("data:")
	}
	streams[0].close()
	until(t, "a stream has ended", func() bool { open, _ := srv.Streams(); return open == 2 })
	if status, _ := get(t, url+"/healthz"); status != 200 {
		t.Errorf("with room again: %d", status)
	}
}

// A browser has opened a connection to have one: the server does not wait for what may come on it.
func TestStopDoesNotWaitForConnsThatAskNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tree := servertest.New("/srv/data")
	var log logged
	srv := server.New(server.Options{Files: tree, Journal: tree.Log, Writers: writers, ShutdownTimeout: time.Hour, ReadHeaderTimeout: time.Hour,
		Log: slog.New(slog.NewTextHandler(&log, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, l) }()
	c := knock(t, l.Addr().String(), "GET / HTTP/1.1\r\n")
	if status, _ := get(t, "http://"+l.Addr().String()+"/healthz"); status != 200 { // so that c was accepted
		t.Errorf("/healthz: %d", status)
	}
	cancel()
	c.SetReadDeadline(time.Now().Add(4 * time.Second)) // before net/http would close it by itself
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection is not closed: %v", err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("Serve does not end")
	}
	if said, _ := log.since(0); strings.Contains(said, "level=WARN") {
		t.Errorf("the log says %s", said)
	}
}
