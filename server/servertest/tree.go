// Package servertest has a server.Files for tests: one root with a tree in memory, whose changes are
// told to a feedtest.Log as a watcher would tell them.
package servertest

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"fs_notify/notify"
	"fs_notify/notify/feed/feedtest"
)

// RootID is the file ID of the root.
const RootID notify.FileID = 2

// Tree is the root /srv/data (or whatever New was given) and all below it. All methods may be called from any goroutine;
// those that change it panic if the change is impossible.
type Tree struct {
	Log *feedtest.Log

	mu    sync.Mutex
	state notify.RootState
	nodes map[string]*notify.Entry // by path
	next  notify.FileID
	seq   notify.Seq // of the last change

	xattrs map[notify.FileID]map[string]string
}

// New makes a live root with nothing in it, whose journal begins at batch 1000.
func New(name string) *Tree {
	t := &Tree{Log: feedtest.New(1000), next: 100, nodes: map[string]*notify.Entry{}, xattrs: map[notify.FileID]map[string]string{}}
	t.state = notify.RootState{Name: name, Dir: name, ID: RootID, Phase: notify.Live, Progress: 1, Source: "fake"}
	t.seq = t.Log.Bounds().Newest()
	t.nodes[""] = &notify.Entry{Root: RootID, Spine: notify.Spine{RootID}, Attr: attr(notify.ModeDir | 0o755)}
	return t
}

func attr(mode uint32) notify.Attr {
	const when = 1_700_000_000_123_456_789
	return notify.Attr{Mode: mode, UID: 1000, GID: 100, Nlink: 1, Mtime: when, Ctime: when + 1, Atime: when + 2, Btime: when + 3}
}

// SetState changes what the root says of itself.
func (t *Tree) SetState(f func(*notify.RootState)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.state)
}

// Mkdir makes a directory and gives its ID.
func (t *Tree) Mkdir(path string) notify.FileID {
	return t.add(path, notify.ModeDir|0o755, notify.ChildDirAdded)
}

// Create makes a file and gives its ID.
func (t *Tree) Create(path string) notify.FileID {
	return t.add(path, notify.ModeFile|0o644, notify.ChildFileAdded)
}

func (t *Tree) add(path string, mode uint32, typ notify.Type) notify.FileID {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.nodes[path] != nil {
		panic("exists: " + path)
	}
	t.next++
	e := &notify.Entry{Root: RootID, Path: path, Spine: append(slices.Clone(t.parent(path).Spine), t.next), Attr: attr(mode)}
	t.nodes[path] = e
	t.tell(note(typ, e))
	return e.ID()
}

// Link gives a file one more name.
func (t *Tree) Link(from, to string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.node(from)
	old.Attr.Nlink++
	e := &notify.Entry{Root: RootID, Path: to, Spine: append(slices.Clone(t.parent(to).Spine), old.ID()), Attr: old.Attr}
	t.nodes[to] = e
	t.tell(note(notify.ChildFileAdded, e))
}

func (t *Tree) parent(path string) *notify.Entry {
	dir := ""
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir = path[:i]
	}
	return t.node(dir)
}

func (t *Tree) node(path string) *notify.Entry {
	e := t.nodes[path]
	if e == nil {
		panic("no such entry: " + path)
	}
	return e
}

func note(typ notify.Type, e *notify.Entry) notify.Notification {
	return notify.Notification{Type: typ, Path: e.Path, Spine: slices.Clone(e.Spine), Attr: e.Attr}
}

func (t *Tree) tell(notes ...notify.Notification) {
	t.seq = t.Log.Append(RootID, notes...).Number.End()
}

// Write tells of size bytes of new data in a file.
func (t *Tree) Write(path string, size int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.node(path)
	e.Attr.Size = size
	t.tell(note(notify.ChildDataWritten, e), note(notify.ChildSizeChanged, e))
}

// Remove removes an entry with all below it, children first.
func (t *Tree) Remove(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var notes []notify.Notification
	for _, e := range slices.Backward(t.below(path)) {
		typ := notify.ChildFileRemoved
		if e.Attr.IsDir() {
			typ = notify.ChildDirRemoved
		}
		delete(t.nodes, e.Path)
		notes = append(append(notes, t.stays(e)...), note(typ, e))
	}
	t.tell(notes...)
}

// MoveOut moves a directory out of the root.
func (t *Tree) MoveOut(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var notes []notify.Notification
	below := t.below(path)
	for _, e := range below {
		delete(t.nodes, e.Path)
	}
	for _, e := range below {
		notes = append(notes, t.stays(e)...)
	}
	for i, e := range below {
		switch {
		case i == 0:
			notes = append(notes, note(notify.ChildDirMovedFrom, e))
		case e.Attr.IsDir():
			notes = append(notes, note(notify.SelfRemoved, e))
		}
	}
	t.tell(notes...)
}

// stays tells a name of an entry, which has just lost one, that is left.
func (t *Tree) stays(e *notify.Entry) []notify.Notification {
	for _, p := range slices.Sorted(maps.Keys(t.nodes)) {
		if k := t.nodes[p]; k.ID() == e.ID() {
			return []notify.Notification{note(notify.ChildLinkStays, k)}
		}
	}
	return nil
}

