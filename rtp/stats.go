package rtp

import "time"

// Stats is what a session has seen, by the side that the packets came from.
type Stats struct {
	Trunk, Device SideStats
	Video         *Stats // of the video; nil: there was none
}

// Of gives the statistics of one side.
func (s Stats) Of(side Side) SideStats {
	if side == Trunk {
		return s.Trunk
	}
	return s.Device
}

// SideStats counts the RTP packets that came from one side (RFC 3550 appendix A). Accepted ones are in Packets, whether
// they could be passed on or not; Dropped and Invalid ones are in nothing else.
type SideStats struct {
	Packets    uint64  // accepted from the peer
	Bytes      uint64  // of those, with their RTP headers
	Lost       uint64  // missing by sequence number
	LossRatio  float64 // those as a share of all that should have come, 0 to 1
	Reordered  uint64  // came after a later one
	Duplicates uint64  // came twice
	Dropped    uint64  // from a stranger, or from a source not yet latched (RTP and RTCP)
	Invalid    uint64  // neither RTP of an agreed payload type nor RTCP: STUN, garbage
	Held       uint64  // accepted, but not passed on: before Connect, or the other side on hold

	Bursts       uint64        // runs of lost packets, as they were first missed: a packet that came late is in them too
	LongestBurst uint64        // packets of the longest one
	LongestGap   time.Duration // longest time between two packets while connected and not on hold

	JitterMS    float64 // interarrival jitter now, milliseconds
	MaxJitterMS float64 // the highest it has been
	Codec       string  // the agreed speech codec, such as "PCMA"
	MOS         float64 // estimated score of this side's sound as it came to us, 1 to 4.5 (ITU-T G.107); 0: none came

	RTTMS           float64 // round trip to the peer by its last RTCP report, milliseconds; 0 if it gave none
	FarLost         uint32  // packets that the peer says it missed, by its last RTCP report
	FarLossFraction float64 // share missed between its last two reports, 0 to 1
	FarLossRatio    float64 // share missed of all that it was sent, 0 to 1
	FarJitterMS     float64 // jitter by its last report, milliseconds
	FarMOS          float64 // estimated score of what the peer hears, by its reports; 0: it made none about it

	Reports uint64      // reports that came from the peer by RTCP (SR, RR)
	VoIP    VoIPMetrics // what it says by RTCP-XR

	Digits uint64 // that came by SIP INFO and went on as telephone-events, or the other way

	FirstPacket time.Time // zero if none came
	LastPacket  time.Time
}

// Limits of RFC 3550 A.1.
const (
	maxDropout  = 3000 // a gap up to here is loss; 3000 packets are a minute of speech
	maxMisorder = 100  // a packet this late is still the same stream; 100 packets are two seconds
)

// reception is what RFC 3550 keeps of a stream of RTP packets. It is part of path and guarded with it. The kernel's
// program does the same with its own copy: what is changed here is to be changed in kernel/reception.h, too.
type reception struct {
	packets, bytes uint64
	last           moment // of accepted packets; valid if packets > 0
	seen           uint64 // bit i: highest-i came
	ssrc           uint32
	highest        uint32 // extended sequence number of the present source
	unique         uint32 // packets of the present source without duplicates
	bad            uint32 // the number that would confirm a jump, noBad if none
	transit        uint32 // arrival less timestamp of the last packet, in units of rate
	jitter         uint32 // in units of rate, times 16 (A.8)
	peak           uint32 // the highest jitter, in the same units
	rate           uint32 // Hz, of the last speech codec
	gap            moment // the longest time between two packets, from since on
	since          moment // when the call was connected, or a hold ended: what was before is no gap; 0 until then
	started        bool
	timed          bool // transit is known

	bursts, burst          uint32 // runs of missing numbers, and the longest of them: touched when one is missing
	first                  moment
	base                   uint32 // the present source's first sequence number
	passed                 uint32 // the first one that went on to the other side
	sentBefore             uint32 // packets of the present source that did not go on, and
	bytesBefore            uint64 // bytes of all that came until then
	lostBefore             uint64 // by sources before the present one
	reordered, duplicates  uint64
	dropped, invalid, held uint64
	digits                 uint64
	foreign                uint8 // 128 + the last payload type that is not agreed; 0: none came
}

const noBad = 1 << 16 // no sequence number

// update counts an accepted packet. Events repeat their timestamp, so they say nothing about jitter.
func (r *reception) update(h header, format *format, size int, now moment) {
	if r.packets == 0 {
		r.first = now
	} else if r.since > 0 {
		r.gap = max(r.gap, now-max(r.last, r.since))
	}
	r.packets++
	r.last = now
	newest := true
	if !r.started || h.ssrc != r.ssrc {
		r.restart(h.ssrc, h.seq)
	} else {
		newest = r.sequence(h.seq)
	}
	r.bytes += uint64(size)
	if newest && !format.event {
		r.time(h.timestamp, format.rate, now)
	}
}

