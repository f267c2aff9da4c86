//go:build !unix

package main

import "math"

// maxFiles is how many descriptors this process may have open: nobody says so here.
func maxFiles() uint64 { return math.MaxUint64 }
