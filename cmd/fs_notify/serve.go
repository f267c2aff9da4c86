package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"fs_notify/notify"
	"fs_notify/notify/feed"
	"fs_notify/server"
	"fs_notify/server/page"
	"fs_notify/watch"
)

const serveHelp = `Watch directories and serve what changes in them as Server-Sent Events, as Qumulo's change
notification does, with a live page at /.

Each --root is served under its own absolute path, or under another name: --root /srv/data,
--root /media=/srv/data. No root may lie in another one. With --state-dir the journal outlives a
restart, and clients go on where they were.

With --tokens or --users, those are served who have a token or log in, each as far as it says
("fs_notify token --help"). Without, only this machine itself is; and if the server runs as root, or may
read everything, only root and the server's own user, since it sees what others may not.

SIGINT, SIGTERM and SIGQUIT end the streams and the server, with exit code 0. SIGHUP reads the
configuration file again: the log level follows it, the rest takes a restart. Tokens, users and
certificates are read again whenever their files change.`

const serveExample = `  fs_notify serve --root /srv/data --state-dir /var/lib/fs_notify
  curl -N 'http://127.0.0.1:8000/v1/files/%2Fsrv%2Fdata/notify?recursive=true'
  fs_notify --host 127.0.0.1 --path /srv/data --recursive`

// serveFlags are the flags of fs_notify serve.
type serveFlags struct {
	roots       []string // DIR or /name=DIR
	listen      string   // host:port
	stateDir    string   // journal, lock, self-signed certificate
	watcher     string
	cert, key   string // PEM files
	selfSigned  bool
	sweep, poll duration // between full sweeps, and between those of what cannot be watched
	atime       bool
	retainAge   duration
	retainBytes size
	exclude     []string
	admin       string // host:port for profiles and /debug/; "": none
	access      accessFlags
}

