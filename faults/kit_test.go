//go:build linux

// Package faults_test shows that the stream is enough whatever happens to the service: the real binary is killed,
// stopped, starved and lied to while files change, and one continuous consumer that knows nothing but the stream finds
// fault with every step that is not valid, and in the end with every difference to the disk.
//
// The stories run in about a minute and a half, on one of ext4, xfs and btrfs each, or on all. FS_NOTIFY_LONG=1 makes them long: hundreds of kills
// and bit flips, on each. FS_NOTIFY_SEED=N repeats the random choices of a run, which prints its seed when it fails.
package faults_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
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

	"golang.org/x/sys/unix"

	"fs_notify/watch/watchtest/fsmount"
)

// long says whether the stories are told at full length.
var long = os.Getenv("FS_NOTIFY_LONG") == "1"

// pick gives the value for short runs or the one for long runs.
func pick[T any](short, full T) T {
	if long {
		return full
	}
	return short
}

// patience is how long the tests wait for what has to come. Nothing is concluded from its coming sooner.
const patience = 90 * time.Second

// program is the command, built once, with the race detector if this test has it.
var program = sync.OnceValues(func() (p string, err error) {
	if programDir, err = os.MkdirTemp("", "fs_notify-faults-"); err != nil {
		return "", err
	}
	p = filepath.Join(programDir, "fs_notify")
	args := []string{"build", "-buildvcs=false", "-o", p}
	if raceEnabled {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "fs_notify/cmd/fs_notify")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %v\n%s", err, out)
	}
	return p, nil
})

var programDir string

func TestMain(m *testing.M) {
	flag.Parse()
	defaults := map[string]string{
		"test.parallel":    "4", // they wait more than they work
		"rapid.checks":     propertyChecks(),
		"rapid.nofailfile": "true",
	}
	flag.Visit(func(f *flag.Flag) { delete(defaults, f.Name) })
	for name, value := range defaults {
		if err := flag.Set(name, value); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	code := m.Run()
	os.RemoveAll(programDir)
	os.Exit(code)
}

// dice gives the random choices of a test.
func dice(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("FS_NOTIFY_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("FS_NOTIFY_SEED=%s: %v", s, err)
		}
		seed = n
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("FS_NOTIFY_SEED=%d makes the same choices again", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 1))
}

// eachDisk runs a story on the file systems that the promise names; in a short run on one of them, another one each time:
// the subtest has its name, and FS_NOTIFY_TEST_FS chooses. Where none can be had, it is the temporary directory.
func eachDisk(t *testing.T, f func(t *testing.T, dir string)) {
	t.Helper()
	kinds := disks()
	if len(kinds) == 0 {
		f(t, t.TempDir())
		return
	}
	if !long {
		kinds = kinds[rand.IntN(len(kinds)):][:1]
	}
	onDisks(t, kinds, f)
}

// onDisks runs a story on each of these file systems.
func onDisks(t *testing.T, kinds []string, f func(t *testing.T, dir string)) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) { f(t, fsmount.One(t, kind)) })
	}
}

// disks are the file systems that the promise names and that can be made and mounted here.
func disks() (kinds []string) {
	if _, err := os.Stat("/dev/loop-control"); err != nil || os.Geteuid() != 0 {
		return nil
	}
	chosen := os.Getenv(fsmount.Env)
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		if chosen != "" && !slices.Contains(strings.Split(chosen, ","), kind) {
			continue
		}
		if _, err := exec.LookPath("mkfs." + kind); err == nil || os.Getenv("CI") == "true" {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// mayWatchAll says whether this process may use every source.
func mayWatchAll() bool { return os.Geteuid() == 0 }

// needRoot skips what only root may do.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts, or changes limits of the kernel")
	}
}

// rootName is how the directory is served, here and by the watcher that the file IDs are compared with.
const rootName = "/root"

// service is the server under test, through all its processes.
type service struct {
	t       testing.TB
	root    string // the directory of the host
	state   string
	addr    string // the same over all restarts
	watcher string
	flags   []string

	cmd  *exec.Cmd
	logs *logbook // of the process that runs, or ran last
	done chan struct{}
	err  error // how it ended; after done
}

// newService makes root and state below dir. Nothing runs before start.
func newService(t testing.TB, dir string, flags ...string) *service {
	t.Helper()
	s := &service{t: t, root: filepath.Join(dir, "data"), state: filepath.Join(dir, "state"), addr: freeAddress(t), watcher: "auto", flags: flags}
	if err := os.MkdirAll(s.root, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.running() {
			s.kill()
		}
	})
	return s
}

