package sip

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/sip/siptest"
)

// twoHosts is a carrier with a preferred and a second host.
func twoHosts(transport string) *zone {
	return &zone{records: []string{
		"_sip._" + transport + ".carrier.example. 3600 IN SRV 10 0 5060 a.carrier.example.",
		"_sip._" + transport + ".carrier.example. 3600 IN SRV 20 0 5060 b.carrier.example.",
		"a.carrier.example. 3600 IN A 192.0.2.9", "b.carrier.example. 3600 IN A 192.0.2.10", "carrier.example. 3600 IN A 192.0.2.11"}}
}

// withZone runs a test with a trunk at carrier.example, whose hosts a and b
// are told by the zone. change may alter the bed before it starts.
func withZone(t *testing.T, trunk TrunkConfig, z *zone, change func(a, b *carrier), test func(a, b *carrier)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		bed := &serverBed{t: t, net: siptest.NewNetwork(), calls: make(chan *Inbound, 10), over: make(chan struct{})}
		z.serve(t, bed.net.Host("192.0.2.53"), "192.0.2.53:53")
		yes := func(m *siptest.Message) reply { return grants(600) }
		a, b := &carrier{b: bed, script: yes}, &carrier{b: bed, script: yes, ip: "192.0.2.10"}
		a.open()
		b.open()
		if change != nil {
			change(a, b)
		}
		trunk.Registrar = "sip:carrier.example"
		bed.start(bedOptions{trunks: []TrunkConfig{trunk}, config: func(c *Config) { c.Resolvers = []string{"192.0.2.53"} }})
		defer func() { close(bed.over); bed.end(); a.restart(nil); b.restart(nil) }()
		test(a, b)
	})
}

// by holds which target the trunk uses.
func (c *carrier) by(want string) {
	c.b.t.Helper()
	if got := c.b.srv.Trunks()[0].State().Target; got != want {
		c.b.t.Errorf("the trunk uses %q, want %q", got, want)
	}
}

func silence(*siptest.Message) reply { return reply{} }

func TestRFC3263TrunkGoesOnToTheNextTargetOnSilence503AndTransportError(t *testing.T) {
	for _, c := range []struct {
		name, transport string
		after           time.Duration
		fault           func(a *carrier)
	}{
		{"silence", "udp", 6 * time.Second, func(a *carrier) { a.follow(silence) }},
		{"silence", "tcp", 6 * time.Second, func(a *carrier) { a.follow(silence) }},
		{"503", "udp", 0, func(a *carrier) { a.follow(func(*siptest.Message) reply { return reply{code: 503} }) }},
		{"503", "tcp", 0, func(a *carrier) { a.follow(func(*siptest.Message) reply { return reply{code: 503} }) }},
		{"refused", "tcp", 0, func(a *carrier) { a.listen.Close() }},
		{"hangs up", "tcp", 0, func(a *carrier) { a.follow(func(*siptest.Message) reply { return reply{hangUp: true} }) }},
	} {
		t.Run(c.name+" "+c.transport, func(t *testing.T) {
			trunk := loginAt(c.transport)
			withZone(t, trunk, twoHosts(c.transport), func(a, _ *carrier) { c.fault(a) }, func(a, b *carrier) {
				time.Sleep(c.after)
				a.state("registered", true, 200)
				a.by(c.transport + "://192.0.2.10:5060")
				if b.requests() != 1 {
					t.Errorf("%d requests came to the second host", b.requests())
				}
			})
		})
	}
}

// It comes back to the better one at the next REGISTER, once that has rested,
// and the connection that is no longer wanted is closed.
func TestRFC3263TrunkReturnsToTheBetterTarget(t *testing.T) {
	byBoth(t, func(t *testing.T, transport string) {
		busy := func(*siptest.Message) reply { return reply{code: 503} }
		withZone(t, loginAt(transport), twoHosts(transport), func(a, _ *carrier) { a.follow(busy) }, func(a, b *carrier) {
			a.by(transport + "://192.0.2.10:5060")
			a.follow(func(*siptest.Message) reply { return grants(600) })
			a.within(480*time.Second, 481*time.Second)
			a.by(transport + "://192.0.2.9:5060")
			b.silent(400 * time.Second)
			if transport == "tcp" && b.b.srv.transport.streamTo("TCP", b.b.srv.Trunks()[0].up.found.targets[1].addr) != nil {
				t.Error("the connection to the second host is still open")
			}
		})
	})
}

