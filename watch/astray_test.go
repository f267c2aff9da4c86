//go:build linux

package watch

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Somebody puts a symbolic link in the place of a directory, again and again, while attributes are asked for: what it leads to is never
// looked at. Entries are known by their identity, and links are not followed on the way to them.
func TestStatIsNotLedAstray(t *testing.T) {
	top := t.TempDir()
	dir, outside := filepath.Join(top, "served"), filepath.Join(top, "outside")
	for path, text := range map[string]string{dir + "/d/f": "in", outside + "/f": "what nobody may see"} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w, _ := start(t, dir)
	<-w.Ready()
	e, err := w.LookupPath(t.Context(), w.Roots()[0].Name+"/d/f")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	swapped := make(chan struct{})
	go func() {
		defer close(swapped)
		for ctx.Err() == nil {
			os.Rename(dir+"/d", dir+"/away")
			os.Symlink(outside, dir+"/d")
			os.Remove(dir + "/d")
			os.Rename(dir+"/away", dir+"/d")
		}
	}()
	looked := 0
	for ctx.Err() == nil {
		got, err := w.Stat(ctx, e.ID())
		if err == nil {
			looked++
			if got.Attr.Size != int64(len("in")) {
				t.Fatalf("Stat gave %d bytes: it followed the link", got.Attr.Size)
			}
		}
		if got, err := w.LookupPath(ctx, w.Roots()[0].Name+"/d/f"); err == nil && got.ID() != e.ID() {
			t.Fatalf("LookupPath gave %+v", got)
		}
	}
	<-swapped
	if looked == 0 {
		t.Error("Stat never gave anything: the test proves nothing")
	}
}
