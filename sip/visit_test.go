package sip

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/icholy/digest"

	"reveille/sip/location"
)

const visited = "/api/v1/extensions/1001/devices/urn:uuid:1"

// visit is an app's HTTP request: it takes the challenge for the algorithm and
// answers it as another implementation does. change may spoil what it sends.
func (b *registerBed) visit(ip, password, algorithm string, change func(*digest.Options, *Visit)) (string, *VisitRefused) {
	b.t.Helper()
	v := Visit{Method: "PUT", URI: visited, Host: "bridge.example:8060", Source: netip.AddrPortFrom(netip.MustParseAddr(ip), 4000)}
	_, no := b.srv.Login(v)
	if no == nil || no.Status != 401 {
		return "", no
	}
	for _, text := range no.Challenges {
		c, err := digest.ParseChallenge(text)
		if err != nil {
			b.t.Fatal(err)
		}
		if c.Algorithm != algorithm {
			continue
		}
		o := digest.Options{Method: v.Method, URI: v.URI, Username: "1001", Password: password, Count: 1}
		if change != nil {
			change(&o, &v)
		}
		creds, err := digest.Digest(c, o)
		if err != nil {
			b.t.Fatal(err)
		}
		v.Authorization = append(v.Authorization, creds.String())
	}
	return b.srv.Login(v)
}

func TestVisitorProvesItsExtensionByHTTPDigest(t *testing.T) {
	inBed(t, noTrunks, func(b *registerBed) {
		for _, algorithm := range []string{"SHA-256", "MD5"} {
			if who, no := b.visit("198.51.100.9", "secret", algorithm, nil); no != nil || who != "1001" {
				t.Errorf("%s: %q, %+v", algorithm, who, no)
			}
		}
		who, no := b.visit("198.51.100.9", "secret", "MD5", func(o *digest.Options, v *Visit) { o.URI = "http://" + v.Host + v.URI })
		if no != nil || who != "1001" {
			t.Errorf("an absolute uri: %+v", no)
		}
		for name, tt := range map[string]struct {
			status int
			change func(*digest.Options, *Visit)
		}{
			"another method":    {401, func(o *digest.Options, _ *Visit) { o.Method = "REGISTER" }},
			"another path":      {400, func(o *digest.Options, _ *Visit) { o.URI = "/api/v1/status" }},
			"another host":      {400, func(o *digest.Options, v *Visit) { o.URI = "http://evil.example" + v.URI }},
			"a SIP uri":         {400, func(o *digest.Options, _ *Visit) { o.URI = "sip:example.com" }},
			"unknown extension": {401, func(o *digest.Options, _ *Visit) { o.Username = "nobody" }},
			"another network":   {401, func(_ *digest.Options, v *Visit) { v.Source = netip.MustParseAddrPort("203.0.113.5:1") }},
		} {
			if who, no := b.visit("198.51.100.10", "secret", "SHA-256", tt.change); no == nil || no.Status != tt.status || who != "" {
				t.Errorf("%s: %q, %+v", name, who, no)
			}
		}
	})
}

func TestVisitorsRealmIsTheDomainItAskedFor(t *testing.T) {
	inBed(t, noTrunks, func(b *registerBed) {
		for host, realm := range map[string]string{"OTHER.example": "other.example", "other.example:8060": "other.example", "[::1]:8060": "example.com", "": "example.com", "a b": "example.com"} {
			_, no := b.srv.Login(Visit{Method: "PUT", URI: "/", Host: host, Source: netip.MustParseAddrPort("198.51.100.9:1")})
			if no == nil || !strings.Contains(no.Challenges[0], `realm="`+realm+`"`) {
				t.Errorf("%s: %+v", host, no)
			}
		}
	})
}

func TestVisitorsCredentialsWorkOnce(t *testing.T) {
	inBed(t, noTrunks, func(b *registerBed) {
		var kept Visit
		b.visit("198.51.100.9", "secret", "SHA-256", func(_ *digest.Options, v *Visit) { kept = *v })
		first, no := b.srv.Login(kept)
		if no == nil || first != "" {
			t.Fatal("no credentials, and let in")
		}
		c, _ := digest.ParseChallenge(no.Challenges[0])
		creds, _ := digest.Digest(c, digest.Options{Method: "PUT", URI: visited, Username: "1001", Password: "secret", Count: 1})
		kept.Authorization = []string{creds.String()}
		if who, no := b.srv.Login(kept); no != nil || who != "1001" {
			t.Fatalf("%+v", no)
		}
		if _, no = b.srv.Login(kept); no == nil || no.Status != 401 || no.Tried || !strings.Contains(no.Challenges[0], "stale=true") {
			t.Errorf("the same again: %+v", no)
		}
	})
}

