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
	s.aside, _ = was[0].agent.(*guard)
	*e = exchange{writer: sdp.Writer{ID: rand.Uint64() >> 2}, security: before.security, secret: before.secret}
	s.remapLocked()
	return func() {
		s.silence()
		s.mu.Lock()
		s.exchanges[Device] = before
		for i, st := range streams {
			got := st.path.ends[Device].got
			st.path.ends[Device] = was[i]
			st.path.ends[Device].got = got
		}
		back()
		s.remapLocked()
		if g := s.aside; g != nil && g.timer != nil && !s.closed {
			g.timer.Reset(consentTime) // it has not looked meanwhile
		}
		s.mu.Unlock()
		s.Connect()
	}
}

// asideLocked answers a check of a device that Handover has taken out, and follows it nowhere: else its ICE would have
// failed when it gets the call back.
func (g *guard) asideLocked(packet []byte, from netip.AddrPort) bool {
	if g.ice == nil || len(packet) == 0 || packet[0] >= stunBelow {
		return false
	}
	reply := g.ice.answer(packet, from, g.stream.session.relay.now())
	g.sendLocked(reply, from)
	return reply != nil
}

// fresh is an end of which nothing is known but what has been counted, and whose former peer is out.
func fresh(was end) end {
	return end{got: was.got, silenceTold: was.silenceTold, latch: latch{former: was.latch.destination()}}
}
