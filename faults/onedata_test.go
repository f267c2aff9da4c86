//go:build linux

package faults_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
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

	"golang.org/x/sys/unix"

	"fs_notify/watch/watchtest"
)

// odLine is a line of Onedata's stream, as far as the stories here need it.
type odLine struct {
	FileID   string
	FilePath string
	Seq      uint64
	FileMeta *struct {
		Changed, Deleted bool
		Fields           struct{ Name, Type string }
	}
}

// space finds the ID of the only space, as soon as it can be asked for.
func (s *service) space() (id string) {
	s.t.Helper()
	s.live()
	status, body := s.get("/api/v3/oneprovider/spaces")
	var list []struct{ SpaceID, Name string }
	if err := json.Unmarshal([]byte(body), &list); err != nil || status != 200 || len(list) != 1 || "/"+list[0].Name != rootName {
		s.t.Fatalf("the spaces are %d %s", status, body)
	}
	return list[0].SpaceID
}

// need skips a test that wants a command which is not there.
func need(t *testing.T, command string) string {
	t.Helper()
	path, err := exec.LookPath(command)
	switch {
	case err != nil && os.Getenv("CI") == "true":
		t.Fatal(err)
	case err != nil:
		t.Skip(err)
	}
	return path
}

// The request as Onedata's documentation has it.
func TestOnedataByCurl(t *testing.T) {
	t.Parallel()
	curl := need(t, "curl")
	dir := t.TempDir()
	s := newService(t, dir)
	s.start()
	sid := s.space()
	for _, do := range []func() error{
		func() error { return os.WriteFile(s.root+"/f", []byte("hi"), 0o640) },
		func() error { return unix.Setxattr(s.root+"/f", "user.license", []byte("CC-0"), 0) },
		func() error {
			return os.WriteFile(dir+"/changes_req.json", []byte(
				`{"fileMeta":{"fields":["owner","mode"]},"customMetadata":{"fields":["license"],"exists":["onedata_json"],"always":true}}`), 0o644)
		},
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("bash", "-c", curl+` -sS -N -H "X-Auth-Token: $TOKEN" \
-X POST "http://$PROVIDER_HOST/api/v3/oneprovider/changes/metadata/$SPACE_ID?last_seq=0&timeout=2000" \
-H "Content-Type: application/json" -d "@./changes_req.json"`)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TOKEN=any", "PROVIDER_HOST="+s.addr, "SPACE_ID="+sid)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{`"license":"CC-0"`, `"onedata_json":false`, `"mode":416`, `"filePath":"` + rootName + `/f"`} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("curl shows no %s:\n%s", want, out)
		}
	}
	s.stop()
}

