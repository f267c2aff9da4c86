package box_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"fs_notify/notify"
	"fs_notify/server"
	"fs_notify/server/servertest"
)

func values(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return v
}

// tell appends one batch about entries of the tree, as a watcher would, and gives its number.
func tell(tree *servertest.Tree, notes ...notify.Notification) *notify.Batch {
	for i := range notes {
		if notes[i].Spine == nil {
			notes[i].Spine = notify.Spine{servertest.RootID, 900}
		}
		if notes[i].Attr.Mode == 0 {
			notes[i].Attr.Mode = notify.ModeFile | 0o644
			if strings.HasPrefix(notes[i].Type.String(), "child_dir") {
				notes[i].Attr.Mode = notify.ModeDir | 0o755
			}
		}
		notes[i].Attr.Nlink = max(notes[i].Attr.Nlink, 1)
	}
	return tree.Log.Append(servertest.RootID, notes...)
}

func TestWhatIsDoneIsTold(t *testing.T) {
	const f, d = notify.ModeFile | 0o644, notify.ModeDir | 0o755
	note := func(typ notify.Type, path string, mode uint32, spine ...notify.FileID) notify.Notification {
		return notify.Notification{Type: typ, Path: path, Spine: append(notify.Spine{servertest.RootID}, spine...), Attr: notify.Attr{Mode: mode, Nlink: 1, Size: 7}}
	}
	linked := func(a, b notify.Notification) []notify.Notification {
		a.Link, b.Link = 2, 1
		return []notify.Notification{a, b}
	}
	for _, c := range []struct {
		name               string
		notes              []notify.Notification
		all, changes, logs string
	}{
		{"a file with data", []notify.Notification{note(notify.ChildFileAdded, "f", f, 5), note(notify.ChildDataWritten, "f", f, 5), note(notify.ChildSizeChanged, "f", f, 5), note(notify.ChildMtimeChanged, "f", f, 5)},
			"ITEM_UPLOAD file data/f 7", "=", "UPLOAD file data/f"},
		{"mkdir -p", []notify.Notification{note(notify.ChildDirAdded, "a", d, 5), note(notify.ChildDirAdded, "a/b", d, 5, 6), note(notify.ChildMtimeChanged, "a", d, 5)},
			"ITEM_CREATE folder data/a\nITEM_CREATE folder data/a/b", "=", "UPLOAD folder data/a\nUPLOAD folder a/b"},
		{"a new version", []notify.Notification{note(notify.ChildDataWritten, "f", f, 5), note(notify.ChildMtimeChanged, "f", f, 5)},
			"ITEM_UPLOAD file data/f 7", "=", "EDIT file data/f"},
		{"two files in turn", []notify.Notification{note(notify.ChildDataWritten, "f", f, 5), note(notify.ChildDataWritten, "g", f, 6), note(notify.ChildDataWritten, "f", f, 5)},
			"ITEM_UPLOAD file data/g 7\nITEM_UPLOAD file data/f 7", "=", "EDIT file data/f\nEDIT file data/g"},
		{"rename", linked(note(notify.ChildFileMovedFrom, "d/f", f, 4, 5), note(notify.ChildFileMovedTo, "d/g", f, 4, 5)),
			"ITEM_RENAME file data/d/g 7", "=", "RENAME file d/g"},
		{"move", linked(note(notify.ChildDirMovedFrom, "d/f", d, 4, 5), note(notify.ChildDirMovedTo, "f", d, 5)),
			"ITEM_MOVE folder data/f", "=", "MOVE folder data/f"},
		{"move and rename", linked(note(notify.ChildFileMovedFrom, "d/f", f, 4, 5), note(notify.ChildFileMovedTo, "g", f, 5)),
			"ITEM_MOVE file data/g 7\nITEM_RENAME file data/g 7", "=", "MOVE file data/g\nRENAME file data/g"},
		{"written, renamed, written", append(append([]notify.Notification{},
			linked(note(notify.ChildFileMovedFrom, "f", f, 5), note(notify.ChildFileMovedTo, "g", f, 5))...), note(notify.ChildDataWritten, "g", f, 5)),
			"ITEM_RENAME file data/g 7\nITEM_UPLOAD file data/g 7", "=", "RENAME file data/g\nEDIT file data/g"},
		{"moved in and out", []notify.Notification{note(notify.ChildFileMovedTo, "f", f, 5), note(notify.ChildDirMovedFrom, "d", d, 6)},
			"ITEM_UPLOAD file data/f 7\nITEM_TRASH folder data/d deleted", "=", "UPLOAD file data/f\nDELETE folder data/d"},
		{"a directory takes the name of the one that it was in", []notify.Notification{
			{Type: notify.ChildDirMovedFrom, Path: "P/X", Spine: notify.Spine{servertest.RootID, 4, 5}, Attr: notify.Attr{Mode: d}, Link: 3}, note(notify.ChildDirRemoved, "P", d, 4),
			{Type: notify.ChildDirMovedTo, Path: "P", Spine: notify.Spine{servertest.RootID, 5}, Attr: notify.Attr{Mode: d}, Link: 1}},
			"ITEM_MOVE folder data/P\nITEM_RENAME folder data/P\nITEM_TRASH folder data/P deleted", "=", "MOVE folder data/P\nRENAME folder data/P\nDELETE folder data/P"},
		{"rm -rf", []notify.Notification{note(notify.ChildFileRemoved, "d/f", f, 6, 5), note(notify.ChildDirRemoved, "d", d, 6)},
			"ITEM_TRASH file data/d/f 7 deleted\nITEM_TRASH folder data/d deleted", "=", "DELETE file d/f\nDELETE folder data/d"},
		{"chmod and chown of both kinds", []notify.Notification{note(notify.ChildACLChanged, "f", f, 5), note(notify.ChildACLChanged, "d", d, 6), note(notify.ChildOwnerChanged, "d", d, 6), note(notify.ChildGroupChanged, "d", d, 6)},
			"ITEM_MODIFY file data/f 7\nITEM_MODIFY folder data/d\nITEM_MODIFY folder data/d", "",
			"ITEM_MODIFY file data/f\nCHANGE_FOLDER_PERMISSION folder data/d\nCHANGE_FOLDER_PERMISSION folder data/d"},
		{"xattrs, streams, times", []notify.Notification{note(notify.ChildExtraAttrsChanged, "f", f, 5), note(notify.ChildStreamAdded, "f", f, 5), note(notify.ChildMtimeChanged, "f", f, 5)},
			"ITEM_MODIFY file data/f 7\nITEM_MODIFY file data/f 7", "", "METADATA_INSTANCE_UPDATE file data/f\nITEM_MODIFY file data/f"},
		{"nothing that Box has a word for", []notify.Notification{note(notify.ChildAtimeChanged, "f", f, 5), note(notify.ChildFileClosed, "f", f, 5), note(notify.ChildMtimeChanged, "d", d, 6)}, "", "=", ""},
		{"a directory leaves with one in it that is watched", []notify.Notification{note(notify.ChildDirMovedFrom, "d", d, 6), note(notify.SelfRemoved, "d/e", d, 6, 7)},
			"ITEM_TRASH folder data/d deleted", "=", "DELETE folder data/d"},
		{"the root goes away: nothing of it is gone, and what is there when it is back is told", []notify.Notification{note(notify.SelfRemoved, "", d), note(notify.SelfRescanned, "", d), note(notify.ChildFileRemoved, "f", f, 5)},
			"ITEM_MODIFY folder data\nITEM_TRASH file data/f 7 deleted", "=", "ITEM_MODIFY folder All Files/data\nDELETE file data/f"},
		{"a rescan", []notify.Notification{note(notify.SelfRescanned, "", d)}, "ITEM_MODIFY folder data", "=", "ITEM_MODIFY folder All Files/data"},
		{"a name that is no UTF-8, with quotes and a line end", []notify.Notification{note(notify.ChildFileAdded, "a\"\n\xff", f, 5)},
			"ITEM_UPLOAD file data/a\"\n\ufffd 7", "=", "UPLOAD file data/a\"\n\ufffd"},
	} {
		if c.changes == "=" {
			c.changes = c.all
		}
		tree := servertest.New("/srv/data")
		base := serve(t, tree, nil)
		tree.Log.Append(servertest.RootID, c.notes...)
		for typ, want := range map[string]string{"": c.all, "all": c.all, "changes": c.changes, "sync": c.changes, "admin_logs": c.logs, "admin_logs_streaming": c.logs} {
			events, next := follow(t, base, 0, values("stream_type", typ))
			if got := show(events); got != want {
				t.Errorf("%s: stream_type=%s tells\n%s\nwant\n%s", c.name, typ, got, want)
			}
			if next != int64(tree.Log.Bounds().Newest()) {
				t.Errorf("%s: stream_type=%s ends at %d, the journal at %d", c.name, typ, next, tree.Log.Bounds().Newest())
			}
		}
	}
}

