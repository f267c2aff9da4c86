package journal

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fs_notify/notify"
)

// Bounds of what is kept if Options does not say.
const (
	DefaultRetainAge   = 7 * 24 * time.Hour
	DefaultRetainBytes = 1 << 30
)

const (
	// headStart is by how many milliseconds the numbers of a newly opened journal are ahead of the clock. A
	// process that appended faster than one batch a millisecond may have run that far ahead before its directory was wiped or
	// put back from a backup: its cursors lie below all new numbers.
	headStart = 100
	// rowOverhead is what a batch takes on disk besides its body, about.
	rowOverhead = 56
	// pageWeight and backWeight end a page early, by what its batches take in memory: one that a reader may hold for as long as its client is
	// slow, and one that is looked through at once.
	pageWeight = 512 << 10
	backWeight = 8 << 20
)

// Options of a Journal; the zero value serves.
type Options struct {
	RingBytes   int              // what the batches in memory may weigh together, by Notification.Weight, those that the disk has a quarter as much; 0: DefaultRingBytes
	RetainAge   time.Duration    // batches older than this are dropped; 0: DefaultRetainAge; < 0: never
	RetainBytes int64            // the oldest batches beyond this many bytes on disk are dropped; 0: DefaultRetainBytes; < 0: never
	Now         func() time.Time // the clock; nil: time.Now
	Log         *slog.Logger     // nil: slog.Default()

	vfs     string // of SQLite: for tests
	foldLag int    // notifications that may wait to be folded; 0: defaultFoldLag
}

// Journal is a journal on disk, with the newest batches in memory, and the checkpoints of the trees that
// its batches tell of.
//
// What Append has acknowledged is on disk, unless the disk failed: then the journal is down. It goes on
// in memory with the same numbers, says so in State, and saves what it holds when the disk works again, oldest first. What
// outgrows memory before that is lost, and the base moves behind it: cursors that would cross the hole are gone.
//
// One goroutine appends; Run has to be running. Everything else may be called from any goroutine.
type Journal struct {
	dir  string
	o    Options
	log  *slog.Logger
	bell *bell
	kick chan struct{} // wakes Run
	lock *stateLock
	db   *database
	life int64 // identity of the database

	fresh    bool  // it was made only now
	unlocked bool  // the lock file is gone and could not be put back; for who runs it
	worn     bool  // old batches cannot be dropped, as the file is damaged; for who runs it
	clock    clock // of retain

	insert *sql.Stmt
	query  queries

	begun    atomic.Pointer[time.Time] // since when an append is under way, by the system's clock; nil: none is
	expired  atomic.Bool               // there may be rows below the base
	headless atomic.Bool               // the lock file does not take the head

	// appending is held while a batch is numbered, saved and published, and by whatever else writes to db.
	appending sync.Mutex
	first     notify.BatchNumber // the next number is this one or higher
	file      os.FileInfo        // of the database
	replaced  bool               // it is no longer where it was
	short     bool               // the disk had less than was on record when it was opened: what it knew of roots may be lost, too
	ousted    error              // another process writes to it now: for good
	stateDue  bool               // the base has moved: the disk has to know before it gets another batch
	rows      rowEncoder

	mu       sync.RWMutex // guards what follows; taken after appending
	ring     ring
	base     notify.BatchNumber
	seen     notify.Seq // whoever has seen so much of the base has seen all of it; after a start nobody knows of less than its end
	whole    bool       // as Bounds has it
	head     notify.BatchNumber
	saved    notify.BatchNumber // newest batch on disk
	last     map[notify.FileID]notify.BatchNumber
	unsaved  []row // what the disk does not have, oldest first; all of it is in the ring too
	waiting  int64 // bytes of unsaved
	onDisk   int64 // bytes of the rows between base and saved, about
	down     time.Time
	downErr  error
	lost     int64         // batches that were never saved
	syncTime time.Duration // of the last save
	wal      int           // bytes written since the WAL was last moved
	unseen   int           // batches that were saved since the file was last seen where it was
	closed   bool

	damagedMu sync.Mutex
	damaged   map[notify.BatchNumber]struct{} // batches that were found damaged
	damages   notify.Few                      // lines in the log of them

	trees *trees
}

