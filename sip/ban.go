package sip

import (
	"encoding/binary"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// Why the guard turned something away: values of the label `reason`.
const (
	rejectedBanned   = "banned"        // from a source that is banned
	rejectedRegister = "register_rate" // limits.register_rate
	rejectedLogins   = "auth_limit"    // limits.auth_failures
)

const (
	// goodFor is how long a login vouches for the others at its address: a day,
	// the longest registration. An office behind one NAT is not banned for its
	// one phone with a wrong password.
	goodFor = 24 * time.Hour
	// failureWindow is the time over which limits.auth_failures are counted.
	failureWindow = 5 * time.Minute
	// longestTurn is how long a connection waits for its turn to register; SIP
	// gives a REGISTER up after 32 s (Timer F).
	longestTurn = 10 * time.Second
	// generous is how much more a flow with a live registration may send.
	generous = 10
)

// guard keeps strangers cheap: it limits the rate of REGISTERs of an address,
// bans addresses that go on sending what nobody asked for, and limits how often
// a password may be guessed. Its unit is an IPv4 address or an IPv6 /64.
//
// Whoever forges the source of a datagram must not get its owner banned. So a
// ban that only datagrams have earned, whose source nothing proves, is for
// datagrams other than REGISTER; a wrong password proves the source, since its
// nonce went there (see nonces). And no ban holds for trunks, for
// limits.never_ban, for flows with a live registration, and for addresses that
// somebody has logged in from lately.
//
// A nil guard lets everything pass.
type guard struct {
	cfg    LimitsConfig
	log    *slog.Logger
	spared func(netip.Addr) bool
	gripes gripes
	seed   maphash.Seed

	mu      sync.Mutex // guards the following
	sources *shelf[source]
	logins  *shelf[failures]
	due     int64 // when the REGISTERs of unknown addresses so far would be due
}

// source is what is known of an address. Times are Unix nanoseconds.
type source struct {
	due           int64 // when the REGISTERs so far would all be due at limits.register_rate
	until         int64 // banned
	good          int64 // a login vouches for it
	since         int64 // of the first of:
	bad, surely   uint8 // offences; those whose source is proven
	bans          uint8 // how often it was banned
	datagramsOnly bool  // the ban: nothing proves where they came from
}

// failures are wrong passwords for one user from one network.
type failures struct {
	since int64
	n     int32
}

// newGuard makes a guard. spared tells which addresses are never banned nor
// slowed, besides limits.never_ban.
func newGuard(cfg LimitsConfig, log *slog.Logger, spared func(netip.Addr) bool) *guard {
	return &guard{cfg: cfg, log: log, spared: spared, seed: maphash.MakeSeed(),
		sources: newShelf[source](), logins: newShelf[failures]()}
}

// sourceKey is what an address counts as: an IPv4 address, or an IPv6 /64,
// which one customer has for himself. IPv4 is kept apart by a prefix that is
// multicast in IPv6 and never a source.
func sourceKey(a netip.Addr) uint64 {
	a = a.Unmap()
	if a.Is4() {
		b := a.As4()
		return 0xffff<<48 | uint64(binary.BigEndian.Uint32(b[:]))
	}
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8])
}

// sourcePrefix is the same for people to read.
func sourcePrefix(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, _ := a.Prefix(bits)
	return p
}

// datagram says why a datagram must not be read, "" if it may. It is asked
// before anything is parsed; a source of which nothing is known costs one look
// into the table.
func (g *guard) datagram(a netip.Addr, register, registered bool) (reason string) {
	if g == nil {
		return ""
	}
	now := time.Now().UnixNano()
	g.mu.Lock()
	s := g.sources.find(sourceKey(a), now)
	if s == nil && register && g.turnOfAll(now) {
		s = g.sources.get(sourceKey(a), now)
	} else if s == nil && register {
		reason = rejectedRegister
	}
	if s != nil {
		reason = g.judge(s, now, register, registered)
	}
	g.mu.Unlock()
	if reason != "" && g.spared(a) {
		return ""
	}
	return reason
}

// judge is for a datagram of a known source. g.mu is held.
func (g *guard) judge(s *slot[source], now int64, register, registered bool) string {
	if s.value.until > now && !registered && !(register && s.value.datagramsOnly) {
		return rejectedBanned
	}
	if register && g.turn(s, now, registered, 0) > 0 {
		return rejectedRegister
	}
	return ""
}

// turnOfAll counts a REGISTER of an address of which nothing is known; false if
// there are too many of them: somebody forges. g.mu is held.
func (g *guard) turnOfAll(now int64) bool {
	if g.cfg.RegisterRateAll == 0 {
		return true
	}
	due := max(g.due, now)
	if due-now > int64(time.Second) {
		return false
	}
	g.due = due + int64(time.Second)/int64(g.cfg.RegisterRateAll)
	return true
}

// stream says how long a message that came by a connection has to wait for its
// turn, or why the connection must go.
func (g *guard) stream(a netip.Addr, register, registered bool) (wait time.Duration, reason string) {
	if g == nil {
		return 0, ""
	}
	now := time.Now().UnixNano()
	g.mu.Lock()
	s := g.sources.find(sourceKey(a), now)
	switch {
	case s != nil && s.value.until > now && !s.value.datagramsOnly && !registered:
		reason = rejectedBanned
	case register:
		if s == nil {
			s = g.sources.get(sourceKey(a), now)
		}
		if wait = g.turn(s, now, registered, longestTurn); wait > longestTurn {
			reason = rejectedRegister
		}
	}
	g.mu.Unlock()
	if (wait > 0 || reason != "") && g.spared(a) {
		return 0, ""
	}
	return wait, reason
}

