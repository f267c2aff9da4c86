//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A subject is a program that watches a directory tree and tells what changes.
type subject struct {
	name  string
	ours  bool
	tool  string       // command that has to be installed; "": none
	setup func() error // installs what it needs; nil: nothing. An error says why it cannot be measured
	color string       // in plots
	// start begins to watch; the time that it takes is the start-up time. Its goroutines, processes and files end with the session.
	start func(dir string, b *bench) (*session, error)
}

// A session is a subject at work.
type session struct {
	pid    int
	format string // of what it tells: "sse", "watchman", "lines"; "": it tells nothing, it only reads
	target string // where that is read: address, socket, file
	root   string
	// listen opens what it tells, for reading byte by byte as it comes.
	listen func() (*os.File, error)
	clean  []func()
	ended  func(state string) // looks at the state directory when the process has ended
	result *bufio.Reader      // of a raw reader
	quit   func()             // asks it for its result
}

func (s *session) stop() {
	for i := len(s.clean) - 1; i >= 0; i-- {
		s.clean[i]()
	}
}

// missing says why a subject cannot be measured here; "": it can.
func (s *subject) missing() string {
	if s.setup != nil {
		if err := s.setup(); err != nil {
			return err.Error()
		}
	}
	if s.tool == "" {
		return ""
	}
	if _, err := exec.LookPath(s.tool); err != nil {
		return s.tool + " is not installed"
	}
	return ""
}

// subjects lists what is measured, ours first.
func subjects() []*subject {
	return []*subject{
		{name: "fs_notify", ours: true, color: ourColor, start: serve("auto", false)},
		{name: "fs_notify + journal", ours: true, color: ourColor, start: serve("auto", true)},
		{name: "fs_notify inotify", ours: true, color: ourColor, start: serve("inotify", false)},
		{name: "fs_notify fsnotify", ours: true, color: ourColor, start: serve("fsnotify", false)},
		{name: "inotifywait", tool: "inotifywait", color: peerColor, start: lines("Watches established", "inotifywait", "-m", "-r", "-e", "create,modify,attrib,delete,move")},
		{name: "fsnotifywait", tool: "fsnotifywait", color: peerColor, start: lines("Watches established", "fsnotifywait", "-S", "-m", "-r", "-e", "create,modify,attrib,delete,move")},
		{name: "fswatch", tool: "fswatch", color: peerColor, start: lines("", "fswatch", "-r", "-x", "-l", "0.1")},
		{name: "watchman", tool: "watchman", color: peerColor, start: watchman},
		rjeczalik(),
		node("@parcel/watcher", "parcel"),
		node("chokidar", "chokidar"),
		{name: "raw fanotify", color: rawColor, start: raw("fanotify")},
		{name: "raw inotify", color: rawColor, start: raw("inotify")},
	}
}

// run starts a process whose end is the session's.
func (s *session) run(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.pid = cmd.Process.Pid
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	s.clean = append(s.clean, func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
	})
	return nil
}

// runReading is run, for a command whose standard output is read, also after its end.
func (s *session) runReading(cmd *exec.Cmd) (io.Reader, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	s.clean = append(s.clean, func() { r.Close() })
	cmd.Stdout = w
	return r, s.run(cmd)
}

// startLimit is how long a subject may take to be ready.
const startLimit = 10 * time.Minute

// serve is fs_notify serve, with a state directory of its own or with none.
func serve(watcher string, journal bool) func(string, *bench) (*session, error) {
	if !journal {
		return serveOn(watcher, "")
	}
	return func(dir string, b *bench) (*session, error) {
		state, err := os.MkdirTemp(b.dir, "fs_notify-bench-state-")
		if err != nil {
			return nil, err
		}
		s, err := serveOn(watcher, state)(dir, b)
		if err != nil {
			os.RemoveAll(state)
			return nil, err
		}
		s.clean = append([]func(){func() { os.RemoveAll(state) }, func() {
			if s.ended != nil {
				s.ended(state)
			}
		}}, s.clean...)
		return s, nil
	}
}

// serveOn is fs_notify serve with this state directory.
func serveOn(watcher, state string) func(string, *bench) (*session, error) {
	return func(dir string, b *bench) (_ *session, err error) {
		s := &session{format: "sse", root: dir}
		defer func() {
			if err != nil {
				s.stop()
			}
		}()
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		s.target = fmt.Sprintf("127.0.0.1:%d", port)
		args := []string{"serve", "--root", dir, "--listen", s.target, "--watcher", watcher, "--log-level", "warn"}
		if state != "" {
			args = append(args, "--state-dir", state)
		}
		cmd := exec.Command(b.binary, args...)
		var log strings.Builder
		cmd.Stderr = &log
		if err := s.run(cmd); err != nil {
			return nil, err
		}
		deadline := time.Now().Add(startLimit)
		for {
			err := isReady(s.target)
			if err == nil {
				break
			}
			if _, e := usageOf(s.pid); e != nil || time.Now().After(deadline) {
				return nil, fmt.Errorf("fs_notify serve: %w: %s", err, firstLine(log.String()))
			}
			time.Sleep(time.Millisecond)
		}
		s.listen = func() (*os.File, error) {
			c, r, err := connect(s.target, url.PathEscape(dir), "recursive=true")
			if err != nil {
				return nil, err
			}
			if err := untilWatching(r); err != nil {
				return nil, err
			}
			defer c.Close() // File has a descriptor of its own
			return c.(*net.TCPConn).File()
		}
		return s, nil
	}
}

// isReady asks a server whether everything is being watched.
func isReady(addr string) error {
	r, err := http.Get("http://" + addr + "/readyz")
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return errors.New(r.Status)
	}
	return nil
}

