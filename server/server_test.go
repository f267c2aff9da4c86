package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fs_notify/notify"
	"fs_notify/server"
	"fs_notify/server/servertest"
)

func TestEntries(t *testing.T) {
	tree := servertest.New("/srv/data")
	dir := tree.Mkdir("dir")
	sub := tree.Mkdir("dir/sub")
	f := tree.Create("dir/sub/f\xff")
	tree.Write("dir/sub/f\xff", 1<<40)
	tree.Create("outside")
	url := serve(t, tree, nil) + root

	want := fmt.Sprintf(`{"seq":%d,"id":"%s","entries":[
{"id":"%d","path":"sub","name":"sub","spine":["%d","%d"],"type":"FS_FILE_TYPE_DIRECTORY","size":"0","mode":"0755","num_links":1,`+
		`"owner":"8589935592","group":"12884901988","modification_time":"2023-11-14T22:13:20.123456789Z",`+
		`"change_time":"2023-11-14T22:13:20.123456790Z","creation_time":"2023-11-14T22:13:20.123456792Z"},
{"id":"%d","path":"sub/f\udcff","name":"f\udcff","spine":["%d","%d","%d"],"type":"FS_FILE_TYPE_FILE","size":"1099511627776","mode":"0644","num_links":1,`+
		`"owner":"8589935592","group":"12884901988","modification_time":"2023-11-14T22:13:20.123456789Z",`+
		`"change_time":"2023-11-14T22:13:20.123456790Z","creation_time":"2023-11-14T22:13:20.123456792Z"}
]}
`, tree.Log.Bounds().Newest(), head(tree, dir), sub, dir, sub, f, dir, sub, f)
	if status, got := get(t, url+"%2Fdir/entries?recursive=1"); status != 200 || got != want {
		t.Errorf("%d\n%s\nwant\n%s", status, got, want)
	}
	for path, n := range map[string]int{"/entries": 2, "/entries/": 2, "%2Fdir/entries?recursive=false": 1, "/entries?recursive=True": 4, "%2Fdir%2Fsub/entries": 1} {
		var got struct{ Entries []struct{ ID string } }
		status, body := get(t, url+path)
		if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 || len(got.Entries) != n {
			t.Errorf("%s: %d, %d entries, %v, want %d", path, status, len(got.Entries), err, n)
		}
	}
}

// A list too long for one write, whose id is where the stream goes on.
func TestManyEntries(t *testing.T) {
	tree := servertest.New("/srv/data")
	for i := range 3000 {
		tree.Create(fmt.Sprintf("f%04d", i))
	}
	url := serve(t, tree, nil) + root
	var list struct {
		ID      string
		Entries []struct{ Path string }
	}
	_, body := get(t, url+"/entries")
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatal(err)
	}
	for i, e := range list.Entries {
		if e.Path != fmt.Sprintf("f%04d", i) {
			t.Fatalf("entry %d is %q", i, e.Path)
		}
	}
	tree.Create("after")
	s := open(t, url+"/notify?last_event_id="+list.ID, eventStream)
	if notes, _, _ := fields(t, s.skip("data: ")); len(list.Entries) != 3000 || len(notes) != 1 || notes[0].Path != "after" {
		t.Errorf("%d entries, then %v", len(list.Entries), notes)
	}
}

