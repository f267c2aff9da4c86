package huddle

import (
	"os/user"
	"testing"
)

// A directory service takes its time to answer for one user: who asks for another one does not wait for that.
func TestASlowLookupHoldsNobodyElseUp(t *testing.T) {
	a := newAccounts()
	a.lookup = func(uid string) (*user.User, error) {
		if !a.mu.TryLock() {
			t.Errorf("all wait until user %s is found", uid)
		} else {
			a.mu.Unlock()
		}
		return &user.User{Username: "u" + uid}, nil
	}
	for range 2 {
		if got := a.find(7); got.Name != "u7" || got.Email != "u7@"+a.host {
			t.Errorf("user 7 is %+v", got)
		}
		a.lookup = func(uid string) (*user.User, error) {
			t.Errorf("user %s is not remembered", uid)
			return nil, user.UnknownUserIdError(7)
		}
	}
}
