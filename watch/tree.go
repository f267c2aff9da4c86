package watch

import (
	"errors"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fs_notify/notify"
)

// Root is a directory of this host that is served.
type Root struct {
	Name string // the absolute path under which it is served
	Dir  string // the absolute path of the directory itself
}

// rootInfo is what the tree knows of a root.
type rootInfo struct {
	Root
	node    ref // 0 until first seen
	id      notify.FileID
	phase   notify.RootPhase
	indexed int64
	guess   float64 // progress of the first scan, or of the sweep of what is remembered, 0 to 1
	why     string  // it is away
	since   time.Time

	restored bool // filled from the past, and not swept yet
	missed   bool // and it was away meanwhile: what was to be swept then was not
	bare     bool // scanned, or remembered, without all extended attributes

	out rootOut // of the pass under way
}

// tree holds every entry's identity and attributes as last told, and compares them with the disk.
// One goroutine works on it; others may read the store and the roots under mu.
type tree struct {
	mu    sync.RWMutex
	s     store
	roots []*rootInfo

	ms      mounts
	src     Source
	srcMu   sync.Mutex
	out     *outbox
	log     *slog.Logger
	exclude func(path string, isDir bool) bool // of a path below a root
	placed  bool                               // and a rename of a directory may change what it says of what lies below
	own     map[[2]uint64]bool                 // device and inode of directories that are never told of
	oneLvl  bool
	now     func() time.Time

	believes int // Config.BelieveFrom

	listNames int64 // how much of directories a pass lists: see bound
	listTime  time.Duration

	actors   actors
	lookers  [2]*looker
	room     room       // of the pass under way
	paths    slab[byte] // of notifications
	spines   slab[notify.FileID]
	drained  bool               // nothing waits behind the pass under way
	left     left               // what was found and is still to be looked at
	inVain   int                // how often in a row something was left of a new directory which could not be told
	carry    *dirt              // names that could not be decided yet
	carryAll bool               // and all of them are to be looked at again, as directories have moved meanwhile
	dropped  bool               // directories have gone in the pass under way
	patience map[place]wait     // what they wait for
	echo     func() uint64      // sets a barrier; 0: it cannot
	echoed   uint64             // the newest barrier before which all was looked at, or is in the pass under way
	mute     bool               // there was none to be had when one was asked for last
	missing  map[place]struct{} // held back until the sweep under way ends
	parked   map[ref]struct{}   // directories that were not where they should be during the sweep
	checks   checks             // of what was believed
	late     dueDirs            // directories whose mtime has to be told, and when
	dirsSet  map[ref]int64      // of them, modification times that were set: the access time was told
	unproved recent[unproved]   // changes of files
	// whose streams may be in the middle of a rename, and when that was first seen
	streamsSince map[notify.FileID]time.Time
	deadNames
	newcomers newcomers
	closes    recent[notify.FileID] // objects that were closed before anyone knew where they are
	ghosts    recent[deadName]      // names that had gone when they were looked at, of objects that were closed; where no record says which
	digests   digests
	trouble   map[ref]trouble // degraded directories
	troubled  sync.Mutex      // guards trouble for readers
	degraded  notify.Few      // lines in the log of directories that are degraded
	healed    notify.Few      // and of those that are no longer
	carryDue  time.Time       // when they are looked at again without a record

	passed     time.Time // when the last pass began
	awake      time.Time // since when they follow each other: before that there was nothing to do, or the process was stopped
	heldTill   time.Time // until then a sweep of everything, or what was left, held back what was missing, and with it what depends on that
	stuckSince time.Time // nothing could be decided since then
	wantSweep  bool      // and so everything has to be swept
	dirMoved   bool      // a directory was renamed: mounts below it are elsewhere

	// From this change time on, in Unix nanoseconds, it is not believed that what looks untouched is. The records that a process had not read when it
	// ended may have been of extended attributes, and of a change time that it has seen: until the sweep after that.
	doubt int64

	lapsed       bool         // some directory is polled or degraded, or was
	hasUnwatched atomic.Bool  // some is polled, or was
	looks        atomic.Int64 // at names, since the start
	longName     sync.Once    // one was met, and the log says so
}

