package bridge_test

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"reveille/rtp/rtptest"
	"reveille/sip/siptest"
)

// kinds are phones that take one kind of media each.
var kinds = []string{"browser", "SDES", "DTLS", "plain"}

// mixed makes a phone of a kind that is awake. It offers that kind too, where it makes an offer.
func (w *world) mixed(theirs *tls.Config, kind, digit string, script func(*siptest.Call), change func(*siptest.PhoneOptions)) *phone {
	w.t.Helper()
	return w.awake(phoneOptions{name: "phone" + digit, digit: digit, script: script, change: func(o *siptest.PhoneOptions) {
		switch kind {
		case "browser":
			o.Transport, o.Bridge, o.TLS = "wss", bridgeWSS, theirs
			o.Audio = func(a *siptest.Audio) { w.shaking(a, "UDP/TLS/RTP/SAVPF", "EsA"+digit) }
		case "SDES":
			o.Transport, o.Bridge, o.TLS = "tls", bridgeTLS, theirs
			o.Audio = func(a *siptest.Audio) { a.Protect(&rtptest.SRTP{Seed: digit[0]}, "RTP/SAVP") }
		case "DTLS":
			o.Audio = func(a *siptest.Audio) { w.shaking(a, "UDP/TLS/RTP/SAVP", "") }
		}
		if change != nil {
			change(o)
		}
	}})
}

// shaking gives audio DTLS, with ICE if there is a ufrag.
func (w *world) shaking(a *siptest.Audio, profile, ufrag string) {
	web := rtptest.NewWeb(a.Write)
	web.Ufrag = ufrag
	a.Protect(web, profile)
	w.t.Cleanup(func() { web.Begin().Stop() })
}

// takes answers after ring what a phone of a kind can take.
func takes(kind string, ring time.Duration) func(*siptest.Call) {
	return func(c *siptest.Call) {
		offer := string(c.Invite.Body)
		fits := map[string]bool{
			"browser": strings.Contains(offer, " UDP/TLS/RTP/SAVPF "), "SDES": strings.Contains(offer, "a=crypto"),
			"DTLS": strings.Contains(offer, " UDP/TLS/RTP/SAVP "), "plain": strings.Contains(offer, " RTP/AVP ") && !strings.Contains(offer, "a=crypto"),
		}
		if !fits[kind] {
			c.Respond(488, nil)
			return
		}
		siptest.AnswerAfter(ring)(c)
	}
}

// Phones of all kinds ring for one call; the sound is that of the one that answers, whichever it is.
func TestPhonesOfAllKindsRingForOneCall(t *testing.T) {
	for _, first := range kinds {
		t.Run(first, func(t *testing.T) {
			change, theirs := overTLS(t, "", func(s *setup) {
				s.columns = []string{"trunk", siptest.Bridge, "push", "phone1", "phone2", "phone3", "phone4"}
			})
			call(t, change, func(w *world) {
				var winner *phone
				for i, kind := range kinds {
					ring := time.Minute
					if kind == first {
						ring = 2 * time.Second
					}
					p := w.mixed(theirs, kind, string(rune('1'+i)), takes(kind, ring), nil)
					if kind == first {
						winner = p
					}
				}
				c := w.invite(siptest.Invitation{})
				w.await(c, 10*time.Second, "200")
				taken := w.last(winner)
				time.Sleep(2 * time.Second)
				w.talk(c, taken)
				c.Bye()
				w.await(taken, time.Second, "BYE")
				w.ended("caller_hung_up", 200)
			})
		})
	}
}

// A call goes from a phone of one kind to one of another by INVITE with Replaces, and by a transfer, and back where that fails.
func TestCallGoesOnByAPhoneOfAnotherKind(t *testing.T) {
	for _, from := range kinds {
		for _, to := range kinds {
			if from == to {
				continue
			}
			change, theirs := overTLS(t, "", func(s *setup) {
				twoExtensions(s)
				s.columns = []string{"trunk", siptest.Bridge, "push", "phone1", "phone2"}
			})
			t.Run(from+" to "+to+" by Replaces", func(t *testing.T) {
				call(t, change, func(w *world) {
					p := w.mixed(theirs, from, "1", takes(from, 0), nil)
					c := w.invite(siptest.Invitation{})
					w.await(c, 10*time.Second, "200")
					taken := w.last(p)
					q := w.mixed(theirs, to, "2", siptest.SayNothing, nil)
					time.Sleep(2 * time.Second)
					again := w.invites(q, "", replaces(taken, ""))
					w.await(again, time.Second, "200")
					w.await(taken, time.Second, "BYE")
					time.Sleep(2 * time.Second)
					w.talk(c, again)
					c.Bye()
					w.await(again, time.Second, "BYE")
					w.ended("caller_hung_up", 200)
				})
			})
			for _, refused := range []bool{false, true} {
				t.Run(from+" to "+to+" by transfer", func(t *testing.T) {
					call(t, change, func(w *world) {
						p := w.mixed(theirs, from, "1", takes(from, 0), nil)
						script := takes(to, time.Second)
						if refused {
							script = siptest.RefuseAfter(time.Second, 486)
						}
						q := w.mixed(theirs, to, "2", script, as("1002"))
						c := w.invite(siptest.Invitation{})
						w.await(c, 10*time.Second, "200")
						taken := w.last(p)
						time.Sleep(2 * time.Second)
						w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "202")
						time.Sleep(5 * time.Second)
						if !refused {
							taken = w.last(q)
						}
						w.talk(c, taken)
						c.Bye()
						w.await(taken, time.Second, "BYE")
						w.ended("caller_hung_up", 200)
					})
				})
			}
		}
	}
}

// last is the latest call that came to a phone.
func (w *world) last(p *phone) *siptest.Call {
	w.t.Helper()
	c := w.taken(p)
	for len(p.Calls()) > 0 {
		c = w.taken(p)
	}
	return c
}
