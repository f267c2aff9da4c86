package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fs_notify/notify"
	"fs_notify/notify/client"
	"fs_notify/notify/feed"
)

const watchHelp = `Tell what changes in a directory: names that come, go and move, data written, and
attributes changed, each with its path and the file IDs from the directory down.

With --path the directory is watched on this machine, with nothing else running. With
--host (or FS_NOTIFY_HOST) this is the client of an fs_notify server; it reconnects by
itself and goes on where it left off. ^C, ^D, SIGTERM and SIGQUIT end it, with exit code 0.

Every flag can also be set in the environment (FS_NOTIFY_STATE_DIR for --state-dir) and
in the YAML file that --config names (state-dir: …); flags win over the environment, and
that over the file. Lists are separated by colons in the environment, origins and
networks by spaces, and anything by line breaks.`

const watchExample = `  fs_notify --path . --recursive
  fs_notify --path /srv/data --recursive --filter child_file_added child_file_moved_to --ndjson | jq -r .path
  fs_notify --host files.example --path /srv/data --recursive --ndjson --cursor-file ~/.cache/data.cursor
  fs_notify serve --root /srv/data`

// watchFlags are the flags of the command without a name: fs_notify --path DIR.
type watchFlags struct {
	path      string   // directory; on the server with host
	id        string   // or its file ID; with host only
	recursive bool     // the whole subtree
	filter    []string // types, each value a list separated by commas
	json      bool     // output as qq --json
	ndjson    bool     // output one object a line
	fields    string   // qumulo or all
	since     string   // where to begin
	cursor    string   // file that keeps where to go on
	timeout   duration // end after so long without a notification
	count     int      // end after so many notifications
	file      string   // instead of standard output
	stateDir  string   // in process: the journal, kept between runs
	watcher   string   // in process: source
	include   []string // globs below path
	exclude   []string

	remoteFlags // without a host: in process
}

func (a *app) rootCommand() *cobra.Command {
	var o watchFlags
	cmd := &cobra.Command{
		Use:           "fs_notify --path DIR [flags]",
		Short:         "Tell what changes in a directory",
		Long:          watchHelp,
		Example:       watchExample,
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArguments,
		RunE:          a.runs(func(ctx context.Context, cmd *cobra.Command) error { return a.watch(ctx, &o) }),
	}
	cmd.SetFlagErrorFunc(flagError)
	cmd.SetVersionTemplate("{{.Version}}\n")
	p := cmd.PersistentFlags()
	p.StringVar(&a.common.config, "config", "", "YAML `file` with values of flags")
	p.StringVar(&a.common.logLevel, "log-level", "info", "what is logged to standard error: debug, info, warn, error")
	p.StringVar(&a.common.logFormat, "log-format", "auto", "text, json, or auto: json for a server whose log is no terminal")

	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.path, "path", "", "watch this `directory`; with --host its absolute path on the server")
	f.StringVar(&o.id, "id", "", "or the directory with this file `ID`; needs --host")
	f.BoolVar(&o.recursive, "recursive", false, "also all directories below it")
	f.StringArrayVar(&o.filter, "filter", nil, "only these notification `types`: several words or a comma list; may be repeated")
	f.StringArrayVar(&o.include, "include", nil, "only what matches this `glob` below the directory, such as '**/*.pdf'; may be repeated")
	f.StringArrayVar(&o.exclude, "exclude", nil, "leave out what matches this `glob` below the directory, such as '.git/**'; may be repeated")
	f.BoolVar(&o.json, "json", false, "print one JSON array that holds an array for each frame, as qq does")
	f.BoolVar(&o.ndjson, "ndjson", false, "print one JSON object a line, for jq and scripts")
	f.StringVar(&o.fields, "fields", "qumulo", "qumulo, or all: also seq, time, kind, size, mode, owner, group, mtime, link, actor")
	f.StringVar(&o.file, "file", "", "write to this `file` instead of standard output")
	f.IntVar(&o.count, "count", 0, "end after `N` notifications")
	f.Var(&o.timeout, "timeout", "end after so long without a notification: 30s, 5m, 2h; 0: never")
	f.StringVar(&o.since, "since", "", "begin in the past: a `SEQ`, a time (2026-01-31T08:00:00Z), a span (5m, 7d), oldest; with what is there: snapshot; or now, as without it")
	f.StringVar(&o.cursor, "cursor-file", "", "keep in this `file` how far the output went, and go on from there; wins over --since")
	f.StringVar(&o.stateDir, "state-dir", "", "without --host: keep the journal in this `directory`, so that --since and --cursor-file reach into earlier runs")
	f.StringVar(&o.watcher, "watcher", "auto", "without --host: how to watch: "+strings.Join(watchers(), ", "))
	o.remoteFlags.add(f, "ask the server on this `host`, instead of watching here", true)

	cmd.AddCommand(a.serveCommand(), a.journalCommand(), a.tokenCommand(), a.healthCommand(), a.manCommand(), a.versionCommand())
	cmd.AddCommand(a.sessionCommands()...)
	completions(cmd)
	return cmd
}

