package sip

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// Why something was turned away: the values of the label `reason`.
const (
	rejectedMalformed    = "malformed"              // could not be read
	rejectedPanic        = "panic"                  // our fault; the message is dropped or answered 500
	rejectedConnections  = "connections"            // limits.connections
	rejectedPerIP        = "connections_per_ip"     // limits.connections_per_ip
	rejectedSilent       = "no_first_message"       // limits.first_message
	rejectedTooLarge     = "message_too_large"      // limits.message_size, limits.header_size
	rejectedHandshake    = "tls_handshake"          // failed, or took too long
	rejectedUpgrade      = "websocket_handshake"    // failed, or took too long; a foreign Origin
	rejectedTransactions = "transactions_exhausted" // our own bound on pending transactions
)

// transport owns every SIP socket. Each socket has one reader goroutine that
// hands its messages to receive in the order in which they came; receive must
// not block. closed is called once for each stream that has ended.
type transport struct {
	network  Network
	log      *slog.Logger
	receive  func(*flow, sipgo.Message)
	closed   func(*flow)
	rejected func(reason string)
	cfg      Config
	edges    edges       // their connections may be silent
	guard    *guard      // nil: everybody is let in; may be set before listen
	tls      *tls.Config // of tls:// and wss:// listeners
	origins  hostCache   // whose pages were refused
	holes    holes       // that are kept open
	buffers  sync.Pool   // of *bufio.Reader, for streams that have something to read

	running sync.WaitGroup
	quit    context.Context // ended by close
	stop    context.CancelFunc
	serial  atomic.Uint64 // numbers streams

	mu        sync.Mutex // guards the following
	shut      bool
	udp       []*udpListener
	listeners []*streamListener
	streams   map[string]*flow
	perIP     map[netip.Addr]int
	accepted  int
}

// newTransport makes a transport with no sockets; listen opens them. Of the
// options it uses Network, Log and TLS. rejected counts what was turned away,
// by one of a few fixed reasons. It fails on TLS files that cannot be used.
func newTransport(cfg Config, o Options, receive func(*flow, sipgo.Message),
	closed func(*flow), rejected func(reason string)) (*transport, error) {
	t := &transport{
		network: o.Network, log: o.Log, receive: receive, closed: closed, rejected: rejected, cfg: cfg, edges: cfg.edges(),
		streams: map[string]*flow{},
		perIP:   map[netip.Addr]int{},
	}
	t.quit, t.stop = context.WithCancel(context.Background())
	for _, s := range cfg.Listen {
		if network, _, _ := ParseListen(s); !secure(network) || t.tls != nil {
			continue
		}
		load := o.TLS
		if load == nil {
			load = func() (*tls.Config, error) { return newServerTLS(cfg.TLS) }
		}
		var err error
		if t.tls, err = load(); err != nil {
			return nil, fmt.Errorf("listen on %s: %w", s, err)
		}
	}
	return t, nil
}

// listen opens every address of the configuration, or none.
func (t *transport) listen(ctx context.Context) error {
	for _, s := range t.cfg.Listen {
		network, addr, err := ParseListen(s)
		if err == nil {
			err = t.listenOne(ctx, network, addr)
		}
		if err != nil {
			t.close()
			return err
		}
	}
	return nil
}

func (t *transport) listenOne(ctx context.Context, network, addr string) error {
	if network == "udp" {
		return t.listenUDP(ctx, addr)
	}
	return t.listenStream(ctx, network, addr)
}

// family narrows a network to the family of an address: Go would open 0.0.0.0 on
// IPv6 as well, and [::] on IPv4. Without an address it is both.
func family(network, addr string) string {
	ap, err := netip.ParseAddrPort(addr)
	switch {
	case err != nil:
		return network
	case ap.Addr().Is4():
		return network + "4"
	}
	return network + "6"
}

// addresses lists what is listened on, as "udp://127.0.0.1:5060", in the order
// of the configuration within each kind.
func (t *transport) addresses() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for _, l := range t.udp {
		out = append(out, "udp://"+l.here.String())
	}
	for _, l := range t.listeners {
		out = append(out, l.scheme+"://"+addrPort(l.Addr()).String())
	}
	return out
}

// owns reports whether host:port, as it stands in a Via, names one of our
// listeners.
func (t *transport) owns(hostPort string) bool {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return false
	}
	ip, _ := netip.ParseAddr(host)
	for _, s := range t.addresses() {
		_, addr, _ := strings.Cut(s, "://")
		here := netip.MustParseAddrPort(addr)
		if strconv.Itoa(int(here.Port())) != port {
			continue
		}
		if here.Addr() == ip || t.cfg.ExternalAddress != "" && strings.EqualFold(host, t.cfg.ExternalAddress) {
			return true
		}
	}
	return false
}

func (t *transport) addUDP(l *udpListener) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shut {
		return false
	}
	l.number = len(t.udp)
	t.udp = append(t.udp, l)
	return true
}

// flowByID finds a live stream, or a UDP flow that is kept; nil if there is none.
func (t *transport) flowByID(id string) *flow {
	t.mu.Lock()
	f, listeners := t.streams[id], t.udp
	t.mu.Unlock()
	if f != nil {
		return f
	}
	number, peer, ok := parseUDPFlowID(id)
	if !ok || number >= len(listeners) {
		return nil
	}
	return listeners[number].find(peer)
}

func parseUDPFlowID(id string) (number int, peer netip.AddrPort, ok bool) {
	prefix, rest, _ := bytes.Cut([]byte(id), []byte("/"))
	digits, addr, _ := bytes.Cut(rest, []byte("/"))
	number, err := strconv.Atoi(string(digits))
	if string(prefix) != "udp" || err != nil || number < 0 {
		return 0, netip.AddrPort{}, false
	}
	peer, err = netip.ParseAddrPort(string(addr))
	return number, peer, err == nil
}