// A script that knows nothing but its last seq gets 10,000 files, each once, while the server is killed and stopped.
func TestOnedataResumesOverRestarts(t *testing.T) {
	t.Parallel()
	python := need(t, "python3")
	dir := t.TempDir()
	s := newService(t, dir)
	s.start()
	s.live()
	cmd := exec.Command(python, "../examples/onedata.py", "http://"+s.addr, strings.TrimPrefix(rootName, "/"), filepath.Join(dir, "seq.txt"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	type result struct {
		told  map[string]int // fileMeta lines by path
		last  uint64
		fault string
	}
	done := make(chan result, 1)
	go func() {
		r := result{told: map[string]int{}}
		defer func() { done <- r }()
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var l odLine
			if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
				r.fault = fmt.Sprintf("%q: %v", lines.Text(), err)
				return
			}
			if l.Seq <= r.last {
				r.fault = fmt.Sprintf("seq %d comes after %d", l.Seq, r.last)
				return
			}
			r.last = l.Seq
			if l.FileMeta != nil && l.FileMeta.Changed {
				r.told[l.FilePath]++
				if l.FilePath == rootName+"/end" {
					return
				}
			}
		}
	}()
	const files, rounds = 10000, 8
	var writing sync.WaitGroup
	writing.Go(func() {
		for i := range files {
			if err := os.WriteFile(fmt.Sprintf("%s/f%d", s.root, i), nil, 0o644); err != nil {
				t.Error(err)
			}
			if i%10 == 0 {
				time.Sleep(time.Millisecond) // so that restarts fall into it
			}
		}
	})
	for i := range rounds {
		time.Sleep(100 * time.Millisecond)
		if i%2 == 0 {
			s.kill()
		} else {
			s.stop()
		}
		s.start()
		if i > rounds/2 {
			s.live()
		}
	}
	writing.Wait()
	s.live()
	if err := os.WriteFile(s.root+"/end", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var r result
	select {
	case r = <-done:
	case <-time.After(patience):
		t.Errorf("the script does not get to the end; the server says\n%s", s.logs)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if r.told == nil {
		r = <-done
	}
	if r.fault != "" {
		t.Error(r.fault)
	}
	wrong := 0
	for i := range files {
		if n := r.told[fmt.Sprintf("%s/f%d", rootName, i)]; n != 1 {
			if wrong++; wrong < 10 {
				t.Errorf("f%d was told %d times", i, n)
			}
		}
	}
	if wrong > 0 || t.Failed() {
		t.Errorf("%d of %d files are wrong; the script says\n%s", wrong, files, errs.String())
	}
	s.stop()
}

// odMirror folds lines of fileMeta into a tree. It knows nothing else.
type odMirror struct {
	root   *odNode
	byID   map[string]*odNode
	faults []string
	story  []string // every line that was folded
	last   uint64
}

type odNode struct {
	id       string
	dir      bool
	name     string
	parent   *odNode // nil: the root, or stepped aside
	children map[string]*odNode
}

func newODMirror() *odMirror {
	return &odMirror{root: &odNode{dir: true, children: map[string]*odNode{}}, byID: map[string]*odNode{}}
}

func (m *odMirror) fold(l *odLine) {
	if l.Seq <= m.last {
		m.faults = append(m.faults, fmt.Sprintf("seq %d comes after %d", l.Seq, m.last))
	}
	m.last = l.Seq
	if l.FileMeta == nil || !l.FileMeta.Changed {
		return
	}
	m.story = append(m.story, fmt.Sprintf("%d.%d %s %s %q deleted %v", l.Seq>>12, l.Seq&4095, l.FileID[16:], l.FileMeta.Fields.Type, l.FilePath, l.FileMeta.Deleted))
	n := m.byID[l.FileID]
	if l.FileMeta.Deleted {
		if n != nil {
			m.aside(n)
			m.forget(n)
		} else {
			m.faults = append(m.faults, fmt.Sprintf("%d: what was never told is deleted", l.Seq))
		}
		return
	}
	if n == nil {
		n = &odNode{id: l.FileID, dir: l.FileMeta.Fields.Type == "DIR", children: map[string]*odNode{}}
		m.byID[l.FileID] = n
	}
	at := m.root
	above, name := "", strings.TrimPrefix(l.FilePath, rootName+"/")
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		above, name = name[:i], name[i+1:]
		for part := range strings.SplitSeq(above, "/") {
			if at = at.children[part]; at == nil {
				m.faults = append(m.faults, fmt.Sprintf("%d: %q has no parent", l.Seq, l.FilePath))
				return
			}
		}
	}
	m.aside(n)
	if old := at.children[name]; old != nil {
		m.aside(old) // its own line says where it is now
	}
	n.name, n.parent, at.children[name] = name, at, n
}

func (m *odMirror) aside(n *odNode) {
	if n.parent != nil && n.parent.children[n.name] == n {
		delete(n.parent.children, n.name)
	}
	n.parent = nil
}

func (m *odMirror) forget(n *odNode) {
	delete(m.byID, n.id)
	for _, c := range n.children {
		m.forget(c)
	}
}

// listing gives the tree; what stepped aside and was not heard of again is a fault.
func (m *odMirror) listing() map[string]bool {
	out := map[string]bool{}
	var walk func(n *odNode, path string)
	walk = func(n *odNode, path string) {
		for name, c := range n.children {
			p := path + name
			if c.dir {
				p += "/"
			}
			out[p] = true
			walk(c, path+name+"/")
		}
	}
	walk(m.root, "")
	if len(out) != len(m.byID) {
		m.faults = append(m.faults, fmt.Sprintf("%d entries are known and %d are in the tree", len(m.byID), len(out)))
	}
	return out
}

// follow reads lines and folds them, over restarts, until ctx ends.
func (m *odMirror) follow(ctx context.Context, s *service, sid string) {
	for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		from := m.last
		if from > 0 {
			from++
		}
		req, err := http.NewRequestWithContext(ctx, "POST", fmt.Sprintf("http://%s/api/v3/oneprovider/changes/metadata/%s?last_seq=%d&timeout=1000", s.addr, sid, from),
			strings.NewReader(`{"fileMeta":{"fields":["name","type"]}}`))
		if err != nil {
			m.faults = append(m.faults, err.Error())
			return
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			continue
		}
		for r := bufio.NewReader(resp.Body); resp.StatusCode == 200; {
			text, err := r.ReadBytes('\n')
			if err != nil {
				break
			}
			var l odLine
			if err := json.Unmarshal(text, &l); err != nil {
				m.faults = append(m.faults, fmt.Sprintf("%q: %v", text, err))
				return
			}
			m.fold(&l)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

// odLoad renames, exchanges, moves out and in, and removes files and directories with content, at random.
func odLoad(r *rand.Rand, root, outside string, steps int) {
	dir := func() string {
		p := root
		for range r.IntN(4) {
			p += fmt.Sprintf("/d%d", r.IntN(4))
		}
		return p
	}
	name := func() string {
		if r.IntN(2) == 0 {
			return dir() + fmt.Sprintf("/d%d", r.IntN(4))
		}
		return dir() + fmt.Sprintf("/f%d", r.IntN(8))
	}
	for i := range steps {
		switch r.IntN(10) {
		case 0, 1:
			os.Mkdir(dir()+fmt.Sprintf("/d%d", r.IntN(4)), 0o755)
		case 2, 3, 4:
			os.WriteFile(dir()+fmt.Sprintf("/f%d", r.IntN(8)), []byte(fmt.Sprint(i)), 0o644)
		case 5, 6:
			os.Rename(name(), name())
		case 7:
			unix.Renameat2(unix.AT_FDCWD, name(), unix.AT_FDCWD, name(), unix.RENAME_EXCHANGE)
		case 8:
			if r.IntN(4) == 0 {
				os.RemoveAll(name())
			} else {
				os.Remove(name())
			}
		case 9:
			from := name()
			to := fmt.Sprintf("%s/%d-%d", outside, r.Uint32(), i)
			if from != root && os.Rename(from, to) == nil && r.IntN(2) == 0 {
				os.Rename(to, name())
			}
		}
		if i%20 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

// The lines are enough: who folds filePath and deleted has the tree that is on disk.
func TestOnedataMirror(t *testing.T) {
	t.Parallel()
	r := dice(t)
	dir := t.TempDir()
	s := newService(t, dir)
	outside := dir + "/outside"
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	s.start()
	sid := s.space()
	live := newODMirror()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var following sync.WaitGroup
	following.Go(func() { live.follow(ctx, s, sid) })
	for round := range 3 {
		var all sync.WaitGroup
		for range 2 {
			own := rand.New(rand.NewPCG(r.Uint64(), 7))
			all.Go(func() { odLoad(own, s.root, outside, pick(2500, 50000)) })
		}
		if round == 1 {
			time.Sleep(200 * time.Millisecond)
			s.kill()
			s.start()
		}
		all.Wait()
	}
	s.live()
	if err := os.WriteFile(s.root+"/end", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	disk := map[string]bool{}
	listed, err := watchtest.DiskListing(s.root)
	if err != nil {
		t.Fatal(err)
	}
	for p := range listed {
		disk[p] = true
	}
	end := func(m *odMirror) bool { return m.root.children["end"] != nil }
	late := newODMirror() // reads all of it now
	lateCtx, lateCancel := context.WithTimeout(context.Background(), patience)
	defer lateCancel()
	go func() {
		for lateCtx.Err() == nil && s.running() {
			time.Sleep(time.Second)
		}
	}()
	for !end(late) && lateCtx.Err() == nil {
		once, stop := context.WithTimeout(lateCtx, 3*time.Second)
		late.follow(once, s, sid)
		stop()
	}
	time.Sleep(1500 * time.Millisecond)
	cancel()
	following.Wait()
	for name, m := range map[string]*odMirror{"live": live, "late": late} {
		if !end(m) {
			t.Errorf("the %s mirror never saw the end", name)
		}
		got := m.listing()
		var diff []string
		for p := range disk {
			if !got[p] {
				diff = append(diff, "only on disk: "+p)
			}
		}
		for p := range got {
			if !disk[p] {
				diff = append(diff, "only in the mirror: "+p)
			}
		}
		slices.Sort(diff)
		if len(diff) > 0 || len(m.faults) > 0 {
			t.Errorf("the %s mirror differs:\n%s\nfaults:\n%s\nthe end of the story:\n%s", name, strings.Join(diff[:min(len(diff), 20)], "\n"),
				strings.Join(m.faults[:min(len(m.faults), 20)], "\n"), strings.Join(m.story[max(len(m.story)-200, 0):], "\n"))
		}
	}
	t.Logf("%d entries at the end, seq %d", len(disk), live.last)
	s.stop()
}
