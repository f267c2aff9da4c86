package onedata_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/feed/feedtest"
	"fs_notify/server"
	"fs_notify/server/onedata"
	"fs_notify/server/servertest"
)

// patience is how long a test waits for what must come before it fails.
const patience = 90 * time.Second

// everything asks for all that can be told of a document that changed.
const everything = `{"fileMeta":{"fields":["name","type","mode","owner","provider_id","shares","deleted"]},
	"fileLocation":{"fields":["provider_id","storage_id","size","space_id","storage_file_created"]},
	"times":{"fields":["atime","mtime","ctime"]},
	"customMetadata":{"fields":["onedata_json","onedata_rdf","onedata_keyvalue","license"],"exists":["onedata_json","onedata_keyvalue","license"]}}`

// service is a server for a tree in memory.
type service struct {
	t      testing.TB
	url    string
	stop   func()
	server *server.Server
	log    *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func serve(t testing.TB, tree *servertest.Tree, change func(*server.Options)) *service {
	t.Helper()
	s := &service{t: t, log: &syncBuffer{}}
	o := server.Options{Files: tree, Journal: tree.Log, Version: "test", Log: slog.New(slog.NewTextHandler(s.log, nil))}
	if change != nil {
		change(&o)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background()) // t.Context() would end before the clients are closed
	done := make(chan error, 1)
	s.server = server.New(o)
	go func() { done <- s.server.Serve(ctx, l) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(patience):
			t.Error("Serve does not end")
		}
	})
	t.Cleanup(s.stop)
	s.url = "http://" + l.Addr().String() + onedata.Prefix
	return s
}

// do sends a request with headers "Key: value".
func (s *service) do(method, path, body string, headers ...string) *http.Response {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	s.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		req.Header.Add(k, v)
	}
	tr := &http.Transport{DisableKeepAlives: true}
	s.t.Cleanup(tr.CloseIdleConnections)
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

const jsonBody = "Content-Type: application/json"

func changes(query string) string {
	return "changes/metadata/" + servertest.RootID.String() + "?" + query
}

// line is one line of a stream, decoded as strictly as it has to be written.
type line struct {
	FileID         *string `json:"fileId"`
	FilePath       *string `json:"filePath"`
	Seq            notify.Seq
	FileMeta       *rec `json:"fileMeta"`
	FileLocation   *rec `json:"fileLocation"`
	Times          *rec `json:"times"`
	CustomMetadata *rec `json:"customMetadata"`
}

type rec struct {
	Rev      string
	Mutators []string
	Changed  bool
	Deleted  bool
	Fields   map[string]any
	Exists   map[string]bool
}

func (l *line) records() map[string]*rec {
	return map[string]*rec{"fileMeta": l.FileMeta, "fileLocation": l.FileLocation, "times": l.Times, "customMetadata": l.CustomMetadata}
}

// changed is the record that the line is about.
func (l *line) changed() (name string, r *rec) {
	for n, r := range l.records() {
		if r != nil && r.Changed {
			return n, r
		}
	}
	return "", nil
}

// String is the record that changed, its mark if deleted, and the path.
func (l line) String() string {
	name, r := l.changed()
	if r != nil && r.Deleted {
		name += " deleted"
	}
	return strings.TrimSuffix(strings.TrimPrefix(name+" "+strings.TrimPrefix(*l.FilePath, "/srv/data/"), " "), " ")
}

func decode(t testing.TB, text string) line {
	t.Helper()
	var l line
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil || l.FileID == nil || l.FilePath == nil {
		t.Fatalf("%q: %v", text, err)
	}
	return l
}

// lines splits a whole answer.
func lines(t testing.TB, body string) (out []line) {
	t.Helper()
	if body == "" {
		return nil
	}
	whole, ok := strings.CutSuffix(body, "\r\n")
	if !ok {
		t.Fatalf("the answer ends in %q", body[max(len(body)-50, 0):])
	}
	for text := range strings.SplitSeq(whole, "\r\n") {
		out = append(out, decode(t, text))
	}
	for i := 1; i < len(out); i++ {
		if out[i].Seq <= out[i-1].Seq {
			t.Errorf("seq %d comes after %d", out[i].Seq, out[i-1].Seq)
		}
	}
	return out
}

// read reads what there is, from a place on.
func (s *service) read(query, spec string, headers ...string) string {
	s.t.Helper()
	resp := s.do("POST", changes("timeout=0&"+query), spec, append(headers, jsonBody)...)
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json" {
		s.t.Fatalf("%s: %s %v %s %v", query, resp.Status, resp.Header, b, err)
	}
	return string(b)
}

func show(ls []line) string {
	var b strings.Builder
	for _, l := range ls {
		fmt.Fprintln(&b, l)
	}
	return b.String()
}

func TestLineToTheByte(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.Mkdir("d\xff")
	tree.Create("d\xff/f") // 102
	tree.SetUserXattrs("d\xff/f", map[string]string{"onedata_json": `{"a": [1, "é"]}`, "license": "CC-0"})
	s := serve(t, tree, nil)
	ls := strings.Split(s.read("last_seq=0", strings.ReplaceAll(everything, `]}`, `],"always":true}`)), "\r\n")
	got := ls[len(ls)-3] // customMetadata, before times
	want := `{"customMetadata":{"changed":true,"deleted":false,"exists":{"license":true,"onedata_json":true,"onedata_keyvalue":true},` +
		`"fields":{"license":"CC-0","onedata_json":{"a":[1,"é"]},"onedata_keyvalue":{"license":"CC-0"},"onedata_rdf":null},"mutators":["fs_notify"],"rev":"REV"},` +
		`"fileId":"00000000000AC55F` + fmt.Sprintf("%X", "guid#102#2") + `",` +
		`"fileLocation":{"changed":false,"deleted":false,"fields":{"provider_id":"fs_notify","size":0,"space_id":"2","storage_file_created":true,"storage_id":"2"},"mutators":["fs_notify"],"rev":"REV"},` +
		`"fileMeta":{"changed":false,"deleted":false,"fields":{"deleted":false,"mode":420,"name":"f","owner":"1000","provider_id":"fs_notify","shares":[],"type":"REG"},"mutators":["fs_notify"],"rev":"REV"},` +
		`"filePath":"/srv/data/d\udcff/f","seq":SEQ,` +
		`"times":{"changed":false,"deleted":false,"fields":{"atime":1700000000,"ctime":1700000000,"mtime":1700000000},"mutators":["fs_notify"],"rev":"REV"}}`
	l := decode(t, got)
	revs := map[string]bool{}
	for _, r := range l.records() {
		n, hex, _ := strings.Cut(r.Rev, "-")
		if n != l.Seq.String() || len(hex) != 32 || strings.Trim(hex, "0123456789abcdef") != "" || revs[hex] {
			t.Errorf("a rev is %q in line %d", r.Rev, l.Seq)
		}
		revs[hex] = true
		got = strings.ReplaceAll(got, r.Rev, "REV")
	}
	got = strings.ReplaceAll(got, `"seq":`+l.Seq.String(), `"seq":SEQ`)
	got = strings.ReplaceAll(got, `"owner":`+fmt.Sprintf("%q", l.FileMeta.Fields["owner"]), `"owner":"1000"`) // whoever that is here
	if got != want {
		t.Errorf("the line is\n%s\nwant\n%s", got, want)
	}
}

