package watch

import (
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// place is a name in a directory.
type place struct {
	dir  ref
	name string
}

// dirtyName is what the records said about one name since it was last looked at.
type dirtyName struct {
	at   place
	hash uint32 // of at
	said int32  // index in dirt.said of what was said last of an object by this name, plus one
	ops  Op
	news Op // of ops: what no pass has heard
	pid  int32

	now Op // of changeOps: what was said by it since the last record that changed which object has it
	own Op // what earlier passes have heard of the object that was told under it

	carried bool // nothing new was said of it since it was last looked at
}

// dirt is a set of names to be looked at, in the order of their first records.
type dirt struct {
	names    []dirtyName
	table    []int32           // finds them by place: an open hash table of indexes of names plus one, at most half full
	text     []byte            // where the names, and the handles of said, themselves are; full pieces stay with who uses them
	moves    []hint            // the records that change names, in their order
	open     int               // how many of them are open, as hints found
	said     []said            // what was said of objects by these names
	heard    map[string]*heard // and of objects by names that nobody watches: by Record.Object
	lists    map[ref]struct{}  // directories of which every name is dirty
	lost     map[ref]struct{}  // directories whose watch has ended: watch, then list
	sweep    bool              // every name is dirty
	poll     bool              // every name is dirty that is not watched
	lossy    bool              // names were forgotten for their directories, and what was said of them with them
	barriers []uint64          // all that happened before these is in here, or was taken before
	echo     uint64            // the newest barrier that came out of the source; all records before it are in here, or were taken before
}

// hint is a record that changes names: it supplies what the disk cannot tell.
type hint struct {
	name   int32 // index of the dirty name
	op     Op    // of hintOps, and of changeOps what was said by the name while what had it before had it
	cookie uint32
	seen   time.Time
	object string // Record.Object
	due    Op     // of changeOps: what was said of an object that is between two names, and that nobody was told of
	open   bool   // the other half of the rename has not come
	again  bool   // nor had it when this one was kept for the next pass
}

// said is what records said of an object by a name, where they say of which. When somebody looks, the name may lead to another
// object, or nowhere: this one has changed nonetheless, and may have other names.
type said struct {
	name   int32  // index of the dirty name
	object string // Record.Object
	ops    Op     // of changeOps; 0: that it left the name
}

// heard is what records said of an object by names that nobody watches.
type heard struct {
	ops Op // of changeOps
	pid int32
}

const hintOps = OpCreate | OpDelete | OpMovedFrom | OpMovedTo | OpFromNew

func newDirt() *dirt { return &dirt{} }

// reset empties d for its next use. The text of its names stays with who uses them.
func (d *dirt) reset() {
	clear(d.names)
	clear(d.table)
	clear(d.moves)
	clear(d.said)
	*d = dirt{names: d.names[:0], table: d.table, moves: d.moves[:0], said: d.said[:0]}
}

func (d *dirt) empty() bool {
	return len(d.names) == 0 && len(d.heard) == 0 && len(d.lists) == 0 && len(d.lost) == 0 && !d.sweep && !d.poll && len(d.barriers) == 0
}

// find gives the index of a name; false: it is not dirty.
func (d *dirt) find(at place) (int32, bool) {
	i := d.lookup(at, nameHash(at.dir, at.name))
	return i, i >= 0
}

func (d *dirt) lookup(at place, hash uint32) int32 {
	if len(d.table) == 0 {
		return -1
	}
	for k := hash; ; k++ {
		i := d.table[int(k)&(len(d.table)-1)] - 1
		if i < 0 || d.names[i].hash == hash && d.names[i].at == at {
			return i
		}
	}
}

// insert adds a name that is not there.
func (d *dirt) insert(at place, hash uint32) int32 {
	d.names = append(d.names, dirtyName{at: at, hash: hash})
	if 2*len(d.names) > len(d.table) {
		d.table = make([]int32, max(4*len(d.table), 16))
		for i := range d.names {
			d.enter(int32(i))
		}
	} else {
		d.enter(int32(len(d.names) - 1))
	}
	return int32(len(d.names) - 1)
}

func (d *dirt) enter(i int32) {
	for k := d.names[i].hash; ; k++ {
		if at := &d.table[int(k)&(len(d.table)-1)]; *at == 0 {
			*at = i + 1
			return
		}
	}
}

// touch makes a name dirty and gives its index.
func (d *dirt) touch(at place, ops Op) int32 {
	hash := nameHash(at.dir, at.name)
	i := d.lookup(at, hash)
	if i < 0 {
		i = d.insert(at, hash)
	}
	d.names[i].ops |= ops
	return i
}

// touchBytes is touch for what a record says, of a name that is not the caller's to keep.
func (d *dirt) touchBytes(dir ref, name []byte, ops Op) int32 {
	at := place{dir, unsafe.String(unsafe.SliceData(name), len(name))} // for as long as this call
	hash := nameHash(dir, at.name)
	i := d.lookup(at, hash)
	if i < 0 {
		if at.name = ""; len(name) > 0 {
			at.name = d.keep(name)
		}
		i = d.insert(at, hash)
	}
	d.names[i].ops |= ops
	d.names[i].news |= ops
	return i
}

// add makes a name dirty of which is known what n says, but for now.
func (d *dirt) add(n *dirtyName) int32 {
	i := d.touch(n.at, n.ops)
	m := &d.names[i]
	m.news |= n.news
	m.own |= n.own
	return i
}

// say notes what a record said of an object by a name.
func (d *dirt) say(name int32, object []byte, ops Op) {
	if k := d.names[name].said - 1; k >= 0 && d.said[k].object == string(object) {
		d.said[k].ops |= ops
		return
	}
	d.addSaid(said{name, d.keep(object), ops})
}

func (d *dirt) addSaid(s said) {
	d.said = append(d.said, s)
	d.names[s.name].said = int32(len(d.said))
}

// objectOf gives the object of the newest record, by a name, as it is kept: what was said of it, or the first half of its rename, may have kept it already.
func (d *dirt) objectOf(name int32, object []byte) string {
	if len(object) == 0 {
		return ""
	}
	if k := d.names[name].said - 1; k >= 0 && d.said[k].object == string(object) {
		return d.said[k].object
	}
	if n := len(d.moves); n > 0 && d.moves[n-1].object == string(object) {
		return d.moves[n-1].object
	}
	return d.keep(object)
}

// hear notes what a record said of an object, whose handle is not the caller's to keep.
func (d *dirt) hear(object string, ops Op, pid int32) {
	h := d.heard[object]
	if h == nil {
		if d.heard == nil {
			d.heard = make(map[string]*heard)
		}
		h = new(heard)
		d.heard[strings.Clone(object)] = h
	}
	if h.ops |= ops; pid != 0 {
		h.pid = pid
	}
}

// saidOf adds what was said by the names of another dirt, which are here under other indexes.
func (d *dirt) saidOf(o *dirt, moved []int32) {
	for _, s := range o.said {
		s.name = moved[s.name]
		d.addSaid(s)
	}
}

// keep copies a name to where it stays for as long as anybody uses it.
func (d *dirt) keep(name []byte) string {
	if cap(d.text)-len(d.text) < len(name) {
		d.text = make([]byte, 0, max(min(2*cap(d.text), 32<<10), 256, len(name)))
	}
	from := len(d.text)
	d.text = append(d.text, name...)
	return unsafe.String(&d.text[from], len(name))
}

func (d *dirt) list(r ref) {
	if d.lists == nil {
		d.lists = make(map[ref]struct{})
	}
	d.lists[r] = struct{}{}
}

func (d *dirt) lose(r ref) {
	if d.lost == nil {
		d.lost = make(map[ref]struct{})
	}
	d.lost[r] = struct{}{}
}

// before puts older dirt in front of what is in d.
func (d *dirt) before(old *dirt) {
	if old == nil || old.empty() {
		return
	}
	moved, fresh := make([]int32, len(old.names)), len(d.names)
	then := make(map[int32]Op) // what was said before the first of d's records that change the name
	for i := range old.names {
		n := &old.names[i]
		k := d.add(n)
		moved[i] = k
		if n.now != 0 {
			then[k] = n.now
		}
		if int(k) >= fresh {
			d.names[k].carried = true
		}
		if m := &d.names[k]; m.pid == 0 {
			m.pid = n.pid
		}
	}
	for i := range d.moves {
		if len(then) == 0 {
			break
		}
		m := &d.moves[i]
		m.op |= then[m.name]
		delete(then, m.name)
	}
	for k, ops := range then {
		d.names[k].now |= ops
	}
	if len(old.moves) > 0 {
		moves := make([]hint, 0, len(old.moves)+len(d.moves))
		for _, m := range old.moves {
			m.name = moved[m.name]
			moves = append(moves, m)
		}
		d.moves = append(moves, d.moves...)
	}
	newer := d.said
	d.said = nil
	d.saidOf(old, moved)
	for _, s := range newer {
		d.addSaid(s)
	}
	d.barriers = append(old.barriers, d.barriers...)
	d.join(old)
}

// join adds what has no order.
func (d *dirt) join(o *dirt) {
	for r := range o.lists {
		d.list(r)
	}
	for r := range o.lost {
		d.lose(r)
	}
	for object, h := range o.heard {
		d.hear(object, h.ops, h.pid)
	}
	d.sweep, d.poll, d.lossy, d.echo = d.sweep || o.sweep, d.poll || o.poll, d.lossy || o.lossy, max(d.echo, o.echo)
}

// after puts newer dirt behind what is in d, at the price of the newer one, however much is in d.
func (d *dirt) after(newer *dirt) {
	moved := make([]int32, len(newer.names))
	for i := range newer.names {
		n := &newer.names[i]
		k := d.add(n)
		moved[i] = k
		if n.pid != 0 {
			d.names[k].pid = n.pid
		}
	}
	for _, m := range newer.moves {
		m.name = moved[m.name]
		m.op |= d.names[m.name].now
		d.names[m.name].now = 0
		d.moves = append(d.moves, m)
	}
	for i := range newer.names {
		d.names[moved[i]].now |= newer.names[i].now
	}
	d.saidOf(newer, moved)
	d.barriers = append(d.barriers, newer.barriers...)
	d.join(newer)
}

// groups gives for each name the one that stands for all that it was renamed with, and a name of each rename.
func (d *dirt) groups() (group []int32, byCookie map[uint32]int32) {
	group, byCookie = make([]int32, len(d.names)), make(map[uint32]int32)
	for i := range group {
		group[i] = int32(i)
	}
	top := func(i int32) int32 {
		for group[i] != i {
			group[i] = group[group[i]]
			i = group[i]
		}
		return i
	}
	for _, m := range d.moves {
		if m.cookie == 0 {
			continue
		}
		if other, ok := byCookie[m.cookie]; ok {
			group[top(m.name)] = top(other)
		} else {
			byCookie[m.cookie] = m.name
		}
	}
	for i := range group {
		group[i] = top(int32(i))
	}
	return group, byCookie
}

// split takes out the names that are chosen, with the records that change them, and all that is no name.
func (d *dirt) split(chosen []bool) (out, rest *dirt) {
	out, rest = newDirt(), newDirt()
	side := func(name int32) *dirt {
		if chosen[name] {
			return out
		}
		return rest
	}
	moved := make([]int32, len(d.names))
	for i := range d.names {
		n, to := &d.names[i], side(int32(i))
		k := to.touch(n.at, n.ops)
		to.names[k] = *n
		to.names[k].said = 0
		moved[i] = k
	}
	for _, s := range d.said {
		to := side(s.name)
		s.name = moved[s.name]
		to.addSaid(s)
	}
	for _, m := range d.moves {
		to := side(m.name)
		m.name = moved[m.name]
		to.moves = append(to.moves, m)
	}
	out.heard, out.lists, out.lost, out.barriers, out.echo = d.heard, d.lists, d.lost, d.barriers, d.echo
	out.sweep, out.poll, out.lossy = d.sweep, d.poll, d.lossy
	return out, rest
}

// The bounds of what waits to be looked at. A pass takes about passNames. Beyond maxDirty names they collapse into
// directories, beyond maxDirtyDirs directories into one sweep: what is forgotten is only who did
// what, that files were closed, and that an object was changed by a name that it lost. namesMoves of the records that change names count like a name. So do names that
// wait to be decided, beyond maxWaiting, if it is their records that are so many: something is renamed faster than anyone can look, all the time.
const (
	passNames    = 16384
	maxDirty     = 1 << 20
	maxDirtyDirs = 1 << 17
	namesMoves   = 4
	maxWaiting   = 8 * passNames // names that wait to be decided, whose records are kept
)

// size is how much d holds, in names.
func (d *dirt) size() int {
	return max(len(d.names), len(d.heard), len(d.moves)/namesMoves, len(d.said)/namesMoves)
}

// inbox is where the reader leaves dirt and the tree fetches it, piece by piece. It never blocks the reader.
type inbox struct {
	mu    sync.Mutex
	queue []*dirt // the newest, last, still grows
	sizes int     // of all but the newest
	spare []*dirt // empty ones, to be used again
	most  int     // before they collapse
	dirs  int     // directories, before they do
	wake  chan struct{}
	now   func() time.Time
}

func newInbox(now func() time.Time) *inbox {
	return &inbox{queue: []*dirt{newDirt()}, most: maxDirty, dirs: maxDirtyDirs, wake: make(chan struct{}, 1), now: now} // room for one
}

func (in *inbox) newest() *dirt { return in.queue[len(in.queue)-1] }

// put adds records. Names that records share cost one entry. Records of nothing that is watched wake nobody: they are for whoever comes.
func (in *inbox) put(recs []Record) {
	if len(recs) == 0 {
		return
	}
	now, names := in.now(), false
	in.mu.Lock()
	d := in.newest()
	for i := range recs {
		r := &recs[i]
		if r.Dir == barrierRef { // see barrier.pass
			continue
		}
		if d.size() >= passNames {
			in.sizes += d.size()
			d = in.fresh()
			in.queue = append(in.queue, d)
		}
		if r.Dir == 0 {
			d.hear(unsafe.String(unsafe.SliceData(r.Object), len(r.Object)), r.Op, r.PID)
			continue
		}
		names = true
		switch {
		case r.Op&OpLost != 0:
			d.lose(r.Dir)
			continue
		case r.Op&OpSelf != 0:
			d.touchBytes(r.Dir, nil, OpAttrib|r.Op&OpModify)
			continue
		}
		k := d.touchBytes(r.Dir, r.Name, r.Op)
		n := &d.names[k]
		if r.PID != 0 {
			n.pid = r.PID
		}
		if r.Op&(changeOps|OpDelete|OpMovedFrom) != 0 && len(r.Object) > 0 {
			d.say(k, r.Object, r.Op&changeOps)
		}
		if r.Op&hintOps != 0 { // what was said was said of what goes, not of what has the name next
			d.moves = append(d.moves, hint{name: k, op: r.Op&hintOps | n.now, cookie: r.Cookie, seen: now, object: d.objectOf(k, r.Object)})
			n.now = 0
		}
		n.now |= r.Op & changeOps
	}
	if in.sizes > in.most {
		in.collapse()
	}
	in.mu.Unlock()
	if names {
		in.nudge()
	}
}

// size is how many names wait.
func (in *inbox) size() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.sizes + in.newest().size()
}

