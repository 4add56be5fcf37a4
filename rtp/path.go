package rtp

import (
	"encoding/binary"
	"net/netip"

	pion "github.com/pion/rtp"
)

// Side is one of the two ends of a session.
type Side uint8

// The sides.
const (
	Trunk Side = iota
	Device
)

// Other is the opposite side.
func (s Side) Other() Side { return s ^ 1 }

// String is "trunk" or "device".
func (s Side) String() string {
	if s == Trunk {
		return "trunk"
	}
	return "device"
}

// origin says where a packet came from.
type origin struct {
	side    Side
	control bool // it came to the RTCP port
	addr    netip.AddrPort
}

// target says where a packet goes: to addr of the other side, from that side's RTCP socket if control, else from its
// RTP socket. The zero target means nowhere.
type target struct {
	addr    netip.AddrPort
	control bool
}

// format is an agreed payload type as it comes from one side.
type format struct {
	out    uint8  // number that the other side wants it under
	passes bool   // the other side has agreed to it too
	event  bool   // telephone-event
	rate   uint32 // RTP clock, Hz
}

// end is a side as the packet path sees it. What each packet touches stands together and first, here as in latch and
// reception: with hundreds of calls their memory is not in the processor's cache, and that is most of the cost.
type end struct {
	takes     bool      // the peer wants to receive RTP: it is not on hold
	mux       bool      // RTP and RTCP share the RTP port (RFC 5761)
	crypt     *crypt    // nil: plain RTP
	keypad    *keypad   // digits to take the place of what comes from this side; nil: none play
	listener  *listener // hears this side's events, which the other cannot take; nil: it can, or there are none
	agent     agent     // nil: neither ICE nor DTLS
	latch     latch
	got       reception
	formats   []format // index[payload type]-1 is the place here; 0 is no agreed payload type
	index     [128]uint8
	sends     bool // the peer has said that it will send
	described bool // the peer's description is known
	events    bool // a telephone-event has come

	far         far
	codec       string // the speech codec that the peer is to use; "" if none is agreed
	control     control
	rtcp        *second         // DTLS of the RTCP port; nil: none
	reports     [4]senderReport // the latest that came from this side
	report      uint8           // place of the next one
	silenceTold bool            // NoMedia was told
}

// control is where a side's RTCP comes from and goes to, on the RTCP port.
type control struct {
	signalled netip.AddrPort // from the peer's description; zero if it has none
	locked    netip.AddrPort // follows the RTP latch; zero until then
}

// second is the association of a side's RTCP port, where RTCP has one of its own (RFC 5764 §4.1).
type second struct {
	crypt *crypt // never nil
	agent *guard
}

// destination is where to send RTCP; the zero AddrPort is nowhere.
func (c *control) destination() netip.AddrPort {
	if c.locked.IsValid() {
		return c.locked
	}
	return c.signalled
}

// path is all that the packets of one session need to know. It does no input or output and looks at no clock.
type path struct {
	connected bool // packets are passed on
	news      bool // an end has its first packet, not yet told
	ends      [2]end
}

// onHold reports whether a side has said that it will not send, or not receive.
func (p *path) onHold() bool {
	for i := range p.ends {
		if e := &p.ends[i]; e.described && !(e.takes && e.sends) {
			return true
		}
	}
	return false
}

// header is what is kept of an RTP header.
type header struct {
	ssrc, timestamp uint32
	seq             uint16
}

// forward takes a packet that came from one side and says what goes where on the other. The packet is passed on as it
// is, its payload type number rewritten in place if the sides use different ones; everything is counted. On a side with
// SRTP it is decrypted before anything of it is believed, and encrypted last. It does not allocate.
func (p *path) forward(from origin, packet []byte, now moment) ([]byte, target) {
	e := &p.ends[from.side]
	if c := e.cipher(from.control); c != nil {
		var ok bool
		if packet, ok = p.decrypt(e, c, packet, now); !ok {
			return nil, target{}
		}
	}
	out, to := p.pass(from, packet, now)
	if c := p.ends[from.side.Other()].cipher(to.control); out != nil && c != nil {
		if isRTCP(out) {
			p.readReports(from.side, parseReports(out), now)
		}
		out = c.seal(out)
	}
	return out, to
}

