package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// A disk sits between SQLite and the files of one directory: it can refuse operations, and it remembers them, so that
// what a power failure leaves behind can be laid out again. It is the journal's own VFS with the calls that change something replaced.
type disk struct {
	mu    sync.Mutex
	dir   string
	trace []diskOp
	keep  bool              // remember the operations
	fail  func(n int) int32 // the result of operation n; 0: it is done. nil: all are done
	count int
}

type diskOp struct {
	kind byte // 'w'rite, 't'runcate, 's'ync, 'd'elete
	file string
	off  int64 // write: where; truncate: the new size
	data []byte
}

var (
	disksMu sync.Mutex
	disks   []*disk
	faulty  = sync.OnceValue(registerFaulty)
	files   = map[uintptr]openFile{} // by SQLite's handle; guarded by disksMu
	tables  = map[uintptr]uintptr{}  // SQLite's methods to ours
	sqliteV uintptr                  // the VFS that the journal uses
)

type openFile struct {
	methods uintptr // SQLite's own
	path    string
}

// newDisk makes a disk for a directory. Options{vfs: "faulty"} goes through it.
func newDisk(t *testing.T, dir string) *disk {
	t.Helper()
	if err := faulty(); err != "" {
		t.Fatal(err)
	}
	d := &disk{dir: dir}
	disksMu.Lock()
	disks = append(disks, d)
	disksMu.Unlock()
	t.Cleanup(func() {
		disksMu.Lock()
		defer disksMu.Unlock()
		for i, other := range disks {
			if other == d {
				disks = append(disks[:i], disks[i+1:]...)
				break
			}
		}
	})
	return d
}

// set says which operations fail from now on, counted from here.
func (d *disk) set(fail func(n int) int32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail, d.count = fail, 0
}

// traced is how many operations are remembered.
func (d *disk) traced() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.trace)
}

// op is asked before each operation.
func diskSays(path string, kind byte, off int64, data []byte) int32 {
	disksMu.Lock()
	var d *disk
	for _, x := range disks {
		if strings.HasPrefix(path, x.dir+"/") {
			d = x
		}
	}
	disksMu.Unlock()
	if d == nil {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.count
	d.count++
	if d.fail != nil {
		if rc := d.fail(n); rc != 0 {
			return rc
		}
	}
	if d.keep {
		d.trace = append(d.trace, diskOp{kind, filepath.Base(path), off, bytes.Clone(data)})
	}
	return 0
}

// after lays out in a new directory what is there when the power fails before operation k. What was not synced is there
// as far as lucky says: called for each such operation, it gives how many of its bytes made it (-1: none of it happened).
func (d *disk) after(t *testing.T, k int, lucky func(op diskOp) int) string {
	t.Helper()
	content := map[string][]byte{}
	synced := map[string]int{} // operations on a file up to here are safe
	for i, op := range d.trace[:k] {
		if op.kind == 's' {
			synced[op.file] = i
		}
	}
	for i, op := range d.trace[:k] {
		n := len(op.data)
		if op.kind != 'd' && (i > synced[op.file] || synced[op.file] == 0) { // SQLite syncs the directory after a deletion
			if n = lucky(op); n < 0 {
				continue
			}
			n = min(n, len(op.data))
		}
		switch op.kind {
		case 'w':
			b := content[op.file]
			if need := int(op.off) + n - len(b); need > 0 {
				b = append(b, make([]byte, need)...)
			}
			copy(b[op.off:], op.data[:n])
			content[op.file] = b
		case 't':
			if int(op.off) <= len(content[op.file]) {
				content[op.file] = content[op.file][:op.off]
			}
		case 'd':
			delete(content, op.file)
		}
	}
	dir := memDir(t)
	for file, b := range content {
		if err := os.WriteFile(filepath.Join(dir, file), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func registerFaulty() string {
	tls := libc.NewTLS()
	defer tls.Close()
	below, err := libc.CString(dataSync())
	if err != nil {
		return err.Error()
	}
	if sqliteV = sqlite3.Xsqlite3_vfs_find(tls, below); sqliteV == 0 {
		return "there is no VFS that the journal uses"
	}
	name, err := libc.CString("faulty")
	if err != nil {
		return err.Error()
	}
	v := libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(vfsT{})))
	*at[vfsT](v) = *at[vfsT](sqliteV)
	at[vfsT](v).FzName = name
	at[vfsT](v).FpNext = 0
	at[vfsT](v).FxOpen = fn(faultyOpen)
	at[vfsT](v).FxDelete = fn(faultyDelete)
	if rc := sqlite3.Xsqlite3_vfs_register(tls, v, 0); rc != 0 {
		return "SQLite takes no other VFS"
	}
	return ""
}

func faultyOpen(tls *libc.TLS, _, name, file uintptr, flags int32, out uintptr) int32 {
	rc := call[func(*libc.TLS, uintptr, uintptr, uintptr, int32, uintptr) int32](at[vfsT](sqliteV).FxOpen)(tls, sqliteV, name, file, flags, out)
	methods := at[fileT](file).FpMethods
	if rc != 0 || methods == 0 {
		return rc
	}
	disksMu.Lock()
	defer disksMu.Unlock()
	ours := tables[methods]
	if ours == 0 {
		ours = libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(methodsT{})))
		*at[methodsT](ours) = *at[methodsT](methods)
		m := at[methodsT](ours)
		m.FxWrite, m.FxTruncate, m.FxSync, m.FxClose = fn(faultyWrite), fn(faultyTruncate), fn(faultySync), fn(faultyClose)
		tables[methods] = ours
	}
	path := ""
	if name != 0 {
		path = libc.GoString(name)
	}
	files[file] = openFile{methods, path}
	at[fileT](file).FpMethods = ours
	return rc
}

