package journal

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"fs_notify/notify"
)

// stateLock is the file that only one process has locked. It also says how far the numbers went, for the
// case that the database is lost and the clock goes back.
type stateLock struct {
	f *os.File

	mu   sync.Mutex
	head notify.BatchNumber // as last written
}

// lockText has a fixed width, so that it is overwritten in place: that works on a full disk too.
func lockText(pid int, head notify.BatchNumber) string {
	return fmt.Sprintf("pid %10d\nhead %20d\n", pid, head)
}

// lockState locks a state directory. It gives the highest number that is on record there.
func lockState(dir string) (*stateLock, notify.BatchNumber, error) {
	const op = "journal.Open"
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, 0, openError(op, path, err)
	}
	text, _ := io.ReadAll(io.LimitReader(f, 100))
	var pid int
	var head notify.BatchNumber
	fmt.Sscanf(string(text), "pid %d\nhead %d\n", &pid, &head)
	if err := lockFile(f); err != nil {
		f.Close()
		who := "another process"
		if pid > 0 {
			who = fmt.Sprintf("process %d", pid)
		}
		return nil, 0, &notify.Error{Op: op, Path: dir, Kind: notify.Unavailable, Err: err,
			Msg: fmt.Sprintf("state directory %q is in use by %s: stop that one, or give another --state-dir", dir, who)}
	}
	if string(text) != lockText(pid, head) {
		head = 0
		if err := f.Truncate(0); err != nil {
			f.Close()
			return nil, 0, openError(op, path, err)
		}
	}
	l := &stateLock{f: f}
	if err := l.write(head); err != nil {
		f.Close()
		return nil, 0, openError(op, path, err)
	}
	return l, head, nil
}

// write notes how far the numbers went, and which process this is.
func (l *stateLock) write(head notify.BatchNumber) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if head == l.head && head > 0 {
		return nil
	}
	if _, err := l.f.WriteAt([]byte(lockText(os.Getpid(), head)), 0); err != nil {
		return err
	}
	l.head = head
	return nil
}

func (l *stateLock) close() error { return l.f.Close() }
