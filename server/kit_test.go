package server_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"fs_notify/notify"
	"fs_notify/server"
	"fs_notify/server/servertest"
)

// writers is server.Options.Writers in these tests. The whole suite runs with writers for streams, then without.
var writers int

func TestMain(m *testing.M) {
	only := flag.String("streams", "", "run with `writers` or with goroutines only, not with both")
	flag.Parse()
	set := func(name string) bool { return flag.Lookup("test."+name).Value.String() != "" }
	if *only == "goroutines" {
		writers = -1
	}
	code := m.Run()
	if code == 0 && *only == "" && !set("list") && !set("bench") && !set("fuzz") {
		fmt.Println("the same with a goroutine for each stream:")
		writers = -1
		code = m.Run()
	}
	os.Exit(code)
}

// patience is how long a test waits for what must come before it fails.
const patience = 20 * time.Second

// serve starts a server for a tree on loopback and gives its address; it ends with the test.
func serve(t testing.TB, tree *servertest.Tree, change func(*server.Options)) (url string) {
	t.Helper()
	url, _ = serveToo(t, tree, change)
	return url
}

// serveToo is serve for those who want the server too.
func serveToo(t testing.TB, tree *servertest.Tree, change func(*server.Options)) (url string, srv *server.Server) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveAt(t, l, tree, change)
}

// serveAt is serveToo at a listener.
func serveAt(t testing.TB, l net.Listener, tree *servertest.Tree, change func(*server.Options)) (url string, srv *server.Server) {
	t.Helper()
	o := server.Options{Files: tree, Journal: tree.Log, Version: "test", Writers: writers}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithCancel(context.Background()) // t.Context() would end before the clients are closed
	done := make(chan error, 1)
	srv = server.New(o)
	go func() { done <- srv.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(patience):
			t.Error("Serve does not end")
		}
	})
	scheme := "http://"
	if o.TLS != nil {
		scheme = "https://"
	}
	return scheme + l.Addr().String(), srv
}

// oneShot is a client that keeps no connection, so that a server can end.
func oneShot(t *testing.T) *http.Client {
	tr := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// do sends a request with headers "Key: value" and gives the answer.
func do(t *testing.T, method, url string, headers ...string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		req.Header.Add(k, v)
	}
	resp, err := oneShot(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// get answers status and body.
func get(t *testing.T, url string, headers ...string) (int, string) {
	t.Helper()
	resp := do(t, "GET", url, headers...)
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// stream is an open event stream, read block by block.
type stream struct {
	t    *testing.T
	resp *http.Response
	r    *bufio.Reader
}

const eventStream = "Accept: text/event-stream"

// open opens a stream that has to be answered with 200.
func open(t *testing.T, url string, headers ...string) *stream {
	t.Helper()
	resp := do(t, "GET", url, headers...)
	if resp.StatusCode != 200 {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("GET %s: %s: %s", url, resp.Status, b)
	}
	return &stream{t, resp, bufio.NewReader(resp.Body)}
}

// block reads up to the next empty line and gives the lines before it; "" at the end of the stream.
func (s *stream) block() string {
	s.t.Helper()
	var b strings.Builder
	for {
		line, err := s.r.ReadString('\n')
		if err == io.EOF && line == "" && b.Len() == 0 {
			return ""
		}
		if err != nil {
			s.t.Fatalf("after %q: %v", b.String()+line, err)
		}
		if line == "\n" {
			return strings.TrimSuffix(b.String(), "\n")
		}
		b.WriteString(line)
	}
}

// want reads blocks that have to be these.
func (s *stream) want(blocks ...string) {
	s.t.Helper()
	for _, w := range blocks {
		if got := s.block(); got != w {
			s.t.Fatalf("the stream says\n%s\nwant\n%s", got, w)
		}
	}
}

// skip reads blocks up to one that begins so.
func (s *stream) skip(prefix string) string {
	s.t.Helper()
	for {
		b := s.block()
		if strings.HasPrefix(b, prefix) {
			return b
		}
		if b == "" {
			s.t.Fatalf("the stream ended before %q", prefix)
		}
	}
}

func (s *stream) close() { s.resp.Body.Close() }

// fields takes a block apart: the notifications in it, its id and its event.
func fields(t *testing.T, block string) (notes []notify.Notification, id, event string) {
	t.Helper()
	for line := range strings.SplitSeq(block, "\n") {
		key, value, _ := strings.Cut(line, ": ")
		switch key {
		case "id":
			id = value
		case "event":
			event = value
		case "data":
			if strings.HasPrefix(value, "[") {
				var err error
				if notes, err = notify.DecodeJSON([]byte(value)); err != nil {
					t.Fatalf("%s: %v", value, err)
				}
			}
		}
	}
	return notes, id, event
}

const root = "/v1/files/%2Fsrv%2Fdata"

// head is the cursor of a directory at the head of the journal.
func head(tree *servertest.Tree, dir notify.FileID) string {
	return notify.Cursor{Seq: tree.Log.Bounds().Newest(), Dir: dir}.String()
}

func wrap(t *testing.T, resp *http.Response) *stream {
	return &stream{t, resp, bufio.NewReader(resp.Body)}
}

// selfSigned makes the two ends of a TLS configuration for loopback.
func selfSigned(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(cryptorand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: pool}
}
