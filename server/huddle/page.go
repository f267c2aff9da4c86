package huddle

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"fs_notify/notify"
)

// How many changes a page may have: out of range is clamped, and what is no number is the default.
const (
	minPage = 50
	maxPage = 2000
)

// What is looked at for one page at the most. Where less than a page of it may be shown, the page is short.
const (
	scanBatches = 4096
	scanNotes   = 1 << 17
)

// pageRequest is which page is asked for. At most one of the cursors is set.
type pageRequest struct {
	size  int
	sized bool // the client said so, and its links say it again
	upTo  *notify.Seq
	after *notify.Seq // 0: the oldest page
}

func parsePage(query url.Values) (pageRequest, error) {
	q := pageRequest{size: minPage}
	if v := query.Get("pagesize"); v != "" {
		if n, err := strconv.ParseInt(v, 10, 64); err == nil {
			q.size, q.sized = int(min(max(n, minPage), maxPage)), true
		} else if e, ok := err.(*strconv.NumError); ok && e.Err == strconv.ErrRange && v[0] != '-' {
			q.size, q.sized = maxPage, true
		}
	}
	for _, c := range []struct {
		name string
		to   **notify.Seq
	}{{"upto", &q.upTo}, {"after", &q.after}} {
		if !query.Has(c.name) {
			continue
		}
		seq, err := notify.ParseSeq(query.Get(c.name))
		if err != nil {
			return q, &coded{"BadRequest", &notify.Error{Op: "huddle.changes", Kind: notify.Invalid, Err: err, Msg: c.name + "=" + clip(query.Get(c.name)) + " is of no link of this list: follow the links as they are"}}
		}
		*c.to = &seq
	}
	if q.upTo != nil && q.after != nil {
		return q, &coded{"BadRequest", &notify.Error{Op: "huddle.changes", Kind: notify.Invalid, Msg: "upto and after exclude each other: follow the links as they are"}}
	}
	return q, nil
}

// query is the canonical form of a page's address behind that of the list.
func (q pageRequest) query() string {
	v := url.Values{}
	if q.sized {
		v.Set("pagesize", strconv.Itoa(q.size))
	}
	if q.upTo != nil {
		v.Set("upto", q.upTo.String())
	}
	if q.after != nil {
		v.Set("after", q.after.String())
	}
	if len(v) == 0 {
		return ""
	}
	return "?" + v.Encode()
}

// page is all changes between two cursors: above lo, up to hi.
type page struct {
	changes []happened // newest first
	lo, hi  notify.Seq
	oldest  bool // nothing is kept at or below lo
	newest  bool // nothing is above hi
}

// scan collects what is found on the way.
type scan struct {
	ws      *workspace
	size    int
	batches int
	notes   int
	out     []happened
}

func (s *scan) exhausted() bool { return s.batches >= scanBatches || s.notes >= scanNotes }

func (s *scan) changes(b *notify.Batch) []happened {
	s.batches++
	s.notes += len(b.Notes)
	if b.Root != s.ws.id {
		return nil
	}
	return changesOf(b, s.ws.sees)
}

// read makes a page. Gone: the journal no longer holds where it begins.
func (a *API) read(ctx context.Context, ws *workspace, q pageRequest, newest *notify.Batch) (*page, error) {
	log := a.Feed.Log()
	bounds := log.Bounds()
	if c := q.upTo; c != nil && (c.Batch() <= bounds.Base || c.Batch() > bounds.Head) {
		return nil, a.gone()
	}
	s := &scan{ws: ws, size: q.size}
	var p *page
	var err error
	switch {
	case q.upTo != nil:
		p, err = a.readDown(ctx, s, *q.upTo)
	case q.after == nil:
		p, err = a.readDown(ctx, s, bounds.Newest())
	case *q.after == 0:
		p, err = a.readOldest(ctx, s)
	default:
		p, err = a.readBehind(ctx, s, *q.after)
	}
	if err != nil {
		return nil, err
	}
	p.changes = s.out
	p.newest = newest == nil || p.hi >= newest.Last()
	return p, nil
}

func (a *API) gone() error {
	return &coded{"ObjectDeleted", &notify.Error{Op: "huddle.changes", Kind: notify.Gone, Bounds: a.Feed.Log().Bounds(),
		Msg: "this page of the list is no longer kept: begin again with the address that the workspace gives"}}
}

