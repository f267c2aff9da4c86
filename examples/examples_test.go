//go:build unix

// Package examples_test runs the mirrors against a server that does everything a tree can do, cuts
// connections at any byte, and forgets; and kills the mirrors at any moment.
package examples_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fs_notify/notify"
)

// ---- A tree that changes, and tells it as the server would ----

type node struct {
	id   notify.FileID
	kids map[string]*node // nil: not a directory
}

type tree struct {
	rand  *rand.Rand
	root  *node
	last  notify.FileID
	notes []notify.Notification // of the batch that is being made
}

const rootID = 7

func newTree(seed uint64) *tree {
	return &tree{rand: rand.New(rand.NewPCG(seed, 0)), root: &node{rootID, map[string]*node{}}, last: 1 << 60}
}

// place is a name in a directory.
type place struct {
	path  string // of the directory, "" or with a slash at its end
	spine notify.Spine
	dir   *node
	name  string
}

func (p place) node() *node { return p.dir.kids[p.name] }

func (t *tree) tell(file, dir notify.Type, p place, n *node) {
	kind := file
	if n.kids != nil {
		kind = dir
	}
	t.notes = append(t.notes, notify.Notification{Type: kind, Path: p.path + p.name, Spine: append(slices.Clone(p.spine), n.id)})
}

// walk calls f for every name below dir, parents first; the order of names is that of the map: any.
func walk(dir *node, path string, spine notify.Spine, f func(place)) {
	for _, name := range sorted(dir) {
		p := place{path, spine, dir, name}
		f(p)
		if n := p.node(); n.kids != nil {
			walk(n, path+name+"/", append(slices.Clone(spine), n.id), f)
		}
	}
}

