package sip

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/sip/location"
	"reveille/sip/siptest"
)

const sixBed, sixPeer = "2001:db8::1", "2001:db8:5::9:1"

// overIPv6 runs a test against a bed on IPv6, over UDP.
func overIPv6(t *testing.T, test func(t *testing.T, b *bed, w *wire)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := siptest.NewNetwork()
		b := newBed(t, n.Host(sixBed), nil, "udp://[::]:5060", "tcp://["+sixBed+"]:5060")
		c, err := n.Host(sixPeer).ListenPacket(context.Background(), "udp6", "["+sixPeer+"]:5060")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		test(t, b, &wire{t: t, udp: c, to: net.UDPAddrFromAddrPort(netip.MustParseAddrPort("[" + sixBed + "]:5060"))})
	})
}

func TestRFC5118IPv6TortureMessages(t *testing.T) {
	for name, c := range map[string]struct {
		uri     string
		headers []string
		answer  string // of the parser; "" lets the request through
	}{
		"4.1 valid reference": {"sip:[2001:db8::10]", []string{"Via: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-111",
			"To: <sip:user@example.com>", "From: <sip:user@example.com>;tag=81x2", `Contact: "Caller" <sip:caller@[2001:db8::1]>`}, ""},
		"4.2 reference without brackets": {"sip:2001:db8::10", []string{"Via: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3"}, "400"},
		"4.3 port among the hextets":     {"sip:[2001:db8::10:5070]", nil, ""},
		"4.4 port beside the hextets":    {"sip:[2001:db8::10]:5070", []string{"Via: SIP/2.0/UDP [2001:db8::9:1]:5062;branch=z9hG4bKp"}, ""},
		"4.5 received with brackets":     {"sip:[2001:db8::10]", []string{"Via: SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255];branch=z9hG4bKr"}, ""},
		"4.5 received without brackets":  {"sip:[2001:db8::10]", []string{"Via: SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255;branch=z9hG4bKs"}, ""},
		"4.7 several addresses": {"sip:user@[2001:db8::10]", []string{"Via: SIP/2.0/UDP [2001:db8::9:1]:6050;branch=z9hG4bKm",
			"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKn"}, ""},
		"4.8 IPv4-mapped": {"sip:user@[::ffff:192.0.2.10]", []string{"Contact: <sip:a@[::ffff:192.0.2.1]>"}, ""},
		"4.10 a colon too many, as the grammar of RFC 3261 has it": {"sip:user@[2001:db8:::192.0.2.1]", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			overIPv6(t, func(t *testing.T, b *bed, w *wire) {
				w.send(message("OPTIONS "+c.uri+" SIP/2.0", "", c.headers...))
				synctest.Wait()
				if c.answer != "" {
					w.expect("SIP/2.0 " + c.answer)
					return
				}
				if got := b.seen(); got != "OPTIONS one" {
					t.Fatalf("handled: %q, rejected %s", got, b.rejections())
				}
				b.reply(t, b.last(t), 200)
				res := w.expect("SIP/2.0 200")
				via := headerOf(res, "Via")
				if !strings.Contains(via, ";received="+sixPeer) || strings.Count(via, "received=") != 1 {
					t.Errorf("Via %s", via)
				}
				for _, h := range c.headers {
					if name, value, _ := strings.Cut(h, ": "); name == "Via" && !strings.Contains(res, value[:strings.Index(value, ";")]) {
						t.Errorf("sent-by of %q is changed in %q", value, res)
					}
				}
			})
		})
	}
}

func TestOurViaAndContactOverIPv6(t *testing.T) {
	for external, want := range map[string]string{
		"": "[" + sixBed + "]", "203.0.113.5": "[" + sixBed + "]", "2001:db8:ff::1": "[2001:db8:ff::1]", "pbx.example.com": "pbx.example.com",
	} {
		f := &flow{proto: "TCP", here: netip.MustParseAddrPort("[" + sixBed + "]:5060"), conn: &fuzzConn{}}
		if got := newVia(f, external).Value(); !strings.HasPrefix(got, "SIP/2.0/TCP "+want+":5060;") {
			t.Errorf("external %q: Via %s", external, got)
		}
		s := &Server{cfg: Config{ExternalAddress: external}}
		if got := s.contactHeader(f).Value(); got != "<sip:"+want+":5060;transport=tcp>" {
			t.Errorf("external %q: Contact %s", external, got)
		}
		ip, _ := netip.ParseAddr(strings.Trim(want, "[]"))
		if got := s.addressFor(f); got != ip {
			t.Errorf("external %q: address %s in SDP", external, got)
		}
	}
}

