package watch

import (
	"testing"
	"time"
)

// What is younger than the time is kept, however much is added; what is twice as old is not.
func TestRecentAges(t *testing.T) {
	const long = time.Minute
	now := time.Unix(1e9, 0)
	aged := now
	var c recent[string]
	at := func(d time.Duration) {
		now = now.Add(d)
		c.age(&aged, now, long)
	}
	c.add("first", 10)
	at(long - time.Second)
	c.add("a", 10)
	at(time.Second)
	c.add("b", 10)
	if !c.has("a") || !c.has("b") {
		t.Error("what is younger than a minute is forgotten")
	}
	at(long)
	if c.has("a") || c.has("first") {
		t.Error("what is older than a minute, and has seen two of them end, is kept")
	}
	if !c.has("b") {
		t.Error("what is a minute old is forgotten, though the next one has just begun")
	}
	at(2 * long)
	if c.has("b") {
		t.Error("what is three minutes old is kept")
	}
}
