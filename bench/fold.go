//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// foldResult is what a consumer has found out about a load by reading what a subject told.
type foldResult struct {
	Notes   int     // notifications, lines or names told
	Bytes   int64   // of all that was told
	Files   int     // distinct files of the load that were told of
	Faults  int     // notifications that were not valid at their step: an add of what was there, a removal of what was not
	Missing int     // names on disk that the folded tree does not have, at the end
	Extra   int     // names in the folded tree that the disk does not have
	Wall    float64 // s from the beginning to the last that was told
	CPU     float64 // s of this consumer
}

// seen is a set of the files of a load: a letter and a number.
type seen []bool

func (s *seen) add(name []byte) {
	if len(name) < 2 || name[0] != 'f' && name[0] != 'r' {
		return
	}
	n := 0
	for _, c := range name[1:] {
		if c < '0' || c > '9' {
			return
		}
		n = n*10 + int(c-'0')
	}
	for n >= len(*s) {
		*s = append(*s, make([]bool, 1+len(*s))...)
	}
	(*s)[n] = true
}

func (s seen) count() (n int) {
	for _, b := range s {
		if b {
			n++
		}
	}
	return n
}

// A folder builds a tree from nothing but what it is told, piece by piece: a line each.
type folder interface {
	// fold takes a line; the first of a stream may say what the tree begins with.
	fold(line []byte, r *foldResult) error
	// ready says that what follows are changes.
	ready() bool
	files() *seen
	// has says whether the tree has an entry in a directory that it has, and gives a handle of the entry.
	has(dir any, name string) (any, bool)
	size() int // entries
}

// compare looks at the disk.
func compare(f folder, root string, r *foldResult) error {
	handles := map[string]any{root: nil}
	found := 0
	r.Missing = 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		h, ok := f.has(handles[filepath.Dir(path)], d.Name())
		if !ok {
			r.Missing++
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		found++
		if d.IsDir() {
			handles[path] = h
		}
		return nil
	})
	r.Extra = f.size() - found
	return err
}

// sseFold folds fs_notify's stream. Directories keep their IDs when they move, so a name in a directory is all that there is to an entry.
type sseFold struct {
	root  uint64
	names map[string]uint64 // 8 bytes of the directory's ID, name -> ID
	told  seen
	live  bool
	key   []byte
}

func (f *sseFold) ready() bool  { return f.live }
func (f *sseFold) files() *seen { return &f.told }
func (f *sseFold) size() int    { return len(f.names) }

func (f *sseFold) has(dir any, name string) (any, bool) {
	up := f.root
	if dir != nil {
		up = dir.(uint64)
	}
	id, ok := f.names[string(f.at(up, []byte(name)))]
	return id, ok
}

func (f *sseFold) at(dir uint64, name []byte) []byte {
	f.key = binary.LittleEndian.AppendUint64(f.key[:0], dir)
	f.key = append(f.key, name...)
	return f.key
}

func (f *sseFold) fold(b []byte, r *foldResult) (err error) {
	if data, ok := bytes.CutPrefix(b, []byte("data: [")); ok {
		return f.frame(data, r)
	}
	if id, ok := bytes.CutPrefix(b, []byte("id: ")); ok && !f.live { // behind the snapshot, or the start
		f.live, f.told = true, nil
		_, dir, _ := strings.Cut(strings.TrimSpace(string(id)), ".")
		f.root, err = strconv.ParseUint(dir, 10, 64)
	}
	return err
}

// frame folds [{"type":"…","spine":["…",…],"path":"…","stream_name":null},…]. The names of our loads need no escapes, and
// one with an escape is refused rather than misread.
func (f *sseFold) frame(b []byte, r *foldResult) error {
	for {
		i := bytes.Index(b, []byte(`{"type":"`))
		if i < 0 {
			return nil
		}
		b = b[i+len(`{"type":"`):]
		kind, rest, ok := bytes.Cut(b, []byte(`","spine":["`))
		spine, rest, ok2 := bytes.Cut(rest, []byte(`"],"path":"`))
		path, rest, ok3 := bytes.Cut(rest, []byte(`","stream_name":`))
		if !ok || !ok2 || !ok3 || bytes.IndexByte(path, '\\') >= 0 {
			return fmt.Errorf("not a notification: %.200q", b)
		}
		b = rest
		if err := f.note(kind, spine, path, r); err != nil {
			return err
		}
	}
}

func (f *sseFold) note(kind, spine, path []byte, r *foldResult) error {
	r.Notes++
	add := bytes.HasSuffix(kind, []byte("_added")) || bytes.HasSuffix(kind, []byte("_moved_to"))
	remove := bytes.HasSuffix(kind, []byte("_removed")) || bytes.HasSuffix(kind, []byte("_moved_from"))
	i := bytes.LastIndex(spine, []byte(`","`))
	if !add && !remove || i < 0 { // an attribute, or the watched directory itself
		return nil
	}
	id, err := strconv.ParseUint(string(spine[i+3:]), 10, 64)
	if err != nil {
		return err
	}
	up := spine[:i]
	if i := bytes.LastIndex(up, []byte(`","`)); i >= 0 {
		up = up[i+3:]
	}
	dir, err := strconv.ParseUint(string(up), 10, 64)
	if err != nil {
		return err
	}
	name := path[bytes.LastIndexByte(path, '/')+1:]
	key := f.at(dir, name)
	have, there := f.names[string(key)]
	if add {
		if there {
			r.Faults++
		}
		f.names[string(key)] = id
		if bytes.HasPrefix(kind, []byte("child_file_")) {
			f.told.add(name)
		}
		return nil
	}
	if !there || have != id {
		r.Faults++
	}
	delete(f.names, string(key))
	return nil
}

