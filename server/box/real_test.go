//go:build unix

package box_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fs_notify/notify/journal"
	"fs_notify/server"
	"fs_notify/server/servertest"
	"fs_notify/watch"
)

// program is the command, built once if a test wants it.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "fs_notify-box-")
	if err != nil {
		return "", err
	}
	programDir = dir
	p := filepath.Join(dir, "fs_notify")
	if out, err := exec.Command("go", "build", "-o", p, "fs_notify/cmd/fs_notify").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %v\n%s", err, out)
	}
	return p, nil
})

var programDir string

func TestMain(m *testing.M) {
	code := m.Run()
	if programDir != "" {
		os.RemoveAll(programDir)
	}
	os.Exit(code)
}

// serveReal runs the real server for a directory until the test ends.
func serveReal(t *testing.T, root string) (base string) {
	t.Helper()
	p, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(p, "serve", "--root", "/data="+root, "--state-dir", t.TempDir(), "--listen", "127.0.0.1:0", "--log-format", "json")
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
	var said bytes.Buffer
	lines := bufio.NewScanner(logs)
	for lines.Scan() {
		said.Write(append(lines.Bytes(), '\n'))
		var line struct{ Msg, URL string }
		if json.Unmarshal(lines.Bytes(), &line); line.Msg == "serving" {
			go func() {
				for lines.Scan() {
				}
			}()
			base = strings.TrimSuffix(line.URL, "/")
			servertest.Ready(t, base)
			return base
		}
	}
	t.Fatalf("the server did not start: %s", said.String())
	return ""
}

