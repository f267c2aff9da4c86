package journal

import (
	"fmt"
	"time"

	"fs_notify/notify"
)

// nextNumber is the number of a batch that is written now, behind prev.
func nextNumber(now time.Time, prev notify.BatchNumber) notify.BatchNumber {
	return max(notify.NumberAt(now), prev+1)
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
	indexes := 0
	for i := range notes {
		n := &notes[i]
		indexes += n.Width()
		switch {
		case n.Type >= notify.NumTypes:
			return invalid("notification %d has the unknown type %d", i, n.Type)
		case len(n.Spine) == 0:
			return invalid("notification %d has no spine", i)
		case n.Link > notify.Seq(len(notes)):
			return invalid("notification %d is linked to number %d of %d", i, n.Link, len(notes))
		}
	}
	if indexes > notify.BatchIndexes {
		return invalid("a batch of %d indexes: %d is the most", indexes, notify.BatchIndexes)
	}
	return nil
}

const maxFileID = 1<<63 - 1
