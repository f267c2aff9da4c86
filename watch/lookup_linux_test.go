package watch

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
)

// Whatever can be looked up can be asked for its attributes, by path and by ID: the root itself as well.
func TestStatOfEveryKind(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("sh", "-c", "cd "+dir+" && mkdir -p a/b && echo hi > a/f && ln -s f a/link && mkfifo a/pipe && chmod 750 .").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	xattrs := true
	for _, p := range []string{"", "/a", "/a/f"} {
		if err := unix.Setxattr(dir+p, "user.x", []byte("1"), 0); errors.Is(err, unix.EOPNOTSUPP) {
			xattrs = false
		} else if err != nil {
			t.Fatal(err)
		}
	}
	w, _ := start(t, dir)
	for _, slow := range []bool{false, true} { // as a kernel before 6.13 does it
		defer noXattrAt.Store(noXattrAt.Swap(slow))
		for p, want := range map[string]string{"": "directory", "/a": "directory", "/a/b": "directory", "/a/f": "file", "/a/link": "symlink", "/a/pipe": "fifo"} {
			found, err := w.LookupPath(t.Context(), dir+p)
			if err != nil {
				t.Errorf("LookupPath %q: %v", p, err)
				continue
			}
			e, err := w.Stat(t.Context(), found.ID())
			if err != nil {
				t.Errorf("Stat %q: %v", p, err)
				continue
			}
			if e.ID() != found.ID() || e.Attr.Kind() != want || e.Attr.Ctime == 0 {
				t.Errorf("Stat %q: %v %+v, want the %s %v", p, e.ID(), e.Attr, want, found.ID())
			}
			children := map[string]int{"": 1, "/a": 4, "/a/b": 0}
			if n, err := w.Children(t.Context(), found.ID()); n != children[p] || (err == nil) != (want == "directory") || err != nil && !errors.Is(err, notify.NotDirectory) {
				t.Errorf("Children %q: %d, %v", p, n, err)
			}
			marked := xattrs && (p == "" || p == "/a" || p == "/a/f")
			if (e.Attr.X != nil && e.Attr.X.Other != 0) != marked {
				t.Errorf("Stat %q: extended attributes %+v", p, e.Attr.X)
			}
		}
	}

	gone, err := w.LookupPath(t.Context(), dir+"/a/f")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir + "/a/f"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Stat(t.Context(), gone.ID()); !errors.Is(err, notify.NotFound) {
		t.Errorf("Stat of what was removed: %v", err)
	}
	if d, err := w.LookupPath(t.Context(), dir+"/a"); err != nil {
		t.Error(err)
	} else if n, err := w.Children(t.Context(), d.ID()); n != 3 || err != nil {
		t.Errorf("Children of what it was removed from: %d, %v", n, err)
	}
}

// A path through a symlink is answered alike whatever there is behind the link, which is not looked at: nothing is waited for.
func TestLookupDoesNotFollowLinks(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	for _, err := range []error{os.WriteFile(outside+"/secret", nil, 0o600), os.Mkdir(dir+"/mine", 0o700), os.Symlink(outside, dir+"/mine/l"), os.Symlink("mine", dir+"/in")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	w, _ := start(t, dir)
	barriers := func() uint64 {
		w.barrier.mu.Lock()
		defer w.barrier.mu.Unlock()
		return w.barrier.next
	}
	for _, path := range []string{"/mine/l/secret", "/mine/l/none", "/in/l/secret", "/in/l", "/mine/l/../secret", "/mine/" + strings.Repeat("x", 5000) + "/f"} {
		before := barriers()
		if e, err := w.LookupPath(t.Context(), dir+path); !errors.Is(err, notify.NotFound) {
			t.Errorf("%s: %+v, %v", path, e, err)
		}
		if barriers() != before {
			t.Errorf("%s: what happened on the disk so far was waited for", path)
		}
	}
	if err := os.WriteFile(dir+"/mine/new", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.LookupPath(t.Context(), dir+"/mine/new"); err != nil {
		t.Errorf("what was made a moment ago: %v", err)
	}
}

// While a root is away what it had cannot be asked for; its names are said all the same, for who knows who may hear of it.
func TestNamesWhileAway(t *testing.T) {
	dir := t.TempDir()
	for _, err := range []error{os.WriteFile(dir+"/f", nil, 0o600), os.Link(dir+"/f", dir+"/g")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	w, _ := start(t, dir)
	f, err := w.LookupPath(t.Context(), dir+"/f")
	if err != nil {
		t.Fatal(err)
	}
	w.t.mu.Lock()
	w.t.roots[0].phase = notify.Away
	w.t.mu.Unlock()
	names, err := w.LookupNames(t.Context(), f.ID())
	if !errors.Is(err, notify.Unavailable) || len(names) != 2 || names[0].Path == names[1].Path {
		t.Errorf("%+v, %v, want both names and Unavailable", names, err)
	}
	if names, err := w.LookupNames(t.Context(), 4711); !errors.Is(err, notify.NotFound) || len(names) > 0 {
		t.Errorf("what never was: %+v, %v", names, err)
	}
}
