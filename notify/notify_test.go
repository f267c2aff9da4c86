package notify

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
)

func TestTypesAreNamedOnceAndParseBack(t *testing.T) {
	seen := make(map[string]bool)
	for i := range NumTypes {
		name := Type(i).String()
		if seen[name] {
			t.Errorf("%q stands twice", name)
		}
		seen[name] = true
		if back, err := ParseType(name); err != nil || back != Type(i) {
			t.Errorf("ParseType(%q) = %v, %v", name, back, err)
		}
	}
	if Qumulo.Len() != 24 {
		t.Errorf("Qumulo has %d types, want 24", Qumulo.Len())
	}
}

func TestParseFilter(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []string
		want   TypeSet
		hint   string // in the error
	}{
		{"nothing means Qumulo's 24", nil, Qumulo, ""},
		{"empty values too", []string{"", " , "}, Qumulo, ""},
		{"a list", []string{"child_file_added,child_dir_removed"}, SetOf(ChildFileAdded, ChildDirRemoved), ""},
		{"blanks and several values", []string{" child_file_added ", "self_removed,"}, SetOf(ChildFileAdded, SelfRemoved), ""},
		{"an extension by name", []string{"child_file_closed"}, SetOf(ChildFileClosed), ""},
		{"a slip names the nearest", []string{"child_fil_added"}, 0, `"child_file_added"`},
		{"dashes", []string{"child-size-changed"}, 0, `"child_size_changed"`},
		{"the documentation's own slip", []string{"child_size_change"}, 0, `"child_size_changed"`},
		{"a word left out", []string{"file_added"}, 0, `did you mean "child_file_added"?`},
		{"nothing is near", []string{"all"}, 0, `type "all": it should be one of child_file_added, child_dir_added, `},
		{"nor here", []string{"*"}, 0, `type "*": it should be one of child_file_added, `},
		{"nor here", []string{"foo"}, 0, `type "foo": it should be one of child_file_added, `},
		{"what is far too long is cut", []string{strings.Repeat("x", 100_000)}, 0, strings.Repeat("x", 80) + `...": it should be one of`},
	} {
		got, err := ParseFilter(c.values...)
		if got != c.want || (err == nil) != (c.hint == "") {
			t.Errorf("%s: ParseFilter(%q) = %v, %v, want %v", c.name, c.values, got, err, c.want)
		}
		if err != nil && (!errors.Is(err, Invalid) || !strings.Contains(Message(err), c.hint)) {
			t.Errorf("%s: error %v does not name %s", c.name, err, c.hint)
		}
		if err != nil && len(Message(err)) > 1000 {
			t.Errorf("%s: the error is %d bytes long", c.name, len(Message(err)))
		}
	}
}

func TestSeq(t *testing.T) {
	at := time.Date(2026, 11, 22, 23, 0, 0, 123e6, time.UTC)
	n := NumberAt(at)
	if !n.Time().Equal(at) {
		t.Errorf("the number of %v is of %v", at, n.Time())
	}
	s := n.Seq(17)
	if s.Batch() != n || s.Index() != 17 || !s.Time().Equal(at) || s > MaxSeq {
		t.Errorf("Seq(17) of %d is batch %d, index %d, %v", n, s.Batch(), s.Index(), s.Time())
	}
	if end := NumberAt(time.Date(2089, 1, 1, 0, 0, 0, 0, time.UTC)).End(); end > MaxSeq {
		t.Errorf("in 2089 a Seq is %d, above 2^53-1", end)
	}
	if NumberAt(time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)) != 0 {
		t.Error("a time before 2020 has a number")
	}
}

func TestAssignLeavesRoomAndLinksHalves(t *testing.T) {
	b := &Batch{Notes: []Notification{{Type: ChildFileAdded}, {Type: ChildFileMovedFrom, Link: 3}, {Type: ChildFileMovedTo, Link: 2}, {Type: ChildDirRemoved}}}
	b.Assign(100, 90, 80)
	for i, want := range []int{3, 4, 5, 9} {
		if got := b.Notes[i].Seq; got != BatchNumber(100).Seq(want) {
			t.Errorf("notification %d has index %d, want %d", i, got.Index(), want)
		}
	}
	if b.Notes[1].Link != b.Notes[2].Seq || b.Notes[2].Link != b.Notes[1].Seq || b.Notes[0].Link != 0 {
		t.Error("the links do not point at each other")
	}
}

