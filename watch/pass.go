package watch

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"fs_notify/notify"
)

// pass is one round of reconcile: look at dirty names, match before and after by identity,
// order the differences, tell them.
type pass struct {
	t     *tree
	now   time.Time
	dirt  *dirt
	named []*item         // of dirt.names; nil: of no interest
	other map[place]*item // the rest
	order []*item
	todo  map[ref]*job
	hold  bool // a missing name waits for its object to turn up: a sweep is under way
	swept bool // or at its end

	gained   map[notify.FileID][]*item
	lostBy   map[notify.FileID][]*item
	shared   map[notify.FileID]shared // of objects with many names
	fresh    map[notify.FileID]ref    // directories found, by identity
	freshAt  map[ref]*item
	left     left                                // to the passes behind this one
	known    bound                               // of listings of directories that were told
	new      bound                               // and of those that were not, which may have to wait until the former are listed
	mtimes   map[ref]dirTime                     // of directories that were looked at
	folded   map[notify.FileID]map[place][]place // the names of objects with many, by foldName
	saidBy   map[notify.FileID]Op                // what records say of objects that were written or closed, unless the name by which they do leads there
	overdue  map[ref]bool                        // directories whose time cannot wait any longer
	filled   map[ref]bool                        // new directories that got entries
	found    map[ref]*item                       // directories of the tree that were found under another name
	searched map[ref]bool                        // directories that were listed for what is missing in them
	stuck    map[ref]*job
	away     map[ref]error // roots
	followed []*item       // names where nobody saw what the records say had come there
	afloat   []*item       // moved_from is told, moved_to not yet
	movers   int           // items whose objects are still to be told where they were found
	steps    int           // halves of items told so far
	twice    map[ref]int   // how often a new directory was found at a second place
	collided int           // IDs that were found to be of two objects
	moved    bool          // some directory changed its place
	told     bool          // something was told

	writer
}

type itemState uint8

const (
	unseen itemState = iota
	absent
	present
	denied      // nothing could be learned
	unreachable // its directory is not where it should be
)

// item is a name under examination. It may lose the object that was told there, and gain another one.
type item struct {
	at       place
	hint     *nameHint
	ops      Op
	news     Op // of ops: what no pass before this one has heard
	pid      int32
	records  bool // a record spoke of it
	carried  bool // but none since the last pass
	old      ref  // what was told; 0: nothing
	believed bool // what the records say of it stands for a look
	oldID    notify.FileID
	oldDir   bool
	came     ref    // a file that the records saw come here from another name, and of whose attributes they said nothing
	ghost    bool   // what had the name, which was never told, was closed
	own      Op     // of changeOps: what records said of the object that was told
	its      Op     // and of the present one, if it came; of those that do not say which object they are about
	object   string // what a record spoke of last by this name, if we know objects by what it says: Record.Object
	state    itemState
	tries    uint8 // looks that were too early
	newer    int64 // change time of the object in a look at another name of it, which was heard of before the one at this name
	look     look
	from     *item // gained: where the object was told before
	to       *item // lost: where the object is now
	fate     fate
	held     bool
	sorted   bool // it is in pass.gained
	stale    bool // the object that was told was seen elsewhere after it had been seen here
	losing   bool // on the stack of the ordering
	gaining  bool
	lostOut  bool // the losing is told
	gainIn   bool // the gaining is told
	floats   bool // moved_from is told, moved_to not yet
	cut      bool // and they will not be in one batch
	root     ref  // of what floats
	linkAt   int  // place of that moved_from in its group, plus one
	node     ref  // what stands there after the pass
	new      bool // told as added: its data is told too
	entered  bool // told as moved_to without partner
	attrs    bool // attributes are told
	later    bool // and are not, as a stream may be under way from one name to another
}

func (i *item) loses() bool {
	return i.old != 0 && (i.state == absent || i.state == present && (i.stale || i.replaced()))
}
func (i *item) gains() bool { return i.state == present && (i.old == 0 || i.replaced()) }

// undone says whether something about the name could not be told.
func (i *item) undone() bool {
	return i.held || i.later || i.state == unreachable || i.loses() && !i.lostOut || i.gains() && !i.gainIn
}

// replaced says whether another object stands where one was told.
func (i *item) replaced() bool { return i.look.id != i.oldID || i.look.attr.IsDir() != i.oldDir }

// maxCollided bounds how often one tries to tell two objects apart that have one ID.
const (
	maxCollided = 100
	maxPlaces   = 8 // where one directory is looked for in a pass
)

// room is for the items of the names that records spoke of and what is found out of these names, and for what is kept of directories. It is used again in the
// next pass: it would be most of what a pass allocates.
type room struct {
	items  []item
	named  []*item
	order  []*item
	olds   []ref
	trail  trail
	jobs   []job
	todo   map[ref]*job
	mtimes map[ref]dirTime
}

// roomDirs is for how many directories room is kept.
const roomDirs = 1024

// take makes room for n names: each item and each of olds is to be set before anything else.
func (m *room) take(n int) {
	if n > cap(m.items) {
		most := max(n, min(2*cap(m.items), passNames))
		m.items, m.named, m.order, m.olds = make([]item, most), make([]*item, most), make([]*item, 0, most), make([]ref, most)
	}
	m.items, m.named, m.order, m.olds = m.items[:n], m.named[:n], m.order[:0], m.olds[:n]
}