// restart begins a new source, or the old one anew after a jump. What the former lost stays counted.
func (r *reception) restart(ssrc uint32, seq uint16) {
	r.lostBefore += r.lostNow()
	r.started, r.ssrc = true, ssrc
	r.base, r.highest, r.passed = uint32(seq), uint32(seq), uint32(seq)
	r.sentBefore, r.bytesBefore = 0, r.bytes
	r.bad, r.unique, r.seen, r.timed = noBad, 1, 1, false
}

// sequence is RFC 3550 A.1; it reports whether the packet is the newest of its stream.
func (r *reception) sequence(seq uint16) bool {
	ahead := seq - uint16(r.highest)
	behind := -ahead
	switch {
	case ahead == 0:
		r.duplicates++
		return false
	case ahead < maxDropout:
		if ahead > 1 {
			r.bursts++
			r.burst = max(r.burst, uint32(ahead-1))
		}
		r.highest += uint32(ahead)
		r.seen = r.seen<<ahead | 1 // a shift of 64 or more gives 0
		r.unique++
		r.bad = noBad
		return true
	case behind <= maxMisorder:
		r.late(behind)
		return false
	case uint32(seq) == r.bad: // two in a row: the sender began anew without saying so
		r.restart(r.ssrc, seq)
		return true
	}
	r.bad = uint32(seq + 1)
	return false
}

// late counts a packet that is behind the highest one. One from before the first packet counts as late, not as found
// again: nobody missed it.
func (r *reception) late(behind uint16) {
	bit := uint64(1) << behind // 0 for 64 and more: too old to tell
	if r.seen&bit != 0 {
		r.duplicates++
		return
	}
	r.seen |= bit
	r.reordered++
	if r.highest-uint32(behind) >= r.base && r.highest >= uint32(behind) {
		r.unique++
	}
}

// time is RFC 3550 A.8.
func (r *reception) time(timestamp, rate uint32, now moment) {
	if rate != r.rate {
		if r.rate > 0 {
			r.peak = uint32(uint64(r.peak) * uint64(rate) / uint64(r.rate))
		}
		r.rate, r.timed, r.jitter = rate, false, 0
	}
	transit := arrival(now, rate) - timestamp
	if r.timed {
		d := int32(transit - r.transit)
		if d < 0 {
			d = -d
		}
		r.jitter += uint32(d) - (r.jitter+8)>>4
		r.peak = max(r.peak, r.jitter)
	}
	r.transit, r.timed = transit, true
}

// arrival is a moment in units of an RTP clock. Microseconds times rate stays below 2^63 for a century; only the low 32
// bits matter.
func arrival(now moment, rate uint32) uint32 {
	return uint32(uint64(now/time.Microsecond) * uint64(rate) / 1e6)
}

// resume begins anew to look for gaps: the call is connected, or a hold has ended. Some phones stop the clock of their
// timestamps while on hold; that is no jitter.
func (r *reception) resume(now moment) { r.since, r.timed = now, false }

// connect is resume for a call that is connected: what comes from now on goes to the other side.
func (r *reception) connect(now moment) {
	r.resume(now)
	if r.started {
		r.passed, r.sentBefore, r.bytesBefore = r.highest+1, r.unique, r.bytes
	}
}

// lostNow is what the present source has lost (A.3).
func (r *reception) lostNow() uint64 {
	if !r.started {
		return 0
	}
	expected := r.highest - r.base + 1
	if expected <= r.unique {
		return 0
	}
	return uint64(expected - r.unique)
}

// stats gives the figures; at converts a moment.
func (r *reception) stats(at func(moment) time.Time) SideStats {
	s := SideStats{
		Packets: r.packets, Bytes: r.bytes, Lost: r.lostBefore + r.lostNow(), LossRatio: r.lossRatio(),
		Reordered: r.reordered, Duplicates: r.duplicates,
		Dropped: r.dropped, Invalid: r.invalid, Held: r.held,
		Digits: r.digits,
		Bursts: uint64(r.bursts), LongestBurst: uint64(r.burst), LongestGap: r.gap,
	}
	if r.rate > 0 {
		s.JitterMS = r.millis(r.jitter)
		s.MaxJitterMS = r.millis(r.peak)
	}
	if r.packets > 0 {
		s.FirstPacket, s.LastPacket = at(r.first), at(r.last)
	}
	return s
}

// millis converts jitter.
func (r *reception) millis(jitter uint32) float64 {
	return float64(jitter) / 16 / float64(r.rate) * 1000
}

// jitterNow is the present jitter as a time.
func (r *reception) jitterNow() time.Duration { return ticks(r.jitter>>4, r.rate) }

// ticks converts units of an RTP clock.
func ticks(n, rate uint32) time.Duration {
	if rate == 0 {
		return 0
	}
	return time.Duration(n) * time.Second / time.Duration(rate)
}

// lossRatio is the share of packets that are missing, 0 to 1.
func (r *reception) lossRatio() float64 {
	lost := r.lostBefore + r.lostNow()
	if came := r.packets - min(r.duplicates, r.packets); lost+came > 0 {
		return float64(lost) / float64(lost+came)
	}
	return 0
}
