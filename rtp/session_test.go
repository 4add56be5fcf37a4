package rtp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"reveille/rtp/rtptest"
)

func TestAudioBothWays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		w.same("trunk to device", nil, w.device.heard())
		sent := w.trunk.talk(50)
		w.same("trunk to device", w.device.heard(), sent)
		sent = w.device.talk(50)
		w.same("device to trunk", w.trunk.heard(), sent)
		w.device.talker.Payload = 101
		sent = w.device.talk(3)
		w.same("telephone-event", w.trunk.heard(), sent)
		s := w.session.Close()
		if s.Trunk.Packets != 50 || s.Device.Packets != 53 || s.Trunk.Lost != 0 || s.Device.Lost != 0 || s.Device.Bytes != 53*172 {
			t.Errorf("%+v", s)
		}
		if s.Trunk.LastPacket.Sub(s.Trunk.FirstPacket) != 49*20*time.Millisecond || s.Trunk.JitterMS != 0 {
			t.Errorf("times %+v", s.Trunk)
		}
		if w.net.Open() != 2 { // the peers' own
			t.Errorf("%d sockets are open", w.net.Open())
		}
	})
}

// Reordered, repeated and late packets pass as they are, and are told apart in the figures.
func TestDisorder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		var p [][]byte
		for i := range 10 {
			p = append(p, w.trunk.talker.Next(bytes.Repeat([]byte{byte(i)}, 160)))
		}
		order := [][]byte{p[0], p[1], p[3], p[2], p[2], p[5], p[7], p[4], p[7], p[9]} // 6 and 8 are lost
		for _, packet := range order {
			w.trunk.send(packet)
			time.Sleep(20 * time.Millisecond)
		}
		w.same("as sent", w.device.heard(), order)
		s := w.session.Stats().Trunk
		if s.Packets != 10 || s.Lost != 2 || s.Reordered != 2 || s.Duplicates != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// Nothing of one side's network, and nothing it did not need to say, reaches the other.
func TestTopologyHidden(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		offer := w.trunk.sdp("8 101", "secret:1", "candidate:1 1 UDP 1 10.9.9.9 1 typ host", "rtcp:4444 IN IP4 10.9.9.8")
		w.must(w.session.SetOffer(Trunk, offer))
		out, err := w.session.Offer(Device)
		w.must(err)
		for _, leak := range []string{"198.51.100.7", "10.9.9", "secret", "audio 4000", "rtcp:4444"} {
			if strings.Contains(string(out), leak) {
				t.Errorf("%q in\n%s", leak, out)
			}
		}
	})
}

func TestPayloadTypesMapped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.must(w.session.SetOffer(Trunk, w.trunk.sdp("96 101", "rtpmap:96 opus/48000/2")))
		w.device.learn(w.session.Offer(Device))
		// The device uses its own numbers, 101 among them for another codec.
		answer := strings.ReplaceAll(string(w.device.sdp("101 110", "rtpmap:110 telephone-event/8000")),
			"telephone-event/8000\r\na=fmtp:101 0-15", "opus/48000/2")
		w.must(w.session.SetAnswer(Device, []byte(answer)))
		w.trunk.learn(w.session.Answer(Trunk))
		if c := w.trunk.ours.Codecs; len(c) != 2 || c[0].PT != 96 || c[0].Name != "opus" || c[1].PT != 101 {
			t.Fatalf("answered %+v", c)
		}
		w.session.Connect()
		pass := func(from, to *peer, sent, want byte) {
			t.Helper()
			packet := from.talker.Next([]byte("payload"))
			packet[1] = sent | 0x80
			from.send(packet)
			got := to.heard()
			if len(got) != 1 || got[0][1] != want|0x80 || !bytes.Equal(got[0][2:], packet[2:]) {
				t.Fatalf("%d arrived as %x, want %d", sent, got, want)
			}
		}
		pass(w.trunk, w.device, 96, 101)  // opus
		pass(w.trunk, w.device, 101, 110) // telephone-event
		pass(w.device, w.trunk, 110, 101) // telephone-event, under the device's number
		pass(w.device, w.trunk, 96, 96)   // opus, under ours
		pass(w.device, w.trunk, 101, 101) // ours says that 101 is telephone-event, and ours is what counts
	})
}

