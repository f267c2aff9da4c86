//go:build linux

package watch

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"testing"

	"fs_notify/watch/watchtest/fsmount"

	"golang.org/x/sys/unix"
)

// srcKinds gives the sources over the kernel that can be had here.
func srcKinds(t testing.TB) []string {
	kinds := []string{"fsnotify", "inotify"}
	if q, err := newFan(false); err == nil {
		q.close()
		kinds = append(kinds, "fanotify", "auto")
	} else {
		t.Logf("without fanotify: %v", err)
	}
	return kinds
}

func newKindRig(t testing.TB, kind, dir string) *srcRig {
	t.Helper()
	s, err := NewSource(kind, SourceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return newSrcRig(t, s, dir)
}

// What people and programs do to files, and what each source makes of it. In the tree are the directories
// d and e, with the files d/f (10 bytes), d/g and the second link e/hard to d/g, all watched.
var srcOperations = []struct {
	name string
	do   func(r *srcRig)
	ino  []string
	fsn  []string // nil: as inotify
	fan  []string // nil: as inotify
}{
	{"create and write", func(r *srcRig) { r.write("d/new", "data") }, []string{"create d/new", "modify d/new", "close d/new"}, []string{"create d/new", "modify d/new"}, []string{"create+modify+close d/new"}},
	{"create, delete, create", func(r *srcRig) {
		r.write("d/new", "1")
		r.must(os.Remove(r.path("d/new")))
		r.write("d/new", "2")
	}, []string{"create d/new", "modify d/new", "close d/new", "delete d/new", "create d/new", "modify d/new", "close d/new"}, []string{"create d/new", "modify d/new", "delete d/new", "create d/new", "modify d/new"}, []string{"create+modify+close d/new", "delete d/new", "create+modify+close d/new"}},
	{"append", func(r *srcRig) {
		f, err := os.OpenFile(r.path("d/f"), os.O_WRONLY|os.O_APPEND, 0)
		r.must(err)
		_, err = f.WriteString("more")
		r.must(err, f.Close())
	}, []string{"modify d/f", "close d/f"}, []string{"modify d/f"}, []string{"modify+close d/f"}},
	{"truncate", func(r *srcRig) { r.must(os.Truncate(r.path("d/f"), 3)) }, []string{"modify d/f"}, nil, nil},
	{"write through a mapping", func(r *srcRig) {
		f, err := os.OpenFile(r.path("d/f"), os.O_RDWR, 0)
		r.must(err)
		m, err := unix.Mmap(int(f.Fd()), 0, 10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		r.must(err)
		m[0] = 'X'
		r.must(unix.Munmap(m), f.Close())
	}, []string{"close d/f"}, []string{}, nil},
	{"chmod a file", func(r *srcRig) { r.must(os.Chmod(r.path("d/f"), 0o600)) }, []string{"attrib d/f"}, nil, nil},
	{"chmod a directory", func(r *srcRig) { r.must(os.Chmod(r.path("d"), 0o700)) }, []string{"attrib d", "self d"}, nil, []string{"self d"}},
	{"set an attribute", func(r *srcRig) { r.must(unix.Setxattr(r.path("d/f"), "user.a", []byte("b"), 0)) }, []string{"attrib d/f"}, nil, nil},
	{"set the modification time only", func(r *srcRig) {
		r.must(unix.UtimesNanoAt(unix.AT_FDCWD, r.path("d/f"), []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: 1e9}}, 0))
	}, []string{"modify d/f"}, nil, nil},
	{"set the modification time of a directory only", func(r *srcRig) {
		r.must(unix.UtimesNanoAt(unix.AT_FDCWD, r.path("d"), []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: 1e9}}, 0))
	}, []string{"modify d"}, nil, []string{"modify+self d"}},
	{"link", func(r *srcRig) { r.must(os.Link(r.path("d/f"), r.path("e/link"))) }, []string{"create e/link"}, nil, nil},
	{"symbolic link", func(r *srcRig) { r.must(os.Symlink("nowhere", r.path("d/sym"))) }, []string{"create d/sym"}, nil, nil},
	{"fifo", func(r *srcRig) { r.must(unix.Mkfifo(r.path("d/fifo"), 0o600)) }, []string{"create d/fifo"}, nil, nil},
	{"mkdir", func(r *srcRig) { r.mkdir("d/sub") }, []string{"create d/sub"}, nil, nil},
	{"rmdir of a watched directory", func(r *srcRig) { r.must(os.RemoveAll(r.path("e"))) }, []string{"delete e/hard", "lost e", "delete e"}, nil, []string{"delete e/hard", "delete e"}},
	{"unlink one of two links", func(r *srcRig) { r.must(os.Remove(r.path("d/g"))) }, []string{"delete d/g"}, nil, nil},
	{"unlink", func(r *srcRig) { r.must(os.Remove(r.path("d/f"))) }, []string{"delete d/f"}, nil, nil},
	{"rename", func(r *srcRig) { r.rename("d/f", "d/f2") }, []string{"from d/f A", "to d/f2 A"}, nil, nil},
	{"rename to another directory", func(r *srcRig) { r.rename("d/f", "e/f") }, []string{"from d/f A", "to e/f A"}, nil, nil},
	{"rename over a file", func(r *srcRig) { r.rename("d/f", "d/g") }, []string{"from d/f A", "to d/g A"}, nil, nil},
	{"exchange", func(r *srcRig) {
		r.must(unix.Renameat2(unix.AT_FDCWD, r.path("d/f"), unix.AT_FDCWD, r.path("e/hard"), unix.RENAME_EXCHANGE))
	}, []string{"from d/f A", "to e/hard A", "from e/hard B", "to d/f B"}, nil, nil},
	{"move out of sight", func(r *srcRig) { r.rename("d/f", "out/f") }, []string{"from d/f A"}, nil, []string{"from d/f -"}},
	{"move into sight", func(r *srcRig) { r.rename("out/o", "d/o") }, []string{"to d/o A"}, []string{"create d/o"}, []string{"to d/o -"}},
	{"rename a watched directory", func(r *srcRig) { r.rename("e", "d/e") }, []string{"from e A", "to d/e A", "self e"}, []string{"from e A", "to d/e A", "lost e"}, []string{"from e A", "to d/e A"}},
	{"rename a directory, then create in it", func(r *srcRig) {
		r.rename("e", "e2")
		r.until("d/between")
		r.write("e2/x", "")
	}, []string{"create e/x", "close e/x"}, []string{}, []string{"create+close e/x"}},
	{"nameless file, linked", func(r *srcRig) {
		fd, err := unix.Open(r.path("d"), unix.O_TMPFILE|unix.O_WRONLY, 0o600)
		r.must(err)
		r.must(unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), unix.AT_FDCWD, r.path("d/born"), unix.AT_SYMLINK_FOLLOW))
		_, err = unix.Write(fd, []byte("x"))
		r.must(err, unix.Close(fd))
	}, []string{"create d/born", "modify d/#", "close d/#"}, []string{"create d/born", "modify d/#"}, []string{"create d/born", "modify+close d/#"}},
}

