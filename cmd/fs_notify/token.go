package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"fs_notify/server/access"
)

const tokenHelp = `Make, list and take back the tokens of "fs_notify serve --tokens FILE". The file is YAML and holds
no token, only hashes:

  tokens:
    - name: ingest
      hash: sha256:…                # or $argon2id$…, for words that somebody chose
      paths: [/srv/data/in]         # at or below which everything is seen; left out: everywhere
      privileges: [notify, notify.recursive]
      expires: 2027-01-31T00:00:00Z # left out: never
  users:                            # what those may who log in with a password (serve --users);
    - name: joe                     # one who is not named: everything but admin
      paths: [/srv/data/home/joe]
      privileges: [notify, notify.recursive, changes]

A server that runs notices changes within two seconds. Streams of a token that was taken back, or changed,
end; all others go on.

Privileges: notify (watch one directory, look entries up), notify.recursive (all below one), changes (the change
APIs of the other protocols), admin (who did it, names in /readyz).`

const tokenExample = `  fs_notify token create ingest --tokens /etc/fs_notify/tokens.yaml --prefix /srv/data/in --expires 90d
  fs_notify token list --tokens /etc/fs_notify/tokens.yaml
  fs_notify token revoke ingest --tokens /etc/fs_notify/tokens.yaml`

// tokenFlags are the flags of fs_notify token.
type tokenFlags struct {
	tokens     string   // the file
	prefixes   []string // create: absolute paths
	privileges []string // create
	expires    string   // create: a time, or a span from now
	argon      bool     // create
	json       bool     // list
}

func (a *app) tokenCommand() *cobra.Command {
	var o tokenFlags
	cmd := &cobra.Command{
		Use:     "token",
		Short:   "Make, list and take back tokens",
		Long:    tokenHelp,
		Example: tokenExample,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return misused("what of tokens? There are create, list and revoke")
			}
			return misused("unknown command %q%s", "token "+args[0], didYouMean(args[0], []string{"create", "list", "revoke"}))
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.PersistentFlags().StringVar(&o.tokens, "tokens", "", "the YAML `file`")
	sub := func(use, short string, named bool, f func(name string) error) *cobra.Command {
		var name string
		c := &cobra.Command{Use: use, Short: short,
			Args: func(cmd *cobra.Command, args []string) error {
				switch {
				case !named && len(args) > 0, len(args) > 1:
					return misused("unexpected word %q", args[len(args)-1])
				case named && len(args) == 0:
					return misused("which token? Give its name: %s NAME", cmd.CommandPath())
				case named:
					name = args[0]
				}
				return nil
			},
			RunE: a.runs(func(ctx context.Context, cmd *cobra.Command) error {
				if o.tokens == "" {
					return misused("which file? Name it with --tokens")
				}
				return f(name)
			})}
		cmd.AddCommand(c)
		return c
	}
	create := sub("create NAME", "Make a token, put its hash into the file and print it, once", true, func(name string) error { return a.tokenCreate(&o, name) })
	create.Flags().StringArrayVar(&o.prefixes, "prefix", nil, "let it see what is at or below this absolute `path` only; may be repeated; without: everything")
	create.Flags().StringArrayVar(&o.privileges, "privilege", []string{"notify", "notify.recursive"}, "what it may do, a `list` of "+strings.Join(access.Privileges(), ", "))
	create.Flags().StringVar(&o.expires, "expires", "", "until when: a time (2027-01-31T08:00:00Z) or a `span` from now (12h, 90d); without: for ever")
	create.Flags().BoolVar(&o.argon, "argon2id", false, "keep an argon2id hash, which is slow to check, instead of SHA-256")
	list := sub("list", "List the tokens of the file", false, func(string) error { return a.tokenList(&o) })
	list.Flags().BoolVar(&o.json, "json", false, "print one JSON array")
	sub("revoke NAME", "Take a token out of the file", true, func(name string) error { return a.tokenRevoke(&o, name) })
	return cmd
}

