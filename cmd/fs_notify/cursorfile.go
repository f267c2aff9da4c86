package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"fs_notify/notify"
	"fs_notify/server/access"
)

// cursorFile is where --cursor-file keeps the place to go on from: one line, SEQ.DIRID. After a crash it holds the old
// place or the new one: a line as long as the last one is written over that, within one sector of the disk, and any
// other replaces the file as a whole. So almost no save changes the directory that it is in, which may be watched.
type cursorFile struct {
	path string
	last notify.Cursor // what it holds
}

// load reads the file. A file that is missing or empty gives no cursor. Of a symbolic link it is the target that is kept.
func (f *cursorFile) load() (notify.Cursor, error) {
	f.path = behindLinks(f.path)
	st, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return notify.Cursor{}, nil
	}
	if err == nil && !st.Mode().IsRegular() { // it would be replaced by one
		return notify.Cursor{}, fmt.Errorf("%s is no regular file, and cannot keep a cursor", f.path)
	}
	if err != nil {
		return notify.Cursor{}, fmt.Errorf("the cursor file cannot be read: %w", err)
	}
	file, err := os.Open(f.path)
	if err != nil {
		return notify.Cursor{}, fmt.Errorf("the cursor file cannot be read: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, 128))
	if err != nil {
		return notify.Cursor{}, fmt.Errorf("the cursor file cannot be read: %w", err)
	}
	line := strings.TrimSpace(string(text))
	if line == "" {
		return notify.Cursor{}, nil
	}
	c, err := notify.ParseCursor(line)
	if err != nil {
		return c, fmt.Errorf("%s does not hold a cursor: it should be one line, SEQ.DIRID", f.path)
	}
	f.last = c
	return c, nil
}

// behindLinks gives the name of what path leads to, which need not be there yet.
func behindLinks(path string) string {
	for range 40 { // as many links as Linux follows
		if target, err := filepath.EvalSymlinks(path); err == nil {
			return target
		}
		dir, name := filepath.Split(path)
		link, err := os.Readlink(path)
		switch {
		case err == nil && filepath.IsAbs(link):
			path = link
		case err == nil:
			path = dir + link // not cleaned: a ".." in it is that of the directory behind the links
		default:
			if real, err := filepath.EvalSymlinks(dir); err == nil {
				return filepath.Join(real, name)
			}
			return path
		}
	}
	return path
}

// temporary is the name under which a new content is written first: one that nobody else takes.
func (f *cursorFile) temporary() string {
	dir, name := filepath.Split(f.path)
	return dir + "." + name + ".fs_notify"
}

// save makes c durable. One that the file already holds costs nothing.
func (f *cursorFile) save(c notify.Cursor) error {
	if c == f.last {
		return nil
	}
	text := c.String() + "\n"
	done, err := f.overwrite(text)
	if !done {
		err = f.replace(text)
	}
	if err != nil {
		return fmt.Errorf("the cursor file cannot be written: %w", err)
	}
	f.last = c
	return nil
}

// overwrite writes text over what the file holds, if that is as long.
func (f *cursorFile) overwrite(text string) (done bool, err error) {
	file, err := os.OpenFile(f.path, os.O_WRONLY, 0)
	if err != nil {
		return false, nil
	}
	defer file.Close()
	if st, err := file.Stat(); err != nil || !st.Mode().IsRegular() || st.Size() != int64(len(text)) {
		return false, nil
	}
	if _, err = file.WriteAt([]byte(text), 0); err == nil {
		err = file.Sync()
	}
	return true, err
}

func (f *cursorFile) replace(text string) (err error) {
	tmp := f.temporary()
	os.Remove(tmp) // of a process that was killed here
	file, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp)
		}
	}()
	_, err = file.WriteString(text)
	if e := file.Sync(); err == nil {
		err = e
	}
	if e := file.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if err = os.Rename(tmp, f.path); err != nil {
		return err
	}
	return access.SyncDir(filepath.Dir(f.path))
}
