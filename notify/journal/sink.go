package journal

import (
	"context"

	"fs_notify/notify"
)

// Appender is the writing end, as package watch declares it for itself:
//
//	Append(ctx, root, notes) (number, err)
//
// gives the notifications (at most notify.BatchIndexes indexes together) a number and Seqs, makes the batch
// durable, puts it into the ring and wakes the readers, in this order. The slice belongs to the
// journal from then on. One goroutine calls it.
type Appender interface {
	Append(ctx context.Context, root notify.FileID, notes []notify.Notification) (notify.BatchNumber, error)
}
