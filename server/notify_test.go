package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sse "github.com/r3labs/sse/v2"

	"fs_notify/notify"
	"fs_notify/server"
	"fs_notify/server/servertest"
)

func TestEventStreamToTheByte(t *testing.T) {
	tree := servertest.New("/srv/data")
	s := open(t, serve(t, tree, nil)+root+"/notify?recursive=true", eventStream)
	if got := s.resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("Content-Type %q", got)
	}
	for k, want := range map[string]string{"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"} {
		if got := s.resp.Header.Get(k); got != want {
			t.Errorf("%s: %q, want %q", k, got, want)
		}
	}
	s.want(": watching /srv/data recursively", "retry: 2000\nid: "+head(tree, servertest.RootID))
	d := tree.Mkdir("a")
	s.want(fmt.Sprintf(`data: [{"type":"child_dir_added","spine":["2","%d"],"path":"a","stream_name":null}]`, d) + "\nid: 4108291.2")
	f := tree.Create("a/new\nline \"quoted\" \xff")
	s.want(fmt.Sprintf(`data: [{"type":"child_file_added","spine":["2","%d","%d"],"path":"a/new\nline \"quoted\" \udcff","stream_name":null}]`, d, f) +
		"\nid: 4120579.2")
	tree.Rename("a", "b")
	s.want(fmt.Sprintf(`data: [{"type":"child_dir_moved_from","spine":["2","%d"],"path":"a","stream_name":null},`+
		`{"type":"child_dir_moved_to","spine":["2","%d"],"path":"b","stream_name":null}]`, d, d) + "\nid: 4132865.2")
}

