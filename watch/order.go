package watch

import (
	"slices"

	"fs_notify/notify"
)

// tell changes the tree item by item, in an order that is valid at every step, and writes down each change.
//
// An item has at most two halves to be told: that its object left (lose), and that another one came (gain). Either is tried
// depth first: what stands in its way, the object under the name, the directories above that are still to come, those
// below that are to move elsewhere, goes before it. A half that is on the stack is not begun a second time, so each try ends.
// Where the ways form a cycle, an object lets go: it is told to have left (float), and lands as soon as its new place is
// there and free. What is below a directory does not change while the directory floats, since it has no path
// then: all below that is to move floats before it.
//
// That everything gets told follows from what match has left: names that are reachable and without contradiction.
// Were all movers afloat, nothing would keep a removal from being told; then every name would be free, and movers and
// newcomers could be placed from the top down. A float is always to be had, it takes nothing but a path. So as long as
// something is left a round tells or floats at least one half; each half is told once and floats once; what is told is
// never taken back. Rounds end when one told nothing: in fact after two.
func (p *pass) tell() {
	t := p.t
	t.mu.Lock()
	for round, before := 0, 0; round < 2 || p.steps != before; round++ {
		before = p.steps
		for _, i := range p.order {
			if round > 0 || i.fate != fateMovedOut { // an object that is renamed in and out again leaves last
				p.lose(i)
			}
			p.gain(i)
			p.land()
		}
	}
	for _, i := range p.order {
		p.attributes(i)
	}
	p.dirTimes()
	p.flush()
	t.mu.Unlock()
}

// lose tells that an object has left a name: removed, moved out, or moved to where it was found. It is
// false if that cannot be told now.
func (p *pass) lose(i *item) bool {
	if i.lostOut || !(i.loses() || i.to != nil) {
		return true
	}
	if i.held || i.losing {
		return false
	}
	if !p.stands(i) { // it went with a directory above
		i.lostOut = true
		p.steps++
		return true
	}
	if !p.placed(i.at.dir) {
		return false
	}
	if i.to != nil {
		return p.gain(i.to)
	}
	i.losing = true
	defer func() { i.losing = false }()
	if !p.evacuate(i.old, i.fate) || !p.placed(i.at.dir) { // one that left may have made a directory above float
		return false
	}
	p.depart(i)
	return true
}

// stands says whether what was told under a name is still there in the tree.
func (p *pass) stands(i *item) bool {
	return p.t.s.alive(i.at.dir) && p.t.s.stands(i.old, i.at)
}

// placed says whether a directory has a path: it is in the tree, and none above it floats.
func (p *pass) placed(r ref) bool {
	s := &p.t.s
	if !s.alive(r) || s.dir(r).flags&dirAttached == 0 {
		return false
	}
	for n := s.node(r); len(p.afloat) > 0 && n.parent != 0; n = s.node(n.parent) {
		if s.dir(n.parent).flags&dirAttached == 0 {
			return false
		}
	}
	return true
}

// moves says whether the object of an item was found elsewhere and is still to be told there.
func (i *item) moves() bool {
	return i.to != nil && !i.lostOut && !i.held && !i.to.held && i.to.gains()
}

// moversBelow are the items below a directory whose objects move.
func (p *pass) moversBelow(r ref) (out []*item) {
	t := p.t
	if p.movers == 0 || !t.s.isDir(r) || t.s.dir(r).first == 0 {
		return nil
	}
	for _, i := range p.order {
		if i.moves() && p.stands(i) && t.s.within(i.at.dir, r) {
			out = append(out, i)
		}
	}
	return out
}

