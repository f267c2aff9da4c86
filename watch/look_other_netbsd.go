package watch

import (
	"syscall"

	"fs_notify/notify"
)

func times(s *syscall.Stat_t, a *notify.Attr) {
	a.Mtime, a.Ctime, a.Atime, a.Btime = nanos(s.Mtimespec.Unix()), nanos(s.Ctimespec.Unix()), knownNanos(s.Atimespec.Unix()), nanos(s.Birthtimespec.Unix())
}

// volume is not asked here: every file system is taken for a local one.
func volume(string) (polled bool, opaque string) { return false, "" }