// Qumulo's own clients send no Accept; they get text/event-source and nothing but comments and data lines.
func TestEventSourceToTheByte(t *testing.T) {
	tree := servertest.New("/srv/data")
	url := serve(t, tree, nil)
	// The request as the SDK sends it, over a bare socket: net/http would hide the body's encoding.
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "GET %s/notify?recursive=False&filter=child_file_added%%2Cchild_dir_removed HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: identity\r\n"+
		"Content-Type: application/json\r\nContent-Length: 0\r\nUser-Agent: qq\r\n\r\n", root)
	read := func(until string) string {
		var b []byte
		one := make([]byte, 1)
		for !strings.HasSuffix(string(b), until) {
			if _, err := c.Read(one); err != nil {
				t.Fatalf("after %q: %v", b, err)
			}
			b = append(b, one[0])
		}
		return string(b)
	}
	h := read("\r\n\r\n")
	for _, line := range []string{"HTTP/1.1 200 OK\r\n", "\r\nContent-Type: text/event-source\r\n", "\r\nConnection: close\r\n"} {
		if !strings.Contains(h, line) {
			t.Errorf("the head lacks %q:\n%s", line, h)
		}
	}
	if strings.Contains(h, "chunked") {
		t.Errorf("the body is chunked:\n%s", h)
	}
	if got := read("\n\n"); got != ": watching /srv/data\n\n" {
		t.Errorf("first %q", got)
	}
	f := tree.Create("f")
	want := fmt.Sprintf("data: [{\"type\":\"child_file_added\",\"spine\":[\"2\",\"%d\"],\"path\":\"f\",\"stream_name\":null}]\n\n", f)
	if got := read("\n\n"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDialects(t *testing.T) {
	tree := servertest.New("/srv/data")
	url := serve(t, tree, nil) + root + "/notify"
	for accept, want := range map[string]string{
		"":                                    "text/event-source",
		"*/*":                                 "text/event-stream",
		"text/event-stream":                   "text/event-stream",
		"text/event-stream;q=0.9":             "text/event-stream",
		"text/*":                              "text/event-stream",
		"application/json":                    "text/event-source",
		"application/json, */*;q=0.1":         "text/event-stream",
		"text/event-source":                   "text/event-source",
		"text/event-source, */*":              "text/event-source",
		"text/event-stream;q=0, */*":          "text/event-source",
		"text/html,application/xml;q=0.9,a/b": "text/event-source",
	} {
		resp := do(t, "HEAD", url, "Accept: "+accept)
		if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || got != want {
			t.Errorf("Accept %q: %s, %q, want %q", accept, resp.Status, got, want)
		}
	}
}

func TestEveryFormOfRef(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.Mkdir("my dir")
	id := tree.Mkdir("my dir/ü&notify")
	tree.Mkdir("notify")
	tree.Mkdir("my dir/%41")
	tree.Mkdir("\xff")
	url := serve(t, tree, nil)
	for ref, want := range map[string]string{
		"/v1/files/%2Fsrv%2Fdata/notify":                                        "/srv/data",
		"/v1/files/%2fsrv%2fdata%2F/notify":                                     "/srv/data",
		"/v1/files/srv/data/notify":                                             "/srv/data",
		"/v1/files//srv/data/notify":                                            "/srv/data",
		"/v1/files/srv/data//notify":                                            "/srv/data",
		"/api/v1/files/srv/data/notify":                                         "/srv/data",
		"/v1/files/2/notify":                                                    "/srv/data",
		"/v1/files/%2Fsrv%2Fdata/notify/?recursive=false":                       "/srv/data",
		"/v1/files/srv/data/my%20dir/notify":                                    "/srv/data/my dir",
		"/v1/files/%2Fsrv%2Fdata%2Fmy%20dir%2F%C3%BC%26notify/notify":           "/srv/data/my dir/ü&notify",
		"/v1/files/srv/data/my%20dir/ü&notify/notify":                           "/srv/data/my dir/ü&notify",
		"/v1/files/" + id.String() + "/notify":                                  "/srv/data/my dir/ü&notify",
		"/v1/files/srv/data/notify/notify":                                      "/srv/data/notify",
		"/v1/files/srv/data/my%20dir/%2541/notify":                              "/srv/data/my dir/%41",
		"/v1/files/srv/data/%FF/notify":                                         `/srv/data/\udcff`,
		"/v1/files/srv/data/my%20dir/notify&filter=child_file_added":            "/srv/data/my dir",
		"/v1/files/srv/data/notify/notify&filter=child_file_added,self_removed": "/srv/data/notify",
		"/v1/files/srv/data/notify?unknown=parameter&snapshot=7":                "/srv/data",
		"/v1/files/srv/data/notify?since=now&since=now&unknown=1&unknown=2":     "/srv/data",
	} {
		s := open(t, url+ref, eventStream)
		s.want(": watching " + want)
		s.close()
	}
	s := open(t, url+"/v1/files/srv/data/notify&filter=child_file_added&recursive=true", eventStream)
	s.want(": watching /srv/data recursively")
}

func TestWrongRequests(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.Create("file")
	tree.Log.Forget(1)
	url := serve(t, tree, nil)
	for _, tt := range []struct {
		path, class, text string
		status            int
	}{
		{root + "/notify?filter=child_file_aded", "invalid_request_error", `"child_file_added"`, 400},
		{root + "/notify?filter=child_file_added,child_dir_gone", "invalid_request_error", "child_dir_gone", 400},
		{root + "/notify?filter=child_file_closed", "invalid_request_error", "child_file_closed", 400},
		{root + "/notify?recursive=maybe", "invalid_request_error", "true or false", 400},
		{root + "/notify?recursive=true&recursive=bogus", "invalid_request_error", `recursive="true" and recursive="bogus" contradict each other`, 400},
		{root + "/entries?recursive=true&recursive=false", "invalid_request_error", "contradict each other: it should be given once", 400},
		{root + "/notify?timeout=0&timeout=0&timeout=zzz", "invalid_request_error", "contradict each other", 400},
		{root + "/notify?since=now&since=oldest", "invalid_request_error", "contradict each other", 400},
		{root + "/notify?since=&since=oldest", "invalid_request_error", "contradict each other", 400},
		{root + "/notify?last_event_id=1.2&last_event_id=1.3", "invalid_request_error", "contradict each other", 400},
		{root + "/notify?gap=reset&gap=error", "invalid_request_error", "contradict each other", 400},
		{root + "/notify?fields=all&fields=qumulo", "invalid_request_error", "contradict each other", 400},
		{root + "/notify?timeout=abc", "invalid_request_error", "milliseconds", 400},
		{root + "/notify?timeout=-1", "invalid_request_error", "milliseconds", 400},
		{root + "/notify?timeout=4294967296", "invalid_request_error", "is too long: it should be 4294967295 milliseconds (49 days) or less, or not be there", 400},
		{root + "/notify?timeout=99999999999999999999", "invalid_request_error", "is too long", 400},
		{root + "/notify?filter=all", "invalid_request_error", "one of child_file_added, ", 400},
		{root + "/notify?since=xyz", "invalid_request_error", "now, oldest or snapshot", 400},
		{root + "/notify?last_event_id=xyz", "invalid_request_error", "SEQ.DIRID", 400},
		{root + "/notify?fields=some", "invalid_request_error", "all", 400},
		{root + "/notify?gap=mind", "invalid_request_error", "reset", 400},
		{root + "/notify?filter=%zz", "invalid_request_error", "query", 400},
		{root + "%2Ffile/notify", "fs_not_a_directory_error", "not a directory", 400},
		{root + "%2Fnone/notify", "fs_no_such_entry_error", "/srv/data/none", 404},
		{"/v1/files/%2Fetc/notify", "fs_no_such_entry_error", "/etc", 404},
		{"/v1/files/%2Fsrv%2Fdata-old/notify", "fs_no_such_entry_error", "/srv/data-old", 404},
		{"/v1/files/%2F/notify", "fs_no_such_entry_error", "", 404},
		{"/v1/files/4711/notify", "fs_no_such_entry_error", "4711", 404},
		{"/v1/files/0/notify", "invalid_request_error", "file ID", 400},
		{"/v1/files/99999999999999999999/notify", "invalid_request_error", "file ID", 400},
		{"/v1/files/%2Fsrv%2Fdata%2F../notify", "invalid_request_error", "..", 400},
		{"/v1/files/srv/data/../../etc/notify", "invalid_request_error", "..", 400},
		{"/v1/files/srv/data/%2e%2e/notify", "invalid_request_error", "..", 400},
		{"/v1/files/%2Fsrv%2Fdata%00/notify", "invalid_request_error", "NUL", 400},
		{"/v1/files/srv//data/notify", "invalid_request_error", "empty", 400},
		{"/v1/files/" + strings.Repeat("a", 70000) + "/notify", "invalid_request_error", "70000", 400},
		{"/v1/files/srv/data", "fs_no_such_entry_error", "{ref}/notify", 404},
		{"/v1/files/", "fs_no_such_entry_error", "", 404},
		{"/v1/nothing", "fs_no_such_entry_error", "", 404},
		{root + "/entries?recursive=2", "invalid_request_error", "true or false", 400},
		{root + "%2Ffile/entries", "fs_not_a_directory_error", "", 400},
		{root + "/notify?last_event_id=1.2", "notify_gone_error", "journal", 410},
		{root + "/notify?since=99999999999", "notify_gone_error", "journal", 410},
		{root + "/notify?since=2020-01-01T00:00:00Z", "notify_gone_error", "since=oldest", 410},
	} {
		for _, accept := range []string{eventStream, "X-Nothing: x"} {
			status, body := get(t, url+tt.path, accept)
			var e struct {
				Description, Module string
				ErrorClass          string `json:"error_class"`
				Stack               []string
				UserVisible         bool `json:"user_visible"`
				Oldest, Head        *notify.Seq
			}
			if err := json.Unmarshal([]byte(body), &e); err != nil {
				t.Errorf("%.80s: %q: %v", tt.path, body, err)
				continue
			}
			if status != tt.status || e.ErrorClass != tt.class || !strings.Contains(e.Description, tt.text) || e.Stack == nil || !e.UserVisible {
				t.Errorf("%.80s: %d %.300s, want %d %s with %q", tt.path, status, body, tt.status, tt.class, tt.text)
			}
			if head := do(t, "HEAD", url+tt.path, accept); head.StatusCode != status {
				t.Errorf("HEAD %.80s: %d, GET has %d", tt.path, head.StatusCode, status)
			}
			b := tree.Log.Bounds()
			if (status == 410) != (e.Oldest != nil && *e.Oldest == b.Oldest() && e.Head != nil && *e.Head == b.Newest()) {
				t.Errorf("%.80s: oldest and head are wrong: %s", tt.path, body)
			}
		}
	}
}

func TestMethods(t *testing.T) {
	tree := servertest.New("/srv/data")
	url := serve(t, tree, whole)
	for _, tt := range []struct {
		method, path, allow string
		status              int
	}{
		{"HEAD", root + "/notify", "", 200},
		{"HEAD", root + "/notify?since=snapshot", "", 200},
		{"HEAD", root + "/notify?since=oldest", "", 200},
		{"HEAD", root + "/notify?last_event_id=1&gap=reset&since=snapshot", "", 200},
		{"HEAD", root + "/entries", "", 200},
		{"OPTIONS", root + "/notify", "GET, HEAD, OPTIONS", 204},
		{"POST", root + "/notify", "GET, HEAD, OPTIONS", 405},
		{"DELETE", root + "/entries", "GET, HEAD, OPTIONS", 405},
		{"GET", "/v1/files/resolve", "POST, OPTIONS", 405},
		{"BREW", root + "/notify", "GET, HEAD, OPTIONS", 405},
		{"BREW", "/v1/files/resolve", "POST, OPTIONS", 405},
		{"BREW", "/2.0/events", "", 405},
		{"BREW", "/v1/version", "GET, HEAD, OPTIONS", 405},
		{"BREW", "/v1/nothing", "", 404},
		{"BREW", "/nothing", "", 404},
		{"BREW", "/healthz", "GET, HEAD, OPTIONS", 405},
		{"DELETE", "/healthz", "GET, HEAD, OPTIONS", 405},
		{"OPTIONS", "/healthz", "GET, HEAD, OPTIONS", 204},
		{"HEAD", "/healthz", "", 200},
		{"POST", "/readyz", "GET, HEAD, OPTIONS", 405},
		{"PUT", "/metrics", "GET, HEAD, OPTIONS", 405},
		{"HEAD", "/metrics", "", 200},
	} {
		resp := do(t, tt.method, url+tt.path)
		b, _ := io.ReadAll(resp.Body)
		if got := resp.Header.Get("Allow"); resp.StatusCode != tt.status || tt.allow != "" && got != tt.allow || strings.Contains(got, "PROPFIND") {
			t.Errorf("%s %s: %s, Allow %q, want %d, %q: %s", tt.method, tt.path, resp.Status, got, tt.status, tt.allow, b)
		}
	}
}

func TestResume(t *testing.T) {
	tree := servertest.New("/srv/data")
	dir := tree.Mkdir("dir")
	url := serve(t, tree, nil)
	start := head(tree, dir)
	tree.Create("dir/one")
	afterOne := head(tree, dir)
	tree.Create("dir/two")
	tree.Rename("dir", "moved")
	tree.Create("moved/three")
	other := tree.Mkdir("dir") // another one of that name
	tree.Create("dir/four")

	for _, tt := range []struct {
		name, query, header, want string
	}{
		{"by header, though the path is another's now", "", start, "one two three"},
		{"by parameter", "?last_event_id=" + afterOne, "", "two three"},
		{"the header goes before the parameter", "?last_event_id=" + start, afterOne, "two three"},
		{"the parameter goes before since", "?since=oldest&last_event_id=" + afterOne, "", "two three"},
		{"since takes an id as well", "?since=" + afterOne, "", "two three"},
		{"a bare number is of the path's directory", "?since=" + strings.TrimSuffix(afterOne, "."+dir.String()), "", "four"},
		{"from the oldest", "?since=oldest", "", "four"},
		{"with a filter", "?filter=child_file_removed&last_event_id=" + start, "", ""},
	} {
		var headers []string
		if tt.header != "" {
			headers = append(headers, "Last-Event-ID: "+tt.header)
		}
		sep := "?"
		if tt.query != "" {
			sep = tt.query + "&"
		}
		status, body := get(t, url+root+"%2Fdir/notify"+sep+"timeout=0", append(headers, eventStream)...)
		var got []string
		for block := range strings.SplitSeq(body, "\n\n") {
			notes, _, _ := fields(t, block)
			for _, n := range notes {
				got = append(got, n.Path)
			}
		}
		if status != 200 || strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %d, %q, want %q\n%s", tt.name, status, got, tt.want, body)
		}
		last := body[strings.LastIndex(body, "id: ")+len("id: "):]
		wantDir := dir
		if tt.want == "four" {
			wantDir = other
		}
		if want := head(tree, wantDir); strings.TrimSpace(last) != want {
			t.Errorf("%s: the last id is %q, want the head, %q", tt.name, last, want)
		}
	}
}

