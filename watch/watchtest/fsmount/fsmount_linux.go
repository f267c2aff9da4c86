package fsmount

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// prefix begins the name of every directory that the package makes in os.TempDir(). Each is locked
// (flock) by the process that made it, for as long as it lives: one without a lock is a leftover.
const prefix = "fs_notify-fsmount-"

// imageSize is what an image may grow to; it is sparse, and a fresh one takes some megabytes.
// xfs wants at least 300 MiB.
const imageSize = 1 << 30

// mkfs are the commands that make a file system in a file whose name follows.
var mkfs = map[string][]string{
	"ext4":  {"mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1"},
	"xfs":   {"mkfs.xfs", "-q", "-f", "-K"},
	"btrfs": {"mkfs.btrfs", "-q", "-f", "-K"},
}

func canMount() bool { return os.Geteuid() == 0 }

func mountOne(t testing.TB, kind string) string {
	t.Helper()
	top, lock, err := newTop()
	if err != nil {
		t.Fatalf("fsmount: %v", err)
	}
	t.Cleanup(func() {
		if err := unmountBelow(top, 5*time.Second); err != nil {
			t.Errorf("fsmount: %s is still in use after the test, was something left open? %v", kind, err)
		}
		if err := os.RemoveAll(top); err != nil {
			t.Errorf("fsmount: %v", err)
		}
		lock.Close()
	})
	dir := filepath.Join(top, kind)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatalf("fsmount: %v", err)
	}
	switch kind {
	case "tmpfs":
		err = mountTmpfs(dir)
	case "overlay":
		err = mountOverlay(top, dir)
	default:
		err = mountImage(kind, filepath.Join(top, "image"), dir)
	}
	var missing *exec.Error
	switch {
	case err == nil:
	case errors.As(err, &missing) && os.Getenv("CI") == "true":
		t.Fatalf("fsmount: no %s: %v (CI=true: install it)", kind, err)
	case errors.As(err, &missing), errors.Is(err, errImpossible):
		t.Skipf("fsmount: no %s here: %v", kind, err)
	default:
		t.Fatalf("fsmount: cannot mount %s: %v", kind, err)
	}
	if err := os.Remove(filepath.Join(dir, "lost+found")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("fsmount: %v", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatalf("fsmount: %v", err)
	}
	return dir
}

// errImpossible says that this machine cannot have such a mount, whatever the test does.
var errImpossible = errors.New("not possible on this machine")

func mountTmpfs(dir string) error {
	return mount("tmpfs", dir, "tmpfs", "size=4g,nr_inodes=1m,mode=755")
}

// mountOverlay puts upper and work on a tmpfs, since temporary directories in containers are
// often on an overlay, which cannot be the upper layer of another one.
func mountOverlay(top, dir string) error {
	layers := filepath.Join(top, "layers")
	if err := os.Mkdir(layers, 0o755); err != nil {
		return err
	}
	if err := mountTmpfs(layers); err != nil {
		return err
	}
	for _, d := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(layers, d), 0o755); err != nil {
			return err
		}
	}
	return mount("overlay", dir, "overlay", fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", layers))
}

func mount(source, dir, kind, options string) error {
	err := syscall.Mount(source, dir, kind, 0, options)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENODEV) {
		return fmt.Errorf("%w: mount -t %s: %v", errImpossible, kind, err)
	}
	return os.NewSyscallError("mount -t "+kind, err)
}

func mountImage(kind, image, dir string) error {
	if err := loopDevices(); err != nil {
		return fmt.Errorf("%w: no loop devices: %v", errImpossible, err)
	}
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	err = errors.Join(f.Truncate(imageSize), f.Close())
	if err != nil {
		return err
	}
	if err := command(append(slices.Clone(mkfs[kind]), image)...); err != nil {
		return err
	}
	err = command("mount", "-t", kind, "-o", "loop", image, dir)
	if err != nil && !errors.Is(err, exec.ErrNotFound) {
		known, readErr := os.ReadFile("/proc/filesystems")
		switch {
		case readErr == nil && !bytes.Contains(known, []byte("\t"+kind+"\n")):
			return fmt.Errorf("%w: the kernel has no %s: %v", errImpossible, kind, err)
		case strings.Contains(err.Error(), "permi"): // "permission denied", "not permitted"
			return fmt.Errorf("%w: %v", errImpossible, err)
		}
	}
	return err
}

