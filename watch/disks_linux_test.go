//go:build linux

package watch_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
	"fs_notify/watch"
	"fs_notify/watch/watchtest"
)

// disk makes a file system in base/NAME.img, by a command whose last argument is the image, with a script run in it before; it is mounted at base/NAME if name is to
// be mounted. The test is skipped where the kernel or the machine has no such file system, but for CI=true if the command is missing.
func disk(t *testing.T, base, name, size, mkfs, script string) {
	t.Helper()
	needRoot(t, "mount")
	if tool, _, _ := strings.Cut(mkfs, " "); os.Getenv("CI") != "true" {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	mountScript(t, base, "truncate -s "+size+" "+name+".img; "+mkfs+" "+name+".img >/dev/null; mkdir -p "+name)
	cmd := exec.Command("mount", "-o", "loop", name+".img", name)
	cmd.Dir = base
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("mount: %v: %s", err, out)
	}
	sh(t, base, "cd "+name+"; rmdir lost+found 2>/dev/null || true; "+script)
}

const ext4 = "mkfs.ext4 -q -F -m 0 -E nodiscard,lazy_itable_init=1,lazy_journal_init=1"

// count counts the notifications of a type for a path since the last call.
func count(r *watchtest.Rig, typ notify.Type, path string) (n int) {
	for _, x := range r.Take() {
		if x.Type == typ && x.Path == path {
			n++
		}
	}
	return n
}

// What is mounted in the place of a mount, or over it, is told, be it another file system whose root looks the same or the one that was there; and what happens in
// it from then on. Nobody needs to see the time in between.
func TestMountedInThePlaceOfAMount(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		base := t.TempDir()
		disk(t, base, "a", "20M", ext4, "mkdir d; touch onlyA d/f")
		disk(t, base, "b", "20M", ext4, "mkdir d; touch onlyB d/g")
		sh(t, base, "umount a b; mkdir -p top/m; mount -o loop a.img top/m")
		r := watchtest.Start(t, kind, filepath.Join(base, "top"), alone(kind))
		live := func(file string) {
			t.Helper()
			wantMirrored(t, r)
			sh(t, base, "touch top/m/"+file+" top/m/d/"+file)
			r.Check(t)
		}
		live("1")
		sh(t, base, "mount -o loop b.img top/m") // over the other one
		live("2")
		sh(t, base, patient+"umount top/m")
		live("3")
		sh(t, base, patient+"umount top/m; mount -o loop a.img top/m; touch top/m/at_once top/m/d/at_once")
		live("4")
		sh(t, base, patient+"umount top/m; mount -o loop b.img top/m; touch top/m/at_once")
		live("5")
	})
}

// The same for the root itself.
func TestRootMountedAgainAtOnce(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		base := t.TempDir()
		disk(t, base, "top", "20M", ext4, "mkdir -p d/e; touch f d/g")
		r := watchtest.Start(t, kind, filepath.Join(base, "top"), alone(kind))
		for i := range 3 {
			file := string(rune('1' + i))
			sh(t, base, patient+"umount top; mount -o loop top.img top; touch top/"+file+" top/d/e/"+file)
			wantMirrored(t, r)
			sh(t, base, "touch top/d/after"+file+" top/d/e/after"+file)
			if kind != "poll" { // it may see that the root was away
				r.Check(t)
			}
			wantMirrored(t, r)
		}
	})
}

// On btrfs a snapshot has the inode numbers and times of what it was made of. It takes the place of that between two looks, with a change just before.
func TestSnapshotInThePlaceOfItsSource(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		base := t.TempDir()
		disk(t, base, "b", "300M", "mkfs.btrfs -q -f -K", "mkdir r; btrfs -q subvolume create r/sv; mkdir -p r/sv/x/y; echo 1 > r/sv/x/f; btrfs -q subvolume snapshot r/sv sn")
		r, g := gated(t, kind, filepath.Join(base, "b/r"))
		shut(g, "once")
		sh(t, base, "cd b; touch r/sv/x/new r/sv/x/y/new; echo 22 > r/sv/x/f; mv r/sv r/bad; btrfs -q subvolume snapshot sn r/sv")
		r.Settle(t)
		r.Check(t)
		sh(t, base, "cd b; touch r/sv/x/2 r/bad/x/2; mv r/sv r/worse; btrfs -q subvolume snapshot sn r/sv; touch r/sv/x/y/3")
		r.Settle(t)
		r.Check(t)
		r.Stop()
	})
}