func TestPathFrom(t *testing.T) {
	n := &Notification{Path: "a/b/c", Spine: Spine{1, 2, 3, 4}}
	for i, want := range []string{"a/b/c", "b/c", "c", ""} {
		if got := n.PathFrom(i); got != want {
			t.Errorf("PathFrom(%d) = %q, want %q", i, got, want)
		}
	}
	if n.Below(3) != 2 || n.Below(9) != -1 {
		t.Error("Below finds the wrong place")
	}
}

func TestJSONIsWhatQumuloSends(t *testing.T) {
	n := &Notification{Type: ChildStreamDataWritten, Path: "home/joe/ff\xff\"\n", Stream: "s1", Spine: Spine{2, 10003, 5007655, 1459590167}}
	want := `{"type":"child_stream_data_written","spine":["10003","5007655","1459590167"],"path":"joe/ff\udcff\"\n","stream_name":"s1"}`
	if got := string(AppendJSON(nil, n, 1, FieldsQumulo)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	n.Stream = ""
	all := AppendJSON(nil, n, 0, FieldsAll)
	if !json.Valid(all) || !bytes.Contains(all, []byte(`"stream_name":null,"seq":0,`)) {
		t.Errorf("fields=all: %s", all)
	}
	back, err := DecodeJSON([]byte("[" + string(all) + "]"))
	if err != nil || len(back) != 1 || back[0].Path != n.Path || back[0].Type != n.Type || len(back[0].Spine) != 4 {
		t.Errorf("decoded: %+v, %v", back, err)
	}
}

func TestJSONAllocatesNothing(t *testing.T) {
	n := &Notification{Type: ChildFileAdded, Path: "some/where/file", Spine: Spine{1, 2, 3, 4}}
	b := make([]byte, 0, 4096)
	if got := testing.AllocsPerRun(100, func() { b = AppendJSON(b[:0], n, 1, FieldsAll) }); got != 0 {
		t.Errorf("%v allocations for one notification", got)
	}
}

// Whatever came before, a writer writes what AppendJSON does: entries again and again, others beside them, above and below, seen from any of the directories
// that they are in.
func TestJSONWriterWritesTheSame(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var w JSONWriter
	names := []string{"a", "b\"", "\xff", "long name"}
	for range 20_000 {
		n := &Notification{Type: ChildFileAdded, Spine: Spine{1}, Seq: Seq(rnd.Uint64N(9)), Stream: names[rnd.IntN(4)][:rnd.IntN(2)]}
		for range rnd.IntN(5) {
			k := rnd.IntN(3)
			n.Path = strings.TrimPrefix(n.Path+"/"+names[k], "/")
			n.Spine = append(n.Spine, FileID(10*k+rnd.IntN(2)))
		}
		i, f := rnd.IntN(len(n.Spine)), Fields(rnd.IntN(3))
		if got, want := string(w.Append([]byte("x"), n, i, f)), string(AppendJSON([]byte("x"), n, i, f)); got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	}
	n := &Notification{Type: ChildFileAdded, Path: "some/where/file", Spine: Spine{1, 2, 3, 4}}
	b := make([]byte, 0, 4096)
	if got := testing.AllocsPerRun(100, func() { n.Spine[3]++; b = w.Append(b[:0], n, 1, FieldsAll) }); got != 0 {
		t.Errorf("%v allocations for one notification", got)
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	n := &Notification{Type: ChildFileAdded, Path: "some/where/file", Spine: Spine{1, 2, 3, 4}}
	buf := make([]byte, 0, 4096)
	for b.Loop() {
		buf = AppendJSON(buf[:0], n, 0, FieldsQumulo)
	}
}

func FuzzName(f *testing.F) { // a file can have any name
	for _, s := range []string{"", "plain", "a/b", "\xff\xfe", "\xed\xb2\x80", "\"\\\n\t\x00\x7f", "é\u2028😀", "\u0085\u009b\u00a0", "\\udc80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q := AppendName(nil, s)
		if !json.Valid(q) {
			t.Fatalf("%q gave %s, which is not JSON", s, q)
		}
		if bytes.ContainsAny(q, "\n\r\u0085\u2028\u2029") || bytes.ContainsFunc(q, unicode.IsControl) {
			t.Fatalf("%q gave more than one line, or what moves a terminal's cursor", s)
		}
		if back, err := UnquoteName(q); err != nil || back != s {
			t.Fatalf("%q came back as %q, %v", s, back, err)
		}
	})
}

func FuzzUnquoteName(f *testing.F) { // anything may come over the wire
	for _, s := range []string{`""`, `"a"`, `"\u00e9"`, `"\ud83d\ude00"`, `"\udcff"`, `"\ud800"`, `"\`, `"\u12"`, `"a`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, q []byte) {
		s, err := UnquoteName(q)
		if err != nil {
			if !errors.Is(err, Invalid) {
				t.Fatalf("%q: %v has no kind", q, err)
			}
			return
		}
		if back, err := UnquoteName(AppendName(nil, s)); err != nil || back != s {
			t.Fatalf("%q gave %q, which does not come back: %q, %v", q, s, back, err)
		}
	})
}

