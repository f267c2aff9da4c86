package journal_test

import (
	"testing"
	"time"

	"fs_notify/notify/feed"
	"fs_notify/notify/journal"
	"fs_notify/notify/journal/logtest"
)

var _ feed.Log = (*journal.Journal)(nil)

func TestJournal(t *testing.T) {
	logtest.Run(t, func(t testing.TB, now func() time.Time, ringBytes int) logtest.Log {
		j, err := journal.Open(t.TempDir(), journal.Options{Now: now, RingBytes: ringBytes})
		if err != nil {
			t.Fatal(err)
		}
		return j
	})
}
