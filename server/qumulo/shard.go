package qumulo

import (
	"context"
	"errors"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/feed"
)

// member is a stream that has a writer. It is owned as writers says.
type member struct {
	shard  *shard // nil: not arrived yet
	group  *group
	fd     int
	slot   uint32 // where the shard has it, for the poller's events
	place  int    // in group.live, if state is live
	state  state
	queued bool // it is in the shard's queue, whatever its state has become
	listed bool // and in its list of those that wait for a pager

	// Where it stands. All up to pos was examined, and written if it matched; of the frames that follow, off bytes were
	// written too (behind a keepalive, if beat). While it is live, the shard's pos counts, and off is 0.
	pos  notify.Seq
	off  int
	beat bool
	full bool // the socket takes no more

	// Times are the writers'.
	wrote   time.Duration // when something last went out whole
	told    time.Duration // when a notification did, or the stream began
	moved   time.Duration // since when the socket has been full without taking anything
	timeout time.Duration // how long the client waits for a notification; < 0: for ever
	timer   timer

	opened  time.Duration
	sent    int // notifications
	ref     Ref
	client  string
	release func()
	lease   context.Context // its end ends the stream; nil: nothing does
	unlease func() bool     // from arrival on, if there is a lease
	revoked error           // while it was away: the lease ended

	// For and from a pager.
	lent     notify.Cursor // where it stood when it was lent
	lentSent int
	goal     notify.Seq
	limit    int
	behind   bool // counted as such
	err      error
	room     bool // while it was away: the socket has room
	left     bool // while it was away: the client left
}

type state uint8

const (
	fresh   state = iota
	live          // has been given all that its group has
	ready         // waits for its turn to catch up
	parked        // waits for its socket
	waiting       // for a pager
	away          // with a pager
	ended
)

// group is the members of a shard that get the same bytes.
type group struct {
	key
	live  []*member
	count int // members, live or not
	// What the current pass has for it: a list in shard.touches.
	first, last int32
}

// key is all that the bytes of a stream depend on, besides the journal.
type key struct {
	view feed.View
	form form
}

// touch is a notification of the current pass that may concern a group.
type touch struct {
	batch *notify.Batch
	note  int32 // allNotes: any of them
	next  int32 // of the same group; -1: no more
}

const (
	allNotes     = -1
	maxConcerns  = 1 << 17 // of one batch, found through the index; 2 MiB of them
	maxTouches   = 1 << 18 // of one pass, unless one batch has more
	roomKept     = 1 << 16 // of each of the two, between passes
	turnsAPass   = 32      // members that catch up between two passes: they must not keep the others waiting
	newsAPass    = 256     // arrivals, returns and events looked at between two passes
	slotsAtFirst = 64
	shortPass    = 2 * time.Millisecond
	longestRest  = 20 * time.Millisecond
)

// shard is one writer.
type shard struct {
	writers  *writers
	poll     *poller
	arrivals chan *member  // from requests
	returns  chan *member  // from pagers
	events   chan []event  // from the poller
	asks     chan func()   // from whoever wants to know of the members
	kicks    chan kick     // from leases that ended
	ended    chan struct{} // closed when nothing is taken any more

	pen      // for its members, one after the other
	now      time.Duration
	rest     time.Duration // there is no pass before then
	pos      notify.Seq    // what all live members have been given
	lives    int
	slots    []*member
	turns    []uint32 // how often a slot was given away
	unused   []uint32
	count    int
	draining bool
	groups   map[key]*group
	index    feed.Index[*group]
	queue    []*member // ready, the oldest first
	list     []*member // waiting, the oldest first
	wheel    wheel

	// Room for a pass.
	concerns []feed.Concern[*group]
	touches  []touch
	touched  []*group
	at       []int32
	due      []*member
}

func newShard(w *writers, p *poller) *shard {
	h := &shard{writers: w, poll: p, arrivals: make(chan *member), returns: make(chan *member), events: make(chan []event),
		asks: make(chan func()), kicks: make(chan kick), ended: make(chan struct{}), groups: map[key]*group{}}
	h.pen.api = w.api
	// Fine enough that nobody sees the rounding, coarse enough that the shard sleeps.
	h.wheel.tick = min(max(min(h.api.KeepAlive, h.api.WriteTimeout)/64, time.Millisecond), 100*time.Millisecond)
	return h
}

