package bridge_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"reveille/push/pushtest"
	"reveille/sip/siptest"
)

// wokeThrice is a sleeping phone that has woken in 0.4 s for three calls, which
// were answered.
func (w *world) wokeThrice(o phoneOptions) *phone {
	w.t.Helper()
	o.wakes, o.script = 400*time.Millisecond, siptest.AnswerAfter(time.Second)
	p := w.sleeping(o)
	for range 3 {
		w.callAndSleep(p)
	}
	return p
}

// callAndSleep is a call that a phone takes; then it sleeps again.
func (w *world) callAndSleep(p *phone) {
	w.t.Helper()
	c := w.invite(siptest.Invitation{})
	w.await(c, 30*time.Second, "200")
	taken := w.taken(p)
	c.Bye()
	w.await(taken, time.Second, "BYE")
	p.Drop()
	time.Sleep(time.Minute)
}

// gaveUp is how long a call waited for devices that do not come, until its 480.
func (w *world) gaveUp() time.Duration {
	w.t.Helper()
	start := time.Now()
	w.await(w.invite(siptest.Invitation{}), time.Minute, "480")
	return time.Since(start)
}

// waited holds a duration against what was to be waited for, and the way of a push.
func (w *world) waited(got, want time.Duration) {
	w.t.Helper()
	if got < want || got > want+200*time.Millisecond {
		w.t.Errorf("the caller waited %v, want %v", got, want)
	}
}

// validFor holds that the last push is valid as long as its call waits, for the
// app (expires_at) and for Apple (apns-expiration).
func (w *world) validFor(want time.Duration) {
	w.t.Helper()
	all := w.sentPushes()
	p := all[len(all)-1]
	issued, err := time.Parse(time.RFC3339, p.Payload["issued_at"].(string))
	w.must(err)
	expires, err := time.Parse(time.RFC3339, p.Payload["expires_at"].(string))
	w.must(err)
	if got := expires.Sub(issued); got < want-time.Second || got > want+time.Second {
		w.t.Errorf("the payload is valid for %v, want %v", got, want)
	}
	if got := p.Expiration.Sub(issued); got < want-time.Second || got > want+time.Second {
		w.t.Errorf("Apple may deliver for %v, want %v", got, want)
	}
}

func TestDeviceThatIsNotKnownGetsTheWholeWakeTimeout(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		w.callAndSleep(p)
		w.callAndSleep(p)
		w.wakes(p, -1)
		w.waited(w.gaveUp(), 20*time.Second) // after two wakes
		w.validFor(20 * time.Second)
	})
}

func TestWaitFollowsTheDevicesOwnWakes(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.wokeThrice(phoneOptions{})
		w.wakes(p, -1)
		w.waited(w.gaveUp(), 8*time.Second)
		w.validFor(8 * time.Second)
		time.Sleep(time.Minute) // the tombstone is gone
		w.wakes(p, 4*time.Second)
		w.callAndSleep(p)
		w.wakes(p, -1)
		took := w.records()[4].Pushes[0].WakeMS
		w.waited(w.gaveUp(), (2*time.Duration(took*float64(time.Millisecond)) + 2*time.Second).Truncate(10*time.Millisecond))
		w.validFor(10 * time.Second)
	})
}

func TestWakesAreKnownAfterARestart(t *testing.T) {
	call(t, func(s *setup) { s.state = t.TempDir() }, func(w *world) {
		p := w.wokeThrice(phoneOptions{})
		w.stopBridge()
		w.start()
		w.wakes(p, -1)
		w.waited(w.gaveUp(), 8*time.Second)
	})
}

