//go:build linux

package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
	"fs_notify/notify/feed/feedtest"
	"fs_notify/server"
	"fs_notify/server/servertest"
)

// rawStream is a client that is nothing but a socket.
type rawStream struct {
	net.Conn
	t *testing.T
}

// dial sends a request for a stream and reads nothing.
func dial(t *testing.T, url, path string, headers ...string) rawStream {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(3 * patience))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n%s\r\n", path, strings.Join(append(headers, ""), "\r\n"))
	return rawStream{c, t}
}

// until reads up to the first appearance of what it waits for.
func (c rawStream) until(what string) string {
	c.t.Helper()
	var b []byte
	for one := make([]byte, 1); !bytes.HasSuffix(b, []byte(what)); {
		if _, err := c.Read(one); err != nil {
			c.t.Fatalf("after %q: %v", b, err)
		}
		b = append(b, one[0])
	}
	return string(b)
}

func TestWritersNeedNoGoroutineForAStream(t *testing.T) {
	if writers < 0 {
		t.Skip("there are no writers")
	}
	tree := servertest.New("/srv/data")
	url := serve(t, tree, nil)
	before := runtime.NumGoroutine()
	var clients []rawStream
	for range 200 {
		c := dial(t, url, root+"/notify")
		c.until("\nid: " + head(tree, servertest.RootID) + "\n\n")
		clients = append(clients, c)
	}
	for until := time.Now().Add(patience); runtime.NumGoroutine() > before+20; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("200 idle streams: %d goroutines, without them %d", runtime.NumGoroutine(), before)
		}
	}
	tree.Create("f")
	for _, c := range clients {
		c.until("\"path\":\"f\",\"stream_name\":null}]\nid: 4108291.2\n\n")
	}
}

// Globs that may take long to be matched hold up nobody else: their streams have a goroutine each.
func TestDearGlobsKeepTheirGoroutine(t *testing.T) {
	if writers < 0 {
		t.Skip("there are no writers")
	}
	tree := servertest.New("/srv/data")
	url := serve(t, tree, nil)
	var dear strings.Builder
	for i := range 40 {
		fmt.Fprintf(&dear, "&exclude=*aaaaaaaaaaaaaaaaaaaaX%d", i)
	}
	stand := func(query string) int {
		before := runtime.NumGoroutine()
		var clients []rawStream
		for range 50 {
			c := dial(t, url, root+"/notify?recursive=true"+query)
			c.until("\nid: " + head(tree, servertest.RootID) + "\n\n")
			clients = append(clients, c)
		}
		tree.Create("f" + fmt.Sprint(len(query)))
		for _, c := range clients {
			c.until("\"path\":\"f" + fmt.Sprint(len(query)) + "\",\"stream_name\":null}]\n")
		}
		return runtime.NumGoroutine() - before
	}
	if n := stand("&exclude=*.tmp"); n > 25 {
		t.Errorf("50 streams with a cheap glob have %d goroutines", n)
	}
	if n := stand(dear.String()); n < 50 {
		t.Errorf("50 streams with dear globs have %d goroutines", n)
	}
}

// script changes a tree in every way that makes frames of their own: small and large batches, renames, other
// directories, and at last the end of the watched one.
func script(tree *servertest.Tree, rnd *rand.Rand) {
	dir := tree.Paths()["dir"]
	for i := range 250 {
		switch k := rnd.IntN(20); {
		case i%100 == 50: // frames of more than 256 KiB together, with renames that must not be torn
			var notes []notify.Notification
			long := strings.Repeat("\xff", 150)
			for j := range notify.FileID(200 + rnd.IntN(400)) {
				spine := notify.Spine{servertest.RootID, dir, 50000 + j}
				notes = append(notes,
					notify.Notification{Type: notify.ChildFileMovedFrom, Path: fmt.Sprint("dir/", long, "a", j), Spine: spine, Link: notify.Seq(2*j + 2)},
					notify.Notification{Type: notify.ChildFileMovedTo, Path: fmt.Sprint("dir/", long, "b", j), Spine: spine, Link: notify.Seq(2*j + 1)})
			}
			tree.Log.Append(servertest.RootID, notes...)
		case k < 4:
			tree.Create(fmt.Sprint("elsewhere", i))
		case k < 6:
			tree.Mkdir(fmt.Sprint("dir/d", i))
		case k < 9:
			tree.Create(fmt.Sprint("dir/burst", i))
			for j := range int64(50) {
				tree.Write(fmt.Sprint("dir/burst", i), j)
			}
		default:
			tree.Create(fmt.Sprint("dir/f", i))
			tree.Rename(fmt.Sprint("dir/f", i), fmt.Sprint("dir/g", i))
		}
		if rnd.IntN(10) == 0 {
			time.Sleep(time.Duration(rnd.IntN(3)) * time.Millisecond)
		}
	}
	tree.Remove("dir")
}

