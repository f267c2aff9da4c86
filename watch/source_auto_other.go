//go:build !linux

package watch

import (
	"fmt"
	"runtime"
)

func newAuto(opts SourceOptions) (Source, error) {
	opts.logger().Info("watcher chosen", "watcher", "fsnotify", "why", "there is no other on "+runtime.GOOS)
	return NewFsnotify()
}

func newNative(kind string, _ SourceOptions) (Source, error) {
	return nil, fmt.Errorf("watcher %q: only on Linux, not on %s", kind, runtime.GOOS)
}
