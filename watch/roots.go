package watch

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"

	"fs_notify/notify"
)

// away ends a root whose path does not lead to its directory any more. Its tree is kept for when it comes back. Of one that is away
// already it notes why it still is. One that is being swept for the first time has not begun yet.
func (w *Watcher) away(ri *rootInfo, err error) {
	t := w.t
	if ri == nil {
		return
	}
	if ri.phase == notify.Indexing {
		ri.missed = ri.restored
		return
	}
	why := whyAway(err)
	if ri.phase == notify.Away {
		if why != ri.why {
			w.log.Warn("root is still away, for another reason", "root", ri.Name, "dir", ri.Dir, "err", why)
			t.mu.Lock()
			ri.why = why
			t.mu.Unlock()
		}
		return
	}
	w.log.Error("root is away: its streams end", "root", ri.Name, "dir", ri.Dir, "err", why)
	t.mu.Lock()
	defer t.mu.Unlock()
	ri.phase, ri.why, ri.since = notify.Away, why, t.now()
	t.out.addOne(ri.id, notify.Notification{Type: notify.SelfRemoved, Spine: notify.Spine{ri.id}, Attr: t.s.attr(ri.node)})
}

// notThere says of a root that was never found that it is away.
func (w *Watcher) notThere(ri *rootInfo, err error) {
	t := w.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if ri.phase != notify.Away {
		ri.phase, ri.since = notify.Away, t.now()
	}
	ri.why = whyAway(err)
}

// checkRoots looks whether each root still is where it was, and whether something was mounted or unmounted.
func (w *Watcher) checkRoots(ctx context.Context) {
	t := w.t
	for _, ri := range t.roots {
		if ri.node == 0 {
			if err := w.scan(ctx, ri); err == nil && ri.restored {
				w.sweep = nil // the one under way began without it
				w.ask(true)
			}
			continue
		}
		fd, err := t.openRoot(t.lookers[0], ri.node)
		closeFD(fd)
		var away errRootAway
		switch {
		case errors.As(err, &away):
			w.away(ri, err)
		case err != nil: // nobody can look now
		case ri.phase == notify.Away || ri.missed:
			w.log.Info("root is back: it is swept", "root", ri.Name)
			t.mu.Lock()
			if ri.missed = false; ri.phase == notify.Away {
				ri.phase = notify.Live
			}
			t.mu.Unlock()
			for i := uint32(1); i < t.s.dirs.n; i++ {
				if d := t.s.dirs.at(i); d.node != 0 && t.s.rootOf(d.node) == ri.node {
					d.flags &^= dirWatched
				}
			}
			w.ask(true)
		}
	}
	// What was mounted, met and unmounted again since the last look leaves the table as it was.
	news, again := t.ms.takeNews()
	if news || t.mountsMoved() {
		w.mountsChanged()
	}
	w.remounted(again)
}

// swept says whether a root takes part in sweeps: it is there, and was told.
func (ri *rootInfo) swept() bool { return ri != nil && (ri.phase == notify.Live || ri.restored) }

// remounted has everything listed and watched anew on mounts that took the place of others: it may be the same file system, whose marks and
// watches ended with the mount, or another one. Its root alone may look as it did.
func (w *Watcher) remounted(again []uint32) {
	t := w.t
	again = slices.DeleteFunc(again, func(i uint32) bool {
		m := t.ms.at(i)
		return m == nil || !t.rootInfo(m.root).swept()
	})
	if len(again) == 0 {
		return
	}
	var recs []Record
	for i := uint32(1); i < t.s.dirs.n; i++ {
		if d := t.s.dirs.at(i); d.node != 0 && slices.Contains(again, d.mount) && d.flags&(dirAttached|dirOpaque) == dirAttached {
			recs = append(recs, Record{Dir: d.node, Op: OpLost})
			d.flags &^= dirWatched
		}
	}
	if len(recs) > sweepRemounted || w.sweepNext {
		w.ask(true)
		return
	}
	w.in.put(recs)
}

// sweepRemounted is from how many directories on they are left to a sweep, which lets others have their turn.
const sweepRemounted = 4096

// mountsMoved says whether a directory above a mount was renamed since the last call. What is on the mount has other IDs then, as it will after a restart.
func (t *tree) mountsMoved() bool {
	if !t.dirMoved {
		return false
	}
	t.dirMoved = false
	return slices.ContainsFunc(t.ms.list(), func(m *mount) bool {
		r := t.s.find(m.root, m.place)
		return r == 0 || t.s.isDir(r) && t.s.dir(r).mount != m.index
	})
}

// mountsChanged has every mount point below the roots looked at, the old ones, wherever they are by now, and the new.
func (w *Watcher) mountsChanged() {
	t := w.t
	var recs []Record
	for i := uint32(1); i < t.s.dirs.n; i++ {
		d := t.s.dirs.at(i)
		if d.node == 0 || d.flags&dirAttached == 0 {
			continue
		}
		if parent := t.s.node(d.node).parent; parent != 0 && t.s.dir(parent).mount != d.mount {
			recs = append(recs, Record{Dir: parent, Name: []byte(t.s.name(d.node))}) // nothing is said of it
		}
	}
	look := func(root ref, path string) {
		r, name := root, path
		if i := strings.LastIndexByte(path, '/'); i >= 0 {
			name = path[i+1:]
			r = t.s.find(root, path[:i])
		}
		if r != 0 && name != "" {
			recs = append(recs, Record{Dir: r, Name: []byte(name)})
		}
	}
	t.ms.reshow(func(root ref) string { return t.rootInfo(root).Dir })
	for _, m := range t.ms.list() { // files too
		look(m.root, m.place)
	}
	t.pruneMounts()
	for _, dir := range mountPoints() {
		for _, ri := range t.roots {
			if ri.node != 0 && dir != ri.Dir && inside(dir, ri.Dir) {
				look(ri.node, strings.TrimPrefix(strings.TrimPrefix(dir, ri.Dir), "/"))
			}
		}
	}
	w.in.put(recs)
}

