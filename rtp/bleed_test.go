package rtp

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"
)

// Who listens in a muted phone's place hears nothing: its RTCP tells that it is still there. It may come by another port of
// its NAT, and from anywhere once its RTCP has ended too.
func TestSilenceOfAPhoneThatReportsLetsNoStrangerIn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		w.converse(12*time.Second, w.trunk, w.device)
		stranger := w.peer(netip.MustParseAddrPort("198.18.0.1:5555"), 0xbad)
		stranger.ours = w.device.ours
		_, control := w.control()
		for range 12 { // a minute
			control.tell(&rtcp.ReceiverReport{SSRC: 0x2222}, rtcp.NewCNAMESourceDescription(0x2222, "phone"))
			w.converse(5*time.Second, w.trunk, stranger)
		}
		w.same("the stranger", stranger.heard(), nil)
		again := w.peer(netip.AddrPortFrom(deviceIP, 6666), 0x2222)
		again.ours = w.device.ours
		again.talk(latchPackets)
		w.trunk.heard()
		sent := again.talk(3)
		w.same("the phone from another port", w.trunk.heard(), sent)

		for range 8 {
			control.tell(&rtcp.ReceiverReport{SSRC: 0x2222}, rtcp.NewCNAMESourceDescription(0x2222, "phone"))
			w.converse(5*time.Second, w.trunk)
		}
		w.converse(20*time.Second, w.trunk) // it has gone to another network
		moved := w.peer(netip.MustParseAddrPort("198.18.7.7:7000"), 0x2222)
		moved.ours = w.device.ours
		moved.talk(latchPackets)
		w.trunk.heard()
		sent = moved.talk(3)
		w.same("the phone from another network", w.trunk.heard(), sent)
	})
}

// A muted phone that is known to have moved is let in at once, though it has reported from its old place a moment ago.
func TestMutedPhoneThatMovesIsHeard(t *testing.T) {
	for _, after := range []time.Duration{time.Second, 3 * time.Second} { // before the silence is told, and after
		bubble(t, func(t *testing.T) {
			w := newWorld(t, nil)
			w.connect()
			w.converse(12*time.Second, w.trunk, w.device)
			_, control := w.control()
			w.converse(18*time.Second, w.trunk)
			control.tell(&rtcp.ReceiverReport{SSRC: 0x2222}, rtcp.NewCNAMESourceDescription(0x2222, "phone"))
			w.converse(after, w.trunk)
			w.session.Relatch(Device)
			w.converse(4*time.Second, w.trunk)
			moved := w.peer(netip.MustParseAddrPort("198.18.7.7:7000"), 0x2222)
			moved.ours = w.device.ours
			moved.talk(latchPackets)
			w.trunk.heard()
			sent := moved.talk(3)
			w.same("the phone from another network", w.trunk.heard(), sent)
		})
	}
}

// Packets of who cannot be the peer do not begin the window that the peer has.
func TestStrangersDoNotUseTheWindowUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.ring("8 101")
		w.session.SignalledFrom(Device, deviceIP)
		w.must(w.session.SetAnswer(Device, body(netip.MustParseAddrPort("10.0.0.5:5000"), "8 101")))
		w.session.Connect()
		stranger := w.peer(netip.MustParseAddrPort("198.18.0.1:5555"), 0xbad)
		stranger.ours = w.device.ours
		for range 20 { // it sends to all ports, over and over
			stranger.talk(1)
			time.Sleep(time.Second)
		}
		sent := w.device.talk(10)
		w.same("the phone", w.trunk.heard(), sent[latchPackets-1:])
	})
}

// The video of a call is no more a stranger's than its audio: it comes from near the description or the SIP.
func TestVideoLatchesWhereTheSIPComesFrom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		trunk, device := w.camera(w.trunk, 99), w.camera(w.device, 104)
		w.session.SignalledFrom(Trunk, trunkIP)
		w.must(w.session.SetOffer(Trunk, trunk.with(w.trunk.sdp("8 101"), "recvonly", 99)))
		ours, err := w.session.Answer(Trunk)
		trunk.learnVideo(w.trunk, ours, err)
		offer, err := w.session.Offer(Device)
		device.learnVideo(w.device, offer, err)
		w.must(w.session.SetAnswerTo(Device, offer, device.with(w.device.sdp("8 101"), "sendrecv", 104)))
		w.session.Connect()
		stranger := w.peer(netip.MustParseAddrPort("198.18.0.1:5555"), 0xbad)
		stranger.ours, stranger.talker.Payload = trunk.ours, 99
		stranger.talk(50)
		sent := device.talk(5)
		for _, p := range sent {
			p[1] = p[1]&0x80 | 99
		}
		w.same("the stranger", stranger.heard(), nil)
		w.same("the trunk", trunk.heard(), sent)
	})
}

// A peer elsewhere cannot have us send to programs of this machine that listen on its loopback addresses only.
func TestLoopbackIsNobodyElse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		loopback := netip.MustParseAddrPort("127.0.0.53:53")
		refused := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, ErrNotAcceptable) || !strings.Contains(err.Error(), "loopback") {
				t.Errorf("%s: %v", what, err)
			}
		}
		refused("RTP", w.session.SetOffer(Trunk, body(loopback, "8")))
		refused("RTCP", w.session.SetOffer(Trunk, w.trunk.sdp("8", "rtcp:53 IN IP4 127.0.0.53")))
		w.session.SignalledFrom(Trunk, netip.MustParseAddr("127.0.0.1")) // a program of this machine
		w.must(w.session.SetOffer(Trunk, body(loopback, "8")))

		w, trunk, _ := videoCall(t)
		line := fmt.Sprintf("m=video %d RTP/AVP 99\r\nc=IN IP4 %v\r\na=rtpmap:99 H264/90000\r\n", loopback.Port(), loopback.Addr())
		answer, err := w.session.Reoffer(Trunk, append(w.trunk.sdp("8 101"), line...))
		w.must(err)
		if trunk.learnVideo(w.trunk, answer, nil); trunk.ours != nil {
			t.Errorf("video is taken\n%s", answer)
		}
	})
}

// A phone that has done without ICE for a while is sent nothing for long once it has ICE again and asks for nothing by it.
func TestConsentIsWatchedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, p := webCall(t, nil)
		w.answerWeb(p)
		w.must(p.Shake())
		synctest.Wait()
		w.crosses(p)
		ufrag := p.Ufrag
		p.Rename("", "")
		_, err := w.session.Reoffer(Device, p.SDP(p.sdp("8 101")))
		w.must(err)
		time.Sleep(2 * consentTime)
		w.events()
		p.Rename(ufrag, "anotherPasswordOf22Chars")
		_, err = w.session.Reoffer(Device, p.SDP(p.sdp("8 101")))
		w.must(err)
		time.Sleep(consentTime + time.Second)
		if e := w.last(NoMedia); !strings.Contains(e.Cause, "no ICE check") {
			t.Errorf("%+v", e)
		}
	})
}
