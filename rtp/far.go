package rtp

import (
	"encoding/binary"
	"time"

	"github.com/pion/rtcp"
)

// far is what a peer tells by RTCP of the stream that it gets from us. It is part of path and guarded with it.
type far struct {
	spoke    moment // when RTCP last came from the peer, of any kind; 0: never
	told     moment // when it last reported
	heard    moment // when it last reported that more of the stream had come to it
	reports  uint64
	rtt      time.Duration // 0: not known
	lost     uint32        // of the stream's present source, as the following are
	fraction uint8         // of those between its last two reports, in 1/256
	jitter   uint32        // in units of the stream's clock
	highest  uint16        // sequence number
	expected uint32        // packets up to that one
	ssrc     uint32        // of the stream that they are about
	about    bool          // they are about one
	empty    bool          // its last report was about no stream at all
	report   uint32        // middle 32 bits of the time in its last sender report; 0: it made none
	reported moment        // when that came
	sent     uint32        // packets that it says it has sent
	sending  bool          // they were more than in the report before
	voip     *VoIPMetrics  // nil: it has sent none
}

// VoIPMetrics is what a peer has measured itself (RTCP-XR, RFC 3611 §4.7), by its last report. What it did not measure
// is 0.
type VoIPMetrics struct {
	Known           bool    // it has sent such a report
	LossRatio       float64 // share lost on the way, 0 to 1
	DiscardRatio    float64 // share that came too late to be played, or too early
	BurstDensity    float64 // share lost or discarded within bursts
	GapDensity      float64 // the same between bursts
	BurstMS         float64 // mean length of bursts
	GapMS           float64 // and of what is between them
	RTTMS           float64 // round trip by its own measure
	EndDelayMS      float64 // within the peer itself: encoding, decoding and jitter buffer
	SignalDBm       int     // level of speech, dBm0
	NoiseDBm        int     // level of noise in the pauses
	EchoLossDB      int     // residual echo return loss
	R               float64 // rating factor by G.107
	MOSLQ, MOSCQ    float64 // scores for listening, and for conversation
	JitterBufferMS  float64 // nominal delay of its jitter buffer
	LongestBufferMS float64 // the largest that it may be
}

// parseReports reads the packets of a datagram of RTCP one by one: what is not understood costs nothing else. A fault
// in the parser costs a report, not the relay.
func parseReports(packet []byte) (list []rtcp.Packet) {
	for len(packet) >= 4 {
		n := 4 * (int(binary.BigEndian.Uint16(packet[2:])) + 1)
		if n > len(packet) {
			break
		}
		list = append(list, parseReport(packet[:n])...)
		packet = packet[n:]
	}
	return list
}

func parseReport(packet []byte) (list []rtcp.Packet) {
	defer func() {
		if recover() != nil {
			list = nil
		}
	}()
	switch rtcp.PacketType(packet[1]) {
	case rtcp.TypeSenderReport, rtcp.TypeReceiverReport, rtcp.TypeExtendedReport:
	default:
		return nil
	}
	list, err := rtcp.Unmarshal(packet)
	if err != nil {
		return nil
	}
	return list
}

// readReports takes what reports say: when sender reports pass, what the far end lost, and the round trip.
func (p *path) readReports(side Side, list []rtcp.Packet, now moment) {
	for _, item := range list {
		switch r := item.(type) {
		case *rtcp.SenderReport:
			p.ends[side].passes(r.NTPTime, now)
			p.ends[side].far.sends(r, now)
			p.readBlocks(side, r.Reports, now)
		case *rtcp.ReceiverReport:
			p.readBlocks(side, r.Reports, now)
		case *rtcp.ExtendedReport:
			p.readExtended(side, r.Reports, now)
		}
	}
}

// passes remembers a report of this side that goes to the other.
func (e *end) passes(ntp uint64, now moment) {
	e.reports[e.report%uint8(len(e.reports))] = senderReport{uint32(ntp >> 16), now}
	e.report++
}

// sends takes what a peer says of the packets that it sends.
func (f *far) sends(r *rtcp.SenderReport, now moment) {
	f.report, f.reported = uint32(r.NTPTime>>16), now
	f.sending = r.PacketCount > f.sent
	f.sent = r.PacketCount
}

// readBlocks takes the report about the other side's stream, as relayed to this peer.
func (p *path) readBlocks(side Side, blocks []rtcp.ReceptionReport, now moment) {
	e, other := &p.ends[side], &p.ends[side.Other()]
	e.far.reports++
	e.far.told, e.far.empty = now, len(blocks) == 0
	for _, b := range blocks {
		if other.got.started && b.SSRC == other.got.ssrc {
			e.far.take(&b, &other.got, now)
			p.roundTrip(side, b.LastSenderReport, b.Delay, now)
		}
	}
}

