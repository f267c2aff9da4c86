package qumulo

import "time"

// wheel is one timer for many members. A member is in it at most once; setting, moving and dropping it costs the same
// however many there are. Times are since an arbitrary beginning, and are rounded up to the next tick.
type wheel struct {
	tick  time.Duration
	now   int64 // ticks that have passed
	count int
	slots [256]*member // lists; a member is in that of its tick modulo 256
}

// timer is a member's place in a wheel.
type timer struct {
	at         int64 // tick; 0: not in the wheel
	next, prev *member
}

// set has m come out of the wheel at a time; or sooner, if it was set so before.
func (w *wheel) set(m *member, at time.Duration) {
	tick := max(int64((at+w.tick-1)/w.tick), w.now+1)
	if m.timer.at != 0 && m.timer.at <= tick {
		return
	}
	w.drop(m)
	m.timer.at = tick
	slot := &w.slots[tick%int64(len(w.slots))]
	if m.timer.next = *slot; m.timer.next != nil {
		m.timer.next.timer.prev = m
	}
	*slot = m
	w.count++
}

// drop takes m out of the wheel, if it is in it.
func (w *wheel) drop(m *member) {
	t := &m.timer
	if t.at == 0 {
		return
	}
	if t.prev != nil {
		t.prev.timer.next = t.next
	} else {
		w.slots[t.at%int64(len(w.slots))] = t.next
	}
	if t.next != nil {
		t.next.timer.prev = t.prev
	}
	*t = timer{}
	w.count--
}

// expire appends to due the members whose time has come by now, and takes them out.
func (w *wheel) expire(due []*member, now time.Duration) []*member {
	end := int64(now / w.tick)
	for first := max(w.now+1, end-int64(len(w.slots))+1); first <= end; first++ {
		for m := w.slots[first%int64(len(w.slots))]; m != nil; {
			next := m.timer.next
			if m.timer.at <= end { // else in another round
				w.drop(m)
				due = append(due, m)
			}
			m = next
		}
	}
	w.now = max(w.now, end)
	return due
}

// next is how long it takes from now to the first tick that may have something to do; false: there is nothing in the wheel.
func (w *wheel) next(now time.Duration) (time.Duration, bool) {
	if w.count == 0 {
		return 0, false
	}
	for i := int64(1); i <= int64(len(w.slots)); i++ {
		if w.slots[(w.now+i)%int64(len(w.slots))] != nil {
			return max(time.Duration(w.now+i)*w.tick-now, 0), true
		}
	}
	return 0, false
}