// Each change writes its documents, in the order of docs/protocols/onedata.md; added and removed in four numbers of their own.
func TestDocumentsOfEachChange(t *testing.T) {
	tree := servertest.New("/srv/data")
	s := serve(t, tree, nil)
	for _, tt := range []struct {
		name string
		do   func()
		want string
	}{
		{"mkdir", func() { tree.Mkdir("d") }, "fileMeta d\ntimes d\n"},
		{"create", func() { tree.Create("d/f") }, "fileMeta d/f\ntimes d/f\nfileLocation d/f\n"},
		{"write", func() { tree.Write("d/f", 5) }, "fileLocation d/f\ntimes d/f\n"},
		{"setfattr", func() { tree.SetUserXattrs("d/f", map[string]string{"a": "b"}) }, "customMetadata d/f\ntimes d/f\n"},
		{"rename", func() { tree.Rename("d/f", "d/g") }, "times d/g\nfileMeta d/g\n"},
		{"rename of a directory", func() { tree.Rename("d", "e") }, "times e\nfileMeta e\n"},
		{"link", func() { tree.Link("e/g", "e/h") }, "fileMeta e/h\ntimes e/h\nfileLocation e/h\ncustomMetadata e/h\n"},
		{"one of two names goes", func() { tree.Remove("e/g") }, "times e/h\nfileMeta e/h\n"},
		{"and the other", func() { tree.Remove("e/h") }, "customMetadata deleted\ntimes deleted\nfileLocation deleted\nfileMeta deleted\n"},
		{"rmdir", func() { tree.Remove("e") }, "times deleted\nfileMeta deleted\n"},
		{"moved out", func() { tree.Mkdir("x"); tree.Mkdir("x/y"); tree.Create("x/f"); tree.MoveOut("x") },
			"fileMeta x\ntimes x\nfileMeta x/y\ntimes x/y\nfileMeta x/f\ntimes x/f\nfileLocation x/f\nfileMeta deleted\ntimes deleted\n"},
	} {
		from := tree.Log.Bounds().Newest() + 1
		tt.do()
		if got := show(lines(t, s.read(fmt.Sprint("last_seq=", from), everything))); got != tt.want {
			t.Errorf("%s is told as\n%swant\n%s", tt.name, got, tt.want)
		}
	}
}

// Times are whole seconds. One that is not known is that of the last modification; an access time of 1970 is known.
func TestTimes(t *testing.T) {
	tree := servertest.New("/srv/data")
	s := serve(t, tree, nil)
	for _, tt := range []struct {
		name                string
		typ                 notify.Type
		mtime, ctime, atime int64
		want                string
	}{
		{"all are known", notify.ChildMtimeChanged, 7e9, 8e9 + 1, 9e9 - 1, "map[atime:8 ctime:8 mtime:7]"},
		{"read in 1970", notify.ChildAtimeChanged, 1000e9, 2000e9, 1, "map[atime:0 ctime:2000 mtime:1000]"},
		{"written in 1970", notify.ChildMtimeChanged, 0, 2000e9, 3000e9, "map[atime:3000 ctime:2000 mtime:0]"},
		{"written before", notify.ChildMtimeChanged, -1, 2000e9, -1e9, "map[atime:-1 ctime:2000 mtime:-1]"},
		{"nobody has looked", notify.ChildMtimeChanged, 1000e9, 0, 0, "map[atime:1000 ctime:1000 mtime:1000]"},
		{"gone", notify.ChildFileRemoved, 1000e9, 0, 0, "map[atime:1000 ctime:1000 mtime:1000]"},
	} {
		from := tree.Log.Bounds().Newest() + 1
		n := note(tt.typ, "f", 9, tt.ctime)
		n.Attr.Mtime, n.Attr.Atime = tt.mtime, tt.atime
		batch(tree, n)
		ls := lines(t, s.read(fmt.Sprint("last_seq=", from), `{"times":{"fields":["atime","mtime","ctime"]}}`))
		if len(ls) != 1 || fmt.Sprint(ls[0].Times.Fields) != tt.want {
			t.Errorf("%s: %+v, want the times %s", tt.name, ls, tt.want)
		}
	}
}

// Triggers say which documents count, entries what is told of them; a record that a file does not have is told as nulls.
func TestSelection(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.Mkdir("d")
	tree.Create("d/f")
	tree.Remove("d/f")
	s := serve(t, tree, nil)
	for _, tt := range []struct{ name, spec, want string }{
		{"one record", `{"fileMeta":{}}`, "fileMeta d\nfileMeta d/f\nfileMeta deleted\n"},
		{"a trigger without an entry", `{"triggers":["times"],"fileMeta":{}}`, ""},
		{"a trigger for another entry", `{"triggers":["fileLocation"],"fileMeta":{"always":true}}`, "d/f\n\n"},
		{"no trigger", `{"triggers":[],"fileMeta":{"always":true}}`, ""},
		{"always", `{"triggers":["fileMeta","times"],"fileMeta":{"always":true},"times":{}}`,
			"fileMeta d\ntimes d\nfileMeta d/f\ntimes d/f\ntimes deleted\nfileMeta deleted\n"},
	} {
		if got := show(lines(t, s.read("last_seq=0", tt.spec))); got != tt.want {
			t.Errorf("%s: %swant\n%s", tt.name, got, tt.want)
		}
	}
	spec := `{"triggers":["fileMeta"],"fileMeta":{"fields":["name","deleted"]},"fileLocation":{"fields":["size"],"always":true},"customMetadata":{"fields":["a"],"exists":["a"],"always":true}}`
	ls := lines(t, s.read("last_seq=0", spec))
	if len(ls) != 3 {
		t.Fatalf("%d lines", len(ls))
	}
	const none = "0-00000000000000000000000000000000"
	if r := ls[0].FileLocation; r == nil || r.Rev != none || r.Changed || fmt.Sprint(r.Fields) != "map[size:<nil>]" {
		t.Errorf("the location of a directory is %+v", r)
	}
	if r := ls[1].CustomMetadata; r == nil || r.Rev != none || fmt.Sprint(r.Fields, r.Exists) != "map[a:<nil>] map[a:false]" {
		t.Errorf("the metadata of a file without is %+v", r)
	}
	if m, r := ls[2].FileMeta, ls[2].FileLocation; fmt.Sprint(m.Fields) != "map[deleted:true name:f]" || !r.Deleted || r.Changed {
		t.Errorf("of a deleted file: %+v, %+v", m, r)
	}
}

// batch tells several changes in one batch.
func batch(tree *servertest.Tree, notes ...notify.Notification) {
	tree.Log.Append(servertest.RootID, notes...)
}

func note(typ notify.Type, path string, id notify.FileID, ctime int64) notify.Notification {
	n := notify.Notification{Type: typ, Path: path, Spine: notify.Spine{servertest.RootID, id}}
	n.Attr.Mode, n.Attr.Ctime = notify.ModeFile|0o644, ctime
	return n
}

