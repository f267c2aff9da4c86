package feed_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"fs_notify/notify"
	"fs_notify/notify/feed"
	"fs_notify/notify/feed/feedtest"
)

var everything = feed.View{Root: root, Dir: root, Recursive: true, Types: notify.Qumulo}

func added(id notify.FileID) notify.Notification {
	return note(notify.ChildFileAdded, "f"+id.String(), root, id)
}

func subscribe(t *testing.T, f *feed.Feed, v feed.View, after notify.Seq) *feed.Sub {
	t.Helper()
	s, err := f.Subscribe(t.Context(), v, after)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// read takes what there is, up to the head.
func read(t *testing.T, s *feed.Sub) (ids []notify.FileID, err error) {
	t.Helper()
	for {
		p, err := s.Next(t.Context(), 0)
		if err != nil {
			return ids, err
		}
		for _, h := range p.Hits {
			ids = append(ids, h.Note.ID())
		}
	}
}

func TestEveryCursorSeesTheRest(t *testing.T) {
	for _, ring := range []int{-1, 5, 0} { // all in memory, some, nothing
		log := feedtest.New(100)
		var all []notify.Notification
		for i := range notify.FileID(40) {
			b := log.Append(root, added(100+2*i), added(101+2*i))
			all = append(all, b.Notes...)
		}
		log.KeepInMemory(ring)
		f := feed.New(log, feed.Options{})
		starts := []notify.Seq{log.Bounds().Oldest()}
		for _, n := range all {
			starts = append(starts, n.Seq, n.Seq.Batch().End())
		}
		for _, after := range starts {
			got, err := read(t, subscribe(t, f, everything, after))
			if !errors.Is(err, feed.ErrIdle) {
				t.Fatalf("ring %d, after %d: %v, want ErrIdle", ring, after, err)
			}
			var want []notify.FileID
			for _, n := range all {
				if n.Seq > after {
					want = append(want, n.ID())
				}
			}
			if len(got) != len(want) || len(want) > 0 && (got[0] != want[0] || got[len(got)-1] != want[len(want)-1]) {
				t.Fatalf("ring %d, after %d: got %v, want %v", ring, after, got, want)
			}
		}
	}
}

// A reader that waits holds nothing of what it was given.
func TestReaderHoldsNothing(t *testing.T) {
	log := feedtest.New(100)
	var left []func() bool
	for i := range notify.FileID(20) { // more than a page
		b := log.Append(root, added(100+2*i), added(101+2*i))
		batch, notes := weak.Make(b), weak.Make(&b.Notes[0])
		left = append(left, func() bool { return batch.Value() != nil || notes.Value() != nil })
	}
	log.KeepInMemory(0)
	s := subscribe(t, feed.New(log, feed.Options{}), everything, log.Bounds().Oldest())
	if ids, err := read(t, s); len(ids) != 40 || !errors.Is(err, feed.ErrIdle) {
		t.Fatalf("%d notifications, %v, want 40, ErrIdle", len(ids), err)
	}
	log.Forget(20)
	runtime.GC()
	for i, held := range left {
		if held() {
			t.Errorf("batch %d is still held", i)
		}
	}
	runtime.KeepAlive(s)
}

func TestCursorMovesWithWhatDoesNotMatch(t *testing.T) {
	log := feedtest.New(100)
	s := subscribe(t, feed.New(log, feed.Options{}), feed.View{Root: root, Dir: watched, Types: notify.Qumulo}, log.Bounds().Newest())
	for range 3 {
		log.Append(root, added(50))
		log.Append(77, added(51))
	}
	if p, err := s.Step(); err != nil || len(p.Hits) != 0 {
		t.Fatalf("Step: %v, %v, want an empty part", p, err)
	}
	want := notify.Cursor{Seq: log.Bounds().Newest(), Dir: watched}
	if got := s.Cursor(); got != want {
		t.Errorf("the bookmark is %v, want the head, %v", got, want)
	}
	if _, err := s.Step(); !errors.Is(err, feed.ErrIdle) {
		t.Errorf("Step at the head: %v, want ErrIdle", err)
	}
}

func TestSelfRemovedEnds(t *testing.T) {
	log := feedtest.New(100)
	s := subscribe(t, feed.New(log, feed.Options{}), feed.View{Root: root, Dir: sub, Types: notify.SetOf(notify.ChildFileAdded)}, log.Bounds().Newest())
	log.Append(root, note(notify.ChildDirRemoved, "sub", root, sub))
	p, err := s.Next(t.Context(), time.Hour)
	if err != nil || !p.End || len(p.Hits) != 1 || p.Hits[0].Note.Type != notify.SelfRemoved {
		t.Fatalf("Next: %+v, %v, want self_removed", p, err)
	}
	if _, err := s.Next(t.Context(), time.Hour); !errors.Is(err, feed.ErrEnded) {
		t.Errorf("Next after self_removed: %v, want ErrEnded", err)
	}
}

// A directory that is in no tree any more: its root is learnt from what is told of it.
func TestRootNotKnown(t *testing.T) {
	log := feedtest.New(100)
	v := feed.View{Dir: sub, Recursive: true, Types: notify.AllTypes}
	s := subscribe(t, feed.New(log, feed.Options{}), v, log.Bounds().Newest())
	log.Append(77, note(notify.SelfRemoved, "", 77)) // some root, perhaps not its own
	log.Append(77, note(notify.SelfRescanned, "", 77))
	log.Append(root, note(notify.ChildFileAdded, "sub/f", root, sub, file))
	log.Append(77, note(notify.SelfRemoved, "", 77))
	log.Append(root, note(notify.SelfRemoved, "", root))
	ids, err := read(t, s)
	if want := []notify.FileID{sub, file, sub}; !slices.Equal(ids, want) || !errors.Is(err, feed.ErrEnded) {
		t.Errorf("got %v, %v, want %v, then the end", ids, err, want)
	}
}

func TestGone(t *testing.T) {
	log := feedtest.New(100)
	var numbers []notify.BatchNumber
	for i := range notify.FileID(10) {
		numbers = append(numbers, log.Append(root, added(100+i)).Number)
	}
	f := feed.New(log, feed.Options{})
	log.Forget(3)
	for _, tt := range []struct {
		name string
		n    notify.BatchNumber
		gone bool
	}{
		{"the base that was", 100, true},
		{"a batch that is forgotten", numbers[1], true},
		{"the last one forgotten: the base", numbers[2], false},
		{"the head", numbers[9], false},
		{"the future", numbers[9] + 1, true},
	} {
		_, err := f.Subscribe(t.Context(), everything, tt.n.End())
		if errors.Is(err, notify.Gone) != tt.gone || err != nil && !tt.gone {
			t.Errorf("%s: Subscribe gave %v, want gone %v", tt.name, err, tt.gone)
		}
		var e *notify.Error
		if tt.gone && (!errors.As(err, &e) || e.Bounds != log.Bounds()) {
			t.Errorf("%s: the error does not tell the bounds: %+v", tt.name, e)
		}
	}
}

// The last batch that is forgotten is the base. A reader that has seen only a part of it has missed the rest, whether it comes
// then or was reading, and whether anything has come since or not.
func TestForgottenInsideABatch(t *testing.T) {
	for _, since := range []int{0, 1} {
		log := feedtest.New(100)
		f := feed.New(log, feed.Options{})
		b := log.Append(root, added(100), added(101))
		at := b.Notes[0].Seq
		s := subscribe(t, f, everything, at)
		for i := range since {
			log.Append(root, added(notify.FileID(102+i)))
		}
		log.Forget(1)
		if ids, err := read(t, s); !errors.Is(err, notify.Gone) || len(ids) > 0 {
			t.Errorf("%d batches later: a reader inside the base got %v, %v, want Gone", since, ids, err)
		}
		if _, err := f.Subscribe(t.Context(), everything, at); !errors.Is(err, notify.Gone) {
			t.Errorf("%d batches later: Subscribe inside the base gave %v, want Gone", since, err)
		}
		for _, end := range []notify.Seq{b.Notes[1].Seq, b.Number.End()} {
			if ids, err := read(t, subscribe(t, f, everything, end)); !errors.Is(err, feed.ErrIdle) || len(ids) != since {
				t.Errorf("%d batches later: a reader that has seen all of the base got %v, %v", since, ids, err)
			}
		}
	}
}

// All cursors are gone at once, also those of readers who wait, and who have nothing to read.
func TestNewLifeIsTold(t *testing.T) {
	log := feedtest.New(100)
	f := feed.New(log, feed.Options{})
	log.Append(root, added(100))
	s := subscribe(t, f, everything, log.Bounds().Newest())
	go log.Renew()
	if _, err := s.Next(t.Context(), time.Hour); !errors.Is(err, notify.Gone) {
		t.Errorf("a reader that waited got %v, want Gone", err)
	}
	subscribe(t, f, everything, log.Bounds().Newest())
}

func TestRetentionPassesAReader(t *testing.T) {
	log := feedtest.New(100)
	f := feed.New(log, feed.Options{})
	s := subscribe(t, f, everything, log.Bounds().Newest())
	for i := range notify.FileID(10) {
		log.Append(root, added(100+i))
	}
	log.Forget(4)
	if ids, err := read(t, s); !errors.Is(err, notify.Gone) || len(ids) > 0 {
		t.Errorf("a reader that retention passed got %v, %v, want Gone", ids, err)
	}
}

func TestDamageIsTold(t *testing.T) {
	log := feedtest.New(100)
	f := feed.New(log, feed.Options{})
	s := subscribe(t, f, everything, log.Bounds().Newest())
	log.Append(root, added(100))
	log.Append(root, note(notify.ChildMtimeChanged, "x", 9, 8)) // another tree's: moves the bookmark only
	bad := log.Append(root, added(101))
	log.Append(root, added(102))
	log.Damage(bad.Number)
	ids, err := read(t, s)
	if len(ids) != 1 || !errors.Is(err, notify.Gone) {
		t.Fatalf("got %v, %v, want the first notification, then Gone", ids, err)
	}
	if _, err := f.Subscribe(t.Context(), everything, s.Cursor().Seq); !errors.Is(err, notify.Gone) {
		t.Errorf("going on right before the damage: %v, want Gone", err)
	}
	if ids, err := read(t, subscribe(t, f, everything, bad.Number.End())); len(ids) != 1 || !errors.Is(err, feed.ErrIdle) {
		t.Errorf("behind the damage: %v, %v, want one notification", ids, err)
	}
}

func TestQuietFeedIdles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := feedtest.New(100)
		s := subscribe(t, feed.New(log, feed.Options{}), everything, log.Bounds().Newest())
		go func() {
			for range 5 { // other people's news does not put off the keepalive
				time.Sleep(10 * time.Minute)
				log.Append(77, added(50))
			}
		}()
		start := time.Now()
		if _, err := s.Next(t.Context(), time.Hour); !errors.Is(err, feed.ErrIdle) {
			t.Fatalf("Next: %v, want ErrIdle", err)
		}
		if d := time.Since(start); d != time.Hour {
			t.Errorf("idle after %v, want one hour", d)
		}
		if got := s.Cursor().Seq; got != log.Bounds().Newest() {
			t.Errorf("the bookmark stayed at %d, the head is %d", got, log.Bounds().Newest())
		}
	})
}