type trouble struct {
	reason string
	since  time.Time
}

// patience bounds: how long a record of the other half of a rename, or of a disappearance, is waited for where the
// source gives no echo.
const (
	halfWait   = 10 * time.Millisecond
	recordWait = 50 * time.Millisecond
	mtimePause = time.Second // between two mtime_changed of one directory
)

// maxDepth levels and maxPath and maxName bytes bound what is looked at below a root.
const (
	maxDepth = 1024
	maxPath  = 64 << 10
	maxName  = 255
)

func newTree(src Source, out *outbox, log *slog.Logger, now func() time.Time) *tree {
	return &tree{s: store{reads: src.Caps().Reads}, src: src, out: out, log: log, now: now, lookers: [2]*looker{{}, {}},
		patience: make(map[place]wait), echo: func() uint64 { return 0 }, missing: make(map[place]struct{}), parked: make(map[ref]struct{}),
		doubt: math.MaxInt64, trouble: make(map[ref]trouble), streamsSince: make(map[notify.FileID]time.Time), dirsSet: make(map[ref]int64), own: make(map[[2]uint64]bool)}
}

func (t *tree) rootInfo(r ref) *rootInfo {
	for _, ri := range t.roots {
		if ri.node == r {
			return ri
		}
	}
	return nil
}

// job is a directory to be opened, and what to look at through it.
type job struct {
	dir   ref
	items []*item      // the names that are asked for
	few   [4]*item     // room for them, where they are few
	list  bool         // look at every name
	spell []*item      // names of which the listing has to say whether they are there
	names bool         // list, and look at those that are not as they were told: not there, or only there
	watch bool         // and watch it before that
	fresh bool         // found only now: nothing below it was ever told
	bare  bool         // extended attributes are left for later
	hand  func([]look) // takes what a listing has found before it holds more than scanPiece of it; nil: all of it stays in looks
	bound *bound       // of the names that are looked at of those which a listing finds; nil: there is none
	left  bool         // it was not begun, as that had passed
	known []ref        // entries of which only the extended attributes are asked for
	site  site         // where the directory is; if it has no root, the tree says so

	err      error // of the directory itself; errElsewhere, errRootAway or what the kernel said
	watchErr error
	self     notify.Attr // of the directory, from before the looks
	mount    *mount      // that it lies on, if that is news
	looks    []look      // of known, and what the listing found; what is under the names of items is there
	listed   bool
	rest     []byte // names that the listing found and nobody looked at, as leftNames has them
	unheard  bool   // what is there may change without a record: a file that another mount shows
	folds    bool   // it folds case, and something has left a name in it of which nobody was told
	tries    int
	path     *string  // where it was found, if not where the tree has it
	tried    []string // where it was not
}

// look is what was found under a name.
type look struct {
	name  string
	err   error // nil: something is there; else isGone(err) or anything that proves nothing
	id    notify.FileID
	attr  notify.Attr
	mount *mount // that it lies on
	same  bool   // as it was told: identity and stamp
	bare  bool   // the extended attributes in attr were not read
	// behind: those in attr are as they were told, since only the data was written as far as the records say
	behind bool
}

// failed says whether nothing was learned of the name.
func (lk look) failed() bool { return lk.err != nil && !isGone(lk.err) }

// mountedFile says whether a file was found that is mounted in a directory on m: records of it are of where it comes from.
func (lk *look) mountedFile(m *mount) bool {
	return lk.err == nil && !lk.attr.IsDir() && lk.mount.index != m.index
}

// site is where a directory is, and what is to be found there.
type site struct {
	root  ref
	path  string
	depth int
	mount *mount
	id    notify.FileID
	stamp uint64
	shut  bool // dirOpaque
}

func (t *tree) siteOf(r ref) site {
	n, d := t.s.node(r), t.s.dir(r)
	return site{t.s.rootOf(r), t.s.path(r), t.s.depth(r), t.ms.at(d.mount), n.id, n.stamp, d.flags&dirOpaque != 0}
}

// openRoots are the roots that were opened for one round of looks; root directories are opened by path each time, so that nobody's umount fails.
type openRoots struct {
	t   *tree
	mu  sync.Mutex
	fds map[ref]dirFD
	err map[ref]error
}

