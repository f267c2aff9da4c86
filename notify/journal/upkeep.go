package journal

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"fs_notify/notify"
)

const (
	walBytes   = 8 << 20      // of the WAL: more is moved into the database
	walMost    = 2 * walBytes // and beyond this appends wait until all is moved, and a moment for who is reading
	walPage    = 4096
	walRest    = 1024             // pages that are moved while appends wait
	walRounds  = 4                // in which more than that is moved while they do not
	upkeepRest = time.Second      // between two rounds of upkeep, unless there is a reason
	slowRest   = 10 * time.Second // between two looks at retention
	foldRest   = time.Minute      // what waits to be folded waits no longer than this
	saveBytes  = 1 << 20          // of unsaved rows in one transaction
	dropRows   = 256              // old rows dropped in one transaction
	dropBytes  = 4 << 20          // and of no more than this
	fillRows   = 256              // batches read in one step while memory is filled
)

var errReplaced = errors.New("the database was removed or replaced while it was in use: restart the service")

// Run does what must not hold up an append: it fills memory with the newest batches, saves what could not be saved, moves the WAL
// into the database, folds the journal into the checkpoint, and drops what is too old or too much. It returns when ctx ends, with nil; or
// when another process has the state directory, as somebody took the lock away: Unavailable. Nothing is written from then on.
func (j *Journal) Run(ctx context.Context) error {
	j.db.checkpoint(false) // of what a crash has left, so that the WAL begins anew: if it fails, moveWAL says so
	if err := j.db.reserve(walBytes+walBytes/8, &j.appending); err != nil {
		j.log.Warn("no room could be set aside for the journal's WAL: appends will be slower at first", "dir", j.dir, "err", err)
	}
	j.fill(ctx)
	tick := time.NewTicker(upkeepRest)
	defer tick.Stop()
	var slow, fold time.Time
	for ctx.Err() == nil {
		if err := j.keepLock(); err != nil {
			return err
		}
		now := time.Now()
		if now.Sub(slow) >= slowRest {
			slow = now
			j.watchFile()
			j.trees.watchFile()
		}
		j.saveUnsaved()
		j.moveWAL()
		j.trees.moveWAL()
		switch much, some := j.trees.due(); {
		case some && now.Sub(fold) >= foldRest:
			j.trees.fold(ctx, true)
			fold = now
		case much && j.trees.fold(ctx, false):
			fold = now
		}
		if slow == now {
			j.retain(ctx)
		}
		j.noteHead()
		select {
		case <-tick.C:
		case <-j.kick:
		case <-ctx.Done():
		}
	}
	return nil
}

