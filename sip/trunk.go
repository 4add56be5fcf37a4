package sip

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// Trunk is a carrier or PBX that sends us INVITEs: we register to it, or it is
// known by address, or both.
type Trunk struct {
	cfg TrunkConfig
	srv *Server
	log *slog.Logger

	prefixes []netip.Prefix // peers given as addresses
	hosts    []string       // peers and servers given as names
	callID   string         // one for all REGISTERs of this process (RFC 3261 §10.2.4)
	client   *digestClient

	mu    sync.Mutex // guards the following
	state TrunkState
	addrs map[string][]netip.Addr // host -> addresses, as last resolved
	flow  *flow                   // the connection of our registration, tcp and tls
	lost  chan struct{}           // closed when flow dies, so that the loop registers again
	seq   uint32
}

// TrunkState is what an administrator sees of a trunk.
type TrunkState struct {
	Name      string    `json:"name"`
	Kind      string    `json:"kind"` // registration | peer
	Up        bool      `json:"up"`
	State     string    `json:"state"` // registered | registering | failed | unregistered | reachable | unreachable | not probed
	Since     time.Time `json:"since"`
	Server    string    `json:"server,omitempty"` // registrar or peers
	Expires   time.Time `json:"expires,omitzero"`
	NextTry   time.Time `json:"next_try,omitzero"`
	LastCode  int       `json:"last_code,omitempty"`
	LastError string    `json:"last_error,omitempty"`
}

// resolveInterval is how often host names of peers are looked up again. Most
// carriers publish a TTL of 5 minutes or more.
const resolveInterval = 5 * time.Minute

func newTrunk(s *Server, cfg TrunkConfig) (*Trunk, error) {
	t := &Trunk{
		cfg: cfg, srv: s, log: s.log.With("trunk", cfg.Name),
		callID: newTag() + newTag(), addrs: map[string][]netip.Addr{}, lost: make(chan struct{}),
		client: newDigestClient(cfg.Username, cfg.Password),
	}
	for _, p := range cfg.Peers {
		prefix, host, err := ParsePeer(p)
		if err != nil {
			return nil, err
		}
		if host == "" {
			t.prefixes = append(t.prefixes, prefix)
		} else {
			t.hosts = append(t.hosts, host)
		}
	}
	t.state = TrunkState{Name: cfg.Name, Kind: "peer", Up: true, State: "not probed", Since: time.Now(), Server: strings.Join(cfg.Peers, ", ")}
	if cfg.Registrar != "" {
		t.state.Kind, t.state.State, t.state.Up, t.state.Server = "registration", "registering", false, cfg.Registrar
		for _, uri := range []string{cfg.Registrar, cfg.OutboundProxy} {
			if u, err := parseURI(uri); err == nil && uri != "" {
				t.hosts = append(t.hosts, u.Host)
			}
		}
	}
	s.metrics.up(cfg.Name, t.state.Up)
	return t, nil
}

// Name is the trunk's name in the configuration.
func (t *Trunk) Name() string { return t.cfg.Name }

// Config is the trunk's entry in the configuration, defaults filled in.
func (t *Trunk) Config() TrunkConfig { return t.cfg }

// State is how the trunk stands now.
func (t *Trunk) State() TrunkState {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state
}

// set changes the state; a change of up or down is logged and counted here alone.
func (t *Trunk) set(change func(*TrunkState)) {
	t.mu.Lock()
	before := t.state
	change(&t.state)
	after := t.state
	if before.State != after.State {
		t.state.Since = time.Now()
	}
	t.mu.Unlock()
	t.srv.metrics.up(t.cfg.Name, after.Up)
	switch {
	case before.State == after.State && before.LastError == after.LastError:
	case after.Up:
		t.log.Info("trunk is "+after.State, "server", after.Server)
	case after.LastError != "":
		t.log.Warn("trunk is "+after.State, "server", after.Server, "code", after.LastCode, "err", after.LastError, "next_try", after.NextTry)
	}
}

// run keeps the trunk up until ctx ends: names resolved, registration or OPTIONS alive.
func (t *Trunk) run(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	if len(t.hosts) > 0 {
		t.resolveAll(ctx)
		work.Go(func() { t.keepResolving(ctx) })
	}
	switch {
	case t.cfg.Registrar != "":
		t.keepRegistered(ctx)
	case t.cfg.OptionsInterval > 0:
		t.keepProbing(ctx)
	}
}

func (t *Trunk) keepResolving(ctx context.Context) {
	tick := time.NewTicker(resolveInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			t.resolveAll(ctx)
		}
	}
}

// resolveAll looks every host up; a name that fails keeps its last addresses.
func (t *Trunk) resolveAll(ctx context.Context) {
	for _, host := range t.hosts {
		if _, err := t.resolve(ctx, host); err != nil {
			t.log.Warn("the host of a trunk cannot be resolved; calls from it are not recognised until it can", "host", host, "err", err)
		}
	}
}

