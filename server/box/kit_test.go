package box_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"fs_notify/notify"
	"fs_notify/server"
	"fs_notify/server/servertest"
)

// patience is how long a test waits for what must come before it fails.
const patience = 20 * time.Second

// serve starts a server for a tree on loopback and gives its address; it ends with the test.
func serve(t testing.TB, tree *servertest.Tree, change func(*server.Options)) (url string) {
	t.Helper()
	o := server.Options{Files: tree, Journal: tree.Log, Version: "test"}
	if change != nil {
		change(&o)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.New(o).Serve(ctx, l) }()
	t.Cleanup(func() {
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
	if o.TLS != nil {
		return "https://" + l.Addr().String()
	}
	return "http://" + l.Addr().String()
}

// as lets everyone in with one grant.
type as notify.Grant

func (g *as) Authorize(r *http.Request) (*http.Request, error) {
	return r.WithContext(notify.WithGrant(r.Context(), (*notify.Grant)(g))), nil
}

// ask sends a request and gives status and body.
func ask(t testing.TB, method, url string) (int, http.Header, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, req)
}

// do sends a request that was made, and gives status and body.
func do(t testing.TB, req *http.Request) (int, http.Header, []byte) {
	t.Helper()
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, b
}

// get reads what has to be there.
func get(t testing.TB, url string) []byte {
	t.Helper()
	status, h, b := ask(t, "GET", url)
	if status != 200 || h.Get("Content-Type") != "application/json" {
		t.Fatalf("GET %s: %d %s", url, status, b)
	}
	return b
}

// The types of Box's protocol as rclone reads them: Go's decoder is strict about numbers, strings and nulls, and rclone's own time is.
type (
	rcloneTime struct{ time.Time }
	rcloneMini struct {
		Type, ID, Etag, Name string
		SequenceID           int64 `json:"sequence_id,string"`
	}
	rcloneItem struct {
		rcloneMini
		SHA1              string
		Size              float64
		CreatedAt         rcloneTime `json:"created_at"`
		ModifiedAt        rcloneTime `json:"modified_at"`
		ContentCreatedAt  rcloneTime `json:"content_created_at"`
		ContentModifiedAt rcloneTime `json:"content_modified_at"`
		ItemStatus        string     `json:"item_status"`
		Parent            rcloneMini
		PathCollection    struct {
			Total   int `json:"total_count"`
			Entries []rcloneMini
		} `json:"path_collection"`
		OwnedBy    struct{ Type, ID, Name, Login string } `json:"owned_by"`
		SharedLink struct{ URL, Access string }           `json:"shared_link"`
	}
	rcloneEvent struct {
		EventType string                                 `json:"event_type"`
		EventID   string                                 `json:"event_id"`
		CreatedAt rcloneTime                             `json:"created_at"`
		CreatedBy struct{ Type, ID, Name, Login string } `json:"created_by"`
		Source    struct {
			rcloneItem
			ItemType string `json:"item_type"`
			ItemID   string `json:"item_id"`
			ItemName string `json:"item_name"`
		}
	}
	rclonePage struct {
		ChunkSize int64 `json:"chunk_size"`
		Next      int64 `json:"next_stream_position"`
		Entries   []rcloneEvent
	}
	rcloneItems struct {
		Total   int `json:"total_count"`
		Limit   int
		Offset  int
		Marker  *string `json:"next_marker"`
		Entries []rcloneItem
	}
)

func (t *rcloneTime) UnmarshalJSON(b []byte) error {
	at, err := time.Parse(`"`+time.RFC3339+`"`, string(b)) // a null is an error
	t.Time = at
	return err
}

// readPage reads a page as the strictest of Box's clients do together.
func readPage(t testing.TB, body []byte, enterprise bool) rclonePage {
	t.Helper()
	var p rclonePage
	if err := json.Unmarshal(body, &p); err != nil {
		t.Fatalf("rclone cannot read it: %v\n%s", err, body)
	}
	if p.ChunkSize != int64(len(p.Entries)) {
		t.Fatalf("chunk_size %d for %d entries: rclone refuses the page", p.ChunkSize, len(p.Entries))
	}
	if p.Next <= 0 || p.Next >= 1<<53 {
		t.Fatalf("next_stream_position %d: 0 is a bad answer to Node's SDK 3, and from 2^53 on it is rounded", p.Next)
	}
	var raw struct {
		Next    json.RawMessage `json:"next_stream_position"`
		Entries []map[string]any
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		t.Fatal(err)
	}
	if raw.Next[0] == '"' {
		t.Fatal("next_stream_position is a string: Java's legacy SDK and rclone want a number")
	}
	if raw.Entries == nil {
		t.Fatal("entries is null")
	}
	for _, e := range raw.Entries {
		for _, key := range []string{"event_id", "event_type", "created_at", "created_by", "source", "session_id"} {
			if _, ok := e[key]; !ok {
				t.Fatalf("an event has no %s: %v", key, e)
			}
		}
		if enterprise {
			src := e["source"].(map[string]any)
			if _, ok := src["type"]; ok {
				t.Fatalf("the source of an enterprise event has a type: it is taken for an item: %v", src)
			}
			for _, key := range []string{"item_type", "item_id", "item_name"} {
				if s, ok := src[key].(string); !ok || s == "" {
					t.Fatalf("the source of an enterprise event has no %s: %v", key, src)
				}
			}
			if _, ok := e["additional_details"]; !ok {
				t.Fatalf("an enterprise event has no additional_details: %v", e)
			}
		}
		strict(t, "event", e)
	}
	for i := range p.Entries {
		e := &p.Entries[i]
		if !fortyHex.MatchString(e.EventID) || e.EventType == "" {
			t.Fatalf("event %+v has no id or type", e)
		}
		if src := &e.Source; !enterprise && (src.SequenceID <= 0 || src.PathCollection.Total != len(src.PathCollection.Entries) || src.PathCollection.Total == 0) {
			t.Fatalf("the source of %+v is not whole", e)
		}
	}
	return p
}

var (
	fortyHex = regexp.MustCompile(`^[0-9a-f]{40}$`)
	digits   = regexp.MustCompile(`^[0-9]+$`)
	javaTime = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d$`)
)

// strict holds every value against what the deserialisers of the SDKs for Node 10 and Java take for its key.
func strict(t testing.TB, where string, v any) {
	t.Helper()
	switch v := v.(type) {
	case []any:
		for i, e := range v {
			strict(t, fmt.Sprint(where, "[", i, "]"), e)
		}
	case map[string]any:
		for key, e := range v {
			at := where + "." + key
			ok := true
			switch {
			case key == "next_marker":
				s, is := e.(string)
				ok = is && s != ""
			case key == "id" || key == "item_id":
				s, is := e.(string)
				ok = is && digits.MatchString(s)
			case key == "sequence_id" || key == "etag":
				s, is := e.(string)
				ok = e == nil || is && digits.MatchString(s)
			case key == "type" || key == "event_type" || key == "name" || key == "item_name" || key == "description" || key == "item_status" || key == "login":
				_, ok = e.(string)
			case strings.HasSuffix(key, "_at"):
				s, is := e.(string)
				ok = is && javaTime.MatchString(s) || e == nil && (key == "trashed_at" || key == "purged_at")
			case key == "size" || key == "total_count" || key == "chunk_size" || key == "limit" || key == "offset":
				_, ok = e.(float64)
			case key == "created_by" || key == "owned_by" || key == "modified_by" || key == "parent":
				m, is := e.(map[string]any)
				ok = is && m["id"] != nil && m["type"] != nil || e == nil && key == "parent"
			case key == "path_collection":
				m, is := e.(map[string]any)
				ok = is && m["total_count"] == float64(len(m["entries"].([]any)))
			}
			if !ok {
				t.Fatalf("%s is %#v: a client of Box fails on that", at, e)
			}
			strict(t, at, e)
		}
	}
}

// follow pages from a position until there is nothing more, and gives what came.
func follow(t testing.TB, base string, pos int64, v url.Values) (events []rcloneEvent, next int64) {
	t.Helper()
	if v == nil {
		v = url.Values{}
	}
	enterprise := strings.HasPrefix(v.Get("stream_type"), "admin")
	for {
		v.Set("stream_position", fmt.Sprint(pos))
		p := readPage(t, get(t, base+"/2.0/events?"+v.Encode()), enterprise)
		events = append(events, p.Entries...)
		if p.Next == pos {
			return events, pos
		}
		if p.Next < pos {
			t.Fatalf("the position went back from %d to %d", pos, p.Next)
		}
		pos = p.Next
	}
}

// show prints events as "ITEM_MOVE d/f status", by the names in the source.
func show(events []rcloneEvent) string {
	var out []string
	for i := range events {
		e := &events[i]
		s := &e.Source
		line := e.EventType
		if s.ItemType != "" {
			line += " " + s.ItemType + " " + s.Parent.Name + "/" + s.ItemName
		} else {
			line += " " + s.Type + " "
			for _, p := range s.PathCollection.Entries[1:] {
				line += p.Name + "/"
			}
			line += s.Name
			if s.Type == "file" {
				line += fmt.Sprint(" ", s.Size)
			}
			if s.ItemStatus != "active" {
				line += " " + s.ItemStatus
			}
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}
