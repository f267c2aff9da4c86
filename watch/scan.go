package watch

import (
	"context"
	"errors"
	"sync"
	"time"

	"fs_notify/notify"
)

// scan reads a root for the first time: nothing is told.
func (w *Watcher) scan(ctx context.Context, ri *rootInfo) error {
	t, l := w.t, w.t.lookers[0]
	start := time.Now()
	t.ms.refresh()
	back := l.to(t.ms.far(ri.Dir, ""))
	defer back()
	fd, err := ask(l, func(*looker) (dirFD, error) { return openRoot(ri.Dir) }, closeFD)
	if err != nil {
		w.notThere(ri, err)
		return err
	}
	var a notify.Attr
	mnt, _, err := l.stat(fd, "", &a)
	if err != nil {
		closeFD(fd)
		w.notThere(ri, err)
		return err
	}
	t.mu.Lock()
	r := t.s.alloc(0, "", 0, true)
	ri.node = r
	t.mu.Unlock()
	m, err := t.ms.find(r, ri.Name, "", mnt, func(m *mount) error { return l.probe(fd, "", m) })
	var id notify.FileID
	if err == nil {
		id, err = l.identify(&t.ms, m, fd, "", &a)
	}
	closeFD(fd)
	if err != nil {
		t.mu.Lock()
		ri.node = 0
		t.s.release(r)
		t.s.recycle()
		t.mu.Unlock()
		t.ms.prune(func(m *mount) bool { return m.root != r }) // another one gets the ref
		w.notThere(ri, err)
		return err
	}
	back()
	w.log.Info("root found", "root", ri.Name, "ids", m.kind.String())
	t.mu.Lock()
	ri.phase = notify.Indexing // it may have been away
	ri.id = id
	t.s.node(r).id = id
	t.s.dir(r).mount = m.index
	t.s.attach(r, 0, "")
	t.s.set(r, &a)
	t.mu.Unlock()
	if w.restore(ctx, ri, m) {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err // what is remembered stays
	}
	ri.bare = true
	rec := w.record(ctx, ri, m)
	late := newDirt()
	if err := w.scanBelow(ctx, ri, rec, late); err != nil {
		rec.finish()
		return err
	}
	w.in.ask(func(d *dirt) { d.before(late) })
	if err := rec.finish(); err != nil {
		w.log.Error("the tree could not be stored: a restart will begin anew", "root", ri.Name, "err", err)
	}
	w.beginDigests(ctx)
	t.mu.Lock()
	ri.phase = notify.Live
	t.mu.Unlock()
	w.log.Info("root indexed", "root", ri.Name, "entries", ri.indexed, "took", time.Since(start).Round(time.Millisecond).String())
	return nil
}

// entriesOn guesses how many entries a root may have.
func (t *tree) entriesOn(ri *rootInfo) int64 {
	l := t.lookers[0]
	defer l.to(t.ms.far(ri.Dir, ""))()
	n, _ := ask(l, func(*looker) (int64, error) { return entriesOn(ri.Dir), nil }, nil)
	return n
}

const (
	scanAhead = 64   // directories of a first scan that are given out to be listed, or wait to be put into the tree
	scanPiece = 8192 // entries of one that are handed over before the next ones are looked at
)

// found is what a worker of the first scan has found in a directory, or a piece of it: then there is more.
type found struct {
	j     *job
	looks []look
	more  bool
}

