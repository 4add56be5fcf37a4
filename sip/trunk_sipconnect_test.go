package sip

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"reveille/sip/siptest"
)

// RFC 6140: one REGISTER for all numbers.
func TestRFC6140RegistersAllNumbersAtOnce(t *testing.T) {
	trunk := loginAt("udp")
	trunk.GIN = true
	withCarrier(t, trunk, grant600, func(c *carrier) {
		m, _ := c.last()
		for header, want := range map[string]string{"Contact": "<sip:192.0.2.1:5060;bnc>", "Require": "gin", "Proxy-Require": "gin", "To": "<sip:4930@192.0.2.9>"} {
			if m.Get(header) != want {
				t.Errorf("%s: %s, want %s", header, m.Get(header), want)
			}
		}
		c.state("registered", true, 200)
		c.within(480*time.Second, 481*time.Second)
	})
	none := func(*siptest.Message) reply { return reply{code: 420, headers: []string{"Unsupported: gin"}} }
	withCarrier(t, trunk, none, func(c *carrier) {
		if s := c.state("failed", false, 420); !strings.Contains(s.LastError, "remove gin") {
			t.Errorf("%q", s.LastError)
		}
	})
}

// What the carrier calls then: any number, with user=phone or not, at our host.
func TestSIPconnectCallsToAnyE164NumberAreTaken(t *testing.T) {
	trunk := loginAt("udp")
	trunk.GIN = true
	withCarrier(t, trunk, grant600, func(c *carrier) {
		for i, uri := range []string{"sip:+49301234567@192.0.2.1:5060", "sip:+49301234568@192.0.2.1;user=phone", "sip:+49-30-1234569@192.0.2.1;user=phone"} {
			in := c.call(uri, i)
			if got := in.Trunk().Name(); got != "carrier" {
				t.Errorf("%s: %s", uri, got)
			}
			if want := strings.NewReplacer("sip:", "", "-", "").Replace(strings.SplitN(uri, "@", 2)[0]); len(in.Dialled()) == 0 || in.Dialled()[0] != want {
				t.Errorf("%s: dialled is %v", uri, in.Dialled())
			}
			in.Refuse(&Refused{Code: 404})
		}
	})
}

// call sends an INVITE from the carrier's address and gives what the handler got.
func (c *carrier) call(uri string, number int) *Inbound {
	c.b.t.Helper()
	conn, err := c.b.net.Host(c.ip).ListenPacket(c.b.t.Context(), "udp", c.ip+":5070")
	if err != nil {
		c.b.t.Fatal(err)
	}
	defer conn.Close()
	send := message("INVITE "+uri+" SIP/2.0", "", fmt.Sprintf("Via: SIP/2.0/UDP %s:5070;branch=z9hG4bK%d", c.ip, number))
	conn.WriteTo([]byte(strings.Replace(send, "Call-ID: ", fmt.Sprint("Call-ID: ", number), 1)), netUDP("192.0.2.1:5060"))
	return c.b.taken()
}

func TestSIPconnectOPTIONSAreSentAtTheirIntervalAndAnyAnswerIsUp(t *testing.T) {
	for _, code := range []int{200, 401, 403, 404, 405, 483, 500, 501} {
		trunk := loginAt("udp")
		trunk.OptionsInterval = 30 * time.Second
		withCarrier(t, trunk, grant600, func(c *carrier) {
			c.follow(func(m *siptest.Message) reply {
				if m.Method() == "OPTIONS" {
					return reply{code: code}
				}
				return grants(600)
			})
			m := c.within(29*time.Second, 31*time.Second)
			if m.Method() != "OPTIONS" || !strings.HasPrefix(m.Start, "OPTIONS sip:192.0.2.9 ") {
				t.Errorf("%s", m.Start)
			}
			time.Sleep(2 * time.Minute)
			c.state("registered", true, 200)
		})
	}
}

// 408, 503 and silence are down at the second miss, which follows sooner.
func TestSIPconnectOPTIONSDownAfterTwoMissesThenAskedMoreOften(t *testing.T) {
	for _, code := range []int{0, 408, 503} {
		trunk := TrunkConfig{Name: "pbx", Peers: []string{"192.0.2.9"}, OptionsInterval: time.Minute}
		withCarrier(t, trunk, func(*siptest.Message) reply { return reply{code: 200} }, func(c *carrier) {
			c.state("reachable", true, 0)
			c.follow(func(*siptest.Message) reply { return reply{code: code} })
			c.within(59*time.Second, 61*time.Second)
			time.Sleep(targetPatience)
			if s := c.state("reachable", true, 0); s.LastError == "" {
				t.Error("one miss is not shown")
			}
			c.within(4*time.Second, 11*time.Second)
			time.Sleep(targetPatience)
			c.state("unreachable", false, 0)
			c.within(0, 11*time.Second)
			c.follow(func(*siptest.Message) reply { return reply{code: 200} })
			time.Sleep(20 * time.Second)
			c.state("reachable", true, 0)
		})
	}
}

