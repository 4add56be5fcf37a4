package rtp

import (
	"testing"
	"time"

	"reveille/rtp/rtptest"
)

// A digit is played into a stream that the kernel relays: the stream comes back to the sockets for that long, without a
// packet lost, and then the kernel has it again.
func TestDigitInAStreamOfTheKernel(t *testing.T) {
	if !rtptest.OwnNetwork(t) {
		return
	}
	h := onLoopback(t)
	h.talk(2)
	h.must(h.session.Dial(Device, Digit{Event: 6, Duration: 60 * time.Millisecond}))
	if n := h.relay.fastStreams(); n != 1 {
		t.Fatalf("the kernel has %d directions while a digit is played", n)
	}
	events, ends, tick := 0, 0, time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for range 200 {
		h.device.send()
		b := make([]byte, 2048)
		_ = h.trunk.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, _, err := h.trunk.conn.ReadFromUDPAddrPort(b)
		h.must(err)
		if ssrcOf(b) != h.device.ssrc {
			t.Skip("the machine paused for longer than a stream may, so that the digit went by itself")
		}
		if r, ok := readEvent(b[:n]); n == eventSize && ok && b[1]&0x7f == 101 && r.event == 6 {
			if events++; r.end {
				ends++
			}
		} else if n != 172 {
			t.Fatalf("%d bytes came: % x", n, b[:16])
		}
		if seqOf(b) != h.device.seq {
			t.Fatalf("packet %d came in the place of %d", seqOf(b), h.device.seq)
		}
		if ends == endings {
			break
		}
		<-tick.C
	}
	if events != 5 || ends != 3 {
		t.Errorf("%d packets of the digit, %d of its end", events, ends)
	}
	h.talk(2)
	h.session.mu.Lock()
	defer h.session.mu.Unlock()
	if h.session.audio.path.ends[Device].keypad != nil {
		t.Error("the keypad is still in use")
	}
}
