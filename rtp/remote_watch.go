package rtp

import (
	"encoding/binary"
	"time"

	"reveille/rtp/ng"
	"reveille/rtp/sdp"
)

// How often the daemon is asked for its figures: often while the first packets are awaited, then as a call
// that has gone silent needs it.
const (
	lookEarly = time.Second
	lookLater = 10 * time.Second
)

// look asks the daemon for its figures. It must not be called with the session's mu held: its answer may take a while.
func (r *remote) look() {
	r.s.mu.Lock()
	asks := r.given && r.s.audio.path.connected && !r.s.closed && !r.dead() // given: it knows the call
	engine, name := r.engine, r.name()
	r.s.mu.Unlock()
	if !asks {
		return
	}
	answer, err := engine.Do(r.ctx, "query", ng.Dict{"call-id": name})
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	if r.s.closed || r.engine != engine || r.name() != name {
		return
	}
	r.note(err)
	r.read(answer, err)
	r.sync() // what it has not taken before
}

// read takes figures over.
func (r *remote) read(answer ng.Dict, err error) {
	if err != nil {
		return
	}
	now := r.s.relay.now()
	for _, side := range []Side{Trunk, Device} {
		f := figuresOf(answer.Dict("tags").Dict(r.tagOf(side)))
		got := &r.s.audio.path.ends[side].got
		if f.packets > r.seen[side].packets {
			if got.packets == 0 {
				got.first = now
				r.s.tell(Event{Kind: FirstPacket, Side: side, At: r.s.relay.at(now)})
			}
			got.packets += f.packets - r.seen[side].packets
			got.last = now
		}
		if f.errors > r.seen[side].errors {
			got.dropped += f.errors - r.seen[side].errors
		}
		r.seen[side] = f
	}
}

// figuresOf are those of a tag: of its stream that has RTP.
func figuresOf(tag ng.Dict) figures {
	for _, media := range tag.Dicts("medias") {
		for _, stream := range media.Dicts("streams") {
			list, _ := stream["flags"].([]any)
			for _, flag := range list {
				if flag == "RTP" {
					stats := stream.Dict("stats")
					return figures{uint64(max(0, stats.Int("packets"))), uint64(max(0, stats.Int("bytes"))), uint64(max(0, stats.Int("errors")))}
				}
			}
		}
	}
	return figures{}
}

// next is when to look again.
func (r *remote) next(planned time.Duration) time.Duration {
	early := r.s.relay.now()-r.s.watch.connected < firstWithin
	for side := range r.s.audio.path.ends {
		if early && r.s.audio.path.ends[side].got.packets == 0 {
			return min(planned, lookEarly)
		}
	}
	return min(planned, lookLater, max(r.s.relay.timeout/4, lookEarly))
}

// bell is the ringback: the daemon plays it to the trunk, and is asked anew for each round.
type bell struct {
	wav     string
	round   time.Duration
	timer   *time.Timer
	playing bool
}

// maxWAV is the longest sound that fits into a datagram: the first seven seconds of a file.
const maxWAV = 7 * sampleRate

// ring begins the ringback.
func (r *remote) ring(c *clip, codec sdp.Codec) {
	if r.bell != nil {
		return
	}
	frames := min(c.frames(), maxWAV/frameSamples)
	round := time.Duration(frames) * frameTime
	for frames > 1 && c.silent[frames-1] { // most of a tone
		frames--
	}
	r.bell = &bell{wav: waveFile(c.data[:frames*frameSamples], codec), round: round}
	r.chime()
}

// chime plays a round, unless the trunk holds.
func (r *remote) chime() {
	b := r.bell
	if b == nil || r.s.closed {
		return
	}
	b.playing = false
	if r.s.ringsLocked() {
		_, err := r.do("play media", ng.Dict{"from-tag": trunkTag, "blob": b.wav})
		if b.playing = err == nil; err != nil {
			r.s.log.Warn("rtpengine plays no ringback", "err", err)
			if ng.Refused(err) { // it cannot: it has been built without
				r.bell = nil
				return
			}
		}
	}
	b.timer = time.AfterFunc(b.round, func() {
		r.s.mu.Lock()
		defer r.s.mu.Unlock()
		if r.bell == b {
			r.chime()
		}
	})
}

// hush ends the ringback.
func (r *remote) hush() {
	b := r.bell
	if b == nil {
		return
	}
	r.bell = nil
	if b.timer != nil {
		b.timer.Stop()
	}
	r.pause(b)
}

// pause stops what plays.
func (r *remote) pause(b *bell) {
	if !b.playing {
		return
	}
	b.playing = false
	if _, err := r.do("stop media", ng.Dict{"from-tag": trunkTag}); err != nil {
		r.s.log.Warn("rtpengine may still play the ringback", "err", err)
	}
}

// waveFile is G.711 as a file: 8 kHz, mono, format 6 (A-law) or 7 (µ-law).
func waveFile(data []byte, codec sdp.Codec) string {
	format := uint16(6)
	if codec.Same(sdp.PCMU()) {
		format = 7
	}
	b := append([]byte{}, "RIFF"...)
	b = binary.LittleEndian.AppendUint32(b, uint32(36+len(data)))
	b = append(b, "WAVEfmt "...)
	b = binary.LittleEndian.AppendUint32(b, 16)
	b = binary.LittleEndian.AppendUint16(b, format)
	b = binary.LittleEndian.AppendUint16(b, 1)
	b = binary.LittleEndian.AppendUint32(b, sampleRate)
	b = binary.LittleEndian.AppendUint32(b, sampleRate)
	b = binary.LittleEndian.AppendUint16(b, 1)
	b = binary.LittleEndian.AppendUint16(b, 8)
	b = append(b, "data"...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	return string(append(b, data...))
}

// ringsLocked reports whether the caller is to hear the ringback now: not while the trunk holds.
func (s *Session) ringsLocked() bool {
	return !s.audio.path.connected && s.audio.path.ends[Trunk].takes
}
