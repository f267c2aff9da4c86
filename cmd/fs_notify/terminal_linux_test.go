package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal gives the two ends of a pseudo-terminal: what is written to keyboard is typed at screen.
func openTerminal(t *testing.T) (keyboard, screen *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("there are no pseudo-terminals here: ", err)
	}
	t.Cleanup(func() { keyboard.Close() })
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	screen, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	return keyboard, screen
}

// On a terminal ^D ends the command in good order; what was typed before it does not.
func TestEndOfFileOnATerminal(t *testing.T) {
	keyboard, screen := openTerminal(t)
	dir := t.TempDir()
	var ended atomic.Bool
	go func() {
		io.WriteString(keyboard, "lines are\nignored\n")
		time.Sleep(300 * time.Millisecond) // long enough for the lines to end it, if they would
		ended.Store(true)
		keyboard.Write([]byte{4})
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	code, stdout, stderr := runHere(ctx, screen, "--path", dir, "--watcher", "poll", "--json")
	if code != 0 || stdout != "[\n\n]\n" || ctx.Err() != nil || !ended.Load() {
		t.Errorf("exit %d, after ^D: %v, stdout %q, stderr %q", code, ended.Load(), stdout, stderr)
	}
}

// What is typed while a pager shows the output is the pager's.
func TestTerminalOfAPager(t *testing.T) {
	keyboard, screen := openTerminal(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"--path", t.TempDir(), "--watcher", "poll", "--json"}, screen, w, io.Discard)
	}()
	if head, err := io.ReadAll(io.LimitReader(r, 2)); string(head) != "[\n" {
		t.Fatalf("the output begins with %q, %v", head, err)
	}
	io.WriteString(keyboard, "q\n")
	key := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(io.LimitReader(screen, 2))
		key <- string(text)
	}()
	select {
	case text := <-key:
		if text != "q\n" {
			t.Errorf("the pager reads %q", text)
		}
	case <-time.After(patience):
		t.Error("the pager waits for a key in vain")
		io.WriteString(keyboard, "q\n")
	}
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("exit %d", code)
	}
}

// An input that is no terminal may end: scripts run with it closed.
func TestEndOfFileElsewhere(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if code, _, stderr := runHere(ctx, null, "--path", t.TempDir(), "--watcher", "poll"); code != 0 || ctx.Err() == nil {
		t.Errorf("exit %d before its time, stderr %q", code, stderr)
	}
}

// Progress is one line, redrawn, that is gone when anything else is written.
func TestProgress(t *testing.T) {
	keyboard, screen := openTerminal(t)
	s := newStatus(screen)
	if !s.tty {
		t.Fatal("a terminal was not recognised")
	}
	a := &app{status: s, common: commonFlags{logLevel: "info", logFormat: "auto"}}
	if err := a.setLog(true); err != nil {
		t.Fatal(err)
	}
	bar := a.newProgress()
	bar.show("/srv/\x1b[31mdata", 41.6, 1234567)
	bar.drawn = time.Time{}
	bar.show("/srv/data", 99, -1)
	a.log.Info("hello")
	bar.stop()
	screen.Close()
	var got bytes.Buffer
	io.Copy(&got, keyboard) // ends with an error, as terminals do
	want := `indexing /srv/\u001b[31mdata, 42 %, 1,234,567 entries` + eraseLine + "indexing /srv/data, 99 %" + eraseLine
	if text := got.String(); !strings.HasPrefix(text, want) || !strings.Contains(text, "level=INFO msg=hello") {
		t.Errorf("on the screen: %q", text)
	}
}

// Elsewhere there are log lines, and not many.
func TestProgressInALog(t *testing.T) {
	var log bytes.Buffer
	a := &app{status: newStatus(&log), common: commonFlags{logLevel: "info", logFormat: "auto"}}
	if err := a.setLog(true); err != nil {
		t.Fatal(err)
	}
	bar := a.newProgress()
	for range 100 {
		bar.show("/srv/data", 10, 5) // an index that is quick needs no words
	}
	bar.logged = time.Now().Add(-nextLog)
	for range 100 {
		bar.show("/srv/data", 10, 5)
	}
	bar.stop()
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"msg":"indexing","directory":"/srv/data","percent":"10","entries":5`) {
		t.Errorf("logged %q", got)
	}
}

// The first signal is obeyed also where the command waits in a system call that nothing wakes.
func TestFirstSignalEndsWaiting(t *testing.T) {
	type end struct {
		code   int
		stderr string
	}
	start := func(ctx context.Context, stdin io.Reader, stdout io.Writer, args ...string) <-chan end {
		ended := make(chan end, 1)
		go func() {
			var stderr bytes.Buffer
			code := run(ctx, args, stdin, stdout, &stderr)
			ended <- end{code, stderr.String()}
		}()
		return ended
	}
	wait := func(t *testing.T, ended <-chan end, code int) {
		t.Helper()
		select {
		case e := <-ended:
			if e.code != code {
				t.Errorf("exit %d, want %d; %s", e.code, code, e.stderr)
			}
		case <-time.After(patience):
			t.Fatal("it does not end")
		}
	}
	until := func(t *testing.T, what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("waited in vain for ", what)
			}
		}
	}

	t.Run("a full pipe", func(t *testing.T) {
		ctx, signal := context.WithCancel(t.Context())
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprintf(w, ": watching\n\ndata: [{\"type\":\"child_file_added\",\"spine\":[\"7\",\"8\"],\"path\":\"%s\",\"stream_name\":null}]\nid: 8192.7\n\n", strings.Repeat("x", 1<<20))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}))
		defer srv.Close()
		host, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
		ended := start(ctx, nil, w, "--host", host, "--port", port, "--path", "/d", "--ndjson")
		until(t, "output", func() bool {
			n, err := unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ)
			return err == nil && n > 0
		})
		signal()
		wait(t, ended, 0)
	})
	t.Run("a FIFO without a reader", func(t *testing.T) {
		ctx, signal := context.WithCancel(t.Context())
		signal()
		fifo := filepath.Join(t.TempDir(), "fifo")
		if err := unix.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		defer func() { // lets go of what was left behind
			if f, err := os.OpenFile(fifo, os.O_RDWR|unix.O_NONBLOCK, 0); err == nil {
				f.Close()
			}
		}()
		wait(t, start(ctx, nil, io.Discard, "--path", t.TempDir(), "--file", fifo), 0)
	})
	t.Run("a password", func(t *testing.T) {
		keyboard, screen := openTerminal(t)
		echoes := func() bool {
			s, err := unix.IoctlGetTermios(int(screen.Fd()), unix.TCGETS)
			return err == nil && s.Lflag&unix.ECHO != 0
		}
		ctx, signal := context.WithCancel(t.Context())
		ended := start(ctx, screen, io.Discard, "login", "-u", "joe")
		until(t, "the question", func() bool { return !echoes() })
		signal()
		wait(t, ended, 1)
		if !echoes() {
			t.Error("the terminal does not show what is typed")
		}
		io.WriteString(keyboard, "\n") // lets go of what was left behind
	})
}