// Directories that fold case: what is there has the name that it is listed with.
func TestFoldedCase(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		base := t.TempDir()
		disk(t, base, "c", "50M", ext4+" -O casefold", "mkdir r; chattr +F r 2>/dev/null && ls r/../R >/dev/null 2>&1 || true")
		if exec.Command("chattr", "+F", filepath.Join(base, "c/r")).Run() != nil {
			t.Skip("this kernel does not fold case")
		}
		sh(t, base, "cd c/r; touch a b; mkdir d e; touch d/f")
		r, g := gated(t, kind, filepath.Join(base, "c/r"), alone(kind))
		for _, mode := range []string{"", "once", "lost"} {
			shut(g, mode)
			for _, script := range []string{
				"rm a; touch A", "mv A a", "mv b B; echo 1 > B", "mv B b", "rm -r d; mkdir D; touch D/g", "mv D d", "mv e E; touch E/f", "mv E e; rm e/f",
				"touch ä; mv ä Ä; touch Ä; rm Ä", "rm -r d; touch D; rm D; mkdir d; touch d/f",
			} {
				sh(t, base, "cd c/r; "+script)
				r.Settle(t)
				wantMirrored(t, r)
			}
			if t.Failed() {
				t.Fatalf("gate %q", mode)
			}
		}
		r.Stop()
	})
}

// firstSpelling is a source over a directory that folds case, where each name was first looked up in capitals: so the kernel says it when something leaves it.
type firstSpelling struct{ watch.Source }

func (s firstSpelling) Next(ctx context.Context, recs []watch.Record) (int, bool, error) {
	n, drained, err := s.Source.Next(ctx, recs)
	for i := range recs[:n] {
		if r := &recs[i]; r.Op&(watch.OpDelete|watch.OpMovedFrom) != 0 && r.Dir != 1<<32-1 {
			r.Name = bytes.ToUpper(r.Name)
		}
	}
	return n, drained, err
}

// What leaves a name is told under that, however the kernel spells it.
func TestLeavesByAnotherSpelling(t *testing.T) {
	needObjects(t)
	base := t.TempDir()
	sh(t, base, "mkdir in out in/d in/e; touch in/removed in/left in/renamed in/é in/d/below")
	r := watchtest.Start(t, "fanotify", filepath.Join(base, "in"), alone("fanotify"), func(c *watch.Config) { c.Source = firstSpelling{c.Source} })
	r.Keep()
	sh(t, base, "cd in; rm removed é; rmdir e; mv left d ../out; mv renamed inside")
	r.Settle(t)
	told := types(r)
	for _, want := range []string{"child_file_removed removed", "child_file_removed é", "child_dir_removed e", "child_file_moved_from left", "child_dir_moved_from d", "child_file_moved_to inside"} {
		if !slices.Contains(told, want) {
			t.Errorf("%q is not told", want)
		}
	}
	r.Check(t)
	r.Stop()
}

// A change that does not move the change time, as on vfat, is told once and remembered; and on it directories are watched however long they were
// not used.
func TestVFAT(t *testing.T) {
	for _, kind := range []string{"auto", "inotify"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			base := t.TempDir()
			disk(t, base, "v", "20M", "mkfs.vfat", "mkdir sub; touch f")
			r := watchtest.Start(t, kind, filepath.Join(base, "v"), alone(kind))
			r.Keep()
			sh(t, base, "chmod a-w v/f")
			r.Settle(t)
			if n := count(r, notify.ChildACLChanged, "f"); n != 1 {
				t.Errorf("told %d times that the mode changed", n)
			}
			sh(t, base, "touch -a v/f; chmod a-w v/f; touch v/other")
			r.Settle(t)
			if n := count(r, notify.ChildACLChanged, "f"); n != 0 {
				t.Errorf("told %d times more that the mode changed", n)
			}
			for _, e := range r.Snap(t).Entries {
				if e.Path == "f" && e.Attr.Mode&0o222 != 0 {
					t.Errorf("the tree has mode %o", e.Attr.Mode)
				}
			}
			sh(t, base, "sync; echo 2 > /proc/sys/vm/drop_caches; touch v/sub/new")
			wantMirrored(t, r)
			r.Check(t)
		})
	}
}

