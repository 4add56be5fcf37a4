package rtp

import (
	"encoding/binary"
	"strings"
	"sync"
)

// maxBehind is how many packets a player sends at once to catch up with the clock; what is older is skipped, as a
// caller hears a gap rather than a rush.
const maxBehind = 5

// player plays a clip to one trunk.
type player struct {
	session *Session
	began   moment

	// Guarded by the session's mu.
	clip   *clip // nil: the trunk has no codec that could be played
	number uint8 // payload type

	mu        sync.Mutex // guards the following; held while a packet is sent, so that a stopped player is silent
	stopped   bool
	ssrc      uint32
	timestamp uint32 // of packet 0
	seq       uint16 // of the next packet sent
	next      int    // packet due next, counted from the beginning
	quiet     bool   // the packet before was not sent: the next begins a talkspurt
}

// Ringback starts the tone or file towards the trunk, in the codec of the answer it was given. It does nothing when
// ringback is off, the codec is not G.711, or the call is connected. Fails with ErrOrder before the trunk's Answer.
func (s *Session) Ringback() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exchanges[Trunk].answer == nil {
		return ErrOrder
	}
	if s.closed || s.audio.path.connected || s.player != nil || s.sound == nil {
		return nil
	}
	p := &player{session: s, began: s.relay.now(), quiet: true}
	p.ssrc, p.timestamp, p.seq = source()
	s.player = p
	if s.tuneLocked(); p.clip == nil {
		s.player = nil
		return nil
	}
	if s.remote != nil {
		s.player = nil
		s.remote.ring(p.clip, speech(s.exchanges[Trunk].ours.Codecs))
		return nil
	}
	s.relay.ringers.start(p)
	return nil
}

// tuneLocked has the player use the codec that the trunk has been answered with: an UPDATE may have changed it.
func (s *Session) tuneLocked() {
	p, ours := s.player, s.exchanges[Trunk].ours
	if p == nil || ours == nil {
		return
	}
	p.clip = nil
	if codec := speech(ours.Codecs); codec.Rate == sampleRate && codec.Channels == 1 {
		p.clip, p.number = s.sound.clips[strings.ToUpper(codec.Name)], codec.PT
	}
}

// tune is what a player plays now: nothing while the trunk holds.
func (p *player) tune() (c *clip, number uint8, plays bool) {
	s := p.session
	s.mu.Lock()
	defer s.mu.Unlock()
	return p.clip, p.number, p.clip != nil && !s.audio.path.connected && s.audio.path.ends[Trunk].takes
}

// tick sends the packets that are due by now.
func (p *player) tick(now moment, buf []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	due := int((now - p.began) / frameTime) // the last one that is due
	if p.stopped || p.next > due {
		return
	}
	clip, number, plays := p.tune()
	if !plays {
		p.next, p.quiet = due+1, true
		return
	}
	p.next = max(p.next, due-maxBehind+1)
	for ; p.next <= due; p.next++ {
		i := p.next % clip.frames()
		// Silence is not sent (RFC 3550 §5.1, silence suppression): most of a tone is silence.
		p.quiet = clip.silent[i] || !p.send(number, clip.frame(i), buf)
	}
}

// send builds and sends packet number p.next. It reports false where there is no address to send to yet.
func (p *player) send(number uint8, payload, buf []byte) bool {
	buf[0], buf[1] = 2<<6, number
	if p.quiet {
		buf[1] |= 0x80 // marker: a talkspurt begins (RFC 3551 §4.1)
	}
	binary.BigEndian.PutUint16(buf[2:], p.seq)
	binary.BigEndian.PutUint32(buf[4:], p.timestamp+uint32(p.next)*frameSamples)
	binary.BigEndian.PutUint32(buf[8:], p.ssrc)
	n := 12 + copy(buf[12:], payload)
	if !p.session.audio.emit(Trunk, false, buf[:n]) {
		return false
	}
	p.seq++
	return true
}

// halt keeps the player from sending anything more, once it returns.
func (p *player) halt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
}