func TestOperations(t *testing.T) {
	fsmount.Each(t, func(t *testing.T, dir, fs string) {
		for _, kind := range srcKinds(t) {
			t.Run(kind, func(t *testing.T) {
				if kind == "fanotify" && fs == "overlay" {
					r := newKindRig(t, kind, dir)
					if _, err := r.tryWatch("."); !errors.Is(err, unix.EOPNOTSUPP) {
						t.Fatalf("Watch on overlay: %v, want EOPNOTSUPP", err)
					}
					return
				}
				for _, op := range srcOperations {
					t.Run(op.name, func(t *testing.T) {
						top, err := os.MkdirTemp(dir, "")
						if err != nil {
							t.Fatal(err)
						}
						r := newKindRig(t, kind, top)
						r.mkdir("d", "e", "out", "m")
						r.write("d/f", "0123456789")
						r.write("d/g", "g")
						r.write("out/o", "o")
						r.must(os.Link(r.path("d/g"), r.path("e/hard")))
						r.watch("m", ".", "d", "e")
						op.do(r)
						recs := r.until("m/marker")
						got, want := r.lines(recs), op.ino
						switch {
						case kind == "fsnotify" && op.fsn != nil:
							want = op.fsn
						case kind == "fanotify" && op.fan != nil, kind == "auto" && fs != "overlay" && op.fan != nil:
							want = op.fan
						}
						if !slices.Equal(got, want) {
							t.Errorf("got %q, want %q", got, want)
						}
						if r.s.Caps().Exact && slices.ContainsFunc(recs, func(rec Record) bool { return int(rec.PID) != os.Getpid() }) {
							t.Errorf("a record does not say who did it: %+v", recs)
						}
					})
				}
			})
		}
	})
}
