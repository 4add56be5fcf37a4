package rtp

import (
	"net/netip"
	"time"
)

const (
	latchPackets = 4                      // consecutive packets of one SSRC that win a source the side
	latchWindow  = 5 * time.Second        // from the first packet on; then the latch is closed
	latchYield   = 200 * time.Millisecond // a source yields to a better one heard this recently (ten packets of speech)
)

// moment is a point in time as the packet path counts it: nanoseconds since the relay began. A monotonic reading is
// half the price of a time.Time and all that statistics need.
type moment = time.Duration

// latch decides which source of packets is the peer. It is part of path and guarded with it.
type latch struct {
	open      bool           // candidates may win the latch
	checked   bool           // locked is where ICE has found the peer: nobody wins anything
	locked    netip.AddrPort // where the peer's packets come from; zero until latched
	signalled netip.AddrPort // from the peer's description; zero before one is known
	closes    moment         // when it closes; 0 until the first packet after it was opened
	heard     moment         // when the locked source was last heard, kept while open
	tries     *[3]candidate  // sources seen while open; nil while closed
	former    netip.AddrPort // the peer whose place this one has taken: never believed
	via       netip.Addr     // where the peer's SIP comes from; zero if that says nothing
	host      netip.Addr     // while open: only sources of this address may win; zero: others too
}

// candidate is a source on its way to win the latch.
type candidate struct {
	addr  netip.AddrPort
	ssrc  uint32
	seq   uint16 // of its latest packet
	count uint8  // consecutive packets, up to latchPackets
	last  moment // when the latest one came
}

// signal sets the described address. A new one ends the old latch: the peer told us where it is. The window opens in
// any case, so that a peer behind NAT, which describes the same private address again, can move too.
func (l *latch) signal(addr netip.AddrPort) {
	if l.checked {
		return
	}
	if addr == l.former { // the same phone again
		l.former = netip.AddrPort{}
	}
	if addr.IsValid() && !addr.Addr().IsUnspecified() && addr != l.signalled {
		l.signalled, l.locked = addr, netip.AddrPort{}
	}
	l.reopen()
}

// reopen starts a new window. The source locked until now stays believed until another has won.
func (l *latch) reopen() {
	if l.checked {
		return
	}
	l.open, l.closes, l.tries, l.host = true, 0, new([3]candidate), netip.Addr{}
}

// reopenAt is reopen for the host that the peer is known to be at still, where that is valid; unless a window is open
// already, as the peer has said that it moves.
func (l *latch) reopenAt(host netip.Addr) {
	moves := l.open && !l.host.IsValid()
	if l.reopen(); !moves {
		l.host = host
	}
}

// close ends a window.
func (l *latch) close() { l.open, l.tries = false, nil }

// destination is where to send: the latched source, else the described address, else nowhere (the zero AddrPort).
func (l *latch) destination() netip.AddrPort {
	if l.locked.IsValid() || l.checked {
		return l.locked
	}
	return l.signalled
}

// accept reports whether a valid RTP packet is the peer's, and latches.
func (l *latch) accept(src netip.AddrPort, ssrc uint32, seq uint16, now moment) bool {
	if !l.open {
		return src == l.destination()
	}
	return l.contend(src, ssrc, seq, now)
}

// contend is accept while the latch is open.
func (l *latch) contend(src netip.AddrPort, ssrc uint32, seq uint16, now moment) bool {
	if src == l.former || src != l.locked && l.foreign(src) { // which use up nothing of the peer's time
		return false
	}
	if l.closes == 0 {
		l.closes = now + latchWindow
	}
	if now > l.closes {
		l.close()
		return src == l.destination()
	}
	if src == l.locked {
		l.heard = now
		return true
	}
	c := l.candidate(src, ssrc, seq, now)
	if c.count >= latchPackets && !l.outranked(c, now) {
		l.locked = src
		l.close()
		return true
	}
	return src == l.signalled && !l.locked.IsValid()
}

// candidate counts a packet for its source.
func (l *latch) candidate(src netip.AddrPort, ssrc uint32, seq uint16, now moment) *candidate {
	c := l.slot(src)
	if c.addr == src && c.ssrc == ssrc && c.seq+1 == seq {
		c.count = min(c.count+1, latchPackets)
	} else {
		c.count = 1
	}
	c.addr, c.ssrc, c.seq, c.last = src, ssrc, seq, now
	return c
}

// slot finds the place for a source: its own, a free one, or that of the worst and oldest.
func (l *latch) slot(src netip.AddrPort) *candidate {
	worst := &l.tries[0]
	for i := range l.tries {
		c := &l.tries[i]
		if c.addr == src {
			return c
		}
		if r, w := l.rank(c.addr), l.rank(worst.addr); r > w || r == w && c.last < worst.last {
			worst = c
		}
	}
	return worst
}

// outranked reports whether a better source than c is alive: the one locked until now, or a candidate closer to the
// described address.
func (l *latch) outranked(c *candidate, now moment) bool {
	if l.locked.IsValid() && l.heard > 0 && now-l.heard < latchYield {
		return true
	}
	for i := range l.tries {
		o := &l.tries[i]
		if o.count > 0 && now-o.last < latchYield && l.rank(o.addr) < l.rank(c.addr) {
			return true
		}
	}
	return false
}

// foreign reports whether a source cannot be the peer: it is near neither the described address nor where the peer's SIP
// comes from. A NAT has the same outside address for both (RFC 4787 REQ-2, RFC 6888 REQ-2). Else a stranger who sends
// to all ports would win whatever peer is silent, as a caller is who hears the ringback. Where the SIP comes by a proxy,
// or by the other family, nothing is known.
func (l *latch) foreign(src netip.AddrPort) bool {
	if l.host.IsValid() && src.Addr() != l.host {
		return true
	}
	return l.via.IsValid() && l.via.Is4() == src.Addr().Is4() && l.rank(src) > 1
}

// rank says how near a source is to the described address: 0 the same, 1 its neighbour or that of the peer's SIP, 2
// elsewhere, 3 no source.
func (l *latch) rank(src netip.AddrPort) int {
	switch {
	case !src.IsValid():
		return 3
	case src == l.signalled:
		return 0
	case neighbours(src.Addr(), l.signalled.Addr()), neighbours(src.Addr(), l.via):
		return 1
	}
	return 2
}

// neighbours reports whether two addresses share a /24 (IPv4) or a /64 (IPv6).
func neighbours(a, b netip.Addr) bool {
	if !a.IsValid() || !b.IsValid() || a.Is4() != b.Is4() {
		return false
	}
	bits := 64
	if a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	return err == nil && p.Contains(b)
}
