package watch_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
	"fs_notify/watch/watchtest"
)

// Two directories that are far down change places, and in one look with it all the files in one of them get new names: what must not be cut
// would be thousands of long paths. It is bounded by its bytes as by its number, and the rest is told as gone and come: the mirror, and the sink
// that refuses more than a journal should have to take, are content.
func TestWhatStaysTogetherIsBoundedInBytes(t *testing.T) {
	dir, verbs := openDir(t), t.TempDir()
	if err := watchtest.Verbs(verbs); err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("n", 250)
	sh(t, dir, fmt.Sprint("PATH=", verbs, ":$PATH; deep . 14 ", name))
	deep, err := os.Open(filepath.Join(dir, strings.Repeat(name+"/", 14)))
	if err != nil {
		t.Fatal(err)
	}
	defer deep.Close()
	at := fmt.Sprintf("/proc/self/fd/%d/", deep.Fd())
	const files = 1000
	for _, d := range []string{"A", "B"} {
		if err := os.Mkdir(at+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i := range files {
		if err := os.WriteFile(fmt.Sprint(at, "A/f", i), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := watchtest.Start(t, "poll", dir)
	r.Keep()
	for i := range files {
		if err := os.Rename(fmt.Sprint(at, "A/f", i), fmt.Sprint(at, "A/g", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Renameat2(int(deep.Fd()), "A", int(deep.Fd()), "B", unix.RENAME_EXCHANGE); err != nil {
		t.Fatal(err)
	}
	r.Check(t)
	whole, cut := 0, 0
	for _, n := range r.Take() {
		switch {
		case n.Type != notify.ChildFileMovedFrom:
		case n.Link != 0:
			whole++
		default:
			cut++
		}
	}
	if whole+cut != files || cut == 0 {
		t.Errorf("%d files were renamed and %d left: the test tests nothing", whole, cut)
	}
}
