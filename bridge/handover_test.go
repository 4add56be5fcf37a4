package bridge_test

import (
	"context"
	"testing"
	"time"

	"reveille/bridge"
	"reveille/sip/siptest"
)

// twoExtensions is a bridge with a second extension, whose phone sleeps.
func twoExtensions(s *setup) {
	s.more = []bridge.Extension{other}
	s.columns = []string{"trunk", siptest.Bridge, "push", "phone", "desk"}
}

// handedOver is an answered call, and the phone of the other extension.
func handedOver(w *world, script func(*siptest.Call)) (c, taken *siptest.Call, desk *phone) {
	w.t.Helper()
	desk = w.sleeping(phoneOptions{name: "desk", digit: "2", wakes: 300 * time.Millisecond, script: script, change: as("1002")})
	c, taken, _ = established(w, siptest.Invitation{})
	return c, taken, desk
}

// RFC 3515, RFC 5589 §6: a transfer to an extension of ours wakes and rings its
// phone within the call; the trunk notices nothing but the other voice.
func TestBlindTransferToAnExtension(t *testing.T) {
	call(t, twoExtensions, func(w *world) {
		c, taken, desk := handedOver(w, siptest.AnswerAfter(2*time.Second))
		w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "202")
		rings := w.taken(desk)
		equal(t, "call UUID at the other phone", rings.UUID(), taken.UUID())
		w.await(taken, 5*time.Second, "BYE")
		time.Sleep(200 * time.Millisecond)
		equal(t, "what the phone was told", told(taken), "100 Trying active, 180 Ringing active, 200 OK terminated")
		w.talk(c, rings)
		equal(t, "re-INVITEs at the trunk", len(c.Got("INVITE")), 0)
		equal(t, "REFERs at the trunk", len(c.Got("REFER")), 0)
		rings.Bye()
		w.await(c, time.Second, "BYE")
		r := w.ended("callee_hung_up", 200)
		equal(t, "extension on record", r.Extension, "1002")
		w.golden("transfer_to_extension")
	})
}

// The usual way of an app: hold first, then transfer. The trunk is held, and
// resumed for the one who answers.
func TestBlindTransferOfAHeldCall(t *testing.T) {
	call(t, twoExtensions, func(w *world) {
		c, taken, desk := handedOver(w, siptest.AnswerAfter(time.Second))
		w.await(taken.Reinvite(taken.Audio.SDP("sendonly")), 2*time.Second, "200")
		w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "202")
		rings := w.taken(desk)
		w.await(taken, 5*time.Second, "BYE")
		time.Sleep(500 * time.Millisecond)
		w.talk(c, rings)
		c.Bye()
		w.await(rings, time.Second, "BYE")
		w.ended("caller_hung_up", 200)
		w.golden("transfer_held")
	})
}

