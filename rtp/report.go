package rtp

import (
	"crypto/rand"
	"encoding/base64"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"time"
)

// RTCP of our own goes to a side when the peer on the other one sends none: with a report on what comes from that side,
// and on what goes to it. The stream that goes there is ours in the peer's eyes, so the reports bear its SSRC; before
// there is one, an SSRC of our own. They begin late and end as soon as the real peer's RTCP comes.
const (
	reportInterval = 5 * time.Second // the least there may be (RFC 3550 §6.2); the bandwidth of two participants allows less
	reportPatience = 5 * time.Second // after Connect: the real peer's first report would come by then (§6.2, half of it)
	reportSilence  = 5 * reportInterval
	reportTick     = 200 * time.Millisecond // how exactly the reporter keeps time
)

// reporting is what is kept of the reports to one side. It is guarded by the session's mu.
type reporting struct {
	queued bool   // the reporter has it
	spoken bool   // a report went out, and nobody has said goodbye
	ssrc   uint32 // whose the last one was
	// What the last one said of the peer's stream (RFC 3550 A.3).
	about, expected, received uint32
	packets                   uint64
}

// identity is who we are where we speak for ourselves. It is guarded by the session's mu.
type identity struct {
	ssrc  uint32
	cname string // short-term persistent (RFC 7022 §4.2)
}

func newIdentity() identity {
	var random [12]byte
	_, _ = rand.Read(random[:]) // it never fails
	return identity{mathrand.Uint32(), base64.RawStdEncoding.EncodeToString(random[:])}
}

// reportLocked begins to report to both sides.
func (st *stream) reportLocked(now moment) {
	for _, to := range []Side{Trunk, Device} {
		if r := &st.reporting[to]; !r.queued {
			r.queued = true
			st.session.relay.reporter.add(errand{st, to, now + reportPatience + randomInterval()})
		}
	}
}

// randomInterval is the time to the next report (RFC 3550 §6.3.1).
func randomInterval() moment {
	return moment(float64(reportInterval) * (.5 + mathrand.Float64()) / 1.21828)
}

// speak reports to a side if that is needed. It says whether to come again.
func (st *stream) speak(to Side, now moment, buf []byte) (again bool) {
	st.session.mu.Lock()
	if st.session.closed || !st.path.connected {
		st.reporting[to].queued = false
		st.session.mu.Unlock()
		return false
	}
	st.readFastLocked()
	packet := st.compoundLocked(buf[:0], to, now)
	st.session.mu.Unlock()
	st.tellRTCP(to, packet)
	return true
}

// farewell says goodbye where we have reported.
func (st *stream) farewell() {
	buf := make([]byte, 0, maxPacket)
	for _, to := range []Side{Trunk, Device} {
		st.session.mu.Lock()
		st.readFastLocked()
		packet := buf
		if r := &st.reporting[to]; r.spoken && st.path.connected && !st.session.closed {
			packet = appendGoodbye(st.aboutLocked(buf, to, r.ssrc, st.session.relay.now()), r.ssrc)
			r.spoken = false
		}
		st.session.mu.Unlock()
		st.tellRTCP(to, packet)
	}
}

// tellRTCP sends a compound packet, if there is one.
func (st *stream) tellRTCP(to Side, packet []byte) {
	if len(packet) > 0 {
		st.emit(to, true, packet)
	}
}

// compoundLocked appends what to tell a side now to b, which is empty. It stays empty if that is nothing.
func (st *stream) compoundLocked(b []byte, to Side, now moment) []byte {
	r, other := &st.reporting[to], &st.path.ends[to.Other()]
	if st.identity.cname == "" {
		st.identity = newIdentity()
	}
	if other.far.spoke > 0 && now-other.far.spoke < reportSilence {
		if !r.spoken {
			return b
		}
		r.spoken = false
		if r.ssrc != st.identity.ssrc { // it is the real peer's, who goes on
			return b
		}
		return appendGoodbye(st.aboutLocked(b, to, r.ssrc, now), r.ssrc)
	}
	ssrc := st.identity.ssrc
	if other.got.started {
		ssrc = other.got.ssrc
	}
	b = st.aboutLocked(b, to, ssrc, now)
	if r.spoken && r.ssrc != ssrc { // the stream has a new source: the former one is over
		b = appendGoodbye(b, r.ssrc)
	}
	r.spoken, r.ssrc = true, ssrc
	return b
}

