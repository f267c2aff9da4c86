package fsmount

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const childEnv = "FSMOUNT_TEST_CHILD"

// TestDyingChild is the child of TestLeftoverOfAKilledProcess.
func TestDyingChild(t *testing.T) {
	if os.Getenv(childEnv) == "" {
		t.Skip("a part of TestLeftoverOfAKilledProcess")
	}
	fmt.Println("mounted:" + One(t, "overlay"))
	time.Sleep(time.Minute)
}

func TestLeftoverOfAKilledProcess(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	One(t, "tmpfs") // skips where nothing can be mounted

	child := exec.Command(os.Args[0], "-test.run=^TestDyingChild$")
	child.Env = append(os.Environ(), childEnv+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	left := ""
	for lines := bufio.NewScanner(out); left == "" && lines.Scan(); {
		_, left, _ = strings.Cut(lines.Text(), "mounted:")
	}
	One(t, "tmpfs") // while the child lives, its mounts are left alone
	if got, _ := mountsBelow(filepath.Dir(left)); left == "" || len(got) != 2 {
		t.Errorf("below %q of a living process: mounts %v, want its overlay and the layers", left, got)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	child.Wait()
	if nameOf(left) != "overlay" {
		t.Fatalf("%s of the killed process is gone already: the test tests nothing", left)
	}

	One(t, "tmpfs")
	if _, err := os.Stat(filepath.Dir(left)); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", filepath.Dir(left), err)
	}
	if got, err := mountsBelow(filepath.Dir(left)); err != nil || len(got) != 0 {
		t.Errorf("still mounted: %v, %v", got, err)
	}
}

func TestAMountThatTheTestUnmountedItselfIsNoError(t *testing.T) {
	dir := One(t, "tmpfs")
	if err := syscall.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
}

func TestMountsInsideGoToo(t *testing.T) {
	var inner string
	t.Run("inside", func(t *testing.T) {
		inner = filepath.Join(One(t, "tmpfs"), "a b", "c")
		if err := os.MkdirAll(inner, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := mountTmpfs(inner); err != nil {
			t.Skip(err)
		}
	})
	if _, err := os.Stat(inner); inner != "" && !os.IsNotExist(err) {
		t.Errorf("%s: %v, want it gone", inner, err)
	}
}

func TestBusyMountIsTakenOutOfTheTree(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "m")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if !canMount() {
		t.Skip("only root may mount")
	}
	if err := mountTmpfs(dir); err != nil {
		t.Skip(err)
	}
	f, err := os.Create(filepath.Join(dir, "open"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unmountBelow(top, time.Millisecond); err == nil {
		t.Error("unmountBelow of a busy mount: no error, want one that names it")
	}
	if got, err := mountsBelow(top); err != nil || len(got) != 0 {
		t.Errorf("still mounted: %v, %v", got, err)
	}
}
