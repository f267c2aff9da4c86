//go:build linux

package faults_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"fs_notify/notify/journal"
	"fs_notify/server"
	"fs_notify/watch"
)

// ahead is the service in this process, wired as the command wires it, with a clock of its own.
func ahead(t *testing.T, s *service, clock func() time.Time) (end func()) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	source, err := watch.NewSource(s.watcher, watch.SourceOptions{Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(s.state, journal.Options{Now: clock, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	w, err := watch.New(watch.Config{Roots: []watch.Root{{Name: rootName, Dir: s.root}}, Source: source, Own: []string{s.state},
		Sink: j, Past: j, Head: j.Bounds().Head, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 3)
	go func() { ended <- server.New(server.Options{Files: w, Journal: j, Log: log}).Serve(ctx, listener) }()
	go func() { ended <- w.Run(ctx) }()
	go func() { ended <- j.Run(ctx) }()
	return func() {
		cancel()
		for range 3 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The clock is set back by a day between two runs. Numbers rise all the same, and cursors hold.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	r := dice(t)
	s := newService(t, t.TempDir())
	l := newLoad(t, s)
	l.fill(r, 300)
	end := ahead(t, s, func() time.Time { return time.Now().Add(24 * time.Hour) })
	c := follow(t, s)
	c.begun(t)
	l.while(r, pause)
	c.holds(t, s)
	end()
	l.fill(r, 100)
	s.start()
	l.while(r, pause)
	c.holds(t, s)
	s.kill()
	s.start()
	c.holds(t, s)
	c.neverGone(t)
	s.stop()
}
