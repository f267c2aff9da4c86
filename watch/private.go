package watch

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// private is a directory for our own use. A start removes those that killed processes have left.
type private struct {
	dir  string
	lock *os.File // held while it is in use; nil: it will be left if the process is killed
}

// Every private directory has a name that begins with privatePrefix, and a file called inUse, which is locked by the process whose directory it is. It gets that name
// when it is locked: a directory without one is being made just now, or was made by an older version.
const (
	privatePrefix = "fs_notify-"
	inUse         = ".in-use"
)

// newPrivate makes one, in memory if possible, lest it lies in a watched tree. kind is a part of its name.
func newPrivate(kind string) (p private, err error) {
	for _, in := range []string{os.Getenv("XDG_RUNTIME_DIR"), "/run", "/dev/shm", os.TempDir()} {
		if in == "" {
			continue
		}
		if p.dir, err = os.MkdirTemp(in, privatePrefix+kind); err == nil {
			removeLeftovers(in)
			p.lock, _ = lockIn(p.dir)
			return p, nil
		}
	}
	return p, err
}

func (p private) remove() error {
	err := os.RemoveAll(p.dir)
	if p.lock != nil {
		p.lock.Close()
	}
	return err
}

// lockIn makes the locked file in a private directory.
func lockIn(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, inUse+".new"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err = tryLock(f); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, inUse))
	}
	if err != nil {
		f.Close()
		return nil, errors.Join(err, os.Remove(f.Name()))
	}
	return f, nil
}

// removeLeftovers removes the private directories of this user that nobody holds the lock of. There are only files in them.
func removeLeftovers(in string) {
	all, err := os.ReadDir(in)
	if err != nil {
		return
	}
	for _, e := range all {
		dir := filepath.Join(in, e.Name())
		if !strings.HasPrefix(e.Name(), privatePrefix) || !isOurs(dir) {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, inUse), os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if tryLock(f) == nil {
			if files, err := os.ReadDir(dir); err == nil {
				for _, x := range files {
					if x.Name() != inUse { // last, should this end in between
						os.Remove(filepath.Join(dir, x.Name()))
					}
				}
				os.Remove(f.Name())
				os.Remove(dir)
			}
		}
		f.Close()
	}
}
