package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"fs_notify/notify"
)

func TestSpreadFilter(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"--path d --filter a b c --json", "--path d --filter a --filter b --filter c --json"},
		{"--filter a,b", "--filter a,b"},
		{"--filter a --filter b c", "--filter a --filter b --filter c"},
		{"--filter", "--filter"},
		{"--filter --json", "--filter --json"},
		{"--filter=a b", "--filter=a b"},
		{"-- --filter a b", "-- --filter a b"},
		{"", ""},
	} {
		if got := strings.Join(spreadFilter(strings.Fields(c.in)), " "); got != c.want {
			t.Errorf("%q gave %q, want %q", c.in, got, c.want)
		}
	}
}

func TestDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{"30": 30 * time.Second, "1.5": 1500 * time.Millisecond, "5m": 5 * time.Minute, "7d": 168 * time.Hour, "2h30m": 150 * time.Minute, "0": 0} {
		if got, err := parseDuration(in); got != want || err != nil {
			t.Errorf("%q gave %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "-1", "soon", "1e99", "NaN", "9999999999d", "5 m"} {
		if got, err := parseDuration(in); err == nil {
			t.Errorf("%q gave %v", in, got)
		}
	}
	for in, want := range map[string]string{"99999999d": "too long: it may be 106751d", "1e99": "too long", "9999999999999h": "too long", "-1d": "no duration", "-9999999999999h": "no duration", "1x": "no duration", "": "no duration"} {
		if _, err := parseDuration(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gave %v, want %q", in, err, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0", 7 * 24 * time.Hour: "7d", 6 * time.Hour: "6h", 90 * time.Second: "1m30s"} {
		v := duration(d)
		if v.String() != want {
			t.Errorf("%v prints as %q", d, v.String())
		}
		if back, err := parseDuration(v.String()); back != d || err != nil {
			t.Errorf("%q reads as %v, %v", v.String(), back, err)
		}
	}
}

func TestSize(t *testing.T) {
	var n size
	for in, want := range map[string]int64{"1GiB": 1 << 30, "500MB": 500e6, "17": 17} {
		if err := n.Set(in); err != nil || int64(n) != want {
			t.Errorf("%q gave %d, %v", in, n, err)
		}
	}
	for _, in := range []string{"", "-1", "much", "99999999999999999999"} {
		if err := n.Set(in); err == nil {
			t.Errorf("%q gave %d", in, n)
		}
	}
	for in, want := range map[string]string{"99999999999999999999GB": "too large", "9EiB": "too large", "1x": "no size"} {
		if err := n.Set(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gave %v, want %q", in, err, want)
		}
	}
	if n = 1 << 30; n.String() != "1GiB" {
		t.Errorf("1 GiB prints as %q", n.String())
	}
}

func TestPrintable(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"plain é 日本", "plain é 日本"},
		{"a\nb\tc", `a\nb\tc`},
		{"\x1b[31mred", `\u001b[31mred`},
		{"\u009b31m", `\u009b31m`}, // CSI in one character
		{"\xff\xfe", `\udcff\udcfe`},
		{"a\u202eb", `a\u202eb`}, // turns the reading direction
		{`a\nb`, `a\\nb`},
		{"\U000e0001", `\udb40\udc01`},
		{"\ufffd", "\ufffd"},
	} {
		if got := printable(c.in, true); got != c.want {
			t.Errorf("%q gave %q, want %q", c.in, got, c.want)
		}
	}
	if got := printable(`C:\x`+"\n", false); got != `C:\x\n` {
		t.Errorf("a message became %q", got)
	}
}

// jsonOf makes wire forms of names that try everything.
func jsonOf(names ...string) []json.RawMessage {
	var out []json.RawMessage
	for i, name := range names {
		n := notify.Notification{Type: notify.ChildFileAdded, Path: name, Spine: notify.Spine{2, notify.FileID(1000 + i)}, Seq: notify.Seq(i + 1)}
		if i%2 == 1 {
			n.Type, n.Stream = notify.ChildStreamDataWritten, name
			n.Actor = &notify.Actor{PID: 5, Command: name}
		}
		out = append(out, notify.AppendJSON(nil, &n, 0, notify.FieldsQumulo), notify.AppendJSON(nil, &n, 0, notify.FieldsAll))
	}
	return append(out, json.RawMessage(`{"b": {}, "a" : [], "\u00e9\"": "\u0041\/\ud83d\ude00\ud83d", "c": [1.5, true, {"z":null}]}`))
}

