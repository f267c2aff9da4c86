package access

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What sock_diag(7) and inet_diag say; x/sys has no names for it.
const (
	sockDiagByFamily = 20
	tcpEstablished   = 1
	tcpCloseWait     = 8
)

// inetDiagRequest is struct inet_diag_req_v2 behind its netlink header. Ports and addresses are in network order.
type inetDiagRequest struct {
	header   unix.NlMsghdr
	family   uint8
	protocol uint8
	ext, pad uint8
	states   uint32
	sport    [2]byte
	dport    [2]byte
	src, dst [16]byte
	iface    uint32
	cookie   [2]uint32
}

// inetDiagMessage is struct inet_diag_msg.
type inetDiagMessage struct {
	family, state, timer, retrans uint8
	sport, dport                  [2]byte
	src, dst                      [16]byte
	iface                         uint32
	cookie                        [2]uint32
	expires, rqueue, wqueue       uint32
	uid, inode                    uint32
}

// socketOwner gives the user who owns the TCP socket of this machine that is bound to one address and connected to another. One that no process
// holds any more has no owner.
func socketOwner(at, to netip.AddrPort) (uint32, error) {
	uid, err := diagOwner(at, to)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return uid, err
	}
	return procOwner(at, to) // a kernel without inet_diag, or a sandbox without netlink
}

// diagOwner asks the kernel for the one socket.
func diagOwner(at, to netip.AddrPort) (uint32, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return 0, err
	}
	// A socket of IPv6 may hold a connection of IPv4, under its mapped address or under its own.
	for _, mapped := range []bool{false, true} {
		q := inetDiagRequest{family: unix.AF_INET, protocol: unix.IPPROTO_TCP, states: 1<<tcpEstablished | 1<<tcpCloseWait, cookie: [2]uint32{^uint32(0), ^uint32(0)}}
		a, b := at.Addr().Unmap(), to.Addr().Unmap()
		switch {
		case a.Is4() && !mapped:
			copy(q.src[:], a.AsSlice())
			copy(q.dst[:], b.AsSlice())
		default:
			q.family = unix.AF_INET6
			q.src, q.dst = a.As16(), b.As16()
		}
		binary.BigEndian.PutUint16(q.sport[:], at.Port())
		binary.BigEndian.PutUint16(q.dport[:], to.Port())
		q.header = unix.NlMsghdr{Len: uint32(unsafe.Sizeof(q)), Type: sockDiagByFamily, Flags: unix.NLM_F_REQUEST, Seq: 1}
		if err := unix.Sendto(fd, unsafe.Slice((*byte)(unsafe.Pointer(&q)), unsafe.Sizeof(q)), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return 0, err
		}
		var buf [4096]byte
		n, _, err := unix.Recvfrom(fd, buf[:], 0)
		if err != nil {
			return 0, err
		}
		uid, err := readOwner(buf[:n], q)
		if errors.Is(err, unix.ENOENT) && !mapped && a.Is4() {
			continue
		}
		return uid, err
	}
	return 0, unix.ENOENT
}

// readOwner reads the kernel's answer.
func readOwner(b []byte, q inetDiagRequest) (uint32, error) {
	var h unix.NlMsghdr
	size := int(unsafe.Sizeof(h))
	if len(b) < size {
		return 0, errors.New("a short answer of sock_diag")
	}
	h = *(*unix.NlMsghdr)(unsafe.Pointer(&b[0]))
	switch h.Type {
	case unix.NLMSG_ERROR:
		if len(b) < size+4 {
			return 0, errors.New("a short answer of sock_diag")
		}
		return 0, unix.Errno(-*(*int32)(unsafe.Pointer(&b[size])))
	case sockDiagByFamily:
		var m inetDiagMessage
		if len(b) < size+int(unsafe.Sizeof(m)) {
			return 0, errors.New("a short answer of sock_diag")
		}
		m = *(*inetDiagMessage)(unsafe.Pointer(&b[size]))
		if m.sport != q.sport || m.dport != q.dport || m.src != q.src && m.family == q.family {
			return 0, errors.New("sock_diag speaks of another socket")
		}
		if m.inode == 0 {
			return 0, unix.ENOENT // nobody holds it: its owner reads as 0
		}
		return m.uid, nil
	}
	return 0, fmt.Errorf("an answer of sock_diag of type %d", h.Type)
}

// procOwner looks the socket up in /proc/net.
func procOwner(at, to netip.AddrPort) (uint32, error) {
	var last error = unix.ENOENT
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			last = err
			continue
		}
		want := procAddr(at, table) + " " + procAddr(to, table)
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) < 10 || f[1]+" "+f[2] != want {
				continue
			}
			var uid, inode uint32
			if _, err := fmt.Sscan(f[7]+" "+f[9], &uid, &inode); err == nil && inode != 0 {
				return uid, nil
			}
		}
	}
	return 0, fmt.Errorf("no such socket: %w", last)
}

// procAddr gives an address as /proc/net/tcp and tcp6 write it: 32-bit words in the machine's order, in hexadecimal.
func procAddr(a netip.AddrPort, table string) string {
	ip := a.Addr().Unmap().AsSlice()
	if strings.HasSuffix(table, "6") {
		b := a.Addr().As16()
		ip = b[:]
	}
	var s strings.Builder
	for ; len(ip) >= 4; ip = ip[4:] {
		fmt.Fprintf(&s, "%08X", binary.NativeEndian.Uint32(ip))
	}
	fmt.Fprintf(&s, ":%04X", a.Port())
	return s.String()
}
