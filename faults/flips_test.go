//go:build linux

package faults_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// damage changes the state directory somewhere, and says how.
func damage(t testing.TB, state string, r *rand.Rand) string {
	t.Helper()
	var files []string
	filepath.WalkDir(state, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil && info.Size() > 0 {
				files = append(files, path)
			}
		}
		return nil
	})
	path := files[r.IntN(len(files))]
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := r.IntN(len(data))
	switch r.IntN(4) {
	case 0: // what describes a page
		at = at&^4095 + r.IntN(16)
	case 1: // what describes the file
		at = r.IntN(100)
	}
	at = min(at, len(data)-1)
	how := ""
	switch r.IntN(6) {
	case 0:
		size := min(512, len(data)-at)
		clear(data[at : at+size])
		how = fmt.Sprintf("%d bytes zeroed", size)
	case 1:
		data = data[:at]
		how = "cut off"
	default:
		data[at] ^= 1 << r.IntN(8)
		how = "a bit flipped"
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s, %s at %d of %d", filepath.Base(path), how, at, len(data))
}

// Bits flip in the state directory while the service is down. It starts, or it says what to do. Of two consumers, one far behind and one that had
// seen all, each is told the truth or that its cursor is gone.
func TestDamagedState(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"stopped", "killed"} {
		t.Run(how, func(t *testing.T) {
			r := dice(t)
			dir := t.TempDir()
			s := newService(t, dir)
			l := newLoad(t, s)
			l.fill(r, 500)
			s.start()
			c := follow(t, s, func(c *consumer) { c.record = true })
			c.begun(t)
			var early *consumer
			l.while(r, func() {
				pause()
				early = c.fork()
				pause()
				pause()
			})
			c.holds(t, s)
			c.pause()
			if how == "stopped" {
				s.stop()
			} else {
				s.kill()
			}
			l.fill(r, 100)
			sound := s.state
			refusals, gone := 0, 0
			for i := range pick(8, 200) {
				s.state = fmt.Sprintf("%s/damaged%d", dir, i)
				if err := os.CopyFS(s.state, os.DirFS(sound)); err != nil {
					t.Fatal(err)
				}
				var what []string
				for range 1 + r.IntN(2) {
					what = append(what, damage(t, s.state, r))
				}
				ok := t.Run(fmt.Sprint(i), func(t *testing.T) {
					s := *s
					s.t = t
					if !s.tryStart() {
						s.refused("--state-dir")
						refusals++
						return
					}
					defer s.kill()
					for _, f := range []*consumer{c.fork(), early.fork()} {
						f.book = c.book.fork()
						f.run(t)
						f.holds(t, &s)
						f.pause()
						if _, _, n, _ := f.where(); n > 0 {
							gone++
						}
					}
				})
				if !ok {
					t.Logf("%d: %s", i, strings.Join(what, "; "))
				}
				os.RemoveAll(s.state)
			}
			t.Logf("%d refusals, %d times gone", refusals, gone)
		})
	}
}
