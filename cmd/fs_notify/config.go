package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fs_notify/notify"
)

// Every flag can also be set in the environment (--state-dir: FS_NOTIFY_STATE_DIR; an empty value sets nothing) and in
// a YAML file (state-dir:), in this order of precedence. Lists are taken apart as envList says in the environment, and are
// lists or single values in the file. Of two flags that exclude each other, what goes before counts too. A key of the file must be a flag of some command; those of other
// commands are passed over, so that one file serves all.

const envPrefix = "FS_NOTIFY_"

// maxConfig is the size in bytes up to which a configuration file is read.
const maxConfig = 1 << 20

// origin says where the value of a flag came from.
type origin string

const fromCommandLine origin = "command line"

// typed says whether a flag was given on the command line.
func (a *app) typed(flag string) bool { return a.from[flag] == fromCommandLine }

// configure completes cmd's flags from the environment and from the file.
func (a *app) configure(cmd *cobra.Command) error {
	a.from, a.fromConfig = make(map[string]origin), make(map[string][]string)
	cmd.Flags().Visit(func(f *pflag.Flag) { a.from[f.Name] = fromCommandLine })
	if err := a.fromEnvironment(cmd); err != nil {
		return err
	}
	if a.common.config == "" {
		return nil
	}
	return a.fromFile(cmd, a.common.config)
}

func (a *app) fromEnvironment(cmd *cobra.Command) error {
	var errs []error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		name := envName(f.Name)
		v, ok := a.lookupEnv(name)
		if !ok || v == "" || a.from[f.Name] != "" || a.overruled(cmd, f.Name, "") || f.Name == "help" || f.Name == "version" {
			return
		}
		if strings.HasPrefix(v, "tcp://") && (f.Name == "port" || f.Name == "host") {
			return // Kubernetes sets FS_NOTIFY_PORT to this for a service of our name
		}
		values := []string{v}
		if f.Value.Type() == "stringArray" {
			values = envList(f.Name, v)
		}
		errs = append(errs, a.set(f, origin(name), values))
	})
	return errors.Join(errs...)
}

// rivals are flags of which only one can be given.
var rivals = map[string]string{"json": "ndjson", "ndjson": "json", "path": "id", "id": "path"}

// overruled says whether what would be given to a flag has no say, as its rival got a value from what goes before: from the command line, or
// from anything else than the file, if that is where it would come from.
func (a *app) overruled(cmd *cobra.Command, flag string, file origin) bool {
	f := cmd.Flags().Lookup(rivals[flag])
	if f == nil || f.Value.String() == f.DefValue {
		return false
	}
	return a.typed(f.Name) || file != "" && a.from[f.Name] != file
}

// ofKubernetes are the variables that a service of our name has set in every pod.
var ofKubernetes = regexp.MustCompile(`^` + envPrefix + `(SERVICE_(HOST|PORT)|PORT_\d+_)`)

// warnOfEnvironment logs the variables that look like settings and are none of any command, such as a misspelled one. They do no harm
// otherwise: who sets them may mean another program.
func (a *app) warnOfEnvironment(cmd *cobra.Command) {
	known := []string{envName("token")}
	for _, flag := range settings(cmd.Root()) {
		known = append(known, envName(flag))
	}
	for _, v := range a.environ() {
		name, value, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, envPrefix) || value == "" || slices.Contains(known, name) || ofKubernetes.MatchString(name) {
			continue
		}
		facts := []any{"name", name}
		if like := notify.Nearest(name, known); like != "" {
			facts = append(facts, "like", like)
		}
		a.log.Warn("an environment variable is passed over: it is no setting of any command", facts...)
	}
}

// envList takes a list in the environment apart: at colons, as PATH is; origins and networks, which have colons, at spaces and commas;
// anything at line breaks, if there are some.
func envList(flag, v string) []string {
	separates := func(r rune) bool { return r == os.PathListSeparator }
	switch {
	case strings.Contains(v, "\n"):
		separates = func(r rune) bool { return r == '\n' }
	case flag == "cors-origin" || flag == "trusted-proxies":
		separates = func(r rune) bool { return r == ' ' || r == ',' }
	}
	return strings.FieldsFunc(v, separates)
}

