package rtp

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reveille/rtp/rtptest"
)

// A WebRTC phone gives a call up as soon as its checks get no answer: while another one is tried in its place they do, and
// when it has the call back it can be heard. Its consent counts from then on.
func TestPhoneThatIsSetAsideKeepsItsICE(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, p := shakenCall(t, nil)
		var away atomic.Bool
		w.net.Drop = func(from, _ netip.AddrPort, packet []byte) bool {
			return away.Load() && from == p.conn.Addr() && packet[0] < 4
		}
		undo := w.session.Handover()
		_, err := w.session.OfferWebRTC(Device)
		w.must(err)
		time.Sleep(time.Second)
		p.Replies()
		time.Sleep(2 * consentTime)
		if n := len(p.Replies()); n < 20 {
			t.Errorf("%d of its 24 checks were answered", n)
		}
		w.trunk.say(nil, 3)
		w.same("media to who is out", p.listened(), nil)
		undo()
		w.crosses(p)
		away.Store(true)
		time.Sleep(consentTime + time.Second)
		w.trunk.say(nil, 5)
		w.same("after its consent has ended", p.listened(), nil)
		away.Store(false)
		time.Sleep(3 * time.Second)
		w.session.Handover()
		body, err := w.session.Offer(Device)
		w.must(err)
		plain := w.peer(netip.AddrPortFrom(deviceIP, 8002), 0x8888)
		plain.learn(plainly(body), nil)
		w.must(w.session.SetAnswerTo(Device, body, plain.sdp("8 101")))
		w.session.Connect()
		time.Sleep(time.Second)
		p.Replies()
		time.Sleep(10 * time.Second)
		if n := len(p.Replies()); n > 0 {
			t.Errorf("%d checks of who is out for good were answered", n)
		}
		synctest.Wait()
	})
}

// A phone is set aside before its handshake is done: that goes on, so that there are keys when it has the call back.
func TestHandshakeOfAPhoneThatIsSetAside(t *testing.T) {
	for _, change := range []func(*rtptest.DTLS){
		func(*rtptest.DTLS) {},
		func(d *rtptest.DTLS) { d.Ufrag = "" },
		func(d *rtptest.DTLS) { d.Setup = "passive" },
		func(d *rtptest.DTLS) { d.Ufrag, d.Setup = "", "passive" },
	} {
		for _, away := range []time.Duration{5 * time.Second, 40 * time.Second} {
			bubble(t, func(t *testing.T) {
				w, p := webCall(t, change)
				var slow atomic.Bool
				w.net.Drop = func(_, _ netip.AddrPort, packet []byte) bool { return slow.Load() && packet[0] >= 20 && packet[0] < 64 }
				w.answerWeb(p)
				slow.Store(true)
				shaken := make(chan error, 1)
				go func() { shaken <- p.Shake() }()
				time.Sleep(time.Second)
				undo := w.session.Handover()
				_, err := w.session.Offer(Device)
				w.must(err)
				slow.Store(false)
				time.Sleep(away)
				undo()
				w.must(<-shaken)
				time.Sleep(3 * time.Second)
				w.crosses(p)
			})
		}
	}
}

// A phone that takes its own call over, and describes the address that it had, is heard.
func TestPhoneThatFollowsItselfIsHeard(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		w.device.talk(10)
		w.session.Handover()
		offer, err := w.session.Offer(Device)
		w.must(err)
		w.must(w.session.SetAnswerTo(Device, offer, w.device.sdp("8 101")))
		w.session.Connect()
		w.trunk.heard()
		sent := w.device.talk(10)
		w.same("the trunk hears", w.trunk.heard(), sent)
		sent = w.trunk.talk(3)
		w.same("the device hears", w.device.heard(), sent)
	})
}
