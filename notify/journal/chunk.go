package journal

import (
	"encoding/binary"
	"hash/crc32"

	"fs_notify/notify"
)

// entry is one name in a directory of a tree.
type entry struct {
	name string
	id   notify.FileID
	attr notify.Attr
}

// A chunk is some entries of one directory, by name, as they are stored: docs/journal-format.md.
const (
	chunkFormat = 1
	chunkBytes  = 8 << 10 // about as large as a chunk gets
)

// chunkSum is the checksum of a chunk: of its place and of its body without the checksum.
func chunkSum(root, dir notify.FileID, first string, body []byte) uint32 {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, 128), uint64(root))
	b = binary.LittleEndian.AppendUint64(b, uint64(dir))
	b = appendString(b, first)
	return crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, body)
}

// storedSum reads the checksum at the end of a body.
func storedSum(body []byte) uint32 {
	if len(body) < crcSize {
		return 0
	}
	return binary.LittleEndian.Uint32(body[len(body)-crcSize:])
}

// encodeChunk makes the stored form of as many entries, sorted by name, as a chunk takes, one at least, in the place of b. It gives how many.
func encodeChunk(b []byte, root, dir notify.FileID, first string, entries []entry) ([]byte, int) {
	b = append(b[:0], chunkFormat)
	prev := new(entry)
	n := 0
	for n < len(entries) && (n == 0 || len(b) < chunkBytes) {
		e := &entries[n]
		shared := commonBytes(prev.name, e.name)
		b = binary.AppendUvarint(b, uint64(shared))
		b = appendString(b, e.name[shared:])
		b = binary.LittleEndian.AppendUint64(b, uint64(e.id))
		b = appendAttr(b, &e.attr, &prev.attr, false, diffAttr(&e.attr, &prev.attr, false))
		prev = e
		n++
	}
	return binary.LittleEndian.AppendUint32(b, chunkSum(root, dir, first, b)), n
}

// decodeChunk appends the entries of a chunk. Anything that encodeChunk does not write is refused.
func decodeChunk(entries []entry, root, dir notify.FileID, first string, stored []byte) ([]entry, error) {
	n := len(stored) - crcSize
	if n < 1 {
		return nil, errFormat
	}
	if storedSum(stored) != chunkSum(root, dir, first, stored[:n]) {
		return nil, errCRC
	}
	if stored[0] != chunkFormat {
		return nil, errUnknown
	}
	return decodeEntries(entries, first, stored[1:n])
}

func decodeEntries(entries []entry, first string, plain []byte) ([]entry, error) {
	in := reader{b: plain}
	var prev entry
	var name []byte
	for begin := true; len(in.b) > 0 || begin; begin = false {
		shared, rest := in.count(1), in.take(in.count(1))
		if in.bad || shared > len(name) {
			return nil, errFormat
		}
		// Names rise, and what is shared is all that is shared.
		if !begin && (len(rest) == 0 || shared < len(name) && rest[0] <= name[shared]) || begin && string(rest) < first {
			return nil, errFormat
		}
		name = append(name[:shared], rest...)
		e := entry{name: string(name), id: notify.FileID(in.uint64())}
		mask := in.uvarint()
		if in.bad || mask&^allAttrs != 0 {
			return nil, errFormat
		}
		if err := in.masked(&e.attr, &prev.attr, false, uint(mask)); err != nil {
			return nil, err
		}
		entries = append(entries, e)
		prev = e
	}
	return entries, nil
}
