//go:build linux

package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// The loads are those of docs/benchmarks.md. Each is made by a process of its own, so that its CPU time is the writers'.

// loadResult is what a load has done.
type loadResult struct {
	Ops     int     // system calls that changed something, creations with their first write counted once
	Records int     // inotify records that a lossless reader gets for them
	Files   int     // distinct files made
	Wall    float64 // s
	CPU     float64 // s of this process, user and system
}

// fullSize is how large the full load is at a scale: at 1, 2,000 directories with 100 files each.
func fullSize(scale float64) (dirs, files int) {
	dirs = max(int(2000*scale), 2)
	return dirs, dirs * 100
}

// keep: one file in so many outlives the full load, for the comparison with the disk.
const keep = 100

// raceSize: directories, and files in each.
func raceSize(kind string, scale float64) (dirs, files int) {
	if kind == "a" {
		return max(int(2000*scale), 1), 100
	}
	return max(int(20000*scale), 1), 5
}

// endName is the file whose creation in the root says that a load is over.
const endName = "END"

// A writer makes file system calls without allocating for each.
type writer struct {
	root string
	a, b []byte // paths, NUL-terminated where needed
	data []byte
	ops  int
}

func (w *writer) path(dst []byte, dir int, kind byte, file int) []byte {
	dst = append(dst[:0], w.root...)
	dst = append(dst, "/g"...)
	dst = strconv.AppendInt(dst, int64(dir/50), 10)
	dst = append(dst, "/d"...)
	dst = strconv.AppendInt(dst, int64(dir), 10)
	if kind != 0 {
		dst = append(dst, '/', kind)
		dst = strconv.AppendInt(dst, int64(file), 10)
	}
	return dst
}

func (w *writer) write(path []byte, flags int) error {
	fd, err := unix.Open(string(path), flags|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, w.data)
	if e := unix.Close(fd); err == nil {
		err = e
	}
	w.ops++
	return err
}

// prepareFull makes the directories of the full load.
func prepareFull(root string, scale float64) error {
	w := &writer{root: root}
	dirs, _ := fullSize(scale)
	for d := range dirs {
		if err := os.MkdirAll(string(w.path(nil, d, 0, 0)), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// full creates and writes files, appends to them, changes their mode, renames them in place and into the next
// directory, and removes all but a few, round robin over the directories.
func full(root string, scale float64) (r loadResult, err error) {
	w := &writer{root: root, data: make([]byte, 100)}
	dirs, files := fullSize(scale)
	each := func(f func(file, dir int) error) error {
		for i := range files {
			if err := f(i, i%dirs); err != nil {
				return err
			}
		}
		return nil
	}
	rename := func(from, to []byte) error {
		w.ops++
		return unix.Rename(string(from), string(to))
	}
	for _, phase := range []func(i, d int) error{
		func(i, d int) error { w.a = w.path(w.a, d, 'f', i); return w.write(w.a, unix.O_CREAT|unix.O_EXCL) },
		func(i, d int) error { w.a = w.path(w.a, d, 'f', i); return w.write(w.a, unix.O_APPEND) },
		func(i, d int) error { w.a = w.path(w.a, d, 'f', i); w.ops++; return unix.Chmod(string(w.a), 0o600) },
		func(i, d int) error {
			w.a, w.b = w.path(w.a, d, 'f', i), w.path(w.b, d, 'r', i)
			return rename(w.a, w.b)
		},
		func(i, d int) error {
			w.a, w.b = w.path(w.a, d, 'r', i), w.path(w.b, (d+1)%dirs, 'r', i)
			return rename(w.a, w.b)
		},
		func(i, d int) error {
			if i%keep == 0 {
				return nil
			}
			w.a = w.path(w.a, (d+1)%dirs, 'r', i)
			w.ops++
			return unix.Unlink(string(w.a))
		},
	} {
		if err := each(phase); err != nil {
			return r, err
		}
	}
	return loadResult{Ops: w.ops, Records: 9*files - (files+keep-1)/keep, Files: files}, nil
}

// race makes each directory and at once fills it.
func race(root, kind string, scale float64) (r loadResult, err error) {
	w := &writer{root: root, data: make([]byte, 100)}
	dirs, files := raceSize(kind, scale)
	for d := range dirs {
		w.a = append(append(w.a[:0], root...), "/g"...)
		w.a = strconv.AppendInt(w.a, int64(d/50), 10)
		if d%50 == 0 {
			w.ops++
			if err := unix.Mkdir(string(w.a), 0o755); err != nil {
				return r, err
			}
		}
		w.ops++
		if err := unix.Mkdir(string(w.path(w.a, d, 0, 0)), 0o755); err != nil {
			return r, err
		}
		for f := range files {
			w.a = w.path(w.a, d, 'f', d*files+f)
			if err := w.write(w.a, unix.O_CREAT|unix.O_EXCL); err != nil {
				return r, err
			}
		}
	}
	return loadResult{Ops: w.ops, Records: dirs + (dirs+49)/50 + 2*dirs*files, Files: dirs * files}, nil
}

// populate makes a tree of 100 files in a directory, for the measurements of starting.
func populate(root string, files int) error {
	w := &writer{root: root, data: make([]byte, 100)}
	for i := range files {
		if i%100 == 0 {
			if err := os.MkdirAll(string(w.path(w.a, i/100, 0, 0)), 0o755); err != nil {
				return err
			}
		}
		w.a = w.path(w.a, i/100, 'f', i)
		if err := w.write(w.a, unix.O_CREAT|unix.O_EXCL); err != nil {
			return err
		}
	}
	return nil
}

// roleLoad is the process that makes a load; its result is one line of JSON.
func roleLoad(kind, root string, scale float64) error {
	start, cpu := time.Now(), ownCPU()
	var r loadResult
	var err error
	switch kind {
	case "full":
		r, err = full(root, scale)
	case "race-a", "race-b":
		r, err = race(root, kind[len("race-"):], scale)
	default:
		err = fmt.Errorf("there is no load %q", kind)
	}
	if err != nil {
		return err
	}
	r.Wall, r.CPU = time.Since(start).Seconds(), (ownCPU() - cpu).Seconds()
	if err := os.WriteFile(root+"/"+endName, nil, 0o644); err != nil {
		return err
	}
	return say(r)
}
