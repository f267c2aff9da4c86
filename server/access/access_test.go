package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"fs_notify/notify"
)

// rig is an Access with files and a clock of its own.
type rig struct {
	*Access
	t      *testing.T
	tokens string
	users  string
	state  string
	now    time.Time
}

func newRig(t *testing.T, tokens, users string) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{t: t, tokens: filepath.Join(dir, "tokens.yaml"), users: filepath.Join(dir, "htpasswd"), state: filepath.Join(dir, "state"),
		now: time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)}
	r.write(r.tokens, tokens)
	r.write(r.users, users)
	r.restart()
	return r
}

func (r *rig) write(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) restart() {
	r.t.Helper()
	var err error
	if r.Access, err = New(Options{Tokens: r.tokens, Users: r.users, StateDir: r.state, Now: func() time.Time { return r.now }}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) reload(tokens string) {
	r.t.Helper()
	r.write(r.tokens, tokens)
	if err := r.Reload(); err != nil {
		r.t.Fatal(err)
	}
}

// ask authorizes a request with headers "Key: value".
func (r *rig) ask(headers ...string) (*notify.Grant, error) {
	req := httptest.NewRequest("GET", "/v1/files/2/notify", nil)
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		req.Header.Add(k, v)
	}
	req, err := r.Authorize(req)
	if err != nil {
		return nil, err
	}
	return notify.GrantOf(req.Context()), nil
}

// login logs in as Qumulo's clients do, or at the page.
func (r *rig) post(path, body string, headers ...string) *httptest.ResponseRecorder {
	r.t.Helper()
	req := httptest.NewRequest("POST", path, strings.NewReader(body))
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		req.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	if err := r.Open()[path](w, req); err != nil {
		w.Code = map[notify.Kind]int{notify.Invalid: 400, notify.Unauthorized: 401, notify.NotFound: 404, notify.TooMany: 429}[notify.KindOf(err)]
		w.Body.WriteString(notify.Message(err))
	}
	return w
}

func (r *rig) login(user, password string) string {
	r.t.Helper()
	w := r.post("/v1/session/login", fmt.Sprintf(`{"username":%q,"password":%q}`, user, password))
	_, token, ok := strings.Cut(strings.TrimSuffix(strings.TrimSpace(w.Body.String()), `"}`), `{"bearer_token":"`)
	if w.Code != 200 || !ok {
		r.t.Fatalf("login: %d %s", w.Code, w.Body)
	}
	return token
}

func entry(name, secret, rest string) string {
	return fmt.Sprintf("  - name: %s\n    hash: %s\n    %s\n", name, SHA256(secret), rest)
}

const anyRights = "privileges: [notify, notify.recursive, changes]"

