package access

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"fs_notify/notify"
)

// Handler answers a request, or returns an error if it has not begun to.
type Handler = func(w http.ResponseWriter, r *http.Request) error

// Open are the routes that are for everybody, by path: to log in and out, and to learn whether that is needed.
func (a *Access) Open() map[string]Handler {
	return map[string]Handler{
		"/v1/session/login":  a.serveLogin,
		"/v1/session/logout": func(w http.ResponseWriter, r *http.Request) error { return a.serveLogout(w, r, false) },
		"/login":             a.servePageLogin,
		"/logout":            func(w http.ResponseWriter, r *http.Request) error { return a.serveLogout(w, r, true) },
	}
}

// Routes are those for whoever may ask at all.
func (a *Access) Routes() map[string]Handler {
	return map[string]Handler{"/v1/session/who-am-i": WhoAmI}
}

// identity is who asks, for clients to show.
type identity struct {
	Name       string   `json:"name"`
	Privileges []string `json:"privileges"`
	Paths      []string `json:"paths"` // null: all
}

func identityOf(g *notify.Grant) identity {
	i := identity{Name: g.Name, Privileges: names(g.Privileges)}
	for _, p := range g.Prefixes {
		i.Paths = append(i.Paths, strings.ToValidUTF8(p, "\ufffd"))
	}
	return i
}

// WhoAmI answers GET /v1/session/who-am-i, whatever lets one in.
func WhoAmI(w http.ResponseWriter, r *http.Request) error {
	if !only(w, r, http.MethodGet, http.MethodHead) {
		return nil
	}
	return writeJSON(w, r, http.StatusOK, identityOf(notify.GrantOf(r.Context())))
}

// serveLogin answers POST /v1/session/login as Qumulo does: {username, password} gives {bearer_token}.
func (a *Access) serveLogin(w http.ResponseWriter, r *http.Request) error {
	if !only(w, r, http.MethodPost) {
		return nil
	}
	in, err := readForm(w, r)
	if err != nil {
		return err
	}
	c, err := a.login(r, in.Username, in.Password)
	if err != nil {
		return a.refuse(r, in.Username, err)
	}
	a.Log.Info("logged in", "subject", c.Subject, "client", r.RemoteAddr)
	return writeJSON(w, r, http.StatusOK, map[string]string{"bearer_token": a.signer.token(c)})
}

// refuse logs that somebody was not let in.
func (a *Access) refuse(r *http.Request, user string, err error) error {
	if kind := notify.KindOf(err); kind == notify.Unauthorized || kind == notify.TooMany {
		a.Log.Warn("not logged in", "user", notify.EscapeName(clip(user)), "client", r.RemoteAddr, "err", notify.Message(err))
	}
	return err
}

func clip(s string) string { return s[:min(len(s), 64)] }

// servePageLogin is for browsers. GET says whether one has to log in, and how, and who one is; POST with a user's name and password, or with a
// token, sets the cookie of a new session.
func (a *Access) servePageLogin(w http.ResponseWriter, r *http.Request) error {
	if !only(w, r, http.MethodGet, http.MethodHead, http.MethodPost) {
		return nil
	}
	if r.Method != http.MethodPost {
		a.mu.RLock()
		out := Door{Token: len(a.tokens) > 0, Password: len(a.users) > 0, Required: true}
		a.mu.RUnlock()
		if r, err := a.Authorize(r); err == nil {
			who := identityOf(notify.GrantOf(r.Context()))
			out.Who, out.Required = &who, false
		}
		return writeJSON(w, r, http.StatusOK, out)
	}
	in, err := readForm(w, r)
	if err != nil {
		return err
	}
	var c claim
	if in.Token != "" {
		c, err = a.tokenClaim(in.Token, r)
	} else {
		c, err = a.login(r, in.Username, in.Password)
	}
	if err != nil {
		return a.refuse(r, in.Username, err)
	}
	a.Log.Info("logged in", "subject", c.Subject, "client", r.RemoteAddr)
	if old, err := r.Cookie(cookieOf(r)); err == nil && old.Value != "" {
		a.logout(r) // the session that this one takes the place of
	}
	http.SetCookie(w, cookie(r, a.signer.token(c), time.Unix(c.Expires, 0)))
	if in.page {
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return nil
	}
	a.mu.RLock()
	g, _, _ := a.subject(c.Subject)
	a.mu.RUnlock()
	if g == nil {
		g = notify.Nobody // it went this very moment
	}
	return writeJSON(w, r, http.StatusOK, identityOf(g))
}

