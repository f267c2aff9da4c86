package huddle

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"encoding/xml"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/feed"
	"fs_notify/notify/feed/feedtest"
	"fs_notify/server/servertest"
)

var update = flag.Bool("update", false, "write what documents take from the code")

// client asks an API without a network.
type client struct {
	testing.TB
	tree  *servertest.Tree
	api   *API
	grant *notify.Grant
}

func newClient(t testing.TB) *client {
	tree := servertest.New("/srv/data")
	api := New(Options{Files: tree, Feed: feed.New(tree.Log, feed.Options{}), Users: func(uid uint32) User {
		return User{Name: fmt.Sprintf("user & %d", uid), Email: fmt.Sprintf("u%d@example.com", uid)}
	}})
	return &client{TB: t, tree: tree, api: api, grant: notify.Everything}
}

const base = "http://files.example"

func (c *client) request(method, address string, headers ...string) *http.Response {
	c.Helper()
	r := httptest.NewRequest(method, base+strings.TrimPrefix(address, base), nil)
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		r.Header.Add(k, v)
	}
	r = r.WithContext(notify.WithGrant(r.Context(), c.grant))
	w := httptest.NewRecorder()
	if err := c.api.Serve(w, r); err != nil {
		status := map[notify.Kind]int{notify.Invalid: 400, notify.Forbidden: 403, notify.NotFound: 404, notify.Gone: 410, notify.Unavailable: 503}[notify.KindOf(err)]
		if status == 0 {
			c.Fatalf("%s: %v", address, err)
		}
		WriteError(w, r, status, err)
	}
	return w.Result()
}

// page reads one page of changes as XML.
func (c *client) page(address string) changeList {
	c.Helper()
	resp := c.request("GET", address)
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 {
		c.Fatalf("GET %s: %d\n%s", address, resp.StatusCode, body)
	}
	var list changeList
	if err := xml.Unmarshal(body, &list); err != nil {
		c.Fatalf("GET %s: %v\n%s", address, err, body)
	}
	return list
}

func rel(links []link, rel string) string {
	for _, l := range links {
		if l.Rel == rel {
			return l.Href
		}
	}
	return ""
}

const list = "/workspaces/2/changes"

// told gives the types and titles of changes, oldest first.
func told(changes []change) (out []string) {
	for _, c := range slices.Backward(changes) {
		title := ""
		for _, l := range c.Links {
			if l.Rel == "subject" {
				title = l.Title
			}
		}
		out = append(out, c.Type+" "+title)
	}
	return out
}

