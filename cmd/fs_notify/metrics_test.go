package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"fs_notify/notify"
	"fs_notify/notify/journal"
	"fs_notify/server"
)

// logLines keeps what a command writes, for a test that reads along.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// find waits for a line that matches, and gives its first group.
func (l *logLines) find(t *testing.T, re string) string {
	t.Helper()
	exp := regexp.MustCompile(re)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if m := exp.FindStringSubmatch(l.String()); m != nil {
			return m[len(m)-1]
		}
	}
	t.Fatalf("waited in vain for %s in\n%s", re, l)
	return ""
}

// serveHere runs fs_notify serve in this process until the test ends, and gives its URL and its log.
func serveHere(t *testing.T, args ...string) (url string, log *logLines) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log = &logLines{}
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...), strings.NewReader(""), io.Discard, log)
	}()
	t.Cleanup(func() {
		cancel()
		if got := <-code; got != 0 {
			t.Errorf("fs_notify serve ended with %d\n%s", got, log)
		}
	})
	return strings.TrimSuffix(log.find(t, `"msg":"serving".*"url":"([^"]+)"`), "/"), log
}

// fetch gets a URL.
func fetch(t *testing.T, url string) (status int, body string) {
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
	return resp.StatusCode, string(b)
}

// eventually repeats f until it says that it is content.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// samples gives the samples of an exposition, by name and labels.
func samples(text string) map[string]string {
	out := make(map[string]string)
	for line := range strings.Lines(text) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			out[line[:i]] = strings.TrimSpace(line[i:])
		}
	}
	return out
}

