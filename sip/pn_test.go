package sip

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	sipgo "github.com/emiago/sipgo/sip"

	"reveille/sip/location"
)

func caps(res *sipgo.Response) []string {
	var out []string
	for _, h := range res.GetHeaders("Feature-Caps") {
		out = append(out, h.Value())
	}
	return out
}

// RFC 8599 §5.3, and the forms that apps in the field send.
func TestPushRegistration(t *testing.T) {
	for name, tt := range map[string]struct {
		contact string
		caps    []string
		target  location.Target
	}{
		"apns": {"<sip:1001@h;pn-provider=apns;pn-param=T.com.example.phone.voip;pn-prid=aabb>",
			[]string{`*;+sip.pns="apns"`}, location.Target{Provider: "apns", Param: "T.com.example.phone.voip", PRID: "aabb"}},
		"sandbox": {"<sip:1001@h;pn-provider=apns.dev;pn-param=T.com.example.phone.voip;pn-prid=aabb>",
			[]string{`*;+sip.pns="apns.dev"`}, location.Target{Provider: "apns.dev", Param: "T.com.example.phone.voip", PRID: "aabb"}},
		"two tokens": {"<sip:1001@h;pn-provider=apns;pn-param=T.com.example.phone.remote&voip;pn-prid=aa:remote&bb:voip>",
			[]string{`*;+sip.pns="apns"`}, location.Target{Provider: "apns", Param: "T.com.example.phone.remote&voip", PRID: "aa:remote&bb:voip"}},
		"escaped": {"<sip:1001@h;pn-provider=fcm;pn-param=example-phone;pn-prid=a%3Ab%25c%zz>",
			[]string{`*;+sip.pns="fcm"`}, location.Target{Provider: "fcm", Param: "example-phone", PRID: "a:b%c%zz"}},
		"other case": {"<sip:1001@h;PN-Provider=APNS;Pn-Param=T.com.example.phone.voip;pn-PRID=AaBb>",
			[]string{`*;+sip.pns="apns"`}, location.Target{Provider: "apns", Param: "T.com.example.phone.voip", PRID: "AaBb"}},
		"can wake itself": {"<sip:1001@h;pn-provider=fcm;pn-param=example-phone;pn-prid=a>;+sip.pnsreg",
			[]string{`*;+sip.pns="fcm";+sip.pnsreg="130"`}, location.Target{Provider: "fcm", Param: "example-phone", PRID: "a"}},
		"query":            {"<sip:1001@h;pn-provider>", []string{`*;+sip.pns="apns"`, `*;+sip.pns="fcm"`}, location.Target{}},
		"query, empty":     {"<sip:1001@h;pn-provider=>", []string{`*;+sip.pns="apns"`, `*;+sip.pns="fcm"`}, location.Target{}},
		"no token":         {"<sip:1001@h;pn-provider=apns;pn-param=x>", nil, location.Target{}},
		"token alone":      {"<sip:1001@h;pn-prid=aabb>", nil, location.Target{}},
		"outside the URI":  {"<sip:1001@h>;pn-provider=apns;pn-prid=x", nil, location.Target{}},
		"nothing of pushs": {"<sip:1001@h>", nil, location.Target{}},
	} {
		t.Run(name, func(t *testing.T) {
			inBed(t, nil, func(b *registerBed) {
				u := b.phoneAt("tcp", "192.0.2.50")
				res := u.want(200, "Contact: "+tt.contact)
				if got := caps(res); !slices.Equal(got, tt.caps) {
					t.Errorf("Feature-Caps %q, want %q", got, tt.caps)
				}
				devices := b.loc.Devices("1001")
				if len(devices) != 1 || devices[0].Target != tt.target {
					t.Errorf("devices %v, want target %v", devices, tt.target)
				}
				uri, _, _ := strings.Cut(strings.TrimPrefix(tt.contact, "<"), ">")
				uri = strings.TrimSuffix(uri, "=")
				if got := contactsIn(res); len(got) != 1 || !strings.HasPrefix(got[0], "<"+uri) {
					t.Errorf("lists %q: a phone must find its own URI", got)
				}
			})
		})
	}
}

