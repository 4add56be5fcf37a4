package sip

import (
	"fmt"
	"strings"
	"testing"

	sipgo "github.com/emiago/sipgo/sip"
)

// calledWith is an INVITE with these headers; without a From among them it has one.
func calledWith(t *testing.T, headers ...string) *sipgo.Request {
	t.Helper()
	if !strings.Contains("\r\n"+strings.Join(headers, "\r\n"), "\r\nFrom:") {
		headers = append(headers, "From: <sip:+491@a.b>;tag=1")
	}
	return mustRequest(t, "INVITE sip:+4930123456@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\n"+
		"To: <sip:1001@192.0.2.1>\r\nCall-ID: a\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n"+
		strings.Join(headers, "\r\n")+"\r\nContent-Length: 0\r\n\r\n")
}

type callerCase struct {
	name    string
	headers []string
	want    Caller
}

func holdCallers(t *testing.T, trunk TrunkConfig, cases []callerCase) {
	t.Helper()
	for _, c := range cases {
		if c.want.Verstat == "" {
			c.want.Verstat = VerstatNone
		}
		if got := callerOf(calledWith(t, c.headers...), trunk.WithDefaults()); got != c.want {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, got, c.want)
		}
	}
}

func TestPAIOverFromInTheOrderOfTheTrunk(t *testing.T) {
	all := []string{
		`From: "F" <sip:+491@a.b>;tag=1`, `P-Asserted-Identity: "P" <sip:+492@c.d>`,
		`Remote-Party-ID: "C" <sip:+499@e.f>;party=called`, `Remote-Party-ID: "R" <sip:+493@e.f>;party=calling;screen=yes`,
	}
	for order, want := range map[string]Caller{
		"":                                   {Handle: "+492", Name: "P"},
		CallerFromFrom:                       {Handle: "+491", Name: "F"},
		CallerFromRPID:                       {Handle: "+493", Name: "R"},
		CallerFromRPID + " " + CallerFromPAI: {Handle: "+493", Name: "R"},
	} {
		want.Number = true
		holdCallers(t, TrunkConfig{CallerID: strings.Fields(order)}, []callerCase{{"order " + order, all, want}})
	}
}

func TestCallerOf(t *testing.T) {
	holdCallers(t, TrunkConfig{}, []callerCase{
		{"number with separators", []string{`P-Asserted-Identity: "Ada L" <sip:+49-30-5555@carrier.example;user=phone>`}, Caller{Handle: "+49305555", Number: true, Name: "Ada L"}},
		{"sip and tel: the number of one, the name of the other", []string{`P-Asserted-Identity: "Ada" <sip:ada@carrier.example>, <tel:+49305555>`}, Caller{Handle: "+49305555", Number: true, Name: "Ada"}},
		{"sip and tel on two lines", []string{`P-Asserted-Identity: <tel:+49305555>`, `P-Asserted-Identity: "Ada" <sip:+4999@carrier.example>`}, Caller{Handle: "+49305555", Number: true, Name: "Ada"}},
		{"tel URI with a context", []string{"P-Asserted-Identity: <tel:+49305555;phone-context=x>"}, Caller{Handle: "+49305555", Number: true}},
		{"escapes in the user part", []string{"P-Asserted-Identity: <sip:%2B49305555@c.d>"}, Caller{Handle: "+49305555", Number: true}},
		{"PAI that cannot be read", []string{`P-Asserted-Identity: "x" <sip:+4`}, Caller{Handle: "+491", Number: true}},
		{"From is the fallback", []string{`From: "Bob \"B\"" <sip:bob@example.com>;tag=1`}, Caller{Handle: "bob@example.com", Name: `Bob "B"`}},
		{"P-Preferred-Identity is not an assertion", []string{"P-Preferred-Identity: <sip:+4999@c.d>"}, Caller{Handle: "+491", Number: true}},
		{"anonymous From beside an assertion", []string{"From: <sip:anonymous@a.b>;tag=1", "P-Asserted-Identity: <sip:+492@c.d>"}, Caller{Handle: "+492", Number: true}},
	})
}

