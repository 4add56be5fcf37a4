package peertest

import (
	"regexp"
	"strings"
	"testing"
)

// TestKamailioUpstream needs nothing of the PBX but an account: the extension registers there as itself, a call to that
// account comes to the bridge, wakes the phone, and is answered.
func TestKamailioUpstream(t *testing.T) {
	t.Parallel()
	sent := source(173, long)
	k := (&pbx{User: "ada", Password: "desk-phone-pass-phrase"}).start(t)
	b := (&bridge{Registrar: k.addr, TrunkPassword: k.Password, Upstream: k.User}).start(t)
	// Only the user part: an address and its port hold the digits of an extension by chance.
	if contact := k.registered(t); !regexp.MustCompile(`^<sip:[0-9a-v]{24}@`).MatchString(contact) {
		t.Errorf("the Contact can be guessed: %s", contact)
	}
	waitUntil(t, "the bridge to say so", func() bool {
		return b.metric(t, "reveille_upstream_registrations", `state="registered",trunk="pbx"`) == "1"
	})
	if list, _ := b.get(t, "/api/v1/extensions"); !strings.Contains(list, `"state": "registered"`) {
		t.Errorf("the extensions are %s", list)
	}
	b.install(t, "tcp")
	c := (&carrier{Scenario: "caller_hangs_up", To: k.addr, Number: k.User, Audio: sent}).start(t)
	push := b.pushed(t)
	if push.Payload["trunk"] != "pbx" || push.Payload["to"] != k.User {
		t.Errorf("the push says trunk %v and to %v", push.Payload["trunk"], push.Payload["to"])
	}
	p := b.wake(t, "tcp", &phone{Audio: source(174, long)}).answer(t).hears(t, sent)
	c.proceed(t)
	c.finish(t)
	checkIdentity(t, push, p)
	checkOneAnswer(t, c)
	checkAudio(t, "what the phone heard", p.recording(t), sent)
	b.stop(t)
	if n := k.process.count(`PBX registered`); n < 2 {
		t.Errorf("the extension was not unregistered: %d accepted REGISTERs", n)
	}
}
