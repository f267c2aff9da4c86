//go:build linux

package watch

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	inoMask = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
		unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB | unix.IN_MOVE_SELF | unix.IN_DELETE_SELF |
		unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW // no IN_EXCL_UNLINK: it hides writes to what has another link
	inoHeader  = unix.SizeofInotifyEvent
	inoLargest = inoHeader + unix.NAME_MAX + 1
)

// NewInotify returns the source over inotify: Linux, no privilege, one watch for each
// directory. It reports closes, with opts.Atime reads too, and both halves of every rename.
//
// It cannot see who did it, and the kernel's queue is limited
// (fs.inotify.max_queued_events): ErrOverflow. It starts no goroutine.
func NewInotify(opts SourceOptions) (Source, error) {
	q, err := newIno(opts.Atime)
	if err != nil {
		return nil, err
	}
	return newSrcKernel("inotify", Caps{Closes: true, Reads: opts.Atime}, q)
}

// inoQueue is an inotify instance. The kernel never gives a watch descriptor (wd) twice before it has
// given 2^31, so what is queued for an ended watch cannot be taken for another's.
type inoQueue struct {
	srcBuf
	mask uint32
	held held

	mu     sync.Mutex
	closed bool
	wds    owners[int32]
	refs   map[DirRef]int32
}

func newIno(atime bool) (*inoQueue, error) {
	if err := srcProc(); err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", srcLimit(err))
	}
	q := &inoQueue{
		srcBuf: srcBuf{file: fd, room: inoLargest},
		mask:   inoMask,
		wds:    newOwners[int32](),
		refs:   make(map[DirRef]int32),
	}
	if atime {
		q.mask |= unix.IN_ACCESS
	}
	return q, nil
}

func (q *inoQueue) watch(ref DirRef, at Place) error {
	if err := srcNotifies(at); err != nil {
		return err
	}
	// The dot makes the kernel go through the link to the directory that is open: the link alone would be watched itself.
	path := "/proc/self/fd/" + strconv.Itoa(at.FD) + "/."
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	n, err := unix.InotifyAddWatch(q.file, path, q.mask)
	if err != nil {
		q.forget(ref)
		return fmt.Errorf("inotify: watch %s: %w", at.Path, srcLimit(err))
	}
	wd := int32(n)
	if old, ok := q.refs[ref]; ok && old != wd {
		q.forget(ref)
	}
	q.wds.add(wd, ref)
	q.refs[ref] = wd
	return nil
}

func (q *inoQueue) unwatch(ref DirRef) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.forget(ref)
	}
}

// forget ends the watch of ref if there is one. q.mu is held.
func (q *inoQueue) forget(ref DirRef) {
	wd, ok := q.refs[ref]
	if !ok {
		return
	}
	delete(q.refs, ref)
	if q.wds.drop(wd, ref) {
		_, _ = unix.InotifyRmWatch(q.file, uint32(wd)) // EINVAL: its directory is gone, so the kernel has ended it
	}
}

func (q *inoQueue) empty() bool { return q.off == q.end && len(q.held) == 0 }

func (q *inoQueue) parse(recs []Record) (n int, err error) {
	if q.empty() || len(recs) == 0 {
		return 0, nil
	}
	n = q.held.give(recs)
	q.mu.Lock() // once for all: the map is asked for every record, and changed rarely
	defer q.mu.Unlock()
	var (
		last = int32(-1) // most records are about the same directory as the one before
		ref  DirRef
		seen bool
	)
	for q.off < q.end && n < len(recs) {
		ev, size, ok := inoDecode(q.buf[q.off:q.end])
		if !ok || ev.mask&unix.IN_Q_OVERFLOW != 0 {
			if n > 0 {
				return n, nil // an error comes alone
			}
			q.off += size
			if !ok {
				q.off = q.end
			}
			return 0, ErrOverflow
		}
		q.off += size
		if ev.wd != last {
			last = ev.wd
			ref, seen = q.wds.first[ev.wd]
		}
		if !seen {
			continue
		}
		rec := Record{Dir: ref}
		switch {
		case ev.mask&(unix.IN_IGNORED|unix.IN_UNMOUNT) != 0:
			rec.Op = OpLost
		case len(ev.name) == 0:
			if ev.mask&(unix.IN_ATTRIB|unix.IN_MOVE_SELF) == 0 {
				continue // IN_DELETE_SELF: IN_IGNORED follows
			}
			rec.Op = OpSelf // it stays watched wherever it is moved to
		default:
			if rec.Op = inoOp(ev.mask); rec.Op == 0 {
				continue
			}
			rec.Name, rec.Cookie = ev.name, ev.cookie
		}
		recs[n] = rec
		n++
		if len(q.wds.rest) > 0 {
			q.held = q.wds.copies(q.held, ev.wd, rec)
			n += q.held.give(recs[n:])
		}
		if rec.Op == OpLost {
			for _, ref := range q.wds.all(ev.wd) {
				q.wds.drop(ev.wd, ref)
				delete(q.refs, ref)
			}
			last = -1
		}
	}
	return n, nil
}

func (q *inoQueue) close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil
	}
	q.closed = true
	if err := unix.Close(q.file); err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	return nil
}

// inoEvent is struct inotify_event.
type inoEvent struct {
	wd     int32
	mask   uint32
	cookie uint32
	name   []byte
}

// inoDecode takes the first event of b and says how many bytes it has. It fails if b ends within it.
func inoDecode(b []byte) (ev inoEvent, size int, ok bool) {
	if len(b) < inoHeader {
		return ev, 0, false
	}
	ev.wd = int32(binary.NativeEndian.Uint32(b))
	ev.mask = binary.NativeEndian.Uint32(b[4:])
	ev.cookie = binary.NativeEndian.Uint32(b[8:])
	length := binary.NativeEndian.Uint32(b[12:])
	if uint64(length) > uint64(len(b)-inoHeader) {
		return ev, 0, false
	}
	size = inoHeader + int(length)
	name := b[inoHeader:size:size]
	if i := bytes.IndexByte(name, 0); i >= 0 { // it is padded
		name = name[:i:i]
	}
	ev.name = name
	return ev, size, true
}

func inoOp(mask uint32) (op Op) {
	if mask&unix.IN_CREATE != 0 {
		op |= OpCreate
	}
	if mask&unix.IN_DELETE != 0 {
		op |= OpDelete
	}
	if mask&unix.IN_MOVED_FROM != 0 {
		op |= OpMovedFrom
	}
	if mask&unix.IN_MOVED_TO != 0 {
		op |= OpMovedTo
	}
	if mask&unix.IN_MODIFY != 0 {
		op |= OpModify
	}
	if mask&unix.IN_CLOSE_WRITE != 0 {
		op |= OpCloseWrite
	}
	if mask&unix.IN_ATTRIB != 0 {
		op |= OpAttrib
	}
	if mask&unix.IN_ACCESS != 0 {
		op |= OpAccess
	}
	return op
}
