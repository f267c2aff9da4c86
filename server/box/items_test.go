package box_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/feed"
	"fs_notify/server"
	"fs_notify/server/box"
	"fs_notify/server/servertest"
)

// items reads a page of a folder.
func items(t *testing.T, url string) rcloneItems {
	t.Helper()
	b := get(t, url)
	var raw any
	var p rcloneItems
	if err := json.Unmarshal(b, &raw); err != nil {
		t.Fatal(err)
	}
	strict(t, "items", raw)
	if err := json.Unmarshal(b, &p); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return p
}

func TestFoldersAndFiles(t *testing.T) {
	tree := servertest.New("/srv/data")
	base := serve(t, tree, func(o *server.Options) { o.Box.Delay = -1 })
	dir := tree.Mkdir("dir")
	sub := tree.Mkdir("dir/sub")
	file := tree.Create("dir/sub/file")
	tree.Write("dir/sub/file", 42)
	for i := range 25 {
		tree.Create(fmt.Sprintf("dir/f%02d", i))
	}
	events, _ := follow(t, base, 0, nil)
	seq := map[string]int64{}
	for i := range events {
		seq[events[i].Source.ID] = events[i].Source.SequenceID
	}
	// From the top down: All Files, the root, and so on.
	top := items(t, base+"/2.0/folders/0/items")
	if top.Total != 1 || top.Entries[0].Name != "data" || top.Entries[0].Type != "folder" || top.Entries[0].ID != servertest.RootID.String() || top.Entries[0].Parent.ID != "0" {
		t.Fatalf("All Files: %+v", top)
	}
	var all []string
	for offset := 0; ; offset += 10 {
		p := items(t, base+fmt.Sprintf("/2.0/folders/%s/items?limit=10&offset=%d&fields=name", dir, offset))
		if p.Total != 26 || p.Limit != 10 || p.Offset != offset {
			t.Fatalf("from %d: %+v", offset, p)
		}
		if len(p.Entries) == 0 {
			break
		}
		for _, e := range p.Entries {
			all = append(all, e.Name)
			if e.SequenceID != seq[e.ID] {
				t.Errorf("sequence_id of %s is %d in the folder, %d in its last event", e.Name, e.SequenceID, seq[e.ID])
			}
			if e.Parent.ID != dir.String() || e.PathCollection.Total != 3 {
				t.Errorf("%s lies in %+v", e.Name, e)
			}
		}
	}
	if len(all) != 26 || all[0] != "sub" || all[1] != "f00" || all[25] != "f24" {
		t.Errorf("pages by offset: %v", all)
	}
	// By marker, while things come and go: what stays is listed once.
	seen := map[string]int{}
	for marker, pages := new(string), 0; marker != nil; pages++ { // as rclone does
		if pages > 4 {
			t.Fatalf("26 items in pages of 7 do not end: %v", seen)
		}
		p := items(t, base+fmt.Sprintf("/2.0/folders/%s/items?limit=7&usemarker=true&marker=%s", dir, *marker))
		for _, e := range p.Entries {
			seen[e.Name]++
		}
		if pages == 0 {
			tree.Remove("dir/f00")
			tree.Create("dir/a new one")
		}
		marker = p.Marker
	}
	for _, name := range all[2:] {
		if seen[name] != 1 {
			t.Errorf("%s is listed %d times by marker", name, seen[name])
		}
	}
	// One by one.
	var f rcloneItem
	if err := json.Unmarshal(get(t, base+"/2.0/files/"+file.String()), &f); err != nil || f.Size != 42 || f.Name != "file" || f.SequenceID != seq[file.String()] ||
		f.PathCollection.Total != 4 || f.PathCollection.Entries[2].Name != "dir" || f.PathCollection.Entries[3].ID != sub.String() {
		t.Errorf("file: %+v, %v", f, err)
	}
	var folder struct {
		rcloneItem
		Items rcloneItems `json:"item_collection"`
	}
	if err := json.Unmarshal(get(t, base+"/2.0/folders/"+sub.String()), &folder); err != nil || folder.Name != "sub" || folder.Items.Total != 1 || folder.Items.Entries[0].ID != file.String() {
		t.Errorf("folder: %+v, %v", folder, err)
	}
	if err := json.Unmarshal(get(t, base+"/2.0/folders/0"), &struct{ ID string }{}); err != nil {
		t.Error(err)
	}
	// A folder's etag stays as it is when something comes into it: no 304 may say that nothing has.
	tree.Create("dir/sub/another")
	req, _ := http.NewRequest("GET", base+"/2.0/folders/"+sub.String(), nil)
	req.Header.Set("If-None-Match", fmt.Sprintf("%q", folder.Etag))
	if resp, err := http.DefaultTransport.RoundTrip(req); err != nil || resp.StatusCode != 200 {
		t.Errorf("If-None-Match of a folder: %v, %v", resp, err)
	} else if b, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(b), `"name":"another"`) {
		t.Errorf("the folder: %s, %v", b, err)
	}
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/2.0/files/" + dir.String(), 404}, {"GET", "/2.0/folders/" + file.String(), 404}, {"GET", "/2.0/files/12345", 404}, {"GET", "/2.0/files/x", 404},
		{"GET", "/2.0/files/0", 404}, {"GET", "/2.0/folders/" + file.String() + "/items", 404}, {"GET", "/2.0/files", 404}, {"GET", "/2.0/", 404},
		{"GET", "/2.0/users/me", 404}, {"GET", "/2.0/events/other", 404}, {"GET", "/2.0/files/1/items", 404},
		{"GET", "/2.0/folders/0/items?offset=-1", 400}, {"GET", "/2.0/folders/0/items?usemarker=true&marker=%21", 400}, {"GET", "/2.0/folders/0/items?usemarker=maybe", 400},
		{"GET", "/2.0/events?stream_type=mine", 400}, {"OPTIONS", "/2.0/events?stream_type=admin_logs", 400}, {"GET", "/2.0/events/poll?stream_type=admin_logs", 400},
		{"GET", "/2.0/events?stream_type=admin_logs&created_after=yesterday", 400}, {"POST", "/2.0/events", 405}, {"DELETE", "/2.0/files/1", 405},
	} {
		status, h, body := ask(t, c.method, base+c.path)
		var e struct {
			Type, Code, Message string
			Status              int
			Request             string `json:"request_id"`
		}
		code := map[int]string{400: "bad_request", 404: "not_found", 405: "method_not_allowed"}[c.status]
		if err := json.Unmarshal(body, &e); err != nil || status != c.status || e.Status != status || e.Type != "error" || e.Code != code || e.Message == "" || e.Request == "" ||
			h.Get("Box-Request-Id") == "" || h.Get("Box-Request-Id") == e.Request {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, body)
		}
	}
	if status, _, body := ask(t, "GET", base+"/2.0/folders/0/items?offset=2147483648"); status != 400 || !strings.Contains(string(body), "a number up to 2147483647") {
		t.Errorf("an offset that is too large: %d %s", status, body)
	}
}

