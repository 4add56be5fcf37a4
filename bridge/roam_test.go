package bridge_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"reveille/sip/siptest"
)

const otherNetwork = "198.51.100.7"

// heard holds that a talker's last seconds came through, but for what a change
// of networks costs.
func (w *world) heard(what string, listener, talker *siptest.Call, before siptest.Hearing) {
	w.t.Helper()
	now := listener.Audio.Hearing(talker.Audio)
	if sent, came := now.Sent-before.Sent, now.Heard-before.Heard; sent == 0 || came < sent-10 {
		w.t.Errorf("audio %s: %d of %d packets came", what, came, sent)
	}
}

// converse plays two seconds both ways.
func (w *world) converse(a, b *siptest.Call) {
	w.t.Helper()
	ab, ba := a.Audio.Hearing(b.Audio), b.Audio.Hearing(a.Audio)
	done := make(chan error, 1)
	go func() { done <- a.Talk(context.Background(), 100) }()
	w.must(b.Talk(context.Background(), 100))
	w.must(<-done)
	time.Sleep(200 * time.Millisecond)
	w.heard("from the phone", a, b, ab)
	w.heard("to the phone", b, a, ba)
}

// The app registers from its next network and moves the dialog itself (pjsip's
// pjsua_handle_ip_change does): by re-INVITE, or by UPDATE.
func TestPhoneMovesItsCallToItsNextNetwork(t *testing.T) {
	for _, method := range []string{"INVITE", "UPDATE"} {
		t.Run(method, func(t *testing.T) {
			call(t, nil, func(w *world) {
				c, taken, p := established(w, siptest.Invitation{})
				w.talk(c, taken)
				w.roam(p, otherNetwork)
				w.must(p.Resound(context.Background(), taken))
				w.await(taken.Request(method, taken.Audio.SDP("sendrecv")), time.Second, "200")
				w.converse(c, taken)
				time.Sleep(5 * time.Second)
				equal(t, "re-INVITEs of ours", len(taken.Got("INVITE")), 0)
				c.Bye()
				w.await(taken, time.Second, "BYE")
				w.ended("caller_hung_up", 200)
				if n := len(c.Got("INVITE")); n > 0 {
					t.Errorf("the trunk saw %d re-INVITEs", n)
				}
				if method == "INVITE" {
					w.golden("phone_changes_networks")
				}
			})
		})
	}
}

// The app only registers: two seconds later it is asked on its new flow, within
// the same dialog.
func TestPhoneThatOnlyRegistersIsReinvitedOnItsNewFlow(t *testing.T) {
	for _, transport := range []string{"tcp", "udp"} {
		t.Run(transport, func(t *testing.T) {
			call(t, nil, func(w *world) {
				p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second),
					change: func(o *siptest.PhoneOptions) { o.Transport = transport }})
				c := w.invite(siptest.Invitation{})
				w.await(c, 10*time.Second, "200")
				taken := w.taken(p)
				time.Sleep(time.Second)
				w.roam(p, otherNetwork)
				w.must(p.Resound(context.Background(), taken))
				registered := time.Now()
				again := w.await(taken, 3*time.Second, "INVITE")
				if took := time.Since(registered); took < 1900*time.Millisecond || took > 2100*time.Millisecond {
					t.Errorf("the re-INVITE came %v after the REGISTER", took)
				}
				first := taken.Invite
				if !strings.HasPrefix(again.Start, "INVITE sip:1001@"+otherNetwork+":") {
					t.Errorf("it went to %s", again.Start)
				}
				if again.Get("From") != first.Get("From") || again.Get("Call-ID") != first.Get("Call-ID") || !strings.Contains(again.Get("To"), ";tag=") {
					t.Errorf("another dialog: %v", again.Header)
				}
				var before, after int
				fmt.Sscan(first.Get("CSeq"), &before)
				fmt.Sscan(again.Get("CSeq"), &after)
				if after <= before {
					t.Errorf("CSeq %d after %d", after, before)
				}
				if string(again.Body) != string(first.Body) {
					t.Errorf("our SDP has changed:\n%s\nwas\n%s", again.Body, first.Body)
				}
				time.Sleep(200 * time.Millisecond)
				w.converse(c, taken)
				c.Bye()
				w.await(taken, time.Second, "BYE")
				w.ended("caller_hung_up", 200)
				if transport == "tcp" {
					w.golden("phone_is_followed")
				}
			})
		})
	}
}

// A NAT gives the phone another address and port; its app notices by its next
// REGISTER. Signalling and audio go on.
func TestNATRebindingKeepsTheCallAndItsAudio(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second),
			change: func(o *siptest.PhoneOptions) { o.Transport = "udp" }})
		c := w.invite(siptest.Invitation{})
		w.await(c, 10*time.Second, "200")
		taken := w.taken(p)
		time.Sleep(10 * time.Second) // the latch has closed
		w.talk(c, taken)
		time.Sleep(10 * time.Second)
		w.must(p.Resound(context.Background(), taken))
		w.must(p.Reconnect(context.Background()))
		w.must(p.Register(context.Background()))
		w.converse(c, taken) // before any re-INVITE
		c.Bye()
		w.await(taken, time.Second, "BYE")
		w.ended("caller_hung_up", 200)
	})
}

// The app was killed and does not know the call: both legs end when it has been
// silent for 20 s, not sooner.
func TestPhoneThatForgotItsCallOnItsNextNetwork(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, p := established(w, siptest.Invitation{})
		w.talk(c, taken)
		silent := time.Now()
		p.Forget(taken)
		w.roam(p, otherNetwork)
		bye := w.await(c, 30*time.Second, "BYE")
		if took := time.Since(silent); took < 19*time.Second || took > 22*time.Second {
			t.Errorf("BYE came after %v of silence", took)
		}
		if why := strings.Join(bye.All("Reason"), ", "); !strings.Contains(why, "Q.850;cause=102") {
			t.Errorf("Reason: %s", why)
		}
		w.ended("callee_gone", 200)
		w.golden("phone_forgot")
	})
}

// A second flow of the device, besides the one in use, is no reason to move.
func TestAnotherFlowOfATalkingPhoneIsLeftAlone(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, p := established(w, siptest.Invitation{})
		second := w.awake(phoneOptions{name: "phone", digit: "2", wakes: -1, change: func(o *siptest.PhoneOptions) {
			o.Instance, o.PRID, o.RegID = "urn:uuid:00000000-0000-4000-8000-000000000001", strings.Repeat("1", 64), 2
		}})
		w.phones["the first flow"] = p
		time.Sleep(5 * time.Second)
		w.must(p.Register(context.Background())) // a refresh
		time.Sleep(5 * time.Second)
		equal(t, "re-INVITEs", len(taken.Got("INVITE")), 0)
		w.notTaken(second)
		c.Bye()
		w.await(taken, time.Second, "BYE")
		w.ended("caller_hung_up", 200)
	})
}
