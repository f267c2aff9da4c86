package box

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"fs_notify/notify"
)

// The answers of a long poll.
const (
	newChange = `{"version":1,"message":"new_change"}`
	reconnect = `{"version":1,"message":"reconnect"}`
)

const (
	pollTick   = time.Second // how often it is looked whose time has come
	hangUpTick = 2           // a poll's client is looked for every so many ticks
	sendWithin = 200 * time.Millisecond
)

// polls is the long polls that wait, in the groups of the tail, and the loop that answers them. Fields are under the tail's lock.
type polls struct {
	ended   bool // none waits any more
	waiting int
	kick    chan struct{} // there is one more
}

// poll is one long poll that waits. It has a connection that was taken from net/http, or a goroutine that listens to answer.
type poll struct {
	conn    net.Conn
	head    []byte // headers of the answer
	answer  chan string
	until   time.Time
	turn    int // in which of hangUpTick ticks its client is looked for
	left    bool
	lease   context.Context // its end ends the poll; nil: nothing does
	release func()
}

// revoked says whether who polls may not do so any more, or sees something else now: the client comes again and hears of it.
func (p *poll) revoked() bool { return p.lease != nil && p.lease.Err() != nil }

// serveServers answers OPTIONS /2.0/events with the place for long polls, which is this server.
func (a *API) serveServers(w http.ResponseWriter, r *http.Request) error {
	if _, err := a.look(r.Context()); err != nil {
		return err
	}
	s, err := parseStream(r.URL.Query().Get("stream_type"))
	if err != nil {
		return err
	}
	if s.enterprise() {
		return noPolls(s)
	}
	// Java's client appends "&stream_position=" to it, whatever it is.
	u := url.URL{Scheme: r.URL.Scheme, Host: r.Host, Path: "/2.0/events/poll", RawQuery: "stream_type=" + s.String()}
	b := []byte(`{"chunk_size":1,"entries":[{"type":"realtime_server","url":`)
	b = notify.AppendName(b, u.String())
	b = append(b, `,"ttl":"10","max_retries":"10","retry_timeout":`...)
	b = strconv.AppendInt(b, int64((a.PollTimeout+10*time.Second+time.Second-1)/time.Second), 10)
	w.Header().Set("Allow", "GET, HEAD, OPTIONS")
	return writeJSON(w, r, append(b, "}]}\n"...))
}

func noPolls(s stream) error {
	return badParameter("stream_type", s.String(), "all, changes or sync: there is no long poll for enterprise streams")
}

// servePoll answers a long poll: at once if there is something behind the position, else when there is or when it has waited long enough.
func (a *API) servePoll(w http.ResponseWriter, r *http.Request) error {
	s, err := a.look(r.Context())
	if err != nil {
		return err
	}
	v := r.URL.Query()
	q := query{limit: defaultLimit, peek: true}
	if q.stream, err = parseStream(v.Get("stream_type")); err != nil {
		return err
	}
	if q.stream.enterprise() {
		return noPolls(q.stream)
	}
	if q.pos, err = parsePosition(v.Get("stream_position")); err != nil {
		return err
	}
	if err := s.whole(); err != nil {
		return err
	}
	pos, ok, err := a.pollFrom(r.Context(), q.pos)
	if err != nil {
		return err
	}
	if !ok {
		return writeJSON(w, r, []byte(newChange)) // the page knows what to make of it
	}
	found, next, err := a.anyNews(r, q, s, pos)
	if err != nil {
		return err
	}
	if found == news {
		return writeJSON(w, r, []byte(newChange))
	}
	release, err := a.Admit(r)
	if err != nil {
		return err
	}
	a.Observer.StreamOpened(Protocol)
	p := &poll{until: time.Now().Add(a.PollTimeout), lease: notify.GrantOf(r.Context()).Lease, release: release}
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		conn.SetDeadline(time.Time{})
		p.conn, p.head = conn, headOf(w.Header())
	} else {
		p.answer = make(chan string, 1)
	}
	if message := a.park(r, q, s, pos, next, found, p); message != "" {
		if p.revoked() {
			message = reconnect
		}
		a.reply(p, message)
	}
	if p.conn != nil {
		return nil
	}
	select {
	case message := <-p.answer:
		return writeJSON(w, r, []byte(message))
	case <-r.Context().Done():
		a.tail.mu.Lock()
		p.left = true
		a.tail.mu.Unlock()
		return context.Cause(r.Context())
	}
}

