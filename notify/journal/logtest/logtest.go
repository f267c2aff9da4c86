// Package logtest holds what every journal must do for its readers and its writer, whatever it keeps its batches in.
package logtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fs_notify/notify"
)

// Log is both ends of a journal, as packages watch and feed declare them.
type Log interface {
	Append(ctx context.Context, root notify.FileID, notes []notify.Notification) (notify.BatchNumber, error)
	Bounds() notify.Bounds
	Ring(from notify.BatchNumber) ([]*notify.Batch, bool)
	Page(ctx context.Context, from notify.BatchNumber, limit int) ([]*notify.Batch, error)
	PageBack(ctx context.Context, root notify.FileID, before notify.BatchNumber, limit int) ([]*notify.Batch, error)
	Contains(ctx context.Context, pos notify.Seq) (at notify.Seq, ok bool, err error)
	SeekTime(ctx context.Context, t time.Time) (notify.BatchNumber, error)
	Grew() <-chan struct{}
	Close() error
}

// Open makes an empty journal with a clock and a bound for what is held in memory (0: its default). The test closes it.
type Open func(t testing.TB, now func() time.Time, ringBytes int) Log

// Clock is a clock that moves when it is told to.
type Clock struct {
	mu sync.Mutex
	t  time.Time
}

// NewClock makes a clock that shows a day in 2026.
func NewClock() *Clock { return &Clock{t: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)} }

// Now reads the clock.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

// Add moves the clock, back if d is negative.
func (c *Clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// Note makes a notification about an entry of the root, by name.
func Note(t notify.Type, root notify.FileID, name string) notify.Notification {
	id := notify.FileID(1000)
	for _, c := range []byte(name) {
		id = id*31 + notify.FileID(c)
	}
	return notify.Notification{Type: t, Path: name, Spine: notify.Spine{root, id & (1<<63 - 1)}, Attr: notify.Attr{Mode: notify.ModeFile | 0o644, Nlink: 1}}
}

// The roots that the tests use.
const (
	A notify.FileID = 11
	B notify.FileID = 22
)

// Run runs the suite.
func Run(t *testing.T, open Open) {
	for _, tt := range []struct {
		name string
		run  func(s *story)
	}{
		{"an empty journal has one cursor, its base", (*story).empty},
		{"a batch gets its number, its Seqs and its predecessors", (*story).numbers},
		{"the clock stands, jumps and goes back", (*story).clockStory},
		{"notes that make no batch are refused", (*story).refused},
		{"a page begins where it was asked to", (*story).pages},
		{"pages go backward by root", (*story).back},
		{"only what is kept is contained", (*story).contains},
		{"time leads to a batch", (*story).times},
		{"memory and pages join without a seam", (*story).seam},
		{"an append wakes who waits", (*story).wakes},
		{"a closed journal says so", (*story).closes},
		{"readers and the writer do not meet", (*story).together},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.run(&story{T: t, clock: NewClock(), open: open})
		})
	}
}

type story struct {
	*testing.T
	clock *Clock
	open  Open
}

func (s *story) start(ringBytes int) Log {
	s.Helper()
	l := s.open(s.T, s.clock.Now, ringBytes)
	s.Cleanup(func() { l.Close() })
	s.clock.Add(10 * time.Second)
	return l
}

func (s *story) append(l Log, root notify.FileID, names ...string) notify.BatchNumber {
	s.Helper()
	var notes []notify.Notification
	for _, n := range names {
		notes = append(notes, Note(notify.ChildFileAdded, root, n))
	}
	n, err := l.Append(s.Context(), root, notes)
	if err != nil {
		s.Fatalf("Append: %v", err)
	}
	return n
}

// many appends n batches, one a millisecond, to root A and every third one to B.
func (s *story) many(l Log, n int) []notify.BatchNumber {
	s.Helper()
	var out []notify.BatchNumber
	for i := range n {
		s.clock.Add(time.Millisecond)
		root := A
		if i%3 == 2 {
			root = B
		}
		out = append(out, s.append(l, root, fmt.Sprint("file-", i)))
	}
	return out
}

func (s *story) numbersOf(batches []*notify.Batch, err error) []notify.BatchNumber {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
	var out []notify.BatchNumber
	for _, b := range batches {
		out = append(out, b.Number)
	}
	return out
}

func (s *story) same(what string, got, want []notify.BatchNumber) {
	s.Helper()
	if !slices.Equal(got, want) {
		s.Fatalf("%s: got %d, want %d", what, got, want)
	}
}

func (s *story) has(l Log, n notify.BatchNumber) bool {
	s.Helper()
	return s.holds(l, n.End())
}