func TestAttributes(t *testing.T) {
	tree := servertest.New("/srv/data")
	dir := tree.Mkdir("dir")
	f := tree.Create("dir/f")
	tree.Write("dir/f", 4097)
	url := serve(t, tree, nil)
	for _, ref := range []string{root + "%2Fdir%2Ff", "/v1/files/" + f.String(), "/v1/files/srv/data/dir/f"} {
		resp := do(t, "GET", url+ref+"/info/attributes")
		var got map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]any{
			"path": "/srv/data/dir/f", "name": "f", "type": "FS_FILE_TYPE_FILE", "id": f.String(), "file_number": f.String(), "num_links": 1.0,
			"child_count": 0.0, "mode": "0644", "owner": "8589935592", "group": "12884901988", "size": "4097", "blocks": "2", "datablocks": "2",
			"metablocks": "0", "modification_time": "2023-11-14T22:13:20.123456789Z", "creation_time": "2023-11-14T22:13:20.123456792Z",
			"symlink_target_type": "FS_FILE_TYPE_UNKNOWN", "directory_entry_hash_policy": nil,
		} {
			if got[key] != want {
				t.Errorf("%s: %s is %v, want %v", ref, key, got[key], want)
			}
		}
		tag := resp.Header.Get("ETag")
		if again := do(t, "GET", url+ref+"/info/attributes", "If-None-Match: "+tag); tag == "" || again.StatusCode != 304 {
			t.Errorf("%s: unchanged, ETag %q: %s, want 304", ref, tag, again.Status)
		}
		if again := do(t, "GET", url+ref+"/info/attributes", `If-None-Match: "other", W/`+tag); again.StatusCode != 304 {
			t.Errorf("%s: unchanged, and one of several tags is that: %s, want 304", ref, again.Status)
		}
		tree.Write("dir/f", 4098)
		if again := do(t, "GET", url+ref+"/info/attributes", "If-None-Match: "+tag); again.StatusCode != 200 {
			t.Errorf("%s: changed: %s, want 200", ref, again.Status)
		}
		tree.Write("dir/f", 4097)
	}
	_, body := get(t, url+"/v1/files/"+dir.String()+"/info/attributes")
	for _, want := range []string{`"path":"/srv/data/dir/"`, `"name":"dir"`, `"type":"FS_FILE_TYPE_DIRECTORY"`, `"child_count":1`, `"blocks":"0"`} {
		if !strings.Contains(body, want) {
			t.Errorf("a directory's attributes lack %s: %s", want, body)
		}
	}
	if status, body := get(t, url+root+"%2Fnone/info/attributes"); status != 404 || !strings.Contains(body, "fs_no_such_entry_error") {
		t.Errorf("of what is not there: %d %s", status, body)
	}
}

func TestResolveSettingsAndVersion(t *testing.T) {
	tree := servertest.New("/srv/data")
	dir := tree.Mkdir("dir")
	f := tree.Create("dir/\xfe")
	url := serve(t, tree, nil)
	for body, want := range map[string]string{
		fmt.Sprintf(`["%d","%d"]`, f, dir): fmt.Sprintf(`200 [{"id":"%d","path":"/srv/data/dir/\udcfe"},{"id":"%d","path":"/srv/data/dir/"}]`, f, dir),
		`[]`:                               "200 []",
		`["4711"]`:                         "404 ",
		`["abc"]`:                          "400 ",
		`[1]`:                              "400 ",
		`{`:                                "400 ",
		"[" + strings.Repeat(`"1",`, 10000) + `"1"]`: "400 ",
		"[" + strings.Repeat(" ", 1<<20) + "]":       "413 ",
	} {
		resp, err := oneShot(t).Post(url+"/v1/files/resolve", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got := fmt.Sprintf("%d %s", resp.StatusCode, bytes.TrimSpace(b)); got != want && (want[0] == '2' || !strings.HasPrefix(got, want)) {
			t.Errorf("%.60s: %s, want %s", body, got, want)
		}
	}
	if status, body := get(t, url+"/v1/file-system/settings/notify"); status != 200 || body != `{"recursive_mode":"ENABLED"}`+"\n" {
		t.Errorf("settings: %d %s", status, body)
	}
	if resp := do(t, "PUT", url+"/v1/file-system/settings/notify"); resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET, HEAD, OPTIONS" {
		t.Errorf("PUT of settings: %s, Allow %q", resp.Status, resp.Header.Get("Allow"))
	}
	if status, body := get(t, url+"/v1/version"); status != 200 || !strings.Contains(body, `"revision_id":"fs_notify test"`) {
		t.Errorf("version: %d %s", status, body)
	}
}

