package watch

import (
	"context"
	"errors"
)

// A Source reports what the kernel said about names in the directories that it was
// told to watch, in the kernel's order as far as it has one. Records are hints: each makes one name
// worth a look. Only one that says which object it is about may be believed for a while.
//
// One goroutine calls Next, another one Watch and Unwatch; Close may come from any, and makes
// Next return ErrClosed.
//
// A source that keeps files of its own also has Private() []string: directories that nobody is to be told of.
type Source interface {
	// Name is the word for --watcher: "fsnotify", "inotify", "fanotify", "poll".
	Name() string
	// Caps says what this source can see.
	Caps() Caps
	// Watch makes the source report changes of the names in a directory as records with this
	// ref, from the moment it returns: the caller lists the directory after that. Watching a ref again
	// replaces its watch; a directory that is watched under several refs is reported under each. ErrPolled: this file system cannot notify; the caller sweeps the directory on a timer instead. Any
	// other error (ENOSPC, EMFILE, EACCES, ...) degrades the directory: it is swept too, and told.
	Watch(ref DirRef, at Place) error
	// Unwatch ends it. Records of ref that are under way may still come.
	Unwatch(ref DirRef)
	// Next blocks until there is something, fills recs and says whether the kernel's queue is
	// drained. The names in recs are valid until the next call. ErrOverflow: some records are lost,
	// sweep, go on. Of a record of a directory that is not (yet, any more) watched nothing is left but which object changed, and how: its Dir
	// is 0, and it has no Name. If that is not known either, it is dropped.
	Next(ctx context.Context, recs []Record) (n int, drained bool, err error)
	Close() error
}

// pollName is the source of directories that cannot be watched.
const pollName = "poll"

// sourceOf is the word for what watches a directory: one source may use several, and what it does not watch is swept.
func sourceOf(s Source, r ref) string {
	m, ok := s.(interface{ NameOf(DirRef) string })
	if !ok {
		return s.Name()
	}
	if name := m.NameOf(r); name != "" {
		return name
	}
	return pollName
}

// DirRef is the caller's name for a directory in calls and records. Refs are small numbers, reused after Unwatch.
type DirRef uint32

// Place is an open directory.
type Place struct {
	FD      int    // open with O_PATH or O_RDONLY, owned by the caller; -1 where the platform has no such thing
	Path    string // absolute; may be out of date or longer than PATH_MAX: only for platforms without FD, and for logs
	Mount   uint64 // which mount it lies on: STATX_MNT_ID or another number that differs between mounts
	Private bool   // the caller's own barrier directory: do not extend a mark to its whole file system
}

// Op is what a record says happened to a name.
type Op uint16

// Several may be set in one record, where the kernel merges.
const (
	OpCreate     Op = 1 << iota // the name came to be, by create, mkdir, link, ...
	OpDelete                    // the name was unlinked
	OpMovedFrom                 // the name was renamed away
	OpMovedTo                   // something was renamed to this name
	OpModify                    // data may have been written
	OpCloseWrite                // a file open for writing was closed
	OpAttrib                    // some attribute may have changed
	OpAccess                    // it was read
	OpLost                      // Dir's watch has ended or Dir itself was moved: if it is still in the tree, watch and list it again; no name
	OpSelf                      // attributes of Dir itself; with OpModify, its modification time was set and not both times; no name
	// OpFromNew speaks of a directory that was made in a watched one a moment ago, and was not watched itself yet: with OpMovedTo, the entry came from there; without
	// Dir, the object was changed there.
	OpFromNew
)

// Record is one thing that the kernel said.
type Record struct {
	Dir  DirRef // 0: some directory that is not watched
	Op   Op
	Name []byte // of the entry in Dir; empty for OpLost and OpSelf, and without a Dir
	// Cookie joins the MovedFrom and MovedTo of one rename; 0 in an OpMovedFrom or OpMovedTo: there
	// is no other half in the watched directories. A source that has both halves in one record gives two records, From first. The other half of one that has
	// a cookie may not come: what was renamed away is in a directory that is new then.
	Cookie uint32
	PID    int32 // thread group that did it; 0 unknown
	// Object is the file handle of the entry itself, type and bytes as name_to_handle_at(2) gives them; nil: the kernel does not say it.
	// It is valid as long as Name. By the time that somebody looks, the name may be another object's, or gone.
	Object []byte
}

// Caps is what a source can see.
type Caps struct {
	Closes bool // OpCloseWrite: child_file_closed can be told, mmap and AIO writes are seen at close
	Reads  bool // OpAccess
	Exact  bool // the queue does not lose records
	Actors bool // PID
}

// Errors of sources.
var (
	ErrOverflow = errors.New("the kernel's queue overflowed: records were lost")
	ErrClosed   = errors.New("source closed")
	ErrPolled   = errors.New("this file system does not notify: it is swept on a timer")
)
