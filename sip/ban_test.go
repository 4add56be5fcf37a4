package sip

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reveille/sip/siptest"
)

// wireFrom is a raw far end at an address, over "udp" or "tcp".
func wireFrom(t testing.TB, n *siptest.Network, network, ip string) *wire {
	t.Helper()
	to := netip.MustParseAddrPort("192.0.2.1:5060")
	if network == "udp" {
		c, err := n.Host(ip).ListenPacket(context.Background(), "udp", ip+":5060")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return &wire{t: t, udp: c, to: net.UDPAddrFromAddrPort(to)}
	}
	c, err := n.Host(ip).DialContext(context.Background(), "tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &wire{t: t, conn: c}
}

// another is a request of its own: other Call-ID and branch.
func another(method string, n int) string {
	return request(method, fmt.Sprintf("Call-ID: n%d", n), fmt.Sprintf("Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKn%d", n))
}

// wrong makes n logins with a wrong password; each must get want.
func (b *registerBed) wrong(network, ip string, n, want int) {
	b.t.Helper()
	for range n {
		u := b.phoneAt(network, ip)
		u.creds = newDigestClient("1001", "guess")
		if res := u.register("Contact: <sip:1001@10.0.0.9>"); res.StatusCode != want {
			b.t.Fatalf("a wrong password got %d, want %d", res.StatusCode, want)
		}
		u.conn.Close()
	}
}

// shut reports whether an address gets no answer to its REGISTER.
func (b *registerBed) shut(network, ip string) bool {
	b.t.Helper()
	w := wireFrom(b.t, b.net, network, ip)
	if _, err := fmt.Fprint(writer{w}, another("REGISTER", 1)); err != nil {
		return true
	}
	m := w.next(time.Second)
	if w.udp != nil {
		w.udp.Close()
	} else {
		w.conn.Close()
	}
	return m == "" || m == "closed"
}

type writer struct{ w *wire }

func (w writer) Write(b []byte) (int, error) {
	if w.w.udp != nil {
		return w.w.udp.WriteTo(b, w.w.to)
	}
	return w.w.conn.Write(b)
}

func noTrunks(*Config) {}

func TestWrongPasswordsBanTheirAddressForAWhileAndThenTwiceAsLong(t *testing.T) {
	inBed(t, noTrunks, func(b *registerBed) {
		for i, length := range []time.Duration{10 * time.Minute, 20 * time.Minute, 40 * time.Minute} {
			b.wrong("tcp", "198.51.100.9", 5, 401)
			if !b.shut("tcp", "198.51.100.9") || !b.shut("udp", "198.51.100.9") {
				t.Fatalf("ban %d: the address is let in", i)
			}
			if n := b.srv.BannedSources(); n != 1 {
				t.Errorf("%d addresses are banned", n)
			}
			if b.shut("tcp", "198.51.100.8") || b.shut("udp", "198.51.100.10") {
				t.Error("its neighbours are banned")
			}
			time.Sleep(length - 10*time.Second)
			if !b.shut("udp", "198.51.100.9") {
				t.Errorf("ban %d ended early", i)
			}
			time.Sleep(11 * time.Second)
			if b.shut("udp", "198.51.100.9") || b.shut("tcp", "198.51.100.9") {
				t.Errorf("ban %d did not end", i)
			}
		}
	})
}

func TestBanIsForgottenAfterItsOwnLengthOfGoodBehaviour(t *testing.T) {
	inBed(t, noTrunks, func(b *registerBed) {
		b.wrong("tcp", "198.51.100.9", 5, 401)
		time.Sleep(21 * time.Minute)
		b.wrong("tcp", "198.51.100.9", 5, 401)
		time.Sleep(11 * time.Minute)
		if b.shut("tcp", "198.51.100.9") {
			t.Error("the second ban was a double one")
		}
	})
}

func TestBanOfIPv6IsForThe64(t *testing.T) {
	for a, same := range map[string]bool{"2001:db8::1": true, "2001:db8::ffff:1": true, "2001:db8:0:1::1": false, "192.0.2.9": false} {
		if got := sourceKey(netip.MustParseAddr(a)) == sourceKey(netip.MustParseAddr("2001:db8::2")); got != same {
			t.Errorf("%s counts as 2001:db8::2: %v", a, got)
		}
	}
	if got := sourcePrefix(netip.MustParseAddr("2001:db8::2")).String(); got != "2001:db8::/64" {
		t.Errorf("the log shows %s", got)
	}
}

// Whoever forges datagrams from the address of a phone gets it no ban: it
// registers at once, over UDP too.
func TestForgedDatagramsShutNobodyOut(t *testing.T) {
	inBed(t, noTrunks, func(b *registerBed) {
		forger := wireFrom(b.t, b.net, "udp", "198.51.100.9")
		for i := range 30 {
			forger.send(another("INVITE", i))
			forger.send(request("REGISTER", fmt.Sprintf("Call-ID: r%d", i), fmt.Sprintf("Via: SIP/2.0/UDP h;branch=z9hG4bKr%d", i),
				`Authorization: Digest username="1001", realm="example.com", nonce="x", uri="sip:example.com", `+
					`response="00", qop=auth, nc=00000001, cnonce="c", algorithm=MD5`))
			time.Sleep(time.Second)
		}
		if n := b.srv.BannedSources(); n != 1 {
			t.Errorf("%d addresses are banned, want that of the INVITEs", n)
		}
		forger.udp.Close()
		for _, network := range []string{"udp", "tcp"} {
			b.phoneAt(network, "198.51.100.9").want(200, "Contact: <sip:1001@10.0.0.9>")
		}
	})
}

func TestScannerOverUDPIsBannedBeforeItIsParsed(t *testing.T) {
	inServer(t, strange(bedOptions{}), func(b *serverBed) {
		w := wireFrom(b.t, b.net, "udp", "203.0.113.5")
		for i := range 9 {
			w.send(another("INVITE", i))
			time.Sleep(time.Second)
		}
		w.send(request("OPTIONS", "CSeq: 1 INVITE")) // 400 else
		w.silence(time.Second)
		if s, n := b.rejected("stranger"), b.rejected("banned"); s != 5 || n != 5 {
			t.Errorf("%v as stranger, %v as banned", s, n)
		}
	})
}

// A PBX that sends rubbish and is not let in by mistake stays a trunk.
func TestTrunkIsNeverBannedNorSlowed(t *testing.T) {
	for _, peers := range []string{"192.0.2.2", "192.0.2.0/28"} {
		inServer(t, bedOptions{trunks: []TrunkConfig{{Name: "peer", Peers: []string{peers}}}}, func(b *serverBed) {
			for _, network := range []string{"udp", "tcp"} {
				w := wireFrom(b.t, b.net, network, "192.0.2.2")
				for i := range 100 {
					w.send(request("OPTIONS", fmt.Sprintf("Call-ID: %s%d", network, i), "CSeq: 1 INVITE"))
					w.expect("SIP/2.0 400")
					w.send(another("REGISTER", i))
					w.expect("SIP/2.0 401")
				}
				w.send(message("INVITE sip:1001@192.0.2.1 SIP/2.0", "", "Call-ID: "+network, "Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bK"+network))
				w.expect("SIP/2.0 100")
				b.taken().Refuse(&Refused{Code: 404})
			}
			if n := b.srv.BannedSources(); n != 0 || b.rejected("banned")+b.rejected("register_rate") != 0 {
				t.Errorf("%d addresses are banned", n)
			}
		})
	}
}

// A trunk may open as many connections as it likes: only strangers are counted.
func TestTrunkIsNotHeldToTheLimitsOfConnections(t *testing.T) {
	inServer(t, bedOptions{config: func(c *Config) { c.Limits.Connections, c.Limits.ConnectionsPerIP = 3, 2 }}, func(b *serverBed) {
		for i := range 5 {
			w := wireFrom(b.t, b.net, "tcp", "192.0.2.2")
			w.send(another("OPTIONS", i))
			w.expect("SIP/2.0 200")
		}
	})
}

func TestNeverBanAndEdgeProxies(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"never_ban": func(c *Config) { c.Limits.NeverBan = []string{"198.51.100.0/24"} },
		"edge":      func(c *Config) { c.EdgeProxies = []string{"198.51.100.9"} },
	} {
		inBed(t, change, func(b *registerBed) {
			b.wrong("tcp", "198.51.100.9", 20, 401)
			if b.shut("tcp", "198.51.100.9") || b.srv.BannedSources() != 0 {
				t.Errorf("%s: it was banned", name)
			}
		})
	}
}

