//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/r3labs/sse/v2"
	"golang.org/x/sys/unix"
)

// fanFiles is how many files there are to make events of: one is not used again for so many events.
const fanFiles = 1 << 14

func fanName(i int) string { return fmt.Sprintf("e%06d", i) }

// fanEvent is what the peers' servers send: as long as what ours sends for a chmod.
func fanEvent(b []byte, i int) []byte {
	b = append(b, `data: `...)
	b = fanJSON(b, i)
	return append(b, "\nid: 891086277095427.4664325403183031002\n\n"...)
}

func fanJSON(b []byte, i int) []byte {
	return fmt.Appendf(b, `[{"type":"child_acl_changed","spine":["4664325403183031002","3276386167309783811"],"path":"%s","stream_name":null}]`, fanName(i))
}

// fanResult is what the subscribers have seen.
type fanResult struct {
	Events     int     // published
	Listeners  int     // who should have each
	Deliveries int64   // of Events times Listeners
	Bytes      int64   // read
	Late       float64 // s between when the last event should have been published and when it was
	P50, P99   float64 // µs from publishing to the read that brought it
	Wall       float64 // s from the first publishing to the last delivery
}

// histogram counts durations in buckets of a sixteenth of a power of two.
type histogram struct {
	n     int64
	count [64 * 16]int64
}

func (h *histogram) add(us int64, times int64) {
	us = max(us, 1)
	k := bits.Len64(uint64(us)) - 1
	sub := 0
	if k >= 4 {
		sub = int(us>>(k-4)) & 15
	} else {
		sub = int(us<<(4-k)) & 15
	}
	h.count[k*16+sub] += times
	h.n += times
}

// quantile gives the upper end of the bucket.
func (h *histogram) quantile(q float64) float64 {
	want := int64(q * float64(h.n))
	for i, n := range h.count {
		if want -= n; want < 0 {
			return float64(uint64(1)<<(i/16)) * (1 + float64(i%16+1)/16)
		}
	}
	return 0
}

