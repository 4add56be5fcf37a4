package location

import (
	"container/heap"
	"time"
)

// alarm is one thing that expires. fire runs with Service.mu held.
type alarm struct {
	at    time.Time
	fire  func()
	index int // place in the heap plus one; 0: not in it
}

// alarms is a heap with the earliest alarm first: one timer serves all.
type alarms []*alarm

func (h alarms) Len() int           { return len(h) }
func (h alarms) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h alarms) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i+1, j+1
}

// Push implements heap.Interface.
func (h *alarms) Push(x any) {
	a := x.(*alarm)
	a.index = len(*h) + 1
	*h = append(*h, a)
}

// Pop implements heap.Interface.
func (h *alarms) Pop() any {
	last := len(*h) - 1
	a := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	a.index = 0
	return a
}

// schedule sets the alarm, or moves it. mu is held.
func (l *Service) schedule(a *alarm, at time.Time) {
	a.at = at
	if a.index > 0 {
		heap.Fix(&l.alarms, a.index-1)
	} else {
		heap.Push(&l.alarms, a)
	}
	l.rearm()
}

// unschedule takes the alarm out. The timer may then ring for nothing. mu is held.
func (l *Service) unschedule(a *alarm) {
	if a.index > 0 {
		heap.Remove(&l.alarms, a.index-1)
	}
}

// rearm points the timer at the earliest alarm. mu is held.
func (l *Service) rearm() {
	if len(l.alarms) == 0 || l.closed {
		return
	}
	at := l.alarms[0].at
	if at.Equal(l.rings) {
		return
	}
	l.rings = at
	if l.timer == nil {
		l.timer = time.AfterFunc(time.Until(at), l.expire)
		return
	}
	l.timer.Reset(time.Until(at))
}

// expire fires what is due.
func (l *Service) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.rings = time.Time{}
	now := time.Now()
	for len(l.alarms) > 0 && !l.alarms[0].at.After(now) {
		heap.Pop(&l.alarms).(*alarm).fire()
	}
	l.rearm()
}