func (s *story) holds(l Log, pos notify.Seq) bool {
	s.Helper()
	_, ok, err := l.Contains(s.Context(), pos)
	if err != nil {
		s.Fatalf("Contains(%d): %v", pos, err)
	}
	return ok
}

func (s *story) seek(l Log, t time.Time) notify.BatchNumber {
	s.Helper()
	n, err := l.SeekTime(s.Context(), t)
	if err != nil {
		s.Fatalf("SeekTime(%v): %v", t, err)
	}
	return n
}

func (s *story) empty() {
	l := s.start(0)
	b := l.Bounds()
	if b.Base != b.Head || b.Base == 0 {
		s.Fatalf("Bounds: got %+v, want a base that is the head", b)
	}
	for n, want := range map[notify.BatchNumber]bool{0: false, b.Base - 1: false, b.Base: true, b.Base + 1: false} {
		if got := s.has(l, n); got != want {
			s.Errorf("Contains(%d): got %v, want %v", n, got, want)
		}
	}
	if got, ok := l.Ring(b.Head + 1); !ok || len(got) > 0 {
		s.Errorf("Ring: got %v, %v", got, ok)
	}
	s.same("Page", s.numbersOf(l.Page(s.Context(), 0, 10)), nil)
	s.same("PageBack", s.numbersOf(l.PageBack(s.Context(), 0, 1<<40, 10)), nil)
	if got := s.seek(l, s.clock.Now()); got != b.Base {
		s.Errorf("SeekTime: got %d, want the base %d", got, b.Base)
	}
}

func (s *story) numbers() {
	l := s.start(0)
	base := l.Bounds().Base
	notes := []notify.Notification{
		Note(notify.ChildDirAdded, A, "d"),
		Note(notify.ChildFileMovedFrom, A, "x"),
		Note(notify.ChildFileMovedTo, A, "y"),
		Note(notify.ChildFileRemoved, A, "z"),
	}
	notes[1].Link, notes[2].Link = 3, 2
	one, err := l.Append(s.Context(), A, notes)
	if err != nil {
		s.Fatal(err)
	}
	if want := notify.NumberAt(s.clock.Now()); one != want {
		s.Errorf("first number: got %d, want the millisecond, %d", one, want)
	}
	s.clock.Add(5 * time.Millisecond)
	two := s.append(l, B, "b")
	s.clock.Add(5 * time.Millisecond)
	three := s.append(l, A, "a")
	if got := l.Bounds(); got.Base != base || got.Head != three {
		s.Errorf("Bounds: got %+v, want base %d and head %d", got, base, three)
	}
	got, ok := l.Ring(one)
	if !ok || len(got) != 3 {
		s.Fatalf("Ring: got %v, %v; want three batches", got, ok)
	}
	for i, want := range []notify.Batch{{Number: one, Prev: base, Root: A}, {Number: two, Prev: one, Root: B}, {Number: three, Prev: two, Root: A, RootPrev: one}} {
		if b := *got[i]; b.Number != want.Number || b.Prev != want.Prev || b.Root != want.Root || b.RootPrev != want.RootPrev {
			s.Errorf("batch %d: got number %d, prev %d, root %d, root prev %d; want %+v", i, b.Number, b.Prev, b.Root, b.RootPrev, want)
		}
	}
	n := got[0].Notes
	seqs := []notify.Seq{n[0].Seq, n[1].Seq, n[2].Seq, n[3].Seq, n[1].Link, n[2].Link, n[0].Link}
	if want := []notify.Seq{one.Seq(3), one.Seq(4), one.Seq(5), one.Seq(9), one.Seq(5), one.Seq(4), 0}; !slices.Equal(seqs, want) {
		s.Errorf("Seqs and links: got %d, want %d", seqs, want)
	}
}

func (s *story) clockMoves(l Log, d time.Duration, want func(prev notify.BatchNumber) notify.BatchNumber) {
	s.Helper()
	prev := l.Bounds().Head
	s.clock.Add(d)
	if got := s.append(l, A, "x"); got != want(prev) {
		s.Errorf("the clock moved by %v: got number %d after %d, want %d", d, got, prev, want(prev))
	}
}

func (s *story) clockStory() {
	l := s.start(0)
	onTime := func(notify.BatchNumber) notify.BatchNumber { return notify.NumberAt(s.clock.Now()) }
	next := func(prev notify.BatchNumber) notify.BatchNumber { return prev + 1 }
	s.clockMoves(l, 0, onTime)
	s.clockMoves(l, 0, next)
	s.clockMoves(l, time.Hour, onTime)
	s.clockMoves(l, -24*time.Hour, next)
	s.clockMoves(l, time.Second, next)
	s.clockMoves(l, 48*time.Hour, onTime)
}

