package box

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/feed"
	"fs_notify/notify/feed/feedtest"
)

// ill is a journal whose disk, and with it all that memory holds no more, cannot be read for a while.
type ill struct {
	*feedtest.Log
	now   atomic.Bool
	asked chan struct{} // it was read in vain
}

func (l *ill) Ring(from notify.BatchNumber) ([]*notify.Batch, bool) {
	if l.now.Load() {
		return nil, false
	}
	return l.Log.Ring(from)
}

func (l *ill) PageBack(ctx context.Context, root notify.FileID, before notify.BatchNumber, limit int) ([]*notify.Batch, error) {
	if !l.now.Load() {
		return l.Log.PageBack(ctx, root, before, limit)
	}
	select {
	case l.asked <- struct{}{}:
	default:
	}
	return nil, &notify.Error{Op: "test", Kind: notify.Unavailable}
}

// A journal that cannot be read for a while lets those sleep on that wait, and tells them the news afterwards.
func TestLongPollsOutliveAnError(t *testing.T) {
	const patience, n = 20 * time.Second, 3
	log := &ill{Log: feedtest.New(1), asked: make(chan struct{}, 1)}
	a := New(Options{Files: onlyRoots{states: []notify.RootState{{Name: "/data", ID: 1, Phase: notify.Live}}}, Feed: feed.New(log, feed.Options{})})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- a.Run(ctx) }()
	defer func() { stop(); <-ended }()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := a.Serve(w, r); err != nil {
			a.WriteError(w, r, http.StatusServiceUnavailable, err)
		}
	}))
	defer s.Close()
	for i := range 2 { // the first time leaves nothing behind
		answers := make(chan string, n)
		for range n {
			go func() {
				resp, err := http.Get(s.URL + "/2.0/events/poll?stream_position=now")
				if err != nil {
					answers <- err.Error()
					return
				}
				defer resp.Body.Close()
				b, _ := io.ReadAll(resp.Body)
				answers <- string(b)
			}()
		}
		for end, waiting := time.Now().Add(patience), 0; waiting < n; time.Sleep(time.Millisecond) {
			a.tail.mu.Lock()
			waiting = a.polls.waiting
			a.tail.mu.Unlock()
			if time.Now().After(end) {
				t.Fatalf("%d polls wait", waiting)
			}
		}
		log.now.Store(true)
		log.Append(1, notify.Notification{Type: notify.ChildFileAdded, Path: fmt.Sprint("f", i), Spine: notify.Spine{1, notify.FileID(i + 2)}, Attr: notify.Attr{Mode: notify.ModeFile}})
		for range 2 { // and one more try
			select {
			case <-log.asked:
			case got := <-answers:
				t.Fatalf("while the journal cannot be read a poll says %q", got)
			case <-time.After(patience):
				t.Fatal("the journal is not looked at")
			}
		}
		log.now.Store(false)
		for range n {
			select {
			case got := <-answers:
				if !strings.Contains(got, "new_change") {
					t.Fatalf("then a poll says %q", got)
				}
			case <-time.After(patience):
				t.Fatal("a poll is not answered")
			}
		}
	}
}
