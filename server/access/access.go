package access

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"fs_notify/notify"
)

// SessionLife is how long a session lasts.
const SessionLife = 10 * time.Hour

// Options of an Access. At least one of the two files is needed.
type Options struct {
	Tokens   string // YAML file, as File has it; "": none
	Users    string // htpasswd file with bcrypt or argon2id hashes; "": nobody has a password
	StateDir string // keeps the key of sessions; "": a restart ends them
	Log      *slog.Logger
	Now      func() time.Time // time.Now
}

// FileError is what is wrong with one of the files.
type FileError struct {
	Which string // "tokens" or "users"
	Err   error
}

func (e *FileError) Error() string { return e.Which + ": " + e.Err.Error() }
func (e *FileError) Unwrap() error { return e.Err }

// Access lets those pass who have a token or a session. Make it with New; any goroutine may use it.
type Access struct {
	Options
	failures Limiter       // wrong passwords and tokens, by address
	guesses  Limiter       // wrong passwords, by user
	logins   Limiter       // sessions, by subject
	slow     chan struct{} // room for checks that take memory and time

	mu       sync.RWMutex
	bySum    map[[sha256.Size]byte]*token // by the SHA-256 of the secret: those that have it as their hash, and those that were checked
	tokens   map[string]*token            // by name
	argon    []*token                     // those that have to be checked slowly
	users    map[string]*user
	sessions map[string]*session // those that were presented, by ID
	signer   *signer
	stamps   [2]stamp // of the files, as they were read
}

// token is an entry of the tokens file that is in force. It does not change.
type token struct {
	Token
	print string
	grant *notify.Grant
	end   context.CancelCauseFunc
	again bool // it had expired by a clock that was ahead
}

// user is who may log in with a password.
type user struct {
	hash  string
	print string
	grant *notify.Grant // without Lease
}

// stamp tells one state of a file from another.
type stamp struct {
	size int64
	time time.Time
	id   os.FileInfo
}

func stampOf(name string) (s stamp) {
	if name == "" {
		return s
	}
	if st, err := os.Stat(name); err == nil {
		s = stamp{st.Size(), st.ModTime(), st}
	}
	return s
}

func (s stamp) same(o stamp) bool {
	return s.size == o.size && s.time.Equal(o.time) && (s.id == nil) == (o.id == nil) && (s.id == nil || os.SameFile(s.id, o.id))
}

// settling is how long ago a file has to have been written to be read again: who writes it may not have done so to the end.
const settling = 200 * time.Millisecond

func (s stamp) settled() bool {
	age := time.Since(s.time)
	return s.id == nil || age < 0 || age >= settling
}

// What ends a grant, as its streams are told.
var (
	errRevoked = ended("the token was revoked or changed")
	errExpired = ended("the token has expired")
	errLogout  = ended("the session was ended")
)

func ended(msg string) error { return &notify.Error{Op: "access", Kind: notify.Unauthorized, Msg: msg} }

// New reads the files.
func New(o Options) (*Access, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	a := &Access{Options: o, slow: make(chan struct{}, 2), sessions: map[string]*session{},
		failures: Limiter{Every: 2 * time.Second, Burst: 20}, guesses: Limiter{Every: 6 * time.Second, Burst: 10},
		logins: Limiter{Every: 5 * time.Second, Burst: 1000}}
	var err error
	if a.signer, err = newSigner(o.StateDir, o.Log); err != nil {
		return nil, err
	}
	return a, a.Reload()
}