// A time before the journal began is its beginning, and the answer says so, as long as nothing was dropped. Then it is gone.
func TestTimeBeforeTheJournal(t *testing.T) {
	tree := servertest.New("/srv/data")
	url := serve(t, tree, nil) + root + "/notify?timeout=0&since="
	start := head(tree, servertest.RootID)
	tree.Create("one")
	tree.Create("two")
	before := tree.Log.Bounds().Base.Time().Add(-time.Minute).Format(time.RFC3339)
	for accept, want := range map[string]string{
		eventStream:    ": watching /srv/data\n\n: the journal begins at 2020-01-01T00:00:01Z\n\nretry: 2000\nid: " + start + "\n\ndata: [",
		"Accept: */x;": ": watching /srv/data\n\n: the journal begins at 2020-01-01T00:00:01Z\n\ndata: [",
	} {
		status, body := get(t, url+before, accept)
		if status != 200 || !strings.HasPrefix(body, want) || !strings.Contains(body, `"one"`) || !strings.Contains(body, `"two"`) {
			t.Errorf("%s: %d\n%s\nwant 200 and\n%s", accept, status, body, want)
		}
	}
	tree.Log.Forget(1)
	if status, body := get(t, url+before, eventStream); status != 410 {
		t.Errorf("of which some is not kept any more: %d %s", status, body)
	}
}

func TestDirectoryRemoved(t *testing.T) {
	tree := servertest.New("/srv/data")
	dir := tree.Mkdir("dir")
	url := serve(t, tree, nil) + root + "%2Fdir/notify?filter=child_dir_added"
	s := open(t, url, eventStream)
	s.want(": watching /srv/data/dir", "retry: 2000\nid: "+head(tree, dir))
	start := head(tree, dir)
	tree.Mkdir("dir/sub")
	s.skip("data: [{\"type\":\"child_dir_added\"")
	tree.Remove("dir")
	gone := s.block()
	if want := fmt.Sprintf("data: [{\"type\":\"self_removed\",\"spine\":[\"%d\"],\"path\":\"\",\"stream_name\":null}]\nid: ", dir); !strings.HasPrefix(gone, want) {
		t.Errorf("got %q, want %q", gone, want)
	}
	if end := s.block(); end != "" {
		t.Errorf("after self_removed came %q", end)
	}
	_, last, _ := fields(t, gone)

	// The past of a directory that is gone can be had up to its end, once.
	s = open(t, url, eventStream, "Last-Event-ID: "+start)
	s.skip("data: [{\"type\":\"child_dir_added\"")
	s.skip("data: [{\"type\":\"self_removed\"")
	if end := s.block(); end != "" {
		t.Errorf("after self_removed came %q", end)
	}
	if status, body := get(t, url, eventStream, "Last-Event-ID: "+last); status != 404 {
		t.Errorf("coming back after self_removed: %d %s, want 404", status, body)
	}
}

// fleeting is a tree in which a directory goes at the worst moment: when somebody has just found it.
type fleeting struct {
	*servertest.Tree
	looks atomic.Int32 // until it goes
}

func (f *fleeting) LookupPath(ctx context.Context, path string) (notify.Entry, error) {
	e, err := f.Tree.LookupPath(ctx, path)
	f.found(&e)
	return e, err
}

func (f *fleeting) LookupID(ctx context.Context, id notify.FileID) (notify.Entry, error) {
	e, err := f.Tree.LookupID(ctx, id)
	f.found(&e)
	return e, err
}

func (f *fleeting) found(e *notify.Entry) {
	if e.Path == "dir" && f.looks.Add(-1) == 0 {
		f.Remove("dir")
	}
}