// However large the pages, the same events come in the same order, each once; and of an item the sequence_id rises.
func TestPagesOfAnySizeTellTheSame(t *testing.T) {
	tree := servertest.New("/srv/data")
	base := serve(t, tree, nil)
	rnd := rand.New(rand.NewPCG(1, 2))
	var files []string
	for i := range 600 {
		switch k := rnd.IntN(10); {
		case k < 5 || len(files) < 5:
			files = append(files, fmt.Sprint("f", i))
			tree.Create(files[len(files)-1])
		case k < 6:
			tree.Mkdir(fmt.Sprint("d", i))
		case k < 8:
			at := rnd.IntN(len(files))
			to := fmt.Sprint("r", i)
			tree.Rename(files[at], to)
			files[at] = to
		case k < 9:
			tree.Write(files[rnd.IntN(len(files))], int64(i))
		default:
			at := rnd.IntN(len(files))
			tree.Remove(files[at])
			files = slices.Delete(files, at, at+1)
		}
	}
	want, _ := follow(t, base, 0, values("limit", "500"))
	if len(want) < 500 {
		t.Fatalf("only %d events", len(want))
	}
	for _, limit := range []string{"1", "2", "7", "100", "9999", ""} {
		got, _ := follow(t, base, 0, values("limit", limit))
		seen, last := map[string]bool{}, map[string]int64{}
		for i := range got {
			e := &got[i]
			if seen[e.EventID] {
				t.Fatalf("limit=%s: event %s comes twice", limit, e.EventID)
			}
			seen[e.EventID] = true
			if e.Source.SequenceID <= last[e.Source.ID] {
				t.Fatalf("limit=%s: sequence_id of %s goes from %d to %d", limit, e.Source.ID, last[e.Source.ID], e.Source.SequenceID)
			}
			last[e.Source.ID] = e.Source.SequenceID
		}
		if show(got) != show(want) {
			t.Fatalf("limit=%s tells\n%s\nlimit=500\n%s", limit, show(got), show(want))
		}
		for i := range want {
			if !seen[want[i].EventID] {
				t.Fatalf("limit=%s does not tell event %s", limit, want[i].EventID)
			}
		}
	}
	if status, _, body := ask(t, "GET", base+"/2.0/events?limit=0&stream_position=0"); status != 200 || readPage(t, body, false).Next != int64(tree.Log.Bounds().Oldest()) {
		t.Errorf("limit=0: %d %s", status, body)
	}
}

