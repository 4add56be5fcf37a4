package bridge

import (
	"fmt"
	"time"

	"reveille/rtp"
)

// soundForTrunk is the value of X-RTP-Stat: the sound of the trunk leg, as we had it.
func (c *Call) soundForTrunk(session *rtp.Session) func() string {
	return func() string { return soundLine(session.Stats(), c.started, c.rec.answered(), time.Now()) }
}

// soundLine writes the fields that gateways and their tools know: set-up (ms), packets and octets of payload sent and
// received, packets lost on the way to us, jitter and one-way delay (ms), duration (s), codecs, score. It is "" for a call
// that was not answered.
func soundLine(s rtp.Stats, began, answered, now time.Time) string {
	if answered.IsZero() {
		return ""
	}
	payload := func(bytes, packets uint64) uint64 { return bytes - min(bytes, 12*packets) }
	sent := s.Device.Packets - min(s.Device.Held, s.Device.Packets)
	octets := uint64(0)
	if s.Device.Packets > 0 {
		octets = payload(s.Device.Bytes, s.Device.Packets) * sent / s.Device.Packets
	}
	line := fmt.Sprintf("CS=%d;PS=%d;OS=%d;PR=%d;OR=%d;PL=%d;JI=%.0f;LA=%.0f;DU=%.0f", answered.Sub(began).Milliseconds(), sent, octets,
		s.Trunk.Packets, payload(s.Trunk.Bytes, s.Trunk.Packets), s.Trunk.Lost, s.Trunk.JitterMS, s.Trunk.RTTMS/2, now.Sub(answered).Seconds())
	if s.Trunk.Codec != "" {
		line += fmt.Sprintf(";EN=%s;DE=%s", s.Trunk.Codec, s.Trunk.Codec)
	}
	if s.Trunk.MOS > 0 {
		line += fmt.Sprintf(";MOS=%.1f", s.Trunk.MOS)
	}
	return line
}
