package watch

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/cespare/xxhash/v2"

	"fs_notify/notify"
)

// ref names a node of the store; 0 is none. The ref of a directory is its DirRef.
type ref = DirRef

// node is one name in a tree as it was last told: 72 bytes and no pointer, so that millions
// cost neither much memory nor any work of the garbage collector.
type node struct {
	id     notify.FileID
	stamp  uint64 // of inode number, birth and change time: equal means that nothing was changed; with xBehind, x may be older
	size   int64
	mtime  int64
	name   nameRef
	parent ref
	next   ref // siblings: a ring-free double list that begins at dirInfo.first
	prev   ref
	byName ref // chains of the two indexes
	byID   ref
	owner  uint32 // interned ownerInfo
	x      uint32 // interned xattrs, 0: none, unread: not read yet
	dir    uint32 // index of the dirInfo; 0: not a directory
}

// dirInfo is what only directories have.
type dirInfo struct {
	node  ref // 0: free
	first ref // child
	count uint32
	mount uint32 // index into the tree's mounts
	flags dirFlags
	told  int64 // when an mtime_changed of it was last told, Unix nanoseconds
}

type dirFlags uint8

const (
	dirAttached dirFlags = 1 << iota // in the tree, not only found
	dirWatched                       // the source watches it
	dirPolled                        // it is swept on a timer, as its file system cannot notify
	dirDegraded                      // it is swept on a timer, as something is wrong
	dirOpaque                        // its content does not belong to the tree: pseudo file systems, bind mounts
	dirEntered                       // it came by a rename from outside
	dirUnheard                       // it may be watched, and changes all the same of which no record comes: it is swept on a timer
)

// dirSwept are those that are swept on a timer.
const dirSwept = dirPolled | dirDegraded | dirUnheard

// ownerInfo is what many entries have in common.
type ownerInfo struct{ mode, uid, gid, nlink, flags uint32 }

const chunkBits = 12 // nodes come in chunks of 4,096: storage never doubles

type chunked[T any] struct {
	chunks [][]T
	n      uint32 // slots in use or free, slot 0 is never used
}

func (c *chunked[T]) at(i uint32) *T { return &c.chunks[i>>chunkBits][i&(1<<chunkBits-1)] }

func (c *chunked[T]) grow() uint32 {
	if c.n == 0 {
		c.n = 1
	}
	if int(c.n>>chunkBits) == len(c.chunks) {
		c.chunks = append(c.chunks, make([]T, 1<<chunkBits))
	}
	c.n++
	return c.n - 1
}

// store holds the nodes of all trees with two indexes: by parent and name, and by file ID. One
// goroutine changes it; others may read while it does not.
type store struct {
	nodes    chunked[node]
	dirs     chunked[dirInfo]
	names    arena
	owners   intern[ownerInfo]
	xattrs   internX
	nameIdx  hashIndex
	idIdx    hashIndex
	free     ref            // list of free nodes through next
	freed    ref            // and of those that are not to be used again yet
	freeDir  uint32         // list of free dirInfos through first
	live     int64          // attached nodes
	entries  map[ref]int64  // of them, by root
	atimes   chunked[int64] // by ref, if reads are told
	reads    bool
	liveDirs int64
	sum      int          // see childOfEach
	unread   atomic.Int64 // nodes whose extended attributes were not read yet
}

func (s *store) node(r ref) *node       { return s.nodes.at(uint32(r)) }
func (s *store) name(r ref) string      { return strings.Clone(s.names.view(s.node(r).name)) }
func (s *store) isDir(r ref) bool       { return s.node(r).dir != 0 }
func (s *store) dir(r ref) *dirInfo     { return s.dirs.at(s.node(r).dir) }
func (s *store) attr(r ref) notify.Attr { return s.attrOf(s.node(r)) }

// alive says whether r is a directory that is in use, attached or not.
func (s *store) alive(r ref) bool {
	if r == 0 || uint32(r) >= s.nodes.n {
		return false
	}
	d := s.node(r).dir
	return d != 0 && s.dirs.at(d).node == r
}

func (s *store) attrOf(n *node) notify.Attr {
	o := s.owners.get(n.owner)
	return notify.Attr{Mode: o.mode, UID: o.uid, GID: o.gid, Nlink: o.nlink, Flags: o.flags,
		Size: n.size, Mtime: n.mtime, X: s.xattrs.get(n.x)}
}

