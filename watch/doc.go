// Package watch turns what the kernel says below the roots into notifications.
//
// Events are hints, the tree is the truth. A [Source] makes names dirty; the tree (every entry's
// identity and attributes as last told) is compared with the disk at the dirty names, and only a real
// difference becomes a notification. One mechanism, reconcile, serves a record (one name), a
// new directory (its names), overflow, restart and file systems that cannot notify (a sweep of all names). In a storm, records that say all
// there is to say are believed first, and checked later.
//
// Promised: whoever folds the batches of a root in order, from a [Watcher.Snapshot] on, holds a tree that is
// valid at every step and equals the disk whenever the disk is quiet. Not promised: what was made
// and unmade between two looks, and the order of changes inside one batch beyond what validity asks.
//
// A Watcher runs three goroutines: the reader drains the source into the set of dirty names and never
// waits for the others; the tree looks at names, with two workers where there are many, and builds batches;
// the writer appends them to the [Sink]. Between its looks the tree reads the extended attributes that a first
// scan has left. Others come and go: at the start, one that hands a first scan to [Past] and one that drops what it remembers of
// roots that are no longer served; later, one for each root that stores those attributes. The tree waits for the first and the last of these
// before it ends. [Watcher.Run] returns when all have ended. Lookups come from any goroutine.
package watch