// freeAddress finds a port that no outgoing connection will be given.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// launch starts the program and waits for nothing.
func (s *service) launch() {
	s.t.Helper()
	p, err := program()
	if err != nil {
		s.t.Fatal(err)
	}
	args := append([]string{"serve", "--root", rootName + "=" + s.root, "--state-dir", s.state, "--listen", s.addr, "--watcher", s.watcher, "--log-format", "json"}, s.flags...)
	cmd := exec.Command(p, args...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	cmd.WaitDelay = 10 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a test that is killed leaves none behind
	logs := &logbook{}
	cmd.Stderr = logs
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.cmd, s.logs, s.done, s.err = cmd, logs, make(chan struct{}), nil
	go func(done chan struct{}) {
		s.err = cmd.Wait()
		close(done)
	}(s.done)
}

// start starts the program and waits until it serves. It is false if it ended instead; refused says why.
func (s *service) tryStart() bool {
	s.t.Helper()
	s.launch()
	ok := within(func() bool { return s.logs.has("serving") || !s.running() })
	if !ok {
		s.t.Fatalf("the server neither serves nor ends:\n%s", s.logs)
	}
	return s.running()
}

func (s *service) start() {
	s.t.Helper()
	if !s.tryStart() {
		s.t.Fatalf("the server did not start: %v\n%s", s.err, s.logs)
	}
}

// live waits until every root is watched.
func (s *service) live() {
	s.t.Helper()
	ok := within(func() bool {
		if !s.running() {
			s.t.Fatalf("the server ended: %v\n%s", s.err, s.logs)
		}
		status, _ := s.get("/readyz")
		return status == http.StatusOK
	})
	if !ok {
		_, body := s.get("/readyz")
		s.t.Fatalf("the root does not become live: %s\n%s", body, s.logs)
	}
}

func (s *service) get(path string) (int, string) { return get("http://" + s.addr + path) }

// get gives the status and the body, or 0 and the error.
func get(url string) (int, string) {
	c := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

func (s *service) running() bool {
	if s.done == nil {
		return false
	}
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

// kill is kill -9.
func (s *service) kill() {
	s.t.Helper()
	s.cmd.Process.Kill()
	<-s.done
	s.inspect()
}

// freeze stops all of its threads where they are, and returns when the last one has: a signal alone leaves time to see a disk
// fail, and to go on from memory. thaw lets them go on.
func (s *service) freeze() {
	s.t.Helper()
	err := s.cmd.Process.Signal(syscall.SIGSTOP)
	for err == nil {
		if err = unix.Waitid(unix.P_PID, s.cmd.Process.Pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil); err == nil {
			return
		} else if errors.Is(err, unix.EINTR) {
			err = nil
		}
	}
	s.t.Errorf("freeze: %v", err)
}

func (s *service) thaw() { s.cmd.Process.Signal(syscall.SIGCONT) }

// stop ends it in good order.
func (s *service) stop() {
	s.t.Helper()
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(patience):
		s.cmd.Process.Signal(syscall.SIGQUIT)
		s.t.Fatalf("SIGTERM does not end it\n%s", s.logs)
	}
	if s.err != nil {
		s.t.Errorf("it ended with %v\n%s", s.err, s.logs)
	}
	s.inspect()
}

// refused checks that the program, which has ended by itself, said what to do, with exit code 1.
func (s *service) refused(words ...string) {
	s.t.Helper()
	<-s.done
	s.inspect()
	var exit *exec.ExitError
	if !errors.As(s.err, &exit) || exit.ExitCode() != 1 {
		s.t.Errorf("it ended with %v, want exit code 1\n%s", s.err, s.logs)
	}
	last := s.logs.last()
	if !strings.HasPrefix(last, "fs_notify: ") {
		s.t.Errorf("the last line is no message for people: %q", last)
	}
	for _, w := range words {
		if !strings.Contains(last, w) {
			s.t.Errorf("the refusal does not say %q: %q", w, last)
		}
	}
}

// inspect looks for what must never be in a log.
func (s *service) inspect() {
	s.t.Helper()
	for _, never := range []string{"DATA RACE", "panic", "goroutine ", "fatal error"} {
		if s.logs.has(never) {
			s.t.Errorf("the log has %q:\n%s", never, s.logs)
		}
	}
	if n := s.logs.count("names could not be decided"); n > 0 {
		s.t.Logf("%d times names could not be decided and everything was swept", n)
	}
}

// logbook keeps what a process writes.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logbook) has(words string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.text.Bytes(), []byte(words))
}

// count says how many lines have the message msg.
func (l *logbook) count(msg string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range bytes.Lines(l.text.Bytes()) {
		var at struct{ Msg string }
		if json.Unmarshal(line, &at) == nil && strings.HasPrefix(at.Msg, msg) {
			n++
		}
	}
	return n
}

// last is the last line.
func (l *logbook) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(l.text.String()), "\n")
	return lines[len(lines)-1]
}

// String is the end of what was written.
func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.text.Bytes()
	return string(b[max(0, len(b)-8<<10):])
}

// within waits until f holds; false if it does not for a long time.
func within(f func() bool) bool {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if f() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// says waits for a line in the log.
func (s *service) says(words string) {
	s.t.Helper()
	if !within(func() bool { return s.logs.has(words) }) {
		s.t.Fatalf("the log never says %q:\n%s", words, s.logs)
	}
}
