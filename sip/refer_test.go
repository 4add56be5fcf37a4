package sip

import (
	"strings"
	"testing"
)

func TestReferToIsReadStrictly(t *testing.T) {
	for value, want := range map[string]string{
		"<sip:1002@pbx.example.com>":                                "1002 pbx.example.com",
		"sip:1002@pbx.example.com":                                  "1002 pbx.example.com",
		`"Ada" <sips:+49%20(30)%201@EXAMPLE.com;method=INVITE>;x=y`: "+49301 example.com",
		"<tel:+49-30-1>":                                            "+49301 ",
		"<sip:ada.b@[2001:db8::1]:5070;transport=tcp>":              "ada.b [2001:db8::1]",
		"<sip:1@a?Subject=x&Call-ID=y>":                             "1 a", // unwanted headers are passed over
		"<sip:1@a?Replaces=c%40h%3Bto-tag%3Dt%3Bfrom-tag%3Df>":      "1 a c@h t f",
		// What nobody should dial.
		"":                     "",
		"*":                    "",
		"<sip:@a>":             "",
		"<sip:a>":              "",
		"<http://a/>":          "",
		"<sip:1@a;method=BYE>": "",
		"<sip:1%0d%0aX:y@a>":   "",
		"<sip:1%40b@a>":        "",
		"<sip:1%3Fa@b>":        "",
		"<sip:1@a>, <sip:2@a>": "",
		"<sip:1@a?Replaces=x>": "",
		"<sip:1@a?Replaces=x%0d%0ay%3Bto-tag%3Dt%3Bfrom-tag%3Df>":                                 "",
		"<sip:1@a?Replaces=c%3Bto-tag%3Dt%3Bfrom-tag%3Df&replaces=d%3Bto-tag%3Dt%3Bfrom-tag%3Df>": "",
		"<sip:" + strings.Repeat("a", 65) + "@a>":                                                 "",
	} {
		got := ""
		if r, err := parseReferTo(value); err == nil {
			got = r.User + " " + r.Host
			if r.Replaces != nil {
				got += " " + r.Replaces.CallID + " " + r.Replaces.To + " " + r.Replaces.From
			}
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", value, got, want)
		}
	}
}

// FuzzReferTo: what was read can be dialled, and goes to a trunk without
// anything that means something inside a URI or a header.
func FuzzReferTo(f *testing.F) {
	f.Add("<sip:1002@example.com?Replaces=c%40h%3Bto-tag%3Dt%3Bfrom-tag%3Df>")
	f.Add(`"x" <sip:+49%2030@[::1]:5;method=INVITE?a=b&c>;y="z"`)
	f.Add("<tel:+1;phone-context=a>")
	f.Fuzz(func(t *testing.T, value string) {
		r, err := parseReferTo(value)
		if err != nil {
			return
		}
		if strings.ContainsAny(escapeUser(r.User)+r.Host, "\r\n <>@?;,\"") || r.User == "" {
			t.Errorf("%q was read as user %q, host %q", value, r.User, r.Host)
		}
		if r.Replaces != nil {
			if again, err := ParseReplaces(unescapeURI(r.Replaces.escaped())); err != nil || again.CallID != r.Replaces.CallID {
				t.Errorf("%q does not come back: %+v, %v", value, again, err)
			}
		}
		if out := r.Notify(200, false); strings.ContainsAny(out.Headers[0].Value, "\r\n") {
			t.Errorf("Event %q", out.Headers[0].Value)
		}
	})
}

// FuzzReplaces: what was read is three plain words.
func FuzzReplaces(f *testing.F) {
	f.Add("a@b;to-tag=1;from-tag=2;early-only")
	f.Add(" x ; from-tag = 2 ; to-tag = 1 ")
	f.Add(`"q";to-tag="1";from-tag=<2>`)
	f.Fuzz(func(t *testing.T, value string) {
		r, err := ParseReplaces(value)
		if err != nil {
			return
		}
		for _, word := range []string{r.CallID, r.To, r.From} {
			if word == "" || strings.ContainsAny(word, "\r\n \t;,<>\"%&=") && word != r.CallID && !isToken(word) {
				t.Errorf("%q was read as %+v", value, r)
			}
		}
		if strings.ContainsAny(r.escaped(), "\r\n <>?&;=\"@") {
			t.Errorf("%q is written as %q", value, r.escaped())
		}
	})
}

// FuzzSipfrag: the body of a NOTIFY gives a status or nothing.
func FuzzSipfrag(f *testing.F) {
	f.Add([]byte("SIP/2.0 200 OK\r\nTo: x\r\n"))
	f.Add([]byte("sip/2.0  100"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if code := fragStatus(body); code != 0 && (code < 100 || code > 699) {
			t.Errorf("%q: %d", body, code)
		}
	})
}
