package box

import (
	"context"
	"fmt"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/feed"
	"fs_notify/notify/feed/feedtest"
)

// Trees with very many files are moved in, none of which is ever closed: the tail neither grows with them nor looks at all of them for each, and waits for the
// close of the next file that is written as ever.
func TestMoreNewFilesThanAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := feedtest.New(1)
		a := New(Options{Files: onlyRoots{states: []notify.RootState{{Name: "/data", ID: 1, Phase: notify.Live, Closes: true}}}, Feed: feed.New(log, feed.Options{})})
		visible := func() notify.Seq {
			t.Helper()
			pos, err := a.goal(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if n := len(a.tail.writing); n > maxWriting || len(a.tail.let) > maxLet {
				t.Fatalf("%d files are being written, %d of them for long", n, len(a.tail.let))
			}
			return pos
		}
		const each = 1024
		next := notify.FileID(2)
		visible()
		for tree := range 3 {
			before := log.Bounds().Newest()
			for range maxWriting/each + 2 {
				notes := make([]notify.Notification, each)
				for i := range notes {
					notes[i] = notify.Notification{Type: notify.ChildFileAdded, Path: fmt.Sprint(next), Spine: notify.Spine{1, next}, Attr: notify.Attr{Mode: notify.ModeFile, Nlink: 1}}
					next++
				}
				log.Append(1, notes...)
			}
			if got := visible(); got != before {
				t.Fatalf("tree %d: pages end at %d, want before it, at %d", tree, got, before)
			}
			time.Sleep(a.Hold)
			if got, head := visible(), log.Bounds().Newest(); got != head {
				t.Fatalf("tree %d: then pages end at %d, want %d", tree, got, head)
			}
			next++
			n := notify.Notification{Type: notify.ChildFileAdded, Path: "written", Spine: notify.Spine{1, next}, Attr: notify.Attr{Mode: notify.ModeFile, Nlink: 1}}
			before = log.Bounds().Newest()
			log.Append(1, n)
			if got := visible(); got != before {
				t.Fatalf("tree %d: a file is written, and pages end at %d, want before it, at %d", tree, got, before)
			}
			n.Type = notify.ChildFileClosed
			log.Append(1, n)
			if got, head := visible(), log.Bounds().Newest(); got != head {
				t.Fatalf("tree %d: it is closed, and pages end at %d, want %d", tree, got, head)
			}
		}
	})
}

// A file is cut by its path again and again, or its times are set, and as nobody has it open no close will come: a poll wakes each time after a rest. Over one that
// grows and grows it sleeps.
func TestAFileThatNobodyHasOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := feedtest.New(1)
		a := New(Options{Files: onlyRoots{states: []notify.RootState{{Name: "/data", ID: 1, Phase: notify.Live, Closes: true}}}, Feed: feed.New(log, feed.Options{})})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- a.Run(ctx) }()
		defer func() { stop(); <-ended }()
		poll := func(pos notify.Seq, stream string) <-chan string {
			answer := make(chan string, 1)
			go func() {
				w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/2.0/events/poll?stream_type="+stream+"&stream_position="+pos.String(), nil)
				if err := a.Serve(w, r.WithContext(notify.WithGrant(r.Context(), notify.Everything))); err != nil {
					t.Error(err)
				}
				answer <- w.Body.String()
			}()
			synctest.Wait()
			return answer
		}
		answered := func(poll <-chan string) bool {
			synctest.Wait()
			select {
			case got := <-poll:
				return got == newChange
			default:
				return false
			}
		}
		tell := func(types ...notify.Type) {
			var notes []notify.Notification
			for _, typ := range types {
				notes = append(notes, notify.Notification{Type: typ, Path: "f", Spine: notify.Spine{1, 2}, Attr: notify.Attr{Mode: notify.ModeFile, Nlink: 1}})
			}
			log.Append(1, notes...)
		}
		first := poll(log.Bounds().Newest(), "all")
		tell(notify.ChildSizeChanged, notify.ChildMtimeChanged)
		if answered(first) {
			t.Error("of a file that is being written a poll hears before a page has it")
		}
		if time.Sleep(a.Hold); !answered(first) {
			t.Error("a poll does not wake of a file that is cut")
		}
		for _, c := range []struct {
			stream string
			told   []notify.Type
		}{
			{"changes", []notify.Type{notify.ChildSizeChanged, notify.ChildMtimeChanged}},
			{"all", []notify.Type{notify.ChildMtimeChanged}},
			{"all", []notify.Type{notify.ChildMtimeChanged}},
			{"changes", []notify.Type{notify.ChildDataWritten}},
		} {
			time.Sleep(quiet)
			before := log.Bounds().Newest()
			waits := poll(before, c.stream)
			if tell(c.told...); !answered(waits) {
				t.Errorf("%s: a poll does not wake of %v", c.stream, c.told)
			}
			if time.Sleep(time.Second); !answered(poll(before, c.stream)) {
				t.Errorf("%s: a poll that comes later is not told of %v", c.stream, c.told)
			}
		}
		waits := poll(log.Bounds().Newest(), "all")
		for range int(quiet/time.Second) - 1 {
			time.Sleep(time.Second)
			if tell(notify.ChildDataWritten, notify.ChildMtimeChanged); answered(waits) {
				t.Fatal("a poll wakes of more data")
			}
		}
		if time.Sleep(2 * time.Second); !answered(waits) {
			t.Error("a poll does not wake of more data at all")
		}
	})
}