func (t *Trunk) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	host = strings.Trim(host, "[]")
	addrs := []netip.Addr{}
	if ip, err := netip.ParseAddr(host); err == nil {
		addrs = append(addrs, ip.Unmap())
	} else if addrs, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		return nil, err
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	t.mu.Lock()
	t.addrs[host] = addrs
	t.mu.Unlock()
	return addrs, nil
}

// owns reports whether a request from this flow is the trunk's.
func (t *Trunk) owns(f *flow) bool {
	ip := f.remote().Addr().Unmap()
	if slices.ContainsFunc(t.prefixes, func(p netip.Prefix) bool { return p.Contains(ip) }) {
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

// connectedBy: f is the connection that we opened to register.
func (t *Trunk) connectedBy(f *flow) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.flow == f
}

// trunkFor finds the trunk that a request comes from; nil for a stranger.
// The connection of our registration names its trunk. Where several share an
// address, the user of the Request-URI tells: it is the user name of our
// registration.
func (s *Server) trunkFor(f *flow, req *sipgo.Request) *Trunk {
	trunks := s.Trunks()
	for _, t := range trunks {
		if t.connectedBy(f) {
			return t
		}
	}
	var found *Trunk
	for _, t := range trunks {
		if !t.owns(f) {
			continue
		}
		if t.cfg.Username != "" && req.Recipient.User == t.cfg.Username {
			return t
		}
		if found == nil {
			found = t
		}
	}
	return found
}

// flowClosed wakes the registration loop when its connection has died.
func (t *Trunk) flowClosed(f *flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.flow == f {
		t.flow = nil
		close(t.lost)
		t.lost = make(chan struct{})
	}
}

// trunkPath is the flow for an in-dialog request towards a trunk: the stream
// it lives on; else, for datagrams, the next hop's address where that is an IP
// that the trunk's own network could reach us from; else a new connection.
func (s *Server) trunkPath(t *Trunk, f *flow, hop sipgo.Uri) (*flow, error) {
	addr, literal := hopAddress(hop)
	if f.udp == nil {
		if !f.isDead() {
			return f, nil
		}
		if !literal {
			addr = netip.AddrPortFrom(f.remote().Addr(), addr.Port())
		}
		return t.reconnect(f.transport(), addr)
	}
	// A private Contact behind a public source is a NAT: answer to the source.
	if !literal || addr.Addr().IsPrivate() && !f.remote().Addr().IsPrivate() && !f.remote().Addr().IsLoopback() {
		return f, nil
	}
	if addr == f.remote() {
		return f, nil
	}
	return s.datagramsTo(addr)
}

// reconnect finds or opens a connection for the last requests of a dialog
// whose own has gone. One that it opens is closed again when they are over.
func (t *Trunk) reconnect(proto string, addr netip.AddrPort) (*flow, error) {
	if f := t.srv.transport.streamTo(proto, addr); f != nil {
		return f, nil
	}
	config, err := trunkTLS(t.cfg)
	if err != nil {
		return nil, err
	}
	name := addr.Addr().String()
	if n := len(t.hosts); n > 0 {
		name = strings.Trim(t.hosts[n-1], "[]")
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	f, err := t.srv.transport.dial(ctx, strings.ToLower(proto), addr.String(), name, config)
	if err == nil {
		time.AfterFunc(2*timer64T1, f.close)
	}
	return f, err
}

// hopAddress is the address of a URI whose host is an IP; port 5060 by default.
func hopAddress(u sipgo.Uri) (netip.AddrPort, bool) {
	port := u.Port
	if port == 0 {
		port = 5060
		if t, _ := u.UriParams.Get("transport"); strings.EqualFold(t, "tls") || u.Scheme == "sips" {
			port = 5061
		}
	}
	ip, err := netip.ParseAddr(strings.Trim(u.Host, "[]"))
	return netip.AddrPortFrom(ip.Unmap(), uint16(port)), err == nil
}

// trunkTLS is the TLS configuration towards a trunk: its own trust anchors
// besides the system's. nil: the defaults.
func trunkTLS(cfg TrunkConfig) (*tls.Config, error) {
	if cfg.RootCA == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(cfg.RootCA)
	if err != nil {
		return nil, fmt.Errorf("root_ca: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("root_ca: %s holds no PEM certificate", cfg.RootCA)
	}
	return &tls.Config{RootCAs: pool}, nil
}

// datagramsTo is the UDP flow to an address.
func (s *Server) datagramsTo(addr netip.AddrPort) (*flow, error) {
	if f := s.transport.udpFlowTo(addr); f != nil {
		return f, nil
	}
	return nil, errNoSuchListener
}