// A file that is made, and read of by one client, moves what should move; nothing names it; and every metric that the dashboard
// asks for exists.
func TestMetrics(t *testing.T) {
	dir := t.TempDir()
	url, _ := serveHere(t, "--root", "/secret="+dir, "--state-dir", t.TempDir(), "--watcher", "inotify")
	eventually(t, "readiness", func() bool { status, _ := fetch(t, url+"/readyz"); return status == 200 })
	req, _ := http.NewRequest("GET", url+"/v1/files/%2Fsecret/notify?recursive=true", nil)
	req.Header.Set("Accept", "text/event-stream")
	stream, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	events := bufio.NewScanner(stream.Body)
	for events.Scan() && !strings.HasPrefix(events.Text(), "id:") {
	}
	if err := os.WriteFile(filepath.Join(dir, "hidden"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for events.Scan() && !strings.Contains(events.Text(), "child_file_added") {
	}
	fetch(t, url+"/v1/files/%2Fsecret%2Fhidden/info/attributes")

	var text string
	var got map[string]string
	eventually(t, "what was appended and written to be counted", func() bool { // which is done right after it: a client may be faster
		_, text = fetch(t, url+"/metrics")
		got = samples(text)
		return got[`fs_notify_delivered_notifications_total{protocol="qumulo"}`] == "1" && got[`fs_notify_notifications_total{type="child_file_added"}`] == "1" // the last ones
	})
	for name, want := range map[string]string{
		`fs_notify_notifications_total{type="child_file_added"}`:            "1",
		`fs_notify_notifications_total{type="child_dir_removed"}`:           "0",
		`fs_notify_batch_notifications_count`:                               "1",
		`fs_notify_journal_append_duration_seconds_count`:                   "1",
		`fs_notify_delivered_notifications_total{protocol="qumulo"}`:        "1",
		`fs_notify_streams_opened_total{protocol="qumulo"}`:                 "1",
		`fs_notify_streams{state="live"}`:                                   "1",
		`fs_notify_streams{state="behind"}`:                                 "0",
		`fs_notify_streams_lag_max_seconds`:                                 "0",
		`fs_notify_roots{phase="live"}`:                                     "1",
		`fs_notify_roots{phase="away"}`:                                     "0",
		`fs_notify_entries`:                                                 "2",
		`fs_notify_indexing_progress_ratio`:                                 "1",
		`fs_notify_dirty_names`:                                             "0",
		`fs_notify_journal_up`:                                              "1",
		`fs_notify_journal_unsaved_batches`:                                 "0",
		`fs_notify_http_requests_total{code="200",route="/v1/files/*"}`:     "2",
		`fs_notify_sweep_duration_seconds_count`:                            "0",
		`fs_notify_kernel_overflows_total`:                                  "0",
		`fs_notify_journal_lost_batches_total`:                              "0",
		`fs_notify_delivered_notifications_total{protocol="no such thing"}`: "",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	for _, name := range []string{"fs_notify_kernel_records_total", "fs_notify_looks_total", `fs_notify_delivered_bytes_total{protocol="qumulo"}`, "fs_notify_journal_disk_bytes",
		"fs_notify_journal_memory_bytes", "fs_notify_journal_head_seq", "fs_notify_journal_head_timestamp_seconds", "fs_notify_journal_oldest_timestamp_seconds",
		"fs_notify_journal_sync_duration_seconds", `fs_notify_http_request_duration_seconds_count{route="/readyz"}`, "process_resident_memory_bytes", "process_open_fds", "go_goroutines"} {
		if got[name] == "" || got[name] == "0" {
			t.Errorf("%s is %q, want more than 0", name, got[name])
		}
	}
	for _, name := range []string{"secret", "hidden", dir} {
		if strings.Contains(text, name) {
			t.Errorf("/metrics names %s", name)
		}
	}
	stream.Body.Close()
	eventually(t, "the end of the stream", func() bool {
		_, text = fetch(t, url+"/metrics")
		return samples(text)[`fs_notify_streams_closed_total{protocol="qumulo",reason="client"}`] == "1"
	})
	testDashboard(t, samples(text))
	testAlerts(t, samples(text))
	testManual(t, text)
}

var metricName = regexp.MustCompile(`\b(?:fs_notify|process|go)_[a-z_]+\b`)

// namesOf gives the metrics that samples are of.
func namesOf(given map[string]string) map[string]bool {
	names := make(map[string]bool)
	for sample := range given {
		name, _, _ := strings.Cut(sample, "{")
		names[name] = true
	}
	return names
}

// testDashboard asks whether every metric of the dashboard is among those that are given.
func testDashboard(t *testing.T, given map[string]string) {
	names := namesOf(given)
	text, err := os.ReadFile("../../deploy/grafana/fs_notify.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct{ List []struct{ Query string } }
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	asked := 0
	ask := func(where, expr string) {
		for _, name := range metricName.FindAllString(expr, -1) {
			asked++
			if !names[name] {
				t.Errorf("the dashboard's %q asks for %s, which /metrics does not have", where, name)
			}
		}
	}
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			ask(p.Title, target.Expr)
		}
	}
	for _, v := range board.Templating.List {
		ask("variables", v.Query)
	}
	if asked < 30 {
		t.Errorf("only %d metrics were found in the dashboard: the test looks at the wrong places", asked)
	}
}

// testAlerts asks whether the rules in docs/operations.md can be read as YAML, and ask for metrics that are given.
func testAlerts(t *testing.T, given map[string]string) {
	manual, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	names := namesOf(given)
	_, text, _ := strings.Cut(string(manual), "```yaml\ngroups:")
	text, _, _ = strings.Cut(text, "```")
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal([]byte("groups:"+text), &file); err != nil {
		t.Fatal(err)
	}
	alerts := make(map[string]bool)
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			alerts[r.Alert] = true
			asked := metricName.FindAllString(r.Expr, -1)
			for _, name := range asked {
				if !names[name] {
					t.Errorf("the alert %s asks for %s, which /metrics does not have", r.Alert, name)
				}
			}
			// A server that is not there has no series: only Prometheus' own tells of it.
			if len(asked) == 0 && !strings.Contains(r.Expr, `up{job="fs_notify"}`) {
				t.Errorf("the alert %s asks for nothing: %s", r.Alert, r.Expr)
			}
		}
	}
	for _, want := range []string{"FsNotifyDown", "FsNotifyJournalDown"} {
		if !alerts[want] {
			t.Errorf("docs/operations.md has no alert %s", want)
		}
	}
}

