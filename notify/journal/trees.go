package journal

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fs_notify/notify"
)

const (
	defaultFoldLag = 1 << 18  // notifications that wait before they are folded, in one transaction, if there is no other reason
	windowBytes    = 32 << 20 // what is known of them in memory, about, before that
	gatherLag      = 1 << 15  // notifications that are appended before they go into the window that is folded next: memory has them still
)

// trees holds the checkpoint: for each root every entry as it was last told, all as of one batch. It has its own
// database, as a transaction on it may take long, and appends must not wait for it. It is never ahead of the journal.
type trees struct {
	j  *Journal
	db *database

	work sync.Mutex   // one fold, load or reset at a time
	lag  atomic.Int64 // notifications appended since the last fold or gather, about; above 0 if anything waits
	wal  atomic.Bool  // something was written since the WAL was last moved
	q    treeQueries

	broken error // the database cannot be read; guarded by work

	// What is folded next, of the batches behind folded up to gathered: nil, nothing is prepared. Guarded by work. Whatever else changes the
	// trees folds it or drops it.
	window   *window
	gathered notify.BatchNumber

	mu     sync.Mutex // guards what follows
	folded notify.BatchNumber
	roots  map[notify.FileID]*treeRoot
	err    error       // why folding cannot go on
	file   os.FileInfo // of the database; nil while it gives way to a new one
	gone   error       // it is no longer where it was
}

type treeQueries struct{ chunks, dir, put, del, delDir *sql.Stmt }

// treeRoot is what is stored of a root besides its entries.
type treeRoot struct {
	since  notify.BatchNumber // the entries were handed over as of this batch
	valid  bool
	digest uint32 // of the checksums of all chunks
	meta   []byte
}

// dropped is what stays known of a root that has no tree any more, or none yet: that it was there, and its meta.
func (r *treeRoot) dropped() *treeRoot {
	if r == nil {
		return &treeRoot{}
	}
	return &treeRoot{meta: r.meta}
}

const treeSchema = `
CREATE TABLE state (
	id     INTEGER PRIMARY KEY CHECK (id = 1),
	life   INTEGER NOT NULL,
	folded INTEGER NOT NULL,
	sum    INTEGER NOT NULL
) STRICT;
CREATE TABLE roots (
	root   INTEGER PRIMARY KEY,
	since  INTEGER NOT NULL,
	valid  INTEGER NOT NULL,
	digest INTEGER NOT NULL,
	meta   BLOB NOT NULL,
	sum    INTEGER NOT NULL
) STRICT;
CREATE TABLE dirs (
	root  INTEGER NOT NULL,
	dir   INTEGER NOT NULL,
	first BLOB NOT NULL,
	body  BLOB NOT NULL,
	PRIMARY KEY (root, dir, first)
) STRICT, WITHOUT ROWID`

// openTrees opens the checkpoint of a journal. If there is none, or one of another journal, nobody can
// know what those with older cursors were told last: all of them are gone, unless the journal is new itself.
func openTrees(j *Journal) (_ *trees, err error) {
	const op = "journal.Open"
	t := &trees{j: j, roots: make(map[notify.FileID]*treeRoot)}
	path := filepath.Join(j.dir, "tree.db")
	if t.db, err = openDatabase(path, j.o.vfs, treeAppID, treeSchema); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			t.db.close()
		}
	}()
	if t.file, err = os.Stat(path); err != nil {
		return nil, openError(op, path, err)
	}
	var life, folded, sum int64
	err = t.db.write.QueryRow("SELECT life, folded, sum FROM state").Scan(&life, &folded, &sum)
	why := ""
	switch {
	case errors.Is(err, sql.ErrNoRows):
		why = "there is none"
	case sqliteCode(err) != 0:
		return nil, openError(op, path, err)
	case err != nil, sum != sumOf(life, folded):
		why = "it is damaged"
	case life != j.life:
		why = "it belongs to another journal"
	}
	t.folded = notify.BatchNumber(folded)
	if err = t.loadRoots(); err != nil {
		return nil, openError(op, path, err)
	}
	if why == "" && t.mayDrop() == t.folded && (t.folded > j.head || t.folded < j.base) {
		why = "it is of another time than the journal"
	}
	if why != "" {
		if !j.fresh {
			j.log.Warn("there is no checkpoint to start from: older cursors are gone", "dir", j.dir, "reason", why)
			j.newLife()
			if err = j.saveState(); err != nil {
				return nil, openError(op, j.db.path, err)
			}
		}
		t.folded = j.head
		clear(t.roots)
		if err = t.in(func(tx *sql.Tx) error {
			if _, err := tx.Exec("DELETE FROM dirs; DELETE FROM roots"); err != nil {
				return err
			}
			return t.saveFolded(tx, t.folded)
		}); err != nil {
			return nil, openError(op, path, err)
		}
	}
	if t.folded < j.saved {
		t.lag.Store(1)
	}
	return t, t.prepare()
}

