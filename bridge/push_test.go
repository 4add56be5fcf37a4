package bridge_test

import (
	"context"
	"testing"
	"time"

	"reveille/push/pushtest"
	"reveille/sip/siptest"
)

const (
	absent      = `Q.850;cause=20;text="Subscriber absent"`
	pushRefused = `Q.850;cause=38;text="Push refused"`
	pushFailed  = `Q.850;cause=41;text="Push failed"`
)

// failsFast holds that the caller gets 480 within a second.
func failsFast(w *world, reason string) *siptest.Call {
	w.t.Helper()
	start := time.Now()
	c := w.invite(siptest.Invitation{})
	m := w.await(c, time.Second, "480")
	equal(w.t, "Reason", m.Get("Reason"), reason)
	if took := time.Since(start); took > time.Second {
		w.t.Errorf("480 came after %v", took)
	}
	return c
}

func TestDeadToken(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: -1})
		w.service.Unregister(pushtest.Production, p.token, time.Now())
		c := failsFast(w, absent)
		equal(t, "push states", pushStates(c), "sent failed")
		r := w.ended("push_gone", 480)
		if len(r.Pushes) != 1 || r.Pushes[0].Status != 410 || r.Pushes[0].Outcome != "gone" {
			t.Errorf("pushes on record: %+v", r.Pushes)
		}
		for _, d := range w.location.Devices("1001") {
			if !d.Target.IsZero() {
				t.Error("the dead token is still there")
			}
		}
		w.golden("dead_token")
	})
}

func TestDeadTokenOfOneDevice(t *testing.T) {
	call(t, twoPhones, func(w *world) {
		dead := w.sleeping(phoneOptions{name: "second", digit: "2", wakes: -1})
		w.service.Unregister(pushtest.Production, dead.token, time.Now())
		first := w.sleeping(phoneOptions{name: "first", wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 5*time.Second, "200")
		w.talk(c, w.taken(first))
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

func TestTokenOfTheOtherEnvironment(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{digit: "3", wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		w.service.AddToken(pushtest.Sandbox, p.token, bundle)
		w.service.Answer(p.token, pushtest.Reject(400, "BadDeviceToken"))
		c := w.invite(siptest.Invitation{})
		w.await(c, 5*time.Second, "200")
		c.Bye()
		w.ended("caller_hung_up", 200)
		equal(t, "environment", w.sentPushes()[0].Environment, pushtest.Sandbox)
		equal(t, "environment of the device", w.location.Devices("1001")[0].Target.Environment, "sandbox")
		w.golden("environment_flips")

		w.taken(p)
		p.Drop()
		time.Sleep(time.Minute)
		second := w.invite(siptest.Invitation{}) // straight to the right one
		w.await(second, 5*time.Second, "200")
		second.Bye()
		time.Sleep(40 * time.Second)
		equal(t, "answers BadDeviceToken", w.service.Counts().Answers["BadDeviceToken"], 1)
	})
}

func TestNobodyWakes(t *testing.T) {
	call(t, nil, func(w *world) {
		w.sleeping(phoneOptions{wakes: -1})
		start := time.Now()
		c := w.invite(siptest.Invitation{})
		m := w.await(c, time.Minute, "480")
		equal(t, "Reason", m.Get("Reason"), absent)
		if took := time.Since(start); took < 20*time.Second || took > 20*time.Second+100*time.Millisecond {
			t.Errorf("480 came after %v, wake_timeout is 20s", took)
		}
		equal(t, "push states", pushStates(c), "sent accepted")
		w.ended("no_wake", 480)
		w.golden("nobody_wakes")
	})
}

func TestRefusedPush(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: -1})
		w.service.Answer(p.token, pushtest.Reject(400, "TopicDisallowed"))
		failsFast(w, pushRefused)
		r := w.ended("push_refused", 480)
		equal(t, "outcome", r.Pushes[0].Outcome, "refused")
		if w.location.Devices("1001")[0].Target.IsZero() {
			t.Error("the target was dropped although the token is good")
		}
	})
}

func TestPushServiceInTrouble(t *testing.T) {
	for name, answer := range map[string]pushtest.Answer{
		"unavailable": pushtest.Reject(503, "ServiceUnavailable"),
		"error":       pushtest.Reject(500, "InternalServerError"),
		"goaway":      {Do: pushtest.GoAway},
		"refused":     {Do: pushtest.Refuse},
	} {
		t.Run(name, func(t *testing.T) {
			call(t, nil, func(w *world) {
				p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
				w.service.Answer(p.token, answer)
				c := w.invite(siptest.Invitation{})
				w.await(c, 10*time.Second, "200")
				c.Bye()
				w.ended("caller_hung_up", 200)
				equal(t, "pushes accepted", len(w.sentPushes()), 1)
			})
		})
	}
}