// serveWatched serves a directory that is watched in this process; all that has happened in it is in the journal when sync returns.
func serveWatched(t *testing.T, root string, change func(*server.Options)) (base string, sync func()) {
	t.Helper()
	log := journal.NewMemory(journal.MemoryOptions{})
	quiet := slog.New(slog.DiscardHandler)
	source, err := watch.NewSource("auto", watch.SourceOptions{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	w, err := watch.New(watch.Config{Roots: []watch.Root{{Name: "/data", Dir: root}}, Source: source, Sink: log, Head: log.Bounds().Head, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the watcher ended with %v", err)
		}
		log.Close()
	})
	<-w.Ready()
	base = serve(t, servertest.New("/data"), func(o *server.Options) {
		o.Files, o.Journal = w, log
		change(o)
	})
	return base, func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := w.Sync(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// sdkEvent is what the scripts in testdata print of an event.
type sdkEvent struct {
	ID, Type, Kind, Item, Name, Parent, Status, Seq, Error string
}

// sdk starts a script with Box's SDK of some version for Node; what it prints comes out of the channel.
func sdk(t *testing.T, version string, args ...string) (events <-chan sdkEvent, stop func()) {
	t.Helper()
	dir := os.Getenv("FS_NOTIFY_TEST_NPM")
	if dir == "" {
		if cache, err := os.UserCacheDir(); err == nil {
			dir = filepath.Join(cache, "fs_notify-test", "npm")
		}
	}
	node, err := exec.LookPath("node")
	modules := filepath.Join(dir, "box"+version, "node_modules")
	if _, serr := os.Stat(filepath.Join(modules, "box-node-sdk")); err != nil || serr != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("scripts/test installs Node and box-node-sdk %s: %v, %v", version, err, serr)
		}
		t.Skipf("Node or box-node-sdk %s is not installed, scripts/test does that", version)
	}
	cmd := exec.Command(node, append([]string{filepath.Join("testdata", "sdk"+version+".js")}, args...)...)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ch := make(chan sdkEvent, 1<<16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(ch)
		for d := json.NewDecoder(out); ; {
			var e sdkEvent
			if err := d.Decode(&e); err != nil {
				if err != io.EOF {
					ch <- sdkEvent{Error: "unreadable: " + err.Error()}
				}
				return
			}
			ch <- e
		}
	}()
	stop = sync.OnceFunc(func() {
		in.Close()
		kill := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		defer kill.Stop()
		<-done
		if err := cmd.Wait(); err != nil {
			t.Errorf("SDK %s ended with %v", version, err)
		}
	})
	t.Cleanup(stop)
	return ch, stop
}

// boxTree is a tree as a client of Box knows it: by ID.
type boxTree map[string]sdkEvent

func (b boxTree) apply(e sdkEvent) {
	if e.Type != "ITEM_TRASH" {
		b[e.Item] = e
		return
	}
	delete(b, e.Item)
	for id, c := range b {
		if c.Parent == e.Item {
			b.apply(sdkEvent{Type: "ITEM_TRASH", Item: id})
		}
	}
}

// paths lists the tree by path below a folder: kind and ID.
func (b boxTree) paths(root string) map[string]string {
	out := map[string]string{}
	var path func(e sdkEvent, depth int) (string, bool)
	path = func(e sdkEvent, depth int) (string, bool) {
		if e.Parent == root {
			return e.Name, true
		}
		parent, ok := b[e.Parent]
		if !ok || depth > 100 {
			return "", false
		}
		p, ok := path(parent, depth+1)
		return p + "/" + e.Name, ok
	}
	for id, e := range b {
		if id == root {
			continue
		}
		if p, ok := path(e, 0); ok {
			out[p] = e.Kind + " " + id
		} else {
			out["lost: "+e.Name+" "+id] = e.Kind
		}
	}
	return out
}

// listed walks the folders through the API, page by page, and lists them likewise.
func listed(t *testing.T, base, folder, prefix string, out map[string]string) {
	t.Helper()
	for offset := 0; ; {
		p := items(t, base+fmt.Sprintf("/2.0/folders/%s/items?limit=300&offset=%d", folder, offset))
		for i := range p.Entries {
			e := &p.Entries[i]
			out[prefix+e.Name] = e.Type + " " + e.ID
			if e.Type == "folder" {
				listed(t, base, e.ID, prefix+e.Name+"/", out)
			}
		}
		if offset += len(p.Entries); offset >= p.Total || len(p.Entries) == 0 {
			return
		}
	}
}

// onDisk lists a directory: kinds only.
func onDisk(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		out[rel] = map[bool]string{true: "folder", false: "file"}[d.IsDir()]
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func kinds(m map[string]string) map[string]string {
	out := map[string]string{}
	for p, v := range m {
		out[p], _, _ = strings.Cut(v, " ")
	}
	return out
}

// differ says where two lists differ, in a few lines.
func differ(a, b map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(a)) {
		if a[k] != b[k] {
			out = append(out, fmt.Sprintf("%q: %q, %q", k, a[k], b[k]))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[k]; !ok {
			out = append(out, fmt.Sprintf("%q: missing, %q", k, b[k]))
		}
	}
	return strings.Join(out[:min(len(out), 20)], "\n")
}

// load does things to a directory, and says how often each event has to come at least.
type load struct {
	t    *testing.T
	root string
	n    int
	rnd  *rand.Rand
}

func (l *load) do(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *load) path(p string) string { return filepath.Join(l.root, p) }

// dirs and files are paths below the root.
func (l *load) list() (dirs, files []string) {
	all := onDisk(l.t, l.root)
	for _, p := range slices.Sorted(maps.Keys(all)) {
		if all[p] == "folder" {
			dirs = append(dirs, p)
		} else {
			files = append(files, p)
		}
	}
	return dirs, files
}

func (l *load) name(prefix string) string {
	l.n++
	return fmt.Sprint(prefix, l.n)
}

// stir makes, renames, moves and removes files and directories.
func (l *load) stir(steps int) {
	for range steps {
		dirs, files := l.list()
		dirs = append(dirs, "")
		dir, file := dirs[l.rnd.IntN(len(dirs))], ""
		if len(files) > 0 {
			file = files[l.rnd.IntN(len(files))]
		}
		switch l.rnd.IntN(9) {
		case 0, 1, 2:
			l.do(os.WriteFile(l.path(filepath.Join(dir, l.name("new"))), []byte("data"), 0o644))
		case 3:
			l.do(os.MkdirAll(l.path(filepath.Join(dir, l.name("dir"), "sub")), 0o755))
		case 4:
			if file != "" {
				l.do(os.Rename(l.path(file), l.path(filepath.Join(filepath.Dir(file), l.name("renamed")))))
			}
		case 5:
			if file != "" {
				l.do(os.Rename(l.path(file), l.path(filepath.Join(dir, l.name("moved")))))
			}
		case 6:
			if from := dirs[l.rnd.IntN(len(dirs))]; from != "" && dir != from && !strings.HasPrefix(dir+"/", from+"/") {
				l.do(os.Rename(l.path(from), l.path(filepath.Join(dir, l.name("movedir")))))
			}
		case 7:
			if file != "" {
				l.do(os.Remove(l.path(file)))
			}
		case 8:
			if dir != "" && len(files) > 50 && strings.Count(dir, "/") > 0 {
				l.do(os.RemoveAll(l.path(dir)))
			}
		}
	}
}

// Box's own SDKs follow a tree: a backlog of more than 5,000 events, then what happens while they look on. Nothing is lost, nothing comes
// twice, no error is emitted, and what they know in the end is what is there.
func TestBoxSDKs(t *testing.T) {
	root := t.TempDir()
	base := serveReal(t, root)
	l := &load{t: t, root: root, rnd: rand.New(rand.NewPCG(3, 4))}
	// What happens to a name between two looks is one event. told waits until all that happened so far is told of, so that what follows is
	// not joined with it.
	var pos int64
	told := func() {
		t.Helper()
		marker := l.name("marker")
		l.do(os.WriteFile(l.path(marker), nil, 0o644))
		for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			var events []rcloneEvent
			events, pos = follow(t, base, pos, nil)
			if slices.ContainsFunc(events, func(e rcloneEvent) bool { return e.Source.ItemName == marker || e.Source.Name == marker }) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("no event about %s", marker)
			}
		}
	}
	began := time.Now()
	for i := range 50 {
		l.do(os.Mkdir(l.path(fmt.Sprintf("d%02d", i)), 0o755))
		for j := range 100 {
			l.do(os.WriteFile(l.path(fmt.Sprintf("d%02d/f%d", i, j)), []byte("content"), 0o644))
		}
	}
	told()
	for i := range 50 {
		l.do(os.Rename(l.path(fmt.Sprintf("d%02d/f0", i)), l.path(fmt.Sprintf("d%02d/r0", i))))
		l.do(os.Rename(l.path(fmt.Sprintf("d%02d/f1", i)), l.path(fmt.Sprintf("d%02d/f1-from-%d", (i+7)%50, i))))
		l.do(os.Remove(l.path(fmt.Sprintf("d%02d/f2", i))))
	}
	told()
	l.do(os.Rename(l.path("d00"), l.path("d01/inside")))
	l.do(os.Rename(l.path("d02"), l.path("renamed dir")))
	l.do(os.RemoveAll(l.path("d03")))
	told()
	ended := time.Now().Truncate(time.Second).Add(time.Second) // SDK 10 asks for whole seconds
	time.Sleep(time.Until(ended))                              // what follows is not in the window

	for _, version := range []string{"10", "3"} {
		t.Run("SDK "+version, func(t *testing.T) {
			args := []string{base, "stream", "0"}
			if version == "10" {
				args = append(args, "changes")
			}
			events, stop := sdk(t, version, args...)
			tree, seen, last := boxTree{}, map[string]bool{}, map[string]string{}
			uploads := map[string]int{}
			total := 0
			until := func(name string) {
				t.Helper()
				deadline := time.After(3 * patience)
				for {
					select {
					case e, ok := <-events:
						switch {
						case !ok:
							t.Fatalf("the SDK ended before %s, after %d events", name, total)
						case e.Error != "":
							t.Fatalf("the SDK says: %s", e.Error)
						case seen[e.ID]:
							t.Fatalf("event %s comes twice", e.ID)
						case len(e.Seq) < len(last[e.Item]) || e.Seq <= last[e.Item]:
							t.Fatalf("sequence_id of %s goes from %s to %s", e.Item, last[e.Item], e.Seq)
						}
						total++
						seen[e.ID], last[e.Item] = true, e.Seq
						if e.Type == "ITEM_UPLOAD" {
							uploads[e.Item]++
						}
						tree.apply(e)
						if e.Name == name {
							return
						}
					case <-deadline:
						t.Fatalf("no event about %s, after %d events", name, total)
					}
				}
			}
			marker := l.name("marker")
			l.do(os.WriteFile(l.path(marker), nil, 0o644))
			until(marker)
			if total < 5000 {
				t.Errorf("only %d events", total)
			}
			// On a machine that is busy enough, a close is heard of later than a page waits for it: rare, and no more than a second event.
			twice := 0
			for item, n := range uploads {
				if n > 2 {
					t.Errorf("%d uploads of %q, which was written once", n, tree[item].Name)
				}
				twice += n - 1
			}
			if twice > len(uploads)/100 {
				t.Errorf("%d of %d files that were written once were uploaded twice", twice, len(uploads))
			}
			for range 3 {
				l.stir(40)
				time.Sleep(20 * time.Millisecond)
			}
			// Written in pieces, while something else goes on.
			slow, err := os.Create(l.path(l.name("slow")))
			l.do(err)
			for i := range 10 {
				fmt.Fprintln(slow, i)
				l.do(os.WriteFile(l.path(l.name("aside")), []byte("x"), 0o644))
				time.Sleep(20 * time.Millisecond)
			}
			l.do(slow.Close())
			marker = l.name("marker")
			l.do(os.WriteFile(l.path(marker), nil, 0o644))
			until(marker)
			stop()
			for e := range events {
				t.Errorf("after the last change: %+v", e)
			}
			// What the client knows, what the folders list, and what is on disk.
			top := items(t, base+"/2.0/folders/0/items")
			there := map[string]string{}
			listed(t, base, top.Entries[0].ID, "", there)
			if d := differ(tree.paths(top.Entries[0].ID), there); d != "" {
				t.Errorf("the client and the folders differ:\n%s", d)
			}
			if d := differ(kinds(there), onDisk(t, root)); d != "" {
				t.Errorf("the folders and the disk differ:\n%s", d)
			}
		})
	}

	for _, version := range []string{"10", "3"} {
		t.Run("enterprise stream, SDK "+version, func(t *testing.T) {
			form := "2006-01-02T15:04:05.000Z07:00"
			count := func(after, before time.Time, types string) map[string]int {
				t.Helper()
				events, stop := sdk(t, version, base, "logs", after.UTC().Format(form), before.UTC().Format(form), types)
				out, seen := map[string]int{}, map[string]bool{}
				for e := range events {
					if e.Error != "" || seen[e.ID] || e.Item == "" || e.Name == "" || e.Parent == "" {
						t.Fatalf("the SDK says: %+v", e)
					}
					seen[e.ID] = true
					out[e.Type]++
				}
				stop()
				return out
			}
			after, before := began.Add(-time.Hour), ended
			all := count(after, before, "DELETE,RENAME,MOVE")
			want := map[string]int{}
			direct, _ := follow(t, base, 0, values("stream_type", "admin_logs", "created_after", after.UTC().Format(form), "created_before", before.UTC().Format(form), "event_type", "DELETE,RENAME,MOVE"))
			for i := range direct {
				want[direct[i].EventType]++
			}
			if !maps.Equal(all, want) || all["DELETE"] != 150 || all["RENAME"] != 102 || all["MOVE"] != 51 {
				t.Errorf("in the window: %v, want %v", all, want)
			}
			if before := count(began.Add(-time.Hour), began.Add(-2*time.Second), ""); len(before) != 0 {
				t.Errorf("before anything happened: %v", before)
			}
		})
	}
}

