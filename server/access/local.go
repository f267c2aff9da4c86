package access

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"fs_notify/notify"
)

// Local lets processes of this machine pass and nobody else: what is safe without tokens. A request has to come over loopback and to name, as
// its host, one of loopback's addresses or names: a page whose own name leads here is not let in.
type Local struct {
	// Hosts are further names under which requests may come; without port.
	Hosts []string
	// Owners, unless nil, are the only users whose processes pass, and root. For who sees more than they may.
	Owners []uint32
}

// Authorize is part of server.Auth.
func (l Local) Authorize(r *http.Request) (*http.Request, error) {
	peer := peerOf(r)
	remote, err := netip.ParseAddrPort(peer.addr)
	if err != nil {
		if _, unix := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr); unix {
			return r, nil // a local socket, whose mode says who may
		}
		return nil, forbidden("without tokens only this machine itself is served")
	}
	if !remote.Addr().Unmap().IsLoopback() {
		return nil, forbidden("without tokens only this machine itself is served")
	}
	if !l.hosts(r.Host) {
		return nil, forbidden(fmt.Sprintf("this server is not known as %q: ask it as localhost", clip(r.Host)))
	}
	if l.Owners == nil {
		return r, nil
	}
	uid, err := peer.owner(r)
	switch {
	case noDescriptor(err):
		return nil, &notify.Error{Op: "access.Local", Kind: notify.Unavailable, Retry: 2 * time.Second, Err: err, Msg: "the user who asks cannot be found out now, try again soon"}
	case err != nil:
		return nil, &notify.Error{Op: "access.Local", Kind: notify.Forbidden, Err: err, Msg: "the user who asks could not be found out: use tokens"}
	}
	if uid == 0 {
		return r, nil
	}
	for _, o := range l.Owners {
		if o == uid {
			return r, nil
		}
	}
	return nil, forbidden("without tokens only root and the user that this server runs as are served, as it sees what others may not")
}

func forbidden(msg string) error {
	return &notify.Error{Op: "access.Local", Kind: notify.Forbidden, Msg: msg}
}

// hosts says whether a Host header names this machine to itself.
func (l Local) hosts(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true // without any: HTTP/1.0, which no browser speaks
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().IsLoopback() {
		return true
	}
	for _, h := range l.Hosts {
		if strings.EqualFold(strings.TrimSuffix(h, "."), host) {
			return true
		}
	}
	return false
}

// peer is the other end of a connection. Who owns it is looked up once, unless there was no descriptor to do so with.
type peer struct {
	addr  string
	mu    sync.Mutex
	asked bool
	uid   uint32
	err   error
}

type peerKey struct{}

// ConnContext is for http.Server: it lets Local know where a connection comes from, whatever Request.RemoteAddr says by then, and
// remember who owns it.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, &peer{addr: c.RemoteAddr().String()})
}

func peerOf(r *http.Request) *peer {
	if p, ok := r.Context().Value(peerKey{}).(*peer); ok {
		return p
	}
	return &peer{addr: r.RemoteAddr}
}

// owner gives the user whose socket is at the other end of r's connection.
func (p *peer) owner(r *http.Request) (uint32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.asked {
		remote, err := netip.ParseAddrPort(p.addr)
		local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		if err != nil || !ok {
			p.err = fmt.Errorf("no TCP connection: %v", err)
		} else {
			p.uid, p.err = socketOwner(remote, local.AddrPort())
		}
		p.asked = !noDescriptor(p.err)
	}
	return p.uid, p.err
}

// noDescriptor says whether err passes as soon as some file is closed.
func noDescriptor(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
