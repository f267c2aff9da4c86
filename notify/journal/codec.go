package journal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/bits"
	"slices"

	"github.com/klauspost/compress/s2"

	"fs_notify/notify"
)

// The stored form of a batch and of attributes: docs/journal-format.md. One value has one encoding.

// Forms of a body, its first byte.
const (
	bodyPlain  = 1
	bodyPacked = 2 // a block of S2
)

// Flags of a notification: what follows it because it differs from the one before.
const (
	hasPlace = 1 << iota
	hasStream
	hasLink
	hasActor
	hasAttr
	allFlags = 1<<iota - 1
)

// Mask of attributes: which differ from those predicted.
const (
	attrMode = 1 << iota
	attrUID
	attrGID
	attrNlink
	attrFlags
	attrIno
	attrSize
	attrMtime
	attrCtime
	attrAtime
	attrBtime
	attrX
	allAttrs = 1<<iota - 1
)

// Flags of extended attributes.
const (
	xPresent = 1 << iota
	xACL
	xDOS
	xDOSBtime
	xOther
	xStreams
	allX = 1<<iota - 1
)

const (
	packAbove = 512      // bytes of notes: less is stored plain
	maxPlain  = 64 << 20 // bytes of notes
	crcSize   = 4
)

var (
	// Beyond these the notifications of one batch are refused. In the stored form each may take 256 bytes more than its weight: so
	// what is written can be read.
	maxWritten = notify.Load{Indexes: notify.BatchIndexes, Weight: maxPlain / 2}
	maxRead    = notify.Load{Indexes: notify.BatchIndexes, Weight: maxPlain}

	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errFormat  = errors.New("the bytes are not of this format")
	errCRC     = errors.New("the checksum is wrong")
	errUnknown = errors.New("the format is of a later version")
)

// row is a batch as it is stored.
type row struct {
	number, prev, rootPrev notify.BatchNumber
	root                   notify.FileID
	body                   []byte
}

// sum is the checksum of a row: of its numbers and of its body without the checksum.
func (r *row) sum(body []byte) uint32 {
	var b [32]byte
	for i, v := range [...]uint64{uint64(r.number), uint64(r.prev), uint64(r.root), uint64(r.rootPrev)} {
		binary.LittleEndian.PutUint64(b[8*i:], v)
	}
	return crc32.Update(crc32.Checksum(b[:], castagnoli), castagnoli, body)
}

// rowEncoder makes rows, in memory that it uses again.
type rowEncoder struct{ plain, packed []byte }

// maxRowRoom bounds what a rowEncoder keeps, in bytes of each kind.
const maxRowRoom = 1 << 20

// encode makes the stored form of notes that have no Seqs yet: a Link is a place plus one. The body is valid until the next call.
func (e *rowEncoder) encode(number, prev, rootPrev notify.BatchNumber, root notify.FileID, notes []notify.Notification) row {
	r := row{number: number, prev: prev, rootPrev: rootPrev, root: root}
	plain := appendNotes(append(e.plain[:0], bodyPlain), notes)
	if e.plain = plain; cap(plain) > maxRowRoom {
		e.plain = nil
	}
	r.body = plain
	if n := len(plain) - 1; n > packAbove {
		packed := slices.Grow(e.packed[:0], 1+s2.MaxEncodedLen(n)+crcSize)
		if e.packed = packed; cap(packed) > maxRowRoom {
			e.packed = nil
		}
		packed = packed[:cap(packed)]
		packed[0] = bodyPacked
		packed = packed[:1+len(s2.Encode(packed[1:], plain[1:]))]
		if len(packed) < len(plain) {
			r.body = packed
		}
	}
	r.body = binary.LittleEndian.AppendUint32(r.body, r.sum(r.body))
	return r
}

// intact gives the body without its checksum, if the row is what was written.
func (r *row) intact() ([]byte, error) {
	n := len(r.body) - crcSize
	if n < 1 {
		return nil, errFormat
	}
	body := r.body[:n]
	if binary.LittleEndian.Uint32(r.body[n:]) != r.sum(body) {
		return nil, errCRC
	}
	return body, nil
}

