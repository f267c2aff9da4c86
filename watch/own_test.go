package watch_test

import (
	"os"
	"strings"
	"testing"

	"fs_notify/watch"
	"fs_notify/watch/watchtest"
)

// What the service writes itself inside a root feeds nobody: not its state, not its private directories.
func TestOwnFilesAreNotTold(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		dir := t.TempDir()
		t.Setenv("XDG_RUNTIME_DIR", dir)
		state := dir + "/state"
		if err := os.Mkdir(state, 0o700); err != nil {
			t.Fatal(err)
		}
		r := watchtest.Start(t, kind, dir, func(c *watch.Config) { c.Own = []string{state} })
		r.Keep()
		sh(t, dir, "echo x > state/journal; echo y > told; mv told state/gone; echo z > told")
		r.Sync(t)
		r.Sync(t)
		told := false
		for _, n := range r.Take() {
			told = told || n.Path == "told"
			if n.Path != "told" || strings.Contains(n.Path, "state") {
				t.Errorf("%v %q was told", n.Type, n.Path)
			}
		}
		if !told {
			t.Error("what is not our own was not told")
		}
		for path := range r.Mirror.Listing() {
			if path != "told" {
				t.Errorf("%q is in the tree", path)
			}
		}
	})
}
