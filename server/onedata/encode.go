package onedata

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"hash"
	"hash/fnv"
	"maps"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"fs_notify/notify"
)

// encoder writes lines for one stream.
type encoder struct {
	spec   *spec
	space  space
	sid    string
	owners *owners
	// xattrs reads the extended attributes that an entry has now.
	xattrs func(id notify.FileID) map[string][]byte

	buf   []byte
	lines int
	sum   hash.Hash
	raw   []byte
	xid   notify.FileID // whose attributes were read last
	x     map[string][]byte
}

// provider is what stands where Onedata names one of its servers.
const provider = "fs_notify"

// triggers says whether a document counts for the client.
func (e *encoder) triggers(d *document) bool { return e.spec.triggers[d.record] }

// fresh makes the encoder read extended attributes anew.
func (e *encoder) fresh() { e.xid, e.x = 0, nil }

// line appends the line of a document, if the client wants to know anything of it.
func (e *encoder) line(d *document) {
	if !e.triggers(d) || !e.wants(d) {
		return
	}
	n := d.note
	if d.record == customMetadata && !d.deleted && notify.Names.Has(n.Type) && len(e.read(n.ID())) == 0 {
		return // its attributes are none that are told
	}
	b := append(e.buf, '{')
	b = e.appendRecord(b, d, customMetadata)
	b = append(b, `"fileId":"`...)
	b = appendFileID(b, n.ID(), e.space.root)
	b = append(b, `",`...)
	b = e.appendRecord(b, d, fileLocation)
	b = e.appendRecord(b, d, fileMeta)
	b = append(b, `"filePath":`...)
	if d.deleted {
		b = append(b, `""`...)
	} else {
		b = notify.AppendName(b, e.space.full(n.Path))
	}
	b = append(b, `,"seq":`...)
	b = strconv.AppendUint(b, uint64(d.seq), 10)
	b = append(b, ',')
	b = e.appendRecord(b, d, times)
	b[len(b)-1] = '}'
	e.buf = append(b, "\r\n"...)
	e.lines++
}

// wants says whether the line of a document would hold a record.
func (e *encoder) wants(d *document) bool {
	if e.spec.records[d.record] != nil {
		return true
	}
	for _, s := range e.spec.records {
		if s != nil && s.always {
			return true
		}
	}
	return false
}

// appendRecord appends a record with a comma behind, if it belongs into the line of d.
func (e *encoder) appendRecord(b []byte, d *document, r record) []byte {
	s := e.spec.records[r]
	if s == nil || r != d.record && !s.always {
		return b
	}
	n := d.note
	var x map[string][]byte
	there := true // such a document is there, or was
	switch r {
	case fileLocation:
		there = located(&n.Attr)
	case customMetadata:
		if !d.deleted {
			x = e.read(n.ID())
		}
		there = r == d.record || len(x) > 0 || d.deleted && hasXattrs(&n.Attr)
	}
	b = append(b, '"')
	b = append(b, r.String()...)
	b = append(b, `":{"changed":`...)
	b = strconv.AppendBool(b, r == d.record)
	b = append(b, `,"deleted":`...)
	b = strconv.AppendBool(b, d.deleted && there)
	if r == customMetadata {
		b = append(b, `,"exists":{`...)
		b = appendExists(b, s.exists, x)
		b = append(b, `},"fields":{`...)
		b = appendValues(b, s.names, x)
	} else {
		b = append(b, `,"fields":{`...)
		for i, f := range s.fields {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, '"')
			b = append(b, fieldNames[f]...)
			b = append(b, `":`...)
			if there {
				b = e.appendField(b, f, d)
			} else {
				b = append(b, "null"...)
			}
		}
	}
	b = append(b, `},"mutators":["`+provider+`"],"rev":"`...)
	if there {
		b = strconv.AppendUint(b, uint64(d.seq), 10)
		b = append(b, '-')
		b = e.appendDigest(b, d, r)
	} else {
		b = append(b, "0-00000000000000000000000000000000"...)
	}
	return append(b, `"},`...)
}

func (e *encoder) appendField(b []byte, f field, d *document) []byte {
	a := &d.note.Attr
	switch f {
	case fieldName:
		return notify.AppendName(b, d.note.Path[strings.LastIndexByte(d.note.Path, '/')+1:])
	case fieldType:
		switch {
		case a.IsDir():
			return append(b, `"DIR"`...)
		case a.Mode&notify.ModeMask == notify.ModeLink:
			return append(b, `"SYMLNK"`...)
		}
		return append(b, `"REG"`...)
	case fieldMode:
		return strconv.AppendUint(b, uint64(a.Perm()), 10)
	case fieldOwner:
		return notify.AppendName(b, e.owners.name(a.UID))
	case fieldProviderID:
		return append(b, `"`+provider+`"`...)
	case fieldShares:
		return append(b, "[]"...)
	case fieldDeleted:
		return strconv.AppendBool(b, d.deleted)
	case fieldStorageID, fieldSpaceID:
		b = append(b, '"')
		b = append(b, e.sid...)
		return append(b, '"')
	case fieldSize:
		return strconv.AppendInt(b, a.Size, 10)
	case fieldStorageFileCreated:
		return append(b, "true"...)
	case fieldAtime:
		return appendTime(b, a.Atime, a)
	case fieldMtime:
		return appendSeconds(b, a.Mtime)
	case fieldCtime:
		return appendTime(b, a.Ctime, a)
	}
	return append(b, "null"...) // cannot be: these are all
}