func TestWhatBecomesOfNotifications(t *testing.T) {
	dir, file := notify.Attr{Mode: notify.ModeDir | 0o755}, notify.Attr{Mode: notify.ModeFile | 0o644}
	note := func(typ notify.Type, path string, at notify.Attr, spine ...notify.FileID) notify.Notification {
		return notify.Notification{Type: typ, Path: path, Attr: at, Spine: append(notify.Spine{2}, spine...)}
	}
	pair := func(from, to notify.Notification, place notify.Seq) []notify.Notification {
		from.Link, to.Link = place+1, place
		return []notify.Notification{from, to}
	}
	for _, tt := range []struct {
		name    string
		notes   []notify.Notification
		prefix  string // what is seen; "": all
		want    string
		related int // different correlations
	}{
		{"a file with content is created and has a version", []notify.Notification{note(notify.ChildFileAdded, "f", file, 3), note(notify.ChildDataWritten, "f", file, 3),
			note(notify.ChildSizeChanged, "f", file, 3), note(notify.ChildMtimeChanged, "f", file, 3)}, "", "ObjectCreated f, DocumentUpdated f", 1},
		{"touch", []notify.Notification{note(notify.ChildMtimeChanged, "f", file, 3)}, "", "ObjectUpdated f", 0},
		{"chown", []notify.Notification{note(notify.ChildOwnerChanged, "f", file, 3), note(notify.ChildGroupChanged, "f", file, 3)}, "", "PermissionChanged f", 0},
		{"attributes", []notify.Notification{note(notify.ChildExtraAttrsChanged, "d", dir, 3), note(notify.ChildStreamAdded, "d", dir, 3)}, "", "ObjectUpdated d", 0},
		{"a directory's own time says nothing", []notify.Notification{note(notify.ChildMtimeChanged, "d", dir, 3)}, "", "", 0},
		{"reading says nothing", []notify.Notification{note(notify.ChildAtimeChanged, "f", file, 3)}, "", "", 0},
		{"the end of the root says nothing", []notify.Notification{note(notify.SelfRemoved, "", dir)}, "", "", 0},
		{"a new title", pair(note(notify.ChildFileMovedFrom, "d/a", file, 3, 4), note(notify.ChildFileMovedTo, "d/b", file, 3, 4), 1), "", "ObjectUpdated d/b", 1},
		{"a file moves", pair(note(notify.ChildFileMovedFrom, "a", file, 4), note(notify.ChildFileMovedTo, "d/a", file, 3, 4), 1), "", "DocumentMoved d/a", 1},
		{"a directory moves", pair(note(notify.ChildDirMovedFrom, "a", dir, 4), note(notify.ChildDirMovedTo, "d/a", dir, 3, 4), 1), "", "FolderMoved d/a", 1},
		{"both at once", pair(note(notify.ChildFileMovedFrom, "a", file, 4), note(notify.ChildFileMovedTo, "d/b", file, 3, 4), 1), "", "ObjectUpdated d/b, DocumentMoved d/b", 1},
		{"over a victim", append([]notify.Notification{note(notify.ChildFileRemoved, "b", file, 9)},
			pair(note(notify.ChildFileMovedFrom, "a", file, 4), note(notify.ChildFileMovedTo, "b", file, 4), 2)...), "", "ObjectDeleted b, ObjectUpdated b", 1},
		{"one of two names goes", []notify.Notification{note(notify.ChildLinkStays, "a", file, 3), note(notify.ChildFileRemoved, "d/b", file, 4, 3)}, "", "ObjectUpdated a", 0},
		{"one of two names goes, the other is out of sight", []notify.Notification{note(notify.ChildLinkStays, "a", file, 3), note(notify.ChildFileRemoved, "d/b", file, 4, 3)},
			"d", "ObjectDeleted d/b", 0},
		{"two renames are two operations", append(pair(note(notify.ChildFileMovedFrom, "a", file, 4), note(notify.ChildFileMovedTo, "b", file, 4), 1),
			pair(note(notify.ChildFileMovedFrom, "c", file, 5), note(notify.ChildFileMovedTo, "d", file, 5), 3)...), "", "ObjectUpdated b, ObjectUpdated d", 2},
		{"a directory takes the name of the one that it was in", []notify.Notification{
			{Type: notify.ChildDirMovedFrom, Path: "P/P", Attr: dir, Spine: notify.Spine{2, 3, 4}, Link: 3}, note(notify.ChildDirRemoved, "P", dir, 3),
			{Type: notify.ChildDirMovedTo, Path: "P", Attr: dir, Spine: notify.Spine{2, 4}, Link: 1}}, "", "FolderMoved P, ObjectDeleted P", 1},
		{"one name goes with each of two folders", []notify.Notification{
			note(notify.ChildLinkStays, "a", file, 3), note(notify.ChildFileRemoved, "d/f", file, 4, 3), note(notify.ChildDirRemoved, "d", dir, 4),
			note(notify.ChildLinkStays, "a", file, 3), note(notify.ChildFileRemoved, "e/f", file, 5, 3), note(notify.ChildDirRemoved, "e", dir, 5)},
			"", "ObjectUpdated a, ObjectDeleted d, ObjectUpdated a, ObjectDeleted e", 1},
		{"out and back and out again", []notify.Notification{note(notify.ChildDirMovedFrom, "d", dir, 3), note(notify.ChildDirMovedTo, "d", dir, 3), note(notify.ChildDirMovedFrom, "d", dir, 3)},
			"", "ObjectDeleted d, ObjectCreated d, ObjectDeleted d", 1},
		{"written to before and after the end of another one", []notify.Notification{note(notify.ChildDataWritten, "f", file, 3), note(notify.ChildDataWritten, "f", file, 3),
			note(notify.ChildFileRemoved, "g", file, 4), note(notify.ChildDataWritten, "f", file, 3)}, "", "DocumentUpdated f, ObjectDeleted g, DocumentUpdated f", 1},
		{"out of the root", []notify.Notification{note(notify.ChildDirMovedFrom, "d", dir, 3)}, "", "ObjectDeleted d", 0},
		{"into the root", []notify.Notification{note(notify.ChildFileMovedTo, "f", file, 3)}, "", "ObjectCreated f", 0},
		{"out of sight", pair(note(notify.ChildFileMovedFrom, "in/a", file, 3, 4), note(notify.ChildFileMovedTo, "out/a", file, 5, 4), 1), "in", "ObjectDeleted in/a", 0},
		{"into sight", pair(note(notify.ChildFileMovedFrom, "out/a", file, 5, 4), note(notify.ChildFileMovedTo, "in/a", file, 3, 4), 1), "in", "ObjectCreated in/a", 0},
	} {
		b := &notify.Batch{Root: 2, Notes: tt.notes}
		b.Assign(1001, 1000, 0)
		var got []string
		related := map[notify.Seq]bool{}
		var last notify.Seq
		for _, c := range changesOf(b, func(path string) bool { return tt.prefix == "" || strings.HasPrefix(path+"/", tt.prefix+"/") }) {
			got = append(got, c.kind+" "+c.note.Path)
			if c.related != 0 {
				related[c.related] = true
			}
			if c.seq <= last {
				t.Errorf("%s: the Seqs do not rise", tt.name)
			}
			last = c.seq
		}
		if s := strings.Join(got, ", "); s != tt.want || len(related) != tt.related {
			t.Errorf("%s:\n got %s with %d correlations\nwant %s with %d", tt.name, s, len(related), tt.want, tt.related)
		}
	}
}

func TestEveryTypeHasARule(t *testing.T) {
	for n := notify.Type(0); n < notify.NumTypes; n++ {
		for _, mode := range []uint32{notify.ModeDir, notify.ModeFile} {
			note := notify.Notification{Type: n, Attr: notify.Attr{Mode: mode}}
			if !slices.ContainsFunc(Table, func(r Rule) bool { return r.fits(&note, alone) }) && strings.Contains(n.String(), "_dir_") == (mode == notify.ModeDir) {
				t.Errorf("%v of a %o has no rule", n, mode)
			}
		}
	}
	for _, r := range Table {
		if r.Change != "" && !slices.Contains(Types, r.Change) {
			t.Errorf("%s is no type of Huddle's", r.Change)
		}
	}
}