// walk pages from a position with one limit until there is nothing more. No event lies behind the page that it is in.
func walk(t *testing.T, base, stream string, pos int64, limit int) (events []rcloneEvent) {
	t.Helper()
	for {
		p := readPage(t, get(t, fmt.Sprint(base, "/2.0/events?stream_type=", stream, "&limit=", limit, "&stream_position=", pos)), false)
		for i := range p.Entries {
			if e := &p.Entries[i]; e.Source.SequenceID <= pos || e.Source.SequenceID > p.Next {
				t.Errorf("stream_type=%s&limit=%d: %s of %s at %d is told in the page from %d to %d", stream, limit, e.EventType, e.Source.Name, e.Source.SequenceID, pos, p.Next)
			}
		}
		if events = append(events, p.Entries...); p.Next == pos {
			return events
		}
		pos = p.Next
	}
}

// sameWalks holds the walks over a whole tree against each other: the same events in the same order, each once, and of each item its creation first.
func sameWalks(t *testing.T, base, stream string, limits int) (told string) {
	t.Helper()
	want := walk(t, base, stream, 0, 500)
	seen, known := map[string]bool{}, map[string]bool{}
	for i := range want {
		e := &want[i]
		if seen[e.EventID] {
			t.Errorf("stream_type=%s: event %s, %s of %s, comes twice", stream, e.EventID, e.EventType, e.Source.Name)
		}
		if seen[e.EventID] = true; !known[e.Source.ID] && e.EventType != "ITEM_UPLOAD" && e.EventType != "ITEM_CREATE" {
			t.Errorf("stream_type=%s: %s of %s before it is created", stream, e.EventType, e.Source.Name)
		}
		known[e.Source.ID] = true
	}
	for limit := 1; limit <= limits; limit++ {
		got := walk(t, base, stream, 0, limit)
		if !slices.EqualFunc(got, want, func(a, b rcloneEvent) bool {
			return a.EventID == b.EventID && a.Source.SequenceID == b.Source.SequenceID
		}) {
			t.Errorf("stream_type=%s&limit=%d tells\n%s\nlimit=500\n%s", stream, limit, show(got), show(want))
		}
	}
	return show(want)
}

