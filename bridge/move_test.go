package bridge_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// ringing is a call whose phone woke and rings; then each further INVITE gets
// what the scripts say, in turn.
func ringing(w *world, scripts ...func(*siptest.Call)) (*siptest.Call, *siptest.Call, *phone) {
	w.t.Helper()
	p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: inTurn(scripts...)})
	c := w.invite(siptest.Invitation{})
	first := w.taken(p)
	time.Sleep(time.Second)
	return c, first, p
}

func inTurn(scripts ...func(*siptest.Call)) func(*siptest.Call) {
	next := make(chan func(*siptest.Call), len(scripts))
	for _, s := range scripts {
		next <- s
	}
	return func(c *siptest.Call) { (<-next)(c) }
}

// roam lets a phone leave its network without a word and register from another.
func (w *world) roam(p *phone, ip string) {
	w.t.Helper()
	w.net.Partition("192.0.2.11", true)
	w.distance(ip, siptest.Link{Delay: phoneDelay})
	w.must(p.Roam(context.Background(), w.net.Host(ip), ip))
	w.must(p.Register(context.Background()))
}

// The app has the call by its UUID and by the Call-ID of its push, and tells
// the two INVITEs apart by their From tags.
func TestFlowDiesWhileThePhoneRings(t *testing.T) {
	call(t, nil, func(w *world) {
		c, first, p := ringing(w, siptest.RingOnly, siptest.AnswerAfter(2*time.Second))
		p.Drop()
		time.Sleep(time.Second)
		w.must(p.Register(context.Background()))
		again := w.taken(p)
		w.await(c, 10*time.Second, "200")
		time.Sleep(100 * time.Millisecond)
		w.talk(c, again)
		c.Bye()
		w.ended("caller_hung_up", 200)
		equal(t, "UUID", again.UUID(), first.UUID())
		equal(t, "Call-ID", again.ID, first.ID)
		if again.Invite.Get("From") == first.Invite.Get("From") {
			t.Error("both INVITEs have one From tag: one dialog")
		}
		equal(t, "CANCELs and BYEs on the dead branch", len(first.Got("CANCEL"))+len(first.Got("BYE")), 0)
		equal(t, "pushes", len(w.sentPushes()), 1)
		w.golden("flow_dies_ringing")
	})
}

// The user has answered on the branch whose flow died: that counts.
func TestAnswerToTheOrphanedInvite(t *testing.T) {
	call(t, nil, func(w *world) {
		c, first, p := ringing(w, siptest.RingOnly, siptest.RingOnly)
		p.Drop()
		time.Sleep(time.Second)
		w.must(p.Register(context.Background()))
		again := w.taken(p)
		time.Sleep(500 * time.Millisecond)
		w.must(first.Answer())
		w.await(c, 10*time.Second, "200")
		w.await(again, time.Second, "CANCEL")
		time.Sleep(100 * time.Millisecond)
		w.talk(c, first)
		c.Bye()
		w.await(first, time.Second, "BYE")
		w.ended("caller_hung_up", 200)
		w.golden("orphan_answers")
	})
}

// He has declined on it: that counts as well.
func TestRefusalOfTheOrphanedInvite(t *testing.T) {
	call(t, nil, func(w *world) {
		c, first, p := ringing(w, siptest.RingOnly, siptest.RingOnly)
		p.Drop()
		time.Sleep(time.Second)
		w.must(p.Register(context.Background()))
		again := w.taken(p)
		first.Respond(603, nil)
		w.await(c, time.Second, "603")
		w.await(first, time.Second, "ACK")
		w.await(again, time.Second, "CANCEL")
		w.ended("declined", 603)
	})
}

// No REGISTER for three seconds: the push of the call is used up and the flow
// provably gone, so one further push with the same UUID goes out.
func TestLostPhoneIsPushedOnceMore(t *testing.T) {
	call(t, nil, func(w *world) {
		w.recalls = 1
		c, first, p := ringing(w, siptest.RingOnly, siptest.AnswerAfter(time.Second))
		w.wakes(p, -1)
		lost := time.Now()
		p.Drop()
		time.Sleep(2900 * time.Millisecond)
		equal(t, "pushes before 3 s", len(w.sentPushes()), 1)
		w.wakes(p, 2*time.Second)
		w.await(c, 10*time.Second, "200")
		if took := time.Since(lost); took < 6*time.Second || took > 7*time.Second { // 3 + 2 + 1 s and the ways
			t.Errorf("answered %v after the loss", took)
		}
		pushes := w.sentPushes()
		equal(t, "pushes", len(pushes), 2)
		equal(t, "UUID of the second", pushes[1].Payload["uuid"], pushes[0].Payload["uuid"])
		equal(t, "Call-ID", w.taken(p).ID, first.ID)
		c.Bye()
		w.ended("caller_hung_up", 200)
		w.golden("orphan_recalled")
	})
}

// It does not come back: 480 when its time to wake is over, and no third push.
func TestLostPhoneDoesNotComeBack(t *testing.T) {
	call(t, nil, func(w *world) {
		w.recalls = 1
		c, _, p := ringing(w, siptest.RingOnly)
		w.wakes(p, -1)
		p.Drop()
		w.await(c, 24*time.Second, "480") // 3 s, and wake_timeout
		equal(t, "pushes", len(w.sentPushes()), 2)
		w.ended("no_answer", 480)
	})
}

