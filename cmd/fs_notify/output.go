package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"unicode/utf8"

	"fs_notify/notify"
)

// record is one notification on its way out, as seen from the watched directory.
type record struct {
	note *notify.Notification
	json json.RawMessage // with the fields that were asked for
}

// printer writes notifications in one of the three forms. begin comes first, end last.
type printer interface {
	begin(w io.Writer) error
	frame(w io.Writer, records []record) error
	end(w io.Writer) error
}

// table is what qq prints: columns of 23 and 29 characters, which longer values push aside.
type table struct{ headless bool }

const (
	typeWidth = 23
	pathWidth = 29
)

func (t *table) begin(w io.Writer) error {
	if t.headless {
		return nil
	}
	_, err := io.WriteString(w, tableRow("Type", "Path", "Stream Name")+strings.Repeat("=", 64)+"\n")
	return err
}

func (*table) frame(w io.Writer, records []record) error {
	for _, r := range records {
		stream := "None"
		if r.note.Stream != "" {
			stream = printable(r.note.Stream, true)
		}
		if _, err := io.WriteString(w, tableRow(r.note.Type.String(), printable(r.note.Path, true), stream)); err != nil {
			return err
		}
	}
	return nil
}

func (*table) end(io.Writer) error { return nil }

func tableRow(kind, path, stream string) string {
	return pad(kind, typeWidth) + " " + pad(path, pathWidth) + " " + stream + "\n"
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
}

// array is what qq --json prints: one array that holds an array for each frame.
type array struct {
	started bool
	buf     []byte
}

func (*array) begin(w io.Writer) error {
	_, err := io.WriteString(w, "[\n")
	return err
}

func (p *array) frame(w io.Writer, records []record) error {
	b := p.buf[:0]
	if p.started {
		b = append(b, ",\n"...)
	}
	p.started = true
	b = append(b, "    ["...)
	for i, r := range records {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, "\n        "...)
		var err error
		if b, err = appendPython(b, r.json, 2); err != nil {
			return err
		}
	}
	b = append(b, "\n    ]"...)
	p.buf = b
	_, err := w.Write(b)
	return err
}

func (*array) end(w io.Writer) error {
	_, err := io.WriteString(w, "\n]\n")
	return err
}

// lines writes one JSON object a line.
type lines struct{ buf []byte }

func (*lines) begin(io.Writer) error { return nil }

func (p *lines) frame(w io.Writer, records []record) error {
	b := p.buf[:0]
	for _, r := range records {
		b = append(appendOneLine(b, r.json), '\n')
	}
	p.buf = b
	_, err := w.Write(b)
	return err
}

func (*lines) end(io.Writer) error { return nil }

// output is where notifications go: a form, a buffer that is flushed after each frame, and a file.
type output struct {
	printer
	w     *bufio.Writer
	file  *os.File // nil if the writer is none
	begun bool
	sync  bool  // a later run goes on with the file: a flush reaches the disk, and what fails is taken back
	kept  int64 // with sync: how long the file was when the cursor was last kept

	prepare func() error // makes the file ready, before anything is written
}

func newOutput(ctx context.Context, w io.Writer, p printer) *output {
	o := &output{printer: p, w: bufio.NewWriterSize(pipe{ctx, w}, 64<<10)}
	o.file, _ = w.(*os.File)
	return o
}

// begin writes what stands before the first notification, once.
func (o *output) begin() error {
	if o.begun {
		return nil
	}
	if o.prepare != nil {
		if err := o.prepare(); err != nil {
			return err
		}
	}
	if err := o.keep(); err != nil {
		return err
	}
	o.begun = true
	return o.whole(func() error {
		if err := o.printer.begin(o.w); err != nil {
			return err
		}
		return o.w.Flush()
	})
}

// write writes one frame; when it returns, the frame has left this process.
func (o *output) write(records []record) error {
	if err := o.begin(); err != nil {
		return err
	}
	return o.whole(func() error {
		if err := o.printer.frame(o.w, records); err != nil {
			return err
		}
		return o.flush()
	})
}

// whole runs write. In a file that a later run goes on with it leaves all or nothing.
func (o *output) whole(write func() error) error {
	err := write()
	if err != nil {
		o.takeBack()
	}
	return err
}

// keep says that a later run goes on behind all that was written.
func (o *output) keep() error {
	if !o.sync {
		return nil
	}
	st, err := o.file.Stat()
	if err == nil {
		o.kept = st.Size()
	}
	return err
}

// takeBack takes away what a later run writes again. What stays of it that run cuts.
func (o *output) takeBack() {
	if o.sync && o.begun {
		o.file.Truncate(o.kept)
	}
}

func (o *output) flush() error {
	if err := o.w.Flush(); err != nil {
		return err
	}
	if o.sync && o.file != nil {
		return o.file.Sync()
	}
	return nil
}

// end writes what stands behind the last notification; begin was called.
func (o *output) end() error {
	if err := o.printer.end(o.w); err != nil {
		return err
	}
	return o.flush()
}

// pipe is an output whose reader may go when it has enough, or not read on. Once a Write has failed there must be no other.
type pipe struct {
	ctx context.Context
	io.Writer
}

func (p pipe) Write(b []byte) (int, error) {
	n, err := unlessEnded(p.ctx, func() (int, error) { return p.Writer.Write(b) })
	if errors.Is(err, syscall.EPIPE) || err != nil && context.Cause(p.ctx) == errOutputClosed {
		err = errOutputClosed
	}
	return n, err
}

// isRegular says whether f is a file on a disk, to which Sync means something.
func isRegular(f *os.File) bool {
	if f == nil {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode().IsRegular()
}

// isPipe says whether what is written to f goes to another process.
func isPipe(f *os.File) bool {
	if f == nil {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0
}

// cutUnfinished takes the last line of a file away if it has no end: the run that wrote it was killed, and its cursor stands before it.
func cutUnfinished(f *os.File) (cut bool, err error) {
	in, err := os.Open(f.Name()) // f is for writing only
	if err != nil {
		return false, err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return false, err
	}
	buf := make([]byte, 64<<10)
	for end := st.Size(); ; {
		start := max(0, end-int64(len(buf)))
		b := buf[:end-start]
		if _, err := in.ReadAt(b, start); err != nil {
			return false, err
		}
		i := bytes.LastIndexByte(b, '\n')
		if keep := start + int64(i) + 1; i >= 0 || start == 0 {
			if keep == st.Size() {
				return false, nil
			}
			return true, f.Truncate(keep)
		}
		end = start
	}
}