// An office behind one NAT: one phone has a wrong password, and tries for ever.
func TestOneBadPhoneDoesNotLockOutItsOffice(t *testing.T) {
	inBed(t, noTrunks, func(b *registerBed) {
		good := b.phoneAt("tcp", "198.51.100.9")
		good.want(200, "Contact: <sip:1001@10.0.0.9>;expires=600")
		for i := range 30 {
			u := b.phoneAt("tcp", "198.51.100.9")
			u.aor, u.creds, u.callID = "1002", newDigestClient("1002", "guess"), fmt.Sprint("bad", i)
			if res, want := u.register("Contact: <sip:1002@10.0.0.9>"), 401; i < 10 && res.StatusCode != want {
				t.Fatalf("login %d got %d", i, res.StatusCode)
			}
			u.conn.Close()
		}
		good.want(200, "Contact: <sip:1001@10.0.0.9>;expires=600")
		late := b.phoneAt("tcp", "198.51.100.9")
		late.callID = "late"
		late.want(200, "Contact: <sip:1001@10.0.0.19>;expires=600")
		b.phoneAt("udp", "198.51.100.9").want(200, "Contact: <sip:1001@10.0.0.29>;expires=600")
		if b.srv.BannedSources() != 0 {
			t.Error("the office is banned")
		}
	})
}

