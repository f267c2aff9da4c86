package watch

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"fs_notify/notify"
)

// clockSink numbers batches as the journal does and notes how far the numbers ran ahead of the clock.
type clockSink struct {
	mu    sync.Mutex
	last  notify.BatchNumber
	ahead notify.BatchNumber
	count int
}

func (s *clockSink) Append(context.Context, notify.FileID, []notify.Notification) (notify.BatchNumber, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = max(notify.NumberAt(time.Now()), s.last+1)
	if now := notify.NumberAt(time.Now()); s.last > now {
		s.ahead = max(s.ahead, s.last-now)
	}
	s.count++
	return s.last, nil
}

// A batch's number is its millisecond: however fast batches come, the numbers do not run ahead of the clock.
func TestNumbersKeepToTheClock(t *testing.T) {
	o, s := newOutbox(0), &clockSink{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.run(ctx, s) }()
	for range 300 {
		o.addOne(1, notify.Notification{Type: notify.SelfRescanned, Spine: notify.Spine{1}})
		o.seal()
	}
	if _, err := o.seal().await(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if s.count != 300 || s.ahead != 0 {
		t.Errorf("%d batches, the numbers up to %d ms ahead of the clock: want 300, 0", s.count, s.ahead)
	}
}

// The journal begins anew while a batch is on its way that has its number already: what comes behind that stands where the journal does.
func TestBeginsBehindABatchOnItsWay(t *testing.T) {
	slow := make(chan struct{})
	o := newOutbox(0)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.run(ctx, &keepSink{slow: slow}) }()
	o.addOne(1, notify.Notification{Type: notify.SelfRescanned, Spine: notify.Spine{1}})
	for o.flies() == nil {
		time.Sleep(time.Millisecond)
	}
	o.begin(100)
	slow <- struct{}{}
	for o.flies() != nil {
		time.Sleep(time.Millisecond)
	}
	if n, err := o.seal().await(ctx); n != 100 || err != nil {
		t.Errorf("the newest batch is %d, %v, want what the journal stands at, 100", n, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// flies gives the batch that is on its way.
func (o *outbox) flies() *outBatch {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.flying
}

// keepSink keeps what it is given, as the journal does, and numbers it.
type keepSink struct {
	last notify.BatchNumber
	kept [][]notify.Notification
	slow <-chan struct{}
}

func (s *keepSink) Append(_ context.Context, root notify.FileID, notes []notify.Notification) (notify.BatchNumber, error) {
	<-s.slow
	s.kept = append(s.kept, notes)
	s.last++
	return s.last, nil
}

// A batch that leaves is nobody else's: of two roots in turn, in groups of all sizes, while
// batches grow behind a slow sink, each notification comes out once, in its order, as it was.
func TestNotificationsStayWhatTheyAre(t *testing.T) {
	slow := make(chan struct{})
	o, s := newOutbox(0), &keepSink{slow: slow}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.run(ctx, s) }()
	rnd := rand.New(rand.NewPCG(1, 2))
	told := make([]int, 2)
	for i := range 400 {
		r := rnd.IntN(2)
		notes, groups, start := []notify.Notification(nil), []noteGroup(nil), told[r]
		for range 1 + rnd.IntN(1<<rnd.IntN(8)) {
			for range 1 + rnd.IntN(1<<rnd.IntN(6)) {
				typ := notify.ChildFileAdded
				if rnd.IntN(3) > 0 {
					typ = notify.ChildDataWritten
				}
				notes = append(notes, notify.Notification{Type: typ, Path: fmt.Sprint(r, "/", told[r]), Spine: notify.Spine{notify.FileID(1 + r), notify.FileID(told[r])},
					Link: notify.Seq(len(notes) + 1 - begin(groups))})
				told[r]++
			}
			groups = append(groups, noteGroup{len(notes), notify.LoadOf(notes[begin(groups):])})
		}
		if o.add(notify.FileID(1+r), notes, groups); told[r] == start {
			t.Fatal("nothing was told")
		}
		if i%3 == 0 {
			select {
			case slow <- struct{}{}:
			default:
			}
		}
	}
	close(slow)
	if _, err := o.seal().await(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	next := make([]int, 2)
	for _, notes := range s.kept {
		if load := notify.LoadOf(notes); !load.Within(notify.MaxBatch) {
			t.Errorf("a batch of %+v", load)
		}
		for i, n := range notes {
			r := int(n.Spine[0]) - 1
			if want := fmt.Sprint(r, "/", next[r]); n.Path != want || n.ID() != notify.FileID(next[r]) || n.Link != notify.Seq(i+1) {
				t.Fatalf("got %q with ID %d and link %d at place %d, want %q", n.Path, n.ID(), n.Link, i, want)
			}
			next[r]++
		}
	}
	if next[0] != told[0] || next[1] != told[1] {
		t.Errorf("%v came out, want %v", next, told)
	}
}

func begin(groups []noteGroup) int {
	if len(groups) == 0 {
		return 0
	}
	return groups[len(groups)-1].end
}
