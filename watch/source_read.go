//go:build linux

package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	srcBuffer = 1 << 20  // bytes of one read: more than a full inotify queue of short names
	srcFirst  = 64 << 10 // until one of so many comes: memory costs when it is used first, which would be the first change
	// Reading at once costs a wake-up per change. So under flow the reader sleeps between
	// reads: up to srcPause, which bounds what a change waits. Flow begins with srcQuick reads
	// within srcGap of each other, or with one of srcMuch bytes, and ends with one below srcLittle.
	srcPause  = 2 * time.Millisecond
	srcGap    = time.Millisecond
	srcQuick  = 16
	srcMuch   = 16 << 10
	srcLittle = 512

	srcDoubt = 5 * time.Second // a queue that is dead says nothing: it is found out by reading
)

// srcQueue is a queue of the kernel, read without blocking into a buffer of its own. Only the goroutine in Next
// uses it.
type srcQueue interface {
	// fd is what can be waited for until it is readable; -1 if there is nothing to wait for. It may become that, and is always the same before.
	fd() int
	// read replaces the buffer, which parse has emptied, and returns how many bytes came: none if there are none.
	read() (bytes int, err error)
	// short says that the last read took all there was.
	short() bool
	// parse takes records out of the buffer; an error comes alone. No records and no error: the buffer is empty.
	parse(recs []Record) (n int, err error)
	// empty says that parse would return nothing.
	empty() bool
}

// srcPump is Next and Close over some queues. One of them, the last, is read first and given out last: so a file made in
// a directory that it watches comes out behind all that happened before, in any of them.
type srcPump struct {
	queues []srcQueue
	last   atomic.Int32 // index in queues: which one holds the barrier directory
	tail   srcQueue     // what last was when the queues were read

	running sync.Mutex // held in next
	done    <-chan struct{}
	stop    func() bool // ends following done

	at    time.Time // of the last read
	quick int
	flow  bool

	closed atomic.Bool
	wakeMu sync.Mutex
	wake   int // eventfd; -1 once closed

	// What is waited for while there is no flow, by Go's own poller: an epoll of wake, and of each queue for one answer to one question. A
	// thread that sits in a system call costs a millisecond of CPU after each change that comes alone, as Go's scheduler looks every 20 µs
	// for ten milliseconds whether it is out again; and were the queues always asked for, each record under flow would wake somebody.
	// A pause under flow is no system call for the same reason.
	idle    *os.File
	idleFd  int
	idleRaw syscall.RawConn
}

