package sip

import (
	"context"
	"log/slog"
	"net/netip"
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
	hosts    []string       // peers given as names
	up       *uplink        // to the server, or to those peers that are one host
	client   *digestClient  // of its challenges, within dialogs too
	login    *login         // nil: without a user name of its own

	upstreams *upstreams // the registrations of extensions

	mu     sync.Mutex // guards the following
	state  TrunkState
	reg    loginState
	reach  reachability
	outage *outage                 // of a trunk that only extensions register at; nil: not known yet
	addrs  map[string][]netip.Addr // of hosts, as last resolved
}

// TrunkState is what an administrator sees of a trunk.
type TrunkState struct {
	Name      string    `json:"name"`
	Kind      string    `json:"kind"` // registration | upstream (of extensions alone) | peer
	Up        bool      `json:"up"`
	State     string    `json:"state"` // registered | registering | failed | unregistered | reachable | unreachable | not probed
	Since     time.Time `json:"since"`
	Server    string    `json:"server,omitempty"` // registrar or peers
	Target    string    `json:"target,omitempty"` // address in use, such as "udp://192.0.2.10:5060"
	Expires   time.Time `json:"expires,omitzero"`
	NextTry   time.Time `json:"next_try,omitzero"`
	LastCode  int       `json:"last_code,omitempty"` // of the last answer to REGISTER
	LastError string    `json:"last_error,omitempty"`
	SeenAs    string    `json:"seen_as,omitempty"` // our address as the trunk sees it, where that is not the one we name: a NAT

	Associated   []string `json:"associated,omitempty"`    // URIs that the registrar says are ours (P-Associated-URI, RFC 7315)
	ServiceRoute []string `json:"service_route,omitempty"` // URIs that it routes our requests by (RFC 3608)

	Upstreams *UpstreamCounts `json:"upstreams,omitempty"` // nil: no extension registers here
}

func newTrunk(s *Server, cfg TrunkConfig) (*Trunk, error) {
	t := &Trunk{cfg: cfg, srv: s, log: s.log.With("trunk", cfg.Name), addrs: map[string][]netip.Addr{}}
	t.client = newDigestClient(cfg.Username, cfg.Password)
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
	t.upstreams = newUpstreams(t)
	if err := t.attach(); err != nil {
		return nil, err
	}
	s.metrics.up(cfg.Name, t.state.Up)
	s.metrics.upstreams.add(t.upstreams)
	return t, nil
}

// Name is the trunk's name in the configuration.
func (t *Trunk) Name() string { return t.cfg.Name }

// Config is the trunk's entry in the configuration, defaults filled in.
func (t *Trunk) Config() TrunkConfig { return t.cfg }

// State is how the trunk stands now.
func (t *Trunk) State() TrunkState {
	t.mu.Lock()
	now := t.state
	t.mu.Unlock()
	now.Upstreams = t.upstreams.counts()
	return now
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

// trunkFor finds the trunk that a request comes from; nil for a stranger.
// The connection of our registration names its trunk. Where several share an
// address, the user of the Request-URI tells: it is the user name of our
// registration, or of the Contact of an extension's, or of a URI that the
// registrar gave us (P-Associated-URI). What is left goes to the trunk that all
// numbers are registered for (RFC 6140), else to the first.
func (s *Server) trunkFor(f *flow, req *sipgo.Request) *Trunk {
	trunks := s.Trunks()
	for _, t := range trunks {
		if t.up.has(f) {
			return t
		}
	}
	var found *Trunk
	rank := 0
	for _, t := range trunks {
		if !t.owns(f) {
			continue
		}
		if r := t.claims(req.Recipient.User); found == nil || r > rank {
			found, rank = t, r
		}
	}
	return found
}

// claims ranks how surely a number is this trunk's, 0 for unknown.
func (t *Trunk) claims(user string) int {
	if t.cfg.Username != "" && user == t.cfg.Username {
		return 3
	}
	if _, ok := t.upstreams.find(user); ok {
		return 3
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if user != "" && slices.ContainsFunc(t.reg.Associated, func(uri string) bool { return uriUser(uri) == user }) {
		return 2
	}
	return whether(t.cfg.GIN)
}

// uriUser is the user part of a sip: URI, or the number of a tel: one.
func uriUser(uri string) string {
	_, rest, _ := strings.Cut(uri, ":")
	if i := strings.IndexAny(rest, "@;?"); i >= 0 {
		rest = rest[:i]
	}
	return rest
}

// flowClosed wakes the registration when its connection has died.
func (t *Trunk) flowClosed(f *flow) {
	t.up.closed(f)
	t.upstreams.lost(f)
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
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	f, err := t.up.dial(ctx, target{proto: proto, addr: addr})
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

// datagramsTo is the UDP flow to an address.
func (s *Server) datagramsTo(addr netip.AddrPort) (*flow, error) {
	if f := s.transport.udpFlowTo(addr); f != nil {
		return f, nil
	}
	return nil, errNoSuchListener
}
