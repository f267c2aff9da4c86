//go:build linux

package watch_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
	"fs_notify/watch"
	"fs_notify/watch/watchtest"
	"fs_notify/watch/watchtest/fsmount"
)

// often has what cannot be watched swept ten times a second, and nothing else.
func often(c *watch.Config) { c.PollInterval = 100 * time.Millisecond }

// alone leaves everything to the source, if it sees anything.
func alone(kind string) func(c *watch.Config) {
	if kind == "poll" {
		return often
	}
	return func(c *watch.Config) { c.PollInterval, c.SweepInterval = time.Hour, time.Hour }
}

// eventually waits until f says "" and fails with what it says after ten seconds.
func eventually(t *testing.T, f func() string) {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		wrong := f()
		if wrong == "" {
			return
		}
		if time.Since(begin) > time.Minute {
			t.Fatal(wrong)
		}
	}
}

// troubles are the degraded directories of the root, with their reasons.
func troubles(r *watchtest.Rig) map[string]string {
	out := map[string]string{}
	for _, d := range r.Roots()[0].Degraded {
		out[d.Path] = d.Reason
	}
	return out
}

func wantTroubles(t *testing.T, r *watchtest.Rig, want map[string]string) {
	t.Helper()
	eventually(t, func() string {
		got := troubles(r)
		same := len(got) == len(want)
		for path, reason := range want {
			same = same && strings.Contains(got[path], reason)
		}
		if same {
			return ""
		}
		return fmt.Sprintf("degraded: %q, want %q", got, want)
	})
}

func wantPhase(t *testing.T, r *watchtest.Rig, want notify.RootPhase) {
	t.Helper()
	eventually(t, func() string {
		if got := r.Roots()[0].Phase; got != want {
			return fmt.Sprintf("the root is %s, want %s", got, want)
		}
		return ""
	})
}

// wantScanned waits until the mirror is what a new scan finds, IDs included.
func wantScanned(t *testing.T, r *watchtest.Rig) {
	t.Helper()
	eventually(t, func() string {
		return strings.Join(watchtest.Diff("the mirror", r.Mirror.Listing(), "a new scan", watchtest.FreshListing(t, r.Dir)), "\n")
	})
}

// wantMirrored waits until the mirror has what is on disk: for what no Sync waits for.
func wantMirrored(t *testing.T, r *watchtest.Rig) {
	t.Helper()
	eventually(t, func() string {
		disk, err := listing(r.Dir)
		if err != nil {
			return err.Error()
		}
		if diff := watchtest.Diff("the mirror", r.Mirror.Listing(), "the disk", disk); len(diff) > 0 {
			return strings.Join(diff, "\n")
		}
		return ""
	})
	for _, f := range r.Mirror.Faults() {
		t.Errorf("invalid step: %s", f)
	}
}

// listing is watchtest.DiskListing for paths of any length.
func listing(dir string) (map[string]notify.FileID, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	out := map[string]notify.FileID{}
	var walk func(root *os.Root, prefix string) error
	walk = func(dir *os.Root, prefix string) error {
		d, err := dir.Open(".")
		if err != nil {
			return err
		}
		entries, err := d.ReadDir(-1)
		d.Close()
		for _, e := range entries {
			if err != nil {
				break
			}
			if !e.IsDir() {
				out[prefix+e.Name()] = 0
				continue
			}
			out[prefix+e.Name()+"/"] = 0
			var sub *os.Root
			if sub, err = dir.OpenRoot(e.Name()); err == nil {
				err = walk(sub, prefix+e.Name()+"/")
				sub.Close()
			}
		}
		return err
	}
	return out, walk(root, "")
}

// wantEnd waits for the self_removed of the root; nothing else is told.
func wantEnd(t *testing.T, r *watchtest.Rig) {
	t.Helper()
	var got []string
	eventually(t, func() string {
		if got = append(got, types(r)...); slices.Equal(got, []string{"self_removed"}) {
			return ""
		}
		return fmt.Sprintf("told of a root that is away: %q, want its self_removed alone", got)
	})
}

func needRoot(t *testing.T, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may " + why)
	}
}

// types lists what was kept since the last call, as "type path".
func types(r *watchtest.Rig) (out []string) {
	for _, n := range r.Take() {
		out = append(out, strings.TrimSpace(n.Type.String()+" "+n.Path))
	}
	return out
}

// again runs the test once more in a process of its own, changed by how; true in that process.
func again(t *testing.T, how func(*exec.Cmd)) bool {
	t.Helper()
	const env = "FS_NOTIFY_TEST_AGAIN"
	if os.Getenv(env) == t.Name() {
		return true
	}
	tmp := openDir(t)
	cmd := exec.Command(os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v")
	cmd.Env = append(os.Environ(), env+"="+t.Name(), "TMPDIR="+tmp, "XDG_RUNTIME_DIR=")
	cmd.Dir = tmp
	how(cmd)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &exit):
		t.Skipf("this machine does not allow it: %v", err)
	case err == nil && strings.Contains(string(out), "--- SKIP: "+t.Name()):
		t.Skipf("%s", out)
	case err != nil, !strings.Contains(string(out), "--- PASS: "+t.Name()):
		t.Errorf("in a process of its own: %v\n%s", err, out)
	}
	return false
}

// openDir is a temporary directory that everybody may use.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fs_notify-open-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(t, dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

const nobody = 65534

func asNobody(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
}

