package rtp

import (
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A worker sleeps until a packet comes while few do: nothing is faster. To wake is dearer than to relay, though, so that
// when many come it looks after them once in a tick, however many they are: half a millisecond is of no concern to
// speech, and halves what a packet costs. The rates are those at which a tick finds about two packets.
const (
	tick      = 500 * time.Microsecond // and 50 µs that the system adds to any sleep
	pacePause = 20 * time.Millisecond  // how long packets are counted before the pace changes
	paceFast  = 4000                   // packets in a second from which on a worker ticks
	paceSlow  = 3000                   // and down to which it goes on to

	// A worker that has found as many sockets as it can look at once for this long has more to do than it can, and soon
	// the sockets of streams, of 20 ms a packet, have two or more each. It takes what there is of each: that is cheaper,
	// as all that a packet touches is at hand for the next. So it is late by some packets, in place of losing them.
	behindAfter = 20 * time.Millisecond

	yieldAfter = time.Millisecond // how long a worker that has no time to sleep keeps the others waiting
)

// pace decides when a worker looks for packets.
type pace struct {
	ticks bool
	count int
	since time.Time
	woke  time.Time
	full  time.Time // since when there have been as many at every look as there can be; zero: there are fewer
	yield time.Time // when the worker last let others go first
}

// note counts what has come.
func (p *pace) note(packets int, now time.Time) {
	p.count += packets
	passed := now.Sub(p.since)
	if passed < pacePause {
		return
	}
	limit := paceFast
	if p.ticks {
		limit = paceSlow
	}
	p.ticks = time.Duration(p.count)*time.Second >= time.Duration(limit)*passed
	p.count, p.since = 0, now
}

// look is told how many sockets have something to read.
func (p *pace) look(n int, now time.Time) {
	if n < batchSize {
		p.full = time.Time{}
	} else if p.full.IsZero() {
		p.full = now
	}
	p.woke = now
	p.note(n, now)
}

// burst is how many datagrams are to be taken of a socket that has some.
func (p *pace) burst() int {
	if p.full.IsZero() || p.woke.Sub(p.full) < behindAfter {
		return 1
	}
	return maxBurst
}

// wait fills the worker's events, and gives their number. It is none when a signal came, or a tick found nothing.
func (w *worker) wait() (int, error) {
	timeout := -1
	if w.pace.ticks {
		timeout = 0
		// From tick to tick, so that the more a worker has to do the less it sleeps. More may wait if the events were
		// all filled. A signal ends the sleep early, which does no harm.
		if left := tick - time.Since(w.pace.woke); left > 0 && len(w.ready) < batchSize {
			pause := unix.NsecToTimespec(left.Nanoseconds())
			_, _, _ = unix.Syscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0)
		}
	}
	if p := &w.pace; !p.full.IsZero() && p.woke.Sub(p.yield) >= yieldAfter {
		// The system calls are raw, and without sleep: on a single processor the others would have to be helped to it.
		p.yield = p.woke
		runtime.Gosched()
	}
	n, errno := epollWait(w.poll, w.events[:], timeout)
	if errno != 0 && errno != unix.EINTR {
		return 0, errno
	}
	w.pace.look(n, time.Now())
	return n, nil
}

// epollWait is epoll_wait(2), timeout in milliseconds. One that does not wait is raw: the scheduler need not know of it.
func epollWait(fd int, events []unix.EpollEvent, timeout int) (n int, errno unix.Errno) {
	first, size := uintptr(unsafe.Pointer(&events[0])), uintptr(len(events))
	var r uintptr
	if timeout == 0 {
		r, _, errno = unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(fd), first, size, 0, 0, 0)
	} else {
		r, _, errno = unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(fd), first, size, uintptr(timeout), 0, 0)
	}
	runtime.KeepAlive(events)
	if errno != 0 {
		return 0, errno
	}
	return int(r), 0
}