type queries struct{ page, back, one, of, has, before *sql.Stmt }

const journalSchema = `
CREATE TABLE batches (
	number    INTEGER PRIMARY KEY,
	prev      INTEGER NOT NULL,
	root      INTEGER NOT NULL,
	root_prev INTEGER NOT NULL,
	body      BLOB NOT NULL
) STRICT;
CREATE TABLE state (
	id    INTEGER PRIMARY KEY CHECK (id = 1),
	life  INTEGER NOT NULL,
	base  INTEGER NOT NULL,
	whole INTEGER NOT NULL,
	upto  INTEGER NOT NULL,
	bytes INTEGER NOT NULL,
	sum   INTEGER NOT NULL
) STRICT;
CREATE TABLE newest (
	id    INTEGER PRIMARY KEY CHECK (id = 1),
	roots BLOB NOT NULL
) STRICT`

// journalUpgrade makes a journal of this schema of one that was made before an append cost no more than one page.
const journalUpgrade = `
DROP INDEX IF EXISTS batches_of_root;
CREATE TABLE IF NOT EXISTS newest (
	id    INTEGER PRIMARY KEY CHECK (id = 1),
	roots BLOB NOT NULL
) STRICT`

// sumOf is the checksum of the numbers in a row that has no body.
func sumOf(values ...int64) int64 {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	return int64(crc32.Checksum(b, castagnoli))
}

// Open opens the journal in a state directory, and makes one where there is none. Nobody else can open it until it is closed or
// the process ends. A database that is damaged beyond reading is set aside, and said so: every
// older cursor is gone then. Errors: Unavailable, with what to do; Invalid, what is there is not ours.
//
// Open starts no goroutine. Call Run, and Close in the end.
func Open(dir string, o Options) (_ *Journal, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.RetainAge == 0 {
		o.RetainAge = DefaultRetainAge
	}
	if o.RetainBytes == 0 {
		o.RetainBytes = DefaultRetainBytes
	}
	if o.foldLag <= 0 {
		o.foldLag = defaultFoldLag
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, openError("journal.Open", dir, err)
	}
	if parent, err := os.Open(filepath.Dir(dir)); err == nil { // a new directory survives a power failure
		parent.Sync() // not every system can: the files themselves are SQLite's concern
		parent.Close()
	}
	j := &Journal{dir: dir, o: o, log: o.Log, bell: newBell(), kick: make(chan struct{}, 1), ring: newRing(o.RingBytes),
		last: make(map[notify.FileID]notify.BatchNumber), damaged: make(map[notify.BatchNumber]struct{})}
	lock, record, err := lockState(dir)
	if err != nil {
		return nil, err
	}
	j.lock = lock
	defer func() {
		if err != nil {
			j.release()
		}
	}()
	if now := o.Now(); numberOf(now) == 0 {
		j.log.Warn("the clock says a time that no number can have: numbers go on without it, and nothing is dropped for its age", "dir", dir, "time", now)
	}
	if record > spentNumber {
		record = 1 // that there was a journal is all that it says
	}
	err = j.load(record)
	if err != nil && broken(err) {
		if err = j.setAside("journal.db", err); err == nil {
			err = j.load(max(record, 1))
		}
	}
	if err != nil {
		return nil, err
	}
	if j.trees, err = openTrees(j); err != nil && broken(err) {
		if err = j.setAside("tree.db", err); err == nil {
			j.trees, err = openTrees(j)
		}
	}
	if err != nil {
		return nil, err
	}
	return j, nil
}

// setAside renames a database that cannot be read, for whoever wants to look at it. Only the latest one is kept.
func (j *Journal) setAside(name string, why error) error {
	if j.db != nil && name == "journal.db" {
		j.db.close()
		j.db = nil
	}
	path := filepath.Join(j.dir, name)
	aside := path + ".damaged"
	for _, suffix := range []string{"-wal", "-shm", ""} { // the database last: with it gone the rest means nothing
		err := os.Remove(aside + suffix)
		if err == nil || errors.Is(err, os.ErrNotExist) {
			err = os.Rename(path+suffix, aside+suffix)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return openError("journal.Open", path, err)
		}
	}
	j.log.Error("a damaged database was set aside: older cursors are gone", "file", path, "now", aside, "err", why)
	return nil
}