// nlink is how many names an object was told to have, 255 at most.
func (s *store) nlink(r ref) uint32 { return s.owners.get(s.node(r).owner).nlink }

// alloc makes a node that is in no directory yet. Its parent and name are set, so that it
// has a path, but nobody finds it.
func (s *store) alloc(parent ref, name string, id notify.FileID, isDir bool) ref {
	r := s.free
	if r != 0 {
		s.free = s.node(r).next
	} else {
		r = ref(s.nodes.grow())
		if s.reads {
			s.atimes.grow()
		}
	}
	n := s.node(r)
	*n = node{id: id, parent: parent, name: s.names.put(name)}
	if isDir {
		d := s.freeDir
		if d != 0 {
			s.freeDir = uint32(s.dirs.at(d).first)
		} else {
			d = s.dirs.grow()
		}
		*s.dirs.at(d) = dirInfo{node: r}
		n.dir = d
	}
	return r
}

// rehome changes where a node will be that is in no directory yet.
func (s *store) rehome(r, parent ref, name string) {
	n := s.node(r)
	s.names.drop(n.name)
	n.parent, n.name = parent, s.names.put(name)
}

// release gives the node back. It must be detached and, if a directory, empty. Its ref is not given
// out again before recycle: who still holds it finds something dead, not something else.
func (s *store) release(r ref) {
	n := s.node(r)
	s.names.drop(n.name)
	s.owners.drop(n.owner)
	s.dropX(n.x)
	if n.dir != 0 {
		*s.dirs.at(n.dir) = dirInfo{first: ref(s.freeDir)}
		s.freeDir = n.dir
	}
	*n = node{next: s.freed}
	s.freed = r
}

// recycle makes the refs of released nodes usable again.
func (s *store) recycle() {
	for s.freed != 0 {
		n := s.node(s.freed)
		r := s.freed
		s.freed = n.next
		n.next = s.free
		s.free = r
	}
}

// attach puts a node into a directory under a name that is free there. The root of a
// tree is attached to parent 0.
func (s *store) attach(r, parent ref, name string) {
	s.link(r, parent, name)
	n := s.node(r)
	s.idIdx.insert(s, r, idHash(n.id), byIDChain)
	s.live++
	s.count(r, 1)
	if n.dir != 0 {
		s.dirs.at(n.dir).flags |= dirAttached
		s.liveDirs++
	}
}

// detach takes a node out of its directory and of the indexes; what is below it stays below it.
func (s *store) detach(r ref) {
	s.unlink(r)
	n := s.node(r)
	s.idIdx.remove(s, r, idHash(n.id), byIDChain)
	s.count(r, -1)
	s.live--
	if n.dir != 0 {
		s.dirs.at(n.dir).flags &^= dirAttached
		s.liveDirs--
	}
}

// move takes a node out of its directory and puts it into another one of the same tree, under a name that is free there.
func (s *store) move(r, parent ref, name string) {
	s.unlink(r)
	s.link(r, parent, name)
}

// link puts a node among the children of a directory.
func (s *store) link(r, parent ref, name string) {
	n := s.node(r)
	if s.names.view(n.name) != name {
		s.names.drop(n.name)
		n.name = s.names.put(name)
	}
	n.parent = parent
	if parent != 0 {
		d := s.dir(parent)
		n.prev, n.next = 0, d.first
		if d.first != 0 {
			s.node(d.first).prev = r
		}
		d.first = r
		d.count++
	}
	s.nameIdx.insert(s, r, nameHash(parent, name), byNameChain)
}

// unlink takes a node from among the children of its directory.
func (s *store) unlink(r ref) {
	n := s.node(r)
	s.nameIdx.remove(s, r, nameHash(n.parent, s.names.view(n.name)), byNameChain)
	if n.parent != 0 {
		d := s.dir(n.parent)
		if n.prev != 0 {
			s.node(n.prev).next = n.next
		} else {
			d.first = n.next
		}
		if n.next != 0 {
			s.node(n.next).prev = n.prev
		}
		d.count--
	}
	n.prev, n.next = 0, 0
}

