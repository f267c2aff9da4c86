//go:build linux

package watch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	fanInit = unix.FAN_CLASS_NOTIF | unix.FAN_REPORT_DFID_NAME_TARGET | unix.FAN_UNLIMITED_QUEUE |
		unix.FAN_UNLIMITED_MARKS | unix.FAN_NONBLOCK | unix.FAN_CLOEXEC
	fanMask = unix.FAN_CREATE | unix.FAN_DELETE | unix.FAN_RENAME | unix.FAN_MODIFY |
		unix.FAN_CLOSE_WRITE | unix.FAN_ATTRIB | unix.FAN_ONDIR

	fanHeader  = unix.FAN_EVENT_METADATA_LEN
	fanInfo    = 4         // type, pad, length
	fanFid     = 8 + 4 + 4 // fsid, length of the handle, its type
	fanLargest = 4096      // more than any event: three handles of 128 bytes, two names of 255
	fanCookie  = 1 << 31   // lest ours are taken for those of inotify, which counts from 1 at boot
	fanHandle  = 128       // MAX_HANDLE_SZ
)

// fanBtrfs is the type of btrfs's handles in the kernel's include/linux/exportfs.h.
const fanBtrfs = 0x4d

// NewFanotify returns the source over fanotify: Linux 5.17, CAP_SYS_ADMIN. The first Watch of a directory marks its
// whole file system, and the queue is unlimited: nothing is lost, pairs of renames are exact, and it is known which
// process did it. It starts no goroutine.
//
// What happens elsewhere on a marked file system costs a look-up without a system call. A mark stays until
// Close or until the file system is unmounted: a source holds no descriptor by which it could remove it, since that
// would keep the file system from being unmounted. Watch fails with EOPNOTSUPP, ENODEV or EXDEV where a file
// system cannot be marked (overlay is the one that matters): use inotify there. Marks on single directories would work, at no
// lower price than a watch (docs/benchmarks.md), but could not be taken back without a descriptor; and on overlay a directory that is
// copied up keeps its handle only as long as the layers below have handles themselves.
//
// The reads of the process itself are left out of OpAccess: else looking would be seen as a change.
func NewFanotify(opts SourceOptions) (Source, error) {
	q, err := newFan(opts.Atime)
	if err != nil {
		return nil, err
	}
	return newSrcKernel("fanotify", fanCaps(opts.Atime), q)
}

func fanCaps(atime bool) Caps { return Caps{Closes: true, Reads: atime, Exact: true, Actors: true} }

// youngFor is how long a new directory is taken for one that is about to be watched.
const youngFor = 5 * time.Second

// fanQueue is a fanotify group. A record names its directory by file system and file handle, which never changes
// while the directory lives: a map leads from there to the ref.
type fanQueue struct {
	srcBuf
	mask    uint64
	pid     int32 // our own
	renames uint32
	held    held
	// young are the newest directories that were made in watched ones, or in each other, and are not watched themselves yet, by fanKey: what comes out of
	// one by a rename does not come from elsewhere, and what is closed in one is not unknown for long. Those that are still not watched after a while are not
	// to be. Guarded by mu.
	young recent[string]
	aged  time.Time
	last  struct { // what dirOf found, while parse runs
		key []byte // in the buffer
		ref DirRef
		ok  bool
	}

	mu     sync.Mutex
	closed bool
	dirs   owners[string] // by fsid, length and type of the handle, handle: as in the records
	refs   map[DirRef]fanWatch
	tops   map[uint64]*fanTop // by Place.Mount: btrfs file systems of which only a sub-volume is mounted
}

type fanWatch struct {
	key   string
	top   uint64 // Place.Mount, if in tops
	inTop bool
}

// fanTop is a file system that was marked through its top-level sub-volume.
type fanTop struct {
	fsid fanFsid
	refs int
}

type fanFsid [8]byte

