package sip

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// streamListener is a plain listener, and what is spoken on the connections it
// accepts. No handshake is made in Accept: one silent client would hold up
// everyone else.
type streamListener struct {
	net.Listener
	scheme string // "tcp", "tls", "ws" or "wss"
}

// secure holds for the schemes that begin with a TLS handshake.
func secure(scheme string) bool { return scheme == "tls" || scheme == "wss" }

func (t *transport) listenStream(ctx context.Context, scheme, addr string) error {
	plain, err := t.network.Listen(ctx, family("tcp", addr), addr)
	if err != nil {
		return fmt.Errorf("listen on %s://%s: %w", scheme, addr, err)
	}
	l := &streamListener{plain, scheme}
	t.mu.Lock()
	shut := t.shut
	if !shut {
		t.listeners = append(t.listeners, l)
	}
	t.mu.Unlock()
	if shut {
		l.Close()
		return net.ErrClosed
	}
	t.running.Go(func() { t.accept(l) })
	return nil
}

func (t *transport) accept(l *streamListener) {
	wait := time.Duration(0)
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) || t.isClosed() {
			if err == nil {
				conn.Close()
			}
			return
		}
		if err != nil {
			// Too many open files, or a client that left early: not the end.
			t.log.Warn("accept failed", "local", l.Addr().String(), "err", err)
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			t.pause(wait)
			continue
		}
		wait = 0
		t.admit(conn, l.scheme)
	}
}

// admit starts a reader for an accepted connection within the limits.
func (t *transport) admit(conn net.Conn, scheme string) {
	ip := addrPort(conn.RemoteAddr()).Addr()
	reason := t.refuses(ip)
	if reason == "" {
		reason = t.reserve(ip)
	}
	if reason != "" {
		t.rejected(reason)
		conn.Close()
		return
	}
	first := time.Now().Add(t.cfg.Limits.FirstMessage)
	conn = newGate(conn)
	t.running.Go(func() {
		defer t.release(ip)
		if secure(scheme) {
			var err error
			if conn, err = t.handshake(conn, t.tls, first); err != nil {
				return
			}
		}
		proto := strings.ToUpper(scheme)
		if strings.HasPrefix(scheme, "ws") {
			t.serveWebSocket(conn, proto, first)
			return
		}
		f := t.newStream(conn, proto)
		if !t.addStream(f) {
			conn.Close()
			return
		}
		t.serve(f, first)
	})
}

func (t *transport) handshake(conn net.Conn, config *tls.Config, until time.Time) (net.Conn, error) {
	// The context also ends the handshake when the transport closes.
	ctx, cancel := context.WithDeadline(t.quit, until)
	defer cancel()
	secured := tls.Server(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		t.rejected(rejectedHandshake)
		t.log.Debug("TLS handshake failed", "remote", conn.RemoteAddr().String(), "err", err)
		conn.Close()
		return nil, err
	}
	return secured, nil
}

// household is what limits of one address count: an IPv6 user has a whole /64 to
// himself.
func household(ip netip.Addr) netip.Addr {
	if ip.Is6() {
		return sourceNetwork(ip).Addr()
	}
	return ip
}

// reserve counts a connection in, or says which limit forbids it.
func (t *transport) reserve(ip netip.Addr) string {
	spared := t.spares(ip)
	t.mu.Lock()
	defer t.mu.Unlock()
	ip = household(ip)
	switch {
	case spared:
	case t.accepted >= t.cfg.Limits.Connections:
		return rejectedConnections
	case t.perIP[ip] >= t.cfg.Limits.ConnectionsPerIP:
		return rejectedPerIP
	}
	t.accepted++
	t.perIP[ip]++
	return ""
}

func (t *transport) release(ip netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.accepted--
	ip = household(ip)
	if t.perIP[ip]--; t.perIP[ip] <= 0 {
		delete(t.perIP, ip)
	}
}

func (t *transport) newStream(conn net.Conn, proto string) *flow {
	prefix := strings.ToLower(proto) + "/"
	return &flow{
		proto: proto, conn: conn,
		peer:  addrPort(conn.RemoteAddr()),
		here:  addrPort(conn.LocalAddr()),
		ident: prefix + strconv.FormatUint(t.serial.Add(1), 36) + "-" + newTag()[:6],
		dead:  make(chan struct{}),
	}
}

func (t *transport) addStream(f *flow) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shut {
		return false
	}
	t.streams[f.id()] = f
	return true
}

// serve reads a stream to its end. first is when the first message must have
// come; the zero time for connections that we opened.
func (t *transport) serve(f *flow, first time.Time) {
	r := &streamReader{t: t, f: f, first: first, gate: gateOf(f.conn)}
	r.source = timedConn{r, f.conn}
	t.finish(r, r.run())
}

