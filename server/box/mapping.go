package box

import "fs_notify/notify"

// action is what a notification means to Box.
type action uint8

const (
	nothing action = iota
	createFile
	createFolder
	write
	rename
	move
	moveAndRename
	stay
	trash
	permissions
	ownership
	attributes
	times
	rescan
	numActions
)

// rule says what an action is told as. Of two events of one action, the first is about the parent, the second about the name.
type rule struct {
	what    string         // done to the file system
	types   notify.TypeSet // that it comes from
	user    []string       // in stream_type all
	changes bool           // and in changes and sync
	file    []string       // in the enterprise streams, of a file
	folder  []string       // and of a folder; nil: nothing
	note    string
}

// rules is the one table of what becomes what; docs/protocols/box.md shows it.
var rules = [numActions]rule{
	nothing: {what: "close; a folder's own times; reads; the root goes away",
		types: notify.SetOf(notify.ChildFileClosed, notify.ChildAtimeChanged, notify.SelfRemoved),
		note: "a close ends the waiting for it; a folder's times move with its entries, which are told. A root that is away is not gone: it is missing from All Files, and what " +
			"is in it is a 503, until it is back. What changed meanwhile is told then"},
	createFile: {what: "a file, symlink, pipe, socket or device is created, linked, or moved into the root or into sight",
		types: notify.SetOf(notify.ChildFileAdded, notify.ChildFileMovedTo),
		user:  []string{"ITEM_UPLOAD"}, changes: true, file: []string{"UPLOAD"},
		note: "with the content that is written to it next, see above"},
	createFolder: {what: "mkdir; a directory is moved into the root or into sight",
		types: notify.SetOf(notify.ChildDirAdded, notify.ChildDirMovedTo),
		user:  []string{"ITEM_CREATE"}, changes: true, folder: []string{"UPLOAD"},
		note: "Box documents no enterprise type for a new folder. What is in one that is moved into the root is told after it"},
	write: {what: "write, append, truncate",
		types: notify.SetOf(notify.ChildDataWritten, notify.ChildSizeChanged),
		user:  []string{"ITEM_UPLOAD"}, changes: true, file: []string{"EDIT"},
		note: "a new version: etag, sequence_id, size and modified_at move. Several of one file may be one, see above"},
	rename: {what: "rename in the same directory",
		types: notify.SetOf(notify.ChildFileMovedTo, notify.ChildDirMovedTo),
		user:  []string{"ITEM_RENAME"}, changes: true, file: []string{"RENAME"}, folder: []string{"RENAME"},
		note: "the source has the new name; the old one is not told. What is in a folder goes with it, untold"},
	move: {what: "move to another directory under the same name",
		types: notify.SetOf(notify.ChildFileMovedTo, notify.ChildDirMovedTo),
		user:  []string{"ITEM_MOVE"}, changes: true, file: []string{"MOVE"}, folder: []string{"MOVE"},
		note: "the source has the new parent"},
	moveAndRename: {what: "move to another directory under another name",
		types: notify.SetOf(notify.ChildFileMovedTo, notify.ChildDirMovedTo),
		user:  []string{"ITEM_MOVE", "ITEM_RENAME"}, changes: true, file: []string{"MOVE", "RENAME"}, folder: []string{"MOVE", "RENAME"},
		note: "both with the same source. The first one alone, if limit=1"},
	stay: {what: "one of several names of a file goes, by itself or with its directory: another one stays",
		types: notify.SetOf(notify.ChildLinkStays),
		user:  []string{"ITEM_MOVE"}, changes: true, file: []string{"MOVE"},
		note: "the source has the name that stays. The end of the other one is not told"},
	trash: {what: "unlink, rmdir, rename over; moved out of the root or out of sight",
		types: notify.SetOf(notify.ChildFileRemoved, notify.ChildDirRemoved, notify.ChildFileMovedFrom, notify.ChildDirMovedFrom),
		user:  []string{"ITEM_TRASH"}, changes: true, file: []string{"DELETE"}, folder: []string{"DELETE"},
		note: "item_status deleted, with the last known parent. A folder is trashed after what leaves it has moved, even if that takes its name"},
	permissions: {what: "chmod, setfacl, an NFSv4 or NT ACL",
		types: notify.SetOf(notify.ChildACLChanged),
		user:  []string{"ITEM_MODIFY"}, file: []string{"ITEM_MODIFY"}, folder: []string{"CHANGE_FOLDER_PERMISSION"}},
	ownership: {what: "chown, chgrp",
		types: notify.SetOf(notify.ChildOwnerChanged, notify.ChildGroupChanged),
		user:  []string{"ITEM_MODIFY"}, file: []string{"ITEM_MODIFY"}, folder: []string{"CHANGE_FOLDER_PERMISSION"}},
	attributes: {what: "extended attributes, inode flags, DOS attributes, alternate data streams",
		types: notify.SetOf(notify.ChildExtraAttrsChanged, notify.ChildBtimeChanged) | notify.Streamed,
		user:  []string{"ITEM_MODIFY"}, file: []string{"METADATA_INSTANCE_UPDATE"}, folder: []string{"METADATA_INSTANCE_UPDATE"}},
	times: {what: "touch, utimes of a file",
		types: notify.SetOf(notify.ChildMtimeChanged),
		user:  []string{"ITEM_MODIFY"}, file: []string{"ITEM_MODIFY"},
		note: "behind a write with nothing told in between, or in enterprise streams in the same page: part of that"},
	rescan: {what: "the server could not look for a while: it was down, or the kernel's queue overflowed",
		types: notify.SetOf(notify.SelfRescanned),
		user:  []string{"ITEM_MODIFY"}, changes: true, folder: []string{"ITEM_MODIFY"},
		note: "of the root's folder: what follows is only the net effect. Nothing is missing from it"},
}

