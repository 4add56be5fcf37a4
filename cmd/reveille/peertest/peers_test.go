package peertest

import (
	"testing"
	"time"
)

// TestPeersDirect lets SIPp call baresip with nothing between them: what fails here is no fault of the bridge.
func TestPeersDirect(t *testing.T) {
	t.Parallel()
	sent, played := source(11, long), source(12, long)
	for name, c := range map[string]*carrier{
		"offer":     {Scenario: "caller_hangs_up", Audio: sent},
		"offerless": {Scenario: "caller_hangs_up", Audio: sent, Offerless: true},
		"resent":    {Scenario: "resent", Audio: sent},
		"echo":      {Scenario: "caller_hangs_up", Echo: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := (&phone{User: "1001", Instance: newInstance(), Audio: played}).start(t)
			c.To, c.Number, c.NoTrying = hostPort(phoneIP, p.sip), "1001", true
			c.start(t)
			p.ringing(t)
			if c.Scenario == "resent" {
				c.resend(t)
			}
			want := sent
			if c.Echo {
				want = played
			}
			p.answer(t).hears(t, want)
			c.proceed(t)
			c.finish(t)
			checkAudio(t, "what the phone heard", p.recording(t), want)
		})
	}
}

// TestPeersCallEnds tries the scenarios in which a call does not end by the caller's BYE.
func TestPeersCallEnds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		carrier
		act func(testing.TB, *carrier, *phone)
	}{
		{carrier{Scenario: "callee_hangs_up"}, func(t testing.TB, _ *carrier, p *phone) { p.answer(t).hangUp(t) }},
		{carrier{Scenario: "cancelled"}, func(t testing.TB, c *carrier, p *phone) {
			p.ringing(t)
			c.proceed(t)
			p.cancelled(t)
		}},
		{carrier{Scenario: "refused", Final: 486}, func(t testing.TB, _ *carrier, p *phone) { p.ringing(t).hangUp(t) }},
	} {
		t.Run(c.Scenario, func(t *testing.T) {
			t.Parallel()
			p := (&phone{User: "1001", Instance: newInstance(), Audio: source(12, long)}).start(t)
			c.To, c.Number, c.NoTrying = hostPort(phoneIP, p.sip), "1001", true
			c.Audio = source(13, long)
			c.start(t)
			c.act(t, &c.carrier, p)
			c.finish(t)
		})
	}
}

// TestPeersScenarioCanFail shows that SIPp's exit code tells of a call that went otherwise than its scenario says.
func TestPeersScenarioCanFail(t *testing.T) {
	t.Parallel()
	p := (&phone{User: "1001", Instance: newInstance(), Audio: source(12, time.Second)}).start(t)
	c := (&carrier{Scenario: "refused", Final: 480, To: hostPort(phoneIP, p.sip), Number: "1001", NoTrying: true}).start(t)
	p.ringing(t).hangUp(t) // 486
	if code := c.process.wait(t, 65*time.Second); code == 0 {
		t.Error("SIPp expected 480, got 486 and was content")
	}
}
