package watch

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"fs_notify/notify"
)

// actors finds out who a process is, best effort: most have ended by then, and then only the
// number is known. Of the goroutine of the tree.
type actors struct {
	known map[int32]knownActor
}

type knownActor struct {
	*notify.Actor
	since time.Time
}

const (
	actorTTL  = 2 * time.Second // a process number may belong to somebody else later
	maxActors = 4096
)

// of gives the actor of a thread group; nil if the source did not say.
func (a *actors) of(pid int32, now time.Time) *notify.Actor {
	if pid <= 0 {
		return nil
	}
	if k, ok := a.known[pid]; ok && now.Sub(k.since) < actorTTL {
		return k.Actor
	}
	if a.known == nil || len(a.known) >= maxActors {
		a.known = make(map[int32]knownActor)
	}
	k := knownActor{readActor(pid), now}
	a.known[pid] = k
	return k.Actor
}

// readActor asks /proc. A process that has ended, or whose user cannot be read, is not reported: a number alone would
// claim that root did it.
func readActor(pid int32) *notify.Actor {
	dir := "/proc/" + strconv.Itoa(int(pid))
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return nil
	}
	_, rest, ok := bytes.Cut(status, []byte("\nUid:\t"))
	if !ok {
		return nil
	}
	digits, _, _ := bytes.Cut(rest, []byte("\t"))
	uid, err := strconv.ParseUint(string(digits), 10, 32)
	if err != nil {
		return nil
	}
	comm, _ := os.ReadFile(dir + "/comm")
	return &notify.Actor{PID: pid, UID: uint32(uid), Command: string(bytes.TrimSuffix(comm, []byte("\n")))}
}
