package main

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"
)

// cancelOnEOF calls cancel when the user ends the input of a terminal, with ^D. What is typed
// is ignored, and so is an input that is no terminal, or where out is a pipe: what is typed then may be for its
// reader, such as a pager. After stop cancel is not called any more; a Read that
// waits for the terminal stays behind until the process ends, since nothing can wake it.
func cancelOnEOF(in io.Reader, out io.Writer, cancel func()) (stop func()) {
	f, ok := in.(*os.File)
	if w, _ := out.(*os.File); !ok || isPipe(w) || !term.IsTerminal(int(f.Fd())) {
		return func() {}
	}
	ignoreBackgroundRead()
	var mu sync.Mutex
	stopped := make(chan struct{})
	go func() {
		buf := make([]byte, 256)
		for {
			_, err := f.Read(buf)
			if errors.Is(err, syscall.EIO) { // in the background the terminal is not ours: it may become so
				select {
				case <-stopped:
					return
				case <-time.After(time.Second):
				}
				continue
			}
			if err == nil {
				continue
			}
			mu.Lock()
			defer mu.Unlock()
			select {
			case <-stopped:
			default:
				cancel()
			}
			return
		}
	}()
	return func() {
		mu.Lock()
		defer mu.Unlock()
		close(stopped)
	}
}
