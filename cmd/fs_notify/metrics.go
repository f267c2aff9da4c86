package main

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"fs_notify/notify"
	"fs_notify/server"
	"fs_notify/watch"
)

// metrics are what /metrics tells. Two ways lead there: what the packages below count themselves is read when somebody
// asks (collect), and what only passes by here is counted as it passes. No label holds a path, a name, or anything else
// that a client chose. The names are listed in docs/operations.md.
type metrics struct {
	registry *prometheus.Registry

	// Of batches, as they are appended.
	types  [notify.NumTypes]prometheus.Counter
	sizes  prometheus.Observer
	append prometheus.Observer

	// Of streams and requests; metrics is a server.Metrics.
	opened, closed, notifications, bytes *prometheus.CounterVec
	requests                             *prometheus.CounterVec
	took                                 *prometheus.HistogramVec

	// protocols has the counters of each protocol that was heard of. Who sends looks there without lock or allocation.
	protocols atomic.Pointer[map[string]*protocolMetrics]
	growing   sync.Mutex
}

// protocolMetrics are the counters that move with what is sent.
type protocolMetrics struct{ opened, notifications, bytes prometheus.Counter }

const metricsPrefix = "fs_notify_"

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: metricsPrefix + name, Help: help}, labels)
		m.registry.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: metricsPrefix + name, Help: help, Buckets: buckets}, labels)
		m.registry.MustRegister(h)
		return h
	}
	types := counter("notifications_total", "Notifications appended to the journal, by type.", "type")
	for t := range m.types {
		m.types[t] = types.WithLabelValues(notify.Type(t).String())
	}
	m.sizes = histogram("batch_notifications", "Notifications in a batch.", prometheus.ExponentialBuckets(1, 4, 7)).WithLabelValues()
	m.append = histogram("journal_append_duration_seconds", "Time to append one batch, with the sync to disk where there is a state directory.",
		prometheus.ExponentialBuckets(25e-6, 4, 9)).WithLabelValues()

	m.opened = counter("streams_opened_total", "Streams that were begun.", "protocol")
	m.closed = counter("streams_closed_total", "Streams that have ended, by reason: stalled is a client that took nothing and was disconnected.", "protocol", "reason")
	m.notifications = counter("delivered_notifications_total", "Notifications written to clients.", "protocol")
	m.bytes = counter("delivered_bytes_total", "Bytes of notifications written to clients.", "protocol")
	m.requests = counter("http_requests_total", "Requests answered, by route and status; a stream counts when it begins.", "route", "code")
	m.took = histogram("http_request_duration_seconds", "Time to answer a request; to begin, for a stream.", prometheus.ExponentialBuckets(0.001, 4, 8), "route")
	m.protocols.Store(&map[string]*protocolMetrics{})

	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: metricsPrefix + "build_info", Help: "1; which program this is."}, []string{"version", "goversion"})
	build.WithLabelValues(versionNumber(), runtime.Version()).Set(1)
	m.registry.MustRegister(build)
	return m
}

// handler answers GET /metrics. An answer is made as a whole before it is sent: a client that does not read it keeps no other from theirs.
func (m *metrics) handler() http.Handler {
	h := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		made := &madeAnswer{ResponseWriter: w, status: http.StatusOK}
		h.ServeHTTP(made, r)
		w.WriteHeader(made.status)
		_, _ = w.Write(made.body.Bytes()) // to whoever is still there
	})
}

// madeAnswer holds an answer back, but for its header.
type madeAnswer struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (m *madeAnswer) WriteHeader(status int)            { m.status = status }
func (m *madeAnswer) Write(b []byte) (n int, err error) { return m.body.Write(b) }

// Request is part of server.Metrics.
func (m *metrics) Request(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.took.WithLabelValues(route).Observe(took.Seconds())
}

// StreamOpened is part of server.Metrics.
func (m *metrics) StreamOpened(protocol string) { m.of(protocol).opened.Inc() }

