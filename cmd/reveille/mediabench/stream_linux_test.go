package mediabench

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// call is one call's two ends as the generator plays them, and where the relay listens for each.
type call struct {
	Device, Trunk     netip.AddrPort // the generator's own
	ToDevice, ToTrunk netip.AddrPort // the relay's, for the device and for the trunk
	Suite             string         // of the device's SRTP; "" for plain RTP
	DeviceKey         []byte         // what the device encrypts with: master key and salt
	RelayKey          []byte         // what the relay encrypts to the device with
}

// links by number: what the generator sends on, and what comes back on.
const (
	deviceLink = iota
	trunkLink
	wireOut
	wireIn
	linkCount
)

// route is how one stream leaves and how it must arrive.
type route struct {
	Out, In            int // links
	Src, Dst           netip.AddrPort
	ArrivesSrc, Arrive netip.AddrPort
	Suite              string
	Seal, Open         []byte // keys of what leaves and of what arrives; nil for plain RTP
}

// routes gives both directions of a call.
func (c call) routes() [2]route {
	return [2]route{
		{Out: deviceLink, In: trunkLink, Src: c.Device, Dst: c.ToDevice, ArrivesSrc: c.ToTrunk, Arrive: c.Trunk,
			Suite: c.Suite, Seal: c.DeviceKey},
		{Out: trunkLink, In: deviceLink, Src: c.Trunk, Dst: c.ToTrunk, ArrivesSrc: c.ToDevice, Arrive: c.Device,
			Suite: c.Suite, Open: c.RelayKey},
	}
}

const (
	payloadType  = 8 // PCMA
	payloadBytes = 160
	rtpHeader    = 12
	overhead     = 14 + 20 + 8 // Ethernet, IPv4, UDP
	maxTag       = 16
	remembered   = 128  // packets of a stream, 2.56 s: who comes later is lost
	ancient      = 2000 // so old can no packet be
)

// stream is one direction of a call.
type stream struct {
	route
	ssrc      uint32
	frame     []byte // what is sent; all but RTP's part stays
	first     uint16 // sequence number of packet 0
	timestamp uint32 // of packet 0
	next      uint32 // number of the packet to be sent
	over      bool   // nothing more is sent
	sealer    sealer // nil for plain RTP
	opener    opener
	sent      [remembered]sent // by number
}

// sent is what is remembered of a packet, at its number modulo remembered.
type sent struct {
	arrived bool
	at      int64 // in nanoseconds
}

// pattern is what payloads are cut from, so that each differs from its neighbours.
func pattern() []byte {
	p := make([]byte, 256+payloadBytes)
	state := uint32(2463534242)
	for i := range p {
		state ^= state << 13
		state ^= state >> 17
		state ^= state << 5
		p[i] = byte(state)
	}
	return p
}

// payload is that of a packet by number.
func (s *stream) payload(pattern []byte, number uint32) []byte {
	at := uint8(number*37 + s.ssrc*101)
	return pattern[at:][:payloadBytes]
}

// newStream prepares a stream; from and to are the links' Ethernet addresses.
func newStream(r route, ssrc uint32, from, to []byte) (*stream, error) {
	s := &stream{route: r, ssrc: ssrc, first: uint16(ssrc * 40503), timestamp: ssrc * 2654435761}
	s.frame = make([]byte, overhead+rtpHeader+payloadBytes, overhead+rtpHeader+payloadBytes+maxTag)
	f := s.frame
	copy(f, to)
	copy(f[6:], from)
	f[12], f[13] = 8, 0
	ip := f[14:]
	ip[0], ip[6], ip[8], ip[9] = 0x45, 0x40, 64, 17 // no options, don't fragment, TTL, UDP
	src, dst := r.Src.Addr().As4(), r.Dst.Addr().As4()
	copy(ip[12:], src[:])
	copy(ip[16:], dst[:])
	binary.BigEndian.PutUint16(ip[20:], r.Src.Port())
	binary.BigEndian.PutUint16(ip[22:], r.Dst.Port())
	for i := range s.sent {
		s.sent[i].arrived = true // nothing was sent: nothing may arrive
	}
	var err error
	if r.Seal != nil {
		s.sealer, err = newSealer(r.Suite, r.Seal)
	}
	if r.Open != nil && err == nil {
		s.opener, err = newOpener(r.Suite, r.Open)
	}
	return s, err
}

