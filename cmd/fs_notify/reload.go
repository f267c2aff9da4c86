package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// reload is one thing that SIGHUP does.
type reload struct {
	what string // for the log
	do   func() error
}

// onReload has do called at each SIGHUP, after those that were given before. What it returns is logged, and changes nothing
// else: what was in force stays in force.
func (a *app) onReload(what string, do func() error) {
	a.reloads = append(a.reloads, reload{what, do})
}

// hangups gives each SIGHUP, which from now on ends nothing.
func hangups() <-chan os.Signal {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	return hup
}

// reloadOn calls what onReload was given whenever hup says so, until ctx ends. around is told when it begins and ends.
func (a *app) reloadOn(ctx context.Context, hup <-chan os.Signal, around func(begin bool)) {
	for {
		select {
		case <-hup:
		case <-ctx.Done():
			return
		}
		around(true)
		for _, r := range a.reloads {
			if err := r.do(); err != nil {
				a.log.Error("not reloaded: what was in force stays in force", "what", r.what, "err", oneLine(err.Error()))
			} else {
				a.log.Info("reloaded", "what", r.what)
			}
		}
		around(false)
	}
}

// reloadable are the flags that follow the configuration file while the program runs.
var reloadable = []string{"log-level"}

// reloadConfig reads the configuration file once more. One whose keys or values are wrong in themselves is an error and changes nothing; what
// they name, such as directories, is not looked at. What can follow the file does, as long as neither command line nor environment say otherwise; whatever else has changed in it is named, as it
// takes a restart.
func (a *app) reloadConfig(ctx context.Context) error {
	next := &app{status: newStatus(io.Discard), lookupEnv: a.lookupEnv, environ: a.environ, rehearsal: true}
	if err := next.execute(ctx, a.args); err != nil {
		return err
	}
	changed := make(map[string]bool)
	for _, values := range []map[string][]string{a.fromConfig, next.fromConfig} {
		for key := range values {
			changed[key] = !slices.Equal(a.fromConfig[key], next.fromConfig[key])
		}
	}
	var late []string
	for key := range changed {
		switch {
		case !changed[key]:
		case slices.Contains(reloadable, key):
			delete(a.fromConfig, key)
			if v, ok := next.fromConfig[key]; ok {
				a.fromConfig[key] = v
			}
		default:
			late = append(late, key)
		}
	}
	a.common.logLevel = next.common.logLevel
	if slices.Sort(late); len(late) > 0 {
		a.log.Warn("changed in the configuration file, in force after a restart", "keys", strings.Join(late, ", "))
	}
	return a.setLevel()
}
