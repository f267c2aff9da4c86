//go:build linux

package faults_test

import (
	"encoding/json"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"fs_notify/notify"
)

// The journal may keep next to nothing. Who reads slowly, or comes back late, is told that it is gone, and goes on rightly
// however it begins anew; who reads along misses nothing.
func TestRetentionPassesSlowReaders(t *testing.T) {
	t.Parallel()
	r := dice(t)
	s := newService(t, t.TempDir(), "--retain-bytes", "20KiB")
	l := newLoad(t, s)
	l.fill(r, 300)
	s.start()
	book := newLedger()
	eager := follow(t, s, func(c *consumer) { c.book = book })
	eager.begun(t)
	var slow []*consumer
	stalled := make(chan struct{})
	for _, how := range []string{"", "reset", "entries"} {
		c := follow(t, s, func(c *consumer) { c.book, c.onGone = book, how })
		c.begun(t)
		slow = append(slow, c)
	}
	reader := follow(t, s, func(c *consumer) { // stays connected, but takes nothing for a while
		var once sync.Once
		c.book, c.small = book, true
		c.mood = func() error {
			c.mu.Lock()
			begun := c.notes > 0
			c.mu.Unlock()
			if begun {
				once.Do(func() { <-stalled })
			}
			return nil
		}
	})
	reader.begun(t)
	for _, c := range slow {
		c.pause()
	}
	l.while(r, func() {
		dropped := within(func() bool {
			var said struct{ Oldest notify.Seq }
			_, text := s.get("/v1/files/%2Froot/notify?since=1")
			json.Unmarshal([]byte(text), &said)
			return !slices.ContainsFunc(slow, func(c *consumer) bool { return c.last >= said.Oldest })
		})
		if !dropped {
			t.Error("nothing is ever dropped")
		}
		pause()
	})
	close(stalled)
	for _, c := range slow {
		c.run(t)
	}
	for _, c := range append(slow, reader, eager) {
		c.holds(t, s)
	}
	eager.neverGone(t)
	for _, c := range slow {
		if _, _, gone, _ := c.where(); gone == 0 {
			t.Errorf("onGone=%q: nobody said that the cursor is gone", c.onGone)
		}
	}
	_, notes, gone, _ := reader.where()
	t.Logf("the reader that stalled: %d notifications, %d times gone", notes, gone)

	// The limit holds over a restart.
	s.kill()
	s.start()
	l.while(r, func() { time.Sleep(time.Second) })
	for _, c := range append(slow, reader, eager) {
		c.holds(t, s)
	}
	eager.neverGone(t)
	s.stop()
	if info, err := os.Stat(s.state + "/journal.db"); err != nil || info.Size() > 8<<20 {
		t.Errorf("journal.db: %v, %v", info, err)
	}
}
