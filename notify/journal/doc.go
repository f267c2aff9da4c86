// Package journal keeps what was told: batches of notifications, numbered once and for all, to be read
// again from any cursor that is still kept; and the trees that they add up to.
//
// [Memory] keeps them in memory only, for a process that nobody resumes from. [Journal] keeps them in a state directory, and the newest ones
// in memory too; with it goes a checkpoint, every entry of every root as it was last told, which follows the journal by itself
// ([Journal.LoadTree], [Journal.ResetTree]). [Reader] looks at a state directory from outside. docs/journal-format.md has every byte of it.
//
// Promised:
//   - Numbers rise strictly, and no number is given out twice by one state directory, whatever happens to the clock or to
//     the process.
//   - A batch is seen whole or not at all. Each names its predecessor, so a reader can tell a hole from a quiet time.
//   - What Append has acknowledged is on disk, or State says that the journal is down.
//   - A cursor that cannot be read on from without a hole is not contained, or the batch behind it shows the hole: as its Prev, or as a batch
//     with Root 0, which stands for one that is damaged. No other notification is ever given than the one that was appended.
//   - A tree that is loaded is what the batches up to its number add up to, or there is an error.
//
// Not promised:
//   - That a number is exactly the millisecond of its writing. It is, unless the clock stood, went back or says a time beyond all numbers,
//     or more than one batch a millisecond was appended: then it is one more than its predecessor.
//   - That a number means one thing only, if the state directory was wiped or put back from a backup and at the same time the clock was set back, or
//     numbers had run more than 100 ms ahead of it. Then a cursor from before can meet a new batch, if the two have the same millisecond.
//     The same holds, with the clock set back, for batches that were numbered while the disk failed, in the last second before the process died.
//
// One goroutine appends, and one runs [Journal.Run]. Everything else may be called from any goroutine. Batches and notifications that
// were appended are shared and altered by nobody.
package journal