func TestPushTargetOutlivesItsContact(t *testing.T) {
	const push = "Contact: <sip:1001@h;pn-provider=apns;pn-param=T.com.example.phone.voip;pn-prid=%s>;+sip.instance=\"<urn:uuid:x>\""
	inBed(t, nil, func(b *registerBed) {
		u := b.phoneAt("tcp", "192.0.2.50")
		target := func() string {
			for _, d := range b.loc.Devices("1001") {
				return d.Target.PRID
			}
			return "no device"
		}
		u.want(200, fmt.Sprintf(push, "one"), "Expires: 60")
		time.Sleep(100 * time.Second) // the phone sleeps, its Contact expires
		b.wantBindings("1001")
		if target() != "one" {
			t.Errorf("after expiry: %s", target())
		}
		u.conn.Close()
		time.Sleep(time.Second)
		u.dial("192.0.2.50")
		u.want(200, fmt.Sprintf(push, "two")) // a new token for the same installation
		if target() != "two" {
			t.Errorf("renewed: %s", target())
		}
		u.want(200, `Contact: <sip:1001@h>;+sip.instance="<urn:uuid:x>"`)
		if target() != "two" {
			t.Errorf("after a REGISTER without pn-*: %s", target())
		}
		u.want(200, `Contact: <sip:1001@h;pn-provider=apns>;+sip.instance="<urn:uuid:x>"`)
		if target() != "" {
			t.Errorf("after a REGISTER that names no token: %s", target())
		}
		u.want(200, fmt.Sprintf(push, "three"))
		u.want(200, fmt.Sprintf(push, "three"), "Expires: 0")
		if target() != "no device" {
			t.Errorf("after logout: %s", target())
		}
	})
}

func TestPushTokenStaysBetweenDeviceAndUs(t *testing.T) {
	inBed(t, nil, func(b *registerBed) {
		one, two := b.phoneAt("tcp", "192.0.2.50"), b.phoneAt("tcp", "192.0.2.51")
		one.want(200, `Contact: <sip:1001@h1;pn-provider=apns;pn-param=T.com.example.phone.voip;pn-prid=s3cret1;ob>;+sip.instance="<urn:uuid:1>"`)
		got := contactsIn(two.want(200, `Contact: <sip:1001@h2;pn-provider=apns;pn-param=T.com.example.phone.voip;pn-prid=s3cret2>;+sip.instance="<urn:uuid:2>"`))
		if len(got) != 2 {
			t.Fatalf("lists %q", got)
		}
		all := strings.Join(got, "\n")
		if strings.Contains(all, "s3cret1") || !strings.Contains(all, "s3cret2") || !strings.Contains(all, "voip;ob>") {
			t.Errorf("the second device is told\n%s", all)
		}
	})
}

func TestPushTokenMovesWithTheAccount(t *testing.T) {
	const push = `Contact: <sip:u@h;pn-provider=apns;pn-param=T.com.example.phone.voip;pn-prid=tok>;+sip.instance="<urn:uuid:x>"`
	inBed(t, nil, func(b *registerBed) {
		b.phoneAt("tcp", "192.0.2.50").want(200, push)
		thief := b.phoneAt("tcp", "192.0.2.66")
		thief.aor = "1002" // without 1002's password
		thief.want(403, push)
		if len(b.loc.Devices("1001")) != 1 {
			t.Error("a refused REGISTER took the token")
		}
		thief.creds = newDigestClient("1002", "secret2")
		thief.want(200, push)
		if d := b.loc.Devices("1002"); len(d) != 1 || d[0].Target.PRID != "tok" {
			t.Errorf("new account has %v", d)
		}
		for _, d := range b.loc.Devices("1001") {
			if !d.Target.IsZero() {
				t.Error("old account keeps the token")
			}
		}
	})
}

func TestDevicesSurviveRestart(t *testing.T) {
	inBed(t, nil, func(b *registerBed) {
		b.phoneAt("tcp", "192.0.2.50").want(200, "Contact: <sip:1001@h;pn-provider=apns;pn-param=T.com.example.phone.voip;pn-prid=tok>")
		before := b.loc.Devices("1001")
		b.end()
		cfg := DefaultConfig()
		cfg.Listen, cfg.Domains = []string{"tcp://192.0.2.1:5060"}, []string{"example.com"}
		b.start(cfg)
		if got := b.loc.Devices("1001"); len(got) != 1 || got[0].ID != before[0].ID || got[0].Target != before[0].Target {
			t.Errorf("devices %v, had %v", got, before)
		}
		b.wantBindings("1001")
	})
}

