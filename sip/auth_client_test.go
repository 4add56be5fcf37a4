package sip

import (
	"net/netip"
	"strings"
	"testing"

	sipgo "github.com/emiago/sipgo/sip"
)

func challengeOf(status int, headers ...string) *sipgo.Response {
	res := sipgo.NewResponse(status, "")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		res.AppendHeader(sipgo.NewHeader(name, value))
	}
	return res
}

func authorized(t *testing.T, c *digestClient, header string) map[string]string {
	t.Helper()
	req := sipgo.NewRequest(sipgo.REGISTER, sipgo.Uri{Scheme: "sip", Host: "carrier.example"})
	if err := c.authorize(req); err != nil {
		t.Fatal(err)
	}
	h := headerValue(req, header)
	if h == "" {
		return nil
	}
	v, err := parseAuth(h)
	if err != nil || len(v) != 1 {
		t.Fatalf("%s: %v", h, err)
	}
	return v[0].params
}

func TestClientPicksFirstSupported(t *testing.T) {
	for name, tt := range map[string]struct {
		headers   []string
		algorithm string // "error": none
	}{
		"single, no algorithm": {[]string{`WWW-Authenticate: Digest realm="r", nonce="n"`}, ""},
		"order decides": {[]string{`WWW-Authenticate: Digest realm="r", nonce="n", algorithm=MD5, qop="auth"`,
			`WWW-Authenticate: Digest realm="r", nonce="n", algorithm=SHA-256, qop="auth"`}, "MD5"},
		"joined by commas": {[]string{`WWW-Authenticate: Digest realm="r", nonce="n", algorithm=SHA-512, qop="auth", Digest realm="r", nonce="m", algorithm=SHA-256, qop="auth-int,auth"`}, "SHA-256"},
		"unknown first": {[]string{`WWW-Authenticate: Bearer authz_server="x"`, `WWW-Authenticate: Digest realm="r", algorithm=SHA-256`,
			`WWW-Authenticate: Digest realm="r", nonce="n", algorithm=AKAv1-MD5`, `WWW-Authenticate: Digest realm="r", nonce="n", algorithm=MD5-sess, qop="auth"`}, "MD5-sess"},
		"broken one skipped": {[]string{`WWW-Authenticate: Digest realm="`, `WWW-Authenticate: Digest realm="r", nonce="n", algorithm="MD5"`}, "MD5"},
		"strange qop":        {[]string{`WWW-Authenticate: Digest realm="r", nonce="n", qop="token"`}, "error"},
		"none":               {[]string{`WWW-Authenticate: AKA x="y"`}, "error"},
		"no header":          {nil, "error"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newDigestClient("u", "p")
			_, err := c.challenged(challengeOf(401, tt.headers...))
			if tt.algorithm == "error" {
				if err == nil {
					t.Error("answered")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := authorized(t, c, "Authorization")["algorithm"]; got != tt.algorithm {
				t.Errorf("algorithm %q, want %q", got, tt.algorithm)
			}
		})
	}
}

func TestClientResponses(t *testing.T) {
	for _, algorithm := range []string{"", "MD5", "md5-sess", "SHA-256", "SHA-256-sess", "SHA-512-256"} {
		for _, qop := range []string{"", "auth", "auth-int", "auth,auth-int", " auth-int , auth "} {
			c := newDigestClient(`o"brien`, "p")
			header := `WWW-Authenticate: Digest realm="a \"b\", c", nonce="n\\n", opaque="o"`
			if qop != "" {
				header += `, qop="` + qop + `"`
			}
			if algorithm != "" {
				header += ", algorithm=" + algorithm
			}
			if stale, err := c.challenged(challengeOf(401, header)); stale || err != nil {
				t.Fatal(stale, err)
			}
			for n, nc := range []string{"00000001", "00000002"} { // no new 401 for each refresh
				p := authorized(t, c, "Authorization")
				if qop != "" && p["nc"] != nc {
					t.Errorf("request %d has nc %s", n, p["nc"])
				}
				if p["username"] != `o"brien` || p["realm"] != `a "b", c` || p["nonce"] != `n\n` || p["opaque"] != "o" {
					t.Fatalf("credentials %v", p)
				}
				want, _ := digestInput{
					algorithm: algorithm, method: "REGISTER", uri: "sip:carrier.example", nonce: `n\n`,
					nc: p["nc"], cnonce: p["cnonce"], qop: p["qop"],
				}.response(HA1(algorithm, `o"brien`, `a "b", c`, "p"))
				if p["response"] != want {
					t.Errorf("%s %s: wrong response", algorithm, qop)
				}
			}
		}
	}
}

func TestClientStaleAndProxy(t *testing.T) {
	c := newDigestClient("u", "p")
	if authorized(t, c, "Authorization") != nil {
		t.Error("credentials before any challenge")
	}
	if stale, err := c.challenged(challengeOf(401, `WWW-Authenticate: Digest realm="r", nonce="1", qop="auth"`)); stale || err != nil {
		t.Error(stale, err)
	}
	authorized(t, c, "Authorization")
	if stale, err := c.challenged(challengeOf(401, `WWW-Authenticate: Digest realm="r", nonce="2", qop="auth", stale=TRUE`)); !stale || err != nil {
		t.Error(stale, err)
	}
	if p := authorized(t, c, "Authorization"); p["nonce"] != "2" || p["nc"] != "00000001" {
		t.Errorf("after stale: %v", p)
	}
	if _, err := c.challenged(challengeOf(407, `Proxy-Authenticate: Digest realm="proxy", nonce="3"`)); err != nil {
		t.Error(err)
	}
	if p := authorized(t, c, "Proxy-Authorization"); p["realm"] != "proxy" {
		t.Errorf("for the proxy: %v", p)
	}
	if p := authorized(t, c, "Authorization"); p["nonce"] != "2" {
		t.Errorf("for the registrar: %v", p)
	}
}

// TestClientMeetsServer has both sides talk: nonce reuse, another network, and
// the wrong password.
func TestClientMeetsServer(t *testing.T) {
	b := newAuthBed(t, nil)
	c := newDigestClient("1001", "secret")
	source := b.source
	try := func() *denied {
		req := aRegister(t, "To: <sip:1001@example.com>")
		if err := c.authorize(req); err != nil {
			t.Fatal(err)
		}
		_, no := b.authenticate(req, source)
		if no != nil {
			res := sipgo.NewResponse(401, "")
			b.challenge(res, req, source, no.stale)
			if stale, err := c.challenged(res); err != nil || stale != no.stale {
				t.Errorf("client: %v %v", stale, err)
			}
		}
		return no
	}
	if no := try(); no == nil || no.stale {
		t.Fatalf("without credentials: %+v", no)
	}
	for range 3 {
		if no := try(); no != nil {
			t.Fatalf("with credentials: %s", no.reason)
		}
	}
	source = netip.MustParseAddr("2001:db8::1")
	if no := try(); no == nil || !no.stale {
		t.Fatalf("from LTE: %+v", no)
	}
	if no := try(); no != nil {
		t.Fatalf("from LTE, again: %s", no.reason)
	}
	c.password = "wrong"
	if no := try(); no == nil || no.reason != "auth_failed" {
		t.Errorf("wrong password: %+v", no)
	}
}
