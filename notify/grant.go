package notify

import (
	"context"
	"strings"
)

// Privileges is a set of things that a client may do.
type Privileges uint8

// The privileges, by the names that a tokens file gives them.
const (
	MayNotify  Privileges = 1 << iota // "notify": watch one directory, look entries up
	MayRecurse                        // "notify.recursive": watch all below a directory
	MayChanges                        // "changes": the change APIs of the other protocols
	MayAdmin                          // "admin": who did it, /debug, names in /readyz
	MayAll     = MayNotify | MayRecurse | MayChanges | MayAdmin
)

// Has says whether all of want are in the set.
func (p Privileges) Has(want Privileges) bool { return p&want == want }

// Grant is who asks, and what it may do and see. Nobody alters one once it is in a context.
type Grant struct {
	Name string // of the token or the user; for the log
	// Prefixes are the absolute paths, as they are served, at or below which everything may be seen:
	// raw bytes, without slash at the end. nil: all. Empty, not nil: nothing.
	Prefixes   []string
	Privileges Privileges
	// Lease ends, with the cause, when the grant does: the token was revoked or has expired. Streams end with it. nil: never.
	Lease context.Context
}

// Nobody may do and see nothing.
var Nobody = &Grant{Prefixes: []string{}}

// Everything is the grant of who needs none: a process of its own, or anyone on this machine where there are no tokens.
var Everything = &Grant{Privileges: MayAll}

// Sees says whether the entry with an absolute served path may be seen.
func (g *Grant) Sees(path string) bool {
	if g.Prefixes == nil {
		return true
	}
	for _, p := range g.Prefixes {
		if Within(path, p) {
			return true
		}
	}
	return false
}

// Touches says whether something at or below path may be seen: true for a prefix's own ancestors, of
// which nothing but the way down may be told.
func (g *Grant) Touches(path string) bool {
	if g.Sees(path) {
		return true
	}
	for _, p := range g.Prefixes {
		if Within(p, path) {
			return true
		}
	}
	return false
}

// Within says whether path is dir or lies below it.
func Within(path, dir string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(dir, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

type grantKey struct{}

// WithGrant puts a grant into the context of a request.
func WithGrant(ctx context.Context, g *Grant) context.Context {
	return context.WithValue(ctx, grantKey{}, g)
}

// GrantOf gives the grant of a request; [Everything] where nobody put one in.
func GrantOf(ctx context.Context) *Grant {
	if g, ok := ctx.Value(grantKey{}).(*Grant); ok {
		return g
	}
	return Everything
}
