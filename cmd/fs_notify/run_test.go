package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// runHere runs the command in this process; it ends with ctx.
func runHere(ctx context.Context, stdin io.Reader, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(ctx, args, stdin, &out, &errs)
	return code, out.String(), errs.String()
}

// A second start in one process, as run promises, and an end by context instead of by a signal.
func TestRunEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		code, stdout, stderr := runHere(ctx, strings.NewReader(""), "--path", dir, "--watcher", "poll", "--json")
		cancel()
		if code != 0 || stdout != "[\n\n]\n" {
			t.Fatalf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
		}
	}
}

// The head of the output says that the watch is in force: whoever never reached the server prints none, however it ends.
func TestNoHeadWithoutAWatch(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "not now", http.StatusServiceUnavailable)
		cancel()
	}))
	defer srv.Close()
	host, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	for _, form := range []string{"--json", "--ndjson", "--fields=qumulo"} {
		if code, stdout, stderr := runHere(ctx, nil, "--host", host, "--port", port, "--path", "/d", form); code != 0 || stdout != "" {
			t.Errorf("%s: exit %d, stdout %q, stderr %q", form, code, stdout, stderr)
		}
	}
}

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }

// The cursor does not move past output that was never written.
func TestOutputFails(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, ": watching\n\nid: 4096.7\n\ndata: [{\"type\":\"child_file_added\",\"spine\":[\"7\",\"8\"],\"path\":\"f\",\"stream_name\":null}]\nid: 8192.7\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer srv.Close()
	host, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	cursor := filepath.Join(t.TempDir(), "cursor")
	var errs bytes.Buffer
	code := run(t.Context(), []string{"--host", host, "--port", port, "--path", "/d", "--ndjson", "--cursor-file", cursor}, nil, failingWriter{errors.New("disk full")}, &errs)
	if text, _ := os.ReadFile(cursor); code != 1 || !strings.Contains(errs.String(), "disk full") || string(text) != "4096.7\n" {
		t.Errorf("exit %d, stderr %q, cursor %q", code, errs.String(), text)
	}
}

