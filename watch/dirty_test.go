package watch

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"fs_notify/notify"
)

// Beyond the bounds names collapse into their directories, and these into one sweep. What has no name there is kept.
func TestInboxCollapses(t *testing.T) {
	in := newInbox(time.Now)
	in.most, in.dirs = 2*passNames, 50
	put := func(dirs int) {
		for i := range 4 * passNames {
			in.put([]Record{{Dir: DirRef(1 + i%dirs), Name: fmt.Appendf(nil, "f%d", i), Op: OpCreate, Cookie: uint32(i)}})
		}
	}
	in.put([]Record{{Dir: 77, Op: OpSelf}, {Dir: 88, Op: OpLost}})
	in.ask(func(d *dirt) { d.barriers = append(d.barriers, 1) })
	put(40)
	in.ask(func(d *dirt) { d.barriers = append(d.barriers, 2) })
	var all dirt
	for last := false; !last; {
		var d *dirt
		if d, last = in.take(); d != nil {
			if got := len(d.names); got > passNames+1 {
				t.Errorf("%d names in one piece", got)
			}
			all.before(d)
		}
	}
	if !slices.Equal(slices.Sorted(slices.Values(all.barriers)), []uint64{1, 2}) {
		t.Errorf("barriers: %v", all.barriers)
	}
	if _, ok := all.lost[88]; !ok || len(all.lists) != 40 || all.sweep {
		t.Errorf("lost %v, %d directories to be listed, sweep %v; want 88, 40, false", slices.Collect(maps.Keys(all.lost)), len(all.lists), all.sweep)
	}
	if !all.lossy {
		t.Error("that names were forgotten is not said")
	}
	if _, ok := all.find(place{77, ""}); !ok {
		t.Error("that a directory itself was changed is forgotten")
	}

	put(60)
	if d, _ := in.take(); d == nil || !d.sweep || len(d.lists) > 0 {
		t.Error("too many directories are not one sweep")
	}
}

// A name that is made and removed without end is one name. What the records said of it has its bounds, too.
func TestInboxOfOneName(t *testing.T) {
	in := newInbox(time.Now)
	in.most = 2 * passNames
	recs := []Record{{Dir: 1, Name: []byte("lock"), Op: OpCreate}, {Dir: 1, Name: []byte("lock"), Op: OpDelete}}
	for range 1 << 18 {
		in.put(recs)
	}
	moves := 0
	for _, d := range in.queue {
		moves += len(d.moves)
		if len(d.moves) > namesMoves*passNames {
			t.Errorf("%d records in one piece", len(d.moves))
		}
	}
	if most := namesMoves * (in.most + passNames); moves > most {
		t.Errorf("%d records are kept, %d are the most", moves, most)
	}
	if n := in.size(); n > in.most+passNames {
		t.Errorf("size is %d", n)
	}
}

// Names collapse in a watcher that is far behind all the time: the tree ends up as the disk is.
func TestTreeWithACollapsingInbox(t *testing.T) {
	for _, dirs := range []int{2, 1 << 17} {
		t.Run(fmt.Sprint(dirs), func(t *testing.T) {
			dir := t.TempDir()
			w, sink := start(t, dir, func(w *Watcher) { w.in.most, w.in.dirs = -1, dirs }) // at all times
			ctx := t.Context()
			for i := range 8 {
				d := filepath.Join(dir, fmt.Sprint("d", i))
				if err := os.Mkdir(d, 0o755); err != nil {
					t.Fatal(err)
				}
				for k := range 300 {
					if err := os.WriteFile(filepath.Join(d, fmt.Sprint(k)), nil, 0o644); err != nil {
						t.Fatal(err)
					}
					if k%3 == 0 {
						os.Rename(filepath.Join(d, fmt.Sprint(k)), filepath.Join(dir, fmt.Sprint(i, "-", k)))
					}
				}
				if err := os.Chmod(d, 0o700); err != nil {
					t.Fatal(err)
				}
				if i%2 == 1 {
					os.Rename(d, filepath.Join(dir, "d0", fmt.Sprint("m", i)))
				}
			}
			if err := w.Sync(ctx); err != nil {
				t.Fatal(err)
			}
			snap, err := w.Snapshot(ctx, w.Roots()[0].ID, true)
			if err != nil {
				t.Fatal(err)
			}
			tree, disk := make(map[string]uint32), make(map[string]uint32)
			for _, e := range snap.Entries[1:] {
				tree[e.Path] = e.Attr.Perm()
			}
			filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
				if rel, _ := filepath.Rel(dir, path); err == nil && rel != "." {
					st, err := e.Info()
					if err != nil {
						return err
					}
					disk[rel] = uint32(st.Mode().Perm())
				}
				return err
			})
			if !maps.Equal(tree, disk) {
				t.Errorf("the tree has %d entries, the disk %d, or a mode differs", len(tree), len(disk))
			}
			if !slices.ContainsFunc(sink.take(), func(n notify.Notification) bool { return n.Type == notify.SelfRescanned }) {
				t.Error("that closes may be missing is not told")
			}
		})
	}
}

