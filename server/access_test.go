package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fs_notify/server"
	"fs_notify/server/access"
	"fs_notify/server/onedata"
	"fs_notify/server/servertest"
)

// guardedBy makes a server ask for the tokens of a file: name, which is its secret too, and the rest of the entry.
func guardedBy(t *testing.T, tokens ...[2]string) (guard *access.Access, rewrite func(tokens ...[2]string), change func(*server.Options)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tokens.yaml")
	write := func(tokens [][2]string) {
		text := "tokens:\n"
		for _, tok := range tokens {
			text += fmt.Sprintf("  - {name: %s, hash: '%s', %s}\n", tok[0], access.SHA256(tok[0]), tok[1])
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(tokens)
	guard, err := access.New(access.Options{Tokens: file})
	if err != nil {
		t.Fatal(err)
	}
	rewrite = func(tokens ...[2]string) {
		t.Helper()
		write(tokens)
		if err := guard.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	return guard, rewrite, func(o *server.Options) { o.Auth, o.Open, o.Guarded = guard, guard.Open(), guard.Routes() }
}

const allRights = "privileges: [notify, notify.recursive, changes, admin]"

func bearer(token string) string { return "Authorization: Bearer " + token }

// A token that is taken back ends its streams, whoever writes them and whatever they wait for; others do not notice.
func TestRevocationEndsStreams(t *testing.T) {
	tree := servertest.New("/srv/data")
	_, rewrite, change := guardedBy(t, [2]string{"good", allRights}, [2]string{"bad", allRights})
	closed := make(chan string, 100)
	url := serve(t, tree, func(o *server.Options) { change(o); o.Metrics = &metrics{closed: closed} })
	var bad []*stream
	for _, accept := range []string{eventStream, "Accept: application/json"} { // one may be a writer's, one is not
		for range 20 {
			bad = append(bad, open(t, url+root+"/notify", bearer("bad"), accept))
		}
	}
	good := open(t, url+root+"/notify", bearer("good"), eventStream)
	good.skip("retry")
	for _, s := range bad {
		s.skip(": watching")
	}
	tree.Create("before")
	for _, s := range bad {
		s.skip("data: ")
	}
	changes := send(t, url+onedata.Prefix+"changes/metadata/"+servertest.RootID.String(), `{"fileMeta":{"fields":["name"]}}`, bearer("bad"), "Content-Type: application/json")
	if changes.StatusCode != 200 {
		t.Fatalf("Onedata's stream: %s", changes.Status)
	}
	rewrite([2]string{"good", allRights})
	for i, s := range bad {
		rest, err := io.ReadAll(s.r)
		if err != nil || !strings.Contains(string(rest), ": closed: the token was revoked or changed") {
			t.Fatalf("stream %d ends with %q, %v", i, rest, err)
		}
	}
	if rest, err := io.ReadAll(changes.Body); err != nil || len(rest) > 0 {
		t.Fatalf("Onedata's stream ends with %q, %v", rest, err)
	}
	for range len(bad) + 1 {
		if reason := <-closed; reason != "revoked" {
			t.Errorf("a stream is counted as ended for %q", reason)
		}
	}
	tree.Create("after")
	if told := good.skip("data: ") + good.skip("data: "); !strings.Contains(told, `"path":"after"`) {
		t.Errorf("the other token's stream says %s", told)
	}
	if status, body := get(t, url+root+"/notify", bearer("bad"), eventStream); status != 401 || strings.Contains(body, "bad") {
		t.Errorf("afterwards: %d %s", status, body)
	}
}

// It ends those, too, whose clients take nothing of what is being written, long before that alone would.
func TestRevocationEndsStuckStreams(t *testing.T) {
	cert, pool := selfSigned(t)
	changes := "POST " + onedata.Prefix + "changes/metadata/" + servertest.RootID.String() + "?last_seq=0"
	for _, proto := range []string{"http/1.1", "h2"} {
		for _, ask := range [][2]string{{"GET " + root + "/notify?since=oldest", eventStream}, {"GET " + root + "/notify?since=oldest", "Accept: application/json"},
			{"GET " + root + "/notify?since=snapshot", "Accept: application/json"}, {changes, "Content-Type: application/json"}} {
			t.Run(proto+" "+ask[0]+" "+ask[1], func(t *testing.T) {
				tree := servertest.New("/srv/data")
				if strings.Contains(ask[0], "snapshot") {
					for i := range 20000 {
						tree.Create(fmt.Sprint(strings.Repeat("x", 500), i))
					}
				} else {
					tellMuch(tree)
				}
				_, rewrite, change := guardedBy(t, [2]string{"bad", allRights})
				m := &metrics{closed: make(chan string, 10)}
				url := serve(t, tree, func(o *server.Options) {
					change(o)
					o.Metrics, o.TLS, o.WriteTimeout = m, cert.Clone(), time.Hour
					o.TLS.NextProtos = []string{proto}
				})
				c := &http.Client{Transport: &http.Transport{TLSClientConfig: pool.Clone(), ForceAttemptHTTP2: proto == "h2"}}
				defer c.CloseIdleConnections()
				method, path, _ := strings.Cut(ask[0], " ")
				body := ""
				if method == "POST" {
					body = `{"fileMeta":{"fields":["name"]}}`
				}
				req, err := http.NewRequestWithContext(t.Context(), method, url+path, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				for _, h := range []string{bearer("bad"), ask[1]} {
					k, v, _ := strings.Cut(h, ": ")
					req.Header.Add(k, v)
				}
				resp, err := c.Do(req)
				if err != nil || resp.StatusCode != 200 {
					t.Fatal(resp, err)
				}
				defer resp.Body.Close()
				for last := int64(-1); last != m.bytes.Load(); time.Sleep(100 * time.Millisecond) {
					last = m.bytes.Load() // until it is stuck
				}
				rewrite()
				select {
				case reason := <-m.closed:
					if reason != "revoked" {
						t.Errorf("the stream is counted as ended for %q", reason)
					}
				case <-time.After(patience):
					t.Fatal("the stream does not end")
				}
			})
		}
	}
}

func TestWhatIsOpenWithoutToken(t *testing.T) {
	tree := servertest.New("/srv/data")
	_, _, change := guardedBy(t, [2]string{"good", allRights})
	url := serve(t, tree, func(o *server.Options) {
		change(o)
		o.Page = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "page") })
		o.More = map[string]http.Handler{"/secret": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "secret") })}
	})
	cookie := "Cookie: fs_notify_session_" + url[strings.LastIndexByte(url, ':')+1:] + "=session-v1:e30.AAAA"
	for path, want := range map[string]int{"/": 200, "/page/page.js": 200, "/healthz": 200, "/readyz": 200, "/v1/version": 200, "/login": 200,
		"/secret": 401, root + "/notify": 401, root + "/entries": 401, "/v1/session/who-am-i": 401, "/v1/nothing": 401} {
		for _, header := range []string{"X: ", bearer("wrong"), cookie} {
			status, body := get(t, url+path, header, eventStream)
			if status != want || strings.Contains(body, "/srv/data") || strings.Contains(body, `"secret"`) {
				t.Errorf("%s with %q: %d %s, want %d and no names", path, header, status, body, want)
			}
		}
		if status, _ := get(t, url+path+map[bool]string{true: "?timeout=0"}[strings.HasSuffix(path, "/notify")], bearer("good"), eventStream); status != 200 && path != "/v1/nothing" {
			t.Errorf("%s with a token: %d", path, status)
		}
	}
	if _, body := get(t, url+"/readyz", bearer("good")); !strings.Contains(body, "/srv/data") {
		t.Errorf("to an administrator, /readyz says %s", body)
	}
}