// When there are more directories than watches, those left over are swept; with more watches they are watched again.
func TestDegradedByTooFewWatches(t *testing.T) {
	if !again(t, inUserNamespace) { // which has limits of its own
		return
	}
	const setting = "/proc/sys/user/max_inotify_watches"
	limit := func(t *testing.T, n int) {
		if err := os.WriteFile(setting, []byte(strconv.Itoa(n)), 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []string{"inotify", "fsnotify"} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			sh(t, dir, "mkdir -p {a,b,c,d,e,f}/x; touch {a,b,c,d,e,f}/x/file")
			limit(t, 6)
			r := watchtest.Start(t, kind, dir, often)
			all := troubles(r)
			if len(all) < 6 {
				t.Errorf("degraded with 6 watches for 14 directories: %q", all)
			}
			text, err := os.ReadFile("/proc/sys/fs/inotify/max_user_watches")
			if err != nil {
				t.Fatal(err)
			}
			now, _ := strconv.Atoi(strings.TrimSpace(string(text)))
			for path, reason := range all {
				_, more, _ := strings.Cut(reason, "fs.inotify.max_user_watches=")
				if n, err := strconv.Atoi(more); err != nil || n <= now {
					t.Errorf("%s: %q does not say what would mend it: it is %d", path, reason, now)
				}
			}
			sh(t, dir, "for d in *; do mv $d/x/file $d/x/moved; mkdir -p $d/y/z; touch $d/y/z/new; done; rm -r c")
			wantMirrored(t, r)
			limit(t, 1000)
			wantTroubles(t, r, nil)
			sh(t, dir, "touch {a,b,d,e,f}/y/z/newer; rm -r a")
			r.Check(t) // without a wait: it is watched
		})
	}
}

// No more inotify instances: auto says so at once instead of watching nothing.
func TestNoInotifyInstance(t *testing.T) {
	if !again(t, inUserNamespace) {
		return
	}
	if err := os.WriteFile("/proc/sys/user/max_inotify_instances", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"auto", "inotify", "fsnotify"} {
		if s, err := watch.NewSource(kind, watch.SourceOptions{}); err == nil {
			s.Close()
			t.Errorf("%s: opened without an instance to be had", kind)
		} else if !strings.Contains(err.Error(), "fs.inotify.max_user_instances") {
			t.Errorf("%s: %q does not say what would mend it", kind, err)
		}
	}
}

// The process may open nothing more for a while: nobody can look, which does not mean that anything has gone, least of all the root.
func TestNoDescriptorLeft(t *testing.T) {
	if !again(t, func(*exec.Cmd) {}) {
		return
	}
	for _, kind := range sources(t) {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			sh(t, dir, "mkdir d; touch d/f d/g")
			r := watchtest.Start(t, kind, dir, often)
			r.Keep()
			f, err := os.OpenFile(filepath.Join(dir, "d/f"), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			var had unix.Rlimit
			if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &had); err != nil {
				t.Fatal(err)
			}
			limit := func(l unix.Rlimit) {
				if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
					t.Fatal(err)
				}
			}
			limit(unix.Rlimit{Cur: 3, Max: had.Max})
			if _, err := f.WriteString("hello"); err != nil {
				t.Error(err)
			}
			eventually(t, func() string {
				if len(r.Roots()[0].Degraded) == 0 {
					return "nobody has failed to look yet"
				}
				return ""
			})
			limit(had)
			f.Close()
			wantTroubles(t, r, nil)
			r.Sync(t)
			got := types(r)
			for _, line := range got {
				if strings.Contains(line, "removed") || strings.Contains(line, "moved_from") {
					t.Errorf("told while nothing could be opened: %s", line)
				}
			}
			if !slices.Contains(got, "child_size_changed d/f") {
				t.Errorf("told: %q", got)
			}
			r.Check(t)
		})
	}
}

// A directory that may not be read keeps what was told of it, and comes back when it may.
func TestUnreadableDirectory(t *testing.T) {
	if os.Geteuid() == 0 && !again(t, asNobody) { // root may read everything
		return
	}
	for _, kind := range []string{"inotify", "fsnotify", "poll"} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			t.Cleanup(func() { sh(t, dir, "chmod -R u+rwx .") })
			sh(t, dir, "mkdir -p never/in dir/sub; touch never/in/f dir/f dir/sub/f; chmod 0 never")
			r := watchtest.Start(t, kind, dir, often)
			wantTroubles(t, r, map[string]string{"never": "permission denied"})

			// It becomes readable, and is read: without a wait where its change of mode is a record.
			sh(t, dir, "chmod 755 never")
			wantTroubles(t, r, nil)
			r.Check(t)

			// Another one becomes unreadable: nothing of what is in it is gone.
			r.Keep()
			sh(t, dir, "chmod 0 dir; touch g")
			r.Sync(t)
			for _, line := range types(r) {
				if strings.Contains(line, "removed") || strings.Contains(line, "moved_from") {
					t.Errorf("told while the directory was unreadable: %s", line)
				}
			}
			sh(t, dir, "chmod 755 dir; rm dir/f; mv dir/sub dir/moved; touch dir/new")
			wantMirrored(t, r)
			wantTroubles(t, r, nil)
			r.Check(t)

			// May be listed, but not searched: the names are there, and nothing can be learned of them.
			sh(t, dir, "chmod 644 dir; chmod 300 never")
			time.Sleep(300 * time.Millisecond)
			for _, path := range []string{"dir/new", "never/in/f"} {
				if _, ok := r.Mirror.Listing()[path]; !ok {
					t.Errorf("%s is gone from the mirror", path)
				}
			}
			sh(t, dir, "chmod 755 dir never")
			wantTroubles(t, r, nil)
			r.Take()
			sh(t, dir, "exec 3>>dir/new; chmod 644 dir; echo more >&3; sleep 0.1; chmod 755 dir")
			var told []string
			eventually(t, func() string {
				if told = append(told, types(r)...); slices.Contains(told, "child_size_changed dir/new") {
					return ""
				}
				return fmt.Sprintf("of what was written to a file that could not be looked at: %q", told)
			})
			sh(t, dir, "rm dir/new")
			wantMirrored(t, r)
			wantTroubles(t, r, nil)
		})
	}
}

