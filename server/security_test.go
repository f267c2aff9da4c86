package server_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"fs_notify/server"
	"fs_notify/server/access"
	"fs_notify/server/servertest"
)

// logged is a log that a test reads while others write.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// since gives what was logged after a place, and the place where that ends.
func (l *logged) since(at int) (string, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()[at:], l.b.Len()
}

// raw sends bytes as they are, and gives all that comes back until the answer is whole or the connection is closed.
func raw(t *testing.T, url, text string) (status int, head http.Header, body string) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, text) // the server may close before all of it went
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, nil, ""
	}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20)) // so may a stream be
	return resp.StatusCode, resp.Header, string(b)
}

// fort is a server with everything that somebody could be after: entries called secret, outside of what the token "mine" may see.
type fort struct {
	t      *testing.T
	tree   *servertest.Tree
	srv    *server.Server
	url    string
	log    *logged
	theirs []string // refs that lead to what may not be seen
}

func newFort(t *testing.T, change func(*server.Options)) *fort {
	t.Helper()
	f := &fort{t: t, tree: servertest.New("/srv/data"), log: &logged{}}
	f.tree.Mkdir("mine")
	dir := f.tree.Mkdir("theirs")
	file := f.tree.Create("theirs/secret")
	f.theirs = []string{"%2Fsrv%2Fdata%2Ftheirs", "srv/data/theirs", dir.String(), file.String(), servertest.RootID.String(), "%2F", "srv", "srv/data"}
	files := t.TempDir()
	hash, err := bcrypt.GenerateFromPassword([]byte("horse"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"users": "joe:" + string(hash) + "\n",
		"tokens": fmt.Sprintf("tokens:\n  - {name: mine, hash: '%s', paths: [/srv/data/mine], privileges: [notify, notify.recursive, changes, admin]}\n"+
			"  - {name: weak, hash: '%s', privileges: [notify]}\n", access.SHA256("mine-token"), access.SHA256("weak-token")),
	} {
		if err := os.WriteFile(filepath.Join(files, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelInfo}))
	guard, err := access.New(access.Options{Tokens: filepath.Join(files, "tokens"), Users: filepath.Join(files, "users"), StateDir: filepath.Join(files, "state"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	f.url, f.srv = serveToo(t, f.tree, func(o *server.Options) {
		o.Auth, o.Open, o.Guarded, o.Log = guard, guard.Open(), guard.Routes(), log
		o.ReadHeaderTimeout, o.MaxHeaderBytes = 500*time.Millisecond, 16<<10
		o.Page = http.NotFoundHandler()
		if change != nil {
			change(o)
		}
	})
	return f
}

// ask sends one request with a path exactly as it is written. More headers each end in \r\n.
func (f *fort) ask(method, target, headers string) (status int, head http.Header, body string) {
	f.t.Helper()
	return raw(f.t, f.url, method+" "+target+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"+headers+"\r\n")
}

const (
	withMine = "Authorization: Bearer mine-token\r\n"
	withWeak = "Authorization: Bearer weak-token\r\n"
)

// attempt is what somebody may try.
type attempt struct {
	name   string
	method string
	target string
	head   string
	want   string // statuses
	log    string
}

// The table: what somebody may try, what it must be answered with, and what the log must say of it.
func TestAttempts(t *testing.T) {
	f := newFort(t, nil)
	var attempts []attempt
	add := func(name, target, head, want, log string) {
		attempts = append(attempts, attempt{name, "GET", target, head, want, log})
	}
	for _, ref := range []string{
		"srv/data/mine/../theirs", "srv/data/mine/%2e%2e/theirs", "srv/data/mine/%2E./theirs", "%2Fsrv%2Fdata%2Fmine%2F..%2Ftheirs", "%2Fsrv%2Fdata%2Fmine%2F%2e%2e%2Ftheirs",
		"../../v1/files/srv/data/theirs", "srv/data/mine/./../theirs", "srv/data/mine//../theirs", "srv/data/mine%00/../theirs", "srv/data/theirs%00",
	} {
		for _, what := range []string{"/notify?timeout=0", "/entries?recursive=1", "/info/attributes"} {
			add("traversal", "/v1/files/"+ref+what, withMine, "400 404", "request failed|asked for what may not be seen")
			add("traversal below /api", "/api/v1/files/"+ref+what, withMine, "400 404", "request failed|asked for what may not be seen")
		}
	}
	for _, ref := range []string{"srv/data/mine/%252e%252e/theirs", "srv/data/mine/..%5ctheirs", "srv/data/mine/%c0%ae%c0%ae/theirs", "srv/data/mine/..;/theirs", "srv/data/mine/%ef%bc%8e%ef%bc%8e/theirs"} {
		add("traversal that no file system knows", "/v1/files/"+ref+"/entries", withMine, "404", "")
	}
	add("an escaped slash in the prefix", "/v1%2Ffiles%2Fsrv%2Fdata%2Ftheirs/entries", withMine, "404", "")
	for _, ref := range f.theirs {
		for _, what := range []string{"/notify?timeout=0", "/notify?since=oldest&timeout=0&recursive=true", "/notify?since=snapshot&timeout=0", "/entries?recursive=true", "/info/attributes"} {
			add("a token of another prefix", "/v1/files/"+ref+what, withMine, "404", "asked for what may not be seen")
		}
	}
	for _, id := range []string{f.theirs[2], servertest.RootID.String()} { // the stream of what is out of sight, by the back door of a resume
		add("a resume elsewhere", "/v1/files/srv/data/mine/notify?recursive=true&timeout=0&last_event_id=4100095."+id, withMine, "404", "asked for what may not be seen")
	}
	add("more than the privileges", "/v1/files/srv/data/notify?recursive=true", withWeak, "403", "request failed")
	for _, cookie := range []string{"session-v1:eyJpIjoiYSIsInMiOiJ1c2VyOmpvZSIsImYiOiIiLCJ4Ijo5OTk5OTk5OTk5fQ.AAAA", "session-v1:.", "mine", access.SHA256("mine-token"), "%00", strings.Repeat("A", 3000)} {
		for _, name := range []string{"fs_notify_session", "__Host-fs_notify_session"} {
			add("a forged cookie", "/v1/files/srv/data/mine/entries", "Cookie: "+name+"="+cookie+"\r\n", "401", "request failed")
		}
	}
	for _, param := range []string{"token", "access_token", "bearer_token", "auth", "X-Auth-Token"} {
		add("a token in the URL", "/v1/files/srv/data/mine/entries?"+param+"=mine-token", "", "401", "request failed")
	}
	for _, head := range []string{"", "Authorization: Bearer\r\n", "Authorization: Bearer  \r\n", "Authorization: Basic bWluZS10b2tlbjo=\r\n", "Authorization: Bearer mine-token2\r\n",
		"Authorization: Bearer MINE-TOKEN\r\n", "X-Auth-Token: x\r\n" + withMine, "X-Forwarded-For: 127.0.0.1\r\n", "X-Real-IP: 127.0.0.1\r\n", "Forwarded: for=127.0.0.1\r\n"} {
		add("nobody", "/v1/files/srv/data/mine/entries", head, "401", "request failed")
	}
	add("a header that is too large", "/v1/files/srv/data/mine/entries", withMine+"X: "+strings.Repeat("x", 64<<10)+"\r\n", "431", "no request came on it")
	add("many headers", "/v1/files/srv/data/mine/entries", withMine+strings.Repeat("X: y\r\n", 10000), "431", "no request came on it")
	add("a path that is too long", "/v1/files/"+strings.Repeat("a/", 7000)+"notify", withMine, "400 404", "")
	add("a glob that takes for ever", "/v1/files/srv/data/mine/entries?exclude="+strings.Repeat("%7Ba,b%7D", 30), withMine, "400", "request failed")
	add("a header that goes on in the next line", "/v1/files/%2Fsrv%2Fdata%2Fmine%0d%0aSet-Cookie:%20a=b/entries", withMine, "404", "")
	add("two lengths", "/v1/files/srv/data/mine/entries", withMine+"Content-Length: 1\r\nContent-Length: 2\r\n", "400", "no request came on it")
	add("a host with rubbish", "/v1/files/srv/data/mine/entries", withMine+"Host: evil\r\n", "400", "no request came on it")
	attempts = append(attempts,
		attempt{"a page of another site", "POST", "/v1/files/resolve", withMine + "Origin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\nContent-Length: 2\r\n\r\n[]", "403", "request failed"},
		attempt{"a login from another site", "POST", "/login", "Origin: https://evil.example\r\nContent-Length: 2\r\n\r\n{}", "403", "request failed"},
		attempt{"a body that is too large", "POST", "/v1/files/resolve", withMine + "Content-Length: 99999999\r\n", "413", "request failed"},
		attempt{"somebody else's ID", "POST", "/v1/files/resolve", withMine + fmt.Sprintf("Content-Length: %d\r\n\r\n[%q]", len(f.theirs[3])+4, f.theirs[3]), "404", "asked for what may not be seen"},
		attempt{"TRACE", "TRACE", "/v1/files/srv/data/mine/entries", withMine, "405", ""},
		attempt{"CONNECT", "CONNECT", "/v1/files/srv/data/theirs/entries", withMine, "404 405 400", ""},
	)
	_, at := f.log.since(0)
	for _, a := range attempts {
		status, head, body := f.ask(a.method, a.target, a.head)
		if !strings.Contains(a.want, fmt.Sprint(status)) || status == 0 {
			t.Errorf("%s: %s %.200s: %d %.300s, want %s", a.name, a.method, a.target, status, body, a.want)
		}
		if strings.Contains(body, "secret") || head.Get("Set-Cookie") != "" {
			t.Errorf("%s: %s %.200s: it gave away %v %s", a.name, a.method, a.target, head, body)
		}
		ok, told, next := a.log == "", "", 0
		for end := time.Now().Add(patience); !ok && time.Now().Before(end); time.Sleep(time.Millisecond) {
			told, next = f.log.since(at)
			for words := range strings.SplitSeq(a.log, "|") {
				ok = ok || strings.Contains(told, words)
			}
		}
		if !ok {
			t.Errorf("%s: %s %.200s: the log says %q, want %q", a.name, a.method, a.target, told, a.log)
		}
		at = max(at, next)
	}
	if all, _ := f.log.since(0); strings.Contains(strings.ToLower(all), "mine-token") || strings.Contains(all, "session-v1") {
		t.Error("the log holds what lets people in")
	}
}

// On every route of every protocol, whatever is asked: nothing of what is out of sight, and nothing at all without a token.
func TestEveryRouteIsGuarded(t *testing.T) {
	f := newFort(t, nil)
	public := map[string]bool{"/": true, "/page/*": true, "/healthz": true, "/readyz": true, "/metrics": true, "/v1/version": true, "/login": true, "/logout": true,
		"/v1/session/login": true, "/v1/session/logout": true}
	routes := f.srv.Routes()
	if len(routes) < 10 {
		t.Fatalf("only %v are mounted", routes)
	}
	f.tree.Write("theirs/secret", 5)
	var all sync.WaitGroup
	defer all.Wait()
	turns := make(chan struct{}, 8) // of many answers one has to see that they go on
	for _, route := range routes {
		targets := []string{}
		for _, ref := range f.theirs {
			target := route
			for {
				i := strings.IndexByte(target, ':')
				if i < 0 {
					break
				}
				end := strings.IndexByte(target[i:], '/')
				if end < 0 {
					end = len(target) - i
				}
				target = target[:i] + ref + target[i+end:]
			}
			if before, ok := strings.CutSuffix(target, "*"); ok {
				targets = append(targets, before+ref, before+ref+"/notify?timeout=0&since=oldest&recursive=true", before+ref+"/entries")
			} else {
				targets = append(targets, target, target+"?stream_position=0&timeout=1&timeout=0&last_seq=0&id="+ref+"&fileId="+ref)
			}
		}
		for _, target := range targets {
			for _, method := range []string{"GET", "POST", "OPTIONS"} {
				body := fmt.Sprintf(`{"fileMeta":{"fields":["name","path"],"always":true},"ids":[%q],"path":"/srv/data/theirs"}`, f.theirs[2])
				head := "Content-Type: application/json\r\n"
				if method == "POST" {
					head += fmt.Sprintf("Content-Length: %d\r\n", len(body))
				} else {
					body = ""
				}
				turns <- struct{}{}
				all.Go(func() {
					for _, who := range []string{"", withMine} {
						status, _, answer := quick(t, f.url, method+" "+target+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"+head+who+"\r\n"+body)
						if strings.Contains(answer, "secret") {
							t.Errorf("%s %s with %q gave away %d %.500s", method, target, who, status, answer)
						}
						if who == "" && !public[route] && status != http.StatusUnauthorized {
							t.Errorf("%s %s without a token: %d %.200s", method, target, status, answer)
						}
					}
					<-turns
				})
			}
		}
	}
}

// quick is raw for what may go on for ever: of such an answer it takes what comes at once.
func quick(t *testing.T, url, text string) (status int, head http.Header, body string) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Error(err)
		return 0, nil, ""
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, text)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, nil, ""
	}
	if resp.ContentLength < 0 {
		c.SetDeadline(time.Now().Add(200 * time.Millisecond))
	}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, resp.Header, string(b)
}

// Connections on which a request never becomes whole are closed, many of them at once too, while others are served.
func TestSlowLoris(t *testing.T) {
	f := newFort(t, nil)
	var slow []net.Conn
	for range 200 {
		c, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, "GET /v1/files/srv/data/mine/notify HTTP/1.1\r\nHost: localhost\r\nX-a: ")
		slow = append(slow, c)
	}
	if status, _, _ := f.ask("GET", "/v1/files/srv/data/mine/entries", withMine); status != 200 {
		t.Errorf("meanwhile others get %d", status)
	}
	for _, c := range slow {
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, "b") // one byte now and then does not help
		if _, err := io.ReadAll(c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Fatal("a connection is kept open for who says nothing")
		}
	}
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		told, _ := f.log.since(0)
		if n := strings.Count(told, "no request came on it"); n == len(slow) {
			break
		} else if time.Now().After(end) {
			t.Fatalf("%d of %d are in the log", n, len(slow))
		}
	}
}

