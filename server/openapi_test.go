package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"fs_notify/notify"
	"fs_notify/server"
	"fs_notify/server/access"
	"fs_notify/server/page"
	"fs_notify/server/servertest"
)

// document is docs/openapi.yaml.
type document struct {
	t    *testing.T
	all  map[string]any
	seen int // values that were compared with a schema
}

func readOpenAPI(t *testing.T) *document {
	t.Helper()
	text, err := os.ReadFile("../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	d := &document{t: t}
	if err := yaml.Unmarshal(text, &d.all); err != nil {
		t.Fatal(yaml.FormatError(err, false, true))
	}
	return d
}

// at follows keys, and references on the way; what stands beside a reference counts too.
func (d *document) at(v any, keys ...string) any {
	for _, k := range append([]string{""}, keys...) {
		if k != "" {
			m, _ := v.(map[string]any)
			v = m[k]
		}
		m, _ := v.(map[string]any)
		if ref, ok := m["$ref"].(string); ok {
			target, ok := d.at(d.all, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...).(map[string]any)
			if !ok {
				d.t.Fatalf("%s leads nowhere", ref)
			}
			whole := maps.Clone(target)
			for k, v := range m {
				if k != "$ref" {
					whole[k] = v
				}
			}
			v = whole
		}
	}
	return v
}

func (d *document) object(v any, keys ...string) map[string]any {
	m, _ := d.at(v, keys...).(map[string]any)
	return m
}

func texts(v any) (out []string) {
	all, _ := v.([]any)
	for _, e := range all {
		out = append(out, fmt.Sprint(e))
	}
	return out
}

// Each request that the document has is answered as it says, in a type that it names and with the keys that it names.
func TestOpenAPI(t *testing.T) {
	d := readOpenAPI(t)
	tree := servertest.New("/srv/data")
	tree.Create("hello")
	tree.Mkdir("dir")
	url, srv := serveToo(t, tree, withSessions(t))
	asked := 0
	for path, item := range d.object(d.all, "paths") {
		if d.object(item)["x-not-everywhere"] == true && len(routesOf(srv, path)) == 0 {
			continue
		}
		for method, operation := range d.object(item) {
			if strings.HasPrefix(method, "x-") {
				continue
			}
			for status, response := range d.object(operation, "responses") {
				response := d.object(response)
				for _, target := range texts(response["x-request"]) {
					asked++
					d.ask(url, strings.ToUpper(method), target, status, operation, response)
				}
			}
			if answers := d.object(operation, "responses"); answers["200"] == nil && answers["204"] == nil {
				t.Errorf("%s %s has no answer 200", method, path)
			}
		}
	}
	if asked < 36 || d.seen < 100 {
		t.Errorf("only %d requests were made, and %d values were looked at: the test looks at the wrong places", asked, d.seen)
	}
}

// routesOf gives the patterns of a server that a path of the document matches, but for those that match everything.
func routesOf(srv *server.Server, path string) (all []string) {
	for _, r := range srv.Routes() {
		pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(r), `\*`, ".+") + "$"
		if !catchAll[r] && regexp.MustCompile(pattern).MatchString(path) {
			all = append(all, r)
		}
	}
	return all
}

// catchAll are the patterns that answer 404, or with a part of the page.
var catchAll = map[string]bool{"/v1/*": true, "/api/*": true, "/page/*": true}

// whole is a server with everything that it can have.
func whole(o *server.Options) {
	o.Page = page.Handler()
	o.More = map[string]http.Handler{"/metrics": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	})}
}

