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
	host  string
	mu    sync.Mutex
	known map[uint32]User
	since time.Time
}

func newAccounts() *accounts {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return &accounts{host: host}
}

// find gives the user with a number; one without an account is called by it.
func (a *accounts) find(uid uint32) User {
	a.mu.Lock()
	defer a.mu.Unlock()
	if u, ok := a.known[uid]; ok && time.Since(a.since) < accountAge {
		return u
	}
	if len(a.known) >= maxKnown || time.Since(a.since) >= accountAge {
		a.known, a.since = map[uint32]User{}, time.Now()
	}
	number := strconv.FormatUint(uint64(uid), 10)
	out := User{Name: "user " + number}
	if u, err := user.LookupId(number); err == nil {
		out = User{Name: cmp.Or(u.Name, u.Username), Email: u.Username + "@" + a.host}
	}
	a.known[uid] = out
	return out
}
