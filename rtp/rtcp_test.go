package rtp

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

// sr and rr are RTCP packets.
func sr(ssrc uint32, ntp uint64) []byte {
	p := make([]byte, 28)
	p[0], p[1], p[3] = 0x80, 200, 6
	binary.BigEndian.PutUint32(p[4:], ssrc)
	binary.BigEndian.PutUint64(p[8:], ntp)
	return p
}

func rr(ssrc, about, lsr, dlsr uint32) []byte {
	p := make([]byte, 32)
	p[0], p[1], p[3] = 0x81, 201, 7
	binary.BigEndian.PutUint32(p[4:], ssrc)
	binary.BigEndian.PutUint32(p[8:], about)
	p[12], p[15] = 64, 9 // a quarter lost, nine in all
	binary.BigEndian.PutUint32(p[24:], lsr)
	binary.BigEndian.PutUint32(p[28:], dlsr)
	return p
}

func TestRTCP(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		w.trunk.talk(5)
		w.device.talk(5)
		w.trunk.heard()
		w.device.heard()
		up := func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), a.Port()+1) }
		trunk, device := w.peer(up(w.trunk.conn.Addr()), 0), w.peer(up(w.device.conn.Addr()), 0)

		report := sr(0x1111, 0x0000aaaabbbb0000)
		trunk.sendTo(w.trunk.ours.RTCP, report)
		w.same("sender report", device.heard(), [][]byte{report})
		time.Sleep(80 * time.Millisecond) // the device's path and its own delay
		reply := rr(0x2222, 0x1111, 0xaaaabbbb, 65536/50)
		device.sendTo(w.device.ours.RTCP, reply)
		w.same("receiver report", trunk.heard(), [][]byte{reply})
		s := w.session.Stats().Device
		if s.RTTMS < 59.9 || s.RTTMS > 60.1 || s.FarLost != 9 || s.FarLossFraction != 0.25 {
			t.Errorf("%+v", s)
		}

		// Garbage and strangers do not pass.
		stranger := w.peer(netip.MustParseAddrPort("203.0.113.200:6001"), 0)
		stranger.sendTo(w.device.ours.RTCP, reply)
		device.sendTo(w.device.ours.RTCP, reply[:30])
		device.sendTo(w.device.ours.RTCP, []byte("hello, world"))
		w.same("garbage", trunk.heard(), nil)
		if s := w.session.Stats().Device; s.Dropped != 1 || s.Invalid != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// A device behind NAT sends RTCP from a port that nobody could know: it is believed with the RTP's SSRC and host.
func TestRTCPLatchesWithRTP(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.ring("8 101")
		w.must(w.session.SetAnswer(Device, body(netip.MustParseAddrPort("10.0.0.5:5000"), "8 101")))
		w.session.Connect()
		trunk := w.peer(netip.AddrPortFrom(trunkIP, 4001), 0)
		control := w.peer(netip.AddrPortFrom(deviceIP, 61001), 0)
		report := sr(0x2222, 1)
		control.sendTo(w.device.ours.RTCP, report)
		w.same("before the latch", trunk.heard(), nil)
		w.device.talk(4)
		control.sendTo(w.device.ours.RTCP, sr(0x6666, 1))
		w.same("another's SSRC", trunk.heard(), nil)
		control.sendTo(w.device.ours.RTCP, report)
		w.same("latched", trunk.heard(), [][]byte{report})
		trunk.sendTo(w.trunk.ours.RTCP, report)
		w.same("back", control.heard(), [][]byte{report})
	})
}

// One side has RTP and RTCP on one port, the other on two.
func TestMux(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.ring("8 101")
		if !w.device.ours.Mux || w.trunk.ours.Mux {
			t.Errorf("rtcp-mux offered to the device %v, to the trunk %v", w.device.ours.Mux, w.trunk.ours.Mux)
		}
		w.must(w.session.SetAnswer(Device, w.device.sdp("8 101", "rtcp-mux")))
		w.session.Connect()
		w.trunk.talk(4)
		w.device.talk(4)
		w.device.heard()
		w.trunk.heard()
		trunk := w.peer(netip.AddrPortFrom(trunkIP, 4001), 0)
		report := sr(0x2222, 1)
		w.device.send(report)
		w.same("from the mux side", trunk.heard(), [][]byte{report})
		w.same("RTCP among RTP", w.trunk.heard(), nil)
		trunk.sendTo(w.trunk.ours.RTCP, report)
		w.same("to the mux side", w.device.heard(), [][]byte{report})
		w.trunk.send(report) // no rtcp-mux there: invalid
		if s := w.session.Stats(); s.Device.Packets != 4 || w.session.Close().Trunk.Invalid != 1 {
			t.Errorf("%+v", s)
		}
	})
}
