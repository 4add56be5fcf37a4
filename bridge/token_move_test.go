package bridge_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"reveille/push/pushtest"
	"reveille/sip/location"
	"reveille/sip/siptest"
)

// relogged logs the app of a phone in to extension 1002: another account, the
// same installation and push token, by a connection of its own.
func (w *world) relogged(p *phone) *phone {
	w.t.Helper()
	return w.awake(phoneOptions{name: "desk", digit: "2", wakes: -1, change: func(o *siptest.PhoneOptions) {
		as("1002")(o)
		o.PRID = strings.ToUpper(p.token)
	}})
}

// The app of 1001 goes to account 1002 while a call for 1001 rings on its flow,
// which gives no answer: the push that would follow would ring 1002's user.
func TestTokenThatHasMovedIsNotPushedForItsFormerOwnersCall(t *testing.T) {
	call(t, twoExtensions, func(w *world) {
		p := w.awake(phoneOptions{wakes: -1})
		time.Sleep(5 * time.Second)
		p.Deafen(true)
		c := w.invite(siptest.Invitation{})
		time.Sleep(time.Second)
		w.relogged(p)
		m := w.await(c, 1200*time.Millisecond, "480") // at probe_timeout
		equal(t, "push", m.Get("X-Reveille-Push"), "failed;reason=NoToken")
		w.ended("device_silent", 480)
		equal(t, "pushes", w.service.Counts().Requests, 0)
		p.Deafen(false)
	})
}

// The same while a push is being tried: there is no second try.
func TestPushIsNotTriedAgainForATokenThatHasMoved(t *testing.T) {
	call(t, twoExtensions, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: -1})
		w.service.Answer(p.token, pushtest.Answer{Status: 503, Reason: "ServiceUnavailable", Delay: 200 * time.Millisecond})
		c := w.invite(siptest.Invitation{})
		w.await(c, time.Second, "180")
		w.relogged(p)
		w.await(c, time.Second, "480")
		r := w.ended("push_failed", 480)
		equal(t, "requests", w.service.Counts().Requests, 1)
		if len(r.Pushes) != 1 || r.Pushes[0].Reason != "TargetMoved" {
			t.Errorf("pushes on record: %+v", r.Pushes)
		}
		if d := w.location.Devices("1002"); len(d) != 1 || d[0].Target.IsZero() {
			t.Errorf("the new owner has %v", d)
		}
	})
}

// Its token was replaced while a call rang on a flow that is dead: the push
// goes to the new one.
func TestTokenThatChangesDuringACallIsPushedAsItIsNow(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.awake(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		old := p.token
		time.Sleep(5 * time.Second)
		p.Deafen(true)
		c := w.invite(siptest.Invitation{})
		time.Sleep(time.Second)
		d := w.location.Devices("1001")[0]
		p.token = strings.Repeat("9", 64)
		w.service.AddToken(pushtest.Production, p.token, bundle)
		_, _, err := w.location.Provision(context.Background(), location.Provision{AOR: d.AOR, DeviceID: d.ID,
			Target: location.Target{Provider: "apns", Param: d.Target.Param, PRID: p.token}})
		w.must(err)
		time.Sleep(2 * time.Second) // beyond probe_timeout
		pushes := w.sentPushes()
		if len(pushes) != 1 || pushes[0].Token != p.token {
			t.Errorf("%d pushes, to the old token: %v", len(pushes), len(pushes) > 0 && pushes[0].Token == old)
		}
		w.must(p.Reconnect(context.Background()))
		p.Deafen(false)
		w.must(p.Register(context.Background()))
		w.await(c, 10*time.Second, "200")
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// Apple's 410 says since when the token is dead. A device that has registered
// it after that knows better, also if it is the same token as before.
func TestTokenThatIsRegisteredAgainOutlivesAnOlder410(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: -1})
		w.service.Unregister(pushtest.Production, p.token, time.Now())
		failsFast(w, absent)
		equal(t, "devices with the dead token", len(w.location.Devices("1001")), 0)
		time.Sleep(time.Minute)
		w.must(p.Reconnect(context.Background()))
		w.must(p.Register(context.Background()))
		p.Drop()
		time.Sleep(time.Minute)
		failsFast(w, pushFailed)
		time.Sleep(40 * time.Second)
		all := w.records()
		if d := w.location.Devices("1001"); len(d) != 1 || d[0].Target.IsZero() || len(all) != 2 || all[1].Pushes[0].Outcome != "failed" {
			t.Errorf("devices %v, calls %+v", d, all)
		}
	})
}

// The same where the token was never dropped: each REGISTER that has it counts.
func TestTokenThatIsConfirmedOutlivesAnOlder410(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: -1})
		w.service.Unregister(pushtest.Production, p.token, time.Now())
		time.Sleep(time.Minute)
		w.must(p.Reconnect(context.Background()))
		w.must(p.Register(context.Background()))
		p.Drop()
		time.Sleep(time.Minute)
		failsFast(w, pushFailed)
		equal(t, "outcome", w.ended("push_failed", 480).Pushes[0].Outcome, "failed")
		if d := w.location.Devices("1001"); len(d) != 1 || d[0].Target.IsZero() {
			t.Errorf("devices %v", d)
		}
	})
}
