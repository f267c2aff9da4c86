// Package notify holds the words that every other package speaks: the types
// of a change, the IDs of files, the order of changes, and the errors that
// cross package borders. It does no I/O, starts no goroutine and imports the
// standard library only.
//
// A [Notification] is one change to one name below a root, as it is kept in
// the journal: its path and [Spine] start at the root. What a client sees of it
// depends on the directory that it watches: [Notification.Below] finds that
// directory in the spine, and [AppendJSON] writes the part below it. A [Batch] is
// what was found in one go.
//
// Values are plain data. Nobody alters a Notification or a Batch once it has been
// handed on, so any number of goroutines may share them.
package notify