// patient is an umount that waits for who looks at the mount right now.
const patient = `umount() { for i in {1..50}; do command umount "$@" 2>/dev/null && return; sleep 0.02; done; command umount "$@"; }
`

// mountScript runs a script and unmounts all below dir at the end.
func mountScript(t *testing.T, dir, script string) {
	t.Helper()
	t.Cleanup(func() {
		info, _ := os.ReadFile("/proc/self/mountinfo")
		lines := strings.Split(string(info), "\n")
		slices.Reverse(lines)
		for _, line := range lines {
			if f := strings.Fields(line); len(f) > 4 && (f[4] == dir || strings.HasPrefix(f[4], dir+"/")) {
				unix.Unmount(f[4], unix.MNT_DETACH)
			}
		}
	})
	sh(t, dir, script)
}

// A root that is unmounted ends its streams, and nothing in it was removed. Mounted again, what happened meanwhile is told.
func TestRootUnmounted(t *testing.T) {
	needRoot(t, "mount")
	mounts := map[string][3]string{ // mount, unmount, mount elsewhere as well
		"bind": {"mount --bind disk top", patient + "umount top", "true"},
		"ext4": {"mount -o loop image top", patient + "umount top", "mount -o loop image disk"},
	}
	for _, how := range []string{"bind", "ext4"} {
		t.Run(how, func(t *testing.T) {
			eachSource(t, func(t *testing.T, kind string) {
				t.Parallel()
				base := t.TempDir()
				m := mounts[how]
				mountScript(t, base, "mkdir disk top")
				if how == "bind" {
					sh(t, base, "mount -t tmpfs none disk")
				} else {
					if _, err := exec.LookPath("mkfs.ext4"); err != nil && os.Getenv("CI") != "true" {
						t.Skip("no mkfs.ext4")
					}
					sh(t, base, "truncate -s 20M image; mkfs.ext4 -q -F image; "+m[0]+"; rmdir top/lost+found; umount top")
				}
				sh(t, base, m[0]+"; cd top; mkdir -p a/b c; touch a/b/f a/g c/h")
				r := watchtest.Start(t, kind, filepath.Join(base, "top"), alone(kind))
				id := r.Roots()[0].ID
				r.Keep()

				sh(t, base, m[1]) // fails if the watcher keeps it open
				wantPhase(t, r, notify.Away)
				wantEnd(t, r)
				sh(t, base, "touch top/decoy") // in the directory under the mount
				sh(t, base, patient+m[2]+"; cd disk; mv a/b c/b; rm a/g; mkdir -p d/e; touch d/e/f c/b/f2; cd ..; [ "+how+" = bind ] || umount disk")
				time.Sleep(100 * time.Millisecond)
				if got := types(r); len(got) > 0 {
					t.Errorf("told while the root was away: %q", got)
				}

				sh(t, base, m[0])
				wantPhase(t, r, notify.Live)
				wantMirrored(t, r)
				r.Check(t)
				if got := r.Roots()[0].ID; got != id {
					t.Errorf("the root has ID %d after it was mounted again, %d before", got, id)
				}
				if got := types(r); !slices.Contains(got, "child_dir_moved_to c/b") || !slices.Contains(got, "child_file_added c/b/f2") {
					t.Errorf("told after it was mounted again: %q", got)
				}
				sh(t, base, "touch top/d/e/g; mv top/d top/c/d; rm -r top/a") // watched as before
				r.Check(t)
			})
		})
	}
}

// A root whose path leads to another directory is away, whatever that has in it.
func TestRootReplaced(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		base := t.TempDir()
		sh(t, base, "mkdir -p top/a other/a/b; touch top/a/f other/a/f other/a/b/g")
		r := watchtest.Start(t, kind, filepath.Join(base, "top"), often)
		r.Keep()
		sh(t, base, "mv top was; mv other top; touch top/a/new")
		wantPhase(t, r, notify.Away)
		wantEnd(t, r)
		if s := r.Roots()[0]; s.Progress != 0 || s.Reason == "" || time.Since(s.Since) > time.Hour {
			t.Errorf("away with progress %v since %v, as %q", s.Progress, s.Since, s.Reason)
		}
		sh(t, base, "touch top/a/newer was/a/moved; rm was/a/f top/a/f")
		time.Sleep(200 * time.Millisecond)
		if got := types(r); len(got) > 0 {
			t.Errorf("told while the root was away: %q", got)
		}
		sh(t, base, "mv top other; mv was top")
		wantPhase(t, r, notify.Live)
		if s := r.Roots()[0]; s.Progress != 1 || s.Reason != "" || !s.Since.IsZero() {
			t.Errorf("live with progress %v since %v, as %q", s.Progress, s.Since, s.Reason)
		}
		wantMirrored(t, r)
		sh(t, base, "rm -r top; mkdir top; touch top/x")
		wantPhase(t, r, notify.Away)
	})
}

