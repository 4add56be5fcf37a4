package rtp

import (
	"net/netip"
	"runtime"
	"testing"

	"reveille/rtp/rtptest"
)

// BenchmarkHandshake sets calls with a WebRTC phone up, and says what is left of each handshake once it is done: bytes
// and goroutines above those of a plain call. The time is that of both ends.
func BenchmarkHandshake(b *testing.B) {
	for _, kind := range []string{"plain", "WebRTC"} {
		b.Run(kind, func(b *testing.B) {
			n := &rtptest.Network{}
			r, err := NewRelay(DefaultConfig(), Options{LocalAddress: relayIP, Listen: listenOn(n)})
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			before := used()
			for i := range b.N {
				if err := handshakeCall(r, n, kind == "WebRTC", uint16(2*i)); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			after := used()
			b.ReportMetric(float64(after[0]-before[0])/float64(b.N), "B/call")
			b.ReportMetric(float64(after[1]-before[1])/float64(b.N), "goroutines/call")
		})
	}
}

// used is memory in use, and goroutines.
func used() [2]int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return [2]int64{int64(m.HeapAlloc + m.StackInuse), int64(runtime.NumGoroutine())}
}

// handshakeCall is an answered call whose phone has gone again.
func handshakeCall(r *Relay, n *rtptest.Network, web bool, port uint16) error {
	conn, err := n.Listen(netip.AddrPortFrom(deviceIP, 10000+port))
	if err != nil {
		return err
	}
	defer conn.Close()
	s, err := r.Open(SessionOptions{})
	if err != nil {
		return err
	}
	if err := s.SetOffer(Trunk, body(netip.AddrPortFrom(trunkIP, 10000+port), "8")); err != nil {
		return err
	}
	if _, err := s.Answer(Trunk); err != nil {
		return err
	}
	plain := body(conn.Addr(), "8", "rtcp-mux")
	if !web {
		if _, err := s.Offer(Device); err != nil {
			return err
		}
		defer s.Connect()
		return s.SetAnswer(Device, plain)
	}
	p := (&rtptest.DTLS{Conn: conn, Setup: "active", Ufrag: "EsAw", Pwd: "bP+XJMM09aR8AiX1jdukzR6Y"}).Begin()
	offer, err := s.OfferWebRTC(Device)
	if err != nil {
		return err
	}
	if err := p.Hear(offer); err != nil {
		return err
	}
	if err := s.SetAnswerTo(Device, offer, p.SDP(plain)); err != nil {
		return err
	}
	s.Connect()
	defer p.Stop()
	return p.Shake()
}
