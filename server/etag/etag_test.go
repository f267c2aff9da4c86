package etag_test

import (
	"net/http"
	"testing"

	"fs_notify/server/etag"
)

func TestKnown(t *testing.T) {
	for _, tag := range []string{`"a"`, `W/"a"`} {
		for _, tt := range []struct {
			lines []string
			want  bool
		}{
			{nil, false},
			{[]string{""}, false},
			{[]string{`"a"`}, true},
			{[]string{`W/"a"`}, true},
			{[]string{`"b", "a"`}, true},
			{[]string{`"b"`, ` W/"a" `}, true},
			{[]string{"*"}, true},
			{[]string{`a`, `"aa"`, `w/"a"`}, false},
		} {
			r := &http.Request{Header: http.Header{"If-None-Match": tt.lines}}
			if got := etag.Known(r, tag); got != tt.want {
				t.Errorf("%s in %q: %t", tag, tt.lines, got)
			}
		}
	}
}

func TestSum(t *testing.T) {
	if a, b := etag.Sum(nil), etag.Sum([]byte("x")); a == b || len(a) != 16 || len(b) != 16 {
		t.Errorf("the sums of two bodies are %q and %q", a, b)
	}
}
