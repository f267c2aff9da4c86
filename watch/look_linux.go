package watch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
)

// looker asks the disk. It has scratch buffers, so each worker has its own.
type looker struct {
	name   []byte // NUL-terminated
	handle [4 + 4 + 128]byte
	stx    unix.Statx_t
	dents  []byte
	xlist  []byte
	xval   []byte
	proc   []byte
	met    []ref           // children that a listing has met
	found  []look          // what it has found
	labels map[uint64]bool // digests of other attributes that are a label of SELinux alone: there are few
	errands
}

// dirFD is an open directory; -1 is none.
type dirFD = int

const noFD dirFD = -1

// rawFD is the descriptor for sources.
func rawFD(fd dirFD) int { return fd }

func closeFD(fd dirFD) {
	if fd >= 0 {
		unix.Close(fd)
	}
}

// openRoot opens a root by its path, symlinks followed: which directory it is, the caller checks.
func openRoot(path string) (dirFD, error) {
	return retry(func() (int, error) { return unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
}

// openBelow opens a directory below root without ever leaving it or following a symlink. Paths
// longer than the kernel takes at once are walked in pieces.
func openBelow(root dirFD, path string) (dirFD, error) {
	if path == "" {
		return retry(func() (int, error) {
			return unix.Openat(root, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		})
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}
	at := root
	for {
		piece, rest := path, ""
		if len(path) > 3<<10 {
			if cut := strings.LastIndexByte(path[:3<<10], '/'); cut >= 0 { // else there is a name in it that is too long for any
				piece, rest = path[:cut], path[cut+1:]
			}
		}
		fd, err := retry(func() (int, error) { return unix.Openat2(at, piece, &how) })
		if at != root {
			unix.Close(at)
		}
		if err != nil || rest == "" {
			return fd, err
		}
		at, path = fd, rest
	}
}

// retry repeats a call that was interrupted, or that lost a race against renames.
func retry(f func() (int, error)) (int, error) {
	for i := 0; ; i++ {
		n, err := f()
		if err != unix.EINTR && (err != unix.EAGAIN || i > 100) {
			return n, err
		}
	}
}

func (l *looker) cname(name string) *byte {
	l.name = append(append(l.name[:0], name...), 0)
	return &l.name[0]
}

const (
	atHandleFID  = 0x200
	statxMask    = unix.STATX_BASIC_STATS | unix.STATX_BTIME | unix.STATX_MNT_ID | unix.STATX_MNT_ID_UNIQUE // a number is reused where the kernel has no unique ones
	changeFlags  = unix.STATX_ATTR_COMPRESSED | unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND | unix.STATX_ATTR_NODUMP | unix.STATX_ATTR_ENCRYPTED | unix.STATX_ATTR_VERITY
	encrypted    = unix.STATX_ATTR_ENCRYPTED // in notify.Attr.Flags
	lookupNoFoll = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
)

// stat looks at a name in a directory, or at the directory itself if name is "". mnt is the kernel's number of the mount that it lies on.
func (l *looker) stat(dir dirFD, name string, a *notify.Attr) (mnt, dev uint64, err error) {
	if l.far != nil {
		return l.statFar(dir, strings.Clone(name), a)
	}
	flags := lookupNoFoll
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	s := &l.stx
	for {
		_, _, e := unix.Syscall6(unix.SYS_STATX, uintptr(dir), uintptr(unsafe.Pointer(l.cname(name))), uintptr(flags),
			uintptr(statxMask), uintptr(unsafe.Pointer(s)), 0)
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			return 0, 0, e
		}
		break
	}
	*a = notify.Attr{Mode: uint32(s.Mode), UID: s.Uid, GID: s.Gid, Nlink: s.Nlink, Flags: uint32(s.Attributes & changeFlags), Ino: s.Ino,
		Size: int64(s.Size), Mtime: statxNanos(s.Mtime), Ctime: statxNanos(s.Ctime), Atime: knownNanos(s.Atime.Sec, int64(s.Atime.Nsec))}
	if s.Mask&unix.STATX_BTIME != 0 {
		a.Btime = statxNanos(s.Btime)
	}
	return s.Mnt_id, uint64(s.Dev_major)<<32 | uint64(s.Dev_minor), nil
}

// statFar is stat for what may never answer.
func (l *looker) statFar(dir dirFD, name string, a *notify.Attr) (mnt, dev uint64, err error) {
	type sight struct {
		attr     notify.Attr
		mnt, dev uint64
	}
	s, err := ask(l, func(l *looker) (s sight, err error) {
		s.mnt, s.dev, err = l.stat(dir, name, &s.attr)
		return s, err
	}, nil)
	if err == nil {
		*a = s.attr
	}
	return s.mnt, s.dev, err
}

// question asks a file system something that only it can answer, by the path of its mount point: the kernel may know the attributes of that, but not how full
// it is, or the other way around.
func question(point string) {
	var stx unix.Statx_t
	unix.Statx(unix.AT_FDCWD, point, unix.AT_NO_AUTOMOUNT|unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &stx)
	var st unix.Statfs_t
	unix.Statfs(point, &st)
}

func statxNanos(t unix.StatxTimestamp) int64 { return nanos(t.Sec, int64(t.Nsec)) }

// handleOf gives the file handle (type and bytes) of a name, or of the directory itself if name is "". Valid until the next call.
func (l *looker) handleOf(dir dirFD, name string, fid bool) ([]byte, error) {
	if l.far != nil {
		name = strings.Clone(name)
		return ask(l, func(l *looker) ([]byte, error) { return l.handleOf(dir, name, fid) }, nil)
	}
	flags := 0
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	if fid {
		flags |= atHandleFID
	}
	h := &l.handle
	binary.NativeEndian.PutUint32(h[:], uint32(len(h)-8))
	var mnt int32
	for {
		_, _, e := unix.Syscall6(unix.SYS_NAME_TO_HANDLE_AT, uintptr(dir), uintptr(unsafe.Pointer(l.cname(name))),
			uintptr(unsafe.Pointer(h)), uintptr(unsafe.Pointer(&mnt)), uintptr(flags), 0)
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			return nil, e
		}
		break
	}
	n := binary.NativeEndian.Uint32(h[:])
	return h[4 : 8+n], nil
}

// identify gives the file ID of what stands under a name, whose attributes were just asked for. errTwoObjects: the
// name has got another object in between.
func (l *looker) identify(ms *mounts, m *mount, dir dirFD, name string, a *notify.Attr) (notify.FileID, error) {
	if m.kind == idByInode {
		return ms.makeID(m, nil, a.Ino, a.Btime), nil
	}
	h, err := l.handleOf(dir, name, m.kind == idByFID)
	if err != nil {
		return 0, err
	}
	id := ms.makeID(m, h, a.Ino, a.Btime)
	if m.kind == idByHandle && holdsIno(h[4:], a.Ino) {
		return id, nil
	}
	var again notify.Attr
	if _, _, err := l.stat(dir, name, &again); err != nil {
		return 0, err
	}
	if again.Ino != a.Ino || again.Btime != a.Btime {
		return 0, errTwoObjects
	}
	return id, nil
}

// holdsIno says whether a handle is known to be of an inode number: every file system that
// gives handles of its own puts the number into the first words.
func holdsIno(h []byte, ino uint64) bool {
	for i := 0; i+4 <= len(h) && i < 12; i += 4 {
		if binary.NativeEndian.Uint32(h[i:]) == uint32(ino) {
			return true
		}
	}
	return false
}

// list calls f for each name in a directory but "." and "..". The name is valid during the call.
func (l *looker) list(dir dirFD, f func(name string)) error {
	fd, err := ask(l, func(*looker) (int, error) { return openList(dir) }, closeFD)
	if err != nil {
		return err
	}
	for {
		b, err := ask(l, func(l *looker) ([]byte, error) {
			if l.dents == nil {
				l.dents = make([]byte, 64<<10)
			}
			n, err := retry(func() (int, error) { return unix.Getdents(fd, l.dents) })
			return l.dents[:max(n, 0)], err
		}, func([]byte) { closeFD(fd) })
		if err == errSilent { // who is still reading closes it
			return err
		}
		if err != nil || len(b) == 0 {
			l.closeList(fd)
			return err
		}
		for len(b) > 0 {
			size := binary.NativeEndian.Uint16(b[16:])
			name := b[19:size]
			for i, c := range name {
				if c == 0 {
					name = name[:i]
					break
				}
			}
			if s := unsafe.String(unsafe.SliceData(name), len(name)); s != "." && s != ".." {
				f(s)
			}
			b = b[size:]
		}
	}
}

// closeList closes what openList has opened. That may be told to who has to answer, and nobody waits for the answer.
func (l *looker) closeList(fd int) {
	if l.far != nil {
		go closeFD(fd)
	} else {
		closeFD(fd)
	}
}

// openList opens a directory for its names.
func openList(dir dirFD) (int, error) {
	fd, err := retry(func() (int, error) {
		return unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOATIME, 0)
	})
	if err == unix.EPERM { // not the owner: the access time may move
		fd, err = retry(func() (int, error) {
			return unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		})
	}
	return fd, err
}

