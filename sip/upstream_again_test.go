package sip

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"reveille/sip/siptest"
)

func TestUpstreamsRegisterAgainWhenOurAddressHasChanged(t *testing.T) {
	inOffice(t, "udp", func(o *office) {
		o.set(accounts(1000, 1500))
		time.Sleep(20 * time.Second)
		before, since := o.made(), time.Now()
		o.b.srv.Trunks()[0].up.moved() // what the watch of the address does
		time.Sleep(20 * time.Second)
		o.steady(since, upstreamRate+4)
		if n := o.made() - before; n != 500 {
			t.Errorf("%d of 500 were registered again", n)
		}
	})
}

func TestUpstreamsAskAtOnceWhenOPTIONSFindThePBXAgain(t *testing.T) {
	inOffice(t, "udp", func(o *office) {
		o.change(func() { o.down = true })
		o.set(accounts(1000, 1100))
		time.Sleep(20 * time.Minute) // the wait is minutes by now
		o.counts(0, 0, 100)
		o.change(func() { o.down = false })
		o.b.srv.Trunks()[0].up.back()
		time.Sleep(10 * time.Second)
		o.counts(100, 0, 0)
	})
}

func TestRetryAfterOfAPBXGoesForAllUpstreams(t *testing.T) {
	inOffice(t, "udp", func(o *office) {
		script := o.answer
		busy := 0
		o.follow(func(m *siptest.Message) reply { // an overload that passes
			if busy++; busy <= 30 {
				return reply{code: 503, headers: []string{"Retry-After: 120"}}
			}
			return script(m)
		})
		since := time.Now()
		o.set(accounts(1000, 1100))
		time.Sleep(80 * time.Second)
		o.counts(0, 0, 100)
		o.state("unreachable", false, 0)
		if n := tries(o, since); n > 5 {
			t.Errorf("%d REGISTERs met a 503, want one that counts for all", n)
		}
		time.Sleep(3 * time.Hour)
		o.counts(100, 0, 0)
	})
}

func TestUpstreamSecretsAreInNoStateAndNoError(t *testing.T) {
	inOffice(t, "udp", func(o *office) {
		o.set([]Upstream{account(1000, "hunter2-is-wrong")})
		time.Sleep(5 * time.Second)
		shown := fmt.Sprintf("%+v %+v %v", o.b.srv.Upstreams(), o.b.srv.Trunks()[0].State(), account(1000, "hunter2-is-wrong"))
		if strings.Contains(shown, "hunter2") {
			t.Errorf("a password shows in %s", shown)
		}
	})
}

// A PBX that comes back when the one that asks for it has made its last try: the next does not wait for minutes.
func TestUpstreamsAskAgainWhenThePBXIsBackTooLateForTheLastOne(t *testing.T) {
	inOffice(t, "udp", func(o *office) {
		o.change(func() { o.down = true })
		o.set(accounts(1000, 1100))
		time.Sleep(20 * time.Minute)
		probing := func() bool {
			u := o.b.srv.Trunks()[0].upstreams
			u.mu.Lock()
			defer u.mu.Unlock()
			return u.outage.probing
		}
		until(o.b.t, "nobody asks for the PBX", func() bool { return !probing() })
		until(o.b.t, "one asks for the PBX", probing)
		time.Sleep(31*time.Second + 600*time.Millisecond) // it makes its last try after 31.5 s, and gives up after 32
		o.change(func() { o.down = false })
		o.b.srv.Trunks()[0].up.back()
		time.Sleep(10 * time.Second)
		o.counts(100, 0, 0)
	})
}

// A PBX of two servers that are down for long: the one that asks for it asks both, and goes on.
func TestUpstreamsAskBothServersOfAPBX(t *testing.T) {
	inOffice(t, "udp", func(o *office) {
		o.change(func() { o.down = true })
		o.set(accounts(1000, 1100))
		time.Sleep(time.Minute)
		up := o.b.srv.Trunks()[0].up
		up.mu.Lock()
		second := up.found.targets[0]
		second.addr = netip.MustParseAddrPort("192.0.2.77:5060")
		up.found.targets = append(up.found.targets, second)
		up.found.until = time.Now().Add(24 * time.Hour)
		up.mu.Unlock()
		time.Sleep(time.Hour)
		o.counts(0, 0, 100)
		o.change(func() { o.down = false })
		time.Sleep(15 * time.Minute)
		o.counts(100, 0, 0)
	})
}