// run is the life of a shard. When ctx has ended it ends its members, and returns when the last one is gone.
func (h *shard) run(ctx context.Context) {
	defer close(h.ended)
	alarm := time.NewTimer(time.Hour)
	defer alarm.Stop()
	always := make(chan struct{})
	close(always)
	drain := ctx.Done()
	woken := false
	for !h.draining || h.count > 0 {
		var grew <-chan struct{}
		if h.count > 0 {
			grew = h.api.Feed.Log().Grew() // before looking, so that no growth goes unseen
		}
		h.now = h.writers.now()
		news := false
		if h.now >= h.rest {
			news = h.pass()
			if woken && !news {
				h.askLog(ctx, grew)
			}
			// After a long pass there is a pause as long: what comes meanwhile goes out in one write.
			end := h.writers.now()
			if took := end - h.now; took > shortPass {
				h.rest = end + min(took, longestRest)
			}
		}
		h.catchUp()
		h.due = h.wheel.expire(h.due[:0], h.now)
		for _, m := range h.due {
			h.isDue(m)
		}
		clear(h.due)

		ring := grew
		var busy <-chan struct{}
		var late <-chan time.Time
		now := h.writers.now()
		wait, ok := h.wheel.next(now)
		if pause := h.rest - now; pause > 0 {
			ring, news = nil, false
			if !ok || pause < wait {
				wait, ok = pause, true
			}
		}
		if news || len(h.queue) > 0 {
			busy = always
		} else if ok {
			alarm.Reset(wait)
			late = alarm.C
		}
		woken = false
		var pages chan<- *member
		next := h.next()
		if next != nil {
			pages = h.writers.pages
		}
		select {
		case <-ring:
			woken = true
		case pages <- next:
			h.lent(next)
		case m := <-h.arrivals:
			h.arrive(m)
		case m := <-h.returns:
			h.back(ctx, m)
		case events := <-h.events:
			h.hear(events)
		case ask := <-h.asks:
			ask()
		case k := <-h.kicks:
			h.kick(k)
		case <-late:
		case <-busy:
		case <-drain:
			drain = nil
			h.draining = true
			h.endAll(errDrain)
		}
		h.listen(ctx)
	}
}

// listen takes what else has come.
func (h *shard) listen(ctx context.Context) {
	for range newsAPass {
		select {
		case m := <-h.arrivals:
			h.arrive(m)
		case m := <-h.returns:
			h.back(ctx, m)
		case events := <-h.events:
			h.hear(events)
		case k := <-h.kicks:
			h.kick(k)
		default:
			return
		}
	}
}

// askLog is called when the log said that it grew and holds nothing new. If it says so again at once, it may be closed.
func (h *shard) askLog(ctx context.Context, grew <-chan struct{}) {
	select {
	case <-grew:
		if err := h.api.Feed.Closed(ctx, h.pos); err != nil && ctx.Err() == nil {
			h.endAll(err)
		}
	default:
	}
}

// arrive takes a member in.
func (h *shard) arrive(m *member) {
	if h.draining {
		h.api.bye(m, errDrain)
		return
	}
	if h.lives == 0 {
		h.pos = h.api.Feed.Head()
	}
	if len(h.unused) == 0 {
		for range max(slotsAtFirst, len(h.slots)/4) {
			h.unused = append(h.unused, uint32(len(h.slots)))
			h.slots, h.turns = append(h.slots, nil), append(h.turns, 0)
		}
	}
	m.slot = h.unused[len(h.unused)-1]
	h.unused = h.unused[:len(h.unused)-1]
	h.slots[m.slot] = m
	h.count++
	m.shard = h
	h.api.Feed.Count(1, 0)
	if g := h.groups[m.group.key]; g != nil {
		m.group = g
	} else {
		m.group.first = -1
		h.groups[m.group.key] = m.group
		h.index.Add(m.group.view, m.group)
	}
	m.group.count++
	if err := h.poll.add(m.fd, m.slot, h.turns[m.slot]); err != nil {
		h.finish(m, &writeError{err})
		return
	}
	if m.lease != nil {
		m.unlease = context.AfterFunc(m.lease, func() {
			select {
			case h.kicks <- kick{m, context.Cause(m.lease)}:
			case <-h.ended:
			}
		})
	}
	h.wait(m)
}

// kick says that a member has to end, and why.
type kick struct {
	m   *member
	why error
}