// names is how many of them are of what is watched.
func (in *inbox) names() (n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, d := range in.queue {
		n += len(d.names)
	}
	return n
}

// collapse forgets the names and keeps the directories, or only that all has to be swept. A directory itself may be dirty
// too, which a list of its names says nothing of. That a file was closed is forgotten with its name, so who asks is told of that: lossy.
func (in *inbox) collapse() {
	all := newDirt()
	all.lossy = true
	for _, d := range in.queue {
		all.before(d.collapsed())
	}
	if len(all.lists)+len(all.names)+len(all.heard) > in.dirs {
		all.lists, all.names, all.table, all.heard, all.sweep = nil, nil, nil, nil, true
	}
	in.queue, in.sizes = []*dirt{all}, 0
}

// collapsed is d without its names, and what was said of them: their directories are to be listed. d is not used any more.
func (d *dirt) collapsed() *dirt {
	out := newDirt()
	for i := range d.names {
		if n := &d.names[i]; n.at.name == "" {
			out.add(n)
		} else {
			out.list(n.at.dir)
		}
	}
	d.names, d.moves, d.said = nil, nil, nil
	out.before(d)
	return out
}

// ask changes what is wanted besides names.
func (in *inbox) ask(f func(d *dirt)) {
	in.mu.Lock()
	f(in.newest())
	in.mu.Unlock()
	in.nudge()
}

