package peertest

import (
	"strings"
	"testing"
	"time"

	"reveille/push/pushtest"
)

// checkIdentity holds what the phone got against what the push said: the call's UUID and the Call-ID must be those.
func checkIdentity(t testing.TB, push pushtest.Push, p *phone) {
	t.Helper()
	uuid, _ := push.Payload["uuid"].(string)
	callID, _ := push.Payload["call_id"].(string)
	if uuid == "" || callID == "" {
		t.Fatalf("the push has no uuid or call_id: %s", push.Body)
	}
	if p.process.count(`^\S+ X-Call-UUID: `+uuid+`$`) == 0 {
		t.Errorf("no INVITE to the phone has X-Call-UUID %s, as the push had", uuid)
	}
	if p.process.count(`^\S+ Call-ID: `+callID+`$`) == 0 {
		t.Errorf("no INVITE to the phone has the Call-ID %s, as the push had", callID)
	}
	if got := push.Payload["handle"]; got != "+4940123456" {
		t.Errorf("the push names the caller %v, want +4940123456", got)
	}
}

// checkOneAnswer holds the 200 against the 180: an early answer is the answer (RFC 3261 §13.2.1).
func checkOneAnswer(t testing.TB, c *carrier) {
	t.Helper()
	ringing, ok := c.received(t, "SIP/2.0 180"), c.received(t, "SIP/2.0 200")
	early, final := sdpOf(ringing[0]), sdpOf(ok[0])
	if !strings.Contains(early, "m=audio ") {
		t.Errorf("the first 180 has no SDP: the caller waits in silence\n%s", ringing[0])
	}
	if early != final {
		t.Errorf("the SDP of the 200 differs from that of the 180:\n%s\n--- 200\n%s", early, final)
	}
	for _, r := range append(ringing, ok[0]) {
		if header(r, "To") != header(ringing[0], "To") {
			t.Errorf("the To tag changes from %q to %q", header(ringing[0], "To"), header(r, "To"))
		}
	}
}

// checkRecord waits for the call's record: it must be that of the call pushed.
func checkRecord(t testing.TB, b *bridge, push pushtest.Push) map[string]any {
	t.Helper()
	record := b.record(t)
	if record["uuid"] != push.Payload["uuid"] {
		t.Errorf("the record is of call %v, the push was of %v", record["uuid"], push.Payload["uuid"])
	}
	t.Logf("record: %v", record)
	return record
}

// TestCarrierToSleepingPhone is the product: a carrier's INVITE becomes a push, the push starts the phone, the phone
// registers, rings, answers, and hears the caller.
func TestCarrierToSleepingPhone(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "tls"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			sent := source(101, long)
			b := (&bridge{}).start(t)
			b.install(t, network)
			c := (&carrier{Scenario: "caller_hangs_up", To: b.SIP, Number: b.Number, Audio: sent}).start(t)
			push := b.pushed(t)
			p := b.wake(t, network, &phone{Audio: source(102, long)}).answer(t).hears(t, sent)
			c.proceed(t)
			c.finish(t)
			checkIdentity(t, push, p)
			checkOneAnswer(t, c)
			checkAudio(t, "what the phone heard", p.recording(t), sent)
			checkRecord(t, b, push)
			b.stop(t)
		})
	}
}

// TestAudioBothWays sends the phone's own audio back to it: SIPp echoes what it hears, so what the phone records has
// passed the bridge in both directions.
func TestAudioBothWays(t *testing.T) {
	t.Parallel()
	played := source(111, long)
	b := (&bridge{Silent: true}).start(t)
	b.install(t, "tcp")
	c := (&carrier{Scenario: "caller_hangs_up", To: b.SIP, Number: b.Number, Echo: true}).start(t)
	b.pushed(t)
	p := b.wake(t, "tcp", &phone{Audio: played, Auto: true}).established(t).hears(t, played)
	c.proceed(t)
	c.finish(t)
	checkAudio(t, "the phone's echo", p.recording(t), played)
	b.stop(t)
}

