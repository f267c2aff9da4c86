package qumulo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/feed"
	"fs_notify/server/servertest"
)

// Beyond the bound the next one waits until somebody has taken what is theirs; who goes away does not.
func TestSnapshotsWaitForRoom(t *testing.T) {
	s := newSnapshots()
	of := func(n int) func() (*notify.Snapshot, error) {
		return func() (*notify.Snapshot, error) { return &notify.Snapshot{Entries: make([]notify.Entry, n)}, nil }
	}
	_, first, err := s.take(t.Context(), of(maxHeld+1)) // one alone may be of any size
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := make(chan error)
	go func() {
		_, _, err := s.take(ctx, of(1))
		gone <- err
	}()
	cancel(notify.Closed)
	if err := <-gone; !errors.Is(err, notify.Closed) {
		t.Errorf("a client that went away: %v", err)
	}
	begun, done := make(chan struct{}), make(chan error)
	go func() {
		_, room, err := s.take(t.Context(), func() (*notify.Snapshot, error) {
			close(begun)
			return nil, notify.NotFound
		})
		room.release()
		done <- err
	}()
	select {
	case <-begun:
		t.Error("a snapshot is taken although there is no room")
	default:
	}
	first.release()
	first.release() // has no effect
	if err := <-done; !errors.Is(err, notify.NotFound) {
		t.Error(err)
	}
	if s.held != 0 || len(s.turn) != 0 {
		t.Errorf("%d entries and %d turns are left", s.held, len(s.turn))
	}
}

// An EventSource for whose snapshot there is no room is told to come back: of an error it dies.
func TestNoRoomForASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := servertest.New("/srv/data")
		tree.Mkdir("dir")
		api := New(Options{Files: tree, Feed: feed.New(tree.Log, feed.Options{Places: tree})})
		api.snaps.held = maxHeld
		w := httptest.NewRecorder()
		if err := api.ServeFiles(w, httptest.NewRequest("GET", "/v1/files/%2Fsrv%2Fdata/info/attributes", nil)); err != nil || !strings.Contains(w.Body.String(), `"child_count":1,`) {
			t.Errorf("the attributes of a directory, which take no snapshot: %v, %s", err, w.Body)
		}
		for _, query := range []string{"since=snapshot", "since=snapshot&gap=reset&last_event_id=4711.2"} {
			for _, method := range []string{"GET", "HEAD"} {
				for _, accept := range []string{"text/event-stream", "application/json"} {
					w, r := httptest.NewRecorder(), httptest.NewRequest(method, "/v1/files/%2Fsrv%2Fdata/notify?"+query, nil)
					r.Header.Set("Accept", accept)
					err := api.ServeFiles(w, r)
					told := w.Body.String()
					switch {
					case method == "HEAD" && (err != nil || told != ""):
						t.Errorf("HEAD with %s as %s: %v, %q", query, accept, err, told)
					case method == "GET" && accept == "text/event-stream" && (err != nil || w.Code != 200 || !strings.HasPrefix(told, "retry: 10000\n: other clients are taking snapshots")):
						t.Errorf("%s: %v, %d %q, want 200 and a time to come back at", query, err, w.Code, told)
					case method == "GET" && accept != "text/event-stream" && (!errors.Is(err, notify.Unavailable) || told != ""):
						t.Errorf("%s for a client without event streams: %v, %q, want Unavailable", query, err, told)
					}
				}
			}
		}
	})
}

// slow is a client that takes a minute for each write.
type slow struct{ *httptest.ResponseRecorder }

func (s slow) Write(b []byte) (int, error) {
	time.Sleep(time.Minute)
	return s.ResponseRecorder.Write(b)
}

// A client that takes its snapshot slowly may do so, unless others wait for room.
func TestSlowSnapshots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := servertest.New("/srv/data")
		for i := range 40_000 { // some 20 writes
			tree.Create(fmt.Sprintf("%080d", i))
		}
		api := New(Options{Files: tree, Feed: feed.New(tree.Log, feed.Options{Places: tree})})
		api.snaps.held = maxHeld - 1
		get := func(what string) string {
			w := slow{httptest.NewRecorder()}
			r := httptest.NewRequest("GET", "/v1/files/%2Fsrv%2Fdata/"+what, nil)
			r.Header.Set("Accept", "text/event-stream")
			func() {
				defer func() {
					if e := recover(); e != nil && e != http.ErrAbortHandler {
						panic(e)
					}
				}()
				if err := api.ServeFiles(w, r); err != nil {
					t.Error(err)
				}
			}()
			return w.Body.String()
		}
		for _, what := range []string{"entries", "notify?since=snapshot&timeout=0"} {
			for _, wanted := range []time.Duration{0, 90 * time.Second, 870 * time.Second} {
				if wanted > 0 {
					time.AfterFunc(wanted, func() {
						if _, _, err := api.snaps.take(t.Context(), func() (*notify.Snapshot, error) { return nil, notify.NotFound }); !errors.Is(err, errFull) {
							t.Error(err)
						}
					})
				}
				told := get(what)
				last := fmt.Sprintf("%080d", 39_999)
				if whole := strings.Contains(told, last); whole != (wanted < snapshotTime) {
					t.Errorf("%s, and somebody else wants room after %v: all told: %v", what, wanted, whole)
				}
				if stream := what[0] == 'n'; stream && wanted > snapshotTime && !strings.HasSuffix(told, ": closed: "+notify.Message(errSlow)+"\n\n") {
					t.Errorf("%s ends with %q", what, told[max(0, len(told)-200):])
				}
				if api.snaps.held != maxHeld-1 {
					t.Errorf("%d entries are held for nobody", api.snaps.held-maxHeld+1)
				}
			}
		}
	})
}
