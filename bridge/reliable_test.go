package bridge_test

import (
	"fmt"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// A trunk that asks for reliable provisionals: each 180 waits for the PRACK to
// the one before, and all of them say what the 200 says (RFC 3261 §13.2.1).
func TestEarlyMediaWithPRACK(t *testing.T) {
	for _, header := range []string{"Supported", "Require"} {
		t.Run(header, func(t *testing.T) {
			call(t, nil, func(w *world) {
				p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(2 * time.Second)})
				c := w.invite(siptest.Invitation{Prack: true, Header: []siptest.Field{{Name: header, Value: "100rel"}}})
				w.await(c, 10*time.Second, "200")
				taken := w.taken(p)
				w.talk(c, taken)
				c.Bye()
				w.ended("caller_hung_up", 200)
				equal(t, "push states", pushStates(c), "sent accepted awake")
				w.sameSDP(c)
				if header == "Supported" {
					w.golden("prack")
				}
			})
		})
	}
}

// sameSDP holds that every 180 and the 200 carry one and the same answer, and
// come from one dialog.
func (w *world) sameSDP(c *siptest.Call) {
	w.t.Helper()
	ok := c.Got("200")[0]
	for _, m := range c.Got("180") {
		equal(w.t, "SDP of a 180", string(m.Body), string(ok.Body))
		equal(w.t, "To of a 180", m.Get("To"), ok.Get("To"))
	}
}

// The same without PRACK, over several minutes of ringing.
func TestEvery180SaysWhatThe200Says(t *testing.T) {
	for _, prack := range []bool{false, true} {
		call(t, func(s *setup) { s.calls.RingTimeout = 5 * time.Minute }, func(w *world) {
			var header []siptest.Field
			if prack {
				header = []siptest.Field{{Name: "Require", Value: "100rel"}}
			}
			var p *phone
			p = w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: func(c *siptest.Call) {
				c.Ring()
				for range 7 {
					c.Sleep(30 * time.Second)
					w.must(p.Ping())
				}
				w.must(c.Answer())
			}})
			c := w.invite(siptest.Invitation{Prack: prack, Header: header})
			w.await(c, 5*time.Minute, "200")
			if n := len(c.Got("180")); n != 4+3 { // 4 tell of the push, one each minute (Timer C)
				t.Errorf("%d 180s", n)
			}
			w.sameSDP(c)
			c.Bye()
			w.ended("caller_hung_up", 200)
		})
	}
}

func TestTrunkThatNeverSendsPRACK(t *testing.T) {
	call(t, func(s *setup) { s.calls.RingTimeout = 5 * time.Minute }, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.RingOnly})
		c := w.invite(siptest.Invitation{Header: []siptest.Field{{Name: "Require", Value: "100rel"}}})
		w.await(c, 40*time.Second, "504")
		w.await(w.taken(p), time.Second, "CANCEL")
		w.ended("no_prack", 504)
	})
}

// The phone answers while the trunk still owes the PRACK, and the caller gives
// up meanwhile: the phone is hung up on, and the call counts as unanswered.
func TestCancelWhileOurAnswerWaitsForThePRACK(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{Header: []siptest.Field{{Name: "Supported", Value: "100rel"}}})
		taken := w.taken(p)
		w.await(taken, 5*time.Second, "ACK")
		time.Sleep(time.Second)
		if len(c.Got("200")) > 0 {
			t.Error("the 200 did not wait for the PRACK")
		}
		w.trunk.Cancel(c)
		w.await(c, time.Second, "487")
		w.await(taken, time.Second, "BYE")
		w.ended("cancelled", 487)
	})
}

// The phone hangs up while its answer waits for the PRACK: the caller gets a
// refusal, not a 200.
func TestPhoneHangsUpWhileOurAnswerWaitsForThePRACK(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{Header: []siptest.Field{{Name: "Supported", Value: "100rel"}}})
		taken := w.taken(p)
		w.await(taken, 5*time.Second, "ACK")
		taken.Bye()
		if m := w.await(c, time.Second, "final"); m.Code() != 480 {
			t.Errorf("the caller got %q", m.Start)
		}
		if r := w.ended("callee_hung_up", 480); !r.Answer.IsZero() {
			t.Error("the CDR says that the call was answered")
		}
	})
}

// A device's 3xx refuses this device alone: a redirection is neither followed,
// not even to an extension of ours, nor passed to the trunk. Else an app, or
// who has stolen its password, could send calls anywhere at our cost.
func TestRedirectionByADeviceIsItsRefusal(t *testing.T) {
	for _, contact := range []string{"<sip:1001@" + bridgeIP + ">", "<sip:0900123456@premium.example>"} {
		call(t, twoPhones, func(w *world) {
			first := w.awake(phoneOptions{name: "first", script: func(c *siptest.Call) {
				c.Respond(302, nil, siptest.Field{Name: "Contact", Value: contact})
			}})
			c := w.invite(siptest.Invitation{})
			m := w.await(c, 30*time.Second, "final")
			if m.Code() != 480 || m.Get("Contact") != "" {
				t.Errorf("the caller got %q with Contact %q", m.Start, m.Get("Contact"))
			}
			w.taken(first)
			w.notTaken(first)
			w.ended("device_failed", 480)
		})
	}
}

// 199 says that one of the early dialogs behind a forking proxy has ended: that
// is no ringing.
func TestEndOfAnEarlyDialogIsNoRinging(t *testing.T) {
	call(t, nil, func(w *world) {
		w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: func(c *siptest.Call) {
			c.Respond(199, nil)
			c.Sleep(time.Second)
			c.Respond(480, nil)
		}})
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "480")
		if r := w.ended("device_failed", 480); r.RingMS != 0 {
			t.Error("199 was taken as ringing")
		}
	})
}

// The INVITE to the device has one hop less than the trunk's (RFC 7332 §4).
func TestMaxForwardsOfTheDevicesInvite(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.RefuseAfter(0, 486)})
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "486")
		equal(t, "Max-Forwards", w.taken(p).Invite.Get("Max-Forwards"), "69")
		w.ended("busy", 486)
	})
}

// Reliable provisionals, their PRACKs and the 200 behind them find their way.
func TestPRACKOverABadNetwork(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			call(t, nil, func(w *world) {
				p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(200 * time.Millisecond)})
				w.net.Seed(seed)
				w.distance(trunkIP, bad(trunkDelay))
				c := w.invite(siptest.Invitation{Prack: true, Header: header("Require: 100rel")})
				w.await(c, 30*time.Second, "200")
				taken := w.taken(p)
				w.await(taken, 30*time.Second, "ACK")
				w.sameSDP(c)
				time.Sleep(5 * time.Second) // the 200 may still want its ACK
				c.Bye()
				w.await(taken, 40*time.Second, "BYE")
				w.ended("caller_hung_up", 200)
			})
		})
	}
}
