package watch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fs_notify/notify"
)

// linked makes a directory with a file of so many names, and gives a way to do something with each.
func linked(t testing.TB, names int) (dir string, each func(f func(name string) error)) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "0"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	each = func(f func(name string) error) {
		for i := range names {
			if err := f(filepath.Join(dir, fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	first := filepath.Join(dir, "0")
	each(func(name string) error {
		if name == first {
			return nil
		}
		return os.Link(first, name)
	})
	return dir, each
}

// A file with many names is written to, renamed and removed by turns, faster than all its names are looked at: what is told of each is what is on the disk.
func TestManyNames(t *testing.T) {
	const names = 1000
	dir, each := linked(t, names)
	w, sink := start(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	told := func(typ notify.Type) (paths map[string]bool) {
		paths = make(map[string]bool)
		for _, n := range sink.take() {
			if n.Type == typ {
				paths[n.Path] = true
			}
		}
		return paths
	}
	one, err := os.OpenFile(filepath.Join(dir, "1"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	for _, step := range []struct {
		typ notify.Type
		do  func(name string) error
	}{
		{notify.ChildSizeChanged, func(string) error { return nil }},
		{notify.ChildFileMovedTo, func(name string) error { return os.Rename(name, name+"r") }},
		{notify.ChildFileRemoved, func(name string) error { return os.Remove(name + "r") }},
	} {
		each(func(name string) error {
			if _, err := one.WriteString("x"); err != nil {
				return err
			}
			return step.do(name)
		})
		if err := w.Settle(ctx); err != nil {
			t.Fatal(err)
		}
		if got := told(step.typ); len(got) != names {
			t.Errorf("%d names were told with %v, want %d", len(got), step.typ, names)
		}
	}
	root, err := w.LookupPath(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := w.Children(ctx, root.ID()); n != 0 || err != nil {
		t.Errorf("the tree has %d entries left, %v", n, err)
	}
}

// The cost of a name of a file with many of them, which are all made, renamed and removed: it should not grow with their number.
func BenchmarkManyNames(b *testing.B) {
	for _, names := range []int{1000, 4000, 16000} {
		b.Run(fmt.Sprint(names), func(b *testing.B) {
			dir, each := linked(b, names)
			w, _ := start(b, dir)
			first := filepath.Join(dir, "0")
			settle := func() {
				if err := w.Settle(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				each(func(name string) error { return os.Rename(name, name+"r") })
				settle()
				each(func(name string) error { return os.Rename(name+"r", name) })
				settle()
				each(func(name string) error {
					if name == first {
						return nil
					}
					return os.Remove(name)
				})
				settle()
				each(func(name string) error {
					if name == first {
						return nil
					}
					return os.Link(first, name)
				})
				settle()
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(4*names*b.N), "µs/name")
		})
	}
}
