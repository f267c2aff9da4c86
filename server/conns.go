package server

import (
	"container/list"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"fs_notify/server/access"
	"fs_notify/server/qumulo"
)

// conns is what is known of the connections, and keeps them from being more than max: for a new one, that which has been quiet
// longest is closed, as nobody waits for an answer there. So who opens connections and says nothing takes no file from the watcher, and
// no turn from who asks something. Any goroutine may use it.
type conns struct {
	max  int
	full access.Limiter // how often it is told that there are max

	mu    sync.Mutex
	known map[net.Conn]*conn // those that net/http has
	taken int                // those that streams have taken from it
	quiet list.List          // of net.Conn, the longest quiet first
}

// conn is what is known of a connection.
type conn struct {
	requests atomic.Int64
	wait     time.Duration // it came too soon after others: so much

	// Guarded by conns.mu.
	asked bool          // something came
	taken bool          // a stream has it
	quiet *list.Element // nil: a request is under way, or it was told to close
}

type connKey struct{}

// enter notes a new connection. It is quiet until something comes on it.
func (cs *conns) enter(c net.Conn, k *conn) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.known == nil {
		cs.known = make(map[net.Conn]*conn)
	}
	cs.known[c] = k
}

// state follows net/http. Closed is what is too much; idle says that a connection ended on which something came, but no request.
func (cs *conns) state(c net.Conn, state http.ConnState) (closed net.Conn, idle bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	k := cs.known[c]
	if k == nil {
		return nil, false
	}
	if k.quiet != nil {
		cs.quiet.Remove(k.quiet)
		k.quiet = nil
	}
	switch state {
	case http.StateNew:
		k.quiet = cs.quiet.PushBack(c)
		if len(cs.known)+cs.taken > cs.max {
			closed = cs.quiet.Remove(cs.quiet.Front()).(net.Conn)
			cs.known[closed].quiet = nil
		}
	case http.StateIdle:
		k.quiet = cs.quiet.PushBack(c)
	case http.StateActive:
		k.asked = true
	case http.StateHijacked:
		k.taken = true
		cs.taken++
		delete(cs.known, c)
	case http.StateClosed:
		delete(cs.known, c)
		idle = k.asked && k.requests.Load() == 0
	}
	return closed, idle
}

// release is called when a stream has ended: if it had taken the connection, that is closed.
func (cs *conns) release(k *conn) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if k.taken {
		k.taken = false
		cs.taken--
	}
}

// hangUp closes those that are quiet: when the server stops, nobody needs to wait for them.
func (cs *conns) hangUp() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for e := cs.quiet.Front(); e != nil; e = cs.quiet.Front() {
		c := cs.quiet.Remove(e).(net.Conn)
		cs.known[c].quiet = nil
		socket(c).Close() // without a good-bye of TLS, for which a client may have left no room
	}
}

// connContext is for http.Server.
func (s *Server) connContext(ctx context.Context, c net.Conn) context.Context {
	k := &conn{}
	if from, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil && s.connect != nil && !s.trusted(from.Addr()) {
		k.wait, _ = s.connect.Take(access.Network(from.Addr().Unmap().String()), time.Now())
	}
	s.conns.enter(c, k)
	if tcp, ok := socket(c).(*net.TCPConn); ok {
		tune(tcp, 2*s.WriteTimeout) // a write that waits is to find out first
	}
	return context.WithValue(access.ConnContext(qumulo.ConnContext(ctx, c), c), connKey{}, k)
}

// socket is what TLS, if it is spoken on a connection, is spoken on.
func socket(c net.Conn) net.Conn {
	if secure, ok := c.(*tls.Conn); ok {
		return secure.NetConn()
	}
	return c
}

// connState is for http.Server. A connection on which something came but never a whole request, in time and of a sane size, is told to the log.
func (s *Server) connState(c net.Conn, state http.ConnState) {
	closed, idle := s.conns.state(c, state)
	if idle {
		s.Log.Info("connection closed: no request came on it in time, or none that can be read", "client", c.RemoteAddr().String())
	}
	if closed == nil {
		return
	}
	level := slog.LevelDebug
	if _, ok := s.conns.full.Take("", time.Now()); ok {
		level = slog.LevelWarn
	}
	s.Log.Log(context.Background(), level, "connection closed: there are as many as there may be, and it was the longest without a request",
		"client", closed.RemoteAddr().String(), "connections", s.conns.max)
	socket(closed).Close() // as in hangUp
}