// take takes a block about a stream.
func (f *far) take(b *rtcp.ReceptionReport, stream *reception, now moment) {
	highest := uint16(b.LastSequenceNumber)
	if !f.about || f.ssrc != b.SSRC || highest != f.highest {
		f.heard = now
	}
	f.about, f.ssrc, f.highest = true, b.SSRC, highest
	f.fraction, f.jitter = b.FractionLost, b.Jitter
	if f.lost = b.TotalLost; f.lost >= 1<<23 { // a negative number of 24 bits: duplicates (RFC 3550 §6.4.1)
		f.lost = 0
	}
	f.expected = 0
	if last := stream.highest - uint32(uint16(stream.highest)-highest); int32(last-stream.passed) >= 0 {
		f.expected = last - stream.passed + 1
	}
}

// lossRatio is the share that the peer misses of what it was sent.
func (f *far) lossRatio() float64 {
	if f.expected == 0 {
		return 0
	}
	return min(1, float64(f.lost)/float64(f.expected))
}

// roundTrip takes the answer to a report that the other side, or we in its place, have sent to this one: its time as the
// answer has it, and how long the peer held it, in 1/65536 s (RFC 3550 §6.4.1, RFC 3611 §4.5).
func (p *path) roundTrip(side Side, id, held uint32, now moment) {
	for _, sr := range p.ends[side.Other()].reports {
		if sr.id == 0 || sr.id != id {
			continue
		}
		if rtt := now - sr.passed - time.Duration(held)*time.Second/65536; rtt >= 0 {
			p.ends[side].far.rtt = rtt
		}
	}
}

// readExtended takes the blocks of RTCP-XR that concern speech.
func (p *path) readExtended(side Side, blocks []rtcp.ReportBlock, now moment) {
	e, other := &p.ends[side], &p.ends[side.Other()]
	for _, block := range blocks {
		switch b := block.(type) {
		case *rtcp.ReceiverReferenceTimeReportBlock:
			e.passes(b.NTPTimestamp, now)
		case *rtcp.DLRRReportBlock:
			for _, r := range b.Reports {
				p.roundTrip(side, r.LastRR, r.DLRR, now)
			}
		case *rtcp.VoIPMetricsReportBlock:
			if other.got.started && b.SSRC == other.got.ssrc {
				voip := voipMetrics(b)
				e.far.voip = &voip
			}
		}
	}
}

// voipMetrics converts a block. 127 and 0 in levels, ratings and scores stand for what was not measured.
func voipMetrics(b *rtcp.VoIPMetricsReportBlock) VoIPMetrics {
	share := func(n uint8) float64 { return float64(n) / 256 }
	figure := func(n uint8, scale float64) float64 {
		if n == 127 {
			return 0
		}
		return float64(n) / scale
	}
	level := func(n uint8) int {
		if n == 127 {
			return 0
		}
		return int(int8(n))
	}
	return VoIPMetrics{
		Known: true, LossRatio: share(b.LossRate), DiscardRatio: share(b.DiscardRate),
		BurstDensity: share(b.BurstDensity), GapDensity: share(b.GapDensity),
		BurstMS: float64(b.BurstDuration), GapMS: float64(b.GapDuration),
		RTTMS: float64(b.RoundTripDelay), EndDelayMS: float64(b.EndSystemDelay),
		SignalDBm: level(b.SignalLevel), NoiseDBm: level(b.NoiseLevel), EchoLossDB: level(b.RERL),
		R: figure(b.RFactor, 1), MOSLQ: figure(b.MOSLQ, 10), MOSCQ: figure(b.MOSCQ, 10),
		JitterBufferMS: float64(b.JBNominal), LongestBufferMS: float64(b.JBMaximum),
	}
}

// videoRate is the RTP clock of all video (RFC 3551 §5).
const videoRate = 90000

// stats gives the figures of a side; at converts a moment.
func (p *path) stats(side Side, at func(moment) time.Time) SideStats {
	e, other := &p.ends[side], &p.ends[side.Other()]
	s := e.got.stats(at)
	s.Codec = e.codec
	s.RTTMS = float64(e.far.rtt) / float64(time.Millisecond)
	s.FarLost, s.FarLossFraction, s.FarLossRatio = e.far.lost, float64(e.far.fraction)/256, e.far.lossRatio()
	s.Reports = e.far.reports
	if e.far.voip != nil {
		s.VoIP = *e.far.voip
	}
	way := (e.far.rtt + other.far.rtt) / 2                      // as far as it is known
	if e.got.rate == videoRate || other.got.rate == videoRate { // the score is one of speech
		return s
	}
	if s.Packets > 0 {
		q := quality{impairment(e.codec), e.got.lossRatio(), way + playout(e.got.jitterNow())}
		s.MOS = opinion(q.rating())
	}
	if e.far.about {
		jitter := ticks(e.far.jitter, other.got.rate)
		s.FarJitterMS = float64(jitter) / float64(time.Millisecond)
		q := quality{impairment(other.codec), e.far.lossRatio(), way + playout(jitter)}
		s.FarMOS = opinion(q.rating())
	}
	return s
}
