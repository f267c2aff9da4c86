//go:build !linux

package journal

import "sync"

// dataSync is the name of a VFS that syncs data only: SQLite's own will do.
func dataSync() string { return "" }

// reserve would make room for appends, if a sync were cheaper then.
func (d *database) reserve(int64, sync.Locker) error { return nil }
