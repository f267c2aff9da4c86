package server_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"fs_notify/notify"
	"fs_notify/notify/client"
	"fs_notify/server/servertest"
)

// Our own client against our own server: a snapshot, the stream after it, a reset, the end.
func TestOwnClient(t *testing.T) {
	tree := servertest.New("/srv/data")
	tree.Mkdir("dir")
	tree.Create("dir/before")
	url := serve(t, tree, nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var told []string
	var cursor notify.Cursor
	o := client.Options{
		URL: url, Ref: "/srv/data/dir", Since: "snapshot", GapReset: true, Transport: &http.Transport{},
		OnWatching: func(string) { tree.Create("dir/after") },
		OnReset:    func(r client.Reset) error { told = append(told, "reset "+r.Reason); return nil },
		OnCursor:   func(c notify.Cursor) error { cursor = c; return nil },
	}
	stop := errors.New("enough")
	err := client.Watch(ctx, o, func(f client.Frame) error {
		for _, n := range f.Notes {
			told = append(told, fmt.Sprint(n.Type, " ", n.Path))
		}
		if f.Notes[len(f.Notes)-1].Path == "after" {
			return stop
		}
		return nil
	})
	if want := []string{"reset snapshot", "child_file_added before", "child_file_added after"}; !errors.Is(err, stop) || !slices.Equal(told, want) {
		t.Fatalf("%v, %q, want %q", err, told, want)
	}
	// The handler did not accept the last frame, so it comes again; then the directory ends.
	told = nil
	o.Since, o.Cursor, o.OnWatching = "", cursor, func(string) { tree.Remove("dir") }
	err = client.Watch(ctx, o, func(f client.Frame) error {
		for _, n := range f.Notes {
			told = append(told, fmt.Sprint(n.Type, " ", n.Path))
		}
		return nil
	})
	if want := []string{"child_file_added after", "child_file_removed before", "child_file_removed after", "self_removed "}; err != nil || !slices.Equal(told, want) {
		t.Errorf("%v, %q, want %q", err, told, want)
	}
}
