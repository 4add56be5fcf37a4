package push

import (
	"math/rand/v2"
	"time"
)

// warm starts keeping warmConns connections open, from now until close.
func (p *connPool) warm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keeping || p.closed {
		return
	}
	p.keeping = true
	p.tasks.Go(p.keepWarm)
}

func (p *connPool) keepWarm() {
	wait, failed := redialFirst, 0
	lost := bucket{every: replaceEvery, burst: replaceBurst}
	for {
		made, err := p.complete(&lost)
		pause := time.Duration(0)
		switch {
		case p.ctx.Err() != nil:
			return
		case err != nil:
			if failed++; failed%logEvery == 1 {
				p.log.Warn("no connection to the push service", "host", p.addr, "err", err, "failed", failed)
			}
			pause = wait + rand.N(wait/4)
			wait = min(2*wait, redialMost)
		case !made:
			pause = replaceEvery
		default:
			if failed > 0 {
				p.log.Info("connected to the push service again", "host", p.addr, "failed", failed)
			}
			wait, failed = redialFirst, 0
		}
		if !p.await(pause) {
			return
		}
	}
}

// complete makes the connections that are missing or too old; made is false
// when some still are, because too many were lost lately. An old one takes
// requests until there is another.
func (p *connPool) complete(lost *bucket) (made bool, err error) {
	for {
		p.mu.Lock()
		p.sweep()
		if p.young(time.Now()) >= warmConns {
			p.retireAged(time.Now())
			p.mu.Unlock()
			return true, nil
		}
		if !lost.take(time.Now()) {
			p.mu.Unlock()
			return false, nil
		}
		d := p.dialLocked()
		p.mu.Unlock()
		if <-d.done; d.err != nil {
			return false, d.err
		}
	}
}

// young counts the connections that need not be replaced. The mutex is held.
func (p *connPool) young(now time.Time) (n int) {
	for _, c := range p.conns {
		if now.Before(c.until) {
			n++
		}
	}
	return n
}

// retireAged takes the old connections out of use; requests on them may
// finish. The mutex is held.
func (p *connPool) retireAged(now time.Time) {
	for _, c := range p.conns {
		if !now.Before(c.until) {
			c.retired = true
		}
	}
	p.sweep()
}

// nextAged is how long until a connection is too old; an hour without any.
func (p *connPool) nextAged() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := connAge + connAgeMore
	for _, c := range p.conns {
		next = min(next, time.Until(c.until))
	}
	return max(next, 0)
}

// await waits for the pause, or without one for a change or for a connection
// to grow old; false at the end. During a pause changes wait too: that is what
// the pause is for.
func (p *connPool) await(pause time.Duration) bool {
	kick := p.kick
	if pause > 0 {
		kick = nil
	} else {
		pause = p.nextAged()
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-kick:
	case <-p.ctx.Done():
		return false
	}
	return true
}

// bucket leaks: it lets burst through at once, and one each every.
type bucket struct {
	every time.Duration
	burst float64
	level float64
	at    time.Time
}

func (b *bucket) take(now time.Time) bool {
	b.level = max(0, b.level-float64(now.Sub(b.at))/float64(b.every))
	b.at = now
	if b.level+1 > b.burst {
		return false
	}
	b.level++
	return true
}
