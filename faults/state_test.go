//go:build linux

package faults_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The disk of the state directory is full for a while. The stream goes on, and nothing is missing when there is room again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	rounds := pick(2, 10)
	v := newVolume(t, "tmpfs", fmt.Sprint(8*rounds, "m")) // what is remembered of all rounds has to fit
	r := dice(t)
	s := newService(t, t.TempDir())
	s.state = filepath.Join(v.dir, "state")
	l := newLoad(t, s)
	l.fill(r, 300)
	s.start()
	c := follow(t, s)
	c.begun(t)
	for range rounds {
		l.while(r, func() {
			pause()
			v.fill()
			s.says("the journal is down")
			pause()
		})
		c.holds(t, s) // live, from memory
		if status, body := s.get("/readyz"); status != 200 || !strings.Contains(body, `"journal":{"ok":false,"since":`) {
			t.Errorf("/readyz while the journal is down: %d %s", status, body)
		}
		l.while(r, func() {
			v.free()
			s.says("the journal is up again")
			pause()
		})
		if status, body := s.get("/readyz"); status != 200 || !strings.Contains(body, `"journal":{"ok":true,"unsaved":0}`) {
			t.Errorf("/readyz when the journal is up again: %d %s", status, body)
		}
		c.holds(t, s)
		s.kill()
		s.start()
		c.holds(t, s)
	}
	c.neverGone(t)

	// Killed while the disk is full: what memory alone had is gone, which is said, and no number is given again.
	l.while(r, func() {
		v.fill()
		s.says("the journal is down")
		pause()
	})
	c.holds(t, s)
	s.kill()
	for range 2 {
		if !s.tryStart() {
			s.refused("the disk is full", "--state-dir")
		} else {
			c.holds(t, s)
			s.kill()
		}
	}
	v.free()
	s.start()
	l.while(r, pause)
	c.holds(t, s)
	s.stop()
	if _, _, gone, _ := c.where(); gone == 0 {
		t.Error("notifications that were never saved were not told to be gone")
	}
}

// The state directory's file system turns read-only under the service, as it does after an I/O error. The stream goes on.
func TestDiskTurnsReadOnly(t *testing.T) {
	t.Parallel()
	v := newVolume(t, "ext4", "64m")
	r := dice(t)
	s := newService(t, t.TempDir())
	s.state = filepath.Join(v.dir, "state")
	l := newLoad(t, s)
	l.fill(r, 300)
	s.start()
	c := follow(t, s)
	c.begun(t)
	l.while(r, pause)
	c.holds(t, s)
	v.do("mount", "-o", "remount,abort", v.dir)
	l.while(r, func() {
		s.says("the journal is down")
		pause()
	})
	c.holds(t, s)
	c.neverGone(t)
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.refused("could not be saved")
	s.launch()
	s.refused("--state-dir")
	v.again()
	s.start()
	l.while(r, pause)
	c.holds(t, s)
	if _, _, gone, _ := c.where(); gone != 1 {
		t.Errorf("the cursor was gone %d times, want once: it lay in what could not be saved", gone)
	}
	s.stop()
}

// The state directory's file system is frozen, as for a snapshot of the disk. Nothing can be saved, so nothing is told; all else goes on, and what is
// asked says how things are. When it thaws, all is told.
func TestDiskFrozen(t *testing.T) {
	t.Parallel()
	v := newVolume(t, "ext4", "64m")
	r := dice(t)
	admin := freeAddress(t)
	s := newService(t, t.TempDir(), "--admin-listen", admin)
	s.state = filepath.Join(v.dir, "state")
	l := newLoad(t, s)
	l.fill(r, 300)
	s.start()
	c := follow(t, s)
	c.begun(t)
	l.while(r, pause)
	c.holds(t, s)
	thaw := v.freeze()
	l.while(r, func() {
		if !within(func() bool {
			_, said := s.get("/readyz")
			return strings.Contains(said, "the disk has not answered for")
		}) {
			t.Error("/readyz does not say that the journal's disk does not answer")
		}
		for range 3 { // a collection of garbage stops the world
			if status, said := get("http://" + admin + "/debug/pprof/heap?gc=1"); status != http.StatusOK {
				t.Fatalf("the service hangs with its disk: %d %s", status, said)
			}
		}
		if status, said := s.get("/healthz"); status != http.StatusOK {
			t.Errorf("/healthz: %d %s", status, said)
		}
	})
	thaw()
	l.while(r, pause)
	c.holds(t, s)
	c.neverGone(t)
	if _, said := s.get("/readyz"); strings.Contains(said, "has not answered") {
		t.Errorf("after the thaw: %s", said)
	}
	s.stop()
}

