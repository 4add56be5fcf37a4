package bridge_test

import (
	"strings"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// timed is an INVITE with a session timer (RFC 4028).
func timed(expires string, more ...siptest.Field) siptest.Invitation {
	return siptest.Invitation{Header: append([]siptest.Field{
		{Name: "Supported", Value: "timer"}, {Name: "Session-Expires", Value: expires}}, more...)}
}

func field(name, value string) siptest.Field { return siptest.Field{Name: name, Value: value} }

// RFC 4028 §9: the trunk refreshes where it can; §10: nobody does, and the
// call ends a little before the interval does.
func TestSessionTimerThatTheTrunkRefreshesAndThenLetsExpire(t *testing.T) {
	call(t, func(s *setup) { s.media.Timeout = time.Hour }, func(w *world) {
		c, taken, _ := established(w, timed("90"))
		ok := w.await(c, time.Second, "200")
		equal(t, "Session-Expires", ok.Get("Session-Expires"), "90;refresher=uac")
		equal(t, "Require", ok.Get("Require"), "timer")
		time.Sleep(45 * time.Second)
		ok = w.await(c.Request("UPDATE", nil, field("Supported", "timer"), field("Session-Expires", "90;refresher=uac")), time.Second, "200")
		equal(t, "Session-Expires", ok.Get("Session-Expires"), "90;refresher=uac")
		time.Sleep(59 * time.Second)
		if len(c.Got("BYE")) > 0 {
			t.Fatal("the session expired although it was refreshed")
		}
		bye := w.await(c, 2*time.Second, "BYE") // 60 s: 90 less a third
		if !strings.Contains(bye.Get("Reason"), "Session expired") {
			t.Errorf("Reason of the BYE: %q", bye.Get("Reason"))
		}
		w.await(taken, time.Second, "BYE")
		w.ended("session_expired", 200)
		w.golden("session_expired")
	})
}

// A re-INVITE refreshes too, also one that says nothing of the timer but knows it.
func TestSessionTimerIsRefreshedByReinvite(t *testing.T) {
	call(t, func(s *setup) { s.media.Timeout = time.Hour }, func(w *world) {
		c, taken, _ := established(w, timed("90;refresher=uac"))
		for range 4 {
			time.Sleep(50 * time.Second)
			ok := w.await(c.Request("INVITE", c.Audio.SDP("sendrecv"), field("Supported", "timer")), time.Second, "200")
			equal(t, "Session-Expires", ok.Get("Session-Expires"), "90;refresher=uac")
		}
		w.notAsked(taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// refreshing answers our refreshes as a trunk does that knows the timer.
func refreshing(method, expires string) func(*siptest.Message) *siptest.Reply {
	return func(m *siptest.Message) *siptest.Reply {
		if m.Method() != method {
			return nil
		}
		r := &siptest.Reply{Code: 200, Header: []siptest.Field{field("Session-Expires", expires), field("Require", "timer")}}
		if m.Body != nil {
			r.SDP = trunksAnswer
		}
		return r
	}
}

var trunksAnswer = []byte("v=0\r\no=- 1 9 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8 101\r\n" +
	"a=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n")

// RFC 4028 §10: where we are the refresher, half the interval; by UPDATE
// without a body where the trunk takes it.
func TestSessionTimerThatWeRefreshByUpdate(t *testing.T) {
	call(t, func(s *setup) { s.media.Timeout = time.Hour }, func(w *world) {
		c, _, _ := established(w, timed("100;refresher=uas", field("Allow", "INVITE, ACK, BYE, UPDATE")))
		ok := w.await(c, time.Second, "200")
		equal(t, "Session-Expires", ok.Get("Session-Expires"), "100;refresher=uas")
		c.Script(refreshing("UPDATE", "100;refresher=uac"))
		time.Sleep(210 * time.Second)
		equal(t, "UPDATEs within 210 s", len(c.Got("UPDATE")), 4)
		update := w.asked(c, "UPDATE", 1)
		if update.Body != nil || update.Get("Session-Expires") != "100;refresher=uac" || update.Get("Contact") == "" ||
			!strings.Contains(update.Get("Supported"), "timer") || update.Get("Min-SE") != "90" {
			t.Errorf("the refresh is\n%s", update.Bytes())
		}
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// Else by a re-INVITE with the same description, down to its version.
func TestSessionTimerThatWeRefreshByReinvite(t *testing.T) {
	call(t, func(s *setup) { s.media.Timeout = time.Hour }, func(w *world) {
		c, taken, _ := established(w, timed("100;refresher=uas"))
		first := w.await(c, time.Second, "200")
		c.Script(refreshing("INVITE", "100;refresher=uac"))
		time.Sleep(60 * time.Second)
		again := w.asked(c, "INVITE", 1)
		equal(t, "description", string(again.Body), string(first.Body))
		equal(t, "ACKs", len(c.Got("ACK")), 1)
		w.notAsked(taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// RFC 4028 §7.3: a refresh that is refused as too brief is sent again with the
// trunk's Min-SE.
func TestSessionTimerTakesTheTrunksMinSE(t *testing.T) {
	call(t, func(s *setup) { s.media.Timeout = time.Hour }, func(w *world) {
		c, _, _ := established(w, timed("100;refresher=uas", field("Allow", "INVITE, UPDATE")))
		c.Script(func(m *siptest.Message) *siptest.Reply {
			if m.Method() == "UPDATE" && m.Get("Session-Expires") == "100;refresher=uac" {
				return &siptest.Reply{Code: 422, Header: []siptest.Field{field("Min-SE", "300")}}
			}
			return refreshing("UPDATE", "300;refresher=uac")(m)
		})
		time.Sleep(60 * time.Second)
		again := w.asked(c, "UPDATE", 2)
		equal(t, "Session-Expires", again.Get("Session-Expires"), "300;refresher=uac")
		equal(t, "Min-SE", again.Get("Min-SE"), "300")
		time.Sleep(200 * time.Second)
		equal(t, "UPDATEs after 260 s", len(c.Got("UPDATE")), 3)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// A trunk that refuses to be asked is there: the call goes on. One that does
// not know the call, or says nothing, has gone (RFC 3261 §12.2.1.2).
func TestSessionRefreshThatFails(t *testing.T) {
	for code, ending := range map[int]string{405: "caller_hung_up", 501: "caller_hung_up", 481: "caller_gone", 408: "caller_gone", 0: "caller_gone", 503: "session_expired"} {
		call(t, func(s *setup) { s.media.Timeout = time.Hour }, func(w *world) {
			c, taken, _ := established(w, timed("200;refresher=uas"))
			c.Script(refusing("INVITE", code))
			time.Sleep(300 * time.Second)
			if ending == "caller_hung_up" {
				c.Bye()
			}
			w.await(taken, time.Second, "BYE")
			w.ended(ending, 200)
		})
	}
}

// RFC 4028 §9: an interval below ours is refused with Min-SE, but not to a
// trunk that does not know the timer: a proxy has put that in.
func TestSessionIntervalTooSmall(t *testing.T) {
	call(t, nil, func(w *world) {
		w.awake(phoneOptions{script: siptest.AnswerAfter(0)})
		c := w.invite(timed("89"))
		equal(t, "Min-SE", w.await(c, time.Second, "422").Get("Min-SE"), "90")
		c = w.invite(siptest.Invitation{Header: []siptest.Field{field("Session-Expires", "60")}})
		ok := w.await(c, time.Second, "200")
		equal(t, "Session-Expires", ok.Get("Session-Expires"), "")
		w.await(c.Request("UPDATE", nil, field("Supported", "timer"), field("Session-Expires", "30")), time.Second, "422")
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// A trunk without the timer behind a proxy with it: we refresh, and require
// nothing of the trunk.
func TestSessionTimerOfAProxy(t *testing.T) {
	call(t, func(s *setup) { s.media.Timeout = time.Hour }, func(w *world) {
		c, _, _ := established(w, siptest.Invitation{Header: []siptest.Field{field("Session-Expires", "1800")}})
		ok := w.await(c, time.Second, "200")
		equal(t, "Session-Expires", ok.Get("Session-Expires"), "1800;refresher=uas")
		equal(t, "Require", ok.Get("Require"), "")
		c.Script(refreshing("INVITE", "1800;refresher=uac"))
		time.Sleep(901 * time.Second)
		w.asked(c, "INVITE", 1)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// We ask no session timer of a device, but take one that it asks for.
func TestSessionTimerOfADevice(t *testing.T) {
	call(t, func(s *setup) { s.media.Timeout = time.Hour }, func(w *world) {
		p := w.awake(phoneOptions{script: func(c *siptest.Call) {
			if sdp, err := c.Audio.Answer(c.Invite.Body); err == nil {
				c.Respond(200, sdp, field("Session-Expires", "90;refresher=uas"))
			}
		}})
		c := w.invite(siptest.Invitation{})
		taken := w.taken(p)
		w.await(c, time.Second, "200")
		equal(t, "Session-Expires towards the device", taken.Invite.Get("Session-Expires"), "")
		time.Sleep(50 * time.Second)
		ok := w.await(taken.Request("UPDATE", nil, field("Supported", "timer"), field("Session-Expires", "90;refresher=uac")), time.Second, "200")
		equal(t, "Session-Expires", ok.Get("Session-Expires"), "90;refresher=uac")
		time.Sleep(59 * time.Second)
		if len(taken.Got("BYE")) > 0 {
			t.Fatal("the session expired although it was refreshed")
		}
		w.await(taken, 2*time.Second, "BYE")
		w.await(c, time.Second, "BYE")
		w.ended("session_expired", 200)
	})
}

// A device is asked by OPTIONS every 30 s. 481 ends its leg; silence does not.
func TestDeviceIsAskedForASignOfLife(t *testing.T) {
	call(t, func(s *setup) { s.media.Timeout = time.Hour }, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		time.Sleep(61 * time.Second)
		equal(t, "OPTIONS after 61 s", len(taken.Got("OPTIONS")), 2)
		taken.Script(refusing("OPTIONS", 0))
		time.Sleep(70 * time.Second)
		if len(c.Got("BYE")) > 0 {
			t.Fatal("silence has ended the call")
		}
		taken.Script(refusing("OPTIONS", 481))
		w.await(c, 31*time.Second, "BYE")
		w.ended("callee_gone", 200)
		w.golden("device_forgot_the_call")
	})
}

// RFC 3311 §5.1: after the PRACK of an answer in a provisional the trunk may
// offer anew, before anybody has taken the call; the 200 then says the same.
func TestUpdateInAnEarlyDialog(t *testing.T) {
	call(t, nil, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 5 * time.Second, script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{Prack: true, Header: []siptest.Field{field("Supported", "100rel")}})
		w.await(c, time.Second, "180")
		time.Sleep(500 * time.Millisecond)
		moved := w.await(c.Request("UPDATE", codecs(c.Audio.SDP("sendrecv"), "8")), time.Second, "200")
		w.says(moved, "sendrecv")
		if strings.Contains(string(moved.Body), "RTP/AVP 8 101") {
			t.Errorf("answered\n%s", moved.Body)
		}
		ok := w.await(c, 20*time.Second, "200")
		equal(t, "description in the 200", string(ok.Body), string(moved.Body))
		time.Sleep(100 * time.Millisecond)
		w.talk(c, w.taken(p))
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// Before that the offer of the INVITE has no answer yet (§5.2: 500 with
// Retry-After); without an offer UPDATE is welcome at any time.
func TestUpdateInAnEarlyDialogBeforeTheAnswer(t *testing.T) {
	call(t, nil, func(w *world) {
		w.sleeping(phoneOptions{wakes: 5 * time.Second, script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{})
		w.await(c, time.Second, "180")
		m := w.await(c.Request("UPDATE", c.Audio.SDP("sendrecv")), time.Second, "final")
		if m.Code() != 500 || m.Get("Retry-After") == "" {
			t.Errorf("the UPDATE got %q", m.Start)
		}
		w.await(c.Request("UPDATE", nil), time.Second, "200")
		w.await(c, 20*time.Second, "200")
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}
