//go:build linux

package watch

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// srcWithin says whether part lies in buf[:end].
func srcWithin(part, buf []byte, end int) bool {
	if len(part) == 0 {
		return true
	}
	from := uintptr(unsafe.Pointer(unsafe.SliceData(part)))
	base := uintptr(unsafe.Pointer(unsafe.SliceData(buf)))
	return from >= base && from+uintptr(len(part)) <= base+uintptr(end)
}

// srcParseAll parses what a queue holds, size records at a time, and checks what every caller relies on.
func srcParseAll(t *testing.T, q srcQueue, b *srcBuf, size int) (recs []Record) {
	buf := make([]Record, size)
	for calls := 0; !q.empty(); calls++ {
		if calls > 2*b.end+2 {
			t.Fatalf("no progress at %d of %d", b.off, b.end)
		}
		n, err := q.parse(buf)
		if n > 0 && err != nil || err != nil && !errors.Is(err, ErrOverflow) {
			t.Fatalf("%d records and %v", n, err)
		}
		for _, rec := range buf[:n] {
			if !srcWithin(rec.Name, b.buf, b.end) {
				t.Fatalf("a name outside what was read: %+v", rec)
			}
			if rec.Op == 0 || rec.Op&(OpLost|OpSelf) != 0 && len(rec.Name) != 0 {
				t.Fatalf("a record that says nothing or too much: %+v", rec)
			}
			recs = append(recs, rec)
		}
	}
	return recs
}

// srcSome makes some records of every kind.
func srcSome(f *testing.F, dir string) {
	f.Helper()
	for _, err := range []error{
		os.WriteFile(filepath.Join(dir, "a"), []byte("x"), 0o600),
		os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "a much longer name")),
		os.Mkdir(filepath.Join(dir, "d"), 0o700),
		os.Chmod(dir, 0o750),
		os.Remove(filepath.Join(dir, "d")),
	} {
		if err != nil {
			f.Fatal(err)
		}
	}
}

func FuzzInotifyRecords(f *testing.F) {
	q, err := newIno(false)
	if err != nil {
		f.Skip(err)
	}
	dir := f.TempDir()
	if _, err := unix.InotifyAddWatch(q.file, dir, q.mask); err != nil {
		f.Fatal(err)
	}
	srcSome(f, dir)
	if _, err := q.read(); err != nil {
		f.Fatal(err)
	}
	f.Add(q.buf[:q.end], uint8(1))
	overflow := make([]byte, inoHeader)
	binary.NativeEndian.PutUint32(overflow, ^uint32(0))
	binary.NativeEndian.PutUint32(overflow[4:], unix.IN_Q_OVERFLOW)
	f.Add(append(overflow, q.buf[:q.end-1]...), uint8(100))
	q.close()
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		q := &inoQueue{
			srcBuf: srcBuf{buf: b, end: len(b)},
			wds:    owners[int32]{first: map[int32]DirRef{1: 7, 2: 8}},
			refs:   map[DirRef]int32{7: 1, 8: 2},
		}
		for _, rec := range srcParseAll(t, q, &q.srcBuf, int(size)+1) {
			if rec.Dir != 7 && rec.Dir != 8 {
				t.Fatalf("nobody watches %d", rec.Dir)
			}
		}
	})
}

func FuzzFanotifyRecords(f *testing.F) {
	f.Add([]byte{}, uint8(0))
	overflow := make([]byte, fanHeader)
	binary.NativeEndian.PutUint32(overflow, fanHeader)
	overflow[4] = unix.FANOTIFY_METADATA_VERSION
	binary.NativeEndian.PutUint16(overflow[6:], fanHeader)
	binary.NativeEndian.PutUint64(overflow[8:], unix.FAN_Q_OVERFLOW)
	f.Add(overflow, uint8(3))
	if q, err := newFan(false); err == nil { // seeds of the kernel
		dir := f.TempDir()
		if err := unix.FanotifyMark(q.file, unix.FAN_MARK_ADD, q.mask|unix.FAN_EVENT_ON_CHILD, unix.AT_FDCWD, dir); err != nil {
			f.Fatal(err)
		}
		srcSome(f, dir)
		if _, err := q.read(); err != nil {
			f.Fatal(err)
		}
		f.Add(q.buf[:q.end], uint8(1))
		f.Add(q.buf[:q.end-1], uint8(100))
		q.close()
	}
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		q := &fanQueue{srcBuf: srcBuf{buf: b, end: len(b)}, dirs: newOwners[string]()}
		for rest := b; len(rest) > 0; { // all directories are known
			ev, n, ok := fanDecode(rest)
			if !ok {
				break
			}
			for _, dir := range [][]byte{ev.dir, ev.oldDir} {
				if dir != nil {
					q.dirs.add(string(dir), 7)
				}
			}
			rest = rest[n:]
		}
		recs := srcParseAll(t, q, &q.srcBuf, int(size)+1)
		for i, rec := range recs {
			if rec.Dir != 7 {
				t.Fatalf("nobody watches %d", rec.Dir)
			}
			if rec.Op&OpMovedTo != 0 && rec.Cookie != 0 && (i == 0 || recs[i-1].Op != OpMovedFrom || recs[i-1].Cookie != rec.Cookie) {
				t.Fatalf("half a rename: %+v", recs)
			}
		}
	})
}

func FuzzMountinfo(f *testing.F) {
	f.Add("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - btrfs /dev/my\\040disk rw,subvol=/a", uint64(36))
	f.Add("36 35 0:1 / / rw - btrfs /dev/sda ro\n37 1", uint64(36))
	f.Fuzz(func(t *testing.T, s string, id uint64) {
		source, _, err := fanDevice(strings.NewReader(s), id)
		if err == nil && source == "" {
			t.Fatalf("%q: a device without a name", s)
		}
	})
}

func TestMountinfo(t *testing.T) {
	const text = "35 1 0:20 / /proc rw - proc proc rw\n" +
		"36 35 98:0 /vol /mnt2 rw,noatime shared:1 - btrfs /dev/my\\040disk ro,space_cache=v2,subvol=/vol\n"
	source, ro, err := fanDevice(strings.NewReader(text), 36)
	if source != "/dev/my disk" || !ro || err != nil {
		t.Errorf("mount 36: %q, %v, %v", source, ro, err)
	}
	for _, id := range []uint64{35, 3} {
		if _, _, err := fanDevice(strings.NewReader(text), id); err == nil {
			t.Errorf("mount %d: found", id)
		}
	}
}
