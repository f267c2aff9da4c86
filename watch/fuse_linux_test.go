package watch_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// fuse is a file system of one process: a directory of empty files, which can stop answering. It speaks the protocol of /dev/fuse itself.
type fuse struct {
	dev *os.File

	mu      sync.Mutex
	wake    *sync.Cond
	names   []string // of the nodes from fuseFirst on; "": removed
	mtime   uint64
	silent  bool
	silence uint32     // the next request of this kind is where it stops answering; 0: none
	slow    uint32     // requests of this kind are answered when it is told to
	broken  unix.Errno // what every request is answered with; 0: it works
	late    []func()
	asked   map[uint32]int // requests of each kind so far
}

// What the kernel asks for, as linux/fuse.h has it, and the nodes there are.
const (
	fuseLookup, fuseForget, fuseGetattr, fuseStatfs, fuseInit, fuseOpendir, fuseReaddir, fuseReleasedir, fuseInterrupt, fuseForgets = 1, 2, 3, 17, 26, 27, 28, 29, 36, 42

	fuseRoot, fuseFirst = 1, 2
)

// newFuse mounts one at a directory until the test ends.
func newFuse(t *testing.T, dir string, names ...string) *fuse {
	t.Helper()
	needRoot(t, "mount")
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("/dev/fuse: ", err)
	}
	if err := unix.Mount("fs_notify", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)); err != nil {
		unix.Close(fd)
		t.Skip("mount: ", err)
	}
	dev := os.NewFile(uintptr(fd), "/dev/fuse") // not before: what is not mounted cannot be waited for
	f := &fuse{dev: dev, names: names, mtime: 1, asked: make(map[uint32]int)}
	f.wake = sync.NewCond(&f.mu)
	served := make(chan struct{})
	go func() {
		defer close(served)
		f.serve()
	}()
	t.Cleanup(func() {
		f.answer()
		unix.Unmount(dir, unix.MNT_DETACH)
		dev.Close()
		<-served
	})
	return f
}

// stop has it answer nothing any more, from the next request of a kind on; 0: from now on.
func (f *fuse) stop(at uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.silence, f.silent = at, at == 0
}

// stopped waits until it is silent.
func (f *fuse) stopped() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.silent {
		f.wake.Wait()
	}
}

// answer ends the silence, and whatever is slow.
func (f *fuse) answer() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.silence, f.silent, f.slow = 0, false, 0
	for _, answer := range f.late {
		answer()
	}
	f.late = nil
	f.wake.Broadcast()
}

// slowly has it answer all but requests of a kind.
func (f *fuse) slowly(op uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.slow = op
}

// fail has it answer everything with an error; 0: as it should be.
func (f *fuse) fail(err unix.Errno) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = err
}

// await waits until there are n more requests of a kind.
func (f *fuse) await(op uint32, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n += f.asked[op]; f.asked[op] < n; {
		f.wake.Wait()
	}
}

// add makes a file.
func (f *fuse) add(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.names = append(f.names, name)
	f.mtime++
}

// remove takes one away.
func (f *fuse) remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.names[slices.Index(f.names, name)] = ""
	f.mtime++
}

func (f *fuse) serve() {
	request := make([]byte, 1<<20)
	for {
		n, err := f.dev.Read(request)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOENT) { // it was interrupted before it came here
			continue
		}
		if err != nil {
			return
		}
		if n < 40 {
			panic("a request without header")
		}
		op, unique, node := binary.NativeEndian.Uint32(request[4:]), binary.NativeEndian.Uint64(request[8:]), binary.NativeEndian.Uint64(request[16:])
		in := bytes.Clone(request[40:n])
		f.mu.Lock()
		f.asked[op]++
		if f.silence != 0 && op == f.silence {
			f.silence, f.silent = 0, true
		}
		f.wake.Broadcast()
		for f.silent {
			f.wake.Wait()
		}
		answer := func() {
			body, errno := f.reply(op, node, in)
			head := binary.NativeEndian.AppendUint32(nil, uint32(16+len(body)))
			head = binary.NativeEndian.AppendUint32(head, uint32(-int32(errno)))
			f.dev.Write(append(binary.NativeEndian.AppendUint64(head, unique), body...))
		}
		switch {
		case op == fuseForget || op == fuseForgets || op == fuseInterrupt: // which have no answer
		case f.slow != 0 && op == f.slow:
			f.late = append(f.late, answer)
		default:
			answer()
		}
		f.mu.Unlock()
	}
}

// words are a reply made of numbers.
func words(numbers ...any) []byte {
	var b bytes.Buffer
	for _, n := range numbers {
		if err := binary.Write(&b, binary.NativeEndian, n); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

func (f *fuse) reply(op uint32, node uint64, in []byte) ([]byte, unix.Errno) {
	if f.broken != 0 {
		return nil, f.broken
	}
	switch op {
	case fuseInit:
		return append(words(uint32(7), uint32(31), uint32(0), uint32(0), uint16(16), uint16(12), uint32(4096), uint32(1)), make([]byte, 36)...), 0
	case fuseGetattr:
		return append(words(uint64(0), uint32(0), uint32(0)), f.attr(node)...), 0
	case fuseLookup:
		k := slices.Index(f.names, string(bytes.TrimRight(in, "\x00")))
		if k < 0 {
			return nil, unix.ENOENT
		}
		n := uint64(fuseFirst + k)
		return append(words(n, uint64(0), uint64(0), uint64(0), uint32(0), uint32(0)), f.attr(n)...), 0
	case fuseOpendir:
		return words(uint64(0), uint32(0), uint32(0)), 0
	case fuseReleasedir:
		return nil, 0
	case fuseStatfs:
		return make([]byte, 80), 0
	case fuseReaddir:
		from, room := binary.NativeEndian.Uint64(in[8:]), binary.NativeEndian.Uint32(in[16:])
		var b []byte
		for k := int(from); k < len(f.names); k++ {
			name := f.names[k]
			if name == "" {
				continue
			}
			entry := append(words(uint64(fuseFirst+k), uint64(k+1), uint32(len(name)), uint32(unix.DT_REG)), name...)
			entry = append(entry, make([]byte, (8-len(entry)%8)%8)...)
			if len(b)+len(entry) > int(room) {
				break
			}
			b = append(b, entry...)
		}
		return b, 0
	}
	return nil, unix.ENOSYS
}

func (f *fuse) attr(node uint64) []byte {
	mode, links := uint32(unix.S_IFREG|0o644), uint32(1)
	if node == fuseRoot {
		mode, links = unix.S_IFDIR|0o755, 2
	}
	return words(node, uint64(0), uint64(0), f.mtime, f.mtime, f.mtime, [3]uint32{}, mode, links, [2]uint32{}, [3]uint32{})
}
