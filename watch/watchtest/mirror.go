// Package watchtest tests sources and the tree behind them on real file systems: a mirror that knows nothing but the
// stream, scripts that say what an operation has to yield, and loads. It is for tests only.
package watchtest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"fs_notify/notify"
)

// Mirror is a consumer that knows only the stream of one root. It folds batches into a tree and
// finds fault with every notification that is not valid at its step.
type Mirror struct {
	mu     sync.Mutex
	root   *mirrorNode
	limbo  map[notify.FileID]*mirrorNode // moved_from told, moved_to not yet
	linked map[notify.FileID]bool        // of those, the ones whose link promises a moved_to
	faults []string
	notes  int
}

type mirrorNode struct {
	id       notify.FileID
	dir      bool
	children map[string]*mirrorNode // nil for files
}

func newNode(id notify.FileID, dir bool) *mirrorNode {
	n := &mirrorNode{id: id, dir: dir}
	if dir {
		n.children = make(map[string]*mirrorNode)
	}
	return n
}

// NewMirror starts from a snapshot of the root.
func NewMirror(s *notify.Snapshot) *Mirror {
	m := &Mirror{root: newNode(s.Entries[0].ID(), true), limbo: make(map[notify.FileID]*mirrorNode), linked: make(map[notify.FileID]bool)}
	for i := range s.Entries[1:] {
		e := &s.Entries[i+1]
		m.add("snapshot", e.Path, e.Spine, e.Attr.IsDir())
	}
	return m
}

func (m *Mirror) fault(format string, args ...any) {
	if len(m.faults) < 20 {
		m.faults = append(m.faults, fmt.Sprintf(format, args...))
	}
}

// Faults are the first invalid steps that were seen.
func (m *Mirror) Faults() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.faults)
}

// Notes is how many notifications were folded.
func (m *Mirror) Notes() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.notes
}

// dirOf walks to the directory that holds path and checks the spine on the way.
func (m *Mirror) dirOf(what, path string, spine notify.Spine) (*mirrorNode, string) {
	parts := strings.Split(path, "/")
	if len(spine) != len(parts)+1 {
		m.fault("%s %q: spine %v is not one longer than the path", what, path, spine)
		return nil, ""
	}
	at := m.root
	for i, p := range parts[:len(parts)-1] {
		if at.id != spine[i] {
			m.fault("%s %q: spine has %d where the mirror has %d", what, path, spine[i], at.id)
		}
		next := at.children[p]
		if next == nil || !next.dir {
			m.fault("%s %q: the mirror has no directory %q there", what, path, p)
			return nil, ""
		}
		at = next
	}
	if at.id != spine[len(parts)-1] {
		m.fault("%s %q: spine has %d where the mirror has %d", what, path, spine[len(parts)-1], at.id)
	}
	return at, parts[len(parts)-1]
}

func (m *Mirror) add(what, path string, spine notify.Spine, dir bool) {
	d, name := m.dirOf(what, path, spine)
	if d == nil {
		return
	}
	if old := d.children[name]; old != nil {
		m.fault("%s %q: the mirror has it already, with ID %d", what, path, old.id)
	}
	d.children[name] = newNode(spine[len(spine)-1], dir)
}

func (m *Mirror) take(what, path string, spine notify.Spine, dir bool) *mirrorNode {
	d, name := m.dirOf(what, path, spine)
	if d == nil {
		return nil
	}
	n := d.children[name]
	if n == nil {
		m.fault("%s %q: the mirror has no such name", what, path)
		return nil
	}
	if n.id != spine[len(spine)-1] || n.dir != dir {
		m.fault("%s %q: ID %d, directory %v, but the mirror has %d, %v", what, path, spine[len(spine)-1], dir, n.id, n.dir)
	}
	delete(d.children, name)
	return n
}

