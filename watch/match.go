package watch

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"fs_notify/notify"
)

// agree gives every name of an object what the newest look at any of them has found: attributes are the object's. Each would be
// told as it was seen, and one that was seen before the last change of the object would stay behind, as the record of that is
// of another name.
func (p *pass) agree() {
	files := func(f func(i *item)) {
		for _, i := range p.order {
			if i.state == present && !i.look.attr.IsDir() {
				f(i)
			}
		}
	}
	several := false
	for _, names := range p.gained { // each may have been looked at when it was the only one
		several = several || len(names) > 1
	}
	files(func(i *item) { several = several || i.look.attr.Nlink > 1 })
	if !several {
		return
	}
	newest := make(map[notify.FileID]*look)
	files(func(i *item) {
		if k := newest[i.look.id]; k == nil || k.attr.Ctime < i.look.attr.Ctime {
			newest[i.look.id] = &i.look
		}
	})
	files(func(i *item) {
		if k := newest[i.look.id]; k.attr.Ctime > i.look.attr.Ctime && k.attr.Ino == i.look.attr.Ino {
			i.look.attr, i.look.bare, i.look.behind = k.attr, k.bare, k.behind
		}
	})
}

// spelled settles it where an object was found under several names of a directory which may be one name, as there are directories that fold
// case: a look at either finds it, and a listing says how it is written. It says whether there was any.
func (p *pass) spelled() bool {
	t := p.t
	doubtful := make(map[ref][]*item)
	for id, to := range p.gained {
		if len(to) == 1 && t.s.byID(id) == 0 {
			continue
		}
		names := slices.Clip(to)
		p.toldAs(id, func(i *item) {
			if i.state == present && !i.replaced() && !i.believed {
				names = append(names, i)
			}
		})
		if len(names) == 1 {
			continue
		}
		folded, all := make(map[place]int), make(map[ref]int) // how many are written so, and how many there are
		for _, i := range names {
			folded[place{i.at.dir, foldName(i.at.name)}]++
			all[i.at.dir]++
		}
		for _, i := range names {
			alike := all[i.at.dir]
			if name := foldName(i.at.name); name != "" {
				alike = folded[place{i.at.dir, name}] + folded[place{i.at.dir, ""}]
			}
			if alike > 1 {
				doubtful[i.at.dir] = append(doubtful[i.at.dir], i)
			}
		}
	}
	if len(doubtful) == 0 {
		return false
	}
	roots := t.newRoots()
	defer roots.close()
	for dir, items := range doubtful {
		j := &job{dir: dir, spell: items}
		if path, ok := p.pathNow(dir); ok {
			j.path = &path
		}
		t.perform(t.lookers[0], j, roots)
		there := make(map[notify.FileID][]*item)
		for _, i := range items {
			if i.state == present {
				there[i.look.id] = append(there[i.look.id], i)
			}
			if r := p.fresh[i.look.id]; i.state == present && r != 0 && p.freshAt[r].state == absent {
				t.mu.Lock()
				t.s.rehome(r, i.at.dir, i.at.name)
				t.mu.Unlock()
				p.freshAt[r] = i
			}
		}
		for _, names := range there {
			if len(names) > 1 && names[0].look.attr.IsDir() { // it was renamed in between, or the listing failed: the next pass looks again
				for _, i := range names {
					i.state = unreachable
				}
			}
		}
	}
	return true
}

// maybeOneName says whether a directory that folds case may take two names for one.
func maybeOneName(a, b string) bool {
	x, y := foldName(a), foldName(b)
	return x == y || x == "" || y == ""
}

// foldName gives the same for names that a directory which folds case may take for one. Of a name that is not all ASCII it is "", and that may be one with any:
// how letters are composed counts too.
func foldName(name string) string {
	for i := range len(name) {
		if name[i] >= utf8.RuneSelf {
			return ""
		}
	}
	return strings.ToLower(name)
}