// Nobody is told that a directory is watched which was found and is gone, and then nothing more.
func TestDirectoryGoesWhileAStreamBegins(t *testing.T) {
	tree := &fleeting{Tree: servertest.New("/srv/data")}
	url := serve(t, tree.Tree, func(o *server.Options) { o.Files = tree }) + root + "%2Fdir/notify?"
	for _, tt := range []struct {
		query string
		looks int32
		want  int
	}{
		{"", 1, 200}, {"since=2100-01-01T00:00:00Z", 1, 200}, {"since=snapshot", 1, 404},
		{"gap=reset&last_event_id=4711", 1, 404}, {"gap=reset&last_event_id=4711", 2, 200},
		{"gap=reset&last_event_id=4711.%d", 1, 410}, {"gap=reset&last_event_id=4711.%d", 2, 200},
	} {
		dir := tree.Mkdir("dir")
		tree.looks.Store(tt.looks)
		query := strings.ReplaceAll(tt.query, "%d", dir.String())
		resp := do(t, "GET", url+query, eventStream)
		if resp.StatusCode != tt.want {
			t.Errorf("%s: %s, want %d", tt.query, resp.Status, tt.want)
		} else if s := wrap(t, resp); tt.want == 200 {
			s.skip(": watching /srv/data/dir")
			s.skip("data: [{\"type\":\"self_removed\"")
			if end := s.block(); end != "" {
				t.Errorf("%s: after self_removed came %q", tt.query, end)
			}
		}
		if tree.Paths()["dir"] != 0 {
			t.Errorf("%s: the directory was not looked up %d times", tt.query, tt.looks)
			tree.Remove("dir")
		}
		resp.Body.Close()
	}
}

func TestMovedOutWithWhatIsAbove(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.Mkdir("a")
	dir := tree.Mkdir("a/b")
	s := open(t, serve(t, tree, nil)+"/v1/files/"+dir.String()+"/notify", eventStream)
	s.skip("retry")
	tree.MoveOut("a")
	s.skip("data: [{\"type\":\"self_removed\"")
	if end := s.block(); end != "" {
		t.Errorf("after self_removed came %q", end)
	}
}

func TestGapReset(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.Mkdir("dir")
	tree.Create("dir/f")
	tree.Log.Forget(1)
	url := serve(t, tree, nil) + root
	b := tree.Log.Bounds()
	reset := fmt.Sprintf("event: reset\ndata: {\"reason\":\"gone\",\"oldest\":%d,\"head\":%d}", b.Oldest(), b.Newest())

	s := open(t, url+"/notify?gap=reset", eventStream, "Last-Event-ID: 4711.2")
	s.want(": watching /srv/data", "retry: 2000\n"+reset+"\nid: "+head(tree, servertest.RootID))
	tree.Create("new")
	s.skip("data: [{\"type\":\"child_file_added\"")

	// Who began with a snapshot can do with another one.
	s = open(t, url+"/notify?gap=reset&since=snapshot&recursive=true", eventStream, "Last-Event-ID: 4711.2")
	s.want(": watching /srv/data recursively")
	if _, _, event := fields(t, s.block()); event != "reset" {
		t.Errorf("the event is %q, want reset", event)
	}
	notes, _, _ := fields(t, s.block())
	var paths []string
	for _, n := range notes {
		paths = append(paths, n.Path)
	}
	slices.Sort(paths)
	if !slices.Equal(paths, []string{"dir", "dir/f", "new"}) {
		t.Errorf("the snapshot has %q", paths)
	}

	// Without an event stream there is but a comment.
	s = open(t, url+"/notify?gap=reset&last_event_id=4711.2")
	s.want(": watching /srv/data", ": reset: changes are missing before this point")
}

func TestSnapshot(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.Create("outside")
	dir := tree.Mkdir("dir")
	var want []string
	for i := range 300 {
		tree.Mkdir(fmt.Sprintf("dir/d%03d", i))
		tree.Create(fmt.Sprintf("dir/d%03d/f", i))
		want = append(want, fmt.Sprintf("d%03d", i), fmt.Sprintf("d%03d/f", i))
	}
	s := open(t, serve(t, tree, nil)+root+"%2Fdir/notify?since=snapshot&recursive=true", eventStream)
	s.want(": watching /srv/data/dir recursively")
	b := tree.Log.Bounds()
	s.want(fmt.Sprintf("retry: 2000\nevent: reset\ndata: {\"reason\":\"snapshot\",\"oldest\":%d,\"head\":%d}", b.Oldest(), b.Newest()))
	have := map[string]bool{"": true}
	for {
		block := s.block()
		notes, id, _ := fields(t, block)
		if len(notes) == 0 {
			if want := "id: " + head(tree, dir); block != want {
				t.Fatalf("after the entries: %q, want %q", block, want)
			}
			break
		}
		if id != "" {
			t.Fatalf("a frame of a snapshot has the id %q, from which it could not be resumed", id)
		}
		for _, n := range notes {
			parent := n.Path[:max(strings.LastIndexByte(n.Path, '/'), 0)]
			if !have[parent] || have[n.Path] || len(n.Spine) != strings.Count(n.Path, "/")+2 || n.Spine[0] != dir {
				t.Fatalf("%s %q %v: its parent is missing, or it came twice, or its spine is wrong", n.Type, n.Path, n.Spine)
			}
			have[n.Path] = true
		}
	}
	delete(have, "")
	if got := slices.Sorted(maps.Keys(have)); !slices.Equal(got, want) {
		t.Errorf("the snapshot has %d entries, want %d", len(got), len(want))
	}
	tree.Create("dir/new")
	if notes, _, _ := fields(t, s.skip("data: ")); len(notes) != 1 || notes[0].Path != "new" {
		t.Errorf("after the snapshot came %v", notes)
	}
}

// A snapshot that is cut off has no id, its farewell neither: that would say that all of it was told.
func TestSnapshotIsCutOff(t *testing.T) {
	tree := servertest.New("/srv/data")
	long := strings.Repeat("\xff", 200) // six times as long in JSON
	for i := range 20000 {              // more than the kernel holds for a client that does not read
		tree.Create(fmt.Sprint(long, i))
	}
	_, rewrite, guard := guardedBy(t, [2]string{"good", allRights})
	url, srv := serveToo(t, tree, guard)
	for _, tt := range []struct {
		why string
		cut func()
	}{
		{"the token was revoked or changed", func() { rewrite([2]string{"good", "privileges: [notify]"}) }},
		{"the server stops", srv.Drain},
	} {
		s := open(t, url+root+"/notify?since=snapshot", eventStream, bearer("good"))
		s.skip("retry: 2000\nevent: reset")
		tt.cut()
		rest, err := io.ReadAll(s.r)
		if told := string(rest); err != nil || !strings.Contains(told, "\n\n: closed: "+tt.why) || strings.Contains(told, "\nid: ") || strings.Count(told, "\"path\"") >= 20000 {
			t.Errorf("%d bytes, %v; the last are %q, want the reason and no id", len(rest), err, told[max(len(told)-200, 0):])
		}
	}
}

