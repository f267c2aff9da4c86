//go:build unix

package box

import (
	"crypto/tls"
	"net"
	"testing"
	"time"
)

// Clients that take nothing do not hold up the answers to all others, which come after theirs.
func TestStuckClientsHoldNobodyUp(t *testing.T) {
	ended := 0
	a := New(Options{})
	a.Observer = counter{&ended}
	var polls []*poll
	for range 20 {
		client, conn := pair(t)
		client.SetReadBuffer(4096)
		conn.(*net.TCPConn).SetWriteBuffer(4096)
		for full := false; !full; { // until nothing goes in any more
			conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			n, err := conn.Write(make([]byte, 1<<16))
			full = n == 0 && err != nil && stuck(conn)
		}
		conn.SetWriteDeadline(time.Time{})
		if !stuck(tls.Server(conn, nil)) {
			t.Fatal("below TLS it is not stuck")
		}
		polls = append(polls, &poll{conn: conn, release: func() {}})
	}
	began := time.Now()
	for _, p := range polls {
		a.reply(p, newChange)
	}
	if took := time.Since(began); took > time.Duration(len(polls))*sendWithin/4 {
		t.Errorf("%d clients that take nothing hold the others up for %v", len(polls), took)
	}
	if ended != len(polls) {
		t.Errorf("%d of %d ended as their client's doing", ended, len(polls))
	}
}

// pair gives the two ends of a new connection.
func pair(t *testing.T) (client *net.TCPConn, conn net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if conn, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return c.(*net.TCPConn), conn
}

// counter counts the polls that their clients have ended.
type counter struct{ n *int }

func (counter) StreamOpened(string) {}
func (c counter) StreamClosed(_, reason string) {
	if reason == "client" {
		*c.n++
	}
}
