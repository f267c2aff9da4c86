//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"

	"encoding/json"

	"fs_notify/notify/feed"
	"fs_notify/notify/journal"
	"fs_notify/server"
	"fs_notify/watch"
)

// profile runs the whole line, source, tree, ring, server, in this process under the full load, and one client in
// another, with the CPU profiler on. stateDir is where to keep a journal; "": in memory. mem is for the allocations.
func profile(out io.Writer, where *place, watcher, stateDir string, scale float64, cpuFile, memFile string) error {
	if err := prepareFull(where.Dir, scale); err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	config := watch.Config{Roots: []watch.Root{{Dir: where.Dir}}, Logger: log}
	var kept feed.Log
	var upkeep func(context.Context) error
	if stateDir == "" {
		ring := journal.NewMemory(journal.MemoryOptions{})
		kept, config.Sink = ring, ring
	} else {
		j, err := journal.Open(stateDir, journal.Options{Log: log})
		if err != nil {
			return err
		}
		defer j.Close()
		kept, config.Sink, config.Past, upkeep = j, j, j, j.Run
	}
	config.Head = kept.Bounds().Head
	source, err := watch.NewSource(watcher, watch.SourceOptions{Logger: log})
	if err != nil {
		return err
	}
	config.Source = source
	w, err := watch.New(config)
	if err != nil {
		return err
	}
	srv := server.New(server.Options{Files: w, Journal: kept, Log: log})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() {
		if err := w.Run(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "watch:", err)
		}
	})
	all.Go(func() {
		if err := srv.Serve(ctx, l); err != nil {
			fmt.Fprintln(os.Stderr, "serve:", err)
		}
	})
	if upkeep != nil {
		all.Go(func() {
			if err := upkeep(ctx); err != nil {
				fmt.Fprintln(os.Stderr, "journal:", err)
			}
		})
	}
	<-w.Ready()

	client := self("fold", "sse", l.Addr().String(), where.Dir)
	stdout, err := client.StdoutPipe()
	if err != nil {
		return err
	}
	stdin, err := client.StdinPipe()
	if err != nil {
		return err
	}
	if err := client.Start(); err != nil {
		return err
	}
	answers := json.NewDecoder(bufio.NewReader(stdout))
	var ready string
	if err := answers.Decode(&ready); err != nil {
		return err
	}

	f, err := os.Create(cpuFile)
	if err != nil {
		return err
	}
	defer f.Close()
	runtime.MemProfileRate = 64 << 10
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := pprof.StartCPUProfile(f); err != nil {
		return err
	}
	cpu, records := ownCPU(), w.Stats().Records
	var load loadResult
	if err := ask(&load, "load", "full", where.Dir, fmt.Sprint(scale)); err != nil {
		return err
	}
	stdin.Close()
	var told foldResult
	if err := answers.Decode(&told); err != nil {
		return err
	}
	cpu, records = ownCPU()-cpu, w.Stats().Records-records
	pprof.StopCPUProfile()
	runtime.ReadMemStats(&after)
	if memFile != "" {
		m, err := os.Create(memFile)
		if err != nil {
			return err
		}
		defer m.Close()
		if err := pprof.Lookup("allocs").WriteTo(m, 0); err != nil {
			return err
		}
	}
	if err := client.Wait(); err != nil {
		return err
	}
	u, err := usageOf(os.Getpid())
	if err != nil {
		return err
	}
	per := func(n float64) float64 { return n / float64(load.Records) }
	fmt.Fprintf(out, "watcher %s on %s, scale %g, GOMAXPROCS %d\n", watcher, where.FS, scale, runtime.GOMAXPROCS(0))
	fmt.Fprintf(out, "load: %d operations = %d inotify records in %.1f s, writer's CPU %.2f s\n", load.Ops, load.Records, load.Wall, load.CPU)
	fmt.Fprintf(out, "watcher read %d records; client got %d notifications, %d MB, %d distinct files, faults %d, missing %d, extra %d, done %.1f s after the start, its CPU %.2f s\n",
		records, told.Notes, told.Bytes>>20, told.Files, told.Faults, told.Missing, told.Extra, told.Wall, told.CPU)
	fmt.Fprintf(out, "our CPU %.2f s = %.2f us per inotify record, %.2f us per record read, %.2f us per notification; peak RSS %d MB\n",
		cpu.Seconds(), per(float64(cpu.Microseconds())), float64(cpu.Microseconds())/float64(max(records, 1)), float64(cpu.Microseconds())/float64(max(told.Notes, 1)), u.Peak>>20)
	fmt.Fprintf(out, "allocations: %.2f and %.0f B per inotify record; %d GCs, %v of pauses\n",
		per(float64(after.Mallocs-before.Mallocs)), per(float64(after.TotalAlloc-before.TotalAlloc)), after.NumGC-before.NumGC, time.Duration(after.PauseTotalNs-before.PauseTotalNs).Round(time.Microsecond))
	return nil
}
