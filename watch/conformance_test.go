package watch_test

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"fs_notify/watch"
	"fs_notify/watch/watchtest"
	"fs_notify/watch/watchtest/fsmount"
)

func TestMain(m *testing.M) {
	watchtest.Verb() // this binary is also the commands that scripts use
	flag.Parse()
	defaults := map[string]string{
		"test.parallel":    "20", // parallel tests wait for file systems and timers here, not for processors
		"rapid.checks":     cmp.Or(os.Getenv("FS_NOTIFY_PROPERTY_CHECKS"), "12"),
		"rapid.nofailfile": "true",
	}
	flag.Visit(func(f *flag.Flag) { delete(defaults, f.Name) })
	for name, value := range defaults {
		if err := flag.Set(name, value); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	os.Exit(m.Run())
}

// tableEnv, set to anything, makes TestConformance write its table into the documentation.
const tableEnv = "FS_NOTIFY_TABLE"

// tablePage is where the table stands, between two marks.
const (
	tablePage  = "../docs/semantics.md"
	tableBegin = "<!-- written by TestConformance: FS_NOTIFY_TABLE=1 go test -run TestConformance ./watch -->\n"
	tableEnd   = "<!-- end -->\n"
)

// scriptsDir is where the scripts are.
const scriptsDir = "../testdata/watch"

// Every script of testdata/watch, with every source, on every file system.
func TestConformance(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the scripts are about what Linux says")
	}
	table := newTable()
	conform(t, scriptsDir, sources(t), os.Geteuid() == 0, table)
	if t.Failed() {
		return
	}
	table.check(t)
}

// The same where every record is believed that can be.
func TestConformanceBelieving(t *testing.T) {
	needObjects(t)
	conform(t, scriptsDir, []string{"fanotify"}, true, newTable(), believing)
}

// needObjects skips a test where no source says which objects its records are about.
func needObjects(t *testing.T) {
	t.Helper()
	if !slices.Contains(sources(t), "fanotify") {
		t.Skip("there is no source that says which objects its records are about")
	}
}

func believing(c *watch.Config) { c.BelieveFrom = 1 }

// conform runs the scripts of a directory, and notes in table what ran.
func conform(t *testing.T, dir string, kinds []string, root bool, table *table, options ...func(*watch.Config)) {
	t.Helper()
	scripts, err := watchtest.Scripts(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(scripts) == 0 {
		t.Fatal("there are no scripts")
	}
	table.scripts = scripts
	verbs := t.TempDir()
	if err := watchtest.Verbs(verbs); err != nil {
		t.Fatal(err)
	}
	fsmount.Each(t, func(t *testing.T, dir, fs string) {
		for _, kind := range kinds {
			t.Run(kind, func(t *testing.T) {
				t.Parallel()
				as := kind
				if kind == "fanotify" && fs == "overlay" {
					as = "inotify" // overlay cannot be marked: that is what auto takes
				}
				for _, s := range scripts {
					if !s.Sees(kind, fs) || s.NeedsRoot && !root {
						continue
					}
					t.Run(s.Name, func(t *testing.T) {
						t.Parallel()
						t.Cleanup(func() { table.note(s, kind, fs, t) })
						own := filepath.Join(dir, kind+"-"+s.Name)
						if err := os.Mkdir(own, 0o755); err != nil {
							t.Fatal(err)
						}
						t.Cleanup(func() { removeAll(t, own) })
						s.Run(t, as, fs, own, verbs, options...)
					})
				}
			})
		}
	})
}

// removeAll is os.RemoveAll for trees of any depth.
func removeAll(t *testing.T, dir string) {
	for {
		err := os.RemoveAll(dir)
		if err == nil {
			return
		}
		// A path that is too long: pull what is below up.
		deep := dir
		for len(deep) < 2000 {
			entries, _ := os.ReadDir(deep)
			i := slices.IndexFunc(entries, func(e os.DirEntry) bool { return e.IsDir() })
			if i < 0 {
				break
			}
			deep = filepath.Join(deep, entries[i].Name())
		}
		if deep == dir || os.Rename(deep, filepath.Join(filepath.Dir(dir), filepath.Base(dir)+"~")) != nil {
			t.Errorf("cleaning up: %v", err)
			return
		}
		removeAll(t, filepath.Join(filepath.Dir(dir), filepath.Base(dir)+"~"))
	}
}

// table is what each source made of each script, on all file systems together.
type table struct {
	mu      sync.Mutex
	scripts []*watchtest.Script
	ran     map[[2]string]bool // script and source: whether it ran and passed
	systems map[string]bool    // file systems that there were
	partial bool               // something was skipped
}

// tableKinds are the columns.
var tableKinds = []string{"fanotify", "inotify", "fsnotify", "poll"}

func newTable() *table {
	return &table{ran: make(map[[2]string]bool), systems: make(map[string]bool)}
}

func (tb *table) note(s *watchtest.Script, kind, fs string, t *testing.T) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	tb.systems[fs] = true
	if t.Skipped() {
		tb.partial = true
		return
	}
	tb.ran[[2]string{s.Name, kind}] = true
}

// cell says what a source makes of a script: "yes", or how what it tells differs on one of the file systems at least.
func cell(s *watchtest.Script, kind string) string {
	seen := false
	for _, fs := range fsmount.Kinds() {
		if !s.Sees(kind, fs) {
			continue
		}
		seen = true
		if differs, why := s.Differs(kind, fs); differs {
			return cmp.Or(why, "otherwise: see the script")
		}
	}
	if seen {
		return "yes"
	}
	return "-"
}

// String gives the table in Markdown.
func (tb *table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| case | %s |\n| --- |%s\n", strings.Join(tableKinds, " | "), strings.Repeat(" --- |", len(tableKinds)))
	for _, s := range tb.scripts {
		fmt.Fprintf(&b, "| [%s](../testdata/watch/%s.txtar) |", s.Title, s.Name)
		for _, k := range tableKinds {
			fmt.Fprintf(&b, " %s |", cell(s, k))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// check compares what ran and passed with what is documented. Where everything can run, everything has to have run.
func (tb *table) check(t *testing.T) {
	page, err := os.ReadFile(tablePage)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(page), tableBegin)
	documented, tail, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", tablePage)
	}
	text := tb.String()
	complete := !tb.partial && len(tb.systems) == len(fsmount.Kinds()) && len(sources(t)) == len(tableKinds) &&
		!strings.Contains(flag.Lookup("test.run").Value.String(), "/")
	for _, s := range tb.scripts {
		for _, kind := range tableKinds {
			told, ran := cell(s, kind), tb.ran[[2]string{s.Name, kind}]
			if ran && told == "-" || complete && !ran && told != "-" {
				t.Errorf("%s with %s: the table says %q; ran and passed: %v", s.Name, kind, told, ran)
			}
		}
	}
	switch {
	case os.Getenv(tableEnv) != "":
		if err := os.WriteFile(tablePage, []byte(head+tableBegin+text+tableEnd+tail), 0o644); err != nil {
			t.Error(err)
		}
	case documented != text:
		t.Errorf("the table in %s is out of date, see the mark above it; it should be\n%s", tablePage, text)
	case testing.Verbose():
		t.Log("\n" + text)
	}
}
