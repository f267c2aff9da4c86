package watch

import (
	"math"
	"slices"
	"strings"

	"fs_notify/notify"
)

// deadNames are names that were unlinked while their object lives on under another one, and which object that was: of one name, perhaps
// several, one after the other. Who had it open by such a name goes on writing there, and the kernel's records bear the dead name: the object is
// found by these. The newest thousands are kept.
type deadNames [2]map[deadName][]notify.FileID // new ones, older ones

// deadName is a name that stays what it was when its directory has gone: another one may get the ref.
type deadName struct {
	dir  notify.FileID
	name string
}

func (s *store) deadName(at place) deadName { return deadName{s.node(at.dir).id, at.name} }

const (
	maxDeadNames = 4096
	maxDead      = 8 // of one name
)

// add notes that a name was one of an object.
func (d *deadNames) add(at deadName, id notify.FileID) {
	ids := slices.DeleteFunc(slices.Clone(d.find(at)), func(x notify.FileID) bool { return x == id })
	if d[0] == nil || len(d[0]) >= maxDeadNames {
		d[1], d[0] = d[0], make(map[deadName][]notify.FileID)
	}
	d[0][at] = append(ids[max(len(ids)-maxDead+1, 0):], id)
}

// find gives the objects that a name was one of, the newest last.
func (d *deadNames) find(at deadName) []notify.FileID {
	if ids := d[0][at]; ids != nil {
		return ids
	}
	return d[1][at]
}

// newcomers are the newest files in the tree, by inode number. One that was made without a name (O_TMPFILE) and linked somewhere goes on
// being written by whoever made it, and the kernel's records bear the name that it never had: "#" and the inode number, in the directory of the open.
type newcomers struct {
	all  []newcomer // in a circle
	next int
}

type newcomer struct {
	ino uint64
	id  notify.FileID
}

const maxNewcomers = 8192 // 128 KiB

func (c *newcomers) add(ino uint64, id notify.FileID) {
	if len(c.all) < maxNewcomers {
		c.all = append(c.all, newcomer{ino, id})
		return
	}
	c.all[c.next] = newcomer{ino, id}
	c.next = (c.next + 1) % maxNewcomers
}

// find gives the newest one with an inode number that is still to be had; 0: there is none.
func (c *newcomers) find(ino uint64, alive func(id notify.FileID) bool) notify.FileID {
	for k := range c.all {
		i := c.next - 1 - k
		if i < 0 {
			i += len(c.all)
		}
		if n := c.all[i]; n.ino == ino && alive(n.id) {
			return n.id
		}
	}
	return 0
}

// changeOps are the records that speak of an object, whatever name it was reached by.
const changeOps = OpModify | OpCloseWrite | OpAttrib

// changedElsewhere has the other names of an object looked at that may have been changed through a name that it has lost, or where nobody can look: by
// that name, or where it was for a while.
func (p *pass) changedElsewhere(i *item) {
	if i.old != 0 && !i.oldDir && (i.loses() || i.state == unreachable || i.state == denied) {
		p.others(i.old, i.oldID, i.passedOn(), i.pid)
	}
	if i.ops&changeOps == 0 {
		return
	}
	if i.object != "" { // see objects
		return
	}
	ops := i.ops & changeOps & i.news
	if i.old != 0 || i.ops&(OpCreate|OpMovedTo) != 0 {
		ops &^= OpCloseWrite // of what stands there, or did
	}
	for _, id := range p.t.deadNames.find(p.t.s.deadName(i.at)) {
		p.others(i.old, id, ops, i.pid)
	}
}

// objects has the names of objects looked at that records spoke of, where the names by which they did may not lead to them any more, or never
// were in the tree.
func (p *pass) objects() {
	t, d := p.t, p.dirt
	var ids []notify.FileID
	for k := range d.said {
		s := &d.said[k]
		if s.ops == 0 {
			p.otherSpelling(s)
			continue
		}
		var told ref
		var toldID notify.FileID // the look leads to this one
		i := p.named[s.name]
		if i != nil {
			told, toldID = i.old, i.oldID
		}
		ids = t.ms.objectIDs(ids[:0], s.object)
		for _, id := range ids {
			switch {
			case id != toldID:
				p.others(told, id, s.ops, d.names[s.name].pid)
				if s.ops&(OpModify|OpCloseWrite) != 0 || t.s.byID(id) != 0 {
					if p.saidBy == nil {
						p.saidBy = make(map[notify.FileID]Op)
					}
					p.saidBy[id] |= s.ops
				}
			default:
				i.own, i.news = i.own|s.ops, i.news|s.ops
			}
		}
	}
	for object, h := range d.heard {
		ids = t.ms.objectIDs(ids[:0], object)
		for _, id := range ids {
			if p.others(0, id, h.ops&changeOps, h.pid); h.ops&OpFromNew != 0 && t.s.byID(id) == 0 {
				t.closes.add(id, maxCloses)
			}
		}
	}
}

// otherSpelling has a name looked at that an object was told under, where it is said to have left one in that directory which nobody was told of. In a directory that
// folds case these may be one name: the kernel says it as the first look-up spelled it.
func (p *pass) otherSpelling(s *said) {
	i := p.named[s.name]
	if i == nil || i.old != 0 {
		return
	}
	for _, id := range p.t.ms.objectIDs(nil, s.object) {
		for _, at := range p.spellings(id, i.at) {
			p.wantAs(at, i)
		}
	}
}

