//go:build unix

package examples_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fs_notify/notify"
)

// program is the command, built once if a test wants it.
var program = sync.OnceValues(func() (p string, err error) {
	if programDir, err = os.MkdirTemp("", "fs_notify-examples-"); err != nil {
		return "", err
	}
	p = filepath.Join(programDir, "fs_notify")
	if out, err := exec.Command("go", "build", "-o", p, "fs_notify/cmd/fs_notify").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %v\n%s", err, out)
	}
	return p, nil
})

var programDir string

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(programDir)
	os.Exit(code)
}

// serve runs the real server until the test ends or stop is called.
func serve(t *testing.T, root, state, listen string) (url string, stop func()) {
	t.Helper()
	p, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(p, "serve", "--root", root, "--state-dir", state, "--listen", listen, "--log-format", "json")
	logs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	t.Cleanup(stop)
	var said bytes.Buffer
	lines := bufio.NewScanner(logs)
	for lines.Scan() {
		said.Write(append(lines.Bytes(), '\n'))
		var line struct{ Msg, URL string }
		if json.Unmarshal(lines.Bytes(), &line); line.Msg == "serving" {
			go func() {
				for lines.Scan() {
				}
			}()
			return strings.TrimSuffix(line.URL, "/"), stop
		}
	}
	t.Fatalf("the server did not start: %s", said.String())
	return "", nil
}

// stir does random things to a real directory until n of them worked, with a pause after each.
func stir(root string, r *rand.Rand, n int, pause time.Duration) {
	var dirs []string
	list := func() (all []string) {
		dirs = []string{root}
		filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && path != root {
				all = append(all, path)
				if d.IsDir() {
					dirs = append(dirs, path)
				}
			}
			return nil
		})
		return all
	}
	fresh := func() string {
		name := []string{"a", "é", "b\xff\xfe", "new\nline", `quo"te`, `back\slash`}[r.IntN(6)]
		return filepath.Join(dirs[r.IntN(len(dirs))], fmt.Sprint(name, r.IntN(1000)))
	}
	for done := 0; done < n; {
		all := list()
		some := root
		if len(all) > 0 {
			some = all[r.IntN(len(all))]
		}
		var err error
		switch r.IntN(10) {
		case 0, 1, 2:
			err = os.WriteFile(fresh(), []byte("data"), 0o644)
		case 3:
			err = os.MkdirAll(filepath.Join(fresh(), "x", "y"), 0o755)
		case 4:
			err = os.Symlink("/nowhere", fresh())
		case 5:
			err = os.Link(some, fresh())
		case 6, 7, 8:
			if some != root {
				err = os.Rename(some, fresh())
			}
		case 9:
			if some != root && len(all) > 20 {
				err = os.RemoveAll(some)
			}
		}
		if err == nil {
			done++
			time.Sleep(pause)
		}
	}
}

// onDisk lists a directory as lines without file IDs.
func onDisk(t *testing.T, root string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != root {
			rel, _ := filepath.Rel(root, path)
			out = append(out, fmt.Sprintf("%s %v", notify.EscapeName(rel), d.IsDir()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// sameAsDisk compares a mirror with the directory that it is of, and gives its lines, with file IDs.
func (m mirror) sameAsDisk(t *testing.T, state, root string) []string {
	t.Helper()
	data, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	with := m.lines(t, data)
	var got []string
	for _, l := range with {
		got = append(got, l[:strings.LastIndexByte(l, ' ')])
	}
	slices.Sort(got)
	if want := onDisk(t, root); !slices.Equal(got, want) {
		t.Fatalf("%s differs from the disk:\n got %q\nwant %q", m.script, got, want)
	}
	return with
}

func TestMirrorOfARealTree(t *testing.T) {
	each(t, func(t *testing.T, m mirror, state string) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 0))
		root, journal := t.TempDir(), t.TempDir()
		stir(root, r, 40, 0)
		url, stop := serve(t, root, journal, "127.0.0.1:0")

		follow := func(file string, wait bool) {
			var out bytes.Buffer
			cmd := m.startAt(t, url, root, file, &out)
			if !wait {
				time.Sleep(time.Duration(200+r.IntN(300)) * time.Millisecond)
				syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			}
			if err := cmd.Wait(); wait && err != nil {
				t.Fatalf("%s: %v\n%s", m.script, err, out.String())
			}
			if said := out.String(); strings.Contains(said, "KeyError") || strings.Contains(said, "contradicts") {
				t.Fatal(said)
			}
		}
		for range 3 { // a load, with the mirror killed in the middle of it
			load := rand.New(rand.NewPCG(r.Uint64(), 0))
			var stirred sync.WaitGroup
			stirred.Go(func() { stir(root, load, 150, 2*time.Millisecond) })
			follow(state, false)
			stirred.Wait()
		}
		stop()
		stir(root, r, 60, 0) // while the server is down
		serve(t, root, journal, strings.TrimPrefix(url, "http://"))
		follow(state, true)

		with := m.sameAsDisk(t, state, root)
		// File IDs are those of one who starts now.
		follow(state+".fresh", true)
		data, err := os.ReadFile(state + ".fresh")
		if err != nil {
			t.Fatal(err)
		}
		if fresh := m.lines(t, data); !slices.Equal(with, fresh) {
			t.Fatalf("%s has other file IDs than a fresh one:\n got %q\nwant %q", m.script, with, fresh)
		}
	})
}

// The root goes and comes back while nobody follows: what was, its end, and what happened meanwhile.
func TestMirrorOfARootThatWasAway(t *testing.T) {
	each(t, func(t *testing.T, m mirror, state string) {
		top := t.TempDir()
		root, elsewhere := filepath.Join(top, "root"), filepath.Join(top, "elsewhere")
		mkdir := func(path string) {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		move := func(from, to string) {
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
		}
		mkdir(filepath.Join(root, "before"))
		url, _ := serve(t, root, t.TempDir(), "127.0.0.1:0")
		until := func(status int) {
			for {
				resp, err := http.Get(url + "/readyz")
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode == status {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
		run := func() (code int, said string) {
			var out bytes.Buffer
			cmd := m.startAt(t, url, root, state, &out)
			cmd.Wait()
			return cmd.ProcessState.ExitCode(), out.String()
		}

		until(http.StatusOK)
		if code, said := run(); code != 0 {
			t.Fatal(code, said)
		}
		mkdir(filepath.Join(root, "seen"))
		move(root, elsewhere)
		until(http.StatusServiceUnavailable)
		mkdir(filepath.Join(elsewhere, "meanwhile"))
		move(elsewhere, root)
		until(http.StatusOK)
		mkdir(filepath.Join(root, "after"))
		if code, said := run(); code != 1 || !strings.Contains(said, "the directory is gone") {
			t.Fatal(code, said)
		}
		if code, said := run(); code != 0 {
			t.Fatal(code, said)
		}
		m.sameAsDisk(t, state, root)
	})
}

// A snapshot is one long line: no reader's buffer may end in the middle of a character.
func TestMirrorOfLongLines(t *testing.T) {
	each(t, func(t *testing.T, m mirror, state string) {
		root := t.TempDir()
		for i := range 200 {
			if err := os.WriteFile(filepath.Join(root, fmt.Sprint(strings.Repeat("é", 100), i)), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		url, _ := serve(t, root, t.TempDir(), "127.0.0.1:0")
		var out bytes.Buffer
		if err := m.startAt(t, url, root, state, &out).Wait(); err != nil {
			t.Fatalf("%s: %v\n%s", m.script, err, out.String())
		}
		m.sameAsDisk(t, state, root)
	})
}