func (h *shard) kick(k kick) {
	switch k.m.state {
	case ended:
	case away:
		k.m.revoked = k.why
	default:
		h.finish(k.m, k.why)
	}
}

// finish ends a member that is not away.
func (h *shard) finish(m *member, err error) {
	if m.state == live {
		h.leave(m)
	}
	m.state = ended
	if m.unlease != nil {
		m.unlease()
	}
	h.setBehind(m, false)
	h.wheel.drop(m)
	h.poll.remove(m.fd)
	if m.group.count--; m.group.count == 0 {
		delete(h.groups, m.group.key)
		h.index.Remove(m.group.view, m.group)
	}
	h.api.Feed.Count(-1, 0)
	h.slots[m.slot] = nil
	h.turns[m.slot]++
	h.unused = append(h.unused, m.slot)
	h.count--
	h.api.bye(m, err)
}

// endAll ends all members but those that are away, which come back by themselves.
func (h *shard) endAll(err error) {
	for _, m := range h.slots {
		if m != nil && m.state != away {
			h.finish(m, err)
		}
	}
}

// cursor is where a member stands.
func (m *member) cursor() notify.Cursor {
	pos := m.pos
	if m.state == live {
		pos = m.shard.pos
	}
	return notify.Cursor{Seq: pos, Dir: m.group.view.Dir}
}

// leave lets a live member go on by itself, from where the live ones are.
func (h *shard) leave(m *member) {
	g := m.group
	last := len(g.live) - 1
	g.live[m.place] = g.live[last]
	g.live[m.place].place = m.place
	g.live[last] = nil
	g.live = g.live[:last]
	h.lives--
	m.pos, m.state = h.pos, ready
}

// wait puts a member where it belongs that has nothing else to do: with the live ones if it has what they have, else in the queue, or
// with those that wait for their sockets.
func (h *shard) wait(m *member) {
	switch {
	case m.full:
		m.state = parked
	case m.pos == h.pos && m.off == 0 && !m.beat:
		h.setBehind(m, false)
		m.state, m.place = live, len(m.group.live)
		m.group.live = append(m.group.live, m)
		h.lives++
		if m.timeout == 0 {
			h.isDue(m)
			return
		}
	default:
		m.state = ready
		if !m.queued {
			m.queued = true
			h.queue = append(h.queue, m)
		}
	}
	h.setTimer(m)
}

// setTimer has isDue called when it is time.
func (h *shard) setTimer(m *member) {
	at := m.wrote + h.api.KeepAlive
	switch {
	case m.state == parked:
		at = m.moved + h.api.WriteTimeout
	case m.state == waiting: // for what its client waits for, perhaps
		if m.off > 0 || m.beat {
			return // what is begun comes first
		}
	case m.timeout >= 0:
		at = min(at, m.told+m.timeout)
	}
	h.wheel.set(m, at)
}

// isDue does what the time has come for: if anything, as the timer of a member is not moved with all that it is written.
func (h *shard) isDue(m *member) {
	switch {
	case m.state == away || m.state == ended:
		return
	case m.state == parked:
		if h.now-m.moved >= h.api.WriteTimeout {
			h.finish(m, &writeError{errStalled})
			return
		}
	case m.off > 0 || m.beat: // in the middle of something
	case m.state != waiting && m.timeout > 0 && h.now-m.told >= m.timeout, m.timeout == 0 && m.state == live && h.pos == h.api.Feed.Head():
		h.finish(m, errTimeout)
		return
	case h.now-m.wrote >= h.api.KeepAlive:
		h.keepalive(m)
		return
	}
	h.setTimer(m)
}

// keepalive shows a client that its stream lives and how far it has come.
func (h *shard) keepalive(m *member) {
	h.out.clear()
	h.out.buf = m.group.form.appendKeepalive(h.out.buf, m.cursor().Seq)
	n, err := writeSocket(m.fd, h.out.buf)
	if err == nil {
		m.wrote = h.now
		h.setTimer(m)
		return
	}
	if m.state == live {
		h.leave(m)
	}
	m.beat = n > 0
	m.took(&h.out, n, h.now)
	if err != errAgain {
		h.finish(m, &writeError{err})
		return
	}
	h.wait(m)
}

// catchUp lets members that are not live have their turns.
func (h *shard) catchUp() {
	for range min(turnsAPass, len(h.queue)) {
		m := h.queue[0]
		h.queue[0] = nil
		h.queue = h.queue[1:]
		if m.queued = false; m.state == ready {
			h.turn(m)
		}
	}
	if len(h.queue) == 0 {
		h.queue = nil
	}
}

