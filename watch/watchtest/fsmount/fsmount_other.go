//go:build !linux

package fsmount

import "testing"

func canMount() bool { return false }

func nameOf(string) string { return TempDir }

func mountOne(t testing.TB, _ string) string {
	t.Fatal("fsmount: mounts on Linux only")
	return ""
}
