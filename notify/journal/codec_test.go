package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"fs_notify/notify"
)

// load makes the notifications of the standard load: in 50 directories, files are created and written, appended
// to, their modes changed, renamed in place and to the next directory, and removed.
type load struct {
	rnd  *rand.Rand
	now  int64
	ids  map[string]notify.FileID
	root notify.FileID
}

const loadRoot notify.FileID = 0x1234567890abcdef

func newLoad() *load {
	return &load{rnd: rand.New(rand.NewPCG(1, 2)), now: 1795348800123456789, ids: map[string]notify.FileID{}, root: loadRoot}
}

func (l *load) id(name string) notify.FileID {
	id := l.ids[name]
	if id == 0 {
		id = notify.FileID(l.rnd.Uint64() >> 1)
		l.ids[name] = id
	}
	return id
}

func (l *load) dir(d int) (string, notify.Spine) {
	group, dir := fmt.Sprintf("group-%02d", d/50), fmt.Sprintf("dir-%04d", d)
	return group + "/" + dir, notify.Spine{l.root, l.id(group), l.id(dir)}
}

// notes gives the notifications of phase op (0 to 5) for n files from file i on.
func (l *load) notes(op, i, n int) []notify.Notification {
	var out []notify.Notification
	for k := i; k < i+n; k++ {
		d := k % 2000
		dir, spine := l.dir(d)
		next, nextSpine := l.dir((d + 1) % 2000)
		name := fmt.Sprintf("file-%06d", k)
		id := l.id(name)
		l.now += 25000 + int64(l.rnd.IntN(10000))
		a := notify.Attr{Mode: notify.ModeFile | 0o644, UID: 1000, GID: 1000, Nlink: 1, Ino: 1000000 + uint64(k), Size: 100,
			Btime: 1795348800123456789 + int64(k)*30000}
		a.Mtime, a.Ctime, a.Atime = a.Btime+7000, a.Btime+7000, a.Btime
		add := func(t notify.Type, dir string, spine notify.Spine, name string) {
			out = append(out, notify.Notification{Type: t, Path: dir + "/" + name, Spine: append(spine[:len(spine):len(spine)], id), Attr: a})
		}
		switch op {
		case 0:
			add(notify.ChildFileAdded, dir, spine, name)
			add(notify.ChildDataWritten, dir, spine, name)
			add(notify.ChildSizeChanged, dir, spine, name)
			add(notify.ChildMtimeChanged, dir, spine, name)
		case 1:
			a.Size, a.Mtime, a.Ctime = 200, l.now, l.now
			add(notify.ChildDataWritten, dir, spine, name)
			add(notify.ChildSizeChanged, dir, spine, name)
			add(notify.ChildMtimeChanged, dir, spine, name)
		case 2:
			a.Mode, a.Ctime = notify.ModeFile|0o600, l.now
			add(notify.ChildACLChanged, dir, spine, name)
		case 3, 4:
			a.Ctime = l.now
			to, toSpine := dir, spine
			if op == 4 {
				to, toSpine = next, nextSpine
			}
			add(notify.ChildFileMovedFrom, dir, spine, name)
			add(notify.ChildFileMovedTo, to, toSpine, name+"-renamed")
			out[len(out)-2].Link, out[len(out)-1].Link = notify.Seq(len(out)), notify.Seq(len(out)-1)
		case 5:
			add(notify.ChildFileRemoved, dir, spine, name)
		}
	}
	return out
}

// strange has everything that a notification can have.
func strange() []notify.Notification {
	x := &notify.Xattrs{ACL: 1, DOS: 1 << 63, DOSBtime: -5, Other: 77, Streams: []notify.Stream{{Name: "a", Size: 5, Digest: 6}, {Name: "\xff", Size: -1}}}
	actor := &notify.Actor{PID: -7, UID: 1<<32 - 1, Command: "rm\x00 -rf"}
	full := notify.Attr{Mode: 1<<32 - 1, UID: 2, GID: 3, Nlink: 4, Flags: 5, Ino: 1<<64 - 1, Size: -1, Mtime: -1 << 63, Ctime: 1<<63 - 1, Atime: -1, Btime: 9, X: x}
	n := []notify.Notification{
		{Type: notify.SelfRemoved, Spine: notify.Spine{1}, Attr: notify.Attr{Mode: notify.ModeDir | 0o755}},
		{Type: notify.ChildFileAdded, Path: "a", Spine: notify.Spine{1, 2}, Attr: full, Actor: actor},
		{Type: notify.ChildFileMovedFrom, Path: "a", Spine: notify.Spine{1, 2}, Attr: full, Actor: actor, Link: 5},
		{Type: notify.ChildStreamAdded, Path: "a/b\xff\n", Spine: notify.Spine{1, 1<<63 - 1, 3}, Stream: "s:\x00", Attr: notify.Attr{X: &notify.Xattrs{}}},
		{Type: notify.ChildFileMovedTo, Path: "b", Spine: notify.Spine{1, 2}, Attr: full, Link: 3},
		{Type: notify.SelfRescanned, Path: "", Spine: notify.Spine{1}},
		{Type: notify.ChildFileClosed, Path: "", Spine: notify.Spine{1, 2}},
	}
	return n
}