// pathFold folds the output of a program that knows paths only. It begins with the tree as it is on disk.
type pathFold struct {
	paths map[string]bool // relative to the root
	told  seen
	take  func(f *pathFold, line []byte, r *foldResult) error
}

func newPathFold(root string, take func(*pathFold, []byte, *foldResult) error) (*pathFold, error) {
	f := &pathFold{paths: make(map[string]bool), take: take}
	return f, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != root {
			f.paths[path[len(root)+1:]] = true
		}
		return err
	})
}

func (f *pathFold) fold(b []byte, r *foldResult) error { return f.take(f, b, r) }
func (f *pathFold) ready() bool                        { return true }
func (f *pathFold) files() *seen                       { return &f.told }
func (f *pathFold) size() int                          { return len(f.paths) }

func (f *pathFold) has(dir any, name string) (any, bool) {
	path := name
	if dir != nil {
		path = dir.(string) + "/" + name
	}
	return path, f.paths[path]
}

func (f *pathFold) set(path []byte, there bool, r *foldResult) {
	r.Notes++
	if there {
		f.paths[string(path)] = true
		f.told.add(path[bytes.LastIndexByte(path, '/')+1:])
		return
	}
	delete(f.paths, string(path))
}

// takeLine takes a line of inotifywait, "DIR/ EVENT,EVENT NAME", or of fswatch, "PATH Flag Flag".
func takeLine(root string) func(*pathFold, []byte, *foldResult) error {
	return func(f *pathFold, b []byte, r *foldResult) error {
		first, rest, _ := bytes.Cut(bytes.TrimSpace(b), []byte(" "))
		path, ok := bytes.CutPrefix(first, []byte(root+"/"))
		if !ok {
			return nil
		}
		events, name, hasName := bytes.Cut(rest, []byte(" "))
		if len(first) > 0 && first[len(first)-1] == '/' && hasName { // inotifywait
			path = append(path[:len(path):len(path)], name...)
		} else {
			events = rest
		}
		has := func(words ...string) bool {
			for _, w := range words {
				if bytes.Contains(events, []byte(w)) {
					return true
				}
			}
			return false
		}
		switch {
		case has("CREATE", "MOVED_TO", "Created", "MovedTo"):
			f.set(path, true, r)
		case has("DELETE", "MOVED_FROM", "Removed", "MovedFrom"):
			f.set(path, false, r)
		default:
			r.Notes++
		}
		return nil
	}
}