var oddNames = []string{"f", "a b/é", "quote\"back\\slash/", "tab\tnl\ncr\rbell\x07bs\bff\fdel\x7f", "bad\xff\xc3\x28", "😀", "\u2028\u2029\u009b\u202e", ""}

// python runs a script on frames, one JSON text a line, and gives its output.
func python(t *testing.T, script string, frames [][]json.RawMessage) string {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("python3 is needed here")
		}
		t.Skip("python3 is not installed")
	}
	var in bytes.Buffer
	for _, f := range frames {
		b, _ := json.Marshal(f)
		in.Write(append(b, '\n'))
	}
	cmd := exec.Command(path, "-c", script)
	cmd.Stdin, cmd.Stderr = &in, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func framesForPython() (frames [][]json.RawMessage) {
	all := jsonOf(oddNames...)
	for n := range len(all) {
		frames = append(frames, all[:n+1])
	}
	return frames
}

// The array form is what Python's json prints, byte for byte: qq's output for the same frames.
func TestArrayIsPythons(t *testing.T) {
	frames := framesForPython()
	want := python(t, `
import json, sys
print("[")
first = True
for line in sys.stdin:
    if not first: print(",")
    first = False
    text = json.dumps([json.loads(line)], sort_keys=True, indent=4)
    sys.stdout.write("\n".join(text.split("\n")[1:-1]))
print("\n]")
`, frames)
	var b bytes.Buffer
	p := &array{}
	p.begin(&b)
	for _, f := range frames {
		var records []record
		for _, j := range f {
			records = append(records, record{json: j})
		}
		if err := p.frame(&b, records); err != nil {
			t.Fatal(err)
		}
	}
	p.end(&b)
	if got := b.String(); got != want {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		t.Errorf("differs at byte %d: got …%q, want …%q", at, clip(got, at), clip(want, at))
	}
	// And another reader gets the same names back.
	if err := json.Unmarshal(b.Bytes(), new(any)); err != nil {
		t.Error(err)
	}
}

func clip(s string, at int) string { return s[max(0, at-30):min(len(s), at+60)] }