// unassigned turns what was read back into what was appended.
func unassigned(b *notify.Batch) []notify.Notification {
	notes := slices.Clone(b.Notes)
	place := map[notify.Seq]notify.Seq{}
	for i, n := range notes {
		place[n.Seq] = notify.Seq(i + 1)
	}
	for i := range notes {
		notes[i].Seq, notes[i].Link = 0, place[notes[i].Link]
	}
	return notes
}

func TestBatchComesBackExactly(t *testing.T) {
	type tcase struct {
		name  string
		notes []notify.Notification
	}
	cases := []tcase{{"everything that there can be", strange()}, {"as much as fits", newLoad().notes(1, 0, 4096/3)}}
	for op := range 6 {
		cases = append(cases, tcase{fmt.Sprint("load, phase ", op), newLoad().notes(op, 500, 100)}, tcase{fmt.Sprint("one of phase ", op), newLoad().notes(op, 1, 1)})
	}
	for _, tt := range cases {
		r := new(rowEncoder).encode(1000, 900, 800, 77, tt.notes)
		got, err := r.decode()
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		want := &notify.Batch{Root: 77, Notes: slices.Clone(tt.notes)}
		want.Assign(1000, 900, 800)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s:\n got %+v\nwant %+v", tt.name, got, want)
		}
		if again := new(rowEncoder).encode(1000, 900, 800, 77, unassigned(got)); !bytes.Equal(again.body, r.body) {
			t.Fatalf("%s: another encoding the second time", tt.name)
		}
	}
}

// Whatever bit of a stored batch is wrong, and whatever number it is filed under: it is found out.
func TestBatchDamageIsFound(t *testing.T) {
	for name, notes := range map[string][]notify.Notification{"plain": strange()[:2], "packed": newLoad().notes(0, 0, 20)} {
		r := new(rowEncoder).encode(1000, 900, 800, 77, notes)
		for i := range len(r.body) * 8 {
			bad := r
			bad.body = bytes.Clone(r.body)
			bad.body[i/8] ^= 1 << (i % 8)
			if _, err := bad.decode(); err == nil {
				t.Fatalf("%s: bit %d is wrong, and it was read", name, i)
			}
		}
		for n := range len(r.body) {
			bad := r
			bad.body = r.body[:n]
			if _, err := bad.decode(); err == nil {
				t.Fatalf("%s: %d bytes of %d, and it was read", name, n, len(r.body))
			}
		}
		for field, bad := range map[string]row{
			"number": {1001, 900, 800, 77, r.body}, "predecessor": {1000, 901, 800, 77, r.body},
			"predecessor of the root": {1000, 900, 801, 77, r.body}, "root": {1000, 900, 800, 78, r.body},
		} {
			if _, err := bad.decode(); err == nil {
				t.Errorf("%s: another %s, and it was read", name, field)
			}
		}
	}
}

// FuzzNotes: anything may be on disk. What is read is written again in the same way; all else is refused.
func FuzzNotes(f *testing.F) {
	f.Add(appendNotes(nil, strange()))
	for op := range 6 {
		f.Add(appendNotes(nil, newLoad().notes(op, 0, 5)))
	}
	f.Add([]byte{1, 0, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		notes, err := decodeNotes(b)
		if err != nil {
			return
		}
		if again := appendNotes(nil, notes); !bytes.Equal(again, b) {
			t.Fatalf("%x was read as %+v, which is written as %x", b, notes, again)
		}
	})
}

// FuzzBody: the outer form, as if its checksum were right.
func FuzzBody(f *testing.F) {
	for _, notes := range [][]notify.Notification{strange(), newLoad().notes(0, 0, 100)} {
		r := new(rowEncoder).encode(1000, 900, 800, 77, notes)
		f.Add(r.body[:len(r.body)-crcSize])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := row{number: 1, root: 1, body: b}
		r.body = binary.LittleEndian.AppendUint32(bytes.Clone(b), r.sum(b))
		batch, err := r.decode()
		if err == nil && len(batch.Notes) == 0 {
			t.Fatalf("%x gave no notifications and no error", b)
		}
	})
}