func (p *srcPump) init(queues ...srcQueue) error {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	p.wake = fd
	p.queues, p.tail = queues, queues[0]
	if err := p.initIdle(); err != nil {
		unix.Close(p.wake)
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

func (p *srcPump) initIdle() (err error) {
	if p.idleFd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if err = unix.SetNonblock(p.idleFd, true); err != nil { // or Go would not poll it
		unix.Close(p.idleFd)
		return err
	}
	p.idle = os.NewFile(uintptr(p.idleFd), "epoll")
	p.idleRaw, err = p.idle.SyscallConn()
	if err == nil {
		err = unix.EpollCtl(p.idleFd, unix.EPOLL_CTL_ADD, p.wake, &unix.EpollEvent{Events: unix.EPOLLIN})
	}
	for _, q := range p.queues {
		if fd := q.fd(); err == nil && fd >= 0 {
			err = unix.EpollCtl(p.idleFd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLONESHOT})
		}
	}
	if err != nil {
		p.idle.Close()
	}
	return err
}

func (p *srcPump) nudge() {
	p.wakeMu.Lock()
	defer p.wakeMu.Unlock()
	if p.wake >= 0 {
		_, _ = unix.Write(p.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // can only fail with EAGAIN: it is nudged already
	}
}

// close makes next return ErrClosed, waits until it has, and says whether it is the first to do so.
func (p *srcPump) close() bool {
	if p.closed.Swap(true) {
		return false
	}
	p.nudge()
	p.running.Lock()
	defer p.running.Unlock()
	if p.stop != nil {
		p.stop()
	}
	p.wakeMu.Lock()
	defer p.wakeMu.Unlock()
	p.idle.Close()
	unix.Close(p.wake)
	p.wake = -1
	return true
}

func (p *srcPump) next(ctx context.Context, recs []Record) (n int, drained bool, err error) {
	p.running.Lock()
	defer p.running.Unlock()
	if done := ctx.Done(); done != p.done { // once for a caller that uses one context
		if p.stop != nil {
			p.stop()
		}
		p.done, p.stop = done, context.AfterFunc(ctx, p.nudge)
	}
	for {
		if p.closed.Load() {
			return 0, false, ErrClosed
		}
		if err := ctx.Err(); err != nil {
			return 0, false, err
		}
		if n, err = p.parse(recs); n > 0 || err != nil {
			return n, err == nil && p.drained(), err
		}
		if len(recs) == 0 {
			return 0, false, nil
		}
		if p.drained() {
			if err := p.wait(); err != nil {
				return 0, false, err
			}
		}
		if err := p.read(); err != nil {
			return 0, false, err
		}
	}
}

// parse gives out what has been read, the tail's last.
func (p *srcPump) parse(recs []Record) (n int, err error) {
	for _, q := range p.queues {
		for q != p.tail {
			if n, err = q.parse(recs); n > 0 || err != nil {
				return n, err
			}
			if q.short() {
				break
			}
			if _, err = q.read(); err != nil { // all that happened before the tail was read
				return 0, err
			}
		}
	}
	return p.tail.parse(recs)
}

func (p *srcPump) drained() bool {
	for _, q := range p.queues {
		if !q.empty() || !q.short() {
			return false
		}
	}
	return true
}

// read reads every queue once, the tail first.
func (p *srcPump) read() error {
	p.tail = p.queues[p.last.Load()]
	sum, err := p.tail.read()
	if err != nil {
		return err
	}
	for _, q := range p.queues {
		if q == p.tail {
			continue
		}
		n, err := q.read()
		if err != nil {
			return err
		}
		sum += n
	}
	now := time.Now()
	switch quick := now.Sub(p.at) < srcGap; {
	case p.flow:
		p.flow = sum >= srcLittle
		p.quick = 0
	case sum >= srcMuch:
		p.flow = true
	case quick && sum > 0:
		p.quick++
		p.flow = p.quick >= srcQuick
	case !quick:
		p.quick = 0
	}
	p.at = now
	return nil
}

// wait returns when a queue has something or next should look at its context; under flow, when the pause is over.
func (p *srcPump) wait() error {
	if p.flow {
		time.Sleep(srcPause - time.Since(p.at)) // in no system call: see idle
	} else if err := p.waitIdle(); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	var b [8]byte
	_, _ = unix.Read(p.wake, b[:]) // EAGAIN: nobody has nudged
	return nil
}

// waitIdle returns when a queue has something, or wake, or when it is time to see for oneself.
func (p *srcPump) waitIdle() error {
	for _, q := range p.queues {
		if fd := q.fd(); fd >= 0 {
			if unix.EpollCtl(p.idleFd, unix.EPOLL_CTL_MOD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT}) != nil {
				return nil // something is wrong with the queue: reading it shows what
			}
		}
	}
	if err := p.idle.SetReadDeadline(time.Now().Add(srcDoubt)); err != nil {
		return err
	}
	var failed error
	err := p.idleRaw.Read(func(uintptr) bool {
		var events [1]unix.EpollEvent
		n, err := unix.EpollWait(p.idleFd, events[:], 0)
		if err != nil && !errors.Is(err, unix.EINTR) {
			failed = err
		}
		return n > 0 || err != nil
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return errors.Join(err, failed)
}

// srcBuf is the part of a queue that all have.
type srcBuf struct {
	file int
	buf  []byte
	off  int // parsed so far
	end  int
	full bool // more may be waiting in the kernel
	room int  // a read that leaves less free may have left something behind
}

func (b *srcBuf) fd() int     { return b.file }
func (b *srcBuf) short() bool { return !b.full }

func (b *srcBuf) read() (int, error) {
	switch {
	case b.buf == nil:
		b.buf = make([]byte, srcFirst)
	case b.full && len(b.buf) < srcBuffer:
		b.buf = make([]byte, srcBuffer)
	}
	for {
		n, err := unix.Read(b.file, b.buf)
		switch {
		case err == nil && n > 0:
			b.off, b.end = 0, n
			b.full = len(b.buf)-n < b.room
			return n, nil
		case errors.Is(err, unix.EAGAIN):
			b.off, b.end, b.full = 0, 0, false
			return 0, nil
		case errors.Is(err, unix.EINTR):
		default:
			b.off, b.end, b.full = 0, 0, false
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
	}
}

// srcWatched is a queue with its watches. Watch and unwatch are called while Next runs.
type srcWatched interface {
	srcQueue
	watch(ref DirRef, at Place) error
	unwatch(ref DirRef)
	close() error
}

// srcKernel is a source over one queue.
type srcKernel struct {
	name string
	caps Caps
	q    srcWatched
	pump srcPump
}

func newSrcKernel(name string, caps Caps, q srcWatched) (Source, error) {
	s := &srcKernel{name: name, caps: caps, q: q}
	if err := s.pump.init(q); err != nil {
		return nil, fmt.Errorf("%s: %w", name, errors.Join(err, q.close()))
	}
	return s, nil
}

func (s *srcKernel) Name() string                     { return s.name }
func (s *srcKernel) Caps() Caps                       { return s.caps }
func (s *srcKernel) Watch(ref DirRef, at Place) error { return s.q.watch(ref, at) }
func (s *srcKernel) Unwatch(ref DirRef)               { s.q.unwatch(ref) }

func (s *srcKernel) Next(ctx context.Context, recs []Record) (int, bool, error) {
	return s.pump.next(ctx, recs)
}

func (s *srcKernel) Close() error {
	if !s.pump.close() {
		return nil
	}
	return s.q.close()
}