// job gives one that is empty.
func (m *room) job() *job {
	if len(m.jobs) == cap(m.jobs) { // those before stay where they are as long as they are used
		m.jobs = make([]job, 0, max(16, min(2*cap(m.jobs), roomDirs)))
	}
	m.jobs = m.jobs[:len(m.jobs)+1]
	return &m.jobs[len(m.jobs)-1]
}

// maps gives empty ones.
func (m *room) maps() (todo map[ref]*job, mtimes map[ref]dirTime) {
	if m.todo == nil {
		m.todo, m.mtimes = make(map[ref]*job), make(map[ref]dirTime)
	}
	return m.todo, m.mtimes
}

// give ends the use of all of it, of which nothing is kept. order is what a pass has made of it.
func (m *room) give(order []*item) {
	clear(m.jobs)
	m.jobs = m.jobs[:0]
	if len(m.mtimes) > roomDirs { // emptying them costs as much as they have ever held
		m.todo, m.mtimes = nil, nil
	}
	clear(m.todo)
	clear(m.mtimes)
	clear(m.items)
	clear(m.named)
	clear(m.order[:min(len(order), cap(m.order))])
	clear(m.trail.stand)
	if m.items = m.items[:0]; cap(m.items) > 2*passNames {
		m.items, m.named, m.order, m.olds, m.trail = nil, nil, nil, nil, trail{}
	}
}

func (t *tree) newPass(d *dirt, hold bool) *pass {
	t.room.take(len(d.names))
	p := &pass{t: t, now: t.now(), hold: hold, dirt: d, named: t.room.named, order: t.room.order,
		gained: make(map[notify.FileID][]*item), lostBy: make(map[notify.FileID][]*item), fresh: make(map[notify.FileID]ref),
		freshAt: make(map[ref]*item), filled: make(map[ref]bool), overdue: make(map[ref]bool), stuck: make(map[ref]*job), away: make(map[ref]error)}
	p.todo, p.mtimes = t.room.maps()
	p.known.names, p.known.time = t.listNames, t.listTime
	p.new.names, p.new.time = t.listNames<<t.inVain, t.listTime<<t.inVain
	for r := range d.lost {
		if t.s.alive(r) && t.s.dir(r).flags&dirOpaque == 0 {
			t.s.dir(r).flags &^= dirWatched
			j := p.job(r)
			j.watch, j.list = true, true
		}
	}
	for r := range d.lists {
		if t.s.alive(r) && t.s.dir(r).flags&dirOpaque == 0 {
			j := p.job(r)
			j.list = true
			j.watch = t.s.dir(r).flags&(dirWatched|dirPolled) == 0
		}
	}
	if p.now.Sub(t.passed) > time.Second {
		t.awake = p.now
	}
	t.passed = p.now
	slab, olds := t.room.items, t.room.olds
	t.s.childOfEach(d.names, olds)
	hints := d.hints(&t.room.trail, olds, func(k int32, object string) (yes, certain bool) { return t.isObject(olds[k], object) })
	var selves []ref
	for k := range d.names {
		n := &d.names[k]
		at := n.at
		if !t.s.alive(at.dir) || len(at.name) > maxName {
			delete(t.patience, at)
			continue
		}
		if at.name == "" {
			selves = append(selves, at.dir)
			continue
		}
		i := p.newItem(&slab[k], at, olds[k])
		p.named[k] = i
		if hints != nil {
			i.hint = &hints[k]
		}
		object := i.hint.object
		if n.said != 0 {
			object = d.said[n.said-1].object
		}
		switch i.heard(n); {
		case object != "" && t.ms.byHandle(t.s.dir(at.dir).mount):
			i.object = object // see objects
		case hints != nil:
			i.own, i.its = i.own|i.hint.own, i.hint.its
		default:
			if i.own |= n.now; i.old == 0 { // nobody has heard how it came
				i.its = n.now
			}
		}
		if _, listed := d.lists[at.dir]; (listed || hold) && i.object == "" { // how something came there may be lost
			i.its |= n.now
		}
		i.ghost = i.old == 0 && t.ghosts.take(t.s.deadName(at))
	}
	for _, r := range selves { // the directory itself; the roots are checked by path
		if parent := t.s.node(r).parent; parent != 0 {
			k, _ := d.find(place{r, ""})
			i := p.want(place{parent, t.s.name(r)})
			i.heard(&d.names[k])
			i.own |= i.ops & changeOps
		}
	}
	p.objects()
	for k := range hints {
		if i, h := p.named[k], &hints[k]; i != nil && h.source >= 0 && h.hops == 1 {
			from := p.named[h.source]
			if from != nil && from.ghost {
				i.its |= OpCloseWrite
			}
			if from != nil && !from.oldDir && from.ops&OpAttrib == 0 && t.s.dir(from.at.dir).mount == t.s.dir(i.at.dir).mount { // else it has another ID here
				i.came = from.old
			}
		}
	}
	p.check()
	p.believe()
	for _, i := range p.named {
		if i != nil && !i.believed {
			p.ask(i)
		}
	}
	for _, i := range p.named {
		if i != nil && i.believed && i.ops&changeOps != 0 {
			p.changedElsewhere(i)
		}
	}
	for _, r := range t.late.take(p.now, math.MaxInt) {
		if t.s.alive(r) {
			t.late.put(r, p.now.Add(mtimePause))
			p.overdue[r] = true
			p.job(r)
		}
	}
	return p
}