// count keeps how many entries each root has.
func (s *store) count(r ref, by int64) {
	if s.entries == nil {
		s.entries = make(map[ref]int64)
	}
	s.entries[s.rootOf(r)] += by
}

// child finds a name in a directory.
func (s *store) child(parent ref, name string) ref {
	return s.childFrom(s.nameIdx.first(nameHash(parent, name)), parent, name)
}

// childFrom finds a name in the rest of a chain.
func (s *store) childFrom(r, parent ref, name string) ref {
	for r != 0 {
		n := s.node(r)
		if n.parent == parent && s.names.view(n.name) == name {
			return r
		}
		r = n.byName
	}
	return 0
}

// childOfEach is child for many names, some at a time: each look-up waits for memory three times, and so they wait together.
func (s *store) childOfEach(names []dirtyName, out []ref) {
	const some = 64
	var sum int
	for len(names) > 0 {
		k := min(some, len(names))
		for i := range k {
			out[i] = s.nameIdx.first(names[i].hash)
		}
		for i := range k {
			if r := out[i]; r != 0 {
				sum += int(s.node(r).name)
			}
		}
		for i := range k {
			if r := out[i]; r != 0 {
				sum += s.names.len(s.node(r).name)
			}
		}
		for i := range k {
			out[i] = s.childFrom(out[i], names[i].at.dir, names[i].at.name)
		}
		names, out = names[k:], out[k:]
	}
	s.sum = sum // what was read for nothing else
}

// stands says whether a node is attached under a name: child for who knows which one it would be.
func (s *store) stands(r ref, at place) bool {
	n := s.node(r)
	return r != 0 && n.parent == at.dir && s.names.view(n.name) == at.name && (n.dir == 0 || s.dirs.at(n.dir).flags&dirAttached != 0)
}

// byID finds the first attached node of an ID, sameID the next one of the same ID: hard links.
func (s *store) byID(id notify.FileID) ref {
	r := s.idIdx.first(idHash(id))
	for r != 0 && s.node(r).id != id {
		r = s.node(r).byID
	}
	return r
}

// byIDOf is byID for one kind. After a power cut xfs may give out an inode number with its generation once more, which the disk has forgotten and the tree was
// told: a file is no directory all the same.
func (s *store) byIDOf(id notify.FileID, dir bool) ref {
	r := s.byID(id)
	for r != 0 && s.isDir(r) != dir {
		r = s.sameID(r)
	}
	return r
}

func (s *store) sameID(r ref) ref {
	id := s.node(r).id
	for r = s.node(r).byID; r != 0 && s.node(r).id != id; {
		r = s.node(r).byID
	}
	return r
}

// slab is where many short slices are made that live about as long: one allocation for all that fit. In one that is nil each has its own.
type slab[T any] struct{ rest []T }

const slabBytes = 8 << 10

// make gives n elements, which are zero.
func (b *slab[T]) make(n int) []T {
	var t T
	most := slabBytes / int(unsafe.Sizeof(t))
	if b == nil || n > most/8 {
		return make([]T, n)
	}
	if n > len(b.rest) {
		b.rest = make([]T, most)
	}
	out := b.rest[:n:n]
	b.rest = b.rest[n:]
	return out
}

// path gives the path from the root of r's tree, "" for the root itself.
func (s *store) path(r ref) string { return s.pathIn(nil, r) }

// pathIn is path, made in a slab.
func (s *store) pathIn(in *slab[byte], r ref) string {
	size := -1
	for n := s.node(r); n.parent != 0; n = s.node(n.parent) {
		size += s.names.len(n.name) + 1
	}
	if size <= 0 {
		return ""
	}
	b := in.make(size)
	for n := s.node(r); n.parent != 0; n = s.node(n.parent) {
		size -= copy(b[size-s.names.len(n.name):], s.names.view(n.name))
		if size > 0 {
			size--
			b[size] = '/'
		}
	}
	return unsafe.String(&b[0], len(b))
}

// spine gives the IDs from the root of r's tree down to r.
func (s *store) spine(r ref) notify.Spine { return s.spineIn(nil, r) }