func rename(n notify.Notification, other notify.Seq) notify.Notification { n.Link = other; return n }

// below puts an entry into the directory 7.
func below(n notify.Notification) notify.Notification {
	n.Spine = notify.Spine{n.Spine[0], 7, n.Spine[1]}
	return n
}

func asDir(n notify.Notification) notify.Notification {
	n.Attr.Mode = notify.ModeDir | 0o755
	return n
}

// Changes that follow each other write each document once, and what has no number of its own takes one at the end of the batch.
func TestOneBatch(t *testing.T) {
	for _, tt := range []struct {
		name  string
		notes []notify.Notification
		want  string
	}{
		{"a file that is created with data", []notify.Notification{note(notify.ChildFileAdded, "f", 9, 1), note(notify.ChildDataWritten, "f", 9, 1),
			note(notify.ChildSizeChanged, "f", 9, 1), note(notify.ChildMtimeChanged, "f", 9, 1)}, "0 fileMeta f\n5 fileLocation f\n6 times f\n"},
		{"chown of two files", []notify.Notification{note(notify.ChildOwnerChanged, "f", 9, 5), note(notify.ChildGroupChanged, "f", 9, 5), note(notify.ChildOwnerChanged, "g", 10, 5)},
			"1 fileMeta f\n2 fileMeta g\n3 times f\n4 times g\n"},
		{"chmod of a file that is then removed", []notify.Notification{note(notify.ChildACLChanged, "f", 9, 5), note(notify.ChildFileAdded, "g", 10, 5), note(notify.ChildFileRemoved, "f", 9, 5)},
			"0 fileMeta f\n1 fileMeta g\n2 times g\n3 fileLocation g\n6 times deleted\n7 fileLocation deleted\n8 fileMeta deleted\n"},
		{"created and removed", []notify.Notification{note(notify.ChildFileAdded, "f", 9, 5), note(notify.ChildFileRemoved, "f", 9, 5)},
			"0 fileMeta f\n1 times f\n2 fileLocation f\n5 times deleted\n6 fileLocation deleted\n7 fileMeta deleted\n"},
		{"moved in", []notify.Notification{note(notify.ChildFileMovedTo, "f", 9, 5), note(notify.ChildACLChanged, "g", 10, 5)}, "0 fileMeta f\n1 fileMeta g\n2 fileLocation f\n3 times f\n4 times g\n"},
		{"out of a directory that goes before the new name is told", []notify.Notification{rename(below(note(notify.ChildFileMovedFrom, "d/x", 9, 5)), 3), asDir(note(notify.ChildDirMovedFrom, "d", 7, 5)),
			rename(note(notify.ChildFileMovedTo, "x", 9, 5), 1)}, "0 times x\n2 fileMeta x\n3 fileMeta deleted\n4 times deleted\n"},
		{"one of two names is removed", []notify.Notification{note(notify.ChildLinkStays, "f", 9, 5), note(notify.ChildFileRemoved, "g", 9, 5)}, "2 times f\n4 fileMeta f\n"},
		{"a directory leaves with one of two names", []notify.Notification{note(notify.ChildLinkStays, "f", 9, 5), asDir(note(notify.ChildDirMovedFrom, "d", 7, 5))},
			"0 fileMeta f\n1 fileMeta deleted\n2 times deleted\n"},
		{"a directory leaves with one of two names, and then the other goes", []notify.Notification{note(notify.ChildLinkStays, "f", 9, 5), note(notify.ChildFileRemoved, "f", 9, 5)},
			"0 fileMeta f\n2 times deleted\n3 fileLocation deleted\n4 fileMeta deleted\n"},
		{"nothing that is told", []notify.Notification{note(notify.ChildFileClosed, "f", 9, 5), note(notify.SelfRescanned, "", 0, 5)}, ""},
	} {
		tree := servertest.New("/srv/data")
		batch(tree, tt.notes...)
		s := serve(t, tree, nil)
		all := lines(t, s.read("last_seq=0", everything))
		var got strings.Builder
		for _, l := range all {
			fmt.Fprintln(&got, l.Seq.Index(), l)
		}
		if got.String() != tt.want {
			t.Errorf("%s:\n%swant\n%s", tt.name, got.String(), tt.want)
		}
	}
}

// What comes at the end of a batch tells where the entry is then: whoever folds it has the tree. Of what is gone by then it tells nothing.
func TestLateDocumentsFollowTheirEntries(t *testing.T) {
	dir := func(typ notify.Type, path string, id notify.FileID, other notify.Seq) notify.Notification {
		return rename(asDir(note(typ, path, id, 5)), other)
	}
	file := func(typ notify.Type, path string, id notify.FileID, other notify.Seq) notify.Notification {
		return rename(note(typ, path, id, 5), other)
	}
	inD := below(note(notify.ChildACLChanged, "D/f", 9, 5))
	inE := note(notify.ChildACLChanged, "E/g", 10, 5)
	inE.Spine = notify.Spine{servertest.RootID, 8, 10}
	for _, tt := range []struct {
		name   string
		prefix string // that the client may see, below the root; "": all
		notes  []notify.Notification
		want   string
	}{
		{"its directory is renamed", "", []notify.Notification{inD, dir(notify.ChildDirMovedFrom, "D", 7, 3), dir(notify.ChildDirMovedTo, "E", 7, 2)},
			"0 fileMeta D/f\n1 times E\n2 fileMeta E\n3 times E/f\n"},
		{"its directory is renamed twice", "", []notify.Notification{inD, dir(notify.ChildDirMovedFrom, "D", 7, 3), dir(notify.ChildDirMovedTo, "E", 7, 2),
			dir(notify.ChildDirMovedFrom, "E", 7, 5), dir(notify.ChildDirMovedTo, "F", 7, 4)}, "0 fileMeta D/f\n1 times E\n2 fileMeta E\n3 times F\n4 fileMeta F\n5 times F/f\n"},
		{"two directories are exchanged", "", []notify.Notification{inD, inE, dir(notify.ChildDirMovedFrom, "D", 7, 6), dir(notify.ChildDirMovedFrom, "E", 8, 5),
			dir(notify.ChildDirMovedTo, "D", 8, 4), dir(notify.ChildDirMovedTo, "E", 7, 3)},
			"0 fileMeta D/f\n1 fileMeta E/g\n2 times E\n3 times D\n4 fileMeta D\n5 fileMeta E\n6 times E/f\n7 times D/g\n"},
		{"its directory leaves", "", []notify.Notification{inD, dir(notify.ChildDirMovedFrom, "D", 7, 0)}, "0 fileMeta D/f\n1 fileMeta deleted\n2 times deleted\n"},
		{"it is moved in, and renamed", "", []notify.Notification{file(notify.ChildFileMovedTo, ".tmp", 9, 0), file(notify.ChildFileMovedFrom, ".tmp", 9, 3), file(notify.ChildFileMovedTo, "x", 9, 2)},
			"0 fileMeta .tmp\n1 times x\n2 fileMeta x\n3 fileLocation x\n"},
		{"it is moved in, and that name goes", "", []notify.Notification{file(notify.ChildFileMovedTo, "a", 9, 0), note(notify.ChildLinkStays, "b", 9, 5), file(notify.ChildFileRemoved, "a", 9, 0)},
			"0 fileMeta a\n3 times b\n5 fileMeta b\n6 fileLocation b\n"},
		{"it is moved in, and another name goes", "", []notify.Notification{file(notify.ChildFileMovedTo, "a", 9, 0), note(notify.ChildLinkStays, "a", 9, 5), file(notify.ChildFileRemoved, "b", 9, 0)},
			"0 fileMeta a\n3 times a\n5 fileMeta a\n6 fileLocation a\n"},
		{"its directory is renamed out of sight", "D", []notify.Notification{inD, dir(notify.ChildDirMovedFrom, "D", 7, 3), dir(notify.ChildDirMovedTo, "E", 7, 2)},
			"0 fileMeta D/f\n1 fileMeta deleted\n3 times deleted\n"},
		{"what it may be seen in is renamed", "D/f", []notify.Notification{inD, dir(notify.ChildDirMovedFrom, "D", 7, 3), dir(notify.ChildDirMovedTo, "E", 7, 2)}, "0 fileMeta D/f\n"},
	} {
		tree := servertest.New("/srv/data")
		batch(tree, tt.notes...)
		s := serve(t, tree, func(o *server.Options) {
			if tt.prefix != "" {
				o.Auth = grants{"": {Privileges: notify.MayChanges, Prefixes: []string{"/srv/data/" + tt.prefix}}}
			}
		})
		var got strings.Builder
		for _, l := range lines(t, s.read("last_seq=0", everything)) {
			fmt.Fprintln(&got, l.Seq.Index(), l)
		}
		if got.String() != tt.want {
			t.Errorf("%s:\n%swant\n%s", tt.name, got.String(), tt.want)
		}
	}
}

