package page

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// patience is for what takes no time: it only bounds how long a failing test hangs.
const patience = 30 * time.Second

// ---- A server that is as the page knows it ----

// block is what the server sends for one change: a JSON array and an id.
type block struct {
	id    int
	event string // "" is a message
	data  string
}

// site serves the page and one directory's notifications from a list of blocks, as the real
// server does: ids, Last-Event-ID, last_event_id=, and gone. It can be stopped and started again on its port.
type site struct {
	t    *testing.T
	addr string
	tls  *tls.Config // nil: plain HTTP
	srv  *http.Server

	mu      sync.Mutex
	blocks  []block // the record; a stream starts behind its id, or at the end
	grew    chan struct{}
	locked  bool   // one has to log in, with the token "sesame"
	retry   string // Retry-After of refusals
	refuse  int    // status of every stream while not 0
	oldest  int    // ids below it are gone
	noID    bool   // a stream says no id before its first block, as while a root is being indexed
	mute    bool   // readyz does not answer
	asked   int    // how often it was asked
	phase   string
	names   []string     // of the roots; "" is one that is not told
	who     string       // JSON, of who has logged in
	session string       // the cookie of a session that has not ended
	queries []url.Values // of the streams so far
	resumed []string     // the id that each stream came with
}

func newSite(t *testing.T) *site { return newSiteWith(t, nil) }

func newSiteWith(t *testing.T, secure *tls.Config) *site { return newSiteAt(t, "127.0.0.1:0", secure) }

func newSiteAt(t *testing.T, addr string, secure *tls.Config) *site {
	s := &site{t: t, addr: addr, tls: secure, grew: make(chan struct{}), phase: "live", names: []string{"/srv/data"}, who: `{"name":"ali<b>"}`, session: "1"}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *site) start() {
	l, err := net.Listen("tcp", s.addr)
	for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); l, err = net.Listen("tcp", s.addr) {
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = l.Addr().String()
	if s.tls != nil {
		l = tls.NewListener(l, s.tls)
	}
	mux := http.NewServeMux()
	mux.Handle("/", Handler())
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("/login", s.login)
	mux.HandleFunc("POST /logout", s.logout)
	mux.HandleFunc("GET /v1/files/{ref}/notify", s.notify)
	mux.HandleFunc("GET /v1/files/{ref}/entries", s.entries)
	s.srv = &http.Server{Handler: mux, ReadHeaderTimeout: patience}
	go s.srv.Serve(l)
}

func (s *site) stop() { s.srv.Close() }

func (s *site) url() string {
	if s.tls != nil {
		return "https://" + s.addr + "/"
	}
	return "http://" + s.addr + "/"
}

