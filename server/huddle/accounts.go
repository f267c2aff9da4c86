package huddle

import (
	"cmp"
	"os"
	"os/user"
	"strconv"
	"sync"
	"time"
)

// User is what is told of somebody.
type User struct {
	Name  string // for people
	Email string // "": none
}

// How long, and how many, accounts are remembered.
const (
	accountAge = 5 * time.Minute
	maxKnown   = 4096
)

// accounts are those of this machine. Any goroutine may ask.
type accounts struct {
	host   string
	lookup func(uid string) (*user.User, error)
	mu     sync.Mutex
	known  map[uint32]User
	since  time.Time
}

func newAccounts() *accounts {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return &accounts{host: host, lookup: user.LookupId}
}

// find gives the user with a number; one without an account is called by it.
func (a *accounts) find(uid uint32) User {
	a.mu.Lock()
	if len(a.known) >= maxKnown || time.Since(a.since) >= accountAge {
		a.known, a.since = map[uint32]User{}, time.Now()
	}
	out, ok := a.known[uid]
	a.mu.Unlock()
	if ok {
		return out
	}
	number := strconv.FormatUint(uint64(uid), 10)
	out = User{Name: "user " + number}
	if u, err := a.lookup(number); err == nil { // it may take long: nobody waits for somebody else's
		out = User{Name: cmp.Or(u.Name, u.Username), Email: u.Username + "@" + a.host}
	}
	a.mu.Lock()
	a.known[uid] = out
	a.mu.Unlock()
	return out
}
