package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"fs_notify/notify"
	"fs_notify/server"
	"fs_notify/server/qumulo"
)

// systemd is told how the service is, where it started us as Type=notify: sd_notify(3), which is one datagram
// for each message. A nil *systemd tells nobody.
type systemd struct {
	conn     *net.UnixConn
	watchdog time.Duration // it wants to hear from us so often; 0: it does not
	status   string        // last told
}

// newSystemd gives nil where systemd did not ask to be told.
func (a *app) newSystemd() *systemd {
	path, _ := a.lookupEnv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		a.log.Warn("systemd cannot be told how the service is", "err", err)
		return nil
	}
	s := &systemd{conn: conn}
	usec, _ := a.lookupEnv("WATCHDOG_USEC")
	pid, _ := a.lookupEnv("WATCHDOG_PID")
	if n, err := strconv.ParseInt(usec, 10, 64); err == nil && n > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		s.watchdog = time.Duration(n) * time.Microsecond
	}
	return s
}

// tell sends assignments such as READY=1. What does not arrive is no reason to stop.
func (s *systemd) tell(lines ...string) {
	if s != nil {
		s.conn.Write([]byte(strings.Join(lines, "\n")))
	}
}

func (s *systemd) tellStatus(text string, more ...string) {
	if text != s.status || len(more) > 0 {
		s.status = text
		s.tell(append(more, "STATUS="+oneLine(text))...)
	}
}

// reloading gives what is told around a reload. Before the service is ready that is nothing: what ends a reload says that it is.
func (s *systemd) reloading(ready <-chan struct{}) func(begin bool) {
	return func(begin bool) {
		select {
		case <-ready:
		default:
			return
		}
		if begin {
			s.tell("RELOADING=1", "MONOTONIC_USEC="+strconv.FormatInt(monotonic().Microseconds(), 10))
		} else {
			s.tell("READY=1")
		}
	}
}

// follow tells how far the first scan is, that all roots were scanned, and then, in words, how things are; and the watchdog,
// as long as p lives. It ends with ctx.
func (s *systemd) follow(ctx context.Context, e *engine, p *pulse) {
	if s == nil {
		return
	}
	defer s.conn.Close()
	defer s.tell("STOPPING=1", "STATUS=the streams end, what waits is saved")
	rest := time.Second
	if s.watchdog > 0 {
		rest = min(rest, max(s.watchdog/4, time.Millisecond))
	}
	tick := time.NewTicker(rest)
	defer tick.Stop()
	ready := e.ready
	for {
		switch {
		case ready != nil:
			// The index of a large tree takes longer than any limit that somebody set with small ones in mind.
			s.tellStatus(e.words(), "EXTEND_TIMEOUT_USEC=60000000")
		default:
			s.tellStatus(e.words())
		}
		if s.watchdog > 0 && p.beats(ctx, s.watchdog/2) {
			s.tell("WATCHDOG=1")
		}
		select {
		case <-ready:
			ready = nil
			s.tell("READY=1")
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// words say in a line how the roots are.
func (e *engine) words() string {
	roots := e.files.Roots()
	live, away, degraded, entries := 0, 0, 0, int64(0)
	for _, r := range roots {
		degraded += r.DegradedCount
		entries += r.Entries
		switch r.Phase {
		case notify.Live:
			live++
		case notify.Away:
			away++
		}
	}
	for _, r := range roots {
		if r.Phase == notify.Indexing {
			return fmt.Sprintf("%d of %d roots live, indexing %s, %.0f %%, %s entries", live, len(roots), printable(r.Name, true), 100*r.Progress, humanize.Comma(r.Indexed))
		}
	}
	text := fmt.Sprintf("%d of %d roots live, %s entries", live, len(roots), humanize.Comma(entries))
	if away > 0 {
		text += fmt.Sprintf(", %d away", away)
	}
	if degraded > 0 {
		text += fmt.Sprintf(", %d directories degraded", degraded)
	}
	if e.journal != nil && !e.journal().Down.IsZero() {
		text += ", the journal is down"
	}
	return text
}

// pulse finds out whether the service lives: the trees move on, and whoever writes streams answers. A disk that
// hangs under the journal is no reason to be started again, nor is anything that a client does.
type pulse struct {
	turns func() int64 // grows while the trees move on
	ask   func(ctx context.Context) error
	last  int64
	moved time.Time
}

func newPulse(e *engine, srv *server.Server) *pulse {
	return &pulse{
		turns: func() int64 { s := e.stats(); return s.Turns + s.Looks },
		ask:   func(ctx context.Context) error { return srv.EachStream(ctx, func(*qumulo.Stream) {}) },
	}
}

// beats is false if nothing has moved for as long as patience, and some seconds at least.
func (p *pulse) beats(ctx context.Context, patience time.Duration) bool {
	if n := p.turns(); n != p.last || p.moved.IsZero() {
		p.last, p.moved = n, time.Now()
	}
	soon, cancel := context.WithTimeout(ctx, patience/2)
	defer cancel()
	return p.ask(soon) == nil && time.Since(p.moved) < max(patience, 3*time.Second)
}
