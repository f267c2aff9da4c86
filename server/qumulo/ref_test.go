package qumulo

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"fs_notify/notify"
)

// Whatever a request's path is: it names an ID, or an absolute path that cannot lead out of itself, or it is
// refused with a reason. And a path that was escaped as one component comes back byte for byte.
func FuzzRef(f *testing.F) {
	for _, s := range []string{"/srv/data", "srv/data", "%2Fsrv%2Fdata", "42", "0", "/a/../b", "//", "/\xff\n", "%00", "%", "a/./b", "/notify", "&notify&", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := parseRef(s)
		check(t, s, ref, err)
		for _, escaped := range []string{"/v1/files/" + s + "/notify", "/v1/files/" + s, "/api/v1/files/" + s + "/entries/"} {
			c, err := parseCall(escaped, "")
			if err == nil && c.action != actionResolve {
				check(t, escaped, c.ref, nil)
			} else if err != nil && !errors.Is(err, notify.Invalid) && !errors.Is(err, notify.NotFound) {
				t.Errorf("%q: %v", escaped, err)
			}
		}
		if !strings.HasPrefix(s, "/") {
			return
		}
		c, err := parseCall("/v1/files/"+url.PathEscape(s)+"/notify", "recursive=1")
		check(t, s, c.ref, err)
		if err == nil && strings.TrimRight(c.ref.Path, "/") != strings.TrimRight(s, "/") && s != "//" {
			t.Errorf("%q came back as %q", s, c.ref.Path)
		}
	})
}

func check(t *testing.T, s string, ref Ref, err error) {
	t.Helper()
	switch {
	case err != nil:
		if !errors.Is(err, notify.Invalid) {
			t.Errorf("%q: %v, want Invalid", s, err)
		}
	case (ref.ID == 0) == (ref.Path == ""):
		t.Errorf("%q is both or neither: %+v", s, ref)
	case ref.Path == "/" || ref.ID != 0:
	case ref.Path[0] != '/' || strings.IndexByte(ref.Path, 0) >= 0 || len(ref.Path) > maxPath+1:
		t.Errorf("%q gave %q", s, ref.Path)
	default:
		names := strings.Split(ref.Path[1:], "/")
		if slices.Contains(names, "") || slices.Contains(names, ".") || slices.Contains(names, "..") {
			t.Errorf("%q gave %q", s, ref.Path)
		}
	}
}
