package bridge_test

import (
	"strings"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// allowUpdate is a phone's script: it takes UPDATE.
func allowUpdate(c *siptest.Call) {
	c.Ring()
	c.Sleep(time.Second)
	sdp, err := c.Audio.Answer(c.Invite.Body)
	if err == nil {
		c.Respond(200, sdp, siptest.Field{Name: "Allow", Value: "INVITE, ACK, BYE, UPDATE"})
	}
}

// updatable is an established call whose ends take UPDATE.
func updatable(w *world) (*siptest.Call, *siptest.Call) {
	w.t.Helper()
	p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: allowUpdate})
	c := w.invite(siptest.Invitation{Header: []siptest.Field{{Name: "Allow", Value: "INVITE, ACK, BYE, UPDATE"}}})
	w.await(c, 10*time.Second, "200")
	time.Sleep(100 * time.Millisecond)
	return c, w.taken(p)
}

// RFC 3311 §5.2: an UPDATE with an offer is answered with one, and carried on
// as what it is.
func TestUpdateWithOfferReachesTheOtherLeg(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken := updatable(w)
		w.says(w.await(c.Request("UPDATE", c.Audio.SDP("sendonly")), time.Second, "200"), "recvonly")
		w.says(w.asked(taken, "UPDATE", 1), "sendonly")
		w.says(w.await(taken.Request("UPDATE", taken.Audio.SDP("inactive")), time.Second, "200"), "inactive")
		w.says(w.asked(c, "UPDATE", 1), "inactive")
		c.Bye()
		w.ended("caller_hung_up", 200)
		w.golden("update")
	})
}

// A peer that takes no UPDATE gets a re-INVITE for it.
func TestUpdateIsCarriedAsReinviteWhereItIsNotAllowed(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		w.says(w.await(c.Request("UPDATE", c.Audio.SDP("sendonly")), time.Second, "200"), "recvonly")
		w.says(w.asked(taken, "INVITE", 1), "sendonly")
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

func TestUpdateWithoutOfferIsARefresh(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		for _, end := range []*siptest.Call{c, taken} {
			ok := w.await(end.Request("UPDATE", nil), time.Second, "200")
			if ok.Body != nil || ok.Get("Contact") == "" {
				t.Errorf("answered\n%s", ok.Bytes())
			}
		}
		w.notAsked(c)
		w.notAsked(taken)
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// RFC 3311 §5.2: while a re-INVITE's offer has no answer, an UPDATE with
// another one comes too early.
func TestUpdateDuringAReinviteOfTheSameSide(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		taken.Script(slowly(taken, 3*time.Second))
		first := c.Reinvite(c.Audio.SDP("sendonly"))
		time.Sleep(time.Second)
		m := w.await(c.Request("UPDATE", c.Audio.SDP("sendrecv")), time.Second, "final")
		if m.Code() != 500 || m.Get("Retry-After") == "" {
			t.Errorf("the UPDATE got %q, Retry-After %q", m.Start, m.Get("Retry-After"))
		}
		w.says(w.await(first, 5*time.Second, "200"), "recvonly")
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// slowly accepts re-INVITEs after a while.
func slowly(c *siptest.Call, d time.Duration) func(*siptest.Message) *siptest.Reply {
	return func(m *siptest.Message) *siptest.Reply {
		if m.Method() != "INVITE" {
			return nil
		}
		return &siptest.Reply{Code: 200, SDP: c.Accept(m), After: d}
	}
}

// RFC 3261 §14.2: a second re-INVITE before the first has its answer gets 500
// with Retry-After, or 491 while the ACK is missing.
func TestOverlappingReinvitesOfOneSide(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		c.NoAck = true
		first := c.Reinvite(c.Audio.SDP("sendonly"))
		m := w.await(c.Reinvite(c.Audio.SDP("sendrecv")), time.Second, "final")
		if m.Code() != 500 || m.Get("Retry-After") == "" {
			t.Errorf("before the answer the second re-INVITE got %q", m.Start)
		}
		w.await(first, time.Second, "200")
		w.await(c.Reinvite(c.Audio.SDP("sendrecv")), time.Second, "491")
		c.Bye()
		w.await(taken, time.Second, "BYE")
		w.ended("caller_hung_up", 200)
	})
}

// Both sides hold in one moment: the device's re-INVITE crosses the one that
// carries the trunk's. Each gets 491 from the other; the device tries again
// first, as it does not own the Call-ID, and is answered here; then we do (RFC
// 3261 §14.1).
func TestGlareOfBothSides(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		refused := 0
		taken.Script(func(m *siptest.Message) *siptest.Reply {
			if m.Method() != "INVITE" || refused > 0 {
				return nil
			}
			refused++
			return &siptest.Reply{Code: 491}
		})
		began := time.Now()
		fromTrunk, fromDevice := c.Reinvite(c.Audio.SDP("sendonly")), taken.Reinvite(taken.Audio.SDP("sendonly"))
		w.await(fromDevice, time.Second, "491")
		time.Sleep(time.Second)
		w.says(w.await(taken.Reinvite(taken.Audio.SDP("sendonly")), time.Second, "200"), "recvonly")
		w.await(fromTrunk, 5*time.Second, "200")
		if took := time.Since(began); took < 2100*time.Millisecond || took > 4200*time.Millisecond {
			t.Errorf("tried again after %v, want 2.1 to 4 s: we own the Call-ID", took)
		}
		equal(t, "re-INVITEs to the device", len(taken.Got("INVITE")), 2)
		w.notAsked(c)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// Towards the trunk the Call-ID is not ours: 0 to 2 s.
func TestGlareTowardsTheTrunk(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		refused := 0
		c.Script(func(m *siptest.Message) *siptest.Reply {
			if m.Method() != "INVITE" || refused > 1 {
				return nil
			}
			refused++
			return &siptest.Reply{Code: 491}
		})
		w.says(w.await(taken.Reinvite(taken.Audio.SDP("sendonly")), 4200*time.Millisecond, "200"), "recvonly")
		equal(t, "re-INVITEs to the trunk", len(c.Got("INVITE")), 3)
		taken.Bye()
		w.ended("callee_hung_up", 200)
	})
}