func (t *trees) prepare() (err error) {
	for _, s := range []struct {
		stmt **sql.Stmt
		db   *sql.DB
		text string
	}{
		{&t.q.chunks, t.db.read, `SELECT first, body FROM dirs WHERE root = ?1 AND dir = ?2 AND first >=
			coalesce((SELECT max(first) FROM dirs WHERE root = ?1 AND dir = ?2 AND first <= ?3), x'') ORDER BY first LIMIT 2`},
		{&t.q.dir, t.db.read, "SELECT first, body FROM dirs WHERE root = ? AND dir = ? ORDER BY first"},
		{&t.q.put, t.db.write, "INSERT OR REPLACE INTO dirs VALUES (?, ?, ?, ?)"},
		{&t.q.del, t.db.write, "DELETE FROM dirs WHERE root = ? AND dir = ? AND first = ?"},
		{&t.q.delDir, t.db.write, "DELETE FROM dirs WHERE root = ? AND dir = ?"},
	} {
		if *s.stmt, err = s.db.Prepare(s.text); err != nil {
			return openError("journal.Open", t.db.path, err)
		}
	}
	return nil
}

// renew sets a broken database aside and goes on with a new one. The checkpoints of all roots are lost. The caller holds work.
func (t *trees) renew(why error) error {
	path := t.db.path
	t.mu.Lock()
	t.file, t.gone = nil, nil
	t.mu.Unlock()
	t.db.close()
	if err := t.j.setAside("tree.db", why); err != nil {
		return err
	}
	db, err := openDatabase(path, t.j.o.vfs, treeAppID, treeSchema)
	if err != nil {
		return err
	}
	t.db, t.broken = db, nil
	file, err := os.Stat(path)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.file = file
	t.mu.Unlock()
	if err := t.prepare(); err != nil {
		return err
	}
	known := t.forgetAll(why)
	return t.in(func(tx *sql.Tx) error {
		for _, root := range known {
			if err := t.saveDropped(tx, root); err != nil {
				return err
			}
		}
		t.mu.Lock()
		folded := t.folded
		t.mu.Unlock()
		return t.saveFolded(tx, folded)
	})
}

// lost are the roots that are known and have no checkpoint.
func (t *trees) lost() (roots []notify.FileID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for root, r := range t.roots {
		if !r.valid {
			roots = append(roots, root)
		}
	}
	return roots
}

// forgetAll gives up the checkpoints of all roots in memory, and lists the roots. The caller holds work.
func (t *trees) forgetAll(why error) (known []notify.FileID) {
	t.window = nil
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = why
	for root, r := range t.roots {
		t.roots[root] = r.dropped()
		known = append(known, root)
	}
	return known
}

func (t *trees) loadRoots() error {
	rows, err := t.db.write.Query("SELECT root, since, valid, digest, meta, sum FROM roots")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var root, since, digest, sum int64
		var r treeRoot
		if err := scan(rows, &root, &since, &r.valid, &digest, &r.meta, &sum); err != nil {
			return err
		}
		r.since, r.digest = notify.BatchNumber(since), uint32(digest)
		if sum != r.sum(notify.FileID(root)) {
			r = treeRoot{} // known, but not to be believed
		}
		t.roots[notify.FileID(root)] = &r
	}
	return rows.Err()
}

func (r *treeRoot) sum(root notify.FileID) int64 {
	valid := int64(0)
	if r.valid {
		valid = 1
	}
	return sumOf(int64(root), int64(r.since), valid, int64(r.digest), int64(chunkSum(root, 0, "", r.meta)))
}

func (t *trees) saveRoot(tx *sql.Tx, root notify.FileID, r *treeRoot) error {
	meta := r.meta
	if meta == nil {
		meta = []byte{}
	}
	_, err := tx.Exec("INSERT OR REPLACE INTO roots VALUES (?, ?, ?, ?, ?, ?)", int64(root), int64(r.since), r.valid, int64(r.digest), meta, r.sum(root))
	return err
}

// saveDropped notes that a root has no tree. It is not for who holds mu.
func (t *trees) saveDropped(tx *sql.Tx, root notify.FileID) error {
	t.mu.Lock()
	r := t.roots[root].dropped()
	t.mu.Unlock()
	return t.saveRoot(tx, root, r)
}

func (t *trees) saveFolded(tx *sql.Tx, n notify.BatchNumber) error {
	_, err := tx.Exec("INSERT OR REPLACE INTO state VALUES (1, ?, ?, ?)", t.j.life, int64(n), sumOf(t.j.life, int64(n)))
	return err
}

