package rtp

import (
	"bytes"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/dtls/v3"

	"reveille/rtp/rtptest"
)

// phone is a device, or a trunk, with DTLS-SRTP.
type phone struct {
	*peer
	*rtptest.DTLS
}

// webCall is a world whose device is a WebRTC phone; nothing is offered yet.
func webCall(t *testing.T, change func(*rtptest.DTLS)) (*world, *phone) {
	t.Helper()
	w := secret(t, SRTPOptional, "optional")
	return w, w.phone(w.device, change)
}

// phone gives a peer DTLS, and ICE.
func (w *world) phone(p *peer, change func(*rtptest.DTLS)) *phone {
	d := &rtptest.DTLS{Conn: p.conn, Ufrag: "EsAw", Pwd: "bP+XJMM09aR8AiX1jdukzR6Y", Priority: 1000}
	if change != nil {
		change(d)
	}
	w.t.Cleanup(func() {
		d.Stop()
		p.conn.Close()
	})
	return &phone{p, d.Begin()}
}

// offersDTLS offers the device DTLS without ICE, which hears of it.
func (w *world) offersDTLS(p *phone) []byte {
	w.t.Helper()
	w.must(w.session.SetOffer(Trunk, w.trunk.sdp("8 101")))
	w.trunk.learn(w.session.Answer(Trunk))
	offer, err := w.session.OfferDTLS(Device)
	w.must(err)
	w.must(p.Hear(offer))
	return offer
}

// answerWeb offers the device DTLS and takes its answer.
func (w *world) answerWeb(p *phone) {
	w.t.Helper()
	w.must(w.session.SetOffer(Trunk, w.trunk.sdp("8 101")))
	w.trunk.learn(w.session.Answer(Trunk))
	offer := w.session.OfferWebRTC
	if p.Ufrag == "" {
		offer = w.session.OfferDTLS
	}
	body, err := offer(Device)
	w.must(err)
	w.answerTo(p, body)
}

// answerTo has a phone answer an offer.
func (w *world) answerTo(p *phone, offer []byte) {
	w.t.Helper()
	if p.Setup == "actpass" {
		p.Setup = "active"
	}
	w.must(p.Hear(offer))
	p.learn(plainly(offer), nil)
	w.must(w.session.SetAnswerTo(Device, offer, p.SDP(p.sdp("8 101"))))
	w.session.Connect()
}

// say sends speech by a phone, and gives the plain packets.
func (p *phone) say(n int) [][]byte {
	p.w.t.Helper()
	var plain [][]byte
	for range n {
		packet := p.talker.Next(bytes.Repeat([]byte{byte(p.talker.Seq)}, 160))
		plain = append(plain, packet)
		p.w.must(p.Send(packet))
		time.Sleep(20 * time.Millisecond)
	}
	synctest.Wait()
	return plain
}

// listened is the RTP that has come to a phone.
func (p *phone) listened() (packets [][]byte) {
	p.w.t.Helper()
	synctest.Wait()
	all, err := p.Heard()
	p.w.must(err)
	for _, packet := range all {
		if !isRTCP(packet) {
			packets = append(packets, packet)
		}
	}
	return packets
}

// crosses holds that speech crosses the call both ways, bit for bit.
func (w *world) crosses(p *phone) {
	w.t.Helper()
	sent := w.trunk.say(nil, 20)
	w.same("trunk to phone", p.listened(), sent)
	sent = p.say(20)
	w.same("phone to trunk", w.trunk.heard(), sent)
}

// last is the latest event of a kind.
func (w *world) last(kind EventKind) (found Event) {
	for _, e := range w.events() {
		if e.Kind == kind {
			found = e
		}
	}
	return found
}