func (t *tree) newRoots() *openRoots {
	return &openRoots{t: t, fds: make(map[ref]dirFD), err: make(map[ref]error)}
}

func (o *openRoots) open(l *looker, root ref) (dirFD, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if fd, ok := o.fds[root]; ok {
		return fd, o.err[root]
	}
	fd, err := o.t.openRoot(l, root)
	o.fds[root], o.err[root] = fd, err
	return fd, err
}

func (o *openRoots) close() {
	for _, fd := range o.fds {
		closeFD(fd)
	}
}

// openRoot opens a root and makes sure that it still is the directory that it was. errRootAway: it is not; any other error says nothing of that.
func (t *tree) openRoot(l *looker, root ref) (dirFD, error) {
	ri := t.rootInfo(root)
	defer l.to(t.ms.far(ri.Dir, ""))()
	fd, err := ask(l, func(*looker) (dirFD, error) { return openRoot(ri.Dir) }, closeFD)
	if err != nil {
		return noFD, awayIf(err)
	}
	var a notify.Attr
	mnt, _, err := l.stat(fd, "", &a)
	if err == nil {
		m := t.ms.at(t.s.dir(root).mount)
		if m.num != mnt {
			m, err = t.ms.find(root, ri.Name, "", mnt, func(m *mount) error { return l.probe(fd, "", m) })
		}
		id := ri.id
		if err == nil && (a.Btime == 0 || m.snapshots() || !sameInode(t.s.node(root).stamp, stampOf(&a))) {
			id, err = l.identify(&t.ms, m, fd, "", &a)
		}
		if err == nil && id == ri.id {
			return fd, nil
		}
	}
	closeFD(fd)
	if err == nil {
		err = errElsewhere
	}
	return noFD, awayIf(err)
}

// awayIf takes an error of a root's directory for a sign that it is not there, if it says so: that another one stands there, or none, or that what had mounted it is
// dead. Any other only says that nobody can look now.
func awayIf(err error) error {
	if !isElsewhere(err) && !errors.Is(err, errElsewhere) && !isUnmounted(err) {
		return err
	}
	return errRootAway{err}
}

// errRootAway says that the path of a root does not lead to its directory now.
type errRootAway struct{ err error }

func (e errRootAway) Error() string { return "the root is away: " + e.err.Error() }
func (e errRootAway) Unwrap() error { return e.err }

// leavable says whether the job can be done as well in a later pass.
func (j *job) leavable() bool { return j.list && len(j.items) == 0 }

// rank is the order of jobs: what cannot be left comes first.
func (j *job) rank() int {
	if j.leavable() {
		return 1
	}
	return 0
}

// run does the jobs, on two workers if there is much to do. The tree is not changed meanwhile.
func (t *tree) run(jobs []*job) {
	roots := t.newRoots()
	defer roots.close()
	do := func(l *looker, j *job) {
		if j.left = j.left || j.leavable() && j.bound.passed(); !j.left {
			t.perform(l, j, roots)
		}
	}
	if len(jobs) < 8 {
		for _, j := range jobs {
			do(t.lookers[0], j)
		}
		return
	}
	var wg sync.WaitGroup
	next := make(chan *job, len(jobs))
	for _, j := range jobs {
		next <- j
	}
	close(next)
	for _, l := range t.lookers {
		wg.Go(func() {
			for j := range next {
				do(l, j)
			}
		})
	}
	wg.Wait()
}

