//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"fs_notify/notify/journal"
	"fs_notify/watch"
)

// bench is one run of the program.
type bench struct {
	dir     string  // for images and scratch files
	binary  string  // fs_notify
	fs      string  // file system that is measured on
	scale   float64 // of the loads
	seconds float64 // of one fan-out measurement
	loose   bool    // servers and subscribers may run on any CPU
	runs    int
	pipes   bool // programs that print do it into a pipe
	only    string
	report  *report
}

func (b *bench) logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

func newDecoder(r io.Reader) *json.Decoder { return json.NewDecoder(r) }
func decode(r io.Reader, v any) error      { return newDecoder(r).Decode(v) }

// wanted says whether a subject is to be measured.
func (b *bench) wanted(name string) bool {
	if b.only == "" {
		return true
	}
	for want := range strings.SplitSeq(b.only, ",") {
		if strings.EqualFold(strings.TrimSpace(want), name) {
			return true
		}
	}
	return false
}

// each measures every subject so many times, in rounds, so that what else happens on the machine meets all of them.
func (b *bench) each(what string, rs *results, take func(s *subject) bool, measure func(s *subject, r *result) error) {
	for round := range b.runs {
		for _, s := range subjects() {
			if !take(s) || !b.wanted(s.name) {
				continue
			}
			r := rs.of(s.name, s.color)
			if why := s.missing(); why != "" {
				r.skipped = why
				continue
			}
			if r.skipped != "" {
				continue // it failed before
			}
			b.logf("%s, run %d of %d: %s", what, round+1, b.runs, s.name)
			if err := measure(s, r); err != nil {
				b.logf("%s: %v", s.name, err)
				r.skipped = "run " + strconv.Itoa(round+1) + " failed: " + firstLine(err.Error())
			} else {
				r.runs++
			}
		}
	}
}

// idle measures how long a create takes to the reader, alone and in a slow sequence.
func (b *bench) idle() error {
	var rs results
	b.pipes = true
	defer func() { b.pipes = false }()
	const lone, lonePause, steady, steadyPause = 50, 100 * time.Millisecond, 1000, 2 * time.Millisecond
	b.each("idle latency", &rs, func(s *subject) bool { return !strings.HasPrefix(s.name, "raw") }, func(s *subject, r *result) error {
		p, err := newPlace(b.fs, b.dir)
		if err != nil {
			return err
		}
		defer p.close()
		w, err := s.start(p.Dir, b)
		if err != nil {
			return err
		}
		defer w.stop()
		f, err := w.listen()
		if err != nil {
			return err
		}
		defer f.Close()
		time.Sleep(300 * time.Millisecond)
		for _, m := range []struct {
			key     string
			base, n int
			pause   time.Duration
		}{{"lone", 0, lone, lonePause}, {"", lone, steady, steadyPause}} {
			before, err := usageOf(w.pid)
			if err != nil {
				return err
			}
			l, err := measureLatency(f, p.Dir, m.base, m.n, m.pause)
			if err != nil {
				return err
			}
			p50, p99, lost := l.quantiles()
			r.add(m.key+"p50", float64(p50)/1e3)
			r.add(m.key+"p99", float64(p99)/1e3)
			r.add(m.key+"lost", float64(lost))
			after, err := usageOf(w.pid)
			if err != nil {
				return err
			}
			r.add(m.key+"cpu", float64((after.CPU-before.CPU).Milliseconds())/float64(m.n)*1e3)
		}
		end, err := usageOf(w.pid)
		if err != nil {
			return err
		}
		r.add("rss", float64(end.Peak))
		return nil
	})
	b.report.table("idle", rs.table(
		figure("alone: p50", "lonep50", micros), figure("p99", "lonep99", micros), figure("CPU a create", "lonecpu", micros),
		figure("every 2 ms: p50", "p50", micros), figure("p99", "p99", micros), figure("CPU a create", "cpu", micros),
		figure("peak RSS", "rss", megabytes), figure("lost", "lost", number)))
	for _, grow := range []bool{true, false} {
		alone, err := syncTime(b.dir, grow, lone, lonePause)
		if err != nil {
			return err
		}
		often, err := syncTime(b.dir, grow, steady, steadyPause)
		if err != nil {
			return err
		}
		name := "fsync"
		if !grow {
			name = "fdatasync"
		}
		b.report.value(name, fmt.Sprintf("%s alone, %s every 2 ms", alone, often))
	}
	return b.report.plot("idle.svg", barPlot("From create to the reader, idle machine", "p50 of 1,000 creates, one every 2 ms; µs, less is better", rs.bars("p50", micros)))
}