// The flow of a phone that is registered stays, even where its address is banned.
func TestRegisteredFlowStaysDuringABan(t *testing.T) {
	inBed(t, noTrunks, func(b *registerBed) {
		for _, network := range []string{"tcp", "udp"} {
			u := b.phoneAt(network, "198.51.100.9")
			u.want(200, "Contact: <sip:1001@10.0.0.9>;expires=600")
			b.srv.guard.ban(netip.MustParseAddr("198.51.100.9"), time.Hour)
			if !b.shut(network, "198.51.100.9") {
				t.Error("a new flow is let in")
			}
			u.want(200, "Contact: <sip:1001@10.0.0.9>;expires=600")
		}
	})
}

// ban bans an address, as enough offences would.
func (g *guard) ban(a netip.Addr, d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now().UnixNano()
	s := g.sources.get(sourceKey(a), now)
	s.value.until, s.value.good, s.value.datagramsOnly = now+int64(d), 0, false
	s.expires = s.value.until
}

func TestRegisterRateOverUDPDropsWhatIsTooMuch(t *testing.T) {
	inServer(t, strange(bedOptions{}), func(b *serverBed) {
		w := wireFrom(b.t, b.net, "udp", "203.0.113.5")
		for i := range 100 {
			w.send(another("REGISTER", i))
		}
		if got := len(w.drain(500 * time.Millisecond)); got != 40 {
			t.Errorf("%d of 100 at once were answered, want 40", got)
		}
		time.Sleep(500 * time.Millisecond)
		for i := range 100 {
			w.send(another("REGISTER", 100+i))
		}
		if got := len(w.drain(100 * time.Millisecond)); got != 20 {
			t.Errorf("%d were answered a second later, want 20", got)
		}
		if n := b.rejected("register_rate"); n != 140 || b.srv.BannedSources() != 0 {
			t.Errorf("%v rejected, %d banned", n, b.srv.BannedSources())
		}
	})
}

// Over a connection nothing is lost: who sends too much waits for his turn.
func TestRegisterRateOverTCPMakesWait(t *testing.T) {
	inServer(t, strange(bedOptions{}), func(b *serverBed) {
		w := wireFrom(b.t, b.net, "tcp", "203.0.113.5")
		start := time.Now()
		for i := range 100 {
			w.send(another("REGISTER", i))
		}
		for range 100 {
			if m := w.next(5 * time.Second); !strings.HasPrefix(m, "SIP/2.0 401") {
				t.Fatalf("got %q", m)
			}
		}
		if took := time.Since(start).Round(100 * time.Millisecond); took != 3*time.Second {
			t.Errorf("100 took %v, want 3s: 40 at once, 20 a second", took)
		}
	})
}

