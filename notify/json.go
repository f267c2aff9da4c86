package notify

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// AppendName appends s as a JSON string. A byte that is not part of valid UTF-8
// travels as the lone surrogate \udc80 to \udcff (Python's surrogateescape, PEP 383),
// so that every name comes back byte for byte from [UnquoteName].
func AppendName(b []byte, s string) []byte {
	b = append(b, '"')
	b = appendEscaped(b, s)
	return append(b, '"')
}

// EscapeName is AppendName without the quotes: one line of printable UTF-8, for comments and logs.
func EscapeName(s string) string { return string(appendEscaped(nil, s)) }

func appendEscaped(b []byte, s string) []byte {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(b, s[start:i]...)
			b = append(b, '\\', 'u', 'd', 'c', hexDigits[c>>4], hexDigits[c&15])
			start = i + 1
		case r < '\u00a0': // control characters, one of which is a line end to some readers of lines
			b = append(b, s[start:i]...)
			b = append(b, '\\', 'u', '0', '0', hexDigits[r>>4], hexDigits[r&15])
			start = i + size
		case r == '\u2028', r == '\u2029': // so are these two
			b = append(b, s[start:i]...)
			b = append(b, '\\', 'u', '2', '0', '2', hexDigits[r&15])
			start = i + size
		}
		i += size
	}
	return append(b, s[start:]...)
}

// UnquoteName reads a JSON string, quotes included, as written by [AppendName] or any
// other JSON writer. \udc80 to \udcff that are not the second half of a pair become the
// byte they stand for; any other lone surrogate is Invalid.
func UnquoteName(q []byte) (string, error) {
	bad := func(why string) (string, error) {
		return "", &Error{Op: "notify.UnquoteName", Kind: Invalid, Msg: "bad JSON string " + strconv.Quote(clip(string(q))) + ": " + why}
	}
	if len(q) < 2 || q[0] != '"' || q[len(q)-1] != '"' {
		return bad("it is not in quotes")
	}
	s := q[1 : len(q)-1]
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c < ' ':
			return bad("a quote or a control character stands unescaped in it")
		case c != '\\':
			if c >= utf8.RuneSelf {
				r, size := utf8.DecodeRune(s[i:])
				if r == utf8.RuneError && size == 1 {
					return bad("it is not UTF-8")
				}
				out = append(out, s[i:i+size]...)
				i += size
				continue
			}
			out = append(out, c)
			i++
			continue
		}
		if i+1 >= len(s) {
			return bad("it ends in a backslash")
		}
		i += 2
		switch s[i-1] {
		case '"', '\\', '/':
			out = append(out, s[i-1])
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, ok := hex4(s[i:])
			if !ok {
				return bad("\\u wants four hexadecimal digits")
			}
			i += 4
			switch {
			case r >= 0xd800 && r < 0xdc00:
				if i+6 > len(s) || s[i] != '\\' || s[i+1] != 'u' {
					return bad("half a surrogate pair")
				}
				low, ok := hex4(s[i+2:])
				if !ok || low < 0xdc00 || low > 0xdfff {
					return bad("half a surrogate pair")
				}
				out = utf8.AppendRune(out, (r-0xd800)<<10+(low-0xdc00)+0x10000)
				i += 6
			case r >= 0xdc80 && r <= 0xdcff:
				out = append(out, byte(r))
			case r >= 0xdc00 && r <= 0xdfff:
				return bad("half a surrogate pair")
			default:
				out = utf8.AppendRune(out, r)
			}
		default:
			return bad("unknown escape")
		}
	}
	return string(out), nil
}

func hex4(s []byte) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(s[:4]), 16, 32)
	return rune(n), err == nil
}

// Fields chooses how much of a notification is written.
type Fields uint8

// The choices of ?fields=.
const (
	FieldsQumulo  Fields = iota // type, spine, path, stream_name
	FieldsAll                   // and seq, time, kind, size, mode, owner, group, mtime, link, actor
	FieldsNoActor               // as FieldsAll, for those who may not know who did it: actor is null
)

// AppendJSON appends n as seen from element i of its spine: keys in the order type,
// spine, path, stream_name (null for the default stream), then those of FieldsAll. It uses no
// reflection and allocates nothing but the growth of b.
func AppendJSON(b []byte, n *Notification, i int, f Fields) []byte {
	return appendRest(appendWhere(appendType(b, n), n, i), n, f)
}

// JSONWriter is [AppendJSON] for many notifications: where an entry is, is spelled out once for all that follow each other and are of it, and what its spine
// shares with that of the one before is not spelled out again. It keeps nothing of a notification. The zero value is ready.
type JSONWriter struct {
	path  []byte
	spine Spine
	from  int
	where []byte // as appendWhere makes it of these
	ends  []int  // in where, of each element of the spine
}

