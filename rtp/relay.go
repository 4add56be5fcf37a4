package rtp

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"reveille/rtp/kernel"
	"reveille/rtp/ng"
)

// PacketConn is a UDP socket; *net.UDPConn is one. Reads and writes may come from several goroutines, and Close ends a
// waiting read with net.ErrClosed.
type PacketConn interface {
	ReadFromUDPAddrPort(b []byte) (n int, addr netip.AddrPort, err error)
	WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error)
	SetReadDeadline(t time.Time) error
	LocalAddr() net.Addr
	Close() error
}

// Options are what a relay works with besides its configuration. All may be zero.
type Options struct {
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	// Listen opens the socket of an address; nil opens real UDP. An address in use must give an error that is
	// syscall.EADDRINUSE, one that is not this machine's syscall.EADDRNOTAVAIL.
	Listen func(addr netip.AddrPort) (PacketConn, error)
	// LocalAddress is the address in our SDP where neither the session nor the configuration says another; zero asks
	// the routing table.
	LocalAddress netip.Addr
	Sounds       []Sound // that sessions may be opened with, besides the configuration's
	EngineDial   ng.Dial // reaches rtpengine daemons; nil: by UDP
}

// Relay opens sessions. It owns the port range, the ringback sound and its scheduler.
type Relay struct {
	timeout    time.Duration
	address    netip.Addr // in our SDP, unless the session has its own
	deviceSRTP Security
	badge      *badge // in DTLS
	video      bool   // relayed where both sides have it
	outside    bool   // address is the configured external one: it goes before a session's own
	log        *slog.Logger
	engine     engine
	ports      *ports
	sounds     *sounds    // for callers who wait
	ringers    *scheduler // plays it
	reporter   *reporter  // sends RTCP of our own
	metrics    *metrics
	fast       *kernel.Path // nil: sockets only
	lowering   lowering
	cluster    *ng.Pool      // rtpengine daemons; nil with the engine builtin
	interfaces [2]string     // of the daemons, by side; "" leaves it to them
	epoch      time.Time     // moment 0
	opened     atomic.Uint32 // sessions, ever

	fastPackets atomic.Uint64 // that the kernel has relayed

	// Locks are taken in this order: mu, a session's mu, boundMu.
	mu     sync.Mutex // guards the following
	live   map[*Session]struct{}
	closed bool

	boundMu sync.Mutex                // guards the following
	bound   map[netip.Addr]netip.Addr // addresses in SDP that are not this machine's, and what is bound instead
}

// NewRelay makes a relay. It reads the ringback files that are configured.
func NewRelay(cfg Config, o Options) (*Relay, error) {
	var faults []error
	cfg.Validate(func(path, problem string) { faults = append(faults, fmt.Errorf("media.%s: %s", path, problem)) })
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	first, last, err := parsePorts(cfg.Ports)
	if err != nil {
		return nil, err
	}
	sounds, err := newSounds(cfg, o.Sounds)
	if err != nil {
		return nil, err
	}
	r := &Relay{
		timeout: cfg.Timeout, video: cfg.Video && cfg.Engine == builtin, log: o.Log, sounds: sounds,
		ports: newPorts(first, last, quarantine), epoch: time.Now(),
		bound: map[netip.Addr]netip.Addr{}, live: map[*Session]struct{}{},
	}
	r.ringers = newScheduler(r.now)
	r.reporter = newReporter(r.now)
	if r.deviceSRTP, err = ParseSecurity(cfg.DeviceSRTP); err != nil {
		return nil, err
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.engine = newEngine(r.log, o.Listen)
	if cfg.Engine == builtin && o.Listen == nil {
		r.countFiles(first, last)
	}
	if r.address, err = parseExternal(cfg.ExternalAddress); err != nil {
		return nil, err
	}
	if r.outside = r.address.IsValid(); !r.outside {
		r.address = localAddress(o.LocalAddress)
	}
	if r.badge, err = newBadge(); err != nil {
		return nil, err
	}
	if cfg.FastPath == "auto" && cfg.Engine == builtin && o.Listen == nil {
		r.openFast(first, last)
	}
	if r.metrics, err = newMetrics(r, o.Registerer); err != nil {
		r.closeFast()
		return nil, err
	}
	if cfg.Engine == rtpengine {
		if err := r.join(cfg.RTPEngine, o); err != nil {
			r.metrics.unregister()
			return nil, err
		}
	}
	return r, nil
}

// localAddress is a, or the address from which this machine reaches the world. 192.0.2.1 is reserved for documentation
// (RFC 5737); connecting a UDP socket sends nothing.
func localAddress(a netip.Addr) netip.Addr {
	if a.IsValid() && !a.IsUnspecified() {
		return a.Unmap()
	}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	conn, err := net.Dial("udp4", "192.0.2.1:9")
	if err != nil {
		return loopback
	}
	defer conn.Close()
	if u, ok := conn.LocalAddr().(*net.UDPAddr); ok {
		return u.AddrPort().Addr().Unmap()
	}
	return loopback
}

// now is the packet path's clock.
func (r *Relay) now() moment { return time.Since(r.epoch) }

// at converts a moment.
func (r *Relay) at(m moment) time.Time { return r.epoch.Add(m) }

// listen opens a socket on the address itself, or on all addresses of its family if it is not this machine's: the
// outside address of a NAT, or one that the machine has lost, for as long as it has.
func (r *Relay) listen(address netip.Addr, port uint16, to receiver) (outlet, error) {
	o, err := r.engine.open(netip.AddrPortFrom(address, port), to)
	local := address
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		local = netip.IPv6Unspecified()
		if address.Is4() {
			local = netip.IPv4Unspecified()
		}
		o, err = r.engine.open(netip.AddrPortFrom(local, port), to)
	}
	r.boundMu.Lock()
	defer r.boundMu.Unlock()
	if r.bound[address] = local; local == address { // our own addresses only: the map stays small
		delete(r.bound, address)
	}
	return o, err
}

