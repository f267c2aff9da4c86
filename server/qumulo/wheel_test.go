package qumulo

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Whatever is done to a wheel: each member comes out once, not before its time and at most a tick after the wheel was asked.
func TestWheel(t *testing.T) {
	const tick = 10 * time.Millisecond
	rnd := rand.New(rand.NewPCG(9, 10))
	w := wheel{tick: tick}
	members := make([]*member, 50)
	for i := range members {
		members[i] = &member{slot: uint32(i)}
	}
	want := map[*member]time.Duration{}
	var now time.Duration
	var due []*member
	for range 100000 {
		m := members[rnd.IntN(len(members))]
		switch rnd.IntN(4) {
		case 0, 1:
			at := now + time.Duration(rnd.Int64N(int64(tick)<<rnd.IntN(12))) // up to 40 s: many rounds
			if old, ok := want[m]; !ok || at < old {
				want[m] = at
			}
			w.set(m, at)
		case 2:
			delete(want, m)
			w.drop(m)
		default:
			if wait, ok := w.next(now); ok != (len(want) > 0) {
				t.Fatalf("next: %v, with %d members in the wheel", ok, len(want))
			} else if ok && rnd.IntN(2) == 0 {
				for _, at := range want {
					if at+tick < now+wait { // rounded up
						t.Fatalf("at %v next says %v, a member is due at %v", now, wait, at)
					}
				}
				now += wait
			} else {
				now += time.Duration(rnd.Int64N(int64(tick) << rnd.IntN(12)))
			}
			due = w.expire(due[:0], now)
			for _, m := range due {
				if at, ok := want[m]; !ok || at > now {
					t.Fatalf("at %v a member came out that is due at %v (%v)", now, at, ok)
				}
				delete(want, m)
			}
			for m, at := range want {
				if at+tick <= now && m.timer.at*int64(tick) <= int64(now) {
					t.Fatalf("at %v a member due at %v is still in", now, at)
				}
			}
			if w.count != len(want) {
				t.Fatalf("the wheel counts %d members, there are %d", w.count, len(want))
			}
		}
	}
}

func TestWheelAllocatesNothing(t *testing.T) {
	w := wheel{tick: time.Millisecond}
	m, due := &member{}, make([]*member, 0, 1)
	var now time.Duration
	if n := testing.AllocsPerRun(1000, func() {
		w.set(m, now+3*time.Millisecond)
		now += 5 * time.Millisecond
		due = w.expire(due[:0], now)
	}); n != 0 || len(due) != 1 {
		t.Errorf("%v allocations, %d due", n, len(due))
	}
}
