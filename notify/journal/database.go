package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"modernc.org/sqlite"

	"fs_notify/notify"
)

// Every database of ours carries these, so that nobody else's is mistaken for one.
const (
	journalAppID = 0x66736e6a // "fsnj"
	treeAppID    = 0x66736e74 // "fsnt"
	schemaVer    = 1
)

// Result codes of SQLite, without their extensions.
const (
	sqliteReadOnly = 8
	sqliteCorrupt  = 11
	sqliteFull     = 13
	sqliteCantOpen = 14
	sqliteNotADB   = 26
)

// database is one SQLite file: one connection that writes, a few that read, one that moves the WAL
// into the file. Not more than one goroutine uses write at a time.
type database struct {
	path  string
	write *sql.DB
	read  *sql.DB
	ckpt  *sql.DB
}

// dsn is how to open a database; the settings, pragmas and parameters, are applied to each connection.
func dsn(path, vfs string, settings ...string) string {
	if runtime.GOOS == "windows" {
		path = "/" + filepath.ToSlash(path)
	}
	v := url.Values{}
	if vfs != "" {
		v.Set("vfs", vfs)
	}
	for _, s := range settings {
		if key, value, ok := strings.Cut(s, "="); ok {
			v.Set(key, value)
		} else {
			v.Add("_pragma", s)
		}
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + v.Encode()
}

// openDatabase opens or makes a database of a kind with a schema, through a VFS of SQLite; "": the one that syncs fastest. Errors: Corrupt, it cannot be read any more;
// Invalid, it is another program's or a later version's; Unavailable, the disk or the permissions.
func openDatabase(path, vfs string, appID int, schema string) (_ *database, err error) {
	const op = "journal.Open"
	// Paths are nobody else's business: SQLite's own files get the mode of this one.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, openError(op, path, err)
	}
	if err := f.Close(); err != nil {
		return nil, openError(op, path, err)
	}
	if vfs == "" {
		vfs = dataSync()
	}
	open := func(conns int, settings ...string) (*sql.DB, error) {
		db, err := sql.Open("sqlite", dsn(path, vfs, append([]string{"cell_size_check(1)", "temp_store(memory)"}, settings...)...))
		if err == nil {
			db.SetMaxOpenConns(conns)
			db.SetMaxIdleConns(conns)
		}
		return db, err
	}
	d := &database{path: path}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.write, err = open(1, "busy_timeout(2000)", "_txlock=immediate", "journal_mode(wal)", "synchronous(full)", "wal_autocheckpoint(0)", "journal_size_limit(67108864)", "cache_size(-4096)"); err != nil {
		return nil, openError(op, path, err)
	}
	is, err := identify(d.write)
	if err != nil {
		return nil, openError(op, path, err)
	}
	if is.empty() {
		tx, err := d.write.Begin()
		if err == nil {
			_, err = tx.Exec(fmt.Sprintf("%s; PRAGMA application_id = %d; PRAGMA user_version = %d", schema, appID, schemaVer))
			err = errors.Join(err, end(tx, err))
		}
		if err != nil {
			return nil, openError(op, path, err)
		}
	} else if err := is.refuse(op, path, appID); err != nil {
		return nil, err
	}
	if d.read, err = open(4, "busy_timeout(2000)", "query_only(1)", "cache_size(-1024)"); err != nil {
		return nil, openError(op, path, err)
	}
	if d.ckpt, err = open(1, "busy_timeout(100)", "wal_autocheckpoint(0)", "synchronous(full)", "cache_size(-64)"); err != nil {
		return nil, openError(op, path, err)
	}
	return d, nil
}

// identity is what a database says that it is.
type identity struct{ app, version, tables int }

func identify(db *sql.DB) (is identity, err error) {
	for query, v := range map[string]*int{"PRAGMA application_id": &is.app, "PRAGMA user_version": &is.version, "SELECT count(*) FROM sqlite_schema": &is.tables} {
		if err := db.QueryRow(query).Scan(v); err != nil {
			return is, err
		}
	}
	return is, nil
}

// empty says whether it is a database, or a file without a byte, in which nobody has made anything yet.
func (is identity) empty() bool { return is.tables == 0 && is.app == 0 }

// refuse says why a database is none of the kind appID that this program can read.
func (is identity) refuse(op, path string, appID int) error {
	switch {
	case is.app != appID:
		return &notify.Error{Op: op, Path: path, Kind: notify.Invalid, Msg: fmt.Sprintf("%s is a database of another program: give another --state-dir", path)}
	case is.version > schemaVer:
		return &notify.Error{Op: op, Path: path, Kind: notify.Invalid, Msg: fmt.Sprintf("%s has version %d and is newer than this program, which knows version %d: start a newer program, or give another --state-dir", path, is.version, schemaVer)}
	}
	return nil
}

// end commits a transaction, or takes it back if err is set.
func end(tx *sql.Tx, err error) error {
	if err != nil {
		tx.Rollback()
		return nil
	}
	return tx.Commit()
}

func (d *database) close() error {
	var errs []error
	for _, db := range []*sql.DB{d.ckpt, d.read, d.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// checkpoint moves what it can from the WAL into the database, without waiting for anyone, or if wait is set, a moment for who is reading: the WAL begins anew
// with the next append that finds all of it moved and nobody reading it. It gives the pages that were in the WAL when it began, and how many of them are moved.
func (d *database) checkpoint(wait bool) (wal, moved int, err error) {
	mode := "PASSIVE"
	if wait {
		mode = "RESTART"
	}
	var busy int
	err = d.ckpt.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &wal, &moved)
	return wal, moved, err
}

// sqliteCode is the primary result code in err; 0 if SQLite had no part in it.
func sqliteCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// scan reads the columns of a row. A column of another type than it should have is damage.
func scan(rows *sql.Rows, columns ...any) error {
	err := rows.Scan(columns...)
	if err != nil && sqliteCode(err) == 0 {
		return &notify.Error{Op: "journal", Kind: notify.Corrupt, Err: err}
	}
	return err
}

// scanRow reads a row of batches, whose number comes out right even if the rest is damaged. The body is valid until the next row.
func scanRow(rows *sql.Rows) (row, error) {
	var number, prev, root, rootPrev int64
	var body sql.RawBytes
	err := scan(rows, &number, &prev, &root, &rootPrev, &body)
	if err != nil && sqliteCode(err) == 0 {
		var skip [4]any
		if e := scan(rows, &number, &skip[0], &skip[1], &skip[2], &skip[3]); e != nil {
			return row{}, e
		}
		return row{number: notify.BatchNumber(number)}, nil // decode will refuse it
	}
	return row{notify.BatchNumber(number), notify.BatchNumber(prev), notify.BatchNumber(rootPrev), notify.FileID(root), body}, err
}

// broken says whether err means that the file is damaged.
func broken(err error) bool {
	c := sqliteCode(err)
	return c == sqliteCorrupt || c == sqliteNotADB || errors.Is(err, notify.Corrupt)
}

// openError gives err a Kind and says what to do.
func openError(op, path string, err error) error {
	e := &notify.Error{Op: op, Path: path, Kind: notify.Unavailable, Err: err}
	switch code := sqliteCode(err); {
	case broken(err):
		e.Kind = notify.Corrupt
	case code == sqliteFull || isFull(err):
		e.Msg = "the disk is full: make room, or give another --state-dir"
	case code == sqliteReadOnly || errors.Is(err, os.ErrPermission) || isReadOnly(err):
		e.Msg = "the state directory is not writable: change its permissions, or give another --state-dir"
	default:
		e.Msg = "the state directory cannot be used: mend it, or give another --state-dir"
	}
	return e
}
