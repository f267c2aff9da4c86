//go:build !linux

package watch

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"fs_notify/notify"
)

// Elsewhere than on Linux the disk is asked through [os.Root]: names are looked up in a directory that is open, one level at a
// time, never through a symlink. What that costs, and what is not seen:
//
//   - IDs are made of inode number and generation, which only root gets to see; on Windows, of the file index, which has one
//     in it. Birth times do not serve: setting an older modification time moves them.
//   - Extended attributes, ACLs and alternate data streams are not looked at.
//   - Mounts below a root are told apart by their device; that one came or went shows when its name is looked at next.
//   - Names longer than 255 bytes, which only Windows has (255 UTF-16 units), are not told.
//
// All of it is built and vetted for these systems, but not tested there.

// looker asks the disk.
type looker struct {
	met    []ref   // children that a listing has met
	found  []look  // what it has found
	gen    [8]byte // generation of what was asked for last
	labels map[uint64]bool
	errands
}

// dirFD is an open directory; nil is none.
type dirFD = *os.Root

var noFD dirFD

// rawFD: there is no descriptor that a source could use.
func rawFD(dirFD) int { return -1 }

func closeFD(dir dirFD) {
	if dir != nil {
		dir.Close()
	}
}

// openRoot opens a root by its path, symlinks followed: which directory it is, the caller checks.
func openRoot(path string) (dirFD, error) { return os.OpenRoot(path) }

// openBelow opens a directory below root without ever leaving it. Which directory it is, the
// caller checks: a symlink in the path may lead to another one below root.
func openBelow(root dirFD, path string) (dirFD, error) {
	if path == "" {
		path = "."
	}
	dir, err := root.OpenRoot(path)
	if err == nil || isGone(err) {
		return dir, err
	}
	for end := 0; end < len(path); end++ { // is it the directory that cannot be opened, or something else that took its name?
		if n := strings.IndexByte(path[end:], '/'); n >= 0 {
			end += n
		} else {
			end = len(path)
		}
		if info, e := root.Lstat(path[:end]); e != nil || !info.IsDir() {
			return nil, errElsewhere
		}
	}
	return nil, err
}

// stat looks at a name in a directory, or at the directory itself if name is "". mnt is the number of its device.
func (l *looker) stat(dir dirFD, name string, a *notify.Attr) (mnt, dev uint64, err error) {
	dev, gen, err := attrOf(dir, orDot(name), a)
	binary.LittleEndian.PutUint64(l.gen[:], gen)
	return dev, dev, err
}

// handleOf gives what stands for a file handle: the generation. Valid until the next call.
func (l *looker) handleOf(dir dirFD, name string, _ bool) ([]byte, error) {
	var a notify.Attr
	_, _, err := l.stat(dir, name, &a)
	return l.gen[:], err
}

// identify gives the file ID of what stands under a name, whose attributes were just asked for.
func (l *looker) identify(ms *mounts, m *mount, _ dirFD, _ string, a *notify.Attr) (notify.FileID, error) {
	return ms.makeID(m, l.gen[:], a.Ino, a.Btime), nil
}

// list calls f for each name in a directory.
func (l *looker) list(dir dirFD, f func(name string)) error {
	d, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(1024)
		for _, name := range names {
			f(name)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// question is asked of what is far in the mount table, which there is none of.
func question(string) {}

// glance has nothing to wait for where records and directories are not ordered.
func glance(dirFD) {}

const encrypted = 0 // in notify.Attr.Flags: not known here

// foldsCase is not known here.
func foldsCase(dirFD, *mount) bool { return false }

// probe fills in what a mount is: of the directory (or file) name in dir, or dir itself. An error says nothing of what it will be the next time.
func (l *looker) probe(dir dirFD, name string, m *mount) (err error) {
	var a notify.Attr
	if _, m.dev, err = l.stat(dir, name, &a); err != nil {
		return err
	}
	m.kind, m.coarse = idByFID, true
	m.polled, m.opaque = volume(join(dir.Name(), name))
	return nil
}

// xattrs are not looked at.
func (l *looker) xattrs(dirFD, string, func() *notify.Xattrs) (*notify.Xattrs, error) {
	return nil, nil
}

func (l *looker) userXattrs(dirFD, string, int) (map[string][]byte, error) { return nil, nil }

func orDot(name string) string {
	if name == "" {
		return "."
	}
	return name
}

// isGone says whether an error proves that a name is not there.
func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// isElsewhere says whether opening a directory failed because it is not where it should be.
func isElsewhere(err error) bool {
	return isGone(err) || errors.Is(err, errElsewhere) || errors.Is(err, syscall.ELOOP)
}

// disown makes a directory of this host invisible.
func (t *tree) disown(path string) {
	dir, err := openRoot(path)
	if err != nil {
		return
	}
	defer closeFD(dir)
	var a notify.Attr
	if _, dev, err := new(looker).stat(dir, "", &a); err == nil {
		t.own[[2]uint64{dev, a.Ino}] = true
	}
}

// entriesOn guesses how many entries a root may have; 0: no idea.
func entriesOn(string) int64 { return 0 }