// FuzzEntries: the same for the entries of a directory in the checkpoint.
func FuzzEntries(f *testing.F) {
	var entries []entry
	for i, n := range strange() {
		entries = append(entries, entry{fmt.Sprint("name-", i), n.ID(), n.Attr})
	}
	body, _ := encodeChunk(nil, 1, 2, "", entries)
	f.Add(body[1 : len(body)-crcSize])
	f.Add([]byte{0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := decodeEntries(nil, "", b)
		if err != nil || len(b) > chunkBytes {
			return
		}
		again, n := encodeChunk(nil, 1, 2, "", entries)
		if n != len(entries) || !bytes.Equal(again[1:len(again)-crcSize], b) {
			t.Fatalf("%x was read as %+v, which is written as %x", b, entries, again)
		}
	})
}

// unlink makes a batch of what was cut out of a longer one.
func unlink(notes []notify.Notification) {
	for i := range notes {
		if notes[i].Link > notify.Seq(len(notes)) {
			notes[i].Link = 0
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		l := newLoad()
		var batches [][]notify.Notification
		for op := range 6 {
			for i := range 20 {
				notes := l.notes(op, i*n, n)
				batches = append(batches, notes[:min(n, len(notes))])
			}
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			bytes, count := 0, 0
			for i := 0; b.Loop(); i++ {
				notes := batches[i%len(batches)]
				unlink(notes)
				r := new(rowEncoder).encode(1, 0, 0, 1, notes)
				bytes += len(r.body)
				count += len(notes)
			}
			b.ReportMetric(float64(bytes)/float64(count), "B/note")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(count), "ns/note")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		l := newLoad()
		var rows []row
		for op := range 6 {
			for i := range 20 {
				notes := l.notes(op, i*n, n)
				notes = notes[:min(n, len(notes))]
				unlink(notes)
				rows = append(rows, new(rowEncoder).encode(1, 0, 0, 1, notes))
			}
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			count := 0
			for i := 0; b.Loop(); i++ {
				r := rows[i%len(rows)]
				x, err := r.decode()
				if err != nil {
					b.Fatal(err)
				}
				count += len(x.Notes)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(count), "ns/note")
		})
	}
}

// What may be written can be read: notifications of all that they can have, as many and as heavy as a batch takes.
func TestWhatIsWrittenCanBeRead(t *testing.T) {
	var notes []notify.Notification
	for i := range notify.BatchIndexes {
		k := uint64(i)<<50 | uint64(i) // nothing is as in the one before
		n := notify.Notification{Type: notify.ChildStreamMovedTo, Link: notify.Seq(notify.BatchIndexes - i), Stream: fmt.Sprint(i), Actor: &notify.Actor{PID: int32(-i), UID: ^uint32(i), Command: fmt.Sprintf("command %7d", i)},
			Attr: notify.Attr{Mode: ^uint32(i), UID: ^uint32(i), GID: ^uint32(i), Nlink: ^uint32(i), Flags: ^uint32(i), Ino: k << 1, Size: -int64(k), Mtime: int64(k << 1), Ctime: -int64(k << 2), Atime: int64(k << 1), Btime: -int64(k << 2),
				X: &notify.Xattrs{ACL: k + 1, DOS: k + 1, DOSBtime: -int64(k) - 1, Other: k + 1}}}
		for j := range 1 + i%250 {
			n.Attr.X.Streams = append(n.Attr.X.Streams, notify.Stream{Name: fmt.Sprint(i, j), Size: -int64(k), Digest: k})
		}
		for j := range 4 {
			n.Spine = append(n.Spine, notify.FileID(k)+notify.FileID(j)+1)
		}
		notes = append(notes, n)
	}
	rest := maxWritten.Weight - notify.LoadOf(notes).Weight
	for i := range notes {
		notes[i].Path = strings.Repeat(string(rune('0'+i%10)), rest/len(notes))
	}
	if err := checkNotes("test", 1, notes); err != nil {
		t.Fatal(err)
	}
	var rows rowEncoder
	r := rows.encode(2, 1, 0, 1, notes)
	b, err := r.decode()
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Notes) != len(notes) || !reflect.DeepEqual(b.Notes[9].Attr, notes[9].Attr) {
		t.Errorf("%d notifications came out of %d", len(b.Notes), len(notes))
	}
	notes[0].Path += strings.Repeat("x", notify.BatchIndexes)
	if err := checkNotes("test", 1, notes); err == nil {
		t.Error("more than can be read was taken")
	}
}
