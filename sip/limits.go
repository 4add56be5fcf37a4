package sip

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// How the guard stands between the sockets and the rest, and who it spares.

func (l LimitsConfig) validateGuard(report func(path, problem string)) {
	for path, n := range map[string]int{"register_rate": l.RegisterRate, "register_rate_all": l.RegisterRateAll, "auth_failures": l.AuthFailures, "ban_after": l.BanAfter} {
		if n < 0 {
			report("limits."+path, fmt.Sprintf("%d is no number of things: use 1 or more, or 0 for no limit", n))
		}
	}
	if l.BanAfter > 200 {
		report("limits.ban_after", fmt.Sprintf("%d is as good as never: use 200 or less, or 0 to ban nobody", l.BanAfter))
	}
	if l.RegisterRate > 0 && l.RegisterBurst < 2 {
		report("limits.register_burst", fmt.Sprintf("%d is too few: a login takes two REGISTERs, use 2 or more", l.RegisterBurst))
	}
	atLeast(report, "limits.ban_time", l.BanTime, time.Second)
	if l.BanMax < l.BanTime {
		report("limits.ban_max", fmt.Sprintf("%s is shorter than limits.ban_time (%s): raise it, or lower ban_time", l.BanMax, l.BanTime))
	}
	atMost(report, "limits.ban_max", l.BanMax, 366*24*time.Hour)
	for i, s := range l.NeverBan {
		if _, host, err := ParsePeer(s); err != nil || host != "" {
			report(fmt.Sprintf("limits.never_ban[%d]", i), fmt.Sprintf("%q is not an IP address or CIDR prefix: write it as 192.0.2.10 or 192.0.2.0/28", s))
		}
	}
}

// sparing tells which addresses the guard leaves alone: never_ban, the edge
// proxies, and those of the trunks as they are resolved at the time.
func (s *Server) sparing(cfg Config) func(netip.Addr) bool {
	never := []netip.Prefix(cfg.edges())
	for _, p := range cfg.Limits.NeverBan {
		if prefix, _, err := ParsePeer(p); err == nil && prefix.IsValid() {
			never = append(never, prefix)
		}
	}
	return func(a netip.Addr) bool {
		a = a.Unmap().WithZone("")
		if slices.ContainsFunc(never, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return true
		}
		s.mu.RLock()
		defer s.mu.RUnlock()
		from := &flow{peer: netip.AddrPortFrom(a, 0)}
		return slices.ContainsFunc(s.trunks, func(t *Trunk) bool { return t.owns(from) })
	}
}

// Rejected counts a call that the handler turns away, by one of a few fixed
// reasons, in reveille_rejected_total.
func (s *Server) Rejected(reason string) { s.metrics.reject(reason) }

// BannedSources is how many addresses are banned now.
func (s *Server) BannedSources() int { return s.guard.banned() }

// admits reports whether a datagram is to be read. One that is turned away has
// cost a look into a table.
func (l *udpListener) admits(peer netip.AddrPort, data []byte) bool {
	g := l.t.guard
	register := bytes.HasPrefix(data, []byte("REGISTER "))
	reason := g.datagram(peer.Addr(), register, false)
	if reason != "" && l.find(peer) != nil { // rare enough to ask twice
		reason = g.datagram(peer.Addr(), register, true)
	}
	if reason != "" {
		l.t.rejected(reason)
	}
	return reason == ""
}

// awaitTurn has a connection's REGISTERs wait for their turn: its reader reads
// no further meanwhile, so that nothing is lost and nothing piles up here. It
// is false, and the connection closed, where that takes too long or the
// address is banned by now.
func (t *transport) awaitTurn(f *flow, m sipgo.Message) bool {
	if t.guard == nil || f.udp != nil || f.dialed {
		return true
	}
	req, ok := m.(*sipgo.Request)
	wait, reason := t.guard.stream(f.peer.Addr(), ok && req.Method == sipgo.REGISTER, f.kept.Load())
	if reason != "" {
		t.rejected(reason)
		f.close()
		return false
	}
	if wait > 0 {
		t.pause(wait)
	}
	return true
}

// refuses says why no connection is taken from an address, "" if one is.
func (t *transport) refuses(a netip.Addr) string {
	if _, reason := t.guard.stream(a, false, false); reason != "" {
		return reason
	}
	return ""
}

func (t *transport) spares(a netip.Addr) bool { return t.guard != nil && t.guard.spared(a) }

// vouchFor notes that a connection carries a registration. It no longer counts
// against limits.connections_per_ip: an office of a hundred phones has one address.
func (t *transport) vouchFor(f *flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.dialed || t.streams[f.id()] != f || f.kept.Swap(true) {
		return
	}
	ip := household(f.peer.Addr())
	if t.perIP[ip]--; t.perIP[ip] <= 0 {
		delete(t.perIP, ip)
	}
}

// patientRefusals is how many refusals may wait at a time.
const patientRefusals = 64

// guess refuses a REGISTER for a user whose password has been tried too often
// from this network, whatever its password is, and takes its time over it.
func (r *registrar) guess(x *registration) *registerRefusal {
	creds, _ := credentialsFor(x.req, r.digest.realm(x.req))
	if creds["username"] == "" || !r.o.Guard.exhausted(x.f, creds["username"]) {
		return nil
	}
	r.stall()
	return refuseRegister(403, "Too Many Failed Logins")
}

// stall is the time that is taken over a login that was tried too often.
func (r *registrar) stall() {
	r.o.Rejected(rejectedLogins)
	select {
	case r.patience <- struct{}{}:
		time.Sleep(time.Second)
		<-r.patience
	default:
	}
}
