package push

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// ackWait is how long the peer's kernel may take to acknowledge anything
// before the connection is taken for dead. A live one takes a round trip, and
// a lost segment is sent again after some 200 ms, then 400.
const ackWait = 700 * time.Millisecond

// rawConn is the TCP connection under TLS. It knows how much of what was
// written the peer's kernel has acknowledged: a request of which a part was
// never acknowledged was never processed, so it may be sent again on another
// connection. Without this, each connection that a firewall has forgotten, or
// whose peer has restarted, would cost a call its push.
type rawConn struct {
	net.Conn
	tcp     *net.TCPConn // nil where acknowledgements cannot be seen
	written atomic.Uint64

	mu     sync.Mutex // guards the following
	closed bool
	final  uint64 // bytes acknowledged when it was closed
	known  bool
}

type rawConnKey struct{}

// tracked makes dial hand its connection, wrapped, to the context's rawConn slot.
func tracked(dial DialFunc) DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := dial(ctx, network, addr)
		slot, ok := ctx.Value(rawConnKey{}).(**rawConn)
		if err != nil || !ok {
			return nc, err
		}
		tcp, _ := nc.(*net.TCPConn)
		*slot = &rawConn{Conn: nc, tcp: tcp}
		return *slot, nil
	}
}

// Write counts.
func (r *rawConn) Write(b []byte) (int, error) {
	n, err := r.Conn.Write(b)
	r.written.Add(uint64(n))
	return n, err
}

// Close remembers what had been acknowledged.
func (r *rawConn) Close() error {
	r.mu.Lock()
	if !r.closed && r.tcp != nil {
		r.final, r.known = bytesAcked(r.tcp)
	}
	r.closed = true
	r.mu.Unlock()
	return r.Conn.Close()
}

// acked is how much has been acknowledged, and whether that can be known.
func (r *rawConn) acked() (n uint64, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return r.final, r.known
	}
	return bytesAcked(r.tcp)
}

// unacked says that the peer's kernel has certainly not acknowledged the first
// n bytes.
func (r *rawConn) unacked(n uint64) bool {
	if r == nil || r.tcp == nil {
		return false
	}
	acked, known := r.acked()
	return known && acked < n
}

// watch ends the connection when the first needs() bytes are not acknowledged
// and for ackWait no others were either. What lies in the send queue is
// discarded with it: a push that is sent again elsewhere must not arrive later
// from here. A request that still waits for a stream is left to wait.
func (r *rawConn) watch(needs func() uint64) (stop func()) {
	if r == nil || r.tcp == nil {
		return func() {}
	}
	done := make(chan struct{})
	timer := time.AfterFunc(ackWait, func() { r.look(needs, done) })
	return func() {
		close(done)
		timer.Stop()
	}
}

// look looks twice, ackWait apart.
func (r *rawConn) look(needs func() uint64, done <-chan struct{}) {
	before, _ := r.acked()
	for r.unacked(needs()) {
		select {
		case <-done:
			return
		case <-time.After(ackWait):
		}
		now, _ := r.acked()
		if n := needs(); now == before && n != notWritten && r.unacked(n) {
			r.tcp.SetLinger(0) // RST instead of FIN, nothing more is sent
			r.Close()
			return
		}
		before = now
	}
}
