package rtp

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"reveille/rtp/sdp"
)

// First bytes of datagrams beside RTP (RFC 7983 §7), and types of DTLS records (RFC 5246 §6.2.1).
const (
	stunBelow = 4
	dtlsFrom  = 20
	dtlsBelow = 64

	recordChange    = 20
	recordHandshake = 22
)

// Of DTLS without ICE, where anyone may knock: handshakes at a time, one place of which is kept for the described
// address; how long one that has not proven its address keeps its place against another; and how many are begun within
// shakeTime. Each costs two signatures at most, of a tenth of a millisecond.
const (
	maxShakes   = 4
	shakeYield  = time.Second
	maxBegun    = 32
	helloLength = 13 + 12 + 34 // of the shortest ClientHello: record, message, version and random
)

// guard keeps a side with DTLS-SRTP: it shakes hands with the peer, and, with ICE, knows where the peer is. It is
// guarded by the session's mu; handshakes have goroutines of their own, which end with them.
type guard struct {
	stream  *stream
	side    Side
	away    *end      // that it keeps while Handover has taken it out; nil: the side's present one
	control bool      // it keeps the RTCP port, where RTCP has one: the second association of the same certificates
	active  bool      // we send the ClientHello
	theirs  *sdp.DTLS // whom we shake hands with
	id      string    // our a=tls-id

	ice    *lite // nil: the peer has no ICE
	former *lite // before an ICE restart, until the new one has a peer

	addr    netip.AddrPort // the peer's, as described
	wanted  bool           // there are no keys yet, or the peer may bring others
	shakes  []*shake
	window  moment // when begun was last zero
	begun   int
	done    *parting // of the handshake that has given the keys
	repeats int      // times that its last flight went out again
	fault   error    // of the last handshake that failed
	lost    bool     // the peer's checks have ended

	ctx    context.Context // of its handshakes
	cancel context.CancelFunc
	timer  *time.Timer // looks for the peer's consent
}

// guardLocked has a side kept by its agent, as the descriptions of both ends say. What they have not changed goes on as
// it is (RFC 8842 §3.1): a new certificate, a=tls-id or role is another association, whose keys take the place of the
// present ones when they are there; new credentials of ICE alone are another way for it.
func (s *Session) guardLocked(side Side) {
	e, end := &s.exchanges[side], &s.audio.path.ends[side]
	ours, theirs := e.ours, e.remote
	active := e.begins()
	g, _ := end.agent.(*guard)
	if g == nil {
		g = &guard{stream: s.audio, side: side}
		end.agent = g
	}
	if end.crypt == nil {
		end.crypt = &crypt{} // without keys: nothing passes
	}
	other := theirs.DTLS.ID != "" && g.id != ours.DTLS.ID
	if g.theirs == nil || !g.theirs.Same(theirs.DTLS) || g.active != active || other {
		g.renewLocked(theirs.DTLS, active, ours.DTLS.ID)
	}
	g.checkedLocked(ours.ICE, theirs)
	if g.ice == nil && g.addr != theirs.Addr { // it may have moved, and its association with it, or not
		g.addr, g.wanted = theirs.Addr, g.wanted || !g.active
	}
	g.beginActiveLocked()
	if e.early.hello != nil {
		g.shakeLocked(e.early.hello, e.early.from)
		e.early = knock{}
	}
	s.secondLocked(side, active)
}

// secondLocked has the RTCP port of a side kept, where RTCP has one.
func (s *Session) secondLocked(side Side, active bool) {
	e, end := &s.exchanges[side], &s.audio.path.ends[side]
	if e.ours.Mux && e.remote.Mux || e.remote.Checked() {
		if end.rtcp != nil {
			end.rtcp.agent.closeLocked()
		}
		end.rtcp = nil
		return
	}
	if end.rtcp == nil {
		end.rtcp = &second{crypt: &crypt{}, agent: &guard{stream: s.audio, side: side, control: true}}
	}
	g, theirs := end.rtcp.agent, e.remote.DTLS
	other := theirs.ID != "" && g.id != e.ours.DTLS.ID
	if g.theirs == nil || !g.theirs.Same(theirs) || g.active != active || other {
		g.renewLocked(theirs, active, e.ours.DTLS.ID)
	}
	if g.addr != e.remote.RTCP {
		g.addr, g.wanted = e.remote.RTCP, g.wanted || !active
	}
	g.beginActiveLocked()
}

