package rtp

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/rtp/rtptest"
)

// shakenCall is an answered call with a phone that has its keys.
func shakenCall(t *testing.T, change func(*rtptest.DTLS)) (*world, *phone) {
	t.Helper()
	w, p := webCall(t, change)
	w.answerWeb(p)
	w.must(p.Shake())
	synctest.Wait()
	w.crosses(p)
	return w, p
}

// reinvite has a phone offer anew, with a direction, and takes our answer.
func (w *world) reinvite(p *phone, direction string) string {
	w.t.Helper()
	p.Setup = "actpass" // as every offer has it
	answer, err := w.session.Reoffer(Device, p.SDP(p.sdp("8 101", direction)))
	w.must(err)
	w.must(p.Hear(answer))
	return string(answer)
}

func TestHoldAndRefreshKeepTheAssociation(t *testing.T) {
	for _, setup := range []string{"active", "passive"} {
		for _, change := range []func(*rtptest.DTLS){
			func(*rtptest.DTLS) {},
			func(d *rtptest.DTLS) { d.Ufrag = "" },
			func(d *rtptest.DTLS) { d.TLSID = "abcdefghijklmnopqrstuvwxyz" },
		} {
			bubble(t, func(t *testing.T) {
				w, p := shakenCall(t, func(d *rtptest.DTLS) { d.Setup = setup; change(d) })
				keys, sent := w.session.audio.path.ends[Device].crypt, p.Sent
				first := w.reinvite(p, "sendonly")
				second := w.reinvite(p, "sendrecv")
				for _, line := range []string{"a=ice-ufrag:", "a=ice-pwd:", "a=setup:", "a=tls-id:", "a=fingerprint:"} {
					if one := attribute(first, line); one != attribute(second, line) || one == "" && line == "a=setup:" {
						t.Errorf("%s changes from %q to %q", line, one, attribute(second, line))
					}
				}
				if want := map[string]string{"active": "passive", "passive": "active"}[setup]; attribute(first, "a=setup:") != want {
					t.Errorf("the role becomes %s, not %s", attribute(first, "a=setup:"), want)
				}
				if (attribute(first, "a=tls-id:") != "") != (p.TLSID != "") {
					t.Errorf("a=tls-id:%s to one of %q", attribute(first, "a=tls-id:"), p.TLSID)
				}
				w.crosses(p)
				if got := w.session.audio.path.ends[Device].crypt; got.in != keys.in || got.out != keys.out || p.Sent != sent {
					t.Error("another association")
				}
				w.ask(p)
				w.crosses(p)
			})
		}
	}
}

// attribute is the value of a line.
func attribute(body, prefix string) string {
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), prefix); ok {
			return value
		}
	}
	return ""
}

// ask has the trunk's hold carried to the phone, and ended again.
func (w *world) ask(p *phone) {
	w.t.Helper()
	for _, direction := range []string{"sendonly", "sendrecv"} {
		proposal, err := w.session.Propose(Trunk, w.trunk.sdp("8 101", direction))
		w.must(err)
		offer, err := proposal.Offer()
		w.must(err)
		if attribute(string(offer), "a=setup:") != "actpass" {
			w.t.Errorf("offered\n%s", offer)
		}
		p.Setup = map[string]string{"active": "passive", "passive": "active"}[w.role()]
		_, err = proposal.Accept(p.SDP(p.sdp("8 101", map[string]string{"sendonly": "recvonly", "sendrecv": "sendrecv"}[direction])))
		w.must(err)
	}
}

// role is ours towards the device.
func (w *world) role() string {
	if w.session.audio.path.ends[Device].agent.(*guard).active {
		return "active"
	}
	return "passive"
}

// Another certificate is another association: the keys that there are count until it is up.
func TestAnotherFingerprintIsAnotherAssociation(t *testing.T) {
	for _, ufrag := range []string{"EsAw", ""} {
		bubble(t, func(t *testing.T) {
			w, p := webCall(t, func(d *rtptest.DTLS) { d.Ufrag = ufrag })
			w.trunk.talker.Seq = 65530 // the rollover counter becomes 1, and another association begins with 0
			w.answerWeb(p)
			w.must(p.Shake())
			synctest.Wait()
			w.crosses(p)
			p.Stop()
			p.conn.Close()
			synctest.Wait()
			anew := w.phone(w.peer(p.conn.Addr(), 0x7777), func(d *rtptest.DTLS) { d.Ufrag = ufrag })
			w.reinvite(anew, "sendrecv")
			if w.session.Encrypted(Device) == "" {
				t.Error("the former keys are gone before there are others")
			}
			w.must(anew.Shake())
			synctest.Wait()
			w.crosses(anew)
		})
	}
}

