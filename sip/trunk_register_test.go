package sip

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/sip/siptest"
)

// byBoth runs a test over UDP and TCP.
func byBoth(t *testing.T, test func(t *testing.T, transport string)) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) { test(t, transport) })
	}
}

func TestTrunkRegistersRefreshesAndUnregisters(t *testing.T) {
	byBoth(t, func(t *testing.T, transport string) {
		ask := func(m *siptest.Message) reply {
			if nonceOf(m, "Authorization") != "one" {
				return asks("one", "")
			}
			return grants(300)
		}
		withCarrier(t, loginAt(transport), ask, func(c *carrier) {
			s := c.state("registered", true, 200)
			if left := time.Until(s.Expires); left != 300*time.Second {
				t.Errorf("expires in %v", left)
			}
			m, _ := c.last()
			for header, want := range map[string]string{"To": "<sip:4930@192.0.2.9>", "CSeq": "2 REGISTER", "Expires": "600"} {
				if m.Get(header) != want {
					t.Errorf("%s: %q, want %q", header, m.Get(header), want)
				}
			}
			if !strings.HasPrefix(m.Start, "REGISTER sip:192.0.2.9 ") || !strings.Contains(m.Get("Contact"), "sip:4930@192.0.2.1:") {
				t.Errorf("%s, Contact %s", m.Start, m.Get("Contact"))
			}
			if c.requests() != 2 {
				t.Errorf("%d REGISTERs, want two", c.requests())
			}
			again := c.within(240*time.Second, 241*time.Second) // 80 % of 300 s
			if nonceOf(again, "Authorization") != "one" || !strings.Contains(again.Get("Authorization"), "nc=00000002") {
				t.Errorf("the refresh carries %s", again.Get("Authorization"))
			}
			if again.Get("Call-ID") != m.Get("Call-ID") || again.Get("CSeq") != "3 REGISTER" {
				t.Errorf("the refresh is %s of %s", again.Get("CSeq"), again.Get("Call-ID"))
			}
			c.b.end()
			if m, _ := c.last(); expiresOf(m) != 0 {
				t.Errorf("the last REGISTER has Expires %d", expiresOf(m))
			}
			c.state("unregistered", false, 200)
		})
	})
}

// A nonce that has become stale costs one more REGISTER, with stale=true or without.
func TestTrunkMeetsAStaleNonce(t *testing.T) {
	for _, stale := range []string{", stale=true", ", stale=false", ""} {
		t.Run(stale, func(t *testing.T) {
			nonce := "one"
			ask := func(m *siptest.Message) reply {
				if nonceOf(m, "Authorization") != nonce {
					return asks(nonce, stale)
				}
				return grants(100)
			}
			withCarrier(t, loginAt("udp"), ask, func(c *carrier) {
				c.state("registered", true, 200)
				c.mu.Lock()
				nonce = "two"
				c.mu.Unlock()
				c.within(80*time.Second, 81*time.Second)
				time.Sleep(time.Second)
				c.state("registered", true, 200)
				if c.requests() != 4 {
					t.Errorf("%d REGISTERs, want 4", c.requests())
				}
			})
		})
	}
}

// An outbound proxy may ask for credentials of its own before the registrar does.
func TestTrunkIsAskedByProxyAndRegistrar(t *testing.T) {
	ask := func(m *siptest.Message) reply {
		switch {
		case nonceOf(m, "Proxy-Authorization") == "":
			return reply{code: 407, headers: []string{`Proxy-Authenticate: Digest realm="edge", nonce="p"`}}
		case nonceOf(m, "Authorization") == "":
			return asks("one", "")
		}
		return grants(300)
	}
	withCarrier(t, loginAt("udp"), ask, func(c *carrier) {
		c.state("registered", true, 200)
		if c.requests() != 3 {
			t.Errorf("%d REGISTERs, want 3", c.requests())
		}
	})
}

func TestTrunkWithAWrongPassword(t *testing.T) {
	byBoth(t, func(t *testing.T, transport string) {
		for _, code := range []int{401, 403} {
			refuse := func(m *siptest.Message) reply {
				if code == 403 && nonceOf(m, "Authorization") != "" {
					return reply{code: 403, hangUp: true}
				}
				return asks("one", "")
			}
			withCarrier(t, loginAt(transport), refuse, func(c *carrier) {
				s := c.state("failed", false, code)
				if s.LastError == "" || strings.Contains(s.LastError, "secret") || time.Until(s.NextTry) < 44*time.Second {
					t.Errorf("state %+v", s)
				}
				if c.requests() != 2 {
					t.Errorf("%d REGISTERs, want one with and one without credentials", c.requests())
				}
				c.within(44*time.Second, 76*time.Second) // a minute, give or take a quarter
				c.follow(func(*siptest.Message) reply { return grants(300) })
				time.Sleep(3 * time.Minute)
				c.state("registered", true, 200)
			})
		}
	})
}

