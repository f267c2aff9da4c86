package box_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"fs_notify/notify"
	"fs_notify/server"
	"fs_notify/server/servertest"
)

// pollURL asks where to poll, as Java's SDK reads the answer: ttl and max_retries strings, retry_timeout a number, and a query to append to.
func pollURL(t testing.TB, base, query string) string {
	t.Helper()
	status, h, body := ask(t, "OPTIONS", base+"/2.0/events"+query)
	var servers struct {
		ChunkSize int `json:"chunk_size"`
		Entries   []struct {
			Type, URL, TTL string
			MaxRetries     string  `json:"max_retries"`
			RetryTimeout   float64 `json:"retry_timeout"`
		}
	}
	if err := json.Unmarshal(body, &servers); err != nil || status != 200 || h.Get("Content-Type") != "application/json" {
		t.Fatalf("OPTIONS: %d %s: %v", status, body, err)
	}
	e := servers.Entries
	if servers.ChunkSize != 1 || len(e) != 1 || e[0].Type != "realtime_server" || !strings.HasPrefix(e[0].URL, base) || !strings.Contains(e[0].URL, "?") ||
		e[0].TTL == "" || e[0].MaxRetries == "" || e[0].RetryTimeout <= 0 {
		t.Fatalf("OPTIONS: %s", body)
	}
	return e[0].URL + "&stream_position="
}

// message is what a poll is answered with.
func message(t testing.TB, body []byte) string {
	t.Helper()
	var m struct {
		Version float64
		Message string
	}
	if err := json.Unmarshal(body, &m); err != nil || m.Version != 1 {
		t.Errorf("a poll is answered with %q", body)
	}
	return m.Message
}

// poll sends polls in the background; what they are answered with comes out of the channel.
func poll(t testing.TB, c *http.Client, url string, n int) <-chan string {
	t.Helper()
	out := make(chan string, n)
	for range n {
		go func() {
			resp, err := c.Get(url)
			if err != nil {
				out <- err.Error()
				return
			}
			defer resp.Body.Close()
			b, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Box-Request-Id") == "" {
				out <- fmt.Sprint(resp.Status, resp.Header, string(b))
				return
			}
			out <- message(t, b)
		}()
	}
	return out
}

// watcher counts the polls that wait.
type watcher struct {
	mu      sync.Mutex
	waiting int
	ended   map[string]int
}

func (w *watcher) Request(string, int, time.Duration) {}
func (w *watcher) StreamSent(string, int, int)        {}
func (w *watcher) StreamOpened(protocol string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting++
}
func (w *watcher) StreamClosed(protocol, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting--
	if w.ended == nil {
		w.ended = map[string]int{}
	}
	w.ended[reason]++
}

// until waits until so many polls wait.
func (w *watcher) until(t testing.TB, n int) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		w.mu.Lock()
		now := w.waiting
		w.mu.Unlock()
		if now == n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d polls wait, want %d; they ended so: %v", now, n, w.ended)
		}
	}
}

func want(t testing.TB, answers <-chan string, n int, want string) {
	t.Helper()
	for range n {
		select {
		case got := <-answers:
			if got != want {
				t.Fatalf("a poll is answered with %q, want %q", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("a poll is not answered, want %q", want)
		}
	}
}

func TestLongPoll(t *testing.T) {
	tree := servertest.New("/srv/data")
	w := &watcher{}
	base := serve(t, tree, func(o *server.Options) { o.Metrics = w })
	url := pollURL(t, base, "")
	if u := pollURL(t, base, "?stream_type=changes"); !strings.Contains(u, "stream_type=changes") {
		t.Errorf("stream_type is not in %s", u)
	}
	tree.Create("old")
	// Behind: at once, whatever the position.
	for _, position := range []string{"0", "", "null", "1", "1152922976252290886", (tree.Log.Bounds().Newest() + 5000).String()} {
		if got := message(t, get(t, url+position)); got != "new_change" {
			t.Errorf("a poll from %q, which is behind, is answered with %q", position, got)
		}
	}
	// At the head: when there is news, and only for whom it is.
	c := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(c.CloseIdleConnections)
	changes := poll(t, c, strings.Replace(url, "=all", "=changes", 1)+"now", 5)
	all := poll(t, c, url+tree.Log.Bounds().Newest().String(), 5)
	w.until(t, 10)
	tell(tree, notify.Notification{Type: notify.ChildACLChanged, Path: "old"})
	want(t, all, 5, "new_change")
	w.until(t, 5)
	tree.Create("new")
	want(t, changes, 5, "new_change")
	w.until(t, 0)
	if w.ended["news"] != 10 {
		t.Errorf("polls ended so: %v", w.ended)
	}
}

func TestLongPollsTakeNoGoroutine(t *testing.T) {
	const n = 300
	tree := servertest.New("/srv/data")
	w := &watcher{}
	base := serve(t, tree, func(o *server.Options) { o.Metrics = w })
	host := strings.TrimPrefix(base, "http://")
	before := runtime.NumGoroutine()
	var conns []net.Conn
	for range n {
		c, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "GET /2.0/events/poll?stream_position=now HTTP/1.1\r\nHost: localhost\r\n\r\n")
		conns = append(conns, c)
	}
	w.until(t, n)
	for end := time.Now().Add(patience); runtime.NumGoroutine() > before+n/10; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines for %d polls", runtime.NumGoroutine()-before, n)
		}
	}
	// Those who leave are noticed, also behind something that nobody reads. Those who stay may say it, too.
	for _, c := range conns {
		io.WriteString(c, "\r\n")
	}
	for _, c := range conns[:n/2] {
		c.Close()
	}
	w.until(t, n-n/2)
	tree.Create("f")
	for _, c := range conns[n/2:] {
		c.SetDeadline(time.Now().Add(patience))
		b, err := io.ReadAll(c) // to the end: the server closes
		if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200 OK\r\n") || !strings.Contains(string(b), "\r\nConnection: close\r\n") || !strings.HasSuffix(string(b), `{"version":1,"message":"new_change"}`) {
			t.Fatalf("%q, %v", b, err)
		}
	}
	w.until(t, 0)
	if w.ended["client"] != n/2 || w.ended["news"] != n-n/2 {
		t.Errorf("polls ended so: %v", w.ended)
	}
}

