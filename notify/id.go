package notify

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// FileID names one file system object for good: through renames, restarts and a
// wiped state directory. It is positive and below 2^63; in JSON and in URLs it is
// a decimal string, since numbers get rounded there. Zero is no object.
type FileID uint64

// String gives the decimal form.
func (id FileID) String() string { return strconv.FormatUint(uint64(id), 10) }

// ParseFileID is the inverse of String. Anything but the one canonical decimal
// form of a positive number below 2^63 is Invalid.
func ParseFileID(s string) (FileID, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || n == 0 || s[0] == '0' || s[0] == '+' {
		return 0, &Error{Op: "notify.ParseFileID", Kind: Invalid,
			Msg: fmt.Sprintf("%q is not a file ID: it should be a decimal number from 1 to 2^63-1", clip(s))}
	}
	return FileID(n), nil
}

// Spine is the file IDs from a directory (first) down to an entry (last). It is
// one longer than the path between them.
type Spine []FileID

// Seq is the place of a notification in the journal: batch number * 4096 + index.
// Strictly rising, below 2^53 until 2089, never given twice, and it tells its time.
type Seq uint64

const (
	// IndexBits is the width of the index in a Seq.
	IndexBits = 12
	// BatchIndexes is how many indexes a batch has, and so the most notifications in it.
	BatchIndexes = 1 << IndexBits
	// WideIndexes is how many consecutive indexes an added or removed takes; its Seq is the last.
	WideIndexes = 4
	// MaxSeq is the largest Seq that there can be.
	MaxSeq Seq = 1<<53 - 1
)

// epoch is batch number 0: 2020-01-01 UTC in milliseconds of Unix time.
const epoch = 1577836800000

// BatchNumber is the millisecond since 2020-01-01 UTC in which a batch was
// written, or one more than its predecessor's if the clock stood or went back.
type BatchNumber uint64

// NumberAt gives the batch number of a time; times before 2020 give 0.
func NumberAt(t time.Time) BatchNumber {
	if ms := t.UnixMilli() - epoch; ms > 0 {
		return BatchNumber(ms)
	}
	return 0
}

// Time is when the batch was written, to the millisecond.
func (n BatchNumber) Time() time.Time { return time.UnixMilli(int64(n) + epoch).UTC() }

// Seq is the place of index i (0 to 4095) in batch n.
func (n BatchNumber) Seq(i int) Seq { return Seq(n)<<IndexBits | Seq(i&(BatchIndexes-1)) }

// End is the cursor of a reader that has seen all of batch n.
func (n BatchNumber) End() Seq { return n.Seq(BatchIndexes - 1) }

// Batch is the number of the batch that s lies in.
func (s Seq) Batch() BatchNumber { return BatchNumber(s >> IndexBits) }

// Index is the place of s inside its batch, 0 to 4095.
func (s Seq) Index() int { return int(s & (BatchIndexes - 1)) }

// Time is when the batch of s was written.
func (s Seq) Time() time.Time { return s.Batch().Time() }

// String gives the decimal form.
func (s Seq) String() string { return strconv.FormatUint(uint64(s), 10) }

// ParseSeq is the inverse of String; Invalid unless 0 <= s <= MaxSeq in canonical decimal.
func ParseSeq(s string) (Seq, error) {
	n, err := strconv.ParseUint(s, 10, 53)
	if err != nil || s[0] == '+' || (s[0] == '0' && len(s) > 1) {
		return 0, &Error{Op: "notify.ParseSeq", Kind: Invalid,
			Msg: fmt.Sprintf("%q is not a sequence number: it should be a decimal number from 0 to 2^53-1", clip(s))}
	}
	return Seq(n), nil
}

// Cursor is where a reader stands: the last Seq that it has seen and the
// directory that it watches. Its text is the id of an event: "SEQ.DIRID", or
// bare "SEQ" where the directory is known otherwise (Dir is 0).
type Cursor struct {
	Seq Seq
	Dir FileID
}

// String gives the text form.
func (c Cursor) String() string {
	if c.Dir == 0 {
		return c.Seq.String()
	}
	return c.Seq.String() + "." + c.Dir.String()
}

// ParseCursor is the inverse of String; anything else is Invalid.
func ParseCursor(s string) (Cursor, error) {
	seq, dir, dotted := strings.Cut(s, ".")
	n, err := ParseSeq(seq)
	if err == nil && dotted {
		var id FileID
		id, err = ParseFileID(dir)
		return Cursor{n, id}, cursorError(s, err)
	}
	return Cursor{Seq: n}, cursorError(s, err)
}

func cursorError(s string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: "notify.ParseCursor", Kind: Invalid, Err: err,
		Msg: fmt.Sprintf("%q is not an event id: it should be SEQ.DIRID or SEQ, both decimal numbers", clip(s))}
}

// clip keeps a hostile input from filling an error message.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