func sorted(dir *node) []string {
	var names []string
	for name := range dir.kids {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// pick gives a random name that exists; below is not searched.
func (t *tree) pick(below *node, want func(*node) bool) (place, bool) {
	var all []place
	walk(t.root, "", notify.Spine{rootID}, func(p place) {
		if p.node() != below && want(p.node()) && !strings.Contains(p.path, pathOf(t.root, below)) {
			all = append(all, p)
		}
	})
	if len(all) == 0 {
		return place{}, false
	}
	return all[t.rand.IntN(len(all))], true
}

// pathOf gives the path of n with a slash, or something that no path contains.
func pathOf(root, n *node) string {
	at := "//"
	walk(root, "", nil, func(p place) {
		if p.node() == n && n.kids != nil {
			at = p.path + p.name + "/"
		}
	})
	return at
}

// free gives a random name that does not exist, not below the node that will move there.
func (t *tree) free(moving *node) place {
	p := place{"", notify.Spine{rootID}, t.root, ""}
	if q, ok := t.pick(moving, func(n *node) bool { return n.kids != nil }); ok && t.rand.IntN(3) > 0 {
		n := q.node()
		p = place{q.path + q.name + "/", append(slices.Clone(q.spine), n.id), n, ""}
	}
	for {
		p.name = []string{"a", "é", "漢 字", "b\xff\xfe", "\x80", "new\nline", `quo"te`, "😀"}[t.rand.IntN(8)] + strconv.Itoa(t.rand.IntN(1000))
		if p.node() == nil {
			return p
		}
	}
}

func (t *tree) make(dir bool) *node {
	t.last++
	n := &node{id: t.last}
	if dir {
		n.kids = map[string]*node{}
	}
	return n
}

func (t *tree) add(p place, n *node) {
	p.dir.kids[p.name] = n
	t.tell(notify.ChildFileAdded, notify.ChildDirAdded, p, n)
}

func (t *tree) remove(p place) {
	n := p.node()
	for _, name := range sorted(n) {
		t.remove(place{p.path + p.name + "/", append(slices.Clone(p.spine), n.id), n, name})
	}
	delete(p.dir.kids, p.name)
	t.tell(notify.ChildFileRemoved, notify.ChildDirRemoved, p, n)
}

func (t *tree) moveFrom(p place) *node {
	n := p.node()
	t.tell(notify.ChildFileMovedFrom, notify.ChildDirMovedFrom, p, n)
	delete(p.dir.kids, p.name)
	return n
}

func (t *tree) moveTo(p place, n *node) {
	p.dir.kids[p.name] = n
	t.tell(notify.ChildFileMovedTo, notify.ChildDirMovedTo, p, n)
}

func anything(*node) bool { return true }
func isFile(n *node) bool { return n.kids == nil }

// change does one thing that can happen to a tree.
func (t *tree) change() {
	p, ok := t.pick(nil, anything)
	what := t.rand.IntN(12)
	if !ok {
		what = 0
	}
	switch what {
	default: // create
		t.add(t.free(nil), t.make(t.rand.IntN(2) == 0))
	case 4: // rm -rf
		t.remove(p)
	case 5, 6, 7: // rename
		n := t.moveFrom(p)
		t.moveTo(t.free(nil), n) // what is free now, is not below n
	case 8: // rename over a file
		from, ok1 := t.pick(nil, isFile)
		to, ok2 := t.pick(nil, isFile)
		if ok1 && ok2 && from.node().id != to.node().id {
			t.remove(to)
			t.moveTo(to, t.moveFrom(from))
		}
	case 9: // exchange
		q, ok := t.pick(p.node(), anything)
		if ok && !strings.HasPrefix(p.path, q.path+q.name+"/") && p.node().id != q.node().id {
			a, b := t.moveFrom(p), t.moveFrom(q)
			t.moveTo(p, b)
			t.moveTo(q, a)
		}
	case 10: // out of sight, or into it
		if t.rand.IntN(2) == 0 {
			t.moveFrom(p)
			return
		}
		to, n := t.free(nil), t.make(true)
		t.moveTo(to, n)
		inside := place{to.path + to.name + "/", append(slices.Clone(to.spine), n.id), n, "inside"}
		t.add(inside, t.make(true))
		t.add(place{inside.path + "inside/", append(slices.Clone(inside.spine), inside.node().id), inside.node(), "deep"}, t.make(false))
	case 11: // hard link
		if f, ok := t.pick(nil, isFile); ok {
			t.add(t.free(nil), f.node())
		}
	}
}

// lines says what is there, in a form that can be compared.
func (t *tree) lines() []string {
	var out []string
	walk(t.root, "", nil, func(p place) {
		out = append(out, fmt.Sprintf("%s %v %s", notify.EscapeName(p.path+p.name), p.node().kids != nil, p.node().id))
	})
	slices.Sort(out)
	return out
}

// ---- A server of it ----

type server struct {
	*httptest.Server
	mu     sync.Mutex
	tree   *tree
	blocks []string // block i has the id i+1
	oldest int      // ids below it are gone
	grew   chan struct{}
	cut    *rand.Rand // nil: connections are not cut
	breaks []string   // the next answer that has the first of these ends there, and so on
	asked  []string   // where each stream began
	onAsk  func()     // called before each answer, under mu
	token  string     // "": anybody may ask
}

func newServer(t *testing.T, seed uint64) *server {
	s := &server{tree: newTree(seed), grew: make(chan struct{}), cut: rand.New(rand.NewPCG(seed, 1))}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// change makes one batch of changes.
func (s *server) change(n int) {
	s.batch(func(t *tree) {
		for range n {
			t.change()
		}
	})
}

// batch makes one of what f does.
func (s *server) batch(f func(t *tree)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tree.notes = nil
	f(s.tree)
	if len(s.tree.notes) > 0 {
		s.blocks = append(s.blocks, array(s.tree.notes))
		close(s.grew)
		s.grew = make(chan struct{})
	}
}

func array(notes []notify.Notification) string {
	b := []byte("[")
	for i := range notes {
		if i > 0 {
			b = append(b, ',')
		}
		b = notify.AppendJSON(b, &notes[i], 0, notify.FieldsQumulo)
	}
	return string(append(b, ']'))
}

// cutter lets so many bytes through, and nothing from where the server is to break, then breaks the connection.
type cutter struct {
	http.ResponseWriter
	server *server
	left   int
}

func (c *cutter) Write(b []byte) (int, error) {
	if at := c.server.breakAt(b); at >= 0 {
		c.left = at
	}
	if c.left >= 0 && len(b) > c.left {
		c.ResponseWriter.Write(b[:c.left])
		http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(b)
	return c.ResponseWriter.Write(b)
}

// breakAt says where in b the connection has to break, or -1.
func (s *server) breakAt(b []byte) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.breaks) == 0 {
		return -1
	}
	at := bytes.Index(b, []byte(s.breaks[0]))
	if at >= 0 {
		s.breaks = s.breaks[1:]
	}
	return at
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	idle, err := strconv.Atoi(q.Get("timeout"))
	if r.URL.EscapedPath() != "/v1/files/%2Fsrv%2Fdata/notify" || err != nil || q.Get("recursive") != "true" {
		http.Error(w, "not what the examples ask for: "+r.URL.String(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	token := s.token
	s.mu.Unlock()
	if auth := r.Header.Get("Authorization"); token == "" && auth != "" || token != "" && auth != "Bearer "+token {
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	if filter, err := notify.ParseFilter(q.Get("filter")); err != nil || filter != notify.Names {
		http.Error(w, "wrong filter", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	if s.onAsk != nil {
		s.onAsk()
	}
	next, hello := len(s.blocks), ""
	since := q.Get("last_event_id")
	s.asked = append(s.asked, since)
	if id, _, ok := strings.Cut(since, "."); ok {
		next, _ = strconv.Atoi(id)
	}
	gone := next < s.oldest
	if q.Get("since") == "snapshot" {
		hello = "event: reset\ndata: {\"reason\":\"snapshot\"}\n\n"
		walk(s.tree.root, "", notify.Spine{rootID}, func(p place) {
			t := tree{}
			t.tell(notify.ChildFileAdded, notify.ChildDirAdded, p, p.node())
			hello += "data: " + array(t.notes) + "\n\n"
		})
		hello += fmt.Sprintf("id: %d.7\n\n", next)
	}
	left := -1
	if s.cut != nil {
		left = s.cut.IntN(40000)
	}
	s.mu.Unlock()
	if gone {
		w.WriteHeader(http.StatusGone)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w = &cutter{w, s, left}
	w.Write([]byte("retry: 2000\n\n: watching " + notify.EscapeName("/srv/data") + "\n\n" + hello))
	for {
		s.mu.Lock()
		todo, grew := s.blocks[next:], s.grew
		s.mu.Unlock()
		for _, b := range todo {
			next++
			w.Write(fmt.Appendf(nil, "id: %d.7\ndata: %s\n\n", next, b))
			if strings.Contains(b, "self_removed") {
				return
			}
		}
		http.NewResponseController(w.(*cutter).ResponseWriter).Flush()
		select {
		case <-grew:
		case <-r.Context().Done():
			return
		case <-time.After(time.Duration(idle) * time.Millisecond):
			return
		}
	}
}

// ---- The mirrors ----

type mirror struct {
	script string
	needs  []string
	lines  func(t *testing.T, state []byte) []string
}

var mirrors = []mirror{
	{"mirror.py", []string{"python3"}, func(t *testing.T, state []byte) []string {
		type entry []json.RawMessage // [file ID, null or the tree inside]
		var s struct{ Tree json.RawMessage }
		parts := strings.Split(string(state), `\\`) // then a backslash begins an escape sequence
		for i, p := range parts {
			parts[i] = strings.ReplaceAll(p, `\udc`, `\\udc`)
		}
		decode(t, []byte(strings.Join(parts, `\\\\`)), &s)
		var out []string
		var walk func(string, json.RawMessage)
		walk = func(path string, raw json.RawMessage) {
			var kids map[string]entry
			decode(t, raw, &kids)
			for name, e := range kids {
				var id string
				decode(t, e[0], &id)
				dir := string(e[1]) != "null"
				out = append(out, line(path+name, dir, id))
				if dir {
					walk(path+name+"/", e[1])
				}
			}
		}
		walk("", s.Tree)
		slices.Sort(out)
		return out
	}},
	{"mirror.sh", []string{"bash", "curl", "jq"}, func(t *testing.T, state []byte) []string {
		var s map[string]json.RawMessage // "PARENT/NAME": [file ID, is it a directory]
		decode(t, state, &s)
		type entry struct {
			name, id string
			dir      bool
		}
		kids, above := map[string][]entry{}, map[string]bool{}
		entries := 0
		for key, raw := range s {
			parent, name, ok := strings.Cut(key, "/")
			if !ok {
				continue
			}
			e := entry{name: name}
			decode(t, raw, &[]any{&e.id, &e.dir})
			kids[parent], above[parent] = append(kids[parent], e), true
			entries++
		}
		var out []string
		var walk func(path, dir string)
		walk = func(path, dir string) {
			for _, e := range kids[dir] {
				out = append(out, line(path+e.name, e.dir, e.id))
				walk(path+e.name+"/", e.id)
			}
		}
		for _, list := range kids { // the mirrored directory is the only parent that is no entry
			for _, e := range list {
				delete(above, e.id)
			}
		}
		for id := range above {
			walk("", id)
		}
		if len(out) != entries {
			t.Errorf("%d entries, of which %d can be reached", entries, len(out))
		}
		slices.Sort(out)
		return out
	}},
}

// line is one of tree.lines. In names a backslash is doubled, and \udc80 to \udcff are the bytes that JSON cannot hold.
func line(path string, dir bool, id string) string {
	return fmt.Sprintf("%s %v %s", notify.EscapeName(unescape.Replace(path)), dir, id)
}

var unescape = func() *strings.Replacer {
	pairs := []string{`\\`, `\`}
	for b := 0x80; b <= 0xff; b++ {
		pairs = append(pairs, fmt.Sprintf(`\udc%x`, b), string([]byte{byte(b)}))
	}
	return strings.NewReplacer(pairs...)
}()

func decode(t *testing.T, data []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
}

func (m mirror) start(t *testing.T, url, state string, out *bytes.Buffer) *exec.Cmd {
	t.Helper()
	return m.startAt(t, url, "/srv/data", state, out)
}

func (m mirror) startAt(t *testing.T, url, dir, state string, out *bytes.Buffer) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("./"+m.script, url, dir, state, "300")
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that a kill takes curl and jq too
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	return cmd
}

func (m mirror) finish(t *testing.T, s *server, state string) {
	t.Helper()
	var out bytes.Buffer
	cmd := m.start(t, s.URL, state, &out)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v\n%s", m.script, err, out.String())
	}
	if strings.Contains(out.String(), "refused") {
		t.Fatalf("%s said %s", m.script, out.String())
	}
	m.same(t, s, state)
}

// same compares a mirror with the tree that the server has.
func (m mirror) same(t *testing.T, s *server, state string) {
	t.Helper()
	data, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	want, got := s.tree.lines(), m.lines(t, data)
	if !slices.Equal(got, want) {
		t.Fatalf("%s differs:\n got %q\nwant %q", m.script, got, want)
	}
	if len(want) == 0 {
		t.Fatal("the tree is empty: nothing was compared")
	}
}

func each(t *testing.T, f func(t *testing.T, m mirror, state string)) {
	for _, m := range mirrors {
		t.Run(m.script, func(t *testing.T) {
			for _, tool := range m.needs {
				if _, err := exec.LookPath(tool); err != nil {
					if os.Getenv("CI") == "true" {
						t.Fatalf("%v (CI=true: install it)", err)
					}
					t.Skip(err)
				}
			}
			t.Parallel()
			f(t, m, filepath.Join(t.TempDir(), "mirror.json"))
		})
	}
}

// The address of the server may be as its log has it, with a slash at the end; one that is none is said at once.
func TestAddressOfTheServer(t *testing.T) {
	each(t, func(t *testing.T, m mirror, state string) {
		s := newServer(t, 1)
		s.cut = nil
		s.change(10)
		var out bytes.Buffer
		if err := m.start(t, s.URL+"/", state, &out).Wait(); err != nil {
			t.Fatalf("%v\n%s", err, out.String())
		}
		m.same(t, s, state)
		refuses(t, "./"+m.script, strings.TrimPrefix(s.URL, "http://"), "/srv/data", filepath.Join(t.TempDir(), "none.json"))
	})
}

// refuses says whether a program names, on one line, the address that is its first argument.
func refuses(t *testing.T, program string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if want := args[0] + " is no address of a server: it should begin with http:// or https://\n"; err == nil || string(out) != want {
		t.Errorf("%s %q: %v, %q, want %q", program, args, err, out, want)
	}
}

func TestMirrorFollowsThroughCutsAndKills(t *testing.T) {
	each(t, func(t *testing.T, m mirror, state string) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		s := newServer(t, seed)
		for range 20 {
			s.change(10)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 200 {
				s.change(1 + rand.IntN(5))
				time.Sleep(10 * time.Millisecond)
			}
		}()
		for range 6 {
			var out bytes.Buffer
			cmd := m.start(t, s.URL, state, &out)
			time.Sleep(time.Duration(100+rand.IntN(500)) * time.Millisecond)
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code > 0 { // -1: killed
				t.Fatalf("it ended with %d: %s", code, out.String())
			}
		}
		<-done
		s.mu.Lock()
		s.cut = nil
		s.mu.Unlock()
		m.finish(t, s, state)
	})
}

func TestMirrorOutlivesACutInsideACharacter(t *testing.T) {
	each(t, func(t *testing.T, m mirror, state string) {
		s := newServer(t, 4)
		s.cut, s.breaks = nil, []string{"\xa9"} // the second byte of é
		s.batch(func(t *tree) { t.add(place{"", notify.Spine{rootID}, t.root, "café"}, t.make(false)) })
		m.finish(t, s, state)
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.breaks) > 0 {
			t.Error("nothing was cut")
		}
	})
}

func TestMirrorGoesOnFromItsFile(t *testing.T) {
	each(t, func(t *testing.T, m mirror, state string) {
		s := newServer(t, 1)
		s.cut = nil
		s.change(30)
		m.finish(t, s, state)
		s.change(30)
		m.finish(t, s, state)
		if first := s.asked[0]; first != "" {
			t.Errorf("it began from %q, want a snapshot", first)
		}
		for _, id := range s.asked[1:] {
			if id != "1.7" && id != "2.7" {
				t.Errorf("it asked for %q, want it to go on from where it was", id)
			}
		}
	})
}

// A name may be any bytes: those that look like another one in some form of writing are not that one.
func TestMirrorTellsNamesApart(t *testing.T) {
	names := []string{"\x80", `\udc80`, `\\udc80`, "\\\x80", `\`, `\\`, `\\\`, `\u00e9`, "é", `"`, `\"`, "\n", `\n`, "\t\x80\x81", `\udc80\udc81`, "\xed\xb2\x80", "\ufffd"}
	each(t, func(t *testing.T, m mirror, state string) {
		s := newServer(t, 8)
		s.cut = nil
		at := func(name string) place { return place{"", notify.Spine{rootID}, s.tree.root, name} }
		s.batch(func(t *tree) {
			for _, name := range names {
				t.add(at(name), t.make(len(name)%2 == 0))
			}
		})
		m.finish(t, s, state)
		for i, name := range names {
			to := names[(i+1)%len(names)]
			s.batch(func(t *tree) {
				t.remove(at(to))
				t.moveTo(at(to), t.moveFrom(at(name)))
				t.add(at(name), t.make(true))
			})
		}
		m.finish(t, s, state)
	})
}

// Whoever comes back with an id from before is told the end, and with the id of that what happened since.
func TestMirrorGoesOnWhenItsDirectoryIsBack(t *testing.T) {
	each(t, func(t *testing.T, m mirror, state string) {
		s := newServer(t, 5)
		s.cut = nil
		s.change(30)
		m.finish(t, s, state)
		s.batch(func(t *tree) {
			t.change()
			t.notes = append(t.notes, notify.Notification{Type: notify.SelfRemoved, Spine: notify.Spine{rootID}})
		})
		var out bytes.Buffer
		cmd := m.start(t, s.URL, state, &out)
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(out.String(), "the directory is gone") {
			t.Fatalf("%s: %v\n%s", m.script, err, out.String())
		}
		m.same(t, s, state)
		s.change(30)
		m.finish(t, s, state)
	})
}

// A stream that tells nothing leaves the file as it is: a large one takes long to write.
func TestQuietMirrorIsNotWritten(t *testing.T) {
	each(t, func(t *testing.T, m mirror, state string) {
		if m.script == "mirror.py" {
			return // it writes at its end
		}
		s := newServer(t, 9)
		s.cut = nil
		s.change(30)
		m.finish(t, s, state)
		stat := func() os.FileInfo {
			info, err := os.Stat(state)
			if err != nil {
				t.Fatal(err)
			}
			return info
		}
		kept, err := os.Open(state) // while it is open, no other file gets its inode
		if err != nil {
			t.Fatal(err)
		}
		defer kept.Close()
		before := stat()
		m.finish(t, s, state)
		if !os.SameFile(stat(), before) || !stat().ModTime().Equal(before.ModTime()) {
			t.Error("it was written anew")
		}
	})
}

func TestMirrorShowsItsToken(t *testing.T) {
	t.Setenv("FS_NOTIFY_TOKEN", "sec%ret")
	each(t, func(t *testing.T, m mirror, state string) {
		s := newServer(t, 3)
		s.cut, s.token = nil, "sec%ret"
		s.change(30)
		m.finish(t, s, state)
	})
}

func TestMirrorStartsAgainWhenItsPlaceIsGone(t *testing.T) {
	each(t, func(t *testing.T, m mirror, state string) {
		s := newServer(t, 2)
		s.cut = nil
		s.change(30)
		m.finish(t, s, state)
		s.change(30)
		s.change(30)
		s.mu.Lock()
		s.oldest = 2
		s.blocks[1] = "what is gone is not told"
		s.mu.Unlock()
		m.finish(t, s, state)
	})
}

// Whoever reads the file sees a whole state at any time, even if the snapshot has to be asked for again and again.
func TestMirrorKeepsWhatItHasUntilASnapshotIsWhole(t *testing.T) {
	each(t, func(t *testing.T, m mirror, state string) {
		s := newServer(t, 6)
		s.cut = nil
		look := func() string {
			data, err := os.ReadFile(state)
			if err != nil && !os.IsNotExist(err) {
				t.Error(err)
			}
			return string(data)
		}
		s.change(30)
		for round, want := range []int{3, 4} { // a file that is not there, and one whose place is gone
			had, kept := look(), 0
			s.mu.Lock()
			s.breaks = []string{"id: ", "id: "} // behind all names
			s.onAsk = func() {
				if look() == had {
					kept++
				}
			}
			s.mu.Unlock()
			m.finish(t, s, state)
			s.mu.Lock()
			if kept < want || had == look() {
				t.Errorf("round %d: the file was the same before %d answers, want %d, and it is %s", round, kept, want, look())
			}
			s.mu.Unlock()
			s.change(30)
			s.change(30)
			s.mu.Lock()
			s.oldest, s.blocks[1] = 2, "what is gone is not told"
			s.mu.Unlock()
		}
	})
}