// A root that is gone is away, as there is nothing; and then as another directory stands there, which is said once.
func TestRootMadeAnew(t *testing.T) {
	base := t.TempDir()
	top := filepath.Join(base, "top")
	sh(t, base, "mkdir top; touch top/f")
	log := &said{}
	r := watchtest.Start(t, "inotify", top, often, func(c *watch.Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	away := func(reason string) {
		t.Helper()
		eventually(t, func() string {
			if s := r.Roots()[0]; s.Phase != notify.Away || !strings.Contains(s.Reason, reason) {
				return fmt.Sprintf("the root is %s, as %q, want away, as %q", s.Phase, s.Reason, reason)
			}
			return ""
		})
	}
	sh(t, base, "mv top elsewhere") // or the new directory is given the number of the old one
	away("no such file or directory")
	since := r.Roots()[0].Since
	sh(t, base, "mkdir top; touch top/g")
	away("another directory stands there now")
	if s := r.Roots()[0]; s.Since != since {
		t.Errorf("away since %v, before it was since %v", s.Since, since)
	}
	eventually(t, func() string {
		if strings.Count(log.String(), "another directory stands there now") == 1 {
			return ""
		}
		return "the log should say it once:\n" + log.String()
	})
	sh(t, base, "rm -r top; mv elsewhere top")
	wantPhase(t, r, notify.Live)
}

// What is mounted below a root belongs to its tree, and is watched like the rest.
func TestMountsBelowTheRoot(t *testing.T) {
	needRoot(t, "mount")
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		top := filepath.Join(t.TempDir(), "top")
		sh(t, filepath.Dir(top), "mkdir -p top/m top/d; touch top/m/under top/d/f")
		mountScript(t, top, "true")
		r := watchtest.Start(t, kind, top, alone(kind))
		r.Keep()
		sh(t, top, "mount -t tmpfs none m; mkdir m/n; touch m/f")
		wantMirrored(t, r)
		sh(t, top, "touch m/n/g; mkdir -p m/x/y; touch m/x/y/z; mv m/n m/x/n; mv m/f m/x/f; echo data > m/x/f")
		r.Check(t)
		if got := troubles(r); len(got) > 0 {
			t.Errorf("degraded: %q", got)
		}
		sh(t, top, "mount -t tmpfs none m/x/n; touch m/x/n/deeper") // a mount in a mount, over a directory with a file
		wantMirrored(t, r)
		sh(t, top, "mkdir m/x/n/p; touch m/x/n/p/q; mv d/f m/x/n/p/f 2>/dev/null")
		r.Check(t)
		types(r)

		sh(t, top, patient+"mv m/x m/X; umount m/X/n; mv m/X m/x; mount -t tmpfs none m/x/n; mkdir m/x/n/p; touch m/x/n/p/q")
		wantMirrored(t, r)
		r.Check(t)
		types(r)

		sh(t, top, patient+"umount m/x/n; umount m")
		wantMirrored(t, r)
		r.Check(t)
		told := types(r)
		for _, want := range []string{"child_file_removed m/x/n/p/q", "child_dir_removed m", "child_dir_added m", "child_file_added m/under"} {
			if !slices.Contains(told, want) {
				t.Errorf("after umount: %q was not told: %q", want, told)
			}
		}
		// What is above a mount is renamed: the mount is at another place now, and its entries get other IDs.
		sh(t, top, "mkdir -p a/m; mount -t tmpfs none a/m; mkdir a/m/d; touch a/m/d/f")
		wantMirrored(t, r)
		sh(t, top, "mv a b; touch b/m/d/g")
		wantScanned(t, r)
		sh(t, top, patient+"umount b/m")
		wantMirrored(t, r)
		for i := range 3 { // mounted again and again, with other content
			sh(t, top, fmt.Sprintf("mount -t tmpfs none m; touch m/f%d", i))
			wantMirrored(t, r)
			sh(t, top, fmt.Sprintf("touch m/g%d", i))
			r.Check(t)
			sh(t, top, patient+"umount m")
		}
		wantMirrored(t, r)
		r.Check(t)
	})
}

// What is above a mount is renamed, and the mount is met at its new place: what is in it is found on the disk.
func TestMountInARenamedDirectory(t *testing.T) {
	needRoot(t, "mount")
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		base := t.TempDir()
		top := filepath.Join(base, "top")
		sh(t, base, "mkdir -p top/a/m")
		mountScript(t, top, "mount -t tmpfs none a/m; mkdir a/m/d; touch a/m/d/f")
		r := watchtest.Start(t, kind, top, often)
		for _, to := range []string{"b", "a", "c"} {
			sh(t, top, "mv ? "+to+"; chmod 700 "+to+"/m; chmod 755 "+to+"/m")
			wantScanned(t, r)
			sh(t, top, "touch -d yesterday "+to+"/m/d/f")
			r.Sync(t)
			for _, name := range []string{"/m", "/m/d", "/m/d/f"} {
				e, err := r.LookupPath(t.Context(), "/root/"+to+name)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := r.Stat(t.Context(), e.ID()); err != nil {
					t.Errorf("%s: %v", to+name, err)
				}
				if _, err := r.UserXattrs(t.Context(), e.ID()); err != nil {
					t.Errorf("%s: %v", to+name, err)
				}
			}
			r.Check(t)
		}
	})
}

// What is above a mount is renamed, and nobody touches the mount point itself: what is in it has the IDs at once that it has after a restart, and an
// unmount is noticed, however soon it comes.
func TestUnmountedInARenamedDirectory(t *testing.T) {
	needRoot(t, "mount")
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		base := t.TempDir()
		top := filepath.Join(base, "top")
		sh(t, base, "mkdir -p top/a/m; touch top/a/m/under")
		mountScript(t, top, "mount -t tmpfs none a/m; mkdir a/m/d; touch a/m/d/f")
		r := watchtest.Start(t, kind, top, often)
		sh(t, top, "mv a b")
		wantScanned(t, r)
		sh(t, top, "mv b c; "+patient+"umount c/m")
		wantScanned(t, r)
		sh(t, top, "mkdir c/m/e; touch c/m/e/g; echo 1 >> c/m/under")
		r.Check(t)
	})
}

