package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// fsnPlaces makes the paths by which fsnotify is told of directories: symbolic links in a private
// directory, each with a number that is never used again, to an open descriptor. So the watch is put on
// what is open, not on what has its name by now; and the path is of no use to anyone else, since it is gone when the
// watch is made.
type fsnPlaces struct {
	private
	seq uint64
}

// open makes the private directory in memory if possible, lest it lies in a watched tree.
func (p *fsnPlaces) open() (err error) {
	if err := srcProc(); err != nil {
		return err
	}
	p.private, err = newPrivate("watch-")
	return err
}

func (p *fsnPlaces) own() []string { return []string{p.dir} }

func (p *fsnPlaces) close() error { return p.remove() }

func (p *fsnPlaces) identify(at Place) (fsnID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(at.FD, &st); err != nil {
		return fsnID{}, fmt.Errorf("fsnotify: fstat %s: %w", at.Path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fsnID{}, fmt.Errorf("fsnotify: watch %s: %w", at.Path, unix.ENOTDIR)
	}
	return fsnID{uint64(st.Dev), st.Ino}, nil
}

func (p *fsnPlaces) name(at Place) (path string, release func(), err error) {
	p.seq++
	path = filepath.Join(p.dir, strconv.FormatUint(p.seq, 10))
	to := "/proc/self/fd/" + strconv.Itoa(at.FD)
	err = os.Symlink(to, path)
	if errors.Is(err, fs.ErrNotExist) { // a cleaner of temporary files has been here
		if err = os.Mkdir(p.dir, 0o700); err == nil {
			err = os.Symlink(to, path)
		}
	}
	if err != nil {
		return "", nil, fmt.Errorf("fsnotify: %w", err)
	}
	return path, func() { os.Remove(path) }, nil
}

// fsnBenign tells errors that fsnotify passes on but that mean nothing: it ends the watch of a directory that was
// moved and then removed, which the kernel has ended itself.
func fsnBenign(err error) bool { return errors.Is(err, unix.EINVAL) }