// appendTime appends a time that may not be known: then it is that of the last modification, as the field is an integer.
func appendTime(b []byte, ns int64, a *notify.Attr) []byte {
	if ns == 0 {
		ns = a.Mtime
	}
	return appendSeconds(b, ns)
}

// appendSeconds appends a time in whole seconds.
func appendSeconds(b []byte, ns int64) []byte {
	s := ns / 1e9
	if ns%1e9 < 0 {
		s--
	}
	return strconv.AppendInt(b, s, 10)
}

// appendDigest appends the second half of a rev: a digest of what the document holds.
func (e *encoder) appendDigest(b []byte, d *document, r record) []byte {
	a := &d.note.Attr
	raw := append(e.raw[:0], byte(r))
	put := func(v uint64) { raw = binary.LittleEndian.AppendUint64(raw, v) }
	put(uint64(d.note.ID()))
	if d.deleted {
		put(1)
	}
	switch r {
	case fileMeta:
		put(uint64(a.Mode)<<32 | uint64(a.UID))
		raw = append(raw, d.note.Path[strings.LastIndexByte(d.note.Path, '/')+1:]...)
	case fileLocation:
		put(uint64(a.Size))
	case times:
		put(uint64(a.Mtime))
		put(uint64(a.Ctime))
		put(uint64(a.Atime))
	case customMetadata:
		if x := a.X; x != nil {
			put(x.Other)
			put(x.DOS)
			put(uint64(x.DOSBtime))
			for i := range x.Streams {
				put(x.Streams[i].Digest)
				raw = append(raw, x.Streams[i].Name...)
			}
		}
	}
	if e.sum == nil {
		e.sum = fnv.New128a()
	}
	e.sum.Reset()
	e.sum.Write(raw)
	n := len(raw)
	raw = e.sum.Sum(raw)
	const digits = "0123456789abcdef"
	for _, c := range raw[n:] {
		b = append(b, digits[c>>4], digits[c&15])
	}
	e.raw = raw
	return b
}

// read gives the extended attributes of an entry. Lines about one entry that follow each other share them.
func (e *encoder) read(id notify.FileID) map[string][]byte {
	if e.xid != id {
		e.xid, e.x = id, e.xattrs(id)
	}
	return e.x
}

// The attributes that are not ordinary ones.
const (
	xattrJSON     = "onedata_json"
	xattrRDF      = "onedata_rdf"
	xattrKeyValue = "onedata_keyvalue" // none: stands for all ordinary ones
)

func ordinary(name string) bool { return name != xattrJSON && name != xattrRDF }

// keyOf is the name of an attribute on disk, without "user.", which may be asked for with it or without.
func keyOf(name string) string { return strings.TrimPrefix(name, "user.") }

func appendExists(b []byte, names []string, x map[string][]byte) []byte {
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = notify.AppendName(b, name)
		_, is := x[keyOf(name)]
		if name == xattrKeyValue {
			is = false
			for key := range x {
				is = is || ordinary(key)
			}
		}
		b = append(b, ':')
		b = strconv.AppendBool(b, is)
	}
	return b
}

func appendValues(b []byte, names []string, x map[string][]byte) []byte {
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = notify.AppendName(b, name)
		b = append(b, ':')
		if name == xattrKeyValue {
			b = appendKeyValue(b, x)
		} else {
			b = appendValue(b, keyOf(name), x[keyOf(name)])
		}
	}
	return b
}

// appendKeyValue appends all ordinary attributes, or null.
func appendKeyValue(b []byte, x map[string][]byte) []byte {
	comma := byte('{')
	for _, key := range slices.Sorted(maps.Keys(x)) {
		if !ordinary(key) {
			continue
		}
		b = append(b, comma)
		b = notify.AppendName(b, key)
		b = append(b, ':')
		b = appendValue(b, key, x[key])
		comma = ','
	}
	if comma == '{' {
		return append(b, "null"...)
	}
	return append(b, '}')
}

// appendValue appends the value of an attribute; nil is null.
func appendValue(b []byte, key string, v []byte) []byte {
	if v == nil {
		return append(b, "null"...)
	}
	if key == xattrJSON && utf8.Valid(v) {
		out := bytes.NewBuffer(b)
		if json.Compact(out, v) == nil {
			return out.Bytes()
		}
	}
	return notify.AppendName(b, string(v))
}

// owners are the names of users, remembered for a while.
type owners struct {
	mu     sync.Mutex
	known  map[uint32]string
	expire time.Time
}

const (
	ownersKept = time.Minute
	maxOwners  = 10000
)

func (o *owners) name(uid uint32) string {
	o.mu.Lock()
	now := time.Now()
	if len(o.known) >= maxOwners || now.After(o.expire) {
		o.known, o.expire = map[uint32]string{}, now.Add(ownersKept)
	}
	name, ok := o.known[uid]
	o.mu.Unlock()
	if ok {
		return name
	}
	name = strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(name); err == nil && u.Username != "" {
		name = u.Username
	}
	o.mu.Lock()
	o.known[uid] = name
	o.mu.Unlock()
	return name
}