func (s *site) readyz(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked++; s.mute {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	type root struct {
		Name     string   `json:"name,omitempty"`
		Phase    string   `json:"phase"`
		Progress float64  `json:"progress"`
		Indexed  int      `json:"indexed"`
		Count    int      `json:"degraded_count"`
		Degraded []string `json:"degraded"`
	}
	roots := []root{}
	for _, name := range s.names {
		roots = append(roots, root{name, s.phase, 0.42, 12345, 0, []string{}})
	}
	json.NewEncoder(w).Encode(map[string]any{"ready": s.phase == "live", "roots": roots})
}

// login and logout keep one session, as the real server does.
func (s *site) login(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodPost {
		var in struct{ Token string }
		if json.NewDecoder(r.Body).Decode(&in); in.Token != "sesame" {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"description":"that is <i>not</i> it"}`)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: s.cookie(), Value: s.session, HttpOnly: true, SameSite: http.SameSiteStrictMode, Path: "/"})
		return
	}
	if s.out(r) {
		fmt.Fprint(w, `{"required":true,"token":true,"password":false,"who":null}`)
	} else {
		fmt.Fprintf(w, `{"required":false,"who":%s}`, s.who)
	}
}

func (s *site) logout(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: s.cookie(), MaxAge: -1, Path: "/"})
}

// cookie names a session's cookie: the sites of all tests are ports of one host, and cookies know no ports.
func (s *site) cookie() string { return "session" + s.addr[strings.LastIndexByte(s.addr, ':')+1:] }

func (s *site) out(r *http.Request) bool {
	c, err := r.Cookie(s.cookie())
	return s.locked && (err != nil || c.Value != s.session)
}

// entries lists two directories and a file at the top, and nothing in them. Who asks for directories gets no more.
func (s *site) entries(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.PathValue("ref") != "/srv/data" {
		fmt.Fprint(w, `{"seq":1,"id":"1.7","entries":[]}`)
		return
	}
	file := `,
{"id":"10","path":"f","name":"f","type":"FS_FILE_TYPE_FILE"}`
	if r.URL.Query().Get("include") == "*/" {
		file = ""
	}
	fmt.Fprint(w, `{"seq":1,"id":"1.7","entries":[
{"id":"8","path":"quiet","name":"quiet","type":"FS_FILE_TYPE_DIRECTORY"},
{"id":"9","path":"busy","name":"busy","type":"FS_FILE_TYPE_DIRECTORY"}`+file+`]}`)
}

func (s *site) notify(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	at := q.Get("last_event_id")
	if h := r.Header.Get("Last-Event-ID"); h != "" {
		at = h
	}
	s.mu.Lock()
	if r.Header.Get("Accept") == "text/event-stream" {
		s.queries, s.resumed = append(s.queries, q), append(s.resumed, at)
	}
	next, gone := len(s.blocks), false
	if seq, dir, ok := strings.Cut(at, "."); ok && dir == "7" {
		id, _ := strconv.Atoi(seq)
		gone = id < s.oldest
		if !gone {
			next = slices.IndexFunc(s.blocks, func(b block) bool { return b.id > id })
			if next < 0 {
				next = len(s.blocks)
			}
		}
	} else if q.Get("since") != "" {
		next = 0 // all was made after the page came
	}
	refuse, retry, noID := s.refuse, s.retry, s.noID
	if s.out(r) {
		refuse = http.StatusUnauthorized
	}
	s.mu.Unlock()

	if refuse == 0 && r.PathValue("ref") != "/srv/data" {
		refuse = http.StatusNotFound
	}
	if refuse != 0 {
		w.Header().Set("Content-Type", "application/json")
		if retry != "" {
			w.Header().Set("Retry-After", retry)
		}
		w.WriteHeader(refuse)
		fmt.Fprintf(w, `{"description":"it says %d <b>today</b>"}`, refuse)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "retry: 100\n\n: watching\n\n")
	if !noID {
		fmt.Fprintf(w, "event: cursor\ndata: []\nid: %d.7\n\n", next)
	}
	if gone {
		fmt.Fprintf(w, "event: reset\nid: %d.7\ndata: {\"reason\":\"retention\"}\n\n", s.head())
	}
	for flush := http.NewResponseController(w); ; {
		s.mu.Lock()
		todo, grew := s.blocks[next:], s.grew
		next = len(s.blocks)
		s.mu.Unlock()
		for _, b := range todo {
			if b.event != "" {
				fmt.Fprintf(w, "event: %s\n", b.event)
			}
			fmt.Fprintf(w, "id: %d.7\ndata: %s\n\n", b.id, b.data)
		}
		if flush.Flush() != nil {
			return
		}
		select {
		case <-grew:
		case <-r.Context().Done():
			return
		}
	}
}

func (s *site) head() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.blocks)
}

// note is one notification as the server writes it, with fields=all.
func note(kind, path string) string {
	p, _ := json.Marshal(path)
	return fmt.Sprintf(`{"type":%q,"spine":["7","9007199254740993"],"path":%s,"stream_name":null,"seq":1,"time":"2026-11-22T10:00:00.123Z","kind":"file","size":1234}`, kind, p)
}

// tell makes one block of notifications.
func (s *site) tell(notes ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks = append(s.blocks, block{id: len(s.blocks) + 1, data: "[" + strings.Join(notes, ",") + "]"})
	close(s.grew)
	s.grew = make(chan struct{})
}

// last gives the parameters of the last stream and the id that it came with.
func (s *site) last() (url.Values, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queries[len(s.queries)-1], s.resumed[len(s.resumed)-1]
}

func (s *site) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// ---- A browser ----

var browser = sync.OnceValues(func() (context.Context, error) {
	var chromium string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			chromium = p
			break
		}
	}
	if chromium == "" {
		return nil, exec.ErrNotFound
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("ignore-certificate-errors", true), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-dev-shm-usage", true))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	stopAllocator = cancel
	ctx, cancel = chromedp.NewContext(ctx)
	stopBrowser = cancel
	return ctx, chromedp.Do(ctx)
})

var stopBrowser, stopAllocator context.CancelFunc

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(programDir)
	if stopBrowser != nil {
		stopBrowser()
		stopAllocator()
	}
	os.Exit(code)
}

// program is the real server, built once if a test wants it.
var program = sync.OnceValues(func() (p string, err error) {
	if programDir, err = os.MkdirTemp("", "fs_notify-page-"); err != nil {
		return "", err
	}
	p = filepath.Join(programDir, "fs_notify")
	if out, err := exec.Command("go", "build", "-o", p, "fs_notify/cmd/fs_notify").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %v\n%s", err, out)
	}
	return p, nil
})

var programDir string

// tab is one page in the browser. What its scripts complain about fails the test.
type tab struct {
	t   *testing.T
	ctx context.Context
}

func open(t *testing.T, url string) *tab {
	t.Helper()
	b := newTab(t)
	b.run(chromedp.EmulateViewport(1200, 800), chromedp.Navigate(url))
	return b
}

// newTab gives an empty page: in a window of its own, unless it shares the last one, where it comes before the others.
func newTab(t *testing.T, options ...chromedp.ContextOption) *tab {
	t.Helper()
	main, err := browser()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no browser: %v (CI=true: install chromium)", err)
		}
		t.Skipf("no browser: %v", err)
	}
	ctx, cancel := chromedp.NewContext(main, options...)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 2*patience)
	t.Cleanup(cancel)
	err = chromedp.Listen(ctx, func(ev any) {
		if e, ok := ev.(*runtime.EventExceptionThrown); ok {
			d, _ := json.Marshal(e.ExceptionDetails)
			t.Errorf("the page threw: %s", d)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return &tab{t, ctx}
}

var sharing = chromedp.WithNewWindow(false)

// front brings a tab before the others of its window.
func (b *tab) front() {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, page.BringToFront, cdp.Empty{}); err != nil {
		b.t.Fatal(err)
	}
}

// script runs before those of every page that the tab opens from now on.
func (b *tab) script(source string) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: source}); err != nil {
		b.t.Fatal(err)
	}
}

// set changes what a module of the page goes by: Stream.rest and the like.
func (b *tab) set(module, what string, value int) {
	b.t.Helper()
	eval[any](b, fmt.Sprintf(`void import("./page/%s.js").then((m) => { m.%s = %d; window.wasSet = %[2]q })`, module, what, value))
	b.until(fmt.Sprintf(`window.wasSet === %q`, what))
}

func (b *tab) run(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// eval gives the value of an expression.
func eval[T any](b *tab, expr string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expr))
	if err != nil {
		b.t.Fatalf("%s: %v", expr, err)
	}
	return v
}

// until waits for an expression to be true.
func (b *tab) until(expr string) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); !eval[bool](b, expr); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("never true: %s; the page says %q and shows %q", expr,
				eval[string](b, `document.getElementById("bar").innerText`), b.rows())
		}
	}
}

// state waits for the words that say how the connection is.
func (b *tab) state(want string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.getElementById("state-text").textContent.startsWith(%q)`, want))
}