// A file's times are set while it is written to, or while another one is, and a page ends anywhere.
func TestTimesSetBetweenWrites(t *testing.T) {
	f := func(typ notify.Type, name string, id notify.FileID, size int64) notify.Notification {
		return notify.Notification{Type: typ, Path: name, Spine: notify.Spine{servertest.RootID, id}, Attr: notify.Attr{Mode: notify.ModeFile | 0o644, Size: size}}
	}
	d := func(name string, id notify.FileID) notify.Notification {
		return notify.Notification{Type: notify.ChildDirAdded, Path: name, Spine: notify.Spine{servertest.RootID, id}}
	}
	wrote := func(name string, id notify.FileID, size int64) []notify.Notification {
		return []notify.Notification{f(notify.ChildDataWritten, name, id, size), f(notify.ChildSizeChanged, name, id, size), f(notify.ChildMtimeChanged, name, id, size)}
	}
	for _, c := range []struct {
		name         string
		batches      [][]notify.Notification
		all, changes string
	}{
		{"of the one that is written to", [][]notify.Notification{{f(notify.ChildFileAdded, "f", 5, 0)}, wrote("f", 5, 2), {d("q1", 11)}, {d("q2", 12)}, {f(notify.ChildMtimeChanged, "f", 5, 2)},
			{d("s1", 13)}, {d("s2", 14)}, {d("s3", 15)}, append(wrote("f", 5, 4), f(notify.ChildFileClosed, "f", 5, 4))},
			"ITEM_UPLOAD file data/f 2\nITEM_CREATE folder data/q1\nITEM_CREATE folder data/q2\nITEM_MODIFY file data/f 2\n" +
				"ITEM_CREATE folder data/s1\nITEM_CREATE folder data/s2\nITEM_CREATE folder data/s3\nITEM_UPLOAD file data/f 4",
			"ITEM_CREATE folder data/q1\nITEM_CREATE folder data/q2\nITEM_CREATE folder data/s1\nITEM_CREATE folder data/s2\nITEM_CREATE folder data/s3\nITEM_UPLOAD file data/f 4"},
		{"of another one", [][]notify.Notification{{f(notify.ChildFileAdded, "u", 5, 0)}, append(wrote("u", 5, 2), f(notify.ChildFileClosed, "u", 5, 2)), {f(notify.ChildFileAdded, "w", 6, 0)}, wrote("w", 6, 2),
			{f(notify.ChildMtimeChanged, "u", 5, 2)}, {d("v", 11)}, {f(notify.ChildMtimeChanged, "u", 5, 2)}, append(wrote("w", 6, 4), f(notify.ChildFileClosed, "w", 6, 4))},
			"ITEM_UPLOAD file data/u 2\nITEM_CREATE folder data/v\nITEM_MODIFY file data/u 2\nITEM_UPLOAD file data/w 4", "ITEM_UPLOAD file data/u 2\nITEM_CREATE folder data/v\nITEM_UPLOAD file data/w 4"},
		{"of one that was unpacked", [][]notify.Notification{{f(notify.ChildFileAdded, "f", 5, 0)}, append(wrote("f", 5, 2), f(notify.ChildFileClosed, "f", 5, 2)), {f(notify.ChildMtimeChanged, "f", 5, 2)}, {d("v", 11)}},
			"ITEM_UPLOAD file data/f 2\nITEM_CREATE folder data/v", "="},
	} {
		if c.changes == "=" {
			c.changes = c.all
		}
		for _, each := range []int{1, 100} { // in a batch
			tree := servertest.New("/srv/data")
			tree.SetState(func(s *notify.RootState) { s.Closes = true })
			base := serve(t, tree, nil)
			for some := range slices.Chunk(c.batches, each) {
				tell(tree, slices.Concat(some...)...)
			}
			for stream, want := range map[string]string{"all": c.all, "changes": c.changes} {
				if got := sameWalks(t, base, stream, 9); got != want {
					t.Errorf("%s: stream_type=%s tells\n%s\nwant\n%s", c.name, stream, got, want)
				}
			}
		}
	}
}

