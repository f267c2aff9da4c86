//go:build linux

package faults_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// volume is a file system of our own that can be filled, broken and repaired.
type volume struct {
	t     testing.TB
	dir   string   // where it is mounted
	mount []string // the command that mounts it
}

// newVolume mounts a new file system until the test ends: "tmpfs" of some size, or an image with "ext4" or "xfs". Make it before the
// service that uses it, which then ends before it.
func newVolume(t testing.TB, kind, size string) *volume {
	t.Helper()
	needRoot(t)
	top := t.TempDir()
	v := &volume{t: t, dir: filepath.Join(top, "mnt")}
	if err := os.Mkdir(v.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	switch image := filepath.Join(top, "image"); kind {
	case "tmpfs":
		v.mount = []string{"mount", "-t", "tmpfs", "-o", "size=" + size, "tmpfs", v.dir}
	default:
		mkfs := map[string][]string{"ext4": {"mkfs.ext4", "-q", "-F", "-m", "0"}, "xfs": {"mkfs.xfs", "-q", "-f"}}[kind]
		if _, err := exec.LookPath(mkfs[0]); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%v (CI=true: install it)", err)
			}
			t.Skip(err)
		}
		v.do("truncate", "-s", size, image)
		v.do(append(mkfs, image)...)
		v.mount = []string{"mount", "-o", "loop", image, v.dir}
	}
	// Below a shared mount, so that it is unmounted in the copies too that other tests have in mount namespaces of their own: as long as there
	// is one, the file system stays as it is, broken.
	if out, err := exec.Command("mount", "--bind", top, top).CombinedOutput(); err != nil {
		t.Skipf("mount --bind: %v: %s", err, out)
	}
	t.Cleanup(func() { v.do("umount", top) })
	v.do("mount", "--make-shared", top)
	if out, err := exec.Command(v.mount[0], v.mount[1:]...).CombinedOutput(); err != nil {
		t.Skipf("%v: %v: %s", v.mount, err, out)
	}
	t.Cleanup(func() {
		if !within(func() bool { err := unix.Unmount(v.dir, 0); return err == nil || errors.Is(err, unix.EINVAL) }) {
			t.Errorf("%s is still in use", v.dir)
			unix.Unmount(v.dir, unix.MNT_DETACH)
		}
	})
	return v
}

func (v *volume) do(args ...string) {
	v.t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		v.t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
}

// again unmounts it and mounts it anew: what was not synced before a power cut is gone then. Nobody may use it.
func (v *volume) again() {
	v.t.Helper()
	var err error
	if !within(func() bool { err = unix.Unmount(v.dir, 0); return err == nil }) {
		v.t.Fatalf("unmount: %v", err)
	}
	v.do(v.mount...)
}

// powerCut loses what was not synced, and fails everything from then on.
func (v *volume) powerCut() {
	v.t.Helper()
	const goingDown, noLogFlush = 0x8004587d, 2 // FS_IOC_SHUTDOWN
	fd, err := unix.Open(v.dir, unix.O_RDONLY, 0)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, goingDown, noLogFlush)
		unix.Close(fd)
	}
	if err != nil {
		v.t.Skipf("this file system cannot be shut down: %v", err)
	}
}

// freeze has everybody who writes to it wait until thaw is called.
func (v *volume) freeze() (thaw func()) {
	v.t.Helper()
	v.do("fsfreeze", "-f", v.dir)
	thaw = sync.OnceFunc(func() { v.do("fsfreeze", "-u", v.dir) })
	v.t.Cleanup(thaw)
	return thaw
}

// fill leaves no room on it; free gives the room back.
func (v *volume) fill() {
	v.t.Helper()
	f, err := os.Create(filepath.Join(v.dir, "filler"))
	if err != nil {
		v.t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, unix.ENOSPC) {
			size /= 4
		} else if err != nil {
			v.t.Fatal(err)
		}
	}
}

func (v *volume) free() {
	v.t.Helper()
	if err := os.Remove(filepath.Join(v.dir, "filler")); err != nil {
		v.t.Fatal(err)
	}
}

// pause lets a load work.
func pause() { time.Sleep(500 * time.Millisecond) }