// It comes when its call is over: it is told so, and gets longer next time. The
// call may be one of before a restart.
func TestDeviceThatOversleptGetsLonger(t *testing.T) {
	for name, restart := range map[string]bool{"at once": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			call(t, func(s *setup) { s.state = t.TempDir() }, func(w *world) {
				p := w.wokeThrice(phoneOptions{})
				w.wakes(p, -1)
				start := time.Now()
				w.waited(w.gaveUp(), 8*time.Second)
				if restart {
					w.stopBridge()
					w.start()
				}
				time.Sleep(12*time.Second - time.Since(start))
				w.must(p.Register(context.Background()))
				late := w.taken(p)
				equal(t, "Reason", late.Invite.Get("X-Call-UUID"), w.records()[3].Call)
				w.await(late, 5*time.Second, "CANCEL")
				p.Drop()
				time.Sleep(time.Minute)
				w.wakes(p, 12*time.Second)
				w.callAndSleep(p) // it has the time now
				w.wakes(p, -1)
				w.waited(w.gaveUp(), 20*time.Second)
			})
		})
	}
}

// The user has opened the app 40 s after a push that it never got: no wake.
func TestAppThatIsOpenedLaterHasNotWoken(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.wokeThrice(phoneOptions{})
		w.wakes(p, -1)
		w.waited(w.gaveUp(), 8*time.Second)
		time.Sleep(32 * time.Second)
		w.must(p.Register(context.Background()))
		w.taken(p)
		p.Drop()
		time.Sleep(time.Minute)
		w.waited(w.gaveUp(), 20*time.Second) // since it has overslept
		time.Sleep(time.Minute)
		w.waited(w.gaveUp(), 8*time.Second)
	})
}

// The network has become slow: the phone takes 12 s, and gets 8. Apple drops the
// push then, so that it does not even come late.
func TestLearnedWaitIsNotTooShortForEver(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.wokeThrice(phoneOptions{})
		w.wakes(p, -1)
		w.waited(w.gaveUp(), 8*time.Second)
		w.wakes(p, 12*time.Second)
		time.Sleep(time.Minute)
		w.callAndSleep(p)
		w.wakes(p, -1)
		w.waited(w.gaveUp(), 20*time.Second) // as it is known to need now
	})
}

// It is off: its callers hear so after 8 s, but for the second and then one in four.
func TestDeviceThatIsOffGetsTheWholeTimeOnceInFour(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.wokeThrice(phoneOptions{})
		w.wakes(p, -1)
		for _, want := range []time.Duration{8, 20, 8, 8, 8, 20, 8} {
			w.waited(w.gaveUp(), want*time.Second)
			w.validFor(want * time.Second)
			time.Sleep(time.Minute)
		}
	})
}

// A device without a VoIP token gets a notification, which its user has to touch:
// it is not the device that was quick.
func TestWaitForAUserIsNotLearned(t *testing.T) {
	call(t, nil, func(w *world) {
		token := strings.Repeat("1", 64)
		p := w.sleeping(phoneOptions{script: siptest.AnswerAfter(time.Second), change: func(o *siptest.PhoneOptions) { o.PRID = token + ":remote" }})
		w.service.AddAlertToken(pushtest.Production, token, bundle)
		w.mu.Lock()
		w.phones[token] = p
		w.mu.Unlock()
		w.wakes(p, 2*time.Second)
		for range 3 {
			w.callAndSleep(p)
		}
		w.wakes(p, -1)
		w.waited(w.gaveUp(), 20*time.Second)
		time.Sleep(2 * time.Minute)
		w.wakes(p, 2*time.Second)
		w.callAndSleep(p)
	})
}

// A call waits for the device that is to be waited for longest, of those that
// may still come.
func TestCallWaitsForTheSlowestOfItsDevices(t *testing.T) {
	call(t, twoPhones, func(w *world) {
		first := w.wokeThrice(phoneOptions{name: "first"})
		w.wakes(first, -1)
		second := w.sleeping(phoneOptions{name: "second", digit: "2", wakes: -1})
		w.waited(w.gaveUp(), 20*time.Second)
		time.Sleep(time.Minute)
		w.service.Unregister(pushtest.Production, second.token, time.Now())
		w.waited(w.gaveUp(), 20*time.Second) // the first has overslept
		time.Sleep(time.Minute)
		w.waited(w.gaveUp(), 8*time.Second)
	})
}

