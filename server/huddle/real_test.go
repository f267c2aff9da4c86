//go:build unix

package huddle

import (
	"bufio"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fs_notify/notify"
	"fs_notify/server/servertest"
)

// startReal runs the real server as a process of its own and gives its address when all that changes from now on is told.
func startReal(t *testing.T, args ...string) (url string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "fs_notify")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/fs_notify").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	cmd := exec.Command(program, append([]string{"serve", "--listen", "127.0.0.1:0", "--log-format", "json"}, args...)...)
	logs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	lines := bufio.NewScanner(logs)
	for lines.Scan() {
		var line struct{ Msg, URL string }
		if json.Unmarshal(lines.Bytes(), &line); line.Msg == "serving" {
			go io.Copy(io.Discard, logs)
			url = strings.TrimSuffix(line.URL, "/")
			servertest.Ready(t, url)
			return url
		}
	}
	t.Fatal("the server did not start")
	return ""
}

// fetch reads a page of a real server as XML.
func fetch[T any](t *testing.T, url string) (out T) {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode == 200 && err == nil {
			if err := xml.Unmarshal(body, &out); err != nil {
				t.Fatalf("%s: %v", url, err)
			}
			return out
		}
		if time.Since(begin) > 20*time.Second {
			t.Fatalf("%s: %d %s", url, resp.StatusCode, body)
		}
	}
}

// A directory that is really written to, walked in both directions meanwhile, against what the stream tells.
func TestRealWorkspace(t *testing.T) {
	root := t.TempDir()
	url := startReal(t, "--root", root, "--state-dir", t.TempDir())
	var entry userResource
	for len(rel(links(entry), "changes")) == 0 {
		entry = fetch[userResource](t, url+"/entry")
	}
	first := rel(links(entry), "changes")

	// The same from the main protocol: one change for each notification of names, at least.
	req, err := http.NewRequest("GET", url+"/v1/files/"+strings.ReplaceAll(root, "/", "%2F")+"/notify?recursive=true&since=oldest&filter=child_file_added,child_dir_added,child_file_removed", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	stream, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()

	var mu sync.Mutex
	want := map[string]string{} // ID by type and path
	go func() {
		lines := bufio.NewScanner(stream.Body)
		lines.Buffer(nil, 64<<20) // one line is as much as one batch
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				notes, err := notify.DecodeJSON([]byte(data))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				for _, n := range notes {
					want[n.Type.String()+" "+n.Path] = n.ID().String()
				}
				mu.Unlock()
			}
		}
	}()
	until := func(n int, dir string) bool { // so many are told: what comes and goes between two looks is not
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			mu.Lock()
			told := len(want)
			mu.Unlock()
			if told >= n {
				return true
			}
			if time.Now().After(end) {
				mu.Lock()
				there := slices.DeleteFunc(slices.Sorted(maps.Keys(want)), func(what string) bool { return !strings.Contains(what, " "+dir) })
				mu.Unlock()
				t.Errorf("%d notifications of %d; of %s: %q", told, n, dir, there)
				return false
			}
		}
	}

	var writing sync.WaitGroup
	writing.Go(func() {
		for i := range 30 {
			name := fmt.Sprintf("d%d", i)
			dir := filepath.Join(root, name)
			for j := range 10 {
				if os.MkdirAll(dir, 0o755) != nil || os.WriteFile(fmt.Sprintf("%s/f%d", dir, j), []byte("text"), 0o644) != nil {
					t.Error("cannot write")
				}
			}
			if !until(i*12+11, name) {
				return
			}
			os.Rename(dir+"/f1", dir+"/g1")
			os.Remove(dir + "/f2")
			os.Rename(dir, dir+"-moved")
			if !until(i*12+12, name) {
				return
			}
		}
	})
	walk := func(from, by string) (seqs []string) {
		for at := from; at != ""; {
			p := fetch[changeList](t, at)
			page := make([]string, 0, len(p.Changes))
			for _, c := range p.Changes {
				page = append(page, lastSegment(rel(c.Links, "self")))
			}
			if by == "prev" {
				slices.Reverse(page)
			}
			seqs = append(seqs, page...)
			at = rel(p.Links, by)
		}
		return seqs
	}
	early := walk(first, "next")
	writing.Wait()

	up := walk(rel(fetch[changeList](t, first).Links, "last"), "prev")
	down := walk(first, "next")
	slices.Reverse(down)
	if !slices.Equal(up, down) {
		t.Errorf("up: %d changes, down: %d", len(up), len(down))
	}
	if !slices.IsSortedFunc(down, func(a, b string) int { return len(a) - len(b) }) || len(slices.Compact(slices.Clone(down))) != len(down) {
		t.Error("a change came twice")
	}
	slices.Reverse(early)
	if len(early) > len(down) || !slices.Equal(early, down[:len(early)]) {
		t.Error("a walk while it was written saw something else than what is there now")
	}
	kinds := map[string]int{}
	subjects := map[string]bool{}
	for at := first; at != ""; {
		p := fetch[changeList](t, at)
		for _, c := range p.Changes {
			kinds[c.Type]++
			subjects[lastSegment(rel(c.Links, "subject"))] = true
		}
		at = rel(p.Links, "next")
	}
	if kinds["ObjectCreated"] != 330 || kinds["ObjectDeleted"] != 30 || kinds["ObjectUpdated"] < 60 || kinds["DocumentUpdated"] < 300 {
		t.Errorf("got %v", kinds)
	}
	for what, id := range want {
		if !subjects[id] {
			t.Errorf("no change is about %s", what)
		}
	}
}

