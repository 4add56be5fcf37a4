package bridge_test

import (
	"strings"
	"testing"
	"time"

	"reveille/rtp/ng/ngtest"
	"reveille/sip/siptest"
)

// DTLS is not to be had of rtpengine: a phone by TLS that refuses keys is offered plain RTP next.
func TestPhoneThatKnowsNoKeysWithAnEngine(t *testing.T) {
	a, b := &ngtest.Daemon{Port: 30000}, &ngtest.Daemon{Port: 30000}
	change, theirs := overTLS(t, "", engines(a, b))
	call(t, change, func(w *world) {
		p := w.secure(theirs, 4, func(c *siptest.Call) {
			if offer := string(c.Invite.Body); strings.Contains(offer, "crypto") || strings.Contains(offer, "UDP/TLS") {
				c.Respond(488, nil)
				return
			}
			siptest.AnswerAfter(time.Second)(c)
		})
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		taken := w.last(p)
		c.Bye()
		w.await(taken, time.Second, "BYE")
		w.ended("caller_hung_up", 200)
	})
}
