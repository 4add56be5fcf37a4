package rtp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/pion/rtcp"
)

// marshal is a compound packet.
func marshal(t testing.TB, list ...rtcp.Packet) []byte {
	t.Helper()
	out, err := rtcp.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// control binds the RTCP sockets of both peers, each one above its RTP.
func (w *world) control() (trunk, device *peer) {
	w.t.Helper()
	up := func(p *peer) *peer {
		a := p.conn.Addr()
		c := w.peer(netip.AddrPortFrom(a.Addr(), a.Port()+1), 0)
		c.ours = p.ours
		return c
	}
	return up(w.trunk), up(w.device)
}

// tell sends RTCP to our RTCP port.
func (p *peer) tell(list ...rtcp.Packet) {
	p.w.t.Helper()
	p.sendTo(p.ours.RTCP, marshal(p.w.t, list...))
}

// What the far end says of the sound that we have sent it: loss of the whole call and lately, jitter, score.
func TestFarReports(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		_, device := w.control()
		first := w.trunk.talker.Seq
		w.trunk.talk(100)
		report := func(lost uint32, last uint16) {
			device.tell(&rtcp.ReceiverReport{SSRC: 0x2222, Reports: []rtcp.ReceptionReport{{SSRC: 0x1111, FractionLost: 51, TotalLost: lost,
				LastSequenceNumber: 7<<16 | uint32(last), Jitter: 80}}})
			w.heardAll()
		}
		report(10, first+99)
		s := w.session.Stats().Device
		if s.Reports != 1 || s.FarLost != 10 {
			t.Errorf("%+v", s)
		}
		near(t, "loss of all", s.FarLossRatio, .1, 1e-9)
		near(t, "loss lately", s.FarLossFraction, .2, .001)
		near(t, "jitter", s.FarJitterMS, 10, 1e-9)
		want := opinion(quality{impairment("PCMA"), .1, playout(10 * time.Millisecond)}.rating())
		near(t, "score", s.FarMOS, want, 1e-6)
		if best := w.session.Stats().Trunk.MOS; best < 4.35 || s.FarMOS > 3.5 {
			t.Errorf("%.2f came to us, %.2f to the device", best, s.FarMOS)
		}
		report(1<<24-3, first+99) // three duplicates
		if s := w.session.Stats().Device; s.FarLost != 0 || s.FarLossRatio != 0 {
			t.Errorf("%+v", s)
		}
		// What is about another stream is not about ours.
		device.tell(&rtcp.ReceiverReport{SSRC: 0x2222, Reports: []rtcp.ReceptionReport{{SSRC: 0x9999, TotalLost: 5}}})
		w.heardAll()
		if s := w.session.Stats().Device; s.FarLost != 0 || s.Reports != 3 {
			t.Errorf("%+v", s)
		}
	})
}

// heardAll lets all that is on its way arrive.
func (w *world) heardAll() {
	w.trunk.heard()
	w.device.heard()
}

// What came before the call was connected went to nobody: it is not missing at the far end.
func TestFarLossSinceConnect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.ring("8 101")
		w.trunk.talk(50)
		w.must(w.session.SetAnswer(Device, w.device.sdp("8 101")))
		w.session.Connect()
		w.trunk.talk(50)
		_, device := w.control()
		device.tell(&rtcp.ReceiverReport{SSRC: 2, Reports: []rtcp.ReceptionReport{{SSRC: 0x1111, TotalLost: 5, LastSequenceNumber: uint32(w.trunk.talker.Seq - 1)}}})
		w.heardAll()
		near(t, "loss", w.session.Stats().Device.FarLossRatio, .1, 1e-9)
	})
}

// A peer that sends no RTP asks for the round trip by RTCP-XR, and is answered so (RFC 3611 §4.4, §4.5).
func TestExtendedRoundTrip(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		w.trunk.talk(4)
		w.device.talk(4)
		trunk, device := w.control()
		trunk.tell(&rtcp.ReceiverReport{SSRC: 0x1111}, &rtcp.ExtendedReport{SenderSSRC: 0x1111,
			Reports: []rtcp.ReportBlock{&rtcp.ReceiverReferenceTimeReportBlock{NTPTimestamp: 0x0000aaaabbbb0000}}})
		time.Sleep(120 * time.Millisecond)
		device.tell(&rtcp.ReceiverReport{SSRC: 0x2222}, &rtcp.ExtendedReport{SenderSSRC: 0x2222,
			Reports: []rtcp.ReportBlock{&rtcp.DLRRReportBlock{Reports: []rtcp.DLRRReport{{SSRC: 0x1111, LastRR: 0xaaaabbbb, DLRR: 65536 / 50}}}}})
		w.heardAll()
		near(t, "round trip", w.session.Stats().Device.RTTMS, 100, .1)
	})
}

