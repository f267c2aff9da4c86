package watchtest

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// queueSetting is how many records the kernel keeps for one inotify instance. It counts when the instance is made.
const queueSetting = "/proc/sys/fs/inotify/max_queued_events"

// WithQueue calls open while the kernel gives new inotify instances a queue of so many records, and puts the setting back. It is
// one for the whole machine: processes that use WithQueue take turns. Only root may; the error says so.
func WithQueue(records int, open func() error) (err error) {
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "fs_notify-queue.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() // gives the lock back
	for err = syscall.EINTR; err == syscall.EINTR; {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		return err
	}
	was, err := os.ReadFile(queueSetting)
	if err != nil {
		return err
	}
	if err := os.WriteFile(queueSetting, []byte(strconv.Itoa(records)), 0); err != nil {
		return err
	}
	defer func() {
		if e := os.WriteFile(queueSetting, was, 0); err == nil {
			err = e
		}
	}()
	return open()
}
