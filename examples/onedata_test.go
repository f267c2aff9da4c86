//go:build unix

package examples_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Whoever reads some lines of onedata.py and goes ends it, and the next one begins with the first that was not printed.
func TestOnedataEndsWithItsReader(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip(err)
	}
	const last = 6
	more := make(chan bool) // let through the lines behind the first two
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // before that nobody is told that the client has gone
		if r.Header.Get("X-Auth-Token") != "secret" {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/spaces") {
			io.WriteString(w, `[{"name":"data","spaceId":"s1"}]`)
			return
		}
		from, _ := strconv.Atoi(r.URL.Query().Get("last_seq"))
		for seq := max(1, from); seq <= last; seq++ {
			if seq == 3 {
				w.(http.Flusher).Flush()
				select {
				case <-more:
				case <-r.Context().Done():
					return
				}
			}
			fmt.Fprintf(w, "{\"seq\":%d}\r\n", seq)
		}
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer srv.Close()
	defer srv.CloseClientConnections()
	file := filepath.Join(t.TempDir(), "seq.txt")
	start := func() (*exec.Cmd, io.ReadCloser, *strings.Builder) {
		cmd := exec.CommandContext(t.Context(), "python3", "onedata.py", srv.URL, "data", file)
		cmd.Env = append(os.Environ(), "FS_NOTIFY_TOKEN=secret")
		stderr := &strings.Builder{}
		cmd.Stderr = stderr
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		return cmd, out, stderr
	}

	cmd, out, stderr := start()
	kill := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer kill.Stop()
	for in, seq := bufio.NewReader(out), 1; seq <= 2; seq++ {
		if line, err := in.ReadString('\n'); line != fmt.Sprintf("{\"seq\":%d}\n", seq) {
			t.Fatalf("%q, %v; %s", line, err, stderr)
		}
	}
	out.Close()
	more <- true
	if err := cmd.Wait(); err != nil || stderr.String() != "" {
		t.Errorf("%v, %s", err, stderr)
	}
	if text, err := os.ReadFile(file); string(text) != "2" {
		t.Errorf("kept is %q, %v", text, err)
	}

	cmd, out, stderr = start()
	more <- true
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "{\"seq\":3}\n" {
		t.Errorf("the next one began with %q, %v; %s", line, err, stderr)
	}
	cmd.Process.Kill()
	cmd.Wait()
}

// What cannot get better by itself ends it, with a word that says what to do; anything else it asks for again when the server says.
func TestOnedataSaysWhatIsWrong(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip(err)
	}
	asked := make(chan string, 8) // the paths of streams
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if strings.HasSuffix(r.URL.Path, "/spaces") {
			io.WriteString(w, `[{"name":"data","spaceId":"s1"},{"name":"my data","spaceId":"s/2 ?"}]`)
			return
		}
		asked <- r.URL.EscapedPath()
		w.Header().Set("Retry-After", "7")
		http.Error(w, "busy", http.StatusServiceUnavailable)
	}))
	defer srv.Close()
	const api = "/api/v3/oneprovider/changes/metadata/"
	for _, tt := range []struct {
		name, server, space, seq string
		want, path               string
	}{
		{"a space that is not there", srv.URL, "no such", "1", "there is no space 'no such'", ""},
		{"a space by its name", srv.URL, "my data", "1", "pause 7", api + "s%2F2%20%3F"},
		{"a space by its ID", srv.URL, "s/2 ?", "1", "pause 7", api + "s%2F2%20%3F"},
		{"a file with a line end", srv.URL, "data", "1\n", "pause 7", api + "s1"},
		{"an empty file", srv.URL, "data", "", "which is no seq: put there that of the last line you have, or remove the file", ""},
		{"a file of something else", srv.URL, "data", "{}", "holds '{}', which is no seq", ""},
		{"no address", srv.URL + "x", "data", "1", "is no address", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "seq.txt")
			if err := os.WriteFile(file, []byte(tt.seq), 0o644); err != nil {
				t.Fatal(err)
			}
			const once = `import sys, onedata
onedata.time.sleep = lambda s: sys.exit(f"pause {s}")
onedata.follow(*sys.argv[1:])`
			cmd := exec.CommandContext(t.Context(), "python3", "-B", "-c", once, tt.server, tt.space, file)
			cmd.Env = append(os.Environ(), "FS_NOTIFY_TOKEN=")
			out, _ := cmd.CombinedOutput()
			if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), tt.want) || strings.Contains(string(out), "Traceback") {
				t.Errorf("%d, %s", cmd.ProcessState.ExitCode(), out)
			}
			path := ""
			select {
			case path = <-asked:
			default:
			}
			if path != tt.path {
				t.Errorf("it asked for %q, want %q", path, tt.path)
			}
		})
	}
}

func TestOnedataAddress(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip(err)
	}
	refuses(t, "./onedata.py", "127.0.0.1:8000", "data", filepath.Join(t.TempDir(), "seq.txt"))
}
