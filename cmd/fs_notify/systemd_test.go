//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// listenAsSystemd makes a socket that is told how the service is. told waits until all that is wanted has come, in any order, and
// gives the last message.
func listenAsSystemd(t *testing.T) (told func(wants ...string) string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sd") // short: it is the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	var all []string
	return func(wants ...string) string {
		t.Helper()
		conn.SetReadDeadline(time.Now().Add(patience))
		for b := make([]byte, 4096); ; {
			n, err := conn.Read(b)
			if err != nil {
				t.Fatalf("waited in vain for %q: %v, after\n%s", wants, err, strings.Join(all, "\n"))
			}
			text := string(b[:n])
			all = append(all, text)
			wants = slices.DeleteFunc(wants, func(want string) bool { return strings.Contains("\n"+text, "\n"+want) })
			if len(wants) == 0 {
				return text
			}
		}
	}
}

// systemd hears of the index, of readiness, of life, of a reload and of the end.
func TestSystemdIsTold(t *testing.T) {
	told := listenAsSystemd(t)
	t.Setenv("WATCHDOG_USEC", "200000")
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
	dir := t.TempDir()
	t.Run("serve", func(t *testing.T) {
		serveHere(t, "--root", "/data="+dir, "--watcher", "poll")
		told("READY=1", "STATUS=1 of 1 roots live, 1 entries")
		told("WATCHDOG=1")
		told("WATCHDOG=1")
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if text := told("RELOADING=1"); !strings.Contains(text, "MONOTONIC_USEC=") || strings.HasSuffix(text, "=0") {
			t.Errorf("it told %q", text)
		}
		told("READY=1")
	})
	told("STOPPING=1")
}

// A reload during the first scan does not make the service ready.
func TestReloadBeforeReady(t *testing.T) {
	told := listenAsSystemd(t)
	a := &app{lookupEnv: os.LookupEnv, log: quietLog}
	s, ready := a.newSystemd(), make(chan struct{})
	around := s.reloading(ready)
	around(true)
	around(false)
	s.tell("STATUS=indexing")
	if text := told(""); text != "STATUS=indexing" {
		t.Errorf("it told %q", text)
	}
	close(ready)
	around(true)
	told("RELOADING=1")
	around(false)
	told("READY=1")
}

// The watchdog of another process is not ours.
func TestWatchdogOfAnother(t *testing.T) {
	listenAsSystemd(t)
	t.Setenv("WATCHDOG_USEC", "200000")
	t.Setenv("WATCHDOG_PID", "1")
	a := &app{lookupEnv: os.LookupEnv, log: quietLog}
	if s := a.newSystemd(); s == nil || s.watchdog != 0 {
		t.Errorf("it is to be told %+v", s)
	}
	t.Setenv("NOTIFY_SOCKET", "")
	if s := a.newSystemd(); s != nil {
		t.Errorf("nobody asked, and %+v is to be told", s)
	}
}

// There is a pulse while the trees move and the writers answer.
func TestPulse(t *testing.T) {
	var turns atomic.Int64
	var fault error
	p := &pulse{turns: turns.Load, ask: func(context.Context) error { return fault }}
	beats := func(want bool, when string) {
		t.Helper()
		if got := p.beats(t.Context(), time.Millisecond); got != want {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	beats(true, "at the start")
	p.moved = time.Now().Add(-time.Hour)
	beats(false, "nothing has moved for an hour")
	turns.Add(1)
	beats(true, "it moves again")
	fault = errors.New("no answer")
	beats(false, "the writers do not answer")
}

// The unit is one that systemd takes, with no remark.
func TestUnit(t *testing.T) {
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("systemd-analyze is not installed")
	}
	text, err := os.ReadFile("../../deploy/systemd/fs_notify.service")
	if err != nil {
		t.Fatal(err)
	}
	// It verifies that the program is there: any one will do.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "fs_notify.service")
	there := strings.ReplaceAll(string(text), "ExecStart=/usr/bin/fs_notify ", "ExecStart="+self+" ")
	if there == string(text) {
		t.Fatal("the unit does not start /usr/bin/fs_notify")
	}
	if err := os.WriteFile(unit, []byte(there), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tool, "verify", "--man=no", unit).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "fs_notify.service") {
			t.Error(strings.TrimSpace(line))
		}
	}
	if err != nil && t.Failed() {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// How much the service could do if it fell into wrong hands: systemd's own scale, 0 is best, 10 worst.
	out, err = exec.Command(tool, "security", "--offline=yes", "--no-pager", "--threshold=35", unit).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
