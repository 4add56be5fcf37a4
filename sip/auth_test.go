package sip

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
)

// The vectors of RFC 2617 §3.5 and RFC 7616 §3.9.1.
func TestDigestVectors(t *testing.T) {
	rfc7616 := digestInput{
		method: "GET", uri: "/dir/index.html", nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
		nc: "00000001", cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop: "auth",
	}
	for _, tt := range []struct {
		algorithm, realm, password string
		in                         digestInput
		want                       string
	}{
		{"MD5", "testrealm@host.com", "Circle Of Life", digestInput{
			method: "GET", uri: "/dir/index.html", nonce: "dcd98b7102dd2f0e8b11d0f600bfb0c093",
			nc: "00000001", cnonce: "0a4f113b", qop: "auth",
		}, "6629fae49393a05397450978507c4ef1"},
		{"MD5", "http-auth@example.org", "Circle of Life", rfc7616, "8ca523f5e9506fed4657c9700eebdbec"},
		{"SHA-256", "http-auth@example.org", "Circle of Life", rfc7616,
			"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"},
	} {
		tt.in.algorithm = tt.algorithm
		got, ok := tt.in.response(HA1(tt.algorithm, "Mufasa", tt.realm, tt.password))
		if !ok || got != tt.want {
			t.Errorf("%s: %s, want %s", tt.algorithm, got, tt.want)
		}
	}
}

// TestDigestAgainstAnother compares with an implementation that is not ours.
func TestDigestAgainstAnother(t *testing.T) {
	for _, algorithm := range []string{"", "MD5", "sha-256", "SHA-512-256"} {
		for _, qop := range []string{"", "auth"} {
			chal := &digest.Challenge{Realm: `a "realm"`, Nonce: "n", Algorithm: algorithm}
			if qop != "" {
				chal.QOP = []string{qop}
			}
			theirs, err := digest.Digest(chal, digest.Options{
				Method: "REGISTER", URI: "sip:h", Count: 258, Username: "u", Password: "p:w", Cnonce: "c",
			})
			if err != nil {
				t.Fatal(err)
			}
			ours, ok := digestInput{
				algorithm: algorithm, method: "REGISTER", uri: "sip:h", nonce: "n", nc: "00000102", cnonce: "c", qop: qop,
			}.response(HA1(algorithm, "u", chal.Realm, "p:w"))
			if !ok || ours != theirs.Response {
				t.Errorf("%s qop %q: %s, theirs %s", algorithm, qop, ours, theirs.Response)
			}
		}
	}
	if HA1("SHA-1", "u", "r", "p") != "" {
		t.Error("an algorithm that nobody offers")
	}
}

func TestParseAuth(t *testing.T) {
	for header, want := range map[string]string{
		`Digest realm="a", nonce="n"`:                        "Digest[nonce:n realm:a]",
		`digest REALM = "a,b" ,` + "\t" + `qop="auth"`:       "digest[qop:auth realm:a,b]",
		`Digest realm="a\"\\b", nonce=abc==`:                 `Digest[nonce:abc== realm:a"\b]`,
		`Digest realm="a", Digest realm="b", qop="auth"`:     "Digest[realm:a] Digest[qop:auth realm:b]",
		`Negotiate, Basic realm="x", Digest realm="b",`:      "Negotiate[] Basic[realm:x] Digest[realm:b]",
		`Digest realm="Digest nonce=1", nonce="n,n=\",x=\""`: `Digest[nonce:n,n=",x=" realm:Digest nonce=1]`,
		`Digest realm="a", realm="b"`:                        "error",
		`Digest realm="a`:                                    "error",
		`realm="a"`:                                          "error",
		`Digest a b c=1`:                                     "error",
		`Digest =1`:                                          "error",
		``:                                                   "",
	} {
		values, err := parseAuth(header)
		got := ""
		for i, v := range values {
			if i > 0 {
				got += " "
			}
			got += v.scheme + strings.TrimPrefix(fmt.Sprint(v.params), "map")
		}
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", header, got, want)
		}
	}
}

