package sip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

var (
	errFlowClosed     = errors.New("the flow is closed")
	errMessageTooBig  = errors.New("the message does not fit into a datagram: use tcp or tls for this peer")
	errNoSuchListener = errors.New("no udp listener can reach this address: add one to sip.listen")
)

// writeTimeout bounds a write to a peer that has stopped reading. The flow is
// closed then: half a message may have left, so the stream is lost anyway.
const writeTimeout = 5 * time.Second

// maxDatagram is the largest UDP payload over IPv4: 65535 less 28 bytes of headers.
const maxDatagram = 65507

// flow is one transport association: one connection (TCP, TLS, WebSocket), or a UDP
// listener and one remote address. It writes to that association and nowhere
// else: it never dials.
//
// A UDP flow is a light value, made for each datagram of a stranger; transport
// keeps the ones that carry a registration. It never closes by itself.
type flow struct {
	proto string // "UDP", "TCP", "TLS", "WS", "WSS"
	peer  netip.AddrPort
	here  netip.AddrPort

	// The one that carries it: a listener for datagrams, or a connection.
	udp  *udpListener
	conn net.Conn

	ident  string                // of a stream; a UDP flow computes its own
	dead   chan struct{}         // closed when the stream is dead; nil for UDP
	heard  atomic.Int64          // Unix nanoseconds
	dialed bool                  // we opened it
	calls  atomic.Bool           // an INVITE that began a call came by it
	kept   atomic.Bool           // it carries a registration
	server string                // TLS name that was verified on a dialed flow, for logs
	pulse  atomic.Pointer[pulse] // answers to pings; nil until the first ping

	writing sync.Mutex // one message at a time on a stream
	closing sync.Once
	reached sync.Once // guards the first computation of here on a wildcard socket
}

// id names the flow: for UDP the same for every datagram of a peer, for a
// stream unique in this process.
func (f *flow) id() string {
	if f.udp != nil {
		return "udp/" + strconv.Itoa(f.udp.number) + "/" + f.peer.String()
	}
	return f.ident
}

// transport is "UDP", "TCP", "TLS", "WS" or "WSS", as it stands in Via.
func (f *flow) transport() string { return f.proto }

func (f *flow) reliable() bool { return f.udp == nil }

func (f *flow) remote() netip.AddrPort { return f.peer }

// local is our address as the peer reaches it from within the network (NAT
// aside). For a socket bound to a wildcard it is the address that the route to
// the peer leaves from.
func (f *flow) local() netip.AddrPort {
	f.reached.Do(func() {
		if f.here.Addr().IsUnspecified() && f.udp != nil {
			f.here = f.udp.localTowards(f.peer)
		}
	})
	return f.here
}

func (f *flow) isDead() bool {
	select {
	case <-f.dead:
		return true
	default:
		return false
	}
}

// lastHeard is when the last bytes of any kind came in; the zero time if none has.
func (f *flow) lastHeard() time.Time {
	if n := f.heard.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

func (f *flow) hear() {
	f.heard.Store(time.Now().UnixNano())
	if p := f.pulse.Load(); p != nil {
		p.struck()
	}
}

// send writes one message. It gives errFlowClosed once the flow is dead, and
// closes a stream on any write error.
func (f *flow) send(m sipgo.Message) error {
	b := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(b)
	b.Reset()
	m.StringWrite(b)
	return f.write(b.Bytes())
}

// buffers are what messages are written to before they are sent.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// wireOf is a message as it is sent.
func wireOf(m sipgo.Message) []byte {
	b := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(b)
	b.Reset()
	m.StringWrite(b)
	return bytes.Clone(b.Bytes())
}

func (f *flow) pong() error { return f.write([]byte("\r\n")) }

func (f *flow) write(b []byte) error {
	if f.udp != nil {
		return f.udp.write(b, f.peer)
	}
	f.writing.Lock()
	defer f.writing.Unlock()
	if f.isDead() {
		return errFlowClosed
	}
	if err := f.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		f.close()
		return fmt.Errorf("%w: %w", errFlowClosed, err)
	}
	if _, err := f.conn.Write(b); err != nil {
		f.close()
		return fmt.Errorf("%s: write: %w: %w", f, errFlowClosed, err)
	}
	return nil
}

// close ends a stream. Its reader notices and tells the owner of the
// transport, so nothing is called back from inside close. No-op for UDP.
func (f *flow) close() {
	if f.conn == nil {
		return
	}
	f.closing.Do(func() {
		close(f.dead)
		f.conn.Close()
	})
}

// String names the flow for logs and errors.
func (f *flow) String() string { return f.proto + " " + f.peer.String() }

// seenAs is our host as the peer sees it, an IPv6 address without brackets:
// external (an IP address, a host name, or ""), unless that is an IP address of
// the other family than the flow's; else the address of the socket.
func (f *flow) seenAs(external string) string {
	here := f.local().Addr()
	if ip, err := netip.ParseAddr(external); external == "" || err == nil && ip.Is4() != here.Is4() {
		return here.WithZone("").String()
	}
	return external
}

// newVia builds the Via of a request that leaves by f (RFC 3261 §18.1.1): a
// fresh branch, and rport so that the response comes back through a NAT (RFC
// 3581). externalAddr, an IP or host without port, replaces the address of the
// socket; "" keeps it.
func newVia(f *flow, externalAddr string) *sipgo.ViaHeader {
	host := f.seenAs(externalAddr)
	return &sipgo.ViaHeader{
		ProtocolName:    "SIP",
		ProtocolVersion: "2.0",
		Transport:       f.transport(),
		Host:            host,
		Port:            int(f.local().Port()),
		Params:          sipgo.HeaderParams{{K: "branch", V: newBranch()}, {K: "rport"}},
	}
}

// Network is where the sockets come from: the real one, or the in-memory one
// of package siptest.
type Network interface {
	ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error)
	Listen(ctx context.Context, network, addr string) (net.Listener, error)
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// SystemNetwork gives the sockets of the operating system.
func SystemNetwork() Network { return systemNetwork{} }

type systemNetwork struct {
	listener net.ListenConfig
	dialer   net.Dialer
}

func (n systemNetwork) ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error) {
	return n.listener.ListenPacket(ctx, network, addr)
}

func (n systemNetwork) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	return n.listener.Listen(ctx, network, addr)
}

func (n systemNetwork) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return n.dialer.DialContext(ctx, network, addr)
}

// addrPort reads the address of a socket. IPv4 in IPv6 clothes is undressed, so
// that one peer has one address.
func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		ap = a.AddrPort()
	case *net.TCPAddr:
		ap = a.AddrPort()
	case nil:
	default:
		ap, _ = netip.ParseAddrPort(a.String())
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
