package rtp

import (
	"encoding/binary"
	"time"

	"github.com/pion/rtcp"
)

// senderReport remembers when a sender report passed, so that the other side's answer to it tells the round trip.
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
func (p *path) forwardRTCP(from origin, packet []byte) ([]byte, target) {
	e := &p.ends[from.side]
	if !isRTCP(packet) || !compound(packet) {
		e.got.invalid++
		return nil, target{}
	}
	if !e.believeRTCP(from, binary.BigEndian.Uint32(packet[4:])) {
		e.got.dropped++
		return nil, target{}
	}
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

// parseReports reads RTCP. A fault in the parser costs a report, not the relay.
func parseReports(packet []byte) (list []rtcp.Packet) {
	defer func() {
		if recover() != nil {
			list = nil
		}
	}()
	list, err := rtcp.Unmarshal(packet)
	if err != nil {
		return nil
	}
	return list
}

// readReports takes what reports say: when sender reports pass, what the far end lost, and the round trip.
func (p *path) readReports(side Side, list []rtcp.Packet, now moment) {
	e := &p.ends[side]
	for _, item := range list {
		switch r := item.(type) {
		case *rtcp.SenderReport:
			e.reports[e.report%uint8(len(e.reports))] = senderReport{uint32(r.NTPTime >> 16), now}
			e.report++
			p.readBlocks(side, r.Reports, now)
		case *rtcp.ReceiverReport:
			p.readBlocks(side, r.Reports, now)
		}
	}
}

// readBlocks takes the report about the other side's stream, as relayed to this peer.
func (p *path) readBlocks(side Side, blocks []rtcp.ReceptionReport, now moment) {
	e, other := &p.ends[side], &p.ends[side.Other()]
	for _, b := range blocks {
		if !other.got.started || b.SSRC != other.got.ssrc {
			continue
		}
		e.got.farLost, e.got.farFraction = b.TotalLost, b.FractionLost
		for _, sr := range other.reports {
			if sr.id == 0 || sr.id != b.LastSenderReport {
				continue
			}
			held := time.Duration(b.Delay) * time.Second / 65536
			if rtt := now - sr.passed - held; rtt >= 0 {
				e.got.rtt = rtt
			}
		}
	}
}