func TestTrunkIsToldAHigherMinimum(t *testing.T) {
	ask := func(m *siptest.Message) reply {
		if expiresOf(m) < 1800 {
			return reply{code: 423, headers: []string{"Min-Expires: 1800"}}
		}
		return grants(expiresOf(m))
	}
	withCarrier(t, loginAt("udp"), ask, func(c *carrier) {
		c.state("registered", true, 200)
		c.within(1440*time.Second, 1441*time.Second)
		time.Sleep(time.Second)
		if c.requests() > 4 {
			t.Errorf("%d REGISTERs, want 4 at most", c.requests())
		}
	})
	withCarrier(t, loginAt("udp"), func(*siptest.Message) reply { return reply{code: 423} }, func(c *carrier) {
		c.state("failed", false, 423)
	})
}

func TestTrunkHeedsRetryAfter(t *testing.T) {
	byBoth(t, func(t *testing.T, transport string) {
		busy := func(*siptest.Message) reply { return reply{code: 503, headers: []string{"Retry-After: 120 (soon)"}} }
		withCarrier(t, loginAt(transport), busy, func(c *carrier) {
			c.state("failed", false, 503)
			c.within(90*time.Second, 151*time.Second)
		})
	})
}

// An error that says nothing more is tried again after 2 s, doubling to 5 min.
func TestTrunkBacksOff(t *testing.T) {
	byBoth(t, func(t *testing.T, transport string) {
		for _, hangUp := range []bool{false, true} {
			broken := func(*siptest.Message) reply { return reply{code: 500, hangUp: hangUp} }
			withCarrier(t, loginAt(transport), broken, func(c *carrier) {
				c.state("failed", false, 500)
				for _, wait := range []time.Duration{2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
					c.within(wait*time.Second*3/4-20*time.Millisecond, wait*time.Second*5/4+20*time.Millisecond)
				}
			})
		}
	})
}

func TestTrunkWhoseRegistrarIsSilent(t *testing.T) {
	withCarrier(t, loginAt("udp"), func(*siptest.Message) reply { return reply{} }, func(c *carrier) {
		c.state("registering", false, 0)
		time.Sleep(33 * time.Second)
		c.state("failed", false, 0)
		if n := c.requests(); n < 7 || n > 12 {
			t.Errorf("%d REGISTERs in 32 s, want what Timer E makes", n)
		}
		c.follow(func(*siptest.Message) reply { return grants(300) })
		time.Sleep(5 * time.Second)
		c.state("registered", true, 200)
	})
}

// A registration that cannot be refreshed holds until it expires, not longer.
func TestTrunkIsDownWhenItsRegistrationExpires(t *testing.T) {
	withCarrier(t, loginAt("udp"), func(*siptest.Message) reply { return grants(300) }, func(c *carrier) {
		c.state("registered", true, 200)
		c.follow(func(*siptest.Message) reply { return reply{code: 503, headers: []string{"Retry-After: 3600"}} })
		time.Sleep(241 * time.Second)
		c.state("failed", true, 503)
		time.Sleep(60 * time.Second)
		c.state("failed", false, 503)
	})
}

// A registrar that restarts has forgotten us, and closes the connection.
func TestTrunkWhoseRegistrarRestarts(t *testing.T) {
	withCarrier(t, loginAt("tcp"), func(*siptest.Message) reply { return grants(600) }, func(c *carrier) {
		c.state("registered", true, 200)
		time.Sleep(time.Minute)
		c.restart(func() {})
		c.within(time.Second, 3*time.Second)
		c.state("registered", true, 200)
		c.silent(7 * time.Minute)

		c.restart(func() { time.Sleep(20 * time.Second) }) // away for a while
		c.within(0, 30*time.Second)
		c.state("registered", true, 200)
	})
}

// The connection may end behind the 200, before the trunk waits for that.
func TestTrunkWhoseConnectionEndsBehindThe200(t *testing.T) {
	first := true
	script := func(*siptest.Message) reply {
		r := grants(600)
		r.hangUp, first = first, false
		return r
	}
	withCarrier(t, loginAt("tcp"), script, func(c *carrier) {
		c.within(time.Second, 3*time.Second)
		c.silent(7 * time.Minute)
	})
}