// A root is shown in All Files as it is now, as it is by itself.
func TestTheTimeOfARoot(t *testing.T) {
	dir := t.TempDir()
	base := serveReal(t, dir)
	id := items(t, base+"/2.0/folders/0/items").Entries[0].ID
	now := time.Date(2020, 2, 29, 12, 34, 56, 0, time.UTC)
	if err := os.Chtimes(dir, now, now); err != nil {
		t.Fatal(err)
	}
	var alone rcloneItem
	if err := json.Unmarshal(get(t, base+"/2.0/folders/"+id), &alone); err != nil {
		t.Fatal(err)
	}
	var top struct {
		Items rcloneItems `json:"item_collection"`
	}
	if err := json.Unmarshal(get(t, base+"/2.0/folders/0"), &top); err != nil {
		t.Fatal(err)
	}
	for where, it := range map[string]rcloneItem{"folders/ID": alone, "folders/0": top.Items.Entries[0], "folders/0/items": items(t, base+"/2.0/folders/0/items").Entries[0]} {
		if !it.ModifiedAt.Equal(now) || !it.ContentModifiedAt.Equal(now) {
			t.Errorf("%s: modified_at %v, content_modified_at %v, want %v", where, it.ModifiedAt, it.ContentModifiedAt, now)
		}
	}
}

