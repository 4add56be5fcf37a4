package sip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// udpReadBuffer is asked of the kernel: the usual 200 kB lose packets in a
// burst of about 200 INVITEs.
const udpReadBuffer = 4 << 20

// udpListener is one UDP socket with one reader, so that messages are handled
// in the order in which they came off the wire.
type udpListener struct {
	t      *transport
	number int // its place among the listeners, part of flow IDs
	conn   net.PacketConn
	system *net.UDPConn // conn, if it is one: it needs no memory for addresses
	here   netip.AddrPort
	dual   bool  // takes IPv4 and IPv6
	last   *flow // the reader's: of the last datagram

	mu   sync.RWMutex
	kept map[netip.AddrPort]*flow // flows with a registration; guarded by mu
}

func (t *transport) listenUDP(ctx context.Context, addr string) error {
	conn, err := t.network.ListenPacket(ctx, family("udp", addr), addr)
	if err != nil {
		return fmt.Errorf("listen on udp://%s: %w", addr, err)
	}
	if c, ok := conn.(interface{ SetReadBuffer(int) error }); ok {
		if err := c.SetReadBuffer(udpReadBuffer); err != nil {
			t.log.Warn("udp socket keeps its small read buffer: raise net.core.rmem_max", "err", err)
		}
	}
	l := &udpListener{t: t, conn: conn, here: addrPort(conn.LocalAddr()), dual: strings.HasPrefix(addr, ":"), kept: map[netip.AddrPort]*flow{}}
	l.system, _ = conn.(*net.UDPConn)
	if !t.addUDP(l) {
		conn.Close()
		return net.ErrClosed
	}
	t.running.Go(l.read)
	return nil
}

// read handles one datagram after the other until the socket closes. A read
// error is transient (an ICMP report, a short buffer shortage) unless the
// socket is closed; after each the reader waits a little longer.
func (l *udpListener) read() {
	buf := make([]byte, 1<<16)
	pause := time.Duration(0)
	for {
		n, peer, err := l.receive(buf)
		if errors.Is(err, net.ErrClosed) || l.t.isClosed() {
			return
		}
		if err != nil {
			l.t.log.Warn("udp read failed", "local", l.here.String(), "err", err)
			pause = min(max(2*pause, time.Millisecond), time.Second)
			l.t.pause(pause)
			continue
		}
		pause = 0
		if l.admits(peer, buf[:n]) {
			l.t.datagram(l.flowFrom(peer), buf[:n])
		}
	}
}

func (l *udpListener) receive(buf []byte) (int, netip.AddrPort, error) {
	if l.system != nil {
		n, from, err := l.system.ReadFromUDPAddrPort(buf)
		return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), err
	}
	n, from, err := l.conn.ReadFrom(buf)
	if err != nil {
		return 0, netip.AddrPort{}, err
	}
	return n, addrPort(from), nil
}

func (l *udpListener) send(b []byte, to netip.AddrPort) (err error) {
	if l.system != nil {
		_, err = l.system.WriteToUDPAddrPort(b, to)
	} else {
		_, err = l.conn.WriteTo(b, net.UDPAddrFromAddrPort(to))
	}
	return err
}

// flowFrom is the kept flow of a peer, else a value that lives as long as
// someone holds it. The last one is used again: a trunk's calls come from one
// address, and each parked call holds its flow. Only the reader calls it.
func (l *udpListener) flowFrom(peer netip.AddrPort) *flow {
	f := l.find(peer)
	if f == nil && l.last != nil && l.last.peer == peer {
		f = l.last
	}
	if f == nil {
		f = &flow{proto: "UDP", peer: peer, here: l.here, udp: l}
	}
	l.last = f
	f.hear()
	return f
}

func (l *udpListener) find(peer netip.AddrPort) *flow {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.kept[peer]
}

func (l *udpListener) keep(f *flow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.kept.Store(true)
	if _, ok := l.kept[f.peer]; !ok {
		l.kept[f.peer] = f
	}
}

func (l *udpListener) forget(peer netip.AddrPort) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.kept[peer]; f != nil {
		f.kept.Store(false)
	}
	delete(l.kept, peer)
}

func (l *udpListener) write(b []byte, to netip.AddrPort) error {
	if len(b) > maxDatagram {
		return fmt.Errorf("UDP %s: %d bytes: %w", to, len(b), errMessageTooBig)
	}
	if err := l.send(b, to); err != nil {
		if errors.Is(err, net.ErrClosed) {
			err = fmt.Errorf("%w: %w", errFlowClosed, err)
		}
		return fmt.Errorf("UDP %s: write: %w", to, err)
	}
	return nil
}

// localTowards asks the routing table, by a connected socket that sends
// nothing, which of our addresses a peer sees.
func (l *udpListener) localTowards(peer netip.AddrPort) netip.AddrPort {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, err := l.t.network.DialContext(ctx, "udp", peer.String())
	if err != nil {
		return l.here
	}
	defer c.Close()
	return netip.AddrPortFrom(addrPort(c.LocalAddr()).Addr(), l.here.Port())
}

// reaches reports whether the socket can send to the peer's address family.
func (l *udpListener) reaches(peer netip.AddrPort) bool {
	a := l.here.Addr()
	if l.dual {
		return true
	}
	return a.Is4() == peer.Addr().Is4() && (!a.IsLoopback() || peer.Addr().IsLoopback())
}
