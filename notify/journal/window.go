package journal

import (
	"slices"
	"strings"

	"fs_notify/notify"
)

// window is what some consecutive batches change in the trees: of each name only the last word.
// It is small where much happens to few names.
type window struct {
	roots map[notify.FileID]*rootChange
	notes int
	torn  bool // a batch could not be applied as a whole
}

type rootChange struct {
	since notify.BatchNumber // batches up to here are in the tree already
	dirs  map[notify.FileID]*dirChange
	// subdirs gives the directories in a directory, as the tree under this window has them.
	subdirs func(dir notify.FileID, each func(name string, id notify.FileID)) error
	room    []change        // for those that come next
	text    strings.Builder // of names, and room for more
	last    spot            // of the notification applied last: the next one is often of the same entry
	size    int             // bytes of names and changes, about
}

// spot is where the last word about a name is kept.
type spot struct {
	parent notify.FileID
	path   string
	dir    *dirChange // nil: there is no spot
	now    *change    // nil: nothing was said of it
}

// spot finds the one of an entry of a directory.
func (c *rootChange) spot(parent notify.FileID, path string) *spot {
	s := &c.last
	if s.dir == nil || s.path != path || s.parent != parent {
		d := c.dir(parent)
		*s = spot{parent, path, d, d.names[nameIn(path)]}
	}
	return s
}

// nameIn is the last name of a path.
func nameIn(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// dirChange is what changes among the names of a directory.
type dirChange struct {
	emptied bool // nothing of what was there before the window stays
	names   map[string]*change
}

// change is the last word about a name.
type change struct {
	what whatChange
	id   notify.FileID
	attr notify.Attr
}

type whatChange uint8

const (
	isGone   whatChange = iota
	isThere             // with this ID and these attributes
	isLikely            // has these attributes, if it is there with this ID
)

// changeSize and dirSize are what a name takes in memory besides itself, and a directory, about, in bytes.
const (
	changeSize = 160
	dirSize    = 250
)

// size is what a window takes in memory, about, in bytes.
func (w *window) size() (n int) {
	for _, c := range w.roots {
		n += c.size
	}
	return n
}

func (c *rootChange) dir(id notify.FileID) *dirChange {
	d := c.dirs[id]
	if d == nil {
		d = &dirChange{names: make(map[string]*change)}
		c.dirs[id] = d
		c.size += dirSize
	}
	return d
}

// set makes a change the last word about a name.
func (c *rootChange) set(s *spot, to change) {
	if s.now != nil {
		*s.now = to
		return
	}
	if len(c.room) == cap(c.room) {
		c.room = make([]change, 0, 128)
	}
	c.room = append(c.room, to)
	s.now = &c.room[len(c.room)-1]
	name := c.keep(nameIn(s.path))
	s.dir.names[name] = s.now
	c.size += changeSize + len(name)
}

// keep copies a name, which is a part of a path that may be long, to where others are.
func (c *rootChange) keep(name string) string {
	from := c.text.Len()
	if c.text.Cap()-from < len(name) {
		c.text, from = strings.Builder{}, 0
		c.text.Grow(max(len(name), 4096))
	}
	c.text.WriteString(name)
	return c.text.String()[from:]
}

// add applies a batch.
func (w *window) add(b *notify.Batch) error {
	w.notes += len(b.Notes)
	c := w.roots[b.Root]
	if c == nil || b.Number <= c.since {
		return nil
	}
	defer func() { c.last = spot{} }() // the window outlives the batch
	for i := range b.Notes {
		if err := c.apply(&b.Notes[i]); err != nil {
			w.torn = true
			return err
		}
	}
	return nil
}

// apply applies one notification. Names are added, removed and moved as it says; any other one brings the
// attributes up to date. What is told of the root itself under its empty path belongs to no directory: its ID is 0.
func (c *rootChange) apply(n *notify.Notification) error {
	switch n.Type {
	case notify.SelfRemoved, notify.SelfRescanned:
		return nil // about names they say nothing
	}
	id, parent := n.ID(), notify.FileID(0)
	if len(n.Spine) > 1 {
		parent = n.Spine[len(n.Spine)-2]
	}
	s := c.spot(parent, n.Path)
	switch n.Type {
	case notify.ChildFileAdded, notify.ChildDirAdded, notify.ChildFileMovedTo, notify.ChildDirMovedTo:
		c.set(s, change{isThere, id, n.Attr})
	case notify.ChildFileRemoved, notify.ChildFileMovedFrom:
		c.set(s, change{what: isGone})
	case notify.ChildDirRemoved, notify.ChildDirMovedFrom:
		c.set(s, change{what: isGone})
		if n.Type == notify.ChildDirRemoved || n.Link == 0 {
			return c.empty(id)
		}
	default:
		switch old := s.now; {
		case old == nil:
			c.set(s, change{isLikely, id, n.Attr})
		case old.what != isGone && old.id == id:
			old.attr = n.Attr
		}
	}
	return nil
}

// empty drops all that is below a directory.
func (c *rootChange) empty(dir notify.FileID) error {
	c.last = spot{}
	for todo := []notify.FileID{dir}; len(todo) > 0; {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		d := c.dir(id)
		if !d.emptied {
			err := c.subdirs(id, func(name string, sub notify.FileID) {
				if now := d.names[name]; now == nil || now.what == isLikely {
					todo = append(todo, sub)
				}
			})
			if err != nil {
				return err
			}
		}
		for _, now := range d.names {
			if now.what == isThere && now.attr.IsDir() {
				todo = append(todo, now.id)
			}
		}
		d.emptied = true
		clear(d.names)
	}
	return nil
}

// merge appends entries, sorted by name, with the changes of names, sorted, to out. It says whether anything differs.
func (d *dirChange) merge(out, entries []entry, names []string) ([]entry, bool) {
	out = slices.Grow(out, len(entries)+len(names))
	changed := false
	for len(entries) > 0 || len(names) > 0 {
		if len(names) == 0 || len(entries) > 0 && entries[0].name < names[0] {
			out = append(out, entries[0])
			entries = entries[1:]
			continue
		}
		name := names[0]
		names = names[1:]
		c := d.names[name]
		var old *entry
		if len(entries) > 0 && entries[0].name == name {
			old = &entries[0]
			entries = entries[1:]
		}
		switch {
		case c.what == isThere, c.what == isLikely && old != nil && old.id == c.id:
			if old == nil || old.id != c.id || diffAttr(&old.attr, &c.attr, true) != 0 {
				changed = true
			}
			out = append(out, entry{name, c.id, c.attr})
		case c.what == isLikely && old != nil:
			out = append(out, *old)
		case c.what == isGone && old != nil:
			changed = true
		}
	}
	return out, changed
}

func (d *dirChange) sorted() []string {
	names := make([]string, 0, len(d.names))
	for n := range d.names {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
