package watchtest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"fs_notify/notify"
	"fs_notify/watch"
)

// Script is one case: what is done to a directory, and what its watcher has to tell. Its file is
// a text archive (txtar):
//
//	# A title, one line.
//	# More to say about it.
//	# [once sources=inotify,fanotify]
//	-- setup --
//	mkdir -p top/old
//	-- do --
//	mv top/old top/new
//	-- want --
//	child_dir_moved_from  old  [top old]
//	child_dir_moved_to    new  [top old]
//
// Commands are for bash, and one bash runs all of a script; its working directory holds nothing but top, which is the
// directory that is watched. What stands before the first section and is no comment is the first "do". The verbs
// of [Verbs] can be used as commands.
//
// A notification is written as type, path and spine. An ID is written as the name that its object had when it
// was first told, with "#2" behind it for the second object that came by that name. Names that are not plain ASCII
// words are written as JSON strings. The name of an alternate data stream comes last.
//
// "?" before a notification means that it may be missing: who looks between the creation of a file and the first write to it is told of
// a modification time that the write does not change, if both fall into one tick of the file system's clock.
//
// "-- want poll xfs --" holds for these sources and file systems only; the last section that fits
// is taken. The words of the line in brackets:
//
//	sources=A,B  only these can see it        fs=A,B  only on these
//	once         the watcher looks once for each step, when it is done: what the kernel merges or the tree
//	             sums up does not depend on when it looks
//	unordered    any order that is valid is right; always so with poll
//	settling     the watcher may need a timer to notice: what it tells is collected until it is as wanted
//	extensions   the types that are not Qumulo's are written too
//	atime        reads are reported
//	root         needs root
//	away         the root is gone at the end
type Script struct {
	Name  string // of the file, without .txtar
	Title string
	Setup string
	Steps []Step

	Sources, FS                                                       []string
	Once, Unordered, Settling, Extensions, Atime, NeedsRoot, GoesAway bool
}

// Step is some commands and what they have to yield.
type Step struct {
	Do    string
	Wants []Want
}

// Want is what has to be told.
type Want struct {
	For   []string // sources and file systems; none: all
	Why   string   // comment of the section
	Lines []string // with one blank between the fields
	Maybe []string // of these, those that may be missing
}

// of leaves out what may be missing and was not told.
func (w *Want) of(got []string) []string {
	return slices.DeleteFunc(slices.Clone(w.Lines), func(l string) bool { return slices.Contains(w.Maybe, l) && !slices.Contains(got, l) })
}