func TestHealth(t *testing.T) {
	tree := servertest.New("/srv/data")
	url := serve(t, tree, nil)
	if status, body := get(t, url+"/healthz"); status != 200 || body != "ok\n" {
		t.Errorf("/healthz: %d %q", status, body)
	}
	if status, body := get(t, url+"/readyz"); status != 200 || !strings.Contains(body, `"ready":true`) || !strings.Contains(body, `"name":"/srv/data"`) {
		t.Errorf("/readyz: %d %s", status, body)
	}
	tree.SetState(func(s *notify.RootState) {
		s.Phase, s.Progress, s.Indexed = notify.Indexing, 0.5, 123
		s.Degraded, s.DegradedCount = []notify.Degraded{{Path: "secret", Reason: "permission denied"}}, 12345
	})
	status, body := get(t, url+"/readyz")
	if want := `"phase":"indexing","progress":0.5,"indexed":123`; status != 503 || !strings.Contains(body, want) || !strings.Contains(body, "secret") || !strings.Contains(body, `"degraded_count":12345`) {
		t.Errorf("/readyz while indexing: %d %s", status, body)
	}
}

// A journal that is down is no reason to send clients elsewhere, and one to wake somebody.
func TestHealthOfTheJournal(t *testing.T) {
	var h server.Health
	url := serve(t, servertest.New("/srv/data"), func(o *server.Options) { o.Health = func() server.Health { return h } })
	if status, body := get(t, url+"/readyz"); status != 200 || !strings.Contains(body, `"journal":{"ok":true,"unsaved":0}`) {
		t.Errorf("/readyz: %d %s", status, body)
	}
	h = server.Health{Down: time.Unix(1e9, 0).UTC(), Unsaved: 3, Err: errors.New("the disk is full"), Checkpoint: errors.New("it is damaged")}
	want := `"journal":{"ok":false,"since":"2001-09-09T01:46:40Z","unsaved":3,"reason":"the disk is full","checkpoint":"it is damaged"}`
	if status, body := get(t, url+"/readyz"); status != 200 || !strings.Contains(body, want) {
		t.Errorf("/readyz: %d %s, want %s", status, body, want)
	}
}

// Without tokens nobody from elsewhere gets anything but the two health checks, and those name nothing.
func TestOnlyLoopback(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.SetState(func(s *notify.RootState) {
		s.Reason, s.Degraded = "secret", []notify.Degraded{{Path: "secret", Reason: "secret"}}
	})
	s := server.New(server.Options{Files: tree, Journal: tree.Log, Page: http.NotFoundHandler()})
	for _, remote := range []string{"192.0.2.1:4711", "[2001:db8::1]:4711", "10.0.0.1:1"} {
		for path, want := range map[string]int{root + "/notify?timeout=0": 403, root + "/entries": 403, "/v1/version": 403, "/": 403, "/healthz": 200, "/readyz": 200} {
			r := httptest.NewRequest("GET", path, nil)
			r.RemoteAddr = remote
			r.Header.Set("X-Forwarded-For", "127.0.0.1")
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if w.Code != want || strings.Contains(w.Body.String(), "/srv/data") || strings.Contains(w.Body.String(), "secret") {
				t.Errorf("%s from %s: %d %s, want %d and no names", path, remote, w.Code, w.Body, want)
			}
		}
	}
}

type refuse struct{ kind notify.Kind }

func (a refuse) Authorize(*http.Request) (*http.Request, error) {
	return nil, &notify.Error{Op: "test", Kind: a.kind, Err: io.ErrUnexpectedEOF}
}

func TestErrorsBecomeStatus(t *testing.T) {
	tree := servertest.New("/srv/data")
	for kind, want := range map[notify.Kind]int{notify.Internal: 500, notify.Invalid: 400, notify.NotDirectory: 400, notify.Unauthorized: 401,
		notify.Forbidden: 403, notify.NotFound: 404, notify.Gone: 410, notify.TooMany: 429, notify.Unavailable: 503, notify.Corrupt: 500, notify.Closed: 503} {
		s := server.New(server.Options{Files: tree, Journal: tree.Log, Auth: refuse{kind}})
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", root+"/entries", nil))
		if w.Code != want || strings.Contains(w.Body.String(), "EOF") {
			t.Errorf("%v: %d %s, want %d and no word of the cause", kind, w.Code, w.Body, want)
		}
		if got := w.Header().Get("Retry-After"); (got != "") != (want == 429 || want == 503) {
			t.Errorf("%v: Retry-After %q", kind, got)
		}
		if got := w.Header().Get("WWW-Authenticate"); (got != "") != (want == 401) {
			t.Errorf("%v: WWW-Authenticate %q", kind, got)
		}
	}
}

