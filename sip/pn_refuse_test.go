package sip

import (
	"errors"
	"slices"
	"strings"
	"testing"

	sipgo "github.com/emiago/sipgo/sip"

	"reveille/sip/location"
)

// CheckToken makes pushOf a TokenChecker: some tokens are of no use.
func (p pushOf) CheckToken(_, prid string) error {
	if strings.HasPrefix(prid, "useless") {
		return errors.New(`pn-prid names no "voip" service`)
	}
	return nil
}

// RFC 8599 §5.3.1: 555 where the service or what it needs is not there. The
// answer says what it is, and never repeats the token.
func TestTokenThatIsOfNoUseIs555(t *testing.T) {
	const contact = `Contact: <sip:1001@h;pn-provider=%P;pn-param=T.com.example.phone.voip;pn-prid=%T>;+sip.instance="<urn:uuid:x>"`
	inBed(t, nil, func(b *registerBed) {
		u := b.phoneAt("tcp", "192.0.2.50")
		for provider, says := range map[string]string{
			"apns": `399 reveille "pn-prid names no \"voip\" service"`,
			"hms":  `399 reveille "this pn-provider with this pn-param is not configured here"`,
		} {
			res := u.want(555, strings.NewReplacer("%P", provider, "%T", "useless-token").Replace(contact))
			if got := headerValue(res, "Warning"); got != says {
				t.Errorf("Warning %s", got)
			}
			if strings.Contains(res.String(), "useless-token") || len(b.loc.AllDevices()) != 0 {
				t.Errorf("devices %v after %s", b.loc.AllDevices(), res)
			}
		}
		u.want(200, strings.NewReplacer("%P", "apns", "%T", "good-token").Replace(contact))
		u.want(555, strings.NewReplacer("%P", "apns", "%T", "useless-token").Replace(contact))
		if d := b.loc.Devices("1001"); len(d) != 1 || d[0].Target.PRID != "good-token" {
			t.Errorf("devices %v: what was there stays", d)
		}
		u.want(200, strings.NewReplacer("%P", "apns", "%T", "useless-token").Replace(contact), "Expires: 0")
	})
}

func TestPushParametersOutOfBounds(t *testing.T) {
	for name, tt := range map[string]struct{ params, phrase string }{
		"a space":    {"pn-param=T.com.example.phone.voip;pn-prid=a%20b", "pn-prid Is Not ASCII"},
		"a break":    {"pn-param=T.com.example.phone.voip;pn-prid=a%0D%0Ab", "pn-prid Is Not ASCII"},
		"no ASCII":   {"pn-param=T.com.example.phone.voip;pn-prid=%C3%A4", "pn-prid Is Not ASCII"},
		"too long":   {"pn-param=T.com.example.phone.voip;pn-prid=" + strings.Repeat("f", 1025), "pn-prid Too Long"},
		"param":      {"pn-param=T.com.example.phone.voip%0A;pn-prid=aa", "pn-param Is Not ASCII"},
		"long param": {"pn-param=T.com.example.phone.voip" + strings.Repeat("x", 300) + ";pn-prid=aa", "pn-param Is Not ASCII"},
		"a NUL":      {"pn-param=T.com.example.phone.voip;pn-prid=a%00", "pn-prid Is Not ASCII"},
	} {
		t.Run(name, func(t *testing.T) {
			inBed(t, nil, func(b *registerBed) {
				res := b.phoneAt("tcp", "192.0.2.50").want(400, "Contact: <sip:1001@h;pn-provider=apns;"+tt.params+">")
				if !strings.HasPrefix(res.Reason, tt.phrase) || len(b.loc.AllDevices()) != 0 {
					t.Errorf("%s; devices %v", res.Reason, b.loc.AllDevices())
				}
			})
		})
	}
}

// Services that need no pn-param, with a name of our own or fcm with one app:
// it may be empty or left out.
func TestPushServiceThatNeedsNoParam(t *testing.T) {
	r, f := fuzzRegistrar(t)
	r.o.Push = pushOf{"mypush": "", "fcm": ""}
	for contact, want := range map[string]location.Target{
		"<sip:a@h;pn-provider=mypush;pn-prid=tok>":                   {Provider: "mypush", PRID: "tok"},
		"<sip:a@h;pn-provider=MyPush;pn-param;pn-prid=tok>":          {Provider: "mypush", PRID: "tok"},
		"<sip:a@h;pn-provider=MyPush;pn-param=;pn-prid=tok>":         {Provider: "mypush", PRID: "tok"},
		"<sip:a@h;pn-provider=fcm;pn-prid=cd:APA91b_-x>":             {Provider: "fcm", PRID: "cd:APA91b_-x"},
		"<sip:a@h;pn-provider=fcm;pn-param=p-1;pn-prid=cd%3aAPA91b>": {Provider: "fcm", Param: "p-1", PRID: "cd:APA91b"},
	} {
		m, _, err := parseDatagram([]byte(message("REGISTER sip:h SIP/2.0", "", "To: <sip:1001@h>", "Contact: "+contact)), 16384)
		if err != nil {
			t.Fatal(err)
		}
		x := &registration{f: f, req: m.(*sipgo.Request), aor: "1001"}
		u, refused := r.update(x)
		if refused == nil {
			refused = r.checkPush(x)
		}
		if refused != nil || u.Contacts[0].Target != want {
			t.Errorf("%s: %v, target %v", contact, refused, u.Contacts[0].Target)
		}
		if caps := r.featureCaps(x); !slices.Equal(caps, []string{`*;+sip.pns="` + want.Provider + `"`}) {
			t.Errorf("%s: Feature-Caps %q", contact, caps)
		}
	}
}

// Whoever is not authenticated moves no token, also with the right user name.
func TestTokenIsNotMovedWithoutAPassword(t *testing.T) {
	inBed(t, nil, func(b *registerBed) {
		b.phoneAt("tcp", "192.0.2.50").want(200, pushContact)
		thief := b.phoneAt("tcp", "192.0.2.66")
		thief.aor, thief.creds = "1002", newDigestClient("1002", "guess")
		thief.want(401, pushContact)
		if res := thief.register(pushContact, "Authorization: Digest username=\"1002\""); res.StatusCode/100 != 4 {
			t.Errorf("credentials without a proof: %d", res.StatusCode)
		}
		if !b.hasTarget("1001") || len(b.loc.Devices("1002")) != 0 {
			t.Errorf("devices %v", b.loc.AllDevices())
		}
	})
}
