package feed_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"weak"

	"github.com/bmatcuk/doublestar/v4"
	"pgregory.net/rapid"

	"fs_notify/notify"
	"fs_notify/notify/feed"
	"fs_notify/notify/feed/feedtest"
)

// places is where the directories of these tests are now, all of them in top; the root is served as /srv/data.
type places map[notify.FileID]string

func (p places) Roots() []notify.RootState {
	return []notify.RootState{{Name: "/srv/other", ID: 77}, {Name: "/srv/data", ID: root}}
}

func (p places) LookupID(_ context.Context, id notify.FileID) (notify.Entry, error) {
	if path, ok := p[id]; ok {
		return notify.Entry{Root: root, Path: path, Spine: notify.Spine{root, top, id}}, nil
	}
	return notify.Entry{}, &notify.Error{Kind: notify.NotFound}
}

func scopeOf(t rapid.TB, f *feed.Feed, prefixes, include, exclude []string) *feed.Scope {
	t.Helper()
	s, err := f.Scope(prefixes, include, exclude)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func dir(n notify.Notification) notify.Notification {
	n.Attr.Mode = notify.ModeDir
	return n
}

func TestScope(t *testing.T) {
	f := feed.New(feedtest.New(100), feed.Options{Places: places{}})
	moved := func(typ notify.Type, from, to []notify.FileID, a, b string) []notify.Notification {
		return []notify.Notification{
			linked(note(typ, a, from...), 2), linked(note(typ+1, b, to...), 1),
			note(notify.ChildSizeChanged, b, to...)}
	}
	for _, tt := range []struct {
		name                       string
		dir                        notify.FileID
		prefixes, include, exclude []string
		notes                      []notify.Notification
		want                       string // each with "@Link"
	}{
		{"without any", top, nil, nil, nil,
			moved(notify.ChildFileMovedFrom, []notify.FileID{root, top, file}, []notify.FileID{root, top, watched, file}, "top/f", "top/watched/f"),
			"moved_from f@1 moved_to watched/f@0 size_changed watched/f"},
		{"a prefix above the root", top, []string{"/srv"}, nil, nil,
			[]notify.Notification{note(notify.ChildFileAdded, "top/f", root, top, file)}, "added f"},
		{"a prefix that is the root", top, []string{"/srv/data"}, nil, nil,
			[]notify.Notification{note(notify.ChildFileAdded, "top/f", root, top, file)}, "added f"},
		{"the prefix is all", top, []string{"/"}, nil, nil,
			[]notify.Notification{note(notify.ChildFileAdded, "top/f", root, top, file)}, "added f"},
		{"no prefix", top, []string{}, nil, nil,
			[]notify.Notification{note(notify.ChildFileAdded, "top/f", root, top, file)}, ""},
		{"a prefix in another root", top, []string{"/srv/other"}, nil, nil,
			[]notify.Notification{note(notify.ChildFileAdded, "top/f", root, top, file)}, ""},
		{"the recorded path counts, not the ID", watched, []string{"/srv/data/top/watched"}, nil, nil,
			[]notify.Notification{
				note(notify.ChildFileAdded, "top/watched/f", root, top, watched, file),
				note(notify.ChildFileAdded, "elsewhere/f", root, watched, file),
				note(notify.ChildFileAdded, "top/watched-old/f", root, top, watched, file)}, "added f"},
		{"what lies in the prefix, of a directory that does not", root, []string{"/srv/data/top"}, nil, nil,
			[]notify.Notification{note(notify.ChildFileAdded, "top/f", root, top, file), note(notify.ChildFileAdded, "topmost", root, file)}, ""},
		{"out of the prefix", top, []string{"/srv/data/top"}, nil, nil,
			moved(notify.ChildFileMovedFrom, []notify.FileID{root, top, watched, file}, []notify.FileID{root, file}, "top/watched/f", "f"),
			"moved_from watched/f"},
		{"into the prefix", top, []string{"/srv/data/top"}, nil, nil,
			moved(notify.ChildDirMovedFrom, []notify.FileID{root, sub}, []notify.FileID{root, top, watched, sub}, "sub", "top/watched/sub"),
			"dir_moved_to watched/sub size_changed watched/sub"},
		{"inside it", top, []string{"/srv/data/top", "/srv/data/x"}, nil, nil,
			moved(notify.ChildFileMovedFrom, []notify.FileID{root, top, watched, file}, []notify.FileID{root, top, file}, "top/watched/f", "top/f"),
			"moved_from watched/f@1 moved_to f@0 size_changed f"},

		{"excluded, and what is in it", top, nil, nil, []string{".git/**", "**/*.tmp", "cache/"},
			[]notify.Notification{
				dir(note(notify.ChildDirAdded, "top/.git", root, top, 20)),
				note(notify.ChildFileAdded, "top/.git/config", root, top, 20, 21),
				note(notify.ChildFileAdded, "top/a/.git/config", root, top, 22, 20, 21),
				note(notify.ChildFileAdded, "top/a/x.tmp", root, top, 22, 23),
				note(notify.ChildFileAdded, "top/d.tmp/f", root, top, 24, 25),
				note(notify.ChildFileAdded, "top/cache", root, top, 26),
				note(notify.ChildFileAdded, "top/cache/f", root, top, 26, 27),
				dir(note(notify.ChildDirAdded, "top/cache", root, top, 26))},
			"added a/.git/config added cache"},
		{"of alternatives, one is for directories", top, nil, nil, []string{"{cache/,x}"},
			[]notify.Notification{
				note(notify.ChildFileAdded, "top/cache", root, top, 20),
				dir(note(notify.ChildDirAdded, "top/cache", root, top, 21)),
				note(notify.ChildFileAdded, "top/cache/f", root, top, 21, 22),
				note(notify.ChildFileAdded, "top/x", root, top, 23)},
			"added cache"},
		{"included, and what is in it", top, nil, []string{"*.txt", "docs"}, []string{"docs/old"},
			[]notify.Notification{
				note(notify.ChildFileAdded, "top/a.txt", root, top, 20),
				note(notify.ChildFileAdded, "top/b/a.txt", root, top, 21, 20),
				note(notify.ChildFileAdded, "top/docs/x/y", root, top, 22, 23, 24),
				note(notify.ChildFileAdded, "top/docs/old/y", root, top, 22, 25, 26)},
			"added a.txt added docs/x/y"},
		{"renamed into what is included", top, nil, []string{"**/*.txt"}, nil,
			moved(notify.ChildFileMovedFrom, []notify.FileID{root, top, file}, []notify.FileID{root, top, file}, "top/f.part", "top/f.txt"),
			"moved_to f.txt size_changed f.txt"},
		{"renamed into what is excluded", top, nil, nil, []string{"trash"},
			moved(notify.ChildDirMovedFrom, []notify.FileID{root, top, sub}, []notify.FileID{root, top, other, sub}, "top/sub", "top/trash/sub"),
			"dir_moved_from sub"},
		{"a directory's rename moves what is included in it", top, nil, []string{"**/*.txt"}, nil,
			moved(notify.ChildDirMovedFrom, []notify.FileID{root, top, sub}, []notify.FileID{root, top, sub}, "top/a", "top/b"),
			"dir_moved_from a@1 dir_moved_to b@0"},
		{"half of a rename leads out of the directory", top, nil, nil, nil,
			moved(notify.ChildFileMovedFrom, []notify.FileID{root, top, file}, []notify.FileID{root, file}, "top/f", "f"),
			"moved_from f"},
	} {
		s := scopeOf(t, f, tt.prefixes, tt.include, tt.exclude)
		if s != nil && scopeOf(t, f, slices.Clone(tt.prefixes), tt.include, tt.exclude) != s {
			t.Errorf("%s: the same scope twice gives two", tt.name)
		}
		v := feed.View{Root: root, Dir: tt.dir, Recursive: true, Types: notify.Qumulo, Scope: s}
		hits, end := v.Match(nil, batch(tt.notes...), 0)
		var got []string
		for _, h := range hits {
			w := strings.TrimPrefix(strings.TrimPrefix(h.Note.Type.String(), "child_"), "file_") + " " + h.Note.PathFrom(h.At)
			if h.Note.Link != 0 {
				w += "@" + string('0'+rune(h.Note.Link.Index()))
			}
			got = append(got, w)
		}
		if g := strings.Join(got, " "); g != tt.want || end {
			t.Errorf("%s: got %q, end %v, want %q", tt.name, g, end, tt.want)
		}
	}
}

func TestWrongGlobs(t *testing.T) {
	f := feed.New(feedtest.New(100), feed.Options{})
	for _, g := range []string{"", "/", "/srv/*", "[", "a{b", `a\`, `a\/`, strings.Repeat("x", 2000), strings.Repeat("{a,b}", 9)} {
		if _, err := f.Scope(nil, nil, []string{g}); !errors.Is(err, notify.Invalid) {
			t.Errorf("%.20q: %v, want Invalid", g, err)
		}
	}
	for _, tt := range []struct {
		glob  string
		never string // what it stands for that no path is like
	}{
		{"{/srv/x,/srv/y}", "/srv/x"},
		{"{**/secret,./secret/**}", "./secret/**"},
		{"{../a,../b}", "../a"},
		{"{a,b}//c", "a//c"},
		{"{a,b}/../c", "a/../c"},
		{"x/{..,.}/y", "x/../y"},
		{"{,x}", ""},
		{"{a,b/}/", "b//"},
		{"{a,b/}/c", "b//c"},
		{"a/{b,{c,d/{e,.}}}", "a/d/."},
		{".{git,}/**", "./**"},
		{`{a,\.}/x`, `\./x`},
		{`{a\/,b}`, `a\/`},
		{`{a,\/b}`, `\/b`},
		{"{" + strings.Repeat("x,", 30) + "/y}", "/y"},
	} {
		_, err := f.Scope(nil, nil, []string{tt.glob})
		if want := fmt.Sprintf("exclude: %.80q stands for %q too, which is not a glob", tt.glob, tt.never); !errors.Is(err, notify.Invalid) || !strings.HasPrefix(notify.Message(err), want) {
			t.Errorf("%q: %v, want %s", tt.glob, err, want)
		}
	}
	for _, g := range []string{"{a/,b}", "{a,b}/", ".{git,hg}/**", "{.,..}x", "{..,.}*/y", "..{.,a}", "a{,/**}", "{,**/}*.o", "{,a/}{b,c/}", "{a,b}/{c,d}", `a\/b`, "{[/],[,}]}", "a,b/,c"} {
		if _, err := f.Scope(nil, nil, []string{g}); err != nil {
			t.Errorf("%q: %v", g, err)
		}
	}
	if _, err := f.Scope(nil, slices.Repeat([]string{"a"}, 65), nil); !errors.Is(err, notify.Invalid) {
		t.Errorf("65 globs: %v, want Invalid", err)
	}
}

// What a glob of any size stands for is looked at, also where it is too much to be written out.
func TestGlobsOfAnySize(t *testing.T) {
	for _, tt := range []struct {
		glob string
		ok   bool
	}{
		{strings.Repeat("{a,b}", 1000), true},
		{strings.Repeat("{a,b}/", 1000), true},
		{strings.Repeat("{a,b}", 1000) + "/{c,..}", false},
		{strings.Repeat("{a,", 1000) + "/" + strings.Repeat("}", 1000), false},
		{"{" + strings.Repeat("x,", 1000) + "/y}", false},
		{"**/{" + strings.Repeat("x,", 1000) + "y}", true},
	} {
		if err := feed.CheckGlob(tt.glob); tt.ok && err != nil || !tt.ok && !errors.Is(err, notify.Invalid) {
			t.Errorf("%.20q...: %v, want it possible: %v", tt.glob, err, tt.ok)
		}
	}
}

// Together, the alternatives of all globs are no more than so many.
func TestTooManyAlternatives(t *testing.T) {
	f := feed.New(feedtest.New(100), feed.Options{})
	each := func(n int, glob string) (globs []string) {
		for i := range n {
			globs = append(globs, fmt.Sprint(glob, i))
		}
		return globs
	}
	for _, tt := range []struct {
		name  string
		globs []string
		ok    bool
	}{
		{"as many globs as may be", each(64, "**/*."), true},
		{"many alternatives in one", []string{"**/*.{" + strings.Repeat("x,", 200) + "y}"}, true},
		{"braces in braces", []string{strings.Repeat("{a,", 200) + "b" + strings.Repeat("}", 200)}, true},
		{"too many in one", []string{"{" + strings.Repeat("x,", 256) + "y}"}, false},
		{"multiplied", []string{"**/" + strings.Repeat("{*,?}", 9)}, false},
		{"multiplied so often that nobody could count", []string{strings.Repeat("{a,b}", 200)}, false},
		{"of all together", each(64, "**/{*,?}{*,?}{*,?}"), false},
		{"long ones", each(64, "{a,b,c,d}"+strings.Repeat("x", 900)), false},
	} {
		s, err := f.Scope(nil, nil, tt.globs)
		if tt.ok && (err != nil || s.Lets("y", false) == false) || !tt.ok && !errors.Is(err, notify.Invalid) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// What globs mean is what doublestar says.
func TestGlobsAreDoublestars(t *testing.T) {
	rnd := rand.New(rand.NewPCG(9, 10))
	some := func(of ...string) string { return of[rnd.IntN(len(of))] }
	var pattern func(depth int) string
	pattern = func(depth int) string {
		var b strings.Builder
		for i := range 1 + rnd.IntN(4) {
			if i > 0 {
				b.WriteByte('/')
			}
			before := b.String()
			if rnd.IntN(3) == 0 && !strings.HasSuffix(before, "**/") && !strings.HasSuffix(before, "}/") { // doublestar has quirks where stars meet
				b.WriteString("**")
				continue
			}
			for j, n := 0, 1+rnd.IntN(3); j < n; j++ {
				before := b.String()
				switch k := rnd.IntN(8); {
				case k == 0 && depth > 0: // and where an alternative may be nothing
					b.WriteString("{a" + pattern(depth-1) + ",b" + pattern(depth-1) + some("", ",aa", ",b") + "}")
				case k == 1 && !strings.HasSuffix(before, "*") && !strings.HasSuffix(before, "}"):
					b.WriteString("*")
				default:
					b.WriteString(some("a", "b", "?", "[ab]", "[a-c]", `\a`, `\,`, "[{,}]", "é"))
				}
			}
		}
		return b.String()
	}
	f := feed.New(feedtest.New(100), feed.Options{})
	matched := 0
	for range 20000 {
		g := pattern(2)
		s, err := f.Scope(nil, nil, []string{g})
		if err != nil {
			continue
		}
		names := make([]string, 1+rnd.IntN(5))
		for i := range names {
			for range 1 + rnd.IntN(3) {
				names[i] += some("a", "a", "b", "b", "é", ",", "{")
			}
		}
		want := false
		for i := range names {
			want = want || doublestar.MatchUnvalidated(g, strings.Join(names[:i+1], "/"))
		}
		if got := !s.Lets(strings.Join(names, "/"), false); got != want {
			t.Fatalf("%q and %q: %v, doublestar says %v", g, strings.Join(names, "/"), got, want)
		} else if got {
			matched++
		}
	}
	if matched < 1000 {
		t.Errorf("only %d matches: the test looks at too little", matched)
	}
}

// Whatever was looked at before, an entry is matched by what matches it or a directory that it is in.
func TestGlobsGoByLeadingParts(t *testing.T) {
	matches := func(globs []string, path string, dir bool) bool {
		for end := range len(path) + 1 {
			if end < len(path) && path[end] != '/' {
				continue
			}
			for _, g := range globs {
				p, dirs := strings.CutSuffix(g, "/")
				if (!dirs || dir || end < len(path)) && doublestar.MatchUnvalidated(p, path[:end]) {
					return true
				}
			}
		}
		return false
	}
	join := func(sep string) func(s []string) string {
		return func(s []string) string { return strings.Join(s, sep) }
	}
	glob := rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "a", "b", "*", "?", "**/", "/", "/**", "*/**", "[!a]", "[.-0]", "[!/]", "[a/]",
		`\a`, `\/`, `\*`, "\xff", "{a,b/}a", "{*a,a/**}"}), 1, 5), join(""))
	glob = rapid.OneOf(glob, rapid.Map(glob, func(g string) string { return "**/" + g })).
		Filter(func(g string) bool { // three stars are a quirk
			return feed.CheckGlob(g) == nil && !strings.Contains(g, "***")
		})
	name := rapid.OneOf(rapid.SampledFrom([]string{"a", "b", "aa", "\xff", "*"}), rapid.StringOfN(rapid.SampledFrom([]rune("abé")), 1, 3, -1))
	entry := rapid.Custom(func(t *rapid.T) notify.Notification {
		types := []notify.Type{notify.ChildFileAdded, notify.ChildDirAdded, notify.ChildDirMovedTo}
		n := note(rapid.SampledFrom(types).Draw(t, "type"), join("/")(rapid.SliceOfN(name, 1, 5).Draw(t, "names")), root, file)
		if n.Type != notify.ChildFileAdded {
			n = dir(n)
		}
		return n
	})
	f := feed.New(feedtest.New(100), feed.Options{})
	seen, unseen := 0, 0
	check := func(t *rapid.T, notes []notify.Notification, include, exclude []string) {
		s := scopeOf(t, f, nil, include, exclude)
		var got, want []string
		for _, n := range notes {
			lets := !matches(exclude, n.Path, n.Attr.IsDir()) && (len(include) == 0 || matches(include, n.Path, n.Attr.IsDir()))
			if s.Lets(n.Path, n.Attr.IsDir()) != lets {
				t.Fatalf("include %q, exclude %q: Lets(%q) = %v, want %v", include, exclude, n.Path, !lets, lets)
			}
			if lets || n.Type == notify.ChildDirMovedTo && !matches(exclude, n.Path, true) {
				want = append(want, n.Path)
			}
		}
		v := feed.View{Root: root, Dir: root, Recursive: true, Types: notify.Qumulo, Scope: s}
		hits, _ := v.Match(nil, batch(notes...), 0)
		for _, h := range hits {
			got = append(got, h.Note.Path)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("include %q, exclude %q: got %q, want %q", include, exclude, got, want)
		}
		seen, unseen = seen+len(got), unseen+len(notes)-len(got)
	}
	rapid.Check(t, func(t *rapid.T) {
		notes := rapid.SliceOfN(entry, 1, 40).Draw(t, "notes")
		globs := rapid.SliceOfN(glob, 10, 40).Draw(t, "globs")
		for i := range globs {
			check(t, notes, nil, globs[i:i+1])
			check(t, notes, globs[i:], globs[:min(i, 2)])
		}
	})
	if !t.Failed() && min(seen, unseen) < 1000 {
		t.Errorf("%d were seen and %d not: the test looks at too little", seen, unseen)
	}
}

// A scope is forgotten when nobody has it any more; the same one made anew does what it did.
func TestScopesAreForgotten(t *testing.T) {
	f := feed.New(feedtest.New(100), feed.Options{})
	old := weak.Make(scopeOf(t, f, nil, []string{"a"}, nil))
	for i := 0; old.Value() != nil; i++ {
		if i > 100 {
			t.Fatal("it is still held")
		}
		runtime.GC()
	}
	if s := scopeOf(t, f, nil, []string{"a"}, nil); !s.Lets("a", false) || s.Lets("b", false) || !(*feed.Scope)(nil).Lets("b", false) {
		t.Error("the scope is not what it was")
	}
}

// A watched directory that is taken out of the prefixes ends its subscription, whatever took it there; one that is not, does not.
func TestScopeLeft(t *testing.T) {
	rename := func(from, to string, spine ...notify.FileID) []notify.Notification {
		return []notify.Notification{
			note(notify.ChildFileAdded, "top/watched/f", root, top, watched, file),
			dir(linked(note(notify.ChildDirMovedFrom, from, spine...), 3)),
			dir(linked(note(notify.ChildDirMovedTo, to, spine...), 2)),
			note(notify.ChildFileAdded, to+"/g", root, top, watched, other)}
	}
	const f, gone = `child_file_added "f" [3 10]`, `self_removed "" [3]`
	alone := rename("top/watched", "top/gone", root, top, watched)
	above := rename("top", "gone", root, top)
	for _, tt := range []struct {
		name     string
		now      places // where the directory is after all that was
		prefixes []string
		notes    []notify.Notification
		want     []string // part by part
	}{
		{"it was renamed", places{watched: "top/gone"}, nil, alone, []string{f + "\n" + gone}},
		{"it was renamed and came back", places{watched: "top/watched"}, nil, alone, []string{f + "\n" + gone}},
		{"it was renamed and is in no tree any more", places{}, nil, alone, []string{f + "\n" + gone}},
		{"into another prefix", places{watched: "top/gone"}, []string{"/srv/data/top/gone"}, alone, []string{f + "\n" + `child_file_added "g" [3 11]`}},
		{"what is above it was renamed", places{watched: "gone/watched"}, nil, above, []string{f, gone}},
		{"and came back", places{watched: "top/watched"}, nil, above, []string{f, gone}},
		{"above it, into another prefix", places{watched: "gone/watched"}, []string{"/srv/data/gone/watched"}, above, []string{f}},
		{"above it, and it was not in sight there", places{watched: "top/watched"}, []string{"/srv/data/old/else"}, rename("old", "older", root, top), []string{f}},
		{"another one was renamed", places{watched: "top/watched"}, nil, rename("top/watched/x", "top/x", root, top, 20), []string{f}},
		{"it is in no tree any more", places{}, nil, above, []string{f}},
	} {
		log := feedtest.New(100)
		f := feed.New(log, feed.Options{Places: tt.now})
		v := feed.View{Root: root, Dir: watched, Recursive: true, Types: notify.SetOf(notify.ChildFileAdded),
			Scope: scopeOf(t, f, append(tt.prefixes, "/srv/data/top/watched"), nil, nil)}
		s, err := f.Subscribe(t.Context(), v, f.Head())
		if err != nil {
			t.Fatal(err)
		}
		b := log.Append(root, slices.Clone(tt.notes)...)
		var told []string
		var p feed.Part
		for !p.End && err == nil {
			if p, err = s.Next(t.Context(), 0); err == nil {
				told = append(told, show(p.Hits))
			}
		}
		left := strings.HasSuffix(tt.want[len(tt.want)-1], gone)
		if !slices.Equal(told, tt.want) || p.End != left || !left && !errors.Is(err, feed.ErrIdle) {
			t.Errorf("%s: told %q, end %v, %v, want %q", tt.name, told, p.End, err, tt.want)
		} else if left {
			want := b.Notes[1].Seq // what the record says
			if len(told) > 1 {
				want = b.Number.End()
			}
			if got := p.Hits[len(p.Hits)-1].Note.Seq; got != want {
				t.Errorf("%s: self_removed is %d, want %d", tt.name, got, want)
			}
		}
		s.Close()
	}
}

// An index finds for scoped views what a look at everything finds, and what may have taken their directories away.
func TestIndexOfScopedViews(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	f := feed.New(feedtest.New(100), feed.Options{Places: places{}})
	seen, crossed := 0, 0
	for range 100 {
		var x feed.Index[int]
		var views []feed.View
		for i := range 20 {
			prefixes := [][]string{nil, {"/srv/data/11"}, {"/srv/data/12/14", "/srv/data/13"}, {"/srv"}}[rnd.IntN(4)]
			exclude := [][]string{nil, {"**/*5"}, {"*/1?"}}[rnd.IntN(3)]
			v := feed.View{Root: root, Dir: notify.FileID(10 + rnd.IntN(5)), Recursive: rnd.IntN(2) == 0,
				Types: notify.TypeSet(rnd.Uint32()) & notify.AllTypes, Scope: scopeOf(t, f, prefixes, nil, exclude)}
			if rnd.IntN(4) == 0 {
				v.Dir = root
			}
			views = append(views, v)
			x.Add(v, i)
		}
		for range 20 {
			b := randomBatch(rnd)
			at := make([][]int32, len(views))
			found, _ := x.Find(nil, b, 1<<20)
			for _, c := range found {
				if l := at[c.Owner]; len(l) > 0 && l[len(l)-1] >= c.Note {
					t.Fatalf("notification %d comes after %v", c.Note, l)
				}
				at[c.Owner] = append(at[c.Owner], c.Note)
			}
			for i, v := range views {
				want, wantEnd := v.Match(nil, b, 0)
				got, end := v.MatchAt(nil, b, at[i])
				if show(got) != show(want) || end != wantEnd {
					t.Fatalf("%+v sees\n%s\nend %v, through the index\n%s\nend %v", v, show(want), wantEnd, show(got), end)
				}
				if w, g := v.Crossed(b, nil), v.Crossed(b, append([]int32{}, at[i]...)); w != g {
					t.Fatalf("%+v: Crossed is %v, through the index %v", v, w, g)
				} else if w {
					crossed++
				}
				seen += len(want)
			}
		}
		for i, v := range views {
			x.Remove(v, i)
		}
		if found, _ := x.Find(nil, randomBatch(rnd), 100); len(found) > 0 {
			t.Fatalf("found after all were removed: %v", found)
		}
	}
	if seen < 1000 || crossed < 100 {
		t.Errorf("only %d hits and %d crossings: the test looks at too little", seen, crossed)
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	f := feed.New(feedtest.New(100), feed.Options{Places: places{}})
	b := batch(note(notify.ChildSizeChanged, "top/watched/f", root, top, watched, file),
		linked(note(notify.ChildFileMovedFrom, "top/watched/a", root, top, watched, file), 3),
		linked(note(notify.ChildFileMovedTo, "top/watched/b", root, top, watched, file), 2))
	hits := make([]feed.Hit, 0, 8)
	for _, s := range []*feed.Scope{nil, scopeOf(t, f, []string{"/srv/data/top"}, nil, nil), scopeOf(t, f, nil, nil, []string{"**/*.tmp"})} {
		v := feed.View{Root: root, Dir: watched, Recursive: true, Types: notify.Qumulo, Scope: s}
		if n := testing.AllocsPerRun(100, func() { hits, _ = v.Match(hits[:0], b, 0); v.Crossed(b, nil) }); n != 0 || len(hits) != 3 {
			t.Errorf("%v allocations for %d hits of %+v", n, len(hits), v)
		}
	}
}

// What a notification costs where globs leave things out: in one of two directories by turns, as renames from one into the other are, or each in
// a directory of its own.
func BenchmarkGlobs(b *testing.B) {
	f := feed.New(feedtest.New(100), feed.Options{})
	kinds := []string{"**/a/**", "**/*.tmp", "**/.git/**", "**/*.py[co]", "src/**/test/*.o", ".cache", "**/build/*", "**/#*#", "**/core-?/", "*.{swp,bak}"}
	for _, order := range []string{"two", "each"} {
		for _, depth := range []int{3, 20, 200} {
			notes := make([]notify.Notification, 64)
			for i := range notes {
				top := fmt.Sprint("src-", i%2)
				if order == "each" {
					top = fmt.Sprint("src-", i)
				}
				notes[i] = note(notify.ChildFileAdded, fmt.Sprint(top, strings.Repeat("/directory", depth-1), "/file-", i), root, file)
			}
			batch := batch(notes...)
			for _, n := range []int{1, 10, 64} {
				exclude := kinds[:min(n, len(kinds))]
				for i := len(exclude); i < n; i++ {
					exclude = append(exclude, strings.Replace(kinds[i%len(kinds)], "/", fmt.Sprint("/", i), 1))
				}
				b.Run(fmt.Sprintf("%s/depth=%d/globs=%d", order, depth, n), func(b *testing.B) {
					v := feed.View{Root: root, Dir: root, Recursive: true, Types: notify.Qumulo, Scope: scopeOf(b, f, nil, nil, exclude)}
					var hits []feed.Hit
					for b.Loop() {
						hits, _ = v.Match(hits[:0], batch, 0)
					}
					if len(hits) != len(notes) {
						b.Fatalf("%d hits", len(hits))
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(notes)), "ns/note")
				})
			}
		}
	}
}
