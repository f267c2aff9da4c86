package journal

import (
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// SQLite syncs with fdatasync(2) where it was built to, and says of it (os_unix.c) that it is always adequate: the size of a file goes
// with it. modernc.org/sqlite is not built to. With fsync(2), an append to a WAL that overwrites blocks which are there
// makes the file system commit the time of the change too, which costs more than the data.
//
// The index of the WAL is a file that is mapped. While the file system is frozen (fsfreeze(8), as for a snapshot of the disk), who writes to it sits in a page
// fault, of which Go knows nothing: its garbage collector waits for that thread, and everything for the collector. A system call is known to
// take long. So the locks of the index, which come before whatever is written to it, are taken when the file system lets itself be written to.
//
// What follows is SQLite's own VFS with these two calls replaced.

type (
	vfsT  = sqlite3.Tsqlite3_vfs
	fileT = sqlite3.Tsqlite3_file
	unixT = sqlite3.TunixFile

	// methodsT are the methods of an open file: SQLite's own but for FxSync and FxShmLock, which are kept behind them.
	methodsT struct {
		sqlite3.Tsqlite3_io_methods
		sync, shmLock uintptr
	}
)

var (
	unixVFS     uintptr // SQLite's own
	methodsMu   sync.Mutex
	methodsOurs = map[uintptr]uintptr{} // by SQLite's own
)

// dataSync is the name of a VFS that syncs with fdatasync; "", which stands for SQLite's own, if there is none.
var dataSync = sync.OnceValue(func() string {
	const name = "datasync"
	tls := libc.NewTLS()
	defer tls.Close()
	unixVFS = sqlite3.Xsqlite3_vfs_find(tls, 0)
	cname, err := libc.CString(name)
	if unixVFS == 0 || err != nil {
		return ""
	}
	p := libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(vfsT{})))
	v := at[vfsT](p)
	*v = *at[vfsT](unixVFS)
	v.FzName, v.FpNext, v.FxOpen = cname, 0, fn(openDataSync)
	if sqlite3.Xsqlite3_vfs_register(tls, p, 0) != sqlite3.SQLITE_OK {
		return ""
	}
	return name
})

// openDataSync is xOpen of the VFS.
func openDataSync(tls *libc.TLS, _, name, file uintptr, flags int32, out uintptr) int32 {
	open := call[func(*libc.TLS, uintptr, uintptr, uintptr, int32, uintptr) int32](at[vfsT](unixVFS).FxOpen)
	rc := open(tls, unixVFS, name, file, flags, out)
	f := at[fileT](file)
	if f.FpMethods == 0 {
		return rc
	}
	methodsMu.Lock()
	defer methodsMu.Unlock()
	ours := methodsOurs[f.FpMethods]
	if ours == 0 {
		ours = libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(methodsT{})))
		m := at[methodsT](ours)
		m.Tsqlite3_io_methods = *at[sqlite3.Tsqlite3_io_methods](f.FpMethods)
		m.sync, m.FxSync = m.FxSync, fn(syncData)
		if m.shmLock = m.FxShmLock; m.shmLock != 0 {
			m.FxShmLock = fn(lockThawed)
		}
		methodsOurs[f.FpMethods] = ours
	}
	f.FpMethods = ours
	return rc
}

// syncData is xSync of a file. The first time its name is synced too, if it is new, which SQLite's own does.
func syncData(tls *libc.TLS, file uintptr, flags int32) int32 {
	f := at[unixT](file)
	if f.FctrlFlags&sqlite3.UNIXFILE_DIRSYNC != 0 {
		return call[func(*libc.TLS, uintptr, int32) int32](at[methodsT](f.FpMethod).sync)(tls, file, flags)
	}
	if libc.Xfdatasync(tls, f.Fh) != 0 {
		return sqlite3.SQLITE_IOERR_FSYNC
	}
	return sqlite3.SQLITE_OK
}

// lockThawed is xShmLock of a file. A write of no bytes writes nothing, and waits until the file system takes writes; of a file that is only read
// it fails, and nothing is written to the index then.
func lockThawed(tls *libc.TLS, file uintptr, offset, n, flags int32) int32 {
	f := at[unixT](file)
	if flags&sqlite3.SQLITE_SHM_LOCK != 0 {
		_, _ = unix.Pwrite(int(f.Fh), nil, 0)
	}
	return call[func(*libc.TLS, uintptr, int32, int32, int32) int32](at[methodsT](f.FpMethod).shmLock)(tls, file, offset, n, flags)
}

// fn is a Go function as it stands in a table of SQLite's, call the other way around; at is what is at an address of SQLite's.
func fn[T any](f T) uintptr { return *(*uintptr)(unsafe.Pointer(&struct{ f T }{f})) }

func call[T any](p uintptr) T { return *(*T)(unsafe.Pointer(&struct{ p uintptr }{p})) }

func at[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) }

// reserve makes the WAL so many bytes long, with zeros that are on disk: what is appended overwrites them, and a sync has no new blocks to write down.
// For SQLite they are behind the end of the WAL, as is whatever lies behind the newest frame. Nobody writes who does not hold writing. Where there is
// not room for many times as much, the WAL grows as it is written to.
func (d *database) reserve(size int64, writing sync.Locker) error {
	f, err := os.OpenFile(d.path+"-wal", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var room unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &room); err != nil || int64(room.Bavail)*int64(room.Bsize) < 32*size {
		return err
	}
	writing.Lock()
	err = extend(f, size)
	writing.Unlock()
	if err == nil {
		err = f.Sync()
	}
	return err
}

// extend appends zeros.
func extend(f *os.File, size int64) error {
	is, err := f.Stat()
	if err != nil {
		return err
	}
	zeros := make([]byte, 256<<10)
	for at := is.Size(); at < size; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros, at); err != nil {
			return err
		}
	}
	return nil
}