// Reload reads the files again. Tokens and users that stay as they were, and their streams, do not notice. If a file cannot be read, all
// stays as it was, and the error is a *FileError.
func (a *Access) Reload() error {
	stamps := [2]stamp{stampOf(a.Options.Tokens), stampOf(a.Options.Users)}
	file, hashes := &File{}, map[string]string{}
	var err error
	if a.Options.Tokens != "" {
		if file, err = ReadFile(a.Options.Tokens); err != nil {
			err = &FileError{"tokens", err}
		}
	}
	if err == nil && a.Options.Users != "" {
		if hashes, err = readUsers(a.Options.Users); err != nil {
			err = &FileError{"users", err}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stamps = stamps // a file that is wrong is looked at again when it changes
	if err != nil {
		return err
	}
	old, checked := a.tokens, a.bySum
	a.tokens, a.argon, a.bySum = map[string]*token{}, nil, map[[sha256.Size]byte]*token{}
	for _, t := range file.Tokens {
		print := fingerprint(append(append([]string{t.Name, t.Hash, "paths"}, t.Paths...), append([]string{"privileges"}, t.Privileges...)...)...)
		n := &token{Token: t, print: print}
		if o := old[t.Name]; o != nil && o.print == print && o.grant.Lease.Err() == nil {
			n.grant, n.end = o.grant, o.end
			delete(old, t.Name)
		} else {
			n.grant, _ = grantOf(t.Name, t.Paths, t.Privileges) // was checked
			n.grant.Lease, n.end = context.WithCancelCause(context.Background())
		}
		a.tokens[t.Name] = n
		if sum, ok := sumOf(t.Hash); ok {
			a.bySum[sum] = n
		} else {
			a.argon = append(a.argon, n)
		}
	}
	for _, t := range old {
		t.end(errRevoked)
	}
	for sum, o := range checked {
		if n := a.tokens[o.Name]; a.bySum[sum] == nil && n != nil && n.grant == o.grant {
			a.bySum[sum] = n
		}
	}
	a.users = map[string]*user{}
	for name, hash := range hashes {
		rights := User{Name: name, Privileges: []string{"notify", "notify.recursive", "changes"}}
		for _, u := range file.Users {
			if u.Name == name {
				rights = u
			}
		}
		g, _ := grantOf(name, rights.Paths, rights.Privileges)
		a.users[name] = &user{hash: hash, grant: g,
			print: fingerprint(append(append([]string{name, hash, "paths"}, rights.Paths...), append([]string{"privileges"}, rights.Privileges...)...)...)}
	}
	for id, s := range a.sessions {
		if _, print, ok := a.subject(s.Subject); !ok || print != s.Print {
			s.end(errRevoked)
			delete(a.sessions, id)
		}
	}
	return nil
}

func sumOf(hash string) (sum [sha256.Size]byte, ok bool) {
	h, ok := strings.CutPrefix(hash, sha256Prefix)
	if ok {
		hex.Decode(sum[:], []byte(h)) // its form was checked
	}
	return sum, ok
}

// Run follows the files and the clock until ctx ends.
func (a *Access) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		a.mu.RLock()
		stamps := a.stamps
		a.mu.RUnlock()
		tokens, users := stampOf(a.Options.Tokens), stampOf(a.Options.Users)
		if (!stamps[0].same(tokens) || !stamps[1].same(users)) && tokens.settled() && users.settled() {
			if err := a.Reload(); err != nil {
				a.Log.Error("tokens and users stay as they were: their file cannot be used", "err", err)
			} else {
				a.Log.Info("tokens and users were read again")
			}
		}
		a.expire()
	}
}

// expire ends what has expired.
func (a *Access) expire() {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.Now()
	for _, t := range a.tokens {
		switch over := t.expired(now); {
		case over && t.grant.Lease.Err() == nil:
			t.end(errExpired)
		case !over && !t.again && context.Cause(t.grant.Lease) == errExpired: // the clock was ahead: it is read again, as a new one
			t.again = true
			a.stamps = [2]stamp{}
		}
	}
	for id, s := range a.sessions {
		if s.Expires <= now.Unix() {
			s.end(errExpired)
		}
		if s.grant.Lease.Err() != nil {
			delete(a.sessions, id)
		}
	}
}

func (t *token) expired(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

// subject finds whom a session is of. a.mu is held.
func (a *Access) subject(s string) (g *notify.Grant, print string, ok bool) {
	kind, name, _ := strings.Cut(s, ":")
	switch kind {
	case "token":
		if t := a.tokens[name]; t != nil && !t.expired(a.Now()) {
			return t.grant, t.print, true
		}
	case "user":
		if u := a.users[name]; u != nil {
			return u.grant, u.print, true
		}
	}
	return nil, "", false
}

// Cookies are named so, and then by the port. Over TLS browsers hold one with the prefix __Host- to this host and to TLS.
const (
	cookieName       = "fs_notify_session"
	secureCookieName = "__Host-fs_notify_session"
)

// withPort adds to a cookie's name the port that the request is for, if that is said: cookies know none, and servers on several ports of one
// host would take each other's for their own.
func withPort(name string, r *http.Request) string {
	_, port, _ := net.SplitHostPort(r.Host)
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		name += "_" + strconv.FormatUint(n, 10)
	}
	return name
}

