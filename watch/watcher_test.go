package watch

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"fs_notify/notify"
)

// memSink keeps what is appended.
type memSink struct {
	mu      sync.Mutex
	number  notify.BatchNumber
	batches []*notify.Batch
}

func (m *memSink) Append(_ context.Context, root notify.FileID, notes []notify.Notification) (notify.BatchNumber, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := &notify.Batch{Root: root, Notes: notes}
	b.Assign(max(notify.NumberAt(time.Now()), m.number+1), m.number, 0)
	m.number = b.Number
	m.batches = append(m.batches, b)
	return b.Number, nil
}

func (m *memSink) take() (out []notify.Notification) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range m.batches {
		out = append(out, b.Notes...)
	}
	m.batches = nil
	return out
}

func start(t *testing.T, dir string) (*Watcher, *memSink) {
	t.Helper()
	src, err := NewFsnotify()
	if err != nil {
		t.Fatal(err)
	}
	sink := &memSink{}
	w, err := New(Config{Roots: []Root{{Dir: dir}}, Source: src, Sink: sink})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-w.Ready()
	return w, sink
}

func TestSmoke(t *testing.T) {
	dir := t.TempDir()
	var w *Watcher
	var sink *memSink
	t.Cleanup(func() { // after the watcher has ended
		if err := w.t.s.audit(); err != nil {
			t.Error(err)
		}
	})
	w, sink = start(t, dir)
	for _, script := range []string{
		"echo hi > a", "echo more >> a", "mv a b", "mkdir -p d/e/f; echo x > d/e/f/x", "mv d g", "touch g/e/new", "chmod 600 b; chown 1:2 b", "ln b c", "echo y >> c", "rm b", "mkdir p q; echo 1 > p/1; echo 2 > q/2; sync", "mv p t; mv q p; mv t q",
		"mkdir -p X/c; touch X/c/f X/g", "mv X/c tmp; rm X/g; rmdir X; mv tmp X", // what is in a directory takes its name
		"mkdir -p Y/c; touch Y/c/f Y/g", "mv Y/c tmp; mv Y tmp/b; mv tmp Y", // and the directory goes into it
		"mkdir -p U/V/W; touch U/V/W/f", "mv U/V/W w; mv U/V v; mv U w/U; mv w U; mv v U/U/W; mv U/U/W/. u 2>/dev/null || true",
		"rm -rf g", "touch c", "mv c /tmp/ccc; rm /tmp/ccc", "mkdir /tmp/in$$ /tmp/in$$/x; echo 1 > /tmp/in$$/x/f; mv /tmp/in$$ came", "mv came /tmp/out$$; rm -rf /tmp/out$$",
	} {
		cmd := exec.Command("sh", "-c", script)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatal(err, string(out))
		}
		begin := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		if err := w.Settle(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		var b strings.Builder
		for _, n := range sink.take() {
			fmt.Fprintf(&b, "    %-28s %s %v link=%d\n", n.Type, n.Path, n.Spine, n.Link&4095)
		}
		t.Logf("%s (%v)\n%s", script, time.Since(begin), b.String())
	}
}