func bcryptOf(t *testing.T, password string) string {
	t.Helper()
	b, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEveryHeaderThatClientsUse(t *testing.T) {
	r := newRig(t, "tokens:\n"+entry("ingest", "secret-1", "paths: [/srv/data/in/]\n    privileges: [notify, changes]"), "")
	for _, tt := range []struct {
		headers string
		ok      bool
	}{
		{"Authorization: Bearer secret-1", true},
		{"Authorization: bearer  secret-1", true},
		{"Authorization: OAuth2 secret-1", true},
		{"Authorization: Macaroon secret-1", true},
		{"X-Auth-Token: secret-1", true},
		{"Macaroon: secret-1", true},
		{"Authorization: Basic secret-1", false},
		{"Authorization: secret-1", false},
		{"Authorization: Bearer secret-2", false},
		{"Authorization: Bearer " + SHA256("secret-1"), false},
		{"Authorization: Bearer " + strings.Repeat("x", 10000), false},
		{"Cookie: fs_notify_session=secret-2", false},
		{"X-Auth-Token: wrong\nAuthorization: Bearer secret-1", false},
		{"", false},
	} {
		var headers []string
		if tt.headers != "" {
			headers = strings.Split(tt.headers, "\n")
		}
		g, err := r.ask(headers...)
		switch {
		case tt.ok && (err != nil || g.Name != "ingest" || !slices.Equal(g.Prefixes, []string{"/srv/data/in"}) || g.Privileges != notify.MayNotify|notify.MayChanges):
			t.Errorf("%q: %+v, %v", tt.headers, g, err)
		case !tt.ok && !errors.Is(err, notify.Unauthorized):
			t.Errorf("%q: %+v, %v, want Unauthorized", tt.headers, g, err)
		}
	}
}

// A reload ends the grants of tokens that went or were changed, and nobody else's.
func TestReloadEndsWhatChanged(t *testing.T) {
	begin := "tokens:\n" + entry("stays", "s", anyRights) + entry("goes", "g", anyRights) + entry("changes", "c", anyRights) + entry("narrows", "n", anyRights)
	r := newRig(t, begin, "")
	grants := map[string]*notify.Grant{}
	for _, s := range []string{"s", "g", "c", "n"} {
		g, err := r.ask("X-Auth-Token: " + s)
		if err != nil {
			t.Fatal(err)
		}
		grants[s] = g
	}
	r.reload("# a remark\ntokens:\n" + entry("narrows", "n", "paths: [/srv]\n    "+anyRights) + entry("changes", "c2", anyRights) +
		entry("stays", "s", anyRights+"\n    expires: 2027-01-01T00:00:00Z"))
	for s, over := range map[string]bool{"s": false, "g": true, "c": true, "n": true} {
		if err := context.Cause(grants[s].Lease); (err != nil) != over || over && !errors.Is(err, notify.Unauthorized) {
			t.Errorf("token %s: its grant ended with %v, want that: %v", s, err, over)
		}
	}
	for s, ok := range map[string]bool{"s": true, "g": false, "c": false, "c2": true, "n": true} {
		if _, err := r.ask("X-Auth-Token: " + s); (err == nil) != ok {
			t.Errorf("token %s afterwards: %v", s, err)
		}
	}
	for _, wrong := range []string{"tokens: [", "tokens:\n" + entry("a", "a", "privileges: [root]"), "tokens:\n" + entry("a", "a", "privileges: []"),
		"tokens:\n" + entry("a", "a", "paths: []\n    "+anyRights), "tokens:\n" + entry("a", "a", "paths: [srv]\n    "+anyRights),
		"tokens:\n" + entry("a", "a", "paths: [/srv/../etc]\n    "+anyRights), "tokens:\n" + entry("a", "a", anyRights+"\n    color: red"),
		"tokens:\n" + entry("a", "a", anyRights) + entry("a", "b", anyRights), "tokens:\n  - name: a\n    hash: sha256:12\n    " + anyRights + "\n",
		"tokens:\n  - name: a\n    hash: $argon2id$v=19$m=99999999,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA\n    " + anyRights + "\n"} {
		r.write(r.tokens, wrong)
		if err := r.Reload(); err == nil {
			t.Errorf("taken for a tokens file:\n%s", wrong)
		}
		if _, err := r.ask("X-Auth-Token: s"); err != nil || grants["s"].Lease.Err() != nil {
			t.Fatalf("after a wrong file the old one does not count: %v", err)
		}
	}
}

func TestExpiry(t *testing.T) {
	r := newRig(t, "tokens:\n"+entry("a", "a", anyRights+"\n    expires: 2026-01-31T09:00:00Z"), "")
	g, err := r.ask("X-Auth-Token: a")
	if err != nil {
		t.Fatal(err)
	}
	r.now = r.now.Add(time.Hour)
	if _, err := r.ask("X-Auth-Token: a"); !errors.Is(err, notify.Unauthorized) {
		t.Errorf("expired: %v", err)
	}
	r.expire()
	if err := context.Cause(g.Lease); !errors.Is(err, errExpired) {
		t.Errorf("its streams end with %v", err)
	}
	r.reload("tokens:\n" + entry("a", "a", anyRights+"\n    expires: 2026-01-31T10:00:00Z"))
	if g, err := r.ask("X-Auth-Token: a"); err != nil || g.Lease.Err() != nil {
		t.Errorf("prolonged: %v", err)
	}
}

// A file that is just being written is not read in the middle of it.
func TestFileThatIsBeingWritten(t *testing.T) {
	r := newRig(t, "tokens:\n"+entry("a", "a", anyRights)+entry("b", "b", anyRights), "")
	g, err := r.ask("X-Auth-Token: b")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		go r.Run(ctx) // it looks each second
		write := func(after time.Duration, text string) {
			time.Sleep(after)
			r.write(r.tokens, text)
			if err := os.Chtimes(r.tokens, time.Time{}, time.Now()); err != nil {
				t.Error(err)
			}
		}
		write(1900*time.Millisecond, "tokens:\n"+entry("a", "a", anyRights)) // so far
		write(300*time.Millisecond, "tokens:\n"+entry("a", "a", anyRights)+entry("b", "b", anyRights)+entry("c", "c", anyRights))
		time.Sleep(time.Second)
		cancel()
		synctest.Wait()
	})
	if _, err := r.ask("X-Auth-Token: c"); err != nil {
		t.Errorf("the file was not read again: %v", err)
	}
	if g.Lease.Err() != nil {
		t.Error("a token was taken back that was still to be written")
	}
}

// A clock that was ahead for a moment ends what was open then, and nothing for good.
func TestClockThatWasAhead(t *testing.T) {
	r := newRig(t, "tokens:\n"+entry("a", "a", anyRights+"\n    expires: 2026-01-31T09:00:00Z"), "")
	r.now = r.now.Add(time.Hour)
	r.expire()
	r.now = r.now.Add(-time.Hour)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go r.Run(ctx)
		time.Sleep(5 * time.Second)
		cancel()
		synctest.Wait()
	})
	if g, err := r.ask("X-Auth-Token: a"); err != nil || g.Lease.Err() != nil {
		t.Errorf("a token that has not expired: %v", err)
	}
}

func TestSlowHash(t *testing.T) {
	r := newRig(t, "tokens:\n"+entry("fast", "f", anyRights)+"  - name: slow\n    hash: "+Argon2id("own words")+"\n    "+anyRights+"\n", "")
	for range 2 { // checked, then known
		if g, err := r.ask("Authorization: Bearer own words"); err != nil || g.Name != "slow" {
			t.Fatalf("%+v, %v", g, err)
		}
	}
	refused := 0
	for range 25 {
		if _, err := r.ask("Authorization: Bearer guess"); errors.Is(err, notify.TooMany) {
			refused++
		}
	}
	if refused != 5 {
		t.Errorf("of 25 guesses at a slow hash, %d were not even looked at, want 5", refused)
	}
	if g, err := r.ask("Authorization: Bearer f"); err != nil || g.Name != "fast" {
		t.Errorf("who has a token is kept out by those who guess: %v", err)
	}
}