// cipher is the side's SRTP for what goes by its RTP or its RTCP port; nil: plain.
func (e *end) cipher(control bool) *crypt {
	if control && e.rtcp != nil {
		return e.rtcp.crypt
	}
	return e.crypt
}

// decrypt opens a packet of SRTP. A stranger's opens nothing, and so never comes to be believed.
func (p *path) decrypt(e *end, c *crypt, packet []byte, now moment) ([]byte, bool) {
	if !mayBeSecret(packet) || !isRTCP(packet) && e.index[packet[1]&0x7f] == 0 {
		e.got.invalid++
		return nil, false
	}
	packet, err := c.open(packet, now)
	if err != nil {
		e.got.dropped++
	}
	return packet, err == nil
}

// pass is forward for plain RTP.
func (p *path) pass(from origin, packet []byte, now moment) ([]byte, target) {
	e := &p.ends[from.side]
	if from.control || e.mux && isRTCP(packet) {
		return p.forwardRTCP(from, packet, now)
	}
	if !wellFormed(packet) {
		e.got.invalid++
		return nil, target{}
	}
	i := e.index[packet[1]&0x7f]
	if i == 0 {
		e.got.invalid++
		e.got.foreign = packet[1] | 0x80
		return nil, target{}
	}
	h, err := parse(packet)
	if err != nil {
		e.got.invalid++
		return nil, target{}
	}
	if !p.believe(e, from.addr, h, now) {
		e.got.dropped++
		return nil, target{}
	}
	f := &e.formats[i-1]
	e.got.update(h, f, len(packet), now)
	if e.got.packets == 1 {
		p.news = true
	}
	other := &p.ends[from.side.Other()]
	to := other.latch.destination()
	if f.event {
		e.events = true
		if e.listener != nil && p.connected && !f.passes {
			e.listener.take(packet, h, f.rate, now)
			return nil, target{}
		}
	}
	if !p.connected || !f.passes || !other.takes || !to.IsValid() {
		e.got.held++
		return nil, target{}
	}
	packet[1] = packet[1]&0x80 | f.out
	if e.keypad != nil && !f.event {
		packet = e.dial(packet, h, f.rate, now)
	}
	return packet, target{addr: to}
}

// believe asks the latch. A newly latched RTP source ends the belief in the RTCP source of the former.
func (p *path) believe(e *end, src netip.AddrPort, h header, now moment) bool {
	before := e.latch.locked
	ok := e.latch.accept(src, h.ssrc, h.seq, now) || e.agent != nil && e.agent.believes(src, now)
	if e.latch.locked != before {
		e.control.locked = netip.AddrPort{}
	}
	return ok
}

// wellFormed reports whether a packet can be RTP: version 2, and as long as its own header says (RFC 3550 A.1). STUN,
// DTLS and most garbage end here: their two top bits differ (RFC 7983).
func wellFormed(packet []byte) bool {
	if len(packet) < 12 || packet[0]>>6 != 2 {
		return false
	}
	n := 12 + 4*int(packet[0]&0x0f)
	if packet[0]&0x10 != 0 { // header extension
		if len(packet) < n+4 {
			return false
		}
		n += 4 + 4*int(binary.BigEndian.Uint16(packet[n+2:]))
	}
	if packet[0]&0x20 != 0 { // padding: its length is in the last octet
		if len(packet) <= n || packet[len(packet)-1] == 0 {
			return false
		}
		n += int(packet[len(packet)-1])
	}
	return n <= len(packet)
}

// parse reads the fixed header. Contributing sources and extensions, whose lengths wellFormed has checked, are hidden
// from the parser, which would allocate for them.
func parse(packet []byte) (header, error) {
	first := packet[0]
	packet[0] = 2 << 6
	var h pion.Header
	_, err := h.Unmarshal(packet[:12])
	packet[0] = first
	return header{ssrc: h.SSRC, timestamp: h.Timestamp, seq: h.SequenceNumber}, err
}