func (a *app) serveCommand() *cobra.Command {
	o := serveFlags{sweep: duration(6 * time.Hour), poll: duration(5 * time.Second), retainAge: duration(7 * 24 * time.Hour), retainBytes: 1 << 30}
	cmd := &cobra.Command{
		Use:     "serve --root DIR [flags]",
		Short:   "Serve the changes of directories to clients",
		Long:    serveHelp,
		Example: serveExample,
		Args:    noArguments,
		RunE: a.runs(func(ctx context.Context, cmd *cobra.Command) error {
			if a.common.config != "" {
				a.onReload("configuration file", func() error { return a.reloadConfig(ctx) })
			}
			return a.serve(ctx, &o)
		}),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringArrayVar(&o.roots, "root", nil, "serve this `directory`, as its own path or as another: /media=/srv/data; may be repeated")
	f.StringVar(&o.listen, "listen", "127.0.0.1:8000", "take requests at this `address`; port 0 takes any free one")
	f.StringVar(&o.stateDir, "state-dir", "", "keep the journal in this `directory`; without it, it ends with the process")
	f.StringVar(&o.watcher, "watcher", "auto", "how to watch: "+strings.Join(watchers(), ", "))
	f.StringVar(&o.cert, "tls-cert", "", "serve TLS with this certificate chain, a PEM `file`")
	f.StringVar(&o.key, "tls-key", "", "and this private key, a PEM `file`")
	f.BoolVar(&o.selfSigned, "tls-self-signed", false, "serve TLS with a certificate of our own making, kept in --state-dir")
	f.Var(&o.sweep, "sweep-interval", "compare everything with the disk so often")
	f.Var(&o.poll, "poll-interval", "compare so often what cannot be watched: network file systems, degraded directories")
	f.BoolVar(&o.atime, "atime", false, "tell child_atime_changed of reads too: costs a record for each read")
	f.Var(&o.retainAge, "retain-age", "with --state-dir, keep notifications for so long")
	f.Var(&o.retainBytes, "retain-bytes", "and at most so much of them")
	f.StringArrayVar(&o.exclude, "exclude", nil, "leave out what matches this `glob` below a root, such as '**/.git/**'; may be repeated")
	f.StringVar(&o.admin, "admin-listen", "", "serve profiles, /metrics and /debug/ (who is connected, what happened last) at this loopback `address`, such as 127.0.0.1:6060")
	o.access.add(f)
	return cmd
}

// How often everything, and what cannot be watched, may be compared with the disk.
const (
	leastSweep = time.Second
	leastPoll  = 10 * time.Millisecond
)

// check finds what is wrong with the flags together.
func (o *serveFlags) check() error {
	switch {
	case len(o.roots) == 0:
		return misused("what should be served? Name at least one directory: --root /srv/data")
	case (o.cert == "") != (o.key == ""):
		return misused("--tls-cert and --tls-key belong together: give both")
	case o.cert != "" && o.selfSigned:
		return misused("--tls-cert and --tls-self-signed are two ways to a certificate: give one of them")
	case !slices.Contains(watchers(), o.watcher):
		return misused("--watcher %s: there are %s", o.watcher, strings.Join(watchers(), ", "))
	case time.Duration(o.sweep) < leastSweep || time.Duration(o.poll) < leastPoll:
		return misused("--sweep-interval should be %v or more, --poll-interval %v or more", leastSweep, leastPoll)
	case o.retainAge <= 0 || o.retainBytes <= 0:
		return misused("--retain-age and --retain-bytes should be more than 0")
	}
	for _, g := range o.exclude {
		if err := feed.CheckGlob(g); err != nil {
			return misused("--exclude: %s", notify.Message(err))
		}
	}
	host, port, err := splitAddress("--listen", o.listen, "127.0.0.1:8000")
	if err != nil {
		return err
	}
	if o.admin != "" {
		if err := checkAdmin(o.admin); err != nil {
			return err
		}
	}
	return o.access.check(host, port)
}

// serve runs the command.
func (a *app) serve(ctx context.Context, o *serveFlags) error {
	if err := o.check(); err != nil || a.rehearsal {
		return err
	}
	roots, err := parseRoots(o.roots)
	if err != nil {
		return err
	}
	hup := hangups()
	counts := newMetrics()
	c := engineConfig{metrics: counts, roots: roots, watcher: o.watcher, exclude: o.exclude, sweep: time.Duration(o.sweep), poll: time.Duration(o.poll), atime: o.atime, stateDir: o.stateDir, forget: true,
		retainAge: time.Duration(o.retainAge), retainBytes: int64(o.retainBytes), log: a.log}
	if err := c.keepApart(); err != nil {
		return err
	}
	if log := a.status.file(); log != "" { // what is told of it would be logged, and told
		c.own = append(c.own, log)
	}
	secure, err := o.tls(a)
	if err != nil {
		return err
	}
	listener, err := listen("--listen", o.listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	var adminListener net.Listener
	if o.admin != "" {
		if adminListener, err = listen("--admin-listen", o.admin); err != nil {
			return err
		}
		defer adminListener.Close()
	}
	e, err := openEngine(c)
	if err != nil {
		return err
	}
	if o.selfSigned { // now that the state directory, where it is kept, is ours
		if err := o.selfSign(a, secure); err != nil {
			e.close()
			return err
		}
	}
	options := server.Options{Files: e.files, Journal: e.log, Health: e.health(), Page: page.Handler(), Log: a.log, TLS: secure, Version: versionNumber(),
		Metrics: counts, More: map[string]http.Handler{"/metrics": counts.handler()}}
	guard, rereadAccess, err := o.access.apply(&options, o.stateDir)
	if err != nil {
		e.close()
		return err
	}
	if o.access.guarded() {
		a.onReload("tokens and users", rereadAccess)
	}
	srv := server.New(options)
	counts.collect(e, srv)
	scheme := "http"
	if secure != nil {
		scheme = "https"
	}
	a.log.Info("serving", "url", scheme+"://"+listener.Addr().String()+"/", "version", versionNumber())
	supervisor := a.newSystemd()

	// Whichever of them ends first ends the others.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	part := func(f func(context.Context) error) {
		all.Go(func() {
			if err := f(ctx); err != nil {
				cancel(err)
			}
		})
	}
	part(e.run)
	part(guard)
	part(func(ctx context.Context) error { return srv.Serve(ctx, listener) })
	part(func(ctx context.Context) error {
		a.showIndexing(ctx, e)
		runtime.GC() // what the scans have left; and the first collection is the dearest: the first change need not wait for it
		return nil
	})
	part(func(ctx context.Context) error { a.reloadOn(ctx, hup, supervisor.reloading(e.ready)); return nil })
	part(func(ctx context.Context) error { supervisor.follow(ctx, e, newPulse(e, srv)); return nil })
	if adminListener != nil {
		d := &admin{e: e, srv: srv, metrics: counts.handler(), auth: administrators(), now: time.Now}
		a.log.Info("serving administrators", "url", "http://"+adminListener.Addr().String()+"/debug/")
		part(func(ctx context.Context) error { return d.run(ctx, adminListener) })
	}
	all.Wait()
	err = context.Cause(ctx)
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	if e := e.close(); err == nil {
		err = e
	}
	a.log.Info("stopped")
	return err
}

// splitAddress takes an address that a flag gives apart.
func splitAddress(flag, address, example string) (host, port string, err error) {
	host, port, err = net.SplitHostPort(address)
	if err != nil || port == "" {
		return "", "", misused("%s %s: it should be an address and a port, such as %s", flag, address, example)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return "", "", misused("%s %s: there is no port %s, it should be 0 to 65535", flag, address, port)
	}
	return host, port, nil
}

// listen listens at an address that a flag gives.
func listen(flag, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s %s: the port is in use: stop what listens there, or take another port", flag, address)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", flag, address, err)
	}
	return l, nil
}

