package access

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"fs_notify/notify"
)

// tokenPrefix begins each token that we make, so that one that went astray can be recognized.
const tokenPrefix = "fsn_"

// maxFile is the size in bytes up to which a file of tokens or users is read.
const maxFile = 4 << 20

// File is a tokens file.
type File struct {
	Tokens []Token `yaml:"tokens"`
	// Users says what users may do who log in with a password. One who is not named may see everything and do all but what takes admin.
	Users []User `yaml:"users"` // nil: the file does not have them

	comments yaml.CommentMap // of the file as it was read, to be written again
	above    []string        // comments before all of that
}

// Token is one entry of a tokens file.
type Token struct {
	Name       string    `yaml:"name"`
	Hash       string    `yaml:"hash"`            // sha256: or $argon2id$
	Paths      []string  `yaml:"paths,omitempty"` // absolute paths, as they are served, at or below which everything is seen; none: all
	Privileges []string  `yaml:"privileges"`
	Expires    time.Time `yaml:"expires,omitempty"` // zero: never
}

// User is what somebody may do who logs in with a password.
type User struct {
	Name       string   `yaml:"name"`
	Paths      []string `yaml:"paths,omitempty"`
	Privileges []string `yaml:"privileges"`
}

// privileges by name. The order is that of the documents.
var privileges = []struct {
	name string
	set  notify.Privileges
}{
	{"notify", notify.MayNotify},
	{"notify.recursive", notify.MayRecurse | notify.MayNotify},
	{"changes", notify.MayChanges},
	{"admin", notify.MayAdmin},
}

// Privileges lists the names of all privileges.
func Privileges() []string {
	var out []string
	for _, p := range privileges {
		out = append(out, p.name)
	}
	return out
}

// names lists the privileges in a set.
func names(set notify.Privileges) []string {
	out := []string{}
	for _, p := range privileges {
		if set.Has(p.set) {
			out = append(out, p.name)
		}
	}
	return out
}

// ReadFile reads a tokens file and checks all of it.
func ReadFile(name string) (*File, error) {
	text, err := readFile(name)
	if err != nil {
		return nil, err
	}
	f := &File{comments: yaml.CommentMap{}}
	if err := f.decode(text); err != nil {
		line, _, _ := strings.Cut(yaml.FormatError(err, false, false), "\n")
		return nil, fmt.Errorf("%s: %s", name, line)
	}
	if err := f.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

// decode reads one YAML mapping.
func (f *File) decode(text []byte) error {
	file, err := parser.ParseBytes(text, parser.ParseComments)
	if err != nil {
		return err
	}
	var body ast.Node
	for _, doc := range file.Docs {
		comments, empty := doc.Body.(*ast.CommentGroupNode)
		if empty {
			for _, c := range comments.Comments {
				f.above = append(f.above, c.String())
			}
		}
		if _, directive := doc.Body.(*ast.DirectiveNode); doc.Body == nil || directive {
			empty = true
		}
		switch {
		case body != nil && (doc.Start != nil || !empty):
			return errors.New("it holds more than one document: put all tokens and users into one, without a line ---")
		case !empty:
			body = doc.Body
		}
	}
	if body == nil {
		return nil
	}
	if top, ok := body.(*ast.MappingNode); ok { // a list without a line in it is an empty one
		for _, v := range top.Values {
			if isNull(v.Value) {
				none := ast.Sequence(v.Value.GetToken(), true)
				none.SetPath(v.Value.GetPath())
				v.Value = none
			}
		}
	}
	written := &asWritten{}
	if ast.Walk(written, body); written.err != nil {
		return written.err
	}
	return yaml.NodeToValue(body, f, yaml.Strict(), yaml.CommentToMap(f.comments))
}

// asWritten makes texts of numbers and truth values, which are what somebody has typed: 007 is a name, and not 7. A key without a value
// is refused: what is left out means everything, or for ever, and who has typed the key meant something else.
type asWritten struct{ err error }

func (v *asWritten) Visit(n ast.Node) ast.Visitor {
	switch n := n.(type) {
	case *ast.MappingValueNode:
		if isNull(n.Value) && v.err == nil {
			key := n.Key.GetToken()
			v.err = fmt.Errorf("[%d:%d] %s has no value: give it one, or leave it out", key.Position.Line, key.Position.Column, key.Value)
		}
		n.Value = v.text(n.Value)
	case *ast.SequenceNode:
		for i := range n.Values {
			n.Values[i] = v.text(n.Values[i])
		}
	case *ast.AnchorNode:
		n.Value = v.text(n.Value)
	case *ast.TagNode:
		n.Value = v.text(n.Value)
	}
	return v
}

func (*asWritten) text(n ast.Node) ast.Node {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode, *ast.BoolNode:
		s := ast.String(n.GetToken())
		s.SetPath(n.GetPath())
		s.SetComment(n.GetComment())
		return s
	}
	return n
}

