package watch

import "time"

// recent are the newest thousands of something.
type recent[K comparable] [2]map[K]struct{} // new ones, older ones

// How many new ones there may be, and as many older ones.
const (
	maxCloses = 1 << 14
	maxYoung  = 4096
)

func (c *recent[K]) add(k K, most int) {
	if c[0] == nil || len(c[0]) >= most {
		c[0], c[1] = make(map[K]struct{}), c[0]
	}
	c[0][k] = struct{}{}
}

func (c *recent[K]) has(k K) bool {
	_, newer := c[0][k]
	_, older := c[1][k]
	return newer || older
}

func (c *recent[K]) drop(k K) {
	delete(c[0], k)
	delete(c[1], k)
}

// age forgets what was added long before now: once or twice as long ago as is said. aged is when it did so last.
func (c *recent[K]) age(aged *time.Time, now time.Time, long time.Duration) {
	since := now.Sub(*aged)
	switch {
	case since < long:
		return
	case since < 2*long:
		c[0], c[1] = make(map[K]struct{}), c[0]
	default:
		c[0], c[1] = nil, nil
	}
	*aged = now
}

// take says whether k is one of them, and forgets it.
func (c *recent[K]) take(k K) bool {
	had := c.has(k)
	c.drop(k)
	return had
}
