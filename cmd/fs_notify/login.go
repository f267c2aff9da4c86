package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// remoteFlags say how to reach a server, and as who.
type remoteFlags struct {
	host     string
	port     int
	tls      bool
	tlsCA    string // file with the authorities to trust
	insecure bool   // do not verify the certificate
	token    string // file with a token
	store    string // file that login keeps the token of the session in
}

// add defines the flags; without token what says who asks is the session that login keeps.
func (o *remoteFlags) add(f *pflag.FlagSet, hostUsage string, token bool) {
	f.StringVar(&o.host, "host", "", hostUsage)
	f.IntVar(&o.port, "port", 8000, "its port")
	f.BoolVar(&o.tls, "tls", false, "speak TLS to it")
	f.StringVar(&o.tlsCA, "tls-ca", "", "trust the certificates in this PEM `file`, instead of the system's; implies --tls")
	f.BoolVar(&o.insecure, "insecure", false, "do not verify its certificate; implies --tls")
	if token {
		f.StringVar(&o.token, "token-file", "", "show the token in this `file`; FS_NOTIFY_TOKEN holds one itself; without either, that of \"fs_notify login\"")
	}
	f.StringVar(&o.store, "credentials-store", "", "the `file` that login keeps its token in, ~/.qfsd_cred if not said")
}

// url gives the address of the server.
func (o *remoteFlags) url() string {
	scheme := "http"
	if o.secure() {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(o.host, strconv.Itoa(o.port))
}

func (o *remoteFlags) secure() bool { return o.tls || o.insecure || o.tlsCA != "" }

func (o *remoteFlags) check() error {
	if o.port < 1 || o.port > 65535 {
		return misused("--port %d: it should be 1 to 65535", o.port)
	}
	_, rest, isURL := strings.Cut(o.host, "://")
	if !isURL {
		rest = o.host
	}
	if host, port, err := net.SplitHostPort(strings.TrimSuffix(rest, "/")); err == nil {
		return misused("--host %s: it should be a name or an address alone: write --host %s --port %s", o.host, host, port)
	}
	if u, err := url.Parse(o.url()); err != nil || u.Hostname() != o.host {
		return misused("--host %s: it should be a name or an address alone, such as files.example; --port and --tls say the rest", o.host)
	}
	if o.tlsCA != "" && o.insecure {
		return misused("--tls-ca says which certificates to trust, --insecure trusts any: give one of them")
	}
	return nil
}

// credentials is the file that qq keeps its session in.
type credentials struct {
	BearerToken string `json:"bearer_token"`
	Version     int    `json:"version"`
}

const credentialsVersion = 1

// credentialsFile gives the file's name.
func credentialsFile(store string) (string, error) {
	if store != "" {
		return store, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".qfsd_cred"), nil
}

// readCredentials gives the token in the file; "" if there is no file.
func readCredentials(store string) (string, error) {
	name, err := credentialsFile(store)
	if err != nil {
		return "", nil // no home, no credentials
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("the credentials cannot be read: %w", err)
	}
	var c credentials
	if err := json.Unmarshal(text, &c); err != nil || c.Version != credentialsVersion {
		return "", fmt.Errorf("%s holds no credentials of version %d: log in again, or remove it", name, credentialsVersion)
	}
	return c.BearerToken, nil
}

// ownCredentials gives the file behind links that login may replace and logout remove: one that is not there, is empty, or holds
// credentials of whatever version.
func ownCredentials(store string) (string, error) {
	name, err := credentialsFile(store)
	if err != nil {
		return "", err
	}
	name = behindLinks(name)
	st, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return name, nil
	}
	if err != nil {
		return "", err
	}
	if !st.Mode().IsRegular() {
		return "", fmt.Errorf("%s is no regular file, and stays as it is", name)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	var c struct {
		BearerToken *string `json:"bearer_token"`
	}
	if err := json.Unmarshal(text, &c); len(text) > 0 && (err != nil || c.BearerToken == nil) {
		return "", fmt.Errorf("%s holds something else than credentials, and stays as it is: name another file with --credentials-store", name)
	}
	return name, nil
}

// writeCredentials replaces the file, which nobody else may read.
func writeCredentials(store, token string) error {
	name, err := ownCredentials(store)
	if err != nil {
		return err
	}
	text, err := json.Marshal(credentials{token, credentialsVersion})
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it was renamed
	_, err = f.Write(append(text, '\n'))
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	return err
}

// sessionFlags are the flags of login, logout and who_am_i.
type sessionFlags struct {
	remoteFlags
	user, password string
}

func (a *app) sessionCommands() []*cobra.Command {
	make := func(use, short, long string, token bool, f func(context.Context, *sessionFlags) error, more func(*pflag.FlagSet, *sessionFlags)) *cobra.Command {
		var o sessionFlags
		c := &cobra.Command{Use: use, Short: short, Long: long, Args: noArguments, RunE: a.runs(func(ctx context.Context, cmd *cobra.Command) error {
			if o.host == "" {
				o.host = "localhost"
			}
			if err := o.check(); err != nil {
				return err
			}
			return f(ctx, &o)
		})}
		c.Flags().SortFlags = false
		if more != nil {
			more(c.Flags(), &o)
		}
		o.add(c.Flags(), "the `host` of the server, localhost if not said", token)
		return c
	}
	return []*cobra.Command{
		make("login -u USER", "Log in to a server, for ten hours",
			"Log in to a server and keep the token of the session, which is good for ten hours, where the other commands (and qq) find it.\n"+
				"Without --password it is asked for, or read from standard input.", false, a.login,
			func(f *pflag.FlagSet, o *sessionFlags) {
				f.StringVarP(&o.user, "username", "u", "", "the `user`")
				f.StringVarP(&o.password, "password", "p", "", "the `password`, for all on this machine to see")
			}),
		make("logout", "End the session and forget its token",
			"End the session on the server, with its streams, and remove the file with its token. It stays if the server does not know the session,\n"+
				"which may be that of another one: name that with --host, --port and --tls.", false, a.logout, nil),
		make("who_am_i", "Say as who a server knows this user", "Print as who the server knows whoever shows the token, and what that one may do and see, as JSON.", true, a.whoAmI, nil),
	}
}

func (a *app) login(ctx context.Context, o *sessionFlags) error {
	if o.user == "" {
		return misused("who logs in? Name the user with -u")
	}
	if _, err := ownCredentials(o.store); err != nil {
		return fmt.Errorf("the credentials cannot be kept: %w", err)
	}
	if o.password == "" {
		var err error
		if o.password, err = a.askPassword(ctx); err != nil {
			return err
		}
	}
	body, err := json.Marshal(map[string]string{"username": o.user, "password": o.password})
	if err != nil {
		return err
	}
	answer, err := a.call(ctx, &o.remoteFlags, http.MethodPost, "/v1/session/login", "", body)
	if err != nil {
		return err
	}
	var c credentials
	if err := json.Unmarshal(answer, &c); err != nil || c.BearerToken == "" {
		return errors.New("the server answered without a token")
	}
	if err := writeCredentials(o.store, c.BearerToken); err != nil {
		return fmt.Errorf("the credentials cannot be kept: %w", err)
	}
	return nil
}

// askPassword reads a password without showing it; from what is no terminal, the first line.
func (a *app) askPassword(ctx context.Context) (string, error) {
	if f, ok := a.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(a.status, "Password: ")
		fd := int(f.Fd())
		before, err := term.GetState(fd)
		if err != nil {
			return "", err
		}
		b, err := unlessEnded(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
		term.Restore(fd, before) // where ReadPassword was left behind
		fmt.Fprintln(a.status)
		return string(b), err
	}
	line, err := unlessEnded(ctx, func() (string, error) { return bufio.NewReader(a.stdin).ReadString('\n') })
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		if err == nil || errors.Is(err, io.EOF) {
			err = misused("there is no password: write it on standard input, or give --password")
		}
		return "", err
	}
	return line, nil
}