// Times of whole seconds, as ext4 has them with small inodes, do not hide what is written within one; nor how the mode changes, from a sweep.
func TestWholeSeconds(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		if kind == "poll" {
			t.Skip("it may look only once")
		}
		t.Parallel()
		base := t.TempDir()
		disk(t, base, "o", "50M", ext4+" -I 128", "echo 0000 > f; touch g")
		r, g := gated(t, kind, filepath.Join(base, "o"), alone(kind))
		r.Keep()
		for i := range 5 {
			sh(t, base, "printf "+string(rune('a'+i))+" | dd of=o/f conv=notrunc status=none")
			r.Sync(t)
			if n := count(r, notify.ChildDataWritten, "f"); n < 1 {
				t.Errorf("write %d was not told", i)
			}
		}
		for _, mode := range []string{"600", "640", "604"} {
			g.Lose()
			sh(t, base, "chmod "+mode+" o/g; touch o/h; rm o/h")
			r.Settle(t)
			if n := count(r, notify.ChildACLChanged, "g"); n != 1 {
				t.Errorf("mode %s: told %d times", mode, n)
			}
		}
		r.Stop()
	})
}

// withoutAttrib is a source that loses what it says of attributes.
type withoutAttrib struct{ watch.Source }

func (s withoutAttrib) Next(ctx context.Context, recs []watch.Record) (int, bool, error) {
	n, drained, err := s.Source.Next(ctx, recs)
	for i := range recs[:n] {
		recs[i].Op &^= watch.OpAttrib
	}
	return n, drained, err
}

// Who writes to a file takes its capabilities away, and there is no record of that. Nor is an attribute missed whose record was lost, and which was set
// before the look at what was written.
func TestAttributesWithoutARecord(t *testing.T) {
	needRoot(t, "set capabilities")
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		dir := t.TempDir()
		sh(t, dir, "echo 1 > f; echo 1 > g; setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 f")
		r, g := gated(t, kind, dir, alone(kind), func(c *watch.Config) { c.Source = withoutAttrib{c.Source} })
		r.Keep()
		sh(t, dir, "echo >> f")
		r.Settle(t)
		if n := count(r, notify.ChildExtraAttrsChanged, "f"); n != 1 {
			t.Errorf("capabilities went, and that was told %d times", n)
		}
		g.Hold(0, 0)
		sh(t, dir, "echo 2 >> g; setfattr -n user.x -v 1 g")
		r.Settle(t)
		told := count(r, notify.ChildExtraAttrsChanged, "g") // poll sees both
		g.Lose()
		sh(t, dir, "touch h")
		r.Settle(t)
		if n := count(r, notify.ChildExtraAttrsChanged, "g"); told+n != 1 {
			t.Errorf("an attribute was set, and that was told %d times, and %d times in a sweep", told, n)
		}
		r.Stop()
	})
}

// Globs that name a place judge what a directory holds otherwise when it has another name.
func TestExcludedByPlace(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		dir := t.TempDir()
		sh(t, dir, "mkdir -p cur/d a/d; touch cur/x.tmp cur/y cur/d/z a/x.tmp a/y a/d/z a/d/x.tmp")
		r := watchtest.Start(t, kind, dir, alone(kind), func(c *watch.Config) { c.Exclude = []string{"cur/*.tmp", "**/cur/d/*.tmp"} })
		want := func(hidden ...string) {
			t.Helper()
			r.Settle(t)
			disk, err := watchtest.DiskListing(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range hidden {
				if _, ok := disk[path]; !ok {
					t.Fatalf("%s is not there", path)
				}
				delete(disk, path)
			}
			if diff := watchtest.Diff("the mirror", r.Mirror.Listing(), "the disk but for what is left out", disk); len(diff) > 0 {
				t.Error(strings.Join(diff, "\n"))
			}
		}
		want("cur/x.tmp")
		sh(t, dir, "mv cur old")
		want()
		sh(t, dir, "mv a cur")
		want("cur/x.tmp", "cur/d/x.tmp")
		sh(t, dir, "mv cur old/cur")
		want("old/cur/d/x.tmp")
		if faults := r.Mirror.Faults(); len(faults) > 0 {
			t.Error(slices.Compact(faults))
		}
	})
}

