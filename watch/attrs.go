package watch

import (
	"slices"
	"time"

	"fs_notify/notify"
)

// writer collects the notifications of a pass in groups that stay together.
type writer struct {
	out      []*rootOut // of each root that has some
	cur      *rootOut   // of the group under way
	group    notify.Load
	floating int // moved_froms whose moved_to is still to come

	// where the entry of the last notification is; good until the tree changes
	last      ref
	lastPath  string
	lastSpine notify.Spine
	emitted   int // notifications
}

// rootOut is what was told of a root and not handed on yet.
type rootOut struct {
	root   ref
	notes  []notify.Notification
	groups []noteGroup
	load   notify.Load
	most   int // notifications handed on at once, in the last pass that told any
	now    int // and in this one
}

func (o *rootOut) begin() int {
	if n := len(o.groups); n > 0 {
		return o.groups[n-1].end
	}
	return 0
}

// emit writes down a change of r as the tree stands now, and gives its place in its group plus one.
func (p *pass) emit(typ notify.Type, r ref, i *item) int { return p.emitStream(typ, r, i, "") }

func (p *pass) emitStream(typ notify.Type, r ref, i *item, stream string) int {
	t := p.t
	if p.last != r {
		p.last, p.lastPath, p.lastSpine = r, t.s.pathIn(&t.paths, r), t.s.spineIn(&t.spines, r)
	}
	if p.cur == nil {
		p.cur = p.outOf(t.s.rootOf(r))
	}
	o := p.cur
	p.emitted++
	if o.notes == nil {
		o.notes = make([]notify.Notification, 0, max(min(o.most*9/8, notesPerName*len(p.order)), notesPerName))
	}
	o.notes = slices.Grow(o.notes, 1)[:len(o.notes)+1] // what is behind is zero
	n := &o.notes[len(o.notes)-1]
	n.Type, n.Path, n.Spine, n.Stream = typ, p.lastPath, p.lastSpine, stream
	if i != nil && i.state == present && i.look.id == n.ID() {
		if n.Attr = i.look.attr; n.Attr.IsDir() {
			n.Attr.Mtime = t.s.node(r).mtime // what was told: the present one is told on its own, after a restart too
		}
	} else {
		n.Attr = t.s.attr(r)
	}
	if i != nil {
		n.Actor = t.actors.of(i.pid, p.now)
	}
	p.group.Add(n)
	return len(o.notes) - o.begin()
}

func (p *pass) outOf(root ref) *rootOut {
	ri := p.t.rootInfo(root)
	if o := &ri.out; !slices.Contains(p.out, o) {
		o.root = root
		p.out = append(p.out, o)
	}
	return &ri.out
}

// hand gives what was told of a root to the outbox, while the tree cannot be seen.
func (p *pass) hand(o *rootOut) {
	if len(o.groups) == 0 { // it was handed on already
		return
	}
	p.t.out.add(p.t.s.node(o.root).id, o.notes, o.groups)
	o.now = max(o.now, len(o.notes))
	o.notes, o.groups, o.load = nil, o.groups[:0], notify.Load{}
}

// notesPerName is how many notifications a name makes, as a rule at most.
const notesPerName = 8

// changed forgets where the last entry was, before a name in the tree changes.
func (p *pass) changed() { p.last = 0 }

// link joins the halves of a rename.
func (p *pass) link(from, to int) {
	g := p.cur.notes[p.cur.begin():]
	g[from-1].Link, g[to-1].Link = notify.Seq(to), notify.Seq(from)
}

// close ends a group, unless a half of a rename is still to come.
func (p *pass) close() {
	o := p.cur
	if o != nil && p.floating > 0 && !p.group.Within(maxOpen) {
		p.cutLoose()
	}
	if o != nil && p.floating == 0 && len(o.notes) > o.begin() {
		o.load = o.load.And(p.group)
		o.groups = append(o.groups, noteGroup{len(o.notes), p.group})
		if !o.load.Within(nearlyFull) {
			p.hand(o)
		}
		p.cur, p.group = nil, notify.Load{}
	}
}

// closeLong is close for a group that has grown long, where nothing in it is linked to what follows: a group has to go into one batch.
func (p *pass) closeLong() {
	if !p.group.Within(maxOpen) {
		p.close()
	}
}

// nearlyFull is what is collected of a root before it is handed on.
var nearlyFull = notify.Load{Indexes: notify.BatchIndexes * 7 / 8, Weight: notify.MaxBatchBytes * 7 / 8}

// flush hands the notifications on, while the tree cannot be seen in between.
func (p *pass) flush() {
	p.floating = 0
	p.close()
	p.told = len(p.out) > 0
	for _, o := range p.out {
		p.hand(o)
		o.most, o.now = o.now, 0
	}
	p.out = nil
}

// unproved is a modification time that was told without a record of writing, yet: it may be behind the look, or come with the close of a file that was
// written through memory, however long that takes.
type unproved struct {
	file  ref
	mtime int64
}

const maxUnproved = 1 << 14

