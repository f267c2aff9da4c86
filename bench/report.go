//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// report is docs/benchmarks.md, whose prose is written by hand: only what stands between markers
//
//	<!-- bench:NAME -->
//	<!-- /bench:NAME -->
//
// is replaced. Plots go into img/ beside it.
type report struct {
	file string // "": standard output
	dry  bool
	err  error // what could not be written
}

// table replaces what stands between two markers.
func (r *report) table(name, text string) { r.put(name, "\n"+strings.TrimSpace(text)+"\n") }

// value replaces words in a sentence.
func (r *report) value(name, text string) { r.put(name, text) }

func (r *report) put(name, text string) {
	fmt.Printf("== %s\n%s\n", name, strings.TrimSpace(text))
	if r.dry {
		return
	}
	if err := r.replace(name, text); err != nil {
		r.err = errors.Join(r.err, fmt.Errorf("%s: %w", r.file, err))
	}
}

func (r *report) replace(name, text string) error {
	old, err := os.ReadFile(r.file)
	if err != nil {
		return err
	}
	begin, end := "<!-- bench:"+name+" -->", "<!-- /bench:"+name+" -->"
	before, rest, ok := strings.Cut(string(old), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("there is no place for %q", name)
	}
	return os.WriteFile(r.file, []byte(before+begin+text+end+after), 0o644)
}

func (r *report) plot(name, svg string) error {
	if r.dry {
		return nil
	}
	dir := filepath.Join(filepath.Dir(r.file), "img")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), []byte(svg), 0o644)
}

// machine says what it was measured on.
func machine(b *bench) string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	release := unix.ByteSliceToString(u.Release[:])
	release, _, _ = strings.Cut(release, "-")
	model := "a CPU of unknown kind"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	var si unix.Sysinfo_t
	_ = unix.Sysinfo(&si)
	fs := b.fs
	switch fs {
	case "ext4", "xfs", "btrfs":
		fs += " in a sparse image on a loop device"
	}
	return fmt.Sprintf("%d cores (%s), %d GB of memory, Linux %s, %s, %s", runtime.NumCPU(), model, (int64(si.Totalram)*int64(si.Unit)+1<<29)>>30, release, fs, runtime.Version())
}

// others is the load average, and with it how far to trust the figures: 0 on a machine of one's own.
func others() float64 {
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) != nil {
		return 0
	}
	return float64(si.Loads[0]) / (1 << 16)
}

func today() string { return time.Now().UTC().Format(time.DateOnly) }
