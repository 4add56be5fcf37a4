package siptest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Network is an in-memory network of hosts for tests in virtual time
// (testing/synctest): datagrams with loss, delay and reordering, and buffered
// streams with delay. It starts no goroutines. Make it inside the bubble that
// uses it.
type Network struct {
	mu      sync.Mutex // guards the following
	random  *rand.Rand
	hosts   map[netip.Addr]*Host
	names   map[string]netip.Addr
	links   map[route]Link
	cut     map[netip.Addr]bool // partitioned hosts
	streams map[*stream]struct{}
	healed  chan struct{} // closed and renewed when a partition changes
	taps    []func(Packet)

	tapping sync.Mutex // taps see one packet at a time
}

// route is one direction between two hosts; the zero address means any.
type route struct{ from, to netip.Addr }

// Link is what one direction between two hosts does to traffic. Loss, Reorder
// and Duplicate are probabilities from 0 to 1 and apply to datagrams only; Delay
// applies to streams too.
type Link struct {
	Delay  time.Duration
	Jitter time.Duration // up to this much more, evenly spread; may reorder datagrams
	Loss   float64
	// Reorder holds a datagram back for ReorderBy (default 10 ms), so that
	// later ones overtake it.
	Reorder   float64
	ReorderBy time.Duration
	Duplicate float64
}

// Packet is what a tap sees: one datagram, or one Write to a stream.
type Packet struct {
	At       time.Time // when it was sent
	Network  string    // "udp" or "tcp"
	From, To netip.AddrPort
	Data     []byte // a copy
	Dropped  bool   // lost on the way, or nobody listened
}

// NewNetwork makes an empty network, without delay or loss. Its chances come
// from a fixed seed, so a test sees the same ones each time; see Seed.
func NewNetwork() *Network {
	return &Network{
		random:  rand.New(rand.NewPCG(1, 2)),
		hosts:   map[netip.Addr]*Host{},
		names:   map[string]netip.Addr{},
		links:   map[route]Link{},
		cut:     map[netip.Addr]bool{},
		streams: map[*stream]struct{}{},
		healed:  make(chan struct{}),
	}
}

// Seed starts the chances of loss, jitter and reordering anew.
func (n *Network) Seed(seed uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.random = rand.New(rand.NewPCG(seed, seed))
}

// Host is the host with that IP address; it is made on first use. It panics if
// the address is none: a fault of the test.
func (n *Network) Host(ip string) *Host {
	addr := netip.MustParseAddr(ip)
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[addr]
	if h == nil {
		h = &Host{net: n, addr: addr, udp: map[uint16]*PacketConn{}, tcp: map[uint16]*listener{}, next: 49152}
		n.hosts[addr] = h
	}
	return h
}

// Name lets dials reach ip by a host name.
func (n *Network) Name(name, ip string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names[strings.ToLower(name)] = netip.MustParseAddr(ip)
}

// Link sets what happens from one host to another from now on. "" stands for
// any host; the most specific setting holds.
func (n *Network) Link(from, to string, l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links[route{maybeAddr(from), maybeAddr(to)}] = l
}