// spineIn is spine, made in a slab.
func (s *store) spineIn(in *slab[notify.FileID], r ref) notify.Spine {
	out := notify.Spine(in.make(s.depth(r) + 1))
	for i := len(out) - 1; i >= 0; i-- {
		n := s.node(r)
		out[i] = n.id
		r = n.parent
	}
	return out
}

// depth is the number of names between the root and r.
func (s *store) depth(r ref) int {
	d := 0
	for n := s.node(r); n.parent != 0; n = s.node(n.parent) {
		d++
	}
	return d
}

// rootOf gives the root of r's tree.
func (s *store) rootOf(r ref) ref {
	for {
		p := s.node(r).parent
		if p == 0 {
			return r
		}
		r = p
	}
}

// within says whether r is top or below it.
func (s *store) within(r, top ref) bool {
	for r != 0 && r != top {
		r = s.node(r).parent
	}
	return r == top
}

// children calls f for each child; f may detach the one that it is given.
func (s *store) children(r ref, f func(ref)) {
	for c := s.dir(r).first; c != 0; {
		next := s.node(c).next
		f(c)
		c = next
	}
}

// childList is the children as a list that stays as it is while they leave.
func (s *store) childList(r ref) []ref {
	out := make([]ref, 0, s.dir(r).count)
	s.children(r, func(c ref) { out = append(out, c) })
	return out
}

// set replaces what is remembered of a node's attributes.
func (s *store) set(r ref, a *notify.Attr) {
	s.setStat(r, a)
	s.setX(r, a.X)
}

// setAs gives a name what was told of an object by another one.
func (s *store) setAs(r, other ref) {
	a := s.attr(other)
	s.set(r, &a)
	n, o := s.node(r), s.node(other)
	if n.stamp = o.stamp; o.x == unread && n.x == 0 {
		s.leaveX(r)
	}
	if s.reads {
		*s.atimes.at(uint32(r)) = *s.atimes.at(uint32(other))
	}
}

// accessed says whether something has another access time than it was told with, if reads are told.
func (s *store) accessed(r ref, a *notify.Attr) bool {
	return s.reads && *s.atimes.at(uint32(r)) != a.Atime
}

// setX replaces the extended attributes.
func (s *store) setX(r ref, x *notify.Xattrs) {
	if n := s.node(r); n.x != 0 || x != nil {
		old := n.x
		n.x = s.xattrs.put(x)
		s.dropX(old)
	}
}

// xattrsOf gives the extended attributes that an object was told with, as far as they were read.
func (s *store) xattrsOf(id notify.FileID) *notify.Xattrs {
	if r := s.byID(id); r != 0 {
		return s.xattrs.get(s.node(r).x)
	}
	return nil
}

// leaveX notes of a node without extended attributes that these were not read.
func (s *store) leaveX(r ref) {
	s.node(r).x = unread
	s.unread.Add(1)
}

func (s *store) dropX(x uint32) {
	if s.xattrs.drop(x); x == unread {
		s.unread.Add(-1)
	}
}

// stats says whether setStat would change something that is no time.
func (s *store) stats(n *node, a *notify.Attr) bool {
	return n.owner == 0 || s.owners.get(n.owner) != ownerOf(a) || n.dir == 0 && n.size != a.Size
}

func ownerOf(a *notify.Attr) ownerInfo {
	return ownerInfo{a.Mode, a.UID, a.GID, min(a.Nlink, 255), a.Flags}
}

// setStat is set without the extended attributes.
func (s *store) setStat(r ref, a *notify.Attr) {
	n := s.node(r)
	n.stamp, n.size, n.mtime = stampOf(a), a.Size, a.Mtime
	if s.reads {
		*s.atimes.at(uint32(r)) = a.Atime
	}
	if o := ownerOf(a); n.owner == 0 || s.owners.get(n.owner) != o {
		s.owners.drop(n.owner)
		n.owner = s.owners.put(o)
	}
}

// stampOf digests what moves whenever an inode is changed (change time, low half) or replaced by another one
// (inode number and birth time, high half).
func stampOf(a *notify.Attr) uint64 {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[0:], a.Ino)
	binary.LittleEndian.PutUint64(b[8:], uint64(a.Btime))
	who := xxhash.Sum64(b[:])
	when := (uint64(a.Ctime) ^ who) * 0x9e3779b97f4a7c15
	return who&^(1<<32-1) | when>>32&^xBehind
}