// withSessions is whole, and lets the user and the token log in that the document has as examples, and everybody else do all the same.
func withSessions(t *testing.T) func(o *server.Options) {
	t.Helper()
	dir := t.TempDir()
	tokens, users := filepath.Join(dir, "tokens"), filepath.Join(dir, "users")
	for name, text := range map[string]string{
		users:  "joe:" + access.Argon2id("horse") + "\n",
		tokens: "tokens:\n  - {name: cave, hash: '" + access.SHA256("open sesame") + "', " + allRights + "}\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	guard, err := access.New(access.Options{Tokens: tokens, Users: users})
	if err != nil {
		t.Fatal(err)
	}
	return func(o *server.Options) {
		whole(o)
		o.Open, o.Guarded = guard.Open(), guard.Routes()
	}
}

func (d *document) ask(url, method, target, status string, operation any, response map[string]any) {
	t := d.t
	t.Helper()
	what := method + " " + target
	var body io.Reader
	if example := d.at(operation, "requestBody", "content", "application/json", "example"); example != nil {
		b, _ := json.Marshal(example)
		body = strings.NewReader(string(b))
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url+target, body)
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := oneShot(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(resp.StatusCode) != status {
		t.Errorf("%s: %s, want %s\n%s", what, resp.Status, status, text)
		return
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	content := d.object(response, "content")
	if content == nil && kind == "" && len(text) == 0 {
		return
	}
	media, ok := content[kind]
	if !ok {
		t.Errorf("%s: the answer is %q, the document knows %q", what, kind, slices.Collect(maps.Keys(content)))
		return
	}
	if kind != "application/json" || d.object(media)["x-lines"] == true || d.object(media)["schema"] == nil {
		return
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Errorf("%s: %v in %s", what, err, text)
		return
	}
	d.compare(what, v, d.object(media, "schema"))
}

// compare looks whether a value is as a schema says, as far as this document uses schemas.
func (d *document) compare(where string, v any, schema map[string]any) {
	d.seen++
	kinds := texts(schema["type"])
	if s, ok := schema["type"].(string); ok {
		kinds = []string{s}
	}
	kind := "null"
	switch v := v.(type) {
	case string:
		kind = "string"
	case bool:
		kind = "boolean"
	case float64:
		kind = "number"
		if v == float64(int64(v)) && slices.Contains(kinds, "integer") {
			kind = "integer"
		}
	case []any:
		kind = "array"
		for i, e := range v {
			if items := d.object(schema, "items"); items != nil {
				d.compare(fmt.Sprintf("%s[%d]", where, i), e, items)
			}
		}
	case map[string]any:
		kind = "object"
		properties := d.object(schema, "properties")
		for _, name := range texts(schema["required"]) {
			if _, ok := v[name]; !ok {
				d.t.Errorf("%s: %s is missing", where, name)
			}
		}
		for name, e := range v {
			if p, ok := properties[name]; ok {
				d.compare(where+"."+name, e, d.object(p))
			} else if schema["additionalProperties"] != true {
				d.t.Errorf("%s: the document does not know %s", where, name)
			}
		}
	}
	if len(kinds) > 0 && !slices.Contains(kinds, kind) {
		d.t.Errorf("%s is a %s, the document says %s", where, kind, kinds)
	}
	if words := texts(schema["enum"]); len(words) > 0 && !slices.Contains(words, fmt.Sprint(v)) {
		d.t.Errorf("%s is %v, the document says one of %s", where, v, words)
	}
}

// What the server has routes for is in the document, and nothing else.
func TestOpenAPIHasAllRoutes(t *testing.T) {
	d := readOpenAPI(t)
	o := server.Options{Files: servertest.New("/srv/data"), Journal: servertest.New("/srv/data").Log}
	withSessions(t)(&o)
	srv := server.New(o)
	used := maps.Clone(catchAll)
	for path, item := range d.object(d.all, "paths") {
		for _, prefix := range []any{"", d.object(item)["x-also-below"]} {
			if prefix == nil {
				continue
			}
			routes := routesOf(srv, fmt.Sprint(prefix)+path)
			for _, r := range routes {
				used[r] = true
			}
			if len(routes) == 0 && d.object(item)["x-not-everywhere"] != true {
				t.Errorf("the document has %v%s, the server has not", prefix, path)
			}
		}
	}
	for _, r := range srv.Routes() {
		if !used[r] {
			t.Errorf("the server answers %s, the document lacks it", r)
		}
	}
	if len(used) < 10 {
		t.Errorf("these are all routes: %q", srv.Routes())
	}
}

// The document knows every type.
func TestOpenAPIHasAllTypes(t *testing.T) {
	d := readOpenAPI(t)
	var want []string
	for _, typ := range notify.AllTypes.Types() {
		want = append(want, typ.String())
	}
	if got := texts(d.object(d.all, "components", "schemas", "Type")["enum"]); !slices.Equal(got, want) {
		t.Errorf("the types are %q, want %q", got, want)
	}
}
