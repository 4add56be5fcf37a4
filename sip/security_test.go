package sip

import (
	"strings"
	"testing"
	"time"
)

// An app that has logged in takes calls and makes none: there is no way out to
// a trunk that could cost money.
func TestRegisteredPhoneCannotCallOut(t *testing.T) {
	inBed(t, noTrunks, func(b *registerBed) {
		u := b.phoneAt("tcp", "198.51.100.9")
		u.want(200, "Contact: <sip:1001@10.0.0.9>;expires=600")
		for _, callee := range []string{"+4930123456", "1002", "00881234567"} {
			text := message("INVITE sip:"+callee+"@example.com SIP/2.0", "", "Call-ID: "+callee, "Via: SIP/2.0/TCP h;branch=z9hG4bK"+callee)
			if _, err := u.conn.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
			if res := u.receive(); res.StatusCode != 403 {
				t.Errorf("INVITE to %s got %d", callee, res.StatusCode)
			}
		}
		if n := b.srv.dialogs.len(); n != 0 {
			t.Errorf("%d dialogs", n)
		}
	})
}

// A challenge keeps no transaction, and is the same kind of answer each time it
// is asked for (RFC 3261 §8.2.7).
func TestChallengeIsStateless(t *testing.T) {
	inServer(t, strange(bedOptions{}), func(b *serverBed) {
		w := udpWire(b.t, b.net)
		var tags []string
		for range 3 {
			w.send(request("REGISTER"))
			tags = append(tags, headerOf(w.expect("SIP/2.0 401"), "To"))
			b.nothingLeft()
			if b.srv.guard.facts() != 1 {
				t.Errorf("%d facts for one address", b.srv.guard.facts())
			}
		}
		if tags[0] != tags[1] || tags[1] != tags[2] || !strings.Contains(tags[0], "tag=") {
			t.Errorf("To of the three answers: %q", tags)
		}
		if n := b.count("REGISTER", 401); n != 3 {
			t.Errorf("%v were counted", n)
		}
		time.Sleep(time.Second)
		if n := b.srv.guard.facts(); n != 0 {
			t.Errorf("%d facts are left", n)
		}
	})
}
