package bridge_test

import (
	"strings"
	"testing"
	"time"

	"reveille/bridge"
	"reveille/sip"
	"reveille/sip/siptest"
)

// upstream makes the extension register at the trunk as user 7001.
func upstream(s *setup) {
	s.trunk = sip.TrunkConfig{Name: "carrier", Registrar: "sip:" + trunkIP, Transport: "udp"}
	s.extension.Upstream = sip.UpstreamConfig{Trunk: "carrier", Username: "7001", Password: "secret"}
}

func TestCallToTheExtensionsOwnAccountAtThePBX(t *testing.T) {
	call(t, upstream, func(w *world) {
		w.trunk.Registrar()
		w.must(w.sip.SetUpstreams(bridge.Upstreams([]bridge.Extension{w.extension})))
		contact := w.trunk.Registered("7001", time.Second)
		user, _, _ := strings.Cut(strings.TrimPrefix(contact, "sip:"), "@")
		p := w.sleeping(phoneOptions{wakes: 400 * time.Millisecond, script: siptest.AnswerAfter(time.Second)})
		c := w.invite(siptest.Invitation{To: user}) // no number of any extension
		w.await(c, 5*time.Second, "200")
		taken := w.taken(p)
		equal(t, "the call's UUID", w.sentPushes()[0].Payload["uuid"], any(taken.UUID()))
		equal(t, "whom the push is for", w.sentPushes()[0].Payload["to"], any("7001"))
		if text := string(taken.Invite.Bytes()); strings.Contains(text, user) {
			t.Errorf("the Contact at the PBX is told to the device:\n%s", text)
		}
		c.Bye()
		equal(t, "extension", w.ended("caller_hung_up", 200).Extension, "1001")
	})
}

func TestCallToAContactThatIsNobodysIsForNobody(t *testing.T) {
	call(t, upstream, func(w *world) {
		w.trunk.Registrar()
		w.must(w.sip.SetUpstreams(bridge.Upstreams([]bridge.Extension{w.extension})))
		w.trunk.Registered("7001", time.Second)
		c := w.invite(siptest.Invitation{To: "7001"}) // the account's name is not its Contact
		w.await(c, 5*time.Second, "404")
		w.ended("unknown_number", 404)
	})
}
