package box

import (
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"fs_notify/notify"
)

// event is one event of a page.
type event struct {
	name   string // its event_type
	action action
	root   notify.FileID
	note   *notify.Notification // the last one that it tells
	seq    notify.Seq           // sequence_id of the item
	entry  *notify.Entry        // where the item is now, if that is not what note says
	place  int                  // of the note, among the notifications that were looked at
	before notify.Seq           // the position before its first notification
	open   bool                 // of a file that is being written
	hidden bool                 // part of a later one
}

// item is a file or a folder as it is shown.
type item struct {
	root   *root
	path   string // below the root
	spine  notify.Spine
	attr   *notify.Attr
	seq    notify.Seq
	status string
}

const (
	active  = "active"
	deleted = "deleted"
)

// rootFolder is All Files, in which the roots are.
const rootFolder = "0"

const rootFolderMini = `{"type":"folder","id":"0","sequence_id":null,"etag":null,"name":"All Files"}`

func (e *event) item(r *root) item {
	it := item{root: r, path: e.note.Path, spine: e.note.Spine, attr: &e.note.Attr, seq: e.seq, status: active}
	if e.action == trash {
		it.status = deleted
	}
	if e.entry != nil {
		it.path, it.spine, it.attr = e.entry.Path, e.entry.Spine, &e.entry.Attr
	}
	return it
}

func (it *item) id() notify.FileID { return it.spine[len(it.spine)-1] }

func (it *item) name() string {
	if it.path == "" {
		return it.root.name
	}
	return base(it.path)
}

// base is the last part of a path, byte for byte.
func base(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[i+1:]
		}
	}
	return path
}

func (it *item) kind() string {
	if it.attr.IsDir() {
		return "folder"
	}
	return "file"
}

// eventID is the same whenever the same event is told: forty digits, as Box's are.
func eventID(e *event) string {
	var b [64]byte
	binary.BigEndian.PutUint64(b[:], uint64(e.root))
	binary.BigEndian.PutUint64(b[8:], uint64(e.note.Seq))
	sum := sha1.Sum(append(b[:16], e.name...))
	return hex.EncodeToString(sum[:])
}

// appendEvent appends one event as a stream has it.
func appendEvent(b []byte, e *event, r *root, enterprise, actors bool) []byte {
	it := e.item(r)
	b = append(b, `{"type":"event","event_id":"`...)
	b = append(b, eventID(e)...)
	b = append(b, `","event_type":"`...)
	b = append(b, e.name...)
	b = append(b, `","created_at":"`...)
	b = appendTime(b, e.note.Seq.Time())
	b = append(b, `","recorded_at":"`...)
	b = appendTime(b, e.note.Seq.Time())
	b = append(b, `","created_by":`...)
	if a := e.note.Actor; a != nil && actors {
		b = appendUser(b, a.UID)
	} else {
		b = append(b, unknownUser...)
	}
	b = append(b, `,"session_id":null,"source":`...)
	if !enterprise {
		b = appendItem(b, &it)
		return append(b, '}')
	}
	b = append(b, `{"item_type":"`...)
	b = append(b, it.kind()...)
	b = append(b, `","item_id":"`...)
	b = strconv.AppendUint(b, uint64(it.id()), 10)
	b = append(b, `","item_name":`...)
	b = notify.AppendName(b, it.name())
	b = append(b, `,"parent":`...)
	b = it.appendParent(b)
	b = append(b, `,"owned_by":`...)
	b = appendUser(b, it.attr.UID)
	b = append(b, `},"ip_address":"Unknown IP","action_by":null,"accessible_by":null,"additional_details":null}`...)
	return b
}

// appendItem appends a file or a folder with all that is known of it.
func appendItem(b []byte, it *item) []byte {
	b = append(b, `{"type":"`...)
	b = append(b, it.kind()...)
	b = append(b, `","id":"`...)
	b = strconv.AppendUint(b, uint64(it.id()), 10)
	b = append(b, `","sequence_id":"`...)
	b = strconv.AppendUint(b, uint64(it.seq), 10)
	b = append(b, `","etag":"`...)
	b = strconv.AppendUint(b, uint64(it.seq), 10)
	b = append(b, `","name":`...)
	b = notify.AppendName(b, it.name())
	size := it.attr.Size
	if it.attr.IsDir() {
		size = 0
	} else {
		b = append(b, `,"sha1":null`...)
	}
	b = append(b, `,"description":"","size":`...)
	b = strconv.AppendInt(b, size, 10)
	b = append(b, `,"path_collection":{"total_count":`...)
	b = strconv.AppendInt(b, int64(len(it.spine)), 10)
	b = append(b, `,"entries":[`+rootFolderMini...)
	name, rest := it.root.name, it.path
	for _, id := range it.spine[:len(it.spine)-1] {
		b = appendFolder(append(b, ','), id, name)
		name, rest, _ = strings.Cut(rest, "/")
	}
	b = append(b, `]},"parent":`...)
	b = it.appendParent(b)
	for _, t := range [...]struct {
		key   string
		ns    int64
		known bool
	}{
		{"created_at", it.attr.Btime, it.attr.Btime != 0}, {"modified_at", it.attr.Mtime, true},
		{"content_created_at", it.attr.Btime, it.attr.Btime != 0}, {"content_modified_at", it.attr.Mtime, true},
	} {
		if !t.known { // rclone takes no null here
			continue
		}
		b = append(b, `,"`...)
		b = append(b, t.key...)
		b = append(b, `":"`...)
		b = append(appendTime(b, time.Unix(0, t.ns)), '"')
	}
	b = append(b, `,"trashed_at":null,"purged_at":null,"created_by":`+unknownUser+`,"modified_by":`+unknownUser+`,"owned_by":`...)
	b = appendUser(b, it.attr.UID)
	b = append(b, `,"shared_link":null,"item_status":"`...)
	b = append(b, it.status...)
	return append(b, `"}`...)
}

// appendParent appends the folder that an item is in.
func (it *item) appendParent(b []byte) []byte {
	if len(it.spine) < 2 {
		return append(b, rootFolderMini...)
	}
	name, rest := it.root.name, it.path
	for range it.spine[2:] {
		name, rest, _ = strings.Cut(rest, "/")
	}
	return appendFolder(b, it.spine[len(it.spine)-2], name)
}

// appendFolder appends a folder that another item is in.
func appendFolder(b []byte, id notify.FileID, name string) []byte {
	b = append(b, `{"type":"folder","id":"`...)
	b = strconv.AppendUint(b, uint64(id), 10)
	b = append(b, `","sequence_id":null,"etag":null,"name":`...)
	return append(notify.AppendName(b, name), '}')
}

// unknownUser is how Box names one whom it does not know.
const unknownUser = `{"type":"user","id":"2","name":"","login":""}`

// userBase is added to a user's number, as small ones mean something else to Box.
const userBase = 10_000_000_000

func appendUser(b []byte, uid uint32) []byte {
	b = append(b, `{"type":"user","id":"`...)
	b = strconv.AppendUint(b, userBase+uint64(uid), 10)
	b = append(b, `","name":"uid `...)
	b = strconv.AppendUint(b, uint64(uid), 10)
	b = append(b, `","login":"uid:`...)
	b = strconv.AppendUint(b, uint64(uid), 10)
	return append(b, `"}`...)
}

// appendTime appends a time to the second with an offset, which all of Box's clients read.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		t = time.Unix(0, 0).UTC() // four digits are all that there is room for
	}
	return t.AppendFormat(b, "2006-01-02T15:04:05+00:00")
}
