package journal_test

import (
	"fmt"
	"testing"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/feed"
	"fs_notify/notify/journal"
	"fs_notify/notify/journal/logtest"
)

var _ feed.Log = (*journal.Memory)(nil)

func TestMemory(t *testing.T) {
	logtest.Run(t, func(t testing.TB, now func() time.Time, ringBytes int) logtest.Log {
		return journal.NewMemory(journal.MemoryOptions{Now: now, Bytes: ringBytes})
	})
}

// A cursor that is passed by is gone; what a reader holds already stays whole.
func TestMemoryForgets(t *testing.T) {
	clock := logtest.NewClock()
	m := journal.NewMemory(journal.MemoryOptions{Now: clock.Now, Bytes: 10 << 10})
	first := m.Bounds().Base
	if !m.Bounds().Whole {
		t.Fatal("a new journal is not whole")
	}
	var numbers []notify.BatchNumber
	var held []*notify.Batch
	for i := range 1000 {
		clock.Add(time.Millisecond)
		n, err := m.Append(t.Context(), logtest.A, []notify.Notification{logtest.Note(notify.ChildFileAdded, logtest.A, fmt.Sprint("f", i))})
		if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, n)
		if i == 20 {
			held, _ = m.Ring(numbers[10])
		}
	}
	b := m.Bounds()
	if b.Whole || b.Base <= first || b.Base >= b.Head {
		t.Fatalf("bounds %+v: nothing was forgotten, or everything", b)
	}
	for _, n := range append(numbers, first) {
		if _, got, _ := m.Contains(t.Context(), n.End()); got != (n >= b.Base) {
			t.Fatalf("Contains(%d): got %v with bounds %+v", n, got, b)
		}
	}
	if len(held) != 11 || held[0].Notes[0].Path != "f10" || held[10].Notes[0].Path != "f20" {
		t.Fatalf("what a reader held has changed")
	}
	var kept []notify.BatchNumber
	weight := 0
	for _, b := range must(m.Page(t.Context(), 0, 1<<20)) {
		kept = append(kept, b.Number)
		weight += 96 + b.Notes[0].Weight()
	}
	if most := 10 << 10 / 64; weight < 12<<10 || len(kept) > most {
		t.Fatalf("%d batches are kept that weigh %d bytes: want more than 12 KiB of them in the 10 KiB, as they are packed, but at most %d", len(kept), weight, most)
	}
	back := must(m.PageBack(t.Context(), 0, b.Head, 1<<20))
	for i, n := range kept {
		if len(back) != len(kept) || back[len(back)-1-i].Number != n {
			t.Fatalf("forward there are %d batches, backward %d", len(kept), len(back))
		}
	}
}

// A batch larger than the bound is still there for those who are woken by it.
func TestMemoryKeepsTheNewest(t *testing.T) {
	m := journal.NewMemory(journal.MemoryOptions{Bytes: 1})
	for range 3 {
		n, err := m.Append(t.Context(), logtest.A, []notify.Notification{logtest.Note(notify.ChildFileAdded, logtest.A, "x")})
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := m.Ring(n); !ok || len(got) != 1 || got[0].Number != n {
			t.Fatalf("Ring(%d): got %v, %v", n, got, ok)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
