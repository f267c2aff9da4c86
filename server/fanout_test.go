//go:build linux

package server_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
	"fs_notify/server"
	"fs_notify/server/servertest"
)

// The clients of these benchmarks are one other process, as it is the server's CPU time and memory that count, and
// descriptors are limited for each process. It is this test binary, told so by its environment.

const clientsEnv = "FS_NOTIFY_BENCHMARK_CLIENTS"

func init() {
	if addr := os.Getenv(clientsEnv); addr != "" {
		if err := runClients(addr, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "clients:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// runClients obeys its input: "open PATH" opens a stream, "stick PATH" one that is never read, and "frames" says how many frames all of them have got and the 99th
// percentile of the age of what came, in microseconds; paths that are numbers are times.
func runClients(addr string, in io.Reader, out io.Writer) error {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	var conns []net.Conn
	lines := make(chan string)
	go func() {
		for s := bufio.NewScanner(in); s.Scan(); {
			lines <- s.Text()
		}
		close(lines)
	}()
	newline := map[int32]bool{} // the last byte was one
	frames := 0
	var ages []int64
	buf := make([]byte, 256<<10)
	events := make([]unix.EpollEvent, 1024)
	reads := 0
	for {
		select {
		case line, ok := <-lines:
			verb, path, _ := strings.Cut(line, " ")
			switch {
			case !ok:
				return nil
			case verb == "open" || verb == "stick":
				c, err := net.Dial("tcp", addr)
				if err != nil {
					return err
				}
				//lint:ignore SA4010 what nobody holds is closed by the garbage collector
				conns = append(conns, c)
				fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n", path)
				raw, err := c.(*net.TCPConn).SyscallConn()
				if err != nil {
					return err
				}
				if verb == "stick" {
					continue
				}
				raw.Control(func(fd uintptr) {
					err = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
				})
				if err != nil {
					return err
				}
			default:
				p99 := int64(0)
				if len(ages) > 0 {
					slices.Sort(ages)
					p99 = ages[len(ages)*99/100]
				}
				ages = ages[:0]
				fmt.Fprintln(out, frames, p99/1000)
			}
			continue
		default:
		}
		n, err := unix.EpollWait(ep, events, 1)
		if err != nil && err != unix.EINTR {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			k, err := unix.Read(int(e.Fd), buf)
			if k == 0 || err != nil && err != unix.EAGAIN {
				return fmt.Errorf("a stream ended: %v", err)
			}
			if k < 0 {
				continue
			}
			b := buf[:k]
			frames += bytes.Count(b, []byte("\n\n"))
			if newline[e.Fd] && b[0] == '\n' {
				frames++
			}
			newline[e.Fd] = b[k-1] == '\n'
			if reads++; reads%16 == 0 {
				if _, rest, ok := bytes.Cut(b, []byte(`"path":"`)); ok {
					digits, _, _ := bytes.Cut(rest, []byte(`"`))
					if at, err := strconv.ParseInt(string(digits), 10, 64); err == nil {
						ages = append(ages, time.Now().UnixNano()-at)
					}
				}
			}
		}
	}
}

// clients is the other process.
type clients struct {
	b   *testing.B
	in  io.WriteCloser
	out *bufio.Reader
	n   int
}

func startClients(b *testing.B, url string) *clients {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), clientsEnv+"="+strings.TrimPrefix(url, "http://"), "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { in.Close(); cmd.Wait() })
	return &clients{b: b, in: in, out: bufio.NewReader(out)}
}

func (c *clients) open(path string) {
	c.n++
	fmt.Fprintln(c.in, "open", path)
}

// frames is how many frames have arrived, and how old they were.
func (c *clients) frames() (n int, p99 time.Duration) {
	fmt.Fprintln(c.in, "frames")
	var us int64
	if _, err := fmt.Fscanln(c.out, &n, &us); err != nil {
		c.b.Fatal("the clients' process: ", err)
	}
	return n, time.Duration(us) * time.Microsecond
}

// wait waits until n frames have arrived.
func (c *clients) wait(n int) (p99 time.Duration) {
	for until := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		got, p := c.frames()
		p99 = max(p99, p)
		if got == n {
			return p99
		}
		if got > n || time.Now().After(until) {
			c.b.Fatalf("%d frames, want %d", got, n)
		}
	}
}

// The head of the answer counts as no frame: its lines end in CR LF. ": watching" and the starting id are two.
const greeting = 2

// cpu is what this process has used.
func cpu() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// rss is the memory of this process in bytes.
func rss(b *testing.B) int {
	runtime.GC()
	debug.FreeOSMemory()
	s, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(s))[1])
	if err != nil {
		b.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// subscribers is how many there are: 10,000, but fewer in a hurry.
func subscribers() int {
	if testing.Short() {
		return 1000
	}
	return 9500 // two descriptors for a moment while one is taken over, and 20,000 are the limit of many a process
}

// BenchmarkFanout sends each notification to all subscribers of a directory, at 100 notifications a second: an operation is one of them. What
// counts is deliveries per second of the server's CPU, that is per core, and that none stays behind.
func BenchmarkFanout(b *testing.B) {
	for name, n := range map[string]int{"writers": 0, "goroutines": -1} {
		b.Run(name, func(b *testing.B) {
			tree := servertest.New("/srv/data")
			url := serve(b, tree, func(o *server.Options) { o.Writers, o.KeepAlive = n, time.Hour })
			c := startClients(b, url)
			c.frames() // it runs
			before := rss(b)
			for range subscribers() {
				c.open(root + "/notify")
			}
			frames := greeting * c.n
			c.wait(frames)
			perClient := float64(rss(b)-before) / float64(c.n)
			b.Run("100 a second", func(b *testing.B) {
				c.b = b
				busy := cpu()
				next := time.Now()
				for b.Loop() {
					time.Sleep(time.Until(next))
					next = next.Add(10 * time.Millisecond)
					tree.Log.Append(servertest.RootID, notify.Notification{Type: notify.ChildSizeChanged, Path: fmt.Sprint(time.Now().UnixNano()),
						Spine: notify.Spine{servertest.RootID, 4234567890123456789}})
				}
				frames += b.N * c.n
				p99 := c.wait(frames)
				busy = cpu() - busy
				b.ReportMetric(float64(b.N*c.n)/busy.Seconds(), "deliveries/cpu-s")
				b.ReportMetric(float64(b.N*c.n)/b.Elapsed().Seconds(), "deliveries/s")
				b.ReportMetric(p99.Seconds()*1e3, "p99-ms")
				b.ReportMetric(perClient, "RSS/subscriber")
			})
		})
	}
}

// BenchmarkDistinctFilters sends each notification to one of many subscribers, each of whom watches another directory with another filter: what
// it costs should not grow with the number of the others.
func BenchmarkDistinctFilters(b *testing.B) {
	for _, n := range []int{subscribers() / 10, subscribers()} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			tree := servertest.New("/srv/data")
			ids := make([]notify.FileID, n)
			for i := range ids {
				ids[i] = tree.Mkdir(fmt.Sprint("d", i))
			}
			c := startClients(b, serve(b, tree, func(o *server.Options) { o.KeepAlive = time.Hour }))
			types := notify.Qumulo.Types()
			for i, id := range ids {
				c.open(fmt.Sprintf("/v1/files/%d/notify?filter=child_size_changed,%s", id, types[i%len(types)]))
			}
			frames := greeting * n
			c.wait(frames)
			b.Run("one of them", func(b *testing.B) {
				c.b = b
				busy := cpu()
				i := 0
				for b.Loop() {
					tree.Log.Append(servertest.RootID, notify.Notification{Type: notify.ChildSizeChanged, Path: fmt.Sprintf("d%d/f", i%n),
						Spine: notify.Spine{servertest.RootID, ids[i%n], 4234567890123456789}})
					i += 7
					if b.N%64 == 0 { // let the writers run
						runtime.Gosched()
					}
				}
				frames += b.N
				c.wait(frames)
				b.ReportMetric(float64((cpu()-busy).Nanoseconds())/float64(b.N), "cpu-ns/notification")
			})
		})
	}
}

