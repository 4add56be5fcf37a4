package bridge_test

import (
	"strings"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// The IPv6 addresses of the bridge and of its trunk; phones have one each.
const (
	bridgeSix, bridgeSixSIP = "2001:db8::1", "[2001:db8::1]:5060"
	trunkSix                = "2001:db8::2"
)

// onSix moves a phone to IPv6.
func onSix(w *world, ip string) func(*siptest.PhoneOptions) {
	return func(o *siptest.PhoneOptions) {
		w.distance(ip, siptest.Link{Delay: phoneDelay})
		o.Sockets, o.Local, o.Bridge, o.Domain = w.net.Host(ip), ip, bridgeSixSIP, ""
	}
}

// families holds that each side is told of our address in its own family only.
func families(t *testing.T, what string, m *siptest.Message, ours, not string) {
	t.Helper()
	text := string(m.Bytes())
	if !strings.Contains(string(m.Body), ours) || strings.Contains(text, not) {
		t.Errorf("%s does not speak of %s alone:\n%s", what, ours, text)
	}
}

func TestWholeCallFromAnIPv6TrunkToAnIPv4Phone(t *testing.T) {
	call(t, func(s *setup) { s.dual, s.trunk.Peers, s.trunkHost = true, []string{"2001:db8::/64"}, trunkSix }, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{})
		families(t, "180", w.await(c, time.Second, "180"), "IN IP6 "+bridgeSix, bridgeIP)
		w.await(c, 10*time.Second, "200")
		taken := w.taken(p)
		families(t, "INVITE to the phone", taken.Invite, "IN IP4 "+bridgeIP, "2001:db8")
		w.talk(c, taken)
		c.Bye()
		w.await(taken, time.Second, "BYE")
		w.ended("caller_hung_up", 200)
	})
}

func TestWholeCallFromAnIPv4TrunkToAnIPv6Phone(t *testing.T) {
	call(t, func(s *setup) { s.dual = true }, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second), change: onSix(w, "2001:db8:1::11")})
		c := w.invite(siptest.Invitation{})
		families(t, "180", w.await(c, time.Second, "180"), "IN IP4 "+bridgeIP, "2001:db8")
		w.await(c, 10*time.Second, "200")
		taken := w.taken(p)
		families(t, "INVITE to the phone", taken.Invite, "IN IP6 "+bridgeSix, bridgeIP)
		w.talk(c, taken)
		taken.Bye()
		w.await(c, time.Second, "BYE")
		w.ended("callee_hung_up", 200)
	})
}

func TestExternalAddressIsOfOneFamily(t *testing.T) {
	call(t, func(s *setup) { s.dual, s.media.ExternalAddress = true, "203.0.113.5" }, func(w *world) {
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second), change: onSix(w, "2001:db8:1::11")})
		c := w.invite(siptest.Invitation{})
		families(t, "180", w.await(c, time.Second, "180"), "IN IP4 203.0.113.5", "2001:db8")
		w.await(c, 10*time.Second, "200")
		families(t, "INVITE to the phone", w.taken(p).Invite, "IN IP6 "+bridgeSix, "203.0.113.5")
		c.Bye()
		w.ended("caller_hung_up", 200)
	})
}
