package peertest

import (
	"strings"
	"testing"

	"reveille/sip/siptest"
)

// TestWebPhoneInCalls: hold, digits and the ways in which calls end, by the page and by the caller.
func TestWebPhoneInCalls(t *testing.T) {
	t.Parallel()
	w := newWebCall(t)
	call := w.answered(t)
	for i, c := range []struct{ order, tells, direction string }{{"hold", "held", "a=sendonly"}, {"unhold", "unheld", "a=sendrecv"}} {
		w.page.order(c.order, nil)
		w.page.await(t, c.tells)
		w.page.await(t, "settled")
		m, err := call.AwaitCount(patience, "INVITE", i+1)
		must(t, err)
		if !strings.Contains(string(m.Body), c.direction) {
			t.Errorf("%s: the carrier was offered\n%s\nwant %s", c.order, m.Body, c.direction)
		}
	}
	had := len(w.page.got("received"))
	waitUntil(t, "the page to hear the carrier again", func() bool { return len(w.page.got("received")) > had+second })
	waitUntil(t, "the carrier to hear the page again", func() bool { return len(w.page.got("sent")) > 3*second })
	w.checkSent(t, call)
	w.page.order("digit", map[string]any{"digit": "5"})
	waitUntil(t, "the digit to reach the carrier", func() bool { return digitEnded(call.Audio.Received(), 5) })
	w.page.order("hangUp", nil)
	w.page.await(t, "over")
	must(t, call.AwaitOver(patience))

	call = w.ringsAwake(t)
	_, err := w.carrier.Cancel(call).Await(patience, "200")
	must(t, err)
	if e := w.page.await(t, "over"); e.Why != "Canceled" {
		t.Errorf("a call that the caller gave up is over in the page because of %q", e.Why)
	}
	call = w.ringsAwake(t)
	w.page.order("hangUp", nil)
	_, err = call.Await(patience, "480")
	must(t, err)
	w.page.await(t, "over")
	w.stop(t)
}

// ringsAwake calls the page while it is registered.
func (w *webCall) ringsAwake(t testing.TB) *siptest.Call {
	t.Helper()
	call, err := w.carrier.Invite(siptest.Invitation{To: w.Number})
	must(t, err)
	w.page.await(t, "ringing")
	_, err = call.Await(patience, "180")
	must(t, err)
	return call
}

// digitEnded reports whether telephone-events for a digit have come, with the end of it (RFC 4733 §2.3).
func digitEnded(packets []siptest.RTP, digit byte) bool {
	for _, p := range packets {
		if p.Payload == 101 && len(p.Data) == 4 && p.Data[0] == digit && p.Data[1]&0x80 != 0 {
			return true
		}
	}
	return false
}
