package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/client"
	"fs_notify/notify/feed"
	"fs_notify/watch"
)

// bookmark is how often the cursor file follows a stream in which nothing matches.
const bookmark = 15 * time.Second

// followHere watches dir in this process.
func (a *app) followHere(ctx context.Context, o *watchFlags, dir string, types notify.TypeSet, t *tap) error {
	c := engineConfig{
		roots: []watch.Root{{Name: dir, Dir: dir}}, watcher: o.watcher, stateDir: o.stateDir,
		oneLevel: !o.recursive && o.stateDir == "", // what is told between two runs takes a tree, and that is whole
		exclude:  append(t.ownFiles(dir), o.exclude...), log: slog.New(quiet{a.log.Handler()}),
	}
	if err := c.keepApart(); err != nil {
		return err
	}
	e, err := openEngine(c)
	if err != nil {
		return err
	}
	watching, stop := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := e.run(watching); err != nil {
			stop(err)
			return
		}
		stop(context.Canceled)
	}()
	err = a.readHere(watching, o, e, types, t)
	if cause := context.Cause(watching); cause != nil && (errors.Is(err, cause) || errors.Is(err, context.Canceled)) {
		err = cause
	}
	err = orderly(ctx, err)
	stop(nil)
	<-ended
	if e := e.close(); err == nil {
		err = e
	}
	return err
}

// readHere writes out what the engine finds. It returns nil when the directory is removed.
func (a *app) readHere(ctx context.Context, o *watchFlags, e *engine, types notify.TypeSet, t *tap) error {
	since, err := feed.ParseSince(o.since, time.Now())
	if err != nil {
		return err
	}
	if t.start.Seq != 0 {
		since = feed.Since{Kind: feed.SinceCursor, Cursor: t.start}
	}
	root, err := a.untilLive(ctx, e)
	if err != nil {
		return err
	}
	if o.stateDir != "" {
		// What happened since the last run is the past: it is told before the present, or silence, can begin.
		if err := e.sync(ctx); err != nil {
			return err
		}
	}
	if types.Has(notify.ChildFileClosed) && !root.Closes {
		return fmt.Errorf("child_file_closed is not possible here: the watcher %s cannot see it", root.Source)
	}
	if err := t.belongs(root.Dir, root.ID); err != nil {
		return err
	}
	f := feed.New(e.log, feed.Options{})
	scope, err := f.Scope(nil, o.include, nil) // what is excluded is not even watched
	if err != nil {
		return err
	}
	var snap *notify.Snapshot
	var after notify.Seq
	if since.Kind == feed.SinceSnapshot {
		if snap, err = e.files.Snapshot(ctx, root.ID, o.recursive); err == nil {
			after = snap.Seq
		}
	} else {
		after, err = f.Start(ctx, since)
	}
	if err != nil {
		return t.gone(err)
	}
	view := feed.View{Root: root.ID, Dir: root.ID, Recursive: o.recursive, Types: types, Scope: scope}
	var sub *feed.Sub
	if since.Kind == feed.SinceOldest {
		sub, err = f.SubscribeOldest(ctx, view)
	} else {
		sub, err = f.Subscribe(ctx, view, after)
	}
	if err != nil {
		return t.gone(err)
	}
	defer sub.Close()
	a.log.Info("watching", "directory", root.Dir, "watcher", root.Source)
	if err := t.watching(); err != nil {
		return err
	}
	if snap != nil {
		if err := t.takeSnapshot(ctx, snap, sub.View()); err != nil {
			return err
		}
	}
	if err := t.moved(sub.Cursor()); err != nil {
		return err
	}
	return t.gone(t.drain(ctx, sub, time.Duration(o.timeout)))
}

// untilLive waits until the directory is watched, and shows how far the first scan is.
func (a *app) untilLive(ctx context.Context, e *engine) (notify.RootState, error) {
	bar := a.newProgress()
	defer bar.stop()
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	for {
		root := e.rootState()
		if root.Phase == notify.Live {
			return root, nil
		}
		select {
		case <-e.ready:
			if root = e.rootState(); root.Phase != notify.Live {
				return root, fmt.Errorf("%s cannot be watched: it is not there any more, or cannot be read", root.Dir)
			}
			return root, nil
		case <-tick.C:
			bar.show(root.Dir, 100*root.Progress, root.Indexed)
		case <-ctx.Done():
			return root, context.Cause(ctx)
		}
	}
}

// drain writes what the subscription sees until it ends, or the idle time is over.
func (t *tap) drain(ctx context.Context, sub *feed.Sub, timeout time.Duration) error {
	last := time.Now()
	for {
		wait := bookmark
		if timeout > 0 {
			wait = min(wait, max(timeout-time.Since(last), time.Millisecond))
		}
		part, err := sub.Next(ctx, wait)
		switch {
		case errors.Is(err, feed.ErrIdle):
			if err := t.moved(sub.Cursor()); err != nil {
				return err
			}
			if timeout > 0 && time.Since(last) >= timeout {
				return client.ErrIdle
			}
			continue
		case errors.Is(err, feed.ErrEnded):
			return nil
		case err != nil:
			return err
		}
		for hits := part.Hits; len(hits) > 0; {
			n := feed.Together(hits)
			records := make([]record, n)
			for i, h := range hits[:n] {
				records[i] = t.record(h.Note, h.At)
			}
			hits = hits[n:]
			if err := t.take(records, sub.Cursor().Dir); err != nil {
				return err
			}
		}
		if err := t.moved(sub.Cursor()); err != nil {
			return err
		}
		last = time.Now()
		if part.End {
			t.a.log.Info("the watched directory was removed")
			return nil
		}
	}
}

// record shows n as it is seen from element at of its spine.
func (t *tap) record(n *notify.Notification, at int) record {
	seen := *n
	seen.Path, seen.Spine = n.PathFrom(at), n.Spine[at:]
	return record{note: &seen, json: notify.AppendJSON(nil, n, at, t.fields)}
}

// takeSnapshot writes what is there as if it had just been added.
func (t *tap) takeSnapshot(ctx context.Context, snap *notify.Snapshot, v feed.View) error {
	at := len(snap.Entries[0].Spine) - 1
	var records []record
	for i, e := range snap.Entries[1:] {
		n := &notify.Notification{Seq: snap.Seq, Type: notify.ChildFileAdded, Path: e.Path, Spine: e.Spine, Attr: e.Attr}
		if e.Attr.IsDir() {
			n.Type = notify.ChildDirAdded
		}
		if v.Types.Has(n.Type) && v.Scope.Lets(n.PathFrom(at), n.Attr.IsDir()) {
			records = append(records, t.record(n, at))
		}
		if len(records) == 0 || len(records) < 1000 && i < len(snap.Entries)-2 {
			continue
		}
		if err := t.take(records, 0); err != nil {
			return err
		}
		records = records[:0]
		if ctx.Err() != nil {
			t.takeBack() // half a snapshot: the next run begins with a whole one
			return context.Cause(ctx)
		}
	}
	if len(records) > 0 {
		return t.take(records, 0)
	}
	return nil
}

// quiet passes on what the packages below log only from warnings on, unless debugging is asked for.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	if l < slog.LevelWarn {
		l = slog.LevelDebug
	}
	return q.Handler.Enabled(ctx, l)
}
func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }
func (q quiet) WithGroup(name string) slog.Handler       { return quiet{q.Handler.WithGroup(name)} }
