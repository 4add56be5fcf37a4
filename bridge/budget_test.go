package bridge_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"reveille/bridge"
	"reveille/sip/siptest"
)

// missed is a call that its caller gives up after a second; it returns the
// final answer.
func (w *world) missed(from string) *siptest.Message {
	w.t.Helper()
	c := w.invite(siptest.Invitation{From: from})
	if m, err := c.Await(500*time.Millisecond, "480"); err == nil {
		time.Sleep(500 * time.Millisecond)
		return m
	}
	time.Sleep(500 * time.Millisecond)
	w.await(w.trunk.Cancel(c), time.Second, "200")
	return w.await(c, time.Second, "487")
}

func TestDeviceIsPushedSixTimesAMinuteForCallsThatNobodyAnswers(t *testing.T) {
	call(t, nil, func(w *world) {
		w.sleeping(phoneOptions{wakes: -1})
		for i := range 6 {
			equal(t, "answer", w.missed(fmt.Sprintf("+49401%d", i)).Code(), 487)
		}
		m := w.missed("+494099")
		equal(t, "answer to the seventh", m.Code(), 480)
		equal(t, "Reason", m.Get("Reason"), `Q.850;cause=20;text="Too many pushes"`)
		equal(t, "pushes", len(w.sentPushes()), 6)
		time.Sleep(10 * time.Second)
		equal(t, "answer ten seconds later", w.missed("+494098").Code(), 487)
		equal(t, "pushes", len(w.sentPushes()), 7)
		r := w.records()[6]
		equal(t, "ending", r.Ending, "push_budget")
		equal(t, "outcome on record", fmt.Sprintf("%d %s %s", len(r.Pushes), r.Pushes[0].Outcome, r.Pushes[0].Reason), "1 budget push_per_minute")
		equal(t, "rejected", w.rejected("push_budget"), 1)
	})
}

func TestDeviceIsPushedSixtyTimesAnHourForCallsThatNobodyAnswers(t *testing.T) {
	call(t, nil, func(w *world) {
		w.sleeping(phoneOptions{wakes: -1})
		start := time.Now()
		for i := range 100 {
			w.missed(fmt.Sprintf("+4940%d", i))
			time.Sleep(11 * time.Second)
		}
		minutes := int(time.Since(start) / time.Minute)
		if n := len(w.sentPushes()); n < 60+minutes-1 || n > 60+minutes+1 {
			t.Errorf("%d pushes in %d minutes, want 60 and one a minute", n, minutes)
		}
	})
}

func TestCallerWakesTheSameCalleeFiveTimesAMinute(t *testing.T) {
	call(t, nil, func(w *world) {
		w.sleeping(phoneOptions{wakes: -1})
		for i := range 7 {
			want := 487
			if i >= 5 {
				want = 480
			}
			equal(t, "answer", w.missed("+49401").Code(), want)
		}
		equal(t, "answer to another caller", w.missed("+49402").Code(), 487)
		equal(t, "pushes", len(w.sentPushes()), 6)
	})
}

// A receptionist who takes forty calls in some minutes, all from the number of
// the PBX's queue, on a phone that sleeps in between.
func TestCallsThatAreAnsweredNeverUseUpTheBudget(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		for range 40 {
			p.Drop()
			c := w.invite(siptest.Invitation{From: "+49400"})
			w.await(c, 10*time.Second, "200")
			taken := w.taken(p)
			c.Bye()
			w.await(taken, time.Second, "BYE")
		}
		equal(t, "pushes", len(w.sentPushes()), 40)
		equal(t, "rejected", w.rejected("push_budget"), 0)
	})
}

func TestDeviceWithoutAPushLeftStillRingsOnItsConnection(t *testing.T) {
	call(t, func(s *setup) { s.calls.Limits.PushPerMinute = 1 }, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: -1})
		w.missed("+49401")
		w.must(p.Register(context.Background()))
		w.taken(p) // the missed one, late
		time.Sleep(20 * time.Second)
		p2 := w.invite(siptest.Invitation{From: "+49402"})
		rings := w.taken(p)
		rings.Ring()
		w.must(rings.Answer())
		w.await(p2, time.Second, "200")
		p2.Bye()
		time.Sleep(time.Second)
		equal(t, "pushes", len(w.sentPushes()), 1)
		equal(t, "rejected", w.rejected("push_budget"), 1)
	})
}

func TestFourthCallAtATimeIsBusy(t *testing.T) {
	call(t, nil, func(w *world) {
		w.sleeping(phoneOptions{wakes: -1})
		var calls []*siptest.Call
		for i := range 3 {
			calls = append(calls, w.invite(siptest.Invitation{From: fmt.Sprint("+4940", i)}))
			time.Sleep(100 * time.Millisecond)
		}
		fourth := w.invite(siptest.Invitation{From: "+49409"})
		equal(t, "Reason", w.await(fourth, time.Second, "486").Get("Reason"), `Q.850;cause=17;text="Too many calls at a time"`)
		w.trunk.Cancel(calls[0])
		w.await(calls[0], time.Second, "487")
		time.Sleep(time.Second)
		w.await(w.invite(siptest.Invitation{From: "+49409"}), time.Second, "180")
		time.Sleep(time.Minute)
		equal(t, "rejected", w.rejected("callee_limit"), 1)
		for _, r := range w.records() {
			if r.Ending == "callee_limit" && r.Code != 486 {
				t.Errorf("code %d", r.Code)
			}
		}
	})
}

