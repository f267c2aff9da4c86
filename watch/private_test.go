//go:build linux

package watch

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

const privateChild = "FS_NOTIFY_TEST_PRIVATE_CHILD"

// TestKilledWatcher is the child of TestLeftPrivateDirectories.
func TestKilledWatcher(t *testing.T) {
	if os.Getenv(privateChild) == "" {
		t.Skip("a part of TestLeftPrivateDirectories")
	}
	start(t, t.TempDir())
	fmt.Println("runs")
	<-context.Background().Done()
}

// What a killed process leaves behind is removed by the next one; what one has that lives is not, nor what is not known to be left.
func TestLeftPrivateDirectories(t *testing.T) {
	run := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", run)
	t.Setenv("TMPDIR", t.TempDir())
	here := func() (names []string) {
		t.Helper()
		all, err := os.ReadDir(run)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			names = append(names, e.Name())
		}
		return names
	}
	child := func() (kill func()) {
		t.Helper()
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWatcher$")
		cmd.Env = append(os.Environ(), privateChild+"=1")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "runs"; {
		}
		return func() {
			cmd.Process.Kill()
			cmd.Wait()
		}
	}
	for _, other := range []string{"fs_notify-1", "fs_notify-2/dir", "else"} {
		if err := os.MkdirAll(filepath.Join(run, other), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	unknown := here()
	killFirst := child()
	defer killFirst()
	first := here()
	if len(first) != len(unknown)+2 { // the barrier's and fsnotify's
		t.Fatalf("a watcher has made %q", first)
	}
	killSecond := child()
	defer killSecond()
	if both := here(); len(both) != len(first)+2 {
		t.Fatalf("two watchers have made %q, after %q", both, first)
	}
	killFirst()
	w, _ := start(t, t.TempDir())
	now := here()
	if len(now) != len(first)+2 || slices.ContainsFunc(unknown, func(name string) bool { return !slices.Contains(now, name) }) {
		t.Errorf("after one was killed, and another started, there are %q, before %q", now, first)
	}
	for _, name := range first {
		if !slices.Contains(unknown, name) && slices.Contains(now, name) {
			t.Errorf("%s is left", name)
		}
	}
	if err := w.Sync(t.Context()); err != nil {
		t.Error(err)
	}
}
