//go:build linux

package watch_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"fs_notify/watch/watchtest/fsmount"
)

// The scripts as somebody who is not root, and as one who is root in a user namespace only: what auto takes there is inotify.
func TestConformanceWithoutPrivilege(t *testing.T) {
	for _, tt := range []struct {
		name, fs string
		root     bool   // needs root to begin with
		without  string // a script: there is only one user in the namespace
		how      *syscall.SysProcAttr
	}{
		{"user", fsmount.TempDir, true, "", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}},
		{"namespace", "tmpfs", false, "acl", &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := again(t, func(cmd *exec.Cmd) {
				if tt.root {
					needRoot(t, "become somebody else")
				}
				cmd.SysProcAttr = tt.how
				cmd.Env = append(cmd.Env, fsmount.Env+"="+tt.fs)
				scripts := filepath.Join(cmd.Dir, "scripts")
				if err := os.CopyFS(scripts, os.DirFS(scriptsDir)); err != nil {
					t.Fatal(err)
				}
				if tt.without != "" {
					os.Remove(filepath.Join(scripts, tt.without+".txtar"))
				}
			})
			if in {
				conform(t, "scripts", []string{"inotify"}, false, newTable())
			}
		})
	}
}
