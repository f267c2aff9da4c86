package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A certificate that is renewed is used without a restart; one that is half written changes nothing.
func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	renew := func(part ...string) string {
		text, err := makeSelfSigned([]string{"localhost"}, nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range part {
			if err := os.WriteFile(name, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return string(text)
	}
	renew(cert, key)
	var log bytes.Buffer
	c, err := newCertificate(cert, key, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	now := func() string {
		c.looked = time.Time{}
		got, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return fingerprint(*got)
	}
	first := now()
	renew(cert) // its key is still the old one
	for range 3 {
		if got := now(); got != first || strings.Count(log.String(), "stays as it was") != 1 {
			t.Errorf("in the middle of a renewal: %s, log %s", got, &log)
		}
	}
	renew(cert, key)
	if got := now(); got == first || !strings.Contains(log.String(), "was read again") {
		t.Errorf("after the renewal: %s, log %s", got, &log)
	}
	if _, err := newCertificate(cert+"x", key, slog.Default()); err == nil {
		t.Error("a file that there is not is taken")
	}
}

func TestServeFlagsForAccess(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string // part of the refusal; "": none
	}{
		{[]string{"--listen", "0.0.0.0:0"}, "nothing says who may ask: name them with --tokens FILE"},
		{[]string{"--listen", "[::]:0"}, "--users FILE, or listen at 127.0.0.1"},
		{[]string{"--listen", ":0"}, "nothing says who may ask"},
		{[]string{"--listen", "files.example:0"}, "nothing says who may ask"},
		{[]string{"--cors-origin", "*"}, "without --tokens would let every page"},
		{[]string{"--cors-origin", "https://app.example/"}, "without a path"},
		{[]string{"--cors-origin", "app.example"}, "should be an origin"},
		{[]string{"--trusted-proxies", "10.0.0.0/99"}, "an address or a network"},
		{[]string{"--max-streams", "0"}, "should be 1 or more"},
		{[]string{"--max-body-bytes", "1"}, "should be 4KiB to 16MiB"},
		{[]string{"--header-timeout", "0"}, "should be more than 0"},
		{[]string{"--tokens", "nowhere.yaml", "--state-dir", filepath.Join(t.TempDir(), "state")}, "--tokens: stat nowhere.yaml"},
	} {
		var out bytes.Buffer
		code := run(t.Context(), append([]string{"serve", "--root", t.TempDir(), "--listen", "127.0.0.1:0"}, tt.args...), strings.NewReader(""), &out, &out)
		if code == exitDone || !strings.Contains(out.String(), tt.want) {
			t.Errorf("%v: exit code %d, %s, want %q", tt.args, code, &out, tt.want)
		}
	}
}