// The power fails: files and journal lose what was not synced. Whatever a client was told is in the journal, and what the disk
// has forgotten is told as it is found.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			v := newVolume(t, kind, "512m")
			r := dice(t)
			s := newService(t, v.dir)
			l := newLoad(t, s)
			l.fill(r, 300)
			s.start()
			c := follow(t, s)
			c.begun(t)
			for range pick(2, 20) {
				l.while(r, func() {
					pause()
					s.freeze()
				})
				v.powerCut()
				s.kill()
				v.again()
				s.start()
				l.while(r, pause)
				c.holds(t, s)
			}
			c.neverGone(t)
			s.stop()
		})
	}
}

// A state directory that cannot be written is refused at the start, and one that somebody else uses too.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := newService(t, t.TempDir())
	s.start()
	s.live()
	c := follow(t, s)
	c.begun(t)

	second := newService(t, t.TempDir())
	second.state = s.state
	second.launch()
	second.refused("in use by process", "--state-dir")
	third := newService(t, t.TempDir())
	third.addr = s.addr
	third.launch()
	third.refused("in use", "--listen")
	if err := os.WriteFile(s.root+"/still", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c.holds(t, s)
	c.neverGone(t)
	s.stop()

	for _, tt := range []struct {
		name    string
		prepare func(t *testing.T, state string) error
		words   string
	}{
		{"the state directory is a file", func(t *testing.T, state string) error { return os.WriteFile(state, nil, 0o600) }, "--state-dir"},
		{"its lock is a directory", func(t *testing.T, state string) error { return os.MkdirAll(state+"/lock", 0o700) }, "--state-dir"},
		{"its database is a directory", func(t *testing.T, state string) error { return os.MkdirAll(state+"/journal.db", 0o700) }, "--state-dir"},
		{"another program's database", func(t *testing.T, state string) error {
			return sqlite(t, state, "journal.db", "CREATE TABLE notes (text); PRAGMA application_id = 1234")
		}, "another program"},
		{"a later version's database", func(t *testing.T, state string) error {
			return sqlite(t, state, "journal.db", "PRAGMA user_version = 99")
		}, "newer"},
		{"a read-only file system", func(t *testing.T, state string) error {
			needRoot(t)
			os.MkdirAll(state, 0o700)
			if err := unix.Mount("tmpfs", state, "tmpfs", unix.MS_RDONLY, ""); err != nil {
				t.Skip(err)
			}
			t.Cleanup(func() { unix.Unmount(state, 0) })
			return nil
		}, "not writable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newService(t, t.TempDir())
			if strings.HasPrefix(tt.name, "a later") {
				s.start()
				s.live()
				s.stop()
			}
			if err := tt.prepare(t, s.state); err != nil {
				t.Fatal(err)
			}
			s.launch()
			s.refused(tt.words)
		})
	}
}

// Somebody deletes the lock. It is put back; or, if a second service was quicker, the first one ends and says why.
func TestLockRemoved(t *testing.T) {
	t.Parallel()
	s := newService(t, t.TempDir())
	s.start()
	s.live()
	lock := filepath.Join(s.state, "lock")
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	s.says("it is put back")
	second := newService(t, t.TempDir())
	second.state = s.state
	second.launch()
	second.refused("in use by process", "--state-dir")

	s.freeze()
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	second.start()
	s.thaw()
	s.refused("the lock of state directory", fmt.Sprintf("process %d has it now", second.cmd.Process.Pid))
	second.live()
	second.stop()
}

// sqlite runs a statement on a database in the state directory.
func sqlite(t testing.TB, state, name, statement string) error {
	t.Helper()
	if _, err := exec.LookPath("sqlite3"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v (CI=true: install it)", err)
		}
		t.Skip(err)
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	out, err := exec.Command("sqlite3", filepath.Join(state, name), statement).CombinedOutput()
	if err != nil {
		t.Logf("sqlite3: %s", out)
	}
	return err
}