func newFan(atime bool) (*fanQueue, error) {
	fd, err := unix.FanotifyInit(fanInit, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_LARGEFILE)
	if err != nil {
		return nil, fmt.Errorf("fanotify: %w", err)
	}
	q := &fanQueue{
		srcBuf: srcBuf{file: fd, room: fanLargest},
		mask:   fanMask,
		pid:    int32(os.Getpid()),
		dirs:   newOwners[string](),
		refs:   make(map[DirRef]fanWatch),
		tops:   make(map[uint64]*fanTop),
	}
	if atime {
		q.mask |= unix.FAN_ACCESS
	}
	return q, nil
}

func (q *fanQueue) watch(ref DirRef, at Place) error {
	st, err := srcStatfs(at)
	if err != nil {
		return err
	}
	if st.Type == unix.MSDOS_SUPER_MAGIC || st.Type == unix.EXFAT_SUPER_MAGIC {
		return fmt.Errorf("fanotify: %s: an inode has another handle there each time that it is read: %w", at.Path, unix.EOPNOTSUPP)
	}
	fsid := fanFsidOf(&st)
	handle, err := fanHandleOf(at.FD)
	if err != nil {
		return fmt.Errorf("fanotify: handle of %s: %w", at.Path, err)
	}

	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	q.forget(ref)
	w, err := q.mark(at, fsid, handle)
	if err != nil {
		return fmt.Errorf("fanotify: mark %s: %w", at.Path, err)
	}
	q.refs[ref] = w
	q.dirs.add(w.key, ref)
	q.young.drop(w.key)
	return nil
}

// mark makes the kernel report what happens in a directory, and says under which key its records will come. Every
// directory asks for the mark of its file system anew: that costs a microsecond, and sees to it that an
// unmount, which takes the mark away silently, is made good by whoever looks at the next mount. q.mu is held.
func (q *fanQueue) mark(at Place, fsid fanFsid, handle []byte) (w fanWatch, err error) {
	// A group may not have marks with different fsids on one file system, so a private directory in a sub-volume of
	// btrfs, which has an fsid of its own, is watched like any other.
	if at.Private && fanWhole(fsid, handle) == fsid {
		w.key = fanKey(fsid, handle)
		return w, unix.FanotifyMark(q.file, unix.FAN_MARK_ADD|unix.FAN_MARK_ONLYDIR, q.mask|unix.FAN_EVENT_ON_CHILD, at.FD, ".")
	}
	if top := q.tops[at.Mount]; top != nil {
		top.refs++
		return fanWatch{key: fanKey(top.fsid, handle), top: at.Mount, inTop: true}, nil
	}
	err = q.markWhole(at.FD)
	if err == nil {
		return fanWatch{key: fanKey(fsid, handle)}, nil
	}
	if !errors.Is(err, unix.EXDEV) {
		return w, err
	}
	// A sub-volume of btrfs. Its records carry the fsid of the top level, through which alone the file system can be marked.
	whole, topErr := q.markTop(at.FD)
	if topErr != nil {
		return w, fmt.Errorf("%w, and through the top level: %w", err, topErr)
	}
	q.tops[at.Mount] = &fanTop{fsid: whole, refs: 1}
	return fanWatch{key: fanKey(whole, handle), top: at.Mount, inTop: true}, nil
}

func (q *fanQueue) markWhole(dir int) error {
	return unix.FanotifyMark(q.file, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, q.mask, dir, ".")
}

// markTop marks a btrfs file system through a mount of its top level that nobody else sees, and that is gone
// at once: the mark stays as long as the file system is mounted anywhere.
func (q *fanQueue) markTop(dir int) (fsid fanFsid, err error) {
	top, err := fanMountTop(dir)
	if err != nil {
		return fsid, err
	}
	defer unix.Close(top)
	var st unix.Statfs_t
	if err := unix.Fstatfs(top, &st); err != nil {
		return fsid, fmt.Errorf("statfs: %w", err)
	}
	return fanFsidOf(&st), q.markWhole(top)
}

func (q *fanQueue) unwatch(ref DirRef) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.forget(ref)
	}
}

