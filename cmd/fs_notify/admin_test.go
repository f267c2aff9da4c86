package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The administrators' address tells who is connected and what happened last, with names that are no markup; the other one does not.
func TestAdmin(t *testing.T) {
	dir := t.TempDir()
	url, log := serveHere(t, "--root", "/data="+dir, "--watcher", "poll", "--poll-interval", "0.05s", "--admin-listen", "127.0.0.1:0")
	admin := strings.TrimSuffix(log.find(t, `"msg":"serving administrators","url":"([^"]+)"`), "/debug/")
	eventually(t, "readiness", func() bool { status, _ := fetch(t, url+"/readyz"); return status == 200 })
	var streams []follower
	ask := func() {
		t.Helper()
		_, text := fetch(t, admin+"/debug/streams")
		streams = nil
		if err := json.Unmarshal([]byte(text), &streams); err != nil || streams == nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	if ask(); len(streams) != 0 {
		t.Errorf("nobody is connected, and %+v is shown", streams)
	}
	resp, err := http.Get(url + "/v1/files/%2Fdata/notify?filter=child_file_added,child_dir_added&recursive=1&include=**&exclude=**/*.%3Cb%3E&exclude=**/*.tmp&fields=all")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := os.WriteFile(filepath.Join(dir, "<script>"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a stream that was told", func() bool { ask(); return len(streams) == 1 && streams[0].Notifications == 1 })
	if s := streams[0]; s.Ref != "/data" || !s.Recursive || strings.Join(s.Filter, " ") != "child_file_added child_dir_added" || !strings.HasPrefix(s.Client, "127.0.0.1:") ||
		strings.Join(s.Include, " ") != "**" || strings.Join(s.Exclude, " ") != "**/*.<b> **/*.tmp" || s.Fields != "all" {
		t.Errorf("shown is %+v", s)
	}
	var last struct{ Type, Path string }
	_, text := fetch(t, admin+"/debug/notifications")
	if err := json.Unmarshal([]byte(text), &last); err != nil || last.Type != "child_file_added" || last.Path != "<script>" {
		t.Errorf("the last notifications are %s: %v", text, err)
	}
	_, text = fetch(t, admin+"/debug/")
	if strings.Contains(text, "<script>") || !strings.Contains(text, "&lt;script&gt;") || !strings.Contains(text, "1 streams") ||
		!strings.Contains(text, "<td>child_file_added child_dir_added include=** exclude=**/*.&lt;b&gt; exclude=**/*.tmp fields=all<td") {
		t.Errorf("the page is %s", text)
	}
	for path, want := range map[string]int{"/": 200, "/metrics": 200, "/debug/pprof/": 200, "/debug/pprof/goroutine?debug=1": 200, "/debug/pprof/cmdline": 200, "/v1/version": 404} {
		if got, _ := fetch(t, admin+path); got != want {
			t.Errorf("%s gave %d, want %d", path, got, want)
		}
	}
	for _, path := range []string{"/debug/", "/debug/streams", "/debug/pprof/"} {
		if status, _ := fetch(t, url+path); status != 404 {
			t.Errorf("the address for everyone answers %s with %d", path, status)
		}
	}
	for _, header := range []string{"Host: files.example", "Host: 10.0.0.1:6060", "Origin: http://127.0.0.1:8000"} {
		req, _ := http.NewRequest("GET", admin+"/debug/streams", nil)
		k, v, _ := strings.Cut(header, ": ")
		if req.Header.Set(k, v); k == "Host" {
			req.Host = v
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 403 {
			t.Errorf("with %s the answer is %d %s", header, resp.StatusCode, body)
		}
	}
}
