package onedata

import (
	"strconv"

	"fs_notify/notify"
)

// appendFileID appends the CDMI object ID of an entry, in hexadecimal: reserved byte, enterprise number (0), reserved byte, length of the
// data, checksum, and as data "guid#FILEID#SPACEID".
func appendFileID(b []byte, id, space notify.FileID) []byte {
	const head = 8
	raw := make([]byte, head, head+5+20+1+20)
	raw = append(raw, "guid#"...)
	raw = strconv.AppendUint(raw, uint64(id), 10)
	raw = append(raw, '#')
	raw = strconv.AppendUint(raw, uint64(space), 10)
	return appendObjectID(b, raw)
}

// appendObjectID fills in the eight bytes before the data, and appends all of it.
func appendObjectID(b, raw []byte) []byte {
	raw[5], raw[6], raw[7] = byte(len(raw)-8), 0, 0
	sum := crc16(raw)
	raw[6], raw[7] = byte(sum>>8), byte(sum)
	const digits = "0123456789ABCDEF"
	for _, c := range raw {
		b = append(b, digits[c>>4], digits[c&15])
	}
	return b
}

// crc16 is CRC-16/ARC: polynomial 0x8005, reflected, beginning with 0.
func crc16(b []byte) (sum uint16) {
	for _, c := range b {
		sum = sum>>8 ^ crcTable[byte(sum)^c]
	}
	return sum
}

var crcTable = func() (t [256]uint16) {
	for i := range t {
		c := uint16(i)
		for range 8 {
			c = c>>1 ^ 0xa001*(c&1)
		}
		t[i] = c
	}
	return t
}()
