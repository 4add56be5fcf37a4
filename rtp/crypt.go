package rtp

import (
	"encoding/binary"
	"errors"
	"time"

	"reveille/rtp/sdp"
)

// oldKey is how long packets made with a peer's former key are still taken after it has given another: those on their
// way, and those that it makes until it has our answer.
const oldKey = 2 * time.Second

// crypt encrypts a side's media. It is guarded by the session's mu.
type crypt struct {
	theirs, ours sdp.Crypto
	in, out      *keyed
	former       *keyed       // of the peer's key before; nil: there was none, or it counts no more
	until        moment       // when former ends
	known        []srtpSource // what former knew: a stream may keep its rollover counter, or begin anew
	scratch      []byte       // for a further try, as the one before may leave nothing of the packet
	dropped      uint64       // packets not authentic, or replayed
	shaken       bool         // the keys are from a DTLS handshake
}

// protectLocked has the packet path of a stream use the keys of a side's descriptions.
func (st *stream) protectLocked(side Side, remote, local *sdp.Stream) {
	s, end := st.session, &st.path.ends[side]
	if remote == nil || local == nil {
		return
	}
	if remote.DTLS != nil && local.DTLS != nil { // never of the video
		s.guardLocked(side)
		return
	}
	if st == s.audio {
		s.unguardLocked(side)
	}
	theirs, ours, ok := inUse(remote, local)
	if !ok {
		if remote.Crypto == nil || local.Crypto == nil { // plain RTP is agreed
			end.crypt = nil
		}
		return
	}
	c, err := end.crypt.next(theirs, ours, s.relay.now())
	if err != nil {
		s.log.Error("SRTP keys cannot be used", "side", side.String(), "err", err)
		return
	}
	end.crypt = c
}

// next is the crypt of other keys: what has not changed goes on as it is. c may be nil.
func (c *crypt) next(theirs, ours sdp.Crypto, now moment) (n *crypt, err error) {
	n = &crypt{}
	if c != nil {
		*n = *c
	}
	n.theirs, n.ours = theirs, ours
	if c == nil || !same(c.theirs, theirs) {
		if n.in, err = newKeyed(theirs); err != nil {
			return nil, err
		}
		if c != nil {
			n.former, n.until, n.known = c.in, now+oldKey, c.in.latest()
		}
	}
	if c == nil || !same(c.ours, ours) {
		if n.out, err = newKeyed(ours); err != nil {
			return nil, err
		}
		if c != nil { // a stream keeps its rollover counter (RFC 3711 §3.3.1)
			n.out.sources = c.out.latest()
		}
	}
	return n, nil
}

// keyed reports whether there are keys: with DTLS there are none until the handshake is done.
func (c *crypt) keyed() bool { return c != nil && c.in != nil }

// name is the suite, and where its keys are from.
func (c *crypt) name() string {
	if c.shaken {
		return "DTLS " + string(c.theirs.Suite)
	}
	return string(c.theirs.Suite)
}

// open decrypts a packet in place, if it can be SRTP at all.
func (c *crypt) open(packet []byte, now moment) ([]byte, error) {
	if c.former != nil && now >= c.until {
		c.former = nil
	}
	if c.in == nil {
		return nil, errKeyless
	}
	out, err := c.try(packet)
	if err != nil {
		c.dropped++
	}
	return out, err
}

// try takes the one key, or what else may count after a change of keys.
func (c *crypt) try(packet []byte) ([]byte, error) {
	round := c.round(packet)
	if c.former == nil && round == 0 {
		return c.in.open(packet, 0)
	}
	if c.scratch == nil {
		c.scratch = make([]byte, maxPacket)
	}
	copy(c.scratch, packet)
	out, err := c.in.open(packet, 0)
	if err != nil && round > 0 {
		out, err = c.in.open(packet[:copy(packet, c.scratch)], round)
	}
	if err != nil && c.former != nil {
		out, err = c.former.open(packet[:copy(packet, c.scratch)], 0)
	}
	return out, err
}

// round is the rollover counter that the source of a packet had with the former key, where the present one does not
// know the source yet.
func (c *crypt) round(packet []byte) uint64 {
	if len(c.known) == 0 || isRTCP(packet) {
		return 0
	}
	ssrc, seq := binary.BigEndian.Uint32(packet[8:]), binary.BigEndian.Uint16(packet[2:])
	if c.in.source(ssrc) != nil {
		return 0
	}
	for i := range c.known {
		if c.known[i].ssrc == ssrc {
			return c.known[i].rtp.index(seq) >> 16
		}
	}
	return 0
}

// seal encrypts a packet in place, and says nothing of why it cannot.
func (c *crypt) seal(packet []byte) []byte {
	if c.out == nil {
		return nil
	}
	out, err := c.out.seal(packet)
	if err != nil {
		return nil
	}
	return out
}

// errKeyless drops what comes before the handshake is done.
var errKeyless = errors.New("SRTP: there are no keys yet")

// mayBeSecret reports whether a packet has the header of SRTP, or SRTCP. What is behind that is not to be read yet.
func mayBeSecret(packet []byte) bool {
	if isRTCP(packet) {
		return true
	}
	if len(packet) < 12 || packet[0]>>6 != 2 {
		return false
	}
	n := 12 + 4*int(packet[0]&0x0f)
	return len(packet) >= n && (packet[0]&0x10 == 0 || len(packet) >= n+4 && len(packet) >= headerLength(packet))
}
