package watch

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// fanMountTop mounts the top level of the btrfs file system on which a directory lies, nowhere: the
// descriptor returned is the only way to it. It takes the device and the right to mount.
func fanMountTop(dir int) (fd int, err error) {
	var st unix.Statx_t
	if err := unix.Statx(dir, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return -1, fmt.Errorf("statx: %w", err)
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return -1, err
	}
	defer f.Close()
	source, ro, err := fanDevice(f, st.Mnt_id)
	if err != nil {
		return -1, err
	}
	fs, err := unix.Fsopen("btrfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fs)
	err = errors.Join(unix.FsconfigSetString(fs, "source", source), unix.FsconfigSetString(fs, "subvolid", "5"))
	if err == nil && ro {
		err = unix.FsconfigSetFlag(fs, "ro")
	}
	if err == nil {
		err = unix.FsconfigCreate(fs)
	}
	if err != nil {
		return -1, fmt.Errorf("fsconfig %s: %w", source, err)
	}
	if fd, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0); err != nil {
		return -1, fmt.Errorf("fsmount %s: %w", source, err)
	}
	return fd, nil
}

// fanDevice finds in a mountinfo, see proc_pid_mountinfo(5), the device of a btrfs mount, and whether its file
// system is read-only.
func fanDevice(mountinfo io.Reader, id uint64) (source string, ro bool, err error) {
	want := strconv.FormatUint(id, 10) + " "
	lines := bufio.NewScanner(mountinfo)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if !strings.HasPrefix(lines.Text(), want) {
			continue
		}
		_, tail, _ := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(tail) // type, source, options of the file system
		if len(fields) != 3 || fields[0] != "btrfs" {
			return "", false, fmt.Errorf("mount %d is not btrfs: %q", id, tail)
		}
		for _, opt := range strings.Split(fields[2], ",") {
			ro = ro || opt == "ro"
		}
		return fanUnescape(fields[1]), ro, nil
	}
	if err := lines.Err(); err != nil {
		return "", false, err
	}
	return "", false, fmt.Errorf("mount %d is not in mountinfo", id)
}

// fanUnescape undoes the \ooo of mountinfo.
func fanUnescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