// decode gives the batch, with Seqs.
func (r *row) decode() (*notify.Batch, error) {
	body, err := r.intact()
	if err != nil {
		return nil, err
	}
	plain, err := unpack(body)
	if err != nil {
		return nil, err
	}
	notes, err := decodeNotes(plain)
	if err != nil {
		return nil, err
	}
	b := &notify.Batch{Root: r.root, Notes: notes}
	b.Assign(r.number, r.prev, r.rootPrev)
	return b, nil
}

// batch is decode where one that is damaged is given as a batch without notifications and root.
func (r *row) batch() (b *notify.Batch, damage error) {
	if b, damage = r.decode(); damage != nil {
		b = &notify.Batch{Number: r.number, Prev: r.prev}
	}
	return b, damage
}

// unpack gives the notes in a body that has lost its checksum.
func unpack(body []byte) ([]byte, error) {
	switch body[0] {
	case bodyPlain:
		return body[1:], nil
	case bodyPacked:
		if n, err := s2.DecodedLen(body[1:]); err != nil || n > maxPlain {
			return nil, errFormat
		}
		return s2.Decode(nil, body[1:])
	}
	return nil, errUnknown
}

// appendNotes appends the plain form of the notes of a batch.
func appendNotes(b []byte, notes []notify.Notification) []byte {
	b = binary.AppendUvarint(b, uint64(len(notes)))
	var zero notify.Notification
	prev := &zero
	for i := range notes {
		n := &notes[i]
		at := len(b) + 1
		b = append(b, byte(n.Type), 0)
		var flags byte
		spine, path := commonIDs(prev.Spine, n.Spine), commonBytes(prev.Path, n.Path)
		if spine < len(n.Spine) || spine < len(prev.Spine) || path < len(n.Path) || path < len(prev.Path) {
			flags |= hasPlace
			b = binary.AppendUvarint(b, uint64(spine))
			b = binary.AppendUvarint(b, uint64(len(n.Spine)-spine))
			for _, id := range n.Spine[spine:] {
				b = binary.LittleEndian.AppendUint64(b, uint64(id))
			}
			b = binary.AppendUvarint(b, uint64(path))
			b = appendString(b, n.Path[path:])
		}
		if n.Stream != "" {
			flags |= hasStream
			b = appendString(b, n.Stream)
		}
		if n.Link != 0 {
			flags |= hasLink
			b = appendInt(b, int64(n.Link)-1-int64(i))
		}
		if !equalActors(n.Actor, prev.Actor) {
			flags |= hasActor
			b = appendActor(b, n.Actor)
		}
		same := i > 0 && n.ID() == prev.ID()
		if mask := diffAttr(&n.Attr, &prev.Attr, same); mask != 0 {
			flags |= hasAttr
			b = appendAttr(b, &n.Attr, &prev.Attr, same, mask)
		}
		b[at] = flags
		prev = n
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendInt appends a signed number, small ones short.
func appendInt(b []byte, v int64) []byte {
	return binary.AppendUvarint(b, uint64(v)<<1^uint64(v>>63))
}

func commonIDs(a, b notify.Spine) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

func commonBytes(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

func equalActors(a, b *notify.Actor) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func appendActor(b []byte, a *notify.Actor) []byte {
	if a == nil {
		return append(b, 0)
	}
	b = appendInt(append(b, 1), int64(a.PID))
	b = binary.AppendUvarint(b, uint64(a.UID))
	return appendString(b, a.Command)
}

func equalXattrs(a, b *notify.Xattrs) bool {
	if a == b || a == nil || b == nil {
		return a == b
	}
	return a.ACL == b.ACL && a.DOS == b.DOS && a.DOSBtime == b.DOSBtime && a.Other == b.Other && slices.Equal(a.Streams, b.Streams)
}

// The times of the same object are predicted to stay, those of another one to be near each other: ctime and
// atime to be the mtime, btime to be the atime.

// diffAttr gives the mask of what differs from the prediction.
func diffAttr(a, prev *notify.Attr, same bool) uint {
	var m uint
	set := func(differs bool, bit uint) {
		if differs {
			m |= bit
		}
	}
	set(a.Mode != prev.Mode, attrMode)
	set(a.UID != prev.UID, attrUID)
	set(a.GID != prev.GID, attrGID)
	set(a.Nlink != prev.Nlink, attrNlink)
	set(a.Flags != prev.Flags, attrFlags)
	set(a.Ino != prev.Ino, attrIno)
	set(a.Size != prev.Size, attrSize)
	set(a.Mtime != prev.Mtime, attrMtime)
	set(a.Ctime != pick(same, prev.Ctime, a.Mtime), attrCtime)
	set(a.Atime != pick(same, prev.Atime, a.Mtime), attrAtime)
	set(a.Btime != pick(same, prev.Btime, a.Atime), attrBtime)
	set(!equalXattrs(a.X, prev.X), attrX)
	return m
}

// appendAttr appends what mask says that differs.
func appendAttr(b []byte, a, prev *notify.Attr, same bool, mask uint) []byte {
	b = binary.AppendUvarint(b, uint64(mask))
	for m := mask; m != 0; m &= m - 1 {
		switch 1 << bits.TrailingZeros(m) {
		case attrMode:
			b = binary.AppendUvarint(b, uint64(a.Mode))
		case attrUID:
			b = binary.AppendUvarint(b, uint64(a.UID))
		case attrGID:
			b = binary.AppendUvarint(b, uint64(a.GID))
		case attrNlink:
			b = binary.AppendUvarint(b, uint64(a.Nlink))
		case attrFlags:
			b = binary.AppendUvarint(b, uint64(a.Flags))
		case attrIno:
			b = appendInt(b, int64(a.Ino-prev.Ino))
		case attrSize:
			b = appendInt(b, a.Size)
		case attrMtime:
			b = appendInt(b, a.Mtime-prev.Mtime)
		case attrCtime:
			b = appendInt(b, a.Ctime-pick(same, prev.Ctime, a.Mtime))
		case attrAtime:
			b = appendInt(b, a.Atime-pick(same, prev.Atime, a.Mtime))
		case attrBtime:
			b = appendInt(b, a.Btime-pick(same, prev.Btime, a.Atime))
		case attrX:
			b = appendXattrs(b, a.X)
		}
	}
	return b
}

func pick(first bool, a, b int64) int64 {
	if first {
		return a
	}
	return b
}

func appendXattrs(b []byte, x *notify.Xattrs) []byte {
	if x == nil {
		return append(b, 0)
	}
	at := len(b)
	b = append(b, xPresent)
	if x.ACL != 0 {
		b[at] |= xACL
		b = binary.LittleEndian.AppendUint64(b, x.ACL)
	}
	if x.DOS != 0 {
		b[at] |= xDOS
		b = binary.LittleEndian.AppendUint64(b, x.DOS)
	}
	if x.DOSBtime != 0 {
		b[at] |= xDOSBtime
		b = appendInt(b, x.DOSBtime)
	}
	if x.Other != 0 {
		b[at] |= xOther
		b = binary.LittleEndian.AppendUint64(b, x.Other)
	}
	if len(x.Streams) > 0 {
		b[at] |= xStreams
		b = binary.AppendUvarint(b, uint64(len(x.Streams)))
		for _, s := range x.Streams {
			b = appendString(b, s.Name)
			b = appendInt(b, s.Size)
			b = binary.LittleEndian.AppendUint64(b, s.Digest)
		}
	}
	return b
}

// decodeNotes is the inverse of appendNotes. Anything that appendNotes does not write is refused.
func decodeNotes(plain []byte) ([]notify.Notification, error) {
	in := reader{b: plain}
	count := in.uvarint()
	if in.bad || count == 0 || count > notify.BatchIndexes || count > uint64(len(plain)/2) {
		return nil, errFormat
	}
	notes := make([]notify.Notification, count)
	type span struct{ from, to uint32 }
	var (
		places = make([]span, count)                      // of each path in paths
		paths  = make([]byte, 0, len(plain))              // all paths, one after the other
		ids    = make([]notify.FileID, 0, len(plain)/8+1) // room for spines
		zero   notify.Notification
		prev   = &zero
		at     span // of the path before
		load   notify.Load
	)
	for i := range notes {
		n := &notes[i]
		t, flags := in.byte(), in.byte()
		if in.bad || t >= notify.NumTypes || flags&^allFlags != 0 {
			return nil, errFormat
		}
		n.Type = notify.Type(t)
		n.Spine = prev.Spine
		if flags&hasPlace != 0 {
			shared, rest := in.count(8), in.count(8)
			if in.bad || shared > len(prev.Spine) || shared+rest == 0 || rest*8 > len(in.b) {
				return nil, errFormat
			}
			if rest > 0 || shared < len(prev.Spine) {
				if need := shared + rest; cap(ids)-len(ids) < need {
					ids = make([]notify.FileID, 0, max(need, 256))
				}
				from := len(ids)
				ids = append(ids, prev.Spine[:shared]...)
				for range rest {
					ids = append(ids, notify.FileID(in.uint64()))
				}
				n.Spine = notify.Spine(ids[from:len(ids):len(ids)])
			}
			oldPath := paths[at.from:at.to]
			sharedPath, restPath := in.count(1), 0
			if restPath = in.count(1); in.bad || sharedPath > len(oldPath) || restPath > len(in.b) {
				return nil, errFormat
			}
			tail := in.take(restPath)
			switch { // what is shared has to be all that is shared, and something has to differ
			case shared < len(prev.Spine) && rest > 0 && n.Spine[shared] == prev.Spine[shared],
				sharedPath < len(oldPath) && restPath > 0 && tail[0] == oldPath[sharedPath],
				shared == len(prev.Spine) && rest == 0 && sharedPath == len(oldPath) && restPath == 0:
				return nil, errFormat
			}
			if load.Weight += sharedPath + restPath; !load.Within(maxRead) {
				return nil, errFormat
			}
			from := uint32(len(paths))
			paths = append(append(paths, oldPath[:sharedPath]...), tail...)
			at = span{from, uint32(len(paths))}
		}
		if len(n.Spine) == 0 {
			return nil, errFormat
		}
		places[i] = at
		if flags&hasStream != 0 {
			if n.Stream = in.string(); n.Stream == "" {
				return nil, errFormat
			}
		}
		if flags&hasLink != 0 {
			other := int64(i) + in.int()
			if in.bad || other < 0 || other >= int64(count) {
				return nil, errFormat
			}
			n.Link = notify.Seq(other + 1)
		}
		if load.Add(n); !load.Within(maxRead) { // it has no path and no attributes yet: those count where they are read
			return nil, errFormat
		}
		n.Actor = prev.Actor
		if flags&hasActor != 0 {
			n.Actor = in.actor()
			if in.bad || equalActors(n.Actor, prev.Actor) {
				return nil, errFormat
			}
		}
		same := i > 0 && n.ID() == prev.ID()
		if err := in.attr(&n.Attr, &prev.Attr, same, flags&hasAttr != 0); err != nil {
			return nil, err
		}
		prev = n
	}
	if in.bad || len(in.b) > 0 {
		return nil, errFormat
	}
	all := string(paths)
	for i, p := range places {
		notes[i].Path = all[p.from:p.to]
	}
	return notes, nil
}

// reader takes values off bytes. Once something was wrong, bad stays set and values are 0.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad = true
		return nil
	}
	t := r.b[:n]
	r.b = r.b[n:]
	return t
}

func (r *reader) byte() byte {
	if t := r.take(1); t != nil {
		return t[0]
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if t := r.take(8); t != nil {
		return binary.LittleEndian.Uint64(t)
	}
	return 0
}

// uvarint reads the shortest form only.
func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 || n > 1 && r.b[n-1] == 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) uint32() uint32 {
	v := r.uvarint()
	if v > 1<<32-1 {
		r.bad = true
	}
	return uint32(v)
}

func (r *reader) int() int64 {
	v := r.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

// count reads the number of things of a size of which a batch cannot have more than maxPlain bytes.
func (r *reader) count(size int) int {
	v := r.uvarint()
	if v > maxPlain/uint64(size) {
		r.bad = true
		return 0
	}
	return int(v)
}

func (r *reader) string() string { return string(r.take(r.count(1))) }

func (r *reader) actor() *notify.Actor {
	switch r.byte() {
	case 0:
		return nil
	case 1:
		pid := r.int()
		a := &notify.Actor{PID: int32(pid), UID: r.uint32(), Command: r.string()}
		r.bad = r.bad || int64(a.PID) != pid
		return a
	}
	r.bad = true
	return nil
}

// attr reads the attributes of a notification: predicted from prev, and a mask and what it names if there is a difference.
func (r *reader) attr(a, prev *notify.Attr, same, differs bool) error {
	var mask uint64
	if differs {
		if mask = r.uvarint(); r.bad || mask == 0 || mask&^allAttrs != 0 {
			return errFormat
		}
	}
	return r.masked(a, prev, same, uint(mask))
}

// masked reads the attributes that mask names; the others are as predicted from prev.
func (r *reader) masked(a, prev *notify.Attr, same bool, mask uint) error {
	*a = *prev
	for m := mask & (attrCtime - 1); m != 0; m &= m - 1 {
		switch 1 << bits.TrailingZeros(m) {
		case attrMode:
			a.Mode = r.uint32()
		case attrUID:
			a.UID = r.uint32()
		case attrGID:
			a.GID = r.uint32()
		case attrNlink:
			a.Nlink = r.uint32()
		case attrFlags:
			a.Flags = r.uint32()
		case attrIno:
			a.Ino = prev.Ino + uint64(r.int())
		case attrSize:
			a.Size = r.int()
		case attrMtime:
			a.Mtime = prev.Mtime + r.int()
		}
	}
	a.Ctime = pick(same, prev.Ctime, a.Mtime)
	if mask&attrCtime != 0 {
		a.Ctime += r.int()
	}
	a.Atime = pick(same, prev.Atime, a.Mtime)
	if mask&attrAtime != 0 {
		a.Atime += r.int()
	}
	a.Btime = pick(same, prev.Btime, a.Atime)
	if mask&attrBtime != 0 {
		a.Btime += r.int()
	}
	if mask&attrX != 0 {
		a.X = r.xattrs()
	}
	if r.bad || mask != 0 && diffAttr(a, prev, same) != mask {
		return errFormat
	}
	return nil
}

func (r *reader) xattrs() *notify.Xattrs {
	flags := r.byte()
	if flags == 0 {
		return nil
	}
	if flags&^allX != 0 || flags&xPresent == 0 {
		r.bad = true
		return nil
	}
	x := &notify.Xattrs{}
	if flags&xACL != 0 {
		x.ACL = r.uint64()
		r.bad = r.bad || x.ACL == 0
	}
	if flags&xDOS != 0 {
		x.DOS = r.uint64()
		r.bad = r.bad || x.DOS == 0
	}
	if flags&xDOSBtime != 0 {
		x.DOSBtime = r.int()
		r.bad = r.bad || x.DOSBtime == 0
	}
	if flags&xOther != 0 {
		x.Other = r.uint64()
		r.bad = r.bad || x.Other == 0
	}
	if flags&xStreams != 0 {
		n := r.count(10) // a stream takes ten bytes at least
		if n == 0 || n > len(r.b)/10 {
			r.bad = true
			return x
		}
		x.Streams = make([]notify.Stream, n)
		for i := range x.Streams {
			x.Streams[i] = notify.Stream{Name: r.string(), Size: r.int(), Digest: r.uint64()}
		}
	}
	return x
}
