package watch

import (
	"context"
	"time"

	"fs_notify/notify"
)

// digests is the reading of the extended attributes that a first scan has passed over. It goes on between the passes, a few names at a
// time, from node to node. Until it has come to an entry, what is told of a change there is less exact: see onlyXattrs.
type digests struct {
	next  ref // node; 0: nothing is to be read
	due   time.Time
	again bool // this is not the first round
	some  bool // something was read in this round
	left  bool // and something could not be
	notes map[notify.FileID]readX
}

// readX is extended attributes as they were when an entry was told with this stamp.
type readX struct {
	stamp uint64
	x     *notify.Xattrs
}

const (
	digestFirst = 4096        // nodes that a first scan waits for: of small trees nothing is unread
	digestNames = 256         // in one step: about a millisecond
	digestNodes = 1 << 16     // that one step passes over
	digestRound = time.Second // until those are tried again that could not be read
)

// note keeps what was read for those who remember the tree without it.
func (g *digests) note(n *node, x *notify.Xattrs) {
	if x == nil {
		return
	}
	if g.notes == nil {
		g.notes = make(map[notify.FileID]readX)
	}
	g.notes[n.id] = readX{n.stamp, x}
}

// of completes what is remembered of an entry. What is told of a directory's times alone has no inode number.
func (g *digests) of(id notify.FileID, a *notify.Attr) bool {
	r, ok := g.notes[id]
	if !ok || a.X != nil || a.Ctime != 0 && (a.Ino != 0 || !a.IsDir()) && stampOf(a) != r.stamp {
		return false
	}
	a.X = r.x
	return true
}

func (g *digests) begin(now time.Time) {
	g.next, g.due, g.again, g.some, g.left = 1, now, false, false, false
}

// digest reads the extended attributes of an entry. If its change time is still the one that was told, they are those that it had then.
func (t *tree) digest(at lookAt, r ref) look {
	n := t.s.node(r)
	name := t.s.names.view(n.name)
	var k look
	x, err := at.l.xattrs(at.fd, name, nothingTold)
	if err == nil {
		_, _, err = at.l.stat(at.fd, name, &k.attr)
	}
	k.err, k.same = err, err == nil && n.untouched(stampOf(&k.attr), &k.attr)
	if g := at.m.grain(&k.attr); g > 0 && t.now().Sub(time.Unix(0, k.attr.Ctime)) < g {
		k.same = false // it may be changed once more without a trace
	}
	k.attr.X = x
	return k
}

// beginDigests has everything read that is unread. Where that is little, it is done at the end.
func (w *Watcher) beginDigests(ctx context.Context) {
	g := &w.t.digests
	g.begin(w.t.now())
	for g.next != 0 && g.next < digestFirst && !g.again && ctx.Err() == nil {
		w.digestStep(ctx)
	}
}

// digestStep reads the next few, and then rests for as long as that took.
func (w *Watcher) digestStep(ctx context.Context) {
	t, g := w.t, &w.t.digests
	start := t.now()
	roots := t.newRoots()
	defer roots.close()
	var jobs []*job
	names := 0
	for end := g.next + digestNodes; uint32(g.next) < t.s.nodes.n && g.next < end && names < digestNames; g.next++ {
		n := t.s.node(g.next)
		if n.x != unread || n.parent == 0 {
			continue
		}
		if len(jobs) == 0 || jobs[len(jobs)-1].dir != n.parent {
			jobs = append(jobs, &job{dir: n.parent})
		}
		j := jobs[len(jobs)-1]
		j.known = append(j.known, g.next)
		names++
	}
	for _, j := range jobs {
		t.perform(t.lookers[0], j, roots)
	}
	changed := newDirt()
	t.mu.Lock()
	for _, j := range jobs {
		if j.err != nil || len(j.looks) == 0 {
			g.left = true
			continue
		}
		for i, r := range j.known {
			k, n := &j.looks[i], t.s.node(r)
			g.some = g.some || k.err == nil
			if !k.same { // there is a record of it; if there is none, it is looked at in the second round
				if g.left = true; g.again && k.err == nil {
					changed.touch(place{n.parent, t.s.name(r)}, 0)
				}
				continue
			}
			g.note(n, k.attr.X)
			t.s.setX(r, k.attr.X)
		}
	}
	t.mu.Unlock()
	if !changed.empty() {
		w.in.ask(func(d *dirt) { d.before(changed) })
	}
	now := t.now()
	g.due = now.Add(now.Sub(start))
	switch {
	case uint32(g.next) < t.s.nodes.n:
	case g.left && g.some:
		g.begin(now.Add(digestRound))
		g.again = true
	default:
		w.digested(ctx)
	}
}

// digested has those who remember the trees complete what they have.
func (w *Watcher) digested(ctx context.Context) {
	t := w.t
	g := t.digests
	if g.left { // they are tried again behind the next sweep, and are unread after a restart
		t.digests = digests{notes: g.notes}
		return
	}
	t.digests = digests{}
	w.log.Debug("extended attributes are read", "entries", t.s.live)
	told := w.out.seal()
	for _, ri := range t.roots {
		if !ri.bare {
			continue
		}
		ri.bare = false
		if w.cfg.Past == nil || w.cfg.OneLevel {
			continue
		}
		id, note := ri.id, noteOf(ri, t.ms.at(t.s.dir(ri.node).mount), false)
		w.amending.Go(func() {
			if _, err := told.await(ctx); err != nil {
				return
			}
			if err := w.cfg.Past.AmendTree(ctx, id, note, g.of); err != nil && ctx.Err() == nil {
				w.log.Warn("extended attributes could not be stored with the tree: they are read again at the next start", "root", ri.Name, "err", err)
			}
		})
	}
}
