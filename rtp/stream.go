package rtp

import (
	"net/netip"

	"github.com/pion/rtcp"
)

// stream is what has packets of its own in a session: its audio, and its video. It is guarded by the session's mu.
type stream struct {
	session *Session
	path    path
	sockets [2]socket
	fast    [2]fast  // by the side that packets come from
	dialler *dialler // plays digits, and hears them; nil: there were none

	reporting [2]reporting // by the side that is told
	identity  identity
}

// socket is a side's port pair.
type socket struct {
	address   netip.Addr // as the peer knows it, in our SDP
	port      uint16     // of RTP, even; RTCP has the next
	rtp, rtcp outlet     // nil until opened
}

// described are the addresses of RTP and RTCP in our SDP.
func (s *socket) described() (rtp, rtcp netip.AddrPort) {
	return addrPort(s.address, s.port), addrPort(s.address, s.port+1)
}

// outlet picks the socket; nil if it is not open.
func (s *socket) outlet(control bool) outlet {
	if control {
		return s.rtcp
	}
	return s.rtp
}

// close closes what is open.
func (s *socket) close() {
	for _, o := range []outlet{s.rtp, s.rtcp} {
		if o != nil {
			o.close()
		}
	}
}

// agent takes what comes to a side's RTP port besides RTP and RTCP: STUN and DTLS, told by their first byte (RFC 7983 §7).
// It is called with nothing locked, and must not keep the packet.
type agent interface {
	receive(packet []byte, from netip.AddrPort)
	believes(from netip.AddrPort, now moment) bool // authentic media may come from there, besides the latched address
}

// keeper is the agent of a side's RTP or RTCP port; nil if it has none.
func (e *end) keeper(control bool) agent {
	switch {
	case !control:
		return e.agent
	case e.rtcp != nil:
		return e.rtcp.agent
	}
	return nil
}

// ear is the receiver of a stream's socket.
type ear struct {
	stream *stream
	from   origin
}

// family keeps the sockets of a call together.
func (e *ear) family() uint32 { return e.stream.session.number }

func (e *ear) receive(packet []byte, from netip.AddrPort) {
	at := e.from
	at.addr = from
	e.stream.take(at, packet)
}

// take relays one datagram, or hands it to the side's agent.
func (st *stream) take(from origin, packet []byte) {
	s := st.session
	if len(packet) == maxPacket {
		packet = packet[:0] // cut off: counts as invalid
	}
	now := s.relay.now()
	p := st.pass(from, packet, now)
	if p.agent != nil {
		p.agent.receive(packet, from.addr)
		return
	}
	if p.news && st == s.audio {
		s.tell(Event{Kind: FirstPacket, Side: from.side, At: s.relay.at(now)})
	}
	if p.packet == nil || p.by == nil {
		return
	}
	p.by.relay(p.packet, p.to)
	if p.plain && isRTCP(p.packet) {
		st.readReports(from.side, parseReports(p.packet), now)
	}
}

// readReports takes what a side reports by RTCP.
func (st *stream) readReports(side Side, list []rtcp.Packet, now moment) {
	st.session.mu.Lock()
	defer st.session.mu.Unlock() // as in pass
	st.path.readReports(side, list, now)
}

// passing is what becomes of a packet.
type passing struct {
	packet []byte // nil: it goes nowhere
	by     outlet
	to     netip.AddrPort
	plain  bool  // it goes without SRTP: forward has not read the reports in it
	news   bool  // its side has its first packet
	agent  agent // not nil: the packet is for it
}

// pass asks the path.
func (st *stream) pass(from origin, packet []byte, now moment) (p passing) {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock() // whatever becomes of it: the call goes on after a panic in here
	if g := s.aside; g != nil && g.stream == st && from.side == g.side && !from.control && g.asideLocked(packet, from.addr) {
		return p
	}
	if a := st.path.ends[from.side].keeper(from.control); a != nil && len(packet) > 0 && packet[0] < 64 {
		p.agent = a
		return p
	}
	if isHello(packet) && st == s.audio && !from.control {
		if e := &s.exchanges[from.side]; e.remote == nil {
			e.early = knock{append(e.early.hello[:0], packet...), from.addr}
		}
	}
	if s.relay.fast != nil {
		st.beforeForwardLocked(from, packet, now)
	}
	out, to := st.path.forward(from, packet, now)
	if s.relay.fast != nil {
		st.afterForwardLocked(from, out != nil, now)
	}
	other := from.side.Other()
	p = passing{packet: out, by: st.sockets[other].outlet(to.control), to: to.addr, news: st.path.news}
	p.plain = st.path.ends[other].crypt == nil
	st.path.news = false
	if l := st.path.ends[from.side].listener; l != nil && (l.count > 0 || l.busy) {
		st.heardLocked(from.side)
	}
	return p
}

// emit sends a packet of our own to a side's peer, encrypted if the side is; to its RTCP address if control. The packet
// needs capacity to grow. It reports false where the peer's address is not known.
func (st *stream) emit(side Side, control bool, packet []byte) bool {
	s := st.session
	s.mu.Lock()
	e := &st.path.ends[side]
	to := e.latch.destination()
	if control = control && !e.mux; control {
		to = e.control.destination()
	}
	by := st.sockets[side].outlet(control)
	if s.closed || by == nil || !to.IsValid() || to.Addr().IsUnspecified() {
		s.mu.Unlock()
		return false
	}
	if c := e.cipher(control); c != nil {
		packet = c.seal(packet)
	}
	s.mu.Unlock()
	if packet != nil {
		by.send(packet, to)
	}
	return packet != nil
}

// stats gives the stream's figures as they are now.
func (st *stream) stats() Stats {
	st.readFastLocked()
	at := st.session.relay.at
	return Stats{Trunk: st.path.stats(Trunk, at), Device: st.path.stats(Device, at)}
}
