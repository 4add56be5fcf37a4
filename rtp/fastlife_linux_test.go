package rtp

import (
	"testing"
	"time"

	"reveille/rtp/rtptest"
)

// again has the kernel relay both directions once more, and nothing missing.
func (h *highway) again(why string) {
	h.t.Helper()
	h.talk(2)
	if s := h.session.Stats(); s.Trunk.Packets != uint64(h.trunk.seq) || s.Device.Packets != uint64(h.device.seq) || s.Trunk.Lost+s.Device.Lost != 0 {
		h.t.Errorf("%s: %d and %d packets were sent, and the figures are %+v", why, h.trunk.seq, h.device.seq, s)
	}
}

// streams says how many directions the kernel must have now.
func (h *highway) streams(want int, why string) {
	h.t.Helper()
	if n := h.relay.fastStreams(); n != want {
		h.t.Errorf("%s: the kernel has %d directions, want %d", why, n, want)
	}
}

// Whatever changes the call takes it back from the kernel first: not one packet goes the old way.
func TestFastPathFollowsTheCall(t *testing.T) {
	if !rtptest.OwnNetwork(t) {
		return
	}
	h := onLoopback(t)
	h.again("connected")
	was := h.device.conn
	h.device.conn = rtptest.ListenUDP(t, "127.0.0.1:5001")
	_, err := h.session.Reoffer(Device, body(h.device.addr(), "8 96", "rtpmap:96 telephone-event/8000"))
	h.must(err)
	h.streams(0, "re-INVITE")
	h.again("the phone has moved")

	_, err = h.session.Reoffer(Trunk, body(h.trunk.addr(), "8 101", "inactive"))
	h.must(err)
	h.streams(0, "hold")
	h.device.send()
	_ = h.trunk.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, _, err := h.trunk.conn.ReadFromUDPAddrPort(make([]byte, 2048)); err == nil {
		t.Errorf("%d bytes came while on hold", n)
	}
	_, err = h.session.Reoffer(Trunk, body(h.trunk.addr(), "8 101"))
	h.must(err)
	h.again("resumed")

	h.session.Relatch(Device)
	h.streams(0, "the phone's flow has moved")
	undo := h.session.Handover()
	undo()
	h.streams(0, "the device is exchanged")
	h.again("put back")

	_ = was.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	for last := uint16(0); ; {
		n, _, err := was.ReadFromUDPAddrPort(make([]byte, 2048))
		if err != nil {
			break
		}
		t.Errorf("%d bytes came to the phone's old address, after %d", n, last)
	}
	h.session.Close()
	h.streams(0, "over")
	h.trunk.send() // nobody is there
}

// What a stranger sends to the ports of a call that the kernel relays is dropped and counted, and he gets nothing; RTCP
// goes its way; the kernel goes on.
func TestFastPathStrangers(t *testing.T) {
	if !rtptest.OwnNetwork(t) {
		return
	}
	h := onLoopback(t)
	h.talk(2)
	stranger := &driver{t: t, conn: rtptest.ListenUDP(t, "127.0.0.1:6000"), ours: h.trunk.ours, ssrc: 1, seq: h.trunk.seq}
	for range 20 {
		stranger.send()
	}
	h.talk(2)
	if _, err := h.trunk.conn.WriteToUDPAddrPort([]byte("garbage"), h.trunk.ours); err != nil {
		t.Fatal(err)
	}
	for h.session.Stats().Trunk.Invalid == 0 {
		h.talk(2)
	}
	h.streams(2, "strangers and garbage")
	s := h.session.Close()
	if s.Trunk.Dropped != 20 || s.Trunk.Invalid != 1 || s.Trunk.Packets != uint64(h.trunk.seq) || s.Device.Packets != uint64(h.device.seq) {
		t.Errorf("%d and %d packets were sent: %+v", h.trunk.seq, h.device.seq, s)
	}
	_ = stranger.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, from, err := stranger.conn.ReadFromUDPAddrPort(make([]byte, 2048)); err == nil {
		t.Errorf("%d bytes came from %v to a stranger", n, from)
	}
}

// A fragment goes through the system and the socket; the stream does so too for a while, and all of it is counted.
func TestFastPathFragments(t *testing.T) {
	if !rtptest.OwnNetwork(t) {
		return
	}
	h := onLoopback(t)
	rtptest.IP(t, "link", "set", "lo", "mtu", "1280")
	h.talk(2)
	h.trunk.seq++
	long := voice(8, h.trunk.ssrc, h.trunk.seq, uint32(h.trunk.seq)*160, 1400)
	if _, err := h.trunk.conn.WriteToUDPAddrPort(long, h.trunk.ours); err != nil {
		t.Fatal(err)
	}
	_ = h.device.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, _, err := h.device.conn.ReadFromUDPAddrPort(make([]byte, 2048)); n != len(long) {
		t.Fatalf("%d bytes, want %d (%v)", n, len(long), err)
	}
	h.streams(1, "a fragment")
	h.again("after a fragment")
}
