//go:build unix

package access

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// lockDir keeps others who lock a directory waiting until unlock is called.
func lockDir(name string) (unlock func() error, err error) {
	dir, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	for {
		if err = unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		dir.Close()
		return nil, &fs.PathError{Op: "lock", Path: name, Err: err}
	}
	return dir.Close, nil
}

// keepOwner gives f the owner and the group of the file that it takes the place of.
func keepOwner(f *os.File, old fs.FileInfo) error {
	st, ok := old.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
		return fmt.Errorf("it would not be of user %d and group %d any more, who may be those that read it: %w", st.Uid, st.Gid, err)
	}
	return nil
}

// hasModes: a file's mode says who may read and write it.
const hasModes = true

// ownedHere says why somebody may have written a file whom the server does not trust: that is who owns its directory, root, and the server's own user. nil: nobody may.
func ownedHere(file, dir fs.FileInfo) error {
	f, ok := file.Sys().(*syscall.Stat_t)
	d, ok2 := dir.Sys().(*syscall.Stat_t)
	if ok && ok2 && f.Uid != 0 && f.Uid != d.Uid && int(f.Uid) != os.Geteuid() {
		return fmt.Errorf("it is of user %d, and should be of %d, as its directory is (chown)", f.Uid, d.Uid)
	}
	if file.Mode().Perm()&0o002 != 0 {
		return fmt.Errorf("everybody may write it, its mode is %#o and should be 0600 (chmod)", file.Mode().Perm())
	}
	return nil
}

// SyncDir makes what was renamed in a directory durable.
func SyncDir(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