// oneName settles it where a file that has one name only was found under several, as it was renamed between the looks. It is where the newest look found it,
// since its change time moves with each rename. A name that it is told under is one that it has left, and a new one waits for another look. Where nobody knows which
// look is the newest all new ones wait; after some time it is believed that a file has several names and that its link count does not say so, as on some file systems.
func (p *pass) oneName() {
	for id, to := range p.gained {
		if to[0].look.attr.IsDir() || len(to) == 1 && p.t.s.byID(id) == 0 {
			continue
		}
		names := slices.Clip(to)
		p.toldAs(id, func(i *item) {
			if i.state == present && !i.replaced() && !i.believed {
				names = append(names, i)
			}
		})
		if len(names) == 1 {
			continue
		}
		newest, tie := names[0], false
		for _, i := range names[1:] {
			switch c, least := i.look.attr.Ctime, newest.look.attr.Ctime; {
			case c > least:
				newest, tie = i, false
			case c == least:
				tie = true
			}
		}
		if newest.look.attr.Nlink != 1 {
			continue
		}
		p.gained[id] = slices.DeleteFunc(to, func(g *item) bool {
			g.held = (tie || g != newest) && p.now.Sub(p.waitOf(g).since) < time.Second
			g.sorted = !g.held
			return g.held
		})
		for _, i := range names[len(to):] {
			if i.stale = !tie && i != newest; i.stale {
				p.lostBy[id] = append(p.lostBy[id], i)
			}
		}
	}
}

// writtenTo passes on to all names of a file that it was written to, if that was by one which it got only now.
func (p *pass) writtenTo() {
	for id, to := range p.gained {
		if len(to) == 0 || to[0].look.attr.IsDir() || len(to) == 1 && p.t.s.byID(id) == 0 || !slices.ContainsFunc(to, p.isWritten) {
			continue
		}
		for _, g := range to {
			g.its |= OpModify
		}
		p.toldAs(id, func(i *item) { i.own |= OpModify })
	}
}

// sort notes by object which names lost one and which gained it.
func (p *pass) sort() {
	clear(p.lostBy)
	clear(p.gained)
	for _, i := range p.order {
		i.sorted = false
		if to := p.dest(i); i.believed && (i.state == present || to != nil && to.believed) {
			continue // it is known which name it comes from, or goes to
		}
		if i.loses() {
			p.lostBy[i.oldID] = append(p.lostBy[i.oldID], i)
		}
		if i.gains() {
			i.sorted = true
			p.gained[i.look.id] = append(p.gained[i.look.id], i)
		}
	}
}

// match decides for each name what it lost and what it gained.
func (p *pass) match() {
	for _, i := range p.order {
		if i.hint.swapped && i.loses() && i.gains() { // it was no rename over it, behind which that one went on
			i.hint.fate, i.hint.arrived = fateHalf, OpMovedTo
		}
	}
	p.sort()
	if p.spelled() {
		p.sort()
	}
	for _, i := range p.order {
		if i.believed && i.state == present {
			p.pair(p.named[i.hint.source], i)
		}
	}
	p.oneName()
	p.writtenTo()
	p.agree()
	for id, to := range p.gained {
		from := p.lostBy[id]
		for _, l := range from { // where the records saw it go
			if g := p.dest(l); g != nil && g.sorted && g.look.id == id && g.from == nil && l.to == nil && g.look.attr.IsDir() == l.oldDir {
				p.pair(l, g)
			}
		}
		var l, g *item
		nl, ng := 0, 0
		for _, x := range from {
			if x.to == nil {
				l = x
				nl++
			}
		}
		for _, x := range to {
			if x.from == nil {
				g = x
				ng++
			}
		}
		if nl == 1 && ng == 1 && l != g && l.oldDir == g.look.attr.IsDir() {
			p.pair(l, g)
		}
		for _, g := range to {
			if g.from == nil {
				p.unexplained(id, g)
			}
		}
	}
	for _, l := range p.order {
		if l.loses() && l.to == nil {
			p.judge(l)
		}
	}
	for _, i := range p.order {
		if i.hint.adrift && i.old == 0 && i.state == absent && p.waits(i, recordWait) {
			i.held = true // the record that it went on is still to come: where that leads, it has come from outside
		}
	}
	// What has to wait makes others wait.
	for _, i := range p.order {
		if i.held {
			i.held = false
			p.holdBack(i)
		}
	}
	for more := true; more; {
		more = false
		ends := make(map[ref]bool)
		for _, i := range p.order {
			if i.gains() && !i.held && !p.stays(i.at.dir, ends) {
				p.holdBack(i)
				more = true
			}
		}
	}
	for _, i := range p.order {
		if i.moves() {
			p.movers++
		}
	}
}

// stays says whether a directory is in the tree when all is told that is not held: it follows the way up by where everything
// is then. The looks may contradict each other: a way that leads into what goes, or in a circle, leads nowhere. known keeps
// what was found on the way.
func (p *pass) stays(r ref, known map[ref]bool) bool {
	s := &p.t.s
	var way []ref
	end, ok := false, false
	for {
		if end, ok = known[r]; ok {
			break
		}
		known[r] = false // if it is met again before the end
		way = append(way, r)
		n := s.node(r)
		if s.dir(r).flags&dirAttached == 0 {
			up := p.freshAt[r]
			if up == nil || up.held || !up.gains() || up.look.id != n.id {
				break
			}
			r = up.at.dir
			continue
		}
		if n.parent == 0 {
			end = true
			break
		}
		i := p.item(place{n.parent, s.names.view(n.name)})
		if i != nil && i.old == r && !i.held {
			if i.to != nil {
				r = i.to.at.dir
				continue
			}
			if i.loses() {
				break
			}
		}
		r = n.parent
	}
	for _, r := range way {
		known[r] = end
	}
	return end
}