// One that waits until it may read a page is idle, too: its client has to hear that it lives.
func TestWaitingForASlotIsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := feedtest.New(100)
		f := feed.New(log, feed.Options{Pagers: 1})
		first, second := subscribe(t, f, everything, log.Bounds().Newest()), subscribe(t, f, everything, log.Bounds().Newest())
		log.KeepInMemory(0)
		log.Append(root, added(50))
		gate, done := make(chan struct{}), make(chan error)
		log.OnPage(func() { <-gate })
		go func() {
			_, err := first.Next(t.Context(), time.Hour)
			done <- err
		}()
		synctest.Wait()
		for range 3 {
			start := time.Now()
			if _, err := second.Next(t.Context(), time.Minute); !errors.Is(err, feed.ErrIdle) || time.Since(start) != time.Minute {
				t.Fatalf("Next: %v after %v, want ErrIdle after a minute", err, time.Since(start))
			}
		}
		close(gate)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if p, err := second.Next(t.Context(), time.Minute); err != nil || len(p.Hits) != 1 {
			t.Errorf("Next: %v, %v, want one notification", p, err)
		}
	})
}

func TestNewsWakesTheReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := feedtest.New(100)
		s := subscribe(t, feed.New(log, feed.Options{}), everything, log.Bounds().Newest())
		time.AfterFunc(time.Minute, func() { log.Append(root, added(50)) })
		start := time.Now()
		p, err := s.Next(t.Context(), time.Hour)
		if err != nil || len(p.Hits) != 1 || time.Since(start) != time.Minute {
			t.Errorf("Next: %v, %v after %v, want one notification after a minute", p, err, time.Since(start))
		}
	})
}

func TestEndOfContextAndLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := feedtest.New(100)
		f := feed.New(log, feed.Options{})
		why := errors.New("the server stops")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		if _, err := subscribe(t, f, everything, log.Bounds().Newest()).Next(ctx, time.Hour); !errors.Is(err, why) {
			t.Errorf("Next under a context that ends: %v, want its cause", err)
		}
		time.AfterFunc(time.Second, log.Close)
		if _, err := subscribe(t, f, everything, log.Bounds().Newest()).Next(t.Context(), time.Hour); !errors.Is(err, notify.Closed) {
			t.Errorf("Next on a log that closes: %v, want Closed", err)
		}
	})
}

// Many readers far behind: never more than the pagers read at once, each gets all.
func TestPagersAreLimited(t *testing.T) {
	log := feedtest.New(100)
	const batches, readers, pagers = 200, 20, 3
	for i := range notify.FileID(batches) {
		log.Append(root, added(100+i))
	}
	log.KeepInMemory(10)
	var now, most atomic.Int32
	log.OnPage(func() {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(time.Millisecond)
		now.Add(-1)
	})
	f := feed.New(log, feed.Options{Pagers: pagers})
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			s, err := f.Subscribe(t.Context(), everything, log.Bounds().Oldest())
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			n := 0
			for {
				p, err := s.Next(t.Context(), 0)
				if err != nil {
					if n != batches || !errors.Is(err, feed.ErrIdle) {
						t.Errorf("a reader got %d of %d, then %v", n, batches, err)
					}
					return
				}
				n += len(p.Hits)
			}
		})
	}
	wg.Wait()
	if m := most.Load(); m > pagers {
		t.Errorf("%d readers read pages at once, the limit is %d", m, pagers)
	}
	if live, behind := f.Stats(); live != 0 || behind != 0 {
		t.Errorf("all readers left, Stats says %d live and %d behind", live, behind)
	}
}