// rows gives type and path of the rows in the document, the oldest first; marks as they are.
func (b *tab) rows() []string {
	b.t.Helper()
	return eval[[]string](b, `Array.from(document.querySelectorAll(".row"), (r) => r.classList.contains("mark") ? "mark"
		: r.querySelector(".what").textContent + " " + r.querySelector(".path").textContent).reverse()`)
}

// sees waits for as many rows as wanted, then compares.
func (b *tab) sees(want ...string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.querySelectorAll(".row").length >= %d`, len(want)))
	if got := b.rows(); !slices.Equal(got, want) {
		b.t.Fatalf("the page shows %q, want %q", got, want)
	}
}

// login shows a token to the page.
func (b *tab) login(token string) {
	b.t.Helper()
	b.until(`document.getElementById("door").open`)
	b.run(chromedp.Focus(chromedp.ID("token")), chromedp.KeyEvent(token+kb.Enter))
	b.until(`!document.getElementById("door").open`)
}

// ---- The stories ----

func TestChangesAppearLive(t *testing.T) {
	s := newSite(t)
	b := open(t, s.url()) // the first root is watched without a word
	b.state("Watching")
	s.tell(note("child_file_added", "a"))
	b.sees("child_file_added a")
	s.tell(note("child_file_moved_from", "a"), note("child_file_moved_to", "dir/b"))
	b.sees("child_file_added a", "child_file_moved_from a", "child_file_moved_to dir/b")
	row := eval[string](b, `document.querySelector(".row").innerText`)
	if !strings.Contains(row, "9007199254740993") || !strings.Contains(row, "1.2 kB") {
		t.Errorf("the row says %q, want the file ID to the last digit and the size", row)
	}
	if got := eval[string](b, `location.hash`); got != "#dir=%2Fsrv%2Fdata" {
		t.Errorf("the address ends in %q, want one that can be kept", got)
	}
}

func TestServerRestartLosesAndDoublesNothing(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := newSite(t)
	b := open(t, s.url())
	b.state("Watching")
	s.tell(note("child_file_added", "before"))
	b.sees("child_file_added before")
	s.stop()
	b.state("Reconnecting")
	s.tell(note("child_file_added", "while it was down"))
	s.start()
	b.state("Watching")
	s.tell(note("child_file_added", "after"))
	b.sees("child_file_added before", "child_file_added while it was down", "child_file_added after")
	if _, id := s.last(); id != "1.7" {
		t.Errorf("the browser came back with id %q, want 1.7", id)
	}
}

// An EventSource that was refused is closed for good: the page has to make another one.
func TestRefusalIsNotTheEnd(t *testing.T) {
	for _, tt := range []struct {
		name       string
		before     bool // something was told before, so there is an id
		wantResume string
	}{
		{"with an id", true, "1.7"},
		{"before any id was seen", false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // it waits more than it works
			s := newSite(t)
			s.noID = !tt.before
			b := open(t, s.url())
			b.state("Watching")
			var want []string
			if tt.before {
				s.tell(note("child_file_added", "before"))
				want = append(want, "child_file_added before")
				b.sees(want...)
			}
			s.set(func() { s.refuse = http.StatusServiceUnavailable })
			s.stop()
			s.tell(note("child_file_added", "meanwhile"))
			s.start()
			b.until(`document.getElementById("detail").textContent === "it says 503 <b>today</b>"`)
			s.set(func() { s.refuse = 0 })
			b.state("Watching")
			b.sees(append(want, "child_file_added meanwhile")...)
			last, _ := s.last()
			if got := last.Get("last_event_id"); got != tt.wantResume {
				t.Errorf("last_event_id=%q, want %q", got, tt.wantResume)
			}
			if !tt.before && last.Get("since") == "" {
				t.Errorf("asked with %v, want since= as there was no id", last)
			}
		})
	}
}

// A server says in seconds or by a date when to come back. What it says otherwise is no reason to come back at once.
func TestRetryAfter(t *testing.T) {
	for _, tt := range []struct {
		name, retry string
		min, max    int // ms
	}{
		{"seconds", "7200", 7200_000, 7200_000},
		{"a date", time.Now().Add(2 * time.Hour).UTC().Format(http.TimeFormat), 6000_000, 7200_000},
		{"a date that is past", "Fri, 31 Dec 1999 23:59:59 GMT", 1000, 1000},
		{"rubbish", "soon", 1000, 1000},
		{"nothing", "", 1000, 1000},
		{"more than a timer holds", "99999999999", 1<<31 - 1, 1<<31 - 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			s.refuse, s.retry = http.StatusServiceUnavailable, tt.retry
			b := newTab(t)
			b.script(`window.waits = []; { const f = setTimeout; window.setTimeout = (g, ms) => {
				if (new Error().stack.includes("stream.js")) window.waits.push(ms); return f(g, ms) } }`)
			b.run(chromedp.Navigate(s.url()))
			b.until(`window.waits.length > 0`)
			if got := eval[int](b, `window.waits[0]`); got < tt.min || got > tt.max {
				t.Errorf("Retry-After: %s makes the page wait %d ms, want %d to %d", tt.retry, got, tt.min, tt.max)
			}
		})
	}
}

func TestHolesAreTold(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := newSite(t)
	b := open(t, s.url())
	b.state("Watching")
	s.tell(note("child_file_added", "a"))
	b.sees("child_file_added a")
	s.stop()
	b.state("Reconnecting")
	s.tell(note("child_file_added", "never seen"))
	s.set(func() { s.oldest = 2 })
	s.start()
	b.sees("child_file_added a", "mark")
	s.tell(note("child_file_added", "c"))
	b.sees("child_file_added a", "mark", "child_file_added c")
}

func TestWrongDirectoryIsNamed(t *testing.T) {
	s := newSite(t)
	b := open(t, s.url()+"#dir=%2Fnowhere")
	b.state("Not watching")
	b.until(`document.getElementById("detail").textContent.includes("404")`)
	eval[any](b, `document.getElementById("dir").select()`)
	b.run(chromedp.KeyEvent("/srv/data/" + kb.Enter)) // by keyboard
	b.state("Watching")
	s.tell(note("child_dir_added", "d"))
	b.sees("child_dir_added d")
}

func TestAddressWrittenByHand(t *testing.T) {
	s := newSite(t)
	b := open(t, s.url()+"#recursive=false&dir=/srv/a=b/é c")
	b.state("Not watching")
	if got := eval[string](b, `document.getElementById("dir").value`); got != "/srv/a=b/é c" {
		t.Errorf("the page watches %q", got)
	}
	if q, _ := s.last(); q.Get("recursive") != "false" {
		t.Errorf("asked with %v, want recursive=false", q)
	}
}

func TestIndexingIsShown(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := newSite(t)
	s.phase = "indexing"
	b := open(t, s.url())
	b.state("Indexing 42 %")
	s.set(func() { s.phase = "live" })
	b.state("Watching")
}

// Who is no administrator is not told how the roots are called: the page offers what that user may see.
func TestRootsWithoutNames(t *testing.T) {
	const some = `{"name":"joe","privileges":["notify","notify.recursive"],"paths":["/srv/data","/srv/more"]}`
	for _, tt := range []struct {
		name, who string
		roots     []string
		tree      []string
		recursive string
	}{
		{"one root", some, []string{""}, []string{"/srv/data", "/srv/more"}, "true"},
		{"several", some, []string{"", ""}, []string{"/srv/data", "/srv/more"}, "true"},
		{"of which this one tells", some, []string{"", "/srv/more"}, []string{"/srv/data", "/srv/more"}, "true"},
		{"an administrator of a part", strings.Replace(some, "/srv/more", "/srv/more/part", 1), []string{"/srv/data", "/srv/more"}, []string{"/srv/data", "/srv/more/part"}, "true"},
		{"an administrator of a directory above", strings.Replace(some, `"/srv/data"`, `"/"`, 1), []string{"/srv/data"}, []string{"/srv/data", "/srv/more"}, "true"},
		{"one directory at a time", strings.Replace(some, `,"notify.recursive"`, "", 1), []string{""}, []string{"/srv/data", "/srv/more"}, "false"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			s.names, s.who = tt.roots, tt.who
			b := open(t, s.url())
			b.state("Watching")
			s.tell(note("child_file_added", "a"))
			b.sees("child_file_added a")
			if q, _ := s.last(); q.Get("recursive") != tt.recursive {
				t.Errorf("asked with %v, want recursive=%s", q, tt.recursive)
			}
			if got := eval[[]string](b, `Array.from(document.querySelectorAll("#tree .name"), (n) => n.textContent)`); !slices.Equal(got, tt.tree) {
				t.Errorf("the tree shows %q, want %q", got, tt.tree)
			}
			if got := eval[[]string](b, `Array.from(document.querySelectorAll("#roots option"), (o) => o.value)`); !slices.Equal(got, tt.tree) {
				t.Errorf("%q are offered, want %q", got, tt.tree)
			}
		})
	}
}

// A root without a name says how it is all the same, if it is the only one; and who may see all without being told of what can name it.
func TestOneRootWithoutName(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := newSite(t)
	s.names, s.phase, s.who = []string{""}, "indexing", `{"name":"joe","privileges":["notify","notify.recursive"],"paths":null}`
	b := open(t, s.url())
	b.until(`document.getElementById("who-name").textContent === "joe"`)
	b.state("Pick a directory")
	b.run(chromedp.Focus(chromedp.ID("dir")), chromedp.KeyEvent("/srv/data"+kb.Enter))
	b.state("Indexing 42 %")
	s.set(func() { s.phase = "away" })
	b.state("Away")
	b.until(`document.getElementById("detail").textContent === "its root is not there at the moment"`)
	s.set(func() { s.phase = "live" })
	b.state("Watching")
}

func TestRemovedDirectoryIsSaidAndItsSuccessorIsWatched(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := newSite(t)
	b := open(t, s.url())
	b.state("Watching")
	s.tell(note("self_removed", ""))
	b.state("Not watching")
	b.sees("self_removed (the watched directory)")
	b.state("Watching") // the name is there again
}

func TestHostileNamesAreInert(t *testing.T) {
	names := []struct{ path, shown string }{
		{`<img src=x onerror="document.title='owned'">`, `<img src=x onerror="document.title='owned'">`},
		{`</span><script>document.title='owned'</script>`, `</span><script>document.title='owned'</script>`},
		{`"><svg onload=alert(1)>`, `"><svg onload=alert(1)>`},
		{"gpj.\u202eexe", `gpj.\u202eexe`},
		{"two\nlines\x1b[31m", `two\nlines\x1b[31m`},
		{"zero\u200bwidth", `zero\u200bwidth`},
		{"é 漢字 👩‍💻", "é 漢字 👩‍💻"},
	}
	s := newSite(t)
	b := open(t, s.url())
	b.state("Watching")
	var want []string
	for _, n := range names {
		s.tell(note("child_file_added", n.path))
		want = append(want, "child_file_added "+n.shown)
	}
	s.tell(strings.Replace(note("child_file_added", "lone"), `"lone"`, `"lone-\udc80\udcff"`, 1))
	want = append(want, `child_file_added lone-\x80\xff`)
	b.sees(want...)
	if got := eval[int](b, `document.querySelectorAll("#log img, #log script, #log svg, #log b, #detail *").length`); got != 0 {
		t.Errorf("%d elements were made of names", got)
	}
	if got := eval[string](b, `document.title`); strings.Contains(got, "owned") {
		t.Error("a name ran as a script")
	}
	if got := eval[int](b, `document.querySelectorAll(".row .esc").length`); got != 6 {
		t.Errorf("%d escapes are marked as such, want 6", got)
	}
}

func TestChipsNarrowWhatIsShownAndAsked(t *testing.T) {
	s := newSite(t)
	b := open(t, s.url())
	b.state("Watching")
	s.tell(note("child_file_added", "a"), note("child_data_written", "a"), note("child_file_removed", "a"))
	b.sees("child_file_added a", "child_data_written a", "child_file_removed a")
	b.run(chromedp.Focus(chromedp.CSS(`input[name="data"]`)), chromedp.KeyEvent(" ")) // by keyboard
	b.until(`document.querySelectorAll(".row").length === 2`)
	b.sees("child_file_added a", "child_file_removed a")
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		last, id := s.last()
		if filter := last.Get("filter"); filter != "" {
			if strings.Contains(filter, "child_data_written") || !strings.Contains(filter, "child_acl_changed") || id != "1.7" {
				t.Errorf("asked for %q from %q, want all but what was written, from where it was", filter, id)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the narrower set was never asked for")
		}
	}
	b.run(chromedp.Click(chromedp.ID("all")))
	b.sees("child_file_added a", "child_data_written a", "child_file_removed a")
}

func TestFloodIsCappedAndNothingIsMiscounted(t *testing.T) {
	s := newSite(t)
	b := open(t, s.url())
	b.state("Watching")
	const blocks, each = 400, 50
	for i := range blocks {
		notes := make([]string, each)
		for j := range notes {
			notes[j] = note("child_file_added", fmt.Sprintf("f%06d", i*each+j))
		}
		s.tell(notes...)
	}
	b.until(`document.getElementById("total").textContent === "20,000 in all"`)
	b.until(`document.querySelector(".row .path").textContent === "f019999"`)
	if got := eval[int](b, `Number(document.getElementById("log").getAttribute("aria-rowcount"))`); got != 5001 {
		t.Errorf("%d rows with the head, want the newest 5,000", got)
	}
	if got := eval[int](b, `document.querySelectorAll(".row").length`); got > 100 {
		t.Errorf("%d rows are in the document, want those in sight", got)
	}
	// What is in sight stays where it is while more comes.
	eval[int](b, `document.getElementById("view").scrollTop = 2800`)
	b.until(`!Array.from(document.querySelectorAll(".row .path"), (p) => p.textContent).includes("f019999")`)
	const middle = `(() => { const v = document.getElementById("view").getBoundingClientRect();
		return document.elementFromPoint(v.x + v.width / 2, v.y + v.height / 2).closest(".row").querySelector(".path").textContent })()`
	was := eval[string](b, middle)
	s.tell(note("child_file_added", "more"), note("child_file_added", "and more"))
	b.until(`document.getElementById("newest").textContent.includes("2 new")`)
	if now := eval[string](b, middle); now != was {
		t.Errorf("in the middle of the view was %q, is %q", was, now)
	}
	b.run(chromedp.Click(chromedp.ID("newest")))
	b.until(`document.querySelector(".row .path").textContent === "and more"`)
}

func TestPauseHoldsTheViewAndLosesNothing(t *testing.T) {
	s := newSite(t)
	b := open(t, s.url())
	b.state("Watching")
	s.tell(note("child_file_added", "a"))
	b.sees("child_file_added a")
	b.run(chromedp.Click(chromedp.ID("pause")))
	s.tell(note("child_file_added", "b"), note("child_file_added", "c"))
	b.until(`document.getElementById("pause").textContent === "Resume (2 new)"`)
	b.sees("child_file_added a")
	b.run(chromedp.Click(chromedp.ID("pause")))
	b.sees("child_file_added a", "child_file_added b", "child_file_added c")
}

func TestSearchNarrowsWhatIsShown(t *testing.T) {
	s := newSite(t)
	b := open(t, s.url())
	b.state("Watching")
	s.tell(note("child_file_added", "dir/Report.txt"), note("child_file_removed", "dir/Report.txt"), note("child_file_added", "other"))
	b.until(`document.querySelectorAll(".row").length === 3`)
	b.run(chromedp.KeyEvent("/"))
	b.until(`document.activeElement.id === "search"`)
	eval[any](b, `void (document.getElementById("search").value = "")`) // where a key event comes in two parts
	b.run(chromedp.KeyEvent("report added"))
	b.until(`document.querySelectorAll(".row").length === 1`)
	b.sees("child_file_added dir/Report.txt")
	s.tell(note("child_file_added", "a new report"), note("child_file_added", "no"))
	b.sees("child_file_added dir/Report.txt", "child_file_added a new report")
	b.run(chromedp.KeyEvent(kb.Escape))
	b.until(`document.querySelectorAll(".row").length === 5`)
}

func TestDetailsOfANotification(t *testing.T) {
	s := newSite(t)
	b := open(t, s.url())
	b.state("Watching")
	s.tell(strings.Replace(note("child_file_added", "dir/a<b>"), `"size":1234`, `"size":1234,"mode":"0644","actor":{"pid":4242,"uid":1000,"command":"cp"}`, 1), note("child_file_added", "other"))
	b.sees("child_file_added dir/a<b>", "child_file_added other")
	b.run(chromedp.Focus(chromedp.ID("view")), chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.ArrowDown)) // by keyboard: the newest, then the one before
	b.until(`!document.getElementById("details").hidden`)
	text := eval[string](b, `document.getElementById("details").innerText`)
	for _, want := range []string{"/srv/data/dir/a<b>", "0644", "1,234 bytes", "cp (process 4242, user 1000)", "7 › 9007199254740993"} {
		if !strings.Contains(text, want) {
			t.Errorf("the details lack %q: %q", want, text)
		}
	}
	b.run(chromedp.KeyEvent(kb.Escape))
	b.until(`document.getElementById("details").hidden`)
	b.run(chromedp.Click(chromedp.CSS(".row")))
	b.until(`document.getElementById("details").innerText.includes("/srv/data/other")`)
}

func TestReplayFromTheOldest(t *testing.T) {
	s := newSite(t)
	s.tell(note("child_file_added", "long ago"))
	b := open(t, s.url())
	b.state("Watching")
	eval[any](b, `(() => { const f = document.getElementById("from"); f.value = "oldest"; f.dispatchEvent(new Event("change")) })()`)
	b.sees("child_file_added long ago")
	if q, _ := s.last(); q.Get("since") != "oldest" {
		t.Errorf("asked with %v, want since=oldest", q)
	}
	s.tell(note("child_file_added", "now"))
	b.sees("child_file_added long ago", "child_file_added now")
	s.stop()
	b.state("Reconnecting")
	s.start()
	b.state("Watching")
	s.tell(note("child_file_added", "later"))
	b.sees("child_file_added long ago", "child_file_added now", "child_file_added later")
}

func TestCommandsSayTheSame(t *testing.T) {
	s := newSite(t)
	b := open(t, s.url())
	b.state("Watching")
	b.run(chromedp.Click(chromedp.CSS(`input[name="data"]`)))
	b.run(chromedp.Click(chromedp.ID("copy-curl")))
	curl := eval[string](b, `document.getElementById("command-text").value`)
	if !strings.HasPrefix(curl, "curl -N '"+s.url()+"v1/files/%2Fsrv%2Fdata/notify?recursive=true&filter=child_file_added,") || strings.Contains(curl, "child_data_written") {
		t.Errorf("as curl: %s", curl)
	}
	b.run(chromedp.Click(chromedp.ID("copy-cli")))
	cli := eval[string](b, `document.getElementById("command-text").value`)
	host, port, _ := net.SplitHostPort(s.addr)
	if !strings.HasPrefix(cli, "fs_notify --host "+host+" --port "+port+" --path /srv/data --recursive --filter child_file_added,") {
		t.Errorf("as fs_notify: %s", cli)
	}
	// What a shell makes of it is what was meant.
	out, err := exec.Command("sh", "-c", "printf '%s\\n' "+strings.TrimPrefix(curl, "curl ")).Output()
	if err != nil || !strings.HasPrefix(string(out), "-N\n"+s.url()+"v1/files/") {
		t.Errorf("sh: %q, %v", out, err)
	}
}

// The command of a page that came over TLS reaches the same port in the same way.
func TestCommandOverTLS(t *testing.T) {
	other := httptest.NewTLSServer(nil) // for its certificate
	other.Close()
	s := newSiteWith(t, &tls.Config{Certificates: other.TLS.Certificates})
	b := open(t, s.url())
	b.state("Watching")
	b.run(chromedp.Click(chromedp.ID("copy-cli")))
	host, port, _ := net.SplitHostPort(s.addr)
	if cli, want := eval[string](b, `document.getElementById("command-text").value`), "fs_notify --host "+host+" --port "+port+" --tls --path /srv/data "; !strings.HasPrefix(cli, want) {
		t.Errorf("as fs_notify: %s, want %s…", cli, want)
	}
}

// What is not UTF-8 becomes lone surrogates, a byte each, and bytes again in a reference.
func TestEveryNameSurvivesAReference(t *testing.T) {
	s := newSite(t)
	b := open(t, s.url())
	eval[any](b, `void import("./page/words.js").then(({ decodeRef, encodeRef }) => {
		const escape = (bytes) => bytes.map((b) => "%" + b.toString(16).padStart(2, "0")).join("");
		const unescape = (ref) => ref.replace(/%(..)/g, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
		const names = ["é", "漢字", "👩‍💻", "%41", "a+b c", "zero\u200bwidth\n"].map((n) => [...new TextEncoder().encode(n)]);
		for (let i = 0; i < 1 << 16; i += 7) names.push([i >> 8, i & 255], [0x61, 0xe2, i >> 8, i & 255, 0x62], [0xf0, i >> 8, i & 255, 0x80]);
		const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
		names.push([0xed, 0xa0, 0x80], [0xc0, 0x80], [0xf4, 0x90, 0x80, 0x80]);
		window.wrong = names.filter((bytes) => {
			const name = decodeRef(escape(bytes)), bad = !name.isWellFormed();
			let text = null;
			try { text = utf8.decode(new Uint8Array(bytes)); } catch { /* it is not */ }
			return unescape(encodeRef(name)) !== String.fromCharCode(...bytes) || (text === null ? !bad : name !== text);
		}).map(escape);
	})`)
	b.until(`window.wrong !== undefined`)
	if got := eval[[]string](b, `window.wrong.slice(0, 9)`); len(got) > 0 {
		t.Errorf("these bytes do not come back: %q…", got)
	}
}

// A name that no shell can hold is replaced by a file ID, which is known once the directory is watched.
func TestNoCommandForWhatCannotBeNamed(t *testing.T) {
	s := newSite(t)
	b := open(t, s.url()+"#dir=%2Fbyte-%FF")
	b.state("Not watching")
	b.run(chromedp.Click(chromedp.ID("copy-cli")))
	b.until(`document.getElementById("copied").textContent === "once it is watched"`)
	if got := eval[string](b, `document.getElementById("command-text").value`); got != "" {
		t.Errorf("the command is %q", got)
	}
}

// A browser has an IPv6 address in brackets, --host without.
func TestCommandOverIPv6(t *testing.T) {
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skip(err)
	} else {
		l.Close()
	}
	s := newSiteAt(t, "[::1]:0", nil)
	b := open(t, s.url())
	b.state("Watching")
	b.run(chromedp.Click(chromedp.ID("copy-cli")))
	_, port, _ := net.SplitHostPort(s.addr)
	if cli, want := eval[string](b, `document.getElementById("command-text").value`), "fs_notify --host ::1 --port "+port+" --path /srv/data "; !strings.HasPrefix(cli, want) {
		t.Errorf("as fs_notify: %s, want %s…", cli, want)
	}
}

func TestTreeAndChartShowWhereAndHowMuch(t *testing.T) {
	s := newSite(t)
	b := open(t, s.url())
	b.state("Watching")
	b.run(chromedp.Focus(chromedp.CSS(`#tree [tabindex="0"]`)), chromedp.KeyEvent(kb.ArrowRight)) // by keyboard: open it
	b.until(`document.querySelectorAll("#tree [role=treeitem]").length === 3`)
	if got := eval[[]string](b, `Array.from(document.querySelectorAll("#tree .name"), (n) => n.textContent)`); !slices.Equal(got, []string{"/srv/data", "busy", "quiet"}) {
		t.Errorf("the tree shows %q", got)
	}
	for range 10 {
		s.tell(note("child_file_added", "busy/x"), note("child_file_removed", "busy/x"))
	}
	const heat = `Array.from(document.querySelectorAll("#tree .heat"), (h) => Number(h.style.getPropertyValue("--heat")))`
	b.until(heat + `[1] > 0.2`)
	if got := eval[[]float64](b, heat); got[2] != 0 || got[0] < got[1] {
		t.Errorf("the heat is %v, want none of quiet, and at the top at least that of busy", got)
	}
	b.until(`document.getElementById("chart").getAttribute("aria-label").search(/at most [1-9]/) > 0`)
	const inks = `(() => { const c = document.getElementById("chart"), d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data, seen = new Set();
		for (let i = 0; i < d.length; i += 4) if (d[i + 3] === 255) seen.add(d[i] + "," + d[i + 1] + "," + d[i + 2]);
		return seen.size })()`
	if got := eval[int](b, inks); got < 2 {
		t.Errorf("%d colours are in the chart, want those of what was added and what was removed", got)
	}
	b.run(chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.Enter)) // watch busy
	b.until(`document.getElementById("dir").value === "/srv/data/busy"`)
}

func TestLogIn(t *testing.T) {
	s := newSite(t)
	s.locked = true
	b := open(t, s.url())
	b.until(`document.getElementById("door").open && document.getElementById("by-password").hidden`)
	b.run(chromedp.Focus(chromedp.ID("token")), chromedp.KeyEvent("open"+kb.Enter))
	b.until(`document.getElementById("door-says").textContent === "that is <i>not</i> it"`)
	eval[any](b, `document.getElementById("token").select()`)
	b.run(chromedp.KeyEvent("sesame" + kb.Enter))
	b.until(`!document.getElementById("door").open && document.getElementById("who-name").textContent === "ali<b>"`)
	b.state("Watching")
	s.tell(note("child_file_added", "a"))
	b.sees("child_file_added a")
	if got := eval[string](b, `document.cookie`); got != "" {
		t.Errorf("scripts can see %q", got)
	}
	b.run(chromedp.Click(chromedp.ID("logout")))
	b.until(`document.getElementById("door").open`)
	if rows := b.rows(); len(rows) != 0 {
		t.Errorf("after logging out the page shows %q", rows)
	}
}

// A session that ends is no hole: the same user goes on where the page was, and what cannot be had is marked. Another one is shown nothing of it.
func TestAfterTheSession(t *testing.T) {
	for _, tt := range []struct {
		name, who string
		oldest    int
		want      []string
	}{
		{"the same user", `{"name":"ali<b>"}`, 0, []string{"child_file_added before", "child_file_added missed", "child_file_added after"}},
		{"too late", `{"name":"ali<b>"}`, 2, []string{"child_file_added before", "mark", "child_file_added after"}},
		{"another user", `{"name":"bob"}`, 0, []string{"child_file_added after"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // it waits more than it works
			s := newSite(t)
			s.locked = true
			b := open(t, s.url())
			b.login("sesame")
			b.state("Watching")
			s.tell(note("child_file_added", "before"))
			b.sees("child_file_added before")
			s.set(func() { s.session = "2" })
			s.stop()
			s.start()
			b.until(`document.getElementById("door").open`)
			s.tell(note("child_file_added", "missed"))
			s.set(func() { s.oldest, s.who = tt.oldest, tt.who })
			b.login("sesame")
			b.state("Watching")
			s.tell(note("child_file_added", "after"))
			b.sees(tt.want...)
		})
	}
}

// A thousand notifications a second, each in a block of its own: the page still answers, and counts them all.
func TestAThousandASecond(t *testing.T) {
	s := newSite(t)
	b := open(t, s.url())
	b.state("Watching")
	eval[any](b, `void (window.frames = 0, (function f() { window.frames++; requestAnimationFrame(f) })())`)
	var telling sync.WaitGroup
	const all = 3000
	telling.Go(func() {
		for i := range all {
			s.tell(note("child_file_added", fmt.Sprintf("d%d/f%d", i%50, i)))
			time.Sleep(time.Millisecond)
		}
	})
	for range 3 { // used meanwhile
		b.run(chromedp.Click(chromedp.ID("pause")))
		b.until(`document.getElementById("pause").textContent.startsWith("Resume")`)
		was := eval[int](b, `window.frames`)
		b.until(fmt.Sprintf(`window.frames > %d`, was))
		b.run(chromedp.Click(chromedp.ID("pause")))
		b.until(`document.getElementById("pause").textContent === "Pause"`)
	}
	telling.Wait()
	b.until(`document.getElementById("total").textContent === "3,000 in all"`)
	b.until(fmt.Sprintf(`document.querySelector(".row .path").textContent === "d%d/f%d"`, (all-1)%50, all-1))
}

// While it is paused, a page leaves to the server what it cannot keep, and fetches it when it goes on.
func TestALongPauseLosesNothing(t *testing.T) {
	s := newSite(t)
	b := open(t, s.url())
	b.state("Watching")
	s.tell(note("child_file_added", "before"))
	b.sees("child_file_added before")
	b.run(chromedp.Click(chromedp.ID("pause")))
	const blocks, each = 130, 50
	n := 0
	for range blocks {
		notes := make([]string, each)
		for j := range notes {
			notes[j] = note("child_file_added", fmt.Sprintf("f%d", n))
			n++
		}
		s.tell(notes...)
		time.Sleep(2 * time.Millisecond)
	}
	b.until(`/^Resume \([56],\d+ new\)$/.test(document.getElementById("pause").textContent)`)
	b.sees("child_file_added before")
	const saysWhy = `document.getElementById("detail").textContent === "what happens is told when the pause is over"`
	b.until(saysWhy)
	if !eval[bool](b, `(document.dispatchEvent(new Event("visibilitychange")), `+saysWhy+`)`) {
		t.Error("to look at the page ended the pause")
	}
	b.run(chromedp.Click(chromedp.ID("pause")))
	b.until(fmt.Sprintf(`document.getElementById("total").textContent === "%d,%03d in all"`, (n+1)/1000, (n+1)%1000))
	b.until(fmt.Sprintf(`document.querySelector(".row .path").textContent === "f%d"`, n-1))
}

// Over HTTP/1.1 all tabs of a browser have six connections to one server. Those that nobody looks at do without, and miss nothing.
func TestMoreTabsThanConnections(t *testing.T) {
	s := newSite(t)
	var tabs []*tab
	for i := range 8 {
		b := newTab(t, chromedp.WithNewWindow(i == 0))
		b.run(chromedp.Navigate(s.url()))
		b.state("Watching")
		b.set("stream", "Stream.rest", 0)
		tabs = append(tabs, b)
	}
	for _, b := range tabs[:len(tabs)-1] {
		b.state("In the background")
		if got, want := eval[string](b, `document.title`), "In the background · /srv/data · fs_notify"; got != want {
			t.Errorf("the title is %q, want %q", got, want)
		}
	}
	s.tell(note("child_file_added", "a"))
	for _, b := range tabs {
		b.front()
		b.state("Watching")
		b.sees("child_file_added a")
	}
	s.tell(note("child_file_added", "b"))
	for _, b := range tabs {
		b.front()
		b.sees("child_file_added a", "child_file_added b")
	}
}

func TestAGlanceElsewhereCostsNothing(t *testing.T) {
	s := newSite(t)
	b := open(t, s.url())
	b.state("Watching")
	b.set("stream", "Stream.rest", 1<<30)
	newTab(t, sharing).run(chromedp.Navigate("about:blank"))
	b.until(`document.hidden`)
	s.tell(note("child_file_added", "a"))
	b.until(`document.getElementById("total").textContent === "1 in all"`)
	b.front()
	b.sees("child_file_added a")
	s.set(func() {
		if len(s.queries) != 1 {
			t.Errorf("the stream was asked for %d times, want once", len(s.queries))
		}
	})
}

// A stream that was put aside before its first id comes back with what was told meanwhile.
func TestBackgroundBeforeAnyID(t *testing.T) {
	s := newSite(t)
	s.noID = true
	b := open(t, s.url())
	b.state("Watching")
	b.set("stream", "Stream.rest", 0)
	newTab(t, sharing).run(chromedp.Navigate("about:blank"))
	b.state("In the background")
	s.tell(note("child_file_added", "meanwhile"))
	b.front()
	b.sees("child_file_added meanwhile")
	if q, _ := s.last(); q.Get("since") == "" {
		t.Errorf("asked with %v, want since= as there was no id", q)
	}
}

// As long as the stream says something, the server is there.
func TestHeardIsReachable(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := newSite(t)
	b := open(t, s.url())
	b.state("Watching")
	judged := func() { // the page has made up its mind about at least one question asked from now on
		t.Helper()
		was := 0
		s.set(func() { was = s.asked })
		eval[any](b, `void window.dispatchEvent(new Event("online"))`)
		for deadline, now := time.Now().Add(patience), was; now < was+2; time.Sleep(10 * time.Millisecond) {
			s.set(func() { now = s.asked })
			if time.Now().After(deadline) {
				t.Fatal("the page does not ask any more")
			}
		}
	}
	s.set(func() { s.mute = true })
	judged()
	if got := eval[string](b, `document.getElementById("state-text").textContent`); got != "Watching" {
		t.Errorf("the page says %q of a server that tells it what happens", got)
	}
	b.set("stream", "Stream.quiet", 0) // for too long nothing was heard
	b.until(`document.getElementById("detail").textContent === "the server does not answer"`)
	s.set(func() { s.mute = false })
	b.state("Watching")
	s.tell(note("child_file_added", "a"))
	b.sees("child_file_added a")
}

func TestEverythingThatCanBeUsedHasAName(t *testing.T) {
	s := newSite(t)
	b := open(t, s.url())
	b.state("Watching")
	tree, err := chromedp.Call(b.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	if err != nil {
		t.Fatal(err)
	}
	usable := []string{"button", "textbox", "combobox", "checkbox", "table", "group", "form", "region", "searchbox", "tree", "treeitem"}
	seen := 0
	for _, n := range tree.Nodes {
		if n.Ignored || n.Role == nil || !slices.Contains(usable, unquote(n.Role.Value)) {
			continue
		}
		seen++
		if n.Name == nil || unquote(n.Name.Value) == "" {
			t.Errorf("a %s (node %s) has no name", n.Role.Value, n.NodeID)
		}
	}
	if seen < 20 {
		t.Errorf("only %d things can be used", seen)
	}
}

func unquote(v []byte) string {
	var s string
	json.Unmarshal(v, &s)
	return s
}