// syncTime measures what it takes to have one page on disk, n times with a pause between, since a disk that has been idle takes
// longer: at the end of a file that grows, with fsync; or over blocks that are there, with fdatasync, as the journal does.
func syncTime(dir string, grow bool, n int, pause time.Duration) (string, error) {
	const page = 4096
	f, err := os.CreateTemp(dir, "fs_notify-bench-sync-")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	flush := f.Sync
	if !grow {
		if _, err := f.Write(make([]byte, n*page)); err != nil {
			return "", err
		}
		if err := f.Sync(); err != nil {
			return "", err
		}
		flush = func() error { return unix.Fdatasync(int(f.Fd())) }
	}
	var l latencies
	for i := range n {
		time.Sleep(pause)
		start := time.Now()
		if _, err := f.WriteAt(bytes.Repeat([]byte{byte(i)}, page), int64(i*page)); err != nil {
			return "", err
		}
		if err := flush(); err != nil {
			return "", err
		}
		l = append(l, time.Since(start))
	}
	p50, p99, _ := l.quantiles()
	return fmt.Sprintf("p50 %s, p99 %s", micros(float64(p50)/1e3), micros(float64(p99)/1e3)), nil
}

// load runs a load beside a subject (nil: beside nothing) and notes what it cost.
func (b *bench) load(kind string, s *subject, r *result) error {
	p, err := newPlace(b.fs, b.dir)
	if err != nil {
		return err
	}
	defer p.close()
	if kind == "full" {
		if err := prepareFull(p.Dir, b.scale); err != nil {
			return err
		}
	}
	var load loadResult
	run := func() error { return ask(&load, "load", kind, p.Dir, fmt.Sprint(b.scale)) }
	defer func() {
		if load.Ops > 0 {
			r.add("writer", load.CPU*1e6/float64(load.Ops))
			r.add("wall", load.Wall)
		}
	}()
	if s == nil {
		return run()
	}
	w, err := s.start(p.Dir, b)
	if err != nil {
		return err
	}
	defer w.stop()
	w.ended = func(state string) {
		if n, err := diskPerNote(state); err == nil {
			r.add("disk", n)
		} else {
			b.logf("%s: the journal: %v", s.name, err)
		}
	}
	var answers *json.Decoder
	overNow := func() {}
	if w.format != "" {
		cmd := self("fold", w.format, w.target, p.Dir)
		in, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		overNow = func() { in.Close() }
		reader := &session{}
		defer reader.stop()
		out, err := reader.runReading(cmd)
		if err != nil {
			return err
		}
		answers = newDecoder(out)
		var word string
		if err := answers.Decode(&word); err != nil {
			return fmt.Errorf("the reader did not begin: %w", err)
		}
	}
	before, err := usageOf(w.pid)
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := run(); err != nil {
		return err
	}
	over := time.Since(begun)
	overNow()
	var told foldResult
	if answers != nil {
		if err := answers.Decode(&told); err != nil {
			return fmt.Errorf("the reader: %w", err)
		}
		r.add("files", 100*float64(told.Files)/float64(load.Files))
		r.add("lostfiles", float64(load.Files-told.Files))
		r.add("wrong", float64(told.Missing+told.Extra))
		r.add("faults", float64(told.Faults))
		r.add("behind", max(told.Wall-over.Seconds(), 0))
		r.add("notes", float64(told.Notes)/float64(load.Records))
	} else if err := untilQuiet(w.pid); err != nil {
		return err
	}
	after, err := usageOf(w.pid)
	if err != nil {
		return errors.New("it ended by itself during the load")
	}
	r.add("cpu", float64((after.CPU-before.CPU).Microseconds())/float64(load.Records))
	r.add("rss", float64(after.Peak))
	if w.quit != nil {
		w.quit()
		var got rawResult
		if err := json.NewDecoder(w.result).Decode(&got); err != nil {
			return err
		}
		r.add("records", float64(got.Records)/float64(load.Records))
		r.add("overflows", float64(got.Overflows))
	}
	return nil
}

