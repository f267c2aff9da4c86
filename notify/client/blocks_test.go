package client

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"fs_notify/notify"
)

func TestBlocks(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"a block", "data: x\n\n", "data: x\n\n"},
		{"no blank after the colon", "id:5.7\ndata:x\n\n", "id: 5.7\ndata: x\n\n"},
		{"CRLF", "id: 5\r\ndata: x\r\n\r\nid: 6\r\n\r\n", "id: 5\ndata: x\n\nid: 6\n\n"},
		{"CR alone", "id: 5\rdata: x\r\rid: 6\r\r", "id: 5\ndata: x\n\nid: 6\n\n"},
		{"byte order mark", "\ufeffdata: x\n\n", "data: x\n\n"},
		{"several data lines", "data: a\ndata: b\ndata\n\n", "data: a\ndata: b\ndata: \n\n"},
		{"cut in the data", "id: 5\n\nid: 6\ndata: [1,", "id: 5\n\n"},
		{"cut in the id", "id: 5\n\nid: 6", "id: 5\n\n"},
		{"cut before the blank line", "id: 5\n\nid: 6\n", "id: 5\n\n"},
		{"keepalives", ": keepalive\n\n:\n\n:keepalive\nid: 5\n: more\n\n", "id: 5\n\n"},
		{"watching stands where it stood", "id: 5\n\n: watching /srv\nid: 6\n\n", "id: 5\n\nevent: :watching\ndata: watching /srv\n\nid: 6\n\n"},
		{"indexing", ":indexing 42 %\n\n", "event: :indexing\ndata: indexing 42 %\n\n"},
		{"nobody forges those", "event: :watching\ndata: x\n\nevent:: indexing\ndata: y\n\n", "data: x\n\ndata: y\n\n"},
		{"an id that would forget the last one", "id:\ndata: x\n\nid\n\n", "data: x\n\n"},
		{"an id with NUL", "id: 5\x006\ndata: x\n\n", "data: x\n\n"},
		{"retry that is no number", "retry: soon\n\nretry: 10\n\n", "retry: 10\n\n"},
		{"fields that nobody knows", "foo: bar\ndatum: x\n Data: x\n\ndata: y\n\n", "data: y\n\n"},
		{"an event without data", "event: reset\n\n", ""},
		{"nothing", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, chunk := range []func(io.Reader) io.Reader{
				func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.DataErrReader, iotest.HalfReader,
			} {
				got, err := io.ReadAll(newBlocks(chunk(strings.NewReader(c.in)), 1000))
				if string(got) != c.want || err != nil {
					t.Errorf("%q gave %q, %v; want %q", c.in, got, err, c.want)
				}
			}
		})
	}
}

func TestBlocksTooLarge(t *testing.T) {
	for name, in := range map[string]string{
		"one line":        "id: 5\n\ndata: " + strings.Repeat("x", 2000) + "\n\n",
		"a line for ever": "id: 5\n\n" + strings.Repeat("x", 2000),
		"many lines":      "id: 5\n\n" + strings.Repeat("data: xxxxxxxxxxxxxxx\n", 100) + "\n",
		"a comment":       "id: 5\n\n:" + strings.Repeat("x", 2000) + "\n\n",
	} {
		got, err := io.ReadAll(newBlocks(strings.NewReader(in), 1000))
		if string(got) != "id: 5\n\n" || !errors.Is(err, notify.Invalid) || !permanent(err) {
			t.Errorf("%s: gave %q, %v", name, got, err)
		}
	}
}

// The blocks before an error come out before it.
func TestBlocksThenError(t *testing.T) {
	broken := errors.New("broken")
	got, err := io.ReadAll(newBlocks(io.MultiReader(strings.NewReader("id: 5\n\nid: 6\n"), iotest.ErrReader(broken)), 1000))
	if string(got) != "id: 5\n\n" || err != broken {
		t.Errorf("got %q, %v", got, err)
	}
}

// Each Read ends with a block, so that the library never searches more than one.
func TestBlocksOneARead(t *testing.T) {
	b := newBlocks(strings.NewReader("data: a\n\ndata: b\n\n"), 1000)
	p := make([]byte, 100)
	for _, want := range []string{"data: a\n\n", "data: b\n\n"} {
		if n, err := b.Read(p); string(p[:n]) != want || err != nil {
			t.Fatalf("Read gave %q, %v", p[:n], err)
		}
	}
}

// FuzzBlocks: any chunking gives the same; what comes out is whole blocks which come through
// unchanged; and a prefix of the input gives a prefix of the output.
func FuzzBlocks(f *testing.F) {
	f.Add([]byte("\ufeff: watching x\nid: 1.2\n\n: keepalive\ndata: [\r\ndata: ]\r\r\nretry: 5\n\nid"), 7)
	f.Add([]byte("event: reset\ndata\n\n\r\n:\n"), 3)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		read := func(r io.Reader) string {
			out, err := io.ReadAll(newBlocks(r, 1<<20))
			if err != nil {
				t.Fatal(err)
			}
			return string(out)
		}
		whole := read(bytes.NewReader(in))
		if got := read(iotest.OneByteReader(bytes.NewReader(in))); got != whole {
			t.Fatalf("%q gave %q, byte by byte %q", in, whole, got)
		}
		if cut < 0 || cut > len(in) {
			cut = len(in) / 2
		}
		if got := read(bytes.NewReader(in[:cut])); !strings.HasPrefix(whole, got) || got != "" && !strings.HasSuffix(got, "\n\n") {
			t.Fatalf("%q gave %q, cut at %d %q", in, whole, cut, got)
		}
		plain := strings.NewReplacer("event: :watching\n", "", "event: :indexing\n", "").Replace(whole)
		if got := read(strings.NewReader(plain)); got != plain {
			t.Fatalf("%q came through as %q", plain, got)
		}
	})
}
