package box

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/feed"
)

// tail follows the journal for all readers together, whenever one of them asks. It knows
//
//   - of each item that changed lately, its last Seq: its sequence_id where it is looked at by itself;
//   - which files are being written: a page ends before the first of those, for a while;
//   - for which groups of long polls there is news.
//
// It never waits for the journal's disk but once, when it begins, and after nobody has asked for longer than memory reaches back.
type tail struct {
	api *API

	mu    sync.Mutex
	pos   notify.Seq // all up to here was looked at; 0: it has not begun
	roots map[notify.FileID]notify.RootState

	// The last Seq of an item, in two generations. What is in neither was changed at floor at the latest.
	young, old map[notify.FileID]notify.Seq
	middle     notify.Seq // old ends, and young begins
	floor      notify.Seq

	writing map[notify.FileID]*writing
	queue   []*writing // those that a page may have to wait for, by since
	let     []*writing // those that pages have waited long enough for, in that order
	groups  map[groupKey]*group

	// The directories that came from elsewhere a short while ago, with what is in them, and their ctime then; newest is when the last one was told.
	came   map[notify.FileID]int64
	newest time.Time
}

// writing is a file that was created or written to, and not closed since.
type writing struct {
	id     notify.FileID
	from   notify.Seq // the position before the batch in which it began
	since  time.Time
	last   time.Time  // it was written to
	loud   notify.Seq // the end of the batch that told of it first, or first after it had rested: that is news to all who have not seen it
	closed bool
	let    bool // pages have waited long enough for it
}

const (
	itemsRemembered = 1 << 16 // in a generation
	maxWriting      = 1 << 16 // files: pages do not wait for more
	maxLet          = maxWriting / 2
	maxCame         = 1 << 12
	warmUp          = 256 // batches that are looked back at
	// quiet is how long a long poll sleeps over nothing but more data in a file that is still open. One that has not changed for so long has rested: many a file
	// has been written to by its path, or came as it is, and will never be closed.
	quiet = 10 * time.Second
)

func (t *tail) init(a *API) {
	t.api = a
	t.young, t.writing, t.groups = map[notify.FileID]notify.Seq{}, map[notify.FileID]*writing{}, map[groupKey]*group{}
	t.came = map[notify.FileID]int64{}
}

// advance looks at what the journal has got and gives the position up to which pages go now. The caller holds t.mu.
func (t *tail) advance(ctx context.Context) (visible notify.Seq, err error) {
	now := time.Now()
	if t.pos == 0 {
		if err := t.begin(ctx, now); err != nil {
			return 0, err
		}
	}
	batches, err := t.api.Feed.Memory(t.pos)
	if errors.Is(err, feed.ErrBehind) || errors.Is(err, notify.Gone) {
		for _, g := range t.groups {
			g.news = 1 // what was missed may be news to all
		}
		if err := t.begin(ctx, now); err != nil {
			return 0, err
		}
		batches, err = t.api.Feed.Memory(t.pos)
	}
	if err != nil {
		return 0, err
	}
	t.take(batches, now)
	return t.visible(now), nil
}

// begin looks back a little: far enough to know what changed last.
func (t *tail) begin(ctx context.Context, now time.Time) error {
	head := t.api.Feed.Head()
	batches, err := t.api.Feed.Log().PageBack(ctx, 0, head.Batch(), warmUp)
	if err != nil {
		return err
	}
	slices.Reverse(batches)
	t.pos = head
	if len(batches) > 0 {
		t.pos = batches[0].Prev.End()
	}
	clear(t.young)
	clear(t.writing)
	clear(t.came)
	t.old, t.queue, t.let, t.floor, t.middle = nil, nil, nil, t.pos, t.pos
	t.take(batches, now)
	return nil
}

func (t *tail) take(batches []*notify.Batch, now time.Time) {
	if len(batches) == 0 {
		return
	}
	t.roots = map[notify.FileID]notify.RootState{}
	for _, s := range t.api.Files.Roots() {
		t.roots[s.ID] = s
	}
	for _, b := range batches {
		t.look(b, now)
		t.pos = b.Number.End()
		if len(t.young) >= itemsRemembered {
			t.floor, t.middle = t.middle, t.pos
			t.old, t.young = t.young, map[notify.FileID]notify.Seq{}
		}
	}
}

// all sees everything: what an item's last Seq is does not depend on who asks.
var all = &sight{grant: notify.Everything}

// look takes one batch in.
func (t *tail) look(b *notify.Batch, now time.Time) {
	closes := t.roots[b.Root].Closes && t.api.Hold > 0
	r := &root{}
	ended := false // a file that was written for a while was closed
	at := b.Number.Time()
	if at.After(now) {
		at = now // a clock that was set
	}
	if at.Sub(t.newest) >= quiet {
		clear(t.came)
	}
	b = b.ByID()
	for i := range b.Notes {
		n := &b.Notes[i]
		if len(n.Spine) == 0 {
			continue
		}
		act := classify(all, r, b, n)
		if act != nothing {
			t.young[n.ID()] = n.Seq
		}
		if !closes {
			continue
		}
		w := t.writing[n.ID()]
		switch {
		case w != nil && write.takes(act):
			if at.Sub(w.last) >= quiet {
				w.loud = b.Number.End()
			}
			if act == write {
				w.last = at
			}
		case act == write && n.Attr.IsRegular(), n.Type == notify.ChildFileAdded && n.Attr.IsRegular() && n.Attr.Nlink < 2:
			if w == nil && len(t.writing) < maxWriting && t.fresh(n, at) {
				w := &writing{id: n.ID(), from: b.Prev.End(), since: at, last: at, loud: b.Number.End()}
				if since := now.Add(-t.api.Hold); w.since.Before(since) {
					w.since, w.let = now, true
				}
				t.writing[n.ID()] = w
				t.queue = append(t.queue, w)
			}
		case n.Type == notify.ChildDirMovedTo && n.Link == 0 && n.Attr.Ctime > n.Attr.Mtime: // the move was the last that happened to it
			if len(t.came) >= maxCame {
				clear(t.came)
			}
			t.came[n.ID()], t.newest = n.Attr.Ctime, at
		case n.Type == notify.ChildFileClosed, n.Type == notify.ChildFileRemoved, n.Type == notify.ChildFileMovedFrom && n.Link == 0:
			if w != nil {
				w.closed = true
				delete(t.writing, n.ID())
				ended = ended || w.let
			}
		}
	}
	for _, g := range t.groups {
		t.tell(g, b, ended, now)
	}
}

