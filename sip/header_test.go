package sip

import (
	"strings"
	"testing"

	sipgo "github.com/emiago/sipgo/sip"
)

func parse(t *testing.T, text string) *sipgo.Request {
	t.Helper()
	m, _, err := parseDatagram([]byte(text), 16<<10)
	if err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return m.(*sipgo.Request)
}

func TestCompactAndOddlyWrittenNames(t *testing.T) {
	req := parse(t, request("INVITE", "k: 100rel, timer", "SUPPORTED:replaces", "x: 1800;refresher=uac", "r: <sip:c@example.com>", "o: dialog"))
	if !hasToken(req, "Supported", "timer") || !hasToken(req, "supported", "REPLACES") || hasToken(req, "Supported", "path") {
		t.Errorf("Supported: %q", headerList(req, "Supported"))
	}
	for name, want := range map[string]string{"Session-Expires": "1800;refresher=uac", "Refer-To": "<sip:c@example.com>", "Event": "dialog", "Absent": ""} {
		if got := headerValue(req, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if !req.RemoveHeader("Session-Expires") {
		t.Error("the long name does not remove the header")
	}
}

func TestAddressesAreReadLeniently(t *testing.T) {
	for _, c := range []struct{ in, display, uri, tag string }{
		{`<sip:a@h>;tag=x`, "", "sip:a@h", "x"},
		{`sip:a@h;tag=x`, "", "sip:a@h", "x"},
		{`sip:a@h ; TAG = x`, "", "sip:a@h", "x"},
		{`"A; \"B\" <c>" <sip:a@h;user=phone> ;foo="x;tag=y" ;tag=x;`, `A; \"B\" <c>`, "sip:a@h;user=phone", "x"},
		{`Bell, Alexander < sip:a@h >;tag=x`, "Bell, Alexander", "sip:a@h", "x"},
		{`A"b" <sip:a@h>`, "Ab", "sip:a@h", ""},
		{`tel:+4930123;tag=x`, "", "tel:+4930123", "x"},
		{`<sip:a@[2001:db8::1]:5070>;tag=x`, "", "sip:a@[2001:db8::1]:5070", "x"},
	} {
		a, err := parseNameAddr(c.in)
		tag, _ := paramOf(a.params, "Tag")
		if err != nil || a.display != c.display || a.uri.String() != c.uri || tag != c.tag {
			t.Errorf("%s: %q %s tag %q, %v", c.in, a.display, a.uri.String(), tag, err)
		}
	}
	for _, in := range []string{"", "<sip:a@h", `"a <sip:a@h>`, "sip:a@h?X=y", "<sip:a@h>;tag=x;tag=y", "<sip:a@h>;;tag=x",
		"<sip:a@h>;=x", "<sip:a b@h>", "<sip:a@h> x;tag=y", "nothing", "<<sip:a@h>>"} {
		if a, err := parseNameAddr(in); err == nil {
			t.Errorf("%s is taken for %+v", in, a)
		}
	}
}

func TestContactParametersKeepTheirQuotes(t *testing.T) {
	req := parse(t, request("REGISTER", `m: "A" <sip:a@h;pn-prid=x>;+sip.instance="<urn:uuid:1>";q=0.5, <sip:b@h>;expires=60`))
	contacts := req.GetHeaders("Contact")
	if len(contacts) != 2 {
		t.Fatalf("%d contacts", len(contacts))
	}
	first := contacts[0].(*sipgo.ContactHeader)
	if raw, _ := first.Params.Get("+sip.instance"); raw != `"<urn:uuid:1>"` {
		t.Errorf("instance as sent: %s", raw)
	}
	if plain, _ := paramOf(first.Params, "+SIP.instance"); plain != "<urn:uuid:1>" {
		t.Errorf("instance: %s", plain)
	}
	if got := contacts[1].Value(); got != "<sip:b@h>;expires=60" {
		t.Errorf("second contact: %s", got)
	}
}

func TestViaWithWhiteSpaceAndLists(t *testing.T) {
	req := parse(t, request("OPTIONS", "Via: SIP / 2.0 / udp  h1 : 5070 ; branch = z9hG4bKx;rport , SIP/2.0/TCP [2001:db8::1]:5061;BRANCH=z9hG4bKy", "v: SIP/2.0/TLS h3"))
	var got []string
	for _, h := range req.GetHeaders("Via") {
		got = append(got, h.Value())
	}
	want := "SIP/2.0/UDP h1:5070;branch=z9hG4bKx;rport | SIP/2.0/TCP [2001:db8::1]:5061;branch=z9hG4bKy | SIP/2.0/TLS h3"
	if s := strings.Join(got, " | "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*sipgo.Request)
		status int
	}{
		{"fine", func(*sipgo.Request) {}, 0},
		{"tel URI", func(r *sipgo.Request) { sipgo.ParseUri("tel:+4930123", &r.Recipient) }, 0},
		{"version", func(r *sipgo.Request) { r.SipVersion = "SIP/3.0" }, 505},
		{"no Call-ID", func(r *sipgo.Request) { r.RemoveHeader("Call-ID") }, 400},
		{"no From", func(r *sipgo.Request) { r.RemoveHeader("From") }, 400},
		{"no To", func(r *sipgo.Request) { r.RemoveHeader("To") }, 400},
		{"no Via", func(r *sipgo.Request) { r.RemoveHeader("Via") }, 400},
		{"no CSeq", func(r *sipgo.Request) { r.RemoveHeader("CSeq") }, 400},
		{"CSeq method", func(r *sipgo.Request) { r.CSeq().MethodName = "BYE" }, 400},
		{"scheme", func(r *sipgo.Request) { r.Recipient.Scheme = "http" }, 416},
		{"URI headers", func(r *sipgo.Request) { r.Recipient.Headers = sipgo.HeaderParams{{K: "Route", V: "x"}} }, 400},
		{"host", func(r *sipgo.Request) { r.Recipient.Host = "a<b" }, 400},
		{"no host", func(r *sipgo.Request) { r.Recipient.Host = "" }, 400},
		{"port", func(r *sipgo.Request) { r.Recipient.Port = 70000 }, 400},
		{"branch", func(r *sipgo.Request) { r.Via().Params.Add("branch", "z9hG4bK") }, 400},
	} {
		req := parse(t, request("OPTIONS"))
		c.change(req)
		if status, reason := validate(req); status != c.status {
			t.Errorf("%s: %d %s, want %d", c.name, status, reason, c.status)
		}
	}
}

func TestSanitise(t *testing.T) {
	for in, want := range map[string]string{
		"Ada Lovelace":                  "Ada Lovelace",
		"  a \t\r\n b  ":                "a b",
		"x\r\nInjected: yes":            "x Injected: yes",
		"a\x00\x1b[31mb\x7f":            "a[31mb",
		"\u202egnp.exe\u200b\ufeff":     "gnp.exe",
		"bad\xff\xfeutf":                "badutf",
		"Zoë 日本 🎺":                      "Zoë 日本 🎺",
		"\u2028line\u2029para":          "line para",
		"1234567890 and more than that": "1234567890 and",
	} {
		limit := 64
		if strings.HasPrefix(in, "1234") {
			limit = 14
		}
		if got := SanitiseText(in, limit); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := SanitiseName(`"Joe \"J\" \\ <x>"`); got != `Joe "J" \ <x>` {
		t.Errorf("name: %s", got)
	}
	if got := Quote("a\"b\\c\r\nX: y"); got != `"a\"b\\cX: y"` {
		t.Errorf("quoted: %s", got)
	}
	if got := SanitiseToken("ab;c", 10) + SanitiseToken("toolong", 3) + SanitiseToken("a-b@c", 10); got != "a-b@c" {
		t.Errorf("tokens: %s", got)
	}
}

func TestSanitiseNumber(t *testing.T) {
	for in, want := range map[string]string{
		"+49 (30) 123-45.67": "+49301234567", "*21#": "*21#", "1001": "1001",
		"": "", "+": "", "12a": "", "1+2": "", "anonymous": "", strings.Repeat("1", 33): "",
	} {
		got, ok := SanitiseNumber(in)
		if ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q, %v", in, got, ok)
		}
	}
}
