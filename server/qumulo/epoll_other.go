//go:build !linux

package qumulo

import (
	"errors"
	"net"
)

// There are no writers here: each stream has a goroutine.

type poller struct{}

type event struct {
	slot, turn uint32
	gone       bool
}

var errAgain = errors.New("the socket is full")

func newPoller() (*poller, error)                   { return nil, errors.ErrUnsupported }
func (*poller) run(chan<- []event, <-chan struct{}) {}
func (*poller) add(int, uint32, uint32) error       { return errors.ErrUnsupported }
func (*poller) remove(int)                          {}
func (*poller) close()                              {}
func takeSocket(*net.TCPConn) (int, error)          { return -1, errors.ErrUnsupported }
func writeSocket(int, []byte) (int, error)          { return 0, errors.ErrUnsupported }
func whyGone(int) error                             { return errHungUp }
func closeSocket(int, bool)                         {}
