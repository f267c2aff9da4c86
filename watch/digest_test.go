//go:build linux

package watch_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"fs_notify/notify"
	"fs_notify/notify/journal"
	"fs_notify/watch"
	"fs_notify/watch/watchtest"
)

// toldOf lists what was told of some names, without what comes of their closing.
func toldOf(notes []notify.Notification, names ...string) (out []string) {
	for _, n := range notes {
		if slices.Contains(names, n.Path) && n.Type != notify.ChildFileClosed {
			out = append(out, strings.TrimPrefix(n.Type.String(), "child_")+" "+n.Path)
		}
	}
	return out
}

// An entry changes when the first scan has seen it, and before its extended attributes are read: how it differs is told as well as
// that can be known, and what changes after that is told exactly.
func TestChangesBeforeExtendedAttributesAreRead(t *testing.T) {
	for _, tt := range []struct{ script, want string }{
		{"setfattr -n user.a -v 2 f", "extra_attrs_changed f"},
		{"setfattr -n user.b -v 1 f", "extra_attrs_changed f"},
		{"setfattr -x user.a f", "extra_attrs_changed f"},
		{"setfacl -m u:1:r f", "acl_changed f, extra_attrs_changed f"},
		{"chmod 600 f", "acl_changed f"},
		{"touch -h -d 2001-01-01 f", "mtime_changed f, atime_changed f"},
		{"echo more >> f", "data_written f, size_changed f, mtime_changed f"},
		{"mv f g", "file_moved_from f, file_moved_to g"},
		{"ln f g", "file_added g"},
		{"setfattr -n user.a -v 2 d", "extra_attrs_changed d"},
		{"touch d/f", ""},
		{"rm f", "file_removed f"},
	} {
		t.Run(tt.script, func(t *testing.T) {
			eachSource(t, func(t *testing.T, kind string) {
				t.Parallel()
				dir, done, want := t.TempDir(), false, tt.want
				sh(t, dir, "mkdir d; echo one > f; chmod 644 f; for f in f d; do setfattr -n user.a -v 1 $f; done; touch -d yesterday d")
				r := watchtest.Start(t, kind, dir, alone(kind), func(c *watch.Config) {
					c.Source = &ambush{c.Source, func(path string) { // d is found in the listing that found f
						if filepath.Base(path) == "d" && !done {
							done = true
							sh(t, dir, tt.script)
						}
					}}
				}, watchtest.KeepAll)
				r.Settle(t)
				got := toldOf(r.Take(), "f", "g", "d")
				if kind == "poll" && want == "mtime_changed f, atime_changed f" {
					want = "data_written f, mtime_changed f" // there is no record that says otherwise
				}
				if s := strings.Join(slices.DeleteFunc(got, func(s string) bool { return s == "mtime_changed d" }), ", "); s != want {
					t.Errorf("before: %s, want %s", s, want)
				}
				r.Check(t)
				if tt.script == "rm f" {
					return
				}
				name := "f"
				if tt.script == "mv f g" {
					name = "g"
				}
				sh(t, dir, "setfattr -n user.a -v 9 "+name)
				r.Settle(t)
				if got := toldOf(r.Take(), name); !slices.Equal(got, []string{"extra_attrs_changed " + name}) {
					t.Errorf("after: %q", got)
				}
			})
		})
	}
}

// forgetful is a journal that cannot be told of extended attributes that were read later.
type forgetful struct{ *journal.Journal }

func (forgetful) AmendTree(context.Context, notify.FileID, []byte, func(notify.FileID, *notify.Attr) bool) error {
	return errors.New("the disk is full")
}

// keeper is a journal that keeps what is appended in memory, too.
type keeper struct {
	*journal.Journal
	mu    sync.Mutex
	notes []notify.Notification
}

func (k *keeper) Append(ctx context.Context, root notify.FileID, notes []notify.Notification) (notify.BatchNumber, error) {
	k.mu.Lock()
	k.notes = append(k.notes, notes...)
	k.mu.Unlock()
	return k.Journal.Append(ctx, root, notes)
}

func (k *keeper) take() []notify.Notification {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := k.notes
	k.notes = nil
	return out
}