// scanBelow lists everything below a root. Two workers look at the disk; what they found goes into the tree meanwhile.
func (w *Watcher) scanBelow(ctx context.Context, ri *rootInfo, rec *recorder, late *dirt) error {
	t := w.t
	guess := t.entriesOn(ri)
	roots := t.newRoots()
	defer roots.close()
	roots.open(t.lookers[0], ri.node) // the workers must not ask the tree; an error they find there
	todo, done := make(chan *job, scanAhead), make(chan found, scanAhead)
	var pieces sync.Mutex // held by who hands over pieces: of one directory after the other
	give := func(f found) {
		select {
		case done <- f:
		case <-ctx.Done():
		}
	}
	var workers sync.WaitGroup
	defer workers.Wait()
	defer close(todo)
	for _, l := range t.lookers {
		workers.Go(func() {
			for j := range todo {
				large := false
				j.hand = func(looks []look) {
					if !large {
						large = true
						pieces.Lock()
					}
					give(found{j, looks, true})
				}
				t.perform(l, j, roots)
				give(found{j: j, looks: j.looks})
				if large {
					pieces.Unlock()
				}
			}
		})
	}
	frontier := []ref{ri.node}
	take := func(f found) {
		var told []pastItem
		t.mu.Lock()
		if !f.more {
			t.listed(f.j, late)
		}
		frontier = t.plant(f.j.dir, f.looks, frontier, late, rec != nil, &told)
		ri.indexed += int64(len(f.looks))
		ri.guess = min(float64(ri.indexed)/float64(max(guess, ri.indexed+1)), 0.99)
		t.mu.Unlock()
		rec.add(told)
	}
	var large *job   // of which more is to come
	var held []found // meanwhile: who stores the scan wants each directory in one
	for out := 0; out > 0 || len(frontier) > 0; {
		for ; out < scanAhead && len(frontier) > 0; out++ {
			r := frontier[len(frontier)-1]
			frontier = frontier[:len(frontier)-1]
			todo <- &job{dir: r, site: t.siteOf(r), list: true, watch: true, fresh: true, bare: true}
		}
		var f found
		select {
		case f = <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if large != nil && f.j != large {
			held = append(held, f)
			continue
		}
		take(f)
		if large = f.j; f.more {
			continue
		}
		large = nil
		for _, f := range held {
			take(f)
		}
		out -= 1 + len(held)
		held = held[:0]
	}
	return nil
}

// listed notes how a directory of the first scan was watched and listed. What moved meanwhile is late: it is looked at again when all are
// watched, as the record of a move to where nobody watched yet does not tell that place.
func (t *tree) listed(j *job, late *dirt) {
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
			t.polls()
		default:
			t.degrade(j.dir, j.watchErr)
		}
	}
	if j.err != nil && !errors.Is(j.err, errElsewhere) {
		t.degrade(j.dir, j.err)
	}
	t.hears(j)
	t.s.node(j.dir).mtime = max(t.s.node(j.dir).mtime, j.self.Mtime)
}

// plant puts what was found in a directory by the first scan into the tree, and adds the directories among it to what is to be listed.
func (t *tree) plant(dir ref, looks []look, more []ref, late *dirt, record bool, told *[]pastItem) []ref {
	for i := range looks {
		k := &looks[i]
		if k.failed() {
			t.degrade(dir, k.err)
		}
		if k.err != nil {
			continue // gone again: its record is in the queue
		}
		if t.s.child(dir, k.name) != 0 { // made anew during the listing, which had it and has it again: which of them it is now, a look tells
			late.touch(place{dir, k.name}, 0)
			continue
		}
		if other := t.s.byID(k.id); other != 0 {
			n := t.s.node(other)
			if k.attr.IsDir() || k.attr.Nlink == 1 || n.dir != 0 {
				late.touch(place{dir, k.name}, 0) // found a second time, and it has one name only
				continue
			}
			if n.differs(&k.attr) { // it changed between the looks at its names
				late.touch(place{n.parent, t.s.name(other)}, 0)
				late.touch(place{dir, k.name}, 0)
			}
		}
		r := t.s.alloc(dir, k.name, k.id, k.attr.IsDir())
		t.s.attach(r, dir, k.name)
		if t.s.set(r, &k.attr); k.bare {
			t.s.leaveX(r)
		}
		if record {
			*told = append(*told, pastItem{t.s.node(dir).id, k.name, k.id, k.attr})
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
		more = append(more, r)
	}
	return more
}
