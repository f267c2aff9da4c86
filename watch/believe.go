package watch

import "time"

// checks is what is to be checked of what was believed (see [pass.believe]), by directory.
type checks struct {
	dueDirs
	notes map[ref]*check
}

// check is what is to be checked of a directory.
type check struct {
	since time.Time
	came  []ref // files, by renames
}

const (
	believeFrom = 16              // names in a pass
	believeMost = 16384           // names in a directory that may have to be listed
	checkRest   = time.Second     // for how long nothing was believed of a directory before it is checked
	checkLate   = 5 * time.Second // and how long that is put off
)

// note puts the check of a directory off until it is at rest.
func (c *checks) note(r ref, now time.Time) *check {
	k := c.notes[r]
	if k == nil {
		if c.notes == nil {
			c.notes = make(map[ref]*check)
		}
		k = &check{since: now}
		c.notes[r] = k
	}
	due := now.Add(checkRest)
	if latest := k.since.Add(checkLate); due.After(latest) {
		due = latest
	}
	c.put(r, due)
	return k
}

func (c *checks) drop(r ref) {
	c.dueDirs.drop(r)
	delete(c.notes, r)
}

// check has what was believed of directories looked at that are at rest.
func (p *pass) check() {
	t := p.t
	if !t.drained && p.now.Sub(t.checks.first) < checkLate { // a record of what a look would find may wait
		return
	}
	for _, r := range t.checks.take(p.now, sweepDirs) {
		k := t.checks.notes[r]
		delete(t.checks.notes, r)
		if !t.s.alive(r) || t.s.dir(r).flags&dirOpaque != 0 {
			continue
		}
		p.job(r).names = true
		for _, f := range k.came {
			if t.s.node(f).parent == r {
				p.want(place{r, t.s.name(f)})
			}
		}
	}
}

// believe takes what the records say of names for what is there, where much waits and a look could add nothing: the name of a file was taken away, or a file
// of which no more is said went from one name to another. Looks at names that something has left are the dearest of all, as the kernel searches
// the directory for what is not there.
//
// A record is believed only if it says which object it is about (Record.Object), and this object is what was told under the name. That it says all is not
// certain: a rename may leave something behind of which no record speaks (RENAME_WHITEOUT), and the kernel merges a record with an earlier one of the same process
// that nobody has read yet, although others are between them. So the directories of what was believed are checked
// as soon as they are at rest: whether the names are those that were told, and, by a look, the files that came. What is not known before that are the
// inode number and the times of these, but for the modification time.
func (p *pass) believe() {
	if len(p.dirt.names) < p.t.believes {
		return
	}
	for _, i := range p.named {
		if i != nil {
			i.believed = p.saidToGo(i)
		}
	}
	for _, i := range p.named {
		if i != nil && p.saidToCome(i) {
			from, s := p.named[i.hint.source], &p.t.s
			i.look = look{name: i.at.name, id: from.oldID, attr: s.attr(from.old), mount: p.t.ms.at(s.dir(i.at.dir).mount)}
			i.look.attr.Ctime = i.hint.seen.UnixNano() // nearly
			i.believed = true
			p.trust(i, present)
		}
	}
	for _, i := range p.named {
		if i == nil || !i.believed || i.state == present {
			continue
		}
		switch to := p.dest(i); {
		case i.ops&OpMovedFrom != 0 && i.hint.fate != fateMovedOut && (to == nil || !to.believed): // both names of a rename, or none: they may have changed places
			i.believed = false
		default:
			i.look = look{name: i.at.name, err: errGone}
			p.trust(i, absent)
		}
	}
}

// saidToGo says whether records say of the file that was told under a name that it is gone from there, and nothing that is not certain.
func (p *pass) saidToGo(i *item) bool {
	s := &p.t.s
	if i.old == 0 || i.oldDir || i.object == "" || i.ops&(OpDelete|OpMovedFrom) == 0 || i.ops&(OpCreate|OpMovedTo) != 0 || !p.believable(i.at.dir) ||
		s.nlink(i.old) != 1 {
		return false
	}
	yes, certain := p.t.isObject(i.old, i.object)
	return yes && certain
}

// isObject says whether what was told as r is the object that a record is about (Record.Object). It is not certain if the record does not say it, IDs
// are not made of what it says, or it may be of a file system of which this one is a copy.
func (t *tree) isObject(r ref, object string) (yes, certain bool) {
	n := t.s.node(r)
	m := t.ms.at(t.s.dir(n.parent).mount)
	if object == "" || m.kind != idByHandle || !t.ms.unique(m) {
		return false, false
	}
	return t.ms.makeID(m, []byte(object), 0, 0) == n.id, true
}

// saidToCome says whether records say of such a file that it came to a name where nothing was told, and nothing else of either name.
func (p *pass) saidToCome(i *item) bool {
	if i.ops != OpMovedTo || i.old != 0 || i.came == 0 || p.t.exclude != nil || !p.believable(i.at.dir) {
		return false
	}
	from := p.named[i.hint.source]
	return from.believed && from.ops == OpMovedFrom && p.t.s.node(i.came).x != unread
}

// believable says whether the names of a directory need not be looked at in this pass.
func (p *pass) believable(r ref) bool {
	if j := p.todo[r]; j != nil && (j.list || j.names || j.watch) {
		return false
	}
	return p.t.s.dir(r).count <= believeMost
}

// trust has what the records say of a name stand for a look.
func (p *pass) trust(i *item, s itemState) {
	i.state = s
	r := i.at.dir
	if k := p.t.checks.note(r, p.now); s == present {
		k.came = append(k.came, i.came)
	}
	p.t.late.add(r, p.now.Add(mtimePause))
}

// doubt has a name looked at after all, and the other one of the rename: something was seen that does not fit.
func (p *pass) doubt(i *item) {
	if i == nil || !i.believed {
		return
	}
	i.believed = false
	p.again(i)
	p.doubt(p.dest(i))
	if i.hint.source >= 0 {
		p.doubt(p.named[i.hint.source])
	}
}
