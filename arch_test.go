package fs_notify_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "fs_notify"

// arrows is the drawing of docs/architecture.md: which packages of ours a package, and those
// below it that have no line of their own, may import. Imports point down; siblings meet in cmd.
var arrows = []struct {
	pkg string
	may []string // "*": all
}{
	{"cmd", []string{"*"}},
	{"bench", []string{"*"}},
	{"server", []string{"server/qumulo", "server/box", "server/onedata", "server/huddle", "server/page", "server/access", "notify/feed", "notify"}},
	{"server/qumulo", []string{"server/etag", "notify/feed", "notify"}},
	{"server/box", []string{"server/etag", "notify/feed", "notify"}},
	{"server/onedata", []string{"notify/feed", "notify"}},
	{"server/huddle", []string{"server/etag", "notify/feed", "notify"}},
	{"server/access", []string{"notify"}},
	{"server/page", nil},
	{"server/etag", nil},
	{"watch/watchtest", []string{"watch", "notify"}},
	{"watch", []string{"notify"}},
	{"notify/feed", []string{"notify"}},
	{"notify/journal", []string{"notify"}},
	{"notify/client", []string{"notify"}},
	{"notify", nil},
	{"examples", nil},
	{"faults", nil}, // tests only
}

// stdOnly may import nothing but the standard library, besides what arrows says.
var stdOnly = []string{"notify", "server/page"}

// unshipped is what no command of ours may contain, besides packages of ours whose name
// ends in "test": support for tests and benchmarks.
var unshipped = []string{module + "/watch/watchtest", module + "/bench", "github.com/chromedp", "testing"}

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

func TestArrows(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "freebsd", "windows"} {
		pkgs := list(t, goos, "./...")
		if !slices.ContainsFunc(pkgs, func(p pkg) bool { return p.ImportPath == module+"/notify" }) {
			t.Fatalf("%s: go list does not know %s/notify: it lists something else", goos, module)
		}
		for _, wrong := range wrongArrows(pkgs) {
			t.Errorf("%s: %s", goos, wrong)
		}
	}
}

func TestCommandsShipNoTestSupport(t *testing.T) {
	pkgs := list(t, "linux", "./cmd/...")
	if !slices.ContainsFunc(pkgs, func(p pkg) bool { return p.ImportPath == module+"/cmd/fs_notify" }) {
		t.Fatal("there is no command fs_notify")
	}
	for _, p := range pkgs {
		support := below(p.ImportPath, module) && strings.HasSuffix(p.ImportPath, "test")
		if support || slices.ContainsFunc(unshipped, func(u string) bool { return below(p.ImportPath, u) }) {
			t.Errorf("a command contains %s", p.ImportPath)
		}
	}
}

func TestWrongArrowsAreNamed(t *testing.T) {
	for _, tt := range []struct {
		name, from, to string
		std            bool // to is of the standard library
		want           string
	}{
		{"down", "server", "notify/feed", false, ""},
		{"within", "watch/linux", "watch", false, ""},
		{"cmd knows all", "cmd/fs_notify", "notify/journal", false, ""},
		{"up", "notify", "watch", false, "fs_notify/notify imports fs_notify/watch: it may import no package of ours"},
		{"sideways", "watch", "notify/journal", false, "fs_notify/watch imports fs_notify/notify/journal: it may import notify only"},
		{"between protocols", "server/box", "server/qumulo", false, "fs_notify/server/box imports fs_notify/server/qumulo: it may import server/etag, notify/feed, notify only"},
		{"from a package below one", "notify/feed/ring", "notify/client", false, "fs_notify/notify/feed/ring imports fs_notify/notify/client: it may import notify only"},
		{"a place that the drawing lacks", "tools", "notify", false, "fs_notify/tools has no place in the drawing: give it one in arch_test.go and docs/architecture.md"},
		{"the words stay plain", "notify", "example.com/x", false, "fs_notify/notify imports example.com/x: it may use the standard library only"},
		{"others may not", "watch", "example.com/x", false, ""},
		{"the standard library", "notify", "encoding/json", true, ""},
	} {
		to := tt.to
		if !tt.std && !strings.Contains(to, ".") {
			to = module + "/" + to
		}
		got := strings.Join(wrongArrows([]pkg{
			{ImportPath: module + "/" + tt.from, Imports: []string{to}},
			{ImportPath: "encoding/json", Standard: true},
		}), "; ")
		if got != tt.want {
			t.Errorf("%s: %s -> %s:\n got %q\nwant %q", tt.name, tt.from, tt.to, got, tt.want)
		}
	}
}

// wrongArrows names each import that the drawing does not have.
func wrongArrows(pkgs []pkg) []string {
	standard := map[string]bool{"C": true, "unsafe": true}
	for _, p := range pkgs {
		standard[p.ImportPath] = standard[p.ImportPath] || p.Standard
	}
	var wrong []string
	for _, p := range pkgs {
		from, ours := strings.CutPrefix(p.ImportPath, module+"/")
		if !ours {
			continue
		}
		layer, may, known := place(from)
		if !known {
			wrong = append(wrong, p.ImportPath+" has no place in the drawing: give it one in arch_test.go and docs/architecture.md")
			continue
		}
		for _, imported := range p.Imports {
			to, ours := strings.CutPrefix(imported, module+"/")
			if !ours {
				if slices.Contains(stdOnly, layer) && !standard[imported] {
					wrong = append(wrong, fmt.Sprintf("%s imports %s: it may use the standard library only", p.ImportPath, imported))
				}
				continue
			}
			if target, _, _ := place(to); target == layer || slices.Contains(may, "*") || slices.Contains(may, target) {
				continue
			}
			allowed := "no package of ours"
			if len(may) > 0 {
				allowed = strings.Join(may, ", ") + " only"
			}
			wrong = append(wrong, fmt.Sprintf("%s imports %s: it may import %s", p.ImportPath, imported, allowed))
		}
	}
	return wrong
}

// place finds the line of arrows that a package belongs to: the longest one that it is or is below.
func place(path string) (layer string, may []string, known bool) {
	for _, a := range arrows {
		if below(path, a.pkg) && len(a.pkg) > len(layer) {
			layer, may, known = a.pkg, a.may, true
		}
	}
	return layer, may, known
}

func below(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// list runs go list for the packages and all that they import. Tests are not looked at: they may use anything.
func list(t *testing.T, goos, pattern string) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-deps", "-json=ImportPath,Imports,Standard", pattern)
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(out); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("go list %s for %s: %v", pattern, goos, err)
	}
	return pkgs
}
