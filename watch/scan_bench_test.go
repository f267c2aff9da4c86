//go:build linux

package watch

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
)

// benchTree makes 300,000 files in 3,060 directories, once per file system: set FS_NOTIFY_BENCH_DIR to measure on another one.
func benchTree(b *testing.B) string {
	base := os.Getenv("FS_NOTIFY_BENCH_DIR")
	if base == "" {
		base = os.TempDir()
	}
	dir := filepath.Join(base, "fs_notify-bench-300k")
	if _, err := os.Stat(filepath.Join(dir, "done")); err == nil {
		return dir
	}
	os.RemoveAll(dir)
	for g := range 60 {
		for d := range 50 {
			p := fmt.Sprintf("%s/group%02d/dir%03d", dir, g, d)
			if err := os.MkdirAll(p, 0o755); err != nil {
				b.Fatal(err)
			}
			for f := range 100 {
				fd, err := unix.Open(fmt.Sprintf("%s/some-file-%03d", p, f), unix.O_CREAT|unix.O_WRONLY, 0o644)
				if err != nil {
					b.Fatal(err)
				}
				unix.Close(fd)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "done"), nil, 0o644); err != nil {
		b.Fatal(err)
	}
	unix.Sync() // or the disk is still being written to
	time.Sleep(3 * time.Second)
	return dir
}

// BenchmarkBareWalk is the limit: getdents64 and statx of every name on two workers, nothing kept.
func BenchmarkBareWalk(b *testing.B) {
	dir := benchTree(b)
	for b.Loop() {
		var wg sync.WaitGroup
		var mu sync.Mutex
		queue, busy := []string{dir}, 0
		cond := sync.NewCond(&mu)
		for range 2 {
			wg.Go(func() {
				l := new(looker)
				var a notify.Attr
				for {
					mu.Lock()
					for len(queue) == 0 && busy > 0 {
						cond.Wait()
					}
					if len(queue) == 0 {
						mu.Unlock()
						cond.Broadcast()
						return
					}
					p := queue[len(queue)-1]
					queue = queue[:len(queue)-1]
					busy++
					mu.Unlock()
					var dirs []string
					fd, err := unix.Open(p, unix.O_PATH|unix.O_DIRECTORY, 0)
					if err == nil {
						l.list(fd, func(name string) {
							if _, _, err := l.stat(fd, name, &a); err == nil && a.IsDir() {
								dirs = append(dirs, p+"/"+name)
							}
						})
						unix.Close(fd)
					}
					mu.Lock()
					queue = append(queue, dirs...)
					busy--
					cond.Broadcast()
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
}

func benchWatcher(b *testing.B, dir string) *Watcher {
	w, err := New(Config{Roots: []Root{{Dir: dir}}, Source: quietSource{}, Sink: &memSink{}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		b.Fatal(err)
	}
	return w
}

// BenchmarkScan is the first scan: names, file IDs, attributes and extended attributes of every entry in the tree.
func BenchmarkScan(b *testing.B) {
	dir := benchTree(b)
	for b.Loop() {
		w := benchWatcher(b, dir)
		if err := w.scan(b.Context(), w.t.roots[0]); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		runtime.GC()
		var with runtime.MemStats
		runtime.ReadMemStats(&with)
		n := w.t.s.live
		runtime.KeepAlive(w)
		w = nil
		runtime.GC()
		var without runtime.MemStats
		runtime.ReadMemStats(&without)
		b.ReportMetric(float64(with.HeapAlloc-without.HeapAlloc)/float64(n), "B/entry")
		b.StartTimer()
	}
}

// BenchmarkSweep looks at every name of an unchanged tree, as a restart does.
func BenchmarkSweep(b *testing.B) {
	dir := benchTree(b)
	w := benchWatcher(b, dir)
	if err := w.scan(b.Context(), w.t.roots[0]); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		sweepAll(w)
	}
	if w.sweeps.Load() == 0 {
		b.Fatal("no sweep has ended")
	}
}
