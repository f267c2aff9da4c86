package watch

import (
	"math"
	"time"
)

// farTime is how many seconds from 1970 the times that can be expressed go, either way: to 1677 and to 2262.
const farTime = math.MaxInt64 / int64(time.Second)

// nanos gives a time as nanoseconds since 1970: of one that is out of reach, the nearest whole second that is not. That is neither end of an int64, which means
// something else where change times are compared, and it is taken for the time of a clock that does not show every change (grain), as it is the same for all of them.
func nanos(sec, nsec int64) int64 {
	switch {
	case sec >= farTime:
		return farTime * int64(time.Second)
	case sec < -farTime:
		return -farTime * int64(time.Second)
	}
	return sec*int64(time.Second) + nsec
}

// knownNanos is nanos of a time of which 0 says that it is not known: of 1970 itself it gives the nanosecond behind.
func knownNanos(sec, nsec int64) int64 {
	if sec|nsec == 0 {
		return 1
	}
	return nanos(sec, nsec)
}

// nanosNT is nanos of a time as Windows counts it, in steps of 100 ns since 1601. 0 is none there, and here.
func nanosNT(nt int64) int64 {
	const (
		second = int64(time.Second / 100)
		epoch  = 11644473600 // seconds from 1601 to 1970
	)
	if nt == 0 {
		return 0
	}
	return nanos(nt/second-epoch, nt%second*100)
}