func TestReplayWindow(t *testing.T) {
	var w replayWindow
	for _, step := range []struct {
		nc uint32
		ok bool
	}{
		{0, false}, {1, true}, {1, false}, {3, true}, {2, true}, {2, false}, {3, false},
		{67, true}, {4, true}, {3, false}, {4, false},
		{1000, true}, {67, false}, {937, true}, {937, false}, {936, false},
		{0xffffffff, true}, {0xffffffff, false}, {0xfffffffe, true},
	} {
		if got := w.accept(step.nc); got != step.ok {
			t.Errorf("nc %d: %v", step.nc, got)
		}
	}
}

func TestNonces(t *testing.T) {
	v4, near, far := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("::ffff:192.0.2.200"), netip.MustParseAddr("192.0.3.7")
	synctest.Test(t, func(t *testing.T) {
		n := newNonces(5 * time.Minute)
		first, second := n.mint(v4), n.mint(v4)
		if first == second {
			t.Fatal("two devices behind one NAT share a nonce")
		}
		for _, step := range []struct {
			nonce  string
			nc     uint32
			source netip.Addr
			ok     bool
		}{
			{first, 1, v4, true}, {first, 1, v4, false}, {first, 2, near, true}, {first, 3, far, false},
			{second, 1, v4, true}, {second + "A", 2, v4, false}, {strings.ToLower(second), 2, v4, false}, {"", 1, v4, false},
		} {
			if got := n.spend(step.nonce, step.nc, step.source); got != step.ok {
				t.Errorf("nonce %.8s nc %d from %s: %v", step.nonce, step.nc, step.source, got)
			}
		}
		time.Sleep(5*time.Minute - time.Nanosecond)
		if !n.spend(first, 3, v4) {
			t.Error("stale before its time")
		}
		if n.spend(first, 2, v4) {
			t.Error("a rotation forgot what was used")
		}
		time.Sleep(time.Nanosecond)
		if n.spend(first, 4, v4) {
			t.Error("fresh after its time")
		}
	})
}

func TestNonceMemoryIsBounded(t *testing.T) {
	source := netip.MustParseAddr("192.0.2.7")
	n := newNonces(time.Hour)
	old := n.mint(source)
	for range maxNonces + 10 {
		nonce := n.mint(source)
		if !n.spend(nonce, 1, source) && n.spend(nonce, 2, source) {
			t.Fatal("fresh nonce refused")
		}
	}
	if got := len(n.young) + len(n.old); got > maxNonces {
		t.Errorf("%d nonces remembered", got)
	}
	if n.spend(old, 1, source) {
		t.Error("a nonce whose counts were forgotten is still good")
	}
}

// accountsOf is Accounts over clear passwords.
type accountsOf map[string]string

func (a accountsOf) HA1(user, realm, algorithm string) (string, bool) {
	password, ok := a[user]
	return HA1(algorithm, user, realm, password), ok
}

func parsed(t testing.TB, text string) sipgo.Message {
	t.Helper()
	m, _, err := parseDatagram([]byte(text), 16384)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return m
}

func aRegister(t testing.TB, headers ...string) *sipgo.Request {
	t.Helper()
	return parsed(t, message("REGISTER sip:example.com SIP/2.0", "", headers...)).(*sipgo.Request)
}

// authBed is a digest server and what its challenge to a REGISTER says.
type authBed struct {
	*digestServer
	source  netip.Addr
	rejects []string
	chal    map[string]string
}

func newAuthBed(t *testing.T, change func(*Config)) *authBed {
	cfg := DefaultConfig()
	cfg.Domains = []string{"example.com", "other.example"}
	if change != nil {
		change(&cfg)
	}
	b := &authBed{source: netip.MustParseAddr("192.0.2.7")}
	b.digestServer = newDigestServer(cfg, accountsOf{"1001": "secret"}, func(reason string) { b.rejects = append(b.rejects, reason) })
	b.chal = b.challenges(t, aRegister(t, "To: <sip:1001@example.com>"), false)[0].params
	return b
}

func (b *authBed) challenges(t *testing.T, req *sipgo.Request, stale bool) []authValue {
	res := sipgo.NewResponse(401, "")
	b.challenge(res, req, b.source, stale)
	var out []authValue
	for _, h := range res.GetHeaders("WWW-Authenticate") {
		v, err := parseAuth(h.Value())
		if err != nil || len(v) != 1 {
			t.Fatalf("challenge %s: %v", h.Value(), err)
		}
		out = append(out, v[0])
	}
	return out
}

