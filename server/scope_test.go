package server_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"fs_notify/notify"
	"fs_notify/server"
	"fs_notify/server/servertest"
)

// grants gives each request the grant that its header names.
type grants map[string]*notify.Grant

func (g grants) Authorize(r *http.Request) (*http.Request, error) {
	if grant := g[r.Header.Get("X-Grant")]; grant != nil {
		return r.WithContext(notify.WithGrant(r.Context(), grant)), nil
	}
	return r, nil
}

// sees is a client that may look below the given places, and do nothing that takes admin.
func sees(prefixes ...string) server.Auth {
	return grants{"some": {Prefixes: prefixes, Privileges: notify.MayNotify | notify.MayRecurse | notify.MayChanges}}
}

const some = "X-Grant: some"

func note(typ, path, spine string) string {
	return fmt.Sprintf(`{"type":%q,"spine":[%s],"path":%q,"stream_name":null}`, typ, spine, path)
}

// What lies outside a grant's prefixes is answered like what is not there, word for word, in every form of ref.
func TestOutsideIsAsIfAbsent(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.Mkdir("mine")
	tree.Mkdir("mine/sub")
	tree.Mkdir("theirs")
	tree.Create("theirs/f")
	tree.Create("theirs/both")
	tree.Link("theirs/both", "mine/sub/both")
	tree.Create("mine-too")
	url := serve(t, tree, func(o *server.Options) { o.Auth = sees("/srv/data/mine") })
	id := func(path string) string { return tree.Paths()[path].String() }
	for _, end := range []string{"/notify?timeout=0", "/notify?since=snapshot&timeout=0", "/entries", "/info/attributes", "/notify?last_event_id=%s&timeout=0"} {
		for _, ref := range [][2]string{
			{"%2Fsrv%2Fdata%2Ftheirs", "%2Fsrv%2Fdata%2Fnothere"}, {"srv/data/theirs", "srv/data/nothere"}, {"%2Fsrv%2Fdata", "%2Fnot%2Fhere"}, {"srv", "not"}, {"%2F", ""},
			{"srv/data/mine-too", "srv/data/nothere"}, {"srv/data/theirs/f", "srv/data/no/where"},
			{id("theirs"), "424242"}, {id("theirs/f"), "424242"}, {servertest.RootID.String(), "424242"},
		} {
			inside, outside := end, end
			if strings.Contains(end, "%s") {
				if strings.ContainsAny(ref[0], "%s") {
					continue
				}
				inside, outside = fmt.Sprintf(end, "4100095."+ref[0]), fmt.Sprintf(end, "4100095."+ref[1])
			}
			status, body := get(t, url+"/v1/files/"+ref[0]+inside, some, eventStream)
			want := body
			if ref[1] != "" {
				_, want = get(t, url+"/v1/files/"+ref[1]+outside, some, eventStream)
			}
			forget := strings.NewReplacer(ref[0], "REF", ref[1], "REF", strings.ReplaceAll(ref[0], "%2F", "/"), "REF", strings.ReplaceAll(ref[1], "%2F", "/"), "REF")
			if status != 404 || forget.Replace(body) != forget.Replace(want) {
				t.Errorf("%s%s: %d %s, want 404 as\n%s", ref[0], end, status, body, want)
			}
		}
	}
	for body, want := range map[string]string{
		`["` + id("mine/sub/both") + `"]`:                 `[{"id":"` + id("mine/sub/both") + `","path":"/srv/data/mine/sub/both"}]`, // not its first name
		`["` + id("mine") + `","` + id("theirs/f") + `"]`: "404",
		`["` + id("mine") + `","` + id("mine-too") + `"]`: "404",
		`["` + id("mine") + `","` + "424242" + `"]`:       "404",
		`["` + servertest.RootID.String() + `"]`:          "404",
		`["` + id("mine/sub") + `","` + id("mine") + `"]`: `[{"id":"` + id("mine/sub") + `","path":"/srv/data/mine/sub/"},{"id":"` + id("mine") + `","path":"/srv/data/mine/"}]`,
	} {
		status, got := post(t, url+"/v1/files/resolve", body, some)
		if want == "404" && status != 404 || want != "404" && strings.TrimSpace(got) != want {
			t.Errorf("resolve %s: %d %s, want %s", body, status, got, want)
		}
	}
	// An object with a name inside is seen under that name only.
	if status, body := get(t, url+"/v1/files/"+id("mine/sub/both")+"/info/attributes", some); status != 200 ||
		!strings.Contains(body, `"path":"/srv/data/mine/sub/both"`) || strings.Contains(body, "theirs") {
		t.Errorf("attributes by ID: %d %s", status, body)
	}
}

