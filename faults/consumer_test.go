//go:build linux

package faults_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fs_notify/notify"
	"fs_notify/watch/watchtest"
)

// ledger remembers what every Seq was given for, over all restarts and for all consumers of one root.
type ledger struct {
	mu   sync.Mutex
	seen map[notify.Seq]uint64
}

func newLedger() *ledger { return &ledger{seen: make(map[notify.Seq]uint64)} }

// fork is for a life of the journal that others do not share.
func (l *ledger) fork() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &ledger{seen: maps.Clone(l.seen)}
}

// enter says whether n's Seq means what it always meant.
func (l *ledger) enter(n *notify.Notification) bool {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %q %v %q %d", n.Type, n.Path, n.Spine, n.Stream, n.Link)
	l.mu.Lock()
	defer l.mu.Unlock()
	sum, known := l.seen[n.Seq]
	l.seen[n.Seq] = h.Sum64()
	return !known || sum == h.Sum64()
}

// fact is what fields=all says of an entry, and what the disk says.
type fact struct {
	Kind  string `json:"kind"`
	Size  int64  `json:"size"`
	Mode  string `json:"mode"`
	Owner uint32 `json:"owner"`
	Group uint32 `json:"group"`
	Mtime string `json:"mtime"`
}

// consumer is one reader of the stream of the root who knows nothing else: through all cuts, restarts and resets it holds a
// tree that has to be valid at every step. It connects again at once, and goes on by the last id that came whole.
type consumer struct {
	base   func() string // "http://host:port", perhaps of a proxy
	book   *ledger
	record bool // keep what was told, for fork
	small  bool // a receive buffer so small that the server feels at once when nothing is read
	// mood is asked before each block that is read: to wait there, or, by an error, to leave. nil: always eager.
	mood func() error
	// onGone is what to ask for when the cursor is gone: "" begins with a new snapshot; "reset" sends the cursor once more with
	// gap=reset and takes the snapshot in the same stream; "entries" goes on with gap=reset and lists the directory.
	onGone string

	mu       sync.Mutex
	mirror   *watchtest.Mirror
	before   []string // faults found by mirrors that a reset has ended
	facts    map[notify.FileID]fact
	cursor   string
	last     notify.Seq // the highest ever seen
	gone     int        // times that the cursor was gone
	cuts     int        // connections that ended
	notes    int
	faults   []string
	evidence string                  // the array in which the first fault was found
	history  [][]notify.Notification // since the snapshot, which is its first element
	histDir  notify.FileID
	resetAll bool // the next request asks for gap=reset

	stop context.CancelFunc
	done chan struct{}
}

var errLeave = errors.New("the consumer leaves")

// follow starts a consumer of s that runs until the test ends.
func follow(t testing.TB, s *service, options ...func(*consumer)) *consumer {
	c := &consumer{base: func() string { return "http://" + s.addr }, book: newLedger()}
	for _, o := range options {
		o(c)
	}
	c.run(t)
	return c
}

// run starts the goroutine that reads; pause, or the end of the test, ends it.
func (c *consumer) run(t testing.TB) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	c.stop, c.done = cancel, done
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			c.connect(ctx)
			c.mu.Lock()
			c.cuts++
			c.mu.Unlock()
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	t.Cleanup(c.pause)
}

// pause ends the reading; run goes on.
func (c *consumer) pause() {
	c.stop()
	<-c.done
}

// fork gives a consumer that stands where c stands, and does not run.
func (c *consumer) fork() *consumer {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := &consumer{base: c.base, book: c.book, onGone: c.onGone, record: true, cursor: c.cursor, last: c.last, histDir: c.histDir,
		history: append([][]notify.Notification(nil), c.history...), facts: maps.Clone(c.facts)}
	f.mirror = emptyMirror(c.histDir)
	for _, notes := range c.history {
		f.mirror.Fold(notes)
	}
	return f
}