// TestCallerHearsRingbackThenThePhone listens at the carrier's media port: first the tone of a phone that rings, from
// before anybody is awake, then what the phone plays.
func TestCallerHearsRingbackThenThePhone(t *testing.T) {
	t.Parallel()
	played, e := source(121, long), newEar(t)
	b := (&bridge{}).start(t)
	b.install(t, "tcp")
	c := (&carrier{Scenario: "caller_hangs_up", To: b.SIP, Number: b.Number, Ear: e}).start(t)
	b.pushed(t)
	waitUntil(t, "ringback while the phone sleeps", func() bool {
		pcm, _ := e.heard()
		return toneSeconds(pcm, 425) >= 0.8 // ETSI: 425 Hz, one second on, four off
	})
	b.wake(t, "tcp", &phone{Audio: played}).ringing(t).command(t, "accept") // and hears nothing: an ear is silent
	hears(t, "the caller to hear the phone", played, func() []int16 {
		pcm, _ := e.heard()
		return pcm
	})
	c.proceed(t)
	c.finish(t)
	pcm, others := e.heard()
	checkAudio(t, "what the caller heard", pcm, played)
	if others != 0 {
		t.Errorf("%d packets to the caller were no PCMA RTP", others)
	}
	b.stop(t)
}

// TestOfferless calls with an INVITE that has no SDP: the 200 brings the offer, the ACK the answer.
func TestOfferless(t *testing.T) {
	t.Parallel()
	sent := source(131, long)
	b := (&bridge{}).start(t)
	b.install(t, "tcp")
	c := (&carrier{Scenario: "caller_hangs_up", To: b.SIP, Number: b.Number, Offerless: true, Audio: sent}).start(t)
	push := b.pushed(t)
	p := b.wake(t, "tcp", &phone{Audio: source(132, long)}).answer(t).hears(t, sent)
	c.proceed(t)
	c.finish(t)
	for _, r := range c.received(t, "SIP/2.0 180") {
		if sdpOf(r) != "" {
			t.Errorf("a 180 to an INVITE without offer has SDP:\n%s", r)
		}
	}
	checkIdentity(t, push, p)
	checkAudio(t, "what the phone heard", p.recording(t), sent)
	b.stop(t)
}

// TestLateRegister starts the phone when the caller has given up already: it must be told so, by INVITE and CANCEL,
// or its call screen would ring for nobody.
func TestLateRegister(t *testing.T) {
	t.Parallel()
	b := (&bridge{}).start(t)
	b.install(t, "tcp")
	c := (&carrier{Scenario: "cancelled", To: b.SIP, Number: b.Number, Audio: source(141, time.Second)}).start(t)
	push := b.pushed(t)
	c.proceed(t)
	c.finish(t)
	p := b.wake(t, "tcp", &phone{Audio: source(142, time.Second)}).ringing(t).cancelled(t)
	checkIdentity(t, push, p)
	checkRecord(t, b, push)
	if why := header(p.traced("CANCEL sip:")[0], "Reason"); strings.Contains(why, "cause=200") {
		t.Errorf("the CANCEL says %q, but nobody answered", why)
	}
	p.process.stop(t)
	p.invitedOnce(t)
	again := b.registration("tcp")
	again.do(t)
	again.silent(t)
	if n := b.apns.Counts().Accepted; n != 1 {
		t.Errorf("%d pushes, want 1: no push cancels a call", n)
	}
	b.stop(t)
}

// TestCancelWhileRinging gives up while the phone rings.
func TestCancelWhileRinging(t *testing.T) {
	t.Parallel()
	b := (&bridge{}).start(t)
	b.install(t, "tcp")
	c := (&carrier{Scenario: "cancelled", To: b.SIP, Number: b.Number, Audio: source(145, time.Second)}).start(t)
	b.pushed(t)
	p := b.wake(t, "tcp", &phone{Audio: source(146, time.Second)}).ringing(t)
	c.proceed(t)
	c.finish(t)
	p.cancelled(t)
	b.stop(t)
}

// TestResentInvite sends the same INVITE three times: it is one call, with one push and one INVITE to the phone.
func TestResentInvite(t *testing.T) {
	t.Parallel()
	sent := source(151, long)
	b := (&bridge{}).start(t)
	b.install(t, "tcp")
	c := (&carrier{Scenario: "resent", To: b.SIP, Number: b.Number, Audio: sent}).start(t)
	b.pushed(t)
	c.resend(t)
	p := b.wake(t, "tcp", &phone{Audio: source(152, long)}).answer(t).hears(t, sent)
	c.proceed(t)
	c.finish(t)
	checkAudio(t, "what the phone heard", p.recording(t), sent)
	p.invitedOnce(t)
	if n := b.apns.Counts().Accepted; n != 1 {
		t.Errorf("%d pushes, want 1", n)
	}
	b.stop(t)
}