// untilQuiet waits until a process has used no CPU for a second.
func untilQuiet(pid int) error {
	last := usage{}
	for {
		u, err := usageOf(pid)
		if err != nil {
			return err
		}
		if u.CPU == last.CPU {
			return nil
		}
		last = u
		time.Sleep(time.Second)
	}
}

// nothing is the writers without anybody who watches.
const nothing = "nobody watches"

func (b *bench) full() error {
	var rs results
	alone := rs.of(nothing, rawColor)
	for round := range b.runs {
		b.logf("full load, run %d of %d: %s", round+1, b.runs, nothing)
		if err := b.load("full", nil, alone); err != nil {
			return err
		}
		alone.runs++
	}
	b.each("full load", &rs, func(*subject) bool { return true }, func(s *subject, r *result) error { return b.load("full", s, r) })
	for _, r := range rs {
		for _, v := range r.values["writer"] {
			r.add("slow", v/alone.median("writer"))
		}
	}
	wrong := column{"names wrong at the end", func(r *result) string { return r.values["wrong"].show(number) }}
	b.report.table("full", rs.table(
		figure("CPU a record, µs", "cpu", number), figure("peak RSS", "rss", megabytes),
		figure("files told of, %", "files", number), wrong, figure("invalid steps", "faults", number),
		figure("told after the load's end, s", "behind", number),
		figure("writer's CPU an operation, µs", "writer", number), figure("× alone", "slow", number),
		figure("journal.db, bytes a notification", "disk", number)))
	dirs, files := fullSize(b.scale)
	b.report.value("full-size", fmt.Sprintf("%s directories, %s files, %s operations, %s inotify records",
		grouped(int64(dirs)), grouped(int64(files)), grouped(int64(6*files-files/keep)), grouped(int64(9*files-files/keep))))
	if err := b.report.plot("full.svg", barPlot("CPU per kernel record, full load", "µs of the watching process per inotify record that the load makes; less is better", rs.bars("cpu", number))); err != nil {
		return err
	}
	return b.report.plot("full-writer.svg", barPlot("What the writers pay", "their CPU per operation, µs; less is better", rs.bars("writer", number)))
}

func (b *bench) races() error {
	for _, kind := range []string{"a", "b"} {
		var rs results
		b.each("race "+kind, &rs, func(s *subject) bool { return !strings.HasPrefix(s.name, "raw") }, func(s *subject, r *result) error { return b.load("race-"+kind, s, r) })
		b.report.table("race-"+kind, rs.table(
			figure("files told of, %", "files", number), figure("files never told of", "lostfiles", number), figure("names wrong at the end", "wrong", number),
			figure("invalid steps", "faults", number), figure("CPU a record, µs", "cpu", number), figure("peak RSS", "rss", megabytes)))
		dirs, files := raceSize(kind, b.scale)
		b.report.value("race-"+kind+"-size", fmt.Sprintf("%s directories with %d files each", grouped(int64(dirs)), files))
		if err := b.report.plot("race-"+kind+".svg", barPlot("Race "+strings.ToUpper(kind)+": files told of", "% of the files made in directories that are filled at once; more is better", rs.bars("files", number))); err != nil {
			return err
		}
	}
	return nil
}

// startFiles is how many files there are at the start, at scale 1.
const startFiles = 300_000

