package notify

import (
	"io/fs"
	"sort"
)

// Notification is one change. Nobody alters it once built, so goroutines may share it.
type Notification struct {
	Seq    Seq    // place in the journal; 0 before it was appended
	Type   Type   // what happened
	Path   string // raw bytes of the file system, slash-separated, relative to the root
	Spine  Spine  // from the root (first) to the entry (last)
	Stream string // the alternate data stream that is meant, without ":$DATA"; "" is the default stream
	Attr   Attr   // of the entry after the change; before it, for removed and moved_from
	// Link is the Seq of the other half of a rename whose halves are both in this root; 0
	// otherwise. Before the batch was appended it is the place in Notes plus one.
	Link  Seq
	Actor *Actor // who did it, where known
}

// ID is the file ID of the entry itself.
func (n *Notification) ID() FileID { return n.Spine[len(n.Spine)-1] }

// StaysAt says whether before, the notification before n in its batch, tells a name that the file still has which loses one with n.
func (n *Notification) StaysAt(before *Notification) bool {
	return before.Type == ChildLinkStays && (n.Type == ChildFileRemoved || n.Type == ChildFileMovedFrom && n.Link == 0) &&
		before.ID() == n.ID() && before.Path != n.Path
}

// Below gives the place of dir in the spine, or -1 if the entry is not dir or below it.
// len(n.Spine)-1-i is then the depth of the entry below dir.
func (n *Notification) Below(dir FileID) int {
	for i, id := range n.Spine {
		if id == dir {
			return i
		}
	}
	return -1
}

// PathFrom is the part of the path that lies below element i of the spine, without
// leading slash; "" for the element itself.
func (n *Notification) PathFrom(i int) string {
	p := n.Path
	for ; i > 0; i-- {
		for j := 0; ; j++ {
			if j == len(p) {
				return ""
			}
			if p[j] == '/' {
				p = p[j+1:]
				break
			}
		}
	}
	return p
}

// Attr is what is known of an entry. Times are nanoseconds since 1970 UTC.
type Attr struct {
	Mode  uint32 // st_mode: type and permission bits
	UID   uint32
	GID   uint32
	Nlink uint32
	Flags uint32 // the inode flags of statx (STATX_ATTR_*) that can be changed
	Ino   uint64
	Size  int64 // bytes
	Mtime int64
	Ctime int64   // 0: not known
	Atime int64   // 0: not known; of 1970 itself, the nanosecond behind
	Btime int64   // 0 where the file system keeps none
	X     *Xattrs // nil: no extended attributes
}

// Xattrs is what is remembered of extended attributes: digests, since values can be large.
// Values are shared; nobody alters one.
type Xattrs struct {
	ACL      uint64   // of POSIX, NFSv4 and NT ACLs; 0: none
	DOS      uint64   // of user.DOSATTRIB without its creation time; 0: none
	DOSBtime int64    // creation time in user.DOSATTRIB, nanoseconds since 1970; 0: none
	Other    uint64   // of all other attributes, names and values; 0: none
	Streams  []Stream // alternate data streams, by name
}

// Stream is one alternate data stream as Samba keeps it (user.DosStream.NAME:$DATA).
type Stream struct {
	Name   string
	Size   int64
	Digest uint64
}

// The type bits of Attr.Mode, as in stat(2).
const (
	ModeMask   = 0o170000
	ModeFIFO   = 0o010000
	ModeChar   = 0o020000
	ModeDir    = 0o040000
	ModeBlock  = 0o060000
	ModeFile   = 0o100000
	ModeLink   = 0o120000
	ModeSocket = 0o140000
)

// IsDir says whether the entry is a directory. Everything else is a file to Qumulo's types.
func (a *Attr) IsDir() bool { return a.Mode&ModeMask == ModeDir }

// IsRegular says whether the entry is a regular file.
func (a *Attr) IsRegular() bool { return a.Mode&ModeMask == ModeFile }

// Kind names the type of the entry: file, directory, symlink, fifo, socket, char_device, block_device.
func (a *Attr) Kind() string {
	switch a.Mode & ModeMask {
	case ModeFile:
		return "file"
	case ModeDir:
		return "directory"
	case ModeLink:
		return "symlink"
	case ModeFIFO:
		return "fifo"
	case ModeSocket:
		return "socket"
	case ModeChar:
		return "char_device"
	case ModeBlock:
		return "block_device"
	}
	return "unknown"
}

// Perm gives the permission bits with set-id and sticky bits, 0 to 07777.
func (a *Attr) Perm() uint32 { return a.Mode & 0o7777 }

