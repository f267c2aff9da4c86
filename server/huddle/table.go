package huddle

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"

	"fs_notify/notify"
)

// half says what a notification of a rename looks like from where the client stands.
type half uint8

const (
	anyHalf   half = iota // a rule for all of them
	alone                 // the other half is outside of what the client sees, or it is no rename
	inFolder              // a new name in the same directory
	elsewhere             // the same name in another directory
	both                  // a new name in another directory
)

var halves = [...]string{"", "other half out of sight", "same folder", "other folder, same name", "other folder, new name"}

// kinds of entries that a rule is for.
const (
	documents = 1 << iota
	folders
	all = documents | folders
)

var kindNames = [...]string{"", "document", "folder", "document, folder"}

// Rule says which type of change a notification becomes.
type Rule struct {
	types notify.TypeSet
	kinds uint8
	half  half
	// Change is Huddle's type; "": the notification is not told.
	Change string
	why    string
	soft   bool // not told where the same batch tells that the same document was updated
}

// Table is the whole mapping. The first rule that fits a notification counts; what fits none is not told.
var Table = []Rule{
	{types: notify.SetOf(notify.ChildFileAdded, notify.ChildDirAdded), kinds: all, Change: "ObjectCreated"},
	{types: notify.SetOf(notify.ChildLinkStays), kinds: documents, Change: "ObjectUpdated", why: "one of its names goes; title and parent are of one that stays"},
	{types: notify.SetOf(notify.ChildFileRemoved, notify.ChildDirRemoved), kinds: all, Change: "ObjectDeleted", why: "unless another name of the document stays"},
	{types: notify.SetOf(notify.ChildFileMovedFrom, notify.ChildDirMovedFrom), kinds: all, half: alone, Change: "ObjectDeleted", why: "it left the workspace, or the client's sight; unless another name of the document stays"},
	{types: notify.SetOf(notify.ChildFileMovedTo, notify.ChildDirMovedTo), kinds: all, half: alone, Change: "ObjectCreated", why: "it entered"},
	{types: notify.SetOf(notify.ChildFileMovedTo, notify.ChildDirMovedTo), kinds: all, half: inFolder, Change: "ObjectUpdated", why: "its title changed"},
	{types: notify.SetOf(notify.ChildFileMovedTo), kinds: documents, Change: "DocumentMoved", why: "parent is the new one"},
	{types: notify.SetOf(notify.ChildDirMovedTo), kinds: folders, Change: "FolderMoved", why: "parent is the new one"},
	{types: notify.SetOf(notify.ChildFileMovedFrom, notify.ChildDirMovedFrom), kinds: all, half: both, Change: "ObjectUpdated", why: "its title changed too; parent is the new one"},
	{types: notify.SetOf(notify.ChildFileMovedFrom, notify.ChildDirMovedFrom), kinds: all, why: "the other half tells it"},
	{types: notify.SetOf(notify.ChildDataWritten, notify.ChildSizeChanged), kinds: documents, Change: "DocumentUpdated", why: "a new version"},
	{types: notify.SetOf(notify.ChildStreamDataWritten, notify.ChildStreamSizeChanged), kinds: documents, Change: "DocumentUpdated", why: "an alternate data stream is content"},
	{types: notify.SetOf(notify.ChildMtimeChanged), kinds: documents, Change: "ObjectUpdated", soft: true, why: "unless it was written to"},
	{types: notify.SetOf(notify.ChildMtimeChanged), kinds: folders, why: "its entries' own changes are told"},
	{types: notify.SetOf(notify.ChildBtimeChanged, notify.ChildExtraAttrsChanged, notify.ChildStreamAdded, notify.ChildStreamRemoved, notify.ChildStreamMovedTo,
		notify.ChildStreamDataWritten, notify.ChildStreamSizeChanged), kinds: all, Change: "ObjectUpdated"},
	{types: notify.SetOf(notify.ChildACLChanged, notify.ChildOwnerChanged, notify.ChildGroupChanged), kinds: all, Change: "PermissionChanged"},
	{types: notify.SetOf(notify.ChildAtimeChanged, notify.ChildStreamMovedFrom, notify.ChildFileClosed, notify.SelfRemoved, notify.SelfRescanned), kinds: all, why: "nothing of Huddle's means it"},
}

// Types are all that Huddle's page lists. Those that no rule makes mean nothing that a file system knows of.
var Types = strings.Fields(`ObjectCreated ObjectUpdated ObjectDeleted ObjectArchived CommentCreated CommentDeleted DocumentMoved DocumentUpdated
	DocumentCheckedOut DocumentUndoCheckOut FolderMoved DocumentCopied DocumentVersionDeleted WorkflowUpdated WorkflowCompleted
	WorkflowAssignmentCompleted WorkflowAssignmentClosed PermissionChanged`)