func (p *pass) job(r ref) *job {
	j := p.todo[r]
	if j == nil {
		j = p.t.room.job()
		j.dir, j.items = r, j.few[:0]
		p.todo[r] = j
	}
	return j
}

// heard adds what records said of the name.
func (i *item) heard(n *dirtyName) {
	i.ops |= n.ops
	i.news |= n.news
	i.records = i.records || n.ops != 0
	i.carried = n.carried
	i.own |= n.own
	if n.pid != 0 {
		i.pid = n.pid
	}
}

// item finds what is known of a name in this pass; nil: nothing.
func (p *pass) item(at place) *item {
	if k, ok := p.dirt.find(at); ok && p.named[k] != nil {
		return p.named[k]
	}
	return p.other[at]
}

// want makes sure that a name is looked at in this pass.
func (p *pass) want(at place) *item {
	i := p.item(at)
	if i == nil {
		i = p.addItem(at)
		p.ask(i)
	} else {
		p.doubt(i)
	}
	return i
}

func (p *pass) ask(i *item) {
	j := p.job(i.at.dir)
	j.items = append(j.items, i)
}

// addItem is for names that no record spoke of.
func (p *pass) addItem(at place) *item {
	i := p.newItem(new(item), at, p.t.s.child(at.dir, at.name))
	if p.other == nil {
		p.other = make(map[place]*item)
	}
	p.other[at] = i
	return i
}

var noHint = nameHint{dest: -1, source: -1}

func (p *pass) newItem(i *item, at place, old ref) *item {
	*i = item{at: at, hint: &noHint, old: old}
	if i.old != 0 {
		i.oldID, i.oldDir = p.t.s.node(i.old).id, p.t.s.isDir(i.old)
	}
	p.order = append(p.order, i)
	return i
}

// again has a name looked at once more, as something contradicts what was seen.
func (p *pass) again(i *item) {
	i.state = unseen
	p.ask(i)
}

// see looks until nothing is left to look at: what is found leads to further names.
//
// That ends. A name is asked for once, and again only for a reason that is counted: a directory was found at two places
// (thrice a directory), an object changed after one of its names was looked at (twice a name), a directory was not where it had just been seen (twice an attempt), was watched only after its name had been looked
// at (once a watch), turned up elsewhere (maxPlaces a directory), or an ID is of two objects (maxCollided). A directory is listed once for each reason to, once for what is missing in it, and for some time
// only: the rest is left.
func (p *pass) see() {
	for rounds := 0; len(p.todo) > 0 || p.unstick() || p.overtaken() || p.search(); rounds++ {
		jobs := make([]*job, 0, len(p.todo))
		for r, j := range p.todo {
			if len(p.found) > 0 {
				if path, ok := p.pathNow(r); ok {
					j.path = &path
				}
			}
			jobs = append(jobs, j)
		}
		slices.SortFunc(jobs, func(a, b *job) int { return cmp.Or(a.rank()-b.rank(), int(a.dir)-int(b.dir)) })
		clear(p.todo)
		for _, j := range jobs {
			if j.bound = &p.known; j.fresh {
				j.bound = &p.new
			}
			switch {
			case j.leavable():
				j.left = rounds > 4*maxDepth || p.begun(j.dir)
			case (j.list || j.names) && p.begun(j.dir):
				j.list, j.names = false, false
				p.left.list(j.dir)
			}
		}
		p.t.run(jobs)
		for _, j := range jobs {
			p.merge(j)
		}
	}
}

// begun says whether a directory is listed already, and names of it are left: it is listed anew when these have been looked at.
func (p *pass) begun(r ref) bool {
	return p.t.left.has(r) || p.left.has(r)
}

// pathNow is where a directory is by what was found in this pass, however it came there. It is false if what was found leads in
// a circle.
func (p *pass) pathNow(r ref) (path string, ok bool) {
	t := p.t
	var names []string // from below
	for {
		n := t.s.node(r)
		if n.parent == 0 {
			slices.Reverse(names)
			return strings.Join(names, "/"), true
		}
		if len(names) > maxDepth {
			return "", false
		}
		parent, name := n.parent, t.s.names.view(n.name)
		if i := p.found[r]; i != nil && i.state == present && i.look.id == n.id {
			parent, name = i.at.dir, i.at.name
		}
		names = append(names, name)
		r = parent
	}
}

// unstick tries directories again that were not where the tree has them, where they were found meanwhile: once at each place.
func (p *pass) unstick() bool {
	if len(p.found) == 0 {
		return false
	}
	for r, j := range p.stuck {
		path, ok := p.pathNow(r)
		if !ok || slices.Contains(j.tried, path) || len(j.tried) > maxPlaces {
			continue
		}
		delete(p.stuck, r)
		for _, i := range j.items {
			i.state = unseen
		}
		p.todo[r] = j
	}
	return len(p.todo) > 0
}

