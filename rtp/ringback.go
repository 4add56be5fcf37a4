package rtp

import (
	"encoding/binary"
	"strings"
	"sync"
	"time"
)

// maxBehind is how many packets a player sends at once to catch up with the clock; what is older is skipped, as a
// caller hears a gap rather than a rush.
const maxBehind = 5

// player plays a clip to one trunk.
type player struct {
	session *Session
	clip    *clip
	number  uint8 // payload type
	began   moment

	mu        sync.Mutex // guards the following; held while a packet is sent, so that a stopped player is silent
	stopped   bool
	ssrc      uint32
	timestamp uint32 // of packet 0
	seq       uint16 // of the next packet sent
	next      int    // packet due next, counted from the beginning
	quiet     bool   // the packet before was silence: the next begins a talkspurt
}

// Ringback starts the tone or file towards the trunk, in the codec of the answer it was given. It does nothing when
// ringback is off, the codec is not G.711, or the call is connected. Fails with ErrOrder before the trunk's Answer.
func (s *Session) Ringback() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &s.exchanges[Trunk]
	if e.answer == nil {
		return ErrOrder
	}
	if s.closed || s.audio.path.connected || s.player != nil || s.relay.sound == nil {
		return nil
	}
	codec := e.ours.Codecs[0]
	for _, c := range e.ours.Codecs {
		if c.Speech() {
			codec = c
			break
		}
	}
	clip := s.relay.sound.clips[strings.ToUpper(codec.Name)]
	if clip == nil || codec.Rate != sampleRate || codec.Channels != 1 {
		return nil
	}
	p := &player{session: s, clip: clip, number: codec.PT, began: s.relay.now(), quiet: true}
	p.ssrc, p.timestamp, p.seq = source()
	s.player = p
	s.relay.ringers.start(p)
	return nil
}

// rings reports whether the caller is to hear the ringback now: not while the trunk holds.
func (s *Session) rings() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.audio.path.connected && s.audio.path.ends[Trunk].takes
}

// play sends the packets that are due by now.
func (p *player) play(now moment, buf []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	due := int((now - p.began) / frameTime) // the last one that is due
	if p.stopped || p.next > due {
		return
	}
	p.next = max(p.next, due-maxBehind+1)
	for ; p.next <= due; p.next++ {
		i := p.next % p.clip.frames()
		if p.clip.silent[i] {
			p.quiet = true // nothing is sent (RFC 3550 §5.1, silence suppression): most of a tone is silence
			continue
		}
		p.send(i, buf)
		p.quiet = false
	}
}

// send builds and sends packet number p.next.
func (p *player) send(frame int, buf []byte) {
	if !p.session.rings() {
		return
	}
	buf[0], buf[1] = 2<<6, p.number
	if p.quiet {
		buf[1] |= 0x80 // marker: a talkspurt begins (RFC 3551 §4.1)
	}
	binary.BigEndian.PutUint16(buf[2:], p.seq)
	binary.BigEndian.PutUint32(buf[4:], p.timestamp+uint32(p.next)*frameSamples)
	binary.BigEndian.PutUint32(buf[8:], p.ssrc)
	n := 12 + copy(buf[12:], p.clip.frame(frame))
	p.seq++
	p.session.audio.emit(Trunk, false, buf[:n])
}

// scheduler plays for all calls with one goroutine, which runs only while somebody is to hear something.
type scheduler struct {
	now func() moment

	mu      sync.Mutex // guards the following
	players map[*player]struct{}
	running bool
	done    sync.WaitGroup
}

func newScheduler(now func() moment) *scheduler {
	return &scheduler{now: now, players: map[*player]struct{}{}}
}

// start adds a player.
func (c *scheduler) start(p *player) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.players[p] = struct{}{}
	if !c.running {
		c.running = true
		c.done.Go(c.run)
	}
}

// stop takes a player out. It sends nothing once this returns.
func (c *scheduler) stop(p *player) {
	c.mu.Lock()
	delete(c.players, p)
	c.mu.Unlock()
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
}

// wait returns when nobody plays.
func (c *scheduler) wait() { c.done.Wait() }

// run plays until no player is left.
func (c *scheduler) run() {
	ticker := time.NewTicker(frameTime)
	defer ticker.Stop()
	buf := make([]byte, 12+frameSamples, maxPacket) // SRTP lets a packet grow
	var round []*player
	for {
		round = c.list(round[:0])
		if len(round) == 0 {
			return
		}
		now := c.now()
		for _, p := range round {
			p.play(now, buf)
		}
		clear(round)
		<-ticker.C
	}
}

// list collects the players; with none it marks the scheduler as stopped.
func (c *scheduler) list(into []*player) []*player {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range c.players {
		into = append(into, p)
	}
	c.running = len(into) > 0
	return into
}
