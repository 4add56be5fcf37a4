package bridge_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// established is a call that was answered, and the phone's end of it.
func established(w *world, inv siptest.Invitation) (*siptest.Call, *siptest.Call, *phone) {
	w.t.Helper()
	p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
	c := w.invite(inv)
	w.await(c, 10*time.Second, "200")
	time.Sleep(100 * time.Millisecond)
	return c, w.taken(p), p
}

func TestLostAck(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.RingOnly})
		c := w.invite(siptest.Invitation{})
		taken := w.taken(p)
		time.Sleep(time.Second)
		w.must(taken.Answer())
		w.net.Link(trunkIP, bridgeIP, siptest.Link{Loss: 1})
		time.Sleep(600 * time.Millisecond) // the first ACK, and the one to the first repetition at 500 ms
		w.net.Link(trunkIP, bridgeIP, siptest.Link{Delay: trunkDelay})
		if _, err := c.AwaitCount(2*time.Second, "200", 3); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		equal(t, "200s after the ACK", len(c.Got("200")), 3)
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
		w.golden("lost_ack")
	})
}

func TestNoAckAtAll(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{NoAck: true})
		bye := w.await(c, 40*time.Second, "BYE")
		if !strings.Contains(bye.Get("Reason"), "408") {
			t.Errorf("Reason of the BYE: %q", bye.Get("Reason"))
		}
		w.await(taken, time.Second, "BYE")
		if n := len(c.Got("200")); n < 10 { // 0.5, 1.5, 3.5, then every 4 s to 32 s
			t.Errorf("the 200 was sent %d times", n)
		}
		w.ended("no_ack", 200)
		w.golden("no_ack")
	})
}

func TestRetransmittedInvite(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{})
		for range 3 {
			time.Sleep(100 * time.Millisecond)
			w.trunk.Resend(c)
		}
		w.await(c, 10*time.Second, "200")
		w.talk(c, w.taken(p))
		c.Bye()
		w.ended("caller_hung_up", 200)
		w.notTaken(p)
		equal(t, "pushes", len(w.sentPushes()), 1)
	})
}

func TestMergedInvite(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{})
		time.Sleep(100 * time.Millisecond)
		second := w.trunk.Merge(c)
		w.await(second, time.Second, "482")
		w.await(c, 10*time.Second, "200")
		c.Bye()
		w.ended("caller_hung_up", 200)
		w.taken(p)
		w.notTaken(p)
		equal(t, "pushes", len(w.sentPushes()), 1)
		w.golden("merged_invite")
	})
}

func TestByeForAnUnknownDialog(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		c.Bye()
		w.await(taken, time.Second, "BYE")
		time.Sleep(40 * time.Second)
		w.await(c.Request("BYE", nil), time.Second, "481")
		w.ended("caller_hung_up", 200)
	})
}

func TestBothHangUpAtOnce(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		mine, theirs := c.Bye(), taken.Bye()
		w.await(mine, time.Second, "200")
		w.await(theirs, time.Second, "200")
		time.Sleep(40 * time.Second)
		equal(t, "CDRs", len(w.records()), 1)
	})
}

func TestByeTakesTheNewestFlow(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, p := established(w, siptest.Invitation{})
		p.Drop()
		time.Sleep(2 * time.Second)
		w.must(p.Register(context.Background()))
		time.Sleep(time.Second)
		c.Bye()
		w.await(taken, time.Second, "BYE")
		w.ended("caller_hung_up", 200)
		w.golden("bye_by_the_newest_flow")
	})
}
