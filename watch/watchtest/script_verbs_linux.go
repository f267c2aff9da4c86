package watchtest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// verbs are what bash and the usual tools cannot do.
var verbs = map[string]func(args []string) error{
	"exchange": rename2(unix.RENAME_EXCHANGE), // A B: they change places
	"whiteout": rename2(unix.RENAME_WHITEOUT), // A B: rename that leaves a whiteout behind

	// FILE TEXT: in place, by way of memory
	"mmapwrite": func(a []string) error {
		fd, err := unix.Open(a[0], unix.O_RDWR, 0)
		if err != nil {
			return err
		}
		m, err := unix.Mmap(fd, 0, len(a[1]), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		copy(m, a[1])
		return errors.Join(unix.Msync(m, unix.MS_SYNC), unix.Munmap(m), unix.Close(fd))
	},
	// FILE TEXT: in place, by io_submit(2)
	"aiowrite": func(a []string) error {
		fd, err := unix.Open(a[0], unix.O_RDWR, 0)
		if err != nil {
			return err
		}
		data := []byte(a[1])
		iocb := struct { // struct iocb
			data        uint64
			key, flags  uint32
			opcode      uint16
			prio        int16
			fd          uint32
			buf, nbytes uint64
			offset      int64
			_, _        uint64
		}{opcode: 1 /* IOCB_CMD_PWRITE */, fd: uint32(fd), buf: uint64(uintptr(unsafe.Pointer(&data[0]))), nbytes: uint64(len(data))}
		var ctx uintptr
		if _, _, e := unix.Syscall(unix.SYS_IO_SETUP, 1, uintptr(unsafe.Pointer(&ctx)), 0); e != 0 {
			return e
		}
		p := &iocb
		if _, _, e := unix.Syscall(unix.SYS_IO_SUBMIT, ctx, 1, uintptr(unsafe.Pointer(&p))); e != 0 {
			return e
		}
		var event [4]uint64
		if _, _, e := unix.Syscall6(unix.SYS_IO_GETEVENTS, ctx, 1, 1, uintptr(unsafe.Pointer(&event)), 0, 0); e != 0 {
			return e
		}
		if int(event[2]) != len(data) {
			return fmt.Errorf("wrote %d bytes", int64(event[2]))
		}
		unix.Syscall(unix.SYS_IO_DESTROY, ctx, 0, 0)
		return unix.Close(fd)
	},
	// DIR NAME TEXT MORE: a file without a name gets TEXT, then a name, then MORE
	"tmpfile": func(a []string) error {
		fd, err := unix.Open(a[0], unix.O_TMPFILE|unix.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		_, err1 := unix.Write(fd, []byte(a[2]))
		err2 := unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), unix.AT_FDCWD, filepath.Join(a[0], a[1]), unix.AT_SYMLINK_FOLLOW)
		_, err3 := unix.Write(fd, []byte(a[3]))
		return errors.Join(err1, err2, err3, unix.Close(fd))
	},
	// A B: copy_file_range of all of A over the start of B
	"copyrange": func(a []string) error {
		in, err := os.Open(a[0])
		if err != nil {
			return err
		}
		out, err := os.OpenFile(a[1], os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		n, err := unix.CopyFileRange(int(in.Fd()), nil, int(out.Fd()), nil, 1<<20, 0)
		if err == nil && n == 0 {
			err = errors.New("nothing was copied")
		}
		return errors.Join(err, in.Close(), out.Close())
	},
	// PATH: a socket
	"mksocket": func(a []string) error { return unix.Mknod(a[0], unix.S_IFSOCK|0o644, 0) },
	// DIR N NAME [TEXT]: N directories called NAME, each in the one before; TEXT is written to a file "end" in the last one.
	// The path may be longer than the kernel takes at once.
	"deep": func(a []string) error {
		n, err := strconv.Atoi(a[1])
		if err != nil {
			return err
		}
		fd, err := unix.Open(a[0], unix.O_PATH|unix.O_DIRECTORY, 0)
		for range n {
			if err != nil {
				return err
			}
			if err = unix.Mkdirat(fd, a[2], 0o755); err != nil {
				return err
			}
			var next int
			next, err = unix.Openat(fd, a[2], unix.O_PATH|unix.O_DIRECTORY, 0)
			unix.Close(fd)
			fd = next
		}
		if err != nil || len(a) < 4 {
			return err
		}
		end, err := unix.Openat(fd, "end", unix.O_CREAT|unix.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		_, err = unix.Write(end, []byte(a[3]))
		return errors.Join(err, unix.Close(end), unix.Close(fd))
	},
	// FILE ATTRIB DATE [VERSION]: the attribute in which Samba keeps DOS attributes and the creation time
	"dosattrib": func(a []string) error {
		attrib, err := strconv.ParseUint(a[1], 0, 32)
		if err != nil {
			return err
		}
		date, err := time.Parse(time.RFC3339, a[2])
		if err != nil {
			return err
		}
		nt := uint64(date.Unix())*1e7 + 116444736000000000
		version := 5
		if len(a) > 3 {
			if version, err = strconv.Atoi(a[3]); err != nil {
				return err
			}
		}
		// librpc/idl/xattr.idl: a text that is empty since version 3, then the version twice, then its form
		b := []byte{0, 0}
		b = binary.LittleEndian.AppendUint16(b, uint16(version))
		b = binary.LittleEndian.AppendUint32(b, uint32(version))
		b = binary.LittleEndian.AppendUint32(b, 1|0x10) // attributes and creation time are valid
		b = binary.LittleEndian.AppendUint32(b, uint32(attrib))
		switch version {
		case 3:
			b = append(b, make([]byte, 4+8+8)...) // sizes
			b = binary.LittleEndian.AppendUint64(b, nt)
			b = binary.LittleEndian.AppendUint64(b, 0)
		case 4:
			b = binary.LittleEndian.AppendUint64(b, 0) // itime
			b = binary.LittleEndian.AppendUint64(b, nt)
		case 5:
			b = binary.LittleEndian.AppendUint64(b, nt)
		}
		return unix.Setxattr(a[0], "user.DOSATTRIB", b, 0)
	},
	// DIR NAME...: each name a new file with content; \xHH is a byte
	"bytenames": func(a []string) error {
		for _, q := range a[1:] {
			name, err := strconv.Unquote(`"` + q + `"`)
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(a[0], name), nil, 0o644); err != nil {
				return err
			}
		}
		return nil
	},
	// FILE TEXT...: each TEXT is written by a system call of its own, appended
	"writes": func(a []string) error {
		fd, err := unix.Open(a[0], unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND, 0o644)
		for _, text := range a[1:] {
			if err == nil {
				_, err = unix.Write(fd, []byte(text))
			}
		}
		return errors.Join(err, unix.Close(fd))
	},
	// FILE N: N bytes that are not zero
	"bytes": func(a []string) error {
		n, err := strconv.Atoi(a[1])
		if err != nil {
			return err
		}
		return os.WriteFile(a[0], bytes.Repeat([]byte("x"), n), 0o644)
	},
}

func rename2(flags uint) func([]string) error {
	return func(a []string) error {
		return unix.Renameat2(unix.AT_FDCWD, a[0], unix.AT_FDCWD, a[1], flags)
	}
}

// Verb runs the verb of [Verbs] under whose name this process was started, and ends the process. If there is none it returns.
// TestMain calls it first.
func Verb() {
	name := filepath.Base(os.Args[0])
	run := verbs[name]
	if run == nil {
		return
	}
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", strings.Join(os.Args, " "), r)
			os.Exit(2)
		}
	}()
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", strings.Join(os.Args, " "), err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Verbs fills a directory with commands for scripts: links to this program, which has to call [Verb].
func Verbs(dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(verbs)) {
		if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}