// byType is the action of those types that mean one thing alone.
var byType = func() (out [notify.NumTypes]action) {
	for t := range out {
		for a := range rules {
			if rules[a].types.Has(notify.Type(t)) {
				out[t] = action(a)
				break
			}
		}
	}
	return out
}()

// tells says whether an action is told in a stream, of a file or of a folder.
func (a action) tells(s stream, isDir bool) bool { return len(a.names(s, isDir)) > 0 }

// names are the events of an action in a stream.
func (a action) names(s stream, isDir bool) []string {
	r := &rules[a]
	switch {
	case s == streamAll, s < adminLogs && r.changes:
		return r.user
	case s < adminLogs:
		return nil
	case isDir:
		return r.folder
	}
	return r.file
}

// content says whether an action is about what is in a file.
func (a action) content() bool { return a == createFile || a == write }

// takes says whether, of one file, an event of a can have one of b in it that follows directly: then both are one, in the state of the later.
func (a action) takes(b action) bool {
	return a.content() && (b == write || b == times) || a == b && a >= permissions && a != rescan
}

// goesOn says whether an event of a can have more in it than one notification.
func (a action) goesOn() bool { return a.takes(write) || a.takes(a) }

// classify says what a notification means to one who has this sight.
func classify(s *sight, r *root, b *notify.Batch, n *notify.Notification) action {
	isDir := n.Attr.IsDir()
	switch n.Type {
	case notify.ChildFileMovedTo, notify.ChildDirMovedTo:
		if !s.sees(r, n.Path) {
			return nothing
		}
		old := b.Partner(n)
		if old == nil || !s.sees(r, old.Path) {
			if isDir {
				return createFolder
			}
			return createFile
		}
		moved, renamed := parentID(old) != parentID(n), base(old.Path) != base(n.Path)
		switch {
		case moved && renamed:
			return moveAndRename
		case moved:
			return move
		case renamed:
			return rename
		}
		return nothing
	case notify.ChildFileMovedFrom, notify.ChildDirMovedFrom:
		if to := b.Partner(n); to != nil && s.sees(r, to.Path) {
			return nothing // its other half tells it
		}
	case notify.SelfRescanned:
		if !s.touches(r, n.Path) {
			return nothing
		}
		return rescan
	case notify.ChildMtimeChanged, notify.ChildSizeChanged, notify.ChildDataWritten:
		if isDir {
			return nothing
		}
	}
	if !s.sees(r, n.Path) {
		return nothing
	}
	act := byType[n.Type]
	if act == trash && !isDir {
		if to := stays(b, n); to != nil && s.sees(r, to.Path) {
			return nothing // which told where the item is
		}
	}
	return act
}

// stays is the name that a file still has which loses one with n, as it was told before; nil: it has none.
func stays(b *notify.Batch, n *notify.Notification) *notify.Notification {
	if i, _ := b.Place(n.Seq); i > 0 && n.StaysAt(&b.Notes[i-1]) {
		return &b.Notes[i-1]
	}
	return nil
}

// parentID is the file ID of the directory that an entry is in; 0 of a root.
func parentID(n *notify.Notification) notify.FileID {
	if len(n.Spine) < 2 {
		return 0
	}
	return n.Spine[len(n.Spine)-2]
}
