package bridge_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// twoCalls are two answered calls of one phone: what the trunk has of them,
// and what the phone has.
func twoCalls(w *world) (first, second, phone1, phone2 *siptest.Call) {
	w.t.Helper()
	p := w.awake(phoneOptions{script: siptest.AnswerAfter(200 * time.Millisecond)})
	first = w.invite(siptest.Invitation{})
	w.await(first, 5*time.Second, "200")
	phone1 = w.taken(p)
	time.Sleep(time.Second)
	second, err := w.trunk.Invite(siptest.Invitation{To: number, From: "+4940777"})
	w.must(err)
	w.await(second, 5*time.Second, "200")
	phone2 = w.taken(p)
	time.Sleep(100 * time.Millisecond)
	return first, second, phone1, phone2
}

func attended(c *siptest.Call) string {
	return "sip:anyone@192.0.2.1?Replaces=" + url.QueryEscape(c.Replaces())
}

// RFC 5589 §7, RFC 3891: the dialog that the phone names is named to the PBX as
// the PBX has it.
func TestAttendedTransferNamesTheOtherCallAsThePBXHasIt(t *testing.T) {
	call(t, nil, func(w *world) {
		c1, c2, p1, p2 := twoCalls(w)
		pbx(c1, 202)
		w.await(p1.Refer(attended(p2)), time.Second, "202")
		to := w.await(c1, time.Second, "REFER").Get("Refer-To")
		uri, headers, _ := strings.Cut(strings.Trim(to, "<>"), "?")
		replaces, err := url.QueryUnescape(strings.TrimPrefix(headers, "Replaces="))
		w.must(err)
		if want := c2.PeersReplaces(); replaces != want || strings.Contains(to, p2.ID) {
			t.Errorf("the PBX was asked to replace %q, want %q", replaces, want)
		}
		if !strings.HasPrefix(uri, "sip:trunk@192.0.2.2:5060") {
			t.Errorf("Refer-To %q is not the other caller's contact", uri)
		}
		time.Sleep(100 * time.Millisecond)
		w.await(c1.Notify("200 OK", "terminated;reason=noresource"), time.Second, "200")
		c1.Bye()
		c2.Bye()
		w.await(p1, time.Second, "BYE")
		w.await(p2, time.Second, "BYE")
		equal(t, "what the phone was told", told(p1), "100 Trying active, 200 OK terminated")
		time.Sleep(40 * time.Second)
		for _, r := range w.records() {
			if r.From != "+4940777" && r.Ending != "transferred" {
				t.Errorf("the call that was transferred ended as %q", r.Ending)
			}
		}
		w.golden("transfer_attended")
	})
}

// A Replaces that names no call of this extension's, or the call itself, or
// half a call, is not passed on.
func TestAttendedTransferToACallThatIsNotTheExtensions(t *testing.T) {
	call(t, nil, func(w *world) {
		c1, c2, p1, p2 := twoCalls(w)
		pbx(c1, 202)
		own := p2.Replaces()
		for _, replaces := range []string{
			strings.Replace(own, "from-tag=", "from-tag=x", 1),
			strings.Replace(own, "to-tag=", "to-tag=x", 1),
			"x" + own, p1.Replaces(), c1.Replaces(), c2.Replaces(), c2.PeersReplaces(),
		} {
			w.await(p1.Refer("sip:a@192.0.2.1?Replaces="+url.QueryEscape(replaces)), time.Second, "481")
		}
		for _, bad := range []string{"x;to-tag=1", ";to-tag=1;from-tag=2", "x;to-tag=1;to-tag=1;from-tag=2", "x y;to-tag=1;from-tag=2"} {
			w.await(p1.Refer("sip:a@192.0.2.1?Replaces="+url.PathEscape(bad)), time.Second, "400")
		}
		equal(t, "REFERs at the trunk", len(c1.Got("REFER")), 0)
		w.talk(c1, p1)
		w.talk(c2, p2)
		c1.Bye()
		c2.Bye()
		time.Sleep(40 * time.Second)
	})
}
