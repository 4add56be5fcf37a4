package push

import (
	"io"
	"math"
	"sync"
	"time"
)

// notWritten is what a gate needs before the request's last byte has left.
const notWritten = math.MaxUint64

// gate is a request's body that keeps its last byte back until it is asked for
// once the rest has been written, and can be shut until then. A request is
// processed only with its END_STREAM, so one whose gate was shut in time was
// certainly not: it may be made again on another connection.
type gate struct {
	payload []byte
	raw     *rawConn // may be nil

	mu     sync.Mutex // guards the following
	sent   int
	begun  time.Time // sent > 0: when the first of it was asked for
	closed bool
	left   bool   // the last byte was handed out
	needed uint64 // left: bytes of the connection up to and with some of the request's last
}

// Read gives all but the last byte, then the last.
func (g *gate) Read(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	last := len(g.payload) - 1
	switch {
	case g.closed:
		return 0, errNoStream
	case g.left || last < 0:
		return 0, io.EOF
	case g.sent < last:
		if g.sent == 0 {
			g.begun = time.Now()
		}
		n := copy(b, g.payload[g.sent:last])
		g.sent += n
		return n, nil
	case len(b) == 0:
		return 0, nil
	}
	b[0] = g.payload[last]
	g.left = true
	if g.raw != nil {
		g.needed = g.raw.written.Load() + 1
	}
	return 1, io.EOF
}

// Close is for net/http, which closes bodies; it does not shut the gate.
func (g *gate) Close() error { return nil }

// shut keeps the last byte from leaving; false when it is too late for that.
func (g *gate) shut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = !g.left
	return g.closed
}

// starved says that the request has had a stream for d or longer, and some of
// its body had no window to leave.
func (g *gate) starved(d time.Duration) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.left && g.sent > 0 && time.Since(g.begun) >= d
}

// needs is how many of the connection's bytes the peer must have had to
// process the request; notWritten while the request has not left.
func (g *gate) needs() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.left {
		return notWritten
	}
	return g.needed
}
