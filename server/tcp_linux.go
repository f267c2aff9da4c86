package server

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// notSent is how many bytes the kernel takes for a client beyond what it has sent: more would only pile up there, and hide that it takes
// nothing.
const notSent = 32 << 10

// tune has the kernel hold little for a client, and end a connection whose client acknowledges nothing, or takes nothing, for patience: one
// without power or network says no good-bye.
func tune(c *net.TCPConn, patience time.Duration) {
	if raw, err := c.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { // without these it works as well, only worse
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSent)
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(patience.Milliseconds()))
		})
	}
}