// FileMode gives the mode as the standard library spells it.
func (a *Attr) FileMode() fs.FileMode {
	m := fs.FileMode(a.Mode & 0o777)
	for _, t := range [...]struct {
		bits uint32
		mode fs.FileMode
	}{{ModeDir, fs.ModeDir}, {ModeLink, fs.ModeSymlink}, {ModeFIFO, fs.ModeNamedPipe}, {ModeSocket, fs.ModeSocket},
		{ModeChar, fs.ModeDevice | fs.ModeCharDevice}, {ModeBlock, fs.ModeDevice}} {
		if a.Mode&ModeMask == t.bits {
			m |= t.mode
		}
	}
	return m
}

// Actor is the process that made a change, as far as it could be found out.
type Actor struct {
	PID     int32
	UID     uint32
	Command string
}

// Batch is what was found in one go. All its notifications belong to one root.
type Batch struct {
	Number   BatchNumber
	Prev     BatchNumber // of the batch before it in this journal, whatever its root
	Root     FileID
	RootPrev BatchNumber // of the batch before it of the same root; 0: none is kept
	Notes    []Notification
}

// Last is the place of the last notification of a batch; of one that is damaged, its end.
func (b *Batch) Last() Seq {
	if len(b.Notes) == 0 {
		return b.Number.End()
	}
	return b.Notes[len(b.Notes)-1].Seq
}

// Bounds are the ends of a journal. A cursor is readable if its batch is kept, or
// if it has seen all of Base, the predecessor of the oldest one kept. Head == Base: nothing is kept.
type Bounds struct {
	Base  BatchNumber
	Head  BatchNumber
	Whole bool // nothing was ever dropped: Base is where the journal began, and there was no batch before it
}

// Oldest is the smallest cursor that can be read from.
func (b Bounds) Oldest() Seq { return b.Base.End() }

// Newest is the cursor of a reader that has seen everything.
func (b Bounds) Newest() Seq { return b.Head.End() }

// MaxBatchBytes is how large the notifications of one batch may be together, as
// measured by [Notification.Weight]; what must not be cut and is larger goes alone. That is hardly ever twice as large.
const MaxBatchBytes = 1 << 20

// Load is how much of a batch notifications take.
type Load struct {
	Indexes int
	Weight  int
}

// MaxBatch is the load of a batch, with the exception that MaxBatchBytes has.
var MaxBatch = Load{BatchIndexes, MaxBatchBytes}

// LoadOf is what notes take together.
func LoadOf(notes []Notification) (l Load) {
	for i := range notes {
		l.Add(&notes[i])
	}
	return l
}

// Add counts one notification more.
func (l *Load) Add(n *Notification) {
	l.Indexes += n.Width()
	l.Weight += n.Weight()
}

// And is what two loads take together.
func (l Load) And(m Load) Load { return Load{l.Indexes + m.Indexes, l.Weight + m.Weight} }

// Within says whether there is room for l where there is room for most.
func (l Load) Within(most Load) bool { return l.Indexes <= most.Indexes && l.Weight <= most.Weight }

// Weight is about how many bytes n takes in memory. Its JSON is at most eight times as long.
func (n *Notification) Weight() int {
	w := 64 + len(n.Path) + 21*len(n.Spine) + len(n.Stream)
	if n.Attr.X != nil {
		for i := range n.Attr.X.Streams {
			w += 32 + len(n.Attr.X.Streams[i].Name)
		}
	}
	return w
}

// Width is how many indexes n takes in its batch.
func (n *Notification) Width() int {
	if Wide.Has(n.Type) {
		return WideIndexes
	}
	return 1
}

// Place is where in Notes the notification of a Seq is; false: there is none, and that is where it would be.
func (b *Batch) Place(seq Seq) (i int, ok bool) {
	i = sort.Search(len(b.Notes), func(i int) bool { return b.Notes[i].Seq >= seq })
	return i, i < len(b.Notes) && b.Notes[i].Seq == seq
}

// Partner is the other half of a rename; nil: there is none in this root.
func (b *Batch) Partner(n *Notification) *Notification {
	if n.Link == 0 {
		return nil
	}
	if i, ok := b.Place(n.Link); ok {
		return &b.Notes[i]
	}
	return nil
}

// Assign gives the batch its number and its notifications their Seqs, and turns each
// Link from a place into a Seq. For the journal's writer, once, before anyone else sees the batch.
func (b *Batch) Assign(number, prev, rootPrev BatchNumber) {
	b.Number, b.Prev, b.RootPrev = number, prev, rootPrev
	next := 0
	for i := range b.Notes {
		n := &b.Notes[i]
		next += n.Width()
		n.Seq = number.Seq(next - 1)
	}
	for i := range b.Notes {
		if n := &b.Notes[i]; n.Link != 0 {
			n.Link = b.Notes[n.Link-1].Seq
		}
	}
}