func opened(file uintptr) openFile {
	disksMu.Lock()
	defer disksMu.Unlock()
	return files[file]
}

func faultyDelete(tls *libc.TLS, _, name uintptr, syncDir int32) int32 {
	if rc := diskSays(libc.GoString(name), 'd', 0, nil); rc != 0 {
		return rc
	}
	return call[func(*libc.TLS, uintptr, uintptr, int32) int32](at[vfsT](sqliteV).FxDelete)(tls, sqliteV, name, syncDir)
}

func faultyWrite(tls *libc.TLS, file, buf uintptr, n int32, off int64) int32 {
	f := opened(file)
	if rc := diskSays(f.path, 'w', off, unsafe.Slice(at[byte](buf), n)); rc != 0 {
		return rc
	}
	return call[func(*libc.TLS, uintptr, uintptr, int32, int64) int32](at[methodsT](f.methods).FxWrite)(tls, file, buf, n, off)
}

func faultyTruncate(tls *libc.TLS, file uintptr, size int64) int32 {
	f := opened(file)
	if rc := diskSays(f.path, 't', size, nil); rc != 0 {
		return rc
	}
	return call[func(*libc.TLS, uintptr, int64) int32](at[methodsT](f.methods).FxTruncate)(tls, file, size)
}

func faultySync(tls *libc.TLS, file uintptr, flags int32) int32 {
	f := opened(file)
	if rc := diskSays(f.path, 's', 0, nil); rc != 0 {
		return rc
	}
	return call[func(*libc.TLS, uintptr, int32) int32](at[methodsT](f.methods).FxSync)(tls, file, flags)
}

func faultyClose(tls *libc.TLS, file uintptr) int32 {
	f := opened(file)
	disksMu.Lock()
	delete(files, file)
	disksMu.Unlock()
	at[fileT](file).FpMethods = f.methods
	return call[func(*libc.TLS, uintptr) int32](at[methodsT](f.methods).FxClose)(tls, file)
}
