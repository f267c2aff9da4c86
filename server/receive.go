package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"fs_notify/notify"
	"fs_notify/server/access"
)

// receive does what comes before any handler: it says who asks, from where, and whether at all. A nil request was answered; done is to be
// called when the request is.
func (s *Server) receive(w *response, r *http.Request, route string) (_ *http.Request, done func(), err error) {
	done = func() {}
	guard(w.Header())
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		if first := c.requests.Add(1) == 1; first && c.wait > 0 {
			w.Header().Set("Connection", "close")
			return nil, done, &notify.Error{Op: "server.receive", Kind: notify.TooMany, Retry: c.wait, Msg: "too many connections at once from this address, try again later"}
		}
	}
	r = r.WithContext(r.Context()) // a copy: net/http goes by its own, and by whose body it has there
	if client, ok := s.forwarded(r); ok {
		r.RemoteAddr = client
	}
	r.URL.Scheme = "http" // what links to this server begin with
	if access.Secure(r) {
		r.URL.Scheme = "https"
	}
	if at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok && r.Host == "" {
		r.Host = (&net.TCPAddr{IP: at.IP, Port: at.Port}).String() // a zone would mean nothing to the client
	}
	if s.cors(w, r) {
		return nil, done, nil
	}
	if err := s.origins.Check(r); err != nil {
		return nil, done, &notify.Error{Op: "server.receive", Kind: notify.Forbidden, Err: err, Msg: "pages of other sites may not ask for this"}
	}
	if err := s.limitBody(w, r); err != nil {
		return nil, done, err
	}
	asked := r
	r, err = s.Auth.Authorize(asked)
	switch {
	case err == nil:
	case route == "/healthz" || route == "/readyz" || route == "/metrics" || s.public(route, asked) && errors.Is(err, notify.Unauthorized):
		return asked.WithContext(notify.WithGrant(asked.Context(), notify.Nobody)), done, nil
	default:
		return nil, done, err
	}
	if lease := notify.GrantOf(r.Context()).Lease; lease != nil {
		ctx, cancel := context.WithCancelCause(r.Context())
		stop := context.AfterFunc(lease, func() {
			why := context.Cause(lease)
			cancel(why)
			w.cut(why)
		})
		done = func() { stop(); cancel(nil) }
		r = r.WithContext(ctx)
	}
	return r, done, nil
}

// guard sets what every answer tells browsers; the page says otherwise of its own.
func guard(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; connect-src 'self'; frame-ancestors 'none'")
}

// forwarded gives the address that a request comes from, if a proxy that is trusted passed it on: the last one in X-Forwarded-For that is
// not such a proxy.
func (s *Server) forwarded(r *http.Request) (addr string, ok bool) {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !s.trusted(from.Addr()) {
		return "", false
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		ip, err := netip.ParseAddr(strings.Trim(strings.TrimSpace(hop), "[]"))
		if err != nil {
			break
		}
		addr = net.JoinHostPort(ip.Unmap().String(), "0")
		if !s.trusted(ip) {
			break
		}
	}
	return addr, addr != ""
}

func (s *Server) trusted(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	return slices.ContainsFunc(s.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// cors lets pages of the configured origins read answers, and answers what their browsers ask beforehand.
func (s *Server) cors(w http.ResponseWriter, r *http.Request) (answered bool) {
	if len(s.CORSOrigins) == 0 {
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	methods := "GET, HEAD, OPTIONS, POST, PUT, DELETE" // OPTIONS is how Box's clients ask for the address of a long poll
	switch {
	case origin == "":
		return false
	case slices.Contains(s.CORSOrigins, origin):
	case slices.Contains(s.CORSOrigins, "*"): // what changes something takes more trust
		methods = "GET, HEAD, OPTIONS"
	default:
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", "ETag, Link, Retry-After")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", methods)
	h.Set("Access-Control-Allow-Headers", "As-User, Authorization, Cache-Control, Content-Type, If-Modified-Since, If-None-Match, Last-Event-ID, Macaroon, User-Agent, X-Auth-Token, X-Box-UA")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// limitBody bounds a request's body in size and time. A stream may last longer than the time: once the body was read, it counts no more.
func (s *Server) limitBody(w http.ResponseWriter, r *http.Request) error {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil
	}
	if r.ContentLength > int64(s.MaxBodyBytes) {
		w.Header().Set("Connection", "close")
		return &notify.Error{Op: "server.receive", Kind: notify.Invalid, Err: &http.MaxBytesError{Limit: int64(s.MaxBodyBytes)}, Msg: "the body is too large"}
	}
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(s.BodyTimeout))
	r.Body = &body{ReadCloser: http.MaxBytesReader(w, r.Body, int64(s.MaxBodyBytes)), rc: rc}
	return nil
}

// body is a request's body that has to come in time.
type body struct {
	io.ReadCloser
	rc *http.ResponseController
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

// holders counts the streams of each token and each address.
type holders struct {
	mu sync.Mutex
	n  map[string]int
}

// add counts one more of key, unless there are max already.
func (h *holders) add(key string, max int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n == nil {
		h.n = map[string]int{}
	}
	if max > 0 && h.n[key] >= max {
		return false
	}
	h.n[key]++
	return true
}

func (h *holders) remove(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n[key]--; h.n[key] <= 0 {
		delete(h.n, key)
	}
}

// admit counts a stream in, if there is room for one more.
func (s *Server) admit(r *http.Request) (release func(), err error) {
	if s.streams.Add(1) > int64(s.MaxStreams) {
		s.streams.Add(-1)
		return nil, &notify.Error{Op: "server.admit", Kind: notify.Unavailable, Retry: 10 * time.Second,
			Msg: "the server has as many streams as it takes, try again later"}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	name, addr := "name "+notify.GrantOf(r.Context()).Name, "address "+access.Network(host)
	max := s.MaxTokenStreams
	if name == "name " {
		max = 0
	}
	if !s.holders.add(name, max) {
		s.streams.Add(-1)
		return nil, tooMany("this token has as many streams open as it may")
	}
	if !s.holders.add(addr, s.MaxAddressStreams) {
		s.holders.remove(name)
		s.streams.Add(-1)
		return nil, tooMany("this address has as many streams open as it may")
	}
	k, _ := r.Context().Value(connKey{}).(*conn)
	return func() {
		if k != nil {
			s.conns.release(k)
		}
		s.holders.remove(name)
		s.holders.remove(addr)
		s.streams.Add(-1)
	}, nil
}

func tooMany(msg string) error {
	return &notify.Error{Op: "server.admit", Kind: notify.TooMany, Retry: 10 * time.Second, Msg: msg}
}
