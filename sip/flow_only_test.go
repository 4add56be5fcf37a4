package sip

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// RFC 5626 §5.3: a request to a phone takes the connection of its REGISTER. If
// that is gone the flow has failed; its Contact is not connected to, whoever is
// there by now.
func TestInviteTakesTheRegisteredConnectionAndNoOther(t *testing.T) {
	inBed(t, nil, func(b *registerBed) {
		u := b.phoneAt("tcp", "192.0.2.50")
		u.want(200, "Contact: <sip:1001@192.0.2.50:5060;transport=tcp>")
		l, err := b.net.Host("192.0.2.50").Listen(context.Background(), "tcp", "192.0.2.50:5060")
		if err != nil {
			t.Fatal(err)
		}
		came := make(chan struct{})
		go func() {
			if c, err := l.Accept(); err == nil {
				close(came)
				c.Close()
			}
		}()
		binding := b.loc.Lookup("1001")[0]
		out, err := b.srv.Dial(binding, Invitation{CallID: "one"})
		if err != nil {
			t.Fatal(err)
		}
		u.reply(u.requested(sipgo.INVITE), 486)
		<-out.Ended()
		u.requested(sipgo.ACK)
		u.conn.Close()
		synctest.Wait()
		b.wantBindings("1001")
		if _, err := b.srv.Dial(binding, Invitation{CallID: "two"}); !errors.Is(err, errFlowClosed) {
			t.Errorf("the flow is gone, but: %v", err)
		}
		time.Sleep(time.Minute)
		l.Close()
		select {
		case <-came:
			t.Error("the Contact was connected to")
		default:
		}
	})
}

// A flow that dies under the INVITE has failed: 430, kept inside (RFC 5626 §11).
func TestFlowThatDiesUnderTheInviteIs430(t *testing.T) {
	inBed(t, nil, func(b *registerBed) {
		u := b.phoneAt("tcp", "192.0.2.50")
		u.want(200, ada)
		out, err := b.srv.Dial(b.loc.Lookup("1001")[0], Invitation{CallID: "one"})
		if err != nil {
			t.Fatal(err)
		}
		u.requested(sipgo.INVITE)
		u.conn.Close()
		if p := <-out.Progress(); p.Code != 430 || !p.Local || p.Lost {
			t.Errorf("%+v", p)
		}
	})
}

// RFC 8599 §5.3: no other registrar could serve it.
func TestPushServiceOrTopicThatIsNotOursIs555(t *testing.T) {
	for _, pn := range []string{"pn-provider=hms;pn-param=x;pn-prid=t", "pn-provider=apns;pn-param=T.com.other.voip;pn-prid=t",
		"pn-provider=fcm;pn-param=other;pn-prid=t"} {
		inBed(t, nil, func(b *registerBed) {
			res := b.phoneAt("tcp", "192.0.2.50").want(555, "Contact: <sip:1001@h;"+pn+">")
			if len(caps(res)) != 0 || len(b.loc.Devices("1001")) != 0 {
				t.Errorf("%s: promised or kept something", pn)
			}
		})
	}
}

// RFC 3261 §10.3 step 7: all of a REGISTER or nothing.
func TestRegisterIsAppliedAsAWholeOrNotAtAll(t *testing.T) {
	for name, second := range map[string]string{
		"too brief":     "Contact: <sip:1001@h2>;expires=1",
		"bad URI":       "Contact: <mailto:x@y>",
		"foreign topic": "Contact: <sip:1001@h2;pn-provider=hms;pn-param=x;pn-prid=t>",
		"too many":      "Contact: " + strings.TrimPrefix(strings.Join(contactList(10), ", "), "Contact: "),
	} {
		t.Run(name, func(t *testing.T) {
			inBed(t, nil, func(b *registerBed) {
				u := b.phoneAt("tcp", "192.0.2.50")
				u.want(200, "Contact: <sip:1001@first>")
				second = strings.ReplaceAll(second, "Contact: <sip:1001@h1>", "<sip:1001@h1>")
				if res := u.register("Contact: <sip:1001@new>, <sip:1001@first>;expires=0", strings.ReplaceAll(second, ", Contact: ", ", ")); res.StatusCode < 400 {
					t.Fatalf("answer %d", res.StatusCode)
				}
				b.wantBindings("1001", "sip:1001@first")
			})
		})
	}
}