// roleFan is n subscribers at once, in one epoll loop, and a publisher: a chmod in a directory ("dir:PATH"), or an order to a
// server of roleFanServer ("ctl:ADDRESS"). The first stuck ones do not read after the beginning of the answer. If path has a
// number in it ("%05d"), each asks for another one, and only the last one's events are published. It says "connected", waits
// for a line, publishes, and says what came.
func roleFan(addr, path, publish string, n int, rate, seconds float64, stuck int) error {
	own := strings.Contains(path, "%05d")
	raise, err := publisher(publish)
	if err != nil {
		return err
	}
	ap, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return err
	}
	to := &unix.SockaddrInet4{Port: ap.Port}
	copy(to.Addr[:], ap.IP.To4())
	request := func(i int) []byte {
		path := path
		if own {
			path = strings.Replace(path, "%05d", fmt.Sprintf("%05d", i), 1)
		}
		return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", path, addr)
	}
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	type conn struct {
		kept  int8
		got   bool
		stuck bool
		tail  [24]byte // the end of what was read: an event may be cut
	}
	conns := make(map[int32]*conn, n)
	for i := range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := unix.Connect(fd, to); err != nil {
			return fmt.Errorf("connection %d: %w", len(conns)+1, err)
		}
		if _, err := unix.Write(fd, request(i)); err != nil {
			return err
		}
		if err := unix.SetNonblock(fd, true); err != nil {
			return err
		}
		conns[int32(fd)] = &conn{stuck: i < stuck}
		if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			return err
		}
	}

	var (
		res     fanResult
		hist    histogram
		waiting = n
		broken  int
		stamps  = make([]atomic.Int64, fanFiles)
		start   = time.Now()
		buf     = make([]byte, 24+256<<10)
		evs     = make([]unix.EpollEvent, 1024)
		mark    = []byte(`"path":"e`)
	)
	poll := func(wait int) error {
		k, err := unix.EpollWait(ep, evs, wait)
		if err != nil && err != unix.EINTR {
			return err
		}
		for _, e := range evs[:max(k, 0)] {
			c := conns[e.Fd]
			k, err := unix.Read(int(e.Fd), buf[24:])
			if err == unix.EAGAIN || err == unix.EINTR {
				continue
			}
			if err != nil || k == 0 {
				broken++
				_ = unix.EpollCtl(ep, unix.EPOLL_CTL_DEL, int(e.Fd), nil)
				continue
			}
			if !c.got {
				c.got = true
				waiting--
				if c.stuck {
					_ = unix.EpollCtl(ep, unix.EPOLL_CTL_DEL, int(e.Fd), nil)
				}
			}
			now := int64(time.Since(start))
			res.Bytes += int64(k)
			at := 24 - int(c.kept)
			copy(buf[at:24], c.tail[:c.kept])
			b := buf[at : 24+k]
			for {
				i := bytes.Index(b, mark)
				if i < 0 || i+len(mark)+6 > len(b) {
					if i >= 0 {
						b = b[i:]
					} else if len(b) > len(mark)-1 {
						b = b[len(b)-len(mark)+1:]
					}
					break
				}
				no := 0
				for _, d := range b[i+len(mark) : i+len(mark)+6] {
					no = no*10 + int(d-'0')
				}
				hist.add((now-stamps[no%fanFiles].Load())/1000, 1)
				res.Deliveries++
				b = b[i+len(mark)+6:]
			}
			c.kept = int8(copy(c.tail[:], b))
		}
		return nil
	}
	runtime.LockOSThread()
	for limit := time.Now().Add(60 * time.Second); waiting > 0; {
		if err := poll(100); err != nil {
			return err
		}
		if broken > 0 || time.Now().After(limit) {
			return fmt.Errorf("%d of %d connections have no answer, %d are broken", waiting, n, broken)
		}
	}
	if err := say("connected"); err != nil {
		return err
	}
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}

	events, listeners := int(rate*seconds), n-stuck
	if own {
		listeners = 1
	}
	published := make(chan error, 1)
	begin := time.Since(start)
	go func() {
		runtime.LockOSThread()
		for i := range events {
			due := begin + time.Duration(float64(i)/rate*1e9)
			if rest := due - time.Since(start); rest > 0 {
				ts := unix.NsecToTimespec(int64(rest))
				_ = unix.Nanosleep(&ts, nil)
			}
			stamps[i%fanFiles].Store(int64(time.Since(start)))
			if err := raise(i); err != nil {
				published <- err
				return
			}
		}
		published <- nil
	}()
	done, last, before := false, time.Now(), int64(0)
	limit := start.Add(begin + time.Duration(3*seconds*1e9) + 5*time.Second) // what is later counts as lost
	for want := int64(events) * int64(listeners); res.Deliveries < want; {
		if err := poll(100); err != nil {
			return err
		}
		now := time.Now()
		if res.Deliveries > before {
			before, last = res.Deliveries, now
		}
		select {
		case err := <-published:
			if err != nil {
				return err
			}
			done = true
			res.Late = (time.Since(start) - begin).Seconds() - float64(events-1)/rate
			last = now
		default:
		}
		if done && now.Sub(last) > 5*time.Second || now.After(limit) {
			break
		}
	}
	res.Events, res.Listeners = events, listeners
	res.Wall = last.Sub(start.Add(begin)).Seconds()
	res.P50, res.P99 = hist.quantile(0.5), hist.quantile(0.99)
	return say(res)
}

func publisher(how string) (func(i int) error, error) {
	kind, where, _ := strings.Cut(how, ":")
	if kind == "dir" {
		return func(i int) error {
			mode := uint32(0o600 + i/fanFiles%2*0o40)
			return unix.Chmod(filepath.Join(where, fanName(i%fanFiles)), mode)
		}, nil
	}
	if kind == "post" {
		return poster(where)
	}
	c, err := net.Dial("tcp", where)
	if err != nil {
		return nil, err
	}
	return func(i int) error {
		_, err := c.Write(binary.LittleEndian.AppendUint32(nil, uint32(i%fanFiles)))
		return err
	}, nil
}