// A client pages through a list while changes arrive: it sees each one once, whichever way it goes.
func TestAWalkUnderConstantChangeSeesEachChangeOnce(t *testing.T) {
	c := newClient(t)
	c.tree.Mkdir("d")
	n := 0
	grow := func(count int) {
		for range count {
			n++
			name := fmt.Sprintf("d/f%d", n)
			c.tree.Create(name)
			c.tree.Write(name, int64(n))
			if n%3 == 0 {
				c.tree.Rename(name, name+"x")
			}
			if n%5 == 0 {
				c.tree.Remove("d/f" + strconv.Itoa(n) + map[bool]string{true: "x"}[n%3 == 0])
			}
		}
	}
	grow(200)
	all := func() (ids []string) { // what the journal amounts to, newest first
		batches, err := c.tree.Log.Page(t.Context(), 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range batches {
			for _, h := range changesOf(b, func(string) bool { return true }) {
				ids = append(ids, h.seq.String())
			}
		}
		slices.Reverse(ids)
		return ids
	}
	walk := func(from, by string, change func()) (ids []string, end string) {
		for at := from; at != ""; {
			p := c.page(at)
			if by == "next" {
				if len(p.Changes) > 50 {
					t.Fatalf("%d changes on a page", len(p.Changes))
				}
				for _, ch := range p.Changes {
					ids = append(ids, lastSegment(rel(ch.Links, "self")))
				}
			} else {
				for _, ch := range slices.Backward(p.Changes) {
					ids = append(ids, lastSegment(rel(ch.Links, "self")))
				}
			}
			end, at = at, rel(p.Links, by)
			change()
		}
		return ids, end
	}
	before := all()
	down, bottom := walk(list, "next", func() { grow(3) })
	if !slices.Equal(down, before) {
		t.Errorf("down: saw %d changes, want the %d that there were", len(down), len(before))
	}
	lastPage := c.page(rel(c.page(list).Links, "last"))
	if rel(lastPage.Links, "next") != "" || rel(c.page(bottom).Links, "next") != "" {
		t.Error("the oldest page has a next one")
	}
	left := 5
	up, top := walk(rel(c.page(list).Links, "last"), "prev", func() {
		if left--; left > 0 {
			grow(4)
		}
	})
	after := all()
	slices.Reverse(up)
	if !slices.Equal(up, after) {
		t.Errorf("up: saw %d changes, want all %d", len(up), len(after))
	}
	p := c.page(top)
	if rel(p.Links, "first") != "" || rel(p.Links, "prev") != "" {
		t.Error("the newest page has a newer one")
	}
	if again, _ := walk(top, "next", func() {}); !slices.Equal(again, after[len(after)-len(again):]) || len(again) == 0 {
		t.Error("down again from the top of the walk: not the same changes")
	}
}

// From each page there is a way back to what is above it, wherever the page ended and whatever retention takes below that.
func TestPrevOfAPageThatNextLedTo(t *testing.T) {
	files := func(c *client, n int) {
		for range n {
			c.tree.Create("f" + strconv.Itoa(len(c.tree.Paths())))
		}
	}
	for _, tt := range []struct {
		name   string
		make   func(c *client)
		forget int // batches, once the link is there
		want   int // changes above the page; < 0: it is gone
	}{
		{"between two batches", func(c *client) { files(c, 120) }, 0, 50},
		{"inside a batch", func(c *client) {
			for range 60 {
				c.tree.Log.Append(servertest.RootID, notify.Notification{Type: notify.ChildFileAdded, Path: "a", Spine: notify.Spine{servertest.RootID, 9}},
					notify.Notification{Type: notify.ChildFileRemoved, Path: "a", Spine: notify.Spine{servertest.RootID, 9}},
					notify.Notification{Type: notify.ChildFileAdded, Path: "a", Spine: notify.Spine{servertest.RootID, 10}})
			}
		}, 0, 50},
		{"with nothing to show", func(c *client) { files(c, 10); c.appendUnshown(scanBatches + 10); files(c, 7) }, 0, 7},
		{"beside damage", func(c *client) {
			files(c, 70)
			c.tree.Log.AppendDamaged()
			c.api.Feed = feed.New(lost{torn{c.tree.Log, c.tree.Log.Bounds().Head}}, feed.Options{})
			files(c, 50)
		}, 0, 50},
		{"all below is dropped", func(c *client) { files(c, 120) }, 70, 50},
		{"some of it is dropped", func(c *client) { files(c, 120) }, 71, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t)
			tt.make(c)
			first := c.page(list)
			prev := rel(c.page(rel(first.Links, "next")).Links, "prev")
			if tt.forget > 0 {
				c.tree.Log.Forget(tt.forget)
			}
			if tt.want < 0 {
				c.wantError(prev, 410, "ObjectDeleted")
				return
			}
			if got, above := told(c.page(prev).Changes), told(first.Changes); len(above) != tt.want || !slices.Equal(got, above) {
				t.Errorf("GET %s: %d changes %q, want the %d of the first page", prev, len(got), got, tt.want)
			}
		})
	}
}

func lastSegment(href string) string { return href[strings.LastIndexByte(href, '/')+1:] }

func TestPagesize(t *testing.T) {
	c := newClient(t)
	for i := range 2500 {
		c.tree.Create("f" + strconv.Itoa(i))
	}
	for size, want := range map[string]int{"": 50, "1": 50, "-9": 50, "50": 50, "60": 60, "2000": 2000, "9999": 2000, "99999999999999999999": 2000, "x": 50, "1e3": 50} {
		p := c.page(list + "?pagesize=" + size)
		if len(p.Changes) != want {
			t.Errorf("pagesize=%q gives %d changes, want %d", size, len(p.Changes), want)
		}
		if next := c.page(rel(p.Links, "next")); size == "60" && len(next.Changes) != 60 {
			t.Errorf("the next page has %d changes", len(next.Changes))
		}
	}
}

// While a workspace is being indexed, what is created where nobody watches yet is on no page: so no link says that all newer changes will be.
func TestNoPageWhileIndexing(t *testing.T) {
	c := newClient(t)
	c.tree.Create("f")
	for _, id := range []notify.FileID{0, servertest.RootID} { // before it is known, and when it is
		c.tree.SetState(func(s *notify.RootState) { s.ID, s.Phase = id, notify.Indexing })
		for _, query := range []string{"", "?after=0", "?upto=" + c.tree.Log.Bounds().Newest().String()} {
			resp := c.request("GET", list+query)
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != 503 || !strings.Contains(string(body), "<ErrorCode>ServiceUnavailable<") {
				t.Errorf("GET %s while the workspace is being indexed: %d %s", list+query, resp.StatusCode, body)
			}
		}
	}
	c.tree.SetState(func(s *notify.RootState) { s.Phase = notify.Live })
	if got := told(c.page(list).Changes); !slices.Equal(got, []string{"ObjectCreated f"}) {
		t.Errorf("then: %q", got)
	}
}

func TestEmptyWorkspace(t *testing.T) {
	p := newClient(t).page(list)
	if len(p.Changes) != 0 || rel(p.Links, "next") != "" || rel(p.Links, "prev") != "" || rel(p.Links, "last") == "" {
		t.Errorf("got %+v", p)
	}
}