func (in *inbox) nudge() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// take fetches the oldest piece; nil: there is nothing. last says that nothing is behind it.
func (in *inbox) take() (d *dirt, last bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	d = in.queue[0]
	if len(in.queue) > 1 {
		in.queue[0] = nil
		in.queue = in.queue[1:]
		in.sizes -= d.size()
		return d, false
	}
	if d.empty() {
		if in.spare != nil {
			in.spare, in.queue[0] = nil, newDirt()
		}
		return nil, true
	}
	in.queue[0] = in.fresh()
	return d, true
}

// keptDirt is how many pieces are kept for their next use: one that is looked at, and one that grows.
const keptDirt = 2

// fresh gives an empty one. The caller holds mu.
func (in *inbox) fresh() *dirt {
	n := len(in.spare)
	if n == 0 {
		return newDirt()
	}
	d := in.spare[n-1]
	in.spare = in.spare[:n-1]
	return d
}

// give has d used again, of which nothing is kept, unless it held far less than it could: emptying it costs as much as it has ever held. While nothing
// waits, none is kept.
func (in *inbox) give(d *dirt) {
	if len(d.table) > 16*max(len(d.names), believeFrom) {
		return
	}
	d.reset()
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.spare) < keptDirt {
		in.spare = append(in.spare, d)
	}
}

