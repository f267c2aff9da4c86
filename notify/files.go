package notify

import "time"

// Entry is one name below a root, as it was last told.
type Entry struct {
	Root  FileID // file ID of the root directory
	Path  string // raw bytes, relative to the root; "" is the root itself
	Spine Spine  // from the root down to the entry
	Attr  Attr
}

// ID is the file ID of the entry itself.
func (e *Entry) ID() FileID { return e.Spine[len(e.Spine)-1] }

// RootPhase says how far a root is.
type RootPhase uint8

// The phases of a root. Only in Live do its notifications flow.
const (
	Indexing RootPhase = iota // the first scan is under way
	Live                      // all is watched
	Away                      // unmounted, replaced or unreadable: nothing is known
)

// String names the phase.
func (p RootPhase) String() string { return [...]string{"indexing", "live", "away"}[p] }

// RootState is what a client or an administrator may want to know of a root.
type RootState struct {
	Name     string // the absolute path under which it is served, "/srv/data"
	Dir      string // the directory of the host behind it
	ID       FileID // 0 until known
	Phase    RootPhase
	Reason   string     // why it is Away
	Since    time.Time  // from when on it is Away
	Indexed  int64      // entries found so far, while Indexing
	Progress float64    // 0 to 1, a guess, while Indexing; 0 while Away
	Entries  int64      // entries in the tree
	Source   string     // "inotify", "fanotify", "fsnotify", "poll"
	Degraded []Degraded // some of them, if they are many
	// DegradedCount is how many there are.
	DegradedCount int
	Closes        bool // the source can tell child_file_closed
}

// Degraded is a subtree that cannot be watched and is swept on a timer instead.
type Degraded struct {
	Path   string // relative to the root
	Reason string // what is wrong and what would mend it
	Since  time.Time
}

// Snapshot is the entries below a directory, all as of one Seq. Parents come before their
// children; Entries[0] is the directory itself.
type Snapshot struct {
	Seq     Seq
	Entries []Entry
}
