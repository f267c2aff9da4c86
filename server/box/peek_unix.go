//go:build unix

package box

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// hungUp says whether the client of a connection that is waited on has left. It does not wait.
func hungUp(c net.Conn) bool {
	plain, gone := below(c), false
	err := onSocket(plain, func(fd int) {
		var b [1]byte
		n, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case err == unix.EAGAIN || err == unix.EINTR:
		case err != nil || n == 0:
			gone = true
		default:
			gone = plain != c // what TLS says to one who should be silent is good-bye
		}
	})
	return gone || err != nil
}

// stuck says whether the client of a connection has left so much unread that an answer may not fit any more. It does not wait.
func stuck(c net.Conn) bool {
	full := false
	err := onSocket(below(c), func(fd int) {
		n, err := -1, error(unix.EINTR)
		for err == unix.EINTR { // of nothing that is ready and a signal of the runtime, poll says the signal, even where it does not wait
			n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 0)
		}
		full = n == 0
	})
	return full || err != nil
}

// onSocket calls f with the socket of a connection, if it has one. An error: it is closed.
func onSocket(c net.Conn, f func(fd int)) error {
	s, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { f(int(fd)) })
}
