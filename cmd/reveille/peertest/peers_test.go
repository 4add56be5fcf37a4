package peertest

import (
	"testing"
	"time"
)

// TestPeersDirect lets SIPp call baresip with nothing between them: what fails here is no fault of the bridge.
func TestPeersDirect(t *testing.T) {
	t.Parallel()
	sent, played := source(11, 10*time.Second), source(12, 20*time.Second)
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
				waitUntil(t, "the third INVITE's 180", func() bool { return len(c.received(t, "SIP/2.0 180")) >= 3 })
			}
			p.answer(t)
			c.finish(t)
			want := sent
			if c.Echo {
				want = played
			}
			checkAudio(t, "what the phone heard", p.recording(t), want, 2*time.Second)
		})
	}
}
