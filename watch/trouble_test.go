package watch

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fullSource has no watch left.
type fullSource struct{ quietSource }

func (fullSource) Watch(DirRef, Place) error { return srcLimit(syscall.ENOSPC) }

// All directories are degraded: they are counted, a hundred of them are named, and the log has the first ones and how many they became. The
// same when they are watched again.
func TestManyDegradedDirectories(t *testing.T) {
	root := t.TempDir()
	for i := range 499 {
		if err := os.Mkdir(filepath.Join(root, fmt.Sprint(i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	w, err := New(Config{Roots: []Root{{Dir: root}}, Source: fullSource{}, Sink: &memSink{}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	check := func(what, line string, count, named int) {
		t.Helper()
		s := w.Roots()[0]
		if s.DegradedCount != count || len(s.Degraded) != named {
			t.Errorf("%s: %d degraded, %d named, want %d and %d", what, s.DegradedCount, len(s.Degraded), count, named)
		}
		if n := strings.Count(log.String(), line); n != 15 || !strings.Contains(log.String(), "so_far=320") {
			t.Errorf("%s: %d lines, want the first ten, and those of 20, 40, 80, 160 and 320:\n%s", what, n, &log)
		}
		log.Reset()
	}
	if err := w.scan(t.Context(), w.t.roots[0]); err != nil {
		t.Fatal(err)
	}
	check("without watches", "directory degraded", 500, 100)
	all := w.Roots()
	all[0].Degraded, all[0].DegradedCount = nil, 0
	if brief := w.States(); !reflect.DeepEqual(brief, all) {
		t.Errorf("without what is degraded: %+v, want %+v", brief, all)
	}
	if reason := w.Roots()[0].Degraded[99].Reason; !strings.Contains(reason, "max_user_watches") {
		t.Errorf("the reason is %q", reason)
	}
	w.t.s.children(w.t.roots[0].node, w.t.heal)
	check("watched again", "directory healed", 1, 1)
}

// polledSource cannot watch what is called d.
type polledSource struct{ quietSource }

func (polledSource) Watch(_ DirRef, at Place) error {
	if filepath.Base(at.Path) == "d" {
		return ErrPolled
	}
	return nil
}

// When the last directory that has to be polled is gone, nobody who waits for the disk asks for that any more.
func TestNothingIsPolledAnyMore(t *testing.T) {
	dir := t.TempDir()
	d := filepath.Join(dir, "d")
	if err := os.Mkdir(d, 0o755); err != nil {
		t.Fatal(err)
	}
	w, err := New(Config{Roots: []Root{{Dir: dir}}, Source: polledSource{}, Sink: &memSink{}, PollInterval: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.scan(t.Context(), w.t.roots[0]); err != nil {
		t.Fatal(err)
	}
	goOn(t, w, "it is not polled", func() bool { return w.sweep != nil })
	if !w.t.hasUnwatched.Load() {
		t.Error("nobody asks for it to be polled")
	}
	if err := os.Remove(d); err != nil {
		t.Fatal(err)
	}
	w.in.put([]Record{{Dir: w.t.roots[0].node, Name: []byte("d"), Op: OpDelete}})
	goOn(t, w, "it is polled for ever", func() bool { return !w.t.hasUnwatched.Load() })
}
