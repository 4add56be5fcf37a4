package bridge_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"reveille/bridge"
	"reveille/sip"
	"reveille/sip/siptest"
)

// callWith lets a sleeping phone ring for a call with these headers, and hangs up.
func callWith(t *testing.T, change func(*setup), inv siptest.Invitation, hold func(w *world, invite *siptest.Message, payload map[string]any, r bridge.Record)) {
	t.Helper()
	call(t, change, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.RingOnly})
		c := w.invite(inv)
		taken := w.taken(p)
		time.Sleep(time.Second)
		w.trunk.Cancel(c)
		w.await(taken, time.Second, "CANCEL")
		hold(w, taken.Invite, w.sentPushes()[0].Payload, w.ended("cancelled", 487))
	})
}

func header(lines ...string) (out []siptest.Field) {
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		out = append(out, siptest.Field{Name: name, Value: value})
	}
	return out
}

func TestAnonymousCallerIsToldToNobodyButTheRecord(t *testing.T) {
	inv := siptest.Invitation{From: "+4940111", FromName: "Ada", Header: header(`P-Asserted-Identity: "Ada" <sip:+4940111@carrier>`, "Privacy: id")}
	callWith(t, nil, inv, func(w *world, invite *siptest.Message, payload map[string]any, r bridge.Record) {
		equal(t, "caller_name", payload["caller_name"], any("Anonymous"))
		equal(t, "handle", payload["handle"], any(""))
		if text := string(invite.Bytes()) + fmt.Sprint(payload); strings.Contains(text, "4940111") || strings.Contains(text, "Ada") {
			t.Errorf("the caller is in\n%s", text)
		}
		if from := invite.Get("From"); !strings.HasPrefix(from, `"Anonymous" <sip:anonymous@anonymous.invalid>`) {
			t.Errorf("From: %s", from)
		}
		equal(t, "from in the record", r.From, "+4940111")
		equal(t, "withheld in the record", r.Withheld, true)
	})
}

func TestVerstatReachesPushAndInvite(t *testing.T) {
	inv := siptest.Invitation{Header: header("P-Asserted-Identity: <sip:+4940111;verstat=TN-Validation-Passed@carrier;user=phone>", "Identity: eyJhbGciOiJFUzI1NiJ9..secret;info=<https://x>")}
	for _, believed := range []bool{true, false} {
		callWith(t, func(s *setup) { s.trunk.Verstat = believed }, inv, func(w *world, invite *siptest.Message, payload map[string]any, r bridge.Record) {
			verstat, pai, onRecord := "none", "", ""
			if believed {
				verstat, onRecord, pai = "verified", "verified", "<sip:+4940111;verstat=TN-Validation-Passed@192.0.2.1;user=phone>"
			}
			equal(t, "verstat in the push", payload["verstat"], any(verstat))
			equal(t, "P-Asserted-Identity", invite.Get("P-Asserted-Identity"), pai)
			equal(t, "Identity", invite.Get("Identity"), "")
			equal(t, "verstat on record", r.Verstat, onRecord)
		})
	}
}

func TestLastDivertingNumberReachesPushAndInvite(t *testing.T) {
	for _, h := range []string{
		"Diversion: <sip:+4977@c.d>;reason=user-busy, <sip:+4988@c.d>;reason=unconditional",
		"History-Info: <sip:+4977@c.d>;index=1, <sip:+4930123456@c.d;cause=486>;index=1.1;mp=1",
	} {
		callWith(t, nil, siptest.Invitation{Header: header(h)}, func(w *world, invite *siptest.Message, payload map[string]any, r bridge.Record) {
			equal(t, "diverted_by", payload["diverted_by"], any("+4977"))
			equal(t, "Diversion", invite.Get("Diversion"), "<sip:+4977@192.0.2.1>;reason=user-busy")
			equal(t, "History-Info", invite.Get("History-Info"),
				"<sip:+4977@192.0.2.1?Reason=SIP%3Bcause%3D486>;index=1, <sip:1001@192.0.2.1;cause=486>;index=1.1;mp=1")
			equal(t, "on record", r.Diverted, "+4977")
		})
	}
}

// deviceHeaders is all that an INVITE to a device may have.
var deviceHeaders = []string{"Via", "From", "To", "Call-ID", "CSeq", "Contact", "Max-Forwards", "Allow", "Supported", "User-Agent",
	"X-Call-UUID", "X-Reveille-Loop", "P-Asserted-Identity", "Diversion", "History-Info", "Content-Type", "Content-Length"}