func TestThrottledDeviceIsNotAskedAgain(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: -1})
		w.service.Answer(p.token, pushtest.Reject(429, "TooManyRequests"))
		failsFast(w, pushFailed)
		r := w.ended("push_failed", 480)
		equal(t, "status", r.Pushes[0].Status, 429)
		equal(t, "requests", w.service.Counts().Requests, 1)
	})
}

func TestPushServiceDown(t *testing.T) {
	call(t, nil, func(w *world) {
		w.sleeping(phoneOptions{wakes: -1})
		w.service.Drop()
		w.service.Deafen(true)
		time.Sleep(100 * time.Millisecond) // it is noticed
		start := time.Now()
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "480")
		// The request has left, so it may have been accepted. Nothing came to it
		// within push_timeout (5 s), nor the device within wake_timeout_min.
		if took := time.Since(start); took < 8*time.Second || took > 8100*time.Millisecond {
			t.Errorf("480 came after %v, wake_timeout_min is 8s", took)
		}
		w.ended("push_failed", 480)
		w.service.Deafen(false)
	})
}

func TestDeviceComesBeforeThePushIsAnswered(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: -1, script: siptest.AnswerAfter(time.Second)})
		w.service.Answer(p.token, pushtest.Answer{Delay: 3 * time.Second})
		c := w.invite(siptest.Invitation{})
		time.Sleep(200 * time.Millisecond)
		w.must(p.Register(context.Background()))
		w.await(c, 2*time.Second, "200")
		time.Sleep(3 * time.Second)
		c.Bye()
		w.ended("caller_hung_up", 200)
		w.taken(p)
		w.notTaken(p)
	})
}

func TestOpenFlowOfASuspendedApp(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.awake(phoneOptions{wakes: -1, script: siptest.AnswerAfter(time.Second)})
		time.Sleep(30 * time.Second)
		p.Deafen(true) // suspended: the connection is open, nobody reads it
		c := w.invite(siptest.Invitation{})
		time.Sleep(900 * time.Millisecond)
		equal(t, "pushes", len(w.sentPushes()), 1) // with the INVITE, since nothing was heard for 10 s
		w.must(p.Reconnect(context.Background()))
		p.Deafen(false)
		w.must(p.Register(context.Background()))
		w.await(c, 5*time.Second, "200")
		w.talk(c, w.taken(p))
		c.Bye()
		w.ended("caller_hung_up", 200)
		w.notTaken(p)
		w.golden("suspended_app")
	})
}

func TestFreshFlowThatDoesNotAnswer(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.awake(phoneOptions{wakes: -1, script: siptest.AnswerAfter(time.Second)})
		time.Sleep(5 * time.Second)
		p.Deafen(true)
		c := w.invite(siptest.Invitation{})
		time.Sleep(1900 * time.Millisecond)
		equal(t, "pushes before probe_timeout", len(w.sentPushes()), 0)
		time.Sleep(200 * time.Millisecond)
		equal(t, "pushes after probe_timeout", len(w.sentPushes()), 1)
		w.must(p.Reconnect(context.Background()))
		p.Deafen(false)
		w.must(p.Register(context.Background()))
		w.await(c, 5*time.Second, "200")
		w.talk(c, w.taken(p))
		c.Bye()
		w.ended("caller_hung_up", 200)
		w.golden("probe_timeout")
	})
}

func TestFallbackStatus(t *testing.T) {
	call(t, func(s *setup) { s.trunk.Fallback = "486" }, func(w *world) {
		w.sleeping(phoneOptions{wakes: -1})
		c := w.invite(siptest.Invitation{})
		w.await(c, time.Minute, "486")
		w.ended("no_wake", 486)
	})
}

func TestFallbackAddress(t *testing.T) {
	call(t, func(s *setup) {
		s.trunk.Fallback = "486"
		s.extension.Fallback = "sip:voicemail@pbx.example.com"
	}, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: -1})
		w.service.Unregister(pushtest.Production, p.token, time.Now())
		c := w.invite(siptest.Invitation{})
		m := w.await(c, time.Second, "302")
		equal(t, "Contact", m.Get("Contact"), "<sip:voicemail@pbx.example.com>")
		w.ended("push_gone", 302)
		w.golden("fallback")
	})
}