// fill reads the newest batches into memory, backward, until it is as full as it may be.
func (j *Journal) fill(ctx context.Context) {
	j.mu.RLock()
	base, begins, room := j.base, j.begins(), j.ring.share()-j.ring.weight
	j.mu.RUnlock()
	var older []*notify.Batch // newest first
	for before := begins; before > base && room > 0 && ctx.Err() == nil; before = older[len(older)-1].Number - 1 {
		rows, err := j.query.back.Query(int64(before), int64(base), fillRows)
		some, _, err := j.scan(rows, err, &room)
		older = append(older, some...)
		if err != nil || len(some) == 0 {
			break
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.begins() == begins && j.base == base {
		j.ring.prepend(older)
	}
}

// saveUnsaved saves what the disk did not take, oldest first, in a few transactions.
func (j *Journal) saveUnsaved() {
	for j.saveSome() {
	}
}

// saveSome saves the oldest unsaved rows in one transaction. It is false if none are left or the disk does not work.
func (j *Journal) saveSome() bool {
	j.appending.Lock()
	defer j.appending.Unlock()
	j.mu.RLock()
	n, bytes := 0, 0
	for n < len(j.unsaved) && (n == 0 || bytes+len(j.unsaved[n].body) <= saveBytes) {
		bytes += len(j.unsaved[n].body)
		n++
	}
	some, works := j.unsaved[:n:n], j.down.IsZero()
	j.mu.RUnlock()
	if n == 0 && works || j.barred() != nil {
		return false
	}
	start := time.Now()
	err := j.commit(func(tx *sql.Tx) error { // with the state: the base may have moved behind what was lost
		insert := tx.Stmt(j.insert)
		for i := range some {
			r := &some[i]
			if _, err := insert.Exec(int64(r.number), int64(r.prev), int64(r.root), int64(r.rootPrev), r.body); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		j.fail(err)
		return false
	}
	j.mu.Lock()
	for i := range some {
		j.waiting -= int64(len(some[i].body) + rowOverhead)
		j.noteSaved(&some[i])
	}
	if j.syncTime = time.Since(start); n > 0 {
		j.saved = some[n-1].number
	}
	j.unsaved = j.unsaved[n:]
	j.trim()
	up := len(j.unsaved) == 0
	since, lost := j.down, j.lost
	if up {
		j.unsaved, j.down, j.downErr = nil, time.Time{}, nil
	}
	j.mu.Unlock()
	if up {
		if err := j.saveState(); err != nil { // now that the newest batch of each root is on disk
			j.fail(err)
			return false
		}
		j.log.Info("the journal is up again: all that memory held is saved", "dir", j.dir, "down_since", since, "lost_batches_so_far", lost)
	}
	return !up
}

// misplaced says whether a file is no longer where it was.
func misplaced(path string, file os.FileInfo) bool {
	now, err := os.Stat(path)
	return errors.Is(err, os.ErrNotExist) || err == nil && !os.SameFile(file, now)
}

// watchFile finds out that somebody took the database away.
func (j *Journal) watchFile() {
	j.appending.Lock()
	defer j.appending.Unlock()
	if j.ousted != nil {
		return
	}
	if j.replaced = misplaced(j.db.path, j.file); j.replaced {
		j.fail(errReplaced)
		return
	}
	j.mu.Lock()
	j.unseen = 0
	j.mu.Unlock()
}

// keepLock puts the lock file back if somebody took it away. If another process has locked it since, there are two that write: this one ends.
func (j *Journal) keepLock() error {
	j.appending.Lock()
	defer j.appending.Unlock()
	if j.ousted != nil {
		return j.ousted
	}
	back, err := j.lock.keep()
	var taken *takenError
	switch {
	case errors.As(err, &taken):
		j.ousted = &notify.Error{Op: "journal.Run", Path: j.dir, Kind: notify.Unavailable,
			Msg: fmt.Sprintf("the lock of state directory %q was removed, and %s has it now: this process ends, as two would damage the journal", j.dir, taken.who)}
		j.fail(j.ousted)
		return j.ousted
	case back:
		j.log.Warn("the lock file was removed or replaced while it was in use: it is put back", "dir", j.dir)
	case err != nil && !j.unlocked:
		j.log.Warn("the lock file was removed or replaced while it was in use, and could not be put back: tried again every second", "dir", j.dir, "err", err)
	}
	j.unlocked = err != nil
	return nil
}

// moveWAL moves the WAL into the database if it has grown. Most is moved while appends go on, in rounds, each of which moves what was there at its
// beginning; the little that came in the last one, while they wait, so that the WAL is used from its beginning again.
func (j *Journal) moveWAL() {
	j.mu.Lock()
	due := j.wal > walBytes
	if due {
		j.wal = 0
	}
	j.mu.Unlock()
	if !due {
		return
	}
	j.appending.Lock()
	err := j.saveState() // so that a start need not count everything
	j.appending.Unlock()
	pages, moved := 0, 0
	for range walRounds {
		before := pages
		var e error
		pages, moved, e = j.db.checkpoint(false)
		if err = cmp.Or(err, e); err != nil || pages-before < walRest {
			break
		}
	}
	if much := pages > walMost/walPage; err == nil && (pages-moved < walRest || much) {
		j.appending.Lock()
		_, _, err = j.db.checkpoint(much)
		j.appending.Unlock()
	}
	if err != nil {
		j.log.Warn("the journal's WAL could not be moved into the database: tried again later", "dir", j.dir, "err", err)
	}
}

// retain drops the oldest batches while they are too old or too many, and deletes what is no longer readable. It drops
// nothing that the checkpoint still needs.
func (j *Journal) retain(ctx context.Context) {
	var cutoff notify.BatchNumber
	now, doubted := j.o.Now(), j.clock.ahead > 0
	if believed := j.clock.believes(now, now.Sub(j.clock.last)); believed && j.o.RetainAge > 0 && numberOf(now) > 0 {
		cutoff = notify.NumberAt(now.Add(-j.o.RetainAge))
	} else if !believed && !doubted {
		j.log.Warn("the clock was set forward: nothing is dropped for its age until it has kept that time", "by", j.clock.ahead.String(), "for", clockDoubt.String())
	}
	err := j.expire(ctx, cutoff)
	if err == nil {
		err = j.deleteExpired(ctx)
	}
	switch {
	case err == nil || ctx.Err() != nil:
	case !broken(err):
		j.log.Warn("old batches could not be dropped: tried again later", "dir", j.dir, "err", err)
	case !j.worn:
		j.worn = true
		j.condemn()
		j.log.Error("the journal is damaged where its oldest batches are, and cannot drop them: it grows until the service is started anew, which sets it aside",
			"dir", j.dir, "err", err)
	}
}

// A clock that is set forward by so much is not believed before it has kept that time for so long.
const (
	clockStep  = time.Minute
	clockDoubt = time.Hour
)

// clock is what is known of the time of day: by it batches are dropped for good, so that a mistake in it must not count.
type clock struct {
	last  time.Time     // when it was last looked at
	ahead time.Duration // by how much it was set forward since it was last believed; 0: it is believed
	kept  time.Duration // how long that is ago
}

// believes takes the time, and how much later that is than the last one by a clock that nobody sets.
func (c *clock) believes(now time.Time, later time.Duration) bool {
	if !c.last.IsZero() {
		c.ahead += now.Round(0).Sub(c.last.Round(0)) - later
		c.kept += later
	}
	c.last = now
	if c.ahead < clockStep || c.kept >= clockDoubt {
		c.ahead, c.kept = 0, 0
		return true
	}
	return false
}

// expire moves the base up. The newest batch stays: its readers have the number of its last notification, and who read that has missed nothing.
func (j *Journal) expire(ctx context.Context, cutoff notify.BatchNumber) error {
	folded := false
	for ctx.Err() == nil {
		j.mu.RLock()
		base, saved, excess := j.base, j.saved, int64(0)
		if j.o.RetainBytes >= 0 {
			excess = j.onDisk - j.o.RetainBytes
		}
		j.mu.RUnlock()
		last, bytes, err := j.oldest(base, saved-1, cutoff, excess)
		if err != nil || last == 0 {
			return err
		}
		if last > j.trees.mayDrop() {
			if folded {
				return nil
			}
			j.trees.fold(ctx, true)
			folded = true
			continue
		}
		seen := last.End()
		if b, err := j.Page(ctx, last, 1); err == nil && len(b) > 0 && b[0].Number == last {
			seen = b[0].Last()
		}
		j.appending.Lock()
		j.mu.Lock()
		j.moveBase(last, seen)
		j.onDisk = max(0, j.onDisk-bytes)
		j.mu.Unlock()
		j.appending.Unlock()
		if err := j.deleteExpired(ctx); err != nil {
			return err
		}
	}
	return nil
}

// oldest finds which of the oldest rows have to go: up to limit, older than cutoff or as long as there is an excess of bytes. It looks at
// no more than one transaction should delete; last is 0 if none has to go.
func (j *Journal) oldest(base, limit, cutoff notify.BatchNumber, excess int64) (last notify.BatchNumber, bytes int64, err error) {
	rows, err := j.db.read.Query("SELECT number, length(body) FROM batches WHERE number > ? AND number <= ? ORDER BY number LIMIT ?",
		int64(base), int64(limit), dropRows)
	if err != nil {
		return 0, 0, err
	}
	defer rows.Close()
	for bytes < dropBytes && rows.Next() {
		var number, length sql.NullInt64
		if err = scan(rows, &number, &length); err != nil {
			return 0, 0, err
		}
		n := notify.BatchNumber(number.Int64)
		if n >= cutoff && bytes >= excess {
			break
		}
		last = n
		bytes += length.Int64 + rowOverhead
	}
	return last, bytes, rows.Err()
}

// deleteExpired deletes what lies below the base, a little in each transaction.
func (j *Journal) deleteExpired(ctx context.Context) error {
	for ctx.Err() == nil && j.expired.Load() {
		base := j.Bounds().Base
		last, bytes, err := j.oldest(0, base, base+1, 0)
		if err != nil {
			return err
		}
		if last == 0 {
			j.expired.Store(false)
			return nil
		}
		j.appending.Lock()
		err = j.commit(func(tx *sql.Tx) error {
			_, err := tx.Exec("DELETE FROM batches WHERE number <= ?", int64(last))
			return err
		})
		j.mu.Lock()
		j.wal += int(bytes)
		j.mu.Unlock()
		j.appending.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// moveBase makes everything up to number unreadable, of which seen is the last. The caller holds appending and mu.
func (j *Journal) moveBase(number notify.BatchNumber, seen notify.Seq) {
	if number >= j.base {
		j.base, j.seen = number, seen
	}
	j.whole, j.stateDue = false, true
	j.expired.Store(true)
	if j.base >= j.saved {
		j.onDisk = 0
	}
	for len(j.ring.batches) > 0 && j.ring.batches[0].Number <= j.base {
		j.ring.drop()
	}
	for len(j.unsaved) > 0 && j.unsaved[0].number <= j.base {
		j.dropUnsaved()
	}
}

// newLife makes every cursor that was ever given out gone, that of the head too: base and head become a number that no batch has, which it
// gives. Nothing is unsaved then, and who waits is woken. The caller holds appending.
func (j *Journal) newLife() notify.BatchNumber {
	j.mu.Lock()
	number := max(nextNumber(j.o.Now(), j.head), j.first)
	j.head = number
	j.moveBase(number, number.End())
	j.saved = number
	j.mu.Unlock()
	j.bell.ring()
	return number
}

// noteHead puts the head on record outside the database. That it does not work is said once, until it does again.
func (j *Journal) noteHead() {
	j.mu.RLock()
	head := j.head
	j.mu.RUnlock()
	err := j.lock.write(head)
	switch was := j.headless.Swap(err != nil); {
	case err != nil && !was:
		j.log.Warn("the head could not be noted in the lock file: tried again every second", "dir", j.dir, "err", err)
	case err == nil && was:
		j.log.Info("the head is noted in the lock file again", "dir", j.dir)
	}
}