// StreamSent is part of server.Metrics. It is called for each write to a client.
func (m *metrics) StreamSent(protocol string, notifications, bytes int) {
	p := m.of(protocol)
	p.notifications.Add(float64(notifications))
	p.bytes.Add(float64(bytes))
}

// StreamClosed is part of server.Metrics.
func (m *metrics) StreamClosed(protocol, reason string) {
	m.closed.WithLabelValues(protocol, reason).Inc()
}

// of finds the counters of a protocol.
func (m *metrics) of(protocol string) *protocolMetrics {
	if p := (*m.protocols.Load())[protocol]; p != nil {
		return p
	}
	m.growing.Lock()
	defer m.growing.Unlock()
	known := *m.protocols.Load()
	if p := known[protocol]; p != nil {
		return p
	}
	p := &protocolMetrics{m.opened.WithLabelValues(protocol), m.notifications.WithLabelValues(protocol), m.bytes.WithLabelValues(protocol)}
	more := maps.Clone(known)
	more[protocol] = p
	m.protocols.Store(&more)
	return p
}

// sink counts what is appended to s.
func (m *metrics) sink(s watch.Sink) watch.Sink { return &countingSink{s, m} }

type countingSink struct {
	watch.Sink
	m *metrics
}

// Append is part of watch.Sink.
func (s *countingSink) Append(ctx context.Context, root notify.FileID, notes []notify.Notification) (notify.BatchNumber, error) {
	var types [notify.NumTypes]int
	for i := range notes {
		types[notes[i].Type]++
	}
	size, start := len(notes), time.Now() // notes are the sink's from here on
	number, err := s.Sink.Append(ctx, root, notes)
	if err != nil {
		return number, err
	}
	s.m.append.Observe(time.Since(start).Seconds())
	s.m.sizes.Observe(float64(size))
	for t, n := range types {
		if n > 0 {
			s.m.types[t].Add(float64(n))
		}
	}
	return number, nil
}

// collect has the metrics of an engine, and of the server of it, read when they are asked for.
func (m *metrics) collect(e *engine, srv *server.Server) {
	c := &collector{e: e, srv: srv}
	c.register(m.registry)
}

// collector reads what is counted elsewhere.
type collector struct {
	e     *engine
	srv   *server.Server
	descs map[string]*prometheus.Desc
}

// described is all that a collector gives.
var described = []struct{ name, help, label string }{
	{"kernel_records_total", "Records that the source gave: what the kernel said.", ""},
	{"kernel_overflows_total", "Overflows of the kernel's queue; each costs a sweep.", ""},
	{"sweep_duration_seconds", "Full sweeps that have ended, and how long they took.", ""},
	{"looks_total", "Looks at names on the disk.", ""},
	{"unread_entries", "Entries whose extended attributes the first scan has left, and which are still to be read.", ""},
	{"dirty_names", "Names that wait to be looked at.", ""},
	{"append_backlog_bytes", "Weight of the notifications that wait to be appended.", ""},
	{"roots", "Roots, by phase: indexing, live, away.", "phase"},
	{"entries", "Entries in the trees.", ""},
	{"degraded_directories", "Directories that cannot be watched and are swept on a timer.", ""},
	{"indexing_progress_ratio", "How far the first scan of the roots is that are being indexed; 1 if none is.", ""},
	{"journal_up", "1 if the journal's disk takes what it is given, and 0 if notifications are kept in memory.", ""},
	{"journal_checkpoint_up", "1 if the checkpoint of the trees can follow the journal.", ""},
	{"journal_head_seq", "The newest position of the journal.", ""},
	{"journal_head_timestamp_seconds", "Time of the newest batch.", ""},
	{"journal_oldest_timestamp_seconds", "Time from which on batches are kept.", ""},
	{"journal_checkpoint_timestamp_seconds", "Time of the batch that the checkpoint of the trees is of.", ""},
	{"journal_disk_bytes", "Batches on disk.", ""},
	{"journal_memory_bytes", "Batches in memory.", ""},
	{"journal_sync_duration_seconds", "Time that the last append took on disk.", ""},
	{"journal_unsaved_batches", "Batches that the disk does not have yet.", ""},
	{"journal_lost_batches_total", "Batches that memory had to drop before the disk took them.", ""},
	{"streams", "Open streams: those that read from memory, and those behind it that read pages.", "state"},
	{"positions_lost_total", "Readers that went on behind a gap untold, as their protocol has no words for it.", ""},
	{"streams_lag_max_seconds", "Age of the oldest batch that some stream has still to examine.", ""},
}

