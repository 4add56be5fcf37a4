package siptest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// DualHost is one machine with an IPv4 and an IPv6 address. It has the methods
// of sip.Network; each socket is of one family.
type DualHost struct{ four, six *Host }

// DualHost joins two hosts of the network.
func (n *Network) DualHost(four, six string) *DualHost {
	return &DualHost{n.Host(four), n.Host(six)}
}

// ListenPacket opens a UDP socket on the family of the address.
func (d *DualHost) ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error) {
	h, err := d.bound(network, addr)
	if err != nil {
		return nil, err
	}
	return h.ListenPacket(ctx, network, addr)
}

// Listen opens a TCP listener on the family of the address.
func (d *DualHost) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	h, err := d.bound(network, addr)
	if err != nil {
		return nil, err
	}
	return h.Listen(ctx, network, addr)
}

// ListenUDP opens a UDP socket on the family of the address.
func (d *DualHost) ListenUDP(bound netip.AddrPort) (*PacketConn, error) {
	return d.of(bound.Addr()).ListenUDP(bound)
}

// DialContext dials from the address of the peer's family.
func (d *DualHost) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	to, err := d.four.net.resolve(addr)
	if err != nil {
		return nil, opError("dial", network, err)
	}
	return d.of(to.Addr()).DialContext(ctx, network, to.String())
}

func (d *DualHost) of(a netip.Addr) *Host {
	if a.Unmap().Is4() {
		return d.four
	}
	return d.six
}

func (d *DualHost) bound(network, addr string) (*Host, error) {
	bound, err := netip.ParseAddrPort(addr)
	switch {
	case err != nil:
		return nil, opError("listen", network, err)
	case bound.Addr() == netip.IPv6Unspecified() && !strings.HasSuffix(network, "6"):
		return nil, opError("listen", network, fmt.Errorf("%s would be both families; this network has no such socket", addr))
	}
	return d.of(bound.Addr()), nil
}
