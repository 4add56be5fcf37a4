// Package rtptest has what tests of the media path need: datagrams in memory, which work in virtual time, and a talker
// that makes RTP packets.
package rtptest

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// queue is how many datagrams wait at a socket before more are lost; a Linux socket holds about as many small ones.
const queue = 256

// Network is a network of UDP sockets in memory. The zero value is ready. Every address may be bound.
type Network struct {
	// Delay is the time a datagram takes; none by default.
	Delay time.Duration
	// Drop, if set, says which datagrams are lost. It must not keep the packet.
	Drop func(from, to netip.AddrPort, packet []byte) bool
	// NotLocal lists addresses that cannot be bound, as if they were the outside address of a NAT.
	NotLocal []netip.Addr

	mu    sync.Mutex // guards the following
	conns map[netip.AddrPort]*Conn
}

// datagram is one on its way.
type datagram struct {
	from netip.AddrPort
	data []byte
}

// Listen binds an address; port 0 takes a free one above 40000. Errors are those of the system, wrapped.
func (n *Network) Listen(addr netip.AddrPort) (*Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conns == nil {
		n.conns = map[netip.AddrPort]*Conn{}
	}
	if slices.Contains(n.NotLocal, addr.Addr()) {
		return nil, &net.OpError{Op: "listen", Net: "udp", Err: os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)}
	}
	for port := uint16(40000); addr.Port() == 0; port++ {
		if a := netip.AddrPortFrom(addr.Addr(), port); n.conns[a] == nil {
			addr = a
		}
	}
	if n.conns[addr] != nil {
		return nil, &net.OpError{Op: "listen", Net: "udp", Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
	}
	c := &Conn{network: n, addr: addr, in: make(chan datagram, queue), done: make(chan struct{})}
	n.conns[addr] = c
	return c, nil
}

// Open is the number of sockets open now.
func (n *Network) Open() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.conns)
}

// send takes a datagram on its way.
func (n *Network) send(from, to netip.AddrPort, packet []byte) {
	if n.Drop != nil && n.Drop(from, to, packet) {
		return
	}
	d := datagram{from, slices.Clone(packet)}
	if n.Delay > 0 {
		time.AfterFunc(n.Delay, func() { n.deliver(to, d) })
		return
	}
	n.deliver(to, d)
}

// deliver puts a datagram into its socket's queue, or loses it.
func (n *Network) deliver(to netip.AddrPort, d datagram) {
	n.mu.Lock()
	c := n.conns[to]
	if c == nil {
		c = n.conns[netip.AddrPortFrom(netip.IPv4Unspecified(), to.Port())]
	}
	n.mu.Unlock()
	if c == nil {
		return
	}
	select {
	case c.in <- d:
	default:
	}
}

// Conn is a UDP socket of a Network. It has the methods of *net.UDPConn that a relay uses.
type Conn struct {
	network *Network
	addr    netip.AddrPort
	in      chan datagram
	done    chan struct{}
	once    sync.Once

	mu       sync.Mutex // guards the following
	deadline time.Time
}

// Addr is the bound address.
func (c *Conn) Addr() netip.AddrPort { return c.addr }

// LocalAddr is the bound address.
func (c *Conn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.addr) }

// SetReadDeadline bounds reads that begin later.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return nil
}

// timeout gives a channel that fires at the read deadline.
func (c *Conn) timeout() (<-chan time.Time, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deadline.IsZero() {
		return nil, func() {}
	}
	t := time.NewTimer(time.Until(c.deadline))
	return t.C, func() { t.Stop() }
}

// ReadFromUDPAddrPort waits for a datagram.
func (c *Conn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	late, stop := c.timeout()
	defer stop()
	select {
	case <-c.done:
		return 0, netip.AddrPort{}, net.ErrClosed
	case d := <-c.in:
		return copy(b, d.data), d.from, nil
	case <-late:
		return 0, netip.AddrPort{}, os.ErrDeadlineExceeded
	}
}

// WriteToUDPAddrPort sends a datagram.
func (c *Conn) WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error) {
	select {
	case <-c.done:
		return 0, net.ErrClosed
	default:
	}
	c.network.send(c.addr, addr, b)
	return len(b), nil
}

// Close frees the address and ends a waiting read.
func (c *Conn) Close() error {
	c.once.Do(func() {
		close(c.done)
		c.network.mu.Lock()
		delete(c.network.conns, c.addr)
		c.network.mu.Unlock()
	})
	return nil
}

// Talker makes the RTP packets of one stream.
type Talker struct {
	SSRC      uint32
	Payload   uint8 // payload type
	Seq       uint16
	Timestamp uint32
	Samples   uint32 // per packet; 0 means 160
}

// Next is the next packet, with the given payload.
func (t *Talker) Next(payload []byte) []byte {
	p := make([]byte, 12, 12+len(payload))
	p[0], p[1] = 2<<6, t.Payload
	binary.BigEndian.PutUint16(p[2:], t.Seq)
	binary.BigEndian.PutUint32(p[4:], t.Timestamp)
	binary.BigEndian.PutUint32(p[8:], t.SSRC)
	t.Seq++
	if t.Samples == 0 {
		t.Samples = 160
	}
	t.Timestamp += t.Samples
	return append(p, payload...)
}