func TestLinksThatAreGoneOrNone(t *testing.T) {
	c := newClient(t)
	for i := range 200 {
		c.tree.Create("f" + strconv.Itoa(i))
	}
	id := c.tree.Create("doomed")
	c.tree.Remove("doomed")
	next := rel(c.page(list).Links, "next")
	oldest := rel(c.page(rel(c.page(list).Links, "last")).Links, "prev")
	for _, tt := range []struct {
		address string
		status  int
		code    string
	}{
		{list + "?upto=x", 400, "BadRequest"},
		{list + "?upto=1&after=1", 400, "BadRequest"},
		{list + "?pagesize=70&upto=123%", 400, "BadRequest"},
		{list + "?after=1;pagesize=70", 400, "BadRequest"},
		{"/workspaces/2?x=%zz", 400, "BadRequest"},
		{list + "?after=99999999999", 410, "ObjectDeleted"},
		{list + "?upto=9007199254740991", 410, "ObjectDeleted"},
		{"/workspaces/foo/changes", 404, "ResourceMatchingFailed"},
		{"/workspaces/77/changes", 404, "ObjectNotFound"},
		{"/workspaces/2/news", 404, "ObjectNotFound"},
		{"/workspaces/", 404, "ResourceMatchingFailed"},
		{"/files/documents/" + id.String(), 410, "ObjectDeleted"},
		{"/files/documents/424242", 404, "ObjectNotFound"},
		{"/files/documents/0x1", 404, "ResourceMatchingFailed"},
		{"/files/documents/2", 404, "ObjectNotFound"}, // it is a folder
		{"/files/change-sets/document/" + id.String() + "/9007199254740991", 404, "ObjectNotFound"},
		{"/files/change-sets/document/" + id.String() + "/7", 410, "ObjectDeleted"},
		{"/users/joe", 404, "ResourceMatchingFailed"},
		{"/files/users/-1/avatar", 404, "ResourceMatchingFailed"},
	} {
		c.wantError(tt.address, tt.status, tt.code)
	}
	c.tree.Log.Forget(170)
	c.wantError(next, 410, "ObjectDeleted")
	c.wantError(oldest, 410, "ObjectDeleted")
	if p := c.page(rel(c.page(list).Links, "last")); len(p.Changes) != 32 || rel(p.Links, "next") != "" {
		t.Errorf("after retention the oldest page has %d changes, next %q", len(p.Changes), rel(p.Links, "next"))
	}
}

// The oldest page is the oldest one that is kept, wherever retention is by the time that it is read.
func TestTheLastPageWhileRetentionGoesBy(t *testing.T) {
	c := newClient(t)
	for i := range 200 {
		c.tree.Create("f" + strconv.Itoa(i))
	}
	times := 0 // that something is dropped between a look at the bounds and the reading of a page
	c.tree.Log.OnPage(func() {
		if times > 0 {
			times--
			c.tree.Log.Forget(1)
		}
	})
	for n := range 3 {
		times = n
		if got, want := told(c.page(list+"?after=0").Changes), fmt.Sprint("ObjectCreated f", []int{0, 1, 3}[n]); len(got) != 50 || got[0] != want {
			t.Errorf("dropped %d times: %d changes %q, want 50 from %s on", n, len(got), got, want)
		}
	}
	after := rel(c.page(list+"?after=0").Links, "prev")
	times = 1 << 20
	c.wantError(list+"?after=0", 410, "ObjectDeleted") // it has to end some time
	times = 0
	if got := c.page(after).Changes; len(got) != 50 {
		t.Errorf("GET %s: %d changes, want 50", after, len(got))
	}
	c.tree.Log.Forget(60)
	c.wantError(after, 410, "ObjectDeleted") // it begins where it says, or not at all
}

func (c *client) wantError(address string, status int, code string) {
	c.Helper()
	for _, accept := range []string{"", "application/json"} {
		resp := c.request("GET", address, "Accept: "+accept)
		body, _ := io.ReadAll(resp.Body)
		var got errorResult
		decode, contentType := xml.Unmarshal, errorXML
		if accept != "" {
			decode, contentType = json.Unmarshal, errorJSON
		}
		if err := decode(body, &got); err != nil || got.StatusCode != status || resp.StatusCode != status || got.ErrorCode != code ||
			len(got.Messages.Message) == 0 || resp.Header.Get("Content-Type") != contentType {
			c.Errorf("GET %s: %d %s %q, want %d with %s (%v)", address, resp.StatusCode, resp.Header.Get("Content-Type"), body, status, code, err)
		}
	}
}

func TestDamageCostsOneBatch(t *testing.T) {
	c := newClient(t)
	c.tree.Create("a")
	c.tree.Log.AppendDamaged()
	c.tree.Create("b")
	for _, at := range []string{list, list + "?after=0"} {
		if got := told(c.page(at).Changes); !slices.Equal(got, []string{"ObjectCreated a", "ObjectCreated b"}) {
			t.Errorf("%s: %q", at, got)
		}
	}
}

// torn gives a root's damaged batches among the others, as the journal does.
type torn struct {
	*feedtest.Log
	is notify.BatchNumber
}

func (l torn) PageBack(ctx context.Context, root notify.FileID, before notify.BatchNumber, limit int) ([]*notify.Batch, error) {
	all, err := l.Log.PageBack(ctx, 0, before, 1<<20)
	all = slices.DeleteFunc(all, func(b *notify.Batch) bool { return root != 0 && b.Root != root && b.Number != l.is })
	return all[:min(limit, len(all))], err
}

// appendUnshown adds batches of which nothing is on any page, and gives the number of the first one.
func (c *client) appendUnshown(n int) (first notify.BatchNumber) {
	for i := range n {
		b := c.tree.Log.Append(servertest.RootID, notify.Notification{Type: notify.ChildFileClosed, Path: "f", Spine: notify.Spine{servertest.RootID, 9}})
		if i == 0 {
			first = b.Number
		}
	}
	return first
}

// The oldest batch that is kept is damaged, and a page ends with it: there is no older one.
func TestDamageAtTheEnd(t *testing.T) {
	c := newClient(t)
	first := c.appendUnshown(2 * scanBatches)
	c.tree.Log.Damage(first)
	c.api.Feed = feed.New(torn{c.tree.Log, first}, feed.Options{})
	pages := 0
	for at := list; at != ""; pages++ {
		at = rel(c.page(at).Links, "next")
	}
	if pages != 2 {
		t.Errorf("%d pages, want 2", pages)
	}
}

// lost gives, for a batch that cannot be read, one that knows nothing, not even the one before it; and does not find it.
type lost struct{ torn }