func (a *app) fromFile(cmd *cobra.Command, path string) error {
	values, err := readConfig(path)
	if err != nil {
		return misused("the configuration file cannot be used: %v", err)
	}
	words := slices.DeleteFunc(settings(cmd.Root()), func(name string) bool { return name == "config" })
	for _, item := range values {
		key, ok := item.Key.(string)
		if !ok || !slices.Contains(words, key) {
			return misused("%s: unknown key %q%s", path, fmt.Sprint(item.Key), didYouMean(fmt.Sprint(item.Key), words))
		}
		f := cmd.Flags().Lookup(key)
		if f == nil || a.from[key] != "" || a.overruled(cmd, key, origin(path)) {
			continue
		}
		texts, err := configTexts(item.Value)
		if err != nil {
			return misused("%s: %s %v", path, key, err)
		}
		if len(texts) != 1 && f.Value.Type() != "stringArray" {
			return misused("%s: %s wants one value, not a list", path, key)
		}
		if err := a.set(f, origin(path), texts); err != nil {
			return err
		}
		a.fromConfig[key] = texts
	}
	return nil
}

// set gives a flag its value without marking it as typed.
func (a *app) set(f *pflag.Flag, from origin, values []string) error {
	var err error
	if list, ok := f.Value.(pflag.SliceValue); ok {
		err = list.Replace(values)
	} else {
		err = f.Value.Set(values[0])
	}
	if err != nil {
		return misused("%s: invalid value %q for %s: %v", from, strings.Join(values, ", "), f.Name, wrongValue(f, err))
	}
	a.from[f.Name] = from
	return nil
}

// readConfig reads a file with one YAML mapping.
func readConfig(path string) (yaml.MapSlice, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxConfig {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxConfig)
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %s", path, firstLine(yaml.FormatError(err, false, false)))
	}
	var values yaml.MapSlice
	for i, doc := range file.Docs {
		if i > 0 {
			return nil, fmt.Errorf("%s holds more than one document: put all settings into one, without a line ---", path)
		}
		if doc.Body == nil {
			continue
		}
		ast.Walk(asWritten{}, doc.Body)
		if err := yaml.NodeToValue(doc.Body, &values); err != nil {
			return nil, fmt.Errorf("%s: %s", path, firstLine(yaml.FormatError(err, false, false)))
		}
	}
	return values, nil
}

// asWritten makes texts of numbers and truth values, which are what somebody has typed: 1.10 is a name, and not 1.1.
type asWritten struct{}

func (v asWritten) Visit(n ast.Node) ast.Visitor {
	switch n := n.(type) {
	case *ast.MappingValueNode:
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

func (asWritten) text(n ast.Node) ast.Node {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode, *ast.BoolNode:
		return ast.String(n.GetToken())
	}
	return n
}

// configTexts gives a YAML value as what one would type behind the flag.
func configTexts(v any) ([]string, error) {
	switch v := v.(type) {
	case string:
		return []string{v}, nil
	case []any:
		var out []string
		for _, e := range v {
			t, err := configTexts(e)
			if err != nil || len(t) != 1 {
				return nil, fmt.Errorf("wants a list of plain values")
			}
			out = append(out, t[0])
		}
		return out, nil
	case nil:
		return nil, fmt.Errorf("has no value")
	}
	return nil, fmt.Errorf("wants a plain value or a list of them")
}

func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// settings lists the flags of all commands that can be set elsewhere too, sorted.
func settings(root *cobra.Command) (names []string) {
	for _, c := range allCommands(root) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && f.Name != "version" {
				names = append(names, f.Name)
			}
		})
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// allCommands lists c and all below it.
func allCommands(c *cobra.Command) []*cobra.Command {
	out := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		out = append(out, allCommands(sub)...)
	}
	return out
}