// poster publishes by POST, one connection for all: the order is that of nchan's publishers.
func poster(addr string) (func(i int) error, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	r := bufio.NewReader(c)
	return func(i int) error {
		body := fanJSON(nil, i%fanFiles)
		if _, err := fmt.Fprintf(c, "POST /pub HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
			return err
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err == nil && resp.StatusCode >= 300 {
			err = errors.New(resp.Status)
		}
		return err
	}, nil
}

const nchanModule = "/usr/lib/nginx/modules/ngx_nchan_module.so" // of Debian's libnginx-mod-nchan

func hasNchan() bool {
	_, noNginx := exec.LookPath("nginx")
	_, noModule := os.Stat(nchanModule)
	return noNginx == nil && noModule == nil
}

// nchan is nginx with the module of that name: one process, and a channel.
func nchan(b *bench, s *session, dir string) (addr, path, publish string, err error) {
	port, err := freePort()
	if err != nil {
		return "", "", "", err
	}
	if !hasNchan() {
		return "", "", "", errors.New("nginx with nchan is not installed")
	}
	addr = fmt.Sprintf("127.0.0.1:%d", port)
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, `load_module %s;
daemon off;
master_process off;
worker_rlimit_nofile 30000;
pid %s/nginx.pid;
error_log %s/error.log;
events { worker_connections 25000; }
http {
	access_log off;
	nchan_shared_memory_size 256M;
	server {
		listen %s backlog=4096;
		location = /pub { nchan_publisher; nchan_channel_id bench; nchan_message_buffer_length 1000; nchan_message_timeout 30s; }
		location = /sub { nchan_subscriber eventsource; nchan_channel_id bench; nchan_subscriber_first_message newest; }
	}
}
`, nchanModule, dir, dir, addr), 0o644); err != nil {
		return "", "", "", err
	}
	if err := s.run(pinned(0, exec.Command("nginx", "-p", dir, "-e", filepath.Join(dir, "error.log"), "-c", conf))); err != nil {
		return "", "", "", err
	}
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return addr, "/sub", "post:" + addr, nil
		}
		if time.Now().After(limit) {
			log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			return "", "", "", fmt.Errorf("nginx: %w: %s", err, firstLine(string(log)))
		}
	}
}

// fanAddrs is where a server of roleFanServer listens.
type fanAddrs struct{ Addr, Ctl string }

// hub hands each event to the channels of those who listen; who is full misses it.
type hub struct {
	mu   sync.Mutex
	subs map[chan []byte]bool
}

func (h *hub) publish(b []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.subs {
		select {
		case c <- b:
		default:
		}
	}
}

// serve is the handler that everybody writes first: a channel, a goroutine, a flush. With drain, it takes all that waits before it flushes.
func (h *hub) serve(w http.ResponseWriter, r *http.Request, drain bool) {
	c := make(chan []byte, 64)
	h.mu.Lock()
	h.subs[c] = true
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.subs, c)
		h.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	_ = rc.Flush()
	for {
		select {
		case b := <-c:
			if _, err := w.Write(b); err != nil {
				return
			}
			for more := drain; more; {
				select {
				case b := <-c:
					_, _ = w.Write(b)
				default:
					more = false
				}
			}
			if rc.Flush() != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

// roleFanServer is a peer's server: it says where it listens, and sends each event that it is told to.
func roleFanServer(kind string) error {
	h := &hub{subs: make(map[chan []byte]bool)}
	publish := func(i int) { h.publish(fanEvent(nil, i)) }
	var handler http.Handler
	switch kind {
	case "net/http", "net/http draining":
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, kind != "net/http") })
	case "echo":
		e := echo.New()
		e.GET("/", func(c echo.Context) error { h.serve(c.Response(), c.Request(), false); return nil })
		handler = e
	case "r3labs/sse":
		s := sse.New()
		s.AutoReplay = false
		s.CreateStream("bench")
		publish = func(i int) {
			s.Publish("bench", &sse.Event{ID: []byte("891086277095427.4664325403183031002"), Data: fanJSON(nil, i)})
		}
		handler = http.HandlerFunc(s.ServeHTTP)
	default:
		return fmt.Errorf("there is no server %q", kind)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := ctl.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			var b [4]byte
			for {
				if _, err := io.ReadFull(r, b[:]); err != nil {
					break
				}
				publish(int(binary.LittleEndian.Uint32(b[:])))
			}
			c.Close()
		}
	}()
	if err := say(fanAddrs{l.Addr().String(), ctl.Addr().String()}); err != nil {
		return err
	}
	return http.Serve(l, handler)
}

