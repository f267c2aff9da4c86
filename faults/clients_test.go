//go:build linux

package faults_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/client"
)

// cutter is a proxy that cuts each connection after a random number of bytes, in the middle of whatever comes, and
// now and then holds it up before.
type cutter struct {
	listener net.Listener
	target   string
	calm     atomic.Bool // it cuts no more

	mu   sync.Mutex
	dice *rand.Rand
	all  sync.WaitGroup
}

// cut puts a proxy before s until the test ends.
func cut(t testing.TB, s *service, r *rand.Rand) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	p := &cutter{listener: l, target: s.addr, dice: rand.New(rand.NewPCG(r.Uint64(), 3))}
	p.all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.all.Go(func() { p.serve(conn.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.all.Wait()
	})
	return p
}

func (p *cutter) url() string { return "http://" + p.listener.Addr().String() }

func (p *cutter) roll(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dice.IntN(n)
}

func (p *cutter) serve(from *net.TCPConn) {
	defer from.Close()
	conn, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	to := conn.(*net.TCPConn)
	defer to.Close()
	go func() {
		io.Copy(to, from) // the request; ends with either connection
		to.CloseWrite()
	}()
	left := 1 + p.roll(1<<(4+p.roll(18))) // in the head, in a block, or long after
	if p.roll(4) == 0 {
		from.SetLinger(0) // what is under way is lost too
	}
	if p.calm.Load() {
		io.Copy(from, to)
		return
	}
	to.SetReadDeadline(time.Now().Add(time.Duration(500+p.roll(3000)) * time.Millisecond)) // quiet ones are cut as well
	for left > 0 {
		n, err := io.CopyN(from, to, int64(min(left, 4096)))
		if left -= int(n); err != nil {
			return
		}
		if p.roll(200) == 0 {
			time.Sleep(time.Duration(p.roll(300)) * time.Millisecond)
		}
	}
}

// moody is a consumer that dawdles, stops reading for a while, and leaves when it likes.
func moody(r *rand.Rand) func() error {
	own := rand.New(rand.NewPCG(r.Uint64(), 4)) // used by the consumer's goroutine only
	return func() error {
		switch own.IntN(3000) {
		case 0:
			time.Sleep(time.Duration(own.IntN(pick(1000, 10000))) * time.Millisecond)
		case 1, 2:
			return errLeave
		}
		return nil
	}
}

// Clients stall, leave and come back, over connections that break anywhere, while the server is restarted too. None of them costs another anything.
func TestClientsComeAndGo(t *testing.T) {
	t.Parallel()
	r := dice(t)
	s := newService(t, t.TempDir())
	l := newLoad(t, s)
	l.fill(r, 1000)
	s.start()
	s.live()
	book := newLedger()
	var all []*consumer
	var cutters []*cutter
	newCutter := func() *cutter {
		cutters = append(cutters, cut(t, s, r))
		return cutters[len(cutters)-1]
	}
	add := func(proxy *cutter, mood func() error) {
		c := follow(t, s, func(c *consumer) { c.book = book })
		c.begun(t) // in peace: a snapshot that is cut begins again
		c.pause()
		if c.mood = mood; proxy != nil {
			c.base = proxy.url
		}
		c.run(t)
		all = append(all, c)
	}
	add(nil, nil)
	add(nil, moody(r))
	for range 3 {
		add(newCutter(), nil)
	}
	add(newCutter(), moody(r))
	ours, through := followWithClient(t, s, book)
	ours.begun(t)
	through(newCutter())
	all = append(all, ours)
	l.while(r, func() {
		for range pick(2, 10) {
			time.Sleep(pick[time.Duration](2, 20) * time.Second)
			s.kill()
			s.start()
			s.live()
		}
	})
	for _, p := range cutters { // else whoever waits longer after each failure needs luck to get the rest in time
		p.calm.Store(true)
	}
	for _, c := range all {
		c.holds(t, s)
		c.neverGone(t)
		_, notes, _, cuts := c.where()
		t.Logf("%d notifications over %d connections", notes, cuts)
	}
	s.stop()
}

// followWithClient is a consumer that leaves reading and going on to package client. through has it connect through a proxy from now on.
func followWithClient(t testing.TB, s *service, book *ledger) (_ *consumer, through func(*cutter)) {
	t.Helper()
	var mu sync.Mutex
	var conn net.Conn
	target := s.addr
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		var err error
		conn, err = (&net.Dialer{}).DialContext(ctx, network, target)
		return conn, err
	}
	c := &consumer{book: book, facts: make(map[notify.FileID]fact)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	var snapshot []string
	inSnapshot := false
	o := client.Options{URL: "http://" + s.addr, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Ref: rootName, Recursive: true, Fields: notify.FieldsAll, Since: "snapshot",
		OnReset: func(client.Reset) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			inSnapshot, snapshot = true, nil
			c.reset(&block{data: `{"reason":"snapshot"}`})
			return nil
		},
		OnCursor: func(at notify.Cursor) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if inSnapshot {
				inSnapshot = false
				c.begin(&block{id: at.String()}, snapshot)
			} else {
				c.moveTo(at.String())
			}
			return nil
		},
		OnRetry: func(error, time.Duration) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.cuts++
		},
	}
	go func() {
		done <- client.Watch(ctx, o, func(f client.Frame) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			switch {
			case inSnapshot:
				snapshot = append(snapshot, string(f.Data))
			case f.Cursor.Seq == 0:
				c.fault("a frame without cursor: %s", clip(string(f.Data)))
			default:
				c.take(&block{data: string(f.Data), id: f.Cursor.String()})
			}
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the client ended with %v", err)
		}
	})
	return c, func(p *cutter) {
		mu.Lock()
		defer mu.Unlock()
		target = p.listener.Addr().String()
		conn.Close()
	}
}
