package watch

import (
	"bytes"
	"slices"
	"sync/atomic"
	"time"
)

// left is what was found and not looked at: a large directory that comes, or many, are not looked at in one pass, as all else would wait for that. A name in a
// watched directory may be looked at as late as one likes, as records tell what happens to it meanwhile.
type left struct {
	dirs  map[ref]struct{} // to be listed
	names []leftNames      // to be looked at, the oldest first
	size  atomic.Int64     // how many they are
}

// leftNames are names of one directory.
type leftNames struct {
	dir   ref
	names []byte // each ends with a NUL
}

// How much of it a pass takes, and for how long one lists directories before it leaves the rest.
const (
	takeNames = 4096
	takeDirs  = 1024
	listTime  = 100 * time.Millisecond
)

func (l *left) empty() bool { return len(l.dirs) == 0 && len(l.names) == 0 }

func (l *left) list(r ref) {
	if l.dirs == nil {
		l.dirs = make(map[ref]struct{})
	}
	if _, ok := l.dirs[r]; !ok {
		l.dirs[r] = struct{}{}
		l.size.Add(1)
	}
}

func (l *left) look(n leftNames) {
	l.names = append(l.names, n)
	l.size.Add(int64(bytes.Count(n.names, []byte{0})))
}

// drop forgets a directory, before its ref is that of another one.
func (l *left) drop(r ref) {
	if _, ok := l.dirs[r]; ok {
		delete(l.dirs, r)
		l.size.Add(-1)
	}
	l.names = slices.DeleteFunc(l.names, func(n leftNames) bool {
		if n.dir == r {
			l.size.Add(-int64(bytes.Count(n.names, []byte{0})))
		}
		return n.dir == r
	})
}

// take makes some of it dirty: directories only when no name is left, as they bring more of them.
func (l *left) take(d *dirt) {
	n := 0
	for ; n < takeNames && len(l.names) > 0; n++ {
		at := &l.names[0]
		name, rest, _ := bytes.Cut(at.names, []byte{0})
		d.touchBytes(at.dir, name, 0)
		if at.names = rest; len(rest) == 0 {
			l.names[0] = leftNames{}
			l.names = l.names[1:]
		}
	}
	if n == 0 {
		for r := range l.dirs {
			if n == takeDirs {
				break
			}
			delete(l.dirs, r)
			d.list(r)
			n++
		}
	}
	l.size.Add(-int64(n))
	if l.empty() {
		l.dirs, l.names = nil, nil
	}
}

// bound is for how long the directories of a pass are listed, from the first on that could be opened, by any of the workers. The first name is always looked
// at: there is progress.
type bound struct {
	most  time.Duration
	begun atomic.Int64 // ns since processStart, and one; 0: not yet
}

var processStart = time.Now()

// begin says whether it begins now.
func (b *bound) begin() bool {
	return b.begun.Load() == 0 && b.begun.CompareAndSwap(0, int64(time.Since(processStart))+1)
}

func (b *bound) passed() bool {
	begun := b.begun.Load()
	return begun != 0 && time.Since(processStart)-time.Duration(begun) >= b.most
}