func maybeAddr(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

// Partition cuts a host off, or heals it. Datagrams are lost meanwhile; streams
// stand still without an error, as they do when a phone loses its network, and
// go on when it is healed.
func (n *Network) Partition(ip string, off bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[netip.MustParseAddr(ip)] = off
	close(n.healed)
	n.healed = make(chan struct{})
}

// CutStreams resets every stream between two hosts ("" is any) and says how
// many there were. Both ends get ECONNRESET.
func (n *Network) CutStreams(a, b string) int {
	x, y := maybeAddr(a), maybeAddr(b)
	n.mu.Lock()
	var cut []*stream
	for s := range n.streams {
		if s.between(x, y) {
			cut = append(cut, s)
		}
	}
	n.mu.Unlock()
	for _, s := range cut {
		s.reset()
	}
	return len(cut)
}

// Tap calls f for each packet from now on, in the order of sending. f must not
// use the network.
func (n *Network) Tap(f func(Packet)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.taps = append(n.taps, f)
}

func (n *Network) tapped(p Packet) {
	n.mu.Lock()
	taps := n.taps
	n.mu.Unlock()
	if len(taps) == 0 {
		return
	}
	p.At = time.Now()
	p.Data = append([]byte(nil), p.Data...)
	n.tapping.Lock()
	defer n.tapping.Unlock()
	for _, f := range taps {
		f(p)
	}
}

// link finds the setting for a direction. The caller holds n.mu.
func (n *Network) link(from, to netip.Addr) Link {
	for _, r := range []route{{from, to}, {from, netip.Addr{}}, {netip.Addr{}, to}, {}} {
		if l, ok := n.links[r]; ok {
			return l
		}
	}
	return Link{}
}

// severed reports whether either host is cut off, and a channel that tells of
// changes.
func (n *Network) severed(a, b netip.Addr) (bool, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut[a] || n.cut[b], n.healed
}

// delay is how long one packet takes. The caller holds n.mu.
func (n *Network) delay(l Link) time.Duration {
	d := l.Delay
	if l.Jitter > 0 {
		d += time.Duration(n.random.Int64N(int64(l.Jitter)))
	}
	return d
}

func (n *Network) chance(p float64) bool { return p > 0 && n.random.Float64() < p }

// Host is one machine on the network, with one IP address. It has the methods
// of sip.Network.
type Host struct {
	net  *Network
	addr netip.Addr

	// guarded by net.mu:
	udp  map[uint16]*PacketConn
	tcp  map[uint16]*listener
	next uint16 // ephemeral port to try next
}

// Addr is the host's IP address.
func (h *Host) Addr() netip.Addr { return h.addr }

// ListenPacket opens a UDP socket; addr is as for net.ListenPacket.
func (h *Host) ListenPacket(_ context.Context, network, addr string) (net.PacketConn, error) {
	if !strings.HasPrefix(network, "udp") {
		return nil, net.UnknownNetworkError(network)
	}
	bound, err := h.bindAddr(addr)
	if err != nil {
		return nil, err
	}
	return h.ListenUDP(bound)
}

// ListenUDP opens a UDP socket on a port of the host; port 0 takes a free one.
// The address may be the host's, or unspecified.
func (h *Host) ListenUDP(bound netip.AddrPort) (*PacketConn, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if bound.Addr().IsValid() && !bound.Addr().IsUnspecified() && bound.Addr() != h.addr {
		return nil, opError("listen", "udp", fmt.Errorf("%s is not an address of %s: %w", bound, h.addr, syscall.EADDRNOTAVAIL))
	}
	port := bound.Port()
	if port == 0 {
		port = h.freePort(func(p uint16) bool { return h.udp[p] != nil })
	}
	if h.udp[port] != nil {
		return nil, opError("listen", "udp", fmt.Errorf("%s: %w", bound, errInUse))
	}
	addr := bound.Addr()
	if !addr.IsValid() {
		addr = h.addr
	}
	c := newPacketConn(h, netip.AddrPortFrom(addr, port))
	h.udp[port] = c
	return c, nil
}

// Listen opens a TCP listener; addr is as for net.Listen.
func (h *Host) Listen(_ context.Context, network, addr string) (net.Listener, error) {
	if !strings.HasPrefix(network, "tcp") {
		return nil, net.UnknownNetworkError(network)
	}
	bound, err := h.bindAddr(addr)
	if err != nil {
		return nil, err
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	port := bound.Port()
	if port == 0 {
		port = h.freePort(func(p uint16) bool { return h.tcp[p] != nil })
	}
	if h.tcp[port] != nil {
		return nil, opError("listen", "tcp", fmt.Errorf("%s: %w", bound, errInUse))
	}
	l := &listener{h: h, addr: netip.AddrPortFrom(bound.Addr(), port), queue: make(chan *streamConn, backlog), closed: make(chan struct{})}
	h.tcp[port] = l
	return l, nil
}

// DialContext connects to a listener ("tcp"), after one round trip; or gives a
// UDP socket with a fixed peer ("udp").
func (h *Host) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	to, err := h.net.resolve(addr)
	if err != nil {
		return nil, opError("dial", network, err)
	}
	switch {
	case strings.HasPrefix(network, "tcp"):
		return h.dialStream(ctx, to)
	case strings.HasPrefix(network, "udp"):
		c, err := h.ListenUDP(netip.AddrPort{})
		if err != nil {
			return nil, err
		}
		return &connectedPacketConn{c, to}, nil
	}
	return nil, net.UnknownNetworkError(network)
}

func (n *Network) resolve(addr string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return netip.AddrPortFrom(ip.Unmap(), uint16(p)), nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	ip, ok := n.names[strings.ToLower(host)]
	if !ok {
		return netip.AddrPort{}, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return netip.AddrPortFrom(ip, uint16(p)), nil
}

// bindAddr reads "host:port" with host empty or the host's own.
func (h *Host) bindAddr(addr string) (netip.AddrPort, error) {
	if port, ok := strings.CutPrefix(addr, ":"); ok {
		addr = net.JoinHostPort(h.addr.String(), port)
	}
	bound, err := netip.ParseAddrPort(addr)
	if err != nil {
		return bound, opError("listen", "", err)
	}
	if bound.Addr() != h.addr && (!bound.Addr().IsUnspecified() || bound.Addr().Is4() != h.addr.Is4()) {
		return bound, opError("listen", "", fmt.Errorf("%s is not an address of %s: %w", bound, h.addr, syscall.EADDRNOTAVAIL))
	}
	return bound, nil
}

// freePort finds a port that is not taken. The caller holds net.mu.
func (h *Host) freePort(taken func(uint16) bool) uint16 {
	for {
		p := h.next
		if h.next++; h.next == 0 {
			h.next = 49152
		}
		if !taken(p) {
			return p
		}
	}
}

var errInUse = errors.New("address already in use")

func opError(op, network string, err error) error {
	return &net.OpError{Op: op, Net: network, Err: err}
}