func TestPrivacyWithholdsNumberAndName(t *testing.T) {
	pai := `P-Asserted-Identity: "Ada" <sip:+492@c.d>`
	hidden := Caller{Name: "Anonymous", Anonymous: true, Withheld: "+492"}
	shown := Caller{Handle: "+492", Number: true, Name: "Ada"}
	var cases []callerCase
	for value, want := range map[string]Caller{
		"id": hidden, "user": hidden, "header": hidden, "full": hidden, "critical": hidden, "id;critical": hidden, "ID": hidden,
		"session, user": hidden, "none": shown, "session": shown, "history": shown,
	} {
		cases = append(cases, callerCase{"Privacy: " + value, []string{pai, "Privacy: " + value}, want})
	}
	cases = append(cases,
		callerCase{"anonymous.invalid", []string{`From: "Anonymous" <sip:anonymous@anonymous.invalid>;tag=1`, pai}, hidden},
		callerCase{"anonymous.invalid, but none", []string{`From: <sip:anonymous@anonymous.invalid>;tag=1`, pai, "Privacy: none"}, shown},
		callerCase{"nothing but an anonymous From", []string{`From: "Anonymous" <sip:anonymous@anonymous.invalid>;tag=1`, "Privacy: none"}, Caller{Name: "Anonymous", Anonymous: true}},
		callerCase{"Remote-Party-ID privacy=full", []string{pai, "Remote-Party-ID: <sip:+492@c.d>;party=calling;privacy=full"}, hidden},
		callerCase{"privacy of the callee", []string{pai, "Remote-Party-ID: <sip:+499@c.d>;party=called;privacy=full"}, shown},
	)
	holdCallers(t, TrunkConfig{}, cases)
	holdCallers(t, TrunkConfig{CallerID: []string{CallerFromRPID}}, []callerCase{
		{"Remote-Party-ID privacy=name", []string{`Remote-Party-ID: "Ada" <sip:+492@c.d>;privacy=name`}, Caller{Handle: "+492", Number: true}}})
}

func TestVerstatIsReadFromTrunksThatAreBelieved(t *testing.T) {
	for value, want := range map[string]string{
		"TN-Validation-Passed": VerstatVerified, "TN-Validation-Passed-A": VerstatVerified, "tn-validation-passed": VerstatVerified,
		"TN-Validation-Passed-B": VerstatNone, "TN-Validation-Passed-C": VerstatNone, "TN-Validation-Passed-Z": VerstatNone,
		"TN-Validation-Failed": VerstatFailed, "TN-Validation-Failed-C": VerstatFailed, "No-TN-Validation": VerstatNone, "yes": VerstatNone,
	} {
		for _, header := range []string{
			"P-Asserted-Identity: <sip:+491;verstat=%s@a.b;user=phone>", "P-Asserted-Identity: <sip:+491@a.b;user=phone;verstat=%s>",
			"P-Asserted-Identity: <tel:+491;verstat=%s>", "P-Asserted-Identity: <sip:+491@a.b>;verstat=%s",
			"P-Asserted-Identity: <sip:+491@a.b>, <tel:+491;verstat=%s>",
			"From: <sip:+491;verstat=%s@a.b>;tag=1", "From: <sip:+491@a.b>;tag=1;verstat=%s",
		} {
			header = fmt.Sprintf(header, value)
			holdCallers(t, TrunkConfig{Verstat: true}, []callerCase{{header, []string{header}, Caller{Handle: "+491", Number: true, Verstat: want}}})
			holdCallers(t, TrunkConfig{}, []callerCase{{"not believed: " + header, []string{header}, Caller{Handle: "+491", Number: true}}})
		}
	}
}

func TestVerstatOfAnAnonymousOrNumberlessCallerIsNone(t *testing.T) {
	holdCallers(t, TrunkConfig{Verstat: true}, []callerCase{
		{"anonymous", []string{"P-Asserted-Identity: <tel:+492;verstat=TN-Validation-Passed>", "Privacy: id"}, Caller{Name: "Anonymous", Anonymous: true, Withheld: "+492"}},
		{"no number", []string{"P-Asserted-Identity: <sip:ada;verstat=TN-Validation-Passed@a.b>"}, Caller{Handle: "ada@a.b"}},
		{"a caller's own", []string{"P-Asserted-Identity: <sip:+491%3Bverstat=TN-Validation-Passed@a.b>"}, Caller{Handle: "+491;verstat=TN-Validation-Passed@a.b"}},
	})
}