// fuzzRegistrar is a registrar with the flow that its messages come on.
func fuzzRegistrar(f testing.TB) (*registrar, *flow) {
	loc, err := location.New(location.NewMemory(), location.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { loc.Close() })
	cfg := DefaultConfig()
	r, err := newRegistrar(cfg, registrarOptions{Location: loc, Accounts: accountsOf{"1001": "secret"}, Push: pushOf{"apns": "phone"}})
	if err != nil {
		f.Fatal(err)
	}
	return r, &flow{proto: "TCP", ident: "tcp/1", peer: netip.MustParseAddrPort("192.0.2.50:4000")}
}

// FuzzRegisterContacts feeds Contact lines through parser, registrar and
// location, and reads back what the 200 would list.
func FuzzRegisterContacts(f *testing.F) {
	for _, seed := range []string{
		`<sip:1001@10.0.0.9:4000;transport=tcp>;expires=60;q=0.5`, `*`, `sip:a@h, "B \" <x>" <sips:b@[::1]>;reg-id=1`,
		`<sip:1001@h;pn-provider=apns;pn-param=T.phone.voip;pn-prid=tok;ob>;+sip.instance="<urn:uuid:1>";reg-id=1;+sip.pnsreg`,
	} {
		f.Add(seed, "60")
	}
	r, flow := fuzzRegistrar(f)
	f.Fuzz(func(t *testing.T, contact, expires string) {
		text := message("REGISTER sip:h SIP/2.0", "", "To: <sip:1001@h>", "Contact: "+contact, "Expires: "+expires)
		m, _, err := parseDatagram([]byte(text), 16384)
		req, ok := m.(*sipgo.Request)
		if err != nil || !ok || req.To() == nil || req.CallID() == nil || req.CSeq() == nil {
			return
		}
		x := &registration{f: flow, req: req, aor: "1001"}
		u, refused := r.update(x)
		if refused != nil {
			return
		}
		if refused := r.checkPush(x); refused != nil {
			return
		}
		u.CallID = fmt.Sprint(time.Now().UnixNano()) // never stale
		change, err := r.o.Location.Put(t.Context(), u)
		if err != nil {
			return
		}
		change.Publish()
		if len(change.Bindings) > r.cfg.Registration.MaxContacts {
			t.Errorf("%d bindings", len(change.Bindings))
		}
		checkListed(t, r.accepted(x, change.Bindings))
	})
}

// checkListed reads the answer as a phone would.
func checkListed(t *testing.T, res *sipgo.Response) {
	back, _, err := parseDatagram([]byte(res.String()), 1<<20)
	if err != nil {
		t.Fatalf("our own answer can't be read: %v\n%s", err, res)
	}
	if sent, got := len(res.GetHeaders("Contact")), len(back.GetHeaders("Contact")); sent != got {
		t.Errorf("%d Contacts sent, %d read in\n%s", sent, got, res)
	}
}

// FuzzPushParameters feeds pn-* values and holds the escaping to its word: what
// a URI-escaped value says is what is stored, and no token is in what others see.
func FuzzPushParameters(f *testing.F) {
	f.Add("apns", "T.phone.voip", "aabb")
	f.Add("apns.dev", "T.phone.remote&voip", "aa:remote&bb:voip")
	f.Add("fcm", "100%", "%zz%4")
	f.Fuzz(func(t *testing.T, provider, param, prid string) {
		c := &sipgo.ContactHeader{Address: sipgo.Uri{Scheme: "sip", User: "1001", Host: "h", UriParams: sipgo.HeaderParams{
			{K: "pn-provider", V: escapeUser(provider)}, {K: "pn-param", V: escapeUser(param)}, {K: "pn-prid", V: escapeUser(prid)},
		}}}
		var p pushing
		out := location.Contact{Expires: time.Hour}
		p.add(c, &out)
		if provider != "" && prid != "" && (out.Target.PRID != prid || out.Target.Param != param) {
			t.Errorf("stored %q %q, sent %q %q", out.Target.Param, out.Target.PRID, param, prid)
		}
		if uri := withoutToken(c.Address.String()); strings.Contains(uri, "pn-prid") && !strings.Contains(provider+param, "pn-prid") {
			t.Errorf("token left in %s", uri)
		}
	})
}
