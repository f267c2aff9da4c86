package feed

import (
	"context"
	"time"

	"fs_notify/notify"
)

// Log is the record that a feed reads. *journal.Journal and *journal.Memory have it.
// All methods may be called from any goroutine. Batches are shared: nobody alters one.
type Log interface {
	// Bounds are the ends of what can be read now.
	Bounds() notify.Bounds
	// Ring returns, oldest first, the batches numbered from or higher, as far as memory holds
	// them, without waiting and without I/O. It is false if memory begins after from while the
	// journal may not: then Page has to be asked. An empty slice with true: nothing new.
	Ring(from notify.BatchNumber) ([]*notify.Batch, bool)
	// Page returns, oldest first, at most limit batches numbered from or higher; fewer if they are heavy, as readers may hold them for
	// long, but at least one if there is one. It may read from disk. A batch whose stored form is damaged comes without notifications and with Root 0.
	Page(ctx context.Context, from notify.BatchNumber, limit int) ([]*notify.Batch, error)
	// PageBack returns, newest first, at most limit batches of one root (0: of any) numbered before or lower.
	PageBack(ctx context.Context, root notify.FileID, before notify.BatchNumber, limit int) ([]*notify.Batch, error)
	// Contains says whether a cursor can be read on from: its batch is kept, or it has seen all of the base. One that is really inside
	// the base is not: the rest of that batch is gone. at is where to read on: in the base its end.
	Contains(ctx context.Context, pos notify.Seq) (at notify.Seq, ok bool, err error)
	// SeekTime gives the number of the last batch written before t; Bounds().Base if there is none.
	SeekTime(ctx context.Context, t time.Time) (notify.BatchNumber, error)
	// Grew returns a channel that is closed at the next append (and at Close). Fetch it before looking, then wait on it.
	Grew() <-chan struct{}
}