// A full batch has no number to spare: what would need one is left out, and nothing is given out twice.
func TestFullBatch(t *testing.T) {
	tree := servertest.New("/srv/data")
	var notes []notify.Notification
	for i := range notify.FileID(notify.BatchIndexes - 10) {
		notes = append(notes, note(notify.ChildACLChanged, fmt.Sprint(i), 100+i, 5))
	}
	batch(tree, notes...)
	tree.Create("next")
	s := serve(t, tree, nil)
	counts := map[string]int{}
	for _, l := range lines(t, s.read("last_seq=0", everything)) {
		name, _ := l.changed()
		counts[name]++
	}
	if counts["fileMeta"] != notify.BatchIndexes-10+1 || counts["times"] != 10+1 {
		t.Errorf("%v", counts)
	}
}

// A directory goes out of which something was renamed, in a batch that has too few numbers for all that comes late, or none: that it is gone is told nonetheless,
// and after what left it, as long as there is a number for that.
func TestADirectoryGoesInACrowdedBatch(t *testing.T) {
	for _, tt := range []struct {
		others int
		want   string
	}{
		{2500, "times a\nfileMeta a\nfileMeta deleted\ntimes deleted\n"},
		{notify.BatchIndexes - 7, "times a\ntimes deleted\nfileMeta a\nfileMeta deleted\n"},
		{notify.BatchIndexes - 6, "times a\ntimes deleted\nfileMeta deleted\nfileMeta a\n"},
	} {
		tree := servertest.New("/srv/data")
		var notes []notify.Notification
		for i := range notify.FileID(tt.others) {
			notes = append(notes, note(notify.ChildACLChanged, fmt.Sprint("other", i), 100+i, 5))
		}
		at := notify.Seq(len(notes))
		batch(tree, append(notes, rename(asDir(below(note(notify.ChildDirMovedFrom, "a/x", 9, 5))), at+3), asDir(note(notify.ChildDirRemoved, "a", 7, 5)),
			rename(asDir(note(notify.ChildDirMovedTo, "a", 9, 5)), at+1))...)
		s := serve(t, tree, nil)
		ls := slices.DeleteFunc(lines(t, s.read("last_seq=0", everything)), func(l line) bool { return strings.Contains(*l.FilePath, "other") })
		if got := show(ls); got != tt.want {
			t.Errorf("beside %d others:\n%swant\n%s", tt.others, got, tt.want)
		}
	}
}

// history makes a tree of all kinds of changes, some of them in one batch.
func history(tree *servertest.Tree) {
	tree.Mkdir("d")
	for i := range 5 {
		tree.Create(fmt.Sprint("d/f", i))
		tree.SetUserXattrs(fmt.Sprint("d/f", i), map[string]string{"a": "b"})
	}
	batch(tree, note(notify.ChildOwnerChanged, "x", 9, 5), note(notify.ChildGroupChanged, "x", 9, 5), note(notify.ChildOwnerChanged, "y", 10, 5), note(notify.ChildFileMovedTo, "z", 11, 5))
	tree.Rename("d", "e")
	tree.Remove("e/f1")
	batch(tree, note(notify.ChildFileAdded, "x", 9, 1), note(notify.ChildDataWritten, "x", 9, 1), note(notify.ChildSizeChanged, "x", 9, 1), note(notify.ChildFileRemoved, "y", 10, 5))
}

// last_seq is inclusive: from whatever number, a reader gets exactly the lines that are not below it, byte for byte.
func TestLastSeqIsInclusive(t *testing.T) {
	for _, inMemory := range []bool{true, false} {
		tree := servertest.New("/srv/data")
		history(tree)
		if !inMemory {
			tree.Log.KeepInMemory(3)
		}
		s := serve(t, tree, nil)
		whole := s.read("last_seq=0", everything)
		all := lines(t, whole)
		texts := strings.SplitAfter(whole, "\r\n")
		if len(all) < 40 {
			t.Fatalf("%d lines: the test looks at too little", len(all))
		}
		for i := range all {
			for _, from := range []notify.Seq{all[i].Seq, all[i].Seq + 1} {
				want := strings.Join(texts[i+int(from-all[i].Seq):], "")
				if got := s.read(fmt.Sprint("last_seq=", from), everything); got != want {
					t.Fatalf("from %d on (line %d is %d):\n%s\nwant\n%s", from, i, all[i].Seq, got, want)
				}
			}
		}
		if n := s.server.LostPositions(); n != 0 {
			t.Errorf("%d positions count as lost", n)
		}
	}
}

// open is a stream under way.
type open struct {
	t *testing.T
	r *bufio.Reader
	*http.Response
}

func (s *service) open(t *testing.T, query, spec string, headers ...string) *open {
	t.Helper()
	resp := s.do("POST", changes(query), spec, append(headers, jsonBody)...)
	if resp.StatusCode != 200 {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s: %s", resp.Status, b)
	}
	return &open{t, bufio.NewReader(resp.Body), resp}
}

// next reads a line; "" at the end of the stream.
func (o *open) next() string {
	o.t.Helper()
	text, err := o.r.ReadString('\n')
	if err == io.EOF && text == "" {
		return ""
	}
	if err != nil {
		o.t.Fatalf("after %q: %v", text, err)
	}
	return text
}

