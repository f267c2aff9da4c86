//go:build linux

package watch_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fs_notify/notify/journal"
	"fs_notify/watch"
	"fs_notify/watch/watchtest"
)

// Two directories of which a first scan hands over the entries in pieces, beside many that it does not, are scanned, stored and remembered as a whole; and a
// scan of them can be ended at any time.
func TestLargeDirectories(t *testing.T) {
	const large = 20_000
	dir, state := t.TempDir(), t.TempDir()
	for _, d := range []string{"a", "z"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range large {
			if err := os.WriteFile(fmt.Sprintf("%s/%s/%d", dir, d, i), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	sh(t, dir, "mkdir -p b/{1..50}/{1..10} a/d{1..20} z/d{1..20}; touch b/{1..50}/f a/d{1..20}/f z/d{1..20}/f")
	for _, when := range []string{"scanned", "remembered"} {
		r, _, stop := remembering(t, "inotify", dir, state)
		disk, err := watchtest.DiskListing(dir)
		if err != nil {
			t.Fatal(err)
		}
		mirror := r.Mirror.Listing()
		for _, d := range watchtest.Diff(when, mirror, "the disk", disk) {
			t.Error(d)
		}
		if len(mirror) < 2*large {
			t.Errorf("%s: %d entries", when, len(mirror))
		}
		stop()
	}
	for after := range 20 {
		src, err := watch.NewSource("inotify", watch.SourceOptions{})
		if err != nil {
			t.Fatal(err)
		}
		w, err := watch.New(watch.Config{Roots: []watch.Root{{Dir: dir}}, Source: src, Sink: journal.NewMemory(journal.MemoryOptions{}), Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(after)*5*time.Millisecond)
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Fatal("a scan that is to end does not")
		}
		cancel()
	}
}
