package onedata

import (
	"cmp"
	"errors"
	"slices"
	"sort"
	"strings"

	"fs_notify/notify"
	"fs_notify/notify/feed"
)

// document is what may become one line: a record of an entry, as a change left it.
type document struct {
	seq     notify.Seq
	own     notify.Seq           // of a late one: the number that it has if none is left; 0: none
	note    *notify.Notification // whose path and attributes are the entry's
	record  record
	deleted bool
}

// space is a root as a client sees it.
type space struct {
	root  notify.FileID
	name  string // the root's, without slash in front
	path  string // the root's
	grant *notify.Grant
}

func newSpace(s notify.RootState, g *notify.Grant) space {
	return space{root: s.ID, name: strings.TrimPrefix(s.Name, "/"), path: strings.TrimSuffix(s.Name, "/"), grant: g}
}

// full is the path of an entry as it is served.
func (s *space) full(path string) string {
	if path == "" {
		return "/" + s.name
	}
	return s.path + "/" + path
}

// sees says whether an entry may be told of.
func (s *space) sees(path string) bool {
	return s.grant.Prefixes == nil || s.grant.Sees(s.full(path))
}

// writing makes documents of the notifications of a batch. What it makes is a function of the batch and of the grant, with one exception: which name a
// file has that has lost one of several, if the client may not see the one that the journal tells.
//
// What changes about one file without changing its name, and the change of name before it, write each document once, where the last of them does, if they follow each
// other. A document takes one of the indexes that its notification owns. Where it owns too few, the document comes late: it takes one that is left at the end of the batch, and
// tells the path that the entry has there, if it has one. So does what tells the end of a directory out of which something is being renamed, as far as any is left.
type writing struct {
	space *space
	// other finds an entry by its ID, as it is now.
	other func(id notify.FileID) (notify.Entry, error)

	err   error // of other: what the batch makes is not known
	docs  []document
	late  []document
	names []*notify.Notification // those of the batch that may take a name away from what comes late
	maybe [64]uint64             // bits of the file IDs that late may have something of
}

// make gives the documents of a batch of which hits are all notifications, in the order of their seqs. They are valid until the next call, and only if there is no err.
func (w *writing) make(hits []feed.Hit) []document {
	w.docs, w.late = w.docs[:0], w.late[:0]
	clear(w.maybe[:])
	for i := 0; i < len(hits); {
		j := i + 1
		for j < len(hits) && hits[j].Note.ID() == hits[i].Note.ID() && !notify.Names.Has(hits[j].Note.Type) {
			j++
		}
		w.run(hits, i, j)
		i = j
	}
	if len(w.late) == 0 {
		return w.docs
	}
	slices.SortStableFunc(w.late, func(a, b document) int { return cmp.Compare(a.rank(), b.rank()) })
	w.names = w.names[:0]
	for i := range hits {
		if n := hits[i].Note; leaving.Has(n.Type) {
			w.names = append(w.names, n)
		}
	}
	next := hits[len(hits)-1].Note.Seq
	end, tight := next.Batch().End(), false
	for _, d := range w.late {
		switch {
		case d.note == nil || !w.follow(&d, hits):
			continue
		case next < end:
			next++
			d.seq = next
		case d.own != 0:
			d.seq, tight = d.own, true
		default:
			continue
		}
		w.docs = append(w.docs, d)
	}
	if tight {
		slices.SortFunc(w.docs, func(a, b document) int { return cmp.Compare(a.seq, b.seq) })
	}
	return w.docs
}

// rank is in which order late documents take the numbers that are left: that something is gone is told by nothing else.
func (d *document) rank() int {
	switch {
	case d.deleted && d.record == fileMeta:
		return 0
	case d.deleted:
		return 1
	}
	return 2
}

// run takes the notifications i to j of hits, which are about one file. Only the first may change its name.
func (w *writing) run(hits []feed.Hit, i, j int) {
	var own, late [numRecords]document
	for ; i < j; i++ {
		n, r := w.rule(hits, i)
		if r == nil {
			continue
		}
		width := hits[i].Note.Width()
		// What it still holds for who folds the lines must not go with it.
		wait := r.deleted && n.Attr.IsDir() && inTransit(hits, i)
		for k, rec := range r.records {
			if !has(n, rec) {
				continue
			}
			d := document{note: n, record: rec, deleted: r.deleted}
			if r.deleted && n != hits[i].Note {
				d.deleted = false // another name of the file is left
				if rec != fileMeta && rec != times {
					continue
				}
			}
			if k < width {
				d.seq = hits[i].Note.Seq - notify.Seq(width-1-k)
			}
			switch o := &own[rec]; {
			case wait:
				d.own = d.seq
				late[rec] = d
			case k < width:
				*o, late[rec].note = d, nil
			case o.note == nil || o.note.Attr.Ctime != n.Attr.Ctime:
				late[rec] = d
			}
		}
	}
	begin := len(w.docs)
	for rec := range own {
		d := own[rec]
		if d.note == nil {
			continue
		}
		w.drop(d.note.ID(), record(rec))
		w.docs = append(w.docs, d)
		for k := len(w.docs) - 1; k > begin && w.docs[k].seq < w.docs[k-1].seq; k-- {
			w.docs[k], w.docs[k-1] = w.docs[k-1], w.docs[k]
		}
	}
	for rec := range late {
		if d := late[rec]; d.note != nil {
			id := d.note.ID()
			w.drop(id, record(rec))
			w.late = append(w.late, d)
			w.maybe[id>>6&63] |= 1 << (id & 63)
		}
	}
}

