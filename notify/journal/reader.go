package journal

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"

	"fs_notify/notify"
)

// Reader looks at the journal in a state directory without changing anything, beside the process that writes it or without one, where
// nothing may be written too. It holds no transaction between two pages, so the writer's files do not grow because of it. One
// goroutine uses it at a time.
type Reader struct {
	dir     string
	journal *sql.DB
	tree    *sql.DB
	still   map[string]os.FileInfo // databases that nobody had open, by their paths
}

// OpenReader opens the journal in a state directory for reading. NotFound: there is none; Invalid: it is not ours, or a later
// version's; Corrupt: it cannot be read any more; Unavailable: permissions.
func OpenReader(dir string) (_ *Reader, err error) {
	r := &Reader{dir: dir, still: make(map[string]os.FileInfo)}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	for _, f := range []struct {
		name string
		app  int
		db   **sql.DB
	}{{"journal.db", journalAppID, &r.journal}, {"tree.db", treeAppID, &r.tree}} {
		if *f.db, err = r.open(f.name, f.app); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// open opens one database. A file without a WAL holds everything, and nobody has it open: it is read as it is. Else SQLite needs the
// index of the WAL, which the process that writes has made; who finds none makes one.
func (r *Reader) open(name string, app int) (*sql.DB, error) {
	const op = "journal.OpenReader"
	path := filepath.Join(r.dir, name)
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &notify.Error{Op: op, Path: path, Kind: notify.NotFound, Err: err, Msg: fmt.Sprintf("%q is no state directory: it has no %s", r.dir, name)}
	}
	if err != nil {
		return nil, &notify.Error{Op: op, Path: path, Kind: notify.Unavailable, Err: err, Msg: "the state directory cannot be read"}
	}
	how := "mode=ro"
	_, noIndex := os.Stat(path + "-shm")
	if wal, err := os.Stat(path + "-wal"); errors.Is(noIndex, os.ErrNotExist) && (errors.Is(err, os.ErrNotExist) || err == nil && wal.Size() == 0) {
		how = "immutable=1"
		r.still[path] = info
	}
	db, err := sql.Open("sqlite", dsn(path, "", how, "busy_timeout(2000)", "query_only(1)", "cell_size_check(1)"))
	if err != nil {
		return nil, &notify.Error{Op: op, Path: path, Kind: notify.Unavailable, Err: err, Msg: path + " cannot be read"}
	}
	db.SetMaxOpenConns(2)
	is, err := identify(db)
	switch {
	case broken(err):
		err = &notify.Error{Op: op, Path: path, Kind: notify.Corrupt, Err: err, Msg: path + " is damaged, or no database"}
	case sqliteCode(err) == sqliteCantOpen && noIndex != nil:
		err = &notify.Error{Op: op, Path: path, Kind: notify.Unavailable, Err: err,
			Msg: fmt.Sprintf("%s has a -wal file but not its -shm, which cannot be made here: copy the directory to where you may write", path)}
	case err != nil:
		err = &notify.Error{Op: op, Path: path, Kind: notify.Unavailable, Err: err, Msg: path + " cannot be read"}
	case is.empty():
		err = &notify.Error{Op: op, Path: path, Kind: notify.Invalid, Msg: path + " is empty: it holds no journal"}
	default:
		err = is.refuse(op, path, app)
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// undisturbed says whether what nobody had open was left alone: else what was read may be torn.
func (r *Reader) undisturbed() error {
	for path, was := range r.still {
		is, err := os.Stat(path)
		if err == nil && is.Size() == was.Size() && is.ModTime().Equal(was.ModTime()) {
			continue
		}
		return &notify.Error{Op: "journal.Reader", Path: path, Kind: notify.Unavailable, Err: err,
			Msg: fmt.Sprintf("%s was written to while it was read, by a process that has just started: read it again", path)}
	}
	return nil
}

// Close ends the Reader.
func (r *Reader) Close() error {
	var errs []error
	for _, db := range []*sql.DB{r.journal, r.tree} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// state gives what the journal says of itself; of the bounds, all but the head.
func (r *Reader) state() (life int64, bounds notify.Bounds, err error) {
	var base, whole, upto, bytes, sum int64
	err = r.journal.QueryRow("SELECT life, base, whole, upto, bytes, sum FROM state").Scan(&life, &base, &whole, &upto, &bytes, &sum)
	if err == nil && sum != sumOf(life, base, whole, upto, bytes) {
		err = &notify.Error{Op: "journal.Reader", Path: r.dir, Kind: notify.Corrupt, Msg: "the journal's own state is damaged", Err: errCRC}
	}
	return life, notify.Bounds{Base: notify.BatchNumber(base), Whole: whole == 1}, err
}

// Batches gives the batches numbered from or higher, oldest first, as they are now and as they come while it is read. A damaged
// one comes with Root 0, without notifications, and with an error that is Corrupt; reading goes on after it. Any
// other error, and one without a batch, is the last.
func (r *Reader) Batches(ctx context.Context, from notify.BatchNumber) iter.Seq2[*notify.Batch, error] {
	return func(yield func(*notify.Batch, error) bool) {
		_, bounds, err := r.state()
		if err != nil {
			yield(nil, err)
			return
		}
		for from = max(from, bounds.Base+1); ; {
			page, err := r.page(ctx, from)
			if e := r.undisturbed(); e != nil {
				yield(nil, e)
				return
			}
			for i := range page {
				row := &page[i]
				b, bad := row.batch()
				if bad != nil {
					bad = &notify.Error{Op: "journal.Reader", Kind: notify.Corrupt, Err: bad, Msg: fmt.Sprintf("batch %d is damaged", row.number)}
				}
				if !yield(b, bad) {
					return
				}
				from = row.number + 1
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if len(page) == 0 {
				return
			}
		}
	}
}

// page reads some rows in one short transaction.
func (r *Reader) page(ctx context.Context, from notify.BatchNumber) (page []row, err error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	rows, err := r.journal.Query("SELECT number, prev, root, root_prev, body FROM batches WHERE number >= ? ORDER BY number LIMIT 100", int64(from))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		r, err := scanRow(rows)
		if err != nil {
			return page, err
		}
		r.body = bytes.Clone(r.body)
		page = append(page, r)
	}
	return page, rows.Err()
}

// Stat is what the files of a journal say at a glance.
type Stat struct {
	Bounds     notify.Bounds
	Batches    int64
	BodyBytes  int64 // of the batches
	FileBytes  int64 // of journal.db and its WAL
	TreeBytes  int64 // of tree.db and its WAL
	Folded     notify.BatchNumber
	Roots      []RootStat // by file ID
	Holder     int        // process that has the directory locked or had it last; 0: unknown
	SQLitePage int        // bytes of a page of journal.db
}

// RootStat is what is known of one root.
type RootStat struct {
	Root    notify.FileID
	Batches int64
	Newest  notify.BatchNumber // 0: no batch is kept
	Tree    bool               // there is a checkpoint
	Since   notify.BatchNumber // its tree was handed over as of this batch
	Chunks  int64              // in which its entries are stored
}

// Stat reads what can be told without decoding batches.
func (r *Reader) Stat(ctx context.Context) (*Stat, error) {
	s := &Stat{}
	_, bounds, err := r.state()
	if err != nil {
		return nil, err
	}
	base := bounds.Base
	s.Bounds = bounds
	var head sql.NullInt64
	if err := r.journal.QueryRowContext(ctx, "SELECT max(number), count(*), coalesce(sum(length(body)), 0) FROM batches WHERE number > ?", int64(base)).
		Scan(&head, &s.Batches, &s.BodyBytes); err != nil {
		return nil, err
	}
	s.Bounds.Head = max(base, notify.BatchNumber(head.Int64))
	if err := r.journal.QueryRowContext(ctx, "PRAGMA page_size").Scan(&s.SQLitePage); err != nil {
		return nil, err
	}
	roots := make(map[notify.FileID]*RootStat)
	var ids []notify.FileID
	of := func(id int64) *RootStat {
		root := notify.FileID(id)
		if roots[root] == nil {
			roots[root] = &RootStat{Root: root}
			ids = append(ids, root)
		}
		return roots[root]
	}
	err = each(ctx, r.journal, "SELECT root, number FROM batches WHERE number > ? ORDER BY number", []any{int64(base)}, func(scan func(...any) error) error {
		var root, number int64
		if err := scan(&root, &number); err != nil {
			return err
		}
		s := of(root)
		s.Batches, s.Newest = s.Batches+1, notify.BatchNumber(number)
		return nil
	})
	if err == nil {
		err = each(ctx, r.tree, "SELECT root, since, valid FROM roots", nil, func(scan func(...any) error) error {
			var root, since int64
			var valid bool
			if err := scan(&root, &since, &valid); err != nil {
				return err
			}
			s := of(root)
			s.Tree, s.Since = valid, notify.BatchNumber(since)
			return nil
		})
	}
	if err == nil {
		err = each(ctx, r.tree, "SELECT root, count(*) FROM dirs GROUP BY root", nil, func(scan func(...any) error) error {
			var root, n int64
			if err := scan(&root, &n); err != nil {
				return err
			}
			of(root).Chunks = n
			return nil
		})
	}
	if err == nil {
		err = each(ctx, r.tree, "SELECT folded FROM state", nil, func(scan func(...any) error) error {
			var n int64
			err := scan(&n)
			s.Folded = notify.BatchNumber(n)
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(ids)
	for _, id := range ids {
		s.Roots = append(s.Roots, *roots[id])
	}
	s.FileBytes, s.TreeBytes = fileBytes(filepath.Join(r.dir, "journal.db")), fileBytes(filepath.Join(r.dir, "tree.db"))
	if f, err := os.Open(filepath.Join(r.dir, "lock")); err == nil {
		text, _ := io.ReadAll(io.LimitReader(f, 100))
		fmt.Sscanf(string(text), "pid %d", &s.Holder)
		f.Close()
	}
	return s, r.undisturbed()
}

// each runs f on every row of a query.
func each(ctx context.Context, db *sql.DB, query string, args []any, f func(scan func(...any) error) error) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(func(columns ...any) error { return scan(rows, columns...) }); err != nil {
			return err
		}
	}
	return rows.Err()
}

// fileBytes is the size of a database with its WAL.
func fileBytes(path string) (n int64) {
	for _, p := range []string{path, path + "-wal"} {
		if info, err := os.Stat(p); err == nil {
			n += info.Size()
		}
	}
	return n
}

// Problem is something that Check found.
type Problem struct {
	Batch notify.BatchNumber // where; 0: in no batch
	Root  notify.FileID      // in the tree of this root; 0: in none
	Text  string             // what is wrong, and what follows from it
}

// Checked is what Check looked at.
type Checked struct {
	Batches int64
	Notes   int64
	Trees   int
	Entries int64
	Dirs    int64
}

// Check reads everything: the structure of both databases, every batch with its checksum, its predecessors and its notifications, and every
// entry of the trees. It calls found for each problem. An error means that it could not go on. What the writer drops or
// folds meanwhile is no problem.
func (r *Reader) Check(ctx context.Context, found func(Problem)) (Checked, error) {
	var c Checked
	for _, f := range []struct {
		name string
		db   *sql.DB
	}{{"journal.db", r.journal}, {"tree.db", r.tree}} {
		err := each(ctx, f.db, "PRAGMA quick_check(20)", nil, func(scan func(...any) error) error {
			var text string
			err := scan(&text)
			if err == nil && text != "ok" {
				found(Problem{Text: f.name + ": " + text})
			}
			return err
		})
		if err != nil && !broken(err) {
			return c, err
		}
		if err != nil {
			found(Problem{Text: fmt.Sprintf("%s cannot be read to its end: %v", f.name, err)})
		}
	}
	err := r.checkBatches(ctx, &c, found)
	if err == nil {
		err = r.checkTrees(ctx, &c, found)
	}
	if e := r.undisturbed(); e != nil {
		return c, e
	}
	return c, err
}

func (r *Reader) checkBatches(ctx context.Context, c *Checked, found func(Problem)) error {
	_, bounds, err := r.state()
	if err != nil {
		found(Problem{Text: fmt.Sprintf("%v: all older cursors are gone at the next start", err)})
		return nil
	}
	base := bounds.Base
	pos, last := base, make(map[notify.FileID]notify.BatchNumber)
	for b, err := range r.Batches(ctx, 0) {
		switch {
		case b == nil && broken(err):
			found(Problem{Batch: pos, Text: fmt.Sprintf("what follows this batch cannot be read: %v", err)})
			return nil
		case b == nil:
			return err
		}
		if b.Prev != pos {
			if _, now, _ := r.state(); now.Base == base || b.Prev > now.Base && pos >= now.Base {
				found(Problem{Batch: b.Number, Text: fmt.Sprintf("it follows batch %d, but the one before it is %d: who has seen no more than that one is told gone", b.Prev, pos)})
			}
		}
		pos = b.Number
		c.Batches++
		if err != nil {
			found(Problem{Batch: b.Number, Text: fmt.Sprintf("%v: who has not seen it is told gone", err)})
			continue
		}
		c.Notes += int64(len(b.Notes))
		if want := last[b.Root]; b.RootPrev != want && b.RootPrev > base && want != 0 {
			found(Problem{Batch: b.Number, Root: b.Root, Text: fmt.Sprintf("the batch of this root before it is %d, it says %d", want, b.RootPrev)})
		}
		last[b.Root] = b.Number
	}
	return nil
}

// checkTrees looks at each tree in one transaction, as a fold changes several chunks at once.
func (r *Reader) checkTrees(ctx context.Context, c *Checked, found func(Problem)) error {
	tx, err := r.tree.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	life, bounds, err := r.state()
	if err != nil {
		return nil // told already
	}
	var treeLife, folded, sum int64
	if err := tx.QueryRow("SELECT life, folded, sum FROM state").Scan(&treeLife, &folded, &sum); err != nil {
		return err
	}
	switch {
	case sum != sumOf(treeLife, folded):
		found(Problem{Text: "the state of the checkpoint is damaged: the next start scans silently, and older cursors are gone then"})
	case treeLife != life:
		found(Problem{Text: "the checkpoint belongs to another journal: the next start scans silently, and older cursors are gone then"})
	}
	type tree struct {
		treeRoot
		sum    int64
		digest uint32
		dirs   map[notify.FileID]bool // that have entries; true: an entry leads there
		bad    bool
	}
	trees := make(map[notify.FileID]*tree)
	rows, err := tx.Query("SELECT root, since, valid, digest, meta, sum FROM roots")
	if err != nil {
		return err
	}
	for rows.Next() {
		var root, since, digest int64
		t := &tree{dirs: make(map[notify.FileID]bool)}
		if err = scan(rows, &root, &since, &t.valid, &digest, &t.meta, &t.sum); err != nil {
			break
		}
		t.since, t.treeRoot.digest = notify.BatchNumber(since), uint32(digest)
		trees[notify.FileID(root)] = t
	}
	if err = errors.Join(err, rows.Err(), rows.Close()); err != nil {
		return err
	}
	lead := make(map[notify.FileID][]notify.FileID) // directories that entries of a root lead to
	rows, err = tx.Query("SELECT root, dir, first, body FROM dirs ORDER BY root, dir, first")
	if err != nil {
		return err
	}
	defer rows.Close()
	var entries []entry
	for rows.Next() {
		var root, dir int64
		var first, body sql.RawBytes
		if err := scan(rows, &root, &dir, &first, &body); err != nil {
			return err
		}
		id, at := notify.FileID(root), notify.FileID(dir)
		t := trees[id]
		if t == nil {
			found(Problem{Root: id, Text: "there are entries of a root that is not known"})
			t = &tree{dirs: make(map[notify.FileID]bool)}
			trees[id] = t
		}
		t.digest += storedSum(body)
		t.dirs[at] = false
		if entries, err = decodeChunk(entries[:0], id, at, string(first), body); err != nil {
			found(Problem{Root: id, Text: fmt.Sprintf("the entries of directory %d from %q on are damaged (%v): the next start scans silently, and older cursors are gone then", at, first, err)})
			t.bad = true
			continue
		}
		c.Entries += int64(len(entries))
		for i := range entries {
			if entries[i].attr.IsDir() {
				lead[id] = append(lead[id], entries[i].id)
			}
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for root, t := range trees {
		c.Dirs += int64(len(t.dirs))
		if !t.valid {
			continue
		}
		c.Trees++
		if t.sum != t.treeRoot.sum(root) {
			found(Problem{Root: root, Text: "what is stored of this root is damaged: the next start scans silently, and older cursors are gone then"})
		} else if t.digest != t.treeRoot.digest && !t.bad {
			found(Problem{Root: root, Text: "entries are missing: the next start scans silently, and older cursors are gone then"})
		}
		for _, dir := range lead[root] {
			if _, has := t.dirs[dir]; has {
				t.dirs[dir] = true
			}
		}
		for dir, led := range t.dirs {
			if !led && dir != 0 && dir != root && !t.bad {
				found(Problem{Root: root, Text: fmt.Sprintf("nothing leads to directory %d", dir)})
			}
		}
		if notify.BatchNumber(folded) < bounds.Base {
			found(Problem{Root: root, Text: "the checkpoint is older than the journal: the next start scans silently, and older cursors are gone then"})
		}
	}
	return nil
}
