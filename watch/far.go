package watch

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// errSilent says that nobody can look now, as the machine or the process that has to answer for a file system does not. It is no sign that anything has gone.
var errSilent = errors.New("the file system does not answer")

// far is a mounted file system that another machine or process has to answer for. A call to it may take for ever, and would keep the tree's goroutine from
// all other roots for as long: so each is made in a goroutine of its own, and given up when the file system is found to be silent.
type far struct {
	id    uint64 // in the mount table
	point string
	hung  atomic.Int32 // calls that were given up and have not returned: until then nobody else is sent there
}

// A call that takes longer than farDoubt may only be slow: the file system is asked something simple then, and has farSilent to answer.
const (
	farDoubt  = time.Second
	farSilent = 2 * time.Second
)

// farTypes are the file systems that are far, by their names in the mount table. autofs is not: it answers by itself while it waits for what it mounts.
var farTypes = []string{"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "afs", "coda", "ncpfs", "fuse", "fuseblk", "virtiofs", "gfs2", "ocfs2", "lustre", "panfs", "gpfs",
	"beegfs", "orangefs", "pvfs2", "vboxsf", "vmhgfs"}

func isFar(fsType string) bool {
	return strings.HasPrefix(fsType, "fuse.") || slices.Contains(farTypes, fsType)
}

// farsOf gives what is far in a mount table, the deeper first. What was known before stays, with what hangs in it.
func farsOf(table mountedBy, known []*far) (fars []*far) {
	for id, l := range table {
		if !isFar(l.fsType) {
			continue
		}
		i := slices.IndexFunc(known, func(f *far) bool { return f.id == id && f.point == l.point })
		if i >= 0 {
			fars = append(fars, known[i])
		} else {
			fars = append(fars, &far{id: id, point: l.point})
		}
	}
	slices.SortFunc(fars, func(a, b *far) int { return len(b.point) - len(a.point) })
	return fars
}

// far gives what has to answer for a path below a directory; nil: this machine alone. The table is as old as the last look for news.
func (ms *mounts) far(dir, path string) *far {
	fars := ms.fars.Load()
	if fars == nil || len(*fars) == 0 {
		return nil
	}
	path = join(dir, path)
	for _, f := range *fars {
		if inside(path, f.point) {
			return f
		}
	}
	return nil
}

// farIn says whether something far is mounted at a name in a directory.
func (ms *mounts) farIn(dir, path string) bool {
	fars := ms.fars.Load()
	if fars == nil || len(*fars) == 0 {
		return false
	}
	path = join(dir, path)
	return slices.ContainsFunc(*fars, func(f *far) bool {
		rest, ok := strings.CutPrefix(f.point, path)
		rest = strings.TrimPrefix(rest, "/")
		return ok && rest != "" && !strings.Contains(rest, "/") && inside(f.point, path)
	})
}

// errands are how a looker has others make the calls that may never return.
type errands struct {
	far  *far    // what it looks at now; nil: it makes the calls itself
	aide *looker // used by them; left to the call that is given up
}

// to has the looker look at what is far, or near if f is nil, until back is called.
func (e *errands) to(f *far) (back func()) {
	before := e.far
	e.far = f
	return func() { e.far = before }
}

// ask has what look at the disk with a looker of its own, and gives up if nobody answers: with errSilent, and undo for what is opened after that. As what
// may still be running then, it must write to nothing but that looker.
func ask[T any](l *looker, what func(l *looker) (T, error), undo func(T)) (got T, err error) {
	if l.far == nil {
		return what(l)
	}
	if l.aide == nil {
		l.aide = &looker{}
	}
	var late T
	var lateErr error
	aide := l.aide
	if l.far.call(func() { late, lateErr = what(aide) }, func() {
		if lateErr == nil && undo != nil {
			undo(late)
		}
	}) {
		return late, lateErr
	}
	l.aide = nil
	return got, errSilent
}

// call makes a call and says whether it has returned. If not, undo is called when it does. Nothing can end a goroutine that waits in the kernel for an answer: it stays
// until there is one, or the file system is unmounted by force. There are no more of them than those who asked before it was known.
func (f *far) call(what, undo func()) bool {
	if f.hung.Load() > 0 {
		return false
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		what()
	}()
	timer := time.NewTimer(farDoubt)
	defer timer.Stop()
	for {
		select {
		case <-ended:
			return true
		case <-timer.C:
		}
		if !f.answers() {
			f.giveUp(ended, undo)
			return false
		}
		timer.Reset(farDoubt)
	}
}

// answers says whether the file system says anything at all, however slow it is with what it was asked before.
func (f *far) answers() bool {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		question(f.point)
	}()
	timer := time.NewTimer(farSilent)
	defer timer.Stop()
	select {
	case <-ended:
		return true
	case <-timer.C:
		f.giveUp(ended, func() {})
		return false
	}
}

func (f *far) giveUp(ended <-chan struct{}, undo func()) {
	f.hung.Add(1)
	go func() {
		<-ended
		undo()
		f.hung.Add(-1)
	}()
}