// pair notes that the object which l lost stands at g now.
func (p *pass) pair(l, g *item) { l.to, g.from = g, l }

// unexplained is an object found under a new name while the tree has it under another that was not seen to lose it.
func (p *pass) unexplained(id notify.FileID, g *item) {
	t := p.t
	if !g.look.attr.IsDir() && g.look.attr.Nlink != 1 {
		return // one more name
	}
	isDir := g.look.attr.IsDir()
	for k := t.s.byID(id); k != 0; k = t.s.sameID(k) {
		n := t.s.node(k)
		if n.parent == 0 {
			g.state = denied // the root below itself
			return
		}
		if t.s.isDir(k) != isDir {
			continue
		}
		l := p.item(place{n.parent, t.s.name(k)})
		switch free := l != nil && l.to == nil && l.old == k; {
		case free && (l.state == unreachable || l.state == denied) && (isDir || g.look.attr.Nlink == 1):
			p.pair(l, g) // it has one name only
			return
		case isDir && p.now.Sub(p.waitOf(g).since) > time.Second:
			g.state = denied
			return
		case isDir: // at two places: one of the looks is out of date
			g.held = true
			return
		}
	}
}

// wait is what a name that could not be decided waits for.
type wait struct {
	since time.Time
	// echo is the number of a barrier that was set after the name was seen, and after whoever was changing its directory
	// had done so: once it comes out of the source, no record is still to come that could explain what was seen. 0: the
	// source cannot give one, and time has to do.
	echo uint64
}

// coming says whether the echo is under way still, and not for too long.
func (w wait) coming(echoed uint64, now time.Time) bool {
	return w.echo > echoed && now.Sub(w.since) < longestLag
}

// waitOf is what a name has waited for so far.
func (p *pass) waitOf(i *item) wait {
	if w, ok := p.t.patience[i.at]; ok && (i.carried || !i.records) {
		return w
	}
	return wait{since: p.now} // something new was said of it: patience begins anew
}

// wake takes from what is carried what a pass over d is to look at again: names of which a record came, and those that wait for
// nothing any more, or for time to pass. Looking at the others, which wait for their echo, would find what was found before; while
// much is behind in the inbox, they are many. What was renamed into each other stays together, and a name that is here only for the
// sake of another comes with it.
func (t *tree) wake(d *dirt, now time.Time) (older *dirt) {
	c := t.carry
	if c == nil {
		return nil
	}
	echoed := max(t.echoed, d.echo)
	group, byCookie := c.groups()
	chosen, waits := make([]bool, len(c.names)), make([]bool, len(c.names)) // of groups
	for i := range c.names {
		at := c.names[i].at
		w, waiting := t.patience[at]
		_, heard := d.find(at)
		age := now.Sub(w.since)
		switch {
		case heard || t.carryAll || waiting && (!w.coming(echoed, now) || age >= maxWait && age < stuckAfter):
			chosen[group[i]] = true
		case waiting:
			waits[group[i]] = true
		}
	}
	for _, m := range d.moves {
		if i, ok := byCookie[m.cookie]; ok {
			chosen[group[i]] = true
		}
	}
	names, n := make([]bool, len(c.names)), 0
	for i, g := range group {
		if names[i] = chosen[g] || !waits[g]; names[i] {
			n++
		}
	}
	t.carryAll = false
	switch {
	case n == len(c.names):
		t.carry = nil
		return c
	case n == 0 && len(c.lists) == 0:
		t.carryDue = now.Add(halfWait / 2)
		return nil
	}
	older, t.carry = c.split(names)
	return older
}

// forsake forgets the names that are carried of directories that have gone, before their refs are those of others.
func (t *tree) forsake() {
	gone := t.dropped
	t.dropped = false
	if !gone || t.carry == nil {
		return
	}
	dead := make([]bool, len(t.carry.names))
	for i := range dead {
		at := t.carry.names[i].at
		if dead[i] = !t.s.alive(at.dir); dead[i] {
			delete(t.patience, at)
		}
	}
	if slices.Contains(dead, true) {
		old := t.carry
		_, t.carry = old.split(dead)
		t.carry.lists = old.lists
	}
}