func TestFieldsAll(t *testing.T) {
	tree := servertest.New("/srv/data")
	s := open(t, serve(t, tree, nil)+root+"/notify?fields=all", eventStream)
	s.skip("retry")
	f := tree.Create("f")
	want := fmt.Sprintf(`data: [{"type":"child_file_added","spine":["2","%d"],"path":"f","stream_name":null,"seq":4108291,"time":"2020-01-01T00:00:01.003Z",`+
		`"kind":"file","size":0,"mode":"0644","owner":1000,"group":100,"mtime":"2023-11-14T22:13:20.123456789Z","link":null,"actor":null}]`, f)
	s.want(want + "\nid: 4108291.2")
}

func TestKeepaliveAndTimeout(t *testing.T) {
	tree := servertest.New("/srv/data")
	quiet := tree.Mkdir("quiet")
	url := serve(t, tree, func(o *server.Options) { o.KeepAlive = 20 * time.Millisecond }) + root + "%2Fquiet/notify"
	s := open(t, url, eventStream)
	s.skip("retry")
	tree.Create("elsewhere") // moves the bookmark, though nobody told it
	for want := ": keepalive\nid: " + head(tree, quiet); s.block() != want; {
	}
	s = open(t, url)
	s.want(": watching /srv/data/quiet", ": keepalive", ": keepalive")

	s = open(t, url+"?timeout=100", eventStream)
	if b := s.skip(": closed"); !strings.HasSuffix(b, "\nid: "+head(tree, quiet)) {
		t.Errorf("the last block of a stream that timed out is %q", b)
	}
	if end := s.block(); end != "" {
		t.Errorf("after the end came %q", end)
	}
}

func TestIndexing(t *testing.T) {
	tree := servertest.New("/srv/data")
	old := head(tree, servertest.RootID)
	tree.Create("old")
	tree.SetState(func(s *notify.RootState) { s.Phase, s.Progress = notify.Indexing, 0.42 })
	url := serve(t, tree, func(o *server.Options) { o.KeepAlive = time.Minute }) + root + "/notify"

	resp := do(t, "GET", url)
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("for a client that takes no event stream: %s, Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
	}
	fresh, resumed := open(t, url, eventStream), open(t, url, eventStream, "Last-Event-ID: "+old)
	fresh.want(": indexing 42 %")
	resumed.want("retry: 2000\nid: " + old) // the past needs no index
	if notes, _, _ := fields(t, resumed.block()); len(notes) != 1 || notes[0].Path != "old" {
		t.Errorf("the past has %v", notes)
	}
	resumed.want(": indexing 42 %")
	tree.Create("during")
	tree.SetState(func(s *notify.RootState) { s.Phase = notify.Live })
	fresh.skip(": watching /srv/data")
	fresh.want("retry: 2000\nid: " + head(tree, servertest.RootID))
	if b := resumed.skip("data: "); !strings.Contains(b, "during") {
		t.Errorf("during the indexing came %q", b)
	}
	resumed.skip(": watching /srv/data")
}

// A resumed stream hears that its watch is in force also where there is no silence.
func TestIndexingUnderTraffic(t *testing.T) {
	tree := servertest.New("/srv/data")
	old := head(tree, servertest.RootID)
	tree.SetState(func(s *notify.RootState) { s.Phase, s.Progress = notify.Indexing, 0.42 })
	resumed := open(t, serve(t, tree, nil)+root+"/notify", eventStream, "Last-Event-ID: "+old)
	ctx, cancel := context.WithCancel(t.Context())
	var traffic sync.WaitGroup
	traffic.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			tree.Create(fmt.Sprint(i))
			time.Sleep(10 * time.Millisecond)
		}
	})
	defer traffic.Wait()
	defer cancel()
	resumed.skip(": indexing 42 %")
	tree.SetState(func(s *notify.RootState) { s.Phase = notify.Live })
	resumed.skip(": watching /srv/data")
	resumed.skip("data: ")
}

// Who asks for the oldest gets what is the oldest when it is read, however fast it is dropped.
func TestOldestWhileItIsDropped(t *testing.T) {
	tree := servertest.New("/srv/data")
	for i := range 9 {
		tree.Create(fmt.Sprint(i))
	}
	tree.Log.KeepInMemory(1)
	url := serve(t, tree, nil) + root + "/notify?since=oldest"
	left := 3
	tree.Log.OnPage(func() {
		if left > 0 {
			left--
			tree.Log.Forget(2)
		}
	})
	s := open(t, url, eventStream)
	if notes, _, _ := fields(t, s.skip("data: ")); len(notes) == 0 || notes[0].Path != "6" {
		t.Errorf("it begins with %v", notes)
	}
}

// late is a tree that does not know the IDs of a root before it is indexed, as a real one that has just started, and that ends its index at
// the worst moment: while somebody looks.
type late struct {
	*servertest.Tree
	ends atomic.Bool // with the next look by ID
}

func (l *late) LookupID(ctx context.Context, id notify.FileID) (notify.Entry, error) {
	if l.Roots()[0].Phase == notify.Indexing {
		if l.ends.Swap(false) {
			l.SetState(func(s *notify.RootState) { s.Phase = notify.Live })
		}
		return notify.Entry{}, &notify.Error{Op: "late", Kind: notify.NotFound}
	}
	return l.Tree.LookupID(ctx, id)
}

func (l *late) Snapshot(ctx context.Context, dir notify.FileID, recursive bool) (*notify.Snapshot, error) {
	if l.Roots()[0].Phase == notify.Indexing {
		return nil, &notify.Error{Op: "late", Kind: notify.NotFound}
	}
	return l.Tree.Snapshot(ctx, dir, recursive)
}

// Who comes back while the server starts is not told that the directory is gone, however the moments meet.
func TestResumeWhileTheServerStarts(t *testing.T) {
	tree := &late{Tree: servertest.New("/srv/data")}
	url := serve(t, tree.Tree, func(o *server.Options) { o.Files = tree }) + root + "/notify"
	start := head(tree.Tree, servertest.RootID)
	tree.Create("one")
	indexing := func() {
		tree.SetState(func(s *notify.RootState) { s.Phase, s.Progress = notify.Indexing, 0.5 })
	}

	indexing()
	tree.ends.Store(true) // in the first look
	s := open(t, url, eventStream, "Last-Event-ID: "+start)
	s.want("retry: 2000\nid: " + start)
	if notes, _, _ := fields(t, s.block()); len(notes) != 1 || notes[0].Path != "one" {
		t.Errorf("told: %v", notes)
	}
	s.skip(": watching /srv/data")
	s.close()

	indexing()
	s = open(t, url, eventStream, "Last-Event-ID: "+start)
	s.skip(": indexing 50 %")
	tree.ends.Store(true) // in a later one
	s.skip(": watching /srv/data")
	s.close()

	for _, query := range []string{"?gap=reset&since=snapshot", "?gap=reset"} {
		indexing()
		s = open(t, url+query, eventStream, "Last-Event-ID: 7."+servertest.RootID.String())
		s.want(": indexing 50 %")
		tree.ends.Store(true)
		s.skip(": watching /srv/data")
		if b := s.skip("retry: 2000\nevent: reset"); !strings.Contains(b, `"reason":"gone"`) {
			t.Errorf("%s: %s", query, b)
		}
		if strings.Contains(query, "snapshot") {
			s.skip("data: [")
		}
		s.close()
	}
	for _, query := range []string{"", "?gap=reset", "?gap=reset&since=snapshot"} { // for those who take no comments
		indexing()
		if status, body := get(t, url+query, "Last-Event-ID: 7."+servertest.RootID.String()); status != 503 {
			t.Errorf("%q: %d %s", query, status, body)
		}
	}
	for _, what := range []string{"entries", "info/attributes", "notify"} { // by ID
		if status, body := get(t, strings.TrimSuffix(url, root+"/notify")+"/v1/files/"+servertest.RootID.String()+"/"+what); status != 503 {
			t.Errorf("%s: %d %s", what, status, body)
		}
	}
}