// flagError names the flag that may have been meant.
func flagError(cmd *cobra.Command, err error) error {
	var wrong *pflag.InvalidValueError
	if errors.As(err, &wrong) {
		return misused("invalid value %q for --%s: %s", wrong.GetValue(), wrong.GetFlag().Name, wrongValue(wrong.GetFlag(), wrong.Unwrap()))
	}
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return misuse{err.Error()}
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	n := notify.Nearest(unknown.GetSpecifiedName(), names)
	if n == "" {
		return misuse{err.Error()}
	}
	return misused("%v, did you mean --%s?", err, n)
}

// noArguments refuses words that belong to no flag.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasParent() {
		return misused("unexpected word %q", args[0])
	}
	if st, err := os.Stat(args[0]); err == nil && st.IsDir() {
		return misused("unexpected word %q: to watch that directory write --path %s", args[0], args[0])
	}
	return misused("unknown command %q%s", args[0], didYouMean(args[0], commandNames(cmd)))
}

// check finds what is wrong with the flags together; it looks at nothing but them.
func (o *watchFlags) check(a *app) (notify.TypeSet, error) {
	switch {
	case o.path == "" && o.id == "":
		return 0, misused("what should be watched? Name a directory with --path, or serve some with \"fs_notify serve\"")
	case o.path != "" && o.id != "":
		return 0, misused("--path and --id both name the directory: give one of them")
	case o.json && o.ndjson:
		return 0, misused("--json and --ndjson are two forms of output: give one of them")
	case o.fields != "qumulo" && o.fields != "all":
		return 0, misused("--fields %s is neither qumulo nor all", o.fields)
	case o.count < 0 || o.count == 0 && a.typed("count"):
		return 0, misused("--count %d: it should be 1 or more", o.count)
	case o.json && o.file != "" && o.cursor != "":
		return 0, misused("--json writes one array a run, which cannot be gone on with: use --ndjson with --file and --cursor-file")
	case o.fields == "all" && !o.json && !o.ndjson:
		return 0, misused("the table has no room for --fields all: add --json or --ndjson")
	}
	if _, err := feed.ParseSince(o.since, time.Now()); err != nil {
		return 0, misused("--since: %s", notify.Message(err))
	}
	types, err := parseFilter(o.filter)
	if err != nil {
		return 0, misused("--filter: %s", notify.Message(err))
	}
	if err := feed.CheckGlobs(o.include, o.exclude); err != nil {
		return 0, misused("--%s", notify.Message(err))
	}
	if o.host != "" {
		return types, o.checkClient(a)
	}
	return types, o.checkLocal(a)
}

func (o *watchFlags) checkClient(a *app) error {
	for _, f := range []string{"state-dir", "watcher"} {
		if a.typed(f) {
			return misused("--%s is for watching on this machine: the server on %s has its own", f, o.host)
		}
	}
	if o.path != "" && !strings.HasPrefix(o.path, "/") {
		return misused("--path %s: with --host it should be the absolute path on the server, such as /srv/data", o.path)
	}
	if o.id != "" {
		if _, err := notify.ParseFileID(o.id); err != nil {
			return misused("--id: %s", notify.Message(err))
		}
	}
	return o.remoteFlags.check()
}