// A reader that holds a page and does not come back must not hold a slot.
func TestSlowReaderHoldsNoSlot(t *testing.T) {
	log := feedtest.New(100)
	for i := range notify.FileID(50) {
		log.Append(root, added(100+i))
	}
	log.KeepInMemory(1)
	f := feed.New(log, feed.Options{Pagers: 1})
	slow := subscribe(t, f, everything, log.Bounds().Oldest())
	if _, err := slow.Next(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if _, behind := f.Stats(); behind != 1 {
		t.Errorf("Stats says %d behind, want 1", behind)
	}
	if ids, err := read(t, subscribe(t, f, everything, log.Bounds().Oldest())); len(ids) != 50 || !errors.Is(err, feed.ErrIdle) {
		t.Errorf("beside a slow reader: got %d, %v", len(ids), err)
	}
	if ids, _ := read(t, slow); len(ids) != 49 {
		t.Errorf("the slow reader got %d of the other 49", len(ids))
	}
}

func TestParseSince(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]feed.Since{
		"":                          {Kind: feed.SinceNow},
		"now":                       {Kind: feed.SinceNow},
		"oldest":                    {Kind: feed.SinceOldest},
		"snapshot":                  {Kind: feed.SinceSnapshot},
		"4711":                      {Kind: feed.SinceCursor, Cursor: notify.Cursor{Seq: 4711}},
		"4711.12":                   {Kind: feed.SinceCursor, Cursor: notify.Cursor{Seq: 4711, Dir: 12}},
		"5m":                        {Kind: feed.SinceTime, Time: now.Add(-5 * time.Minute)},
		"2h30m":                     {Kind: feed.SinceTime, Time: now.Add(-150 * time.Minute)},
		"7d":                        {Kind: feed.SinceTime, Time: now.Add(-7 * 24 * time.Hour)},
		"65536d":                    {Kind: feed.SinceTime, Time: now.Add(-65535 * 24 * time.Hour)}, // either is before every journal
		"2026-11-22T10:00:00Z":      {Kind: feed.SinceTime, Time: now.Add(-2 * time.Hour)},
		"2026-11-22T12:00:00 02:00": {Kind: feed.SinceTime, Time: now.Add(-2 * time.Hour)},
	} {
		got, err := feed.ParseSince(in, now)
		if err != nil || got.Kind != want.Kind || got.Cursor != want.Cursor || !got.Time.Equal(want.Time) {
			t.Errorf("ParseSince(%q) = %+v, %v, want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"xyz", "-5m", "-1", "yesterday", "1.2.3", "007", "d", "65536xd", "-65536d", "99999999999999999999"} {
		if got, err := feed.ParseSince(in, now); !errors.Is(err, notify.Invalid) {
			t.Errorf("ParseSince(%q) = %+v, %v, want Invalid", in, got, err)
		}
	}
}

func FuzzParseSince(f *testing.F) {
	for _, s := range []string{"", "4711.12", "5m", "7d", "2026-11-22T10:00:00Z", "snapshot", "\x00", "1e9h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		now := time.Unix(1e9, 0)
		if got, err := feed.ParseSince(s, now); err != nil && !errors.Is(err, notify.Invalid) || err == nil && got.Kind == feed.SinceTime && got.Time.IsZero() {
			t.Errorf("ParseSince(%q) = %+v, %v", s, got, err)
		}
	})
}

func TestStart(t *testing.T) {
	log := feedtest.New(100)
	f := feed.New(log, feed.Options{})
	for i := range notify.FileID(10) {
		log.SkipTo(notify.BatchNumber(101 + i)) // a millisecond each
		log.Append(root, added(100+i))
	}
	at := func(n notify.BatchNumber) feed.Since { return feed.Since{Kind: feed.SinceTime, Time: n.Time()} }
	if got, err := f.Start(t.Context(), at(50)); err != nil || got != notify.BatchNumber(100).End() {
		t.Errorf("before a log that has all there ever was: Start = %d, %v, want its beginning", got, err)
	}
	log.Forget(5)
	for _, tt := range []struct {
		name string
		s    feed.Since
		want notify.Seq
	}{
		{"oldest", feed.Since{Kind: feed.SinceOldest}, notify.BatchNumber(105).End()},
		{"now", feed.Since{}, notify.BatchNumber(110).End()},
		{"the time of a batch is before it", at(108), notify.BatchNumber(107).End()},
		{"the time of the oldest", at(106), notify.BatchNumber(105).End()},
		{"the future", at(500), notify.BatchNumber(110).End()},
	} {
		if got, err := f.Start(t.Context(), tt.s); err != nil || got != tt.want {
			t.Errorf("%s: Start = %d, %v, want %d", tt.name, got, err, tt.want)
		}
	}
	if _, err := f.Start(t.Context(), at(103)); !errors.Is(err, notify.Gone) {
		t.Errorf("a time whose batches are forgotten: %v, want Gone", err)
	}
}

func BenchmarkStep(b *testing.B) {
	const perBatch = 100
	for _, bb := range []struct {
		name string
		view feed.View
	}{
		{"every one matches", everything},
		{"none matches", feed.View{Root: root, Dir: 9999, Recursive: true, Types: notify.Qumulo}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			log := feedtest.New(100)
			var notes [perBatch]notify.Notification
			for i := range notes {
				notes[i] = note(notify.ChildSizeChanged, "a/b/c/file", root, 2, 3, 4, notify.FileID(100+i))
			}
			for range 1000 {
				log.Append(root, slices.Clone(notes[:])...)
			}
			f := feed.New(log, feed.Options{})
			b.ReportAllocs()
			seen := 0
			for b.Loop() {
				s, err := f.Subscribe(b.Context(), bb.view, log.Bounds().Oldest())
				if err != nil {
					b.Fatal(err)
				}
				for err == nil {
					_, err = s.Step()
				}
				seen += 1000 * perBatch
				s.Close()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(seen), "ns/notification")
		})
	}
}
