package rtp

import (
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"

	"reveille/rtp/kernel"
)

// The kernel takes over a direction of a stream between two packets of it: calm is how long after one, and how long
// before the next one of a stream of 10 ms packets at the latest. What comes in the very moment goes through the socket
// and takes the stream back, which is tried again after a pause.
const (
	fastTick     = 5 * time.Millisecond // how often is looked for such a moment, while few streams wait
	calm         = 2 * time.Millisecond
	fastTries    = 40 // looks for calm; a stream without (video) is taken over when its socket is empty
	fastAtOnce   = 64 // streams that are looked after in a tick: all of thousands would take the time that their packets need
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
	busyPause    = time.Second // the longest where the sockets are behind
)

// fast is what the kernel has of a stream: the direction that begins at a side. It is guarded by the session's mu.
type fast struct {
	installed bool
	wanted    bool           // it is among those that wait to be installed
	tries     uint8          // of this wait
	to        netip.AddrPort // where it goes
	counted   uint64         // packets at the last reading
	since     moment         // when it was installed
	retry     moment         // not before
	pause     time.Duration  // between the next two tries
}

// lowering are the streams of a relay that wait for a calm moment.
type lowering struct {
	mu      sync.Mutex // guards the following; it is taken last
	waiting []*stream
	running bool
	closed  bool
	done    sync.WaitGroup
}

// openFast opens the fast path. Without it, the sockets do all.
func (r *Relay) openFast(first, last uint16) {
	path, err := kernel.Open(first, last, r.kernelAtZero(), r.log)
	if err != nil {
		r.log.Info("no media fast path; all media goes through sockets (media.fast_path: off hides this line)", "err", err)
		return
	}
	r.log.Info("media fast path: plain RTP between known peers is relayed by the kernel")
	r.fast = path
}

// kernelAtZero is the kernel's clock at moment 0. The closest of a few readings counts: between two clocks, the processor
// may have been somewhere else for long, and all that the kernel relays would seem to be of another time.
func (r *Relay) kernelAtZero() moment {
	var zero moment
	closest := moment(math.MaxInt64)
	for range 10 {
		before := r.now()
		there := kernel.Clock()
		after := r.now()
		if after-before < closest {
			closest, zero = after-before, there-(before+after)/2
		}
	}
	return zero
}

// TryFastPath tells in words why this process can have no fast path; nil: it can. It takes the program into the kernel
// and out again.
func TryFastPath() error {
	path, err := kernel.Open(20000, 20000, kernel.Clock(), slog.New(slog.DiscardHandler))
	if err == nil {
		path.Close()
	}
	return err
}

// closeFast ends it. All sessions are closed.
func (r *Relay) closeFast() {
	if r.fast == nil {
		return
	}
	r.lowering.mu.Lock()
	r.lowering.closed = true
	r.lowering.mu.Unlock()
	r.lowering.done.Wait()
	r.fast.Close()
}

// fastStreams is how many directions the kernel has.
func (r *Relay) fastStreams() int {
	if r.fast == nil {
		return 0
	}
	return r.fast.Streams()
}

// fits reports whether the kernel may relay what comes from a side: latched, plain, going somewhere, nobody on hold, and
// no digits in it that are ours to play or to hear.
func (st *stream) fits(side Side) bool {
	p := &st.path
	e, other := &p.ends[side], &p.ends[side.Other()]
	to := other.latch.destination()
	return p.connected && !st.session.closed && !e.latch.open && e.got.packets > 0 && !p.onHold() &&
		e.keypad == nil && e.listener == nil && e.crypt == nil && other.crypt == nil && e.agent == nil && other.agent == nil &&
		to.IsValid() && !to.Addr().IsUnspecified() && to.Addr().Is4() == e.latch.destination().Addr().Is4() &&
		st.sockets[side].rtp != nil && st.sockets[side.Other()].rtp != nil
}

// wantFastLocked enters a direction of which a packet has just been relayed.
func (st *stream) wantFastLocked(side Side, now moment) {
	f := &st.fast[side]
	if f.installed || f.wanted || now < f.retry || !st.fits(side) {
		return
	}
	f.wanted, f.tries = true, 0
	if !st.fast[side.Other()].wanted {
		st.session.relay.lower(st)
	}
}

