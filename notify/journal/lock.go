package journal

import (
	"errors"
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
	path string

	mu   sync.Mutex
	f    *os.File
	file os.FileInfo        // f
	head notify.BatchNumber // as last written
}

// lockText has a fixed width, so that it is overwritten in place: that works on a full disk too.
func lockText(pid int, head notify.BatchNumber) string {
	return fmt.Sprintf("pid %10d\nhead %20d\n", pid, head)
}

// lockState locks a state directory. It gives the highest number that is on record there.
func lockState(dir string) (*stateLock, notify.BatchNumber, error) {
	const op = "journal.Open"
	l := &stateLock{path: filepath.Join(dir, "lock")}
	head, err := l.acquire()
	var taken *takenError
	switch {
	case errors.As(err, &taken):
		return nil, 0, &notify.Error{Op: op, Path: dir, Kind: notify.Unavailable,
			Msg: fmt.Sprintf("state directory %q is in use by %s: stop that one, or give another --state-dir", dir, taken.who)}
	case err != nil:
		return nil, 0, openError(op, l.path, err)
	}
	if err := l.write(head); err != nil {
		l.close()
		return nil, 0, openError(op, l.path, err)
	}
	return l, head, nil
}

// takenError says who has the lock.
type takenError struct{ who string }

func (e *takenError) Error() string { return "it is locked by " + e.who }

// acquire locks the file, which it makes if it is not there, and gives the number that is on record in it. Only if that works
// it is the one of l. The caller holds mu, or has not shared l yet.
func (l *stateLock) acquire() (head notify.BatchNumber, err error) {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	text, _ := io.ReadAll(io.LimitReader(f, 100))
	var pid int
	fmt.Sscanf(string(text), "pid %d\nhead %d\n", &pid, &head)
	if err := lockFile(f); err != nil {
		who := "another process"
		if pid > 0 {
			who = fmt.Sprintf("process %d", pid)
		}
		return 0, &takenError{who}
	}
	if string(text) != lockText(pid, head) {
		head = 0
		if err := f.Truncate(0); err != nil {
			return 0, err
		}
	}
	file, err := f.Stat()
	if err != nil {
		return 0, err
	}
	l.f, l.file = f, file
	return head, nil
}

// keep sees to it that the file is where others look for it, and says whether it had to be put back. takenError: another process has locked
// the one that is there now.
func (l *stateLock) keep() (back bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !misplaced(l.path, l.file) {
		return false, nil
	}
	lost := l.f
	head, err := l.acquire()
	if err != nil {
		return false, err
	}
	lost.Close()
	head = max(head, l.head)
	l.head = 0 // until it is there
	return true, l.put(head)
}

// write notes how far the numbers went, and which process this is.
func (l *stateLock) write(head notify.BatchNumber) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if head == l.head && head > 0 {
		return nil
	}
	return l.put(head)
}

// put writes the text. The caller holds mu.
func (l *stateLock) put(head notify.BatchNumber) error {
	if _, err := l.f.WriteAt([]byte(lockText(os.Getpid(), head)), 0); err != nil {
		return err
	}
	l.head = head
	return nil
}

func (l *stateLock) close() error {
	unlockFile(l.f)
	return l.f.Close()
}
