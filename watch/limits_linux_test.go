//go:build linux

package watch_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
	"fs_notify/watch"
	"fs_notify/watch/watchtest"
	"fs_notify/watch/watchtest/fsmount"
)

// attributed is a file on a tmpfs, outside of the root beside it, with so many extended attributes.
func attributed(t *testing.T, n int, name func(i int) string) (root, file string) {
	t.Helper()
	needRoot(t, "mount")
	top := fsmount.One(t, "tmpfs")
	root, file = filepath.Join(top, "root"), filepath.Join(top, "outside")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := unix.Setxattr(file, name(i), []byte("1\x00"), 0); err != nil {
			t.Skipf("no more than %d extended attributes: %v", i, err)
		}
	}
	return root, file
}

// One file has more to tell than a batch can hold: it is told in several.
func TestMoreStreamsThanABatchHolds(t *testing.T) {
	const streams = 1500
	name := func(i int) string { return fmt.Sprintf("user.DosStream.s%04d:$DATA", i) }
	eachSource(t, func(t *testing.T, kind string) {
		root, file := attributed(t, streams, name)
		r := watchtest.Start(t, kind, root, watchtest.KeepAll)
		count := func(typ string) (n int) {
			r.Sync(t)
			for _, line := range types(r) {
				if strings.Contains(line, typ) {
					n++
				}
			}
			return n
		}
		sh(t, root, "ln ../outside f")
		if n := count("stream_added"); n != streams {
			t.Errorf("%d streams of %d are told as added", n, streams)
		}
		sh(t, root, "mkdir d; mv f d/f")
		for i := range streams {
			if err := unix.Removexattr(file, name(i)); err != nil {
				t.Fatal(err)
			}
		}
		sh(t, root, "touch d/f")
		if n := count("stream_removed"); n != streams {
			t.Errorf("%d streams of %d are told as removed", n, streams)
		}
		r.Check(t)
	})
}

// The kernel lists no more than 64 KiB of names of extended attributes. A file with more is a file all the same.
func TestMoreAttributesThanTheKernelLists(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		root, file := attributed(t, 300, func(i int) string { return fmt.Sprintf("user.%0245d", i) })
		if _, err := unix.Listxattr(file, make([]byte, 1<<20)); err != unix.E2BIG {
			t.Skip("this kernel lists them: ", err)
		}
		r := watchtest.Start(t, kind, root, watchtest.KeepAll)
		sh(t, root, "ln ../outside f")
		r.Sync(t)
		sh(t, root, "echo more >> f; touch g")
		r.Sync(t)
		if got := strings.Join(types(r), "\n"); !strings.Contains(got, "child_file_added f") || !strings.Contains(got, "child_size_changed f") {
			t.Errorf("told:\n%s", got)
		}
		wantTroubles(t, r, nil)
		r.Check(t)
	})
}

// A service that remembers one root is ready although another one is not there.
func TestReadyWithoutARootThatIsAway(t *testing.T) {
	top, past := t.TempDir(), &memory{}
	sh(t, top, "mkdir here there; touch here/f")
	r := watchtest.Start(t, "poll", filepath.Join(top, "here"), func(c *watch.Config) { c.Past = past })
	entries := r.Snap(t).Entries
	r.Stop()
	past.entries = entries
	src, err := watch.NewSource("poll", watch.SourceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := watch.New(watch.Config{Roots: []watch.Root{{Name: "/root", Dir: filepath.Join(top, "here")}, {Name: "/there", Dir: filepath.Join(top, "there")}},
		Source: src, Sink: &counter{}, Past: onlyOf{past, r.Roots()[0].ID}})
	if err != nil {
		t.Fatal(err)
	}
	sh(t, top, "rmdir there")
	runs(t, w)
	if _, err := w.LookupPath(t.Context(), "/root/f"); err != nil {
		t.Error(err)
	}
	sh(t, top, "mkdir there; touch there/g")
	eventually(t, func() string {
		if _, err := w.LookupPath(t.Context(), "/there/g"); err != nil {
			return err.Error()
		}
		return ""
	})
}

// onlyOf remembers nothing of other roots.
type onlyOf struct {
	*memory
	root notify.FileID
}

func (o onlyOf) LoadTree(ctx context.Context, root notify.FileID, each watch.PastEntry) ([]byte, notify.BatchNumber, error) {
	if root != o.root {
		return nil, 0, &notify.Error{Op: "onlyOf.LoadTree", Kind: notify.NotFound}
	}
	return o.memory.LoadTree(ctx, root, each)
}

func (o onlyOf) ResetTree(ctx context.Context, root notify.FileID, note []byte, walk func(add watch.PastEntry) error, _ ...notify.FileID) (notify.BatchNumber, error) {
	if root != o.root {
		return 1, nil
	}
	return o.memory.ResetTree(ctx, root, note, walk)
}

func (o onlyOf) AmendTree(ctx context.Context, root notify.FileID, note []byte, amend func(notify.FileID, *notify.Attr) bool) error {
	if root != o.root {
		return nil
	}
	return o.memory.AmendTree(ctx, root, note, amend)
}

// A file is made without a name, gets one in another directory, and is written on. The records of that bear a name which it never had.
func TestFileWithoutANameIsLinkedElsewhere(t *testing.T) {
	for _, first := range []string{"written before", ""} {
		t.Run(first, func(t *testing.T) {
			eachSource(t, func(t *testing.T, kind string) {
				t.Parallel()
				dir := t.TempDir()
				sh(t, dir, "mkdir made linked")
				r := watchtest.Start(t, kind, dir, alone(kind), watchtest.KeepAll)
				fd, err := unix.Open(filepath.Join(dir, "made"), unix.O_TMPFILE|unix.O_WRONLY, 0o644)
				if err != nil {
					t.Skip("no files without names here: ", err)
				}
				write := func(text string) {
					t.Helper()
					if _, err := unix.Write(fd, []byte(text)); err != nil {
						t.Fatal(err)
					}
				}
				if first != "" {
					write(first)
				}
				if err := unix.Linkat(unix.AT_FDCWD, fmt.Sprint("/proc/self/fd/", fd), unix.AT_FDCWD, filepath.Join(dir, "linked/f"), unix.AT_SYMLINK_FOLLOW); err != nil {
					t.Fatal(err)
				}
				for _, text := range []string{"more", "and more"} { // with a look before each
					r.Sync(t)
					r.Take()
					write(text)
					r.Sync(t)
					if got := strings.Join(types(r), "\n"); !strings.Contains(got, "child_data_written linked/f") || !strings.Contains(got, "child_size_changed linked/f") {
						t.Errorf("of %q is told:\n%s", text, got)
					}
				}
				if err := unix.Close(fd); err != nil {
					t.Fatal(err)
				}
				r.Check(t)
			})
		})
	}
}