// forget ends the watch of ref. q.mu is held.
func (q *fanQueue) forget(ref DirRef) {
	w, ok := q.refs[ref]
	if !ok {
		return
	}
	delete(q.refs, ref)
	q.dirs.drop(w.key, ref)
	if !w.inTop {
		return
	}
	if top := q.tops[w.top]; top != nil {
		if top.refs--; top.refs == 0 { // the next one may be after an unmount
			delete(q.tops, w.top)
		}
	}
}

func (q *fanQueue) empty() bool { return q.off == q.end && len(q.held) == 0 }

func (q *fanQueue) parse(recs []Record) (n int, err error) {
	if q.empty() || len(recs) == 0 {
		return 0, nil
	}
	n = q.held.give(recs)
	q.mu.Lock() // once for all: the map is asked for every record, and changed rarely
	defer q.mu.Unlock()
	q.last.key = nil
	q.young.age(&q.aged, time.Now(), youngFor)
	for q.off < q.end && n < len(recs) {
		ev, size, ok := fanDecode(q.buf[q.off:q.end])
		if !ok || ev.mask&unix.FAN_Q_OVERFLOW != 0 { // without information about any object
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
		first, second := q.records(&ev)
		if first.Op == 0 {
			continue
		}
		recs[n] = first
		n++
		switch {
		case second.Op == 0:
		case n < len(recs):
			recs[n] = second
			n++
		default:
			q.held = append(q.held, second)
		}
		if len(q.dirs.rest) > 0 {
			q.copies(&ev, first, second)
			n += q.held.give(recs[n:])
		}
	}
	return n, nil
}

// copies puts records aside for whoever else watches the directories of an event. q.mu is held.
func (q *fanQueue) copies(ev *fanEvent, first, second Record) {
	for _, rec := range [...]Record{first, second} {
		dir := ev.dir
		switch {
		case rec.Op&OpMovedFrom != 0:
			dir = ev.oldDir
		case rec.Op&OpMovedTo != 0:
			dir = ev.newDir
		}
		if rec.Op != 0 && rec.Dir != 0 {
			q.held = q.dirs.copies(q.held, string(dir), rec)
		}
	}
}

// dirOf finds the directory of a record: most are about the same one as the record before. q.mu is held.
func (q *fanQueue) dirOf(key []byte) (DirRef, bool) {
	if q.last.key == nil || !bytes.Equal(key, q.last.key) {
		q.last.key = key
		q.last.ref, q.last.ok = q.dirs.first[string(key)]
	}
	return q.last.ref, q.last.ok
}

// cookie is for the halves of one rename.
func (q *fanQueue) cookie() uint32 {
	q.renames++
	return q.renames | fanCookie
}

// records turns an event into no, one or two records. The kernel merges what happened to one object under one
// name: creation comes before all else then, and its end behind. q.mu is held.
func (q *fanQueue) records(ev *fanEvent) (first, second Record) {
	if ev.mask&unix.FAN_RENAME != 0 {
		from, hasFrom := q.dirOf(ev.oldDir)
		to, hasTo := q.dirOf(ev.newDir)
		first = Record{Dir: from, Op: OpMovedFrom, Name: ev.oldName, PID: ev.pid, Object: ev.object}
		second = Record{Dir: to, Op: OpMovedTo, Name: ev.newName, PID: ev.pid, Object: ev.object}
		switch {
		case hasFrom && hasTo:
			cookie := q.cookie()
			first.Cookie, second.Cookie = cookie, cookie
			return first, second
		case hasFrom:
			if q.young.has(string(ev.newDir)) {
				first.Cookie = q.cookie() // it has not left
			} else if len(ev.objectKey) > 0 {
				q.young.drop(string(ev.objectKey))
			}
			return first, Record{}
		case hasTo:
			if q.young.has(string(ev.oldDir)) {
				second.Op |= OpFromNew
			}
			return second, Record{}
		}
		if len(ev.objectKey) > 0 && !q.young.has(string(ev.newDir)) {
			q.young.drop(string(ev.objectKey)) // it has left
		}
		return Record{}, Record{}
	}
	ref, ok := q.dirOf(ev.dir)
	if ev.mask&(unix.FAN_CREATE|unix.FAN_ONDIR) == unix.FAN_CREATE|unix.FAN_ONDIR && len(ev.objectKey) > 0 && (ok || q.young.has(string(ev.dir))) {
		q.young.add(string(ev.objectKey), maxYoung)
	}
	if !ok {
		if op := fanOp(ev.mask) & changeOps; op != 0 && len(ev.object) > 0 && len(ev.name) > 0 && ev.pid != q.pid {
			first = Record{Op: op, Object: ev.object, PID: ev.pid} // the object may have a name that is watched
			if op&OpCloseWrite != 0 && q.young.has(string(ev.dir)) {
				first.Op |= OpFromNew
			}
		}
		return first, Record{}
	}
	if len(ev.name) == 0 || len(ev.name) == 1 && ev.name[0] == '.' { // the directory itself
		if op := fanOp(ev.mask) & (OpAttrib | OpModify); op != 0 {
			first = Record{Dir: ref, Op: OpSelf | op&OpModify, PID: ev.pid}
		}
		return first, Record{}
	}
	op := fanOp(ev.mask)
	if ev.pid == q.pid {
		op &^= OpAccess
	}
	first = Record{Dir: ref, Op: op &^ OpDelete, Name: ev.name, PID: ev.pid, Object: ev.object}
	if op&OpDelete != 0 {
		second = first
		second.Op = OpDelete
	}
	if first.Op == 0 {
		first, second = second, Record{}
	}
	return first, second
}

func (q *fanQueue) close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil
	}
	q.closed = true
	if err := unix.Close(q.file); err != nil {
		return fmt.Errorf("fanotify: %w", err)
	}
	return nil
}

