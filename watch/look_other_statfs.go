//go:build darwin || freebsd

package watch

import (
	"syscall"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
)

func times(s *syscall.Stat_t, a *notify.Attr) {
	a.Mtime, a.Ctime, a.Atime, a.Btime = nanos(s.Mtimespec.Unix()), nanos(s.Ctimespec.Unix()), knownNanos(s.Atimespec.Unix()), nanos(s.Birthtimespec.Unix())
}

// volume says whether a file system cannot notify, and why its content does not belong to a tree.
func volume(path string) (polled bool, opaque string) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return false, err.Error()
	}
	switch unix.ByteSliceToString(s.Fstypename[:]) {
	case "devfs", "procfs", "fdescfs", "linprocfs", "linsysfs", "autofs", "mqueuefs":
		return false, "it is a pseudo file system"
	}
	return uint64(s.Flags)&unix.MNT_LOCAL == 0, ""
}
