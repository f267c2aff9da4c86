package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/dustin/go-humanize"
)

// progress shows how far an index is: a line that is redrawn on a terminal, log lines now and then elsewhere.
// One goroutine uses it.
type progress struct {
	a      *app
	drawn  time.Time
	logged time.Time
}

const (
	redraw   = 150 * time.Millisecond
	firstLog = 2 * time.Second // an index that is quicker needs no words
	nextLog  = 10 * time.Second
)

func (a *app) newProgress() *progress {
	return &progress{a: a, logged: time.Now().Add(firstLog - nextLog)}
}

// show tells percent (below 0: unknown) and the entries found so far (below 0: unknown).
func (p *progress) show(what string, percent float64, entries int64) {
	now := time.Now()
	if p.a.status.tty {
		if now.Sub(p.drawn) >= redraw {
			p.drawn = now
			line := "indexing " + printable(what, true)
			if percent >= 0 {
				line += fmt.Sprintf(", %.0f %%", percent)
			}
			if entries >= 0 {
				line += ", " + humanize.Comma(entries) + " entries"
			}
			p.a.status.progress(line)
		}
		return
	}
	if now.Sub(p.logged) >= nextLog {
		p.logged = now
		attrs := []any{slog.String("directory", what)}
		if percent >= 0 {
			attrs = append(attrs, slog.String("percent", fmt.Sprintf("%.0f", percent)))
		}
		if entries >= 0 {
			attrs = append(attrs, slog.Int64("entries", entries))
		}
		p.a.log.Info("indexing", attrs...)
	}
}

// stop takes the line away.
func (p *progress) stop() { p.a.status.clear() }