// loopDevices asks the kernel for a free loop device, as mount does.
func loopDevices() error {
	f, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	const loopCtlGetFree = 0x4C82
	n, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), loopCtlGetFree, 0)
	if errno != 0 {
		return os.NewSyscallError("LOOP_CTL_GET_FREE", errno)
	}
	_, err = os.Stat("/dev/loop" + strconv.Itoa(int(n)))
	return err
}

// command runs a program; the error holds what it said. One that is not installed gives an *exec.Error.
func command(args ...string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", args[0], err, bytes.TrimSpace(out))
	}
	return nil
}

// newTop removes what dead processes left and makes a directory that is locked by this one. A lock
// that all processes take in turn keeps the two apart.
func newTop() (dir string, lock *os.File, err error) {
	all, err := os.OpenFile(filepath.Join(os.TempDir(), "fs_notify-fsmount.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", nil, err
	}
	defer all.Close() // gives the lock back
	if err := flock(all, syscall.LOCK_EX); err != nil {
		return "", nil, err
	}
	if err := removeLeftovers(); err != nil {
		return "", nil, err
	}
	if dir, err = os.MkdirTemp("", prefix); err != nil {
		return "", nil, err
	}
	if err = os.Chmod(dir, 0o755); err == nil {
		if lock, err = os.Open(dir); err == nil {
			if err = flock(lock, syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
				return dir, lock, nil
			}
			lock.Close()
		}
	}
	return "", nil, errors.Join(err, os.Remove(dir))
}

func removeLeftovers() error {
	old, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range old {
		lock, err := os.Open(dir)
		if err != nil {
			continue // its owner was faster
		}
		err = flock(lock, syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			if err = unmountBelow(dir, 0); err == nil {
				err = os.RemoveAll(dir)
			}
		} else if errors.Is(err, syscall.EWOULDBLOCK) {
			err = nil // in use
		}
		lock.Close()
		if err != nil {
			return fmt.Errorf("leftover of an earlier test: %w", err)
		}
	}
	return nil
}

func flock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how); err != syscall.EINTR {
			return os.NewSyscallError("flock", err)
		}
	}
}

// unmountBelow unmounts everything below top, the newest first. What is busy is tried again for
// as long as patience lasts, then taken out of the tree while it goes on living for those who use it; with
// patience that is an error, without it is not.
func unmountBelow(top string, patience time.Duration) error {
	var busy error
	deadline := time.Now().Add(patience)
	for {
		points, err := mountsBelow(top)
		if err != nil || len(points) == 0 {
			return errors.Join(err, busy)
		}
		for _, p := range slices.Backward(points) {
			err = syscall.Unmount(p, 0)
			if errors.Is(err, syscall.EBUSY) && time.Now().After(deadline) {
				if patience > 0 {
					busy = errors.Join(busy, fmt.Errorf("%s: %w", p, err))
				}
				err = syscall.Unmount(p, syscall.MNT_DETACH)
			}
			switch {
			case err == nil, errors.Is(err, syscall.EINVAL): // EINVAL: somebody else was faster
			case errors.Is(err, syscall.EBUSY):
				time.Sleep(20 * time.Millisecond)
			default:
				return fmt.Errorf("unmount %s: %w", p, err)
			}
		}
	}
}

// mountsBelow lists the mount points below top in the order in which they were mounted.
func mountsBelow(top string) ([]string, error) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(string(info)) {
		fields := strings.Fields(line) // id parent major:minor root point ...
		if len(fields) < 5 {
			continue
		}
		point := unescape(fields[4])
		if strings.HasPrefix(point, top+"/") {
			out = append(out, point)
		}
	}
	return out, nil
}

// unescape undoes the octal escapes (\040 for a blank) of /proc/self/mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// nameOf gives the name of the file system that holds dir.
func nameOf(dir string) string {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return TempDir
	}
	switch uint32(st.Type) {
	case 0xEF53:
		return "ext4"
	case 0x58465342:
		return "xfs"
	case 0x9123683E:
		return "btrfs"
	case 0x01021994:
		return "tmpfs"
	case 0x794C7630:
		return "overlay"
	}
	return TempDir
}
