package box

import (
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"fs_notify/notify"
	"fs_notify/notify/feed"
	"fs_notify/notify/feed/feedtest"
)

var update = flag.Bool("update", false, "rewrite the table in docs/protocols/box.md")

const (
	docFile  = "../../docs/protocols/box.md"
	docStart = "<!-- mapping -->\n"
	docEnd   = "<!-- /mapping -->"
)

// mappingTable is the rules as Markdown.
func mappingTable() string {
	list := func(names []string) string {
		if len(names) == 0 {
			return "nothing"
		}
		return strings.Join(names, ", ")
	}
	var b strings.Builder
	b.WriteString("| done to the file system | notifications | `all` | `changes`, `sync` | enterprise: of a file | of a folder | |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	for i := 1; i <= len(rules); i++ {
		r := &rules[i%len(rules)] // nothing comes last
		changes := "nothing"
		if len(r.user) > 0 && r.changes {
			changes = "the same"
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %s | %s | %s |\n", r.what, strings.ReplaceAll(r.types.String(), ",", "`, `"),
			list(r.user), changes, list(r.file), list(r.folder), r.note)
	}
	return b.String()
}

func TestTheDocumentShowsTheRules(t *testing.T) {
	b, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(b), docStart)
	table, tail, ok2 := strings.Cut(rest, docEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", docFile)
	}
	if table == mappingTable() {
		return
	}
	if !*update {
		t.Fatalf("the table in %s is not that of mapping.go: go test ./server/box -run Document -update rewrites it", docFile)
	}
	if err := os.WriteFile(docFile, []byte(head+docStart+mappingTable()+docEnd+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

// No notification is forgotten, and none is told that Box's clients would not know.
func TestTheRulesAreWhole(t *testing.T) {
	var types notify.TypeSet
	for a, r := range rules {
		types |= r.types
		if r.what == "" {
			t.Errorf("rule %d is empty", a)
		}
		for _, l := range [][]string{r.user, r.file, r.folder} {
			for _, name := range l {
				if !regexp.MustCompile(`^[A-Z_]+$`).MatchString(name) {
					t.Errorf("event type %q", name)
				}
			}
		}
		if action(a) != nothing && (len(r.user) == 0 || len(r.file)+len(r.folder) == 0) {
			t.Errorf("rule %q tells nothing in some stream", r.what)
		}
	}
	if types != notify.AllTypes {
		t.Errorf("no rule has %v", notify.AllTypes&^types)
	}
}

// onlyRoots has roots and nothing in them.
type onlyRoots struct {
	Files
	states []notify.RootState
}

func (f onlyRoots) Roots() []notify.RootState { return f.states }

// Each root is a folder of All Files, by the last part of its name; where that is not enough, by all of it, and where that is not, with its ID.
func TestNamesOfRoots(t *testing.T) {
	a := &API{Options: Options{Files: onlyRoots{states: []notify.RootState{
		{Name: "/", ID: 1}, {Name: "/srv/data", ID: 2}, {Name: "/media", ID: 3}, {Name: "/old/data", ID: 4}, {Name: "/new", ID: 0}}}}}
	s, err := a.look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[notify.FileID]string{1: "root", 2: "srv_data", 3: "media", 4: "old_data"} {
		if got := s.roots[id].name; got != want {
			t.Errorf("root %d is the folder %q, want %q", id, got, want)
		}
	}
	a.Files = onlyRoots{states: []notify.RootState{
		{Name: "/srv/data", ID: 1}, {Name: "/x/data", ID: 2}, {Name: "/srv_data", ID: 3}, {Name: "/a/b/c", ID: 4}, {Name: "/a_b/c", ID: 5}}}
	alike, err := a.look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[notify.FileID]string{1: "srv_data_1", 2: "x_data", 3: "srv_data_3", 4: "a_b_c_4", 5: "a_b_c_5"} {
		if got := alike.roots[id].name; got != want {
			t.Errorf("root %d is the folder %q, want %q", id, got, want)
		}
	}
	if len(s.order) != 4 {
		t.Errorf("the root that has no ID yet: %+v", s)
	}
}

func TestParseTime(t *testing.T) {
	for _, s := range []string{"2026-11-22T01:36:25.596Z", "2026-11-22T01:36:25-00:00", "2026-11-21T17:36:25-08:00", "2026-11-22T02:36:25 01:00", "2026-11-22T01:36:25+0000", "2026-11-22T01:36:25"} {
		at, err := parseTime("created_after", s)
		if err != nil || at.UTC().Format("2006-01-02T15:04:05") != "2026-11-22T01:36:25" {
			t.Errorf("%s is %v, %v", s, at, err)
		}
	}
}

// Who asks again from the same position after an empty page gets on nonetheless.
func TestEmptyPagesAreNotLookedAtAgain(t *testing.T) {
	log := feedtest.New(1)
	for i := range 20001 {
		n := notify.Notification{Type: notify.ChildACLChanged, Path: "f", Spine: notify.Spine{1, 2}, Attr: notify.Attr{Mode: notify.ModeFile}}
		if i == 20000 {
			n.Type = notify.ChildFileRemoved
		}
		log.Append(1, n)
	}
	a := New(Options{Files: onlyRoots{states: []notify.RootState{{Name: "/data", ID: 1, Phase: notify.Live}}}, Feed: feed.New(log, feed.Options{})})
	a.patience = -1
	for i, want := range []int{0, 0, 1, 1} {
		w := httptest.NewRecorder()
		if err := a.Serve(w, httptest.NewRequest("GET", "/2.0/events?stream_type=admin_logs&event_type=DELETE", nil)); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(w.Body.String(), `"event_type":"DELETE"`); got != want {
			t.Fatalf("page %d has %d events, want %d: %s", i, got, want, w.Body)
		}
	}
}

// What a filter left nothing of is not empty for another one, however that is written.
func TestAnEmptyPageIsOfItsFilterAlone(t *testing.T) {
	log := feedtest.New(1)
	for i := range 20000 {
		n := notify.Notification{Type: notify.ChildACLChanged, Path: "f", Spine: notify.Spine{1, 2}, Attr: notify.Attr{Mode: notify.ModeFile}}
		if i == 0 {
			n.Type = notify.ChildFileAdded
		}
		log.Append(1, n)
	}
	a := New(Options{Files: onlyRoots{states: []notify.RootState{{Name: "/data", ID: 1, Phase: notify.Live}}}, Feed: feed.New(log, feed.Options{})})
	a.patience = -1
	for _, c := range []struct {
		filter string
		want   int
	}{
		{"&event_type=NOSUCH", 0}, {"&event_type=NOSUCH&event_type=UPLOAD", 1},
		{"&event_type=&event_type=NOSUCH", 0}, {"", 1}, {"&event_type=", 1},
		{"&event_type=MOVE,NOSUCH", 0}, {"&event_type=MOVE&event_type=UPLOAD,NOSUCH", 1},
	} {
		w := httptest.NewRecorder()
		if err := a.Serve(w, httptest.NewRequest("GET", "/2.0/events?stream_type=admin_logs"+c.filter, nil)); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(w.Body.String(), `"event_type":"UPLOAD"`); got != c.want {
			t.Errorf("%s: %d uploads, want %d", c.filter, got, c.want)
		}
	}
}
