package pushtest

import (
	"context"
	"net"
	"sync"
)

// PipeListener is an in-memory net.Listener over net.Pipe, so that service and
// client can live in one testing/synctest bubble.
type PipeListener struct {
	addr  pipeAddr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

type pipeAddr string

func (a pipeAddr) Network() string { return "pipe" }
func (a pipeAddr) String() string  { return string(a) }

// NewPipeListener makes a listener that says it has this address ("host:port").
func NewPipeListener(addr string) *PipeListener {
	return &PipeListener{addr: pipeAddr(addr), conns: make(chan net.Conn), done: make(chan struct{})}
}

// Accept waits for the next Dial.
func (l *PipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends the listener; its connections live on.
func (l *PipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr is the address given to NewPipeListener.
func (l *PipeListener) Addr() net.Addr { return l.addr }

// Dial connects to the listener.
func (l *PipeListener) Dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, &net.OpError{Op: "dial", Net: "pipe", Addr: l.addr, Err: net.ErrClosed}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// DialAny gives a dial function, as http.Transport and push.Options take it,
// that reaches these listeners by their addresses.
func DialAny(listeners ...*PipeListener) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		for _, l := range listeners {
			if string(l.addr) == addr {
				return l.Dial(ctx)
			}
		}
		return nil, &net.OpError{Op: "dial", Net: network, Addr: pipeAddr(addr), Err: net.UnknownNetworkError("no such host")}
	}
}