// ParseScript reads the text of a script.
func ParseScript(name string, text []byte) (*Script, error) {
	s := &Script{Name: name}
	section, body := "do", ""
	end := func() error {
		kind, words, _ := strings.Cut(section, " ")
		switch {
		case kind == "setup" && words == "":
			s.Setup = body
		case kind == "do" && words == "":
			if strings.TrimSpace(body) != "" {
				s.Steps = append(s.Steps, Step{Do: body})
			}
		case kind == "want" && len(s.Steps) > 0:
			w := Want{For: strings.Fields(words)}
			for line := range strings.Lines(body) {
				line = strings.Join(strings.Fields(line), " ")
				if c, ok := strings.CutPrefix(line, "#"); ok {
					w.Why = strings.TrimSpace(w.Why + " " + strings.TrimSpace(c))
				} else if line != "" {
					line, maybe := strings.CutPrefix(line, "? ")
					if maybe {
						w.Maybe = append(w.Maybe, line)
					}
					w.Lines = append(w.Lines, line)
				}
			}
			for _, l := range w.Lines {
				typ, _, _ := strings.Cut(l, " ")
				if _, err := notify.ParseType(typ); err != nil {
					return err
				}
			}
			for _, f := range w.For {
				if !slices.Contains(watch.SourceKinds(), f) && !slices.Contains(fileSystems, f) {
					return fmt.Errorf("%q is neither a source nor a file system", f)
				}
			}
			last := &s.Steps[len(s.Steps)-1]
			last.Wants = append(last.Wants, w)
		default:
			return fmt.Errorf("section %q: it should be setup, do, or want behind a do", section)
		}
		return nil
	}
	for line := range strings.Lines(string(text)) {
		trimmed := strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(trimmed, "-- "); ok && strings.HasSuffix(rest, " --") {
			if err := end(); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			section, body = strings.TrimSuffix(rest, " --"), ""
			continue
		}
		if c, ok := strings.CutPrefix(trimmed, "#"); ok && s.Setup == "" && len(s.Steps) == 0 && body == "" && section == "do" {
			c = strings.TrimSpace(c)
			if s.Title == "" {
				s.Title = strings.TrimSuffix(c, ".")
			} else if strings.HasPrefix(c, "[") && strings.HasSuffix(c, "]") {
				if err := s.words(strings.Fields(c[1 : len(c)-1])); err != nil {
					return nil, fmt.Errorf("%s: %w", name, err)
				}
			}
			continue
		}
		body += line
	}
	if err := end(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if s.Title == "" || len(s.Steps) == 0 {
		return nil, fmt.Errorf("%s: a script needs a title and something to do", name)
	}
	for _, st := range s.Steps {
		if len(st.Wants) == 0 {
			return nil, fmt.Errorf("%s: nothing is wanted of %q: write an empty section if nothing has to be told", name, st.Do)
		}
	}
	return s, nil
}

// fileSystems are the words for them, as in package fsmount.
var fileSystems = []string{"ext4", "xfs", "btrfs", "tmpfs", "overlay"}

func (s *Script) words(words []string) error {
	flags := map[string]*bool{"once": &s.Once, "unordered": &s.Unordered, "settling": &s.Settling, "extensions": &s.Extensions,
		"atime": &s.Atime, "root": &s.NeedsRoot, "away": &s.GoesAway}
	for _, w := range words {
		key, list, ok := strings.Cut(w, "=")
		switch {
		case ok && key == "sources":
			s.Sources = strings.Split(list, ",")
		case ok && key == "fs":
			s.FS = strings.Split(list, ",")
		case !ok && flags[key] != nil:
			*flags[key] = true
		default:
			return fmt.Errorf("unknown word %q", w)
		}
	}
	return nil
}

// Scripts reads all scripts of a directory.
func Scripts(dir string) ([]*Script, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil {
		return nil, err
	}
	var out []*Script
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		s, err := ParseScript(strings.TrimSuffix(filepath.Base(f), ".txtar"), text)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// want finds the section that holds for a source and a file system.
func (st *Step) want(source, fs string) *Want {
	var found *Want
	for i := range st.Wants {
		w := &st.Wants[i]
		kinds, systems := 0, 0
		mine, here := false, false
		for _, f := range w.For {
			if slices.Contains(fileSystems, f) {
				systems++
				here = here || f == fs
			} else {
				kinds++
				mine = mine || f == source
			}
		}
		if (kinds == 0 || mine) && (systems == 0 || here) {
			found = w
		}
	}
	return found
}

// Differs says whether a source has a section of its own, and why.
func (s *Script) Differs(source, fs string) (bool, string) {
	for i := range s.Steps {
		if w := s.Steps[i].want(source, fs); w != nil && len(w.For) > 0 {
			return true, w.Why
		}
	}
	return false, ""
}

// Sees says whether the script is for this source and file system.
func (s *Script) Sees(source, fs string) bool {
	return (len(s.Sources) == 0 || slices.Contains(s.Sources, source)) && (len(s.FS) == 0 || slices.Contains(s.FS, fs))
}

// Run runs the script in dir, an empty directory on a file system of kind fs, with a watcher of the given source. path is
// put before PATH: the verbs are found there.
func (s *Script) Run(t *testing.T, source, fs, dir, path string, options ...func(*watch.Config)) {
	top := filepath.Join(dir, "top")
	if err := os.Mkdir(top, 0o755); err != nil {
		t.Fatal(err)
	}
	sh := startShell(t, dir, path)
	sh.run(t, s.Setup)
	src, err := watch.NewSource(source, watch.SourceOptions{Atime: s.Atime})
	if err != nil {
		t.Fatal(err)
	}
	g := NewGate(src)
	r := Start(t, source, top, append(options, func(c *watch.Config) {
		c.Source.Close()
		c.Source, c.PollInterval = g, time.Hour
	})...)
	r.Keep()
	names := newIDNames(r.Snap(t))
	r.Take()
	for n := range s.Steps {
		st := &s.Steps[n]
		want := st.want(source, fs)
		if want == nil {
			t.Fatalf("step %d: nothing is wanted of %s on %s", n+1, source, fs)
		}
		anyOrder := s.Unordered || source == "poll" // a sweep finds things in the order of the directories
		if s.Once {
			g.Hold(0, 0)
		}
		sh.run(t, st.Do)
		var notes []notify.Notification
		var got []string
		for deadline := time.Now().Add(20 * time.Second); ; {
			r.Settle(t)
			notes = append(notes, r.Take()...)
			got = s.lines(names, notes)
			if !s.Settling || same(got, want.of(got), anyOrder) || time.Now().After(deadline) {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if !same(got, want.of(got), anyOrder) {
			t.Errorf("step %d:\n%s-- got --\n%s-- want --\n%s", n+1, indent(st.Do), columns(got), columns(want.Lines))
		}
		for _, f := range PairFaults(notes) {
			t.Errorf("step %d: %s", n+1, f)
		}
	}
	if !s.GoesAway {
		r.Check(t)
	}
}

// lines writes notifications as scripts do. When and how often a directory's modification time is told depends
// on when the watcher looked: unless it looks once, each is written once, at the end. Their order is not promised: they are sorted.
func (s *Script) lines(names *idNames, notes []notify.Notification) (out []string) {
	var times []string // wait to be written
	for i := range notes {
		n := &notes[i]
		line := names.line(n)
		switch {
		case !s.Extensions && !notify.Qumulo.Has(n.Type):
			continue
		case n.Type == notify.ChildMtimeChanged && n.Attr.IsDir():
			times = append(times, line)
			continue
		case s.Once:
			out, times = append(out, slices.Sorted(slices.Values(times))...), nil
		}
		out = append(out, line)
	}
	slices.Sort(times)
	if !s.Once {
		times = slices.Compact(times)
	}
	return append(out, times...)
}

func same(got, want []string, unordered bool) bool {
	if unordered {
		got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	}
	return slices.Equal(got, want)
}

func indent(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString("    " + strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}

// columns sets lines so that they can be pasted into a script.
func columns(lines []string) string {
	var wide [2]int
	split := func(l string) (string, string, string) {
		typ, rest, _ := strings.Cut(l, " ")
		path, spine := rest, ""
		if i := strings.Index(rest, "["); i >= 0 {
			path, spine = strings.TrimSpace(rest[:i]), rest[i:]
		}
		return typ, path, spine
	}
	for _, l := range lines {
		typ, path, _ := split(l)
		wide[0], wide[1] = max(wide[0], len(typ)), max(wide[1], len(path))
	}
	var b strings.Builder
	for _, l := range lines {
		typ, path, spine := split(l)
		fmt.Fprintf(&b, "%-*s  %-*s  %s\n", wide[0], typ, wide[1], path, spine)
	}
	return b.String()
}

// idNames writes IDs as the name that their object was born with.
type idNames struct {
	of   map[notify.FileID]string
	used map[string]int
}

func newIDNames(s *notify.Snapshot) *idNames {
	n := &idNames{of: make(map[notify.FileID]string), used: make(map[string]int)}
	entries := slices.Clone(s.Entries)
	slices.SortFunc(entries, func(a, b notify.Entry) int { return strings.Compare(a.Path, b.Path) })
	for i := range entries {
		n.name(entries[i].ID(), entries[i].Path)
	}
	return n
}

func (n *idNames) name(id notify.FileID, path string) string {
	if name, ok := n.of[id]; ok {
		return name
	}
	name := "top"
	if path != "" {
		name = plain(path[strings.LastIndexByte(path, '/')+1:])
	}
	if n.used[name]++; n.used[name] > 1 {
		name += "#" + strconv.Itoa(n.used[name])
	}
	n.of[id] = name
	return name
}

// plain gives a name as it stands if it cannot be misread, else as a JSON string.
func plain(name string) string {
	for _, c := range []byte(name) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"[]#\`, c) >= 0 {
			return strings.ReplaceAll(string(notify.AppendName(nil, name)), " ", `\u0020`)
		}
	}
	return name
}

func (n *idNames) line(x *notify.Notification) string {
	var b strings.Builder
	b.WriteString(x.Type.String())
	if x.Path != "" {
		b.WriteString(" " + plain(x.Path))
	}
	b.WriteString(" [")
	paths := strings.Split(x.Path, "/")
	for i, id := range x.Spine {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(n.name(id, strings.Join(paths[:min(i, len(paths))], "/")))
	}
	b.WriteByte(']')
	if x.Stream != "" {
		b.WriteString(" " + plain(x.Stream))
	}
	return b.String()
}

// PairFaults finds halves of renames that do not stand together. Only where names depend on each other in a circle
// may something stand between: changes of names above, at or below those that are renamed.
func PairFaults(notes []notify.Notification) (faults []string) {
	from := notify.SetOf(notify.ChildFileMovedFrom, notify.ChildDirMovedFrom, notify.ChildStreamMovedFrom)
	to := notify.SetOf(notify.ChildFileMovedTo, notify.ChildDirMovedTo, notify.ChildStreamMovedTo)
	bySeq := make(map[notify.Seq]int, len(notes))
	for i := range notes {
		bySeq[notes[i].Seq] = i
	}
	for i := range notes {
		n := &notes[i]
		if n.Link == 0 {
			continue
		}
		k, ok := bySeq[n.Link]
		if !ok {
			faults = append(faults, fmt.Sprintf("%s %q: the other half of the rename is missing", n.Type, n.Path))
			continue
		}
		if notes[k].Link != n.Seq || notes[k].ID() != n.ID() || notes[k].Seq.Batch() != n.Seq.Batch() {
			faults = append(faults, fmt.Sprintf("%s %q: it is linked to %s %q, which is not its other half", n.Type, n.Path, notes[k].Type, notes[k].Path))
		}
		if !from.Has(n.Type) {
			continue
		}
		if k < i {
			faults = append(faults, fmt.Sprintf("%s %q comes behind its moved_to", n.Type, n.Path))
			continue
		}
		var names []string // that it is about
		for _, h := range notes[i : k+1] {
			if (from | to).Has(h.Type) {
				names = append(names, h.Path)
			}
		}
		related := func(x *notify.Notification) bool {
			return slices.ContainsFunc(names, func(path string) bool { return within(x.Path, path) || within(path, x.Path) })
		}
		for j := i + 1; j < k; j++ {
			if notes[j].Type == notify.ChildDirRemoved && related(&notes[j]) {
				names = append(names, notes[j].Path) // and what was in it
			}
		}
		for _, x := range notes[i+1 : k] {
			if x.Type == notify.ChildLinkStays {
				continue // it goes with a removal, and may be anywhere
			}
			if !notify.Names.Has(x.Type) && x.Type != notify.SelfRemoved || !related(&x) {
				faults = append(faults, fmt.Sprintf("%s %q stands between the halves of the rename of %q to %q", x.Type, x.Path, n.Path, notes[k].Path))
			}
		}
	}
	return faults
}

func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// shell is one bash that runs the commands of a script.
type shell struct {
	in   io.Writer
	out  *bufio.Reader
	said *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startShell(t *testing.T, dir, path string) *shell {
	t.Helper()
	cmd := exec.Command("bash", "--norc", "--noprofile", "-eu")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PATH="+path+":"+os.Getenv("PATH"))
	sh := &shell{said: &lockedBuffer{}}
	done, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{write} // 3
	cmd.Stdout, cmd.Stderr = sh.said, sh.said
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	write.Close()
	sh.in, sh.out = in, bufio.NewReader(done)
	io.WriteString(in, "exec 9>&3 3>&-\n")
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
		done.Close()
	})
	return sh
}

func (sh *shell) run(t *testing.T, commands string) {
	t.Helper()
	if strings.TrimSpace(commands) == "" {
		return
	}
	io.WriteString(sh.in, "{\n"+commands+"\n} </dev/null\necho done >&9\n")
	if line, err := sh.out.ReadString('\n'); err != nil || line != "done\n" {
		t.Fatalf("the commands failed:\n%s%s", indent(commands), sh.said)
	}
}
