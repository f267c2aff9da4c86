package onedata

import "fs_notify/notify"

// record is a kind of document that Onedata keeps of each file.
type record uint8

const (
	fileMeta record = iota
	fileLocation
	times
	customMetadata
	numRecords = iota
)

var recordNames = [numRecords]string{"fileMeta", "fileLocation", "times", "customMetadata"}

func (r record) String() string { return recordNames[r] }

// recordNamed is the inverse of String.
func recordNamed(s string) (record, bool) {
	for r, name := range recordNames {
		if name == s {
			return record(r), true
		}
	}
	return 0, false
}

// field is something that a request can ask of a record. customMetadata has names of attributes instead.
type field uint8

const (
	fieldName field = iota
	fieldType
	fieldMode
	fieldOwner
	fieldProviderID
	fieldShares
	fieldDeleted
	fieldStorageID
	fieldSize
	fieldSpaceID
	fieldStorageFileCreated
	fieldAtime
	fieldMtime
	fieldCtime
	numFields = iota
)

var fieldNames = [numFields]string{"name", "type", "mode", "owner", "provider_id", "shares", "deleted", "storage_id", "size", "space_id",
	"storage_file_created", "atime", "mtime", "ctime"}

// fieldsOf lists what may be asked of each record, in the order in which an error names them.
var fieldsOf = [numRecords][]field{
	fileMeta:     {fieldName, fieldType, fieldMode, fieldOwner, fieldProviderID, fieldShares, fieldDeleted},
	fileLocation: {fieldProviderID, fieldStorageID, fieldSize, fieldSpaceID, fieldStorageFileCreated},
	times:        {fieldAtime, fieldMtime, fieldCtime},
}

// halves says which renames a rule is about.
type halves uint8

const (
	either halves = iota
	paired        // both names are in the space
	alone         // the other one is not
)

// rule says which documents a notification writes.
type rule struct {
	types   notify.TypeSet
	halves  halves
	records []record // in the order of their seqs; what an entry does not have is left out
	deleted bool     // the documents are deleted by it
	means   string   // for the table in docs/protocols/onedata.md
}

// rules is the whole of the mapping. The first one that fits a notification counts.
var rules = []rule{
	{types: notify.SetOf(notify.ChildFileAdded, notify.ChildDirAdded), records: []record{fileMeta, times, fileLocation, customMetadata},
		means: "created; a hard link: another name of the same file"},
	{types: notify.SetOf(notify.ChildFileRemoved, notify.ChildDirRemoved), records: []record{customMetadata, times, fileLocation, fileMeta}, deleted: true,
		means: "removed. Of a file that still has another name in the space: `fileMeta` and `times`, not deleted, with the `filePath` that is left"},
	{types: notify.SetOf(notify.ChildLinkStays), records: []record{fileMeta},
		means: "a directory is about to leave the space with one of several names of a file: the `filePath` that is left. Where a name goes by itself, its own documents tell it"},
	{types: notify.SetOf(notify.ChildFileMovedFrom, notify.ChildDirMovedFrom), halves: paired, records: []record{times},
		means: "renamed: what its old name tells. `filePath` is the new one"},
	{types: notify.SetOf(notify.ChildFileMovedTo, notify.ChildDirMovedTo), halves: paired, records: []record{fileMeta},
		means: "renamed: what its new name tells. Below a directory nothing is told"},
	{types: notify.SetOf(notify.ChildFileMovedFrom, notify.ChildDirMovedFrom), halves: alone, records: []record{fileMeta, fileLocation, times, customMetadata}, deleted: true,
		means: "moved out of the space, or out of sight. Below a directory nothing is told: all of it is gone. Of a file that still has another name there: as for removed"},
	{types: notify.SetOf(notify.ChildFileMovedTo, notify.ChildDirMovedTo), halves: alone, records: []record{fileMeta, fileLocation, times, customMetadata},
		means: "moved into the space; what is below a directory follows as added"},
	{types: notify.SetOf(notify.ChildDataWritten, notify.ChildSizeChanged), records: []record{fileLocation, times},
		means: "written, truncated"},
	{types: notify.SetOf(notify.ChildMtimeChanged, notify.ChildAtimeChanged), records: []record{times},
		means: "times set or moved; of a directory also: an entry came, went or was renamed (at most once a second)"},
	{types: notify.SetOf(notify.ChildACLChanged, notify.ChildOwnerChanged, notify.ChildGroupChanged), records: []record{fileMeta, times},
		means: "chmod, setfacl, chown, chgrp"},
	{types: notify.SetOf(notify.ChildExtraAttrsChanged, notify.ChildBtimeChanged, notify.ChildStreamAdded, notify.ChildStreamRemoved, notify.ChildStreamMovedFrom,
		notify.ChildStreamMovedTo, notify.ChildStreamSizeChanged, notify.ChildStreamDataWritten), records: []record{customMetadata, times},
		means: "an extended attribute (Samba's alternate data streams are some), or a flag of the inode"},
	{types: notify.SetOf(notify.SelfRemoved),
		means: "the directory of the space is away; the stream ends, and who comes again when it is back goes on from there. Nothing of it is gone, so nothing is told"},
	{types: notify.SetOf(notify.ChildFileClosed, notify.SelfRescanned),
		means: "nothing of it can be told"},
}