// wipe removes the state directory. A service that runs puts its lock back as soon as it misses it, perhaps while the rest is removed.
func (s *service) wipe() error {
	for {
		if err := os.RemoveAll(s.state); !errors.Is(err, syscall.ENOTEMPTY) {
			return err
		}
	}
}

// The state directory is wiped, between two runs and under a running service. Every cursor is told to be gone; whichever way a client begins
// anew, it goes on rightly and sees no number again.
func TestWipedStateDirectory(t *testing.T) {
	t.Parallel()
	r := dice(t)
	s := newService(t, t.TempDir())
	l := newLoad(t, s)
	l.fill(r, 300)
	s.start()
	book := newLedger()
	var all []*consumer
	for _, how := range []string{"", "reset", "entries"} {
		c := follow(t, s, func(c *consumer) { c.book, c.onGone = book, how })
		c.begun(t)
		all = append(all, c)
	}
	hold := func() {
		t.Helper()
		for _, c := range all {
			c.holds(t, s)
		}
	}
	wipe := func() {
		if err := s.wipe(); err != nil {
			t.Fatal(err)
		}
	}
	l.while(r, pause)
	hold()
	s.stop()
	wipe()
	l.fill(r, 100)
	s.start()
	hold()
	l.while(r, pause)
	hold()
	for _, c := range all {
		if _, _, gone, _ := c.where(); gone != 1 {
			t.Errorf("onGone=%q: the cursor was gone %d times, want once", c.onGone, gone)
		}
	}

	wipe()
	l.while(r, func() { s.says("removed or replaced") })
	hold() // live, from memory
	s.kill()
	s.start()
	l.while(r, pause)
	hold()
	for _, c := range all {
		if _, _, gone, _ := c.where(); gone != 2 {
			t.Errorf("onGone=%q: the cursor was gone %d times, want twice", c.onGone, gone)
		}
	}
	s.stop()
}

// The state directory is removed under a running service, which ends before it has looked: that is said.
func TestStateDirectoryRemovedBeforeTheEnd(t *testing.T) {
	t.Parallel()
	s := newService(t, t.TempDir())
	s.start()
	s.live()
	c := follow(t, s)
	c.begun(t)
	if err := errors.Join(s.wipe(), os.WriteFile(filepath.Join(s.root, "f"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	c.holds(t, s)
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.refused("could not be saved", "removed or replaced")
}

// An old backup of the state directory is put back, one made while the service was stopped, and one made beside the running service
// as docs/operations.md says. Who read on after the backup is told that it is gone; who has not goes on.
func TestRestoredBackup(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		backup func(t *testing.T, s *service, to string)
	}{
		{"stopped", func(t *testing.T, s *service, to string) {
			s.stop()
			if err := os.CopyFS(to, os.DirFS(s.state)); err != nil {
				t.Fatal(err)
			}
			s.start()
		}},
		{"running", func(t *testing.T, s *service, to string) {
			if err := os.Mkdir(to, 0o700); err != nil {
				t.Fatal(err)
			}
			for _, db := range []string{"tree.db", "journal.db"} { // in this order
				if err := sqlite(t, s.state, db, ".backup "+to+"/"+db); err != nil {
					t.Fatal(err)
				}
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := dice(t)
			dir := t.TempDir()
			s := newService(t, dir)
			l := newLoad(t, s)
			l.fill(r, 300)
			s.start()
			c := follow(t, s, func(c *consumer) { c.record = true })
			c.begun(t)
			var early *consumer
			l.while(r, func() {
				pause()
				early = c.fork()
				pause()
				tt.backup(t, s, filepath.Join(dir, "backup"))
				pause()
			})
			c.holds(t, s)
			s.stop()
			if err := os.RemoveAll(s.state); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(dir, "backup"), s.state); err != nil {
				t.Fatal(err)
			}
			l.fill(r, 100)
			s.start()
			early.run(t)
			early.holds(t, s)
			early.neverGone(t)
			c.holds(t, s)
			l.while(r, pause)
			early.holds(t, s)
			c.holds(t, s)
			if _, _, gone, _ := c.where(); gone != 1 {
				t.Errorf("the cursor was gone %d times, want once: the backup does not have it", gone)
			}
			s.stop()
		})
	}
}
