package bridge

import (
	"math"
	"strings"
	"time"

	"reveille/rtp"
	"reveille/sip"
)

// MediaRecord is one direction of the audio, as it came in from that side.
type MediaRecord struct {
	Packets      uint64  `json:"packets"`
	Bytes        uint64  `json:"bytes,omitempty"`
	Lost         uint64  `json:"lost"`
	LossRatio    float64 `json:"loss_ratio,omitempty"` // 0 to 1
	Bursts       uint64  `json:"bursts,omitempty"`     // runs of lost packets
	LongestBurst uint64  `json:"longest_burst,omitempty"`
	Reordered    uint64  `json:"reordered,omitempty"`
	Duplicates   uint64  `json:"duplicates,omitempty"`
	JitterMS     float64 `json:"jitter_ms"`
	MaxJitterMS  float64 `json:"max_jitter_ms,omitempty"`
	Dropped      uint64  `json:"dropped"`
	Invalid      uint64  `json:"invalid,omitempty"`
	FirstMS      float64 `json:"first_packet_ms,omitempty"` // since the answer
	LastMS       float64 `json:"last_packet_ms,omitempty"`
	LongestGapMS float64 `json:"longest_gap_ms,omitempty"`
	RTTMillis    float64 `json:"rtt_ms,omitempty"`
	Digits       uint64  `json:"digits,omitempty"` // that came by SIP INFO and went on by telephone-event, or the other way
	Codec        string  `json:"codec,omitempty"`
	MOS          float64 `json:"mos,omitempty"` // 1 to 4.5, estimated by ITU-T G.107

	Hears *HearingRecord `json:"hears,omitempty"`
	Told  string         `json:"rtp_stat,omitempty"` // the peer's own X-RTP-Stat or P-RTP-Stat, as it wrote it
}

// HearingRecord is what a side has reported by RTCP of the sound that it got from us.
type HearingRecord struct {
	Reports   uint64  `json:"reports"`
	Lost      uint32  `json:"lost"`
	LossRatio float64 `json:"loss_ratio"`
	JitterMS  float64 `json:"jitter_ms"`
	MOS       float64 `json:"mos,omitempty"` // estimated by its reports

	XR *XRRecord `json:"xr,omitempty"`
}

// XRRecord is what a side has measured itself (RTCP-XR, RFC 3611 §4.7).
type XRRecord struct {
	LossRatio      float64 `json:"loss_ratio"`
	DiscardRatio   float64 `json:"discard_ratio"`
	R              float64 `json:"r,omitempty"`
	MOSLQ          float64 `json:"mos_lq,omitempty"`
	MOSCQ          float64 `json:"mos_cq,omitempty"`
	RTTMillis      float64 `json:"rtt_ms,omitempty"`
	EndDelayMS     float64 `json:"end_delay_ms,omitempty"`
	JitterBufferMS float64 `json:"jitter_buffer_ms,omitempty"`
}

// heard puts an event of the audio into the timeline. It gives the ending of a
// call that has none any more, else nil.
func (c *Call) heard(e rtp.Event) *Ending {
	switch e.Kind {
	case rtp.Idle:
		return EndMediaTimeout
	case rtp.EngineLost:
		c.rec.step(e.Kind.String(), "", e.Cause)
		return EndEngineLost
	}
	detail := e.Side.String() + " " + e.Cause
	switch e.Kind {
	case rtp.NoMedia, rtp.Silence, rtp.SilenceOver, rtp.Unheard: // it is a sentence
		detail = e.Side.String() + ": " + e.Cause
	}
	c.rec.stepAt(e.At, e.Kind.String(), "", strings.TrimSpace(detail)) // nobody listens before the answer
	return nil
}

// mediaRecords are those of both sides.
func mediaRecords(s rtp.Stats, answered time.Time) map[string]MediaRecord {
	return map[string]MediaRecord{"trunk": mediaRecord(s.Trunk, answered), "device": mediaRecord(s.Device, answered)}
}

func mediaRecord(s rtp.SideStats, answered time.Time) MediaRecord {
	m := MediaRecord{
		Packets: s.Packets, Bytes: s.Bytes, Lost: s.Lost, LossRatio: rounded(s.LossRatio, 1e5), Bursts: s.Bursts, LongestBurst: s.LongestBurst,
		Reordered: s.Reordered, Duplicates: s.Duplicates, JitterMS: rounded(s.JitterMS, 100), MaxJitterMS: rounded(s.MaxJitterMS, 100),
		Dropped: s.Dropped, Invalid: s.Invalid, LongestGapMS: millis(s.LongestGap), RTTMillis: rounded(s.RTTMS, 100),
		Digits: s.Digits, Codec: s.Codec, MOS: rounded(s.MOS, 100), Hears: hearing(s),
	}
	if !s.FirstPacket.IsZero() && !answered.IsZero() {
		m.FirstMS = millis(s.FirstPacket.Sub(answered))
		m.LastMS = millis(s.LastPacket.Sub(answered))
	}
	return m
}

// hearing is nil of a side that has made no report.
func hearing(s rtp.SideStats) *HearingRecord {
	if s.Reports == 0 && !s.VoIP.Known {
		return nil
	}
	h := &HearingRecord{Reports: s.Reports, Lost: s.FarLost, LossRatio: rounded(s.FarLossRatio, 1e5), JitterMS: rounded(s.FarJitterMS, 100), MOS: rounded(s.FarMOS, 100)}
	if x := s.VoIP; x.Known {
		h.XR = &XRRecord{LossRatio: rounded(x.LossRatio, 1e5), DiscardRatio: rounded(x.DiscardRatio, 1e5), R: x.R, MOSLQ: x.MOSLQ, MOSCQ: x.MOSCQ,
			RTTMillis: x.RTTMS, EndDelayMS: x.EndDelayMS, JitterBufferMS: x.JitterBufferMS}
	}
	return h
}

// told has the record of a side say what the peer's BYE told of its sound.
func told(media map[string]MediaRecord, side rtp.Side, end sip.End) {
	if m, ok := media[side.String()]; ok && end.Sound != "" {
		m.Told = end.Sound
		media[side.String()] = m
	}
}

// rounded keeps as many digits as a figure is worth.
func rounded(x, scale float64) float64 { return math.Round(x*scale) / scale }