// evacuate lets those leave a directory that were found elsewhere, before it goes with all that is left. What is not on their way
// goes at once, so that little is told while one of them floats.
func (p *pass) evacuate(r ref, f fate) bool {
	for pruned := false; ; pruned = true {
		movers := p.moversBelow(r)
		if len(movers) == 0 {
			return true
		}
		if !pruned {
			keep := make(map[ref]bool)
			for _, m := range movers {
				keep[m.old] = true
				for d := m.at.dir; d != r && !keep[d]; d = p.t.s.node(d).parent {
					keep[d] = true
				}
			}
			p.prune(r, f, keep)
		}
		for _, m := range movers {
			if !p.lose(m) && !p.letGo(m) {
				return false
			}
		}
	}
}

// prune tells that what is below a directory has left with it, except what is to be kept.
func (p *pass) prune(r ref, f fate, keep map[ref]bool) {
	t := p.t
	if !t.s.isDir(r) {
		return
	}
	for _, c := range t.s.childList(r) {
		if keep[c] {
			if i := p.item(place{r, t.s.name(c)}); i == nil || i.old != c || !i.moves() {
				p.prune(c, f, keep)
			}
			continue
		}
		p.departFrom(r, c, f)
	}
}

// depart tells that the object of an item has left for good, and all below it with it.
func (p *pass) depart(i *item) {
	t := p.t
	i.lostOut = true
	p.steps++
	if i.fate == fateMovedOut {
		p.linksStay(i.old, i)
		p.emit(pick(i.old, t, notify.ChildFileMovedFrom, notify.ChildDirMovedFrom), i.old, i)
		p.close()
		p.leave(i.old)
		return
	}
	p.clearOut(i.old)
	p.linksStay(i.old, i)
	p.emit(pick(i.old, t, notify.ChildFileRemoved, notify.ChildDirRemoved), i.old, i)
	p.close()
	p.forget(i.old)
	p.unlinked(i.at, i.oldID)
}

// departFrom is depart for an entry c of a directory that goes, whether there is an item of it or not.
func (p *pass) departFrom(r, c ref, f fate) {
	t := p.t
	i := p.item(place{r, t.s.name(c)})
	switch {
	case f == fateMovedOut:
		p.linksStay(c, nil)
		if t.s.isDir(c) {
			p.emit(notify.SelfRemoved, c, nil)
			p.close()
		}
		p.leave(c)
	case i != nil && i.old == c && !i.lostOut:
		if !i.loses() { // seen there, but the directory above is gone: the look is older
			i.state, i.look = absent, look{name: i.at.name, err: errGone}
		}
		if i.fate == fateUnknown {
			i.fate = fateRemoved
		}
		p.depart(i)
	default:
		p.clearOut(c)
		p.linksStay(c, nil)
		p.emit(pick(c, t, notify.ChildFileRemoved, notify.ChildDirRemoved), c, nil)
		p.close()
		p.forget(c)
	}
}

// clearOut tells that everything below a directory is removed, children before parents.
func (p *pass) clearOut(r ref) {
	t := p.t
	if !t.s.isDir(r) {
		return
	}
	for c := t.s.dir(r).first; c != 0; c = t.s.dir(r).first {
		p.departFrom(r, c, fateRemoved)
	}
}

// linksStay tells, before an entry leaves with all below it, where those files still are that lose a name by it and have another one: one such
// name for each. It is told now, since nobody can find out later which files a directory had, or which of their names was left then.
func (p *pass) linksStay(r ref, i *item) {
	s := &p.t.s
	if !s.isDir(r) {
		for k := s.byID(s.node(r).id); k != 0; k = s.sameID(k) {
			if k != r && p.placed(s.node(k).parent) {
				p.emit(notify.ChildLinkStays, k, i) // in one group with what it is told for
				return
			}
		}
		return
	}
	if s.dir(r).first == 0 { // as after clearOut
		return
	}
	leaving, files := map[ref]bool{}, []notify.FileID(nil) // those with several names only
	var collect func(dir ref)
	collect = func(dir ref) {
		s.children(dir, func(c ref) {
			id := s.node(c).id
			if s.isDir(c) {
				collect(c)
			} else if first := s.byID(id); first != c || s.sameID(first) != 0 {
				leaving[c] = true
				files = append(files, id)
			}
		})
	}
	collect(r)
	seen := map[notify.FileID]bool{}
	for _, id := range files {
		if seen[id] {
			continue
		}
		seen[id] = true
		for k := s.byID(id); k != 0; k = s.sameID(k) {
			if !leaving[k] && p.placed(s.node(k).parent) {
				p.emit(notify.ChildLinkStays, k, i)
				p.close()
				break
			}
		}
	}
}

