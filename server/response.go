package server

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// piece is how many bytes a client has to take within the write timeout: a slow one is served, a stuck one is not.
const piece = 32 << 10

// lastWords is how long the rest may take of an answer whose client may not have it any more: that it ends, and why.
const lastWords = time.Second

// response is how all handlers answer. It gives the client patience for each piece of what is written, and none for the time between: over
// HTTP/2 a deadline ends a stream that has nothing to say as well as one that is stuck. Whoever flushes goes on later; what is written and not flushed is
// bounded until the answer has ended.
type response struct {
	http.ResponseWriter
	rc       *http.ResponseController
	patience time.Duration
	begins   func() // is called before the head goes out
	status   int    // 0: there is no head so far
	taken    bool   // the connection was hijacked

	mu   sync.Mutex
	why  error // the client may not have the answer any more, and no more time is given; nil: it may
	over bool  // the handler has returned: net/http does as it likes with what it gave
}

func newResponse(w http.ResponseWriter, patience time.Duration) *response {
	return &response{ResponseWriter: w, rc: http.NewResponseController(w), patience: patience, begins: func() {}}
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack is for http.ResponseController.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := w.rc.Hijack()
	w.taken = err == nil
	return c, rw, err
}

// WriteHeader is part of http.ResponseWriter. Only the first call counts.
func (w *response) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	w.status = status
	w.begins()
	w.ResponseWriter.WriteHeader(status)
}

// Write is part of http.ResponseWriter. Its error is os.ErrDeadlineExceeded if the client took nothing for too long, or what cut was given.
func (w *response) Write(b []byte) (n int, err error) {
	w.WriteHeader(http.StatusOK)
	for {
		w.expect(time.Now().Add(w.patience))
		k, err := w.ResponseWriter.Write(b[n:min(n+piece, len(b))])
		if n += k; err != nil {
			return n, w.failed(err)
		}
		if n == len(b) {
			return n, nil
		}
	}
}

// FlushError is for http.ResponseController. Its error is that of Write.
func (w *response) FlushError() error {
	w.expect(time.Now().Add(w.patience))
	if err := w.rc.Flush(); err != nil {
		return w.failed(err)
	}
	w.expect(time.Time{})
	return nil
}

// expect says by when what comes next has to be out.
func (w *response) expect(due time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.why == nil {
		w.rc.SetWriteDeadline(due) // not possible with a recorder in a test, and of no use there
	}
}

// cut ends the answer, whatever is being written. Any goroutine may call it.
func (w *response) cut(why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		w.why = why
		w.rc.SetWriteDeadline(time.Now().Add(min(lastWords, w.patience)))
	}
}

// failed says why something could not be written.
func (w *response) failed(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.why != nil {
		return fmt.Errorf("%w (%w)", w.why, err)
	}
	return err
}

// end bounds what net/http still writes when the handler has returned.
func (w *response) end() {
	if !w.taken {
		w.expect(time.Now().Add(w.patience))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
}
