//go:build linux

package watch_test

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"fs_notify/notify"
	"fs_notify/watch/watchtest"
	"fs_notify/watch/watchtest/fsmount"
)

// What real programs do to a tree. Every watcher looks on at once, since the programs cost more than the watchers.

// onlooker is one of the watchers, and what somebody knows who reads what it tells.
type onlooker struct {
	kind  string
	r     *watchtest.Rig
	known *attrs
}

type audience []*onlooker

func startAudience(t *testing.T, dir string) (all audience) {
	t.Helper()
	for _, kind := range sources(t) {
		o := &onlooker{kind: kind, r: watchtest.Start(t, kind, dir)}
		o.r.Keep()
		o.known = newAttrs(o.r.Snap(t))
		all = append(all, o)
	}
	return all
}

// check compares names, IDs and attributes with the disk, and gives what each was told since the last time.
func (all audience) check(t *testing.T) (told map[string][]notify.Notification) {
	t.Helper()
	told = make(map[string][]notify.Notification)
	for _, o := range all {
		t.Run(o.kind, func(t *testing.T) {
			o.r.Check(t)
			notes := o.r.Take()
			told[o.kind] = notes
			for _, f := range watchtest.PairFaults(notes) {
				t.Error(f)
			}
			o.known.fold(notes)
			faults, _ := o.known.compare(o.r.Dir, o.r.Mirror.Listing())
			for _, f := range faults[:min(len(faults), 20)] {
				t.Error(f)
			}
			t.Logf("%d notifications", len(notes))
		})
	}
	return told
}

// workplace is an empty directory on a file system that every watcher can watch, if that can be had.
func workplace(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		return t.TempDir()
	}
	return fsmount.One(t, "ext4")
}

// stressEnv says how long stress-ng works instead of a few seconds.
const stressEnv = "FS_NOTIFY_TEST_STRESS"

// The file system stressors of stress-ng, first to their orderly end and then killed amid everything.
func TestStress(t *testing.T) {
	needTools(t, "stress-ng")
	long := 4 * time.Second
	if s := os.Getenv(stressEnv); s != "" {
		var err error
		if long, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	dir := workplace(t)
	all := startAudience(t, dir)
	stress := func(d time.Duration) *exec.Cmd {
		cmd := exec.Command("stress-ng", "--temp-path", dir, "--timeout", fmt.Sprintf("%ds", max(1, int(d.Seconds()))), "--quiet")
		for _, s := range []string{"dentry", "rename", "dir", "link", "symlink", "chmod", "chown", "xattr"} {
			cmd.Args = append(cmd.Args, "--"+s, "1")
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		return cmd
	}
	if out, err := stress(long).CombinedOutput(); err != nil {
		t.Fatalf("stress-ng: %v\n%s", err, out)
	}
	all.check(t)

	cmd := stress(time.Minute)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1500 * time.Millisecond) // wherever they are then
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	cmd.Wait()
	for deadline := time.Now().Add(10 * time.Second); syscall.Kill(-cmd.Process.Pid, 0) == nil && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond) // until the last of them is gone
	}
	all.check(t)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) == 0 {
		t.Errorf("stress-ng left nothing behind (%v): the test tests nothing", err)
	}
}

// Checkouts between commits that have little in common.
func TestGitCheckout(t *testing.T) {
	needTools(t, "git")
	dir := workplace(t)
	all := startAudience(t, dir)
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	t.Setenv("SRC", goSource(t))
	sh(t, dir, `
		git init -q -b main . && git config user.name x && git config user.email x@example.com && git config gc.auto 0
		commit() { git add -A && git commit -q -m "$1" && git tag "$1"; }
		cp -r $SRC/encoding $SRC/go $SRC/container .
		commit one
		git mv go gone && git mv encoding/json gone/json && rm -r container
		find gone -type f -name '*.go' -exec sed -i 's/^package/package \/* moved *\//' {} +
		cp -r $SRC/text $SRC/html .
		commit two
		git rm -q -r . && cp -r $SRC/text ./go && ln -s go/template html && chmod 755 go/template/*.go
		commit three`)
	all.check(t)
	sh(t, dir, "for c in one three two one two; do git checkout -q $c; done")
	all.check(t)
	sh(t, dir, "git checkout -q three && git merge -q -s ours -m m one && git gc -q && git clean -q -fdx && git status --porcelain")
	all.check(t)
}

// npm removes and unpacks a tree of packages, many files at once, and renames directories to their place.
func TestNpmCI(t *testing.T) {
	needTools(t, "npm", "node")
	dir, packages := workplace(t), t.TempDir()
	deps := make(map[string]string)
	for i := range 12 {
		name := fmt.Sprintf("@scope%d/package%d", i%3, i)
		file := filepath.Join(packages, fmt.Sprintf("package%d.tgz", i))
		if err := writePackage(file, name, 40); err != nil {
			t.Fatal(err)
		}
		deps[name] = "file:" + file
	}
	manifest, err := json.Marshal(map[string]any{"name": "app", "version": "1.0.0", "dependencies": deps})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "package.json"), manifest, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("npm_config_cache", filepath.Join(packages, "cache"))
	t.Setenv("npm_config_offline", "true")
	t.Setenv("npm_config_update_notifier", "false")
	all := startAudience(t, dir)
	sh(t, dir, "npm install --no-audit --no-fund --ignore-scripts --loglevel=error")
	all.check(t)
	sh(t, dir, "rm -r node_modules/@scope1; npm ci --no-audit --no-fund --ignore-scripts --loglevel=error; npm uninstall --no-audit --no-fund --loglevel=error @scope0/package0")
	all.check(t)
	if _, err := os.Stat(filepath.Join(dir, "node_modules/@scope1/package1/lib/d3/f39.js")); err != nil {
		t.Errorf("npm did not install what it should: %v", err)
	}
}

