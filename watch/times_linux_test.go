package watch

import (
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
)

// Somebody sets times that nanoseconds since 1970 cannot hold: they are told as the furthest that can be, and Stat says the same.
func TestTouchedOutOfReach(t *testing.T) {
	dir := t.TempDir()
	f := filepath.Join(dir, "f")
	touch := func(date string) {
		t.Helper()
		if out, err := exec.Command("touch", "-d", date, f).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	touch("2000-01-01")
	w, sink := start(t, dir)
	for _, tt := range []struct {
		date string
		want int64
	}{
		{"2300-01-01", farTime * 1e9},
		{"2001-01-01T00:00:00Z", 978307200 * 1e9},
		{"1601-01-01", -farTime * 1e9}, // a file system with few years, as ext4, sets its earliest
	} {
		touch(tt.date)
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