func TestHandoverBringsAnotherPhone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, p := shakenCall(t, nil)
		undo := w.session.Handover()
		_, err := w.session.OfferWebRTC(Device)
		w.must(err)
		w.trunk.say(nil, 3)
		_ = p.Send(p.talker.Next([]byte("still here")))
		w.same("from who is out", w.trunk.heard(), nil)
		w.same("to who is out", p.listened(), nil)
		undo()
		time.Sleep(3 * time.Second) // its next check
		w.crosses(p)
		w.session.Handover()
		offer, err := w.session.OfferWebRTC(Device)
		w.must(err)
		other := w.phone(w.peer(netip.AddrPortFrom(deviceIP, 8000), 0x9999), func(d *rtptest.DTLS) { d.Ufrag = "other" })
		w.answerTo(other, offer)
		w.must(other.Shake())
		synctest.Wait()
		w.crosses(other)
		_ = p.Send(p.talker.Next([]byte("still here")))
		w.same("from who is out", w.trunk.heard(), nil)
		w.session.Handover() // to one that is plain
		body, err := w.session.Offer(Device)
		w.must(err)
		plain := w.peer(netip.AddrPortFrom(deviceIP, 8002), 0x8888)
		plain.learn(plainly(body), nil)
		w.must(w.session.SetAnswerTo(Device, body, plain.sdp("8 101")))
		w.session.Connect()
		sent := w.trunk.say(nil, 5)
		w.same("to the plain one", plain.heard(), sent)
		if w.session.Encrypted(Device) != "" {
			t.Error("plain, and encrypted")
		}
	})
}

// Several phones ring, each with an offer of its own: the association is that of the one that answers.
func TestOneOfSeveralOffersIsAnswered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, p := webCall(t, nil)
		w.must(w.session.SetOffer(Trunk, w.trunk.sdp("8 101")))
		w.trunk.learn(w.session.Answer(Trunk))
		var offers [3][]byte
		for i := range offers {
			var err error
			offers[i], err = w.session.OfferWebRTC(Device)
			w.must(err)
			for _, other := range offers[:i] {
				if attribute(string(other), "a=ice-pwd:") == attribute(string(offers[i]), "a=ice-pwd:") || bytes.Equal(other, offers[i]) {
					t.Error("two offers have one password")
				}
			}
		}
		w.answerTo(p, offers[1])
		other := w.phone(w.peer(netip.AddrPortFrom(deviceIP, 8000), 0x9999), func(d *rtptest.DTLS) { d.Setup = "active" })
		w.must(other.Hear(offers[2]))
		other.Check(true)
		w.must(p.Shake())
		synctest.Wait()
		w.crosses(p)
		if len(other.Replies()) != 0 {
			t.Error("one that has not answered gets through")
		}
	})
}

func TestRTCPSharesThePortBothWays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, p := shakenCall(t, nil)
		up := func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), a.Port()+1) }
		trunkRTCP := w.peer(up(w.trunk.conn.Addr()), 0)
		report := sr(0x1111, 0x0000aaaabbbb0000)
		trunkRTCP.sendTo(w.trunk.ours.RTCP, report)
		synctest.Wait()
		got, err := p.Heard()
		w.must(err)
		w.same("to the phone", got, [][]byte{report})
		reply := rr(0x2222, 0x1111, 0xaaaabbbb, 0)
		w.must(p.Send(reply))
		w.same("from the phone", trunkRTCP.heard(), [][]byte{reply})
		if w.session.audio.sockets[Device].rtcp != nil {
			t.Error("a second port is open")
		}
	})
}

// A trunk may do it too: it hears the ringback, encrypted, before anyone answers.
func TestTrunkWithDTLS(t *testing.T) {
	for _, setup := range []string{"actpass", "passive"} {
		bubble(t, func(t *testing.T) {
			w := secret(t, SRTPOptional, "off")
			p := w.phone(w.trunk, func(d *rtptest.DTLS) { d.Ufrag, d.Setup = "", setup })
			w.must(w.session.SetOffer(Trunk, p.SDP(p.sdp("8 101"))))
			answer, err := w.session.Answer(Trunk)
			w.must(err)
			w.must(p.Hear(answer))
			p.learn(plainly(answer), nil)
			w.must(w.session.Ringback())
			time.Sleep(100 * time.Millisecond)
			if n := len(p.media()); n != 0 {
				t.Errorf("%d packets before the handshake", n)
			}
			w.must(p.Shake())
			time.Sleep(500 * time.Millisecond)
			if n := len(p.listened()); n < 20 {
				t.Errorf("%d packets of ringback", n)
			}
			w.device.learn(w.session.Offer(Device))
			w.must(w.session.SetAnswer(Device, w.device.sdp("8 101")))
			w.session.Connect()
			sent := p.say(10)
			w.same("trunk to device", w.device.heard(), sent)
			p.listened()
			sent = w.device.say(nil, 10)
			w.same("device to trunk", p.listened(), sent)
			if got := w.session.Encrypted(Trunk); got != "DTLS AES_CM_128_HMAC_SHA1_80" {
				t.Error(got)
			}
		})
	}
}

