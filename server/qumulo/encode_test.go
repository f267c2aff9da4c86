package qumulo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"fs_notify/notify"
	"fs_notify/notify/feed"
)

// hitsOf makes n hits of about size bytes each; those where glue says so go on in the next one.
func hitsOf(n, size int, glue func(i int) bool) []feed.Hit {
	var hits []feed.Hit
	for i := range n {
		hits = append(hits, feed.Hit{At: 1, Glued: glue(i) && i < n-1, Note: &notify.Notification{
			Seq: notify.BatchNumber(1000).Seq(i), Type: notify.ChildSizeChanged, Path: "top/" + strings.Repeat("x", size),
			Spine: notify.Spine{1, 2, notify.FileID(100 + i)}}})
	}
	return hits
}

// frame is what a client makes of a block.
type frame struct {
	ids  []string // last spine ID of each notification
	id   string
	size int
}

func parseFrames(t *testing.T, b []byte) (out []frame) {
	t.Helper()
	for block := range bytes.SplitSeq(bytes.TrimSuffix(b, []byte("\n\n")), []byte("\n\n")) {
		var f frame
		for line := range bytes.SplitSeq(block, []byte("\n")) {
			switch {
			case bytes.HasPrefix(line, []byte("data: ")):
				var notes []struct{ Spine []string }
				if err := json.Unmarshal(line[6:], &notes); err != nil {
					t.Fatalf("%.100s...: %v", line, err)
				}
				f.size = len(line) - 6
				for _, n := range notes {
					f.ids = append(f.ids, n.Spine[len(n.Spine)-1])
				}
			case bytes.HasPrefix(line, []byte("id: ")):
				f.id = string(line[4:])
			default:
				t.Fatalf("a line %.100q", line)
			}
		}
		out = append(out, f)
	}
	return out
}

func TestFrames(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		n := 1 + rnd.IntN(60)
		size := rnd.IntN(20000)
		chance := rnd.Float64()
		hits := hitsOf(n, size, func(int) bool { return rnd.Float64() < chance })
		for _, stream := range []bool{true, false} {
			out := frames{form: form{dir: 2, stream: stream}}
			out.add(hits)
			out.close()
			got := parseFrames(t, out.buf)
			i := 0
			for k, f := range got {
				if len(f.ids) == 0 || f.size > maxFrame && !oneOperation(hits[i:i+len(f.ids)]) {
					t.Fatalf("frame %d of %d has %d notifications and %d bytes", k, len(got), len(f.ids), f.size)
				}
				for _, id := range f.ids {
					if id != fmt.Sprint(hits[i].Note.ID()) {
						t.Fatalf("frame %d has %s, want %d", k, id, hits[i].Note.ID())
					}
					i++
				}
				if last := hits[i-1]; last.Glued {
					t.Fatalf("frame %d tears an operation apart", k)
				} else if want := fmt.Sprintf("%d.2", last.Note.Seq); stream && f.id != want || !stream && f.id != "" {
					t.Fatalf("frame %d has the id %q, want %q in an event stream", k, f.id, want)
				}
			}
			if i != n || len(out.cuts) != len(got) || out.cuts[len(got)-1].end != len(out.buf) || out.notes != n {
				t.Fatalf("%d of %d notifications in %d frames, cuts %v", i, n, len(got), out.cuts)
			}
			out.reset()
		}
	}
}

func oneOperation(hits []feed.Hit) bool {
	for _, h := range hits[:len(hits)-1] {
		if !h.Glued {
			return false
		}
	}
	return true
}

// Parts go into frames of their own in an event stream, and all into one otherwise.
func TestPendingPartsMerge(t *testing.T) {
	for stream, want := range map[bool]int{true: 3, false: 1} {
		out := frames{form: form{dir: 2, stream: stream}}
		for range 3 {
			out.add(hitsOf(2, 10, func(int) bool { return false }))
		}
		out.close()
		if got := parseFrames(t, out.buf); len(got) != want {
			t.Errorf("stream %v: %d frames, want %d", stream, len(got), want)
		}
	}
}

// What left and comes back by itself is not in one array with its leaving: a mirror would take what it has set aside for it. What is renamed
// within the view is.
func TestWhatComesBackBeginsAFrame(t *testing.T) {
	hit := func(typ notify.Type, id notify.FileID, glued bool) feed.Hit {
		return feed.Hit{Note: &notify.Notification{Seq: 5, Type: typ, Path: "x", Spine: notify.Spine{2, id}}, Glued: glued}
	}
	from, to := notify.ChildDirMovedFrom, notify.ChildDirMovedTo
	for _, tt := range []struct {
		name string
		hits []feed.Hit
		want string
	}{
		{"out and in", []feed.Hit{hit(from, 7, false), hit(to, 7, false), hit(notify.ChildFileAdded, 8, false)}, "[7] [7 8]"},
		{"a file", []feed.Hit{hit(notify.ChildFileMovedFrom, 7, false), hit(notify.ChildFileMovedTo, 7, false)}, "[7] [7]"},
		{"twice", []feed.Hit{hit(from, 7, false), hit(to, 7, false), hit(from, 7, false), hit(to, 7, false)}, "[7] [7 7] [7]"},
		{"renamed", []feed.Hit{hit(from, 7, true), hit(to, 7, false), hit(from, 7, true), hit(to, 7, false)}, "[7 7 7 7]"},
		{"exchanged", []feed.Hit{hit(from, 7, true), hit(from, 8, true), hit(to, 7, true), hit(to, 8, false)}, "[7 8 7 8]"},
		{"out, in, and renamed", []feed.Hit{hit(from, 7, false), hit(to, 7, false), hit(from, 7, true), hit(to, 7, false)}, "[7] [7 7 7]"},
		{"another one", []feed.Hit{hit(from, 7, false), hit(to, 8, false)}, "[7 8]"},
	} {
		for _, stream := range []bool{true, false} {
			out := frames{form: form{dir: 2, stream: stream}}
			if stream {
				out.add(tt.hits)
			} else { // as if each were a part
				for rest := tt.hits; len(rest) > 0; {
					n := feed.Operation(rest)
					out.add(rest[:n])
					rest = rest[n:]
				}
			}
			out.close()
			var got []string
			for _, f := range parseFrames(t, out.buf) {
				got = append(got, fmt.Sprint(f.ids))
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("%s, stream %v: %s, want %s", tt.name, stream, s, tt.want)
			}
		}
		var got []string
		for rest := tt.hits; len(rest) > 0; {
			n := feed.Together(rest)
			var ids []notify.FileID
			for _, h := range rest[:n] {
				ids = append(ids, h.Note.ID())
			}
			got = append(got, fmt.Sprint(ids))
			rest = rest[n:]
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s, together: %s, want %s", tt.name, s, tt.want)
		}
	}
}

func BenchmarkFrames(b *testing.B) {
	for _, f := range []notify.Fields{notify.FieldsQumulo, notify.FieldsAll} {
		b.Run(map[notify.Fields]string{notify.FieldsQumulo: "qumulo", notify.FieldsAll: "all"}[f], func(b *testing.B) {
			hits := hitsOf(1000, 40, func(i int) bool { return i%2 == 0 })
			out := frames{form: form{dir: 2, stream: true, fields: f}}
			b.ReportAllocs()
			for b.Loop() {
				out.add(hits)
				b.SetBytes(int64(len(out.buf)))
				out.reset()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(hits)), "ns/notification")
		})
	}
}