// Fold takes the notifications of one batch.
func (m *Mirror) Fold(notes []notify.Notification) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range notes {
		n := &notes[i]
		m.notes++
		what := n.Type.String()
		switch n.Type {
		case notify.ChildFileAdded, notify.ChildDirAdded:
			m.add(what, n.Path, n.Spine, n.Type == notify.ChildDirAdded)
		case notify.ChildFileRemoved, notify.ChildDirRemoved:
			if x := m.take(what, n.Path, n.Spine, n.Type == notify.ChildDirRemoved); x != nil && len(x.children) > 0 {
				m.fault("%s %q: the mirror still has %d entries in it", what, n.Path, len(x.children))
			}
		case notify.ChildFileMovedFrom, notify.ChildDirMovedFrom:
			if x := m.take(what, n.Path, n.Spine, n.Type == notify.ChildDirMovedFrom); x != nil {
				if m.limbo[x.id] != nil && x.dir {
					m.fault("%s %q: it is under way already", what, n.Path)
				}
				m.limbo[x.id], m.linked[x.id] = x, n.Link != 0
			}
		case notify.ChildFileMovedTo, notify.ChildDirMovedTo:
			x := m.limbo[n.ID()]
			if x == nil && n.Link != 0 {
				m.fault("%s %q: linked, but no moved_from of %d is open", what, n.Path, n.ID())
			}
			if x != nil && n.Link == 0 {
				x = nil
			}
			delete(m.limbo, n.ID())
			d, name := m.dirOf(what, n.Path, n.Spine)
			if d == nil {
				continue
			}
			if old := d.children[name]; old != nil {
				m.fault("%s %q: the mirror has something there, with ID %d", what, n.Path, old.id)
			}
			if x == nil {
				x = newNode(n.ID(), n.Type == notify.ChildDirMovedTo)
			}
			d.children[name] = x
		case notify.SelfRemoved, notify.SelfRescanned:
		default:
			if n.Path == "" {
				continue
			}
			d, name := m.dirOf(what, n.Path, n.Spine)
			if d == nil {
				continue
			}
			if x := d.children[name]; x == nil || x.id != n.ID() {
				m.fault("%s %q: the mirror has no such entry", what, n.Path)
			}
		}
	}
	for id := range m.limbo {
		if m.linked[id] {
			m.fault("a batch ended between the halves of the rename of %d", id)
		}
		delete(m.limbo, id)
	}
}

// Listing is the mirror's tree: "path/ id" for a directory and "path id" for anything else.
func (m *Mirror) Listing() map[string]notify.FileID {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[string]notify.FileID)
	var walk func(*mirrorNode, string)
	walk = func(n *mirrorNode, prefix string) {
		for name, c := range n.children {
			if c.dir {
				out[prefix+name+"/"] = c.id
				walk(c, prefix+name+"/")
			} else {
				out[prefix+name] = c.id
			}
		}
	}
	walk(m.root, "")
	return out
}

// SnapshotListing gives a snapshot in the form of Listing.
func SnapshotListing(s *notify.Snapshot) map[string]notify.FileID {
	out := make(map[string]notify.FileID)
	for i := range s.Entries[1:] {
		e := &s.Entries[i+1]
		p := e.Path
		if e.Attr.IsDir() {
			p += "/"
		}
		out[p] = e.ID()
	}
	return out
}

// DiskListing walks a directory; the IDs are 0.
func DiskListing(dir string) (map[string]notify.FileID, error) {
	out := make(map[string]notify.FileID)
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		p := strings.TrimPrefix(path, dir+"/")
		if e.IsDir() {
			p += "/"
		}
		out[p] = 0
		return nil
	})
	return out, err
}

// Diff names the first differences between two listings; IDs count if both have them.
func Diff(aName string, a map[string]notify.FileID, bName string, b map[string]notify.FileID) (out []string) {
	for _, p := range slices.Sorted(maps.Keys(a)) {
		switch id, ok := b[p]; {
		case !ok:
			out = append(out, fmt.Sprintf("%q is in %s only", p, aName))
		case id != a[p] && id != 0 && a[p] != 0:
			out = append(out, fmt.Sprintf("%q has ID %d in %s and %d in %s", p, a[p], aName, id, bName))
		}
	}
	for _, p := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[p]; !ok {
			out = append(out, fmt.Sprintf("%q is in %s only", p, bName))
		}
	}
	if len(out) > 20 {
		out = append(out[:20], fmt.Sprintf("and %d more", len(out)-20))
	}
	return out
}
