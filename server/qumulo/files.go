package qumulo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"

	"fs_notify/notify"
	"fs_notify/server/etag"
)

// serveEntries lists a directory as of one Seq: what a stream from that Seq goes on from.
func (a *API) serveEntries(w http.ResponseWriter, r *http.Request, c call) error {
	grant := notify.GrantOf(r.Context())
	recursive, err := parseBool(c.query, "recursive")
	if err == nil {
		err = allow(grant, recursive)
	}
	if err != nil {
		return err
	}
	scope, err := a.Feed.Scope(grant.Prefixes, globs(c.query, "include"), globs(c.query, "exclude"))
	if err != nil {
		return err
	}
	dir, err := a.directory(r.Context(), c.ref)
	if err != nil {
		return err
	}
	head := r.Method == http.MethodHead // whether it can be had is seen without all that is below
	snap, room, err := a.copyTree(r.Context(), dir.ID(), recursive && !head)
	if err != nil {
		return err
	}
	defer room.release()
	at := len(snap.Entries[0].Spine) - 1
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if head {
		return nil
	}
	b := append([]byte(`{"seq":`), snap.Seq.String()...)
	b = append(b, `,"id":"`...)
	b = append(b, notify.Cursor{Seq: snap.Seq, Dir: dir.ID()}.String()...)
	b = append(b, `","entries":[`...)
	first := true
	for i := range snap.Entries[1:] {
		e := &snap.Entries[1+i]
		if scope != nil && !scope.Lets((&notify.Notification{Path: e.Path}).PathFrom(at), e.Attr.IsDir()) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = appendEntry(append(b, '\n'), e, at)
		if len(b) >= maxWrite {
			if _, err := w.Write(b); err != nil || room.overdue() != nil {
				panic(http.ErrAbortHandler) // a list that is cut short must not look whole
			}
			b = b[:0]
		}
	}
	w.Write(append(b, "\n]}\n"...)) // an error breaks the connection, which the client sees
	return nil
}

// appendEntry appends one entry as seen from element at of its spine.
func appendEntry(b []byte, e *notify.Entry, at int) []byte {
	n := notify.Notification{Path: e.Path, Spine: e.Spine}
	b = append(b, `{"id":"`...)
	b = strconv.AppendUint(b, uint64(e.ID()), 10)
	b = append(b, `","path":`...)
	b = notify.AppendName(b, n.PathFrom(at))
	b = append(b, `,"name":`...)
	b = notify.AppendName(b, e.Path[strings.LastIndexByte(e.Path, '/')+1:])
	b = append(b, `,"spine":[`...)
	for i, id := range e.Spine[at:] {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = strconv.AppendUint(b, uint64(id), 10)
		b = append(b, '"')
	}
	b = append(b, `],"type":"`...)
	b = append(b, fileType(&e.Attr)...)
	b = append(b, `","size":"`...)
	b = strconv.AppendInt(b, e.Attr.Size, 10)
	b = append(b, `","mode":"`...)
	b = append(b, octal(&e.Attr)...)
	b = append(b, `","num_links":`...)
	b = strconv.AppendUint(b, uint64(e.Attr.Nlink), 10)
	b = append(b, `,"owner":"`...)
	b = append(b, authID(uidBase, e.Attr.UID)...)
	b = append(b, `","group":"`...)
	b = append(b, authID(gidBase, e.Attr.GID)...)
	b = append(b, '"')
	for _, t := range [...]struct {
		key string
		ns  int64
	}{{"modification_time", e.Attr.Mtime}, {"change_time", e.Attr.Ctime}, {"creation_time", birth(&e.Attr)}} {
		b = append(b, `,"`...)
		b = append(b, t.key...)
		if t.ns == 0 { // a tree need not remember all of them
			b = append(b, `":null`...)
			continue
		}
		b = append(b, `":"`...)
		b = append(notify.AppendTime(b, t.ns), '"')
	}
	return append(b, '}')
}