// forget takes an entry out of the tree for good.
func (p *pass) forget(r ref) {
	p.changed()
	p.t.s.detach(r)
	if p.t.s.isDir(r) {
		p.t.drop(r)
	}
	p.t.s.release(r)
}

// leave takes an entry and all below it out of the tree: it went to where nobody looks. Who watches
// a directory below it is told by a self_removed of its own.
func (p *pass) leave(r ref) {
	if p.t.s.isDir(r) {
		for _, c := range p.t.s.childList(r) {
			if p.t.s.isDir(c) {
				p.emit(notify.SelfRemoved, c, nil)
				p.close()
			}
			p.leave(c)
		}
	}
	p.forget(r)
}

// gain tells that an object has come to a name. It is false if that cannot be told now.
func (p *pass) gain(g *item) bool {
	if g.gainIn || !g.gains() {
		return true
	}
	if g.held || g.gaining || g.losing {
		return false
	}
	l := g.from
	g.gaining = true
	defer func() { g.gaining = false }()
	if l != nil && !l.losing && !l.floats { // one that floats has left: what comes to its old name may be what it waits for
		l.losing = true
		defer func() { l.losing = false }()
	}
	if up := p.freshAt[g.at.dir]; up != nil && !p.gain(up) {
		return false
	}
	ready := func() bool {
		return p.placed(g.at.dir) && (l == nil || l.floats || !l.held && !l.lostOut && p.placed(l.at.dir) && p.stands(l))
	}
	if !ready() || !p.clear(g) || l != nil && !p.unnest(l, g) || l == nil && !p.yields(g) || !ready() {
		return false
	}
	if l == nil {
		p.arrive(g)
	} else {
		p.move(l, g)
	}
	g.gainIn = true
	p.steps++
	return true
}

// yields has an object that went told before another one comes that has its ID, and is of another kind: after a power cut xfs may give out an inode
// number with its generation once more. It would be told as one more name of what went. It may have gone with a directory above it.
func (p *pass) yields(g *item) bool {
	for i := p.inTheWay(g); i != nil; i = p.inTheWay(g) {
		if !p.lose(i) {
			return false
		}
	}
	return true
}

// inTheWay is what still has to be told to have gone so that nothing of another kind has the ID of g; nil: there is none.
func (p *pass) inTheWay(g *item) *item {
	s := &p.t.s
	for k := s.byID(g.look.id); k != 0; k = s.sameID(k) {
		if s.isDir(k) == g.look.attr.IsDir() {
			continue
		}
		for up := k; s.node(up).parent != 0; up = s.node(up).parent {
			if i := p.item(place{s.node(up).parent, s.name(up)}); i != nil && i.old == up && i.to == nil && i.loses() && !i.lostOut {
				return i
			}
		}
	}
	return nil
}

// clear makes a name free: whatever was told there is told to have left.
func (p *pass) clear(g *item) bool {
	o := p.t.s.child(g.at.dir, g.at.name)
	return o == 0 || o == g.old && (p.lose(g) || p.letGo(g)) && p.t.s.child(g.at.dir, g.at.name) == 0
}

// unnest lets those leave a directory that is to be moved to a place below itself: one of the directories between the two
// goes elsewhere first.
func (p *pass) unnest(l, g *item) bool {
	t := p.t
	for t.s.isDir(l.old) && t.s.within(g.at.dir, l.old) {
		var between *item
		for d := g.at.dir; d != l.old; d = t.s.node(d).parent {
			if i := p.item(place{t.s.node(d).parent, t.s.name(d)}); i != nil && i.old == d && i.moves() {
				between = i
			}
		}
		if between == nil || !p.lose(between) && !p.letGo(between) {
			return false
		}
	}
	return true
}