func (o *open) want(records ...string) {
	o.t.Helper()
	for _, w := range records {
		if got := decode(o.t, o.next()).String(); got != w {
			o.t.Fatalf("the stream says %q, want %q", got, w)
		}
	}
}

func TestLive(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.Create("before")
	s := serve(t, tree, nil)
	for _, query := range []string{"", "last_seq=now", "timeout=infinity", "timeout=100000", "last_seq="} {
		if query == "last_seq=" {
			query += (tree.Log.Bounds().Newest() + 1).String()
		}
		o := s.open(t, query, everything)
		name := fmt.Sprint("f", tree.Log.Bounds().Head)
		tree.Create(name)
		o.want("fileMeta "+name, "times "+name, "fileLocation "+name)
		tree.Remove(name)
		o.want("times deleted", "fileLocation deleted", "fileMeta deleted")
		o.Body.Close()
	}
}

// A stream ends when nothing that counts has come for as long as the client asked; an empty answer is whole.
func TestTimeout(t *testing.T) {
	tree := servertest.New("/srv/data")
	s := serve(t, tree, nil)
	if got := s.read("", everything); got != "" {
		t.Errorf("nothing is told as %q", got)
	}
	o := s.open(t, "timeout=300", `{"triggers":["fileMeta"],"times":{}}`)
	stop := make(chan struct{})
	var all sync.WaitGroup
	defer all.Wait()
	defer close(stop)
	all.Go(func() { // what does not trigger keeps no stream open
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
			batch(tree, note(notify.ChildMtimeChanged, "f", 9, int64(i)))
		}
	})
	if text := o.next(); text != "" {
		t.Errorf("the stream says %q", text)
	}
	k := s.open(t, "keepalive=20", `{"triggers":["fileMeta"],"fileMeta":{}}`)
	if text := k.next(); text != "\r\n" {
		t.Errorf("a keepalive is %q", text)
	}
}

// Onedata has no word for a position that is gone: the stream begins with the oldest line, or at the head, and the log tells of it.
func TestPositionsThatAreGone(t *testing.T) {
	tree := servertest.New("/srv/data")
	for i := range 10 {
		tree.Create(fmt.Sprint("f", i))
	}
	s := serve(t, tree, nil)
	expired := lines(t, s.read("last_seq=0", everything))[5].Seq
	tree.Log.Forget(5)
	whole := s.read("last_seq=0", everything)
	if n := len(lines(t, whole)); n != 15 || s.server.LostPositions() != 0 {
		t.Fatalf("%d lines, %d positions lost", n, s.server.LostPositions())
	}
	newer := tree.Log.Bounds().Newest() + 2*notify.BatchIndexes
	for i, from := range []notify.Seq{1, 124721, expired} {
		if got := s.read(fmt.Sprint("last_seq=", from), everything); got != whole {
			t.Errorf("from %d on:\n%s\nwant all", from, got)
		}
		if n := s.server.LostPositions(); n != int64(i+1) {
			t.Errorf("%d positions count as lost, want %d", n, i+1)
		}
	}
	for _, from := range []string{newer.String(), "9007199254740991", "99999999999999999999999"} {
		if got := s.read("last_seq="+from, everything); got != "" {
			t.Errorf("from %s on: %s", from, got)
		}
	}
	if n := s.server.LostPositions(); n != 6 || strings.Count(s.log.String(), "position not in the journal") != 6 {
		t.Errorf("%d positions count as lost, want 6; the log:\n%s", n, s.log)
	}
}

// A damaged batch, and a gap under a stream that is open, are passed over: what can be read is told once.
func TestDamage(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.Create("a")
	tree.Log.AppendDamaged()
	tree.Log.AppendDamaged()
	tree.Create("b")
	s := serve(t, tree, nil)
	meta := `{"fileMeta":{}}`
	all := lines(t, s.read("last_seq=0", meta))
	if got := show(all); got != "fileMeta a\nfileMeta b\n" {
		t.Errorf("around the damage:\n%s", got)
	}
	apart := (all[1].Seq - all[0].Seq) / 3 // two damaged ones are between them
	for _, from := range []notify.Seq{all[0].Seq + 1, all[0].Seq + apart, all[0].Seq + 2*apart, all[1].Seq} {
		if got := show(lines(t, s.read(fmt.Sprint("last_seq=", from), meta))); got != "fileMeta b\n" {
			t.Errorf("from %d on:\n%s", from, got)
		}
	}
	o := s.open(t, "", meta)
	tree.Create("c")
	o.want("fileMeta c")
	tree.Log.AppendDamaged()
	tree.Create("d")
	o.want("fileMeta d")
	tree.Log.AppendForgotten()
	tree.Create("e")
	o.want("fileMeta e")
	if s.server.LostPositions() == 0 {
		t.Error("nothing of it was counted")
	}
}

// holey is a journal that lacks some batches.
type holey struct {
	*feedtest.Log
	lost map[notify.BatchNumber]bool
}

func (l *holey) without(batches []*notify.Batch) []*notify.Batch {
	return slices.DeleteFunc(slices.Clone(batches), func(b *notify.Batch) bool { return l.lost[b.Number] })
}

func (l *holey) Ring(from notify.BatchNumber) ([]*notify.Batch, bool) {
	batches, ok := l.Log.Ring(from)
	return l.without(batches), ok
}

func (l *holey) Page(ctx context.Context, from notify.BatchNumber, limit int) ([]*notify.Batch, error) {
	batches, err := l.Log.Page(ctx, from, limit+len(l.lost))
	return l.without(batches), err
}

func (l *holey) Contains(ctx context.Context, pos notify.Seq) (notify.Seq, bool, error) {
	at, ok, err := l.Log.Contains(ctx, pos)
	return at, ok && !l.lost[pos.Batch()], err
}

// Behind a batch that is missing, all of the next one is told: also what has the very first number in it, and whatever comes behind.
func TestMissingBatches(t *testing.T) {
	tree := servertest.New("/srv/data")
	log := &holey{tree.Log, map[notify.BatchNumber]bool{}}
	lose := func() {
		log.lost[tree.Log.Append(servertest.RootID, note(notify.ChildFileAdded, "lost", 8, 5)).Number] = true
	}
	tree.Create("a")
	lose()
	batch(tree, note(notify.ChildACLChanged, "b", 9, 5))
	lose()
	batch(tree, note(notify.ChildACLChanged, "c", 9, 5), note(notify.ChildACLChanged, "d", 10, 5))
	tree.Log.AppendDamaged()
	batch(tree, note(notify.ChildACLChanged, "e", 9, 5))
	lose()
	batch(tree, note(notify.ChildACLChanged, "f", 9, 5))
	tree.Create("g")
	s := serve(t, tree, func(o *server.Options) { o.Journal = log })
	if got, want := show(lines(t, s.read("last_seq=0", `{"fileMeta":{}}`))), "fileMeta a\nfileMeta b\nfileMeta c\nfileMeta d\nfileMeta e\nfileMeta f\nfileMeta g\n"; got != want {
		t.Errorf("over what is missing:\n%swant\n%s", got, want)
	}
	lose()
	batch(tree, note(notify.ChildACLChanged, "h", 9, 5), away(), note(notify.ChildACLChanged, "i", 10, 5))
	from := fmt.Sprint("last_seq=", tree.Log.Bounds().Newest()-notify.BatchIndexes-10)
	if got, want := show(lines(t, s.read(from, `{"fileMeta":{}}`))), "fileMeta h\nfileMeta i\n"; !strings.HasSuffix(got, want) {
		t.Errorf("behind what is missing, the directory of the space was away and came back:\n%swant at the end\n%s", got, want)
	}
	tree.SetState(func(s *notify.RootState) { s.Phase = notify.Away })
	s.refuses("POST", changes(from), everything, 503, "temporaryFailure", jsonBody)
}