func fanOp(mask uint64) (op Op) {
	if mask&unix.FAN_CREATE != 0 {
		op |= OpCreate
	}
	if mask&unix.FAN_DELETE != 0 {
		op |= OpDelete
	}
	if mask&unix.FAN_MODIFY != 0 {
		op |= OpModify
	}
	if mask&unix.FAN_CLOSE_WRITE != 0 {
		op |= OpCloseWrite
	}
	if mask&unix.FAN_ATTRIB != 0 {
		op |= OpAttrib
	}
	if mask&unix.FAN_ACCESS != 0 {
		op |= OpAccess
	}
	return op
}

// fanEvent is struct fanotify_event_metadata with the information records behind it that we use. A directory is what
// [fanKey] makes; nil if the event does not say it.
type fanEvent struct {
	mask            uint64
	pid             int32
	object          []byte // type and bytes of its handle; nil: not known
	objectKey       []byte // as of a directory
	dir, name       []byte
	oldDir, oldName []byte // FAN_RENAME
	newDir, newName []byte
}

// fanDecode takes the first event of b and says how many bytes it has. It fails if b ends within it, or if it
// contradicts itself or is of another version than we know.
func fanDecode(b []byte) (ev fanEvent, size int, ok bool) {
	if len(b) < fanHeader {
		return ev, 0, false
	}
	length := binary.NativeEndian.Uint32(b)
	header := int(binary.NativeEndian.Uint16(b[6:]))
	if b[4] != unix.FANOTIFY_METADATA_VERSION || header < fanHeader ||
		uint64(length) > uint64(len(b)) || uint64(header) > uint64(length) {
		return ev, 0, false
	}
	size = int(length)
	ev.mask = binary.NativeEndian.Uint64(b[8:])
	ev.pid = int32(binary.NativeEndian.Uint32(b[20:]))
	for rest := b[header:size]; len(rest) > 0; {
		if len(rest) < fanInfo {
			return ev, 0, false
		}
		kind, n := rest[0], int(binary.NativeEndian.Uint16(rest[2:]))
		if n < fanInfo || n > len(rest) {
			return ev, 0, false
		}
		info := rest[fanInfo:n:n]
		rest = rest[n:]
		switch kind {
		case unix.FAN_EVENT_INFO_TYPE_FID, unix.FAN_EVENT_INFO_TYPE_DFID, unix.FAN_EVENT_INFO_TYPE_DFID_NAME,
			unix.FAN_EVENT_INFO_TYPE_OLD_DFID_NAME, unix.FAN_EVENT_INFO_TYPE_NEW_DFID_NAME:
		default:
			continue
		}
		key, name, ok := fanSplit(info)
		if !ok {
			return ev, 0, false
		}
		switch kind {
		case unix.FAN_EVENT_INFO_TYPE_FID:
			ev.object, ev.objectKey = key[len(fanFsid{})+4:], key
		case unix.FAN_EVENT_INFO_TYPE_DFID:
			ev.dir = key
		case unix.FAN_EVENT_INFO_TYPE_DFID_NAME:
			ev.dir, ev.name = key, name
		case unix.FAN_EVENT_INFO_TYPE_OLD_DFID_NAME:
			ev.oldDir, ev.oldName = key, name
		case unix.FAN_EVENT_INFO_TYPE_NEW_DFID_NAME:
			ev.newDir, ev.newName = key, name
		}
	}
	return ev, size, true
}

