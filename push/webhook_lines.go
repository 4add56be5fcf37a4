package push

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// lines are the dials and requests of a provider that leaves its connections
// to net/http: none of them outlives close.
type lines struct {
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu     sync.Mutex // guards the following
	closed bool
}

func newLines() *lines {
	l := &lines{}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// begin admits a request, which ends by done; its context ends with ctx, with
// close, and after noDeadline where ctx has none.
func (l *lines) begin(ctx context.Context) (_ context.Context, done func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, nil, errPoolClosed
	}
	l.tasks.Add(1)
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(noDeadline)
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	stop := context.AfterFunc(l.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
		l.tasks.Done()
	}, nil
}

// track makes dials part of what is under way.
func (l *lines) track(dial DialFunc) DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, done, err := l.begin(ctx)
		if err != nil {
			return nil, err
		}
		defer done()
		nc, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &line{Conn: nc}, nil
	}
}

// lineSilence is how long at least a connection that lets requests through and
// nothing back is borne.
const lineSilence = time.Second

// line is a connection. A firewall that has forgotten one drops what comes by
// it, and net/http would send every request of HTTP/2 by it until a ping fails,
// after half a minute: those that bring no answer have it closed before.
type line struct {
	net.Conn
	heard atomic.Int64 // Unix time of the last byte, in ns
}

// lineOf is the connection under one of net/http's; nil: none of ours.
func lineOf(nc net.Conn) *line {
	if secure, ok := nc.(*tls.Conn); ok {
		nc = secure.NetConn()
	}
	l, _ := nc.(*line)
	return l
}

// Read remembers when.
func (l *line) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if n > 0 {
		l.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

// silent says that nothing has come since a request was made by it, for longer
// than a receiver that is only slow would say nothing at all.
func (l *line) silent(since time.Time) bool {
	return l != nil && time.Since(since) >= lineSilence && l.heard.Load() < since.UnixNano()
}

// close ends what is under way and waits for it. What is connected then is
// idle, or becomes so, and net/http closes it.
func (l *lines) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cancel()
	l.tasks.Wait()
}
