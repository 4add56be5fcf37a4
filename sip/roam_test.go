package sip

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// aDialog is a confirmed call to the phone of 1001 that u has registered.
func (u *ua) aDialog() (*Outbound, *sipgo.Request) {
	u.b.t.Helper()
	u.want(200, `Contact: <sip:1001@10.0.0.9:4000>;+sip.instance="<urn:uuid:x>";reg-id=1`)
	out, err := u.b.srv.Dial(u.b.loc.Lookup("1001")[0], Invitation{CallID: "call"})
	if err != nil {
		u.b.t.Fatal(err)
	}
	invite := u.requested(sipgo.INVITE)
	u.reply(invite, 200, "Contact: <sip:1001@10.0.0.9:4000>")
	u.requested(sipgo.ACK)
	return out, invite
}

// within is a request of the device's in that dialog, and the first answer to
// it but for 100.
func (u *ua) within(invite *sipgo.Request, method string, seq int, headers ...string) *sipgo.Response {
	u.b.t.Helper()
	u.serial++
	from, _ := invite.From().Params.Get("tag")
	headers = append(headers, fmt.Sprintf("Via: SIP/2.0/TCP 10.0.0.9:4000;rport;branch=z9hG4bKw%p-%d", u, u.serial),
		"From: <sip:1001@example.com>;tag=dev", "To: <sip:a@example.com>;tag="+from, "Call-ID: call", fmt.Sprintf("CSeq: %d %s", seq, method))
	if _, err := io.WriteString(u.conn, message(method+" sip:192.0.2.1:5060 SIP/2.0", "", headers...)); err != nil {
		u.b.t.Fatal(err)
	}
	for {
		if res := u.receive(); res.StatusCode != 100 {
			synctest.Wait()
			return res
		}
	}
}

// A re-INVITE or UPDATE takes the dialog to where it comes from: to a flow that
// the device has registered, no other.
func TestDialogMovesToARegisteredFlowOfItsDevice(t *testing.T) {
	inBed(t, nil, func(b *registerBed) {
		u := b.phoneAt("tcp", "192.0.2.50")
		out, invite := u.aDialog()
		before := out.FlowID()
		next := b.phoneAt("tcp", "198.51.100.7")
		next.want(200, `Contact: <sip:1001@10.0.0.9:4001>;+sip.instance="<urn:uuid:x>";reg-id=1`)
		if res := next.within(invite, "UPDATE", 1, "Contact: <sip:1001@10.0.0.9:4001>"); res.StatusCode != 200 {
			t.Fatal(res)
		}
		if out.FlowID() == before {
			t.Error("the dialog has not moved")
		}
		out.Hangup(Reason{})
		if bye := next.requested(sipgo.BYE); bye.Recipient.Port != 4001 {
			t.Errorf("BYE to %s", bye.Recipient.String())
		}
	})
}

func TestDialogDoesNotMoveToAStranger(t *testing.T) {
	for name, method := range map[string]string{"re-INVITE": "INVITE", "UPDATE": "UPDATE"} {
		t.Run(name, func(t *testing.T) {
			inBed(t, nil, func(b *registerBed) {
				u := b.phoneAt("tcp", "192.0.2.50")
				out, invite := u.aDialog()
				before := out.FlowID()
				thief := b.phoneAt("tcp", "203.0.113.66")
				res := thief.within(invite, method, 1, "Contact: <sip:thief@203.0.113.66>")
				if res.StatusCode != 401 || len(res.GetHeaders("WWW-Authenticate")) == 0 {
					t.Fatalf("without credentials: %s", res)
				}
				thief.creds = newDigestClient("1002", "secret2") // registered nowhere, but an account of ours
				thief.creds.challenged(res)
				if res := thief.within(invite, method, 2, "Contact: <sip:thief@203.0.113.66>", thief.authorization(method)); res.StatusCode != 403 {
					t.Fatalf("as another: %s", res)
				}
				if out.FlowID() != before {
					t.Error("the dialog has moved")
				}
				out.Hangup(Reason{})
				if bye := u.requested(sipgo.BYE); bye.Recipient.User != "1001" {
					t.Errorf("BYE to %s", bye.Recipient.String())
				}
			})
		})
	}
}

// authorization is the header for a request within the dialog.
func (u *ua) authorization(method string) string {
	u.b.t.Helper()
	probe := sipgo.NewRequest(sipgo.RequestMethod(method), sipgo.Uri{Scheme: "sip", Host: "192.0.2.1", Port: 5060})
	if err := u.creds.authorize(probe); err != nil {
		u.b.t.Fatal(err)
	}
	return "Authorization: " + headerValue(probe, "Authorization")
}

// The app changes the dialog before it registers: it proves itself, and what
// follows goes by the flow on which it did so.
func TestDialogMovesToADeviceThatProvesItself(t *testing.T) {
	inBed(t, nil, func(b *registerBed) {
		u := b.phoneAt("tcp", "192.0.2.50")
		out, invite := u.aDialog()
		next := b.phoneAt("tcp", "198.51.100.7")
		next.creds.challenged(next.within(invite, "UPDATE", 1, "Contact: <sip:1001@10.0.0.9:4001>"))
		if res := next.within(invite, "UPDATE", 2, "Contact: <sip:1001@10.0.0.9:4001>", next.authorization("UPDATE")); res.StatusCode != 200 {
			t.Fatal(res)
		}
		out.Hangup(Reason{})
		next.requested(sipgo.BYE)
	})
}

// The flow gives no answer to OPTIONS, and no other sign of life.
func TestAliveTellsAFlowThatTheDeviceHasLeft(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			inBed(t, nil, func(b *registerBed) {
				u := b.phoneAt(network, "192.0.2.50")
				u.want(200, ada)
				out, err := b.srv.Dial(b.loc.Lookup("1001")[0], Invitation{CallID: "c"})
				if err != nil {
					t.Fatal(err)
				}
				u.reply(u.requested(sipgo.INVITE), 180)
				answers := make(chan bool, 1)
				go func() { answers <- out.Alive(context.Background(), 2*time.Second) }()
				options := u.requested(sipgo.OPTIONS)
				u.reply(options, 405) // whatever it is
				if !<-answers {
					t.Error("an answer is a sign of life")
				}
				if options.Recipient.String() != u.b.loc.Lookup("1001")[0].Contact || strings.Contains(options.String(), "\r\nCall-ID: c\r\n") {
					t.Errorf("asked by\n%s", options)
				}
				b.net.Partition("192.0.2.50", true)
				asked := time.Now()
				if out.Alive(context.Background(), 2*time.Second) || time.Since(asked) != 2*time.Second {
					t.Errorf("a sign of life after %v from a phone that has gone", time.Since(asked))
				}
				b.net.Partition("192.0.2.50", false)
				out.Abandon()
			})
		})
	}
}