func emptyMirror(dir notify.FileID) *watchtest.Mirror {
	return watchtest.NewMirror(&notify.Snapshot{Entries: []notify.Entry{{Root: dir, Spine: notify.Spine{dir}}}})
}

func (c *consumer) fault(format string, args ...any) {
	if len(c.faults) < 20 {
		c.faults = append(c.faults, fmt.Sprintf(format, args...))
	}
}

// connect makes one connection and takes what comes on it.
func (c *consumer) connect(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	q := url.Values{"recursive": {"true"}, "fields": {"all"}}
	cursor := c.cursor
	if c.resetAll {
		q.Set("gap", "reset")
	}
	if cursor == "" || c.resetAll && c.onGone == "reset" {
		q.Set("since", "snapshot")
	}
	c.mu.Unlock()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base()+"/v1/files/"+url.PathEscape(rootName)+"/notify?"+q.Encode(), nil)
	if err != nil {
		panic(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	if cursor != "" {
		req.Header.Set("Last-Event-ID", cursor)
	}
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	if c.small {
		transport.DialContext = (&net.Dialer{Control: func(_, _ string, conn syscall.RawConn) error {
			return conn.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
		}}).DialContext
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		c.read(bufio.NewReaderSize(resp.Body, 64<<10))
	case http.StatusGone:
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return // cut
		}
		c.refused(text)
	case http.StatusServiceUnavailable:
	default:
		text, _ := io.ReadAll(resp.Body)
		c.mu.Lock()
		c.fault("%s for cursor %q: %s", resp.Status, cursor, text)
		c.mu.Unlock()
	}
}

// refused takes a 410: the cursor is gone.
func (c *consumer) refused(text []byte) {
	var said struct{ Oldest, Head *notify.Seq }
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := json.Unmarshal(text, &said); err != nil || said.Oldest == nil || said.Head == nil || *said.Oldest > *said.Head {
		c.fault("a 410 that does not tell what would do: %s", text)
	}
	c.gone++
	if c.resetAll {
		c.fault("410 in spite of gap=reset: %s", text)
	}
	if c.onGone == "" {
		c.cursor = ""
	} else {
		c.resetAll = true
	}
}

// block is one block of the stream.
type block struct {
	event, data, id string
	hasData, hasID  bool
}

// read takes blocks until the connection ends. A block that is cut off counts for nothing.
func (c *consumer) read(in *bufio.Reader) {
	var b block
	var snapshot []string // its arrays
	inSnapshot, watching := false, false
	for {
		if c.mood != nil {
			if err := c.mood(); err != nil {
				return
			}
		}
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = line[:len(line)-1]
		name, value, colon := strings.Cut(line, ": ")
		switch {
		case line == "":
			c.mu.Lock()
			switch {
			case b.event == "reset":
				inSnapshot, snapshot = !b.hasID, nil
				c.reset(&b)
			case b.hasData && inSnapshot:
				if b.hasID {
					c.fault("an array of a snapshot has the id %q", b.id)
				}
				snapshot = append(snapshot, b.data)
			case b.hasData:
				if !b.hasID {
					c.fault("an array without id: %s", clip(b.data))
				}
				c.take(&b)
			case b.hasID && inSnapshot:
				inSnapshot = false
				c.begin(&b, snapshot)
				snapshot = nil
			case b.hasID:
				c.moveTo(b.id)
			}
			entries := b.event == "reset" && b.hasID
			if entries {
				c.cursor = "" // until the list is there
			}
			c.mu.Unlock()
			if entries {
				c.list()
				return
			}
			b = block{}
		case strings.HasPrefix(line, ":"):
			watching = watching || strings.HasPrefix(line, ": watching "+rootName+" recursively")
		case !colon:
			c.complain("a line that is none of the four: %q", clip(line))
		case name == "data":
			if b.hasData || b.hasID {
				c.complain("data behind data or id in one block: %q", clip(line))
			}
			b.data, b.hasData = value, true
		case name == "id":
			b.id, b.hasID = value, true
		case name == "event":
			b.event = value
		case name != "retry":
			c.complain("a field that does not exist: %q", clip(line))
		}
	}
}

