package main

import (
	"crypto/tls"
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"fs_notify": main})
}

// TestScripts runs testdata/*.txtar. Besides testscript's own commands they have
//
//	sse FILE              start a server that plays FILE; sets $HOST and $PORT, and writes requests.txt
//	freeport              set $FREE to a port that nobody listens at
//	waitfor FILE REGEXP   wait until the file matches
//	get URL               wait until the URL answers 200; the body is stdout
//	signal NAME           send TERM, QUIT, ... to the newest background command
//	sql FILE STATEMENT    change a database
//	same FILE FILE        as cmp, after giving each file ID a name by its first place: A, B, ...
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("GORACE", "atexit_sleep_ms=0") // else each command waits for a second before it ends
			for _, v := range os.Environ() {        // the tester's own settings are not the test's
				if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, envPrefix) {
					e.Setenv(name, "")
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"sse": scriptSSE, "freeport": scriptFreePort, "waitfor": scriptWaitFor, "get": scriptGet, "same": scriptSame, "signal": scriptSignal, "sql": scriptSQL,
		},
	})
}

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

func until(ts *testscript.TestScript, what string, ok func() bool) {
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("waited in vain for %s", what)
		}
	}
}

// scriptSSE serves what a file says: parts separated by lines "===", one for each connection. A part that begins
// with "HTTP nnn" is an answer with that status and body; any other is an event stream, which ends
// after a line "(end)" and else lasts until the client leaves.
func scriptSSE(ts *testscript.TestScript, neg bool, args []string) {
	parts := strings.Split(ts.ReadFile(args[0]), "===\n")
	var mu sync.Mutex
	n := 0
	asked, err := os.Create(ts.MkAbs("requests.txt"))
	ts.Check(err)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/info/attributes") { // the script is of streams
			http.NotFound(w, r)
			return
		}
		mu.Lock()
		part := parts[min(n, len(parts)-1)]
		n++
		fmt.Fprintf(asked, "%s %s id=%q\n", r.Method, r.URL, r.Header.Get("Last-Event-ID"))
		mu.Unlock()
		if rest, ok := strings.CutPrefix(part, "HTTP "); ok {
			status, body, _ := strings.Cut(rest, "\n")
			code, _ := strconv.Atoi(status)
			w.WriteHeader(code)
			io.WriteString(w, body)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		text, ends := strings.CutSuffix(part, "(end)\n")
		io.WriteString(w, text)
		w.(http.Flusher).Flush()
		if !ends {
			<-r.Context().Done()
		}
	}))
	ts.Defer(func() { srv.CloseClientConnections(); srv.Close(); asked.Close() })
	host, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	ts.Setenv("HOST", host)
	ts.Setenv("PORT", port)
}

func scriptFreePort(ts *testscript.TestScript, neg bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	defer l.Close()
	ts.Setenv("FREE", strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
}

func scriptWaitFor(ts *testscript.TestScript, neg bool, args []string) {
	re := regexp.MustCompile("(?m)" + args[1])
	until(ts, args[0]+" to match "+args[1], func() bool {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && re.Match(text)
	})
}

func scriptGet(ts *testscript.TestScript, neg bool, args []string) {
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	until(ts, args[0], func() bool {
		resp, err := c.Get(args[0])
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode == 200 {
			ts.Stdout().Write(body)
		}
		return resp.StatusCode == 200
	})
}

func scriptSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]os.Signal{"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL, "QUIT": syscall.SIGQUIT, "TERM": syscall.SIGTERM}
	all := ts.BackgroundCmds()
	ts.Check(all[len(all)-1].Process.Signal(signals[args[0]]))
}

func scriptSQL(ts *testscript.TestScript, neg bool, args []string) {
	db, err := sql.Open("sqlite", ts.MkAbs(args[0]))
	ts.Check(err)
	defer db.Close()
	_, err = db.Exec(args[1])
	ts.Check(err)
}

func scriptSame(ts *testscript.TestScript, neg bool, args []string) {
	id := regexp.MustCompile(`"\d{6,19}"`)
	rename := func(text string) string {
		names := map[string]string{}
		return id.ReplaceAllStringFunc(text, func(s string) string {
			if names[s] == "" {
				names[s] = fmt.Sprintf("%q", rune('A'+len(names)))
			}
			return strings.ReplaceAll(names[s], "'", `"`)
		})
	}
	got, want := rename(ts.ReadFile(args[0])), rename(ts.ReadFile(args[1]))
	if (got == want) == neg {
		ts.Fatalf("got\n%s\nwant\n%s", got, want)
	}
}
