package feed_test

import (
	"fmt"
	"strings"
	"testing"

	"fs_notify/notify"
	"fs_notify/notify/feed"
)

// The tree of these tests: root 1 with directory 2 "top", in it 3 "watched", in it 4 "sub" and files 10, 11.
const (
	root, top, watched, sub, file, other notify.FileID = 1, 2, 3, 4, 10, 11
)

func note(t notify.Type, path string, spine ...notify.FileID) notify.Notification {
	return notify.Notification{Type: t, Path: path, Spine: spine}
}

func linked(n notify.Notification, place int) notify.Notification {
	n.Link = notify.Seq(place)
	return n
}

func batch(notes ...notify.Notification) *notify.Batch {
	b := &notify.Batch{Root: root, Notes: notes}
	b.Assign(100, 99, 0)
	return b
}

// show prints hits as "type path [spine]", "+" where an operation goes on.
func show(hits []feed.Hit) string {
	var out []string
	for _, h := range hits {
		s := fmt.Sprintf("%s %q %v", h.Note.Type, h.Note.PathFrom(h.At), h.Note.Spine[h.At:])
		if h.Glued {
			s += " +"
		}
		out = append(out, s)
	}
	return strings.Join(out, "\n")
}

func TestMatch(t *testing.T) {
	all := notify.Qumulo
	for _, tt := range []struct {
		name      string
		recursive bool
		types     notify.TypeSet
		notes     []notify.Notification
		want      string
		end       bool
	}{
		{"an entry of the directory", false, all,
			[]notify.Notification{note(notify.ChildFileAdded, "top/watched/f", root, top, watched, file)},
			`child_file_added "f" [3 10]`, false},
		{"halves that are asked for without the others stand alone", false, notify.SetOf(notify.ChildFileMovedFrom),
			[]notify.Notification{
				linked(note(notify.ChildFileMovedFrom, "top/watched/a", root, top, watched, file), 2), linked(note(notify.ChildFileMovedTo, "top/watched/b", root, top, watched, file), 1),
				linked(note(notify.ChildFileMovedFrom, "top/watched/c", root, top, watched, other), 4), linked(note(notify.ChildFileMovedTo, "top/watched/d", root, top, watched, other), 3)},
			"child_file_moved_from \"a\" [3 10]\nchild_file_moved_from \"c\" [3 11]", false},
		{"an entry further down is not seen by one that looks at one level", false, all,
			[]notify.Notification{note(notify.ChildFileAdded, "top/watched/sub/f", root, top, watched, sub, file)}, "", false},
		{"but by one that looks at all", true, all,
			[]notify.Notification{note(notify.ChildFileAdded, "top/watched/sub/f", root, top, watched, sub, file)},
			`child_file_added "sub/f" [3 4 10]`, false},
		{"a sibling whose name begins alike", true, all,
			[]notify.Notification{note(notify.ChildFileAdded, "top/watched-old/f", root, top, other, file)}, "", false},
		{"a type that was not asked for", true, notify.SetOf(notify.ChildDirAdded),
			[]notify.Notification{note(notify.ChildFileAdded, "top/watched/f", root, top, watched, file)}, "", false},
		{"an attribute of the directory itself is its parent's news", true, all,
			[]notify.Notification{note(notify.ChildMtimeChanged, "top/watched", root, top, watched)}, "", false},
		{"an extension that was not asked for", true, all,
			[]notify.Notification{note(notify.ChildFileClosed, "top/watched/f", root, top, watched, file)}, "", false},
		{"an extension by name", true, notify.SetOf(notify.ChildFileClosed),
			[]notify.Notification{note(notify.ChildFileClosed, "top/watched/f", root, top, watched, file)},
			`child_file_closed "f" [3 10]`, false},
		{"rm -rf of the directory, and something after", true, notify.SetOf(notify.ChildFileAdded),
			[]notify.Notification{
				note(notify.ChildFileRemoved, "top/watched/f", root, top, watched, file),
				note(notify.ChildDirRemoved, "top/watched", root, top, watched),
				note(notify.ChildFileAdded, "top/watched/f", root, top, watched, file)},
			`self_removed "" [3]`, true},
		{"moved out of the root", false, all,
			[]notify.Notification{note(notify.ChildDirMovedFrom, "top/watched", root, top, watched)},
			`self_removed "" [3]`, true},
		{"moved inside the root: the watch follows", true, all,
			[]notify.Notification{
				linked(note(notify.ChildDirMovedFrom, "top/watched", root, top, watched), 2),
				linked(note(notify.ChildDirMovedTo, "elsewhere", root, watched), 1),
				note(notify.ChildFileAdded, "elsewhere/f", root, watched, file)},
			`child_file_added "f" [3 10]`, false},
		{"something above was moved out of the root", true, all,
			[]notify.Notification{
				note(notify.ChildDirMovedFrom, "top", root, top),
				note(notify.SelfRemoved, "top/watched", root, top, watched)},
			`self_removed "" [3]`, true},
		{"another directory was moved out with what is above it", true, all,
			[]notify.Notification{note(notify.SelfRemoved, "top/watched/sub", root, top, watched, sub)}, "", false},
		{"the root went away", true, notify.SetOf(notify.ChildFileAdded),
			[]notify.Notification{note(notify.SelfRemoved, "", root)},
			`self_removed "" [3]`, true},
		{"rescanned below", true, notify.SetOf(notify.SelfRescanned),
			[]notify.Notification{note(notify.SelfRescanned, "top/watched/sub", root, top, watched, sub)},
			`self_rescanned "sub" [3 4]`, false},
		{"rescanned far below does not touch one level", false, notify.SetOf(notify.SelfRescanned),
			[]notify.Notification{note(notify.SelfRescanned, "top/watched/sub/d", root, top, watched, sub, other)}, "", false},
		{"rescanned itself", false, notify.SetOf(notify.SelfRescanned),
			[]notify.Notification{note(notify.SelfRescanned, "top/watched", root, top, watched)},
			`self_rescanned "" [3]`, false},
		{"rescanned above, or so it may be", false, notify.SetOf(notify.SelfRescanned),
			[]notify.Notification{note(notify.SelfRescanned, "top", root, top)},
			`self_rescanned "" [3]`, false},
		{"rescanned, not asked for", true, all,
			[]notify.Notification{note(notify.SelfRescanned, "top/watched", root, top, watched)}, "", false},
		{"a rename is one operation", true, all,
			[]notify.Notification{
				linked(note(notify.ChildFileMovedFrom, "top/watched/a", root, top, watched, file), 2),
				linked(note(notify.ChildFileMovedTo, "top/watched/sub/b", root, top, watched, sub, file), 1),
				note(notify.ChildFileAdded, "top/watched/f", root, top, watched, other)},
			"child_file_moved_from \"a\" [3 10] +\nchild_file_moved_to \"sub/b\" [3 4 10]\nchild_file_added \"f\" [3 11]", false},
		{"an exchange of names is one operation", true, all,
			[]notify.Notification{
				linked(note(notify.ChildFileMovedFrom, "top/watched/a", root, top, watched, file), 4),
				linked(note(notify.ChildFileMovedFrom, "top/watched/b", root, top, watched, other), 3),
				linked(note(notify.ChildFileMovedTo, "top/watched/a", root, top, watched, other), 2),
				linked(note(notify.ChildFileMovedTo, "top/watched/b", root, top, watched, file), 1)},
			"child_file_moved_from \"a\" [3 10] +\nchild_file_moved_from \"b\" [3 11] +\n" +
				"child_file_moved_to \"a\" [3 11] +\nchild_file_moved_to \"b\" [3 10]", false},
		{"half of a rename leads out of the view", true, all,
			[]notify.Notification{
				linked(note(notify.ChildFileMovedFrom, "top/watched/a", root, top, watched, file), 2),
				linked(note(notify.ChildFileMovedTo, "top/a", root, top, file), 1)},
			`child_file_moved_from "a" [3 10]`, false},
	} {
		v := feed.View{Root: root, Dir: watched, Recursive: tt.recursive, Types: tt.types}
		hits, end := v.Match(nil, batch(tt.notes...), 0)
		if got := show(hits); got != tt.want || end != tt.end {
			t.Errorf("%s: Match gave\n%s\nend %v, want\n%s\nend %v", tt.name, got, end, tt.want, tt.end)
		}
	}
}

func TestMatchOfAnotherRoot(t *testing.T) {
	b := batch(note(notify.SelfRemoved, "", root))
	if hits, end := (feed.View{Root: 77, Dir: watched, Types: notify.Qumulo}).Match(nil, b, 0); len(hits) > 0 || end {
		t.Errorf("a batch of root %d reached a watch in root 77: %s", root, show(hits))
	}
}

func TestMatchGoesOnInsideABatch(t *testing.T) {
	b := batch(
		note(notify.ChildFileAdded, "a", root, 20), // index 3: an added is four wide
		note(notify.ChildSizeChanged, "a", root, 20),
		note(notify.ChildMtimeChanged, "a", root, 20))
	v := feed.View{Root: root, Dir: root, Types: notify.Qumulo}
	for after, want := range map[notify.Seq]int{
		0: 3, b.Number.Seq(0): 3, b.Number.Seq(3): 2, b.Number.Seq(4): 1, b.Number.Seq(5): 0, b.Number.End(): 0,
	} {
		if hits, _ := v.Match(nil, b, after); len(hits) != want {
			t.Errorf("after index %d: %d notifications, want %d", after.Index(), len(hits), want)
		}
	}
}