func (a *app) logout(ctx context.Context, o *sessionFlags) error {
	name, err := ownCredentials(o.store)
	if err != nil {
		return fmt.Errorf("the credentials cannot be removed: %w", err)
	}
	token, err := readCredentials(o.store)
	if err == nil && token != "" {
		_, err := a.call(ctx, &o.remoteFlags, http.MethodPost, "/v1/session/logout", token, nil)
		var no *refusal
		switch {
		case errors.As(err, &no) && (no.status == http.StatusUnauthorized || no.status == http.StatusNotFound):
			return fmt.Errorf("%s does not know the session in %s, which may go on at another server, and stays there: name that server with --host, --port and --tls, or remove the file", o.url(), name)
		case err != nil:
			a.log.Warn("the server was not told: the session ends by itself", "err", oneLine(explain(err)))
		}
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the credentials cannot be removed: %w", err)
	}
	return nil
}

func (a *app) whoAmI(ctx context.Context, o *sessionFlags) error {
	token, err := a.tokenOf(o.token, o.store)
	if err != nil {
		return err
	}
	answer, err := a.call(ctx, &o.remoteFlags, http.MethodGet, "/v1/session/who-am-i", token, nil)
	if err != nil {
		return err
	}
	out, err := appendPython(nil, answer, 0)
	if err != nil {
		return fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	_, err = fmt.Fprintf(a.stdout, "%s\n", out)
	return err
}

// printPython prints a value as Python would, like qq.
func (a *app) printPython(v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		b, err = appendPython(nil, b, 0)
	}
	if err == nil {
		_, err = fmt.Fprintf(a.stdout, "%s\n", b)
	}
	return err
}

// refusal is a server's answer that is not what was asked for.
type refusal struct {
	status int
	error
}

func (r *refusal) Unwrap() error { return r.error }

// call asks a server for something short. The error is a *refusal if it has answered.
func (a *app) call(ctx context.Context, o *remoteFlags, method, path, token string, body []byte) ([]byte, error) {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	if o.secure() {
		trust, err := trusted(o)
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig = trust
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, o.url()+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "fs_notify/"+versionNumber())
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return nil, o.explain(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 {
		return answer, nil
	}
	return nil, &refusal{resp.StatusCode, o.said(resp, answer, token == "" && path != "/v1/session/login")}
}

// said gives the reason that an answer has for not being the one that was asked for.
func (o *remoteFlags) said(resp *http.Response, answer []byte, nobody bool) error {
	var e struct {
		Description string `json:"description"`
	}
	json.Unmarshal(answer, &e)
	switch {
	case resp.StatusCode == http.StatusUnauthorized && nobody:
		return errNotLoggedIn
	case resp.StatusCode == http.StatusNotFound:
		return errors.New("the server has no sessions: nobody needs to log in, or has a password there")
	case e.Description != "":
		return fmt.Errorf("the server says: %s", e.Description)
	}
	said := "the server answered " + strconv.Quote(resp.Status)
	if line := firstLine(strings.TrimSpace(string(answer))); line != "" && !strings.HasPrefix(line, "<") {
		said += ": " + strconv.Quote(line[:min(len(line), 200)])
	}
	return o.explain(errors.New(said))
}