// fate is what the records say became of the object that was told under a name.
type fate uint8

const (
	fateUnknown fate = iota
	fateRemoved      // unlinked, or overwritten by a rename
	fateMovedOut
	fateHalf // renamed away; the other half has not come yet
)

// nameHint is what the order of the records tells of one name beyond the disk. Disk and identities
// decide what is; hints only how to call it.
type nameHint struct {
	fate    fate      // of the object that was told under the name
	dest    int32     // where that object stands now, or stood last if it is half way: index of a dirty name; -1: unknown
	source  int32     // where the present object stood before the records: index of a dirty name; -1: unknown, or it came
	hops    int       // renames by which it came from source
	arrived Op        // how the present object came: OpCreate or OpMovedTo, perhaps with OpFromNew
	seen    time.Time // when the record of that came
	own     Op        // what was said of the object that was told under the name, while it had that name and by others that it got then
	its     Op        // what was said of the present object, if it came
	object  string    // Record.Object of how it came
	adrift  bool      // something that came from outside was here last
	// swapped: something came from outside to the name, and right after it something left it for there. The records do not say which objects
	// these are: if anything is there now, they have changed places.
	swapped bool
}

// occupant is an object that stands under some name.
type occupant struct {
	orig   int32     // the name under which it stood before the records; -1: it came during them
	other  bool      // but something else was told there
	ahead  bool      // it was told before the records said that it came
	how    Op        // for those that came
	seen   time.Time // when it came, if that was by a rename
	hops   int       // renames by which it came
	none   bool      // orig is of what was removed there
	ops    Op        // of changeOps: what was said of it
	object string    // Record.Object; "" for those that stood there before
	via    int32     // for what was told under a name before the records said that it came there: the name it came from, plus one; 0: none
}