func isNull(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.NullNode:
		return true
	case *ast.AnchorNode:
		return isNull(n.Value)
	case *ast.TagNode:
		return n.Start.Value == "!!null" || isNull(n.Value)
	}
	return false
}

// UnmarshalYAML decodes a token. A time that is not to be understood is an error: yaml would make it the zero time, which is for ever.
func (t *Token) UnmarshalYAML(decode func(any) error) error {
	var written struct {
		Name       string   `yaml:"name"`
		Hash       string   `yaml:"hash"`
		Paths      []string `yaml:"paths"`
		Privileges []string `yaml:"privileges"`
		Expires    *string  `yaml:"expires"`
	}
	if err := decode(&written); err != nil {
		return err
	}
	*t = Token{Name: written.Name, Hash: written.Hash, Paths: written.Paths, Privileges: written.Privileges}
	if written.Expires == nil {
		return nil
	}
	for _, form := range []string{time.RFC3339, "2006-1-2"} {
		if at, err := time.Parse(form, *written.Expires); err == nil && !at.IsZero() {
			t.Expires = at
			return nil
		}
	}
	return fmt.Errorf("token %q expires at %q, which is no time: write it as 2027-01-31T08:00:00Z, or as 2027-01-31, or leave it out: never", t.Name, *written.Expires)
}

func readFile(name string) ([]byte, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxFile {
		return nil, fmt.Errorf("%s has more than %d bytes", name, maxFile)
	}
	return os.ReadFile(name)
}

func (f *File) check() error {
	known := map[string]bool{}
	for i, t := range f.Tokens {
		switch err := checkHash(t.Hash, false); {
		case t.Name == "":
			return fmt.Errorf("token number %d has no name", i+1)
		case known[t.Name]:
			return fmt.Errorf("there are two tokens with the name %q", t.Name)
		case err != nil:
			return fmt.Errorf("the hash of token %q cannot be used: %w", t.Name, err)
		}
		known[t.Name] = true
		if _, err := grantOf(t.Name, t.Paths, t.Privileges); err != nil {
			return fmt.Errorf("token %q: %w", t.Name, err)
		}
	}
	known = map[string]bool{}
	for i, u := range f.Users {
		if u.Name == "" || known[u.Name] {
			return fmt.Errorf("user number %d has no name, or that of another", i+1)
		}
		known[u.Name] = true
		if _, err := grantOf(u.Name, u.Paths, u.Privileges); err != nil {
			return fmt.Errorf("user %q: %w", u.Name, err)
		}
	}
	return nil
}

// grantOf makes the grant of some words.
func grantOf(name string, paths, words []string) (*notify.Grant, error) {
	g := &notify.Grant{Name: name}
	if paths != nil && len(paths) == 0 {
		return nil, errors.New("the list of its paths is empty: leave it out if it may see everything")
	}
	for _, p := range paths {
		if !strings.HasPrefix(p, "/") || strings.ContainsRune(p, 0) {
			return nil, fmt.Errorf("the path %q should be absolute, such as /srv/data", p)
		}
		if slices.Contains(strings.Split(p, "/"), "..") {
			return nil, fmt.Errorf("the path %q should have no \"..\" in it", p)
		}
		g.Prefixes = append(g.Prefixes, path.Clean(p))
	}
	for _, w := range words {
		i := slices.IndexFunc(privileges, func(p struct {
			name string
			set  notify.Privileges
		}) bool {
			return p.name == w
		})
		if i < 0 {
			return nil, fmt.Errorf("there is no privilege %q: there are %s", w, strings.Join(Privileges(), ", "))
		}
		g.Privileges |= privileges[i].set
	}
	if len(words) == 0 {
		return nil, fmt.Errorf("it has no privileges: name some of %s", strings.Join(Privileges(), ", "))
	}
	return g, nil
}

// ErrExists and ErrUnknown are what goes wrong with names of tokens.
var (
	ErrExists  = errors.New("there is a token of that name")
	ErrUnknown = errors.New("there is no token of that name")
)