// readDown collects the newest changes up to a cursor, newest first.
func (a *API) readDown(ctx context.Context, s *scan, upTo notify.Seq) (*page, error) {
	p := &page{lo: upTo, hi: upTo}
	for limit, from := 16, upTo.Batch(); ; limit = min(4*limit, 512) {
		batches, err := a.Feed.PageBack(ctx, s.ws.id, from, limit)
		if err != nil {
			return nil, err
		}
		if len(batches) == 0 {
			p.oldest = true
			return p, nil
		}
		for _, b := range batches {
			found := s.changes(b)
			for i := len(found) - 1; i >= 0; i-- {
				c := found[i]
				if c.seq > upTo {
					continue
				}
				if len(s.out) == s.size {
					return p, nil // p.lo is the last one's
				}
				s.out = append(s.out, c)
				p.lo = c.seq - 1
			}
			p.lo = (b.Number - 1).End()
			base := a.Feed.Log().Bounds().Base // what is damaged knows its root's batches no more, and perhaps none
			p.oldest = b.Root != 0 && b.RootPrev <= base || b.Prev != 0 && b.Prev <= base
			if p.oldest || s.exhausted() || b.Number == 0 {
				return p, nil
			}
			from = b.Number - 1
		}
	}
}

// lastTries is how often the oldest page is begun.
const lastTries = 8

// readOldest collects the oldest changes that are kept. If retention goes by meanwhile, these are others.
func (a *API) readOldest(ctx context.Context, s *scan) (p *page, err error) {
	for range lastTries {
		*s = scan{ws: s.ws, size: s.size}
		if p, err = a.readUp(ctx, s, a.Feed.Log().Bounds().Oldest()); !errors.Is(err, notify.Gone) {
			break
		}
	}
	return p, err
}

// readBehind collects the oldest changes above a cursor of a link, from which on nothing may have been dropped. Numbers of batches have gaps, and pages may end
// in one: that is as good as the end of the batch below.
func (a *API) readBehind(ctx context.Context, s *scan, c notify.Seq) (*page, error) {
	log := a.Feed.Log()
	bounds := log.Bounds()
	at, ok, err := log.Contains(ctx, c)
	if err != nil {
		return nil, err
	}
	if !ok {
		if c.Batch() <= bounds.Base || c.Batch() > bounds.Head {
			return nil, a.gone()
		}
		below, err := a.Feed.PageBack(ctx, 0, c.Batch(), 1)
		if err != nil {
			return nil, err
		}
		at = bounds.Oldest()
		if len(below) > 0 {
			at = below[0].Number.End()
		}
	}
	return a.readUp(ctx, s, at)
}

// readUp collects the oldest changes above a cursor, and turns them over.
func (a *API) readUp(ctx context.Context, s *scan, after notify.Seq) (*page, error) {
	p := &page{lo: after, hi: after}
	defer func() { slices.Reverse(s.out) }()
	older, err := a.Feed.PageBack(ctx, s.ws.id, after.Batch(), 1)
	if err != nil {
		return nil, err
	}
	p.oldest = len(older) == 0 || after.Batch() <= a.Feed.Log().Bounds().Base
	limit := 0
	for {
		batches, err := a.Feed.Page(ctx, p.hi, &limit)
		if err != nil {
			return nil, err
		}
		if len(batches) == 0 {
			return p, nil
		}
		for _, b := range batches {
			if err := a.Feed.Follows(p.hi, b); err != nil && (p.hi+1).Batch() <= a.Feed.Log().Bounds().Base {
				return nil, a.gone() // retention went by; what is damaged or missing is passed over
			}
			for _, c := range s.changes(b) {
				if c.seq <= after {
					continue
				}
				if len(s.out) == s.size {
					return p, nil // p.hi is the last one's
				}
				s.out = append(s.out, c)
				p.hi = c.seq
			}
			p.hi = b.Number.End()
			if s.exhausted() {
				return p, nil
			}
		}
	}
}

