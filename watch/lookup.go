package watch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"fs_notify/notify"
)

// shownDegraded is how many degraded directories of a root are named.
const shownDegraded = 100

// Roots lists the roots in the order of their names, with their state now. It goes through all that is degraded.
func (w *Watcher) Roots() []notify.RootState {
	t := w.t
	t.mu.RLock()
	defer t.mu.RUnlock()
	out, at := w.states(), map[ref]*notify.RootState{}
	for i, ri := range t.roots {
		at[ri.node] = &out[i]
	}
	t.troubled.Lock()
	defer t.troubled.Unlock()
	for r, tr := range t.trouble {
		if !t.s.alive(r) {
			continue
		}
		st := at[t.s.rootOf(r)]
		if st == nil {
			continue
		}
		if st.DegradedCount++; len(st.Degraded) < shownDegraded {
			st.Degraded = append(st.Degraded, notify.Degraded{Path: t.s.path(r), Reason: tr.reason, Since: tr.since})
		}
	}
	return out
}

// States is Roots without what is degraded.
func (w *Watcher) States() []notify.RootState {
	w.t.mu.RLock()
	defer w.t.mu.RUnlock()
	return w.states()
}

// states is States. t.mu is held.
func (w *Watcher) states() []notify.RootState {
	t := w.t
	caps := w.cfg.Source.Caps()
	out := make([]notify.RootState, len(t.roots))
	for i, ri := range t.roots {
		out[i] = notify.RootState{Name: ri.Name, Dir: ri.Dir, ID: ri.id, Phase: ri.phase, Indexed: ri.indexed, Progress: ri.guess,
			Source: w.cfg.Source.Name(), Closes: caps.Closes, Entries: t.s.entries[ri.node]}
		switch ri.phase {
		case notify.Live:
			out[i].Progress, out[i].Source = 1, sourceOf(w.cfg.Source, ri.node)
			out[i].Closes = caps.Closes && out[i].Source != pollName
		case notify.Away:
			out[i].Progress, out[i].Reason, out[i].Since = 0, ri.why, ri.since
		}
	}
	return out
}

// rootFor finds the root that a served path lies in, and the rest of the path.
func (t *tree) rootFor(path string) (*rootInfo, string) {
	for _, ri := range t.roots {
		if inside(path, ri.Name) {
			return ri, strings.TrimPrefix(strings.TrimPrefix(path, ri.Name), "/")
		}
	}
	return nil, ""
}

// usable says whether a root can be asked.
func (ri *rootInfo) usable(op string) error {
	switch ri.phase {
	case notify.Indexing:
		return &notify.Error{Op: op, Path: ri.Name, Kind: notify.Unavailable, Retry: 2 * time.Second,
			Msg: fmt.Sprintf("%s is being indexed: %d entries so far, try again soon", ri.Name, ri.indexed)}
	case notify.Away:
		return &notify.Error{Op: op, Path: ri.Name, Kind: notify.Unavailable, Retry: 10 * time.Second,
			Msg: fmt.Sprintf("the directory behind %s is away: unmounted or replaced", ri.Name)}
	}
	return nil
}

func notFound(op, path string) error {
	return &notify.Error{Op: op, Path: path, Kind: notify.NotFound, Msg: fmt.Sprintf("there is no entry %s below any root", notify.EscapeName(path))}
}

// LookupPath finds an entry by the path under which it is served. What exists on disk and is not in the tree yet is waited for.
func (w *Watcher) LookupPath(ctx context.Context, path string) (notify.Entry, error) {
	const op = "watch.LookupPath"
	t := w.t
	if !strings.HasPrefix(path, "/") || strings.Contains(path, "\x00") {
		return notify.Entry{}, notFound(op, path)
	}
	path = "/" + strings.Trim(path, "/")
	for part := range strings.SplitSeq(path[1:], "/") {
		if part == ".." || part == "." || part == "" && path != "/" {
			return notify.Entry{}, notFound(op, path)
		}
	}
	for try := 0; ; try++ {
		t.mu.RLock()
		ri, rest := t.rootFor(path)
		if ri == nil {
			t.mu.RUnlock()
			return notify.Entry{}, notFound(op, path)
		}
		if err := ri.usable(op); err != nil {
			t.mu.RUnlock()
			return notify.Entry{}, err
		}
		if r := t.s.find(ri.node, rest); r != 0 {
			defer t.mu.RUnlock()
			return t.entry(r), nil
		}
		dir := ri.Dir
		t.mu.RUnlock()
		if try > 0 {
			return notify.Entry{}, notFound(op, path)
		}
		if err := t.exists(dir, rest); errors.Is(err, errSilent) {
			return notify.Entry{}, unanswered(op, path)
		} else if err != nil {
			return notify.Entry{}, notFound(op, path)
		}
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		w.Sync(short) // either way the tree is asked once more
		cancel()
		if ctx.Err() != nil {
			return notify.Entry{}, ctx.Err()
		}
	}
}