func (l lost) PageBack(ctx context.Context, root notify.FileID, before notify.BatchNumber, limit int) ([]*notify.Batch, error) {
	all, err := l.torn.PageBack(ctx, root, before, limit)
	for i, b := range all {
		if b.Number == l.is {
			all[i] = &notify.Batch{Number: b.Number}
		}
	}
	return all, err
}

func (l lost) Contains(ctx context.Context, pos notify.Seq) (at notify.Seq, ok bool, err error) {
	if pos.Batch() == l.is {
		return pos, false, nil
	}
	return l.torn.Contains(ctx, pos)
}

// Wherever a page ends beside a batch that cannot be read, the one beside it has what is beyond.
func TestDamageInTheMiddle(t *testing.T) {
	for above := range 60 {
		c := newClient(t)
		var damaged notify.BatchNumber
		for i := range 100 {
			n := c.tree.Log.Append(servertest.RootID, notify.Notification{Type: notify.ChildFileAdded, Path: fmt.Sprint("f", i), Spine: notify.Spine{servertest.RootID, notify.FileID(900 + i)}}).Number
			if i == 99-above {
				damaged = n
			}
		}
		c.tree.Log.Damage(damaged)
		c.api.Feed = feed.New(lost{torn{c.tree.Log, damaged}}, feed.Options{})
		for by, from := range map[string]string{"next": list, "prev": list + "?after=0"} {
			n := 0
			for at := from; at != ""; {
				p := c.page(at)
				n += len(p.Changes)
				at = rel(p.Links, by)
			}
			if n != 99 {
				t.Fatalf("with %d batches above it, by %s: %d changes, want 99", above, by, n)
			}
		}
	}
}

// holey lacks a batch, and what was in memory with it.
type holey struct {
	*feedtest.Log
	is notify.BatchNumber
}

func (l holey) without(batches []*notify.Batch) []*notify.Batch {
	return slices.DeleteFunc(slices.Clone(batches), func(b *notify.Batch) bool { return b.Number == l.is })
}

func (l holey) Ring(notify.BatchNumber) ([]*notify.Batch, bool) { return nil, false }

func (l holey) Page(ctx context.Context, from notify.BatchNumber, limit int) ([]*notify.Batch, error) {
	all, err := l.Log.Page(ctx, from, limit+1)
	all = l.without(all)
	return all[:min(limit, len(all))], err
}

func (l holey) PageBack(ctx context.Context, root notify.FileID, before notify.BatchNumber, limit int) ([]*notify.Batch, error) {
	all, err := l.Log.PageBack(ctx, root, before, limit+1)
	all = l.without(all)
	return all[:min(limit, len(all))], err
}

func (l holey) Contains(ctx context.Context, pos notify.Seq) (at notify.Seq, ok bool, err error) {
	at, ok, err = l.Log.Contains(ctx, pos)
	return at, ok && pos.Batch() != l.is, err
}

// Somebody has taken a batch out of the journal. Wherever it was, all others are on the pages, up and down; what retention has passed is gone all the same.
func TestAMissingBatchIsPassedOver(t *testing.T) {
	for missing := range 119 {
		c := newClient(t)
		var was notify.BatchNumber
		for i := range 120 {
			c.tree.Create(fmt.Sprint("f", i))
			if i == missing {
				was = c.tree.Log.Bounds().Head
			}
		}
		c.api.Feed = feed.New(holey{c.tree.Log, was}, feed.Options{})
		walks := map[string][]string{}
		for by, from := range map[string]string{"next": list, "prev": list + "?after=0"} {
			for at := from; at != ""; {
				p := c.page(at)
				if changes := told(p.Changes); by == "next" {
					walks[by] = append(changes, walks[by]...)
				} else {
					walks[by] = append(walks[by], changes...)
				}
				at = rel(p.Links, by)
			}
		}
		if len(walks["next"]) != 119 || !slices.Equal(walks["prev"], walks["next"]) {
			t.Fatalf("without batch %d: %d changes down, %d up, want the same 119", missing, len(walks["next"]), len(walks["prev"]))
		}
		if got := told(c.page(list + "?after=" + was.Seq(1).String()).Changes); len(got) != min(119-missing, minPage) || got[0] != fmt.Sprint("ObjectCreated f", missing+1) {
			t.Fatalf("from the middle of batch %d, which is missing: %q", missing, got)
		}
		up := rel(c.page(list+"?after=0").Links, "prev")
		c.tree.Log.Forget(60)
		c.wantError(up, 410, "ObjectDeleted")
	}
}

// What a token may not see is not there, and what lies above it neither.
func TestAGrantSeesItsPartOnly(t *testing.T) {
	c := newClient(t)
	c.tree.Mkdir("in")
	mine := c.tree.Mkdir("in/mine")
	c.tree.Mkdir("out")
	f := c.tree.Create("in/mine/f")
	hidden := c.tree.Create("out/h")
	c.tree.Rename("in/mine/f", "out/f")
	c.tree.Rename("out/f", "in/mine/g")
	for range 300 {
		c.tree.Write("out/h", 1)
	}
	c.grant = &notify.Grant{Prefixes: []string{"/srv/data/in/mine"}, Privileges: notify.MayChanges}
	p := c.page(list)
	if got := told(p.Changes); !slices.Equal(got, []string{"ObjectCreated mine", "ObjectCreated f", "ObjectDeleted f", "ObjectCreated g"}) {
		t.Errorf("got %q", got)
	}
	for _, ch := range p.Changes {
		if parent := rel(ch.Links, "parent"); parent != "" && lastSegment(parent) != mine.String() {
			t.Errorf("%s has the parent %s", ch.Type, parent)
		}
	}
	c.wantError("/files/documents/"+hidden.String(), 404, "ObjectNotFound")
	if resp := c.request("GET", "/files/documents/"+f.String()); resp.StatusCode != 200 {
		t.Errorf("what may be seen: %d", resp.StatusCode)
	}
	c.grant = &notify.Grant{Prefixes: []string{"/elsewhere"}, Privileges: notify.MayChanges}
	c.wantError(list, 404, "ObjectNotFound")
	c.wantError("/files/documents/"+f.String(), 404, "ObjectNotFound")
	c.grant = &notify.Grant{Privileges: notify.MayNotify}
	c.wantError(list, 403, "Authorization")
}

