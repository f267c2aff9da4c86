package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"fs_notify/server"
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

// An origin is compared with what browsers send, however it is written.
func TestOriginsAsBrowsersSendThem(t *testing.T) {
	var o accessFlags
	o.add(pflag.NewFlagSet("", pflag.ContinueOnError))
	for given, sent := range map[string]string{
		"https://App.Example":      "https://app.example",
		"HTTPS://app.example":      "https://app.example",
		"https://app.example:443":  "https://app.example",
		"https://app.example:8443": "https://app.example:8443",
		"http://app.example:80":    "http://app.example",
		"http://app.example:443":   "http://app.example:443",
		"http://app.example:":      "http://app.example",
		"http://[::1]:80":          "http://[::1]",
		"http://[::1]:3000":        "http://[::1]:3000",
		"*":                        "*",
	} {
		o.cors = []string{given}
		s := server.Options{Log: quietLog}
		if _, _, err := o.apply(&s, ""); err != nil || len(s.CORSOrigins) != 1 || s.CORSOrigins[0] != sent {
			t.Errorf("%s is %q, %v, want %s", given, s.CORSOrigins, err, sent)
		}
		if err := o.check("127.0.0.1", "8000"); given != "*" && err != nil {
			t.Errorf("%s: %v", given, err)
		}
	}
	for _, wrong := range []string{"", "app.example", "https://", "https://:443", "https://app.example/", "https://joe@app.example", "https://app.example?a", "ftp://app.example", "null"} {
		o.cors = []string{wrong}
		if err := o.check("127.0.0.1", "8000"); err == nil {
			t.Errorf("%q is taken for an origin", wrong)
		}
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
