package peertest

import (
	"syscall"
	"testing"
	"time"
)

// TestDialogFollowsItsRouteSet: Kamailio stays in the path by Record-Route, and what the phone and the caller send in the
// call goes by it, in both directions.
func TestDialogFollowsItsRouteSet(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		caller, callee carrier
		byKamailio     []string // what must have come by Kamailio within the dialog
	}{
		{"from the phone", carrier{Scenario: "is_held"}, carrier{Scenario: "phone_holds"}, []string{"INVITE", "INVITE", "INVITE", "BYE"}},
		{"from the caller", carrier{Scenario: "plain", Asks: true}, carrier{Scenario: "phone_digit"}, []string{"INFO", "REFER", "BYE"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := (&pbx{User: "+4930123456", Password: "trunk-pass-phrase"}).start(t)
			b := (&bridge{Registrar: k.addr, TrunkPassword: k.Password}).start(t)
			k.registered(t)
			phone := b.takes(t, &c.callee)
			caller := b.callsBy(t, k, &c.caller)
			caller.finish(t)
			phone.finish(t)
			want := map[string]int{}
			for _, method := range c.byKamailio {
				want[method]++
			}
			for method, n := range want {
				if got := k.process.distinct(`PBX ` + method + ` .*`); got != n {
					t.Errorf("%d %s went by way of Kamailio, want %d", got, method, n)
				}
			}
			b.stop(t)
		})
	}
}

// callsBy has SIPp call the PBX's user.
func (b *bridge) callsBy(t testing.TB, k *pbx, c *carrier) *carrier {
	t.Helper()
	c.To, c.Number, c.MayNotRing, c.NoTrying, c.Audio = k.addr, k.User, true, true, source(202, time.Second)
	return c.start(t)
}

// TestRegistrarRestarts kills the PBX, which forgets all registrations; OPTIONS tell that it is back, and the bridge
// registers again, and can be called.
func TestRegistrarRestarts(t *testing.T) {
	t.Parallel()
	k := (&pbx{User: "+4930123456", Password: "trunk-pass-phrase"}).start(t)
	b := (&bridge{Registrar: k.addr, TrunkPassword: k.Password, Options: 5 * time.Second}).start(t)
	k.registered(t)
	k.process.signal(syscall.SIGKILL)
	b.process.waitFor(t, `trunk is unreachable`)
	again := (&pbx{User: k.User, Password: k.Password, addr: k.addr}).start(t)
	again.registered(t)
	phone := b.takes(t, &carrier{Scenario: "phone_answers"})
	b.callsBy(t, again, &carrier{Scenario: "plain"}).finish(t)
	phone.finish(t)
	b.stop(t)
}

// TestPBXIsFoundByNAPTR: the domain of the registrar names its SRV records by NAPTR (RFC 3263); the first target of these
// is dead from the start, the second is Kamailio.
func TestPBXIsFoundByNAPTR(t *testing.T) {
	t.Parallel()
	dead := hostPort(pbxIP, freePort(t, pbxIP, 1))
	k := (&pbx{User: "+4930123456", Password: "wake-me-up"}).start(t)
	names := answerDNS(t,
		`pbx.test. 60 IN NAPTR 10 10 "s" "SIPS+D2T" "" _sips._tcp.nowhere.test.`,
		`pbx.test. 60 IN NAPTR 20 10 "s" "SIP+D2U" "" _sip._udp.here.test.`,
		srv("_sip._udp.here.test.", 1, dead), srv("_sip._udp.here.test.", 2, k.addr), `host.pbx.test. 60 IN A `+pbxIP)
	b := (&bridge{Registrar: "pbx.test", Resolver: names, AnyTransport: true, TrunkPassword: k.Password}).start(t)
	k.registered(t)
	b.stop(t)
}