// Door is what GET /login says.
type Door struct {
	Required bool      `json:"required"` // nothing can be asked for without logging in
	Token    bool      `json:"token"`    // {token} does
	Password bool      `json:"password"` // {username, password} do
	Who      *identity `json:"who"`      // who asks; null: nobody yet
}

// NoDoor answers GET /login where nobody has to log in.
func NoDoor(w http.ResponseWriter, r *http.Request) error {
	if !only(w, r, http.MethodGet, http.MethodHead) {
		return nil
	}
	who := identityOf(notify.Everything)
	return writeJSON(w, r, http.StatusOK, Door{Who: &who})
}

var errNoSession = &notify.Error{Op: "access.logout", Kind: notify.Unauthorized, Msg: "that is no session here: it goes on where it was begun, if it was"}

// serveLogout ends the session that the request shows and takes the cookie back. A page is logged out without a session as well, and with a
// cookie that is none any more.
func (a *Access) serveLogout(w http.ResponseWriter, r *http.Request, page bool) error {
	if !only(w, r, http.MethodPost) {
		return nil
	}
	if secret, inCookie := credential(r); !a.logout(r) && (!page || secret != "" && !inCookie) {
		return errNoSession
	}
	http.SetCookie(w, cookie(r, "", time.Unix(1, 0)))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// Secure says whether the client speaks TLS, to us or to what stands before us. Who lies about that harms no one else.
func Secure(r *http.Request) bool {
	return r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https"
}

func cookieOf(r *http.Request) string {
	if Secure(r) {
		return withPort(secureCookieName, r)
	}
	return withPort(cookieName, r)
}

// cookie makes the cookie of a session: out of reach of scripts, and sent to this site by its own pages only.
func cookie(r *http.Request, value string, expires time.Time) *http.Cookie {
	return &http.Cookie{Name: cookieOf(r), Value: value, Path: "/", Expires: expires, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: Secure(r)}
}

// form is what one logs in with.
type form struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Token    string `json:"token"`
	page     bool   // it came from an HTML form, whose answer is another page
}

// maxForm is the size of a form in bytes.
const maxForm = 16 << 10

// readForm reads JSON, or what an HTML form sends. A body that begins with "{" is JSON, whatever its type: curl calls all that it sends a form,
// unless told otherwise. Nothing is taken from the URL, which ends up in logs.
func readForm(w http.ResponseWriter, r *http.Request) (f form, err error) {
	bad := func(why string) (form, error) { // what the parsers say of it may quote a password
		return f, &notify.Error{Op: "access.login", Kind: notify.Invalid, Err: errors.New(why),
			Msg: `the body should be {"username": …, "password": …} or {"token": …}, and it is ` + why}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil {
		return bad("too long, or not all there")
	}
	body = bytes.TrimSpace(body)
	if t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); t == "application/x-www-form-urlencoded" && !bytes.HasPrefix(body, []byte("{")) {
		v, err := url.ParseQuery(string(body))
		if err != nil {
			return bad("not a form")
		}
		return form{v.Get("username"), v.Get("password"), v.Get("token"), true}, nil
	}
	if err := json.Unmarshal(body, &f); err != nil {
		return bad("not such JSON")
	}
	return f, nil
}

// only says whether r has one of the methods, and answers if not.
func only(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	for _, m := range methods {
		if r.Method == m {
			return true
		}
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	writeJSON(w, r, http.StatusMethodNotAllowed, map[string]any{"description": "this can only be asked for with " + strings.Join(methods, ", "),
		"module": "fs_notify", "error_class": "invalid_request_error", "stack": []string{}, "user_visible": true})
	return false
}

func writeJSON(w http.ResponseWriter, r *http.Request, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return &notify.Error{Op: "access", Kind: notify.Internal, Err: err}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(append(b, '\n')) // an error breaks the connection, which the client sees
	}
	return nil
}
