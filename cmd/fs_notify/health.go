package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const healthHelp = `Ask the server on this machine whether it answers, and with --ready also whether all its roots are
watched. The exit code is 0 if so, else 1. It is meant for health checks of containers, which have
nothing else to ask with.

It finds the server by the same --listen, --tls-cert and --tls-self-signed as "fs_notify serve" does: best given to both in the
environment or in the file that --config names.`

const healthExample = `  fs_notify health
  FS_NOTIFY_LISTEN=0.0.0.0:8443 FS_NOTIFY_TLS_SELF_SIGNED=true fs_notify health --ready`

// healthFlags are the flags of fs_notify health.
type healthFlags struct {
	listen     string
	cert       string // given: the server speaks TLS
	selfSigned bool
	ready      bool
	timeout    duration
}

func (a *app) healthCommand() *cobra.Command {
	o := healthFlags{timeout: duration(3 * time.Second)}
	cmd := &cobra.Command{
		Use:     "health [flags]",
		Short:   "Ask whether the server on this machine is well",
		Long:    healthHelp,
		Example: healthExample,
		Args:    noArguments,
		RunE:    a.runs(func(ctx context.Context, cmd *cobra.Command) error { return a.health(ctx, &o) }),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.listen, "listen", "127.0.0.1:8000", "the `address` at which it takes requests")
	f.StringVar(&o.cert, "tls-cert", "", "it speaks TLS, with this certificate `file`")
	f.BoolVar(&o.selfSigned, "tls-self-signed", false, "it speaks TLS, with a certificate of its own making")
	f.BoolVar(&o.ready, "ready", false, "ask also whether all its roots are watched")
	f.Var(&o.timeout, "timeout", "wait so long for the answer; 0: for ever")
	return cmd
}

func (a *app) health(ctx context.Context, o *healthFlags) error {
	host, port, err := splitAddress("--listen", o.listen, "127.0.0.1:8000")
	if err != nil {
		return err
	}
	if port == "0" {
		return misused("--listen %s: it should be the port that the server has", o.listen)
	}
	switch ip := net.ParseIP(host); {
	case host == "", ip != nil && ip.IsUnspecified() && ip.To4() != nil:
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}
	scheme, path := "http", "/healthz"
	if o.cert != "" || o.selfSigned {
		scheme = "https"
	}
	if o.ready {
		path = "/readyz"
	}
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(o.timeout))
		defer cancel()
	}
	url := scheme + "://" + net.JoinHostPort(host, port) + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	// Whether it lives is asked, not who it is: the certificate is for its name, not for this address.
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", url, resp.Status, strings.TrimSpace(string(body)))
	}
	_, err = a.stdout.Write(body)
	return err
}