// An item of two names of which one goes, alone or with a folder that leaves, moves to the other one before the folder is trashed; and whoever reads that later is told the same.
func TestRealHardLinks(t *testing.T) {
	root, outside := t.TempDir(), filepath.Join(t.TempDir(), "c")
	base := serveReal(t, root)
	at := func(p string) string { return filepath.Join(root, p) }
	var events []rcloneEvent
	step := func(err error, last string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			if events, _ = follow(t, base, 0, nil); strings.HasSuffix(show(events), last) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("got\n%s\nwant %q at the end", show(events), last)
			}
		}
	}
	step(os.Mkdir(at("keep"), 0o755), "ITEM_CREATE folder data/keep")
	step(os.Mkdir(at("c"), 0o755), "ITEM_CREATE folder data/c")
	step(os.WriteFile(at("keep/one"), []byte("data"), 0o644), "ITEM_UPLOAD file data/keep/one 4")
	step(os.Link(at("keep/one"), at("c/two")), "ITEM_UPLOAD file data/c/two 4")
	step(os.Remove(at("c/two")), "\nITEM_MOVE file data/keep/one 4")
	step(os.Link(at("keep/one"), at("c/three")), "ITEM_UPLOAD file data/c/three 4")
	step(os.Rename(at("c"), outside), "\nITEM_MOVE file data/keep/one 4\nITEM_TRASH folder data/c deleted")
	before := events
	step(os.Rename(at("keep/one"), at("keep/more")), "\nITEM_RENAME file data/keep/more 4")
	if late := show(events[:len(before)]); late != show(before) {
		t.Errorf("read later it is\n%s\nand it was\n%s", late, show(before))
	}
}

