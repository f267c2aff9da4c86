package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// TestPackage makes the Debian package and looks into it. It builds nfpm and the program twice, which takes minutes: only
// with FS_NOTIFY_LONG=1.
func TestPackage(t *testing.T) {
	if os.Getenv("FS_NOTIFY_LONG") != "1" {
		t.Skip("FS_NOTIFY_LONG=1 makes the package")
	}
	cmd := exec.Command("../../scripts/package", "deb")
	cmd.Env = append(os.Environ(), "VERSION=1.2.3")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("scripts/package: %v\n%s", err, out)
	}
	defer os.RemoveAll("../../build")
	debs, _ := filepath.Glob("../../build/fs-notify_1.2.3_*.deb")
	if len(debs) != 1 {
		t.Fatalf("these packages were made: %q", debs)
	}
	list, err := exec.Command("dpkg-deb", "--contents", debs[0]).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`-rwxr-xr-x root/root .* \./usr/bin/fs_notify`,
		`-rw-r--r-- root/root .* \./usr/lib/systemd/system/fs_notify\.service`,
		`-rw-r--r-- root/root .* \./etc/fs_notify\.yaml`,
		`drwxr-xr-x root/root .* \./etc/fs_notify/`,
		`\./usr/share/man/man1/fs_notify\.1\.gz`,
		`\./usr/share/man/man1/fs_notify-journal-dump\.1\.gz`,
		`\./usr/share/bash-completion/completions/fs_notify`,
		`\./usr/share/zsh/vendor-completions/_fs_notify`,
		`\./usr/share/fish/vendor_completions\.d/fs_notify\.fish`,
		`\./usr/share/doc/fs-notify/copyright`,
	} {
		if !regexp.MustCompile("(?m)" + want + "$").Match(list) {
			t.Errorf("the package lacks %s", want)
		}
	}
	dir := t.TempDir()
	if out, err := exec.Command("dpkg-deb", "--raw-extract", debs[0], dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(filepath.Join(dir, "usr/bin/fs_notify"), "version").Output()
	if err != nil || !strings.HasPrefix(string(out), "fs_notify 1.2.3 ") {
		t.Errorf("the program in the package says %q, %v", out, err)
	}
	if conf, _ := os.ReadFile(filepath.Join(dir, "DEBIAN/conffiles")); !strings.Contains(string(conf), "/etc/fs_notify.yaml") {
		t.Errorf("the configuration is no conffile: %q", conf)
	}
}

// The service is stopped when its package is removed, and not when another version comes.
func TestRemoval(t *testing.T) {
	text, err := os.ReadFile("../../deploy/package/preremove.sh")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir() // stands for that of a systemd that runs, and has its command
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte("#!/bin/sh\necho \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := strings.ReplaceAll(string(text), "/run/systemd/system", dir)
	for _, tt := range []struct {
		by   string
		args []string
		want string
	}{
		{"dpkg", []string{"remove"}, "disable --now fs_notify.service\n"},
		{"dpkg, an upgrade", []string{"upgrade", "1.2.4"}, ""},
		{"dpkg, an upgrade that failed", []string{"failed-upgrade", "1.2.3", "1.2.4"}, ""},
		{"rpm", []string{"0"}, "disable --now fs_notify.service\n"},
		{"rpm, an upgrade", []string{"1"}, ""},
		{"apk", []string{"1.2.3-r0"}, "disable --now fs_notify.service\n"},
		{"pacman", []string{"1.2.3-1"}, "disable --now fs_notify.service\n"},
	} {
		cmd := exec.Command("sh", append([]string{"-c", script, "preremove"}, tt.args...)...)
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != tt.want {
			t.Errorf("%s: %q, %v; want %q", tt.by, out, err, tt.want)
		}
	}
}

// A purge takes the journal away, whether the unit made its directory or somebody else did.
func TestPurge(t *testing.T) {
	text, err := os.ReadFile("../../deploy/package/postremove.sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, private := range []bool{true, false} {
		lib := t.TempDir()
		state := filepath.Join(lib, "fs_notify")
		if private {
			state = filepath.Join(lib, "private/fs_notify")
			if err := os.Symlink("private/fs_notify", filepath.Join(lib, "fs_notify")); err != nil {
				t.Skip(err)
			}
		}
		if err := os.MkdirAll(state, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(state, "journal.db"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		purge := strings.ReplaceAll(strings.ReplaceAll(string(text), "/var/lib/", lib+"/"), "/run/systemd/system", lib+"/none")
		if out, err := exec.Command("sh", "-c", purge, "postremove", "purge").CombinedOutput(); err != nil {
			t.Errorf("private %v: %v\n%s", private, err, out)
		}
		if left, _ := filepath.Glob(filepath.Join(lib, "*fs_notify")); len(left) > 0 {
			t.Errorf("private %v: left are %q", private, left)
		}
	}
}

// The manifests are YAML, and every setting in them is a flag of ours.
func TestManifests(t *testing.T) {
	flags := make(map[string]bool)
	a := &app{}
	for _, c := range allCommands(a.rootCommand()) {
		if c.Name() == "serve" {
			for _, flag := range strings.Fields(c.Flags().FlagUsages() + c.InheritedFlags().FlagUsages()) {
				if name, ok := strings.CutPrefix(flag, "--"); ok {
					flags[name] = true
				}
			}
		}
	}
	for _, file := range []string{"kubernetes.yaml", "compose.yaml", "nfpm.yaml", "fs_notify.yaml", "systemd/fs_notify.service", "../Dockerfile"} {
		text, err := os.ReadFile(filepath.Join("../../deploy", file))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, ".yaml") {
			for _, document := range strings.Split(string(text), "\n---\n") {
				var v any
				if err := yaml.Unmarshal([]byte(document), &v); err != nil {
					t.Errorf("%s: %v", file, err)
				}
			}
		}
		if strings.Contains(string(text), ":latest") && !strings.Contains(string(text), "imagePullPolicy: IfNotPresent") {
			t.Errorf("%s: an image that was made here would be looked for elsewhere", file)
		}
		found := 0
		for _, m := range regexp.MustCompile(`(?:[ "\[]--|FS_NOTIFY_)([a-zA-Z_-]+)`).FindAllStringSubmatch(string(text), -1) {
			name := strings.ReplaceAll(strings.ToLower(m[1]), "_", "-")
			switch {
			case flags[name]:
				found++
			case strings.Contains("network user cap-add cap-drop interval timeout start-period from chown ready build", name):
			case name == "now" || name == "up" || name == "add" || name == "drop":
			default:
				t.Errorf("%s: --%s is no flag of fs_notify serve", file, name)
			}
		}
		if found == 0 && file != "nfpm.yaml" && file != "fs_notify.yaml" {
			t.Errorf("%s: no flag was found: the test looks at the wrong places", file)
		}
	}
	// What the comments of the configuration that packages install say can be uncommented.
	text, _ := os.ReadFile("../../deploy/fs_notify.yaml")
	live := regexp.MustCompile(`(?m)^# ((?:  - |[a-z-]+:).*)$`).FindAllStringSubmatch(string(text), -1)
	path := filepath.Join(t.TempDir(), "config.yaml")
	var lines []string
	for _, m := range live {
		lines = append(lines, m[1])
	}
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	values, err := readConfig(path)
	if err != nil || len(values) < 5 {
		t.Errorf("the example configuration is %v: %v", values, err)
	}
	for _, v := range values {
		if !flags[v.Key.(string)] {
			t.Errorf("the example configuration sets %v, which is no flag", v.Key)
		}
	}
}
