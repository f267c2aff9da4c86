package watch_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"fs_notify/watch/watchtest"
)

// sources are the kinds that the suite runs with here.
func sources(t *testing.T) []string {
	if s := os.Getenv("FS_NOTIFY_TEST_SOURCES"); s != "" {
		var out []string
		for _, k := range bytes.Split([]byte(s), []byte(",")) {
			out = append(out, string(k))
		}
		return out
	}
	if os.Geteuid() != 0 {
		return []string{"fsnotify", "inotify", "poll"}
	}
	return []string{"fsnotify", "inotify", "fanotify", "poll"}
}

// eachSource runs a test with every source.
func eachSource(t *testing.T, f func(t *testing.T, kind string)) {
	for _, kind := range sources(t) {
		t.Run(kind, func(t *testing.T) { f(t, kind) })
	}
}

func sh(t testing.TB, dir, script string) {
	t.Helper()
	cmd := exec.Command("bash", "-ec", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// goSource is the largest tree that every machine with this toolchain has.
func goSource(t testing.TB) string {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(string(bytes.TrimSpace(out)), "src")
}

// The stream is enough: a consumer that knows nothing else has the tree that is on disk.
func TestMirrorOfATreeThatComesAndGoes(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		dir := t.TempDir()
		r := watchtest.Start(t, kind, dir)
		sh(t, dir, "cp -r "+goSource(t)+" one")
		r.Check(t)
		sh(t, dir, "cp -r one two & tar -C one -cf - . | (mkdir three; tar -C three -xf -); mv one four; rm -rf four/cmd; wait")
		r.Check(t)
		sh(t, dir, "rm -rf two & rm -rf three; mv four five; rm -rf five; wait")
		r.Check(t)
	})
}

// Renames of files and of directories with content, in place and across.
func TestMirrorOfRenames(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		dir := t.TempDir()
		sh(t, dir, "mkdir -p d{0..9}/s{0..9}; for d in d*/s*; do touch $d/f{0..4}; done")
		r := watchtest.Start(t, kind, dir)
		load(dir)
		r.Check(t)
	})
}

// Chains made by mkdir -p and filled at once by several processes: the race that other watchers lose.
func TestMirrorOfMkdirChains(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		dir := t.TempDir()
		r := watchtest.Start(t, kind, dir)
		sh(t, dir, `for p in 1 2 3 4; do (for i in $(seq 40); do mkdir -p $p/$i/b/c/d/e && echo x > $p/$i/b/c/d/e/f && echo y > $p/$i/b/c/g; done) & done; wait`)
		r.Check(t)
		if n := len(r.Mirror.Listing()); n != 4*(1+40*7) {
			t.Errorf("the mirror has %d entries, want %d", n, 4*(1+40*7))
		}
	})
}

var _ = io.Discard

func load(dir string) {
	var wg sync.WaitGroup
	for worker := range 2 {
		wg.Go(func() {
			rnd := uint32(worker + 1)
			next := func(n uint32) uint32 { rnd = rnd*1664525 + 1013904223; return rnd >> 8 % 1000 * n / 1000 % n }
			for i := range 5000 {
				switch i % 4 {
				case 0: // a directory with content, to another parent
					from := fmt.Sprintf("%s/d%d/s%d", dir, next(10), next(10))
					os.Rename(from, fmt.Sprintf("%s/d%d/s%d", dir, next(10), next(10)+10*next(3)))
				case 1: // a directory above others
					from := fmt.Sprintf("%s/d%d", dir, next(10))
					to := fmt.Sprintf("%s/x%d-%d", dir, worker, i)
					if os.Rename(from, to) == nil {
						os.WriteFile(to+"/note", []byte("x"), 0o644)
						os.Rename(to, from)
					}
				case 2: // a file over another
					os.Rename(fmt.Sprintf("%s/d%d/s%d/f%d", dir, next(10), next(10), next(5)), fmt.Sprintf("%s/d%d/s%d/f%d", dir, next(10), next(10), next(5)))
				case 3:
					d := fmt.Sprintf("%s/d%d/s%d", dir, next(10), next(10))
					os.WriteFile(fmt.Sprintf("%s/f%d", d, next(5)), []byte("y"), 0o644)
					os.Link(fmt.Sprintf("%s/f%d", d, next(5)), fmt.Sprintf("%s/d%d/link%d", dir, next(10), next(20)))
					os.Remove(fmt.Sprintf("%s/d%d/link%d", dir, next(10), next(20)))
				}
			}
		})
	}
	wg.Wait()
}