// search lists directories in which something is missing although no record has said that it went: it may be there by another name, as the names in an
// encrypted directory change when its key comes or goes. A sweep has listed them anyway.
func (p *pass) search() bool {
	if p.hold || p.swept {
		return false
	}
	var found map[notify.FileID]bool
	for _, i := range p.order {
		if i.old == 0 || i.state != absent || i.believed || i.hint.fate != fateUnknown || i.hint.dest >= 0 || p.searched[i.at.dir] || !p.watched(i.at.dir) ||
			p.t.s.dir(i.at.dir).flags&dirOpaque != 0 || p.waits(i, recordWait) {
			continue
		}
		if found == nil {
			found = make(map[notify.FileID]bool)
			for _, o := range p.order {
				if o.state == present {
					found[o.look.id] = true
				}
			}
		}
		if found[i.oldID] {
			continue
		}
		if p.searched == nil {
			p.searched = make(map[ref]bool)
		}
		p.searched[i.at.dir] = true
		p.job(i.at.dir).names = true
	}
	return len(p.todo) > 0
}

func (p *pass) merge(j *job) {
	t := p.t
	if j.left {
		p.left.list(j.dir)
		return
	}
	if j.err != nil {
		p.failed(j)
		return
	}
	d := t.s.dir(j.dir)
	p.sawTime(j.dir, &j.self, true)
	if m := j.mount; m != nil {
		if m.opaque != "" && d.flags&dirOpaque == 0 {
			p.shut(j.dir, m)
		}
		d.mount = m.index
	}
	if d.flags&dirOpaque != 0 {
		for _, i := range j.items {
			p.seen(i)
		}
		return
	}
	if j.watch {
		d.flags |= dirWatched
		d.flags &^= dirPolled
		switch {
		case errors.Is(j.watchErr, ErrPolled):
			d.flags = d.flags&^dirWatched | dirPolled
			t.polls()
		case j.watchErr != nil:
			d.flags &^= dirWatched
			t.degrade(j.dir, j.watchErr)
		}
	}
	if j.watch {
		p.recheck(j)
	}
	if (j.listed && j.watchErr == nil || errors.Is(j.watchErr, ErrPolled)) && !slices.ContainsFunc(j.looks, look.failed) {
		t.heal(j.dir)
	}
	t.hears(j)
	if len(j.rest) > 0 {
		p.left.look(leftNames{j.dir, j.rest})
	}
	for _, i := range j.items {
		p.seen(i)
	}
	if j.folds {
		p.respelled(j)
	}
	for k := range j.looks {
		lk := &j.looks[k]
		i := p.item(place{j.dir, lk.name})
		if i == nil {
			if lk.same && t.s.child(j.dir, lk.name) != 0 {
				continue // as it was told
			}
			i = p.addItem(place{j.dir, lk.name})
		}
		if i.believed {
			p.doubt(i)
			continue
		}
		i.look = *lk
		p.seen(i)
	}
}

// shut has a directory told without its content from now on. What was told in it is looked for, and is not there.
func (p *pass) shut(r ref, m *mount) {
	t, d := p.t, p.t.s.dir(r)
	d.mount = m.index
	if d.flags &^= dirWatched; t.s.node(r).parent != 0 && t.s.dir(t.s.node(r).parent).flags&dirOpaque != 0 {
		d.flags |= dirOpaque // it goes with that one, which is said
	} else {
		t.shut(r, m)
	}
	t.srcMu.Lock()
	t.src.Unwatch(r)
	t.srcMu.Unlock()
	for _, c := range t.s.childList(r) {
		at := place{r, t.s.name(c)}
		if i := p.item(at); i == nil {
			p.want(at)
		} else {
			i.believed = false
			p.again(i)
		}
	}
}

// recheck has a directory's name looked at once more if the directory changed between the look at the name and its
// watch: what happens to a directory whose watch is not in force yet is in no record.
func (p *pass) recheck(j *job) {
	n := p.t.s.node(j.dir)
	if n.parent == 0 {
		return
	}
	at := place{n.parent, p.t.s.name(j.dir)}
	i := p.found[j.dir]
	if i == nil {
		i = p.item(at)
	}
	switch {
	case i == nil:
		if p.t.changedSinceTold(j) {
			p.want(at)
		}
	case i.state == present && i.look.id == n.id && stampOf(&i.look.attr) != stampOf(&j.self):
		p.again(i)
	}
}

// changedSinceTold says whether a directory that was opened is another one than was told, by its stamp.
func (t *tree) changedSinceTold(j *job) bool {
	n := t.s.node(j.dir)
	return n.parent != 0 && t.s.dir(j.dir).flags&dirAttached != 0 && n.differs(&j.self)
}

