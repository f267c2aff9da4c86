package notify

import (
	"context"
	"testing"
)

func TestGrantSeesBelowItsPrefixesOnly(t *testing.T) {
	some := &Grant{Prefixes: []string{"/srv/data/logs", "/media"}}
	for _, c := range []struct {
		name          string
		g             *Grant
		path          string
		sees, touches bool
	}{
		{"no prefixes are all", Everything, "/srv", true, true},
		{"the slash is all", &Grant{Prefixes: []string{"/"}}, "/srv", true, true},
		{"empty is nothing", &Grant{Prefixes: []string{}}, "/srv", false, false},
		{"the prefix itself", some, "/srv/data/logs", true, true},
		{"below it", some, "/srv/data/logs/a", true, true},
		{"a sibling sharing its beginning", some, "/srv/data/logs-old", false, false},
		{"above it", some, "/srv/data", false, true},
		{"the top", some, "/", false, true},
		{"elsewhere", some, "/srv/other", false, false},
		{"the second one", some, "/media/x", true, true},
	} {
		if got := c.g.Sees(c.path); got != c.sees {
			t.Errorf("%s: Sees(%q) = %v, want %v", c.name, c.path, got, c.sees)
		}
		if got := c.g.Touches(c.path); got != c.touches {
			t.Errorf("%s: Touches(%q) = %v, want %v", c.name, c.path, got, c.touches)
		}
	}
}

func TestGrantTravelsInTheContext(t *testing.T) {
	g := &Grant{Name: "joe"}
	if got := GrantOf(WithGrant(context.Background(), g)); got != g {
		t.Errorf("got %v", got)
	}
	if got := GrantOf(context.Background()); got != Everything {
		t.Errorf("without one: %v", got)
	}
}