// build makes the next packet's frame. It is good until the next is built.
func (s *stream) build(pattern []byte) ([]byte, error) {
	f := s.frame[:overhead+rtpHeader+payloadBytes]
	rtp := f[overhead:]
	rtp[0], rtp[1] = 0x80, payloadType
	if s.next == 0 {
		rtp[1] |= 0x80
	}
	binary.BigEndian.PutUint16(rtp[2:], s.first+uint16(s.next))
	binary.BigEndian.PutUint32(rtp[4:], s.timestamp+s.next*payloadBytes)
	binary.BigEndian.PutUint32(rtp[8:], s.ssrc)
	copy(rtp[rtpHeader:], s.payload(pattern, s.next))
	if s.sealer != nil {
		sealed, err := s.sealer(rtp)
		if err != nil {
			return nil, err
		}
		f = f[:overhead+len(sealed)] // sealed in place
	}
	ip, udp := f[14:], f[34:]
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	ip[10], ip[11], udp[6], udp[7] = 0, 0, 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^checksum(0, ip[:20]))
	sum := ^udpSum(ip)
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
	return f, nil
}

// note remembers that the built packet leaves now.
func (s *stream) note(now int64) {
	s.sent[s.next%remembered] = sent{at: now}
	s.next++
}

// checksum is RFC 1071's, not inverted.
func checksum(start uint64, b []byte) uint16 {
	sum, carry := start, uint64(0)
	for len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b), carry)
		b = b[8:]
	}
	var rest [8]byte
	copy(rest[:], b)
	sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(rest[:]), carry)
	sum, carry = bits.Add64(sum, 0, carry)
	return fold(sum + carry)
}

// fold adds the 16-bit words of n.
func fold(n uint64) uint16 {
	n = n>>32 + n&0xffffffff
	n = n>>32 + n&0xffffffff
	n = n>>16 + n&0xffff
	n = n>>16 + n&0xffff
	return uint16(n)
}

// udpSum sums the UDP datagram of an IPv4 packet without options, with its pseudo header: 0xffff if its checksum is right.
func udpSum(ip []byte) uint16 {
	pseudo := uint64(fold(binary.BigEndian.Uint64(ip[12:]))) + 17 + uint64(len(ip)-20)
	return checksum(pseudo, ip[20:])
}

// fault is why a frame is not what was sent; "" if it is.
type fault string

// identify checks a frame down to UDP and finds its stream. A frame that is none of ours, such as ARP or a relay's own
// RTCP, gives no stream and no fault.
func identify(f []byte, link int, base uint32, streams []*stream) (s *stream, rtp []byte, why fault) {
	if len(f) < overhead+rtpHeader || f[12] != 8 || f[13] != 0 || f[14] != 0x45 || f[23] != 17 {
		return nil, nil, ""
	}
	ip := f[14:]
	length := int(binary.BigEndian.Uint16(ip[2:]))
	if length > len(ip) || length < 28+rtpHeader || int(binary.BigEndian.Uint16(ip[24:])) != length-20 {
		return nil, nil, "length"
	}
	ip = ip[:length]
	if binary.BigEndian.Uint16(ip[22:])&1 == 1 {
		return nil, nil, "" // RTCP: our RTP ports are even
	}
	if checksum(0, ip[:20]) != 0xffff || udpSum(ip) != 0xffff {
		return nil, nil, "checksum"
	}
	rtp = ip[28:]
	n := binary.BigEndian.Uint32(rtp[8:]) - base
	if int(n) >= len(streams) {
		if rtp[1] >= 192 && rtp[1] < 224 {
			return nil, nil, "" // RTCP on the port of RTP
		}
		return nil, nil, "ssrc"
	}
	s = streams[n]
	src, dst := netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:]))
	if link != s.In || dst != s.Arrive.Addr() || binary.BigEndian.Uint16(ip[22:]) != s.Arrive.Port() ||
		src != s.ArrivesSrc.Addr() || binary.BigEndian.Uint16(ip[20:]) != s.ArrivesSrc.Port() {
		return s, nil, "address"
	}
	return s, rtp, ""
}

// accept checks RTP and gives what is remembered of the packet; nil without a fault where it comes too late for that.
func (s *stream) accept(pattern, rtp []byte) (*sent, fault) {
	if s.opener != nil {
		plain, err := s.opener(rtp)
		if err != nil {
			return nil, "srtp"
		}
		rtp = plain
	}
	if len(rtp) != rtpHeader+payloadBytes || rtp[0] != 0x80 || rtp[1]&0x7f != payloadType {
		return nil, "header"
	}
	age := uint16(s.first + uint16(s.next) - binary.BigEndian.Uint16(rtp[2:]))
	if age == 0 || age > ancient || uint32(age) > s.next {
		return nil, "sequence"
	}
	number := s.next - uint32(age)
	if binary.BigEndian.Uint32(rtp[4:]) != s.timestamp+number*payloadBytes || rtp[1]>>7 != marker(number) {
		return nil, "timestamp"
	}
	if !bytes.Equal(rtp[rtpHeader:], s.payload(pattern, number)) {
		return nil, "payload"
	}
	if age > remembered {
		return nil, ""
	}
	return &s.sent[number%remembered], ""
}

func marker(number uint32) byte {
	if number == 0 {
		return 1
	}
	return 0
}
