package access

import (
	"sync"
	"time"
)

// Limiter lets each of many keys do something so often: a burst at once, then one each so much time. Keys that have
// been quiet cost nothing. The zero value lets nothing through; any goroutine may use it.
type Limiter struct {
	Every time.Duration // one more
	Burst int           // as many at once

	mu    sync.Mutex
	full  map[string]time.Time // when a key will have its whole burst again
	swept time.Time
}

// maxKeys bounds the memory for keys that somebody makes up: beyond it they share one.
const maxKeys = 1 << 16

// Take counts one, if that is let through, or says how long to wait.
func (l *Limiter) Take(key string, now time.Time) (wait time.Duration, ok bool) {
	return l.take(key, now, true)
}

// Peek says whether one would be let through.
func (l *Limiter) Peek(key string, now time.Time) (wait time.Duration, ok bool) {
	return l.take(key, now, false)
}

func (l *Limiter) take(key string, now time.Time, count bool) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	span := l.Every * time.Duration(l.Burst)
	if now.Sub(l.swept) > span {
		for k, full := range l.full {
			if !full.After(now) {
				delete(l.full, k)
			}
		}
		l.swept = now
	}
	if l.full == nil {
		l.full = map[string]time.Time{}
	}
	if _, known := l.full[key]; !known && len(l.full) >= maxKeys {
		key = ""
	}
	full := l.full[key]
	if full.Before(now) {
		full = now
	}
	full = full.Add(l.Every)
	if wait := full.Sub(now) - span; wait > 0 || l.Burst <= 0 {
		return wait, false
	}
	if count {
		l.full[key] = full
	}
	return 0, true
}
