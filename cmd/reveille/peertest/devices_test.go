package peertest

import (
	"testing"
	"time"

	"reveille/push/pushtest"
)

// elsewhere is what a phone is told when another has the call (RFC 3326): it then shows no missed call.
const elsewhere = `SIP;cause=200;text="Call completed elsewhere"`

// TestTwoDevices rings both devices of an extension and answers on one: the other must stop, and know why, whether it
// rings by then or is not awake yet.
func TestTwoDevices(t *testing.T) {
	t.Parallel()
	for _, late := range []bool{false, true} {
		t.Run(map[bool]string{false: "ringing", true: "late"}[late], func(t *testing.T) {
			t.Parallel()
			sent := source(181, long)
			b := (&bridge{}).start(t)
			other := b.newApp()
			b.install(t, "tcp")
			other.install(t, "tls")
			c := (&carrier{Scenario: "caller_hangs_up", To: b.SIP, Number: b.Number, Audio: sent}).start(t)
			pushes := twoPushes(t, b)
			first := b.wake(t, "tcp", &phone{Audio: source(182, long)}).ringing(t)
			var second *phone
			wake := func() { second = other.wake(t, "tls", &phone{Audio: source(183, long)}).ringing(t) }
			if !late {
				wake()
			}
			first.answer(t)
			if late {
				wake()
			}
			second.cancelled(t)
			first.hears(t, sent) // the call is not disturbed
			c.proceed(t)
			c.finish(t)
			checkOneAnswer(t, c)
			checkIdentity(t, pushes[b.token], first)
			checkIdentity(t, pushes[other.token], second)
			if why := header(second.traced("CANCEL sip:")[0], "Reason"); why != elsewhere {
				t.Errorf("the CANCEL has Reason %q, want %q", why, elsewhere)
			}
			first.invitedOnce(t)
			second.invitedOnce(t)
			checkRecord(t, b, pushes[b.token])
			b.stop(t)
		})
	}
}

// twoPushes waits for the pushes of one call to two devices, and returns them by token.
func twoPushes(t testing.TB, b *bridge) map[string]pushtest.Push {
	t.Helper()
	one, two := b.pushed(t), b.pushed(t)
	if one.Token == two.Token || one.Payload["call_id"] == two.Payload["call_id"] {
		t.Fatalf("two pushes to one device, or with one Call-ID:\n%s\n%s", one.Body, two.Body)
	}
	if one.Payload["uuid"] != two.Payload["uuid"] {
		t.Errorf("two UUIDs for one call:\n%s\n%s", one.Body, two.Body)
	}
	return map[string]pushtest.Push{one.Token: one, two.Token: two}
}

// TestPhoneIsAwake calls a phone whose app runs and has just registered: it rings without a push.
func TestPhoneIsAwake(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			sent := source(191, long)
			b := (&bridge{}).start(t)
			b.install(t, "tcp") // or it would have no token, and no push could be sent
			p := b.wake(t, network, &phone{Audio: source(192, long)}).registered(t)
			c := (&carrier{Scenario: "caller_hangs_up", To: b.SIP, Number: b.Number, Audio: sent}).start(t)
			p.answer(t).hears(t, sent)
			c.proceed(t)
			c.finish(t)
			checkOneAnswer(t, c)
			p.invitedOnce(t)
			if n := b.apns.Counts().Requests; n != 0 {
				t.Errorf("%d pushes to a phone that is awake, want none", n)
			}
			if record := b.record(t); record["pushes"] != nil || record["ending"] != "caller_hung_up" {
				t.Errorf("the record has pushes, or another ending than caller_hung_up: %v", record)
			}
			b.stop(t)
		})
	}
}

// TestLateRegisterAfterRestart restarts the bridge between the end of the call and the phone's REGISTER.
func TestLateRegisterAfterRestart(t *testing.T) {
	t.Parallel()
	b := (&bridge{}).start(t)
	b.install(t, "tcp")
	c := (&carrier{Scenario: "cancelled", To: b.SIP, Number: b.Number, Audio: source(195, time.Second)}).start(t)
	push := b.pushed(t)
	c.proceed(t)
	c.finish(t)
	checkRecord(t, b, push)
	b.stop(t)
	b.run(t)
	p := b.wake(t, "tcp", &phone{Audio: source(196, time.Second)}).ringing(t).cancelled(t)
	checkIdentity(t, push, p)
	p.invitedOnce(t)
	again := b.registration("tcp")
	again.do(t)
	again.silent(t)
	if n := b.apns.Counts().Accepted; n != 1 {
		t.Errorf("%d pushes, want 1: a restart pushes nothing again", n)
	}
	b.stop(t)
}
