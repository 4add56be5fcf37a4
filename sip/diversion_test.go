package sip

import (
	"strings"
	"testing"

	sipgo "github.com/emiago/sipgo/sip"
)

func TestLastDivertingPartyOfDiversion(t *testing.T) {
	for _, c := range []struct{ header, by, why string }{
		{`Diversion: <sip:+4977@c.d>;reason=unconditional, <sip:+4988@c.d>;reason=user-busy`, "+4977", "unconditional"},
		{"Diversion: <sip:+4977@c.d>;reason=no-answer\r\nDiversion: <sip:+4988@c.d>", "+4977", "no-answer"},
		{`Diversion: "Desk" <tel:+4977>;counter=1;reason="user-busy"`, "+4977", "user-busy"},
		{`Diversion: <sip:+4977@c.d>;reason="x;y"`, "+4977", ""},
		{`Diversion: <sip:+4977@c.d>;privacy=full`, "", ""},
		{`Diversion: <sip:+4977@c.d>;privacy=off`, "+4977", ""},
		{"Diversion: <sip:+4977@c.d>\r\nPrivacy: history", "", ""},
		{"Diversion: <sip:+4977@c.d>\r\nHistory-Info: <sip:+4911@a.b>;index=1, <sip:1@a.b>;index=1.1;mp=1", "+4977", ""},
		{`Diversion: <sip:desk@c.d>`, "desk@c.d", ""},
		{`Diversion: nonsense<`, "", ""},
	} {
		if by, why := divertedBy(calledWith(t, c.header)); by != c.by || why != c.why {
			t.Errorf("%s: %q %q, want %q %q", c.header, by, why, c.by, c.why)
		}
	}
}

func TestLastDivertingPartyOfHistoryInfo(t *testing.T) {
	for _, c := range []struct{ name, value, by, why string }{
		{"mp names the entry", `<sip:+4911@a.b>;index=1, <sip:+4922@a.b;cause=302>;index=1.1;mp=1, <sip:+4933@a.b;cause=486>;index=1.1.1;mp=1.1`, "+4922", "user-busy"},
		{"mp, and the Reason of the entry left", `<sip:+4911@a.b?Reason=SIP%3Bcause%3D408>;index=1, <sip:+4922@a.b>;index=1.1;mp=1`, "+4911", "no-answer"},
		{"RFC 4244: a Reason alone", `<sip:+4911@a.b?Reason=SIP%3Bcause%3D302%3Btext%3D%22Moved%22>;index=1, <sip:+4922@a.b>;index=1.1`, "+4911", "unconditional"},
		{"RFC 4458: a cause alone", `<sip:+4911@a.b>;index=1, <sip:+4922@a.b;cause=503>;index=1.1`, "+4911", "unavailable"},
		{"retargeting without a diversion", `<sip:+4911@a.b>;index=1, <sip:+4911@10.0.0.1>;index=1.1;rc=1`, "", ""},
		{"one entry", `<sip:+4911@a.b>;index=1`, "", ""},
		{"private", `<sip:+4911@a.b?Privacy=history>;index=1, <sip:+4922@a.b;cause=302>;index=1.1;mp=1`, "", ""},
		{"mp that leads nowhere", `<sip:+4911@a.b>;index=1, <sip:+4922@a.b>;index=1.1;mp=7`, "", ""},
	} {
		if by, why := divertedBy(calledWith(t, "History-Info: "+c.value)); by != c.by || why != c.why {
			t.Errorf("%s: %q %q, want %q %q", c.name, by, why, c.by, c.why)
		}
	}
}

func TestDiversionIsEmittedInBothForms(t *testing.T) {
	s := &Server{cfg: Config{Domains: []string{"our.example"}}}
	callee := sipgo.Uri{Scheme: "sip", User: "1001", Host: "our.example"}
	write := func(c Caller) (lines string) {
		for _, h := range s.identityHeaders(c, nil, callee) {
			lines += h.String() + "\n"
		}
		return lines
	}
	got := write(Caller{DivertedBy: "+4977", DivertedWhy: "user-busy"})
	want := "Diversion: <sip:+4977@our.example>;reason=user-busy\n" +
		"History-Info: <sip:+4977@our.example?Reason=SIP%3Bcause%3D486>;index=1, <sip:1001@our.example;cause=486>;index=1.1;mp=1\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for _, header := range strings.Split(strings.TrimSpace(got), "\n") { // and it is read back as it was meant
		if by, why := divertedBy(calledWith(t, header)); by != "+4977" && by != "+4977@our.example" || why != "user-busy" {
			t.Errorf("%s is read as %q %q", header, by, why)
		}
	}
	if got := write(Caller{DivertedBy: "desk@" + strings.Repeat("x.", 100) + "example"}); got != "" {
		t.Errorf("a long diverter is written: %s", got)
	}
}