func TestTrunkWithoutSRTPIsRefusedDTLS(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := secret(t, SRTPOff, "off")
		p := w.phone(w.trunk, func(d *rtptest.DTLS) { d.Ufrag = "" })
		if err := w.session.SetOffer(Trunk, p.SDP(p.sdp("8 101"))); err == nil {
			t.Error("taken")
		}
	})
}

// A phone takes the leg of another over (RFC 3891) with an offer of its own, also where SRTP is off.
func TestStandInWithDTLS(t *testing.T) {
	for _, security := range []string{"optional", "off"} {
		bubble(t, func(t *testing.T) {
			w := secret(t, SRTPOff, security)
			p := w.phone(w.device, nil)
			w.must(w.session.SetOffer(Trunk, w.trunk.sdp("8 101")))
			w.trunk.learn(w.session.Answer(Trunk))
			_, err := w.session.OfferWebRTC(Device)
			w.must(err)
			body := p.SDP(p.sdp("8 101"))
			_, err = w.session.StandIn(Device, body)
			w.must(err)
			answer, err := w.session.Reoffer(Device, body)
			w.must(err)
			w.must(p.Hear(answer))
			p.learn(plainly(answer), nil)
			w.session.Connect()
			w.must(p.Shake())
			synctest.Wait()
			w.crosses(p)
		})
	}
}

// Where SRTP is required, fingerprints go only where nobody can exchange them.
func TestDTLSIsOfferedWhereItMay(t *testing.T) {
	for name, test := range map[string]struct {
		security   string
		secret     bool
		webrtc, ok bool // what is offered
	}{
		"off": {"off", true, true, false}, "optional": {"optional", true, true, true}, "required": {"required", true, true, true},
		"off, by plain SIP": {"off", false, true, false}, "optional, by plain SIP": {"optional", false, true, true},
		"required, by plain SIP": {"required", false, false, false},
	} {
		bubble(t, func(t *testing.T) {
			w := secret(t, SRTPOff, test.security)
			w.session.Secret(Device, test.secret)
			w.must(w.session.SetOffer(Trunk, w.trunk.sdp("8 101")))
			for what, got := range map[string]error{
				"WebRTC": fault(w.session.OfferWebRTC(Device)), "DTLS": fault(w.session.OfferDTLS(Device)),
			} {
				if want := map[string]bool{"WebRTC": test.webrtc, "DTLS": test.ok}[what]; (got == nil) != want {
					t.Errorf("%s: %s: %v", name, what, got)
				}
			}
		})
	}
}

func fault(_ []byte, err error) error { return err }

// Where RTCP has a port of its own, that has an association of its own (RFC 5764 §4.1).
func TestRTCPPortHasItsOwnAssociation(t *testing.T) {
	for _, setup := range []string{"active", "passive"} {
		bubble(t, func(t *testing.T) {
			w, p := webCall(t, func(d *rtptest.DTLS) { d.Ufrag, d.NoMux, d.Setup = "", true, setup })
			up := func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), a.Port()+1) }
			control := w.phone(w.peer(up(p.conn.Addr()), 0), func(d *rtptest.DTLS) { d.Ufrag, d.RTP, d.Setup = "", p.DTLS, setup })
			trunkRTCP := w.peer(up(w.trunk.conn.Addr()), 0)
			w.must(w.session.SetOffer(Trunk, w.trunk.sdp("8 101")))
			w.trunk.learn(w.session.Answer(Trunk))
			offer, err := w.session.OfferDTLS(Device)
			w.must(err)
			w.must(control.Hear(offer))
			w.answerTo(p, offer)
			shaken := make(chan error)
			go func() { shaken <- control.Shake() }()
			w.must(p.Shake())
			w.must(<-shaken)
			synctest.Wait()
			w.crosses(p)
			report := sr(0x1111, 0x0000aaaabbbb0000)
			trunkRTCP.sendTo(w.trunk.ours.RTCP, report)
			synctest.Wait()
			got, err := control.Heard()
			w.must(err)
			w.same("to the phone", got, [][]byte{report})
			reply := rr(0x2222, 0x1111, 0xaaaabbbb, 0)
			w.must(control.Send(reply))
			w.same("from the phone", trunkRTCP.heard(), [][]byte{reply})
			w.reinvite(p, "sendrecv")
			w.must(control.Send(reply))
			w.same("after a refresh", trunkRTCP.heard(), [][]byte{reply})
		})
	}
}