// ruleFor gives the rule for a type; halves is paired or alone.
func ruleFor(t notify.Type, h halves) *rule { return ruleTable[h][t] }

var ruleTable = func() (table [alone + 1][notify.NumTypes]*rule) {
	for t := range notify.Type(notify.NumTypes) {
		for h := paired; h <= alone; h++ {
			for i := range rules {
				if r := &rules[i]; r.types.Has(t) && (r.halves == either || r.halves == h) {
					table[h][t] = r
					break
				}
			}
		}
	}
	return table
}()

// unknowable is what a POSIX file system does not tell, and what is put there.
var unknowable = []struct{ what, put string }{
	{"`seq` is a counter of each space", "the Seq of this server's journal: one counter for all spaces and all protocols, below 2^53, with gaps. A position means the same place in each protocol"},
	{"`fileId`", "the CDMI object ID of `guid#FILEID#SPACEID`, where FILEID is the decimal file ID that the other protocols use"},
	{"a file ID of its own for each hard link", "all names of a file share its `fileId`; `filePath` is the name that the change was told for; when a name goes, one that is left. The stream ends where that has to be looked up and cannot be, as the root is away"},
	{"`filePath` when the line is sent", "the path when the change was told: folding the lines in their order gives the tree, also for a late reader. `\"\"` when deleted"},
	{"superseded revisions, which Onedata leaves out", "left out within one batch only; a late reader gets the older ones too"},
	{"`rev`: the number of writes of a document", "`SEQ-HEX`: the line's `seq`, and a digest of the document, which stays the same as long as its content does. `0-` and zeros: there is no such document"},
	{"`mutators`, `provider_id`: Onedata's provider", "`fs_notify`, for all"},
	{"`storage_id`", "the ID of the space"},
	{"`storage_file_created`", "`true`"},
	{"`shares`", "`[]`"},
	{"`owner`: a user of Onezone", "the name of the file's owner, or its decimal uid where it has none on this machine"},
	{"`type` of a FIFO, socket or device", "`REG`; hard links are `REG`, never `LNK`"},
	{"`fields.deleted`: a file that is removed and still open", "`true` exactly when the document is deleted: a file without a name is not seen"},
	{"`atime`, `ctime` of what was removed", "its `mtime`, since the tree does not keep them"},
	{"`atime`, `ctime` that nobody has looked at", "its `mtime`, as the fields are integers: of the name that is left when a file with several loses one, of what was known already and is told as moved in with all that is below it, and of what is " +
		"renamed faster than anyone can look"},
	{"`customMetadata` at the time of the change", "the extended attributes as they are on disk when the line is sent, of the namespace `user.` only, without that prefix. Values that are not UTF-8 are " +
		"escaped as names are; values beyond 256 KiB for one file are `null`. Of a deleted file: `null`, and `false` in `exists`"},
	{"`onedata_json` that is not JSON", "the string that it is"},
	{"the `times` document of chmod, chown, setfattr (`ctime`), and the last three of what was moved in or out", "they take the numbers that are left at the end of the batch. One that has none left " +
		"(thousands of such changes within a millisecond) leaves them out; so does one whose entry is gone by then. `filePath` is where the entry is there; an `always` record still carries their values. The end of a directory out of which something is being renamed " +
		"comes before them at the end of the batch, and keeps its own number if there is none left: its `fileMeta` is never left out"},
	{"changes of the directory of the space itself", "not told"},
	{"privileges: `space_view_changes_stream`", "the token's `changes`"},
}
