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
)

// cursorFile is where --cursor-file keeps the place to go on from: one line, SEQ.DIRID. It is replaced as a
// whole, so that after a crash it holds the old place or the new one.
type cursorFile struct {
	path string
	last notify.Cursor // what it holds
}

// load reads the file. A file that is missing or empty gives no cursor.
func (f *cursorFile) load() (notify.Cursor, error) {
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
	if err := f.replace(c.String() + "\n"); err != nil {
		return fmt.Errorf("the cursor file cannot be written: %w", err)
	}
	f.last = c
	return nil
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
	dir, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
