package bridge_test

import (
	"context"
	"testing"
	"time"

	"reveille/sip/location"
	"reveille/sip/siptest"
)

// A call that comes while a REGISTER of the only device, with another Contact than before, is being answered waits for it.
func TestCallOvertakesTheRegistration(t *testing.T) {
	for _, answered := range []bool{true, false} {
		call(t, nil, func(w *world) {
			p := w.awake(phoneOptions{name: "phone", script: siptest.AnswerAfter(time.Second), change: func(o *siptest.PhoneOptions) {
				o.Provider, o.Param, o.PRID = "", "", ""
			}})
			b := w.location.Lookup("1001")[0]
			change, err := w.location.Put(context.Background(), location.Update{
				AOR: b.AOR, CallID: b.CallID, CSeq: b.CSeq + 1, FlowID: b.FlowID, Transport: b.Transport, Remote: b.Remote, UserAgent: b.UserAgent,
				Contacts: []location.Contact{{URI: b.Contact + ";again", Instance: b.Instance, RegID: b.RegID, Expires: time.Hour}},
			})
			w.must(err)
			c := w.invite(siptest.Invitation{})
			time.Sleep(100 * time.Millisecond)
			if !answered {
				change.Drop()
				w.await(c, time.Second, "480")
				w.ended("no_device", 480)
				return
			}
			change.Publish()
			w.await(c, 5*time.Second, "200")
			taken := w.taken(p)
			c.Bye()
			w.await(taken, time.Second, "BYE")
			w.ended("caller_hung_up", 200)
		})
	}
}
