package watch

import (
	"math"
	"testing"
	"time"

	"fs_notify/notify"
)

// A time is told as it is, and what cannot be expressed as the nearest full second that can: it never wraps round to the other side of 1970.
func TestTimesOutOfReach(t *testing.T) {
	for _, tt := range []struct {
		sec, nsec int64
		want      string
	}{
		{0, 0, "1970-01-01T00:00:00Z"},
		{-1, 999_999_999, "1969-12-31T23:59:59.999999999Z"},
		{978307200, 7, "2001-01-01T00:00:00.000000007Z"},
		{9223372035, 999_999_999, "2262-04-11T23:47:15.999999999Z"},
		{9223372036, 854_775_808, "2262-04-11T23:47:16Z"}, // the first that does not fit
		{10413792000, 0, "2262-04-11T23:47:16Z"},          // 2300
		{math.MaxInt64, 999_999_999, "2262-04-11T23:47:16Z"},
		{-9223372036, 5, "1677-09-21T00:12:44.000000005Z"},
		{-9223372037, 145_224_191, "1677-09-21T00:12:44Z"}, // the last that does not fit
		{-11644473600, 0, "1677-09-21T00:12:44Z"},          // 1601
		{math.MinInt64, 0, "1677-09-21T00:12:44Z"},
	} {
		got := nanos(tt.sec, tt.nsec)
		if s := time.Unix(0, got).UTC().Format(time.RFC3339Nano); s != tt.want {
			t.Errorf("nanos(%d, %d) = %s, want %s", tt.sec, tt.nsec, s, tt.want)
		}
		if got == math.MaxInt64 || got == math.MinInt64 {
			t.Errorf("nanos(%d, %d) is an end of an int64, which means another thing", tt.sec, tt.nsec)
		}
	}
}

// The same of the times that Windows keeps, and Samba with it: the years 1601 to 30828.
func TestTimesOfWindows(t *testing.T) {
	for _, tt := range []struct {
		nt   int64
		want string
	}{
		{0, "1970-01-01T00:00:00Z"}, // none
		{1, "1677-09-21T00:12:44Z"},
		{-1, "1677-09-21T00:12:44Z"}, // no time at all
		{116444736000000000 - 1, "1969-12-31T23:59:59.9999999Z"},
		{116444736000000000 + 9_783_072_000_000_001, "2001-01-01T00:00:00.0000001Z"},
		{116444736000000000 + 92_233_720_368_547_759, "2262-04-11T23:47:16Z"},
		{math.MaxInt64, "2262-04-11T23:47:16Z"}, // never
	} {
		if s := time.Unix(0, nanosNT(tt.nt)).UTC().Format(time.RFC3339Nano); s != tt.want {
			t.Errorf("nanosNT(%d) = %s, want %s", tt.nt, s, tt.want)
		}
	}
}

// What has an inexpressible change time may change without showing it, as all such times are the same: it is not taken for untouched.
func TestChangeTimeOutOfReachProvesNothing(t *testing.T) {
	m := &mount{}
	for _, sec := range []int64{10413792000, -11644473600} {
		a := notify.Attr{Ctime: nanos(sec, 123_456_789)}
		if g := m.grain(&a); g != wholeSecond {
			t.Errorf("at %d s it may change unseen for %v, want %v", sec, g, wholeSecond)
		}
	}
}
