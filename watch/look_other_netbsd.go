package watch

import (
	"syscall"

	"fs_notify/notify"
)

func times(s *syscall.Stat_t, a *notify.Attr) {
	a.Mtime, a.Ctime, a.Atime, a.Btime = s.Mtimespec.Nano(), s.Ctimespec.Nano(), s.Atimespec.Nano(), s.Birthtimespec.Nano()
}

// volume is not asked here: every file system is taken for a local one.
func volume(string) (polled bool, opaque string) { return false, "" }
