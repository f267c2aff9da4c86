//go:build !unix

package watch

import (
	"errors"
	"os"
)

// tryLock would tell whether the process lives whose directory it is.
func tryLock(*os.File) error { return errors.ErrUnsupported }

func isOurs(string) bool { return false }
