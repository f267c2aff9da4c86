package watch

import (
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/windows"

	"fs_notify/notify"
)

// attrOf looks at a name in a directory, symlinks not followed. The file index is to be had only through a handle, and
// that only by path: so a name that is not found is asked for once more in the directory itself.
func attrOf(dir *os.Root, name string, a *notify.Attr) (dev, gen uint64, err error) {
	path, err := windows.UTF16PtrFromString(longPath(filepath.Join(dir.Name(), name)))
	if err != nil {
		return 0, 0, err
	}
	h, err := windows.CreateFile(path, windows.FILE_READ_ATTRIBUTES, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE,
		nil, windows.OPEN_EXISTING, windows.FILE_FLAG_BACKUP_SEMANTICS|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if err != nil {
		if isGone(err) {
			if _, e := dir.Lstat(name); !isGone(e) {
				return 0, 0, errElsewhere
			}
		}
		return 0, 0, err
	}
	defer windows.CloseHandle(h)
	var s windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(h, &s); err != nil {
		return 0, 0, err
	}
	var basic struct { // FILE_BASIC_INFO
		created, accessed, written, changed int64
		attributes                          uint32
		_                                   uint32
	}
	if err := windows.GetFileInformationByHandleEx(h, windows.FileBasicInfo, (*byte)(unsafe.Pointer(&basic)), uint32(unsafe.Sizeof(basic))); err != nil {
		return 0, 0, err
	}
	const shown = windows.FILE_ATTRIBUTE_READONLY | windows.FILE_ATTRIBUTE_HIDDEN | windows.FILE_ATTRIBUTE_SYSTEM | windows.FILE_ATTRIBUTE_COMPRESSED |
		windows.FILE_ATTRIBUTE_ENCRYPTED | windows.FILE_ATTRIBUTE_NOT_CONTENT_INDEXED
	*a = notify.Attr{Mode: modeOf(s.FileAttributes), Nlink: s.NumberOfLinks, Flags: s.FileAttributes & shown,
		Ino: uint64(s.FileIndexHigh)<<32 | uint64(s.FileIndexLow), Size: int64(s.FileSizeHigh)<<32 | int64(s.FileSizeLow),
		Mtime: nanosNT(basic.written), Ctime: nanosNT(basic.changed), Atime: nanosNT(basic.accessed), Btime: nanosNT(basic.created)}
	return uint64(s.VolumeSerialNumber), 0, nil
}

// modeOf gives what comes nearest. A reparse point (a symlink, a junction) is an entry, never followed.
func modeOf(attributes uint32) uint32 {
	mode := uint32(notify.ModeFile | 0o666)
	switch {
	case attributes&windows.FILE_ATTRIBUTE_REPARSE_POINT != 0:
		mode = notify.ModeLink | 0o777
	case attributes&windows.FILE_ATTRIBUTE_DIRECTORY != 0:
		mode = notify.ModeDir | 0o777
	}
	if attributes&windows.FILE_ATTRIBUTE_READONLY != 0 {
		mode &^= 0o222
	}
	return mode
}

// longPath lifts the limit of 260 characters.
func longPath(path string) string {
	if len(path) < 248 || !filepath.IsAbs(path) || path[0] == '\\' {
		return path
	}
	return `\\?\` + path
}

// volume says whether a file system cannot notify reliably: those of other machines.
func volume(path string) (polled bool, opaque string) {
	name, err := windows.UTF16PtrFromString(filepath.VolumeName(path) + `\`)
	if err != nil {
		return false, err.Error()
	}
	return windows.GetDriveType(name) == windows.DRIVE_REMOTE, ""
}