func TestConnectionLimitCountsAnIPv6Network(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := siptest.NewNetwork()
		b := newBed(t, n.Host(sixBed), func(c *Config) { c.Limits.ConnectionsPerIP = 3 }, "tcp://["+sixBed+"]:5060")
		for _, from := range []string{"2001:db8:5:5::1", "2001:db8:5:5::2", "2001:db8:5:5:ffff::3", "2001:db8:5:5::4", "2001:db8:5:6::1"} {
			c, err := n.Host(from).DialContext(context.Background(), "tcp", "["+sixBed+"]:5060")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		synctest.Wait()
		if got := b.rejections(); got != "map[connections_per_ip:1]" {
			t.Errorf("rejected: %s", got)
		}
		time.Sleep(11 * time.Second)
		b.transport.mu.Lock()
		defer b.transport.mu.Unlock()
		if len(b.transport.perIP) != 0 {
			t.Errorf("%v are left", b.transport.perIP)
		}
	})
}

func TestPeersAsIPv6Prefixes(t *testing.T) {
	trunks := []TrunkConfig{{Name: "six", Peers: []string{"2001:db8:5::/48"}}, {Name: "mapped", Peers: []string{"::ffff:198.51.100.0/120"}}}
	loc, err := location.New(location.NewMemory(), location.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer loc.Close()
	s, err := New(DefaultConfig(), trunks, Options{Location: loc, Accounts: accountsOf{}})
	if err != nil {
		t.Fatal(err)
	}
	for ip, want := range map[string]string{"2001:db8:5::9:1": "six", "2001:db8:6::1": "", "198.51.100.7": "mapped", "::ffff:198.51.100.7": "mapped"} {
		got := ""
		f := &flow{proto: "UDP", peer: netip.AddrPortFrom(netip.MustParseAddr(ip), 5060)}
		for _, tr := range s.Trunks() {
			if tr.owns(f) {
				got = tr.Name()
			}
		}
		if got != want {
			t.Errorf("%s is of trunk %q, want %q", ip, got, want)
		}
	}
}

// TestBothFamiliesOverRealSockets: 0.0.0.0 and [::] are one family each and may
// share a port; an address without host is both, for datagrams and streams.
func TestBothFamiliesOverRealSockets(t *testing.T) {
	if c, err := net.ListenPacket("udp6", "[::1]:0"); err != nil {
		t.Skip("no IPv6 here:", err)
	} else {
		c.Close()
	}
	four := newBed(t, SystemNetwork(), nil, "udp://0.0.0.0:0")
	port := netip.MustParseAddrPort(strings.TrimPrefix(four.transport.addresses()[0], "udp://")).Port()
	newBed(t, SystemNetwork(), nil, "udp://"+netip.AddrPortFrom(netip.IPv6Unspecified(), port).String())

	both := newBed(t, SystemNetwork(), nil, "udp://:0", "tcp://:0")
	for i, network := range []string{"udp", "tcp"} {
		_, at, _ := strings.Cut(both.transport.addresses()[i], "://")
		port := netip.MustParseAddrPort(at).Port()
		for _, host := range []string{"127.0.0.1", "::1"} {
			to := netip.AddrPortFrom(netip.MustParseAddr(host), port)
			c, err := net.Dial(network, to.String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(30 * time.Second))
			buf := make([]byte, 10)
			c.Write([]byte("\r\n\r\n"))
			if n, err := c.Read(buf); err != nil || string(buf[:n]) != "\r\n" {
				t.Errorf("%s to %s: %q, %v", network, to, buf[:n], err)
			}
			if f := both.transport.udpFlowTo(to); f == nil || f.local().Addr() != to.Addr() {
				t.Errorf("flow towards %s: %v", to, f)
			}
		}
	}
}