// credentials answers the challenge; edit may spoil the parameters before or
// after the response is computed.
func (b *authBed) credentials(password string, before, after func(map[string]string)) string {
	p := map[string]string{
		"username": "1001", "realm": b.chal["realm"], "nonce": b.chal["nonce"], "uri": "sip:example.com",
		"algorithm": "SHA-256", "qop": "auth", "nc": "00000001", "cnonce": "c",
	}
	if before != nil {
		before(p)
	}
	p["response"], _ = digestInput{
		algorithm: p["algorithm"], method: "REGISTER", uri: p["uri"], nonce: p["nonce"],
		nc: p["nc"], cnonce: p["cnonce"], qop: p["qop"],
	}.response(HA1(p["algorithm"], p["username"], p["realm"], password))
	if after != nil {
		after(p)
	}
	var parts []string
	for k, v := range p {
		parts = append(parts, k+"="+Quote(v))
	}
	return "Authorization: Digest " + strings.Join(parts, ", ")
}

func TestChallenge(t *testing.T) {
	b := newAuthBed(t, nil)
	got := b.challenges(t, aRegister(t, "To: <sip:1001@OTHER.example>"), true)
	if len(got) != 2 || got[0].params["algorithm"] != "SHA-256" || got[1].params["algorithm"] != "MD5" {
		t.Fatalf("challenges %v: want SHA-256 before MD5", got)
	}
	for _, v := range got {
		if v.params["realm"] != "other.example" || v.params["qop"] != "auth" || v.params["stale"] != "true" {
			t.Errorf("challenge %v", v.params)
		}
	}
	for to, realm := range map[string]string{"sip:1@example.com": "example.com", "sip:1@192.0.2.1": "example.com"} {
		if got := b.realm(aRegister(t, "To: <"+to+">")); got != realm {
			t.Errorf("realm for %s: %s", to, got)
		}
	}
	b.domains = nil
	if got := b.realm(aRegister(t)); got != "reveille" {
		t.Errorf("realm without domains: %s", got)
	}
}

func TestAuthenticate(t *testing.T) {
	set := func(k, v string) func(map[string]string) {
		return func(p map[string]string) {
			if v == "" {
				delete(p, k)
			} else {
				p[k] = v
			}
		}
	}
	for name, tt := range map[string]struct {
		password      string
		before, after func(map[string]string)
		reason        string // "" is success
	}{
		"right":                     {},
		"right with MD5":            {before: set("algorithm", "MD5")},
		"right, algorithm absent":   {before: set("algorithm", "")},
		"right, upper-case hex":     {before: set("nc", "0000000A"), after: func(p map[string]string) { p["response"] = strings.ToUpper(p["response"]) }},
		"right, uri with a port":    {before: set("uri", "sip:example.com:5060")},
		"right, uri another domain": {before: set("uri", "sip:other.example;transport=tcp")},
		"wrong password":            {password: "guess", reason: "auth_failed"},
		"unknown extension":         {before: set("username", "9999"), reason: "auth_failed"},
		"response cut":              {after: func(p map[string]string) { p["response"] = p["response"][:8] }, reason: "auth_failed"},
		"response absent":           {after: set("response", ""), reason: "auth_failed"},
		"uri changed after":         {after: set("uri", "sip:example.com:5061"), reason: "auth_failed"},
		"another resource":          {before: set("uri", "sip:elsewhere.example"), reason: "auth_uri"},
		"uri absent":                {before: set("uri", ""), reason: "auth_uri"},
		"algorithm not offered":     {before: set("algorithm", "SHA-512-256"), reason: "auth_algorithm"},
		"session algorithm":         {before: set("algorithm", "MD5-sess"), reason: "auth_algorithm"},
		"qop absent":                {before: set("qop", ""), reason: "auth_incomplete"},
		"qop auth-int":              {before: set("qop", "auth-int"), reason: "auth_incomplete"},
		"nc absent":                 {before: set("nc", ""), reason: "auth_incomplete"},
		"nc no number":              {before: set("nc", "0000000g"), reason: "auth_incomplete"},
		"nc too short":              {before: set("nc", "1"), reason: "auth_incomplete"},
		"nc zero":                   {before: set("nc", "00000000"), reason: "auth_stale"},
		"cnonce absent":             {before: set("cnonce", ""), reason: "auth_incomplete"},
		"nonce of another server":   {before: set("nonce", "Zm9yZWlnbg"), reason: "auth_stale"},
		"another nonce, wrong too":  {password: "guess", before: set("nonce", "Zm9yZWlnbg"), reason: "auth_stale"},
		"another realm":             {before: set("realm", "elsewhere"), reason: "auth_missing"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newAuthBed(t, nil)
			if tt.password == "" {
				tt.password = "secret"
			}
			req := aRegister(t, "To: <sip:1001@example.com>", b.credentials(tt.password, tt.before, tt.after))
			user, no := b.authenticate(req, b.source)
			switch {
			case tt.reason == "" && (no != nil || user != "1001"):
				t.Errorf("refused: %+v", no)
			case tt.reason != "" && (no == nil || no.reason != tt.reason || user != ""):
				t.Errorf("user %q, refused %+v, want %s", user, no, tt.reason)
			case tt.reason != "" && no.stale != (tt.reason == "auth_stale"):
				t.Errorf("stale is %v", no.stale)
			case tt.reason != "" && (no.status == 400) != (tt.reason == "auth_uri"):
				t.Errorf("status %d", no.status)
			}
		})
	}
}

