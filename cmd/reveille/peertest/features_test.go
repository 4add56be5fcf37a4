package peertest

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// login is what a phone registers with.
type login struct{ User, Password, Instance string }

// takes has SIPp register as the bridge's phone and then take the next call by a scenario, both from one UDP port.
func (a *app) takes(t testing.TB, c *carrier) *carrier {
	t.Helper()
	login := (&carrier{Scenario: "registers", IP: phoneIP, To: a.bridge.SIP, Number: a.bridge.User, Login: &login{a.bridge.User, a.bridge.Password, a.instance}}).start(t)
	login.finish(t)
	c.IP, c.To, c.Number, c.sip = phoneIP, a.bridge.SIP, a.bridge.User, login.sip
	c.start(t)
	// Not by an attempt to bind that port: SIPp gives up at once on one that is taken.
	waitUntil(t, "the phone to listen", func() bool {
		return slices.ContainsFunc(udpSockets(t), func(s udpSocket) bool { return s.local.String() == hostPort(phoneIP, c.sip) })
	})
	return c
}

// calls has SIPp call the bridge's extension.
func (b *bridge) calls(t testing.TB, c *carrier) *carrier {
	t.Helper()
	c.To, c.Number, c.MayNotRing, c.NoTrying = b.SIP, b.Number, true, true
	c.Audio = source(201, time.Second)
	return c.start(t)
}

// TestCallFeatures has SIPp on both sides: what a carrier or a phone does in a call by one of the RFCs, and what comes
// out on the other side. Each side holds what it gets against its scenario.
func TestCallFeatures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		caller, callee carrier
		ending         string
	}{
		{"reliable provisionals", carrier{Scenario: "reliable"}, carrier{Scenario: "phone_answers"}, "caller_hung_up"},
		{"session interval too small", carrier{Scenario: "timer"}, carrier{Scenario: "phone_answers"}, "caller_hung_up"},
		{"CANCEL crosses the answer", carrier{Scenario: "crossed"}, carrier{Scenario: "phone_answers"}, "caller_hung_up"},
		{"INFO and REFER", carrier{Scenario: "plain", Asks: true}, carrier{Scenario: "phone_digit"}, "caller_hung_up"},
		{"carrier by TCP", carrier{Scenario: "plain", Asks: true, TCP: true}, carrier{Scenario: "phone_digit"}, "caller_hung_up"},
		{"offerless by TCP", carrier{Scenario: "plain", Asks: true, TCP: true, Offerless: true}, carrier{Scenario: "phone_digit"}, "caller_hung_up"},
		{"glare", carrier{Scenario: "glare"}, carrier{Scenario: "phone_glare"}, "caller_hung_up"},
		{"phone holds", carrier{Scenario: "is_held"}, carrier{Scenario: "phone_holds"}, "callee_hung_up"},
		{"phone transfers", carrier{Scenario: "transferred"}, carrier{Scenario: "phone_transfers"}, "transferred"},
		{"several early dialogs", carrier{Scenario: "plain"}, carrier{Scenario: "phone_forks"}, "caller_hung_up"},
		{"lost ACK", carrier{Scenario: "plain"}, carrier{Scenario: "phone_resends"}, "caller_hung_up"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			b := (&bridge{}).start(t)
			phone := b.takes(t, &c.callee)
			caller := b.calls(t, &c.caller)
			caller.finish(t)
			phone.finish(t)
			if record := b.record(t); record["ending"] != c.ending {
				t.Errorf("the call ended as %v, want %s", record["ending"], c.ending)
			}
			b.stop(t)
		})
	}
}

// TestPhoneRefuses: what the caller gets where the only phone does not want the call.
func TestPhoneRefuses(t *testing.T) {
	t.Parallel()
	b := (&bridge{}).start(t)
	for _, c := range []struct {
		status string
		final  int
	}{
		{"302 Moved Temporarily", 480}, // neither followed nor passed on
		{"486 Busy Here", 486},
		{"603 Decline", 603},
	} {
		phone := b.takes(t, &carrier{Scenario: "phone_refuses", Status: c.status})
		b.calls(t, &carrier{Scenario: "refused", Final: c.final}).finish(t)
		phone.finish(t)
	}
	b.stop(t)
}

// TestOddInvites: INVITEs that are refused for their header alone.
func TestOddInvites(t *testing.T) {
	t.Parallel()
	b := (&bridge{}).start(t)
	phone := b.takes(t, &carrier{Scenario: "phone_answers"})
	first := b.calls(t, &carrier{Scenario: "crossed"})
	first.finish(t)
	phone.finish(t)
	mark := "X-Reveille-Loop: " + header(phone.received(t, "INVITE ")[0], "X-Reveille-Loop")
	for _, c := range []struct {
		carrier
		has string
	}{
		{carrier{Hops: 0, Final: 483, Header: "Subject: far"}, ""},
		{carrier{Hops: 70, Final: 420, Header: "Require: timetravel"}, "Unsupported: timetravel"},
		{carrier{Hops: 70, Final: 482, Header: mark}, ""},
	} {
		c.Scenario = "odd"
		b.calls(t, &c.carrier).finish(t)
		if final := c.received(t, "SIP/2.0 4")[0]; !strings.Contains(final, c.has) {
			t.Errorf("the answer has no %q:\n%s", c.has, final)
		}
	}
	b.stop(t)
}
