package watch

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// srcSilent are the file systems, by statfs magic, of which this kernel hears at most what passes through itself: others
// may change them on a server (or a daemon) far away. And those whose contents are made up as they are read.
var srcSilent = map[uint32]string{
	0x6969:     "nfs",
	0x517b:     "smb",
	0xff534d42: "cifs",
	0xfe534d42: "smb2",
	0x65735546: "fuse",
	0x01021997: "9p",
	0x00c36400: "ceph",
	0x5346414f: "afs",
	0x6b414653: "kafs",
	0x73757245: "coda",
	0x0000564c: "ncp",
	0x01161970: "gfs2",
	0x7461636f: "ocfs2",
	0x0bd00bd0: "lustre",
	0xaad7aaea: "panfs",
	0x47504653: "gpfs",
	0x19830326: "beegfs",
	0x20030528: "orangefs",
	0x786f4256: "vboxsf",
	0xbacbacbc: "vmhgfs",
	0xbeefdead: "snfs",
	0x61636673: "acfs",

	0x00009fa0: "proc",
	0x62656572: "sysfs",
	0x64626720: "debugfs",
	0x74726163: "tracefs",
	0x73636673: "securityfs",
	0x0027e0eb: "cgroup",
	0x63677270: "cgroup2",
	0x00001cd1: "devpts",
	0xcafe4a11: "bpf",
	0x6165676c: "pstore",
	0x62656570: "configfs",
	0xde5e81e4: "efivarfs",
	0x19800202: "mqueue",
	0x958458f6: "hugetlbfs",
	0xf97cff8c: "selinuxfs",
	0x42494e4d: "binfmt_misc",
	0x6e736673: "nsfs",
	0x00000187: "autofs",
	0x67596969: "rpc_pipefs",
}

// srcNotifies returns ErrPolled, with the reason, if the file system of a directory cannot be trusted to notify.
func srcNotifies(at Place) error {
	_, err := srcStatfs(at)
	return err
}

// srcStatfs is srcNotifies for those who have a use for what statfs says.
func srcStatfs(at Place) (st unix.Statfs_t, err error) {
	if err := unix.Fstatfs(at.FD, &st); err != nil {
		return st, fmt.Errorf("statfs %s: %w", at.Path, err)
	}
	if name, ok := srcSilent[uint32(st.Type)]; ok {
		return st, fmt.Errorf("%w (%s)", ErrPolled, name)
	}
	return st, nil
}

// srcProc says whether directories can be named by their descriptors.
func srcProc() error {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		return fmt.Errorf("watches are put on descriptors, which takes a mounted /proc: %w", err)
	}
	return nil
}

// srcLimit adds to an error of a full table which setting to raise.
func srcLimit(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return &limitError{err, srcRaise("inotify watches", "fs.inotify.max_user_watches", 1<<20)}
	case errors.Is(err, unix.EMFILE):
		return &limitError{err, "the limit of open files or of inotify instances is reached; raise it: ulimit -n, or sysctl -w fs.inotify.max_user_instances=1024"}
	}
	return err
}

// srcRaise says how to raise a limit, to least at least.
func srcRaise(what, key string, least int) string {
	b, readErr := os.ReadFile("/proc/sys/" + strings.ReplaceAll(key, ".", "/"))
	now, convErr := strconv.Atoi(strings.TrimSpace(string(b)))
	if readErr != nil || convErr != nil {
		return fmt.Sprintf("the limit of %s is reached; raise it: sysctl -w %s=%d, if it is lower", what, key, least)
	}
	return fmt.Sprintf("the limit of %s is reached; raise it: sysctl -w %s=%d", what, key, max(2*now, least))
}