// Who guesses over HTTP and who guesses by REGISTER has ten tries together.
func TestPasswordsTriedOverHTTPCountWithThoseOfREGISTER(t *testing.T) {
	inBed(t, func(c *Config) { c.Limits.BanAfter = 0 }, func(b *registerBed) {
		b.wrong("tcp", "198.51.100.9", 5, 401)
		for range 5 {
			if _, no := b.visit("198.51.100.9", "guess", "SHA-256", nil); no == nil || no.Status != 401 || !no.Tried {
				t.Fatalf("%+v", no)
			}
		}
		b.wrong("tcp", "198.51.100.9", 1, 403)
		start := time.Now()
		if _, no := b.visit("198.51.100.9", "secret", "SHA-256", nil); no == nil || no.Status != 429 || no.RetryAfter != 5*time.Minute {
			t.Errorf("the right one over HTTP: %+v", no)
		}
		if time.Since(start) < time.Second {
			t.Error("refused without a delay")
		}
		if who, no := b.visit("203.0.113.5", "secret", "SHA-256", nil); no != nil || who != "1001" {
			t.Errorf("from another network: %+v", no)
		}
	})
}

func TestWrongPasswordsOverHTTPBanTheirAddress(t *testing.T) {
	inBed(t, noTrunks, func(b *registerBed) {
		for range 5 {
			b.visit("198.51.100.9", "guess", "MD5", nil)
		}
		if !b.shut("tcp", "198.51.100.9") || b.srv.BannedSources() != 1 {
			t.Error("the address may still register")
		}
		if _, no := b.visit("198.51.100.9", "secret", "MD5", nil); no == nil || no.Status != 429 || no.RetryAfter != 10*time.Minute {
			t.Errorf("and over HTTP: %+v", no)
		}
		time.Sleep(11 * time.Minute)
		if who, no := b.visit("198.51.100.9", "secret", "MD5", nil); no != nil || who != "1001" {
			t.Errorf("after the ban: %+v", no)
		}
	})
}

func TestVisitsAreLimitedInRateUnlessTheyLogIn(t *testing.T) {
	inBed(t, func(c *Config) { c.Limits.RegisterRate, c.Limits.RegisterBurst = 1, 4 }, func(b *registerBed) {
		for range 20 {
			if _, no := b.visit("198.51.100.9", "secret", "MD5", nil); no != nil {
				t.Fatalf("%+v", no)
			}
		}
		v := Visit{Method: "PUT", URI: visited, Source: netip.MustParseAddrPort("198.51.100.10:1")}
		for i := range 5 {
			if _, no := b.srv.Login(v); (no.Status == 429) != (i == 4) {
				t.Errorf("request %d: %d", i, no.Status)
			}
		}
	})
}

func TestProvisionKeepsTheRulesOfREGISTER(t *testing.T) {
	inBed(t, noTrunks, func(b *registerBed) {
		p := Provision{AOR: "1001", Instance: "urn:uuid:1", DeviceID: location.DeviceIDOf("urn:uuid:1"),
			Target: location.Target{Provider: "APNS", Param: "TEAM.com.example.phone.voip", PRID: "secret-token"}}
		d, made, err := b.srv.Provision(b.t.Context(), p)
		if err != nil || !made || d.Target.Provider != "apns" {
			t.Fatalf("%v, made %v, %v", d, made, err)
		}
		for _, text := range []string{p.String(), p.GoString(), p.LogValue().String()} {
			if strings.Contains(text, "secret-token") {
				t.Error("the token shows")
			}
		}
		b.phoneAt("tcp", "198.51.100.9").want(200, `Contact: <sip:1001@10.0.0.9>;+sip.instance="<urn:uuid:1>"`)
		if got := b.loc.Devices("1001"); len(got) != 1 || got[0].Target.PRID != "secret-token" {
			t.Errorf("after its REGISTER: %v", got)
		}
		for range 10 {
			p.Instance += "x"
			p.DeviceID, p.Target.PRID = location.DeviceIDOf(p.Instance), p.Target.PRID+"x"
			_, _, err = b.srv.Provision(b.t.Context(), p)
		}
		if err != location.ErrTooManyDevices {
			t.Errorf("the eleventh device: %v", err)
		}
	})
}