// Those who ask at the same time wait for each other: guesses are counted all the same, and who shows a token that another has just shown has it not checked again.
func TestSlowHashAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := "  - name: slow\n    hash: " + Argon2id("own words") + "\n    " + anyRights + "\n"
		at := func(r *rig, secret func(i int) string) (kinds map[error]int) {
			var mu sync.Mutex
			kinds = map[error]int{}
			for range cap(r.slow) { // as long as it takes for all to come
				r.slow <- struct{}{}
			}
			for i := range 100 {
				go func() {
					_, err := r.ask("Authorization: Bearer " + secret(i))
					mu.Lock()
					defer mu.Unlock()
					if err != nil {
						err = notify.KindOf(err)
					}
					kinds[err]++
				}()
			}
			synctest.Wait()
			for range cap(r.slow) {
				<-r.slow
			}
			synctest.Wait()
			return kinds
		}
		r := newRig(t, "tokens:\n"+slow, "")
		if got := at(r, func(i int) string { return fmt.Sprint("guess ", i) }); got[notify.Unauthorized] < 20 || got[notify.Unauthorized] >= 20+cap(r.slow) ||
			got[notify.Unauthorized]+got[notify.TooMany] != 100 {
			t.Errorf("100 guesses at once: %v, want 20 looked at, or one more for each that is looked at beside another", got)
		}
		r = newRig(t, "tokens:\n"+slow, "")
		checks := func(f func()) uint64 { // each takes that much memory
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			f()
			runtime.ReadMemStats(&after)
			return (after.TotalAlloc - before.TotalAlloc) / (argonMemory << 10)
		}
		right := func(int) string { return "own words" }
		if n := checks(func() {
			if got := at(r, right); got[nil] != 100 {
				t.Errorf("the right token 100 times at once: %v", got)
			}
		}); n < 1 || n > uint64(cap(r.slow)) {
			t.Errorf("it was checked %d times, want once, or as often as goes at the same time", n)
		}
		r.reload("# a remark\ntokens:\n" + entry("new", "n", anyRights) + slow)
		if n := checks(func() {
			if _, err := r.ask("Authorization: Bearer own words"); err != nil {
				t.Error(err)
			}
		}); n > 0 {
			t.Errorf("after a reload that left it alone it was checked %d times more", n)
		}
		r.reload("tokens:\n" + strings.Replace(slow, "[notify,", "[admin,", 1))
		if g, err := r.ask("Authorization: Bearer own words"); err != nil || !g.Privileges.Has(notify.MayAdmin) {
			t.Errorf("after a reload that changed it: %+v, %v", g, err)
		}
		r.reload("tokens: []")
		if _, err := r.ask("Authorization: Bearer own words"); !errors.Is(err, notify.Unauthorized) {
			t.Errorf("after it was taken back: %v", err)
		}
	})
}

// A wrong token at a login counts once, whatever hashes there are.
func TestWrongTokensCountOnce(t *testing.T) {
	for _, hash := range []string{SHA256("right"), Argon2id("right")} {
		r := newRig(t, "tokens:\n  - name: a\n    hash: "+hash+"\n    "+anyRights+"\n", "")
		codes := map[int]int{}
		for range 25 {
			codes[r.post("/login", `{"token":"wrong"}`).Code]++
		}
		if codes[401] != 20 || codes[429] != 5 {
			t.Errorf("%.8s: 25 guesses: %v, want 20 looked at", hash, codes)
		}
	}
}