// finish takes leave of a stream that has been read to its end.
func (t *transport) finish(r *streamReader, err error) {
	f := r.f
	f.close()
	r.giveBack()
	t.mu.Lock()
	delete(t.streams, f.id())
	if f.kept.Load() && !f.dialed {
		t.perIP[household(f.peer.Addr())]++ // as release wants it; see vouchFor
	}
	t.mu.Unlock()
	if reason := r.complaint(err); reason != "" {
		t.rejected(reason)
	}
	t.log.Debug("connection ended", "flow", f.String(), "err", err)
	t.closed(f)
}

// streamReader cuts a stream into messages (RFC 3261 §18.3).
type streamReader struct {
	t      *transport
	f      *flow
	source io.Reader     // a timedConn
	buf    *bufio.Reader // borrowed while there is something to read
	gate   *gate         // nil if there is none
	ws     *wsConn       // in place of buf and source
	first  time.Time     // deadline for the first message; zero once it has come
}

// timedConn reads under the deadline of the moment.
type timedConn struct {
	r    *streamReader
	conn net.Conn
}

func (c timedConn) Read(b []byte) (int, error) {
	if g := c.r.gate; g != nil && g.idle.Load() {
		return c.conn.Read(b) // gives what is there, and does not wait
	}
	if err := c.conn.SetReadDeadline(c.r.deadline()); err != nil {
		return 0, err
	}
	n, err := c.conn.Read(b)
	if n > 0 {
		c.r.f.hear()
	}
	return n, err
}

func (r *streamReader) run() error {
	for {
		if err := r.message(); err != nil {
			return err
		}
		r.first = time.Time{}
	}
}

// message reads and handles one message. An error ends the stream: a message
// that is merely wrong is none, one whose end cannot be found is.
func (r *streamReader) message() error {
	if err := r.skipKeepAlives(); err != nil {
		return err
	}
	head, err := r.head()
	if err != nil {
		return err
	}
	raw, err := cutHead(head)
	if err != nil {
		r.t.rejected(rejectedMalformed)
		return err
	}
	length, err := raw.contentLength()
	if err != nil {
		r.refuse(raw, bad("Missing or bad Content-Length"))
		return err
	}
	if len(head)+length > r.t.cfg.Limits.MessageSize {
		r.refuse(raw, &badMessage{513, "Message Too Large"})
		return errBodyTooBig
	}
	if length > 0 {
		raw.body = make([]byte, length)
		if _, err := io.ReadFull(r.buf, raw.body); err != nil {
			return err
		}
	}
	r.deliver(raw)
	return nil
}

func (r *streamReader) deliver(raw *rawMessage) {
	defer r.t.recovered()
	m, err := raw.build()
	r.t.handle(r.f, m, raw, err)
}

func (r *streamReader) refuse(raw *rawMessage, fault *badMessage) {
	r.t.handle(r.f, nil, raw, fault)
}

// skipKeepAlives reads past the CRLFs before a message and answers each pair
// of them (RFC 5626 §4.4.1), also when a message follows in the same segment.
func (r *streamReader) skipKeepAlives() error {
	for lines := 1; ; lines++ {
		if err := r.await(); err != nil {
			return err
		}
		next, err := r.buf.Peek(1)
		if err != nil {
			return err
		}
		if next[0] != '\r' {
			return nil
		}
		alone := lines%2 == 1 && r.buf.Buffered() <= 2
		if next, err = r.buf.Peek(2); err != nil {
			return err
		}
		if next[1] != '\n' {
			return errNotSIP
		}
		r.buf.Discard(2)
		if alone && r.f.ponged() {
			lines = 0
			continue
		}
		if lines%2 == 0 {
			if err := r.f.pong(); err != nil {
				return err
			}
		}
	}
}

// head reads up to and without the empty line.
func (r *streamReader) head() (string, error) {
	var head []byte
	for {
		line, err := r.buf.ReadSlice('\n')
		if len(head)+len(line) > r.t.cfg.Limits.HeaderSize {
			return "", errHeadTooBig
		}
		if err != nil && err != bufio.ErrBufferFull {
			return "", err
		}
		if err == nil && string(line) == "\r\n" && endsLine(head) {
			return string(head), nil
		}
		head = append(head, line...)
	}
}

func endsLine(b []byte) bool {
	return len(b) >= 2 && b[len(b)-2] == '\r' && b[len(b)-1] == '\n'
}

// complaint is the reason to count for the end of a stream, if it was no
// ordinary one.
func (r *streamReader) complaint(err error) string {
	switch {
	case errors.Is(err, errHeadTooBig), errors.Is(err, websocket.ErrMessageTooBig):
		return rejectedTooLarge
	case errors.Is(err, errNotSIP):
		return rejectedMalformed
	case errors.Is(err, os.ErrDeadlineExceeded) && !r.first.IsZero():
		return rejectedSilent
	}
	return ""
}
