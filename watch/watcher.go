package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"fs_notify/notify"
)

// Config says what a Watcher watches, and where its batches go.
type Config struct {
	Roots  []Root
	Source Source             // how the kernel is asked; Run closes it
	Sink   Sink               // where batches go
	Head   notify.BatchNumber // the newest batch in the sink at the start
	Past   Past               // what the sink remembers of the trees; nil: nothing, each start is the first
	// ForgetOthers: what Past remembers of roots that are not among Roots is dropped at the start.
	ForgetOthers bool
	Own          []string // directories and files of this host that are never told of: state, log
	Exclude      []string // doublestar globs of paths below a root that are never told of
	// OneLevel: only the names in the root itself, not those in its directories.
	OneLevel      bool
	SweepInterval time.Duration // between full sweeps, 0: 6 h
	PollInterval  time.Duration // between sweeps of what cannot be watched, 0: 5 s
	// BelieveFrom: from how many names on in one pass what a record says is taken for what is there, where a look could add nothing. 0: 16, where it pays.
	BelieveFrom int
	// ListNames: how many names that are found by listing directories are looked at before what else waits is. 0: as many as can be in 100 ms, 4096 at the least.
	ListNames int
	Logger    *slog.Logger // nil: slog.Default()
}

// Watcher watches directory trees. Its lookups may be called from any goroutine, Run once.
type Watcher struct {
	cfg   Config
	t     *tree
	in    *inbox
	out   *outbox
	log   *slog.Logger
	ready chan struct{} // closed when every root was scanned

	sweep     *sweep // under way
	sweepNext bool   // another one is asked for
	loss      bool   // and the reason is that records were lost
	pollDue   time.Time
	fullDue   time.Time
	restAfter time.Time                 // sweeps pause until then
	rested    time.Time                 // when the last pass ended, and the rest after it
	restUntil atomic.Pointer[time.Time] // the end of the newest rest, for the reader; nil: there was none

	amending  sync.WaitGroup // what is remembered
	barrier   barrier
	overflow  atomic.Int64
	records   atomic.Int64
	sweeps    atomic.Int64
	sweepTime atomic.Int64
	turns     atomic.Int64
}

// Stats are counters since the start, and what waits now.
type Stats struct {
	Records   int64         // that the source gave
	Overflows int64         // of the kernel's queue
	Sweeps    int64         // full ones that have ended
	SweepTime time.Duration // all of these took together
	Looks     int64         // at names on the disk
	Unread    int           // entries whose extended attributes are still to be read
	// Turns of the goroutine that works on the trees: one a second at least, unless it waits for the disk. Turns and
	// Looks together stand still only if it hangs.
	Turns   int64
	Dirty   int // names that wait to be looked at
	Backlog int // what waits to be appended, by Notification.Weight
}

