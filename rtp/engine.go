package rtp

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
)

// maxPacket is the largest datagram relayed. An Ethernet frame carries 1472 bytes; what fills the buffer was cut off.
const maxPacket = 1536

// maxReadErrors in a row end a socket's reader: it must not spin on a broken one.
const maxReadErrors = 100

// engine has the media sockets of a relay and brings what comes to them to their receivers.
type engine interface {
	// open binds addr and begins to read. An address in use gives an error that is syscall.EADDRINUSE, one that is not
	// this machine's syscall.EADDRNOTAVAIL.
	open(addr netip.AddrPort, to receiver) (outlet, error)
	// try reports whether addr could be bound, with open's errors.
	try(addr netip.AddrPort) error
	// close ends the engine; all its outlets are closed.
	close()
}

// receiver takes the datagrams of one socket, one at a time. The packet has capacity to grow, as SRTP needs, and is the
// engine's again when receive returns. IPv4 addresses come as such, not mapped into IPv6.
type receiver interface {
	receive(packet []byte, from netip.AddrPort)
}

// outlet is an open media socket.
type outlet interface {
	// send sends a packet. An error is this packet's loss, and the peer's own absence shows in the statistics.
	send(packet []byte, to netip.AddrPort)
	// relay is send of what a receiver has just got by another outlet of its kin, while it has it.
	relay(packet []byte, to netip.AddrPort)
	// local is the bound address.
	local() netip.AddrPort
	// close frees the address, and returns when no receive runs any more. It must not be called within one, nor with
	// anything locked that a receive waits for.
	close()
}

// newEngine is the system's engine, or one over sockets that somebody else opens.
func newEngine(log *slog.Logger, listen func(netip.AddrPort) (PacketConn, error)) engine {
	if listen == nil {
		return systemEngine(log)
	}
	return &portable{log: log, listen: listen}
}

// portable is the engine that works everywhere, in virtual time too: a goroutine for each socket.
type portable struct {
	log    *slog.Logger
	listen func(netip.AddrPort) (PacketConn, error)
}

// portableOutlet is a socket of portable.
type portableOutlet struct {
	engine *portable
	conn   PacketConn
	to     receiver
	done   chan struct{} // closed when its reader has ended
}

func (p *portable) open(addr netip.AddrPort, to receiver) (outlet, error) {
	conn, err := p.listen(addr)
	if err != nil {
		return nil, err
	}
	o := &portableOutlet{engine: p, conn: conn, to: to, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		for o.pump() {
		}
	}()
	return o, nil
}

func (p *portable) try(addr netip.AddrPort) error {
	conn, err := p.listen(addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

func (p *portable) close() {}

func (o *portableOutlet) send(packet []byte, to netip.AddrPort) {
	_, _ = o.conn.WriteToUDPAddrPort(packet, to)
}

func (o *portableOutlet) relay(packet []byte, to netip.AddrPort) { o.send(packet, to) }

func (o *portableOutlet) local() netip.AddrPort {
	if a, ok := o.conn.LocalAddr().(*net.UDPAddr); ok {
		return a.AddrPort()
	}
	return netip.AddrPort{}
}

func (o *portableOutlet) close() {
	_ = o.conn.Close()
	<-o.done
}

// pump reads until the socket is closed. After a panic it reports true: the packet is lost, the call goes on.
func (o *portableOutlet) pump() (again bool) {
	log := o.engine.log.With("socket", o.local().String())
	defer func() {
		if r := recover(); r != nil {
			log.Error("packet dropped: the relay failed on it", "err", r)
			again = true
		}
	}()
	if err := o.readSingly(); !errors.Is(err, net.ErrClosed) {
		log.Error("media socket given up after errors", "err", err)
	}
	return false
}

// readSingly reads any socket, until it is closed or fails for good.
func (o *portableOutlet) readSingly() error {
	buf := make([]byte, maxPacket)
	for failures := 0; ; {
		n, addr, err := o.conn.ReadFromUDPAddrPort(buf)
		if err == nil {
			failures = 0
			o.receive(buf[:n], addr)
			continue
		}
		// Others may pass, such as an ICMP error that the system reports on the socket.
		if failures++; failures >= maxReadErrors || errors.Is(err, net.ErrClosed) {
			return err
		}
	}
}

// receive hands a datagram on.
func (o *portableOutlet) receive(packet []byte, from netip.AddrPort) {
	o.to.receive(packet, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
}

// listenUDP opens a real socket of exactly one address family: the peer's address then needs no translation.
func listenUDP(addr netip.AddrPort) (PacketConn, error) {
	network := "udp6"
	if addr.Addr().Is4() {
		network = "udp4"
	}
	return net.ListenUDP(network, net.UDPAddrFromAddrPort(addr))
}
