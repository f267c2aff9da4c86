package box

import (
	"errors"
	"net/http/httptest"
	"net/url"
	"testing"

	"fs_notify/notify"
	"fs_notify/notify/feed"
	"fs_notify/notify/feed/feedtest"
)

// FuzzRequest: whatever is asked for, it becomes values within their bounds, or an error that says what is wrong.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"", "stream_type=admin_logs&created_after=2026-11-22T01:36:25.596Z&created_before=2026-11-22T01:36:25-08:00&event_type=UPLOAD,EDIT&limit=1000",
		"stream_position=now&limit=0&stream_type=changes", "stream_position=null", "stream_position=9007199254740992", "limit=-1", "limit=99999999999999999999",
		"usemarker=true&marker=MGE&offset=3", "offset=2147483648", "created_after=9999-12-31T23:59:59Z&stream_type=admin_logs", "%zz", "a;b",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		v, _ := url.ParseQuery(raw)
		q, err := parseQuery(v)
		switch {
		case err != nil && (!errors.Is(err, notify.Invalid) || notify.Message(err) == "" || len(err.Error()) > 2000):
			t.Fatalf("%q: %v", raw, err)
		case err == nil && (q.limit < 0 || q.limit > maxLimit || q.pos.seq > notify.MaxSeq || int(q.stream) >= len(streamNames)):
			t.Fatalf("%q gave %+v", raw, q)
		case err == nil && !q.stream.enterprise() && (q.types != nil || !q.after.IsZero() || !q.before.IsZero()):
			t.Fatalf("%q: a user stream takes no such filter: %+v", raw, q)
		}
		p, err := parsePaging(v)
		switch {
		case err != nil && !errors.Is(err, notify.Invalid):
			t.Fatalf("%q: %v", raw, err)
		case err == nil && (p.limit < 0 || p.limit > maxItems || p.offset < 0):
			t.Fatalf("%q gave %+v", raw, p)
		}
		listing{}.appendPage(nil, p)
	})
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"events", "events/poll", "files/5", "folders/0/items", "folders//items", "files/../folders/0", "%2e%2e", "folders/9223372036854775808", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.Parse("http://x/2.0/" + path)
		if err != nil {
			return
		}
		a := New(Options{Files: onlyRoots{}, Feed: feed.New(feedtest.New(1), feed.Options{}), Delay: -1})
		r := httptest.NewRequest("PUT", "/", nil) // answered without looking at any file
		r.URL = u
		w := httptest.NewRecorder()
		switch err := a.Serve(w, r); {
		case err != nil && !errors.Is(err, notify.NotFound):
			t.Fatalf("%q: %v", path, err)
		case err == nil && w.Code != 405:
			t.Fatalf("%q: %d %s", path, w.Code, w.Body)
		}
	})
}