func TestHold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		w.trunk.talk(5)
		w.device.talk(5)
		w.trunk.heard()
		w.device.heard()

		w.trunk.learn(w.session.Reoffer(Trunk, w.trunk.sdp("8 101", "sendonly")))
		if d := w.trunk.ours.Direction.String(); d != "recvonly" {
			t.Errorf("sendonly is answered %s", d)
		}
		w.device.talk(3)
		w.same("to the side that holds", w.trunk.heard(), nil)
		w.same("music on hold", w.device.heard(), w.trunk.talk(3)[:0])
		if held := w.session.Stats().Device.Held; held != 3 {
			t.Errorf("%d packets held", held)
		}

		zero := body(netip.MustParseAddrPort("0.0.0.0:4000"), "8 101")
		w.trunk.learn(w.session.Reoffer(Trunk, zero))
		if d := w.trunk.ours.Direction.String(); d != "recvonly" {
			t.Errorf("c=0.0.0.0 is answered %s", d)
		}
		w.device.heard()
		w.device.talk(3)
		w.same("to 0.0.0.0", w.trunk.heard(), nil)

		w.trunk.learn(w.session.Reoffer(Trunk, w.trunk.sdp("8 101")))
		sent := w.device.talk(3)
		w.same("after the hold", w.trunk.heard(), sent)
		w.same("music on hold", w.device.heard(), nil)
		sent = w.trunk.talk(3)
		w.same("after the hold", w.device.heard(), sent)
	})
}

func TestIdle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		w.trunk.talk(5)
		w.device.talk(5)
		w.events()
		last := w.session.Stats().Device.LastPacket
		time.Sleep(59 * time.Second)
		if e := w.eventsOf(Idle); len(e) != 0 {
			t.Fatalf("too early: %+v", e)
		}
		time.Sleep(2 * time.Second)
		e := w.eventsOf(Idle)
		if len(e) != 1 || e[0].Kind != Idle || e[0].At.Sub(last) != time.Minute {
			t.Fatalf("%+v, last packet %v", e, last)
		}
		time.Sleep(5 * time.Minute)
		if e := w.eventsOf(Idle); len(e) != 0 {
			t.Fatalf("told again: %+v", e)
		}
		w.trunk.talk(1)
		time.Sleep(3 * time.Minute)
		if e := w.eventsOf(Idle); len(e) != 1 || e[0].Kind != Idle {
			t.Fatalf("not told of the second silence: %+v", e)
		}
	})
}

func TestNotIdleOnHold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		w.trunk.talk(1)
		w.device.talk(1)
		w.trunk.learn(w.session.Reoffer(Trunk, w.trunk.sdp("8 101", "inactive")))
		w.events()
		time.Sleep(time.Hour)
		if e := w.eventsOf(Idle); len(e) != 0 {
			t.Fatalf("on hold: %+v", e)
		}
		w.trunk.learn(w.session.Reoffer(Trunk, w.trunk.sdp("8 101")))
		resumed := time.Now()
		time.Sleep(3 * time.Minute)
		if e := w.eventsOf(Idle); len(e) != 1 || e[0].Kind != Idle || e[0].At.Sub(resumed) != time.Minute {
			t.Fatalf("after the hold: %+v, resumed %v", e, resumed)
		}
	})
}

func TestNoMedia(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		connected := time.Now()
		w.trunk.talk(1)
		if e := w.events(); len(e) != 1 || e[0].Kind != FirstPacket || e[0].Side != Trunk || !e[0].At.Equal(connected) {
			t.Fatalf("%+v", e)
		}
		time.Sleep(15 * time.Second)
		e := w.events()
		if len(e) != 1 || e[0].Kind != NoMedia || e[0].Side != Device || e[0].At.Sub(connected) != 5*time.Second {
			t.Fatalf("%+v", e)
		}
		if !strings.Contains(e[0].Cause, "firewall") {
			t.Errorf("cause %q", e[0].Cause)
		}
		// A device behind NAT that begins only now is still let in.
		nat := w.peer(netip.MustParseAddrPort("203.0.113.200:6000"), 5)
		nat.ours = w.device.ours
		nat.talk(4)
		w.trunk.heard()
		sent := nat.talk(3)
		w.same("late device", w.trunk.heard(), sent)
	})
}

func TestNoMediaCauses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		stranger := w.peer(netip.MustParseAddrPort("203.0.113.200:6000"), 5)
		stranger.ours = w.device.ours
		stranger.talk(2)
		w.trunk.talker.Payload = 77
		w.trunk.talk(2)
		time.Sleep(30 * time.Second)
		causes := map[Side]string{}
		for _, e := range w.events() {
			causes[e.Side] = e.Cause
		}
		if !strings.Contains(causes[Device], "not from") || !strings.Contains(causes[Trunk], "payload type") {
			t.Errorf("%q", causes)
		}
	})
}