// remembering starts a watcher that goes on from the journal in a directory, and ends with stop, as that does.
func remembering(t *testing.T, kind, dir, state string, options ...func(*watch.Config)) (r *watchtest.Rig, kept *keeper, stop func()) {
	t.Helper()
	j, err := journal.Open(state, journal.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	kept = &keeper{Journal: j}
	r = watchtest.Start(t, kind, dir, append([]func(*watch.Config){func(c *watch.Config) { c.Sink, c.Past, c.Head = kept, j, j.Bounds().Head }}, options...)...)
	return r, kept, func() {
		t.Helper()
		r.Stop()
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// forgetting is for a watcher by remembering.
func forgetting(c *watch.Config) { c.Past = forgetful{c.Past.(*journal.Journal)} }

// What changes while nobody watches is found by what is remembered: with extended attributes that were read and stored
// behind the scan, and with those that were not, as the service ended too soon.
func TestExtendedAttributesOverARestart(t *testing.T) {
	for _, stored := range []bool{true, false} {
		t.Run(fmt.Sprint("stored=", stored), func(t *testing.T) {
			dir, state := t.TempDir(), t.TempDir()
			sh(t, dir, "touch both one none plain gone; for f in both one none gone; do setfattr -n user.a -v 1 $f; done; setfacl -m u:1:r none")
			var kept *keeper
			start := func() (*watchtest.Rig, func()) {
				var options []func(*watch.Config)
				if !stored {
					options = append(options, forgetting)
				}
				r, k, stop := remembering(t, "inotify", dir, state, options...)
				kept = k
				return r, func() {
					eventually(t, func() string {
						for _, note := range kept.TreeNotes() {
							if stored && strings.Contains(string(note), `"bare"`) {
								return "the tree is without extended attributes: " + string(note)
							}
						}
						return ""
					})
					stop()
				}
			}
			_, stop := start()
			stop()
			sh(t, dir, "chmod 600 both; setfattr -n user.a -v 2 both; setfattr -n user.a -v 2 one; chmod 600 plain; rm gone")
			r, stop := start()
			r.Settle(t)
			want := []string{"acl_changed both", "acl_changed plain", "extra_attrs_changed both", "extra_attrs_changed one", "file_removed gone"}
			if !stored { // nobody knows which of two things changed
				want = slices.Delete(want, 2, 3)
			}
			got := toldOf(kept.take(), "both", "one", "none", "plain", "gone")
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("told of what changed meanwhile: %q, want %q", got, want)
			}
			stop()
			r, stop = start()
			r.Settle(t)
			if got := toldOf(kept.take(), "both", "one", "none", "plain"); len(got) > 0 {
				t.Errorf("nothing changed, and this was told: %q", got)
			}
			sh(t, dir, "setfattr -n user.a -v 3 none")
			r.Settle(t)
			if got := toldOf(kept.take(), "none"); !slices.Equal(got, []string{"extra_attrs_changed none"}) {
				t.Errorf("at last: %q", got)
			}
			stop()
		})
	}
}

// Extended attributes are set by another name than the one under which the file is looked at in the end, in one look: on its way, or by another link.
func TestExtendedAttributesByOtherNames(t *testing.T) {
	for _, tt := range []struct{ before, script string }{
		{"", "mv a/x a/w; setfattr -n user.a -v 2 a/w; mv a/w a/y"},
		{"", "mv a/x a/w; setfattr -n user.a -v 2 a/w; chmod 700 a/w; mv a/w b/y"},
		{"ln a/x b/z", "mv a/x a/y; setfattr -n user.a -v 2 b/z"},
		{"", "mv a/x a/y; ln a/y b/z; setfattr -n user.a -v 2 b/z"},
		{"ln a/x b/z", "echo 2 >> a/x; setfattr -n user.a -v 2 b/z"},
		{"ln a/x b/z", "setfattr -n user.a -v 2 b/z; echo 2 >> a/x"},
	} {
		eachSource(t, func(t *testing.T, kind string) {
			dir := t.TempDir()
			sh(t, dir, "mkdir a b; echo 1 > a/x; "+tt.before)
			r, g := gated(t, kind, dir, alone(kind), believing)
			g.Hold(0, 0)
			sh(t, dir, tt.script)
			r.Settle(t)
			for _, e := range r.Snap(t).Entries {
				if strings.Contains(e.Path, "/") && e.Attr.X == nil {
					t.Errorf("%s; %s: %s is told without extended attributes", tt.before, tt.script, e.Path)
				}
			}
		})
	}
}

// Attributes are read in the background until none is unread, whatever changes, moves and goes meanwhile.
func TestExtendedAttributesAreReadInTheBackground(t *testing.T) {
	eachSource(t, func(t *testing.T, kind string) {
		dir := t.TempDir()
		sh(t, dir, "for d in $(seq 60); do mkdir -p $d/x; (cd $d; for i in $(seq 100); do :> $i; done; setfattr -n user.a -v 1 7); done; ln 1/1 one")
		r := watchtest.Start(t, kind, dir, alone(kind))
		sh(t, dir, "for d in 10 20 30 50 60; do chmod 600 $d/9; setfattr -n user.b -v 1 $d/8; mv $d/1 $d/x/; rm $d/2; mv $d moved$d; done; rm -r 40; chmod 600 one")
		r.Sync(t)
		eventually(t, func() string {
			if n := r.Stats().Unread; n > 0 {
				return fmt.Sprint(n, " entries are unread")
			}
			return ""
		})
		r.Check(t)
		r.Keep()
		sh(t, dir, "for d in moved10 2 59; do setfattr -n user.a -v 2 $d/7; setfattr -n user.a -v 1 $d/6; done")
		r.Settle(t)
		if got := toldOf(r.Take(), "moved10/7", "2/7", "59/7", "moved10/6", "2/6", "59/6"); len(got) != 6 || slices.ContainsFunc(got, func(s string) bool { return !strings.HasPrefix(s, "extra_attrs_changed ") }) {
			t.Errorf("told %q, want extra_attrs_changed of each", got)
		}
	})
}
