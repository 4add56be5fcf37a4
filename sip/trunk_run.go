package sip

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// attach makes the trunk's uplink, and its registration where it has one.
func (t *Trunk) attach() error {
	cfg, s := t.cfg, t.srv
	config := func(name string) func() (*tls.Config, error) {
		return func() (*tls.Config, error) { return trunkTLS(cfg, strings.Trim(name, "[]")) }
	}
	if cfg.Registrar == "" {
		t.up = newUplink(s, t.log, t.peerName(), t.locatePeers, config(t.peerName()))
		return nil
	}
	registrar, err := parseURI(cfg.Registrar)
	if err != nil {
		return err
	}
	next := registrar
	if cfg.OutboundProxy != "" {
		if next, err = parseURI(cfg.OutboundProxy); err != nil {
			return err
		}
	}
	t.up = newUplink(s, t.log, next.Host, func(ctx context.Context) (located, error) {
		return s.resolver.locate(ctx, next, cfg.Transport)
	}, config(next.Host))
	t.state.Kind, t.state.State, t.state.Up, t.state.Server = "registration", "registering", false, cfg.Registrar
	t.up.renew = t.upstreams.again
	if cfg.Username == "" {
		t.state.Kind = "upstream"
		return nil
	}
	aor := sipgo.Uri{Scheme: registrar.Scheme, User: cfg.Username, Host: registrar.Host}
	if registrar.User != "" {
		aor.User = registrar.User
	}
	t.login = newLogin(s, t.up, loginConfig{
		registrar: registrar, aor: aor, username: cfg.Username, password: cfg.Password,
		contact: cfg.Username, bulk: cfg.GIN, expires: cfg.Expires, proxy: cfg.OutboundProxy, changed: t.registered,
	})
	t.login.client = t.client
	return nil
}

// registered takes over how the registration stands.
func (t *Trunk) registered(now loginState) {
	t.set(func(s *TrunkState) {
		t.reg = now
		t.compose(s)
	})
}

// compose makes the state of what registration and OPTIONS have told. The
// caller holds t.mu.
func (t *Trunk) compose(s *TrunkState) {
	s.Target = t.up.inUse()
	switch {
	case t.login != nil:
		s.State, s.Up, s.LastCode, s.LastError = t.reg.State, t.reg.Up, t.reg.Code, t.reg.Error
		s.Expires, s.NextTry = t.reg.Expires, t.reg.NextTry
		s.Associated, s.ServiceRoute = t.reg.Associated, t.reg.ServiceRoute
	case t.cfg.Registrar != "":
		t.composeUpstreams(s)
	default:
		s.State, s.Up, s.LastError = "reachable", true, ""
	}
	if t.reach.asked && t.reach.misses > 0 && s.LastError == "" {
		s.LastError = t.reach.err
	}
	if t.reach.down() && (t.login == nil || t.reg.Up) {
		s.State, s.Up = "unreachable", false
	}
}

// run keeps the trunk up until ctx ends: names resolved, registration and OPTIONS alive.
func (t *Trunk) run(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	if len(t.hosts) > 0 {
		t.resolveAll(ctx)
		work.Go(func() { t.keepResolving(ctx) })
	}
	if t.cfg.Registrar != "" {
		work.Go(func() { t.upstreams.run(ctx) })
	}
	if t.cfg.OptionsInterval > 0 {
		work.Go(func() { t.keepProbing(ctx) })
	}
	if t.login == nil {
		t.up.watch(ctx)
		return
	}
	t.login.start(ctx, 0)
	t.up.watch(ctx)
	t.login.stop()
}

// keepResolving looks the peers' names up again as often as the DNS says.
func (t *Trunk) keepResolving(ctx context.Context) {
	for {
		if !sleep(ctx, t.resolveAll(ctx)) {
			return
		}
	}
}

// resolveAll looks every peer up; a name that fails keeps its last addresses.
// It says when to look again.
func (t *Trunk) resolveAll(ctx context.Context) time.Duration {
	next := time.Now().Add(dnsCeiling)
	for _, host := range t.hosts {
		l, err := t.srv.resolver.locate(ctx, sipgo.Uri{Scheme: "sip", Host: host}, t.cfg.Transport)
		if err != nil {
			t.log.Warn("the host of a trunk cannot be resolved; calls from it are not recognised until it can", "host", host, "err", err)
			next = earlier(next, time.Now().Add(dnsFloor))
			continue
		}
		next = earlier(next, l.until)
		t.mu.Lock()
		t.addrs[host] = l.addrs
		t.mu.Unlock()
	}
	return max(time.Until(next), dnsFloor)
}

// owns reports whether a request from this flow is the trunk's.
func (t *Trunk) owns(f *flow) bool {
	ip := f.remote().Addr().Unmap()
	if slices.ContainsFunc(t.prefixes, func(p netip.Prefix) bool { return p.Contains(ip) }) {
		return true
	}
	if t.cfg.Registrar != "" && t.up.owns(ip) {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, addrs := range t.addrs {
		if slices.Contains(addrs, ip) {
			return true
		}
	}
	return false
}

// singles are the peers that are one host; networks cannot be asked.
func (t *Trunk) singles() (hosts []string) {
	for _, p := range t.prefixes {
		if p.IsSingleIP() {
			hosts = append(hosts, p.Addr().String())
		}
	}
	return append(hosts, t.hosts...)
}

// peerName is the name that a certificate of the peers must have.
func (t *Trunk) peerName() string {
	for _, host := range append(slices.Clone(t.hosts), t.singles()...) {
		return host
	}
	return ""
}

// locatePeers finds the peers that are one host, in their order.
func (t *Trunk) locatePeers(ctx context.Context) (located, error) {
	var all located
	last := errNoTarget
	for i, host := range t.singles() {
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		l, err := t.srv.resolver.locate(ctx, sipgo.Uri{Scheme: "sip", Host: host}, t.cfg.Transport)
		if err != nil {
			last = err
			continue
		}
		for _, target := range l.targets {
			target.rank += i << 16 // SRV priorities are below 2^16
			all.targets = append(all.targets, target)
		}
		all.until = earlier(l.until, all.until)
	}
	if len(all.targets) == 0 {
		return located{}, fmt.Errorf("no peer can be reached: %w", last)
	}
	all.targets = all.targets[:min(len(all.targets), maxTargets)]
	return all, nil
}
