package bridge_test

import (
	"context"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// An app that has logged out is not called; one that only unregisters in the
// background is woken.
func TestUnregisteredApp(t *testing.T) {
	for unregister, rings := range map[string]bool{"": false, "logout": false, "keep": true} {
		t.Run("unregister "+unregister, func(t *testing.T) {
			call(t, func(s *setup) { s.extension.Unregister = unregister }, func(w *world) {
				p := w.awake(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
				w.must(p.Unregister(context.Background()))
				p.Drop()
				time.Sleep(time.Minute)
				c := w.invite(siptest.Invitation{})
				if !rings {
					w.await(c, time.Second, "480")
					w.ended("no_device", 480)
					return
				}
				w.await(c, 10*time.Second, "200")
				c.Bye()
				w.ended("caller_hung_up", 200)
				equal(t, "pushes", len(w.sentPushes()), 1)
			})
		})
	}
}
