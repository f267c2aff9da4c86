package watch

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"fs_notify/notify"
)

// idKind is what file IDs on a mount are made of.
type idKind uint8

const (
	idByHandle idKind = iota + 1 // the file handle, which carries a generation: ext4, xfs, btrfs, tmpfs
	idByFID                      // a handle that only identifies, and the inode number: overlay
	idByInode                    // inode number and birth time: everything else
)

func (k idKind) String() string {
	return [...]string{"?", "handle", "fid+inode", "inode+birth"}[k]
}

// mount is a file system, or a part of one, that is seen below a root.
type mount struct {
	index  uint32
	num    uint64 // of the kernel; another one after a remount, and never given twice where the kernel can do that. 0: it is at another place now
	id     uint64 // its number in /proc/self/mountinfo
	root   ref    // of the tree
	place  string // path of the mount point below the root; "" for the file system of the root itself
	dev    uint64
	fsid   uint64 // statfs: records name their file system by it; 0: not known
	fsType uint64 // statfs magic
	kind   idKind
	seed   uint64 // of root name and place
	opaque string // why its content does not belong to the tree; "" if it does
	polled bool   // cannot notify
	coarse bool   // change times move in steps of several milliseconds
}

// What change times move by at most, where not every change moves them.
const (
	coarseClock = 20 * time.Millisecond
	wholeSecond = 2*time.Second + coarseClock // vfat goes by two seconds
)

// grain is for how long something may change again without its change time showing it; 0: each change shows. Times
// of whole seconds are of a file system that has no others, as ext4 with small inodes: one in a billion is not.
func (m *mount) grain(a *notify.Attr) time.Duration {
	switch {
	case a.Ctime%int64(time.Second) == 0:
		return wholeSecond
	case m.coarse:
		return coarseClock
	}
	return 0
}

// snapshots says whether two directories may have the same inode number, birth and change time, with the same in everything below them: a
// snapshot and what it was made of. Only their handles differ. Of a file there that is in the same directory these are enough.
func (m *mount) snapshots() bool {
	const btrfs = 0x9123683e // as statfs(2) has it
	return m.fsType == btrfs
}

// mounts is the table of them. Its methods may be called from the two looking workers at once.
type mounts struct {
	mu      sync.Mutex
	all     []*mount // by index; 0 is none
	salt    map[saltKey]uint8
	mounted mounted
	table   mountedBy              // as it was when mounted said that it has changed
	fars    atomic.Pointer[[]*far] // what is far in it
	news    bool                   // the table has changed, or one was met that was not there before, or was another one
	left    bool                   // directories have left: what is mounted a second time may be the only one now, and the table has not changed
	// again are the indexes of those where something is mounted that was not mounted there before, since the last call of takeNews: what is watched there
	// was watched through the mount that was there then
	again []uint32
	// cloned are the fsids that several file systems have: a copy of an ext4, or a snapshot of its device, mounted beside it
	cloned map[uint64]bool
}

type saltKey struct {
	id  notify.FileID
	ino uint64
}

func (ms *mounts) at(i uint32) *mount {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return ms.all[i]
}

// find gives the mount at a place of a tree; make fills in a new one. What make could not find out is not remembered.
func (ms *mounts) find(root ref, rootName, place string, num uint64, make func(*mount) error) (*mount, error) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	free := 0
	for i, m := range ms.all {
		if m == nil {
			free = i
			continue
		}
		if m.root == root && m.place == place {
			if m.num != num { // mounted again, perhaps with something else
				fresh := *m
				fresh.num, fresh.opaque = num, ""
				if err := make(&fresh); err != nil {
					return nil, err
				}
				ms.judge(&fresh)
				ms.leave(root, num)
				ms.all[i] = &fresh // others may be reading the old one
				ms.compare()
				ms.news, ms.again = true, append(ms.again, fresh.index)
			}
			return ms.all[i], nil
		}
	}
	if len(ms.all) == 0 {
		ms.all = append(ms.all, nil)
	}
	if free == 0 {
		free = len(ms.all)
		ms.all = append(ms.all, nil)
	}
	m := &mount{index: uint32(free), num: num, root: root, place: place,
		seed: xxhash.Sum64String(rootName + "\x00" + place)}
	if err := make(m); err != nil {
		return nil, err
	}
	ms.judge(m)
	ms.leave(root, num)
	ms.all[free] = m
	ms.compare()
	ms.news = true
	return m, nil
}

