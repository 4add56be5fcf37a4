package pushtest

import "sync"

// queueMost: pushes kept for a reader that does not read.
const queueMost = 1 << 16

// queue hands pushes to a reader in order, without making the service wait.
type queue struct {
	out   chan Push
	more  chan struct{}
	stop  chan struct{}
	tasks sync.WaitGroup

	mu    sync.Mutex // guards the following
	items []Push
}

func newQueue() *queue {
	q := &queue{out: make(chan Push), more: make(chan struct{}, 1), stop: make(chan struct{})}
	q.tasks.Go(q.run)
	return q
}

func (q *queue) put(p Push) {
	q.mu.Lock()
	if len(q.items) < queueMost {
		q.items = append(q.items, p)
	}
	q.mu.Unlock()
	select {
	case q.more <- struct{}{}:
	default:
	}
}

func (q *queue) run() {
	defer close(q.out)
	for {
		q.mu.Lock()
		items := q.items
		q.items = nil
		q.mu.Unlock()
		for _, p := range items {
			select {
			case q.out <- p:
			case <-q.stop:
				return
			}
		}
		if len(items) > 0 {
			continue
		}
		select {
		case <-q.more:
		case <-q.stop:
			return
		}
	}
}

func (q *queue) close() {
	close(q.stop)
	q.tasks.Wait()
}
