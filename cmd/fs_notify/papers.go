package main

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"fs_notify/notify"
)

const manHelp = `Write the manual pages of all commands into a directory: fs_notify.1, fs_notify-serve.1, and
so on. Packages install them below /usr/share/man/man1.`

// manCommand makes manual pages of the commands themselves.
func (a *app) manCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "man DIR",
		Short:   "Write manual pages",
		Long:    manHelp,
		Example: "  fs_notify man /usr/local/share/man/man1",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return misused("name one directory to write to")
			}
			return nil
		},
	}
	cmd.RunE = a.runs(func(ctx context.Context, cmd *cobra.Command) error {
		dir := cmd.Flags().Arg(0)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		root := cmd.Root()
		root.DisableAutoGenTag = true // the same program, the same pages
		day := time.Time{}
		if t, err := time.Parse(time.DateOnly, manDate); err == nil {
			day = t
		}
		return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "fs_notify " + versionNumber(), Manual: "fs_notify", Date: &day}, dir)
	})
	return cmd
}

// manDate is on the manual pages: when the commands last changed for who uses them.
const manDate = "2026-12-01"

// refuseUnknownTopics makes mistakes of the words behind "help" and "completion", which cobra answers with a help and success.
func refuseUnknownTopics(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Args = func(cmd *cobra.Command, args []string) error {
				about, rest, err := root.Find(args)
				if err != nil || len(rest) > 0 {
					return misused("there is no help on %q%s", strings.Join(args, " "), didYouMean(args[len(args)-max(1, len(rest))], commandNames(about)))
				}
				return nil
			}
		case "completion":
			cmd.RunE = func(*cobra.Command, []string) error { return nil } // without one, cobra shows the help and succeeds
			cmd.Args = func(cmd *cobra.Command, args []string) error {
				shells := strings.Join(commandNames(cmd), ", ")
				if len(args) == 0 {
					return misused("of which shell? There are %s", shells)
				}
				return misused("completion %s: there are %s", args[0], shells)
			}
		}
	}
}

// commandNames lists what may stand behind a command.
func commandNames(cmd *cobra.Command) (names []string) {
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	return names
}

// completions makes a shell offer words where there are few to choose from, and directories where one is wanted.
func completions(root *cobra.Command) {
	var types []string
	for _, t := range notify.AllTypes.Types() {
		types = append(types, t.String())
	}
	words := map[string][]string{
		"filter": types, "watcher": watchers(), "fields": {"qumulo", "all"},
		"log-level": {"debug", "info", "warn", "error"}, "log-format": {"auto", "text", "json"},
		"since": {"oldest", "snapshot", "now"},
	}
	for _, cmd := range allCommands(root) {
		if cmd.ValidArgsFunction == nil && cmd.Name() != "man" {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
		for flag, list := range words {
			if flag == "since" && cmd.Name() == "dump" { // of what has happened
				list = list[:1]
			}
			if cmd.LocalFlags().Lookup(flag) != nil {
				cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp))
			}
		}
		for _, flag := range []string{"path", "root", "state-dir"} {
			if cmd.LocalFlags().Lookup(flag) != nil {
				cmd.MarkFlagDirname(flag)
			}
		}
	}
}