// toldThere says whether the object of a record is the one that was told under a name. It is not certain if the records do not say which objects they are about.
type toldThere func(name int32, object string) (yes, certain bool)

// half is the first half of a rename.
type half struct {
	who    occupant
	from   int32
	record *hint
	swaps  bool // as nameHint.swapped has it
}

// flights are renames of which the second half is still to come, by cookie: mostly one, as the halves follow each other.
type flights struct {
	cookie uint32 // of one; 0: none
	one    half
	more   map[uint32]half
}

// start takes one in. A cookie is not 0.
func (f *flights) start(cookie uint32, h half) {
	if f.cookie == 0 || f.cookie == cookie {
		delete(f.more, cookie)
		f.cookie, f.one = cookie, h
		return
	}
	if f.more == nil {
		f.more = make(map[uint32]half)
	}
	f.more[cookie] = h
}

// land takes one out; false: there is none.
func (f *flights) land(cookie uint32) (half, bool) {
	if cookie == 0 {
		return half{}, false
	}
	if cookie == f.cookie {
		f.cookie = 0
		return f.one, true
	}
	h, ok := f.more[cookie]
	if ok {
		delete(f.more, cookie)
	}
	return h, ok
}

// left gives those that are still on their way.
func (f *flights) left() map[uint32]half {
	if f.cookie != 0 {
		if f.more == nil {
			f.more = make(map[uint32]half)
		}
		f.more[f.cookie] = f.one
	}
	return f.more
}

