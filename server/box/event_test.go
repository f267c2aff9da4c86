package box

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

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
func TestADeepItem(t *testing.T) {
	cost := func(levels int) time.Duration { // of a level
		var all []time.Duration
		for it, b := deep(levels), []byte(nil); len(all) < 10; {
			began := time.Now()
			b = appendItem(b[:0], it)
			all = append(all, time.Since(began)/time.Duration(levels))
		}
		return slices.Min(all)
	}
	if few, many := cost(1000), cost(30_000); many > 5*few {
		t.Errorf("a level costs %v of 1,000 and %v of 30,000", few, many)
	}
}