// What a stream says does not depend on who writes it: a writer or a goroutine, live or behind, whether its client reads
// fast or slowly, and whether memory holds what it reads.
func TestSameBytesFromBothPaths(t *testing.T) {
	if writers < 0 {
		t.Skip("it has been compared already")
	}
	for name, kept := range map[string]int{"all in memory": -1, "little in memory": 20, "nothing in memory": 0} {
		t.Run(name, func(t *testing.T) {
			tree := servertest.New("/srv/data")
			dir := tree.Mkdir("dir")
			tree.Log.KeepInMemory(kept)
			start := head(tree, dir)
			urls := [2]string{}
			for i, n := range []int{2, -1} {
				urls[i] = serve(t, tree, func(o *server.Options) { o.Writers, o.KeepAlive = n, time.Hour })
			}
			var all sync.WaitGroup
			var got sync.Map
			follow := func(name, query string, i int, c rawStream, slow bool) {
				all.Go(func() {
					var b bytes.Buffer
					chunk := make([]byte, 64<<10)
					for {
						n, err := c.Read(chunk)
						b.Write(chunk[:n])
						if err == io.EOF {
							break
						}
						if err != nil {
							t.Errorf("%s: after %d bytes: %v", name, b.Len(), err)
							return
						}
						if slow && rand.IntN(4) == 0 {
							time.Sleep(time.Millisecond)
						}
					}
					_, chunks, _ := bytes.Cut(b.Bytes(), []byte("\r\n\r\n"))
					body, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(chunks)))
					if err != nil {
						t.Errorf("%s: after %d bytes in chunks: %v", name, len(body), err)
					}
					got.Store(fmt.Sprint(query, " ", name, " ", i), body)
				})
			}
			queries := []string{"", "&recursive=true", "&fields=all", "&filter=child_dir_added", "&filter=child_file_moved_to,child_file_removed"}
			open := func(name string, slow bool) {
				for _, q := range queries {
					for i, url := range urls {
						c := dial(t, url, "/v1/files/"+dir.String()+"/notify?last_event_id="+start+q)
						if slow {
							c.Conn.(*net.TCPConn).SetReadBuffer(32 << 10)
						}
						follow(name, q, i, c, slow)
					}
				}
			}
			open("from the beginning", false)
			open("slow", true)
			script(tree, rand.New(rand.NewPCG(7, 8)))
			open("afterwards", false)
			all.Wait()
			want := map[string][]byte{}
			seen := 0
			got.Range(func(k, v any) bool {
				query, _, _ := strings.Cut(k.(string), " ")
				body := v.([]byte)
				seen++
				// A stream says what it watches at its beginning, unless that was gone by then.
				_, body, _ = bytes.Cut(body, []byte("\n\n"))
				if want[query] == nil {
					want[query] = body
				} else if !bytes.Equal(body, want[query]) {
					at := 0
					for at < min(len(body), len(want[query])) && body[at] == want[query][at] {
						at++
					}
					t.Errorf("%s: %d bytes, another has %d; they differ at %d: %.100q, %.100q", k, len(body), len(want[query]), at, body[at:], want[query][at:])
				}
				return true
			})
			if seen != 6*len(queries) || len(want[""]) < 512<<10 {
				t.Errorf("%d streams, %d bytes", seen, len(want[""]))
			}
		})
	}
}

