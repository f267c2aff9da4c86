//go:build !unix

package main

import "os"

func ignoreBackgroundRead() {}

// cancelOnClosedPipe does nothing here: a closed pipe shows at the next write.
func cancelOnClosedPipe(*os.File, func()) (stop func()) { return func() {} }