func TestNothingElseOfAHostileInviteReachesTheDevice(t *testing.T) {
	const canary = "canary"
	odd := header("Record-Route: <sip:canary.example;lr>", "Via: SIP/2.0/UDP canary.example;branch=z9hG4bKcanary",
		"P-Preferred-Identity: <sip:canary@a.b>", "Subject: canary", "Organization: canary", "Server: canary", "User-Agent: canary",
		"Warning: 399 canary \"x\"", "Alert-Info: <http://canary/ring.wav>", "Call-Info: <http://canary/p.png>;purpose=icon", "Priority: canary",
		"Reply-To: <sip:canary@a.b>", "In-Reply-To: canary@x", "Identity: canary", "Identity-Info: <https://canary>;alg=x", "P-Charging-Vector: icid-value=canary",
		"P-Access-Network-Info: canary", "P-Visited-Network-ID: canary", "P-Called-Party-ID: <sip:canary@a.b>", "Geolocation: <sip:canary@a.b>",
		"Session-ID: canary", "User-to-User: canary;encoding=hex", "Referred-By: <sip:canary@a.b>", "Accept-Contact: *;canary", "Request-Disposition: canary",
		"X-Call-UUID: canary", "X-Reveille-Push: canary", "P-Asserted-Service: urn:canary", "Resource-Priority: canary", "Authorization: Digest username=canary",
		"Proxy-Authorization: Digest username=canary", "Date: canary", "Timestamp: 1", "Retry-After: 3", "Expires: 100", "Accept-Language: canary", "Accept: application/sdp, text/canary",
		"Content-Language: canary", "MIME-Version: 1.0", "Event: canary", "Feature-Caps: *;canary", "P-Attestation-Indicator: canary", "P-Origination-ID: canary",
		"History-Info: canary", "Remote-Party-ID: \"canary\" <sip:canary@a.b>;party=called")
	for i := range 20 {
		odd = append(odd, siptest.Field{Name: fmt.Sprintf("X-Odd-%d", i), Value: canary})
	}
	callWith(t, nil, siptest.Invitation{From: "+4940111", Header: odd}, func(w *world, invite *siptest.Message, payload map[string]any, r bridge.Record) {
		for _, h := range invite.Header {
			if !slices.Contains(deviceHeaders, h.Name) {
				t.Errorf("%s: %s reached the device", h.Name, h.Value)
			}
		}
		if text := string(invite.Bytes()); strings.Contains(text, canary) || strings.Contains(text, trunkIP) {
			t.Errorf("something of the trunk's reached the device:\n%s", text)
		}
		if strings.Contains(fmt.Sprint(payload), canary) {
			t.Errorf("something odd is in the push: %v", payload)
		}
		equal(t, "Vias", len(invite.All("Via")), 1)
	})
}

// pjsip's buffer for one message is 4,000 bytes (PJSIP_MAX_PKT_LEN).
func TestTheInviteToADeviceStaysSmall(t *testing.T) {
	sdp := "v=0\r\no=- 1 1 IN IP4 " + trunkIP + "\r\ns=-\r\nc=IN IP4 " + trunkIP + "\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8 0"
	maps := "a=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n"
	for i := 96; i < 128; i++ {
		sdp += fmt.Sprint(" ", i)
		maps += fmt.Sprintf("a=rtpmap:%d opus/48000/2\r\na=fmtp:%d useinbandfec=1;x=%s\r\n", i, i, strings.Repeat("y", 200))
	}
	sdp += "\r\n" + maps + "a=sendrecv\r\n"
	long := strings.Repeat("%E2%98%83", 60)
	inv := siptest.Invitation{
		From: long, SDP: []byte(sdp),
		Header: header(`P-Asserted-Identity: "`+strings.Repeat("\U0001f600\\\"", 100)+`" <sip:`+long+"@"+strings.Repeat("host.", 40)+`example>`,
			"Diversion: <sip:"+long+"@"+strings.Repeat("host.", 40)+"example>;reason=user-busy", "Identity: "+strings.Repeat("x", 4000),
			"Subject: "+strings.Repeat("s", 2000)),
	}
	callWith(t, func(s *setup) { s.trunk.CallerID = []string{sip.CallerFromPAI}; s.tcpTrunk = true }, inv,
		func(w *world, invite *siptest.Message, payload map[string]any, r bridge.Record) {
			if n := len(invite.Bytes()); n > 3500 {
				t.Errorf("the INVITE to the device has %d bytes:\n%s", n, invite.Bytes())
			} else {
				t.Logf("%d bytes", n)
			}
		})
}
