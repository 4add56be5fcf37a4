package rtp

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
)

// maxPacket is the largest datagram relayed. An Ethernet frame carries 1472 bytes; what fills the buffer was cut off.
const maxPacket = 1536

// maxReadErrors in a row end a socket's reader: it must not spin on a broken one.
const maxReadErrors = 100

// SessionOptions are what a session is opened with.
type SessionOptions struct {
	ID string // call UUID, for logs
	// Our address as that side reaches us, for its SDP; zero: the relay's default. The external address of the
	// configuration goes before it. It decides between IPv4 and IPv6.
	TrunkAddress, DeviceAddress netip.Addr

	TrunkSRTP Security // of the trunk; the device's is in the configuration
}

// Session is the media of one call. Its methods may be called from any goroutine.
type Session struct {
	relay   *Relay
	log     *slog.Logger
	events  chan Event
	readers sync.WaitGroup

	mu        sync.Mutex // guards the following
	path      path
	sockets   [2]socket
	exchanges [2]exchange
	player    *player // rings the trunk; nil when silent
	watch     watch
	closed    bool
}

// socket is a side's port pair.
type socket struct {
	address   netip.Addr // as the peer knows it, in our SDP
	port      uint16     // of RTP, even; RTCP has the next
	rtp, rtcp PacketConn // nil until opened
	reading   bool       // the RTP socket has its reader
}

// conn picks the socket.
func (s *socket) conn(control bool) PacketConn {
	if control {
		return s.rtcp
	}
	return s.rtp
}

// close closes what is open.
func (s *socket) close() {
	for _, c := range []PacketConn{s.rtp, s.rtcp} {
		if c != nil {
			_ = c.Close()
		}
	}
}

// Open reserves the ports of a call and opens the trunk's. It fails with ErrNoPorts when the range is exhausted.
// The device's socket is opened by its first Offer.
func (r *Relay) Open(o SessionOptions) (*Session, error) {
	s := &Session{
		relay:  r,
		log:    r.log.With("call", o.ID),
		events: make(chan Event, eventBuffer),
	}
	for side, address := range []netip.Addr{o.TrunkAddress, o.DeviceAddress} {
		s.sockets[side].address = r.addressOr(address)
		s.exchanges[side].writer.ID = rand.Uint64() >> 2
	}
	s.exchanges[Trunk].security, s.exchanges[Device].security = o.TrunkSRTP, r.deviceSRTP
	if err := s.reserve(); err != nil {
		return nil, err
	}
	if err := r.add(s); err != nil {
		s.free()
		return nil, err
	}
	return s, nil
}

// ReachedAt tells our address as that side reaches us, where it was not known at Open. It counts until the side's
// socket is open.
func (s *Session) ReachedAt(side Side, address netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sock := &s.sockets[side]; sock.rtp == nil {
		sock.address = s.relay.addressOr(address)
	}
}

// addressOr is what goes into SDP: the configured external address, unless the side is reached by the other family; else
// the session's own, else the default.
func (r *Relay) addressOr(own netip.Addr) netip.Addr {
	if !own.IsValid() || own.IsUnspecified() {
		return r.address
	}
	if own = own.Unmap(); r.outside && own.Is4() == r.address.Is4() {
		return r.address
	}
	return own
}

// reserve takes both pairs and opens the trunk's socket.
func (s *Session) reserve() error {
	r := s.relay
	for side := range s.sockets {
		port, err := r.ports.take()
		if err != nil {
			s.free()
			return err
		}
		s.sockets[side].port = port
	}
	if err := r.bind(&s.sockets[Trunk]); err != nil {
		s.free()
		return err
	}
	return nil
}

// free undoes reserve.
func (s *Session) free() {
	s.closeSockets()
	s.releasePorts()
}

// closeSockets closes what is open.
func (s *Session) closeSockets() {
	for side := range s.sockets {
		s.sockets[side].close()
	}
}

// releasePorts gives the ports back.
func (s *Session) releasePorts() {
	for side := range s.sockets {
		if port := s.sockets[side].port; port != 0 {
			s.relay.ports.release(port)
		}
	}
}

// listenLocked opens a side's RTP socket if need be, and starts its reader.
func (s *Session) listenLocked(side Side) error {
	sock := &s.sockets[side]
	if s.closed {
		return errClosed
	}
	if sock.rtp == nil {
		if err := s.relay.bind(sock); err != nil {
			return err
		}
	}
	if !sock.reading {
		sock.reading = true
		s.readLocked(origin{side: side}, sock.rtp)
	}
	return nil
}

// listenRTCPLocked opens a side's RTCP socket and starts its reader, unless RTCP comes to the RTP port. A call lives
// without it.
func (s *Session) listenRTCPLocked(side Side) {
	sock := &s.sockets[side]
	if s.closed || sock.rtcp != nil || sock.rtp == nil || s.path.ends[side].mux {
		return
	}
	conn, err := s.relay.listen(sock.address, sock.port+1)
	if err != nil {
		s.log.Warn("no RTCP on this side: its port cannot be opened", "side", side.String(), "port", sock.port+1, "err", err)
		return
	}
	sock.rtcp = conn
	s.readLocked(origin{side: side, control: true}, conn)
}