// tcpMemory is what the kernel holds for all TCP sockets of this machine, in bytes.
func tcpMemory(b *testing.B) int {
	s, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(s), "TCP:")
	_, rest, _ = strings.Cut(rest, "mem ")
	digits, _, _ := strings.Cut(rest, "\n")
	pages, err := strconv.Atoi(strings.TrimSpace(digits))
	if err != nil {
		b.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// BenchmarkStuckClients serves 200 clients that read and 100 that do not, at 5,000 notifications a second: an operation is
// one of them. The kernel's memory is that of both ends.
func BenchmarkStuckClients(b *testing.B) {
	for name, n := range map[string]int{"writers": 0, "goroutines": -1} {
		b.Run(name, func(b *testing.B) {
			tree := servertest.New("/srv/data")
			c := startClients(b, serve(b, tree, func(o *server.Options) { o.Writers, o.KeepAlive = n, time.Hour }))
			for range 100 {
				fmt.Fprintln(c.in, "stick", root+"/notify")
			}
			for range 200 {
				c.open(root + "/notify")
			}
			frames := greeting * c.n
			c.wait(frames)
			before := tcpMemory(b)
			b.Run("5000 a second", func(b *testing.B) {
				c.b = b
				next := time.Now()
				for i := 0; b.Loop(); i++ {
					if i%50 == 0 {
						time.Sleep(time.Until(next))
						next = next.Add(10 * time.Millisecond)
					}
					tree.Log.Append(servertest.RootID, notify.Notification{Type: notify.ChildSizeChanged, Path: fmt.Sprint(time.Now().UnixNano()),
						Spine: notify.Spine{servertest.RootID, 4234567890123456789}})
				}
				frames += b.N * c.n
				p99 := c.wait(frames)
				b.ReportMetric(p99.Seconds()*1e3, "p99-ms")
				b.ReportMetric(float64(tcpMemory(b)-before)/(1<<20), "kernel-MiB")
			})
		})
	}
}
