//go:build linux

package watch_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fs_notify/watch/watchtest"
	"fs_notify/watch/watchtest/fsmount"
)

// fanotify dies amid a load: auto goes on with inotify, and nothing is missing.
func TestAutoFallsBackWithoutAGap(t *testing.T) {
	needRoot(t, "use fanotify")
	if !again(t, func(*exec.Cmd) {}) { // alone: it takes the only fanotify group that there is
		return
	}
	dir := fsmount.One(t, "tmpfs")
	r := watchtest.Start(t, "auto", dir)
	group := -1
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if to, _ := os.Readlink(l); to == "anon_inode:[fanotify]" {
			fmt.Sscan(filepath.Base(l), &group)
		}
	}
	if group < 0 {
		t.Skip("no fanotify here")
	}
	done := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < 2000 && err == nil; i++ {
			d := filepath.Join(dir, fmt.Sprint("d", i))
			if err = os.MkdirAll(filepath.Join(d, "e"), 0o755); err == nil {
				err = os.WriteFile(filepath.Join(d, "e", "f"), nil, 0o644)
			}
			if i%2 == 0 && err == nil {
				err = os.Rename(d, filepath.Join(dir, fmt.Sprint("r", i)))
			}
			if i%5 == 4 && err == nil {
				err = os.RemoveAll(d)
			}
		}
		done <- err
	}()
	time.Sleep(50 * time.Millisecond)
	unreadable, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = unix.Dup3(unreadable, group, unix.O_CLOEXEC) // in the place of the group
	unix.Close(unreadable)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r.Check(t)
	if got := r.Roots()[0].Source; got != "inotify" {
		t.Errorf("the source is %s", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "after"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r.Check(t)
}