// aboutLocked appends a report to a side in the name of an SSRC, with its CNAME (RFC 3550 §6.1): a sender report while
// the other side's packets go there, else a receiver report.
func (st *stream) aboutLocked(b []byte, to Side, ssrc uint32, now moment) []byte {
	e, other := &st.path.ends[to], &st.path.ends[to.Other()]
	about, some := st.reporting[to].block(e, now)
	got := &other.got
	if ssrc != got.ssrc || !got.timed || !e.takes || now-got.last > 2*reportInterval {
		return appendCNAME(appendReport(b, ssrc, nil, about, some), ssrc, st.identity.cname)
	}
	ntp := ntpTime(st.session.relay.at(now))
	other.passes(ntp, now)
	packets := got.unique - got.sentBefore
	info := senderInfo{
		ntp: ntp, timestamp: arrival(now, got.rate) - got.transit, packets: packets,
		octets: uint32(max(0, int64(got.bytes-got.bytesBefore)-12*int64(packets))),
	}
	return appendCNAME(appendReport(b, ssrc, &info, about, some), ssrc, st.identity.cname)
}

// block reports on a peer's stream, if it has sent since the last report (RFC 3550 §6.4.1, A.3).
func (r *reporting) block(e *end, now moment) (b reportBlock, some bool) {
	got := &e.got
	if !got.started || got.packets == r.packets {
		return b, false
	}
	expected := got.highest - got.base + 1
	if r.about != got.ssrc || expected < r.expected {
		r.expected, r.received = 0, 0
	}
	b = reportBlock{ssrc: got.ssrc, highest: got.highest, jitter: got.jitter >> 4, lost: uint32(min(got.lostNow(), 1<<23-1))}
	if n, came := expected-r.expected, got.unique-r.received; n > came {
		b.fraction = uint8(min(255, uint64(n-came)<<8/uint64(n)))
	}
	if e.far.report != 0 {
		b.last, b.delay = e.far.report, uint32((now-e.far.reported)*65536/time.Second)
	}
	r.about, r.expected, r.received, r.packets = got.ssrc, expected, got.unique, got.packets
	return b, true
}

// ntpTime converts to seconds since 1900, times 2^32 (RFC 3550 §4).
func ntpTime(t time.Time) uint64 {
	const since1900 = 2208988800
	return uint64(t.Unix()+since1900)<<32 | uint64(t.Nanosecond())<<32/1e9
}

// errand is a report that is due.
type errand struct {
	stream *stream
	to     Side
	due    moment
}

// reporter sends the reports of all calls by one goroutine, which runs only while there are calls.
type reporter struct {
	now  func() moment
	stop chan struct{} // closed when the relay is
	once sync.Once     // closes it

	mu      sync.Mutex // guards the following
	errands []errand
	running bool
	done    sync.WaitGroup
}

func newReporter(now func() moment) *reporter {
	return &reporter{now: now, stop: make(chan struct{})}
}

func (c *reporter) add(e errand) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.errands = append(c.errands, e)
	if !c.running {
		c.running = true
		c.done.Go(c.run)
	}
}

// close returns when nothing is sent any more.
func (c *reporter) close() {
	c.once.Do(func() { close(c.stop) })
	c.done.Wait()
}

// run sends what is due until there is nothing left to do.
func (c *reporter) run() {
	ticker := time.NewTicker(reportTick)
	defer ticker.Stop()
	buf := make([]byte, 0, maxPacket) // SRTP lets a packet grow
	var due []errand
	for {
		now := c.now()
		var some bool
		if due, some = c.take(due[:0], now); !some {
			return
		}
		for i := range due {
			if due[i].stream.speak(due[i].to, now, buf) {
				due[i].due = now + randomInterval()
			} else {
				due[i].stream = nil
			}
		}
		c.put(due)
		clear(due)
		select {
		case <-ticker.C:
		case <-c.stop:
			return
		}
	}
}

// take collects what is due by now. It reports false when nobody is left: the reporter ends.
func (c *reporter) take(into []errand, now moment) (due []errand, some bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = len(c.errands) > 0
	c.errands = slices.DeleteFunc(c.errands, func(e errand) bool {
		if e.due <= now {
			into = append(into, e)
		}
		return e.due <= now
	})
	return into, c.running
}

// put takes errands back for their next time.
func (c *reporter) put(list []errand) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range list {
		if e.stream != nil {
			c.errands = append(c.errands, e)
		}
	}
}
