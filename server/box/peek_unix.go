//go:build unix

package box

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// hungUp says whether the client of a connection that is waited on has left, or will say no more. What it has said, for nobody, is thrown
// away: its end comes behind that. It does not wait.
func hungUp(c net.Conn) bool {
	gone := false
	err := onSocket(below(c), func(fd int) {
		var junk [4096]byte
		for range 16 { // what more there is is for the next time
			n, _, err := unix.Recvfrom(fd, junk[:], unix.MSG_DONTWAIT)
			if err == unix.EINTR {
				continue
			}
			if err != nil || n == 0 {
				gone = err != unix.EAGAIN
				return
			}
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
