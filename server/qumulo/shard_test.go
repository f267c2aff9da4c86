//go:build linux

package qumulo

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fs_notify/notify"
	"fs_notify/notify/feed"
	"fs_notify/notify/feed/feedtest"
)

const testRoot notify.FileID = 2

// rig is a shard without its goroutine: a test does what that would do.
type rig struct {
	*shard
	t       testing.TB
	log     *feedtest.Log
	clients []int
	junk    [64 << 10]byte
}

func newRig(t testing.TB) *rig {
	log := feedtest.New(1000)
	api := New(Options{Feed: feed.New(log, feed.Options{})})
	p, err := newPoller()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return &rig{shard: newShard(&writers{api: api, began: time.Now()}, p), t: t, log: log}
}

func viewOf(dir notify.FileID, types notify.TypeSet) feed.View {
	return feed.View{Root: testRoot, Dir: dir, Recursive: true, Types: types}
}

// add adds a member that has seen everything so far.
func (r *rig) add(fd int, v feed.View) *member {
	m := &member{group: &group{key: key{view: v, form: form{dir: v.Dir, stream: true}}}, fd: fd, pos: r.log.Bounds().Newest(), timeout: -1, release: func() {}}
	r.arrive(m)
	r.t.Cleanup(func() {
		if m.state != ended {
			r.finish(m, &writeError{errHungUp})
		}
	})
	return m
}

// pair is a socket for a member, and its client's end. Neither waits.
func (r *rig) pair() (fd, client int) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	r.clients = append(r.clients, p[1])
	r.t.Cleanup(func() { unix.Close(p[1]) })
	return p[0], p[1]
}

// sink is a socket whose client takes something whenever the test has the clients drain.
func (r *rig) sink() int {
	fd, _ := r.pair()
	return fd
}

// drain takes what has come to all clients.
func (r *rig) drain() {
	for _, fd := range r.clients {
		for {
			if n, err := unix.Read(fd, r.junk[:]); n <= 0 || err != nil {
				break
			}
		}
	}
}

func change(dir notify.FileID, n int) notify.Notification {
	return notify.Notification{Type: notify.ChildSizeChanged, Path: fmt.Sprintf("d%d/f%d", dir, n), Spine: notify.Spine{testRoot, dir, 100000 + notify.FileID(n)}}
}

func TestPassAllocatesNothing(t *testing.T) {
	r := newRig(t)
	var members []*member
	for i := range 8 {
		members = append(members, r.add(r.sink(), viewOf(testRoot, notify.Qumulo)))
		r.add(r.sink(), viewOf(10+notify.FileID(i), notify.Qumulo))
	}
	n := 0
	tell := func() {
		n++
		r.log.Append(testRoot, change(10+notify.FileID(n%8), n))
	}
	pass := func() {
		tell()
		r.pass()
		r.drain()
	}
	for range 200 { // until all has the size that it needs
		pass()
	}
	with := testing.AllocsPerRun(200, pass)
	r.pos = r.log.Bounds().Newest()
	sent := members[0].sent
	if without := testing.AllocsPerRun(200, tell); with > without {
		t.Errorf("%v allocations for a batch that goes to 9 members", with-without)
	}
	if m := members[0]; m.state != live || sent != 401 {
		t.Errorf("a member has got %d of 401", sent)
	}
}

