package rtp

import "time"

// available is the number of pairs that could be taken now.
func (p *ports) available() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wake(time.Now())
	return len(p.free)
}