func unanswered(op, path string) error {
	return &notify.Error{Op: op, Path: path, Kind: notify.Unavailable, Retry: 10 * time.Second,
		Msg: fmt.Sprintf("%s cannot be looked at: %v", notify.EscapeName(path), errSilent)}
}

// exists gives no error if there is an entry below a directory on the disk, to which no symlink leads.
func (t *tree) exists(top, path string) error {
	l := lookers.Get().(*looker)
	defer lookers.Put(l)
	defer l.to(t.ms.far(top, path))()
	fd, name, err := openParent(l, top, path)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	var a notify.Attr
	_, _, err = l.stat(fd, name, &a)
	return err
}

// openParent opens the directory of an entry below another one, without following a symlink, and gives the entry's name in it.
func openParent(l *looker, top, path string) (fd dirFD, name string, err error) {
	root, err := ask(l, func(*looker) (dirFD, error) { return openRoot(top) }, closeFD)
	if err != nil {
		return fd, "", err
	}
	defer closeFD(root)
	i := strings.LastIndexByte(path, '/')
	fd, err = ask(l, func(*looker) (dirFD, error) { return openBelow(root, path[:max(i, 0)]) }, closeFD)
	return fd, path[i+1:], err
}

// LookupID finds an entry by its file ID; of several names, the first known.
func (w *Watcher) LookupID(ctx context.Context, id notify.FileID) (notify.Entry, error) {
	t := w.t
	t.mu.RLock()
	defer t.mu.RUnlock()
	r := t.s.byID(id)
	if r == 0 {
		return notify.Entry{}, &notify.Error{Op: "watch.LookupID", Kind: notify.NotFound, Msg: fmt.Sprintf("there is no entry with ID %s below any root", id)}
	}
	if ri := t.rootInfo(t.s.rootOf(r)); ri != nil {
		if err := ri.usable("watch.LookupID"); err != nil {
			return notify.Entry{}, err
		}
	}
	return t.entry(r), nil
}

// LookupNames finds all names of an object by its file ID; those it had, with an error that is Unavailable.
func (w *Watcher) LookupNames(ctx context.Context, id notify.FileID) ([]notify.Entry, error) {
	first, err := w.LookupID(ctx, id)
	if err != nil && !errors.Is(err, notify.Unavailable) {
		return nil, err
	}
	t := w.t
	t.mu.RLock()
	defer t.mu.RUnlock()
	names := []notify.Entry{}
	for r := t.s.byID(id); r != 0; r = t.s.sameID(r) {
		names = append(names, t.entry(r))
	}
	if len(names) == 0 && err == nil { // it went meanwhile
		names = append(names, first)
	}
	return names, err
}

func (t *tree) entry(r ref) notify.Entry {
	return notify.Entry{Root: t.s.node(t.s.rootOf(r)).id, Path: t.s.path(r), Spine: t.s.spine(r), Attr: t.s.attr(r)}
}

// Snapshot copies the entries below a directory as of one Seq.
func (w *Watcher) Snapshot(ctx context.Context, dir notify.FileID, recursive bool) (*notify.Snapshot, error) {
	const op = "watch.Snapshot"
	t := w.t
	t.mu.RLock()
	r, err := t.dirByID(op, dir)
	if err != nil {
		t.mu.RUnlock()
		return nil, err
	}
	snap := &notify.Snapshot{}
	t.copyBelow(r, t.entry(r), recursive, snap)
	batch := w.out.seal()
	t.mu.RUnlock()
	number, err := batch.await(ctx)
	if err != nil {
		return nil, err
	}
	snap.Seq = number.End()
	return snap, nil
}

// Children counts the entries of a directory, without waiting for anything.
func (w *Watcher) Children(_ context.Context, dir notify.FileID) (int, error) {
	t := w.t
	t.mu.RLock()
	defer t.mu.RUnlock()
	r, err := t.dirByID("watch.Children", dir)
	if err != nil {
		return 0, err
	}
	return int(t.s.dir(r).count), nil
}