// letGo breaks a cycle: an object that cannot go to its new place yet, as that waits for this one to leave, is told to have left
// first.
func (p *pass) letGo(i *item) bool {
	if !i.moves() || !p.placed(i.at.dir) || !p.stands(i) {
		return false
	}
	p.float(i)
	return true
}

// float tells the moved_from of an object whose new name is not free yet, and before that of all below it that move.
func (p *pass) float(l *item) {
	for movers := p.moversBelow(l.old); len(movers) > 0; movers = p.moversBelow(l.old) {
		p.float(movers[0])
	}
	t := p.t
	root := t.s.rootOf(l.old)
	l.linkAt = p.emit(pick(l.old, t, notify.ChildFileMovedFrom, notify.ChildDirMovedFrom), l.old, l)
	p.changed()
	t.s.detach(l.old)
	t.s.node(l.old).parent = 0 // whoever walks up from below ends here
	l.floats, l.lostOut, l.root = true, true, root
	p.afloat = append(p.afloat, l)
	p.floating++
	p.steps++
	p.close()
}

// land tells the new places of those that have left theirs, before anything else is told.
func (p *pass) land() {
	for n := -1; len(p.afloat) > 0 && n != p.steps; {
		n = p.steps
		for _, l := range slices.Clone(p.afloat) {
			p.gain(l.to)
		}
	}
	for len(p.afloat) > 0 { // it should not happen: it left, and a sweep finds where it is
		p.strand(p.afloat[0])
	}
}

// strand leaves an object where it is afloat.
func (p *pass) strand(l *item) {
	t := p.t
	t.log.Error("an entry that was told to have left has no new place: everything is swept", "root", t.rootName(l.root), "name", notify.EscapeName(l.at.name))
	t.wantSweep = true
	p.ashore(l)
	p.close()
	t.s.attach(l.old, l.root, "\x00") // no name of a file: it stands there for a moment only
	p.leave(l.old)
}

// ashore ends that an object floats.
func (p *pass) ashore(l *item) {
	l.floats = false
	p.afloat = slices.DeleteFunc(p.afloat, func(x *item) bool { return x == l })
	if !l.cut {
		p.floating--
	}
}

// move tells a rename.
func (p *pass) move(l, g *item) {
	t := p.t
	isDir := t.s.isDir(l.old)
	p.moved = p.moved || isDir
	p.movers--
	cut, from := l.cut, l.linkAt
	if l.floats {
		p.ashore(l)
		t.s.attach(l.old, g.at.dir, g.at.name)
	} else {
		from = p.emit(pick(l.old, t, notify.ChildFileMovedFrom, notify.ChildDirMovedFrom), l.old, l)
		t.s.move(l.old, g.at.dir, g.at.name)
		l.lostOut = true
	}
	p.changed()
	g.node = l.old
	if (l.ops|g.ops)&(OpMovedFrom|OpMovedTo) == 0 { // it may have been linked there, and unlinked here
		p.unlinked(l.at, l.oldID)
	}
	to := p.emit(pick(l.old, t, notify.ChildFileMovedTo, notify.ChildDirMovedTo), l.old, g)
	if !cut {
		p.link(from, to)
	}
	p.close()
	if cut && isDir {
		p.enter(l.old)
	}
	if isDir && t.placed {
		p.listBelow(l.old)
	}
}

// listBelow has a directory and all below it listed in the next passes, as what is left out in them may be something else now.
func (p *pass) listBelow(r ref) {
	p.left.list(r)
	p.t.s.children(r, func(c ref) {
		if p.t.s.isDir(c) {
			p.listBelow(c)
		}
	})
}

// maxOpen is how far a group may grow that could be ended: it has to go into one batch, and onto the wire in one event, with what still
// comes into it at once. That is never more than what is told of one entry under one name, which is hardly ever as much again.
var maxOpen = notify.Load{Indexes: notify.BatchIndexes / 2, Weight: notify.MaxBatchBytes}