// xBehind in a node's stamp says that its extended attributes were not read when the change time was seen: whoever looks without
// a record, as a sweep does, reads them.
const xBehind = 1

// differs says whether something has another stamp than it was told with.
func (n *node) differs(a *notify.Attr) bool { return n.stamp&^xBehind != stampOf(a) }

// sameInode says whether two stamps are of one inode number and birth time: then the object is another one only if
// the number was given to a new file in the same clock tick, and a record said so.
func sameInode(a, b uint64) bool { return a>>32 == b>>32 }

// hashSeed is another one in each process, so that nobody can choose names that meet in one place.
var hashSeed = maphash.MakeSeed()

func nameHash(parent ref, name string) uint32 {
	return mix(maphash.String(hashSeed, name) ^ uint64(parent)*0x9e3779b97f4a7c15)
}

func idHash(id notify.FileID) uint32 { return mix(uint64(id)) }

func mix(h uint64) uint32 {
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return uint32(h >> 32)
}

// hashIndex is a linear hash table whose chains run through the nodes: it grows by one bucket
// at a time, and costs 4 bytes for every node.
type hashIndex struct {
	heads chunked[ref]
	count uint32
	mask  uint32 // buckets at the start of this round, minus one
	split uint32 // the next bucket to be split
}

type chain uint8

const (
	byNameChain chain = iota
	byIDChain
)

func (c chain) next(n *node) *ref {
	if c == byNameChain {
		return &n.byName
	}
	return &n.byID
}

func (c chain) hash(s *store, r ref) uint32 {
	n := s.node(r)
	if c == byNameChain {
		return nameHash(n.parent, s.names.view(n.name))
	}
	return idHash(n.id)
}

func (x *hashIndex) bucket(h uint32) *ref {
	b := h & x.mask
	if b < x.split {
		b = h & (x.mask<<1 | 1)
	}
	return x.heads.at(b + 1)
}

func (x *hashIndex) first(h uint32) ref {
	if x.count == 0 {
		return 0
	}
	return *x.bucket(h)
}

func (x *hashIndex) insert(s *store, r ref, h uint32, c chain) {
	if x.heads.n == 0 {
		x.heads.grow()
	}
	head := x.bucket(h)
	*c.next(s.node(r)) = *head
	*head = r
	x.count++
	if x.count > x.mask+1+x.split {
		x.grow(s, c)
	}
}

func (x *hashIndex) remove(s *store, r ref, h uint32, c chain) {
	for p := x.bucket(h); *p != 0; p = c.next(s.node(*p)) {
		if *p == r {
			next := c.next(s.node(r))
			*p, *next = *next, 0
			x.count--
			return
		}
	}
}

// grow splits one bucket.
func (x *hashIndex) grow(s *store, c chain) {
	x.heads.grow()
	old := x.heads.at(x.split + 1)
	fresh := x.heads.at(x.mask + 1 + x.split + 1)
	r := *old
	*old, *fresh = 0, 0
	wide := x.mask<<1 | 1
	for r != 0 {
		next := c.next(s.node(r))
		after := *next
		head := old
		if c.hash(s, r)&wide != x.split {
			head = fresh
		}
		*next = *head
		*head = r
		r = after
	}
	if x.split++; x.split > x.mask {
		x.mask, x.split = wide, 0
	}
}

// nameRef is a place in the arena in units of 4 bytes; 0 is the empty name.
type nameRef uint32

// arena keeps names in chunks of 256 KiB, a length byte before each, in slots that are
// multiples of 4 bytes. Dropped slots are used again for names of the same slot size.
type arena struct {
	chunks [][]byte
	used   uint32 // units
	free   [65]nameRef
}

const arenaBits = 16 // units in a chunk

func (a *arena) slot(r nameRef) []byte {
	c := a.chunks[r>>arenaBits]
	return c[(r&(1<<arenaBits-1))*4:]
}

func units(n int) int { return (n + 1 + 3) / 4 }

