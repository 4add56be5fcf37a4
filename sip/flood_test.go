package sip

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"reveille/sip/location"
	"reveille/sip/siptest"
)

// guessed is a REGISTER with a wrong password for the nonce.
func guessed(n int, nonce string) string {
	return request("REGISTER", fmt.Sprintf("Call-ID: f%d", n), fmt.Sprintf("Via: SIP/2.0/UDP h;branch=z9hG4bKf%d", n),
		fmt.Sprintf(`Authorization: Digest username="1001", realm="example.com", nonce="%s", uri="sip:example.com", `+
			`response="00", qop=auth, nc=00000001, cnonce="c", algorithm=MD5`, nonce))
}

// facts is how much the guard knows.
func (g *guard) facts() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now().UnixNano()
	return g.sources.count(now, func(*source) bool { return true }) + g.logins.count(now, func(*failures) bool { return true })
}

// A flood of wrong passwords from one address, from forged ones and over
// connections: the limits engage, an honest phone registers at once, and in the
// end nothing is left.
func TestFloodOfWrongPasswordsLeavesHonestPhonesAloneAndNothingBehind(t *testing.T) {
	inBed(t, noTrunks, func(b *registerBed) {
		one := wireFrom(b.t, b.net, "udp", "203.0.113.5")
		nonce := b.srv.registrar.digest.nonces.mint(peerOf("203.0.113.5"))
		var streams []*wire
		for i := range 100 { // 20 of each address get in
			streams = append(streams, wireFrom(b.t, b.net, "tcp", fmt.Sprintf("203.0.113.%d", 10+i/25)))
		}
		for i := range 2000 {
			one.send(guessed(i, nonce))
			forged := wireFrom(b.t, b.net, "udp", fmt.Sprintf("198.18.%d.%d", i/250, i%250+1))
			forged.send(guessed(i, "forged"))
			forged.udp.Close()
			if s := streams[i%100]; i%10 == 0 {
				s.conn.SetWriteDeadline(time.Now().Add(time.Millisecond))
				_, _ = s.conn.Write([]byte(guessed(i, b.srv.registrar.digest.nonces.mint(peerOf("203.0.113.10"))))) // it may be closed by now
			}
			time.Sleep(2 * time.Millisecond)
		}
		start := time.Now()
		for _, network := range []string{"udp", "tcp"} {
			u := b.phoneAt(network, "192.0.2.77")
			u.want(200, "Contact: <sip:1001@10.0.0.9>;expires=600")
			u.want(200, "Contact: <sip:1001@10.0.0.9>;expires=0")
			u.conn.Close()
		}
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("an honest phone waited %v", took)
		}
		if b.srv.BannedSources() == 0 || b.srv.guard.facts() > 3000 {
			t.Errorf("%d banned, %d facts", b.srv.BannedSources(), b.srv.guard.facts())
		}
		for _, s := range streams {
			s.conn.Close()
		}
		time.Sleep(48 * time.Hour)
		if n := b.srv.guard.facts(); n != 0 {
			t.Errorf("%d facts are left", n)
		}
		synctest.Wait()
		if n := b.srv.txs.pendingCount(); n != 0 {
			t.Errorf("%d transactions are left", n)
		}
	})
}

// Forged datagrams that keep us busy do not keep out who has logged in before,
// nor anybody who comes by a connection.
func TestForgedRegistersOfManyAddressesAreLimitedInAll(t *testing.T) {
	inBed(t, func(c *Config) { c.Limits.RegisterRateAll = 10 }, func(b *registerBed) {
		b.phoneAt("tcp", "192.0.2.77").want(200, "Contact: <sip:1001@10.0.0.9>;expires=600")
		time.Sleep(time.Hour)
		answered := 0
		for i := range 250 {
			forged := wireFrom(b.t, b.net, "udp", fmt.Sprintf("198.18.0.%d", i+1))
			forged.send(guessed(i, "forged"))
			synctest.Wait()
			if forged.next(time.Millisecond) != "" {
				answered++
			}
			forged.udp.Close()
		}
		if answered < 10 || answered > 15 {
			t.Errorf("%d of 250 in a quarter of a second were answered, want 10 a second", answered)
		}
		b.phoneAt("udp", "192.0.2.77").want(200, "Contact: <sip:1001@10.0.0.19>;expires=600")
		b.phoneAt("tcp", "192.0.2.78").want(200, "Contact: <sip:1001@10.0.0.29>;expires=600")
	})
}

// Whoever sends from more addresses than we remember makes us forget the
// oldest, and spend no memory.
func TestMemoryOfStrangersIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf[source]()
		now := time.Now().UnixNano()
		banned := s.get(1, now)
		banned.expires = now + int64(time.Hour)
		for key := range uint64(4 * shelfSlots) {
			s.get(key+2, now).expires = now + int64(time.Second)
		}
		if n := s.count(now, func(*source) bool { return true }); n > shelfSlots || n < shelfSlots/2 || len(s.slots) != shelfSlots {
			t.Errorf("%d facts in %d slots", n, len(s.slots))
		}
		if s.find(1, now) == nil {
			t.Error("a ban made room for strangers of a second")
		}
		if s.find(1, now+int64(time.Hour)) != nil {
			t.Error("a fact outlives its time")
		}
	})
}

func peerOf(ip string) netip.Addr { return netip.MustParseAddr(ip) }

// BenchmarkChallenge is what one forged REGISTER costs, from the datagram to
// its 401, without the socket.
func BenchmarkChallenge(b *testing.B) {
	loc, err := location.New(location.NewMemory(), location.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer loc.Close()
	cfg := DefaultConfig()
	cfg.Listen = []string{"udp://192.0.2.1:5060"}
	srv, err := New(cfg, nil, Options{Location: loc, Accounts: accountsOf{"1001": "secret"}, Network: siptest.NewNetwork().Host("192.0.2.1")})
	if err != nil {
		b.Fatal(err)
	}
	if err := srv.transport.listen(context.Background()); err != nil {
		b.Fatal(err)
	}
	defer srv.transport.close()
	l, data := srv.transport.udp[0], []byte(guessed(1, "forged"))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, byte(i >> 16), byte(i >> 8), byte(i)}), 5060)
		if l.admits(from, data) {
			srv.transport.datagram(l.flowFrom(from), data)
		}
	}
}