// load opens the database and learns where the journal stands.
func (j *Journal) load(record notify.BatchNumber) (err error) {
	const op = "journal.Open"
	path := filepath.Join(j.dir, "journal.db")
	if _, err := os.Stat(path + ".broken"); err == nil { // an earlier run found it damaged while writing
		if err := os.Remove(path + ".broken"); err != nil {
			return openError(op, path, err)
		}
		return &notify.Error{Op: op, Path: path, Kind: notify.Corrupt}
	}
	if j.db, err = openDatabase(path, j.o.vfs, journalAppID, journalSchema); err != nil {
		return err
	}
	if j.file, err = os.Stat(path); err != nil {
		return openError(op, path, err)
	}
	if _, err = j.db.write.Exec(journalUpgrade); err != nil {
		return openError(op, path, err)
	}
	start := firstNumber(j.o.Now()) + headStart
	var head sql.NullInt64
	if err = j.db.write.QueryRow("SELECT max(number) FROM batches").Scan(&head); err != nil {
		return openError(op, path, err)
	}
	var base, whole, upto, size, sum int64
	err = j.db.write.QueryRow("SELECT life, base, whole, upto, bytes, sum FROM state").Scan(&j.life, &base, &whole, &upto, &size, &sum)
	j.fresh = errors.Is(err, sql.ErrNoRows)
	switch {
	case err == nil && sum != sumOf(j.life, base, whole, upto, size), err != nil && !errors.Is(err, sql.ErrNoRows) && sqliteCode(err) == 0:
		j.log.Error("the journal's own state is damaged: older cursors are gone", "file", path)
		fallthrough
	case errors.Is(err, sql.ErrNoRows):
		var b [8]byte
		rand.Read(b[:])
		j.life = int64(binary.LittleEndian.Uint64(b[:]) >> 1)
		base, whole, upto, size = max(int64(start), head.Int64+1, int64(record)+1), 0, 0, 0
		j.fresh = j.fresh && !head.Valid
		if j.fresh && record == 0 { // else there was a journal before it
			whole = 1
		}
	case err != nil:
		return openError(op, path, err)
	}
	j.base, j.whole = notify.BatchNumber(base), whole == 1
	j.seen = j.base.End()
	if j.head = max(j.base, notify.BatchNumber(head.Int64)); j.head > spentNumber {
		return &notify.Error{Op: op, Path: path, Kind: notify.Corrupt, Msg: "its numbers are beyond those that a cursor can have, as the clock was wrong"}
	}
	j.saved = j.head
	j.expired.Store(true)
	if j.short = record > j.head; j.short {
		j.log.Warn("the journal ends before the number that is on record: cursors from there on are gone", "file", path, "ends", uint64(j.head), "record", uint64(record))
	}
	j.first = max(start, j.head+1, record+1)
	if upto < base || !j.loadNewest(upto) {
		upto, size = base, 0
		clear(j.last)
	}
	rest, err := j.loadRest(upto)
	if err != nil {
		return openError(op, path, err)
	}
	j.onDisk = size + rest
	if err = j.saveState(); err != nil { // also shows that the directory can be written
		return openError(op, path, err)
	}
	return j.prepare()
}

// encodeNewest makes what is stored of the newest batch of each root, as of upto.
func (j *Journal) encodeNewest(upto int64, newest map[notify.FileID]notify.BatchNumber) (b []byte) {
	for _, root := range slices.Sorted(maps.Keys(newest)) {
		b = binary.LittleEndian.AppendUint64(b, uint64(root))
		b = binary.LittleEndian.AppendUint64(b, uint64(newest[root]))
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Update(uint32(sumOf(j.life, upto)), castagnoli, b))
}

// loadNewest learns which batch was the newest of each root when the state was noted, at upto. It says whether it is known of all.
func (j *Journal) loadNewest(upto int64) bool {
	var b []byte
	if err := j.db.write.QueryRow("SELECT roots FROM newest").Scan(&b); err != nil {
		return false
	}
	newest := make(map[notify.FileID]notify.BatchNumber)
	for pairs := b; len(pairs) >= 16; pairs = pairs[16:] {
		newest[notify.FileID(binary.LittleEndian.Uint64(pairs))] = notify.BatchNumber(binary.LittleEndian.Uint64(pairs[8:]))
	}
	if !bytes.Equal(b, j.encodeNewest(upto, newest)) {
		return false
	}
	j.last = newest
	return true
}

