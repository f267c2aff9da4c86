//go:build linux

package watch_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
	"fs_notify/watch/watchtest"
)

// samba is a real server with one share, on loopback.
type samba struct {
	share string // the directory behind it
	dir   string // where smbclient runs
}

// needTools skips the test where a command or a file is missing; with CI=true it fails.
func needTools(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := exec.LookPath(name)
		if filepath.IsAbs(name) { // need not be executable
			_, err = os.Stat(name)
		}
		if err == nil {
			continue
		} else if os.Getenv("CI") == "true" {
			t.Fatalf("%v (CI=true: install it)", err)
		} else {
			t.Skip(err)
		}
	}
}

func startSamba(t *testing.T) *samba {
	t.Helper()
	needTools(t, "smbd", "smbclient", "smbcacls")
	built, err := exec.Command("smbd", "--build-options").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, modules, _ := strings.Cut(string(built), "MODULESDIR: ")
	modules, _, _ = strings.Cut(modules, "\n")
	needTools(t, modules+"/vfs/acl_xattr.so", modules+"/vfs/streams_xattr.so")
	base := openDir(t) // for the guest to pass through
	s := &samba{share: filepath.Join(base, "share"), dir: filepath.Join(base, "client")}
	state := filepath.Join(base, "state")
	for _, d := range []string{s.share, s.dir, state} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Setxattr(s.share, "user.test", []byte("x"), 0); err != nil {
		t.Skipf("no user attributes in %s, which Samba keeps streams in: %v", s.share, err)
	}
	conf := filepath.Join(base, "smb.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, `[global]
	server role = standalone server
	bind interfaces only = yes
	interfaces = lo
	smb ports = 445
	disable netbios = yes
	disable spoolss = yes
	load printers = no
	map to guest = Bad User
	state directory = %[1]s
	cache directory = %[1]s
	lock directory = %[1]s
	private dir = %[1]s
	pid directory = %[1]s
	ncalrpc dir = %[1]s/ncalrpc
	server multi channel support = no
[share]
	path = %[2]s
	guest ok = yes
	force user = root
	read only = no
	vfs objects = acl_xattr streams_xattr
	acl_xattr:ignore system acls = yes
	store dos attributes = yes
	ea support = yes
	map archive = no
`, state, s.share), 0o644); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	smbd := exec.Command("smbd", "--foreground", "--no-process-group", "--debug-stdout", "--configfile="+conf)
	smbd.Stdout, smbd.Stderr = &log, &log
	smbd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM} // it has children
	if err := smbd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-smbd.Process.Pid, syscall.SIGTERM)
		smbd.Wait()
		if t.Failed() {
			t.Logf("smbd: %s", log.Bytes())
		}
	})
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", "127.0.0.1:445")
		if err == nil {
			c.Close()
			return s
		}
		if time.Since(begin) > 20*time.Second {
			t.Fatalf("smbd does not answer: %v", err)
		}
	}
}

// smbclient is one that is connected, in a directory of the share.
type smbclient struct {
	in   *os.File // we write to it
	left *os.File // the other end
	done *bufio.Reader
	said bytes.Buffer
	end  func() error
}

func (s *samba) connect(t *testing.T, dir string) *smbclient {
	t.Helper()
	c := &smbclient{}
	done, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { done.Close() })
	c.done = bufio.NewReader(done)
	cmd := exec.Command("smbclient", "--configfile=/dev/null", "--no-pass", "--directory="+dir, "//127.0.0.1/share")
	cmd.Dir, cmd.ExtraFiles = s.dir, []*os.File{write} // 3
	cmd.Stdout, cmd.Stderr = &c.said, &c.said
	if c.left, c.in, err = os.Pipe(); err == nil {
		cmd.Stdin = c.left
		err = cmd.Start()
	}
	write.Close()
	if err != nil {
		t.Fatal(err)
	}
	c.end = sync.OnceValue(func() error {
		c.in.Close()
		c.left.Close()
		if err := cmd.Wait(); err != nil || bytes.Contains(c.said.Bytes(), []byte("NT_STATUS")) {
			return fmt.Errorf("smbclient: %v\n%s", err, c.said.Bytes())
		}
		return nil
	})
	t.Cleanup(func() {
		if err := c.end(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// do runs a command and waits for its end.
func (c *smbclient) do(t *testing.T, command string) {
	t.Helper()
	c.in.WriteString(command + "\n")
	for begin := time.Now(); ; time.Sleep(time.Millisecond) { // it waits for a second line in the pipe, not for one that it has read already
		if n, err := unix.IoctlGetInt(int(c.left.Fd()), unix.TIOCINQ); err != nil || time.Since(begin) > 30*time.Second {
			t.Fatalf("%s: not read: %v", command, err)
		} else if n == 0 {
			break
		}
	}
	c.in.WriteString("!echo done >&3\n")
	if _, err := c.done.ReadString('\n'); err != nil {
		t.Fatalf("%s: %v, %v", command, err, c.end())
	}
}

// loopbackUp is the first thing to do in a new network namespace.
func loopbackUp(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		t.Fatalf("lo: %v", err)
	}
}

// addACL adds an entry to the ACL of a file, as Windows sees it.
func addACL(t *testing.T, file, ace string) {
	t.Helper()
	cmd := exec.Command("smbcacls", "--configfile=/dev/null", "--no-pass", "--numeric", "--add="+ace, "//127.0.0.1/share", file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("smbcacls: %v\n%s", err, out)
	}
}

// What clients of a Samba server do, told in Qumulo's types.
func TestSamba(t *testing.T) {
	needRoot(t, "run smbd for others")
	// Not all clients can be told a port: ours is free in a network of our own.
	if !again(t, func(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET} }) {
		return
	}
	loopbackUp(t)
	s := startSamba(t)
	for name, text := range map[string]string{"hello": "hello", "longer": "hello again", "stream": "a stream"} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// What has to be told, and behind "maybe" what is told or not, as the server does each of these in several steps, and sets
	// the times of files that it wrote.
	steps := []struct{ do, want string }{
		{"put hello f", `child_file_added f, child_data_written f, child_size_changed f, child_mtime_changed f;
			maybe child_extra_attrs_changed f, child_btime_changed f, child_atime_changed f, child_acl_changed f, child_file_closed f`},
		{"put longer f", `child_data_written f, child_size_changed f, child_mtime_changed f;
			maybe child_atime_changed f, child_file_closed f`},
		{"put stream f:zone", `child_stream_added f zone, child_stream_data_written f zone, child_stream_size_changed f zone;
			maybe child_data_written f, child_mtime_changed f, child_atime_changed f`},
		{"put hello f:zone", `child_stream_data_written f zone, child_stream_size_changed f zone;
			maybe child_data_written f, child_mtime_changed f, child_atime_changed f`},
		{"rename f:zone f:other", `child_stream_moved_from f zone, child_stream_moved_to f other`},
		{"setmode f +h", `child_extra_attrs_changed f`},
		{"setmode f +h", ``}, // it is hidden already
		{"setmode f -h", `child_extra_attrs_changed f`},
		{"utimes f 2020:01:02-03:04:05 -1 -1 -1", `child_btime_changed f`},
		{"utimes f -1 -1 2021:01:02-03:04:05 -1", `child_mtime_changed f; maybe child_data_written f, child_atime_changed f`},
		{"+ ACL:S-1-1-0:ALLOWED/0/READ f", `child_acl_changed f`},
		{"put hello f", `child_stream_removed f other, child_data_written f, child_size_changed f, child_mtime_changed f;
			maybe child_extra_attrs_changed f, child_btime_changed f, child_atime_changed f, child_acl_changed f, child_file_closed f`},
		{"mkdir d", `child_dir_added d; maybe child_extra_attrs_changed d, child_btime_changed d, child_acl_changed d`},
		{"put stream d:info", `child_stream_added d info, child_stream_data_written d info, child_stream_size_changed d info;
			maybe child_extra_attrs_changed d, child_atime_changed d`},
		{`rename f d\g`, `child_file_moved_from f, child_file_moved_to d/g`},
		{"rename d e", `child_dir_moved_from d, child_dir_moved_to e`},
		{`del e\g`, `child_file_removed e/g`},
		{"rmdir e", `child_dir_removed e; maybe child_stream_removed e info`},
	}
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		dir := filepath.Join(s.share, kind)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		r := watchtest.Start(t, kind, dir)
		r.Keep()
		c := s.connect(t, kind)
		for _, step := range steps {
			if acl, ok := strings.CutPrefix(step.do, "+ "); ok {
				ace, file, _ := strings.Cut(acl, " ")
				addACL(t, kind+"/"+file, ace)
			} else {
				c.do(t, step.do)
			}
			r.Sync(t)
			must, maybe, _ := strings.Cut(step.want, "; maybe ")
			if m, other, ok := strings.Cut(step.want, ";\n"); ok {
				must, maybe = m, strings.TrimPrefix(strings.TrimSpace(other), "maybe ")
			}
			var told []string
			for _, n := range r.Take() {
				if n.Type == notify.ChildMtimeChanged && n.Attr.IsDir() {
					continue // at most once a second
				}
				told = append(told, strings.TrimSpace(n.Type.String()+" "+n.Path+" "+n.Stream))
			}
			for _, w := range strings.Split(must, ", ") {
				if w != "" && !slices.Contains(told, w) {
					t.Errorf("%s: not told: %s; told: %s", step.do, w, strings.Join(told, ", "))
				}
			}
			for _, n := range told {
				if !slices.Contains(strings.Split(must+", "+maybe, ", "), n) {
					t.Errorf("%s: told: %s", step.do, n)
				}
			}
		}
		r.Check(t)
	})
}
