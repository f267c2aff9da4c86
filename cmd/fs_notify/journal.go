package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"fs_notify/notify"
	"fs_notify/notify/feed"
	"fs_notify/notify/journal"
)

const journalHelp = `Look at the journal in a state directory, beside the process that writes it or without one.
Nothing is changed.`

const journalExample = `  fs_notify journal stat --state-dir /var/lib/fs_notify
  fs_notify journal dump --state-dir /var/lib/fs_notify --since 1h | jq -c 'select(.type == "child_file_removed") | [.time, .path]'
  fs_notify journal check --state-dir /var/lib/fs_notify`

// journalFlags are the flags of fs_notify journal.
type journalFlags struct {
	stateDir string
	json     bool     // stat: an object instead of lines
	since    string   // dump: where to begin
	root     string   // dump: only the batches of the root with this file ID
	filter   []string // dump: only these types
	count    int      // dump: end after so many notifications
}

func (a *app) journalCommand() *cobra.Command {
	var o journalFlags
	cmd := &cobra.Command{
		Use:     "journal",
		Short:   "Look at the journal in a state directory",
		Long:    journalHelp,
		Example: journalExample,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return misused("what of the journal? There are stat, dump and check")
			}
			return misused("unknown command %q%s", "journal "+args[0], didYouMean(args[0], []string{"stat", "dump", "check"}))
		},
		RunE: func(*cobra.Command, []string) error { return nil }, // without one, cobra shows the help and succeeds
	}
	cmd.PersistentFlags().StringVar(&o.stateDir, "state-dir", "", "the state `directory`")
	sub := func(use, short, long string, f func(context.Context, *journalFlags, *journal.Reader) error) *cobra.Command {
		c := &cobra.Command{Use: use, Short: short, Long: long, Args: noArguments,
			RunE: a.runs(func(ctx context.Context, cmd *cobra.Command) error {
				if o.stateDir == "" {
					return misused("which journal? Name its directory with --state-dir")
				}
				r, err := journal.OpenReader(o.stateDir)
				if err != nil {
					return err
				}
				defer r.Close()
				return f(ctx, &o, r)
			})}
		cmd.AddCommand(c)
		return c
	}
	stat := sub("stat", "Tell what a journal holds, at a glance",
		"Tell how much a journal holds, from when to when, and of which roots.", a.journalStat)
	stat.Flags().BoolVar(&o.json, "json", false, "print a JSON object")
	dump := sub("dump", "Print what a journal holds", `Print the notifications that a journal holds, oldest first, as one JSON object a line:
type, spine, path (from the root), stream_name, then seq, time, kind, size, mode, owner,
group, mtime, link, actor, and the batch and the file ID of the root. A batch that is
damaged is a line {"batch":N,"damaged":"why"}, and makes the exit code 1.`, func(ctx context.Context, o *journalFlags, r *journal.Reader) error {
		err := a.journalDump(ctx, o, r)
		if ctx.Err() != nil && errors.Is(err, context.Canceled) || errors.Is(err, errOutputClosed) {
			return nil // whoever reads it has enough
		}
		return err
	})
	f := dump.Flags()
	f.SortFlags = false
	f.StringVar(&o.since, "since", "oldest", "begin after a `SEQ`, at a time (2026-01-31T08:00:00Z), a span ago (5m, 7d), or with the oldest")
	f.StringVar(&o.root, "root-id", "", "only the root with this file `ID`")
	f.StringArrayVar(&o.filter, "filter", nil, "only these notification `types`: several words or a comma list")
	f.IntVar(&o.count, "count", 0, "end after `N` notifications")
	sub("check", "Read everything and tell what is wrong", `Read the whole journal and the checkpoints of the trees beside it, with all checksums, and
print each problem on a line. The exit code is 1 if there is any.`, a.journalCheck)
	return cmd
}

