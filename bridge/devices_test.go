package bridge_test

import (
	"context"
	"testing"
	"time"

	"reveille/sip/siptest"
)

const (
	elsewhere = `SIP;cause=200;text="Call completed elsewhere"`
	declined  = `SIP;cause=600;text="Busy Everywhere"`
)

func twoPhones(s *setup) { s.columns = []string{"trunk", siptest.Bridge, "push", "first", "second"} }

func TestOneOfTwoAnswersTheOtherRings(t *testing.T) {
	call(t, twoPhones, func(w *world) {
		second := w.sleeping(phoneOptions{name: "second", digit: "2", wakes: 500 * time.Millisecond, script: siptest.RingOnly})
		first := w.sleeping(phoneOptions{name: "first", wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(2 * time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		other := w.taken(second)
		equal(t, "Reason", w.await(other, time.Second, "CANCEL").Get("Reason"), elsewhere)
		w.await(other, time.Second, "ACK") // to its 487
		taken := w.taken(first)
		w.talk(c, taken)
		c.Bye()
		w.await(taken, time.Second, "BYE")
		r := w.ended("caller_hung_up", 200)
		equal(t, "UUIDs", taken.UUID(), other.UUID())
		equal(t, "pushes on record", len(r.Pushes), 2)
		if taken.ID == other.ID {
			t.Error("both legs have the same Call-ID")
		}
		w.golden("two_devices")
	})
}

func TestOneOfTwoAnswersTheOtherComesLate(t *testing.T) {
	call(t, twoPhones, func(w *world) {
		second := w.sleeping(phoneOptions{name: "second", digit: "2", wakes: 6 * time.Second, script: siptest.RingOnly})
		w.sleeping(phoneOptions{name: "first", wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(2 * time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		other := w.taken(second) // while the call goes on
		equal(t, "Reason", w.await(other, time.Second, "CANCEL").Get("Reason"), elsewhere)
		w.must(other.AwaitOver(time.Second))
		time.Sleep(time.Second)
		c.Bye()
		w.ended("caller_hung_up", 200)
		w.must(second.Register(context.Background()))
		time.Sleep(time.Second)
		w.notTaken(second)
		w.golden("answered_elsewhere_late")
	})
}

func TestBothAnswerAtOnce(t *testing.T) {
	call(t, twoPhones, func(w *world) {
		// The second device's 200 leaves after the first one's has come to the
		// bridge, and before the CANCEL has come to it.
		second := w.sleeping(phoneOptions{name: "second", digit: "2", wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(2 * time.Second)})
		first := w.sleeping(phoneOptions{name: "first", wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(2 * time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		loser := w.taken(second)
		w.await(loser, time.Second, "ACK")
		equal(t, "Reason", w.await(loser, time.Second, "BYE").Get("Reason"), elsewhere)
		w.talk(c, w.taken(first))
		c.Bye()
		w.ended("caller_hung_up", 200)
		w.golden("both_answer")
	})
}

func TestDeclineEndsAll(t *testing.T) {
	call(t, twoPhones, func(w *world) {
		second := w.sleeping(phoneOptions{name: "second", digit: "2", wakes: 400 * time.Millisecond, script: siptest.RingOnly})
		w.sleeping(phoneOptions{name: "first", wakes: 400 * time.Millisecond, script: siptest.RefuseAfter(2*time.Second, 603)})
		c := w.invite(siptest.Invitation{})
		m := w.await(c, 10*time.Second, "603")
		equal(t, "Reason to the trunk", m.Get("Reason"), `Q.850;cause=21;text="Call rejected"`)
		equal(t, "Reason to the other", w.await(w.taken(second), time.Second, "CANCEL").Get("Reason"), declined)
		w.ended("declined", 603)
		w.golden("declined")
	})
}

func TestDeclineReachesALateDevice(t *testing.T) {
	call(t, twoPhones, func(w *world) {
		second := w.sleeping(phoneOptions{name: "second", digit: "2", wakes: 6 * time.Second, script: siptest.RingOnly})
		w.sleeping(phoneOptions{name: "first", wakes: 400 * time.Millisecond, script: siptest.RefuseAfter(time.Second, 603)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "603")
		equal(t, "Reason", w.await(w.taken(second), time.Second, "CANCEL").Get("Reason"), declined)
		w.ended("declined", 603)
	})
}

func TestBusyOnOneTheOtherAnswers(t *testing.T) {
	call(t, twoPhones, func(w *world) {
		w.sleeping(phoneOptions{name: "second", digit: "2", wakes: 400 * time.Millisecond, script: siptest.RefuseAfter(0, 486)})
		first := w.sleeping(phoneOptions{name: "first", wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(3 * time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		w.talk(c, w.taken(first))
		c.Bye()
		w.ended("caller_hung_up", 200)
		w.golden("busy_on_one")
	})
}

func TestBusyOnAll(t *testing.T) {
	call(t, twoPhones, func(w *world) {
		w.sleeping(phoneOptions{name: "second", digit: "2", wakes: 400 * time.Millisecond, script: siptest.RefuseAfter(0, 486)})
		w.sleeping(phoneOptions{name: "first", wakes: 400 * time.Millisecond, script: siptest.RefuseAfter(time.Second, 486)})
		c := w.invite(siptest.Invitation{})
		m := w.await(c, 10*time.Second, "486")
		equal(t, "Reason", m.Get("Reason"), `Q.850;cause=17;text="User busy"`)
		w.ended("busy", 486)
		w.golden("busy_on_all")
	})
}

func TestIncompatibleDevice(t *testing.T) {
	call(t, nil, func(w *world) {
		w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.RefuseAfter(0, 488)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "488")
		w.ended("no_codec", 488)
	})
}

func TestRegisterStormGivesOneInvite(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(2 * time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "180")
		time.Sleep(200 * time.Millisecond)
		p.ReuseNonce()
		for range 3 {
			go func() { _ = p.Register(context.Background()) }()
		}
		w.await(c, 10*time.Second, "200")
		for range 2 {
			w.must(p.Register(context.Background()))
		}
		taken := w.taken(p)
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
		w.notTaken(p)
		equal(t, "pushes", len(w.sentPushes()), 1)
	})
}

func TestRegisterByNewConnectionsGivesOneInvite(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: -1, script: siptest.AnswerAfter(2 * time.Second)})
		c := w.invite(siptest.Invitation{})
		time.Sleep(500 * time.Millisecond)
		for range 3 { // three flows, each heard: the first INVITE was answered with 180
			w.must(p.Reconnect(context.Background()))
			w.must(p.Register(context.Background()))
			time.Sleep(100 * time.Millisecond)
		}
		w.await(c, 10*time.Second, "200")
		c.Bye()
		w.ended("caller_hung_up", 200)
		w.taken(p)
		w.notTaken(p)
	})
}
