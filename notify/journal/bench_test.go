package journal

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"fs_notify/notify"
)

func openBench(b *testing.B, o Options) *Journal {
	b.Helper()
	o.Log = quiet()
	j, err := Open(b.TempDir(), o)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- j.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		<-done
		if err := j.Close(); err != nil {
			b.Error(err)
		}
	})
	return j
}

// batchesOf cuts the standard load into count batches of n notifications and gives copies of them in turn.
func batchesOf(n, count int) func(i int) []notify.Notification {
	var batches [][]notify.Notification
	for len(batches) < count {
		l := newLoad()
		for op := range 6 {
			notes := l.notes(op, 0, 2000)
			for ; len(notes) >= n && len(batches) < count; notes = notes[n:] {
				for i := range notes[:n] {
					notes[i].Link = 0 // cuts go through pairs
				}
				batches = append(batches, notes[:n])
			}
		}
	}
	return func(i int) []notify.Notification { return slices.Clone(batches[i%len(batches)]) }
}

// bulk fills a journal with batches, a millisecond apart, in large transactions, and opens it.
func bulk(b *testing.B, batches int, batch func(i int) []notify.Notification) *Journal {
	b.Helper()
	dir := b.TempDir()
	start := time.Now().Add(-24 * time.Hour)
	j, err := Open(dir, Options{Log: quiet(), Now: func() time.Time { return start }})
	if err != nil {
		b.Fatal(err)
	}
	prev := j.Bounds().Head
	for i := 0; i < batches; {
		err := j.commit(func(tx *sql.Tx) error {
			insert := tx.Stmt(j.insert)
			for end := min(i+10000, batches); i < end; i++ {
				r := new(rowEncoder).encode(prev+1, prev, prev, loadRoot, batch(i))
				if _, err := insert.Exec(int64(r.number), int64(r.prev), int64(r.root), int64(r.rootPrev), r.body); err != nil {
					return err
				}
				prev++
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := j.db.checkpoint(false); err != nil {
			b.Fatal(err)
		}
	}
	leave(j)
	j = reopen(b, dir, Options{})
	if got := j.Bounds().Head; got != prev {
		b.Fatalf("the head is %d, not %d", got, prev)
	}
	return j
}

// BenchmarkAppend: every append is synced. Between two of them a bare file grows by 4 KiB and is synced: x-fsync is
// how much longer an append takes than that, on this disk, under the same noise.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "bare"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			j := openBench(b, Options{})
			batch := batchesOf(n, 400)
			page := make([]byte, 4096)
			var bare, ours time.Duration
			count := 0
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				notes := batch(i)
				start := time.Now()
				if _, err := f.Write(page); err != nil {
					b.Fatal(err)
				}
				if err := f.Sync(); err != nil {
					b.Fatal(err)
				}
				bare += time.Since(start)
				b.StartTimer()
				start = time.Now()
				if _, err := j.Append(b.Context(), loadRoot, notes); err != nil {
					b.Fatal(err)
				}
				ours += time.Since(start)
				count += n
			}
			b.ReportMetric(float64(count)/ours.Seconds(), "notes/s")
			b.ReportMetric(float64(bare.Nanoseconds())/float64(count/n), "fsync-ns")
			b.ReportMetric(ours.Seconds()/bare.Seconds(), "x-fsync")
		})
	}
}

// BenchmarkPage reads a journal from its beginning, as a reader that is far behind does.
func BenchmarkPage(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			j := bulk(b, 200_000/n, batchesOf(n, 1000))
			b.ReportMetric(float64(fileBytes(j.db.path))/200_000, "file-B/note")
			notes, pos := 0, notify.BatchNumber(0)
			for b.Loop() {
				page, err := j.Page(b.Context(), pos+1, 256)
				if err != nil {
					b.Fatal(err)
				}
				if pos = 0; len(page) > 0 {
					pos = page[len(page)-1].Number
				}
				for _, x := range page {
					notes += len(x.Notes)
				}
			}
			b.ReportMetric(float64(notes)/b.Elapsed().Seconds(), "notes/s")
		})
	}
}

