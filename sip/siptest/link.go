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

	"github.com/coder/websocket"
)

// Sockets is where a peer's sockets come from: a Host of the in-memory Network,
// or the system.
type Sockets interface {
	ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error)
	Listen(ctx context.Context, network, addr string) (net.Listener, error)
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// link is a peer's association with the bridge: a UDP socket, a connection, or a
// WebSocket.
type link struct {
	proto  string // "udp", "tcp", "tls", "ws", "wss"
	here   netip.AddrPort
	name   string // what we call ourselves in place of here; "" is here
	packet net.PacketConn
	bridge net.Addr // where datagrams go
	stream net.Conn
	web    *websocket.Conn
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
	case "ws", "wss":
		return l, l.openWebSocket(ctx, s, bridge, config)
	default:
		return nil, fmt.Errorf("no transport %q: use udp, tcp, tls, ws or wss", proto)
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
	switch {
	case l.datagrams():
		_, err = l.packet.WriteTo(b, l.bridge)
	case l.web != nil:
		err = l.web.Write(context.Background(), websocket.MessageText, b)
	default:
		_, err = l.stream.Write(b)
	}
	return err
}

// read hands each message to take, in wire order, until the link is dead. What
// is no SIP message ends a stream and is passed over in datagrams.
func (l *link) read(take func(*Message)) error {
	defer l.close()
	if l.web != nil {
		return l.readWebSocket(take)
	}
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
		switch {
		case l.datagrams():
			l.packet.Close()
		case l.web != nil:
			l.web.CloseNow()
		default:
			l.stream.Close()
		}
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

// sentBy is where we say that we are.
func (l *link) sentBy() string {
	if l.name != "" {
		return l.name
	}
	return l.here.String()
}

// param is the transport parameter of a URI of ours; a secure WebSocket has none
// of its own (RFC 7118 §5.2).
func (l *link) param() string {
	if l.proto == "wss" {
		return "ws"
	}
	return l.proto
}

// via is the Via of a request that leaves by l.
func (l *link) via() string {
	return fmt.Sprintf("SIP/2.0/%s %s;branch=z9hG4bK-%s;rport", strings.ToUpper(l.proto), l.sentBy(), token())
}
