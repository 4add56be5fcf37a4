package bridge_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// pbx makes the trunk's end of a call take REFER with a status.
func pbx(c *siptest.Call, code int) {
	c.OnAsked = func(m *siptest.Message) int {
		if m.Method() == "REFER" {
			return code
		}
		return 200
	}
}

// told are the states of the transfer that a phone was told, in order.
func told(taken *siptest.Call) string {
	var out []string
	for _, m := range taken.Got("NOTIFY") {
		line, _, _ := strings.Cut(string(m.Body), "\r\n")
		state, _, _ := strings.Cut(m.Get("Subscription-State"), ";")
		out = append(out, strings.TrimPrefix(line, "SIP/2.0 ")+" "+state)
	}
	return strings.Join(out, ", ")
}

// RFC 3515, RFC 5589 §6: the PBX that made the call transfers it; its REFER is
// ours, and of its NOTIFYs only the status gets to the phone.
func TestBlindTransferIsDoneByThePBX(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		pbx(c, 202)
		x := taken.Refer("sip:+49%2040%20555@example.com;user=phone?Subject=x&Call-Info=y", siptest.Field{Name: "Referred-By", Value: "<sip:boss@example.com>"})
		w.await(x, time.Second, "202")
		refer := w.await(c, time.Second, "REFER")
		equal(t, "Refer-To", refer.Get("Refer-To"), "<sip:+4940555@192.0.2.2>")
		equal(t, "Referred-By", refer.Get("Referred-By"), "<sip:+4930123456@192.0.2.1:5060>")
		time.Sleep(100 * time.Millisecond)
		w.await(c.Notify("180 Ringing at sip:secret@10.0.0.1", "active;expires=60"), time.Second, "200")
		time.Sleep(2 * time.Second)
		w.await(c.Notify("200 OK", "terminated;reason=noresource"), time.Second, "200")
		time.Sleep(100 * time.Millisecond)
		equal(t, "what the phone was told", told(taken), "100 Trying active, 180 Ringing active, 200 OK terminated")
		taken.Bye()
		w.await(c, time.Second, "BYE")
		w.ended("transferred", 200)
		w.golden("transfer_by_pbx")
	})
}

// A transfer that the PBX refuses, or that fails later, leaves the call as it was.
func TestFailedTransferLeavesTheCallAsItWas(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		for pbxSays, phoneHears := range map[int]string{403: "403", 405: "405", 407: "403", 603: "603"} {
			pbx(c, pbxSays)
			w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, phoneHears)
		}
		equal(t, "NOTIFYs of refused transfers", told(taken), "")
		pbx(c, 202)
		w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "202")
		time.Sleep(100 * time.Millisecond)
		w.await(taken.Refer("sip:1003@192.0.2.1"), time.Second, "491")
		w.await(c.Notify("486 Busy Here", "terminated;reason=noresource"), time.Second, "200")
		time.Sleep(100 * time.Millisecond)
		equal(t, "what the phone was told", told(taken), "100 Trying active, 486 Busy Here terminated")
		for _, m := range taken.Got("NOTIFY") {
			if !strings.HasPrefix(m.Get("Event"), "refer;id=") {
				t.Errorf("Event of a later transfer: %q (RFC 3515 §2.4.6)", m.Get("Event"))
			}
		}
		w.await(c.Notify("200 OK", "terminated"), time.Second, "481")
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// A PBX that takes the REFER and never tells how it went: the phone hears of
// it all the same.
func TestTransferWithoutNotifyEnds(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, p := established(w, siptest.Invitation{})
		pbx(c, 202)
		w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "202")
		for range 4 {
			w.talk(c, taken)
			time.Sleep(45 * time.Second)
			w.must(p.Register(context.Background()))
		}
		equal(t, "what the phone was told", told(taken), "100 Trying active, 504 Server Time-out terminated")
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// RFC 4488: with Refer-Sub: false there is no NOTIFY.
func TestTransferWithoutSubscription(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		pbx(c, 202)
		x := taken.Refer("sip:1002@192.0.2.1", siptest.Field{Name: "Refer-Sub", Value: "false"}, siptest.Field{Name: "Require", Value: "norefersub"})
		equal(t, "Refer-Sub", w.await(x, time.Second, "202").Get("Refer-Sub"), "false")
		time.Sleep(100 * time.Millisecond)
		w.await(c.Notify("200 OK", "terminated"), time.Second, "200")
		c.Bye() // the PBX has its caller elsewhere
		w.await(taken, time.Second, "BYE")
		equal(t, "what the phone was told", told(taken), "")
		w.ended("transferred", 200)
	})
}

// A trunk cannot send its calls on by way of ours.
func TestReferFromTheTrunkIsDeclined(t *testing.T) {
	call(t, nil, func(w *world) {
		c, taken, _ := established(w, siptest.Invitation{})
		w.await(c.Refer("sip:+19005550100@example.com"), time.Second, "603")
		w.talk(c, taken)
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}

// Who hangs up in the midst of a transfer ends the call for all.
func TestHangUpDuringATransfer(t *testing.T) {
	for _, who := range []string{"caller", "callee", "callee before the PBX has answered"} {
		t.Run(who, func(t *testing.T) {
			call(t, nil, func(w *world) {
				c, taken, _ := established(w, siptest.Invitation{})
				pbx(c, 202)
				if strings.HasSuffix(who, "answered") {
					pbx(c, 0)
				}
				x := taken.Refer("sip:1002@192.0.2.1")
				time.Sleep(100 * time.Millisecond)
				if who == "caller" {
					c.Bye()
					w.await(taken, time.Second, "BYE")
					w.ended("caller_hung_up", 200)
					return
				}
				taken.Bye()
				w.await(c, time.Second, "BYE")
				w.await(x, time.Second, "final")
				w.ended("callee_hung_up", 200)
			})
		})
	}
}

func TestTransferThatTheTrunkDoesNotTake(t *testing.T) {
	no := false
	for name, change := range map[string]func(*setup, *siptest.Invitation){
		"by configuration": func(s *setup, _ *siptest.Invitation) { s.trunk.Transfer = &no },
		"by its Allow": func(_ *setup, inv *siptest.Invitation) {
			inv.Header = []siptest.Field{{Name: "Allow", Value: "INVITE, ACK, BYE, CANCEL, NOTIFY"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inv := siptest.Invitation{}
			call(t, func(s *setup) { change(s, &inv) }, func(w *world) {
				c, taken, _ := established(w, inv)
				w.await(taken.Refer("sip:1002@192.0.2.1"), time.Second, "403")
				equal(t, "REFERs at the trunk", len(c.Got("REFER")), 0)
				c.Bye()
				w.ended("caller_hung_up", 200)
			})
		})
	}
}
