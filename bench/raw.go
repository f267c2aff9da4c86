//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// rawPause is what our own sources pause under flow.
const rawPause = 2 * time.Millisecond

// rawResult is what a bare reader has read.
type rawResult struct {
	Records   int
	Reads     int
	Overflows int
	Named     int // distinct (directory, name) hits, so that the look-up cannot be left out
}

// roleRaw reads the kernel's queue, finds the directory of each record in a map, and does nothing else, with a pause of 2 ms
// after each read, until standard input ends. It does not follow new directories, except that a mark covers them.
func roleRaw(kind, root string) error {
	var fd int
	var err error
	dirs := make(map[string]int)
	wds := make(map[int32]int)
	switch kind {
	case "inotify":
		if fd, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err != nil {
			return err
		}
	case "fanotify":
		const flags = unix.FAN_CLASS_NOTIF | unix.FAN_REPORT_DFID_NAME_TARGET | unix.FAN_UNLIMITED_QUEUE | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK
		if fd, err = unix.FanotifyInit(flags, unix.O_RDONLY); err != nil {
			return err
		}
		const mask = unix.FAN_CREATE | unix.FAN_MODIFY | unix.FAN_ATTRIB | unix.FAN_DELETE | unix.FAN_RENAME | unix.FAN_ONDIR
		if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, mask, unix.AT_FDCWD, root); err != nil {
			return err
		}
	default:
		return fmt.Errorf("there is no raw %q", kind)
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if kind == "inotify" {
			wd, err := unix.InotifyAddWatch(fd, path, unix.IN_CREATE|unix.IN_MODIFY|unix.IN_ATTRIB|unix.IN_DELETE|unix.IN_MOVE|unix.IN_ONLYDIR)
			wds[int32(wd)] = len(wds)
			return err
		}
		h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, path, 0)
		if err == nil {
			dirs[string(h.Bytes())] = len(dirs)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := say("ready"); err != nil {
		return err
	}
	var r rawResult
	buf := make([]byte, 1<<20)
	polls := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: 0, Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(polls, -1); err != nil && err != unix.EINTR {
			return err
		}
		if polls[1].Revents != 0 {
			return say(r)
		}
		n, err := unix.Read(fd, buf)
		if err == unix.EAGAIN || err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		r.Reads++
		if kind == "inotify" {
			r.inotify(buf[:n], wds)
		} else {
			r.fanotify(buf[:n], dirs)
		}
		time.Sleep(rawPause)
	}
}

func (r *rawResult) inotify(b []byte, dirs map[int32]int) {
	for len(b) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(b))
		if binary.NativeEndian.Uint32(b[4:])&unix.IN_Q_OVERFLOW != 0 {
			r.Overflows++
		}
		if _, ok := dirs[wd]; ok {
			r.Named++
		}
		r.Records++
		b = b[unix.SizeofInotifyEvent+binary.NativeEndian.Uint32(b[12:]):]
	}
}

// Offsets in what fanotify(7) describes: an information record is a header of 4 bytes, the fsid of 8, then the file
// handle: length, type, bytes, and behind it the name.
const (
	fanInfoHeader = 4
	fanHandleAt   = fanInfoHeader + 8
	fanBytesAt    = fanHandleAt + 8
)

func (r *rawResult) fanotify(b []byte, dirs map[string]int) {
	for len(b) >= unix.FAN_EVENT_METADATA_LEN {
		size := binary.NativeEndian.Uint32(b)
		if binary.NativeEndian.Uint64(b[8:])&unix.FAN_Q_OVERFLOW != 0 {
			r.Overflows++
		}
		for info := b[unix.FAN_EVENT_METADATA_LEN:size]; len(info) >= fanBytesAt; {
			n := binary.NativeEndian.Uint16(info[2:])
			switch info[0] {
			case unix.FAN_EVENT_INFO_TYPE_DFID_NAME, unix.FAN_EVENT_INFO_TYPE_OLD_DFID_NAME, unix.FAN_EVENT_INFO_TYPE_NEW_DFID_NAME:
				h := binary.NativeEndian.Uint32(info[fanHandleAt:])
				if _, ok := dirs[string(info[fanBytesAt:fanBytesAt+int(h)])]; ok {
					r.Named++
				}
			}
			info = info[n:]
		}
		r.Records++
		b = b[size:]
	}
}

// walkResult is what a bare walk has found.
type walkResult struct {
	Entries int
	Wall    float64 // s
	CPU     float64 // s
}

// roleWalk lists every directory with getdents64 and asks statx of every name, with two workers: the least that an
// index with attributes can cost.
func roleWalk(root string) error {
	start, cpu := time.Now(), ownCPU()
	const workers = 2
	todo := make(chan string, 1<<20)
	pending := make(chan int, 1<<20)
	counts := make(chan int, workers)
	todo <- root
	for range workers {
		go func() {
			n, buf := 0, make([]byte, 64<<10)
			var stx unix.Statx_t
			for dir := range todo {
				subdirs := 0
				fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOATIME|unix.O_CLOEXEC, 0)
				if err != nil {
					fmt.Fprintln(os.Stderr, "walk:", err)
					os.Exit(1)
				}
				for {
					k, err := unix.Getdents(fd, buf)
					if err != nil || k <= 0 {
						break
					}
					for b := buf[:k]; len(b) > 0; b = b[binary.NativeEndian.Uint16(b[16:]):] {
						name := b[19:binary.NativeEndian.Uint16(b[16:])]
						for i, c := range name {
							if c == 0 {
								name = name[:i]
								break
							}
						}
						if s := string(name); s != "." && s != ".." {
							n++
							if unix.Statx(fd, s, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &stx) == nil && stx.Mode&unix.S_IFMT == unix.S_IFDIR {
								subdirs++
								todo <- dir + "/" + s
							}
						}
					}
				}
				unix.Close(fd)
				pending <- subdirs - 1
			}
			counts <- n
		}()
	}
	for open := 1; open > 0; {
		open += <-pending
	}
	close(todo)
	r := walkResult{}
	for range workers {
		r.Entries += <-counts
	}
	r.Wall, r.CPU = time.Since(start).Seconds(), (ownCPU() - cpu).Seconds()
	return say(r)
}
