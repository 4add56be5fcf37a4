package rtp

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"reveille/rtp/rtptest"
)

// A phone that would take a ringing leg over has gone before it could: the others that ring can be answered as before,
// whatever kind they are.
func TestStandInThatCameToNothing(t *testing.T) {
	for _, kind := range []string{"browser", "plain"} {
		bubble(t, func(t *testing.T) {
			w := secret(t, SRTPOff, "optional")
			gone := w.phone(w.peer(netip.AddrPortFrom(deviceIP, 8000), 0x9999), func(d *rtptest.DTLS) { d.Ufrag = "gone" })
			p := w.phone(w.device, nil)
			w.must(w.session.SetOffer(Trunk, w.trunk.sdp("8 101")))
			w.trunk.learn(w.session.Answer(Trunk))
			offer, err := w.session.OfferWebRTC(Device)
			w.must(err)
			plain, err := w.session.Offer(Device)
			w.must(err)
			body := gone.SDP(gone.sdp("8 101"))
			undo, err := w.session.StandIn(Device, body)
			w.must(err)
			_, err = w.session.Reoffer(Device, body)
			w.must(err)
			undo()
			again, err := w.session.OfferWebRTC(Device) // to one that comes late
			w.must(err)
			if kind == "plain" {
				other := w.peer(netip.AddrPortFrom(deviceIP, 8002), 0x8888)
				other.learn(plainly(plain), nil)
				w.must(w.session.SetAnswerTo(Device, plain, other.sdp("8 101")))
				w.session.Connect()
				sent := w.trunk.say(nil, 5)
				w.same("to the plain one", other.heard(), sent)
				return
			}
			w.answerTo(p, offer)
			w.must(p.Shake())
			synctest.Wait()
			w.crosses(p)
			if string(again) == string(offer) {
				t.Error("two phones have one offer")
			}
		})
	}
}