// Rename moves an entry to a free name inside the root.
func (t *Tree) Rename(from, to string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.nodes[to] != nil || strings.HasPrefix(to+"/", from+"/") {
		panic("cannot rename " + from + " to " + to)
	}
	moved := t.below(from)
	parent := t.parent(to)
	before := note(notify.ChildFileMovedFrom, moved[0])
	depth := len(moved[0].Spine) - 1
	for _, e := range moved {
		delete(t.nodes, e.Path)
	}
	for _, e := range moved {
		e.Path = to + strings.TrimPrefix(e.Path, from)
		e.Spine = append(slices.Clone(parent.Spine), e.Spine[depth:]...)
		t.nodes[e.Path] = e
	}
	after := note(notify.ChildFileMovedTo, moved[0])
	if moved[0].Attr.IsDir() {
		before.Type, after.Type = notify.ChildDirMovedFrom, notify.ChildDirMovedTo
	}
	before.Link, after.Link = 2, 1
	t.tell(before, after)
}

// below lists an entry and all below it, parents first.
func (t *Tree) below(path string) []*notify.Entry {
	t.node(path)
	var out []*notify.Entry
	for _, p := range slices.Sorted(maps.Keys(t.nodes)) {
		if p == path || path == "" || strings.HasPrefix(p, path+"/") {
			out = append(out, t.nodes[p])
		}
	}
	slices.SortStableFunc(out, func(a, b *notify.Entry) int { return len(a.Spine) - len(b.Spine) })
	return out
}

// Paths lists what there is: path to ID.
func (t *Tree) Paths() map[string]notify.FileID {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[string]notify.FileID{}
	for p, e := range t.nodes {
		if p != "" {
			out[p] = e.ID()
		}
	}
	return out
}

// Roots is part of server.Files.
func (t *Tree) Roots() []notify.RootState {
	t.mu.Lock()
	defer t.mu.Unlock()
	return []notify.RootState{t.state}
}

// States is part of server.Files.
func (t *Tree) States() []notify.RootState {
	states := t.Roots()
	states[0].Degraded, states[0].DegradedCount = nil, 0
	return states
}

func (t *Tree) ready() error {
	if t.state.Phase != notify.Live {
		return &notify.Error{Op: "servertest", Kind: notify.Unavailable}
	}
	return nil
}

// LookupPath is part of server.Files.
func (t *Tree) LookupPath(_ context.Context, path string) (notify.Entry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rel, ok := strings.CutPrefix(path, t.state.Name)
	if !ok || rel != "" && rel[0] != '/' {
		return notify.Entry{}, &notify.Error{Op: "servertest.LookupPath", Kind: notify.NotFound}
	}
	if err := t.ready(); err != nil {
		return notify.Entry{}, err
	}
	if e := t.nodes[strings.TrimPrefix(rel, "/")]; e != nil {
		return *e, nil
	}
	return notify.Entry{}, &notify.Error{Op: "servertest.LookupPath", Kind: notify.NotFound}
}

// LookupID is part of server.Files.
func (t *Tree) LookupID(ctx context.Context, id notify.FileID) (notify.Entry, error) {
	names, err := t.LookupNames(ctx, id)
	if err != nil {
		return notify.Entry{}, err
	}
	return names[0], nil
}

// LookupNames is part of server.Files. The names come in their order.
func (t *Tree) LookupNames(_ context.Context, id notify.FileID) ([]notify.Entry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var names []notify.Entry
	for _, path := range slices.Sorted(maps.Keys(t.nodes)) {
		if e := t.nodes[path]; e.ID() == id {
			names = append(names, *e)
		}
	}
	if names == nil {
		return nil, &notify.Error{Op: "servertest.LookupID", Kind: notify.NotFound}
	}
	return names, t.ready()
}

// Snapshot is part of server.Files.
func (t *Tree) Snapshot(_ context.Context, dir notify.FileID, recursive bool) (*notify.Snapshot, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.nodes {
		if e.ID() == dir {
			s := &notify.Snapshot{Seq: t.seq}
			for _, below := range t.below(e.Path) {
				if recursive || len(below.Spine) <= len(e.Spine)+1 {
					s.Entries = append(s.Entries, *below)
				}
			}
			return s, nil
		}
	}
	return nil, &notify.Error{Op: "servertest.Snapshot", Kind: notify.NotFound}
}

// Children is part of server.Files.
func (t *Tree) Children(ctx context.Context, dir notify.FileID) (int, error) {
	s, err := t.Snapshot(ctx, dir, false)
	if err != nil {
		return 0, err
	}
	return len(s.Entries) - 1, nil
}

// Stat is part of server.Files.
func (t *Tree) Stat(ctx context.Context, id notify.FileID) (notify.Entry, error) {
	return t.LookupID(ctx, id)
}

// SetUserXattrs gives an entry extended attributes of the user namespace, and tells that they changed.
func (t *Tree) SetUserXattrs(path string, x map[string]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.node(path)
	e.Attr.X = nil
	if len(x) > 0 {
		e.Attr.X = &notify.Xattrs{Other: uint64(t.seq)} // some digest, which is another one each time
	}
	t.xattrs[e.ID()] = x
	t.tell(note(notify.ChildExtraAttrsChanged, e))
}

// UserXattrs is part of server.Files.
func (t *Tree) UserXattrs(ctx context.Context, id notify.FileID) (map[string][]byte, error) {
	if _, err := t.LookupID(ctx, id); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var out map[string][]byte
	for k, v := range t.xattrs[id] {
		if out == nil {
			out = map[string][]byte{}
		}
		out[k] = []byte(v)
	}
	return out, nil
}