// keep tracks a UDP flow that carries a registration, so that flowByID finds it
// and its lastHeard moves. Streams need no keeping.
func (t *transport) keep(f *flow) {
	if f.udp != nil {
		f.udp.keep(f)
		return
	}
	t.vouchFor(f)
}

// forget ends keep.
func (t *transport) forget(id string) {
	number, peer, ok := parseUDPFlowID(id)
	t.mu.Lock()
	listeners := t.udp
	t.mu.Unlock()
	if ok && number < len(listeners) {
		listeners[number].forget(peer)
	}
}

// udpFlowTo is the flow from our first suitable UDP listener to remote; nil if
// no listener can reach it.
func (t *transport) udpFlowTo(remote netip.AddrPort) *flow {
	remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	t.mu.Lock()
	listeners := t.udp
	t.mu.Unlock()
	for _, l := range listeners {
		if !l.reaches(remote) {
			continue
		}
		if f := l.find(remote); f != nil {
			return f
		}
		return &flow{proto: "UDP", peer: remote, here: l.here, udp: l}
	}
	return nil
}

// streamTo is a live connection that we opened to an address; nil if there is none.
func (t *transport) streamTo(proto string, remote netip.AddrPort) *flow {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.streams {
		if f.dialed && f.proto == proto && f.peer == remote && !f.isDead() {
			return f
		}
	}
	return nil
}

// close closes all sockets and waits for their readers; closed has been called
// for every stream when it returns.
func (t *transport) close() {
	t.mu.Lock()
	t.shut = true
	t.stop()
	for _, l := range t.udp {
		l.conn.Close()
	}
	for _, l := range t.listeners {
		l.Close()
	}
	for _, f := range t.streams {
		// TLS says goodbye, which a peer that does not read can hold up for 5 s.
		t.running.Go(f.close)
	}
	t.mu.Unlock()
	t.running.Wait()
}

func (t *transport) isClosed() bool {
	return t.quit.Err() != nil
}

// pause waits, or less if the transport closes.
func (t *transport) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.quit.Done():
	}
}

// datagram handles what came in one UDP packet: a keep-alive or a message.
func (t *transport) datagram(f *flow, data []byte) {
	defer t.recovered()
	if trimmed := bytes.Trim(data, "\r\n\x00 "); len(trimmed) <= len("jaK") {
		// Keep-alives: CRLFCRLF wants an answer (RFC 5626 §3.5.1); others
		// send one CRLF, a NUL byte, or "jaK".
		if bytes.HasPrefix(data, []byte("\r\n\r\n")) {
			f.pong()
		}
		return
	}
	if len(data) > t.cfg.Limits.MessageSize {
		t.rejected(rejectedTooLarge)
		return
	}
	m, raw, err := parseDatagram(bytes.TrimLeft(data, "\r\n"), t.cfg.Limits.HeaderSize)
	t.handle(f, m, raw, err)
}

// handle passes a message on, or answers the one that could not be read.
func (t *transport) handle(f *flow, m sipgo.Message, raw *rawMessage, err error) {
	if !t.awaitTurn(f, m) {
		return
	}
	if err == nil {
		m.SetTransport(f.transport())
		m.SetSource(f.remote().String())
		if req, ok := m.(*sipgo.Request); ok {
			stampVia(req.Via(), f.remote())
		}
		t.receive(f, m)
		return
	}
	var fault *badMessage
	answerable := errors.As(err, &fault) && raw != nil
	if errors.Is(err, errHeadTooBig) || fault != nil && fault.status == 513 {
		t.rejected(rejectedTooLarge)
	} else {
		t.rejected(rejectedMalformed)
	}
	t.guard.offence(f, "malformed message")
	t.log.Debug("malformed message", "flow", f.String(), "err", err)
	if !answerable {
		return
	}
	if answer := raw.refuse(fault); answer != nil {
		f.write(answer)
	}
}

// stampVia notes where a request really came from (RFC 3261 §18.2.1, RFC
// 3581). rport is set even if it was not asked for: the answer goes back to
// the source in any case, and says so.
func stampVia(via *sipgo.ViaHeader, from netip.AddrPort) {
	if via == nil {
		return
	}
	via.Params.Add("received", from.Addr().WithZone("").String())
	via.Params.Add("rport", strconv.Itoa(int(from.Port())))
}

// recovered keeps the process alive when one message uncovers a fault of ours.
// The message itself is not logged: it may hold secrets.
func (t *transport) recovered() {
	if r := recover(); r != nil {
		t.rejected(rejectedPanic)
		t.log.Error("panic while handling a message", "err", r, "stack", string(debug.Stack()))
	}
}

// dial opens a TCP or TLS connection to addr (host:port) and reads from it as
// from an accepted one, without its limits on idleness. network is "tcp" or
// "tls". For tls, tlsConfig may be nil; serverName is the name to verify.
func (t *transport) dial(ctx context.Context, network, addr, serverName string, tlsConfig *tls.Config) (*flow, error) {
	conn, err := t.network.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect to %s://%s: %w", network, addr, err)
	}
	conn = newGate(conn)
	proto := "TCP"
	if network == "tls" {
		proto = "TLS"
		config := clientTLS(tlsConfig, serverName)
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, fmt.Errorf("TLS handshake with %s as %q: %w", addr, config.ServerName, err)
		}
		conn = secure
	}
	f := t.newStream(conn, proto)
	f.dialed, f.server = true, serverName
	if !t.addStream(f) {
		conn.Close()
		return nil, errFlowClosed
	}
	t.running.Go(func() { t.serve(f, time.Time{}) })
	t.running.Go(func() { t.keepAlive(f) })
	return f, nil
}