// Before the call is connected nothing passes, but the trunk may latch, for the ringback to reach it behind NAT.
func TestNothingPassesBeforeConnect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config, _ *Options) { c.Ringback = "none" })
		w.ring("8 101")
		w.trunk.talk(5)
		w.must(w.session.SetAnswer(Device, w.device.sdp("8 101")))
		w.device.talk(5)
		w.same("early", w.device.heard(), nil)
		w.same("early", w.trunk.heard(), nil)
		w.session.Connect()
		sent := w.device.talk(5)
		w.same("connected", w.trunk.heard(), sent)
	})
}

func TestGarbageCounted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		good := w.device.talker.Next(make([]byte, 160))
		stun := make([]byte, 20)
		binary.BigEndian.PutUint32(stun[4:], 0x2112a442)
		stun[1] = 1
		bad := [][]byte{{}, {0x80}, stun, []byte("REGISTER sip:x SIP/2.0\r\n"), good[:11], make([]byte, maxPacket+10)}
		mutate := func(i int, v byte) {
			p := bytes.Clone(good)
			p[i] = v
			bad = append(bad, p)
		}
		mutate(0, 0x40) // version 1
		mutate(1, 77)   // payload type not agreed
		mutate(1, 3)
		p := bytes.Clone(good[:20])
		p[0] = 0x8f // fifteen contributing sources in eight bytes
		bad = append(bad, p)
		p = bytes.Clone(good[:16])
		p[0], p[14], p[15] = 0x90, 0xff, 0xff // an extension beyond the end
		bad = append(bad, p)
		p = bytes.Clone(good)
		p[0], p[len(p)-1] = 0xa0, 255 // more padding than packet
		bad = append(bad, p)
		for _, packet := range bad {
			w.device.send(packet)
		}
		w.same("garbage", w.trunk.heard(), nil)
		if s := w.session.Stats().Device; s.Invalid != uint64(len(bad)) || s.Packets != 0 {
			t.Errorf("%+v, want %d invalid", s, len(bad))
		}
		w.device.send(good)
		w.same("after the garbage", w.trunk.heard(), [][]byte{good})
	})
}

func TestExternalAddress(t *testing.T) {
	bubble(t, func(t *testing.T) {
		outside := netip.MustParseAddr("203.0.113.77")
		w := newWorld(t, func(c *Config, o *Options) {
			c.ExternalAddress = outside.String()
			n := &rtptest.Network{NotLocal: []netip.Addr{outside}}
			o.Listen = listenOn(n)
		})
		w.must(w.session.SetOffer(Trunk, w.trunk.sdp("8")))
		w.trunk.learn(w.session.Answer(Trunk))
		if w.trunk.ours.Addr.Addr() != outside {
			t.Errorf("described %v", w.trunk.ours.Addr)
		}
		if a := w.session.audio.sockets[Trunk].rtp.local().String(); !strings.HasPrefix(a, "0.0.0.0:") {
			t.Errorf("bound %s", a)
		}
	})
}

func TestIPv6(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		six := netip.MustParseAddr("2001:db8::1")
		s, err := w.relay.Open(SessionOptions{TrunkAddress: six})
		w.must(err)
		w.session = s
		phone := w.peer(netip.MustParseAddrPort("[2001:db8::9]:4000"), 1)
		w.must(s.SetOffer(Trunk, phone.sdp("8 101")))
		phone.learn(s.Answer(Trunk))
		w.device.learn(s.Offer(Device))
		w.must(s.SetAnswer(Device, w.device.sdp("8")))
		s.Connect()
		if phone.ours.Addr.Addr() != six || !w.device.ours.Addr.Addr().Is4() {
			t.Errorf("described %v and %v", phone.ours.Addr, w.device.ours.Addr)
		}
		sent := phone.talk(3)
		w.same("IPv6 to IPv4", w.device.heard(), sent)
		sent = w.device.talk(3)
		w.same("IPv4 to IPv6", phone.heard(), sent)
	})
}

// A fault of our own costs the packet that brings it out, not the call.
func TestPanicCostsOnePacket(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		end := &w.session.audio.path.ends[Trunk]
		formats := end.formats
		end.formats = nil // forward finds no place for the packet
		w.trunk.talk(1)
		end.formats = formats
		w.same("after the fault", w.device.heard(), nil)
		sent := w.trunk.talk(3)
		w.same("later", w.device.heard(), sent)
		w.session.Close()
	})
}
