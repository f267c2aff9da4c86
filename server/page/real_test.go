//go:build unix

package page

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"fs_notify/server/servertest"
)

// real runs the real server as a process of its own, and can stop it and start it again on its port.
type real struct {
	t     *testing.T
	root  string
	state string // its --state-dir; "": what happened before a restart is forgotten
	file  string // its --tokens; "": everybody may do everything
	url   string
	stop  func()
}

func newReal(t *testing.T, state string) *real {
	r := &real{t: t, root: t.TempDir(), state: state}
	r.start("127.0.0.1:0")
	return r
}

func (r *real) start(listen string) {
	r.t.Helper()
	p, err := program()
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command(p, "serve", "--root", r.root, "--state-dir", r.state, "--listen", listen, "--log-format", "json", "--tokens", r.file)
	logs, err := cmd.StderrPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.stop = sync.OnceFunc(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			r.t.Errorf("the server ended with %v", err)
		}
	})
	r.t.Cleanup(r.stop)
	var said strings.Builder
	for lines := bufio.NewScanner(logs); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		var line struct{ Msg, URL string }
		if json.Unmarshal(lines.Bytes(), &line); line.Msg == "serving" {
			r.url = line.URL
			go func() {
				for lines.Scan() {
				}
			}()
			servertest.Ready(r.t, strings.TrimSuffix(r.url, "/"))
			return
		}
	}
	r.t.Fatalf("the server did not start: %s", said.String())
}

func (r *real) again() { r.start(strings.TrimSuffix(strings.TrimPrefix(r.url, "http://"), "/")) }

// tokens writes the tokens file, of names and the rights of each; the secret is the name. The first one counts from the start.
func (r *real) tokens(rights map[string]string) {
	r.t.Helper()
	if r.file == "" {
		r.file = filepath.Join(r.t.TempDir(), "tokens.yaml")
	}
	text := "tokens:\n"
	for name, rest := range rights {
		text += fmt.Sprintf("  - {name: %s, hash: 'sha256:%x', %s}\n", name, sha256.Sum256([]byte(name)), rest)
	}
	if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *real) do(f func(path ...string) error, path ...string) {
	r.t.Helper()
	for i := range path {
		path[i] = filepath.Join(r.root, path[i])
	}
	if err := f(path...); err != nil {
		r.t.Fatal(err)
	}
}

func create(path ...string) error { return os.WriteFile(path[0], nil, 0o644) }
func rename(path ...string) error { return os.Rename(path[0], path[1]) }
func mkdir(path ...string) error  { return os.Mkdir(path[0], 0o755) }
func remove(path ...string) error { return os.Remove(path[0]) }

func TestRealServerShowsRealFiles(t *testing.T) {
	r := newReal(t, t.TempDir())
	b := open(t, r.url)
	b.state("Watching")
	if got := eval[string](b, `document.getElementById("dir").value`); got != r.root {
		t.Errorf("the page watches %q, want the root %q", got, r.root)
	}
	r.do(create, "a")
	b.sees("child_file_added a")
	r.do(rename, "a", `<img src=x onerror="document.title='owned'">`)
	b.sees("child_file_added a", "child_file_moved_from a", `child_file_moved_to <img src=x onerror="document.title='owned'">`)
	r.do(create, "byte-\xff")
	b.until(`document.querySelector(".row .path").textContent === "byte-\\xff"`)
	if title := eval[string](b, `document.title`); strings.Contains(title, "owned") {
		t.Error("a name ran as a script")
	}

	r.stop()
	b.state("Reconnecting")
	r.do(remove, "byte-\xff") // while the server is down
	r.again()
	b.state("Watching")
	r.do(create, "b")
	b.until(`document.querySelector(".row .path").textContent === "b"`)
	all := b.rows()
	if got := all[len(all)-2:]; got[0] != `child_file_removed byte-\xff` || got[1] != "child_file_added b" {
		t.Errorf("over the restart the page shows %q, want what happened while it was down, then what came after", all)
	}
}

