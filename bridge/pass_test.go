package bridge_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// RFC 2976 §2, RFC 6086: the digit of one leg is the digit of the other, and
// nothing else of its message is.
func TestInfoWithADigitCrossesBothWays(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		digit := "Signal=5\r\nDuration=160\r\n"
		x := c.Ask("INFO", "application/dtmf-relay", digit, siptest.Field{Name: "X-Secret", Value: "topology"}, siptest.Field{Name: "Info-Package", Value: "dtmf"})
		w.await(x, time.Second, "200")
		got := w.await(taken, time.Second, "INFO")
		equal(t, "digit at the phone", string(got.Body), digit)
		equal(t, "Content-Type", got.Get("Content-Type"), "application/dtmf-relay")
		equal(t, "Info-Package", got.Get("Info-Package"), "dtmf")
		equal(t, "a header that nobody named", got.Get("X-Secret"), "")
		w.await(taken.Ask("INFO", "application/dtmf", "9"), time.Second, "200")
		equal(t, "digit at the trunk", string(w.await(c, time.Second, "INFO").Body), "9")
		c.Bye()
		w.ended("caller_hung_up", 200)
		w.golden("info_dtmf")
	})
}

// RFC 3428 §7: a MESSAGE within the call goes to the other end.
func TestMessageCrossesBothWays(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		w.await(taken.Ask("MESSAGE", "text/plain; charset=UTF-8; x=\"y\"", "I call you back"), time.Second, "200")
		got := w.await(c, time.Second, "MESSAGE")
		equal(t, "text", string(got.Body), "I call you back")
		equal(t, "Content-Type", got.Get("Content-Type"), "text/plain;charset=UTF-8")
		w.await(c.Ask("MESSAGE", "text/plain", "Fine"), time.Second, "200")
		equal(t, "answer", string(w.await(taken, time.Second, "MESSAGE").Body), "Fine")
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// The far end's word on an INFO goes back to who sent it; a challenge does not,
// for he could not meet it.
func TestInfoGetsTheFarEndsAnswer(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		for far, near := range map[int]string{488: "488", 603: "603", 401: "403", 302: "480", 469: "469"} {
			taken.OnAsked = func(*siptest.Message) int { return far }
			w.await(c.Ask("INFO", "application/dtmf", "1"), time.Second, near)
		}
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// RFC 4320 §4: a 100 after 3.5 s, a final answer before the sender gives up,
// and never 408; the call goes on (RFC 5057 §5.1).
func TestInfoToASilentFarEndIsAnsweredInTime(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		taken.OnAsked = func(*siptest.Message) int { return 0 }
		c.OnAsked = taken.OnAsked
		toPhone, toTrunk := c.Ask("INFO", "application/dtmf", "1"), taken.Ask("INFO", "application/dtmf", "2")
		time.Sleep(3400 * time.Millisecond)
		equal(t, "100s before 3.5 s", len(toPhone.Got("100")), 0)
		w.await(toPhone, 200*time.Millisecond, "100")
		w.await(toPhone, 10*time.Second, "480")
		w.await(toTrunk, time.Second, "504")
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// RFC 5057 §5.1: a 481 says that the far end has lost the dialog.
func TestInfoAnswered481EndsTheCall(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		taken.OnAsked = func(*siptest.Message) int { return 481 }
		w.await(c.Ask("INFO", "application/dtmf", "1"), time.Second, "final")
		w.await(c, time.Second, "BYE")
		w.await(taken, time.Second, "BYE")
		w.ended("callee_gone", 200)
	})
}

func TestWhatDoesNotCrossACall(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		refused := w.await(c.Ask("INFO", "application/x-shell", "rm"), time.Second, "415")
		if !strings.Contains(refused.Get("Accept"), "application/dtmf-relay") {
			t.Errorf("Accept of the 415: %q", refused.Get("Accept"))
		}
		w.await(c.Ask("MESSAGE", "text/html", "<b>"), time.Second, "415")
		w.await(c.Ask("MESSAGE", "text/plain", "x", siptest.Field{Name: "Content-Encoding", Value: "gzip"}), time.Second, "415")
		w.await(c.Ask("MESSAGE", "text/plain", strings.Repeat("x", 8193)), time.Second, "413")
		w.await(c.Ask("INFO", "", ""), time.Second, "200") // a sign of life
		w.await(c.Ask("SUBSCRIBE", "", ""), time.Second, "405")
		w.await(c.Ask("NOTIFY", "", "", siptest.Field{Name: "Event", Value: "refer"}), time.Second, "481")
		w.await(c.Ask("INFO", "application/dtmf", "1", siptest.Field{Name: "Require", Value: "x"}), time.Second, "420")
		equal(t, "requests at the phone", len(taken.Got("INFO"))+len(taken.Got("MESSAGE")), 0)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// An INFO before the answer belongs to a live dialog, so that it is a 200; a
// text that nobody would read is refused.
func TestRequestsInAnEarlyDialog(t *testing.T) {
	call(t, nil, func(w *world) {
		w.awake(phoneOptions{script: siptest.AnswerAfter(3 * time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, time.Second, "180")
		w.await(c.Ask("INFO", "application/dtmf", "1"), time.Second, "200")
		w.await(c.Ask("MESSAGE", "text/plain", "hello"), time.Second, "480")
		w.await(c.Refer("sip:1002@192.0.2.1"), time.Second, "480")
		w.await(c, 5*time.Second, "200")
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// Digits keep their order, and a flood of them is bounded.
func TestDigitsKeepTheirOrder(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		var asked []*siptest.Exchange
		for i := range 12 {
			asked = append(asked, c.Ask("INFO", "application/dtmf", string(rune('a'+i))))
		}
		late := 0
		for _, x := range asked {
			if m := w.await(x, 10*time.Second, "final"); m.Code() == 500 && m.Get("Retry-After") != "" {
				late++
			}
		}
		got := ""
		for _, m := range taken.Got("INFO") {
			got += string(m.Body)
		}
		if !slices.IsSorted([]byte(got)) || len(got)+late != 12 || len(got) < 8 || late == 0 {
			t.Errorf("the phone got %q, %d were refused", got, late)
		}
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// A dialog's request by a flow that is neither the leg's nor a registered one
// of its device needs the extension's digest: here a BYE by one who has seen
// the tags.
func TestRequestOfAStrangerInADevicesDialogIsChallenged(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, p := established(w, siptest.Invitation{})
		w.must(p.Reconnect(context.Background()))
		x := taken.Request("BYE", nil)
		if got := w.await(x, time.Second, "401"); !strings.Contains(got.Get("WWW-Authenticate"), "Digest") {
			t.Errorf("challenge: %q", got.Get("WWW-Authenticate"))
		}
		w.await(taken.Ask("REFER", "", "", siptest.Field{Name: "Refer-To", Value: "<sip:1002@192.0.2.1>"}), time.Second, "401")
		w.talk(c, taken)
		w.await(p.Authorized(x), time.Second, "200")
		w.await(c, time.Second, "BYE")
		w.ended("callee_hung_up", 200)
	})
}
