package journal

import (
	"fmt"
	"math/rand/v2"
	"time"

	"fs_notify/notify"
)

const (
	maxNumber = notify.BatchNumber(notify.MaxSeq >> notify.IndexBits) // cursors of what is above are refused; September 2089
	// A clock that says a later time than clockEnd is not taken at its word: numbers would end for good. From there each is its predecessor's + 1,
	// for which there is room for ever. Only a journal that an older program wrote can be above spentNumber: it cannot go on.
	clockEnd    = maxNumber - 1<<35
	spentNumber = maxNumber - 1<<34
)

// numberOf is the number that the clock gives; 0: it says a time that is before all numbers, or beyond.
func numberOf(now time.Time) notify.BatchNumber {
	if n := notify.NumberAt(now); n <= clockEnd {
		return n
	}
	return 0
}

// nextNumber is the number of a batch that is written now, behind prev.
func nextNumber(now time.Time, prev notify.BatchNumber) notify.BatchNumber {
	return max(numberOf(now), prev+1)
}

// firstNumber is where a journal begins that knows of none before it. If the clock has no number, that is anywhere below what a clock gives
// that is right: two lives that begin so must not give the same numbers.
func firstNumber(now time.Time) notify.BatchNumber {
	if n := numberOf(now); n > 0 {
		return n
	}
	return 1 + rand.N(notify.NumberAt(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)))
}

// checkNotes says why notes cannot be a batch: a fault of the caller.
func checkNotes(op string, root notify.FileID, notes []notify.Notification) error {
	invalid := func(format string, args ...any) error {
		return &notify.Error{Op: op, Kind: notify.Invalid, Msg: fmt.Sprintf(format, args...)}
	}
	if root == 0 || root > maxFileID {
		return invalid("%d is no file ID of a root", uint64(root))
	}
	if len(notes) == 0 {
		return invalid("a batch without notifications")
	}
	var load notify.Load
	for i := range notes {
		n := &notes[i]
		load.Add(n)
		switch {
		case n.Type >= notify.NumTypes:
			return invalid("notification %d has the unknown type %d", i, n.Type)
		case len(n.Spine) == 0:
			return invalid("notification %d has no spine", i)
		case n.Link > notify.Seq(len(notes)):
			return invalid("notification %d is linked to number %d of %d", i, n.Link, len(notes))
		}
	}
	if !load.Within(maxWritten) {
		return invalid("a batch of %d indexes and %d bytes: %d and %d are the most", load.Indexes, load.Weight, maxWritten.Indexes, maxWritten.Weight)
	}
	return nil
}

const maxFileID = 1<<63 - 1