// All targets fail: the trunk backs off, and tries both each time.
func TestRFC3263TrunkWhoseTargetsAllFail(t *testing.T) {
	busy := func(*siptest.Message) reply { return reply{code: 503} }
	withZone(t, loginAt("udp"), twoHosts("udp"), func(a, b *carrier) { a.follow(busy); b.follow(busy) }, func(a, b *carrier) {
		a.state("failed", false, 503)
		time.Sleep(10 * time.Minute)
		if n := a.requests() + b.requests(); n < 8 || n > 16 {
			t.Errorf("%d REGISTERs in ten minutes", n)
		}
		b.follow(func(*siptest.Message) reply { return grants(600) })
		time.Sleep(7 * time.Minute)
		b.state("registered", true, 200)
		b.by("udp://192.0.2.10:5060")
	})
}

// A call may come from any host of the carrier, also one we do not use.
func TestRFC3263CallsFromEveryTargetAreTheTrunks(t *testing.T) {
	withZone(t, loginAt("udp"), twoHosts("udp"), nil, func(a, b *carrier) {
		a.by("udp://192.0.2.9:5060")
		for _, ip := range []string{"192.0.2.9", "192.0.2.10", "192.0.2.11"} {
			conn, err := a.b.net.Host(ip).ListenPacket(t.Context(), "udp", ip+":5070")
			if err != nil {
				t.Fatal(err)
			}
			send := message("INVITE sip:4930@192.0.2.1 SIP/2.0", "", "Via: SIP/2.0/UDP "+ip+":5070;branch=z9hG4bK"+ip)
			conn.WriteTo([]byte(strings.Replace(send, "Call-ID: ", "Call-ID: "+ip, 1)), netUDP("192.0.2.1:5060"))
			in := a.b.taken()
			if in.Trunk().Name() != "carrier" {
				t.Errorf("a call from %s is %s's", ip, in.Trunk().Name())
			}
			in.Refuse(&Refused{Code: 404})
			conn.Close()
		}
	})
}

func TestTrunkSurvivesAFailureOfTheDNS(t *testing.T) {
	z := twoHosts("udp")
	z.silent = true
	withZone(t, loginAt("udp"), z, nil, func(a, b *carrier) {
		a.state("registering", false, 0)
		time.Sleep(dnsTotal + time.Second)
		s := a.state("failed", false, 0)
		for _, want := range []string{"SRV", "_sip._udp.carrier.example", "192.0.2.53:53", "sip.resolvers"} {
			if !strings.Contains(s.LastError, want) {
				t.Errorf("%q does not say %s", s.LastError, want)
			}
		}
		z.mute(false)
		time.Sleep(20 * time.Second)
		a.state("registered", true, 200)
		z.mute(true) // for longer than the TTL
		time.Sleep(3 * time.Hour)
		a.state("registered", true, 200)
	})
}

// A host that dies is noticed by OPTIONS, long before the next REGISTER.
func TestTrunkMovesItsRegistrationWhenOPTIONSFail(t *testing.T) {
	trunk := loginAt("udp")
	trunk.OptionsInterval = 30 * time.Second
	withZone(t, trunk, twoHosts("udp"), nil, func(a, b *carrier) {
		time.Sleep(time.Second)
		a.by("udp://192.0.2.9:5060")
		a.follow(silence)
		time.Sleep(40 * time.Second)
		a.by("udp://192.0.2.10:5060")
		seen := fmt.Sprint(b.methods())
		if !strings.Contains(seen, "REGISTER") || !strings.Contains(seen, "OPTIONS") {
			t.Errorf("the second host got %s", seen)
		}
		a.state("registered", true, 200)
	})
}

// methods are those of all requests that came.
func (c *carrier) methods() (out []string) {
	c.requests()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.got {
		out = append(out, m.Method())
	}
	return out
}
