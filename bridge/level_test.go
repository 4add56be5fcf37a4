package bridge_test

import (
	"testing"
	"time"

	"reveille/sip/siptest"
)

// This file holds that both sides of a call know of each other what was said while they were not connected.

// RFC 3261 §13.2.1: the answer to our offer comes with the ACK, after the phone has been taken. It may leave out what
// the phone sends.
func TestOfferlessTrunkThatTakesOneOfThePhonesCodecs(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.awake(phoneOptions{script: func(c *siptest.Call) {
			c.Sleep(time.Second)
			w.must(c.Audio.Hear(c.Invite.Body)) // it sends PCMA, as it was offered first
			c.Respond(200, codecs(c.Audio.SDP("sendrecv"), "0 8 101"))
		}})
		c := w.invite(siptest.Invitation{NoOffer: true})
		w.await(c, 5*time.Second, "200")
		taken := w.taken(p)
		time.Sleep(500 * time.Millisecond)
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// RFC 3311 §5.1: the trunk ends its hold while the phone rings, which was offered the hold.
func TestHoldThatEndsWhileThePhoneRings(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 2 * time.Second, script: siptest.AnswerAfter(3 * time.Second)})
		c := w.invite(siptest.Invitation{Prack: true, Header: []siptest.Field{field("Supported", "100rel")}})
		w.await(c, time.Second, "180")
		time.Sleep(500 * time.Millisecond)
		w.await(c.Request("UPDATE", c.Audio.SDP("sendonly")), time.Second, "200")
		taken := w.taken(p)
		w.says(taken.Invite, "sendonly")
		w.await(c.Request("UPDATE", c.Audio.SDP("sendrecv")), time.Second, "200")
		w.await(c, 20*time.Second, "200")
		time.Sleep(500 * time.Millisecond)
		w.says(w.asked(taken, "INVITE", 1), "sendrecv")
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// The trunk ends its hold while another extension is rung: whoever has the call then hears of it.
func TestHoldThatEndsWhileTheOtherExtensionIsRung(t *testing.T) {
	for name, script := range map[string]func(*siptest.Call){"and refuses": siptest.RefuseAfter(3*time.Second, 486), "and answers": siptest.AnswerAfter(3 * time.Second)} {
		t.Run(name, func(t *testing.T) {
			call(t, twoExtensions, func(w *world) {
				c, taken, desk := handedOver(w, script)
				w.await(c.Reinvite(c.Audio.SDP("sendonly")), time.Second, "200")
				w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "202")
				rings := w.taken(desk)
				w.says(w.await(c.Reinvite(c.Audio.SDP("sendrecv")), time.Second, "200"), "sendrecv")
				time.Sleep(5 * time.Second)
				n := 2 // the hold came by the first
				if name == "and answers" {
					taken, n = rings, 1
				}
				w.says(w.asked(taken, "INVITE", n), "sendrecv")
				w.talk(c, taken)
				equal(t, "re-INVITEs at the trunk", len(c.Got("INVITE")), 0)
				c.Bye()
				w.ended("caller_hung_up", 200)
			})
		})
	}
}