// seen takes in what was found under a name and looks where that leads.
func (p *pass) seen(i *item) {
	t, lk := p.t, &i.look
	switch {
	case lk.err != nil && isGone(lk.err):
		i.state = absent
		if i.old == 0 && i.ops&(OpModify|OpCloseWrite) != 0 && isTmpfileName(i.at.name) {
			p.tmpfile(i)
		}
		if i.old == 0 && i.its&OpCloseWrite != 0 {
			p.t.ghosts.add(t.s.deadName(i.at), maxCloses)
		}
		p.changedElsewhere(i)
		return
	case lk.err != nil:
		i.state = denied
		t.degrade(i.at.dir, lk.err)
		p.changedElsewhere(i)
		return
	}
	i.state = present
	p.changedElsewhere(i)
	if i.old != 0 && !i.replaced() {
		if i.oldDir {
			switch shut := t.s.dir(i.old).flags&dirOpaque != 0; {
			case shut && lk.mount.opaque == "" && !t.oneLvl:
				t.open(i.old, lk.mount)
				j := p.job(i.old)
				j.list, j.watch = true, true
			case !shut && lk.mount.opaque != "":
				p.shut(i.old, lk.mount)
			}
		}
		switch {
		case lk.attr.Ctime < i.newer && i.tries < 2: // it was looked at before the object changed
			i.tries++
			p.again(i)
		case (!lk.same || i.passedOn()&(OpModify|OpCloseWrite) != 0 || t.s.accessed(i.old, &lk.attr)) && (lk.attr.Nlink != 1 || t.s.nlink(i.old) != 1): // else this is its only name
			p.namesakes(i)
		}
		return
	}
	p.namesakes(i)
	if !lk.attr.IsDir() {
		return
	}
	if k := t.s.byIDOf(lk.id, true); k != 0 { // it is known: it was moved, and is watched
		if p.found == nil {
			p.found = make(map[ref]*item)
		}
		if lk.attr.Flags&encrypted != 0 && !i.records && p.found[k] != i && t.s.dir(k).flags&dirOpaque == 0 {
			p.job(k).list = true // it was not renamed: its key has come or gone, and changed the names in it, too
		}
		p.found[k] = i
		return
	}
	if r, ok := p.fresh[lk.id]; ok {
		if p.freshAt[r] != i {
			p.foundTwice(r, i)
		}
		return
	}
	t.mu.Lock()
	r := t.s.alloc(i.at.dir, i.at.name, lk.id, true)
	d := t.s.dir(r)
	d.mount = lk.mount.index
	if lk.mount.opaque != "" || t.oneLvl {
		t.shut(r, lk.mount)
	}
	t.s.set(r, &lk.attr)
	t.mu.Unlock()
	p.fresh[lk.id], p.freshAt[r] = r, i
	if d.flags&dirOpaque == 0 {
		j := p.job(r)
		j.list, j.watch, j.fresh = true, true, true
	}
}

// foundTwice handles a new directory that was found under another name before: it moved between the two looks, or one of
// them is out of date.
func (p *pass) foundTwice(r ref, i *item) {
	t := p.t
	if o := p.freshAt[r].at; o.dir == i.at.dir && maybeOneName(o.name, i.at.name) {
		return // see spelled
	}
	if p.twice == nil {
		p.twice = make(map[ref]int)
	}
	if p.twice[r]++; p.twice[r] > 3 || t.s.within(i.at.dir, r) {
		i.state = unreachable // for this pass: the next one looks again
		return
	}
	if other := p.freshAt[r]; other.state == present && other.look.id == i.look.id {
		p.again(other)
		p.again(i)
	}
	t.mu.Lock()
	t.s.rehome(r, i.at.dir, i.at.name)
	t.mu.Unlock()
	p.freshAt[r] = i
}

// shared is what all names of an object were told in this pass, as one of them was looked at.
type shared struct {
	ops   Op    // records that are about the object
	ctime int64 // of the newest look
	ino   uint64
	late  bool // that is newer than when they were told: see overtaken
}

// manyNames is from how many names on an object's names are told only what is news to them.
const manyNames = 16

func (p *pass) share(id notify.FileID, s shared) {
	if p.shared == nil {
		p.shared = make(map[notify.FileID]shared)
	}
	if old, ok := p.shared[id]; ok {
		s.ops, s.ctime, s.late = s.ops|old.ops, max(s.ctime, old.ctime), s.late || old.late
	}
	p.shared[id] = s
}

// namesakes looks at the other names of the object that stands under i: it may have left them, or, if it has
// several, they have all changed.
func (p *pass) namesakes(i *item) {
	t := p.t
	var ops Op
	if i.records && !i.gains() {
		ops = i.passedOn()
	}
	if s, ok := p.shared[i.look.id]; ok && ops&^s.ops == 0 && i.look.attr.Ino == s.ino { // each name would ask for all the others again
		if i.look.attr.Ctime > s.ctime {
			s.ctime, s.late = i.look.attr.Ctime, true
			p.shared[i.look.id] = s
		}
		return
	}
	names := 0
	defer func() {
		if names >= manyNames {
			p.share(i.look.id, shared{ops: ops, ctime: i.look.attr.Ctime, ino: i.look.attr.Ino})
		}
	}()
	for k := t.s.byID(i.look.id); k != 0; k = t.s.sameID(k) {
		n := t.s.node(k)
		if n.parent == 0 {
			continue
		}
		at := place{n.parent, t.s.name(k)}
		if at == i.at {
			continue
		}
		if t.s.isDir(k) != i.look.attr.IsDir() {
			p.want(at) // it cannot be there any more
			continue
		}
		names++
		other := p.want(at)
		other.ops |= ops
		other.own |= ops
		if other.state == unseen { // that look may be the older one
			other.newer = max(other.newer, i.look.attr.Ctime)
		}
		if other.state == present && other.look.id == i.look.id && other.look.attr.Ctime < i.look.attr.Ctime && other.tries < 2 {
			other.tries++ // it was looked at before the object changed
			p.again(other)
		}
		if other.state == present && !other.replaced() && other.look.attr.Ino != i.look.attr.Ino && i.old == 0 && p.collided < maxCollided {
			p.collided++
			t.ms.collide(i.look.id, i.look.attr.Ino)
			p.again(i)
		}
	}
}

