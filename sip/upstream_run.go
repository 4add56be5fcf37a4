package sip

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"time"
)

const (
	// upstreamRate is how many registrations a second begin at one PBX: 10,000
	// take 200 s. A registrar with digest does some thousands.
	upstreamRate = 50
	// upstreamFlying is how many REGISTERs may wait for their answer at a time:
	// a PBX that dies without a word costs that many, not one for each extension.
	upstreamFlying = 50
	// upstreamLeave bounds the end of the process; what is not unregistered by
	// then expires.
	upstreamLeave = 10 * time.Second
	// upstreamRejected is the longest wait after a login was refused.
	upstreamRejected = time.Hour
	// slotLate is how late the goroutine may be without losing its turns; more
	// would be a burst.
	slotLate = 20 * time.Millisecond
	longAway = 24 * time.Hour
)

// outage is what all registrations at a PBX share when it does not answer: one
// of them asks for it, the others wait.
type outage struct {
	down     bool
	probing  bool // the one is under way
	back     bool // the PBX is said to be back meanwhile: it may have come too late for the one
	failures int
	until    time.Time
	problem  string
}

// run makes the registrations until ctx ends; then it removes them.
func (u *upstreams) run(ctx context.Context) {
	timer := time.NewTimer(longAway)
	defer timer.Stop()
	for {
		timer.Reset(u.work(ctx))
		u.report()
		select {
		case <-ctx.Done():
			u.leave(ctx)
			return
		case <-u.wake:
		case <-timer.C:
		}
	}
}

// work begins all attempts that may begin now, and gives the time until there
// may be more.
func (u *upstreams) work(ctx context.Context) time.Duration {
	for ctx.Err() == nil {
		a, wait := u.next(time.Now())
		if a == nil {
			return wait
		}
		u.send(ctx, a)
	}
	return 0
}

// report brings an outage, or its end, into the trunk's state.
func (u *upstreams) report() {
	u.mu.Lock()
	o, heard := u.outage, u.heard
	u.mu.Unlock()
	if heard || o.down {
		u.trunk.upstreamState(o)
	}
}

// next is the attempt that may begin now, or how long to wait for one. What is
// under way already goes first: a challenge wants its answer.
func (u *upstreams) next(now time.Time) (*attempt, time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if n := len(u.answering); n > 0 {
		a := u.answering[n-1]
		u.answering = u.answering[:n-1]
		return a, 0
	}
	rate := u.rate()
	switch {
	case len(u.due) == 0, u.outage.probing, u.flying >= max(upstreamFlying, rate):
		return nil, longAway // until something happens
	case u.due[0].due.After(now):
		return nil, u.due[0].due.Sub(now)
	case u.outage.down && u.outage.until.After(now):
		return nil, u.outage.until.Sub(now)
	case u.slot.After(now):
		return nil, u.slot.Sub(now)
	}
	e := u.due[0]
	u.due.remove(e)
	u.flying++
	u.outage.probing = u.outage.down
	if late := now.Add(-slotLate); u.slot.Before(late) {
		u.slot = late
	}
	u.slot = u.slot.Add(time.Second / time.Duration(rate))
	return u.newAttempt(e), 0
}

// rate is how many registrations may begin in a second: as many as the
// refreshes need with a quarter to spare, and not less than usual. The
// caller holds u.mu.
func (u *upstreams) rate() int {
	if u.ending > 0 { // 8 s for all leave 2 s for the answers
		return max(u.least, u.ending/8)
	}
	if u.granted == 0 {
		return u.least
	}
	refreshes := float64(len(u.byToken)) / (0.8 * u.granted.Seconds())
	return max(u.least, int(1.25*refreshes))
}

// reschedule has an entry tried at that time. The caller holds u.mu.
func (u *upstreams) reschedule(e *upstream, at time.Time) {
	if e.index == underWay {
		e.changed = true // it is looked at when it is back
		return
	}
	e.due = at
	if e.index < 0 {
		heap.Push(&u.due, e)
	} else {
		heap.Fix(&u.due, e.index)
	}
}

// Indices of an entry that is not in the heap.
const (
	nowhere  = -1
	underWay = -2
)

// refreshIn is 80 % of what was granted, give or take a tenth of it, so that
// registrations that were made together drift apart.
func refreshIn(granted time.Duration) time.Duration {
	return granted*7/10 + time.Duration(rand.Int64N(int64(granted)/5+1))
}

// rejectedBackoff is the wait of one account that the PBX does not take: a
// minute, doubling to an hour; faster would look like an attack.
func rejectedBackoff(failures uint32, after time.Duration) time.Duration {
	d := min(backoffRejected<<min(failures, 6), upstreamRejected)
	return jitter(max(d, min(after, upstreamRejected)))
}

// lost: a connection has ended. If the registrations went by it the PBX may
// have restarted and forgotten them: they are made again, spread over the time
// that the rate asks for.
func (u *upstreams) lost(f *flow) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.flow != f || u.ending > 0 {
		return
	}
	u.flow = nil
	u.renew()
}

// again: the PBX is back, or our own address has changed: no registration is
// to be trusted.
func (u *upstreams) again() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ending > 0 {
		return
	}
	if now := time.Now(); u.outage.until.After(now) {
		u.outage.until = now.Add(jitter(time.Second))
	}
	u.outage.back = u.outage.probing
	u.renew()
}

// renew makes all registrations that are in force again. The caller holds u.mu.
func (u *upstreams) renew() {
	now := time.Now()
	over := time.Duration(len(u.byToken)) * time.Second / time.Duration(u.rate())
	for _, e := range u.byToken {
		at := now.Add(jitter(backoffFirst) + time.Duration(rand.Int64N(int64(over)+1)))
		if e.expires.After(now) && e.due.After(at) {
			u.reschedule(e, at)
		}
	}
	u.rouse()
}

// leave removes all registrations at the end of the process (RFC 3261
// §10.2.2), in upstreamLeave at most. At a PBX that does not answer they are
// left to expire.
func (u *upstreams) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), upstreamLeave)
	defer cancel()
	if !u.dismissAll() {
		return
	}
	timer := time.NewTimer(longAway)
	defer timer.Stop()
	for u.left() {
		timer.Reset(u.work(ctx))
		select {
		case <-ctx.Done():
			u.trunk.log.Info("not all extensions were unregistered in time; their registrations will expire")
			return
		case <-u.wake:
		case <-timer.C:
		}
	}
}

// dismissAll has everything removed; false if there is nobody to tell.
func (u *upstreams) dismissAll() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ending = max(1, len(u.byToken))
	now := time.Now()
	for _, e := range u.byExtension {
		u.dismiss(e, now)
	}
	u.slot = now
	return !u.outage.down
}

// left: something is still registered, and the PBX answers.
func (u *upstreams) left() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return !u.outage.down && len(u.due)+u.flying > 0
}

// dueHeap orders the registrations that wait by their time.
type dueHeap []*upstream

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (h dueHeap) Len() int { return len(h) }

// Less orders by the time that is due.
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }

// Swap keeps the indices.
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push adds an entry at the end.
func (h *dueHeap) Push(x any) {
	e := x.(*upstream)
	e.index = len(*h)
	*h = append(*h, e)
}

// Pop takes the last entry.
func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	e.index = nowhere
	return e
}

// remove takes an entry out, wherever it is.
func (h *dueHeap) remove(e *upstream) {
	if e.index >= 0 {
		heap.Remove(h, e.index)
	}
}
