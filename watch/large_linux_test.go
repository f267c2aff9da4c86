package watch_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
	"fs_notify/watch"
	"fs_notify/watch/watchtest"
)

// plenty makes a directory of so many directories of so many files each.
func plenty(t testing.TB, dir string, dirs, files int) {
	t.Helper()
	for i := range dirs {
		own := filepath.Join(dir, fmt.Sprint("d", i))
		if err := os.MkdirAll(own, 0o755); err != nil {
			t.Fatal(err)
		}
		for j := range files {
			if err := os.WriteFile(filepath.Join(own, fmt.Sprint("f", j)), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A directory that comes with all that is in it is told whole, and all of it once, though no pass lists more than a name of it.
func TestLargeDirectoryComes(t *testing.T) {
	for _, kind := range sources(t) {
		t.Run(kind, func(t *testing.T) {
			top := t.TempDir()
			plenty(t, filepath.Join(top, "out"), 5, 20)
			r := watchtest.Start(t, kind, made(t, filepath.Join(top, "root")), func(c *watch.Config) { c.ListNames = 1 })
			r.Keep()
			sh(t, top, "mv out root/large")
			r.Sync(t)
			times := make(map[string]int)
			for _, n := range r.Take() {
				if n.Type == notify.ChildFileAdded {
					times[n.Path]++
				}
			}
			for path, n := range times {
				if n != 1 {
					t.Errorf("%s is told %d times", path, n)
				}
			}
			if len(times) != 100 {
				t.Errorf("%d files are told, want 100", len(times))
			}
			r.Check(t)
		})
	}
}

// While a directory is left half-way it is renamed, and with it what nobody has looked at; things in it are renamed, and it goes.
func TestLargeDirectoryChangesMeanwhile(t *testing.T) {
	for _, kind := range sources(t) {
		t.Run(kind, func(t *testing.T) {
			top := t.TempDir()
			dir := filepath.Join(top, "root")
			r := watchtest.Start(t, kind, made(t, dir), func(c *watch.Config) { c.ListNames = 20 })
			for i := range 10 {
				plenty(t, filepath.Join(top, "out"), 10, 30)
				sh(t, top, fmt.Sprintf("mv out root/l%d; mv root/l%[1]d/d1/f29 root/f%[1]d; mv root/l%[1]d root/m%[1]d; mv root/m%[1]d/d2 root/m%[1]d/d3/; touch root/m%[1]d/d3/d2/new", i))
				if i%3 == 2 {
					sh(t, top, fmt.Sprintf("mv root/m%d gone%[1]d", i))
				}
			}
			r.Check(t)
		})
	}
}

// What is renamed into a directory that nobody has looked at yet is told as renamed there, and not as gone and come.
func TestMoveIntoWhatIsLeft(t *testing.T) {
	for _, kind := range sources(t) {
		if kind == "poll" || kind == "fsnotify" {
			continue
		}
		t.Run(kind, func(t *testing.T) {
			top := t.TempDir()
			dir := filepath.Join(top, "root")
			plenty(t, filepath.Join(top, "out"), 300, 0)
			plenty(t, filepath.Join(dir, "old"), 3, 1)
			sh(t, dir, "touch old/f{1..20}")
			r := watchtest.Start(t, kind, dir, func(c *watch.Config) { c.ListNames = 1 })
			r.Keep()
			sh(t, top, "mv out root/huge; for i in {1..20}; do mv root/old/f$i root/huge/d$((i*14))/moved; done; for i in 0 1 2; do mv root/old/d$i root/huge/d$((i*90+7))/moved; done")
			r.Sync(t)
			moved := 0
			for _, n := range r.Take() {
				switch into := filepath.Base(n.Path) == "moved"; {
				case into && (n.Type == notify.ChildFileMovedTo || n.Type == notify.ChildDirMovedTo) && n.Link != 0:
					moved++
				case into && (n.Type == notify.ChildFileAdded || n.Type == notify.ChildDirAdded), strings.HasPrefix(n.Path, "old/") && n.Link == 0:
					t.Errorf("%v %s", n.Type, n.Path)
				}
			}
			if moved != 23 {
				t.Errorf("%d are told as renamed, want 23", moved)
			}
			r.Check(t)
		})
	}
}

// Each file that was made without a name and written has its directory listed: what is left of it is left once.
func TestLeftOnce(t *testing.T) {
	for _, kind := range sources(t) {
		if kind == "poll" {
			continue
		}
		t.Run(kind, func(t *testing.T) {
			const files = 2 * 4096
			top := t.TempDir()
			plenty(t, top, 1, files)
			dir := filepath.Join(top, "d0")
			r := watchtest.Start(t, kind, dir, func(c *watch.Config) { c.ListNames = 1 })
			r.Sync(t)
			most := 0
			for range 100 {
				fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR, 0o600)
				if err != nil {
					t.Skip(err)
				}
				if _, err := unix.Write(fd, []byte("x")); err != nil {
					t.Error(err)
				}
				unix.Close(fd)
				time.Sleep(5 * time.Millisecond)
				most = max(most, r.Stats().Dirty)
			}
			if most > files+files/2 {
				t.Errorf("%d names wait, in a directory of %d", most, files)
			}
			r.Check(t)
		})
	}
}

func made(t testing.TB, dir string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// BenchmarkBesideALargeMove tells how late a file is told that is made while a directory with 100,000 files moves into the root: ms/p50 and ms/max of those that
// are made until all of it is told.
func BenchmarkBesideALargeMove(b *testing.B) {
	for _, shape := range []struct{ dirs, files int }{{1, 100_000}, {100, 1000}} {
		b.Run(fmt.Sprintf("%dx%d", shape.dirs, shape.files), func(b *testing.B) {
			top := b.TempDir()
			dir := made(b, filepath.Join(top, "root"))
			var to *firstTold
			r := watchtest.Start(b, "auto", dir, func(c *watch.Config) { to = &firstTold{Sink: c.Sink}; c.Sink = to })
			var late []time.Duration
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				plenty(b, filepath.Join(top, "out"), shape.dirs, shape.files)
				b.StartTimer()
				done := make(chan struct{})
				go func() {
					defer close(done)
					if err := os.Rename(filepath.Join(top, "out"), filepath.Join(dir, fmt.Sprint("large", i))); err != nil {
						b.Error(err)
					}
					r.Sync(b)
				}()
				for n := 0; ; n++ {
					select {
					case <-done:
					case <-time.After(10 * time.Millisecond):
						name := fmt.Sprint("other", i, "-", n)
						begin, came := time.Now(), make(chan time.Time, 1)
						to.await.Store(name, came)
						if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
							b.Fatal(err)
						}
						late = append(late, (<-came).Sub(begin))
						continue
					}
					break
				}
			}
			slices.Sort(late)
			if len(late) > 0 {
				b.ReportMetric(float64(late[len(late)/2].Microseconds())/1000, "ms/p50")
				b.ReportMetric(float64(late[len(late)-1].Microseconds())/1000, "ms/max")
			}
		})
	}
}

// firstTold says when paths are told that somebody awaits.
type firstTold struct {
	watch.Sink
	await sync.Map // chan time.Time by path
}

func (f *firstTold) Append(ctx context.Context, root notify.FileID, notes []notify.Notification) (notify.BatchNumber, error) {
	for i := range notes {
		if came, ok := f.await.LoadAndDelete(notes[i].Path); ok {
			came.(chan time.Time) <- time.Now()
		}
	}
	return f.Sink.Append(ctx, root, notes)
}