// BenchmarkSeek finds places in a journal of a million batches.
func BenchmarkSeek(b *testing.B) {
	j := bulk(b, 1_000_000, batchesOf(1, 1000))
	base, head := j.Bounds().Base, j.Bounds().Head
	at := func(i int) notify.BatchNumber { return base + 1 + notify.BatchNumber(i*7919)%(head-base) }
	for name, f := range map[string]func(n notify.BatchNumber) error{
		"contains": func(n notify.BatchNumber) error { _, _, err := j.Contains(b.Context(), n.End()); return err },
		"time":     func(n notify.BatchNumber) error { _, err := j.SeekTime(b.Context(), n.Time()); return err },
		"page":     func(n notify.BatchNumber) error { _, err := j.Page(b.Context(), n, 16); return err },
		"back":     func(n notify.BatchNumber) error { _, err := j.PageBack(b.Context(), loadRoot, n, 16); return err },
	} {
		b.Run(name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if err := f(at(i)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkTree is a restart: a tree of 300,000 files in 30,000 directories is loaded, with nothing or with a million notifications behind it.
func BenchmarkTree(b *testing.B) {
	dir := b.TempDir()
	j := reopen(b, dir, Options{})
	l := newLoad()
	start := time.Now()
	_, err := j.ResetTree(b.Context(), loadRoot, nil, func(add func(notify.FileID, string, notify.FileID, *notify.Attr) error) error {
		a := notify.Attr{Mode: notify.ModeDir | 0o755, Nlink: 2, Ino: 99, Mtime: l.now, Ctime: l.now, Atime: l.now, Btime: l.now}
		for d := range 30000 {
			if err := add(loadRoot, fmt.Sprintf("dir-%05d", d), notify.FileID(1000000+d), &a); err != nil {
				return err
			}
		}
		for d := range 30000 {
			for f := range 10 {
				a := notify.Attr{Mode: notify.ModeFile | 0o644, Nlink: 1, UID: 1000, GID: 1000, Ino: uint64(d*10 + f), Size: int64(d), Mtime: l.now + int64(d)*12345, Ctime: l.now + int64(d)*12345, Atime: l.now, Btime: l.now}
				if err := add(notify.FileID(1000000+d), fmt.Sprintf("file-%06d", f), notify.FileID(l.rnd.Uint64()>>1), &a); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("handed over in %v, %d bytes", time.Since(start), fileBytes(j.trees.db.path))
	load := func(b *testing.B, j *Journal) {
		n := 0
		if _, _, err := j.LoadTree(b.Context(), loadRoot, func(notify.FileID, string, notify.FileID, *notify.Attr) error { n++; return nil }); err != nil || n < 330000 {
			b.Fatalf("%d entries, %v", n, err)
		}
	}
	b.Run("load", func(b *testing.B) {
		for b.Loop() {
			load(b, j)
		}
	})
	b.Run("load, a million notifications behind", func(b *testing.B) {
		notes, i := 0, 0
		l := newLoad()
		for notes < 1_000_000 {
			batch := l.notes([]int{0, 1, 1, 2, 3}[i%5], i/5*100, 100)
			unlink(batch)
			if _, err := j.Append(b.Context(), loadRoot, batch); err != nil {
				b.Fatal(err)
			}
			notes += len(batch)
			i++
		}
		leave(j)
		for b.Loop() {
			b.StopTimer()
			copied := copyDir(b, dir)
			b.StartTimer()
			j, err := Open(copied, Options{Log: quiet()})
			if err != nil {
				b.Fatal(err)
			}
			load(b, j)
			b.StopTimer()
			leave(j)
			os.RemoveAll(copied)
			b.StartTimer()
		}
	})
}