// A line means what came, names included, and holds nothing that a terminal would act upon.
func TestLines(t *testing.T) {
	for _, raw := range jsonOf(oddNames...)[:2*len(oddNames)] {
		var b bytes.Buffer
		if err := (&lines{}).frame(&b, []record{{json: raw}}); err != nil {
			t.Fatal(err)
		}
		line := strings.TrimSuffix(b.String(), "\n")
		if printable(line, false) != line {
			t.Errorf("%q is not safe", line)
		}
		was, err := notify.DecodeJSON([]byte("[" + string(raw) + "]"))
		if err != nil {
			t.Fatal(err)
		}
		is, err := notify.DecodeJSON([]byte("[" + line + "]"))
		if err != nil || is[0].Path != was[0].Path || is[0].Stream != was[0].Stream {
			t.Errorf("%q came back as %q, %v", was[0].Path, is[0].Path, err)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, n := range oddNames {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, name string) {
		raw := notify.AppendName(nil, name)
		py, err := appendPython(nil, raw, 0)
		if err != nil {
			t.Fatal(err)
		}
		for form, text := range map[string][]byte{"python": py, "line": appendOneLine(nil, raw)} {
			if back, err := notify.UnquoteName(text); err != nil || back != name {
				t.Errorf("%s: %q became %s and came back as %q, %v", form, name, text, back, err)
			}
			if s := string(text); printable(s, false) != s {
				t.Errorf("%s: %q became %q, which is not safe", form, name, s)
			}
		}
		if p := printable(name, true); printable(p, false) != p {
			t.Errorf("%q became %q, which is not safe", name, p)
		}
	})
}

// Two names that differ must not look the same.
func FuzzPrintableTellsApart(f *testing.F) {
	f.Add("a\nb", `a\nb`)
	f.Add("\xff", `\udcff`)
	f.Fuzz(func(t *testing.T, a, b string) {
		if a != b && printable(a, true) == printable(b, true) {
			t.Errorf("%q and %q both print as %q", a, b, printable(a, true))
		}
	})
}

func TestCursorFile(t *testing.T) {
	dir := t.TempDir()
	f := &cursorFile{path: filepath.Join(dir, "cursor")}
	if c, err := f.load(); c.Seq != 0 || err != nil {
		t.Fatalf("without a file: %v, %v", c, err)
	}
	want := notify.Cursor{Seq: 8191, Dir: 7}
	os.WriteFile(f.temporary(), []byte("left behind by a crash"), 0o600)
	if err := f.save(want); err != nil {
		t.Fatal(err)
	}
	if c, err := (&cursorFile{path: f.path}).load(); c != want || err != nil {
		t.Errorf("came back as %v, %v", c, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	os.Remove(f.path)
	if err := f.save(want); err != nil { // nothing new: nothing written
		t.Fatal(err)
	}
	if _, err := os.Stat(f.path); err == nil {
		t.Error("an unchanged cursor was written again")
	}
	for text, ok := range map[string]bool{"": true, "\n": true, "8191.7": true, " 8191.7\n\n": true, "8191": true, "x": false, "8191.7 8192.7": false, strings.Repeat("9", 200): false} {
		os.WriteFile(f.path, []byte(text), 0o600)
		if _, err := f.load(); (err == nil) != ok {
			t.Errorf("%q gave %v", text, err)
		}
	}
	if err := (&cursorFile{path: filepath.Join(dir, "no", "cursor")}).save(want); err == nil {
		t.Error("saved in a directory that is not there")
	}
}

// What is not the cursor's own file stays as it is.
func TestCursorFileOfOthers(t *testing.T) {
	dir := t.TempDir()
	f := &cursorFile{path: filepath.Join(dir, "cursor")}
	for _, name := range []string{"cursor.tmp", "cursor.new", "cursor~"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.save(notify.Cursor{Seq: 8191, Dir: 7}); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "cursor?*")); len(left) != 3 {
		t.Errorf("of three files of others are left: %v", left)
	}
	for _, path := range []string{os.DevNull, dir} {
		if _, err := (&cursorFile{path: path}).load(); err == nil || !strings.Contains(err.Error(), "no regular file") {
			t.Errorf("%s as a cursor file: %v", path, err)
		}
	}
}

// A cursor file may be a link to where it is kept.
func TestCursorFileBehindALink(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := os.WriteFile(target, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Skip(err)
	}
	for _, want := range []notify.Cursor{{Seq: 8191, Dir: 7}, {Seq: 8192, Dir: 7}, {Seq: 12287, Dir: 7}} {
		f := &cursorFile{path: link}
		if _, err := f.load(); err != nil {
			t.Fatal(err)
		}
		if err := f.save(want); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(target); string(text) != want.String()+"\n" {
			t.Errorf("behind the link is %q, want %v; %v", text, want, err)
		}
	}
}

// That holds where nothing is kept yet, however long the way there is.
func TestCursorFileBehindLinksToNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "volume", "deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join("volume", "deep"), filepath.Join(dir, "sub")); err != nil {
		t.Skip(err)
	}
	for _, l := range []struct{ name, target string }{
		{"absolute", filepath.Join(dir, "volume", "one")},
		{"relative", filepath.Join("volume", "two")},
		{"physical", "sub/../three"}, // volume/three
		{"volume/back", "../chain"},
		{"chain", "volume/deep/../four"},
		{"round", "round"},
	} {
		if err := os.Symlink(l.target, filepath.Join(dir, l.name)); err != nil {
			t.Fatal(err)
		}
	}
	want := notify.Cursor{Seq: 8191, Dir: 7}
	for name, target := range map[string]string{"absolute": "one", "relative": "two", "physical": "three", "volume/back": "four", "sub/plain": "deep/plain"} {
		f := &cursorFile{path: filepath.Join(dir, name)}
		if _, err := f.load(); err != nil {
			t.Fatal(err)
		}
		if err := f.save(want); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if text, err := os.ReadFile(filepath.Join(dir, "volume", target)); string(text) != want.String()+"\n" {
			t.Errorf("%s: behind the link is %q, %v", name, text, err)
		}
	}
	if _, err := (&cursorFile{path: filepath.Join(dir, "round")}).load(); err == nil {
		t.Error("a link to itself as a cursor file was taken")
	}
	t.Chdir(dir)
	if got := behindLinks("none"); got != "none" {
		t.Errorf("a name alone became %q", got)
	}
}