// perform does one job: open the directory, make sure that it is the one, watch it, look at names. Of a fresh directory whose site is given it
// does not ask the tree, once the root is open.
func (t *tree) perform(l *looker, j *job, roots *openRoots) {
	j.err, j.watchErr, j.looks, j.rest, j.listed, j.unheard, j.folds, j.mount = nil, nil, nil, nil, false, false, false, nil
	s := j.site
	if s.root == 0 {
		s = t.siteOf(j.dir)
	}
	root, path, m := s.root, s.path, s.mount
	top, err := roots.open(l, root)
	if err != nil {
		j.err = err
		return
	}
	if j.path != nil {
		path = *j.path
	}
	if len(path) > maxPath || s.depth > maxDepth {
		j.err = errTooDeep
		return
	}
	dir := t.rootInfo(root).Dir
	if far := t.ms.far(dir, path); far != nil {
		defer l.to(far)()
	}
	fd, err := ask(l, func(*looker) (dirFD, error) { return openBelow(top, path) }, closeFD)
	if err != nil {
		j.err = err
		if isElsewhere(err) {
			j.err = errElsewhere
		}
		return
	}
	defer closeFD(fd)
	mnt, _, err := l.stat(fd, "", &j.self)
	if err == nil && mnt != m.num { // of a tree that was remembered the mounts are not known yet
		if m = t.ms.of(root, mnt); m == nil {
			j.err = errElsewhere
			return
		}
		j.mount = m
	}
	if err == nil && (s.shut || j.mount != nil && m.opaque != "") { // it has no content in the tree
		for _, i := range j.items {
			i.look = look{name: i.at.name, err: errGone, mount: m}
		}
		return
	}
	if err == nil && (j.mount != nil || m.snapshots() || !sameInode(s.stamp, stampOf(&j.self))) { // by another mount the same inode has another ID
		var id notify.FileID
		if id, err = l.identify(&t.ms, m, fd, "", &j.self); err == nil && id != s.id {
			err = errElsewhere
		}
	}
	if err != nil {
		j.err = err
		return
	}
	if !m.polled {
		l.far = nil // what is far lies on the way only
	}
	if j.watch {
		t.srcMu.Lock()
		if m.polled {
			t.src.Unwatch(j.dir) // something else may have been there
			j.watchErr = ErrPolled
		} else {
			j.watchErr = t.src.Watch(j.dir, Place{FD: rawFD(fd), Path: join(dir, path), Mount: mnt})
		}
		t.srcMu.Unlock()
		l.stat(fd, "", &j.self) // what changed it before the watch was in force is in no record
	}
	at := lookAt{l: l, root: root, fd: fd, m: m, path: path, bare: j.bare, scan: j.site.root != 0, farIn: t.ms.farIn(dir, path)}
	for _, r := range j.known {
		j.looks = append(j.looks, t.digest(at, r))
	}
	for _, i := range j.items {
		t.look(at, &i.look, i.at.name, i.ops, i.old, i.came)
		j.unheard = j.unheard || i.look.mountedFile(m)
	}
	j.folds = slices.ContainsFunc(j.items, (*item).leftUnknown) && foldsCase(fd, m)
	if len(j.spell) > 0 {
		t.spell(at, j.spell)
	}
	if j.list || j.names {
		if j.err = t.listing(at, j); j.err == nil && j.bound != nil {
			j.bound.count()
		}
		j.listed = j.err == nil && j.list
		if j.err != nil && isElsewhere(j.err) {
			j.err = errElsewhere
		}
	}
}

// spell corrects what was found under names that are not in the directory as they are written: what stands there has another spelling,
// which is among them, and what was heard of it belongs there.
func (t *tree) spell(at lookAt, items []*item) {
	left := make(map[string]*item, len(items))
	for _, i := range items {
		left[i.at.name] = i
	}
	if at.l.list(at.fd, func(name string) { delete(left, name) }) != nil {
		return
	}
	for _, i := range left {
		for _, o := range items {
			if left[o.at.name] == nil && o.look.id == i.look.id {
				ops := i.ops & changeOps
				o.ops, o.own, o.its = o.ops|ops, o.own|ops, o.its|ops
				o.records = o.records || i.records
				if o.look.behind && !i.look.behind && i.look.attr.Ctime >= o.look.attr.Ctime {
					o.look.attr, o.look.behind = i.look.attr, false
				}
			}
		}
		i.state, i.look = absent, look{name: i.at.name, err: errGone, mount: at.m}
	}
}

// maxScratch is how many looks of a directory a looker keeps room for.
const maxScratch = 4096