// takeWatchman takes a message of a subscription.
func takeWatchman(f *pathFold, b []byte, r *foldResult) error {
	var m struct {
		Files []struct {
			Name   string `json:"name"`
			Exists bool   `json:"exists"`
		} `json:"files"`
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	for _, e := range m.Files {
		f.set([]byte(e.Name), e.Exists, r)
		if !e.Exists { // what was born and died is told as gone only
			f.told.add([]byte(e.Name[strings.LastIndexByte(e.Name, '/')+1:]))
		}
	}
	return nil
}

// connect asks a server for a stream and returns when the answer has begun.
func connect(addr, ref, query string) (net.Conn, *bufio.Reader, error) {
	c, err := request(addr, ref, query)
	if err != nil {
		return nil, nil, err
	}
	r, err := skipHead(bufio.NewReaderSize(c, 1<<16))
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, r, nil
}

func request(addr, ref, query string) (net.Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if _, err = fmt.Fprintf(c, "GET /v1/files/%s/notify?%s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", ref, query, addr); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// skipHead reads the head of an answer, and returns what reads its body.
func skipHead(r *bufio.Reader) (*bufio.Reader, error) {
	status, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	if !strings.Contains(status, " 200 ") {
		return nil, errors.New(strings.TrimSpace(status))
	}
	body := r
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if line == "\r\n" {
			return body, nil
		}
		if strings.EqualFold(strings.TrimSpace(line), "transfer-encoding: chunked") {
			body = bufio.NewReaderSize(&dechunker{lineReader: lineReader{r: r}}, r.Size())
		}
	}
}

// A dechunker reads the content of chunks (RFC 9112, section 7.1). It goes on after an error that passes, such as a deadline, where
// net/http/httputil's does not.
type dechunker struct {
	lineReader
	left int  // what is still to come of a chunk, in bytes
	ends bool // and the end of its line
}

func (d *dechunker) Read(b []byte) (int, error) {
	for d.left == 0 {
		line, err := d.next()
		if err != nil {
			return 0, err
		}
		if d.ends {
			d.ends = false
			continue
		}
		size, _, _ := strings.Cut(string(line), ";") // an extension
		n, err := strconv.ParseUint(strings.TrimSpace(size), 16, 31)
		if err != nil {
			return 0, fmt.Errorf("the size of a chunk: %w", err)
		}
		if n == 0 {
			return 0, io.EOF
		}
		d.left, d.ends = int(n), true
	}
	n, err := d.r.Read(b[:min(len(b), d.left)])
	d.left -= n
	return n, err
}

// lineReader reads lines of any length. A line is valid until the next call. One that an error interrupts is completed by
// the calls that follow.
type lineReader struct {
	r    *bufio.Reader
	part []byte
	done bool // part was given out
}

func (l *lineReader) next() ([]byte, error) {
	if l.done {
		l.part, l.done = l.part[:0], false
	}
	b, err := l.r.ReadSlice('\n')
	if err == nil && len(l.part) == 0 {
		return b, nil
	}
	for {
		l.part = append(l.part, b...)
		switch err {
		case nil:
			l.done = true
			return l.part, nil
		case bufio.ErrBufferFull:
			b, err = l.r.ReadSlice('\n')
		default:
			return nil, err
		}
	}
}

// After the end of a load, a tree may differ from the disk for settle, but only for patience while nothing is told.
const (
	settle   = 60 * time.Second
	patience = 15 * time.Second
	quiet    = 2 * time.Second // without news, names are compared with the disk
)

// roleFold is a consumer of what a subject tells: it says "ready" and folds. The end of standard input is the end of the load:
// when nothing has come for a moment from then on and the names are those on disk, or patience is over, it says what it found.
func roleFold(format, target, root string) error {
	f, in, err := openFold(format, target, root)
	if err != nil {
		return err
	}
	defer in.Close()
	lines := &lineReader{r: bufio.NewReaderSize(in, 1<<20)}
	if format == "sse" {
		if lines.r, err = skipHead(lines.r); err != nil {
			return err
		}
	}
	var over atomic.Pointer[time.Time] // when the load was over
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		now := time.Now()
		over.Store(&now)
		_ = in.SetReadDeadline(now.Add(quiet)) // a read may be under way
	}()
	var res foldResult
	ready := func() error { res = foldResult{}; return say("ready") }
	if f.ready() {
		if err := ready(); err != nil {
			return err
		}
	}
	start, last := time.Now(), time.Now()
	for {
		end := over.Load()
		if end != nil {
			if err := in.SetReadDeadline(time.Now().Add(quiet)); err != nil {
				return err
			}
		}
		b, err := lines.next()
		if end = over.Load(); end != nil && err != nil { // it is silent, or it has ended
			if err := compare(f, root, &res); err != nil {
				return err
			}
			silent := errors.Is(err, os.ErrDeadlineExceeded)
			if res.Missing+res.Extra == 0 || !silent || time.Since(last) > patience && time.Since(*end) > patience || time.Since(*end) > settle {
				break
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("stream: %w", err)
		}
		last = time.Now()
		was := f.ready()
		if err := f.fold(b, &res); err != nil {
			return err
		}
		if !was && f.ready() {
			start = time.Now()
			if err := ready(); err != nil {
				return err
			}
			continue
		}
		res.Bytes += int64(len(b))
	}
	res.Files = f.files().count()
	res.Wall = last.Sub(start).Seconds()
	res.CPU = ownCPU().Seconds()
	return say(res)
}

// deadliner is a stream that can be waited for.
type deadliner interface {
	io.ReadCloser
	SetReadDeadline(time.Time) error
}

func openFold(format, target, root string) (folder, deadliner, error) {
	switch format {
	case "sse":
		c, err := request(target, url.PathEscape(root), "recursive=true&since=snapshot")
		return &sseFold{names: make(map[string]uint64)}, c, err
	case "watchman":
		f, err := newPathFold(root, takeWatchman)
		if err != nil {
			return nil, nil, err
		}
		w, err := subscribeWatchman(target, root)
		if err != nil {
			return nil, nil, err
		}
		return f, w, nil
	case "lines":
		f, err := newPathFold(root, takeLine(root))
		if err != nil {
			return nil, nil, err
		}
		file, err := os.Open(target)
		if err != nil {
			return nil, nil, err
		}
		return f, &tail{File: file}, nil
	}
	return nil, nil, fmt.Errorf("there is no format %q", format)
}

// tail reads a file that grows; where it ends for now, Read waits.
type tail struct {
	*os.File
	until atomic.Int64 // ns since 1970; 0: for ever
}

func (t *tail) SetReadDeadline(at time.Time) error { t.until.Store(at.UnixNano()); return nil }

func (t *tail) Read(b []byte) (int, error) {
	for {
		n, err := t.File.Read(b)
		if n > 0 || err != io.EOF {
			return n, err
		}
		if until := t.until.Load(); until != 0 && time.Now().UnixNano() > until {
			return 0, os.ErrDeadlineExceeded
		}
		time.Sleep(100 * time.Millisecond)
	}
}
