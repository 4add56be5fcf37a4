package siptest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	backlog = 1024
	// streamBuffer is how many bytes one direction of a stream holds before a
	// write blocks, about what two kernels do.
	streamBuffer = 256 << 10
)

// listener accepts streams of one port.
type listener struct {
	h      *Host
	addr   netip.AddrPort
	queue  chan *streamConn
	once   sync.Once
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, opError("accept", "tcp", net.ErrClosed)
	case c := <-l.queue:
		return c, nil
	}
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

func (l *listener) Close() error {
	err := opError("close", "tcp", net.ErrClosed)
	l.once.Do(func() {
		err = nil
		l.h.net.mu.Lock()
		delete(l.h.tcp, l.addr.Port())
		l.h.net.mu.Unlock()
		close(l.closed)
		for {
			select {
			case c := <-l.queue:
				c.s.reset()
			default:
				return
			}
		}
	})
	return err
}

// dialStream makes the two ends of a stream, one round trip from now.
func (h *Host) dialStream(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	if err := h.handshake(ctx, to.Addr()); err != nil {
		return nil, opError("dial", "tcp", err)
	}
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	var l *listener
	if peer := n.hosts[to.Addr()]; peer != nil {
		l = peer.tcp[to.Port()]
	}
	if l == nil {
		return nil, opError("dial", "tcp", fmt.Errorf("%s: %w", to, syscall.ECONNREFUSED))
	}
	from := netip.AddrPortFrom(h.addr, h.freePort(func(p uint16) bool { return h.tcp[p] != nil }))
	s := newStream(n, from, to)
	select {
	case l.queue <- s.ends[1]:
	default:
		return nil, opError("dial", "tcp", fmt.Errorf("%s: %w", to, syscall.ECONNREFUSED))
	}
	n.streams[s] = struct{}{}
	return s.ends[0], nil
}

