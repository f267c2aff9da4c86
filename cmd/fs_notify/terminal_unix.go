//go:build unix

package main

import (
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// ignoreBackgroundRead makes a Read from the terminal fail, instead of stopping the process, while it runs in the
// background of a shell.
func ignoreBackgroundRead() { signal.Ignore(syscall.SIGTTIN) }

// cancelOnClosedPipe calls cancel when nobody can read out any more, so that the command behind "| head" ends at
// once and not at the next notification. stop waits until cancel cannot be called any more.
func cancelOnClosedPipe(out *os.File, cancel func()) (stop func()) {
	if !isPipe(out) {
		return func() {}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return func() {}
	}
	fds := []unix.PollFd{{Fd: int32(out.Fd())}, {Fd: int32(r.Fd())}} // no events: only errors and hang-ups
	var done sync.WaitGroup
	done.Go(func() {
		for {
			_, err := unix.Poll(fds, -1)
			if err == unix.EINTR {
				continue
			}
			if err == nil && fds[1].Revents == 0 && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0 {
				cancel()
			}
			return
		}
	})
	return func() {
		w.Close()
		done.Wait()
		r.Close()
	}
}