// A client that closes its side is noticed at once, though nothing is written to it.
func TestHangUpIsNoticed(t *testing.T) {
	tree := servertest.New("/srv/data")
	closed := make(chan string, 10)
	url := serve(t, tree, func(o *server.Options) { o.Metrics, o.KeepAlive = &metrics{closed: closed}, time.Hour })
	for _, how := range []func(*net.TCPConn){
		func(c *net.TCPConn) { c.Close() },
		func(c *net.TCPConn) { c.CloseWrite() },
		func(c *net.TCPConn) { c.SetLinger(0); c.Close() },
	} {
		c := dial(t, url, root+"/notify")
		c.until("\nid: ")
		how(c.Conn.(*net.TCPConn))
		select {
		case reason := <-closed:
			if reason != "client" {
				t.Errorf("the stream ended for %q", reason)
			}
		case <-time.After(patience):
			t.Fatal("nobody noticed")
		}
	}
}

// A client without power or network neither takes anything nor says good-bye. It is let go, whoever writes to it.
func TestVanishedClient(t *testing.T) {
	cert, pool := selfSigned(t)
	for _, proto := range []string{"", "http/1.1", "h2"} {
		for _, accept := range []string{"text/event-stream", "application/json"} {
			m := &metrics{closed: make(chan string, 10)}
			url := serve(t, servertest.New("/srv/data"), func(o *server.Options) {
				o.Metrics, o.KeepAlive, o.WriteTimeout = m, 20*time.Millisecond, 500*time.Millisecond
				if proto != "" {
					o.TLS = cert.Clone()
					o.TLS.NextProtos = []string{proto}
				}
			})
			var vanish func() error
			dialer := &net.Dialer{KeepAlive: -1}
			tr := &http.Transport{TLSClientConfig: pool.Clone(), ForceAttemptHTTP2: proto == "h2", DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := dialer.DialContext(ctx, network, addr)
				if err == nil {
					vanish = func() error { return deafen(c.(*net.TCPConn)) }
				}
				return c, err
			}}
			req, err := http.NewRequestWithContext(t.Context(), "GET", url+root+"/notify", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept", accept)
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			wrap(t, resp).skip(": keepalive")
			if err := vanish(); err != nil {
				t.Fatal(err)
			}
			select {
			case reason := <-m.closed:
				if reason != "client" && reason != "stalled" {
					t.Errorf("%s %s: the stream ended for %q", proto, accept, reason)
				}
			case <-time.After(patience):
				t.Errorf("%s %s: one who vanished is still served", proto, accept)
			}
			resp.Body.Close()
			tr.CloseIdleConnections()
		}
	}
}

// deafen has the kernel throw away all that comes to a socket, before it is acknowledged.
func deafen(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	var serr error
	err = raw.Control(func(fd uintptr) {
		serr = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop})
	})
	return errors.Join(err, serr)
}

// Many are far behind, and who reads the journal for them has no time: they are told that their streams live, and who leaves gives
// up its place at once.
func TestWaitingForAPager(t *testing.T) {
	const count = 20
	tree := servertest.New("/srv/data")
	m := &metrics{closed: make(chan string, count)}
	url := serve(t, tree, func(o *server.Options) { o.Metrics, o.Pagers, o.KeepAlive = m, 1, 20*time.Millisecond })
	var clients []rawStream
	for range count {
		c := dial(t, url, root+"/notify")
		c.until("\nid: " + head(tree, servertest.RootID) + "\n\n")
		clients = append(clients, c)
	}
	busy, gate := make(chan struct{}, 1), make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	defer open()
	tree.Log.OnPage(func() {
		select {
		case busy <- struct{}{}:
		default:
		}
		<-gate
	})
	tree.Log.KeepInMemory(0)
	tree.Create("f")
	<-busy // with one of them
	alive := make(chan rawStream, count)
	for _, c := range clients {
		go func() {
			var b []byte
			one := make([]byte, 1)
			for bytes.Count(b, []byte(": keepalive")) < 10 {
				if _, err := c.Read(one); err != nil {
					return // the one
				}
				b = append(b, one[0])
			}
			alive <- c
		}()
	}
	for i := range count - 1 {
		select {
		case c := <-alive:
			if i%2 == 0 {
				c.Close()
				continue
			}
			defer func() {
				if told := c.until("]\n"); !strings.Contains(told, `"path":"f"`) {
					t.Errorf("after the wait a stream says %q", told)
				}
			}()
		case <-time.After(patience):
			t.Fatalf("%d of %d that wait are kept alive", i, count-1)
		}
	}
	for range count / 2 {
		select {
		case reason := <-m.closed:
			if reason != "client" {
				t.Errorf("a stream ended for %q", reason)
			}
		case <-time.After(patience):
			t.Fatal("who has left keeps its place")
		}
	}
	open()
}

