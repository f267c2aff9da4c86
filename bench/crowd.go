//go:build linux

package main

import (
	"errors"
	"fmt"
	"strconv"
)

// crowd measures our server alone where numbers might hurt: clients that do not read, subscriptions that an event does not
// concern, and as many subscribers as fit on one machine.
func (b *bench) crowd() error {
	return errors.Join(b.stuckClients(), b.manyDirectories(), b.manyProcesses())
}

// stuckClients compares 200 clients with the same ones beside 100 that stopped reading.
func (b *bench) stuckClients() error {
	var rs results
	for round := range b.runs {
		for _, c := range []fanCase{{n: 200, rate: 5000}, {n: 300, rate: 5000, stuck: 100}} {
			name := fmt.Sprintf("%d that read", c.n-c.stuck)
			if c.stuck > 0 {
				name += fmt.Sprintf(", %d that do not", c.stuck)
			}
			b.logf("stuck clients, run %d of %d: %s", round+1, b.runs, name)
			if err := b.measureFan(fanServer{name, ourColor, ours(0)}, c, rs.of(name, ourColor)); err != nil {
				return err
			}
		}
	}
	b.report.table("stuck", rs.table(figure("deliveries/s", "deliveries", number), figure("cores", "cores", number), figure("p50", "p50", micros), figure("p99", "p99", micros),
		figure("TCP memory in the kernel", "tcp", megabytes), figure("peak RSS", "peak", megabytes), figure("lost, %", "lost", number)))
	return nil
}

// manyDirectories has each subscription on a directory of its own, and events in one of them.
func (b *bench) manyDirectories() error {
	var rs results
	const rate = 200
	growth := series{label: "CPU an event", color: ourColor}
	for round := range b.runs {
		for _, n := range []int{1, 100, 1000, 10_000} {
			name := grouped(int64(n)) + " subscriptions, each on its directory"
			b.logf("directories, run %d of %d: %s", round+1, b.runs, name)
			if err := b.measureFan(fanServer{name, ourColor, ours(n)}, fanCase{n: n, rate: rate}, rs.of(name, ourColor)); err != nil {
				return err
			}
			if round == b.runs-1 {
				growth.x, growth.y = append(growth.x, float64(n)), append(growth.y, rs.of(name, ourColor).median("perevent"))
			}
		}
	}
	b.report.table("directories", rs.table(figure("CPU an event, µs", "perevent", number), figure("p50", "p50", micros), figure("p99", "p99", micros), figure("peak RSS", "peak", megabytes), figure("lost, %", "lost", number)))
	return b.report.plot("directories.svg", linePlot("CPU of an event that concerns one subscription", fmt.Sprintf("µs, %d events/s; both axes logarithmic; less is better", rate), "subscriptions on other directories", number, []series{growth}))
}

// The servers of manyProcesses, and the subscribers of each: about as many as a process may have descriptors for here.
const (
	crowdProcesses = 6
	crowdEach      = 16_500
)

// manyProcesses is several servers at once, each with its subscribers in a process of their own.
func (b *bench) manyProcesses() error {
	if limit := openFiles(); limit < crowdEach+100 {
		b.report.table("processes", fmt.Sprintf("Not measured: a process may have %d files open, and %d are needed.", limit, crowdEach+100))
		return nil
	}
	b.loose = true
	defer func() { b.loose = false }()
	var rs results
	r := rs.of(fmt.Sprintf("%s subscribers of %d processes", grouped(crowdProcesses*crowdEach), crowdProcesses), ourColor)
	for round := range b.runs {
		b.logf("processes, run %d of %d", round+1, b.runs)
		if err := b.crowdOnce(r); err != nil {
			return err
		}
	}
	b.report.table("processes", rs.table(figure("deliveries/s", "deliveries", number), figure("cores of the servers", "cores", number), figure("p50, the worst process", "p50", micros),
		figure("p99, the worst process", "p99", micros), figure("RSS of the servers, idle", "rss", megabytes), figure("TCP memory in the kernel", "tcp", megabytes), figure("lost, %", "lost", number)))
	return nil
}

func (b *bench) crowdOnce(r *result) error {
	before := tcpMemory()
	var runs []*fanRun
	defer func() {
		for _, run := range runs {
			run.stop()
		}
	}()
	for i := range crowdProcesses {
		run, err := b.connectFan(fanServer{"fs_notify " + strconv.Itoa(i), ourColor, ours(0)}, fanCase{n: crowdEach, rate: 1})
		if err != nil {
			return err
		}
		runs = append(runs, run)
	}
	type answer struct {
		f   fanResult
		err error
	}
	answers := make(chan answer)
	for _, run := range runs {
		go func() {
			f, err := run.publish()
			answers <- answer{f, err}
		}()
	}
	var failed error
	var deliveries, wanted, wall, p50, p99 float64
	for range runs {
		a := <-answers
		failed = errors.Join(failed, a.err)
		deliveries += float64(a.f.Deliveries)
		wanted += float64(a.f.Events) * float64(a.f.Listeners)
		wall, p50, p99 = max(wall, a.f.Wall), max(p50, a.f.P50), max(p99, a.f.P99)
	}
	if failed != nil {
		return failed
	}
	var rss, cpu float64
	for _, run := range runs {
		rss += float64(run.idle.RSS)
		cpu += (run.end.CPU - run.idle.CPU).Seconds()
	}
	r.runs++
	r.add("deliveries", deliveries/max(wall, 1e-9))
	r.add("cores", cpu/max(wall, 1e-9))
	r.add("p50", p50)
	r.add("p99", p99)
	r.add("rss", rss)
	r.add("tcp", float64(max(tcpMemory()-before, 0)))
	r.add("lost", 100*(1-deliveries/wanted))
	return nil
}