// A file is asked for again with the tag that it had: nothing is sent as long as nothing of what is shown has changed, and its folder's name is shown with it.
func TestAFileThatIsAskedForAgain(t *testing.T) {
	tree := servertest.New("/srv/data")
	base := serve(t, tree, nil)
	tree.Mkdir("dir")
	file := tree.Create("dir/f").String()
	again := func(match ...string) (int, http.Header, string) {
		t.Helper()
		req, _ := http.NewRequest("GET", base+"/2.0/files/"+file, nil)
		req.Header["If-None-Match"] = match
		status, h, b := do(t, req)
		return status, h, string(b)
	}
	_, h, before := again()
	tag := h.Get("ETag")
	for _, match := range [][]string{{tag}, {"W/" + tag}, {`"other", ` + tag}, {`"other"`, tag}, {"*"}} {
		if status, h, b := again(match...); status != 304 || b != "" || h.Get("ETag") != tag || h.Get("Box-Request-Id") == "" {
			t.Errorf("If-None-Match: %q: %d %v %s", match, status, h, b)
		}
	}
	for _, match := range []string{`"other"`, "", strings.Trim(tag, `"`)} {
		if status, _, b := again(match); status != 200 || b != before {
			t.Errorf("If-None-Match: %q: %d %s", match, status, b)
		}
	}
	tree.Rename("dir", "new")
	if status, h, b := again(tag); status != 200 || h.Get("ETag") == tag || strings.Count(b, `"name":"new"`) != 2 {
		t.Errorf("in a folder that was renamed: %d %v %s", status, h, b)
	}
}