// show prints an array for people.
func show(notes []notify.Notification) string {
	var b strings.Builder
	for i, n := range notes {
		if !notify.Names.Has(n.Type) {
			continue
		}
		if i > 200 {
			b.WriteString("...")
			break
		}
		fmt.Fprintf(&b, "%d %s %q %v link %d\n", n.Seq, n.Type, n.Path, n.Spine, n.Link)
	}
	return b.String()
}

func (c *consumer) complain(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault(format, args...)
}

func clip(s string) string { return s[:min(len(s), 200)] }

// moveTo takes an id. Numbers never fall.
func (c *consumer) moveTo(id string) {
	cur, err := notify.ParseCursor(id)
	switch {
	case err != nil:
		c.fault("id: %v", err)
	case cur.Dir == 0:
		c.fault("the id %q has no directory", id)
	case c.histDir != 0 && cur.Dir != c.histDir:
		c.fault("the id %q names another directory than %d", id, c.histDir)
	case cur.Seq < c.last:
		c.fault("the id fell to %s: %d was seen before", id, c.last)
	default:
		c.cursor, c.last = id, cur.Seq
	}
}

// reset is told that what it knows is void.
func (c *consumer) reset(b *block) {
	if c.mirror != nil {
		c.before = append(c.before, c.mirror.Faults()...)
	}
	c.mirror, c.facts, c.history, c.resetAll = nil, make(map[notify.FileID]fact), nil, false
	var said struct{ Reason string }
	if json.Unmarshal([]byte(b.data), &said); said.Reason != "snapshot" && said.Reason != "gone" {
		c.fault("a reset for no reason: %s", b.data)
	}
	c.cursor = ""
	if b.hasID {
		c.moveTo(b.id)
	}
}

// begin takes a snapshot that is complete with this id.
func (c *consumer) begin(b *block, arrays []string) {
	c.moveTo(b.id)
	cur, err := notify.ParseCursor(b.id)
	if err != nil {
		return
	}
	c.histDir, c.mirror = cur.Dir, emptyMirror(cur.Dir)
	var all []notify.Notification
	for _, a := range arrays {
		notes, err := c.decode([]byte(a))
		if err != nil {
			c.fault("snapshot: %v", err)
			return
		}
		for i := range notes {
			if t := notes[i].Type; t != notify.ChildFileAdded && t != notify.ChildDirAdded {
				c.fault("a snapshot with %s", t)
			}
		}
		all = append(all, notes...)
	}
	c.mirror.Fold(all)
	if c.record {
		c.history = [][]notify.Notification{all}
	}
}

// take folds one array.
func (c *consumer) take(b *block) {
	notes, err := c.decode([]byte(b.data))
	if err != nil {
		c.fault("%v: %s", err, clip(b.data))
		return
	}
	if len(notes) == 0 {
		c.fault("an empty array")
	}
	if c.mirror == nil {
		c.fault("notifications before the snapshot was complete")
		return
	}
	for i := range notes {
		n := &notes[i]
		if n.Seq <= c.last {
			c.fault("%s %q: Seq %d does not rise above %d", n.Type, n.Path, n.Seq, c.last)
		}
		c.last = max(c.last, n.Seq)
		if !c.book.enter(n) {
			c.fault("%s %q: Seq %d was given for something else before", n.Type, n.Path, n.Seq)
		}
		if n.Type == notify.SelfRemoved {
			c.fault("self_removed: the root was there all the time")
		}
	}
	c.notes += len(notes)
	c.mirror.Fold(notes)
	if c.evidence == "" && len(c.mirror.Faults())+len(c.faults) > 0 {
		c.evidence = show(notes)
	}
	if c.record {
		c.history = append(c.history, notes)
	}
	c.moveTo(b.id)
}