func TestDeviceThatComesInTheLastMomentRings(t *testing.T) {
	for _, most := range []time.Duration{20 * time.Second, 8 * time.Second} {
		call(t, func(s *setup) { s.calls.WakeTimeout = most }, func(w *world) {
			p := w.wokeThrice(phoneOptions{})
			w.wakes(p, 7900*time.Millisecond) // its 180 comes after 8.06 s
			w.callAndSleep(p)
		})
	}
}

// One device has refused, the other one had its time to wake: the caller does
// not wait for ring_timeout.
func TestSleeperIsNotWaitedForWhenTheOtherDeviceHasRefused(t *testing.T) {
	call(t, twoPhones, func(w *world) {
		first := w.wokeThrice(phoneOptions{name: "first"})
		w.wakes(first, -1)
		w.sleeping(phoneOptions{name: "second", digit: "2", wakes: 400 * time.Millisecond, script: siptest.RefuseAfter(2*time.Second, 486)})
		start := time.Now()
		w.await(w.invite(siptest.Invitation{}), time.Minute, "486")
		w.waited(time.Since(start), 8*time.Second)
	})
}

func TestUncertainPushIsNeverSentAgainAndItsDeviceMayStillWake(t *testing.T) {
	for name, misdeed := range map[string]pushtest.Misdeed{"cut off": pushtest.CutOffAfter, "stalled": pushtest.Stall} {
		t.Run(name, func(t *testing.T) {
			call(t, nil, func(w *world) {
				p := w.sleeping(phoneOptions{wakes: -1, script: siptest.AnswerAfter(time.Second)})
				w.service.Answer(p.token, pushtest.Answer{Do: misdeed}, pushtest.Answer{Do: misdeed})
				c := w.invite(siptest.Invitation{})
				time.Sleep(6 * time.Second)
				w.must(p.Register(context.Background()))
				w.await(c, 5*time.Second, "200")
				c.Bye()
				r := w.ended("caller_hung_up", 200)
				equal(t, "requests", w.service.Counts().Requests, 1)
				if len(r.Pushes) != 1 || !r.Pushes[0].Uncertain || r.Pushes[0].Outcome != "failed" || r.Pushes[0].WakeMS == 0 {
					t.Errorf("pushes on record: %+v", r.Pushes)
				}

				w.taken(p)
				p.Drop()
				time.Sleep(time.Minute)
				start := time.Now()
				c = w.invite(siptest.Invitation{})
				m := w.await(c, time.Minute, "480")
				w.waited(time.Since(start), 8*time.Second)
				equal(t, "Reason", m.Get("Reason"), pushFailed)
				equal(t, "push", m.Get("X-Reveille-Push"), "sent;provider=apns;reason=NoAnswer")
				equal(t, "requests", w.service.Counts().Requests, 2)
			})
		})
	}
}

// What the service certainly did not take is sent once more: REFUSED_STREAM and
// GOAWAY (RFC 9113 §8.7) on another connection, 503 after a moment.
func TestPushThatWasTurnedAwayIsSentOnceMore(t *testing.T) {
	for name, answer := range map[string]pushtest.Answer{
		"goaway": {Do: pushtest.GoAway}, "refused": {Do: pushtest.Refuse}, "unavailable": pushtest.Reject(503, "ServiceUnavailable"),
	} {
		t.Run(name, func(t *testing.T) {
			call(t, nil, func(w *world) {
				p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
				w.service.Answer(p.token, answer)
				c := w.invite(siptest.Invitation{})
				w.await(c, 10*time.Second, "200")
				c.Bye()
				r := w.ended("caller_hung_up", 200)
				equal(t, "requests", w.service.Counts().Requests, 2)
				equal(t, "accepted", len(w.sentPushes()), 1)
				equal(t, "pushes on record", len(r.Pushes), 1)
			})
		})
	}
}
