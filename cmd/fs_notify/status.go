package main

import (
	"io"
	"os"
	"runtime"
	"strconv"
	"sync"

	"golang.org/x/term"
)

// status is standard error: lines that stay and, on a terminal, one line of progress below them, which is
// redrawn. Any goroutine may use it.
type status struct {
	tty bool

	mu    sync.Mutex
	w     io.Writer
	shown bool // a line of progress is on the screen
}

func newStatus(w io.Writer) *status {
	f, ok := w.(*os.File)
	return &status{w: w, tty: ok && term.IsTerminal(int(f.Fd()))}
}

// file is the path of the file that it goes to; "" if that is none, or cannot be known.
func (s *status) file() string {
	if f, ok := s.w.(*os.File); ok {
		return fileOf(f)
	}
	return ""
}

// fileOf is the path of a regular file that is open; "" of anything else, or where the system does not say.
func fileOf(f *os.File) string {
	if !isRegular(f) || runtime.GOOS != "linux" {
		return ""
	}
	path, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
	return path
}

const eraseLine = "\r\x1b[K"

// Write writes lines that stay.
func (s *status) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	return s.w.Write(p)
}

// progress draws the line anew; nothing happens where there is no terminal.
func (s *status) progress(line string) {
	if !s.tty {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	width := 80
	if f, ok := s.w.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			width = w
		}
	}
	if r := []rune(line); len(r) >= width {
		line = string(r[:width-1])
	}
	io.WriteString(s.w, line)
	s.shown = true
}

// clear takes the line of progress away.
func (s *status) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
}

func (s *status) erase() {
	if s.shown {
		io.WriteString(s.w, eraseLine)
		s.shown = false
	}
}