// A journal that is damaged, or forgets what a stream has not read, ends the stream with the reason and an id; coming back with that
// is refused.
func TestGoneInMidStream(t *testing.T) {
	for name, breakIt := range map[string]func(*feedtest.Log){
		"damaged":   (*feedtest.Log).AppendDamaged,
		"forgotten": (*feedtest.Log).AppendForgotten,
	} {
		t.Run(name, func(t *testing.T) {
			tree := servertest.New("/srv/data")
			url := serve(t, tree, nil)
			s := open(t, url+root+"/notify", eventStream)
			s.skip("retry")
			tree.Create("before")
			s.skip("data: ")
			last := head(tree, servertest.RootID)
			breakIt(tree.Log)
			tree.Create("after")
			b := s.skip(": closed: ")
			if !strings.Contains(b, "journal") || !strings.HasSuffix(b, "\nid: "+last) {
				t.Errorf("the stream ends with %q, want a reason and the id %s", b, last)
			}
			if end := s.block(); end != "" {
				t.Errorf("after the end came %q", end)
			}
			if status, body := get(t, url+root+"/notify", eventStream, "Last-Event-ID: "+last); status != 410 {
				t.Errorf("coming back: %d %s", status, body)
			}
		})
	}
}

// The server stops while streams come, go, read the past from disk and are stuck: each is told of, once, and nothing is left behind.
func TestStopAmidEverything(t *testing.T) {
	tree := servertest.New("/srv/data")
	for i := range 300 {
		tree.Create(fmt.Sprint(strings.Repeat("x", 200), i))
	}
	tree.Log.KeepInMemory(1)
	tree.Log.OnPage(func() { time.Sleep(200 * time.Microsecond) })
	before := runtime.NumGoroutine()
	for round := range 5 {
		m := &metrics{closed: make(chan string, 1000)}
		s := server.New(server.Options{Files: tree, Journal: tree.Log, Writers: writers, Metrics: m, WriteTimeout: time.Second})
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx, l) }()
		var clients sync.WaitGroup
		for i := range 60 {
			clients.Go(func() {
				c, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					return // it has stopped
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				fmt.Fprintf(c, "GET %s/notify?since=oldest HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n", root)
				switch i % 3 {
				case 0: // reads to the end
					io.Copy(io.Discard, c)
				case 1: // leaves at once, or soon
					io.CopyN(io.Discard, c, rand.Int64N(50000))
				default: // reads nothing until the end
					<-ctx.Done()
				}
			})
		}
		for range 20 * round {
			tree.Create(fmt.Sprint("r", round, "-", rand.Int64()))
			time.Sleep(200 * time.Microsecond)
		}
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		clients.Wait()
		if open, behind := s.Streams(); open != 0 || behind != 0 {
			t.Errorf("round %d: %d streams are open, %d are behind", round, open, behind)
		}
		if opened, closed := m.opened.Load(), len(m.closed); int(opened) != closed {
			t.Errorf("round %d: %d streams were opened and %d closed", round, opened, closed)
		}
	}
	for until := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, before it were %d:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}