// turn is how long a REGISTER has to wait so that its source keeps to the rate.
// It is counted if that is no longer than patience. g.mu is held.
func (g *guard) turn(s *slot[source], now int64, registered bool, patience time.Duration) time.Duration {
	if g.cfg.RegisterRate == 0 {
		return 0
	}
	each := int64(time.Second) / int64(g.cfg.RegisterRate)
	burst := int64(g.cfg.RegisterBurst)
	if registered {
		burst *= generous
	}
	due := max(s.value.due, now)
	wait := time.Duration(max(0, due-now-(burst-1)*each))
	if wait <= patience {
		s.value.due = due + each
		s.expires = max(s.expires, s.value.due)
	}
	return wait
}

// offence counts something that no peer of ours sends. what is for the log.
func (g *guard) offence(f *flow, what string) {
	if g != nil && !f.kept.Load() && !f.dialed {
		g.count(f.remote().Addr(), f.udp == nil, what)
	}
}

func (g *guard) count(a netip.Addr, surely bool, what string) {
	if g.cfg.BanAfter == 0 || g.spared(a) {
		return
	}
	now := time.Now().UnixNano()
	g.mu.Lock()
	s := g.sources.get(sourceKey(a), now)
	d := s.value.offend(now, surely, g.cfg)
	s.expires = max(s.expires, s.value.since+int64(g.cfg.BanTime), s.value.until+int64(d))
	g.mu.Unlock()
	if d > 0 && g.gripes.allow(time.Now()) {
		g.log.Warn("address is banned for what it sends without a login; if it is one of yours, mend that, or add it to sip.limits.never_ban",
			"address", sourcePrefix(a).String(), "for", d, "cause", what)
	}
}

// offend counts one offence; if it was one too many it returns how long the ban lasts.
func (v *source) offend(now int64, surely bool, cfg LimitsConfig) time.Duration {
	if v.good > now || v.until > now && (!v.datagramsOnly || !surely) {
		return 0
	}
	if now-v.since >= int64(cfg.BanTime) {
		v.since, v.bad, v.surely = now, 0, 0
	}
	v.bad = min(v.bad+1, 254)
	if surely {
		v.surely = min(v.surely+1, 254)
	}
	enough := v.until <= now && int(v.bad) >= cfg.BanAfter || int(v.surely) >= cfg.BanAfter
	if !enough {
		return 0
	}
	d := cfg.BanMax
	if v.bans < 20 { // a million times
		d = min(cfg.BanTime<<v.bans, cfg.BanMax)
	}
	v.bans = min(v.bans+1, 254)
	v.until, v.datagramsOnly = now+int64(d), int(v.surely) < cfg.BanAfter
	v.bad, v.surely = 0, 0
	return d
}

// banned is how many addresses are banned now.
func (g *guard) banned() int {
	if g == nil {
		return 0
	}
	now := time.Now().UnixNano()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sources.count(now, func(v *source) bool { return v.until > now })
}

// loginKey names a user as seen from one network (/24, or /64 for IPv6).
func (g *guard) loginKey(user string, a netip.Addr) uint64 {
	return maphash.Comparable(g.seed, struct {
		user    string
		network netip.Prefix
	}{user, sourceNetwork(a)})
}

// exhausted reports whether too many wrong passwords have come for a user from
// this network. A flow that has logged in may still refresh.
func (g *guard) exhausted(f *flow, user string) bool {
	if g == nil || g.cfg.AuthFailures == 0 || f.kept.Load() || g.spared(f.remote().Addr()) {
		return false
	}
	now := time.Now().UnixNano()
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.logins.find(g.loginKey(user, f.remote().Addr()), now)
	return l != nil && int(l.value.n) >= g.cfg.AuthFailures
}

// failed counts a wrong password, or a user that does not exist.
func (g *guard) failed(f *flow, user string) {
	if g == nil {
		return
	}
	a, now := f.remote().Addr(), time.Now().UnixNano()
	g.mu.Lock()
	l := g.logins.get(g.loginKey(user, a), now)
	if l.value.n == 0 {
		l.value.since = now
		l.expires = now + int64(failureWindow)
	}
	l.value.n++
	g.mu.Unlock()
	if !f.kept.Load() {
		g.count(a, true, "wrong password or unknown extension")
	}
}

// loggedIn: the flow has proved who it is. Its REGISTER and the one that was
// challenged before it do not count, and its address is good for a day.
func (g *guard) loggedIn(f *flow, user string) {
	if g == nil {
		return
	}
	a, now := f.remote().Addr(), time.Now().UnixNano()
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.sources.get(sourceKey(a), now)
	if g.cfg.RegisterRate > 0 {
		s.value.due = max(0, s.value.due-2*int64(time.Second)/int64(g.cfg.RegisterRate))
	}
	s.value.good, s.value.until, s.value.bad, s.value.surely = now+int64(goodFor), 0, 0, 0
	s.expires = max(s.expires, s.value.good)
	if l := g.logins.find(g.loginKey(user, a), now); l != nil {
		l.expires = 0
	}
}
