package watch

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"fs_notify/notify"
)

// streamPrefix is how Samba's vfs_streams_xattr names an alternate data stream; ":$DATA" follows the stream's name.
const streamPrefix = "user.DosStream."

// addXattr puts one attribute where it belongs. The digests of a group are sums, so that the order in which
// the file system lists its attributes does not matter.
func addXattr(x *notify.Xattrs, name string, value []byte) {
	h := digest([]byte(name), value)
	switch {
	case name == "system.posix_acl_access", name == "system.posix_acl_default", name == "security.NTACL",
		name == "system.nfs4_acl", name == "system.nfs4_dacl", name == "system.nfs4_sacl",
		name == "trusted.SGI_ACL_FILE", name == "trusted.SGI_ACL_DEFAULT": // what xfs keeps the POSIX ACL in
		x.ACL += h
	case name == "user.DOSATTRIB":
		attrs, btime := splitDOSATTRIB(value)
		x.DOS, x.DOSBtime = digest(attrs), btime
	case strings.HasPrefix(name, streamPrefix) && len(name) > len(streamPrefix):
		s := notify.Stream{Name: strings.TrimSuffix(name[len(streamPrefix):], ":$DATA"), Size: int64(max(len(value)-1, 0)), Digest: digest(value)}
		i, _ := findStream(x.Streams, s.Name)
		x.Streams = slices.Insert(x.Streams, i, s)
	default:
		x.Other += h
	}
}

// standIn adds attributes that could not be read to those that could: as they were told, if they were. Of others, that they are there can be told.
func standIn(x, unreadable, told *notify.Xattrs) {
	add := func(x *uint64, unreadable, told uint64) {
		switch {
		case unreadable == 0:
		case told != 0:
			*x = told
		default:
			*x += unreadable
		}
	}
	add(&x.ACL, unreadable.ACL, told.ACL)
	add(&x.DOS, unreadable.DOS, told.DOS)
	add(&x.Other, unreadable.Other, told.Other)
	if unreadable.DOS != 0 {
		x.DOSBtime = told.DOSBtime
	}
	for _, s := range unreadable.Streams {
		if i, ok := findStream(told.Streams, s.Name); ok {
			s = told.Streams[i]
		}
		i, _ := findStream(x.Streams, s.Name)
		x.Streams = slices.Insert(x.Streams, i, s)
	}
}

// findStream gives the place of a stream in a list that is sorted by name, and whether it is there.
func findStream(list []notify.Stream, name string) (int, bool) {
	return slices.BinarySearchFunc(list, name, func(s notify.Stream, name string) int { return strings.Compare(s.Name, name) })
}

// splitDOSATTRIB takes the creation time out of Samba's attribute blob (librpc/idl/xattr.idl): what is
// left is the attributes. A blob of another form is all attributes. The time is nanoseconds since 1970, 0 if none is valid.
func splitDOSATTRIB(v []byte) (attrs []byte, btime int64) {
	i := bytes.IndexByte(v, 0)
	if i < 0 {
		return v, 0
	}
	pos := i + 1
	pos += pos & 1
	if len(v) < pos+4 {
		return v, 0
	}
	version := binary.LittleEndian.Uint16(v[pos:])
	pos = (pos + 4 + 3) &^ 3
	var at int // of the creation time in the body
	switch version {
	case 3:
		at = 28
	case 4:
		at = 16
	case 5:
		at = 8
	default:
		return v, 0
	}
	if len(v) < pos+at+8 || len(v) < pos+8 {
		return v, 0
	}
	const validCreateTime = 0x10
	if binary.LittleEndian.Uint32(v[pos:])&validCreateTime == 0 {
		return v, 0
	}
	attrib := v[pos+4 : pos+8]
	return append([]byte(nil), attrib...), nanosNT(int64(binary.LittleEndian.Uint64(v[pos+at:])))
}

func digest(parts ...[]byte) uint64 {
	var d xxhash.Digest
	d.Reset()
	for _, p := range parts {
		d.Write(p)
		d.Write([]byte{0})
	}
	if h := d.Sum64(); h != 0 {
		return h
	}
	return 1
}

// nothingTold is for looks at what nobody was told of.
func nothingTold() *notify.Xattrs { return nil }
