package bridge_test

import (
	"testing"
	"time"

	"reveille/sip/siptest"
)

func TestSleepingPhoneAnswers(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(2 * time.Second)})
		c := w.invite(siptest.Invitation{FromName: "Ada"})
		w.await(c, 10*time.Second, "200")
		taken := w.taken(p)
		w.talk(c, taken)
		c.Bye()
		w.await(taken, time.Second, "BYE")
		r := w.ended("caller_hung_up", 200)
		equal(t, "push states", pushStates(c), "sent accepted awake")
		equal(t, "UUID in the INVITE", taken.UUID(), r.Call)
		equal(t, "UUID in the push", w.pushes[0].Payload["uuid"], any(r.Call))
		equal(t, "Call-ID in the push", w.pushes[0].Payload["call_id"], any(taken.ID))
		equal(t, "caller in the push", w.pushes[0].Payload["caller_name"], any("Ada"))
		w.golden("sleeping_answered")
	})
}