// readTokens reads the file; one that there is not yet is empty.
func (o *tokenFlags) readTokens(may bool) (*access.File, error) {
	f, err := access.ReadFile(o.tokens)
	if may && errors.Is(err, fs.ErrNotExist) {
		return &access.File{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("--tokens: %w", err)
	}
	return f, nil
}

func (a *app) tokenCreate(o *tokenFlags, name string) error {
	t := access.Token{Name: name, Paths: o.prefixes, Privileges: strings.Split(strings.Join(o.privileges, ","), ",")}
	if o.expires != "" {
		at, err := time.Parse(time.RFC3339, o.expires)
		if err != nil {
			d, err := parseDuration(o.expires)
			if err != nil || d == 0 {
				return misused("--expires %s: it should be a time, such as 2027-01-31T08:00:00Z, or a span from now, such as 90d", o.expires)
			}
			at = time.Now().Add(d)
		}
		if !at.After(time.Now()) {
			return misused("--expires %s: that is over, such a token would never be good", o.expires)
		}
		t.Expires = at.UTC().Truncate(time.Second)
	}
	unlock, err := access.Lock(o.tokens)
	if err != nil {
		return fmt.Errorf("--tokens: %w", err)
	}
	defer unlock()
	f, err := o.readTokens(true)
	if err != nil {
		return err
	}
	secret, err := f.Create(t, o.argon)
	switch {
	case errors.Is(err, access.ErrExists):
		return fmt.Errorf("there is a token %q already: take it back first, or give another name", name)
	case err != nil:
		return misused("%v", err)
	}
	if err := f.Write(o.tokens); err != nil {
		return fmt.Errorf("the token cannot be kept: %w", err)
	}
	if _, err := fmt.Fprintln(a.stdout, secret); err != nil { // nobody has it
		f.Revoke(name) // it is there
		if e := f.Write(o.tokens); e != nil {
			return fmt.Errorf("the token cannot be printed (%w), and not be taken back: %w", err, e)
		}
		return fmt.Errorf("the token cannot be printed, and was taken back: %w", err)
	}
	a.log.Info("keep it: it is printed this once", "token", name, "file", o.tokens)
	return nil
}

func (a *app) tokenRevoke(o *tokenFlags, name string) error {
	unlock, err := access.Lock(o.tokens)
	if err != nil {
		return fmt.Errorf("--tokens: %w", err)
	}
	defer unlock()
	f, err := o.readTokens(false)
	if err != nil {
		return err
	}
	var names []string
	for _, t := range f.Tokens {
		names = append(names, t.Name)
	}
	if err := f.Revoke(name); errors.Is(err, access.ErrUnknown) {
		return fmt.Errorf("there is no token %q in %s%s", name, o.tokens, didYouMean(name, names))
	}
	if err := f.Write(o.tokens); err != nil {
		return fmt.Errorf("the token cannot be taken back: %w", err)
	}
	return nil
}

func (a *app) tokenList(o *tokenFlags) error {
	f, err := o.readTokens(false)
	if err != nil {
		return err
	}
	slices.SortFunc(f.Tokens, func(a, b access.Token) int { return strings.Compare(a.Name, b.Name) })
	if o.json {
		type token struct {
			Name       string     `json:"name"`
			Paths      []string   `json:"paths"` // null: all
			Privileges []string   `json:"privileges"`
			Expires    *time.Time `json:"expires"` // null: never
		}
		out := []token{}
		for _, t := range f.Tokens {
			j := token{Name: t.Name, Paths: t.Paths, Privileges: t.Privileges}
			if !t.Expires.IsZero() {
				j.Expires = &t.Expires
			}
			out = append(out, j)
		}
		return a.printPython(out)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tPRIVILEGES\tPATHS\tEXPIRES")
	for _, t := range f.Tokens {
		paths, expires := "all", "never"
		if len(t.Paths) > 0 {
			paths = strings.Join(t.Paths, " ")
		}
		if !t.Expires.IsZero() {
			if expires = t.Expires.UTC().Format(time.RFC3339); !time.Now().Before(t.Expires) {
				expires += " (over)"
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", printable(t.Name, true), strings.Join(t.Privileges, " "), printable(paths, true), expires)
	}
	return w.Flush()
}

// tokenOf gives the token that the client of a server shows: from a file, from the environment, or of a session.
func (a *app) tokenOf(file, store string) (string, error) {
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		t := strings.TrimSpace(string(text))
		if t == "" || !sendable(t) {
			return "", fmt.Errorf("--token-file: %s should hold one line, the token", file)
		}
		return t, nil
	}
	t, _ := a.lookupEnv(envPrefix + "TOKEN")
	if t = strings.TrimSpace(t); !sendable(t) {
		return "", misused("%sTOKEN should hold one line, the token", envPrefix)
	}
	if t != "" {
		return t, nil
	}
	return readCredentials(store)
}

// sendable says whether a token can be shown: a header has no place for control characters.
func sendable(token string) bool {
	return !strings.ContainsFunc(token, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}
