package bridge_test

import (
	"context"
	"testing"
	"time"

	"reveille/push/pushtest"
	"reveille/sip/siptest"
)

const silent = `Q.850;cause=18;text="No user responding"`

// deskPhone is a phone without a push token that lets every INVITE lie.
func (w *world) deskPhone() *phone {
	w.t.Helper()
	return w.awake(phoneOptions{name: "phone", script: siptest.SayNothing, change: func(o *siptest.PhoneOptions) { o.Provider = "" }})
}

// There was no push, so that none was accepted: who asks must not be sent to
// look for one.
func TestSilentDeviceWithoutAPushTokenIsNoDeviceThatDidNotWake(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.deskPhone()
		start := time.Now()
		m := w.await(w.invite(siptest.Invitation{}), time.Minute, "480")
		w.waited(time.Since(start), 25*time.Second)
		equal(t, "Reason", m.Get("Reason"), silent)
		equal(t, "push", m.Get("X-Reveille-Push"), "failed;reason=NoToken")
		r := w.ended("device_silent", 480)
		equal(t, "cause on record", r.Q850, 18)
		equal(t, "verdict", r.Verdict, "a device is registered, but gave no answer to the INVITE")
		w.taken(p)
	})
}

// It comes by its push, and says nothing to the INVITE.
func TestDeviceThatWokeAndIsSilentHasRegisteredInTime(t *testing.T) {
	call(t, nil, func(w *world) {
		w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.SayNothing})
		start := time.Now()
		m := w.await(w.invite(siptest.Invitation{}), time.Minute, "480")
		w.waited(time.Since(start), 20*time.Second)
		equal(t, "Reason", m.Get("Reason"), silent)
		equal(t, "push", m.Get("X-Reveille-Push"), "awake;provider=apns;wake-ms=521")
		w.ended("device_silent", 480)
	})
}

// No push is left, and the connection that the app had is silent: nothing is to
// be waited for.
func TestSilentDeviceWithoutAPushLeftIsNotWaitedFor(t *testing.T) {
	call(t, func(s *setup) { s.calls.Limits.PushPerMinute = 1 }, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: -1})
		w.missed("+49401")
		w.must(p.Register(context.Background()))
		w.taken(p) // the missed one, late
		time.Sleep(20 * time.Second)
		p.Deafen(true)
		start := time.Now()
		m := w.await(w.invite(siptest.Invitation{From: "+49402"}), time.Minute, "480")
		w.waited(time.Since(start), 2*time.Second) // probe_timeout
		equal(t, "push", m.Get("X-Reveille-Push"), "failed;provider=apns;reason=Budget")
		p.Deafen(false)
	})
}

// One that comes by a new connection every few seconds, and says nothing on any.
func TestSilentDeviceOnEverNewFlowsKeepsNoCallerForEver(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.deskPhone()
		start := time.Now()
		c := w.invite(siptest.Invitation{})
		for time.Since(start) < 24*time.Second {
			time.Sleep(4 * time.Second)
			w.must(p.Reconnect(context.Background()))
			w.must(p.Register(context.Background()))
		}
		w.await(c, 2*time.Second, "480")
		w.ended("device_silent", 480)
	})
}

// The mixtures: what the caller waits for is the last of the devices that may
// yet come, and no more.
func TestCallerWaitsForTheLastHopeOnly(t *testing.T) {
	gone := pushtest.Answer{Status: 410, Reason: "Unregistered"}
	for name, c := range map[string]struct {
		third  pushtest.Answer
		waits  time.Duration
		ending string
	}{
		"all tokens dead, one device silent": {gone, 2 * time.Second, "push_gone"},
		"and one push without an answer":     {pushtest.Answer{Do: pushtest.Stall}, 8 * time.Second, "push_failed"},
		"and one refused":                    {pushtest.Reject(403, "Forbidden"), 2 * time.Second, "push_refused"},
	} {
		t.Run(name, func(t *testing.T) {
			call(t, threePhones, func(w *world) {
				third := w.sleeping(phoneOptions{name: "third", digit: "3", wakes: -1})
				second := w.sleeping(phoneOptions{name: "second", digit: "2", wakes: -1})
				first := w.awake(phoneOptions{name: "first", wakes: -1})
				time.Sleep(20 * time.Second)
				first.Deafen(true)
				w.service.Answer(first.token, gone)
				w.service.Answer(second.token, gone)
				w.service.Answer(third.token, c.third, c.third)
				start := time.Now()
				w.await(w.invite(siptest.Invitation{}), time.Minute, "480")
				w.waited(time.Since(start), c.waits)
				w.ended(c.ending, 480)
				first.Deafen(false)
			})
		})
	}
}

func threePhones(s *setup) {
	s.columns = []string{"trunk", siptest.Bridge, "push", "first", "second", "third"}
}

// One has refused without a ring, after the other one's push was answered: the
// wait is for that one alone from then on.
func TestRefusalLeavesTheWaitOfTheOthers(t *testing.T) {
	call(t, twoPhones, func(w *world) {
		sleeper := w.wokeThrice(phoneOptions{name: "first"})
		w.wakes(sleeper, -1)
		w.awake(phoneOptions{name: "second", digit: "2", script: func(c *siptest.Call) {
			if c.Sleep(time.Second) {
				c.Respond(486, nil)
			}
		}, change: func(o *siptest.PhoneOptions) { o.Provider = "" }})
		start := time.Now()
		w.await(w.invite(siptest.Invitation{}), time.Minute, "486")
		w.waited(time.Since(start), 8*time.Second)
	})
}
