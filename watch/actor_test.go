package watch_test

import (
	"os"
	"testing"

	"fs_notify/notify"
	"fs_notify/watch/watchtest"
)

// Who did it is told where the kernel says so and the process is still there.
func TestActor(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only fanotify says who did it, and it needs root")
	}
	dir := t.TempDir()
	r := watchtest.Start(t, "fanotify", dir)
	r.Keep()
	sh(t, dir, "touch file; sleep 0.3")
	if err := os.WriteFile(dir+"/own", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r.Sync(t)
	for _, n := range r.Take() {
		if n.Type == notify.ChildFileAdded && n.Path == "own" {
			if n.Actor == nil || int(n.Actor.PID) != os.Getpid() || n.Actor.UID != 0 || n.Actor.Command == "" {
				t.Errorf("own: actor %+v, want this process, %d", n.Actor, os.Getpid())
			}
			return
		}
	}
	t.Error("the file was not told")
}