// loadRest learns what came after upto, and gives its bytes. A row that says nothing of itself is passed over.
func (j *Journal) loadRest(upto int64) (size int64, _ error) {
	rows, err := j.db.write.Query("SELECT number, root, length(body) FROM batches WHERE number > ? ORDER BY number", upto)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var number, root, length int64
		if err := scan(rows, &number, &root, &length); err == nil {
			j.last[notify.FileID(root)] = notify.BatchNumber(number)
			size += length + rowOverhead
		} else if sqliteCode(err) != 0 {
			return 0, err
		}
	}
	return size, rows.Err()
}

func (j *Journal) prepare() (err error) {
	q := &j.query
	columns := "SELECT number, prev, root, root_prev, body FROM batches WHERE "
	for _, s := range []struct {
		stmt **sql.Stmt
		db   *sql.DB
		text string
	}{
		{&j.insert, j.db.write, "INSERT INTO batches VALUES (?, ?, ?, ?, ?) ON CONFLICT (number) DO NOTHING"},
		{&q.page, j.db.read, columns + "number >= ? AND number < ? ORDER BY number LIMIT ?"},
		{&q.back, j.db.read, columns + "number <= ? AND number > ? ORDER BY number DESC LIMIT ?"},
		{&q.one, j.db.read, columns + "number = ?"},
		{&q.of, j.db.read, "SELECT count(*), coalesce(min(number), 0), coalesce(max(CASE WHEN root = ? THEN number END), 0) FROM " +
			"(SELECT number, root FROM batches WHERE number <= ? AND number > ? ORDER BY number DESC LIMIT ?)"},
		{&q.has, j.db.read, "SELECT 1 FROM batches WHERE number = ?"},
		{&q.before, j.db.read, "SELECT max(number) FROM batches WHERE number < ? AND number > ?"},
	} {
		if *s.stmt, err = s.db.Prepare(s.text); err != nil {
			return openError("journal.Open", j.db.path, err)
		}
	}
	return nil
}

// saveState notes base, bytes and the newest batch of each root on disk. The caller holds appending or has not shared j yet.
func (j *Journal) saveState() error { return j.commit(func(*sql.Tx) error { return nil }) }

// commit runs f and notes the state in one transaction. The caller holds appending or has not shared j yet.
func (j *Journal) commit(f func(tx *sql.Tx) error) error {
	tx, err := j.db.write.Begin()
	if err != nil {
		return err
	}
	if err = f(tx); err == nil {
		err = j.noteState(tx)
	}
	if err = errors.Join(err, end(tx, err)); err == nil {
		j.stateDue = false
	}
	return err
}

func (j *Journal) noteState(tx *sql.Tx) error {
	j.mu.RLock()
	base, whole, upto, size := int64(j.base), int64(0), int64(j.saved), j.onDisk
	if j.whole {
		whole = 1
	}
	known := len(j.unsaved) == 0 // else last tells of batches that the disk does not have, and a start has to read all that it has
	newest := maps.Clone(j.last)
	j.mu.RUnlock()
	maps.DeleteFunc(newest, func(_ notify.FileID, n notify.BatchNumber) bool { return int64(n) <= base })
	_, err := tx.Exec("INSERT OR REPLACE INTO state VALUES (1, ?, ?, ?, ?, ?, ?)", j.life, base, whole, upto, size, sumOf(j.life, base, whole, upto, size))
	if err != nil {
		return err
	}
	if !known {
		_, err = tx.Exec("DELETE FROM newest")
		return err
	}
	_, err = tx.Exec("INSERT OR REPLACE INTO newest VALUES (1, ?)", j.encodeNewest(upto, newest))
	return err
}

