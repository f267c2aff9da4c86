package watch

import (
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
)

// Somebody sets times that nanoseconds since 1970 cannot hold: they are told as the furthest that can be, and Stat says the same.
func TestTouchedOutOfReach(t *testing.T) {
	dir := t.TempDir()
	f := filepath.Join(dir, "f")
	bash(t, dir, "touch -d 2000-01-01 f")
	w, sink := start(t, dir)
	for _, tt := range []struct {
		date string
		want int64
	}{
		{"2300-01-01", farTime * 1e9},
		{"2001-01-01T00:00:00Z", 978307200 * 1e9},
		{"1601-01-01", -farTime * 1e9}, // a file system with few years, as ext4, sets its earliest
	} {
		bash(t, dir, "touch -d "+tt.date+" f")
		var s unix.Stat_t
		if err := unix.Stat(f, &s); err != nil {
			t.Fatal(err)
		}
		want := tt.want
		if kept := int64(s.Mtim.Sec); -farTime < kept && kept < farTime {
			want = s.Mtim.Nano()
		}
		if err := w.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		told := false
		for _, n := range sink.take() {
			if told = told || n.Type == notify.ChildMtimeChanged; n.Attr.Mtime != want {
				t.Errorf("touch -d %s: %v with the time %d, want %d", tt.date, n.Type, n.Attr.Mtime, want)
			}
		}
		if !told {
			t.Errorf("touch -d %s: not told", tt.date)
		}
		found, err := w.LookupPath(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		if e, err := w.Stat(t.Context(), found.ID()); err != nil || e.Attr.Mtime != want {
			t.Errorf("touch -d %s: Stat gives %d, %v, want %d", tt.date, e.Attr.Mtime, err, want)
		}
	}
}

// What is told of a directory's modification time bears the change time and the access time of the same look, and so its change time never goes back.
func TestDirectoryTellsAllItsTimes(t *testing.T) {
	dir := t.TempDir()
	var later atomic.Int64
	w, sink := start(t, dir, stopped(&later))
	var last int64
	for _, do := range []string{
		"mkdir -p d/x && chmod 700 d",
		"touch -a -d 2100-01-01 d && touch -m -d 2001-01-01 d", // an access time that no listing moves
		"rmdir d/x",
		"touch -m -d 2003-01-01 d",
	} {
		bash(t, dir, do)
		if err := w.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		later.Add(int64(2 * mtimePause))
		if err := w.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		var s unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, "d"), &s); err != nil {
			t.Fatal(err)
		}
		var told *notify.Attr
		for _, n := range sink.take() {
			if n.Path != "d" {
				continue
			}
			if n.Attr.Ctime < last {
				t.Errorf("%s: %v has the change time %d, after %d was told", do, n.Type, n.Attr.Ctime, last)
			}
			last = n.Attr.Ctime
			if n.Type == notify.ChildMtimeChanged {
				told = &n.Attr
			}
		}
		switch {
		case told == nil:
			t.Errorf("%s: no time is told", do)
		case told.Mtime != s.Mtim.Nano() || last != s.Ctim.Nano(): // what is told last may be the mode
			t.Errorf("%s: told of mtime %d and at last of ctime %d, want %d and %d", do, told.Mtime, last, s.Mtim.Nano(), s.Ctim.Nano())
		case strings.HasPrefix(do, "touch") && told.Atime != s.Atim.Nano():
			t.Errorf("%s: told of atime %d, want %d", do, told.Atime, s.Atim.Nano())
		}
	}
}

// An access time that is the beginning of 1970 is one that is known, and stays in its second.
func TestAccessedIn1970(t *testing.T) {
	dir := t.TempDir()
	w, sink := start(t, dir)
	bash(t, dir, "touch f; touch -a -d @0 f; touch -m -d @10 f")
	if err := w.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	notes := sink.take()
	if len(notes) == 0 {
		t.Fatal("nothing is told")
	}
	if a := notes[len(notes)-1].Attr; a.Mtime != 10e9 || a.Atime <= 0 || a.Atime >= 1e9 {
		t.Errorf("told of mtime %d and atime %d, want 10 s, and something in the first second", a.Mtime, a.Atime)
	}
}