// in runs f in one transaction.
func (t *trees) in(f func(tx *sql.Tx) error) error {
	tx, err := t.db.write.Begin()
	if err != nil {
		return err
	}
	t.wal.Store(true)
	err = f(tx)
	return errors.Join(err, end(tx, err))
}

// much says whether so many notifications are to be gathered.
func (t *trees) much(notes int64) bool { return notes >= int64(min(gatherLag, t.j.o.foldLag)) }

// appended counts, and says whether it is time to gather.
func (t *trees) appended(notes int) bool {
	n := t.lag.Add(int64(notes))
	return t.much(n) && !t.much(n-int64(notes))
}

// drop is for a root whose tree is not on disk any more: what is gathered says nothing of it from now on, and left is what is known of it. It says
// whether the root was known before. The caller holds work, and folds before the root has a tree again.
func (t *trees) drop(root notify.FileID, left *treeRoot) (known bool) {
	if t.window != nil {
		delete(t.window.roots, root)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, known = t.roots[root]
	t.roots[root] = left
	return known
}

// due says whether it is time to gather, and whether there is anything to fold at all.
func (t *trees) due() (now, some bool) {
	n := t.lag.Load()
	return t.much(n), n > 0
}

// mayDrop is the newest batch that the checkpoint does not need any more.
func (t *trees) mayDrop() notify.BatchNumber {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.roots {
		if r.valid {
			return t.folded
		}
	}
	return math.MaxInt64
}

func (t *trees) state() (folded notify.BatchNumber, n int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.roots {
		if r.valid {
			n++
		}
	}
	return t.folded, n, cmp.Or(t.gone, t.err)
}

// watchFile finds out that somebody took the database away, or put it back.
func (t *trees) watchFile() {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.gone
	if t.gone = nil; t.file != nil && misplaced(t.db.path, t.file) {
		t.gone = errReplaced
	}
	switch {
	case was == nil && t.gone != nil:
		t.j.log.Error(checkpointLost, "dir", t.j.dir, "reason", t.gone)
	case was != nil && t.gone == nil:
		t.j.log.Info("the checkpoint is back where it was", "dir", t.j.dir)
	}
}

// newWindow makes an empty window over the roots that have a checkpoint.
func (t *trees) newWindow() *window {
	w := &window{roots: make(map[notify.FileID]*rootChange)}
	t.mu.Lock()
	defer t.mu.Unlock()
	for root, r := range t.roots {
		if r.valid {
			w.roots[root] = &rootChange{since: r.since, dirs: make(map[notify.FileID]*dirChange),
				subdirs: func(dir notify.FileID, each func(string, notify.FileID)) error { return t.subdirs(root, dir, each) }}
		}
	}
	return w
}

// subdirs lists the directories in a stored directory.
func (t *trees) subdirs(root, dir notify.FileID, each func(name string, id notify.FileID)) error {
	rows, err := t.q.dir.Query(int64(root), int64(dir))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var first, body sql.RawBytes
		if err := scan(rows, &first, &body); err != nil {
			return err
		}
		entries, err := decodeChunk(nil, root, dir, string(first), body)
		if err != nil {
			return treeDamage(root, err)
		}
		for i := range entries {
			if entries[i].attr.IsDir() {
				each(entries[i].name, entries[i].id)
			}
		}
	}
	return rows.Err()
}

func treeDamage(root notify.FileID, err error) error {
	return &notify.Error{Op: "journal.LoadTree", Kind: notify.Corrupt, Err: err, Msg: fmt.Sprintf("the checkpoint of root %d is damaged", root)}
}

// full says whether a window is to be folded, whatever comes.
func (t *trees) full(w *window) bool { return w.notes >= t.j.o.foldLag || w.size() >= windowBytes }

// read puts batches behind pos into w, up to limit, until it is full if it may be that only. It gives how far it came. A hole or
// a damaged batch is Corrupt: what was told is not known then. After any error but one of w itself, w is good up to there.
func (t *trees) read(ctx context.Context, w *window, pos, limit notify.BatchNumber, bounded bool) (notify.BatchNumber, error) {
	for pos < limit && !(bounded && t.full(w)) {
		if err := context.Cause(ctx); err != nil {
			return pos, err
		}
		batches, ok := t.j.Ring(pos + 1)
		if !ok {
			var err error
			if batches, err = t.j.page(pos+1, 256); err != nil {
				return pos, readError("journal.fold", err)
			}
		}
		if len(batches) == 0 {
			return pos, &notify.Error{Op: "journal.fold", Kind: notify.Corrupt, Msg: fmt.Sprintf("the journal ends before batch %d", limit)}
		}
		for _, b := range batches {
			if pos >= limit || bounded && t.full(w) {
				break
			}
			if b.Root == 0 || b.Prev != pos {
				return pos, &notify.Error{Op: "journal.fold", Kind: notify.Corrupt, Msg: fmt.Sprintf("what follows batch %d is damaged or lost", pos)}
			}
			if err := w.add(b); err != nil {
				return pos, err
			}
			pos = b.Number
		}
	}
	return pos, nil
}

