package rtp

import (
	"errors"
	"net/netip"
	"slices"
)

// shakeLocked takes a DTLS record: to the handshake that it belongs to, or to begin one.
func (g *guard) shakeLocked(packet []byte, from netip.AddrPort) bool {
	now := g.stream.session.relay.now()
	if g.ice != nil && !g.ice.valid(from, now) && (g.former == nil || !g.former.valid(from, now)) {
		return false
	}
	if h := g.shaking(from); h != nil {
		h.replied = true
		h.take(packet)
		return true
	}
	if g.done != nil && !isHello(packet) {
		return g.repeatLocked(packet, from)
	}
	if g.active || !g.wanted || !isHello(packet) || !g.admitLocked(from, now) {
		return false
	}
	g.beginLocked(from, now).take(packet)
	return true
}

// shaking is the handshake with a source; with ICE there is one, whatever way its packets take.
func (g *guard) shaking(from netip.AddrPort) *shake {
	for _, h := range g.shakes {
		if h.peer == from || g.ice != nil {
			return h
		}
	}
	return nil
}

// isHello reports whether a datagram begins with a ClientHello in the clear.
func isHello(packet []byte) bool {
	return len(packet) >= helloLength && packet[0] == recordHandshake && packet[3] == 0 && packet[4] == 0 && packet[13] == 1
}

// repeatLocked sends our last flight again to a peer that has missed it: it repeats its own. Alerts change nothing, as
// they cannot be told from a stranger's any more: it is the signalling that ends calls.
func (g *guard) repeatLocked(packet []byte, from netip.AddrPort) bool {
	if from != g.peerLocked() {
		return false
	}
	if packet[0] == recordHandshake || packet[0] == recordChange {
		if g.repeats++; g.repeats <= shakeLast {
			g.sendLocked(g.done.last, from)
		}
	}
	return true
}

// admitLocked reports whether a source may begin a handshake. With ICE the password has come from it. Without, one whose
// address is not the described one may be the peer behind a NAT, or anyone: few at a time, and one that does not go on
// leaves its place to the next. A neighbour, or who is where the peer's SIP comes from, goes before strangers.
func (g *guard) admitLocked(from netip.AddrPort, now moment) bool {
	l := &g.endLocked().latch
	if now-g.window >= moment(shakeTime) {
		g.window, g.begun = now, 0
	}
	rank := g.rankLocked(from)
	switch {
	case from == l.former:
		return false
	case g.ice != nil:
		return g.begun < maxBegun
	case g.begun >= 2*maxBegun || rank > 1 && g.begun >= maxBegun: // strangers alone do not use it up
		return false
	case rank == 0:
		return true
	}
	others := 0
	for _, h := range g.shakes {
		if g.rankLocked(h.peer) > 0 {
			others++
		}
	}
	if others < maxShakes-1 {
		return true
	}
	i := slices.IndexFunc(g.shakes, func(h *shake) bool {
		theirs := g.rankLocked(h.peer)
		return theirs > rank || theirs == rank && !h.replied && now-h.begun >= moment(shakeYield)
	})
	if i >= 0 {
		_ = g.shakes[i].Close()
		g.shakes = slices.Delete(g.shakes, i, i+1)
	}
	return i >= 0
}

// beginActiveLocked sends the first ClientHello, if it is ours to send, once it is known where to.
func (g *guard) beginActiveLocked() {
	if !g.active || !g.wanted || len(g.shakes) > 0 || g.stream.sockets[g.side].outlet(g.control) == nil {
		return
	}
	to := g.peerLocked()
	if g.ice != nil {
		if !to.IsValid() {
			return
		}
		to = netip.AddrPort{}
	} else if !to.IsValid() || to.Addr().IsUnspecified() {
		return
	}
	g.beginLocked(to, g.stream.session.relay.now())
}

// beginLocked begins a handshake with a source.
func (g *guard) beginLocked(from netip.AddrPort, now moment) *shake {
	s := g.stream.session
	h := &shake{
		active: g.active, prints: g.theirs.Fingerprints, id: s.relay.badge, peer: from, cookie: g.ice == nil, begun: now,
		in: make(chan []byte, shakeQueue), abort: make(chan struct{}),
	}
	if g.ice != nil {
		h.peer = netip.AddrPort{}
	}
	h.send = func(packet []byte) {
		s.mu.Lock()
		defer s.mu.Unlock()
		to := h.peer
		if !to.IsValid() {
			to = g.peerLocked()
		}
		if !s.closed && slices.Contains(g.shakes, h) {
			g.sendLocked(packet, to)
		}
	}
	g.begun++
	g.shakes = append(g.shakes, h)
	ctx := g.ctx
	s.shaking.Go(func() {
		if err := h.run(ctx, func(k srtpKeys) { g.shaken(h, k) }); err != nil {
			g.failed(h, err)
			return
		}
		g.settled(h)
	})
	return h
}

// shaken puts the keys of a handshake into use: its peer has proven to be the one of the description.
func (g *guard) shaken(h *shake, k srtpKeys) {
	s := g.stream.session
	s.mu.Lock()
	defer s.mu.Unlock()
	end := g.endLocked()
	if !g.keepsLocked() || !slices.Contains(g.shakes, h) {
		return
	}
	for _, other := range g.shakes {
		if other != h {
			_ = other.Close()
		}
	}
	use := &end.crypt
	if g.control {
		use = &end.rtcp.crypt
	}
	was := *use
	if !was.keyed() {
		was = nil
	}
	now := s.relay.now()
	c, err := was.next(k.theirs, k.ours, now)
	if err != nil {
		s.log.Error("SRTP keys cannot be used", "side", g.side.String(), "err", err)
		return
	}
	c.out.sources = nil // another association begins its counters anew
	c.shaken = true
	*use = c
	g.shakes, g.wanted, g.fault, g.repeats = nil, false, nil, 0
	g.done = &parting{last: h.flight()}
	if g.control {
		end.control.locked = h.peer
		return
	}
	if g.ice == nil {
		end.latch.locked = h.peer
		end.latch.close()
	}
	s.tell(Event{Kind: Secured, Side: g.side, At: s.relay.at(now), Cause: c.name()})
}

// settled keeps the farewell of a handshake whose keys are in use.
func (g *guard) settled(h *shake) {
	s := g.stream.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.done != nil {
		g.done.farewell = h.goodbye()
	}
}

// failed forgets a handshake. What strangers fail at is nobody's concern.
func (g *guard) failed(h *shake, err error) {
	s := g.stream.session
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(g.shakes, h)
	if s.closed || i < 0 {
		return
	}
	g.shakes = slices.Delete(g.shakes, i, i+1)
	if !errors.Is(err, errFingerprint) && g.ice == nil && g.rankLocked(h.peer) > 0 {
		return
	}
	if g.fault == nil {
		s.log.Warn("a DTLS handshake failed", "side", g.side.String(), "err", err)
	}
	g.fault = err
}

// knock is the last ClientHello that came before its side's description: media overtakes the signalling, and who sent it
// would repeat it a second later only. It is taken up by the description, as if it had come then.
type knock struct {
	hello []byte // nil: none
	from  netip.AddrPort
}
