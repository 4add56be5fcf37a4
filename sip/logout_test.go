package sip

import (
	"testing"
	"time"
)

// KeepsPush makes accountsOf Sleepers: one account has an app that unregisters
// when it goes to the background.
func (accountsOf) KeepsPush(user string) bool { return user == "keeper" }

const pushContact = `Contact: <sip:u@h;pn-provider=apns;pn-param=T.com.example.phone.voip;pn-prid=tok>;+sip.instance="<urn:uuid:x>"`

// hasTarget: the account's only device can be pushed.
func (b *registerBed) hasTarget(aor string) bool {
	d := b.loc.Devices(aor)
	return len(d) == 1 && !d[0].Target.IsZero()
}

// Expires 0 is a logout: no more pushes. Contact: * is the same.
func TestUnregisterIsALogout(t *testing.T) {
	for _, leave := range [][]string{{pushContact, "Expires: 0"}, {pushContact + ";expires=0"}, {"Contact: *", "Expires: 0"}} {
		inBed(t, nil, func(b *registerBed) {
			u := b.phoneAt("tcp", "192.0.2.50")
			u.want(200, pushContact)
			u.want(200, leave...)
			b.wantBindings("1001")
			if b.hasTarget("1001") {
				t.Errorf("%q: still pushed", leave)
			}
		})
	}
}

func TestLogoutWantsAPassword(t *testing.T) {
	inBed(t, nil, func(b *registerBed) {
		u := b.phoneAt("tcp", "192.0.2.50")
		u.want(200, pushContact)
		thief := b.phoneAt("tcp", "203.0.113.66")
		for _, leave := range [][]string{{pushContact, "Expires: 0"}, {"Contact: *", "Expires: 0"}} {
			thief.creds = newDigestClient("1001", "guess")
			thief.want(401, leave...)
			thief.aor, thief.creds = "1001", newDigestClient("1002", "secret2") // an account, not this one
			thief.want(403, leave...)
		}
		b.wantBindings("1001", "sip:u@h;pn-provider=apns;pn-param=T.com.example.phone.voip;pn-prid=tok")
		if !b.hasTarget("1001") {
			t.Error("the target is gone")
		}
	})
}

// An account whose app unregisters in the background keeps its target, until
// the app says that it wants no more pushes (RFC 8599 §4.1.2).
func TestUnregisterKeepsThePushTargetWhereTheAccountSaysSo(t *testing.T) {
	for _, leave := range [][]string{{pushContact, "Expires: 0"}, {"Contact: *", "Expires: 0"}} {
		inBed(t, nil, func(b *registerBed) {
			u := b.phoneAt("tcp", "192.0.2.50")
			u.aor, u.creds = "keeper", newDigestClient("keeper", "secret3")
			u.want(200, pushContact)
			u.want(200, leave...)
			b.wantBindings("keeper")
			if !b.hasTarget("keeper") {
				t.Errorf("%q: the target is gone", leave)
			}
			time.Sleep(time.Hour)
			u.conn.Close()
			u.dial("192.0.2.50")
			u.want(200, `Contact: <sip:u@h;pn-provider=apns>;+sip.instance="<urn:uuid:x>"`, "Expires: 0")
			if b.hasTarget("keeper") {
				t.Error("still pushed after the app said no")
			}
		})
	}
}