// Append appends n as seen from element i of its spine.
func (w *JSONWriter) Append(b []byte, n *Notification, i int, f Fields) []byte {
	b = appendType(b, n)
	if i == w.from && n.Path == string(w.path) && slices.Equal(n.Spine, w.spine) {
		b = append(b, w.where...)
	} else {
		same, most := 0, min(len(n.Spine), len(w.spine))
		for i == w.from && i+same < most && n.Spine[i+same] == w.spine[i+same] {
			same++
		}
		w.ends = w.ends[:same]
		if same == 0 {
			w.where = append(w.where[:0], spineHead...)
		} else {
			w.where = w.where[:w.ends[same-1]]
		}
		for _, id := range n.Spine[i+same:] {
			w.where = appendElement(w.where, id, len(w.ends) > 0)
			w.ends = append(w.ends, len(w.where))
		}
		w.where = appendPath(w.where, n, i)
		w.path, w.spine, w.from = append(w.path[:0], n.Path...), append(w.spine[:0], n.Spine...), i
		b = append(b, w.where...)
	}
	return appendRest(b, n, f)
}

func appendType(b []byte, n *Notification) []byte {
	return append(append(b, `{"type":"`...), n.Type.String()...)
}

func appendWhere(b []byte, n *Notification, i int) []byte {
	b = append(b, spineHead...)
	for j, id := range n.Spine[i:] {
		b = appendElement(b, id, j > 0)
	}
	return appendPath(b, n, i)
}

const spineHead = `","spine":[`

func appendElement(b []byte, id FileID, more bool) []byte {
	if more {
		b = append(b, ',')
	}
	return append(strconv.AppendUint(append(b, '"'), uint64(id), 10), '"')
}

func appendPath(b []byte, n *Notification, i int) []byte {
	return AppendName(append(b, `],"path":`...), n.PathFrom(i))
}

func appendRest(b []byte, n *Notification, f Fields) []byte {
	b = append(b, `,"stream_name":`...)
	if n.Stream == "" {
		b = append(b, "null"...)
	} else {
		b = AppendName(b, n.Stream)
	}
	if f != FieldsQumulo {
		b = appendAllFields(b, n, f)
	}
	return append(b, '}')
}

func appendAllFields(b []byte, n *Notification, f Fields) []byte {
	b = append(b, `,"seq":`...)
	b = strconv.AppendUint(b, uint64(n.Seq), 10)
	b = append(b, `,"time":"`...)
	b = n.Seq.Time().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, `","kind":"`...)
	b = append(b, n.Attr.Kind()...)
	b = append(b, `","size":`...)
	b = strconv.AppendInt(b, n.Attr.Size, 10)
	b = append(b, `,"mode":"0`...)
	b = strconv.AppendUint(b, uint64(n.Attr.Perm()), 8)
	b = append(b, `","owner":`...)
	b = strconv.AppendUint(b, uint64(n.Attr.UID), 10)
	b = append(b, `,"group":`...)
	b = strconv.AppendUint(b, uint64(n.Attr.GID), 10)
	b = append(b, `,"mtime":"`...)
	b = AppendTime(b, n.Attr.Mtime)
	b = append(b, `","link":`...)
	if n.Link == 0 {
		b = append(b, "null"...)
	} else {
		b = strconv.AppendUint(b, uint64(n.Link), 10)
	}
	b = append(b, `,"actor":`...)
	if a := n.Actor; a == nil || f == FieldsNoActor {
		b = append(b, "null"...)
	} else {
		b = append(b, `{"pid":`...)
		b = strconv.AppendInt(b, int64(a.PID), 10)
		b = append(b, `,"uid":`...)
		b = strconv.AppendUint(b, uint64(a.UID), 10)
		b = append(b, `,"command":`...)
		b = AppendName(b, a.Command)
		b = append(b, '}')
	}
	return b
}

// AppendTime appends nanoseconds since 1970 as RFC 3339 with nine digits, as Qumulo does.
func AppendTime(b []byte, ns int64) []byte {
	return time.Unix(0, ns).UTC().AppendFormat(b, "2006-01-02T15:04:05.000000000Z")
}

// DecodeJSON reads one array of notifications as [AppendJSON] writes them. Paths are
// relative to, and spines begin with, the directory that was watched. Unknown keys are passed
// over; of FieldsAll only seq, size and link are read. Anything else than such an array is Invalid.
func DecodeJSON(data []byte) ([]Notification, error) {
	var raw []struct {
		Type   string          `json:"type"`
		Spine  []string        `json:"spine"`
		Path   json.RawMessage `json:"path"`
		Stream json.RawMessage `json:"stream_name"`
		Seq    Seq             `json:"seq"`
		Size   int64           `json:"size"`
		Link   Seq             `json:"link"`
	}
	bad := func(err error) ([]Notification, error) {
		return nil, &Error{Op: "notify.DecodeJSON", Kind: Invalid, Err: err, Msg: "not an array of notifications"}
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return bad(err)
	}
	out := make([]Notification, len(raw))
	for i, r := range raw {
		n := &out[i]
		var err error
		if n.Type, err = ParseType(r.Type); err != nil {
			return bad(err)
		}
		for _, s := range r.Spine {
			id, err := ParseFileID(s)
			if err != nil {
				return bad(err)
			}
			n.Spine = append(n.Spine, id)
		}
		if len(n.Spine) == 0 {
			return bad(nil)
		}
		if n.Path, err = UnquoteName(r.Path); err != nil {
			return bad(err)
		}
		if len(r.Stream) > 0 && string(r.Stream) != "null" {
			if n.Stream, err = UnquoteName(r.Stream); err != nil {
				return bad(err)
			}
		}
		n.Seq, n.Attr.Size, n.Link = r.Seq, r.Size, r.Link
	}
	return out, nil
}