func TestRoomForStreams(t *testing.T) {
	for files, want := range map[uint64]int{0: 0, 60: 30, 1024: 768, 20_000: 19_744, math.MaxUint64: math.MaxInt32} {
		if got := roomForStreams(files); got != want {
			t.Errorf("%d files: %d streams, want %d", files, got, want)
		}
	}
}

func TestRoomForConns(t *testing.T) {
	for _, at := range []struct {
		files         uint64
		streams, want int
	}{{0, 1, 0}, {60, 30, 45}, {1024, 768, 896}, {1024, 10, 896}, {20_000, 19_744, 19_872}, {100_000, 20_000, 21_024}, {math.MaxUint64, math.MaxInt32, math.MaxInt32}} {
		if got := roomForConns(at.files, at.streams); got != at.want {
			t.Errorf("%d files, %d streams: %d connections, want %d", at.files, at.streams, got, at.want)
		}
	}
}

func TestParseRoots(t *testing.T) {
	base := t.TempDir()
	base, _ = filepath.EvalSymlinks(base)
	for _, d := range []string{"a/b", "c=d", "e"} {
		os.MkdirAll(filepath.Join(base, d), 0o755)
	}
	os.WriteFile(filepath.Join(base, "file"), nil, 0o644)
	os.Symlink("a", filepath.Join(base, "link"))
	os.Symlink("a/b", filepath.Join(base, "elsewhere"))
	for _, c := range []struct {
		roots string // blank-separated, relative to base where @ stands
		want  string // names, or the error's beginning
		fails bool
	}{
		{"@/a @/e", "@/a @/e", false},
		{"/media=@/a /media2=@/e", "/media /media2", false},
		{"@/c=d", "@/c=d", false},
		{"/m=@/c=d", "/m", false},
		{"@/link", "@/link", false},
		{"@/elsewhere/..", "@/a", false},
		{"/m=@/elsewhere/.. @/e", "/m @/e", false},
		{"@/elsewhere/../../e", "@/e", false},
		{"@/a @/elsewhere/..", "is served already", true},
		{"@/a @/a/b", "lie one in the other", true},
		{"@/a/b @/a", "lie one in the other", true},
		{"@/a @/link", "lie one in the other", true},
		{"/m=@/a /m=@/e", "/m is served already", true},
		{"/m=@/a /m/n=@/e", "names /m/n and /m lie one in the other", true},
		{"@/none", "there is no directory", true},
		{"@/file", "is not a directory", true},
		{"/m=", "should be a directory", true},
		{"relative=@/a", "the name should be absolute, /relative=@/a", true},
	} {
		args := strings.Fields(strings.ReplaceAll(c.roots, "@", base))
		roots, err := parseRoots(args)
		var names []string
		for _, r := range roots {
			names = append(names, r.Name)
		}
		switch {
		case c.fails && (err == nil || !strings.Contains(err.Error(), strings.ReplaceAll(c.want, "@", base))):
			t.Errorf("%s: got %v, %v, want %q", c.roots, names, err, c.want)
		case !c.fails && (err != nil || strings.Join(names, " ") != strings.ReplaceAll(c.want, "@", base)):
			t.Errorf("%s: got %v, %v", c.roots, names, err)
		}
	}
}

