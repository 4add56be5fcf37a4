package sip

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	dialTimeout = 5 * time.Second
	// targetPatience is how long one of several targets may be silent before
	// the next has its turn: four sendings over UDP (0, 0.5, 1.5 and 3.5 s).
	targetPatience = 6 * time.Second
	// targetRest is how long a target that failed is left alone, give or take a
	// quarter: shorter than the usual time between two REGISTERs.
	targetRest = 45 * time.Second
	// idleCheck is how often a connection that is no longer wanted is looked at:
	// longer than any transaction on it lives.
	idleCheck = 40 * time.Second
	// resendRate is how many registrations a second a lost connection costs.
	resendRate = 100
)

// uplink is the way to one SIP server: its targets as the DNS has them
// (RFC 3263), which of them is in use, and the connection to it. All
// registrations at that server share it.
type uplink struct {
	srv  *Server
	log  *slog.Logger
	name string // that the server's certificate must have (RFC 5922 §7.2)
	find func(context.Context) (located, error)
	tls  func() (*tls.Config, error) // nil result: the defaults

	opening sync.Mutex // one look-up or connection at a time

	mu      sync.Mutex // guards the following
	found   located
	resting map[target]time.Time // failed targets, until when
	current target
	flow    *flow   // to current
	retired []*flow // connections to other targets, until calls have left them
	users   map[*login]struct{}

	renew func()         // has what else is registered over it registered again; never changed
	seen  netip.AddrPort // our address as the server sees it; invalid: not told yet
}

func newUplink(s *Server, log *slog.Logger, name string, find func(context.Context) (located, error), tls func() (*tls.Config, error)) *uplink {
	return &uplink{
		srv: s, log: log, name: strings.Trim(name, "[]"), find: find, tls: tls,
		resting: map[target]time.Time{}, users: map[*login]struct{}{}, renew: func() {},
	}
}

// connect gives the flow to the best target that can be had.
func (u *uplink) connect(ctx context.Context) (*flow, error) {
	u.opening.Lock()
	defer u.opening.Unlock()
	targets, err := u.targets(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range targets {
		f, openErr := u.open(ctx, t)
		if openErr == nil {
			return f, nil
		}
		err = openErr
		if ctx.Err() != nil {
			break
		}
		u.rest(t, 0)
	}
	return nil, err
}

// targets are the server's, the best first. They are looked up again when the
// time to live of the DNS has passed; where that fails the old ones stay.
func (u *uplink) targets(ctx context.Context) ([]target, error) {
	u.mu.Lock()
	fresh := time.Now().Before(u.found.until)
	u.mu.Unlock()
	if !fresh {
		found, err := u.find(ctx)
		u.mu.Lock()
		switch {
		case err == nil:
			u.found = found
		case len(u.found.targets) > 0:
			u.found.until = time.Now().Add(dnsFloor)
			u.log.Warn("the server cannot be looked up; its last addresses are used", "err", err)
		}
		u.mu.Unlock()
		if err != nil && len(u.found.targets) == 0 {
			return nil, err
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.ordered(), nil
}

// ordered puts those that rest last, then goes by priority, and among equals
// stays with the one in use. The caller holds u.mu.
func (u *uplink) ordered() []target {
	now := time.Now()
	for t, until := range u.resting {
		if !now.Before(until) {
			delete(u.resting, t)
		}
	}
	out := slices.Clone(u.found.targets)
	slices.SortStableFunc(out, func(a, b target) int {
		return cmp.Or(
			cmp.Compare(whether(!u.resting[a].IsZero()), whether(!u.resting[b].IsZero())),
			cmp.Compare(a.rank, b.rank),
			cmp.Compare(whether(!a.same(u.current)), whether(!b.same(u.current))),
		)
	})
	return out
}

func whether(b bool) int {
	if b {
		return 1
	}
	return 0
}

// open gives the flow to a target. One connection serves everything.
func (u *uplink) open(ctx context.Context, t target) (*flow, error) {
	u.mu.Lock()
	f, current := u.flow, u.current
	u.mu.Unlock()
	if f != nil && current.same(t) && !f.isDead() {
		return f, nil
	}
	f, err := u.dial(ctx, t)
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	old := u.flow
	if !current.same(t) {
		u.seen = netip.AddrPort{}
	}
	u.flow, u.current = f, t
	u.mu.Unlock()
	if current.addr.IsValid() && !current.same(t) {
		u.log.Info("another target of the server is used", "target", t.String(), "before", current.String())
		u.renew()
		u.each(func(r *login, after time.Duration) { r.moved(t, after) })
	}
	if old != nil {
		u.retire(old)
	}
	return f, nil
}

func (u *uplink) dial(ctx context.Context, t target) (*flow, error) {
	if t.proto == "UDP" {
		return u.srv.datagramsTo(t.addr)
	}
	config, err := u.tls()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return u.srv.transport.dial(ctx, strings.ToLower(t.proto), t.addr.String(), u.name, config)
}

// rest leaves a target alone for a while: what it asks for, within 30 s to an
// hour.
func (u *uplink) rest(t target, asked time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.resting[t] = time.Now().Add(max(jitter(targetRest), min(asked, time.Hour)))
}

// failed: the target of this flow answered 503 or, silent, nothing at all. A
// silent connection is given up: it may be one that a NAT has forgotten.
func (u *uplink) failed(f *flow, silent bool, after time.Duration) {
	u.mu.Lock()
	t := u.current
	ours := u.flow == f || u.flow == nil && t.addr == f.remote() // it may be closed already
	if ours && silent {
		u.flow = nil
	}
	u.mu.Unlock()
	if !ours {
		return
	}
	u.rest(t, after)
	if silent {
		u.retire(f)
	}
}

// another: there is a target that does not rest.
func (u *uplink) another() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	targets := u.ordered()
	return len(targets) > 0 && u.resting[targets[0]].IsZero()
}

// patience is how long a target may be silent; 0 where there is no other.
func (u *uplink) patience() time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.found.targets) > 1 {
		return targetPatience
	}
	return 0
}

