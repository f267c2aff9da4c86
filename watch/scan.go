package watch

import (
	"context"
	"errors"
	"slices"
	"time"

	"fs_notify/notify"
)

// scan reads a root for the first time: nothing is told.
func (w *Watcher) scan(ctx context.Context, ri *rootInfo) error {
	t, l := w.t, w.t.lookers[0]
	start := time.Now()
	fd, err := openRoot(ri.Dir)
	if err != nil {
		return err
	}
	var a notify.Attr
	mnt, _, err := l.stat(fd, "", &a)
	if err != nil {
		closeFD(fd)
		return err
	}
	t.mu.Lock()
	r := t.s.alloc(0, "", 0, true)
	ri.node = r
	t.mu.Unlock()
	m := t.ms.find(r, ri.Name, "", mnt, func(m *mount) { l.probe(fd, "", m) })
	id, err := l.identify(&t.ms, m, fd, "", &a)
	closeFD(fd)
	if err != nil {
		t.mu.Lock()
		ri.node = 0
		t.s.release(r)
		t.s.recycle()
		t.mu.Unlock()
		return err
	}
	w.log.Info("root found", "root", ri.Name, "ids", m.kind.String(), "source", w.cfg.Source.Name())
	t.mu.Lock()
	ri.id = id
	t.s.node(r).id = id
	t.s.dir(r).mount = m.index
	t.s.attach(r, 0, "")
	t.s.set(r, &a)
	t.mu.Unlock()
	if w.restore(ctx, ri, m) {
		return nil
	}
	rec := w.record(ctx, ri, m)
	guess := entriesOn(ri.Dir)
	late := newDirt()
	frontier := []*job{{dir: r, list: true, watch: true, fresh: true}}
	for len(frontier) > 0 {
		if ctx.Err() != nil {
			rec.finish()
			return ctx.Err()
		}
		n := min(len(frontier), 256)
		jobs := slices.Clone(frontier[len(frontier)-n:])
		frontier = frontier[:len(frontier)-n]
		t.run(jobs)
		var told []pastItem
		t.mu.Lock()
		for _, j := range jobs {
			frontier = t.plant(j, frontier, late, rec != nil, &told)
			ri.indexed += int64(len(j.looks))
			j.looks = nil
		}
		ri.guess = min(float64(ri.indexed)/float64(max(guess, ri.indexed+1)), 0.99)
		t.mu.Unlock()
		rec.add(told)
	}
	w.in.ask(func(d *dirt) { d.before(late) })
	if err := rec.finish(); err != nil {
		w.log.Error("the tree could not be stored: a restart will begin anew", "root", ri.Name, "err", err)
	}
	t.mu.Lock()
	ri.phase = notify.Live
	t.mu.Unlock()
	w.log.Info("root indexed", "root", ri.Name, "entries", ri.indexed, "took", time.Since(start).Round(time.Millisecond).String())
	return nil
}

// plant puts what a job of the first scan found into the tree, and adds the directories among it to what is to be listed. What
// moved meanwhile is late: it is looked at again when all are watched, as the record of a move to where nobody watched
// yet does not tell that place.
func (t *tree) plant(j *job, more []*job, late *dirt, record bool, told *[]pastItem) []*job {
	d := t.s.dir(j.dir)
	switch {
	case errors.Is(j.err, errElsewhere): // it is neither watched nor listed
		late.list(j.dir)
	case j.err == nil && t.changedSinceTold(j): // before its watch was in force
		late.touch(place{t.s.node(j.dir).parent, t.s.name(j.dir)}, 0)
	}
	if j.watch && j.err == nil {
		switch {
		case j.watchErr == nil:
			d.flags |= dirWatched
		case errors.Is(j.watchErr, ErrPolled):
			d.flags |= dirPolled
			t.hasUnwatched.Store(true)
		default:
			t.degrade(j.dir, j.watchErr)
		}
	}
	if j.err != nil && !errors.Is(j.err, errElsewhere) {
		t.degrade(j.dir, j.err)
	}
	t.s.node(j.dir).mtime = max(t.s.node(j.dir).mtime, j.self.Mtime)
	for i := range j.looks {
		k := &j.looks[i]
		if k.err != nil {
			continue // gone again: its record is in the queue
		}
		if other := t.s.byID(k.id); other != 0 {
			n := t.s.node(other)
			if k.attr.IsDir() || k.attr.Nlink == 1 || n.dir != 0 {
				late.touch(place{j.dir, k.name}, 0) // found a second time, and it has one name only
				continue
			}
			if n.stamp != stampOf(&k.attr) { // it changed between the looks at its names
				late.touch(place{n.parent, t.s.name(other)}, 0)
				late.touch(place{j.dir, k.name}, 0)
			}
		}
		r := t.s.alloc(j.dir, k.name, k.id, k.attr.IsDir())
		t.s.attach(r, j.dir, k.name)
		t.s.set(r, &k.attr)
		if record {
			*told = append(*told, pastItem{t.s.node(j.dir).id, k.name, k.id, k.attr})
		}
		if !k.attr.IsDir() {
			continue
		}
		nd := t.s.dir(r)
		nd.mount = k.mount.index
		if k.mount.opaque != "" || t.oneLvl {
			t.shut(r, k.mount)
			continue
		}
		more = append(more, &job{dir: r, list: true, watch: true, fresh: true})
	}
	return more
}