// readLocked starts a reader.
func (s *Session) readLocked(from origin, conn PacketConn) {
	s.readers.Go(func() {
		for s.pump(from, conn) {
		}
	})
}

// pump moves packets until the socket is closed. After a panic it reports true: the packet is lost, the call goes on.
func (s *Session) pump(from origin, conn PacketConn) (again bool) {
	defer func() {
		if r := recover(); r != nil {
			s.log.Error("packet dropped: the relay failed on it", "side", from.side.String(), "err", r)
			again = true
		}
	}()
	var err error
	if c, ok := conn.(*net.UDPConn); ok {
		if err = s.readBatches(from, c); errors.Is(err, net.ErrClosed) {
			return false
		}
	}
	if err = s.readSingly(from, conn); !errors.Is(err, net.ErrClosed) {
		s.log.Error("media socket given up after errors", "side", from.side.String(), "err", err)
	}
	return false
}

// readSingly reads any socket, until it is closed or fails for good.
func (s *Session) readSingly(from origin, conn PacketConn) error {
	buf := make([]byte, maxPacket)
	for failures := 0; ; {
		n, addr, err := conn.ReadFromUDPAddrPort(buf)
		if err == nil {
			failures = 0
			from.addr = addr
			s.handle(from, buf[:n])
			continue
		}
		// Others may pass, such as an ICMP error that the system reports on the socket.
		if failures++; failures >= maxReadErrors || errors.Is(err, net.ErrClosed) {
			return err
		}
	}
}

// handle relays one packet.
func (s *Session) handle(from origin, packet []byte) {
	if from.addr.Addr().Is4In6() {
		from.addr = netip.AddrPortFrom(from.addr.Addr().Unmap(), from.addr.Port())
	}
	now := s.relay.now()
	s.mu.Lock()
	if len(packet) == maxPacket {
		packet = packet[:0] // cut off: counts as invalid
	}
	out, to := s.path.forward(from, packet, now)
	conn := s.sockets[from.side.Other()].conn(to.control)
	plain := s.path.ends[from.side.Other()].crypt == nil // else forward has read the reports
	news := s.path.news
	s.path.news = false
	s.mu.Unlock()
	if news {
		s.tell(Event{Kind: FirstPacket, Side: from.side, At: s.relay.at(now)})
	}
	if out == nil || conn == nil {
		return
	}
	// An error here is this packet's loss, and the peer's own absence shows in the statistics.
	_, _ = conn.WriteToUDPAddrPort(out, to.addr)
	if plain && isRTCP(out) {
		s.readReports(from.side, out, now)
	}
}

// readReports reads relayed RTCP after it has left.
func (s *Session) readReports(side Side, packet []byte, now moment) {
	list := parseReports(packet)
	s.mu.Lock()
	s.path.readReports(side, list, now)
	s.mu.Unlock()
}

// Connect is the clean cut from ringing to talking: the ringback stops, then both directions relay. A side that has
// not latched yet gets a new window.
func (s *Session) Connect() {
	s.silence()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.path.connected {
		return
	}
	s.path.connected = true
	for side := range s.path.ends {
		if l := &s.path.ends[side].latch; !l.locked.IsValid() {
			l.reopen()
		}
		s.listenRTCPLocked(Side(side))
	}
	s.startWatchLocked()
}

// Relatch opens the latch of a side whose peer has moved to another address or flow. The source known until now stays
// believed until another has latched.
func (s *Session) Relatch(side Side) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.path.ends[side].latch.reopen()
}

// Stats gives the figures as they are now.
func (s *Session) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{
		Trunk:  s.path.ends[Trunk].got.stats(s.relay.at),
		Device: s.path.ends[Device].got.stats(s.relay.at),
	}
}

// Close ends the session and gives its ports back, into quarantine. It returns the final figures, every time it is
// called. When it returns, no goroutine of the session runs.
func (s *Session) Close() Stats {
	s.silence()
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.stopWatchLocked()
	s.mu.Unlock()
	if first {
		// Not under mu: closing waits for a reader in the middle of a packet, and that one may wait for mu. Nothing is
		// opened any more.
		s.closeSockets()
	}
	s.readers.Wait()
	final := s.Stats()
	if first {
		s.releasePorts()
		s.relay.remove(s, final)
	}
	return final
}

// addrPort joins an address and a port.
func addrPort(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// errClosed says that the session is over.
var errClosed = errors.New("the media session is closed")

// silence stops the ringback. Nothing of it is sent once this returns.
func (s *Session) silence() {
	s.mu.Lock()
	p := s.player
	s.player = nil
	s.mu.Unlock()
	if p != nil {
		s.relay.ringers.stop(p)
	}
}

// source is a fresh random SSRC, sequence number and timestamp (RFC 3550 §5.1, §8.1).
func source() (ssrc, timestamp uint32, seq uint16) {
	n := rand.Uint64()
	return rand.Uint32(), uint32(n), uint16(n >> 32)
}
