//go:build unix

package server_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
	"fs_notify/server"
	"fs_notify/server/servertest"
)

// sdk is how Qumulo's Python client (7.x) reads a stream, byte for byte: over TLS without reading ahead,
// through a buffer of 8 KiB, line by line, and only when select says that the socket has something. Whatever is left in the
// buffer when the socket runs dry stays there until more comes, and a line that it does not know kills it.
type sdk struct {
	fd      int
	tls     *tls.Conn
	buf     []byte        // Python's BufferedReader
	silence time.Duration // 60 s
	cache   []string
	started bool
	alive   bool
	header  map[string]string
	status  string
}

// oneRecord gives its reader one TLS record at a time, as OpenSSL takes them from a socket.
type oneRecord struct {
	net.Conn
	rest []byte
}

func (c *oneRecord) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		var head [5]byte
		if _, err := io.ReadFull(c.Conn, head[:]); err != nil {
			return 0, err
		}
		c.rest = make([]byte, 5+int(binary.BigEndian.Uint16(head[3:])))
		copy(c.rest, head[:])
		if _, err := io.ReadFull(c.Conn, c.rest[5:]); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// dialSDK sends the request that get_change_notify_listener sends.
func dialSDK(t *testing.T, url string, roots *tls.Config, path string, recursive bool, filter ...string) *sdk {
	t.Helper()
	raw, err := net.Dial("tcp", strings.TrimPrefix(url, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	raw.SetDeadline(time.Now().Add(3 * patience)) // of the test, not of the SDK
	rc, err := raw.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	conf := roots.Clone()
	conf.ServerName = "127.0.0.1"
	s := &sdk{tls: tls.Client(&oneRecord{Conn: raw}, conf), silence: 60 * time.Second, alive: true, header: map[string]string{}}
	rc.Control(func(fd uintptr) { s.fd = int(fd) })
	query := "?recursive=" + map[bool]string{true: "True", false: "False"}[recursive]
	if len(filter) > 0 {
		query += "&filter=" + strings.Join(filter, "%2C")
	}
	fmt.Fprintf(s.tls, "GET /v1/files/%s/notify%s HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: identity\r\nContent-Type: application/json\r\n"+
		"Content-Length: 0\r\nUser-Agent: qq\r\n\r\n", path, query)
	if s.status, err = s.readline(); err != nil {
		t.Fatal(err)
	}
	for {
		line, err := s.readline()
		if err != nil {
			t.Fatal(err)
		}
		key, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ": ")
		if !ok {
			break
		}
		s.header[key] = value
	}
	if s.header["Content-Type"] != "text/event-source" {
		t.Fatalf("the SDK would read the endless body as a whole: %s%v", s.status, s.header)
	}
	if s.header["Transfer-Encoding"] != "" || s.header["Content-Length"] != "" {
		t.Fatalf("this model knows no other bodies than those that end with the connection: %v", s.header)
	}
	return s
}

func (s *sdk) readline() (string, error) {
	var line []byte
	for {
		if i := bytes.IndexByte(s.buf, '\n'); i >= 0 {
			line = append(line, s.buf[:i+1]...)
			s.buf = s.buf[i+1:]
			return string(line), nil
		}
		line = append(line, s.buf...)
		chunk := make([]byte, 8192)
		n, err := s.tls.Read(chunk)
		s.buf = chunk[:n]
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return string(line), nil // "" at the end, as in Python
		}
		if err != nil {
			return "", err
		}
	}
}

// ready is select on the raw socket.
func (s *sdk) ready(timeout time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
	for end := time.Now().Add(timeout); ; {
		n, err := unix.Poll(fds, int(max(time.Until(end), 0).Milliseconds()))
		if err != unix.EINTR {
			return n > 0
		}
	}
}

func (s *sdk) readAvailable() error {
	for lines := 0; s.alive && s.ready(time.Millisecond) && lines < 100; lines++ {
		line, err := s.readline()
		if err != nil {
			return err
		}
		s.cache = append(s.cache, line)
		if line == "" {
			s.alive = false
		}
	}
	return nil
}

func (s *sdk) load() error {
	if !s.alive {
		return nil
	}
	if !s.ready(s.silence) {
		s.alive = false
		return nil
	}
	return s.readAvailable()
}

func (s *sdk) hasStarted() (bool, error) {
	if !s.started {
		if err := s.load(); err != nil {
			return false, err
		}
		for _, line := range s.cache {
			s.started = s.started || strings.HasPrefix(line, ": watching")
		}
	}
	return s.started, nil
}

