package box

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"fs_notify/notify"
)

// deep is a file so many levels below the root, of which the first is another name than all others.
func deep(levels int) *item {
	it := &item{root: &root{name: "data"}, path: "d" + strings.Repeat("/é", levels-1), attr: &notify.Attr{Mode: notify.ModeFile}, status: active}
	for id := range notify.FileID(levels + 1) {
		it.spine = append(it.spine, 100+id)
	}
	return it
}

func TestTheWayDownToAnItem(t *testing.T) {
	type mini struct{ ID, Name string }
	for levels, want := range map[int]string{1: "0 All Files/100 data", 2: "0 All Files/100 data/101 d", 4: "0 All Files/100 data/101 d/102 é/103 é"} {
		var got struct {
			Collection struct{ Entries []mini } `json:"path_collection"`
			Parent     mini
		}
		if err := json.Unmarshal(appendItem(nil, deep(levels)), &got); err != nil {
			t.Fatal(err)
		}
		var way []string
		for _, m := range got.Collection.Entries {
			way = append(way, m.ID+" "+m.Name)
		}
		if strings.Join(way, "/") != want || got.Parent.ID+" "+got.Parent.Name != way[len(way)-1] {
			t.Errorf("%d levels: the way is %q and the parent %v, want %s", levels, way, got.Parent, want)
		}
	}
}

// However deep an item is, each level costs the same.
func BenchmarkADeepItem(b *testing.B) {
	for _, levels := range []int{10, 1000, 30_000} {
		b.Run(fmt.Sprint(levels), func(b *testing.B) {
			it, buf := deep(levels), []byte(nil)
			for b.Loop() {
				buf = appendItem(buf[:0], it)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*levels), "ns/level")
		})
	}
}