// trail is what hints works with, to be used again.
type trail struct {
	hints []nameHint
	stand []occupant
}

func (l *trail) of(names int) ([]nameHint, []occupant) {
	l.hints, l.stand = slices.Grow(l.hints[:0], names)[:names], slices.Grow(l.stand[:0], names)[:names]
	return l.hints, l.stand
}

// hints follows the objects that stood under the names before the first record through the renames. What was told there may be from after some of the records,
// as looks are ahead of them: then it is not what these records speak of, or not yet. What it gives is good until l is used again.
func (d *dirt) hints(l *trail, olds []ref, told toldThere) []nameHint {
	if len(d.moves) == 0 {
		return nil
	}
	h, occ := l.of(len(d.names))
	for i := range occ {
		h[i] = noHint
		occ[i] = occupant{orig: int32(i)}
	}
	var flying flights
	displaced := make(map[int32]occupant) // by what came to a name and is there, nothing else of which was said since
	end := func(o occupant, f fate) {
		if !o.none && o.orig >= 0 && !o.other {
			h[o.orig].fate = f
		}
	}
	// hear notes what was said of what stands under a name.
	hear := func(name int32, ops Op) {
		o := &occ[name]
		if o.ops |= ops; o.orig >= 0 && !o.other {
			h[o.orig].own |= ops
		}
	}
	// leaves gives what a record says has left a name: what stands there, unless that was told since.
	leaves := func(m *hint) occupant {
		who := occ[m.name]
		if who.none {
			return occupant{none: true, orig: -1}
		}
		if who.orig == m.name && !who.other && olds[m.name] != 0 {
			if yes, certain := told(m.name, m.object); certain && !yes {
				occ[m.name].ahead = true
				return occupant{orig: m.name, other: true}
			}
		}
		if old, ok := displaced[m.name]; ok && m.object != "" && who.object != "" && m.object != who.object {
			end(old, fateUnknown) // they have changed places
			return old
		}
		occ[m.name] = occupant{none: true, orig: -1}
		return who
	}
	for k := range d.moves {
		m := &d.moves[k]
		m.open, m.due = false, 0
		hear(m.name, m.op&changeOps)
		if m.op&OpCreate != 0 { // first: in a merged record only the disk knows whether it is still there
			occ[m.name] = occupant{orig: -1, how: OpCreate, object: m.object}
			delete(displaced, m.name)
		}
		if m.op&OpMovedTo != 0 {
			who, via := occupant{orig: -1, how: m.op & (OpMovedTo | OpFromNew)}, int32(0)
			if f, ok := flying.land(m.cookie); ok {
				who, via = f.who, f.from+1
				who.seen = m.seen
				who.hops++
			}
			if o := &occ[m.name]; !o.none && o.orig >= 0 && !o.other && olds[o.orig] != 0 {
				yes, certain := told(o.orig, m.object)
				if !certain { // it comes from where nothing was told, and is no new one
					yes = o.orig == m.name && who.orig >= 0 && olds[who.orig] == 0
				}
				switch {
				case yes && o.orig == m.name: // it was told here already
					o.ahead, o.via, o.seen, o.ops = false, via, m.seen, o.ops|who.ops
					h[m.name].own |= who.ops
					continue
				case yes || o.ahead: // the record that it left is missing: the kernel merged it with one before; or it is still to come
					continue
				}
			}
			end(occ[m.name], fateRemoved)
			if delete(displaced, m.name); !occ[m.name].none {
				displaced[m.name] = occ[m.name]
			}
			who.object = m.object
			occ[m.name] = who
		}
		if m.op&OpMovedFrom != 0 {
			who := leaves(m)
			if m.cookie == 0 {
				end(who, fateMovedOut)
			} else {
				old, ok := displaced[m.name]
				swaps := ok && m.object == "" && old.orig == m.name && who.orig < 0 && who.how == OpMovedTo && who.hops == 0
				flying.start(m.cookie, half{who, m.name, m, swaps})
			}
			delete(displaced, m.name)
		}
		if m.op&OpDelete != 0 {
			who := leaves(m)
			end(who, fateRemoved)
			if o := &occ[m.name]; o.none && !who.none { // what is yet said by the name is said of that one
				o.orig, o.other = who.orig, who.other
			}
			delete(displaced, m.name)
		}
	}
	left := flying.left()
	d.open = len(left)
	for _, f := range left {
		f.record.open = true
		if o := f.who; o.orig < 0 || o.other || olds[o.orig] == 0 {
			f.record.due = o.ops
		}
		if o := f.who; o.orig < 0 && !o.none && o.how == OpMovedTo {
			h[f.from].adrift = true
			h[f.from].swapped = f.swaps && occ[f.from].none
		} else if !o.none && o.orig >= 0 && !o.other {
			h[o.orig].fate = fateHalf
			if f.from != o.orig {
				h[o.orig].dest = f.from
			}
		}
	}
	for i := range occ {
		hear(int32(i), d.names[i].now)
		o := &occ[i]
		h[i].object = o.object
		switch {
		case o.none:
		case o.orig < 0:
			h[i].arrived, h[i].its, h[i].adrift = o.how, o.ops, o.how == OpMovedTo
		case int(o.orig) != i || o.other:
			if !o.other {
				h[o.orig].dest = int32(i)
			}
			h[i].arrived, h[i].source, h[i].seen, h[i].hops, h[i].its = OpMovedTo, o.orig, o.seen, o.hops, o.ops
		case o.via > 0: // if it is another one, after all
			h[i].arrived, h[i].source, h[i].seen, h[i].hops, h[i].its = OpMovedTo, o.via-1, o.seen, 1, o.ops
		case olds[i] == 0: // nobody has heard how it came
			h[i].its = o.ops
		}
	}
	return h
}