func (o *watchFlags) checkLocal(a *app) error {
	for _, f := range []string{"port", "tls", "tls-ca", "insecure", "token-file", "credentials-store"} {
		if a.typed(f) {
			return misused("--%s needs --host: without it the directory is watched on this machine", f)
		}
	}
	switch {
	case o.id != "":
		return misused("--id needs --host: on this machine name the directory with --path")
	case o.stateDir == "" && o.cursor != "":
		return misused("--cursor-file needs --state-dir, which keeps what happens between the runs (or --host)")
	case o.stateDir == "" && o.since != "" && o.since != "now" && o.since != "snapshot":
		return misused("--since %s needs --state-dir, which keeps what happened before (or --host)", o.since)
	}
	if !slices.Contains(watchers(), o.watcher) {
		return misused("--watcher %s: there are %s", o.watcher, strings.Join(watchers(), ", "))
	}
	return nil
}

// errEnough ends a follower when --count is reached.
var errEnough = errors.New("enough")

// watch runs the command.
func (a *app) watch(ctx context.Context, o *watchFlags) error {
	types, err := o.check(a)
	if err != nil {
		return err
	}
	var dir string
	if o.host == "" {
		if err := answers(o.path); err != nil {
			return fmt.Errorf("--path %s: %w", o.path, err)
		}
		var none *missing
		if dir, err = existingDirectory(o.path); errors.As(err, &none) {
			return fmt.Errorf("%w (one on a server needs --host)", err)
		} else if err != nil {
			return err
		}
	}
	t := &tap{a: a, left: o.count, counted: o.count > 0, fields: notify.FieldsQumulo}
	if o.fields == "all" {
		t.fields = notify.FieldsAll
	}
	if o.cursor != "" {
		if a.writesTo(o, o.cursor) {
			return misused("--cursor-file %s is the output, too: each needs a file of its own", o.cursor)
		}
		t.cursors = &cursorFile{path: o.cursor}
		if t.start, err = t.cursors.load(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := t.open(ctx, o); err != nil {
		return orderly(ctx, err)
	}

	stopInput := cancelOnEOF(a.stdin, a.stdout, func() { cancel(errInputEnded) })
	defer stopInput()
	stopOutput := cancelOnClosedPipe(t.out.file, func() { cancel(errOutputClosed) })
	defer stopOutput()

	if o.host != "" {
		err = a.follow(ctx, o, types, t)
	} else {
		err = a.followHere(ctx, o, dir, types, t)
	}
	err = orderly(ctx, err)
	if e := orderly(ctx, t.close()); err == nil {
		err = e
	}
	return err
}

// writesTo says whether the output goes to the file that a name leads to, which need not be there yet.
func (a *app) writesTo(o *watchFlags, name string) bool {
	if o.file != "" {
		x, y := behindLinks(o.file), behindLinks(name)
		return sameFile(x, y) || filepath.Base(x) == filepath.Base(y) && sameFile(filepath.Dir(x), filepath.Dir(y))
	}
	f, ok := a.stdout.(*os.File)
	if !ok {
		return false
	}
	out, errOut := f.Stat()
	st, err := os.Stat(name)
	return errOut == nil && err == nil && os.SameFile(out, st)
}

// sameFile says whether two names are of one file.
func sameFile(x, y string) bool {
	a, errA := os.Stat(x)
	b, errB := os.Stat(y)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

var (
	errInputEnded   = errors.New("end of input")
	errOutputClosed = errors.New("the reader of the output has gone")
)

// orderly gives nil for an err that only says that the watch has ended as it should: ctx did, or there was enough. What goes
// wrong after that still counts.
func orderly(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if errors.Is(err, errOutputClosed) || cause != nil && (errors.Is(err, cause) || errors.Is(err, context.Canceled)) ||
		errors.Is(err, errEnough) || errors.Is(err, client.ErrIdle) {
		return nil
	}
	return err
}

// missing is a directory that is not there.
type missing struct{ path string }

func (m *missing) Error() string {
	return fmt.Sprintf("there is no directory %s on this machine", m.path)
}

// absolute gives a path that does not depend on the working directory. It leaves ".." where it is: behind a link, that is not the
// directory that the link is in.
func absolute(path string) (string, error) {
	if runtime.GOOS == "windows" { // which takes ".." out before it follows links, as Abs does
		return filepath.Abs(path)
	}
	if filepath.IsAbs(path) {
		return path, nil
	}
	wd, err := os.Getwd()
	return wd + string(filepath.Separator) + path, err
}

// answerWait is how long the file system of a directory that is to be watched may take to say anything.
const answerWait = 10 * time.Second

// answers looks at a directory, or at that of /name=directory, and gives an error if the file system says nothing of it: a dead server would be waited for without end.
func answers(arg string) error {
	said := make(chan struct{})
	go func() {
		defer close(said)
		os.Stat(arg)
		if _, dir, ok := strings.Cut(arg, "="); ok {
			os.Stat(dir)
		}
	}()
	select {
	case <-said:
		return nil
	case <-time.After(answerWait):
		return errors.New("the file system does not answer")
	}
}

// existingDirectory gives the real, absolute path of a directory, or says what is in its place.
func existingDirectory(path string) (string, error) {
	abs, err := absolute(path)
	if err != nil {
		return "", err
	}
	dir, err := filepath.EvalSymlinks(abs)
	if errors.Is(err, fs.ErrNotExist) {
		return "", &missing{abs}
	}
	if err != nil {
		return "", fmt.Errorf("%s cannot be watched: %w", abs, err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", fmt.Errorf("%s cannot be watched: %w", abs, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("%s cannot be watched: %w", abs, err)
	}
	if !st.IsDir() {
		return "", fmt.Errorf("%s is not a directory: watch the one that it is in, %s", abs, filepath.Dir(dir))
	}
	return dir, nil
}

// tap takes notifications from where they come, writes them out, counts them, and keeps the cursor.
type tap struct {
	a       *app
	out     *output
	closer  io.Closer // the --file
	fields  notify.Fields
	counted bool // --count
	left    int  // notifications that may still be written
	cursors *cursorFile
	start   notify.Cursor // what the cursor file held; zero: nothing
}

// open makes the output. What a file holds stays until the watch is in force.
func (t *tap) open(ctx context.Context, o *watchFlags) error {
	w := t.a.stdout
	if o.file != "" {
		mode := 0
		if t.cursors != nil {
			mode = os.O_APPEND
		}
		f, err := unlessEnded(ctx, func() (*os.File, error) { return os.OpenFile(o.file, os.O_WRONLY|os.O_CREATE|mode, 0o666) }) // a FIFO waits for its reader
		if err != nil {
			return fmt.Errorf("the output cannot be written: %w", err)
		}
		w, t.closer = f, f
	}
	var p printer
	switch {
	case o.json:
		p = &array{}
	case o.ndjson:
		p = &lines{}
	default:
		p = &table{}
	}
	t.out = newOutput(ctx, w, p)
	t.out.sync = t.cursors != nil && isRegular(t.out.file)
	t.out.prepare = t.prepare
	return nil
}

// prepare makes a file ready for its first byte: with a cursor file it is gone on with, also if that holds nothing yet; else --file begins anew.
func (t *tap) prepare() error {
	f := t.out.file
	switch {
	case !isRegular(f):
		return nil
	case t.cursors == nil && t.closer == nil:
		return nil // where redirected output begins is the shell's business
	case t.cursors == nil:
		if err := f.Truncate(0); err != nil {
			return fmt.Errorf("the output cannot be written: %w", err)
		}
		return nil
	case t.closer != nil:
		cut, err := cutUnfinished(f)
		if err != nil {
			return fmt.Errorf("the output cannot be gone on with: %w", err)
		}
		if cut {
			t.a.log.Warn("the last line of the output was not whole: it is cut off", "file", f.Name())
		}
	}
	if head, ok := t.out.printer.(*table); ok {
		st, err := f.Stat()
		head.headless = err == nil && st.Size() > 0
	}
	return nil
}

// watching says that the watch is in force.
func (t *tap) watching() error { return t.out.begin() }

// take writes a frame, or as much of it as was asked for. Where that ends inside the frame, the cursor is that of the
// last notification written; dir is its directory, 0 inside a snapshot, which has no cursor before its end.
func (t *tap) take(records []record, dir notify.FileID) error {
	done := t.counted && len(records) >= t.left
	if done {
		records = records[:t.left]
	}
	if t.fields == notify.FieldsQumulo {
		for i := range records {
			if records[i].json == nil {
				records[i].json = notify.AppendJSON(nil, records[i].note, 0, notify.FieldsQumulo)
			}
		}
	}
	if err := t.out.write(records); err != nil {
		return err
	}
	t.left -= len(records)
	if done {
		if last := records[len(records)-1].note; last.Seq != 0 && dir != 0 {
			if err := t.moved(notify.Cursor{Seq: last.Seq, Dir: dir}); err != nil {
				return err
			}
		}
		return errEnough
	}
	return nil
}

// belongs refuses a cursor of another directory than the one that has the path.
func (t *tap) belongs(path string, id notify.FileID) error {
	if d := t.start.Dir; d != 0 && d != id {
		return fmt.Errorf("%s belongs to another directory: it names the file ID %d, but %s has %d", t.cursors.path, d, path, id)
	}
	return nil
}

// moved keeps c: all up to it was written.
func (t *tap) moved(c notify.Cursor) error {
	if t.cursors == nil || c.Seq == 0 {
		return nil
	}
	err := t.cursors.save(c)
	if err == nil {
		return t.out.keep()
	}
	t.takeBack()
	return err
}

// takeBack takes away what was written since the cursor was kept, if it is sure to come again.
func (t *tap) takeBack() {
	if t.cursors == nil {
		return
	}
	if now, err := (&cursorFile{path: t.cursors.path}).load(); err == nil && now == t.cursors.last {
		t.out.takeBack()
	}
}

// close writes what stands at the end, if the watch was ever in force.
func (t *tap) close() error {
	var err error
	if t.out.begun {
		err = t.out.end()
	}
	if t.closer != nil {
		if e := t.closer.Close(); err == nil {
			err = e
		}
	}
	if err != nil && !errors.Is(err, fs.ErrClosed) {
		return fmt.Errorf("the output cannot be written: %w", err)
	}
	return nil
}

// gone explains a cursor that is no longer kept.
func (t *tap) gone(err error) error {
	var e *notify.Error
	if !errors.As(err, &e) || e.Kind != notify.Gone {
		return err
	}
	s := "what follows this position is no longer kept"
	if e.Msg != "" {
		s = e.Msg
	}
	if b := e.Bounds; b.Head != 0 {
		s += fmt.Sprintf("; kept is what happened from %s to %s", b.Base.Time().Format(time.RFC3339), b.Head.Time().Format(time.RFC3339))
	}
	if t.cursors != nil && t.cursors.last.Seq != 0 {
		s += fmt.Sprintf(". Changes behind it are lost to this stream: delete %s and start with --since snapshot, to begin anew with all that is there, or with --since oldest",
			t.cursors.path)
	} else {
		s += ". Start with --since snapshot, to begin with all that is there, or with --since oldest"
	}
	return errors.New(s)
}

// ownFiles gives globs, relative to dir, of the files in it that this process writes: telling of those would be
// a change to tell of.
func (t *tap) ownFiles(dir string) []string {
	var paths []string
	if f, ok := t.closer.(*os.File); ok {
		paths = append(paths, f.Name())
	} else if p := fileOf(t.out.file); p != "" {
		paths = append(paths, p)
	}
	if p := t.a.status.file(); p != "" {
		paths = append(paths, p)
	}
	if t.cursors != nil {
		paths = append(paths, t.cursors.path, t.cursors.temporary())
	}
	var globs []string
	for _, p := range paths {
		abs, err := absolute(p)
		if err != nil {
			continue
		}
		if rel, err := filepath.Rel(dir, behindLinks(abs)); err == nil && filepath.IsLocal(rel) && rel != "." {
			globs = append(globs, quoteGlob(filepath.ToSlash(rel)))
			t.a.log.Info("not told of, being written by this command", "file", rel)
		}
	}
	return globs
}

// quoteGlob makes a glob that matches only the path itself.
func quoteGlob(path string) string {
	var b strings.Builder
	for i := range len(path) {
		if strings.IndexByte(`*?[]{}\!`, path[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(path[i])
	}
	return b.String()
}