func (c *collector) register(r *prometheus.Registry) {
	c.descs = make(map[string]*prometheus.Desc, len(described))
	for _, d := range described {
		var labels []string
		if d.label != "" {
			labels = []string{d.label}
		}
		c.descs[d.name] = prometheus.NewDesc(metricsPrefix+d.name, d.help, labels, nil)
	}
	r.MustRegister(c)
}

// Describe is part of prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
}

// Collect is part of prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	value := func(kind prometheus.ValueType, name string, v float64, label ...string) {
		out <- prometheus.MustNewConstMetric(c.descs[name], kind, v, label...)
	}
	gauge := func(name string, v float64, label ...string) { value(prometheus.GaugeValue, name, v, label...) }
	counter := func(name string, v int64) { value(prometheus.CounterValue, name, float64(v)) }
	when := func(name string, n notify.BatchNumber) {
		if n != 0 {
			gauge(name, float64(n.Time().UnixMilli())/1000)
		}
	}

	w := c.e.stats()
	counter("kernel_records_total", w.Records)
	counter("kernel_overflows_total", w.Overflows)
	out <- prometheus.MustNewConstSummary(c.descs["sweep_duration_seconds"], uint64(w.Sweeps), w.SweepTime.Seconds(), nil)
	counter("looks_total", w.Looks)
	gauge("unread_entries", float64(w.Unread))
	gauge("dirty_names", float64(w.Dirty))
	gauge("append_backlog_bytes", float64(w.Backlog))

	var phases [notify.Away + 1]int
	entries, degraded, progress := int64(0), 0, 1.0
	for _, r := range c.e.files.Roots() {
		phases[r.Phase]++
		entries += r.Entries
		degraded += r.DegradedCount
		if r.Phase == notify.Indexing {
			progress = min(progress, r.Progress)
		}
	}
	for p, n := range phases {
		gauge("roots", float64(n), notify.RootPhase(p).String())
	}
	gauge("entries", float64(entries))
	gauge("degraded_directories", float64(degraded))
	gauge("indexing_progress_ratio", progress)

	bounds := c.e.log.Bounds()
	gauge("journal_head_seq", float64(bounds.Newest()))
	when("journal_head_timestamp_seconds", bounds.Head)
	when("journal_oldest_timestamp_seconds", bounds.Base)
	if c.e.journal != nil {
		j := c.e.journal()
		gauge("journal_up", truth(j.Down.IsZero()))
		gauge("journal_checkpoint_up", truth(j.TreeErr == nil))
		when("journal_checkpoint_timestamp_seconds", j.Folded)
		gauge("journal_disk_bytes", float64(j.DiskBytes))
		gauge("journal_memory_bytes", float64(j.RingBytes))
		gauge("journal_sync_duration_seconds", j.SyncTime.Seconds())
		gauge("journal_unsaved_batches", float64(j.Unsaved))
		counter("journal_lost_batches_total", j.Lost)
	}

	open, behind := c.srv.Streams()
	gauge("streams", float64(max(open-behind, 0)), "live")
	gauge("streams", float64(behind), "behind")
	counter("positions_lost_total", c.srv.LostPositions())
	soon, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	gauge("streams_lag_max_seconds", c.srv.Lag(soon, time.Now()).Seconds())
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