// A ".." behind a link is the directory above that which the link leads to, as for the system.
func TestDirectoryAboveALink(t *testing.T) {
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(base, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join("a", "b"), filepath.Join(base, "link")); err != nil {
		t.Skip(err)
	}
	t.Chdir(base)
	for path, want := range map[string]string{
		"link/..": "a", base + "/link/..": "a", "./link/../b/": "a/b", "a/../link": "a/b", ".": ".",
	} {
		got, err := existingDirectory(path)
		if err != nil || got != filepath.Join(base, want) {
			t.Errorf("%q is %s, %v, want %s", path, got, err, want)
		}
	}
	t.Chdir("link")
	if got, err := existingDirectory(".."); err != nil || got != filepath.Join(base, "a") {
		t.Errorf("from within the link, the directory above is %s, %v", got, err)
	}
}

func TestSelfSigned(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	now := time.Now()
	first, err := selfSigned(dir, "127.0.0.1", now)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(dir, selfSignedFile)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key lies there as %v, %v", st.Mode(), err)
	}
	for _, c := range []struct {
		name string
		host string
		now  time.Time
		same bool
	}{
		{"the next start", "127.0.0.1", now.Add(time.Hour), true},
		{"another address", "127.0.0.2", now, false},
		{"and back, which the new one serves not", "127.0.0.3", now, false},
		{"soon to expire", "127.0.0.3", now.AddDate(selfSignedYears, 0, -10), false},
	} {
		cert, err := selfSigned(dir, c.host, c.now)
		if err != nil || slices.Equal(cert.Certificate[0], first.Certificate[0]) != c.same {
			t.Errorf("%s: same is %v, want %v, %v", c.name, !c.same, c.same, err)
		}
		if !serves(cert.Leaf, []string{"localhost"}, nil, c.now) || cert.Leaf.VerifyHostname(c.host) != nil {
			t.Errorf("%s: does not serve localhost and %s", c.name, c.host)
		}
		var ips []string
		for _, ip := range cert.Leaf.IPAddresses {
			ips = append(ips, ip.String())
		}
		if slices.Sort(ips); len(slices.Compact(slices.Clone(ips))) != len(ips) {
			t.Errorf("%s: it is for %q", c.name, ips)
		}
		first = cert
	}
	os.WriteFile(filepath.Join(dir, selfSignedFile), []byte("broken"), 0o600)
	if _, err := selfSigned(dir, "127.0.0.1", now); err == nil {
		t.Error("a damaged file was replaced without a word")
	}
	if _, err := selfSigned("", "localhost", now); err != nil {
		t.Error(err)
	}
}

// A process that lives longer than its certificate makes a new one, and shows the old one for as long as it cannot.
func TestSelfSignedIsRenewed(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	var log strings.Builder
	made, fails := 0, false
	c, err := newOwnCertificate(func(now time.Time) (tls.Certificate, error) {
		if made++; fails {
			return tls.Certificate{}, errors.New("no room")
		}
		return selfSigned(dir, "127.0.0.1", now)
	}, func() time.Time { return now }, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	show := func() *tls.Certificate {
		t.Helper()
		cert, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	first := show()
	now = now.AddDate(selfSignedYears, 0, 0).Add(-selfSignedSpare - time.Minute)
	if show() != first || made != 1 {
		t.Error("it was made anew too early")
	}
	now, fails = now.Add(2*time.Minute), true
	for range 2 {
		if show() != first || made != 2 {
			t.Errorf("while none can be made another one is shown, or it was tried %d times instead of once more", made-1)
		}
	}
	now, fails = now.Add(renewRest+time.Minute), false
	second := show()
	if slices.Equal(second.Certificate[0], first.Certificate[0]) || !serves(second.Leaf, []string{"localhost"}, nil, now) {
		t.Error("it was not made anew")
	}
	if show() != second || made != 3 {
		t.Error("it was made anew twice")
	}
	if kept, err := tls.LoadX509KeyPair(filepath.Join(dir, selfSignedFile), filepath.Join(dir, selfSignedFile)); err != nil || !slices.Equal(kept.Certificate[0], second.Certificate[0]) {
		t.Errorf("it is not the one that is kept: %v", err)
	}
	if got := log.String(); strings.Count(got, "no room") != 1 || !strings.Contains(got, "anew: clients") {
		t.Errorf("the log says:\n%s", got)
	}
}

// Lists in the environment are taken apart where no element can have what separates them.
func TestListsInTheEnvironment(t *testing.T) {
	for _, tt := range []struct {
		flag, value string
		want        []string
	}{
		{"root", "/a:/b", []string{"/a", "/b"}},
		{"root", ":/a::", []string{"/a"}},
		{"root", "/a:b\n/c\n", []string{"/a:b", "/c"}},
		{"exclude", "**/*.tmp", []string{"**/*.tmp"}},
		{"cors-origin", "https://app.example", []string{"https://app.example"}},
		{"cors-origin", "https://app.example, http://localhost:3000", []string{"https://app.example", "http://localhost:3000"}},
		{"trusted-proxies", "fd00::/8 10.0.0.1", []string{"fd00::/8", "10.0.0.1"}},
	} {
		if got := envList(tt.flag, tt.value); !slices.Equal(got, tt.want) {
			t.Errorf("%s=%q: %q, want %q", tt.flag, tt.value, got, tt.want)
		}
	}
}

// One file and one environment serve all commands: what two of them call the same is the same.
func TestSettingsOfOneName(t *testing.T) {
	a := &app{}
	kinds, first := make(map[string]string), make(map[string]string)
	for _, c := range allCommands(a.rootCommand()) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			what, _ := pflag.UnquoteUsage(f)
			kind := f.Value.Type() + " " + what
			if kinds[f.Name] == "" {
				kinds[f.Name], first[f.Name] = kind, c.CommandPath()
			}
			if kinds[f.Name] != kind {
				t.Errorf("--%s is a %s for %s, and a %s for %s", f.Name, kinds[f.Name], first[f.Name], kind, c.CommandPath())
			}
		})
	}
}