// While the other phone rings the caller hears the ringing, and what the first
// phone still sends reaches nobody, nor takes the other one's place.
func TestAudioDuringATransferToAnExtension(t *testing.T) {
	call(t, twoExtensions, func(w *world) {
		c, taken, desk := handedOver(w, siptest.AnswerAfter(3*time.Second))
		w.talk(c, taken)
		w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "202")
		before := len(c.Audio.Received())
		w.work.Go(func() { _ = taken.Talk(context.Background(), 300) }) // six seconds, past its BYE
		rings := w.taken(desk)
		time.Sleep(2 * time.Second)
		if n := len(c.Audio.Received()) - before; n < 20 { // a second of tone, then silence
			t.Errorf("the caller heard %d packets of ringing", n)
		}
		heard := c.Audio.Hearing(taken.Audio)
		equal(t, "packets of the first phone while the other rings", heard.Heard, 100)
		w.await(taken, 5*time.Second, "BYE")
		w.must(rings.Talk(context.Background(), 100))
		time.Sleep(200 * time.Millisecond)
		if h := c.Audio.Hearing(rings.Audio); !h.Whole(0) {
			t.Errorf("audio of the other phone: %s", h)
		}
		equal(t, "packets of the first phone after its BYE", c.Audio.Hearing(taken.Audio).Heard, 100)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// Whatever becomes of the transfer, the call is there again as it was.
func TestBlindTransferToAnExtensionThatFails(t *testing.T) {
	for name, c := range map[string]struct {
		script func(*siptest.Call)
		told   string
	}{
		"busy":     {siptest.RefuseAfter(0, 486), "100 Trying active, 486 Busy Here terminated"},
		"declined": {siptest.RefuseAfter(time.Second, 603), "100 Trying active, 180 Ringing active, 603 Decline terminated"},
		"silence":  {siptest.RingOnly, "100 Trying active, 180 Ringing active, 480 Temporarily Unavailable terminated"},
	} {
		t.Run(name, func(t *testing.T) {
			call(t, twoExtensions, func(w *world) {
				trunk, taken, desk := handedOver(w, c.script)
				w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "202")
				rings := w.taken(desk)
				time.Sleep(time.Minute)
				equal(t, "what the phone was told", told(taken), c.told)
				w.must(rings.AwaitOver(time.Second))
				w.talk(trunk, taken)
				w.await(trunk.Ask("INFO", "application/dtmf", "1"), time.Second, "200")
				taken.Bye()
				w.await(trunk, time.Second, "BYE")
				r := w.ended("callee_hung_up", 200)
				equal(t, "extension on record", r.Extension, "1001")
			})
		})
	}
}

// A second try at the same extension within one call rings its phone, which is
// awake by now; a second push it does not get.
func TestSecondTransferToTheSameExtensionPushesNobodyAgain(t *testing.T) {
	call(t, twoExtensions, func(w *world) {
		c, taken, desk := handedOver(w, siptest.RefuseAfter(time.Second, 486))
		w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "202")
		w.taken(desk)
		time.Sleep(3 * time.Second)
		w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "202")
		again := w.taken(desk)
		time.Sleep(3 * time.Second)
		equal(t, "pushes", len(w.sentPushes()), 2)
		equal(t, "what the phone was told last", told(taken)[len(told(taken))-len("486 Busy Here terminated"):], "486 Busy Here terminated")
		desk.Drop()
		time.Sleep(20 * time.Second) // asleep again
		w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "202")
		time.Sleep(time.Second)
		equal(t, "pushes", len(w.sentPushes()), 2)
		w.must(again.AwaitOver(time.Second))
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// An extension without any device cannot be reached.
func TestBlindTransferToAnExtensionWithoutDevices(t *testing.T) {
	call(t, twoExtensions, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		w.await(taken.Refer("sip:1001@192.0.2.1"), time.Second, "403") // itself
		w.await(taken.Refer("sip:+4930123457@192.0.2.1"), time.Second, "202")
		time.Sleep(200 * time.Millisecond)
		equal(t, "what the phone was told", told(taken), "100 Trying active, 480 Temporarily Unavailable terminated")
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// Who hangs up while the other extension is rung.
func TestHangUpWhileTheOtherExtensionIsRung(t *testing.T) {
	t.Run("caller while it wakes", func(t *testing.T) {
		call(t, twoExtensions, func(w *world) {
			c, taken, desk := handedOver(w, siptest.RingOnly)
			w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "202")
			c.Bye()
			w.await(taken, time.Second, "BYE")
			w.await(w.taken(desk), 5*time.Second, "CANCEL") // it wakes late, and is told
			w.ended("caller_hung_up", 200)
		})
	})
	t.Run("caller while it rings", func(t *testing.T) {
		call(t, twoExtensions, func(w *world) {
			c, taken, desk := handedOver(w, siptest.RingOnly)
			w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "202")
			rings := w.taken(desk)
			time.Sleep(time.Second)
			c.Bye()
			w.await(taken, time.Second, "BYE")
			w.await(rings, time.Second, "CANCEL")
			w.ended("caller_hung_up", 200)
		})
	})
	t.Run("callee, and then it answers", func(t *testing.T) {
		call(t, twoExtensions, func(w *world) {
			c, taken, desk := handedOver(w, siptest.AnswerAfter(2*time.Second))
			w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "202")
			taken.Bye()
			rings := w.taken(desk)
			time.Sleep(3 * time.Second)
			w.talk(c, rings)
			c.Bye()
			w.ended("caller_hung_up", 200)
		})
	})
	t.Run("callee, and then nobody answers", func(t *testing.T) {
		call(t, twoExtensions, func(w *world) {
			c, taken, desk := handedOver(w, siptest.RefuseAfter(time.Second, 486))
			w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "202")
			taken.Bye()
			w.taken(desk)
			w.await(c, 5*time.Second, "BYE")
			w.ended("transfer_failed", 200)
		})
	})
	t.Run("the one who answers at once", func(t *testing.T) {
		call(t, twoExtensions, func(w *world) {
			c, taken, desk := handedOver(w, siptest.AnswerAfter(time.Second))
			w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "202")
			rings := w.taken(desk)
			time.Sleep(1010 * time.Millisecond)
			rings.Bye()
			w.await(c, time.Second, "BYE")
			w.await(taken, time.Second, "BYE")
			w.ended("callee_hung_up", 200)
		})
	})
}

// What the three sides say while the other extension is rung gets its answer.
func TestRequestsWhileTheOtherExtensionIsRung(t *testing.T) {
	call(t, twoExtensions, func(w *world) {
		c, taken, desk := handedOver(w, siptest.AnswerAfter(5*time.Second))
		w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "202")
		w.taken(desk)
		w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "491")
		w.await(c.Refer("sip:1002@192.0.2.1"), time.Second, "603")
		w.await(c.Ask("INFO", "application/dtmf", "1"), time.Second, "480")
		w.await(taken.Reinvite(taken.Audio.SDP("sendrecv")), time.Second, "491")
		w.await(c.Reinvite(c.Audio.SDP("sendrecv")), time.Second, "200")
		w.await(taken, 6*time.Second, "BYE")
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}