// attributes is one entry as Qumulo describes it: keys, types and spelling are Qumulo's.
type attributes struct {
	Path              name            `json:"path"` // absolute; of a directory with a slash at the end
	Name              name            `json:"name"`
	NumLinks          uint32          `json:"num_links"`
	Type              string          `json:"type"`
	DeviceNumbers     deviceNumbers   `json:"major_minor_numbers"`
	SymlinkTargetType string          `json:"symlink_target_type"`
	FileNumber        string          `json:"file_number"`
	ID                string          `json:"id"`
	Mode              string          `json:"mode"`
	Owner             string          `json:"owner"`
	OwnerDetails      identity        `json:"owner_details"`
	Group             string          `json:"group"`
	GroupDetails      identity        `json:"group_details"`
	Blocks            string          `json:"blocks"`
	Datablocks        string          `json:"datablocks"`
	Metablocks        string          `json:"metablocks"`
	Size              string          `json:"size"`
	AccessTime        string          `json:"access_time"`
	ModificationTime  string          `json:"modification_time"`
	ChangeTime        string          `json:"change_time"`
	CreationTime      string          `json:"creation_time"`
	ChildCount        int             `json:"child_count"`
	Extended          map[string]bool `json:"extended_attributes"`
	EntryHashPolicy   *string         `json:"directory_entry_hash_policy"` // null: Linux has none
	DataRevision      *string         `json:"data_revision"`
	UserMetaRevision  string          `json:"user_metadata_revision"`
}

type deviceNumbers struct {
	Major uint32 `json:"major"`
	Minor uint32 `json:"minor"`
}

type identity struct {
	Type  string `json:"id_type"`
	Value string `json:"id_value"`
}

// name is a string that may hold any bytes.
type name string

func (n name) MarshalJSON() ([]byte, error) { return notify.AppendName(nil, string(n)), nil }

// Qumulo's auth IDs of POSIX users and groups are these and the number.
const (
	uidBase = 2 << 32
	gidBase = 3 << 32
)

func authID(base uint64, id uint32) string { return strconv.FormatUint(base+uint64(id), 10) }

// serveAttributes describes one entry as it is on disk now.
func (a *API) serveAttributes(w http.ResponseWriter, r *http.Request, c call) error {
	if err := allow(notify.GrantOf(r.Context()), false); err != nil {
		return err
	}
	found, err := a.lookup(r.Context(), c.ref)
	if err != nil {
		return err
	}
	e, err := a.Files.Stat(r.Context(), found.ID())
	if err != nil {
		return err
	}
	e.Root, e.Path, e.Spine = found.Root, found.Path, found.Spine // of several names, the one that was asked for
	children := 0
	if e.Attr.IsDir() {
		if children, err = a.Files.Children(r.Context(), e.ID()); err != nil {
			return err
		}
	}
	at := &e.Attr
	full := a.fullPath(&e)
	id := e.ID().String()
	blocks := strconv.FormatInt((max(at.Size, 0)+4095)/4096, 10)
	if !at.IsRegular() {
		blocks = "0"
	}
	revision := strconv.FormatInt(at.Ctime, 10)
	out := attributes{
		Path: name(full), Name: name(path.Base(full)), NumLinks: at.Nlink, Type: fileType(at), SymlinkTargetType: "FS_FILE_TYPE_UNKNOWN",
		FileNumber: id, ID: id, Mode: octal(at),
		Owner: authID(uidBase, at.UID), OwnerDetails: identity{"NFS_UID", strconv.FormatUint(uint64(at.UID), 10)},
		Group: authID(gidBase, at.GID), GroupDetails: identity{"NFS_GID", strconv.FormatUint(uint64(at.GID), 10)},
		Blocks: blocks, Datablocks: blocks, Metablocks: "0", Size: strconv.FormatInt(at.Size, 10),
		AccessTime: timeText(at.Atime), ModificationTime: timeText(at.Mtime), ChangeTime: timeText(at.Ctime), CreationTime: timeText(birth(at)),
		ChildCount: children, UserMetaRevision: revision,
		Extended: map[string]bool{"read_only": false, "hidden": false, "system": false, "archive": false, "temporary": false,
			"compressed": at.Flags&statxCompressed != 0, "not_content_indexed": false, "sparse_file": false, "offline": false},
	}
	if at.IsDir() {
		if full != "/" {
			out.Path += "/"
		}
	} else {
		out.DataRevision = &revision
	}
	if full == "/" {
		out.Name = ""
	}
	return writeJSON(w, r, out)
}

