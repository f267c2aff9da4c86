package journal

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"fs_notify/notify"
)

// Bounds are the ends of what can be read now.
func (j *Journal) Bounds() notify.Bounds {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return notify.Bounds{Base: j.base, Head: j.head, Whole: j.whole}
}

// begins gives the number before the oldest batch in memory: what is above it is in memory or nowhere. The caller holds mu.
func (j *Journal) begins() notify.BatchNumber {
	return j.ring.begins(j.base, j.head)
}

// Ring gives the batches numbered from or higher, oldest first, without waiting. It is false if memory
// begins after from and the disk may have more.
func (j *Journal) Ring(from notify.BatchNumber) ([]*notify.Batch, bool) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.ring.reaches(from, j.base, j.head)
}

// Grew gives a channel that is closed at the next append, and at Close. Fetch it before looking, then wait on it.
func (j *Journal) Grew() <-chan struct{} { return j.bell.wait() }

// look takes from memory what a reader needs in order to ask the disk for the rest.
func (j *Journal) look(ctx context.Context, op string, f func()) error {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.closed {
		return closed(op)
	}
	f()
	return context.Cause(ctx)
}

// Page gives at most limit batches numbered from or higher, oldest first; fewer if they weigh more than 512 KiB together, but
// at least one if there is one. A batch whose stored form is damaged has no notifications and Root 0.
func (j *Journal) Page(ctx context.Context, from notify.BatchNumber, limit int) ([]*notify.Batch, error) {
	const op = "journal.Page"
	if err := j.look(ctx, op, func() {}); err != nil {
		return nil, err
	}
	out, err := j.page(from, limit)
	return out, readError(op, err)
}

// page is Page for the journal itself, which folds when it is closed.
func (j *Journal) page(from notify.BatchNumber, limit int) (out []*notify.Batch, err error) {
	j.mu.RLock()
	begins, held := j.begins(), j.ring.from(from)
	from = max(from, j.base+1)
	j.mu.RUnlock()
	room := pageWeight
	if from <= begins && limit > 0 {
		rows, err := j.query.page.Query(int64(from), int64(begins)+1, limit)
		var full bool
		out, full, err = j.scan(rows, err, &room)
		if full, err = j.torn(&out, full, err, from, begins); err != nil || full {
			return out, err
		}
	}
	return fillPage(out, held, limit, room), nil
}

// PageBack gives at most limit batches of a root (0: of any) numbered before or lower, newest first; fewer if they weigh more
// than 8 MiB together, but at least one if there is one.
func (j *Journal) PageBack(ctx context.Context, root notify.FileID, before notify.BatchNumber, limit int) ([]*notify.Batch, error) {
	const op = "journal.PageBack"
	var base, begins, newest notify.BatchNumber
	var out []*notify.Batch
	if err := j.look(ctx, op, func() {
		base, begins, out = j.base, j.begins(), j.ring.back(root, before, limit)
		newest = j.last[root]
		if b := j.ring.first(root); b != nil {
			newest = b.RootPrev
		}
	}); err != nil || len(out) >= limit {
		return out, err
	}
	if before = min(before, begins); before <= base {
		return out, nil
	}
	var more []*notify.Batch
	var err error
	if root == 0 {
		var rows *sql.Rows
		rows, err = j.query.back.Query(int64(before), int64(base), limit-len(out))
		room := backWeight
		more, _, err = j.scan(rows, err, &room)
		_, err = j.torn(&more, false, err, before, base+1)
	} else {
		more, err = j.backOf(ctx, root, before, base, newest, limit-len(out))
	}
	return append(out, more...), readError(op, err)
}

// backOf reads from disk, newest first, at most limit batches of a root numbered before or lower, but above base. Each names the one
// before it, which is all the index that there is. newest is the newest of the root on disk.
func (j *Journal) backOf(ctx context.Context, root notify.FileID, before, base, newest notify.BatchNumber, limit int) (out []*notify.Batch, err error) {
	n, err := j.lastOf(ctx, root, before, base, newest)
	room, full := backWeight, false
	for err == nil && n > base && len(out) < limit && !full {
		before = n
		var got []*notify.Batch
		rows, e := j.query.one.Query(int64(n))
		if got, full, err = j.scan(rows, e, &room); err != nil {
			break
		}
		switch {
		case len(got) == 1 && got[0].Root == root && got[0].RootPrev < n:
			n = got[0].RootPrev
			out = append(out, got...)
			continue
		case len(got) == 1 && got[0].Root == 0: // it is damaged
			out = append(out, got...)
		}
		if !full { // the one before it has to be found
			n, err = j.lastOf(ctx, root, n-1, base, newest)
		}
	}
	_, err = j.torn(&out, false, err, before, base+1)
	return out, err
}

// lastOf finds the last batch on disk of a root numbered before or lower, but above base; if there is none it gives a number that is not
// above base. It goes down all batches from before and those of the root from newest in turn, each time twice as far: a busy root has one nearby, and
// a quiet one has few.
func (j *Journal) lastOf(ctx context.Context, root notify.FileID, before, base, newest notify.BatchNumber) (notify.BatchNumber, error) {
	const far = 1 << 16 // rows in one step
	chained := true     // newest is of the root, and whatever comes behind it is not before
	var torn error      // why all batches cannot be gone down
	for limit := 256; ; limit = min(2*limit, far) {
		for range limit / 8 {
			if !chained || newest <= before {
				break
			}
			newest, chained = j.prevOf(root, newest)
		}
		switch {
		case chained && newest <= before:
			return newest, nil
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case torn != nil && chained:
			continue
		case torn != nil:
			return 0, torn
		}
		var count int
		var lowest, found int64
		err := j.query.of.QueryRow(int64(root), int64(before), int64(base), limit).Scan(&count, &lowest, &found)
		switch {
		case err != nil && broken(err):
			torn = err
		case err != nil || found != 0 || count < limit:
			return notify.BatchNumber(found), err
		default:
			before = notify.BatchNumber(lowest) - 1
		}
	}
}