// drop forgets a late document that another one supersedes.
func (w *writing) drop(id notify.FileID, r record) {
	if w.maybe[id>>6&63]&(1<<(id&63)) == 0 {
		return
	}
	for i := range w.late {
		if d := &w.late[i]; d.record == r && d.note != nil && d.note.ID() == id {
			d.note = nil
		}
	}
}

// leaving are the types that tell that a name goes, or which one stays.
var leaving = notify.SetOf(notify.ChildFileMovedFrom, notify.ChildDirMovedFrom, notify.ChildFileRemoved, notify.ChildDirRemoved, notify.ChildLinkStays)

// follow takes a late document to where its entry is at the end of the batch. false: it is nowhere then that may be told.
func (w *writing) follow(d *document, hits []feed.Hit) bool {
	if d.deleted {
		return true
	}
	until := d.note.Seq // what comes up to here is in its path
	for _, n := range w.names[sort.Search(len(w.names), func(i int) bool { return w.names[i].Seq > until }):] {
		k := d.note.Below(n.ID())
		if n.Seq <= until || k < 0 {
			continue
		}
		to, rest := n, d.note.PathFrom(k)
		switch {
		case n.Type == notify.ChildLinkStays:
			if !w.space.sees(n.Path) {
				continue
			}
		case rest == "" && n.Path != d.note.Path:
			continue // another one of its names
		default:
			if to = noteAt(hits, n.Link); to == nil {
				return false
			}
			until = to.Seq
		}
		moved := &notify.Notification{Seq: d.note.Seq, Type: d.note.Type, Path: to.Path, Spine: to.Spine, Attr: d.note.Attr}
		if rest != "" {
			moved.Path += "/" + rest
			moved.Spine = append(slices.Clone(to.Spine), d.note.Spine[k+1:]...)
		}
		if d.note = moved; !w.space.sees(moved.Path) {
			return false
		}
	}
	return true
}

// rule says what hit i writes, and what its documents say of the entry. nil: nothing of it may be told.
func (w *writing) rule(hits []feed.Hit, i int) (*notify.Notification, *rule) {
	n := hits[i].Note
	typ, h := n.Type, alone
	visible := w.space.sees(n.Path)
	if n.Link != 0 {
		if p := noteAt(hits, n.Link); p != nil && w.space.sees(p.Path) {
			if !visible {
				return nil, nil
			}
			h = paired
			if typ == notify.ChildFileMovedFrom || typ == notify.ChildDirMovedFrom {
				n = p // the entry is where its other half says
			}
		}
	}
	if !visible {
		return nil, nil
	}
	if typ == notify.ChildLinkStays && i+1 < len(hits) && hits[i+1].Note.StaysAt(n) {
		return nil, nil // what follows tells it
	}
	if h == alone && i > 0 && n.StaysAt(hits[i-1].Note) {
		if to := hits[i-1].Note; w.space.sees(to.Path) {
			n = &notify.Notification{Seq: n.Seq, Type: typ, Path: to.Path, Spine: to.Spine, Attr: to.Attr}
		} else {
			n = w.left(n)
		}
	} else if h == alone && typ == notify.ChildFileMovedFrom && n.Link != 0 && n.Attr.Nlink > 1 {
		n = w.left(n) // it is renamed out of sight, alone of its names
	}
	return n, ruleFor(typ, h)
}

// left gives what n tells of a file, under a name that it has now and that may be seen; n itself if there is none.
func (w *writing) left(n *notify.Notification) *notify.Notification {
	e, err := w.other(n.ID())
	switch {
	case err != nil && !errors.Is(err, notify.NotFound):
		w.err = err
	case err == nil && e.Root == w.space.root && w.space.sees(e.Path):
		return &notify.Notification{Seq: n.Seq, Type: n.Type, Path: e.Path, Spine: e.Spine, Attr: e.Attr}
	}
	return n
}

// inTransit says whether something that was below the directory of hit i is being renamed: its old name is told, and its new one is still
// to come. That is so in a cycle of names.
func inTransit(hits []feed.Hit, i int) bool {
	n := hits[i].Note
	if i == 0 || !hits[i-1].Glued {
		return false
	}
	for k := i - 1; k >= 0 && hits[k].Glued; k-- {
		if m := hits[k].Note; m.Link > n.Seq && m.Below(n.ID()) >= 0 {
			return true
		}
	}
	return false
}

// noteAt finds the notification of a Seq.
func noteAt(hits []feed.Hit, seq notify.Seq) *notify.Notification {
	i := sort.Search(len(hits), func(i int) bool { return hits[i].Note.Seq >= seq })
	if i < len(hits) && hits[i].Note.Seq == seq {
		return hits[i].Note
	}
	return nil
}

// has says whether there is such a document of an entry.
func has(n *notify.Notification, r record) bool {
	switch r {
	case fileLocation:
		return located(&n.Attr)
	case customMetadata:
		// An attribute that changed may have been the last one: its document is there.
		return !notify.Names.Has(n.Type) || hasXattrs(&n.Attr)
	}
	return true
}

// located says whether the entry has a place where its data is.
func located(a *notify.Attr) bool { return !a.IsDir() && a.Mode&notify.ModeMask != notify.ModeLink }

// hasXattrs says whether there may be extended attributes that are told.
func hasXattrs(a *notify.Attr) bool {
	x := a.X
	return x != nil && (x.Other != 0 || x.DOS != 0 || x.DOSBtime != 0 || len(x.Streams) > 0)
}
