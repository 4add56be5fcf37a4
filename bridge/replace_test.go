package bridge_test

import (
	"context"
	"testing"
	"time"

	"reveille/bridge"
	"reveille/sip/siptest"
)

func replaces(c *siptest.Call, more string) siptest.Field {
	return siptest.Field{Name: "Replaces", Value: c.Replaces() + more}
}

// other is a second extension; as makes a phone its.
var other = bridge.Extension{Name: "1002", Password: "secret", Numbers: []string{"+4930123457"}}

func as(user string) func(*siptest.PhoneOptions) {
	return func(o *siptest.PhoneOptions) { o.User = user }
}

// invites is Phone.Invite that must succeed.
func (w *world) invites(p *phone, sdp string, extra ...siptest.Field) *siptest.Call {
	w.t.Helper()
	c, err := p.Invite(sdp, extra...)
	w.must(err)
	return c
}

// RFC 3891 §3: a phone whose connection has died puts a new dialog in the place
// of the answered one; the trunk sees nothing.
func TestReplacesOfAnAnsweredCall(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, p := established(w, siptest.Invitation{})
		p.Drop()
		time.Sleep(time.Second)
		w.must(p.Register(context.Background()))
		again := w.invites(p, "", replaces(taken, ""))
		w.await(again, time.Second, "200")
		w.await(taken, time.Second, "BYE")
		time.Sleep(100 * time.Millisecond)
		w.talk(c, again)
		equal(t, "INVITEs at the trunk", len(c.Got("INVITE")), 0)
		w.await(again.Ask("INFO", "application/dtmf", "1"), time.Second, "200")
		again.Bye()
		w.await(c, time.Second, "BYE")
		w.ended("callee_hung_up", 200)
		w.golden("replaces_confirmed")
	})
}

// SIP's call goes on even before the phone has registered again: its digest is
// proof enough, once it is asked for.
func TestReplacesByAPhoneThatHasNotRegisteredIsChallenged(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, p := established(w, siptest.Invitation{})
		w.must(p.Reconnect(context.Background()))
		first := w.invites(p, "", replaces(taken, ""))
		w.await(first, time.Second, "401")
		equal(t, "BYEs before the digest", len(taken.Got("BYE")), 0)
		again, err := p.AuthorizedInvite(first)
		w.must(err)
		w.await(again, time.Second, "200")
		time.Sleep(100 * time.Millisecond)
		w.talk(c, again)
		c.Bye()
		w.await(again, time.Second, "BYE")
		w.ended("caller_hung_up", 200)
	})
}

// RFC 3891 §3: what matches nothing is 481, what is over 603, early-only of an
// answered call 486; a plain INVITE of a phone stays 403.
func TestReplacesThatDoesNotMatch(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, p := established(w, siptest.Invitation{})
		for value, want := range map[string]string{
			taken.Replaces() + "x":           "481",
			"x" + taken.Replaces():           "481",
			taken.PeersReplaces():            "481",
			"a;to-tag=b":                     "400",
			taken.Replaces() + ";early-only": "486",
			c.Replaces():                     "481", // the trunk's leg is not the phone's to take
		} {
			w.await(w.invites(p, "", siptest.Field{Name: "Replaces", Value: value}), time.Second, want)
		}
		w.await(w.invites(p, ""), time.Second, "403")
		w.await(w.invites(p, "nonsense", replaces(taken, "")), time.Second, "400")
		w.await(w.invites(p, "", replaces(taken, ""), siptest.Field{Name: "Require", Value: "x"}), time.Second, "420")
		w.talk(c, taken)
		c.Bye()
		w.await(taken, time.Second, "BYE")
		time.Sleep(100 * time.Millisecond)
		w.await(w.invites(p, "", replaces(taken, ""), siptest.Field{Name: "Require", Value: "replaces"}), time.Second, "603")
		w.ended("caller_hung_up", 200)
	})
}

