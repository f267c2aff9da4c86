package watch

import (
	"bytes"
	"slices"
	"sync/atomic"
	"time"
)

// left is what was found and not looked at: a large directory that comes, or many, are not looked at in one pass, as all else would wait for that. A name in a
// watched directory may be looked at as late as one likes, as records tell what happens to it meanwhile. The goroutine of the tree works on it; size may be read from any.
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

// How much of it a pass takes, and how much of directories it lists before it leaves the rest.
const (
	takeNames = 4096
	takeDirs  = 1024
	listNames = 4096
	listTime  = 100 * time.Millisecond
)

// maxInVain bounds how often the bound of what is listed of new directories is doubled. What is left of one is forgotten with it if it cannot be told, as what
// stood there before was not found yet: that may be among what was left, and so more is listed in the next pass, until it is found.
const maxInVain = 16

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

// has says whether names of a directory are left.
func (l *left) has(r ref) bool {
	return slices.ContainsFunc(l.names, func(n leftNames) bool { return n.dir == r })
}

// give moves to another one what is of directories that were told, and says whether anything is of others: that is forgotten.
func (l *left) give(to *left, told func(r ref) bool) (inVain bool) {
	for r := range l.dirs {
		if told(r) {
			to.list(r)
		} else {
			inVain = true
		}
	}
	for _, n := range l.names {
		if told(n.dir) {
			to.look(n)
		} else {
			inVain = true
		}
	}
	return inVain
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

// bound is how much of directories is listed in a pass, by all workers: so many names and so much time at the least. So there is progress in each.
type bound struct {
	names int64         // at the least, 1 or more; directories count, too
	time  time.Duration // at the least, from the first of them on
	seen  atomic.Int64
	since atomic.Int64 // ns from processStart, and one; 0: nothing was counted yet
}

var processStart = time.Now()

// count counts a name that is looked at, or a directory of which all are known.
func (b *bound) count() {
	b.seen.Add(1)
	if b.since.Load() == 0 {
		b.since.CompareAndSwap(0, int64(time.Since(processStart))+1)
	}
}

func (b *bound) passed() bool {
	return b.seen.Load() >= b.names && time.Since(processStart)-time.Duration(b.since.Load()) >= b.time
}