// What a directory has in it that is moved in has no close to come: no page waits for one. What is written there afterwards is waited for.
func TestADirectoryThatIsMovedIn(t *testing.T) {
	outside, root := t.TempDir(), t.TempDir()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(os.MkdirAll(filepath.Join(outside, "d/e"), 0o755))
	do(os.WriteFile(filepath.Join(outside, "d/e/f"), []byte("data"), 0o644))
	now := time.Now()
	do(os.Chtimes(filepath.Join(outside, "d"), now.Add(-time.Hour), now.Add(-time.Hour))) // however soon it is moved: it is not this that moves it last
	base, sync := serveWatched(t, root, func(o *server.Options) { o.Box.Hold = time.Hour })
	do(os.Rename(filepath.Join(outside, "d"), filepath.Join(root, "in")))
	sync()
	events, next := follow(t, base, 0, nil)
	if want := "ITEM_CREATE folder data/in\nITEM_CREATE folder data/in/e\nITEM_UPLOAD file data/in/e/f 4"; show(events) != want {
		t.Fatalf("when it has come:\n%s\nwant\n%s", show(events), want)
	}
	g, err := os.Create(filepath.Join(root, "in/e/g"))
	do(err)
	defer g.Close()
	sync()
	if events, _ = follow(t, base, next, nil); runtime.GOOS == "linux" && len(events) > 0 {
		t.Errorf("while a file in it is open:\n%s", show(events))
	}
	_, err = g.WriteString("more data")
	do(err)
	do(g.Close())
	sync()
	if events, _ = follow(t, base, next, nil); show(events) != "ITEM_UPLOAD file data/in/e/g 9" {
		t.Errorf("when it is closed:\n%s", show(events))
	}
}

// The first second of 1970 is a time as any other: archives that are made twice alike have it.
func TestTheFirstSecondOf1970(t *testing.T) {
	root := t.TempDir()
	base, sync := serveWatched(t, root, func(*server.Options) {})
	start := readPage(t, get(t, base+"/2.0/events?stream_position=now"), false).Next
	name := filepath.Join(root, "f")
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, time.Unix(0, 0), time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	sync()
	events, _ := follow(t, base, start, nil)
	if len(events) == 0 {
		t.Fatal("no event")
	}
	told := events[len(events)-1].Source.rcloneItem
	var alone rcloneItem
	if err := json.Unmarshal(get(t, base+"/2.0/files/"+told.ID), &alone); err != nil {
		t.Fatal(err)
	}
	for where, it := range map[string]rcloneItem{"the event": told, "files/ID": alone, "the list": items(t, base+"/2.0/folders/"+told.Parent.ID+"/items").Entries[0]} {
		if !it.ModifiedAt.Equal(time.Unix(0, 0)) || !it.ContentModifiedAt.Equal(time.Unix(0, 0)) {
			t.Errorf("%s: modified_at %v, content_modified_at %v", where, it.ModifiedAt, it.ContentModifiedAt)
		}
	}
}
