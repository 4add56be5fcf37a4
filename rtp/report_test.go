package rtp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/pion/rtcp"

	"reveille/rtp/rtptest"
)

// converse has the given peers talk for a while, 50 packets a second.
func (w *world) converse(d time.Duration, who ...*peer) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		for _, p := range who {
			p.send(p.talker.Next(make([]byte, 160)))
		}
		time.Sleep(frameTime)
		w.heardAll()
	}
}

// reports parses what came to a peer by RTCP. Each compound packet is in order (RFC 3550 §6.1).
func (p *peer) reports() (list []rtcp.Packet) {
	p.w.t.Helper()
	for _, packet := range p.heard() {
		parts, err := rtcp.Unmarshal(packet)
		if err != nil {
			p.w.t.Fatalf("%x: %v", packet, err)
		}
		if err := rtcp.CompoundPacket(parts).Validate(); err != nil {
			p.w.t.Fatalf("%v: %v", parts, err)
		}
		list = append(list, parts...)
	}
	return list
}

// of picks the packets of one kind.
func of[T rtcp.Packet](list []rtcp.Packet) (some []T) {
	for _, p := range list {
		if x, ok := p.(T); ok {
			some = append(some, x)
		}
	}
	return some
}

// Neither peer sends RTCP: each gets a report on its own stream, in the name of the one that it hears.
func TestReportsInPlaceOfThePeer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.ring("8 0 101")
		trunk, device := w.control()
		w.converse(20*time.Second, w.trunk) // rings: its RTP goes nowhere, and nothing is said of it
		if list := append(trunk.reports(), device.reports()...); list != nil {
			t.Fatalf("before the answer: %v", list)
		}
		w.must(w.session.SetAnswer(Device, w.device.sdp("8 101")))
		w.session.Connect()
		w.converse(7*time.Second, w.trunk, w.device)
		if list := append(trunk.reports(), device.reports()...); list != nil {
			t.Fatalf("at once: %v", list)
		}
		w.device.talker.Seq += 10
		w.converse(30*time.Second, w.trunk, w.device)
		list := trunk.reports()
		all := of[*rtcp.SenderReport](list)
		if len(all) < 30/7 || len(all) > 30/2 || len(of[*rtcp.SourceDescription](list)) != len(all) || len(of[*rtcp.Goodbye](list)) != 0 {
			t.Fatalf("to the trunk: %v", list)
		}
		last := all[len(all)-1]
		if last.SSRC != 0x2222 || len(last.Reports) != 1 || last.Reports[0].SSRC != 0x1111 || last.Reports[0].TotalLost != 0 {
			t.Errorf("to the trunk: %v", last)
		}
		if name := of[*rtcp.SourceDescription](list)[0].Chunks[0]; name.Source != 0x2222 || len(name.Items) != 1 || len(name.Items[0].Text) != 16 {
			t.Errorf("%v", name)
		}
		lost := 0
		for i, r := range of[*rtcp.SenderReport](device.reports()) {
			b := r.Reports[0]
			if r.SSRC != 0x1111 || b.SSRC != 0x2222 || b.TotalLost != 10 {
				t.Errorf("report %d to the device: %v", i, r)
			}
			if b.FractionLost > 0 {
				lost++
			}
			if got := r.OctetCount; got != r.PacketCount*160 || r.PacketCount < 7*50 || r.PacketCount > 37*50 {
				t.Errorf("report %d says that %d packets and %d octets went to the device", i, r.PacketCount, got)
			}
		}
		if lost != 1 {
			t.Errorf("%d reports have a share of lost packets", lost)
		}
	})
}

// The clocks of a sender report belong together: its RTP time is what a packet sent at its NTP time would bear.
func TestSenderReportClock(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		_, device := w.control()
		began, first := time.Now(), w.trunk.talker.Timestamp
		w.converse(20*time.Second, w.trunk)
		all := of[*rtcp.SenderReport](device.reports())
		if len(all) == 0 {
			t.Fatal("no report")
		}
		for _, r := range all {
			at := time.Unix(int64(r.NTPTime>>32)-2208988800, int64(r.NTPTime&0xffffffff*1e9>>32))
			if d := int32(r.RTPTime - first - uint32(at.Sub(began)*8000/time.Second)); d < -8 || d > 8 {
				t.Errorf("%v after the beginning: %d units off", at.Sub(began), d)
			}
		}
	})
}

// Our report is answered like any other: that tells the round trip.
func TestReportsTellTheRoundTrip(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		_, device := w.control()
		w.converse(12*time.Second, w.trunk, w.device)
		all := of[*rtcp.SenderReport](device.reports())
		for len(all) == 0 {
			w.converse(100*time.Millisecond, w.trunk, w.device)
			all = of[*rtcp.SenderReport](device.reports())
		}
		last := all[len(all)-1]
		sent := w.session.audio.path.ends[Trunk].reports[(w.session.audio.path.ends[Trunk].report-1)%4].passed
		time.Sleep(100 * time.Millisecond)
		held := w.relay.now() - sent - 70*time.Millisecond
		device.tell(&rtcp.SenderReport{SSRC: 0x2222, NTPTime: 0xdddd << 16, Reports: []rtcp.ReceptionReport{{SSRC: 0x1111,
			LastSenderReport: uint32(last.NTPTime >> 16), Delay: uint32(held * 65536 / time.Second)}}})
		w.heardAll()
		near(t, "round trip", w.session.Stats().Device.RTTMS, 70, .1)
	})
}

