package location

import (
	"context"
	"slices"
)

// watcher is one Watch. Its queue holds at most one entry per binding key, so
// a slow reader costs memory for the AOR's bindings, not for its REGISTERs.
type watcher struct {
	out  chan Binding
	wake chan struct{} // capacity 1: the queue has changed

	queue []*record // guarded by Service.mu
}

// push queues a binding in place of an older one with its key. Service.mu is held.
func (w *watcher) push(r *record) {
	if i := w.find(r); i >= 0 {
		w.queue[i] = r
	} else {
		w.queue = append(w.queue, r)
	}
	w.signal()
}

// drop forgets a binding that is no more. Service.mu is held.
func (w *watcher) drop(r *record) {
	if i := w.find(r); i >= 0 {
		w.queue = slices.Delete(w.queue, i, i+1)
		w.signal()
	}
}

func (w *watcher) find(r *record) int {
	return slices.IndexFunc(w.queue, func(q *record) bool { return q.key == r.key && q.AOR == r.AOR })
}

func (w *watcher) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// feed hands the queue to the reader until ctx or the Service ends.
func (l *Service) feed(ctx context.Context, a *account, w *watcher) {
	defer close(w.out)
	defer l.unwatch(a, w)
	for {
		out, r := l.head(w)
		var b Binding
		if r != nil {
			b = r.Binding
		}
		select {
		case out <- b: // blocks for ever while out is nil
			l.taken(w, r)
		case <-w.wake: // the head may have been replaced: look again
		case <-ctx.Done():
			return
		case <-l.done:
			return
		}
	}
}

// head returns the oldest queued binding and where to send it, or nils.
func (l *Service) head(w *watcher) (chan<- Binding, *record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(w.queue) == 0 {
		return nil, nil
	}
	return w.out, w.queue[0]
}

// taken removes a binding that the reader has, unless a newer one took its place.
func (l *Service) taken(w *watcher, r *record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(w.queue, r); i >= 0 {
		w.queue = slices.Delete(w.queue, i, i+1)
	}
}

func (l *Service) unwatch(a *account, w *watcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(a.watchers, w)
	l.prune(a)
}
