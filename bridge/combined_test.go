package bridge_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// This file holds what happens when one thing comes upon another in a call.

// A call that was handed over counts for the extension that has it, and for
// nobody once it is over.
func TestTransferredCallCountsForTheExtensionThatHasIt(t *testing.T) {
	call(t, func(s *setup) { twoExtensions(s); s.calls.Limits.CallsPerCallee = 1 }, func(w *world) {
		c, taken, _ := handedOver(w, siptest.AnswerAfter(time.Second))
		w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "202")
		w.await(taken, 5*time.Second, "BYE")
		for to, code := range map[string]string{number: "180", other.Numbers[0]: "486"} {
			x := w.invite(siptest.Invitation{From: "+49401", To: to})
			w.await(x, time.Second, code)
			w.trunk.Cancel(x)
		}
		time.Sleep(time.Second)
		c.Bye()
		time.Sleep(time.Second)
		for _, to := range []string{number, other.Numbers[0]} {
			x := w.invite(siptest.Invitation{From: "+49402", To: to})
			w.await(x, time.Second, "180")
			w.trunk.Cancel(x)
		}
		time.Sleep(40 * time.Second)
	})
}

// An extension that has as many calls as it may is busy for a transfer too, and
// one whose transfer has failed has no call more than before.
func TestTransferToAnExtensionThatIsFull(t *testing.T) {
	call(t, func(s *setup) { twoExtensions(s); s.calls.Limits.CallsPerCallee = 1 }, func(w *world) {
		c, taken, desk := handedOver(w, siptest.RefuseAfter(time.Second, 486))
		for range 3 {
			w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "202")
			time.Sleep(3 * time.Second)
		}
		w.must(desk.Register(context.Background()))
		x := w.invite(siptest.Invitation{From: "+49401", To: other.Numbers[0]})
		w.await(x, time.Second, "180")
		w.await(taken.Refer("sip:1002@192.0.2.1"), 100*time.Millisecond, "486")
		w.await(x, 5*time.Second, "486")
		w.talk(c, taken)
		c.Bye()
		time.Sleep(40 * time.Second)
		equal(t, "CDRs", len(w.records()), 2)
	})
}

// Pushes of a transfer that was answered were wanted, and are given back.
func TestTransfersThatAreAnsweredNeverUseUpTheBudget(t *testing.T) {
	call(t, func(s *setup) { twoExtensions(s); s.calls.Limits.PushPerMinute = 2 }, func(w *world) {
		desk := w.sleeping(phoneOptions{name: "desk", digit: "2", wakes: 300 * time.Millisecond, script: siptest.AnswerAfter(time.Second), change: as("1002")})
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		for i := range 6 {
			p.Drop()
			desk.Drop()
			c := w.invite(siptest.Invitation{From: "+49400"})
			w.await(c, 5*time.Second, "200")
			time.Sleep(100 * time.Millisecond)
			taken := w.taken(p)
			w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "202")
			if _, err := taken.Await(4*time.Second, "BYE"); err != nil {
				t.Fatalf("transfer %d: %v", i, err)
			}
			c.Bye()
			time.Sleep(time.Second)
		}
		equal(t, "rejected", w.rejected("push_budget"), 0)
	})
}

// What a phone asks for in one breath with its answer is not lost.
func TestTransferRightBehindTheAnswer(t *testing.T) {
	for range 10 {
		call(t, twoExtensions, func(w *world) {
			w.sleeping(phoneOptions{name: "desk", digit: "2", wakes: 300 * time.Millisecond, script: siptest.AnswerAfter(time.Second), change: as("1002")})
			p := w.awake(phoneOptions{script: siptest.SayNothing})
			c := w.invite(siptest.Invitation{})
			taken := w.taken(p)
			time.Sleep(time.Second)
			taken.Ring()
			w.must(taken.Answer())
			w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "202")
			w.await(taken, 5*time.Second, "BYE")
			c.Bye()
			w.ended("caller_hung_up", 200)
		})
	}
}

// A phone that has forgotten the call takes it up by INVITE with Replaces: it
// may then be silent for as long as it likes.
func TestForgetfulPhoneThatTookTheCallUpMayBeSilent(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, p := established(w, siptest.Invitation{})
		w.talk(c, taken)
		named := replaces(taken, "")
		p.Forget(taken)
		w.roam(p, otherNetwork)
		time.Sleep(5 * time.Second) // our re-INVITE got 481
		again := w.invites(p, "", named)
		w.await(again, time.Second, "200")
		time.Sleep(30 * time.Second)
		w.must(c.Talk(context.Background(), 10))
		again.Bye()
		w.await(c, time.Second, "BYE")
		w.ended("callee_hung_up", 200)
	})
}