// The real peer's RTCP goes before ours, which ends without a goodbye: the stream goes on. It is ours again when the
// peer has said nothing for 25 s, and then our goodbye ends it.
func TestReportsEndWithTheRealOnes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		trunk, device := w.control()
		w.converse(15*time.Second, w.trunk, w.device)
		if len(trunk.reports()) == 0 || len(device.reports()) == 0 {
			t.Fatal("no reports")
		}
		device.tell(&rtcp.ReceiverReport{SSRC: 0x2222}, rtcp.NewCNAMESourceDescription(0x2222, "phone"))
		w.converse(20*time.Second, w.trunk, w.device)
		if list := trunk.reports(); len(list) != 2 {
			t.Errorf("besides the device's own: %v", list)
		}
		list := device.reports()
		if len(of[*rtcp.SenderReport](list)) == 0 {
			t.Error("nothing more to the device, whose peer is still silent")
		}
		if b := of[*rtcp.SenderReport](list)[0].Reports; len(b) != 1 || b[0].LastSenderReport != 0 {
			t.Errorf("the device has sent no sender report: %v", b)
		}
		device.tell(&rtcp.SenderReport{SSRC: 0x2222, NTPTime: 0x0001_2222_3333_0000}, rtcp.NewCNAMESourceDescription(0x2222, "phone"))
		w.converse(8*time.Second, w.trunk, w.device)
		all := of[*rtcp.SenderReport](device.reports())
		if b := all[len(all)-1].Reports[0]; b.LastSenderReport != 0x22223333 || b.Delay < 65536/2 || b.Delay > 9*65536 {
			t.Errorf("%+v", b)
		}
		trunk.reports()
		w.converse(17*time.Second, w.trunk, w.device)
		if list := trunk.reports(); list != nil {
			t.Errorf("25 s after the device's own: %v", list)
		}
		w.converse(8*time.Second, w.trunk, w.device)
		if len(trunk.reports()) == 0 {
			t.Error("the device says nothing any more, and we neither")
		}
		w.session.Close()
		for p, ssrc := range map[*peer]uint32{trunk: 0x2222, device: 0x1111} {
			if bye := of[*rtcp.Goodbye](p.reports()); len(bye) != 1 || bye[0].Sources[0] != ssrc {
				t.Errorf("%v", bye)
			}
		}
	})
}

// A call on hold has no RTP, and RTCP is all that says that it lives. Who has heard nothing of the other yet is told so
// by one of our own.
func TestReportsOnHold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		trunk, device := w.control()
		w.converse(4*time.Second, w.trunk)
		_, err := w.session.Reoffer(Trunk, w.trunk.sdp("8 101", "sendonly"))
		w.must(err)
		time.Sleep(60 * time.Second)
		list := trunk.reports()
		all := of[*rtcp.ReceiverReport](list)
		if len(all) < 7 || len(of[*rtcp.SenderReport](list)) != 0 || all[0].SSRC == 0x1111 || all[0].SSRC == 0x2222 {
			t.Fatalf("to the trunk: %v", list)
		}
		if len(all[0].Reports) != 1 || len(all[1].Reports) != 0 {
			t.Errorf("the trunk's stream is reported on while it is one: %v", list)
		}
		if len(of[*rtcp.SourceDescription](device.reports())) < 7 {
			t.Error("nothing to the device")
		}
		_, err = w.session.Reoffer(Trunk, w.trunk.sdp("8 101", "sendrecv"))
		w.must(err)
		w.converse(7*time.Second, w.trunk, w.device)
		list = trunk.reports()
		if bye := of[*rtcp.Goodbye](list); len(bye) != 1 || bye[0].Sources[0] != all[0].SSRC {
			t.Errorf("our own SSRC is over: %v", list)
		}
		if r := of[*rtcp.SenderReport](list); len(r) == 0 || r[0].SSRC != 0x2222 {
			t.Errorf("%v", list)
		}
	})
}

// Reports are encrypted where the side is, and go to its one port where it has one.
func TestReportsBySRTCPAndMux(t *testing.T) {
	bubble(t, func(t *testing.T) {
		key := &rtptest.SRTP{}
		w := keyedCall(t, nil, key)
		device := w.peer(netip.AddrPortFrom(deviceIP, 5001), 0)
		for range 15 {
			w.trunk.say(nil, 50)
		}
		r := parseReports(device.understood(key)[0])
		if len(r) != 1 {
			t.Errorf("%v", r)
		}
	})
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.ring("8 101")
		w.must(w.session.SetAnswer(Device, w.device.sdp("8 101", "rtcp-mux")))
		w.session.Connect()
		time.Sleep(15 * time.Second)
		if list := w.device.reports(); len(list) == 0 {
			t.Error("nothing to the port of both")
		}
	})
}

// To an address that nobody has described, and between two devices, nothing goes.
func TestReportsToNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		sent := 0
		w.net.Drop = func(from, to netip.AddrPort, packet []byte) bool {
			if from.Addr() == relayIP && isRTCP(packet) {
				sent++
			}
			return false
		}
		w.ring("8 101", "rtcp:9 IN IP4 0.0.0.0")
		w.must(w.session.SetAnswer(Device, body(netip.MustParseAddrPort("0.0.0.0:5000"), "8 101")))
		w.session.Connect()
		time.Sleep(20 * time.Second)
		if sent != 0 {
			t.Errorf("%d reports went out", sent)
		}
	})
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		trunk, device := w.control()
		w.converse(2*time.Second, w.trunk, w.device)
		w.session.Handover()
		time.Sleep(30 * time.Second)
		if list := append(trunk.reports(), device.reports()...); list != nil {
			t.Errorf("%v", list)
		}
	})
}