// handshake takes a round trip, or for ever while one of the hosts is cut off.
func (h *Host) handshake(ctx context.Context, to netip.Addr) error {
	for {
		off, changed := h.net.severed(h.addr, to)
		if !off {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
	h.net.mu.Lock()
	trip := h.net.link(h.addr, to).Delay + h.net.link(to, h.addr).Delay
	h.net.mu.Unlock()
	if trip == 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(trip)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// stream is a connection; ends[0] is the one that dialled.
type stream struct {
	net  *Network
	ends [2]*streamConn

	mu      sync.Mutex // guards the following and the directions
	flows   [2]direction
	broken  bool          // reset: both ends fail at once
	changed chan struct{} // closed and renewed on every change
}

// direction is what one end has written and the other has not read.
type direction struct {
	segments []segment
	size     int
	last     time.Time // arrival of the newest segment: order is kept
	fin      time.Time // when the other end learns that no more comes
}

type segment struct {
	at   time.Time
	data []byte
}

func newStream(n *Network, from, to netip.AddrPort) *stream {
	s := &stream{net: n, changed: make(chan struct{})}
	s.ends[0] = &streamConn{s: s, out: 0, in: 1, local: from, remote: to}
	s.ends[1] = &streamConn{s: s, out: 1, in: 0, local: to, remote: from}
	return s
}

func (s *stream) between(a, b netip.Addr) bool {
	x, y := s.ends[0].local.Addr(), s.ends[1].local.Addr()
	match := func(want, have netip.Addr) bool { return !want.IsValid() || want == have }
	return match(a, x) && match(b, y) || match(a, y) && match(b, x)
}

// signal wakes whoever waits. The caller holds s.mu.
func (s *stream) signal() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *stream) reset() {
	s.mu.Lock()
	s.broken = true
	s.signal()
	s.mu.Unlock()
	s.forget()
}

func (s *stream) forget() {
	s.net.mu.Lock()
	delete(s.net.streams, s)
	s.net.mu.Unlock()
}

// streamConn is one end of a stream.
type streamConn struct {
	s             *stream
	out, in       int // directions
	local, remote netip.AddrPort

	// guarded by s.mu:
	readBy, writeBy time.Time
	closed          bool
}

// Read implements net.Conn.
func (c *streamConn) Read(b []byte) (int, error) {
	for {
		off, healed := c.s.net.severed(c.local.Addr(), c.remote.Addr())
		n, wait, changed, err := c.take(b, off)
		if n > 0 || err != nil {
			return n, wrapRead(err)
		}
		awaitEither(wait, changed, healed)
	}
}

func wrapRead(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return opError("read", "tcp", err)
}

// take reads what has arrived, or says how long to wait (0: for a change). off
// means that nothing can arrive now.
func (c *streamConn) take(b []byte, off bool) (n int, wait time.Duration, changed <-chan struct{}, err error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	now, d := time.Now(), &c.s.flows[c.in]
	switch {
	case c.closed:
		return 0, 0, nil, net.ErrClosed
	case !c.readBy.IsZero() && !now.Before(c.readBy):
		return 0, 0, nil, os.ErrDeadlineExceeded
	case c.s.broken:
		return 0, 0, nil, syscall.ECONNRESET
	case off:
	case len(d.segments) > 0 && !d.segments[0].at.After(now):
		n = d.read(b)
		c.s.signal()
		return n, 0, nil, nil
	case len(d.segments) > 0:
		wait = d.segments[0].at.Sub(now)
	case !d.fin.IsZero() && !d.fin.After(now):
		return 0, 0, nil, io.EOF
	case !d.fin.IsZero():
		wait = d.fin.Sub(now)
	}
	return 0, shorter(wait, c.readBy, now), c.s.changed, nil
}

// read takes bytes of the first segment.
func (d *direction) read(b []byte) int {
	n := copy(b, d.segments[0].data)
	d.size -= n
	if d.segments[0].data = d.segments[0].data[n:]; len(d.segments[0].data) == 0 {
		d.segments = d.segments[1:]
	}
	return n
}

// shorter cuts wait (0: endless) to end by a deadline.
func shorter(wait time.Duration, by, now time.Time) time.Duration {
	if by.IsZero() {
		return wait
	}
	if left := by.Sub(now); wait == 0 || left < wait {
		return left
	}
	return wait
}

func awaitEither(d time.Duration, changed, healed <-chan struct{}) {
	var expired <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-expired:
	case <-changed:
	case <-healed:
	}
}

// Write implements net.Conn. It blocks only while the buffer is full. One Write
// is one Packet at the taps.
func (c *streamConn) Write(b []byte) (int, error) {
	c.s.net.tapped(Packet{Network: "tcp", From: c.local, To: c.remote, Data: b})
	written := 0
	for {
		n, wait, changed, err := c.put(b[written:])
		written += n
		if err != nil {
			return written, opError("write", "tcp", err)
		}
		if written == len(b) {
			return written, nil
		}
		if n == 0 {
			awaitEither(wait, changed, nil)
		}
	}
}

func (c *streamConn) put(b []byte) (n int, wait time.Duration, changed <-chan struct{}, err error) {
	c.s.net.mu.Lock()
	delay := c.s.net.delay(c.s.net.link(c.local.Addr(), c.remote.Addr()))
	c.s.net.mu.Unlock()
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	now, d := time.Now(), &c.s.flows[c.out]
	peer := c.s.ends[1-c.out]
	switch {
	case c.closed:
		return 0, 0, nil, net.ErrClosed
	case !c.writeBy.IsZero() && !now.Before(c.writeBy):
		return 0, 0, nil, os.ErrDeadlineExceeded
	case c.s.broken:
		return 0, 0, nil, syscall.ECONNRESET
	case peer.closed && !c.s.flows[c.in].fin.After(now):
		return 0, 0, nil, syscall.EPIPE
	}
	n = min(len(b), streamBuffer-d.size)
	if n > 0 {
		at := now.Add(delay)
		if at.Before(d.last) {
			at = d.last
		}
		d.last = at
		d.segments = append(d.segments, segment{at, append([]byte(nil), b[:n]...)})
		d.size += n
		c.s.signal()
	}
	return n, shorter(0, c.writeBy, now), c.s.changed, nil
}

// Close ends both directions: the peer reads what is under way, then EOF.
func (c *streamConn) Close() error {
	c.s.net.mu.Lock()
	delay := c.s.net.link(c.local.Addr(), c.remote.Addr()).Delay
	c.s.net.mu.Unlock()
	c.s.mu.Lock()
	if c.closed {
		c.s.mu.Unlock()
		return opError("close", "tcp", net.ErrClosed)
	}
	c.closed = true
	d := &c.s.flows[c.out]
	d.fin = time.Now().Add(delay)
	if d.fin.Before(d.last) {
		d.fin = d.last
	}
	c.s.signal()
	both := c.s.ends[0].closed && c.s.ends[1].closed
	c.s.mu.Unlock()
	if both {
		c.s.forget()
	}
	return nil
}

// Unacknowledged is how many bytes written here have not reached the other host.
func (c *streamConn) Unacknowledged() (n int) {
	off, _ := c.s.net.severed(c.local.Addr(), c.remote.Addr())
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	now := time.Now()
	for _, s := range c.s.flows[c.out].segments {
		if off || s.at.After(now) {
			n += len(s.data)
		}
	}
	return n
}

// LocalAddr and RemoteAddr are *net.TCPAddr.
func (c *streamConn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c *streamConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// SetDeadline implements net.Conn.
func (c *streamConn) SetDeadline(t time.Time) error {
	return c.setDeadlines(func() { c.readBy, c.writeBy = t, t })
}

// SetReadDeadline implements net.Conn.
func (c *streamConn) SetReadDeadline(t time.Time) error {
	return c.setDeadlines(func() { c.readBy = t })
}

// SetWriteDeadline implements net.Conn.
func (c *streamConn) SetWriteDeadline(t time.Time) error {
	return c.setDeadlines(func() { c.writeBy = t })
}

func (c *streamConn) setDeadlines(set func()) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	set()
	c.s.signal()
	return nil
}
