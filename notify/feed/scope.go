package feed

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"weak"

	"github.com/bmatcuk/doublestar/v4"

	"fs_notify/notify"
)

// Places is what a Feed has to know of the trees to serve views that see only some of them; server.Files has it.
type Places interface {
	Roots() []notify.RootState
	LookupID(ctx context.Context, id notify.FileID) (notify.Entry, error)
}

// Scope narrows views, to some places of what is served and to what globs let through. Equal scopes of one Feed are one
// pointer, so that views stay comparable. Nobody alters one, and any goroutine may use it. The nil Scope narrows nothing.
//
// The rules:
//   - An entry is seen if the watched directory, by its full served path as it was recorded with the notification, lies at or below one of
//     the prefixes, and with it the entry.
//   - Globs go by the path below the watched directory. An entry is left out if one of exclude matches it or a directory
//     that it is in; if there are any of include, it is seen only if one of them matches it or a directory that it is in. Renames of
//     directories are seen whatever include says, since they move what is below.
//   - A rename over the edge shows the half that is inside, without a link to the other one. What is in a directory that comes into sight so is
//     not told: its moved_to without partner means that it has to be listed.
//   - A watched directory that is taken out of the prefixes, alone or with what is above it, is told as self_removed, even if it came back since.
type Scope struct {
	places           Places
	prefixes         []string // nil: everywhere
	include, exclude []glob
	words            [2][]string // include and exclude, as they were given
	written          int         // bytes of the patterns that these amount to
	windows          sync.Map    // root's FileID to *window; only of roots that are known
}

// glob is a pattern as it is matched: without braces.
type glob struct {
	pattern string // a doublestar pattern of the last names of a path
	names   int    // how many of these; 0: all
	below   string // a doublestar pattern of what is in a directory that the other one matches
	dirs    bool   // for directories only
}

