package watch

import (
	"syscall"

	"fs_notify/notify"
)

// times has no birth time that could be trusted: few file systems keep one here.
func times(s *syscall.Stat_t, a *notify.Attr) {
	a.Mtime, a.Ctime, a.Atime = nanos(s.Mtim.Unix()), nanos(s.Ctim.Unix()), knownNanos(s.Atim.Unix())
}

// volume is not asked here: every file system is taken for a local one.
func volume(string) (polled bool, opaque string) { return false, "" }