// Append numbers the notifications of one root, makes them durable, keeps them in memory and wakes the readers. The
// slice is the journal's from then on. It does not fail because of the disk: see State. Notes that make no batch (none,
// too many, without spine) are Invalid; after Close it is Closed. ctx does not end it: a batch is never half there.
func (j *Journal) Append(_ context.Context, root notify.FileID, notes []notify.Notification) (notify.BatchNumber, error) {
	const op = "journal.Append"
	if err := checkNotes(op, root, notes); err != nil {
		return 0, err
	}
	begun := time.Now()
	j.begun.Store(&begun)
	defer j.begun.Store(nil)
	j.appending.Lock()
	defer j.appending.Unlock()
	j.mu.RLock()
	isClosed, head, rootPrev, behind := j.closed, j.head, j.last[root], len(j.unsaved) > 0
	if rootPrev <= j.base {
		rootPrev = 0
	}
	j.mu.RUnlock()
	if isClosed {
		return 0, closed(op)
	}
	number := max(nextNumber(j.o.Now(), head), j.first)
	r := j.rows.encode(number, head, rootPrev, root, notes)
	b := &notify.Batch{Root: root, Notes: notes}
	b.Assign(number, head, rootPrev)
	var err error
	var took time.Duration
	if !behind {
		start := time.Now()
		if j.stateDue {
			err = j.saveState()
		}
		if err == nil {
			err = j.save(&r)
		}
		if took = time.Since(start); took >= slowAppend {
			j.log.Warn("the journal's disk did not answer for a while, and nothing was told", "dir", j.dir, "took", took)
		}
	}

	j.mu.Lock()
	j.ring.push(b)
	j.head, j.last[root] = number, number
	if behind || err != nil {
		r.body = slices.Clone(r.body)
		j.unsaved = append(j.unsaved, r)
		j.waiting += int64(len(r.body) + rowOverhead)
	} else {
		j.saved, j.syncTime = number, took
		j.noteSaved(&r)
	}
	j.trim()
	wal := j.wal
	j.mu.Unlock()
	j.bell.ring()
	if err != nil {
		j.fail(err)
	}
	if err != nil || wal > walBytes || j.trees.appended(len(notes)) {
		j.nudge()
	}
	return number, nil
}

// trim drops from memory what has no room there. The caller holds mu.
func (j *Journal) trim() {
	for j.ring.excess(j.saved) {
		j.forget(j.ring.drop())
	}
}

// save makes one row durable. The caller holds appending.
func (j *Journal) save(r *row) error {
	if err := j.barred(); err != nil {
		return err
	}
	_, err := j.insert.Exec(int64(r.number), int64(r.prev), int64(r.root), int64(r.rootPrev), r.body)
	return err
}

// barred says why nothing is to be written to the database now. The caller holds appending.
func (j *Journal) barred() error {
	if j.ousted == nil && j.replaced {
		return errReplaced
	}
	return j.ousted
}

// noteSaved counts a row that is on disk now. The caller holds mu.
func (j *Journal) noteSaved(r *row) {
	j.onDisk += int64(len(r.body) + rowOverhead)
	j.wal += len(r.body) + 2*walPage // at most: a page as a rule, more where one is full
	j.unseen++
}

// forget is called when memory has dropped a batch. If the disk does not have it either, it is
// lost, and nobody may read across. The caller holds mu.
func (j *Journal) forget(b *notify.Batch) {
	n := b.Number
	if n <= j.saved || len(j.unsaved) == 0 || j.unsaved[0].number != n {
		return
	}
	j.dropUnsaved()
	j.base, j.seen, j.whole, j.onDisk = n, b.Last(), false, 0
	j.expired.Store(true)
}

// dropUnsaved forgets the oldest batch that the disk does not have. The caller holds mu.
func (j *Journal) dropUnsaved() {
	j.waiting -= int64(len(j.unsaved[0].body) + rowOverhead)
	j.unsaved[0] = row{}
	j.unsaved = j.unsaved[1:]
	j.lost++
}

// fail notes that the disk does not take what it is given.
func (j *Journal) fail(err error) {
	j.mu.Lock()
	first := j.down.IsZero()
	if first {
		j.down = j.o.Now()
	}
	changed := j.downErr == nil || j.downErr.Error() != err.Error()
	j.downErr = err
	j.mu.Unlock()
	if first || changed {
		j.log.Error("the journal is down: notifications are kept in memory until the disk works again", "dir", j.dir, "err", err)
	}
	j.noteHead()
	if broken(err) {
		j.condemn()
	}
}

