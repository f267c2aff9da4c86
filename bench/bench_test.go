//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The test binary is its own writer, reader and subscriber, as the program is.
func TestMain(m *testing.M) {
	if done, err := runRole(os.Args[1:]); done {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// tree makes files in a new directory.
func tree(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		path := filepath.Join(dir, f)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// foldAll folds lines and compares with the disk.
func foldAll(t *testing.T, f folder, dir, lines string) foldResult {
	t.Helper()
	var r foldResult
	for l := range strings.Lines(lines) {
		if err := f.fold([]byte(l), &r); err != nil {
			t.Fatalf("%q: %v", l, err)
		}
	}
	if err := compare(f, dir, &r); err != nil {
		t.Fatal(err)
	}
	r.Files = f.files().count()
	return r
}

func frame(notes ...string) string { return "data: [" + strings.Join(notes, ",") + "]\nid: 9.1\n\n" }

func told(kind, path string, spine ...string) string {
	return fmt.Sprintf(`{"type":"%s","spine":["%s"],"path":"%s","stream_name":null}`, kind, strings.Join(spine, `","`), path)
}

func TestFoldOfAStream(t *testing.T) {
	for _, tt := range []struct {
		name, stream string
		want         foldResult
	}{
		{"complete: a directory that moves takes its files along", frame(
			told("child_dir_added", "old", "1", "2"), told("child_file_added", "old/f1", "1", "2", "3"),
			told("child_size_changed", "old/f1", "1", "2", "3")) + frame(
			told("child_dir_moved_from", "old", "1", "2"), told("child_dir_moved_to", "d", "1", "2")), foldResult{Notes: 5, Files: 1}},
		{"a file is missing", frame(told("child_dir_added", "d", "1", "2")), foldResult{Notes: 1, Missing: 1}},
		{"a removal is missing", frame(told("child_dir_added", "d", "1", "2"), told("child_file_added", "d/f1", "1", "2", "3"),
			told("child_file_added", "d/f2", "1", "2", "4")), foldResult{Notes: 3, Files: 2, Extra: 1}},
		{"told twice, and a removal of what is not there", frame(told("child_dir_added", "d", "1", "2"), told("child_file_added", "d/f1", "1", "2", "3"),
			told("child_file_added", "d/f1", "1", "2", "3"), told("child_file_removed", "d/f9", "1", "2", "9")), foldResult{Notes: 4, Files: 1, Faults: 2}},
	} {
		dir := tree(t, "d/f1")
		f := &sseFold{names: make(map[string]uint64)}
		if got := foldAll(t, f, dir, "retry: 2000\nid: 5.1\n\n"+tt.stream); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestFoldRefusesWhatItCannotRead(t *testing.T) {
	f := &sseFold{names: make(map[string]uint64)}
	for _, l := range []string{frame(told("child_file_added", `a\"b`, "1", "2")), `data: [{"type":"child_file_added","path":"x"}]` + "\n"} {
		if err := f.fold([]byte(l), &foldResult{}); err == nil {
			t.Errorf("%q was taken", l)
		}
	}
}

func TestFoldOfPeers(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(dir string) (folder, string)
	}{
		{"inotifywait", func(dir string) (folder, string) {
			f, err := newPathFold(dir, takeLine(dir))
			if err != nil {
				t.Fatal(err)
			}
			return f, "DIR/ CREATE f1\nDIR/ MODIFY f1\nDIR/ MOVED_FROM f1\nDIR/d/ MOVED_TO f1\nDIR/d/ CREATE f2\nDIR/d/ DELETE f2\nDIR/e/ CREATE,ISDIR x\n"
		}},
		{"fswatch", func(dir string) (folder, string) {
			f, err := newPathFold(dir, takeLine(dir))
			if err != nil {
				t.Fatal(err)
			}
			return f, "DIR/d/f1 Created IsFile\nDIR/d/f2 Created IsFile\nDIR/d/f2 Removed\nDIR/e/x Created IsDir\n"
		}},
		{"watchman", func(dir string) (folder, string) {
			f, err := newPathFold(dir, takeWatchman)
			if err != nil {
				t.Fatal(err)
			}
			return f, `{"clock":"c:1"}` + "\n" + `{"files":[{"name":"d/f1","exists":true},{"name":"d/f2","exists":false},{"name":"e/x","exists":true}]}` + "\n"
		}},
	} {
		dir := tree(t, "d/old", "e/old")
		f, lines := tt.make(dir)
		if err := os.WriteFile(filepath.Join(dir, "d/f1"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		got := foldAll(t, f, dir, strings.ReplaceAll(lines, "DIR", dir))
		if got.Files != 2 || got.Missing != 0 || got.Extra != 1 { // e/x is not on disk
			t.Errorf("%s: got %+v, want 2 files and 1 name too many", tt.name, got)
		}
	}
}

func TestLinesThatArriveInPieces(t *testing.T) {
	long := strings.Repeat("x", 100)
	pieces := []string{"on", "e\ntwo\n" + long, long, "\nthree", "\n"}
	l := &lineReader{r: bufio.NewReaderSize(&stutter{pieces}, 16)}
	var got []string
	for failures := 0; failures < 20 && len(got) < 4; {
		b, err := l.next()
		if err != nil {
			failures++
			continue
		}
		got = append(got, string(b))
	}
	if want := []string{"one\n", "two\n", long + long + "\n", "three\n"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestChunksThatArriveInPieces: what is read with a deadline goes on behind it, wherever a chunk or its head is cut.
func TestChunksThatArriveInPieces(t *testing.T) {
	const body = "6\r\none\ntw\r\n1B;x=y\r\no\nthree, which is longer\nfo\r\n3\r\nur\n\r\n0\r\n\r\n"
	for size := 1; size <= len(body); size++ {
		var pieces []string
		for b := body; b != ""; b = b[min(size, len(b)):] {
			pieces = append(pieces, b[:min(size, len(b))])
		}
		in := bufio.NewReaderSize(&stutter{append([]string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"}, pieces...)}, 16)
		r, err := skipHead(in)
		if err != nil {
			t.Fatal(err)
		}
		l := &lineReader{r: r}
		var got []string
		for range 3 * len(body) {
			b, err := l.next()
			if err == io.EOF {
				break
			}
			if err == nil {
				got = append(got, string(b))
			}
		}
		if want := []string{"one\n", "two\n", "three, which is longer\n", "four\n"}; !slices.Equal(got, want) {
			t.Errorf("in pieces of %d: got %q, want %q", size, got, want)
		}
	}
}

// stutter times out after each piece.
type stutter struct{ pieces []string }

func (s *stutter) Read(b []byte) (int, error) {
	if len(s.pieces) == 0 || s.pieces[0] == "" {
		if len(s.pieces) > 0 {
			s.pieces = s.pieces[1:]
		}
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(b, s.pieces[0])
	s.pieces[0] = s.pieces[0][n:]
	return n, nil
}

func TestHistogramQuantiles(t *testing.T) {
	var h histogram
	for us := int64(1); us <= 100_000; us++ {
		h.add(us, 1)
	}
	for q, want := range map[float64]float64{0.5: 50_000, 0.99: 99_000} {
		if got := h.quantile(q); math.Abs(got-want)/want > 1.0/16 {
			t.Errorf("quantile %g: got %g, want about %g", q, got, want)
		}
	}
}

func TestReportReplacesOnlyBetweenMarkers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "b.md")
	const before = "Prose.\n<!-- bench:idle -->old<!-- /bench:idle -->\nMore, and <!-- bench:machine -->x<!-- /bench:machine -->.\n"
	if err := os.WriteFile(file, []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	r := &report{file: file}
	for range 2 {
		if err := r.replace("idle", "new"); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.replace("nowhere", "new"); err == nil {
		t.Error("a place that is not there was found")
	}
	got, err := os.ReadFile(file)
	if want := strings.ReplaceAll(before, "old", "new"); err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestTheDocumentHasAPlaceForEveryFigure(t *testing.T) {
	doc, err := os.ReadFile("../docs/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"machine", "fsync", "fdatasync", "idle", "full", "full-size", "race-a", "race-b", "race-a-size", "race-b-size", "start", "start-size", "growth",
		"journal-batches", "journal-size", "journal-resume", "journal-replay", "journal-restart",
		"stuck", "directories", "processes"}
	for _, m := range []string{"idle", "full", "race", "start", "growth", "journal", "fan", "crowd"} {
		names = append(names, "run-"+m)
	}
	for _, c := range fanCases {
		names = append(names, fmt.Sprintf("fan-%d-%g", c.n, c.rate))
	}
	for _, n := range names {
		if strings.Count(string(doc), "<!-- bench:"+n+" -->") != 1 || strings.Count(string(doc), "<!-- /bench:"+n+" -->") != 1 {
			t.Errorf("docs/benchmarks.md has no single place for %s", n)
		}
	}
}

func TestTableTellsTheSpreadAndWhatIsMissing(t *testing.T) {
	var rs results
	r := rs.of("ours", ourColor)
	for _, v := range []float64{3, 1, 2} {
		r.add("cpu", v)
		r.runs++
	}
	rs.of("peer", peerColor).skipped = "it is not installed"
	got := rs.table(figure("CPU", "cpu", number))
	want := "| what | runs | CPU |\n| --- | --- | --- |\n| ours | 3 | 2.00 (1.00–3.00) |\n\nNot measured: peer: it is not installed.\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// The loads say how many records they make: the bare reader counts them.
func TestTheFullLoadMakesAsManyRecordsAsItSays(t *testing.T) {
	dir := t.TempDir()
	const scale = 0.002 // 400 files: no queue can overflow
	if err := prepareFull(dir, scale); err != nil {
		t.Fatal(err)
	}
	w, err := raw("inotify")(dir, &bench{dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer w.stop()
	var load loadResult
	if err := ask(&load, "load", "full", dir, fmt.Sprint(scale)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	w.quit()
	var got rawResult
	if err := decode(w.result, &got); err != nil {
		t.Fatal(err)
	}
	if want := load.Records + 1; got.Records != want || got.Overflows != 0 { // one more for the file that says the end
		t.Errorf("read %d records, %d overflows, want %d and none, for %d operations", got.Records, got.Overflows, want, load.Ops)
	}
}

func TestWatchersAreMeasured(t *testing.T) {
	if _, err := exec.LookPath("inotifywait"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	b := &bench{dir: t.TempDir(), fs: "tmpfs", scale: 0.002}
	build(t, b)
	var measured []string
	for _, s := range subjects() {
		if s.name != "inotifywait" && s.name != "fs_notify" && s.name != "fs_notify + journal" {
			continue
		}
		measured = append(measured, s.name)
		var rs results
		r := rs.of(s.name, "")
		if err := b.load("full", s, r); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		files, wrong := r.median("files"), r.median("wrong")
		if wrong != 0 {
			t.Errorf("%s: %g names were wrong, want 0", s.name, wrong)
		}
		// Of so few files, some come and go between two looks.
		if files == 0 || s.name == "inotifywait" && files != 100 {
			t.Errorf("%s told of %g %% of the files", s.name, files)
		}
	}
	if len(measured) != 3 {
		t.Errorf("measured %q, want three", measured)
	}
}

// build has the program to measure built.
func build(t *testing.T, b *bench) {
	t.Helper()
	b.report = &report{dry: true}
	end, err := b.prepare()
	t.Cleanup(end)
	if err != nil {
		t.Fatal(err)
	}
}

func TestFanServersDeliver(t *testing.T) {
	b := &bench{dir: t.TempDir(), fs: "tmpfs", seconds: 0.5}
	build(t, b)
	for _, sv := range fanServers() {
		if sv.name == "nchan" && !hasNchan() {
			continue
		}
		var rs results
		r := rs.of(sv.name, "")
		if err := b.measureFan(sv, fanCase{n: 20, rate: 100}, r); err != nil {
			t.Errorf("%s: %v", sv.name, err)
		} else if lost := r.median("lost"); lost != 0 {
			t.Errorf("%s: %g %% of the deliveries are lost", sv.name, lost)
		}
	}
}