// newGlob makes one of a doublestar pattern. What follows the first **/ is only ever matched against as many names as it has.
func newGlob(p string, dirs bool) glob {
	g := glob{pattern: p, below: p + "/**", dirs: dirs}
	if q, ok := strings.CutSuffix(p, "/**"); ok && q == strings.TrimRight(q, `*/\`) { // else the two differ
		g.pattern, g.below = q, q+"/**"
	}
	if q, ok := strings.CutPrefix(g.pattern, "**/"); ok && !strings.Contains(q, "**") && !hidesSlash(q) {
		g.pattern, g.names = q, 1+strings.Count(q, "/")
	}
	return g
}

// hidesSlash says whether a pattern has an escaped slash, or a class that is written or matched with one: its slashes do not count its names then.
func hidesSlash(p string) bool {
	for len(p) > 0 {
		n := token(p)
		if n > 1 && (strings.Contains(p[:n], "/") || doublestar.MatchUnvalidated(p[:n], "/")) {
			return true
		}
		p = p[n:]
	}
	return false
}

// Limits on the globs of a parameter: each is matched against each path, and kept as long as the stream.
const (
	maxGlobs    = 64
	maxGlob     = 1024     // bytes
	maxPatterns = 256      // that the globs amount to, as the alternatives of braces multiply
	maxWritten  = 16 << 10 // bytes of all these
)

// Scope gives the scope of some prefixes, as notify.Grant has them, and globs; nil if all of that narrows nothing. A glob that cannot
// be used is Invalid.
func (f *Feed) Scope(prefixes, include, exclude []string) (*Scope, error) {
	if prefixes == nil && len(include) == 0 && len(exclude) == 0 {
		return nil, nil
	}
	s := &Scope{places: f.places}
	if prefixes != nil {
		s.prefixes = distinct(prefixes)
		if s.prefixes == nil {
			s.prefixes = []string{}
		}
	}
	var err error
	if s.include, err = parseGlobs("include", include); err != nil {
		return nil, err
	}
	if s.exclude, err = parseGlobs("exclude", exclude); err != nil {
		return nil, err
	}
	s.words = [2][]string{distinct(include), distinct(exclude)}
	for _, g := range slices.Concat(s.include, s.exclude) {
		s.written += len(g.pattern)
	}
	return f.scopes.intern(fmt.Sprintf("%t %q %q", prefixes == nil, s.prefixes, s.words), s), nil
}

// Globs gives what a scope was made of, sorted; nothing for nil.
func (s *Scope) Globs() (include, exclude []string) {
	if s == nil {
		return nil, nil
	}
	return s.words[0], s.words[1]
}

// maxCheap is how many bytes the patterns of globs may have together that are matched within microseconds, whatever they and the paths are.
const maxCheap = 512

// Dear says whether the globs may take long to be matched: what others wait for should not wait for them.
func (s *Scope) Dear() bool { return s != nil && s.written > maxCheap }

func distinct(s []string) []string { return slices.Compact(slices.Sorted(slices.Values(s))) }

// CheckGlobs says what would be wrong with globs for [Feed.Scope].
func CheckGlobs(include, exclude []string) error {
	_, err := parseGlobs("include", include)
	if err == nil {
		_, err = parseGlobs("exclude", exclude)
	}
	return err
}

// CheckGlob says what would be wrong with a glob of any size: its form, or that no path below a directory is like it. One with braces is as wrong
// as the worst of what it stands for, since nobody would see that a part of it does nothing.
func CheckGlob(g string) error {
	wrong := fmt.Sprintf("%.80q is", g)
	if doublestar.ValidatePattern(strings.TrimSuffix(g, "/")) {
		if possible(g) {
			return nil
		}
		if all := writeOut(nil, g); len(all) > 1 {
			if i := slices.IndexFunc(all, func(p string) bool { return !possible(p) }); i >= 0 { // else it is behind what is written out
				wrong = fmt.Sprintf("%.80q stands for %.80q too, which is", g, all[i])
			}
		}
	}
	return &notify.Error{Op: "feed.Scope", Kind: notify.Invalid, Msg: wrong + " not a glob pattern below the directory: try one like **/*.tmp or .git/**"}
}

// possible says whether there can be paths like a valid pattern, whichever alternatives in its braces are taken.
func possible(p string) bool {
	at, _ := follow(p, atStart, false)
	return at&^(atSlash|atName) == 0
}

// progress is where in a path the beginning of a pattern leads to: a set, as its alternatives lead to several places.
type progress uint8

const (
	atStart progress = 1 << iota // where a name has to follow
	atSlash                      // behind the slash of a directory
	atDot                        // behind a name that is . so far
	atDots                       // behind one that is .. so far
	atName                       // behind one that an entry can have
	offPath                      // where no path leads to
)

// follow goes on from a place with a valid pattern: to its end or, in braces, to the end of the alternative; rest begins with what ends it. So
// it costs no more than the pattern is long, whatever its alternatives multiply to.
func follow(p string, from progress, inBraces bool) (to progress, rest string) {
	for p != "" {
		n := token(p)
		switch {
		case p[0] == '{':
			to, rest = 0, p
			for rest[0] != '}' {
				var one progress
				one, rest = follow(rest[1:], from, true)
				to |= one
			}
			from, n = to, len(p)-len(rest)+1
		case inBraces && (p[0] == ',' || p[0] == '}'):
			return from, p
		default:
			from = from.step(p[:n])
		}
		p = p[n:]
	}
	return from, ""
}

// step goes on with one token.
func (from progress) step(t string) progress {
	to := from & offPath
	add := func(of, leads progress) {
		if from&of != 0 {
			to |= leads
		}
	}
	switch t {
	case "/":
		add(atStart|atSlash|atDot|atDots, offPath)
		add(atName, atSlash)
	case `\/`: // which is none at the end
		add(atStart|atSlash|atDot|atDots, offPath)
		add(atName, atStart)
	case ".", `\.`:
		add(atStart|atSlash, atDot)
		add(atDot, atDots)
		add(atDots|atName, atName)
	default:
		add(^offPath, atName)
	}
	return to
}

func parseGlobs(param string, globs []string) (out []glob, _ error) {
	bad := func(format string, args ...any) ([]glob, error) {
		return nil, &notify.Error{Op: "feed.Scope", Kind: notify.Invalid, Msg: fmt.Sprintf(param+": "+format, args...)}
	}
	if len(globs) > maxGlobs {
		return bad("%d globs are more than the %d that are possible", len(globs), maxGlobs)
	}
	weight := 0
	for _, g := range distinct(globs) {
		if len(strings.TrimSuffix(g, "/")) > maxGlob {
			return bad("the pattern %.80q is too large: it may have %d bytes", g, maxGlob)
		}
		if err := CheckGlob(g); err != nil {
			return bad("%s", notify.Message(err))
		}
		for _, p := range writeOut(nil, g) {
			p, dirs := strings.CutSuffix(p, "/") // each has its own: of {a/,b}, only a is for directories
			out = append(out, newGlob(p, dirs))
			weight += len(p)
		}
		if len(out) > maxPatterns || weight > maxWritten {
			return bad("with the pattern %.80q it is too much: all alternatives in braces written out, it may be %d patterns and %d bytes",
				g, maxPatterns, maxWritten)
		}
	}
	return out, nil
}

// writeOut appends the patterns without braces that one with braces stands for. It stops when there are too many.
func writeOut(out []string, p string) []string {
	open := 0
	for open < len(p) && p[open] != '{' {
		open += token(p[open:])
	}
	if open == len(p) {
		return append(out, p)
	}
	ends := []int{open} // of the alternatives, and before the first one
	for i, depth := open, 0; len(ends) == 1 || depth > 0; i += token(p[i:]) {
		switch p[i] {
		case '{':
			depth++
		case '}':
			depth--
		}
		if depth == 0 || depth == 1 && p[i] == ',' {
			ends = append(ends, i)
		}
	}
	rest := p[ends[len(ends)-1]+1:]
	for i := 1; i < len(ends) && len(out) <= maxPatterns; i++ {
		out = writeOut(out, p[:open]+p[ends[i-1]+1:ends[i]]+rest)
	}
	return out
}

// token is how many bytes of a valid pattern belong together at its beginning: an escaped byte, a class, or one byte.
func token(p string) int {
	switch p[0] {
	case '\\':
		return 2
	case '[':
		i := 1
		for ; p[i] != ']'; i++ {
			if p[i] == '\\' {
				i++
			}
		}
		return i + 1
	}
	return 1
}

// scopes are those in use, by all that they are made of.
type scopes struct {
	mu    sync.Mutex
	known map[string]weak.Pointer[Scope]
}

// intern gives the scope with a key: s, unless there is one already.
func (x *scopes) intern(key string, s *Scope) *Scope {
	x.mu.Lock()
	defer x.mu.Unlock()
	if old := x.known[key].Value(); old != nil {
		return old
	}
	if x.known == nil {
		x.known = map[string]weak.Pointer[Scope]{}
	}
	p := weak.Make(s)
	x.known[key] = p
	runtime.AddCleanup(s, func(key string) {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.known[key] == p {
			delete(x.known, key)
		}
	}, key)
	return s
}

// window is a scope as seen from one root.
type window struct {
	*Scope
	all  bool     // its prefixes leave nothing of the root out
	some []string // else these places, relative to the root; "" cannot be among them
}

var nothing = &window{Scope: &Scope{}}

// window gives the scope as seen from a root. What is not, or not yet, known to be a root is not seen.
func (s *Scope) window(root notify.FileID) *window {
	if s == nil {
		return nil
	}
	if w, ok := s.windows.Load(root); ok {
		return w.(*window)
	}
	w := &window{Scope: s, all: s.prefixes == nil}
	if !w.all {
		name, ok := s.nameOf(root)
		if !ok {
			return nothing
		}
		for _, p := range s.prefixes {
			if notify.Within(name, p) {
				w.all, w.some = true, nil
				break
			}
			if notify.Within(p, name) {
				w.some = append(w.some, strings.TrimPrefix(p[len(strings.TrimSuffix(name, "/")):], "/"))
			}
		}
	}
	s.windows.Store(root, w)
	return w
}

func (s *Scope) nameOf(root notify.FileID) (string, bool) {
	if s.places == nil || root == 0 {
		return "", false
	}
	for _, r := range s.places.Roots() {
		if r.ID == root {
			return r.Name, true
		}
	}
	return "", false
}

// holds says whether a path, relative to the root, lies in the prefixes.
func (w *window) holds(path string) bool {
	if w.all {
		return true
	}
	for _, p := range w.some {
		if notify.Within(path, p) {
			return true
		}
	}
	return false
}

// shows says whether n is seen by a view whose directory stands at place at of its spine.
func (w *window) shows(n *notify.Notification, at int, in *judged) bool {
	globs := len(w.include)+len(w.exclude) > 0
	if w.all && !globs {
		return true
	}
	path := n.PathFrom(at)
	if !w.holds(strings.TrimSuffix(n.Path[:len(n.Path)-len(path)], "/")) {
		return false
	}
	carries := n.Type == notify.ChildDirMovedFrom || n.Type == notify.ChildDirMovedTo || n.Type == notify.SelfRescanned
	return !globs || w.lets(path, n.Attr.IsDir() || carries, carries, in)
}

// Lets says whether the globs let an entry through that is there: its path is relative to the watched directory.
func (s *Scope) Lets(path string, dir bool) bool {
	return s == nil || s.lets(path, dir, false, &judged{})
}

// judged is the two directories that were asked about last: most notifications are in the same one as the one before, and
// renames go from one to the other. The zero value has the watched directory, which no glob matches.
type judged [2]struct {
	path               string
	included, excluded bool // the globs match it, or a directory that it is in
}

func (s *Scope) lets(path string, dir, carries bool, in *judged) bool {
	if p := path[:max(strings.LastIndexByte(path, '/'), 0)]; p != in[0].path {
		if in[0], in[1] = in[1], in[0]; p != in[0].path {
			in[0].path, in[0].included, in[0].excluded = p, within(s.include, p), within(s.exclude, p)
		}
	}
	return !in[0].excluded && !match(s.exclude, path, dir) &&
		(carries || len(s.include) == 0 || in[0].included || match(s.include, path, dir))
}

// within says whether one of the globs matches a directory or one that it is in.
func within(globs []glob, path string) bool {
	return match(globs, path, true) ||
		path != "" && slices.ContainsFunc(globs, func(g glob) bool { return doublestar.MatchUnvalidated(g.below, path) })
}

// match says whether one of the globs matches an entry. For one in a directory that is matched, it may say either.
func match(globs []glob, path string, dir bool) bool {
	return path != "" && slices.ContainsFunc(globs, func(g glob) bool {
		return (dir || !g.dirs) && doublestar.MatchUnvalidated(g.pattern, lastNames(path, g.names))
	})
}

// lastNames is the end of a path that has n names; all of it if it has fewer, or n is 0.
func lastNames(path string, n int) string {
	if n == 0 {
		return path
	}
	at := len(path)
	for ; n > 0 && at >= 0; n-- {
		at = strings.LastIndexByte(path[:at], '/')
	}
	return path[at+1:]
}

// Crossed says whether b has a rename that may have taken v's directory out of v's prefixes with one that it was in.
// [View.Left] then tells whether it did. at are the places in b.Notes to look at, as [Index] finds them; nil: all.
func (v View) Crossed(b *notify.Batch, at []int32) bool {
	if v.Scope == nil || v.Scope.prefixes == nil || v.Root != 0 && b.Root != v.Root {
		return false
	}
	return v.Scope.window(b.Root).crossed(b, at, func(*notify.Notification) bool { return true })
}

// crossed says whether one of the notifications of b crosses, and is as wanted.
func (w *window) crossed(b *notify.Batch, at []int32, wanted func(*notify.Notification) bool) bool {
	if at != nil {
		return slices.ContainsFunc(at, func(i int32) bool { return w.crosses(b, &b.Notes[i]) && wanted(&b.Notes[i]) })
	}
	for i := range b.Notes {
		if w.crosses(b, &b.Notes[i]) && wanted(&b.Notes[i]) {
			return true
		}
	}
	return false
}

// crosses says whether n is the first half of a rename that may have taken what lies below it out of the prefixes.
func (w *window) crosses(b *notify.Batch, n *notify.Notification) bool {
	if n.Type != notify.ChildDirMovedFrom || n.Link == 0 || w.all {
		return false
	}
	if w.holds(n.Path) {
		return w.leaves(b, n)
	}
	for _, p := range w.some {
		if notify.Within(p, n.Path) {
			return true
		}
	}
	return false
}

// leaves says whether n is the first half of a rename of a directory out of the prefixes.
func (w *window) leaves(b *notify.Batch, n *notify.Notification) bool {
	if n.Type != notify.ChildDirMovedFrom || n.Link == 0 || w.all || !w.holds(n.Path) {
		return false
	}
	to := b.Partner(n)
	return to == nil || !w.holds(to.Path)
}

// Left says whether a rename that [View.Crossed] found in b has taken v's directory out of v's prefixes; then hit tells that it is gone, as of
// the end of b. What the directory was in then is not recorded. So it has left if it is outside now, and if it is in what was renamed, and
// that took it outside: it came back since, and what was done to it meanwhile is not seen. One that is in no tree is for the log to
// tell of. It does not wait for the disk.
func (v View) Left(b *notify.Batch, at []int32) (hit Hit, left bool) {
	if v.Scope == nil || v.Scope.prefixes == nil || v.Scope.places == nil {
		return Hit{}, false
	}
	e, err := v.Scope.places.LookupID(context.Background(), v.Dir)
	if err != nil {
		return Hit{}, false
	}
	w := v.Scope.window(b.Root)
	if v.Scope.window(e.Root).holds(e.Path) && !w.crossed(b, at, func(n *notify.Notification) bool { return w.took(b, n, &e) }) {
		return Hit{}, false
	}
	n := &notify.Notification{Seq: b.Number.End(), Type: notify.SelfRemoved, Spine: notify.Spine{v.Dir}}
	n.Attr.Mode = notify.ModeDir
	return Hit{Note: n}, true
}

// took says whether n, the first half of a rename, took out of the prefixes an entry that is in that directory now.
func (w *window) took(b *notify.Batch, n *notify.Notification, e *notify.Entry) bool {
	i := slices.Index(e.Spine, n.ID())
	if i < 0 || i == len(e.Spine)-1 { // its own rename is for Match to tell of
		return false
	}
	rest := "/" + (&notify.Notification{Path: e.Path}).PathFrom(i)
	to := b.Partner(n)
	return w.holds(n.Path+rest) && (to == nil || !w.holds(to.Path+rest))
}