func TestActorsAreForAdministrators(t *testing.T) {
	c := newClient(t)
	id := c.tree.Create("f")
	c.tree.Log.Append(servertest.RootID, notify.Notification{Type: notify.ChildDataWritten, Path: "f", Spine: notify.Spine{2, id},
		Attr: notify.Attr{Mode: notify.ModeFile, UID: 1000}, Actor: &notify.Actor{PID: 1, UID: 7, Command: "cat"}})
	who := func() string {
		a := c.page(list).Changes[0].Actors[0]
		return a.Rel + " " + a.Name + " " + a.Email
	}
	if got := who(); got != "updated-by user & 7 u7@example.com" {
		t.Errorf("an administrator is told %q", got)
	}
	c.grant = &notify.Grant{Privileges: notify.MayChanges}
	if got := who(); got != "owner user & 1000 u1000@example.com" {
		t.Errorf("others are told %q", got)
	}
}

// Two changes within one second must not look like one.
func TestNotModifiedIsNeverFalse(t *testing.T) {
	c := newClient(t)
	head := func() time.Time { return c.tree.Log.Bounds().Head.Time() }
	c.tree.Create("a")
	now := head()
	c.api.Now = func() time.Time { return now }
	ask := func(since string) (int, string) {
		resp := c.request("GET", list, "If-Modified-Since: "+since)
		return resp.StatusCode, resp.Header.Get("Last-Modified")
	}
	status, first := ask("")
	if status != 200 {
		t.Fatal(status)
	}
	if status, _ := ask(first); status != 200 {
		t.Errorf("while the second lasts: %d, want 200, as more may come", status)
	}
	now = now.Add(2 * time.Second)
	_, told := ask("")
	if status, _ := ask(told); status != 304 {
		t.Errorf("nothing has changed: %d, want 304", status)
	}
	resp := c.request("HEAD", list, "If-Modified-Since: "+told)
	if resp.StatusCode != 304 {
		t.Errorf("HEAD: %d, want 304", resp.StatusCode)
	}
	was := head().Truncate(time.Second)
	c.tree.Create("b") // numbered within the second of the first, as after a slow fsync
	if head().Truncate(time.Second) != was {
		t.Fatal("the premise: the same second")
	}
	status, second := ask(told)
	if status != 200 || second == told {
		t.Errorf("a change of the same second: %d with %s, want 200 and a later time than %s", status, second, told)
	}
	if status, _ := ask(second); status != 304 {
		now = now.Add(time.Second)
		if _, second = ask(""); second == "" {
			t.Error("no Last-Modified")
		}
		if status, _ := ask(second); status != 304 {
			t.Errorf("then: %d, want 304", status)
		}
	}
	tag := c.request("GET", list).Header.Get("ETag")
	if got := c.request("GET", list, "If-None-Match: "+tag).StatusCode; got != 304 {
		t.Errorf("If-None-Match: %d, want 304", got)
	}
	c.tree.Create("c")
	if got := c.request("GET", list, "If-None-Match: "+tag, "If-Modified-Since: "+now.Add(time.Hour).Format(http.TimeFormat)).StatusCode; got != 200 {
		t.Errorf("a new entity: %d, want 200", got)
	}
}

// Retention takes from the older pages without a change: a 304 for one would be false.
func TestNotModifiedIsNeverOfAnOlderPage(t *testing.T) {
	c := newClient(t)
	for i := range 120 {
		c.tree.Create("f" + strconv.Itoa(i))
	}
	now := c.tree.Log.Bounds().Head.Time().Add(time.Minute)
	c.api.Now = func() time.Time { return now }
	if resp := c.request("GET", list); resp.Header.Get("Last-Modified") != "" { // an earlier process may have answered within this second, without the last change
		t.Errorf("the first answer of a process: Last-Modified %s, want none", resp.Header.Get("Last-Modified"))
	}
	now = now.Add(time.Second)
	first := c.request("GET", list)
	last, since := list+"?after=0", first.Header.Get("Last-Modified")
	next := rel(c.page(list).Links, "next")
	tag := c.request("GET", last).Header.Get("ETag")
	c.tree.Log.Forget(100)
	if resp := c.request("GET", list, "If-Modified-Since: "+since); resp.StatusCode != 304 {
		t.Errorf("the newest page: %d, want 304", resp.StatusCode)
	}
	if resp := c.request("GET", last, "If-Modified-Since: "+since); resp.StatusCode != 200 || resp.Header.Get("Last-Modified") != "" {
		t.Errorf("the oldest page: %d, Last-Modified %q, want 200 and none", resp.StatusCode, resp.Header.Get("Last-Modified"))
	}
	if resp := c.request("GET", last, "If-None-Match: "+tag); resp.StatusCode != 200 || resp.Header.Get("ETag") == tag {
		t.Errorf("the oldest page, by its ETag: %d, %s", resp.StatusCode, resp.Header.Get("ETag"))
	}
	if resp := c.request("GET", next, "If-Modified-Since: "+since); resp.StatusCode != 410 {
		t.Errorf("the next page: %d, want 410", resp.StatusCode)
	}
}

// Some clients ask with the Date of the last answer, or with their own time, instead of its Last-Modified.
func TestNotModifiedSinceTheDateOfAnAnswer(t *testing.T) {
	c := newClient(t)
	c.tree.Log.SkipTo(notify.NumberAt(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)))
	c.tree.Create("a")
	begin := c.tree.Log.Bounds().Head.Time().Truncate(time.Second)
	now := begin
	c.api.Now = func() time.Time { return now }
	dates := map[string]bool{} // of answers without the newest change
	ask := func(since string) int {
		resp := c.request("GET", list, "If-Modified-Since: "+since)
		if resp.StatusCode == 200 {
			dates[resp.Header.Get("Date")] = true
		}
		return resp.StatusCode
	}
	for i, change := range []struct{ asked, stamped, seen time.Duration }{
		{10_200, 10_500, 10_501}, {11_999, 12_000, 12_001}, {12_700, 12_700, 12_800}, {14_005, 13_999, 14_010}, {15_000, 15_000, 17_000},
	} {
		now = begin.Add(change.asked * time.Millisecond)
		ask("")
		c.tree.Log.SkipTo(notify.NumberAt(begin.Add(change.stamped * time.Millisecond)))
		c.tree.Create(fmt.Sprint("b", i))
		now = begin.Add(change.seen * time.Millisecond)
		for _, since := range append(slices.Collect(maps.Keys(dates)), now.Add(time.Hour).Format(http.TimeFormat)) {
			if got := ask(since); got != 200 {
				t.Errorf("change %d: since %s, when it was not told: %d", i, since, got)
			}
		}
	}
	resp := c.request("GET", list)
	if got := ask(resp.Header.Get("Last-Modified")); got != 304 {
		t.Errorf("since %s, when it was told: %d", resp.Header.Get("Last-Modified"), got)
	}
}