// Onedata's protocol looks at the method before the token, and at nothing else before that.
func TestOnedataLooksAtTheMethodFirst(t *testing.T) {
	_, _, change := guardedBy(t, [2]string{"good", allRights}, [2]string{"weak", "privileges: [notify]"})
	url := serve(t, servertest.New("/srv/data"), change) + onedata.Prefix
	changes := "changes/metadata/" + servertest.RootID.String()
	for _, tt := range []struct {
		method, path string
		want         [3]int // without a token that is right, with one that may not, with one that may
	}{
		{"GET", changes, [3]int{405, 405, 405}},
		{"PUT", "changes/metadata/1", [3]int{405, 405, 405}},
		{"POST", "spaces", [3]int{405, 405, 405}},
		{"DELETE", "spaces/1/", [3]int{405, 405, 405}},
		{"POST", "changes/metadata/1", [3]int{401, 403, 403}},
		{"POST", changes, [3]int{401, 403, 415}},
		{"GET", "spaces", [3]int{401, 403, 200}},
		{"GET", "spaces/1", [3]int{401, 403, 404}},
		{"GET", "configuration", [3]int{401, 404, 404}},
	} {
		for header, want := range map[string]int{"X: ": tt.want[0], bearer("wrong"): tt.want[0], bearer("weak"): tt.want[1], bearer("good"): tt.want[2]} {
			resp := do(t, tt.method, url+tt.path, header)
			if resp.StatusCode != want || (resp.Header.Get("Allow") != "") != (want == 405) {
				t.Errorf("%s %s with %q: %s, Allow %q, want %d", tt.method, tt.path, header, resp.Status, resp.Header.Get("Allow"), want)
			}
		}
	}
}