func TestAnonymousCallersAreRejectedWhereTheExtensionSaysSo(t *testing.T) {
	for reject, want := range map[bool]string{true: "433", false: "180"} {
		call(t, func(s *setup) { s.extension.RejectAnonymous = reject }, func(w *world) {
			w.sleeping(phoneOptions{wakes: -1})
			c := w.invite(siptest.Invitation{Header: header("Privacy: id")})
			w.await(c, time.Second, want)
			time.Sleep(time.Minute)
			if pushes := len(w.sentPushes()); reject != (pushes == 0) {
				t.Errorf("%d pushes", pushes)
			}
			w.await(w.invite(siptest.Invitation{From: "+4940111"}), time.Second, "180")
			time.Sleep(time.Minute)
		})
	}
}

func TestSameCallByTwoTrunksIsRefusedTheSecondTime(t *testing.T) {
	const passport = "eyJhbGciOiJFUzI1NiJ9.eyJvcmlnaWQiOiIxMjNlNDU2NyJ9.c2ln;info=<https://a.b/c>"
	for name, proof := range map[string][2]string{
		"Session-ID": {"Session-ID: ab30317f1a784dc48ff824d0d3715d86;remote=00000000000000000000000000000000", "Session-ID: AB30317F1A784DC48FF824D0D3715D86"},
		"icid":       {"P-Charging-Vector: icid-value=\"a b\";icid-generated-at=192.0.2.9", "P-Charging-Vector: orig-ioi=x;icid-value=\"a b\""},
		"origid":     {"Identity: " + passport, "Identity: " + passport + ";ppt=shaken"},
	} {
		t.Run(name, func(t *testing.T) {
			call(t, nil, func(w *world) {
				w.sleeping(phoneOptions{wakes: -1})
				first := w.invite(siptest.Invitation{From: "+49401", Header: header(proof[0])})
				time.Sleep(2 * time.Second)
				equal(w.t, "Reason", w.await(w.invite(siptest.Invitation{From: "+49401", Header: header(proof[1])}), time.Second, "482").Get("Reason"),
					`Q.850;cause=25;text="The same call came twice"`)
				// Another caller, or none of the proofs: call waiting.
				w.await(w.invite(siptest.Invitation{From: "+49402", Header: header(proof[1])}), time.Second, "180")
				w.await(w.invite(siptest.Invitation{From: "+49401"}), time.Second, "180")
				w.trunk.Cancel(first)
				time.Sleep(2 * time.Second)
				// The first is over: it is tried again, by the other trunk.
				w.await(w.invite(siptest.Invitation{From: "+49401", Header: header(proof[1])}), time.Second, "180")
				time.Sleep(time.Minute)
				equal(w.t, "rejected", w.rejected("duplicate_call"), 1)
			})
		})
	}
}

// A PBX that is registered as a device sends the call back to us.
func TestCallThatComesBackThroughADeviceIsALoop(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.awake(phoneOptions{script: siptest.RingOnly})
		c := w.invite(siptest.Invitation{})
		mark := w.taken(p).Invite.Get("X-Reveille-Loop")
		back := w.invite(siptest.Invitation{From: "+4940222", Header: header("X-Reveille-Loop: another, " + mark)})
		w.await(back, time.Second, "482")
		equal(t, "rejected", w.rejected("loop"), 1)
		w.await(w.invite(siptest.Invitation{From: "+4940333", Header: header("X-Reveille-Loop: another")}), time.Second, "180")
		equal(t, "mark of the next server", w.taken(p).Invite.Get("X-Reveille-Loop"), "another, "+mark)
		w.trunk.Cancel(c)
		time.Sleep(2 * time.Minute)
	})
}

func TestAtMostTenDevicesArePushed(t *testing.T) {
	call(t, nil, func(w *world) {
		for i := range 12 {
			w.sleeping(phoneOptions{digit: fmt.Sprint(11 + i), wakes: -1})
		}
		w.invite(siptest.Invitation{})
		time.Sleep(time.Minute)
		equal(t, "pushes", len(w.sentPushes()), 10)
		for _, p := range w.sentPushes() {
			if p.Token[:2] == "11" || p.Token[:2] == "12" {
				t.Errorf("the device seen first was pushed: %s", p.Token[:2])
			}
		}
	})
}

func TestLimitsThatAreOff(t *testing.T) {
	call(t, func(s *setup) { s.calls.Limits = bridge.LimitsConfig{} }, func(w *world) {
		w.sleeping(phoneOptions{wakes: -1})
		for range 20 {
			w.invite(siptest.Invitation{})
		}
		time.Sleep(time.Minute)
		equal(t, "pushes", len(w.sentPushes()), 20)
	})
}

// rejected is the value of reveille_rejected_total.
func (w *world) rejected(reason string) (n float64) {
	w.t.Helper()
	families, err := w.metrics.Gather()
	w.must(err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "reveille_rejected_total" && m.GetLabel()[0].GetValue() == reason {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}