// credential is what a request shows. Headers go before cookies.
func credential(r *http.Request) (secret string, cookie bool) {
	if v := r.Header.Get("X-Auth-Token"); v != "" {
		return strings.TrimSpace(v), false
	}
	if scheme, rest, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok {
		switch strings.ToLower(scheme) {
		case "bearer", "oauth2", "macaroon", "token":
			return strings.TrimSpace(rest), false
		}
	}
	if v := r.Header.Get("Macaroon"); v != "" {
		return strings.TrimSpace(v), false
	}
	for _, name := range []string{secureCookieName, cookieName} {
		if c, err := r.Cookie(withPort(name, r)); err == nil && c.Value != "" {
			return c.Value, true
		}
	}
	return "", false
}

// maxSecret is how long a token or a password may be.
const maxSecret = 4096

// Authorize puts the grant of who asks into the request's context.
func (a *Access) Authorize(r *http.Request) (*http.Request, error) {
	secret, _ := credential(r)
	if secret == "" {
		msg := "who are you? Show a token, as Authorization: Bearer TOKEN"
		if r.Header.Get("Authorization") != "" {
			msg = "this way to show who you are is not known here: use Authorization: Bearer TOKEN"
		}
		return nil, &notify.Error{Op: "access.Authorize", Kind: notify.Unauthorized, Msg: msg}
	}
	g, err := a.grant(secret, r)
	if err != nil {
		return nil, err
	}
	return r.WithContext(notify.WithGrant(r.Context(), g)), nil
}

var errUnknown = &notify.Error{Op: "access.Authorize", Kind: notify.Unauthorized, Msg: "the token is not known, or not any more"}

// grant gives what a token or a session may do.
func (a *Access) grant(secret string, r *http.Request) (*notify.Grant, error) {
	if len(secret) > maxSecret {
		return nil, errUnknown
	}
	if strings.HasPrefix(secret, sessionPrefix) {
		return a.sessionGrant(secret)
	}
	t, err := a.token(secret, r, false)
	if err != nil {
		return nil, err
	}
	if t.expired(a.Now()) {
		return nil, errExpired
	}
	return t.grant, nil
}

// token finds the token with a secret. Those with a slow hash are checked one after the other, once; what does not exist, only so often
// for each address. At a login every wrong one counts, and not only one that took such a check.
func (a *Access) token(secret string, r *http.Request, login bool) (*token, error) {
	sum := sha256.Sum256([]byte(secret))
	a.mu.RLock()
	t, slow := a.bySum[sum], a.argon
	a.mu.RUnlock()
	if t != nil {
		return t, nil
	}
	if len(slow) == 0 {
		if login {
			a.failed(r, "")
		}
		return nil, errUnknown
	}
	if err := a.mayTry(r, ""); err != nil {
		return nil, err
	}
	if err := a.enter(r.Context()); err != nil {
		return nil, err
	}
	defer a.leave()
	a.mu.RLock()
	t, slow = a.bySum[sum], a.argon // others may have found it meanwhile
	a.mu.RUnlock()
	if t != nil {
		return t, nil
	}
	if err := a.mayTry(r, ""); err != nil { // or have failed
		return nil, err
	}
	for _, t := range slow {
		if matches(t.Hash, secret) {
			a.mu.Lock()
			defer a.mu.Unlock()
			now := a.tokens[t.Name] // the file may have been read again meanwhile
			if now == nil || now.print != t.print {
				return nil, errUnknown
			}
			a.bySum[sum] = now
			return now, nil
		}
	}
	a.failed(r, "")
	return nil, errUnknown
}