// pollFrom gives the position that a poll is at; false: none that the journal has.
func (a *API) pollFrom(ctx context.Context, p position) (notify.Seq, bool, error) {
	bounds := a.Feed.Log().Bounds()
	switch p.kind {
	case fromNow:
		return bounds.Newest(), true, nil
	case fromOldest:
		return bounds.Oldest(), true, nil
	case fromFuture:
		return 0, false, nil
	}
	return a.Feed.Log().Contains(ctx, p.seq)
}

// finding is what a look for news found.
type finding uint8

const (
	silence finding = iota
	murmur          // nothing but more data in files that are still open
	news
)

// anyNews says whether a page would have something in it that is worth waking a client for. If not, all up to next was looked at.
func (a *API) anyNews(r *http.Request, q query, s *sight, pos notify.Seq) (found finding, next notify.Seq, err error) {
	goal, err := a.goal(r.Context())
	if err != nil {
		return silence, 0, err
	}
	p, err := a.collect(r, q, s, pos, goal)
	if err != nil {
		return silence, 0, err
	}
	if p.full {
		return news, p.next, nil
	}
	a.tail.mu.Lock()
	defer a.tail.mu.Unlock()
	for i := range p.events {
		e := &p.events[i]
		if !a.tail.murmurs(e.note, e.action, pos) {
			return news, p.next, nil
		}
		found = murmur
	}
	return found, p.next, nil
}

// park puts a poll to sleep that has seen all up to pos, and nothing but what was found up to next; or gives the answer, if it is known.
func (a *API) park(r *http.Request, q query, s *sight, pos, next notify.Seq, found finding, p *poll) (message string) {
	t := &a.tail
	for range 100 {
		t.mu.Lock()
		visible, err := t.advance(r.Context())
		if err != nil || a.polls.ended {
			t.mu.Unlock()
			return reconnect
		}
		if visible <= next {
			g := t.group(q.stream, s)
			if held := next + 1; t.pos > next && (g.news == 0 || g.news > held) {
				g.news = held // what pages wait for may be news
			}
			if found == murmur && g.murmur.IsZero() {
				g.murmur = time.Now()
			}
			a.polls.waiting++
			p.turn = a.polls.waiting % hangUpTick
			g.polls = append(g.polls, p)
			t.mu.Unlock()
			select {
			case a.polls.kick <- struct{}{}:
			default:
			}
			return ""
		}
		t.mu.Unlock()
		if found == silence {
			pos = next // else a file may have been closed meanwhile that was written to before
		}
		found, next, err = a.anyNews(r, q, s, pos)
		if err != nil {
			return reconnect
		}
		if found == news {
			return newChange
		}
	}
	return newChange // the journal grows faster than it can be looked at
}

// headOf makes the head of an answer on a connection that net/http has no part in any more.
func headOf(h http.Header) []byte {
	h = h.Clone()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Connection", "close")
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 200 OK\r\n")
	h.Write(&b) // into memory: it cannot fail
	return b.Bytes()
}

// reply answers a poll and is done with it.
func (a *API) reply(p *poll, message string) {
	reason := "reconnect"
	if message == newChange {
		reason = "news"
	}
	switch {
	case p.conn == nil:
		p.answer <- message
	case stuck(p.conn):
		reason = "client"
		below(p.conn).Close()
	default:
		p.conn.SetWriteDeadline(time.Now().Add(sendWithin)) // it fits into the socket: nobody waits
		b := append(p.head, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(len(message)), 10)
		b = append(b, "\r\nDate: "...)
		b = time.Now().UTC().AppendFormat(b, http.TimeFormat)
		b = append(append(b, "\r\n\r\n"...), message...)
		if _, err := p.conn.Write(b); err != nil {
			reason = "client"
		}
		hungUp(p.conn) // a socket that is closed with something unread resets the connection, and the client may miss the answer
		p.conn.Close()
	}
	a.done(p, reason)
}

