package sip

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// errNoPong says that a peer has not shown in time that it is still there.
var errNoPong = errors.New("no answer to a keep-alive")

// pulse is what a stream knows of its peer's answers to keep-alives.
type pulse struct {
	mu      sync.Mutex    // guards the following
	beat    chan struct{} // closed, and forgotten, when bytes of any kind come in
	owed    time.Time     // until then a CRLF is the answer to our ping
	answers bool          // the peer has answered CRLFCRLF with CRLF before
}

// heart is the flow's pulse, made when the first ping needs it: thousands of
// phones are never pinged.
func (f *flow) heart() *pulse {
	if p := f.pulse.Load(); p != nil {
		return p
	}
	f.pulse.CompareAndSwap(nil, &pulse{})
	return f.pulse.Load()
}

// pongWait is how long a pong may take (RFC 5626 §4.4.1).
const pongWait = 10 * time.Second

// next notes that a ping is about to leave, and is closed when something comes in.
func (p *pulse) next() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.owed = time.Now().Add(pongWait)
	if p.beat == nil {
		p.beat = make(chan struct{})
	}
	return p.beat
}

func (p *pulse) struck() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.beat != nil {
		close(p.beat)
		p.beat = nil
	}
}

func (p *pulse) answering() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answers
}

// ponged takes a CRLF that stands alone; true if it answers a ping of ours.
func (f *flow) ponged() bool {
	p := f.pulse.Load()
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().After(p.owed) {
		return false
	}
	p.owed, p.answers = time.Time{}, true
	return true
}

// ping finds out whether the peer of a stream is still there: it sends the
// keep-alive of RFC 5626 §3.5.1 (on a WebSocket a ping frame, RFC 6455 §5.5.2)
// and waits until ctx ends. nil is a sign of life: bytes of any kind came in;
// or, from a peer that was never seen to answer pings, its system has
// acknowledged ours. errFlowClosed: the stream is dead; errNoPong: there was no
// sign. A UDP flow sends and is content.
func (f *flow) ping(ctx context.Context) error {
	if f.udp != nil {
		return f.write(doubleCRLF())
	}
	if ws, ok := f.conn.(*wsConn); ok {
		return ws.ping(ctx)
	}
	p := f.heart()
	heard := p.next()
	if err := f.write(doubleCRLF()); err != nil {
		return err
	}
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		timer := time.NewTimer(wait)
		select {
		case <-heard:
			timer.Stop()
			return nil
		case <-f.dead:
			timer.Stop()
			return errFlowClosed
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%s: %w", f, errNoPong)
		case <-timer.C:
			if n, known := unacknowledged(f.conn); known && n == 0 && !p.answering() {
				return nil
			}
		}
	}
}

// A stream that we opened is pinged at intervals between these (RFC 5626 §4.4.1:
// 80 to 100 % of 120 s).
const pingLeast, pingMost = 95 * time.Second, 120 * time.Second

// keepAlive pings a stream that we opened until it ends, and ends it when the
// far end does not answer: else a trunk that went away without a word would be
// noticed when its next call does not come.
func (t *transport) keepAlive(f *flow) {
	for {
		timer := time.NewTimer(pingLeast + rand.N(pingMost-pingLeast))
		select {
		case <-timer.C:
		case <-f.dead:
			timer.Stop()
			return
		}
		ctx, cancel := context.WithTimeout(t.quit, pongWait)
		err := f.ping(ctx)
		cancel()
		if errors.Is(err, errNoPong) && !t.isClosed() && f.owesSign() {
			t.log.Info("a connection has failed: its far end answers no keep-alive", "flow", f.String())
			f.close()
		}
	}
}

// owesSign reports whether silence after a ping means that the peer is gone: it
// answered before, or its system does not acknowledge. That a carrier answers no
// pings is common.
func (f *flow) owesSign() bool {
	n, known := unacknowledged(f.conn)
	return known && n > 0 || f.heart().answering()
}

func doubleCRLF() []byte { return []byte("\r\n\r\n") }

// unacknowledged is how many bytes that we wrote the peer's system has not
// acknowledged yet; known is false where that can't be told.
func unacknowledged(conn net.Conn) (n int, known bool) {
	switch c := conn.(type) {
	case *tls.Conn:
		return unacknowledged(c.NetConn())
	case *gate:
		return unacknowledged(c.Conn)
	case *net.TCPConn:
		return sendQueue(c)
	case interface{ Unacknowledged() int }:
		return c.Unacknowledged(), true
	}
	return 0, false
}
