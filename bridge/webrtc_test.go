package bridge_test

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"reveille/rtp/rtptest"
	"reveille/sip/siptest"
)

// browser is a WebRTC phone that is awake, by secure WebSocket. It refuses what takes says no to.
func (w *world) browser(theirs *tls.Config, takes func(offer string) bool) (*phone, func() *rtptest.Web) {
	var web *rtptest.Web
	p := w.awake(phoneOptions{script: choosy(takes), change: func(o *siptest.PhoneOptions) {
		o.Transport, o.Bridge, o.TLS = "wss", bridgeWSS, theirs
		o.Audio = func(a *siptest.Audio) {
			web = rtptest.NewWeb(a.Write)
			a.Protect(web, "")
		}
	}})
	return p, func() *rtptest.Web { return web }
}

// choosy answers the offers that it takes after a second, and refuses the others at once.
func choosy(takes func(offer string) bool) func(*siptest.Call) {
	return func(c *siptest.Call) {
		if !takes(string(c.Invite.Body)) {
			c.Respond(488, nil)
			return
		}
		siptest.AnswerAfter(time.Second)(c)
	}
}

// A WebRTC phone has nothing but DTLS-SRTP, whatever the configuration says of SRTP.
func TestWebRTCPhoneGetsDTLSWhateverIsConfigured(t *testing.T) {
	for _, security := range []string{"off", "optional", "required"} {
		change, theirs := overTLS(t, "", func(s *setup) { s.media.DeviceSRTP = security })
		call(t, change, func(w *world) {
			p, web := w.browser(theirs, func(string) bool { return true })
			c := w.invite(siptest.Invitation{})
			w.await(c, 10*time.Second, "200")
			taken := w.taken(p)
			offer := string(taken.Invite.Body)
			for _, line := range []string{" UDP/TLS/RTP/SAVPF ", "a=ice-lite", "a=group:BUNDLE 0", "a=mid:0", "a=rtcp-mux", "a=setup:actpass", "a=end-of-candidates"} {
				if !strings.Contains(offer, line) {
					t.Errorf("%s: no %s in\n%s", security, line, offer)
				}
			}
			time.Sleep(time.Second)
			w.talk(c, taken)
			web().Stop()
			c.Bye()
			w.await(taken, time.Second, "BYE")
			w.ended("caller_hung_up", 200)
		})
	}
}

// A phone by WebSocket that is no browser is called as any other once it has refused, and the next time at once.
func TestPhoneByWebSocketThatKnowsNoDTLSIsOfferedTheRest(t *testing.T) {
	change, theirs := overTLS(t, "", nil)
	call(t, change, func(w *world) {
		p := w.awake(phoneOptions{script: choosy(func(offer string) bool { return !strings.Contains(offer, "UDP/TLS") }),
			change: func(o *siptest.PhoneOptions) {
				o.Transport, o.Bridge, o.TLS = "wss", bridgeWSS, theirs
				o.Audio = func(a *siptest.Audio) { a.Protect(&rtptest.SRTP{Seed: 4}, "") }
			}})
		for i := range 2 {
			c := w.invite(siptest.Invitation{})
			w.await(c, 10*time.Second, "200")
			taken := w.taken(p)
			if i == 0 {
				if offer := string(taken.Invite.Body); !strings.Contains(offer, "UDP/TLS") {
					t.Errorf("offered first\n%s", offer)
				}
				taken = w.taken(p)
			}
			if !taken.Audio.Protected() {
				t.Errorf("offered\n%s", taken.Invite.Body)
			}
			w.talk(c, taken)
			c.Bye()
			w.await(taken, time.Second, "BYE")
			time.Sleep(time.Second)
		}
	})
}

// A phone by TLS is offered DTLS-SRTP before RTP/SAVP with keys, which some that insist on DTLS take and answer without one.
func TestOrderOfOffersByTLS(t *testing.T) {
	change, theirs := overTLS(t, "", nil)
	call(t, change, func(w *world) {
		var seen []string
		w.secure(theirs, 4, func(c *siptest.Call) {
			_, media, _ := strings.Cut(string(c.Invite.Body), "m=audio ")
			seen = append(seen, strings.Fields(media)[1])
			c.Respond(488, nil)
		})
		w.await(w.invite(siptest.Invitation{}), 10*time.Second, "488")
		equal(t, "offers", strings.Join(seen, " "), "RTP/AVP UDP/TLS/RTP/SAVP RTP/SAVP RTP/AVP")
	})
}

// A phone by TCP that insists on DTLS-SRTP gets it; with SRTP off it does not.
func TestPhoneThatInsistsOnDTLSIsOfferedIt(t *testing.T) {
	for _, security := range []string{"optional", "off"} {
		call(t, func(s *setup) { s.media.DeviceSRTP = security }, func(w *world) {
			var web *rtptest.Web
			p := w.awake(phoneOptions{script: choosy(func(offer string) bool { return strings.Contains(offer, " UDP/TLS/RTP/SAVP ") }),
				change: func(o *siptest.PhoneOptions) {
					o.Audio = func(a *siptest.Audio) {
						web = rtptest.NewWeb(a.Write)
						web.Ufrag = ""
						a.Protect(web, "")
					}
				}})
			c := w.invite(siptest.Invitation{})
			if security == "off" {
				w.await(c, 10*time.Second, "488")
				w.taken(p)
				w.notTaken(p)
				w.ended("no_codec", 488)
				return
			}
			w.await(c, 10*time.Second, "200")
			w.taken(p)
			taken := w.taken(p)
			time.Sleep(time.Second)
			w.talk(c, taken)
			web.Stop()
			c.Bye()
			w.await(taken, time.Second, "BYE")
			r := w.ended("caller_hung_up", 200)
			if got := steps(r, "SRTP"); len(got) != 1 || got[0] != "device DTLS AES_CM_128_HMAC_SHA1_80" {
				t.Errorf("timeline %v", got)
			}
		})
	}
}