// below is what TLS, if it is spoken on a connection, is spoken on: to close that says no good-bye, for which a client may have left no room.
func below(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		return t.NetConn()
	}
	return c
}

func (a *API) done(p *poll, reason string) {
	p.release()
	a.Observer.StreamClosed(Protocol, reason)
}

// Run answers the long polls that wait, until ctx ends: then all that do are told to come again. Those that came before it wait for it.
func (a *API) Run(ctx context.Context) error {
	t := &a.tail
	defer a.answerAll()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	lastTick, tick, woken := time.Now(), 0, false
	log := a.Feed.Log()
	for {
		t.mu.Lock()
		waiting := a.polls.waiting
		t.mu.Unlock()
		if waiting == 0 {
			woken = false
			select {
			case <-a.polls.kick:
			case <-ctx.Done():
				return nil
			}
		}
		grew := log.Grew() // before looking, so that no growth goes unseen
		now := time.Now()
		ticked := now.Sub(lastTick) >= pollTick
		if ticked {
			lastTick = now
			tick++
		}
		t.mu.Lock()
		before := t.pos
		visible, err := t.advance(ctx)
		pos := t.pos
		woke, late, left := a.due(visible, now, ticked, tick)
		wait := pollTick
		if len(t.queue) > 0 {
			wait = min(wait, max(t.api.Hold-now.Sub(t.queue[0].since), time.Millisecond))
		}
		t.mu.Unlock()
		for _, p := range woke {
			a.reply(p, newChange)
		}
		for _, p := range late {
			a.reply(p, reconnect)
		}
		for _, p := range left {
			if p.conn != nil {
				below(p.conn).Close()
			}
			a.done(p, "client")
		}
		if err == nil && woken && pos == before {
			err = a.Feed.Closed(ctx, pos) // it says that it grew and has nothing
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, notify.Closed):
			a.Log.Warn("long polls cannot wait any more", "err", err)
			a.answerAll()
			<-ctx.Done()
			return nil
		case err != nil: // it may be over soon; until then they sleep on
			a.Log.Warn("long polls cannot be looked after", "err", err)
			grew, wait = nil, pollTick
		}
		timer.Reset(wait)
		woken = false
		select {
		case <-grew:
			woken = true
		case <-a.polls.kick:
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// due takes out the polls that are to be answered now: with news, since their time or what lets them ask has ended, and those whose clients have left. The
// caller holds the tail's lock.
func (a *API) due(visible notify.Seq, now time.Time, ticked bool, tick int) (woke, late, left []*poll) {
	t := &a.tail
	for key, g := range t.groups {
		if g.ready(visible, now) {
			for _, p := range g.polls {
				if p.revoked() {
					late = append(late, p)
				} else {
					woke = append(woke, p)
				}
			}
			g.polls = nil
		}
		if ticked {
			kept := g.polls[:0]
			for _, p := range g.polls {
				switch {
				case p.left, p.conn != nil && p.turn == tick%hangUpTick && hungUp(p.conn):
					left = append(left, p)
				case now.After(p.until), p.revoked():
					late = append(late, p)
				default:
					kept = append(kept, p)
				}
			}
			clear(g.polls[len(kept):])
			g.polls = kept
		}
		if len(g.polls) == 0 {
			delete(t.groups, key)
		}
	}
	a.polls.waiting -= len(woke) + len(late) + len(left)
	return woke, late, left
}

// answerAll tells all polls to come again, and lets none wait any more.
func (a *API) answerAll() {
	t := &a.tail
	t.mu.Lock()
	a.polls.ended = true
	a.polls.waiting = 0
	var all []*poll
	for _, g := range t.groups {
		all = append(all, g.polls...)
	}
	clear(t.groups)
	t.mu.Unlock()
	for _, p := range all {
		a.reply(p, reconnect)
	}
}
