package feed

import (
	"slices"
	"sort"

	"fs_notify/notify"
)

// View is what a subscription sees of a log. It is a comparable value: readers with the
// same View and the same encoding see the same bytes, so the two together are the key of a group.
type View struct {
	Root      notify.FileID // batches of other roots are passed over; 0: not known, look at all and let no root's end count
	Dir       notify.FileID // the directory that is watched
	Recursive bool          // everything below Dir, not only its entries
	Types     notify.TypeSet
	Scope     *Scope // what of that is seen; nil: all
}

// Hit is one notification as a view sees it.
type Hit struct {
	Note *notify.Notification
	At   int // place of the watched directory in Note.Spine
	// Glued: the next hit belongs to the same operation (a rename has two halves, an
	// exchange of names four), so the two must not be told apart.
	Glued bool
}

// Match appends to hits what v sees of the notifications of b whose Seq is above after. If the watched directory
// ended, end is true, the last hit is its self_removed, and what follows in the batch is not looked at.
//
// The rules:
//   - An entry is seen if the watched directory stands in its spine before the last place (recursive), or
//     directly before it, and its type is asked for.
//   - The removal of the directory itself, its moving out of the root, and the end of its root are told as self_removed, whatever
//     types are asked for. Its other changes belong to its parent's view. A move inside the root goes unnoticed: the view follows the ID.
//   - self_rescanned, if asked for, is seen as an entry is, and for the directory itself. An entry elsewhere may be about an
//     ancestor, which the spine cannot tell: it is told as if about the directory itself.
//   - Of all this, only what the Scope lets through. A move of the directory itself out of the Scope's prefixes ends it too. A half of a rename whose other half lies where the view does not look has no Link.
func (v View) Match(hits []Hit, b *notify.Batch, after notify.Seq) (_ []Hit, end bool) {
	if v.Root != 0 && b.Root != v.Root {
		return hits, false
	}
	m := matching{view: v, batch: b, window: v.Scope.window(b.Root), hits: hits, first: len(hits)}
	for i := unread(b, after); i < len(b.Notes) && !m.end; i++ {
		m.look(&b.Notes[i])
	}
	return m.done()
}

// MatchAt is Match for one who knows where to look: at gives, in order, the places in b.Notes of at least all that v
// sees and that ends it, as [Index] finds them. All of b counts.
func (v View) MatchAt(hits []Hit, b *notify.Batch, at []int32) (_ []Hit, end bool) {
	if v.Root != 0 && b.Root != v.Root {
		return hits, false
	}
	m := matching{view: v, batch: b, window: v.Scope.window(b.Root), hits: hits, first: len(hits)}
	for _, i := range at {
		if m.look(&b.Notes[i]); m.end {
			break
		}
	}
	return m.done()
}

// unread is the place of the first notification of b that a reader at after has not examined.
func unread(b *notify.Batch, after notify.Seq) int {
	if after.Batch() != b.Number {
		return 0
	}
	return sort.Search(len(b.Notes), func(i int) bool { return b.Notes[i].Seq > after })
}

// matching is what has been made of a batch so far.
type matching struct {
	view   View
	batch  *notify.Batch
	window *window // nil: all
	in     judged  // for window
	hits   []Hit
	first  int        // place of the batch's first hit
	open   notify.Seq // an operation that has begun lasts until here
	end    bool
}

func (m *matching) look(n *notify.Notification) {
	at, how := m.view.see(n, m.window, &m.in)
	if m.window != nil && m.window.leaves(m.batch, n) && n.ID() == m.view.Dir {
		how = ended
	}
	switch how {
	case unseen:
		return
	case ended:
		m.hits = append(m.hits, Hit{Note: m.view.self(notify.SelfRemoved, n, m.window)})
		m.end = true
	case aboutSelf:
		m.hits = append(m.hits, Hit{Note: m.view.self(notify.SelfRescanned, n, m.window)})
	case seen:
		if n.Link != 0 && !m.looksAt(m.batch.Partner(n)) {
			alone := *n
			alone.Link = 0
			n = &alone
		}
		m.hits = append(m.hits, Hit{Note: n, At: at})
	}
	if k := len(m.hits) - 2; k >= m.first && n.Seq > m.open { // what was open ends with a half that the view does not ask for
		m.hits[k].Glued = false
	}
	m.open = max(m.open, n.Link)
	m.hits[len(m.hits)-1].Glued = m.open > n.Seq
}

// looksAt says whether the view looks where the other half of a rename lies, whichever types it asks for.
func (m *matching) looksAt(other *notify.Notification) bool {
	if other == nil {
		return false
	}
	v := m.view
	v.Types = notify.AllTypes
	_, how := v.see(other, m.window, &m.in)
	return how == seen
}

func (m *matching) done() ([]Hit, bool) {
	if len(m.hits) > m.first {
		m.hits[len(m.hits)-1].Glued = false // its other half is not in this view
	}
	return m.hits, m.end
}

type sight uint8

const (
	unseen    sight = iota
	seen            // as it stands
	ended           // the watched directory is gone
	aboutSelf       // a self_rescanned that may concern the watched directory
)

// see says how v sees n through w, and where in the spine the watched directory stands.
func (v View) see(n *notify.Notification, w *window, in *judged) (at int, how sight) {
	if at, how = v.find(n); how == seen && w != nil && !w.shows(n, at, in) {
		return 0, unseen
	}
	return at, how
}

// find is see without a scope.
func (v View) find(n *notify.Notification) (at int, _ sight) {
	last := len(n.Spine) - 1
	if last < 0 {
		return 0, unseen
	}
	switch n.Type {
	case notify.SelfRemoved:
		if n.Spine[last] == v.Dir || last == 0 && v.Root != 0 {
			return 0, ended
		}
		return 0, unseen
	case notify.SelfRescanned:
		if !v.Types.Has(n.Type) {
			return 0, unseen
		}
		if at = n.Below(v.Dir); at < 0 {
			return 0, aboutSelf
		}
		if v.Recursive || at >= last-1 {
			return at, seen
		}
		return 0, unseen
	}
	if n.Spine[last] == v.Dir {
		if n.Type == notify.ChildDirRemoved || n.Type == notify.ChildDirMovedFrom && n.Link == 0 {
			return 0, ended
		}
		return 0, unseen
	}
	if !v.Types.Has(n.Type) {
		return 0, unseen
	}
	if !v.Recursive {
		if last > 0 && n.Spine[last-1] == v.Dir {
			return last - 1, seen
		}
		return 0, unseen
	}
	if at = slices.Index(n.Spine[:last], v.Dir); at >= 0 {
		return at, seen
	}
	return 0, unseen
}

// self makes the notification about the watched directory itself that n amounts to: path "", spine the directory alone.
func (v View) self(t notify.Type, n *notify.Notification, w *window) *notify.Notification {
	s := &notify.Notification{Seq: n.Seq, Type: t, Spine: notify.Spine{v.Dir}, Actor: n.Actor}
	if n.ID() == v.Dir && (w == nil || w.holds(n.Path)) {
		s.Attr = n.Attr
	} else {
		s.Attr.Mode = notify.ModeDir
	}
	return s
}