// What goes on behind the end of a page is told where it ends, and what a page tells does not depend on where the one before ended.
func TestPagesEndAnywhere(t *testing.T) {
	type file struct {
		id   notify.FileID
		name string
		size int64
	}
	for _, closes := range []bool{true, false} {
		for seed := range uint64(2) {
			tree := servertest.New("/srv/data")
			tree.SetState(func(s *notify.RootState) { s.Closes = closes })
			base := serve(t, tree, nil)
			rnd := rand.New(rand.NewPCG(seed, 7))
			var files []*file
			var batch []notify.Notification
			next := notify.FileID(10)
			for range 300 {
				var f *file
				if len(files) > 0 {
					f = files[rnd.IntN(len(files))]
				}
				add := func(types ...notify.Type) {
					for _, typ := range types {
						batch = append(batch, notify.Notification{Type: typ, Path: f.name, Spine: notify.Spine{servertest.RootID, f.id}, Attr: notify.Attr{Mode: notify.ModeFile | 0o644, Size: f.size}})
					}
				}
				switch k := rnd.IntN(16); {
				case len(files) < 4 || k == 0:
					f = &file{id: next, name: fmt.Sprint("f", next)}
					files = append(files, f)
					next++
					add(notify.ChildFileAdded)
				case k < 5:
					f.size++
					add(notify.ChildDataWritten, notify.ChildSizeChanged, notify.ChildMtimeChanged)
				case k < 8:
					add(notify.ChildMtimeChanged)
				case k < 10 && closes:
					add(notify.ChildFileClosed)
				case k < 11:
					add(notify.ChildACLChanged)
				case k < 12:
					if len(batch) > 0 {
						tell(tree, batch...)
						batch = nil
					}
					from := notify.Notification{Type: notify.ChildFileMovedFrom, Path: f.name, Spine: notify.Spine{servertest.RootID, f.id}, Link: 2}
					f.name += "r"
					tell(tree, from, notify.Notification{Type: notify.ChildFileMovedTo, Path: f.name, Spine: from.Spine, Link: 1, Attr: notify.Attr{Size: f.size}})
				case k < 13:
					add(notify.ChildFileRemoved)
					files = slices.DeleteFunc(files, func(g *file) bool { return g == f })
				default:
					for range 1 + rnd.IntN(20)/19*70 { // sometimes more than is looked aside at
						batch = append(batch, notify.Notification{Type: notify.ChildDirAdded, Path: fmt.Sprint("d", next), Spine: notify.Spine{servertest.RootID, next}})
						next++
					}
				}
				if len(batch) > 0 && rnd.IntN(3) > 0 {
					tell(tree, batch...)
					batch = nil
				}
			}
			for _, stream := range []string{"all", "changes"} {
				if sameWalks(t, base, stream, 12); t.Failed() {
					t.Fatalf("with seed %d, and closes: %v", seed, closes)
				}
			}
		}
	}
}

func TestPositions(t *testing.T) {
	tree := servertest.New("/srv/data")
	base := serve(t, tree, func(o *server.Options) { o.Box.Delay = -1 })
	for i := range 10 {
		tree.Create(fmt.Sprint("f", i))
	}
	middle := tree.Log.Bounds().Newest()
	for i := range 5 {
		tree.Create(fmt.Sprint("g", i))
	}
	head := tree.Log.Bounds().Newest()
	count := func(position string) (int, notify.Seq) {
		p := readPage(t, get(t, base+"/2.0/events?stream_position="+position), false)
		return len(p.Entries), notify.Seq(p.Next)
	}
	for _, c := range []struct {
		position string
		events   int
	}{
		{"", 15}, {"0", 15}, {"null", 15}, {"now", 0}, {middle.String(), 5}, {head.String(), 0},
		{"1", 15},                   // not kept: from the oldest
		{(head + 4096).String(), 0}, // of a journal that is no more: from the head
		{"1152922976252290886", 0},  // Box's own
	} {
		if n, next := count(c.position); n != c.events || next != head {
			t.Errorf("stream_position=%s: %d events up to %d, want %d up to %d", c.position, n, next, c.events, head)
		}
	}
	tree.Log.Forget(12)
	if n, next := count(middle.String()); n != 3 || next != head {
		t.Errorf("from a position that was forgotten: %d events up to %d, want 3 up to %d", n, next, head)
	}
	tree.Log.KeepInMemory(1)
	if n, next := count("0"); n != 3 || next != head {
		t.Errorf("from disk: %d events up to %d, want 3 up to %d", n, next, head)
	}
	tree.Log.AppendDamaged()
	tree.Create("behind the damage")
	if n, next := count(head.String()); n != 1 || next != tree.Log.Bounds().Newest() {
		t.Errorf("over a damaged batch: %d events up to %d, want 1 up to %d", n, next, tree.Log.Bounds().Newest())
	}
	for _, bad := range []string{"-1", "x", "12x", "+5", "0x10", "1.5"} {
		status, _, body := ask(t, "GET", base+"/2.0/events?stream_position="+url.QueryEscape(bad))
		var e struct {
			Type, Code, Message string
			Status              int
			Context             struct {
				Errors []struct{ Reason, Name string }
			} `json:"context_info"`
			Request string `json:"request_id"`
		}
		if err := json.Unmarshal(body, &e); err != nil || status != 400 || e.Type != "error" || e.Status != 400 || e.Code != "bad_request" ||
			e.Request == "" || len(e.Context.Errors) != 1 || e.Context.Errors[0].Name != "stream_position" || e.Context.Errors[0].Reason != "invalid_parameter" {
			t.Errorf("stream_position=%s: %d %s", bad, status, body)
		}
	}
}