// writePackage makes what npm pack makes.
func writePackage(file, name string, files int) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(f)
	w := tar.NewWriter(z)
	add := func(path, text string) {
		err = errors.Join(err, w.WriteHeader(&tar.Header{Name: "package/" + path, Mode: 0o644, Size: int64(len(text)), Format: tar.FormatUSTAR}))
		_, werr := w.Write([]byte(text))
		err = errors.Join(err, werr)
	}
	add("package.json", fmt.Sprintf(`{"name":%q,"version":"1.0.0"}`, name))
	for i := range files {
		add(fmt.Sprintf("lib/d%d/f%d.js", i%4, i), strings.Repeat("x", 10*i))
	}
	return errors.Join(err, w.Close(), z.Close(), f.Close())
}

// dpkg unpacks a package: the one with the time zones, which has links of both kinds, if it can be had, else one made here.
func TestDpkg(t *testing.T) {
	needTools(t, "dpkg", "dpkg-deb")
	dir, debs := workplace(t), openDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	get := exec.CommandContext(ctx, "apt-get", "download", "-q", "-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=5", "-o", "Acquire::https::Timeout=5", "tzdata")
	get.Dir, get.WaitDelay = debs, time.Second
	if out, err := get.CombinedOutput(); err != nil {
		t.Logf("apt-get download: %v\n%s", err, out)
		t.Setenv("SRC", goSource(t))
		sh(t, debs, `mkdir -p tree/DEBIAN tree/usr && cp -r $SRC/encoding tree/usr
			ln tree/usr/encoding/encoding.go tree/usr/hard && ln -s encoding tree/usr/soft
			printf 'Package: tree\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.com>\nDescription: x\n' > tree/DEBIAN/control
			dpkg-deb --build tree tree.deb >/dev/null && rm -r tree`)
	}
	all := startAudience(t, dir)
	sh(t, dir, fmt.Sprintf("dpkg -x %s/*.deb one && dpkg -x %[1]s/*.deb two && dpkg -x %[1]s/*.deb one && rm -r two", debs))
	all.check(t)
}

// Editors and tools that change a file in place, each in its own way: by renames, backups and swap files.
func TestEditors(t *testing.T) {
	dir := t.TempDir()
	if os.Geteuid() == 0 {
		dir = fsmount.One(t, "tmpfs")
	}
	vim := func(settings string) string {
		return "vim -u NONE -N -es -c 'set " + settings + "' -c 's/^/x/' -c wq f"
	}
	saves := [][2]string{
		{"sed", "sed -i s/^/x/ f"},
		{"sed", "sed -i.bak s/^/x/ f"},
		{"perl", "perl -pi -e s/^/x/ f"},
		{"mv", "{ echo x; cat f; } > .f.new; chmod --reference=f .f.new; mv .f.new f"},
		{"cp", "{ echo x; cat f; } > g; cp g f; rm g"},
		{"tee", "echo x | tee -a f >/dev/null"},
		{"patch", "printf -- '--- f\\n+++ f\\n@@ -0,0 +1 @@\\n+x\\n' | patch -s -f f"},
		{"vim", vim("nobackup writebackup backupcopy=auto")},
		{"vim", vim("nobackup writebackup backupcopy=no")},
		{"vim", vim("backup backupcopy=yes")},
		{"vim", vim("backup backupcopy=no")},
		{"vim", vim("nobackup nowritebackup noswapfile fsync")},
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("text\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	all := startAudience(t, dir)
	ran := 0
	for _, save := range saves {
		if _, err := exec.LookPath(save[0]); err != nil {
			t.Logf("left out: %v", err)
			continue
		}
		ran++
		sh(t, dir, save[1])
		for kind, notes := range all.check(t) {
			news := notify.SetOf(notify.ChildDataWritten, notify.ChildFileAdded, notify.ChildFileMovedTo)
			if !slices.ContainsFunc(notes, func(n notify.Notification) bool { return n.Path == "f" && news.Has(n.Type) }) {
				t.Errorf("%s with %s: nothing says that f has other content:\n%s", save[1], kind, brief(notes))
			}
		}
	}
	if ran < 4 {
		t.Errorf("only %d ways to save a file were tried", ran)
	}
}

// A file with thousands of names: what happens to it costs each name once, not each name times each other one.
func TestThousandsOfNames(t *testing.T) {
	dir := workplace(t)
	all := startAudience(t, dir)
	const names = 4000
	sh(t, dir, `mkdir a b && echo x >a/f && for d in a b; do seq `+fmt.Sprint(names/2)+` | sed "s,^,$d/l," | xargs -n 500 sh -c 'for n; do ln a/f $n; done' sh; done`)
	all.check(t)
	sh(t, dir, "chmod 600 a/l7 && echo y >>b/l9 && mv a/l1 b/m1 && touch -d 2020-01-01 a/l3 && mv b c")
	all.check(t)
	sh(t, dir, "rm -r a c/l5* && ls c | head -1000 | sed s,^,c/, | xargs rm")
	all.check(t)
}