// What is in the tree already, or made up by the kernel, is an entry without content: degraded, and said so.
func TestOpaqueMounts(t *testing.T) {
	needRoot(t, "mount")
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		top := filepath.Join(t.TempDir(), "top")
		sh(t, filepath.Dir(top), "mkdir -p top/d/e top/again top/proc top/late; touch top/d/e/f")
		mountScript(t, top, "mount --bind d again; mount -t proc none proc")
		r := watchtest.Start(t, kind, top, often)
		want := map[string]string{"again": "second time", "proc": "pseudo file system"}
		wantTroubles(t, r, want)
		sh(t, top, "touch d/e/g; mkdir -p d/x/y; mv d/e d/x/e")
		r.Sync(t)
		mirror := r.Mirror.Listing()
		for path := range mirror {
			if strings.HasPrefix(path, "again/") && path != "again/" || strings.HasPrefix(path, "proc/") && path != "proc/" {
				t.Errorf("the mirror has %q", path)
			}
		}
		for _, path := range []string{"again/", "proc/", "d/x/e/g"} {
			if _, ok := mirror[path]; !ok {
				t.Errorf("the mirror has no %q", path)
			}
		}
		sh(t, top, "mount --bind d/x late")
		want["late"] = "second time"
		wantTroubles(t, r, want)
		sh(t, top, "touch late/y/new d/x/y/newer")
		r.Sync(t)
		if _, ok := r.Mirror.Listing()["d/x/y/new"]; !ok {
			t.Error("what was made by way of the bind mount is not told under its own path")
		}
		sh(t, top, patient+"umount again late proc")
		wantTroubles(t, r, nil)
		wantMirrored(t, r)
		r.Check(t)
	})
}

// What is mounted in a directory that is told without its content is not told either, whatever it has.
func TestMountsInWhatIsShut(t *testing.T) {
	needRoot(t, "mount")
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		top := filepath.Join(t.TempDir(), "top")
		sh(t, filepath.Dir(top), "mkdir -p top/d/m top/again top/late; touch top/d/m/f")
		mountScript(t, top, "mount --bind d again; mount --make-private again")
		r := watchtest.Start(t, kind, top, often)
		want := map[string]string{"again": "second time"}
		wantTroubles(t, r, want)
		sh(t, top, "mount -t tmpfs none again/m; mkdir again/m/e; touch again/m/e/f; mount -t tmpfs none late; touch late/f")
		eventually(t, func() string {
			if _, ok := r.Mirror.Listing()["late/f"]; !ok {
				return "what is mounted at late is not told"
			}
			return ""
		})
		sh(t, top, "touch again/m/g again/m/e/g d/m/g")
		r.Sync(t)
		for path := range r.Mirror.Listing() {
			if strings.HasPrefix(path, "again/") && path != "again/" {
				t.Errorf("the mirror has %q", path)
			}
		}
		if _, ok := r.Mirror.Listing()["d/m/g"]; !ok {
			t.Error("the mirror has no d/m/g")
		}
		sh(t, top, patient+"umount again/m; umount again late")
		wantTroubles(t, r, nil)
		wantMirrored(t, r)
		r.Check(t)
	})
}

// Of two mounts with the same content the tree has one. When that one goes, it has the other; also when all is mounted anew within one moment.
func TestTheOtherOfTwoMounts(t *testing.T) {
	needRoot(t, "mount")
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		top := t.TempDir()
		sh(t, top, "mkdir one two")
		mountScript(t, top, "mount -t tmpfs none one; touch one/f; mount --bind one two")
		r := watchtest.Start(t, kind, top, often)
		only := func(script string) {
			t.Helper()
			sh(t, top, script)
			wantTroubles(t, r, nil)
			wantMirrored(t, r)
			sh(t, top, "mkdir two/d; touch two/d/f")
			r.Check(t)
		}
		only(patient + "umount one")
		sh(t, top, "mount --bind two one")
		wantTroubles(t, r, map[string]string{"one": "second time"})
		only("rm -r two/d; " + patient + "umount one two; mount -t tmpfs none one; touch one/g; mount --bind one two; umount one; mount --bind two one; umount one")
	})
}

// The directory of which another place shows the content leaves by a rename: the other place is the only one now. No mount has changed.
func TestTheOtherPlaceOfWhatHasLeft(t *testing.T) {
	needRoot(t, "mount")
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		base := t.TempDir()
		sh(t, base, "mkdir -p top/x/a/d top/b out; touch top/x/a/f top/x/a/d/g")
		mountScript(t, base, "mount --bind top/x/a top/b")
		r := watchtest.Start(t, kind, filepath.Join(base, "top"), alone(kind))
		wantTroubles(t, r, map[string]string{"b": "second time"})
		sh(t, base, "mv top/x/a top/x/c")
		r.Settle(t)
		wantTroubles(t, r, map[string]string{"b": "second time"})
		sh(t, base, "mv top/x out/")
		wantTroubles(t, r, nil)
		wantMirrored(t, r)
		sh(t, base, "touch out/x/c/d/new")
		r.Check(t)
	})
}