func TestLongPollWithoutNews(t *testing.T) {
	tree := servertest.New("/srv/data")
	w := &watcher{}
	base := serve(t, tree, func(o *server.Options) { o.Metrics, o.Box.PollTimeout = w, time.Millisecond })
	if got := message(t, get(t, pollURL(t, base, "")+"now")); got != "reconnect" {
		t.Errorf("a poll that had to wait too long is answered with %q", got)
	}
}

func TestLongPollsEndWithTheServer(t *testing.T) {
	var answers <-chan string
	t.Run("server", func(t *testing.T) {
		tree := servertest.New("/srv/data")
		w := &watcher{}
		base := serve(t, tree, func(o *server.Options) { o.Metrics = w })
		answers = poll(t, &http.Client{Transport: &http.Transport{}}, pollURL(t, base, "")+"now", 3)
		w.until(t, 3)
	})
	want(t, answers, 3, "reconnect")
}

// leased lets everybody see everything, until the lease ends.
type leased struct{ lease context.Context }

func (l leased) Authorize(r *http.Request) (*http.Request, error) {
	g := *notify.Everything
	g.Lease = l.lease
	return r.WithContext(notify.WithGrant(r.Context(), &g)), nil
}

// What lets a client ask ends while its poll waits: it hears of no news any more, and is told to come again.
func TestLongPollsEndWithTheirLease(t *testing.T) {
	tree := servertest.New("/srv/data")
	w := &watcher{}
	lease, revoke := context.WithCancel(t.Context())
	base := serve(t, tree, func(o *server.Options) { o.Metrics, o.Auth = w, leased{lease} })
	answers := poll(t, &http.Client{Transport: &http.Transport{}}, pollURL(t, base, "")+"now", 3)
	w.until(t, 3)
	revoke()
	tree.Create("f")
	want(t, answers, 3, "reconnect")
	w.until(t, 0)
	if w.ended["reconnect"] != 3 {
		t.Errorf("polls ended so: %v", w.ended)
	}
}

// Over TLS a poll is parked as well, over HTTP/2 it has a goroutine.
func TestLongPollOverTLS(t *testing.T) {
	cert, roots := selfSigned(t)
	for _, h2 := range []bool{false, true} {
		tree := servertest.New("/srv/data")
		w := &watcher{}
		base := serve(t, tree, func(o *server.Options) {
			o.Metrics, o.TLS = w, cert.Clone()
			if h2 {
				o.TLS.NextProtos = []string{"h2"}
			}
		})
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: roots.Clone(), ForceAttemptHTTP2: h2}}
		t.Cleanup(c.CloseIdleConnections)
		answers := poll(t, c, base+"/2.0/events/poll?stream_type=all&stream_position=now", 3)
		w.until(t, 3)
		tree.Create("f")
		want(t, answers, 3, "new_change")
		w.until(t, 0)
		// One who leaves is noticed, and one who says something more has not left.
		var talkers []net.Conn
		for i := range 2 {
			if h2 {
				break
			}
			conn, err := tls.Dial("tcp", strings.TrimPrefix(base, "https://"), roots)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			io.WriteString(conn, "GET /2.0/events/poll?stream_position=now HTTP/1.1\r\nHost: localhost\r\n\r\n")
			w.until(t, i+1)
			io.WriteString(conn, "\r\n")
			talkers = append(talkers, conn)
		}
		resp := make(chan error, 1)
		leaving := &http.Client{Transport: &http.Transport{TLSClientConfig: roots.Clone(), ForceAttemptHTTP2: h2}, Timeout: 200 * time.Millisecond}
		go func() {
			_, err := leaving.Get(base + "/2.0/events/poll?stream_position=now")
			resp <- err
		}()
		if err := <-resp; err == nil {
			t.Error("a poll at the head was answered")
		}
		leaving.CloseIdleConnections()
		w.until(t, len(talkers))
		tree.Create("g")
		for _, c := range talkers {
			c.SetDeadline(time.Now().Add(patience))
			if b, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(b), `{"version":1,"message":"new_change"}`) {
				t.Errorf("one who says something more is answered with %q, %v", b, err)
			}
		}
	}
}

