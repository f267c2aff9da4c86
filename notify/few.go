package notify

import "time"

const (
	fewFirst = 10          // lines of a burst that are all said
	fewQuiet = time.Minute // ends a burst
)

// Few bounds the lines of one kind in a log: it lets the first ten of a burst through, and from then on one each time that their
// number has doubled. A burst ends with a minute without any. The zero value serves; one goroutine at a time uses it.
type Few struct {
	n    int
	last time.Time
}

// Lets says whether a line of now is to be said, and the how many-th of its burst it is.
func (f *Few) Lets(now time.Time) (so bool, n int) {
	if now.Sub(f.last) > fewQuiet {
		f.n = 0
	}
	f.n, f.last = f.n+1, now
	tens := f.n / fewFirst
	return f.n <= fewFirst || f.n%fewFirst == 0 && tens&(tens-1) == 0, f.n
}