// Another extension's phone takes no call over, even if it knows the tags.
func TestReplacesByAForeignExtensionIsRefused(t *testing.T) {
	call(t, func(s *setup) { s.more = append(s.more, other) }, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		thief := w.awake(phoneOptions{name: "thief", digit: "2", change: as("1002")})
		first := w.invites(thief, "", replaces(taken, ""))
		w.await(first, time.Second, "401")
		again, err := thief.AuthorizedInvite(first)
		w.must(err)
		w.await(again, time.Second, "403")
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// A stranger's INVITE with Replaces is dropped without a word, unless it names
// a live leg: then it is asked for the digest and nothing more happens.
func TestReplacesByAStranger(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, p := established(w, siptest.Invitation{})
		w.must(p.Reconnect(context.Background()))
		x := w.invites(p, "", siptest.Field{Name: "Replaces", Value: "a;to-tag=b;from-tag=c"})
		time.Sleep(5 * time.Second)
		equal(t, "answers to a stranger", len(x.Got("")), 0)
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// A phone whose flow dies while it rings answers by a dialog of its own: that
// is its answer, and the INVITE that has gone to its new flow is cancelled.
func TestReplacesOfARingingLegIsTheAnswer(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.RingOnly})
		c := w.invite(siptest.Invitation{})
		rings := w.taken(p)
		time.Sleep(time.Second)
		p.Drop()
		time.Sleep(time.Second)
		w.must(p.Register(context.Background()))
		second := w.taken(p)
		time.Sleep(100 * time.Millisecond)
		again := w.invites(p, "", replaces(rings, ";early-only"))
		w.await(again, time.Second, "200")
		w.await(c, time.Second, "200")
		w.await(second, time.Second, "CANCEL")
		time.Sleep(100 * time.Millisecond)
		w.talk(c, again)
		c.Bye()
		w.await(again, time.Second, "BYE")
		w.ended("caller_hung_up", 200)
		w.golden("replaces_early")
	})
}

// The same where the flow lives: the INVITE that rings is cancelled.
func TestReplacesOfALegThatRings(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.awake(phoneOptions{script: siptest.RingOnly})
		q := w.awake(phoneOptions{name: "desk", digit: "2", script: siptest.RingOnly})
		c := w.invite(siptest.Invitation{})
		first, other := w.taken(p), w.taken(q)
		time.Sleep(time.Second)
		desk := w.invites(q, "", replaces(first, "")) // one device answers the call that rings at the other
		w.await(desk, time.Second, "200")
		w.await(c, time.Second, "200")
		w.await(first, time.Second, "CANCEL")
		w.await(other, time.Second, "CANCEL")
		time.Sleep(100 * time.Millisecond)
		w.talk(c, desk)
		desk.Bye()
		w.await(c, time.Second, "BYE")
		w.ended("callee_hung_up", 200)
	})
}

// The caller hangs up about the moment in which a ringing leg is replaced.
func TestCancelCrossesReplaces(t *testing.T) {
	for _, sooner := range []time.Duration{-time.Millisecond, 0, time.Millisecond} {
		call(t, nil, func(w *world) {
			p := w.awake(phoneOptions{script: siptest.RingOnly})
			c := w.invite(siptest.Invitation{})
			first := w.taken(p)
			time.Sleep(time.Second)
			again := w.invites(p, "", replaces(first, ""))
			time.Sleep(phoneDelay - trunkDelay + sooner)
			w.trunk.Cancel(c)
			w.await(again, 2*time.Second, "final")
			if len(c.Got("200")) > 0 { // the CANCEL came too late (RFC 3261 §9.2)
				c.Bye()
			}
			w.must(again.AwaitOver(time.Second))
			w.must(first.AwaitOver(time.Second))
			time.Sleep(time.Second)
			equal(t, "CDRs", len(w.records()), 1)
		})
	}
}

// A trunk's INVITE with Replaces is no new call: nobody is woken for it.
func TestReplacesFromTheTrunkIsRefused(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, p := established(w, siptest.Invitation{})
		for value, want := range map[string]string{c.Replaces(): "603", "a;to-tag=b;from-tag=c": "481", "a": "400"} {
			x, err := w.trunk.Invite(siptest.Invitation{To: number, Header: []siptest.Field{{Name: "Replaces", Value: value}}})
			w.must(err)
			w.await(x, time.Second, want)
		}
		w.notTaken(p)
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// An INVITE with Replaces may ask us for the offer (RFC 3261 §14.2 in kind).
func TestReplacesWithoutAnOffer(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, p := established(w, siptest.Invitation{})
		again := w.invites(p, "none", replaces(taken, ""))
		if w.await(again, time.Second, "200").Body == nil {
			t.Fatal("no offer in the 200")
		}
		w.await(taken, time.Second, "BYE")
		time.Sleep(200 * time.Millisecond)
		w.talk(c, again)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}