// A member whose client stops reading is brought on from its own place when it reads again, with the same
// bytes, though a keepalive was cut in two, and costs nobody else anything.
func TestCutKeepalive(t *testing.T) {
	r := newRig(t)
	fd, client := r.pair()
	m := r.add(fd, viewOf(testRoot, notify.Qumulo))
	beat := m.group.form.appendKeepalive(nil, m.cursor().Seq)
	// As if the socket had taken five bytes of it.
	r.leave(m)
	m.beat = true
	m.full = true
	m.off = 5
	r.wait(m)
	if m.state != parked {
		t.Fatalf("state %d, want parked", m.state)
	}
	r.log.Append(testRoot, change(10, 1))
	r.log.Append(testRoot, change(10, 2))
	r.pass()
	r.hear([]event{{slot: m.slot, turn: r.turns[m.slot]}})
	for range 3 {
		r.catchUp()
	}
	if m.state != live || m.sent != 2 {
		t.Fatalf("state %d after %d notifications, want live after 2", m.state, m.sent)
	}
	buf := make([]byte, 4096)
	n, err := unix.Read(client, buf)
	if err != nil {
		t.Fatal(err)
	}
	got := buf[:n]
	if !bytes.HasPrefix(got, append(beat[5:], "data: ["...)) || bytes.Count(got, []byte("\n\n")) != 3 {
		t.Errorf("the client gets %q", got)
	}
}

// So many members with different filters see so much of one batch that the index gives up: they get the same.
func TestManyFiltersAndALargeBatch(t *testing.T) {
	r := newRig(t)
	var members []*member
	for i := range 40 {
		members = append(members, r.add(r.sink(), viewOf(testRoot, notify.SetOf(notify.ChildSizeChanged)|notify.TypeSet(i)<<notify.ChildBtimeChanged)))
	}
	apart := r.add(r.sink(), viewOf(77, notify.Qumulo))
	var notes []notify.Notification
	for i := range notify.BatchIndexes {
		notes = append(notes, change(10, i))
	}
	if len(members)*len(notes) <= maxConcerns {
		t.Fatal("this is not too much for the index")
	}
	b := r.log.Append(testRoot, notes...)
	r.pass()
	for waiting, rounds := len(members), 0; waiting > 0; rounds++ {
		if rounds == 1000 {
			t.Fatalf("%d members are not done", waiting)
		}
		waiting = 0
		r.drain()
		for _, m := range members {
			if m.state == parked {
				r.hear([]event{{slot: m.slot, turn: r.turns[m.slot]}})
			}
			if m.state != live {
				waiting++
			}
		}
		r.catchUp()
	}
	for i, m := range members {
		if m.sent != len(notes) || m.cursor().Seq != b.Number.End() {
			t.Errorf("member %d has got %d of %d, and stands at %v", i, m.sent, len(notes), m.cursor())
		}
	}
	if apart.sent != 0 || apart.state != live || apart.cursor().Seq != b.Number.End() {
		t.Errorf("a member elsewhere got %d, and stands at %v", apart.sent, apart.cursor())
	}
}

// What memory holds was passed while the members were served: each goes on by itself, from where it was.
func TestRingPassesTheLiveOnes(t *testing.T) {
	r := newRig(t)
	m := r.add(r.sink(), viewOf(testRoot, notify.Qumulo))
	start := m.cursor()
	for i := range 10 {
		r.log.Append(testRoot, change(10, i))
	}
	r.log.KeepInMemory(3)
	r.pass()
	if m.state != ready || m.cursor() != start {
		t.Fatalf("state %d at %v, want ready at %v", m.state, m.cursor(), start)
	}
	r.catchUp()
	if m.state != waiting {
		t.Fatalf("state %d, want waiting for a pager", m.state)
	}
	if _, behind := r.api.Feed.Stats(); behind != 1 {
		t.Errorf("%d count as behind, want 1", behind)
	}
	p := pen{api: r.api}
	if got := r.next(); got != m {
		t.Fatal("the pagers get another one")
	}
	r.lent(m)
	r.hear([]event{{slot: m.slot, turn: r.turns[m.slot]}}) // not the shard's, for now
	if m.state != away {
		t.Fatalf("state %d, want with a pager", m.state)
	}
	m.err = p.page(t.Context(), m, r.writers.now)
	r.back(t.Context(), m)
	if m.state != live || m.sent != 10 {
		t.Errorf("state %d after %d of 10", m.state, m.sent)
	}
	if _, behind := r.api.Feed.Stats(); behind != 0 {
		t.Errorf("%d count as behind, want none", behind)
	}
}