// fold brings the checkpoint up to the newest batch on disk; or, if not all is to be, it only gathers that for the next time, while memory
// has the batches still, unless it is enough: a directory in which much happens is stored anew once for all of it. It does nothing while a tree
// is being handed over or loaded: that may take as long as a scan, and upkeep must not wait for it. It says whether something was to be stored.
func (t *trees) fold(ctx context.Context, all bool) (stored bool) {
	if !t.work.TryLock() {
		return false
	}
	defer t.work.Unlock()
	stored, err := t.foldSaved(ctx, all)
	if err != nil && ctx.Err() == nil {
		t.j.log.Warn("the journal could not be folded into the checkpoint", "dir", t.j.dir, "err", err)
	}
	return stored
}

// foldSaved is fold for who holds work.
func (t *trees) foldSaved(ctx context.Context, all bool) (stored bool, err error) {
	t.lag.Store(0) // first: what is appended meanwhile counts
	t.j.mu.RLock()
	saved, head := t.j.saved, t.j.head
	t.j.mu.RUnlock()
	defer func() {
		if err != nil || t.window != nil || saved < head {
			t.lag.Add(1) // something waits
		}
	}()
	for {
		w, pos := t.window, t.gathered
		t.window = nil
		if w == nil {
			w = t.newWindow()
			t.mu.Lock()
			pos = t.folded
			t.mu.Unlock()
		}
		if len(w.roots) == 0 {
			return stored, nil
		}
		if pos, err = t.read(ctx, w, pos, saved, true); err == nil && w.notes > 0 && (all || t.full(w)) {
			stored = true
			if err = t.commit(w, pos); err == nil {
				w = nil
			}
		}
		if w != nil && w.notes > 0 && !w.torn && !broken(err) {
			t.window, t.gathered = w, pos
		}
		switch {
		case broken(err):
			t.invalidate(err)
			return stored, err
		case err != nil || pos >= saved:
			return stored, err
		}
	}
}

const checkpointLost = "the checkpoint is lost: the next start scans silently, and older cursors are gone then"

// invalidate gives up all checkpoints: they cannot be brought up to date any more.
func (t *trees) invalidate(why error) {
	known := t.forgetAll(why)
	err := t.in(func(tx *sql.Tx) error {
		for _, root := range known {
			if err := t.saveDropped(tx, root); err != nil {
				return err
			}
		}
		_, err := tx.Exec("DELETE FROM dirs")
		return err
	})
	t.j.log.Error(checkpointLost, "dir", t.j.dir, "reason", why, "err", err)
}

// commit applies a window to what is stored, and notes that it is as of batch to.
func (t *trees) commit(w *window, to notify.BatchNumber) error {
	after := make(map[notify.FileID]*treeRoot)
	t.mu.Lock()
	for root := range w.roots {
		r := *t.roots[root]
		after[root] = &r
	}
	t.mu.Unlock()
	err := t.in(func(tx *sql.Tx) error {
		for root, c := range w.roots {
			wr := t.writer(tx, root, after[root])
			for _, dir := range slices.Sorted(maps.Keys(c.dirs)) {
				if err := wr.change(dir, c.dirs[dir]); err != nil {
					return err
				}
			}
			if err := t.saveRoot(tx, root, after[root]); err != nil {
				return err
			}
		}
		return t.saveFolded(tx, to)
	})
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.folded = to
	maps.Copy(t.roots, after)
	return nil
}

// treeWriter changes the stored entries of one root in a transaction.
type treeWriter struct {
	t                *trees
	root             notify.FileID
	r                *treeRoot
	put, del, delDir *sql.Stmt

	// Room that is used again: entries before and after, and a chunk.
	old, new []entry
	body     []byte
}

func (t *trees) writer(tx *sql.Tx, root notify.FileID, r *treeRoot) *treeWriter {
	return &treeWriter{t: t, root: root, r: r, put: tx.Stmt(t.q.put), del: tx.Stmt(t.q.del), delDir: tx.Stmt(t.q.delDir)}
}

