package access

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The service reads its file also after root has changed it; who cannot leave it to the service changes nothing.
func TestFileKeepsItsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	dir, err := os.MkdirTemp("", "tokens") // t.TempDir() is in a directory of root alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	name := filepath.Join(dir, "tokens.yaml")
	text := "tokens:\n" + entry("a", "secret-a", anyRights) + entry("b", "secret-b", anyRights) + entry("c", "secret-c", anyRights)
	for _, err := range []error{os.WriteFile(name, []byte(text), 0o644), os.Chmod(dir, 0o777), os.Chown(name, 1234, 1235)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	revoke := func(token string) error {
		f, err := ReadFile(name)
		if err == nil {
			err = f.Revoke(token)
		}
		if err == nil {
			err = f.Write(name)
		}
		return err
	}
	check := func(tokens int) {
		t.Helper()
		st, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if s := st.Sys().(*syscall.Stat_t); s.Uid != 1234 || s.Gid != 1235 || st.Mode() != 0o644 {
			t.Errorf("the file is of %d:%d with %v", s.Uid, s.Gid, st.Mode())
		}
		if f, err := ReadFile(name); err != nil || len(f.Tokens) != tokens {
			t.Errorf("the file has %d tokens, want %d; %v", len(f.Tokens), tokens, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	if err := revoke("a"); err != nil {
		t.Error(err)
	}
	check(2)

	refused := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), 65534, ^uintptr(0)); errno != 0 {
			refused <- errno
			return
		}
		refused <- revoke("b")
	}()
	if err := <-refused; !errors.Is(err, fs.ErrPermission) {
		t.Errorf("as somebody else: %v", err)
	}
	check(2)
}

// Of many who change the file at once, none takes back what another did.
func TestWritersWaitForEachOther(t *testing.T) {
	name := filepath.Join(t.TempDir(), "tokens.yaml")
	if err := os.WriteFile(name, []byte("tokens:\n"+entry("revoked", "secret", anyRights)), 0o600); err != nil {
		t.Fatal(err)
	}
	const writers = 20
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			unlock, err := Lock(name)
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			f, err := ReadFile(name)
			if err == nil && i == writers/2 {
				err = f.Revoke("revoked")
			} else if err == nil {
				_, err = f.Create(Token{Name: fmt.Sprint("t", i), Privileges: []string{"notify"}}, false)
			}
			if err == nil {
				err = f.Write(name)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	f, err := ReadFile(name)
	if err != nil || len(f.Tokens) != writers-1 {
		t.Fatalf("%d tokens, want %d; %v", len(f.Tokens), writers-1, err)
	}
	if err := f.Revoke("revoked"); !errors.Is(err, ErrUnknown) {
		t.Error("what was revoked is there again")
	}
}
