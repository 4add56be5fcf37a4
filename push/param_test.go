package push

import (
	"strings"
	"testing"
)

func TestParseAPNsParam(t *testing.T) {
	const bundle = "com.example.phone"
	for param, want := range map[string]APNsParam{
		"ABCDE12345.com.example.phone.voip":        {"ABCDE12345", bundle},
		"ABCDE12345.com.example.phone.remote&voip": {"ABCDE12345", bundle},
		"ABCDE12345.com.example.phone.voip&remote": {"ABCDE12345", bundle},
		"ABCDE12345.com.example.phone":             {"ABCDE12345", bundle},
		"com.example.phone.voip":                   {"", bundle},
		"com.example.phone":                        {"", bundle},
		"com.example.remote":                       {"", "com.example.remote"},
		"com.example.phone.remote&message":         {"", bundle},
		"phone":                                    {"", "phone"},
		"abcde12345.com.example":                   {"", "abcde12345.com.example"},
	} {
		if got, err := ParseAPNsParam(param); err != nil || got != want {
			t.Errorf("%q: %+v, %v", param, got, err)
		}
	}
	for _, param := range []string{"", ".", ".voip", "voip.", "a..b", "com.example.fax&message", "ABCDE12345.", "ABCDE12345.voip.",
		"com.exa mple", "com.example\r\nX: y", "com.example/voip", "cöm", strings.Repeat("a", 256)} {
		if got, err := ParseAPNsParam(param); err == nil {
			t.Errorf("%q: no error, %+v", param, got)
		}
	}
}

func TestParseAPNsPRID(t *testing.T) {
	other := strings.Repeat("f", 64)
	for prid, want := range map[string]APNsTokens{
		testToken:                                {VoIP: testToken},
		strings.ToUpper(testToken):               {VoIP: testToken},
		other + ":remote&" + testToken + ":voip": {testToken, other},
		testToken + ":voip&" + other + ":remote": {testToken, other},
		testToken + ":voip":                      {VoIP: testToken},
		strings.ToUpper(other) + ":remote":       {Remote: other},
		"zz:remote&" + testToken + ":voip":       {VoIP: testToken},
		other + ":remote&zz:message":             {Remote: other},
		strings.Repeat("0", 32):                  {VoIP: strings.Repeat("0", 32)},
		strings.Repeat("ab", 100):                {VoIP: strings.Repeat("ab", 100)},
	} {
		if got, err := ParseAPNsPRID(prid); err != nil || got != want {
			t.Errorf("%q: %q, %v", prid, got, err)
		}
	}
	for _, prid := range []string{"", testToken[1:], testToken + "zz", testToken + "/../x", testToken + "%2e", "zz:voip&" + other + ":remote",
		":voip", "x:voip", "x:remote", testToken + ":message", strings.Repeat("a", 514), strings.Repeat("a", 5000), other + "&" + testToken} {
		_, err := ParseAPNsPRID(prid)
		if err == nil {
			t.Errorf("%q: no error", prid)
		} else if len(prid) > 10 && strings.Contains(err.Error(), prid[:10]) {
			t.Errorf("the error tells the token: %v", err)
		}
	}
}

func TestSupports(t *testing.T) {
	w := newSocketWorld(t)
	for _, tt := range []struct {
		provider, param string
		want            bool
	}{
		{"apns", testParam, true},
		{"APNS", "TESTTEAM01." + testBundle + ".remote&voip", true},
		{"apns.dev", testBundle, true},
		{"apns", testBundle + ".voip", true},
		{"apns", "", true}, // the only one configured
		{"apns", "OTHERTEAM1." + testBundle + ".voip", false},
		{"apns", "com.example.other.voip", false},
		{"apns", testBundle + ".fax&message", false},
		{"apns", "TESTTEAM01." + testBundle + ".remote", true},
		{"apns", testBundle + ".remote", true},
		{"fcm", testBundle, false},
		{"", "", false},
	} {
		if got := w.sender.Supports(tt.provider, tt.param); got != tt.want {
			t.Errorf("Supports(%q, %q) = %v", tt.provider, tt.param, got)
		}
	}
	if p := w.sender.Providers(); len(p) != 1 || p[0] != "apns" {
		t.Errorf("Providers() = %q", p)
	}
}

func FuzzParam(f *testing.F) {
	f.Add(testParam, testToken)
	f.Add("ABCDE12345.com.example.phone.remote&voip", testToken+":remote&"+testToken+":voip")
	f.Add("&", ":&:")
	f.Fuzz(func(t *testing.T, param, prid string) {
		if p, err := ParseAPNsParam(param); err == nil {
			again, err := ParseAPNsParam(p.Bundle + voipSuffix)
			if err != nil || (again.Bundle != p.Bundle && again.Team == "") || strings.ContainsAny(p.Bundle+voipSuffix, " \r\n\x00/&:") {
				t.Fatalf("%q: %+v, again %+v, %v", param, p, again, err)
			}
		}
		if tokens, err := ParseAPNsPRID(prid); err == nil {
			again, err := ParseAPNsPRID(tokens.VoIP + ":voip&" + tokens.Remote + ":remote")
			if tokens.VoIP == "" {
				again, err = ParseAPNsPRID(tokens.Remote + ":remote")
			}
			if err != nil || again != tokens || strings.Trim(tokens.VoIP+tokens.Remote, "0123456789abcdef") != "" {
				t.Fatalf("%q: %q, again %q, %v", prid, tokens, again, err)
			}
		}
	})
}