func (a *Access) sessionGrant(secret string) (*notify.Grant, error) {
	a.mu.RLock()
	c, ok := a.signer.read(secret)
	s := a.sessions[c.ID]
	a.mu.RUnlock()
	if !ok {
		return nil, errUnknown
	}
	if s != nil && s.grant.Lease.Err() == nil && c.Expires > a.Now().Unix() {
		return s.grant, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.Expires <= a.Now().Unix() {
		return nil, errExpired
	}
	g, print, ok := a.subject(c.Subject)
	if _, over := a.signer.revoked[c.ID]; over || !ok || print != c.Print {
		return nil, errUnknown
	}
	if s := a.sessions[c.ID]; s != nil && s.grant.Lease.Err() == nil {
		return s.grant, nil
	}
	return a.begin(c, g).grant, nil
}

// begin makes a session of a claim. a.mu is held.
func (a *Access) begin(c claim, g *notify.Grant) *session {
	own := *g
	parent := context.Background()
	if g.Lease != nil {
		parent = g.Lease
	}
	s := &session{claim: c, grant: &own}
	own.Lease, s.end = context.WithCancelCause(parent)
	a.sessions[c.ID] = s
	return s
}

// mayTry says whether one more guess is allowed from an address, and for a user.
func (a *Access) mayTry(r *http.Request, user string) error {
	now := a.Now()
	wait, ok := a.failures.Peek(address(r), now)
	if ok && user != "" {
		wait, ok = a.guesses.Peek(user, now)
	}
	if ok {
		return nil
	}
	return &notify.Error{Op: "access", Kind: notify.TooMany, Retry: wait, Msg: "too many wrong tokens or passwords, try again later"}
}

// failed counts a wrong guess.
func (a *Access) failed(r *http.Request, user string) {
	now := a.Now()
	a.failures.Take(address(r), now)
	if user != "" {
		a.guesses.Take(user, now)
	}
}

// enter waits for room to check a slow hash.
func (a *Access) enter(ctx context.Context) error {
	select {
	case a.slow <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (a *Access) leave() { <-a.slow }

// address is whom limits count: of IPv6 the network, since anyone has all of it.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return Network(host)
}

// Network gives the part of an IP address that limits count: all of IPv4, the first 64 bits of IPv6.
func Network(host string) string {
	host, _, _ = strings.Cut(host, "%")
	ip := net.ParseIP(host)
	if ip == nil || ip.To4() != nil || ip.IsLoopback() {
		return host
	}
	return ip.Mask(net.CIDRMask(64, 128)).String()
}

// login checks a password.
func (a *Access) login(r *http.Request, name, password string) (claim, error) {
	wrong := &notify.Error{Op: "access.login", Kind: notify.Unauthorized, Msg: "the user or the password is wrong"}
	if len(name) > maxSecret || len(password) > maxSecret || name == "" || password == "" {
		return claim{}, wrong
	}
	if err := a.mayTry(r, name); err != nil {
		return claim{}, err
	}
	a.mu.RLock()
	u := a.users[name]
	hash := ""
	if u != nil {
		hash = u.hash
	} else {
		for _, other := range a.users { // to take as long
			hash = other.hash
			break
		}
	}
	a.mu.RUnlock()
	if hash == "" {
		return claim{}, &notify.Error{Op: "access.login", Kind: notify.NotFound, Msg: "nobody has a password here: use a token"}
	}
	if err := a.enter(r.Context()); err != nil {
		return claim{}, err
	}
	defer a.leave()
	if err := a.mayTry(r, name); err != nil { // others may have failed meanwhile
		return claim{}, err
	}
	if ok := matches(hash, password); !ok || u == nil {
		a.failed(r, name)
		return claim{}, wrong
	}
	return a.claim("user:"+name, u.print, time.Time{})
}

// claim makes the claim of a new session. That each subject has only so many bounds what is kept of them until they expire.
func (a *Access) claim(subject, print string, limit time.Time) (claim, error) {
	if wait, ok := a.logins.Take(subject, a.Now()); !ok {
		return claim{}, &notify.Error{Op: "access", Kind: notify.TooMany, Retry: wait,
			Msg: "this user or token has logged in too often: keep the session that a login gives, and use it again"}
	}
	end := a.Now().Add(SessionLife)
	if !limit.IsZero() && limit.Before(end) {
		end = limit
	}
	return claim{ID: newSecret()[:22], Subject: subject, Print: print, Expires: end.Unix()}, nil
}

// tokenClaim makes a session of who has a token: for browsers.
func (a *Access) tokenClaim(secret string, r *http.Request) (claim, error) {
	if err := a.mayTry(r, ""); err != nil {
		return claim{}, err
	}
	if len(secret) > maxSecret || strings.HasPrefix(secret, sessionPrefix) {
		return claim{}, errUnknown
	}
	t, err := a.token(secret, r, true)
	if err == nil && t.expired(a.Now()) {
		err = errExpired
	}
	if err != nil {
		return claim{}, err
	}
	return a.claim("token:"+t.Name, t.print, t.Expires)
}

// logout ends the session that a request shows, and says whether it shows one of ours, which may have ended before. It alone waits until
// the disk has that.
func (a *Access) logout(r *http.Request) (ours bool) {
	secret, _ := credential(r)
	c, ok := a.signer.read(secret)
	if !ok || !strings.HasPrefix(secret, sessionPrefix) {
		return false
	}
	if c.Expires <= a.Now().Unix() {
		return true
	}
	a.mu.Lock()
	if s := a.sessions[c.ID]; s != nil {
		s.end(errLogout)
		delete(a.sessions, c.ID)
	}
	n := a.signer.revoke(c, a.Now())
	a.mu.Unlock()
	if err := a.signer.save(n, a.mu.RLocker()); err != nil {
		a.Log.Error("the end of a session cannot be kept: after a restart it would go on", "err", err)
	}
	return true
}