// A copy of a file system, mounted beside it, has its identity: what the kernel says of the one may be of the other, and only looks tell.
func TestACopyBesideAFileSystem(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		base := t.TempDir()
		disk(t, base, "a", "20M", ext4, "mkdir d e; for i in $(seq 40); do echo $i > d/$i; done")
		sh(t, base, "umount a; cp a.img b.img; mkdir -p top/a top/b; mount -o loop a.img top/a; mount -o loop,ro,noload b.img top/b")
		r, g := gated(t, kind, filepath.Join(base, "top"), alone(kind), believing)
		r.Keep()
		shut(g, "once")
		sh(t, base, "cd top/a; for i in $(seq 20); do mv d/$i e/$i; done; rm d/2? d/3?")
		r.Sync(t)
		for _, s := range types(r) {
			if strings.Contains(s, " b/") {
				t.Errorf("told of the copy: %s", s)
			}
		}
		r.Settle(t)
		r.Check(t)
	})
}

// addKey unlocks what is encrypted with the key of these tests on a file system, and gives the name of the key.
func addKey(t *testing.T, dir string) (name [16]byte) {
	t.Helper()
	arg := struct {
		unix.FscryptAddKeyArg
		raw [64]byte
	}{}
	arg.Key_spec.Type, arg.Raw_size = unix.FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER, uint32(len(arg.raw))
	for i := range arg.raw {
		arg.raw[i] = byte(i)
	}
	onDir(t, dir, unix.FS_IOC_ADD_ENCRYPTION_KEY, unsafe.Pointer(&arg))
	copy(name[:], arg.Key_spec.U[:])
	return name
}

func onDir(t *testing.T, dir string, request uint, arg unsafe.Pointer) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg)); e != 0 {
		t.Skipf("this kernel does not encrypt: %v", e)
	}
}

// The names in a directory that is encrypted are others as soon as its key is there, and no record says so. Nothing has been removed.
func TestUnlocked(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		t.Parallel()
		base := t.TempDir()
		disk(t, base, "e", "50M", ext4+" -O encrypt", "mkdir home")
		top := filepath.Join(base, "e")
		name := addKey(t, top)
		policy := unix.FscryptPolicyV2{Version: 2, Contents_encryption_mode: unix.FSCRYPT_MODE_AES_256_XTS,
			Filenames_encryption_mode: unix.FSCRYPT_MODE_AES_256_CTS, Master_key_identifier: name}
		onDir(t, top+"/home", unix.FS_IOC_SET_ENCRYPTION_POLICY, unsafe.Pointer(&policy))
		sh(t, base, "mkdir -p e/home/docs/old; touch e/home/a e/home/docs/b e/home/docs/old/c; "+patient+"umount e; mount -o loop e.img e")
		r := watchtest.Start(t, kind, top, alone(kind))
		r.Keep()
		addKey(t, top)
		sh(t, base, "touch e/home/docs/new")
		r.Settle(t)
		told := types(r)
		for _, want := range []string{"child_dir_moved_to home/docs", "child_file_moved_to home/a", "child_file_moved_to home/docs/old/c"} {
			if !slices.Contains(told, want) {
				t.Errorf("told %q, want %q", told, want)
			}
		}
		if slices.ContainsFunc(told, func(s string) bool { return strings.Contains(s, "removed") }) {
			t.Errorf("told %q", told)
		}
		wantMirrored(t, r)
		r.Check(t)
		key := unix.FscryptRemoveKeyArg{Key_spec: unix.FscryptKeySpecifier{Type: unix.FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER}}
		copy(key.Key_spec.U[:], name[:])
		onDir(t, top, unix.FS_IOC_REMOVE_ENCRYPTION_KEY, unsafe.Pointer(&key))
		r.Settle(t)
		if told := types(r); slices.ContainsFunc(told, func(s string) bool { return strings.Contains(s, "removed") }) {
			t.Errorf("locked again: told %q", told)
		}
		wantMirrored(t, r)
		r.Check(t)
		r.Stop()
	})
}
