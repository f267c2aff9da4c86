// Package client follows the notifications of an fs_notify server.
//
// [Watch] keeps one subscription alive: it connects, delivers, notices that a connection has
// died, waits, and goes on where it left off, until its context ends, its handler says stop, the
// watched directory is removed or the server says that trying again is of no use.
//
// Promised: the handler gets every notification once and in order, through cut connections and
// server restarts. The cursor moves only past data that the handler has accepted, so a program that
// saves it in [Options.OnCursor] can be stopped and started again for ever; after a crash between the two it gets the last
// frame a second time, and never misses one. What the server no longer has is told: as a [notify.Gone]
// error, or as a [Reset] to those who ask for it.
//
// The stream is parsed by github.com/r3labs/sse/v2, which is used for one connection at a time and
// kept from what it does badly. It takes a clean end of the stream for success, gives up 15 minutes after the first
// connect, waits deaf to its context, stores the id of a block that was cut off, stores ids before
// they are handled, hands out an empty event for each comment, ignores retry: and comes back for
// ever to an event that is larger than its buffer. So the loop, the waiting and the cursor are
// here; and a RoundTripper below the library passes nothing but whole blocks, one per Read, which also
// keeps its search for the end of a block linear.
//
// Watch calls all functions in Options, and the handler, from the goroutine that it was called in. It
// starts goroutines and ends them before it returns.
package client
