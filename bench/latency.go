//go:build linux

package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// latencies are of creates, in the order made; 0: never told.
type latencies []time.Duration

// quantiles of what was told, and how many were not.
func (l latencies) quantiles() (p50, p99 time.Duration, lost int) {
	var told []time.Duration
	for _, d := range l {
		if d == 0 {
			lost++
		} else {
			told = append(told, d)
		}
	}
	if len(told) == 0 {
		return 0, 0, lost
	}
	slices.Sort(told)
	at := func(q float64) time.Duration { return told[min(int(q*float64(len(told))), len(told)-1)] }
	return at(0.5), at(0.99), lost
}

// latencyName is the name of the nth file: of one length, to be found in any format.
func latencyName(n int) string { return fmt.Sprintf("lat%06d", n) }

const latencyNameLen = len("lat000000")

// measureLatency makes n empty files in dir, one each pause, numbered from base on, and notes when the name of each comes
// out of f.
func measureLatency(f *os.File, dir string, base, n int, pause time.Duration) (latencies, error) {
	fd := int(f.Fd()) // blocking: no other goroutine stands between the kernel and the reader
	made := make([]time.Time, n)
	told := make([]atomic.Int64, n) // ns since start
	start := time.Now()
	var left atomic.Int64
	left.Store(int64(n))
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread() // a thread that ends takes the processes with it that it started
		buf := make([]byte, 256<<10)
		kept := 0 // bytes of an unfinished name at the beginning of buf
		polls := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for left.Load() > 0 {
			if k, err := unix.Poll(polls, 1000); err != nil && err != unix.EINTR {
				return
			} else if k <= 0 {
				if left.Load() < 0 {
					return
				}
				continue
			}
			k, err := unix.Read(fd, buf[kept:])
			if err == unix.EAGAIN || err == unix.EINTR {
				continue
			}
			if err != nil || k <= 0 {
				return
			}
			now := time.Since(start)
			b := buf[:kept+k]
			for i := 0; i+latencyNameLen <= len(b); i++ {
				if b[i] != 'l' || b[i+1] != 'a' || b[i+2] != 't' {
					continue
				}
				no := 0
				for _, c := range b[i+3 : i+latencyNameLen] {
					if c < '0' || c > '9' {
						no = math.MinInt
						break
					}
					no = no*10 + int(c-'0')
				}
				if no -= base; no >= 0 && no < n && told[no].CompareAndSwap(0, int64(now)) {
					left.Add(-1)
				}
			}
			kept = copy(buf, b[max(0, len(b)-latencyNameLen+1):])
		}
	}()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for i := range n {
		path := filepath.Join(dir, latencyName(base+i))
		made[i] = time.Now()
		fd, err := unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return nil, err
		}
		unix.Close(fd)
		rest := unix.NsecToTimespec(int64(pause))
		_ = unix.Nanosleep(&rest, nil)
	}
	select {
	case <-done:
	case <-time.After(10 * time.Second): // what is not told by then is lost
		left.Store(-1)
		<-done
	}
	out := make(latencies, n)
	for i := range out {
		if at := told[i].Load(); at > 0 {
			out[i] = max(time.Duration(at)-made[i].Sub(start), 1)
		}
	}
	return out, nil
}
