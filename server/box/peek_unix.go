//go:build unix

package box

import (
	"crypto/tls"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// hungUp says whether the client of a connection that is waited on has left. It does not wait.
func hungUp(c net.Conn) bool {
	secure := false
	if t, ok := c.(*tls.Conn); ok {
		c, secure = t.NetConn(), true
	}
	s, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case err == unix.EAGAIN || err == unix.EINTR:
		case err != nil || n == 0:
			gone = true
		default:
			gone = secure // what TLS says to one who should be silent is good-bye
		}
	})
	return gone || err != nil
}
