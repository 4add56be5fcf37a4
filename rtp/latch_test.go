package rtp

import (
	"net/netip"
	"testing"
	"time"
)

// The probes of RTPBleed (rtpbleed.com): whoever sends to an open media port must neither get the call's sound nor be
// heard in it.
func TestRTPBleed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.ring("8 101")
		w.must(w.session.SetAnswer(Device, w.device.sdp("8 101")))
		w.session.Connect()
		w.trunk.talk(5)
		w.device.talk(5)
		w.device.heard()
		w.trunk.heard()

		attacker := w.peer(netip.MustParseAddrPort("198.18.0.1:5555"), 0xbad)
		for _, victim := range []*peer{w.trunk, w.device} {
			attacker.ours = victim.ours
			attacker.talk(200) // four seconds of perfectly good RTP
		}
		sentT, sentD := w.trunk.talk(5), w.device.talk(5)
		w.same("the attacker hears", attacker.heard(), nil)
		w.same("the device hears", w.device.heard(), sentT)
		w.same("the trunk hears", w.trunk.heard(), sentD)
		s := w.session.Stats()
		if s.Trunk.Dropped != 200 || s.Device.Dropped != 200 || s.Trunk.Packets != 10 || s.Device.Packets != 10 {
			t.Errorf("%+v", s)
		}
	})
}

// The attacker is there first, before the peer's first packet: it loses to the described address, and to a neighbour.
func TestLatchPrefersTheDescribed(t *testing.T) {
	for name, real := range map[string]string{"same": "203.0.113.9:5000", "neighbour": "203.0.113.77:6000"} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, nil)
				w.ring("8 101")
				w.must(w.session.SetAnswer(Device, body(netip.MustParseAddrPort("203.0.113.9:5000"), "8 101")))
				w.session.Connect()
				w.device.conn.Close()
				device := w.peer(netip.MustParseAddrPort(real), 2)
				attacker := w.peer(netip.MustParseAddrPort("198.18.0.1:5555"), 0xbad)
				device.ours, attacker.ours = w.device.ours, w.device.ours
				for range 3 { // the attacker has a head start of two packets
					attacker.talk(1)
				}
				for range 20 {
					device.talk(1)
					attacker.talk(1)
				}
				w.trunk.heard()
				sent := device.talk(3)
				w.same("the trunk hears", w.trunk.heard(), sent)
				sent = w.trunk.talk(3)
				w.same("the device hears", device.heard(), sent)
				w.same("the attacker hears", attacker.heard(), nil)
			})
		})
	}
}

// Until it has latched, a side is sent to at the described address only.
func TestSendsToTheDescribedFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		stranger := w.peer(netip.MustParseAddrPort("198.18.0.1:5555"), 7)
		stranger.ours = w.device.ours
		for range latchPackets - 1 {
			stranger.talk(1)
		}
		sent := w.trunk.talk(2)
		w.same("the described address", w.device.heard(), sent)
		w.same("the stranger", stranger.heard(), nil)
	})
}

func TestLatchBehindNAT(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.ring("8 101")
		w.must(w.session.SetAnswer(Device, body(netip.MustParseAddrPort("10.0.0.5:5000"), "8 101")))
		w.session.Connect()
		sent := w.device.talk(10)
		w.same("from the fourth packet on", w.trunk.heard(), sent[latchPackets-1:])
		sent = w.trunk.talk(3)
		w.same("back", w.device.heard(), sent)
		if s := w.session.Stats().Device; s.Dropped != latchPackets-1 || s.Packets != 10-latchPackets+1 {
			t.Errorf("%+v", s)
		}
	})
}

// A side whose SIP comes from a known address is believed from there, and from nowhere else: neither a stranger who is
// there first nor one who is alone, as with a caller who hears the ringback in silence, gets a packet.
func TestLatchWhereTheSIPComesFrom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		stranger := w.peer(netip.MustParseAddrPort("198.18.0.1:5555"), 0xbad)
		w.ring("8 101")
		w.session.SignalledFrom(Trunk, w.trunk.conn.Addr().Addr())
		w.session.SignalledFrom(Device, w.device.conn.Addr().Addr())
		stranger.ours = w.trunk.ours
		stranger.talk(50)
		w.must(w.session.SetAnswer(Device, body(netip.MustParseAddrPort("10.0.0.5:5000"), "8 101")))
		w.session.Connect()
		stranger.ours = w.device.ours
		stranger.talk(50)
		sent := w.device.talk(10)
		w.same("from the fourth packet on", w.trunk.heard(), sent[latchPackets-1:])
		sent = w.trunk.talk(3)
		w.same("back", w.device.heard(), sent)
		w.same("the stranger", stranger.heard(), nil)
		if s := w.session.Stats(); s.Trunk.Dropped != 50 || s.Device.Dropped != 50+latchPackets-1 {
			t.Errorf("%+v", s)
		}
	})
}