// rolePinned becomes another program, on one CPU.
func rolePinned(cpu string, args []string) error {
	n, err := strconv.Atoi(cpu)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(n)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return err
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	return unix.Exec(path, args, os.Environ())
}

// pinned runs a command on one CPU, if there are two.
func pinned(cpu int, cmd *exec.Cmd) *exec.Cmd {
	if runtime.NumCPU() < 2 {
		return cmd
	}
	p := self(append([]string{"pinned", strconv.Itoa(cpu), cmd.Path}, cmd.Args[1:]...)...)
	p.Stderr = cmd.Stderr
	return p
}

// A fanServer is something with subscribers.
type fanServer struct {
	name, color string
	// start gives the process, where subscribers ask for what, and how to publish.
	start func(b *bench, s *session, dir string) (addr, path, publish string, err error)
}

// ours is fs_notify over a directory with files, or over as many directories of which the last one has files.
func ours(dirs int) func(b *bench, s *session, dir string) (addr, path, publish string, err error) {
	return func(b *bench, s *session, dir string) (addr, path, publish string, err error) {
		files, path := dir, "/v1/files/%2Fbench/notify"
		if dirs > 0 {
			path = "/v1/files/%2Fbench%2Fd%05d/notify"
		}
		for i := range dirs {
			files = filepath.Join(dir, fmt.Sprintf("d%05d", i))
			if err := os.Mkdir(files, 0o755); err != nil {
				return "", "", "", err
			}
		}
		for i := range fanFiles {
			if err := os.WriteFile(filepath.Join(files, fanName(i)), nil, 0o640); err != nil {
				return "", "", "", err
			}
		}
		port, err := freePort()
		if err != nil {
			return "", "", "", err
		}
		addr = fmt.Sprintf("127.0.0.1:%d", port)
		cmd := exec.Command(b.binary, "serve", "--root", "/bench="+dir, "--listen", addr, "--log-level", "error")
		if !b.loose {
			cmd = pinned(0, cmd)
		}
		if err := s.run(cmd); err != nil {
			return "", "", "", err
		}
		for limit := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			if err = isReady(addr); err == nil {
				return addr, path, "dir:" + files, nil
			}
			if time.Now().After(limit) {
				return "", "", "", err
			}
		}
	}
}

func fanServers() []fanServer {
	list := []fanServer{{"fs_notify", ourColor, ours(0)}}
	for _, peer := range []struct{ kind, color string }{{"net/http", "#c2410c"}, {"net/http draining", "#d9a106"}, {"echo", "#059669"}, {"r3labs/sse", "#7c3aed"}} {
		kind := peer.kind
		list = append(list, fanServer{kind, peer.color, func(b *bench, s *session, dir string) (string, string, string, error) {
			cmd := pinned(0, self("fanserver", kind))
			out, err := s.runReading(cmd)
			if err != nil {
				return "", "", "", err
			}
			var at fanAddrs
			if err := decode(out, &at); err != nil {
				return "", "", "", err
			}
			return at.Addr, "/?stream=bench", "ctl:" + at.Ctl, nil
		}})
	}
	return append(list, fanServer{"nchan", "#be185d", nchan})
}

// fanCase is a number of subscribers and of events a second.
type fanCase struct {
	n     int
	rate  float64
	stuck int // of them
}

func (c fanCase) String() string {
	return fmt.Sprintf("%s subscribers, %g events/s", grouped(int64(c.n)), c.rate)
}

var fanCases = []fanCase{{n: 100, rate: 1000}, {n: 1000, rate: 100}, {n: 1000, rate: 1000}, {n: 10_000, rate: 8}, {n: 10_000, rate: 100}}

