package rtp

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// ErrNoPorts says that every port pair of the range is in use or was until a moment ago. SIP answers 503.
var ErrNoPorts = errors.New("no free media ports: widen media.ports, or take fewer calls")

// ErrNoSockets says that the system gives us no socket, though ports are free. SIP answers 503.
var ErrNoSockets = errors.New("no media socket")

// quarantine is how long a pair rests after use, so that late packets of one call never reach the next.
const quarantine = 5 * time.Second

// ports hands out port pairs: an even port for RTP and the odd one above for RTCP (RFC 3550 §11), in random order so
// that a stranger cannot guess where the next call will be.
type ports struct {
	rest time.Duration // set once: time in quarantine

	mu      sync.Mutex // guards the following
	free    []uint16   // even ports
	resting []resting  // in quarantine, from index rested on, the oldest first
	rested  int
	held    [1 << 15]bool // by half the port number: taken and not released
}

// resting is a pair in quarantine.
type resting struct {
	port  uint16
	until time.Time
}

// newPorts makes the pairs from the even port first to the even port last.
func newPorts(first, last uint16, rest time.Duration) *ports {
	p := &ports{rest: rest}
	for port := int(first); port <= int(last); port += 2 {
		p.free = append(p.free, uint16(port))
	}
	return p
}

// take gives a random free pair by its even port, or ErrNoPorts.
func (p *ports) take() (uint16, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wake(time.Now())
	if len(p.free) == 0 {
		return 0, ErrNoPorts
	}
	i, end := rand.IntN(len(p.free)), len(p.free)-1
	port := p.free[i]
	p.free[i] = p.free[end]
	p.free = p.free[:end]
	p.held[port/2] = true
	return port, nil
}

// owns reports whether a port, or its neighbour in the pair, is taken by a call.
func (p *ports) owns(port uint16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held[port/2]
}

// wake frees the pairs whose quarantine is over. The caller holds mu.
func (p *ports) wake(now time.Time) {
	for p.rested < len(p.resting) && !now.Before(p.resting[p.rested].until) {
		p.free = append(p.free, p.resting[p.rested].port)
		p.rested++
	}
	if p.rested > len(p.resting)/2 { // seldom: thousands may rest
		p.resting = append(p.resting[:0], p.resting[p.rested:]...)
		p.rested = 0
	}
}

// release puts a pair into quarantine: one that a call is done with, or one that could not be bound.
func (p *ports) release(port uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held[port/2] = false
	p.resting = append(p.resting, resting{port, time.Now().Add(p.rest)})
}

// owns reports whether an address is that of a port which one of our calls has, by whatever address of this machine. Two
// peers that describe such ports would have us send one packet round and round.
func (s *Session) owns(a netip.AddrPort) bool {
	if !a.IsValid() || a.Addr().IsUnspecified() || !s.relay.ports.owns(a.Port()) {
		return false
	}
	s.mu.Lock()
	known := a.Addr() == s.relay.address
	for _, sock := range s.audio.sockets {
		known = known || a.Addr() == sock.address
	}
	s.mu.Unlock()
	return known || s.relay.engine.try(netip.AddrPortFrom(a.Addr(), 0)) == nil // only an address of this machine can be bound
}