func (s *story) refused() {
	l := s.start(0)
	many := make([]notify.Notification, notify.BatchIndexes/notify.WideIndexes+1)
	for i := range many {
		many[i] = Note(notify.ChildFileAdded, A, fmt.Sprint(i))
	}
	heavy := slices.Clone(many[:600])
	for i := range heavy {
		heavy[i].Path = strings.Repeat("x", 64<<10)
	}
	linked := Note(notify.ChildFileMovedFrom, A, "x")
	linked.Link = 2
	for _, tt := range []struct {
		name  string
		root  notify.FileID
		notes []notify.Notification
	}{
		{"none", A, nil},
		{"no root", 0, many[:1]},
		{"too many indexes", A, many},
		{"too many bytes", A, heavy},
		{"no spine", A, []notify.Notification{{Type: notify.ChildFileAdded}}},
		{"unknown type", A, []notify.Notification{{Type: 77, Spine: notify.Spine{A}}}},
		{"a link out of the batch", A, []notify.Notification{linked}},
	} {
		if n, err := l.Append(s.Context(), tt.root, tt.notes); !errors.Is(err, notify.Invalid) {
			s.Errorf("%s: got %d, %v; want Invalid", tt.name, n, err)
		}
	}
	if b := l.Bounds(); b.Base != b.Head {
		s.Errorf("something was kept: %+v", b)
	}
	if _, err := l.Append(s.Context(), A, many[:len(many)-1]); err != nil {
		s.Errorf("a full batch: %v", err)
	}
}

func (s *story) pages() {
	l := s.start(0)
	all := s.many(l, 20)
	s.same("from 0", s.numbersOf(l.Page(s.Context(), 0, 100)), all)
	s.same("from the sixth", s.numbersOf(l.Page(s.Context(), all[5], 3)), all[5:8])
	s.clock.Add(time.Second)
	last := s.append(l, A, "last")
	s.same("from between two", s.numbersOf(l.Page(s.Context(), all[19]+1, 3)), []notify.BatchNumber{last})
	s.same("beyond the head", s.numbersOf(l.Page(s.Context(), last+1, 3)), nil)
	s.same("of no length", s.numbersOf(l.Page(s.Context(), 0, 0)), nil)
	page, _ := l.Page(s.Context(), all[7], 1)
	if n := page[0].Notes; len(n) != 1 || n[0].Path != "file-7" || n[0].Seq != all[7].Seq(3) {
		s.Errorf("got %+v, want file-7", n)
	}
}

func (s *story) back() {
	l := s.start(0)
	all := s.many(l, 12) // B has 2, 5, 8, 11
	s.same("any", s.numbersOf(l.PageBack(s.Context(), 0, all[11], 3)), []notify.BatchNumber{all[11], all[10], all[9]})
	s.same("B", s.numbersOf(l.PageBack(s.Context(), B, all[10], 3)), []notify.BatchNumber{all[8], all[5], all[2]})
	s.same("A", s.numbersOf(l.PageBack(s.Context(), A, all[2], 9)), []notify.BatchNumber{all[1], all[0]})
	s.same("before all", s.numbersOf(l.PageBack(s.Context(), 0, all[0]-1, 9)), nil)
	s.same("a stranger", s.numbersOf(l.PageBack(s.Context(), 99, all[11], 9)), nil)
}

func (s *story) contains() {
	l := s.start(0)
	base := l.Bounds().Base
	one := s.append(l, A, "a")
	s.clock.Add(time.Second)
	two := s.append(l, A, "b")
	for n, want := range map[notify.BatchNumber]bool{base - 1: false, base: true, base + 1: false, one - 1: false, one: true, one + 1: false, two: true, two + 1: false} {
		if got := s.has(l, n); got != want {
			s.Errorf("Contains(%d) of base %d, %d, %d: got %v, want %v", n, base, one, two, got, want)
		}
	}
	if !s.holds(l, one.Seq(0)) {
		s.Error("a cursor inside a batch that is kept is not contained")
	}
	if s.holds(l, base.Seq(0)) {
		s.Error("a cursor inside the base is contained, though the rest of that is not")
	}
}

func (s *story) times() {
	l := s.start(0)
	base := l.Bounds().Base
	one := s.append(l, A, "a")
	at := s.clock.Now()
	s.clock.Add(time.Second)
	two := s.append(l, A, "b")
	for _, tt := range []struct {
		t    time.Time
		want notify.BatchNumber
	}{{time.Time{}, base}, {at, base}, {at.Add(999 * time.Microsecond), base}, {at.Add(time.Millisecond), one}, {at.Add(time.Second), one}, {at.Add(time.Hour), two}} {
		if got := s.seek(l, tt.t); got != tt.want {
			s.Errorf("SeekTime(%v): got %d, want %d", tt.t, got, tt.want)
		}
	}
}