func TestVoIPMetrics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		w.trunk.talk(4)
		_, device := w.control()
		block := rtcp.VoIPMetricsReportBlock{SSRC: 0x1111, LossRate: 64, DiscardRate: 32, BurstDensity: 128, GapDensity: 1, BurstDuration: 300,
			GapDuration: 9000, RoundTripDelay: 80, EndSystemDelay: 60, SignalLevel: 0xec, NoiseLevel: 127, RERL: 55, Gmin: 16,
			RFactor: 82, ExtRFactor: 127, MOSLQ: 41, MOSCQ: 127, JBNominal: 40, JBMaximum: 80, JBAbsMax: 300}
		about := block
		about.SSRC = 0x7777
		device.tell(&rtcp.ReceiverReport{SSRC: 0x2222}, &rtcp.ExtendedReport{SenderSSRC: 0x2222, Reports: []rtcp.ReportBlock{&block, &about}})
		w.heardAll()
		want := VoIPMetrics{Known: true, LossRatio: .25, DiscardRatio: .125, BurstDensity: .5, GapDensity: 1. / 256, BurstMS: 300, GapMS: 9000,
			RTTMS: 80, EndDelayMS: 60, SignalDBm: -20, EchoLossDB: 55, R: 82, MOSLQ: 4.1, JitterBufferMS: 40, LongestBufferMS: 80}
		if got := w.session.Stats().Device.VoIP; got != want {
			t.Errorf("%+v\nwant %+v", got, want)
		}
	})
}

// A report is read though its compound has something that nobody understands.
func TestReportBesideTheUnknown(t *testing.T) {
	odd := []byte{0x80, 204, 0, 2, 0, 0, 0, 1, 'n', 'a', 'm', 'e'}
	broken := []byte{0x80, 207, 0, 2, 0, 0, 0, 1, 7, 0, 0, 8} // claims more than there is
	list := parseReports(append(append(odd, broken...), rr(1, 2, 3, 4)...))
	if len(list) == 0 {
		t.Fatal("no report")
	}
	if r, ok := list[len(list)-1].(*rtcp.ReceiverReport); !ok || r.Reports[0].TotalLost != 9 {
		t.Errorf("%v", list)
	}
}

// FuzzReports has peers say what they like by RTCP: no panic, and figures that can be.
func FuzzReports(f *testing.F) {
	f.Add(sr(1, 0x123456789), rr(2, 1, 0x12345, 4))
	xr := rtcp.ExtendedReport{SenderSSRC: 2, Reports: []rtcp.ReportBlock{
		&rtcp.VoIPMetricsReportBlock{SSRC: 1, LossRate: 3, MOSLQ: 41},
		&rtcp.DLRRReportBlock{Reports: []rtcp.DLRRReport{{SSRC: 1, LastRR: 0x12345, DLRR: 9}}},
		&rtcp.ReceiverReferenceTimeReportBlock{NTPTimestamp: 5},
		&rtcp.StatisticsSummaryReportBlock{SSRC: 1}, &rtcp.LossRLEReportBlock{SSRC: 1, Chunks: []rtcp.Chunk{0x4006, 0x8765}},
	}}
	f.Add(sr(1, 5), marshal(f, &xr))
	f.Add([]byte{0x80, 207, 0, 1, 0, 0, 0, 1}, []byte{0xa1, 201, 0, 0})
	f.Fuzz(func(t *testing.T, trunk, device []byte) {
		p, _, _ := latched()
		for i := range moment(3) {
			p.readReports(Trunk, parseReports(trunk), i*frameTime)
			p.readReports(Device, parseReports(device), i*frameTime+1)
		}
		for _, side := range []Side{Trunk, Device} {
			s := p.stats(side, time.Unix(0, 0).Add)
			if s.FarLossRatio < 0 || s.FarLossRatio > 1 || s.RTTMS < 0 || s.FarJitterMS < 0 ||
				s.FarMOS != 0 && !(s.FarMOS >= 1 && s.FarMOS <= 4.5) || s.MOS != 0 && !(s.MOS >= 1 && s.MOS <= 4.5) {
				t.Fatalf("%+v", s)
			}
		}
	})
}