// listing looks at every name that is in the directory or was told there, as long as it may. Those that are as they were told leave no trace.
func (t *tree) listing(at lookAt, j *job) error {
	l := at.l
	l.met, l.found = l.met[:0], l.found[:0]
	later := func() bool {
		if j.bound == nil {
			return false
		}
		if len(j.rest) > 0 || j.bound.passed() {
			return true
		}
		j.bound.count()
		return false
	}
	leave := func(name string) { j.rest = append(append(j.rest, name...), 0) }
	asked := make(map[string]struct{}, len(j.items))
	for _, i := range j.items {
		asked[i.at.name] = struct{}{}
	}
	err := l.list(at.fd, func(name string) {
		if len(name) > maxName {
			t.longName.Do(func() {
				t.log.Warn("names longer than 255 bytes are not told", "first", notify.EscapeName(join(at.path, name)))
			})
			return
		}
		if _, ok := asked[name]; ok {
			return
		}
		var old ref
		if !j.fresh {
			if old = t.s.child(j.dir, name); old != 0 {
				if l.met = append(l.met, old); !j.list {
					return
				}
			}
		}
		if later() {
			leave(name)
			return
		}
		n := len(l.found)
		l.found = slices.Grow(l.found, 1)[:n+1]
		k := &l.found[n]
		t.look(at, k, name, 0, old, 0)
		j.unheard = j.unheard || k.mountedFile(at.m)
		if k.same { // it leaves no trace
			l.found = l.found[:n]
		} else {
			k.name = strings.Clone(name)
		}
		if j.hand != nil && len(l.found) == scanPiece {
			j.hand(slices.Clone(l.found))
			l.found = l.found[:0]
		}
	})
	j.looks = append(j.looks, l.found...)
	if cap(l.found) > maxScratch {
		l.found = nil
	}
	if err != nil || j.fresh {
		return err
	}
	slices.Sort(l.met)
	if l.met = slices.Compact(l.met); len(l.met) == int(t.s.dir(j.dir).count) { // none is missing; what is made anew meanwhile is met twice
		return nil
	}
	t.s.children(j.dir, func(c ref) {
		if _, ok := slices.BinarySearch(l.met, c); ok {
			return
		}
		name := t.s.name(c)
		switch _, ok := asked[name]; {
		case ok:
		case later():
			leave(name)
		default:
			j.looks = append(j.looks, look{})
			t.look(at, &j.looks[len(j.looks)-1], name, 0, c, 0)
		}
	})
	return nil
}

// lookAt is an open directory and where it is.
type lookAt struct {
	l     *looker
	root  ref
	fd    dirFD
	m     *mount
	path  string
	bare  bool // extended attributes are left for later
	scan  bool // the tree is not to be asked for more than the job says
	farIn bool // something far is mounted in it
}