func (a *arena) put(name string) nameRef {
	if name == "" {
		return 0
	}
	if len(name) > maxName {
		panic("watch: a name longer than NAME_MAX")
	}
	u := units(len(name))
	r := a.free[u]
	if r != 0 {
		a.free[u] = nameRef(binary.LittleEndian.Uint32(a.slot(r)))
	} else {
		if a.used == 0 {
			a.used = 1 // 0 is the empty name
		}
		if room := 1<<arenaBits - int(a.used&(1<<arenaBits-1)); room < u {
			a.used += uint32(room)
		}
		if int(a.used>>arenaBits) == len(a.chunks) {
			a.chunks = append(a.chunks, make([]byte, 4<<arenaBits))
		}
		r = nameRef(a.used)
		a.used += uint32(u)
	}
	b := a.slot(r)
	b[0] = byte(len(name))
	copy(b[1:], name)
	return r
}

func (a *arena) len(r nameRef) int {
	if r == 0 {
		return 0
	}
	return int(a.slot(r)[0])
}

func (a *arena) drop(r nameRef) {
	if r == 0 {
		return
	}
	u := units(a.len(r))
	binary.LittleEndian.PutUint32(a.slot(r), uint32(a.free[u]))
	a.free[u] = r
}

// intern keeps each distinct value once, counted; 0 is no value.
type intern[T comparable] struct {
	values []counted[T]
	index  map[T]uint32
	free   []uint32
}

type counted[T any] struct {
	v T
	n int
}

func (in *intern[T]) put(v T) uint32 {
	if in.index == nil {
		in.index = make(map[T]uint32)
		in.values = make([]counted[T], 1)
	}
	i, ok := in.index[v]
	if !ok {
		if k := len(in.free); k > 0 {
			i, in.free = in.free[k-1], in.free[:k-1]
		} else {
			i = uint32(len(in.values))
			in.values = append(in.values, counted[T]{})
		}
		in.values[i].v = v
		in.index[v] = i
	}
	in.values[i].n++
	return i
}

func (in *intern[T]) get(i uint32) T {
	if i == 0 {
		var zero T
		return zero
	}
	return in.values[i].v
}

func (in *intern[T]) drop(i uint32) {
	if i == 0 {
		return
	}
	c := &in.values[i]
	if c.n--; c.n == 0 {
		delete(in.index, c.v)
		*c = counted[T]{}
		in.free = append(in.free, i)
	}
}

// unread stands in a node in place of extended attributes that were not read yet: an index that none gets.
const unread = ^uint32(0)

// internX interns extended attributes by their digest. Of what is unread it knows nothing.
type internX struct {
	in     intern[uint64]
	values map[uint64]*notify.Xattrs
}

func (x *internX) put(v *notify.Xattrs) uint32 {
	if v == nil {
		return 0
	}
	h := xattrsHash(v)
	if x.values == nil {
		x.values = make(map[uint64]*notify.Xattrs)
	}
	if x.values[h] == nil {
		x.values[h] = v
	}
	return x.in.put(h)
}

func (x *internX) get(i uint32) *notify.Xattrs {
	if i == 0 || i == unread {
		return nil
	}
	return x.values[x.in.get(i)]
}

func (x *internX) drop(i uint32) {
	if i == 0 || i == unread {
		return
	}
	h := x.in.get(i)
	x.in.drop(i)
	if _, ok := x.in.index[h]; !ok {
		delete(x.values, h)
	}
}

func xattrsHash(v *notify.Xattrs) uint64 {
	b := make([]byte, 0, 64)
	for _, u := range [...]uint64{v.ACL, v.DOS, uint64(v.DOSBtime), v.Other} {
		b = binary.LittleEndian.AppendUint64(b, u)
	}
	for _, s := range v.Streams {
		b = append(append(b, s.Name...), 0)
		b = binary.LittleEndian.AppendUint64(b, uint64(s.Size))
		b = binary.LittleEndian.AppendUint64(b, s.Digest)
	}
	return xxhash.Sum64(b)
}

func equalXattrs(a, b *notify.Xattrs) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.ACL == b.ACL && a.DOS == b.DOS && a.DOSBtime == b.DOSBtime && a.Other == b.Other && slices.Equal(a.Streams, b.Streams)
}

// view gives the name without copying it: for looking at, not for keeping, as a dropped slot is used again.
func (a *arena) view(r nameRef) string {
	if r == 0 {
		return ""
	}
	b := a.slot(r)
	return unsafe.String(&b[1], int(b[0]))
}