// A query that cannot be read is refused: without its position, all would be told from the beginning.
func TestUnreadableQueries(t *testing.T) {
	tree := servertest.New("/srv/data")
	base := serve(t, tree, func(o *server.Options) { o.Box.Delay = -1 })
	dir := tree.Mkdir("d").String()
	for _, query := range []string{"?limit=1&stream_position=123%", "?stream_position=1;limit=5", "?stream_position=%zz"} {
		for method, paths := range map[string][]string{"OPTIONS": {"/2.0/events"},
			"GET": {"/2.0/events", "/2.0/events/poll", "/2.0/folders/0", "/2.0/folders/" + dir, "/2.0/folders/" + dir + "/items"}} {
			for _, path := range paths {
				status, _, body := ask(t, method, base+path+query)
				if status != 400 || !strings.Contains(string(body), `"code":"bad_request"`) || !strings.Contains(string(body), "The query cannot be read: ") {
					t.Errorf("%s %s: %d %s", method, path+query, status, body)
				}
			}
		}
	}
}

// Who sends too much is told that it is the request that is wrong, in Box's word for it.
func TestABodyThatIsTooLarge(t *testing.T) {
	base := serve(t, servertest.New("/srv/data"), func(o *server.Options) { o.Box.Delay = -1 })
	c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, "POST /2.0/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\n\r\n")
	if b, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 413 ") || !strings.Contains(string(b), `"status":413,"code":"request_entity_too_large"`) {
		t.Errorf("%s, %v", b, err)
	}
}

// While a root is being indexed, what is created where nobody watches yet is never told: so no position says that all behind it will be.
func TestNoPositionWhileIndexing(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.Create("f")
	base := serve(t, tree, nil)
	for _, id := range []notify.FileID{0, servertest.RootID} { // before it is known, and when it is
		tree.SetState(func(s *notify.RootState) { s.ID, s.Phase, s.Progress = id, notify.Indexing, 0.42 })
		for _, path := range []string{"/2.0/events?stream_position=now", "/2.0/events", "/2.0/events?limit=0", "/2.0/events?stream_type=admin_logs&stream_position=now",
			"/2.0/events?stream_position=" + tree.Log.Bounds().Newest().String(), "/2.0/events/poll?stream_position=now", "/2.0/events/poll"} {
			status, h, body := ask(t, "GET", base+path)
			if status != 503 || h.Get("Retry-After") != "2" || !strings.Contains(string(body), `"code":"unavailable"`) || !strings.Contains(string(body), "42 %") {
				t.Errorf("GET %s while the root is being indexed: %d %v %s", path, status, h, body)
			}
		}
	}
	tree.SetState(func(s *notify.RootState) { s.Phase = notify.Live })
	p := readPage(t, get(t, base+"/2.0/events?stream_position=now"), false)
	tree.Create("g")
	if events, _ := follow(t, base, p.Next, nil); show(events) != "ITEM_UPLOAD file data/g 0" {
		t.Errorf("then comes:\n%s", show(events))
	}
}

// A root that a token sees nothing of may be indexed for as long as it takes.
func TestIndexingOutOfSight(t *testing.T) {
	tree := servertest.New("/srv/data")
	base := serve(t, tree, func(o *server.Options) {
		o.Auth = (*as)(&notify.Grant{Privileges: notify.Everything.Privileges, Prefixes: []string{"/srv/other"}})
	})
	tree.SetState(func(s *notify.RootState) { s.ID, s.Phase = 0, notify.Indexing })
	tree.Create("f")
	if p := readPage(t, get(t, base+"/2.0/events"), false); p.ChunkSize != 0 || p.Next != int64(tree.Log.Bounds().Newest()) {
		t.Errorf("of a root out of sight: %+v", p)
	}
}