// A sweep that is asked for while one is under way comes once, behind it; and sweeps leave half of the time to others.
func TestSweepsDoNotChaseEachOther(t *testing.T) {
	dir := t.TempDir()
	for i := range 300 {
		if err := os.Mkdir(filepath.Join(dir, fmt.Sprint(i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w, err := New(Config{Roots: []Root{{Name: "/root", Dir: dir}}, Source: NewPoll(), Sink: &memSink{}, PollInterval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.barrier.open(w.cfg.Source); err != nil {
		t.Fatal(err)
	}
	defer w.barrier.close()
	if err := w.scan(t.Context(), w.t.roots[0]); err != nil {
		t.Fatal(err)
	}
	w.becomeReady()
	w.fullDue, w.pollDue = time.Now().Add(time.Hour), time.Now().Add(time.Hour)
	overflow := func() { w.in.ask(func(d *dirt) { d.sweep = true }) }
	overflow()
	during := 0
	for begin := time.Now(); w.Stats().Sweeps < 2 && time.Since(begin) < 20*time.Second; {
		d := w.next()
		if d == nil {
			if w.sweep == nil && !w.sweepNext {
				break
			}
			continue // it pauses
		}
		if w.sweep != nil && w.Stats().Sweeps == 0 && during < 3 { // records are lost again and again
			overflow()
			during++
		}
		from := time.Now()
		w.pass(d)
		if w.sweep != nil && w.restAfter.Before(from) {
			t.Error("a step of a sweep is not followed by a rest")
		}
	}
	for d := w.next(); d != nil; d = w.next() {
		w.pass(d)
	}
	if got := w.Stats().Sweeps; got != 2 || during == 0 {
		t.Errorf("%d sweeps, with %d losses during the first; want 2", got, during)
	}
}

// What is said of objects outlives the buffer of the reader, is said once for each, and stays with its name.
func TestInboxKeepsObjects(t *testing.T) {
	in := newInbox(time.Now)
	name, object := []byte("n1"), []byte("object 1")
	put := func(dir DirRef, n, o string, op Op) {
		copy(name, n)
		copy(object, o)
		r := Record{Dir: dir, Op: op, Object: object, PID: 7}
		if dir != 0 {
			r.Name = name
		}
		in.put([]Record{r})
	}
	put(1, "n1", "object 1", OpModify)
	put(1, "n1", "object 1", OpCloseWrite)
	put(1, "n1", "object 2", OpModify)
	put(1, "n2", "object 3", OpCreate) // says nothing of its content
	for range 2 {
		put(0, "", "object 4", OpModify)
		put(0, "", "object 5", OpAttrib)
	}
	copy(name, "xx")
	copy(object, "overwritten")
	d, _ := in.take()
	later := newDirt()
	later.touch(place{1, "n2"}, OpModify)
	later.before(d)
	d = later
	var got []string
	for _, s := range d.said {
		got = append(got, fmt.Sprintf("%s: %s %x", d.names[s.name].at.name, s.object, s.ops))
	}
	for object, h := range d.heard {
		got = append(got, fmt.Sprintf("%s %x by %d", object, h.ops, h.pid))
	}
	slices.Sort(got)
	want := []string{
		fmt.Sprintf("n1: object 1 %x", OpModify|OpCloseWrite), fmt.Sprintf("n1: object 2 %x", OpModify),
		fmt.Sprintf("object 4 %x by 7", OpModify), fmt.Sprintf("object 5 %x by 7", OpAttrib),
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Another process that looks whether a private directory is in use does not take apart what has come together; a barrier does, and what was before it is in the
// inbox then.
func TestRecordsStayTogether(t *testing.T) {
	in, b := newInbox(time.Now), new(barrier)
	recs := []Record{{Dir: 1, Name: []byte("a"), Op: OpMovedFrom}, {Dir: barrierRef, Name: []byte(".in-use"), Op: OpCloseWrite}, {Dir: 1, Name: []byte("b"), Op: OpMovedTo}}
	rest := b.pass(recs, in)
	if n := in.size(); n != 0 || len(rest) != len(recs) {
		t.Errorf("%d names are in the inbox, %d records are left, want all %d", n, len(rest), len(recs))
	}
	in.put(rest)
	if n := in.size(); n != 2 {
		t.Errorf("%d names are in the inbox, want 2", n)
	}
	rest = b.pass([]Record{{Dir: 1, Name: []byte("c"), Op: OpCreate}, {Dir: barrierRef, Name: []byte("7"), Op: OpCreate}, {Dir: 1, Name: []byte("d"), Op: OpCreate}}, in)
	d, _ := in.take()
	if len(d.names) != 3 || !slices.Equal(d.barriers, []uint64{7}) || len(rest) != 1 || string(rest[0].Name) != "d" {
		t.Errorf("before the barrier: %d names, want 3; barriers %v, want 7; behind it %v, want d", len(d.names), d.barriers, rest)
	}
}

// What anonymous records say of a name is said of the object that had it then, however many pieces they came in.
func TestSaidOfWhatHadTheName(t *testing.T) {
	recs := []Record{
		{Dir: 1, Name: []byte("a"), Op: OpModify},
		{Dir: 1, Name: []byte("a"), Op: OpMovedFrom, Cookie: 1},
		{Dir: 1, Name: []byte("b"), Op: OpMovedTo, Cookie: 1},
		{Dir: 1, Name: []byte("a"), Op: OpCreate},
		{Dir: 1, Name: []byte("a"), Op: OpCloseWrite},
		{Dir: 1, Name: []byte("b"), Op: OpAttrib},
		{Dir: 1, Name: []byte("a"), Op: OpMovedFrom, Cookie: 2},
		{Dir: 1, Name: []byte("c"), Op: OpMovedTo, Cookie: 2},
		{Dir: 1, Name: []byte("c"), Op: OpModify},
	}
	type said struct{ own, its Op }
	want := map[string]said{"a": {own: OpModify | OpAttrib}, "b": {its: OpModify | OpAttrib}, "c": {its: OpModify | OpCloseWrite}}
	piece := func(recs []Record) *dirt {
		in := newInbox(time.Now)
		in.put(recs)
		return in.newest()
	}
	check := func(how string, d *dirt) {
		t.Helper()
		olds := make([]ref, len(d.names))
		if k, ok := d.find(place{1, "a"}); ok {
			olds[k] = 1
		}
		h := d.hints(new(trail), olds, func(int32, string) (yes, certain bool) { return false, false })
		for k, n := range d.names {
			if got := (said{h[k].own, h[k].its}); got != want[n.at.name] {
				t.Errorf("%s: of %s it is said %v, want %v", how, n.at.name, got, want[n.at.name])
			}
		}
	}
	check("in one piece", piece(recs))
	for i := range recs {
		for j := i; j < len(recs); j++ {
			d := piece(recs[:i])
			d.after(piece(recs[i:j]))
			d.after(piece(recs[j:]))
			check(fmt.Sprintf("in pieces of %d, %d and %d", i, j-i, len(recs)-j), d)

			d = piece(recs[j:])
			d.before(piece(recs[i:j]))
			d.before(piece(recs[:i]))
			check(fmt.Sprintf("in pieces of %d, %d and %d, put before each other", i, j-i, len(recs)-j), d)
		}
	}
}