func TestRealServerWithoutMemorySaysThatThereIsAHole(t *testing.T) {
	r := newReal(t, "")
	b := open(t, r.url)
	b.state("Watching")
	r.do(create, "a")
	b.sees("child_file_added a")
	r.stop()
	b.state("Reconnecting")
	r.do(create, "b")
	r.again()
	b.sees("child_file_added a", "mark")
	r.do(remove, "b")
	b.sees("child_file_added a", "mark", "child_file_removed b")
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Who is no administrator is not told how the roots are called, and may be able to see a part of one only.
func TestRealServerShowsAUserTheirPart(t *testing.T) {
	r := &real{t: t, root: t.TempDir()}
	r.do(mkdir, "mine")
	r.do(mkdir, "theirs")
	r.tokens(map[string]string{"joe": "paths: [" + filepath.Join(r.root, "mine") + "], privileges: [notify, notify.recursive]"})
	r.start("127.0.0.1:0")
	b := open(t, r.url)
	b.login("joe")
	b.state("Watching")
	if got := eval[string](b, `document.getElementById("dir").value`); got != filepath.Join(r.root, "mine") {
		t.Errorf("the page watches %q, want what this user may see", got)
	}
	r.do(create, "theirs/secret")
	r.do(create, "mine/a")
	b.sees("child_file_added a")
}

// The tree is made of the directories alone, whatever they are called.
func TestRealServerShowsDirectories(t *testing.T) {
	r := newReal(t, "")
	names := []string{"[a-z]*", "a b%41&?#x", "byte-\xff", "two\nlines"}
	for _, name := range names {
		r.do(mkdir, name)
		r.do(mkdir, name+"/in "+name)
		r.do(create, name+"/file")
	}
	r.do(create, "file")
	b := open(t, r.url)
	b.state("Watching")
	b.run(chromedp.Focus(chromedp.CSS(`#tree [tabindex="0"]`)), chromedp.KeyEvent(kb.ArrowRight))
	b.until(`document.querySelectorAll("#tree [role=treeitem]").length === 5`)
	eval[any](b, `document.querySelectorAll("#tree ul .twist").forEach((twist) => twist.click())`)
	b.until(`document.querySelectorAll("#tree [role=treeitem]").length === 9`)
	got := eval[[]string](b, `Array.from(document.querySelectorAll("#tree ul .name"), (n) => n.textContent).sort()`)
	want := []string{"[a-z]*", "a b%41&?#x", `byte-\xff`, "in [a-z]*", "in a b%41&?#x", `in byte-\xff`, `in two\nlines`, `two\nlines`}
	if !slices.Equal(got, want) {
		t.Errorf("the tree shows %q, want %q", got, want)
	}
	asked := eval[[]string](b, `performance.getEntriesByType("resource").map((r) => r.name).filter((n) => n.includes("/entries"))`)
	for _, url := range asked {
		if strings.Contains(fetch(t, url), `"file"`) {
			t.Errorf("%s has more than directories", url)
		}
	}
	if len(asked) != 5 {
		t.Errorf("the tree asked for %q, want each open branch once", asked)
	}
}

// Names that no field and no shell can hold are watched again, after a reload too, and the command says the same directory.
func TestRealServerWatchesWhateverItIsCalled(t *testing.T) {
	r := newReal(t, t.TempDir())
	for _, tt := range []struct {
		name, shown, by string
	}{
		{"byte-\xff-é", `byte-\xff-é`, "--id "},
		{"two\nlines", `two\nlines`, "--id "},
		{"zero\u200bwidth", `zero\u200bwidth`, "--id "},
		{" sp+ce & %41 ", " sp+ce & %41 ", "--path "},
	} {
		t.Run(tt.shown, func(t *testing.T) {
			r.do(mkdir, tt.name)
			b := open(t, r.url+"#dir="+url.QueryEscape(filepath.Join(r.root, tt.name)))
			watching := func(file string) {
				t.Helper()
				b.state("Watching")
				if got, want := eval[string](b, `document.getElementById("dir").value`), filepath.Join(r.root, tt.shown); got != want {
					t.Errorf("the page shows the directory as %q, want %q", got, want)
				}
				r.do(create, filepath.Join(tt.name, file))
				b.until(fmt.Sprintf(`document.querySelector(".row .path")?.textContent === %q`, file))
			}
			watching("first")
			b.run(chromedp.Click(chromedp.CSS("#where button")))
			watching("again")
			b.run(chromedp.Reload())
			watching("reloaded")

			b.run(chromedp.Click(chromedp.ID("copy-cli")))
			command := eval[string](b, `document.getElementById("command-text").value`)
			if !strings.Contains(command, tt.by) {
				t.Errorf("%s has no %s", command, tt.by)
			}
			sh := exec.Command("sh", "-c", command+" --since oldest --filter child_file_added --count 1")
			sh.Env = append(os.Environ(), "PATH="+programDir)
			if out, err := sh.CombinedOutput(); err != nil || !strings.Contains(string(out), "first") {
				t.Errorf("%s: %v, %s", command, err, out)
			}
		})
	}
}

func TestRealServerEndsASession(t *testing.T) {
	r := &real{t: t, root: t.TempDir()}
	r.tokens(map[string]string{"ann": "privileges: [notify, notify.recursive, changes, admin]"})
	r.start("127.0.0.1:0")
	b := open(t, r.url)
	b.login("ann")
	b.state("Watching")
	r.do(create, "before")
	b.sees("child_file_added before")
	r.tokens(map[string]string{"ann": "privileges: [notify, notify.recursive]"})
	b.until(`document.getElementById("door").open`)
	r.do(create, "missed")
	b.login("ann")
	b.sees("child_file_added before", "child_file_added missed")
}

// TestBareEventSource uses the stream as a page without any code of ours would.
func TestBareEventSource(t *testing.T) {
	r := newReal(t, t.TempDir())
	b := open(t, r.url+"healthz")
	ref := strings.ReplaceAll(r.root, "/", "%2F")
	eval[any](b, `void (window.told = [],
		window.source = new EventSource("/v1/files/`+ref+`/notify?recursive=true"),
		source.addEventListener("reset", () => told.push("reset")),
		source.onmessage = (e) => { for (const n of JSON.parse(e.data)) told.push(n.type + " " + n.path) })`)
	b.until(`source.readyState === EventSource.OPEN`)
	r.do(create, "a")
	b.until(`told.includes("child_file_added a")`)
	r.stop()
	b.until(`source.readyState === EventSource.CONNECTING`)
	r.do(create, "b")
	r.again()
	b.until(`source.readyState === EventSource.OPEN`)
	r.do(remove, "a")
	b.until(`told.at(-1) === "child_file_removed a"`)
	if got := eval[[]string](b, `told`); !slices.Equal(got, []string{"child_file_added a", "child_file_added b", "child_file_removed a"}) {
		t.Errorf("told %q, want each once, in order", got)
	}
}
