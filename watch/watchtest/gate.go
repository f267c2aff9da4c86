package watchtest

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"fs_notify/watch"
)

// Gate is a source that can be made to say nothing until Sync waits for it, and then all that it has heard: at
// once, so that the watcher looks once, when everything has happened; in pieces, so that it is always behind; or
// not at all, but that something was lost. It can also be made not to listen, until the kernel's queue overflows.
type Gate struct {
	watch.Source
	deaf  sync.Mutex // held while it does not listen
	mu    sync.Mutex
	held  bool
	piece int
	pause time.Duration
	drop  bool
	last  uint64         // number of the newest barrier seen: it may come more than once
	recs  []watch.Record // the names are copies
	lost  error          // comes before recs
}

// NewGate puts an open gate before a source.
func NewGate(src watch.Source) *Gate { return &Gate{Source: src} }

// barrierRef is the directory of the records that Sync waits for.
const barrierRef = ^watch.DirRef(0)

// Hold shuts the gate. What the source says comes out at the next Sync: piece records at a time with a pause between; 0: all.
func (g *Gate) Hold(piece int, pause time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held, g.drop, g.piece, g.pause = true, false, piece, pause
}

// Lose shuts the gate. What the source says is dropped until the next Sync, and comes out as an overflow.
func (g *Gate) Lose() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held, g.drop, g.piece = true, true, 0
}

// Stall makes the gate deaf until resume is called.
func (g *Gate) Stall() (resume func()) {
	g.deaf.Lock()
	return g.deaf.Unlock
}

// Next gives what may pass.
func (g *Gate) Next(ctx context.Context, recs []watch.Record) (int, bool, error) {
	for {
		if n, pause, err := g.pass(recs); n > 0 || err != nil {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			return n, false, err
		}
		g.deaf.Lock()
		//lint:ignore SA2001 it waits until nobody is deaf
		g.deaf.Unlock()
		n, drained, err := g.Source.Next(ctx, recs)
		if !g.keep(recs[:n], err) {
			return n, drained, err
		}
	}
}

// pass takes the next piece of what was kept.
func (g *Gate) pass(recs []watch.Record) (n int, pause time.Duration, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.held:
	case g.lost != nil:
		err, g.lost = g.lost, nil
	case len(g.recs) > 0:
		kept := g.recs
		if g.piece > 0 {
			kept = kept[:min(g.piece, len(kept))]
			pause = g.pause
		}
		n = copy(recs, kept)
		g.recs = g.recs[n:]
	}
	return n, pause, err
}

// keep keeps records and a loss if the gate is shut, and opens it if Sync waits. It is false if the caller has to pass them on.
func (g *Gate) keep(recs []watch.Record, err error) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	opened := -1 // by which record
	for i, r := range recs {
		if r.Dir == barrierRef && r.Op&watch.OpCreate != 0 {
			if n, err := strconv.ParseUint(string(r.Name), 10, 64); err == nil && n > g.last {
				g.last, opened = n, i
			}
		}
	}
	if !g.held || err != nil && !errors.Is(err, watch.ErrOverflow) {
		return false
	}
	if err != nil {
		g.lost = err
	}
	for i, r := range recs {
		barrier := r.Dir == barrierRef
		if i == opened {
			g.held = false
		}
		if g.drop && !barrier && r.Op&watch.OpLost == 0 { // that a watch has ended is the source's own word, not the kernel's
			g.lost = watch.ErrOverflow
			continue
		}
		r.Name, r.Object = bytes.Clone(r.Name), bytes.Clone(r.Object)
		g.recs = append(g.recs, r)
	}
	return true
}