func (r *Rule) fits(n *notify.Notification, h half) bool {
	kind := uint8(documents)
	if n.Attr.IsDir() {
		kind = folders
	}
	return r.types.Has(n.Type) && r.kinds&kind != 0 && (r.half == anyHalf || r.half == h)
}

// find gives the rule for a notification; nil: it is not told.
func find(n *notify.Notification, h half) *Rule {
	for i := range Table {
		if Table[i].fits(n, h) {
			if Table[i].Change == "" {
				return nil
			}
			return &Table[i]
		}
	}
	return nil
}

// happened is one change, made of one or more notifications.
type happened struct {
	seq     notify.Seq           // of the last of them: no two changes share it
	note    *notify.Notification // where the entry is now, or was last
	kind    string               // Huddle's type
	related notify.Seq           // changes of one operation share it; 0: it stands alone
	soft    bool
}

// changesOf is what a batch amounts to for one who sees some of its paths, in order. It depends on nothing else.
func changesOf(b *notify.Batch, sees func(path string) bool) []happened {
	type subject struct {
		id   notify.FileID
		path string
		kind string
	}
	var out []happened
	at := map[subject]int{} // place in out
	b, dropped := b.ByID(), 0
	ended, lived := -1, -1 // places of the last ObjectDeleted, behind which nothing is told that was told before it, and of the last that is none
	drop := func(i int) { out[i].kind, dropped = "", dropped+1 }
	for i := range b.Notes {
		n := &b.Notes[i]
		if len(n.Spine) < 2 || !sees(n.Path) || i > 0 && n.StaysAt(&b.Notes[i-1]) && sees(b.Notes[i-1].Path) {
			continue
		}
		h, to := halfOf(b, i, sees)
		rule := find(n, h)
		if rule == nil {
			continue
		}
		c := happened{seq: n.Seq, note: n, kind: rule.Change, soft: rule.soft}
		if to != nil {
			c.note, c.related = to, min(n.Seq, n.Link)
			if j := len(out) - 1; j >= 0 && out[j].kind == "ObjectDeleted" && out[j].note.Path == to.Path {
				out[j].related = c.related // what had the name before
			}
		}
		key := subject{n.ID(), c.note.Path, rule.Change}
		if c.kind == "ObjectDeleted" {
			ended = len(out)
			if lived >= 0 && c.related == 0 && out[lived].note.Path == c.note.Path {
				c.related = out[lived].related // what was renamed to its name
			}
		} else {
			lived = len(out)
			if j, ok := at[key]; ok && j > ended && to == nil && out[j].related == 0 {
				c.soft = c.soft && out[j].soft
				drop(j)
			}
		}
		at[key] = len(out)
		out = append(out, c)
	}
	for i, c := range out {
		if c.soft && c.kind != "" {
			if _, ok := at[subject{c.note.ID(), c.note.Path, "DocumentUpdated"}]; ok {
				drop(i)
			}
		}
	}
	if dropped > 0 {
		kept := out[:0]
		for _, c := range out {
			if c.kind != "" {
				kept = append(kept, c)
			}
		}
		out = kept
	}
	if len(out) > 1 {
		for i := range out {
			if out[i].related == 0 {
				out[i].related = b.Number.End()
			}
		}
	}
	return out
}

// halfOf says what the notification in place i is of a rename, and gives the half that tells where the entry is now; nil if it is alone.
func halfOf(b *notify.Batch, i int, sees func(path string) bool) (half, *notify.Notification) {
	n := &b.Notes[i]
	other := b.Partner(n)
	if other == nil || len(other.Spine) < 2 || !sees(other.Path) {
		return alone, nil
	}
	to := n
	if n.Type == notify.ChildFileMovedFrom || n.Type == notify.ChildDirMovedFrom {
		to = other
	}
	switch sameParent, sameName := parentOf(n) == parentOf(other), baseName(n.Path) == baseName(other.Path); {
	case sameParent:
		return inFolder, to
	case sameName:
		return elsewhere, to
	}
	return both, to
}

func parentOf(n *notify.Notification) notify.FileID { return n.Spine[len(n.Spine)-2] }

func baseName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// correlation is the GUID that changes of one operation of a workspace share: the same whenever it is asked for.
func correlation(root notify.FileID, related notify.Seq) string {
	var in [16]byte
	binary.BigEndian.PutUint64(in[:], uint64(root))
	binary.BigEndian.PutUint64(in[8:], uint64(related))
	h := sha256.Sum256(in[:])
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80 // version 8, RFC 9562
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}
