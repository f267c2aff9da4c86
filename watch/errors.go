package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

var (
	errElsewhere  = errors.New("the directory is not where it should be")
	errTooDeep    = fmt.Errorf("deeper than %d levels or %d bytes of path", maxDepth, maxPath)
	errGone       = fs.ErrNotExist
	errTwoObjects = errors.New("the name changed hands")
)

// limitError is about a limit of the kernel, and what raises it.
type limitError struct {
	err    error
	advice string
}

func (e *limitError) Error() string { return e.err.Error() + ": " + e.advice }
func (e *limitError) Unwrap() error { return e.err }

// whyAway says why the path of a root does not lead to its directory.
func whyAway(err error) string {
	var away errRootAway
	if errors.As(err, &away) {
		err = away.err
	}
	if errors.Is(err, errElsewhere) {
		return "another directory stands there now: bring back the one that was served, or restart the service to serve this one"
	}
	return explain(err)
}

// explain says what is wrong with a directory and what would mend it.
func explain(err error) string {
	var full *limitError
	switch {
	case errors.As(err, &full):
		return full.advice
	case errors.Is(err, syscall.EMFILE):
		return "the limit of open files is reached; raise it: ulimit -n"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "permission denied; it needs read and search permission for the user that runs fs_notify"
	}
	return err.Error()
}

// isUnmounted says whether an error is that of a mount behind which nothing is any more.
func isUnmounted(err error) bool {
	for _, e := range []error{syscall.ENOTCONN, syscall.ENODEV, syscall.ENXIO, syscall.ESTALE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
