//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// place is an empty file system for one measurement: its own, so that nobody else's changes are measured.
type place struct {
	Dir string // mount point
	FS  string
	top string
}

// imageSize is what an image may grow to. It is sparse; ext4 gives it half a million inodes.
const imageSize = 8 << 30

var mkfs = map[string][]string{
	"ext4":  {"mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard"},
	"xfs":   {"mkfs.xfs", "-q", "-f", "-K"},
	"btrfs": {"mkfs.btrfs", "-q", "-f", "-K"},
}

// newPlace mounts a fresh file system: ext4, xfs or btrfs in an image below dir, or tmpfs. Who may not mount gets a plain directory.
func newPlace(kind, dir string) (*place, error) {
	top, err := os.MkdirTemp(dir, "fs_notify-bench-")
	if err != nil {
		return nil, err
	}
	p := &place{Dir: filepath.Join(top, "m"), FS: kind, top: top}
	if err := os.Mkdir(p.Dir, 0o755); err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		places.Store(p, nil)
		return p, nil
	}
	places.Store(p, nil)
	if err := p.mount(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// places are those that exist now.
var places sync.Map

// endWithPlaces has a signal end this program without leaving anything mounted. The processes that it started end with it.
func endWithPlaces() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt, unix.SIGTERM, unix.SIGHUP)
	go func() {
		sig := <-c
		fmt.Fprintln(os.Stderr, "bench:", sig)
		places.Range(func(p, _ any) bool { p.(*place).close(); return true })
		os.Exit(1)
	}()
}

func (p *place) mount() error {
	if p.FS == "tmpfs" {
		return unix.Mount("tmpfs", p.Dir, "tmpfs", 0, "size=4g,nr_inodes=2m")
	}
	make := mkfs[p.FS]
	if make == nil {
		return fmt.Errorf("there is no file system %q here", p.FS)
	}
	image := filepath.Join(p.top, "image")
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	if err := f.Truncate(imageSize); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	for _, cmd := range [][]string{append(make[:len(make):len(make)], image), {"mount", "-o", "loop", image, p.Dir}} {
		if out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", cmd[0], err, strings.TrimSpace(string(out)))
		}
	}
	return os.RemoveAll(filepath.Join(p.Dir, "lost+found"))
}

func (p *place) close() {
	if _, open := places.LoadAndDelete(p); !open {
		return
	}
	if os.Geteuid() == 0 {
		if err := unix.Unmount(p.Dir, 0); err != nil {
			_ = unix.Unmount(p.Dir, unix.MNT_DETACH)
		}
	}
	os.RemoveAll(p.top)
}