// fresh says whether a file that is told at this time may be open for writing, as far as its ctime says: it has changed a short while ago, and since a directory
// came from elsewhere that it is in. Whoever has another one open will write to it, and that is told then.
func (t *tail) fresh(n *notify.Notification, at time.Time) bool {
	c := n.Attr.Ctime
	if c == 0 { // it was not looked at
		return true
	}
	if at.Sub(time.Unix(0, c)) >= quiet {
		return false
	}
	for _, id := range n.Spine[:len(n.Spine)-1] {
		if came, ok := t.came[id]; ok && c <= came {
			return false
		}
	}
	return true
}

// letGo has pages wait no longer for a file. Of those the newest are remembered until they are closed: the close of many is never seen, and they must leave room.
func (t *tail) letGo(w *writing) {
	w.let = true
	if w.closed {
		return
	}
	if t.let = append(t.let, w); len(t.let) > maxLet {
		if o := t.let[0]; !o.closed {
			delete(t.writing, o.id)
		}
		t.let[0] = nil
		t.let = t.let[1:]
	}
}

// visible is where pages end: at the head, or before the first file that is being written and may soon be closed.
func (t *tail) visible(now time.Time) notify.Seq {
	for len(t.queue) > 0 {
		w := t.queue[0]
		if !w.closed && !w.let && now.Sub(w.since) < t.api.Hold {
			return w.from
		}
		t.letGo(w)
		t.queue[0] = nil
		t.queue = t.queue[1:]
	}
	t.queue = nil
	return t.pos
}

// seqOf is the last Seq of an item. The caller holds t.mu.
func (t *tail) seqOf(id notify.FileID) notify.Seq {
	if s, ok := t.young[id]; ok {
		return s
	}
	if s, ok := t.old[id]; ok {
		return s
	}
	return t.floor
}

// goal is the position up to which pages go now.
func (a *API) goal(ctx context.Context) (notify.Seq, error) {
	a.tail.mu.Lock()
	defer a.tail.mu.Unlock()
	return a.tail.advance(ctx)
}

// groupKey is all that decides whether something is news to a long poll.
type groupKey struct {
	stream   stream
	limited  bool
	prefixes string
}

func groupOf(st stream, s *sight) groupKey {
	return groupKey{st, s.grant.Prefixes != nil, strings.Join(s.grant.Prefixes, "\x00")}
}

// group is the long polls for which the same is news.
type group struct {
	key    groupKey
	sight  *sight
	polls  []*poll
	news   notify.Seq // the end of the first batch that is news to them; 0: none is
	murmur time.Time  // since when there has been more data in files that are still open; zero: there is none
}

// group gives the group of those who follow a stream with a sight. The caller holds t.mu.
func (t *tail) group(st stream, s *sight) *group {
	key := groupOf(st, s)
	g := t.groups[key]
	if g == nil {
		g = &group{key: key, sight: s}
		t.groups[key] = g
	}
	return g
}

// murmurs says whether a notification, to one who has seen all up to pos, is nothing but more data in a file that has been written to for long and is still open.
func (t *tail) murmurs(n *notify.Notification, act action, pos notify.Seq) bool {
	if !write.takes(act) { // its time moves with it
		return false
	}
	w := t.writing[n.ID()]
	return w != nil && w.let && pos >= w.loud
}

// tell looks whether a batch is news to a group.
func (t *tail) tell(g *group, b *notify.Batch, ended bool, now time.Time) {
	if g.news != 0 {
		return
	}
	r, ok := g.sight.roots[b.Root]
	if !ok {
		if _, known := t.roots[b.Root]; known || g.sight.unknown || b.Root == 0 {
			g.news = b.Number.End() // a root that came since, or a hole: the page will know
		}
		return
	}
	if ended && !g.murmur.IsZero() {
		g.news = b.Number.End()
		return
	}
	for i := range b.Notes {
		n := &b.Notes[i]
		if len(n.Spine) == 0 {
			continue
		}
		act := classify(g.sight, &r, b, n)
		if !act.tells(g.key.stream, n.Attr.IsDir()) {
			continue
		}
		if t.murmurs(n, act, b.Prev.End()) {
			if g.murmur.IsZero() {
				g.murmur = now
			}
			continue
		}
		g.news = b.Number.End()
		return
	}
}

// ready says whether the polls of a group are to be answered now.
func (g *group) ready(visible notify.Seq, now time.Time) bool {
	return g.news != 0 && g.news <= visible || !g.murmur.IsZero() && now.Sub(g.murmur) >= quiet
}
