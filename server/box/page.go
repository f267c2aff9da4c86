package box

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/feed"
)

const (
	// A page looks at so many batches and notifications at most: one whose filter leaves little over may be short. As long as it
	// has nothing it goes on for longer: some clients take an empty page for the end.
	batchesAPage = 1 << 13
	notesAPage   = 1 << 17
	emptyAPage   = 5 * time.Second
	hiddenAPage  = 1 << 13
)

// page is what one request gets.
type page struct {
	events []event
	next   notify.Seq
	full   bool // it ended for another reason than that there was nothing more
}

// serveEvents answers GET /2.0/events.
func (a *API) serveEvents(w http.ResponseWriter, r *http.Request) error {
	s, err := a.look(r.Context())
	if err != nil {
		return err
	}
	q, err := parseQuery(r.URL.Query())
	if err != nil {
		return err
	}
	admin := s.grant.Privileges.Has(notify.MayAdmin)
	if q.stream.enterprise() && !admin {
		return &notify.Error{Op: "box.events", Kind: notify.Forbidden, Err: errScope,
			Msg: "stream_type " + q.stream.String() + " is for tokens with the privilege \"admin\""}
	}
	if err := s.whole(); err != nil { // before a position is taken: nothing is missing behind it
		return err
	}
	goal, err := a.goal(r.Context())
	if err != nil {
		return err
	}
	pos, err := a.start(r, q)
	if err != nil {
		return err
	}
	var p page
	if p.next = pos; q.limit > 0 && q.pos.kind != fromNow {
		key := barrenKey{groupOf(q.stream, s), strings.Join(slices.Sorted(maps.Keys(q.types)), ","), pos}
		if p, err = a.page(r, q, s, a.barren.skip(key), goal); err != nil {
			return err
		}
		if len(p.events) == 0 && p.full {
			a.barren.add(key, p.next)
		}
	}
	b := make([]byte, 0, 256+1536*len(p.events))
	b = append(b, `{"chunk_size":`...)
	b = strconv.AppendInt(b, int64(len(p.events)), 10)
	b = append(b, `,"next_stream_position":`...)
	b = strconv.AppendUint(b, uint64(p.next), 10)
	b = append(b, `,"entries":[`...)
	for i := range p.events {
		if i > 0 {
			b = append(b, ',')
		}
		e := &p.events[i]
		r := s.roots[e.root]
		b = appendEvent(append(b, '\n'), e, &r, q.stream.enterprise(), admin)
	}
	return writeJSON(w, r, append(b, "]}\n"...))
}

// start turns what a client asked for into a position that the journal has.
func (a *API) start(r *http.Request, q query) (notify.Seq, error) {
	ctx := r.Context()
	bounds := a.Feed.Log().Bounds()
	pos := bounds.Oldest()
	switch q.pos.kind {
	case fromNow:
		return bounds.Newest(), nil
	case fromFuture:
		a.lost(r, 0, "a position that is newer than the journal")
		return bounds.Newest(), nil
	case fromSeq:
		var kept bool
		var err error
		pos, kept, err = a.Feed.Log().Contains(ctx, q.pos.seq)
		switch {
		case err != nil:
			return 0, err
		case kept:
		case pos > a.Feed.Head():
			a.lost(r, pos, "a position that is newer than the journal")
			return bounds.Newest(), nil
		default:
			a.lost(r, pos, "a position that is not, or no longer, in the journal")
			pos = a.Feed.Log().Bounds().Oldest()
		}
	}
	if !q.after.IsZero() {
		n, err := a.Feed.Log().SeekTime(ctx, q.after)
		if err != nil {
			return 0, err
		}
		pos = max(pos, n.End())
	}
	return pos, nil
}

// lost is called where a reader goes on behind a gap, which the protocol has no words for.
func (a *API) lost(r *http.Request, pos notify.Seq, why string) {
	a.Log.Warn("a client of Box's protocol may have missed events", "why", why, "position", pos, "client", r.RemoteAddr, "token", notify.GrantOf(r.Context()).Name)
	a.Lost()
}

// page collects the events between a position and goal, at most q.limit of them.
func (a *API) page(r *http.Request, q query, s *sight, pos, goal notify.Seq) (page, error) {
	p, err := a.collect(r, q, s, pos, goal)
	if err != nil || !p.full || !q.stream.enterprise() {
		return p, err
	}
	// A file whose close may lie just behind this page is better told in the next one, if that leaves enough for this one.
	for i := range p.events {
		if p.events[i].open && i > 0 {
			if i >= len(p.events)/2 {
				return a.collect(r, q, s, pos, p.events[i].before)
			}
			break
		}
	}
	return p, err
}