func TestGrants(t *testing.T) {
	tree := servertest.New("/srv/data")
	open := tree.Mkdir("open")
	tree.Mkdir("open/in")
	secret := tree.Mkdir("secret")
	tree.Mkdir("open-not")
	inside := tree.Create("open/in/f")
	hidden := tree.Create("secret/s")
	tree.Rename("open/in/f", "open/in/g")
	tree.Rename("secret/s", "open/in/s") // comes into sight
	tree.Rename("open/in/s", "secret/s") // and goes
	tree.Write("secret/s", 5)
	n := notify.Notification{Type: notify.ChildFileAdded, Path: "open/by", Spine: notify.Spine{servertest.RootID, open, 950}, Actor: &notify.Actor{UID: 33}}
	tell(tree, n)

	narrow := serve(t, tree, func(o *server.Options) {
		o.Box.Delay = -1
		o.Auth = &as{Name: "narrow", Prefixes: []string{"/srv/data/open"}, Privileges: notify.MayChanges}
	})
	events, _ := follow(t, narrow, 0, nil)
	if want := "ITEM_CREATE folder data/open\nITEM_CREATE folder data/open/in\nITEM_UPLOAD file data/open/in/f 0\nITEM_RENAME file data/open/in/g 0\n" +
		"ITEM_UPLOAD file data/open/in/s 0\nITEM_TRASH file data/open/in/s 0 deleted\nITEM_UPLOAD file data/open/by 0"; show(events) != want {
		t.Errorf("below open:\n%s\nwant\n%s", show(events), want)
	}
	for i := range events {
		if events[i].CreatedBy.ID != "2" {
			t.Errorf("who did it is told to one who may not know: %+v", events[i])
		}
	}
	if p := items(t, narrow+"/2.0/folders/0/items"); p.Total != 1 {
		t.Errorf("All Files: %+v", p)
	}
	if p := items(t, narrow+"/2.0/folders/"+servertest.RootID.String()+"/items"); p.Total != 1 || p.Entries[0].Name != "open" {
		t.Errorf("the root, on the way down: %+v", p)
	}
	for _, c := range []struct {
		path   string
		status int
		code   string
	}{
		{"folders/" + open.String(), 200, ""}, {"files/" + inside.String(), 200, ""}, {"folders/" + secret.String(), 404, "not_found"}, {"folders/" + secret.String() + "/items", 404, "not_found"},
		{"files/" + hidden.String(), 404, "not_found"}, {"events?stream_type=admin_logs", 403, "insufficient_scope"}, {"events?stream_type=admin_logs_streaming", 403, "insufficient_scope"},
	} {
		if status, _, body := ask(t, "GET", narrow+"/2.0/"+c.path); status != c.status || !strings.Contains(string(body), c.code) {
			t.Errorf("%s: %d %s, want %d %s", c.path, status, body, c.status, c.code)
		}
	}
	// A poll does not wake of what may not be seen.
	answers := poll(t, http.DefaultClient, narrow+"/2.0/events/poll?stream_position=now", 1)
	select {
	case got := <-answers:
		t.Fatalf("a poll at the head says %s", got)
	case <-time.After(50 * time.Millisecond):
	}
	tree.Write("secret/s", 6)
	select {
	case got := <-answers:
		t.Fatalf("what is secret wakes a poll: %s", got)
	case <-time.After(50 * time.Millisecond):
	}
	tree.Write("open/in/g", 6)
	want(t, answers, 1, "new_change")

	wide := serve(t, tree, func(o *server.Options) { o.Auth = &as{Privileges: notify.MayAll} })
	events, _ = follow(t, wide, 0, nil)
	by := ""
	for i := range events {
		if events[i].Source.Name == "by" {
			by = events[i].CreatedBy.Login
		}
	}
	if by != "uid:33" {
		t.Errorf("who did it: %q", by)
	}

	none := serve(t, tree, func(o *server.Options) {
		o.Box.Delay = -1
		o.Auth = &as{Privileges: notify.MayNotify | notify.MayRecurse}
	})
	for _, path := range []string{"events", "events/poll?stream_position=now", "folders/0", "folders/0/items", "files/" + inside.String()} {
		if status, _, body := ask(t, "GET", none+"/2.0/"+path); status != 403 {
			t.Errorf("%s without the privilege: %d %s", path, status, body)
		}
	}
	if status, _, _ := ask(t, "OPTIONS", none+"/2.0/events"); status != 403 {
		t.Errorf("OPTIONS without the privilege: %d", status)
	}
	nobody := serve(t, tree, func(o *server.Options) {
		o.Box.Delay = -1
		o.Auth = refuse{}
	})
	if status, h, body := ask(t, "GET", nobody+"/2.0/events"); status != 401 || !strings.Contains(string(body), `"code":"unauthorized"`) || h.Get("WWW-Authenticate") == "" {
		t.Errorf("without a token: %d %v %s", status, h, body)
	}
}