func TestSIPconnectOPTIONSFromTheTrunkAreAnswered(t *testing.T) {
	withCarrier(t, loginAt("udp"), grant600, func(c *carrier) {
		ask := func(n string) string {
			conn, err := c.b.net.Host(c.ip).ListenPacket(t.Context(), "udp", c.ip+":507"+n)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.WriteTo([]byte(message("OPTIONS sip:192.0.2.1 SIP/2.0", "", "Via: SIP/2.0/UDP "+c.ip+":507"+n+";branch=z9hG4bK"+n, "Call-ID: "+n)), netUDP("192.0.2.1:5060"))
			buf := make([]byte, 4096)
			k, _, err := conn.ReadFrom(buf)
			if err != nil {
				t.Fatal(err)
			}
			return string(buf[:k])
		}
		answer := ask("1")
		for _, want := range []string{"SIP/2.0 200", "\r\nAllow: ", "\r\nSupported: ", "\r\nAccept: application/sdp"} {
			if !strings.Contains(answer, want) {
				t.Errorf("no %q in %s", want, answer)
			}
		}
		c.b.srv.Drain(time.Minute)
		if answer = ask("2"); !strings.HasPrefix(answer, "SIP/2.0 503") || !strings.Contains(answer, "Retry-After: 60") {
			t.Errorf("while draining: %s", answer)
		}
	})
}

// The registrar routes our requests (RFC 3608) and names what is ours (RFC 7315).
func TestRFC3608ServiceRouteIsUsedOutsideDialogs(t *testing.T) {
	trunk := loginAt("udp")
	trunk.OptionsInterval = 30 * time.Second
	trunk.OutboundProxy = "sip:192.0.2.9"
	script := func(m *siptest.Message) reply {
		return grants(600, "Service-Route: <sip:p1.example;lr>, <sip:p2.example;lr>")
	}
	withCarrier(t, trunk, script, func(c *carrier) {
		m := c.within(29*time.Second, 31*time.Second)
		if got := strings.Join(m.All("Route"), ", "); got != "<sip:192.0.2.9;lr>, <sip:p1.example;lr>, <sip:p2.example;lr>" {
			t.Errorf("Route %s", got)
		}
		if s := c.b.srv.Trunks()[0].State(); !slices.Equal(s.ServiceRoute, []string{"sip:p1.example;lr", "sip:p2.example;lr"}) {
			t.Errorf("%v", s.ServiceRoute)
		}
		for c.last2().Method() != "REGISTER" { // a REGISTER is routed by the proxy alone
			time.Sleep(10 * time.Second)
		}
		if got := strings.Join(c.last2().All("Route"), ", "); got != "<sip:192.0.2.9;lr>" {
			t.Errorf("REGISTER: Route %s", got)
		}
	})
}

func (c *carrier) last2() *siptest.Message {
	m, _ := c.last()
	return m
}

func TestRFC7315AssociatedURIsTellTheTrunkOfACall(t *testing.T) {
	trunk, other := loginAt("udp"), loginAt("udp")
	other.Name, other.Username = "other", "4940"
	script := func(m *siptest.Message) reply {
		if strings.Contains(m.Get("To"), "4940") {
			return grants(600, "P-Associated-URI: <sip:+49401@carrier.example>, <tel:+49402>")
		}
		return grants(600)
	}
	withTrunks(t, []TrunkConfig{trunk, other}, script, func(c *carrier) {
		for number, want := range map[string]string{"+49401": "other", "+49402": "other", "+49403": "carrier"} {
			in := c.call("sip:"+number+"@192.0.2.1", len(want))
			if got := in.Trunk().Name(); got != want {
				t.Errorf("%s: %s, want %s", number, got, want)
			}
			in.Refuse(&Refused{Code: 404})
			time.Sleep(time.Minute)
		}
		if s := c.b.srv.Trunks()[1].State(); !slices.Equal(s.Associated, []string{"sip:+49401@carrier.example", "tel:+49402"}) {
			t.Errorf("%v", s.Associated)
		}
	})
}