// retire closes a connection that no new request will take, once no call lives
// on it.
func (u *uplink) retire(f *flow) {
	if !f.reliable() || f.isDead() {
		return
	}
	if !u.srv.carriesCalls(f) {
		f.close()
		return
	}
	u.mu.Lock()
	u.retired = append(u.retired, f)
	u.mu.Unlock()
	u.closeWhenIdle(f)
}

func (u *uplink) closeWhenIdle(f *flow) {
	time.AfterFunc(idleCheck, func() {
		switch {
		case f.isDead():
		case u.srv.carriesCalls(f):
			u.closeWhenIdle(f)
		default:
			f.close()
		}
	})
}

// carriesCalls reports whether a dialog lives on the flow.
func (s *Server) carriesCalls(f *flow) bool {
	s.dialogs.mu.RLock()
	owners := make([]dialogOwner, 0, len(s.dialogs.legs))
	for _, o := range s.dialogs.legs {
		owners = append(owners, o)
	}
	s.dialogs.mu.RUnlock()
	return slices.ContainsFunc(owners, func(o dialogOwner) bool {
		l := o.base()
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.flow == f
	})
}

// has: f is a connection that we opened to this server.
func (u *uplink) has(f *flow) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return f.reliable() && (u.flow == f || slices.Contains(u.retired, f))
}

// owns: the address is one of the server's, whichever target we use.
func (u *uplink) owns(ip netip.Addr) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Contains(u.found.addrs, ip) ||
		slices.ContainsFunc(u.found.targets, func(t target) bool { return t.addr.Addr() == ip })
}

// inUse is the target that requests go to, "" before the first.
func (u *uplink) inUse() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.current.addr.IsValid() {
		return ""
	}
	return u.current.String()
}

// closed: a connection has ended. Whoever registered by it does so again.
func (u *uplink) closed(f *flow) {
	u.mu.Lock()
	u.retired = slices.DeleteFunc(u.retired, func(g *flow) bool { return g == f })
	if u.flow == f {
		u.flow = nil
	}
	u.mu.Unlock()
	u.each(func(r *login, after time.Duration) { r.lost(f, after) })
}

// back: the server is there again, and may have forgotten us.
func (u *uplink) back() {
	u.renew()
	u.each(func(r *login, after time.Duration) {
		r.retry()
		r.again(after)
	})
}

// each calls f for every registration, with its share of the time that all of
// them should take.
func (u *uplink) each(f func(r *login, after time.Duration)) {
	u.mu.Lock()
	users := make([]*login, 0, len(u.users))
	for r := range u.users {
		users = append(users, r)
	}
	u.mu.Unlock()
	for _, r := range users {
		f(r, spread(len(users)))
	}
}

// spread is this one's share of the time that n registrations are made in.
func spread(n int) time.Duration {
	if n <= 1 {
		return 0
	}
	return time.Duration(rand.Int64N(int64(n) * int64(time.Second) / resendRate))
}

func (u *uplink) join(r *login) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.users[r] = struct{}{}
}

func (u *uplink) leave(r *login) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.users, r)
}

var errNoTarget = errors.New("it has no address that we could reach")

// reaches reports whether a peer of that address can be sent to by that
// transport. Connections want a listener of the same family too: our Contact
// would name an address that the peer cannot reach.
func (s *Server) reaches(proto string, ip netip.Addr) bool {
	if proto == "UDP" {
		return s.transport.udpFlowTo(netip.AddrPortFrom(ip, 5060)) != nil
	}
	return slices.ContainsFunc(s.transport.addresses(), func(listen string) bool {
		_, addr, _ := strings.Cut(listen, "://")
		here := netip.MustParseAddrPort(addr).Addr()
		return here.Is4() == ip.Is4() || here.IsUnspecified() && here.Is6()
	})
}

// uriHost is an address as it stands in a URI.
func uriHost(ip netip.Addr) string {
	if ip.Is6() {
		return "[" + ip.String() + "]"
	}
	return ip.String()
}