type refuse struct{}

func (refuse) Authorize(r *http.Request) (*http.Request, error) {
	return nil, &notify.Error{Op: "test", Kind: notify.Unauthorized}
}

// Box's SDK for Node 10 repeats a refused request at once, for ever: the answer takes its time.
func TestRefusalsAreDelayed(t *testing.T) {
	tree := servertest.New("/srv/data")
	synctest.Test(t, func(t *testing.T) {
		a := box.New(box.Options{Files: tree, Feed: feed.New(tree.Log, feed.Options{}), Delay: time.Minute})
		for status, delay := range map[int]time.Duration{400: time.Minute, 401: time.Minute, 403: time.Minute, 405: time.Minute, 404: 0, 500: 0, 503: 0} {
			start := time.Now()
			a.WriteError(httptest.NewRecorder(), httptest.NewRequest("GET", "/2.0/events", nil), status, &notify.Error{})
			if took := time.Since(start); took != delay {
				t.Errorf("%d takes %v, want %v", status, took, delay)
			}
		}
	})
}

// Hard links are one item: when one of its names goes, it moves to one that is left. If that may not be seen, it moves to one that it has now, or it is trashed.
func TestAHardLinkThatGoesIsNoEnd(t *testing.T) {
	tree := servertest.New("/srv/data")
	seen := as(*notify.Everything)
	base := serve(t, tree, func(o *server.Options) { o.Auth = &seen })
	id := tree.Create("a")
	loses := func(stays, goes string, id notify.FileID) {
		spine := notify.Spine{servertest.RootID, id}
		tell(tree, notify.Notification{Type: notify.ChildLinkStays, Path: stays, Spine: spine}, notify.Notification{Type: notify.ChildFileRemoved, Path: goes, Spine: spine})
	}
	loses("then", "b", id)
	loses("then", "c", 950)
	for _, c := range []struct {
		prefixes []string
		want     string
	}{
		{nil, "ITEM_UPLOAD file data/a 0\nITEM_MOVE file data/then 0\nITEM_MOVE file data/then 0"},
		{[]string{"/srv/data/a", "/srv/data/b", "/srv/data/c"}, "ITEM_UPLOAD file data/a 0\nITEM_MOVE file data/a 0\nITEM_TRASH file data/c 0 deleted"},
	} {
		seen.Prefixes = c.prefixes
		if events, _ := follow(t, base, 0, nil); show(events) != c.want {
			t.Errorf("who sees %q is told\n%s\nwant\n%s", c.prefixes, show(events), c.want)
		}
	}
}

