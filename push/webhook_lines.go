package push

import (
	"context"
	"net"
	"sync"
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
		return dial(ctx, network, addr)
	}
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
