package main

import (
	"bytes"
	"context"
	"io"
	"os"
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