// away is what is told when the directory of the space goes away.
func away() notify.Notification {
	n := asDir(note(notify.SelfRemoved, "", 0, 0))
	n.Spine = n.Spine[:1]
	return n
}

// The directory of the space goes away: streams end, and nothing is told to be gone, since nothing is.
func TestSpaceGone(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.Create("f")
	s := serve(t, tree, nil)
	o := s.open(t, "last_seq=0", `{"fileMeta":{"fields":["name","deleted"]}}`)
	o.want("fileMeta f")
	tree.SetState(func(s *notify.RootState) { s.Phase = notify.Away })
	batch(tree, note(notify.ChildACLChanged, "f", 9, 5), away())
	o.want("fileMeta f")
	if rest := o.next(); rest != "" {
		t.Errorf("then comes %q", rest)
	}
	for _, phase := range []notify.RootPhase{notify.Away, notify.Indexing} {
		tree.SetState(func(s *notify.RootState) { s.Phase = phase })
		s.refuses("POST", changes(""), everything, 503, "temporaryFailure", jsonBody)
	}
	tree.SetState(func(s *notify.RootState) { s.ID = 0 }) // after a restart, before it is known
	s.refuses("POST", changes(""), everything, 503, "temporaryFailure", jsonBody)
	s.refuses("POST", "changes/metadata/name", everything, 503, "temporaryFailure", jsonBody)
	s.refuses("GET", "spaces", "", 503, "temporaryFailure")
	s.refuses("GET", "spaces/2", "", 503, "temporaryFailure")
}

// The directory of the space was away and is back: who goes on from before, from there or from the oldest has what came since, and each line once,
// whether the stream ended at the time or not.
func TestSpaceBack(t *testing.T) {
	acl := func(name string, id notify.FileID) notify.Notification {
		return note(notify.ChildACLChanged, name, id, 5)
	}
	for _, tt := range []struct {
		name  string
		notes []notify.Notification // of the batch in which it goes away
		want  string
	}{
		{"alone", []notify.Notification{away()}, ""},
		{"behind others", []notify.Notification{acl("f", 9), acl("g", 10), away()}, "0 fileMeta f\n1 fileMeta g\n3 times f\n4 times g\n"},
		{"and it is back in the same batch", []notify.Notification{acl("f", 9), away(), acl("g", 10), acl("h", 11)},
			"0 fileMeta f\n2 fileMeta g\n3 fileMeta h\n4 times f\n5 times g\n6 times h\n"},
		{"twice in one batch", []notify.Notification{acl("f", 9), away(), acl("f", 9), away()}, "0 fileMeta f\n2 fileMeta f\n4 times f\n"},
	} {
		tree := servertest.New("/srv/data")
		tree.Create("before")
		s := serve(t, tree, nil)
		live := s.open(t, fmt.Sprint("last_seq=", tree.Log.Bounds().Newest()+1), everything)
		tree.SetState(func(s *notify.RootState) { s.Phase = notify.Away })
		batch(tree, tt.notes...)
		var then string
		for text := live.next(); text != ""; text = live.next() {
			then += text
		}
		tree.SetState(func(s *notify.RootState) { s.Phase = notify.Live })
		tree.Create("after")
		var got strings.Builder
		whole := s.read("last_seq=0", everything)
		all := lines(t, whole)
		if len(all) < 6 {
			t.Errorf("%s: nothing is told of what came after: %q", tt.name, whole)
			continue
		}
		for _, l := range all[3 : len(all)-3] {
			fmt.Fprintln(&got, l.Seq.Index(), l)
		}
		if got.String() != tt.want || all[len(all)-3].String() != "fileMeta after" {
			t.Errorf("%s:\n%swant\n%sthen %s", tt.name, got.String(), tt.want, all[len(all)-3])
		}
		texts := strings.SplitAfter(whole, "\r\n")
		if told := strings.Join(texts[3:len(all)-3], ""); then != told {
			t.Errorf("%s: at the time it was\n%swant\n%s", tt.name, then, told)
		}
		for i, l := range all {
			if got, want := s.read(fmt.Sprint("last_seq=", l.Seq+1), everything), strings.Join(texts[i+1:], ""); got != want {
				t.Errorf("%s: behind %d\n%swant\n%s", tt.name, l.Seq.Index(), got, want)
			}
		}
		if n := s.server.LostPositions(); n != 0 {
			t.Errorf("%s: %d positions count as lost", tt.name, n)
		}
	}
}

// Who reads about a time when the directory was away does so as about any other, if it is back by then.
func TestSpaceBackBeforeItIsRead(t *testing.T) {
	tree := servertest.New("/srv/data")
	s := serve(t, tree, nil)
	o := s.open(t, "last_seq=0", `{"fileMeta":{}}`)
	batch(tree, note(notify.ChildACLChanged, "f", 9, 5), away(), note(notify.ChildACLChanged, "g", 10, 5))
	o.want("fileMeta f", "fileMeta g")
	tree.Create("h")
	o.want("fileMeta h")
}

// refuses sends a request that has to be answered with an error, and gives the details.
func (s *service) refuses(method, path, body string, status int, id string, headers ...string) string {
	s.t.Helper()
	resp := s.do(method, path, body, headers...)
	text, _ := io.ReadAll(resp.Body)
	var e struct {
		Error struct {
			ID          string
			Description string
			Details     json.RawMessage
			Ctx         map[string]any
		}
	}
	if err := json.Unmarshal(text, &e); err != nil || resp.StatusCode != status || e.Error.ID != id || e.Error.Description == "" || len(e.Error.Ctx) != 9 ||
		resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("WWW-Authenticate") != "" {
		s.t.Errorf("%s %.80s %.80q: %s %v %s, want %d %s", method, path, body, resp.Status, resp.Header, text, status, id)
	}
	return string(e.Error.Details)
}