// overtaken has the names of objects with many looked at once more that were looked at before the object changed: all at once, as somebody may be changing it
// again and again.
func (p *pass) overtaken() bool {
	for id, s := range p.shared {
		if !s.late {
			continue
		}
		s.late = false
		p.shared[id] = s
		p.names(id, 0, func(at place) {
			if i := p.item(at); i != nil && i.state == present && i.look.id == id && i.look.attr.Ctime < s.ctime && i.tries < 2 {
				i.tries++
				p.again(i)
			}
		})
	}
	return len(p.todo) > 0
}

// isTmpfileName says whether a name is the kernel's for a file made by O_TMPFILE: "#" and the inode number.
func isTmpfileName(name string) bool {
	if len(name) < 2 || name[0] != '#' {
		return false
	}
	for _, c := range name[1:] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// tmpfile: a record by that name means a file which was linked into some directory since. If it is not a new one, which the name is remembered
// of, a listing of this directory may tell.
func (p *pass) tmpfile(i *item) {
	t := p.t
	known := func(id notify.FileID) bool { return t.s.byID(id) != 0 }
	if ino, err := strconv.ParseUint(i.at.name[1:], 10, 64); err == nil {
		if id := t.newcomers.find(ino, known); id != 0 {
			t.deadNames.add(t.s.deadName(i.at), id)
			return
		}
	}
	if !slices.ContainsFunc(t.deadNames.find(t.s.deadName(i.at)), known) && t.s.alive(i.at.dir) && t.s.dir(i.at.dir).flags&dirAttached != 0 {
		p.job(i.at.dir).list = true
	}
}

// failed handles a directory that could not be opened.
func (p *pass) failed(j *job) {
	t := p.t
	var rootAway errRootAway
	switch {
	case errors.As(j.err, &rootAway):
		p.away[t.s.rootOf(j.dir)] = j.err
		p.markAll(j, denied)
	case errors.Is(j.err, errElsewhere) && t.s.node(j.dir).parent != 0:
		p.markAll(j, unreachable)
		if before := p.stuck[j.dir]; before != nil && before != j {
			j.list, j.names, j.watch = j.list || before.list, j.names || before.names, j.watch || before.watch
			j.items = append(j.items, before.items...)
			j.tried = append(j.tried, before.tried...)
		}
		if path := t.s.path(j.dir); j.path == nil {
			j.tried = append(j.tried, path)
		} else {
			j.tried = append(j.tried, *j.path)
		}
		p.stuck[j.dir] = j
		at := place{t.s.node(j.dir).parent, t.s.name(j.dir)}
		if i := p.item(at); i == nil {
			if t.s.dir(j.dir).flags&dirAttached != 0 {
				p.want(at)
			}
		} else if i.state == present && j.tries < 2 && (i.old == j.dir && !i.replaced() || p.freshAt[j.dir] == i) {
			j.tries++ // it was away for a moment, or just came: the name is older than the attempt
			p.again(i)
		}
	default:
		p.markAll(j, denied)
		if t.s.dir(j.dir).flags&dirWatched != 0 && j.list {
			t.s.dir(j.dir).flags &^= dirWatched
		}
		t.degrade(j.dir, j.err)
	}
}

// markAll says of the names in a directory that nothing is known of them. What was changed by them shows by other names, and this may be the last chance to look
// there: the directory may be told to have gone.
func (p *pass) markAll(j *job, s itemState) {
	for _, i := range j.items {
		i.state = s
		p.changedElsewhere(i)
	}
}

// attributes tells what changed in an entry that stands where it should, under its final path, and the same
// for the other names of the object right behind it.
func (p *pass) attributes(i *item) {
	if !p.ownAttributes(i) {
		return
	}
	t := p.t
	for k := t.s.byID(i.look.id); k != 0; k = t.s.sameID(k) {
		if n := t.s.node(k); k != i.node && n.parent != 0 {
			if other := p.item(place{n.parent, t.s.name(k)}); other != nil && other.look.id == i.look.id {
				p.ownAttributes(other)
			}
		}
	}
}

// ownAttributes tells what changed in an entry under one name, once, and says whether it did so now.
func (p *pass) ownAttributes(i *item) bool {
	if i.attrs || i.held || i.state != present || i.gains() && !i.gainIn {
		return false
	}
	t := p.t
	if i.attrs = true; i.believed {
		return false // they are as they were told
	}
	r := i.node
	if r == 0 {
		r = i.old
	}
	if !t.s.stands(r, i.at) {
		return false // it has gone since, with a directory above
	}
	i.node = r
	if i.later = !i.new && p.streamMoves(i); i.later {
		return false
	}
	if i.new {
		t.s.set(r, &i.look.attr)
		if i.look.attr.IsRegular() && i.look.attr.Size > 0 {
			p.content(r, i)
		}
		p.streams(r, i, nil, orNone(i.look.attr.X).Streams)
	} else {
		p.compare(i)
	}
	if i.look.attr.IsRegular() && p.isClosed(i) {
		p.emit(notify.ChildFileClosed, r, i)
	}
	p.close()
	return true
}

// dirTime is what a look at a directory says of its times.
type dirTime struct {
	mtime, ctime, atime int64
	explained           bool // the directory was opened too, or a record spoke of it
}

// sawTime keeps the latest look: one through the parent may be older or newer than one through the directory itself.
func (p *pass) sawTime(r ref, a *notify.Attr, explained bool) {
	old, ok := p.mtimes[r]
	explained = explained || old.explained
	if !ok || a.Ctime >= old.ctime {
		old = dirTime{mtime: a.Mtime, ctime: a.Ctime, atime: a.Atime}
	}
	old.explained = explained
	p.mtimes[r] = old
}

// dirTimes tells the modification times of directories that were opened: last, at most once a second each, and not
// while a change of their names is still to be told: that of a watched one which was only seen in passing waits for the record of what moved it.
func (p *pass) dirTimes() {
	t := p.t
	waits := make(map[ref]bool)
	for _, i := range p.order {
		if i.undone() && i.state != denied {
			waits[i.at.dir] = true
		}
	}
	for r := range p.stuck {
		waits[r] = true
	}
	refs := make([]ref, 0, len(p.mtimes))
	for r := range p.mtimes {
		refs = append(refs, r)
	}
	slices.Sort(refs)
	for _, r := range refs {
		if !t.s.alive(r) {
			continue
		}
		filled := p.filled[r] && p.freshAt[r] != nil && t.s.dir(r).flags&dirEntered == 0
		seen := p.mtimes[r]
		early := waits[r] || !seen.explained && t.s.dir(r).flags&dirWatched != 0
		if early && !filled && !p.overdue[r] && t.s.node(r).mtime != seen.mtime {
			t.late.add(r, p.now.Add(mtimePause))
			continue
		}
		p.tellTime(r, seen, filled)
	}
}

// tellTime tells a directory's modification time if it moved, or if it is a new one that got entries at once. The other times of the same look go with it, the
// rest is as it was told: so there is no inode number, and who remembers that looks at all of it after a restart.
func (p *pass) tellTime(r ref, seen dirTime, filled bool) {
	t := p.t
	n, d := t.s.node(r), t.s.dir(r)
	if n.parent == 0 || d.flags&dirAttached == 0 || n.mtime == seen.mtime && !filled {
		t.onTime(r)
		return
	}
	if since := time.Duration(p.now.UnixNano() - d.told); since >= 0 && since < mtimePause { // less than none: the clock was set back
		t.late.add(r, p.now.Add(mtimePause-since))
		return
	}
	n.mtime = seen.mtime
	d.told = p.now.UnixNano()
	t.onTime(r)
	p.emit(notify.ChildMtimeChanged, r, nil)
	a := &p.cur.notes[len(p.cur.notes)-1].Attr
	a.Ctime, a.Atime = seen.ctime, seen.atime
	p.close()
}

// onTime notes that a directory has no time that is still to be told.
func (t *tree) onTime(r ref) {
	t.late.drop(r)
	delete(t.dirsSet, r)
}

// settle keeps what could not be decided for the next pass, and gives back what was found but not told.
func (p *pass) settle() (waiting bool) {
	t := p.t
	next, hopeless, unasked, echoing := p.unfinished()
	p.undecided(next)
	for _, g := range p.followed {
		if g.gainIn {
			ops := p.changes(g)
			next.names[next.touch(g.at, ops)].own |= ops
		}
	}
	p.unopened(next)
	p.keepCloses()
	p.giveBack()
	if p.moved {
		t.dirMoved = true
		for r := range t.parked {
			next.list(r)
		}
		clear(t.parked)
	}
	if len(unasked) > 0 {
		echo := t.echoBehind(unasked)
		for _, at := range unasked {
			t.patience[at] = wait{t.patience[at].since, echo}
		}
		t.mute, echoing = echo == 0, echoing || echo != 0
	}
	if next.empty() || p.told || p.heardNew() || echoing {
		t.stuckSince = p.now
	} else if p.tooLong(t.stuckSince) {
		hopeless.before(next)
		next = newDirt()
	}
	if !hopeless.empty() {
		t.giveUp(hopeless)
	}
	return p.carryOn(next)
}

// unfinished gives the names that could not be decided: those that the next pass looks at, those that have waited too long, which of the former wait
// for an echo that is still to be asked for, and whether others wait for one that is under way.
func (p *pass) unfinished() (next, hopeless *dirt, unasked []place, echoing bool) {
	t := p.t
	next, hopeless = newDirt(), newDirt()
	for _, i := range p.order {
		w := p.waitOf(i)
		delete(t.patience, i.at)
		if !i.undone() || !t.s.alive(i.at.dir) || i.state == denied {
			continue
		}
		if t.s.dir(i.at.dir).flags&dirAttached == 0 {
			continue // its directory was not told: it will be found again
		}
		if p.hold && !i.later && (i.fate == fateUnknown || i.fate == fateHalf) {
			t.missing[i.at] = struct{}{}
			if i.fate == fateUnknown {
				continue
			}
		}
		late := t.drained && !p.hold && p.tooLong(w.since)
		if late && !w.coming(t.echoed, p.now) && (w.echo != 0 || t.mute || p.now.Sub(w.since) >= longestLag) {
			hopeless.touch(i.at, i.ops)
			continue
		}
		echoing = echoing || w.coming(t.echoed, p.now)
		n := &next.names[next.touch(i.at, i.ops)]
		n.pid, n.own, n.now = i.pid, i.own, i.its
		if t.patience[i.at] = w; w.echo == 0 && (i.held || late) {
			unasked = append(unasked, i.at)
		}
	}
	return next, hopeless, unasked, echoing
}

// unopened keeps the directories that were not where they should be, and what is left.
func (p *pass) unopened(next *dirt) {
	t := p.t
	told := func(r ref) bool { return t.s.alive(r) && t.s.dir(r).flags&dirAttached != 0 }
	for r, j := range p.stuck {
		if !told(r) {
			continue
		}
		t.late.add(r, p.now.Add(recordWait)) // what was asked for in it may have been found elsewhere, and its time is still to be looked at
		if j.names {
			t.checks.note(r, p.now)
		}
		switch {
		case !j.list && !j.watch:
		case p.hold && !p.moved:
			t.parked[r] = struct{}{}
		default:
			next.list(r)
		}
	}
	switch {
	case p.left.give(&t.left, told):
		t.inVain = min(t.inVain+1, maxInVain)
	case !p.left.empty(), t.carry == nil && next.empty():
		t.inVain = 0
	}
}

// giveBack forgets the directories that were found but not told, and with them all that is remembered of what has gone.
func (p *pass) giveBack() {
	t := p.t
	for r := range p.freshAt {
		if t.s.alive(r) && t.s.dir(r).flags&dirAttached == 0 {
			p.abandon(r)
		}
	}
	if t.dropped {
		t.ms.directoriesLeft()
	}
	t.forsake()
	t.mu.Lock()
	t.s.recycle()
	t.mu.Unlock()
	for id, since := range t.streamsSince {
		if p.now.Sub(since) >= recordWait {
			delete(t.streamsSince, id)
		}
	}
}

// carryOn leaves names to a later pass, and says whether any wait for one.
func (p *pass) carryOn(next *dirt) (waiting bool) {
	t := p.t
	switch {
	case t.carry == nil && next.empty():
		clear(t.patience)
		return false
	case t.carry == nil:
		t.carry = next
	default:
		t.carry.after(next)
	}
	if c := t.carry; len(c.names) > maxDirty || c.size() > max(maxWaiting, len(c.names)) {
		for i := range c.names {
			delete(t.patience, c.names[i].at)
		}
		t.carry = c.collapsed()
		t.rescanned()
	}
	t.carryDue = p.now.Add(halfWait / 2)
	if p.moved {
		t.carryDue, t.carryAll = p.now, true // there is progress to be made at once
	}
	return true
}

// stuckAfter is how long a name may stay undecided although nothing new is heard of it and nothing waits to be looked
// at, and how long directories may although nothing is heard or told at all. Where reading the records is longestLag behind at most, what they say
// is waited for first: an echo tells.
const (
	stuckAfter = 5 * time.Second
	longestLag = time.Minute
)

// tooLong says whether something has been so for longer than stuckAfter, while there were passes that could have changed it: in those of a sweep that holds
// back what is missing, nothing is decided that depends on it.
func (p *pass) tooLong(since time.Time) bool {
	for _, from := range []time.Time{since, p.t.awake, p.t.heldTill} {
		if p.now.Sub(from) <= stuckAfter {
			return false
		}
	}
	return true
}

// heardNew says whether any record came since the last pass.
func (p *pass) heardNew() bool {
	for i := range p.dirt.names {
		if !p.dirt.names[i].carried {
			return true
		}
	}
	return false
}

// giveUp forgets names that cannot be decided: a sweep sees to them. It should not happen.
func (t *tree) giveUp(d *dirt) {
	var names []string
	for i := range d.names {
		if len(names) < 5 {
			at := d.names[i].at
			names = append(names, join(t.s.path(at.dir), at.name))
		}
	}
	t.log.Error("names could not be decided: everything is swept", "names", len(d.names), "directories", len(d.lists), "first", names)
	t.stuckSince = t.now()
	t.wantSweep = true
}

// undecided keeps the hints about names that wait, the other halves of their renames, and what became of these names after that: the way on which an
// object went. Of other names it keeps, for a while, what says that something was renamed away and not where to, and what came after that, even if a look has found
// it: the other half may be the first record of the next pass, and without this one it would be of something that comes from outside.
func (p *pass) undecided(next *dirt) {
	if len(next.names) == 0 && p.dirt.open == 0 {
		return
	}
	cookies := make(map[uint32]bool)
	for _, m := range p.dirt.moves {
		if _, ok := next.find(p.dirt.names[m.name].at); ok && m.cookie != 0 {
			cookies[m.cookie] = true
		}
	}
	loose := make(map[int32]bool) // names that are here only for what may come
	for _, m := range p.dirt.moves {
		at := p.dirt.names[m.name].at
		k, known := next.find(at)
		waits := known && !loose[k] || cookies[m.cookie]
		if !waits {
			if !m.open && !known || m.again && p.now.Sub(m.seen) > recordWait || !p.t.s.alive(at.dir) {
				continue
			}
			m.again = true
		}
		m.name, m.op = next.touch(at, 0), m.op&^changeOps|m.due // the rest has been heard
		next.moves = append(next.moves, m)
		if !waits {
			loose[m.name] = true
			continue
		}
		delete(loose, m.name)
		if m.cookie != 0 {
			cookies[m.cookie] = true
		}
	}
}

// abandon gives back a directory that was found but is not told.
func (p *pass) abandon(r ref) {
	t := p.t
	t.mu.Lock()
	t.drop(r)
	t.s.release(r)
	t.mu.Unlock()
}
