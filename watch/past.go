package watch

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"fs_notify/notify"
)

// Past is what a journal remembers of the trees: their entries as they were last told. *journal.Journal has it.
type Past interface {
	// LoadTree calls each with every entry of a root as last told, the root itself not among them, and gives the note that was
	// stored with it. An error of kind NotFound or Corrupt: there is no tree that can be trusted, and
	// ResetTree has to follow.
	LoadTree(ctx context.Context, root notify.FileID, each PastEntry) (note []byte, at notify.BatchNumber, err error)
	// ResetTree begins the root anew with the entries that walk adds: cursors from before the number are gone. It returns
	// when that is durable. If it could not be stored, cursors are gone all the same, if it gives a number with the error.
	// instead are the roots that had its name before, as far as they are remembered: they are forgotten, and all cursors of before are gone.
	ResetTree(ctx context.Context, root notify.FileID, note []byte, walk func(add PastEntry) error, instead ...notify.FileID) (notify.BatchNumber, error)
	// AmendTree has amend look at every entry of a root as last told, and keeps it as amend has changed it if that is true, together with
	// another note: all of it, or nothing.
	AmendTree(ctx context.Context, root notify.FileID, note []byte, amend func(id notify.FileID, attr *notify.Attr) bool) error
}

// forgetter is a past that can say what it remembers, and forget it. *journal.Journal is one.
type forgetter interface {
	// TreeNotes gives the notes that are stored with the trees, by root.
	TreeNotes() map[notify.FileID][]byte
	// RootNotes gives the note of each root that is known, even if its tree was forgotten or is damaged; not of those that were replaced.
	RootNotes() map[notify.FileID][]byte
	// ForgetTree drops the tree of a root: should it come back, it begins anew.
	ForgetTree(root notify.FileID) error
}

// forgetOthers drops what is remembered of roots that are no longer served. It goes by the name under which they were: a root that is
// away is remembered, until another directory has its name.
func (w *Watcher) forgetOthers() {
	past, ok := w.cfg.Past.(forgetter)
	if !ok || !w.cfg.ForgetOthers {
		return
	}
	names := make(map[string]bool)
	for _, r := range w.cfg.Roots {
		names[r.Name] = true
	}
	for id, b := range past.TreeNotes() {
		var note pastNote
		if err := json.Unmarshal(b, &note); err != nil || note.Name == "" || names[note.Name] {
			continue
		}
		if err := past.ForgetTree(id); err != nil {
			w.log.Warn("what is remembered of a root that is no longer served could not be dropped: tried again at the next start", "root", note.Name, "err", err)
			continue
		}
		w.log.Info("root no longer served: what was remembered of it is dropped", "root", note.Name)
	}
}

// PastEntry takes an entry of a remembered tree: the directory that it is in, its name there, its ID and attributes.
type PastEntry = func(dir notify.FileID, name string, id notify.FileID, attr *notify.Attr) error

// pastNote is stored with a remembered tree: how its file IDs were made. If that changes, the IDs do.
type pastNote struct {
	Version int               `json:"version"`
	Name    string            `json:"name"`
	IDs     map[string]string `json:"ids"`            // by the place of the mount: "handle", ...
	Bare    bool              `json:"bare,omitempty"` // entries without extended attributes may have some
}

func noteOf(ri *rootInfo, m *mount, bare bool) []byte {
	b, _ := json.Marshal(pastNote{1, ri.Name, map[string]string{"": m.kind.String()}, bare})
	return b
}

// unreadFor is how old the oldest record may be that a process has not read, or not told of, when it ends.
const unreadFor = 10 * time.Minute

// restoreStep is how many entries are put into the tree before others may look at it.
const restoreStep = 4096

