package watch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"fs_notify/notify"
)

// barrierRef is the DirRef of the private directory.
const barrierRef DirRef = 1<<32 - 1

// barrier is a private directory in the queue of the source: a file made there comes out behind all that
// happened before it.
type barrier struct {
	mu      sync.Mutex
	private // without dir: closed, or not open yet
	polled  bool
	lost    atomic.Bool // its watch has ended
	next    uint64
	waiting map[uint64]*barrierWait
}

type barrierWait struct {
	met   bool // its record has come and the names before it were looked at
	late  bool // modification times that are told later are waited for as well
	ended bool // the watcher has, before that
	done  chan struct{}
}

func (b *barrier) open(src Source) error {
	p, err := newPrivate("")
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = make(map[uint64]*barrierWait)
	err = watchPrivate(src, p.dir)
	if errors.Is(err, ErrPolled) {
		b.polled, err = true, nil
	}
	if err != nil {
		p.remove()
		return err
	}
	b.private = p
	return nil
}

func watchPrivate(src Source, dir string) error {
	fd, err := openRoot(dir)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	var a notify.Attr
	mnt, _, _ := new(looker).stat(fd, "", &a)
	return src.Watch(barrierRef, Place{FD: rawFD(fd), Path: dir, Mount: mnt, Private: true})
}

// mend watches the private directory again if its watch has ended: a source may have replaced its queue.
func (b *barrier) mend(src Source) {
	if b.lost.Swap(false) && watchPrivate(src, b.dir) != nil {
		b.lost.Store(true)
	}
}

func (b *barrier) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.remove()
	b.private = private{}
	for n, w := range b.waiting {
		w.ended = true
		close(w.done)
		delete(b.waiting, n)
	}
}

// forget ends a wait that nobody is interested in any more.
func (b *barrier) forget(n uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.waiting, n)
}

// pass takes barriers out of recs. What comes before one goes into the inbox first. Nothing else that happens in the private directory, where other processes look
// whether it is in use, says anything: what has come together stays together.
func (b *barrier) pass(recs []Record, in *inbox) []Record {
	from := 0
	for i := range recs {
		if recs[i].Dir != barrierRef {
			continue
		}
		if recs[i].Op&OpLost != 0 {
			b.lost.Store(true)
		}
		if recs[i].Op&OpCreate == 0 {
			continue
		}
		if n, err := strconv.ParseUint(string(recs[i].Name), 10, 64); err == nil {
			in.put(recs[from:i])
			from = i + 1
			in.ask(func(d *dirt) { d.barriers, d.echo = append(d.barriers, n), max(d.echo, n) })
		}
	}
	return recs[from:]
}

// echo sets a barrier that nobody waits for, and gives its number; 0: there can be none.
func (b *barrier) echo() uint64 {
	b.mu.Lock()
	if b.dir == "" || b.polled || b.lost.Load() {
		b.mu.Unlock()
		return 0
	}
	b.next++
	n, file := b.next, filepath.Join(b.dir, strconv.FormatUint(b.next, 10))
	b.mu.Unlock()
	f, err := os.Create(file)
	if err != nil {
		return 0
	}
	f.Close()
	os.Remove(file)
	return n
}

// barrier puts a barrier behind all that is in the box.
func (in *inbox) barrier(n uint64) {
	in.ask(func(d *dirt) { d.barriers = append(d.barriers, n) })
}

// pollNow asks for a look at everything that is not watched, with a barrier behind it.
func (in *inbox) pollNow(n uint64) {
	in.ask(func(d *dirt) { d.poll, d.barriers = true, append(d.barriers, n) })
}

// reached notes barriers whose names before were looked at.
func (b *barrier) reached(numbers []uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range numbers {
		if w := b.waiting[n]; w != nil {
			w.met = true
		}
	}
}

// release lets go who waits: decided says that no name is undecided, early that no time is left to be told.
func (b *barrier) release(decided, early bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for n, w := range b.waiting {
		if w.met && decided && (early || !w.late) {
			close(w.done)
			delete(b.waiting, n)
		}
	}
}

// Sync returns when all that happened on disk before the call is told, as far as the source can see it, and
// appended. It is how tests wait, and how a lookup finds what was made a moment ago.
func (w *Watcher) Sync(ctx context.Context) error { return w.sync(ctx, false) }

// Settle is Sync, and waits as well for the modification times of directories that are told once a second.
func (w *Watcher) Settle(ctx context.Context) error { return w.sync(ctx, true) }

func (w *Watcher) sync(ctx context.Context, late bool) error {
	select {
	case <-w.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	b := &w.barrier
	closed := &notify.Error{Op: "watch.Sync", Kind: notify.Closed}
	b.mu.Lock()
	if b.dir == "" {
		b.mu.Unlock()
		return closed
	}
	b.next++
	n := b.next
	wait := &barrierWait{late: late, done: make(chan struct{})}
	b.waiting[n] = wait
	file, polled := filepath.Join(b.dir, strconv.FormatUint(n, 10)), b.polled
	b.mu.Unlock()
	defer b.forget(n)
	if polled {
		w.in.pollNow(n)
	} else {
		if w.t.hasUnwatched.Load() { // before the record can come: it lets go who waits
			w.in.pollNow(0)
		}
		defer os.Remove(file)
		if err := touch(file); err != nil {
			return err
		}
	}
	// An overflow may have swallowed the record, or the reader is slow: another one is as good.
	retry := time.NewTicker(time.Second)
	defer retry.Stop()
	for {
		select {
		case <-wait.done:
			if wait.ended {
				return closed
			}
			_, err := w.out.seal().await(ctx)
			return err
		case <-retry.C:
			if polled || b.lost.Load() {
				w.in.barrier(n)
				continue
			}
			os.Remove(file)
			if err := touch(file); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// touch makes an empty file.
func touch(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return f.Close()
}