// The validation table, over HTTP.
func TestRefusals(t *testing.T) {
	s := serve(t, servertest.New("/srv/data"), nil)
	for _, tt := range onedata.InvalidSpecs() {
		if got := s.refuses("POST", changes(""), tt[0], 400, tt[1], jsonBody); got != tt[2] {
			t.Errorf("%.60q: details %s, want %s", tt[0], got, tt[2])
		}
	}
	for query, want := range map[string]string{"timeout=x": `badValueInteger {"key":"timeout"}`, "last_seq=x": `badValueInteger {"key":"last_seq"}`,
		"last_seq=infinity": `badValueInteger {"key":"last_seq"}`, "timeout=-5": `badValueTooLow {"key":"timeout","limit":0}`} {
		id, details, _ := strings.Cut(want, " ")
		if got := s.refuses("POST", changes(query), "no JSON", 400, id, jsonBody); got != details {
			t.Errorf("%s: details %s, want %s", query, got, details)
		}
	}
	for _, sid := range []string{"3", "0", "x", "02", "%2F", "2%00"} {
		s.refuses("POST", "changes/metadata/"+sid, "no JSON", 403, "forbidden")
		s.refuses("GET", "spaces/"+sid, "", 404, "notFound")
	}
	for _, path := range []string{"", "changes/metadata", "changes", "changes/metadata/2/x", "spaces/2/x", "configuration"} {
		s.refuses("POST", path, everything, 404, "notFound", jsonBody)
	}
	for path, allow := range map[string]string{changes(""): "POST", "spaces": "GET, HEAD", "spaces/2": "GET, HEAD"} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"} {
			if strings.Contains(allow, method) {
				continue
			}
			if resp := s.do(method, path, everything, jsonBody); resp.StatusCode != 405 || resp.Header.Get("Allow") != allow {
				t.Errorf("%s %s: %s, Allow %q, want 405 and %s", method, path, resp.Status, resp.Header.Get("Allow"), allow)
			}
		}
	}
	for _, ct := range []string{"", "Content-Type: application/x-www-form-urlencoded", "Content-Type: application/json; charset=utf-8", "Content-Type: text/plain"} {
		headers := []string{"X-Nothing: x"}
		if ct != "" {
			headers = append(headers, ct)
		}
		resp := s.do("POST", changes("timeout=0"), everything, headers...)
		if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 415 || len(b) != 0 {
			t.Errorf("%q: %s %s, want 415 and no body", ct, resp.Status, b)
		}
	}
	for _, accept := range []string{"application/json", "text/html", "*/*", "image/png"} {
		if resp := s.do("POST", changes("timeout=0"), everything, jsonBody, "Accept: "+accept); resp.StatusCode != 200 {
			t.Errorf("Accept: %s: %s", accept, resp.Status)
		}
	}
}

func TestSpaces(t *testing.T) {
	s := serve(t, servertest.New("/srv/data"), nil)
	for path, want := range map[string]string{
		"spaces":   `[{"spaceId":"2","name":"srv/data"}]`,
		"spaces/":  `[{"spaceId":"2","name":"srv/data"}]`,
		"spaces/2": `{"spaceId":"2","name":"srv/data","providers":[{"providerId":"fs_notify","providerName":"fs_notify"}],"fileId":"ID","dirId":"ID"}`,
	} {
		resp := s.do("GET", path, "")
		b, _ := io.ReadAll(resp.Body)
		if got := strings.ReplaceAll(string(b), "00000000000836036775696423322332", "ID"); resp.StatusCode != 200 || got != want {
			t.Errorf("%s: %s %s, want %s", path, resp.Status, got, want)
		}
	}
}

// grants gives each request the grant that its header names.
type grants map[string]*notify.Grant

func (g grants) Authorize(r *http.Request) (*http.Request, error) {
	token := r.Header.Get("X-Auth-Token")
	if grant := g[token]; grant != nil {
		return r.WithContext(notify.WithGrant(r.Context(), grant)), nil
	}
	return nil, &notify.Error{Op: "test", Kind: notify.Unauthorized}
}

func TestGrants(t *testing.T) {
	tree := servertest.New("/srv/data")
	s := serve(t, tree, func(o *server.Options) {
		o.Auth = grants{
			"all":       notify.Everything,
			"notify":    {Privileges: notify.MayNotify | notify.MayRecurse},
			"mine":      {Privileges: notify.MayChanges, Prefixes: []string{"/srv/data/mine"}},
			"elsewhere": {Privileges: notify.MayChanges, Prefixes: []string{"/srv/data2"}},
		}
	})
	s.refuses("POST", changes(""), everything, 401, "unauthorized", jsonBody)
	if got := s.refuses("GET", "spaces", "", 401, "unauthorized", "X-Auth-Token: wrong"); !strings.Contains(got, `"authError"`) {
		t.Errorf("a wrong token: details %s", got)
	}
	s.refuses("POST", changes(""), everything, 403, "forbidden", jsonBody, "X-Auth-Token: notify")
	s.refuses("GET", "spaces", "", 403, "forbidden", "X-Auth-Token: notify")
	s.refuses("POST", changes(""), everything, 403, "forbidden", jsonBody, "X-Auth-Token: elsewhere")
	s.refuses("GET", "spaces/2", "", 404, "notFound", "X-Auth-Token: elsewhere")
	if b, _ := io.ReadAll(s.do("GET", "spaces", "", "X-Auth-Token: elsewhere").Body); string(b) != "[]" {
		t.Errorf("spaces elsewhere: %s", b)
	}

	tree.Mkdir("mine")
	tree.Mkdir("mine-too")
	tree.Create("mine/f")
	tree.Create("theirs")
	tree.Link("theirs", "mine/link")
	tree.Rename("theirs", "mine/in")
	tree.Rename("mine/f", "mine/g")
	tree.Rename("mine/g", "out")
	tree.Remove("mine/link")
	tree.Remove("out")
	meta := `{"fileMeta":{"fields":["name"]}}`
	want := "fileMeta mine\nfileMeta mine/f\nfileMeta mine/link\nfileMeta mine/in\nfileMeta mine/g\nfileMeta deleted\nfileMeta mine/in\n"
	if got := show(lines(t, s.read("last_seq=0", meta, "X-Auth-Token: mine"))); got != want {
		t.Errorf("a grant for mine sees\n%swant\n%s", got, want)
	}
}

// A name of a file is moved out of sight, and another one stays: that is where the file is. Without another one it is gone.
func TestAHardLinkThatIsMovedOutOfSight(t *testing.T) {
	tree := servertest.New("/srv/data")
	s := serve(t, tree, func(o *server.Options) {
		o.Auth = grants{"": {Privileges: notify.MayChanges, Prefixes: []string{"/srv/data/in"}}}
	})
	tree.Mkdir("in")
	tree.Mkdir("out")
	tree.Create("in/a")
	tree.Link("in/a", "in/b")
	tree.Create("in/c")
	tree.Link("in/c", "out/d")
	from := fmt.Sprint("last_seq=", tree.Log.Bounds().Newest()+1)
	tree.Rename("in/a", "out/a")
	tree.Rename("in/c", "out/c")
	if got, want := show(lines(t, s.read(from, everything))), "fileMeta in/b\ntimes in/b\nfileMeta deleted\nfileLocation deleted\ntimes deleted\n"; got != want {
		t.Errorf("it is told as\n%swant\n%s", got, want)
	}
}

