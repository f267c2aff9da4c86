//go:build linux

// Command bench measures fs_notify beside its peers, in one run on one machine, and writes the tables of
// docs/benchmarks.md and its plots.
//
//	go run ./bench                     everything
//	go run ./bench idle full           some of it
//	go run ./bench -scale 1 full       the loads at full size
//	go run ./bench profile             where the CPU time of the whole line goes, for go tool pprof
//
// What is measured runs in processes of its own; this program runs itself again as their writers, readers and subscribers.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const usageText = `usage: go run ./bench [flags] [idle | full | race | start | growth | journal | fan | crowd]...
       go run ./bench [flags] profile

Without names all are measured. The tables go into docs/benchmarks.md, the plots into docs/img.
As root, each measurement gets a file system of its own, and fanotify can be used.

`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if done, err := runRole(args); done {
		return err
	}
	b := &bench{report: &report{}}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.Usage = func() { fmt.Fprint(f.Output(), usageText); f.PrintDefaults() }
	f.StringVar(&b.fs, "fs", "ext4", "`file system` to measure on: ext4, xfs, btrfs or tmpfs")
	f.StringVar(&b.dir, "dir", os.TempDir(), "`directory` for images")
	f.Float64Var(&b.scale, "scale", 0.25, "size of the loads; 1 is 1.2 million operations")
	f.Float64Var(&b.seconds, "seconds", 8, "of events in one fan-out measurement")
	f.IntVar(&b.runs, "runs", 3, "how often each is measured")
	f.StringVar(&b.only, "only", "", "measure only these `subjects`, separated by commas")
	f.StringVar(&b.binary, "bin", "", "fs_notify `binary` to measure; built from this module if empty")
	f.StringVar(&b.report.file, "o", "", "`file` whose tables are replaced; docs/benchmarks.md of this module if empty")
	f.BoolVar(&b.report.dry, "n", false, "print the tables only")
	watcher := f.String("watcher", "auto", "profile: how to watch")
	journaled := f.Bool("journal", false, "profile: with a journal on disk")
	cpu := f.String("cpuprofile", "cpu.pprof", "profile: `file`")
	mem := f.String("memprofile", "", "profile: `file` for allocations")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	all := []struct {
		name string
		run  func() error
	}{{"idle", b.idle}, {"full", b.full}, {"race", b.races}, {"start", b.starts}, {"growth", b.growth}, {"journal", b.journal}, {"fan", b.fan}, {"crowd", b.crowd}}
	endWithPlaces()
	names := f.Args()
	if slices.Equal(names, []string{"profile"}) {
		p, err := newPlace(b.fs, b.dir)
		if err != nil {
			return err
		}
		defer p.close()
		state := ""
		if *journaled {
			if state, err = os.MkdirTemp(b.dir, "fs_notify-bench-state-"); err != nil {
				return err
			}
			defer os.RemoveAll(state)
		}
		return profile(os.Stdout, p, *watcher, state, b.scale, *cpu, *mem)
	}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(m struct {
			name string
			run  func() error
		}) bool {
			return m.name == name
		}) {
			return fmt.Errorf("there is no measurement %q", name)
		}
	}
	end, err := b.prepare()
	if err != nil {
		return err
	}
	defer end()
	b.logf("%s; load average %.1f", machine(b), others())
	b.report.value("machine", machine(b))
	for _, m := range all {
		if len(names) > 0 && !slices.Contains(names, m.name) {
			continue
		}
		load := others()
		if err := m.run(); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		b.report.value("run-"+m.name, fmt.Sprintf("%s, %d runs, scale %g, load average of the machine before it %.1f", today(), b.runs, b.scale, load))
	}
	return b.report.err
}

// moduleDir is where the module is that this program belongs to.
func moduleDir() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("go list -m: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// prepare finds the module and builds the binary.
func (b *bench) prepare() (end func(), err error) {
	end = func() {}
	top, err := moduleDir()
	if err != nil {
		return end, err
	}
	if b.report.file == "" {
		b.report.file = filepath.Join(top, "docs", "benchmarks.md")
	}
	if b.binary != "" {
		return end, nil
	}
	dir, err := os.MkdirTemp(b.dir, "fs_notify-bench-bin-")
	if err != nil {
		return end, err
	}
	b.binary = filepath.Join(dir, "fs_notify")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", b.binary, "./cmd/fs_notify")
	build.Dir = top
	if out, err := build.CombinedOutput(); err != nil {
		os.RemoveAll(dir)
		return end, fmt.Errorf("go build: %w: %s", err, out)
	}
	return func() { os.RemoveAll(dir) }, nil
}

// runRole is this program in another role, as a writer, a subscriber, a server: the first argument says which.
func runRole(args []string) (done bool, err error) {
	if len(args) == 0 {
		return false, nil
	}
	role, a := args[0], args[1:]
	number := func(i int) float64 {
		v, e := strconv.ParseFloat(a[i], 64)
		err = errors.Join(err, e)
		return v
	}
	switch {
	case role == "load" && len(a) == 3:
		scale := number(2)
		return true, errors.Join(err, roleLoad(a[0], a[1], scale))
	case role == "fold" && len(a) == 3:
		return true, roleFold(a[0], a[1], a[2])
	case role == "raw" && len(a) == 2:
		return true, roleRaw(a[0], a[1])
	case role == "walk" && len(a) == 1:
		return true, roleWalk(a[0])
	case role == "heap" && len(a) == 2:
		files := int(number(1))
		return true, errors.Join(err, roleHeap(a[0], files))
	case role == "fill" && len(a) == 4:
		batches, notes := int(number(1)), int(number(2))
		return true, errors.Join(err, roleFill(a[0], batches, notes, a[3] == "true"))
	case role == "fan" && len(a) == 7:
		n, rate, seconds, stuck := int(number(3)), number(4), number(5), int(number(6))
		return true, errors.Join(err, roleFan(a[0], a[1], a[2], n, rate, seconds, stuck))
	case role == "fanserver" && len(a) == 1:
		return true, roleFanServer(a[0])
	case role == "pinned" && len(a) > 1:
		return true, rolePinned(a[0], a[1:])
	}
	return false, nil
}