func (b *bench) starts() error {
	var rs results
	p, err := newPlace(b.fs, b.dir)
	if err != nil {
		return err
	}
	defer p.close()
	empty := filepath.Join(p.Dir, "empty")
	tree := filepath.Join(p.Dir, "tree")
	files := max(int(startFiles*b.scale), 100)
	if err := errors.Join(os.Mkdir(empty, 0o755), os.Mkdir(tree, 0o755), populate(tree, files)); err != nil {
		return err
	}
	var walk walkResult
	if err := ask(&walk, "walk", tree); err != nil { // to warm up
		return err
	}
	bare := rs.of("bare walk", rawColor)
	for range b.runs {
		if err := ask(&walk, "walk", tree); err != nil {
			return err
		}
		bare.runs++
		bare.add("wall", walk.Wall)
		bare.add("cpu", walk.CPU)
	}
	b.each("start", &rs, func(s *subject) bool { return s.name != "fswatch" && !strings.HasPrefix(s.name, "raw") }, func(s *subject, r *result) error {
		began := time.Now()
		w, err := s.start(tree, b)
		if err != nil {
			return err
		}
		r.add("wall", time.Since(began).Seconds())
		u, err := usageOf(w.pid)
		w.stop()
		if err != nil {
			return err
		}
		r.add("cpu", u.CPU.Seconds())
		r.add("rss", float64(u.RSS))
		if w, err = s.start(empty, b); err != nil {
			return err
		}
		e, err := usageOf(w.pid)
		w.stop()
		r.add("perfile", max(float64(u.RSS-e.RSS), 0)/float64(walk.Entries))
		return err
	})
	for _, r := range rs {
		for _, v := range r.values["cpu"] {
			r.add("ratio", v/bare.median("cpu"))
		}
		for _, v := range r.values["wall"] {
			r.add("wallratio", v/bare.median("wall"))
		}
	}
	b.report.table("start", rs.table(figure("ready after, s", "wall", number), figure("× bare walk", "wallratio", number), figure("CPU, s", "cpu", number),
		figure("× bare walk", "ratio", number), figure("RSS when ready", "rss", megabytes), figure("RSS an entry, bytes", "perfile", number)))
	b.report.value("start-size", fmt.Sprintf("%s entries in %s directories", grouped(int64(walk.Entries)), grouped(int64(walk.Entries-files))))
	return b.report.plot("start.svg", barPlot("Ready on "+grouped(int64(files))+" files", "s of CPU, warm caches; less is better", rs.bars("cpu", number)))
}

// heapResult is what a watched tree needs.
type heapResult struct {
	Entries int
	Bytes   int64   // of live heap, after garbage collection, more than before
	Wall    float64 // s until ready
	CPU     float64 // s until ready
}

// roleHeap watches a tree in this process and weighs what is kept of it.
func roleHeap(root string, entries int) error {
	log := slog.New(slog.DiscardHandler)
	live := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	ring := journal.NewMemory(journal.MemoryOptions{})
	before := live()
	start, cpu := time.Now(), ownCPU()
	source, err := watch.NewSource("auto", watch.SourceOptions{Logger: log})
	if err != nil {
		return err
	}
	w, err := watch.New(watch.Config{Roots: []watch.Root{{Dir: root}}, Source: source, Sink: ring, Head: ring.Bounds().Head, Logger: log})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	<-w.Ready()
	r := heapResult{Entries: entries, Wall: time.Since(start).Seconds(), CPU: (ownCPU() - cpu).Seconds()}
	time.Sleep(100 * time.Millisecond)
	r.Bytes = live() - before
	runtime.KeepAlive(w)
	cancel()
	if err := <-ended; err != nil {
		return err
	}
	return say(r)
}

