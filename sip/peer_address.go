package sip

import (
	"net/netip"

	"reveille/sip/location"
)

// PeerAddress is where the far end's requests and answers come from itself, so that its media can be expected from
// there too: behind NAT no SDP tells. It is invalid where a proxy stands between, which is somewhere else than the
// media.
func (l *leg) PeerAddress() netip.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.peerAddress(l.flow)
}

// peerAddress is PeerAddress by one of the leg's flows. The caller holds l.mu.
func (l *leg) peerAddress(f *flow) netip.Addr {
	if l.proxied || len(l.routes) > 0 || f == nil {
		return netip.Addr{}
	}
	return f.remote().Addr().Unmap()
}

// PeerAddress is that of the leg, by the flow that the change came on.
func (c *Change) PeerAddress() netip.Addr {
	c.leg.mu.Lock()
	defer c.leg.mu.Unlock()
	return c.leg.peerAddress(c.flow)
}

// PeerAddress is that of the leg to be.
func (r *Replacement) PeerAddress() netip.Addr {
	if r.Binding.Path != "" || r.flow == nil {
		return netip.Addr{}
	}
	return r.flow.remote().Addr().Unmap()
}

// PeerAddress is that of a leg to the binding, were there one.
func (s *Server) PeerAddress(b location.Binding) netip.Addr {
	if f := s.transport.flowByID(b.FlowID); f != nil && b.Path == "" {
		return f.remote().Addr().Unmap()
	}
	return netip.Addr{}
}