const statxCompressed = 0x4 // STATX_ATTR_COMPRESSED

func timeText(ns int64) string { return string(notify.AppendTime(nil, ns)) }

// birth is when an entry was made, or its last change where the file system does not keep that.
func birth(at *notify.Attr) int64 {
	switch {
	case at.X != nil && at.X.DOSBtime != 0:
		return at.X.DOSBtime
	case at.Btime != 0:
		return at.Btime
	}
	return at.Ctime
}

func octal(at *notify.Attr) string { return fmt.Sprintf("%04o", at.Perm()) }

func fileType(at *notify.Attr) string {
	switch at.Kind() {
	case "file":
		return "FS_FILE_TYPE_FILE"
	case "directory":
		return "FS_FILE_TYPE_DIRECTORY"
	case "symlink":
		return "FS_FILE_TYPE_SYMLINK"
	case "fifo":
		return "FS_FILE_TYPE_UNIX_PIPE"
	case "socket":
		return "FS_FILE_TYPE_UNIX_SOCKET"
	case "char_device":
		return "FS_FILE_TYPE_UNIX_CHARACTER_DEVICE"
	case "block_device":
		return "FS_FILE_TYPE_UNIX_BLOCK_DEVICE"
	}
	return "FS_FILE_TYPE_UNKNOWN"
}

const (
	maxResolve    = 1 << 20 // bytes of a body of POST /v1/files/resolve
	maxResolveIDs = 10000
)

// serveResolve turns IDs into paths. One that leads to nothing makes the whole request a 404.
func (a *API) serveResolve(w http.ResponseWriter, r *http.Request) error {
	if err := allow(notify.GrantOf(r.Context()), false); err != nil {
		return err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxResolve))
	var ids []string
	if err == nil {
		err = json.Unmarshal(body, &ids)
	}
	if err != nil || len(ids) > maxResolveIDs {
		return &notify.Error{Op: "qumulo.resolve", Kind: notify.Invalid, Err: err,
			Msg: fmt.Sprintf("the body should be a JSON array of at most %d file IDs, each a string", maxResolveIDs)}
	}
	type resolved struct {
		ID   string `json:"id"`
		Path name   `json:"path"`
	}
	out := make([]resolved, len(ids))
	for i, s := range ids {
		id, err := notify.ParseFileID(s)
		if err == nil {
			err = context.Cause(r.Context()) // nobody waits for the rest
		}
		if err != nil {
			return err
		}
		e, err := a.lookup(r.Context(), Ref{ID: id})
		if err != nil {
			return err
		}
		out[i] = resolved{s, name(a.fullPath(&e))}
		if e.Attr.IsDir() && out[i].Path != "/" {
			out[i].Path += "/"
		}
	}
	return writeJSON(w, r, out)
}

// writeJSON answers with a value and an entity tag made of it.
func writeJSON(w http.ResponseWriter, r *http.Request, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return &notify.Error{Op: "qumulo.writeJSON", Kind: notify.Internal, Err: err}
	}
	body = append(body, '\n')
	tag := `"` + etag.Sum(body) + `"`
	h := w.Header()
	h.Set("ETag", tag)
	h.Set("Cache-Control", "no-cache")
	if r.Method != http.MethodPost && etag.Known(r, tag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		w.Write(body) // an error breaks the connection, which the client sees
	}
	return nil
}