// restore fills the tree of a root with what was last told of it. It is false if nothing is remembered, or if ctx has ended.
func (w *Watcher) restore(ctx context.Context, ri *rootInfo, m *mount) bool {
	t, start := w.t, time.Now()
	if w.cfg.Past == nil || w.cfg.OneLevel {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	parent, parentID := ri.node, ri.id // nothing is moved or removed before the root is live
	corrupt := func(why string) error {
		return &notify.Error{Op: "watch.restore", Kind: notify.Corrupt, Msg: why}
	}
	note, _, err := w.cfg.Past.LoadTree(ctx, ri.id, func(dir notify.FileID, name string, id notify.FileID, a *notify.Attr) error {
		if dir == 0 {
			return nil // the root itself
		}
		if dir != parentID {
			if parent, parentID = t.s.byID(dir), dir; parent == 0 || !t.s.isDir(parent) {
				return corrupt("a remembered entry lies in no directory")
			}
		}
		if id == 0 || name == "" || len(name) > maxName || t.s.child(parent, name) != 0 {
			return corrupt("a remembered entry is not possible")
		}
		r := t.s.alloc(parent, name, id, a.IsDir())
		t.s.attach(r, parent, name)
		t.s.set(r, a)
		if a.IsDir() {
			t.s.dir(r).mount = m.index
		}
		if ri.indexed++; ri.indexed%restoreStep == 0 { // whoever asks meanwhile is told that the root is being indexed
			t.mu.Unlock()
			t.mu.Lock()
		}
		return nil
	})
	ri.bare = bytes.Equal(note, noteOf(ri, m, true))
	if err == nil && (ri.bare || bytes.Equal(note, noteOf(ri, m, false))) {
		ri.restored = true
		t.doubt = min(t.doubt, start.Add(-unreadFor).UnixNano(), w.cfg.Head.Time().Add(-unreadFor).UnixNano())
		if ri.bare {
			t.strip(ri)
		}
		w.log.Info("root remembered: what changed meanwhile is swept", "root", ri.Name, "entries", ri.indexed, "took", time.Since(start).Round(time.Millisecond).String())
		return true
	}
	if ctx.Err() == nil && (err == nil || notify.KindOf(err) != notify.NotFound) {
		w.log.Warn("what was remembered of the root cannot be used: it is scanned anew, and older cursors are gone", "root", ri.Name, "err", err)
	}
	ri.indexed, ri.bare = 0, false
	for _, c := range t.s.childList(ri.node) {
		t.discard(c)
	}
	t.s.recycle()
	return false
}

// strip notes of the entries of a root that have no extended attributes that these are unread. They are read behind the sweep.
func (t *tree) strip(ri *rootInfo) {
	for r := ref(1); uint32(r) < t.s.nodes.n; r++ {
		if n := t.s.node(r); n.x == 0 && n.parent != 0 && t.s.rootOf(r) == ri.node {
			t.s.leaveX(r)
		}
	}
}

// discard takes an entry and all below it out of the tree; nobody was told of them.
func (t *tree) discard(r ref) {
	if t.s.isDir(r) {
		for _, c := range t.s.childList(r) {
			t.discard(c)
		}
		t.drop(r)
	}
	t.s.detach(r)
	t.s.release(r)
}

// recorder hands a first scan to the past while it goes on.
type recorder struct {
	chunks chan []pastItem
	done   chan error
}

type pastItem struct {
	dir  notify.FileID
	name string
	id   notify.FileID
	attr notify.Attr
}

// replaced lists the roots that had the name of this one before.
func (w *Watcher) replaced(ri *rootInfo) (roots []notify.FileID) {
	past, ok := w.cfg.Past.(forgetter)
	if !ok {
		return nil
	}
	for id, b := range past.RootNotes() {
		var note pastNote
		if err := json.Unmarshal(b, &note); err == nil && note.Name == ri.Name && id != ri.id {
			roots = append(roots, id)
		}
	}
	return roots
}

// record starts the goroutine that stores the scan; finish ends it. nil: nothing is to be stored.
func (w *Watcher) record(ctx context.Context, ri *rootInfo, m *mount) *recorder {
	if w.cfg.Past == nil || w.cfg.OneLevel {
		return nil
	}
	rec := &recorder{chunks: make(chan []pastItem, 16), done: make(chan error, 1)}
	id, note, instead := ri.id, noteOf(ri, m, ri.bare), w.replaced(ri)
	if len(instead) > 0 {
		w.log.Warn("another directory has the name of the root: it is scanned anew, and older cursors are gone", "root", ri.Name, "dir", ri.Dir)
	}
	go func() {
		number, err := w.cfg.Past.ResetTree(ctx, id, note, func(add PastEntry) error {
			for chunk := range rec.chunks {
				for i := range chunk {
					if err := add(chunk[i].dir, chunk[i].name, chunk[i].id, &chunk[i].attr); err != nil {
						return err
					}
				}
			}
			return ctx.Err() // a scan that was cut short is none
		}, instead...)
		for range rec.chunks { // the scan must not wait for who has given up
		}
		if number != 0 { // what is older is gone, be the tree stored or not
			w.out.begin(number)
		}
		rec.done <- err
	}()
	return rec
}

func (rec *recorder) add(entries []pastItem) {
	if rec != nil && len(entries) > 0 {
		rec.chunks <- entries
	}
}

func (rec *recorder) finish() error {
	if rec == nil {
		return nil
	}
	close(rec.chunks)
	return <-rec.done
}