// A poll sleeps over what a page would hold back, and wakes at the close.
func TestLongPollWakesAtTheClose(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.SetState(func(s *notify.RootState) { s.Closes = true })
	w := &watcher{}
	base := serve(t, tree, func(o *server.Options) { o.Metrics, o.Box.Hold = w, time.Hour })
	setClock(tree)
	start := tree.Log.Bounds().Newest()
	answers := poll(t, http.DefaultClient, pollURL(t, base, "")+start.String(), 2)
	w.until(t, 2)
	tell(tree, notify.Notification{Type: notify.ChildFileAdded, Path: "f"})
	tell(tree, notify.Notification{Type: notify.ChildDataWritten, Path: "f"})
	late := poll(t, http.DefaultClient, pollURL(t, base, "")+start.String(), 2)
	w.until(t, 4)
	tell(tree, notify.Notification{Type: notify.ChildFileClosed, Path: "f"})
	want(t, answers, 2, "new_change")
	want(t, late, 2, "new_change")
	if events, _ := follow(t, base, int64(start), nil); show(events) != "ITEM_UPLOAD file data/f 0" {
		t.Errorf("then:\n%s", show(events))
	}
}

// Of a file that stays open while it is written to, one event is told when pages have waited long enough, and polls then sleep over its growth.
func TestAFileThatStaysOpen(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.SetState(func(s *notify.RootState) { s.Closes = true })
	w := &watcher{}
	base := serve(t, tree, func(o *server.Options) { o.Metrics, o.Box.Hold = w, time.Millisecond })
	setClock(tree)
	start := int64(tree.Log.Bounds().Newest())
	tell(tree, notify.Notification{Type: notify.ChildFileAdded, Path: "f"})
	want(t, poll(t, http.DefaultClient, base+fmt.Sprint("/2.0/events/poll?stream_position=", start), 1), 1, "new_change")
	events, next := follow(t, base, start, nil)
	if show(events) != "ITEM_UPLOAD file data/f 0" {
		t.Fatalf("after the wait:\n%s", show(events))
	}
	answers := poll(t, http.DefaultClient, base+fmt.Sprint("/2.0/events/poll?stream_position=", next), 1)
	w.until(t, 1)
	for i := range 100 {
		at := notify.Attr{Size: int64(i), Mode: notify.ModeFile}
		tell(tree, notify.Notification{Type: notify.ChildDataWritten, Path: "f", Attr: at}, notify.Notification{Type: notify.ChildSizeChanged, Path: "f", Attr: at},
			notify.Notification{Type: notify.ChildMtimeChanged, Path: "f", Attr: at})
	}
	select {
	case got := <-answers:
		t.Fatalf("a poll wakes of more data: %s", got)
	case <-time.After(50 * time.Millisecond):
	}
	late := poll(t, http.DefaultClient, base+fmt.Sprint("/2.0/events/poll?stream_position=", next), 1)
	w.until(t, 2)
	tell(tree, notify.Notification{Type: notify.ChildFileClosed, Path: "f"})
	want(t, answers, 1, "new_change")
	want(t, late, 1, "new_change")
	if events, _ = follow(t, base, next, nil); show(events) != "ITEM_UPLOAD file data/f 99" {
		t.Errorf("after the close:\n%s", show(events))
	}
}

func TestTooManyLongPolls(t *testing.T) {
	tree := servertest.New("/srv/data")
	w := &watcher{}
	base := serve(t, tree, func(o *server.Options) { o.Metrics, o.MaxStreams = w, 2 })
	answers := poll(t, http.DefaultClient, base+"/2.0/events/poll?stream_position=now", 2)
	w.until(t, 2)
	status, h, body := ask(t, "GET", base+"/2.0/events/poll?stream_position=now")
	if status != 503 || h.Get("Retry-After") == "" || !strings.Contains(string(body), `"code":"unavailable"`) {
		t.Errorf("one too many: %d %v %s", status, h, body)
	}
	tree.Create("f")
	want(t, answers, 2, "new_change")
	for end := time.Now().Add(patience); ; { // their places are free again
		if status, _, _ = ask(t, "GET", base+"/2.0/events/poll?stream_position=0"); status == 200 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("places are not given back")
		}
	}
}

// selfSigned makes the two ends of a TLS configuration for loopback.
func selfSigned(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: pool}
}