// While a root is away or being indexed, what it had outside is no other thing than what it never had.
func TestAwayRootHidesTheSame(t *testing.T) {
	tree := servertest.New("/srv/data")
	mine, theirs := tree.Mkdir("mine").String(), tree.Mkdir("theirs").String()
	url := serve(t, tree, func(o *server.Options) { o.Auth = sees("/srv/data/mine") })
	for _, phase := range []notify.RootPhase{notify.Away, notify.Indexing} {
		tree.SetState(func(s *notify.RootState) { s.Phase = phase })
		for _, end := range []string{"/notify?timeout=0", "/entries", "/info/attributes"} {
			if status, body := get(t, url+"/v1/files/"+mine+end, some); status != 503 {
				t.Errorf("%v: %s of what may be seen: %d %s", phase, end, status, body)
			}
			status, body := get(t, url+"/v1/files/"+theirs+end, some)
			never, want := get(t, url+"/v1/files/424242"+end, some)
			if status != never || strings.ReplaceAll(body, theirs, "424242") != want || strings.Contains(body, "/srv") {
				t.Errorf("%v: %s of what may not be seen: %d %s, want %d %s", phase, end, status, body, never, want)
			}
		}
	}
}

// post sends a body and gives status and answer.
func post(t *testing.T, url, body string, headers ...string) (int, string) {
	t.Helper()
	resp := send(t, url, body, headers...)
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// send posts a body and gives the answer.
func send(t *testing.T, url, body string, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		req.Header.Add(k, v)
	}
	resp, err := oneShot(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// The stream of a directory that lies in a prefix, live and replayed: what is renamed over the edge, and the end when it is taken away.
func TestScopedStream(t *testing.T) {
	tree := servertest.New("/srv/data")
	mine, sub := tree.Mkdir("mine"), tree.Mkdir("mine/sub")
	tree.Mkdir("theirs")
	url := serve(t, tree, func(o *server.Options) { o.Auth = sees("/srv/data/mine") })
	begin := head(tree, sub)
	outer := open(t, url+"/v1/files/srv/data/mine/notify?recursive=true", some, eventStream)
	inner := open(t, url+"/v1/files/srv/data/mine/sub/notify?recursive=true&fields=all", some, eventStream)
	outer.skip("retry")
	inner.skip("retry")

	a := tree.Create("theirs/a")
	tree.Rename("theirs/a", "mine/sub/a")
	told := outer.skip("data: ")
	if want := "data: [" + note("child_file_moved_to", "sub/a", fmt.Sprintf(`"%d","%d","%d"`, mine, sub, a)) + "]"; !strings.HasPrefix(told, want) {
		t.Errorf("into sight: %s, want %s", told, want)
	}
	if told := inner.skip("data: "); !strings.Contains(told, `"type":"child_file_moved_to"`) || !strings.Contains(told, `"link":null`) {
		t.Errorf("into sight with all fields: %s", told)
	}
	tree.Rename("mine/sub/a", "theirs/b")
	if told := inner.skip("data: "); !strings.Contains(told, `"type":"child_file_moved_from"`) || !strings.Contains(told, `"link":null`) || strings.Contains(told, "theirs") {
		t.Errorf("out of sight: %s", told)
	}
	tree.Create("mine/sub/last")
	inner.skip("data: ")
	tree.Rename("mine", "theirs/mine")
	tree.Create("theirs/mine/sub/unseen")
	left := inner.skip("data: ")
	if !strings.Contains(left, `[{"type":"self_removed","spine":["`+sub.String()+`"],"path":""`) {
		t.Errorf("taken out of sight: %s", left)
	}
	if rest, err := io.ReadAll(inner.r); err != nil || strings.Contains(string(rest), "unseen") {
		t.Errorf("behind the end comes %q, %v", rest, err)
	}
	if told := outer.skip("data: [" + strings.TrimSuffix(note("self_removed", "", `"`+mine.String()+`"`), "}")); told == "" {
		t.Error("the prefix itself was taken away, and nothing said so")
	}
	// Replayed, it is the same; nothing of what happened outside is in it. It is gone now, for this client.
	status, past := get(t, url+"/v1/files/srv/data/mine/sub/notify?recursive=true&last_event_id="+begin, some, eventStream)
	if status != 200 || strings.Contains(past, "theirs") || strings.Contains(past, "unseen") || strings.Count(past, "child_file_moved_to") != 1 ||
		strings.Count(past, "child_file_moved_from") != 1 || strings.Count(past, "self_removed") != 1 || !strings.Contains(past, `"path":"last"`) {
		t.Errorf("replayed: %d\n%s", status, past)
	}
	_, id, _ := fields(t, left)
	if status, body := get(t, url+"/v1/files/srv/data/mine/sub/notify?recursive=true&last_event_id="+id, some, eventStream); status != 404 {
		t.Errorf("after its end: %d %s", status, body)
	}
	if status, _ := get(t, url+"/v1/files/"+sub.String()+"/notify?timeout=0", eventStream); status != 200 {
		t.Errorf("for one who sees all it is still there: %d", status)
	}
}

// A directory that left the prefixes and came back: who was away meanwhile does not see what was done to it outside, and is told so.
func TestScopedDirectoryComesBack(t *testing.T) {
	for _, kept := range []int{-1, 0} {
		tree := servertest.New("/srv/data")
		tree.Mkdir("mine")
		tree.Mkdir("theirs")
		tree.Mkdir("mine/a")
		dir := tree.Mkdir("mine/a/d")
		tree.Log.KeepInMemory(kept)
		url := serve(t, tree, func(o *server.Options) { o.Auth = sees("/srv/data/mine") })
		for i, moved := range []string{"a/d", "a"} {
			begin := head(tree, dir)
			tree.Create(fmt.Sprint("mine/a/d/before", i))
			tree.Rename("mine/"+moved, "theirs/it")
			tree.Create(fmt.Sprint("theirs/it", strings.TrimPrefix("a/d", moved), "/unseen", i))
			tree.Rename("theirs/it", "mine/"+moved)
			path := url + "/v1/files/" + dir.String() + "/notify?last_event_id="
			s := open(t, path+begin, some, eventStream)
			if told := s.skip("data: "); !strings.Contains(told, `"path":"before`) {
				t.Errorf("%s: first %s", moved, told)
			}
			gone := s.skip("data: ")
			if rest := s.block(); !strings.Contains(gone, `{"type":"self_removed","spine":["`+dir.String()+`"],"path":""`) || rest != "" {
				t.Errorf("%s: then %s, and %q, want self_removed and the end", moved, gone, rest)
			}
			// It is there again, and can be watched anew.
			_, id, _ := fields(t, gone)
			s = open(t, path+id, some, eventStream)
			s.skip("retry")
			tree.Create(fmt.Sprint("mine/a/d/after", i))
			if told := s.skip("data: "); !strings.Contains(told, `"path":"after`) {
				t.Errorf("%s: watched anew it tells %s", moved, told)
			}
			s.close()
		}
	}
}

func TestGlobs(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.Mkdir("d")
	tree.Mkdir("d/.git")
	tree.Create("d/.git/config")
	tree.Create("d/a.txt")
	tree.Create("d/b.tmp")
	url := serve(t, tree, nil)
	q := "?recursive=true&exclude=.git/**&exclude=**/*.tmp"
	s := open(t, url+"/v1/files/srv/data/d/notify"+q+"&since=snapshot", eventStream)
	if told := s.skip("data: ["); strings.Contains(told, ".git") || strings.Contains(told, "b.tmp") || !strings.Contains(told, "a.txt") {
		t.Errorf("snapshot: %s", told)
	}
	s.skip("id: ")
	tree.Create("d/.git/HEAD")
	tree.Rename("d/b.tmp", "d/b.txt")
	if told := s.skip("data: ["); !strings.Contains(told, `"child_file_moved_to"`) || strings.Contains(told, "b.tmp") {
		t.Errorf("into sight: %s", told)
	}
	tree.Rename("d/a.txt", "d/.git/a")
	if told := s.skip("data: ["); !strings.Contains(told, `"child_file_moved_from"`) || strings.Contains(told, ".git") {
		t.Errorf("out of sight: %s", told)
	}
	if _, list := get(t, url+"/v1/files/srv/data/d/entries"+q); strings.Contains(list, ".git") || !strings.Contains(list, `[`+"\n"+`{"id":`) {
		t.Errorf("entries: %s", list)
	}
	if _, list := get(t, url+"/v1/files/srv/data/d/entries?include=*.txt&recursive=1"); strings.Count(list, `"path"`) != 1 {
		t.Errorf("entries of one glob: %s", list)
	}
	for _, no := range []string{"notify?include=[", "notify?exclude=%7B/srv/x,/srv/y%7D", "entries?exclude=x/%7B..,.%7D/y"} {
		if status, body := get(t, url+"/v1/files/srv/data/d/"+no, eventStream); status != 400 || !strings.Contains(body, "glob") {
			t.Errorf("%s: %d %s", no, status, body)
		}
	}
}

func TestPrivileges(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.Mkdir("d")
	url := serve(t, tree, func(o *server.Options) {
		o.Auth = grants{"one": {Privileges: notify.MayNotify}, "none": {Privileges: notify.MayAdmin}}
	})
	for _, tt := range []struct {
		path, grant string
		want        int
	}{
		{"/notify?timeout=0", "one", 200}, {"/notify?timeout=0&recursive=true", "one", 403}, {"/entries?recursive=1", "one", 403}, {"/entries", "one", 200},
		{"/notify?timeout=0", "none", 403}, {"/entries", "none", 403}, {"/info/attributes", "none", 403},
	} {
		if status, body := get(t, url+root+tt.path, "X-Grant: "+tt.grant, eventStream); status != tt.want {
			t.Errorf("%s as %s: %d %s, want %d", tt.path, tt.grant, status, body, tt.want)
		}
	}
	if status, _ := post(t, url+"/v1/files/resolve", `["2"]`, "X-Grant: none"); status != 403 {
		t.Errorf("resolve: %d, want 403", status)
	}
}

// Who did it is for administrators.
func TestActorTakesAdmin(t *testing.T) {
	tree := servertest.New("/srv/data")
	url := serve(t, tree, func(o *server.Options) { o.Auth = sees("/srv") })
	user := open(t, url+root+"/notify?fields=all", some, eventStream)
	admin := open(t, url+root+"/notify?fields=all", eventStream)
	user.skip("retry")
	admin.skip("retry")
	tree.Log.Append(servertest.RootID, notify.Notification{Type: notify.ChildFileAdded, Path: "f", Spine: notify.Spine{servertest.RootID, 9},
		Actor: &notify.Actor{PID: 42, UID: 7, Command: "secret-tool"}})
	if told := user.skip("data: "); !strings.Contains(told, `"actor":null`) || strings.Contains(told, "secret") {
		t.Errorf("without admin: %s", told)
	}
	if told := admin.skip("data: "); !strings.Contains(told, `"actor":{"pid":42,"uid":7,"command":"secret-tool"}`) {
		t.Errorf("with admin: %s", told)
	}
}
