//go:build unix

package box

import (
	"crypto/tls"
	"net"
	"testing"
	"time"
)

// A client that waits for its poll may say what it likes, in TLS or not. That it leaves is noticed, whatever it has said before.
func TestWhetherAClientHasLeft(t *testing.T) {
	for _, secure := range []bool{false, true} {
		for _, says := range []int{0, 2, 100_000} {
			for how, leave := range map[string]func(c *net.TCPConn){
				"closes":             func(c *net.TCPConn) { c.Close() },
				"closes with a bang": func(c *net.TCPConn) { c.SetLinger(0); c.Close() },
				"will say no more":   func(c *net.TCPConn) { c.CloseWrite() }, // to net/http, too, that is leaving
			} {
				client, conn := pair(t)
				if secure {
					conn = tls.Server(conn, nil)
				}
				client.Write(make([]byte, says))
				for range 5 {
					if hungUp(conn) {
						t.Errorf("TLS %v: a client that has said %d bytes and waits has left", secure, says)
					}
					time.Sleep(time.Millisecond)
				}
				client.Write(make([]byte, says))
				leave(client)
				for end := time.Now().Add(10 * time.Second); !hungUp(conn); time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						t.Errorf("TLS %v: a client that says %d bytes and %s has not left", secure, says, how)
						break
					}
				}
			}
		}
	}
}
