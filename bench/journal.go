//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
	"fs_notify/notify/journal"
)

// diskPerNote is how many bytes a notification takes in the journal of a service that has ended.
func diskPerNote(state string) (float64, error) {
	info, err := os.Stat(filepath.Join(state, "journal.db"))
	if err != nil {
		return 0, err
	}
	r, err := journal.OpenReader(state)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	notes := 0
	for b, err := range r.Batches(context.Background(), 0) {
		if err != nil {
			return 0, err
		}
		notes += len(b.Notes)
	}
	return float64(info.Size()) / float64(notes), nil
}

// roleFill is a process that appends batches of some notifications each to the journal of a tree, as if files had been written, and then ends as kill -9
// would end it. With upkeep the checkpoint follows, as it does in a service.
func roleFill(state string, batches, notes int, upkeep bool) error {
	j, err := journal.Open(state, journal.Options{Log: slog.New(slog.DiscardHandler), RetainBytes: -1})
	if err != nil {
		return err
	}
	if upkeep {
		go j.Run(context.Background())
	}
	roots := j.Trees()
	if len(roots) != 1 {
		return fmt.Errorf("there are %d trees, not one", len(roots))
	}
	type place struct {
		path  string
		spine notify.Spine
	}
	dirs := map[notify.FileID]place{roots[0]: {"", notify.Spine{roots[0]}}}
	var files []notify.Notification
	if _, _, err := j.LoadTree(context.Background(), roots[0], func(dir notify.FileID, name string, id notify.FileID, a *notify.Attr) error {
		in, ok := dirs[dir]
		if !ok {
			return nil // the root itself
		}
		at := place{filepath.Join(in.path, name), append(in.spine[:len(in.spine):len(in.spine)], id)}
		if a.IsDir() {
			dirs[id] = at
		} else {
			files = append(files, notify.Notification{Type: notify.ChildMtimeChanged, Path: at.path, Spine: at.spine, Attr: *a})
		}
		return nil
	}); err != nil {
		return err
	}
	if len(files) == 0 {
		return errors.New("there are no files")
	}
	var sample []notify.BatchNumber
	for i := range batches {
		batch := make([]notify.Notification, notes)
		for k := range batch {
			batch[k] = files[(i*notes+k)%len(files)]
		}
		n, err := j.Append(context.Background(), roots[0], batch)
		if err != nil {
			return err
		}
		if i%max(batches/1000, 1) == 0 {
			sample = append(sample, n)
		}
	}
	return say(fillResult{sample})
}

// fillResult has the numbers of some batches from everywhere.
type fillResult struct{ Sample []notify.BatchNumber }

// filled fills a journal on a file system in memory, where an fsync costs nothing, and brings it back.
func filled(state string, batches, notes int, upkeep bool) (r fillResult, err error) {
	if err := ask(&r, "fill", state, strconv.Itoa(batches), strconv.Itoa(notes), strconv.FormatBool(upkeep)); err != nil {
		return r, err
	}
	return r, nil
}

// journal measures how a client gets at the past, and what a restart costs.
func (b *bench) journal() error {
	files, batches, notes := max(int(startFiles*b.scale), 100), max(int(1_000_000*b.scale), 1000), max(int(1_000_000*b.scale), 1000)
	mem, err := newPlace("tmpfs", b.dir) // to fill
	if err != nil {
		return err
	}
	defer mem.close()
	var resume, replay, restart results
	for round := range b.runs {
		b.logf("journal, run %d of %d: restart", round+1, b.runs)
		if err := b.restarts(mem, files, notes, &restart); err != nil {
			return err
		}
		for _, n := range []int{1, 100} {
			b.logf("journal, run %d of %d: %d batches of %d", round+1, b.runs, batches/n, n)
			if err := b.past(mem, batches/n, n, &resume, &replay); err != nil {
				return err
			}
		}
	}
	for _, r := range restart {
		for _, v := range r.values["wall"] {
			r.add("ratio", v/restart[0].median("wall"))
		}
	}
	b.report.table("journal-restart", restart.table(figure("ready after, s", "wall", number), figure("× bare walk", "ratio", number), figure("CPU, s", "cpu", number)))
	b.report.table("journal-resume", resume.table(figure("first byte: p50", "p50", micros), figure("p99", "p99", micros), figure("slowest", "max", micros)))
	b.report.table("journal-replay", replay.table(figure("notifications/s", "rate", number), figure("server's CPU a notification, µs", "cpu", number)))
	b.report.value("journal-size", fmt.Sprintf("%s files, %s notifications", grouped(int64(files)), grouped(int64(notes))))
	b.report.value("journal-batches", grouped(int64(batches)))
	return nil
}

// moved copies a state directory.
func moved(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return os.CopyFS(to, os.DirFS(from))
}