// Settings behind a line --- would be lost in silence.
func TestConfigurationOfTwoDocuments(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	for text, ok := range map[string]bool{"": true, "# nothing\n": true, "listen: :8000\n": true, "---\nlisten: :8000\n": true, "listen: :8000\n---\nroot: /a\n": false} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readConfig(file); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A value means what it says, also where YAML sees a number in it.
func TestConfigurationIsTakenAsWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	for text, want := range map[string][]string{
		"1.10":                {"1.10"},
		"[1.10, 0o17]":        {"1.10", "0o17"},
		"[007, 1_000, +5]":    {"007", "1_000", "+5"},
		"[.inf, .NaN, 0x1F]":  {".inf", ".NaN", "0x1F"},
		"[TRUE, yes]":         {"TRUE", "yes"},
		"!!str 1.10":          {"1.10"},
		"[&a 1.10, *a]":       {"1.10", "1.10"},
		"1.10 # a version":    {"1.10"},
		"\n  - 1.10\n  - 010": {"1.10", "010"},
		`"1.10"`:              {"1.10"},
		`"a\tb"`:              {"a\tb"},
		"|\n  a\n  b":         {"a\nb\n"},
		"2026-01-31":          {"2026-01-31"},
		"{a: b}":              nil,
		"":                    nil,
		"null":                nil,
	} {
		if err := os.WriteFile(file, []byte("exclude: "+text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		values, err := readConfig(file)
		if err != nil || len(values) != 1 {
			t.Errorf("%q: %v, %v", text, values, err)
			continue
		}
		if got, err := configTexts(values[0].Value); !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%q gave %q, %v, want %q", text, got, err, want)
		}
	}
}

// A state directory that everybody may write to is said; one of the group that a container has is not.
func TestStateDirectoryOfEverybody(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes say nothing here")
	}
	for mode, warned := range map[os.FileMode]bool{0o777: true, 0o777 | os.ModeSticky: true, 0o775 | os.ModeSetgid: false, 0o700: false} {
		dir := t.TempDir()
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		c := engineConfig{stateDir: dir, log: slog.New(slog.NewJSONHandler(&log, nil))}
		if err := c.keepApart(); err != nil || strings.Contains(log.String(), "chmod o-w") != warned || warned && !strings.Contains(log.String(), `"mode":"d`) {
			t.Errorf("%v: %v, logged is %q", mode, err, &log)
		}
	}
}