// New checks the configuration. It starts nothing.
func New(cfg Config) (*Watcher, error) {
	bad := func(path, format string, args ...any) error {
		return &notify.Error{Op: "watch.New", Path: path, Kind: notify.Invalid, Msg: fmt.Sprintf(format, args...)}
	}
	if cfg.SweepInterval == 0 {
		cfg.SweepInterval = 6 * time.Hour
	}
	if cfg.PollInterval == 0 {
		cfg.PollInterval = 5 * time.Second
	}
	if cfg.BelieveFrom == 0 {
		cfg.BelieveFrom = believeFrom
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if len(cfg.Roots) == 0 {
		return nil, bad("", "there is no root: name at least one directory")
	}
	real := make([]string, len(cfg.Roots))
	cfg.Roots = slices.Clone(cfg.Roots)
	for i := range cfg.Roots {
		r := &cfg.Roots[i]
		if !filepath.IsAbs(r.Dir) {
			abs, err := filepath.Abs(r.Dir)
			if err != nil {
				return nil, bad(r.Dir, "%v", err)
			}
			r.Dir = abs
		}
		if r.Name == "" {
			r.Name = "/" + strings.TrimPrefix(filepath.ToSlash(filepath.Clean(r.Dir)), "/") // C:\data is served as /C:/data
		}
		if !strings.HasPrefix(r.Name, "/") {
			return nil, bad(r.Name, "the name of a root has to be an absolute path such as /media")
		}
		r.Dir, r.Name = filepath.Clean(r.Dir), path.Clean(r.Name)
		st, err := os.Stat(r.Dir)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil, &notify.Error{Op: "watch.New", Path: r.Dir, Kind: notify.NotFound, Msg: fmt.Sprintf("there is no directory %q", r.Dir)}
		case err != nil:
			return nil, bad(r.Dir, "%v", err)
		case !st.IsDir():
			return nil, &notify.Error{Op: "watch.New", Path: r.Dir, Kind: notify.NotDirectory, Msg: fmt.Sprintf("%q is not a directory; name the directory that it is in", r.Dir)}
		}
		if real[i], err = filepath.EvalSymlinks(r.Dir); err != nil {
			return nil, bad(r.Dir, "%v", err)
		}
		real[i] = filepath.ToSlash(real[i]) // Windows takes both, and what lies below is joined with slashes
		for k := range i {
			o := cfg.Roots[k]
			if inside(real[i], real[k]) || inside(real[k], real[i]) || inside(r.Name, o.Name) || inside(o.Name, r.Name) {
				return nil, bad(r.Dir, "the roots %q and %q lie one in the other: serve the outer one only", o.Name, r.Name)
			}
		}
	}
	for _, g := range cfg.Exclude {
		if !doublestar.ValidatePattern(g) {
			return nil, bad("", "%q is not a glob pattern: try one like '**/*.tmp' or '.git/**'", g)
		}
	}
	w := &Watcher{cfg: cfg, in: newInbox(time.Now), out: newOutbox(cfg.Head), log: cfg.Logger, ready: make(chan struct{})}
	w.t = newTree(cfg.Source, w.out, cfg.Logger, time.Now)
	w.t.oneLvl, w.t.believes, w.t.listNames = cfg.OneLevel, cfg.BelieveFrom, int64(cfg.ListNames)
	if cfg.ListNames == 0 {
		w.t.listNames, w.t.listTime = listNames, listTime
	}
	if len(cfg.Exclude) > 0 {
		w.t.exclude, w.t.placed = excluder(cfg.Exclude), slices.ContainsFunc(cfg.Exclude, placed)
	}
	for i, r := range cfg.Roots {
		r.Dir = real[i]
		w.t.roots = append(w.t.roots, &rootInfo{Root: r})
	}
	slices.SortFunc(w.t.roots, func(a, b *rootInfo) int { return strings.Compare(a.Name, b.Name) })
	return w, nil
}

// inside says whether path is dir or below it.
func inside(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir) && path[len(dir)] == '/'
}

// placed says whether what a glob matches depends on more than one name in the path: then what lies in a directory may begin or cease to be left out as
// that one, or one above it, is renamed.
func placed(glob string) bool {
	name := strings.TrimPrefix(strings.TrimSuffix(strings.TrimSuffix(glob, "/"), "/**"), "**/")
	return strings.Contains(name, "/") || strings.Contains(name, "**")
}

// excluder says what globs leave out. One that ends in a slash is like directories alone, and so is an alternative of one.
func excluder(globs []string) func(string, bool) bool {
	like := doublestar.MatchUnvalidated
	return func(path string, isDir bool) bool {
		return slices.ContainsFunc(globs, func(g string) bool {
			switch name, dirs := strings.CutSuffix(g, "/"); {
			case dirs:
				return isDir && like(name, path)
			case like(g, path):
				return true
			}
			return isDir && like(g, path+"/") && !like(g, path+"/\x00") // by its own slash, not as a name without a letter
		})
	}
}

// Ready is closed when the first scan of every root has ended.
func (w *Watcher) Ready() <-chan struct{} { return w.ready }

// Stats may be called at any time.
func (w *Watcher) Stats() Stats {
	return Stats{Records: w.records.Load(), Overflows: w.overflow.Load(), Sweeps: w.sweeps.Load(), SweepTime: time.Duration(w.sweepTime.Load()),
		Looks: w.t.looks.Load(), Unread: int(w.t.s.unread.Load()), Turns: w.turns.Load(), Dirty: w.in.names() + int(w.t.left.size.Load()), Backlog: w.out.backlog()}
}

