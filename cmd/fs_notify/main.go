// Command fs_notify watches directory trees and tells what changes in them: on this machine
// (fs_notify --path DIR), as the client of a server (fs_notify --host H --path DIR), or as the
// server itself (fs_notify serve).
//
// This is the one package that knows all others: it reads flags, environment and configuration
// file, handles signals and exit codes, and joins watch, journal, feed, server and client.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"fs_notify/notify"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitMisuse = 2
)

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	stopOnSignals(cancel)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// sameSignal is how close two signals are that mean one thing: timeout(1), for instance, sends its own
// to the command and to the whole group.
const sameSignal = 250 * time.Millisecond

// stopOnSignals calls stop at the first SIGINT, SIGTERM or SIGQUIT, and exits at once at the second. A
// closed pipe is an error of write, as on any other descriptor, not a signal.
func stopOnSignals(stop func()) {
	signal.Ignore(syscall.SIGPIPE)
	got := make(chan os.Signal, 2)
	signal.Notify(got, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	go func() { // lives as long as the process
		<-got
		stop()
		for first := time.Now(); ; {
			<-got
			if time.Since(first) > sameSignal {
				os.Exit(exitFailed)
			}
		}
	}()
}

// grace is how long what waits in a system call may still do so when the command should end: less than sameSignal, so that the second
// signal finds a terminal as it was.
const grace = 200 * time.Millisecond

// unlessEnded calls f, which may wait in a system call that nothing wakes, such as a write to a full pipe. If it still does when ctx has
// ended, it is left behind.
func unlessEnded[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
	}
	select {
	case r := <-done:
		return r.v, r.err
	case <-time.After(grace):
		return *new(T), context.Cause(ctx)
	}
}

// run is the whole command. It ends in good order when ctx does, and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, status: newStatus(stderr), lookupEnv: os.LookupEnv, environ: os.Environ}
	err := a.execute(ctx, args)
	a.status.clear()
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, new(misuse)):
		fmt.Fprintf(a.status, "fs_notify: %s\nRun \"%s --help\" for usage.\n", oneLine(err.Error()), a.command)
		return exitMisuse
	}
	fmt.Fprintf(a.status, "fs_notify: %s\n", oneLine(explain(err)))
	return exitFailed
}

// app is what all commands share.
type app struct {
	stdin     io.Reader
	stdout    io.Writer
	status    *status // standard error: log lines, and one line of progress below them
	lookupEnv func(string) (string, bool)
	environ   func() []string
	log       *slog.Logger
	args      []string
	command   string // "fs_notify serve", for hints
	rehearsal bool   // find out whether the command would start, and do nothing
	running   bool   // flags and arguments were in order
	common    commonFlags
	from      map[string]origin // where the value of each flag that has one came from

	level      slog.LevelVar
	fromConfig map[string][]string // what the configuration file says of this command's flags
	reloads    []reload            // what SIGHUP does
}

// commonFlags are understood by every command.
type commonFlags struct {
	config    string // YAML file with the values of flags
	logLevel  string // debug, info, warn, error
	logFormat string // auto, text, json
}

// misuse is an error of whoever typed the command.
type misuse struct{ msg string }

func (m misuse) Error() string { return m.msg }

func misused(format string, args ...any) error { return misuse{fmt.Sprintf(format, args...)} }

// execute parses the arguments and runs the command that they name.
func (a *app) execute(ctx context.Context, args []string) error {
	a.args = args
	root := a.rootCommand()
	root.SetArgs(spreadFilter(args))
	root.SetIn(a.stdin)
	out := &printed{Writer: a.stdout}
	root.SetOut(out)
	root.SetErr(a.status)
	refuseUnknownTopics(root)
	cmd, err := root.ExecuteContextC(ctx)
	if a.command == "" {
		a.command = cmd.CommandPath()
	}
	switch {
	case errors.Is(out.err, syscall.EPIPE): // its reader has what it wanted
		return nil
	case out.err != nil:
		return fmt.Errorf("the output cannot be written: %w", out.err)
	}
	if err != nil && !a.running && !errors.As(err, new(misuse)) {
		err = misuse{firstLine(err.Error())}
	}
	return err
}

// printed takes what cobra prints, help and completions, and keeps the first error: cobra passes over some.
type printed struct {
	io.Writer
	err error
}

func (p *printed) Write(b []byte) (int, error) {
	n, err := p.Writer.Write(b)
	if p.err == nil {
		p.err = err
	}
	return n, err
}

// runs makes a cobra function of f: it completes the flags from environment and file, and sets up the log.
func (a *app) runs(f func(ctx context.Context, cmd *cobra.Command) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.command = cmd.CommandPath()
		if err := a.configure(cmd); err != nil {
			return err
		}
		if err := a.setLog(cmd.Name() == "serve"); err != nil {
			return err
		}
		a.warnOfEnvironment(cmd)
		a.running = true
		return f(cmd.Context(), cmd)
	}
}

// setLog makes the logger. Servers log JSON unless someone is looking; the other commands text.
func (a *app) setLog(service bool) error {
	if err := a.setLevel(); err != nil {
		return err
	}
	o := &slog.HandlerOptions{Level: &a.level}
	switch a.common.logFormat {
	case "text":
		a.log = slog.New(slog.NewTextHandler(a.status, o))
	case "json":
		a.log = slog.New(slog.NewJSONHandler(a.status, o))
	case "auto":
		if service && !a.status.tty {
			a.log = slog.New(slog.NewJSONHandler(a.status, o))
		} else {
			a.log = slog.New(slog.NewTextHandler(a.status, o))
		}
	default:
		return misused("--log-format %s is none of auto, text and json", a.common.logFormat)
	}
	return nil
}

// setLevel makes the log follow --log-level.
func (a *app) setLevel() error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.common.logLevel)); err != nil {
		return misused("--log-level %s is none of debug, info, warn and error", a.common.logLevel)
	}
	a.level.Set(level)
	return nil
}

// explain says what went wrong and, where something can be done, what.
func explain(err error) string {
	var e *notify.Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	s := notify.Message(err)
	switch e.Kind {
	case notify.Internal, notify.Unavailable, notify.Corrupt:
		if e.Err != nil {
			s += ": " + e.Err.Error()
		}
	case notify.Unauthorized:
		s += " (the server wants to know who you are)"
	}
	return s
}

// oneLine keeps a message on the line that it is printed on, whatever names it carries.
func oneLine(s string) string {
	return strings.TrimSpace(printable(strings.ReplaceAll(s, "\n", "; "), false))
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
