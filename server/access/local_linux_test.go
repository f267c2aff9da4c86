package access

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
)

// dialAs connects as a process of another user would.
func dialAs(t *testing.T, uid int, addr string) net.Conn {
	t.Helper()
	type result struct {
		c   net.Conn
		err error
	}
	got := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			got <- result{nil, errno}
			return
		}
		c, err := net.Dial("tcp", addr)
		got <- result{c, err}
	}()
	r := <-got
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { r.c.Close() })
	return r.c
}

// Who sees more than others may serves itself and root only, over both kinds of loopback.
func TestOnlyOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	for _, listen := range []string{"tcp4 127.0.0.1:0", "tcp6 [::1]:0", "tcp [::]:0"} {
		network, addr, _ := strings.Cut(listen, " ")
		l, err := net.Listen(network, addr)
		if err != nil {
			t.Logf("%s: %v", listen, err) // a machine without IPv6
			continue
		}
		auth := Local{Owners: []uint32{1234}}
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.RemoteAddr = "203.0.113.9:1" // what a proxy may have said does not count
			if _, err := auth.Authorize(r); err != nil {
				w.WriteHeader(http.StatusForbidden)
				io.WriteString(w, err.Error())
			}
		}))
		s.Listener.Close()
		s.Listener = l
		s.Config.ConnContext = ConnContext
		s.Start()
		defer s.Close()
		port := strings.TrimPrefix(l.Addr().String()[strings.LastIndex(l.Addr().String(), ":"):], ":")
		hosts := []string{"127.0.0.1"}
		if network == "tcp6" {
			hosts = []string{"::1"}
		} else if network == "tcp" {
			hosts = []string{"127.0.0.1", "::1"} // one mapped into IPv6
		}
		for _, host := range hosts {
			for uid, want := range map[int]string{0: "200", 1234: "200", 65534: "403"} {
				c := dialAs(t, uid, net.JoinHostPort(host, port))
				for range 2 {
					io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
					b := make([]byte, 4096)
					n, err := c.Read(b)
					if err != nil || !strings.HasPrefix(string(b[:n]), "HTTP/1.1 "+want) {
						t.Errorf("%s, %s, user %d: %q, %v, want %s", listen, host, uid, b[:n], err, want)
					}
				}
			}
		}
	}
}

// Both ways to ask for a socket's owner say the same; one that nobody holds belongs to nobody, above all not to root.
func TestSocketOwner(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	at, to := c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort()
	for name, ask := range map[string]func(_, _ netip.AddrPort) (uint32, error){"sock_diag": diagOwner, "/proc/net": procOwner, "either": socketOwner} {
		if uid, err := ask(at, to); err != nil || uid != uint32(os.Geteuid()) {
			t.Errorf("%s: %d, %v", name, uid, err)
		}
		other := netip.AddrPortFrom(at.Addr(), 1)
		if uid, err := ask(other, to); err == nil {
			t.Errorf("%s: a socket that there is not belongs to %d", name, uid)
		}
	}
	c.Close() // the other end is not closed: the kernel keeps the socket, without an owner
	for name, ask := range map[string]func(_, _ netip.AddrPort) (uint32, error){"sock_diag": diagOwner, "/proc/net": procOwner, "either": socketOwner} {
		if uid, err := ask(at, to); err == nil {
			t.Errorf("%s: a socket that was closed belongs to %d", name, uid)
		}
	}
}

// Who could not be looked up for want of a descriptor is, when there are some again, on the same connection.
func TestOwnerWithoutDescriptors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := httptest.NewRequest("GET", "/", nil)
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, l.Addr()))
	p := &peer{addr: c.LocalAddr().String()}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 0
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	_, err = p.owner(r)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, unix.EMFILE) {
		t.Errorf("without a descriptor: %v", err)
	}
	if uid, err := p.owner(r); err != nil || uid != uint32(os.Geteuid()) {
		t.Errorf("with one again: %d, %v", uid, err)
	}
}

// A page of another name that leads here (DNS rebinding) is not let in, nor is another machine.
func TestLocalAsksForTheHost(t *testing.T) {
	for _, tt := range []struct {
		remote, host string
		ok           bool
	}{
		{"127.0.0.1:1", "localhost:8000", true}, {"127.0.0.1:1", "127.0.0.1", true}, {"[::1]:1", "[::1]:8000", true}, {"127.0.0.1:1", "LOCALHOST.", true},
		{"127.0.0.1:1", "files.example:80", true}, {"127.0.0.1:1", "", true}, {"[::ffff:127.0.0.1]:1", "app.localhost", true},
		{"127.0.0.1:1", "evil.example", false}, {"127.0.0.1:1", "127.0.0.1.evil.example", false}, {"127.0.0.1:1", "localhost.evil.example:8000", false},
		{"127.0.0.1:1", "192.0.2.1", false}, {"127.0.0.1:1", "0.0.0.0:8000", false}, {"192.0.2.1:1", "localhost", false}, {"", "localhost", false},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr, r.Host = tt.remote, tt.host
		r.Header.Set("X-Forwarded-For", "127.0.0.1")
		if _, err := (Local{Hosts: []string{"files.example"}}).Authorize(r); (err == nil) != tt.ok || err != nil && !errors.Is(err, notify.Forbidden) {
			t.Errorf("from %q as %q: %v", tt.remote, tt.host, err)
		}
	}
}