func TestWebRTCPhoneAndPlainTrunkHearEachOtherBitForBit(t *testing.T) {
	for profile, name := range map[dtls.SRTPProtectionProfile]string{
		dtls.SRTP_AES128_CM_HMAC_SHA1_80: "AES_CM_128_HMAC_SHA1_80", dtls.SRTP_AEAD_AES_128_GCM: "AEAD_AES_128_GCM", dtls.SRTP_AEAD_AES_256_GCM: "AEAD_AES_256_GCM",
	} {
		for _, setup := range []string{"active", "passive"} {
			for _, ufrag := range []string{"EsAw", ""} {
				t.Run(name+" "+setup+" "+ufrag, func(t *testing.T) {
					bubble(t, func(t *testing.T) {
						w, p := webCall(t, func(d *rtptest.DTLS) {
							d.Profiles, d.Setup, d.Ufrag = []dtls.SRTPProtectionProfile{profile}, setup, ufrag
						})
						w.answerWeb(p)
						w.must(p.Shake())
						synctest.Wait()
						w.crosses(p)
						if e := w.last(Secured); e.Side != Device || e.Cause != "DTLS "+name || w.session.Encrypted(Device) != e.Cause {
							t.Errorf("%+v, %s", e, w.session.Encrypted(Device))
						}
						s := w.session.Stats()
						if s.Trunk.Packets != 20 || s.Device.Packets != 20 || s.Trunk.Dropped+s.Device.Dropped+s.Device.Invalid != 0 {
							t.Errorf("%+v", s)
						}
					})
				})
			}
		}
	}
}

func TestTheBestProfileOfBothIsTaken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, p := webCall(t, func(d *rtptest.DTLS) { d.Profiles = profiles() })
		w.answerWeb(p)
		w.must(p.Shake())
		if p.Profile != dtls.SRTP_AEAD_AES_128_GCM {
			t.Error(p.Profile)
		}
	})
}

func TestBeforeTheHandshakeNothingPasses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, p := webCall(t, nil)
		w.answerWeb(p)
		p.Check(true)
		synctest.Wait()
		for range 5 {
			w.must(p.Raw(p.talker.Next([]byte("plain"))))
		}
		w.trunk.say(nil, 5)
		w.same("to the trunk", w.trunk.heard(), nil)
		w.same("to the phone", p.listened(), nil)
		if s := w.session.Stats(); s.Device.Dropped != 5 || s.Device.Packets != 0 {
			t.Errorf("%+v", s.Device)
		}
		if w.session.Encrypted(Device) != "" {
			t.Error("encrypted without keys")
		}
		w.must(p.Shake())
		synctest.Wait()
		w.crosses(p)
	})
}

func TestNothingOfAHandshakeIsLeftAtTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, p := webCall(t, nil)
		w.answerWeb(p)
		w.must(p.Shake())
		synctest.Wait()
		got := p.Got
		w.session.Close()
		synctest.Wait()
		if p.Got != got+1 {
			t.Errorf("%d packets of farewell", p.Got-got)
		}
	})
}

// A browser has several ways to us, and sends by any that has answered before it nominates one.
func TestMediaByAllWaysThatWereChecked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, p := webCall(t, nil)
		w.must(w.session.SetOffer(Trunk, w.trunk.sdp("8 101")))
		w.trunk.learn(w.session.Answer(Trunk))
		offer, err := w.session.OfferWebRTC(Device)
		w.must(err)
		w.answerTo(p, offer)
		w.must(p.Shake())
		synctest.Wait()
		w.crosses(p)
		another := w.phone(w.peer(netip.MustParseAddrPort("198.51.100.9:9000"), 0x2222), func(d *rtptest.DTLS) { d.Setup, d.Priority = "active", 10 })
		w.must(another.Hear(offer))
		another.Adopt(p.DTLS)
		another.ours, another.talker = p.ours, p.talker
		another.say(5)
		w.same("without a check", w.trunk.heard(), nil)
		another.Check(false)
		synctest.Wait()
		sent := another.say(5)
		w.same("by the other way", w.trunk.heard(), sent)
		sent = w.trunk.say(nil, 5)
		w.same("back by the first", p.listened(), sent)
	})
}