func (a *app) journalStat(ctx context.Context, o *journalFlags, r *journal.Reader) error {
	s, err := r.Stat(ctx)
	if err != nil {
		return err
	}
	if o.json {
		return a.statJSON(s)
	}
	w := bufio.NewWriter(a.stdout)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("batches", "%s, %s of notifications", humanize.Comma(s.Batches), humanize.IBytes(uint64(s.BodyBytes)))
	line("oldest", "%d (after %s)", s.Bounds.Oldest(), stamp(s.Bounds.Base))
	line("newest", "%d (%s)", s.Bounds.Newest(), stamp(s.Bounds.Head))
	line("files", "journal.db %s, tree.db %s", humanize.IBytes(uint64(s.FileBytes)), humanize.IBytes(uint64(s.TreeBytes)))
	line("checkpoint", "%d (%s)", s.Folded.End(), stamp(s.Folded))
	for _, root := range s.Roots {
		newest, tree := "nothing kept", "no checkpoint"
		if root.Newest != 0 {
			newest = "newest " + stamp(root.Newest)
		}
		if root.Tree {
			tree = "checkpoint since " + stamp(root.Since)
		}
		line("root", "%d: %s batches, %s, %s", root.Root, humanize.Comma(root.Batches), newest, tree)
	}
	return w.Flush()
}

// statJSON prints what journalStat does for programs: sizes in bytes, positions as Seq, file IDs as strings.
func (a *app) statJSON(s *journal.Stat) error {
	type root struct {
		Root       string     `json:"root"`
		Batches    int64      `json:"batches"`
		Newest     notify.Seq `json:"newest"`
		Checkpoint bool       `json:"checkpoint"`
	}
	roots := []root{}
	for _, r := range s.Roots {
		out := root{Root: r.Root.String(), Batches: r.Batches, Checkpoint: r.Tree}
		if r.Newest != 0 {
			out.Newest = r.Newest.End()
		}
		roots = append(roots, out)
	}
	b, err := json.Marshal(struct {
		Batches    int64      `json:"batches"`
		Bytes      int64      `json:"notification_bytes"`
		Oldest     notify.Seq `json:"oldest"`
		OldestTime time.Time  `json:"oldest_time"`
		Newest     notify.Seq `json:"newest"`
		NewestTime time.Time  `json:"newest_time"`
		Checkpoint notify.Seq `json:"checkpoint"`
		FileBytes  int64      `json:"journal_bytes"`
		TreeBytes  int64      `json:"tree_bytes"`
		Roots      []root     `json:"roots"`
	}{s.Batches, s.BodyBytes, s.Bounds.Oldest(), s.Bounds.Base.Time(), s.Bounds.Newest(), s.Bounds.Head.Time(), s.Folded.End(), s.FileBytes, s.TreeBytes, roots})
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(append(b, '\n'))
	return err
}

func stamp(n notify.BatchNumber) string { return n.Time().Format("2006-01-02T15:04:05.000Z") }