// A page whose filter leaves little over looks at some of the journal only, and moves on; one that has nothing looks further.
func TestFilteredPagesMoveOn(t *testing.T) {
	tree := servertest.New("/srv/data")
	base := serve(t, tree, nil)
	tell(tree, notify.Notification{Type: notify.ChildFileAdded, Path: "f"})
	for range 9000 {
		tell(tree, notify.Notification{Type: notify.ChildACLChanged, Path: "f"})
	}
	tell(tree, notify.Notification{Type: notify.ChildFileRemoved, Path: "f"})
	p := readPage(t, get(t, base+"/2.0/events?stream_type=changes"), false)
	if len(p.Entries) != 1 || p.Next >= int64(tree.Log.Bounds().Newest()) {
		t.Fatalf("9,000 batches without a change: %d events, next %d of %d", len(p.Entries), p.Next, tree.Log.Bounds().Newest())
	}
	if body := get(t, base+fmt.Sprint("/2.0/events/poll?stream_type=changes&stream_position=", p.Next)); !strings.Contains(string(body), "new_change") {
		t.Fatalf("a poll that is behind says %s", body)
	}
	events, _ := follow(t, base, p.Next, values("stream_type", "changes"))
	if show(events) != "ITEM_TRASH file data/f 0 deleted" {
		t.Errorf("then:\n%s", show(events))
	}
	p = readPage(t, get(t, base+fmt.Sprint("/2.0/events?stream_type=admin_logs&event_type=DELETE&stream_position=", tree.Log.Bounds().Oldest())), true)
	if len(p.Entries) != 1 {
		t.Errorf("a rare type is not found in one page: %+v", p)
	}
}

func TestEnterpriseStreamsByTimeAndType(t *testing.T) {
	tree := servertest.New("/srv/data")
	base := serve(t, tree, nil)
	var at []time.Time
	for i := range 20 {
		tree.Create(fmt.Sprint("f", i))
		at = append(at, tree.Log.Bounds().Head.Time())
		if i%2 == 0 {
			tree.Write(fmt.Sprint("f", i), 5)
		}
	}
	tree.Remove("f3")
	form := func(i int) string { return at[i].Format("2006-01-02T15:04:05.000Z07:00") }
	for _, c := range []struct {
		name  string
		query url.Values
		want  int
	}{
		{"all", values(), 21},
		{"after", values("created_after", form(15)), 6},
		{"after, as another zone", values("created_after", at[15].In(time.FixedZone("", -8*3600)).Format("2006-01-02T15:04:05.000-07:00")), 6},
		{"before", values("created_before", form(15)), 15},
		{"between", values("created_after", form(5), "created_before", form(15)), 10},
		{"by type", values("event_type", "DELETE"), 1},
		{"by types", values("event_type", "DELETE, UPLOAD,nonsense", "limit", "2"), 21},
		{"a write that belongs to an upload which is not asked for", values("event_type", "EDIT"), 10},
		{"a write that belongs to an upload", values("event_type", "EDIT,UPLOAD"), 20},
		{"nothing at all", values("created_after", "2099-01-01T00:00:00Z"), 0},
	} {
		c.query.Set("stream_type", "admin_logs")
		events, next := follow(t, base, 0, c.query)
		if len(events) != c.want {
			t.Errorf("%s: %d events, want %d:\n%s", c.name, len(events), c.want, show(events))
		}
		if next <= 0 {
			t.Errorf("%s: next %d", c.name, next)
		}
	}
	// The same parameters elsewhere are passed over.
	for _, q := range []string{"stream_type=admin_logs_streaming&created_after=nonsense", "stream_type=all&event_type=DELETE&created_before=nonsense&fields=id,name"} {
		if events, _ := follow(t, base, 0, parse(t, q)); len(events) != 21 {
			t.Errorf("%s: %d events", q, len(events))
		}
	}
}

// What is filtered away takes nothing with it, however large the page.
func TestFiltersLoseNothing(t *testing.T) {
	for _, closes := range []bool{false, true} {
		tree := servertest.New("/srv/data")
		tree.SetState(func(s *notify.RootState) { s.Closes = closes })
		base := serve(t, tree, nil)
		file := notify.Attr{Mode: notify.ModeFile | 0o644}
		sized := file
		sized.Size = 5
		tell(tree, notify.Notification{Type: notify.ChildFileAdded, Path: "d/f", Attr: file}, notify.Notification{Type: notify.ChildFileClosed, Path: "d/f", Attr: file})
		tell(tree, notify.Notification{Type: notify.ChildDataWritten, Path: "d/f", Attr: sized}, notify.Notification{Type: notify.ChildFileClosed, Path: "d/f", Attr: sized})
		tell(tree, notify.Notification{Type: notify.ChildMtimeChanged, Path: "d/f", Attr: sized})
		tell(tree, notify.Notification{Type: notify.ChildFileMovedFrom, Path: "d/f", Link: 2, Spine: notify.Spine{servertest.RootID, 800, 900}},
			notify.Notification{Type: notify.ChildFileMovedTo, Path: "g", Link: 1})
		for filter, want := range map[string]string{
			"UPLOAD": "UPLOAD file data/f", "EDIT": "EDIT file data/f", "ITEM_MODIFY": "ITEM_MODIFY file data/f", "UPLOAD,EDIT,ITEM_MODIFY": "UPLOAD file data/f",
			"MOVE": "MOVE file data/g", "RENAME": "RENAME file data/g", "EDIT,RENAME": "EDIT file data/f\nRENAME file data/g",
		} {
			for _, limit := range []string{"1", "2", "500"} {
				events, _ := follow(t, base, 0, values("stream_type", "admin_logs", "event_type", filter, "limit", limit))
				if got := show(events); got != want {
					t.Errorf("event_type=%s&limit=%s tells\n%s\nwant\n%s", filter, limit, got, want)
				}
			}
		}
	}
}