// local is what is bound for an address of ours.
func (r *Relay) local(address netip.Addr) netip.Addr {
	r.boundMu.Lock()
	defer r.boundMu.Unlock()
	if local, known := r.bound[address]; known {
		return local
	}
	return address
}

// bind opens the RTP socket of a side's reserved pair. A pair that something else on this machine has is skipped.
func (r *Relay) bind(st *stream, side Side) error {
	s := &st.sockets[side]
	for {
		o, err := r.bindPair(s, &ear{st, origin{side: side}})
		if err == nil {
			s.rtp = o
			return nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%w: port %d on %v: %w%s", ErrNoSockets, s.port, s.address, err, remedy(err))
		}
		r.log.Debug("media port is taken by another program, next one", "port", s.port)
		port, err := r.ports.take()
		if err != nil {
			return err // s keeps its pair, which Close releases
		}
		r.ports.release(s.port)
		s.port = port
	}
}

// remedy is what to do about an error of the system, where that is plain.
func remedy(err error) string {
	if errors.Is(err, syscall.EMFILE) {
		return "; let the process open more files: LimitNOFILE= of its systemd unit, or ulimit -n"
	}
	return ""
}

// bindPair opens the RTP socket, once it is known that the RTCP port is to be had. The RTCP socket itself is opened when
// the call connects: a call that only rings has no use for it, and there may be thousands of those.
func (r *Relay) bindPair(s *socket, to receiver) (outlet, error) {
	if err := r.try(s.address, s.port+1); err != nil {
		return nil, err
	}
	return r.listen(s.address, s.port, to)
}

// try reports whether a port can be bound, where listen would bind it.
func (r *Relay) try(address netip.Addr, port uint16) error {
	err := r.engine.try(netip.AddrPortFrom(r.local(address), port))
	if errors.Is(err, syscall.EADDRNOTAVAIL) { // listen learns what to bind instead
		return nil
	}
	return err
}

// add enters a session; it fails once the relay is closed.
func (r *Relay) add(s *Session) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errors.New("the media relay is closed")
	}
	r.live[s] = struct{}{}
	return nil
}

// remove forgets a session whose figures are final.
func (r *Relay) remove(s *Session, final Stats) {
	r.mu.Lock()
	_, ok := r.live[s]
	delete(r.live, s)
	r.mu.Unlock()
	if ok {
		r.metrics.finish(s, final)
	}
}

// sessions lists the open ones.
func (r *Relay) sessions() []*Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*Session, 0, len(r.live))
	for s := range r.live {
		list = append(list, s)
	}
	return list
}

// Close ends all sessions and waits for what runs under the relay.
func (r *Relay) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	for _, s := range r.sessions() {
		s.Close()
	}
	r.ringers.wait()
	if r.cluster != nil {
		r.cluster.Close()
	}
	r.reporter.close()
	r.engine.close()
	r.closeFast()
	r.metrics.unregister()
}