func TestPanicIsAnAnswer(t *testing.T) {
	tree := servertest.New("/srv/data")
	log := &logged{}
	url := serve(t, tree, func(o *server.Options) {
		o.Log = slog.New(slog.NewTextHandler(log, nil))
		o.More = map[string]http.Handler{
			"/panics": http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("ouch") }),
			"/halfway": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Write([]byte("half"))
				panic("ouch")
			}),
		}
	})
	if status, body := get(t, url+"/panics"); status != 500 || strings.Contains(body, "ouch") {
		t.Errorf("a panic is answered with %d %s", status, body)
	}
	resp, err := oneShot(t).Get(url + "/halfway")
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("an answer that a panic cut short looks whole")
	}
	if status, _ := get(t, url+"/healthz"); status != 200 {
		t.Errorf("after a panic: %d", status)
	}
	if text, _ := log.since(0); !strings.Contains(text, "ouch") {
		t.Errorf("the log does not tell of the panic: %s", text)
	}
}

// waiting is a tree that is asked in vain: it answers when nobody waits any more.
type waiting struct{ *servertest.Tree }

func (waiting) LookupPath(ctx context.Context, _ string) (notify.Entry, error) {
	<-ctx.Done()
	return notify.Entry{}, ctx.Err()
}

// searched is a tree that counts what takes the longer the more is degraded, and the look-ups.
type searched struct {
	*servertest.Tree
	roots, ids atomic.Int32
	looked     func()
}

func (f *searched) Roots() []notify.RootState {
	f.roots.Add(1)
	return f.Tree.Roots()
}

func (f *searched) LookupID(ctx context.Context, id notify.FileID) (notify.Entry, error) {
	f.ids.Add(1)
	f.looked()
	return f.Tree.LookupID(ctx, id)
}

// However many directories are degraded, only who asks for them waits until all were gone through.
func TestDegradedDirectoriesCostLookupsNothing(t *testing.T) {
	tree := &searched{Tree: servertest.New("/srv/data"), looked: func() {}}
	dir := tree.Mkdir("dir").String()
	_, _, change := guardedBy(t, [2]string{"all", allRights}, [2]string{"some", "paths: [/srv/data/dir], " + allRights})
	url := serve(t, tree.Tree, func(o *server.Options) { change(o); o.Files = tree })
	for _, token := range []string{"all", "some"} {
		for _, path := range []string{root + "%2Fdir/notify?timeout=0", root + "%2Fdir/notify?timeout=0&recursive=true&since=oldest", "/v1/files/" + dir + "/entries",
			"/v1/files/" + dir + "/info/attributes", "/v1/files/4711/info/attributes", "/2.0/folders/" + dir, "/2.0/events", "/entry"} {
			if status, body := get(t, url+path, bearer(token)); status != 200 && (status != 404 || !strings.Contains(path, "4711")) {
				t.Errorf("%s: %d %s", path, status, body)
			}
		}
		if resp := send(t, url+"/v1/files/resolve", `["`+dir+`","`+dir+`"]`, bearer(token)); resp.StatusCode != 200 {
			t.Errorf("resolve: %s", resp.Status)
		}
	}
	if n := tree.roots.Load(); n != 0 {
		t.Errorf("what is degraded was gone through %d times", n)
	}
	tree.SetState(func(s *notify.RootState) { s.DegradedCount = 12345 })
	if _, body := get(t, url+"/readyz"); !strings.Contains(body, `"degraded_count":12345`) || tree.roots.Load() != 1 {
		t.Errorf("/readyz: %s, after %d times", body, tree.roots.Load())
	}
}