// Whoever asks only for what there is not is received as all others: counted as a request, and not taken for one who said nothing.
func TestUnroutedRequests(t *testing.T) {
	m := &metrics{}
	f := newFort(t, func(o *server.Options) { o.Metrics = m })
	for _, want := range []attempt{{method: "GET", target: "/robots.txt", want: "404"}, {method: "BREW", target: "/v1/version", want: "405"}} {
		if status, head, body := f.ask(want.method, want.target, ""); fmt.Sprint(status) != want.want || head.Get("X-Frame-Options") == "" || !strings.Contains(body, "error_class") {
			t.Errorf("%s %s: %d %v %s, want %s", want.method, want.target, status, head, body, want.want)
		}
	}
	if n := m.requests.Load(); n != 2 {
		t.Errorf("%d requests are counted, want 2", n)
	}
	f.ask("GET", "/", "Content-Length: 1\r\nContent-Length: 2\r\n")
	const line = "no request came on it"
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if told, _ := f.log.since(0); strings.Contains(told, line) || time.Now().After(end) {
			if n := strings.Count(told, line); n != 1 {
				t.Errorf("the log says %d times that %s, want once", n, line)
			}
			break
		}
	}
}

func TestManyLogins(t *testing.T) {
	f := newFort(t, nil)
	codes := map[int]int{}
	for i := range 300 {
		status, _ := post(t, f.url+"/v1/session/login", fmt.Sprintf(`{"username":"joe","password":"guess%d"}`, i))
		codes[status]++
	}
	if codes[401] < 10 || codes[401] > 30 || codes[401]+codes[429] != 300 {
		t.Errorf("300 guesses: %v", codes)
	}
	told, _ := f.log.since(0)
	if n := strings.Count(told, "not logged in"); n != 300 || strings.Contains(told, "guess") {
		t.Errorf("%d of 300 are in the log, or their passwords", n)
	}
	if status, _, _ := f.ask("GET", "/v1/files/srv/data/mine/entries", withMine); status != 200 {
		t.Errorf("who has a token gets %d", status)
	}
}

