package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/client"
)

// follow takes notifications from a server.
func (a *app) follow(ctx context.Context, o *watchFlags, types notify.TypeSet, t *tap) error {
	var trust *tls.Config
	if o.secure() {
		var err error
		if trust, err = trusted(&o.remoteFlags); err != nil {
			return err
		}
	}
	token, err := a.tokenOf(o.token, o.store)
	if err != nil {
		return err
	}
	ref := o.path
	if o.id != "" {
		ref = o.id
	}
	snapshot := 0 // how many have begun
	opts := client.Options{
		URL: o.url(), Token: token, Ref: ref, Recursive: o.recursive,
		Include: o.include, Exclude: o.exclude, Fields: t.fields, Since: o.since, Cursor: t.start,
		Timeout: time.Duration(o.timeout), TLS: trust, UserAgent: "fs_notify/" + versionNumber(),
		OnCursor: func(c notify.Cursor) error { return t.moved(c) },
		OnReset: func(r client.Reset) error {
			if o.since != "snapshot" || t.start.Seq != 0 {
				return t.gone(&notify.Error{Kind: notify.Gone, Bounds: notify.Bounds{Base: r.Oldest.Batch(), Head: r.Head.Batch()}})
			}
			if snapshot++; snapshot > 1 && t.out.begun {
				return errors.New("the connection was lost in the middle of the snapshot, which only makes sense as a whole: start again")
			}
			return nil
		},
	}
	if len(o.filter) > 0 {
		opts.Filter = types
	}
	strip := t.cursors != nil && t.counted && t.fields == notify.FieldsQumulo // --count may end inside a frame: each notification's own Seq is needed
	if strip {
		opts.Fields = notify.FieldsAll
	}
	bar := a.newProgress()
	defer bar.stop()
	reachable := true
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var failed error
	if o.path != "" && t.start.Dir != 0 {
		// If nothing has the path, the directory of the cursor was renamed or removed, and its stream says more than we could.
		opts.OnDirectory = func(id notify.FileID) error { return t.belongs(o.path, id) }
	}
	opts.OnWatching = func(text string) {
		bar.stop()
		a.log.Info("watching", "server", opts.URL, "directory", ref)
		reachable = true
		if failed = t.watching(); failed != nil {
			stop()
		}
	}
	opts.OnProgress = func(percent float64, text string) { bar.show(ref, percent, -1) }
	opts.OnRetry = func(err error, wait time.Duration) {
		wait = wait.Round(10 * time.Millisecond)
		switch {
		case err == nil:
			a.log.Info("the server has ended the stream, connecting again", "server", opts.URL, "in", wait)
		case reachable:
			a.log.Warn("no connection, trying again", "server", opts.URL, "in", wait, "err", oneLine(explain(err)))
		default:
			a.log.Debug("no connection, trying again", "server", opts.URL, "in", wait, "err", oneLine(explain(err)))
		}
		reachable = err == nil
	}
	err = client.Watch(ctx, opts, func(f client.Frame) error {
		records, err := recordsOf(f, strip)
		if err != nil {
			return err
		}
		return t.take(records, f.Cursor.Dir)
	})
	if err != nil && snapshot > 0 && t.cursors != nil && t.cursors.last.Seq == 0 && !errors.Is(err, errEnough) {
		t.takeBack() // half a snapshot: the next run begins with a whole one
	}
	switch {
	case failed != nil:
		return failed
	case errors.Is(err, notify.Unauthorized) && token == "":
		return errNotLoggedIn
	case errors.Is(err, notify.Gone):
		return t.gone(err)
	case err == nil:
		a.log.Info("the watched directory was removed", "directory", ref)
	}
	return o.explain(err)
}

// explain says what is wrong with a connection, where something can be done.
func (o *remoteFlags) explain(err error) error {
	var unknown x509.UnknownAuthorityError
	var plain tls.RecordHeaderError
	switch {
	case errors.As(err, &plain), err != nil && strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fmt.Errorf("the server at %s:%d does not speak TLS: leave --tls out", o.host, o.port)
	case err != nil && strings.Contains(err.Error(), "HTTP request to an HTTPS server"):
		return fmt.Errorf("the server at %s:%d speaks TLS: add --tls", o.host, o.port)
	case errors.As(err, &unknown):
		return errors.New("the server's certificate is signed by nobody that this machine knows: trust it with --tls-ca FILE (or do not care: --insecure)")
	}
	return err
}

// recordsOf takes a frame apart. With strip the notifications carry more fields than were asked for.
func recordsOf(f client.Frame, strip bool) ([]record, error) {
	records := make([]record, len(f.Notes))
	for i := range f.Notes {
		records[i].note = &f.Notes[i]
	}
	if strip {
		return records, nil
	}
	var raws []json.RawMessage
	if err := json.Unmarshal(f.Data, &raws); err != nil || len(raws) != len(records) {
		return nil, fmt.Errorf("the server sent a frame that is no array of notifications: %v", err)
	}
	for i := range raws {
		records[i].json = raws[i]
	}
	return records, nil
}

// trusted says whose certificates are taken.
func trusted(o *remoteFlags) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.insecure}
	if o.tlsCA == "" {
		return c, nil
	}
	pem, err := os.ReadFile(o.tlsCA)
	if err != nil {
		return nil, fmt.Errorf("--tls-ca: %w", err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--tls-ca: there is no PEM certificate in %s", o.tlsCA)
	}
	return c, nil
}