// turn brings a member a step nearer to where the live ones are.
func (h *shard) turn(m *member) {
	if m.pos != h.pos || m.off > 0 || m.beat {
		if m.pos > h.pos { // the live ones have to come here first
			h.rest = 0
			h.wait(m)
			return
		}
		batches, err := h.api.Feed.Memory(m.pos)
		if err == feed.ErrBehind {
			h.lend(m)
			return
		}
		h.setBehind(m, false)
		if err == nil {
			err = h.write(m, batches, h.pos, h.now)
		}
		if err != nil {
			h.finish(m, err)
			return
		}
	}
	h.wait(m)
}

// lend has a member wait for a pager.
func (h *shard) lend(m *member) {
	h.setBehind(m, true)
	m.state = waiting
	if !m.listed {
		m.listed = true
		h.list = append(h.list, m)
	}
	h.setTimer(m)
}

// next gives the member that has waited longest for a pager, such that one may take it; nil: none waits.
func (h *shard) next() *member {
	for len(h.list) > 0 {
		m := h.list[0]
		if m.state == waiting {
			m.lent, m.lentSent = m.cursor(), m.sent
			m.goal, m.room, m.left = h.pos, false, false
			return m
		}
		h.unlist(m)
	}
	return nil
}

// lent is called when a pager has taken next.
func (h *shard) lent(m *member) {
	h.unlist(m)
	h.wheel.drop(m)
	m.state = away
}

// unlist takes out the first of the list.
func (h *shard) unlist(m *member) {
	m.listed = false
	h.list[0] = nil
	if h.list = h.list[1:]; len(h.list) == 0 {
		h.list = nil
	}
}

// back takes a member back from a pager.
func (h *shard) back(ctx context.Context, m *member) {
	m.state = ready
	err := m.err
	m.err = nil
	var written *writeError
	switch {
	case errors.As(err, &written): // the socket has said why, and does so once
	case m.left:
		err = &writeError{whyGone(m.fd)}
	case m.revoked != nil:
		err = m.revoked
	case ctx.Err() != nil:
		err = errDrain
	}
	if err != nil {
		h.finish(m, err)
		return
	}
	if m.room {
		m.full = false
	}
	h.wait(m)
	h.isDue(m) // it had no timer
}

// hear takes in what the poller says of sockets.
func (h *shard) hear(events []event) {
	for _, e := range events {
		m := h.slots[e.slot]
		switch {
		case m == nil || h.turns[e.slot] != e.turn: // said of one that has ended meanwhile
		case m.state == away:
			m.room = true
			m.left = m.left || e.gone
		case e.gone:
			h.finish(m, &writeError{whyGone(m.fd)})
		case m.state == parked:
			m.full = false
			h.wait(m)
		}
	}
}

// setBehind counts a member as one that reads pages, or not.
func (h *shard) setBehind(m *member, behind bool) {
	switch {
	case behind && !m.behind:
		h.api.Feed.Count(0, 1)
	case !behind && m.behind:
		h.api.Feed.Count(0, -1)
	}
	m.behind = behind
}

// pass writes what is new to the live members whom it concerns, and moves the position of all of them. It says whether there was
// anything new; there may be more.
func (h *shard) pass() bool {
	head := h.api.Feed.Head()
	if head == h.pos {
		return false
	}
	if h.lives == 0 {
		h.pos = head
		return true
	}
	from := h.pos
	batches, err := h.api.Feed.Memory(from)
	if err != nil { // the members were served too slowly for what memory holds, or for what is kept: each goes on by itself
		h.pos = head
		h.eachLive(func(m *member) {
			h.leave(m)
			m.pos = from
			h.wait(m)
		})
		return true
	}
	for _, b := range batches {
		if err := h.api.Feed.Follows(h.pos, b); err != nil {
			if h.pos == from {
				h.eachLive(func(m *member) { h.finish(m, err) })
				h.pos = head
			}
			break // what comes before it first
		}
		h.look(b)
		h.pos = b.Number.End()
		if len(h.touches) >= maxTouches {
			break
		}
	}
	for i, g := range h.touched {
		h.deliver(g, from)
		g.first = -1
		h.touched[i] = nil
	}
	clear(h.touches)
	h.touches, h.touched = h.touches[:0], h.touched[:0]
	if cap(h.touches) > roomKept {
		h.touches = nil
	}
	if cap(h.concerns) > roomKept {
		h.concerns = nil
	}
	return h.pos != from
}