// reasons notes why streams end.
type reasons struct {
	nobody
	all []string
}

func (r *reasons) StreamClosed(_, reason string) { r.all = append(r.all, reason) }

// A client that took nothing until the kernel gave it up is stalled, also where a pager's write has taken the error from the socket before the
// shard hears that it is gone.
func TestStalledWithAPager(t *testing.T) {
	r := newRig(t)
	var told reasons
	r.api.Observer = &told
	m := r.add(r.sink(), viewOf(testRoot, notify.Qumulo))
	r.leave(m)
	m.state = away
	r.hear([]event{{slot: m.slot, turn: r.turns[m.slot], gone: true}})
	m.err = &writeError{os.ErrDeadlineExceeded}
	r.back(t.Context(), m)
	if len(told.all) != 1 || told.all[0] != reasonStalled {
		t.Errorf("ended for %q, want %q", told.all, reasonStalled)
	}
}

// A new life of the journal makes all cursors gone, where there is nothing to read as well. Nobody spins: a member that comes with the new head
// is live beside none that is behind it.
func TestNewLife(t *testing.T) {
	r := newRig(t)
	var told reasons
	r.api.Observer = &told
	r.log.Append(testRoot, change(10, 1))
	r.add(r.sink(), viewOf(testRoot, notify.Qumulo))
	r.log.Renew()
	m := r.add(r.sink(), viewOf(testRoot, notify.Qumulo))
	for range 3 {
		r.pass()
		r.catchUp()
	}
	if len(told.all) != 1 || told.all[0] != reasonGone {
		t.Errorf("ended for %q, want %q alone", told.all, reasonGone)
	}
	if m.state != live || len(r.queue) > 0 {
		t.Errorf("the new one is in state %d, with %d in the queue", m.state, len(r.queue))
	}
}

// What a pager finds may begin behind the position that its member was to come to, as that is no longer kept: the member's stream is gone.
func TestPageBehindTheGoal(t *testing.T) {
	r := newRig(t)
	m := r.add(r.sink(), viewOf(testRoot, notify.Qumulo))
	r.leave(m)
	r.log.Append(testRoot, change(10, 1))
	m.state, m.goal = away, r.log.Append(testRoot, change(10, 2)).Number.End()
	r.log.Append(testRoot, change(10, 3))
	r.log.Forget(2)
	p := pen{api: r.api}
	if m.err = p.page(t.Context(), m, r.writers.now); !errors.Is(m.err, notify.Gone) {
		t.Errorf("the pager gave %v, want Gone", m.err)
	}
	r.back(t.Context(), m)
}

// BenchmarkPass is what a notification costs that concerns one of many groups, all told but the kernel's part.
func BenchmarkPass(b *testing.B) {
	for _, groups := range []int{1, 100, 10000} {
		b.Run(fmt.Sprint(groups), func(b *testing.B) {
			r := newRig(b)
			null, err := unix.Open(os.DevNull, unix.O_WRONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				b.Fatal(err)
			}
			defer unix.Close(null)
			for i := range groups { // a poller does not take /dev/null
				g := &group{key: key{view: viewOf(10+notify.FileID(i), notify.Qumulo), form: form{dir: 10 + notify.FileID(i), stream: true}}, first: -1}
				m := &member{shard: r.shard, group: g, fd: null, state: live}
				g.live, g.count = []*member{m}, 1
				r.groups[g.key] = g
				r.index.Add(g.view, g)
				r.lives++
			}
			r.pos = r.log.Bounds().Newest()
			b.ReportAllocs()
			for i := 0; b.Loop(); i += 7 {
				b.StopTimer()
				r.log.Append(testRoot, change(10+notify.FileID(i%groups), i))
				b.StartTimer()
				r.pass()
			}
			clear(r.groups)
		})
	}
}