// prevOf gives the number of the batch of a root before batch n of it. It is false if n is damaged or not on disk.
func (j *Journal) prevOf(root notify.FileID, n notify.BatchNumber) (prev notify.BatchNumber, ok bool) {
	rows, err := j.query.one.Query(int64(n))
	if err != nil {
		return 0, false
	}
	defer rows.Close()
	if !rows.Next() {
		return 0, false
	}
	r, err := scanRow(rows)
	if err == nil {
		_, err = r.intact()
	}
	return r.rootPrev, err == nil && r.root == root
}

// scan reads batches until there are no more, or they have used up the room that there is for their weight (full), or the database
// cannot be read on: then there is an error besides what was read before.
func (j *Journal) scan(rows *sql.Rows, err error, room *int) (out []*notify.Batch, full bool, _ error) {
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	for !full && rows.Next() {
		r, err := scanRow(rows)
		if err != nil {
			return out, false, err
		}
		b, bad := r.batch()
		if bad != nil {
			j.noteDamage(r.number, bad)
		}
		out = append(out, b)
		*room -= batchWeight(b)
		full = *room < 0
	}
	return out, full, rows.Err()
}

// torn is for what scan gave of a file that is broken from batch from on, up or down to end: what was read before is a full page, and where
// that is nothing, a batch without root stands for all that is missing, numbered as the last of that.
func (j *Journal) torn(out *[]*notify.Batch, full bool, err error, from, end notify.BatchNumber) (bool, error) {
	if err == nil || !broken(err) {
		return full, err
	}
	if len(*out) == 0 {
		j.noteDamage(from, err)
		*out = []*notify.Batch{{Number: j.tear(from, end)}}
	}
	return true, nil
}

// tear gives the last batch number from from on, up or down to end, behind which the file can be read again; end if it can nowhere. A page covers as
// many milliseconds as its batches took, so the steps double. Two places that are broken may be taken for one.
func (j *Journal) tear(from, end notify.BatchNumber) notify.BatchNumber {
	down, last := end < from, max(from, end)-min(from, end)
	at := func(d notify.BatchNumber) notify.BatchNumber {
		if down {
			return from - d
		}
		return from + d
	}
	reads := func(d notify.BatchNumber) bool {
		if down {
			return oneRow(j.query.back.Query(int64(at(d)), int64(end)-1, 1))
		}
		return oneRow(j.query.page.Query(int64(at(d)), int64(end)+1, 1))
	}
	bad, good := notify.BatchNumber(0), notify.BatchNumber(1)
	for ; good <= last && !reads(good); good *= 2 {
		bad = good
	}
	good = min(good, last+1)
	for good-bad > 1 {
		if d := bad + (good-bad)/2; reads(d) {
			good = d
		} else {
			bad = d
		}
	}
	return at(bad)
}

// oneRow says whether a query goes well that asks for one row at most.
func oneRow(rows *sql.Rows, err error) bool {
	if err != nil {
		return false
	}
	defer rows.Close()
	for rows.Next() {
		if _, err := scanRow(rows); err != nil {
			return false
		}
	}
	return rows.Err() == nil
}

// noteDamage logs a damaged batch, once, unless there are many.
func (j *Journal) noteDamage(n notify.BatchNumber, err error) {
	j.damagedMu.Lock()
	_, known := j.damaged[n]
	if !known && len(j.damaged) < 10000 {
		j.damaged[n] = struct{}{}
	}
	so, count := false, 0
	if !known {
		so, count = j.damages.Lets(time.Now())
	}
	j.damagedMu.Unlock()
	if so {
		j.log.Error("a stored batch is damaged: readers are told that it is gone", "dir", j.dir, "batch", uint64(n), "written", n.Time(), "err", err, "so_far", count)
	}
}

// Contains says whether a cursor can be read on from, and where: its batch is kept, or it has seen all of the base.
func (j *Journal) Contains(ctx context.Context, pos notify.Seq) (at notify.Seq, ok bool, err error) {
	const op = "journal.Contains"
	n := pos.Batch()
	at = pos
	known := false
	if err := j.look(ctx, op, func() {
		known = n <= j.base || n > j.begins()
		ok = n > j.base && j.ring.has(n)
		if n == j.base {
			at, ok = n.End(), pos >= j.seen
		}
	}); err != nil || known {
		return at, ok, err
	}
	var one int
	err = j.query.has.QueryRow(int64(n)).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) || err != nil && broken(err) {
		return at, false, nil
	}
	return at, err == nil, readError(op, err)
}

// SeekTime gives the number of the last batch written in a millisecond before that of t; the base if there is none.
func (j *Journal) SeekTime(ctx context.Context, t time.Time) (notify.BatchNumber, error) {
	const op = "journal.SeekTime"
	at := notify.NumberAt(t)
	var base, n notify.BatchNumber
	var ok bool
	if err := j.look(ctx, op, func() {
		base = j.base
		n, ok = j.ring.before(at)
	}); err != nil || ok {
		return n, err
	}
	var found sql.NullInt64
	err := j.query.before.QueryRow(int64(min(at, 1<<62)), int64(base)).Scan(&found)
	if err != nil && broken(err) {
		err = nil // from the base on the reader will meet the damage and be told
	}
	return max(base, notify.BatchNumber(found.Int64)), readError(op, err)
}

func readError(op string, err error) error {
	if err == nil {
		return nil
	}
	return &notify.Error{Op: op, Kind: notify.Unavailable, Err: err, Retry: time.Second}
}