// fanSplit takes apart fsid, handle and name.
func fanSplit(info []byte) (key, name []byte, ok bool) {
	if len(info) < fanFid {
		return nil, nil, false
	}
	length := binary.NativeEndian.Uint32(info[8:])
	if length > fanHandle || int(length) > len(info)-fanFid {
		return nil, nil, false
	}
	end := fanFid + int(length)
	key, name = info[:end:end], info[end:]
	if i := bytes.IndexByte(name, 0); i >= 0 { // it is padded
		name = name[:i:i]
	}
	return key, name, true
}

// fanHandleOf returns the file handle of an open directory as name_to_handle_at(2) gives it: length, type, bytes. Records
// carry the same.
func fanHandleOf(fd int) ([]byte, error) {
	var h struct {
		length uint32
		kind   int32
		bytes  [fanHandle]byte
	}
	var mount int32
	empty := [1]byte{}
	for _, flags := range []int{unix.AT_EMPTY_PATH, unix.AT_EMPTY_PATH | fanAtHandleFid} {
		h.length = fanHandle
		_, _, errno := unix.Syscall6(unix.SYS_NAME_TO_HANDLE_AT, uintptr(fd), uintptr(unsafe.Pointer(&empty)),
			uintptr(unsafe.Pointer(&h)), uintptr(unsafe.Pointer(&mount)), uintptr(flags), 0)
		if errno == 0 {
			return unsafe.Slice((*byte)(unsafe.Pointer(&h)), 8+int(h.length)), nil
		}
		if errno != unix.EOPNOTSUPP {
			return nil, errno
		}
	}
	return nil, unix.EOPNOTSUPP
}

const fanAtHandleFid = 0x200 // AT_HANDLE_FID: a handle that identifies but cannot be opened; Linux 6.5

func fanFsidOf(st *unix.Statfs_t) (fsid fanFsid) {
	binary.NativeEndian.PutUint32(fsid[:], uint32(st.Fsid.Val[0]))
	binary.NativeEndian.PutUint32(fsid[4:], uint32(st.Fsid.Val[1]))
	return fsid
}

func fanKey(fsid fanFsid, handle []byte) string { return string(fsid[:]) + string(handle) }

// fanWhole is the fsid of the top level of a btrfs file system, given that of a directory in one of its sub-volumes: the
// number of the sub-volume is mixed into the one, and part of the other. Everything else is left as it is.
func fanWhole(fsid fanFsid, handle []byte) fanFsid {
	if len(handle) != 8+20 || binary.NativeEndian.Uint32(handle[4:]) != fanBtrfs {
		return fsid
	}
	const top = 5
	volume := binary.NativeEndian.Uint64(handle[16:]) ^ top
	hi := binary.NativeEndian.Uint32(fsid[:]) ^ uint32(volume>>32)
	lo := binary.NativeEndian.Uint32(fsid[4:]) ^ uint32(volume)
	binary.NativeEndian.PutUint32(fsid[:], hi)
	binary.NativeEndian.PutUint32(fsid[4:], lo)
	return fsid
}
