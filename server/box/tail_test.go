package box

import (
	"fmt"
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
