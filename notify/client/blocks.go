package client

import (
	"bytes"
	"fmt"
	"io"

	"fs_notify/notify"
)

// Names of the events that blocks makes of comments which mean something. A server cannot
// send them: names that begin with a colon are dropped.
const (
	eventWatching = ":watching"
	eventIndexing = ":indexing"
)

// blocks reads an event stream and yields it again as whole blocks: at most one in one Read, lines
// ended by LF, only the fields that the HTML standard knows. A block that is cut off by the end of the
// stream is dropped. Comments are dropped, but for "watching" and "indexing", which come
// out as events of their own at the place where they stood, and for one that stands alone.
type blocks struct {
	src io.Reader
	max int // bytes in a block, and in a line

	in     []byte // what was read of src and not yet looked at
	buf    []byte // where in lies
	line   []byte // the beginning of a line whose end is still to come
	skipLF bool   // the last line ended in CR: an LF right after it belongs to it
	begun  bool   // past the first line, which may have a byte order mark

	block  []byte // the lines of the block so far, as they will go out
	useful bool   // it has data, an id or a retry

	granted bool   // there was data, an id, or one of the comments that come out
	instead string // the last comment before any of those: why there is no stream, if it ends there

	out []byte // goes out before anything else
	err error  // after out and in: why there is no more
}

func newBlocks(src io.Reader, max int) *blocks {
	return &blocks{src: src, max: max, buf: make([]byte, 32<<10)}
}

// Read gives bytes of the next whole block; never 0 bytes without an error.
func (b *blocks) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(b.out) == 0 {
		if len(b.in) > 0 {
			if err := b.advance(); err != nil {
				b.in, b.err = nil, err
			}
			continue
		}
		if b.err != nil {
			return 0, b.err
		}
		var n int
		n, b.err = b.src.Read(b.buf)
		b.in = b.buf[:n]
	}
	n := copy(p, b.out)
	b.out = b.out[n:]
	return n, nil
}

// advance takes one line, or what there is of it, from in.
func (b *blocks) advance() error {
	if b.skipLF {
		b.skipLF = false
		if b.in[0] == '\n' {
			b.in = b.in[1:]
			return nil
		}
	}
	end := bytes.IndexByte(b.in, '\n')
	seg := b.in
	if end >= 0 {
		seg = b.in[:end]
	}
	if cr := bytes.IndexByte(seg, '\r'); cr >= 0 {
		end, seg = cr, seg[:cr]
		b.skipLF = true
	}
	if len(b.line)+len(seg) > b.max {
		return b.tooLarge()
	}
	if end < 0 {
		b.line = append(b.line, seg...)
		b.in = nil
		return nil
	}
	b.in = b.in[end+1:]
	line := seg
	if len(b.line) > 0 {
		b.line = append(b.line, seg...)
		line = b.line
	}
	err := b.takeLine(line)
	b.line = b.line[:0]
	return err
}

// takeLine deals with one line, given without its end.
func (b *blocks) takeLine(line []byte) error {
	if !b.begun {
		b.begun = true
		line = bytes.TrimPrefix(line, []byte("\ufeff"))
	}
	if len(line) == 0 {
		b.endBlock()
		return nil
	}
	name, value, colon := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "":
		b.comment(value)
		return nil
	case "data":
		b.useful, b.granted = true, true
	case "id": // no value would mean "forget the last one", which is never in our interest
		if !colon || len(value) == 0 || bytes.IndexByte(value, 0) >= 0 {
			return nil
		}
		b.useful, b.granted = true, true
	case "retry":
		if len(value) == 0 || len(bytes.Trim(value, "0123456789")) > 0 {
			return nil
		}
		b.useful = true
	case "event":
		if len(value) == 0 || value[0] == ':' {
			return nil
		}
	default:
		return nil
	}
	if len(b.block)+len(line)+2 > b.max {
		return b.tooLarge()
	}
	b.block = append(b.block, name...)
	b.block = append(b.block, ": "...)
	b.block = append(b.block, value...)
	b.block = append(b.block, '\n')
	return nil
}

// endBlock passes the block on, if anyone could want it.
func (b *blocks) endBlock() {
	if b.useful {
		b.out = append(b.block, '\n')
	}
	// out has the old array until it is read, which is before the next line is looked at.
	b.block = b.block[:0]
	b.useful = false
}

func (b *blocks) comment(text []byte) {
	name := eventIndexing
	switch {
	case bytes.HasPrefix(text, []byte("watching")):
		name = eventWatching
	case !bytes.HasPrefix(text, []byte("indexing")):
		if !b.granted {
			b.instead = string(text)
		}
		return
	}
	b.granted = true
	b.out = fmt.Appendf(nil, "event: %s\ndata: %s\n\n", name, text)
}

func (b *blocks) tooLarge() error {
	return &notify.Error{Op: "client.Watch", Kind: notify.Invalid,
		Msg: fmt.Sprintf("the server sent an event of more than %d bytes: raise the limit (MaxEvent) to receive it", b.max)}
}
