package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An instruction of a Dockerfile.
type instruction struct {
	word, rest string
}

func readDockerfile(t *testing.T, path string) (all []instruction) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	whole := ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "#") || whole == "" && line == "" {
			continue
		}
		whole += strings.TrimSuffix(line, "\\")
		if strings.HasSuffix(line, "\\") {
			continue
		}
		word, rest, _ := strings.Cut(whole, " ")
		all = append(all, instruction{word, strings.TrimSpace(rest)})
		whole = ""
	}
	return all
}

// list reads the JSON form of ENTRYPOINT and CMD.
func list(t *testing.T, s string) (words []string) {
	t.Helper()
	if err := json.Unmarshal([]byte(s[strings.IndexByte(s, '['):]), &words); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return words
}

// TestImage does what the Dockerfile says, instruction by instruction, with this machine's Go in place of the base image: it
// runs each RUN, copies what the last stage copies into an empty root, and there, with nothing else, as the user and with the
// entry point that the file names, the program serves, answers its health check, and stops when it is asked to.
func TestImage(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it changes its root directory")
	}
	module, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	stage, root := t.TempDir(), t.TempDir()
	if err := os.Chmod(filepath.Dir(root), 0o755); err != nil { // user 65532 has to get there
		t.Fatal(err)
	}
	var uid, gid int
	var entry, command, health []string
	stages, built := 0, ""
	for _, i := range readDockerfile(t, filepath.Join(module, "Dockerfile")) {
		switch i.word {
		case "FROM":
			stages++
			if i.rest == "scratch" && stages != 2 {
				t.Fatal("the program has to be built before the last stage")
			}
		case "RUN":
			if stages != 1 {
				t.Fatalf("there is nothing to run %q with in an empty image", i.rest)
			}
			if i.rest == "go mod download" {
				continue // the build fetches what it needs
			}
			run := strings.ReplaceAll(i.rest, "/out/", stage+"/")
			if os.Getenv("FS_NOTIFY_LONG") != "1" {
				run = strings.ReplaceAll(run, "-trimpath ", "") // all would have to be compiled once more
			}
			sh := exec.Command("sh", "-ec", run)
			sh.Dir = module
			sh.Env = append(os.Environ(), "VERSION=9.9.9")
			if out, err := sh.CombinedOutput(); err != nil {
				t.Fatalf("RUN %s: %v\n%s", i.rest, err, out)
			}
		case "COPY":
			if stages != 2 {
				continue // the sources lie where they are
			}
			m := regexp.MustCompile(`^--from=build --chown=(\d+):(\d+) /out/ /$`).FindStringSubmatch(i.rest)
			if m == nil {
				t.Fatalf("COPY %s: this test does not know how", i.rest)
			}
			if out, err := exec.Command("cp", "-a", stage+"/.", root).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if out, err := exec.Command("chown", "-R", m[1]+":"+m[2], root).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			built = m[1]
		case "USER":
			if _, err := fmt.Sscanf(i.rest, "%d:%d", &uid, &gid); err != nil {
				t.Fatalf("USER %s: %v", i.rest, err)
			}
		case "ENTRYPOINT":
			entry = list(t, i.rest)
		case "CMD":
			command = list(t, i.rest)
		case "HEALTHCHECK":
			health = list(t, i.rest)
		}
	}
	if uid == 0 || built != fmt.Sprint(uid) {
		t.Fatalf("it runs as user %d, its files are %s's", uid, built)
	}
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	// A kernel's process directory is all that a container has besides; Go needs no device.
	proc := filepath.Join(root, "proc")
	if err := os.Mkdir(proc, 0o555); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("proc", proc, "proc", 0, ""); err != nil {
		t.Skipf("proc cannot be mounted: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(proc, syscall.MNT_DETACH) })

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	inside := func(words ...string) *exec.Cmd {
		cmd := &exec.Cmd{Path: words[0], Args: words, Dir: "/", Env: []string{"FS_NOTIFY_LISTEN=" + address}}
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, Pdeathsig: syscall.SIGKILL}
		return cmd
	}
	if err := inside(health...).Run(); err == nil {
		t.Error("it is well before it runs")
	}
	log := &logLines{}
	service := inside(append(entry, command...)...)
	service.Stderr = log
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- service.Wait() }()
	eventually(t, "health:\n"+log.String(), func() bool { return inside(health...).Run() == nil })
	eventually(t, "readiness", func() bool { return inside(append(health, "--ready")...).Run() == nil })
	if status, body := fetch(t, "http://"+address+"/v1/version"); status != 200 || !strings.Contains(body, "9.9.9") {
		t.Errorf("/v1/version is %d %s", status, body)
	}
	status, body := fetch(t, "http://"+address+"/v1/files/%2Fdata/entries")
	if status != 200 {
		t.Errorf("/data is %d %s", status, body)
	}
	if err := os.WriteFile(filepath.Join(root, "data", "new"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what is new in /data", func() bool {
		_, body := fetch(t, "http://"+address+"/v1/files/%2Fdata/entries")
		return strings.Contains(body, `"new"`)
	})
	if _, err := os.Stat(filepath.Join(root, "var/lib/fs_notify/journal.db")); err != nil {
		t.Error(err)
	}
	service.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ended with %v\n%s", err, log)
		}
	case <-time.After(patience):
		service.Process.Kill()
		t.Errorf("SIGTERM does not end it\n%s", log)
	}
}
