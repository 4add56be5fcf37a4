package sip

import "time"

// fading is a queue of what ends after a wait that is the same for all, so that
// one timer serves it. Timers of its own would be the larger part of a trace or
// a relic. The lock of the table that it belongs to guards it.
type fading struct {
	queue []fade // from head on, the oldest first
	head  int
	timer *time.Timer
}

type fade struct {
	key txKey
	at  time.Time
}

// add queues a key; run is called when the first in the queue is due, and is to
// call due with the table locked.
func (q *fading) add(key txKey, wait time.Duration, run func()) {
	q.queue = append(q.queue, fade{key, time.Now().Add(wait)})
	if q.timer == nil {
		q.timer = time.AfterFunc(wait, run)
	}
}

// due ends what is due, and sets the timer for the next.
func (q *fading) due(end func(txKey)) {
	now := time.Now()
	for ; q.head < len(q.queue) && !now.Before(q.queue[q.head].at); q.head++ {
		end(q.queue[q.head].key)
	}
	if q.head == len(q.queue) {
		*q = fading{}
		return
	}
	if q.head > len(q.queue)/2 {
		q.queue = append([]fade(nil), q.queue[q.head:]...)
		q.head = 0
	}
	q.timer.Reset(time.Until(q.queue[q.head].at))
}
