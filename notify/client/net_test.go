package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fs_notify/notify"
)

// The faults once more over real sockets: a server that ends chunks properly, cuts connections with and without
// RST in the middle of a block, moves, and restarts on its port.
func TestRealSockets(t *testing.T) {
	before := runtime.NumGoroutine()
	const notes = 12
	var mu sync.Mutex
	conns := 0
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.EscapedPath(), "/v1/files/%2Fsrv%2Fdata/notify") {
			http.Redirect(w, r, "/v1/files/%2Fsrv%2Fdata/notify?"+r.URL.RawQuery, http.StatusTemporaryRedirect)
			return
		}
		mu.Lock()
		conns++
		n := conns
		mu.Unlock()
		next := 0
		if last := r.Header.Get("Last-Event-ID"); last != "" {
			c, err := notify.ParseCursor(last)
			if err != nil {
				t.Errorf("asked for %q", last)
			}
			next = int(c.Seq.Batch()) - 1000 + 1
		}
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		fmt.Fprintf(w, "%sretry: 100\n\n", watching)
		out := http.NewResponseController(w)
		for i := 0; i < 3 && next < notes; i++ {
			fmt.Fprint(w, block(next))
			next++
		}
		fmt.Fprint(w, block(next)[:30])
		out.Flush()
		switch n % 3 {
		case 0:
			return // clean
		case 1:
			c, _, err := out.Hijack()
			if err == nil {
				c.Close() // in the middle of the chunks
			}
		case 2:
			if c, _, err := out.Hijack(); err == nil {
				c.(*net.TCPConn).SetLinger(0)
				c.Close() // RST
			}
		}
	})
	srv := httptest.NewServer(handler)
	defer srv.Close()
	k := &taker{stop: notes}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := Watch(ctx, Options{URL: srv.URL, Ref: "/srv/moved"}, k.take)
	if err != errEnough {
		t.Fatalf("Watch: %v", err)
	}
	k.want(t, notes)
	srv.Close()
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%d goroutines before, %d after", before, runtime.NumGoroutine())
}

func TestTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, watching, block(0))
	}))
	defer srv.Close()
	srv.Config.ErrorLog = nil
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()

	var cert *tls.CertificateVerificationError
	if err := Watch(ctx, Options{URL: srv.URL, Ref: "/d"}, nil); !errors.As(err, &cert) {
		t.Errorf("unknown authority: %v", err)
	}
	if err := Watch(ctx, Options{URL: strings.Replace(srv.URL, "https:", "http:", 1), Ref: "/d"}, nil); !errors.Is(err, notify.Invalid) || !strings.Contains(err.Error(), "HTTPS server") {
		t.Errorf("http to https: %v", err)
	}
	plain := httptest.NewServer(nil)
	defer plain.Close()
	if err := Watch(ctx, Options{URL: strings.Replace(plain.URL, "http:", "https:", 1), Ref: "/d"}, nil); err == nil || ctx.Err() != nil {
		t.Errorf("https to http: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	k := &taker{stop: 1}
	if err := Watch(ctx, Options{URL: srv.URL, Ref: "/d", TLS: &tls.Config{RootCAs: roots}}, k.take); err != errEnough {
		t.Errorf("known authority: %v", err)
	}
}

// A connection that has died without a word is not used again, though HTTP/2 would: over it, nothing ever comes.
func TestDeadConnectionIsLeft(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, watching)
		if r.Header.Get("Last-Event-ID") != "" {
			fmt.Fprint(w, block(1))
		} else {
			fmt.Fprint(w, block(0))
		}
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	defer open.Wait()
	defer l.Close()
	var dead atomic.Bool // what the first connection has become
	open.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer c.Close()
				to, err := net.Dial("tcp", srv.Listener.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				carry := func(to, from net.Conn) {
					defer to.Close()
					b := make([]byte, 4096)
					for {
						k, err := from.Read(b)
						if err != nil {
							return
						}
						if n == 0 && dead.Load() {
							continue
						}
						to.Write(b[:k])
					}
				}
				open.Go(func() { carry(c, to) })
				carry(to, c)
			})
		}
	})
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	frames := 0
	err = Watch(t.Context(), Options{URL: "https://" + l.Addr().String(), Ref: "/d", Liveness: 500 * time.Millisecond, Timeout: 20 * time.Second,
		TLS: &tls.Config{RootCAs: pool}}, func(Frame) error {
		if frames++; frames == 2 {
			return errEnough
		}
		dead.Store(true)
		return nil
	})
	if err != errEnough {
		t.Errorf("%d frames, then %v", frames, err)
	}
}