// Without tokens, a page whose name leads here is refused (DNS rebinding).
func TestRebinding(t *testing.T) {
	log := &logged{}
	url := serve(t, servertest.New("/srv/data"), func(o *server.Options) { o.Log = slog.New(slog.NewTextHandler(log, nil)) })
	for host, want := range map[string]int{"evil.example": 403, "evil.example:8000": 403, "127.0.0.1.evil.example": 403, "localhost": 200, "127.0.0.1": 200, "[::1]:8000": 200} {
		status, _, body := raw(t, url, "GET "+root+"/entries HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
		if status != want {
			t.Errorf("as %s: %d %s, want %d", host, status, body, want)
		}
	}
	if told, _ := log.since(0); strings.Count(told, "request failed") != 3 {
		t.Errorf("the log says %s", told)
	}
}

// Names of files are text wherever they come: no header, no line of a stream, no markup.
func TestNamesAreText(t *testing.T) {
	f := newFort(t, nil)
	evil := []string{"a\r\nSet-Cookie: a=b", "b\n\ndata: [{\"type\":\"self_removed\"}]\n\n", "<script>alert(1)<\\script>", "c\u2028d", "e\x1b[2Jf", "g\"h\\", "\xff\xfe", "%0d%0a", "i\x7f"}
	for _, name := range evil {
		f.tree.Mkdir("mine/" + name)
		f.tree.Create("mine/" + name + "/<b>&f")
	}
	escape := func(name string) (s string) {
		for i := range len(name) {
			s += fmt.Sprintf("%%%02X", name[i])
		}
		return s
	}
	for _, name := range evil {
		for _, what := range []string{"/notify?since=oldest&timeout=0", "/notify?since=snapshot&timeout=0", "/entries", "/info/attributes", "/<b>&f/notify", "/nothing"} {
			status, head, body := f.ask("GET", "/v1/files/srv/data/mine/"+escape(name)+strings.ReplaceAll(what, "<b>&f", escape("<b>&f")), withMine+"Accept: text/event-stream\r\n")
			kind := head.Get("Content-Type")
			if status == 0 || head.Get("Set-Cookie") != "" || head.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(head.Get("Content-Security-Policy"), "default-src 'none'") ||
				kind != "application/json" && kind != "text/event-stream" {
				t.Errorf("%q%s: %d, head %v", name, what, status, head)
			}
			if kind == "text/event-stream" {
				for line := range strings.SplitSeq(strings.TrimSuffix(body, "\n"), "\n") {
					switch word, _, _ := strings.Cut(line, ":"); word {
					case "", "data", "id", "retry", "event":
					default:
						t.Errorf("%q%s: a line %q", name, what, line)
					}
				}
				if strings.Contains(body, "self_removed\"}") || strings.ContainsAny(body, "\r\x1b\x7f\x00") {
					t.Errorf("%q%s: the stream says %q", name, what, body)
				}
			}
		}
	}
	told, _ := f.log.since(0)
	if strings.ContainsAny(told, "\r\x1b\x00") {
		t.Errorf("the log carries control characters: %q", told)
	}
}