// A directory that is mounted on itself, as a sandbox does to change what may be done in it, is in the tree nowhere else.
func TestMountedOnItself(t *testing.T) {
	needRoot(t, "mount")
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		top := filepath.Join(t.TempDir(), "top")
		sh(t, filepath.Dir(top), "mkdir -p top/a/d top/again top/m; touch top/a/d/f")
		mountScript(t, top, "mount -t tmpfs none m; mkdir -p m/b/e; touch m/b/e/f; mount --bind m/b m/b")
		r := watchtest.Start(t, kind, top, often)
		sh(t, top, "mount --bind a a")
		wantScanned(t, r)
		wantTroubles(t, r, nil)
		for _, path := range []string{"a/d/f", "m/b/e/f"} {
			if _, ok := r.Mirror.Listing()[path]; !ok {
				t.Errorf("the mirror has no %q", path)
			}
		}
		sh(t, top, "mount --bind m/b/e again")
		wantTroubles(t, r, map[string]string{"again": "second time"})
		sh(t, top, patient+"umount again a")
		wantTroubles(t, r, nil)
		wantMirrored(t, r)
		sh(t, top, "touch a/d/g m/b/e/g; mv a/d/f a/f; mv m/b/e m/b/E")
		r.Check(t)
	})
}

// A file that is mounted over another one stands in its place, and goes with the mount.
func TestFileMountedOverAFile(t *testing.T) {
	needRoot(t, "mount")
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		base := t.TempDir()
		sh(t, base, "mkdir top; printf under > top/f; printf 'mounted over it' > over")
		r := watchtest.Start(t, kind, filepath.Join(base, "top"), often)
		size := func(want int64) {
			t.Helper()
			eventually(t, func() string {
				e, err := r.LookupPath(t.Context(), r.Roots()[0].Name+"/f")
				if err != nil || e.Attr.Size != want {
					return fmt.Sprintf("f has %d bytes (%v), want %d", e.Attr.Size, err, want)
				}
				return ""
			})
		}
		size(5)
		mountScript(t, base, "mount --bind over top/f")
		size(15)
		sh(t, base, patient+"umount top/f")
		size(5)
		// Nobody hears what is written to it where it comes from.
		mountScript(t, base, "mkdir disk; mount -t tmpfs none disk; echo > disk/over; mount --bind disk/over top/f")
		size(1)
		time.Sleep(2500 * time.Millisecond) // until what is mounted is no news
		r.Settle(t)
		r.Keep()
		sh(t, base, "echo 22 > disk/over")
		r.Sync(t)
		if e, err := r.LookupPath(t.Context(), r.Roots()[0].Name+"/f"); err != nil || e.Attr.Size != 3 {
			t.Errorf("f has %d bytes (%v), want 3", e.Attr.Size, err)
		}
		told := types(r)
		if !slices.Contains(told, "child_data_written f") || slices.Contains(told, "child_atime_changed f") {
			t.Errorf("told %q of what was written", told)
		}
		sh(t, base, patient+"umount top/f")
		size(5)
		r.Check(t)
	})
}

// memory is a Past that remembers one tree.
type memory struct {
	note    []byte
	entries []notify.Entry
}

func (m *memory) LoadTree(_ context.Context, _ notify.FileID, each watch.PastEntry) ([]byte, notify.BatchNumber, error) {
	if m.note == nil {
		return nil, 0, &notify.Error{Op: "memory.LoadTree", Kind: notify.NotFound}
	}
	for i := range m.entries {
		e := &m.entries[i]
		if e.Path == "" {
			continue
		}
		if err := each(e.Spine[len(e.Spine)-2], path.Base(e.Path), e.ID(), &e.Attr); err != nil {
			return nil, 0, err
		}
	}
	return m.note, 1, nil
}

func (m *memory) ResetTree(_ context.Context, _ notify.FileID, note []byte, walk func(add watch.PastEntry) error, _ ...notify.FileID) (notify.BatchNumber, error) {
	m.note = note
	return 1, walk(func(notify.FileID, string, notify.FileID, *notify.Attr) error { return nil })
}

func (m *memory) AmendTree(_ context.Context, _ notify.FileID, note []byte, amend func(notify.FileID, *notify.Attr) bool) error {
	m.note = note
	for i := range m.entries {
		amend(m.entries[i].ID(), &m.entries[i].Attr)
	}
	return nil
}

// A remembered tree finds its mounts again, those that are shut too.
func TestMountsOverARestart(t *testing.T) {
	needRoot(t, "mount")
	top := filepath.Join(t.TempDir(), "top")
	sh(t, filepath.Dir(top), "mkdir -p top/d/e top/again top/proc top/m top/n; touch top/d/e/f top/m/under")
	mountScript(t, top, "mount --bind d again; mount -t proc none proc; mount -t tmpfs none m; mkdir m/a; touch m/a/b; mount -t tmpfs none n; touch n/x")
	past := &memory{}
	for i := range 3 {
		r := watchtest.Start(t, "inotify", top, alone("inotify"), func(c *watch.Config) { c.Past = past })
		for _, d := range watchtest.Diff("the tree", watchtest.SnapshotListing(r.Snap(t)), "a new scan", watchtest.FreshListing(t, top)) {
			t.Errorf("start %d: %s", i+1, d)
		}
		wantTroubles(t, r, map[string]string{"again": "second time", "proc": "pseudo file system"})
		sh(t, top, fmt.Sprintf("touch m/a/c%d n/c%d d/e/c%d", i, i, i))
		r.Sync(t)
		for _, p := range []string{"m/a/c", "n/c", "d/e/c"} {
			if _, ok := r.Mirror.Listing()[fmt.Sprint(p, i)]; !ok {
				t.Errorf("start %d: %s%d was not told", i+1, p, i)
			}
		}
		entries := r.Snap(t).Entries
		r.Stop()
		past.entries = entries
		sh(t, top, patient+fmt.Sprintf("touch m/a/d%d d/e/d%d; umount n; mount -t tmpfs none n; touch n/d%d", i, i, i))
	}
}