// barren remembers stretches of the journal in which a page found nothing. The enterprise stream of the SDK for Node 3 asks again from the
// same position after an empty page: it would never come further than one page can look.
type barren struct {
	mu   sync.Mutex
	ends map[barrenKey]notify.Seq
}

type barrenKey struct {
	group groupKey
	types string // all that are asked for; "": no filter
	pos   notify.Seq
}

const maxBarren = 256

func (b *barren) add(k barrenKey, end notify.Seq) {
	if len(k.types)+len(k.group.prefixes) > 4096 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ends == nil || len(b.ends) >= maxBarren {
		b.ends = map[barrenKey]notify.Seq{}
	}
	b.ends[k] = end
}

// skip gives the position from which there may be something.
func (b *barren) skip(k barrenKey) notify.Seq {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(k.pos, b.ends[k])
}

// collector makes a page.
type collector struct {
	page
	api   *API
	query query
	sight *sight
	runs  map[notify.FileID]int // of each item, its last event
	shown int                   // events that are to be told
	place int                   // notifications looked at
	over  int                   // of those, behind what the page has room for
	ctx   context.Context
}

// What goes on in an event over what else is told lies no more than so many notifications behind what it has: so far a full page looks ahead for it.
const (
	lookAside = 1 << 6
	lookAhead = 1 << 14 // of a file that is being written
)

// collect collects the events between a position and goal.
func (a *API) collect(r *http.Request, q query, s *sight, pos, goal notify.Seq) (page, error) {
	c := &collector{api: a, query: q, sight: s, runs: map[notify.FileID]int{}, ctx: r.Context()}
	c.next = pos
	if err := c.collect(r, goal); err != nil {
		return page{}, err
	}
	c.cut()
	return c.page, nil
}

// cut leaves the events that the page has room for, and moves the position before the first one that it has not.
func (c *collector) cut() {
	c.events = slices.DeleteFunc(c.events, func(e event) bool { return e.hidden })
	n := c.query.limit
	if len(c.events) <= n {
		return
	}
	if n > 1 && c.events[n].note == c.events[n-1].note {
		n-- // both events of one rename
	}
	c.next, c.full = c.events[n].before, true
	clear(c.events[n:])
	c.events = c.events[:n]
}

// compact drops what is not to be told, so that a page takes little memory however far it looks.
func (c *collector) compact() {
	c.events = slices.DeleteFunc(c.events, func(e event) bool { return e.hidden })
	clear(c.runs)
	for i := range c.events {
		c.runs[c.events[i].note.ID()] = i
	}
}

// satisfied says that there are more events than the page has room for, and that those there is room for are known to their end.
func (c *collector) satisfied() bool {
	if c.shown <= c.query.limit {
		return false
	}
	n := c.query.limit
	for i := range c.events {
		e := &c.events[i]
		if e.hidden {
			continue
		}
		if c.runs[e.note.ID()] == i && e.action.goesOn() && c.near(e) {
			return false
		}
		if n--; n == 0 {
			break
		}
	}
	return true
}

// near says whether what is looked at now is near enough to an event's last notification to belong to it.
func (c *collector) near(e *event) bool {
	if e.open {
		return c.place-e.place <= lookAhead
	}
	return c.place-e.place <= lookAside
}

// continues says whether what is looked at now belongs to an item's last event, which is c.events[i]. In a user's stream the
// journal alone decides that, wherever pages begin and end: there an event lies where its last notification does, and a page that begins
// behind the first ones tells the same. So a change of times, which is called otherwise then, belongs to a write only if nothing is told between the two.
func (c *collector) continues(i int, act action, n *notify.Notification) bool {
	e := &c.events[i]
	switch {
	case e.note.Path != n.Path || !e.action.takes(act):
		return false
	case c.query.inPlace() || c.isLast(i):
		return true
	}
	return (act != times || e.action == times) && c.near(e)
}

// isLast says whether nothing is told behind an event yet.
func (c *collector) isLast(i int) bool { return i == len(c.events)-1 }

// collect looks at the journal.
func (c *collector) collect(r *http.Request, goal notify.Seq) error {
	a, q, ctx := c.api, &c.query, c.ctx
	looked, limit, began := 0, 0, time.Now()
	for batch := 0; c.next < goal; {
		batches, err := a.Feed.Memory(c.next)
		if errors.Is(err, feed.ErrBehind) {
			batches, err = a.Feed.Page(ctx, c.next, &limit)
		}
		switch {
		case errors.Is(err, notify.Gone):
			a.lost(r, c.next, notify.Message(err))
			c.next = max(goal, a.Feed.Log().Bounds().Oldest())
			return nil
		case err != nil || len(batches) == 0:
			return err
		}
		for _, b := range batches {
			if b.Number.End() > goal && b.Prev.End() >= goal {
				return nil
			}
			if !q.before.IsZero() && !b.Number.Time().Before(q.before) {
				return nil
			}
			if batch++; (batch > batchesAPage || looked > notesAPage) && (c.shown > 0 || time.Since(began) > a.patience) {
				c.full = true
				return nil
			}
			if batch%batchesAPage == 0 && ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := a.Feed.Follows(c.next, b); err != nil {
				a.lost(r, c.next, notify.Message(err))
			}
			if looked += 1 + len(b.Notes); len(c.events)-c.shown > hiddenAPage {
				c.compact()
			}
			if done, err := c.batch(b, goal); done || err != nil {
				return err
			}
		}
	}
	return nil
}