// Other Contacts of the same user are listed too; ours counts.
func TestTrunkReadsItsOwnContact(t *testing.T) {
	script := func(m *siptest.Message) reply {
		own := m.Get("Contact")
		return grants(3600, "Contact: "+own+";expires=100", "Contact: <sip:4930@198.51.100.7:5060>;expires=3000")
	}
	withCarrier(t, loginAt("udp"), script, func(c *carrier) {
		c.within(80*time.Second, 81*time.Second)
	})
}

func TestTrunkBehindAProxy(t *testing.T) {
	trunk := loginAt("udp")
	trunk.Registrar, trunk.OutboundProxy = "sip:198.51.100.99", "sip:192.0.2.9"
	withCarrier(t, trunk, func(*siptest.Message) reply { return grants(300) }, func(c *carrier) {
		c.state("registered", true, 200)
		m, _ := c.last()
		if m.Get("Route") != "<sip:192.0.2.9;lr>" || !strings.HasPrefix(m.Start, "REGISTER sip:198.51.100.99 ") {
			t.Errorf("%s, Route %s", m.Start, m.Get("Route"))
		}
	})
}

func TestPeerIsProbed(t *testing.T) {
	trunk := TrunkConfig{Name: "pbx", Peers: []string{"192.0.2.9"}, OptionsInterval: 30 * time.Second}
	up := func(*siptest.Message) reply { return reply{code: 404} } // any answer will do
	withCarrier(t, trunk, up, func(c *carrier) {
		c.state("reachable", true, 0)
		m := c.within(30*time.Second, 31*time.Second)
		if m.Method() != "OPTIONS" {
			t.Errorf("the probe is %s", m.Start)
		}
		c.follow(func(*siptest.Message) reply { return reply{} })
		time.Sleep(70 * time.Second)
		s := c.state("unreachable", false, 0)
		if s.LastError == "" {
			t.Error("no error says why")
		}
		c.follow(up)
		time.Sleep(70 * time.Second)
		c.state("reachable", true, 0)
	})
}

// The trunk that a call comes from, where several share an address.
func TestTrunkOfACall(t *testing.T) {
	peer := TrunkConfig{Name: "pbx", Peers: []string{"192.0.2.9"}}
	other := loginAt("tcp")
	other.Name, other.Username = "other", "4940"
	for name, c := range map[string]struct {
		user string
		tcp  bool // by the connection of `carrier`'s registration
		want string
	}{
		"our user name":                    {"4930", false, "carrier"},
		"the other's user name":            {"4940", false, "other"},
		"a number":                         {"1001", false, "pbx"},
		"a number, by its connection":      {"1001", true, "carrier"},
		"a user name, by its connection":   {"4930", true, "carrier"},
		"another's user name by the first": {"4940", true, "carrier"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &serverBed{t: t, net: siptest.NewNetwork(), calls: make(chan *Inbound, 10), over: make(chan struct{})}
				far := &carrier{b: b, script: func(*siptest.Message) reply { return grants(300) }}
				far.open()
				b.start(bedOptions{trunks: []TrunkConfig{peer, loginAt("tcp"), other}})
				defer func() { close(b.over); b.end(); far.restart(nil) }()
				synctest.Wait()
				text := message(fmt.Sprintf("INVITE sip:%s@192.0.2.1 SIP/2.0", c.user), "", "Via: SIP/2.0/TCP 192.0.2.9:5060;branch=z9hG4bKone")
				var conn = b.srv.Trunks()[1]
				conn.up.mu.Lock()
				own := conn.up.flow.local()
				conn.up.mu.Unlock()
				var w *wire
				for _, open := range far.conns {
					if c.tcp && open.RemoteAddr().String() == own.String() {
						w = &wire{t: t, conn: open}
					}
				}
				if !c.tcp {
					conn, err := b.net.Host("192.0.2.9").DialContext(t.Context(), "tcp", "192.0.2.1:5060")
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					w = &wire{t: t, conn: conn}
				}
				w.send(text)
				in := b.taken()
				if in.Trunk().Name() != c.want {
					t.Errorf("the call is %s's, want %s", in.Trunk().Name(), c.want)
				}
				in.Refuse(&Refused{Code: 404})
			})
		})
	}
}
