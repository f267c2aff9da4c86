package watch

import (
	"fmt"
	"log/slog"
)

// SourceOptions are the wishes that a source can be given.
type SourceOptions struct {
	Atime  bool         // report reads (OpAccess) if the source can
	Logger *slog.Logger // what was chosen and why; nil: nowhere
}

func (o SourceOptions) logger() *slog.Logger {
	if o.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Logger
}

// SourceKinds are the words that [NewSource] takes.
func SourceKinds() []string { return []string{"auto", "fsnotify", "inotify", "fanotify", pollName} }

// NewSource returns the source of one of [SourceKinds].
//
// "auto" is fanotify where that may be used, with inotify for the file systems that fanotify
// cannot mark; else inotify; elsewhere than on Linux, fsnotify.
func NewSource(kind string, opts SourceOptions) (Source, error) {
	switch kind {
	case "auto":
		return newAuto(opts)
	case "fsnotify":
		return NewFsnotify()
	case "inotify":
		return newNative(kind, opts)
	case "fanotify":
		return newNative(kind, opts)
	case pollName:
		return NewPoll(), nil
	}
	return nil, fmt.Errorf("unknown watcher %q, there are %q", kind, SourceKinds())
}