func links(u userResource) (out []link) {
	if u.Workspaces != nil {
		for _, ws := range u.Workspaces.Workspaces {
			out = append(out, ws.Links...)
		}
	}
	return out
}

// A document with two names is there as long as one of them is: its id is told as deleted when the last one goes, not before.
func TestRealHardLinks(t *testing.T) {
	root, outside := t.TempDir(), filepath.Join(t.TempDir(), "c")
	url := startReal(t, "--root", root, "--state-dir", t.TempDir())
	var entry userResource
	for len(rel(links(entry), "changes")) == 0 {
		entry = fetch[userResource](t, url+"/entry")
	}
	step := func(err error, last string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			all := told(fetch[changeList](t, rel(links(entry), "changes")).Changes)
			if slices.Contains(all, last) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%q is not told, but %q", last, all)
			}
		}
	}
	step(os.WriteFile(filepath.Join(root, "x"), []byte("text"), 0o644), "ObjectCreated x")
	step(os.Mkdir(filepath.Join(root, "c"), 0o755), "ObjectCreated c")
	step(os.Link(filepath.Join(root, "x"), filepath.Join(root, "y")), "ObjectCreated y")
	step(os.Remove(filepath.Join(root, "y")), "ObjectUpdated x")
	step(os.Link(filepath.Join(root, "x"), filepath.Join(root, "c", "z")), "ObjectCreated z")
	step(os.Rename(filepath.Join(root, "c"), outside), "ObjectDeleted c")
	var x []string // what is told of it
	for _, c := range slices.Backward(fetch[changeList](t, rel(links(entry), "changes")).Changes) {
		if strings.Contains(rel(c.Links, "subject"), "/documents/") && c.Type != "DocumentUpdated" {
			x = append(x, told([]change{c})...)
			fetch[object](t, rel(c.Links, "subject")) // it is there
		}
	}
	if want := []string{"ObjectCreated x", "ObjectCreated y", "ObjectUpdated x", "ObjectCreated z", "ObjectUpdated x"}; !slices.Equal(x, want) {
		t.Errorf("got %q, want %q", x, want)
	}
	step(os.Remove(filepath.Join(root, "x")), "ObjectDeleted x")
}