// look asks the disk about one name and fills k with what it finds. Only what differs from the tree is asked for
// identity and attributes in full: from old, which was told under the name, and from came, which the records saw come there.
func (t *tree) look(at lookAt, k *look, name string, ops Op, old, came ref) {
	l, m := at.l, at.m
	t.looks.Add(1)
	if at.farIn {
		defer l.to(t.ms.far(t.rootInfo(at.root).Dir, join(at.path, name)))()
	}
	*k = look{name: name, mount: m}
	mnt, dev, err := l.stat(at.fd, name, &k.attr)
	if err != nil {
		k.err = err
		return
	}
	if len(t.own) > 0 && t.own[[2]uint64{dev, k.attr.Ino}] || t.exclude != nil && t.exclude(join(at.path, name), k.attr.IsDir()) {
		k.err = errGone
		return
	}
	if mnt != m.num {
		if k.mount, err = t.mountPoint(l, at.root, at.fd, strings.Clone(join(at.path, name)), name, mnt); err != nil {
			k.mount, k.err = m, err
			return
		}
	}
	var n *node
	if old != 0 && t.s.isDir(old) == k.attr.IsDir() && k.mount.grain(&k.attr) == 0 {
		if n = t.s.node(old); n.dir != 0 && t.s.dirs.at(n.dir).mount != k.mount.index {
			n = nil
		}
	}
	if n != nil && ops&(OpCreate|OpMovedTo) == 0 && (n.dir == 0 || !k.mount.snapshots()) { // no record says that another object came here
		stamp := stampOf(&k.attr)
		if n.untouched(stamp, &k.attr) && k.attr.Ctime < t.doubt {
			k.id = n.id
			if ops&OpAttrib == 0 {
				k.same, k.attr.X, k.bare = true, t.s.xattrs.get(n.x), n.x == unread
				return
			}
			// A look ahead of this record may have seen the change time move, and passed the extended attributes over.
		} else if k.attr.Btime != 0 && sameInode(n.stamp, stamp) {
			k.id = n.id
			if ops != 0 && ops&OpAttrib == 0 && (k.attr.Nlink == 1 || k.attr.IsDir()) && t.passX(l, k, n) { // only its data was written, and by this name
				return
			}
		}
	}
	if came != 0 && k.id == 0 && k.attr.Btime != 0 && k.mount == m && m.grain(&k.attr) == 0 && !k.attr.IsDir() {
		if c := t.s.node(came); sameInode(c.stamp, stampOf(&k.attr)) {
			if k.id = c.id; ops&OpAttrib == 0 && k.attr.Nlink == 1 && t.passX(l, k, c) {
				return
			}
		}
	}
	if k.id == 0 {
		k.id, err = l.identify(&t.ms, k.mount, at.fd, name, &k.attr)
		if err == errTwoObjects { // the name changed hands between the calls
			t.look(at, k, name, ops, old, came)
			return
		}
	}
	if k.bare = at.bare && !k.mount.coarse; err == nil && !k.bare {
		k.attr.X, err = l.xattrs(at.fd, name, func() *notify.Xattrs {
			if at.scan {
				return nil
			}
			return t.s.xattrsOf(k.id)
		})
	}
	k.err = err
	k.same = n != nil && err == nil && ops&OpAttrib == 0 && n.id == k.id && n.untouched(stampOf(&k.attr), &k.attr) && k.attr.Ctime < t.doubt
}

// passX takes the extended attributes of what was found to be as they were told, if that can be: what writes data takes
// security.capability away without a record, and others may go the same way. A label of SELinux, which every file may have, does not.
func (t *tree) passX(l *looker, k *look, n *node) bool {
	if n.x == unread {
		return false
	}
	x := t.s.xattrs.get(n.x)
	if x != nil && x.Other != 0 && !l.labels[x.Other] {
		return false
	}
	k.attr.X, k.behind = x, true
	return true
}

// untouched says whether a is what was told of n. The size of a file counts besides its stamp: in a power cut it may
// lose the data that its times tell of.
func (n *node) untouched(stamp uint64, a *notify.Attr) bool {
	return n.stamp == stamp && (n.dir != 0 || n.size == a.Size)
}

// mountPoint finds out what is mounted at a name.
func (t *tree) mountPoint(l *looker, root ref, fd dirFD, path, name string, num uint64) (*mount, error) {
	if m := t.ms.of(root, num); m != nil && m.place == path {
		return m, nil
	}
	return t.ms.find(root, t.rootInfo(root).Name, path, num, func(m *mount) error {
		err := l.probe(fd, name, m)
		if err == nil && m.opaque == "" && t.ms.shown(m, t.rootInfo(root).Dir) {
			m.opaque = twice
		}
		return err
	})
}

func join(dir, name string) string {
	switch {
	case dir == "":
		return name
	case name == "":
		return dir
	case dir[len(dir)-1] == '/':
		return dir + name
	}
	return dir + "/" + name
}

// polls notes that a directory has to be polled.
func (t *tree) polls() {
	t.lapsed = true
	t.hasUnwatched.Store(true)
}

// hears notes whether records come of all that changes in a directory, as far as a job has seen.
func (t *tree) hears(j *job) {
	n, d := t.s.node(j.dir), t.s.dir(j.dir)
	top := j.self.Flags&encrypted != 0 && (n.parent == 0 || t.s.attr(n.parent).Flags&encrypted == 0) // all names from there on change when the key comes or goes
	switch unheard := j.unheard || top; {
	case unheard && d.flags&dirUnheard == 0:
		d.flags |= dirUnheard
		t.polls()
	case !unheard && j.listed && len(j.rest) == 0:
		d.flags &^= dirUnheard
	}
}

