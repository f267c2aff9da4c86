// Package page is the live page: one HTML file, one style sheet and one script, embedded, without a
// build step and without anything from elsewhere, so that it works where the internet does not.
//
// The page gets notifications through EventSource from v1/files/{ref}/notify and asks readyz how the
// roots are, both relative to its own address, so that it also works below a prefix. It trusts
// nothing that it is told: names become text, never markup, and its Content-Security-Policy
// allows no script but its own.
package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"time"
)

//go:embed static
var static embed.FS

// policy allows the page its own three files and its own server, and nothing else: no inline
// script, no frame, no form that leaves, no HTML made of strings.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// types are those of the files, whatever the host's own table says.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// asset is one file as it is served.
type asset struct {
	name string
	body []byte
	etag string
}

// Handler serves the page at "/" and its parts below "/page/"; everything else there is 404. Route both to
// it, unchanged. It has no state and may be used by any number of goroutines.
func Handler() http.Handler {
	assets := make(map[string]asset)
	err := fs.WalkDir(static, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := static.ReadFile(name)
		if err != nil {
			return err
		}
		at := "/page/" + path.Base(name)
		if path.Base(name) == "index.html" {
			at = "/"
		}
		sum := sha256.Sum256(body)
		assets[at] = asset{name: path.Base(name), body: body, etag: `"` + hex.EncodeToString(sum[:12]) + `"`}
		return nil
	})
	if err != nil {
		panic(err) // what is embedded can be read
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, ok := assets[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-cache") // keep it, but ask: an upgrade changes all three files at once
		h.Set("ETag", a.etag)
		h.Set("Content-Type", types[path.Ext(a.name)])
		http.ServeContent(w, r, a.name, time.Time{}, bytes.NewReader(a.body))
	})
}
