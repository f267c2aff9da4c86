package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Login and logout replace and remove credentials, and nothing else that somebody may have named.
func TestCredentialsOfOthers(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"bearer_token":"new"}`)
	}))
	defer srv.Close()
	host, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	const ours, new = `{"bearer_token":"old","version":1}`, `{"bearer_token":"new","version":1}`
	for _, tt := range []struct {
		what, text string
		refused    bool
	}{
		{"credentials", ours, false},
		{"credentials of another version", `{"bearer_token":"x","version":2}`, false},
		{"an empty file", "", false},
		{"a file of words", "Host files.example\n", true},
		{"other JSON", `{"token":"mine"}`, true},
		{"a list", `[]`, true},
	} {
		for _, link := range []bool{false, true} {
			for _, command := range []string{"login -u joe -p horse", "logout"} {
				dir := t.TempDir()
				file, store := filepath.Join(dir, "file"), filepath.Join(dir, "file")
				if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
					t.Fatal(err)
				}
				if link {
					store = filepath.Join(dir, "link")
					if err := os.Symlink("file", store); err != nil {
						t.Skip(err)
					}
				}
				code, _, stderr := runHere(t.Context(), nil, append(strings.Fields(command), "--host", host, "--port", port, "--credentials-store", store)...)
				text, err := os.ReadFile(file)
				switch {
				case tt.refused && (code != exitFailed || string(text) != tt.text || !strings.Contains(stderr, "stays as it is")):
					t.Errorf("%s, %s, behind a link %v: exit %d, %q; it holds %q, %v", command, tt.what, link, code, stderr, text, err)
				case !tt.refused && (code != exitDone || command == "logout" && err == nil || command != "logout" && strings.TrimSpace(string(text)) != new):
					t.Errorf("%s, %s, behind a link %v: exit %d, %q; it holds %q, %v", command, tt.what, link, code, stderr, text, err)
				}
				if st, err := os.Lstat(filepath.Join(dir, "link")); link && (err != nil || st.Mode()&os.ModeSymlink == 0) {
					t.Errorf("%s, %s: the link is no more, %v", command, tt.what, err)
				}
			}
		}
	}
}

// The session of another server goes on when this one is asked to end it, so its token is kept. A server that cannot be asked keeps nobody from
// forgetting a token.
func TestLogoutAtAnotherServer(t *testing.T) {
	const ours = `{"bearer_token":"old","version":1}`
	for _, tt := range []struct {
		status int // 0: nobody listens
		kept   bool
		says   string
	}{
		{http.StatusNoContent, false, ""},
		{http.StatusUnauthorized, true, "does not know the session in "},
		{http.StatusNotFound, true, "name that server with --host, --port and --tls, or remove the file"},
		{http.StatusServiceUnavailable, false, "the server was not told"},
		{0, false, "the server was not told"},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v1/session/logout" || r.Header.Get("Authorization") != "Bearer old" {
				t.Errorf("asked was %s with %v", r.URL, r.Header)
			}
			w.WriteHeader(tt.status)
		}))
		host, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
		if tt.status == 0 {
			srv.Close()
		}
		store := filepath.Join(t.TempDir(), "store")
		if err := os.WriteFile(store, []byte(ours), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv(envPrefix+"TOKEN", "another")
		code, _, stderr := runHere(t.Context(), nil, "logout", "--host", host, "--port", port, "--credentials-store", store)
		if text, err := os.ReadFile(store); (code == exitFailed) != tt.kept || (err == nil) != tt.kept || tt.kept && string(text) != ours || !strings.Contains(stderr, tt.says) {
			t.Errorf("%d: exit %d, %q; the file holds %q, %v", tt.status, code, stderr, text, err)
		}
		srv.Close()
	}
}

// What is no file is as it was; here a directory, as a device would be lost if this test failed.
func TestCredentialsAreAFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"login -u joe -p horse", "logout"} {
		code, _, stderr := runHere(t.Context(), nil, append(strings.Fields(command), "--port", "1", "--credentials-store", dir)...)
		if _, err := os.Stat(dir); code != exitFailed || !strings.Contains(stderr, "no regular file") || err != nil {
			t.Errorf("%s: exit %d, %q; %v", command, code, stderr, err)
		}
	}
}

// A token in the environment is taken as one in a file is: without the line end that tools leave, and only if it can be shown.
func TestTokenInTheEnvironment(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(r.Header.Get("Authorization"))
	}))
	defer srv.Close()
	host, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	store := filepath.Join(t.TempDir(), "none")
	for _, tt := range []struct {
		token string
		code  int
		shown string
	}{
		{"fsn_a", exitDone, "Bearer fsn_a"},
		{" fsn_a\r\n", exitDone, "Bearer fsn_a"},
		{"words that é chose", exitDone, "Bearer words that \\u00e9 chose"},
		{"\n", exitDone, `""`},
		{"fsn_a\nfsn_b", exitMisuse, ""},
		{"fsn_\x7f", exitMisuse, ""},
	} {
		t.Setenv(envPrefix+"TOKEN", tt.token)
		code, stdout, stderr := runHere(t.Context(), nil, "who_am_i", "--host", host, "--port", port, "--credentials-store", store)
		if code != tt.code || !strings.Contains(stdout, tt.shown) || strings.Contains(stderr, "fsn_") {
			t.Errorf("%q: exit %d, %q, %q", tt.token, code, stdout, stderr)
		}
	}
	t.Setenv(envPrefix+"TOKEN", "a\nb")
	if code, _, stderr := runHere(t.Context(), nil, "--host", host, "--port", port, "--path", "/d", "--timeout", "5s"); code != exitMisuse || !strings.Contains(stderr, "TOKEN should hold one line") {
		t.Errorf("a stream: exit %d, %q", code, stderr)
	}
}
