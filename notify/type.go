package notify

import (
	"cmp"
	"fmt"
	"math/bits"
	"strings"
)

// Type is the kind of a change. Its text is the wire form and the journal form;
// the order is that of Qumulo's client, and new ones are only ever appended.
type Type uint8

// Qumulo's 24 types, then the extensions, which only those get who ask for
// them by name.
const (
	ChildFileAdded Type = iota
	ChildDirAdded
	ChildFileRemoved
	ChildDirRemoved
	ChildFileMovedFrom
	ChildFileMovedTo
	ChildDirMovedFrom
	ChildDirMovedTo
	ChildBtimeChanged
	ChildMtimeChanged
	ChildAtimeChanged
	ChildSizeChanged
	ChildExtraAttrsChanged
	ChildACLChanged
	ChildOwnerChanged
	ChildGroupChanged
	ChildDataWritten
	ChildStreamAdded
	ChildStreamRemoved
	ChildStreamMovedFrom
	ChildStreamMovedTo
	ChildStreamSizeChanged
	ChildStreamDataWritten
	SelfRemoved
	ChildFileClosed // extension: a file that was open for writing was closed
	SelfRescanned   // extension: below this directory only the net effect is known
	// ChildLinkStays is an extension: a file with several names is about to lose one, by itself or with a directory
	// that leaves, and has this one still. In the first case the next notification tells of the name that it loses.
	ChildLinkStays
	NumTypes = iota
)

var typeNames = [NumTypes]string{
	"child_file_added", "child_dir_added", "child_file_removed", "child_dir_removed",
	"child_file_moved_from", "child_file_moved_to", "child_dir_moved_from", "child_dir_moved_to",
	"child_btime_changed", "child_mtime_changed", "child_atime_changed", "child_size_changed",
	"child_extra_attrs_changed", "child_acl_changed", "child_owner_changed", "child_group_changed",
	"child_data_written", "child_stream_added", "child_stream_removed", "child_stream_moved_from",
	"child_stream_moved_to", "child_stream_size_changed", "child_stream_data_written", "self_removed",
	"child_file_closed", "self_rescanned", "child_link_stays",
}

// String gives the wire name, for instance "child_file_added".
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type(%d)", uint8(t))
}

// ParseType is the inverse of String. An unknown name is Invalid, and the error names
// the nearest right one, or all if none is near.
func ParseType(s string) (Type, error) {
	for i, n := range typeNames {
		if n == s {
			return Type(i), nil
		}
	}
	msg := fmt.Sprintf("unknown notification type %q", clip(s))
	if n := cmp.Or(Nearest(s, typeNames[:]), Nearest("child_"+s, typeNames[:])); n != "" {
		msg += fmt.Sprintf(", did you mean %q?", n)
	} else {
		msg += ": it should be one of " + strings.Join(typeNames[:], ", ")
	}
	return 0, &Error{Op: "notify.ParseType", Kind: Invalid, Msg: msg}
}

// Each of these groups answers a question that more than one package asks.
var (
	// Qumulo is what a subscription without filter gets: all but the extensions.
	Qumulo = AllTypes &^ SetOf(ChildFileClosed, SelfRescanned, ChildLinkStays)
	// Names are the types that change which names exist.
	Names = SetOf(ChildFileAdded, ChildDirAdded, ChildFileRemoved, ChildDirRemoved,
		ChildFileMovedFrom, ChildFileMovedTo, ChildDirMovedFrom, ChildDirMovedTo)
	// Wide are the types that own WideIndexes consecutive indexes of their batch.
	Wide = SetOf(ChildFileAdded, ChildDirAdded, ChildFileRemoved, ChildDirRemoved)
	// Streamed are the types whose Stream says which alternate data stream is meant.
	Streamed = SetOf(ChildStreamAdded, ChildStreamRemoved, ChildStreamMovedFrom, ChildStreamMovedTo,
		ChildStreamSizeChanged, ChildStreamDataWritten)
)

// AllTypes holds every type there is.
const AllTypes = TypeSet(1<<NumTypes - 1)

// TypeSet is a set of types as a bit mask: bit t stands for Type t.
type TypeSet uint32

// SetOf makes a set of its arguments.
func SetOf(types ...Type) TypeSet {
	var s TypeSet
	for _, t := range types {
		s |= 1 << t
	}
	return s
}

// Has says whether t is in the set.
func (s TypeSet) Has(t Type) bool { return s>>t&1 != 0 }

// Len is the number of types in the set.
func (s TypeSet) Len() int { return bits.OnesCount32(uint32(s)) }

// Types lists the set in the order of the types.
func (s TypeSet) Types() []Type {
	var out []Type
	for s != 0 {
		t := Type(bits.TrailingZeros32(uint32(s)))
		out = append(out, t)
		s &^= 1 << t
	}
	return out
}

// String joins the wire names with commas: the canonical form of a filter.
func (s TypeSet) String() string {
	var b strings.Builder
	for i, t := range s.Types() {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(t.String())
	}
	return b.String()
}

// ParseFilter reads the values of a filter: each a type name or a list of them
// separated by commas; blanks around names do not count. No value, or only empty
// ones, means [Qumulo]. An unknown name is Invalid.
func ParseFilter(values ...string) (TypeSet, error) {
	var s TypeSet
	for _, v := range values {
		for name := range strings.SplitSeq(v, ",") {
			name = strings.TrimSpace(name)
			if name == "" {
				continue
			}
			t, err := ParseType(name)
			if err != nil {
				return 0, err
			}
			s |= 1 << t
		}
	}
	if s == 0 {
		return Qumulo, nil
	}
	return s, nil
}

// Nearest gives the candidate that somebody may have meant who wrote s; "" if none differs in a third of it or less. Capitals
// count for nothing, and a dash is like an underscore.
func Nearest(s string, candidates []string) string {
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "-", "_")) }
	s = plain(s[:min(len(s), 64)])
	best, least := "", max(len(s)/3, 1)+1
	for _, c := range candidates {
		if d := editDistance(s, plain(c)); d < least {
			best, least = c, d
		}
	}
	return best
}

// editDistance is Levenshtein's, over bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diag
			if a[i-1] != b[j-1] {
				cost++
			}
			diag = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