// A name of a file is moved out of sight, and another one stays: the item moves to that. Without another one it is trashed.
func TestAHardLinkThatIsMovedOutOfSightIsNoEnd(t *testing.T) {
	tree := servertest.New("/srv/data")
	base := serve(t, tree, func(o *server.Options) {
		o.Auth = &as{Prefixes: []string{"/srv/data/in"}, Privileges: notify.MayAll}
	})
	tree.Mkdir("in")
	tree.Mkdir("out")
	tree.Create("in/a")
	tree.Link("in/a", "in/b")
	tree.Create("in/c")
	tree.Link("in/c", "out/d")
	start := int64(tree.Log.Bounds().Newest())
	tree.Rename("in/a", "out/a")
	tree.Rename("in/c", "out/c")
	if events, _ := follow(t, base, start, nil); show(events) != "ITEM_MOVE file data/in/b 0\nITEM_TRASH file data/in/c 0 deleted" {
		t.Errorf("it is told as\n%s", show(events))
	}
}

// While the root is away nobody knows which names a file has left: that is no reason to tell its end.
func TestAHardLinkThatGoesWhileTheRootIsAway(t *testing.T) {
	tree := servertest.New("/srv/data")
	base := serve(t, tree, func(o *server.Options) {
		o.Auth = &as{Prefixes: []string{"/srv/data/a", "/srv/data/b"}, Privileges: notify.MayAll}
	})
	spine := notify.Spine{servertest.RootID, tree.Create("a")}
	tell(tree, notify.Notification{Type: notify.ChildLinkStays, Path: "then", Spine: spine}, notify.Notification{Type: notify.ChildFileRemoved, Path: "b", Spine: spine})
	tree.SetState(func(s *notify.RootState) { s.Phase = notify.Away })
	if status, h, body := ask(t, "GET", base+"/2.0/events"); status != 503 || !strings.Contains(string(body), `"code":"unavailable"`) {
		t.Errorf("while the root is away: %d %v %s", status, h, body)
	}
	tree.SetState(func(s *notify.RootState) { s.Phase = notify.Live })
	if events, _ := follow(t, base, 0, nil); show(events) != "ITEM_UPLOAD file data/a 0\nITEM_MOVE file data/a 0" {
		t.Errorf("then:\n%s", show(events))
	}
}

// While a root is away, an ID in it that may not be seen is as unknown as any.
func TestAnItemOutOfSightWhileTheRootIsAway(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.Mkdir("a")
	mine, theirs := tree.Create("a/mine"), tree.Create("theirs")
	base := serve(t, tree, func(o *server.Options) {
		o.Auth = &as{Prefixes: []string{"/srv/data/a"}, Privileges: notify.MayAll}
	})
	tree.SetState(func(s *notify.RootState) { s.Phase = notify.Away })
	for id, want := range map[notify.FileID]int{mine: 503, theirs: 404, 424242: 404} {
		if status, _, body := ask(t, "GET", base+"/2.0/files/"+id.String()); status != want {
			t.Errorf("file %d: %d %s, want %d", id, status, body, want)
		}
	}
}

// counted counts how many snapshots are made at once, each of which takes until it is told to end.
type counted struct {
	*servertest.Tree
	began, end chan struct{}
}

func (c *counted) Snapshot(ctx context.Context, dir notify.FileID, recursive bool) (*notify.Snapshot, error) {
	c.began <- struct{}{}
	<-c.end
	return c.Tree.Snapshot(ctx, dir, recursive)
}

// A few folders are listed at once, the others wait for their turn: each takes as much memory as it has items. Events go on meanwhile.
func TestAFewListingsAtOnce(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.Create("f")
	files := &counted{tree, make(chan struct{}, 100), make(chan struct{})}
	base := serve(t, tree, func(o *server.Options) { o.Files = files })
	const n = 20
	done := make(chan int, n)
	for range n {
		go func() {
			resp, err := http.Get(base + "/2.0/folders/" + servertest.RootID.String() + "/items?limit=1")
			if err != nil {
				done <- 0
				return
			}
			resp.Body.Close()
			done <- resp.StatusCode
		}()
	}
	for range 4 {
		<-files.began
	}
	for range 5 { // requests that go by
		if events, _ := follow(t, base, 0, nil); len(events) != 1 {
			t.Fatalf("while folders are listed: %d events", len(events))
		}
	}
	if more := len(files.began); more > 0 {
		t.Errorf("%d listings at once", 4+more)
	}
	close(files.end)
	for range n {
		if status := <-done; status != 200 {
			t.Errorf("a listing is answered with %d", status)
		}
	}
}