// dest is the name that the records saw an object go to.
func (p *pass) dest(l *item) *item {
	if l.hint.dest < 0 {
		return nil
	}
	return p.named[l.hint.dest]
}

// maxWait bounds the patience while there is always something behind, or no echo comes.
const maxWait = 2 * time.Second

// waits says whether a record that explains what was seen may still come.
func (p *pass) waits(i *item, patience time.Duration) bool {
	w := p.waitOf(i)
	switch {
	case p.leaves(): // it may be there
		patience = longestLag
	case w.echo != 0:
		return p.t.echoed < w.echo && p.now.Sub(w.since) < maxWait
	case !p.t.drained: // what is behind in the inbox was not looked at yet
		patience = maxWait
	}
	return p.now.Sub(w.since) < patience
}

// leaves says whether something that was found is still to be looked at when the pass ends. What records say has gone may be in a directory among it, which nobody
// watches yet.
func (p *pass) leaves() bool { return !p.t.left.empty() || !p.left.empty() }

// watched says whether records tell what happens to the names in a directory: a look that is ahead of them waits for them.
func (p *pass) watched(r ref) bool {
	return p.t.s.dir(r).flags&(dirWatched|dirPolled|dirDegraded) == dirWatched
}

// judge says what became of an object that is not found anywhere.
func (p *pass) judge(l *item) {
	if p.t.s.dir(l.at.dir).flags&dirOpaque != 0 { // by another mount it has another ID
		l.fate = fateRemoved
		return
	}
	l.fate = l.hint.fate
	if l.state == absent && l.hint.arrived != 0 && p.waits(l, recordWait) {
		l.held = true // the look is ahead of the records: one that says how it went is still to come
		return
	}
	switch l.fate {
	case fateRemoved:
		return
	case fateMovedOut:
		l.held = p.leaves() && p.waits(l, 0)
		return
	case fateHalf:
		if p.waits(l, halfWait) || p.hold {
			l.held = true
			return
		}
		if w := p.waitOf(l); w.echo != 0 && p.t.echoed >= w.echo {
			l.fate = fateMovedOut // all records are read: there is no other half
			return
		}
		p.follow(l)
		return
	}
	if l.hint.dest >= 0 {
		dest := p.dirt.names[l.hint.dest].at
		// It was renamed to a place where it is no longer, or that is in another root.
		if p.t.s.alive(dest.dir) && p.t.s.rootOf(dest.dir) == p.t.s.rootOf(l.at.dir) && p.waits(l, recordWait) {
			l.held = true
			return
		}
		p.follow(l)
		return
	}
	if p.hold || (l.records || p.watched(l.at.dir)) && p.waits(l, recordWait) {
		l.held = true // the record that says how it went is still to come, or the sweep may find it
		return
	}
	l.fate = fateRemoved
}

// follow has an object that is renamed faster than anyone can look go on to the last place where the records saw it, although it is no longer there: from there
// it is waited for anew. If that is no place in the tree, it has moved out.
func (p *pass) follow(l *item) {
	s, g := &p.t.s, p.dest(l)
	if g == nil || g.state != absent || !s.alive(g.at.dir) || s.dir(g.at.dir).flags&dirAttached == 0 || s.rootOf(g.at.dir) != s.rootOf(l.at.dir) ||
		s.dir(g.at.dir).mount != s.dir(l.at.dir).mount || l.oldDir && s.within(g.at.dir, l.old) || g.old != 0 && g.oldID == l.oldID ||
		p.t.exclude != nil && p.t.exclude(join(s.path(g.at.dir), g.at.name), l.oldDir) {
		l.fate = fateMovedOut
		return
	}
	l.fate = fateUnknown
	g.state, g.believed = present, true
	g.look = look{name: g.at.name, id: l.oldID, attr: s.attr(l.old), mount: p.t.ms.at(s.dir(g.at.dir).mount)}
	p.pair(l, g)
	p.followed = append(p.followed, g)
}

// holdBack keeps a name as it was told, and with it all that depends on it.
func (p *pass) holdBack(i *item) {
	if i.held {
		return
	}
	i.held = true
	if i.from != nil {
		p.holdBack(i.from) // it has no place to go to
	}
	if i.to != nil {
		p.holdBack(i.to)
	}
	if i.old == 0 {
		return
	}
	for d := i.at.dir; p.t.s.node(d).parent != 0; d = p.t.s.node(d).parent {
		if up := p.item(place{p.t.s.node(d).parent, p.t.s.name(d)}); up != nil && up.old == d && up.loses() && up.to == nil {
			p.holdBack(up) // a directory is not removed before what was in it
		}
	}
}