// TestCalleeHangsUp ends the call from the phone.
func TestCalleeHangsUp(t *testing.T) {
	t.Parallel()
	b := (&bridge{}).start(t)
	b.install(t, "tcp")
	c := (&carrier{Scenario: "callee_hangs_up", To: b.SIP, Number: b.Number, Audio: source(161, long)}).start(t)
	push := b.pushed(t)
	b.wake(t, "tcp", &phone{Audio: source(162, long)}).answer(t).hangUp(t)
	c.finish(t)
	checkRecord(t, b, push)
	b.stop(t)
}

// TestDeclined presses the red button.
func TestDeclined(t *testing.T) {
	t.Parallel()
	b := (&bridge{}).start(t)
	b.install(t, "tcp")
	c := (&carrier{Scenario: "refused", Final: 486, To: b.SIP, Number: b.Number}).start(t)
	b.pushed(t)
	b.wake(t, "tcp", &phone{Audio: source(165, time.Second)}).ringing(t).hangUp(t)
	c.finish(t)
	b.stop(t)
}

// TestNobodyWakes lets the phone sleep on.
func TestNobodyWakes(t *testing.T) {
	t.Parallel()
	b := (&bridge{WakeTimeout: time.Second}).start(t)
	b.install(t, "tcp")
	c := (&carrier{Scenario: "refused", Final: 480, To: b.SIP, Number: b.Number}).start(t)
	push := b.pushed(t)
	c.finish(t)
	checkRecord(t, b, push)
	b.stop(t)
}

// TestDeadToken has a push service that knows the device no longer: the caller is told at once.
func TestDeadToken(t *testing.T) {
	t.Parallel()
	b := (&bridge{}).start(t)
	b.install(t, "tcp")
	b.apns.Unregister(pushtest.Production, b.token, time.Now())
	c := (&carrier{Scenario: "refused", Final: 480, To: b.SIP, Number: b.Number}).start(t)
	c.finish(t)
	if took := b.took(t); took > b.WakeTimeout/2 {
		t.Errorf("the caller was told after %v, as if the push had been accepted", took)
	}
	b.stop(t)
}

// TestUnknownNumber calls a number that leads nowhere.
func TestUnknownNumber(t *testing.T) {
	t.Parallel()
	b := (&bridge{}).start(t)
	c := (&carrier{Scenario: "refused", Final: 404, MayNotRing: true, NoTrying: true, To: b.SIP, Number: "+49309999"}).start(t)
	c.finish(t)
	b.stop(t)
}

// TestKamailioTrunk has the bridge register at a PBX with digest; a call comes by way of the PBX, and the BYE takes
// that way too.
func TestKamailioTrunk(t *testing.T) {
	t.Parallel()
	sent := source(171, long)
	k := (&pbx{User: "+4930123456", Password: "trunk-pass-phrase"}).start(t)
	b := (&bridge{Registrar: k.addr, TrunkPassword: k.Password}).start(t)
	t.Log("registered Contact:", k.registered(t))
	b.install(t, "tcp")
	c := (&carrier{Scenario: "caller_hangs_up", To: k.addr, Number: k.User, Audio: sent}).start(t)
	push := b.pushed(t)
	if got := push.Payload["trunk"]; got != "pbx" {
		t.Errorf("the push says trunk %v, want pbx", got)
	}
	p := b.wake(t, "tcp", &phone{Audio: source(172, long)}).answer(t).hears(t, sent)
	c.proceed(t)
	c.finish(t)
	checkIdentity(t, push, p)
	checkOneAnswer(t, c)
	checkAudio(t, "what the phone heard", p.recording(t), sent)
	if k.process.count(`PBX BYE`) == 0 {
		t.Error("the BYE did not go by way of Kamailio")
	}
	b.stop(t)
	if n := k.process.count(`PBX registered`); n < 2 {
		t.Errorf("the bridge has not unregistered: %d accepted REGISTERs", n)
	}
}