func untilWatching(r *bufio.Reader) error {
	for {
		b, err := r.ReadString('\n')
		if err != nil || strings.HasPrefix(b, ": watching") {
			return err
		}
	}
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// lines is a program that prints a line for each change, here into a file, or into a pipe while someone listens. It is ready
// when it has said so on standard error; with ready == "", a file made for that has to come out.
func lines(ready string, args ...string) func(string, *bench) (*session, error) {
	return func(dir string, b *bench) (_ *session, err error) {
		s := &session{format: "lines", root: dir}
		defer func() {
			if err != nil {
				s.stop()
			}
		}()
		cmd := exec.Command(args[0], append(args[1:len(args):len(args)], dir)...)
		var out *os.File
		if b.pipes {
			r, w, err := os.Pipe()
			if err != nil {
				return nil, err
			}
			s.listen = func() (*os.File, error) { return r, nil }
			s.clean = append(s.clean, func() { r.Close() })
			out = w
		} else if out, err = os.CreateTemp(b.dir, "fs_notify-bench-out-"); err != nil {
			return nil, err
		} else {
			s.target = out.Name()
			s.clean = append(s.clean, func() { os.Remove(s.target) })
		}
		defer out.Close()
		cmd.Stdout = out
		stderr, err := cmd.StderrPipe()
		if err != nil {
			return nil, err
		}
		if err := s.run(cmd); err != nil {
			return nil, err
		}
		if ready == "" {
			time.Sleep(3 * time.Second)
			return s, nil
		}
		r := bufio.NewReader(stderr)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return nil, fmt.Errorf("%s ended: %w", args[0], err)
			}
			if strings.Contains(line, ready) {
				go func() { // it must never wait for us
					for err == nil {
						_, err = r.ReadString('\n')
					}
				}()
				return s, nil
			}
		}
	}
}

// watchman is a server of our own, without state of others.
func watchman(dir string, b *bench) (_ *session, err error) {
	s := &session{format: "watchman", root: dir}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	home, err := os.MkdirTemp(b.dir, "fs_notify-bench-watchman-")
	if err != nil {
		return nil, err
	}
	s.clean = append(s.clean, func() { os.RemoveAll(home) })
	in := func(name string) string { return filepath.Join(home, name) }
	s.target = in("sock")
	cmd := exec.Command("watchman", "--foreground", "--no-save-state", "--sockname="+s.target, "--logfile="+in("log"), "--pidfile="+in("pid"), "--statefile="+in("state"))
	cmd.Env = append(os.Environ(), "HOME="+home, "USER=bench", "WATCHMAN_CONFIG_FILE="+in("none"))
	if err := s.run(cmd); err != nil {
		return nil, err
	}
	var w *watchmanConn
	for deadline := time.Now().Add(startLimit); ; time.Sleep(time.Millisecond) {
		if w, err = dialWatchman(s.target); err == nil {
			break
		}
		if _, e := usageOf(s.pid); e != nil || time.Now().After(deadline) {
			log, _ := os.ReadFile(in("log"))
			return nil, fmt.Errorf("watchman: %w: %s", err, firstLine(string(log)))
		}
	}
	defer w.Close()
	if _, err := w.ask("watch", dir); err != nil {
		return nil, err
	}
	if _, err := w.ask("clock", dir, map[string]any{"sync_timeout": startLimit.Milliseconds()}); err != nil {
		return nil, err
	}
	s.listen = func() (*os.File, error) {
		w, err := subscribeWatchman(s.target, dir)
		if err != nil {
			return nil, err
		}
		defer w.Close()
		return w.Conn.(*net.UnixConn).File()
	}
	return s, nil
}

// watchmanConn speaks watchman's protocol: a line of JSON each way.
type watchmanConn struct {
	net.Conn
	r *bufio.Reader
}

func dialWatchman(sock string) (*watchmanConn, error) {
	c, err := net.Dial("unix", sock)
	if err != nil {
		return nil, err
	}
	return &watchmanConn{c, bufio.NewReaderSize(c, 1<<20)}, nil
}

// Read reads what ask has left.
func (w *watchmanConn) Read(b []byte) (int, error) { return w.r.Read(b) }

func (w *watchmanConn) ask(args ...any) (map[string]any, error) {
	if err := json.NewEncoder(w).Encode(args); err != nil {
		return nil, err
	}
	b, err := w.r.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	var answer map[string]any
	if err := json.Unmarshal(b, &answer); err != nil {
		return nil, err
	}
	if e, ok := answer["error"]; ok {
		return nil, fmt.Errorf("watchman: %v", e)
	}
	return answer, nil
}

// subscribeWatchman asks for all that changes from now on.
func subscribeWatchman(sock, dir string) (*watchmanConn, error) {
	w, err := dialWatchman(sock)
	if err != nil {
		return nil, err
	}
	clock, err := w.ask("clock", dir)
	if err == nil {
		_, err = w.ask("subscribe", dir, "bench", map[string]any{"since": clock["clock"], "fields": []string{"name", "exists"}})
	}
	if err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// raw is our own bare reader of the kernel's queue: what a watcher cannot be cheaper than.
func raw(kind string) func(string, *bench) (*session, error) {
	return func(dir string, b *bench) (_ *session, err error) {
		s := &session{root: dir}
		defer func() {
			if err != nil {
				s.stop()
			}
		}()
		cmd := self("raw", kind, dir)
		in, err := cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		s.quit = func() { in.Close() }
		out, err := s.runReading(cmd)
		if err != nil {
			return nil, err
		}
		s.result = bufio.NewReader(out)
		if b, err := s.result.ReadString('\n'); err != nil || strings.TrimSpace(b) != `"ready"` {
			return nil, errors.Join(fmt.Errorf("raw %s said %q", kind, b), err)
		}
		return s, nil
	}
}
