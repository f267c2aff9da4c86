//go:build darwin || freebsd || netbsd || openbsd

package watch

import (
	"os"
	"syscall"

	"fs_notify/notify"
)

// attrOf looks at a name in a directory, symlinks not followed.
func attrOf(dir *os.Root, name string, a *notify.Attr) (dev, gen uint64, err error) {
	info, err := dir.Lstat(name)
	if err != nil {
		return 0, 0, err
	}
	s := info.Sys().(*syscall.Stat_t)
	*a = notify.Attr{Mode: uint32(s.Mode), UID: s.Uid, GID: s.Gid, Nlink: uint32(s.Nlink), Flags: s.Flags, Ino: s.Ino, Size: s.Size}
	times(s, a)
	return uint64(s.Dev), uint64(s.Gen), nil
}
