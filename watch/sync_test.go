//go:build linux

package watch_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"fs_notify/notify"
)

// However long the reader sleeps, Sync waits for what happened before.
func TestSyncWaitsForASlowReader(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		if kind == "poll" {
			t.Skip("nobody reads anything")
		}
		t.Parallel()
		r, g := gated(t, kind, t.TempDir())
		r.Keep()
		r.Sync(t)
		resume := g.Stall()
		if err := os.WriteFile(filepath.Join(r.Dir, "f"), nil, 0o644); err != nil { // this one the reader may still hear of
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		if err := os.Mkdir(filepath.Join(r.Dir, "d"), 0o755); err != nil {
			t.Fatal(err)
		}
		told := func() bool {
			return slices.ContainsFunc(r.Take(), func(n notify.Notification) bool { return n.Type == notify.ChildDirAdded && n.Path == "d" })
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond) // longer than it takes to try again
		defer cancel()
		early := r.Watcher.Sync(ctx) == nil
		if early && !told() {
			t.Error("Sync returned before the directory was told")
		}
		resume()
		r.Sync(t)
		if !early && !told() {
			t.Error("Sync returned, and the directory is not told")
		}
	})
}