func TestRootAway(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.SetState(func(s *notify.RootState) {
		s.Phase, s.Progress, s.Reason, s.Since = notify.Away, 0, "no such file or directory", time.Unix(1e9, 0).UTC()
	})
	url := serve(t, tree, nil)
	for _, path := range []string{"/notify", "/entries", "/info/attributes"} {
		if status, body := get(t, url+root+path, eventStream); status != 503 {
			t.Errorf("%s of a root that is away: %d %s", path, status, body)
		}
	}
	if status, body := get(t, url+"/readyz"); status != 503 || !strings.Contains(body, `"phase":"away","since":"2001-09-09T01:46:40Z","reason":"no such file or directory","progress":0,`) {
		t.Errorf("/readyz: %d %s", status, body)
	}
}

func TestOverload(t *testing.T) {
	tree := servertest.New("/srv/data")
	url := serve(t, tree, func(o *server.Options) { o.MaxStreams = 2 }) + root + "/notify"
	a, b := open(t, url, eventStream), open(t, url, eventStream)
	a.skip("retry")
	b.skip("retry")
	over := open(t, url, eventStream)
	if got := over.block(); !strings.HasPrefix(got, "retry: 10000\n: ") {
		t.Errorf("an EventSource too many gets %q", got)
	}
	if end := over.block(); end != "" {
		t.Errorf("and then %q", end)
	}
	resp := do(t, "GET", url)
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "10" {
		t.Errorf("another client too many: %s, Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
	}
	a.close()
	for until := time.Now().Add(patience); ; { // as soon as its handler has noticed, there is room again
		if resp := do(t, "GET", url+"?timeout=0"); resp.StatusCode == 200 {
			break
		}
		if time.Now().After(until) {
			t.Fatal("a stream that was closed still counts")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestStopEndsStreams(t *testing.T) {
	tree := servertest.New("/srv/data")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- server.New(server.Options{Files: tree, Journal: tree.Log, Writers: writers}).Serve(ctx, l)
	}()
	s := open(t, "http://"+l.Addr().String()+root+"/notify", eventStream)
	s.skip("retry")
	tree.Create("last")
	cancel()
	last := s.skip(": closed: the server stops") // behind whatever was still to be told
	if want := "\nid: " + head(tree, servertest.RootID); !strings.HasSuffix(last, want) && !strings.HasSuffix(last, "id: 4100095.2") {
		t.Errorf("the last block %q has neither the id before nor that after the last change", last)
	}
	var retry int // all clients come back, but not all at once
	if _, err := fmt.Sscanf(last, ": closed: the server stops\nretry: %d\n", &retry); err != nil || retry < 2000 || retry >= 6000 {
		t.Errorf("the last block %q names no time to come back at from 2 s to 6 s", last)
	}
	if end := s.block(); end != "" {
		t.Errorf("after the end came %q", end)
	}
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the listener is still open")
	}
}

// patient is a tree of which a snapshot takes for ever.
type patient struct {
	*servertest.Tree
	begun chan struct{}
}

func (p *patient) Snapshot(ctx context.Context, _ notify.FileID, _ bool) (*notify.Snapshot, error) {
	p.begun <- struct{}{}
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// A server that stops before a stream has begun tells an EventSource to come back, which dies of an error.
func TestStopBeforeAStreamBegins(t *testing.T) {
	tree := &patient{servertest.New("/srv/data"), make(chan struct{})}
	url, srv := serveToo(t, tree.Tree, func(o *server.Options) { o.Files = tree })
	go func() {
		<-tree.begun
		srv.Drain()
	}()
	s := open(t, url+root+"/notify?since=snapshot", eventStream)
	if b := s.block(); !strings.HasPrefix(b, ": closed: the server stops\nretry: ") || strings.Contains(b, "id: ") {
		t.Errorf("the stream says %q, want when to come back, and no id", b)
	}
	if end := s.block(); end != "" {
		t.Errorf("after the end came %q", end)
	}
}

// A client that takes nothing is let go, and meanwhile costs the others nothing.
func TestStalledClient(t *testing.T) {
	tree := servertest.New("/srv/data")
	closed := make(chan string, 10)
	url := serve(t, tree, func(o *server.Options) {
		o.WriteTimeout = 300 * time.Millisecond
		o.Metrics = &metrics{closed: closed}
	})
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.(*net.TCPConn).SetReadBuffer(4096)
	fmt.Fprintf(c, "GET %s/notify HTTP/1.1\r\nHost: localhost\r\n\r\n", root)
	healthy := open(t, url+root+"/notify", eventStream)
	healthy.skip("retry")
	name := strings.Repeat("x", 200)
	for i := range 100000 { // until the kernel's buffers are full
		tree.Create(fmt.Sprintf("%s%d", name, i))
		if i%100 == 0 { // which is less than its socket takes at once
			for notes := []notify.Notification(nil); len(notes) == 0 || notes[len(notes)-1].Path != fmt.Sprintf("%s%d", name, i); {
				notes, _, _ = fields(t, healthy.block())
			}
			select {
			case reason := <-closed:
				if reason != "stalled" {
					t.Errorf("the stream of a client that does not read ended for %q", reason)
				}
				return
			default:
			}
		}
	}
	select {
	case reason := <-closed:
		if reason != "stalled" {
			t.Errorf("the stream of a client that does not read ended for %q", reason)
		}
	case <-time.After(patience):
		t.Error("a client that does not read is still served")
	}
}

type metrics struct {
	closed              chan string
	requests            atomic.Int32
	opened, sent, bytes atomic.Int64
}

func (m *metrics) Request(string, int, time.Duration) { m.requests.Add(1) }
func (m *metrics) StreamOpened(string)                { m.opened.Add(1) }
func (m *metrics) StreamClosed(_, reason string)      { m.closed <- reason }
func (m *metrics) StreamSent(_ string, notifications, bytes int) {
	m.sent.Add(int64(notifications))
	m.bytes.Add(int64(bytes))
}

// A stream is counted as a request when it begins, as a stream until it ends.
func TestMetrics(t *testing.T) {
	tree := servertest.New("/srv/data")
	dir := tree.Mkdir("dir")
	m := &metrics{closed: make(chan string, 10)}
	s := open(t, serve(t, tree, func(o *server.Options) { o.Metrics = m })+root+"%2Fdir/notify", eventStream)
	s.want(": watching /srv/data/dir", "retry: 2000\nid: "+head(tree, dir))
	if r, o := m.requests.Load(), m.opened.Load(); r != 1 || o != 1 {
		t.Errorf("%d requests, %d streams, want one of each", r, o)
	}
	tree.Create("dir/a")
	size := len(s.block()) + 2
	tree.Rename("dir/a", "dir/b")
	size += len(s.block()) + 2
	tree.Remove("dir")
	size += len(s.block()) + 2
	if reason := <-m.closed; reason != "removed" || m.requests.Load() != 1 {
		t.Errorf("the stream ended for %q, after %d requests", reason, m.requests.Load())
	}
	n, chunks := m.sent.Load(), m.bytes.Load()-int64(size)
	const chunk = int64(len("00000000\r\n\r\n"))
	most := 3 * chunk // a writer makes the chunks itself; what was told before it had the stream, net/http did
	if writers < 0 {
		most = 0
	}
	if n != 5 || chunks < 0 || chunks > most || chunks%chunk != 0 {
		t.Errorf("%d notifications in %d bytes more than %d, want 5 in a multiple of %d more, at most %d", n, chunks, size, chunk, most)
	}
}

// When the journal closes, the streams end as when the server stops.
func TestJournalCloses(t *testing.T) {
	tree := servertest.New("/srv/data")
	s := open(t, serve(t, tree, nil)+root+"/notify", eventStream)
	s.skip("retry")
	tree.Create("f")
	s.skip("data: ")
	tree.Log.Close()
	s.skip(": closed: the server stops\nretry: ")
	if end := s.block(); end != "" {
		t.Errorf("after the end came %q", end)
	}
}

// A batch of 4,096 long paths: frames of at most 256 KiB, and a rename in one of them.
func TestFramesAreBounded(t *testing.T) {
	tree := servertest.New("/srv/data")
	s := open(t, serve(t, tree, nil)+root+"/notify?recursive=true", eventStream)
	s.skip("retry")
	long := strings.Repeat("\xff", 100) // six times as long in JSON
	var notes []notify.Notification
	for i := range notify.FileID(2048) {
		spine := notify.Spine{servertest.RootID, 5000 + i}
		notes = append(notes,
			notify.Notification{Type: notify.ChildFileMovedFrom, Path: fmt.Sprint(long, "a", i), Spine: spine, Link: notify.Seq(2*i + 2)},
			notify.Notification{Type: notify.ChildFileMovedTo, Path: fmt.Sprint(long, "b", i), Spine: spine, Link: notify.Seq(2*i + 1)})
	}
	tree.Log.Append(servertest.RootID, notes...)
	var got []notify.Notification
	frames := 0
	for len(got) < len(notes) {
		block := s.block()
		frame, id, _ := fields(t, block)
		data, _, _ := strings.Cut(strings.TrimPrefix(block, "data: "), "\n")
		if len(data) > 256<<10 {
			t.Errorf("a frame of %d bytes", len(data))
		}
		if len(frame)%2 != 0 || frame[0].Type != notify.ChildFileMovedFrom {
			t.Fatalf("a frame of %d begins with %s: a rename was torn apart", len(frame), frame[0].Type)
		}
		frames++
		got = append(got, frame...)
		if len(got) < len(notes) { // whoever breaks off here goes on with the next frame
			again := open(t, s.resp.Request.URL.String(), eventStream, "Last-Event-ID: "+id)
			next, _, _ := fields(t, again.skip("data: "))
			if next[0].Path != fmt.Sprint(long, "a", len(got)/2) {
				t.Fatalf("resumed behind frame %d: %.150q", frames, next[0].Path)
			}
			again.close()
		}
	}
	if frames < 10 {
		t.Errorf("%d frames for about 2.6 MB", frames)
	}
	for i, n := range got {
		if n.Path != notes[i].Path {
			t.Fatalf("notification %d is %q, want %q", i, n.Path, notes[i].Path)
		}
	}
}

// The client library that the command line uses.
func TestR3labsClient(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.Create("before")
	url := serve(t, tree, nil) + root + "/notify?since=oldest"
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := sse.NewClient(url, sse.ClientMaxBufferSize(1<<20))
	var paths []string
	err := c.SubscribeWithContext(ctx, "", func(e *sse.Event) {
		if len(e.Data) == 0 {
			return
		}
		notes, err := notify.DecodeJSON(e.Data)
		if err != nil {
			t.Error(err)
		}
		for _, n := range notes {
			paths = append(paths, n.Path)
		}
		switch len(paths) {
		case 1:
			tree.Create("during")
		case 2:
			if want := "4120579.2"; string(e.ID) != want {
				t.Errorf("the id is %q, want %q", e.ID, want)
			}
			cancel()
		}
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Subscribe: %v", err)
	}
	if !slices.Equal(paths, []string{"before", "during"}) {
		t.Errorf("got %q", paths)
	}
}

// A client that takes no line of more than 64 KiB, as many do that nobody has set up, gets all that happens at once.
func TestR3labsClientAsItComes(t *testing.T) {
	tree := servertest.New("/srv/data")
	var notes []notify.Notification
	for i := range notify.FileID(1000) {
		notes = append(notes, notify.Notification{Type: notify.ChildFileAdded, Path: fmt.Sprint("a name as people give them to their files ", i),
			Spine: notify.Spine{servertest.RootID, 5000 + i}})
	}
	tree.Log.Append(servertest.RootID, notes...)
	url := serve(t, tree, nil) + root + "/notify?since=oldest"
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var n atomic.Int64
	go sse.NewClient(url).SubscribeWithContext(ctx, "", func(e *sse.Event) { // it tries for ever what is too long for it
		some, _ := notify.DecodeJSON(e.Data)
		if n.Add(int64(len(some))) == int64(len(notes)) {
			cancel()
		}
	})
	<-ctx.Done()
	if n := n.Load(); n != int64(len(notes)) {
		t.Errorf("it got %d of %d notifications", n, len(notes))
	}
}

// The EventSources of some browsers take no id from a block without data. To who asks as they do, all that moves the cursor has some; nobody
// takes that for a notification.
func TestCursorsWithData(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.Create("f")
	url, srv := serveToo(t, tree, func(o *server.Options) { o.KeepAlive = 20 * time.Millisecond })
	const fresh = "Cache-Control: no-cache"
	at := "event: cursor\ndata: []\nid: "
	s := open(t, url+root+"/notify", eventStream, fresh)
	s.want(": watching /srv/data", "retry: 2000\n"+at+head(tree, servertest.RootID), ": keepalive\n"+at+head(tree, servertest.RootID))
	all := open(t, url+root+"/notify?since=snapshot", eventStream, fresh)
	all.skip("data: [{")
	all.want(at + head(tree, servertest.RootID))
	srv.Drain()
	if b := s.skip(": closed"); !strings.HasSuffix(b, "\n"+at+head(tree, servertest.RootID)) {
		t.Errorf("the last block is %q", b)
	}
}

// The promise: a snapshot and the stream after it make a mirror that is right at every step, over
// any number of connections that break anywhere.
func TestMirror(t *testing.T) {
	tree := servertest.New("/srv/data")
	url := serve(t, tree, nil) + root + "/notify?recursive=true&since=snapshot"
	rnd := rand.New(rand.NewPCG(1, 2))
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		for range 3000 {
			mutate(tree, rnd)
		}
		tree.Create("the end")
	}()
	mirror := map[string]notify.FileID{}
	id, cuts := "", 0
	for mirror["the end"] == 0 {
		var headers []string
		if id != "" {
			headers = append(headers, "Last-Event-ID: "+id)
		}
		s := open(t, url, append(headers, eventStream)...)
		limit := 1 + rand.IntN(30000)
		if id == "" { // the tree grows, and its snapshot has to come through as a whole once
			limit += 10000 * cuts
		}
		read := 0
		// The connection breaks after some bytes, inside a block as a rule.
		body := make([]byte, 0, limit)
		for {
			line, err := s.r.ReadString('\n')
			body = append(body, line...)
			read += len(line)
			if err != nil || read >= limit {
				break
			}
			if strings.HasSuffix(string(body), "\n\n") {
				notes, newID, event := fields(t, string(body))
				body = body[:0]
				if event == "reset" {
					clear(mirror)
				}
				for _, n := range notes {
					fold(t, mirror, &n)
				}
				if newID != "" {
					id = newID
				}
				if mirror["the end"] != 0 {
					break
				}
			}
		}
		cuts++
		s.close()
	}
	<-stop
	if want := tree.Paths(); !maps.Equal(mirror, want) {
		t.Errorf("the mirror has %d entries, the tree %d", len(mirror), len(want))
	}
	t.Logf("%d connections", cuts)
}

// mutate does something at random that is possible.
func mutate(tree *servertest.Tree, rnd *rand.Rand) {
	paths := slices.Sorted(maps.Keys(tree.Paths()))
	some := func() string { return paths[rnd.IntN(len(paths))] }
	name := fmt.Sprintf("n%d", rnd.IntN(1e9))
	switch k := rnd.IntN(10); {
	case k < 3 || len(paths) < 5:
		tree.Mkdir("d" + name)
	case k < 7:
		dir := some()
		for strings.Contains(dir[strings.LastIndexByte(dir, '/')+1:], "f") {
			dir = dir[:max(strings.LastIndexByte(dir, '/'), 0)]
		}
		if dir != "" {
			dir += "/"
		}
		tree.Create(dir + "f" + name)
	case k < 9:
		from := some()
		kind := from[strings.LastIndexByte(from, '/')+1:][:1]
		tree.Rename(from, kind+name)
	default:
		tree.Remove(some())
	}
}

// fold applies one notification to a mirror, which has to be possible.
func fold(t *testing.T, mirror map[string]notify.FileID, n *notify.Notification) {
	t.Helper()
	below := func(dir string) (out []string) {
		for p := range mirror {
			if p == dir || strings.HasPrefix(p, dir+"/") {
				out = append(out, p)
			}
		}
		return out
	}
	switch n.Type {
	case notify.ChildFileAdded, notify.ChildDirAdded:
		if mirror[n.Path] != 0 {
			t.Fatalf("%q was added and is there", n.Path)
		}
		mirror[n.Path] = n.ID()
	case notify.ChildFileRemoved, notify.ChildDirRemoved:
		if mirror[n.Path] != n.ID() || len(below(n.Path)) != 1 {
			t.Fatalf("%q was removed and is not there, or has something in it", n.Path)
		}
		delete(mirror, n.Path)
	case notify.ChildFileMovedFrom, notify.ChildDirMovedFrom:
		if mirror[n.Path] != n.ID() {
			t.Fatalf("%q was moved and is not there", n.Path)
		}
		for _, p := range below(n.Path) { // its other half comes next, in the same frame
			mirror["\x00"+strings.TrimPrefix(p, n.Path)] = mirror[p]
			delete(mirror, p)
		}
	case notify.ChildFileMovedTo, notify.ChildDirMovedTo:
		for p, id := range mirror {
			if rest, ok := strings.CutPrefix(p, "\x00"); ok {
				mirror[n.Path+rest] = id
				delete(mirror, p)
			}
		}
		if mirror[n.Path] != n.ID() {
			t.Fatalf("%q came from nowhere", n.Path)
		}
	}
}

func TestHTTP2(t *testing.T) {
	tree := servertest.New("/srv/data")
	cert, pool := selfSigned(t)
	url := serve(t, tree, func(o *server.Options) { o.TLS = cert })
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: pool.Clone(), ForceAttemptHTTP2: true}}
	defer c.CloseIdleConnections()
	req, _ := http.NewRequestWithContext(t.Context(), "GET", url+root+"/notify", nil)
	req.Header.Set("Accept", "text/event-stream")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 {
		t.Fatalf("the server speaks %s", resp.Proto)
	}
	s := wrap(t, resp)
	s.want(": watching /srv/data", "retry: 2000\nid: "+head(tree, servertest.RootID))
	tree.Create("f")
	s.skip("data: [{\"type\":\"child_file_added\"")
}

// A root that is served no more: who resumes it is told what the journal keeps, and then why the stream ends.
func TestResumeOfARootThatIsNoLongerServed(t *testing.T) {
	tree := servertest.New("/srv/data")
	const other, file = 7000, 7001
	note := func(name string) notify.Notification {
		return notify.Notification{Type: notify.ChildFileAdded, Path: name, Spine: notify.Spine{other, file}, Attr: notify.Attr{Mode: notify.ModeFile | 0o644}}
	}
	seen := tree.Log.Append(other, note("seen")).Number.End()
	tree.Log.Append(other, note("unseen"))
	status, body := get(t, serve(t, tree, nil)+fmt.Sprintf("/v1/files/%d/notify?since=%d.%d", other, seen, other), eventStream)
	if status != 200 || !strings.Contains(body, `"path":"unseen"`) || strings.Contains(body, `"path":"seen"`) || !strings.Contains(body, "\n: closed: all that is kept of what is gone was told\n") {
		t.Errorf("got %d\n%s", status, body)
	}
}
