package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"fs_notify/notify"
	"fs_notify/server/access"
)

// Files is what the protocols ask of the watched trees. *watch.Watcher has it.
// All methods may be called from any goroutine; none of them waits for a client.
type Files interface {
	// Roots lists the roots in the order of their names, with their state now. It takes the longer the more is degraded.
	Roots() []notify.RootState
	// States is Roots without Degraded and DegradedCount, and takes no time.
	States() []notify.RootState
	// LookupPath finds an entry by the absolute path under which it is served ("/srv/data/a"). A path outside every
	// root, one that does not exist and one that leads through a symlink or ".." are NotFound;
	// a root that is away or not yet indexed as far as needed is Unavailable. An entry that exists on disk and is not yet in the
	// tree is waited for (at most a second or two).
	LookupPath(ctx context.Context, path string) (notify.Entry, error)
	// LookupID finds an entry by its file ID; of several names of one object, the first known.
	LookupID(ctx context.Context, id notify.FileID) (notify.Entry, error)
	// LookupNames finds all names of the object with a file ID, the one that LookupID gives first. With an error that is Unavailable come
	// those that it had: whoever may not see them is told nothing of it.
	LookupNames(ctx context.Context, id notify.FileID) ([]notify.Entry, error)
	// Snapshot copies the entries below a directory as of one Seq, parents first, the directory itself as Entries[0]
	// (paths and spines start at the root). Not recursive: the direct children only. NotDirectory if id is something else.
	Snapshot(ctx context.Context, dir notify.FileID, recursive bool) (*notify.Snapshot, error)
	// Children counts the entries of a directory, without waiting for anything. NotDirectory if id is something else.
	Children(ctx context.Context, dir notify.FileID) (int, error)
	// Stat looks at the disk, not at the tree: the entry's attributes as they are now.
	Stat(ctx context.Context, id notify.FileID) (notify.Entry, error)
	// UserXattrs reads the extended attributes of an entry from the disk: those of the user namespace, by name without "user.". A value is nil if
	// it cannot be read, or if with it there were more than 256 KiB. Symlinks, and file systems without such attributes, have none.
	UserXattrs(ctx context.Context, id notify.FileID) (map[string][]byte, error)
}

// guarded is Files for those who see only what the grant in the context lets them: what else there is, is NotFound in the same words as what is
// not there. All protocols get this one. Roots has no context: it lists all, for the protocols to tell of those that the grant touches. They ask for it
// at each look-up, and get States.
type guarded struct {
	Files
	log   *slog.Logger
	told  access.Limiter // of log lines, by name
	names sync.Map       // FileID to served name, of roots: neither changes while the program runs
}

func (f *guarded) Roots() []notify.RootState { return f.Files.States() }

// full gives the absolute path under which an entry is served.
func (f *guarded) full(e *notify.Entry) (string, bool) {
	name, ok := f.names.Load(e.Root)
	if !ok {
		for _, r := range f.Files.States() {
			if r.ID == e.Root && r.ID != 0 {
				name, ok = r.Name, true
				f.names.Store(r.ID, r.Name)
			}
		}
	}
	if !ok {
		return "", false
	}
	if e.Path == "" {
		return name.(string), true
	}
	return strings.TrimSuffix(name.(string), "/") + "/" + e.Path, true
}

func (f *guarded) sees(g *notify.Grant, e *notify.Entry) bool {
	path, ok := f.full(e)
	return ok && g.Sees(path)
}

// tell logs that somebody asked for what is not theirs to see; as a line of the level info only so often, since a protocol may have its reasons to ask.
func (f *guarded) tell(ctx context.Context, g *notify.Grant, what string, value any) {
	level := slog.LevelInfo
	if _, ok := f.told.Take(g.Name, time.Now()); !ok {
		level = slog.LevelDebug
	}
	f.log.Log(ctx, level, "asked for what may not be seen", "name", g.Name, what, value)
}

