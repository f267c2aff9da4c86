//go:build linux

package watch

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// srcBenchDir is in memory if possible: the benchmarks are about records, not about disks.
func srcBenchDir(b *testing.B) string {
	dir, err := os.MkdirTemp("/dev/shm", "fs_notify-bench-")
	if err != nil {
		return b.TempDir()
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// srcRawReader reads a queue with as little as there can be: read(2) and a walk along the lengths.
type srcRawReader struct {
	fd    int
	buf   []byte
	lenAt int // where an event says its length
	plus  int // what that length leaves out
}

func (r *srcRawReader) read(b *testing.B) (records int) {
	n, err := unix.Read(r.fd, r.buf)
	if errors.Is(err, unix.EAGAIN) {
		return 0
	}
	if err != nil {
		b.Fatal(err)
	}
	for off := 0; off < n; records++ {
		off += int(binary.NativeEndian.Uint32(r.buf[off+r.lenAt:])) + r.plus
	}
	return records
}

func newSrcRawReader(b *testing.B, api, dir string) *srcRawReader {
	var err error
	r := &srcRawReader{buf: make([]byte, srcBuffer)}
	if api == "inotify" {
		if r.fd, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err == nil {
			_, err = unix.InotifyAddWatch(r.fd, dir, inoMask)
		}
		r.lenAt, r.plus = 12, inoHeader
	} else {
		if r.fd, err = unix.FanotifyInit(fanInit, unix.O_RDONLY|unix.O_CLOEXEC); err == nil {
			err = unix.FanotifyMark(r.fd, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, fanMask, unix.AT_FDCWD, dir)
		}
	}
	if err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() { unix.Close(r.fd) })
	return r
}

func srcPerRecord(b *testing.B, d time.Duration, records int) {
	b.ReportMetric(float64(d.Nanoseconds())/float64(records), "ns/record")
}

// srcRenames renames one file from name to name: two records of inotify each, one of fanotify.
func srcRenames(b *testing.B, dir string, n int) {
	if err := os.WriteFile(dir+"/0", nil, 0o600); err != nil {
		b.Fatal(err)
	}
	for i := range n {
		if err := os.Rename(dir+"/"+strconv.Itoa(i), dir+"/"+strconv.Itoa(i+1)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDrain is what a record costs that waits in the kernel's queue, beside a reader that does nothing with it.
func BenchmarkDrain(b *testing.B) {
	const renames = 4000
	for _, kind := range srcKinds(b) {
		b.Run(kind, func(b *testing.B) {
			dir := srcBenchDir(b)
			r := newKindRig(b, kind, dir)
			r.watch(".")
			recs := make([]Record, 4096)
			total := 0
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				b.StopTimer()
				srcRenames(b, dir, renames)
				b.StartTimer()
				for n := 0; n < 2*renames; {
					got, _, err := r.s.Next(context.Background(), recs)
					if err != nil {
						b.Fatal(err)
					}
					for _, rec := range recs[:got] {
						if rec.Op&(OpMovedFrom|OpMovedTo) != 0 {
							n++
						}
					}
					total += got
				}
			}
			srcPerRecord(b, b.Elapsed(), total)
		})
	}
	for _, api := range []string{"inotify", "fanotify"} {
		b.Run("raw-"+api, func(b *testing.B) {
			dir := srcBenchDir(b)
			r := newSrcRawReader(b, api, dir)
			total := 0
			b.ResetTimer()
			for range b.N {
				b.StopTimer()
				srcRenames(b, dir, renames)
				b.StartTimer()
				for n := r.read(b); n > 0; n = r.read(b) {
					total += n
				}
			}
			if api == "fanotify" {
				total *= 2 // to be compared with records in pairs
			}
			srcPerRecord(b, b.Elapsed(), total)
		})
	}
}

const srcFlowEnv = "FS_NOTIFY_TEST_FLOW"

// TestSrcFlowGenerator is the other process of BenchmarkFlow: it renames until it is killed, five minutes at most.
func TestSrcFlowGenerator(t *testing.T) {
	dir := os.Getenv(srcFlowEnv)
	if dir == "" {
		t.Skip("only for BenchmarkFlow")
	}
	if err := os.WriteFile(dir+"/0", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		if err := os.Rename(dir+"/"+strconv.Itoa(i), dir+"/"+strconv.Itoa(i+1)); err != nil {
			t.Fatal(err)
		}
	}
}

func srcCPU(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFlow is the CPU time of a reader for each record while another process renames without rest. The raw
// reader pauses as long as ours does. An iteration is a second.
func BenchmarkFlow(b *testing.B) {
	flow := func(b *testing.B, dir string, read func(until time.Time) int) {
		cmd := exec.Command(os.Args[0], "-test.run=^TestSrcFlowGenerator$", "-test.timeout=5m")
		cmd.Env = append(os.Environ(), srcFlowEnv+"="+dir)
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		defer func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}()
		read(time.Now().Add(200 * time.Millisecond))
		b.ResetTimer()
		before, total := srcCPU(b), 0
		for range b.N {
			total += read(time.Now().Add(time.Second))
		}
		srcPerRecord(b, srcCPU(b)-before, total)
		b.ReportMetric(float64(total)/float64(b.N), "records/s")
	}
	for _, kind := range srcKinds(b) {
		b.Run(kind, func(b *testing.B) {
			dir := srcBenchDir(b)
			r := newKindRig(b, kind, dir)
			r.watch(".")
			recs := make([]Record, 4096)
			flow(b, dir, func(until time.Time) (total int) {
				for time.Now().Before(until) {
					n, _, err := r.s.Next(context.Background(), recs)
					if err != nil && !errors.Is(err, ErrOverflow) {
						b.Fatal(err)
					}
					total += n
				}
				return total
			})
		})
	}
	for _, api := range []string{"inotify", "fanotify"} {
		b.Run("raw-"+api, func(b *testing.B) {
			dir := srcBenchDir(b)
			r := newSrcRawReader(b, api, dir)
			flow(b, dir, func(until time.Time) (total int) {
				for time.Now().Before(until) {
					total += r.read(b)
					pause := unix.NsecToTimespec(int64(srcPause))
					_ = unix.Nanosleep(&pause, nil)
				}
				if api == "fanotify" {
					total *= 2
				}
				return total
			})
		})
	}
}

// BenchmarkIdle is the time from a system call on an idle machine to the record in the caller's hands.
func BenchmarkIdle(b *testing.B) {
	for _, kind := range srcKinds(b) {
		b.Run(kind, func(b *testing.B) {
			dir := srcBenchDir(b)
			r := newKindRig(b, kind, dir)
			r.watch(".")
			arrived := make(chan time.Time)
			go func() {
				defer close(arrived)
				recs := make([]Record, 64)
				for {
					n, _, err := r.s.Next(context.Background(), recs)
					now := time.Now()
					if err != nil {
						return
					}
					if slices.ContainsFunc(recs[:n], func(rec Record) bool { return rec.Op&OpCreate != 0 }) {
						arrived <- now
					}
				}
			}()
			var took []time.Duration
			for i := range b.N {
				time.Sleep(2 * time.Millisecond)
				start := time.Now()
				if err := unix.Mknod(dir+"/"+strconv.Itoa(i), unix.S_IFREG|0o600, 0); err != nil {
					b.Fatal(err)
				}
				took = append(took, (<-arrived).Sub(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-us")
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "p99-us")
		})
	}
}