func FuzzCursor(f *testing.F) {
	for _, s := range []string{"0", "1.2", "9007199254740991.9223372036854775807", "9007199254740992", "01", "+1", "1.", ".1", "1.0", "1.2.3", "-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCursor(s)
		if err == nil && c.String() != s || err != nil && !errors.Is(err, Invalid) {
			t.Fatalf("%q gave %+v, %v", s, c, err) // one value, one text; every refusal has its Kind
		}
	})
}

func FuzzFilter(f *testing.F) {
	for _, s := range []string{"", "child_file_added", "child_file_added,child_dir_added", ",,", "x", strings.Repeat("a,", 100)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		set, err := ParseFilter(s)
		switch {
		case err != nil && (!errors.Is(err, Invalid) || Message(err) == ""):
			t.Fatalf("%q: %v", s, err)
		case err == nil:
			if back, err := ParseFilter(set.String()); err != nil || back != set {
				t.Fatalf("%q gave %v, which gave %v, %v", s, set, back, err)
			}
		}
	})
}

func FuzzDecodeJSON(f *testing.F) {
	f.Add([]byte(`[{"type":"child_file_added","spine":["1","2"],"path":"a","stream_name":null}]`))
	f.Add([]byte(`[]`))
	f.Add([]byte(`[{"type":"x"}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		notes, err := DecodeJSON(data)
		if err != nil {
			if !errors.Is(err, Invalid) {
				t.Fatalf("%q: %v has no kind", data, err)
			}
			return
		}
		for i := range notes {
			AppendJSON(nil, &notes[i], 0, FieldsAll)
		}
	})
}

func TestNearest(t *testing.T) {
	words := []string{"state-dir", "since", "recursive", "root", "count", "child_file_added"}
	for in, want := range map[string]string{"statedir": "state-dir", "state_dir": "state-dir", "State-Dir": "state-dir", "recursiv": "recursive", "roots": "root",
		"child-file-add": "child_file_added", "config": "", "foo": "", "xyzzy-plugh": "", "": ""} {
		if got := Nearest(in, words); got != want {
			t.Errorf("%q gave %q, want %q", in, got, want)
		}
	}
}

// A burst of a hundred thousand lines leaves a few of them, and what comes after a quiet time is said again.
func TestFew(t *testing.T) {
	var f Few
	now := time.Unix(1e9, 0)
	burst := func(lines int) (said []int) {
		for range lines {
			now = now.Add(time.Millisecond)
			if so, n := f.Lets(now); so {
				said = append(said, n)
			}
		}
		return said
	}
	want := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10240, 20480, 40960, 81920}
	if got := burst(100_000); !slices.Equal(got, want) {
		t.Errorf("of a burst: %v, want %v", got, want)
	}
	now = now.Add(fewQuiet)
	if got := burst(2); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("after a quiet time: %v, want both", got)
	}
}

// By IDs a directory ends after what is taken out of it, whatever name that takes. Everything else stays in its order, and on the places that the batch has.
func TestByID(t *testing.T) {
	spines := map[string]Spine{"P": {1, 2}, "P/Q": {1, 2, 3}, "P/Q/X": {1, 2, 3, 4}, "P/f": {1, 2, 5}, "out": {1, 6}, "R": {1, 7}, "R/Y": {1, 7, 8}}
	for _, tt := range []struct{ in, out string }{
		{"from:P/Q to:Q remove:P", ""},
		{"from:P/Q remove:P to:P", "from:P/Q to:P remove:P"},
		{"unlink:P/f from:P/Q/X unlink:P/f remove:P/Q remove:P add:out to:P write:P", "unlink:P/f from:P/Q/X unlink:P/f add:out to:P remove:P/Q remove:P write:P"},
		{"from:P/Q/X leave:P to:P", "from:P/Q/X to:P leave:P"},
		{"from:P/Q remove:R to:R", ""},
		{"from:P/Q from:P to:P/Q to:P", "from:P/Q to:P from:P to:P/Q"}, // each in the other's place: who does not see P/Q is told that P ends
		{"from:P/Q/X from:P to:R to:P", "from:P/Q/X to:P from:P to:R"},
		{"from:R/Y from:P/Q/X remove:R remove:P to:P to:R", "from:R/Y from:P/Q/X to:P remove:P to:R remove:R"},
	} {
		b := &Batch{Root: 1}
		var open []int
		for _, x := range strings.Fields(tt.in) {
			what, path, _ := strings.Cut(x, ":")
			n := Notification{Path: path, Spine: spines[path], Type: map[string]Type{"from": ChildDirMovedFrom, "to": ChildDirMovedTo, "leave": ChildDirMovedFrom,
				"remove": ChildDirRemoved, "unlink": ChildFileRemoved, "add": ChildFileAdded, "write": ChildDataWritten}[what]}
			b.Notes = append(b.Notes, n)
			switch i := len(b.Notes); what {
			case "from":
				open = append(open, i)
			case "to": // of what left last
				from := open[len(open)-1]
				open = open[:len(open)-1]
				b.Notes[i-1].Link, b.Notes[from-1].Link, b.Notes[i-1].Spine = Seq(from), Seq(i), Spine{1, b.Notes[from-1].ID()}
			}
		}
		b.Assign(1001, 1000, 1000)
		before := slices.Clone(b.Notes)
		got := b.ByID()
		if same := got == b; same != (tt.out == "") {
			t.Errorf("%s: the same batch %v", tt.in, same)
			continue
		}
		var words []string
		for i := range got.Notes {
			n := &got.Notes[i]
			what := map[Type]string{ChildDirMovedFrom: "from", ChildDirMovedTo: "to", ChildDirRemoved: "remove", ChildFileRemoved: "unlink", ChildFileAdded: "add", ChildDataWritten: "write"}[n.Type]
			if n.Type == ChildDirMovedFrom && n.Link == 0 {
				what = "leave"
			}
			words = append(words, what+":"+n.Path)
			if n.Seq != before[i].Seq {
				t.Errorf("%s: Seq %d stands on the place of %d", tt.in, n.Seq, before[i].Seq)
			}
			if n.Link == 0 {
				continue
			}
			k := slices.IndexFunc(got.Notes, func(o Notification) bool { return o.Seq == n.Link })
			if k < 0 || got.Notes[k].Link != n.Seq || got.Notes[k].ID() != n.ID() {
				t.Errorf("%s: the halves of the rename of %s lead elsewhere", tt.in, n.Path)
			}
		}
		if out := strings.Join(words, " "); tt.out != "" && out != tt.out {
			t.Errorf("%s: %s, want %s", tt.in, out, tt.out)
		}
		if !slices.EqualFunc(b.Notes, before, func(x, y Notification) bool { return x.Seq == y.Seq && x.Link == y.Link && x.Path == y.Path }) {
			t.Errorf("%s: the batch itself was changed", tt.in)
		}
	}
}

// The bounds of events are made of the bounds of batches.
func TestJSONIsNoLongerThanItsWeightSays(t *testing.T) {
	for _, name := range []string{"", "a", "\xff", "\x01", "\u2028", strings.Repeat("\xff/", 32<<10)} {
		for _, depth := range []int{1, 2, 1025} {
			n := Notification{Type: ChildExtraAttrsChanged, Path: name, Stream: name, Seq: MaxSeq, Link: MaxSeq,
				Attr:  Attr{Mode: ModeBlock | 0o7777, UID: 1<<32 - 1, GID: 1<<32 - 1, Size: -1 << 63, Mtime: -1 << 63},
				Actor: &Actor{PID: -1 << 31, UID: 1<<32 - 1, Command: strings.Repeat("\xff", 15)}}
			for range depth {
				n.Spine = append(n.Spine, 1<<63-1)
			}
			if got := len(AppendJSON(nil, &n, 0, FieldsAll)); got > 8*n.Weight() {
				t.Errorf("%d bytes of a weight of %d", got, n.Weight())
			}
		}
	}
}