// cutLoose gives up that the halves of the renames under way stay in one batch: each is told as one that left and one that entered.
func (p *pass) cutLoose() {
	for _, l := range p.afloat {
		l.cut = true
	}
	p.floating = 0
}

// enter tells everything below a directory again whose coming is told as one from outside.
func (p *pass) enter(r ref) {
	t := p.t
	for _, c := range t.s.childList(r) {
		p.emit(pick(c, t, notify.ChildFileAdded, notify.ChildDirAdded), c, nil)
		if n := t.s.attr(c); n.IsRegular() && n.Size > 0 {
			p.content(c, nil)
		}
		p.close()
		if t.s.isDir(c) {
			p.enter(c)
		}
	}
}

// arrive tells an object that the tree did not have.
func (p *pass) arrive(g *item) {
	t := p.t
	other := t.s.byIDOf(g.look.id, g.look.attr.IsDir())
	linked := other != 0
	if r := p.fresh[g.look.id]; r != 0 && p.freshAt[r] == g {
		g.node = r
	}
	if g.node == 0 {
		g.node = t.s.alloc(g.at.dir, g.at.name, g.look.id, g.look.attr.IsDir())
		if g.look.attr.IsDir() {
			t.s.dir(g.node).mount = g.look.mount.index
			if g.look.mount.opaque != "" || t.oneLvl {
				t.shut(g.node, g.look.mount)
			}
		}
	}
	p.changed()
	t.s.attach(g.node, g.at.dir, g.at.name)
	if linked { // what has changed since its other names were told is told of this one too
		t.s.setAs(g.node, other)
		if mtime := t.s.node(other).mtime; t.unproved.has(unproved{other, mtime}) {
			t.unproved.add(unproved{g.node, mtime}, maxUnproved)
		}
		if i := p.item(place{t.s.node(other).parent, t.s.name(other)}); i != nil && i.old == other {
			g.its |= i.passedOn()
		}
	} else {
		t.s.set(g.node, &g.look.attr)
	}
	if g.look.attr.IsDir() {
		switch {
		case t.s.dir(g.node).flags&dirOpaque != 0:
			t.sayShut(g.node)
		case p.freshAt[g.node] == nil:
			p.stuck[g.node] = &job{dir: g.node, list: true, watch: true} // not listed yet
		}
	}
	entered := g.hint.arrived == OpMovedTo && !p.inside(g)
	types := [2]notify.Type{notify.ChildFileAdded, notify.ChildDirAdded}
	if entered {
		types = [2]notify.Type{notify.ChildFileMovedTo, notify.ChildDirMovedTo}
	}
	if t.s.isDir(g.node) && (entered || t.s.dir(g.at.dir).flags&dirEntered != 0) {
		t.s.dir(g.node).flags |= dirEntered
	}
	p.filled[g.at.dir] = true
	p.emit(pick(g.node, t, types[0], types[1]), g.node, g)
	p.close()
	g.new, g.entered = !entered && !linked, entered && !linked
	if !t.s.isDir(g.node) && !linked {
		t.newcomers.add(g.look.attr.Ino, g.look.id)
	}
}

// pick chooses between the type for files and the one for directories.
func pick(r ref, t *tree, file, dir notify.Type) notify.Type {
	if t.s.isDir(r) {
		return dir
	}
	return file
}

// inside says whether the records saw an object come from another name of its root that is told: it was made there, and renamed before anyone
// could look.
func (p *pass) inside(g *item) bool {
	if g.hint.source < 0 {
		return false
	}
	s, from := &p.t.s, p.dirt.names[g.hint.source].at
	return s.alive(from.dir) && s.rootOf(from.dir) == s.rootOf(g.at.dir) &&
		(p.t.exclude == nil || !p.t.exclude(join(s.path(from.dir), from.name), g.look.attr.IsDir()))
}
