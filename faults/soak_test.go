//go:build linux

package faults_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// soakRate is how many times a second the load of the soak changes something.
const soakRate = 10

// TestSoak holds 2,000 subscribers under a constant load for as long as FS_NOTIFY_SOAK says (2h; some minutes show less) and
// looks whether memory, descriptors and goroutines stay what they are. In the end every subscriber has come to the head of the journal, by ids
// that only rose.
func TestSoak(t *testing.T) {
	text := os.Getenv("FS_NOTIFY_SOAK")
	if text == "" {
		t.Skip("FS_NOTIFY_SOAK=2h soaks for two hours")
	}
	length, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("FS_NOTIFY_SOAK: %v", err)
	}
	subscribers := 2000
	s := newService(t, t.TempDir(), "--retain-bytes", "16MiB")
	s.start()
	s.live()
	if err := os.Mkdir(filepath.Join(s.root, "d"), 0o755); err != nil {
		t.Fatal(err)
	}

	crowd := make([]*listener, subscribers)
	var reading sync.WaitGroup
	for i := range crowd {
		crowd[i] = listen(t, s.addr, i)
		reading.Go(crowd[i].read)
	}
	defer func() {
		for _, l := range crowd {
			l.conn.Close()
		}
		reading.Wait()
	}()
	if !within(func() bool { return !slices.ContainsFunc(crowd, func(l *listener) bool { return l.seq.Load() == 0 }) }) {
		t.Fatalf("not everybody is served\n%s", s.logs)
	}

	stop := make(chan struct{})
	var loading sync.WaitGroup
	loading.Go(func() { soakLoad(t, filepath.Join(s.root, "d"), stop) })
	var samples []soakSample
	for end, every := time.Now().Add(length), length/60; time.Now().Before(end); {
		time.Sleep(every)
		samples = append(samples, s.soakSample())
	}
	close(stop)
	loading.Wait()

	// The first third is the start; what the newest batches take in memory may still grow after it.
	first, last := medians(samples[len(samples)/3:2*len(samples)/3]), medians(samples[2*len(samples)/3:])
	t.Logf("%v, %d subscribers, %d samples", length, subscribers, len(samples))
	t.Logf("second third: %v", first)
	t.Logf("last third:   %v", last)
	if grown, may := last.memory-first.memory, 2*max(last.ring-first.ring, 0)+16<<20+first.memory/10; grown > may {
		t.Errorf("memory has grown by %d KiB, of which the newest batches explain %d", grown>>10, (last.ring-first.ring)>>10)
	}
	if d := last.goroutines - first.goroutines; d > 20 || d < -20 {
		t.Errorf("goroutines: from %d to %d", first.goroutines, last.goroutines)
	}
	if d := last.files - first.files; d > 20 || d < -20 {
		t.Errorf("descriptors: from %d to %d", first.files, last.files)
	}
	if last.streams != subscribers {
		t.Errorf("%d streams, want %d", last.streams, subscribers)
	}

	// A quiet stream learns the newest place with its next keepalive.
	behind := func() (n int) {
		head := uint64(s.metric("fs_notify_journal_head_seq"))
		for _, l := range crowd {
			if l.seq.Load() < head {
				n++
			}
		}
		return n
	}
	if !within(func() bool { return behind() == 0 }) {
		t.Errorf("%d subscribers never came to the head", behind())
	}
	for i, l := range crowd {
		if fault := l.fault.Load(); fault != nil {
			t.Errorf("subscriber %d: %s", i, *fault)
			break
		}
	}
}

// soakLoad makes, writes, renames and removes files, at a constant rate, so that there are never more than 100.
func soakLoad(t testing.TB, dir string, stop chan struct{}) {
	tick := time.NewTicker(time.Second / soakRate)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-tick.C:
		case <-stop:
			return
		}
		name := func(i int) string { return filepath.Join(dir, strconv.Itoa(i%100)) }
		var err error
		switch i % 4 {
		case 0:
			err = os.WriteFile(name(i), []byte(strconv.Itoa(i)), 0o644)
		case 1:
			err = os.Chmod(name(i-1), 0o600)
		case 2:
			err = os.Rename(name(i-2), name(i-2)+".new")
		case 3:
			err = os.Remove(name(i-3) + ".new")
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// listener is one subscriber, which reads and keeps the last id.
type listener struct {
	conn  net.Conn
	seq   atomic.Uint64
	fault atomic.Pointer[string]
}

// listen subscribes: all to the same directory, a quarter of them to other types than the others.
func listen(t testing.TB, addr string, i int) *listener {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	filter := ""
	if i%4 == 0 {
		filter = "&filter=child_file_added,child_file_removed"
	}
	fmt.Fprintf(conn, "GET /v1/files/%s/notify?recursive=true%s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", escapedRoot, filter, addr)
	return &listener{conn: conn}
}

const escapedRoot = "%2Froot"

func (l *listener) read() {
	r := bufio.NewReaderSize(l.conn, 512)
	begun := true // of a line
	for {
		line, err := r.ReadSlice('\n')
		if id, ok := bytes.CutPrefix(line, []byte("id: ")); ok && begun {
			digits, _, _ := bytes.Cut(id, []byte("."))
			seq, err := strconv.ParseUint(string(digits), 10, 64)
			if before := l.seq.Load(); err != nil || seq < before {
				fault := fmt.Sprintf("after the id %d came %q", before, id)
				l.fault.CompareAndSwap(nil, &fault)
			}
			l.seq.Store(seq)
		}
		if begun = err == nil; err != nil && err != bufio.ErrBufferFull {
			return
		}
	}
}

// soakSample is how the server is at one moment.
type soakSample struct{ memory, ring, goroutines, files, streams int }

func (a soakSample) String() string {
	return fmt.Sprintf("%d KiB resident, of these %d KiB newest batches; %d goroutines, %d descriptors, %d streams", a.memory>>10, a.ring>>10, a.goroutines, a.files, a.streams)
}

func (s *service) soakSample() soakSample {
	return soakSample{
		memory: int(s.metric("process_resident_memory_bytes")), ring: int(s.metric("fs_notify_journal_memory_bytes")), goroutines: int(s.metric("go_goroutines")),
		files: int(s.metric("process_open_fds")), streams: int(s.metric(`fs_notify_streams{state="live"}`) + s.metric(`fs_notify_streams{state="behind"}`)),
	}
}

// metric asks /metrics for one value.
func (s *service) metric(name string) float64 {
	s.t.Helper()
	status, text := s.get("/metrics")
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				s.t.Fatal(err)
			}
			return v
		}
	}
	s.t.Fatalf("/metrics (%d) has no %s", status, name)
	return 0
}

// medians gives the median of each value.
func medians(all []soakSample) soakSample {
	median := func(f func(soakSample) int) int {
		values := make([]int, 0, len(all))
		for _, s := range all {
			values = append(values, f(s))
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	return soakSample{
		memory: median(func(s soakSample) int { return s.memory }), ring: median(func(s soakSample) int { return s.ring }),
		goroutines: median(func(s soakSample) int { return s.goroutines }), files: median(func(s soakSample) int { return s.files }),
		streams: median(func(s soakSample) int { return s.streams }),
	}
}