// pruneMounts forgets what was mounted once, and what no directory lies on any more.
func (t *tree) pruneMounts() {
	mounted := make(map[uint64]bool)
	for _, l := range mountTable() {
		mounted[l.id] = true
	}
	used := make(map[uint32]bool)
	for i := uint32(1); i < t.s.dirs.n; i++ {
		if d := t.s.dirs.at(i); d.node != 0 {
			used[d.mount] = true
		}
	}
	t.ms.prune(func(m *mount) bool { return used[m.index] || m.num != 0 && mounted[m.id] })
}

// list gives all mounts.
func (ms *mounts) list() (all []*mount) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, m := range ms.all {
		if m != nil {
			all = append(all, m)
		}
	}
	return all
}

// mountPoints lists where this process sees something mounted.
func mountPoints() (dirs []string) {
	for _, m := range mountTable() {
		dirs = append(dirs, m.point)
	}
	return dirs
}

// mountLine is a mount as the kernel tells of it: the part of a file system that is seen at a point.
type mountLine struct {
	id               uint64
	dev, part, point string
	fsType           string // its name
}

// mountTable reads /proc/self/mountinfo; empty where there is none.
func mountTable() (lines []mountLine) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line) // id, parent, device, part, point, ...
		if len(f) < 5 {
			continue
		}
		if id, err := strconv.ParseUint(f[0], 10, 64); err == nil {
			l := mountLine{id: id, dev: f[2], part: unescapeMount(f[3]), point: unescapeMount(f[4])}
			if i := slices.Index(f, "-"); i > 0 && i+1 < len(f) { // behind the optional fields
				l.fsType = f[i+1]
			}
			lines = append(lines, l)
		}
	}
	return lines
}

// twice is why the content of a mount does not belong to the tree that has it by another mount.
const twice = "it is mounted a second time: the tree has it already"

// reshow lets the content of mounts belong to the tree that had it by others, which are gone. dir gives where a root is.
func (ms *mounts) reshow(dir func(root ref) string) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for i, m := range ms.all {
		if m == nil || m.opaque != twice {
			continue
		}
		if !ms.shown(m, dir(m.root)) {
			fresh := *m
			fresh.opaque = ""
			ms.all[i] = &fresh // others may be reading the old one
		}
	}
}

// directoriesLeft notes that directories are in the tree no more.
func (ms *mounts) directoriesLeft() {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.left = ms.left || slices.ContainsFunc(ms.all, func(m *mount) bool { return m != nil && m.opaque == twice })
}

// partsMoved reads the table again, since a rename changes which part of its file system a mount shows, and the kernel does not say that the table has
// changed. It is news where the content of such a mount belongs to the tree by another one. The caller holds the lock.
func (ms *mounts) partsMoved() {
	before := ms.table
	ms.read()
	for _, m := range ms.all {
		if m != nil && m.opaque == twice && ms.table[m.id].part != before[m.id].part {
			ms.news = true
		}
	}
}

// mountedBy are the mounts that there are, by their numbers.
type mountedBy map[uint64]mountLine

func mountedNow() mountedBy {
	table := make(mountedBy)
	for _, l := range mountTable() {
		table[l.id] = l
	}
	return table
}

// lines gives what is mounted now. It is read only if something has changed, which is news: with a thousand mounts that takes milliseconds. The
// caller holds the lock.
func (ms *mounts) lines() mountedBy {
	if ms.mounted.changed() {
		ms.news = true
		ms.read()
	}
	return ms.table
}

// read reads the table, and what is far in it, unless it cannot be read now. The caller holds the lock.
func (ms *mounts) read() {
	table := mountedNow()
	if len(table) == 0 {
		return
	}
	ms.table = table
	var known []*far
	if was := ms.fars.Load(); was != nil {
		known = *was
	}
	fars := farsOf(table, known)
	ms.fars.Store(&fars)
}

// shown says whether what is mounted at m is in the tree of its root, which begins at dir, by way of another mount, or holds
// a part of that. A mount that shows it just where m is does not: m covers it. The caller holds the lock.
func (ms *mounts) shown(m *mount, dir string) bool {
	table := ms.lines()
	line, ok := table[m.id]
	for _, o := range ms.all {
		if !ok || o == nil || o.root != m.root || o.id == m.id || o.opaque != "" {
			continue
		}
		other, ok := table[o.id]
		if !ok || other.dev != line.dev {
			continue
		}
		if o.place == "" {
			other.part = join(other.part, strings.TrimPrefix(strings.TrimPrefix(dir, other.point), "/"))
		}
		below := inside(line.part, other.part)
		if below && join(o.place, strings.TrimPrefix(strings.TrimPrefix(line.part, other.part), "/")) == m.place {
			continue
		}
		if below || inside(other.part, line.part) {
			return true
		}
	}
	return false
}

// unescapeMount undoes the octal escapes of /proc/self/mountinfo.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
