package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/feed"
	"fs_notify/notify/journal"
	"fs_notify/server"
	"fs_notify/watch"
)

// watchers are the words for --watcher.
func watchers() []string { return watch.SourceKinds() }

// engineConfig says what an engine watches and where it keeps what it finds.
type engineConfig struct {
	roots    []watch.Root
	watcher  string // one of watchers()
	oneLevel bool
	stateDir string // "": memory only
	exclude  []string
	own      []string      // directories that are never told of
	sweep    time.Duration // between full sweeps; 0: the watcher's default
	poll     time.Duration // between those of what cannot be watched; 0: the watcher's default
	atime    bool          // tell of reads
	log      *slog.Logger
	// how much of the journal in stateDir is kept; 0: the journal's defaults
	retainAge   time.Duration
	retainBytes int64
	forget      bool     // what stateDir remembers of other roots
	metrics     *metrics // counts what is appended; nil: nobody does
}

// engine is trees under watch and the journal of what happens in them.
type engine struct {
	files server.Files
	log   feed.Log
	stats func() watch.Stats
	// journal is how the journal is; nil: it is in memory.
	journal func() journal.State
	ready   <-chan struct{} // closed after the first scan of all roots
	// sync returns when all that had happened on disk is in the log.
	sync func(ctx context.Context) error
	// run watches until ctx ends, which is no error.
	run func(ctx context.Context) error
	// close gives everything back; after run has returned and nobody reads the log any more.
	close func() error
}

// keepApart leaves the state directory out of what is told. One that is a root cannot be left out of it: each append to its journal would be a
// change to append.
func (c *engineConfig) keepApart() error {
	if c.stateDir == "" {
		return nil
	}
	abs, err := absolute(c.stateDir)
	if err != nil {
		return err
	}
	for _, r := range c.roots {
		if sameFile(r.Dir, abs) {
			return misused("--state-dir %s: that is the directory to be watched, %s: name another one, which may lie in it", c.stateDir, r.Dir)
		}
	}
	if st, err := os.Stat(abs); err == nil && runtime.GOOS != "windows" && st.Mode().Perm()&0o002 != 0 {
		c.log.Warn("everybody may write to the state directory, and so change what is told and who is logged in: chmod o-w it", "directory", c.stateDir, "mode", st.Mode().String())
	}
	c.own = append(c.own, abs)
	return nil
}

// openEngine joins a source, the trees and a journal. It watches nothing before run is called.
func openEngine(c engineConfig) (_ *engine, err error) {
	source, err := watch.NewSource(c.watcher, watch.SourceOptions{Atime: c.atime, Logger: c.log})
	if err != nil {
		return nil, fmt.Errorf("--watcher %s: %w", c.watcher, err)
	}
	config := watch.Config{
		Roots: c.roots, Source: source, Own: c.own, Exclude: c.exclude,
		ForgetOthers: c.forget, OneLevel: c.oneLevel, SweepInterval: c.sweep, PollInterval: c.poll, Logger: c.log,
	}
	e := &engine{}
	var upkeep func(context.Context) error
	if c.stateDir == "" {
		log := journal.NewMemory(journal.MemoryOptions{})
		e.log, e.close, config.Sink = log, log.Close, log
	} else {
		log, err := journal.Open(c.stateDir, journal.Options{RetainAge: c.retainAge, RetainBytes: c.retainBytes, Log: c.log})
		if err != nil {
			source.Close()
			return nil, err
		}
		e.log, e.close, config.Sink, config.Past, upkeep = log, log.Close, log, log, log.Run
		e.journal = log.State
	}
	if c.metrics != nil {
		config.Sink = c.metrics.sink(config.Sink)
	}
	config.Head = e.log.Bounds().Head
	w, err := watch.New(config)
	if err != nil {
		source.Close()
		e.close()
		return nil, err
	}
	e.files, e.ready, e.sync, e.run, e.stats = w, w.Ready(), w.Sync, w.Run, w.Stats
	if upkeep != nil {
		e.run = func(ctx context.Context) error { return runBoth(ctx, w.Run, upkeep) }
	}
	return e, nil
}

// health is the part of the journal's state that /readyz tells; nil: the journal is in memory.
func (e *engine) health() func() server.Health {
	if e.journal == nil {
		return nil
	}
	return func() server.Health {
		s := e.journal()
		return server.Health{Down: s.Down, Unsaved: s.Unsaved, Err: s.Err, Checkpoint: s.TreeErr}
	}
}

// runBoth runs the watcher until ctx ends, and the journal's upkeep until the watcher has ended.
func runBoth(ctx context.Context, watcher, upkeep func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	keeping, stopKeeping := context.WithCancel(context.WithoutCancel(ctx))
	kept := make(chan error, 1)
	go func() {
		kept <- upkeep(keeping)
		cancel()
	}()
	err := watcher(ctx)
	stopKeeping()
	return errors.Join(err, <-kept)
}

// rootState gives the state of the engine's only root.
func (e *engine) rootState() notify.RootState { return e.files.Roots()[0] }
