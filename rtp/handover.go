package rtp

import (
	"math/rand/v2"
	"net/netip"

	"reveille/rtp/sdp"
)

// Handover takes the device out of a connected session, so that another one can be offered its place: an Offer is the
// next step, SetAnswer and Connect end it. Until then nothing is relayed, and the trunk may hear the ringback. undo, in
// place of Connect, puts the session back to what it was. Packets of the former device, which sends until it hears that
// it is out, count no more.
func (s *Session) Handover() (undo func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hushLocked()
	e := &s.exchanges[Device]
	before, streams := *e, s.streams()
	was := make([]end, len(streams))
	for i, st := range streams {
		st.raiseLocked()
		was[i] = st.path.ends[Device]
		st.path.connected, st.path.ends[Device] = false, fresh(was[i])
	}
	s.stopWatchLocked()
	back := func() {}
	if s.remote != nil {
		back = s.remote.handover()
	}
	s.setAsideLocked(&was[0])
	*e = exchange{writer: sdp.Writer{ID: rand.Uint64() >> 2}, security: before.security, secret: before.secret}
	s.remapLocked()
	return func() {
		s.silence()
		s.mu.Lock()
		s.exchanges[Device] = before
		g := s.aside
		s.takeBackLocked(&was[0])
		for i, st := range streams {
			got := st.path.ends[Device].got
			st.path.ends[Device] = was[i]
			st.path.ends[Device].got = got
		}
		back()
		s.remapLocked()
		if g != nil && g.timer != nil && !s.closed {
			g.timer.Reset(consentTime) // it has not looked meanwhile
		}
		s.mu.Unlock()
		s.Connect()
	}
}

// setAsideLocked has the agent of a device that is taken out go on with that: with its ICE, which would have failed
// otherwise when it gets the call back, and with its handshake.
func (s *Session) setAsideLocked(was *end) {
	s.aside, _ = was.agent.(*guard)
	was.keptLocked(was)
}

// takeBackLocked ends that: was is about to be the side's end again.
func (s *Session) takeBackLocked(was *end) {
	s.aside = nil
	was.keptLocked(nil)
}

// dismissLocked ends it where another device has the call. The former one hears so by SIP.
func (s *Session) dismissLocked() {
	g := s.aside
	if s.aside = nil; g == nil {
		return
	}
	g.cancel()
	if g.away.rtcp != nil {
		g.away.rtcp.agent.cancel()
	}
	g.away.keptLocked(nil)
	if g.timer != nil {
		g.timer.Stop()
	}
}

// keptLocked tells the agents of an end where that is; nil: in the path.
func (e *end) keptLocked(at *end) {
	if g, ok := e.agent.(*guard); ok {
		g.away = at
	}
	if e.rtcp != nil {
		e.rtcp.agent.away = at
	}
}

// asideLocked takes what is for a device that is taken out: checks with its password, and its DTLS. What begins another
// handshake without ICE may be of the one that takes its place.
func (g *guard) asideLocked(packet []byte, from netip.AddrPort) bool {
	switch {
	case len(packet) == 0 || g.stream.session.closed:
		return false
	case packet[0] < stunBelow:
		return g.checkLocked(packet, from)
	case packet[0] < dtlsFrom || packet[0] >= dtlsBelow:
		return false
	}
	return (g.ice != nil || from == g.peerLocked() || g.shaking(from) != nil) && g.shakeLocked(packet, from)
}

// fresh is an end of which nothing is known but what has been counted, and whose former peer is out.
func fresh(was end) end {
	return end{got: was.got, silenceTold: was.silenceTold, latch: latch{former: was.latch.destination()}}
}
