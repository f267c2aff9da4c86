//go:build linux

package faults_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// load changes a tree at random: files written, cut, linked and renamed over each other, directories with content renamed, swapped, moved out
// and back, chains made and filled at once, whole subtrees removed. The names are few, so that changes meet. What is not possible
// at the moment is left out.
type load struct {
	dir     string // the root
	outside string // a directory of the same file system beside it
	pause   time.Duration
	steps   atomic.Int64 // made so far
}

// newLoad works on the root of s.
func newLoad(t testing.TB, s *service) *load {
	t.Helper()
	l := &load{dir: s.root, outside: s.root + "-outside", pause: time.Millisecond}
	if err := os.MkdirAll(l.outside, 0o755); err != nil {
		t.Fatal(err)
	}
	return l
}

// fill makes the tree that a story begins with.
func (l *load) fill(r *rand.Rand, n int) {
	for range n {
		l.step(r)
	}
}

// begin changes things until end is called, which returns when all is quiet.
func (l *load) begin(r *rand.Rand, workers int) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for range workers {
		own := rand.New(rand.NewPCG(r.Uint64(), 2))
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				l.step(own)
				if i%4 == 0 {
					time.Sleep(l.pause)
				}
			}
		})
	}
	return sync.OnceFunc(func() {
		cancel()
		all.Wait()
	})
}

// while runs f under load.
func (l *load) while(r *rand.Rand, f func()) {
	end := l.begin(r, 2)
	defer end()
	f()
}

var oddNames = []string{"é", "b\xff\xfe", "new\nline", `quo"te`, `back\slash`, "#12", " ", "tab\t", "\u2028"}

// someDir is a directory that may be there, at one to three levels.
func (l *load) someDir(r *rand.Rand) string {
	p := l.dir
	for range 1 + r.IntN(3) {
		p += fmt.Sprintf("/d%d", r.IntN(5))
	}
	return p
}

func (l *load) someFile(r *rand.Rand) string {
	if r.IntN(10) == 0 {
		return l.someDir(r) + "/" + oddNames[r.IntN(len(oddNames))]
	}
	return fmt.Sprintf("%s/f%d", l.someDir(r), r.IntN(8))
}

// writeFile is os.WriteFile that does not wait for a reader, should the other writer have put a pipe there.
func writeFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// step makes one change, or a few that belong together.
func (l *load) step(r *rand.Rand) {
	l.steps.Add(1)
	switch r.IntN(28) {
	case 0, 1, 2, 3, 4, 5:
		p := l.someFile(r)
		if writeFile(p, make([]byte, r.IntN(3000))) != nil {
			os.MkdirAll(filepath.Dir(p), 0o755)
			writeFile(p, []byte("x"))
		}
	case 6, 7:
		if f, err := os.OpenFile(l.someFile(r), os.O_WRONLY|os.O_APPEND|unix.O_NONBLOCK, 0); err == nil {
			f.WriteString("more")
			f.Close()
		}
	case 8:
		os.Truncate(l.someFile(r), int64(r.IntN(100)))
	case 9:
		os.Chmod(l.someFile(r), os.FileMode(0o600+r.IntN(0o100)))
	case 10:
		when := time.Unix(int64(1e9+r.IntN(1e6)), 0)
		os.Chtimes(l.someFile(r), when, when)
	case 11, 12, 13:
		os.Rename(l.someFile(r), l.someFile(r))
	case 14, 15, 16:
		os.Rename(l.someDir(r), l.someDir(r))
	case 17:
		unix.Renameat2(unix.AT_FDCWD, l.someDir(r), unix.AT_FDCWD, l.someDir(r), unix.RENAME_EXCHANGE)
	case 18:
		unix.Renameat2(unix.AT_FDCWD, l.someFile(r), unix.AT_FDCWD, l.someFile(r), unix.RENAME_EXCHANGE)
	case 19:
		chain := fmt.Sprintf("%s/chain%d/a/b/c/d", l.dir, r.IntN(10))
		os.MkdirAll(chain, 0o755)
		writeFile(chain+"/f", []byte("x"))
		writeFile(filepath.Dir(chain)+"/g", []byte("y"))
	case 20:
		os.RemoveAll(fmt.Sprintf("%s/chain%d", l.dir, r.IntN(10)))
	case 21:
		os.RemoveAll(l.someDir(r))
	case 22:
		os.Remove(l.someFile(r))
	case 23:
		os.Link(l.someFile(r), l.someFile(r))
	case 24:
		p := l.someFile(r)
		if os.Symlink("/nowhere", p) != nil {
			unix.Mkfifo(p, 0o600)
		}
	case 25:
		out := fmt.Sprintf("%s/out%d", l.outside, r.IntN(3))
		if os.Rename(l.someDir(r), out) != nil {
			os.Rename(out, l.someDir(r))
		}
	case 26:
		p := l.someDir(r)
		for i := range r.IntN(60) {
			writeFile(fmt.Sprintf("%s/burst%d", p, i), nil)
		}
	case 27:
		p := l.someDir(r)
		for i := range 60 {
			os.Remove(fmt.Sprintf("%s/burst%d", p, i))
		}
	}
}
