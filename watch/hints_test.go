package watch

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// What the records say of the files that were told under some names. A file is a capital letter; "X:a>b" renames X from a to b, "X:a>" and "X:>b" are the halves
// of a rename, "X:-a" removes it. What was told may be from before the records, or from after any of them.
func TestHints(t *testing.T) {
	for _, tt := range []struct {
		name, told, records string
		want                string // a fate or the last place of each file told
		unnamed             string // the same where the records do not say which file they are about, if it is something else
	}{
		{name: "a rename", told: "X@a", records: "X:a>b", want: "X@b"},
		{name: "there and back", told: "X@a", records: "X:a>b X:b>a", want: "X@a"},
		{name: "removed after a rename", told: "X@a", records: "X:a>b X:-b", want: "X removed"},
		{name: "overwritten", told: "X@a Y@b", records: "X:a>b", want: "X@b Y removed"},
		{name: "told ahead of its arrival", told: "X@f", records: "X:tmp>f", want: "X@f"},
		{name: "told two renames ahead", told: "X@f", records: "X:tmp>g X:g>tmp X:tmp>f", want: "X@f"},
		{name: "and goes on", told: "X@f", records: "X:tmp>f X:f>h", want: "X@h"},
		{name: "told ahead of a rename there and back", told: "X@f", records: "X:tmp>f X:f>tmp X:tmp>f X:f>tmp", want: "X@tmp"},
		{name: "another one left the name before", told: "Y@f", records: "X:f>g", want: "Y@f", unnamed: "Y@g"},
		{name: "another one was there before and after", told: "Y@f", records: "X:f>g X:g>f", want: "Y@f"},
		{name: "another one was removed before", told: "Y@f", records: "X:-f", want: "Y@f", unnamed: "Y removed"},
		{name: "a record that was merged with an earlier one is missing", told: "X@f", records: "X:f>tmp X:tmp>f X:tmp>f", want: "X@f", unnamed: "X removed"},
		{name: "changes places with one from outside", told: "X@f", records: "Y:>f X:f>", want: "X half", unnamed: "X removed"},
		{name: "changes places, after a rename", told: "X@f", records: "X:f>g Y:>g X:g>", want: "X half", unnamed: "X removed"},
		{name: "two that change places", told: "X@f Y@g", records: "X:f>g Y:g>f", want: "X@g Y@f", unnamed: "X@f Y removed"},
		{name: "two that change places, and one goes on", told: "X@f Y@g", records: "X:f>g Y:g>f Y:f>h", want: "X@g Y@h", unnamed: "X@h Y removed"},
		{name: "overwritten by one that goes on", told: "X@f Y@g", records: "X:f>g X:g>h", want: "X@h Y removed"},
		{name: "half way", told: "X@f", records: "X:f>", want: "X half"},
	} {
		for _, named := range []bool{true, false} {
			d, names, stands := newDirt(), map[string]int32{}, map[string]string{}
			name := func(s string) int32 {
				if _, ok := names[s]; !ok {
					names[s] = d.touch(place{1, s}, OpMovedFrom)
				}
				return names[s]
			}
			for _, x := range strings.Fields(tt.told) {
				who, where, _ := strings.Cut(x, "@")
				name(where)
				stands[where] = who
			}
			for i, x := range strings.Fields(tt.records) {
				who, what, _ := strings.Cut(x, ":")
				if !named {
					who = ""
				}
				say := func(where string, op Op) {
					if where != "" {
						d.moves = append(d.moves, hint{name: name(where), op: op, cookie: uint32(i + 1), seen: time.Now(), object: who})
					}
				}
				if gone, ok := strings.CutPrefix(what, "-"); ok {
					say(gone, OpDelete)
					continue
				}
				from, to, _ := strings.Cut(what, ">")
				say(from, OpMovedFrom)
				say(to, OpMovedTo)
			}
			olds := make([]ref, len(d.names))
			for where := range stands {
				olds[names[where]] = 1
			}
			h := d.hints(new(trail), olds, func(k int32, object string) (yes, certain bool) {
				return stands[d.names[k].at.name] == object, object != ""
			})
			var got []string
			for _, x := range strings.Fields(tt.told) {
				who, where, _ := strings.Cut(x, "@")
				switch k := h[names[where]]; {
				case k.fate == fateRemoved:
					got = append(got, who+" removed")
				case k.fate == fateHalf:
					got = append(got, who+" half")
				case k.fate != fateUnknown:
					got = append(got, fmt.Sprint(who, " ", k.fate))
				case k.dest >= 0:
					got = append(got, who+"@"+d.names[k.dest].at.name)
				default:
					got = append(got, x)
				}
			}
			want := tt.want
			if !named && tt.unnamed != "" {
				want = tt.unnamed
			}
			if got := strings.Join(got, " "); got != want {
				t.Errorf("%s, named %v: %s; want %s", tt.name, named, got, want)
			}
		}
	}
}
