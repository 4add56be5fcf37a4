package push

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"
)

// Bounds of the memory of accepted pushes. Five minutes outlive waking,
// ringing and the tombstone of a call; 131072 entries are the accepted pushes
// of two minutes at 1000 calls/s, in some 60 MB (480 bytes each, by benchmark).
const (
	dedupeFor  = 5 * time.Minute
	dedupeMost = 1 << 17
)

// dedupeKey is a hash of call and device: a fixed size, whatever they hold.
type dedupeKey [16]byte

func keyOf(uuid, device string) (k dedupeKey) {
	b := make([]byte, 0, 128)
	b = binary.BigEndian.AppendUint32(b, uint32(len(uuid)))
	b = append(append(b, uuid...), device...)
	sum := sha256.Sum256(b)
	copy(k[:], sum[:])
	return k
}

// entry is one push, under way or accepted. out is valid once done is closed.
type entry struct {
	done chan struct{}
	out  Outcome
}

// dedupe remembers, for a while, the pushes that were accepted or may have
// been. Pushes under way are in it too; there are as many as callers wait.
type dedupe struct {
	keep time.Duration
	most int

	mu      sync.Mutex // guards the following
	entries map[dedupeKey]*entry
	order   []expiring // settled entries, the oldest first
}

type expiring struct {
	key dedupeKey
	at  time.Time
}

func newDedupe(keep time.Duration, most int) *dedupe {
	return &dedupe{keep: keep, most: most, entries: map[dedupeKey]*entry{}}
}

// claim makes the key ours to push, or gives the entry of the one who has it.
// Who claims must settle.
func (d *dedupe) claim(key dedupeKey, now time.Time) (e *entry, mine bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget(now)
	if e := d.entries[key]; e != nil {
		return e, false
	}
	e = &entry{done: make(chan struct{})}
	d.entries[key] = e
	return e, true
}

// settle ends a claim with its outcome. Only a push that was accepted, or may
// have been, is remembered.
func (d *dedupe) settle(key dedupeKey, e *entry, out Outcome, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e.out = out
	close(e.done)
	if out.Verdict != Sent && !out.Uncertain {
		delete(d.entries, key)
		return
	}
	d.order = append(d.order, expiring{key, now.Add(d.keep)})
	d.forget(now)
}

// forget drops what is too old, and the oldest beyond the bound.
func (d *dedupe) forget(now time.Time) {
	n := 0
	for n < len(d.order) && (len(d.order)-n > d.most || !now.Before(d.order[n].at)) {
		delete(d.entries, d.order[n].key)
		n++
	}
	d.order = d.order[n:] // append moves it to a new array when it runs out of room
}