// batch adds what a batch has; done says that the page ends in it.
func (c *collector) batch(b *notify.Batch, goal notify.Seq) (done bool, err error) {
	r, ok := c.sight.roots[b.Root]
	if !ok {
		if c.sight.unknown && b.Root != 0 {
			return true, &notify.Error{Op: "box.events", Kind: notify.Unavailable, Retry: 10 * time.Second, Msg: "a root that has events here is away, try again later"}
		}
		c.next = b.Number.End() // damaged, or of a root that is no longer served
		return false, nil
	}
	b = b.ByID()
	for i := range b.Notes {
		n := &b.Notes[i]
		if n.Seq <= c.next || len(n.Spine) == 0 {
			continue
		}
		if n.Seq > goal {
			return true, nil
		}
		c.place++
		if room, err := c.note(&r, b, n); !room || err != nil {
			c.full = true
			return true, err
		}
		c.next = n.Seq
		if c.shown > c.query.limit {
			if c.over++; c.over%64 == 1 && c.satisfied() {
				return true, nil
			}
		}
	}
	c.next = b.Number.End()
	if c.next > goal {
		c.next = goal
	}
	return false, nil
}

// note adds what a notification amounts to; room is false if there is none for it.
func (c *collector) note(r *root, b *notify.Batch, n *notify.Notification) (room bool, err error) {
	act := classify(c.sight, r, b, n)
	if act == nothing {
		if n.Type == notify.ChildFileClosed {
			if i, ok := c.runs[n.ID()]; ok {
				c.events[i].open = false
			}
		}
		return true, nil
	}
	q := &c.query
	var entry *notify.Entry
	// Under a name that may not be seen it stays, or it is renamed to one, alone of its names.
	if act == trash && (stays(b, n) != nil || n.Type == notify.ChildFileMovedFrom && n.Link != 0 && n.Attr.Nlink > 1) {
		if entry, err = c.otherName(r, b, n); err != nil {
			return false, err
		}
		if entry != nil {
			act = move
		}
	}
	names := act.names(q.stream, n.Attr.IsDir())
	written := act.content() && r.closes && n.Attr.IsRegular()
	if i, ok := c.runs[n.ID()]; ok && (len(names) > 0 || act == times) && c.continues(i, act, n) {
		e := &c.events[i]
		if !q.inPlace() && !c.isLast(i) {
			// It is told in the place of the later one: so that it is the same, in whichever page it comes.
			later := *e
			later.before = c.next
			e.hidden = true
			c.runs[n.ID()] = len(c.events)
			c.events = append(c.events, later)
			e = &c.events[len(c.events)-1]
		}
		e.note, e.seq, e.place = n, n.Seq, c.place
		e.open = e.open || written
		return true, nil
	}
	names = q.wanted(names)
	if len(names) > 1 && q.limit == 1 {
		names = names[:1]
	}
	if q.inPlace() && c.shown+len(names) > q.limit {
		return false, nil
	}
	c.shown += len(names)
	for k, name := range names {
		e := event{name: name, action: act, root: b.Root, note: n, seq: n.Seq, place: c.place, entry: entry, before: c.next, open: written}
		if k < len(names)-1 && n.Link != 0 && n.Link < n.Seq {
			e.seq = n.Link // it rises from event to event of an item
		}
		if i, ok := c.runs[n.ID()]; ok {
			c.events[i].open = false // it can no longer become one with what is written later
		}
		c.runs[n.ID()] = len(c.events)
		c.events = append(c.events, e)
	}
	return true, nil
}

// otherName finds a name that a file of which one went has today; nil: none that may be seen.
func (c *collector) otherName(r *root, b *notify.Batch, n *notify.Notification) (*notify.Entry, error) {
	names, err := c.api.Files.LookupNames(everything(c.ctx), n.ID())
	if err != nil && !errors.Is(err, notify.NotFound) {
		return nil, err // it may have one: to tell its end would be wrong
	}
	for i := range names {
		if e := &names[i]; e.Root == b.Root && e.Path != n.Path && c.sight.sees(r, e.Path) {
			return e, nil
		}
	}
	return nil, nil
}
