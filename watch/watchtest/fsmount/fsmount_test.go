package fsmount

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestSelected(t *testing.T) {
	for _, tt := range []struct {
		name, list string
		mount      bool
		want       []string
	}{
		{"root, no limit", "", true, Kinds()},
		{"not root, no limit", "", false, []string{TempDir}},
		{"a limit, in its own order", "tmpfs, ext4,tmpfs", true, []string{"tmpfs", "ext4"}},
		{"nothing but commas", ",,", true, Kinds()},
		{"without mounts too", "tempdir", true, []string{TempDir}},
		{"a limit that cannot be met without root", "ext4", false, []string{TempDir}},
	} {
		if got, err := selected(tt.list, tt.mount); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: selected(%q, %v) = %v, %v, want %v", tt.name, tt.list, tt.mount, got, err, tt.want)
		}
	}
	if got, err := selected("ext5", true); err == nil {
		t.Errorf("selected(ext5) = %v, want an error that names it", got)
	}
}

func TestEachGivesAnEmptyWritableDirectoryOfItsKind(t *testing.T) {
	var dirs, tops []string
	Each(t, func(t *testing.T, dir, fs string) {
		if got := nameOf(dir); got != fs {
			t.Errorf("%s is on %s, want %s", dir, got, fs)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 0 {
			t.Errorf("a fresh %s holds %v, %v, want nothing", fs, entries, err)
		}
		if slices.Contains(dirs, dir) {
			t.Errorf("%s was given twice", dir)
		}
		dirs, tops = append(dirs, dir), append(tops, filepath.Dir(dir))
		if err := os.WriteFile(filepath.Join(dir, "f"), make([]byte, 1<<20), 0o644); err != nil {
			t.Error(err)
		}
		if err := os.Rename(filepath.Join(dir, "f"), filepath.Join(dir, "g")); err != nil {
			t.Error(err)
		}
	})
	if len(dirs) == 0 {
		t.Skip("every file system was skipped")
	}
	for i, top := range tops {
		if _, err := os.Stat(dirs[i]); !os.IsNotExist(err) {
			t.Errorf("%s was left behind by %s: %v", dirs[i], top, err)
		}
	}
}