// growth shows how start-up and memory grow with the tree.
func (b *bench) growth() error {
	var rs results
	p, err := newPlace("tmpfs", b.dir)
	if err != nil {
		return err
	}
	defer p.close()
	heap, cpu, bare := series{label: "heap", color: ourColor}, series{label: "fs_notify", color: ourColor}, series{label: "bare walk", color: peerColor, dash: "5 4"}
	for _, n := range []int{10_000, 100_000, 1_000_000} {
		n = max(int(float64(n)*b.scale), 1000)
		b.logf("growth: %d files", n)
		tree := filepath.Join(p.Dir, strconv.Itoa(n))
		if err := errors.Join(os.Mkdir(tree, 0o755), populate(tree, n)); err != nil {
			return err
		}
		r := rs.of(grouped(int64(n))+" files", ourColor)
		var walk walkResult
		for range b.runs {
			if err := ask(&walk, "walk", tree); err != nil {
				return err
			}
			r.add("walk", walk.CPU)
			var h heapResult
			if err := ask(&h, "heap", tree, strconv.Itoa(walk.Entries)); err != nil {
				return err
			}
			r.runs++
			r.add("heap", float64(h.Bytes))
			r.add("perfile", float64(h.Bytes)/float64(h.Entries))
			r.add("cpu", h.CPU)
			r.add("wall", h.Wall)
		}
		x := float64(n)
		heap.x, heap.y = append(heap.x, x), append(heap.y, r.median("heap"))
		cpu.x, cpu.y = append(cpu.x, x), append(cpu.y, r.median("cpu"))
		bare.x, bare.y = append(bare.x, x), append(bare.y, r.median("walk"))
		if err := os.RemoveAll(tree); err != nil {
			return err
		}
	}
	b.report.table("growth", rs.table(figure("ready after, s", "wall", number), figure("CPU, s", "cpu", number), figure("CPU of a bare walk, s", "walk", number),
		figure("live heap", "heap", megabytes), figure("an entry, bytes", "perfile", number)))
	seconds := func(v float64) string { return strconv.FormatFloat(v, 'g', 3, 64) + " s" }
	bytes := func(v float64) string {
		if v < 1e6 {
			return number(v/1e3) + " kB"
		}
		return number(v/1e6) + " MB"
	}
	return errors.Join(
		b.report.plot("growth-cpu.svg", linePlot("CPU until ready", "s, warm tmpfs; both axes logarithmic", "files", seconds, []series{cpu, bare})),
		b.report.plot("growth-heap.svg", linePlot("Live heap of a watched tree", "after garbage collection; both axes logarithmic", "files", bytes, []series{heap})))
}

// fan measures subscribers.
func (b *bench) fan() error {
	perCore := make(map[string]*series)
	var order []string
	var lines []series
	for _, c := range fanCases {
		var rs results
		for round := range b.runs {
			for _, sv := range fanServers() {
				if !b.wanted(sv.name) {
					continue
				}
				r := rs.of(sv.name, sv.color)
				if r.skipped != "" {
					continue
				}
				b.logf("fan-out, run %d of %d: %s, %s", round+1, b.runs, c, sv.name)
				if err := b.measureFan(sv, c, r); err != nil {
					b.logf("%s: %v", sv.name, err)
					r.skipped = firstLine(err.Error())
				}
			}
		}
		id := fmt.Sprintf("fan-%d-%g", c.n, c.rate)
		b.report.table(id, rs.table(figure("deliveries/s", "deliveries", number), figure("cores", "cores", number), figure("deliveries a core second", "percore", number),
			figure("p50", "p50", micros), figure("p99", "p99", micros), figure("RSS an idle subscriber", "rss", func(v float64) string { return number(v/1024) + " KB" }),
			figure("peak RSS", "peak", megabytes), figure("lost, %", "lost", number)))
		for _, r := range rs {
			if c.rate != 100 && !(c.n == 100 && c.rate == 1000) {
				continue
			}
			s := perCore[r.name]
			if s == nil {
				s = &series{label: r.name, color: r.color}
				perCore[r.name] = s
				order = append(order, r.name)
			}
			s.x, s.y = append(s.x, float64(c.n)), append(s.y, r.median("percore"))
		}
	}
	for _, name := range order {
		lines = append(lines, *perCore[name])
	}
	return b.report.plot("fan.svg", linePlot("Deliveries per core second", "100 events/s (100 subscribers: 1,000 events/s); both axes logarithmic; more is better", "subscribers", number, lines))
}
