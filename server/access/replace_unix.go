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

// SyncDir makes what was renamed in a directory durable.
func SyncDir(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
