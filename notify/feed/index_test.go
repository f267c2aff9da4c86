package feed_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"fs_notify/notify"
	"fs_notify/notify/feed"
)

// randomBatch makes a batch of one of two roots, in a tree of few IDs, so that much of it meets some view.
func randomBatch(rnd *rand.Rand) *notify.Batch {
	b := &notify.Batch{Root: notify.FileID(1 + rnd.IntN(2))}
	for range 1 + rnd.IntN(20) {
		n := note(notify.Type(rnd.IntN(notify.NumTypes)), "", b.Root)
		for id := notify.FileID(10); rnd.IntN(5) > 0 && id < 30; {
			id += notify.FileID(1 + rnd.IntN(4))
			n.Spine = append(n.Spine, id)
			n.Path += fmt.Sprint("/", id)
		}
		n.Path = n.Path[min(len(n.Path), 1):]
		if rnd.IntN(4) == 0 {
			n.Link = notify.Seq(1 + rnd.IntN(len(b.Notes)+1))
		}
		b.Notes = append(b.Notes, n)
	}
	b.Assign(100, 99, 0)
	return b
}

// What an index finds makes the same hits as a look at everything.
func TestIndexFindsWhatMatchSees(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	seen := 0
	for range 200 {
		var x feed.Index[int]
		views := map[int]feed.View{}
		for i := range 30 {
			//lint:ignore SA4000 each call gives another number
			types := notify.TypeSet(rnd.Uint32()) & notify.TypeSet(rnd.Uint32()) & notify.AllTypes
			v := feed.View{Root: notify.FileID(1 + rnd.IntN(2)), Dir: notify.FileID(10 + rnd.IntN(20)), Recursive: rnd.IntN(2) == 0, Types: types}
			if rnd.IntN(5) == 0 {
				v.Dir = v.Root
			}
			views[i] = v
			x.Add(v, i)
		}
		for i, v := range views {
			if rnd.IntN(3) == 0 {
				x.Remove(v, i)
				delete(views, i)
			}
		}
		for range 20 {
			b := randomBatch(rnd)
			at := map[int][]int32{}
			found, ok := x.Find(nil, b, 1<<20)
			if _, small := x.Find(nil, b, len(found)-1); !ok || small {
				t.Fatalf("%d were found: with room for more %v, with room for less %v", len(found), ok, small)
			}
			for _, c := range found {
				if l := at[c.Owner]; len(l) > 0 && l[len(l)-1] >= c.Note {
					t.Fatalf("notification %d comes after %v", c.Note, l)
				}
				at[c.Owner] = append(at[c.Owner], c.Note)
			}
			for i, v := range views {
				want, wantEnd := v.Match(nil, b, 0)
				got, end := v.MatchAt(nil, b, at[i])
				if show(got) != show(want) || end != wantEnd {
					t.Fatalf("%+v sees\n%s\nend %v, through the index\n%s\nend %v", v, show(want), wantEnd, show(got), end)
				}
				seen += len(want)
				delete(at, i)
			}
			if len(at) > 0 {
				t.Fatalf("found for views that were removed: %v", at)
			}
		}
	}
	if seen < 10000 {
		t.Errorf("only %d hits: the test looks at too little", seen)
	}
}

// What a notification costs does not depend on the number of views that it does not concern.
func BenchmarkIndex(b *testing.B) {
	for _, views := range []int{1, 100, 10000} {
		b.Run(fmt.Sprint(views), func(b *testing.B) {
			var x feed.Index[int]
			for i := range views {
				x.Add(feed.View{Root: root, Dir: notify.FileID(1000 + i), Recursive: true, Types: notify.Qumulo}, i)
			}
			batches := make([]*notify.Batch, 64)
			for i := range batches { // each in another directory, each of them watched by at most one
				batches[i] = batch(note(notify.ChildSizeChanged, "a/b/f", root, 2, notify.FileID(1000+i*views/64), 4))
			}
			var out []feed.Concern[int]
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				out, _ = x.Find(out[:0], batches[i%64], 100)
			}
			if len(out) != 1 {
				b.Fatalf("found %v", out)
			}
		})
	}
}

func TestIndexAllocatesNothing(t *testing.T) {
	var x feed.Index[int]
	for i := range 100 {
		x.Add(feed.View{Root: root, Dir: notify.FileID(1000 + i), Recursive: true, Types: notify.Qumulo}, i)
	}
	bt := batch(note(notify.ChildSizeChanged, "a/b/f", root, 2, 1001, 4), note(notify.ChildSizeChanged, "a/c/f", root, 2, 1002, 4))
	out, _ := x.Find(nil, bt, 100)
	if n := testing.AllocsPerRun(100, func() { out, _ = x.Find(out[:0], bt, 100) }); n != 0 || len(out) != 2 {
		t.Errorf("%v allocations for %d concerns", n, len(out))
	}
}
