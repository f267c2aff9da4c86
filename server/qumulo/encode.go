package qumulo

import (
	"math"
	"strconv"
	"sync"

	"fs_notify/notify"
	"fs_notify/notify/feed"
)

const (
	// maxFrame is how long the JSON of one frame may be, in bytes, unless one operation alone is longer: many clients take no line or block of
	// more than 64 KiB.
	maxFrame = 60 << 10
	// maxWrite is about how many bytes are collected for one write.
	maxWrite = 256 << 10
)

// form is how notifications are written. It is comparable: together with the feed.View it is the
// key of a group, and what a group gets of a part is a pure function of the two.
type form struct {
	dir    notify.FileID
	fields notify.Fields
	stream bool // text/event-stream: each frame with its id. Else nothing but data lines
	filled bool // what only moves the cursor has data too: some clients take no id without
	chunks bool // a frame is a chunk of HTTP/1.1: of those that net/http writes, it makes chunks itself
}

// chunkHead begins a chunk, until its length is known.
const chunkHead = "00000000\r\n"

// lastChunk ends a body in chunks.
const lastChunk = "0\r\n\r\n"

// begin begins what is sent as one, if the form has it so.
func (f *form) begin(b []byte) []byte {
	if f.chunks {
		b = append(b, chunkHead...)
	}
	return b
}

// end ends what was begun at start.
func (f *form) end(b []byte, start int) []byte {
	if f.chunks {
		n := len(b) - start - len(chunkHead)
		for i := start + 7; i >= start; i-- {
			b[i] = "0123456789abcdef"[n&15]
			n >>= 4
		}
		b = append(b, "\r\n"...)
	}
	return b
}

// appendAt appends what moves the cursor, and ends a block.
func (f *form) appendAt(b []byte, seq notify.Seq) []byte {
	if f.filled {
		b = append(b, "event: cursor\ndata: []\n"...)
	}
	return append(appendID(b, notify.Cursor{Seq: seq, Dir: f.dir}), '\n')
}

// appendKeepalive appends what shows that an event stream lives, and how far it has come.
func (f *form) appendKeepalive(b []byte, seq notify.Seq) []byte {
	start := len(b)
	b = append(f.begin(b), ": keepalive\n"...)
	return f.end(f.appendAt(b, seq), start)
}

// frames collects notifications into frames: one JSON array on one data line. In an event stream the hits of one
// part make frames of their own, each followed by the id of its last notification: an id that comes last cannot
// be taken by a client whose connection broke inside the array. Otherwise all that is pending goes into one array.
type frames struct {
	form
	noIDs bool // of a snapshot, which can only be resumed as a whole
	buf   []byte
	cuts  []cut // where the closed frames in buf end
	notes int   // notifications in buf

	start int // where the open frame begins
	open  int // where its array does; 0: no frame is open
	aside feed.Aside
	last  notify.Seq
	spare []byte
	json  notify.JSONWriter
}

// cut is the end of a frame.
type cut struct {
	end   int        // in buf
	notes int        // notifications in buf up to here
	seq   notify.Seq // who has got this frame goes on from here
}

var buffers = sync.Pool{New: func() any { return new([]byte) }}

const dataPrefix = "data: "

// add appends the hits of one part.
func (f *frames) add(hits []feed.Hit) { f.addSome(hits, math.MaxInt) }

// addSome appends the hits of one part up to the first frame that ends at or behind limit, and says whether these were all. It is
// for event streams: the others have frames that go on in the next part.
func (f *frames) addSome(hits []feed.Hit, limit int) (all bool) {
	for len(hits) > 0 {
		if n := len(f.cuts); n > 0 && f.cuts[n-1].end >= limit {
			f.buf, f.notes, f.open = f.buf[:f.cuts[n-1].end], f.cuts[n-1].notes, 0
			return false
		}
		n := feed.Operation(hits)
		f.operation(hits[:n])
		hits = hits[n:]
	}
	if f.stream {
		f.close()
	}
	return true
}

// operation appends what must stay in one frame.
func (f *frames) operation(hits []feed.Hit) {
	if f.open != 0 && f.aside.Returns(hits) {
		f.close()
	}
	start := len(f.buf)
	first := f.open == 0
	if first {
		f.openFrame()
		start = len(f.buf)
	}
	for i, h := range hits {
		if i > 0 || !first {
			f.buf = append(f.buf, ',')
		}
		f.buf = f.json.Append(f.buf, h.Note, h.At, f.fields)
	}
	if !first && len(f.buf)+1-f.open > maxFrame {
		f.spare = append(f.spare[:0], f.buf[start+1:]...) // without the comma
		f.buf = f.buf[:start]
		f.close()
		f.openFrame()
		f.buf = append(f.buf, f.spare...)
	}
	f.aside.Add(hits)
	f.last = hits[len(hits)-1].Note.Seq
	f.notes += len(hits)
}

func (f *frames) openFrame() {
	if f.buf == nil {
		f.buf = (*buffers.Get().(*[]byte))[:0]
	}
	f.start = len(f.buf)
	f.buf = append(f.form.begin(f.buf), dataPrefix...)
	f.aside.Clear()
	f.open = len(f.buf)
	f.buf = append(f.buf, '[')
}

// close ends the open frame, if there is one.
func (f *frames) close() {
	if f.open == 0 {
		return
	}
	f.buf = append(f.buf, "]\n"...)
	if f.stream && !f.noIDs {
		f.buf = appendID(f.buf, notify.Cursor{Seq: f.last, Dir: f.dir})
	}
	f.buf = f.end(append(f.buf, '\n'), f.start)
	f.cuts = append(f.cuts, cut{len(f.buf), f.notes, f.last})
	f.open = 0
}

// clear forgets what was written and keeps the buffer, unless that is huge.
func (f *frames) clear() {
	f.cuts, f.notes, f.open, f.buf = f.cuts[:0], 0, 0, f.buf[:0]
	if cap(f.buf) > 4*maxWrite {
		f.buf, f.spare, f.json = nil, nil, notify.JSONWriter{}
	}
}

// reset forgets what was written; a stream that waits holds no buffer.
func (f *frames) reset() {
	f.cuts, f.notes, f.open = f.cuts[:0], 0, 0
	if cap(f.buf) > 0 && cap(f.buf) <= 4*maxWrite {
		b := f.buf
		buffers.Put(&b)
	}
	f.buf, f.spare, f.json = nil, nil, notify.JSONWriter{}
}

// appendID appends an id line.
func appendID(b []byte, c notify.Cursor) []byte {
	b = append(b, "id: "...)
	b = strconv.AppendUint(b, uint64(c.Seq), 10)
	b = append(b, '.')
	b = strconv.AppendUint(b, uint64(c.Dir), 10)
	return append(b, '\n')
}

// appendReset appends the event that tells a client to forget what it knows.
func appendReset(b []byte, reason string, bounds notify.Bounds) []byte {
	b = append(b, "event: reset\ndata: {\"reason\":"...)
	b = notify.AppendName(b, reason)
	b = append(b, `,"oldest":`...)
	b = strconv.AppendUint(b, uint64(bounds.Oldest()), 10)
	b = append(b, `,"head":`...)
	b = strconv.AppendUint(b, uint64(bounds.Newest()), 10)
	return append(b, "}\n\n"...)
}