func TestAuthenticateReplay(t *testing.T) {
	b := newAuthBed(t, nil)
	creds := b.credentials("secret", nil, nil)
	if _, no := b.authenticate(aRegister(t, "To: <sip:1001@example.com>", creds), b.source); no != nil {
		t.Fatal(no.reason)
	}
	if _, no := b.authenticate(aRegister(t, "To: <sip:1001@example.com>", creds), b.source); no == nil || !no.stale {
		t.Errorf("replayed: %+v", no)
	}
	next := b.credentials("secret", func(p map[string]string) { p["nc"] = "00000002" }, nil)
	if _, no := b.authenticate(aRegister(t, "To: <sip:1001@example.com>", next), b.source); no != nil {
		t.Errorf("nonce used again with a higher count: %s", no.reason)
	}
	third := b.credentials("secret", func(p map[string]string) { p["nc"] = "00000003" }, nil)
	if _, no := b.authenticate(aRegister(t, "To: <sip:1001@example.com>", third), netip.MustParseAddr("198.51.100.1")); no == nil || !no.stale {
		t.Errorf("from another network: %+v", no)
	}
	if len(b.rejects) != 2 {
		t.Errorf("counted %v", b.rejects)
	}
}

func TestAuthenticatePicksOurs(t *testing.T) {
	b := newAuthBed(t, func(c *Config) { c.Auth.Algorithms = []string{"SHA-256"} })
	req := aRegister(t, "To: <sip:1001@example.com>",
		`Authorization: Digest realm="broken`, `Authorization: Basic Zm9v`,
		`Authorization: Digest username="x", realm="proxy.example", nonce="n", uri="sip:h", response="0"`,
		b.credentials("secret", nil, nil))
	if user, no := b.authenticate(req, b.source); user != "1001" {
		t.Errorf("refused: %+v", no)
	}
	md5 := b.credentials("secret", func(p map[string]string) { p["algorithm"] = "MD5" }, nil)
	if _, no := b.authenticate(aRegister(t, "To: <sip:1001@example.com>", md5), b.source); no == nil || no.reason != "auth_algorithm" {
		t.Errorf("MD5 while it is off: %+v", no)
	}
}

func FuzzAuthorization(f *testing.F) {
	f.Add(`Digest username="1001", realm="reveille", nonce="n", uri="sip:h", response="0", nc=00000001, qop=auth, cnonce="c"`)
	f.Add(`Digest realm="a", Digest realm="b\"",,Basic x==`)
	cfg := DefaultConfig()
	server := newDigestServer(cfg, accountsOf{"1001": "secret"}, func(string) {})
	f.Fuzz(func(t *testing.T, header string) {
		req := sipgo.NewRequest(sipgo.REGISTER, sipgo.Uri{Scheme: "sip", Host: "h"})
		req.AppendHeader(&sipgo.ToHeader{Address: sipgo.Uri{Scheme: "sip", User: "1001", Host: "h"}})
		req.AppendHeader(sipgo.NewHeader("Authorization", header))
		if user, no := server.authenticate(req, netip.MustParseAddr("192.0.2.7")); no == nil {
			t.Errorf("%q authenticates %q", header, user)
		}
	})
}