func TestStreamLimits(t *testing.T) {
	tree := servertest.New("/srv/data")
	_, _, change := guardedBy(t, [2]string{"a", allRights}, [2]string{"b", allRights})
	url := serve(t, tree, func(o *server.Options) {
		change(o)
		o.MaxTokenStreams, o.MaxAddressStreams, o.MaxStreams = 2, 3, 100
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
	})
	path := url + root + "/notify"
	from := func(addr string) string { return "X-Forwarded-For: " + addr }
	var streams []*stream
	for _, s := range []struct {
		token, from string
		want        int
	}{
		{"a", "192.0.2.1", 200}, {"a", "192.0.2.2", 200}, {"a", "192.0.2.3", 429}, // the token
		{"b", "198.51.100.1", 200}, {"b", "198.51.100.1", 200},
	} {
		resp := do(t, "GET", path, bearer(s.token), from(s.from), eventStream)
		if resp.StatusCode != s.want || (resp.StatusCode == 429) != (resp.Header.Get("Retry-After") != "") {
			t.Errorf("token %s from %s: %d, Retry-After %q, want %d", s.token, s.from, resp.StatusCode, resp.Header.Get("Retry-After"), s.want)
		}
		if s.want == 200 {
			streams = append(streams, wrap(t, resp))
		}
	}
	streams[0].skip("retry")
	streams[0].close()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if resp := do(t, "GET", path, bearer("a"), from("192.0.2.9"), eventStream); resp.StatusCode == 200 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a stream that ended still counts")
		}
	}
}

// Only proxies that are trusted say for whom they ask; what a client writes before them does not count.
func TestForwardedFor(t *testing.T) {
	tree := servertest.New("/srv/data")
	for _, tt := range []struct {
		trusted []string
		header  string
		want    string
	}{
		{nil, "192.0.2.1", "127.0.0.1"},
		{[]string{"127.0.0.1/32"}, "192.0.2.1", "192.0.2.1"},
		{[]string{"127.0.0.1/32"}, "203.0.113.5, 192.0.2.1", "192.0.2.1"},
		{[]string{"127.0.0.1/32", "10.0.0.0/8"}, "203.0.113.5, 192.0.2.1, 10.1.2.3", "192.0.2.1"},
		{[]string{"127.0.0.1/32"}, "rubbish", "127.0.0.1"},
		{[]string{"127.0.0.1/32"}, "", "127.0.0.1"},
		{[]string{"10.0.0.0/8"}, "192.0.2.1", "127.0.0.1"},
	} {
		var got string
		url := serve(t, tree, func(o *server.Options) {
			for _, p := range tt.trusted {
				o.TrustedProxies = append(o.TrustedProxies, netip.MustParsePrefix(p))
			}
			o.More = map[string]http.Handler{"/who": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got, _, _ = net.SplitHostPort(r.RemoteAddr) })}
		})
		if get(t, url+"/who", "X-Forwarded-For: "+tt.header); got != tt.want {
			t.Errorf("%v, %q: the client is %s, want %s", tt.trusted, tt.header, got, tt.want)
		}
	}
}

func TestConnectRate(t *testing.T) {
	tree := servertest.New("/srv/data")
	for _, path := range []string{"/healthz", "/robots.txt"} { // what there is, and what there is not
		url := serve(t, tree, func(o *server.Options) { o.ConnectRate = 1 })
		refused := 0
		for range 20 {
			resp := do(t, "GET", url+path)
			if resp.StatusCode == 429 {
				refused++
				if resp.Header.Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
			}
		}
		if refused < 5 || refused > 10 {
			t.Errorf("%s: of 20 connections at once %d were refused, want about 10", path, refused)
		}
	}
}