// The file may be read while tokens are shown; those that stay as they were count all the time.
func TestReloadUnderLoad(t *testing.T) {
	of := func(hour int) string {
		return "tokens:\n" + entry("fast", "f", fmt.Sprintf("%s\n    expires: 2027-01-31T%02d:00:00Z", anyRights, hour))
	}
	r := newRig(t, of(0), "")
	done := make(chan bool)
	go func() {
		defer close(done)
		for i := range 50 {
			r.write(r.tokens+".new", of(i%24))
			if err := errors.Join(os.Rename(r.tokens+".new", r.tokens), r.Reload()); err != nil {
				t.Error(err)
			}
		}
	}()
	for {
		if _, err := r.ask("X-Auth-Token: f"); err != nil {
			t.Error(err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

func TestSessions(t *testing.T) {
	users := "# people\njoe:" + bcryptOf(t, "joe's") + "\nann:" + Argon2id("ann's") + "\n"
	r := newRig(t, "users:\n  - name: ann\n    paths: [/srv/data/ann]\n    privileges: [notify, admin]\n", users)
	joe, ann := r.login("joe", "joe's"), r.login("ann", "ann's")
	first, err := r.ask("Authorization: Bearer " + joe)
	if err != nil || first.Name != "joe" || first.Prefixes != nil || first.Privileges != notify.MayNotify|notify.MayRecurse|notify.MayChanges {
		t.Errorf("joe may %+v, %v", first, err)
	}
	if g, err := r.ask("Cookie: fs_notify_session=" + ann); err != nil || !slices.Equal(g.Prefixes, []string{"/srv/data/ann"}) || g.Privileges != notify.MayNotify|notify.MayAdmin {
		t.Errorf("ann may %+v, %v", g, err)
	}
	// Whoever forges one.
	payload, mac, _ := strings.Cut(strings.TrimPrefix(ann, sessionPrefix), ".")
	joes, _, _ := strings.Cut(strings.TrimPrefix(joe, sessionPrefix), ".")
	for _, forged := range []string{sessionPrefix + joes + "." + mac, sessionPrefix + payload + ".", sessionPrefix + payload, sessionPrefix + "." + mac,
		payload + "." + mac, ann + "A", sessionPrefix + payload + "." + strings.ToUpper(mac), sessionPrefix} {
		for _, header := range []string{"Authorization: Bearer ", "Cookie: fs_notify_session=", "Cookie: __Host-fs_notify_session="} {
			if g, err := r.ask(header + forged); !errors.Is(err, notify.Unauthorized) {
				t.Errorf("%s%s: %+v, %v", header, forged, g, err)
			}
		}
	}
	// A restart logs nobody out, but those who logged out stay so.
	other := r.login("joe", "joe's")
	if w := r.post("/v1/session/logout", "", "Authorization: Bearer "+joe); w.Code != 204 {
		t.Errorf("logout: %d", w.Code)
	}
	if err := context.Cause(first.Lease); !errors.Is(err, errLogout) {
		t.Errorf("streams of who logs out end with %v", err)
	}
	r.restart()
	for token, ok := range map[string]bool{joe: false, other: true, ann: true} {
		if _, err := r.ask("Authorization: Bearer " + token); (err == nil) != ok {
			t.Errorf("after a restart: %v", err)
		}
	}
	// Another password, or other rights, end the sessions of that user.
	g, _ := r.ask("Authorization: Bearer " + other)
	a, _ := r.ask("Authorization: Bearer " + ann)
	r.write(r.users, strings.Replace(users, "joe:", "joe:"+bcryptOf(t, "new")+"\nold:", 1))
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ask("Authorization: Bearer " + other); err == nil || g.Lease.Err() == nil {
		t.Errorf("after another password: %v, lease %v", err, g.Lease.Err())
	}
	if _, err := r.ask("Authorization: Bearer " + ann); err != nil || a.Lease.Err() != nil {
		t.Errorf("ann: %v", err)
	}
	r.now = r.now.Add(SessionLife)
	r.expire()
	if _, err := r.ask("Authorization: Bearer " + ann); err == nil || a.Lease.Err() == nil {
		t.Errorf("after ten hours: %v, lease %v", err, a.Lease.Err())
	}
	if st, err := os.Stat(filepath.Join(r.state, keyFile)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v", st, err)
	}
}

// Whoever logs out learns whether the session was one of this server: if not, it goes on elsewhere.
func TestLogoutOfWhatIsNoSession(t *testing.T) {
	const users = "joe:"
	hash := bcryptOf(t, "joe's")
	r := newRig(t, "tokens:\n"+entry("a", "secret", anyRights), users+hash+"\n")
	other := newRig(t, "", users+hash+"\n")
	elsewhere, over, here := other.login("joe", "joe's"), r.login("joe", "joe's"), r.login("joe", "joe's")
	r.now = r.now.Add(SessionLife)
	still := r.login("joe", "joe's")
	for _, tt := range []struct {
		what, path, header string
		want               int
	}{
		{"a session of another server", "/v1/session/logout", "Authorization: Bearer " + elsewhere, 401},
		{"a session of another server, at the page", "/logout", "Authorization: Bearer " + elsewhere, 401},
		{"a token", "/v1/session/logout", "X-Auth-Token: secret", 401},
		{"a token that is none", "/v1/session/logout", "Authorization: Bearer x", 401},
		{"nothing", "/v1/session/logout", "Accept: */*", 401},
		{"a cookie of another server", "/v1/session/logout", "Cookie: fs_notify_session=" + elsewhere, 401},
		{"a cookie of another server, at the page", "/logout", "Cookie: fs_notify_session=" + elsewhere, 204},
		{"nothing, at the page", "/logout", "Accept: */*", 204},
		{"a session that has expired", "/v1/session/logout", "Authorization: Bearer " + over, 204},
		{"one in a cookie, at the page", "/logout", "Cookie: fs_notify_session=" + here, 204},
		{"a session", "/v1/session/logout", "Authorization: Bearer " + still, 204},
		{"the same again", "/v1/session/logout", "Authorization: Bearer " + still, 204},
	} {
		w := r.post(tt.path, "", tt.header)
		if cookies := w.Result().Cookies(); w.Code != tt.want || (len(cookies) == 1 && cookies[0].Value == "") != (tt.want == 204) {
			t.Errorf("%s: %d %s, cookies %v, want %d", tt.what, w.Code, w.Body, cookies, tt.want)
		}
	}
	if _, err := other.ask("Authorization: Bearer " + elsewhere); err != nil {
		t.Errorf("the other server's: %v", err)
	}
}

// A disk that hangs keeps those waiting who log out, and nobody else. When it goes on, one more write is enough for all of them.
func TestLogoutOnADiskThatHangs(t *testing.T) {
	r := newRig(t, "tokens:\n"+entry("a", "secret", anyRights), "joe:"+bcryptOf(t, "joe's")+"\n")
	var writes atomic.Int32
	hangs, goesOn := make(chan bool, 20), make(chan bool)
	r.signer.replace = func(name string, text []byte) error {
		writes.Add(1)
		hangs <- true
		<-goesOn
		return replaceFile(name, text)
	}
	var sessions []string
	var leases []context.Context
	for range 10 {
		s := r.login("joe", "joe's")
		g, err := r.ask("Authorization: Bearer " + s)
		if err != nil {
			t.Fatal(err)
		}
		sessions, leases = append(sessions, s), append(leases, g.Lease)
	}
	fresh := r.login("joe", "joe's") // not shown so far
	var leaving sync.WaitGroup
	leave := func(session string) {
		leaving.Go(func() {
			if w := r.post("/v1/session/logout", "", "Authorization: Bearer "+session); w.Code != 204 {
				t.Errorf("logout: %d %s", w.Code, w.Body)
			}
		})
	}
	leave(sessions[0])
	<-hangs
	others := make(chan error)
	go func() {
		_, a := r.ask("X-Auth-Token: secret")
		_, b := r.ask("Authorization: Bearer " + sessions[1])
		_, c := r.ask("Authorization: Bearer " + fresh)
		r.expire()
		others <- errors.Join(a, b, c)
	}()
	select {
	case err := <-others:
		if err != nil {
			t.Errorf("the others: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the others wait too")
	}
	for _, s := range sessions[1:] {
		leave(s)
	}
	for i, l := range leases {
		<-l.Done()
		if _, err := r.ask("Authorization: Bearer " + sessions[i]); !errors.Is(err, notify.Unauthorized) {
			t.Errorf("after the logout: %v", err)
		}
	}
	close(goesOn)
	leaving.Wait()
	if n := writes.Load(); n != 2 {
		t.Errorf("%d sessions were ended with %d writes, want 2", len(sessions), n)
	}
	r.restart()
	for _, s := range sessions {
		if _, err := r.ask("Authorization: Bearer " + s); err == nil {
			t.Error("after a restart one of them goes on")
		}
	}
}

// Whoever logs in again and again fills neither the memory nor the disk with sessions: after a thousand there is one each five seconds, for each user.
func TestSessionsAreBounded(t *testing.T) {
	r := newRig(t, "tokens:\n"+entry("a", "secret", anyRights), "joe:"+bcryptOf(t, "joe's")+"\n")
	codes := map[int]int{}
	for range 1010 {
		codes[r.post("/login", `{"token":"secret"}`).Code]++
	}
	if codes[200] != 1000 || codes[429] != 10 {
		t.Errorf("1,010 logins: %v, want 1,000 sessions", codes)
	}
	r.login("joe", "joe's")
	if _, err := r.ask("X-Auth-Token: secret"); err != nil {
		t.Errorf("the token itself: %v", err)
	}
	r.now = r.now.Add(5 * time.Second)
	for _, want := range []int{200, 429} {
		if w := r.post("/login", `{"token":"secret"}`); w.Code != want {
			t.Errorf("five seconds later: %d %s, want %d", w.Code, w.Body, want)
		}
	}
}

func TestLoginIsSlowedDown(t *testing.T) {
	r := newRig(t, "", "joe:"+bcryptOf(t, "joe's")+"\n")
	codes := map[int]int{}
	for i := range 10000 {
		w := r.post("/v1/session/login", fmt.Sprintf(`{"username":"joe","password":"guess %d"}`, i))
		codes[w.Code]++
	}
	if codes[401] != 10 || codes[429] != 9990 {
		t.Errorf("10,000 guesses: %v, want 10 looked at", codes)
	}
	if w := r.post("/v1/session/login", `{"username":"joe","password":"joe's"}`); w.Code != 429 {
		t.Errorf("the right password right after: %d", w.Code)
	}
	r.now = r.now.Add(time.Minute)
	r.login("joe", "joe's")
	for _, u := range []string{"nobody", "root"} {
		known, unknown := r.post("/v1/session/login", `{"username":"joe","password":"x"}`), r.post("/v1/session/login", fmt.Sprintf(`{"username":%q,"password":"x"}`, u))
		if known.Code != unknown.Code || known.Body.String() != unknown.Body.String() {
			t.Errorf("a user that there is not is told apart: %s, %s", known.Body, unknown.Body)
		}
	}
	for _, body := range []string{"", "{", `[]`, `{"username":5}`} {
		if w := r.post("/v1/session/login", body); w.Code != 400 {
			t.Errorf("%q: %d", body, w.Code)
		}
	}
}

// curl -d calls whatever it sends a form: what begins with a brace is JSON nonetheless, and one that is broken is not a wrong password.
func TestLoginByCurl(t *testing.T) {
	r := newRig(t, "", "joe:"+bcryptOf(t, "joe's")+"\n")
	const curl = "Content-Type: application/x-www-form-urlencoded"
	for _, path := range []string{"/v1/session/login", "/login"} {
		for body, want := range map[string]int{`{"username":"joe","password":"joe's"}`: 200, " \n" + `{"username":"joe","password":"joe's"}`: 200,
			`{"username":"joe","password":"x"}`: 401, `{"username":"joe","password":"joe's"`: 400, `{"username":"joe"} joe's`: 400, "username=%zz": 400,
			`{"username":"` + strings.Repeat("x", maxForm) + `"}`: 400} {
			w := r.post(path, body, curl)
			if w.Code != want || want == 400 && (!strings.Contains(w.Body.String(), "the body should be") || strings.Contains(w.Body.String(), "joe's")) {
				t.Errorf("%s with %.40q: %d %s, want %d", path, body, w.Code, w.Body, want)
			}
		}
	}
	if w := r.post("/v1/session/login", "username=joe&password=joe%27s", curl); w.Code != 200 {
		t.Errorf("a form: %d %s", w.Code, w.Body)
	}
}

func TestPageLogin(t *testing.T) {
	r := newRig(t, "tokens:\n"+entry("ingest", "secret", "paths: [/srv]\n    privileges: [notify]"), "joe:"+bcryptOf(t, "joe's")+"\n")
	door := func(headers ...string) string {
		req := httptest.NewRequest("GET", "/login", nil)
		for _, h := range headers {
			k, v, _ := strings.Cut(h, ": ")
			req.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		if err := r.Open()["/login"](w, req); err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(w.Body.String())
	}
	if got, want := door(), `{"required":true,"token":true,"password":true,"who":null}`; got != want {
		t.Errorf("GET /login says %s, want %s", got, want)
	}
	w := r.post("/login", `{"token":"secret"}`)
	cookies := w.Result().Cookies()
	if w.Code != 200 || len(cookies) != 1 || cookies[0].Name != cookieName || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteStrictMode ||
		cookies[0].Path != "/" || cookies[0].Secure || strings.Contains(cookies[0].Value, "secret") {
		t.Fatalf("login with a token: %d %s %v", w.Code, w.Body, cookies)
	}
	cookie := "Cookie: " + cookies[0].Name + "=" + cookies[0].Value
	if got, want := door(cookie), `{"required":false,"token":true,"password":true,"who":{"name":"ingest","privileges":["notify"],"paths":["/srv"]}}`; got != want {
		t.Errorf("GET /login says %s, want %s", got, want)
	}
	g, err := r.ask(cookie)
	if err != nil || g.Name != "ingest" || !slices.Equal(g.Prefixes, []string{"/srv"}) {
		t.Errorf("%+v, %v", g, err)
	}
	r.reload("tokens: []")
	if _, err := r.ask(cookie); err == nil || g.Lease.Err() == nil {
		t.Errorf("the token was revoked, its cookie lives: %v", err)
	}
	w = r.post("/login", "username=joe&password=joe%27s", "Content-Type: application/x-www-form-urlencoded", "X-Forwarded-Proto: https")
	cookies = w.Result().Cookies()
	if w.Code != 303 || w.Header().Get("Location") != "/" || len(cookies) != 1 || cookies[0].Name != secureCookieName || !cookies[0].Secure {
		t.Fatalf("a form: %d %v", w.Code, cookies)
	}
	w = r.post("/logout", "", "Cookie: "+cookies[0].Name+"="+cookies[0].Value)
	if gone := w.Result().Cookies(); w.Code != 204 || len(gone) != 1 || gone[0].Value != "" {
		t.Errorf("logout: %d %v", w.Code, gone)
	}
	if _, err := r.ask("Cookie: " + cookies[0].Name + "=" + cookies[0].Value); err == nil {
		t.Error("after logout the cookie still counts")
	}
	for _, body := range []string{`{"token":"wrong"}`, `{"token":"` + cookies[0].Value + `"}`, `{"username":"joe"}`} {
		if w := r.post("/login", body); w.Code != 401 || len(w.Result().Cookies()) > 0 {
			t.Errorf("%s: %d", body, w.Code)
		}
	}
}

// Cookies know no ports: a browser sends those of one server to another on the same host.
func TestTwoServersOnOneHost(t *testing.T) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	var urls []string
	for _, name := range []string{"one", "two"} {
		r := newRig(t, "tokens:\n"+entry(name, "secret", anyRights), "")
		r.now = time.Now() // the jar knows no other clock
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if err := r.Open()[req.URL.Path](w, req); err != nil {
				t.Error(err)
			}
		}))
		t.Cleanup(s.Close)
		urls = append(urls, s.URL)
	}
	do := func(method, url, body string) string {
		t.Helper()
		req, err := http.NewRequest(method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := browser.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, url := range urls {
		do("POST", url+"/login", `{"token":"secret"}`)
	}
	for i, name := range []string{"one", "two"} {
		if got := do("GET", urls[i]+"/login", ""); !strings.Contains(got, `"who":{"name":"`+name+`"`) {
			t.Errorf("logged in at both servers, server %s says %s", name, got)
		}
	}
	do("POST", urls[0]+"/logout", "")
	for i, in := range []bool{false, true} {
		if got := do("GET", urls[i]+"/login", ""); strings.Contains(got, `"required":false`) != in {
			t.Errorf("logged out at the first, server %d says %s", i, got)
		}
	}
}

func TestCookieNames(t *testing.T) {
	r := newRig(t, "tokens:\n"+entry("ingest", "secret", anyRights), "")
	for _, tt := range []struct{ host, proto, want string }{
		{"files.example", "", "fs_notify_session"},
		{"files.example:8000", "", "fs_notify_session_8000"},
		{"[::1]:8000", "", "fs_notify_session_8000"},
		{"[::1]", "", "fs_notify_session"},
		{"files.example:", "", "fs_notify_session"},
		{"files.example:8=1; a", "", "fs_notify_session"},
		{"files.example", "https", "__Host-fs_notify_session"},
		{"files.example:8443", "https", "__Host-fs_notify_session_8443"},
	} {
		req := httptest.NewRequest("POST", "/login", strings.NewReader(`{"token":"secret"}`))
		req.Host = tt.host
		req.Header.Set("X-Forwarded-Proto", tt.proto)
		w := httptest.NewRecorder()
		if err := r.Open()["/login"](w, req); err != nil {
			t.Fatal(err)
		}
		cookies := w.Result().Cookies()
		if len(cookies) != 1 || cookies[0].Name != tt.want {
			t.Errorf("%s %s: %v, want the cookie %s", tt.proto, tt.host, cookies, tt.want)
			continue
		}
		again := httptest.NewRequest("GET", "/v1/files/2/notify", nil)
		again.Host = tt.host
		again.AddCookie(cookies[0])
		if _, err := r.Authorize(again); err != nil {
			t.Errorf("%s %s: with its cookie: %v", tt.proto, tt.host, err)
		}
	}
}

func TestFileIsKeptAsItIs(t *testing.T) {
	name := filepath.Join(t.TempDir(), "tokens.yaml")
	text := "# who may\ntokens:\n  - name: old # since 2025\n    hash: " + SHA256("x") + "\n    privileges: [notify]\n"
	if err := os.WriteFile(name, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	f, err := ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := f.Create(Token{Name: "new", Paths: []string{"/srv/a"}, Privileges: []string{"notify", "admin"}, Expires: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}, false)
	if err != nil || !strings.HasPrefix(secret, tokenPrefix) || len(secret) < 40 {
		t.Fatalf("%q, %v", secret, err)
	}
	if _, err := f.Create(Token{Name: "new", Privileges: []string{"notify"}}, false); !errors.Is(err, ErrExists) {
		t.Errorf("the same name again: %v", err)
	}
	if err := f.Write(name); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(name)
	for _, want := range []string{"# who may", "# since 2025", "name: new", "/srv/a", "2027-01-01T00:00:00Z"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the file has no %q:\n%s", want, b)
		}
	}
	if strings.Contains(string(b), secret) {
		t.Error("the file has the secret itself")
	}
	if st, _ := os.Stat(name); st.Mode().Perm() != 0o640 {
		t.Errorf("the mode became %v", st.Mode())
	}
	f, err = ReadFile(name)
	if err != nil || len(f.Tokens) != 2 || f.Tokens[1].Hash != SHA256(secret) || !f.Tokens[0].Expires.IsZero() {
		t.Fatalf("read again: %+v, %v", f, err)
	}
	if err := f.Revoke("old"); err != nil || !errors.Is(f.Revoke("old"), ErrUnknown) || len(f.Tokens) != 1 {
		t.Errorf("revoked: %v, %+v", err, f.Tokens)
	}
}

// What is mistyped means neither everything nor for ever: it is refused, with what would be right.
func TestFileIsReadStrictly(t *testing.T) {
	read := func(text string) (*File, error) {
		name := filepath.Join(t.TempDir(), "tokens.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return ReadFile(name)
	}
	token := func(rest string) string { return "tokens:\n" + entry("a", "a", anyRights+"\n    "+rest) }
	user := func(rest string) string { return "users:\n  - name: joe\n    " + rest + "\n" }
	const noTime, noValue = `write it as 2027-01-31T08:00:00Z, or as 2027-01-31, or leave it out`, ` has no value: give it one, or leave it out`
	for text, says := range map[string]string{
		token("expires: 2020-01-01T00:00:00"):           `token "a" expires at "2020-01-01T00:00:00", which is no time: ` + noTime,
		token("expires: 2020-01-01T00:00:00+0100"):      noTime,
		token("expires: 2020-01-01 00:00:00"):           noTime,
		token("expires: 90d"):                           noTime,
		token("expires: tomorrow"):                      noTime,
		token("expires: 2027"):                          noTime,
		token("expires: ''"):                            noTime,
		token("expires: 0001-01-01"):                    noTime,
		token("expires:"):                               "[5:5] expires" + noValue,
		token("expires: ~ # never"):                     "expires" + noValue,
		token("paths:"):                                 "[5:5] paths" + noValue,
		token("paths: null"):                            "paths" + noValue,
		token("paths: !!null ''"):                       "paths" + noValue,
		token("paths: &none ~"):                         "paths" + noValue,
		token("paths: []"):                              "the list of its paths is empty",
		token("paths: [~]"):                             "should be absolute",
		user(anyRights + "\n    paths:"):                "[4:5] paths" + noValue,
		user("privileges:"):                             "[3:5] privileges" + noValue,
		user("privileges: []"):                          "it has no privileges",
		"tokens: []\n---\n" + user(anyRights):           "more than one document",
		"tokens: []\n---\n":                             "more than one document",
		"tokens: []\n...\n%YAML 1.2\n---\ntokens: []\n": "more than one document",
		"~": "mapping",
	} {
		if f, err := read(text); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s\nis %+v, %v, want an error with %q", text, f, err, says)
		}
	}
	for text, want := range map[string]time.Time{
		"2027-01-31T08:00:00Z":        time.Date(2027, 1, 31, 8, 0, 0, 0, time.UTC),
		"2027-01-31T08:00:00.5+01:00": time.Date(2027, 1, 31, 7, 0, 0, 5e8, time.UTC),
		`"2027-01-31T08:00:00Z" # c`:  time.Date(2027, 1, 31, 8, 0, 0, 0, time.UTC),
		"2027-01-31":                  time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC),
	} {
		if f, err := read(token("expires: " + text)); err != nil || !f.Tokens[0].Expires.Equal(want) {
			t.Errorf("expires: %s is %+v, %v", text, f, err)
		}
	}
	for _, text := range []string{"", "# nothing\n", "tokens:\n", "users: ~\ntokens: # none yet\n", "---\ntokens: []\n", "# who may\n---\ntokens: []\n...\n", "%YAML 1.2\n---\ntokens: []\n"} {
		if f, err := read(text); err != nil || len(f.Tokens)+len(f.Users) > 0 {
			t.Errorf("%q is %+v, %v", text, f, err)
		}
	}
}

// A name is what is written there, also where YAML sees a number in it: the file of passwords has it so.
func TestNamesAreTakenAsWritten(t *testing.T) {
	names := []string{"0123456", "007", "0x10", "1_000", "1.10", "1e3", "+5", "0o17", ".inf", "true", "No", "2026-01-31"}
	var users, passwords strings.Builder
	users.WriteString("users:\n")
	hash := bcryptOf(t, "secret")
	for _, n := range names {
		fmt.Fprintf(&users, "  - name: %s\n    paths: [/srv/%[1]s]\n    privileges: [notify]\n", n)
		fmt.Fprintf(&passwords, "%s:%s\n", n, hash)
	}
	r := newRig(t, users.String(), passwords.String())
	for range 2 {
		for _, n := range names {
			g, err := r.ask("Authorization: Bearer " + r.login(n, "secret"))
			if err != nil || !slices.Equal(g.Prefixes, []string{"/srv/" + n}) || g.Privileges != notify.MayNotify {
				t.Errorf("%s may %+v, %v", n, g, err)
			}
		}
		f, err := ReadFile(r.tokens) // and they stay so when the file is written again
		if err == nil {
			err = f.Write(r.tokens)
		}
		if err = errors.Join(err, r.Reload()); err != nil {
			t.Fatal(err)
		}
	}
	r.reload("tokens:\n" + entry("0123456", "a", anyRights))
	if g, err := r.ask("X-Auth-Token: a"); err != nil || g.Name != "0123456" {
		t.Errorf("the token is %+v, %v", g, err)
	}
}

// A token goes with the comments on it, and those on others stay with the others, and what is said at the end of the list with the list.
func TestRevokeTakesItsComments(t *testing.T) {
	of := func(name string) string {
		return fmt.Sprintf("  # above %s\n  - name: %[1]s # beside %[1]s\n    hash: %[2]s\n    # rights of %[1]s\n    privileges:\n      - notify # little, %[1]s\n", name, SHA256(name))
	}
	const head, end, users = "# who may\ntokens:\n", "  # that is all\n", "# people\nusers:\n  - name: joe # the boss\n    privileges:\n      - notify\n"
	for _, revoked := range []string{"a", "b", "c", "ab", "ca", "cba"} {
		name := filepath.Join(t.TempDir(), "tokens.yaml")
		if err := os.WriteFile(name, []byte(head+of("a")+of("b")+of("c")+"    # below c\n"+end+users), 0o600); err != nil {
			t.Fatal(err)
		}
		want := head
		for _, token := range []string{"a", "b", "c"} {
			if !strings.Contains(revoked, token) {
				want += of(token)
			}
		}
		if !strings.Contains(revoked, "c") {
			want += "    # below c\n"
		}
		if want == head {
			want = "# who may\ntokens: []\n# that is all\n"
		} else {
			want += end
		}
		for _, token := range strings.Split(revoked, "") {
			f, err := ReadFile(name)
			if err == nil {
				err = f.Revoke(token)
			}
			if err == nil {
				err = f.Write(name)
			}
			if err != nil {
				t.Fatalf("revoked %s of %s: %v", token, revoked, err)
			}
		}
		if b, _ := os.ReadFile(name); string(b) != want+users {
			t.Errorf("revoked %s: got\n%s\nwant\n%s", revoked, b, want+users)
		}
	}

	for text, want := range map[string]string{
		"tokens: # all of them\n" + of("a"):               "# all of them\ntokens: []\n",
		"tokens:\n" + of("a") + "  # in it\n# the end\n":  "tokens: []\n# in it\n# the end\n",
		"tokens:\n" + of("a") + "# people\nusers: []\n#!": "tokens: []\n# people\nusers: []\n#!\n",
		"tokens:\n" + of("a") + "# people\nusers:\n#!":    "tokens: []\n# people\nusers: []\n#!\n",
		"# a\n---\n# b\ntokens:\n" + of("a"):              "# a\n# b\ntokens: []\n",
	} {
		name := filepath.Join(t.TempDir(), "tokens.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := ReadFile(name)
		if err == nil {
			err = errors.Join(f.Revoke("a"), f.Write(name))
		}
		if err == nil {
			f, err = ReadFile(name)
		}
		if b, _ := os.ReadFile(name); err != nil || len(f.Tokens) != 0 || string(b) != want {
			t.Errorf("without its only token the file is\n%s\nwant\n%s\n%v", b, want, err)
		}
	}
}

// A file that is only a comment so far keeps it.
func TestCreateInAFileOfComments(t *testing.T) {
	for _, text := range []string{"# who may\n# and what\n", "# who may\n# and what", "\n# who may\n---\n# and what\n", "# who may\n# and what\ntokens:\n"} {
		name := filepath.Join(t.TempDir(), "tokens.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := ReadFile(name)
		if err == nil {
			_, err = f.Create(Token{Name: "new", Privileges: []string{"notify"}}, false)
		}
		if err == nil {
			err = f.Write(name)
		}
		if b, _ := os.ReadFile(name); err != nil || !strings.HasPrefix(string(b), "# who may\n# and what\ntokens:\n  - name: new\n") {
			t.Errorf("%q became\n%s\n%v", text, b, err)
		}
		if _, err := ReadFile(name); err != nil {
			t.Error(err)
		}
	}
}

func TestLimiter(t *testing.T) {
	l := Limiter{Every: time.Second, Burst: 3}
	now := time.Unix(1000, 0)
	for i, want := range []bool{true, true, true, false, false} {
		if wait, ok := l.Take("a", now); ok != want || !ok && wait != time.Second {
			t.Errorf("number %d: %v, wait %v", i, ok, wait)
		}
	}
	if _, ok := l.Take("b", now); !ok {
		t.Error("another key is held up too")
	}
	now = now.Add(time.Second)
	if _, ok := l.Peek("a", now); !ok {
		t.Error("a second later there is not one more")
	}
	if _, ok := l.Take("a", now); !ok {
		t.Error("looking counted")
	}
	if _, ok := l.Take("a", now); ok {
		t.Error("a second later there are two more")
	}
	now = now.Add(time.Hour)
	l.Take("c", now)
	if len(l.full) != 1 {
		t.Errorf("%d keys are kept that nobody used for an hour", len(l.full)-1)
	}
	for i := range maxKeys + 10 {
		l.Take(fmt.Sprint(i), now)
	}
	if len(l.full) > maxKeys+1 {
		t.Errorf("%d keys", len(l.full))
	}
}

func TestNetwork(t *testing.T) {
	for addr, want := range map[string]string{"192.0.2.7": "192.0.2.7", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "::1": "::1", "fe80::1%eth0": "fe80::", "x": "x"} {
		if got := Network(addr); got != want {
			t.Errorf("Network(%s) = %s, want %s", addr, got, want)
		}
	}
}

// Whichever way somebody logs in, the log says who in the same words.
func TestLoginsInTheLog(t *testing.T) {
	r := newRig(t, "tokens:\n"+entry("ingest", "secret", anyRights), "joe:"+bcryptOf(t, "joe's")+"\n")
	var log bytes.Buffer
	r.Log = slog.New(slog.NewTextHandler(&log, nil))
	for _, tt := range []struct{ path, body, subject string }{
		{"/v1/session/login", `{"username":"joe","password":"joe's"}`, "user:joe"},
		{"/login", `{"username":"joe","password":"joe's"}`, "user:joe"},
		{"/login", `{"token":"secret"}`, "token:ingest"},
	} {
		log.Reset()
		if w := r.post(tt.path, tt.body); w.Code != 200 || !strings.Contains(log.String(), `msg="logged in" subject=`+tt.subject+" client=") {
			t.Errorf("POST %s %s: %d, logged is %q", tt.path, tt.body, w.Code, &log)
		}
	}
}
