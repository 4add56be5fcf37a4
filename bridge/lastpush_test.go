package bridge_test

import (
	"testing"
	"time"

	"reveille/push/pushtest"
	"reveille/sip/siptest"
)

// Who looks at a device sees what became of its last push.
func TestLastPushOfADeviceIsKnown(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		d := w.location.Devices("1001")[0]
		last := func(outcome, reason string) {
			t.Helper()
			got, ok := w.location.LastPush("1001", d.ID)
			if !ok || got.Outcome != outcome || got.Reason != reason || time.Since(got.At) > time.Hour {
				t.Errorf("the last push is %+v, want %s %s", got, outcome, reason)
			}
		}
		if _, ok := w.location.LastPush("1001", d.ID); ok {
			t.Error("a push before the first call")
		}
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		last("sent", "")
		c.Bye()
		w.ended("caller_hung_up", 200)
		w.taken(p)
		w.wakes(p, -1)
		time.Sleep(time.Minute)
		w.service.Unregister(pushtest.Production, p.token, time.Now())
		second := w.invite(siptest.Invitation{}) // the device is still bound
		w.await(second, time.Minute, "200")
		second.Bye()
		time.Sleep(40 * time.Second)
		last("gone", "Unregistered")
	})
}
