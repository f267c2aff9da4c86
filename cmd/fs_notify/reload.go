package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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

// reloadConfig reads the configuration file once more. What can follow it does, as long as neither command line nor environment
// say otherwise; whatever else has changed in it is named, as it takes a restart.
func (a *app) reloadConfig(cmd *cobra.Command) error {
	if a.common.config == "" {
		return nil
	}
	values, err := readConfig(a.common.config)
	if err != nil {
		return err
	}
	now := make(map[string][]string)
	for _, item := range values {
		key, _ := item.Key.(string)
		if f := cmd.Flags().Lookup(key); f == nil {
			continue // another command's, or nobody's
		}
		if now[key], err = configTexts(item.Value); err != nil {
			return errors.New(key + " " + err.Error())
		}
	}
	var late []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if from := a.from[f.Name]; from != "" && from != origin(a.common.config) || slices.Equal(now[f.Name], a.fromConfig[f.Name]) {
			return
		}
		if !slices.Contains(reloadable, f.Name) {
			late = append(late, f.Name)
			return
		}
		text := f.DefValue
		if v := now[f.Name]; len(v) == 1 {
			text = v[0]
		}
		before := f.Value.String()
		e := f.Value.Set(text)
		if e == nil {
			e = a.setLevel()
		}
		if e != nil {
			f.Value.Set(before)
			err = errors.Join(err, e)
			return
		}
		if a.fromConfig[f.Name] = now[f.Name]; now[f.Name] == nil {
			delete(a.fromConfig, f.Name)
		}
	})
	if slices.Sort(late); len(late) > 0 {
		a.log.Warn("changed in the configuration file, in force after a restart", "keys", strings.Join(late, ", "))
	}
	return err
}