func parse(t *testing.T, q string) url.Values {
	v, err := url.ParseQuery(q)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A file that is written to for a while is told when it is closed: once.
func TestWritesAreToldAtTheClose(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.SetState(func(s *notify.RootState) { s.Closes = true })
	base := serve(t, tree, func(o *server.Options) { o.Box.Hold = time.Hour })
	note := func(typ notify.Type, size int64) notify.Notification {
		return notify.Notification{Type: typ, Path: "f", Attr: notify.Attr{Size: size, Mode: notify.ModeFile | 0o644}}
	}
	setClock(tree)
	start := int64(tree.Log.Bounds().Newest())
	tell(tree, notify.Notification{Type: notify.ChildFileAdded, Path: "before", Spine: notify.Spine{servertest.RootID, 901}}, notify.Notification{Type: notify.ChildFileClosed, Path: "before", Spine: notify.Spine{servertest.RootID, 901}})
	tell(tree, note(notify.ChildFileAdded, 0))
	for i := range int64(20) {
		tell(tree, note(notify.ChildDataWritten, i), note(notify.ChildSizeChanged, i))
	}
	if events, _ := follow(t, base, start, nil); show(events) != "ITEM_UPLOAD file data/before 0" {
		t.Fatalf("while it is open:\n%s", show(events))
	}
	tell(tree, note(notify.ChildDataWritten, 77), note(notify.ChildFileClosed, 77))
	events, next := follow(t, base, start, nil)
	if show(events) != "ITEM_UPLOAD file data/before 0\nITEM_UPLOAD file data/f 77" || next != int64(tree.Log.Bounds().Newest()) {
		t.Fatalf("when it is closed:\n%s", show(events))
	}
	tell(tree, note(notify.ChildDataWritten, 78))
	tell(tree, note(notify.ChildDataWritten, 79))
	tell(tree, note(notify.ChildFileRemoved, 79))
	if events, _ = follow(t, base, next, nil); show(events) != "ITEM_UPLOAD file data/f 79\nITEM_TRASH file data/f 79 deleted" {
		t.Fatalf("removed before it was closed:\n%s", show(events))
	}
}

// A sweep finds files, and data in others, that nobody has written for long: no page waits for their close. One that changed a moment ago may be open.
func TestWhatASweepFindsIsToldAtOnce(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.SetState(func(s *notify.RootState) { s.Closes = true })
	base := serve(t, tree, func(o *server.Options) { o.Box.Hold = time.Hour })
	setClock(tree)
	start := int64(tree.Log.Bounds().Newest())
	note := func(typ notify.Type, path string, id notify.FileID, changed time.Time) notify.Notification {
		return notify.Notification{Type: typ, Path: path, Spine: notify.Spine{servertest.RootID, id}, Attr: notify.Attr{Size: 5, Mode: notify.ModeFile | 0o644, Ctime: changed.UnixNano()}}
	}
	now := time.Now()
	tell(tree, note(notify.ChildFileAdded, "old", 901, now.Add(-time.Minute)), note(notify.ChildDataWritten, "old", 901, now.Add(-time.Minute)), note(notify.ChildDataWritten, "older", 902, now.Add(-time.Hour)))
	tell(tree, note(notify.ChildFileAdded, "new", 903, now))
	if events, _ := follow(t, base, start, nil); show(events) != "ITEM_UPLOAD file data/old 5\nITEM_UPLOAD file data/older 5" {
		t.Errorf("after the sweep:\n%s", show(events))
	}
}

// setClock brings the journal to the present: what is being written is judged by its age.
func setClock(tree *servertest.Tree) { tree.Log.SkipTo(notify.NumberAt(time.Now())) }
