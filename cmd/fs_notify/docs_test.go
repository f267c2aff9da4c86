package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// docs/cli.md and the help name every command.
func TestEveryCommandIsDocumented(t *testing.T) {
	a := &app{status: newStatus(io.Discard)}
	root, text := a.rootCommand(), document(t, "cli.md")
	for _, cmd := range root.Commands() {
		if !strings.Contains(text, "fs_notify "+cmd.Name()) && !strings.Contains(text, "|"+cmd.Name()) {
			t.Errorf("docs/cli.md says nothing of fs_notify %s", cmd.Name())
		}
		if !cmd.IsAvailableCommand() {
			t.Errorf("the help does not name fs_notify %s", cmd.Name())
		}
	}
}

// What README.md says to try shows what it says, also where it is pasted at once.
func TestTryIt(t *testing.T) {
	for _, tool := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	_, commands, _ := strings.Cut(document(t, "../README.md"), "In another one, in the same directory:\n\n```sh\n")
	commands, _, found := strings.Cut(commands, "```")
	if !found {
		t.Fatal("README.md has no such commands")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	url, log := serveHere(t, "--root", dir)
	log.find(t, `"msg":"root indexed"()`)
	shell := exec.Command("bash", "-c", strings.ReplaceAll(commands, "http://127.0.0.1:8000", url)+"\nread; kill %1")
	shell.Dir, shell.Env = dir, append(os.Environ(), "no_proxy=*")
	var shown logLines
	shell.Stdout = &shown
	enter, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	defer shell.Wait()
	defer enter.Close()
	shown.find(t, `"child_file_removed".*"path":"(?:hello|goodbye)"()`)
}

// What docs/operations.md says to copy beside the databases is copied, whichever of the files are there.
func TestBackupOfTheOtherFiles(t *testing.T) {
	for _, tool := range []string{"sh", "find"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	_, commands, _ := strings.Cut(document(t, "operations.md"), "cp /var/lib/fs_notify/lock /backup/lock\n")
	command, _, _ := strings.Cut(commands, "\n")
	for _, files := range [][]string{nil, {"session.key"}, {"session.key", "session.revoked"}, {"self-signed.crt", "self-signed.pem", "session.key"}} {
		state, backup := t.TempDir(), t.TempDir()
		for _, name := range append(files, "journal.db") {
			if err := os.WriteFile(filepath.Join(state, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		there := strings.NewReplacer("/var/lib/fs_notify", state, "/backup", backup).Replace(command)
		out, err := exec.Command("sh", "-c", there).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("with %q: %s: %v, %s", files, there, err, out)
		}
		var copied []string
		entries, _ := os.ReadDir(backup)
		for _, e := range entries {
			copied = append(copied, e.Name())
		}
		if !slices.Equal(copied, files) {
			t.Errorf("of %q were copied %q", files, copied)
		}
	}
}

// docs/journal-format.md names every file that a server keeps in its state directory.
func TestStateDirectoryIsDocumented(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	users := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(users, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, log := serveHere(t, "--root", dir, "--watcher", "poll", "--state-dir", state, "--tls-self-signed", "--users", users)
	log.find(t, `"msg":"root indexed"()`)
	table, _, _ := strings.Cut(document(t, "journal-format.md"), "Both databases")
	entries, err := os.ReadDir(state)
	if err != nil || len(entries) < 6 {
		t.Fatalf("the state directory holds %v, %v", entries, err)
	}
	for _, e := range entries {
		name := strings.TrimSuffix(strings.TrimSuffix(e.Name(), "-wal"), "-shm")
		if !strings.Contains(table, "| `"+name+"`") {
			t.Errorf("docs/journal-format.md says nothing of %s", e.Name())
		}
	}
}
