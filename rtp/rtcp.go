package rtp

import (
	"encoding/binary"
)

// senderReport remembers when a report that asks for an answer passed, so that the other side's answer to it tells the
// round trip: a sender report, or the reference time of one that does not send (RFC 3611 §4.4).
type senderReport struct {
	id     uint32 // middle 32 bits of its NTP timestamp, which the answer repeats
	passed moment
}

// isRTCP tells RTCP from RTP on one port: packet types 192-223 (RFC 5761 §4).
func isRTCP(packet []byte) bool {
	return len(packet) >= 8 && packet[0]>>6 == 2 && packet[1] >= 192 && packet[1] <= 223
}

// compound reports whether the packets of a datagram fill it exactly (RFC 3550 A.2).
func compound(packet []byte) bool {
	for len(packet) > 0 {
		if len(packet) < 4 || packet[0]>>6 != 2 {
			return false
		}
		n := 4 * (int(binary.BigEndian.Uint16(packet[2:])) + 1)
		if n > len(packet) {
			return false
		}
		packet = packet[n:]
	}
	return true
}

// forwardRTCP is forward for RTCP. It is passed on while on hold too (RFC 3264 §5.1).
func (p *path) forwardRTCP(from origin, packet []byte, now moment) ([]byte, target) {
	e := &p.ends[from.side]
	if !isRTCP(packet) || !compound(packet) {
		e.got.invalid++
		return nil, target{}
	}
	if !e.believeRTCP(from, binary.BigEndian.Uint32(packet[4:])) && (e.agent == nil || !e.agent.believes(from.addr, now)) {
		e.got.dropped++
		return nil, target{}
	}
	e.far.spoke = now
	other := &p.ends[from.side.Other()]
	to := target{addr: other.control.destination(), control: true}
	if other.mux {
		to = target{addr: other.latch.destination()}
	}
	if !p.connected || !to.addr.IsValid() || to.addr.Addr().IsUnspecified() {
		return nil, target{}
	}
	return packet, to
}

// believeRTCP reports whether RTCP is the peer's. On the RTP port it must come from the source of its RTP. On the RTCP
// port it may come from the described address, and latches onto the host that RTP has latched onto, if it speaks for
// the same SSRC.
func (e *end) believeRTCP(from origin, ssrc uint32) bool {
	if !from.control {
		return from.addr == e.latch.destination()
	}
	c := &e.control
	if from.addr == c.destination() {
		return true
	}
	if c.locked.IsValid() || !e.latch.locked.IsValid() {
		return false
	}
	if from.addr.Addr() != e.latch.locked.Addr() || e.got.started && ssrc != e.got.ssrc {
		return false
	}
	c.locked = from.addr
	return true
}