// A hold does not wait for ever for the other side, which is asked on.
func TestHoldIsAnsweredHereWhenTheOtherSideIsSlow(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		taken.Script(slowly(taken, 15*time.Second))
		began := time.Now()
		w.says(w.await(c.Reinvite(c.Audio.SDP("sendonly")), 12*time.Second, "200"), "recvonly")
		if took := time.Since(began); took < 10*time.Second {
			t.Errorf("answered after %v", took)
		}
		time.Sleep(10 * time.Second)
		equal(t, "ACKs of the device's late 200", len(taken.Got("ACK")), 2)
		taken.Script(nil)
		w.says(w.await(c.Reinvite(c.Audio.SDP("sendrecv")), time.Second, "200"), "sendrecv")
		time.Sleep(100 * time.Millisecond)
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// A codec cannot be promised without the other side. It agrees too late, and
// is put back to what holds.
func TestSlowCodecChangeIsRefusedAndUndone(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		taken.Script(slowly(taken, 15*time.Second))
		w.await(c.Reinvite(codecs(c.Audio.SDP("sendrecv"), "0 101")), 12*time.Second, "504")
		taken.Script(nil)
		time.Sleep(10 * time.Second)
		if asked := w.asked(taken, "INVITE", 2); !strings.Contains(string(asked.Body), "RTP/AVP 8 0 101\r\n") &&
			!strings.Contains(string(asked.Body), "RTP/AVP 8 101\r\n") {
			t.Errorf("put back with\n%s", asked.Body)
		}
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// RFC 3261 §9: a re-INVITE can be cancelled; so is what carries it.
func TestCancelOfAReinvite(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		taken.Script(slowly(taken, 3*time.Second))
		x := c.Reinvite(c.Audio.SDP("sendonly"))
		time.Sleep(time.Second)
		taken.Script(nil)
		w.await(c.Cancel(x), time.Second, "200")
		w.await(x, time.Second, "487")
		time.Sleep(5 * time.Second)
		w.says(w.asked(taken, "INVITE", 2), "sendrecv") // it had accepted the hold
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// RFC 3261 §15.1.2: what is pending gets 487; the device's late 200 its ACK.
func TestByeWhileAReinviteIsCarried(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		taken.Script(slowly(taken, 3*time.Second))
		x := c.Reinvite(c.Audio.SDP("sendonly"))
		time.Sleep(time.Second)
		c.Bye()
		w.await(x, time.Second, "487")
		w.await(taken, time.Second, "BYE")
		time.Sleep(5 * time.Second)
		equal(t, "ACKs", len(taken.Got("ACK")), 2)
		w.ended("caller_hung_up", 200)
		w.golden("bye_while_held")
	})
}
