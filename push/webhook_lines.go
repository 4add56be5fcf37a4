package push

import (
	"context"
	"net"
	"sync"
	"time"
)

// lines are the connections and requests of a provider that leaves both to
// net/http: none of them outlives close.
type lines struct {
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu     sync.Mutex // guards the following
	closed bool
	open   map[net.Conn]bool
}

func newLines() *lines {
	l := &lines{open: map[net.Conn]bool{}}
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

// track makes dial's connections known, from the first to their end.
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
		c := &line{Conn: nc, lines: l}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.closed {
			nc.Close()
			return nil, errPoolClosed
		}
		l.open[c] = true
		return c, nil
	}
}

// close ends what is under way and waits for it.
func (l *lines) close() {
	l.mu.Lock()
	l.closed = true
	open := l.open
	l.open = map[net.Conn]bool{}
	l.mu.Unlock()
	l.cancel()
	for c := range open {
		c.Close()
	}
	l.tasks.Wait()
}

// line is one connection.
type line struct {
	net.Conn
	lines *lines
}

// Close forgets it.
func (c *line) Close() error {
	c.lines.mu.Lock()
	delete(c.lines.open, c)
	c.lines.mu.Unlock()
	return c.Conn.Close()
}
