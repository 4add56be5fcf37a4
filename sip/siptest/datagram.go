package siptest

import (
	"container/heap"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// inboxLimit is how many datagrams wait in a socket before more are dropped, as
// the kernel does.
const inboxLimit = 8192

// PacketConn is a UDP socket: a net.PacketConn, and what package rtp wants of
// one (ReadFromUDPAddrPort, WriteToUDPAddrPort).
type PacketConn struct {
	host *Host
	addr netip.AddrPort

	mu       sync.Mutex // guards the following
	inbox    inbox
	sent     uint64 // numbers arrivals, so that equal times keep their order
	deadline time.Time
	changed  chan struct{} // closed and renewed on every change of the above
	closed   bool
}

func newPacketConn(h *Host, addr netip.AddrPort) *PacketConn {
	return &PacketConn{host: h, addr: addr, changed: make(chan struct{})}
}

// datagram is on its way until its time of arrival.
type datagram struct {
	at     time.Time
	number uint64
	from   netip.AddrPort
	data   []byte
}

// inbox is a heap by time of arrival.
type inbox []datagram

func (b inbox) Len() int { return len(b) }
func (b inbox) Less(i, j int) bool {
	if !b[i].at.Equal(b[j].at) {
		return b[i].at.Before(b[j].at)
	}
	return b[i].number < b[j].number
}
func (b inbox) Swap(i, j int) { b[i], b[j] = b[j], b[i] }
func (b *inbox) Push(x any)   { *b = append(*b, x.(datagram)) }
func (b *inbox) Pop() any {
	old := *b
	d := old[len(old)-1]
	*b = old[:len(old)-1]
	return d
}

// ReadFromUDPAddrPort waits for a datagram to arrive. One that is longer than b
// is cut.
func (c *PacketConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	for {
		d, ok, wait, changed, err := c.next()
		if err != nil {
			return 0, netip.AddrPort{}, opError("read", "udp", err)
		}
		if ok {
			return copy(b, d.data), d.from, nil
		}
		await(wait, changed)
	}
}

// next takes what has arrived, or says how long to wait (0: for a change).
func (c *PacketConn) next() (d datagram, ok bool, wait time.Duration, changed <-chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	switch {
	case c.closed:
		return d, false, 0, nil, net.ErrClosed
	case !c.deadline.IsZero() && !now.Before(c.deadline):
		return d, false, 0, nil, os.ErrDeadlineExceeded
	case len(c.inbox) > 0 && !c.inbox[0].at.After(now):
		return heap.Pop(&c.inbox).(datagram), true, 0, nil, nil
	}
	if len(c.inbox) > 0 {
		wait = c.inbox[0].at.Sub(now)
	}
	if !c.deadline.IsZero() && (wait == 0 || c.deadline.Sub(now) < wait) {
		wait = c.deadline.Sub(now)
	}
	return d, false, wait, c.changed, nil
}

// await returns after a change, or after d if d is not 0.
func await(d time.Duration, changed <-chan struct{}) {
	if d <= 0 {
		<-changed
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-changed:
	}
}

// WriteToUDPAddrPort sends a datagram. Like the real one it says nothing about
// the fate of it.
func (c *PacketConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return 0, opError("write", "udp", net.ErrClosed)
	}
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	from := netip.AddrPortFrom(c.host.addr, c.addr.Port())
	arrived := c.host.net.sendDatagram(from, to, b)
	c.host.net.tapped(Packet{Network: "udp", From: from, To: to, Data: b, Dropped: !arrived})
	return len(b), nil
}

func (n *Network) sendDatagram(from, to netip.AddrPort, b []byte) bool {
	n.mu.Lock()
	l := n.link(from.Addr(), to.Addr())
	lost := n.chance(l.Loss) || n.cut[from.Addr()] || n.cut[to.Addr()]
	delays := []time.Duration{n.delay(l)}
	if n.chance(l.Reorder) {
		hold := l.ReorderBy
		if hold == 0 {
			hold = 10 * time.Millisecond
		}
		delays[0] += hold
	}
	if n.chance(l.Duplicate) {
		delays = append(delays, n.delay(l))
	}
	var target *PacketConn
	if h := n.hosts[to.Addr()]; h != nil {
		target = h.udp[to.Port()]
	}
	n.mu.Unlock()
	if lost || target == nil {
		return false
	}
	now := time.Now()
	for _, d := range delays {
		target.arrive(datagram{at: now.Add(d), from: from, data: append([]byte(nil), b...)})
	}
	return true
}

func (c *PacketConn) arrive(d datagram) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.inbox) >= inboxLimit {
		return
	}
	c.sent++
	d.number = c.sent
	heap.Push(&c.inbox, d)
	c.signal()
}

// signal wakes all readers. The caller holds c.mu.
func (c *PacketConn) signal() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// ReadFrom implements net.PacketConn.
func (c *PacketConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		return n, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// WriteTo implements net.PacketConn.
func (c *PacketConn) WriteTo(b []byte, to net.Addr) (int, error) {
	u, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, opError("write", "udp", &net.AddrError{Err: "not a UDP address", Addr: to.String()})
	}
	return c.WriteToUDPAddrPort(b, u.AddrPort())
}

// SetReadDeadline implements net.PacketConn.
func (c *PacketConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.deadline = t
	c.signal()
	return nil
}

// SetWriteDeadline does nothing: writes do not block.
func (c *PacketConn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline implements net.PacketConn.
func (c *PacketConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// LocalAddr is a *net.UDPAddr.
func (c *PacketConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.addr) }

// Close frees the port; what has not been read is lost.
func (c *PacketConn) Close() error {
	c.host.net.mu.Lock()
	if c.host.udp[c.addr.Port()] == c {
		delete(c.host.udp, c.addr.Port())
	}
	c.host.net.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return opError("close", "udp", net.ErrClosed)
	}
	c.closed = true
	c.inbox = nil
	c.signal()
	return nil
}

// connectedPacketConn is a UDP socket with one peer.
type connectedPacketConn struct {
	*PacketConn
	peer netip.AddrPort
}

func (c *connectedPacketConn) Read(b []byte) (int, error) {
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil || from == c.peer {
			return n, err
		}
	}
}
func (c *connectedPacketConn) Write(b []byte) (int, error) {
	return c.WriteToUDPAddrPort(b, c.peer)
}
func (c *connectedPacketConn) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(c.peer) }

func (c *connectedPacketConn) LocalAddr() net.Addr {
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(c.host.addr, c.addr.Port()))
}