// A phone has changed networks while it rings. Its old connection is open at
// our end: nothing came back on it when it was asked, so the call moves.
func TestRingingPhoneChangesNetworks(t *testing.T) {
	for _, transport := range []string{"tcp", "udp"} {
		t.Run(transport, func(t *testing.T) {
			call(t, nil, func(w *world) {
				p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: inTurn(siptest.RingOnly, siptest.AnswerAfter(time.Second)),
					change: func(o *siptest.PhoneOptions) { o.Transport = transport }})
				c := w.invite(siptest.Invitation{})
				w.taken(p)
				time.Sleep(time.Second)
				w.roam(p, "198.51.100.7")
				came := time.Now()
				again := w.taken(p)
				if took := time.Since(came); took > 2100*time.Millisecond {
					t.Errorf("the second INVITE came %v after the REGISTER", took)
				}
				w.await(c, 10*time.Second, "200")
				time.Sleep(100 * time.Millisecond)
				w.talk(c, again)
				c.Bye()
				w.ended("caller_hung_up", 200)
				w.notTaken(p)
				equal(t, "pushes", len(w.sentPushes()), 1)
				if transport == "tcp" {
					w.golden("changes_networks_ringing")
				}
			})
		})
	}
}

// The same phone keeps both networks: the old flow answers, and rings on.
func TestRingingPhoneRegistersByAnotherFlowToo(t *testing.T) {
	for _, transport := range []string{"tcp", "udp"} {
		t.Run(transport, func(t *testing.T) {
			call(t, nil, func(w *world) {
				p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(6 * time.Second),
					change: func(o *siptest.PhoneOptions) { o.Transport = transport }})
				c := w.invite(siptest.Invitation{})
				taken := w.taken(p)
				for range 3 {
					w.must(p.Reconnect(context.Background()))
					w.must(p.Register(context.Background()))
					time.Sleep(100 * time.Millisecond)
				}
				w.await(c, 10*time.Second, "200")
				w.talk(c, taken)
				c.Bye()
				w.ended("caller_hung_up", 200)
				w.notTaken(p)
			})
		})
	}
}

// The caller hangs up while the phone, gone to another network, is asked on its
// old flow: the CANCEL goes by the new one.
func TestCancelFollowsARingingPhone(t *testing.T) {
	call(t, nil, func(w *world) {
		c, first, p := ringing(w, siptest.RingOnly)
		w.roam(p, "198.51.100.7")
		w.trunk.Cancel(c)
		w.await(c, time.Second, "487")
		cancel := w.await(first, time.Second, "CANCEL")
		if strings.Contains(cancel.Get("Reason"), "cause=200") {
			t.Errorf("Reason: %s", cancel.Get("Reason"))
		}
		w.ended("cancelled", 487)
		w.notTaken(p)
	})
}

// Two flows of one device (reg-id 1 and 2) bring one INVITE; the second is used
// when the first fails, and no push is needed.
func TestSecondFlowOfADeviceIsTriedWhenTheFirstFails(t *testing.T) {
	both := func(w *world, script func(*siptest.Call)) (one, two *phone) {
		one = w.awake(phoneOptions{wakes: -1, script: script})
		w.phones["the first flow"] = one // both have one token
		two = w.awake(phoneOptions{name: "phone", digit: "2", wakes: -1, script: script, change: func(o *siptest.PhoneOptions) {
			o.Instance, o.PRID, o.RegID = "urn:uuid:00000000-0000-4000-8000-000000000001", strings.Repeat("1", 64), 2
		}})
		return one, two
	}
	t.Run("both alive", func(t *testing.T) {
		call(t, nil, func(w *world) {
			one, two := both(w, siptest.AnswerAfter(3*time.Second))
			c := w.invite(siptest.Invitation{})
			w.await(c, 10*time.Second, "200")
			c.Bye()
			w.ended("caller_hung_up", 200)
			equal(t, "INVITEs", len(one.Calls())+len(two.Calls()), 1)
		})
	})
	t.Run("the first dies while it rings", func(t *testing.T) {
		call(t, nil, func(w *world) {
			one, two := both(w, siptest.AnswerAfter(3*time.Second))
			c := w.invite(siptest.Invitation{})
			w.taken(two) // the newest
			time.Sleep(time.Second)
			two.Drop()
			w.taken(one)
			w.await(c, 10*time.Second, "200")
			c.Bye()
			w.ended("caller_hung_up", 200)
			equal(t, "pushes", len(w.sentPushes()), 0)
		})
	})
	t.Run("the first says nothing", func(t *testing.T) {
		call(t, nil, func(w *world) {
			one, two := both(w, siptest.AnswerAfter(time.Second))
			two.Deafen(true)
			start := time.Now()
			c := w.invite(siptest.Invitation{})
			w.taken(one)
			if took := time.Since(start); took < 2*time.Second || took > 2200*time.Millisecond {
				t.Errorf("the second flow was used %v after the INVITE", took)
			}
			w.await(c, 10*time.Second, "200")
			c.Bye()
			w.ended("caller_hung_up", 200)
		})
	})
}

// The phone comes from its next network with another reg-id: the flow where it
// rings is not replaced by that, and dead all the same.
func TestRingingPhoneComesWithAnotherRegID(t *testing.T) {
	call(t, nil, func(w *world) {
		one := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.RingOnly})
		c := w.invite(siptest.Invitation{})
		w.taken(one)
		time.Sleep(time.Second)
		w.net.Partition("192.0.2.11", true)
		w.phones["the first flow"] = one // both have one token
		two := w.awake(phoneOptions{name: "phone", digit: "2", wakes: -1, script: siptest.AnswerAfter(time.Second), change: func(o *siptest.PhoneOptions) {
			o.Instance, o.PRID, o.RegID = "urn:uuid:00000000-0000-4000-8000-000000000001", strings.Repeat("1", 64), 2
		}})
		w.await(c, 5*time.Second, "200")
		w.talk(c, w.taken(two))
		c.Bye()
		w.ended("caller_hung_up", 200)
		equal(t, "pushes", len(w.sentPushes()), 1)
	})
}
