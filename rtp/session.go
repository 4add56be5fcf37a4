package rtp

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
)

// SessionOptions are what a session is opened with.
type SessionOptions struct {
	ID string // call UUID, for logs
	// Our address as that side reaches us, for its SDP; zero: the relay's default. The external address of the
	// configuration goes before it. It decides between IPv4 and IPv6.
	TrunkAddress, DeviceAddress netip.Addr

	TrunkSRTP Security // of the trunk; the device's is in the configuration
	Sound     Sound    // for the trunk's callers; one of the relay's Options.Sounds, or zero
}

// Session is the media of one call. Its methods may be called from any goroutine.
type Session struct {
	relay  *Relay
	number uint32 // of the relay's sessions
	log    *slog.Logger
	sound  *sound // for the caller who waits; nil: silence
	events chan Event
	quiet  chan struct{} // closed when nothing of the session runs any more

	shaking sync.WaitGroup // DTLS handshakes; begun under mu, and not after closed

	// What each packet touches stands together here, up to video: see fetch.
	mu        sync.Mutex // guards the following
	aside     *guard     // of a device that Handover has taken out, as long as that may be undone; nil: there is none, or it has no DTLS
	audio     *stream
	video     *stream // nil: neither side has had any
	exchanges [2]exchange
	player    *player // rings the trunk; nil when silent
	remote    *remote // has the packets in place of sockets; nil with the engine builtin
	watch     watch
	counted   [2]uint64 // packets of each side that the metrics have
	closed    bool

	shakes     context.Context // of the handshakes; nil: there were none
	stopShakes context.CancelFunc
}

// Open reserves the ports of a call and opens the trunk's. It fails with ErrNoPorts when the range is exhausted.
// The device's socket is opened by its first Offer.
func (r *Relay) Open(o SessionOptions) (*Session, error) {
	s := &Session{
		relay:  r,
		number: r.opened.Add(1),
		log:    r.log.With("call", o.ID),
		sound:  r.sounds.of(o.Sound),
		events: make(chan Event, eventBuffer),
		quiet:  make(chan struct{}),
	}
	s.audio = &stream{session: s}
	for side, address := range []netip.Addr{o.TrunkAddress, o.DeviceAddress} {
		s.audio.sockets[side].address = r.addressOr(address)
		s.exchanges[side].writer.ID = rand.Uint64() >> 2
	}
	s.exchanges[Trunk].security, s.exchanges[Device].security = o.TrunkSRTP, r.deviceSRTP
	if err := s.house(o.ID); err != nil {
		return nil, err
	}
	if err := r.add(s); err != nil {
		s.free()
		return nil, err
	}
	return s, nil
}

// house gives the session sockets, or a daemon that has them.
func (s *Session) house(id string) (err error) {
	if s.relay.cluster == nil {
		return s.reserve()
	}
	s.remote, err = newRemote(s, id)
	return err
}