func (f *guarded) LookupPath(ctx context.Context, path string) (notify.Entry, error) {
	g := notify.GrantOf(ctx)
	if g.Prefixes == nil {
		return f.Files.LookupPath(ctx, path)
	}
	none := func(err error) (notify.Entry, error) {
		return notify.Entry{}, &notify.Error{Op: "server.LookupPath", Path: path, Kind: notify.NotFound, Err: err,
			Msg: "there is no entry " + notify.EscapeName(path) + " below any root"}
	}
	if !g.Sees(path) {
		f.tell(ctx, g, "path", notify.EscapeName(path))
		return none(nil)
	}
	e, err := f.Files.LookupPath(ctx, path)
	if errors.Is(err, notify.NotFound) || err == nil && !f.sees(g, &e) {
		return none(err)
	}
	return e, err
}

// LookupID gives, of several names, the first one that may be seen.
func (f *guarded) LookupID(ctx context.Context, id notify.FileID) (notify.Entry, error) {
	if notify.GrantOf(ctx).Prefixes == nil {
		return f.Files.LookupID(ctx, id)
	}
	names, err := f.LookupNames(ctx, id)
	if err != nil {
		return notify.Entry{}, err
	}
	return names[0], nil
}

func (f *guarded) LookupNames(ctx context.Context, id notify.FileID) ([]notify.Entry, error) {
	names, err := f.Files.LookupNames(ctx, id)
	g := notify.GrantOf(ctx)
	if g.Prefixes == nil {
		return names, err
	}
	var seen []notify.Entry
	for i := range names {
		if f.sees(g, &names[i]) {
			seen = append(seen, names[i])
		}
	}
	if len(names) > 0 && len(seen) == 0 {
		f.tell(ctx, g, "id", id)
	}
	if len(seen) == 0 && (err == nil || errors.Is(err, notify.Unavailable)) || errors.Is(err, notify.NotFound) {
		return nil, absent(id, err)
	}
	return seen, err
}

func (f *guarded) Snapshot(ctx context.Context, dir notify.FileID, recursive bool) (*notify.Snapshot, error) {
	if _, err := f.LookupID(ctx, dir); err != nil {
		return nil, err
	}
	snap, err := f.Files.Snapshot(ctx, dir, recursive)
	if err == nil && notify.GrantOf(ctx).Prefixes != nil && !f.sees(notify.GrantOf(ctx), &snap.Entries[0]) {
		_, err = f.LookupID(ctx, dir) // it was moved meanwhile
		if err == nil {
			err = &notify.Error{Op: "server.Snapshot", Kind: notify.Unavailable}
		}
	}
	if err != nil {
		return nil, err
	}
	return snap, nil
}

func (f *guarded) Children(ctx context.Context, dir notify.FileID) (int, error) {
	if _, err := f.LookupID(ctx, dir); err != nil {
		return 0, err
	}
	n, err := f.Files.Children(ctx, dir)
	if errors.Is(err, notify.NotFound) {
		return 0, absent(dir, err)
	}
	return n, err
}

func (f *guarded) Stat(ctx context.Context, id notify.FileID) (notify.Entry, error) {
	if notify.GrantOf(ctx).Prefixes == nil {
		return f.Files.Stat(ctx, id)
	}
	if _, err := f.LookupID(ctx, id); err != nil {
		return notify.Entry{}, err
	}
	at, err := f.Files.Stat(ctx, id)
	if errors.Is(err, notify.NotFound) { // in words that may name another path
		return notify.Entry{}, absent(id, err)
	}
	if err != nil {
		return notify.Entry{}, err
	}
	e, err := f.LookupID(ctx, id) // where it is now that the attributes were read
	e.Attr = at.Attr
	return e, err
}

func (f *guarded) UserXattrs(ctx context.Context, id notify.FileID) (map[string][]byte, error) {
	if _, err := f.LookupID(ctx, id); err != nil {
		return nil, err
	}
	x, err := f.Files.UserXattrs(ctx, id)
	if errors.Is(err, notify.NotFound) { // in words that may name another path
		return nil, absent(id, err)
	}
	return x, err
}

func absent(id notify.FileID, err error) error {
	return &notify.Error{Op: "server.LookupID", Kind: notify.NotFound, Err: err, Msg: fmt.Sprintf("there is no entry with ID %s below any root", id)}
}
