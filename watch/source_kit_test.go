//go:build linux

package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// srcRig drives one source by paths, as the tree does by nodes: what it gives is watched and its records are
// kept as lines such as "create a/f".
type srcRig struct {
	t    testing.TB
	s    Source
	root string
	refs map[DirRef]string // path below root
	next DirRef
}

func newSrcRig(t testing.TB, s Source, root string) *srcRig {
	t.Helper()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return &srcRig{t: t, s: s, root: root, refs: map[DirRef]string{}}
}

func (r *srcRig) path(p string) string { return filepath.Join(r.root, p) }

// place opens a directory as the tree would.
func (r *srcRig) place(p string) (Place, func()) {
	r.t.Helper()
	fd, err := unix.Open(r.path(p), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		r.t.Fatalf("open %s: %v", p, err)
	}
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		r.t.Fatalf("statx %s: %v", p, err)
	}
	return Place{FD: fd, Path: r.path(p), Mount: st.Mnt_id}, func() { unix.Close(fd) }
}

func (r *srcRig) tryWatch(p string) (DirRef, error) {
	r.t.Helper()
	at, done := r.place(p)
	defer done()
	r.next++
	err := r.s.Watch(r.next, at)
	if err == nil {
		r.refs[r.next] = p
	}
	return r.next, err
}

func (r *srcRig) watch(ps ...string) (ref DirRef) {
	r.t.Helper()
	for _, p := range ps {
		var err error
		if ref, err = r.tryWatch(p); err != nil {
			r.t.Fatalf("Watch(%s): %v", p, err)
		}
	}
	return ref
}

// read collects records until the queue is drained and, if want is not nil, until want says so; five seconds at most.
func (r *srcRig) read(enough func(recs []Record) bool) (recs []Record, err error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	buf := make([]Record, 64)
	for {
		n, drained, err := r.s.Next(ctx, buf)
		if err != nil {
			return recs, err
		}
		for _, rec := range buf[:n] {
			if rec.Dir == 0 {
				continue // of what is not watched
			}
			rec.Name, rec.Object = slices.Clone(rec.Name), slices.Clone(rec.Object)
			recs = append(recs, rec)
		}
		if drained && (enough == nil || enough(recs)) {
			return recs, nil
		}
	}
}

// until reads records until the marker file, made now in the last place watched, comes out; the marker's are left out.
func (r *srcRig) until(marker string) []Record {
	r.t.Helper()
	if err := os.WriteFile(r.path(marker), nil, 0o600); err != nil {
		r.t.Fatal(err)
	}
	base := filepath.Base(marker)
	recs, err := r.read(func(recs []Record) bool {
		return slices.ContainsFunc(recs, func(rec Record) bool { return string(rec.Name) == base })
	})
	if err != nil {
		r.t.Fatalf("Next: %v, after %v", err, r.lines(recs))
	}
	return slices.DeleteFunc(recs, func(rec Record) bool { return string(rec.Name) == base })
}

var srcOpNames = []string{"create", "delete", "from", "to", "modify", "close", "attrib", "access", "lost", "self"}

// lines prints records: op names joined by "+", the path, and for halves of a rename a letter per cookie.
func (r *srcRig) lines(recs []Record) (out []string) {
	letters := map[uint32]string{0: "-"}
	for _, rec := range recs {
		var ops []string
		for i, name := range srcOpNames {
			if rec.Op&(1<<i) != 0 {
				ops = append(ops, name)
			}
		}
		dir, ok := r.refs[rec.Dir]
		if !ok {
			dir = fmt.Sprintf("?%d", rec.Dir)
		}
		name := string(rec.Name)
		if isTmpfileName(string(rec.Name)) {
			name = "#"
		}
		line := strings.Join(ops, "+") + " " + filepath.Join(dir, name)
		if rec.Op&(OpMovedFrom|OpMovedTo) != 0 {
			if letters[rec.Cookie] == "" {
				letters[rec.Cookie] = string(rune('A' + len(letters) - 1))
			}
			line += " " + letters[rec.Cookie]
		} else if rec.Cookie != 0 {
			line += " (a cookie)"
		}
		out = append(out, line)
	}
	return out
}

// srcSquash drops a line that repeats the one before.
func srcSquash(lines []string) []string { return slices.Compact(lines) }

func (r *srcRig) must(errs ...error) {
	r.t.Helper()
	if err := errors.Join(errs...); err != nil {
		r.t.Fatal(err)
	}
}

func (r *srcRig) mkdir(ps ...string) {
	r.t.Helper()
	for _, p := range ps {
		r.must(os.MkdirAll(r.path(p), 0o755))
	}
}

func (r *srcRig) write(p, data string) {
	r.t.Helper()
	r.must(os.WriteFile(r.path(p), []byte(data), 0o644))
}

func (r *srcRig) rename(from, to string) {
	r.t.Helper()
	r.must(os.Rename(r.path(from), r.path(to)))
}

// srcGoroutinesSettle fails if more goroutines than before are left after a moment.
func srcGoroutinesSettle(t *testing.T, before int) {
	t.Helper()
	for range 200 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	buf := make([]byte, 1<<16)
	t.Errorf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
}