func TestCallerNamesCannotInject(t *testing.T) {
	attacks := map[string]string{
		`x","uuid":"0`:                    `x","uuid":"0`, // JSON's business: it is encoded there
		"a\u202eb\u200bc\u2066d\ufeffe":   "abcde",
		"a\u2028b\u2029c\u0085d":          "a b c d",
		"a\tb":                            "a b",
		"a\x01b\x7fc":                     "abc",
		"\u061c\u180e\U000e0041x":         "x",
		"a\xffb":                          "ab",
		"\u3164\uffa0\u115f":              "",
		strings.Repeat("\U0001f600", 100): strings.Repeat("\U0001f600", maxCallerName),
		"${jndi:ldap://x} {{.Secret}}":    "${jndi:ldap://x} {{.Secret}}",
	}
	for attack, want := range attacks {
		header := "P-Asserted-Identity: " + `"` + strings.ReplaceAll(attack, `"`, `\"`) + `" <sip:+491@a.b>`
		m, _, err := parseDatagram([]byte("INVITE sip:1@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\nFrom: <sip:+491@a.b>;tag=1\r\n"+
			"To: <sip:1001@192.0.2.1>\r\nCall-ID: a\r\nCSeq: 1 INVITE\r\n"+header+"\r\n\r\n"), 16384)
		if err != nil {
			continue // refused as a whole
		}
		if got := callerOf(m.(*sipgo.Request), TrunkConfig{}.WithDefaults()); got.Name != want || got.Handle != "+491" {
			t.Errorf("%q becomes %+v, want name %q", attack, got, want)
		}
	}
}

func TestCallerHandlesCannotInject(t *testing.T) {
	s := &Server{cfg: Config{Domains: []string{"our.example"}}}
	for user, want := range map[string]string{
		"a%3Btransport=tcp": "sip:a%3Btransport%3Dtcp@a.b", "x%40evil.example": "sip:xevil.example@a.b", "a%0D%0AX: 1": "sip:a%20X%3A%201@a.b",
		"%22%3E%3Csip:x": "sip:%22%3E%3Csip@a.b", "a%3Fb%26c": "sip:a%3Fb%26c@a.b", "%E2%80%AEab": "sip:ab@a.b", "%2B49": "sip:+49@our.example",
	} {
		c := Caller{Handle: handleOf(sipgo.Uri{Scheme: "sip", User: strings.TrimSuffix(user, ":x"), Host: "a.b"})}
		if uri := s.callerURI(c, nil); uri.String() != want {
			t.Errorf("%s becomes %s, want %s", user, uri.String(), want)
		}
	}
	for _, host := range []string{"a b", "a;b", "[::1%<evil>]", "a@b", "..", ""} {
		if got := handleOf(sipgo.Uri{Scheme: "sip", User: "ada", Host: host}); got != "ada" {
			t.Errorf("host %q gives %q", host, got)
		}
	}
}

func FuzzCallerOf(f *testing.F) {
	for _, header := range []string{
		`P-Asserted-Identity: "A" <sip:+491;verstat=x@a.b>, <tel:+1>`, `History-Info: <sip:a@b?Reason=SIP%3Bcause%3D302&Privacy=history>;index=1, <sip:c@d;cause=302>;index=1.1;mp=1`,
		`Diversion: <sip:+49@a>;reason=unconditional;privacy=off`, `Remote-Party-ID: <sip:1@[::1]>;party=calling;privacy=full`, `Privacy: id;critical`,
	} {
		f.Add(header)
	}
	s := &Server{cfg: Config{Domains: []string{"our.example"}}}
	f.Fuzz(func(t *testing.T, header string) {
		m, _, err := parseDatagram([]byte("INVITE sip:1@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\nFrom: <sip:+491@a.b>;tag=1\r\n"+
			"To: <sip:1001@192.0.2.1>\r\nCall-ID: a\r\nCSeq: 1 INVITE\r\n"+header+"\r\n\r\n"), 16384)
		req, ok := m.(*sipgo.Request)
		if err != nil || !ok || req.From() == nil {
			return
		}
		c := callerOf(req, TrunkConfig{Verstat: true, CallerID: []string{CallerFromRPID, CallerFromPAI, CallerFromFrom}})
		if c.Anonymous && (c.Handle != "" || c.Name != "Anonymous" || c.Verstat != VerstatNone) {
			t.Errorf("an anonymous caller shows: %+v", c)
		}
		uri := s.callerURI(c, nil)
		out := uri.String() + c.Name
		for _, h := range s.identityHeaders(c, nil, sipgo.Uri{User: "1001", Host: "our.example"}) {
			out += h.Value()
			if _, err := parseNameAddr(headerFirst(h.Value())); err != nil {
				t.Errorf("we would write %s", h.Value())
			}
		}
		if strings.ContainsAny(out, "\r\n\x00") || len(out) > 2500 {
			t.Errorf("%d bytes: %q", len(out), out)
		}
	})
}

func headerFirst(value string) string {
	values, _ := splitOutside(value, ',')
	return values[0]
}