// eachLive calls f for all members that are live now. f takes them out.
func (h *shard) eachLive(f func(*member)) {
	for _, g := range h.groups {
		for len(g.live) > 0 {
			f(g.live[len(g.live)-1])
		}
	}
}

// look notes whom a batch may concern.
func (h *shard) look(b *notify.Batch) {
	var ok bool
	if h.concerns, ok = h.index.Find(h.concerns[:0], b, maxConcerns); ok {
		for _, c := range h.concerns {
			h.touch(c.Owner, b, c.Note)
		}
	} else {
		for _, g := range h.groups {
			h.touch(g, b, allNotes)
		}
	}
}

func (h *shard) touch(g *group, b *notify.Batch, note int32) {
	if len(g.live) == 0 {
		return
	}
	i := int32(len(h.touches))
	if g.first < 0 {
		g.first = i
		h.touched = append(h.touched, g)
	} else {
		h.touches[g.last].next = i
	}
	g.last = i
	h.touches = append(h.touches, touch{b, note, -1})
}

// deliver writes to the live members of a group what the pass has for it. from is where they stand.
func (h *shard) deliver(g *group, from notify.Seq) {
	h.out.clear()
	h.out.form = g.form
	for i := g.first; i >= 0; {
		b := h.touches[i].batch
		all := false
		for h.at = h.at[:0]; i >= 0 && h.touches[i].batch == b; i = h.touches[i].next {
			h.at = append(h.at, h.touches[i].note)
			all = all || h.touches[i].note == allNotes
		}
		var end bool
		if all {
			h.hits, end = g.view.Match(h.hits[:0], b, 0)
		} else {
			h.hits, end = g.view.MatchAt(h.hits[:0], b, h.at)
		}
		h.most = max(h.most, len(h.hits))
		h.out.add(h.hits)
		var why error = feed.ErrEnded
		at := h.at
		if all {
			at = nil
		}
		if !end && g.view.Crossed(b, at) {
			if hit, left := g.view.Left(b, at); left {
				end, why = true, &leftError{hit}
			}
		}
		if len(h.out.buf) >= maxWrite || end {
			from = h.flush(g, from)
		}
		if end {
			for len(g.live) > 0 {
				m := g.live[len(g.live)-1]
				h.leave(m)
				m.pos = from
				h.finish(m, why)
			}
			break
		}
	}
	h.flush(g, from)
	h.letGo()
}

// flush writes what deliver has made, and says up to where that goes. Members whose sockets do not take it all are no longer live then:
// they go on by themselves, from where they are.
func (h *shard) flush(g *group, from notify.Seq) notify.Seq {
	buf := h.out.buf
	if len(buf) == 0 {
		return from
	}
	notes, bytes := 0, 0
	for i := 0; i < len(g.live); {
		m := g.live[i]
		n, err := writeSocket(m.fd, buf)
		if bytes += n; err == nil {
			m.sent += h.out.notes
			notes += h.out.notes
			m.wrote, m.told = h.now, h.now
			i++
			continue
		}
		h.leave(m) // another one takes its place
		m.pos = from
		before := m.sent
		m.took(&h.out, n, h.now)
		notes += m.sent - before
		if err == errAgain {
			h.wait(m)
		} else {
			h.finish(m, &writeError{err})
		}
	}
	if bytes > 0 {
		h.api.Observer.StreamSent(Protocol, notes, bytes)
	}
	from = h.out.cuts[len(h.out.cuts)-1].seq
	h.out.clear()
	return from
}

// took notes that the socket took n more bytes of out, and says whether these were all there are.
func (m *member) took(out *frames, n int, now time.Duration) (all bool) {
	if n > 0 || !m.full {
		m.moved = now
	}
	m.off += n
	done := 0
	notes := 0
	for _, c := range out.cuts {
		if c.end > m.off {
			break
		}
		m.pos, m.beat = c.seq, false
		done, notes = c.end, c.notes
	}
	if done > 0 {
		m.wrote = now
	}
	if notes > 0 {
		m.sent += notes
		m.told = now
	}
	all = m.off == len(out.buf)
	m.off -= done
	m.full = !all
	return all
}