// Of the many IDs that may be resolved at once none is looked up for who has left.
func TestResolveForNobody(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	tree := &searched{Tree: servertest.New("/srv/data"), looked: leave}
	s := server.New(server.Options{Files: tree, Journal: tree.Log})
	r := httptest.NewRequestWithContext(ctx, "POST", "http://localhost/v1/files/resolve", strings.NewReader(`["2","2","2","2"]`))
	r.RemoteAddr = "127.0.0.1:1"
	defer func() {
		if p := recover(); p != http.ErrAbortHandler || tree.ids.Load() != 1 {
			t.Errorf("after %d look-ups: %v", tree.ids.Load(), p)
		}
	}()
	s.ServeHTTP(httptest.NewRecorder(), r)
}

// Who says that it says no more (nc -N) is taken for one who left: it gets no answer, rather than one that looks well, and none is counted.
func TestHalfClosed(t *testing.T) {
	tree := servertest.New("/srv/data")
	m := &metrics{}
	url := serve(t, tree, func(o *server.Options) { o.Files, o.Metrics = waiting{tree}, m })
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, "GET "+root+"/entries HTTP/1.1\r\nHost: localhost\r\n\r\n")
	c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(c); len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it is answered with %q, %v", b, err)
	}
	if n := m.requests.Load(); n != 0 {
		t.Errorf("%d answers are counted", n)
	}
}

// Behind a proxy that speaks TLS, links lead to where the client came from.
func TestLinksBehindAProxy(t *testing.T) {
	url := serve(t, servertest.New("/srv/data"), nil)
	host := strings.TrimPrefix(url, "http://")
	for _, c := range []struct{ scheme, header string }{{"http", "X-Forwarded-Proto: http"}, {"https", "X-Forwarded-Proto: https"}} {
		for _, ask := range []struct{ method, path, link string }{
			{"GET", "/entry", "/workspaces/2/changes"},
			{"GET", "/workspaces/2/changes", "/workspaces/2/changes"},
			{"OPTIONS", "/2.0/events", "/2.0/events/poll?stream_type=all"},
		} {
			body, err := io.ReadAll(do(t, ask.method, url+ask.path, c.header).Body)
			if want := `"` + c.scheme + "://" + host + ask.link + `"`; err != nil || !strings.Contains(string(body), want) {
				t.Errorf("%s %s with %s has no %s: %s %v", ask.method, ask.path, c.header, want, body, err)
			}
		}
	}
}

// HTTP/1.0 need not name a host, and HTTP/1.1 may name an empty one: links lead to the address that the connection came to.
func TestLinksWithoutAHost(t *testing.T) {
	url := serve(t, servertest.New("/srv/data"), nil)
	for _, rest := range []string{" HTTP/1.0\r\n\r\n", " HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n"} {
		for ask, link := range map[string]string{"GET /entry": "/workspaces/2/changes", "OPTIONS /2.0/events": "/2.0/events/poll?stream_type=all"} {
			status, _, body := raw(t, url, ask+rest)
			if want := `"` + url + link + `"`; status != 200 || !strings.Contains(body, want) {
				t.Errorf("%s%q has no %s: %d %s", ask, rest, want, status, body)
			}
		}
	}
}

func TestPageAndOtherPaths(t *testing.T) {
	tree := servertest.New("/srv/data")
	url := serve(t, tree, func(o *server.Options) {
		o.Page = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "page ", r.URL.Path) })
		o.More = map[string]http.Handler{"/metrics": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "metrics") })}
	})
	for path, want := range map[string]string{"/": "page /", "/page/page.js": "page /page/page.js", "/metrics": "metrics"} {
		if _, body := get(t, url+path); body != want {
			t.Errorf("%s is %q, want %q", path, body, want)
		}
	}
	// An escaped slash in the prefix is none.
	for _, path := range []string{"/v1/other", "/api/v1/other", "/v1/files", "/v1/files/", "/nope", "/page", "/v1%2Ffiles/2/entries"} {
		if status, body := get(t, url+path); status != 404 || !strings.Contains(body, "error_class") {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}
