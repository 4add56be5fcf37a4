package location

import (
	"context"
	"iter"
)

// Watcher hears of an AOR's bindings, or of all. It has no goroutine and no
// buffer but the bindings themselves: its queue holds at most one entry per
// binding key, so a slow reader costs memory for bindings, not for REGISTERs,
// and no REGISTER ever waits for a reader.
type Watcher struct {
	l     *Service
	a     *account      // nil: all of them
	ready chan struct{} // capacity 1: the queue has changed

	// Guarded by Service.mu: what waits for the reader, and in which order. A
	// nil record is one that went away in the queue.
	order  []watchKey
	queued map[watchKey]*record
}

type watchKey struct{ aor, key string }

func (r *record) watchKey() watchKey { return watchKey{r.AOR, r.key} }

// Watch gives the AOR's visible bindings, and then each one that is registered
// or refreshed, as its REGISTER's 200 leaves. A binding that is replaced
// before it was read is given once, as the newest; none is lost. Close ends it.
func (l *Service) Watch(aor string) *Watcher {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(aor)
	w := &Watcher{l: l, a: a, ready: make(chan struct{}, 1)}
	a.watchers[w] = struct{}{}
	w.present(a)
	return w
}

// WatchAll is Watch for the bindings of every AOR.
func (l *Service) WatchAll() *Watcher {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &Watcher{l: l, ready: make(chan struct{}, 1)}
	l.everyone[w] = struct{}{}
	for _, a := range l.accounts {
		w.present(a)
	}
	return w
}

// Ready receives when Next may have something. Read with Next until it has not.
func (w *Watcher) Ready() <-chan struct{} { return w.ready }

// Next takes the oldest binding off the queue; false if there is none.
func (w *Watcher) Next() (Binding, bool) {
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	for len(w.order) > 0 {
		key := w.order[0]
		w.order = w.order[1:]
		r := w.queued[key]
		delete(w.queued, key)
		if r != nil {
			return r.Binding, true
		}
	}
	return Binding{}, false
}

// Close ends the watch; what is queued may still be read.
func (w *Watcher) Close() {
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	if w.a == nil {
		delete(w.l.everyone, w)
		return
	}
	delete(w.a.watchers, w)
	w.l.prune(w.a)
}

// All yields bindings until ctx or the Service ends, and closes the watch.
func (w *Watcher) All(ctx context.Context) iter.Seq[Binding] {
	return func(yield func(Binding) bool) {
		defer w.Close()
		for {
			for b, ok := w.Next(); ok; b, ok = w.Next() {
				if !yield(b) {
					return
				}
			}
			select {
			case <-w.ready:
			case <-ctx.Done():
				return
			case <-w.l.done:
				return
			}
		}
	}
}

// watching is every watcher of an account. mu is held.
func (l *Service) watching(a *account) iter.Seq[*Watcher] {
	return func(yield func(*Watcher) bool) {
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
func (w *Watcher) present(a *account) {
	for _, r := range a.sorted(func(r *record) bool { return r.visible }) {
		w.push(r)
	}
}

// push queues a binding in place of an older one with its key. Service.mu is held.
func (w *Watcher) push(r *record) {
	key := r.watchKey()
	if w.queued == nil {
		w.queued = map[watchKey]*record{}
	}
	if _, in := w.queued[key]; !in {
		w.order = append(w.order, key)
	}
	w.queued[key] = r
	w.signal()
}

// drop forgets a binding that is no more. Service.mu is held.
func (w *Watcher) drop(r *record) {
	if key := r.watchKey(); w.queued[key] == r {
		w.queued[key] = nil
		w.signal()
	}
}

func (w *Watcher) signal() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}