// condemn has the next start set the file aside.
func (j *Journal) condemn() {
	if f, err := os.OpenFile(filepath.Join(j.dir, "journal.db.broken"), os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
		f.Close()
	}
}

func (j *Journal) nudge() {
	select {
	case j.kick <- struct{}{}:
	default:
	}
}

// State is what operators want to know of a journal.
type State struct {
	Bounds    notify.Bounds
	Saved     notify.BatchNumber // newest batch on disk; Head unless the journal is down
	DiskBytes int64              // of the batches on disk, about
	RingBytes int                // weight of the batches in memory
	Batches   int                // in memory
	SyncTime  time.Duration      // of the last append
	Down      time.Time          // since when the disk fails, or has not answered for slowAppend; zero: neither
	Err       error              // why
	Unsaved   int                // batches that the disk does not have
	Unwritten int64              // their bytes
	Lost      int64              // batches that memory had to drop before they were saved
	Folded    notify.BatchNumber // the checkpoint of the trees is of this batch
	Trees     int                // roots with a checkpoint
	TreeErr   error              // why the checkpoint cannot follow: the next start has to scan silently
}

// slowAppend is how long an append may take before the disk counts as down. Nothing is told meanwhile; it goes on when the disk answers.
const slowAppend = 5 * time.Second

// State tells how the journal is.
func (j *Journal) State() State {
	j.mu.RLock()
	s := State{Bounds: notify.Bounds{Base: j.base, Head: j.head, Whole: j.whole}, Saved: j.saved, DiskBytes: j.onDisk, RingBytes: j.ring.weight, Batches: len(j.ring.batches),
		SyncTime: j.syncTime, Down: j.down, Err: j.downErr, Unsaved: len(j.unsaved), Unwritten: j.waiting, Lost: j.lost}
	j.mu.RUnlock()
	if begun := j.begun.Load(); begun != nil && s.Down.IsZero() {
		if took := time.Since(*begun); took >= slowAppend {
			s.Down, s.Err = *begun, fmt.Errorf("the disk has not answered for %s", took.Round(time.Second))
		}
	}
	s.Folded, s.Trees, s.TreeErr = j.trees.state()
	return s
}

// Dir is the state directory.
func (j *Journal) Dir() string { return j.dir }

// Close saves what can be saved, folds the rest of the journal into the checkpoint and lets go of the state directory. Run has
// to have returned. Readers are woken; whatever is called from then on is Closed. It gives an error if batches could not be saved, if they
// were saved to a file that somebody has taken away, or if another process has the state directory now, which is left alone then.
func (j *Journal) Close() error {
	j.appending.Lock()
	j.mu.Lock()
	was := j.closed
	j.closed = true
	j.mu.Unlock()
	j.appending.Unlock()
	if was {
		return nil
	}
	j.bell.close()
	j.keepLock()
	j.watchFile()
	j.trees.watchFile()
	j.saveUnsaved()
	j.appending.Lock()
	j.mu.RLock()
	unsaved, why, barred := len(j.unsaved), j.downErr, j.barred()
	if j.replaced {
		unsaved += j.unseen
	}
	j.mu.RUnlock()
	j.appending.Unlock()
	var err error
	if unsaved > 0 || barred != nil {
		batches := "1 batch"
		if unsaved != 1 {
			batches = fmt.Sprintf("%d batches", unsaved)
		}
		err = &notify.Error{Op: "journal.Close", Path: j.dir, Kind: notify.Unavailable, Err: why, Msg: batches + " could not be saved"}
	} else {
		j.trees.fold(context.Background(), true)
		j.appending.Lock()
		err = j.saveState()
		j.appending.Unlock()
	}
	j.noteHead()
	return errors.Join(err, j.release())
}

// release lets go of files.
func (j *Journal) release() error {
	var errs []error
	if j.trees != nil {
		errs = append(errs, j.trees.db.close())
	}
	if j.db != nil {
		errs = append(errs, j.db.close())
	}
	return errors.Join(append(errs, j.lock.close())...)
}