// change applies what has changed in one directory, chunk by chunk.
func (w *treeWriter) change(dir notify.FileID, d *dirChange) error {
	names := d.sorted()
	if d.emptied {
		if err := w.empty(dir); err != nil {
			return err
		}
		w.new, _ = d.merge(w.new[:0], nil, names)
		return w.write(dir, "", w.new)
	}
	for len(names) > 0 {
		c, err := w.chunk(dir, names[0])
		if err != nil {
			return err
		}
		n := len(names)
		if c.bounded {
			n, _ = slices.BinarySearch(names, c.until)
		}
		entries, changed := d.merge(w.new[:0], c.entries, names[:n])
		w.new, names = entries, names[n:]
		if !changed {
			continue
		}
		w.r.digest -= c.sum
		if len(entries) == 0 {
			_, err = w.del.Exec(int64(w.root), int64(dir), []byte(c.first))
		} else {
			err = w.write(dir, c.first, entries)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// stretch is the part of a directory in which a name lies: a chunk, or the room before the first one.
type stretch struct {
	first   string
	until   string  // the first name of the next chunk
	bounded bool    // there is a next chunk
	sum     uint32  // of the stored chunk; 0: there is none
	entries []entry // valid until the next one is read
}

func (w *treeWriter) chunk(dir notify.FileID, name string) (c stretch, err error) {
	rows, err := w.t.q.chunks.Query(int64(w.root), int64(dir), []byte(name))
	if err != nil {
		return c, err
	}
	defer rows.Close()
	var first, body sql.RawBytes
	for rows.Next() {
		if err := scan(rows, &first, &body); err != nil {
			return c, err
		}
		if string(first) > name {
			c.until, c.bounded = string(first), true
			break
		}
		c.first, c.sum = string(first), storedSum(body)
		if c.entries, err = decodeChunk(w.old[:0], w.root, dir, c.first, body); err != nil {
			return c, treeDamage(w.root, err)
		}
		w.old = c.entries
	}
	return c, rows.Err()
}

// empty deletes all chunks of a directory.
func (w *treeWriter) empty(dir notify.FileID) error {
	rows, err := w.t.q.dir.Query(int64(w.root), int64(dir))
	if err != nil {
		return err
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var first, body sql.RawBytes
		if err := scan(rows, &first, &body); err != nil {
			return err
		}
		w.r.digest -= storedSum(body)
	}
	if err := rows.Err(); err != nil || n == 0 {
		return err
	}
	_, err = w.delDir.Exec(int64(w.root), int64(dir))
	return err
}

// write stores entries, sorted by name, in chunks, the first one under first.
func (w *treeWriter) write(dir notify.FileID, first string, entries []entry) error {
	for len(entries) > 0 {
		var n int
		w.body, n = encodeChunk(w.body, w.root, dir, first, entries)
		if _, err := w.put.Exec(int64(w.root), int64(dir), []byte(first), w.body); err != nil {
			return err
		}
		w.r.digest += storedSum(w.body)
		if entries = entries[n:]; len(entries) > 0 {
			first = entries[0].name
		}
	}
	return nil
}

// LoadTree gives every entry of a root as it was last told: the root itself first, with directory 0 and an empty name, if it was handed over,
// then the entries of each directory, parents before what is below them. meta is what was saved with the tree, at the batch
// up to which the journal is contained in it.
//
// Errors: NotFound, there never was a tree of this root, or it was forgotten; Corrupt, it is damaged, or the journal behind it is. In both cases
// the caller scans silently and calls ResetTree. What was given before an error counts for nothing. An error of each ends it and is returned.
//
// It holds the checkpoint of the root in memory meanwhile, about 50 bytes for an entry.
func (j *Journal) LoadTree(ctx context.Context, root notify.FileID, each func(dir notify.FileID, name string, id notify.FileID, attr *notify.Attr) error) (meta []byte, at notify.BatchNumber, err error) {
	t := j.trees
	t.work.Lock()
	defer t.work.Unlock()
	if _, err := t.foldSaved(ctx, true); err != nil && ctx.Err() != nil {
		return nil, 0, err
	}
	t.mu.Lock()
	r, why, folded := t.roots[root], t.err, t.folded
	t.mu.Unlock()
	switch {
	case r == nil || !r.valid && why == nil:
		return nil, 0, &notify.Error{Op: "journal.LoadTree", Kind: notify.NotFound, Msg: fmt.Sprintf("there is no checkpoint of root %d", root)}
	case !r.valid:
		return nil, 0, treeDamage(root, why)
	}
	// What could not be folded, as the disk does not take it, is laid over what is stored.
	w := t.newWindow()
	for other := range w.roots {
		if other != root {
			delete(w.roots, other)
		}
	}
	if at, err = t.read(ctx, w, folded, j.Bounds().Head, false); err == nil {
		err = t.load(ctx, root, r, w.roots[root], each)
	}
	if err != nil {
		if broken(err) && notify.KindOf(err) != notify.Corrupt {
			t.broken = err
			err = treeDamage(root, err)
		}
		return nil, 0, err
	}
	return slices.Clone(r.meta), at, nil
}

// load gives the stored entries of a root with a change laid over them.
func (t *trees) load(ctx context.Context, root notify.FileID, r *treeRoot, c *rootChange, each func(notify.FileID, string, notify.FileID, *notify.Attr) error) error {
	type chunk struct {
		first string
		body  []byte
	}
	rows, err := t.db.read.Query("SELECT dir, first, body FROM dirs WHERE root = ? ORDER BY dir, first", int64(root))
	if err != nil {
		return err
	}
	defer rows.Close()
	dirs := make(map[notify.FileID][]chunk)
	var digest uint32
	for rows.Next() {
		var dir int64
		var first, body sql.RawBytes
		if err := scan(rows, &dir, &first, &body); err != nil {
			return err
		}
		digest += storedSum(body)
		dirs[notify.FileID(dir)] = append(dirs[notify.FileID(dir)], chunk{string(first), bytes.Clone(body)})
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if digest != r.digest {
		return treeDamage(root, errors.New("entries are missing"))
	}
	var entries, merged []entry
	for todo := []notify.FileID{0, root}; len(todo) > 0; {
		dir := todo[0]
		todo = todo[1:]
		entries = entries[:0]
		for _, ch := range dirs[dir] {
			before := len(entries)
			if entries, err = decodeChunk(entries, root, dir, ch.first, ch.body); err != nil {
				return treeDamage(root, err)
			}
			if before > 0 && entries[before].name <= entries[before-1].name {
				return treeDamage(root, errors.New("entries are out of order"))
			}
		}
		delete(dirs, dir)
		if d := c.dirs[dir]; d != nil {
			if d.emptied {
				entries = entries[:0]
			}
			merged, _ = d.merge(merged[:0], entries, d.sorted())
			entries, merged = merged, entries
			delete(c.dirs, dir)
		}
		for i := range entries {
			e := &entries[i]
			if err := each(dir, e.name, e.id, &e.attr); err != nil {
				return err
			}
			if e.attr.IsDir() && dir != 0 {
				todo = append(todo, e.id)
			}
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
	for dir, chunks := range dirs { // a damaged key makes a chunk one of another directory
		for _, ch := range chunks {
			if _, err := decodeChunk(nil, root, dir, ch.first, ch.body); err != nil {
				return treeDamage(root, err)
			}
		}
		if d := c.dirs[dir]; d != nil && d.emptied { // it has gone since
			delete(dirs, dir)
		}
	}
	if len(dirs) > 0 {
		t.j.log.Warn("the checkpoint has directories that nothing leads to", "dir", t.j.dir, "root", uint64(root), "directories", len(dirs))
	}
	return nil
}

// ResetTree begins a new life for a root: its tree is what walk hands over, as of now. If the journal knew the root before, nobody
// can be told what has changed since: all older cursors are gone. It returns the newest batch that the tree contains. Batches of this root may
// be appended when it has returned, not before: then the checkpoint is on disk.
//
// instead are the roots that had its name before. Who follows a name has their entries, and nobody can tell how those became the ones that are
// there now: all older cursors are gone, and the trees of those roots are dropped.
//
// walk calls add for every entry, in any order of directories, but with the entries of one directory one after the other: Invalid otherwise.
// The root itself may be handed over with directory 0 and an empty name. Names and attributes are not kept by add. meta is given back by LoadTree.
// Errors of walk: then nothing has changed, and the number is 0. Unavailable or Corrupt if the disk does not take it: the older cursors are gone all the
// same, up to the number, batches of this root may follow, and the next start begins anew.
func (j *Journal) ResetTree(ctx context.Context, root notify.FileID, meta []byte, walk func(add func(dir notify.FileID, name string, id notify.FileID, attr *notify.Attr) error) error, instead ...notify.FileID) (notify.BatchNumber, error) {
	const op = "journal.ResetTree"
	if root == 0 || root > maxFileID {
		return 0, &notify.Error{Op: op, Kind: notify.Invalid, Msg: fmt.Sprintf("%d is no file ID of a root", uint64(root))}
	}
	t := j.trees
	t.work.Lock()
	defer t.work.Unlock()
	// The entries first. Until they belong to a valid root, they count for nothing.
	r := &treeRoot{meta: slices.Clone(meta)}
	walking := false
	var walked error // of walk, and of nobody else
	store := func(tx *sql.Tx) error {
		for _, gone := range instead {
			if _, err := tx.Exec("DELETE FROM dirs WHERE root = ?", int64(gone)); err != nil {
				return err
			}
			if err := t.saveRoot(tx, gone, &treeRoot{}); err != nil { // the name is in meta
				return err
			}
		}
		if _, err := tx.Exec("DELETE FROM dirs WHERE root = ?", int64(root)); err != nil {
			return err
		}
		if err := t.saveRoot(tx, root, r.dropped()); err != nil {
			return err
		}
		walking = true
		w := t.writer(tx, root, r)
		var dir notify.FileID
		var entries []entry
		seen := make(map[notify.FileID]struct{})
		var stored error
		flush := func() error {
			slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
			for i := range entries[min(1, len(entries)):] {
				if entries[i].name == entries[i+1].name {
					return &notify.Error{Op: op, Kind: notify.Invalid, Msg: fmt.Sprintf("directory %d has the name %q twice", dir, entries[i].name)}
				}
			}
			err := w.write(dir, "", entries)
			entries = entries[:0]
			stored = cmp.Or(stored, err)
			return err
		}
		err := walk(func(d notify.FileID, name string, id notify.FileID, attr *notify.Attr) error {
			if d != dir || len(seen) == 0 {
				if err := flush(); err != nil {
					return err
				}
				if _, twice := seen[d]; twice {
					return &notify.Error{Op: op, Kind: notify.Invalid, Msg: fmt.Sprintf("the entries of directory %d were not handed over together", d)}
				}
				seen[d] = struct{}{}
				dir = d
				if err := context.Cause(ctx); err != nil {
					return err
				}
			}
			entries = append(entries, entry{name, id, *attr})
			return nil
		})
		err = cmp.Or(err, flush())
		if stored == nil {
			walked = err
		}
		return err
	}
	err := t.broken
	if err == nil {
		err = t.in(store)
	}
	if broken(err) && !walking { // a database that cannot even be cleared gives way to a new one
		if err = t.renew(err); err == nil {
			err = t.in(store)
		}
	}
	if err == nil {
		known := t.drop(root, r.dropped()) || len(instead) > 0
		for _, gone := range instead {
			t.drop(gone, &treeRoot{})
		}
		if _, err = t.foldSaved(ctx, true); err == nil {
			err = t.begin(ctx, root, r, known)
		}
	}
	switch {
	case err == nil:
		return r.since, nil
	case walked != nil, ctx.Err() != nil, errors.Is(err, notify.Closed):
		return 0, err
	}
	return t.failed(op, err)
}

// failed is how ResetTree ends if the disk does not take the tree. Its caller goes on from a tree that nobody was told
// of, so the older cursors are gone all the same, in memory at once, on disk before the next batch is.
func (t *trees) failed(op string, err error) (notify.BatchNumber, error) {
	t.forgetAll(err)
	j := t.j
	j.appending.Lock()
	defer j.appending.Unlock()
	number := j.newLife()
	if sqliteCode(err) == 0 && notify.KindOf(err) != notify.Internal {
		return number, err
	}
	return number, openError(op, t.db.path, err)
}

// begin makes a tree that is stored the valid one of its root. Nothing is appended meanwhile.
func (t *trees) begin(ctx context.Context, root notify.FileID, r *treeRoot, known bool) error {
	j := t.j
	j.appending.Lock()
	defer j.appending.Unlock()
	j.mu.RLock()
	_, told := j.last[root]
	r.valid = true
	isClosed, down := j.closed, j.downErr
	j.mu.RUnlock()
	anew := known || told || j.short // there may be cursors of what this root was before
	switch {
	case isClosed:
		return closed("journal.ResetTree")
	case down != nil:
		return &notify.Error{Op: "journal.ResetTree", Kind: notify.Unavailable, Err: down, Retry: time.Second, Msg: "the journal is down"}
	}
	if anew {
		if _, err := t.foldSaved(ctx, true); err != nil { // what the other trees need is out of reach then
			return err
		}
		j.newLife()
		j.short = false
		if err := j.saveState(); err != nil {
			j.fail(err)
			return err
		}
	}
	r.since = j.Bounds().Head
	// The other trees, if there are any, are up to date with an older batch, or with all that there was.
	folded := r.since
	if others := t.mayDrop() != math.MaxInt64; others && !anew {
		t.mu.Lock()
		folded = t.folded
		t.mu.Unlock()
	}
	err := t.in(func(tx *sql.Tx) error {
		for _, other := range t.lost() { // on disk they may be valid still, as of another batch
			if err := t.saveDropped(tx, other); err != nil {
				return err
			}
		}
		if err := t.saveRoot(tx, root, r); err != nil {
			return err
		}
		return t.saveFolded(tx, folded)
	})
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.roots[root], t.folded, t.err = r, folded, nil
	return nil
}

// AmendTree has amend look at every entry of a root as LoadTree would give it, and keeps it as amend has changed it if that is true, together with
// what LoadTree will give back as meta: all of it or, after an error, nothing. What amend is asked for, in what order, and how often is not defined.
//
// Errors: NotFound, there is no tree of this root; Unavailable, the journal is down, or what was appended is not in the checkpoint yet;
// Corrupt, it is damaged.
func (j *Journal) AmendTree(ctx context.Context, root notify.FileID, meta []byte, amend func(id notify.FileID, attr *notify.Attr) bool) error {
	const op = "journal.AmendTree"
	t := j.trees
	t.work.Lock()
	defer t.work.Unlock()
	head := j.Bounds().Head
	if _, err := t.foldSaved(ctx, true); err != nil && ctx.Err() != nil {
		return err
	}
	t.mu.Lock()
	old, folded := t.roots[root], t.folded
	t.mu.Unlock()
	switch {
	case old == nil || !old.valid:
		return &notify.Error{Op: op, Kind: notify.NotFound, Msg: fmt.Sprintf("there is no checkpoint of root %d", root)}
	case folded < head:
		return &notify.Error{Op: op, Kind: notify.Unavailable, Retry: time.Second, Msg: "the checkpoint is behind the journal, which is down"}
	}
	r := *old
	r.meta = slices.Clone(meta)
	err := t.in(func(tx *sql.Tx) error {
		if err := t.amend(ctx, t.writer(tx, root, &r), amend); err != nil {
			return err
		}
		return t.saveRoot(tx, root, &r)
	})
	switch {
	case err == nil:
		t.mu.Lock()
		t.roots[root] = &r
		t.mu.Unlock()
		return nil
	case ctx.Err() != nil, notify.KindOf(err) == notify.Corrupt:
		return err
	}
	return openError(op, t.db.path, err)
}

// amend writes the chunks of a root anew in which amend has changed an entry.
func (t *trees) amend(ctx context.Context, w *treeWriter, amend func(id notify.FileID, attr *notify.Attr) bool) error {
	rows, err := t.db.read.QueryContext(ctx, "SELECT dir, first, body FROM dirs WHERE root = ?", int64(w.root))
	if err != nil {
		return err
	}
	defer rows.Close()
	var entries []entry
	for rows.Next() {
		var dir int64
		var first, body sql.RawBytes
		if err := scan(rows, &dir, &first, &body); err != nil {
			return err
		}
		if entries, err = decodeChunk(entries[:0], w.root, notify.FileID(dir), string(first), body); err != nil {
			return treeDamage(w.root, err)
		}
		changed := false
		for i := range entries {
			changed = amend(entries[i].id, &entries[i].attr) || changed
		}
		if !changed {
			continue
		}
		w.r.digest -= storedSum(body)
		if err := w.write(notify.FileID(dir), string(first), entries); err != nil {
			return err
		}
	}
	return rows.Err()
}

// ForgetTree drops the tree of a root that is no longer served. Should the root come back, it begins a new life.
func (j *Journal) ForgetTree(root notify.FileID) error {
	t := j.trees
	t.work.Lock()
	defer t.work.Unlock()
	t.mu.Lock()
	r := t.roots[root]
	t.mu.Unlock()
	if r == nil {
		return nil
	}
	err := t.in(func(tx *sql.Tx) error {
		if _, err := tx.Exec("DELETE FROM dirs WHERE root = ?", int64(root)); err != nil {
			return err
		}
		return t.saveRoot(tx, root, r.dropped())
	})
	if err != nil {
		return openError("journal.ForgetTree", t.db.path, err)
	}
	t.drop(root, r.dropped())
	return nil
}

// Trees lists the roots that have a tree, by ID.
func (j *Journal) Trees() []notify.FileID {
	t := j.trees
	t.mu.Lock()
	defer t.mu.Unlock()
	var roots []notify.FileID
	for root, r := range t.roots {
		if r.valid {
			roots = append(roots, root)
		}
	}
	slices.Sort(roots)
	return roots
}

// TreeNotes gives what ResetTree was given to keep with each tree.
func (j *Journal) TreeNotes() map[notify.FileID][]byte {
	return j.trees.notes(func(r *treeRoot) bool { return r.valid })
}

// RootNotes gives what ResetTree was given last to keep with each root, be its tree still there or not; nothing of one that another has replaced.
func (j *Journal) RootNotes() map[notify.FileID][]byte {
	return j.trees.notes(func(r *treeRoot) bool { return len(r.meta) > 0 })
}

func (t *trees) notes(of func(*treeRoot) bool) map[notify.FileID][]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	notes := make(map[notify.FileID][]byte)
	for root, r := range t.roots {
		if of(r) {
			notes[root] = slices.Clone(r.meta)
		}
	}
	return notes
}

// moveWAL moves the WAL into the database if a fold or a reset has filled it.
func (t *trees) moveWAL() {
	if !t.wal.Load() || !t.work.TryLock() {
		return
	}
	defer t.work.Unlock()
	if info, err := os.Stat(t.db.path + "-wal"); err != nil || info.Size() <= walBytes {
		return
	}
	t.wal.Store(false)
	if _, _, err := t.db.checkpoint(false); err != nil {
		t.j.log.Warn("the checkpoint's WAL could not be moved into the database: tried again later", "dir", t.j.dir, "err", err)
	}
}
