//go:build !unix

package box

import "net"

// hungUp cannot tell here: a client that left is noticed when its poll is answered.
func hungUp(net.Conn) bool { return false }

// stuck cannot tell here: a client that takes nothing is noticed while it is answered.
func stuck(net.Conn) bool { return false }