// lower has a stream wait for its moment.
func (r *Relay) lower(st *stream) {
	l := &r.lowering
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.waiting = append(l.waiting, st)
	if !l.running {
		l.running = true
		l.done.Go(r.runLowering)
	}
}

// runLowering works while streams wait.
func (r *Relay) runLowering() {
	l := &r.lowering
	ticker := time.NewTicker(fastTick)
	defer ticker.Stop()
	var list []*stream
	for {
		<-ticker.C
		l.mu.Lock()
		n := min(len(l.waiting), fastAtOnce)
		list = append(list[:0], l.waiting[:n]...)
		l.waiting = slices.Delete(l.waiting, 0, n)
		if l.running = n > 0 && !l.closed; !l.running {
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		for _, st := range list {
			if st.tryFast() {
				r.lower(st)
			}
		}
	}
}

// tryFast installs what waits and may be; it reports whether something waits on.
func (st *stream) tryFast() (again bool) {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.relay.now()
	for side := range st.fast {
		f := &st.fast[side]
		if !f.wanted {
			continue
		}
		if f.wanted = st.waitsOn(Side(side), now); f.wanted {
			again = true
		}
	}
	return again
}

// waitsOn tries one direction; it reports whether it is to be tried again soon.
func (st *stream) waitsOn(side Side, now moment) bool {
	f := &st.fast[side]
	if f.installed || !st.fits(side) {
		return false
	}
	f.tries++
	if now-st.path.ends[side].got.last < calm && f.tries < fastTries {
		return true
	}
	empty := true
	if st.install(side, now, func() bool {
		q, ok := st.sockets[side].rtp.(interface{ waiting() bool })
		empty = !ok || !q.waiting()
		return empty
	}) {
		return false
	}
	switch {
	case !empty && f.tries >= 2*fastTries: // the sockets are behind: when the kernel has taken enough from them, they are not
		st.postpone(side, now, busyPause)
		return false
	case !empty || f.tries < 3: // not empty yet, or the way was not known: it is looked up by now
		return true
	}
	st.postpone(side, now, longestPause)
	return false
}

// postpone lets the sockets have a direction for a while, longer each time.
func (st *stream) postpone(side Side, now, longest moment) {
	f := &st.fast[side]
	f.pause = min(max(2*f.pause, firstPause), longest)
	f.retry = now + f.pause
}

// install gives a direction to the kernel, if at the last moment it is ready.
func (st *stream) install(side Side, now moment, ready func() bool) bool {
	e, other := &st.path.ends[side], side.Other()
	in, out := &st.sockets[side], &st.sockets[other]
	to := st.path.ends[other].latch.destination()
	flow := kernel.Flow{
		Peer: e.latch.destination(), Local: addrPort(in.rtp.local().Addr().Unmap(), in.port),
		Source: addrPort(out.rtp.local().Addr().Unmap(), out.port), Target: to,
		Ready: ready,
	}
	for pt, i := range e.index {
		if i == 0 {
			continue
		}
		f := e.formats[i-1]
		flow.Formats = append(flow.Formats, kernel.Format{
			In: uint8(pt), Out: f.out, Passes: f.passes, Event: f.event, Rate: f.rate,
		})
	}
	got := e.got.toKernel()
	if e.events {
		got.Flags |= kernel.Events
	}
	if !st.session.relay.fast.Install(&flow, &got) {
		return false
	}
	f := &st.fast[side]
	f.installed, f.to, f.counted, f.since = true, to, got.Packets, now
	return true
}

// raiseLocked gives all directions back to the sockets, before anything changes that they depend on. What the kernel
// has counted is in the figures afterwards.
func (st *stream) raiseLocked() {
	for side := range st.fast {
		st.raiseSideLocked(Side(side))
		f := &st.fast[side]
		f.retry, f.pause = 0, 0
	}
}

func (st *stream) raiseSideLocked(side Side) {
	f := &st.fast[side]
	if !f.installed {
		return
	}
	f.installed = false
	var got kernel.Reception
	if st.session.relay.fast.Remove(st.sockets[side].port, &got) {
		st.countFast(side, &got)
	}
}

// countFast takes over the kernel's figures.
func (st *stream) countFast(side Side, got *kernel.Reception) {
	f := &st.fast[side]
	st.session.relay.fastPackets.Add(got.Packets - f.counted)
	f.counted = got.Packets
	e := &st.path.ends[side]
	e.got.fromKernel(got)
	e.events = e.events || got.Flags&kernel.Events != 0
}

// readFastLocked brings the figures up to date.
func (st *stream) readFastLocked() {
	for side := range st.fast {
		if st.fast[side].installed {
			var got kernel.Reception
			st.session.relay.fast.Read(st.sockets[side].port, &got)
			st.countFast(Side(side), &got)
		}
	}
}

// beforeForwardLocked is asked of each packet that has come to a socket. One that the kernel would have had to relay
// came in the moment of its installation, in a form that the kernel leaves to the system (a fragment), or after a change
// of routes: the direction goes through the socket for a while.
func (st *stream) beforeForwardLocked(from origin, packet []byte, now moment) {
	if f := &st.fast[from.side]; f.installed && !from.control && st.path.ends[from.side].expects(from.addr, packet) {
		if now-f.since > longestPause {
			f.pause = 0
		}
		st.raiseSideLocked(from.side)
		st.postpone(from.side, now, longestPause)
	} else if from.control || isRTCP(packet) {
		st.readFastLocked() // who speaks for the same SSRC is believed
	}
}

// expects reports whether a packet is RTP of the side's peer.
func (e *end) expects(from netip.AddrPort, packet []byte) bool {
	return from == e.latch.destination() && wellFormed(packet) && !(e.mux && isRTCP(packet)) && e.index[packet[1]&0x7f] != 0
}

// afterForwardLocked is told of each packet; relayed says that it went on. A side whose packets go elsewhere than the
// kernel knows has its direction back.
func (st *stream) afterForwardLocked(from origin, relayed bool, now moment) {
	other := from.side.Other()
	if f := &st.fast[other]; f.installed && f.to != st.path.ends[from.side].latch.destination() {
		st.raiseSideLocked(other)
	}
	if relayed && !from.control {
		st.wantFastLocked(from.side, now)
	}
}

// toKernel gives what the kernel's program goes on from.
func (r *reception) toKernel() kernel.Reception {
	k := kernel.Reception{
		Packets: r.packets, Bytes: r.bytes, Last: int64(r.last), Seen: r.seen,
		SSRC: r.ssrc, Highest: r.highest, Unique: r.unique, Bad: r.bad,
		Transit: r.transit, Jitter: r.jitter, Rate: r.rate, Peak: r.peak,
		Gap: int64(r.gap), Since: int64(r.since),
		LostBefore: r.lostBefore, Reordered: r.reordered, Duplicates: r.duplicates, Held: r.held,
		BytesBefore: r.bytesBefore, Base: r.base, Bursts: r.bursts, Burst: r.burst, Passed: r.passed, SentBefore: r.sentBefore,
	}
	if r.started {
		k.Flags |= kernel.Started
	}
	if r.timed {
		k.Flags |= kernel.Timed
	}
	return k
}

// fromKernel is the way back.
func (r *reception) fromKernel(k *kernel.Reception) {
	r.packets, r.bytes, r.last, r.seen = k.Packets, k.Bytes, moment(k.Last), k.Seen
	r.ssrc, r.highest, r.unique, r.bad = k.SSRC, k.Highest, k.Unique, k.Bad
	r.transit, r.jitter, r.rate, r.peak = k.Transit, k.Jitter, k.Rate, k.Peak
	r.gap, r.since = moment(k.Gap), moment(k.Since)
	r.lostBefore, r.reordered, r.duplicates, r.held = k.LostBefore, k.Reordered, k.Duplicates, k.Held
	r.bytesBefore, r.base, r.bursts, r.burst, r.passed = k.BytesBefore, k.Base, k.Bursts, k.Burst, k.Passed
	r.sentBefore = k.SentBefore
	r.started, r.timed = k.Flags&kernel.Started != 0, k.Flags&kernel.Timed != 0
}

// checkFastPath is the check of the configuration.
func checkFastPath(text string) error {
	if text != "auto" && text != "off" {
		return fmt.Errorf("%q is no choice; use auto, or off for sockets only", text)
	}
	return nil
}
