//go:build linux

package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is mounted once and never again, as by one container after the other, is not remembered for ever.
func TestMountsThatAreGoneAreForgotten(t *testing.T) {
	dir := t.TempDir()
	w, _ := start(t, dir)
	for i := range 4 {
		m := filepath.Join(dir, fmt.Sprint("m", i))
		if err := os.Mkdir(m, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("none", m, "tmpfs", 0, ""); err != nil {
			t.Skip("mounting takes root: ", err)
		}
		t.Cleanup(func() { unix.Unmount(m, unix.MNT_DETACH) })
		until := func(what string, ok func() bool) {
			t.Helper()
			for begin := time.Now(); !ok(); time.Sleep(10 * time.Millisecond) {
				if time.Since(begin) > time.Minute {
					t.Fatalf("mount %d: %s; known are %v", i, what, w.t.ms.list())
				}
			}
		}
		f := filepath.Join(m, "f")
		if err := os.WriteFile(f, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		until("what is in it is not told", func() bool {
			_, err := w.LookupPath(t.Context(), w.cfg.Roots[0].Name+fmt.Sprintf("/m%d/f", i))
			return err == nil
		})
		// The one before this was under its directory until now.
		until("the ones before are not forgotten", func() bool { return len(w.t.ms.list()) <= 3 })
		until("it stays busy", func() bool { return unix.Unmount(m, 0) == nil })
		until("it is not told that it went", func() bool {
			_, err := w.LookupPath(t.Context(), w.cfg.Roots[0].Name+fmt.Sprintf("/m%d/f", i))
			return err != nil
		})
	}
}
