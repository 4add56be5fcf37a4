package sip

import (
	"bufio"
	"crypto/tls"
	"net"
	"time"
)

// An idle connection is to cost little: thousands of phones wait on theirs. So
// nothing is held while there is nothing to read: no buffer, and of the
// goroutine's stack only what the wait at the socket needs, not the frames of
// TLS. For that the socket below the TLS has a gate, which says idleError in
// place of waiting; the wait itself is made at the gate, outside of TLS.

// readBuffer is the size of the buffer that a stream borrows to read a message.
const readBuffer = 4096

// idleError says that all has been read that came. For crypto/tls it is a
// temporary error, after which it reads on.
type idleError struct{}

func (idleError) Error() string   { return "nothing has come" }
func (idleError) Timeout() bool   { return false }
func (idleError) Temporary() bool { return true }

// gateOf finds the gate below a connection; nil if it has none.
func gateOf(conn net.Conn) *gate {
	switch c := conn.(type) {
	case *gate:
		return c
	case *tls.Conn:
		return gateOf(c.NetConn())
	}
	return nil
}

// await waits for the next byte of the stream, with a buffer to read it.
func (r *streamReader) await() error {
	if r.gate == nil {
		r.borrow()
		return nil
	}
	if r.buf != nil && r.buf.Buffered() > 0 {
		return nil
	}
	r.borrow()
	r.gate.idle.Store(true) // what TLS has decrypted already comes all the same
	_, err := r.buf.Peek(1)
	r.gate.idle.Store(false)
	if err != (idleError{}) {
		return err
	}
	r.giveBack()
	if err := r.rest(); err != nil {
		return err
	}
	r.borrow()
	return nil
}

// rest waits at the gate.
func (r *streamReader) rest() error {
	if err := r.gate.SetReadDeadline(r.deadline()); err != nil {
		return err
	}
	return r.gate.wait()
}

func (r *streamReader) borrow() {
	if r.buf != nil {
		return
	}
	if b, ok := r.t.buffers.Get().(*bufio.Reader); ok {
		b.Reset(r.source)
		r.buf = b
		return
	}
	r.buf = bufio.NewReaderSize(r.source, readBuffer)
}

func (r *streamReader) giveBack() {
	if r.buf != nil {
		r.buf.Reset(nil)
		r.t.buffers.Put(r.buf)
		r.buf = nil
	}
}

// deadline is that of the moment: the first message has a fixed one, which slow
// bytes do not move; later any byte counts as life.
func (r *streamReader) deadline() time.Time {
	if r.ws != nil {
		if until := r.ws.closing.Load(); until != 0 {
			return time.Unix(0, until)
		}
	}
	if r.first.IsZero() && !r.f.dialed && !r.t.edges.has(r.f.peer.Addr()) {
		return time.Now().Add(r.t.cfg.Limits.Idle)
	}
	return r.first
}