// ReachedAt tells our address as that side reaches us, where it was not known at Open. It counts until the side's
// socket is open.
func (s *Session) ReachedAt(side Side, address netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sock := &s.audio.sockets[side]; sock.rtp == nil {
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
	for side := range s.audio.sockets {
		port, err := r.ports.take()
		if err != nil {
			s.free()
			return err
		}
		s.audio.sockets[side].port = port
	}
	if err := r.bind(s.audio, Trunk); err != nil {
		s.free()
		return err
	}
	return nil
}

// streams lists those of the session. They are the same from Close on.
func (s *Session) streams() []*stream {
	if s.video == nil {
		return []*stream{s.audio}
	}
	return []*stream{s.audio, s.video}
}

// raiseLocked takes all streams back from the kernel.
func (s *Session) raiseLocked() {
	for _, st := range s.streams() {
		st.raiseLocked()
	}
}

// free undoes house.
func (s *Session) free() {
	if s.remote != nil {
		s.remote.close()
	}
	s.closeSockets()
	s.releasePorts()
}

// closeSockets closes what is open.
func (s *Session) closeSockets() {
	for _, st := range s.streams() {
		for side := range st.sockets {
			st.sockets[side].close()
		}
	}
}

// releasePorts gives the ports back.
func (s *Session) releasePorts() {
	for _, st := range s.streams() {
		for side := range st.sockets {
			if port := st.sockets[side].port; port != 0 {
				s.relay.ports.release(port)
			}
		}
	}
}

// listenLocked opens a side's RTP socket if need be.
func (s *Session) listenLocked(side Side) error {
	if s.closed {
		return errClosed
	}
	if s.audio.sockets[side].rtp != nil {
		return nil
	}
	return s.relay.bind(s.audio, side)
}

// listenRTCPLocked opens a side's RTCP socket, unless RTCP comes to the RTP port. A call lives without it.
func (st *stream) listenRTCPLocked(side Side) {
	s, sock := st.session, &st.sockets[side]
	if s.closed || sock.rtcp != nil || sock.rtp == nil || st.path.ends[side].mux {
		return
	}
	o, err := s.relay.listen(sock.address, sock.port+1, &ear{st, origin{side: side, control: true}})
	if err != nil {
		s.log.Warn("no RTCP on this side: its port cannot be opened", "side", side.String(), "port", sock.port+1, "err", err)
		return
	}
	sock.rtcp = o
	if second := st.path.ends[side].rtcp; second != nil {
		second.agent.beginActiveLocked()
	}
}

// Connect is the clean cut from ringing to talking: the ringback stops, then both directions relay. A side that has
// not latched yet gets a new window.
func (s *Session) Connect() {
	s.silence()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.audio.path.connected {
		return
	}
	s.dismissLocked()
	now := s.relay.now()
	for _, st := range s.streams() {
		st.path.connected = true
		for side := range st.path.ends {
			st.path.ends[side].got.connect(now)
			if l := &st.path.ends[side].latch; !l.locked.IsValid() {
				l.reopen()
			}
			st.listenRTCPLocked(Side(side))
		}
	}
	s.audio.reportLocked(now)
	if s.remote != nil {
		s.remote.sync()
	}
	s.startWatchLocked()
}

// SignalledFrom tells where a side's SIP comes from itself, without a proxy; invalid if that is not known. Its media may
// latch there or near its described address, and nowhere else. Told before the description that it came with.
func (s *Session) SignalledFrom(side Side, address netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.streams() {
		st.path.ends[side].latch.via = address
	}
}

// Relatch opens the latch of a side whose peer has moved to another address or flow. The source known until now stays
// believed until another has latched.
func (s *Session) Relatch(side Side) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.streams() {
		st.raiseLocked()
		st.path.ends[side].latch.reopen()
	}
}

// Stats gives the figures as they are now.
func (s *Session) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.audio.stats()
	if s.video != nil {
		v := s.video.stats()
		all.Video = &v
	}
	return all
}

// Close ends the session and gives its ports back, into quarantine. It returns the final figures, every time it is
// called. When it returns, no goroutine of the session runs.
func (s *Session) Close() Stats {
	s.silence()
	s.audio.farewell()
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.raiseLocked()
	s.stopWatchLocked()
	dialler := s.audio.dialler
	if first {
		s.partLocked()
	}
	s.mu.Unlock()
	s.silence() // what has begun to ring since: from here on nothing does
	if dialler != nil {
		s.relay.ringers.stop(dialler)
	}
	if first {
		s.shaking.Wait()
		// Not under mu: closing waits for a reader in the middle of a packet, and that one may wait for mu. Nothing is
		// opened any more.
		s.closeSockets()
		close(s.quiet)
	}
	<-s.quiet
	if first && s.remote != nil {
		s.mu.Lock()
		s.remote.close()
		s.mu.Unlock()
	}
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
	if s.remote != nil {
		s.remote.hush()
	}
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
