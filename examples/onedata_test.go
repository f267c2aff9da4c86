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