// dirByID finds a directory that can be asked by its file ID. t.mu is held.
func (t *tree) dirByID(op string, id notify.FileID) (ref, error) {
	r := t.s.byID(id)
	if r == 0 {
		return 0, &notify.Error{Op: op, Kind: notify.NotFound, Msg: fmt.Sprintf("there is no entry with ID %s below any root", id)}
	}
	if !t.s.isDir(r) {
		return 0, &notify.Error{Op: op, Path: t.s.path(r), Kind: notify.NotDirectory}
	}
	if ri := t.rootInfo(t.s.rootOf(r)); ri != nil {
		return r, ri.usable(op)
	}
	return r, nil
}

func (t *tree) copyBelow(r ref, e notify.Entry, recursive bool, snap *notify.Snapshot) {
	snap.Entries = append(snap.Entries, e)
	if !t.s.isDir(r) {
		return
	}
	t.s.children(r, func(c ref) {
		n := t.s.node(c)
		child := notify.Entry{Root: e.Root, Path: join(e.Path, t.s.names.view(n.name)), Attr: t.s.attrOf(n),
			Spine: append(e.Spine[:len(e.Spine):len(e.Spine)], n.id)}
		if e.Path == "" {
			child.Path = t.s.name(c)
		}
		if recursive {
			t.copyBelow(c, child, true, snap)
		} else {
			snap.Entries = append(snap.Entries, child)
		}
	})
}

// Stat looks at the disk, not at the tree.
func (w *Watcher) Stat(ctx context.Context, id notify.FileID) (notify.Entry, error) {
	var attr notify.Attr
	e, err := w.onDisk(ctx, "watch.Stat", id, func(l *looker, dir dirFD, name string, a *notify.Attr) (err error) {
		attr = *a
		attr.X, err = l.xattrs(dir, name, nothingTold)
		return err
	})
	e.Attr = attr
	return e, err
}

// maxUserXattrs is how many bytes of names and values UserXattrs gives.
const maxUserXattrs = 256 << 10

// UserXattrs reads the extended attributes of the user namespace from the disk.
func (w *Watcher) UserXattrs(ctx context.Context, id notify.FileID) (map[string][]byte, error) {
	var got map[string][]byte
	_, err := w.onDisk(ctx, "watch.UserXattrs", id, func(l *looker, dir dirFD, name string, _ *notify.Attr) (err error) {
		got, err = l.userXattrs(dir, name, maxUserXattrs)
		return err
	})
	return got, err
}

// lookers are those that look for a client, each used by one at a time.
var lookers = sync.Pool{New: func() any { return new(looker) }}

// onDisk has f look at an entry on the disk, and makes sure that it was the one. If the disk is ahead of the tree, it waits for the tree and has f
// look once more.
func (w *Watcher) onDisk(ctx context.Context, op string, id notify.FileID, f func(l *looker, dir dirFD, name string, a *notify.Attr) error) (notify.Entry, error) {
	e, err := w.LookupID(ctx, id)
	if err != nil {
		return e, err
	}
	l := lookers.Get().(*looker)
	defer lookers.Put(l)
	for try := 0; ; try++ {
		err := w.t.lookAt(l, &e, f)
		if err == nil {
			return e, nil
		}
		if errors.Is(err, errSilent) {
			return e, unanswered(op, e.Path)
		}
		if try > 0 {
			return e, notFound(op, e.Path)
		}
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		w.Sync(short)
		cancel()
		if e, err = w.LookupID(ctx, id); err != nil {
			return e, err
		}
	}
}

// lookAt has f look at an entry where the tree has it, through its directory, which is open and was reached without following a symlink. Before
// and after, the name has to stand for the entry.
func (t *tree) lookAt(l *looker, e *notify.Entry, f func(l *looker, dir dirFD, name string, a *notify.Attr) error) error {
	t.mu.RLock()
	var ri *rootInfo
	for _, x := range t.roots {
		if x.id == e.Root {
			ri = x
		}
	}
	t.mu.RUnlock()
	if ri == nil {
		return errGone
	}
	defer l.to(t.ms.far(ri.Dir, e.Path))()
	fd, name, err := openParent(l, ri.Dir, e.Path)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	check := func(a *notify.Attr) error {
		mnt, _, err := l.stat(fd, name, a)
		if err != nil {
			return err
		}
		m := t.ms.of(ri.node, mnt)
		if m == nil {
			return errElsewhere
		}
		id, err := l.identify(&t.ms, m, fd, name, a)
		if err == nil && id != e.ID() {
			err = errElsewhere
		}
		return err
	}
	var a, after notify.Attr
	if err := check(&a); err != nil {
		return err
	}
	if err := f(l, fd, name, &a); err != nil {
		return err
	}
	return check(&after)
}