// Run watches until ctx ends, which is no error, or until the source or the sink fails for good.
func (w *Watcher) Run(ctx context.Context) error {
	defer w.cfg.Source.Close()
	if err := w.barrier.open(w.cfg.Source); err != nil {
		return fmt.Errorf("watch: private directory: %w", err)
	}
	defer w.barrier.close()
	w.t.echo = w.barrier.echo
	own := append(slices.Clone(w.cfg.Own), w.barrier.dir)
	if p, ok := w.cfg.Source.(interface{ Private() []string }); ok {
		own = append(own, p.Private()...)
	}
	for _, dir := range own {
		w.t.disown(dir)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var reader, writer sync.WaitGroup
	writing, stopWriting := context.WithCancel(context.WithoutCancel(ctx))
	writer.Go(func() {
		if err := w.out.run(writing, w.cfg.Sink); err != nil {
			cancel(fmt.Errorf("watch: append: %w", err))
		}
	})
	reader.Go(func() {
		if err := w.read(ctx); err != nil {
			cancel(fmt.Errorf("watch: source %s: %w", w.cfg.Source.Name(), err))
		}
	})
	writer.Go(w.forgetOthers)
	w.work(ctx)
	w.amending.Wait()
	w.cfg.Source.Close()
	reader.Wait()
	stopWriting()
	writer.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// read drains the source into the inbox. It waits for nothing else, but if the source loses nothing, it rests while the tree does: it need
// not be woken every few milliseconds for what nobody looks at yet.
func (w *Watcher) read(ctx context.Context) error {
	recs := make([]Record, 4096)
	for {
		if end := w.restUntil.Load(); end != nil && w.cfg.Source.Caps().Exact {
			time.Sleep(time.Until(*end) - readAhead)
			w.restUntil.CompareAndSwap(end, nil)
		}
		n, _, err := w.cfg.Source.Next(ctx, recs)
		w.records.Add(int64(n))
		w.in.put(w.barrier.pass(recs[:n], w.in))
		runtime.Gosched() // the tree goes on in this thread, while another one is woken to wait for records
		switch {
		case err == nil:
		case errors.Is(err, ErrOverflow):
			w.overflow.Add(1)
			w.log.Warn("the kernel's queue overflowed: everything is swept", "source", w.cfg.Source.Name())
			w.in.ask(func(d *dirt) { d.sweep = true })
		case ctx.Err() != nil, errors.Is(err, ErrClosed):
			return nil
		default:
			return err
		}
	}
}

// work is the goroutine of the tree.
func (w *Watcher) work(ctx context.Context) {
	for _, ri := range w.t.roots {
		if err := w.scan(ctx, ri); err != nil && ctx.Err() == nil {
			w.log.Error("root not available", "root", ri.Name, "err", err)
		}
	}
	now := time.Now()
	if slices.ContainsFunc(w.t.roots, func(ri *rootInfo) bool { return ri.restored }) {
		w.ask(true)
	} else {
		w.becomeReady()
	}
	w.fullDue, w.pollDue = now.Add(w.cfg.SweepInterval), now.Add(w.cfg.PollInterval)
	defer w.t.ms.mounted.close()
	rootsDue := now.Add(time.Second)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		w.turns.Add(1)
		if full, changed := w.out.full(); full { // names only become dirty until the writer has caught up
			timer.Reset(time.Second)
			select {
			case <-changed:
			case <-timer.C:
			case <-ctx.Done():
			}
			continue
		}
		if now := time.Now(); !now.Before(rootsDue) {
			rootsDue = now.Add(time.Second)
			w.checkRoots(ctx)
			w.barrier.mend(w.cfg.Source)
		}
		if g := &w.t.digests; g.next != 0 && !time.Now().Before(g.due) {
			w.digestStep(ctx)
		}
		if d := w.next(); d != nil {
			start, names := time.Now(), len(d.names)
			w.pass(d)
			if rest := w.gather(start, names); rest > 0 {
				end := time.Now().Add(rest)
				w.restUntil.Store(&end)
				timer.Reset(rest)
				select {
				case <-timer.C:
				case <-ctx.Done():
				}
			}
			w.rested = time.Now()
			continue
		}
		timer.Reset(min(w.pause(), time.Until(rootsDue)))
		select {
		case <-w.in.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// Flow is passes over flowNames names or more, within flowGap of each other: the reader hands over once in srcPause. Then there is a rest
// after each.
const (
	flowNames = 16
	flowGap   = 4 * time.Millisecond
	flowRest  = 20 * time.Millisecond
	readAhead = time.Millisecond // of the end of a rest, what came in it is read
)

// gather is how long to rest after a pass over so many names that began at start. What comes meanwhile is looked at together, in directories that are
// opened once for all of it, and goes into one batch.
func (w *Watcher) gather(start time.Time, names int) time.Duration {
	if names < flowNames || !w.t.left.empty() || w.sweep != nil && !time.Now().Before(w.restAfter) { // each pass takes a step of that along
		return 0
	}
	if n := w.in.size(); n == 0 && start.Sub(w.rested) > flowGap || n >= passNames {
		return 0
	}
	return flowRest
}

// next collects what is to be looked at now; nil: nothing.
func (w *Watcher) next() *dirt {
	t, now := w.t, time.Now()
	d, drained := w.in.take()
	if d == nil && (!t.left.empty() || t.late.due(now) || t.checks.due(now) || t.carry != nil && !now.Before(t.carryDue)) {
		d = newDirt()
	}
	if d != nil && d.sweep {
		d.sweep = false
		w.ask(true)
	}
	if d != nil && d.poll {
		d.poll, w.pollDue = false, time.Time{}
	}
	if d != nil && d.lossy {
		d.lossy = false
		t.rescanned()
	}
	if w.sweep == nil {
		switch {
		case w.sweepNext:
			w.begin(&sweep{loss: w.loss})
			w.sweepNext, w.loss = false, false
		case now.After(w.fullDue):
			w.begin(&sweep{})
		case now.After(w.pollDue):
			w.pollDue = now.Add(w.cfg.PollInterval)
			if t.unwatched() {
				w.begin(&sweep{only: dirSwept})
			}
		}
	}
	if w.sweep != nil && !now.Before(w.restAfter) {
		step, names := newDirt(), 0
		if d != nil {
			names = len(d.names)
		}
		if w.sweepStep(step, names); !step.empty() || !w.unsettled(now) {
			w.sweep.stepped = true
			if d == nil {
				d = newDirt()
			}
			d.before(step)
		}
	}
	t.drained = drained
	if d != nil {
		t.left.take(d)
		t.drained = drained && t.left.empty()
		d.before(t.wake(d, now))
	}
	return d
}

func (w *Watcher) becomeReady() {
	select {
	case <-w.ready:
	default:
		close(w.ready)
	}
}

// pause is how long there is nothing to do unless a record comes.
func (w *Watcher) pause() time.Duration {
	now := time.Now()
	until := now.Add(time.Hour)
	earlier := func(t time.Time) {
		if t.Before(until) {
			until = t
		}
	}
	switch {
	case w.sweep == nil:
		earlier(w.fullDue)
		earlier(w.pollDue)
	case w.restAfter.After(now): // else it waits for what is carried
		earlier(w.restAfter)
	}
	if w.t.carry != nil {
		earlier(w.t.carryDue)
	}
	if w.t.digests.next != 0 {
		earlier(w.t.digests.due)
	}
	for _, d := range []*dueDirs{&w.t.late, &w.t.checks.dueDirs} {
		if !d.empty() {
			earlier(d.first)
		}
	}
	return max(until.Sub(now), 0)
}

// pass reconciles the tree with the disk at the dirty names, and ends the use of d.
func (w *Watcher) pass(d *dirt) {
	t := w.t
	start := time.Now()
	hold := w.sweep != nil && !w.sweep.ending
	t.echoed = max(t.echoed, d.echo)
	p := t.newPass(d, hold)
	p.swept = w.sweep != nil
	p.see()
	p.match()
	p.tell()
	waiting := p.settle() || !t.left.empty()
	if hold && w.sweep.only == 0 || !t.left.empty() { // other sweeps are short, and begin as often as patience ends
		t.heldTill = t.now()
	}
	t.room.give(p.order)
	if t.wantSweep {
		t.wantSweep = false
		w.ask(true)
	}
	for root, err := range p.away {
		w.away(t.rootInfo(root), err)
	}
	if w.sweep != nil && w.sweep.stepped {
		w.sweepStepped(start)
	}
	w.barrier.reached(d.barriers)
	w.in.give(d)
	w.barrier.release(!waiting && w.sweep == nil && !w.sweepNext && !w.pollDue.IsZero(), t.late.empty() && t.checks.empty())
}

// find walks a path down from a directory; 0: there is no such entry.
func (s *store) find(r ref, path string) ref {
	for path != "" && r != 0 {
		if !s.isDir(r) {
			return 0
		}
		name, rest, _ := strings.Cut(path, "/")
		r, path = s.child(r, name), rest
	}
	return r
}
