//go:build linux

package main

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

//go:embed peers/watch.mjs
var nodeScript []byte

//go:embed peers/package.json
var nodePackages []byte

// peersDir is where peers are that no distribution has: they are installed once, below the user's cache directory.
func peersDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "fs_notify-bench")
	return dir, os.MkdirAll(dir, 0o755)
}

// nodePeers installs what package.json names, and gives the script that runs it.
var nodePeers = sync.OnceValues(func() (string, error) {
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", errors.New(tool + " is not installed")
		}
	}
	dir, err := peersDir()
	if err != nil {
		return "", err
	}
	script, list := filepath.Join(dir, "watch.mjs"), filepath.Join(dir, "package.json")
	if err := errors.Join(os.WriteFile(script, nodeScript, 0o644), os.WriteFile(list, nodePackages, 0o644)); err != nil {
		return "", err
	}
	cmd := exec.Command("npm", "install", "--no-audit", "--no-fund", "--no-package-lock")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm install: %w: %s", err, firstLine(string(out)))
	}
	return script, nil
})

// The module of rjeczalik/notify's program: what is only measured against is no dependency of fs_notify.
var (
	//go:embed peers/rjeczalik.go.txt
	goMain []byte
	//go:embed peers/rjeczalik.mod.txt
	goMod []byte
	//go:embed peers/rjeczalik.sum.txt
	goSum []byte
)

// goPeer builds it, and gives the program.
var goPeer = sync.OnceValues(func() (string, error) {
	dir, err := peersDir()
	if err != nil {
		return "", err
	}
	module := filepath.Join(dir, "rjeczalik")
	if err := os.MkdirAll(module, 0o755); err != nil {
		return "", err
	}
	for name, text := range map[string][]byte{"main.go": goMain, "go.mod": goMod, "go.sum": goSum} {
		if err := os.WriteFile(filepath.Join(module, name), text, 0o644); err != nil {
			return "", err
		}
	}
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", "watch", ".")
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, firstLine(string(out)))
	}
	return filepath.Join(module, "watch"), nil
})

// node is a peer that runs in Node.js; kind is what watch.mjs calls it.
func node(name, kind string) *subject {
	return &subject{name: name, color: peerColor,
		setup: func() error { _, err := nodePeers(); return err },
		start: func(dir string, b *bench) (*session, error) {
			script, err := nodePeers()
			if err != nil {
				return nil, err
			}
			return lines("Watches established", "node", script, kind)(dir, b)
		}}
}

// rjeczalik is the Go package that is most used for watching trees.
func rjeczalik() *subject {
	return &subject{name: "rjeczalik/notify", color: peerColor,
		setup: func() error { _, err := goPeer(); return err },
		start: func(dir string, b *bench) (*session, error) {
			program, err := goPeer()
			if err != nil {
				return nil, err
			}
			return lines("Watches established", program)(dir, b)
		}}
}
