package sip

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reveille/sip/siptest"
)

func grant600(*siptest.Message) reply { return grants(600) }

// A registrar that was away behind UDP closes nothing: OPTIONS tell, and it is
// registered at again as soon as it answers.
func TestReregistersWhenOPTIONSFindTheServerBack(t *testing.T) {
	trunk := loginAt("udp")
	trunk.OptionsInterval = 30 * time.Second
	withCarrier(t, trunk, grant600, func(c *carrier) {
		time.Sleep(31 * time.Second)
		c.state("registered", true, 200)
		c.follow(silence)
		time.Sleep(75 * time.Second)
		if s := c.state("unreachable", false, 200); !strings.Contains(s.LastError, "OPTIONS") {
			t.Errorf("%q", s.LastError)
		}
		c.follow(grant600)
		before := strings.Count(strings.Join(c.methods(), " "), "REGISTER")
		time.Sleep(12 * time.Second)
		c.state("registered", true, 200)
		if n := strings.Count(strings.Join(c.methods(), " "), "REGISTER"); n != before+1 {
			t.Errorf("%d REGISTERs after it came back, want one", n-before)
		}
	})
}

// until waits in virtual time, for at most ten minutes.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within ten minutes", what)
		}
	}
}

// A server that comes back when the REGISTER under way has made its last try: the next does not wait for minutes.
func TestReregistersWhenTheServerIsBackTooLateForTheLastTry(t *testing.T) {
	withCarrier(t, loginAt("udp"), silence, func(c *carrier) {
		time.Sleep(20 * time.Minute)
		trunk := c.b.srv.Trunks()[0]
		running := func() bool {
			trunk.login.mu.Lock()
			defer trunk.login.mu.Unlock()
			return trunk.login.running
		}
		until(t, "no REGISTER is under way", func() bool { return !running() })
		until(t, "a REGISTER is under way", running)
		time.Sleep(31*time.Second + 600*time.Millisecond) // it makes its last try after 31.5 s, and gives up after 32
		c.follow(grant600)
		trunk.up.back()
		time.Sleep(5 * time.Second)
		c.state("registered", true, 200)
	})
}

// A server that is said to be back, and then answers that it wants to be left alone, is.
func TestReregistersWhenTheServerAsksEvenIfItIsBack(t *testing.T) {
	var up *uplink
	busy := func(*siptest.Message) reply {
		if up != nil {
			up.back()
		}
		return reply{code: 503, headers: []string{"Retry-After: 600"}}
	}
	withCarrier(t, loginAt("udp"), silence, func(c *carrier) {
		up = c.b.srv.Trunks()[0].up
		c.follow(busy)
		time.Sleep(5 * time.Minute)
		before := c.requests()
		if c.state("failed", false, 503); before == 0 {
			t.Error("the server was not asked")
		}
		time.Sleep(2 * time.Minute)
		if n := c.requests() - before; n > 0 {
			t.Errorf("%d REGISTERs within the time that the server asked for", n)
		}
	})
}

func TestReregistersAfter408And500(t *testing.T) {
	for _, code := range []int{408, 500} {
		withCarrier(t, loginAt("udp"), func(*siptest.Message) reply { return reply{code: code} }, func(c *carrier) {
			c.state("failed", false, code)
			c.follow(grant600)
			c.within(time.Second, 3*time.Second)
			time.Sleep(time.Second)
			c.state("registered", true, 200)
		})
	}
}

// A login that is refused is not repeated quickly, however long it lasts.
func TestReregistersAfter403MinutesApart(t *testing.T) {
	withCarrier(t, loginAt("udp"), func(*siptest.Message) reply { return reply{code: 403} }, func(c *carrier) {
		c.state("failed", false, 403)
		time.Sleep(time.Hour)
		if n := c.requests(); n < 10 || n > 20 {
			t.Errorf("%d REGISTERs in an hour, want one every 1 to 5 minutes", n)
		}
	})
}

// A registrar that asks anew each time is not answered for ever.
func TestReregistrationStopsA401Loop(t *testing.T) {
	n := 0
	ask := func(*siptest.Message) reply {
		n++
		return asks(strings.Repeat("n", n), ", stale=true")
	}
	withCarrier(t, loginAt("udp"), ask, func(c *carrier) {
		c.state("failed", false, 401)
		if n := c.requests(); n > 6 {
			t.Errorf("%d REGISTERs", n)
		}
		c.silent(40 * time.Second)
	})
}

// The server's shorter time counts, in Expires or in our Contact.
func TestReregistersSoonerWhenTheServerShortensExpires(t *testing.T) {
	for _, inContact := range []bool{false, true} {
		short := func(m *siptest.Message) reply {
			if inContact {
				return reply{code: 200, headers: []string{"Contact: " + m.Get("Contact") + ";expires=50"}}
			}
			return grants(50)
		}
		withCarrier(t, loginAt("udp"), short, func(c *carrier) {
			c.within(40*time.Second, 41*time.Second)
		})
	}
}

// A 200 that lists others alone may mean that our binding was not stored: it
// is said, and tried again soon.
func TestReregistersAfterA200WithoutOurContact(t *testing.T) {
	script := func(m *siptest.Message) reply {
		return grants(3600, "Contact: <sip:someone@198.51.100.7>;expires=3000")
	}
	withCarrier(t, loginAt("udp"), script, func(c *carrier) {
		if s := c.state("registered", true, 200); !strings.Contains(s.LastError, "does not list our Contact") {
			t.Errorf("%q", s.LastError)
		}
		c.within(48*time.Second, 49*time.Second)
	})
	none := func(m *siptest.Message) reply {
		return reply{code: 200, headers: []string{"Expires: 100", "X-No: Contact:"}}
	}
	withCarrier(t, loginAt("udp"), none, func(c *carrier) { // lists nobody: many do
		if s := c.state("registered", true, 200); s.LastError != "" {
			t.Errorf("%q", s.LastError)
		}
		c.within(80*time.Second, 81*time.Second)
	})
}