// decode reads an array and remembers what it says of the entries.
func (c *consumer) decode(data []byte) ([]notify.Notification, error) {
	notes, err := notify.DecodeJSON(data)
	if err != nil {
		return nil, err
	}
	facts := make([]fact, len(notes))
	if err := json.Unmarshal(data, &facts); err != nil {
		return nil, err
	}
	for i := range notes {
		switch notes[i].Type {
		case notify.ChildFileRemoved, notify.ChildFileMovedFrom: // what was told last under a name that goes: another one may be ahead
		default:
			c.facts[notes[i].ID()] = facts[i]
		}
	}
	return notes, nil
}

// list begins anew with GET entries, as a client does that was told to.
func (c *consumer) list() {
	resp, err := http.Get(c.base() + "/v1/files/" + url.PathEscape(rootName) + "/entries?recursive=true")
	if err != nil {
		return
	}
	defer resp.Body.Close()
	var said struct {
		ID      string `json:"id"`
		Entries []struct {
			Path  json.RawMessage `json:"path"`
			Spine []string        `json:"spine"`
			Type  string          `json:"type"`
		} `json:"entries"`
	}
	if resp.StatusCode == http.StatusServiceUnavailable {
		return // the next connection begins with a snapshot
	}
	if err := json.NewDecoder(resp.Body).Decode(&said); err != nil || resp.StatusCode != http.StatusOK {
		c.complain("entries: %s, %v", resp.Status, err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	cur, err := notify.ParseCursor(said.ID)
	if err != nil {
		c.fault("entries: %v", err)
		return
	}
	all := make([]notify.Notification, len(said.Entries))
	for i, e := range said.Entries {
		n := &all[i]
		if n.Path, err = notify.UnquoteName(e.Path); err != nil {
			c.fault("entries: %v", err)
			return
		}
		n.Type = notify.ChildFileAdded
		if e.Type == "FS_FILE_TYPE_DIRECTORY" {
			n.Type = notify.ChildDirAdded
		}
		for _, s := range e.Spine {
			id, err := notify.ParseFileID(s)
			if err != nil {
				c.fault("entries: %v", err)
			}
			n.Spine = append(n.Spine, id)
		}
	}
	c.histDir, c.mirror = cur.Dir, emptyMirror(cur.Dir)
	c.mirror.Fold(all)
	if c.record {
		c.history = [][]notify.Notification{all}
	}
	c.moveTo(said.ID)
}

// where gives the cursor and how much was told.
func (c *consumer) where() (cursor string, notes, gone, cuts int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cursor, c.notes, c.gone, c.cuts
}

// told gives all notifications since the snapshot, which is told as well; for those with record.
func (c *consumer) told() (all []notify.Notification) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, notes := range c.history {
		all = append(all, notes...)
	}
	return all
}

// id is the file ID of a path as the consumer knows it.
func (c *consumer) id(t testing.TB, path string) notify.FileID {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.mirror.Listing()[path]
	if id == 0 {
		t.Fatalf("the consumer does not know %q", path)
	}
	return id
}

// begun waits until the consumer has its first snapshot.
func (c *consumer) begun(t testing.TB) {
	t.Helper()
	if !within(func() bool { cursor, _, _, _ := c.where(); return cursor != "" || len(c.wrong()) > 0 }) {
		t.Fatal("the consumer gets no snapshot")
	}
}

// wrong lists what the consumer finds fault with.
func (c *consumer) wrong() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := append(append([]string(nil), c.faults...), c.before...)
	if c.mirror != nil {
		out = append(out, c.mirror.Faults()...)
	}
	return out
}