// The user answers on the flow that has died, and by the next one too: only one
// of the two is the call.
func TestBothBranchesOfAPhoneAnswer(t *testing.T) {
	call(t, nil, func(w *world) {
		c, first, p := ringing(w, siptest.RingOnly, siptest.RingOnly)
		p.Drop()
		time.Sleep(time.Second)
		w.must(p.Register(context.Background()))
		again := w.taken(p)
		time.Sleep(500 * time.Millisecond)
		w.must(again.Answer())
		w.await(c, time.Second, "200")
		time.Sleep(time.Second)
		w.must(first.Answer())
		w.await(first, time.Second, "ACK")
		w.await(first, time.Second, "BYE")
		w.talk(c, again)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// The same on a device of the extension that a call is transferred to, whose
// transfer has failed.
func TestAnswerOfALostBranchAfterAFailedTransfer(t *testing.T) {
	call(t, twoExtensions, func(w *world) {
		c, taken, desk := handedOver(w, siptest.RingOnly)
		w.recalls = 1
		w.wakes(desk, 300*time.Millisecond)
		w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "202")
		rings := w.taken(desk)
		time.Sleep(time.Second)
		desk.Drop()
		w.wakes(desk, -1)
		time.Sleep(40 * time.Second)
		w.must(desk.Register(context.Background()))
		w.must(rings.Answer())
		w.await(rings, time.Second, "BYE")
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// The caller hangs up while a phone has the call on two branches: both are told.
func TestCancelReachesBothBranchesOfAPhone(t *testing.T) {
	call(t, nil, func(w *world) {
		c, first, p := ringing(w, siptest.RingOnly, siptest.RingOnly)
		p.Drop()
		time.Sleep(time.Second)
		w.must(p.Register(context.Background()))
		again := w.taken(p)
		time.Sleep(500 * time.Millisecond)
		w.trunk.Cancel(c)
		w.await(again, time.Second, "CANCEL")
		w.await(first, time.Second, "CANCEL")
		w.ended("cancelled", 487)
		w.notTaken(p)
	})
}

// An INVITE without an offer is answered with our 200, however the call ends.
func TestEndingBeforeTheACKOfAnOfferlessCall(t *testing.T) {
	for name, x := range map[string]struct {
		ending string
		end    func(w *world, c, taken *siptest.Call)
	}{
		"no ACK":   {"no_ack", func(*world, *siptest.Call, *siptest.Call) {}},
		"caller":   {"caller_hung_up", func(_ *world, c, _ *siptest.Call) { c.Bye() }},
		"callee":   {"callee_hung_up", func(_ *world, _, taken *siptest.Call) { taken.Bye() }},
		"operator": {"hung_up_by_admin", func(w *world, _, taken *siptest.Call) { w.must(w.bridge.Hangup(taken.UUID())) }},
	} {
		t.Run(name, func(t *testing.T) {
			call(t, nil, func(w *world) {
				c, taken, _ := established(w, siptest.Invitation{NoOffer: true, NoAck: true})
				time.Sleep(time.Second)
				x.end(w, c, taken)
				w.must(taken.AwaitOver(35 * time.Second))
				w.must(c.AwaitOver(40 * time.Second))
				if r := w.ended(x.ending, 200); r.Seconds <= 0 || r.Device == "" {
					t.Errorf("answered for %v s by %q", r.Seconds, r.Device)
				}
			})
		})
	}
}

// A phone that never acknowledges a 200 within the call has gone, not hung up.
func TestPhoneThatNeverAcknowledgesIsGone(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		taken.NoAck = true
		w.await(taken.Reinvite(taken.Audio.SDP("sendrecv")), time.Second, "200")
		w.await(c, 35*time.Second, "BYE")
		w.ended("callee_gone", 200)
	})
}

// A timeline is bounded, and tells the end all the same.
func TestLongTimelineTellsTheEnd(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		for range 250 {
			w.await(c.Ask("INFO", "application/dtmf", "1"), time.Second, "200")
		}
		taken.Bye()
		r := w.ended("callee_hung_up", 200)
		if n := len(r.Timeline); n > 210 || r.Timeline[n-1].Event != "over" {
			t.Errorf("%d steps, the last is %s", n, fmt.Sprint(r.Timeline[n-1]))
		}
	})
}

// The bridge is stopped while the trunk's ACK is under way: the BYE that waits
// for that goes out at once, and the bridge ends.
func TestShutdownBeforeTheACK(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{NoAck: true})
		w.stop()
		w.await(c, 5*time.Second, "BYE")
		w.await(taken, 5*time.Second, "BYE")
		w.ended("shutdown", 200)
	})
}

// The caller hangs up while the phone has no connection: the BYE goes by the next
// one that it comes back by.
func TestByeWaitsForAPhoneThatComesBack(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, p := established(w, siptest.Invitation{})
		p.Drop()
		time.Sleep(time.Second)
		c.Bye()
		time.Sleep(10 * time.Second)
		w.must(p.Register(context.Background()))
		w.await(taken, 2*time.Second, "BYE")
		time.Sleep(40 * time.Second)
		equal(t, "BYEs", len(taken.Got("BYE")), 1)
		w.ended("caller_hung_up", 200)
	})
}