// Four packets count only if they are consecutive and of one stream.
func TestLatchNeedsAStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.ring("8 101")
		w.must(w.session.SetAnswer(Device, body(netip.MustParseAddrPort("10.0.0.5:5000"), "8 101")))
		w.session.Connect()
		for i := range 40 {
			if i%3 == 2 {
				w.device.talker.SSRC++
			}
			w.device.talk(1)
		}
		for range 40 {
			w.device.talker.Seq++
			w.device.talk(1)
		}
		w.same("no stream", w.trunk.heard(), nil)
	})
}

// The window closes five seconds after the first packet; Relatch opens another.
func TestLatchWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.ring("8 101")
		w.must(w.session.SetAnswer(Device, body(netip.MustParseAddrPort("10.0.0.5:5000"), "8 101")))
		w.session.Connect()
		time.Sleep(4 * time.Second)
		w.device.talk(1)
		time.Sleep(4 * time.Second) // NoMedia at 5 s has opened a new window, which nobody has used
		w.device.talk(1)
		time.Sleep(latchWindow + time.Millisecond)
		w.device.talk(20)
		w.same("too late", w.trunk.heard(), nil)
		w.session.Relatch(Device)
		sent := w.device.talk(20)
		w.same("after Relatch", w.trunk.heard(), sent[latchPackets-1:])
	})
}

// A stranger who sends a packet to each port now and then does not use up the time of a phone that is muted at first.
func TestLatchWindowIsNotAStrangers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.ring("8 101")
		w.session.SignalledFrom(Device, w.device.conn.Addr().Addr())
		w.must(w.session.SetAnswer(Device, body(netip.MustParseAddrPort("10.0.0.5:5000"), "8 101")))
		w.session.Connect()
		stranger := w.peer(netip.MustParseAddrPort("198.18.0.1:5555"), 0xbad)
		stranger.ours = w.device.ours
		for range 20 {
			stranger.talk(1)
			time.Sleep(time.Second)
		}
		sent := w.device.talk(20)
		w.same("unmuted after 20 s", w.trunk.heard(), sent[latchPackets-1:])
	})
}

// A phone that moves from Wi-Fi to LTE: the new source takes over after four packets, the old is a stranger then.
func TestMovedFlow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		w.device.talk(10)
		moved := w.peer(netip.MustParseAddrPort("198.18.7.7:7000"), 0x2222)
		moved.ours = w.device.ours
		moved.talker = w.device.talker
		moved.talk(10)
		w.trunk.heard()
		w.session.Relatch(Device)
		time.Sleep(latchYield)
		sent := moved.talk(10)
		w.same("from the fourth on", w.trunk.heard(), sent[latchPackets-1:])
		back := w.trunk.talk(2)
		w.same("to the new place", moved.heard(), back)
		w.device.talk(2)
		w.same("the old place", w.trunk.heard(), nil)
	})
}

// While the known source speaks, nobody takes its place, even when the latch is open.
func TestRelatchYieldsToTheKnown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		w.device.talk(10)
		w.session.Relatch(Device)
		attacker := w.peer(netip.MustParseAddrPort("198.18.0.1:5555"), 0xbad)
		attacker.ours = w.device.ours
		w.trunk.heard()
		var sent [][]byte
		for range 240 { // the test network's queue holds 256
			sent = append(sent, w.device.talk(1)...)
			attacker.talk(1)
		}
		w.same("the known source", w.trunk.heard(), sent)
		time.Sleep(10 * time.Second) // it falls silent, but the window is over
		attacker.talk(50)
		w.same("the attacker", w.trunk.heard(), nil)
	})
}

// A re-INVITE with a new address moves the sound there at once.
func TestReofferMoves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		w.device.talk(10)
		w.trunk.talk(10)
		moved := w.peer(netip.MustParseAddrPort("198.18.7.7:7000"), 0x3333)
		moved.learn(w.session.Reoffer(Device, moved.sdp("8 101")))
		w.device.heard()
		w.trunk.heard()
		sent := w.trunk.talk(2)
		w.same("to the new address", moved.heard(), sent)
		w.same("to the old", w.device.heard(), nil)
		sent = moved.talk(5)
		w.same("from the new address", w.trunk.heard(), sent)
		w.device.talk(5)
		w.same("from the old", w.trunk.heard(), nil)
	})
}

// A sprayer with many sources cannot push a serious candidate out of the table.
func TestLatchTableHoldsTheBest(t *testing.T) {
	var l latch
	l.signal(netip.MustParseAddrPort("203.0.113.9:5000"))
	neighbour := netip.MustParseAddrPort("203.0.113.8:999")
	now := moment(time.Second)
	for i := range uint16(latchPackets) {
		for port := range uint16(50) {
			l.accept(netip.AddrPortFrom(netip.MustParseAddr("198.18.0.1"), 1000+port), 1, i, now)
		}
		l.accept(neighbour, 2, i, now)
		now += 20 * moment(time.Millisecond)
	}
	if l.locked != neighbour {
		t.Errorf("latched onto %v", l.locked)
	}
}