// differences compares what the consumer holds with the disk: names, kinds and attributes. Directories' times are left to times.
func (c *consumer) differences(dir string) []string {
	disk, err := readDisk(dir)
	if err != nil {
		return []string{err.Error()}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mirror == nil {
		return []string{"the consumer holds nothing"}
	}
	mirror := c.mirror.Listing()
	names := make(map[string]notify.FileID, len(disk))
	for p := range disk {
		names[p] = 0
	}
	out := watchtest.Diff("the mirror", mirror, "the disk", names)
	for p, want := range disk {
		got, told := c.facts[mirror[p]]
		if mirror[p] == 0 || !told {
			continue // a name that is missing, or one from a list, of which not all is known
		}
		if want.Kind == "directory" {
			got.Size = want.Size
		}
		if got != want && len(out) < 20 {
			out = append(out, fmt.Sprintf("%q: told %+v, the disk has %+v", p, got, want))
		}
	}
	return out
}

// holds waits until the consumer holds what is on disk, and fails the test if that does not come, if the IDs are not those that a new scan
// finds, or if any step on the way was not valid.
func (c *consumer) holds(t testing.TB, s *service) {
	t.Helper()
	var diff []string
	within(func() bool {
		diff = c.differences(s.root)
		return len(diff) == 0 || len(c.wrong()) > 0 || s.done != nil && !s.running()
	})
	wrong := c.wrong()
	for _, f := range wrong {
		t.Errorf("invalid step: %s", f)
	}
	if len(diff)+len(wrong) == 0 {
		c.mu.Lock()
		mirror := c.mirror.Listing()
		c.mu.Unlock()
		diff = watchtest.Diff("the mirror", mirror, "a new scan", watchtest.FreshListing(t, s.root))
	}
	for _, d := range diff {
		t.Error(d)
	}
	if len(diff)+len(wrong) == 0 {
		return
	}
	for _, d := range diff {
		if q, err := strconv.QuotedPrefix(d); err == nil {
			path, _ := strconv.Unquote(q)
			c.explain(t, s, path)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t.Fatalf("the consumer is at %s after %d notifications, %d times gone, %d connections; the array with the first fault:\n%sthe log:\n%s",
		c.cursor, c.notes, c.gone, c.cuts, c.evidence, s.logs)
}

// explain logs what the server knows of a path, and, for those with record, all that was told of what the consumer holds there.
func (c *consumer) explain(t testing.TB, s *service, path string) {
	t.Helper()
	_, body := s.get("/v1/files/" + url.PathEscape(rootName+"/"+strings.TrimSuffix(path, "/")) + "/info/attributes")
	c.mu.Lock()
	defer c.mu.Unlock()
	var told strings.Builder
	id := c.mirror.Listing()[path]
	for _, notes := range c.history {
		for i := range notes {
			if n := &notes[i]; n.Path == strings.TrimSuffix(path, "/") || n.ID() == id {
				fmt.Fprintf(&told, "%d %s %q %v\n", n.Seq, n.Type, n.Path, n.Spine)
			}
		}
	}
	t.Logf("%q: the consumer knows %d, the server says %s; what was told:\n%s", path, id, body, told.String())
}

// neverGone fails the test if the consumer was ever told that its cursor is gone.
func (c *consumer) neverGone(t testing.TB) {
	t.Helper()
	if _, _, gone, _ := c.where(); gone > 0 {
		t.Errorf("the cursor was gone %d times: nothing that happened here excuses that", gone)
	}
}

// readDisk walks a directory: "path/" for directories, as watchtest.Mirror lists them.
func readDisk(dir string) (map[string]fact, error) {
	out := make(map[string]fact)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		a := notify.Attr{Mode: st.Mode}
		p := strings.TrimPrefix(path, dir+"/")
		if e.IsDir() {
			p += "/"
		}
		out[p] = fact{Kind: a.Kind(), Size: st.Size, Mode: fmt.Sprintf("0%o", a.Perm()), Owner: st.Uid, Group: st.Gid,
			Mtime: string(notify.AppendTime(nil, st.Mtim.Nano()))}
		return nil
	})
	return out, err
}
