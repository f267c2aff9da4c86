package watch_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
	"fs_notify/watch/watchtest"
)

// Extended attributes are those of the entry that the ID names, whatever took its place on the disk meanwhile.
func TestUserXattrs(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	must := func(err error) {
		t.Helper()
		if errors.Is(err, unix.EOPNOTSUPP) {
			t.Skip("the file system of " + dir + " has no extended attributes")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	set := func(path, name, value string) {
		t.Helper()
		must(unix.Lsetxattr(path, name, []byte(value), 0))
	}
	must(os.Mkdir(dir+"/d", 0o755))
	must(os.WriteFile(dir+"/d/f", nil, 0o644))
	must(os.WriteFile(outside+"/secret", nil, 0o644))
	must(os.Mkdir(outside+"/d", 0o755))
	must(os.WriteFile(outside+"/d/f", nil, 0o644))
	must(os.Symlink(outside+"/secret", dir+"/link"))
	set(outside+"/secret", "user.secret", "yes")
	set(outside+"/d/f", "user.secret", "yes")
	set(dir+"/d/f", "user.a", "b")
	set(dir+"/d/f", "user.empty", "")
	set(dir+"/d/f", "user.raw", "\xff\x00")
	set(dir+"/d", "user.dir", "1")

	r := watchtest.Start(t, "inotify", dir)
	read := func(path string) (map[string][]byte, error) {
		t.Helper()
		e, err := r.LookupPath(t.Context(), "/root"+path)
		if err != nil {
			t.Fatal(err)
		}
		return r.UserXattrs(t.Context(), e.ID())
	}
	for path, want := range map[string]string{"/d/f": `map["a":"b" "empty":"" "raw":"\xff\x00"]`, "/d": `map["dir":"1"]`, "/link": "map[]", "": "map[]"} {
		if got, err := read(path); err != nil || fmt.Sprintf("%q", got) != want {
			t.Errorf("%q has %q, %v, want %s", path, got, err, want)
		}
	}

	f, err := r.LookupPath(t.Context(), "/root/d/f")
	must(err)
	must(os.Rename(dir+"/d", dir+"/elsewhere"))
	must(os.Symlink(outside+"/d", dir+"/d"))
	if got, err := r.UserXattrs(t.Context(), f.ID()); err != nil || string(got["a"]) != "b" || got["secret"] != nil {
		t.Errorf("renamed, and a symlink in its place: %q, %v", got, err)
	}
	must(os.Remove(dir + "/elsewhere/f"))
	must(os.WriteFile(dir+"/elsewhere/f", nil, 0o644))
	set(dir+"/elsewhere/f", "user.other", "x")
	if got, err := r.UserXattrs(t.Context(), f.ID()); !errors.Is(err, notify.NotFound) {
		t.Errorf("removed, and another file in its place: %q, %v, want NotFound", got, err)
	}
	if _, err := r.UserXattrs(t.Context(), 4711); !errors.Is(err, notify.NotFound) {
		t.Errorf("an ID that nothing has: %v, want NotFound", err)
	}
}