func TestForms(t *testing.T) {
	c := newClient(t)
	for i := range 20 {
		c.tree.Create("f" + strconv.Itoa(i))
	}
	for accept, want := range map[string]string{
		"":                                    dataXML,
		"*/*":                                 dataXML,
		"application/xml":                     dataXML,
		"application/vnd.huddle.data+xml":     dataXML,
		"application/vnd.huddle.data+json":    dataJSON,
		"application/json":                    dataJSON,
		"application/vnd.huddle.data.v2+json": dataJSON,
		"application/vnd.huddle.data+xml;q=0.5, application/vnd.huddle.data+json": dataJSON,
		"application/vnd.huddle.data+xml, application/json;q=0.9":                 dataXML,
		"text/plain, application/json":                                            dataJSON, // there is no plain text
		"text/plain, image/*":                                                     dataXML,
		"text/html, application/json;q=0.1, application/xml;q=0.2":                dataXML,
		"application/json, application/xml":                                       dataJSON,
		"application/xml, application/json":                                       dataXML,
		"application/json, */*;q=0.1":                                             dataJSON,
		"*/*, application/json;q=0.9":                                             dataXML,
		"*/*, application/xml;q=0.9":                                              dataJSON, // what is named does not count as anything
		"application/*, application/xml;q=0":                                      dataJSON,
		"application/json;q=0":                                                    dataXML,
	} {
		resp := c.request("GET", list, "Accept: "+accept)
		if got := resp.Header.Get("Content-Type"); got != want {
			t.Errorf("Accept %q gives %q, want %q", accept, got, want)
		}
	}
	whole, _ := io.ReadAll(c.request("GET", list).Body)
	resp := c.request("GET", list, "Accept-Encoding: gzip, deflate")
	z, err := gzip.NewReader(resp.Body)
	if err != nil || resp.Header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("no gzip: %v", err)
	}
	if got, err := io.ReadAll(z); err != nil || string(got) != string(whole) {
		t.Errorf("unpacked it differs: %v", err)
	}
	for encoding, want := range map[string]string{
		"": "", "identity": "", "*": "gzip", "deflate, GZIP;q=0.1": "gzip", "*;q=0, gzip": "gzip", "gzip, *;q=0": "gzip",
		"gzip;q=0": "", "gzip;q=0, *": "", "*, gzip;q=0": "", "*;q=0": "", "gzip; q=0.0, *;q=1": "",
	} {
		if got := c.request("GET", list, "Accept-Encoding: "+encoding).Header.Get("Content-Encoding"); got != want {
			t.Errorf("Accept-Encoding %q gives %q, want %q", encoding, got, want)
		}
	}
	head := c.request("HEAD", list)
	if b, _ := io.ReadAll(head.Body); len(b) != 0 || head.Header.Get("Content-Length") != strconv.Itoa(len(whole)) {
		t.Errorf("HEAD: %d bytes, Content-Length %s, want %d", len(b), head.Header.Get("Content-Length"), len(whole))
	}
	var twin changeList
	b, _ := io.ReadAll(c.request("GET", list, "Accept: application/json").Body)
	if err := json.Unmarshal(b, &twin); err != nil || len(twin.Changes) != 20 || !slices.Equal(told(twin.Changes), told(c.page(list).Changes)) {
		t.Errorf("the twin has %d changes, %v", len(twin.Changes), err)
	}
	if resp := c.request("DELETE", list); resp.StatusCode != 405 || resp.Header.Get("Allow") != methods {
		t.Errorf("DELETE: %d", resp.StatusCode)
	}
	if resp := c.request("OPTIONS", list); resp.StatusCode != 204 {
		t.Errorf("OPTIONS: %d", resp.StatusCode)
	}
}

// What others said of the answer before stays said.
func TestVaryIsAdded(t *testing.T) {
	c := newClient(t)
	for _, at := range []string{list, "/users/0/profile"} {
		r := httptest.NewRequest("GET", base+at, nil)
		w := httptest.NewRecorder()
		w.Header().Add("Vary", "Origin")
		if err := c.api.Serve(w, r.WithContext(notify.WithGrant(r.Context(), c.grant))); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(w.Result().Header.Values("Vary"), ", "); got != "Origin, Accept, Accept-Encoding, Authorization" {
			t.Errorf("GET %s: Vary: %s", at, got)
		}
	}
}

// names that XML and HTML make trouble with
var names = []string{"a&b<c>\"'", "new\nline", "bell\a", "\xff\xfe", "é😀", "]]>", "\ufffe"}

