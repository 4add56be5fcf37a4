package bridge_test

import (
	"testing"
	"time"

	"reveille/sip/siptest"
)

// A device takes the call over while a change of its former leg is on its way to the trunk: that is of no account any more.
func TestReplacesWhileAChangeOfTheFormerLegIsUnderWay(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, p := established(w, siptest.Invitation{})
		c.Script(slowly(c, 3*time.Second))
		changed := taken.Reinvite(taken.Audio.SDP("sendonly"))
		time.Sleep(time.Second)
		again := w.invites(p, "", replaces(taken, ""))
		w.await(again, time.Second, "200")
		w.await(changed, time.Second, "487")
		time.Sleep(10 * time.Second)
		w.talk(c, again)
		c.Bye()
		w.await(again, time.Second, "BYE")
		w.ended("caller_hung_up", 200)
	})
}

// The trunk ends its hold while a device takes the call over: the new leg hears of it.
func TestReplacesWhileAChangeOfTheTrunkIsUnderWay(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, p := established(w, siptest.Invitation{})
		w.await(c.Reinvite(c.Audio.SDP("sendonly")), time.Second, "200")
		taken.Script(slowly(taken, 3*time.Second))
		resumed := c.Reinvite(c.Audio.SDP("sendrecv"))
		time.Sleep(time.Second)
		again := w.invites(p, "", replaces(taken, ""))
		w.says(w.await(again, time.Second, "200"), "sendonly")
		w.says(w.await(resumed, 10*time.Second, "200"), "sendrecv")
		time.Sleep(10 * time.Second)
		w.says(w.asked(again, "INVITE", 1), "sendrecv")
		w.talk(c, again)
		c.Bye()
		w.await(again, time.Second, "BYE")
		w.ended("caller_hung_up", 200)
	})
}
