package page

import (
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, method, path string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	return w.Result()
}

func TestHandler(t *testing.T) {
	for _, tt := range []struct {
		method, path string
		status       int
		contentType  string
	}{
		{"GET", "/", 200, "text/html; charset=utf-8"},
		{"HEAD", "/", 200, "text/html; charset=utf-8"},
		{"GET", "/page/page.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/page/activity.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/page/page.css", 200, "text/css; charset=utf-8"},
		{"GET", "/page/icon.svg", 200, "image/svg+xml"},
		{"GET", "/page/", 404, ""},
		{"GET", "/page/index.html", 404, ""},
		{"GET", "/page/../page.go", 404, ""},
		{"GET", "/other", 404, ""},
		{"POST", "/", 405, ""},
	} {
		res := get(t, tt.method, tt.path)
		if res.StatusCode != tt.status {
			t.Errorf("%s %s: status %d, want %d", tt.method, tt.path, res.StatusCode, tt.status)
		}
		if tt.status != 200 {
			continue
		}
		if got := res.Header.Get("Content-Type"); got != tt.contentType {
			t.Errorf("%s: type %q, want %q", tt.path, got, tt.contentType)
		}
		csp := res.Header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers %v, want a policy without unsafe parts, and nosniff", tt.path, res.Header)
		}
		etag := res.Header.Get("ETag")
		if again := get(t, "GET", tt.path, "If-None-Match", etag); etag == "" || again.StatusCode != http.StatusNotModified {
			t.Errorf("%s: asked again with ETag %q: status %d, want 304", tt.path, etag, again.StatusCode)
		}
	}
}

// TestNothingInlineNothingFromElsewhere reads the files as the policy would judge them, and
// looks for the ways in which a string can become markup.
func TestNothingInlineNothingFromElsewhere(t *testing.T) {
	forbidden := map[string]string{
		".html": `(?i)<style|\sstyle=|\son[a-z]+=|<script(>|[^>]*>[^<])|https?://[a-z0-9]|javascript:`,
		".css":  `(?i)@import|url\(|https?://`,
		".js":   `innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|https?://|setAttribute\("(style|on)`,
		".svg":  `(?i)<script|\son[a-z]+=|href=`,
	}
	files, err := static.ReadDir("static")
	if err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		file := f.Name()
		if forbidden[path.Ext(file)] == "" {
			t.Errorf("nothing is said of what %s may not have", file)
		}
		body, err := static.ReadFile("static/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if at := regexp.MustCompile(forbidden[path.Ext(file)]).FindIndex(body); at != nil {
			t.Errorf("%s has %q", file, body[at[0]:at[1]])
		}
	}
}