// Of two mounts with the same content a tree that is remembered may meet the other one first. What was told by the one is told to be gone, and is watched by the
// other.
func TestTheOtherOfTwoMountsOverARestart(t *testing.T) {
	needRoot(t, "mount")
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		base := t.TempDir()
		top := filepath.Join(base, "top")
		sh(t, base, "mkdir -p top/one top/two; mkdir -p data/d/e; touch data/f data/d/g data/d/e/h")
		mountScript(t, base, "mount --bind data top/two")
		past := &memory{}
		remembered := func(c *watch.Config) { c.Past = past }
		r := watchtest.Start(t, kind, top, often, remembered)
		wantMirrored(t, r)
		entries := r.Snap(t).Entries
		r.Stop()
		past.entries = entries
		slices.SortFunc(past.entries, func(a, b notify.Entry) int { return strings.Compare(a.Path, b.Path) }) // one comes first
		sh(t, base, "mount --bind data top/one")
		r = watchtest.Start(t, kind, top, often, remembered, watchtest.KeepAll)
		wantTroubles(t, r, map[string]string{"two": "second time"})
		only := func(shown, hidden string) {
			t.Helper()
			sh(t, base, "touch data/d/e/new"+shown+"; rm -f data/f")
			r.Sync(t)
			for path := range r.Mirror.Listing() {
				if strings.HasPrefix(path, hidden+"/") && path != hidden+"/" {
					t.Errorf("the mirror has %q", path)
				}
			}
			if _, ok := r.Mirror.Listing()[shown+"/d/e/new"+shown]; !ok {
				t.Errorf("the mirror has no new file in %s", shown)
			}
		}
		eventually(t, func() string {
			if _, ok := r.Mirror.Listing()["one/d/e/h"]; !ok {
				return "what is in one is not told"
			}
			return ""
		})
		only("one", "two")
		if told := types(r); !slices.Contains(told, "child_dir_removed two/d") {
			t.Errorf("what was told in two is not told to be gone: %q", told)
		}
		sh(t, base, patient+"umount top/one")
		wantTroubles(t, r, nil)
		wantMirrored(t, r)
		only("two", "one")
		r.Check(t)
	})
}

// Paths may be longer than the kernel takes at once: PATH_MAX is a limit of system calls, not of file systems.
func TestPathsBeyondPathMax(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		dir := openDir(t)
		r := watchtest.Start(t, kind, dir)
		chain := func(at, name string, n int, files ...string) {
			t.Helper()
			root, err := os.OpenRoot(filepath.Join(dir, at))
			for i := 0; i < n && err == nil; i++ {
				up := root
				if err = up.Mkdir(name, 0o755); err == nil || errors.Is(err, fs.ErrExist) {
					root, err = up.OpenRoot(name)
				}
				up.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			for _, f := range files {
				if err := root.WriteFile(f, []byte(f), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		long := strings.Repeat("ü", 127) + "x" // 255 bytes
		chain(".", long, 30, "a", "b")
		r.Sync(t)
		wantMirrored(t, r)
		chain(".", long, 30, "a", "c") // overwritten, and new
		chain(".", long, 20, "d")
		if err := os.Rename(filepath.Join(dir, long), filepath.Join(dir, "top")); err != nil {
			t.Fatal(err)
		}
		chain("top", long, 29, "e")
		r.Sync(t)
		wantMirrored(t, r)
		if got := troubles(r); len(got) > 0 {
			t.Errorf("degraded: %q", got)
		}
		deepest := 0
		for p := range r.Mirror.Listing() {
			deepest = max(deepest, len(p))
		}
		if deepest < 7000 {
			t.Fatalf("the longest path has %d bytes: the test tests nothing", deepest)
		}
		removeAll(t, filepath.Join(dir, "top"))
		r.Check(t)
	})
}

// There is a bound nonetheless: below it, a tree is degraded, and above it all is as ever.
func TestDeeperThanTheBound(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	verbs := t.TempDir()
	if err := watchtest.Verbs(verbs); err != nil {
		t.Fatal(err)
	}
	r := watchtest.Start(t, "inotify", dir, often)
	sh(t, dir, "PATH="+verbs+":$PATH; mkdir deep long; deep deep 1030 d; deep long 260 "+strings.Repeat("n", 255))
	eventually(t, func() string {
		got := troubles(r)
		if len(got) == 2 {
			return ""
		}
		return fmt.Sprintf("%d degraded directories, want one for the depth and one for the length", len(got))
	})
	for path, reason := range troubles(r) {
		if !strings.Contains(reason, "deeper than 1024 levels or 65536 bytes") {
			t.Errorf("%.40s…: %q", path, reason)
		}
	}
	sh(t, dir, "touch deep/d/d/f long/g; mv deep long/deep")
	r.Sync(t)
	for _, p := range []string{"long/deep/d/d/f", "long/g"} {
		if _, ok := r.Mirror.Listing()[p]; !ok {
			t.Errorf("the mirror has no %q", p)
		}
	}
	for _, f := range r.Mirror.Faults() {
		t.Errorf("invalid step: %s", f)
	}
	removeAll(t, filepath.Join(dir, "long"))
	wantTroubles(t, r, nil)
	r.Check(t)
}

// Names are bytes.
func TestNamesOfAllKinds(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		dir := t.TempDir()
		names := []string{strings.Repeat("x", 255), strings.Repeat("ü", 127) + "\xff", "line\nend", "\n", " ", "\xff\xfe", "\xed\xb3\xbf", // CESU
			"...", "-rf", "quo\"te", "back\\slash", "tab\t", "\x01\x7f", "\xf0\x9f\x98", "é", "e\u0301"} // é twice: composed and not
		for i, name := range names { // half of them before, half of them after the start
			if i%2 == 0 {
				os.Mkdir(filepath.Join(dir, name), 0o755)
			}
		}
		r := watchtest.Start(t, kind, dir)
		for i, name := range names {
			if i%2 == 1 {
				os.Mkdir(filepath.Join(dir, name), 0o755)
			}
			for _, inner := range names {
				if err := os.WriteFile(filepath.Join(dir, name, inner), []byte(inner), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		r.Check(t)
		for i, name := range names {
			to := names[(i+1)%len(names)]
			if len(to) < 255 {
				to += "~"
			}
			if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, to)); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Fatal(err) // ErrExist: not all have left yet
			}
		}
		r.Check(t)
		if got := r.Mirror.Notes(); got < len(names)*len(names) {
			t.Errorf("%d notifications: the test tests nothing", got)
		}
	})
}