// serveChanges answers with a page of a workspace's changes.
func (a *API) serveChanges(w http.ResponseWriter, r *http.Request, id string) error {
	root, err := parseID(id)
	if err != nil {
		return err
	}
	ws, err := a.workspaceOf(r, root)
	if err != nil {
		return err
	}
	q, err := parsePage(r.URL.Query())
	if err != nil {
		return err
	}
	if ws.root.Phase == notify.Indexing { // what is created in it need not be told on any page that is newer
		return indexing()
	}
	var newest *notify.Batch
	if back, err := a.Feed.PageBack(r.Context(), root, a.Feed.Log().Bounds().Head, 1); err != nil {
		return err
	} else if len(back) > 0 {
		newest = back[0]
	}
	now := a.Now().UTC().Truncate(time.Second)
	w.Header().Set("Date", now.Format(http.TimeFormat)) // some clients ask for what is newer than that
	modified := a.ages.of(root, newest, a.Feed.Log().Bounds().Base, now)
	if q.upTo != nil || q.after != nil {
		modified = time.Time{} // retention takes from older pages without a change
	}
	if notModified(r, modified) {
		headers(w)
		w.Header().Set("Last-Modified", modified.Format(http.TimeFormat))
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	p, err := a.read(r.Context(), ws, q, newest)
	if err != nil {
		return err
	}
	return answer(w, r, a.pageOf(ws, q, p), modified)
}

// ages are since when the lists of workspaces are as they are, in the whole seconds that HTTP has. The age of a state is a second behind all
// in which an older one was answered with, however many changes a second sees and however late a batch becomes visible: neither a Last-Modified nor the
// Date of an older answer is the same. The zero value serves.
type ages struct {
	mu    sync.Mutex
	lists map[notify.FileID]age
}

type age struct {
	newest notify.BatchNumber
	at     time.Time
	asked  time.Time // the last second in which an answer was made
}

// of gives the age of a list whose newest batch is known (nil: none is kept, base is the journal's), for an answer that is made in the second now, with
// what is looked at from here on. Zero: that second is still to come.
func (a *ages) of(root notify.FileID, newest *notify.Batch, base notify.BatchNumber, now time.Time) time.Time {
	n := base
	if newest != nil {
		n = newest.Number
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	last, known := a.lists[root]
	if !known || n > last.newest {
		last.newest, last.at = n, n.Time().Truncate(time.Second).Add(time.Second)
		asked := last.asked
		if !known { // what it was answered with before this process began, nobody knows
			asked = now
		}
		if !last.at.After(asked) {
			last.at = asked.Add(time.Second)
		}
	}
	if now.After(last.asked) {
		last.asked = now
	}
	if a.lists == nil {
		a.lists = map[notify.FileID]age{}
	}
	a.lists[root] = last
	if last.at.After(now) {
		return time.Time{}
	}
	return last.at
}

// notModified says whether what the client has is of this very age. A later time, of which nobody knows what was seen in it, says nothing.
func notModified(r *http.Request, modified time.Time) bool {
	if modified.IsZero() || r.Header.Get("If-None-Match") != "" {
		return false // the better question is answered by answer
	}
	since, err := http.ParseTime(r.Header.Get("If-Modified-Since"))
	return err == nil && since.Equal(modified)
}

// pageOf makes the answer of a page.
func (a *API) pageOf(ws *workspace, q pageRequest, p *page) *changeList {
	list := ws.links.workspace(ws.id) + "/changes"
	to := func(rel string, q pageRequest) link { return link{Rel: rel, Href: list + q.query()} }
	first := pageRequest{size: q.size, sized: q.sized}
	older, newer, last := first, first, first
	older.upTo, newer.after, last.after = &p.lo, &p.hi, new(notify.Seq)
	out := &changeList{Links: []link{to("self", q)}, Changes: make([]change, 0, len(p.changes))}
	if !p.oldest {
		out.Links = append(out.Links, to("next", older))
	}
	if !p.newest {
		out.Links = append(out.Links, to("prev", newer), to("first", first))
	}
	out.Links = append(out.Links, to("last", last))
	for i := range p.changes {
		out.Changes = append(out.Changes, a.changeOf(ws, &p.changes[i]))
	}
	return out
}

// changeOf makes the answer of one change.
func (a *API) changeOf(ws *workspace, c *happened) change {
	n := c.note
	kind := "document"
	if n.Attr.IsDir() {
		kind = "folder"
	}
	out := change{Type: c.kind, Created: c.seq.Time().Format(timeFormat), Links: []link{
		{Rel: "self", Href: ws.links.to("files/change-sets", kind, n.ID().String(), c.seq.String())},
		{Rel: "subject", Href: ws.links.object(n.ID(), n.Attr.IsDir()), Title: title(baseName(n.Path))},
		{Rel: "workspace", Href: ws.links.workspace(ws.id), Title: title(ws.root.Name)},
	}}
	if parent, path := parentOf(n), parentPath(n.Path); ws.sees(path) {
		out.Links = append(out.Links, link{Rel: "parent", Href: ws.links.object(parent, true), Title: title(baseName(ws.full(path)))})
	}
	if c.related != 0 {
		out.Correlation = correlation(ws.id, c.related)
	}
	uid, rel := n.Attr.UID, "owner"
	if n.Actor != nil && ws.grant.Privileges.Has(notify.MayAdmin) && n.Actor.UID != uid {
		uid, rel = n.Actor.UID, "updated-by"
	}
	out.Actors = []actor{a.actorOf(ws.links, uid, rel)}
	return out
}

func (a *API) actorOf(l linker, uid uint32, rel string) actor {
	u := a.Users(uid)
	id := strconv.FormatUint(uint64(uid), 10)
	return actor{Name: title(u.Name), Email: title(u.Email), Rel: rel, Links: []link{
		{Rel: "self", Href: l.user(uid)},
		{Rel: "avatar", Href: l.to("files/users", id, "avatar"), Type: "image/png"},
		{Rel: "alternate", Href: l.user(uid) + "/profile", Type: "text/html"},
	}}
}

func parentPath(path string) string { return path[:max(len(path)-len(baseName(path))-1, 0)] }
