package sip

import (
	"strings"
	"testing"

	"reveille/sip/location"
)

const (
	aKey    = "BwEHAgcDBwQHBQcGBwcHCAcJBwoHCwcMBw0HDgcPBxA" // an X25519 public key
	keyed   = `Contact: <sip:1001@h;pn-provider=apns;pn-param=T.com.example.phone.voip;pn-prid=aabb;pn-key=` + aKey + `>;+sip.instance="<urn:uuid:x>"`
	unkeyed = `Contact: <sip:1001@h;pn-provider=apns;pn-param=T.com.example.phone.voip;pn-prid=aabb>;+sip.instance="<urn:uuid:x>"`
)

func TestRegisterBringsTheDevicesKey(t *testing.T) {
	inBed(t, nil, func(b *registerBed) {
		u := b.phoneAt("tcp", "192.0.2.50")
		key := func(want string) {
			t.Helper()
			if d := b.loc.Devices("1001"); len(d) != 1 || d[0].Target.Key != want || d[0].Target.PRID != "aabb" {
				t.Errorf("devices %v, want key %q", d, want)
			}
		}
		if got := contactsIn(u.want(200, keyed)); len(got) != 1 || !strings.Contains(got[0], "pn-key="+aKey) {
			t.Errorf("lists %q: a phone must find its own URI", got)
		}
		key(aKey)
		for _, wrong := range []string{"=", "x", aKey + "%3D", strings.Repeat("A", 43)} {
			if res := u.want(400, strings.Replace(keyed, aKey, wrong, 1)); !strings.Contains(res.Reason, "pn-key") {
				t.Errorf("%q: %s", wrong, res.Reason)
			}
			key(aKey)
		}
		u.want(200, `Contact: <sip:1001@h>;+sip.instance="<urn:uuid:x>"`) // says nothing of pushes
		key(aKey)
		u.want(200, unkeyed) // states the target, which has no key
		key("")
		u.want(200, strings.Replace(keyed, "pn-key", "PN-Key", 1))
		key(aKey)
		other := b.phoneAt("tcp", "192.0.2.51")
		for _, c := range contactsIn(other.want(200, `Contact: <sip:1001@h2>;+sip.instance="<urn:uuid:y>"`)) {
			if strings.Contains(c, aKey) {
				t.Errorf("another phone is told %s", c)
			}
		}
		// A device that leaves may do so whatever its key looks like.
		u.want(200, strings.Replace(keyed, aKey, "x", 1), "Expires: 0")
	})
}

func TestProvisionBringsTheDevicesKey(t *testing.T) {
	inBed(t, nil, func(b *registerBed) {
		p := Provision{AOR: "1001", Instance: "urn:uuid:1", DeviceID: location.DeviceIDOf("urn:uuid:1"),
			Target: location.Target{Provider: "apns", Param: "T.com.example.phone.voip", PRID: "aabb", Key: aKey}}
		if d, _, err := b.srv.Provision(b.t.Context(), p); err != nil || d.Target.Key != aKey {
			t.Fatalf("%v %v", d, err)
		}
		p.Target.Key += "A"
		if _, _, err := b.srv.Provision(b.t.Context(), p); err == nil || !strings.Contains(err.Error(), "key is no X25519") || strings.Contains(err.Error(), aKey) {
			t.Errorf("a wrong key: %v", err)
		}
	})
}