var errStopIteration, errEOF = errors.New("StopIteration"), errors.New("EOFError: Remote socket closed")

// next is __next__: the items of one data line.
func (s *sdk) next() ([]map[string]any, error) {
	for {
		if len(s.cache) == 0 {
			if err := s.load(); err != nil {
				return nil, err
			}
		}
		if len(s.cache) == 0 {
			return nil, errStopIteration
		}
		line := s.cache[0]
		s.cache = s.cache[1:]
		if line == "" {
			s.alive = false
			return nil, errEOF
		}
		line = strings.TrimRight(line, "\n")
		if line == "" || strings.HasPrefix(line, ": ") {
			continue
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			return nil, fmt.Errorf("KeyError: expected either comment or data, received %q", line)
		}
		var out []map[string]any
		return out, json.Unmarshal([]byte(data), &out)
	}
}

// take reads until n notifications are there. If one of them is stuck in the client's buffers, the
// test's deadline strikes, as nothing else comes.
func (s *sdk) take(t *testing.T, n int) (out []map[string]any) {
	t.Helper()
	for len(out) < n {
		items, err := s.next()
		if err != nil {
			t.Fatalf("after %d of %d notifications: %v", len(out), n, err)
		}
		out = append(out, items...)
	}
	return out
}

func TestQumuloSDK(t *testing.T) {
	tree := servertest.New("/srv/data")
	cert, roots := selfSigned(t)
	url := serve(t, tree, func(o *server.Options) { o.TLS, o.KeepAlive = cert, time.Hour })
	s := dialSDK(t, url, roots, "%2Fsrv%2Fdata", true)
	if ok, err := s.hasStarted(); !ok || err != nil {
		t.Fatalf("not started: %v, %v", ok, err)
	}

	// One, several at once, one with every strange byte in its name: none may wait for the next.
	tree.Create("a")
	got := s.take(t, 1)
	if got[0]["type"] != "child_file_added" || got[0]["path"] != "a" || got[0]["stream_name"] != nil || len(got[0]["spine"].([]any)) != 2 || len(got[0]) != 4 {
		t.Errorf("got %v", got[0])
	}
	for i := range 500 {
		tree.Create(fmt.Sprintf("burst%d", i))
	}
	tree.Rename("a", "line\nfeed\rreturn\u2028\u0085 \"quote\" \\ \x00\x7f")
	got = s.take(t, 502)
	if last := got[501]; last["path"] != "line\nfeed\rreturn\u2028\u0085 \"quote\" \\ \x00\x7f" {
		t.Errorf("got %q", last["path"])
	}

	// Frames larger than a buffer, than a TLS record, and more than one of them.
	var notes []notify.Notification
	for i := range notify.FileID(4000) {
		notes = append(notes, notify.Notification{Type: notify.ChildSizeChanged, Path: strings.Repeat("long", 50), Spine: notify.Spine{servertest.RootID, 9000 + i}})
	}
	tree.Log.Append(servertest.RootID, slices.Clone(notes)...)
	s.take(t, 4000)
	// A small frame behind a large one, at once.
	for range 3 {
		notes = nil
		for _, length := range []int{51000, 51000, 51000, 51000, 51000, 8000} {
			notes = append(notes, notify.Notification{Type: notify.ChildSizeChanged, Path: strings.Repeat("x", length), Spine: notify.Spine{servertest.RootID, 9000}})
		}
		tree.Log.Append(servertest.RootID, notes...)
		s.take(t, len(notes))
	}

	tree.Log.Append(servertest.RootID, notify.Notification{Type: notify.SelfRemoved, Spine: notify.Spine{servertest.RootID}})
	if got := s.take(t, 1); got[0]["type"] != "self_removed" || got[0]["path"] != "" {
		t.Errorf("got %v, want self_removed", got[0])
	}
	if _, err := s.next(); err != errEOF {
		t.Errorf("after self_removed: %v, want %v", err, errEOF)
	}
}

func TestQumuloSDKSilence(t *testing.T) {
	tree := servertest.New("/srv/data")
	cert, roots := selfSigned(t)
	url := serve(t, tree, func(o *server.Options) { o.TLS, o.KeepAlive = cert, 50*time.Millisecond })
	s := dialSDK(t, url, roots, "2", false, "child_file_added", "self_removed")
	s.silence = 5 * time.Second
	time.AfterFunc(500*time.Millisecond, func() { tree.Create("after ten keepalives") })
	s.take(t, 1)
	if !s.alive {
		t.Error("the client gave up")
	}
}
