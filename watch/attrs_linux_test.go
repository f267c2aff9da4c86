package watch

import (
	"cmp"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// after tells the watcher of records of names in its root and gives what it tells then.
func after(w *Watcher, op Op, names ...string) (told []string) {
	recs := make([]Record, len(names))
	for i, name := range names {
		recs[i] = Record{Dir: w.t.roots[0].node, Name: []byte(name), Op: op}
	}
	w.in.put(recs)
	w.pass(cmp.Or(w.next(), newDirt()))
	for _, o := range w.out.queue {
		for _, n := range o.notes {
			told = append(told, strings.TrimPrefix(n.Type.String(), "child_")+" "+n.Path)
		}
	}
	w.out.queue = nil
	return told
}

func wantTold(t *testing.T, when string, got []string, want ...string) {
	t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: told %q, want %q", when, got, want)
	}
}

// mapped writes to a file through memory, and gives what ends that.
func mapped(t *testing.T, path string) (end func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, 1, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // mapping it was a read: that has another time
	m[0]++
	return func() {
		unix.Munmap(m)
		f.Close()
	}
}

// The mode of a file is changed while it is written through memory: that is told at once, and that data was written when it is closed at last. Nobody has set
// its access time.
func TestWrittenThroughMemoryForLong(t *testing.T) {
	dir, w := scanned(t, "printf hello > f; ln f g; touch -a -d 2001-01-01 f")
	begin, later := time.Now(), time.Duration(0)
	w.t.now = func() time.Time { return begin.Add(later) }
	end := mapped(t, dir+"/f")
	defer end()
	bash(t, dir, "chmod 600 f")
	wantTold(t, "chmod", after(w, OpAttrib, "f"), "mtime_changed f", "acl_changed f", "mtime_changed g", "acl_changed g")
	bash(t, dir, "chmod 640 f")
	wantTold(t, "chmod", after(w, OpAttrib, "f"), "acl_changed f", "acl_changed g")
	later = time.Hour
	end()
	wantTold(t, "close", after(w, OpCloseWrite, "f"), "data_written f", "data_written g", "file_closed f", "file_closed g")
	wantTold(t, "close", after(w, OpCloseWrite, "f"), "file_closed f", "file_closed g")
}

// A look that comes because of another record finds a write before there is one of that: it is told under all names, when the record comes.
func TestWrittenBeforeItsRecord(t *testing.T) {
	dir, w := scanned(t, "printf hello > f; ln f g; touch -d 2001-01-01 f")
	bash(t, dir, "printf hallo > f")
	wantTold(t, "a look", after(w, OpAttrib, "f"), "mtime_changed f", "mtime_changed g")
	wantTold(t, "the record", after(w, OpModify, "f"), "data_written f", "data_written g")
}

// A look that comes because of another record finds another size: that was a write, whatever is said of it later, if anything is.
func TestWrittenWithoutARecord(t *testing.T) {
	dir, w := scanned(t, "printf hello > f; ln f g; touch -d 2001-01-01 f")
	bash(t, dir, "printf more >> f; chmod 600 f")
	wantTold(t, "a look", after(w, OpAttrib, "f"), "data_written f", "size_changed f", "mtime_changed f", "acl_changed f",
		"data_written g", "size_changed g", "mtime_changed g", "acl_changed g")
	wantTold(t, "the record", after(w, OpModify, "f"))
}

// The times of a directory are set, and its mode is changed again and again before its modification time is told: who has set the time is told once.
func TestDirectoryTimesAreSetOnce(t *testing.T) {
	dir, w := scanned(t, "mkdir d")
	begin := time.Now()
	w.t.now = func() time.Time { return begin }
	bash(t, dir, "touch d/f")
	w.in.put([]Record{{Dir: w.t.s.find(w.t.roots[0].node, "d"), Name: []byte("f"), Op: OpCreate}})
	wantTold(t, "a file", after(w, 0), "file_added d/f", "mtime_changed d")
	bash(t, dir, "touch -d 2001-01-01 d")
	wantTold(t, "times", after(w, OpAttrib, "d"), "atime_changed d")
	for _, mode := range []string{"700", "711", "755"} {
		bash(t, dir, "chmod "+mode+" d")
		wantTold(t, mode, after(w, OpAttrib, "d"), "acl_changed d")
	}
	bash(t, dir, "touch -d 2002-01-01 d")
	wantTold(t, "other times", after(w, OpAttrib, "d"), "atime_changed d")
	begin = begin.Add(time.Hour)
	wantTold(t, "at last", after(w, 0), "mtime_changed d")
	if n := len(w.t.dirsSet); n != 0 {
		t.Errorf("%d directories are remembered that have no time to be told", n)
	}
}

// Times are set in many ways, and told as such.
func TestTimesThatWereSet(t *testing.T) {
	for _, touch := range []string{
		"touch f", "touch -d 2001-01-01 f", "touch -d 2100-01-01 f", "touch -d '1 second ago' f", "touch -r other f", "touch f; sleep 0.02; cat f > /dev/null",
	} {
		dir, w := scanned(t, "touch -d 2000-01-01 f; touch -a -d 2003-01-01 other; touch -m -d 2004-01-01 other")
		bash(t, dir, touch)
		wantTold(t, touch, after(w, OpAttrib, "f"), "mtime_changed f", "atime_changed f")
	}
}
