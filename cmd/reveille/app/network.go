package app

import (
	"context"
	"net"
	"slices"
	"sync"

	"reveille/sip"
)

// sockets is the network as the SIP server sees it. It takes down what was
// opened: sip listens on the configured addresses one by one, in their order.
type sockets struct {
	sip.Network
	schemes []string      // of the configured addresses
	open    chan struct{} // closed when all of them are open

	mu    sync.Mutex // guards the following
	bound []string
}

func newSockets(n sip.Network, listen []string) *sockets {
	s := &sockets{Network: n, open: make(chan struct{})}
	for _, l := range listen {
		scheme, _, err := sip.ParseListen(l)
		if err != nil {
			scheme = "sip" // the server will refuse it
		}
		s.schemes = append(s.schemes, scheme)
	}
	return s
}

// ListenPacket implements sip.Network.
func (s *sockets) ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error) {
	c, err := s.Network.ListenPacket(ctx, network, addr)
	if err == nil {
		s.note(c.LocalAddr())
	}
	return c, err
}

// Listen implements sip.Network.
func (s *sockets) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	l, err := s.Network.Listen(ctx, network, addr)
	if err == nil {
		s.note(l.Addr())
	}
	return l, err
}

func (s *sockets) note(addr net.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.bound) == len(s.schemes) {
		return
	}
	s.bound = append(s.bound, s.schemes[len(s.bound)]+"://"+addr.String())
	if len(s.bound) == len(s.schemes) {
		close(s.open)
	}
}

func (s *sockets) addresses() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bound)
}