// compare tells how an entry differs from what was told of it, and remembers the new state.
func (p *pass) compare(i *item) {
	t, r, a := p.t, i.node, &i.look.attr
	n := t.s.node(r)
	was, emitted := t.s.attrOf(n), p.emitted
	touched := n.differs(a)
	isDir, ops := a.IsDir(), p.changes(i)
	if a.IsRegular() {
		wrote := ops&(OpModify|OpCloseWrite) != 0
		moved := a.Size != was.Size || a.Mtime != was.Mtime
		if ops&OpModify != 0 { // else the change time has moved for another reason
			moved = moved || touched
		}
		fresh := p.now.Sub(time.Unix(0, a.Ctime))
		// Whether something was heard of it. What was heard by another name counts: all are told the same. A record of what it has now may be still to come,
		// but not where nobody watched, nor after some were lost: then a write is told once too often rather than not at all.
		heard := ops&OpAttrib != 0 || i.records && !p.swept && (i.from == nil || p.watched(i.from.at.dir))
		switch {
		case i.entered && ops&OpModify != 0: // it is told as it is, and nobody knows what it was before
			p.content(r, i)
		case wrote && moved,
			wrote && i.look.mount.coarse && fresh < coarseClock,
			ops&OpModify != 0 && i.look.mount.grain(a) == wholeSecond, // once too often rather than not at all
			wrote && t.unproved.has(unproved{r, a.Mtime}),
			!wrote && (a.Size != was.Size || a.Mtime != was.Mtime && !heard): // nothing else changes a size
			p.emit(notify.ChildDataWritten, r, i)
			t.unproved.drop(unproved{r, a.Mtime})
		case moved:
			t.unproved.add(unproved{r, a.Mtime}, maxUnproved)
		}
		if a.Size != was.Size {
			p.emit(notify.ChildSizeChanged, r, i)
		}
	}
	if _, saw := p.mtimes[r]; isDir && (saw || a.Mtime != was.Mtime) { // what is told of its times last is no older than what is told now
		p.sawTime(r, a, i.records)
	}
	if a.Mtime != was.Mtime {
		if !isDir {
			p.emit(notify.ChildMtimeChanged, r, i)
		}
		if !t.s.reads && ops&OpAttrib != 0 && ops&OpModify == 0 && i.from == nil && timesSet(a) && !t.toldSet(r, a.Mtime) {
			p.emit(notify.ChildAtimeChanged, r, i) // setting one time alone is told as MODIFY or ACCESS
			if isDir {
				t.dirsSet[r] = a.Mtime
			}
		}
	}
	if t.s.reads {
		at := t.s.atimes.at(uint32(r))
		if *at != a.Atime && *at != 0 { // 0: not known since the start
			p.emit(notify.ChildAtimeChanged, r, i)
		}
		*at = a.Atime
	}
	if a.UID != was.UID {
		p.emit(notify.ChildOwnerChanged, r, i)
	}
	if a.GID != was.GID {
		p.emit(notify.ChildGroupChanged, r, i)
	}
	x, y := orNone(was.X), orNone(a.X)
	if i.look.bare || n.x == unread { // how they differ is not known
		x = y
	}
	if a.Perm() != was.Perm() || x.ACL != y.ACL {
		p.emit(notify.ChildACLChanged, r, i)
	}
	if a.Flags != was.Flags || x.DOS != y.DOS || x.Other != y.Other {
		p.emit(notify.ChildExtraAttrsChanged, r, i)
	}
	if x.DOSBtime != y.DOSBtime {
		p.emit(notify.ChildBtimeChanged, r, i)
	}
	if len(x.Streams)+len(y.Streams) > 0 {
		p.streams(r, i, x.Streams, y.Streams)
	}
	first := n.x == unread && !i.look.bare
	if first && p.emitted == emitted {
		p.onlyXattrs(i, r, &was, touched)
	}
	if touched || n.stamp&xBehind != 0 || i.look.behind || a.Mtime != was.Mtime || t.s.stats(n, a) || first || !i.look.bare && !equalXattrs(was.X, a.X) {
		keep := n.mtime
		if t.s.setStat(r, a); !i.look.bare {
			t.s.setX(r, a.X)
		}
		if i.look.behind {
			n.stamp |= xBehind
		}
		if isDir {
			n.mtime = keep // told on its own
		}
	}
}

// content tells a file's content as if all of it was written now.
func (p *pass) content(r ref, i *item) {
	p.emit(notify.ChildDataWritten, r, i)
	p.emit(notify.ChildSizeChanged, r, i)
	p.emit(notify.ChildMtimeChanged, r, i)
}

// onlyXattrs sees to an entry whose extended attributes are read for the first time now, and of which nothing else was told: what made its
// change time move can only have been they, unless it was a link or a rename, be it of another name.
func (p *pass) onlyXattrs(i *item, r ref, was *notify.Attr, touched bool) {
	a := &i.look.attr
	link := i.from != nil || min(a.Nlink, 255) != was.Nlink || !i.records && !a.IsDir() && a.Nlink > 1
	names := a.IsDir() && a.Ctime == a.Mtime                         // it was the directory's names that changed
	moved := sameInode(p.t.s.node(r).stamp, stampOf(&notify.Attr{})) // and nobody looked: see believe
	if !touched || moved || link || names || a.Mtime != was.Mtime || i.records && i.ops&OpAttrib == 0 {
		p.t.digests.note(p.t.s.node(r), a.X)
		return
	}
	if a.X != nil && a.X.ACL != 0 {
		p.emit(notify.ChildACLChanged, r, i)
	}
	p.emit(notify.ChildExtraAttrsChanged, r, i)
}