// Whatever is linked is there, and what is said of changes obeys the schema.
// A title is the name itself, but for what XML cannot hold; the twin has the same.
func TestTitles(t *testing.T) {
	names := map[string]string{ // and their titles
		`q"u`: `q"u`, `b\s`: `b\s`, `<&'>`: `<&'>`, "é\u2028\ufffd\U0001f600\x7f": "é\u2028\ufffd\U0001f600\x7f", "two\nlines\tand\r": "two\nlines\tand\r",
		"not\xff\x80": `not\udcff\udc80`, "\x01\x1b": `\u0001\u001b`, "\ufffe and \uffff": `\ufffe and \uffff`,
	}
	for name, want := range names {
		c := newClient(t)
		c.tree.Create(name)
		var twin changeList
		b, _ := io.ReadAll(c.request("GET", list, "Accept: application/json").Body)
		if err := json.Unmarshal(b, &twin); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		for form, changes := range map[string][]change{"XML": c.page(list).Changes, "JSON": twin.Changes} {
			if got := told(changes); !slices.Equal(got, []string{"ObjectCreated " + want}) {
				t.Errorf("%q is in %s %q, want %q", name, form, got, want)
			}
		}
	}
}

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	c := newClient(t)
	c.tree.Mkdir("d")
	for _, n := range names {
		c.tree.Create(n)
		c.tree.Write(n, 3)
		c.tree.Rename(n, "d/"+n+"2")
	}
	c.tree.Remove("d/" + names[0] + "2")
	dir := t.TempDir()
	seen, queue := map[string]bool{}, []string{"/entry"}
	files := 0
	href := regexp.MustCompile(`"href":"([^"]*)"`)
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		if seen[at] {
			continue
		}
		seen[at] = true
		resp := c.request("GET", at)
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 200 && (resp.StatusCode != 410 || !strings.Contains(at, "/files/documents/")) {
			t.Errorf("GET %s: %d %s", at, resp.StatusCode, body)
		}
		if strings.Contains(at, "/changes") || strings.Contains(at, "/change-sets/") {
			files++
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.xml", files)), body, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		twin, _ := io.ReadAll(c.request("GET", at, "Accept: application/json").Body)
		for _, m := range href.FindAllSubmatch(twin, -1) {
			u, err := strconv.Unquote(`"` + string(m[1]) + `"`)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := url.Parse(u); err != nil {
				t.Errorf("%s links %q: %v", at, u, err)
			}
			queue = append(queue, u)
		}
	}
	if len(seen) < 30 {
		t.Errorf("only %d resources were found: %v", len(seen), seen)
	}
	valid(t, "changes.rnc", dir)
	dir = t.TempDir()
	for i, at := range []string{"/workspaces/77/changes", "/workspaces/foo", "/files/documents/" + names[0]} {
		body, _ := io.ReadAll(c.request("GET", strings.ReplaceAll(url.PathEscape(at), "%2F", "/")).Body)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.xml", i)), body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	valid(t, "error.rnc", dir)
}

// valid holds all documents in a directory against a schema.
func valid(t *testing.T, schema, dir string) {
	t.Helper()
	if _, err := exec.LookPath("jing"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v (CI=true: install it)", err)
		}
		t.Log("the schema is not checked:", err)
		return
	}
	docs, err := filepath.Glob(filepath.Join(dir, "*.xml"))
	if err != nil || len(docs) == 0 {
		t.Fatal("there is nothing to check: ", err)
	}
	out, err := exec.Command("jing", append([]string{"-c", "../../testdata/huddle/" + schema}, docs...)...).CombinedOutput()
	if err != nil {
		t.Errorf("jing: %v\n%s", err, out)
	}
}

// The documentation holds the table as it is in the code; -update writes it.
func TestDocumentedTable(t *testing.T) {
	var b strings.Builder
	b.WriteString("| notification | of | seen | change | |\n| --- | --- | --- | --- | --- |\n")
	used := map[string]bool{}
	for _, r := range Table {
		var types []string
		for _, n := range r.types.Types() {
			types = append(types, "`"+n.String()+"`")
		}
		kind := r.Change
		used[kind] = true
		if kind == "" {
			kind = "–"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", strings.Join(types, ", "), kindNames[r.kinds], halves[r.half], kind, r.why)
	}
	var never []string
	for _, name := range Types {
		if !used[name] {
			never = append(never, name)
		}
	}
	fmt.Fprintf(&b, "\nNever made: %s.\n", strings.Join(never, ", "))
	const doc, begin, end = "../../docs/protocols/huddle.md", "<!-- table -->\n", "<!-- /table -->"
	text, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(text), begin)
	old, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the table", doc)
	}
	switch {
	case old == b.String():
	case *update:
		if err := os.WriteFile(doc, []byte(head+begin+b.String()+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s does not say what the code does: go test ./server/huddle -run DocumentedTable -update", doc)
	}
}

func FuzzServe(f *testing.F) { // anything may be asked
	for _, s := range []string{"/entry", list, list + "?pagesize=70&upto=4100000", list + "?after=0", "/files/documents/3", "/users/0/profile", "/workspaces/%2e%2e/changes", "/files/change-sets/folder/3/4"} {
		f.Add(s, "application/json")
	}
	c := newClient(f)
	c.tree.Mkdir("d")
	c.tree.Create("d/f")
	f.Fuzz(func(t *testing.T, target, accept string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Host != "" || u.Scheme != "" {
			return
		}
		r := &http.Request{Method: "GET", URL: u, Host: "files.example", Header: http.Header{"Accept": {accept}}}
		w := httptest.NewRecorder()
		if err := c.api.Serve(w, r); err != nil {
			switch notify.KindOf(err) {
			case notify.Invalid, notify.NotFound, notify.Gone:
			default:
				t.Fatalf("%q: %v", target, err)
			}
			WriteError(w, r, 400, err)
		}
		body, _ := io.ReadAll(w.Result().Body)
		switch ct := w.Result().Header.Get("Content-Type"); {
		case strings.HasSuffix(ct, "+json"):
			if !json.Valid(body) {
				t.Fatalf("%q: %q", target, body)
			}
		case strings.HasSuffix(ct, "+xml"):
			if err := xml.Unmarshal(body, new(struct{ XMLName xml.Name })); err != nil {
				t.Fatalf("%q: %v in %q", target, err, body)
			}
		}
	})
}

func BenchmarkPage(b *testing.B) {
	c := newClient(b)
	for i := range 4000 {
		c.tree.Create("file-" + strconv.Itoa(i))
	}
	for _, size := range []int{50, 2000} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			for b.Loop() {
				c.request("GET", list+"?pagesize="+strconv.Itoa(size))
			}
		})
	}
	b.Run("nothing new", func(b *testing.B) {
		h := "If-Modified-Since: " + c.request("GET", list).Header.Get("Last-Modified")
		for b.Loop() {
			c.request("GET", list, h)
		}
	})
}