// compare finds out which fsids are not of one file system alone. The caller holds the lock.
func (ms *mounts) compare() {
	devs := make(map[uint64]uint64)
	ms.cloned = nil
	for _, m := range ms.all {
		if m == nil || m.fsid == 0 {
			continue
		}
		if dev, ok := devs[m.fsid]; ok && dev != m.dev {
			if ms.cloned == nil {
				ms.cloned = make(map[uint64]bool)
			}
			ms.cloned[m.fsid] = true
		}
		devs[m.fsid] = m.dev
	}
}

// unique says whether a record about an object on a mount cannot be of another file system's object with the same handle.
func (ms *mounts) unique(m *mount) bool {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return !ms.cloned[m.fsid]
}

// leave notes that a mount is no longer where it was known to be, as it is met elsewhere: something above it was renamed. Where the number is that of a
// device (id is 0 then), that may be met at several places. The caller holds the lock.
func (ms *mounts) leave(root ref, num uint64) {
	for i, m := range ms.all {
		if m != nil && m.root == root && m.num == num && m.id != 0 {
			gone := *m
			gone.num = 0
			ms.all[i] = &gone // others may be reading the old one
		}
	}
}

// judge corrects what the number of a file system's type says: ext2 and ext3 have that of ext4. The caller holds the lock.
func (ms *mounts) judge(m *mount) {
	switch ms.lines()[m.id].fsType {
	case "ext2", "ext3":
		m.coarse = true
	}
}

// refresh looks what is mounted.
func (ms *mounts) refresh() {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.lines()
}

// takeNews says whether something was mounted or unmounted, or a mount met, since the last call, and gives the indexes of those that were mounted again.
func (ms *mounts) takeNews() (news bool, again []uint32) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if ms.lines(); ms.left {
		ms.left = false
		ms.partsMoved()
	}
	news, again = ms.news, ms.again
	ms.news, ms.again = false, nil
	return news, again
}

// prune forgets the mounts that are not to be kept: their indexes are given to others. Nobody may have one in hand.
func (ms *mounts) prune(keep func(m *mount) bool) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for i, m := range ms.all {
		if m != nil && !keep(m) {
			ms.all[i] = nil
		}
	}
	ms.compare()
}

// of gives the mount of a tree with a kernel number, or nil.
func (ms *mounts) of(root ref, num uint64) *mount {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, m := range ms.all {
		if m != nil && m.root == root && m.num == num {
			return m
		}
	}
	return nil
}

// makeID digests what the file system gives to a file ID of 63 bits.
func (ms *mounts) makeID(m *mount, handle []byte, ino uint64, btime int64) notify.FileID {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return ms.hash(m, handle, ino, btime)
}

// hash is makeID for who holds the lock.
func (ms *mounts) hash(m *mount, handle []byte, ino uint64, btime int64) notify.FileID {
	var buf [192]byte
	b := binary.LittleEndian.AppendUint64(buf[:0], m.seed)
	b = append(b, byte(m.kind))
	switch m.kind {
	case idByHandle:
		b = append(b, handle...)
	case idByFID:
		b = append(b, handle...)
		b = binary.LittleEndian.AppendUint64(b, ino)
	default:
		b = binary.LittleEndian.AppendUint64(b, ino)
		b = binary.LittleEndian.AppendUint64(b, uint64(btime))
	}
	id := clampID(xxhash.Sum64(b))
	if len(ms.salt) > 0 {
		if n := ms.salt[saltKey{id, ino}]; n > 0 {
			id = clampID(xxhash.Sum64(append(b, n)))
		}
	}
	return id
}

// objectIDs appends the file IDs that an object may have, by its handle (type and bytes): one for each mount whose IDs are made of handles. Of two
// objects with one ID (see collide), it is the first one's.
func (ms *mounts) objectIDs(ids []notify.FileID, handle string) []notify.FileID {
	h := []byte(handle)
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, m := range ms.all {
		if m != nil && m.kind == idByHandle {
			ids = append(ids, ms.hash(m, h, 0, 0))
		}
	}
	return ids
}

// byHandle says whether what lies on a mount is known by its handle, and by that alone.
func (ms *mounts) byHandle(i uint32) bool {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return ms.all[i].kind == idByHandle && len(ms.salt) == 0
}

// collide makes the later one of two live objects with the same ID get another one from now on.
func (ms *mounts) collide(id notify.FileID, ino uint64) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if ms.salt == nil {
		ms.salt = make(map[saltKey]uint8)
	}
	ms.salt[saltKey{id, ino}]++
}

func clampID(h uint64) notify.FileID {
	if h &= 1<<63 - 1; h == 0 {
		h = 1
	}
	return notify.FileID(h)
}

func (m *mount) String() string {
	return fmt.Sprintf("%q: magic %#x, IDs by %s", m.place, m.fsType, m.kind)
}