// Create adds a token to f and gives its secret, which f does not have. The name must be new.
func (f *File) Create(t Token, slow bool) (secret string, err error) {
	if slices.ContainsFunc(f.Tokens, func(o Token) bool { return o.Name == t.Name }) {
		return "", ErrExists
	}
	secret = tokenPrefix + newSecret()
	t.Hash = SHA256(secret)
	if slow {
		t.Hash = Argon2id(secret)
	}
	f.Tokens = append(f.Tokens, t)
	return secret, f.check()
}

// Revoke takes a token out of f, with the comments on it. Those on tokens behind it go with them: a comment is kept by the number of its token.
func (f *File) Revoke(name string) error {
	i := slices.IndexFunc(f.Tokens, func(t Token) bool { return t.Name == name })
	if i < 0 {
		return ErrUnknown
	}
	f.Tokens = slices.Delete(f.Tokens, i, i+1)
	comments := yaml.CommentMap{}
	var below []string // what stands behind the last entry, at the end of the list, is no word on that entry
	for path, c := range f.comments {
		number, rest, _ := strings.Cut(strings.TrimPrefix(path, "$.tokens["), "]")
		switch n, err := strconv.Atoi(number); {
		case err == nil && n == i:
			if rest == "" {
				below, _ = split(c, yaml.CommentFootPosition)
			}
			continue
		case err == nil && n > i:
			path = fmt.Sprintf("$.tokens[%d]%s", n-1, rest)
		}
		comments[path] = c
	}
	if len(below) > 0 {
		end := "$.tokens"
		if last := len(f.Tokens) - 1; last >= 0 {
			end = fmt.Sprintf("$.tokens[%d]", last)
		}
		foot, others := split(comments[end], yaml.CommentFootPosition)
		comments[end] = append(others, yaml.FootComment(append(below, foot...)...))
	}
	f.comments = comments
	return nil
}

// split gives the lines of those comments that are at a position, and the other comments.
func split(comments []*yaml.Comment, at yaml.CommentPosition) (lines []string, others []*yaml.Comment) {
	for _, c := range comments {
		if c.Position == at {
			lines = append(lines, c.Texts...)
		} else {
			others = append(others, c)
		}
	}
	return lines, others
}

// Lock keeps others who would change a tokens file waiting, from before it is read until it was written and unlock is called.
func Lock(name string) (unlock func() error, err error) { return lockDir(filepath.Dir(followed(name))) }

// Write replaces the file as a whole. A new one can be read by its owner only; one that is there keeps its owner, its group and its mode.
func (f *File) Write(name string) error {
	if len(f.Tokens) == 0 {
		f.Tokens = []Token{}
		if beside, others := split(f.comments["$.tokens"], yaml.CommentLinePosition); len(beside) > 0 { // which the encoder would write into the key
			above, others := split(others, yaml.CommentHeadPosition)
			f.comments["$.tokens"] = append(others, yaml.HeadComment(append(above, beside...)...))
		}
	}
	text, err := yaml.MarshalWithOptions(f, yaml.WithComment(f.comments), yaml.OmitZero(), yaml.IndentSequence(true))
	if err != nil {
		return err
	}
	for _, line := range slices.Backward(f.above) {
		text = append([]byte(line+"\n"), text...)
	}
	return replaceFile(followed(name), text)
}

// followed gives the file that a symbolic link stands for.
func followed(name string) string {
	if real, err := filepath.EvalSymlinks(name); err == nil {
		return real
	}
	return name
}

// replaceFile writes a file beside and renames it.
func replaceFile(name string, text []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails once it was renamed
	_, err = tmp.Write(text)
	if old, e := os.Stat(name); e == nil && err == nil {
		if err = keepOwner(tmp, old); err == nil {
			err = tmp.Chmod(old.Mode().Perm())
		}
	}
	if err == nil {
		err = tmp.Sync()
	}
	if e := tmp.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err == nil {
		err = SyncDir(filepath.Dir(name))
	}
	return err
}

// readUsers reads an htpasswd file: user:hash on each line; empty lines and those that begin with # do not count.
func readUsers(name string) (map[string]string, error) {
	text, err := readFile(name)
	if err != nil {
		return nil, err
	}
	users := map[string]string{}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		user, hash, ok := strings.Cut(line, ":")
		if !ok || user == "" {
			return nil, fmt.Errorf("%s: line %d should be user:hash", name, n)
		}
		if err := checkHash(hash, true); err != nil {
			return nil, fmt.Errorf("%s: line %d: the hash of %q cannot be used: %w", name, n, user, err)
		}
		if users[user] != "" {
			return nil, fmt.Errorf("%s: line %d: there are two users %q", name, n, user)
		}
		users[user] = hash
	}
	return users, nil
}
