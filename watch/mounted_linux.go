package watch

import (
	"golang.org/x/sys/unix"
)

// mounted tells of mounts and unmounts in the mount namespace of the process: poll(2) of /proc/self/mountinfo does, also where what is
// mounted again is as it was. The zero value is ready.
type mounted struct {
	fd   int // of the table: no os.File, as Go's poller would take the news
	open bool
}

// changed says whether there were any since the last call. The first one says so too; where the table cannot be opened, none does.
func (m *mounted) changed() bool {
	if !m.open {
		fd, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		m.fd, m.open = fd, err == nil
		return m.open
	}
	polls := [...]unix.PollFd{{Fd: int32(m.fd), Events: unix.POLLPRI}}
	n, err := unix.Poll(polls[:], 0)
	return err == nil && n > 0 && polls[0].Revents&unix.POLLPRI != 0
}

func (m *mounted) close() {
	if m.open {
		unix.Close(m.fd)
		m.open = false
	}
}