// Sub-volumes and snapshots are directories of other file systems that nobody has mounted.
func TestSubvolumesBelowTheRoot(t *testing.T) {
	needRoot(t, "mount")
	disk := fsmount.One(t, "btrfs")
	sh(t, disk, "btrfs -q subvolume create mounted")
	for _, where := range []string{"top level", "mounted sub-volume"} {
		t.Run(where, func(t *testing.T) {
			eachSource(t, func(t *testing.T, kind string) {
				base := disk
				if where != "top level" {
					base = t.TempDir()
					mountScript(t, base, "mount -o subvol=mounted "+deviceOf(t, disk)+" .")
				}
				dir := filepath.Join(base, kind)
				sh(t, base, "mkdir "+kind+"; cd "+kind+"; btrfs -q subvolume create old; mkdir old/d; touch old/d/f")
				r := watchtest.Start(t, kind, dir, alone(kind))
				r.Check(t)
				sh(t, dir, `touch old/d/g; mv old/d old/e
					btrfs -q subvolume create new; mkdir -p new/a/b; touch new/a/b/c
					btrfs -q subvolume create new/a/inner; touch new/a/inner/f
					btrfs -q subvolume snapshot old snap; btrfs -q subvolume snapshot -r new frozen`)
				wantMirrored(t, r)
				r.Check(t)
				sh(t, dir, "echo x > snap/e/f; mkdir snap/e/h; touch snap/e/h/i; mv snap/e snap/j; mv new moved; touch moved/a/inner/g moved/a/b/d; mv moved/a moved/z")
				r.Check(t)
				if got := troubles(r); len(got) > 0 && kind != "poll" {
					t.Errorf("degraded: %q", got)
				}
				sh(t, dir, "btrfs -q subvolume delete snap frozen moved/z/inner moved; rm -r old/e; btrfs -q subvolume create snap; touch snap/again")
				wantMirrored(t, r)
				r.Check(t)
				r.Stop()
				sh(t, base, "btrfs -q subvolume delete "+kind+"/old "+kind+"/snap; rm -r "+kind)
			})
		})
	}
}

func deviceOf(t *testing.T, dir string) string {
	out, err := exec.Command("findmnt", "-no", "SOURCE", "--target", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	device, _, _ := strings.Cut(strings.TrimSpace(string(out)), "[")
	return device
}

// late takes a root away before the first look at it.
type late struct {
	watch.Source
	root string
	once sync.Once
}

func (l *late) Watch(ref watch.DirRef, at watch.Place) error {
	if at.Private {
		l.once.Do(func() { os.Rename(l.root, l.root+".away") })
	}
	return l.Source.Watch(ref, at)
}

// A root that is remembered, and away when the watcher starts, is swept and live when it comes.
func TestRememberedRootThatComesLater(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		root, past := filepath.Join(t.TempDir(), "root"), &memory{}
		sh(t, filepath.Dir(root), "mkdir root; touch root/f")
		r := watchtest.Start(t, kind, root, func(c *watch.Config) { c.Past = past })
		entries := r.Snap(t).Entries
		r.Stop()
		past.entries = entries
		src, err := watch.NewSource(kind, watch.SourceOptions{})
		if err != nil {
			t.Fatal(err)
		}
		k := &counter{}
		w, err := watch.New(watch.Config{Roots: []watch.Root{{Name: "/root", Dir: root}}, Source: &late{Source: src, root: root}, Sink: k, Past: past})
		if err != nil {
			t.Fatal(err)
		}
		runs(t, w)
		if _, err := w.LookupPath(t.Context(), "/root/f"); notify.KindOf(err) != notify.Unavailable {
			t.Errorf("while it is away: %v", err)
		}
		sh(t, filepath.Dir(root), "mv root.away root; touch root/g")
		eventually(t, func() string {
			for _, name := range []string{"/root/f", "/root/g"} {
				if _, err := w.LookupPath(t.Context(), name); err != nil {
					return err.Error()
				}
			}
			return ""
		})
	})
}

// runs starts a watcher and waits until it is ready. It ends with the test.
func runs(t *testing.T, w *watch.Watcher) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-w.Ready()
}

// counter is a sink that numbers what it gets.
type counter struct{ n notify.BatchNumber }

func (c *counter) Append(context.Context, notify.FileID, []notify.Notification) (notify.BatchNumber, error) {
	c.n++
	return c.n, nil
}