// unguardLocked ends DTLS on a side that has agreed to something else.
func (s *Session) unguardLocked(side Side) {
	end := &s.audio.path.ends[side]
	g, ok := end.agent.(*guard)
	if !ok {
		return
	}
	g.closeLocked()
	if end.rtcp != nil {
		end.rtcp.agent.closeLocked()
	}
	end.agent, end.crypt, end.rtcp = nil, nil, nil
	if end.latch.checked {
		end.latch.checked = false
		end.latch.signal(s.exchanges[side].remote.Addr)
	}
}

// renewLocked begins another association.
func (g *guard) renewLocked(theirs *sdp.DTLS, active bool, id string) {
	if g.cancel != nil {
		g.cancel()
	}
	g.ctx, g.cancel = context.WithCancel(g.stream.session.shakesLocked())
	g.theirs, g.active, g.id = theirs, active, id
	g.wanted, g.shakes, g.done, g.fault = true, nil, nil, nil
}

// checkedLocked takes what the peer says of ICE.
func (g *guard) checkedLocked(ours *sdp.ICE, theirs *sdp.Description) {
	l := &g.endLocked().latch
	if ours == nil || !theirs.Checked() {
		g.ice, g.former = nil, nil
		if l.checked {
			l.checked = false
			l.signal(theirs.Addr)
		}
		return
	}
	if g.ice != nil && g.ice.ours == *ours && g.ice.theirs == *theirs.ICE {
		return
	}
	if g.ice == nil {
		*l = latch{checked: true}
	}
	g.former = g.ice
	g.ice = newLite(*ours, *theirs.ICE)
	if g.timer == nil {
		g.timer = time.AfterFunc(consentTime, g.consent)
	} else if g.former == nil { // it has done without ICE
		g.lost = false
		g.timer.Reset(consentTime)
	}
}

// shakesLocked is the life of the session's handshakes.
func (s *Session) shakesLocked() context.Context {
	if s.shakes == nil {
		s.shakes, s.stopShakes = context.WithCancel(context.Background())
	}
	return s.shakes
}

// partLocked ends the handshakes and associations of a session that is over.
func (s *Session) partLocked() {
	if s.stopShakes != nil {
		s.stopShakes()
	}
	for side := range s.audio.path.ends {
		if g, ok := s.audio.path.ends[side].agent.(*guard); ok {
			g.closeLocked()
		}
		if second := s.audio.path.ends[side].rtcp; second != nil {
			second.agent.closeLocked()
		}
	}
	if s.aside != nil {
		s.aside.closeLocked()
	}
}

// closeLocked ends its handshakes. It says farewell where there was one.
func (g *guard) closeLocked() {
	g.cancel()
	if g.timer != nil {
		g.timer.Stop()
	}
	g.farewellLocked()
	g.wanted, g.shakes, g.done = false, nil, nil
}

// farewellLocked ends the association, where there is one.
func (g *guard) farewellLocked() {
	if g.done != nil {
		g.sendLocked(g.done.farewell, g.peerLocked())
	}
}

// endLocked is the end that it keeps.
func (g *guard) endLocked() *end {
	if g.away != nil {
		return g.away
	}
	return &g.stream.path.ends[g.side]
}

// peerLocked is where the peer is; zero if that is not known.
func (g *guard) peerLocked() netip.AddrPort {
	end := g.endLocked()
	if g.control {
		return end.control.destination()
	}
	return end.latch.destination()
}

// keepsLocked reports whether the port is still its own to keep.
func (g *guard) keepsLocked() bool {
	end := g.endLocked()
	return !g.stream.session.closed && end.keeper(g.control) == agent(g)
}

// rankLocked says how near a source is to the peer as known: 0 the same address, 1 its neighbour or host, 2 elsewhere.
func (g *guard) rankLocked(from netip.AddrPort) int {
	end := g.endLocked()
	if !g.control {
		return end.latch.rank(from)
	}
	switch {
	case from == end.control.destination():
		return 0
	case from.Addr() == end.latch.destination().Addr():
		return 1
	}
	return 2
}