// glance waits until whoever is changing the names in a directory has done so.
func glance(dir dirFD) {
	fd, err := retry(func() (int, error) {
		return unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return
	}
	var some [512]byte
	unix.Getdents(fd, some[:])
	unix.Close(fd)
}

// probe fills in what a mount is: of the directory (or file) name in dir, or dir itself. An error says nothing of what it will be the next time.
func (l *looker) probe(dir dirFD, name string, m *mount) error {
	if l.far != nil {
		name, was := strings.Clone(name), *m
		found, err := ask(l, func(l *looker) (mount, error) {
			m := was
			err := l.probe(dir, name, &m)
			return m, err
		}, nil)
		if err == nil {
			*m = found
		}
		return err
	}
	fd, err := retry(func() (int, error) {
		return unix.Openat(dir, orDot(name), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var a notify.Attr
	if _, m.dev, err = l.stat(fd, "", &a); err != nil {
		return err
	}
	var st unix.Statfs_t
	if _, err := retry(func() (int, error) { return 0, unix.Fstatfs(fd, &st) }); err == unix.ENOSYS {
		m.opaque = err.Error() // for good
	} else if err != nil {
		return err
	}
	var stx unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &stx); err == nil {
		m.id = stx.Mnt_id
	}
	m.fsType = uint64(uint32(st.Type))
	m.fsid = uint64(uint32(st.Fsid.Val[0]))<<32 | uint64(uint32(st.Fsid.Val[1]))
	m.kind = idByInode
	switch m.fsType {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.F2FS_SUPER_MAGIC:
		if _, err := l.handleOf(fd, "", false); err == nil {
			m.kind = idByHandle
		}
	case unix.OVERLAYFS_SUPER_MAGIC:
		if _, err := l.handleOf(fd, "", true); err == nil {
			m.kind = idByFID
		}
	}
	switch m.fsType {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC,
		unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC, unix.PSTOREFS_MAGIC, unix.NSFS_MAGIC,
		unix.EFIVARFS_MAGIC, unix.SELINUX_MAGIC, unix.BINFMTFS_MAGIC, unix.AUTOFS_SUPER_MAGIC, 0x19800202 /* mqueue */, 0x62656570, /* configfs */
		0x65735543 /* fusectl */, unix.HUGETLBFS_MAGIC:
		m.opaque = "it is a pseudo file system"
	}
	m.coarse = !multigrain(m.fsType)
	_, m.polled = srcSilent[uint32(m.fsType)]
	return nil
}

// foldsCase says whether a directory takes names for one that differ in case.
func foldsCase(dir dirFD, m *mount) bool {
	const (
		ntfs3 = 0x7366746e
		folds = 0x40000000 // FS_CASEFOLD_FL
	)
	switch m.fsType {
	case unix.MSDOS_SUPER_MAGIC, unix.EXFAT_SUPER_MAGIC, ntfs3:
		return true
	case unix.EXT4_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC: // each directory by itself
		fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return false
		}
		defer unix.Close(fd)
		flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
		return err == nil && flags&folds != 0
	}
	return false
}

func orDot(name string) string {
	if name == "" {
		return "."
	}
	return name
}

// multigrain says whether a change after a look always moves the change time: since Linux 6.13 on these file systems.
func multigrain(fsType uint64) bool {
	if !kernelAtLeast(6, 13) {
		return false
	}
	switch fsType {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC:
		return true
	}
	return false
}

func kernelAtLeast(major, minor int) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	v := [2]int{}
	i := 0
	for _, c := range u.Release {
		if c == '.' {
			if i++; i > 1 {
				break
			}
			continue
		}
		if c < '0' || c > '9' {
			break
		}
		v[i] = v[i]*10 + int(c-'0')
	}
	return v[0] > major || v[0] == major && v[1] >= minor
}

// xattrs digests the extended attributes of a name in a directory, or of the directory
// itself if name is "": as ".", since what was opened with O_PATH has none to give. nil: there are none. Those that cannot be read are
// taken to be as they were told.
func (l *looker) xattrs(dir dirFD, name string, told func() *notify.Xattrs) (*notify.Xattrs, error) {
	if l.far != nil {
		name, x := strings.Clone(name), told() // who gives up waiting goes on
		return ask(l, func(l *looker) (*notify.Xattrs, error) {
			return l.xattrs(dir, name, func() *notify.Xattrs { return x })
		}, nil)
	}
	n, e := l.listXattr(dir, name)
	if e == unix.EOPNOTSUPP || e == 0 && n == 0 {
		return nil, nil
	}
	var x, unreadable notify.Xattrs
	var label uint64
	switch e {
	case 0:
	case unix.E2BIG: // their names alone are more than the kernel lists: that there are some can still be told
		addXattr(&x, "", nil)
		return &x, nil
	default:
		return nil, e
	}
	for list := l.xlist[:n]; len(list) > 0; {
		end := 0
		for list[end] != 0 {
			end++
		}
		size, e := l.getXattr(dir, name, &list[0])
		switch e {
		case 0:
			if addXattr(&x, string(list[:end]), l.xval[:size]); string(list[:end]) == "security.selinux" {
				label = digest(list[:end], l.xval[:size])
			}
		case unix.ENODATA: // removed since it was listed
		case unix.ENOENT, unix.ENOTDIR:
			return nil, e
		default:
			addXattr(&unreadable, string(list[:end]), nil)
		}
		list = list[end+1:]
	}
	standIn(&x, &unreadable, orNone(told()))
	if equalXattrs(&x, &notify.Xattrs{}) {
		return nil, nil
	}
	if label != 0 && label == x.Other && len(l.labels) < maxLabels {
		if l.labels == nil {
			l.labels = make(map[uint64]bool)
		}
		l.labels[label] = true
	}
	return &x, nil
}

// maxLabels is how many labels a looker keeps.
const maxLabels = 4096

// userXattrs reads the extended attributes of the user namespace, by their names without "user.". Together they are at most limit bytes: the
// value of one that would be too much, or that cannot be read, is nil.
func (l *looker) userXattrs(dir dirFD, name string, limit int) (map[string][]byte, error) {
	if l.far != nil {
		name = strings.Clone(name)
		return ask(l, func(l *looker) (map[string][]byte, error) { return l.userXattrs(dir, name, limit) }, nil)
	}
	n, e := l.listXattr(dir, name)
	if e == unix.EOPNOTSUPP {
		return nil, nil
	}
	if e != 0 {
		return nil, e
	}
	var got map[string][]byte
	for list := l.xlist[:n]; len(list) > 0; {
		end := bytes.IndexByte(list, 0)
		key, ok := strings.CutPrefix(string(list[:end]), "user.")
		if ok && key != "" && limit >= len(key) {
			limit -= len(key)
			var value []byte
			size, e := l.getXattr(dir, name, &list[0])
			switch e {
			case 0:
				if limit >= size {
					limit -= size
					value = append([]byte{}, l.xval[:size]...)
				}
			case unix.ENOENT, unix.ENOTDIR:
				return nil, e
			}
			if e != unix.ENODATA { // else it was removed since it was listed
				if got == nil {
					got = map[string][]byte{}
				}
				got[key] = value
			}
		}
		list = list[end+1:]
	}
	return got, nil
}

// noXattrAt says that the kernel is older than 6.13: then attributes are asked for by a path through /proc.
var noXattrAt atomic.Bool

// smallXattrs is room for the names of a few extended attributes, or one value: the kernel allocates as much as it is offered, which costs more than to ask
// again for what is larger.
const smallXattrs = 512

// mostXattrs is the kernel's own limit, of all names together and of one value.
const mostXattrs = 64 << 10

// roomFor gives buf, or a larger one.
func roomFor(buf []byte, n int) []byte {
	if len(buf) >= n {
		return buf
	}
	return make([]byte, n)
}

// listXattr fills xlist, and makes room for what getXattr gives.
func (l *looker) listXattr(dir dirFD, name string) (int, unix.Errno) {
	if l.xlist == nil {
		l.xlist, l.xval = make([]byte, smallXattrs), make([]byte, smallXattrs)
	}
	n, e := l.listXattrIn(dir, name, smallXattrs)
	if e == unix.ERANGE {
		l.xlist = roomFor(l.xlist, mostXattrs)
		n, e = l.listXattrIn(dir, name, mostXattrs)
	}
	return n, e
}

func (l *looker) listXattrIn(dir dirFD, name string, room int) (int, unix.Errno) {
	if !noXattrAt.Load() {
		n, _, e := unix.Syscall6(unix.SYS_LISTXATTRAT, uintptr(dir), uintptr(unsafe.Pointer(l.cname(orDot(name)))), unix.AT_SYMLINK_NOFOLLOW,
			uintptr(unsafe.Pointer(&l.xlist[0])), uintptr(room), 0)
		if e != unix.ENOSYS && e != unix.EPERM {
			return int(n), e
		}
		noXattrAt.Store(true)
	}
	n, _, e := unix.Syscall(unix.SYS_LLISTXATTR, uintptr(l.procPath(dir, name)), uintptr(unsafe.Pointer(&l.xlist[0])), uintptr(room))
	return int(n), e
}

// getXattr fills xval.
func (l *looker) getXattr(dir dirFD, name string, key *byte) (int, unix.Errno) {
	n, e := l.getXattrIn(dir, name, key, smallXattrs)
	if e == unix.ERANGE {
		l.xval = roomFor(l.xval, mostXattrs)
		n, e = l.getXattrIn(dir, name, key, mostXattrs)
	}
	return n, e
}

func (l *looker) getXattrIn(dir dirFD, name string, key *byte, room int) (int, unix.Errno) {
	if !noXattrAt.Load() {
		args := struct {
			value       uint64
			size, flags uint32
		}{uint64(uintptr(unsafe.Pointer(&l.xval[0]))), uint32(room), 0}
		n, _, e := unix.Syscall6(unix.SYS_GETXATTRAT, uintptr(dir), uintptr(unsafe.Pointer(l.cname(orDot(name)))), unix.AT_SYMLINK_NOFOLLOW,
			uintptr(unsafe.Pointer(key)), uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args))
		return int(n), e
	}
	n, _, e := unix.Syscall6(unix.SYS_LGETXATTR, uintptr(l.procPath(dir, name)), uintptr(unsafe.Pointer(key)),
		uintptr(unsafe.Pointer(&l.xval[0])), uintptr(room), 0, 0)
	return int(n), e
}

func (l *looker) procPath(dir dirFD, name string) unsafe.Pointer {
	l.proc = append(l.proc[:0], "/proc/self/fd/"...)
	l.proc = appendInt(l.proc, dir)
	l.proc = append(l.proc, '/')
	l.proc = append(append(l.proc, orDot(name)...), 0)
	return unsafe.Pointer(&l.proc[0])
}

func appendInt(b []byte, n int) []byte {
	if n >= 10 {
		b = appendInt(b, n/10)
	}
	return append(b, byte('0'+n%10))
}

// isGone says whether an error proves that a name is not there.
func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}

// isElsewhere says whether opening a directory failed because it is not where it should be.
func isElsewhere(err error) bool {
	return isGone(err) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EXDEV)
}

// disown makes a directory of this host invisible, or a file.
func (t *tree) disown(path string) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer closeFD(fd)
	var a notify.Attr
	if _, dev, err := new(looker).stat(fd, "", &a); err == nil {
		t.own[[2]uint64{dev, a.Ino}] = true
	}
}

// entriesOn guesses how many entries a root may have: what its file system has in use.
func entriesOn(path string) int64 {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil || st.Files == 0 {
		return 0
	}
	return int64(st.Files - st.Ffree)
}