func TestCORS(t *testing.T) {
	tree := servertest.New("/srv/data")
	url := serve(t, tree, func(o *server.Options) { o.CORSOrigins = []string{"https://app.example"} })
	closed := serve(t, tree, nil)
	for _, tt := range []struct {
		url, method, origin string
		want                int
		allowed             bool
	}{
		{url, "GET", "https://app.example", 200, true},
		{url, "OPTIONS", "https://app.example", 204, true},
		{url, "GET", "https://evil.example", 200, false},
		{url, "OPTIONS", "https://evil.example", 204, false},
		{closed, "GET", "https://app.example", 200, false},
	} {
		resp := do(t, tt.method, tt.url+root+"/entries", "Origin: "+tt.origin, "Access-Control-Request-Method: GET")
		if got := resp.Header.Get("Access-Control-Allow-Origin"); resp.StatusCode != tt.want || (got == tt.origin) != tt.allowed || got != "" && !tt.allowed {
			t.Errorf("%s from %s: %d, allowed %q", tt.method, tt.origin, resp.StatusCode, got)
		}
		if resp.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Error("cookies of other sites' pages are let in")
		}
	}
	// What the protocols take in headers, a page may send.
	may := strings.Split(do(t, "OPTIONS", url+root+"/entries", "Origin: https://app.example", "Access-Control-Request-Method: GET").Header.Get("Access-Control-Allow-Headers"), ", ")
	for _, h := range []string{"Authorization", "Content-Type", "If-Modified-Since", "If-None-Match", "Last-Event-ID", "Macaroon", "X-Auth-Token", "X-Box-UA", "User-Agent"} {
		if !slices.Contains(may, h) {
			t.Errorf("a page may not send %s", h)
		}
	}
	// A page of another site may not even ask for what changes something.
	for origin, want := range map[string]int{"https://evil.example": 403, "https://app.example": 200, "": 200} {
		headers := []string{"Content-Type: text/plain"}
		if origin != "" {
			headers = append(headers, "Origin: "+origin, "Sec-Fetch-Site: cross-site")
		}
		if status, body := post(t, url+"/v1/files/resolve", `["2"]`, headers...); status != want {
			t.Errorf("POST from %q: %d %s, want %d", origin, status, body, want)
		}
	}
	// Nor where all may read; and it is told so before.
	all := serve(t, tree, func(o *server.Options) { o.CORSOrigins = []string{"*", "https://app.example"} })
	for origin, want := range map[string]int{"https://any.example": 403, "https://app.example": 200} {
		resp := do(t, "OPTIONS", all+"/v1/files/resolve", "Origin: "+origin, "Access-Control-Request-Method: POST")
		if got := resp.Header.Get("Access-Control-Allow-Methods"); strings.Contains(got, "POST") != (want == 200) || !strings.HasPrefix(got, "GET, HEAD, OPTIONS") {
			t.Errorf("%s may %s", origin, got)
		}
		if status, body := get(t, all+root+"/entries", "Origin: "+origin, "Sec-Fetch-Site: cross-site"); status != 200 {
			t.Errorf("GET from %s: %d %s", origin, status, body)
		}
		if status, body := post(t, all+"/v1/files/resolve", `["2"]`, "Content-Type: text/plain", "Origin: "+origin, "Sec-Fetch-Site: cross-site"); status != want {
			t.Errorf("POST from %s: %d %s, want %d", origin, status, body, want)
		}
	}
}

// A body has to come in time and in a sane size; the stream that it asks for may last longer.
func TestBodies(t *testing.T) {
	tree := servertest.New("/srv/data")
	url := serve(t, tree, func(o *server.Options) {
		o.MaxBodyBytes, o.BodyTimeout = 1000, 300*time.Millisecond
		o.Guarded = map[string]access.Handler{"/slow": func(w http.ResponseWriter, r *http.Request) error {
			io.ReadAll(r.Body)
			select {
			case <-r.Context().Done():
			case <-time.After(time.Second):
				io.WriteString(w, "lasted")
			}
			return nil
		}}
	})
	for base, limit := range map[string]int{url: 1000, serve(t, tree, nil): 1 << 20} { // the server's, and that of resolve
		large := "[" + strings.Repeat(" ", limit) + "]"
		for _, body := range []io.Reader{strings.NewReader(large), io.MultiReader(strings.NewReader(large))} { // with a length, and in chunks
			resp, err := oneShot(t).Post(base+"/v1/files/resolve", "application/json", body)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != 413 {
				t.Errorf("a body of more than %d bytes as %T: %s", limit, body, resp.Status)
			}
		}
	}
	if status, body := post(t, url+"/slow", "x"); status != 200 || body != "lasted" {
		t.Errorf("after its body a request ends too soon: %d %s", status, body)
	}
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, "POST /v1/files/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n[")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 400 {
		t.Errorf("a body that never comes: %v, %v", resp, err)
	}
}