// A machine that has slept may have lost its bindings.
func TestReregistersAfterAClockJump(t *testing.T) {
	var jump atomic.Int64
	withMachine(t, loginAt("udp"), func(b *serverBed) {
		b.srv.wall = func() time.Time { return time.Now().Round(0).Add(time.Duration(jump.Load())) }
	}, nil, func(c *carrier) {
		c.silent(2 * time.Minute)
		jump.Store(int64(time.Hour))
		c.within(0, watchInterval)
		c.silent(2 * time.Minute)
	})
}

// The route to the server leaves from another address: the old binding goes,
// the new one comes.
func TestReregistersWhenOurOwnAddressChanges(t *testing.T) {
	roaming := &roamingNetwork{}
	roaming.at.Store("192.0.2.1")
	withMachine(t, loginAt("udp"), nil, roaming, func(c *carrier) {
		m, _ := c.last()
		if !strings.Contains(m.Get("Contact"), "@192.0.2.1:5060") {
			t.Errorf("Contact %s", m.Get("Contact"))
		}
		roaming.at.Store("198.51.100.20")
		time.Sleep(watchInterval + time.Second)
		c.requests()
		c.mu.Lock()
		removed, added := c.got[len(c.got)-2], c.got[len(c.got)-1]
		c.mu.Unlock()
		if expiresOf(removed) != 0 || !strings.Contains(removed.Get("Contact"), "@192.0.2.1:5060") {
			t.Errorf("the old binding: Expires %d, Contact %s", expiresOf(removed), removed.Get("Contact"))
		}
		if expiresOf(added) != 600 || !strings.Contains(added.Get("Contact"), "@198.51.100.20:5060") {
			t.Errorf("the new binding: Expires %d, Contact %s", expiresOf(added), added.Get("Contact"))
		}
		c.state("registered", true, 200)
		c.silent(2 * time.Minute)
	})
}

// Our NAT gives us another address: what the registrar has leads nowhere.
func TestReregistersWhenReceivedOrRportChange(t *testing.T) {
	trunk := loginAt("udp")
	trunk.OptionsInterval = 30 * time.Second
	withCarrier(t, trunk, grant600, func(c *carrier) { // its NAT is told from the second OPTIONS on
		var port atomic.Int64
		port.Store(40000)
		c.mu.Lock()
		c.seen = func() string {
			return netip.AddrPortFrom(netip.MustParseAddr("203.0.113.5"), uint16(port.Load())).String()
		}
		c.mu.Unlock()
		time.Sleep(time.Minute)
		registers := func() int { return strings.Count(strings.Join(c.methods(), " "), "REGISTER") }
		before := registers()
		time.Sleep(time.Minute)
		if n := registers() - before; n != 0 {
			t.Errorf("%d REGISTERs without need", n)
		}
		port.Store(40001)
		time.Sleep(31 * time.Second)
		if n := registers() - before; n != 1 {
			t.Errorf("%d REGISTERs after the NAT moved us, want one", n)
		}
	})
}

// withMachine is withCarrier for a server that is bound to no address.
func withMachine(t *testing.T, trunk TrunkConfig, change func(*serverBed), roaming *roamingNetwork, test func(c *carrier)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &serverBed{t: t, net: siptest.NewNetwork(), calls: make(chan *Inbound, 10), over: make(chan struct{})}
		c := &carrier{b: b, script: grant600}
		c.open()
		b.prepared = change
		if roaming != nil {
			roaming.Network = b.net.Host("192.0.2.1")
			b.through = roaming
		}
		b.start(bedOptions{trunks: []TrunkConfig{trunk}, config: func(c *Config) { c.Listen = []string{"udp://0.0.0.0:5060"} }})
		defer func() { close(b.over); b.end(); c.restart(nil) }()
		test(c)
	})
}

// roamingNetwork is a machine whose routes change.
type roamingNetwork struct {
	Network
	at atomic.Value
}

func (n *roamingNetwork) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := n.Network.DialContext(ctx, network, addr)
	return roamingConn{c, n.at.Load().(string)}, err
}

type roamingConn struct {
	net.Conn
	at string
}

func (c roamingConn) LocalAddr() net.Addr {
	return net.UDPAddrFromAddrPort(netip.MustParseAddrPort(c.at + ":50000"))
}

// A new connection has another port, so that its Contact is another binding:
// one that leads to a connection that has gone must not stay beside it, least
// of all at a registrar that takes one for each user.
func TestReregistersWithoutTheBindingOfALostConnection(t *testing.T) {
	var held string
	one := func(m *siptest.Message) reply {
		switch contact := m.Get("Contact"); {
		case expiresOf(m) == 0 && contact == held:
			held = ""
		case expiresOf(m) > 0 && (held == "" || contact == held):
			held = contact
		case expiresOf(m) > 0:
			return reply{code: 403}
		}
		return grants(600)
	}
	withCarrier(t, loginAt("tcp"), one, func(c *carrier) {
		time.Sleep(time.Minute)
		for range 3 {
			c.restart(func() {})
			time.Sleep(time.Minute)
			c.state("registered", true, 200)
		}
	})
}
