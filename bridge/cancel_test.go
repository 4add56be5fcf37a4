package bridge_test

import (
	"context"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// cancelWhileParked has a call cancelled one second after its INVITE.
func cancelWhileParked(w *world) *siptest.Call {
	w.t.Helper()
	c := w.invite(siptest.Invitation{})
	time.Sleep(time.Second)
	x := w.trunk.Cancel(c)
	w.await(x, time.Second, "200")
	w.await(c, time.Second, "487")
	return c
}

func TestCancelledBeforeWake(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 3 * time.Second, script: siptest.RingOnly})
		cancelWhileParked(w)
		late := w.taken(p)
		cancel := w.await(late, time.Second, "CANCEL")
		equal(t, "Reason", cancel.Get("Reason"), "")
		w.await(late, time.Second, "ACK")
		r := w.ended("cancelled", 487)
		equal(t, "UUID", late.UUID(), r.Call)
		equal(t, "Call-ID in the push", w.sentPushes()[0].Payload["call_id"], any(late.ID))
		if late.Invite.Body == nil {
			t.Error("the late INVITE has no SDP")
		}
		w.must(p.Register(context.Background())) // once is enough
		time.Sleep(time.Second)
		w.notTaken(p)
		w.golden("cancelled_before_wake")
	})
}

func TestCallersReasonReachesALateDevice(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 3 * time.Second, script: siptest.RingOnly})
		c := w.invite(siptest.Invitation{})
		time.Sleep(time.Second)
		w.trunk.Cancel(c, siptest.Field{Name: "Reason", Value: `SIP;cause=487;text="gone"`})
		equal(t, "Reason", w.await(w.taken(p), time.Second, "CANCEL").Get("Reason"), `SIP;cause=487;text="gone"`)
		w.ended("cancelled", 487)
	})
}

func TestLateDeviceAnswersAtOnce(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 3 * time.Second, script: siptest.AnswerAfter(0)})
		cancelWhileParked(w)
		late := w.taken(p)
		w.await(late, time.Second, "ACK")
		w.await(late, time.Second, "BYE")
		w.ended("cancelled", 487)
		w.golden("late_device_answers")
	})
}

func TestLateDeviceSaysNothing(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 3 * time.Second, script: siptest.SayNothing})
		cancelWhileParked(w)
		late := w.taken(p)
		w.ended("cancelled", 487)
		if n := len(late.Got("CANCEL")); n != 0 {
			t.Errorf("%d CANCELs without a provisional (RFC 3261 §9.1)", n)
		}
		w.must(p.Register(context.Background()))
		time.Sleep(time.Second)
		w.notTaken(p)
	})
}

func TestDeviceThatComesTooLateIsLeftAlone(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 70 * time.Second, script: siptest.RingOnly})
		cancelWhileParked(w)
		time.Sleep(80 * time.Second) // late_window is 60 s
		w.notTaken(p)
		w.ended("cancelled", 487)
	})
}

func TestCancelledWhileRinging(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.RingOnly})
		c := w.invite(siptest.Invitation{})
		taken := w.taken(p)
		time.Sleep(3 * time.Second)
		w.trunk.Cancel(c, siptest.Field{Name: "Reason", Value: "Q.850;cause=16"})
		w.await(c, time.Second, "487")
		equal(t, "Reason", w.await(taken, time.Second, "CANCEL").Get("Reason"), "Q.850;cause=16")
		w.await(taken, time.Second, "ACK")
		w.ended("cancelled", 487)
		w.notTaken(p)
		w.golden("caller_hangs_up_ringing")
	})
}

func TestCancelBetweenPushAndItsAnswer(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 2 * time.Second, script: siptest.RingOnly})
		c := w.invite(siptest.Invitation{})
		time.Sleep(15 * time.Millisecond) // the push is on its way
		w.trunk.Cancel(c)
		w.await(c, time.Second, "487")
		w.await(w.taken(p), time.Second, "CANCEL")
		w.ended("cancelled", 487)
	})
}

func TestAnswerCrossesTheCallersCancel(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.RingOnly})
		c := w.invite(siptest.Invitation{})
		taken := w.taken(p)
		time.Sleep(2 * time.Second)
		w.must(taken.Answer()) // reaches the bridge after 21 ms
		time.Sleep(5 * time.Millisecond)
		w.trunk.Cancel(c) // after 10 ms
		w.await(c, time.Second, "487")
		w.await(taken, time.Second, "ACK")
		w.await(taken, time.Second, "BYE")
		w.ended("cancelled", 487)
		w.golden("answer_crosses_cancel")
	})
}

func TestCancelCrossesOurAnswer(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.RingOnly})
		c := w.invite(siptest.Invitation{})
		taken := w.taken(p)
		time.Sleep(2 * time.Second)
		w.must(taken.Answer())
		time.Sleep(phoneDelay - 2*time.Millisecond)
		w.trunk.Cancel(c) // our 200 leaves 3 ms before it comes
		w.await(c, time.Second, "200")
		time.Sleep(time.Second)
		if taken.Got("BYE") != nil {
			t.Error("a CANCEL after the 200 ended the call (RFC 3261 §9.2)")
		}
		c.Bye()
		w.await(taken, time.Second, "BYE")
		w.ended("caller_hung_up", 200)
	})
}

func TestRingTimeout(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.RingOnly})
		c := w.invite(siptest.Invitation{})
		m := w.await(c, 50*time.Second, "480")
		equal(t, "Reason", m.Get("Reason"), `Q.850;cause=19;text="No answer"`)
		w.await(w.taken(p), time.Second, "CANCEL")
		w.ended("no_answer", 480)
		w.golden("ring_timeout")
	})
}

func TestRestartKeepsTheTombstones(t *testing.T) {
	call(t, func(s *setup) { s.state = t.TempDir() }, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: -1, script: siptest.RingOnly})
		cancelWhileParked(w)
		time.Sleep(time.Second)
		w.stopBridge()
		w.start()
		time.Sleep(time.Second)
		w.must(p.Register(context.Background()))
		late := w.taken(p)
		w.await(late, time.Second, "CANCEL")
		equal(t, "UUID", w.sentPushes()[0].Payload["uuid"], any(late.UUID()))
		equal(t, "Call-ID in the push", w.sentPushes()[0].Payload["call_id"], any(late.ID))
		w.await(late, time.Second, "ACK")
		w.stopBridge()
		w.start()
		w.must(p.Reconnect(context.Background()))
		w.must(p.Register(context.Background()))
		time.Sleep(time.Second)
		w.notTaken(p)
		w.golden("restart_with_tombstone")
	})
}

func TestRestartWhileParked(t *testing.T) {
	call(t, func(s *setup) { s.state = t.TempDir() }, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: -1, script: siptest.RingOnly})
		c := w.invite(siptest.Invitation{})
		time.Sleep(time.Second)
		w.stopBridge()
		time.Sleep(time.Second)
		w.await(c, 0, "503")
		w.start()
		w.must(p.Register(context.Background()))
		w.await(w.taken(p), time.Second, "CANCEL")
		w.ended("shutdown", 503)
	})
}
