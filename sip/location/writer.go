package location

import "context"

// writer is the one goroutine that writes to the store. Whatever is queued
// while a write is under way goes into the next one: a REGISTER alone costs
// one write and no delay, a thousand at once cost a few.
type writer struct {
	l     *Service
	store Store
	kick  chan struct{} // capacity 1: something is queued

	queued Batch  // guarded by l.mu
	next   *flush // guarded by l.mu: what becomes of queued
}

// flush is the fate of one write.
type flush struct {
	done chan struct{}
	err  error // valid once done is closed
}

func newWriter(l *Service, s Store) *writer {
	return &writer{
		l: l, store: s,
		kick:   make(chan struct{}, 1),
		queued: newBatch(),
		next:   &flush{done: make(chan struct{})},
	}
}

// wait blocks until the write is durable or has failed. A nil flush is durable.
func (f *flush) wait(ctx context.Context) error {
	if f == nil {
		return nil
	}
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// failed reports whether the write is over and was in vain.
func (f *flush) failed() bool {
	if f == nil {
		return false
	}
	select {
	case <-f.done:
		return f.err != nil
	default:
		return false
	}
}

// The five below queue a change; l.mu is held, so that the order in the store
// is the order in memory.

func (w *writer) putDevice(d Device) *flush {
	w.queued.Devices[d.key()] = &d
	return w.signal()
}

// alongDevice queues a change that the next write takes along, whosever it is.
func (w *writer) alongDevice(d Device) { w.queued.Devices[d.key()] = &d }

func (w *writer) dropDevice(k DeviceKey) *flush {
	w.queued.Devices[k] = nil
	return w.signal()
}

func (w *writer) putTombstone(t Tombstone) *flush {
	w.queued.Tombstones[t.Key()] = &t
	return w.signal()
}

func (w *writer) dropTombstone(k TombstoneKey) *flush {
	w.queued.Tombstones[k] = nil
	return w.signal()
}

func (w *writer) signal() *flush {
	select {
	case w.kick <- struct{}{}:
	default:
	}
	return w.next
}

// run writes until the Service closes, and then once more.
func (w *writer) run() {
	for {
		select {
		case <-w.kick:
			w.write()
		case <-w.l.done:
			w.write()
			return
		}
	}
}

// write stores what is queued. What could not be stored stays queued for the
// next write, so that a disk that was full for a while loses nothing.
func (w *writer) write() {
	w.l.mu.Lock()
	batch, f := w.queued, w.next
	w.queued, w.next = newBatch(), &flush{done: make(chan struct{})}
	w.l.mu.Unlock()
	if !batch.empty() {
		f.err = w.store.Apply(batch)
	}
	if f.err != nil {
		w.l.log.Error("location: state not written", "err", f.err)
		w.l.mu.Lock()
		w.queued.under(batch)
		w.l.mu.Unlock()
	}
	close(f.done)
}

func (w *writer) close() error { return w.store.Close() }