// setAgo is how far from its change time the modification time of a file has to be for having been set, by the record of a change that was no write.
const setAgo = 2 * time.Second

// timesSet says whether an entry has got its modification time from somebody: one that comes of a write, or of a change of a directory's
// entries, is between its birth and its last change, and later than its access time. That of a file is near to the last change, too: what has moved that was
// a write of which the record is still to come, or something right after it. A file that was touched may have been read since.
func timesSet(a *notify.Attr) bool {
	switch {
	case a.Mtime == a.Atime, a.Mtime < a.Btime, a.Mtime > a.Ctime:
		return true
	case a.IsDir():
		return false
	}
	return a.Ctime-a.Mtime > int64(setAgo) || a.Ctime == a.Mtime && a.Atime > a.Mtime
}

// toldSet says whether the access time of a directory was told with this modification time, which is still to be told.
func (t *tree) toldSet(r ref, mtime int64) bool {
	told, ok := t.dirsSet[r]
	return ok && told == mtime
}

func orNone(x *notify.Xattrs) *notify.Xattrs {
	if x == nil {
		return &notify.Xattrs{}
	}
	return x
}

// streamsDiff is how the alternate data streams of an entry differ from what was told. Both lists are sorted by name.
type streamsDiff struct {
	gone, come, kept []notify.Stream
}

func diffStreams(was, is []notify.Stream) (d streamsDiff) {
	for _, s := range was {
		if _, ok := findStream(is, s.Name); !ok {
			d.gone = append(d.gone, s)
		}
	}
	for _, s := range is {
		if _, ok := findStream(was, s.Name); ok {
			d.kept = append(d.kept, s)
		} else {
			d.come = append(d.come, s)
		}
	}
	return d
}

func sameContent(a, b notify.Stream) bool { return a.Digest == b.Digest && a.Size == b.Size }

// twin finds the one stream in list that has the content of s; false if there is none, or more than one.
func twin(s notify.Stream, list []notify.Stream) (found notify.Stream, ok bool) {
	for _, o := range list {
		if sameContent(s, o) {
			if ok {
				return found, false
			}
			found, ok = o, true
		}
	}
	return found, ok
}

// streams tells how the alternate data streams of an entry differ. Samba renames one by setting the new
// and removing the old: one gone and one come with the same content is a move.
func (p *pass) streams(r ref, i *item, was, is []notify.Stream) {
	d := diffStreams(was, is)
	for _, s := range d.kept {
		p.closeLong()
		k := slices.IndexFunc(was, func(o notify.Stream) bool { return o.Name == s.Name })
		if sameContent(was[k], s) {
			continue
		}
		p.emitStream(notify.ChildStreamDataWritten, r, i, s.Name)
		if was[k].Size != s.Size {
			p.emitStream(notify.ChildStreamSizeChanged, r, i, s.Name)
		}
	}
	moved := make(map[string]bool)
	for _, old := range d.gone {
		p.closeLong()
		now, ok := twin(old, d.come)
		if _, only := twin(old, d.gone); ok && only {
			from := p.emitStream(notify.ChildStreamMovedFrom, r, i, old.Name)
			p.link(from, p.emitStream(notify.ChildStreamMovedTo, r, i, now.Name))
			moved[now.Name] = true
			continue
		}
		p.emitStream(notify.ChildStreamRemoved, r, i, old.Name)
	}
	for _, s := range d.come {
		p.closeLong()
		if moved[s.Name] {
			continue
		}
		p.emitStream(notify.ChildStreamAdded, r, i, s.Name)
		if s.Size > 0 {
			p.emitStream(notify.ChildStreamDataWritten, r, i, s.Name)
			p.emitStream(notify.ChildStreamSizeChanged, r, i, s.Name)
		}
	}
}

// streamMoves says whether the look may have come in the middle of the renaming of a stream: a new one has the content of an old one. What
// differs in the entry is not told then, for at most recordWait.
func (p *pass) streamMoves(i *item) bool {
	t, x := p.t, i.look.attr.X
	if x == nil || len(x.Streams) < 2 || t.s.node(i.node).x == unread {
		return false
	}
	was := orNone(t.s.attrOf(t.s.node(i.node)).X).Streams
	d := diffStreams(was, x.Streams)
	copied := slices.ContainsFunc(d.come, func(s notify.Stream) bool {
		return slices.ContainsFunc(d.kept, func(o notify.Stream) bool { return sameContent(s, o) }) &&
			!slices.ContainsFunc(d.gone, func(o notify.Stream) bool { return sameContent(s, o) })
	})
	if !copied {
		return false
	}
	since, ok := t.streamsSince[i.look.id]
	if !ok {
		t.streamsSince[i.look.id], since = p.now, p.now
	}
	return p.now.Sub(since) < recordWait
}
