package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"fs_notify/notify"
	"fs_notify/server"
	"fs_notify/server/qumulo"
)

// admin is what --admin-listen serves: Go's profiles, /metrics, and /debug/, which shows who is connected and what
// happened last. It sees everything, so it listens on the loopback interface only, and asks auth besides.
type admin struct {
	e       *engine
	srv     *server.Server
	metrics http.Handler
	auth    server.Auth
	now     func() time.Time
}

// How much /debug/ shows.
const (
	shownStreams       = 1000
	shownNotifications = 100
)

func (d *admin) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", d.metrics)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/debug/", http.StatusSeeOther) })
	mux.HandleFunc("GET /debug/{$}", d.overview)
	mux.HandleFunc("GET /debug/streams", d.streams)
	mux.HandleFunc("GET /debug/notifications", d.notifications)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		if err := d.mayAsk(r); err != nil {
			http.Error(w, notify.Message(err), server.Status(err))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// mayAsk refuses pages of other sites, whose names lead here for the browser's eyes, besides what auth refuses.
func (d *admin) mayAsk(r *http.Request) error {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	if host != "localhost" && (ip == nil || !ip.IsLoopback()) || r.Header.Get("Origin") != "" {
		return &notify.Error{Op: "admin", Kind: notify.Forbidden, Msg: "ask by the address itself, from no page"}
	}
	if _, err = d.auth.Authorize(r); notify.KindOf(err) == notify.Forbidden { // whose words are about a server without tokens
		return &notify.Error{Op: "admin", Kind: notify.Forbidden, Err: err, Msg: "only root and the user that the server runs as may ask here"}
	}
	return err
}

// run serves l until ctx ends.
func (d *admin) run(ctx context.Context, l net.Listener) error {
	srv := &http.Server{Handler: d.handler(), ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("--admin-listen: %w", err)
	case <-ctx.Done():
	}
	srv.Close() // a profile that is being taken is not waited for
	<-ended
	return nil
}

// follower is a stream as it is shown.
type follower struct {
	Client        string    `json:"client"`
	Ref           string    `json:"ref"`
	Directory     string    `json:"directory"` // its file ID
	Recursive     bool      `json:"recursive"`
	Filter        []string  `json:"filter,omitempty"` // nil: Qumulo's types
	Include       []string  `json:"include,omitempty"`
	Exclude       []string  `json:"exclude,omitempty"`
	Fields        string    `json:"fields,omitempty"` // "": Qumulo's
	Since         time.Time `json:"since"`
	Notifications int       `json:"notifications"`
	Cursor        string    `json:"cursor"`
	BehindMillis  int64     `json:"behind_ms"`
	State         string    `json:"state"`
}

// followers are the streams that are open, those that are farthest behind first.
func (d *admin) followers(ctx context.Context) ([]follower, error) {
	var all []follower
	now := d.now()
	err := d.srv.EachStream(ctx, func(s *qumulo.Stream) {
		c := follower{Client: s.Client, Ref: s.Ref, Directory: s.View.Dir.String(), Recursive: s.View.Recursive, Since: s.Since.UTC(), Notifications: s.Sent,
			Cursor: s.Cursor.String(), BehindMillis: d.srv.Behind(s, now).Milliseconds(), State: "live"}
		if s.View.Types != notify.Qumulo {
			for _, t := range s.View.Types.Types() {
				c.Filter = append(c.Filter, t.String())
			}
		}
		c.Include, c.Exclude = s.View.Scope.Globs()
		if s.Fields != notify.FieldsQumulo {
			c.Fields = "all"
		}
		switch {
		case s.Cursor.Seq == 0:
			c.State = "starts"
		case s.Parked:
			c.State = "takes nothing"
		case s.Paging:
			c.State = "reads the past"
		case c.BehindMillis > 0:
			c.State = "catches up"
		}
		all = append(all, c)
	})
	slices.SortFunc(all, func(a, b follower) int {
		if c := b.BehindMillis - a.BehindMillis; c != 0 {
			return int(max(min(c, 1), -1))
		}
		return a.Since.Compare(b.Since)
	})
	return all, err
}

// latest are the notifications that were told last, the newest first.
func (d *admin) latest(ctx context.Context) ([]*notify.Notification, error) {
	var last []*notify.Notification
	for before := d.e.log.Bounds().Head; len(last) < shownNotifications; {
		batches, err := d.e.log.PageBack(ctx, 0, before, 16)
		if err != nil || len(batches) == 0 {
			return last, err
		}
		for _, b := range batches {
			for i := len(b.Notes) - 1; i >= 0 && len(last) < shownNotifications; i-- {
				last = append(last, &b.Notes[i])
			}
		}
		before = batches[len(batches)-1].Number - 1
	}
	return last, nil
}

func (d *admin) streams(w http.ResponseWriter, r *http.Request) {
	all, err := d.followers(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if all == nil {
		all = []follower{}
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(all) // the client may have left
}

func (d *admin) notifications(w http.ResponseWriter, r *http.Request) {
	last, err := d.latest(r.Context())
	if err != nil {
		http.Error(w, notify.Message(err), server.Status(err))
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	var b []byte
	for _, n := range last {
		b = append(notify.AppendJSON(b, n, 0, notify.FieldsAll), '\n')
	}
	w.Write(b)
}

//go:embed admin.html
var adminPage string

var adminTemplate = template.Must(template.New("admin").Parse(adminPage))

// overview is for people.
func (d *admin) overview(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	all, err := d.followers(ctx)
	last, err2 := d.latest(ctx)
	type event struct{ Time, Seq, Type, Path, ID string }
	page := struct {
		Version, Words, Problem string
		Clients                 []follower
		Count, Hidden           int
		Events                  []event
	}{Version: version(), Words: d.e.words(), Count: len(all), Hidden: max(len(all)-shownStreams, 0), Clients: all[:min(len(all), shownStreams)]}
	if err := errors.Join(err, err2); err != nil {
		page.Problem = notify.Message(err)
	}
	for _, n := range last {
		page.Events = append(page.Events, event{n.Seq.Batch().Time().UTC().Format("15:04:05.000"), fmt.Sprint(uint64(n.Seq)), n.Type.String(), printable(n.Path, true), n.Spine[len(n.Spine)-1].String()})
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := adminTemplate.Execute(w, page); err != nil {
		return // the client left
	}
}

// Ago is since when it is there.
func (c follower) Ago() string {
	return strings.TrimSpace(humanize.RelTime(c.Since, time.Now(), "", ""))
}

// Behind is how far it is behind.
func (c follower) Behind() string {
	return (time.Duration(c.BehindMillis) * time.Millisecond).String()
}

// Asks is its filter, and whatever else narrows or widens what it is told.
func (c follower) Asks() string {
	words := slices.Clone(c.Filter)
	if c.Filter == nil {
		words = []string{"all"}
	}
	for _, g := range c.Include {
		words = append(words, "include="+printable(g, false))
	}
	for _, g := range c.Exclude {
		words = append(words, "exclude="+printable(g, false))
	}
	if c.Fields != "" {
		words = append(words, "fields="+c.Fields)
	}
	return strings.Join(words, " ")
}

// checkAdmin finds what is wrong with --admin-listen.
func checkAdmin(listen string) error {
	host, port, err := splitAddress("--admin-listen", listen, "127.0.0.1:6060")
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return misused("--admin-listen %s: profiles and names of all files are for this machine only: listen at 127.0.0.1:%s", listen, port)
	}
	return nil
}
