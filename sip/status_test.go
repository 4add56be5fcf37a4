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
		{`Q.850 ; cause=16 ; text="Terminated"`, Reason{Protocol: "Q.850", Cause: 16, Text: "Terminated"}},
		{`sip;CAUSE=603`, Reason{Protocol: "SIP", Cause: 603, Text: ""}},
		{`Q.850;cause=16;text="a; b, \"c\""`, Reason{Protocol: "Q.850", Cause: 16, Text: `a; b, "c"`}},
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
	r := Reason{Protocol: "SIP", Cause: 480, Text: "a\r\nX-Evil: 1\n\u202e\x00b\"c"}
	if got, want := r.String(), `SIP;cause=480;text="a X-Evil: 1 b\"c"`; got != want {
		t.Errorf("%q, want %q", got, want)
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
