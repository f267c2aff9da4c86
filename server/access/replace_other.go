//go:build !unix

package access

import (
	"io/fs"
	"os"
)

// Directories can be neither locked nor synced here, and who may read a file is inherited from its directory.

func lockDir(string) (unlock func() error, err error) { return func() error { return nil }, nil }

func keepOwner(*os.File, fs.FileInfo) error { return nil }

const hasModes = false

func ownedHere(file, dir fs.FileInfo) error { return nil }

// SyncDir does nothing.
func SyncDir(string) error { return nil }