// restarts measures a first start, one on a tree that has not changed, and one with notifications behind the checkpoint.
func (b *bench) restarts(mem *place, files, notes int, rs *results) error {
	p, err := newPlace(b.fs, b.dir)
	if err != nil {
		return err
	}
	defer p.close()
	tree, state, aside := filepath.Join(p.Dir, "tree"), filepath.Join(p.Dir, "state"), filepath.Join(mem.Dir, "state")
	if err := errors.Join(os.Mkdir(tree, 0o755), populate(tree, files)); err != nil {
		return err
	}
	var walk walkResult
	for range 2 { // the first one warms up
		if err := ask(&walk, "walk", tree); err != nil {
			return err
		}
	}
	bare := rs.of("bare walk", rawColor)
	bare.runs++
	bare.add("wall", walk.Wall)
	bare.add("cpu", walk.CPU)
	for _, what := range []string{"first start", "restart", "restart after kill -9, notifications behind the checkpoint"} {
		if what != "first start" && what != "restart" {
			if err := moved(state, aside); err != nil {
				return err
			}
			if _, err := filled(aside, notes/100, 100, false); err != nil {
				return err
			}
			if err := moved(aside, state); err != nil {
				return err
			}
		}
		unix.Sync() // what is written back meanwhile is not the start's
		begun := time.Now()
		w, err := serveOn("auto", state)(tree, b)
		if err != nil {
			return err
		}
		r := rs.of(what, ourColor)
		r.runs++
		r.add("wall", time.Since(begun).Seconds())
		u, err := usageOf(w.pid)
		w.stop()
		if err != nil {
			return err
		}
		r.add("cpu", u.CPU.Seconds())
	}
	return nil
}

// past measures a journal of so many batches of n notifications each: how soon a client that goes on from anywhere gets its first byte, and how fast it gets all.
func (b *bench) past(mem *place, batches, n int, resume, replay *results) error {
	p, err := newPlace(b.fs, b.dir)
	if err != nil {
		return err
	}
	defer p.close()
	tree, state, aside := filepath.Join(p.Dir, "tree"), filepath.Join(p.Dir, "state"), filepath.Join(mem.Dir, "state")
	if err := errors.Join(os.Mkdir(tree, 0o755), populate(tree, 1000)); err != nil {
		return err
	}
	w, err := serveOn("auto", state)(tree, b)
	if err != nil {
		return err
	}
	w.stop()
	if err := moved(state, aside); err != nil {
		return err
	}
	f, err := filled(aside, batches, n, true)
	if err != nil {
		return err
	}
	if err := errors.Join(moved(aside, state), os.RemoveAll(aside)); err != nil {
		return err
	}
	if w, err = serveOn("auto", state)(tree, b); err != nil {
		return err
	}
	defer w.stop()

	rows := fmt.Sprintf("%s batches of %d", grouped(int64(batches)), n)
	if n == 1 {
		for what, since := range map[string]func(at notify.Seq) string{
			"a number": func(at notify.Seq) string { return at.String() },
			"a time":   func(at notify.Seq) string { return at.Batch().Time().Format(time.RFC3339Nano) },
		} {
			r := resume.of(what, ourColor)
			r.runs++
			var all latencies
			for range 200 {
				at := f.Sample[rand.IntN(len(f.Sample)-1)].End() // something follows
				begun := time.Now()
				if err := firstByte(w.target, tree, since(at)); err != nil {
					return err
				}
				all = append(all, time.Since(begun))
			}
			p50, p99, _ := all.quantiles()
			slowest := time.Duration(0)
			for _, d := range all {
				slowest = max(slowest, d)
			}
			r.add("p50", float64(p50.Microseconds()))
			r.add("p99", float64(p99.Microseconds()))
			r.add("max", float64(slowest.Microseconds()))
		}
	}
	r := replay.of(rows, ourColor)
	r.runs++
	before, err := usageOf(w.pid)
	if err != nil {
		return err
	}
	begun := time.Now()
	got, err := readPast(w.target, tree)
	if err != nil {
		return err
	}
	took := time.Since(begun)
	after, err := usageOf(w.pid)
	if err != nil {
		return err
	}
	if got < batches*n {
		return fmt.Errorf("%d notifications were told of %d", got, batches*n)
	}
	r.add("rate", float64(got)/took.Seconds())
	r.add("cpu", float64((after.CPU-before.CPU).Microseconds())/float64(got))
	return nil
}

// firstByte goes on from somewhere and waits for the first notification.
func firstByte(addr, dir, since string) error {
	c, r, err := connect(addr, url.PathEscape(dir), "recursive=true&since="+url.QueryEscape(since))
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		line, err := r.ReadSlice('\n')
		if bytes.HasPrefix(line, []byte("data: ")) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// readPast reads all there is and counts the notifications.
func readPast(addr, dir string) (n int, err error) {
	c, r, err := connect(addr, url.PathEscape(dir), "recursive=true&since=oldest&timeout=0")
	if err != nil {
		return 0, err
	}
	defer c.Close()
	mark := []byte(`{"type":`)
	buf := make([]byte, 1<<20)
	kept := 0
	for {
		got, err := r.Read(buf[kept:])
		text := buf[:kept+got]
		n += bytes.Count(text, mark)
		// What may be the beginning of a mark is looked at again.
		kept = copy(buf, text[max(0, len(text)-len(mark)+1):])
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
