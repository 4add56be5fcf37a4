package bridge_test

import (
	"context"
	"testing"
	"time"

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
