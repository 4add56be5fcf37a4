package rtp

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pion/rtcp"
)

// What we write is what the library would.
func TestRTCPIsAsTheLibraryWritesIt(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 400 {
		ssrc, cname := r.Uint32(), strings.Repeat("x", i%256)
		info := senderInfo{ntp: r.Uint64(), timestamp: r.Uint32(), packets: r.Uint32(), octets: r.Uint32()}
		block := reportBlock{r.Uint32(), uint8(r.Uint32()), r.Uint32() % (1 << 23), r.Uint32(), r.Uint32(), r.Uint32(), r.Uint32()}
		var reports []rtcp.ReceptionReport
		if i%3 > 0 {
			reports = []rtcp.ReceptionReport{{SSRC: block.ssrc, FractionLost: block.fraction, TotalLost: block.lost,
				LastSequenceNumber: block.highest, Jitter: block.jitter, LastSenderReport: block.last, Delay: block.delay}}
		}
		var got []byte
		var first rtcp.Packet
		if i%2 > 0 {
			got = appendReport(got, ssrc, &info, block, len(reports) > 0)
			first = &rtcp.SenderReport{SSRC: ssrc, NTPTime: info.ntp, RTPTime: info.timestamp, PacketCount: info.packets,
				OctetCount: info.octets, Reports: reports}
		} else {
			got = appendReport(got, ssrc, nil, block, len(reports) > 0)
			first = &rtcp.ReceiverReport{SSRC: ssrc, Reports: reports}
		}
		got = appendGoodbye(appendCNAME(got, ssrc, cname), ssrc)
		want, err := rtcp.Marshal([]rtcp.Packet{first, rtcp.NewCNAMESourceDescription(ssrc, cname), &rtcp.Goodbye{Sources: []uint32{ssrc}}})
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("CNAME of %d octets:\n%x, want\n%x, %v", len(cname), got, want, err)
		}
	}
}

// Reports are made without memory of their own: there are hundreds a second.
func TestReportsDoNotAllocate(t *testing.T) {
	p, from, packet := latched()
	p.connected = true
	st := &stream{session: &Session{relay: &Relay{}}, path: *p}
	buf := make([]byte, 0, maxPacket)
	now := moment(reportInterval)
	n := testing.AllocsPerRun(100, func() {
		next(packet)
		now += moment(reportInterval)
		st.path.forward(from, packet, now)
		for _, to := range []Side{Trunk, Device} {
			if b := st.compoundLocked(buf, to, now); len(b) < 28 {
				t.Fatalf("a report of %d bytes", len(b))
			}
		}
	})
	if n > 0 {
		t.Errorf("%g allocations for two reports", n)
	}
}
