package journal

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"fs_notify/notify"
	"fs_notify/notify/journal/logtest"
)

// The batches of a root are found from any place, however many of other roots lie between them: by the rows around it or by the root's
// own. The journal is closed or left, and what it knew of the newest batches is damaged or was never written; then batches are damaged: no other is missed.
func TestBackOfRoot(t *testing.T) {
	dir := memDir(t)
	clock := logtest.NewClock()
	o := Options{Now: clock.Now, RingBytes: 4 << 10, Log: quiet(), RetainAge: -1}
	j := reopen(t, dir, o)
	rng := rand.New(rand.NewPCG(1, 2))
	appended := make(map[notify.FileID][]notify.BatchNumber)
	var all []notify.BatchNumber
	fill := func(n int) {
		t.Helper()
		for i := range n {
			clock.Add(time.Millisecond)
			root := notify.FileID(1) // is busy
			switch {
			case i%997 == 500:
				root = 2 // is quiet all the time
			case i < n/4 && len(all) < n && i%2 == 0:
				root = 3 // was busy, long ago
			case i == n-1:
				root = 4 // has just begun
			}
			number := appendNote(t, j, root, fmt.Sprint(i))
			appended[root] = append(appended[root], number)
			all = append(all, number)
		}
	}
	lost := map[notify.BatchNumber]bool{}
	check := func(when string) {
		t.Helper()
		base := j.Bounds().Base
		for range 300 {
			root := notify.FileID(1 + rng.IntN(5)) // 5 has none
			before := all[rng.IntN(len(all))] + notify.BatchNumber(rng.IntN(3)) - 1
			limit := 1 + rng.IntN(20)
			got, err := j.PageBack(t.Context(), root, before, limit)
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			var numbers, want []notify.BatchNumber
			for _, b := range got {
				if b.Root != root && !(b.Root == 0 && lost[b.Number]) {
					t.Fatalf("%s: batch %d of root %d among those of root %d", when, b.Number, b.Root, root)
				}
				if b.Root != 0 {
					numbers = append(numbers, b.Number)
				}
			}
			for _, n := range slices.Backward(appended[root]) {
				if n <= before && n > base && !lost[n] && len(want) < len(numbers) {
					want = append(want, n)
				}
			}
			more := slices.IndexFunc(appended[root], func(n notify.BatchNumber) bool {
				return n <= before && n > base && !lost[n] && !slices.Contains(want, n)
			}) >= 0
			if !slices.Equal(numbers, want) || more && len(got) < limit {
				t.Fatalf("%s: of root %d before %d, %d at most: %v, want %v", when, root, before, limit, numbers, want)
			}
		}
	}
	change := func(statements ...string) {
		t.Helper()
		db, err := sql.Open("sqlite", filepath.Join(dir, "journal.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		for _, s := range statements {
			if _, err := db.Exec(s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
	}
	fill(4000)
	check("as it was filled")
	j.Close()
	j = reopen(t, dir, o)
	check("closed")
	fill(1000)
	leave(j)
	j = reopen(t, dir, o)
	check("left")
	j.Close()
	for _, damage := range []string{
		"UPDATE newest SET roots = zeroblob(length(roots))",
		"UPDATE newest SET roots = CAST(substr(roots, 1, length(roots)-20) || substr(roots, -4) AS BLOB)",
		"DELETE FROM newest",
		"DROP TABLE newest",
		"CREATE INDEX batches_of_root ON batches (root)", // as it once was
	} {
		change(damage)
		j = reopen(t, dir, o)
		check(damage)
		number := appendNote(t, j, 2, "one more")
		if page, err := j.Page(t.Context(), number, 1); err != nil || page[0].RootPrev != appended[2][len(appended[2])-1] {
			t.Fatalf("%s: the next batch of root 2 is %+v (%v), want the one before it to be %d", damage, page[0], err, appended[2][len(appended[2])-1])
		}
		appended[2], all = append(appended[2], number), append(all, number)
		j.Close()
	}
	for range 30 {
		n := all[rng.IntN(len(all))]
		if rng.IntN(2) == 0 {
			n = appended[2][rng.IntN(len(appended[2]))]
		}
		lost[n] = true
		change(fmt.Sprintf("UPDATE batches SET root_prev = %d WHERE number = %d", all[rng.IntN(len(all))], n))
	}
	j = reopen(t, dir, o)
	check("batches are damaged")
	j.mu.Lock()
	j.moveBase(all[len(all)/3], all[len(all)/3].End())
	j.mu.Unlock()
	check("old batches were dropped")
}
