// Package fsmount gives tests fresh, empty directories on real file systems: ext4, xfs and btrfs
// on sparse images behind loop devices, tmpfs, and overlay.
//
// Only root on Linux may mount. Anybody else gets the test's own temporary directory, so that a
// test runs everywhere and on every file system where it can. What cannot be had on a
// machine (no loop devices in a container, a kernel without xfs) is skipped with the reason;
// a missing mkfs is skipped too, except where the environment says CI=true: there it fails.
//
// Every mount ends with its test. What a killed test process left behind is unmounted and
// removed by the next one that mounts anything. FS_NOTIFY_TEST_FS=tmpfs,ext4 limits [Each] to the file systems
// named; "tempdir" among them is the plain temporary directory.
//
// The functions are called from the test's goroutine. Any number of processes may use the
// package at the same time.
package fsmount

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// Env is the environment variable that limits [Each]: a list of names separated by commas.
const Env = "FS_NOTIFY_TEST_FS"

// TempDir is the name, in [Env], of the test's own temporary directory.
const TempDir = "tempdir"

// Kinds are the file systems that can be mounted, in the order in which [Each] runs them.
func Kinds() []string { return []string{"ext4", "xfs", "btrfs", "tmpfs", "overlay"} }

// Each runs f as one subtest for each file system, on an empty directory of it, which is the
// mount point. Where nothing can be mounted, f runs once, on t.TempDir(). fs is the file system's name as the
// kernel says it ("ext4").
//
// The mount goes away after f's own cleanups have run. One that is still in use then is
// an error of the test: something was left open.
func Each(t *testing.T, f func(t *testing.T, dir, fs string)) {
	t.Helper()
	kinds, err := selected(os.Getenv(Env), canMount())
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			if kind == TempDir {
				dir := t.TempDir()
				f(t, dir, nameOf(dir))
				return
			}
			f(t, One(t, kind), kind)
		})
	}
}

// One mounts one file system of [Kinds] for the rest of the test and returns its mount point,
// an empty directory that everybody may enter. The test is skipped where that cannot be done.
func One(t testing.TB, kind string) string {
	t.Helper()
	if !slices.Contains(Kinds(), kind) {
		t.Fatalf("fsmount: unknown file system %q, there are %s", kind, strings.Join(Kinds(), ", "))
	}
	if !canMount() {
		t.Skipf("fsmount: no %s: only root on Linux may mount", kind)
	}
	return mountOne(t, kind)
}

// selected gives the subtests to run: those named in list; without a list, all.
func selected(list string, mount bool) ([]string, error) {
	all := []string{TempDir}
	if mount {
		all = Kinds()
	}
	if list == "" {
		return all, nil
	}
	var out []string
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		switch {
		case name == "" || slices.Contains(out, name):
		case name != TempDir && !slices.Contains(Kinds(), name):
			return nil, fmt.Errorf("%s=%s: unknown file system %q, there are %s, %s", Env, list, name, strings.Join(Kinds(), ", "), TempDir)
		default:
			out = append(out, name)
		}
	}
	if len(out) == 0 || !mount {
		return all, nil
	}
	return out, nil
}