// spellings gives the names of an object that may be one with a name, if its directory folds case.
func (p *pass) spellings(id notify.FileID, of place) []place {
	folded, name := p.folded[id], foldName(of.name)
	if folded != nil && name != "" {
		return slices.Concat(folded[place{of.dir, name}], folded[place{of.dir, ""}])
	}
	var alike, all []place
	p.names(id, 0, func(at place) {
		if all = append(all, at); at.dir == of.dir && maybeOneName(at.name, of.name) {
			alike = append(alike, at)
		}
	})
	if folded == nil && len(all) >= manyNames { // the records may speak of each
		folded = make(map[place][]place)
		for _, at := range all {
			key := place{at.dir, foldName(at.name)}
			folded[key] = append(folded[key], at)
		}
		if p.folded == nil {
			p.folded = make(map[notify.FileID]map[place][]place)
		}
		p.folded[id] = folded
	}
	return alike
}

// wantAs has a name looked at of which the records speak by another spelling.
func (p *pass) wantAs(at place, i *item) {
	if o := p.want(at); o.hint.fate == fateUnknown && o.hint.dest < 0 && o.hint.arrived == 0 {
		o.hint, o.pid = i.hint, i.pid
		o.records = true
	}
}

// leftUnknown says whether records say that something has left a name of which nobody was told, that was there before them, and not what it was.
func (i *item) leftUnknown() bool {
	return i.old == 0 && i.object == "" && (i.hint.fate != fateUnknown || i.hint.dest >= 0) && i.look.err != nil && isGone(i.look.err)
}

// respelled has the names looked at that are told in a directory which folds case, where the records say by another spelling that something has left them.
func (p *pass) respelled(j *job) {
	fold := func(name string) string { return strings.ToLower(strings.ToUpper(name)) } // there are letters that differ in one case alone
	left := make(map[string]*item)
	for _, i := range j.items {
		if i.leftUnknown() {
			left[fold(i.at.name)] = i
		}
	}
	p.t.s.children(j.dir, func(c ref) {
		name := p.t.s.name(c)
		if i := left[fold(name)]; i != nil {
			p.wantAs(place{j.dir, name}, i)
		}
	})
}

// isClosed says whether records say that the file which stands under a name was closed, by whatever name.
func (p *pass) isClosed(i *item) bool {
	return p.t.closes.take(i.look.id) || p.changes(i)&OpCloseWrite != 0
}

// isWritten says whether records say that the file which has come to a name was written to, by whatever name.
func (p *pass) isWritten(i *item) bool {
	return p.changes(i)&OpModify != 0
}

// keepCloses keeps the closes of what was not found in this pass.
func (p *pass) keepCloses() {
	for id, ops := range p.saidBy {
		if ops&OpCloseWrite != 0 && p.t.s.byID(id) == 0 {
			p.t.closes.add(id, maxCloses)
		}
	}
}

// others has the names of an object looked at, but for one, and tells them what was said of it.
func (p *pass) others(but ref, id notify.FileID, ops Op, pid int32) {
	known, ok := p.shared[id]
	if ok && ops&^known.ops == 0 {
		return
	}
	names := 0
	p.names(id, but, func(at place) {
		names++
		i := p.want(at)
		if i.ops |= ops; i.pid == 0 {
			i.pid = pid
		}
		i.own |= ops
	})
	if names >= manyNames {
		if !ok {
			known.ctime = math.MinInt64 // nobody was looked at
		}
		known.ops |= ops
		p.share(id, known)
	}
}

// names calls f for the names of an object in the tree, but for one.
func (p *pass) names(id notify.FileID, but ref, f func(at place)) {
	s := &p.t.s
	for k := s.byID(id); k != 0; k = s.sameID(k) {
		if n := s.node(k); n.parent != 0 && k != but {
			f(place{n.parent, s.name(k)})
		}
	}
}

// toldAs calls f for the names that an object was told under and that are looked at in this pass.
func (p *pass) toldAs(id notify.FileID, f func(i *item)) {
	p.names(id, 0, func(at place) {
		if i := p.item(at); i != nil && i.old != 0 && i.oldID == id {
			f(i)
		}
	})
}

// unlinked notes that an object was told to have lost a name.
func (p *pass) unlinked(at place, id notify.FileID) {
	if s := &p.t.s; s.byID(id) != 0 && s.alive(at.dir) {
		p.t.deadNames.add(s.deadName(at), id)
	}
}

// passedOn is what was said of an object by one of its names, for the others. What the name has waited with they have heard before.
func (i *item) passedOn() Op { return i.spoken() & i.news }

// spoken is what was said of the object that was told under a name. Where it still stands that is also what was said since something came there, as it may have been
// told before that was heard; and where the records do not say which object they are about all that was said by this name, but for a close, as some may be missing.
func (i *item) spoken() Op {
	switch {
	case i.state != present || i.stale || i.replaced():
		return i.own
	case i.object != "":
		return i.own | i.its
	}
	return i.own | i.its | i.ops&(OpModify|OpAttrib)
}

// changes is what was said of the object that stands under a name, by whatever name.
func (p *pass) changes(i *item) Op {
	if !i.gains() {
		return i.spoken() | p.saidBy[i.look.id]
	}
	ops := i.its | p.saidBy[i.look.id]
	if i.from != nil {
		ops |= i.from.spoken()
	}
	return ops
}