// testManual asks whether docs/operations.md has all the metrics of our own, and no others.
func testManual(t *testing.T, exposition string) {
	manual, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	var given, told []string
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (fs_notify_[a-z_]+) `).FindAllStringSubmatch(exposition, -1) {
		given = append(given, m[1])
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(fs_notify_[a-z_]+)").FindAllStringSubmatch(string(manual), -1) {
		told = append(told, m[1])
	}
	for _, name := range given {
		if !slices.Contains(told, name) {
			t.Errorf("docs/operations.md lacks %s", name)
		}
	}
	for _, name := range told {
		if !slices.Contains(given, name) {
			t.Errorf("docs/operations.md has %s, which /metrics does not", name)
		}
	}
}

// manyDegraded is one root with more degraded directories than are named.
type manyDegraded struct{ server.Files }

func (manyDegraded) Roots() []notify.RootState {
	return []notify.RootState{{Name: "/data", Phase: notify.Live, Entries: 7, Degraded: make([]notify.Degraded, 100), DegradedCount: 12345}}
}

// Degraded directories are counted, not those that are named.
func TestDegradedDirectoriesAreCounted(t *testing.T) {
	e, err := openEngine(engineConfig{roots: someRoot(t), watcher: "poll", log: quietLog})
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	e.files = manyDegraded{e.files}
	m := newMetrics()
	m.collect(e, someServer(e))
	w := httptest.NewRecorder()
	m.handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if got := samples(w.Body.String())["fs_notify_degraded_directories"]; got != "12345" {
		t.Errorf("fs_notify_degraded_directories is %q, want 12345", got)
	}
	if words := e.words(); !strings.Contains(words, "12345 directories degraded") {
		t.Errorf("systemd is told %q", words)
	}
}

// The names are as Prometheus' own linter wants them.
func TestMetricNames(t *testing.T) {
	e, err := openEngine(engineConfig{roots: someRoot(t), watcher: "poll", stateDir: t.TempDir(), log: quietLog})
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	m := newMetrics()
	m.collect(e, someServer(e))
	m.Request("/healthz", 200, time.Millisecond)
	m.StreamOpened("qumulo")
	m.StreamSent("qumulo", 1, 100)
	m.StreamClosed("qumulo", "client")
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// What happens for each write to a client, and for each batch, allocates nothing for being counted.
func TestCountingAllocatesNothing(t *testing.T) {
	m := newMetrics()
	if n := testing.AllocsPerRun(100, func() { m.StreamSent("qumulo", 3, 1000) }); n != 0 {
		t.Errorf("StreamSent allocates %v times", n)
	}
	sink := m.sink(nothingSink{})
	notes := make([]notify.Notification, 100)
	if n := testing.AllocsPerRun(100, func() { sink.Append(context.Background(), 1, notes) }); n != 0 {
		t.Errorf("Append allocates %v times", n)
	}
	if got := testutil.ToFloat64(m.types[0]); got != 101*100 {
		t.Errorf("%v notifications were counted, want %d", got, 101*100)
	}
}

type nothingSink struct{}

func (nothingSink) Append(context.Context, notify.FileID, []notify.Notification) (notify.BatchNumber, error) {
	return 1, nil
}

// What is refused is not counted.
func TestRefusedBatchesAreNotCounted(t *testing.T) {
	m, log := newMetrics(), journal.NewMemory(journal.MemoryOptions{})
	log.Close()
	if _, err := m.sink(log).Append(t.Context(), 1, make([]notify.Notification, 1)); err == nil {
		t.Fatal("a closed journal took a batch")
	}
	if got := testutil.ToFloat64(m.types[0]); got != 0 {
		t.Errorf("%v notifications were counted, want 0", got)
	}
}
