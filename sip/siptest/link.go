package siptest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
)

// Sockets is where a peer's sockets come from: a Host of the in-memory Network,
// or the system.
type Sockets interface {
	ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error)
	Listen(ctx context.Context, network, addr string) (net.Listener, error)
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// link is a peer's association with the bridge: a UDP socket, or a connection.
type link struct {
	proto  string // "udp", "tcp", "tls"
	here   netip.AddrPort
	packet net.PacketConn
	bridge net.Addr // where datagrams go
	stream net.Conn
	dead   chan struct{}
	once   sync.Once
}

// errLinkDead is given for a message that has no way out any more.
var errLinkDead = errors.New("the connection to the bridge is gone")

// openLink opens a socket of the peer's towards the bridge. local is
// "host:port" and matters to UDP only.
func openLink(ctx context.Context, s Sockets, proto, local, bridge string, config *tls.Config) (*link, error) {
	l := &link{proto: proto, dead: make(chan struct{})}
	var err error
	switch proto {
	case "udp":
		if l.packet, err = s.ListenPacket(ctx, "udp", local); err != nil {
			return nil, err
		}
		to, err := netip.ParseAddrPort(bridge)
		if err != nil {
			return nil, errors.Join(err, l.packet.Close())
		}
		l.bridge = net.UDPAddrFromAddrPort(to)
		l.here, err = netip.ParseAddrPort(l.packet.LocalAddr().String())
		return l, err
	case "tcp", "tls":
		if l.stream, err = s.DialContext(ctx, "tcp", bridge); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("no transport %q: use udp, tcp or tls", proto)
	}
	if l.here, err = netip.ParseAddrPort(l.stream.LocalAddr().String()); err != nil {
		return nil, errors.Join(err, l.stream.Close())
	}
	if proto == "tls" {
		secure := tls.Client(l.stream, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, l.stream.Close())
		}
		l.stream = secure
	}
	return l, nil
}

func (l *link) datagrams() bool { return l.packet != nil }

func (l *link) send(b []byte) error {
	if l.isDead() {
		return errLinkDead
	}
	var err error
	if l.datagrams() {
		_, err = l.packet.WriteTo(b, l.bridge)
	} else {
		_, err = l.stream.Write(b)
	}
	return err
}

// read hands each message to take, in wire order, until the link is dead. What
// is no SIP message ends a stream and is passed over in datagrams.
func (l *link) read(take func(*Message)) error {
	defer l.close()
	if !l.datagrams() {
		r := bufio.NewReader(l.stream)
		for {
			m, err := readMessage(r)
			if err != nil {
				return err
			}
			take(m)
		}
	}
	buf := make([]byte, 65535)
	for {
		n, _, err := l.packet.ReadFrom(buf)
		if err != nil {
			return err
		}
		if m, err := ParseMessage(append([]byte(nil), buf[:n]...)); err == nil {
			take(m)
		}
	}
}

func (l *link) close() {
	l.once.Do(func() {
		close(l.dead)
		if l.datagrams() {
			l.packet.Close()
			return
		}
		l.stream.Close()
	})
}

func (l *link) isDead() bool {
	select {
	case <-l.dead:
		return true
	default:
		return false
	}
}

// via is the Via of a request that leaves by l.
func (l *link) via() string {
	return fmt.Sprintf("SIP/2.0/%s %s;branch=z9hG4bK-%s;rport", strings.ToUpper(l.proto), l.here, token())
}