func (s *story) seam() {
	l := s.start(4 << 10)
	var all []notify.BatchNumber
	for range 10 {
		all = append(all, s.many(l, 10)...)
		b := l.Bounds()
		held, _ := l.Ring(0)
		if held == nil {
			held, _ = l.Ring(b.Head)
		}
		if len(held) == 0 || held[len(held)-1].Number != b.Head {
			s.Fatalf("memory does not hold the head")
		}
		// Walk as a reader does, from the base: memory where it reaches, pages where it does not.
		var walked []notify.BatchNumber
		pos := b.Base
		for pos < b.Head {
			batches, ok := l.Ring(pos + 1)
			if !ok {
				var err error
				if batches, err = l.Page(s.Context(), pos+1, 7); err != nil {
					s.Fatal(err)
				}
			}
			if len(batches) == 0 {
				s.Fatalf("nothing after %d although the head is %d", pos, b.Head)
			}
			for _, x := range batches {
				if x.Prev != pos {
					s.Fatalf("batch %d follows %d, not %d", x.Number, x.Prev, pos)
				}
				pos = x.Number
				walked = append(walked, pos)
			}
		}
		s.same("walked", walked, all[len(all)-len(walked):])
		if first := all[len(all)-len(walked)]; s.has(l, b.Base-1) || !s.has(l, b.Base) || !s.has(l, first) {
			s.Fatalf("the bounds %+v are not those of what is kept", b)
		}
	}
}

func (s *story) wakes() {
	l := s.start(0)
	grew := l.Grew()
	select {
	case <-grew:
		s.Fatal("it grew before anything was appended")
	default:
	}
	if l.Grew() != grew {
		s.Error("two who wait wait for two things")
	}
	s.append(l, A, "a")
	select {
	case <-grew:
	case <-time.After(10 * time.Second):
		s.Fatal("nobody was woken")
	}
	select {
	case <-l.Grew():
		s.Fatal("the next channel is closed already")
	default:
	}
}

func (s *story) closes() {
	l := s.start(0)
	s.append(l, A, "a")
	grew := l.Grew()
	if err := l.Close(); err != nil {
		s.Fatalf("Close: %v", err)
	}
	select {
	case <-grew:
	case <-time.After(10 * time.Second):
		s.Fatal("Close woke nobody")
	}
	select {
	case <-l.Grew():
	default:
		s.Error("who comes after Close waits for ever")
	}
	_, err := l.Append(s.Context(), A, []notify.Notification{Note(notify.ChildFileAdded, A, "b")})
	_, err2 := l.Page(s.Context(), 0, 1)
	_, err3 := l.PageBack(s.Context(), 0, 1<<40, 1)
	_, _, err4 := l.Contains(s.Context(), 1)
	_, err5 := l.SeekTime(s.Context(), s.clock.Now())
	for i, err := range []error{err, err2, err3, err4, err5} {
		if !errors.Is(err, notify.Closed) {
			s.Errorf("call %d: got %v, want Closed", i, err)
		}
	}
	if err := l.Close(); err != nil {
		s.Errorf("closed again: %v", err)
	}
}

// together has readers walk from the base to the end while the writer appends.
func (s *story) together() {
	l := s.start(16 << 10)
	const n = 400
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(s.Context(), 30*time.Second)
	defer cancel()
	start := l.Bounds().Head
	for range 4 {
		wg.Go(func() {
			for pos := start; ; {
				grew := l.Grew()
				batches, ok := l.Ring(pos + 1)
				if !ok {
					var err error
					if batches, err = l.Page(ctx, pos+1, 16); err != nil {
						s.Errorf("Page: %v", err)
						return
					}
				}
				for _, b := range batches {
					if b.Prev != pos { // forgotten before it was read: told, and gone on from there
						if _, ok, err := l.Contains(ctx, pos.End()); ok || err != nil {
							s.Errorf("batch %d follows %d, not %d, which is contained: %v", b.Number, b.Prev, pos, err)
							return
						}
					}
					pos = b.Number
					if b.Notes[0].Path == "end" {
						return
					}
				}
				if len(batches) == 0 {
					select {
					case <-grew:
					case <-ctx.Done():
						s.Error("the end never came")
						return
					}
				}
			}
		})
	}
	s.many(l, n)
	s.append(l, B, "end")
	wg.Wait()
}
