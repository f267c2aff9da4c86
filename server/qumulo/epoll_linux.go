package qumulo

import (
	"errors"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller tells which sockets became writable, and which clients hung up: an epoll instance, edge-triggered, waited for
// in the Go runtime's own, so that it takes no thread.
type poller struct {
	fd   int
	file *os.File // owns fd
	wait syscall.RawConn
}

// event is what is known of the socket that was added as slot and turn.
type event struct {
	slot, turn uint32
	gone       bool // the client closed its side, or the connection broke
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // os.NewFile takes that as the wish to wait for it
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	p := &poller{fd: fd, file: os.NewFile(uintptr(fd), "epoll")}
	if p.wait, err = p.file.SyscallConn(); err != nil {
		p.file.Close()
		return nil, err
	}
	return p, nil
}

// run sends what happens to events until close or until done is closed. The receiver owns a slice until it receives the next one.
func (p *poller) run(events chan<- []event, done <-chan struct{}) {
	var raw [256]unix.EpollEvent
	var out [2][len(raw)]event
	for i := 0; ; i ^= 1 {
		n := 0
		err := p.wait.Read(func(fd uintptr) bool {
			var err error
			for {
				if n, err = unix.EpollWait(int(fd), raw[:], 0); err != unix.EINTR {
					return n > 0
				}
			}
		})
		if err != nil {
			return // closed
		}
		for k, e := range raw[:n] {
			out[i][k] = event{uint32(e.Fd), uint32(e.Pad), e.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0}
		}
		select {
		case events <- out[i][:n]:
		case <-done:
			return
		}
	}
}

// add begins to watch a socket: that it can be written to is told once it could not, that it broke always.
func (p *poller) add(fd int, slot, turn uint32) error {
	e := unix.EpollEvent{Events: unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(slot), Pad: int32(turn)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &e))
}

func (p *poller) remove(fd int) { unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, fd, nil) } // closing would do the same, if nobody else had the socket

func (p *poller) close() { p.file.Close() }

// takeSocket gives a connection's socket a descriptor of its own and closes the connection: from then on, neither net/http nor the
// runtime's poller knows of it.
func takeSocket(c *net.TCPConn) (int, error) {
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var derr error
	if err := raw.Control(func(old uintptr) { fd, derr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 3) }); err != nil {
		return -1, err
	}
	if derr != nil {
		return -1, os.NewSyscallError("fcntl", derr)
	}
	return fd, nil
}

// errAgain: the socket takes no more at the moment. The poller says when it does.
var errAgain = errors.New("the socket is full")

// writeSocket writes as much of b as the socket takes. An error that is not errAgain means that it is broken. As it never waits, Go's
// scheduler is not told of the call: what that costs is a quarter of all that a delivery costs.
func writeSocket(fd int, b []byte) (n int, err error) {
	for n < len(b) {
		k, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[n])), uintptr(len(b)-n),
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch e {
		case 0:
			n += int(k)
		case unix.EAGAIN:
			return n, errAgain
		case unix.ETIMEDOUT:
			return n, os.ErrDeadlineExceeded
		case unix.EINTR:
		default:
			return n, os.NewSyscallError("sendto", e)
		}
	}
	return n, nil
}

// whyGone asks a socket that is told to be gone for the reason.
func whyGone(fd int) error {
	switch n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); {
	case err != nil:
		return os.NewSyscallError("getsockopt", err)
	case n == int(unix.ETIMEDOUT):
		return os.ErrDeadlineExceeded
	case n != 0:
		return unix.Errno(n)
	}
	return errHungUp
}

// closeSocket closes a socket. With reset, what the client did not take is thrown away at once.
func closeSocket(fd int, reset bool) {
	if reset {
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	} else {
		// A socket that is closed with something unread resets the connection, and the client may miss the end.
		var junk [4096]byte
		for range 16 {
			if n, err := unix.Read(fd, junk[:]); n <= 0 || err != nil {
				break
			}
		}
	}
	unix.Close(fd)
}
