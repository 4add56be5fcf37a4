package sip

import (
	"testing"

	sipgo "github.com/emiago/sipgo/sip"
)

func TestReasonRoundTrip(t *testing.T) {
	for _, c := range []struct {
		header string
		want   Reason
	}{
		{`SIP;cause=200;text="Call completed elsewhere"`, CompletedElsewhere()},
		{`Q.850 ; cause=16 ; text="Terminated"`, Reason{"Q.850", 16, "Terminated"}},
		{`sip;CAUSE=603`, Reason{"SIP", 603, ""}},
		{`Q.850;cause=16;text="a; b, \"c\""`, Reason{"Q.850", 16, `a; b, "c"`}},
		{`X.25;cause=1`, Reason{}},
		{`SIP;cause=abc`, Reason{}},
		{`SIP;cause=-1`, Reason{}},
		{`SIP;cause=200;text="open`, Reason{}},
		{``, Reason{}},
	} {
		got := ParseReason(c.header)
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", c.header, got, c.want)
		}
		if !got.IsZero() && ParseReason(got.String()) != got {
			t.Errorf("%s does not survive writing: %s", c.header, got)
		}
	}
}

func TestReasonTextCannotForgeAHeader(t *testing.T) {
	r := Reason{"SIP", 480, "a\r\nX-Evil: 1\n\u202e\x00b\"c"}
	if got, want := r.String(), `SIP;cause=480;text="a X-Evil: 1 b\"c"`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestCallerOf(t *testing.T) {
	const head = "INVITE sip:+4930123456@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\n" +
		"To: <sip:1001@192.0.2.1>\r\nCall-ID: a\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n"
	order := []string{CallerFromPAI, CallerFromFrom}
	for _, c := range []struct {
		name, headers string
		want          Caller
	}{
		{"P-Asserted-Identity wins", "From: \"x\" <sip:0@a.b>;tag=1\r\nP-Asserted-Identity: \"Ada L\" <sip:+49-30-5555@carrier.example;user=phone>, <tel:+1>\r\n",
			Caller{Handle: "+49305555", Number: true, Name: "Ada L"}},
		{"tel URI", "From: <sip:0@a.b>;tag=1\r\nP-Asserted-Identity: <tel:+49305555;phone-context=x>\r\n", Caller{Handle: "+49305555", Number: true}},
		{"From is the fallback", "From: \"Bob \\\"B\\\"\" <sip:bob@example.com>;tag=1\r\n", Caller{Handle: "bob@example.com", Name: `Bob "B"`}},
		{"Privacy hides all", "From: \"A\" <sip:1@a.b>;tag=1\r\nP-Asserted-Identity: <sip:+49301@c.d>\r\nPrivacy: header;id\r\n", Caller{Name: "Anonymous", Anonymous: true}},
		{"anonymous.invalid", "From: \"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=1\r\n", Caller{Name: "Anonymous", Anonymous: true}},
		{"Privacy: none hides nothing", "From: <sip:+491@a.b>;tag=1\r\nPrivacy: none\r\n", Caller{Handle: "+491", Number: true}},
		{"Diversion", "From: <sip:+491@a.b>;tag=1\r\nDiversion: <sip:+4977@c.d>;reason=unconditional, <sip:+4988@c.d>\r\n", Caller{Handle: "+491", Number: true, DivertedBy: "+4977"}},
		{"bidi and zero width", "From: \"a\u202e\u200bb\" <sip:+491@a.b>;tag=1\r\n", Caller{Handle: "+491", Number: true, Name: "ab"}},
	} {
		if got := callerOf(mustRequest(t, head+c.headers+"Content-Length: 0\r\n\r\n"), order); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func mustRequest(t *testing.T, raw string) *sipgo.Request {
	t.Helper()
	m, _, err := parseDatagram([]byte(raw), 16384)
	if err != nil {
		t.Fatalf("%v in\n%s", err, raw)
	}
	return m.(*sipgo.Request)
}