// A hundred phones behind one NAT whose router was restarted: those that log
// in make room for the others.
func TestLoginsDoNotCountAgainstTheRate(t *testing.T) {
	inBed(t, func(c *Config) { c.Limits.RegisterRate, c.Limits.RegisterBurst = 1, 4 }, func(b *registerBed) {
		start := time.Now()
		for i := range 60 {
			u := b.phoneAt("tcp", "198.51.100.9")
			u.callID = fmt.Sprint("phone", i)
			u.want(200, "Contact: <sip:1001@10.0.0.9>;expires=600")
			defer u.conn.Close()
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("60 phones took %v", took)
		}
	})
}

func TestPasswordsAreGuessedTenTimesInFiveMinutes(t *testing.T) {
	inBed(t, func(c *Config) { c.Limits.BanAfter = 0 }, func(b *registerBed) {
		b.wrong("tcp", "198.51.100.9", 10, 401)
		start := time.Now()
		for _, password := range []Secret{"guess", "secret", "x"} { // the right one is not told from others
			u := b.phoneAt("udp", "198.51.100.99")
			u.creds = newDigestClient("1001", password)
			if res := u.register("Contact: <sip:1001@10.0.0.9>"); res.StatusCode != 403 {
				t.Errorf("%q got %d, want 403", password, res.StatusCode)
			}
			u.conn.Close()
		}
		if took := time.Since(start); took < 3*time.Second {
			t.Errorf("refused within %v: no delay", took)
		}
		b.phoneAt("tcp", "203.0.113.5").want(200, "Contact: <sip:1001@10.0.0.9>")
		u := b.phoneAt("tcp", "198.51.100.9")
		u.aor, u.creds = "1002", newDigestClient("1002", "secret2")
		u.want(200, "Contact: <sip:1002@10.0.0.9>")
		time.Sleep(5 * time.Minute)
		b.phoneAt("tcp", "198.51.100.9").want(200, "Contact: <sip:1001@10.0.0.9>")
	})
}

// An unknown extension cannot be told from a wrong password: same answer, and
// the same work behind it.
func TestUnknownExtensionLooksLikeAWrongPassword(t *testing.T) {
	inBed(t, func(c *Config) { c.Limits.BanAfter = 0 }, func(b *registerBed) {
		answers := map[string]string{}
		for _, user := range []string{"1001", "9999"} {
			u := b.phoneAt("tcp", "198.51.100.9")
			u.aor, u.creds = user, newDigestClient(user, "guess")
			res := u.register("Contact: <sip:x@10.0.0.9>", "Call-ID: same", "From: <sip:x@example.com>;tag=same", "To: <sip:x@example.com>",
				"Via: SIP/2.0/TCP h;branch=z9hG4bK"+user)
			for _, h := range []string{"Via", "To"} {
				res.RemoveHeader(h)
			}
			text := res.String()
			for _, c := range res.GetHeaders("WWW-Authenticate") {
				_, nonce, _ := strings.Cut(c.Value(), `nonce="`)
				nonce, _, _ = strings.Cut(nonce, `"`)
				text = strings.ReplaceAll(text, nonce, "N")
			}
			answers[user] = text
		}
		if answers["1001"] != answers["9999"] || !strings.HasPrefix(answers["1001"], "SIP/2.0 401") {
			t.Errorf("answers differ:\n%s\n%s", answers["1001"], answers["9999"])
		}
	})
	b := newAuthBed(t, nil)
	work := map[string]float64{}
	for _, user := range []string{"1001", "9999"} {
		req := aRegister(t, "To: <sip:1001@example.com>", b.credentials("guess", func(p map[string]string) { p["username"] = user }, nil))
		work[user] = testing.AllocsPerRun(100, func() {
			if _, no := b.authenticate(req, b.source); no == nil || no.reason != "auth_failed" {
				t.Fatal("not refused")
			}
		})
	}
	if work["1001"] != work["9999"] {
		t.Errorf("allocations of a wrong password and of an unknown extension: %v", work)
	}
}

// rejected is the value of reveille_rejected_total.
func (b *serverBed) rejected(reason string) (n float64) {
	b.t.Helper()
	synctest.Wait()
	families, err := b.reg.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "reveille_rejected_total" && m.GetLabel()[0].GetValue() == reason {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}
