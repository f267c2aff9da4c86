package server_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"fs_notify/notify"
	"fs_notify/server"
	"fs_notify/server/qumulo"
	"fs_notify/server/servertest"
)

// Whoever asks sees each stream once, whoever writes it: what it asked for, and where it stands.
func TestEachStream(t *testing.T) {
	tree := servertest.New("/srv/data")
	dir := tree.Mkdir("dir")
	url, srv := serveToo(t, tree, nil)
	before := time.Now()
	events := open(t, url+root+"%2Fdir/notify?filter=child_file_added&exclude=b&exclude=a&exclude=b&include=*&fields=all", eventStream)
	events.skip("retry")
	plain := open(t, url+root+"/notify?recursive=true")
	plain.skip(": watching")
	tree.Create("dir/f")
	events.skip("data")
	plain.skip("data")

	who := func() (all []qumulo.Stream) {
		srv.EachStream(t.Context(), func(s *qumulo.Stream) { all = append(all, *s) })
		slices.SortFunc(all, func(a, b qumulo.Stream) int { return strings.Compare(b.Ref, a.Ref) })
		return all
	}
	upToDate := func(all []qumulo.Stream) bool {
		return !slices.ContainsFunc(all, func(s qumulo.Stream) bool { return s.Sent != 1 || s.Cursor.Seq != tree.Log.Bounds().Newest() })
	}
	all := who()
	for end := time.Now().Add(patience); (len(all) != 2 || !upToDate(all)) && time.Now().Before(end); all = who() {
		time.Sleep(5 * time.Millisecond)
	}
	if len(all) != 2 || !upToDate(all) {
		t.Fatalf("these are shown: %+v", all)
	}
	a, b := all[0], all[1]
	if a.Ref != "/srv/data/dir" || a.View.Dir != dir || a.View.Recursive || a.View.Types != notify.SetOf(notify.ChildFileAdded) {
		t.Errorf("the first one is %+v", a)
	}
	if b.Ref != "/srv/data" || !b.View.Recursive || b.View.Types != notify.Qumulo {
		t.Errorf("the second one is %+v", b)
	}
	if include, exclude := a.View.Scope.Globs(); a.Fields == notify.FieldsQumulo || !slices.Equal(include, []string{"*"}) || !slices.Equal(exclude, []string{"a", "b"}) {
		t.Errorf("the first one is told fields %v of %q but %q", a.Fields, include, exclude)
	}
	if include, exclude := b.View.Scope.Globs(); b.Fields != notify.FieldsQumulo || include != nil || exclude != nil {
		t.Errorf("the second one is told fields %v of %q but %q", b.Fields, include, exclude)
	}
	for _, s := range all {
		if !strings.HasPrefix(s.Client, "127.0.0.1:") || s.Since.Before(before) || s.Since.After(time.Now()) || s.Parked || s.Paging {
			t.Errorf("shown as %+v", s)
		}
		if lag := srv.Behind(&s, time.Now()); lag != 0 {
			t.Errorf("%s has seen all and is %v behind", s.Ref, lag)
		}
		s.Cursor.Seq-- // in the last batch
		if at := tree.Log.Bounds().Head.Time(); srv.Behind(&s, at.Add(time.Hour)) != time.Hour {
			t.Errorf("%s is %v behind, want an hour", s.Ref, srv.Behind(&s, at.Add(time.Hour)))
		}
	}
	events.close()
	for end := time.Now().Add(patience); len(all) != 1 && time.Now().Before(end); all = who() {
		tree.Create("dir/more" + time.Now().String())
	}
	if len(all) != 1 || all[0].Ref != "/srv/data" {
		t.Errorf("after one has left, these are shown: %+v", all)
	}
}

// One that is turned away is not shown.
func TestEachStreamForgetsTheOverload(t *testing.T) {
	url, srv := serveToo(t, servertest.New("/srv/data"), func(o *server.Options) { o.MaxStreams = 1 })
	first := open(t, url+root+"/notify", eventStream)
	first.skip("retry")
	for s := open(t, url+root+"/notify", eventStream); s.block() != ""; {
	}
	shown := 0
	for end := time.Now().Add(patience); shown != 1 && time.Now().Before(end); {
		shown = 0
		srv.EachStream(t.Context(), func(s *qumulo.Stream) { shown++ })
	}
	if shown != 1 {
		t.Errorf("%d streams are shown, want 1", shown)
	}
}
