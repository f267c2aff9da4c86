package feed

import (
	"slices"

	"fs_notify/notify"
)

// Index finds which of many views a batch concerns: one look-up for each element of a spine that the notification before
// it does not share, whatever the number of views. Each view has an owner, by which it is found; owners differ. The
// zero value is an empty index.
type Index[Owner comparable] struct {
	dirs    map[notify.FileID]*place[Owner]
	rescans []indexed[Owner] // those that ask for self_rescanned: one may concern a view that its spine does not name
	scoped  []indexed[Owner] // those with prefixes, which a rename of any directory above them may end

	spine []notify.FileID // of the notification looked at last
	found []*place[Owner] // what was found for each of its elements
}

// Concern says that the notification in place Note of a batch may be seen by its owner's view, or end it.
type Concern[Owner comparable] struct {
	Owner Owner
	Note  int32
}

// place is the views of one directory.
type place[Owner comparable] struct {
	views []indexed[Owner]
	types notify.TypeSet // that any of them asks for
}

type indexed[Owner comparable] struct {
	view  View
	owner Owner
}

// Add enters a view, whose Root has to be known.
func (x *Index[Owner]) Add(v View, owner Owner) {
	if x.dirs == nil {
		x.dirs = map[notify.FileID]*place[Owner]{}
	}
	p := x.dirs[v.Dir]
	if p == nil {
		p = &place[Owner]{}
		x.dirs[v.Dir] = p
	}
	p.views = append(p.views, indexed[Owner]{v, owner})
	p.types |= v.Types
	if v.Types.Has(notify.SelfRescanned) {
		x.rescans = append(x.rescans, indexed[Owner]{v, owner})
	}
	if v.Scope != nil && v.Scope.prefixes != nil {
		x.scoped = append(x.scoped, indexed[Owner]{v, owner})
	}
}

// Remove takes out a view that was entered with Add.
func (x *Index[Owner]) Remove(v View, owner Owner) {
	is := func(e indexed[Owner]) bool { return e.owner == owner }
	if v.Types.Has(notify.SelfRescanned) {
		x.rescans = slices.DeleteFunc(x.rescans, is)
	}
	if v.Scope != nil && v.Scope.prefixes != nil {
		x.scoped = slices.DeleteFunc(x.scoped, is)
	}
	p := x.dirs[v.Dir]
	if p == nil {
		return
	}
	p.views = slices.DeleteFunc(p.views, is)
	p.types = 0
	for _, e := range p.views {
		p.types |= e.view.Types
	}
	if len(p.views) == 0 {
		delete(x.dirs, v.Dir)
	}
}

// Find appends to out what of b concerns which views. For each owner the notes rise, none comes twice, and none is missing that
// its view sees, that ends it or that [View.Crossed] is true of; some may be there that it does not see. [View.MatchAt] makes hits of them. It gives up,
// with false, when out is longer than limit: so many views see so much that each may as well look at all of b.
func (x *Index[Owner]) Find(out []Concern[Owner], b *notify.Batch, limit int) (_ []Concern[Owner], ok bool) {
	x.spine, x.found = x.spine[:0], x.found[:0]
	defer func() { clear(x.found[:cap(x.found)]) }() // nothing is held for longer than it is known
	for i := range b.Notes {
		if len(out) > limit {
			return out, false
		}
		n := &b.Notes[i]
		last := len(n.Spine) - 1
		if last < 0 {
			continue
		}
		x.look(n.Spine)
		note := int32(i)
		switch n.Type {
		case notify.SelfRescanned:
			for _, e := range x.rescans {
				if e.view.Root == b.Root {
					out = append(out, Concern[Owner]{e.owner, note})
				}
			}
			continue
		case notify.SelfRemoved:
			if last == 0 { // the root, and so all that is watched in it
				for _, p := range x.dirs {
					for _, e := range p.views {
						if e.view.Root == b.Root {
							out = append(out, Concern[Owner]{e.owner, note})
						}
					}
				}
				continue
			}
		default:
			for j, p := range x.found[:last] {
				if p == nil || !p.types.Has(n.Type) {
					continue
				}
				for _, e := range p.views {
					if e.view.Types.Has(n.Type) && (e.view.Recursive || j == last-1) {
						out = append(out, Concern[Owner]{e.owner, note})
					}
				}
			}
		}
		switch n.Type {
		case notify.SelfRemoved, notify.ChildDirRemoved, notify.ChildDirMovedFrom:
			if p := x.found[last]; p != nil {
				for _, e := range p.views {
					out = append(out, Concern[Owner]{e.owner, note})
				}
			}
		}
		if n.Type == notify.ChildDirMovedFrom && n.Link != 0 {
			for _, e := range x.scoped {
				if e.view.Root == b.Root && !e.view.concerns(n) && e.view.Scope.window(b.Root).crosses(b, n) {
					out = append(out, Concern[Owner]{e.owner, note})
				}
			}
		}
	}
	return out, len(out) <= limit
}

// concerns says whether an index finds the view of n by n's spine.
func (v View) concerns(n *notify.Notification) bool {
	last := len(n.Spine) - 1
	if n.Spine[last] == v.Dir {
		return true
	}
	at := slices.Index(n.Spine[:last], v.Dir)
	return at >= 0 && v.Types.Has(n.Type) && (v.Recursive || at == last-1)
}

// look finds the place of each element of a spine.
func (x *Index[Owner]) look(spine notify.Spine) {
	same := 0
	for same < len(spine) && same < len(x.spine) && spine[same] == x.spine[same] {
		same++
	}
	x.spine, x.found = append(x.spine[:same], spine[same:]...), x.found[:same]
	for _, id := range spine[same:] {
		x.found = append(x.found, x.dirs[id])
	}
}