// measureFan connects c.n subscribers to a server and publishes for some seconds.
func (b *bench) measureFan(sv fanServer, c fanCase, r *result) (err error) {
	run, err := b.connectFan(sv, c)
	if err != nil {
		return err
	}
	defer run.stop()
	f, err := run.publish()
	if err != nil {
		return err
	}
	cpu := (run.end.CPU - run.idle.CPU).Seconds()
	r.runs++
	r.add("deliveries", float64(f.Deliveries)/max(f.Wall, 1e-9))
	r.add("percore", float64(f.Deliveries)/max(cpu, 0.01))
	r.add("perevent", cpu/float64(f.Events)*1e6)
	r.add("cores", cpu/max(f.Wall, 1e-9))
	r.add("p50", f.P50)
	r.add("p99", f.P99)
	if c.n >= 10_000 { // fewer are lost in what the process takes for itself
		r.add("rss", float64(run.idle.RSS-run.empty.RSS)/float64(c.n))
	}
	r.add("peak", float64(run.end.Peak))
	r.add("tcp", float64(run.tcp))
	r.add("lost", 100*(1-float64(f.Deliveries)/(float64(f.Events)*float64(f.Listeners))))
	return nil
}

// fanRun is a server and its subscribers, all of whom have their answer.
type fanRun struct {
	stopAll          []func()
	server           *session
	in               io.Writer
	answers          *json.Decoder
	empty, idle, end usage // of the server: before the subscribers, with them, after the events
	tcp              int64 // bytes of TCP memory in the kernel that the events have left behind
}

func (run *fanRun) stop() {
	for i := len(run.stopAll) - 1; i >= 0; i-- {
		run.stopAll[i]()
	}
}

func (b *bench) connectFan(sv fanServer, c fanCase) (_ *fanRun, err error) {
	run := &fanRun{server: &session{}}
	defer func() {
		if err != nil {
			run.stop()
		}
	}()
	p, err := newPlace(b.fs, b.dir)
	if err != nil {
		return nil, err
	}
	run.stopAll = append(run.stopAll, p.close, run.server.stop)
	addr, path, publish, err := sv.start(b, run.server, p.Dir)
	if err != nil {
		return nil, err
	}
	time.Sleep(500 * time.Millisecond)
	if run.empty, err = usageOf(run.server.pid); err != nil {
		return nil, err
	}
	cmd := self("fan", addr, path, publish, strconv.Itoa(c.n), fmt.Sprint(c.rate), fmt.Sprint(b.seconds), strconv.Itoa(c.stuck))
	if !b.loose {
		cmd = pinned(1, cmd)
	}
	if run.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	client := &session{}
	run.stopAll = append(run.stopAll, client.stop)
	out, err := client.runReading(cmd)
	if err != nil {
		return nil, err
	}
	run.answers = newDecoder(out)
	var word string
	if err := run.answers.Decode(&word); err != nil {
		return nil, errors.Join(errors.New("the subscribers did not all get through"), err)
	}
	return run, nil
}

// publish has the events published, and says what came.
func (run *fanRun) publish() (f fanResult, err error) {
	time.Sleep(2 * time.Second)
	if run.idle, err = usageOf(run.server.pid); err != nil {
		return f, err
	}
	tcp := tcpMemory()
	if _, err := io.WriteString(run.in, "go\n"); err != nil {
		return f, err
	}
	if err := run.answers.Decode(&f); err != nil {
		return f, err
	}
	run.tcp = max(tcpMemory()-tcp, 0)
	run.end, err = usageOf(run.server.pid)
	return f, err
}

// tcpMemory is what all TCP sockets of the machine hold in the kernel, in bytes.
func tcpMemory() int64 {
	b, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "TCP: ")
	line, _, _ := strings.Cut(rest, "\n")
	fields := strings.Fields(line)
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] == "mem" {
			pages, _ := strconv.ParseInt(fields[i+1], 10, 64)
			return pages * int64(os.Getpagesize())
		}
	}
	return 0
}