// degrade notes that a directory cannot be watched or listed: it keeps its last state and is
// tried again on a timer.
func (t *tree) degrade(r ref, err error) {
	d := t.s.dir(r)
	if d.flags&dirDegraded != 0 {
		return
	}
	d.flags |= dirDegraded
	t.lapsed = true
	reason := explain(err)
	t.troubled.Lock()
	t.trouble[r] = trouble{reason, t.now()}
	t.troubled.Unlock()
	if so, n := t.degraded.Lets(t.now()); so {
		t.log.Warn("directory degraded: it is swept on a timer instead of watched", "root", t.rootName(r), "path", notify.EscapeName(t.s.path(r)), "reason", reason, "so_far", n)
	}
}

// shut notes that the content of a directory does not belong to the tree, and says so if that is for what is mounted there, and the directory is told.
func (t *tree) shut(r ref, m *mount) {
	t.s.dir(r).flags |= dirOpaque
	if m.opaque == "" {
		return
	}
	t.troubled.Lock()
	t.trouble[r] = trouble{m.opaque, t.now()}
	t.troubled.Unlock()
	if t.s.dir(r).flags&dirAttached != 0 {
		t.sayShut(r)
	}
}

func (t *tree) sayShut(r ref) {
	t.troubled.Lock()
	why, ok := t.trouble[r]
	t.troubled.Unlock()
	if ok {
		t.log.Warn("directory told without its content", "root", t.rootName(r), "path", notify.EscapeName(t.s.path(r)), "reason", why.reason)
	}
}

// open notes that the content of a directory belongs to the tree after all: what is mounted there is another mount now, or the only one with that content.
func (t *tree) open(r ref, m *mount) {
	d := t.s.dir(r)
	d.flags &^= dirOpaque
	d.mount = m.index
	t.troubled.Lock()
	delete(t.trouble, r)
	t.troubled.Unlock()
	t.log.Info("directory told with its content again", "root", t.rootName(r), "path", notify.EscapeName(t.s.path(r)))
}

func (t *tree) heal(r ref) {
	d := t.s.dir(r)
	if d.flags&dirDegraded == 0 {
		return
	}
	d.flags &^= dirDegraded
	t.troubled.Lock()
	delete(t.trouble, r)
	t.troubled.Unlock()
	if so, n := t.healed.Lets(t.now()); so {
		t.log.Info("directory healed", "root", t.rootName(r), "path", notify.EscapeName(t.s.path(r)), "so_far", n)
	}
}

func (t *tree) rootName(r ref) string {
	if ri := t.rootInfo(t.s.rootOf(r)); ri != nil {
		return ri.Name
	}
	return ""
}

// drop forgets a directory's watch and troubles before its node is released.
func (t *tree) drop(r ref) {
	t.srcMu.Lock()
	t.src.Unwatch(r)
	t.srcMu.Unlock()
	t.dropped = true
	t.onTime(r)
	t.checks.drop(r)
	t.left.drop(r)
	delete(t.parked, r)
	if t.s.dir(r).flags&(dirDegraded|dirOpaque) != 0 {
		t.troubled.Lock()
		delete(t.trouble, r)
		t.troubled.Unlock()
	}
}

// maxGlances bounds for how many directories one pass waits.
const maxGlances = 256

// echoBehind sets a barrier behind every record about names that were seen before the call. The kernel queues the
// record of a change while it holds the directory: whoever has read from the directory since then is behind it, however long the
// one who made the change was kept from going on.
func (t *tree) echoBehind(names []place) uint64 {
	if len(names) == 0 {
		return 0
	}
	roots := t.newRoots()
	defer roots.close()
	done := make(map[ref]bool)
	for _, at := range names {
		if done[at.dir] || len(done) >= maxGlances {
			continue
		}
		done[at.dir] = true
		root := t.s.rootOf(at.dir)
		if t.ms.far(t.rootInfo(root).Dir, t.s.path(at.dir)) != nil {
			continue // there are no records of it
		}
		top, err := roots.open(t.lookers[0], root)
		if err != nil {
			continue // its names are not decided
		}
		if fd, err := openBelow(top, t.s.path(at.dir)); err == nil {
			glance(fd)
			closeFD(fd)
		}
	}
	return t.echo()
}
