//go:build linux

package watch_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"fs_notify/watch/watchtest"
	"fs_notify/watch/watchtest/fsmount"
)

// overloadEnv says how many files each of the eight writers makes instead of some hundred: 50000 is what docs/benchmarks.md tells of.
const overloadEnv = "FS_NOTIFY_TEST_OVERLOAD"

// Eight writers at once, more than anybody can follow: each makes files, appends to all, changes their modes, renames them in place and to
// another directory, and removes all but a few. Six operations and nine records of inotify a file.
func TestOverload(t *testing.T) {
	files := 400
	if s := os.Getenv(overloadEnv); s != "" {
		var err error
		if files, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	eachSource(t, func(t *testing.T, kind string) {
		dir := t.TempDir()
		if os.Geteuid() == 0 {
			dir = fsmount.One(t, "tmpfs")
		}
		r := watchtest.Start(t, kind, dir)
		begin := time.Now()
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for w := range errs {
			wg.Go(func() { errs[w] = overload(filepath.Join(dir, fmt.Sprint("w", w)), files) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		wrote := time.Since(begin)
		for r.Stats().Dirty > 0 { // Sync has a limit of its own
			time.Sleep(10 * time.Millisecond)
		}
		r.Check(t)
		s := r.Stats()
		t.Logf("%d operations in %v, told %v later: %d records, %d overflows, %d sweeps, %d looks",
			8*6*files, wrote.Round(time.Millisecond), (time.Since(begin) - wrote).Round(time.Millisecond), s.Records, s.Overflows, s.Sweeps, s.Looks)
		if kind == "fanotify" && (s.Overflows > 0 || s.Sweeps > 0) {
			t.Errorf("fanotify lost records: %d overflows, %d sweeps", s.Overflows, s.Sweeps)
		}
	})
}

func overload(dir string, files int) error {
	const perDir = 100
	name := func(d, i int, new string) string {
		return filepath.Join(dir, fmt.Sprint("d", d%(files/perDir)), new+strconv.Itoa(i))
	}
	var errs []error
	each := func(f func(i int) error) {
		for i := range files {
			if err := f(i); err != nil && len(errs) < 3 {
				errs = append(errs, err)
			}
		}
	}
	for d := range files / perDir {
		if err := os.MkdirAll(filepath.Join(dir, fmt.Sprint("d", d)), 0o755); err != nil {
			return err
		}
	}
	each(func(i int) error { return os.WriteFile(name(i, i, ""), []byte("hello"), 0o644) })
	each(func(i int) error {
		f, err := os.OpenFile(name(i, i, ""), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString("more")
		return errors.Join(err, f.Close())
	})
	each(func(i int) error { return os.Chmod(name(i, i, ""), 0o600) })
	each(func(i int) error { return os.Rename(name(i, i, ""), name(i, i, "n")) })
	each(func(i int) error { return os.Rename(name(i, i, "n"), name(i+1, i, "n")) })
	each(func(i int) error {
		if i%100 == 0 {
			return nil
		}
		return os.Remove(name(i+1, i, "n"))
	})
	return errors.Join(errs...)
}
