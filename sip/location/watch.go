package location

import (
	"context"
	"iter"
)

// watcher is one Watch. Its queue holds at most one entry per binding key, so
// a slow reader costs memory for bindings, not for REGISTERs.
type watcher struct {
	out  chan Binding
	wake chan struct{} // capacity 1: the queue has changed

	// Guarded by Service.mu: what waits for the reader, and in which order. A
	// nil record is one that went away in the queue.
	order  []watchKey
	queued map[watchKey]*record
}

type watchKey struct{ aor, key string }

func (r *record) watchKey() watchKey { return watchKey{r.AOR, r.key} }

// Watch yields the AOR's visible bindings, and then each one that is
// registered or refreshed, as its REGISTER's 200 leaves. A binding that is
// replaced before it was read is yielded once, as the newest; none is lost and
// no REGISTER ever waits for a reader. The channel is closed when ctx ends or
// the Service is closed.
func (l *Service) Watch(ctx context.Context, aor string) <-chan Binding {
	w := newWatcher()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		close(w.out)
		return w.out
	}
	a := l.account(aor)
	a.watchers[w] = struct{}{}
	w.present(a)
	l.children.Go(func() {
		defer close(w.out)
		l.feed(ctx, w)
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(a.watchers, w)
		l.prune(a)
	})
	return w.out
}

// WatchAll is Watch for the bindings of every AOR.
func (l *Service) WatchAll(ctx context.Context) <-chan Binding {
	w := newWatcher()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		close(w.out)
		return w.out
	}
	l.everyone[w] = struct{}{}
	for _, a := range l.accounts {
		w.present(a)
	}
	l.children.Go(func() {
		defer close(w.out)
		l.feed(ctx, w)
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.everyone, w)
	})
	return w.out
}

func newWatcher() *watcher {
	return &watcher{out: make(chan Binding), wake: make(chan struct{}, 1), queued: map[watchKey]*record{}}
}

// watching is every watcher of an account. mu is held.
func (l *Service) watching(a *account) iter.Seq[*watcher] {
	return func(yield func(*watcher) bool) {
		for w := range a.watchers {
			if !yield(w) {
				return
			}
		}
		for w := range l.everyone {
			if !yield(w) {
				return
			}
		}
	}
}

// present queues what is visible now. Service.mu is held.
func (w *watcher) present(a *account) {
	for _, r := range a.sorted(func(r *record) bool { return r.visible }) {
		w.push(r)
	}
}

// push queues a binding in place of an older one with its key. Service.mu is held.
func (w *watcher) push(r *record) {
	key := r.watchKey()
	if _, in := w.queued[key]; !in {
		w.order = append(w.order, key)
	}
	w.queued[key] = r
	w.signal()
}

// drop forgets a binding that is no more. Service.mu is held.
func (w *watcher) drop(r *record) {
	if key := r.watchKey(); w.queued[key] == r {
		w.queued[key] = nil
		w.signal()
	}
}

func (w *watcher) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// feed hands the queue to the reader until ctx or the Service ends.
func (l *Service) feed(ctx context.Context, w *watcher) {
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
	for len(w.order) > 0 {
		if r := w.queued[w.order[0]]; r != nil {
			return w.out, r
		}
		w.shift()
	}
	return nil, nil
}

// taken removes a binding that the reader has, unless a newer one took its
// place. Only feed shifts, so it is still the head.
func (l *Service) taken(w *watcher, r *record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.queued[r.watchKey()] == r {
		w.shift()
	}
}

func (w *watcher) shift() {
	delete(w.queued, w.order[0])
	w.order = w.order[1:]
}
