package sip

import (
	"strings"
	"time"
)

// timerT4 is how long a message stays in the network (RFC 3261 §17.1.2.2).
const timerT4 = 5 * time.Second

// maxTraces bounds what is kept of answered requests. At about 200 bytes each,
// and 600 with an answer, it is 240 MB; above it the newest are not kept, and a
// retransmission counts as a new request.
const maxTraces = 4 * maxTransactions

// trace is what is left of an answered request until no retransmission of it
// can come any more.
type trace struct {
	toTag    string // of an INVITE, for its CANCEL
	mergeKey txKey
	final    int
	again    []byte // the answer to repeat; nil: retransmissions are absorbed
	f        *flow  // that it goes to; nil without an answer
}

// traces are the traces of all transactions.
type traces struct {
	byKey  map[txKey]trace
	long   fading // Timers J and L: 64*T1
	short  fading // Timer I: T4
	client fading // Timers D and M of our INVITEs: 64*T1
}

// retire exchanges a transaction for its trace.
func (t *transactions) retire(s *serverTx, again []byte, wait time.Duration) {
	tr := trace{mergeKey: s.mergeKey, final: s.final, again: again}
	if again != nil {
		tr.f = s.f
	} else { // of an INVITE; a copy, as it may be part of the whole message
		tr.toTag = strings.Clone(s.toTag)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shut || t.server[s.key] != s {
		return
	}
	delete(t.server, s.key)
	t.detach(s.f, s)
	if len(t.traces.byKey) >= maxTraces {
		t.unmerge(s.mergeKey, s.key)
		return
	}
	t.traces.byKey[s.key] = tr
	if wait == timerT4 {
		t.fadeLater(&t.traces.short, s.key, wait)
	} else {
		t.fadeLater(&t.traces.long, s.key, wait)
	}
}

// fadeLater queues a key. The caller holds t.mu.
func (t *transactions) fadeLater(q *fading, key txKey, wait time.Duration) {
	q.add(key, wait, func() { t.fade(q) })
}

// fade ends what is due.
func (t *transactions) fade(q *fading) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shut {
		*q = fading{}
		return
	}
	q.due(func(key txKey) { t.end(q, key) })
}

func (t *transactions) end(q *fading, key txKey) {
	if q == &t.traces.client {
		if c := t.client[key]; c != nil {
			delete(t.client, key)
			t.detach(c.f, c)
		}
		return
	}
	t.unmerge(t.traces.byKey[key].mergeKey, key)
	delete(t.traces.byKey, key)
}

// retireClient ends an answered INVITE of ours when no repeated answer can come
// any more.
func (t *transactions) retireClient(c *clientTx) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.shut && t.client[c.key] == c {
		t.fadeLater(&t.traces.client, c.key, timer64T1)
	}
}

// trace finds what is left of an answered request.
func (t *transactions) trace(key txKey) (trace, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tr, ok := t.traces.byKey[key]
	return tr, ok
}

// challenged reports whether a transaction has been answered 401 or 407. The
// caller holds t.mu.
func (t *transactions) challenged(key txKey) bool {
	if s := t.server[key]; s != nil {
		return s.challenged()
	}
	final := t.traces.byKey[key].final
	return final == 401 || final == 407
}

// unmerge forgets the way to a transaction by its merge key. The caller holds t.mu.
func (t *transactions) unmerge(merge, key txKey) {
	if t.merged[merge] == key {
		delete(t.merged, merge)
	}
}