// showIndexing shows how far the first scans are, until they have ended.
func (a *app) showIndexing(ctx context.Context, e *engine) {
	bar := a.newProgress()
	defer bar.stop()
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	for {
		select {
		case <-e.ready:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, r := range e.files.Roots() {
			if r.Phase == notify.Indexing && r.Indexed > 0 {
				bar.show(r.Name, 100*r.Progress, r.Indexed)
				break
			}
		}
	}
}

// parseRoots reads DIR and /name=DIR. Each must be a directory, and none may lie in another.
func parseRoots(args []string) ([]watch.Root, error) {
	var roots []watch.Root
	for _, arg := range args {
		if err := answers(arg); err != nil {
			return nil, fmt.Errorf("--root %s: %w", arg, err)
		}
		name, dir := "", arg
		if st, err := os.Stat(arg); err != nil || !st.IsDir() { // a directory whose name contains "=" is one
			if n, d, ok := strings.Cut(arg, "="); ok && strings.HasPrefix(n, "/") {
				name, dir = filepath.Clean(n), d
			}
		}
		if dir == "" {
			return nil, misused("--root %q: it should be a directory, or /name=directory", arg)
		}
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		real, err := existingDirectory(dir)
		if err != nil {
			if n, d, ok := strings.Cut(dir, "="); ok && name == "" {
				if _, e := existingDirectory(d); e == nil {
					return nil, misused("--root %s: the name should be absolute, /%s=%s", arg, n, d)
				}
			}
			return nil, fmt.Errorf("--root %s: %w", arg, err)
		}
		if name == "" {
			if name = abs; !sameFile(abs, real) { // a ".." behind a link
				name = real
			}
		}
		for _, r := range roots {
			switch {
			case r.Name == name:
				return nil, misused("--root %s: %s is served already", arg, name)
			case notify.Within(real, r.Dir), notify.Within(r.Dir, real):
				return nil, misused("--root %s: %s and %s lie one in the other: serve the outer one, its subdirectories can be watched by their paths", arg, real, r.Dir)
			case notify.Within(name, r.Name), notify.Within(r.Name, name):
				return nil, misused("--root %s: the names %s and %s lie one in the other: give one of them another name", arg, name, r.Name)
			}
		}
		roots = append(roots, watch.Root{Name: name, Dir: real})
	}
	return roots, nil
}

// tls gives the TLS side of the server; nil: plain HTTP. A certificate of our own comes from selfSign.
func (o *serveFlags) tls(a *app) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	switch {
	case o.cert != "":
		files, err := newCertificate(o.cert, o.key, a.log)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert and --tls-key: %w", err)
		}
		c.GetCertificate = files.get
	case o.selfSigned:
	default:
		if host, _, _ := net.SplitHostPort(o.listen); o.access.guarded() && host != "localhost" && !net.ParseIP(host).IsLoopback() {
			a.log.Warn("tokens and passwords come in clear: give --tls-cert and --tls-key, or --tls-self-signed")
		}
		return nil, nil
	}
	return c, nil
}

// selfSign puts a certificate of our own into c.
func (o *serveFlags) selfSign(a *app, c *tls.Config) error {
	host, _, _ := net.SplitHostPort(o.listen)
	own, err := newOwnCertificate(func(now time.Time) (tls.Certificate, error) { return selfSigned(o.stateDir, host, now) }, time.Now, a.log)
	if err != nil {
		return fmt.Errorf("--tls-self-signed: %w", err)
	}
	c.GetCertificate = own.get
	return nil
}