// A cursor of another directory is refused before a word of its past is written, though the server cannot say yet what has the path.
func TestForeignCursorAtABusyServer(t *testing.T) {
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/info/attributes") {
			if asked++; asked == 1 {
				http.Error(w, "it is being indexed", http.StatusServiceUnavailable)
				return
			}
			io.WriteString(w, `{"id":"9"}`)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: [{\"type\":\"child_file_added\",\"spine\":[\"7\",\"8\"],\"path\":\"f\",\"stream_name\":null}]\nid: 8192.7\n\n: watching\n\nid: 8193.7\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer srv.Close()
	host, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	cursor := filepath.Join(t.TempDir(), "cursor")
	if err := os.WriteFile(cursor, []byte("4096.7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	code, stdout, stderr := runHere(ctx, nil, "--host", host, "--port", port, "--path", "/d", "--ndjson", "--cursor-file", cursor)
	if text, _ := os.ReadFile(cursor); code != 1 || !strings.Contains(stderr, "belongs to another directory: it names the file ID 7, but /d has 9") || stdout != "" || string(text) != "4096.7\n" {
		t.Errorf("exit %d, stdout %q, stderr %q, cursor %q", code, stdout, stderr, text)
	}
}

// Output that cannot even begin ends the command, though nothing ever happens in the directory.
func TestOutputCannotBegin(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, ": watching\n\nid: 4096.7\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer srv.Close()
	host, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	var errs bytes.Buffer
	code := run(t.Context(), []string{"--host", host, "--port", port, "--path", "/d"}, nil, failingWriter{errors.New("disk full")}, &errs)
	if code != 1 || !strings.Contains(errs.String(), "disk full") {
		t.Errorf("exit %d, stderr %q", code, errs.String())
	}
}

// A check that did not come to its end has not found the journal whole, and a token that nobody read is lost: only what is a stream
// may end where its reader does.
func TestOnlyStreamsEndWithTheirReader(t *testing.T) {
	dir := t.TempDir()
	state, tokens := filepath.Join(dir, "state"), filepath.Join(dir, "tokens.yaml")
	soon, stop := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer stop()
	watched := t.TempDir()
	if err := os.WriteFile(filepath.Join(watched, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := runHere(soon, nil, "--path", watched, "--watcher", "poll", "--state-dir", state); code != 0 {
		t.Fatalf("exit %d, stderr %q", code, stderr)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	gone := failingWriter{&os.PathError{Op: "write", Path: "|1", Err: syscall.EPIPE}}
	for _, tt := range []struct {
		ctx  context.Context
		args string
		want int
	}{
		{t.Context(), "--path " + watched + " --watcher poll", 0},
		{t.Context(), "--path " + watched + " --watcher poll --json --since snapshot", 0},
		{t.Context(), "journal dump --state-dir " + state, 0},
		{t.Context(), "journal check --state-dir " + state, 1},
		{ended, "journal check --state-dir " + state, 1},
		{t.Context(), "token create a --tokens " + tokens, 1},
		{t.Context(), "token list --tokens " + tokens, 1},
	} {
		var stderr bytes.Buffer
		if code := run(tt.ctx, strings.Fields(tt.args), nil, gone, &stderr); code != tt.want {
			t.Errorf("%s: exit %d, want %d; %s", tt.args, code, tt.want, &stderr)
		}
	}
}

// A token that could not be printed is not in the file: it can be made again, and nobody waits for one that is known to none.
func TestTokenThatCannotBePrinted(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens.yaml")
	create := func(name string, out io.Writer) (int, string) {
		var stderr bytes.Buffer
		return run(t.Context(), []string{"token", "create", name, "--tokens", tokens}, nil, out, &stderr), stderr.String()
	}
	full := failingWriter{syscall.ENOSPC}
	for range 2 {
		if code, said := create("a", full); code != exitFailed || !strings.Contains(said, "cannot be printed, and was taken back: ") || strings.Contains(said, "keep it") {
			t.Errorf("exit %d, %q", code, said)
		}
	}
	for _, name := range []string{"a", "b"} {
		if code, said := create(name, io.Discard); code != exitDone || !strings.Contains(said, "keep it") {
			t.Errorf("%s: exit %d, %q", name, code, said)
		}
	}
	before, _ := os.ReadFile(tokens)
	create("c", full)
	if after, err := os.ReadFile(tokens); string(after) != string(before) {
		t.Errorf("the file was\n%s\nand is\n%s%v", before, after, err)
	}
}

// Help that cannot be written is no mistake in the command, and no success; who reads only the beginning is content.
func TestHelpThatCannotBeWritten(t *testing.T) {
	for _, args := range []string{"--help", "serve --help", "help serve", "--version", "completion bash", "completion fish"} {
		for err, want := range map[error]int{syscall.ENOSPC: exitFailed, syscall.EPIPE: exitDone} {
			var stderr bytes.Buffer
			code := run(t.Context(), strings.Fields(args), nil, failingWriter{err}, &stderr)
			if code != want || strings.Contains(stderr.String(), "usage") || (want == exitFailed) != strings.Contains(stderr.String(), "cannot be written: no space") {
				t.Errorf("%s: %v: exit %d, want %d: %q", args, err, code, want, &stderr)
			}
		}
	}
}

// Where the reader of the output goes, what could not be saved still counts.
func TestReaderGoesAndNothingIsSaved(t *testing.T) {
	dir, state := t.TempDir(), filepath.Join(t.TempDir(), "state")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var stderr bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"--path", dir, "--state-dir", state, "--filter", "child_file_added"}, nil, w, &stderr)
	}()
	out := bufio.NewReader(r)
	read := func(want string) {
		t.Helper()
		for line := ""; !strings.Contains(line, want); {
			if line, err = out.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
	}
	read("====")
	if err := os.RemoveAll(state); err != nil {
		t.Skip(err) // open files cannot be removed here
	}
	if err := os.WriteFile(filepath.Join(dir, "lost"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	read("lost")
	r.Close()
	if code := <-ended; code != exitFailed || !strings.Contains(stderr.String(), "could not be saved") || ctx.Err() != nil {
		t.Errorf("exit %d, stderr %q, %v", code, &stderr, ctx.Err())
	}
}

// A server whose standard error is a file inside of a root does not tell of it: each line that it logs of a stream would be a change for the next one.
func TestOwnLogIsNotTold(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("which file a descriptor is, is only known on Linux")
	}
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(dir, "server.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"serve", "--root", "/r=" + dir, "--listen", "127.0.0.1:0"}, strings.NewReader(""), io.Discard, log)
	}()
	defer func() {
		cancel()
		if got := <-code; got != 0 {
			t.Errorf("fs_notify serve ended with %d", got)
		}
	}()
	var url string
	eventually(t, "the server", func() bool {
		text, _ := os.ReadFile(log.Name())
		m := regexp.MustCompile(`"msg":"serving".*"url":"([^"]+)/"`).FindSubmatch(text)
		if m != nil {
			url = string(m[1])
		}
		return m != nil
	})
	if err := os.WriteFile(filepath.Join(dir, "other.log"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the file beside it", func() bool {
		_, said := fetch(t, url+"/v1/files/%2Fr/entries")
		if strings.Contains(said, "server.log") {
			t.Fatalf("it tells of its own log: %s", said)
		}
		return strings.Contains(said, "other.log")
	})
}