func (a *app) journalDump(ctx context.Context, o *journalFlags, r *journal.Reader) error {
	after, types, root, err := o.dumpWhat(a)
	if err != nil {
		return err
	}
	if root != 0 {
		if err := hasRoot(ctx, r, root); err != nil {
			return err
		}
	}
	w := bufio.NewWriterSize(pipe{ctx, a.stdout}, 64<<10)
	damaged, left := 0, o.count
	var buf []byte
batches:
	for b, err := range r.Batches(ctx, after.Batch()) {
		switch {
		case b == nil:
			return errors.Join(w.Flush(), err)
		case err != nil:
			damaged++
			buf = append(buf[:0], `{"batch":`...)
			buf = strconv.AppendUint(buf, uint64(b.Number), 10)
			buf = append(buf, `,"damaged":`...)
			buf = append(notify.AppendName(buf, notify.Message(err)), "}\n"...)
			if _, err := w.Write(buf); err != nil {
				return err
			}
			continue
		case root != 0 && b.Root != root:
			continue
		}
		for i := range b.Notes {
			n := &b.Notes[i]
			if n.Seq <= after || !types.Has(n.Type) {
				continue
			}
			if err := writeNote(w, &buf, b, n); err != nil {
				return err
			}
			if left--; left == 0 {
				break batches
			}
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if damaged > 0 {
		return fmt.Errorf("%d damaged batches: readers are told that they are gone", damaged)
	}
	return nil
}

// writeNote writes one line of a dump.
func writeNote(w io.Writer, buf *[]byte, b *notify.Batch, n *notify.Notification) error {
	line := notify.AppendJSON((*buf)[:0], n, 0, notify.FieldsAll)
	line = append(line[:len(line)-1], `,"batch":`...)
	line = strconv.AppendUint(line, uint64(b.Number), 10)
	line = append(line, `,"root":"`...)
	line = strconv.AppendUint(line, uint64(b.Root), 10)
	line = append(line, `"}`...)
	*buf = line
	_, err := w.Write(append(appendOneLine(nil, line), '\n'))
	return err
}

// hasRoot says whether a journal has something of a root, and if not, of which it has.
func hasRoot(ctx context.Context, r *journal.Reader, root notify.FileID) error {
	s, err := r.Stat(ctx)
	if err != nil {
		return err
	}
	var there []string
	for _, known := range s.Roots {
		if known.Root == root {
			return nil
		}
		there = append(there, known.Root.String())
	}
	if len(there) == 0 {
		return fmt.Errorf("--root-id %d: the journal is of no root yet", root)
	}
	return fmt.Errorf("--root-id %d: the journal has nothing of it, only of %s", root, strings.Join(there, ", "))
}

// dumpWhat reads the flags that choose what is dumped.
func (o *journalFlags) dumpWhat(a *app) (after notify.Seq, types notify.TypeSet, root notify.FileID, err error) {
	bad := func(flag string, err error) (notify.Seq, notify.TypeSet, notify.FileID, error) {
		return 0, 0, 0, misused("--%s: %s", flag, notify.Message(err))
	}
	since, err := feed.ParseSince(o.since, time.Now())
	if err != nil {
		return 0, 0, 0, misused("--since: %q is no place to begin: it should be a SEQ, a time like 2026-01-31T08:00:00Z, a span like 5m or 7d, or oldest", o.since)
	}
	switch since.Kind {
	case feed.SinceCursor:
		after = since.Cursor.Seq
	case feed.SinceTime:
		if n := notify.NumberAt(since.Time); n > 0 {
			after = (n - 1).End()
		}
	case feed.SinceOldest:
	default: // what a watch begins with, if it is from where one setting is for all commands
		if !a.typed("since") {
			break
		}
		return 0, 0, 0, misused("--since %s: a journal holds what has happened, begin with a SEQ, a time, a span or oldest", o.since)
	}
	types = notify.AllTypes
	if len(o.filter) > 0 {
		if types, err = parseFilter(o.filter); err != nil {
			return bad("filter", err)
		}
	}
	if o.root != "" {
		if root, err = notify.ParseFileID(o.root); err != nil {
			return bad("root-id", err)
		}
	}
	if o.count < 0 || o.count == 0 && a.typed("count") {
		return 0, 0, 0, misused("--count %d: it should be 1 or more", o.count)
	}
	return after, types, root, nil
}

func (a *app) journalCheck(ctx context.Context, o *journalFlags, r *journal.Reader) error {
	w := bufio.NewWriter(a.stdout)
	problems := 0
	c, err := r.Check(ctx, func(p journal.Problem) {
		problems++
		var where []string
		if p.Batch != 0 {
			where = append(where, fmt.Sprintf("batch %d", p.Batch))
		}
		if p.Root != 0 {
			where = append(where, fmt.Sprintf("root %d", p.Root))
		}
		if len(where) > 0 {
			fmt.Fprintf(w, "%s: ", strings.Join(where, ", "))
		}
		fmt.Fprintln(w, oneLine(p.Text))
		w.Flush()
	})
	if errors.Is(err, context.Canceled) {
		return errors.New("the check was cut short: it says nothing of the rest")
	}
	if err != nil {
		return err
	}
	found := fmt.Sprintf("%d problems", problems)
	switch problems {
	case 0:
		found = "no problem"
	case 1:
		found = "1 problem"
	}
	fmt.Fprintf(w, "%s in %s batches with %s notifications and %d trees with %s entries\n", found,
		humanize.Comma(c.Batches), humanize.Comma(c.Notes), c.Trees, humanize.Comma(c.Entries))
	if err := w.Flush(); err != nil {
		return err
	}
	if problems > 0 {
		return errors.New("the journal is damaged: the next start goes on with what is whole, and readers are told what is gone")
	}
	return nil
}