// While the root is away nobody knows which names a file has left: the stream ends before it, and tells it when the client comes again.
func TestAHardLinkThatGoesWhileTheRootIsAway(t *testing.T) {
	tree := servertest.New("/srv/data")
	s := serve(t, tree, func(o *server.Options) {
		o.Auth = grants{"": {Privileges: notify.MayChanges, Prefixes: []string{"/srv/data/a", "/srv/data/b"}}}
	})
	id := tree.Create("a")
	o := s.open(t, "last_seq=0", `{"fileMeta":{}}`)
	o.want("fileMeta a")
	from := tree.Log.Bounds().Newest() + 1
	tree.SetState(func(s *notify.RootState) { s.Phase = notify.Away })
	batch(tree, note(notify.ChildLinkStays, "then", id, 5), note(notify.ChildFileRemoved, "b", id, 5))
	if text := o.next(); text != "" {
		t.Errorf("while the root is away: %s", text)
	}
	tree.SetState(func(s *notify.RootState) { s.Phase = notify.Live })
	if got := show(lines(t, s.read(fmt.Sprint("last_seq=", from), `{"fileMeta":{}}`))); got != "fileMeta a\n" {
		t.Errorf("then: %s", got)
	}
}

// The server stops: streams end whole, and a client goes on elsewhere.
func TestDrain(t *testing.T) {
	tree := servertest.New("/srv/data")
	s := serve(t, tree, nil)
	o := s.open(t, "", everything)
	tree.Create("f")
	o.want("fileMeta f", "times f", "fileLocation f")
	s.stop()
	if rest := o.next(); rest != "" {
		t.Errorf("the stream ends with %q", rest)
	}
}

// A token that ends also ends a stream with a backlog in memory, long before all of that is told.
func TestATokenEndsInABacklog(t *testing.T) {
	const batches, each = 60, 1000 // 25 MB: more than lies between two sockets
	tree := servertest.New("/srv/data")
	for i := range batches {
		var notes []notify.Notification
		for j := range notify.FileID(each) {
			notes = append(notes, note(notify.ChildFileAdded, fmt.Sprintf("%d-%d-%s", i, j, strings.Repeat("x", 240)), 1000+j, 5))
		}
		batch(tree, notes...)
	}
	lease, revoke := context.WithCancelCause(t.Context())
	grant := *notify.Everything
	grant.Lease = lease
	s := serve(t, tree, func(o *server.Options) { o.Auth = grants{"": &grant} })
	o := s.open(t, "last_seq=0", `{"fileMeta":{"fields":["name"]}}`)
	o.next()
	revoke(&notify.Error{Op: "test", Kind: notify.Unauthorized})
	n := 1
	for {
		if text, err := o.r.ReadString('\n'); err != nil || text == "" {
			break // it may be cut
		}
		n++
	}
	if n >= batches*each {
		t.Errorf("all %d lines are told after the end of the token", n)
	}
	for end := time.Now().Add(patience); !strings.Contains(s.log.String(), "reason=revoked"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("how the stream ended:\n%s", s.log)
		}
	}
}

// Who does not read holds nobody up, and is disconnected.
func TestSlowClient(t *testing.T) {
	tree := servertest.New("/srv/data")
	s := serve(t, tree, func(o *server.Options) { o.WriteTimeout = 500 * time.Millisecond })
	slow, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(s.url, "http://"), onedata.Prefix))
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	slow.(*net.TCPConn).SetReadBuffer(4096)
	const names = `{"fileMeta":{"fields":["name"]}}`
	fmt.Fprintf(slow, "POST %s%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", onedata.Prefix, changes(""), len(names), names)
	first := bufio.NewReader(io.LimitReader(slow, 1000))
	if status, err := first.ReadString('\n'); err != nil || !strings.Contains(status, "200") {
		t.Fatal(status, err)
	}
	o := s.open(t, "", names)
	for i := range 12 { // 10 MB: more than lies between two sockets
		notes := make([]notify.Notification, 0, 1000)
		for j := range notify.FileID(1000) {
			notes = append(notes, note(notify.ChildFileAdded, fmt.Sprintf("%d-%d-%s", i, j, strings.Repeat("x", 240)), 1000+j, 5))
		}
		batch(tree, notes...)
		for range notes {
			o.next()
		}
	}
	deadline := time.Now().Add(patience)
	for !strings.Contains(s.log.String(), "reason=stalled") {
		if time.Now().After(deadline) {
			t.Fatalf("the slow client is still there:\n%s", s.log)
		}
		time.Sleep(20 * time.Millisecond)
	}
	o.Body.Close()
	for n := 1; n > 0; n, _ = s.server.Streams() {
		if time.Now().After(deadline) {
			t.Fatal("a client that has left still counts")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Extended attributes come as they are: JSON as JSON, the rest as strings, and what is not there as null.
func TestCustomMetadata(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.Create("f")
	s := serve(t, tree, nil)
	spec := `{"triggers":["customMetadata"],"customMetadata":{"fields":["onedata_json","onedata_rdf","onedata_keyvalue","user.a","a","none"],"exists":["onedata_json","onedata_rdf","onedata_keyvalue","a","none"]}}`
	for _, tt := range []struct {
		x            map[string]string
		fields, have string
	}{
		{map[string]string{"a": "b"}, `{"a":"b","none":null,"onedata_json":null,"onedata_keyvalue":{"a":"b"},"onedata_rdf":null,"user.a":"b"}`, "a onedata_keyvalue"},
		{map[string]string{"onedata_json": " [1,\n2] ", "onedata_rdf": "<rdf>\n</rdf>"},
			`{"a":null,"none":null,"onedata_json":[1,2],"onedata_keyvalue":null,"onedata_rdf":"<rdf>\n</rdf>","user.a":null}`, "onedata_json onedata_rdf"},
		{map[string]string{"onedata_json": "{", "a": "\xff\r\n\"", "é": ""},
			`{"a":"\udcff\r\n\"","none":null,"onedata_json":"{","onedata_keyvalue":{"a":"\udcff\r\n\"","é":""},"onedata_rdf":null,"user.a":"\udcff\r\n\""}`, "a onedata_json onedata_keyvalue"},
		{nil, `{"a":null,"none":null,"onedata_json":null,"onedata_keyvalue":null,"onedata_rdf":null,"user.a":null}`, ""},
	} {
		from := tree.Log.Bounds().Newest() + 1
		tree.SetUserXattrs("f", tt.x)
		body := s.read(fmt.Sprint("last_seq=", from), spec)
		ls := lines(t, body)
		if len(ls) != 1 {
			t.Errorf("%v: %d lines", tt.x, len(ls))
			continue
		}
		var have []string
		for name, is := range ls[0].CustomMetadata.Exists {
			if is {
				have = append(have, name)
			}
		}
		slices.Sort(have)
		if !strings.Contains(body, `"fields":`+tt.fields+`,"mutators"`) || strings.Join(have, " ") != tt.have {
			t.Errorf("%v: there are %q, and the line is\n%s\nwant %s\n%s", tt.x, have, body, tt.have, tt.fields)
		}
	}
}