// sendLocked sends a packet of the agent's.
func (g *guard) sendLocked(packet []byte, to netip.AddrPort) {
	if by := g.stream.sockets[g.side].outlet(g.control); by != nil && packet != nil && to.IsValid() && !to.Addr().IsUnspecified() {
		by.send(packet, to)
	}
}

// receive takes what comes besides RTP.
func (g *guard) receive(packet []byte, from netip.AddrPort) {
	s := g.stream.session
	s.mu.Lock()
	defer s.mu.Unlock()
	end := g.endLocked()
	if !g.keepsLocked() {
		return
	}
	known := false
	switch {
	case len(packet) >= maxPacket: // cut off
	case packet[0] < stunBelow:
		known = g.checkLocked(packet, from)
	case packet[0] >= dtlsFrom && packet[0] < dtlsBelow:
		known = g.shakeLocked(packet, from)
	}
	if !known {
		end.got.invalid++
	}
}

// checkLocked answers a check of the peer's, and follows it where it goes.
func (g *guard) checkLocked(packet []byte, from netip.AddrPort) bool {
	if g.ice == nil {
		return false
	}
	now := g.stream.session.relay.now()
	reply := g.ice.answer(packet, from, now)
	if reply == nil && g.former != nil {
		reply = g.former.answer(packet, from, now)
	}
	if reply == nil {
		return false
	}
	g.sendLocked(reply, from)
	if g.ice.selected.IsValid() {
		g.former = nil
	}
	g.followLocked()
	return true
}

// believes reports whether a source is one of the peer's by its checks: browsers send by any way that has answered, long
// before they nominate it (RFC 8445 §12.1). The session's mu is held.
func (g *guard) believes(from netip.AddrPort, now moment) bool {
	return g.ice != nil && (g.ice.valid(from, now) || g.former != nil && g.former.valid(from, now))
}

// followLocked has the side's packets go to the peer that ICE has found.
func (g *guard) followLocked() {
	i := g.ice
	if g.former != nil {
		i = g.former
	}
	l := &g.endLocked().latch
	if !i.selected.IsValid() || l.locked == i.selected {
		return
	}
	l.locked, l.open, g.lost = i.selected, false, false
	g.beginActiveLocked()
}

// consent ends sending to a peer whose checks have ended (RFC 7675 §5.1).
func (g *guard) consent() {
	s := g.stream.session
	s.mu.Lock()
	defer s.mu.Unlock()
	end := g.endLocked()
	if s.closed || g.ice == nil {
		return
	}
	if g.away != nil { // it may be put back
		g.timer.Reset(consentTime)
		return
	}
	if !g.keepsLocked() {
		return
	}
	now, i := s.relay.now(), g.ice
	if g.former != nil {
		i = g.former
	}
	next := consentTime
	switch {
	case i.consents(now):
		next = i.heard + consentTime - now
	case !g.lost:
		g.lost = true
		cause := fmt.Sprintf("no ICE check of the %v's for %v: it is gone, or its way to us is", g.side, consentTime)
		if !i.selected.IsValid() {
			cause = fmt.Sprintf("no ICE check of the %v's has come: a firewall stops UDP, or our external address is not the one in our SDP", g.side)
		}
		end.latch.locked, i.selected, i.nominated = netip.AddrPort{}, netip.AddrPort{}, false
		s.log.Warn("nothing is sent to a side any more", "side", g.side.String(), "cause", cause)
		s.tell(Event{Kind: NoMedia, Side: g.side, At: s.relay.at(now), Cause: cause})
	}
	g.timer.Reset(next)
}

// cause says why a side has no keys; "" if it has some.
func (g *guard) cause() string {
	switch {
	case g.done != nil:
		return ""
	case g.fault != nil:
		return fmt.Sprintf("the DTLS handshake with the %v failed: %v", g.side, g.fault)
	case g.ice != nil && !g.ice.selected.IsValid():
		return fmt.Sprintf("no ICE check of the %v's has come: a firewall stops UDP, or our external address is not the one in our SDP", g.side)
	case len(g.shakes) > 0:
		return fmt.Sprintf("the DTLS handshake with the %v has not come to its end", g.side)
	}
	return fmt.Sprintf("the %v has not begun its DTLS handshake", g.side)
}
